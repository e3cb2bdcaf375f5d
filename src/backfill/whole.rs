//! Copies of whole tables: those without a key, and every table where the server is a standby, whose snapshots a chunk could
//! not be told by. One at a time, since each makes a slot and lets the stream stand. Where it stands is `snapshot::whole`'s.

use super::*;
use crate::snapshot::temporary::Failure;
use crate::snapshot::whole::Whole;

/// After a try that let the stream stand for writers, it moves for as long as it may have stood.
const WRITERS_REST: u64 = 30 * SECOND;
/// What is likely to last is tried again after this.
const REST: u64 = 5 * SECOND;
/// A copy that fails after rows were sent begins anew, and repeats them: not for ever.
const BROKEN_MAX: u8 = 3;

/// What is known of a table that is copied whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// Everything is delivered; it is over once the record has passed this.
    pub ended: Option<Lsn>,
    /// Tries that failed after rows were sent.
    broken: u8,
}

/// The one that is under way.
pub(super) struct UnderWay {
    pub id: u64,
    /// Its relation, once the stream has told it.
    slot: Option<RelationSlot>,
    /// None until the position is noted.
    whole: Option<Whole>,
    pub rows: u64,
}

/// How rows of a whole table are sent.
pub struct Sends {
    /// The copy's place.
    pub copy: usize,
    /// Rows are as of here.
    pub point: Lsn,
    /// By which they are encoded.
    pub active: Active,
    /// How many columns they have.
    pub columns: usize,
}

impl UnderWay {
    /// Whether the stream stands for it.
    pub fn stands(&self) -> bool {
        self.whole.as_ref().is_some_and(Whole::stands)
    }

    /// What it does now, for people, and whether it has its snapshot.
    pub fn in_words(&self) -> (String, bool) {
        let Some(whole) = &self.whole else { return ("a session for it is being opened".to_owned(), false) };
        (whole.in_words(), whole.is_known())
    }
}

impl Copies {
    /// What to read whole, where nothing is.
    pub(super) fn next_whole(&mut self, at: usize) -> Option<Task> {
        let copy = self.list.get_mut(at).filter(|_| self.whole.is_none())?;
        let known = copy.known.as_ref()?;
        if copy.whole.as_ref().is_none_or(|round| round.ended.is_some()) {
            return None;
        }
        let (id, slot) = (copy.id, copy.slot);
        let (relation, table) = (known.table.relation, known.table.name.clone());
        self.whole = Some(UnderWay { id, slot, whole: None, rows: 0 });
        Some(Task::Whole { id, table, relation, filter: copy.window.filter.clone() })
    }

    /// The table has no key, or no chunk of it can be read here.
    pub(super) fn is_whole(&mut self, at: usize) {
        if let Some(copy) = self.list.get_mut(at) {
            copy.windows = None;
            copy.window.key = Vec::new();
            copy.window.journal = Journal { fresh: copy.window.journal.fresh, ..Journal::default() };
            copy.whole.get_or_insert_default();
            copy.stage = Stage::Ready;
        }
        self.store(at);
    }

    /// The copy of a whole table that is under way, if one is.
    #[must_use]
    pub fn whole_id(&self) -> Option<u64> {
        self.whole.as_ref().map(|under_way| under_way.id)
    }

    /// What there is of it is given up; the stream goes on.
    pub fn drop_whole(&mut self) {
        self.whole = None;
    }

