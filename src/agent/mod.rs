//! The wiring: one loop that carries every arrow between the rooms.
//!
//! [`Agent`] runs the loop on a thread of its own. Decisions are in `core` (pure), `continuity` (pure) and `supervise`
//! (what a failure means); `open` connects, and `runner` performs. Planning, copies and the row path are rooms to the left.

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

/// Everything the agent needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The source.
    pub postgres: postgres::Config,
    /// The slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// Changes of which origin are published.
    pub origins: postgres::Origins,
    /// How often the slot's xmin is looked up for events; never where there is none.
    pub xmin_interval: Option<Duration>,
    /// Replica identities that we are asked to set; empty where tables are left as they are.
    pub identities: Vec<postgres::identity::Rule>,
    /// How existing rows are copied.
    pub snapshot: snapshot::Config,
    /// Whether a missing publication is created at a first start.
    pub create_publication: bool,
    /// Which tables are captured.
    pub selection: Selection,
    /// How events look.
    pub encode: encode::Config,
    /// Where schemas are registered; Avro needs it.
    pub registry: Option<registry::Config>,
    /// What is sent while nothing changes; none where nothing is.
    pub heartbeat: Option<Heartbeat>,
    /// Whether the log tells of copies as Debezium's notifications do.
    pub log_notices: bool,
    /// Where records go.
    pub sink: SinkConfig,
    /// The byte budget of everything in flight.
    pub budget_bytes: usize,
    /// How long confirmations are held after an unclean stop.
    pub confirm_hold: Duration,
    /// How long a stop waits for Kafka.
    pub stop_patience: Duration,
    /// What the configuration allows that is weaker than it could be; shown in status.
    pub warnings: Vec<String>,
    /// What happens where one table is refused.
    pub on_refusal: OnRefusal,
    /// End the process on a halt instead of staying to tell.
    pub exit_on_halt: bool,
    /// Digest of what decides how records look and which tables are captured; no secret is in it.
    pub fingerprint: String,
}

/// A sign of life at an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two of them.
    pub interval: Duration,
    /// What is run in the database with each, so that the log moves.
    pub query: Option<String>,
}

impl Config {
    /// Opens the state where the sink keeps it.
    ///
    /// # Errors
    /// Kafka's.
    pub async fn open_state(&self) -> Result<kafka::State, kafka::KafkaError> {
        match &self.sink {
            SinkConfig::Kafka(config) => {
                // Brokers that cannot be reached say so at once; a question about a topic would wait for its time limit.
                Topics::new(config).probe().await?;
                Ok(kafka::State::Topic(StateTopic::open(config).await?))
            }
            SinkConfig::Stdout { state_file } => Ok(kafka::State::File(FileState::new(state_file))),
        }
    }
}

/// How long the end waits for questions to Kafka that are under way.
const LAST_QUESTIONS: Duration = Duration::from_millis(200);

/// A running agent.
pub struct Agent {
    thread: std::thread::JoinHandle<Exit>,
    stop: watch::Sender<bool>,
    status: watch::Receiver<Status>,
    handle: request::Handle,
}

impl Agent {
    /// Starts the loop on its own thread.
    ///
    /// # Errors
    /// When the system gives no thread or runtime.
    pub fn start(config: Config, metrics: Metrics) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (tell, status) = watch::channel(Status::default());
        let (handle, asked) = request::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
            let exit = runtime.block_on(runner::run(config, metrics, stopped, asked, tell));
            // A question to Kafka may still be waiting on the blocking pool; nobody needs its answer now.
            runtime.shutdown_timeout(LAST_QUESTIONS);
            exit
        })?;
        Ok(Agent { thread, stop, status, handle })
    }

    /// Asks for a clean stop; repeating it changes nothing.
    pub fn stop(&self) {
        // The receiver lives as long as the loop; a loop that has ended needs no stop.
        let _ = self.stop.send(true);
    }

    /// Where requests to the running loop are made.
    #[must_use]
    pub fn handle(&self) -> request::Handle {
        self.handle.clone()
    }

    /// What the agent says of itself, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether the loop has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the loop's end. Blocks the calling thread.
    ///
    /// # Errors
    /// When the loop panicked; its message went to standard error.
    pub fn join(self) -> std::thread::Result<Exit> {
        self.thread.join()
    }
}
