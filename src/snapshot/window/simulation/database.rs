//! The source in memory: transactions with row locks, WAL, snapshots, and all that makes backfills
//! hard.
//!
//! This source follows the rules of Postgres that matter for chunks. A commit record is written,
//! flushed and decoded before or after its transaction becomes visible, independently of each
//! other. A snapshot lists running ids below the latest one that has ended. A snapshot that was
//! taken before a rewrite or a truncate finds the table empty. Row locks last until the transaction
//! is visible.

use super::super::super::visibility::{FullXid, PgSnapshot};
use super::Rng;
use crate::lsn::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// Number of keys in a wide run. A narrow run has half as many, and so more conflicts on each key.
const KEYS: u64 = 9;

/// The content of a row: the version of its last change, and the version of its large value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub version: u64,
    pub toast: u64,
}

/// One change of the table, as the WAL holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// An insert or an update. `from` is the old key if it changed. `toast` is `None` if the large
    /// value did not change.
    Put {
        from: Option<u64>,
        key: u64,
        version: u64,
        toast: Option<u64>,
    },
    Delete {
        key: u64,
        version: u64,
    },
    Truncate {
        version: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Prepared,
    /// The commit record is in the WAL, and the transaction is not visible yet.
    Committed,
    Visible,
    Aborted,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub xid: FullXid,
    pub state: State,
    /// Changes of the transaction, each with the position of its WAL record.
    pub ops: Vec<(Lsn, Op)>,
    /// Rows as the transaction left them, by key. `None` is a deleted row.
    own: BTreeMap<u64, Option<Row>>,
    /// True if the transaction truncated the table before the changes in `own`.
    emptied: bool,
    /// True if the transaction gave the table new storage. Snapshots that do not see it find the
    /// table empty.
    restored: bool,
    pub start: Lsn,
    pub end: Lsn,
}

impl Transaction {
    pub fn has_new_storage(&self) -> bool {
        self.restored
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Visible | State::Aborted)
    }
}

pub struct Database {
    pub transactions: Vec<Transaction>,
    /// Indices of committed transactions, in the order of their commit records.
    pub commits: Vec<usize>,
    /// Indices of visible transactions, in the order in which they became visible.
    visible: Vec<usize>,
    insert: u64,
    pub flushed: u64,
    versions: u64,
    /// WAL position at which the table was published. Changes before this position are not
    /// published.
    pub published: Lsn,
    keys: u64,
    /// True while a reader holds ACCESS SHARE.
    pub read_lock: bool,
    /// True if most statements change the key of a row, and few its large value.
    pub moving: bool,
}

impl Database {
    pub fn new(rng: &mut Rng) -> Self {
        let mut database = Database {
            transactions: Vec::new(),
            commits: Vec::new(),
            visible: Vec::new(),
            insert: 5 * 8192 + 100,
            flushed: 0,
            versions: 0,
            published: Lsn::ZERO,
            keys: if rng.one_in(2) { KEYS } else { KEYS / 2 },
            read_lock: false,
            moving: false,
        };
        for key in 0..database.keys {
            if rng.below(3) > 0 {
                let at = database.begin();
                database.put(at, None, key, true);
                database.commit(at);
                database.transactions[at].state = State::Visible;
                database.visible.push(at);
            }
        }
        database.flushed = database.insert;
        database
    }

    /// Begins a transaction. The ids lie close below 2^32, so that 32-bit ids wrap around during a
    /// run.
    fn begin(&mut self) -> usize {
        let xid = FullXid((1 << 32) - 30 + self.transactions.len() as u64);
        self.transactions.push(Transaction {
            xid,
            state: State::Open,
            ops: Vec::new(),
            own: BTreeMap::new(),
            emptied: false,
            restored: false,
            start: Lsn::ZERO,
            end: Lsn::ZERO,
        });
        self.transactions.len() - 1
    }

    /// Writes a WAL record of this size, and returns its position. The first record of a page
    /// begins after the page header.
    fn log(&mut self, bytes: u64) -> Lsn {
        let start = self.insert_lsn();
        self.insert = start.bytes() + bytes;
        start
    }

