//! What the agent says of itself: `/status`, the state behind `/readyz`, and the lines of `slot status`.
//!
//! One value, replaced as a whole and read through a watch channel; nothing in it is a row value or a secret.

pub mod progress;

use crate::change::Position;
use crate::continuity::LsnRange;
use crate::continuity::skipped::Place;
use crate::lsn::Lsn;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of what `/status` looks like. It rises when a field goes away or means something else; fields are added
/// without it, so a reader passes over what it does not know.
pub const STATUS_FORMAT: u32 = 1;

/// Where the agent is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Opening connections and proving continuity.
    #[default]
    Connecting,
    /// Copying existing rows.
    Snapshot,
    /// Changes flow, or would if there were any.
    Streaming,
    /// Held by an operator.
    Paused,
    /// A peer is away or refuses us; tried again by itself.
    Retrying,
    /// Nothing more is produced or confirmed until somebody acts; `reason` and `next` say what.
    Halted,
    /// On its way out.
    Stopping,
}

impl Phase {
    /// Every phase, for metrics.
    pub const ALL: [Phase; 7] = [
        Phase::Connecting,
        Phase::Snapshot,
        Phase::Streaming,
        Phase::Paused,
        Phase::Retrying,
        Phase::Halted,
        Phase::Stopping,
    ];

    /// The word in `/status` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "connecting",
            Phase::Snapshot => "snapshot",
            Phase::Streaming => "streaming",
            Phase::Paused => "paused",
            Phase::Retrying => "retrying",
            Phase::Halted => "halted",
            Phase::Stopping => "stopping",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeStatus {
    /// `namespace.name`.
    pub table: String,
    /// Its commit LSN.
    pub commit_lsn: Lsn,
    /// Its place in the transaction.
    pub ordinal: u64,
}

impl From<&Place> for ChangeStatus {
    fn from(place: &Place) -> Self {
        ChangeStatus { table: place.table.clone(), commit_lsn: place.at.commit, ordinal: place.at.ordinal }
    }
}

/// The positions of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Positions {
    /// End of the last commit or keepalive received.
    pub received: Lsn,
    /// Everything before it is acknowledged by Kafka.
    pub delivered: Lsn,
    /// What Postgres was told it may forget.
    pub confirmed: Lsn,
    /// The slot's `restart_lsn`, as last read; what holds WAL.
    pub restart: Lsn,
}

/// The first copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CopyStatus {
    /// Rows are as of here, and the stream begins here.
    pub consistent_point: Lsn,
    /// Rows sent.
    pub rows: u64,
    /// Rows there are, by the tables' statistics; 0 where nothing was analysed.
    pub rows_expected: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Bytes of the tables.
    pub bytes_expected: u64,
    /// Readers at once.
    pub workers: usize,
    /// Since it began in this process.
    pub seconds: f64,
    /// Over the last seconds.
    pub rows_per_second: f64,
    /// At this rate; none where the number of rows is not known.
    pub remaining_seconds: Option<f64>,
    /// WAL that the server keeps for us until the copy is over, as last read.
    pub wal_bytes: u64,
    /// What that will be at the end, at the rate of the last minutes; none where the end is not known.
    pub wal_bytes_expected: Option<u64>,
    /// By `namespace.name`.
    pub tables: BTreeMap<String, CopyTableStatus>,
}

/// A copy beside the stream, in `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WindowStatus {
    /// `namespace.name`.
    pub table: String,
    /// `waiting`, `copying`, `confirming`, `paused`, `failed` or `done`.
    pub state: String,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes of records handed to the producer since start.
    pub bytes: u64,
    /// Chunks delivered.
    pub chunks: u64,
    /// Chunks read whose position the stream has not passed.
    pub open_chunks: usize,
    /// The first of these positions.
    pub waits_for_lsn: Option<Lsn>,
    /// Rows that moved and are to be read again.
    pub moved_rows: usize,
    /// Chunks that came to nothing since start, and are read again. Some are ordinary where a table is written to.
    pub dropped_chunks: u64,
    /// Why the last of them did.
    pub dropped_why: String,
    /// The operator's condition.
    pub filter: Option<String>,
    /// A stable code where it failed.
    pub reason: String,
    /// Whom it waits for, or why it failed.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// One table of the first copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CopyTableStatus {
    /// `waiting`, `copying`, `delivering`, `copied`, `refused` or `left`.
    pub state: String,
    /// Rows sent.
    pub rows: u64,
    /// Rows by its statistics; none where it was never analysed, or a condition decides.
    pub rows_expected: Option<u64>,
    /// Bytes of their text.
    pub bytes: u64,
    /// Bytes of the table.
    pub bytes_expected: u64,
    /// Why it is `refused` or `left`.
    pub reason: String,
    /// What to do then.
    pub next: String,
}

