//! A world in memory: Postgres with a slot, Kafka with producers whose bytes can land late, a state topic, and agents that
//! are killed. Seeded schedules drive the core through it; after every step the laws are checked from outside.
//!
//! What is faked keeps the rules that matter: the server sends a transaction again iff its end lies above the slot's
//! confirmed position; a producer's records reach a partition in order; a killed producer's bytes land whenever they like
//! within the quarantine; a record being written at a kill may or may not have been stored.

use super::*;
use crate::change::{Committed, Position};
use crate::ledger::RouteId;
use crate::lsn::{Oid, PgMicros, Xid};
use crate::pipeline::continuity::{Observed, PublicationView, Resume, SlotView, Verdict, judge};
use crate::pipeline::record::FORMAT;
use std::collections::{BTreeMap, HashMap, VecDeque};

const PARTITIONS: usize = 3;
const KEYS: u64 = 7;
const QUARANTINE: u64 = 60 * SECOND;

/// A small generator of its own, so that a seed means the same schedule for ever (xorshift64*).
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    key: u64,
    version: u64,
    position: Position,
}

#[derive(Clone, Debug)]
struct Transaction {
    commit: Committed,
    final_lsn: Lsn,
    rows: Vec<(u64, u64)>,
}

/// A producer: what it holds, per partition; the first `on_wire` of each have left the process.
#[derive(Default)]
struct FakeProducer {
    queues: [VecDeque<(Ticket, Entry)>; PARTITIONS],
    on_wire: [usize; PARTITIONS],
}

struct Agent {
    core: Core,
    producer: FakeProducer,
    /// Reports on their way, in the order they will arrive.
    reports: VecDeque<Report>,
    /// Where the connection reads: transaction, then row.
    reading: Option<(usize, usize)>,
    state_write: Option<Record>,
    opening: bool,
    settling: Option<Generation>,
    asked_ends: bool,
    exited: Option<bool>,
}

struct World {
    luck: Luck,
    now: Moment,
    wal: Vec<Transaction>,
    wal_end: u64,
    versions: HashMap<u64, u64>,
    slot: Lsn,
    log: [Vec<Entry>; PARTITIONS],
    state: Option<Record>,
    /// Bytes of dead producers: when they land, where.
    late: Vec<(Moment, usize, Vec<Entry>)>,
    agent: Agent,
    faults: bool,
}

fn settings(seed: u64) -> Settings {
    Settings {
        status_interval: 10 * SECOND,
        quarantine: QUARANTINE,
        freeze: 60 * SECOND,
        budget_bytes: 40 * crate::ledger::RECORD_OVERHEAD_BYTES,
        stop_patience: 30 * SECOND,
        seed,
    }
}

