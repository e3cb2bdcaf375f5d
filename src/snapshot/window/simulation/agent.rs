//! The agent around the chunks, reduced to its essentials: it reads the stream, sends, confirms,
//! keeps the journal, and dies.

use super::super::super::keyset::RowKey;
use super::super::super::visibility::{FullXid, PgSnapshot, Unseen};
use super::super::{Before, Journal, Kind, Next, Rule, Touch, What, Windows};
use super::consumer::{Consumer, Judge, Record};
use super::database::{Database, Op, Row, State};
use super::{Break, Rng};
use crate::change::{Committed, Position};
use crate::ledger::{Ledger, RouteId, Ticket};
use crate::lsn::{Lsn, PgMicros, Xid};
use std::collections::VecDeque;

/// What survives the death of the process.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The journal of the copy. `None` when the copy is over.
    pub journal: Option<Journal>,
    pub confirmed: Lsn,
    pub pending: (Vec<FullXid>, Option<FullXid>),
    pub copies: u32,
}

/// The rows of a chunk, with their keys.
type Rows = Vec<(RowKey, (u64, Row))>;

/// The progress of the session that reads a chunk.
#[derive(Clone, Debug)]
enum Session {
    Begun,
    Locked,
    /// The snapshot was taken before the table was locked. This happens only with
    /// `Break::SnapshotBeforeLock`.
    Early(PgSnapshot),
    Snapshot(PgSnapshot),
    Reading(PgSnapshot),
    Read(Rows, bool),
    Positioned(Rows, bool, Lsn),
}

pub struct Agent {
    pub windows: Option<Windows<(u64, Row)>>,
    unseen: Unseen,
    ledger: Ledger,
    /// Index of the transaction and of the change in it that the stream sends next.
    at: (usize, usize),
    queue: VecDeque<(Ticket, Record)>,
    session: Option<(What, Session)>,
    judge: Judge,
    /// Number of further tries of a chunk during which no change of the table is sent. It is 0
    /// while changes are sent.
    hold: u32,
    rest_until: u64,
    off: Break,
}

fn key_of(key: u64) -> RowKey {
    RowKey::new([Some(key.to_string().as_bytes())]).unwrap()
}

impl Agent {
    /// Starts a process from what the process before has stored.
    pub fn start(stored: &Stored, database: &Database, off: Break) -> Self {
        let now = database.snapshot();
        let (exact, upto) = &stored.pending;
        let mut unseen = Unseen::resume(exact, *upto, &now);
        if off == Break::ForgetsPending {
            unseen = Unseen::resume(&[], None, &now);
        }
        let mut agent = Agent {
            windows: None,
            unseen,
            ledger: Ledger::resume(stored.confirmed, Ticket(1)),
            at: (0, 0),
            queue: VecDeque::new(),
            session: None,
            judge: Judge::resume(database, stored.confirmed),
            hold: 0,
            rest_until: 0,
            off,
        };
        agent.connect(stored, database);
        if let Some(journal) = &stored.journal {
            agent.begin(journal.clone(), database);
        }
        agent
    }

    fn connect(&mut self, stored: &Stored, database: &Database) {
        self.ledger = Ledger::resume(stored.confirmed, self.ledger.next_ticket());
        let next = database
            .commits
            .iter()
            .take_while(|at| database.transactions[**at].end <= stored.confirmed)
            .count();
        self.at = (next, 0);
        self.judge = Judge::resume(database, stored.confirmed);
    }

    /// Begins a copy, or continues one from its journal.
    pub fn begin(&mut self, journal: Journal, database: &Database) {
        let mut awaited = self.unseen.listed().map(<[FullXid]>::to_vec).unwrap_or_default();
        let now = database.snapshot();
        // Some changes of the transaction under way may have been sent already.
        let under_way = database
            .commits
            .get(self.at.0)
            .filter(|_| self.at.1 > 0 && self.off != Break::ForgetsUnderWay);
        awaited.extend(under_way.map(|at| database.transactions[*at].xid));
        if journal.fresh {
            awaited.extend(match self.off {
                Break::IgnoresOpenWriters => Vec::new(),
                Break::TrustsTheList => now.writers([]),
                _ => now.writers(database.locked()),
            });
        }
        let off = if let Break::Rule(rule) = self.off { Some(rule) } else { None };
        self.windows = Some(Windows::resume(journal, awaited).without(off));
    }

    /// Loses the connection and makes another. A failed producer also loses the records that have
    /// not landed.
    pub fn reconnect(&mut self, stored: &Stored, database: &mut Database, producer_failed: bool) {
        if producer_failed {
            self.queue.clear();
        }
        self.drop_session(database);
        if let Some(windows) = &mut self.windows {
            windows.lost();
        }
        self.connect(stored, database);
    }

