//! An agent of the simulated world: a fake runner around a real core, and the faults that can
//! happen to it.

use super::*;
use std::collections::VecDeque;

/// Capacity of the queue, which stands for librdkafka's own limit. The byte budget keeps the queue
/// below it.
const QUEUE_MAX: usize = 60;

/// A fake producer with a queue for each partition. The first `on_wire` records of a queue have
/// left the process.
#[derive(Default)]
pub(super) struct FakeProducer {
    pub queues: [VecDeque<(Ticket, Entry, Moment)>; PARTITIONS],
    pub on_wire: [usize; PARTITIONS],
    /// True after a failed delivery: the producer accepts and delivers nothing more.
    pub ended: bool,
}

pub(super) struct Agent {
    pub core: Core,
    pub producer: FakeProducer,
    /// The ended producer, while it is being settled.
    pub settling: Option<FakeProducer>,
    /// Delivery reports on their way to the core, in order of arrival.
    pub reports: VecDeque<Report>,
    /// Place at which the connection reads: index of the transaction, then of the row.
    pub reading: Option<(usize, usize)>,
    /// Rows of transactions that commit below this position are left out.
    left_out_below: Lsn,
    pub state_write: Option<Checkpoint>,
    /// A halt that is being recorded.
    pub halt_write: Option<Halt>,
    pub opening: bool,
    pub asked_ends: bool,
    pub exited: Option<Stopped>,
    pub frozen_until: Option<Moment>,
    /// True if the server has dropped the connection and this process has not noticed it yet.
    pub broken: bool,
    /// True if the process woke up after `wal_sender_timeout` and has not closed its connection
    /// yet.
    overslept: bool,
    frozen_at: Moment,
    run: String,
}

fn settings(seed: u64) -> Settings {
    Settings {
        status_interval: 10 * SECOND,
        hold: HOLD,
        freeze: PATIENCE,
        budget_bytes: 40 * crate::ledger::RECORD_OVERHEAD_BYTES,
        stop_patience: 30 * SECOND,
        seed,
    }
}

fn ms(moment: Moment) -> i64 {
    (moment.0 / 1000) as i64
}

impl Agent {
    pub fn new(seed: u64, now: Moment, run: u64, off: Option<Rule>) -> Self {
        let mut core = Core::new(settings(seed), now);
        core.rules = Rules::without(off);
        Agent {
            core,
            producer: FakeProducer::default(),
            settling: None,
            reports: VecDeque::new(),
            reading: None,
            left_out_below: Lsn::ZERO,
            state_write: None,
            halt_write: None,
            opening: false,
            asked_ends: false,
            exited: None,
            frozen_until: None,
            broken: false,
            overslept: false,
            frozen_at: now,
            run: run.to_string(),
        }
    }

    /// True if the agent is not frozen, its producer has no record, and no producer is being
    /// settled.
    pub fn is_idle(&self) -> bool {
        self.settling.is_none()
            && self.producer.queues.iter().all(VecDeque::is_empty)
            && self.frozen_until.is_none()
    }
}

impl World {
    /// Wakes the agent if its freeze is over, and the thread of its producer as well. Returns false
    /// while the agent is frozen.
    pub(super) fn wakes(&mut self, at: usize) -> bool {
        if self.agents[at].frozen_until.is_some_and(|until| until > self.now) {
            return false;
        }
        self.wake(at);
        true
    }

    fn wake(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        if agent.frozen_until.take().is_some() {
            agent.overslept = self.now.since(agent.frozen_at) > PATIENCE && agent.reading.is_some();
            for partition in 0..PARTITIONS {
                agent.producer.on_wire[partition] = agent.producer.queues[partition].len();
            }
        }
    }

    pub(super) fn tell(&mut self, at: usize, event: Event) {
        self.wake(at); // a frozen process receives no event
        let actions = self.agents[at].core.apply(self.now, event);
        self.perform(at, actions);
    }

    fn let_go(&mut self, at: usize) {
        self.holder.take_if(|(holder, _)| *holder == at);
        let agent = &mut self.agents[at];
        (agent.reading, agent.opening) = (None, false);
        (agent.broken, agent.overslept) = (false, false);
    }