/// One captured table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableStatus {
    /// Its topic.
    pub topic: String,
    /// `streaming`, `refused`, `detached`, `repairing`, `waiting` or `excluded`.
    pub state: String,
    /// Why it is none of the good ones: a stable code.
    pub reason: String,
    /// The same with names.
    pub detail: String,
    /// What to do then.
    pub next: String,
    /// What its topic lacks, where it is `detached` or `repairing`.
    pub gap: Option<GapStatus>,
    /// Changes sent since start.
    pub changes: u64,
    /// Changes a second, over the last few.
    pub changes_per_second: f64,
    /// Unix milliseconds of the last change, to a second; 0 if there was none since start.
    pub last_change_ms: i64,
    /// Ids under which its key and value schemas are registered.
    pub schema_ids: Vec<u32>,
}

/// What the topic of a table that was set aside lacks: everything from here until it is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GapStatus {
    /// Commit LSN of the first change.
    pub commit_lsn: Lsn,
    /// Its place in the transaction.
    pub ordinal: u64,
    /// Unix milliseconds of when it was set aside.
    pub since_ms: i64,
    /// Unix milliseconds since when its changes flow again, while a copy repairs the rest.
    pub repair_ms: Option<i64>,
}

/// What flows a second, over the last five.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Bytes read from the replication connection.
    pub received_bytes: f64,
    /// Messages of the stream handled.
    pub messages: f64,
    /// Transactions acknowledged.
    pub transactions: f64,
    /// Records handed to the producer.
    pub produced: f64,
    /// Records acknowledged by Kafka.
    pub delivered: f64,
}

/// One stage of the way from the server's log to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageStatus {
    /// `source`, `decode`, `encode`, `registry` or `broker`.
    pub name: String,
    /// The part of the last seconds in which it held up the others, from 0 to 1.
    pub busy: f64,
    /// It is the bottleneck now.
    pub slowest: bool,
    /// What one message takes there on average, in seconds, of those measured since start.
    pub mean_seconds: f64,
}

/// The WAL that the server keeps for the slot, as last read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WalStatus {
    /// Unix milliseconds of the reading; 0 before the first.
    pub read_ms: i64,
    /// Where the server's WAL ends.
    pub server: Lsn,
    /// Bytes kept.
    pub retained_bytes: u64,
    /// The most it will keep; none without `max_slot_wal_keep_size`.
    pub limit_bytes: Option<u64>,
    /// reserved, extended, unreserved or lost.
    pub wal_status: String,
    /// Why the slot can no longer be used; empty where it can.
    pub invalidation: String,
    /// WAL written a second, over the last two minutes; none before it is measured.
    pub written_bytes_per_second: Option<f64>,
    /// By how much what is kept grows a second; negative while it shrinks.
    pub growth_bytes_per_second: Option<f64>,
    /// Seconds until the limit at this growth; none where it does not grow or there is no limit.
    pub seconds_to_limit: Option<f64>,
    /// Seconds until the limit if nothing were confirmed from now on.
    pub seconds_at_standstill: Option<f64>,
}

/// A moment of the last quarter of an hour, for the chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Age of the oldest commit not yet acknowledged.
    pub lag_seconds: f64,
    /// Bytes of WAL not yet acknowledged.
    pub lag_bytes: u64,
    /// Records acknowledged a second.
    pub delivered: f64,
    /// Whether changes flowed, or would have.
    pub streaming: bool,
}

/// A Position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PositionStatus {
    /// Its commit LSN.
    pub commit_lsn: Lsn,
    /// Its place in the transaction.
    pub ordinal: u64,
}

impl From<Position> for PositionStatus {
    fn from(at: Position) -> Self {
        PositionStatus { commit_lsn: at.commit, ordinal: at.ordinal }
    }
}

/// The ids of schemas at the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SchemaIdsStatus {
    /// Recorded ids in use that the registry has not confirmed; a warning says why.
    pub unproven: u64,
    /// Recorded ids that the registry did not serve for their schemas, by table and subject; at most 50.
    pub differed: Vec<DifferedStatus>,
}

