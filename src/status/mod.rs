//! The agent's own report: `/status`, the state behind `/readyz`, and the lines of `slot status`.
//!
//! There is one `Status` value. It is replaced as a whole and read through a watch channel. It
//! holds no row value and no secret.

mod copies;
pub mod delay;
pub mod lag;
pub mod operators;
pub mod outlook;
pub mod phase;
pub mod progress;

pub use copies::{CopyStatus, CopyTableStatus, WindowStatus};

use crate::change::Position;
use crate::continuity::skipped::Place;
use crate::continuity::{LsnRange, TroubleReason};
use crate::lsn::Lsn;
use delay::DelayStatus;
use operators::OperatorAction;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the form of `/status`. It rises when a field is removed or changes its meaning. New
/// fields do not raise it, so a reader must ignore fields that it does not know.
pub const STATUS_FORMAT: u32 = 1;

/// What the agent is doing at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Opening connections and checking continuity.
    #[default]
    Connecting,
    /// Copying existing rows before the stream begins.
    Snapshot,
    /// Reading the stream: changes flow as they occur.
    Streaming,
    /// Stopped from reading by an operator's pause.
    Paused,
    /// A peer is unreachable or refuses the agent, which keeps trying.
    Retrying,
    /// Waiting as a replica: another agent of this pipeline holds the slot.
    Standby,
    /// Nothing more is produced or confirmed until the halt ends, as `reason` and `next` say.
    Halted,
    /// Stopping after a request.
    Stopping,
}

impl Phase {
    /// Every phase, for metrics.
    pub const ALL: [Phase; 8] = [
        Phase::Connecting,
        Phase::Snapshot,
        Phase::Streaming,
        Phase::Paused,
        Phase::Retrying,
        Phase::Standby,
        Phase::Halted,
        Phase::Stopping,
    ];

    /// Returns the phase of an agent that has a trouble with this reason: standby if another agent
    /// has the slot, and otherwise retrying.
    #[must_use]
    pub fn under(reason: TroubleReason) -> Phase {
        if reason == TroubleReason::Standby { Phase::Standby } else { Phase::Retrying }
    }

    /// The phase as `/status` and metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "connecting",
            Phase::Snapshot => "snapshot",
            Phase::Streaming => "streaming",
            Phase::Paused => "paused",
            Phase::Retrying => "retrying",
            Phase::Standby => "standby",
            Phase::Halted => "halted",
            Phase::Stopping => "stopping",
        }
    }
}

/// The Position of one change, with its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeStatus {
    /// Table of the change, as `namespace.name`.
    pub table: String,
    /// Commit LSN of the change.
    pub commit_lsn: Lsn,
    /// Ordinal of the change within its transaction.
    pub ordinal: u64,
}

impl From<&Place> for ChangeStatus {
    fn from(place: &Place) -> Self {
        ChangeStatus {
            table: place.table.clone(),
            commit_lsn: place.at.commit,
            ordinal: place.at.ordinal,
        }
    }
}

/// The positions of the stream, from the newest to the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Positions {
    /// End of the last commit or keepalive received.
    pub received: Lsn,
    /// Kafka has acknowledged everything before this position.
    pub delivered: Lsn,
    /// Position up to which Postgres was told that it may discard WAL.
    pub confirmed: Lsn,
    /// The slot's `restart_lsn` at the last reading. The server keeps WAL from here on.
    pub restart: Lsn,
}

/// State of one captured table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableStatus {
    /// Name of the table's topic.
    pub topic: String,
    /// True if a transform names the topics of the rows. `topic` is then the topic of the rows
    /// that name none.
    pub routed: bool,
    /// `streaming`, `incomplete`, `refused`, `detached`, `repairing`, `waiting` or `excluded`. A
    /// table streams only in the phase `streaming`; in another phase it waits, with the reason of
    /// the phase. An `incomplete` table streams, and its topic lacks rows that no copy brought.
    pub state: String,
    /// Stable code of the reason for a state other than `streaming`; otherwise empty.
    pub reason: String,
    /// The reason as a sentence that names the objects.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
    /// The changes that the table's topic lacks, for a table that is `detached` or `repairing`.
    pub gap: Option<GapStatus>,
    /// Changes sent since start.
    pub changes: u64,
    /// Changes since start that a filter, another transform or `[events]` leaves out.
    pub filtered: u64,
    /// Changes of the table sent per second, over the last five seconds.
    pub changes_per_second: f64,
    /// Unix milliseconds of the table's last change, exact to a second; 0 if there was none since
    /// start.
    pub last_change_ms: i64,
    /// Ids of the registered key and value schemas.
    pub schema_ids: Vec<u32>,
}

