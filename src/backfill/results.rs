//! The tasks of copies, and what their results lead to: survey, plan, chunk.

use super::left::queried;
use super::shape::{key_names, same_shape};
use super::waits::Cause;
use super::{
    BACKOFF_MIN, Copies, Copy, HOLD, HOLD_LAST, Known, Shape, Stage, TRY_SPACING, Task, keys,
};
use crate::continuity::Granted;
use crate::continuity::checkpoint::{Published, Window};
use crate::core::Moment;
use crate::ledger::Ticket;
use crate::lsn::{Lsn, Oid};
use crate::pgoutput::CopyRow;
use crate::plans::Active;
use crate::postgres::holder::CopyTable;
use crate::reason::CopyReason;
use crate::snapshot::journal::{Copied, Left};
use crate::snapshot::keyset::{KeyColumn, Keyset};
use crate::snapshot::reader::{Chunk, Survey, is_parted};
use crate::snapshot::throttle::Share;
use crate::snapshot::visibility::PgSnapshot;
use crate::snapshot::window::{Journal, Next, What, Windows};
use crate::table::typed::snapshot_of;
use std::collections::BTreeMap;
use std::rc::Rc;

impl Copies {
    /// Sets the time. Returns true if a chunk has held the stream for too long and has to be
    /// dropped.
    pub fn tick(&mut self, now: Moment) -> bool {
        self.set_now(now);
        self.stream.held.is_some_and(|since| now.since(since) >= self.hold_max_us())
    }

    /// How long the chunks that are being read may hold the stream, in microseconds. A chunk of one
    /// row may hold it for longer, because it cannot become smaller.
    fn hold_max_us(&self) -> u64 {
        let mut reading = self.list.iter().filter(|copy| copy.is_reading());
        let smallest = reading.all(|copy| copy.chunks.rows_asked <= 1);
        if smallest { HOLD_LAST } else { HOLD }
    }