fn agent(seed: u64, now: Moment) -> Agent {
    Agent {
        core: Core::new(settings(seed), now),
        producer: FakeProducer::default(),
        reports: VecDeque::new(),
        reading: None,
        state_write: None,
        opening: false,
        settling: None,
        asked_ends: false,
        exited: None,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let luck = Luck(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let now = Moment(SECOND);
        World {
            luck,
            now,
            wal: Vec::new(),
            wal_end: 1000,
            versions: HashMap::new(),
            slot: Lsn::new(1000),
            log: Default::default(),
            state: Some(Record {
                format: FORMAT,
                slot: "s".to_owned(),
                term: 1,
                epoch: 1,
                system_id: "1".to_owned(),
                timeline: 1,
                database: Oid(1),
                publication: Oid(1),
                tables: BTreeMap::new(),
                confirmed: Lsn::new(1000),
                sent: Lsn::ZERO,
                last_commit: None,
                server_seen: Lsn::ZERO,
                pending_xids: Vec::new(),
                pending_upto: None,
                sequence: None,
                clean: true,
                accepted: Vec::new(),
            }),
            late: Vec::new(),
            agent: agent(seed, now),
            faults: true,
        }
    }

    fn write_transaction(&mut self) {
        let rows = (0..1 + self.luck.below(6))
            .map(|_| {
                let key = self.luck.below(KEYS);
                let version = self.versions.entry(key).or_default();
                *version += 1;
                (key, *version)
            })
            .collect();
        let final_lsn = Lsn::new(self.wal_end + 10);
        self.wal_end += 20 + self.luck.below(50);
        let commit =
            Committed { end: Lsn::new(self.wal_end), xid: Xid(self.wal.len() as u32), at: PgMicros(self.now.0 as i64) };
        self.wal.push(Transaction { commit, final_lsn, rows });
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open => self.agent.opening = true,
                Action::Close => {
                    self.agent.reading = None;
                    self.agent.opening = false;
                }
                Action::Write(record) => self.agent.state_write = Some(*record),
                Action::Update(update) => {
                    assert!(update.write.bytes() <= self.wal_end, "acknowledged what was never sent");
                    if self.agent.reading.is_some() && update.flush > self.slot {
                        self.slot = update.flush;
                    }
                }
                Action::Settle(generation) => self.agent.settling = Some(generation),
                Action::Ends => self.agent.asked_ends = true,
                Action::Foreign(_) | Action::Replay => {}
                Action::Detach { .. } => panic!("nobody has consented to it"),
                Action::Exit { clean } => self.agent.exited = Some(clean),
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let actions = self.agent.core.apply(self.now, event);
        self.perform(actions);
    }

    /// Connects as the runner does: judge record and slot, then start reading where the server resumes.
    fn open(&mut self) {
        self.agent.opening = false;
        let seen = Observed {
            system_id: "1".to_owned(),
            timeline: 1,
            history: BTreeMap::new(),
            server: Lsn::new(self.wal_end),
            standby: false,
            database: Oid(1),
            slot: Some(SlotView { confirmed: Some(self.slot), lost: None, ours: true }),
            publication: Some(PublicationView { oid: Oid(1), tables: BTreeMap::new() }),
            captured: Vec::new(),
        };
        match judge(self.state.as_ref(), false, &seen) {
            Verdict::Resume(Resume { from, expect }) => {
                let was = self.state.clone().unwrap();
                let next = self.wal.partition_point(|t| t.commit.end <= from);
                self.agent.reading = Some((next, 0));
                let record = Record { term: was.term + 1, clean: false, ..was.clone() };
                self.tell(Event::Opened(Box::new(Opened {
                    resume: Resume { from, expect },
                    record,
                    clean: was.clean,
                })));
            }
            Verdict::Halt(halt) => self.tell(Event::Halt(halt)),
            verdict => panic!("{verdict:?}"),
        }
    }

    /// Reads some rows of the stream into the producer, as the row path does.
    fn read(&mut self) {
        for _ in 0..1 + self.luck.below(30) {
            let Some((transaction, row)) = self.agent.reading else { return };
            if !self.agent.core.has_room() {
                return;
            }
            let Some(current) = self.wal.get(transaction) else {
                let end = Lsn::new(self.wal_end);
                if let Err(halt) = self.agent.core.keepalive(end) {
                    self.tell(Event::Halt(halt));
                }
                let reply = self.luck.one_in(3);
                self.tell(Event::Burst { reply });
                return;
            };
            if row == 0 {
                self.agent.core.begun();
            }
            if let Some(&(key, version)) = current.rows.get(row) {
                let position = Position { commit: current.final_lsn, ordinal: row as u64 };
                let ticket = self.agent.core.next_ticket();
                let partition = key as usize % PARTITIONS;
                self.agent.producer.queues[partition].push_back((ticket, Entry { key, version, position }));
                self.agent.core.sent(RouteId(0), position, 10);
                self.agent.reading = Some((transaction, row + 1));
            } else {
                let commit = current.commit;
                self.agent.reading = Some((transaction + 1, 0));
                if let Err(halt) = self.agent.core.committed(commit, true) {
                    self.tell(Event::Halt(halt));
                }
            }
        }
        self.tell(Event::Burst { reply: false });
    }

    fn append(&mut self, partition: usize, entry: Entry) -> i64 {
        self.log[partition].push(entry);
        self.log[partition].len() as i64 - 1
    }

    /// Some records reach the broker; their reports go on their way.
    fn deliver(&mut self) {
        let partition = self.luck.below(PARTITIONS as u64) as usize;
        let generation = self.agent.core.generation();
        let queued = self.agent.producer.queues[partition].len();
        let more = self.luck.below(4) as usize;
        let wire = &mut self.agent.producer.on_wire[partition];
        *wire = (*wire + more).min(queued);
        for _ in 0..self.luck.below(*wire as u64 + 1) {
            let Some((ticket, entry)) = self.agent.producer.queues[partition].pop_front() else { return };
            self.agent.producer.on_wire[partition] -= 1;
            let offset = self.append(partition, entry);
            let landed = Outcome::Landed { partition: partition as i32, offset };
            self.agent.reports.push_back(Report { ticket, generation, outcome: landed });
        }
    }

    fn report(&mut self) {
        let count = self.luck.below(self.agent.reports.len() as u64 + 1) as usize;
        let reports: Vec<_> = self.agent.reports.drain(..count).collect();
        let actions = self.agent.core.reports(self.now, &reports);
        self.perform(actions);
    }

    /// What left the process and was not answered lands later, or never.
    fn orphan(&mut self) -> usize {
        let producer = std::mem::take(&mut self.agent.producer);
        let mut orphans = 0;
        for (partition, queue) in producer.queues.into_iter().enumerate() {
            let wire: Vec<_> = queue.into_iter().take(producer.on_wire[partition]).map(|(_, entry)| entry).collect();
            orphans += wire.len();
            if !wire.is_empty() && self.luck.one_in(2) {
                let lands = self.now.plus(self.luck.below(QUARANTINE - SECOND));
                self.late.push((lands, partition, wire));
            }
        }
        orphans
    }

    fn fail_delivery(&mut self) {
        let partition = self.luck.below(PARTITIONS as u64) as usize;
        let generation = self.agent.core.generation();
        if let Some(&(ticket, _)) = self.agent.producer.queues[partition].front() {
            let failed = Report { ticket, generation, outcome: Outcome::Failed { permanent: false, of_topic: false } };
            self.agent.reports.push_back(failed);
        }
    }

    fn settle(&mut self) {
        if self.agent.settling.take().is_some() {
            // Reports that were under way arrive before the producer is gone.
            let reports: Vec<_> = self.agent.reports.drain(..).collect();
            let actions = self.agent.core.reports(self.now, &reports);
            self.perform(actions);
            let unanswered = self.orphan();
            self.tell(Event::Settled { unanswered });
        }
    }

    fn kill(&mut self) {
        if let Some(record) = self.agent.state_write.take()
            && self.luck.one_in(2)
        {
            self.state = Some(record);
        }
        self.orphan();
        let seed = self.luck.below(1 << 30);
        self.agent = agent(seed, self.now);
    }

    fn store(&mut self) {
        if let Some(record) = self.agent.state_write.take() {
            if self.faults && self.luck.one_in(10) {
                self.tell(Event::RecordFailed);
            } else {
                self.state = Some(record);
                self.tell(Event::RecordWritten);
            }
        }
    }

    fn land_late(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now);
        self.late = later;
        for (_, partition, entries) in due {
            for entry in entries {
                self.append(partition, entry);
            }
        }
    }

    fn answer_ends(&mut self) {
        if std::mem::take(&mut self.agent.asked_ends) {
            let ends =
                self.agent.core.partitions().map(|(route, p)| (route, p, self.log[p as usize].len() as i64)).collect();
            self.tell(Event::Ends(Some(ends)));
        }
    }

    fn step(&mut self) {
        let pace = if self.luck.one_in(30) { 5 * SECOND } else { 100_000 };
        self.now = self.now.plus(self.luck.below(pace));
        self.land_late();
        self.tell(Event::Tick);
        match self.luck.below(12) {
            0 if self.faults => self.write_transaction(),
            1 | 2 if self.agent.opening => self.open(),
            3..=5 => self.read(),
            6 | 7 => self.deliver(),
            8 => self.report(),
            9 => self.store(),
            10 => self.settle(),
            11 => self.answer_ends(),
            _ => {}
        }
        if self.faults {
            match self.luck.below(400) {
                0 => self.kill(),
                1 => self.fail_delivery(),
                2 if self.agent.reading.is_some() => {
                    self.agent.reading = None;
                    self.tell(Event::Lost { at_leisure: false });
                }
                3 => self.now = self.now.plus(70 * SECOND), // frozen
                4 => self.tell(Event::Pause),
                5..=8 => self.tell(Event::Resume),
                9 => self.tell(Event::GiveUp), // another password
                _ => {}
            }
        }
        self.check();
    }

    /// From outside: whatever the slot or the record confirms is in Kafka.
    fn check(&self) {
        let recorded = self.state.as_ref().map_or(Lsn::ZERO, |r| r.confirmed);
        assert!(recorded >= self.slot, "the slot at {} is ahead of the record at {recorded}", self.slot);
        for transaction in self.wal.iter().rev().skip_while(|t| t.commit.end > recorded).take(3) {
            for (ordinal, &(key, version)) in transaction.rows.iter().enumerate() {
                let position = Position { commit: transaction.final_lsn, ordinal: ordinal as u64 };
                let held = self.log[key as usize % PARTITIONS].contains(&Entry { key, version, position });
                assert!(held, "confirmed {recorded}, but Kafka lacks {position:?}");
            }
        }
    }

    /// Ends the faults with the worst of them: caught up, records under way when their producer dies, and no later write
    /// of their keys that would hide an old value.
    fn last_gasp(&mut self) {
        self.quiesce();
        (0..8).for_each(|_| self.write_transaction());
        for _ in 0..400 {
            self.step();
            let under_way: usize = self.agent.producer.on_wire.iter().sum();
            if under_way > 3 {
                break;
            }
        }
        if self.luck.one_in(2) {
            self.kill();
        } else {
            self.fail_delivery();
        }
    }

    fn quiesce(&mut self) {
        self.faults = false;
        self.tell(Event::Resume);
        for _ in 0..60_000 {
            self.step();
            let caught_up = self.slot == Lsn::new(self.wal_end) && self.late.is_empty();
            if caught_up && self.agent.core.held_until().is_none() {
                return;
            }
        }
        panic!("does not catch up: slot {} of {}, core {:?}", self.slot, self.wal_end, self.agent.core);
    }

    fn last_versions(&self) -> HashMap<u64, u64> {
        self.log.iter().flatten().map(|entry| (entry.key, entry.version)).collect()
    }
}

