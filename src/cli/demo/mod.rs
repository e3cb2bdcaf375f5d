//! `wellspring demo`: a throw-away system around the agent, and a consumer that checks the agent.
//!
//! The demo starts a Postgres server with a small shop, an embedded broker, a built-in registry,
//! and the agent with an ordinary configuration. Every few seconds, and at the end, the shop
//! pauses, and the tables that the consumer has rebuilt are compared with the source. The exit
//! status is 0 only if they were equal each time.

mod decode;
mod reader;
mod screen;
mod shop;
mod tables;

use super::{Code, Failure, block_on, logging};
use crate::admin;
use crate::agent::{Agent, Exit};
use crate::config::{self, Log, LogFormat};
use crate::metrics::Metrics;
use crate::peers::broker::Broker;
use crate::peers::registry::Registry;
use crate::peers::server::{Server, ServerError};
use crate::status::{Phase, Status};
use reader::{Peers, Reader};
use screen::{Screen, say};
use shop::Shop;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tables::Difference;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Environment variable for the length of the demo in seconds. Without it the demo runs until
/// Ctrl-C.
const SECONDS_VARIABLE: &str = "DEMO_SECONDS";

/// Partitions of each topic of events. There are several, so that records of one key in different
/// partitions can show as a difference.
const PARTITIONS: i32 = 3;

/// Prefix of the topic names.
const PREFIX: &str = "shop";

/// Time between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// Longest wait for the agent to stream, and for the topics to catch up. It is several times what a
/// busy machine needs with a development build.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo until its end or a signal.
///
/// # Errors
/// Postgres is missing, or one of the parts failed. Everything has been cleaned up by then.
pub(super) fn run() -> Result<Code, Failure> {
    let length = length(std::env::var(SECONDS_VARIABLE).ok().as_deref())?;
    logging::start(Log {
        format: LogFormat::Text,
        level: tracing::Level::WARN,
        notifications: false,
    });
    block_on(async {
        let (ask_to_stop, stop) = watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
        let signals = async {
            for is_first in [true, false] {
                tokio::select! {
                    biased; // both signals mean the same
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if is_first {
                    say("stopping; once more ends without a comparison");
                    let _ = ask_to_stop.send(true); // the demo may be over already
                }
            }
        };
        tokio::select! {
            biased; // 1. the second signal; 2. everything else
            () = signals => Err(Failure {
                code: Code::Failed,
                primary: "ended without a comparison".to_owned(),
                details: Vec::new(),
                hint: String::new(),
            }),
            // If the second signal comes before this ends, the demo is dropped with all its parts.
            ended = demo(length, stop) => ended,
        }
    })?
}

fn length(given: Option<&str>) -> Result<Option<Duration>, Failure> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<u32>().map_err(|_| Failure {
        code: Code::Config,
        primary: format!("{SECONDS_VARIABLE} is not a whole number of seconds"),
        details: Vec::new(),
        hint: format!("{SECONDS_VARIABLE}=20 wellspring demo"),
    })?;
    Ok(Some(Duration::from_secs(u64::from(seconds))))
}

async fn demo(length: Option<Duration>, stop: watch::Receiver<bool>) -> Result<Code, Failure> {
    let mut world = World::build().await?;
    world.streaming(stop.clone()).await?;
    world.shop.open().await.map_err(|error| failed(&error))?;
    let equal = world.watch(length, stop).await?;
    let exit = world.stop().await?;
    if exit != Exit::Stopped {
        return Err(Failure {
            code: exit.into(),
            ..broken("the agent did not stop cleanly; the reason is above")
        });
    }
    Ok(if equal { Code::Done } else { Code::Failed })
}

/// All parts, in the order in which they are dropped: each one before the parts that it uses.
struct World {
    reader: Reader,
    admin: admin::Server,
    agent: Option<Agent>,
    status: watch::Receiver<Status>,
    shop: Shop,
    checks: u64,
    _registry: Registry,
    _broker: Broker,
    _server: Server,
}

