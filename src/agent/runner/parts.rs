//! The parts of the runner. Each part owns the fields of one subject. A method names the part, and
//! thereby shows which fields the method may touch.

use super::clock::{now, run_id};
use super::detached::Detaching;
use super::halts::Halts;
use super::heartbeat::HeartbeatTimer;
use super::proofs::Doubts;
use super::signals::SignalFollower;
use super::standstill::Reading;
use super::watched::Watch;
use crate::agent::Config;
use crate::agent::supervise::Exit;
use crate::backfill::Copies;
use crate::backfill::notices::Notices;
use crate::continuity::Trouble;
use crate::continuity::named::Named;
use crate::core::{Moment, Report};
use crate::initial::Copying;
use crate::kafka::{Delivery, Topics};
use crate::lsn::Oid;
use crate::plans::sink::Sink;
use crate::plans::{Active, Planned, SinkConfig};
use crate::snapshot::reader::Reader;
use crate::snapshot::throttle::Throttle;
use crate::table::TableName;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// The producer, and what is known of the topics that it writes to.
pub(super) struct Outlet {
    pub sink: Option<Sink>,
    /// `None` if records go to standard output.
    pub topics: Option<Topics>,
    /// The topic of each route, by the number of the route.
    pub routes: Vec<String>,
    pub deliveries: mpsc::Sender<Delivery>,
    /// Batch size in bytes of the next producer. `None` unless a topic takes less than our batches.
    /// The broker refuses all records of a batch that is too large. So nothing is read until the
    /// producer is exchanged. The exchange waits until nothing is in flight.
    pub smaller_batches: Option<usize>,
    /// Earliest time of the next try to start a producer.
    pub sink_retry_at: Moment,
    /// Delivery reports as the sink sent them, and in `reported` the same reports as the core reads
    /// them. Each turn uses both buffers again.
    pub taken: Vec<Delivery>,
    pub reported: Vec<Report>,
}

/// The first copy, until it ends.
#[derive(Default)]
pub(super) struct First {
    /// The first copy under way. It outlives a connection as long as its snapshot is held.
    pub copying: Option<Copying>,
    /// Earliest time at which the end of the next table's copy is recorded. It lies in the future
    /// only after a write that failed.
    pub journal_at: Moment,
}

/// The backfills, the notices of copies, and the source of signals.
pub(super) struct Backfills {
    /// The backfills. The session that reads their chunks is in `reader` while no task uses it.
    pub copies: Copies,
    pub notices: Notices,
    pub signal_follower: Option<SignalFollower>,
    pub reader: Option<Reader>,
    /// The standstill under way: the session that reads its table, and its rows.
    pub reading: Option<Reading>,
    pub throttle: Throttle,
    /// When the server's snapshot was last read.
    pub snapshot_at: tokio::time::Instant,
    /// When backfills last asked for a checkpoint.
    pub recorded_at: tokio::time::Instant,
}

/// The captured tables, with their plans, the detached tables, and the unproven schema ids.
pub(super) struct Tables {
    pub captured: Vec<TableName>,
    /// The captured tables by oid and by name, as the newest checkpoint or the next one records
    /// them.
    pub named: Arc<Named>,
    pub actives: HashMap<Oid, Active>,
    /// The plan of logical messages.
    pub messages: Planned,
    /// When the last plan for the row path, a backfill, a repair or a reload was begun.
    pub planning_since: Instant,
    pub detaching: Detaching,
    /// Schema ids that are not proven yet.
    pub doubts: Doubts,
}

/// The regular checks and the heartbeats, each with its own spacing.
pub(super) struct Checks {
    pub looked_at: tokio::time::Instant,
    pub halts: Halts,
    pub watch: Watch,
    pub heartbeat: HeartbeatTimer,
}

/// The values that live as long as the process, and belong to no connection.
pub(super) struct Process {
    /// The id of the process, as its checkpoints name it.
    pub run_id: String,
    /// Whether this process has had a proven connection. A refusal before the first one most likely
    /// comes from the configuration.
    pub streamed: bool,
    /// Whether this process has found the slot with another agent of the pipeline. Its login to
    /// Postgres works, so it waits for a server that refuses it later.
    pub stood_by: bool,
    /// How the process ends, once that is decided.
    pub exit: Option<Exit>,
    pub troubles: mpsc::Sender<Option<Trouble>>,
    /// Keys of state records that have lost their meaning, such as checkpoints of earlier terms.
    /// They are removed once a newer checkpoint is acknowledged.
    pub outdated: Vec<String>,
    /// Whether bytes have arrived since the row path last ran.
    pub fresh: bool,
}

impl Outlet {
    pub(super) fn new(config: &Config, deliveries: mpsc::Sender<Delivery>) -> Self {
        let topics = match &config.sink {
            SinkConfig::Kafka(kafka) => Some(Topics::new(kafka)),
            SinkConfig::Stdout { .. } => None,
        };
        Outlet {
            sink: None,
            topics,
            routes: Vec::new(),
            deliveries,
            smaller_batches: None,
            sink_retry_at: Moment::default(),
            taken: Vec::new(),
            reported: Vec::new(),
        }
    }
}

impl Backfills {
    pub(super) fn new(config: &Config) -> Self {
        let notices = Notices::new(&config.encode, config.log_notices);
        Backfills {
            copies: Copies::new(&config.slot, notices.are_wanted()),
            notices,
            signal_follower: None,
            reader: None,
            reading: None,
            throttle: Throttle::default(),
            snapshot_at: tokio::time::Instant::now(),
            recorded_at: tokio::time::Instant::now(),
        }
    }

    /// Returns the moment at which the rate limit allows the next piece of the standstill. `None`
    /// without a standstill, or if the moment has passed.
    pub(super) fn next_piece(&self) -> Option<Moment> {
        self.reading.as_ref().map(Reading::next_piece).filter(|at| *at > now())
    }
}

impl Default for Tables {
    fn default() -> Self {
        Tables {
            captured: Vec::new(),
            named: Arc::default(),
            actives: HashMap::new(),
            messages: Planned::Unplanned,
            planning_since: Instant::now(),
            detaching: Detaching::default(),
            doubts: Doubts::default(),
        }
    }
}

impl Default for Checks {
    fn default() -> Self {
        Checks {
            looked_at: tokio::time::Instant::now(),
            halts: Halts::default(),
            watch: Watch::default(),
            heartbeat: HeartbeatTimer::default(),
        }
    }
}

impl Process {
    /// True if a refusal that has this exit ends the process. Before the first proven connection
    /// the configuration is most likely wrong. A process that stood by has logged in to Postgres.
    pub(super) fn ends_at(&self, exit: Exit) -> bool {
        let has_worked = self.streamed || (self.stood_by && exit == Exit::SourceRefuses);
        !has_worked
    }

    pub(super) fn new(troubles: mpsc::Sender<Option<Trouble>>) -> Self {
        Process {
            run_id: run_id(),
            streamed: false,
            stood_by: false,
            exit: None,
            troubles,
            outdated: Vec::new(),
            fresh: false,
        }
    }
}
