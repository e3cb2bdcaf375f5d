//! The laws that hold in every run of the simulated world.

use super::*;

/// One run with every fault.
pub(super) fn run(seed: u64, agents: usize, off: Option<Rule>) {
    let mut world = World::new(seed, agents, off);
    for _ in 0..1200 * agents {
        world.step();
    }
    world.last_gasp();
    world.quiesce();
    assert_eq!(world.last_versions(), world.versions, "seed {seed}, {agents} agents");
}

/// Kills the agent every 2 to 9 seconds under steady changes, without any other fault. Returns
/// repeated records, kills and rows.
pub(super) fn killed_often(seed: u64, off: Option<Rule>) -> (usize, usize, usize) {
    let mut world = World::new(seed, 1, off);
    (world.faults, world.holds_bytes) = (false, false);
    let (mut next_kill, mut kills, mut rows) = (world.now, 0, 0);
    let ends = world.now.plus(120 * SECOND);
    while world.now < ends {
        world.now = world.now.plus(20_000);
        world.land_late();
        if world.luck.one_in(2) {
            world.write_transaction();
            rows += world.wal.last().map_or(0, |t| t.rows.len());
        }
        world.tell(0, Event::Tick);
        if world.agents[0].opening {
            world.open(0);
        }
        if world.now >= next_kill && world.dies_before_the_update(next_kill) {
            world.kill(0);
            kills += 1;
            next_kill = world.now.plus(2 * SECOND + world.luck.below(7 * SECOND));
        }
        world.store(0);
        world.read(0);
        (0..20).for_each(|_| world.deliver(0));
        (0..3).for_each(|_| world.report(0));
        world.settle(0);
        world.answer_ends(0);
        world.check();
    }
    world.quiesce();
    assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    (world.repeats(), kills, rows)
}

impl World {
    /// True if a kill that is due has to happen now: a checkpoint that raises `confirmed` is being
    /// written, or the kill has been due for more than two seconds.
    fn dies_before_the_update(&self, due: Moment) -> bool {
        let writing = self.agents[0].state_write.as_ref();
        writing.is_some_and(|record| record.confirmed > self.state.confirmed)
            || self.now.since(due) > 2 * SECOND
    }
}

/// Runs an agent whose connections are lost at once. Returns how many it opens in ten seconds.
pub(super) fn opened_in_vain(off: Option<Rule>) -> u32 {
    let mut world = World::new(1, 1, off);
    world.faults = false;
    let ends = world.now.plus(10 * SECOND);
    while world.now < ends {
        world.now = world.now.plus(10_000);
        world.tell(0, Event::Tick);
        if world.agents[0].opening {
            world.open(0);
            world.store(0);
            world.lose(0);
        }
    }
    world.opens
}

/// Runs an agent that meets a record that Kafka refuses permanently. Returns how often the record
/// is tried in two minutes.
pub(super) fn refused_for_ever(off: Option<Rule>) -> u32 {
    let mut world = World::new(1, 1, off);
    (world.faults, world.holds_bytes) = (false, false);
    (0..3).for_each(|_| world.write_transaction());
    world.refuse();
    let ends = world.now.plus(120 * SECOND);
    while world.now < ends {
        world.step();
    }
    world.refuses.map_or(0, |(_, times)| times)
}

/// Runs two agents that meet a record that Kafka refuses permanently. Returns how many halts were
/// recorded, and how often the record was tried, in ten minutes.
pub(super) fn one_halt(seed: u64, off: Option<Rule>) -> (u32, u32) {
    let mut world = World::new(seed, 2, off);
    (world.faults, world.holds_bytes, world.strict) = (false, false, true);
    (0..3).for_each(|_| world.write_transaction());
    world.refuse();
    let ends = world.now.plus(600 * SECOND);
    while world.now < ends {
        world.step();
    }
    let halted: Vec<_> = world
        .agents
        .iter()
        .map(|agent| (agent.core.is_halted(), agent.core.halted().cloned()))
        .collect();
    assert!(
        halted.iter().all(|(is, _)| *is),
        "both agents say that they are halted: {halted:?}, {:?}",
        world.refuses
    );
    (world.halts, world.refuses.map_or(0, |(_, times)| times))
}

/// Goal: under kills, lost connections, failed producers, freezes and late records, nothing
/// confirmed is missing from Kafka. When the world is quiet, the last record of every key is the
/// row's last version. Method: many seeds, checked after every step.
#[test]
fn ends_with_every_rows_last_version() {
    (1..120).for_each(|seed| run(seed, 1, None));
}

#[test]
fn two_agents_on_one_slot_end_with_every_last_version() {
    (1..120).for_each(|seed| run(seed, 2, None));
}

