//! The loop's mind: what happened goes in, what to do comes out. No IO, no clock, no luck of its own.
//!
//! It owns the ledger and decides when a confirmation is recorded and sent, when a producer is given up, when the
//! stream is read again, and when nothing more may happen. `runner` performs its actions and reports back; the row path
//! (`rows`) enters records and commits directly. The simulation in `simulation.rs` drives it through crashes.
//!
//! Laws:
//! - A flush position is sent only after a confirm record holding it was acknowledged, never above what this connection
//!   has received, never while in quarantine.
//! - Nothing is produced unless the slot is held, the record of this term is written, and the producer before is settled.
//! - A halt is final until a person acts: nothing more is produced or confirmed.

mod entered;
mod event;
mod quarantine;
mod refused;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod simulation;

pub use event::{Action, Event, Moment, Opened, Outcome, Report, SECOND, Settings, Update};

use quarantine::Ends;

use super::continuity::{Halt, Reason};
use super::offsets::{Finding, Offsets};
use super::record::{Record, TableIdentity};
use crate::change::{Committed, Position};
use crate::ledger::{Generation, Ledger, RouteId, Ticket};
use crate::lsn::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// Replies to a server that asks again and again: at most ten a second (continuity.md §1).
const REPLY_SPACING: u64 = SECOND / 10;

/// Reconnects: the first at once, then doubling to this. Short, since an ordinary connection comes first, which costs the
/// server little, and a pipeline that waits after a restart of Postgres annoys everybody.
const BACKOFF_MAX: u64 = SECOND;
const BACKOFF_MIN: u64 = SECOND / 5;

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
    Recording(Box<Record>),
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
    ledger: Ledger,
    offsets: Offsets,
    session: Session,
    generation: Generation,
    settling: bool,
    /// The newest record acknowledged, as the next one's base.
    record: Option<Record>,
    /// The record being written.
    writing: Option<Record>,
    write_at: Moment,
    /// A commit that the replay must bring first.
    expect: Option<Committed>,
    /// Larger of the last Commit's end and the last keepalive's end on this connection.
    received: Lsn,
    /// Highest flush sent on this connection, or the slot's own.
    flushed: Lsn,
    sent: Lsn,
    sequence: Option<Lsn>,
    held_until: Option<Moment>,
    foreign_in_quarantine: bool,
    ends: Ends,
    foreign_replays: u32,
    /// Where a record of which producer first failed for good: a second time is the last.
    failed_at: Option<(Generation, Position)>,
    /// Topics whose tables may be set aside, and which of them refused a record since they last took one.
    detachable: BTreeSet<RouteId>,
    refused: BTreeMap<RouteId, Generation>,
    status_at: Moment,
    last_update: Moment,
    reply_wanted: bool,
    in_transaction: bool,
    attempts: u32,
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
    now: Moment,
    luck: u64,
}

