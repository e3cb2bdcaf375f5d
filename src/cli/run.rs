//! `wellspring run`: the agent, its admin server, and the signals that end it.

use super::{Code, Failure, block_on, logging, progress, version};
use crate::admin;
use crate::config::{Checked, Loaded};
use crate::metrics::Metrics;
use crate::pipeline::{Agent, Exit, SinkConfig};
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Starts the agent and waits for its end.
pub(super) fn run(loaded: &Loaded, exit_on_halt: bool) -> Result<Code, Failure> {
    let checked = &loaded.checked;
    logging::start(checked.log);
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let failed = |error: std::io::Error| Failure::of(Code::Failed, &error, "");
    let listener = checked.admin.map(listen).transpose()?;
    block_on(async {
        // Handlers stand before the agent does, so that no signal is lost to the default action.
        let signals = Signals::new().map_err(failed)?;
        let agent = Agent::start(checked.pipeline(exit_on_halt), metrics.clone()).map_err(failed)?;
        let serve = |listener| admin::Server::start(listener, checked.limits.ready_lag, metrics, agent.status());
        let admin = listener.map(serve).transpose().map_err(failed)?;
        greet(checked, admin.as_ref());
        let progress = std::io::stderr().is_terminal().then(|| tokio::spawn(progress::draw(agent.status())));
        let code = watch(agent, signals).await;
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

/// What runs, in a few lines that a person reads once.
fn greet(checked: &Checked, admin: Option<&admin::Server>) {
    info!("{}", version());
    let hosts: Vec<String> = checked.postgres.hosts.iter().map(ToString::to_string).collect();
    info!(
        database = checked.postgres.database,
        hosts = hosts.join(","),
        slot = checked.slot,
        publication = checked.publication,
        "from Postgres"
    );
    let prefix = &checked.encode.prefix;
    match &checked.sink {
        SinkConfig::Kafka(kafka) => {
            info!(brokers = kafka.brokers.join(","), prefix, format = ?checked.encode.format, "into Kafka")
        }
        SinkConfig::Stdout { state_file } => info!(state = %state_file.display(), prefix, "to standard output"),
    }
    match admin {
        Some(server) => info!("status, metrics and health: http://{}/", server.address()),
        None => info!("no status page: admin.listen is \"off\""),
    }
    for warning in &checked.warnings {
        warn!("{warning}");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Sign {
    Ended,
    Stop(&'static str),
    Reload,
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

/// Waits for the agent's end, passing on what the signals ask for.
async fn watch(agent: Agent, mut signals: Signals) -> Code {
    let mut status = agent.status();
    let mut is_stopping = false;
    loop {
        let sign = tokio::select! {
            biased; // 1. the end, after which no signal matters; 2. being stopped; 3. the rest
            ended = ended(&mut status) => ended,
            _ = signals.terminate.recv() => Sign::Stop("SIGTERM"),
            _ = signals.interrupt.recv() => Sign::Stop("SIGINT"),
            _ = signals.hangup.recv() => Sign::Reload,
        };
        match sign {
            Sign::Ended => break,
            Sign::Stop(name) if is_stopping => {
                warn!("{name} again: ending at once; the next start repeats what was not confirmed");
                return Code::Failed;
            }
            Sign::Stop(name) => {
                info!("{name}: stopping; what is sent is delivered and confirmed first. Once more ends at once");
                is_stopping = true;
                agent.stop();
            }
            Sign::Reload => warn!("SIGHUP: this version does not reload; restart it to read the configuration again"),
        }
    }
    let exit = agent.join();
    match exit {
        Ok(Exit::Stopped) => {}
        Ok(Exit::Halted) => error!("ended: halted, and --exit-on-halt is given; the reason is above"),
        Ok(Exit::SourceRefuses) => error!("ended: Postgres refuses us; the reason is above"),
        Ok(Exit::SinkRefuses) => error!("ended: Kafka or the registry refuses us; the reason is above"),
        // The panic's own message is on standard error.
        Err(_) => error!("ended: the pipeline panicked; this is a fault of the program"),
    }
    exit.map_or(Code::Failed, Code::from)
}

/// The agent's thread has let go of its status.
async fn ended(status: &mut tokio::sync::watch::Receiver<crate::pipeline::status::Status>) -> Sign {
    while status.changed().await.is_ok() {}
    Sign::Ended
}
