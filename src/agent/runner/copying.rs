//! The runner's part in the first copy: it begins, plans, journals and ends the copy.

use super::clock::{now, unix_nanos};
use super::needs::Place;
use super::{Runner, tools};
use crate::agent::open::Carried;
use crate::agent::supervise::disposition;
use crate::backfill::notices::{About, News};
use crate::continuity::Trouble;
use crate::core::Moment;
use crate::core::{Core, Event};
use crate::initial::Copying;
use crate::initial::{FirstCopy, Need};
use crate::plans::keeper::KeeperError;
use crate::plans::{self, Active};
use crate::postgres::PgError;
use crate::snapshot::Mode;
use crate::snapshot::journal::Journal;
use crate::snapshot::worker::WorkerEvent;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The tasks of the first copy that are under way.
#[derive(Default)]
pub(super) struct CopyTasks {
    pub holding: Option<Holding>,
    /// The write that records the end of a table's copy, with the table's index in the plan.
    pub journalling: Option<JoinHandle<(usize, Result<(), KeeperError>)>>,
}

/// The task that holds the snapshot of the first copy. `release` is `None` after the release.
pub(super) struct Holding {
    task: JoinHandle<Option<PgError>>,
    release: Option<oneshot::Sender<()>>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        // Only a holder that was not released is aborted. A released one closes its connection by
        // itself.
        if self.release.is_some() {
            self.task.abort();
        }
    }
}