/// A recorded schema id that the registry did not serve for its schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferedStatus {
    /// `namespace.name`, or what else is published: logical messages, heartbeats.
    pub plan: String,
    /// Its topic.
    pub topic: String,
    /// The schema's subject.
    pub subject: String,
    /// The recorded id.
    pub was: u32,
    /// The id that took its place; none before the schema is registered.
    pub id: Option<u32>,
    /// The first record that this process sent with the recorded id; none if it sent none. 0/0 for heartbeats and
    /// notifications, which have no Position.
    pub from: Option<PositionStatus>,
    /// The last one.
    pub to: Option<PositionStatus>,
    /// Records in the topic carry an id under which the registry does not serve their schema.
    pub needs_a_person: bool,
    /// The same in a sentence.
    pub detail: String,
    /// What to do; empty where nothing has to be done.
    pub next: String,
}

/// An error as the operator reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The stable code.
    pub reason: String,
    /// The chain of causes.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// The whole of `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Where the agent is.
    pub phase: Phase,
    /// Unix milliseconds of the last change of `phase` or `reason`.
    pub since_ms: i64,
    /// A stable code: why it is not simply streaming; empty when it is.
    pub reason: String,
    /// The same in a sentence.
    pub detail: String,
    /// What to do, or what it waits for.
    pub next: String,
    /// The range of WAL in doubt, where the reason has one.
    pub range: Option<LsnRange>,
    /// The one change that the stream has halted at, where it is one: what `wellspring skip` can leave out.
    pub stands_at: Option<ChangeStatus>,
    /// Nothing goes on until somebody acts: halted, or refused again at each try.
    pub needs_a_person: bool,
    /// [`STATUS_FORMAT`].
    pub status_format: u32,
    /// The program's version.
    pub version: String,
    /// Unix milliseconds of the start.
    pub started_ms: i64,
    /// Unix milliseconds of this report.
    pub now_ms: i64,
    /// `kafka` or `stdout`.
    pub sink: String,
    /// `avro`, `json` or `json-schema`.
    pub format: String,
    /// Prefix of the topics.
    pub prefix: String,
    /// The slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// `pg_control` system identifier of the server.
    pub system_id: String,
    /// The server's timeline.
    pub timeline: u32,
    /// `server_version_num`.
    pub server_version: u32,
    /// Rises only by consent.
    pub epoch: u64,
    /// Rises at each connect.
    pub term: u64,
    /// Where the stream is.
    pub lsn: Positions,
    /// Bytes from `confirmed` to `received`.
    pub lag_bytes: u64,
    /// Age of the oldest commit not yet acknowledged; 0 when caught up.
    pub lag_seconds: f64,
    /// What flows.
    pub rates: Rates,
    /// The way, in its order.
    pub stages: Vec<StageStatus>,
    /// What the server keeps for the slot.
    pub wal: WalStatus,
    /// Records sent and not acknowledged.
    pub in_flight_records: u64,
    /// Their bytes, overhead included.
    pub in_flight_bytes: u64,
    /// The byte budget.
    pub budget_bytes: u64,
    /// Unix milliseconds until which `confirmed` is held after an unclean stop; 0 when it is not.
    pub quarantine_until_ms: i64,
    /// Connections to Postgres made since start, beyond the first.
    pub reconnects: u64,
    /// Records of other producers seen between ours, by topic.
    pub foreign_writes: BTreeMap<String, u64>,
    /// What is weaker than it could be, or could not be proven.
    pub warnings: Vec<String>,
    /// Schema ids that are not proven, or differed.
    pub schema_ids: SchemaIdsStatus,
    /// Why copies are slower than they could be, while they are: what strains the source.
    pub copies_slowed: String,
    /// The first copy, while it is under way and after it in the same process.
    pub copy: Option<CopyStatus>,
    /// Copies beside the stream: under way in their order, and those that ended lately.
    pub windows: Vec<WindowStatus>,
    /// By `namespace.name`.
    pub tables: BTreeMap<String, TableStatus>,
    /// Newest last, at most 20.
    pub errors: Vec<LastError>,
    /// Oldest first, every five seconds; told apart, at `/history`, since it is long.
    #[serde(skip)]
    pub history: Arc<[Moment]>,
}
