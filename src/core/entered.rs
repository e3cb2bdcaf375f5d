//! The core between events: what the row path enters, and what status and metrics read.

use super::{Core, Moment, REPLY_SPACING, Recorded, SECOND, Session, Settings};
use crate::change::{Committed, Position};
use crate::continuity::checkpoint::{Checkpoint, TableIdentity};
use crate::continuity::{Halt, Reason};
use crate::ledger::{Generation, Ledger, RouteId, Ticket};
use crate::lsn::{Lsn, PgMicros};
use std::collections::BTreeMap;

/// What the row path enters, between events.
impl Core {
    /// Takes the spacings that follow from the server's wal_sender_timeout.
    pub fn retime(&mut self, settings: Settings) {
        self.settings = Settings { seed: self.settings.seed, ..settings };
    }

    /// The ticket of the next record.
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        self.ledger.next_ticket()
    }

    /// The producer whose reports count.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether frames may be read and handled now: the slot is held, the producer whole, the budget not used up, and no
    /// stop asks for the stream to end here.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let budget = self.settings.budget_bytes;
        // What waits beside must not stop the stream, for whose progress it waits.
        let beside = self.beside_bytes.min(budget / 2);
        self.wants_frames()
            && !self.is_settling()
            && self.now >= self.not_before
            && self.ledger.in_flight_bytes() + beside < budget
    }

    /// Notes how many bytes of copied rows are held besides what is in flight.
    pub fn hold_beside(&mut self, bytes: usize) {
        self.beside_bytes = bytes;
    }

    /// Somebody waits until this position is recorded as confirmed: not for longer than it takes to confirm it.
    pub fn want_recorded(&mut self, position: Lsn) {
        let recorded = self.record.as_ref().map_or(Lsn::ZERO, |record| record.confirmed);
        self.record_wanted = recorded < position && position <= self.ledger.confirmed() && self.holds.floor().is_none();
    }

    /// The captured tables are these from now on: recorded at once.
    pub fn retable(&mut self, tables: BTreeMap<String, TableIdentity>) {
        self.tables = Some(tables);
    }

    /// Whether the stream stands between Begin and Commit.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether frames wait for deliveries: they would be read, and the budget is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.wants_frames() && !self.has_room()
    }

    /// A stop lets an open transaction come to its end for half of its patience, so that none is sent twice. A pause does
    /// not wait for one: what is read of it is delivered, and confirmed once the rest has been.
    pub(super) fn wants_frames(&self) -> bool {
        let ending = self
            .stop
            .is_some_and(|until| !self.in_transaction || until.since(self.now) < self.settings.stop_patience / 2);
        self.session == Session::Streaming && !ending && !self.paused && !self.copying
    }

    /// From here on rows of the first copy are entered, and no frame is wanted: what the stream brings comes after them.
    pub fn begin_copy(&mut self) {
        self.copying = true;
    }

    /// The first copy is over, or has ended with its connection.
    pub fn end_copy(&mut self) {
        self.copying = false;
    }

    /// Whether copied rows may be entered now; `beside_bytes` are held for the copy besides what is in flight. A stop ends
    /// a copy where it is, a pause holds it.
    #[must_use]
    pub fn has_room_to_copy(&self, beside_bytes: usize) -> bool {
        self.copying
            && self.session == Session::Streaming
            && self.stop.is_none()
            && !self.paused
            && !self.is_settling()
            && self.ledger.in_flight_bytes().saturating_add(beside_bytes) < self.settings.budget_bytes
    }

    /// Whether the first copy is under way.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.copying
    }

    /// Notes Begin.
    pub fn begun(&mut self) {
        self.in_transaction = true;
    }

    /// The halt that is due at this Position, if Kafka has refused its record for good.
    #[inline]
    #[must_use]
    pub fn blocks(&self, position: Position) -> Option<&Halt> {
        self.blocked.as_ref().filter(|(blocked, _)| *blocked == position).map(|(_, halt)| halt)
    }

    /// Notes a record handed to the producer under [`Core::next_ticket`].
    pub fn sent(&mut self, route: RouteId, position: Position, size_bytes: usize) {
        self.sent = self.sent.max(position.commit);
        self.ledger.sent(route, position, size_bytes);
    }

    /// Notes a transaction's end; `records`: whether any of its changes was sent.
    ///
    /// # Errors
    /// When the replay does not bring the commit that the record expects.
    pub fn committed(&mut self, commit: Committed, records: bool) -> Result<(), Halt> {
        self.in_transaction = false;
        if let Some(expected) = self.expect {
            if commit == expected {
                self.expect = None;
            } else if commit.end >= expected.end {
                return Err(self.differs(expected, commit.end));
            }
        }
        self.received = self.received.max(commit.end);
        self.sequence = Some(commit.end);
        if records {
            self.sent = self.sent.max(commit.end);
            self.ledger.committed(commit);
        } else {
            self.ledger.keepalive(commit.end);
        }
        Ok(())
    }

    /// Notes a keepalive. Inside a transaction it only tells how far the server has sent.
    ///
    /// # Errors
    /// When it lies beyond a commit that should have come first.
    pub fn keepalive(&mut self, end: Lsn) -> Result<(), Halt> {
        self.received = self.received.max(end);
        if self.in_transaction {
            return Ok(());
        }
        if let Some(expected) = self.expect
            && end >= expected.end
        {
            return Err(self.differs(expected, end));
        }
        self.ledger.keepalive(end);
        Ok(())
    }

    /// Notes a non-transactional message: it counts as a commit in `sequence[0]`, and is confirmed by what follows.
    pub fn message(&mut self, lsn: Lsn) {
        self.sequence = Some(lsn);
    }

    fn differs(&self, expected: Committed, reached: Lsn) -> Halt {
        let detail = format!("the commit ending at {} (xid {}) did not come again", expected.end, expected.xid);
        Halt::new(Reason::HistoryDiffers, detail).over(self.ledger.confirmed(), reached)
    }
}

