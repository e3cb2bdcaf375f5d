//! The loop's mind: what happened goes in, what to do comes out. No IO, no clock, no luck of its own.
//!
//! It owns the ledger and decides when a confirmation is recorded and sent, when a producer is given up, when the
//! stream is read again, and when nothing more may happen. `runner` performs its actions and reports back; the row path
//! (`rows`) enters records and commits directly. The simulation in `simulation.rs` drives it through crashes.
//!
//! Laws:
//! - A flush position is sent only after a record holding it was acknowledged, never above what this connection has
//!   received, never above the floor of an open confirm hold.
//! - Nothing is produced unless the slot is held, the record of this term is written, and the producer before is settled.
//! - A halt is final until a person acts: nothing more is produced or confirmed.
//! - While there is progress, it is recorded every second, and a hold does not change that.

mod offsets;
mod entered;
mod event;
mod halting;
mod hold;
mod producers;
mod progress;
mod refused;
mod rules;
mod stopping;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod simulation;

pub use event::{Action, Event, LastStop, Moment, Opened, Outcome, Report, SECOND, Settings, Stopped, Update};

use hold::Holds;
use producers::Ending;
use progress::{Progress, Recorded};
use rules::{Rule, Rules};

use crate::change::{Committed, Position};
use crate::continuity::checkpoint::{Checkpoint, TableIdentity};
use crate::continuity::{Halt, Reason};
use crate::ledger::{Generation, Ledger, RouteId, Ticket};
use crate::lsn::Lsn;
use offsets::{Finding, Offsets};
use std::collections::{BTreeMap, BTreeSet};

/// Replies to a server that asks again and again: at most ten a second (`docs/internals/continuity.md`).
const REPLY_SPACING: u64 = SECOND / 10;

/// Attempts to connect: the first at once, then doubling to this. Short, since an ordinary connection comes first, which
/// costs the server little, and a pipeline that waits after a restart of Postgres annoys everybody.
const BACKOFF_MAX: u64 = SECOND;
const BACKOFF_MIN: u64 = SECOND / 5;

/// The same after a connection that was opened and led nowhere: it cost the server a decoding session, and the next one
/// will most likely end the same way.
const FRUITLESS_BACKOFF_MAX: u64 = 10 * SECOND;

/// A refusal that a person has to lift: a wrong password tried more often may lock the role.
const LEISURE: u64 = 10 * SECOND;

/// A state write that failed is tried again after this.
const RECORD_RETRY: u64 = SECOND;

#[derive(Clone, Debug, PartialEq)]
enum Session {
    Closed {
        open_at: Moment,
    },
    Opening,
    /// Connected; the record of the new term is being written, nothing is processed.
    Recording(Box<Checkpoint>),
    Streaming,
    /// Delivering and confirming what came before a change that can never be delivered.
    Draining {
        halt: Halt,
        until: Moment,
    },
    Halted(Halt),
    Stopped,
}

