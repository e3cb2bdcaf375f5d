//! Backfill of one table in chunks while its changes stream, exactly and without a write to the
//! source. The code calls a chunk a *window* from its reading to its delivery.
//!
//! Pure: no IO, no clock, no randomness. The loop reports what happened (a snapshot was taken, a
//! chunk was read, a change is about to be sent, the stream has passed a position, the connection
//! was lost), and does what the answers say. `R` is a row, whose content this file never reads.
//!
//! The rows of a chunk are those that its snapshot S sees. A change of a transaction that S sees is
//! older than the chunk, and is sent without a row before it. Before the first change of a key by a
//! transaction that S does not see, the chunk's row of that key is sent. The other rows follow when
//! the stream has passed H, an insert position that was read after S was taken: everything that S
//! sees has been sent by then. After its delivery the chunk is recorded in the journal.
//!
//! Laws, tried in `simulation` with each [`Rule`] switched off in turn:
//! - When nothing changes any more, the newest record of every key equals the row.
//! - No older value follows a newer one, except in a replay of the stream.
//! - If an update leaves out an unchanged large value, the consumer has it or will receive it.

mod chunk;
mod moved;
mod rules;
mod terms;
#[cfg(test)]
mod simulation;

use chunk::{End, Leaving, Window};
use moved::{Missing, Moved, WindowId};
pub use rules::Rule;
use rules::Rules;
pub use terms::{Before, Journal, Kind, Next, Touch, What};

use super::keyset::RowKey;
use super::visibility::{FullXid, PgSnapshot};
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use std::collections::VecDeque;

/// The most chunks that were read and wait until the stream has passed their positions. No further
/// chunk is read then. While a writing transaction is open, a position is reached late (20 s were
/// measured). The byte budget bounds the bytes of the chunks.
const WINDOWS_MAX: usize = 8;

/// Most keys of a chunk that reads given keys again. Each key is a condition of the statement.
const KEYS_MAX: usize = 200;

/// Most rows that are remembered because an update moved them to another key without a large value.
/// If there are more, the table is copied again from its beginning. One state record holds all
/// their keys, and must not be larger than Kafka accepts.
const MOVED_MAX: usize = 2000;

/// Bytes of a WAL page. With another `wal_block_size`, a copy ends a little later, no more.
const PAGE_BYTES: u64 = 8192;
/// Bytes of the header of a WAL page, and of the header of a segment's first page.
const HEADERS: [u64; 2] = [24, 40];

/// The chunk that is requested or being read. There is at most one, because each chunk begins where
/// the last one ends.
#[derive(Debug)]
enum Reading {
    Idle,
    /// A chunk is requested, and its snapshot is not known yet. With `hold`, no change of the table
    /// is sent meanwhile.
    Requested {
        what: What,
        hold: bool,
    },
    /// The chunk is being read. Its rows are those that this snapshot sees.
    Under {
        what: What,
        snapshot: PgSnapshot,
    },
}

/// The chunks of the backfill of one table, from their request to their delivery.
#[derive(Debug)]
pub struct Windows<R> {
    rules: Rules,
    reading: Reading,
    /// Chunks that are not sent completely or whose positions the stream has not passed, in the
    /// order of reading.
    open: VecDeque<Window<R>>,
    leaving: VecDeque<Leaving>,
    /// `read_upto` is the last key of the ranges that were read. `read_all` is true if no range is
    /// left.
    read_upto: Option<RowKey>,
    read_all: bool,
    /// Transactions whose changes of this table were sent and which no snapshot has seen.
    emitted: Vec<FullXid>,
    /// Other transactions that the next snapshot has to see, as the caller of this struct says.
    awaited: Vec<FullXid>,
    moved: Moved,
    /// Number of the last chunk, or 0 before the first.
    ids: WindowId,
    journal: Journal,
    /// True if the journal has changed since [`Windows::take_journal`] returned it.
    dirty: bool,
}

impl<R> Windows<R> {
    /// Continues a copy from its journal. The first snapshot has to see all of `awaited`:
    /// transactions that were sent before this table was watched and, for a table that was just
    /// published, all transactions that were writing at that moment.
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

