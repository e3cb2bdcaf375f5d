//! The runner's part in backfills: it performs the tasks of `backfill` at the server and hands the
//! results back.

use super::clock::{now, unix_nanos};
use super::needs::Place;
use super::standstill::order;
use super::{CHECK_INTERVAL, Runner};
use crate::agent::open;
use crate::agent::supervise::disposition;
use crate::backfill;
use crate::continuity::Trouble;
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::checkpoint::{State, Window};
use crate::continuity::{Granted, Refused, Reply};
use crate::lsn::Lsn;
use crate::plans::keeper::{Keeper, KeeperError};
use crate::plans::{Active, Planned};
use crate::postgres::holder::CopyTable;
use crate::reason::CopyReason;
use crate::snapshot::Mode;
use crate::snapshot::journal::Left;
use crate::snapshot::plan::shape_of;
use crate::snapshot::prepare::{is_final, is_short, refused};
use crate::snapshot::reader::{Chunk, ReadError, Reader, Survey};
use crate::snapshot::visibility::PgSnapshot;
use crate::table::TableName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The time limit of one statement of a chunk. The stream may be held while the statement runs.
const CHUNK_LIMIT: Duration = Duration::from_secs(1);

/// Divisors of the byte budget. No chunk is begun while the chunks in memory have more bytes than
/// the budget divided by `HELD_PART`. A chunk of several rows has at most the budget divided by
/// `CHUNK_PART`.
const HELD_PART: usize = 4;
const CHUNK_PART: usize = 4;
/// Spacing at which a backfill under way asks for a checkpoint, even if the stream delivers
/// nothing.
const RECORD_SPACING: Duration = Duration::from_secs(1);
/// Prefix of the keys of [`crate::continuity::checkpoint::Obeyed`] records.
const SIGNALS: &str = "signals/";
/// The most bytes of a chunk of several rows. A larger chunk is copied no faster.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The result of one task of the backfill `id`. `reader` has the session of the task. `None` if the
/// session cannot be used again.
pub(super) struct Answered {
    id: u64,
    table: String,
    reader: Option<Reader>,
    outcome: Result<CopyReply, ReadError>,
}

enum CopyReply {
    Survey(Box<Survey>),
    Begun(PgSnapshot, Box<Option<CopyTable>>),
    Read(Chunk),
    Ended,
}

/// The state's records about copies when the connection was proven, and the server's snapshot of
/// that time.
pub(super) struct RecordedCopies {
    windows: BTreeMap<String, Window>,
    /// Planned tables of the first copy whose end is not recorded.
    owed: Vec<String>,
    epoch: u64,
    /// Whether the first copy is planned and no checkpoint is written yet.
    planned: bool,
    /// Tables of the newest checkpoint. `None` without a checkpoint, at a first start.
    recorded: Option<Vec<String>>,
    snapshot: PgSnapshot,
}

impl RecordedCopies {
    pub(super) fn new(state: &State, snapshot: PgSnapshot) -> Self {
        RecordedCopies {
            windows: state.windows.clone(),
            owed: state.copy.owed().into_iter().map(str::to_owned).collect(),
            epoch: state.copy.planned.as_ref().map_or(0, |planned| planned.epoch),
            planned: state.record.is_none() && state.copy.planned.is_some(),
            recorded: state.record.as_ref().map(|record| record.tables.keys().cloned().collect()),
            snapshot,
        }
    }
}

/// State records by key, where `None` removes a record, and whether Kafka acknowledged all of them.
pub(super) type Recorded = (BTreeMap<String, Option<String>>, Result<(), KeeperError>);