    /// Returns the next moment at which a copy is tried again, the pause of all chunks ends, or the
    /// stream has been held for too long. `None` if there is no such moment.
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        let held = self.stream.held.map(|since| since.plus(self.hold_max_us()));
        let ready = self
            .list
            .iter()
            .filter(|copy| copy.can_go_on() && copy.waits.not_before > self.now)
            .map(|copy| copy.waits.not_before);
        let rests =
            Some(self.pace.rests_until).filter(|until| *until > self.now && !self.is_empty());
        ready.chain(held).chain(rests).min()
    }

    /// Sets the share of the time that chunks may take.
    pub fn take_share(&mut self, share: Share) {
        self.pace.share = share;
    }

    /// Takes a snapshot of the server, which shows which of the sent transactions have ended. The
    /// snapshot is newer than all changes that were sent before it was requested.
    pub fn on_snapshot(&mut self, snapshot: &PgSnapshot) {
        self.unseen.on_snapshot(snapshot);
    }

    /// True if there is a sent transaction that no snapshot has shown as ended yet. A new snapshot
    /// can then show that.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let (exact, upto) = self.unseen.parts();
        !exact.is_empty() || upto.is_some()
    }

    /// Returns the sent transactions that no snapshot has shown as ended yet, for the checkpoint:
    /// their ids, and the highest id if there are too many to list.
    #[must_use]
    pub fn pending(&self) -> (Vec<u64>, Option<u64>) {
        let (exact, upto) = self.unseen.parts();
        (exact.iter().map(|xid| xid.0).collect(), upto.map(|xid| xid.0))
    }

    /// Bytes of the rows that all chunks hold in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.list.iter().filter_map(|copy| copy.windows.as_ref()).map(Windows::held_bytes).sum()
    }

    /// Returns the next task that the runner has to perform for a copy. `None` if there is none
    /// now. `room_bytes` is the number of bytes that the rows of all chunks may take in memory.
    pub fn next_task(&mut self, room_bytes: usize) -> Option<Task> {
        let full = self.held_bytes() > room_bytes
            || self.now < self.pace.rests_until
            || self.stands_for_standstill();
        let chunk_rows_max = self.pace.chunk_rows_max();
        for at in 0..self.list.len() {
            let now = self.now;
            let copy = self.list.get_mut(at)?;
            let id = copy.id;
            if !copy.can_go_on() || now < copy.waits.not_before {
                continue;
            }
            match (&copy.stage, &copy.known) {
                (Stage::Unsurveyed, _) => {
                    let relation = Some(copy.window.relation).filter(|oid| *oid != Oid(0));
                    let statement = copy.statement();
                    return Some(Task::Survey {
                        id,
                        table: copy.name.clone(),
                        relation,
                        statement,
                    });
                }
                (Stage::Unplanned, Some(known)) => {
                    return Some(Task::Plan { id, table: Box::new(known.table.clone()) });
                }
                (Stage::Ready, Some(_)) if copy.standstill.is_some() => {
                    if let Some(task) = self.next_standstill(at) {
                        return Some(task);
                    }
                }
                (Stage::Ready, Some(known)) if !full => {
                    let table = Box::new(known.table.clone());
                    let hold = copy.waits.hold_since.is_some();
                    if let Some(windows) = &mut copy.windows
                        && let Next::Read(what) = windows.next()
                    {
                        copy.chunks.rows_asked = copy.chunks.rows_asked.min(chunk_rows_max);
                        let what = copy.chunks.bounded(what);
                        windows.request(what, hold);
                        copy.chunks.began = now;
                        return Some(Task::Begin { id, table });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Takes the result of [`Task::Survey`].
    pub fn surveyed(&mut self, id: u64, survey: Survey) {
        let Some(at) = self.place(id) else { return };
        self.unseen.on_snapshot(&survey.snapshot);
        let Some(copy) = self.list.get_mut(at) else { return };
        copy.standby = survey.standby;
        if self.queried.contains(&copy.name) {
            let (detail, next) = queried(&copy.name);
            return self.fail(at, Left::new(CopyReason::Query, detail, next));
        }
        let Some(table) = survey.table else {
            let detail =
                format!("table {} is not in the publication any more, or was made anew", copy.name);
            let next = format!("{} once it is published again", snapshot_of(&copy.name));
            return self.fail(at, Left::new(CopyReason::NotPublished, detail, next));
        };
        let Some(listed) = self.unseen.listed() else {
            let cause = "more transactions than can be listed, which were sent and have not ended";
            return copy.waits.postpone(Cause::Transactions(cause.to_owned()), self.now);
        };
        if copy.window.relation != table.relation {
            copy.window.relation = table.relation;
            copy.window.key = Vec::new();
            copy.window.journal =
                Journal { fresh: copy.window.journal.fresh, ..Journal::default() };
            copy.windows = None;
        }
        if !copy.is_published_as_before(&table, self.history.epoch) {
            // Writers are looked up again, because this survey may have been taken before the
            // publication changed.
            copy.stage = Stage::Unsurveyed;
            return self.store(at);
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
            let begun =
                format!("{} is copied while the stream runs; its progress is in status", copy.name);
            reply.send(Ok(Granted(begun)));
        }
        self.store(at);
    }

    /// Takes the result of [`Task::Plan`], and decides whether the copy reads chunks or is a
    /// standstill.
    pub fn planned(&mut self, id: u64, active: &Active) {
        let Some(at) = self.place(id) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        let Some(known) = &mut copy.known else { return };
        let key = key_names(active);
        if key.is_empty() || copy.standby {
            known.active = Some(active.clone());
            return self.becomes_standstill(at);
        }
        if let Some(surrogate) =
            copy.window.surrogate.clone().filter(|surrogate| key != [surrogate.as_str()])
        {
            let detail =
                format!("the signal's surrogate key `{surrogate}` is not the key of {}", copy.name);
            let next = "send the signal without surrogate-key: a change is told from a copied row \
                by the table's key";
            return self.fail(at, Left::new(CopyReason::SurrogateKey, detail, next));
        }
        copy.standstill = None;
        known.places = active.plan.key_places().collect();
        known.keyset = keyset(&known.table, &key, copy.window.filter.as_deref());
        known.active = Some(active.clone());
        if copy.window.key.is_empty() {
            copy.window.key = key;
        } else if copy.window.key != key {
            copy.key_changed(key);
        }
        copy.stage = Stage::Ready;
        // The row path watches the table from now on. Transactions that were sent before have to be
        // visible to the first snapshot.
        match (self.unseen.listed(), &mut copy.windows) {
            (Some(listed), Some(windows)) => windows.wait_for(listed),
            _ => copy.stage = Stage::Unsurveyed,
        }
        self.store(at);
        self.watch();
    }

    /// Takes the snapshot of a chunk and the table as this snapshot shows it. Returns the task that
    /// reads the rows, or `None` if they may not be read now.
    pub fn begun(
        &mut self,
        id: u64,
        snapshot: PgSnapshot,
        table: Option<CopyTable>,
    ) -> Option<Task> {
        let at = self.place(id)?;
        self.unseen.on_snapshot(&snapshot);
        self.stream.held = None;
        let now = self.now;
        let copy = self.list.get_mut(at)?;
        let windows = copy.windows.as_mut()?;
        let known = copy.known.as_ref()?;
        if table.as_ref().is_none_or(|table| !same_shape(table, &known.table)) {
            self.altered(at, table);
            return None;
        }
        let what = windows.requested().cloned()?;
        match windows.snapshot(snapshot) {
            Ok(()) => {
                copy.waits.over();
                copy.chunks.goes_forward = matches!(what, What::Beyond(_));
                let keyset = known.keyset.as_ref()?;
                let select = match &what {
                    What::Beyond(after) => keyset.next(after.as_ref(), copy.chunks.rows_asked),
                    What::Keys(keys) => keyset.of_keys(keys),
                };
                Some(Task::Read { id, table: copy.name.clone(), select })
            }
            Err(unseen) => {
                copy.waits.unseen = true;
                copy.dropped(format!("its snapshot does not see {}", copy.in_words(&unseen)));
                let since = *copy.waits.hold_since.get_or_insert(now);
                copy.waits.not_before = now.plus(TRY_SPACING);
                if now.since(since) >= HOLD {
                    copy.waits.postpone(Cause::Transactions(copy.in_words(&unseen)), now);
                }
                None
            }
        }
    }

    /// Drops the chunk, because the table differs from its last survey. The table is planned again,
    /// or surveyed again if other rows or columns are published.
    fn altered(&mut self, at: usize, table: Option<CopyTable>) {
        let Some(copy) = self.list.get_mut(at) else { return };
        copy.dropped("the table was altered after it was looked at".to_owned());
        let (Some(windows), Some(known)) = (&mut copy.windows, &copy.known) else { return };
        windows.give_up();
        match table.filter(|table| Published::of(table) == Published::of(&known.table)) {
            Some(table) => {
                copy.known = Some(Known { table, active: None, keyset: None, places: Vec::new() });
                copy.stage = Stage::Unplanned;
            }
            None => {
                // Other rows or columns are published than those that were copied so far.
                windows.begin_anew(true);
                copy.window.journal = windows.journal();
                // The next survey lists the transactions that write at this moment, which the copy
                // waits for.
                copy.stage = Stage::Unsurveyed;
                self.store(at);
            }
        }
    }

    /// Takes the rows that were read for a chunk of the copy `id`. Sets the size of the next chunk,
    /// and the moment at which it may begin.
    pub fn read(&mut self, id: u64, chunk: &Chunk) {
        let Some(at) = self.place(id) else { return };
        self.stream.held = None;
        let now = self.now;
        let Some(copy) = self.list.get_mut(at) else { return };
        (copy.waits.hold_since, copy.waits.stuck) = (None, None);
        let (Some(known), Some(windows)) = (&copy.known, &mut copy.windows) else { return };
        let Some(active) = &known.active else { return };
        let columns = known.table.columns.len();
        let shape = Rc::new(Shape { active: active.clone(), columns, upto: chunk.insert_lsn });
        let rows = match keys::rows(chunk, &shape, &known.places, &mut CopyRow::default()) {
            Ok(rows) => rows,
            Err(detail) => {
                let next = "report it: the server sent what it should not";
                return self.fail(at, Left::new(CopyReason::Unreadable, detail, next));
            }
        };
        let last = rows.last().filter(|_| copy.chunks.goes_forward).map(|(key, _)| key.clone());
        let overhead = rows.iter().map(|(key, _)| key.size_bytes() + 160).sum::<usize>();
        windows.read(
            chunk.insert_lsn,
            rows,
            chunk.size_bytes + overhead,
            chunk.rows >= copy.chunks.rows_asked,
        );
        let took_us = now.since(copy.chunks.began);
        let (rows, upto, took_ms) = (chunk.rows, chunk.insert_lsn, took_us / 1000);
        tracing::debug!(table = copy.name, rows, %upto, took_ms, "a chunk of a backfill was read");
        self.pace.rest_after(chunk.rows, took_us, now);
        copy.chunks.took(took_us);
        last.iter().for_each(|last| self.tell_read(at, last));
    }

    /// Drops the chunk under way of the copy `id`. `smaller` is true if the chunk took too long or
    /// was too large; the next chunk then has fewer rows, if it can have fewer. `smaller` is false
    /// after any other failure.
    pub fn gave_up(&mut self, id: u64, smaller: bool, why: String) {
        self.stream.held = None;
        let now = self.now;
        let Some(at) = self.place(id) else { return };
        let Some(copy) = self.list.get_mut(at) else { return };
        self.totals.given_up += 1;
        if let Some(windows) = &mut copy.windows {
            windows.give_up();
        }
        copy.dropped(why.clone());
        if smaller && copy.chunks.shrink() {
            copy.waits.hold_since = None;
        } else {
            copy.waits.postpone(Cause::Failure(why), now);
        }
    }

    /// Drops every chunk that is being read, because the stream was held for too long.
    pub fn release(&mut self) {
        let reading: Vec<u64> =
            self.list.iter().filter(|copy| copy.is_reading()).map(|copy| copy.id).collect();
        for id in reading {
            self.gave_up(id, true, "the stream was held for too long".to_owned());
            if let Some(copy) = self.place(id).and_then(|at| self.list.get_mut(at)) {
                // The pause lets the stream move before the next chunk begins.
                let rested = self.now.plus(BACKOFF_MIN);
                copy.waits.not_before = copy.waits.not_before.max(rested);
            }
        }
        self.stream.held = None;
    }

    /// Ends the copy `id` as failed, for the reason `left`, because its task would fail again.
    pub fn refused(&mut self, id: u64, left: Left) {
        if let Some(at) = self.place(id) {
            self.fail(at, left);
        }
    }

    /// Puts the delivered progress of copies into their state records, and ends at most one copy
    /// that is over. `next` is the ledger's next ticket, and `oldest` its oldest ticket that is not
    /// delivered. `confirmed` is the position in the acknowledged checkpoint.
    ///
    /// Returns the lowest position that a checkpoint has to confirm before some copy is over.
    /// `None` if no copy waits for this, or if a copy ended.
    pub fn settle(&mut self, next: Ticket, oldest: Ticket, confirmed: Lsn) -> Option<Lsn> {
        self.settle_standstill(oldest);
        for windows in self.list.iter_mut().filter_map(|copy| copy.windows.as_mut()) {
            windows.settle(next, oldest);
        }
        self.take_journals();
        let over = |copy: &Copy| {
            copy.stage == Stage::Ready && copy.awaits().is_some_and(|end| confirmed >= end)
        };
        let Some(at) = self.list.iter().position(over) else {
            return self.list.iter().filter_map(Copy::awaits).min();
        };
        let is_empty = self.list.get(at).is_some_and(|copy| copy.window.journal.rows == 0);
        self.tell_scanned(at, if is_empty { "EMPTY" } else { "SUCCEEDED" });
        self.tell_if_over(at);
        let copy = self.list.remove(at);
        tracing::info!(
            table = copy.name,
            rows = copy.window.journal.rows,
            "a backfill is complete"
        );
        self.finished.note(&copy.name, &copy.window.journal, copy.bytes);
        if let Some(epoch) = self.debts.settled(&copy.name, &copy.window, copy.owed) {
            let copied = Copied::whole(epoch, copy.window.journal.rows);
            let key = copied.key(self.unwritten.slot_name(), &copy.name);
            self.unwritten.insert(key, Some(copied.to_json()));
        }
        self.unwritten.remove(&copy.name);
        if copy.repairs {
            self.forget_detached(&copy.name);
            self.finished.repaired.push(copy.name);
        }
        self.watch();
        None
    }

    /// Queues the state record of each copy whose delivered progress has changed since the last
    /// call.
    pub fn take_journals(&mut self) {
        for at in 0..self.list.len() {
            let Some(copy) = self.list.get_mut(at) else { continue };
            if let Some(journal) = copy.windows.as_mut().and_then(Windows::take_journal) {
                self.totals.chunks += journal.chunks.saturating_sub(copy.window.journal.chunks);
                copy.window.journal = journal;
                self.store(at);
            }
        }
    }

    pub(super) fn store(&mut self, at: usize) {
        if let Some(copy) = self.list.get(at) {
            self.unwritten.store(&copy.name, &copy.window);
        }
    }

    /// The state records of copies that Kafka has not acknowledged yet, by key; `None` removes a
    /// record. They have to be written before the next checkpoint is.
    #[must_use]
    pub fn unwritten(&self) -> BTreeMap<String, Option<String>> {
        self.unwritten.records().clone()
    }

    /// Notes that Kafka has acknowledged these state records.
    pub fn written(&mut self, written: &BTreeMap<String, Option<String>>) {
        self.unwritten.written(written);
        for copy in &mut self.list {
            let key = Window::key(self.unwritten.slot_name(), &copy.name);
            let text = written.get(&key).and_then(Option::as_deref);
            if let Some(window) = text.and_then(|text| serde_json::from_str::<Window>(text).ok()) {
                copy.chunks.recorded = window.journal.chunks;
            }
        }
    }
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
        conditions: table
            .filter
            .iter()
            .cloned()
            .chain(filter.map(|filter| format!("{filter}\n")))
            .collect(),
    })
}