    pub fn drop_session(&mut self, database: &mut Database) {
        if self
            .session
            .take()
            .is_some_and(|(_, session)| !matches!(session, Session::Begun | Session::Early(_)))
        {
            database.read_lock = false;
        }
    }

    fn emit(&mut self, record: Record) -> Result<(), String> {
        self.judge.hear(&record)?;
        let position = Position { commit: Lsn::new(1), ordinal: 0 };
        let ticket = self.ledger.sent(RouteId(0), position, 10);
        self.queue.push_back((ticket, record));
        Ok(())
    }

    /// Handles one message of the stream: a change, a commit or a keepalive.
    pub fn read(&mut self, database: &Database) -> Result<(), String> {
        let Some(transaction) =
            database.commits.get(self.at.0).map(|at| &database.transactions[*at])
        else {
            return self.idle(database);
        };
        if transaction.end.bytes() > database.flushed {
            return self.idle(database);
        }
        let xid = self.unseen.widen(Xid(transaction.xid.0 as u32));
        assert_eq!(xid, transaction.xid);
        let published: Vec<Op> = transaction
            .ops
            .iter()
            .filter(|(lsn, _)| *lsn >= database.published)
            .map(|(_, op)| *op)
            .collect();
        let Some(&op) = published.get(self.at.1) else {
            if !published.is_empty() {
                self.unseen.emitted(xid);
            }
            let commit =
                Committed { end: transaction.end, xid: Xid(xid.0 as u32), at: PgMicros(0) };
            self.ledger.committed(commit);
            self.at = (self.at.0 + 1, 0);
            return self.passed(transaction.end);
        };
        if let Some(windows) = &mut self.windows {
            let (old, key, unsent) = match op {
                Op::Put { from, key, toast, .. } => {
                    (from.map(key_of), Some(key_of(key)), toast.is_none())
                }
                Op::Delete { key, .. } => (None, Some(key_of(key)), false),
                Op::Truncate { .. } => (None, None, false),
            };
            let kind = match &key {
                Some(key) => Kind::Row { old: old.as_ref(), key, unsent },
                None => Kind::Truncate,
            };
            match windows.before(&Touch { xid, commit: transaction.start, kind }) {
                Before::Nothing => {}
                Before::Rows(rows) => {
                    for (key, row) in rows {
                        self.emit(Record::Window { key, row })?;
                    }
                }
                Before::Hold => return Ok(()),
            }
        }
        self.emit(Record::Stream { at: (transaction.start, self.at.1), op })?;
        self.at.1 += 1;
        Ok(())
    }

    /// Handles a keepalive message. Its position is the flushed position, which is the start of a
    /// page if nothing follows.
    fn idle(&mut self, database: &Database) -> Result<(), String> {
        if self.at.1 > 0 {
            return Ok(());
        }
        let end = Lsn::new(database.flushed);
        self.ledger.keepalive(end);
        self.passed(end)
    }

    fn passed(&mut self, position: Lsn) -> Result<(), String> {
        if let Some(windows) = &mut self.windows {
            windows.passed(position);
        }
        Ok(())
    }