impl Runner {
    /// Does what backfills need in each turn of the loop: journals what is delivered, writes due
    /// state records, and starts the next task of a backfill.
    pub(super) fn windows_on(&mut self) {
        self.backfills.copies.set_now(now());
        self.replan();
        self.standstill_on();
        if self.live.is_none() || !self.core.is_streaming() || self.core.is_stopping() {
            return;
        }
        if self.core.is_copying() {
            // During the first copy no backfill works. Only state records are written, such as the
            // offset at which signals begin.
            return self.record_windows();
        }
        self.obey_signals();
        self.repair_next();
        let ledger = self.core.ledger();
        let (next, oldest) = (ledger.next_ticket(), ledger.oldest());
        let confirmed = self.core.record().map_or(Lsn::ZERO, |record| record.confirmed);
        if let Some(position) = self.backfills.copies.settle(next, oldest, confirmed) {
            self.core.want_recorded(position);
        } else if !self.backfills.copies.is_empty()
            && self.backfills.recorded_at.elapsed() >= RECORD_SPACING
        {
            // After a crash the stream repeats everything after the checkpoint before it reaches
            // the positions that chunks wait for. Frequent checkpoints keep that part short.
            self.backfills.recorded_at = tokio::time::Instant::now();
            self.core.want_recorded(self.core.ledger().confirmed());
        }
        self.core.note_buffered(self.backfills.copies.held_bytes() + self.standstill_bytes());
        self.record_windows();
        if self.tasks.chunk.is_none()
            && let Some(task) =
                self.backfills.copies.next_task(self.config.budget_bytes / HELD_PART)
        {
            self.ask_for(task);
        }
    }

    /// Begins the copies that a request asks for, and refuses the request if one of its tables
    /// cannot be copied. A detached table is repaired instead.
    pub(super) fn on_snapshot_request(
        &mut self,
        tables: &[String],
        filter: Option<String>,
        reply: Reply,
    ) {
        let mut chosen = Vec::new();
        for name in tables {
            let Some(table) = self.tables.captured.iter().find(|table| table.to_string() == *name)
            else {
                return reply.send(Err(Refused::Faulty(format!("table {name} is not captured"))));
            };
            if self.config.snapshot.queries.contains_key(name) {
                let (detail, next) = backfill::queried(name);
                return reply.send(Err(Refused::Faulty(format!("{detail}: {next}"))));
            }
            if self.backfills.copies.is_copying(name) && !self.backfills.copies.has_failed(name) {
                return reply.send(Err(Refused::Faulty(format!("table {name} is being copied"))));
            }
            chosen.push(table.clone());
        }
        let (detached, chosen): (Vec<TableName>, Vec<TableName>) =
            chosen.into_iter().partition(|table| self.is_detached(&table.to_string()));
        if !detached.is_empty() && (filter.is_some() || (chosen.is_empty() && detached.len() == 1))
        {
            return self.begin_repairs(detached, filter.as_deref(), Some(reply));
        }
        self.begin_repairs(detached, None, None);
        let now_ms = unix_nanos() / 1_000_000;
        if filter.is_none() {
            chosen.iter().for_each(|table| self.reporter.copy_asked(&table.to_string()));
        }
        if let ([table], [_]) = (chosen.as_slice(), tables) {
            // `Copies` answers the request when the survey of the table has succeeded or failed.
            return self.backfills.copies.begin(table, filter, false, now_ms, Some(reply));
        }
        for table in &chosen {
            self.backfills.copies.begin(table, filter.clone(), false, now_ms, None);
        }
        let names = tables.join(", ");
        reply.send(Ok(Granted(format!(
            "{names} are copied while the stream runs, one after the other"
        ))));
    }

    /// Ends all backfills and returns the text of the answer.
    pub(super) fn windows_cancelled(&mut self) -> String {
        if let Some(task) = self.tasks.chunk.take() {
            task.abort();
        }
        self.backfills.reader = None;
        let names = self.backfills.copies.cancel();
        if names.is_empty() {
            "nothing was being copied".to_owned()
        } else {
            format!("ended: {}", names.join(", "))
        }
    }

