//! Backfills, which copy a table while the stream runs, and standstills, for which it pauses.
//!
//! [`Copies`] decides which table is read next, what the row path must do before a change, which
//! copied rows may be sent, and what is recorded. The rules of a single table are in
//! `snapshot::window` and `snapshot::standstill`; this room applies them to tables, plans and time.
//! Nothing here waits or does IO: the runner performs each [`Task`] and reports its result.
//!
//! One chunk is read at a time, of the first table that can continue. Changes are watched for every
//! table whose copy has begun. If no copy runs, the row path pays for a search in an empty list.

mod chunks;
mod copy;
pub mod notices;
mod results;
mod debts;
mod left;
mod pace;
mod place;
mod progress;
mod repair;
mod row;
mod shape;
mod signals;
mod news;
mod keys;
mod unwritten;
mod waits;
mod standstill;

pub use copy::{Held, Shape};
pub use left::{events_only, not_captured, queried};
pub use pace::PiecePace;
pub use signals::{Origin, Wanted};

use copy::{Copy, Known, Stage};
use news::CopyNews;
use pace::Pace;
use place::{History, Numbers, StreamPlace};
use shape::key_names;
use unwritten::Unwritten;

use crate::change::RelationSlot;
use crate::continuity::Reply;
use crate::continuity::checkpoint::{FORMAT, Window};
use crate::core::{Moment, SECOND};
use crate::lsn::Oid;
use crate::metrics::WindowTotals;
use crate::plans::Active;
use crate::postgres::holder::CopyTable;
use crate::snapshot::keyset::RowKey;
use crate::snapshot::visibility::{FullXid, PgSnapshot, Unseen};
use crate::snapshot::window::{Journal, Windows};
use crate::table::TableName;
use notices::{About, Data, News, NewsBuffer};
use std::collections::{BTreeMap, BTreeSet};

/// The longest time that the stream may be held for a chunk (`docs/internals/copies.md`).
const HOLD: u64 = SECOND / 5;
/// The same limit for a chunk of one row, which cannot be made smaller.
const HOLD_LAST: u64 = SECOND * 9 / 10;
/// Pause between two snapshots that are tried while the stream may be held. Most commits become
/// visible within less time, and more frequent tries do not make the others visible sooner.
const TRY_SPACING: u64 = SECOND / 100;
/// Pause before a postponed copy is tried again. It doubles from the minimum to the maximum.
const BACKOFF_MIN: u64 = SECOND / 5;
const BACKOFF_MAX: u64 = 5 * SECOND;
/// Rows of the first chunk, and the most rows that a chunk may grow to.
const ROWS_FIRST: u64 = 1000;
const ROWS_MAX: u64 = 50_000;
/// A chunk that takes less than `QUICK` doubles the next chunk, and one that takes more than `SLOW`
/// halves it. The stream is then rarely held for as long as [`HOLD`].
const QUICK: u64 = SECOND / 20;
const SLOW: u64 = SECOND / 8;

/// A task that the runner performs for a copy.
#[derive(Debug)]
pub enum Task {
    /// Lets the server parse `statement`, then calls [`crate::snapshot::reader::Reader::survey`].
    Survey { id: u64, table: String, relation: Option<Oid>, statement: Option<String> },
    /// Plans this table and passes the plan to [`Copies::planned`].
    Plan { id: u64, table: Box<CopyTable> },
    /// Begins a chunk by [`crate::snapshot::reader::Reader::begin`].
    Begin { id: u64, table: Box<CopyTable> },
    /// Reads the rows of the begun chunk by [`crate::snapshot::reader::Reader::read`].
    Read { id: u64, table: String, select: String },
    /// Calls [`crate::snapshot::temporary::Temporary::start`] for a standstill.
    Standstill { id: u64, table: TableName, relation: Oid, filter: Option<String> },
}

/// All backfills and standstills of the process. See the documentation of the module.
pub struct Copies {
    list: Vec<Copy>,
    /// Relations whose changes a copy has to see, each with the index of the copy in `list`.
    watched: Vec<(RelationSlot, usize)>,
    unseen: Unseen,
    stream: StreamPlace,
    unwritten: Unwritten,
    numbers: Numbers,
    history: History,
    /// The standstill under way. There is at most one.
    standstill: Option<standstill::UnderWay>,
    pace: Pace,
    /// Tables for which `snapshot.query` has a query. Such a table cannot be read in chunks.
    queried: BTreeSet<String>,
    now: Moment,
    finished: progress::Finished,
    totals: WindowTotals,
    news: CopyNews,
    debts: debts::Debts,
}