    /// Decides what the copy does next: read a chunk, wait, or end.
    #[must_use]
    pub fn next(&self) -> Next {
        if !matches!(self.reading, Reading::Idle) {
            return Next::Wait;
        }
        if !self.read_all {
            let full = self.open.len() >= WINDOWS_MAX;
            return if full {
                Next::Wait
            } else {
                Next::Read(What::Beyond(self.read_upto.clone()))
            };
        }
        // Moved rows are read again only after the open chunks are sent. Most of the rows that move
        // until then are in these chunks, or are gone.
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

    /// Notes that a chunk is requested. With `hold`, no change of the table is sent until the
    /// chunk's snapshot is known. Without `hold`, under steady writes, some change would be sent
    /// just before each snapshot, and the snapshot would not see this change.
    pub fn request(&mut self, what: What, hold: bool) {
        assert!(!self.is_reading(), "a chunk begins where the one that is being read ends");
        self.reading = Reading::Requested { what, hold };
    }

    /// Returns what the requested chunk has to read. `None` if no chunk is requested, or if the
    /// snapshot of the requested chunk is known.
    #[must_use]
    pub fn requested(&self) -> Option<&What> {
        match &self.reading {
            Reading::Requested { what, .. } => Some(what),
            Reading::Under { .. } | Reading::Idle => None,
        }
    }

    /// True if a chunk is requested or being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        !matches!(self.reading, Reading::Idle)
    }

    /// Adds transactions that the next snapshot has to see.
    pub fn wait_for(&mut self, awaited: &[FullXid]) {
        self.awaited.extend(awaited);
        self.awaited.sort_unstable();
        self.awaited.dedup();
    }

    /// Takes the snapshot of the requested chunk. The caller has locked the table before it took
    /// the snapshot.
    ///
    /// # Errors
    /// Transactions that the snapshot must see and does not see. The chunk is then not read.
    pub fn snapshot(&mut self, snapshot: PgSnapshot) -> Result<(), Vec<FullXid>> {
        let Reading::Requested { what, .. } = std::mem::replace(&mut self.reading, Reading::Idle)
        else {
            return Ok(()); // the chunk was given up meanwhile
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

    /// Takes the rows of the chunk. `upto` is the server's insert position, read after the snapshot
    /// was taken. With `more`, the table may have rows beyond the last one of `rows`, which has the
    /// largest key of the chunk.
    pub fn read(&mut self, upto: Lsn, rows: Vec<(RowKey, R)>, size_bytes: usize, more: bool) {
        let Reading::Under { what, snapshot } = std::mem::replace(&mut self.reading, Reading::Idle)
        else {
            return; // the chunk was given up meanwhile
        };
        let upto =
            if self.rules.keeps(Rule::PageHeadersDoNotCount) { reachable(upto) } else { upto };
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
        // If a requested key has no row, a change that the stream brings before the position has
        // moved or deleted the row.
        let holds = |key: &RowKey| {
            window.holds(key) || keys.as_ref().is_some_and(|keys| keys.contains(key))
        };
        self.moved.cover(id, &window.snapshot, holds);
        self.open.push_back(window);
        assert!(
            self.open.len() <= WINDOWS_MAX,
            "a chunk is read only while fewer than {WINDOWS_MAX} wait"
        );
    }

    /// Gives up the chunk that is requested or being read. The caller requests the chunk again,
    /// with fewer rows or later.
    pub fn give_up(&mut self) {
        self.reading = Reading::Idle;
    }

    /// Returns true if a change of the table by this transaction must not be sent now, because of a
    /// chunk that is requested or being read.
    #[must_use]
    pub fn holds(&self, xid: FullXid) -> bool {
        match &self.reading {
            Reading::Requested { hold, .. } => *hold,
            Reading::Under { snapshot, .. } => {
                self.rules.keeps(Rule::HoldsWhileReading) && !snapshot.sees(xid)
            }
            Reading::Idle => false,
        }
    }

    /// Decides what happens before a change of the table is sent: nothing, or rows of chunks are
    /// sent first, or the stream waits.
    pub fn before(&mut self, touch: &Touch<'_>) -> Before<R> {
        if self.holds(touch.xid) {
            return Before::Hold;
        }
        self.note(touch);
        let mut rows = Vec::new();
        if self.rules.keeps(Rule::ChunkRowComesFirst) {
            for window in self.open.iter_mut().filter(|window| !window.snapshot.sees(touch.xid)) {
                match touch.kind {
                    Kind::Truncate if self.rules.keeps(Rule::TruncateFlushes) => {
                        window.take_all(&mut rows)
                    }
                    Kind::Truncate => {}
                    Kind::Row { old, key, .. } => {
                        if let Some(old) =
                            old.filter(|_| self.rules.keeps(Rule::KeyChangeTouchesBoth))
                        {
                            window.take(old, &mut rows);
                        }
                        window.take(key, &mut rows);
                    }
                }
            }
        }
        if rows.is_empty() { Before::Nothing } else { Before::Rows(rows) }
    }

    /// Remembers the transaction of a change until a snapshot sees that transaction. An update that
    /// moves a row to another key without its unchanged large values is remembered too. A change
    /// with all values of a row ends what was remembered of that row, and a truncate ends what was
    /// remembered of all rows.
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
            // The row keeps its key. If the consumer lacks a value of the row, it still does.
            Kind::Row { old: None, unsent: true, .. } => {}
            Kind::Row { old: Some(old), key, unsent: true } => self.note_move(touch, old, key),
        }
    }

