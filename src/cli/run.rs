//! `wellspring run`: starts the agent and its admin server, and handles signals and reloads.

use super::notify::Manager;
use super::{Code, Failure, block_on, load, logging, progress, tail, version};
use crate::admin;
use crate::agent::request::{Handle, Request};
use crate::agent::{Agent, Exit};
use crate::config::{Checked, Loaded};
use crate::continuity::{Answer, Granted, Refused, Reply};
use crate::metrics::Metrics;
use crate::plans::SinkConfig;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// The most requests for a reload that may wait to be received. While a reload runs, further
/// requests are received at once and refused as busy.
const RELOADS_WAITING_MAX: usize = 4;

/// Starts the agent, waits for its end, and returns the exit code of the program.
pub(super) fn run(file: Option<PathBuf>, exit_on_halt: bool) -> Result<Code, Failure> {
    let loaded = load(file.clone())?;
    let checked = &loaded.checked;
    logging::start(checked.log);
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let failed = |error: std::io::Error| Failure::of(Code::Failed, &error, "");
    let listener = checked.admin.map(listen).transpose()?;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose().map_err(failed)?;
    // These lines are logged first. Once the agent has started, it logs lines of its own.
    greet(checked, address);
    block_on(async {
        // The handlers are installed before the agent starts, so that no signal causes its default
        // action.
        let signals = Signals::new().map_err(failed)?;
        let agent =
            Agent::start(checked.pipeline(exit_on_halt), metrics.clone()).map_err(failed)?;
        let heartbeat = metrics.heartbeat.clone();
        let (reload, reloads) = mpsc::channel(RELOADS_WAITING_MAX);
        let token = checked.admin_token.clone().map(admin::token);
        let (told, heard) = watch::channel(loaded.clone());
        let events = tail::recent::start(heard, agent.status()).map_err(failed)?;
        let actions = admin::Actions { agent: agent.handle(), reload, events, token };
        let (shown, config) = watch::channel(loaded.shown.to_string());
        let serve = |listener| {
            admin::Server::start(
                listener,
                checked.limits.ready_lag,
                metrics,
                agent.status(),
                config,
                actions,
            )
        };
        let admin = listener.map(serve).transpose().map_err(failed)?;
        let manager = Manager::find(heartbeat);
        manager.ready();
        let current = Current { file, loaded: told, shown, exit_on_halt };
        let progress =
            std::io::stderr().is_terminal().then(|| tokio::spawn(progress::draw(agent.status())));
        let code = watch(agent, signals, current, reloads, manager).await;
        if let Some(progress) = progress {
            progress.abort();
        }
        drop(admin);
        Ok(code)
    })?
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| Failure {
        primary: format!("admin.listen: cannot listen on {address}"),
        details: vec![error.to_string()],
        ..Failure::of(Code::Config, &error, "choose another address, or admin.listen = \"off\"")
    })
}

/// Logs the configuration's main values in a few lines, once at start.
fn greet(checked: &Checked, admin: Option<SocketAddr>) {
    info!("{}", version());
    let hosts: Vec<String> = checked.postgres.hosts.iter().map(ToString::to_string).collect();
    info!(
        database = checked.postgres.database,
        hosts = hosts.join(","),
        slot = checked.slot,
        publication = checked.publication,
        "this agent reads from Postgres"
    );
    let prefix = &checked.encode.prefix;
    match &checked.sink {
        SinkConfig::Kafka(kafka) => {
            info!(
                brokers = kafka.brokers.join(","),
                prefix,
                format = ?checked.encode.format,
                "this agent writes to Kafka"
            )
        }
        SinkConfig::Stdout { state_file } => {
            info!(state = %state_file.display(), prefix, "this agent writes to standard output")
        }
    }
    match admin {
        Some(address) => info!("status, metrics and health: http://{address}/"),
        None => info!("no status page: admin.listen is \"off\""),
    }
    for warning in &checked.warnings {
        warn!("{warning}");
    }
}