impl Core {
    /// What the newest record says is delivered.
    pub(super) fn recorded(&self) -> Recorded {
        let Some(record) = &self.record else { return Recorded::default() };
        let committed = record.delivered_commit.map(|commit| commit.at.unix_micros());
        Recorded { delivered: record.delivered, committed }
    }
}

/// What status and metrics read.
impl Core {
    /// The ledger, to read.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Commit times of transactions acknowledged since the last call, for the latency histogram.
    pub fn take_acknowledged(&mut self) -> impl Iterator<Item = PgMicros> + '_ {
        self.ledger.take_acknowledged()
    }

    /// The newest acknowledged record.
    #[must_use]
    pub fn record(&self) -> Option<&Checkpoint> {
        self.record.as_ref()
    }

    /// Larger of the last Commit's end and the last keepalive's end.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// The moment of the last event.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Highest flush position sent on this connection.
    #[must_use]
    pub fn flushed(&self) -> Lsn {
        self.flushed
    }

    /// Until when the slot is held back by the oldest confirm hold, while there is one.
    #[must_use]
    pub fn held_until(&self) -> Option<Moment> {
        self.holds.until()
    }

    /// The partitions our records landed on, to ask for their ends: see [`super::Action::Ends`].
    pub fn partitions(&self) -> impl Iterator<Item = (RouteId, i32)> + '_ {
        self.offsets.tracked().map(|(route, partition, _)| (route, partition))
    }

    /// The halt, if there is one.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        match &self.session {
            Session::Halted(halt) | Session::Draining { halt, .. } => Some(halt),
            _ => None,
        }
    }

    /// Whether changes flow, or would if there were any.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.session == Session::Streaming
    }

    /// Whether an operator wants no frame read.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Connects that failed or broke since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When [`Event::Tick`] is wanted next, at the latest.
    #[must_use]
    pub fn next_tick(&self) -> Moment {
        let mut next = self.now.plus(SECOND);
        let mut sooner = |at: Moment| next = next.min(at.max(self.now));
        match &self.session {
            Session::Closed { open_at } => sooner(*open_at),
            Session::Recording(_) | Session::Streaming | Session::Draining { .. } => {
                sooner(self.status_at);
                if let Some(due) =
                    self.progress.due_at(&self.ledger, self.recorded()).filter(|_| self.writing.is_none())
                {
                    sooner(due);
                }
                if self.reply_wanted {
                    sooner(self.last_update.plus(REPLY_SPACING));
                }
            }
            Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
        if self.not_before > self.now {
            sooner(self.not_before);
        }
        self.holds.next_tick().into_iter().chain(self.stop).for_each(&mut sooner);
        next.max(self.now.plus(1000)) // a timer of a millisecond is the finest the runtime has
    }
}
