//! The loop: wait, name what happened, apply, act.
//!
//! One thread owns the stream's socket, the row path and the producer's handle. Everything that waits is a task whose
//! end is an event; at most one of each kind is under way. What an event means is the core's business.

use arms::{ended, io, joined, stdout_ended};
pub(super) use clock::unix_nanos;
use clock::{now, run_id, settings};
use heart::Heart;
pub use start::run;

use self::silence::Silence;
use super::open::Connection;
use super::pace::{self, Spent};
use super::report::Reporter;
use super::request::Asked;
use super::supervise::{Disposition, Exit, PipelineError, disposition};
use super::{Config, open};
use crate::backfill::notices::Notices;
use crate::backfill::{self, Copies};
use crate::change::{Changes, RelationShape, RelationSlot};
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::halted::Halted;
use crate::continuity::{Chain, Trouble};
use crate::core::{Action, Core, Event, Opened, Outcome, Report, Update};
use crate::encode::Planner;
use crate::encode::registry::Registry;
use crate::initial::Copying;
use crate::kafka::{Delivery, PartitionEnd, Settled, Topics, classify, is_of_topic};
use crate::ledger::{RouteId, Ticket};
use crate::lsn::{Oid, PgMicros};
use crate::metrics::Metrics;
use crate::plans::keeper::{Keeper, KeeperError};
use crate::plans::sink::{Sink, StdoutError};
use crate::plans::{self, Active, Desk, Places, Planned, SinkConfig};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::{PgError, Sql, StandbyStatus, Stream};
use crate::rows::{Rows, Signalled, Tools};
use crate::snapshot::visibility::PgSnapshot;
use crate::snapshot::worker::Told;
use crate::status::Status;
use crate::table::TableName;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Reports taken at once: a wake of the loop costs more than a report.
const REPORTS_MAX: usize = 8192;

/// How long a producer that is given up may settle (`docs/internals/producers.md`).
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How often a halted agent looks for an operator's consent.
const LOOK: Duration = Duration::from_secs(5);

/// How often the slot's row is read: what metrics say of the server is no older. It is one row of shared memory.
const SLOT_LOOK: Duration = Duration::from_secs(1);

/// The status update's longest spacing; a third of wal_sender_timeout where that is less.
const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Troubles told by planning: one at a time, a few may wait.
const TROUBLES_MAX: usize = 8;

type Opening = Result<Connection, PipelineError>;
type Planning = (Desk, Result<plans::Outcome, PgError>);
type PlanningTask = JoinHandle<(Place, Planning)>;
/// Partitions with their ends; none if they could not be read.
type PartitionEnds = Option<Vec<(RouteId, i32, i64)>>;

/// An open connection.
struct Live {
    sql: Arc<Sql>,
    stream: Stream,
    rows: Rows,
    /// Away while it plans.
    desk: Option<Desk>,
    relations: HashMap<RelationSlot, Oid>,
    /// What the stream has told of each, captured or not.
    shapes: HashMap<RelationSlot, RelationShape>,
    /// Relations to be planned because they are captured by now.
    replan: Vec<(RelationSlot, RelationShape)>,
    /// Whether the status update put in line last confirms something.
    confirming: bool,
    read_at: tokio::time::Instant,
    silence: Silence,
    /// How long the last transaction had waited to be sent, in microseconds of the server's clock.
    behind: i64,
    slot: SlotRow,
}

mod act;
mod arms;
mod asked;
mod beside;
mod clock;
mod copying;
mod detached;
mod halts;
mod heart;
mod needs;
mod proofs;
mod reload;
mod session;
mod silence;
mod signals;
mod skip;
mod start;
mod strain;
mod tell;
mod whole;

pub(super) use proofs::{Span, replacement};
use session::Place;