    /// What `pg_current_wal_insert_lsn()` returns.
    pub fn insert_lsn(&self) -> Lsn {
        Lsn::new(if self.insert.is_multiple_of(8192) { self.insert + 24 } else { self.insert })
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn row(&self, at: usize, key: u64) -> Option<Row> {
        let own = &self.transactions[at];
        match own.own.get(&key) {
            Some(row) => *row,
            None if own.emptied => None,
            None => self.state(&|xid| self.is_visible(xid)).get(&key).copied(),
        }
    }

    fn is_visible(&self, xid: FullXid) -> bool {
        self.visible.iter().any(|at| self.transactions[*at].xid == xid)
    }

    /// Returns the rows of the table after all visible transactions for which `sees` is true.
    fn state(&self, sees: &dyn Fn(FullXid) -> bool) -> BTreeMap<u64, Row> {
        let mut rows = BTreeMap::new();
        for transaction in
            self.visible.iter().map(|at| &self.transactions[*at]).filter(|t| sees(t.xid))
        {
            if transaction.emptied {
                rows.clear();
            }
            for (key, row) in &transaction.own {
                match row {
                    Some(row) => drop(rows.insert(*key, *row)),
                    None => drop(rows.remove(key)),
                }
            }
        }
        rows
    }

    pub fn rows(&self) -> BTreeMap<u64, Row> {
        self.state(&|_| true)
    }

    /// The rows that a reader with this snapshot finds now.
    pub fn read(&self, snapshot: &PgSnapshot) -> BTreeMap<u64, Row> {
        if self
            .visible
            .iter()
            .map(|at| &self.transactions[*at])
            .any(|t| t.restored && !snapshot.sees(t.xid))
        {
            return BTreeMap::new();
        }
        self.state(&|xid| snapshot.sees(xid))
    }

    pub fn snapshot(&self) -> PgSnapshot {
        let ended = self
            .transactions
            .iter()
            .filter(|t| t.is_over())
            .map(|t| t.xid.0 + 1)
            .max()
            .unwrap_or(0);
        let running: Vec<FullXid> = self
            .transactions
            .iter()
            .filter(|t| !t.is_over() && t.xid.0 < ended)
            .map(|t| t.xid)
            .collect();
        let xmin = running.first().copied().unwrap_or(FullXid(ended));
        PgSnapshot::new(xmin, FullXid(ended), running).unwrap()
    }

    /// Returns the ids of the running transactions, as `pg_locks` shows them.
    pub fn locked(&self) -> Vec<crate::lsn::Xid> {
        self.transactions
            .iter()
            .filter(|t| !t.is_over())
            .map(|t| crate::lsn::Xid(t.xid.0 as u32))
            .collect()
    }

    fn is_locked(&self, by_others_than: usize, key: u64) -> bool {
        let others = self
            .transactions
            .iter()
            .enumerate()
            .filter(|(at, t)| *at != by_others_than && !t.is_over());
        others.into_iter().any(|(_, t)| t.restored || t.own.contains_key(&key))
    }

    fn put(&mut self, at: usize, from: Option<u64>, key: u64, fresh: bool) {
        let before = self.row(at, from.unwrap_or(key));
        let version = self.version();
        let kept = before.filter(|_| !fresh).map(|row| row.toast);
        let row = Row { version, toast: kept.unwrap_or(version) };
        let lsn = self.log(60);
        let own = &mut self.transactions[at];
        if let Some(from) = from {
            own.own.insert(from, None);
        }
        own.own.insert(key, Some(row));
        let toast = if kept.is_some() { None } else { Some(row.toast) };
        own.ops.push((lsn, Op::Put { from, key, version, toast }));
    }

    /// Executes one statement of some transaction, unless a lock prevents it. The transaction may
    /// be a new one.
    pub fn write(&mut self, rng: &mut Rng) {
        let open: Vec<usize> = self.indices(State::Open);
        let at = match rng.pick(&open) {
            Some(at) if !rng.one_in(3) => at,
            _ if open.len() < 6 => self.begin(),
            _ => return,
        };
        let key = rng.below(self.keys);
        if self.is_locked(at, key) {
            return;
        }
        let statement = if self.moving && !rng.one_in(3) { 2 } else { rng.below(10) };
        let kept = if self.moving { 20 } else { 4 };
        match (statement, self.row(at, key)) {
            (0 | 1, Some(_)) => {
                let version = self.version();
                let lsn = self.log(50);
                self.transactions[at].own.insert(key, None);
                self.transactions[at].ops.push((lsn, Op::Delete { key, version }));
            }
            (2..=4, Some(_)) => {
                let to = rng.below(self.keys);
                if to != key && !self.is_locked(at, to) && self.row(at, to).is_none() {
                    self.put(at, Some(key), to, rng.one_in(kept));
                }
            }
            (5, _) if rng.one_in(4) => self.empty(at),
            (6, _) if rng.one_in(3) => self.rewrite(),
            (_, row) => self.put(at, None, key, row.is_none() || rng.one_in(3)),
        }
    }

    /// True if the transaction `at` can take ACCESS EXCLUSIVE: no other open transaction has
    /// touched the table, and no reader holds ACCESS SHARE.
    fn exclusive(&self, at: Option<usize>) -> bool {
        let others = self
            .transactions
            .iter()
            .enumerate()
            .filter(|(other, t)| Some(*other) != at && !t.is_over());
        !self.read_lock && others.into_iter().all(|(_, t)| t.own.is_empty() && !t.restored)
    }

    fn empty(&mut self, at: usize) {
        if !self.exclusive(Some(at)) {
            return;
        }
        let version = self.version();
        let lsn = self.log(50);
        let own = &mut self.transactions[at];
        (own.emptied, own.restored) = (true, true);
        own.own.clear();
        own.ops.push((lsn, Op::Truncate { version }));
    }

    /// VACUUM FULL: the table gets new storage, and the stream carries nothing.
    fn rewrite(&mut self) {
        if !self.exclusive(None) {
            return;
        }
        let at = self.begin();
        self.transactions[at].restored = true;
        self.commit(at);
    }

    /// ROLLBACK TO SAVEPOINT: the last change of a transaction is undone, and is not decoded.
    pub fn undo(&mut self, rng: &mut Rng) {
        let Some(at) = rng.pick(&self.indices(State::Open)) else { return };
        let own = &mut self.transactions[at];
        if own.restored || own.ops.len() < 2 {
            return;
        }
        let (_, op) = own.ops.pop().unwrap();
        let touched: BTreeSet<u64> = match op {
            Op::Put { from, key, .. } => from.into_iter().chain([key]).collect(),
            Op::Delete { key, .. } => [key].into(),
            Op::Truncate { .. } => BTreeSet::new(),
        };
        // The remaining changes of the transaction are applied again. The locks of the undone
        // change are released.
        for key in touched {
            own.own.remove(&key);
        }
        let ops = std::mem::take(&mut own.ops);
        own.own.clear();
        for (lsn, op) in ops {
            self.again(at, lsn, op);
        }
    }

    fn again(&mut self, at: usize, lsn: Lsn, op: Op) {
        match op {
            Op::Put { from, key, version, toast } => {
                let kept = self.row(at, from.unwrap_or(key)).map_or(0, |row| row.toast);
                let own = &mut self.transactions[at].own;
                if let Some(from) = from {
                    own.insert(from, None);
                }
                own.insert(key, Some(Row { version, toast: toast.unwrap_or(kept) }));
            }
            Op::Delete { key, .. } => drop(self.transactions[at].own.insert(key, None)),
            Op::Truncate { .. } => {}
        }
        self.transactions[at].ops.push((lsn, op));
    }

    fn indices(&self, state: State) -> Vec<usize> {
        (0..self.transactions.len()).filter(|at| self.transactions[*at].state == state).collect()
    }

    fn commit(&mut self, at: usize) {
        let start = self.log(40);
        let own = &mut self.transactions[at];
        (own.state, own.start, own.end) = (State::Committed, start, Lsn::new(self.insert));
        self.commits.push(at);
    }

    /// Makes one step towards the end of some transaction.
    pub fn end(&mut self, rng: &mut Rng) {
        let open = self.indices(State::Open);
        match rng.below(8) {
            0 => drop(rng.pick(&open).map(|at| self.transactions[at].state = State::Aborted)),
            1 => drop(rng.pick(&open).map(|at| self.transactions[at].state = State::Prepared)),
            2 => drop(rng.pick(&self.indices(State::Prepared)).map(|at| self.commit(at))),
            _ => drop(rng.pick(&open).map(|at| self.commit(at))),
        }
    }

    /// Makes some commit visible. It need not be flushed (synchronous_commit off), and may have
    /// waited for long (synchronous replication).
    pub fn show(&mut self, rng: &mut Rng) {
        if let Some(at) = rng.pick(&self.indices(State::Committed)) {
            self.transactions[at].state = State::Visible;
            self.visible.push(at);
        }
    }

    pub fn flush(&mut self) {
        self.flushed = self.insert;
    }

    /// Writes a record of another database that ends at the end of a WAL page.
    pub fn fill_page(&mut self) {
        self.insert = self.insert.next_multiple_of(8192);
    }

    pub fn publish(&mut self) {
        self.published = self.log(80);
    }

    /// Commits all open transactions, and makes them visible.
    pub fn settle(&mut self) {
        for at in self.indices(State::Open).into_iter().chain(self.indices(State::Prepared)) {
            self.commit(at);
        }
        for at in self.indices(State::Committed) {
            self.transactions[at].state = State::Visible;
            self.visible.push(at);
        }
        self.flush();
    }
}
