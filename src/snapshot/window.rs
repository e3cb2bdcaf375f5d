//! Windows: one table copied in chunks while its changes stream, without a write to the source, exactly.
//!
//! Pure: no IO, clock or luck. The loop tells it what happened (a snapshot was taken, a chunk was read, a change is about
//! to be emitted, the stream has passed a position, the connection was lost) and does what it answers. `R` is a row,
//! which is nobody's business here.
//!
//! A chunk's rows are those that its snapshot S saw. What the stream brings of a transaction that S saw is older than the
//! chunk, and passes. Before the first change of a key by one that S did not see, the chunk's row of that key is emitted.
//! The others follow when the stream has passed H, the position up to which WAL was written when S existed: from there
//! on everything that S saw has been emitted. Then the chunk is journalled, once it is delivered.
//!
//! Laws, tried in `simulation` with each [`Rule`] switched off in turn:
//! - When all is quiet the newest record of every key is the row.
//! - No older value follows a newer one, but in a replay of the stream.
//! - A value out of line that an update did not send again is with the consumer, or comes.

mod chunk;
mod moved;
mod rules;
#[cfg(test)]
mod simulation;

use chunk::{End, Leaving, Window};
use moved::{Missing, Moved, WindowId};
pub use rules::Rule;
use rules::Rules;

use super::keyset::RowKey;
use super::visibility::{FullXid, PgSnapshot};
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use std::collections::VecDeque;

/// How many chunks of a table may wait for their positions at once: with a writer open on the server a position is
/// reached late (20 s were seen), and reading should not wait for that. Their bytes are bounded by the byte budget.
const WINDOWS_MAX: usize = 8;

/// Keys of one window that reads given keys again: each is a condition of the statement.
const KEYS_MAX: usize = 200;

/// How many moved rows are remembered before the table is copied once more instead: their keys are journalled as one
/// record, which has to fit a message.
const MOVED_MAX: usize = 2000;

/// A page of WAL. A build with another `wal_block_size` waits for a little more WAL at the end of a copy, no more.
const PAGE_BYTES: u64 = 8192;
/// Headers of a page, and of the first page of a segment.
const HEADERS: [u64; 2] = [24, 40];

/// What to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The rows beyond a key; from the first where there is none.
    Beyond(Option<RowKey>),
    /// The rows of these keys.
    Keys(Vec<RowKey>),
}

/// Where a copy is going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A chunk can be read.
    Read(What),
    /// Something under way comes first.
    Wait,
    /// Everything is journalled. The copy ends when the checkpoint has passed this position: until then a crash repeats
    /// changes that the copy has already repaired.
    Confirm(Lsn),
}

/// A change that is about to be emitted.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    pub(crate) xid: FullXid,
    /// Start of that transaction's commit record.
    pub commit: Lsn,
    pub(crate) kind: Kind<'a>,
}

/// What a change touches.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// One row was inserted, updated or deleted.
    Row {
        /// The key before the change; none if it is unknown or did not change.
        old: Option<&'a RowKey>,
        /// The key after the change; of a deleted row the key that it had.
        key: &'a RowKey,
        /// The server left out a TOAST value that did not change.
        unsent: bool,
    },
    /// Every row of the table was removed.
    Truncate,
}

/// What comes before a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Before<R> {
    /// The change is emitted without rows before it.
    Nothing,
    /// These rows of the copy.
    Rows(Vec<R>),
    /// The stream waits here: the change is asked about again after the next event.
    Hold,
}

/// What of a copy is delivered: what a restart begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Journal {
    /// Everything up to this key is delivered.
    pub after: Option<RowKey>,
    /// Every row after that key is delivered too: the copy is complete.
    pub ended: bool,
    /// The highest position that a delivered chunk waited for.
    pub upto: Lsn,
    /// Keys of rows to be read again: each moved to its key by an update that left out an unchanged TOAST value.
    pub moved: Vec<RowKey>,
    pub(crate) rows: u64,
    pub(crate) chunks: u64,
    /// No chunk is delivered since the table was published, or since its filter or columns changed.
    pub fresh: bool,
}

