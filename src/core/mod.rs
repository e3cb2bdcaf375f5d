//! The decisions of the loop. An event goes in and the actions to perform come out. There is no IO,
//! clock or randomness here: the time and a seed are arguments.
//!
//! `Core` owns the ledger. It decides when a checkpoint is written, when a flush position is sent,
//! when a producer ends, when the stream is read again, and when everything stops. `agent::runner`
//! performs the actions and reports back. The row path (`rows`) enters records and commits
//! directly. The simulation in `simulation.rs` drives the core through crashes.
//!
//! Laws:
//! - A flush position is sent only after a checkpoint that holds it was acknowledged. It is never
//!   above the newest position received on this connection, and never above the floor of an open
//!   confirm hold.
//! - Nothing is produced unless the slot is held, the checkpoint of this term is written, and the
//!   previous producer is settled.
//! - A halt is final until a person acts or its cause is found to be gone: nothing more is produced
//!   or confirmed.
//! - While there is progress, a checkpoint is written every second, also during a confirm hold.

mod offsets;
mod entered;
mod event;
mod checkpoints;
mod control;
mod halting;
mod hold;
mod place;
mod producers;
mod progress;
mod refused;
mod retries;
mod rules;
mod stopping;
mod updates;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod simulation;

pub use event::{
    Action, Event, LastStop, Moment, Opened, Outcome, Report, SECOND, Settings, Stopped, Update,
};

use checkpoints::Checkpoints;
use control::Control;
use hold::Holds;
use place::StreamPlace;
use producers::Producers;
use progress::Recorded;
use refused::Refusals;
use retries::Retries;
use rules::{Rule, Rules};
use updates::Updates;

use crate::change::Committed;
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::{Halt, Reason};
use crate::ledger::{Ledger, RouteId, Ticket};
use crate::lsn::Lsn;
use offsets::{Finding, Offsets};

/// Shortest time between two replies to a server that keeps asking: at most ten replies a second
/// (`docs/internals/continuity.md`).
const REPLY_SPACING: u64 = SECOND / 10;

/// Delay after a failure that only a person can repair. A wrong password that is tried more often
/// may lock the role.
const REFUSED_RETRY: u64 = 10 * SECOND;

/// Delay before a failed write of a checkpoint is tried again.
const RECORD_RETRY: u64 = SECOND;

#[derive(Clone, Debug, PartialEq)]
enum Session {
    Closed {
        open_at: Moment,
    },
    Opening,
    /// Connected. The checkpoint of the new term is being written, and nothing is processed yet.
    Recording(Box<Checkpoint>),
    Streaming,
    /// A halt was found. The changes before it are being delivered and confirmed, and the halt is
    /// being recorded.
    Draining {
        halt: Halt,
        until: Moment,
    },
    Halted(Halt),
    Stopped,
}

/// State of one stream across all its connections. The head of the file states the laws.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    rules: Rules,
    ledger: Ledger,
    producers: Producers,
    offsets: Offsets,
    session: Session,
    holds: Holds,
    place: StreamPlace,
    checkpoints: Checkpoints,
    updates: Updates,
    refusals: Refusals,
    retries: Retries,
    control: Control,
    now: Moment,
}

impl Core {
    /// A core without a connection. Its first tick asks for one.
    #[must_use]
    pub fn new(settings: Settings, now: Moment) -> Self {
        Core {
            settings,
            rules: Rules::default(),
            ledger: Ledger::resume(Lsn::ZERO, Ticket(1)),
            producers: Producers::default(),
            offsets: Offsets::default(),
            session: Session::Closed { open_at: now },
            holds: Holds::default(),
            place: StreamPlace::default(),
            checkpoints: Checkpoints::new(now),
            updates: Updates::new(now),
            refusals: Refusals::default(),
            retries: Retries::new(now, settings.seed),
            control: Control::default(),
            now,
        }
    }

