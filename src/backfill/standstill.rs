//! Standstills: copies of whole tables while the stream stands still. They serve tables without a
//! key, and every table of a standby, whose snapshots do not list the transactions of the primary.
//! There is one at a time, because each one creates a slot and stops the stream.
//! `snapshot::standstill` decides where the stream stops.

use super::shape::same_shape;
use super::waits::Cause;
use super::{Copies, Copy, Stage, Task};
use crate::change::RelationSlot;
use crate::core::SECOND;
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use crate::plans::Active;
use crate::postgres::holder::CopyTable;
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::snapshot::standstill::Standstill;
use crate::snapshot::temporary::Failure;
use crate::snapshot::window::{Journal, Next};
use crate::table::TableName;
use crate::table::typed::snapshot_of;

/// Pause after a try that ended because transactions wrote for too long. The stream may have stood
/// for 30 s during the try, and moves for as long before the next one.
const WRITERS_REST: u64 = 30 * SECOND;
/// Pause after a failure that is likely to last.
const REST: u64 = 5 * SECOND;
/// The most failures of one copy after rows were sent. Each of them makes the next standstill send
/// these rows again. After this many failures the copy fails for good.
const BROKEN_MAX: u8 = 3;

/// How far a copy by standstills is: whether all rows are delivered, and how often it failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// Position that a checkpoint has to confirm before the copy is over. `None` until all rows are
    /// delivered.
    pub ended: Option<Lsn>,
    /// Number of tries that failed after rows were sent.
    broken: u8,
}

/// The standstill under way.
pub(super) struct UnderWay {
    pub id: u64,
    /// The table's relation. `None` until the stream has sent a Relation message for it.
    slot: Option<RelationSlot>,
    /// The state of the standstill. `None` until the insert position of the server's WAL is noted.
    standstill: Option<Standstill>,
    pub rows: u64,
}

/// What the row path needs to send the rows of a standstill.
pub struct Sends {
    /// Index of the copy in the list of copies.
    pub copy: usize,
    /// Consistent point of the temporary slot: the rows are as of this position.
    pub point: Lsn,
    /// Plan and topic that the rows are encoded for.
    pub active: Active,
    /// Number of columns in each row.
    pub columns: usize,
}

impl UnderWay {
    /// True while no frame is read because of this standstill.
    pub fn stands(&self) -> bool {
        self.standstill.as_ref().is_some_and(Standstill::stands)
    }

    /// Returns a sentence about the present step of the standstill, and true if the consistent
    /// point and the snapshot are known.
    pub fn in_words(&self) -> (String, bool) {
        let Some(standstill) = &self.standstill else {
            return ("a session for it is being opened".to_owned(), false);
        };
        (standstill.in_words(), standstill.is_known())
    }
}

impl Copies {
    /// Returns the task that begins a standstill for the copy at this index. `None` if a standstill
    /// is under way, the table is not surveyed, the copy reads chunks, or all its rows are
    /// delivered.
    pub(super) fn next_standstill(&mut self, at: usize) -> Option<Task> {
        let copy = self.list.get_mut(at).filter(|_| self.standstill.is_none())?;
        let known = copy.known.as_ref()?;
        if copy.standstill.as_ref().is_none_or(|round| round.ended.is_some()) {
            return None;
        }
        let (id, slot) = (copy.id, copy.slot);
        let (relation, table) = (known.table.relation, known.table.name.clone());
        self.standstill = Some(UnderWay { id, slot, standstill: None, rows: 0 });
        Some(Task::Standstill { id, table, relation, filter: copy.window.filter.clone() })
    }

    /// Makes this copy a standstill, because its table has no key or the server is a standby. The
    /// recorded progress in chunks is dropped.
    pub(super) fn becomes_standstill(&mut self, at: usize) {
        if let Some(copy) = self.list.get_mut(at) {
            copy.windows = None;
            copy.window.key = Vec::new();
            copy.window.journal =
                Journal { fresh: copy.window.journal.fresh, ..Journal::default() };
            copy.standstill.get_or_insert_default();
            copy.stage = Stage::Ready;
        }
        self.store(at);
    }

    /// Id of the copy whose standstill is under way.
    #[must_use]
    pub fn standstill_id(&self) -> Option<u64> {
        self.standstill.as_ref().map(|under_way| under_way.id)
    }