/// Waits until the task of the holder ends without our release, and returns the error that ended
/// its session. Waits for ever without a holder.
pub(super) async fn ended(holding: &mut Option<Holding>) -> Option<PgError> {
    match holding {
        Some(held) => match (&mut held.task).await {
            Ok(error) => error,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Waits for the next event of the first copy's readers. Returns `None` at once without a first
/// copy.
pub(super) async fn next_event(copying: Option<&mut Copying>) -> Option<WorkerEvent> {
    copying?.next_event().await
}

/// Returns the latest time of the loop's next turn: the core's tick, or the moment at which the
/// rate limit allows the next piece of the first copy, if that is earlier.
pub(super) fn next_tick(core: &Core, copying: Option<&Copying>) -> Moment {
    let tick = core.next_tick();
    match copying.map(Copying::next_piece) {
        Some(at) if at > now() => tick.min(at),
        _ => tick,
    }
}

impl Runner {
    /// Collects the facts about this process that a connect needs. `absent_from` is handed out
    /// once.
    pub(super) fn carried(&mut self) -> Carried {
        let held = self.tasks.first_copy.holding.is_some();
        Carried {
            first: !self.process.streamed,
            copying_at: self.first_copy.copying.as_ref().filter(|_| held).map(Copying::point),
            rewind: self.core.rewinds(),
            absent_from: self.checks.watch.notices.absent_from.take(),
            sent: self.core.sent_upto(),
            run: self.process.run_id.clone(),
        }
    }

    /// Begins the first copy that the connection brings, or resumes the one whose snapshot is still
    /// held.
    pub(super) fn begin_copy(&mut self, copy: Option<FirstCopy>, journal: &Journal) {
        if let Some(first) = copy {
            let plan = &first.prepared.plan;
            tracing::info!(
                tables = plan.tables.len(),
                rows = plan.rows(),
                mib = plan.size_bytes() / (1024 * 1024),
                consistent_point = %first.point,
                "copying existing rows; the stream follows from the consistent point, and the \
                 server keeps its WAL until then"
            );
            let copying = Copying::new(
                &self.config.postgres,
                &self.config.snapshot,
                &first,
                now(),
                self.backfills.notices.are_wanted(),
            );
            self.note(first_copy("STARTED"));
            let (release, released) = oneshot::channel();
            let held = first.holder.hold(async {
                // A sent and a dropped release both mean that nobody needs the snapshot.
                let _ = released.await;
            });
            self.tasks.first_copy.holding =
                Some(Holding { task: tokio::spawn(held), release: Some(release) });
            self.first_copy.copying = Some(copying);
        }
        if self.first_copy.copying.is_none() && !self.process.streamed && journal.owed().is_empty()
        {
            self.note(first_copy("SKIPPED"));
        }
        if let Some(planned) = journal.planned.as_ref().filter(|_| !self.process.streamed) {
            for (table, left) in journal.left() {
                self.backfills.copies.lack(table, planned.epoch, left);
            }
        }
        if let Some(copying) = &mut self.first_copy.copying {
            self.core.begin_copy();
            copying.start();
            self.reporter.copying(copying.status(now()), unix_nanos() / 1_000_000);
        }
    }

    /// Stops the agent under `initial_only` when everything is copied and every notice is sent.
    pub(super) fn end_if_copied(&mut self) {
        // The agent stops only after the notice about the end of the copy is sent.
        let is_told = self.backfills.notices.next().is_none();
        let is_copied =
            self.first_copy.copying.is_none() && self.backfills.copies.is_empty() && is_told;
        if is_copied && self.config.snapshot.mode == Mode::InitialOnly {
            tracing::info!(
                "snapshot.mode is \"initial_only\" and everything is copied: stopping; the slot \
                 stays"
            );
            self.apply(Event::Stop);
        }
    }

    /// Interrupts the first copy, because the connection ends. The copy goes on with the next
    /// connection if its snapshot is held, and otherwise it is over.
    pub(super) fn interrupt_copy(&mut self) {
        self.core.end_copy();
        if self.tasks.first_copy.holding.is_none() && self.first_copy.copying.take().is_some() {
            self.note(first_copy("ABORTED"));
        }
        if let Some(copying) = &mut self.first_copy.copying {
            copying.interrupt();
        }
    }

    /// Sends rows of the first copy while there is room, starts the planning of tables, and records
    /// the end of tables that are delivered.
    pub(super) fn copy(&mut self) {
        let (Some(copying), Some(live), Some(sink)) =
            (&mut self.first_copy.copying, &mut self.live, &mut self.outlet.sink)
        else {
            return;
        };
        if !self.core.is_copying() {
            return;
        }
        let planning = self.tasks.planning.is_some()
            || live.plan_maker.is_none()
            || self.outlet.smaller_batches.is_some();
        let mut need = None;
        if self.tasks.planning.is_none() || !copying.waits() {
            let mut tools = tools(&mut self.core, sink, &mut self.backfills.copies, &self.reporter);
            match copying.work(&mut tools) {
                Ok(found) => need = found,
                Err(error) => return self.broke(error.into()),
            }
        }
        if !planning && self.core.is_streaming() {
            let wanted = match need {
                Some(Need::Route(table, router, value)) => {
                    if let Some(plan_maker) = live.plan_maker.take() {
                        self.tasks.planning = Some(tokio::spawn(async move {
                            (Place::CopyRoute(table), plan_maker.route(router, value).await)
                        }));
                    }
                    None
                }
                Some(Need::Nullable(table, column)) => {
                    copying.shape(table).map(|shape| (table, shape, Some(column)))
                }
                None => copying.unplanned(now()).map(|(table, shape)| (table, shape, None)),
            };
            if let Some((table, shape, nullable)) = wanted
                && let Some(plan_maker) = live.plan_maker.take()
            {
                let ahead = copying.all_unplanned(now(), plans::BATCH_TABLES_MAX);
                self.tasks.planning = Some(tokio::spawn(async move {
                    let oid = shape.oid;
                    let outcome = match nullable {
                        None => plan_maker.copied_once(shape, ahead).await,
                        Some(column) => plan_maker.copied_nullable(shape, column).await,
                    };
                    (Place::Copy(table, oid), outcome)
                }));
            }
        }
        self.journal();
    }

    /// Records the end of one table whose records are all delivered. Ends the first copy when no
    /// table is left.
    fn journal(&mut self) {
        let Some(copying) = &mut self.first_copy.copying else { return };
        if copying.is_over() {
            return self.copied();
        }
        if self.tasks.first_copy.journalling.is_some() || now() < self.first_copy.journal_at {
            return;
        }
        let Some((table, name, copied)) = copying.delivered(self.core.ledger().oldest()) else {
            return;
        };
        let (keeper, key) = (self.keeper.clone(), copied.key(&self.config.slot, &name));
        self.tasks.first_copy.journalling =
            Some(tokio::spawn(
                async move { (table, keeper.write(&key, Some(copied.to_json())).await) },
            ));
    }

    pub(super) fn journalled(&mut self, table: usize, outcome: Result<(), KeeperError>) {
        match outcome {
            Ok(()) => {
                if let Some(copying) = &mut self.first_copy.copying {
                    copying.journalled(table);
                }
            }
            Err(error) => {
                self.reporter.failed(&disposition(&error.into()));
                self.first_copy.journal_at = now().plus(crate::core::SECOND);
            }
        }
    }

    /// Ends the first copy, because every table is delivered and journalled. The stream goes on
    /// from the consistent point, and backfills copy the tables that are owed.
    fn copied(&mut self) {
        self.take_copy_news();
        self.lack_rows();
        let Some(mut copying) = self.first_copy.copying.take() else { return };
        let status = copying.status(now());
        copying.finish();
        for table in copying.owed() {
            let name = table.to_string();
            let filter = self.config.snapshot.conditions.get(&name).cloned();
            self.backfills.copies.begin(table, filter, true, unix_nanos() / 1_000_000, None);
            self.backfills.copies.owe(&name, copying.epoch());
        }
        if let Some(holding) = &mut self.tasks.first_copy.holding
            && let Some(release) = holding.release.take()
        {
            let _ = release.send(()); // The holder may have ended by itself.
        }
        self.tasks.first_copy.holding = None;
        let left: Vec<&str> = status
            .tables
            .iter()
            .filter(|(_, table)| table.state == "left")
            .map(|(name, _)| name.as_str())
            .collect();
        tracing::info!(
            rows = status.rows,
            seconds = status.seconds,
            left = left.join(","),
            "the first copy is complete; the stream goes on from the consistent point"
        );
        self.reporter.copying(status, unix_nanos() / 1_000_000);
        self.note(first_copy("COMPLETED"));
        self.core.end_copy();
        self.end_if_copied();
    }

    /// Notes the tables that the first copy has left out so far. The topics of these tables lack
    /// rows.
    fn lack_rows(&mut self) {
        let Some(copying) = &self.first_copy.copying else { return };
        for (table, left) in copying.left_out() {
            self.backfills.copies.lack(&table.to_string(), copying.epoch(), left);
        }
    }

    /// Reports the tables that lack rows and the progress of the first copy, if the status is due.
    pub(super) fn report_copy(&mut self, now_ms: i64) {
        if self.reporter.is_due(now_ms) {
            self.lack_rows();
            self.reporter.lacking(&self.backfills.copies.lacking());
        }
        if let Some(copying) = &self.first_copy.copying
            && self.reporter.is_due(now_ms)
        {
            self.reporter.copying(copying.status(now()), now_ms);
        }
    }

    pub(super) fn on_worker_event(&mut self, event: WorkerEvent) {
        let Some(copying) = &mut self.first_copy.copying else { return };
        if let Err(error) = copying.on_event(event, now()) {
            self.broke(error.into());
        }
    }

    pub(super) fn snapshot_ended(&mut self, error: Option<PgError>) {
        self.tasks.first_copy.holding = None;
        let Some(copying) = &self.first_copy.copying else { return };
        if copying.is_read() {
            return; // All rows are read, and nobody needs the snapshot.
        }
        let error = error.unwrap_or(PgError::Closed { call: "hold the snapshot" });
        tracing::error!(
            error = %crate::continuity::Chain(&error),
            "the snapshot of the first copy has ended: tables not finished are not copied by it"
        );
        self.broke(error.into());
    }

    pub(super) fn copy_planned(&mut self, table: usize, active: Active) {
        self.reporter.trouble_over();
        if let Some(copying) = &mut self.first_copy.copying {
            copying.planned(table, active);
        }
    }

    /// Takes the refusal of a table's plan. A backfill of the table ends. In the first copy the
    /// other tables are copied first, and the trouble is reported when only refused tables are
    /// left.
    pub(super) fn copy_refused(&mut self, place: Place, trouble: Trouble) {
        if let Place::Window(id, _) = place {
            return self.window_refused(id, &trouble);
        }
        let (Some(copying), Place::Copy(table, _)) = (&mut self.first_copy.copying, place) else {
            return;
        };
        let others = copying.refused(table, &trouble.detail, now());
        if others {
            tracing::warn!(
                reason = trouble.reason.code(),
                next = trouble.next,
                "{}; the other tables go first",
                trouble.detail
            );
        } else {
            self.reporter.trouble(Some(trouble));
        }
    }
}

/// Builds the news that the first copy has reached the stage `kind`.
fn first_copy(kind: &'static str) -> News {
    News { about: About::First, kind, signal: None, data: Vec::new() }
}