impl Core {
    /// A core that wants to connect at once.
    #[must_use]
    pub fn new(settings: Settings, now: Moment) -> Self {
        Core {
            settings,
            ledger: Ledger::resume(Lsn::ZERO, Ticket(1)),
            offsets: Offsets::default(),
            session: Session::Closed { open_at: now },
            generation: Generation(1),
            settling: false,
            record: None,
            writing: None,
            write_at: now,
            expect: None,
            received: Lsn::ZERO,
            flushed: Lsn::ZERO,
            sent: Lsn::ZERO,
            sequence: None,
            held_until: None,
            foreign_in_quarantine: false,
            ends: Ends::Unasked,
            foreign_replays: 0,
            failed_at: None,
            detachable: BTreeSet::new(),
            refused: BTreeMap::new(),
            status_at: now,
            last_update: Moment(0),
            reply_wanted: false,
            in_transaction: false,
            attempts: 0,
            paused: false,
            beside_bytes: 0,
            record_wanted: false,
            tables: None,
            copying: false,
            stop: None,
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
            Event::Lost { at_leisure } => {
                self.lost(&mut actions);
                if let Session::Closed { open_at } = &mut self.session
                    && at_leisure
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
            Event::GiveUp => self.give_up(&mut actions),
            Event::Settled { unanswered } => self.settled(unanswered, &mut actions),
            Event::Ends(ends) => self.ends_read(ends),
            Event::Retry => {
                if matches!(self.session, Session::Halted(_)) {
                    self.session = Session::Closed { open_at: self.now };
                }
            }
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
            if report.generation != self.generation {
                continue; // of a producer that was given up: it says nothing of this one's records
            }
            match report.outcome {
                Outcome::Landed { partition, offset } => self.landed(report.ticket, partition, offset, &mut actions),
                Outcome::Failed { permanent, of_topic } => {
                    self.failed(report.ticket, permanent, of_topic, &mut actions);
                }
            }
        }
        self.go_on(&mut actions);
        actions
    }

    /// A pause of our own that the walsender will not have outlived: the slot may be another's by now.
    fn wake(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let slept = now.since(self.now);
        self.now = self.now.max(now);
        if slept > self.settings.freeze && self.connected() {
            self.lost(actions);
        }
    }

    fn connected(&self) -> bool {
        matches!(self.session, Session::Recording(_) | Session::Streaming | Session::Draining { .. })
    }

    fn opened(&mut self, opened: Opened, actions: &mut Vec<Action>) {
        self.ledger = Ledger::resume(opened.resume.from, self.ledger.next_ticket());
        self.expect = opened.resume.expect;
        (self.received, self.flushed) = (opened.resume.from, opened.resume.from);
        self.sent = self.sent.max(opened.record.sent);
        self.sequence = opened.record.sequence;
        if !opened.clean && self.record.is_none() {
            self.hold();
        }
        self.in_transaction = false;
        self.tables = None;
        self.session = Session::Recording(Box::new(opened.record.clone()));
        self.status_at = self.now.plus(self.settings.status_interval);
        self.write(opened.record, actions);
    }

    fn lost(&mut self, actions: &mut Vec<Action>) {
        match self.session {
            Session::Halted(_) | Session::Stopped => return,
            Session::Closed { .. } => {}
            Session::Draining { ref halt, .. } => {
                actions.push(Action::Close);
                self.session = Session::Halted(halt.clone());
                return;
            }
            Session::Opening | Session::Recording(_) | Session::Streaming => actions.push(Action::Close),
        }
        let delay = (BACKOFF_MIN << self.attempts.min(10)).min(BACKOFF_MAX);
        // Between half and the whole of it, by a linear congruential step (Knuth's MMIX constants).
        self.luck = self.luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = if self.attempts == 0 { 0 } else { delay / 2 + (self.luck >> 33) % (delay / 2) };
        self.attempts += 1;
        self.session = Session::Closed { open_at: self.now.plus(delay) };
        self.writing = None;
    }

    fn halt(&mut self, halt: Halt, actions: &mut Vec<Action>) {
        match self.session {
            Session::Halted(_) | Session::Stopped | Session::Draining { .. } => {}
            Session::Streaming => {
                self.session = Session::Draining { halt, until: self.now.plus(self.settings.stop_patience) };
            }
            Session::Closed { .. } | Session::Opening | Session::Recording(_) => {
                actions.push(Action::Close);
                self.session = Session::Halted(halt);
            }
        }
    }

    fn landed(&mut self, ticket: Ticket, partition: i32, offset: i64, actions: &mut Vec<Action>) {
        // A report of a ledger before this one (the stream was read again) still tells what lies at which offset, but
        // its route is gone with that ledger; the next report that is known restarts the comparison from a jump at worst.
        let Some(route) = self.ledger.deliver(ticket) else {
            self.offsets.unknown(partition);
            return;
        };
        self.refused.remove(&route);
        match self.offsets.landed(route, partition, offset) {
            Finding::Consecutive => {}
            Finding::Foreign => {
                actions.push(Action::Foreign(route));
                self.foreign_in_quarantine |= self.held_until.is_some();
            }
            Finding::WentBack { .. } if self.detachable.contains(&route) => self.began_anew(route, actions),
            Finding::WentBack { highest } => {
                let detail = format!("partition {partition} acknowledged offset {offset} after {highest}");
                let halt =
                    Halt::new(Reason::OffsetsWentBack, detail).over(self.ledger.confirmed(), self.ledger.entered());
                actions.push(Action::Close);
                self.session = Session::Halted(halt);
            }
        }
    }

    fn give_up(&mut self, actions: &mut Vec<Action>) {
        if !self.settling {
            self.settling = true;
            actions.push(Action::Settle(Generation(self.generation.0 + 1)));
        }
    }

    fn settled(&mut self, unanswered: usize, actions: &mut Vec<Action>) {
        self.settling = false;
        self.generation.0 += 1;
        self.offsets.next_producer();
        if unanswered > 0 {
            self.hold();
        }
        if let Session::Draining { halt, .. } = &self.session {
            actions.push(Action::Close);
            self.session = Session::Halted(halt.clone());
        } else {
            self.lost(actions); // read again from the confirmed position
        }
    }

    fn record_written(&mut self, actions: &mut Vec<Action>) {
        let Some(record) = self.writing.take() else { return };
        self.tables.take_if(|tables| *tables == record.tables);
        self.record = Some(record);
        match self.session {
            Session::Recording(_) => {
                self.session = Session::Streaming;
                self.attempts = 0;
                self.update(true, actions);
            }
            Session::Streaming | Session::Draining { .. } => self.update(false, actions),
            Session::Closed { .. } | Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
    }

    fn write(&mut self, record: Record, actions: &mut Vec<Action>) {
        self.record_wanted = false;
        actions.push(Action::Write(Box::new(record.clone())));
        self.writing = Some(record);
    }

    /// The record as it should be now, if that differs from the one acknowledged in what it proves.
    fn record_due(&self, clean: bool) -> Option<Record> {
        let was = self.record.as_ref()?;
        let held = self.held_until.is_some();
        let confirmed = if held { was.confirmed } else { was.confirmed.max(self.ledger.confirmed()) };
        let rises = confirmed > was.confirmed || self.sent > was.sent || clean != was.clean || self.tables.is_some();
        rises.then(|| Record {
            confirmed,
            sent: self.sent,
            last_commit: if held { was.last_commit } else { newest(was.last_commit, self.ledger.last_commit()) },
            server_seen: was.server_seen.max(self.received),
            sequence: self.sequence,
            tables: self.tables.as_ref().unwrap_or(&was.tables).clone(),
            clean,
            ..was.clone()
        })
    }

    /// Sends a status update: what is newly confirmed, else only what was received (continuity.md §1, form).
    fn update(&mut self, ask: bool, actions: &mut Vec<Action>) {
        let recorded = self.record.as_ref().map_or(Lsn::ZERO, |r| r.confirmed);
        let may = if self.held_until.is_some() { Lsn::ZERO } else { recorded.min(self.ledger.confirmed()) };
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
        if self.held_until.is_some_and(|until| self.now >= until) && self.session == Session::Streaming {
            self.end_quarantine(actions);
        }
        match self.session.clone() {
            Session::Closed { open_at } => {
                if self.stop.is_some() {
                    self.exit(false, actions);
                } else if self.now >= open_at && !self.settling {
                    self.session = Session::Opening;
                    actions.push(Action::Open);
                }
            }
            Session::Opening => {
                if self.stop.is_some() {
                    actions.push(Action::Close);
                    self.exit(false, actions);
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
                if (self.ledger.is_settled() && !self.settling && told) || self.now >= until {
                    actions.push(Action::Close);
                    self.session = Session::Halted(halt);
                }
            }
            Session::Halted(_) => {
                if self.stop.is_some() {
                    self.exit(false, actions);
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
        if !recording
            && !stopped_clean
            && (asked || due || settled || self.tables.is_some() || self.record_wanted)
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

    /// A clean stop: at a transaction's end if one comes in time, everything delivered, recorded and confirmed.
    fn finish(&mut self, actions: &mut Vec<Action>) {
        let Some(until) = self.stop else { return };
        if self.now >= until {
            actions.push(Action::Close);
            self.exit(false, actions);
            return;
        }
        let busy = self.wants_frames() || !self.ledger.is_settled() || self.settling;
        if busy || self.writing.is_some() || self.now < self.write_at {
            return;
        }
        let clean = self.held_until.is_none();
        match self.record_due(clean) {
            Some(record) => self.write(record, actions),
            None => {
                actions.push(Action::Close); // the update that confirms went out with the record
                self.exit(clean, actions);
            }
        }
    }

    fn exit(&mut self, clean: bool, actions: &mut Vec<Action>) {
        self.session = Session::Stopped;
        actions.push(Action::Exit { clean });
    }
}

/// The later of two commits.
fn newest(a: Option<Committed>, b: Option<Committed>) -> Option<Committed> {
    [a, b].into_iter().flatten().max_by_key(|commit| commit.end)
}
