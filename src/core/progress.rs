//! When a checkpoint is due: within a second of a delivery, although status updates can be further
//! apart.
//!
//! A crash repeats everything that no checkpoint records, so this interval bounds the repeats. A
//! connection was worthwhile if it recorded progress or streamed for a minute. After a worthwhile
//! connection the delay between attempts to connect starts again at the minimum.

use super::{Moment, SECOND};
use crate::ledger::{Ledger, Ticket};
use crate::lsn::Lsn;

/// Longest time from a delivery to its checkpoint, under load.
const RECORD_INTERVAL: u64 = SECOND;

/// Shortest time between two checkpoints. Each one costs a request to Kafka.
const RECORD_SPACING: u64 = SECOND / 10;

/// A checkpoint is due early when the newest delivered commit is this much later, by commit time,
/// than the newest recorded one. A stream that catches up delivers many seconds of commits in one
/// second.
const RECORD_STREAM_MICROS: i64 = 1_000_000;

/// A checkpoint is due early when this much WAL was delivered since the last one. A crash would
/// repeat it.
const RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// The stream counts as idle when everything is delivered and nothing was sent for this long.
const IDLE: u64 = SECOND / 5;

/// A connection that streamed for this long was worthwhile, even if no change arrived.
const WORTHWHILE: u64 = 60 * SECOND;

/// Delivered position and time in the newest acknowledged checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recorded {
    /// The delivered position in the checkpoint: everything before it is in Kafka.
    pub delivered: Lsn,
    /// Commit time of the newest commit at or below `delivered`, in Unix microseconds.
    pub committed: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Progress {
    /// Moment at which the newest checkpoint was requested. `written` is the oldest undelivered
    /// ticket at that moment.
    written_at: Moment,
    written: Ticket,
    /// True until a checkpoint records a delivery of this connection.
    first: bool,
    /// The delivered position when this connection began.
    began: Lsn,
    connected_at: Moment,
    /// The ledger's next ticket at the last look. `sent_at` is the moment at which a look last
    /// found this ticket higher than before, because a record was sent.
    newest: Ticket,
    sent_at: Moment,
}

impl Progress {
    pub fn new(now: Moment) -> Self {
        Progress {
            written_at: now,
            written: Ticket(1),
            first: true,
            began: Lsn::ZERO,
            connected_at: now,
            newest: Ticket(1),
            sent_at: now,
        }
    }

    /// Notes the begin of a connection. `delivered` is the delivered position at that time.
    pub fn connected(&mut self, now: Moment, delivered: Lsn) {
        (self.first, self.began, self.connected_at) = (true, delivered, now);
    }

    /// Notes that a checkpoint is being written. `oldest` is the first ticket that it does not
    /// cover.
    pub fn writes(&mut self, now: Moment, oldest: Ticket) {
        if oldest > self.written {
            self.first = false;
        }
        (self.written_at, self.written) = (now, oldest);
    }

    /// True if an acknowledged checkpoint with this delivered position shows progress of this
    /// connection.
    pub fn recorded(&self, delivered: Lsn) -> bool {
        delivered > self.began
    }

    /// Notes whether records were sent since the last call. Returns true if the connection has
    /// lasted long enough to be worthwhile.
    pub fn look(&mut self, now: Moment, ledger: &Ledger) -> bool {
        let next = ledger.next_ticket();
        if next != self.newest {
            (self.newest, self.sent_at) = (next, now);
        }
        now.since(self.connected_at) >= WORTHWHILE
    }

    /// True if a checkpoint is due now. `recorded` is the content of the newest acknowledged
    /// checkpoint.
    pub fn is_due(&self, now: Moment, ledger: &Ledger, recorded: Recorded) -> bool {
        self.due_at(ledger, recorded).is_some_and(|at| now >= at)
    }

    /// When the next checkpoint is due; `None` if a checkpoint records every delivery that can be
    /// recorded.
    pub fn due_at(&self, ledger: &Ledger, recorded: Recorded) -> Option<Moment> {
        if ledger.oldest() == self.written || ledger.confirmed() <= recorded.delivered {
            return None;
        }
        let soon = self.written_at.plus(RECORD_SPACING);
        let committed = ledger.last_commit().map(|commit| commit.at.unix_micros());
        let stream_micros =
            committed.zip(recorded.committed).map_or(0, |(now, then)| now.saturating_sub(then));
        let much = ledger.confirmed().bytes_since(recorded.delivered) >= RECORD_BYTES;
        if self.first || much || stream_micros >= RECORD_STREAM_MICROS {
            return Some(soon);
        }
        let idle = ledger.is_settled().then(|| self.sent_at.plus(IDLE).max(soon));
        let interval = self.written_at.plus(RECORD_INTERVAL);
        Some(idle.map_or(interval, |idle| idle.min(interval)))
    }
}
