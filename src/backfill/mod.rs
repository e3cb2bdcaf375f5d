//! Copies beside the stream, as the loop sees them: which table is read next, what the row path asks before a change,
//! what is emitted when, what is recorded.
//!
//! The rules are `snapshot::window`'s; here they meet tables, plans and time. Nothing waits here: `runner` asks the server
//! and tells the answers. One chunk is read at a time, of the first table that can go on; all tables are watched that have
//! begun. Where no copy is under way the row path pays for looking at an empty list.

pub mod notices;
mod asked;
mod progress;
mod repair;
mod row;
mod shape;
mod signals;
mod tell;
mod touch;
mod waits;
mod whole;

pub use asked::queried;
pub use signals::{Origin, Wanted};

use shape::{key_names, same_shape};

use crate::change::RelationSlot;
use crate::continuity::Reply;
use crate::continuity::checkpoint::{FORMAT, Obeyed, Window};
use crate::core::{Moment, SECOND};
use crate::ledger::Ticket;
use crate::lsn::{Lsn, Oid};
use crate::metrics::WindowTotals;
use crate::pgoutput::CopyRow;
use crate::plans::Active;
use crate::postgres::holder::CopyTable;
use crate::snapshot::journal::{Copied, Left};
use crate::snapshot::keyset::{KeyColumn, Keyset, RowKey};
use crate::snapshot::kindness::Share;
use crate::snapshot::reader::{Chunk, Survey, is_parted};
use crate::snapshot::visibility::{FullXid, PgSnapshot, Unseen};
use crate::snapshot::window::{Journal, Next, What, Windows};
use crate::table::TableName;
use notices::{About, Data, News, Teller};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How long the stream may be held for a chunk (`docs/internals/copies.md`).
const HOLD: u64 = SECOND / 5;
/// The same for a chunk that cannot be made smaller.
const HOLD_LAST: u64 = SECOND * 9 / 10;
/// Tries under a hold are so far apart: most commits are visible within less, and the others are no sooner so by asking.
const TRY_SPACING: u64 = SECOND / 100;
/// What waits for others is tried again after this, doubling.
const BACKOFF_MIN: u64 = SECOND / 5;
const BACKOFF_MAX: u64 = 5 * SECOND;
/// Rows of a chunk: the first one's, and the bounds that its time and size move it between.
const ROWS_FIRST: u64 = 1000;
const ROWS_MAX: u64 = 50_000;
/// A chunk that took less is doubled, one that took more is halved: so that a held stream is rarely held for `HOLD`.
const QUICK: u64 = SECOND / 20;
const SLOW: u64 = SECOND / 8;

/// A row that waits for its time, as COPY wrote it, with what it is written by.
#[derive(Clone)]
pub struct Held {
    line: Box<[u8]>,
    pub shape: Rc<Shape>,
}

impl std::fmt::Debug for Held {
    /// Row values stay out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} bytes)", self.line.len())
    }
}

impl Held {
    /// The row's line.
    pub fn line(&self) -> &[u8] {
        &self.line
    }
}

/// The shape and time of a chunk's rows.
pub struct Shape {
    /// By which they are encoded.
    pub active: Active,
    /// How many columns they have.
    pub columns: usize,
    /// The chunk's insert position.
    pub upto: Lsn,
}

/// What a copy needs next.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// To look at server and table.
    Unsurveyed,
    /// To plan the table's shape.
    Unplanned,
    /// Nothing: it can read.
    Ready,
    /// It cannot go on: a stable code, the same with names, and what to do.
    Failed(String, String, String),
}

/// What is known of the table, as of its last survey.
struct Known {
    table: CopyTable,
    active: Option<Active>,
    keyset: Option<Keyset>,
    places: Vec<usize>,
}

