//! A world in memory: Postgres with a slot, Kafka with producers whose records can land late, a
//! state topic, and one or two agents on the slot. Agents are killed and frozen, and Kafka refuses
//! records. Seeded schedules drive the cores through it. After every step the laws are checked from
//! outside of the cores.
//!
//! The fakes keep the rules that matter. The server sends a transaction again if and only if its
//! end lies above the position at which a connection begins. One connection holds the slot, and a
//! silent one loses it. The records of a producer reach a partition in order. The records of a
//! killed producer land at any time within the hold. A checkpoint that is being written at a kill,
//! or when another agent takes the slot, may or may not be stored.

mod agent;
mod laws;
mod rules;

use super::*;
use crate::change::{Committed, Position};
use crate::continuity::checkpoint::sample;
use crate::continuity::{
    Observed, PublicationView, Recorded, SlotView, Verdict, begins_beyond, judge,
};
use crate::ledger::RouteId;
use crate::lsn::{Oid, PgMicros, Xid};
use agent::{Agent, FakeProducer};
use std::collections::{BTreeMap, HashMap};

const PARTITIONS: usize = 3;
const KEYS: u64 = 7;
const HOLD: u64 = 60 * SECOND;
/// wal_sender_timeout: the server drops a connection that is silent for longer.
const PATIENCE: u64 = 60 * SECOND;
/// Longest freeze. It is shorter than hold and timeout together, so an agent can wake while its
/// successor still has a hold open.
const FREEZE_MAX: u64 = 115 * SECOND;

/// A small random generator (xorshift64*) that never changes, so a seed always gives the same
/// schedule.
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

/// Unanswered records that had left a process, each with the moment at which the producer was given
/// it.
type Orphans = Vec<(Entry, Moment)>;

/// A record in a partition, with the moments at which it was given to its producer and appended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Logged {
    entry: Entry,
    produced: Moment,
    appended: Moment,
}

#[derive(Clone, Debug)]
struct Transaction {
    commit: Committed,
    final_lsn: Lsn,
    rows: Vec<(u64, u64)>,
}

struct World {
    luck: Luck,
    now: Moment,
    wal: Vec<Transaction>,
    wal_end: u64,
    versions: HashMap<u64, u64>,
    slot: Lsn,
    /// The slot's position that a crash of the server leaves. The server stores it at its own
    /// checkpoints only.
    slot_stored: Lsn,
    /// The agent whose connection holds the slot, and when the server last heard from it.
    holder: Option<(usize, Moment)>,
    log: [Vec<Logged>; PARTITIONS],
    state: Checkpoint,
    /// The recorded halt, and the number of halts recorded so far.
    halt: Option<Halt>,
    halts: u32,
    /// True in runs where no connection is lost while an agent drains. Nothing may then be produced
    /// once the drain begins.
    strict: bool,
    /// Records of dead producers: the moment at which they land, the partition, and the records.
    late: Vec<(Moment, usize, Orphans)>,
    agents: Vec<Agent>,
    /// The Position whose records Kafka refuses permanently, and how often it has refused them so
    /// far.
    refuses: Option<(Position, u32)>,
    faults: bool,
    /// True if the network can delay records of a dead producer. Otherwise they land at once.
    holds_bytes: bool,
    /// The rule that is switched off in this run.
    off: Option<Rule>,
    runs: u64,
    opens: u32,
}

