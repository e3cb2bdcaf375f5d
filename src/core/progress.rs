//! When progress is recorded: within a second of a delivery, whatever the status interval is.
//!
//! A crash repeats what is not recorded, so that this bounds what it repeats. A connection that recorded progress, or
//! streamed for a minute, was worth having: attempts to connect begin anew after it.

use super::{Moment, SECOND};
use crate::ledger::{Ledger, Ticket};
use crate::lsn::Lsn;

/// The longest time from a delivery to its record, under load.
const RECORD_INTERVAL: u64 = SECOND;

/// A record costs one request to Kafka, so that records are never closer than this.
const RECORD_SPACING: u64 = SECOND / 10;

/// So much of the stream's own time delivered is recorded before the interval is over: a stream that catches up delivers
/// many seconds of commits in one.
const RECORD_STREAM_MICROS: i64 = 1_000_000;

/// So much log delivered is recorded before the interval is over: it is what a crash would repeat.
const RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// Nothing was sent for this long and everything is delivered: the stream has fallen idle.
const IDLE: u64 = SECOND / 5;

/// A connection that streamed for this long led somewhere, also where nothing changed meanwhile.
const WORTHWHILE: u64 = 60 * SECOND;

/// What the newest record says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recorded {
    /// Everything before it is in Kafka.
    pub delivered: Lsn,
    /// When the newest commit there was made, in Unix microseconds.
    pub committed: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Progress {
    /// When the newest record was asked for, and the oldest undelivered ticket then.
    written_at: Moment,
    written: Ticket,
    /// No delivery of this connection is recorded yet.
    first: bool,
    /// What was delivered when this connection began.
    began: Lsn,
    connected_at: Moment,
    /// The next ticket when it last moved, and when that was.
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

    /// A connection begins.
    pub fn connected(&mut self, now: Moment, delivered: Lsn) {
        (self.first, self.began, self.connected_at) = (true, delivered, now);
    }

    /// A record is on its way; `oldest` is the first ticket that it does not cover.
    pub fn writes(&mut self, now: Moment, oldest: Ticket) {
        if oldest > self.written {
            self.first = false;
        }
        (self.written_at, self.written) = (now, oldest);
    }

    /// A record is acknowledged; true if it shows that this connection led somewhere.
    pub fn recorded(&self, delivered: Lsn) -> bool {
        delivered > self.began
    }

    /// Notes what was sent; true if the connection has lasted long enough to have been worth having.
    pub fn look(&mut self, now: Moment, ledger: &Ledger) -> bool {
        let next = ledger.next_ticket();
        if next != self.newest {
            (self.newest, self.sent_at) = (next, now);
        }
        now.since(self.connected_at) >= WORTHWHILE
    }

    /// Whether deliveries are to be recorded now; `recorded` is what the newest record says is delivered.
    pub fn is_due(&self, now: Moment, ledger: &Ledger, recorded: Recorded) -> bool {
        self.due_at(ledger, recorded).is_some_and(|at| now >= at)
    }

    /// When deliveries are to be recorded; `None` where there are none to record.
    pub fn due_at(&self, ledger: &Ledger, recorded: Recorded) -> Option<Moment> {
        if ledger.oldest() == self.written || ledger.confirmed() <= recorded.delivered {
            return None;
        }
        let soon = self.written_at.plus(RECORD_SPACING);
        let committed = ledger.last_commit().map(|commit| commit.at.unix_micros());
        let stream_micros = committed.zip(recorded.committed).map_or(0, |(now, then)| now.saturating_sub(then));
        let much = ledger.confirmed().bytes_since(recorded.delivered) >= RECORD_BYTES;
        if self.first || much || stream_micros >= RECORD_STREAM_MICROS {
            return Some(soon);
        }
        let idle = ledger.is_settled().then(|| self.sent_at.plus(IDLE).max(soon));
        let interval = self.written_at.plus(RECORD_INTERVAL);
        Some(idle.map_or(interval, |idle| idle.min(interval)))
    }
}