/// One second of the stream has about 25 transactions of 3.5 rows. At most 40 more records are in
/// flight.
#[test]
fn a_kill_repeats_little_more_than_a_second() {
    for seed in 1..6 {
        let (repeats, kills, rows) = killed_often(seed, None);
        let second = rows / 120;
        assert!(
            repeats <= kills * (second * 3 / 2 + 40),
            "seed {seed}: {repeats} repeats in {kills} kills of {rows} rows"
        );
    }
}

#[test]
fn connections_that_lead_nowhere_become_rare() {
    assert!(opened_in_vain(None) <= 12, "{}", opened_in_vain(None));
}

#[test]
fn a_record_that_is_refused_is_tried_twice() {
    assert_eq!(refused_for_ever(None), 2);
}

#[test]
fn two_agents_come_to_one_halt() {
    for seed in 1..30 {
        let (halts, tries) = one_halt(seed, None);
        assert_eq!(halts, 1, "seed {seed}");
        assert!(tries <= 4, "seed {seed}: {tries} tries"); // each agent counts its own refusals
    }
}

#[test]
fn a_pause_reads_nothing_and_confirms_what_was_read() {
    for seed in 1..40 {
        let mut world = World::new(seed, 1, None);
        (0..200).for_each(|_| world.step());
        world.quiesce();
        (0..20).for_each(|_| world.write_transaction());
        (0..30).for_each(|_| world.step());
        world.tell(0, Event::Pause);
        assert!(world.agents[0].core.is_paused() && !world.agents[0].core.has_room());
        let read = world.agents[0].reading;
        let written = world.agents[0].core.updates.last;
        (0..2000).for_each(|_| world.step());
        assert_eq!(world.agents[0].reading, read, "seed {seed}: a paused agent read on");
        let heard = world.agents[0].core.updates.last.since(written) > 10 * SECOND;
        assert!(heard, "seed {seed}: the server hears nothing of us");
        let whole = read.map_or(0, |(transaction, _)| transaction);
        let end = world.wal.get(whole.wrapping_sub(1)).map_or(Lsn::ZERO, |t| t.commit.end);
        assert_eq!(
            world.slot, end,
            "seed {seed}: what was read whole before the pause is confirmed in it"
        );
        // A lost connection does not end a pause, and the next connection resumes at the slot's
        // position.
        world.lose(0);
        (0..2000).for_each(|_| world.step());
        assert_eq!(world.slot, end, "seed {seed}");
        world.quiesce();
        assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    }
}

#[test]
fn a_paused_agent_stops_clean() {
    let mut world = World::new(7, 1, None);
    (0..200).for_each(|_| world.step());
    world.quiesce();
    world.tell(0, Event::Pause);
    world.write_transaction();
    world.tell(0, Event::Stop);
    (0..2000).for_each(|_| world.step());
    assert_eq!(world.agents[0].exited, Some(Stopped::Whole), "{:?}", world.agents[0].core);
}

#[test]
fn a_slot_moved_by_somebody_else_halts_before_anything() {
    for seed in 1..40 {
        let mut world = World::new(seed, 1, None);
        (0..300).for_each(|_| world.step());
        world.kill(0);
        world.write_transaction();
        world.slot = Lsn::new(world.wal_end); // pg_replication_slot_advance
        world.faults = false;
        let before: usize = world.log.iter().map(Vec::len).sum();
        world.late.clear();
        for _ in 0..200 {
            world.now = world.now.plus(SECOND / 10);
            world.tell(0, Event::Tick);
            if world.agents[0].opening {
                world.open(0);
            }
            world.read(0);
        }
        let halted = world.agents[0].core.halted().map(|halt| halt.reason);
        assert_eq!(halted, Some(Reason::SlotAhead), "seed {seed}");
        assert_eq!(world.log.iter().map(Vec::len).sum::<usize>(), before);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_repeat() {
    for seed in 1..40 {
        let mut world = World::new(seed, 1, None);
        world.faults = false;
        for _ in 0..200 {
            world.write_transaction();
            (0..3).for_each(|_| world.step());
        }
        world.quiesce();
        (0..5).for_each(|_| world.write_transaction());
        world.tell(0, Event::Stop);
        for _ in 0..5000 {
            if world.agents[0].exited.is_some() {
                break;
            }
            world.step();
        }
        assert_eq!(
            world.agents[0].exited,
            Some(Stopped::Whole),
            "seed {seed}: {:?}",
            world.agents[0].core
        );
        let before = world.repeats();
        world.kill(0); // it has exited already, so this starts the next process
        world.quiesce();
        assert_eq!(world.repeats(), before, "seed {seed}: a clean restart repeated a record");
        assert_eq!(world.last_versions(), world.versions, "seed {seed}");
    }
}