    /// Notes an update that moves a row to another key without all of its values. The row is
    /// remembered unless the consumer has the values at the old key. If an open chunk brings the
    /// values, the number of this chunk is noted too.
    fn note_move(&mut self, touch: &Touch<'_>, old: &RowKey, key: &RowKey) {
        let was = self.moved.get(old).filter(|_| self.rules.keeps(Rule::LackMovesWithTheRow));
        self.moved.remove(old);
        let sees = |window: &Window<R>| window.snapshot.sees(touch.xid);
        let saw_it = |id| self.open.iter().any(|window| window.id == id && sees(window));
        let arrives = self
            .open
            .iter()
            .find(|window| sees(window) && window.holds(key))
            .map(|window| window.id);
        let cover = match (arrives, was) {
            (Some(id), _) => Some(id),
            // If the snapshot of a chunk sees this change, the chunk has no row at the old key.
            (None, Some(missing)) => missing
                .cover
                .filter(|id| !saw_it(*id) || !self.rules.keeps(Rule::CoversWhatItHolds)),
            (None, None) => match self.open.iter().find(|window| !sees(window) && window.held(old))
            {
                Some(window) => Some(window.id),
                // The row was copied completely or inserted since, and now gets another key.
                // Without a copy the stream would leave the large value out here too, so the copy
                // need not bring it.
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

    /// True if all ranges of the table are read and no chunk of them contains the change. A change
    /// that commits at or beyond the position of a delivered chunk is not in that chunk.
    fn is_copied(&self, touch: &Touch<'_>) -> bool {
        let mut ranges = self.open.iter().filter(|window| window.end.is_of_range());
        self.read_all
            && touch.commit >= self.journal.upto
            && !ranges.any(|window| window.snapshot.sees(touch.xid))
    }

    /// Copies the table again from its beginning. This happens if its key has other columns, if too
    /// many rows have moved, or (`fresh`) if other rows or columns of it are published than before.
    pub fn begin_anew(&mut self, fresh: bool) {
        self.moved.clear();
        let Journal { upto, fresh: was, .. } = self.journal;
        self.journal = Journal { upto, fresh: was || fresh, ..Journal::default() };
        self.drop_windows();
        self.dirty = true;
    }

    /// Notes that the stream is at this position outside of a transaction. The remaining rows of
    /// each chunk that waited for this position can then be sent.
    pub fn passed(&mut self, position: Lsn) {
        for window in &mut self.open {
            window.passed |=
                position >= window.upto || !self.rules.keeps(Rule::RestWaitsForPosition);
        }
    }

    /// Takes the next row of the first open chunk. `None` if this chunk has no row left, or if the
    /// stream has not passed the position of the chunk.
    pub fn rest(&mut self) -> Option<R> {
        self.open.front_mut().filter(|window| window.passed).and_then(Window::next)
    }

    /// True if [`Windows::rest`] would return a row.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.open.front().is_some_and(|window| window.passed && window.left > 0)
    }

    /// True if a chunk was sent completely and is not delivered.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Closes the chunks whose rows were all sent. The tickets of these rows are below `next`. All
    /// tickets below `oldest` are delivered, and closed chunks with only such tickets are recorded
    /// in the journal. Returns true if [`Windows::take_journal`] has a journal to return.
    pub fn settle(&mut self, next: Ticket, oldest: Ticket) -> bool {
        while let Some(window) = self.open.pop_front_if(|window| window.passed && window.left == 0)
        {
            let Window { id, end, upto, .. } = window;
            self.leaving.push_back(Leaving { id, end, upto, below: next });
        }
        let delivered = |leaving: &mut Leaving| {
            leaving.below <= oldest || !self.rules.keeps(Rule::JournalAfterDelivery)
        };
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

    /// Returns the journal if it has changed since the last call, and `None` otherwise. The journal
    /// has to be stored before a later position is confirmed, because the server then does not
    /// repeat the change that moved a row.
    pub fn take_journal(&mut self) -> Option<Journal> {
        std::mem::take(&mut self.dirty).then(|| self.journal())
    }

    /// The journal with the keys of all moved rows.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal { moved: self.moved.keys(), ..self.journal.clone() }
    }

    /// Drops all chunks, after the connection or the producer was lost. They are read again.
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

    /// Bytes of all open chunks that have a row left to send.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.open.iter().filter(|window| window.left > 0).map(|window| window.size_bytes).sum()
    }

    /// Number of open chunks, and the position that the first of them waits for.
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

/// Rounds an insert position just past a WAL page header down to the start of the page. The server
/// reports the position before it writes the header, and an idle stream stays at the page's start.
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

    /// A copy with one chunk read: it has the keys a and b, and waits for position 100.
    fn one_chunk() -> Windows<&'static str> {
        let mut windows = Windows::resume(Journal::default(), Vec::new());
        windows.request(What::Beyond(None), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), vec![(key("a"), "A"), (key("b"), "B")], 20, true);
        windows
    }

    fn moves(xid: u64, old: &RowKey, key: &RowKey) -> Touch<'static> {
        let (old, key) = (Box::leak(Box::new(old.clone())), Box::leak(Box::new(key.clone())));
        Touch {
            xid: FullXid(xid),
            commit: Lsn::new(200),
            kind: Kind::Row { old: Some(old), key, unsent: true },
        }
    }

    /// A copy that has read everything, and whose rows at some of 12 keys lack a value. These rows
    /// are read again. Meanwhile and afterwards, transactions that the snapshot does not see move,
    /// delete and insert rows. Returns true if the copy comes to its end.
    fn ends_though_rows_go_on(missing: &[bool], steps: &[(usize, usize, u8)]) -> bool {
        let name = |at: usize| key(&format!("k{at}"));
        let keys: Vec<usize> = (0..missing.len()).filter(|at| missing[*at]).collect();
        let moved = keys.iter().map(|at| name(*at)).collect();
        let journal = Journal { ended: true, upto: Lsn::new(50), moved, ..Journal::default() };
        let mut windows = Windows::resume(journal, Vec::new());
        let Next::Read(what) = windows.next() else { return keys.is_empty() };
        windows.request(what, false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), keys.iter().map(|at| (name(*at), "row")).collect(), 20, false);
        let mut taken = missing.to_vec();
        for (xid, &(from, to, what)) in (11..).zip(steps) {
            let (old, new) = (name(from), name(to));
            let kind = match what {
                0 if taken[from] => Kind::Row { old: None, key: &old, unsent: false },
                1 if !taken[from] => Kind::Row { old: None, key: &old, unsent: false },
                2 if taken[from] => Kind::Row { old: None, key: &old, unsent: true },
                3.. if taken[from] && !taken[to] => {
                    Kind::Row { old: Some(&old), key: &new, unsent: true }
                }
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
        windows.request(What::Keys(vec![key("a")]), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), Vec::new(), 0, false);
        // The stream is behind the chunk: it brings changes that the snapshot has seen.
        assert_eq!(windows.before(&moves(8, &key("a"), &key("b"))), Before::Nothing);
        assert_eq!(windows.journal().moved, [key("b")]);
        let b = key("b");
        let gone = Touch {
            xid: FullXid(9),
            commit: Lsn::new(90),
            kind: Kind::Row { old: None, key: &b, unsent: false },
        };
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
            assert_eq!(
                windows.before(&moves(11, &key("x"), &key(&format!("m{at}")))),
                Before::Nothing
            );
        }
        assert_eq!(windows.next(), Next::Read(What::Beyond(None)));
        assert_eq!(windows.take_journal(), Some(Journal::default()));
    }

    #[test]
    fn chunks_that_are_passed_at_once_leave_one_by_one() {
        let mut windows = one_chunk();
        windows.request(What::Beyond(None), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(120), vec![(key("c"), "C")], 10, true);
        windows.passed(Lsn::new(130));
        let left: Vec<&str> = std::iter::from_fn(|| windows.rest()).collect();
        assert_eq!(left, ["A", "B"]);
        assert!(!windows.has_rest(), "the first chunk is not settled");
        windows.settle(Ticket(3), Ticket(1));
        assert!(windows.is_leaving());
        assert_eq!(windows.rest(), Some("C"));
    }

    #[test]
    fn reading_does_not_run_ahead_of_the_positions_for_ever() {
        let mut windows = one_chunk();
        for at in 1..WINDOWS_MAX {
            windows.request(What::Beyond(None), false);
            windows.snapshot("10:10:".parse().unwrap()).unwrap();
            windows.read(Lsn::new(100), vec![(key(&format!("c{at}")), "C")], 1, true);
        }
        assert_eq!(windows.next(), Next::Wait);
        windows.passed(Lsn::new(100));
        for _ in 0..WINDOWS_MAX {
            while windows.rest().is_some() {}
            windows.settle(Ticket(9), Ticket(9));
        }
        assert_eq!(
            windows.next(),
            Next::Read(What::Beyond(Some(key(&format!("c{}", WINDOWS_MAX - 1)))))
        );
        assert_eq!(windows.journal().rows, 2 + WINDOWS_MAX as u64 - 1);
    }

    #[test]
    fn the_rows_of_a_key_that_holds_null_come_together() {
        let null = RowKey::new([None]).unwrap();
        let mut windows = Windows::resume(Journal::default(), Vec::new());
        windows.request(What::Beyond(None), false);
        windows.snapshot("10:10:".parse().unwrap()).unwrap();
        windows.read(Lsn::new(100), vec![(null.clone(), "A"), (null.clone(), "B")], 20, false);
        let touch = Touch {
            xid: FullXid(11),
            commit: Lsn::new(5),
            kind: Kind::Row { old: None, key: &null, unsent: false },
        };
        assert_eq!(windows.before(&touch), Before::Rows(vec!["B", "A"]));
        assert!(!windows.has_rest());
    }

    #[test]
    fn a_journal_reads_back_as_itself() {
        let journal = Journal {
            after: Some(key("ü\"")),
            moved: vec![key("1")],
            fresh: true,
            ..Journal::default()
        };
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }

    #[test]
    fn a_position_behind_a_header_is_the_pages_start() {
        for (insert, waited) in
            [(8192 * 3 + 24, 8192 * 3), (8192 * 3 + 40, 8192 * 3), (8192 * 3 + 32, 8192 * 3 + 32)]
        {
            assert_eq!(reachable(Lsn::new(insert)), Lsn::new(waited));
        }
    }
}