struct Copy {
    id: u64,
    name: String,
    window: Window,
    stage: Stage,
    known: Option<Known>,
    windows: Option<Windows<Held>>,
    /// The table's relation on this connection, once the stream has told it.
    slot: Option<RelationSlot>,
    rows_asked: u64,
    /// Whether the chunk under way goes on in the table, instead of reading moved rows again.
    goes_forward: bool,
    /// Tries under a hold so far, and since when.
    hold_since: Option<Moment>,
    not_before: Moment,
    backoff: u64,
    /// Whom it waits for, in words.
    waits: String,
    /// Its last snapshot did not see a transaction that it has to see.
    unseen: bool,
    began: Moment,
    reply: Option<Reply>,
    bytes: u64,
    /// Chunks that its record, as it is written, says are delivered.
    recorded_chunks: u64,
    /// Chunks begun that came to nothing, and why the last of them did.
    dropped: u64,
    dropped_why: String,
    /// The epoch of the first copy that left this table to us.
    owed: Option<u64>,
    /// It is copied whole instead of in chunks.
    whole: Option<whole::Round>,
    /// What the server lacks for it: a stable code, the same in words, and what to do.
    stuck: Option<Left>,
    /// The server was a standby when it was surveyed.
    standby: bool,
    /// The table was set aside.
    repairs: bool,
}

/// What the runner has to ask for.
#[derive(Debug)]
pub enum Task {
    /// [`crate::snapshot::reader::Reader::survey`], then try out this statement.
    Survey { id: u64, table: String, relation: Option<Oid>, statement: Option<String> },
    /// Plan this shape, and tell the copy.
    Plan { id: u64, table: Box<CopyTable> },
    /// [`crate::snapshot::reader::Reader::begin`].
    Begin { id: u64, table: Box<CopyTable> },
    /// [`crate::snapshot::reader::Reader::read`].
    Read { id: u64, table: String, select: String },
    /// [`crate::snapshot::temporary::Temporary::start`].
    Whole { id: u64, table: TableName, relation: Oid, filter: Option<String> },
}

/// See the module's own words.
pub struct Copies {
    list: Vec<Copy>,
    /// Relations of the stream whose changes a copy has to see, with its place.
    watched: Vec<(RelationSlot, usize)>,
    unseen: Unseen,
    /// The stream stands before a change, since then.
    held: Option<Moment>,
    /// Records that are to be written, none to be removed; they leave when that is acknowledged.
    unwritten: BTreeMap<String, Option<String>>,
    /// Numbers copies: their places change.
    ids: u64,
    /// Numbers rows, so that no two have one identity.
    serial: u64,
    slot_name: String,
    /// The record's.
    epoch: u64,
    /// Where the stream stood last outside of a transaction, on this connection.
    stands: Lsn,
    /// Where the commit record of the transaction begins inside of which it stands.
    open: Option<Lsn>,
    /// The whole table that is copied now.
    whole: Option<whole::UnderWay>,
    /// The operator's limit.
    rows_per_second: Option<u64>,
    /// Tables that the operator has a whole query for, which cannot be read in chunks.
    queried: BTreeSet<String>,
    now: Moment,
    finished: progress::Finished,
    totals: WindowTotals,
    /// The part of the time that chunks may take, and until when they rest.
    share: Share,
    rests_until: Moment,
    teller: Teller,
    /// Copies have begun, which is not told yet.
    starting: bool,
    repaired: Vec<String>,
}

impl Copies {
    /// No copies. `told`: whether anybody wants their news.
    #[must_use]
    pub fn new(slot_name: &str, told: bool) -> Self {
        Copies {
            list: Vec::new(),
            watched: Vec::new(),
            unseen: Unseen::default(),
            held: None,
            unwritten: BTreeMap::new(),
            ids: 0,
            serial: 0,
            slot_name: slot_name.to_owned(),
            epoch: 0,
            stands: Lsn::default(),
            open: None,
            whole: None,
            rows_per_second: None,
            queried: BTreeSet::new(),
            now: Moment::default(),
            finished: progress::Finished::default(),
            totals: WindowTotals::default(),
            share: Share::FREE,
            rests_until: Moment::default(),
            teller: Teller::new(told),
            starting: false,
            repaired: Vec::new(),
        }
    }