impl World {
    fn new(seed: u64, agents: usize, off: Option<Rule>) -> Self {
        let luck = Luck(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut world = World {
            luck,
            now: Moment(SECOND),
            wal: Vec::new(),
            wal_end: 1000,
            versions: HashMap::new(),
            slot: Lsn::new(1000),
            slot_stored: Lsn::new(1000),
            holder: None,
            log: Default::default(),
            state: Checkpoint {
                term: 1,
                database: Oid(1),
                publication: Oid(1),
                tables: BTreeMap::new(),
                named_from: None,
                sent: Lsn::ZERO,
                server_seen: Lsn::ZERO,
                sequence: None,
                run: String::new(),
                ..sample()
            },
            halt: None,
            halts: 0,
            strict: false,
            late: Vec::new(),
            agents: Vec::new(),
            refuses: None,
            faults: true,
            holds_bytes: true,
            off,
            runs: 0,
            opens: 0,
        };
        world.agents = (0..agents).map(|_| world.new_agent()).collect();
        world
    }

    fn new_agent(&mut self) -> Agent {
        self.runs += 1;
        Agent::new(self.luck.below(1 << 30), self.now, self.runs, self.off)
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
        let commit = Committed {
            end: Lsn::new(self.wal_end),
            xid: Xid(self.wal.len() as u32),
            at: PgMicros(self.now.0 as i64),
        };
        self.wal.push(Transaction { commit, final_lsn, rows });
    }

    fn append(&mut self, partition: usize, entry: Entry, produced: Moment) -> i64 {
        self.log[partition].push(Logged { entry, produced, appended: self.now });
        self.log[partition].len() as i64 - 1
    }

    /// Decides the fate of unanswered records that had left a process: the records of a partition
    /// land later or never, or at once in a world that does not delay them. Returns their number.
    fn orphan(&mut self, producer: FakeProducer) -> usize {
        let mut orphans = 0;
        for (partition, queue) in producer.queues.into_iter().enumerate() {
            let wire: Vec<_> = queue
                .into_iter()
                .take(producer.on_wire[partition])
                .map(|(_, entry, at)| (entry, at))
                .collect();
            orphans += wire.len();
            if !self.holds_bytes {
                for (entry, produced) in wire {
                    self.append(partition, entry, produced);
                }
            } else if !wire.is_empty() && self.luck.one_in(2) {
                let lands = self.now.plus(self.luck.below(HOLD - SECOND));
                self.late.push((lands, partition, wire));
            }
        }
        orphans
    }

    fn land_late(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now);
        self.late = later;
        for (_, partition, entries) in due {
            for (entry, produced) in entries {
                self.append(partition, entry, produced);
            }
        }
    }

    /// Drops a connection from which the server has heard nothing for too long.
    fn drop_silent(&mut self) {
        if let Some((at, heard)) = self.holder
            && self.now.since(heard) > PATIENCE
        {
            self.holder = None;
            self.agents[at].broken = true;
        }
    }

    /// The server crashes and starts again: its connections are gone, and the slot stands where the
    /// server had last stored it.
    fn crash_server(&mut self) {
        self.slot = self.slot_stored;
        if let Some((at, _)) = self.holder.take() {
            self.agents[at].broken = true;
        }
    }

    fn step(&mut self) {
        let pace = if self.luck.one_in(30) { 5 * SECOND } else { 100_000 };
        self.now = self.now.plus(self.luck.below(pace));
        self.land_late();
        self.drop_silent();
        let at = self.luck.below(self.agents.len() as u64) as usize;
        if self.luck.below(12) == 0 && self.faults {
            self.write_transaction();
        }
        if self.wakes(at) {
            self.act(at);
            if self.faults {
                self.fault(at);
            }
        } else {
            self.deliver(at); // the network still delivers what a frozen process had sent
        }
        self.check();
    }

    fn act(&mut self, at: usize) {
        self.tell(at, Event::Tick);
        match self.luck.below(12) {
            0..=2 if self.agents[at].opening => self.open(at),
            3..=5 => self.read(at),
            6 | 7 => self.deliver(at),
            8 => self.report(at),
            9 => {
                self.store(at);
                self.store_halt(at);
            }
            10 => self.settle(at),
            11 => self.answer_ends(at),
            _ => {}
        }
    }