/// The gap in the topic of a detached table, from its first missing change to its repair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GapStatus {
    /// Commit LSN of the first missing change.
    pub commit_lsn: Lsn,
    /// Ordinal of that change within its transaction.
    pub ordinal: u64,
    /// Time of the detachment, in Unix milliseconds.
    pub since_ms: i64,
    /// Start of the repairing copy, in Unix milliseconds. Changes flow again from then on. `None`
    /// before the repair.
    pub repair_ms: Option<i64>,
}

/// Rates of the stream per second, over the last five seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Bytes read from the replication connection.
    pub received_bytes: f64,
    /// Messages of the stream handled.
    pub messages: f64,
    /// Transactions acknowledged by Kafka.
    pub transactions: f64,
    /// Records handed to the producer.
    pub produced: f64,
    /// Records acknowledged by Kafka.
    pub delivered: f64,
}

/// Load of one stage on the way from the server's WAL to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageStatus {
    /// `source`, `decode`, `encode`, `registry` or `broker`.
    pub name: String,
    /// Share of the last five seconds in which this stage kept the other stages waiting, from 0 to
    /// 1.
    pub busy: f64,
    /// True for the stage that is the bottleneck now.
    pub slowest: bool,
    /// Mean time of one message in this stage, in seconds, over the messages measured since start.
    pub mean_seconds: f64,
}