    /// A connection was proven. On the process's first one the state's copies go on, and what the record says was emitted
    /// is waited for.
    pub fn opened(
        &mut self,
        record: &crate::continuity::checkpoint::Checkpoint,
        windows: &BTreeMap<String, Window>,
        snapshot: &PgSnapshot,
        first: bool,
    ) {
        (self.serial, self.epoch) = (record.term << 40, record.epoch);
        if !first {
            return self.unseen.look(snapshot);
        }
        let pending: Vec<FullXid> = record.pending_xids.iter().map(|xid| FullXid(*xid)).collect();
        self.unseen = Unseen::resume(&pending, record.pending_upto.map(FullXid), snapshot);
        for (table, window) in windows {
            if window.format <= FORMAT && !self.is_copying(table) {
                let id = self.next_id();
                self.list.push(Copy::new(id, table, window.clone(), self.now, None));
            }
        }
    }

    /// Whether nothing is copied beside the stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first copy owes this table: its end is recorded as that copy's.
    pub fn owe(&mut self, table: &str, epoch: u64) {
        self.list.iter_mut().filter(|copy| copy.name == table).for_each(|copy| copy.owed = Some(epoch));
    }

    /// Takes the operator's limit of rows a second, and the tables that are not to be read as they are.
    pub fn configure(&mut self, snapshot: &crate::snapshot::Config) {
        self.rows_per_second = snapshot.rows_per_second;
        self.queried = snapshot.queries.keys().cloned().collect();
    }

    /// Time has come to this.
    pub fn set_now(&mut self, now: Moment) {
        self.count_time(now);
        self.now = now;
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.list.iter().position(|copy| copy.id == id)
    }

    /// Whether the table has a copy under way.
    #[must_use]
    pub fn is_copying(&self, table: &str) -> bool {
        self.list.iter().any(|copy| copy.name == table)
    }

    /// Whether the table's copy cannot go on: whoever asks for it again begins it anew.
    #[must_use]
    pub fn has_failed(&self, table: &str) -> bool {
        self.list.iter().any(|copy| copy.name == table && matches!(copy.stage, Stage::Failed(..)))
    }

    /// Begins a copy. `fresh`: the table was published a moment ago. One that failed gives way, and what was owed by it is
    /// owed by this one.
    pub fn begin(&mut self, table: &TableName, filter: Option<String>, fresh: bool, now_ms: i64, reply: Option<Reply>) {
        let name = table.to_string();
        let failed = self.list.iter().find(|copy| copy.name == name && matches!(copy.stage, Stage::Failed(..)));
        let (owed, was_fresh) = failed.map_or((None, false), |copy| (copy.owed, copy.window.journal.fresh));
        if failed.is_some() {
            self.forget(|other| other != name);
        }
        let journal = Journal { fresh: fresh || was_fresh, ..Journal::default() };
        self.push(table, Window { journal, ..asked_for(filter, now_ms) }, reply);
        owed.into_iter().for_each(|epoch| self.owe(&name, epoch));
    }

    fn push(&mut self, table: &TableName, window: Window, reply: Option<Reply>) {
        let name = table.to_string();
        let id = self.next_id();
        self.starts();
        self.list.push(Copy::new(id, &name, window, self.now, reply));
        self.store(self.list.len() - 1);
    }

    /// Ends every copy where it is; their names.
    pub fn cancel(&mut self) -> Vec<String> {
        let names: Vec<String> = self.list.iter().map(|copy| copy.name.clone()).collect();
        if !names.is_empty() {
            self.tell_aborted(None);
        }
        for name in &names {
            self.unwritten.insert(Window::key(&self.slot_name, name), None);
        }
        self.list.clear();
        self.watched.clear();
        self.held = None;
        self.drop_whole();
        names
    }

    /// The connection, or the producer, was lost.
    pub fn lost(&mut self) {
        self.watched.clear();
        self.held = None;
        self.stands = Lsn::default();
        self.open = None;
        self.drop_whole();
        for copy in &mut self.list {
            copy.slot = None;
            copy.whole.iter_mut().for_each(|round| round.ended = None);
            copy.known = None;
            copy.hold_since = None;
            copy.unseen = false;
            if let Some(windows) = &mut copy.windows {
                windows.lost();
            }
            if !matches!(copy.stage, Stage::Failed(..)) {
                copy.stage = Stage::Unsurveyed;
            }
        }
    }