struct Runner {
    config: Config,
    keeper: Keeper,
    core: Core,
    sink: Option<Sink>,
    live: Option<Live>,
    /// The first copy, until it is over; it outlives a connection as long as its snapshot is held.
    copying: Option<Copying>,
    reporter: Reporter,
    topics: Option<Topics>,
    routes: Vec<String>,
    actives: HashMap<Oid, Active>,
    messages: Planned,
    heart: Heart,
    /// Copies beside the stream, and the session that reads for them while it is free.
    copies: Copies,
    notices: Notices,
    signal_follower: Option<signals::SignalFollower>,
    detaching: detached::Detaching,
    doubts: proofs::Doubts,
    captured: Vec<TableName>,
    reader: Option<crate::snapshot::reader::Reader>,
    /// The session that reads a whole table beside the stream.
    reading: Option<whole::Reading>,
    kindness: crate::snapshot::kindness::Kindness,
    run_id: String,
    deliveries: mpsc::Sender<Delivery>,
    troubles: mpsc::Sender<Option<Trouble>>,
    /// Whether a connection was ever proven: what is refused before is most likely the configuration.
    streamed: bool,
    /// Keys of older confirm records, to be removed once a newer one is acknowledged.
    outdated: Vec<String>,
    /// A topic takes less than our batches: the producer is exchanged for one with this size as soon as nothing is in
    /// flight, since the broker refuses a batch as a whole.
    smaller_batches: Option<usize>,
    looked_at: tokio::time::Instant,
    glanced_at: tokio::time::Instant,
    recorded_at: tokio::time::Instant,
    /// Looks so far while halted.
    looks: u32,
    /// Bytes have come since the row path last ran.
    fresh: bool,
    /// When the planning under way began.
    planning_since: std::time::Instant,
    /// When a producer that could not be started is tried again.
    sink_retry_at: crate::core::Moment,
    /// When the next journal record may be written: after one that failed, not at once.
    journal_at: crate::core::Moment,
    halts: halts::Halts,
    exit: Option<Exit>,
    /// Reports as they came, and as the core reads them: buffers that are used again.
    taken: Vec<Delivery>,
    reported: Vec<Report>,
    tasks: Tasks,
}

/// What is under way; a kind at most once.
#[derive(Default)]
struct Tasks {
    opening: Option<JoinHandle<Opening>>,
    writing: Option<JoinHandle<Result<(), KeeperError>>>,
    settling: Option<JoinHandle<Settled>>,
    planning: Option<PlanningTask>,
    ends: Option<JoinHandle<PartitionEnds>>,
    probing: Option<JoinHandle<Probe>>,
    looking: Option<JoinHandle<Look>>,
    closing: Option<JoinHandle<()>>,
    holding: Option<copying::Holding>,
    journalling: Option<JoinHandle<(usize, Result<(), KeeperError>)>>,
    chunk: Option<JoinHandle<beside::Answered>>,
    recording: Option<JoinHandle<beside::Recorded>>,
    reloading: Option<JoinHandle<reload::Reloaded>>,
    skipping: Option<JoinHandle<skip::Consented>>,
    halting: Option<JoinHandle<Option<Halted>>>,
    glancing: Option<JoinHandle<Option<PgSnapshot>>>,
}

enum Probe {
    /// The server takes connections: a new sentinel.
    Sentinel(Box<Sql>),
    /// The walsender works.
    Moving,
    /// The walsender does nothing, which counts if we were reading all the time.
    Frozen(PipelineError),
    /// The connection is of no more use.
    Gone(PipelineError),
}

enum Look {
    Slot(strain::Looked),
    Login(Result<Option<SinkConfig>, crate::kafka::KafkaError>),
    Halted { lifted: bool, slot: Option<SlotRow> },
}