/// Goal: under kills, lost connections, failed producers, freezes and late bytes nothing confirmed is missing from Kafka,
/// and once quiet the last record of every key is the row's last version. Method: many seeds, checked after every step.
#[test]
fn loses_nothing_and_ends_with_every_rows_last_version() {
    for seed in 1..120 {
        let mut world = World::new(seed);
        for _ in 0..1200 {
            world.step();
        }
        world.last_gasp();
        world.quiesce();
        assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    }
}

#[test]
fn a_pause_reads_nothing_and_confirms_what_was_read() {
    for seed in 1..40 {
        let mut world = World::new(seed);
        (0..200).for_each(|_| world.step());
        world.quiesce();
        (0..20).for_each(|_| world.write_transaction());
        (0..30).for_each(|_| world.step());
        world.tell(Event::Pause);
        assert!(world.agent.core.is_paused() && !world.agent.core.has_room());
        let read = world.agent.reading;
        let written = world.agent.core.last_update;
        (0..2000).for_each(|_| world.step());
        assert_eq!(world.agent.reading, read, "seed {seed}: a paused agent read on");
        assert!(
            world.agent.core.last_update.since(written) > 10 * SECOND,
            "seed {seed}: the server hears nothing of us"
        );
        let whole = read.map_or(0, |(transaction, _)| transaction);
        let end = world.wal.get(whole.wrapping_sub(1)).map_or(Lsn::ZERO, |t| t.commit.end);
        assert_eq!(world.slot, end, "seed {seed}: what was read whole before the pause is confirmed in it");
        // A lost connection does not end a pause, and what comes after it goes on from the slot.
        world.agent.reading = None;
        world.tell(Event::Lost { at_leisure: false });
        (0..2000).for_each(|_| world.step());
        assert_eq!(world.slot, end, "seed {seed}");
        world.quiesce();
        assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    }
}

