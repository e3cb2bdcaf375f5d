//! The first copy, as the loop sees it: which reader reads which range, how the copied rows become
//! records, and which tables are delivered.
//!
//! The rows go through the same plans, encoding, producer and ledger as the stream. `core` lets no
//! frame be read meanwhile, so that every streamed change comes after every copied row. Nothing
//! here waits: the runner performs the IO. The end of a table is recorded after the delivery of its
//! last record. A table that cannot be copied is left out, and the others go on.

mod left;
mod readers;
mod rows;

use readers::Readers;
use rows::{CopyContext, InHand};

use crate::backfill::PiecePace;
use crate::backfill::notices::{self, About, News, NewsBuffer};
use crate::change::RelationShape;
use crate::core::{Core, Moment, SECOND};
use crate::encode::Router;
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use crate::pgoutput::CopyRow;
use crate::plans::Active;
use crate::postgres::{self, holder::Holder};
use crate::rows::Records;
use crate::snapshot::journal::{Copied, Left};
use crate::snapshot::plan::{Plan, TablePlan};
use crate::snapshot::prepare::Prepared;
use crate::snapshot::ranges::Ranges;
use crate::snapshot::throttle::Share;
use crate::snapshot::worker::WorkerEvent;
use crate::snapshot::{self, markers::Markers};
use crate::status::{CopyStatus, CopyTableStatus};
use crate::table::TableName;
use std::sync::Arc;
use std::time::Duration;

/// A copy of at most this many bytes has one reader. Such a copy takes about a second, and its rows
/// are sent in the order of the tables.
const ONE_READER_BYTES: u64 = 32 * 1024 * 1024;

/// Pause before a table whose plan was refused is planned again.
const PLAN_RETRY: u64 = 30 * SECOND;

/// How far the copy of a table is.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// The table has no plan yet, and is planned at this moment or later.
    Unplanned(Moment),
    /// The table has a plan, and its rows are being read or will be.
    Copying,
    /// Every row was read and sent, except for a last row that `Markers` may still hold back.
    Sent,
    /// The table is left out. Kafka may have some of its rows already, but not a complete copy.
    Left(Left),
}

struct Table {
    state: State,
    active: Option<Active>,
    rows: u64,
    bytes: u64,
    /// Rows that the readers have read, including rows not sent yet.
    scanned: u64,
    /// True if the notice that the table is being read was made.
    announced: bool,
    /// Ticket of the table's newest record.
    last: Option<Ticket>,
    /// Why the table's plan was refused. `None` once the table is planned.
    refused: Option<String>,
    /// True if nothing more is to be recorded of the table: its end is recorded, or a backfill will
    /// copy it.
    journalled: bool,
}

impl Table {
    fn new() -> Self {
        let state = State::Unplanned(Moment::default());
        Table {
            state,
            active: None,
            rows: 0,
            bytes: 0,
            scanned: 0,
            announced: false,
            last: None,
            refused: None,
            journalled: false,
        }
    }
}

/// What the loop has to fetch before more rows can be sent.
pub enum Need {
    /// A new plan for this table (by its index), with this column nullable.
    Nullable(usize, String),
    /// A plan for the rows of this table (by its index) that have this route: the text, made of a
    /// row's values, by which the plan is found.
    Route(usize, Arc<Router>, String),
}

/// A first copy that can begin: its snapshot is held, its tables are locked, and its plan is
/// recorded.
pub struct FirstCopy {
    /// The transaction that keeps the snapshot.
    pub holder: Holder,
    /// The tables to be copied, and the tables that are left out.
    pub prepared: Prepared,
    /// Consistent point of the slot. The copied rows are as of this position, and the stream begins
    /// here.
    pub point: Lsn,
    /// Epoch under which the plan of the copy is recorded.
    pub epoch: u64,
}

/// The first copy under way. See the documentation of the module.
pub struct Copying {
    plan: Plan,
    tables: Vec<Table>,
    ranges: Ranges,
    markers: Markers,
    readers: Readers,
    in_hand: Option<InHand>,
    row: CopyRow,
    records: Records,
    context: CopyContext,
    epoch: u64,
    pace: PiecePace,
    waits: bool,
    began: Moment,
    news: NewsBuffer,
}