impl Copies {
    /// An empty set of copies. `notices` is true if somebody wants notices of them.
    #[must_use]
    pub fn new(slot_name: &str, notices: bool) -> Self {
        Copies {
            list: Vec::new(),
            watched: Vec::new(),
            unseen: Unseen::default(),
            stream: StreamPlace::default(),
            unwritten: Unwritten::new(slot_name),
            numbers: Numbers::default(),
            history: History::default(),
            standstill: None,
            pace: Pace::free(),
            queried: BTreeSet::new(),
            now: Moment::default(),
            finished: progress::Finished::default(),
            totals: WindowTotals::default(),
            news: CopyNews::new(notices),
            debts: debts::Debts::default(),
        }
    }

    /// Begins a connection that passed all checks. Recorded copies continue on the first connection
    /// of the process, and on the first connection after a consent. On the first connection of the
    /// process, and after a consent on another timeline, the checkpoint says which sent
    /// transactions snapshots have to see.
    pub fn opened(
        &mut self,
        record: &crate::continuity::checkpoint::Checkpoint,
        windows: &BTreeMap<String, Window>,
        snapshot: &PgSnapshot,
        first: bool,
    ) {
        let is_consented = self.history.epoch != record.epoch;
        self.numbers.begin_term(record.term);
        // A transaction that a failover undid never ends on the new timeline.
        let is_undone = is_consented && self.history.timeline != record.timeline;
        self.history = History { epoch: record.epoch, timeline: record.timeline };
        if first || is_undone {
            let pending: Vec<FullXid> =
                record.pending_xids.iter().map(|xid| FullXid(*xid)).collect();
            self.unseen = Unseen::resume(&pending, record.pending_upto.map(FullXid), snapshot);
        } else {
            self.unseen.on_snapshot(snapshot);
        }
        // Later connections know all copies already, unless a consent to a gap has asked for new
        // ones.
        if !first && !is_consented {
            return;
        }
        for (table, window) in windows.iter().filter(|(_, window)| window.format <= FORMAT) {
            let listed = self.list.iter().position(|copy| copy.name == *table);
            // The consent has asked for a copy of the whole table. The new copy replaces the listed
            // one, which may have failed, be paused, or copy a part. A listed copy whose request
            // waits for its answer stays.
            let is_asked_again = |copy: &Copy| {
                window.epoch == 0 && window.asked_ms != copy.window.asked_ms && copy.reply.is_none()
            };
            let mut owed = None;
            if let Some(at) = listed {
                if first || !self.list.get(at).is_some_and(is_asked_again) {
                    continue;
                }
                owed = self.list.remove(at).owed;
            }
            let id = self.numbers.next_id();
            self.list.push(Copy { owed, ..Copy::new(id, table, window.clone(), self.now, None) });
        }
        self.watch();
    }

    /// True if no copy is under way, not even a failed one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes the operator's limit of rows per second, and the tables with a `snapshot.query`.
    pub fn configure(&mut self, snapshot: &crate::snapshot::Config) {
        self.pace.configure(snapshot.rows_per_second, self.now);
        self.queried = snapshot.queries.keys().cloned().collect();
        self.debts.configure(snapshot);
    }

    /// Sets the time, and adds the time that has passed to the totals for the metrics.
    pub fn set_now(&mut self, now: Moment) {
        self.count_time(now);
        self.now = now;
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.list.iter().position(|copy| copy.id == id)
    }

    /// True if the table has a copy in the list, failed ones included.
    #[must_use]
    pub fn is_copying(&self, table: &str) -> bool {
        self.list.iter().any(|copy| copy.name == table)
    }

    /// True if the table's copy has failed. A new request then begins it again.
    #[must_use]
    pub fn has_failed(&self, table: &str) -> bool {
        self.list.iter().any(|copy| copy.name == table && matches!(copy.stage, Stage::Failed(..)))
    }

