//! The loop: it waits for one event, names it, applies it to the core, and performs the core's
//! actions.
//!
//! One thread owns the socket of the stream, the row path and the handle of the producer.
//! Everything that waits is a task, and the end of a task is an event. At most one task of each
//! kind is under way. `core` decides what an event means.

use arms::{ended, io, joined, stdout_ended, without_stdout};
pub(super) use clock::unix_nanos;
use clock::{now, settings};
pub use start::run;

use self::silence::Silence;
use super::Config;
use super::open::Connection;
use super::pace::{self, Spent};
use super::report::Reporter;
use super::request::PendingRequest;
use super::supervise::{PipelineError, disposition};
use crate::backfill::Copies;
use crate::change::{RelationShape, RelationSlot};
use crate::continuity::Trouble;
use crate::continuity::{checkpoint::State, halted::Halted};
use crate::core::{Core, Event, Outcome, Report};
use crate::kafka::{Delivery, Settled, classify, is_of_topic};
use crate::ledger::{RouteId, Ticket};
use crate::lsn::Oid;
use crate::plans::keeper::{Keeper, KeeperError};
use crate::plans::sink::{Sink, StdoutError};
use crate::plans::{self, PlanMaker, SinkConfig};
use crate::postgres::slot::SlotRow;
use crate::postgres::{PgError, Sql, Stream};
use crate::rows::{Rows, Signalled, Tools};
use crate::snapshot::visibility::PgSnapshot;
use crate::snapshot::worker::WorkerEvent;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The most delivery reports that one turn of the loop takes. A turn costs more than a report.
const REPORTS_MAX: usize = 8192;

/// The longest time for which an ended producer may settle (`docs/internals/producers.md`, rule 1).
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Spacing of the checks whether a halt is over, of the readings of the slot's row while no stream
/// is open or something is copied, and of server snapshots while backfills wait for transactions.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Spacing of the readings of the slot's row while the stream runs and nothing is copied. Metrics
/// about the server are no older than this. The row lies in shared memory, so that a reading is
/// cheap.
const SLOT_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two status updates. A third of wal_sender_timeout applies where that is
/// shorter.
const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Capacity of the channel on which a connect and planning report trouble. Both report one trouble
/// at a time.
const TROUBLES_MAX: usize = 8;

type Opening = Result<Connection, PipelineError>;
type Planning = (PlanMaker, Result<plans::Outcome, PgError>);
type PlanningTask = JoinHandle<(Place, Planning)>;
/// Route (the topic's number in the ledger), partition and end offset of each partition. `None` if
/// the ends could not be read.
type PartitionEnds = Option<Vec<(RouteId, i32, i64)>>;

/// One open connection to Postgres, and everything that ends with it.
struct Live {
    sql: Arc<Sql>,
    stream: Stream,
    rows: Rows,
    /// The planner. `None` while a planning task owns it.
    plan_maker: Option<PlanMaker>,
    relations: HashMap<RelationSlot, Oid>,
    /// The newest shape that the stream announced for each relation, captured or not.
    shapes: HashMap<RelationSlot, RelationShape>,
    /// Relations that the stream announced before a reload captured their tables. They are planned
    /// before the stream is read again.
    replan: Vec<(RelationSlot, RelationShape)>,
    /// Whether the newest queued status update confirms a position.
    confirming: bool,
    read_at: tokio::time::Instant,
    silence: Silence,
    /// How long after its commit the server sent the last transaction, in microseconds of the
    /// server's clock.
    behind: i64,
    slot: SlotRow,
}

mod act;
mod arms;
mod requests;
mod backfill;
mod clock;
mod copying;
mod detached;
mod halts;
mod heartbeat;
mod checks;
mod needs;
mod server_notices;
mod parts;
mod proofs;
mod reload;
mod routes;
mod session;
mod silence;
mod signals;
mod skip;
mod start;
mod load;
mod copy_notices;
mod watched;
mod standstill;

use needs::Place;
use parts::{Backfills, Checks, First, Outlet, Process, Tables};
pub(super) use proofs::{Span, replacement};