/// Stop signals within this time count as one: `timeout` and some shells send a signal to the
/// process, and then to its whole process group.
const ONE_STOP: Duration = Duration::from_millis(500);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Sign {
    Ended,
    Stop(&'static str),
    Hangup,
    Tell,
    Reload(Reply),
    Reloaded(Box<Reloaded>),
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Handles signals and reloads until the agent ends or a second stop signal comes. Returns the exit
/// code of the program.
async fn watch(
    agent: Agent,
    mut signals: Signals,
    current: Current,
    mut reloads: mpsc::Receiver<Reply>,
    mut manager: Manager,
) -> Code {
    let mut tell = tokio::time::interval(manager.spacing());
    let mut reloading: Option<JoinHandle<Reloaded>> = None;
    let mut status = agent.status();
    let mut stopping_since: Option<Instant> = None;
    loop {
        let sign = tokio::select! {
            biased; // 1. the end, after which no signal matters; 2. a stop; 3. the rest
            ended = ended(&mut status) => ended,
            _ = signals.terminate.recv() => Sign::Stop("SIGTERM"),
            _ = signals.interrupt.recv() => Sign::Stop("SIGINT"),
            reloaded = joined(&mut reloading) => Sign::Reloaded(Box::new(reloaded)),
            _ = signals.hangup.recv() => Sign::Hangup,
            Some(reply) = reloads.recv() => Sign::Reload(reply),
            _ = tell.tick() => Sign::Tell,
        };
        match sign {
            Sign::Ended => break,
            Sign::Stop(_) if stopping_since.is_some_and(|since| since.elapsed() < ONE_STOP) => {}
            Sign::Stop(name) if stopping_since.is_some() => {
                warn!(
                    "{name} again: ending at once; the next start repeats what was not confirmed"
                );
                return Code::Repeats;
            }
            Sign::Stop(name) => {
                info!(
                    "{name}: stopping; what is sent is delivered and confirmed first. Once more \
                     ends at once"
                );
                stopping_since = Some(Instant::now());
                manager.stopping();
                agent.stop();
            }
            Sign::Tell => manager.tell(&status.borrow()),
            Sign::Hangup | Sign::Reload(_) if reloading.is_some() => {
                if let Sign::Reload(reply) = sign {
                    reply.send(Err(Refused::Busy));
                }
            }
            Sign::Hangup => {
                reloading = Some(tokio::spawn(current.clone().reload(agent.handle(), None)))
            }
            Sign::Reload(reply) => {
                reloading = Some(tokio::spawn(current.clone().reload(agent.handle(), Some(reply))))
            }
            Sign::Reloaded(reloaded) => {
                let Reloaded { loaded, answer, reply } = *reloaded;
                match &answer {
                    Ok(Granted(done)) => info!("configuration read again: {done}"),
                    Err(refused) => warn!("the configuration stays as it was: {refused}"),
                }
                if let Some(loaded) = loaded {
                    current.shown.send_replace(loaded.shown.to_string());
                    current.loaded.send_replace(*loaded);
                }
                if let Some(reply) = reply {
                    reply.send(answer);
                }
            }
        }
    }
    let exit = agent.join();
    match exit {
        Ok(Exit::Stopped | Exit::Repeats) => {} // the log already says what was confirmed
        Ok(Exit::Halted) => {
            error!("ended: halted, and --exit-on-halt is given; the reason is above")
        }
        Ok(Exit::SourceRefuses) => {
            error!(
                "ended: Postgres refuses us at the first connection, which is not tried again; the \
                 reason is above"
            )
        }
        Ok(Exit::TablesRefused) => error!(
            "ended: the configuration does not suit a captured table, and the stream was not \
             started; the reason is above"
        ),
        Ok(Exit::SinkRefuses) => error!(
            "ended: Kafka or the registry refuses us at the first connection, which is not tried \
             again; the reason is above"
        ),
        // `wellspring run | head` ends like this, as it should.
        Ok(Exit::ReaderGone) => warn!("ended: the reader of standard output is gone"),
        Ok(Exit::StdoutFailed) => {
            error!("ended: standard output cannot be written; the reason is above")
        }
        // The panic's own message is on standard error.
        Err(_) => error!("ended: the pipeline panicked; this is a fault of the program"),
    }
    exit.map_or(Code::Failed, Code::from)
}

/// The agent's present configuration, and the file that it came from.
#[derive(Clone)]
struct Current {
    file: Option<PathBuf>,
    /// The configuration in force. The reader of events receives it from here.
    loaded: watch::Sender<Loaded>,
    /// The text that `/config` serves.
    shown: watch::Sender<String>,
    exit_on_halt: bool,
}

/// Result of a reload. `loaded` is the new configuration, if it was accepted.
struct Reloaded {
    loaded: Option<Box<Loaded>>,
    answer: Answer,
    reply: Option<Reply>,
}

impl Current {
    /// Reads the configuration again and sends it to the agent, even if nothing differs. It is
    /// refused if a key differs that needs a restart.
    async fn reload(self, agent: Handle, reply: Option<Reply>) -> Reloaded {
        let refused = |why: String| Err(Refused::Faulty(why));
        let loaded = match load(self.file) {
            Ok(loaded) => loaded,
            Err(failure) => {
                return Reloaded { loaded: None, answer: refused(failure.to_string()), reply };
            }
        };
        let (taken, fixed) = self.loaded.borrow().differences(&loaded);
        let answer = if !fixed.is_empty() {
            let keys = fixed.join(", ");
            refused(format!(
                "only [tables], [snapshot] and [registry] change in a running agent; these need a \
                 restart: {keys}"
            ))
        } else {
            let config = loaded.checked.pipeline(self.exit_on_halt);
            let answer = agent.ask(Request::Reload(Box::new(config))).await;
            // The agent is asked even if no key differs: a pattern can match a table that was
            // created since the last reading.
            let beside_same =
                |Granted(done)| Granted(format!("the configuration is the same as before; {done}"));
            if taken.is_empty() { answer.map(beside_same) } else { answer }
        };
        let loaded = answer.is_ok().then(|| Box::new(loaded));
        Reloaded { loaded, answer, reply }
    }
}

/// Waits for the end of a running reload and returns its result. Waits for ever if none is running.
async fn joined(task: &mut Option<JoinHandle<Reloaded>>) -> Reloaded {
    let ended = match task {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    };
    *task = None;
    match ended {
        Ok(reloaded) => reloaded,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for the end of the agent's thread, which then drops the sender of the status.
async fn ended(status: &mut watch::Receiver<crate::status::Status>) -> Sign {
    while status.changed().await.is_ok() {}
    Sign::Ended
}
