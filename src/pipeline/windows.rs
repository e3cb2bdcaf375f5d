//! Copies beside the stream, as the loop sees them: which table is read next, what the row path asks before a change,
//! what is emitted when, what is recorded.
//!
//! The rules are `snapshot::window`'s; here they meet tables, plans and time. Nothing waits here: `runner` asks the server
//! and tells the answers. One chunk is read at a time, of the first table that can go on; all tables are watched that have
//! begun. Where no copy is under way the row path pays for looking at an empty list.

mod progress;
mod touch;

pub use progress::WindowStatus;

use super::core::{Moment, SECOND};
use super::record::{FORMAT, Window};
use super::request::Reply;
use super::rows::Active;
use crate::change::{Context, RelationSlot, Row};
use crate::ledger::Ticket;
use crate::lsn::{Lsn, Oid, Xid};
use crate::pgoutput::CopyRow;
use crate::postgres::holder::CopyTable;
use crate::snapshot::journal::{Copied, Left};
use crate::snapshot::keyset::{KeyColumn, Keyset, RowKey};
use crate::snapshot::reader::{Chunk, Survey, is_parted};
use crate::snapshot::visibility::{FullXid, PgSnapshot, Unseen};
use crate::snapshot::window::{Before, Journal, Next, What, Windows};
use crate::table::TableName;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long the stream may be held for a chunk (snapshots.md §2).
const HOLD: u64 = SECOND / 5;
/// The same for a chunk that cannot be made smaller.
const HOLD_LAST: u64 = SECOND * 9 / 10;
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
    /// Tries under a hold so far, and since when.
    hold_since: Option<Moment>,
    not_before: Moment,
    backoff: u64,
    /// Whom it waits for, in words.
    waits: String,
    began: Moment,
    reply: Option<Reply>,
    bytes: u64,
    /// The epoch of the first copy that left this table to us.
    owed: Option<u64>,
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
    now: Moment,
    finished: progress::Finished,
}

impl Copies {
    /// No copies.
    #[must_use]
    pub fn new(slot_name: &str) -> Self {
        Copies {
            list: Vec::new(),
            watched: Vec::new(),
            unseen: Unseen::default(),
            held: None,
            unwritten: BTreeMap::new(),
            ids: 0,
            serial: 0,
            slot_name: slot_name.to_owned(),
            now: Moment::default(),
            finished: progress::Finished::default(),
        }
    }