    /// Gives up the standstill under way, so that the stream goes on.
    pub fn drop_standstill(&mut self) {
        self.standstill = None;
    }

    /// Notes the insert position of the server's WAL, as read before the temporary slot is created.
    pub fn standstill_noted(&mut self, noted: Lsn) {
        let Some(under_way) = &mut self.standstill else { return };
        under_way.standstill = Some(Standstill::noted(noted));
        let id = under_way.id;
        if let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) {
            copy.waits.cause = None;
            copy.waits.stuck = None;
        }
    }

    /// Takes the consistent point of the temporary slot, and the table as the slot's snapshot shows
    /// it. Returns false if the table has another shape than it had when it was planned. The
    /// standstill is given up then.
    pub fn standstill_begun(&mut self, point: Lsn, table: &CopyTable) -> bool {
        let Some(id) = self.standstill_id() else { return false };
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return false };
        if !copy.known.as_ref().is_some_and(|known| same_shape(&known.table, table)) {
            copy.stage = Stage::Unsurveyed;
            self.drop_standstill();
            return false;
        }
        tracing::info!(
            table = copy.name, %point,
            "a standstill begins: the stream waits at this point until the rows of the table are \
             delivered"
        );
        if let Some(standstill) =
            self.standstill.as_mut().and_then(|under_way| under_way.standstill.as_mut())
        {
            standstill.known(point);
            match self.stream.open {
                Some(commit) => standstill.began(commit),
                None => standstill.passed(self.stream.stands),
            }
        }
        true
    }

    /// Returns what the row path needs to send the rows of the standstill. `None` while none of
    /// these rows may be sent.
    #[must_use]
    pub fn sends_standstill(&self) -> Option<Sends> {
        let under_way = self.standstill.as_ref()?;
        let point = under_way.standstill.as_ref()?.may_send()?;
        let at = self.place(under_way.id)?;
        let known = self.list.get(at)?.known.as_ref()?;
        Some(Sends {
            copy: at,
            point,
            active: known.active.clone()?,
            columns: known.table.columns.len(),
        })
    }

    /// Counts rows that were sent.
    pub fn standstill_sent(&mut self, rows: u64) {
        self.standstill.iter_mut().for_each(|under_way| under_way.rows += rows);
    }

    /// Notes that all rows of the standstill were handed to the producer. `next` is the ticket
    /// after the last of these rows.
    pub fn standstill_sent_all(&mut self, next: Ticket) {
        self.standstill
            .iter_mut()
            .filter_map(|under_way| under_way.standstill.as_mut())
            .for_each(|standstill| standstill.sent_all(next));
    }

    /// Ends the standstill with a failure, before or after rows were sent. Decides when the copy is
    /// tried again, or that the copy has failed for good.
    pub fn standstill_failed(&mut self, failure: &Failure) {
        let Some(UnderWay { id, rows, .. }) = self.standstill.take() else { return };
        let (Some(at), now) = (self.place(id), self.now) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        let Some(round) = &mut copy.standstill else { return };
        self.totals.given_up += 1;
        let why = crate::continuity::Chain(failure).to_string();
        if rows > 0 {
            round.broken += 1;
        }
        if round.broken >= BROKEN_MAX {
            let detail = format!(
                "the copy of {} ended {BROKEN_MAX} times after rows of it were sent: {why}",
                copy.name
            );
            let next = format!(
                "remove the cause, then {} copies it from its beginning",
                snapshot_of(&copy.name)
            );
            return self.fail(at, Left::new(CopyReason::Broken, detail, next));
        }
        // Whatever the cause was, the table may have changed by now.
        copy.stage = Stage::Unsurveyed;
        let rest = match failure {
            Failure::NoRoom { .. } => {
                let next = "drop a slot that nobody uses, or raise max_replication_slots and \
                            max_wal_senders by one and restart the server; the agent tries again \
                            by itself";
                return self.lacks(id, Left::new(CopyReason::NoSlot, why, next));
            }
            Failure::Writers(_) => {
                copy.waits.cause = Some(Cause::Transactions(why));
                copy.waits.not_before = now.plus(WRITERS_REST);
                return;
            }
            Failure::Postgres(error) if crate::snapshot::prepare::is_short(error) => {
                let table = TableName::of_shown(&copy.name);
                let left = crate::snapshot::prepare::refused(&table, error);
                let left = Left::new(CopyReason::NoRoom, left.detail, left.next);
                return self.lacks(id, left);
            }
            Failure::Rewritten | Failure::NotPublished | Failure::Postgres(_) => REST,
        };
        copy.waits.cause = Some(Cause::Failure(why));
        copy.waits.not_before = now.plus(rest);
    }

    /// Notes what the server lacks for a copy, such as a free slot. A warning is logged once for
    /// the same reason, and the copy is tried again until it succeeds.
    pub fn lacks(&mut self, id: u64, left: Left) {
        let now = self.now;
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return };
        if copy.waits.stuck.as_ref().is_none_or(|stuck| stuck.reason != left.reason) {
            tracing::warn!(
                table = copy.name,
                reason = left.reason,
                next = left.next,
                "a copy waits: {}",
                left.detail
            );
        }
        copy.waits.stuck = Some(left);
        copy.waits.not_before = now.plus(REST);
    }

    /// Ends a standstill whose rows are all delivered, so that the stream goes on.
    pub(super) fn settle_standstill(&mut self, oldest: Ticket) {
        let delivered = |under_way: &mut UnderWay| {
            under_way.standstill.as_ref().is_some_and(|standstill| standstill.is_delivered(oldest))
        };
        let Some(UnderWay { id, rows, .. }) = self.standstill.take_if(delivered) else { return };
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return };
        (copy.window.journal.rows, copy.window.journal.chunks) = (rows, 1);
        self.totals.chunks += 1;
        if let Some(round) = &mut copy.standstill {
            // The copy is over when this position is confirmed. A crash before that repeats changes
            // that the rows already contain, and these changes would then follow the rows.
            round.ended = Some(self.stream.stands);
        }
    }

    /// Copies the table's relation from the copy to its standstill under way. Drops the standstill
    /// if the copy has ended.
    pub(super) fn watch_standstill(&mut self) {
        let Some(under_way) = &mut self.standstill else { return };
        match self.list.iter().find(|copy| copy.id == under_way.id) {
            Some(copy) => under_way.slot = copy.slot,
            None => self.standstill = None,
        }
    }

    /// True if a change of this relation has to wait for the standstill. `commit` is the start of
    /// the commit record of its transaction. The row path asks again after the next event.
    #[inline]
    #[must_use]
    pub fn would_stop(&self, slot: RelationSlot, commit: Lsn) -> bool {
        match &self.standstill {
            Some(UnderWay { slot: Some(of), standstill: Some(standstill), .. }) if *of == slot => {
                standstill.would_stop(commit)
            }
            _ => false,
        }
    }

    /// Notes that the row path has stopped before a change that has to wait for the standstill.
    pub fn stop_before_change(&mut self) {
        if let Some(UnderWay { standstill: Some(standstill), .. }) = &mut self.standstill {
            standstill.stop();
        }
    }

    /// Notes that a transaction has begun. Its commit record begins at `commit`.
    #[inline]
    pub fn began(&mut self, commit: Lsn) {
        self.stream.open = Some(commit);
        if let Some(UnderWay { standstill: Some(standstill), .. }) = &mut self.standstill {
            standstill.began(commit);
        }
    }

    pub(super) fn passed_standstill(&mut self, position: Lsn) {
        self.stream.open = None;
        if let Some(UnderWay { standstill: Some(standstill), .. }) = &mut self.standstill {
            standstill.passed(position);
        }
    }

    /// True while no frame is read because of the standstill under way.
    #[must_use]
    pub(super) fn stands_for_standstill(&self) -> bool {
        self.standstill.as_ref().is_some_and(UnderWay::stands)
    }
}

impl Copy {
    /// Returns the position that has to be confirmed before the copy is over. `None` until all rows
    /// of the copy are delivered.
    pub(super) fn awaits(&self) -> Option<Lsn> {
        if let Some(round) = &self.standstill {
            return round.ended;
        }
        match self.windows.as_ref()?.next() {
            Next::Confirm(end) => Some(end),
            Next::Read(_) | Next::Wait => None,
        }
    }
}