/// The chunk being read; there is at most one, since each begins where the one before ends.
#[derive(Debug)]
enum Reading {
    Idle,
    /// Its snapshot is not known yet. `hold`: no change of the table is emitted meanwhile.
    Asked {
        what: What,
        hold: bool,
    },
    /// Its rows are what this snapshot sees.
    Under {
        what: What,
        snapshot: PgSnapshot,
    },
}

/// The windows of one table. See the module's own words.
#[derive(Debug)]
pub struct Windows<R> {
    rules: Rules,
    reading: Reading,
    /// In the order in which they were read, which is the order of their positions.
    open: VecDeque<Window<R>>,
    leaving: VecDeque<Leaving>,
    /// Where the next chunk begins, and whether there is none.
    read_upto: Option<RowKey>,
    read_all: bool,
    /// Transactions whose changes of this table were emitted, until a snapshot has seen them.
    emitted: Vec<FullXid>,
    /// Others that the first snapshot has to see.
    awaited: Vec<FullXid>,
    moved: Moved,
    /// The number that was given last; 0 before the first window.
    ids: WindowId,
    journal: Journal,
    /// Whether the journal has changed since it was last taken.
    dirty: bool,
}

impl<R> Windows<R> {
    /// A copy that goes on where its journal stands. Its first snapshot has to see all of `awaited`: what was emitted
    /// before anybody watched this table, and, where it was only just published, everything that wrote at that moment.
    #[must_use]
    pub fn resume(journal: Journal, awaited: Vec<FullXid>) -> Self {
        Windows {
            rules: Rules::default(),
            reading: Reading::Idle,
            open: VecDeque::new(),
            leaving: VecDeque::new(),
            read_upto: journal.after.clone(),
            read_all: journal.ended,
            emitted: Vec::new(),
            awaited,
            moved: Moved::resume(&journal.moved),
            ids: 0,
            journal,
            dirty: false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        if !matches!(self.reading, Reading::Idle) {
            return Next::Wait;
        }
        if !self.read_all {
            let full = self.open.len() >= WINDOWS_MAX;
            return if full { Next::Wait } else { Next::Read(What::Beyond(self.read_upto.clone())) };
        }
        // What moves within the positions of open windows mostly is in them, or is gone by then.
        if !self.open.is_empty() {
            return Next::Wait;
        }
        let keys = self.moved.uncovered(KEYS_MAX);
        if !keys.is_empty() && self.rules.keeps(Rule::MovedRowsAreReadAgain) {
            return Next::Read(What::Keys(keys));
        }
        if !self.leaving.is_empty() {
            return Next::Wait;
        }
        let confirmed_first = self.rules.keeps(Rule::EndsOnceConfirmed);
        Next::Confirm(if confirmed_first { self.journal.upto } else { Lsn::ZERO })
    }

    /// The chunk is being asked for. `hold`: no change of the table may be emitted until its snapshot is known, since
    /// under steady writes there would always be one that the snapshot does not see.
    pub fn asked(&mut self, what: What, hold: bool) {
        self.reading = Reading::Asked { what, hold };
    }

    /// What is asked for and has no snapshot yet.
    #[must_use]
    pub fn asked_for(&self) -> Option<&What> {
        match &self.reading {
            Reading::Asked { what, .. } => Some(what),
            Reading::Under { .. } | Reading::Idle => None,
        }
    }

    /// Whether a chunk is asked for or being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        !matches!(self.reading, Reading::Idle)
    }

    /// The next snapshot has to see these, too.
    pub fn wait_for(&mut self, awaited: &[FullXid]) {
        self.awaited.extend(awaited);
        self.awaited.sort_unstable();
        self.awaited.dedup();
    }

    /// The chunk's snapshot is known. The table must have been locked before it was taken.
    ///
    /// # Errors
    /// Transactions that it must see and does not: the chunk is not read.
    pub fn snapshot(&mut self, snapshot: PgSnapshot) -> Result<(), Vec<FullXid>> {
        let Reading::Asked { what, .. } = std::mem::replace(&mut self.reading, Reading::Idle) else {
            return Ok(()); // given up meanwhile
        };
        self.emitted.retain(|xid| !snapshot.sees(*xid));
        self.awaited.retain(|xid| !snapshot.sees(*xid));
        let mut unseen = self.awaited.clone();
        if self.rules.keeps(Rule::SeesWhatWasEmitted) {
            unseen.extend(&self.emitted);
        }
        if !unseen.is_empty() {
            return Err(unseen);
        }
        self.reading = Reading::Under { what, snapshot };
        Ok(())
    }