#[test]
fn a_paused_agent_stops_clean() {
    let mut world = World::new(7);
    (0..200).for_each(|_| world.step());
    world.quiesce();
    world.tell(Event::Pause);
    world.write_transaction();
    world.tell(Event::Stop);
    (0..2000).for_each(|_| world.step());
    assert_eq!(world.agent.exited, Some(true), "{:?}", world.agent.core);
}

#[test]
fn a_slot_moved_by_somebody_else_halts_before_anything_is_produced() {
    for seed in 1..40 {
        let mut world = World::new(seed);
        (0..300).for_each(|_| world.step());
        world.kill();
        world.write_transaction();
        world.slot = Lsn::new(world.wal_end); // pg_replication_slot_advance
        world.faults = false;
        let before: usize = world.log.iter().map(Vec::len).sum();
        world.late.clear();
        for _ in 0..200 {
            world.now = world.now.plus(SECOND / 10);
            world.tell(Event::Tick);
            if world.agent.opening {
                world.open();
            }
            world.read();
        }
        assert_eq!(world.agent.core.halted().map(|h| h.reason), Some(Reason::SlotAhead), "seed {seed}");
        assert_eq!(world.log.iter().map(Vec::len).sum::<usize>(), before);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_repeat() {
    for seed in 1..40 {
        let mut world = World::new(seed);
        world.faults = false;
        for _ in 0..200 {
            world.write_transaction();
            (0..3).for_each(|_| world.step());
        }
        world.quiesce();
        for _ in 0..5 {
            world.write_transaction();
        }
        world.tell(Event::Stop);
        for _ in 0..5000 {
            if world.agent.exited.is_some() {
                break;
            }
            world.step();
        }
        assert_eq!(world.agent.exited, Some(true), "seed {seed}: {:?}", world.agent.core);
        world.agent = agent(seed, world.now);
        let before = world.log.clone();
        world.quiesce();
        for (partition, log) in world.log.iter().enumerate() {
            let repeated = log[before[partition].len()..].iter().any(|entry| before[partition].contains(entry));
            assert!(!repeated, "seed {seed}: a clean restart repeated a record");
        }
        assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    }
}