impl World {
    async fn build() -> Result<Self, Failure> {
        say("starting a throw-away Postgres, an embedded Kafka broker and a schema registry");
        let server = Server::start().map_err(|error| no_server(&error))?;
        let shop = Shop::build(server.socket()).await.map_err(|error| failed(&error))?;
        let broker = Broker::start(1, PARTITIONS).map_err(|error| failed(&error))?;
        let tables = shop::TABLES.iter().map(|(table, _)| format!("{PREFIX}.public.{table}"));
        let topics: Vec<(String, i32)> =
            tables.chain([format!("{PREFIX}.message")]).map(|topic| (topic, PARTITIONS)).collect();
        let state = (format!("{PREFIX}.wellspring-state"), 1);
        for (topic, partitions) in topics.iter().chain([&state]) {
            broker.create(topic, Some(*partitions)).map_err(|error| failed(&error))?;
        }
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let registry = Registry::start(loopback, "BACKWARD").map_err(|error| failed(&error))?;

        // The usual port is used if it is free, so that the README's URL works here as well.
        let listener =
            TcpListener::bind(("127.0.0.1", 9630)).or_else(|_| TcpListener::bind(loopback));
        let listener = listener.map_err(|error| failed(&error))?;
        let listen = listener.local_addr().map_err(|error| failed(&error))?;
        let text = configuration(
            &server.url(shop::DATABASE),
            &registry.url(),
            &broker.bootstrap(),
            listen,
        );
        say(&format!("{}. The configuration:\n\n{}", server.version(), indented(&text)));
        let loaded = config::check("the demo's configuration", &text, &config::Environment::new());
        let config::Loaded { checked, shown } = loaded.map_err(config::ConfigError::from)?;

        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let agent = Agent::start(checked.pipeline(true), metrics.clone())
            .map_err(|error| failed(&error))?;
        let status = agent.status();
        // Without a token the server refuses every action, so nobody can disturb the demo.
        let actions = admin::Actions {
            agent: agent.handle(),
            reload: tokio::sync::mpsc::channel(1).0,
            events: tokio::sync::mpsc::channel(1).0,
            token: None,
        };
        let admin = admin::Server::start(
            listener,
            checked.limits.ready_lag,
            metrics,
            status.clone(),
            watch::channel(shown.to_string()).1,
            actions,
        );
        let admin = admin.map_err(|error| failed(&error))?;
        let peers = Peers {
            brokers: broker.bootstrap(),
            registry: registry.url(),
            topics,
            status: status.clone(),
        };
        let reader = Reader::start(peers, Screen::new()).map_err(|error| failed(&error))?;
        let (_registry, _broker, _server) = (registry, broker, server);
        Ok(World {
            reader,
            admin,
            agent: Some(agent),
            status,
            shop,
            checks: 0,
            _registry,
            _broker,
            _server,
        })
    }

    /// Waits until changes flow, so that the rows written next are streamed and not copied.
    async fn streaming(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let mut status = self.status.clone();
        let streams = status.wait_for(|status| status.phase == Phase::Streaming);
        let began = tokio::select! {
            biased; // a stop comes first
            _ = stop.wait_for(|stop| *stop) => true,
            began = timeout(PATIENCE, streams) => matches!(began, Ok(Ok(_))),
        };
        if !began {
            return Err(self.told("the agent does not begin to stream"));
        }
        say(&format!(
            "\nStreaming. Status, metrics, health: http://{}/status\n",
            self.admin.address()
        ));
        Ok(())
    }