/// Something happened, in the runner's own words.
enum Happened {
    Stop,
    Asked(Asked),
    Reports,
    Opened(Box<Opening>),
    Written(Result<(), KeeperError>),
    Settled(Settled),
    Planned(Box<(Place, Planning)>),
    Ends(PartitionEnds),
    StdoutEnded(StdoutError),
    Answered(Box<beside::Answered>),
    Recorded(beside::Recorded),
    Glanced(Option<PgSnapshot>),
    Reloaded(Box<reload::Reloaded>),
    Skipped(Box<skip::Consented>),
    HaltRecorded(Option<Box<Halted>>),
    Probed(Probe),
    Looked(Look),
    Told(Told),
    WholeTold(crate::snapshot::temporary::Told),
    Heard(crate::kafka::Followed),
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
        let topics = match &config.sink {
            SinkConfig::Kafka(kafka) => Some(Topics::new(kafka)),
            SinkConfig::Stdout { .. } => None,
        };
        let notices = Notices::new(&config.encode, config.log_notices);
        let copies = Copies::new(&config.slot, notices.are_wanted());
        Runner {
            core: Core::new(settings, now()),
            config,
            keeper,
            sink: None,
            live: None,
            copying: None,
            reporter,
            topics,
            routes: Vec::new(),
            actives: HashMap::new(),
            messages: Planned::Unplanned,
            heart: Heart::default(),
            copies,
            notices,
            signal_follower: None,
            detaching: detached::Detaching::default(),
            doubts: proofs::Doubts::default(),
            captured: Vec::new(),
            reader: None,
            reading: None,
            kindness: crate::snapshot::kindness::Kindness::default(),
            run_id: run_id(),
            deliveries,
            troubles,
            streamed: false,
            outdated: Vec::new(),
            smaller_batches: None,
            looked_at: tokio::time::Instant::now(),
            glanced_at: tokio::time::Instant::now(),
            recorded_at: tokio::time::Instant::now(),
            looks: 0,
            fresh: false,
            planning_since: std::time::Instant::now(),
            sink_retry_at: crate::core::Moment::default(),
            journal_at: crate::core::Moment::default(),
            halts: halts::Halts::default(),
            exit: None,
            taken: Vec::new(),
            reported: Vec::new(),
            tasks: Tasks::default(),
        }
    }

    /// Waits for the next thing. Cancel-safe in every arm: what is dropped has happened to nobody.
    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        asked: &mut mpsc::Receiver<Asked>,
        reports: &mut mpsc::Receiver<Delivery>,
        troubled: &mut mpsc::Receiver<Option<Trouble>>,
    ) -> Happened {
        let may_read = self.may_read();
        let Runner { core, live, sink, tasks, taken, copying, copies, heart, reading, signal_follower, doubts, .. } =
            self;
        let may_take = copying.as_ref().is_some_and(|copying| copying.may_take(core, now()));
        let may_read_whole = reading.as_ref().is_some_and(|reading| reading.may_take(now()));
        let beside = copies.next_tick().filter(|_| live.is_some());
        let piece = reading.as_ref().map(whole::Reading::next_piece).filter(|at| *at > now());
        let tick = beside.into_iter().chain(piece).fold(copying::next_tick(core, copying.as_ref()), std::cmp::min);
        let timer = Duration::from_micros(tick.since(now()).max(1000)).min(heart.rest());
        let (mut sentinel, mut stream) = (None, None);
        if let Some(live) = live {
            sentinel = Some(&live.sql);
            stream = Some(&mut live.stream);
        }
        let unsent = stream.as_ref().is_some_and(|stream| stream.has_unsent());
        tokio::select! {
            biased; // 1 what ends us or is asked of us, 2 what frees room, 3 what we asked for, 4 what must be on time, 5 what takes room
            _ = stop.wait_for(|stop| *stop), if !core.is_stopping() => Happened::Stop,
            Some(asked) = asked.recv() => Happened::Asked(asked),
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
            glanced = joined(&mut tasks.glancing) => Happened::Glanced(glanced),
            recorded = joined(&mut tasks.recording) => Happened::Recorded(recorded),
            probe = joined(&mut tasks.probing) => Happened::Probed(probe),
            look = joined(&mut tasks.looking) => Happened::Looked(look),
            Some(trouble) = troubled.recv() => Happened::Trouble(trouble),
            () = doubts.changed() => Happened::Proofs,
            journalled = joined(&mut tasks.journalling) => Happened::Journalled(journalled.0, journalled.1),
            ended = copying::ended(&mut tasks.holding) => Happened::SnapshotEnded(ended),
            () = ended(sentinel), if tasks.probing.is_none() => Happened::SentinelEnded,
            () = tokio::time::sleep(timer) => Happened::Timer,
            Some(heard) = signals::heard(signal_follower.as_mut()) => Happened::Heard(heard),
            Some(told) = copying::told(copying.as_mut()), if may_take => Happened::Told(told),
            Some(told) = whole::told(reading.as_mut()), if may_read_whole => Happened::WholeTold(told),
            read = io(stream, may_read, unsent) => read,
        }
    }

    /// What the next wait will have been for, as far as the state tells.
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
            && self.sink.as_mut().is_some_and(Sink::has_room)
            && self.tasks.planning.is_none()
            && self.smaller_batches.is_none()
            && !self.copies.is_holding()
            && self.live.as_ref().is_some_and(|l| l.desk.is_some() && l.replan.is_empty())
    }

    /// The row path over what has been read and not handled, if it may.
    fn work(&mut self) {
        if self.copying.is_some() {
            return self.copy();
        }
        self.send_whole();
        while let Some(signal) = self.work_to_signal() {
            self.signalled(&signal);
        }
    }

    fn work_to_signal(&mut self) -> Option<Signalled> {
        if !self.may_read() {
            return None;
        }
        let (Some(live), Some(sink)) = (&mut self.live, &mut self.sink) else { return None };
        let mut tools = tools(&mut self.core, sink, &mut self.copies, &self.reporter);
        let first = tools.core.next_ticket();
        let burst = live.rows.burst(&mut live.stream, &mut tools);
        match burst {
            Ok(mut burst) => {
                let next = self.core.next_ticket();
                if std::mem::take(&mut self.fresh) {
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
            Happened::Asked(asked) => self.asked(asked),
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
                let (place, (desk, outcome)) = *planned;
                self.planned(place, desk, outcome);
            }
            Happened::Ends(ends) => self.apply(Event::Ends(ends)),
            Happened::StdoutEnded(error) => self.exit = Some(without_stdout(&error)),
            Happened::Answered(answered) => self.answered(*answered),
            Happened::Reloaded(reloaded) => self.reloaded(*reloaded),
            Happened::HaltRecorded(halted) => self.halt_written(halted.as_deref()),
            Happened::Skipped(consented) => self.skip_recorded(*consented),
            Happened::Glanced(snapshot) => snapshot.iter().for_each(|snapshot| self.copies.look(snapshot)),
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
                // What we did not read while the server was asked has held the walsender up.
                if self.live.as_ref().is_some_and(|live| live.silence.is_too_long(tokio::time::Instant::now())) {
                    self.broke(error);
                }
            }
            Happened::Probed(Probe::Gone(error)) => self.broke(error),
            Happened::Looked(look) => self.looked(look),
            Happened::Told(told) => self.told(told),
            Happened::WholeTold(told) => self.whole_told(told),
            Happened::Heard(followed) => self.heard(followed),
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
                self.look_around();
            }
        }
    }

    /// Bytes came. Where they keep coming in small reads, let them gather.
    fn read(&mut self, bytes: usize) {
        let Some(live) = &mut self.live else { return };
        let now = tokio::time::Instant::now();
        let waited = now.duration_since(live.read_at);
        live.silence.broken(now);
        self.fresh = true;
        self.reporter.received(bytes);
        self.reporter.lap(Spent::Other);
        self.work();
        self.reporter.lap(Spent::Working);
        let behind = self.live.as_ref().map_or(0, |live| live.behind);
        if let Some(pause) = pace::gather(bytes, waited, behind) {
            // Our own thread: nobody else waits, and a timer of the runtime has no finer grain than 1 ms.
            std::thread::sleep(pause);
            self.reporter.lap(Spent::Reading);
        }
        if let Some(live) = &mut self.live {
            live.read_at = tokio::time::Instant::now();
        }
    }

    fn reports(&mut self) {
        self.reported.clear();
        self.reported.extend(self.taken.iter().map(report));
        self.reporter.delivered(&self.taken);
        self.taken.clear();
        let actions = self.core.reports(now(), &self.reported);
        self.perform(actions);
        self.exchange_producer();
    }

    fn apply(&mut self, event: Event) {
        let actions = self.core.apply(now(), event);
        self.perform(actions);
    }
}

/// What the row path works with, put together from parts of the runner while others of them are in use.
fn tools<'a>(core: &'a mut Core, sink: &'a mut Sink, copies: &'a mut Copies, reporter: &'a Reporter) -> Tools<'a> {
    Tools { core, sink, copies, now_unix_nanos: unix_nanos(), metrics: reporter.metrics() }
}

fn report(delivery: &Delivery) -> Report {
    let outcome = match delivery.outcome {
        Ok(landed) => Outcome::Landed { partition: landed.partition, offset: landed.offset },
        Err(failed) => Outcome::Failed { permanent: classify(failed.code).lasts(), of_topic: is_of_topic(failed.code) },
    };
    Report { ticket: delivery.ticket, generation: delivery.generation, outcome }
}

/// How the process ends when standard output does.
fn without_stdout(error: &StdoutError) -> Exit {
    match error {
        StdoutError::ReaderGone => Exit::ReaderGone,
        StdoutError::Write(_) | StdoutError::Interrupted => {
            tracing::error!(error = %Chain(error), "standard output cannot be written");
            Exit::StdoutFailed
        }
    }
}