impl Copying {
    /// Begins a copy. The caller keeps the holder alive. `wanted` is true if notices are wanted.
    #[must_use]
    pub fn new(
        postgres: &postgres::Config,
        config: &snapshot::Config,
        first: &FirstCopy,
        now: Moment,
        wanted: bool,
    ) -> Self {
        let plan = first.prepared.plan.clone();
        let workers = if plan.size_bytes() <= ONE_READER_BYTES { 1 } else { config.workers.max(1) };
        let mut copying = Copying {
            tables: plan.tables.iter().map(|_| Table::new()).collect(),
            ranges: Ranges::new(plan.tables.iter().map(TablePlan::pages)),
            markers: Markers::new(plan.tables.len()),
            plan,
            readers: Readers::new(postgres, workers, first),
            in_hand: None,
            row: CopyRow::default(),
            records: Records::default(),
            context: CopyContext::new(first),
            epoch: first.epoch,
            pace: PiecePace::new(config, now),
            waits: false,
            began: now,
            news: NewsBuffer::new(wanted),
        };
        for (table, left) in &first.prepared.left {
            copying.leave(*table, left.clone());
        }
        copying
    }

    /// Epoch under which the plan of the copy is recorded.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Consistent point of the slot. The copied rows are as of this position.
    #[must_use]
    pub fn point(&self) -> Lsn {
        self.context.point()
    }

    /// Starts the readers on the current runtime.
    pub fn start(&mut self) {
        self.readers.start();
    }

    /// Prepares for another connection after a lost one. The snapshot is still held. Tables whose
    /// end is not recorded are read again from their beginning.
    pub fn interrupt(&mut self) {
        self.readers.interrupt();
        (self.in_hand, self.waits) = (None, false);
        self.markers = Markers::new(self.tables.len());
        for (at, table) in self.tables.iter_mut().enumerate() {
            match &table.state {
                State::Left(_) => {}
                State::Sent if table.journalled => {}
                State::Unplanned(_) | State::Copying | State::Sent => {
                    *table = Table::new();
                    self.ranges.restart(at);
                    continue;
                }
            }
            self.markers.finish(at);
        }
    }

    /// Waits for the next event of a reader. A wait that is cancelled loses no event.
    pub async fn next_event(&mut self) -> Option<WorkerEvent> {
        self.readers.next_event().await
    }

    /// True if the loop can take the next piece of a reader, which is a part of its COPY output.
    #[must_use]
    pub fn may_take(&self, core: &Core, now: Moment) -> bool {
        self.in_hand.is_none()
            && self.markers.released().is_none()
            && core.has_room_to_copy(self.readers.buffered_bytes())
            && now >= self.pace.next_piece()
    }

    /// Sets the share of the time that the copy may spend on pieces of rows.
    pub fn take_share(&mut self, share: Share) {
        self.pace.take_share(share);
    }

    /// The moment at which the next piece may be taken.
    #[must_use]
    pub fn next_piece(&self) -> Moment {
        self.pace.next_piece()
    }

    /// Marks a table as sent if all its ranges are read and none of its pieces is being sent.
    fn look(&mut self, table: usize) {
        if !self.ranges.is_read(table)
            || self.in_hand.as_ref().is_some_and(|in_hand| in_hand.table == table)
        {
            return;
        }
        let Some(of) = self.tables.get_mut(table) else { return };
        if of.state == State::Copying {
            of.state = State::Sent;
            self.markers.finish(table);
            self.tell_read(table);
            self.tell_scanned(table, "SUCCEEDED");
        }
    }

    /// Makes the notice that a table is being read, once for each table.
    fn tell_read(&mut self, table: usize) {
        let Some(of) = self.tables.get_mut(table).filter(|of| !of.announced) else { return };
        of.announced = true;
        self.note(table, |name, tables| {
            let data = vec![("current_collection_in_progress", name), ("data_collections", tables)];
            News { about: About::First, kind: "IN_PROGRESS", signal: None, data }
        });
    }

    /// Makes the notice that nothing more is read of a table.
    fn tell_scanned(&mut self, table: usize, status: &'static str) {
        let rows = self.tables.get(table).map_or(0, |of| of.scanned).to_string();
        self.note(table, |name, tables| {
            let data = vec![
                ("data_collections", tables),
                ("scanned_collection", name),
                ("status", status.to_owned()),
                ("total_rows_scanned", rows),
            ];
            News { about: About::First, kind: "TABLE_SCAN_COMPLETED", signal: None, data }
        });
    }

    fn note(&mut self, table: usize, make: impl FnOnce(String, String) -> News) {
        let Copying { plan, news, .. } = self;
        let Some(name) = plan.tables.get(table).map(|table| table.name.to_string()) else { return };
        let all = || plan.tables.iter().map(|table| table.name.to_string()).collect::<Vec<_>>();
        news.note(|| make(name, notices::list(all().iter().map(String::as_str))));
    }

