//! Methods of the core that are called between events: the row path enters records and commits, and
//! status and metrics read positions.

use super::{Core, Moment, REPLY_SPACING, Recorded, SECOND, Session, Settings};
use crate::change::{Committed, Position};
use crate::continuity::checkpoint::{Checkpoint, TableIdentity};
use crate::continuity::{Halt, Reason};
use crate::ledger::{Generation, Ledger, RouteId, Ticket};
use crate::lsn::{Lsn, PgMicros};
use std::collections::BTreeMap;

/// Methods of the row path and of copies. They are called between events.
impl Core {
    /// Replaces the settings once the server's wal_sender_timeout is known, because intervals
    /// depend on it. The seed stays.
    pub fn retime(&mut self, settings: Settings) {
        self.settings = Settings { seed: self.settings.seed, ..settings };
    }

    /// The ticket that the next record will get.
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        self.ledger.next_ticket()
    }

    /// The generation of the running producer. Its delivery reports count, and so do those of the
    /// producer that is being settled.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.producers.generation
    }

    /// True if frames may be read and handled now: the stream is open, the previous producer is
    /// settled, the budget is not used up, the delay after a refused record is over, and no stop,
    /// pause or first copy forbids reading.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.wants_frames()
            && !self.is_settling()
            && self.now >= self.retries.not_before
            && self.budget_used_bytes() < self.settings.budget_bytes
    }

    /// Bytes that count against the budget before a frame is read: the bytes in flight, and the
    /// buffered backfill rows.
    #[must_use]
    pub fn budget_used_bytes(&self) -> usize {
        // Buffered backfill rows count as at most half of the budget. These rows are sent only when
        // the stream advances, so they must not keep the stream from being read.
        let buffered = self.control.buffered_bytes.min(self.settings.budget_bytes / 2);
        self.ledger.in_flight_bytes() + buffered
    }

    /// Notes how many bytes of backfill rows are buffered, besides the bytes in flight.
    pub fn note_buffered(&mut self, bytes: usize) {
        self.control.buffered_bytes = bytes;
    }

    /// Notes that a caller waits until `position` is recorded as confirmed. If no checkpoint
    /// records it yet and the position can be confirmed already, a checkpoint is written for the
    /// caller.
    pub fn want_recorded(&mut self, position: Lsn) {
        let recorded =
            self.checkpoints.newest.as_ref().map_or(Lsn::ZERO, |record| record.confirmed);
        self.checkpoints.wanted = recorded < position
            && position <= self.ledger.confirmed()
            && self.holds.floor().is_none();
    }

    /// Replaces the identities of the captured tables. The next checkpoint is due at once.
    pub fn retable(&mut self, tables: BTreeMap<String, TableIdentity>) {
        self.checkpoints.tables = Some(tables);
    }

    /// True between Begin and Commit.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.place.in_transaction
    }

    /// True if frames would be read but must wait: the budget is used up, the previous producer is
    /// being settled, or the delay after a refused record is not over.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.wants_frames() && !self.has_room()
    }

    /// True if the stream is open and no stop, pause or first copy forbids reading. The function
    /// does not ask whether there is room. A stop lets an open transaction continue for half of the
    /// stop's patience, so that the transaction need not be sent twice. A pause does not wait for
    /// the transaction's end. The part that was read is delivered, and is confirmed with the rest
    /// later.
    pub(super) fn wants_frames(&self) -> bool {
        let ending = self.control.stop.is_some_and(|until| {
            !self.place.in_transaction || until.since(self.now) < self.settings.stop_patience / 2
        });
        self.session == Session::Streaming
            && !ending
            && !self.control.paused
            && !self.control.copying
    }

    /// Begins the first copy. Its rows are entered from now on, and no frame is read until the copy
    /// ends.
    pub fn begin_copy(&mut self) {
        self.control.copying = true;
    }

    /// Ends the first copy, because it is complete or its connection is gone.
    pub fn end_copy(&mut self) {
        self.control.copying = false;
    }

    /// True if copied rows may be entered now. `buffered_bytes` are the bytes that the copy
    /// buffers, besides the bytes in flight. A stop ends a copy where it is, and a pause suspends
    /// it.
    #[must_use]
    pub fn has_room_to_copy(&self, buffered_bytes: usize) -> bool {
        self.control.copying
            && self.session == Session::Streaming
            && self.control.stop.is_none()
            && !self.control.paused
            && !self.is_settling()
            && self.ledger.in_flight_bytes().saturating_add(buffered_bytes)
                < self.settings.budget_bytes
    }

    /// True while the first copy runs.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.control.copying
    }

    /// Notes the begin of a transaction whose commit lies at `commit`.
    ///
    /// # Errors
    /// The transaction's commit lies at or beyond the end of the commit that has to come first.
    /// None of the transaction's changes may be sent.
    pub fn begun(&mut self, commit: Lsn) -> Result<(), Halt> {
        if let Some(expected) = self.place.expect
            && commit >= expected.0.end
        {
            return Err(self.differs(expected, commit));
        }
        self.place.in_transaction = true;
        Ok(())
    }

    /// Returns the halt that must happen before the change at this Position, because Kafka has
    /// permanently refused a record of the change. `None` for the Position of any other change.
    #[inline]
    #[must_use]
    pub fn blocks(&self, position: Position) -> Option<&Halt> {
        self.refusals
            .blocked
            .as_ref()
            .filter(|(blocked, _)| *blocked == position)
            .map(|(_, halt)| halt)
    }

    /// Enters a record into the ledger. The record was handed to the producer under the ticket of
    /// [`Core::next_ticket`].
    pub fn sent(&mut self, route: RouteId, position: Position, size_bytes: usize) {
        self.place.sent = self.place.sent.max(position.commit);
        self.ledger.sent(route, position, size_bytes);
    }

    /// Returns the epoch of the newest checkpoint, and the highest commit position of a sent
    /// record.
    #[must_use]
    pub fn sent_upto(&self) -> (u64, Lsn) {
        (self.checkpoints.newest.as_ref().map_or(0, |record| record.epoch), self.place.sent)
    }

    /// Notes the end of a transaction. `records` is true if any of its changes was sent.
    ///
    /// # Errors
    /// This commit lies at or beyond the end of another commit that should have come first.
    pub fn committed(&mut self, commit: Committed, records: bool) -> Result<(), Halt> {
        self.place.in_transaction = false;
        if let Some(expected) = self.place.expect {
            if commit == expected.0 {
                self.place.expect = None;
            } else if commit.end >= expected.0.end {
                return Err(self.differs(expected, commit.end));
            }
        }
        self.place.received = self.place.received.max(commit.end);
        // A commit that comes again and is left out does not lower the sequence.
        self.place.sequence = self.place.sequence.max(Some(commit.end));
        if records {
            self.place.sent = self.place.sent.max(commit.end);
            self.ledger.committed(commit);
        } else {
            self.ledger.keepalive(commit.end);
        }
        Ok(())
    }

    /// Notes a keepalive. Inside a transaction it only shows how far the server has sent.
    ///
    /// # Errors
    /// The keepalive lies at or beyond the end of a commit that should have come first.
    pub fn keepalive(&mut self, end: Lsn) -> Result<(), Halt> {
        self.place.received = self.place.received.max(end);
        if self.place.in_transaction {
            return Ok(());
        }
        if let Some(expected) = self.place.expect
            && end >= expected.0.end
        {
            return Err(self.differs(expected, end));
        }
        self.ledger.keepalive(end);
        Ok(())
    }

    /// Notes a non-transactional message. Its LSN becomes `source.sequence[0]` of later events, as
    /// the end of a commit does. The message is confirmed with the next entry of the ledger.
    pub fn message(&mut self, lsn: Lsn) {
        self.place.sequence = Some(lsn);
    }

    /// Makes the halt about an expected commit that the replay did not bring. If changes were left
    /// out before this commit, they are in doubt too, and the halt's range begins at the slot's
    /// position.
    fn differs(&self, (expected, confirmable): (Committed, Lsn), reached: Lsn) -> Halt {
        let detail = format!(
            "the commit ending at {} (xid {}) did not come again",
            expected.end, expected.xid
        );
        Halt::new(Reason::HistoryDiffers, detail)
            .over(self.ledger.confirmed().min(confirmable), reached)
    }
}