/// See the module's own words.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    rules: Rules,
    ledger: Ledger,
    /// The first ticket of this producer.
    first_ticket: Ticket,
    offsets: Offsets,
    session: Session,
    /// The producer that belongs to `ledger`.
    generation: Generation,
    /// The producer before, while it is settled.
    ending: Option<Ending>,
    /// A producer that ended left records unanswered, and no connection has begun since.
    unsettled: bool,
    holds: Holds,
    /// Where this connection began, with the newest commit there.
    began: (Lsn, Option<Committed>),
    /// The newest record acknowledged, as the next one's base.
    record: Option<Checkpoint>,
    /// The record being written.
    writing: Option<Checkpoint>,
    write_at: Moment,
    progress: Progress,
    /// A commit that the replay must bring first.
    expect: Option<Committed>,
    /// Larger of the last Commit's end and the last keepalive's end on this connection.
    received: Lsn,
    /// Highest flush sent on this connection, or the slot's own.
    flushed: Lsn,
    sent: Lsn,
    sequence: Option<Lsn>,
    /// Where a record of which producer first failed for good: a second time is the last.
    failed_at: Option<(Generation, Position)>,
    /// A change that Kafka refuses for good: the stream halts when it comes to this Position.
    blocked: Option<(Position, Halt)>,
    /// Topics whose tables may be set aside, and which of them refused a record since they last took one.
    detachable: BTreeSet<RouteId>,
    refused: BTreeMap<RouteId, Generation>,
    status_at: Moment,
    last_update: Moment,
    reply_wanted: bool,
    in_transaction: bool,
    attempts: u32,
    /// The next connection is not opened before this moment.
    not_before: Moment,
    /// An operator wants no frame read, on this connection and on later ones, until they say so or we end.
    paused: bool,
    /// Bytes of copied rows that wait for their time, besides what is in flight.
    beside_bytes: usize,
    /// Somebody waits for what is confirmed by now to be recorded.
    record_wanted: bool,
    /// Captured tables as they are now, to be recorded.
    tables: Option<BTreeMap<String, TableIdentity>>,
    /// The first copy is not delivered and journalled yet: its rows come before any frame.
    copying: bool,
    stop: Option<Moment>,
    /// The halt is not in the state yet.
    halt_unrecorded: bool,
    /// A topic gave out acknowledged offsets again: what it lost may lie above what is recorded, so that stays.
    went_back: bool,
    now: Moment,
    luck: u64,
}

impl Core {
    /// A core that wants to connect at once.
    #[must_use]
    pub fn new(settings: Settings, now: Moment) -> Self {
        Core {
            settings,
            rules: Rules::default(),
            ledger: Ledger::resume(Lsn::ZERO, Ticket(1)),
            first_ticket: Ticket(1),
            offsets: Offsets::default(),
            session: Session::Closed { open_at: now },
            generation: Generation(1),
            ending: None,
            unsettled: false,
            holds: Holds::default(),
            began: (Lsn::ZERO, None),
            record: None,
            writing: None,
            write_at: now,
            progress: Progress::new(now),
            expect: None,
            received: Lsn::ZERO,
            flushed: Lsn::ZERO,
            sent: Lsn::ZERO,
            sequence: None,
            failed_at: None,
            blocked: None,
            detachable: BTreeSet::new(),
            refused: BTreeMap::new(),
            status_at: now,
            last_update: Moment(0),
            reply_wanted: false,
            in_transaction: false,
            attempts: 0,
            not_before: now,
            paused: false,
            beside_bytes: 0,
            record_wanted: false,
            tables: None,
            copying: false,
            stop: None,
            halt_unrecorded: false,
            went_back: false,
            now,
            luck: settings.seed,
        }
    }

    /// Takes one event at a moment not before the last one's and answers with what to do, in order.
    pub fn apply(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.wake(now, &mut actions);
        match event {
            Event::Tick => {}
            Event::Opened(opened) => self.opened(*opened, &mut actions),
            Event::Lost { retry_later } => {
                self.lost(&mut actions);
                if let Session::Closed { open_at } = &mut self.session
                    && retry_later
                {
                    *open_at = self.now.plus(LEISURE);
                }
            }
            Event::Halt(halt) => self.halt(halt, &mut actions),
            Event::RecordWritten => self.record_written(&mut actions),
            Event::RecordFailed => {
                self.writing = None;
                self.write_at = self.now.plus(RECORD_RETRY);
            }
            Event::Burst { reply } => self.reply_wanted |= reply,
            Event::GiveUp => {
                self.end_producer(true, &mut actions);
                self.lost(&mut actions);
            }
            Event::Settled { unanswered } => self.settled(unanswered),
            Event::Ends(ends) => self.ends_read(ends),
            Event::Retry => {
                if matches!(self.session, Session::Halted(_)) {
                    self.session = Session::Closed { open_at: self.now };
                    (self.failed_at, self.blocked) = (None, None);
                    // A topic that was made anew begins with offsets below those that we know.
                    self.offsets = Offsets::default();
                    self.went_back = false;
                }
            }
            Event::HaltRecorded(halt) => self.halt_recorded(*halt),
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Stop => {
                self.stop.get_or_insert(self.now.plus(self.settings.stop_patience));
            }
        }
        self.go_on(&mut actions);
        actions
    }