    /// A connection was proven. On the process's first one the state's copies go on, and what the record says was emitted
    /// is waited for.
    pub fn opened(
        &mut self,
        record: &super::record::Record,
        windows: &BTreeMap<String, Window>,
        snapshot: &PgSnapshot,
        first: bool,
    ) {
        self.serial = record.term << 40;
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

    /// Time has come to this.
    pub fn set_now(&mut self, now: Moment) {
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

    /// Begins a copy. `fresh`: the table was published a moment ago.
    pub fn begin(&mut self, table: &TableName, filter: Option<String>, fresh: bool, now_ms: i64, reply: Option<Reply>) {
        let journal = Journal { fresh, ..Journal::default() };
        let window = Window {
            format: FORMAT,
            relation: Oid(0),
            key: Vec::new(),
            filter,
            asked_ms: now_ms,
            paused: false,
            journal,
        };
        let name = table.to_string();
        let id = self.next_id();
        self.list.push(Copy::new(id, &name, window, self.now, reply));
        self.store(self.list.len() - 1);
    }

    /// Ends every copy where it is; their names.
    pub fn cancel(&mut self) -> Vec<String> {
        let names: Vec<String> = self.list.iter().map(|copy| copy.name.clone()).collect();
        for name in &names {
            self.unwritten.insert(Window::key(&self.slot_name, name), None);
        }
        self.list.clear();
        self.watched.clear();
        self.held = None;
        names
    }

    /// The connection, or the producer, was lost.
    pub fn lost(&mut self) {
        self.watched.clear();
        self.held = None;
        for copy in &mut self.list {
            copy.slot = None;
            copy.known = None;
            copy.hold_since = None;
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

/// What the row path asks and tells.
impl Copies {
    /// The copy that has to see a relation's changes.
    #[inline]
    #[must_use]
    pub fn watching(&self, slot: RelationSlot) -> Option<usize> {
        self.watched.iter().find(|(watched, _)| *watched == slot).map(|(_, copy)| *copy)
    }

    /// A change is about to be emitted; see [`Windows::before`].
    pub fn before(&mut self, copy: usize, active: &Active, context: &Context<'_>, row: &Row<'_>) -> Before<Held> {
        let Some(windows) = self.list.get_mut(copy).and_then(|copy| copy.windows.as_mut()) else {
            return Before::Nothing;
        };
        let xid = self.unseen.widen(context.xid.unwrap_or_default());
        let answer = touch::ask(windows, xid, context.position.commit, &active.plan, row);
        if matches!(answer, Before::Hold) {
            self.held.get_or_insert(self.now);
        }
        answer
    }

    /// Whether a change of the relation would have to wait; nothing is noted.
    #[must_use]
    pub fn would_hold(&self, copy: usize, xid: Option<Xid>) -> bool {
        let windows = self.list.get(copy).and_then(|copy| copy.windows.as_ref());
        windows.is_some_and(|windows| windows.holds(self.unseen.widen(xid.unwrap_or_default())))
    }

    /// The stream waits before a change.
    pub fn hold(&mut self) {
        self.held.get_or_insert(self.now);
    }

    /// Whether it still waits.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Changes of a transaction are out, or were passed over.
    #[inline]
    pub fn emitted(&mut self, xid: Option<Xid>) {
        if let Some(xid) = xid {
            self.unseen.emitted(self.unseen.widen(xid));
        }
    }

    /// The stream stands at a position outside of a transaction.
    pub fn passed(&mut self, position: Lsn) {
        for windows in self.list.iter_mut().filter_map(|copy| copy.windows.as_mut()) {
            windows.passed(position);
        }
    }

    /// Whether rows can be emitted whose position was passed.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.list.iter().filter_map(|copy| copy.windows.as_ref()).any(Windows::has_rest)
    }

    /// The next of them, with its copy.
    pub fn rest(&mut self) -> Option<(usize, Held)> {
        self.list.iter_mut().enumerate().find_map(|(at, copy)| Some((at, copy.windows.as_mut()?.rest()?)))
    }

    /// A number for a copied row's identity.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A row of the copy was emitted.
    pub fn emitted_row(&mut self, copy: usize, size_bytes: usize) {
        if let Some(copy) = self.list.get_mut(copy) {
            copy.bytes += size_bytes as u64;
        }
    }

    /// The copy cannot go on; the stream can.
    pub fn fail(&mut self, copy: usize, reason: &str, detail: String, next: String) {
        let Some(at) = self.list.get_mut(copy) else { return };
        tracing::warn!(table = at.name, reason, next, "a copy beside the stream stopped: {detail}");
        if let Some(windows) = &mut at.windows {
            windows.lost();
        }
        if let Some(reply) = at.reply.take() {
            reply.send(Err(super::request::Refused::Faulty(format!("{detail}: {next}"))));
        }
        at.stage = Stage::Failed(reason.to_owned(), detail, next);
        self.held = None;
    }
}

/// What the runner asks and tells.
impl Copies {
    /// Time has come to this; true if a chunk has held the stream for too long and has to be given up.
    pub fn tick(&mut self, now: Moment) -> bool {
        self.now = now;
        let Some(since) = self.held else { return false };
        let smallest = self.list.iter().filter(|copy| copy.is_reading()).all(|copy| copy.rows_asked <= 1);
        now.since(since) >= if smallest { HOLD_LAST } else { HOLD }
    }

    /// When [`Copies::tick`] is wanted next.
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        let held = self.held.map(|since| since.plus(HOLD));
        let ready =
            self.list.iter().filter(|copy| copy.can_go_on() && copy.not_before > self.now).map(|copy| copy.not_before);
        ready.chain(held).min()
    }

    /// A snapshot of the server, taken after everything that was emitted until it was asked for.
    pub fn look(&mut self, snapshot: &PgSnapshot) {
        self.unseen.look(snapshot);
    }

    /// Whether a look would tell anything.
    #[must_use]
    pub fn wants_look(&self) -> bool {
        let (exact, upto) = self.unseen.parts();
        !exact.is_empty() || upto.is_some()
    }

    /// For the confirm record.
    #[must_use]
    pub fn pending(&self) -> (Vec<u64>, Option<u64>) {
        let (exact, upto) = self.unseen.parts();
        (exact.iter().map(|xid| xid.0).collect(), upto.map(|xid| xid.0))
    }

    /// Bytes held for all copies.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.list.iter().filter_map(|copy| copy.windows.as_ref()).map(Windows::held_bytes).sum()
    }

    /// What to ask the server for, if nothing is under way. `room_bytes`: what may be held of chunks.
    pub fn next_task(&mut self, room_bytes: usize) -> Option<Task> {
        let full = self.held_bytes() > room_bytes;
        for at in 0..self.list.len() {
            let now = self.now;
            let copy = self.list.get_mut(at)?;
            let id = copy.id;
            if !copy.can_go_on() || now < copy.not_before {
                continue;
            }
            match (&copy.stage, &copy.known) {
                (Stage::Unsurveyed, _) => {
                    let relation = Some(copy.window.relation).filter(|oid| *oid != Oid(0));
                    let statement = copy.statement();
                    return Some(Task::Survey { id, table: copy.name.clone(), relation, statement });
                }
                (Stage::Unplanned, Some(known)) => {
                    return Some(Task::Plan { id, table: Box::new(known.table.clone()) });
                }
                (Stage::Ready, Some(known)) if !full => {
                    let table = Box::new(known.table.clone());
                    let hold = copy.hold_since.is_some();
                    if let Some(windows) = &mut copy.windows
                        && let Next::Read(what) = windows.next()
                    {
                        windows.asked(what, hold);
                        copy.began = now;
                        return Some(Task::Begin { id, table });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// A survey has come.
    pub fn surveyed(&mut self, id: u64, survey: Survey) {
        let Some(at) = self.place(id) else { return };
        self.unseen.look(&survey.snapshot);
        if survey.standby {
            let detail = "the server is a standby: its snapshots do not list the primary's transactions".to_owned();
            return self.fail(
                at,
                "window_standby",
                detail,
                "connect to the primary to copy tables beside the stream".to_owned(),
            );
        }
        let Some(copy) = self.list.get_mut(at) else { return };
        let Some(table) = survey.table else {
            let detail = format!("table {} is not in the publication any more, or was made anew", copy.name);
            let next = format!("`wellspring snapshot {}` once it is published again", copy.name);
            return self.fail(at, "window_not_published", detail, next);
        };
        let Some(listed) = self.unseen.listed() else {
            return copy.postpone("a crowd of transactions that were emitted and have not ended".to_owned(), self.now);
        };
        if copy.window.relation != table.relation {
            copy.window.relation = table.relation;
            copy.window.key = Vec::new();
            copy.window.journal = Journal { fresh: copy.window.journal.fresh, ..Journal::default() };
            copy.windows = None;
        }
        let mut awaited = listed.to_vec();
        if copy.window.journal.fresh {
            awaited.extend(survey.snapshot.writers(survey.holders.iter().map(|(xid, _)| *xid)));
        }
        match &mut copy.windows {
            Some(windows) => windows.wait_for(&awaited),
            None => copy.windows = Some(Windows::resume(copy.window.journal.clone(), awaited)),
        }
        copy.waits_of(&survey.holders, survey.snapshot.xmax());
        copy.known = Some(Known { table, active: None, keyset: None, places: Vec::new() });
        copy.stage = Stage::Unplanned;
        if let Some(reply) = copy.reply.take() {
            let begun = format!("{} is copied beside the stream; its progress is in status", copy.name);
            reply.send(Ok(super::request::Granted(begun)));
        }
        self.store(at);
    }

    /// The table's plan has come.
    pub fn planned(&mut self, id: u64, active: &Active) {
        let Some(at) = self.place(id) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        let Some(known) = &mut copy.known else { return };
        let key = key_names(active);
        if key.is_empty() {
            let detail = format!("table {} has no key", copy.name);
            let next = format!("give {} a primary key to copy it beside the stream", copy.name);
            return self.fail(at, "window_keyless", detail, next);
        }
        known.places = active.plan.key_places().collect();
        known.keyset = keyset(&known.table, &key, copy.window.filter.as_deref());
        known.active = Some(active.clone());
        if copy.window.key.is_empty() {
            copy.window.key = key;
        } else if copy.window.key != key {
            copy.key_changed(key);
        }
        copy.stage = Stage::Ready;
        self.store(at);
        self.watch();
    }

    /// A chunk has begun: its snapshot, and the table as it sees it. What to read, if it may be read.
    pub fn begun(&mut self, id: u64, snapshot: PgSnapshot, table: Option<CopyTable>) -> Option<Task> {
        let at = self.place(id)?;
        self.unseen.look(&snapshot);
        self.held = None;
        let now = self.now;
        let copy = self.list.get_mut(at)?;
        let windows = copy.windows.as_mut()?;
        let known = copy.known.as_ref()?;
        let alike = table.as_ref().is_some_and(|table| same_shape(table, &known.table));
        if !alike {
            windows.give_up();
            let published = |table: &CopyTable| (table.filter.clone(), table.columns.len());
            if table.as_ref().is_none_or(|table| published(table) != published(&known.table)) {
                windows.begin_anew(true); // other rows or columns are published than were copied so far
                copy.window.journal = windows.journal();
            }
            copy.stage = Stage::Unsurveyed; // and everything that follows from another shape
            self.store(at);
            return None;
        }
        let Some(what) = windows.asked_for().cloned() else { return None };
        match windows.snapshot(snapshot) {
            Ok(()) => {
                (copy.backoff, copy.waits) = (BACKOFF_MIN, String::new());
                let keyset = known.keyset.as_ref()?;
                let select = match &what {
                    What::Beyond(after) => keyset.next(after.as_ref(), copy.rows_asked),
                    What::Keys(keys) => keyset.of_keys(keys),
                };
                Some(Task::Read { id, table: copy.name.clone(), select })
            }
            Err(unseen) => {
                let since = *copy.hold_since.get_or_insert(now);
                if now.since(since) >= HOLD {
                    copy.postpone(copy.in_words(&unseen), now);
                }
                None
            }
        }
    }

    /// A chunk was read.
    pub fn read(&mut self, id: u64, chunk: &Chunk) {
        let Some(at) = self.place(id) else { return };
        self.held = None;
        let now = self.now;
        let Some(copy) = self.list.get_mut(at) else { return };
        copy.hold_since = None;
        let (Some(known), Some(windows)) = (&copy.known, &mut copy.windows) else { return };
        let Some(active) = &known.active else { return };
        let columns = known.table.columns.len();
        let shape = Rc::new(Shape { active: active.clone(), columns, upto: chunk.insert_lsn });
        let rows = match touch::rows(chunk, &shape, &known.places, &mut CopyRow::default()) {
            Ok(rows) => rows,
            Err(detail) => {
                return self.fail(
                    at,
                    "window_unreadable",
                    detail,
                    "report it: the server sent what it should not".to_owned(),
                );
            }
        };
        let overhead = rows.iter().map(|(key, _)| key.size_bytes() + 160).sum::<usize>();
        windows.read(chunk.insert_lsn, rows, chunk.size_bytes + overhead, chunk.rows >= copy.rows_asked);
        let took = now.since(copy.began);
        if took < QUICK {
            copy.rows_asked = (copy.rows_asked * 2).min(ROWS_MAX);
        } else if took > SLOW {
            copy.rows_asked = (copy.rows_asked / 2).max(1);
        }
    }

    /// The chunk under way came to nothing: it took too long or was too large (`smaller`), or the server refused.
    pub fn gave_up(&mut self, id: u64, smaller: bool, why: String) {
        self.held = None;
        let now = self.now;
        let Some(at) = self.place(id) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        if let Some(windows) = &mut copy.windows {
            windows.give_up();
        }
        if smaller && copy.rows_asked > 1 {
            copy.rows_asked = (copy.rows_asked / 4).max(1);
            copy.hold_since = None;
        } else {
            copy.postpone(why, now);
        }
    }

    /// The stream was held too long: whatever chunk holds it is given up.
    pub fn release(&mut self) {
        let reading: Vec<u64> = self.list.iter().filter(|copy| copy.is_reading()).map(|copy| copy.id).collect();
        for id in reading {
            self.gave_up(id, true, "the stream was held for too long".to_owned());
            if let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) {
                copy.not_before = copy.not_before.max(self.now.plus(BACKOFF_MIN)); // it has to move before the next one
            }
        }
        self.held = None;
    }

    /// A task of a copy could not be done, and will not be by trying again.
    pub fn refused(&mut self, id: u64, left: &Left) {
        if let Some(at) = self.place(id) {
            self.fail(at, &left.reason, left.detail.clone(), left.next.clone());
        }
    }

    /// Journals what is delivered and ends what is over; `confirmed` is what the record says.
    pub fn settle(&mut self, next: Ticket, oldest: Ticket, confirmed: Lsn) {
        for at in 0..self.list.len() {
            let Some(windows) = self.list.get_mut(at).and_then(|copy| copy.windows.as_mut()) else { continue };
            windows.settle(next, oldest);
            if let Some(journal) = windows.take_journal() {
                if let Some(copy) = self.list.get_mut(at) {
                    copy.window.journal = journal;
                }
                self.store(at);
            }
        }
        let over = |copy: &Copy| {
            let next = copy.windows.as_ref().map(Windows::next);
            copy.stage == Stage::Ready && matches!(next, Some(Next::Confirm(end)) if confirmed >= end)
        };
        let Some(at) = self.list.iter().position(over) else { return };
        let copy = self.list.remove(at);
        tracing::info!(table = copy.name, rows = copy.window.journal.rows, "copied beside the stream");
        self.finished.note(&copy.name, &copy.window.journal, copy.bytes);
        if let Some(epoch) = copy.owed {
            let copied = Copied::whole(epoch, copy.window.journal.rows);
            self.unwritten.insert(Copied::key(&self.slot_name, &copy.name), Some(copied.to_json()));
        }
        self.unwritten.insert(Window::key(&self.slot_name, &copy.name), None);
        self.watch();
    }

    fn store(&mut self, at: usize) {
        if let Some(copy) = self.list.get(at) {
            self.unwritten.insert(Window::key(&self.slot_name, &copy.name), Some(copy.window.to_json()));
        }
    }

    /// What has to be written before anything is confirmed that was emitted until now.
    #[must_use]
    pub fn unwritten(&self) -> BTreeMap<String, Option<String>> {
        self.unwritten.clone()
    }

    /// That is written.
    pub fn written(&mut self, written: &BTreeMap<String, Option<String>>) {
        self.unwritten.retain(|key, value| written.get(key) != Some(value));
    }

    /// Pauses or resumes copies of these tables, of all where none is named; how many.
    pub fn pause(&mut self, tables: &[String], paused: bool) -> usize {
        let chosen: Vec<usize> =
            (0..self.list.len()).filter(|at| tables.is_empty() || tables.contains(&self.list[*at].name)).collect();
        for at in &chosen {
            self.list[*at].window.paused = paused;
            self.store(*at);
        }
        chosen.len()
    }
}

impl Copy {
    fn new(id: u64, name: &str, window: Window, now: Moment, reply: Option<Reply>) -> Self {
        Copy {
            id,
            name: name.to_owned(),
            window,
            stage: Stage::Unsurveyed,
            known: None,
            windows: None,
            slot: None,
            rows_asked: ROWS_FIRST,
            hold_since: None,
            not_before: now,
            backoff: BACKOFF_MIN,
            waits: String::new(),
            began: now,
            reply,
            bytes: 0,
            owed: None,
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

    fn key_changed(&mut self, key: Vec<String>) {
        self.window.key = key;
        if let Some(windows) = &mut self.windows {
            windows.begin_anew(false);
            self.window.journal = windows.journal();
        }
        self.known = None;
        self.stage = Stage::Unsurveyed;
    }

    /// A statement that shows whether the operator's condition can be read.
    fn statement(&self) -> Option<String> {
        let filter = self.window.filter.as_deref()?;
        let (namespace, name) = self.name.split_once('.')?;
        let table = crate::postgres::publication::quoted(&TableName::new(namespace, name));
        Some(format!("SELECT FROM {table} WHERE ({filter}\n)"))
    }

    /// Whom the first chunk waits for, where it waits for writers.
    fn waits_of(&mut self, holders: &[(Xid, Option<i32>)], near: FullXid) {
        let words = holders.iter().map(|(xid, pid)| {
            let xid = FullXid::widen(*xid, near);
            pid.map_or_else(|| format!("xid {xid} (prepared)"), |pid| format!("xid {xid} (pid {pid})"))
        });
        self.waits =
            if self.window.journal.fresh { words.take(8).collect::<Vec<_>>().join(", ") } else { String::new() };
    }

    fn in_words(&self, unseen: &[FullXid]) -> String {
        let known = |xid: &FullXid| {
            let named = self.waits.split(", ").find(|words| words.starts_with(&format!("xid {xid} ")));
            named.map_or_else(|| format!("xid {xid}"), str::to_owned)
        };
        unseen.iter().take(8).map(known).collect::<Vec<_>>().join(", ")
    }
}

fn key_names(active: &Active) -> Vec<String> {
    active.plan.key_places().filter_map(|place| active.plan.column(place)).map(str::to_owned).collect()
}

/// Whether rows of both look the same and are the same ones.
fn same_shape(a: &CopyTable, b: &CopyTable) -> bool {
    (a.relation, &a.name, a.identity, &a.columns, &a.filter) == (b.relation, &b.name, b.identity, &b.columns, &b.filter)
}

fn keyset(table: &CopyTable, key: &[String], filter: Option<&str>) -> Option<Keyset> {
    let column = |name: &String| {
        let column = table.columns.iter().find(|column| column.name == *name)?;
        Some(KeyColumn { name: name.clone(), nullable: !column.not_null })
    };
    Some(Keyset {
        table: table.name.clone(),
        with_children: is_parted(table),
        columns: table.columns.iter().map(|column| column.name.clone()).collect(),
        key: key.iter().map(column).collect::<Option<Vec<_>>>()?,
        conditions: table.filter.iter().cloned().chain(filter.map(|filter| format!("{filter}\n"))).collect(),
    })
}