impl Core {
    /// Delivered position and commit time in the newest acknowledged checkpoint.
    pub(super) fn recorded(&self) -> Recorded {
        let Some(record) = &self.checkpoints.newest else { return Recorded::default() };
        let committed = record.delivered_commit.map(|commit| commit.at.unix_micros());
        Recorded { delivered: record.delivered, committed }
    }
}

/// Methods that read the core's state for status and metrics.
impl Core {
    /// The ledger of the running producer, read-only.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Commit times of transactions acknowledged since the last call, for the latency histogram.
    pub fn take_acknowledged(&mut self) -> impl Iterator<Item = PgMicros> + '_ {
        self.ledger.take_acknowledged()
    }

    /// The newest acknowledged checkpoint; `None` before the first one.
    #[must_use]
    pub fn record(&self) -> Option<&Checkpoint> {
        self.checkpoints.newest.as_ref()
    }

    /// The larger of the last Commit's end and the last keepalive's end on this connection.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.place.received
    }

    /// The moment of the last event.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Highest flush position sent on this connection. It starts as the slot's confirmed position.
    #[must_use]
    pub fn flushed(&self) -> Lsn {
        self.updates.flushed
    }

    /// End of the oldest confirm hold; `None` when no hold is open.
    #[must_use]
    pub fn held_until(&self) -> Option<Moment> {
        self.holds.until()
    }

    /// The partitions on which records of ours landed or whose end was read.
    /// [`super::Action::Ends`] asks for their ends.
    pub fn partitions(&self) -> impl Iterator<Item = (RouteId, i32)> + '_ {
        self.offsets.tracked().map(|(route, partition, _)| (route, partition))
    }

    /// The halt, if there is one, also while the changes before it are still being delivered.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        match &self.session {
            Session::Halted(halt) | Session::Draining { halt, .. } => Some(halt),
            _ => None,
        }
    }

    /// True while the stream is open, even if it is paused. False while connecting, draining,
    /// halted or stopped.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.session == Session::Streaming
    }

    /// True while an operator has paused the stream.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.control.paused
    }

    /// True once a stop was requested.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.control.stop.is_some()
    }

    /// Number of failed attempts to connect and of lost connections since the last connection that
    /// made progress.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.retries.attempts
    }

    /// Returns the latest moment at which the runner has to report the next [`Event::Tick`].
    #[must_use]
    pub fn next_tick(&self) -> Moment {
        let mut next = self.now.plus(SECOND);
        let mut sooner = |at: Moment| next = next.min(at.max(self.now));
        match &self.session {
            Session::Closed { open_at } => sooner(*open_at),
            Session::Recording(_) | Session::Streaming | Session::Draining { .. } => {
                sooner(self.updates.due_at);
                if let Some(due) = self
                    .checkpoints
                    .progress
                    .due_at(&self.ledger, self.recorded())
                    .filter(|_| self.checkpoints.writing.is_none())
                {
                    sooner(due);
                }
                if self.updates.reply_wanted {
                    sooner(self.updates.last.plus(REPLY_SPACING));
                }
            }
            Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
        if self.retries.not_before > self.now {
            sooner(self.retries.not_before);
        }
        self.holds.next_tick().into_iter().chain(self.control.stop).for_each(&mut sooner);
        next.max(self.now.plus(1000)) // a timer of a millisecond is the finest the runtime has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::Resume;
    use crate::continuity::checkpoint::sample;
    use crate::core::{Action, Event, LastStop, Opened, Outcome, Report};
    use crate::lsn::Xid;

    const EXPECTED: Committed = Committed { end: Lsn::new(1050), xid: Xid(9), at: PgMicros(1) };

    /// A stream whose replay has to bring the expected commit.
    fn unproven() -> Core {
        opened(Resume::at_slot(Lsn::new(1000), Some(EXPECTED)), 1000)
    }

    fn opened(resume: Resume, slot: u64) -> Core {
        let settings = Settings {
            status_interval: 10 * SECOND,
            hold: 0,
            freeze: 60 * SECOND,
            budget_bytes: 1 << 20,
            stop_patience: SECOND,
            seed: 1,
        };
        let mut core = Core::new(settings, Moment(SECOND));
        core.apply(core.now, Event::Tick);
        let opened = Opened {
            resume,
            slot_confirmed: Lsn::new(slot),
            record: Checkpoint { clean: false, ..sample() },
            last_stop: LastStop::Clean,
            unix_ms: 0,
            ends: Vec::new(),
        };
        core.apply(core.now.plus(SECOND), Event::Opened(Box::new(opened)));
        core.apply(core.now, Event::RecordWritten);
        core
    }

    /// The flush positions that a reply to the server carries.
    fn flushed(core: &mut Core) -> Vec<Lsn> {
        let now = core.now.plus(SECOND);
        let flush = |action| match action {
            Action::Update(update) => Some(update.flush),
            _ => None,
        };
        core.apply(now, Event::Burst { reply: true }).into_iter().filter_map(flush).collect()
    }

    #[test]
    fn what_was_sent_is_known_before_a_checkpoint_says_so() {
        let mut core = opened(Resume::at_slot(Lsn::new(1000), None), 1000);
        assert_eq!(core.sent_upto(), (1, Lsn::new(1100)));
        core.begun(Lsn::new(1290)).unwrap();
        core.sent(RouteId(0), Position { commit: Lsn::new(1290), ordinal: 0 }, 10);
        core.apply(core.now, Event::Lost { retry_later: false });
        assert_eq!(core.record().map(|record| record.sent), Some(Lsn::new(1100)));
        assert_eq!(core.sent_upto(), (1, Lsn::new(1290)));
    }

    #[test]
    fn the_budget_is_used_up_exactly_when_there_is_no_room() {
        let mut core = opened(Resume::at_slot(Lsn::new(1000), None), 1000);
        let budget = core.settings.budget_bytes;
        core.note_buffered(budget);
        assert_eq!((core.budget_used_bytes(), core.has_room()), (budget / 2, true));
        core.begun(Lsn::new(1290)).unwrap();
        core.sent(RouteId(0), Position { commit: Lsn::new(1290), ordinal: 0 }, budget / 2);
        assert!(core.budget_used_bytes() >= budget && !core.has_room());
        assert!(core.ledger().in_flight_bytes() < budget);
        core.note_buffered(0);
        assert_eq!(core.budget_used_bytes(), core.ledger().in_flight_bytes());
    }

    #[test]
    fn what_is_left_out_is_not_confirmed_before_its_proof() {
        let (from, expect) = (EXPECTED.end, Some(EXPECTED));
        let mut core = opened(Resume { from, leaves_out: true, expect }, 900);
        core.begun(Lsn::new(1040)).unwrap();
        let unproven = flushed(&mut core);
        assert!(!unproven.is_empty() && unproven.iter().all(|flush| *flush == Lsn::ZERO));
        core.committed(EXPECTED, false).unwrap();
        assert!(flushed(&mut core).contains(&Lsn::new(1000)), "the recorded position");

        let mut core = opened(Resume { from, leaves_out: true, expect }, 900);
        let halt = core.keepalive(Lsn::new(1060)).unwrap_err();
        let range = halt.range.map(|range| (range.from.bytes(), range.to.bytes()));
        assert_eq!((halt.reason, range), (Reason::HistoryDiffers, Some((900, 1060))));
    }

    /// Delivers the one record of a transaction. Returns the checkpoint that is written about it.
    fn delivered(core: &mut Core, commit: Committed) -> Checkpoint {
        let ticket = core.next_ticket();
        core.sent(RouteId(0), Position { commit: commit.end, ordinal: 0 }, 10);
        core.committed(commit, true).unwrap();
        let outcome = Outcome::Landed { partition: 0, offset: i64::try_from(ticket.0).unwrap() };
        core.reports(core.now, &[Report { ticket, generation: core.generation(), outcome }]);
        let actions = core.apply(core.now.plus(10 * SECOND), Event::Tick);
        core.apply(core.now, Event::RecordWritten);
        let written = actions.into_iter().find_map(|action| match action {
            Action::Write(record) => Some(*record),
            _ => None,
        });
        written.unwrap()
    }

    #[test]
    fn a_transaction_beyond_the_expected_commit_never_begins() {
        let mut core = unproven();
        core.begun(Lsn::new(1049)).unwrap();
        core.committed(EXPECTED, false).unwrap();
        core.begun(EXPECTED.end).unwrap();
        let mut core = unproven();
        assert_eq!(core.begun(EXPECTED.end).unwrap_err().reason, Reason::HistoryDiffers);
        assert!(!core.is_in_transaction());
    }

    #[test]
    fn an_unproven_server_raises_no_recorded_position() {
        let mut core = unproven();
        let seen = sample().server_seen;
        core.begun(Lsn::new(1010)).unwrap();
        core.keepalive(Lsn::new(5000)).unwrap(); // inside a transaction, so that it proves nothing
        let other = Committed { end: Lsn::new(1018), xid: Xid(8), at: PgMicros(1) };
        assert_eq!(delivered(&mut core, other).server_seen, seen);
        core.begun(Lsn::new(1042)).unwrap();
        assert_eq!(delivered(&mut core, EXPECTED).server_seen, Lsn::new(5000));
    }
}