    /// Takes the delivery reports that came together.
    pub fn reports(&mut self, now: Moment, reports: &[Report]) -> Vec<Action> {
        let mut actions = Vec::new();
        self.wake(now, &mut actions);
        for report in reports {
            if !self.knows(report.generation) {
                continue; // its producer has settled: what it left unanswered is counted already
            }
            let of = (report.generation, report.ticket);
            match report.outcome {
                Outcome::Landed { partition, offset } => self.landed(of, (partition, offset), &mut actions),
                Outcome::Failed { permanent, of_topic } => self.failed(of, (permanent, of_topic), &mut actions),
            }
        }
        self.go_on(&mut actions);
        actions
    }

    /// We were suspended for longer than `wal_sender_timeout`: the server has dropped us, and another process may hold the
    /// slot.
    fn wake(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let slept = now.since(self.now);
        self.now = self.now.max(now);
        if slept > self.settings.freeze && self.connected() && self.rules.keep(Rule::FreezeLosesSlot) {
            self.lost(actions);
        }
    }

    fn connected(&self) -> bool {
        matches!(self.session, Session::Recording(_) | Session::Streaming | Session::Draining { .. })
    }

    fn opened(&mut self, opened: Opened, actions: &mut Vec<Action>) {
        let Opened { resume, slot_confirmed, mut record, last_stop, unix_ms, ends } = opened;
        assert!(
            self.ledger.next_ticket() == self.first_ticket || !self.rules.keep(Rule::LossEndsProducer),
            "a connection begins with the producer of the one before"
        );
        if self.record.as_ref().is_some_and(|was| was.epoch != record.epoch) {
            self.sent = Lsn::ZERO; // positions compare only within an epoch
        }
        self.sent = self.sent.max(record.sent);
        self.ledger = Ledger::resume(resume.from, self.ledger.next_ticket());
        self.expect = resume.expect;
        (self.received, self.flushed) = (resume.from, slot_confirmed);
        self.sequence = record.sequence;
        let beyond = resume.from > slot_confirmed;
        let last_commit = if beyond { record.delivered_commit } else { record.last_commit };
        self.holds.set_clock(self.now, unix_ms);
        if last_stop != LastStop::Own && self.rules.keep(Rule::HoldsAreInherited) {
            self.holds.inherit(&record.holds, record.foreign, self.settings.hold);
        }
        if !beyond && self.rules.keep(Rule::ReplayIsRecorded) {
            // What lies between is sent again: a crash in the middle of that begins at the same position.
            (record.delivered, record.delivered_commit) = (record.confirmed.max(resume.from), last_commit);
        }
        ends.iter().for_each(|&(route, partition, end)| self.offsets.begins(route, partition, end));
        let unclean = last_stop == LastStop::Unclean && self.rules.keep(Rule::UncleanStopHolds);
        // Late records lie above what was delivered, so that a hold need not keep more than what is confirmed already.
        self.resume_holds(resume.from.max(record.confirmed), last_commit, unclean, !beyond);
        (record.holds, record.foreign) = (self.holds.recorded(), self.holds.is_foreign());
        self.in_transaction = false;
        self.tables = None;
        self.progress.connected(self.now, record.delivered);
        self.session = Session::Recording(Box::new(record.clone()));
        self.status_at = self.now.plus(self.settings.status_interval);
        self.write(record, actions);
    }

