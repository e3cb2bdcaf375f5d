//! Joins the rooms: one loop carries everything between them.
//!
//! [`Agent`] runs the loop on a thread of its own. `core` (pure), `continuity` (pure) and
//! `supervise` (the meaning of each failure) decide, `open` connects, and `runner` performs.
//! `plans` makes the plans, `initial` and `backfill` copy tables, and `rows` is the row path.

pub mod adopt;
mod begin;
pub mod consent;
mod identities;
mod inherited;
pub mod open;
mod pace;
mod rehearse;
pub mod removal;
mod report;
pub mod request;
mod runner;
pub mod supervise;

pub use supervise::Exit;

use crate::continuity::detached::OnRefusal;
use crate::encode;
use crate::encode::registry;
use crate::kafka::{self, FileState, StateTopic, Topics};
use crate::metrics::Metrics;
use crate::plans::SinkConfig;
use crate::postgres;
use crate::snapshot;
use crate::status::Status;
use crate::table::Selection;
use std::time::Duration;
use tokio::sync::watch;

/// The checked configuration of an agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to connect to the source database.
    pub postgres: postgres::Config,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication that the slot decodes with.
    pub publication: String,
    /// The replication origins whose changes the server sends (`postgres.origin`).
    pub origins: postgres::Origins,
    /// Whether standbys are to keep a copy of the slot (`postgres.failover`).
    pub failover: bool,
    /// How often the slot's xmin is read for events. `None` if events have no xmin.
    pub xmin_interval: Option<Duration>,
    /// Replica identities that the agent is asked to set. If empty, tables are left as they are.
    pub identities: Vec<postgres::identity::Rule>,
    /// How existing rows are copied.
    pub snapshot: snapshot::Config,
    /// Whether the agent may create the publication at a first start, and add tables to it at a
    /// reload (`postgres.create_publication`).
    pub create_publication: bool,
    /// Which tables are captured.
    pub selection: Selection,
    /// The form of events: topics, keys, envelope and values.
    pub encode: encode::Config,
    /// How to reach the schema registry. Avro needs one. `None` if no registry is configured.
    pub registry: Option<registry::Config>,
    /// The interval and the query of heartbeats. `None` if heartbeats are off.
    pub heartbeat: Option<Heartbeat>,
    /// Whether Debezium's notifications about copies are written to the log (`log.notifications`).
    pub log_notices: bool,
    /// The destination of records: Kafka or standard output.
    pub sink: SinkConfig,
    /// The byte budget of everything in flight (`limits.memory`).
    pub budget_bytes: usize,
    /// How long a confirm hold keeps the slot back (`limits.quarantine`).
    pub confirm_hold: Duration,
    /// How long a stop waits for Kafka to acknowledge what was sent.
    pub stop_patience: Duration,
    /// Warnings about settings that are weaker than they could be. The status shows them.
    pub warnings: Vec<String>,
    /// What happens to a table that is refused (`events.on_refusal`).
    pub on_refusal: OnRefusal,
    /// Whether a halt ends the process. Otherwise the process stays and reports the halt.
    pub exit_on_halt: bool,
    /// Digest of the settings that decide the form of records and the captured tables. It contains
    /// no secret.
    pub fingerprint: String,
}

/// The interval of heartbeats, and the query that runs with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The time between two heartbeats.
    pub interval: Duration,
    /// SQL that runs in the database with each heartbeat, so that the WAL moves. `None` if no SQL
    /// runs.
    pub query: Option<String>,
}

impl Config {
    /// Opens the state: the state topic in Kafka, or the state file of standard output.
    ///
    /// # Errors
    /// Kafka cannot be reached, or refuses the state topic.
    pub async fn open_state(&self) -> Result<kafka::State, kafka::KafkaError> {
        match &self.sink {
            SinkConfig::Kafka(config) => {
                // If no broker can be reached, this request fails soon. A question about a topic
                // would wait for its whole time limit.
                Topics::new(config).probe().await?;
                Ok(kafka::State::Topic(StateTopic::open(config).await?))
            }
            SinkConfig::Stdout { state_file } => Ok(kafka::State::File(FileState::new(state_file))),
        }
    }
}

/// How long the agent's thread waits at its end for requests to Kafka that are under way.
const LAST_QUESTIONS: Duration = Duration::from_millis(200);

/// A running agent, seen from outside of its thread.
pub struct Agent {
    thread: std::thread::JoinHandle<Exit>,
    stop: watch::Sender<bool>,
    status: watch::Receiver<Status>,
    handle: request::Handle,
}

impl Agent {
    /// Starts the loop on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub fn start(config: Config, metrics: Metrics) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (tell, status) = watch::channel(Status::default());
        let (handle, asked) = request::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
            let exit = runtime.block_on(runner::run(config, metrics, stopped, asked, tell));
            // A request to Kafka may still wait on the blocking pool. Nobody needs its answer now.
            runtime.shutdown_timeout(LAST_QUESTIONS);
            exit
        })?;
        Ok(Agent { thread, stop, status, handle })
    }

    /// Asks for a clean stop; repeating it changes nothing.
    pub fn stop(&self) {
        // The receiver lives as long as the loop. A loop that has ended needs no stop.
        let _ = self.stop.send(true);
    }

    /// Returns a handle for requests to the running loop.
    #[must_use]
    pub fn handle(&self) -> request::Handle {
        self.handle.clone()
    }

    /// Returns the receiver of the agent's status, which the loop renews.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether the loop has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the loop's end, and blocks the calling thread.
    ///
    /// # Errors
    /// The loop panicked. Its message went to standard error.
    pub fn join(self) -> std::thread::Result<Exit> {
        self.thread.join()
    }
}