    /// The chunk was read. `upto`: the server's insert position, asked for after the snapshot existed. `more`: there may
    /// be rows beyond the last one, which then is the largest key of them.
    pub fn read(&mut self, upto: Lsn, rows: Vec<(RowKey, R)>, size_bytes: usize, more: bool) {
        let Reading::Under { what, snapshot } = std::mem::replace(&mut self.reading, Reading::Idle) else {
            return; // given up meanwhile
        };
        let upto = if self.rules.keeps(Rule::PageHeadersDoNotCount) { reachable(upto) } else { upto };
        self.ids += 1;
        let id = self.ids;
        let mut end = End { after: None, last: false, rows: rows.len() as u64 };
        let keys = match what {
            What::Beyond(_) => {
                if let Some((last, _)) = rows.last() {
                    self.read_upto = Some(last.clone());
                }
                (end.after, end.last) = (self.read_upto.clone(), !more);
                self.read_all = !more;
                None
            }
            What::Keys(keys) => Some(keys),
        };
        let window = Window::new(id, end, snapshot, upto, rows, size_bytes);
        // A key that was asked for and holds no row has lost it to a change that comes before the position.
        let holds = |key: &RowKey| window.holds(key) || keys.as_ref().is_some_and(|keys| keys.contains(key));
        self.moved.cover(id, &window.snapshot, holds);
        self.open.push_back(window);
    }

    /// The chunk was not read: it took too long, or failed. It is asked for again, smaller or later.
    pub fn give_up(&mut self) {
        self.reading = Reading::Idle;
    }

    /// Whether a change by this transaction would have to wait.
    #[must_use]
    pub fn holds(&self, xid: FullXid) -> bool {
        match &self.reading {
            Reading::Asked { hold, .. } => *hold,
            Reading::Under { snapshot, .. } => self.rules.keeps(Rule::HoldsWhileReading) && !snapshot.sees(xid),
            Reading::Idle => false,
        }
    }

    /// A change of the table is about to be emitted: what comes first.
    pub fn before(&mut self, touch: &Touch<'_>) -> Before<R> {
        if self.holds(touch.xid) {
            return Before::Hold;
        }
        self.note(touch);
        let mut rows = Vec::new();
        if self.rules.keeps(Rule::ChunkRowComesFirst) {
            for window in self.open.iter_mut().filter(|window| !window.snapshot.sees(touch.xid)) {
                match touch.kind {
                    Kind::Truncate if self.rules.keeps(Rule::TruncateFlushes) => window.take_all(&mut rows),
                    Kind::Truncate => {}
                    Kind::Row { old, key, .. } => {
                        if let Some(old) = old.filter(|_| self.rules.keeps(Rule::KeyChangeTouchesBoth)) {
                            window.take(old, &mut rows);
                        }
                        window.take(key, &mut rows);
                    }
                }
            }
        }
        if rows.is_empty() { Before::Nothing } else { Before::Rows(rows) }
    }

    /// Remembers who was emitted, and which rows arrived somewhere without all of their values.
    fn note(&mut self, touch: &Touch<'_>) {
        if self.emitted.last() != Some(&touch.xid) && !self.emitted.contains(&touch.xid) {
            self.emitted.push(touch.xid);
        }
        match touch.kind {
            Kind::Truncate => self.moved.clear(),
            Kind::Row { old, key, unsent: false } => {
                for key in old.into_iter().chain([key]) {
                    self.moved.remove(key);
                }
            }
            Kind::Row { old: None, unsent: true, .. } => {} // as it was
            Kind::Row { old: Some(old), key, unsent: true } => self.note_move(touch, old, key),
        }
    }