/// The loop's state: the decider (`core`), the open connection, and one part for each subject.
struct Runner {
    config: Config,
    keeper: Keeper,
    core: Core,
    live: Option<Live>,
    outlet: Outlet,
    tables: Tables,
    first_copy: First,
    backfills: Backfills,
    checks: Checks,
    process: Process,
    reporter: Reporter,
    tasks: Tasks,
}

/// The tasks that are under way, at most one of each kind.
#[derive(Default)]
struct Tasks {
    opening: Option<JoinHandle<Opening>>,
    writing: Option<JoinHandle<Result<(), KeeperError>>>,
    settling: Option<JoinHandle<Settled>>,
    planning: Option<PlanningTask>,
    ends: Option<JoinHandle<PartitionEnds>>,
    probing: Option<JoinHandle<Probe>>,
    checking: Option<JoinHandle<CheckResult>>,
    closing: Option<JoinHandle<()>>,
    first_copy: copying::CopyTasks,
    chunk: Option<JoinHandle<backfill::Answered>>,
    recording: Option<JoinHandle<backfill::Recorded>>,
    reloading: Option<JoinHandle<reload::Reloaded>>,
    skipping: Option<JoinHandle<skip::Consented>>,
    halting: Option<JoinHandle<Option<Halted>>>,
    reading_snapshot: Option<JoinHandle<Option<PgSnapshot>>>,
}

enum Probe {
    /// The server accepts connections. This one replaces the ordinary connection that has ended.
    Sentinel(Box<Sql>),
    /// The walsender works without sending.
    Moving,
    /// The walsender does nothing. The verdict counts only if the loop was reading all the time.
    Frozen(PipelineError),
    /// The stream's connection cannot be used any more, or the server cannot be asked.
    Gone(PipelineError),
}

enum CheckResult {
    /// The slot's row, and the result of a look at publication and tables if one was due.
    Source(load::SourceLoad, Option<Box<watched::LookResult>>),
    Login(Result<Option<SinkConfig>, crate::kafka::KafkaError>),
    Halted {
        lifted: bool,
        slot: Option<SlotRow>,
        state: Option<Box<State>>,
    },
    /// The row of the slot, read while no stream is open. `None` if it could not be read.
    Away(Option<SlotRow>),
}

/// The event that one wait has brought, before `handle` takes it.
enum Happened {
    Stop,
    Request(PendingRequest),
    Reports,
    Opened(Box<Opening>),
    Written(Result<(), KeeperError>),
    Settled(Settled),
    Planned(Box<(Place, Planning)>),
    Ends(PartitionEnds),
    StdoutEnded(StdoutError),
    Answered(Box<backfill::Answered>),
    Recorded(backfill::Recorded),
    SnapshotRead(Option<PgSnapshot>),
    Reloaded(Box<reload::Reloaded>),
    Skipped(Box<skip::Consented>),
    HaltRecorded(Option<Box<Halted>>),
    Probed(Probe),
    Checked(CheckResult),
    Worker(WorkerEvent),
    Standstill(crate::snapshot::temporary::StandstillEvent),
    Signals(crate::kafka::Followed),
    SnapshotEnded(Option<PgError>),
    Journalled(usize, Result<(), KeeperError>),
    Trouble(Option<Trouble>),
    Proofs,
    SentinelEnded,
    Flushed(Result<usize, PgError>),
    Read(Result<usize, PgError>),
    Timer,
}

impl Runner {
    fn new(
        config: Config,
        keeper: Keeper,
        reporter: Reporter,
        deliveries: mpsc::Sender<Delivery>,
        troubles: mpsc::Sender<Option<Trouble>>,
    ) -> Self {
        let settings = settings(&config, STATUS_INTERVAL_MAX, Duration::from_secs(60));
        Runner {
            core: Core::new(settings, now()),
            outlet: Outlet::new(&config, deliveries),
            backfills: Backfills::new(&config),
            config,
            keeper,
            live: None,
            tables: Tables::default(),
            first_copy: First::default(),
            checks: Checks::default(),
            process: Process::new(troubles),
            reporter,
            tasks: Tasks::default(),
        }
    }