    /// Applies one event and returns the actions to perform, in order. `now` is never before the
    /// moment of the previous event.
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
                    *open_at = self.now.plus(REFUSED_RETRY);
                }
            }
            Event::Halt(halt) => self.halt(halt, &mut actions),
            Event::RecordWritten => self.record_written(&mut actions),
            Event::RecordFailed => {
                self.checkpoints.writing = None;
                self.checkpoints.write_at = self.now.plus(RECORD_RETRY);
            }
            Event::Burst { reply } => self.updates.reply_wanted |= reply,
            Event::GiveUp => {
                self.end_producer(true, &mut actions);
                self.lost(&mut actions);
            }
            Event::Settled { unanswered } => self.settled(unanswered),
            Event::Ends(ends) => self.ends_read(ends),
            Event::Retry => {
                if matches!(self.session, Session::Halted(_)) {
                    self.session = Session::Closed { open_at: self.now };
                    (self.refusals.failed_at, self.refusals.blocked) = (None, None);
                    // A recreated topic starts with offsets below the known ones.
                    self.offsets = Offsets::default();
                }
            }
            Event::HaltRecorded(halt) => self.halt_recorded(*halt),
            Event::Pause => self.control.paused = true,
            Event::Resume => self.control.paused = false,
            Event::Stop => {
                self.control.stop.get_or_insert(self.now.plus(self.settings.stop_patience));
            }
        }
        self.go_on(&mut actions);
        actions
    }

    /// Applies the delivery reports that arrived together, and returns the actions to perform.
    pub fn reports(&mut self, now: Moment, reports: &[Report]) -> Vec<Action> {
        let mut actions = Vec::new();
        self.wake(now, &mut actions);
        for report in reports {
            if !self.producers.knows(report.generation) {
                // the producer has settled, and its unanswered records are counted already
                continue;
            }
            let of = (report.generation, report.ticket);
            match report.outcome {
                Outcome::Landed { partition, offset } => {
                    self.landed(of, (partition, offset), &mut actions)
                }
                Outcome::Failed { permanent, of_topic } => {
                    self.failed(of, (permanent, of_topic), &mut actions)
                }
            }
        }
        self.go_on(&mut actions);
        actions
    }

    /// Moves the core's time on. After a suspension longer than [`Settings::freeze`] the connection
    /// counts as lost: the server has dropped it, and another process may hold the slot.
    fn wake(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let slept = now.since(self.now);
        self.now = self.now.max(now);
        if slept > self.settings.freeze
            && self.connected()
            && self.rules.keep(Rule::FreezeLosesSlot)
        {
            self.lost(actions);
        }
    }

    fn connected(&self) -> bool {
        matches!(
            self.session,
            Session::Recording(_) | Session::Streaming | Session::Draining { .. }
        )
    }

    fn opened(&mut self, opened: Opened, actions: &mut Vec<Action>) {
        let Opened { resume, slot_confirmed, mut record, last_stop, unix_ms, ends } = opened;
        assert!(
            self.ledger.next_ticket() == self.producers.first_ticket
                || !self.rules.keep(Rule::LossEndsProducer),
            "a connection begins with the producer of the one before"
        );
        if self.checkpoints.newest.as_ref().is_some_and(|was| was.epoch != record.epoch) {
            self.place.sent = Lsn::ZERO; // positions compare only within an epoch
        }
        self.place.sent = self.place.sent.max(record.sent);
        self.ledger = Ledger::resume(resume.from, self.ledger.next_ticket());
        let unproven = resume.confirmable_unproven(slot_confirmed);
        self.place.expect = resume.expect.map(|commit| (commit, unproven));
        (self.place.received, self.updates.flushed) = (resume.from.min(unproven), slot_confirmed);
        self.place.sequence = record.sequence;
        let beyond = resume.from > slot_confirmed;
        let last_commit = if beyond { record.delivered_commit } else { record.last_commit };
        self.holds.set_clock(self.now, unix_ms);
        if last_stop != LastStop::Own && self.rules.keep(Rule::HoldsAreInherited) {
            self.holds.inherit(&record.holds, record.foreign, self.settings.hold);
        }
        if !beyond && self.rules.keep(Rule::ReplayIsRecorded) {
            // The changes after the new `delivered` are sent again. The start after a crash during
            // that replay has to begin at the same position.
            (record.delivered, record.delivered_commit) =
                (record.confirmed.max(resume.from), last_commit);
        }
        ends.iter().for_each(|&(route, partition, end)| self.offsets.begins(route, partition, end));
        let unclean = last_stop == LastStop::Unclean && self.rules.keep(Rule::UncleanStopHolds);
        // Late records lie above the delivered position. A hold therefore needs no floor below the
        // checkpoint's confirmed position.
        self.resume_holds(resume.from.max(record.confirmed), last_commit, unclean, !beyond);
        (record.holds, record.foreign) = (self.holds.recorded(), self.holds.is_foreign());
        self.place.in_transaction = false;
        self.checkpoints.tables = None;
        self.checkpoints.progress.connected(self.now, record.delivered);
        self.session = Session::Recording(Box::new(record.clone()));
        self.updates.due_at = self.now.plus(self.settings.status_interval);
        self.write(record, actions);
    }

    /// Handles a connection that broke or must be given up. Its producer ends with it.
    fn lost(&mut self, actions: &mut Vec<Action>) {
        let connected = self.connected();
        match &self.session {
            Session::Halted(_) | Session::Stopped => return,
            Session::Draining { halt, .. } => {
                let halt = halt.clone();
                return self.enter_halt(halt, actions);
            }
            Session::Closed { .. } => {}
            Session::Opening | Session::Recording(_) | Session::Streaming => {
                actions.push(Action::Close)
            }
        }
        if self.rules.keep(Rule::LossEndsProducer) {
            self.end_producer(false, actions);
        }
        let delay = self.retries.next_delay(connected);
        self.session =
            Session::Closed { open_at: self.now.plus(delay).max(self.retries.not_before) };
        self.checkpoints.writing = None;
    }

    /// Compares the offset of an acknowledged record with the offsets that are known on its
    /// partition.
    fn place(&mut self, route: RouteId, partition: i32, offset: i64, actions: &mut Vec<Action>) {
        match self.offsets.landed(route, partition, offset) {
            Finding::Consecutive => {}
            Finding::Foreign => {
                actions.push(Action::Foreign(route));
                self.holds.note_foreign();
            }
            Finding::WentBack { .. } if self.refusals.detachable.contains(&route) => {
                self.began_anew(route, actions)
            }
            Finding::WentBack { highest } => {
                let detail =
                    format!("partition {partition} acknowledged offset {offset} after {highest}");
                let (recorded, _) = self.delivered();
                let halt = Halt::new(Reason::OffsetsWentBack, detail)
                    .over(recorded, self.ledger.entered());
                self.offsets.went_back = true;
                self.halt(halt.of_topic(route), actions);
            }
        }
    }

    fn record_written(&mut self, actions: &mut Vec<Action>) {
        let Some(record) = self.checkpoints.writing.take() else { return };
        self.checkpoints.tables.take_if(|tables| *tables == record.tables);
        if self.checkpoints.progress.recorded(record.delivered) {
            self.retries.attempts = 0;
        }
        self.checkpoints.newest = Some(record);
        match self.session {
            Session::Recording(_) => {
                self.session = Session::Streaming;
                if !self.rules.keep(Rule::BackoffByProgress) {
                    self.retries.attempts = 0;
                }
                self.update(true, actions);
            }
            Session::Streaming | Session::Draining { .. } => self.update(false, actions),
            Session::Closed { .. } | Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
    }

    fn write(&mut self, record: Checkpoint, actions: &mut Vec<Action>) {
        self.checkpoints.wanted = false;
        self.checkpoints.progress.writes(self.now, self.ledger.oldest());
        actions.push(Action::Write(Box::new(record.clone())));
        self.checkpoints.writing = Some(record);
    }

    /// Makes the checkpoint that has to be written now. `clean` says whether the checkpoint is that
    /// of a clean stop. `None` if the new checkpoint would say nothing more than the newest
    /// acknowledged one.
    fn record_due(&self, clean: bool) -> Option<Checkpoint> {
        let was = self.checkpoints.newest.as_ref()?;
        let (delivered, delivered_commit) = self.delivered();
        let (confirmed, last_commit) = self.confirmable((was.confirmed, was.last_commit));
        let foreign = self.holds.is_foreign();
        let rises =
            confirmed > was.confirmed || delivered > was.delivered || self.place.sent > was.sent;
        if !(rises
            || clean != was.clean
            || foreign != was.foreign
            || self.checkpoints.tables.is_some())
        {
            return None;
        }
        Some(Checkpoint {
            confirmed,
            sent: self.place.sent,
            last_commit,
            server_seen: was.server_seen_at(
                was.timeline,
                self.place.received,
                self.place.expect.is_none(),
            ),
            sequence: self.place.sequence,
            tables: self.checkpoints.tables.as_ref().unwrap_or(&was.tables).clone(),
            clean,
            delivered,
            delivered_commit,
            holds: self.holds.recorded(),
            foreign,
            ..was.clone()
        })
    }

    /// Sends a status update. It carries the newly confirmed position, or only the received
    /// position if nothing new is confirmed (`docs/internals/continuity.md`).
    fn update(&mut self, ask: bool, actions: &mut Vec<Action>) {
        let may = self.flushable();
        assert!(
            self.holds.floor().is_none_or(|(floor, _)| may <= floor || may <= self.updates.flushed),
            "the slot would pass the floor of an open hold"
        );
        let update = if may > self.updates.flushed {
            self.updates.flushed = may;
            Update { write: may, flush: may, ask }
        } else {
            Update { write: self.place.received, flush: Lsn::ZERO, ask }
        };
        self.updates.last = self.now;
        self.updates.reply_wanted = false;
        if ask {
            self.updates.due_at = self.now.plus(self.settings.status_interval);
        }
        actions.push(Action::Update(update));
    }

    /// Takes the steps that the state and the time require: connect, write, update, end a hold,
    /// stop, halt.
    fn go_on(&mut self, actions: &mut Vec<Action>) {
        if self.session == Session::Streaming {
            if self.holds.until().is_some_and(|until| self.now >= until) {
                self.end_hold(actions);
            }
            if self.checkpoints.progress.look(self.now, &self.ledger) {
                self.retries.attempts = 0;
            }
        }
        match self.session.clone() {
            Session::Closed { open_at } => {
                if self.control.stop.is_some() && !self.may_end_whole() {
                    self.exit_unconnected(actions);
                } else if self.now >= open_at {
                    self.session = Session::Opening;
                    actions.push(Action::Open);
                }
            }
            Session::Opening => {
                if self.control.stop.is_some() && !self.may_end_whole() {
                    actions.push(Action::Close);
                    self.exit_unconnected(actions);
                }
            }
            Session::Recording(record) => {
                if self.checkpoints.writing.is_none() && self.now >= self.checkpoints.write_at {
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
                let told = self.checkpoints.writing.is_none() && self.record_due(false).is_none();
                let drained = self.ledger.is_settled() && !self.is_settling() && told;
                if (drained && !self.checkpoints.halt_unrecorded) || self.now >= until {
                    self.enter_halt(halt, actions);
                }
            }
            Session::Halted(_) => {
                if self.control.stop.is_some() {
                    let began = self.checkpoints.newest.is_some() || self.is_settling();
                    self.exit(
                        if began { Stopped::Unanswered } else { Stopped::NothingSent },
                        actions,
                    );
                }
            }
            Session::Stopped => {}
        }
    }

    /// Sends the status updates and writes the checkpoints that are due on an open connection.
    fn keep_contact(&mut self, actions: &mut Vec<Action>) {
        let recording = matches!(self.session, Session::Recording(_));
        let asked = self.updates.reply_wanted && self.now.since(self.updates.last) >= REPLY_SPACING;
        let due = self.now >= self.updates.due_at;
        let settled = matches!(self.session, Session::Draining { .. }) && self.ledger.is_settled();
        let stopped_clean = self.checkpoints.newest.as_ref().is_some_and(|record| record.clean);
        let progress = self.checkpoints.progress.is_due(self.now, &self.ledger, self.recorded())
            && self.rules.keep(Rule::RecordsEverySecond);
        if !recording
            && !stopped_clean
            && (asked
                || due
                || progress
                || settled
                || self.checkpoints.tables.is_some()
                || self.checkpoints.wanted)
            && self.checkpoints.writing.is_none()
            && self.now >= self.checkpoints.write_at
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