    fn fault(&mut self, at: usize) {
        match self.luck.below(400) {
            0 => self.kill(at),
            1 => self.fail_delivery(at, false),
            2 if self.agents[at].reading.is_some() => self.lose(at),
            3 => self.freeze(at),
            4 => self.tell(at, Event::Pause),
            5..=8 => self.tell(at, Event::Resume),
            9 => self.tell(at, Event::GiveUp), // another password is in force
            10 if self.refuses.is_none() => self.refuse(),
            11 | 12 => self.repair(),
            13 => self.crash_server(),
            14 | 15 => self.slot_stored = self.slot,
            _ => {}
        }
    }

    /// Checks from outside of the cores that the slot is not beyond the recorded `confirmed`, that
    /// `confirmed` is not beyond `delivered`, and that Kafka has the newest three transactions up
    /// to `delivered`.
    fn check(&self) {
        let Checkpoint { confirmed, delivered, .. } = self.state;
        assert!(
            confirmed >= self.slot,
            "the slot at {} is ahead of the record at {confirmed}",
            self.slot
        );
        assert!(delivered >= confirmed, "delivered {delivered} lies below confirmed {confirmed}");
        for transaction in self.wal.iter().rev().skip_while(|t| t.commit.end > delivered).take(3) {
            for (ordinal, &(key, version)) in transaction.rows.iter().enumerate() {
                let position = Position { commit: transaction.final_lsn, ordinal: ordinal as u64 };
                let entry = Entry { key, version, position };
                let held = self.log[key as usize % PARTITIONS]
                    .iter()
                    .rev()
                    .any(|logged| logged.entry == entry);
                assert!(held, "delivered {delivered}, but Kafka lacks {position:?}");
            }
        }
    }

    fn quiesce(&mut self) {
        self.faults = false;
        self.repair();
        (0..self.agents.len()).for_each(|at| self.tell(at, Event::Resume));
        for turn in 0..80_000 {
            self.step();
            if turn % 50 == 0 {
                self.repair(); // lifts a halt that comes later, too
            }
            let caught_up = self.slot == Lsn::new(self.wal_end) && self.late.is_empty();
            let holder = self.holder.map(|(at, _)| at);
            let quiet =
                |agent: &Agent| agent.core.held_until().is_none() && !agent.core.is_settling();
            if caught_up
                && holder.is_some_and(|at| quiet(&self.agents[at]))
                && self.agents.iter().all(Agent::is_idle)
            {
                return;
            }
        }
        panic!(
            "does not catch up: slot {} of {}, {:?}",
            self.slot, self.wal_end, self.agents[0].core
        );
    }

    /// Ends the faults with the worst one: the stream has caught up, records are in flight when
    /// their producer dies, and no later write of the same keys covers an old value that lands
    /// late.
    fn last_gasp(&mut self) {
        self.quiesce();
        (0..8).for_each(|_| self.write_transaction());
        let mut at = 0;
        for _ in 0..400 {
            self.step();
            at = self.holder.map_or(0, |(at, _)| at);
            if self.agents[at].producer.on_wire.iter().sum::<usize>() > 3 {
                break;
            }
        }
        match self.luck.below(3) {
            0 => self.kill(at),
            1 => self.fail_delivery(at, false),
            _ => self.kill_twice(at),
        }
    }

    /// Kills an agent, and kills its successor once that one has delivered everything again. The
    /// records that the first agent left in flight can land after both.
    fn kill_twice(&mut self, at: usize) {
        self.kill(at);
        for _ in 0..600 {
            self.step();
            if self.state.delivered == Lsn::new(self.wal_end) {
                break;
            }
        }
        let at = self.holder.map_or(at, |(at, _)| at);
        self.kill(at);
    }

    fn last_versions(&self) -> HashMap<u64, u64> {
        self.log.iter().flatten().map(|logged| (logged.entry.key, logged.entry.version)).collect()
    }

    /// Number of records in Kafka beyond one record for each Position and key.
    fn repeats(&self) -> usize {
        let all: usize = self.log.iter().map(Vec::len).sum();
        let mut seen: Vec<_> =
            self.log.iter().flatten().map(|l| (l.entry.position, l.entry.key)).collect();
        seen.sort_unstable();
        seen.dedup();
        all - seen.len()
    }
}