    /// Waits for the next event. Every arm is cancel-safe: an arm that is dropped has consumed
    /// nothing.
    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        asked: &mut mpsc::Receiver<PendingRequest>,
        reports: &mut mpsc::Receiver<Delivery>,
        troubled: &mut mpsc::Receiver<Option<Trouble>>,
    ) -> Happened {
        let may_read = self.may_read();
        let Runner { core, live, outlet, tables, first_copy, backfills, checks, tasks, .. } = self;
        let piece = backfills.next_piece();
        let Outlet { sink, taken, .. } = outlet;
        let Backfills { copies, reading, signal_follower, .. } = backfills;
        let (copying, doubts) = (&mut first_copy.copying, &mut tables.doubts);
        let may_take = copying.as_ref().is_some_and(|copying| copying.may_take(core, now()));
        let fits = reading.as_ref().is_some_and(|reading| reading.may_take(now()));
        let beside = copies.next_tick().filter(|_| live.is_some());
        let tick = beside
            .into_iter()
            .chain(piece)
            .fold(copying::next_tick(core, copying.as_ref()), std::cmp::min);
        let timer = Duration::from_micros(tick.since(now()).max(1000))
            .min(checks.heartbeat.rest())
            .min(sink.as_ref().map_or(Duration::MAX, Sink::rest));
        let (mut sentinel, mut stream) = (None, None);
        if let Some(live) = live {
            sentinel = Some(&live.sql);
            stream = Some(&mut live.stream);
        }
        let unsent = stream.as_ref().is_some_and(|stream| stream.has_unsent());
        tokio::select! {
            // The order: 1 stop and requests, 2 delivery reports, which free room, 3 ended tasks, 4
            // the timer, 5 reading, which takes room.
            biased;
            _ = stop.wait_for(|stop| *stop), if !core.is_stopping() => Happened::Stop,
            Some(asked) = asked.recv() => Happened::Request(asked),
            _ = reports.recv_many(taken, REPORTS_MAX) => Happened::Reports,
            error = stdout_ended(sink.as_mut()) => Happened::StdoutEnded(error),
            opened = joined(&mut tasks.opening) => Happened::Opened(Box::new(opened)),
            written = joined(&mut tasks.writing) => Happened::Written(written),
            settled = joined(&mut tasks.settling) => Happened::Settled(settled),
            planned = joined(&mut tasks.planning) => Happened::Planned(Box::new(planned)),
            ends = joined(&mut tasks.ends) => Happened::Ends(ends),
            answered = joined(&mut tasks.chunk) => Happened::Answered(Box::new(answered)),
            reloaded = joined(&mut tasks.reloading) => Happened::Reloaded(Box::new(reloaded)),
            skipped = joined(&mut tasks.skipping) => Happened::Skipped(Box::new(skipped)),
            halted = joined(&mut tasks.halting) => Happened::HaltRecorded(halted.map(Box::new)),
            snapshot = joined(&mut tasks.reading_snapshot) => Happened::SnapshotRead(snapshot),
            recorded = joined(&mut tasks.recording) => Happened::Recorded(recorded),
            probe = joined(&mut tasks.probing) => Happened::Probed(probe),
            result = joined(&mut tasks.checking) => Happened::Checked(result),
            Some(trouble) = troubled.recv() => Happened::Trouble(trouble),
            () = doubts.changed() => Happened::Proofs,
            (table, outcome) = joined(&mut tasks.first_copy.journalling) => {
                Happened::Journalled(table, outcome)
            }
            ended = copying::ended(&mut tasks.first_copy.holding) => Happened::SnapshotEnded(ended),
            () = ended(sentinel), if tasks.probing.is_none() => Happened::SentinelEnded,
            () = tokio::time::sleep(timer) => Happened::Timer,
            Some(followed) = signals::next(signal_follower.as_mut()) => Happened::Signals(followed),
            Some(event) = copying::next_event(copying.as_mut()), if may_take => {
                Happened::Worker(event)
            }
            Some(row) = standstill::next_event(reading.as_mut()), if fits => {
                Happened::Standstill(row)
            }
            read = io(stream, may_read, unsent) => read,
        }
    }

    /// Names the purpose of the next wait, by the state of the runner.
    fn spends(&mut self) -> Spent {
        let reads = self.may_read();
        match &self.live {
            Some(_) if self.tasks.planning.is_some() => Spent::Planning,
            Some(_) if reads => Spent::Reading,
            Some(_) if self.core.is_full() => Spent::Full,
            _ => Spent::Other,
        }
    }

    fn may_read(&mut self) -> bool {
        self.core.has_room()
            && self.outlet.sink.as_mut().is_some_and(Sink::has_room)
            && self.tasks.planning.is_none()
            && self.outlet.smaller_batches.is_none()
            && !self.backfills.copies.is_holding()
            && self.live.as_ref().is_some_and(|l| l.plan_maker.is_some() && l.replan.is_empty())
    }

    /// Handles what was read: rows of the first copy, otherwise rows of a standstill and then
    /// frames. Each signal is acted on before the frames after it are handled.
    fn work(&mut self) {
        if self.first_copy.copying.is_some() {
            return self.copy();
        }
        self.send_standstill();
        while let Some(signal) = self.work_to_signal() {
            self.signalled(&signal);
        }
    }

    fn work_to_signal(&mut self) -> Option<Signalled> {
        if !self.may_read() {
            return None;
        }
        let (Some(live), Some(sink)) = (&mut self.live, &mut self.outlet.sink) else { return None };
        let mut tools = tools(&mut self.core, sink, &mut self.backfills.copies, &self.reporter);
        let first = tools.core.next_ticket();
        let burst = live.rows.burst(&mut live.stream, &mut tools);
        match burst {
            Ok(mut burst) => {
                let next = self.core.next_ticket();
                if std::mem::take(&mut self.process.fresh) {
                    self.reporter.arrived(burst.sent_at, unix_nanos() / 1000);
                }
                self.reporter.burst(&burst, (next > first).then_some(Ticket(next.0 - 1)));
                live.behind = burst.behind.unwrap_or(live.behind);
                let signal = burst.signal.take();
                self.worked(burst);
                signal
            }
            Err(error) => {
                self.broke(error.into());
                None
            }
        }
    }

    fn handle(&mut self, happened: Happened) {
        match happened {
            Happened::Stop => self.apply(Event::Stop),
            Happened::Request(request) => self.on_request(request),
            Happened::Reports => self.reports(),
            Happened::Opened(opening) => self.opened(*opening),
            Happened::Written(Ok(())) => {
                self.reporter.recorded();
                self.apply(Event::RecordWritten);
                self.forget_outdated();
                self.try_succeeded();
            }
            Happened::Written(Err(error)) => {
                self.reporter.failed(&disposition(&error.into()));
                self.apply(Event::RecordFailed);
            }
            Happened::Settled(settled) => {
                self.apply(Event::Settled { unanswered: settled.unanswered });
                self.ensure_sink();
            }
            Happened::Planned(planned) => {
                let (place, (plan_maker, outcome)) = *planned;
                self.planned(place, plan_maker, outcome);
            }
            Happened::Ends(ends) => self.apply(Event::Ends(ends)),
            Happened::StdoutEnded(error) => self.process.exit = Some(without_stdout(&error)),
            Happened::Answered(answered) => self.answered(*answered),
            Happened::Reloaded(reloaded) => self.reloaded(*reloaded),
            Happened::HaltRecorded(halted) => self.halt_written(halted.as_deref()),
            Happened::Skipped(consented) => self.skip_recorded(*consented),
            Happened::SnapshotRead(snapshot) => {
                snapshot.iter().for_each(|snapshot| self.backfills.copies.on_snapshot(snapshot))
            }
            Happened::Recorded(recorded) => self.windows_recorded(recorded),
            Happened::Probed(Probe::Sentinel(sql)) => {
                if let Some(live) = &mut self.live {
                    live.sql = Arc::from(sql);
                }
            }
            Happened::Probed(Probe::Moving) => {
                if let Some(live) = &mut self.live {
                    live.silence.explained(tokio::time::Instant::now());
                }
            }
            Happened::Probed(Probe::Frozen(error)) => {
                // A walsender also stands still if we did not read during the probe. The silence
                // has then begun anew, and is not too long at this point.
                if self
                    .live
                    .as_ref()
                    .is_some_and(|live| live.silence.is_too_long(tokio::time::Instant::now()))
                {
                    self.broke(error);
                }
            }
            Happened::Probed(Probe::Gone(error)) => self.broke(error),
            Happened::Checked(result) => self.on_check(result),
            Happened::Worker(told) => self.on_worker_event(told),
            Happened::Standstill(told) => self.on_standstill_event(told),
            Happened::Signals(followed) => self.on_signals(followed),
            Happened::SnapshotEnded(error) => self.snapshot_ended(error),
            Happened::Journalled(table, outcome) => self.journalled(table, outcome),
            Happened::Trouble(trouble) => self.reporter.trouble(trouble),
            Happened::Proofs => self.proofs_changed(),
            Happened::SentinelEnded => self.probe_server(),
            Happened::Flushed(Ok(bytes)) => self.reporter.received(bytes),
            Happened::Flushed(Err(error)) | Happened::Read(Err(error)) => self.broke(error.into()),
            Happened::Read(Ok(bytes)) => self.read(bytes),
            Happened::Timer => {
                self.apply(Event::Tick);
                self.beat();
                self.windows_tick();
                self.ensure_sink();
                self.start_checks();
            }
        }
    }

    /// Handles bytes that arrived. Pauses after a small read while more bytes keep arriving.
    fn read(&mut self, bytes: usize) {
        let Some(live) = &mut self.live else { return };
        let now = tokio::time::Instant::now();
        let waited = now.duration_since(live.read_at);
        live.silence.broken(now);
        self.process.fresh = true;
        self.reporter.received(bytes);
        self.reporter.lap(Spent::Other);
        self.work();
        self.on_server_notices();
        self.reporter.lap(Spent::Working);
        let behind = self.live.as_ref().map_or(0, |live| live.behind);
        if let Some(pause) = pace::gather(bytes, waited, behind) {
            // The loop has this thread to itself, and a timer of the runtime has no finer grain
            // than 1 ms.
            std::thread::sleep(pause);
            self.reporter.lap(Spent::Reading);
        }
        if let Some(live) = &mut self.live {
            live.read_at = tokio::time::Instant::now();
        }
    }

    fn reports(&mut self) {
        self.outlet.reported.clear();
        self.outlet.reported.extend(self.outlet.taken.iter().map(report));
        self.reporter.delivered(&self.outlet.taken);
        self.outlet.taken.clear();
        let actions = self.core.reports(now(), &self.outlet.reported);
        self.perform(actions);
        self.exchange_producer();
    }

    fn apply(&mut self, event: Event) {
        let actions = self.core.apply(now(), event);
        self.perform(actions);
    }
}

/// Collects the parts of the runner that the row path works with. A method would borrow the other
/// parts as well.
fn tools<'a>(
    core: &'a mut Core,
    sink: &'a mut Sink,
    copies: &'a mut Copies,
    reporter: &'a Reporter,
) -> Tools<'a> {
    Tools { core, sink, copies, now_unix_nanos: unix_nanos(), metrics: reporter.metrics() }
}

fn report(delivery: &Delivery) -> Report {
    let outcome = match delivery.outcome {
        Ok(landed) => Outcome::Landed { partition: landed.partition, offset: landed.offset },
        Err(failed) => Outcome::Failed {
            permanent: classify(failed.code).lasts(),
            of_topic: is_of_topic(failed.code),
        },
    };
    Report { ticket: delivery.ticket, generation: delivery.generation, outcome }
}