    fn ask_for(&mut self, task: backfill::Task) {
        let (postgres, publication) =
            (self.config.postgres.clone(), self.config.publication.clone());
        let reader = self.backfills.reader.take();
        let limit_bytes = (self.config.budget_bytes / CHUNK_PART).min(CHUNK_BYTES_MAX);
        self.tasks.chunk = Some(match task {
            backfill::Task::Plan { id, table } => return self.plan_window(id, &table),
            backfill::Task::Standstill { id, table, relation, filter } => {
                let order = order(&self.config, table, relation, filter);
                return self.read_standstill(id, order);
            }
            backfill::Task::Survey { id, table, relation, statement } => tokio::spawn(async move {
                let asked = async {
                    let mut reader = connected(reader, &postgres).await?;
                    if let Some(statement) = statement {
                        reader.try_out(&table, &statement).await?;
                    }
                    let survey = reader.survey(&publication, &table, relation).await?;
                    Ok((reader, CopyReply::Survey(Box::new(survey))))
                };
                answered(id, &table, asked.await)
            }),
            backfill::Task::Begin { id, table } => tokio::spawn(async move {
                let asked = async {
                    let mut reader = connected(reader, &postgres).await?;
                    let (snapshot, found) = reader.begin(&publication, &table, CHUNK_LIMIT).await?;
                    Ok((reader, CopyReply::Begun(snapshot, Box::new(found))))
                };
                answered(id, &table.name.to_string(), asked.await)
            }),
            backfill::Task::Read { id, table, select } => tokio::spawn(async move {
                let asked = async {
                    let mut reader = connected(reader, &postgres).await?;
                    let chunk = reader.read(&table, &select, limit_bytes).await?;
                    Ok((reader, CopyReply::Read(chunk)))
                };
                answered(id, &table, asked.await)
            }),
        });
    }

    /// Starts the task that ends a chunk without reading its rows, so that its session can be used
    /// again.
    fn end_chunk(&mut self, id: u64, table: String) {
        let Some(mut reader) = self.backfills.reader.take() else { return };
        self.tasks.chunk = Some(tokio::spawn(async move {
            let reader = reader.end(&table).await.is_ok().then_some(reader);
            Answered { id, table, reader, outcome: Ok(CopyReply::Ended) }
        }));
    }

    /// Starts the task that plans the table of a backfill by the catalog. The catalog may be newer
    /// or older than the shape that the stream announced last.
    fn plan_window(&mut self, id: u64, table: &CopyTable) {
        let Some(plan_maker) = self.live.as_mut().and_then(|live| live.plan_maker.take()) else {
            return;
        };
        self.tables.planning_since = std::time::Instant::now();
        let (shape, oid) = (shape_of(table), table.relation);
        self.tasks.planning = Some(tokio::spawn(async move {
            (Place::Window(id, oid), plan_maker.relation_once(shape).await)
        }));
    }

    /// Hands the plan of a table to its backfill. The backfill ends if the table is an outbox, or
    /// is not captured.
    pub(super) fn window_planned(&mut self, id: u64, planned: &Planned) {
        match planned {
            Planned::Active(Active { routes: Some(routes), .. }) if routes.is_of_events() => {
                self.backfills.copies.refused(id, backfill::events_only());
            }
            Planned::Active(active) => {
                let known = self
                    .live
                    .iter()
                    .flat_map(|live| live.relations.iter().map(|(slot, oid)| (*slot, *oid)));
                self.backfills.copies.relations(known);
                self.backfills.copies.planned(id, active);
            }
            Planned::Excluded | Planned::Unplanned | Planned::Refused | Planned::Detached(_) => {
                self.backfills.copies.refused(id, backfill::not_captured());
            }
        }
    }

    /// Ends a backfill whose table cannot be planned until a person acts.
    pub(super) fn window_refused(&mut self, id: u64, trouble: &Trouble) {
        let (reason, detail, next) =
            (trouble.reason.code().to_owned(), trouble.detail.clone(), trouble.next.clone());
        self.backfills.copies.refused(id, Left { reason, detail, next });
    }