    /// Begins a copy. `fresh` is true if the topic lacks rows without this copy, as after the table
    /// was published. The first chunk then also waits for all transactions that write when the copy
    /// begins. A failed copy of the same table is replaced. If the first copy left the table to the
    /// failed copy, the new copy takes its place.
    pub fn begin(
        &mut self,
        table: &TableName,
        filter: Option<String>,
        fresh: bool,
        now_ms: i64,
        reply: Option<Reply>,
    ) {
        let name = table.to_string();
        let failed = self
            .list
            .iter()
            .find(|copy| copy.name == name && matches!(copy.stage, Stage::Failed(..)));
        let (owed, needed, was_fresh) = failed.map_or((None, fresh, false), |copy| {
            (copy.owed, fresh || copy.window.needed, copy.window.journal.fresh)
        });
        if failed.is_some() {
            self.forget(|other| other != name);
        }
        let journal = Journal { fresh: fresh || was_fresh, ..Journal::default() };
        self.push(table, Window { needed, journal, ..Window::requested(filter, now_ms) }, reply);
        owed.into_iter().for_each(|epoch| self.owe(&name, epoch));
    }

    fn push(&mut self, table: &TableName, window: Window, reply: Option<Reply>) {
        let name = table.to_string();
        let id = self.numbers.next_id();
        self.starts();
        self.list.push(Copy::new(id, &name, window, self.now, reply));
        self.store(self.list.len() - 1);
    }

    /// Ends every copy without completing it, and returns the names of the tables.
    pub fn cancel(&mut self) -> Vec<String> {
        let names: Vec<String> = self.list.iter().map(|copy| copy.name.clone()).collect();
        if !names.is_empty() {
            self.tell_aborted(None);
        }
        for name in &names {
            self.unwritten.remove(name);
        }
        self.lack_what_is_cancelled();
        self.list.clear();
        self.watched.clear();
        self.stream.held = None;
        self.drop_standstill();
        names
    }

    /// Forgets everything that belonged to the connection or to the producer: one of them was lost.
    /// Copies are surveyed again and continue from their records.
    pub fn lost(&mut self) {
        self.watched.clear();
        self.stream = StreamPlace::default();
        self.drop_standstill();
        for copy in &mut self.list {
            copy.slot = None;
            copy.standstill.iter_mut().for_each(|round| round.ended = None);
            copy.known = None;
            copy.waits.hold_since = None;
            copy.waits.unseen = false;
            if let Some(windows) = &mut copy.windows {
                windows.lost();
            }
            if !matches!(copy.stage, Stage::Failed(..)) {
                copy.stage = Stage::Unsurveyed;
            }
        }
    }

    /// Ends the copies of all tables that `keep` refuses, and queues the removal of their state
    /// records.
    pub fn forget(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .list
            .iter()
            .filter(|copy| !keep(&copy.name))
            .map(|copy| copy.name.clone())
            .collect();
        self.list.retain(|copy| keep(&copy.name));
        for name in gone {
            self.unwritten.remove(&name);
        }
        self.watch();
    }

    fn watch(&mut self) {
        let slots = self.list.iter().enumerate().filter(|(_, copy)| copy.windows.is_some());
        self.watched = slots.filter_map(|(at, copy)| Some((copy.slot?, at))).collect();
        self.watch_standstill();
    }

    /// Notes the relation of a Relation message for the copy of its table. If the key of the table
    /// has other columns than the key by which the copy reads ranges, the copy begins again.
    pub fn relation(&mut self, slot: RelationSlot, relation: Oid, active: &Active) {
        for at in 0..self.list.len() {
            let Some(copy) = self.list.get_mut(at).filter(|copy| copy.window.relation == relation)
            else {
                continue;
            };
            copy.slot = Some(slot);
            let key: Vec<String> = key_names(active);
            if !copy.window.key.is_empty() && key != copy.window.key {
                copy.key_changed(key);
                self.store(at);
            }
        }
        self.watch();
    }

    /// Notes the relations that the stream has announced before the copies of their tables began.
    pub fn relations(&mut self, known: impl Iterator<Item = (RelationSlot, Oid)>) {
        for (slot, relation) in known {
            for copy in self.list.iter_mut().filter(|copy| copy.window.relation == relation) {
                copy.slot = Some(slot);
            }
        }
        self.watch();
    }
}