    /// The connection is gone, or is not worth keeping: its producer ends with it.
    fn lost(&mut self, actions: &mut Vec<Action>) {
        let connected = self.connected();
        match &self.session {
            Session::Halted(_) | Session::Stopped => return,
            Session::Draining { halt, .. } => {
                let halt = halt.clone();
                return self.enter_halt(halt, actions);
            }
            Session::Closed { .. } => {}
            Session::Opening | Session::Recording(_) | Session::Streaming => actions.push(Action::Close),
        }
        if self.rules.keep(Rule::LossEndsProducer) {
            self.end_producer(false, actions);
        }
        let longest = if connected { FRUITLESS_BACKOFF_MAX } else { BACKOFF_MAX };
        let delay = (BACKOFF_MIN << self.attempts.min(10)).min(longest);
        // Between half and the whole of it, by a linear congruential step (Knuth's MMIX constants).
        self.luck = self.luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = if self.attempts == 0 { 0 } else { delay / 2 + (self.luck >> 33) % (delay / 2) };
        self.attempts += 1;
        self.session = Session::Closed { open_at: self.now.plus(delay).max(self.not_before) };
        self.writing = None;
    }

    /// Compares a landed record's offset with those before it on its partition.
    fn place(&mut self, route: RouteId, partition: i32, offset: i64, actions: &mut Vec<Action>) {
        match self.offsets.landed(route, partition, offset) {
            Finding::Consecutive => {}
            Finding::Foreign => {
                actions.push(Action::Foreign(route));
                self.holds.note_foreign();
            }
            Finding::WentBack { .. } if self.detachable.contains(&route) => self.began_anew(route, actions),
            Finding::WentBack { highest } => {
                let detail = format!("partition {partition} acknowledged offset {offset} after {highest}");
                let (recorded, _) = self.delivered();
                let halt = Halt::new(Reason::OffsetsWentBack, detail).over(recorded, self.ledger.entered());
                self.went_back = true;
                self.halt(halt.of_topic(route), actions);
            }
        }
    }