    /// Resumes the backfills that the state records. Begins backfills of the tables whose first
    /// copy is not complete, and of the captured tables that the newest checkpoint does not name.
    pub(super) fn open_windows(
        &mut self,
        record: &Checkpoint,
        seen: &RecordedCopies,
        captured: &[TableName],
    ) {
        let first = !self.process.streamed;
        self.backfills.copies.configure(&self.config.snapshot);
        self.backfills.copies.opened(record, &seen.windows, &seen.snapshot, first);
        self.backfills.copies.forget(|name| captured.iter().any(|table| table.to_string() == name));
        self.lack_what_is_copied(captured);
        self.open_repairs(captured);
        let snapshot = &self.config.snapshot;
        let mode = snapshot.mode;
        let under_way = self.first_copy.copying.is_some();
        let (now_ms, mut begun) = (unix_nanos() / 1_000_000, Vec::new());
        for table in captured.iter().filter(|table| !snapshot.skips(table)) {
            let name = table.to_string();
            if self.is_detached(&name) {
                continue; // The repair of a detached table copies it.
            }
            let owed = seen.owed.contains(&name);
            let added = seen.recorded.as_ref().is_some_and(|recorded| !recorded.contains(&name))
                && !seen.planned;
            let unplanned = seen.recorded.is_none() && !seen.planned;
            let wanted =
                !under_way && (owed || ((added || unplanned) && !matches!(mode, Mode::NoData)));
            if wanted && !self.backfills.copies.is_copying(&name) {
                self.backfills.copies.begin(
                    table,
                    snapshot.conditions.get(&name).cloned(),
                    true,
                    now_ms,
                    None,
                );
                begun.push(name.clone());
            }
            if owed {
                self.backfills.copies.owe(&name, seen.epoch);
            }
        }
        if !begun.is_empty() {
            tracing::info!(tables = begun.len(), first = begun.first(), "backfills begin or go on");
        }
    }

    /// Stops reporting that topics lack rows, for tables that are not captured and for tables that
    /// the configuration leaves out of copies.
    pub(super) fn lack_what_is_copied(&mut self, captured: &[TableName]) {
        let snapshot = &self.config.snapshot;
        let is_copied =
            |table: &TableName, name: &str| !snapshot.skips(table) && table.to_string() == name;
        self.backfills.copies.lack_only(|name| captured.iter().any(|table| is_copied(table, name)));
    }

    /// Hands the result of a backfill's task to `Copies`. A failure ends the copy, or makes
    /// `Copies` try again, as its cause says.
    pub(super) fn answered(&mut self, answered: Answered) {
        let Answered { id, table, reader, outcome } = answered;
        self.backfills.reader = reader;
        match outcome {
            Ok(CopyReply::Survey(survey)) => self.backfills.copies.surveyed(id, *survey),
            Ok(CopyReply::Begun(snapshot, found)) => {
                match self.backfills.copies.begun(id, snapshot, *found) {
                    Some(task) => self.ask_for(task),
                    None => self.end_chunk(id, table),
                }
            }
            Ok(CopyReply::Ended) => {}
            Ok(CopyReply::Read(chunk)) => {
                self.backfills.copies.read(id, &chunk);
                if !self.core.is_in_transaction() {
                    self.backfills.copies.passed_already();
                }
            }
            Err(ReadError::TooLarge { .. }) => {
                self.backfills.copies.gave_up(id, true, "a chunk was too large".to_owned())
            }
            Err(ReadError::Postgres(error)) => match error.sqlstate() {
                Some("57014") => {
                    self.backfills.copies.gave_up(id, true, "a chunk took too long".to_owned())
                }
                Some(_) if is_short(&error) => {
                    let left = refused(&TableName::of_shown(&table), &error);
                    self.backfills.copies.gave_up(id, false, String::new());
                    let left = Left::new(CopyReason::NoRoom, left.detail, left.next);
                    self.backfills.copies.lacks(id, left);
                }
                Some(state) if is_final(state) => {
                    let left = refused(&TableName::of_shown(&table), &error);
                    self.backfills.copies.refused(id, left);
                }
                _ => self.backfills.copies.gave_up(
                    id,
                    false,
                    crate::continuity::Chain(&error).to_string(),
                ),
            },
        }
    }