/// The WAL that the server keeps for the slot, at the last reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WalStatus {
    /// Time of the reading, in Unix milliseconds; 0 before the first.
    pub read_ms: i64,
    /// End of the server's WAL.
    pub server: Lsn,
    /// Bytes of WAL that are kept; `None` before the first reading.
    pub retained_bytes: Option<u64>,
    /// The most bytes that the server will keep; `None` without `max_slot_wal_keep_size`.
    pub limit_bytes: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`, as the server reports it.
    pub wal_status: String,
    /// Why the slot can no longer be used; empty if it can be used.
    pub invalidation: String,
    /// Bytes of WAL that the server wrote per second, over the last two minutes; `None` before the
    /// first measurement.
    pub written_bytes_per_second: Option<f64>,
    /// Growth of the kept WAL in bytes per second; negative while it shrinks.
    pub growth_bytes_per_second: Option<f64>,
    /// Seconds until the limit at this growth; `None` if the kept WAL does not grow or has no
    /// limit.
    pub seconds_to_limit: Option<f64>,
    /// Seconds until the limit if nothing more were confirmed; `None` without a limit, before the
    /// first measurement, and while no WAL is written.
    pub seconds_at_standstill: Option<f64>,
}

/// One sample of the last 15 minutes, for the chart of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Time of the sample, in Unix milliseconds.
    pub at_ms: i64,
    /// Age in seconds of the oldest commit that Kafka has not acknowledged; `None` if unknown.
    pub lag_seconds: Option<f64>,
    /// Bytes of WAL that Kafka has not acknowledged; `None` if unknown.
    pub lag_bytes: Option<u64>,
    /// Records acknowledged per second.
    pub delivered: f64,
    /// True if the phase was `streaming`.
    pub streaming: bool,
    /// Phase of the agent.
    pub phase: Phase,
}

/// A Position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PositionStatus {
    /// Commit LSN of the change.
    pub commit_lsn: Lsn,
    /// Ordinal of the change within its transaction.
    pub ordinal: u64,
}

impl From<Position> for PositionStatus {
    fn from(at: Position) -> Self {
        PositionStatus { commit_lsn: at.commit, ordinal: at.ordinal }
    }
}

/// Result of checking the recorded schema ids at the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SchemaIdsStatus {
    /// Number of recorded ids in use that the registry has not confirmed. A warning says why.
    pub unproven: u64,
    /// Recorded ids whose schemas the registry did not serve, by table and subject; at most 50.
    pub differed: Vec<DifferedStatus>,
}

/// A recorded schema id under which the registry did not serve the schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferedStatus {
    /// Table as `namespace.name`, or the other kind of plan: logical messages or heartbeats.
    pub plan: String,
    /// Topic of the records that carry the id.
    pub topic: String,
    /// Subject of the schema.
    pub subject: String,
    /// The id that the state has recorded for the schema.
    pub was: u32,
    /// The id that replaced `was`; `None` before the schema is registered.
    pub id: Option<u32>,
    /// Position of the first record that this process sent with the recorded id; `None` if it sent
    /// none. 0/0 for heartbeats and notices, which have no Position.
    pub from: Option<PositionStatus>,
    /// Position of the last record that this process sent with the recorded id; `None` as in
    /// `from`.
    pub to: Option<PositionStatus>,
    /// True if records in the topic carry an id under which the registry does not serve their
    /// schema.
    pub needs_a_person: bool,
    /// The finding as a sentence.
    pub detail: String,
    /// The next step for the operator; empty if none is needed.
    pub next: String,
}

/// An error as the operator reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// Time of the error, in Unix milliseconds.
    pub at_ms: i64,
    /// Stable code of the reason.
    pub reason: String,
    /// The error with its chain of causes.
    pub message: String,
    /// The next step for the operator.
    pub next: String,
}

/// The content of `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// What the agent is doing at the moment.
    pub phase: Phase,
    /// Unix milliseconds of the last change of `phase` or `reason`.
    pub since_ms: i64,
    /// Stable code of the reason for a phase other than plain streaming; otherwise empty.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// The next step for the operator, or the event that the agent waits for.
    pub next: String,
    /// The range of WAL in doubt, if the reason has one.
    pub range: Option<LsnRange>,
    /// The change before which the stream has halted, if a single change caused the halt.
    /// `wellspring skip` can leave this change out.
    pub stands_at: Option<ChangeStatus>,
    /// True if a state lasts until a person acts: for example, the agent is halted, every attempt
    /// is refused, or a table is not copied.
    pub needs_a_person: bool,
    /// Version of the form of `/status`, see [`STATUS_FORMAT`].
    pub status_format: u32,
    /// Version of the program.
    pub version: String,
    /// Time of the start, in Unix milliseconds.
    pub started_ms: i64,
    /// Time of this report, in Unix milliseconds.
    pub now_ms: i64,
    /// Kind of the sink: `kafka` or `stdout`.
    pub sink: String,
    /// Format of the records: `avro`, `json` or `json-schema`.
    pub format: String,
    /// Prefix of the topic names.
    pub prefix: String,
    /// Hosts of the configuration, as `host:port` or as the folder of a socket.
    pub hosts: Vec<String>,
    /// Name of the database.
    pub database: String,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// System identifier of the server, from `pg_control`.
    pub system_id: String,
    /// Timeline of the server at the last connect.
    pub timeline: u32,
    /// Version of the server, as `server_version_num`.
    pub server_version: u32,
    /// Number that rises only when a gap is accepted. Positions compare only within one epoch.
    pub epoch: u64,
    /// Number that rises at each connect.
    pub term: u64,
    /// The positions of the stream.
    pub lsn: Positions,
    /// Bytes of the server's WAL that Kafka has not acknowledged, received or not; `None` if that
    /// is not known.
    pub lag_bytes: Option<u64>,
    /// Age in seconds of the oldest commit that Kafka has not acknowledged, received or not; 0 if
    /// there is none, and `None` if that is not known.
    pub lag_seconds: Option<f64>,
    /// Rates of the stream over the last five seconds.
    pub rates: Rates,
    /// How long commits took to be acknowledged, over the last minute.
    pub delay: DelayStatus,
    /// The stages, in the order in which a change passes them.
    pub stages: Vec<StageStatus>,
    /// The WAL that the server keeps for the slot.
    pub wal: WalStatus,
    /// Records sent and not yet acknowledged.
    pub in_flight_records: u64,
    /// Bytes of the records sent and not yet acknowledged, overhead included.
    pub in_flight_bytes: u64,
    /// The byte budget for records in flight.
    pub budget_bytes: u64,
    /// Unix milliseconds at which the confirm hold ends; 0 when no hold is open.
    pub quarantine_until_ms: i64,
    /// Connections to Postgres made since start, beyond the first.
    pub reconnects: u64,
    /// Number of records of other producers found between ours, by topic.
    pub foreign_writes: BTreeMap<String, u64>,
    /// Sentences about guarantees that are weaker than they could be, or could not be proven.
    pub warnings: Vec<String>,
    /// Schema ids that the registry has not confirmed, or has refuted.
    pub schema_ids: SchemaIdsStatus,
    /// Why copies are slowed down, as a sentence about the source's load; empty while they are not.
    pub copies_slowed: String,
    /// Progress of the first copy. It stays here after the copy ends, until the process ends.
    pub copy: Option<CopyStatus>,
    /// Backfills and standstills: the newest completed ones, at most 20, then the unfinished ones
    /// in their order.
    pub windows: Vec<WindowStatus>,
    /// State of each captured table, by `namespace.name`.
    pub tables: BTreeMap<String, TableStatus>,
    /// The newest errors, newest last; at most 20.
    pub errors: Vec<LastError>,
    /// The newest actions of operators, newest last; at most 20.
    pub operators: Vec<OperatorAction>,
    /// Samples every five seconds, oldest first. `/history` serves them apart from `/status`,
    /// because they are long.
    #[serde(skip)]
    pub history: Arc<[Moment]>,
}

impl Status {
    /// The status as `/status` shows it. In a phase other than `streaming`, a table that streams is
    /// shown as `waiting` with the reason of the phase, and its rate is 0.
    #[must_use]
    pub fn told(&self) -> Status {
        let mut told = self.clone();
        if self.phase != Phase::Streaming {
            for table in told.tables.values_mut() {
                match &*table.state {
                    "streaming" => {
                        "waiting".clone_into(&mut table.state);
                        table.reason.clone_from(&self.reason);
                    }
                    "incomplete" => {}
                    _ => continue,
                }
                table.changes_per_second = 0.0;
            }
        }
        told
    }
}