    /// Sends some remaining rows of chunks whose positions were passed.
    pub fn rest(&mut self, rng: &mut Rng) -> Result<(), String> {
        for _ in 0..rng.below(3) {
            let Some((key, row)) = self.windows.as_mut().and_then(Windows::rest) else { break };
            self.emit(Record::Window { key, row })?;
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        let next = self.ledger.next_ticket();
        let oldest = self.ledger.oldest();
        if let Some(windows) = &mut self.windows {
            windows.settle(next, oldest);
        }
    }

    /// Lets some of the queued records reach the consumer, and acknowledges them.
    pub fn land(&mut self, rng: &mut Rng, consumer: &mut Consumer) {
        for _ in 0..1 + rng.below(6) {
            let Some((ticket, record)) = self.queue.pop_front() else { break };
            consumer.take(record);
            self.ledger.deliver(ticket);
        }
        self.settle();
    }

    /// Takes a snapshot of the server, and forgets the sent transactions that it sees.
    pub fn look(&mut self, database: &Database) {
        self.unseen.on_snapshot(&database.snapshot());
    }

    /// Stores the journal if it has changed, and ends the copy if it is over.
    pub fn store_journal(&mut self, stored: &mut Stored) {
        if let Some(journal) = self.windows.as_mut().and_then(Windows::take_journal) {
            let forgets = self.off == Break::ForgetsMoved;
            stored.journal =
                Some(if forgets { Journal { moved: Vec::new(), ..journal } } else { journal });
        }
        if let Some(windows) = &self.windows
            && let Next::Confirm(end) = windows.next()
            && stored.confirmed >= end
        {
            stored.journal = None;
            stored.copies += 1;
            self.windows = None;
        }
    }

    /// Stores the journal, and in half of the calls the checkpoint after it.
    pub fn store(&mut self, rng: &mut Rng, stored: &mut Stored) {
        if rng.one_in(2) {
            return self.store_journal(stored);
        }
        self.store_journal(stored);
        stored.confirmed = stored.confirmed.max(self.ledger.confirmed());
        let (exact, upto) = self.unseen.parts();
        stored.pending = (exact.to_vec(), upto);
    }

    /// Makes one step of the session that reads a chunk.
    pub fn chunk(&mut self, rng: &mut Rng, database: &mut Database, clock: u64) {
        let Some(windows) = &mut self.windows else { return };
        let Some((what, session)) = self.session.take() else {
            if clock >= self.rest_until
                && self.unseen.listed().is_some()
                && let Next::Read(what) = windows.next()
            {
                windows.request(what.clone(), self.hold > 0);
                self.session = Some((what, Session::Begun));
            }
            return;
        };
        let rewriting = database.transactions.iter().any(|t| t.is_exclusive());
        let early = self.off == Break::SnapshotBeforeLock;
        let next = match session {
            Session::Begun if early => Session::Early(database.snapshot()),
            Session::Begun if rewriting => Session::Begun,
            Session::Begun => {
                database.read_lock = true;
                Session::Locked
            }
            Session::Early(snapshot) if rewriting => Session::Early(snapshot),
            Session::Early(snapshot) => {
                database.read_lock = true;
                Session::Snapshot(snapshot)
            }
            Session::Locked => Session::Snapshot(database.snapshot()),
            Session::Snapshot(snapshot) => match windows.snapshot(snapshot.clone()) {
                Ok(()) => Session::Reading(snapshot),
                Err(_) => {
                    database.read_lock = false;
                    match self.hold {
                        0 => self.hold = 3,
                        1 => (self.hold, self.rest_until) = (0, clock + rng.below(60)),
                        _ => self.hold -= 1,
                    }
                    return;
                }
            },
            Session::Reading(snapshot) => {
                let size = 1 + rng.below(3) as usize;
                let (rows, more) = select(&database.read(&snapshot), &what, size);
                Session::Read(rows, more)
            }
            Session::Read(rows, more) => {
                let flushed = Lsn::new(database.flushed);
                let broken = self.off == Break::WaitsForFlush;
                Session::Positioned(
                    rows,
                    more,
                    if broken { flushed } else { database.insert_lsn() },
                )
            }
            Session::Positioned(rows, more, upto) => {
                database.read_lock = false;
                self.hold = 0;
                if rng.one_in(8) {
                    windows.give_up(); // it took too long
                } else {
                    windows.read(upto, rows, 100, more);
                }
                return;
            }
        };
        self.session = Some((what, next));
    }

    /// True if the agent has read all committed transactions of the database.
    pub fn at_end(&self, database: &Database) -> bool {
        self.at.0 == database.commits.len()
    }

    pub fn is_over(&self) -> bool {
        self.windows.is_none() && self.queue.is_empty()
    }
}

fn select(rows: &std::collections::BTreeMap<u64, Row>, what: &What, size: usize) -> (Rows, bool) {
    let number = |key: &RowKey| key.parts().next().flatten().unwrap().parse::<u64>().unwrap();
    let found = |(key, row): (&u64, &Row)| (key_of(*key), (*key, *row));
    match what {
        What::Keys(keys) => {
            let wanted: Vec<u64> = keys.iter().map(number).collect();
            (rows.iter().filter(|(key, _)| wanted.contains(key)).map(found).collect(), false)
        }
        What::Beyond(after) => {
            let after = after.as_ref().map(number);
            let beyond = rows.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
            let chunk: Vec<_> = beyond.take(size).map(found).collect();
            let more = chunk.len() == size;
            (chunk, more)
        }
    }
}

impl super::database::Transaction {
    /// True if the transaction holds a lock that keeps readers out.
    fn is_exclusive(&self) -> bool {
        !matches!(self.state, State::Visible | State::Aborted) && self.has_new_storage()
    }
}

/// Breaks a rule of the chunks themselves. The other variants of [`Break`] concern the code around
/// them.
pub const fn rule(rule: Rule) -> Break {
    Break::Rule(rule)
}