    pub(super) fn perform(&mut self, at: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open => self.agents[at].opening = true,
                Action::Close => self.let_go(at),
                Action::Write(record) => {
                    let agent = &mut self.agents[at];
                    agent.state_write = Some(Checkpoint { run: agent.run.clone(), ..*record });
                }
                Action::Update(update) => self.updated(at, update),
                Action::Settle(_) => {
                    let producer = std::mem::take(&mut self.agents[at].producer);
                    assert!(
                        self.agents[at].settling.replace(producer).is_none(),
                        "two producers settle at once"
                    );
                }
                Action::RecordHalt(halt) => self.agents[at].halt_write = Some(*halt),
                Action::Ends => self.agents[at].asked_ends = true,
                Action::Foreign(_) | Action::Replay => {}
                Action::Detach { .. } => {
                    panic!("a table is detached, though none of the simulation may be")
                }
                Action::Exit(stopped) => self.agents[at].exited = Some(stopped),
            }
        }
    }

    fn updated(&mut self, at: usize, update: Update) {
        assert!(update.write.bytes() <= self.wal_end, "acknowledged what was never sent");
        if let Some((holder, heard)) = &mut self.holder
            && *holder == at
        {
            *heard = self.now;
            if update.flush > self.slot {
                self.slot = update.flush;
            }
        }
    }

    /// Connects as `agent::open` does: it judges checkpoint and slot, then sets the place where the
    /// connection reads.
    pub(super) fn open(&mut self, at: usize) {
        self.agents[at].opening = false;
        if self.holder.is_some_and(|(holder, _)| holder != at) {
            return self.tell(at, Event::Lost { retry_later: false });
        }
        if let Some(halt) = self.halt.clone() {
            return self.tell(at, Event::Halt(halt));
        }
        self.opens += 1;
        self.resolve_writes(at);
        let seen = Observed {
            system_id: self.state.system_id.clone(),
            timeline: 1,
            history: BTreeMap::new(),
            server: Lsn::new(self.wal_end),
            standby: false,
            database: Oid(1),
            slot: Some(SlotView {
                confirmed: Some(self.slot),
                lost: None,
                ours: true,
                two_phase: false,
            }),
            publication: Some(PublicationView { oid: Oid(1), tables: BTreeMap::new() }),
            published: None,
            captured: Vec::new(),
        };
        let mut resume = match judge(Some(&self.state), false, &seen) {
            Verdict::Resume(resume) => resume,
            Verdict::Halt(halt) => return self.tell(at, Event::Halt(halt)),
            verdict => panic!("{verdict:?}"),
        };
        self.holder = Some((at, self.now));
        let was = self.state.clone();
        let last_stop = match &was {
            was if was.run == self.agents[at].run => LastStop::Own,
            was if was.clean => LastStop::Clean,
            _ => LastStop::Unclean,
        };
        let inherits = last_stop != LastStop::Own && !was.holds.is_empty();
        let rewinds = self.agents[at].core.rewinds() || (inherits && self.landed_late(&was));
        let watched = if inherits { 0..PARTITIONS } else { 0..0 };
        let ends = watched.map(|p| (RouteId(0), p as i32, self.log[p].len() as i64)).collect();
        let beyond = begins_beyond(&was, &seen).filter(|_| !rewinds);
        if let Some(beyond) = beyond {
            beyond.apply(&mut resume);
        }
        let reads_from = if resume.leaves_out { self.slot } else { resume.from };
        let next = self.wal.partition_point(|t| t.commit.end <= reads_from);
        self.agents[at].reading = Some((next, 0));
        self.agents[at].left_out_below = if resume.leaves_out { resume.from } else { Lsn::ZERO };
        let record = Checkpoint { term: was.term + 1, clean: false, ..was };
        let opened = Opened {
            resume,
            slot_confirmed: self.slot,
            record,
            last_stop,
            unix_ms: ms(self.now),
            ends,
        };
        self.tell(at, Event::Opened(Box::new(opened)));
    }

    /// True if a record in a partition lies after a record of a later producer. `kafka::late` finds
    /// that by the time stamps of the producers.
    fn landed_late(&self, record: &Checkpoint) -> bool {
        let began: Vec<i64> = record.holds.iter().map(|hold| hold.opened_ms).collect();
        self.log.iter().any(|partition| {
            let mut newest = 0;
            partition.iter().any(|logged| {
                let begun = began.partition_point(|at| *at <= ms(logged.produced));
                newest = newest.max(begun);
                begun < newest
            })
        })
    }

    /// Reads some rows of the stream into the producer, as the row path does.
    pub(super) fn read(&mut self, at: usize) {
        for _ in 0..1 + self.luck.below(30) {
            let now = self.now;
            let agent = &mut self.agents[at];
            let Some((transaction, mut row)) = agent.reading else { return };
            let left_out_below = agent.left_out_below;
            if !agent.core.has_room() {
                break;
            }
            let Some(current) = self.wal.get(transaction) else {
                let end = Lsn::new(self.wal_end);
                if let Err(halt) = agent.core.keepalive(end) {
                    self.tell(at, Event::Halt(halt));
                }
                let reply = self.faults && self.luck.one_in(3);
                self.tell(at, Event::Burst { reply });
                break;
            };
            if row == 0
                && let Err(halt) = agent.core.begun(current.final_lsn)
            {
                return self.tell(at, Event::Halt(halt));
            }
            let left_out = current.final_lsn < left_out_below;
            if left_out {
                row = current.rows.len();
            }
            if let Some(&(key, version)) = current.rows.get(row) {
                let position = Position { commit: current.final_lsn, ordinal: row as u64 };
                if let Some(halt) = agent.core.blocks(position).cloned() {
                    return self.tell(at, Event::Halt(halt));
                }
                if agent.producer.ended {
                    return self.tell(at, Event::GiveUp);
                }
                let halting = self.halt.is_some()
                    || self.agents.iter().any(|agent| agent.halt_write.is_some());
                assert!(
                    !(self.strict && halting),
                    "produced after another agent had come to a halt"
                );
                let agent = &mut self.agents[at];
                assert!(
                    !agent.overslept,
                    "produced after a pause that the server does not outlast"
                );
                let ticket = agent.core.next_ticket();
                let partition = key as usize % PARTITIONS;
                agent.producer.queues[partition].push_back((
                    ticket,
                    Entry { key, version, position },
                    now,
                ));
                let queued: usize = agent.producer.queues.iter().map(VecDeque::len).sum();
                assert!(queued <= QUEUE_MAX, "the producer's own limit was met");
                agent.core.sent(RouteId(0), position, 10);
                agent.reading = Some((transaction, row + 1));
            } else {
                let commit = current.commit;
                agent.reading = Some((transaction + 1, 0));
                if let Err(halt) = agent.core.committed(commit, !left_out) {
                    self.tell(at, Event::Halt(halt));
                }
            }
        }
        self.tell(at, Event::Burst { reply: false });
        if self.agents[at].broken {
            // the received rows are handled; only now the end of the connection is noticed
            self.lose(at);
        }
    }

    pub(super) fn freeze(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        agent.frozen_at = self.now;
        agent.frozen_until = Some(self.now.plus(self.luck.below(FREEZE_MAX)));
    }

    pub(super) fn lose(&mut self, at: usize) {
        self.agents[at].reading = None;
        self.tell(at, Event::Lost { retry_later: false });
    }

    /// Lets some records of one partition reach the broker, and queues their delivery reports for
    /// the core.
    pub(super) fn deliver(&mut self, at: usize) {
        let partition = self.luck.below(PARTITIONS as u64) as usize;
        let (more, some) = (self.luck.below(4) as usize, self.luck.below(1 << 20));
        let frozen = self.agents[at].frozen_until.is_some();
        let generation = self.agents[at].core.generation();
        let agent = &mut self.agents[at];
        if agent.producer.ended {
            return;
        }
        let queued = agent.producer.queues[partition].len();
        let wire = &mut agent.producer.on_wire[partition];
        if !frozen {
            *wire = (*wire + more).min(queued);
        }
        for _ in 0..some % (*wire as u64 + 1) {
            let refuses = self.refuses;
            let producer = &mut self.agents[at].producer;
            let Some(&(ticket, entry, produced)) = producer.queues[partition].front() else {
                return;
            };
            if refuses.is_some_and(|(position, _)| position == entry.position) {
                self.refuses = refuses.map(|(position, times)| (position, times + 1));
                return self.fail(at, ticket, true);
            }
            producer.queues[partition].pop_front();
            producer.on_wire[partition] -= 1;
            let offset = self.append(partition, entry, produced);
            let outcome = Outcome::Landed { partition: partition as i32, offset };
            self.agents[at].reports.push_back(Report { ticket, generation, outcome });
        }
    }

    pub(super) fn report(&mut self, at: usize) {
        let count = self.luck.below(self.agents[at].reports.len() as u64 + 1) as usize;
        let reports: Vec<_> = self.agents[at].reports.drain(..count).collect();
        let actions = self.agents[at].core.reports(self.now, &reports);
        self.perform(at, actions);
    }

    pub(super) fn fail_delivery(&mut self, at: usize, permanent: bool) {
        let partition = self.luck.below(PARTITIONS as u64) as usize;
        if let Some(&(ticket, ..)) = self.agents[at].producer.queues[partition].front() {
            self.fail(at, ticket, permanent);
        }
    }

    /// Reports the delivery of a record as failed. The producer ends and delivers nothing more.
    fn fail(&mut self, at: usize, ticket: Ticket, permanent: bool) {
        let agent = &mut self.agents[at];
        let outcome = Outcome::Failed { permanent, of_topic: false };
        agent.reports.push_back(Report { ticket, generation: agent.core.generation(), outcome });
        agent.producer.ended = true;
    }

    pub(super) fn settle(&mut self, at: usize) {
        let Some(producer) = self.agents[at].settling.take() else { return };
        // Reports that are on their way arrive before the producer is gone.
        let reports: Vec<_> = self.agents[at].reports.drain(..).collect();
        let actions = self.agents[at].core.reports(self.now, &reports);
        let unanswered = self.orphan(producer);
        self.perform(at, actions);
        self.tell(at, Event::Settled { unanswered });
    }

    pub(super) fn kill(&mut self, at: usize) {
        if let Some(record) = self.agents[at].state_write.take()
            && self.luck.one_in(2)
            && self.counts(&record)
        {
            self.state = record;
        }
        self.let_go(at);
        let agent = self.new_agent();
        let killed = std::mem::replace(&mut self.agents[at], agent);
        self.orphan(killed.producer);
        if let Some(settling) = killed.settling {
            self.orphan(settling);
        }
    }

    /// Decides whether the checkpoint is stored that another agent was writing when it lost the
    /// slot.
    fn resolve_writes(&mut self, at: usize) {
        for other in (0..self.agents.len()).filter(|other| *other != at) {
            if let Some(record) = self.agents[other].state_write.take()
                && self.luck.one_in(2)
                && self.counts(&record)
            {
                self.state = record;
            }
        }
    }

    /// True if a checkpoint that is stored now is the newest one. An agent that lost the slot
    /// writes a lower term.
    fn counts(&self, record: &Checkpoint) -> bool {
        record.term > self.state.term || record.run == self.state.run
    }

    pub(super) fn store(&mut self, at: usize) {
        let Some(record) = self.agents[at].state_write.take() else { return };
        let wins = self.counts(&record);
        if self.faults && self.luck.one_in(10) {
            self.tell(at, Event::RecordFailed);
        } else {
            if wins {
                self.state = record;
            }
            self.tell(at, Event::RecordWritten);
        }
    }

    /// Stores the halt that is being written. A failed write is repeated, so the halt is stored in
    /// the end.
    pub(super) fn store_halt(&mut self, at: usize) {
        if self.faults && self.luck.one_in(4) {
            return;
        }
        let Some(mut halt) = self.agents[at].halt_write.take() else { return };
        let run = self.agents[at].run.clone();
        halt.recorded = Some(Box::new(Recorded { at_ms: ms(self.now), run, epoch: 1 }));
        self.halt = Some(halt.clone());
        self.halts += 1;
        self.tell(at, Event::HaltRecorded(Box::new(halt)));
    }

    pub(super) fn answer_ends(&mut self, at: usize) {
        if std::mem::take(&mut self.agents[at].asked_ends) {
            let end = |partition: i32| self.log[partition as usize].len() as i64;
            let ends =
                self.agents[at].core.partitions().map(|(route, p)| (route, p, end(p))).collect();
            self.tell(at, Event::Ends(Some(ends)));
        }
    }

    /// Makes Kafka refuse the records of one Position permanently from now on.
    pub(super) fn refuse(&mut self) {
        let ahead = self.wal.len().checked_sub(3).and_then(|at| self.wal.get(at));
        self.refuses = ahead.map(|t| (Position { commit: t.final_lsn, ordinal: 0 }, 0));
    }

    /// Lifts the refusal and lets halted agents try again, as a person would.
    pub(super) fn repair(&mut self) {
        (self.refuses, self.halt) = (None, None);
        for at in 0..self.agents.len() {
            if self.agents[at].core.halted().is_some() {
                self.tell(at, Event::Retry);
            }
        }
    }
}
