//! The events that go into the core and the actions that come out of it: plain values.

use crate::change::Position;
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::{Halt, Reason, Resume};
use crate::ledger::{Generation, RouteId, Ticket};
use crate::lsn::Lsn;

/// Microseconds of a monotonic clock that also counts time in suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `micros` microseconds later.
    #[must_use]
    pub fn plus(self, micros: u64) -> Moment {
        Moment(self.0.saturating_add(micros))
    }

    /// Microseconds since an earlier moment; 0 if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One second, in microseconds.
pub const SECOND: u64 = 1_000_000;

/// Limits and intervals of the core. `Core::retime` replaces them when the server's settings are
/// known.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest time without a status update to the server: min(10 s, wal_sender_timeout / 3),
    /// in microseconds.
    pub status_interval: u64,
    /// How long a confirm hold lasts, in microseconds.
    pub hold: u64,
    /// A suspension longer than this has cost the agent its connection, in microseconds:
    /// wal_sender_timeout, or 60 s if that is 0.
    pub freeze: u64,
    /// Budget of bytes in flight, [`crate::ledger::RECORD_OVERHEAD_BYTES`] included. A single
    /// record may exceed it.
    pub budget_bytes: usize,
    /// How long a stop, or the drain before a halt, waits for Kafka, in microseconds.
    pub stop_patience: u64,
    /// Seed of the random part of reconnect delays, so that many agents do not reconnect together.
    pub seed: u64,
}

/// Result that a delivery report carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The record is acknowledged. The offset is -1 for a duplicate that the broker had already.
    Landed {
        /// Partition that holds the record.
        partition: i32,
        /// Offset of the record, or -1.
        offset: i64,
    },
    /// The record is not delivered.
    Failed {
        /// True if a new attempt with the same record would fail the same way.
        permanent: bool,
        /// True if the failure concerns this record or its topic only.
        of_topic: bool,
    },
}

/// A delivery report of the producer for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Ticket of the reported record.
    pub ticket: Ticket,
    /// Generation of the producer that sent the record.
    pub generation: Generation,
    /// Whether the record was acknowledged or failed.
    pub outcome: Outcome,
}

/// A connection that holds the slot and has passed the continuity checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Position at which the stream resumes, and the commit that a replay must contain.
    pub resume: Resume,
    /// The slot's own confirmed position: at or below `resume.from`.
    pub slot_confirmed: Lsn,
    /// The checkpoint to write before anything is processed. It carries a new term.
    pub record: Checkpoint,
    /// How the previous process or connection ended, as the newest checkpoint shows.
    pub last_stop: LastStop,
    /// Unix milliseconds at this event.
    pub unix_ms: i64,
    /// The end of each partition before this connection sent anything. Filled only if another
    /// process left confirm holds open. A record that lands there later and is not ours comes from
    /// an earlier producer.
    pub ends: Vec<(RouteId, i32, i64)>,
}

/// Who wrote the newest checkpoint, and how that process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// This process wrote it. The core knows which records its producers left unanswered.
    Own,
    /// Another process wrote it and stopped with nothing in flight, or this is a first start.
    Clean,
    /// Another process wrote it and ended with records in flight.
    Unclean,
}

/// How a stop on request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that was read is delivered and recorded in the checkpoint. It is also confirmed,
    /// except for what an open confirm hold keeps back.
    Whole,
    /// The stream was never reached, so nothing was sent.
    NothingSent,
    /// Everything sent is delivered, but the stream ends inside a transaction. That transaction is
    /// sent again from its begin.
    InTransaction,
    /// Everything sent is delivered, but the first copy is not finished.
    InCopy,
    /// The deadline passed with deliveries or the confirmation outstanding, there was no connection
    /// to Postgres, or the stream was halted.
    Unanswered,
}

/// An event that the runner reports to the core.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed. [`Core::next_tick`] says when the next tick is wanted.
    Tick,
    /// A connection was opened and passed the continuity checks.
    Opened(Box<Opened>),
    /// A connection could not be opened, or was lost. The core tries again.
    Lost {
        /// True if only a person can repair the cause. The next attempt to connect is then made
        /// later.
        retry_later: bool,
    },
    /// The stream must halt: it must not be opened, a change can never be delivered, or changes may
    /// be missing.
    Halt(Halt),
    /// The checkpoint of the last [`Action::Write`] is acknowledged.
    RecordWritten,
    /// The checkpoint could not be written. The core tries again.
    RecordFailed,
    /// Frames were read and handled.
    Burst {
        /// True if the server asked for a status update.
        reply: bool,
    },
    /// The producer must be replaced although no delivery failed: it has other credentials now, it
    /// accepts no record, or it has lost every broker that it knew.
    GiveUp,
    /// The ended producer has settled: no more reports of it will come.
    Settled {
        /// Number of its records that were never answered.
        unanswered: usize,
    },
    /// End offset (one past the last record) of each requested partition; `None` if the ends could
    /// not be read.
    Ends(Option<Vec<(RouteId, i32, i64)>>),
    /// A halted stream is tried again: an operator has consented or asked for it, or the recorded
    /// halt has ended.
    Retry,
    /// The state topic holds the halt. The value carries the time and run of its recording, and
    /// replaces the halt in memory.
    HaltRecorded(Box<Halt>),
    /// Read no more frames. Deliveries, checkpoints and status updates continue.
    Pause,
    /// End a pause: read frames again.
    Resume,
    /// Stop cleanly within [`Settings::stop_patience`].
    Stop,
}

/// A status update to send. Its apply position equals `flush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Position written: the last received one, or the same as `flush`.
    pub write: Lsn,
    /// Newly confirmed position, or zero if nothing new is confirmed.
    pub flush: Lsn,
    /// True to ask the server for a keepalive.
    pub ask: bool,
}

/// An action that the runner performs for the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect and check continuity. The answer is `Opened`, `Lost` or `Halt`.
    Open,
    /// Close the replication connection.
    Close,
    /// Write the checkpoint. The answer is `RecordWritten` or `RecordFailed`.
    Write(Box<Checkpoint>),
    /// Write the halt to the state topic. The answer is `HaltRecorded`.
    RecordHalt(Box<Halt>),
    /// Send this status update to the server.
    Update(Update),
    /// End the producer: purge its queue and wait for its records in flight. The answer is
    /// `Settled`. The next producer has this generation and starts after that answer.
    Settle(Generation),
    /// Detach the tables with records on this topic before the stream is read again. The recorded
    /// gap of each table has to begin at this Position or earlier.
    Detach {
        /// The topic that refused a record or lost records.
        route: RouteId,
        /// Position from which on the topic lacks records.
        from: Position,
        /// Reason for detaching the tables.
        reason: Reason,
    },
    /// Read the end offsets of the partitions in [`super::Core::partitions`]. The answer is `Ends`.
    Ends,
    /// Count and log that another producer wrote to this topic.
    Foreign(RouteId),
    /// Count and log that the stream is read again because of records of another producer.
    Replay,
    /// End the process with this result.
    Exit(Stopped),
}