    /// Writes the records that backfills need, unless such a write or a checkpoint is under way.
    fn record_windows(&mut self) {
        // There is one write at a time, because an older record could overwrite a newer one.
        if self.tasks.recording.is_some() || self.tasks.writing.is_some() {
            return;
        }
        let unwritten = self.backfills.copies.unwritten();
        if !unwritten.is_empty() {
            let keeper = self.keeper.clone();
            self.tasks.recording = Some(tokio::spawn(async move {
                let outcome = write_all(&keeper, &unwritten).await;
                (unwritten, outcome)
            }));
        }
    }

    /// Takes the result of a write of backfills' state records. Records whose write failed are
    /// written again at the next turn of the loop, and with the next checkpoint at the latest.
    pub(super) fn windows_recorded(&mut self, (written, outcome): Recorded) {
        match outcome {
            Ok(()) => self.backfills.copies.written(&written),
            Err(error) => self.reporter.failed(&disposition(&error.into())),
        }
    }

    /// Ends the chunks that are open and the standstill, because the connection is closed.
    pub(super) fn windows_lost(&mut self) {
        if let Some(task) = self.tasks.chunk.take() {
            task.abort();
        }
        self.backfills.reader = None;
        self.backfills.copies.lost();
        self.standstill_on();
        self.core.note_buffered(0);
    }

    /// Does what time requires of backfills: reads the server's snapshot if they wait for
    /// transactions, and gives up a chunk that has held the stream for too long.
    pub(super) fn windows_tick(&mut self) {
        let at = tokio::time::Instant::now();
        if let Some(live) = &self.live
            && self.tasks.reading_snapshot.is_none()
            && at.duration_since(self.backfills.snapshot_at) >= CHECK_INTERVAL
            && self.backfills.copies.wants_snapshot()
        {
            self.backfills.snapshot_at = at;
            let sql = Arc::clone(&live.sql);
            self.tasks.reading_snapshot =
                Some(tokio::spawn(async move { open::visible_now(&sql).await.ok() }));
        }
        if self.backfills.copies.tick(now()) {
            if let Some(task) = self.tasks.chunk.take() {
                task.abort();
            }
            self.backfills.reader = None;
            self.backfills.copies.release();
        }
    }
}

/// Writes records one after the other. Records of obeyed signals come last, after the copies that
/// the signals asked for.
pub(super) async fn write_all(
    keeper: &Keeper,
    records: &BTreeMap<String, Option<String>>,
) -> Result<(), KeeperError> {
    let (last, first): (Vec<_>, Vec<_>) =
        records.iter().partition(|(key, _)| key.starts_with(SIGNALS));
    for (key, value) in first.into_iter().chain(last) {
        keeper.write(key, value.clone()).await?;
    }
    Ok(())
}

async fn connected(
    reader: Option<Reader>,
    postgres: &crate::postgres::Config,
) -> Result<Reader, ReadError> {
    match reader {
        Some(reader) => Ok(reader),
        None => Ok(Reader::connect(postgres).await?),
    }
}

fn answered(id: u64, table: &str, asked: Result<(Reader, CopyReply), ReadError>) -> Answered {
    let (reader, outcome) = match asked {
        Ok((reader, got)) => (Some(reader), Ok(got)),
        Err(error) => (None, Err(error)),
    };
    Answered { id, table: table.to_owned(), reader, outcome }
}
