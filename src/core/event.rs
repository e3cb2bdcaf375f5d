//! What the core is told and what it answers with: plain values.

use crate::change::Position;
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::{Halt, Reason, Resume};
use crate::ledger::{Generation, RouteId, Ticket};
use crate::lsn::Lsn;

/// Microseconds of a clock that only moves forward and counts suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// A later moment.
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

/// One second.
pub const SECOND: u64 = 1_000_000;

/// What the core is told at start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest silence towards the server: min(10 s, wal_sender_timeout / 3), in microseconds.
    pub status_interval: u64,
    /// How long a confirm hold lasts after an unclean stop, in microseconds.
    pub hold: u64,
    /// A pause of ours longer than this has cost us the slot: wal_sender_timeout, or 60 s where that is 0.
    pub freeze: u64,
    /// Bytes in flight, [`crate::ledger::RECORD_OVERHEAD_BYTES`] included; one larger record may go alone.
    pub budget_bytes: usize,
    /// How long a stop waits for Kafka, in microseconds.
    pub stop_patience: u64,
    /// Makes reconnects of many agents differ.
    pub seed: u64,
}

/// What a report of the producer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged at an offset; -1 for a duplicate that the broker had already.
    Landed {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// Not delivered. `permanent`: a new try of the same record would end the same way.
    Failed {
        /// See above.
        permanent: bool,
        /// Whether the failure is of this record or its topic alone.
        of_topic: bool,
    },
}

/// A delivery report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The record.
    pub ticket: Ticket,
    /// Its producer.
    pub generation: Generation,
    /// What became of it.
    pub outcome: Outcome,
}

/// A proven connection: the slot is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Where the stream resumes.
    pub resume: Resume,
    /// The slot's own confirmed position: at or below `resume.from`.
    pub slot_confirmed: Lsn,
    /// The record to write before anything is processed; its term is new.
    pub record: Checkpoint,
    /// What the newest record says of the stop before.
    pub last_stop: LastStop,
    /// Unix milliseconds at this event.
    pub unix_ms: i64,
    /// Where another process has left confirm holds open: the ends of the partitions before anything was sent on this
    /// connection. What lands there besides our own records is of an earlier producer.
    pub ends: Vec<(RouteId, i32, i64)>,
}

/// What the newest record says of the stop before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// This process wrote it: what its producers left unanswered is known here.
    Own,
    /// Another process wrote it and stopped with nothing under way, or this is a first start.
    Clean,
    /// Another process wrote it and ended with records under way.
    Unclean,
}

/// How a stop on request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything read is delivered, recorded and confirmed: nothing comes again.
    Whole,
    /// The stream was never reached: nothing was sent.
    NothingSent,
    /// Everything sent is delivered, but the stream ends inside a transaction, which comes again as a whole.
    InTransaction,
    /// Everything sent is delivered, but the first copy is not over.
    InCopy,
    /// Deliveries or the confirmation were outstanding when time was up, or there was no connection to Postgres.
    Unanswered,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed; [`Core::next_tick`] says when this is wanted.
    Tick,
    /// A connection was opened and continuity proven.
    Opened(Box<Opened>),
    /// It could not be opened, or was lost; tried again, `retry_later` where only a person can change the outcome.
    Lost {
        /// See above.
        retry_later: bool,
    },
    /// It must not be opened, or a record can never be delivered.
    Halt(Halt),
    /// The record asked for is acknowledged.
    RecordWritten,
    /// It is not; tried again.
    RecordFailed,
    /// Frames were read and handled. `reply`: the server asked for an answer.
    Burst {
        /// See above.
        reply: bool,
    },
    /// The producer is to be given up, though nothing of it failed: another one can log in, and this one cannot.
    GiveUp,
    /// The producer that ended has answered for all it can; this many records it could not.
    Settled {
        /// See above.
        unanswered: usize,
    },
    /// Ends (one past the last offset) of the partitions asked for; `None` if they could not be read.
    Ends(Option<Vec<(RouteId, i32, i64)>>),
    /// An operator's consent was recorded: try a halted stream again.
    Retry,
    /// The state holds the halt, as it is told from here on.
    HaltRecorded(Box<Halt>),
    /// Read no more frames; everything else goes on.
    Pause,
    /// Read again.
    Resume,
    /// Stop cleanly.
    Stop,
}

/// A status update; apply equals flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Last received, or the same as `flush`.
    pub write: Lsn,
    /// Confirmed, or zero where nothing new is.
    pub flush: Lsn,
    /// Ask the server for a keepalive.
    pub ask: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect and prove continuity; answer with `Opened`, `Lost` or `Halt`.
    Open,
    /// Close the replication connection.
    Close,
    /// Write the confirm record; answer with `RecordWritten` or `RecordFailed`.
    Write(Box<Checkpoint>),
    /// Record the halt; answer with `HaltRecorded`.
    RecordHalt(Box<Halt>),
    /// Send a status update.
    Update(Update),
    /// End the producer: purge its queue, wait for what is in flight, answer with `Settled`. The next producer is of this
    /// generation and starts after that.
    Settle(Generation),
    /// Set aside the tables of this topic, from this Position on at the latest, before the stream is read again.
    Detach {
        /// The topic.
        route: RouteId,
        /// A record of it that is lacking.
        from: Position,
        /// Why.
        reason: Reason,
    },
    /// Read the ends of [`super::Core::partitions`]; answer with `Ends`.
    Ends,
    /// Count and log a foreign write.
    Foreign(RouteId),
    /// Log and count that the stream is read again because of foreign writes.
    Replay,
    /// End the process.
    Exit(Stopped),
}