    /// The table has left the captured set: its copy ends.
    pub fn forget(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> =
            self.list.iter().filter(|copy| !keep(&copy.name)).map(|copy| copy.name.clone()).collect();
        self.list.retain(|copy| keep(&copy.name));
        for name in gone {
            self.unwritten.insert(Window::key(&self.slot_name, &name), None);
        }
        self.watch();
    }

    fn watch(&mut self) {
        let slots = self.list.iter().enumerate().filter(|(_, copy)| copy.windows.is_some());
        self.watched = slots.filter_map(|(at, copy)| Some((copy.slot?, at))).collect();
        self.watch_whole();
    }

    /// The stream has told a relation: is it one that is copied?
    pub fn relation(&mut self, slot: RelationSlot, relation: Oid, active: &Active) {
        for at in 0..self.list.len() {
            let Some(copy) = self.list.get_mut(at).filter(|copy| copy.window.relation == relation) else { continue };
            copy.slot = Some(slot);
            let key: Vec<String> = key_names(active);
            if !copy.window.key.is_empty() && key != copy.window.key {
                copy.key_changed(key);
                self.store(at);
            }
        }
        self.watch();
    }

    /// Relations the stream has told before a copy of theirs began.
    pub fn relations(&mut self, known: impl Iterator<Item = (RelationSlot, Oid)>) {
        for (slot, relation) in known {
            for copy in self.list.iter_mut().filter(|copy| copy.window.relation == relation) {
                copy.slot = Some(slot);
            }
        }
        self.watch();
    }
}

impl Copy {
    fn new(id: u64, name: &str, window: Window, now: Moment, reply: Option<Reply>) -> Self {
        Copy {
            id,
            name: name.to_owned(),
            recorded_chunks: window.journal.chunks,
            window,
            stage: Stage::Unsurveyed,
            known: None,
            windows: None,
            slot: None,
            rows_asked: ROWS_FIRST,
            goes_forward: false,
            hold_since: None,
            not_before: now,
            backoff: BACKOFF_MIN,
            waits: String::new(),
            unseen: false,
            began: now,
            reply,
            bytes: 0,
            dropped: 0,
            dropped_why: String::new(),
            owed: None,
            whole: None,
            stuck: None,
            standby: false,
            repairs: false,
        }
    }

    fn can_go_on(&self) -> bool {
        !self.window.paused && !matches!(self.stage, Stage::Failed(..))
    }

    fn is_reading(&self) -> bool {
        self.windows.as_ref().is_some_and(Windows::is_reading)
    }

    fn postpone(&mut self, why: String, now: Moment) {
        self.waits = why;
        self.hold_since = None;
        self.not_before = now.plus(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// A chunk came to nothing.
    fn dropped(&mut self, why: String) {
        tracing::debug!(
            table = self.name,
            rows = self.rows_asked,
            "a chunk of a copy beside the stream is dropped: {why}"
        );
        self.dropped += 1;
        self.dropped_why = why;
    }

    /// A statement that shows whether the operator's condition can be read.
    fn statement(&self) -> Option<String> {
        let filter = self.window.filter.as_deref()?;
        let (namespace, name) = self.name.split_once('.')?;
        let table = crate::postgres::publication::quoted(&TableName::new(namespace, name));
        Some(format!("SELECT FROM {table} WHERE ({filter}\n)"))
    }
}

/// The record of a copy that nothing is known of yet.
fn asked_for(filter: Option<String>, asked_ms: i64) -> Window {
    Window {
        format: FORMAT,
        relation: Oid(0),
        key: Vec::new(),
        filter,
        asked_ms,
        paused: false,
        signal: None,
        signal_offset: None,
        surrogate: None,
        correlation: None,
        epoch: 0,
        published: None,
        journal: Journal::default(),
    }
}