    /// Returns the notices of the copy that were made since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        self.news.take()
    }

    fn name(&self, table: usize) -> Option<TableName> {
        self.plan.tables.get(table).map(|table| table.name.clone())
    }

    /// The next table that has no plan and may be planned now, with its shape. `None` if there is
    /// none.
    #[must_use]
    pub fn unplanned(&self, now: Moment) -> Option<(usize, RelationShape)> {
        let at = self
            .tables
            .iter()
            .position(|t| matches!(t.state, State::Unplanned(at) if at <= now))?;
        Some((at, self.plan.tables.get(at)?.shape.clone()))
    }

    /// True if a row waits for a new plan of its table, or for a plan that its values choose.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Shape of a table, as a Relation message would describe it. `None` if there is no such table.
    #[must_use]
    pub fn shape(&self, table: usize) -> Option<RelationShape> {
        self.plan.tables.get(table).map(|table| table.shape.clone())
    }

    /// Stores the plan of a table, and gives ranges to free readers.
    pub fn planned(&mut self, table: usize, active: Active) {
        self.waits = false;
        if let Some(of) = self.tables.get_mut(table) {
            of.active = Some(active);
            of.refused = None;
            if matches!(of.state, State::Unplanned(_)) {
                of.state = State::Copying;
            }
        }
        // A table without parts has nothing to read.
        self.look(table);
        self.hand_out();
    }

    /// Notes that a table's plan was refused. The table is planned again after [`PLAN_RETRY`].
    /// Returns true if another table can go on meanwhile.
    pub fn refused(&mut self, table: usize, detail: &str, now: Moment) -> bool {
        if let Some(of) = self.tables.get_mut(table) {
            of.state = State::Unplanned(now.plus(PLAN_RETRY));
            of.refused = Some(detail.to_owned());
        }
        self.tables.iter().any(|of| !of.journalled && of.refused.is_none())
    }

    /// Returns the next table whose end can be recorded, because all its records are older than
    /// `oldest`, the oldest ticket in flight: its index, its name, and the state record of its end.
    #[must_use]
    pub fn delivered(&self, oldest: Ticket) -> Option<(usize, String, Copied)> {
        let at = (0..self.tables.len()).find(|at| self.is_delivered(*at, oldest))?;
        let (table, name) = (self.tables.get(at)?, self.name(at)?);
        let copied = match &table.state {
            State::Left(left) => Copied::left(self.epoch, table.rows, left.clone()),
            State::Unplanned(_) | State::Copying | State::Sent => {
                Copied::whole(self.epoch, table.rows)
            }
        };
        Some((at, name.to_string(), copied))
    }

    fn is_delivered(&self, at: usize, oldest: Ticket) -> bool {
        let Some(table) = self.tables.get(at) else { return false };
        let ended = matches!(table.state, State::Sent | State::Left(_)) && !self.markers.holds(at);
        ended && !table.journalled && table.last.is_none_or(|last| last < oldest)
    }

    /// Notes that nothing more has to be recorded of a table in the state.
    pub fn journalled(&mut self, table: usize) {
        if let Some(of) = self.tables.get_mut(table) {
            of.journalled = true;
        }
    }

    /// True if nothing more has to be recorded of any table in the state: the copy is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tables.iter().all(|table| table.journalled)
    }

    /// True if every table is read or left out, so that the snapshot is no longer needed.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.tables.iter().all(|table| matches!(table.state, State::Sent | State::Left(_)))
    }

    /// Ends the sessions of the readers, without waiting for them.
    pub fn finish(&mut self) {
        self.readers.finish();
    }

    /// Progress of the copy, for `/status`.
    #[must_use]
    pub fn status(&self, now: Moment) -> CopyStatus {
        let mut status = CopyStatus {
            consistent_point: self.point(),
            rows_expected: self.plan.rows(),
            bytes_expected: self.plan.size_bytes(),
            workers: self.readers.count(),
            seconds: Duration::from_micros(now.since(self.began)).as_secs_f64(),
            ..CopyStatus::default()
        };
        for (table, planned) in self.tables.iter().zip(&self.plan.tables) {
            let plain = |state| (state, String::new(), String::new());
            let (state, reason, next) = match (&table.state, &table.refused) {
                (State::Left(left), _) => {
                    let state = if left.is_owed() { "owed" } else { "left" };
                    (state, left.detail.clone(), left.next.clone())
                }
                (_, Some(refused)) => ("refused", refused.clone(), String::new()),
                (State::Unplanned(_), None) => plain("waiting"),
                (State::Copying, None) if table.rows == 0 => plain("waiting"),
                (State::Copying, None) => plain("copying"),
                (State::Sent, None) if table.journalled => plain("copied"),
                (State::Sent, None) => plain("delivering"),
            };
            status.rows += table.rows;
            status.bytes += table.bytes;
            let of = CopyTableStatus {
                state: state.to_owned(),
                rows: table.rows,
                rows_expected: planned.rows(),
                bytes: table.bytes,
                bytes_expected: planned.size_bytes(),
                reason,
                next,
            };
            status.tables.insert(planned.name.to_string(), of);
        }
        status
    }
}