    /// A row moves without all of its values. Does the consumer have them where it comes from, or does some window bring
    /// them?
    fn note_move(&mut self, touch: &Touch<'_>, old: &RowKey, key: &RowKey) {
        let was = self.moved.get(old).filter(|_| self.rules.keeps(Rule::LackMovesWithTheRow));
        self.moved.remove(old);
        let sees = |window: &Window<R>| window.snapshot.sees(touch.xid);
        let saw_it = |id| self.open.iter().any(|window| window.id == id && sees(window));
        let arrives = self.open.iter().find(|window| sees(window) && window.holds(key)).map(|window| window.id);
        let cover = match (arrives, was) {
            (Some(id), _) => Some(id),
            // A window that saw the row move on does not hold it where it was.
            (None, Some(missing)) => {
                missing.cover.filter(|id| !saw_it(*id) || !self.rules.keeps(Rule::CoversWhatItHolds))
            }
            (None, None) => match self.open.iter().find(|window| !sees(window) && window.held(old)) {
                Some(window) => Some(window.id),
                // A row that had been copied whole, or was inserted since, and moves on later is the plain stream's
                // business, which sends the placeholder.
                None if self.is_copied(touch) => {
                    self.moved.remove(key);
                    return;
                }
                None => None,
            },
        };
        self.dirty |= self.moved.insert(key, Missing { xid: touch.xid, cover });
        if self.moved.len() > MOVED_MAX {
            self.begin_anew(false);
        }
    }

    /// Whether every row was read under snapshots that do not see the change, and what a replay may bring lies behind.
    fn is_copied(&self, touch: &Touch<'_>) -> bool {
        let mut ranges = self.open.iter().filter(|window| window.end.is_of_range());
        self.read_all && touch.commit >= self.journal.upto && !ranges.any(|window| window.snapshot.sees(touch.xid))
    }

    /// Copies the table from its beginning: its key has other columns, so that ranges of the old one mean nothing, and
    /// neither do rows read by it; or (`fresh`) other rows or columns of it are published than were.
    pub fn begin_anew(&mut self, fresh: bool) {
        self.moved.clear();
        let Journal { upto, fresh: was, .. } = self.journal;
        self.journal = Journal { upto, fresh: was || fresh, ..Journal::default() };
        self.drop_windows();
        self.dirty = true;
    }

    /// The stream has passed this position outside of a transaction: everything that committed before it was emitted.
    pub fn passed(&mut self, position: Lsn) {
        for window in &mut self.open {
            window.passed |= position >= window.upto || !self.rules.keeps(Rule::RestWaitsForPosition);
        }
    }

    /// The next row of a window whose position was passed.
    pub fn rest(&mut self) -> Option<R> {
        self.open.iter_mut().take_while(|window| window.passed).find_map(Window::next)
    }

    /// Whether [`Windows::rest`] has rows.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.open.iter().take_while(|window| window.passed).any(|window| window.left > 0)
    }

    /// Whether rows of a window that was emitted whole are not delivered.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Lets windows go whose rows were all emitted, under tickets below `next`; and journals those that are delivered,
    /// which is everything below `oldest`. True if the journal has changed.
    pub fn settle(&mut self, next: Ticket, oldest: Ticket) -> bool {
        while let Some(window) = self.open.pop_front_if(|window| window.passed && window.left == 0) {
            let Window { id, end, upto, .. } = window;
            self.leaving.push_back(Leaving { id, end, upto, below: next });
        }
        let delivered =
            |leaving: &mut Leaving| leaving.below <= oldest || !self.rules.keeps(Rule::JournalAfterDelivery);
        while let Some(Leaving { id, end, upto, .. }) = self.leaving.pop_front_if(delivered) {
            self.dirty = true;
            if end.after.is_some() {
                self.journal.after = end.after;
            }
            self.journal.ended |= end.last;
            self.journal.upto = self.journal.upto.max(upto);
            self.journal.rows += end.rows;
            self.journal.chunks += 1;
            self.journal.fresh = false;
            self.moved.delivered(id);
        }
        self.dirty
    }

    /// The journal, if it is not what was taken last. It has to be stored before a position is confirmed that lies beyond
    /// what was emitted by now: a moved row is not told twice.
    pub fn take_journal(&mut self) -> Option<Journal> {
        std::mem::take(&mut self.dirty).then(|| self.journal())
    }

    /// The journal as it is.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal { moved: self.moved.keys(), ..self.journal.clone() }
    }

    /// The connection, or the producer, was lost: what is not journalled is read again.
    pub fn lost(&mut self) {
        if self.rules.keeps(Rule::LostWindowsAreDropped) {
            self.drop_windows();
        } else {
            self.reading = Reading::Idle;
        }
    }

    fn drop_windows(&mut self) {
        self.reading = Reading::Idle;
        self.open.clear();
        self.leaving.clear();
        self.moved.uncover();
        self.read_upto = self.journal.after.clone();
        self.read_all = self.journal.ended;
    }

    /// Bytes of rows held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.open.iter().filter(|window| window.left > 0).map(|window| window.size_bytes).sum()
    }

    /// Windows that wait for their positions, and the first of these.
    #[must_use]
    pub fn waiting(&self) -> (usize, Option<Lsn>) {
        (self.open.len(), self.open.front().map(|window| window.upto))
    }

    #[cfg(test)]
    fn without(mut self, off: Option<Rule>) -> Self {
        self.rules = Rules::without(off);
        self
    }
}