    fn record_written(&mut self, actions: &mut Vec<Action>) {
        let Some(record) = self.writing.take() else { return };
        self.tables.take_if(|tables| *tables == record.tables);
        if self.progress.recorded(record.delivered) {
            self.attempts = 0;
        }
        self.record = Some(record);
        match self.session {
            Session::Recording(_) => {
                self.session = Session::Streaming;
                if !self.rules.keep(Rule::BackoffByProgress) {
                    self.attempts = 0;
                }
                self.update(true, actions);
            }
            Session::Streaming | Session::Draining { .. } => self.update(false, actions),
            Session::Closed { .. } | Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
    }

    fn write(&mut self, record: Checkpoint, actions: &mut Vec<Action>) {
        self.record_wanted = false;
        self.progress.writes(self.now, self.ledger.oldest());
        actions.push(Action::Write(Box::new(record.clone())));
        self.writing = Some(record);
    }

    /// The record as it should be now, if that differs from the one acknowledged in what it proves.
    fn record_due(&self, clean: bool) -> Option<Checkpoint> {
        let was = self.record.as_ref()?;
        let (delivered, delivered_commit) = self.delivered();
        let (confirmed, last_commit) = self.confirmable((was.confirmed, was.last_commit));
        let foreign = self.holds.is_foreign();
        let rises = confirmed > was.confirmed || delivered > was.delivered || self.sent > was.sent;
        if !(rises || clean != was.clean || foreign != was.foreign || self.tables.is_some()) {
            return None;
        }
        Some(Checkpoint {
            confirmed,
            sent: self.sent,
            last_commit,
            server_seen: was.server_seen.max(self.received),
            sequence: self.sequence,
            tables: self.tables.as_ref().unwrap_or(&was.tables).clone(),
            clean,
            delivered,
            delivered_commit,
            holds: self.holds.recorded(),
            foreign,
            ..was.clone()
        })
    }

    /// Sends a status update: what is newly confirmed, else only what was received (`docs/internals/continuity.md`).
    fn update(&mut self, ask: bool, actions: &mut Vec<Action>) {
        let recorded = self.record.as_ref().map_or(Lsn::ZERO, |r| r.confirmed);
        let may = if self.rules.keep(Rule::RecordsBeforeUpdate) {
            recorded.min(self.ledger.confirmed())
        } else {
            self.ledger.confirmed()
        };
        assert!(
            self.holds.floor().is_none_or(|(floor, _)| may <= floor || may <= self.flushed),
            "the slot would pass the floor of an open hold"
        );
        let update = if may > self.flushed {
            self.flushed = may;
            Update { write: may, flush: may, ask }
        } else {
            Update { write: self.received, flush: Lsn::ZERO, ask }
        };
        self.last_update = self.now;
        self.reply_wanted = false;
        if ask {
            self.status_at = self.now.plus(self.settings.status_interval);
        }
        actions.push(Action::Update(update));
    }

    /// What time and the new state ask for.
    fn go_on(&mut self, actions: &mut Vec<Action>) {
        if self.session == Session::Streaming {
            if self.holds.until().is_some_and(|until| self.now >= until) {
                self.end_hold(actions);
            }
            if self.progress.look(self.now, &self.ledger) {
                self.attempts = 0;
            }
        }
        match self.session.clone() {
            Session::Closed { open_at } => {
                if self.stop.is_some() && !self.may_end_whole() {
                    self.exit_unconnected(actions);
                } else if self.now >= open_at {
                    self.session = Session::Opening;
                    actions.push(Action::Open);
                }
            }
            Session::Opening => {
                if self.stop.is_some() && !self.may_end_whole() {
                    actions.push(Action::Close);
                    self.exit_unconnected(actions);
                }
            }
            Session::Recording(record) => {
                if self.writing.is_none() && self.now >= self.write_at {
                    self.write(*record, actions);
                }
                self.keep_contact(actions);
            }
            Session::Streaming => {
                self.keep_contact(actions);
                self.finish(actions);
            }
            Session::Draining { halt, until } => {
                self.keep_contact(actions);
                let told = self.writing.is_none() && self.record_due(false).is_none();
                let drained = self.ledger.is_settled() && !self.is_settling() && told;
                if (drained && !self.halt_unrecorded) || self.now >= until {
                    self.enter_halt(halt, actions);
                }
            }
            Session::Halted(_) => {
                if self.stop.is_some() {
                    let began = self.record.is_some() || self.is_settling();
                    self.exit(if began { Stopped::Unanswered } else { Stopped::NothingSent }, actions);
                }
            }
            Session::Stopped => {}
        }
    }

    /// Records and updates that are due on an open connection.
    fn keep_contact(&mut self, actions: &mut Vec<Action>) {
        let recording = matches!(self.session, Session::Recording(_));
        let asked = self.reply_wanted && self.now.since(self.last_update) >= REPLY_SPACING;
        let due = self.now >= self.status_at;
        let settled = matches!(self.session, Session::Draining { .. }) && self.ledger.is_settled();
        let stopped_clean = self.record.as_ref().is_some_and(|record| record.clean);
        let progress =
            self.progress.is_due(self.now, &self.ledger, self.recorded()) && self.rules.keep(Rule::RecordsEverySecond);
        if !recording
            && !stopped_clean
            && (asked || due || progress || settled || self.tables.is_some() || self.record_wanted)
            && self.writing.is_none()
            && self.now >= self.write_at
            && let Some(record) = self.record_due(false)
        {
            self.write(record, actions);
        }
        if asked || due {
            self.update(due, actions);
        }
    }
}

/// The later of two commits.
fn newest(a: Option<Committed>, b: Option<Committed>) -> Option<Committed> {
    [a, b].into_iter().flatten().max_by_key(|commit| commit.end)
}