    /// Compares the tables every [`COMPARE_EVERY`] and once at the end. Returns true at the end, or
    /// false at the first difference. A part that fails is an error.
    async fn watch(
        &mut self,
        length: Option<Duration>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<bool, Failure> {
        let end = length.map(|length| Instant::now() + length);
        let mut next = Instant::now() + COMPARE_EVERY;
        loop {
            let is_end = tokio::select! {
                biased; // 1. failures; 2. the end; 3. the next comparison
                error = self.reader.failed() => return Err(failed(&error)),
                why = self.shop.failed() => return Err(broken(&format!(
                    "a writer of the shop failed: {why}"
                ))),
                _ = ended(&mut self.status) => return Err(self.told("the agent has ended")),
                _ = stop.wait_for(|stop| *stop) => true,
                () = tokio::time::sleep_until(end.unwrap_or(next).min(next)) => end.is_some_and(|end| end <= next),
            };
            if is_end {
                return self.compare(true).await;
            }
            if !self.compare(false).await? {
                return Ok(false);
            }
            next = Instant::now() + COMPARE_EVERY;
        }
    }

    /// Pauses the shop, waits until the topics have every change, compares, and prints the result.
    /// True if the tables are equal.
    async fn compare(&mut self, is_last: bool) -> Result<bool, Failure> {
        let held = self.shop.hold().await;
        self.checks += 1;
        let lsn = self.shop.mark(self.checks).await.map_err(|error| failed(&error))?;
        let source = self.shop.snapshot().await.map_err(|error| failed(&error))?;
        let mut status = self.status.clone();
        let delivered = status.wait_for(|status| status.lsn.delivered >= lsn);
        if !matches!(timeout(PATIENCE, delivered).await, Ok(Ok(_))) {
            return Err(self.told(&format!("the agent did not deliver what is before {lsn}")));
        }
        let answer = match timeout(PATIENCE, self.reader.compare(source)).await {
            Ok(answer) => answer.map_err(|error| failed(&error))?,
            Err(_) => return Err(broken("the consumer did not reach the ends of the topics")),
        };
        if is_last {
            // The writers must not continue. A forgotten permit is never returned.
            if let Some(permit) = held {
                permit.forget();
            }
        }
        let moment = if is_last { "at the end, " } else { "" };
        let (events, rows) = (answer.events, answer.rows);
        if answer.differences.is_empty() {
            say(&format!(
                "tables equal {moment}at {lsn}: {rows} rows in {} tables, {events} events",
                shop::TABLES.len()
            ));
        } else {
            say(&format!(
                "tables NOT EQUAL {moment}at {lsn}, after {events} events\n{}",
                listed(&answer.differences)
            ));
        }
        Ok(answer.differences.is_empty())
    }

    async fn stop(mut self) -> Result<Exit, Failure> {
        let Some(agent) = self.agent.take() else {
            return Err(broken("the agent has ended before"));
        };
        agent.stop();
        // The wait for the end of the agent's status has a time limit. Joining the thread has none.
        if timeout(PATIENCE, ended(&mut self.status)).await.is_err() {
            return Err(self.told("the agent does not stop"));
        }
        agent.join().map_err(|_| broken("the agent panicked; its message is above"))
    }

    /// Makes a failure of the demo from `what`, with the agent's phase and errors as details.
    fn told(&self, what: &str) -> Failure {
        let status = self.status.borrow();
        let errors =
            status.errors.iter().map(|error| format!("{}: {}", error.reason, error.message));
        let now = format!("the agent: {} {} {}", status.phase.name(), status.reason, status.detail);
        Failure { details: std::iter::once(now).chain(errors).collect(), ..broken(what) }
    }
}

/// The demo's configuration, as a user would write it. Keys with their default are left out.
fn configuration(url: &str, registry: &str, brokers: &str, listen: SocketAddr) -> String {
    format!(
        "postgres.url = \"{url}\"\n\
         tables.include = [\"public.*\"]\n\
         topics.prefix = \"{PREFIX}\"\n\
         events.identity_headers = true\n\
         registry.url = \"{registry}\"\n\
         kafka.brokers = [\"{brokers}\"]\n\
         admin.listen = \"{listen}\"\n"
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn listed(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Waits for the end of the agent's thread, which drops the sender of the status.
async fn ended(status: &mut watch::Receiver<Status>) {
    while status.changed().await.is_ok() {}
}

/// Makes the failure to report if the Postgres server does not start, with a hint if there is one.
fn no_server(error: &ServerError) -> Failure {
    let hint = match error {
        ServerError::NotInstalled => {
            "apt-get install postgresql, as root; the demo runs a server of its own and leaves \
             yours alone"
        }
        ServerError::NoUser => "run the demo as another user",
        ServerError::Folder { .. } => "set TMPDIR",
        ServerError::Call { .. } => "",
        ServerError::Refused { said, .. } => {
            let details = said.lines().map(str::to_owned).collect();
            return Failure { details, ..broken(&error.to_string()) };
        }
    };
    Failure::of(Code::Failed, error, hint)
}

fn failed(error: &dyn Error) -> Failure {
    Failure::of(Code::Failed, error, "")
}

fn broken(what: &str) -> Failure {
    Failure {
        code: Code::Failed,
        primary: what.to_owned(),
        details: Vec::new(),
        hint: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_whole_seconds_or_none() {
        assert_eq!(length(None), Ok(None));
        assert_eq!(length(Some("")), Ok(None));
        assert_eq!(length(Some("20")), Ok(Some(Duration::from_secs(20))));
        for bad in ["x", "-1", "1.5", "5s"] {
            assert_eq!(length(Some(bad)).unwrap_err().code, Code::Config, "{bad}");
        }
    }

    #[test]
    fn the_configuration_is_one_that_users_could_write() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9630));
        let text = configuration(
            "postgresql://postgres@%2Ftmp%2Fx:5433/shop",
            "http://127.0.0.1:1",
            "127.0.0.1:2",
            listen,
        );
        let loaded = config::check("demo", &text, &config::Environment::new()).unwrap();
        assert_eq!(loaded.checked.slot, "wellspring_shop");
        assert_eq!(loaded.checked.admin, Some(listen));
    }
}