/// Rounds an insert position that lies just past a WAL page header down to the start of the page. The server reports the
/// position before it writes the header, and an idle stream never gets past the start of the page.
fn reachable(insert: Lsn) -> Lsn {
    let within = insert.bytes() % PAGE_BYTES;
    if HEADERS.contains(&within) { Lsn::new(insert.bytes() - within) } else { insert }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> RowKey {
        RowKey::new([Some(text.as_bytes())]).unwrap()
    }

    /// A copy with one chunk read: keys a and b, waiting for position 100.
    fn one_chunk() -> Windows<&'static str> {
        let mut windows = Windows::resume(Journal::default(), Vec::new());
        windows.asked(What::Beyond(None), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), vec![(key("a"), "A"), (key("b"), "B")], 20, true);
        windows
    }

    fn moves(xid: u64, old: &RowKey, key: &RowKey) -> Touch<'static> {
        let (old, key) = (Box::leak(Box::new(old.clone())), Box::leak(Box::new(key.clone())));
        Touch { xid: FullXid(xid), commit: Lsn::new(200), kind: Kind::Row { old: Some(old), key, unsent: true } }
    }

    /// A copy that has read everything, and whose rows at some of 12 keys lack a value. They are read again; meanwhile and
    /// from then on rows move, are deleted and inserted by transactions that the snapshot does not see.
    fn ends_though_rows_go_on(missing: &[bool], steps: &[(usize, usize, u8)]) -> bool {
        let name = |at: usize| key(&format!("k{at}"));
        let keys: Vec<usize> = (0..missing.len()).filter(|at| missing[*at]).collect();
        let moved = keys.iter().map(|at| name(*at)).collect();
        let journal = Journal { ended: true, upto: Lsn::new(50), moved, ..Journal::default() };
        let mut windows = Windows::resume(journal, Vec::new());
        let Next::Read(what) = windows.next() else { return keys.is_empty() };
        windows.asked(what, false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), keys.iter().map(|at| (name(*at), "row")).collect(), 20, false);
        let mut taken = missing.to_vec();
        for (xid, &(from, to, what)) in (11..).zip(steps) {
            let (old, new) = (name(from), name(to));
            let kind = match what {
                0 if taken[from] => Kind::Row { old: None, key: &old, unsent: false },
                1 if !taken[from] => Kind::Row { old: None, key: &old, unsent: false },
                2 if taken[from] => Kind::Row { old: None, key: &old, unsent: true },
                3.. if taken[from] && !taken[to] => Kind::Row { old: Some(&old), key: &new, unsent: true },
                _ => continue,
            };
            (taken[from], taken[to]) = match what {
                0 | 1 if from == to => (what == 1, what == 1),
                0 | 1 => (what == 1, taken[to]),
                2 => (taken[from], taken[to]),
                _ => (false, true),
            };
            windows.before(&Touch { xid: FullXid(xid), commit: Lsn::new(60 + xid), kind });
        }
        windows.passed(Lsn::new(100));
        while windows.rest().is_some() {}
        windows.settle(Ticket(9), Ticket(9));
        windows.next() == Next::Confirm(Lsn::new(100)) && windows.journal().moved.is_empty()
    }

    proptest! {
        /// Method: any changes of 12 keys after moved rows were read again.
        #[test]
        fn moved_rows_are_read_again_once_though_they_keep_moving(
            missing in prop::collection::vec(any::<bool>(), 12),
            steps in prop::collection::vec((0usize..12, 0usize..12, 0u8..8), 0..80),
        ) {
            prop_assert!(ends_though_rows_go_on(&missing, &steps));
        }
    }

    #[test]
    fn a_row_that_was_gone_by_the_snapshot_is_not_read_again() {
        let journal = Journal { ended: true, moved: vec![key("a")], ..Journal::default() };
        let mut windows: Windows<&str> = Windows::resume(journal, Vec::new());
        windows.asked(What::Keys(vec![key("a")]), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), Vec::new(), 0, false);
        // The stream is behind: it tells after the chunk what the snapshot had seen.
        assert_eq!(windows.before(&moves(8, &key("a"), &key("b"))), Before::Nothing);
        assert_eq!(windows.journal().moved, [key("b")]);
        let b = key("b");
        let gone =
            Touch { xid: FullXid(9), commit: Lsn::new(90), kind: Kind::Row { old: None, key: &b, unsent: false } };
        windows.before(&gone);
        windows.passed(Lsn::new(100));
        windows.settle(Ticket(9), Ticket(9));
        assert_eq!(windows.next(), Next::Confirm(Lsn::new(100)));
    }

    #[test]
    fn a_key_of_other_columns_begins_the_copy_anew() {
        let mut windows = one_chunk();
        windows.passed(Lsn::new(100));
        assert_eq!(windows.rest(), Some("A"));
        windows.begin_anew(false);
        assert_eq!((windows.rest(), windows.held_bytes()), (None, 0));
        assert_eq!(windows.next(), Next::Read(What::Beyond(None)));
    }

    #[test]
    fn too_many_moved_rows_begin_the_copy_anew() {
        let mut windows = one_chunk();
        for at in 0..=MOVED_MAX {
            assert_eq!(windows.before(&moves(11, &key("x"), &key(&format!("m{at}")))), Before::Nothing);
        }
        assert_eq!(windows.next(), Next::Read(What::Beyond(None)));
        assert_eq!(windows.take_journal(), Some(Journal::default()));
    }

    #[test]
    fn reading_does_not_run_ahead_of_the_positions_for_ever() {
        let mut windows = one_chunk();
        for at in 1..WINDOWS_MAX {
            windows.asked(What::Beyond(None), false);
            windows.snapshot("10:10:".parse().unwrap()).unwrap();
            windows.read(Lsn::new(100), vec![(key(&format!("c{at}")), "C")], 1, true);
        }
        assert_eq!(windows.next(), Next::Wait);
        windows.passed(Lsn::new(100));
        while windows.rest().is_some() {}
        windows.settle(Ticket(9), Ticket(9));
        assert_eq!(windows.next(), Next::Read(What::Beyond(Some(key(&format!("c{}", WINDOWS_MAX - 1))))));
        assert_eq!(windows.journal().rows, 2 + WINDOWS_MAX as u64 - 1);
    }

    #[test]
    fn the_rows_of_a_key_that_holds_null_come_together() {
        let null = RowKey::new([None]).unwrap();
        let mut windows = Windows::resume(Journal::default(), Vec::new());
        windows.asked(What::Beyond(None), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), vec![(null.clone(), "A"), (null.clone(), "B")], 20, false);
        let touch =
            Touch { xid: FullXid(11), commit: Lsn::new(5), kind: Kind::Row { old: None, key: &null, unsent: false } };
        assert_eq!(windows.before(&touch), Before::Rows(vec!["B", "A"]));
        assert!(!windows.has_rest());
    }

    #[test]
    fn a_journal_reads_back_as_itself() {
        let journal = Journal { after: Some(key("ü\"")), moved: vec![key("1")], fresh: true, ..Journal::default() };
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }

    #[test]
    fn a_position_behind_a_header_is_the_pages_start() {
        for (insert, waited) in [(8192 * 3 + 24, 8192 * 3), (8192 * 3 + 40, 8192 * 3), (8192 * 3 + 32, 8192 * 3 + 32)] {
            assert_eq!(reachable(Lsn::new(insert)), Lsn::new(waited));
        }
    }
}