    /// The server's position is noted, and the slot asked for next.
    pub fn whole_noted(&mut self, noted: Lsn) {
        let Some(under_way) = &mut self.whole else { return };
        under_way.whole = Some(Whole::noted(noted));
        let id = under_way.id;
        if let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) {
            copy.waits.clear();
            copy.stuck = None;
        }
    }

    /// The slot's point is known, and the table as its snapshot has it. Whether it can be read as it was planned.
    pub fn whole_begun(&mut self, point: Lsn, table: &CopyTable) -> bool {
        let Some(id) = self.whole_id() else { return false };
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return false };
        if !copy.known.as_ref().is_some_and(|known| same_shape(&known.table, table)) {
            copy.stage = Stage::Unsurveyed;
            self.drop_whole();
            return false;
        }
        tracing::info!(table = copy.name, %point, "a whole table is copied: the stream stands at this point until its rows are delivered");
        if let Some(whole) = self.whole.as_mut().and_then(|under_way| under_way.whole.as_mut()) {
            whole.known(point);
            match self.open {
                Some(commit) => whole.began(commit),
                None => whole.passed(self.stands),
            }
        }
        true
    }

    /// How rows are sent now, if they may be.
    #[must_use]
    pub fn sends_whole(&self) -> Option<Sends> {
        let under_way = self.whole.as_ref()?;
        let point = under_way.whole.as_ref()?.may_send()?;
        let at = self.place(under_way.id)?;
        let known = self.list.get(at)?.known.as_ref()?;
        Some(Sends { copy: at, point, active: known.active.clone()?, columns: known.table.columns.len() })
    }

    /// Rows of it were sent.
    pub fn whole_sent(&mut self, rows: u64) {
        self.whole.iter_mut().for_each(|under_way| under_way.rows += rows);
    }

    /// All rows of it are sent; `next` is the first ticket after them.
    pub fn whole_sent_all(&mut self, next: Ticket) {
        self.whole.iter_mut().filter_map(|under_way| under_way.whole.as_mut()).for_each(|whole| whole.sent_all(next));
    }

    /// It has ended without its rows, or with some of them.
    pub fn whole_failed(&mut self, failure: &Failure) {
        let Some(UnderWay { id, rows, .. }) = self.whole.take() else { return };
        let (Some(at), now) = (self.place(id), self.now) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        let Some(round) = &mut copy.whole else { return };
        self.totals.given_up += 1;
        let why = crate::continuity::Chain(failure).to_string();
        if rows > 0 {
            round.broken += 1;
        }
        if round.broken >= BROKEN_MAX {
            let detail =
                format!("the copy of {} ended {BROKEN_MAX} times after rows of it were sent: {why}", copy.name);
            let next =
                format!("remove the cause, then `wellspring snapshot {}` copies it from its beginning", copy.name);
            return self.fail(at, "window_broken", detail, next);
        }
        copy.stage = Stage::Unsurveyed; // whatever the cause, the table may be another by now
        let rest = match failure {
            Failure::NoRoom { .. } => {
                let next = "drop a slot that nobody uses, or raise max_replication_slots and max_wal_senders by one and restart the server; it is tried again by itself";
                let (reason, next) = ("window_no_slot".to_owned(), next.to_owned());
                return self.lacks(id, Left { reason, detail: why, next });
            }
            Failure::Writers(_) => WRITERS_REST,
            Failure::Postgres(error) if crate::snapshot::prepare::is_short(error) => {
                let (namespace, name) = copy.name.split_once('.').unwrap_or_default();
                let left = crate::snapshot::prepare::refused(&TableName::new(namespace, name), error);
                return self.lacks(id, Left { reason: "window_no_room".to_owned(), ..left });
            }
            Failure::Rewritten | Failure::NotPublished | Failure::Postgres(_) => REST,
        };
        copy.waits = why;
        copy.not_before = now.plus(rest);
    }

    /// The server lacks something for a copy: told once, and tried again until it is there.
    pub fn lacks(&mut self, id: u64, left: Left) {
        let now = self.now;
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return };
        if copy.stuck.as_ref().is_none_or(|stuck| stuck.reason != left.reason) {
            tracing::warn!(table = copy.name, reason = left.reason, next = left.next, "a copy waits: {}", left.detail);
        }
        copy.stuck = Some(left);
        copy.not_before = now.plus(REST);
    }

    /// Lets the stream go on from a copy that is delivered.
    pub(super) fn settle_whole(&mut self, oldest: Ticket) {
        let delivered =
            |under_way: &mut UnderWay| under_way.whole.as_ref().is_some_and(|whole| whole.is_delivered(oldest));
        let Some(UnderWay { id, rows, .. }) = self.whole.take_if(delivered) else { return };
        let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) else { return };
        (copy.window.journal.rows, copy.window.journal.chunks) = (rows, 1);
        self.totals.chunks += 1;
        if let Some(round) = &mut copy.whole {
            // A crash brings again what is not recorded as confirmed: changes that the rows contain would follow them.
            round.ended = Some(self.stands);
        }
    }

    /// Tells the copy under way which relation its table is.
    pub(super) fn watch_whole(&mut self) {
        let Some(under_way) = &mut self.whole else { return };
        match self.list.iter().find(|copy| copy.id == under_way.id) {
            Some(copy) => under_way.slot = copy.slot,
            None => self.whole = None,
        }
    }

    /// Whether a change of this relation, of the transaction whose commit record begins at `commit`, has to wait for a copy
    /// of its whole table. It is asked about again after the next event.
    #[inline]
    pub fn stops(&mut self, slot: RelationSlot, commit: Lsn) -> bool {
        match &mut self.whole {
            Some(UnderWay { slot: Some(of), whole: Some(whole), .. }) if *of == slot => whole.stops(commit),
            _ => false,
        }
    }

    /// The stream is inside the transaction whose commit record begins at `commit`.
    #[inline]
    pub fn began(&mut self, commit: Lsn) {
        self.open = Some(commit);
        if let Some(UnderWay { whole: Some(whole), .. }) = &mut self.whole {
            whole.began(commit);
        }
    }

    pub(super) fn passed_whole(&mut self, position: Lsn) {
        self.open = None;
        if let Some(UnderWay { whole: Some(whole), .. }) = &mut self.whole {
            whole.passed(position);
        }
    }

    /// Whether the stream stands for it: no frame is read.
    #[must_use]
    pub(super) fn stands_for_whole(&self) -> bool {
        self.whole.as_ref().is_some_and(UnderWay::stands)
    }
}

impl Copy {
    /// The position it is over with, once everything is delivered.
    pub(super) fn awaits(&self) -> Option<Lsn> {
        if let Some(round) = &self.whole {
            return round.ended;
        }
        match self.windows.as_ref()?.next() {
            Next::Confirm(end) => Some(end),
            Next::Read(_) | Next::Wait => None,
        }
    }
}
