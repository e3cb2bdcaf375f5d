//! Tests that copies slow down if the source is under strain, report that, and end all the same.

use super::requests::{Open, is_done};
use crate::support::world::{Running, World};
use std::process::{Child, Command, Stdio};

/// A table whose copy takes half a minute at the rate of [`MORE`], and a table whose rows only fill
/// the WAL.
const TABLES: &str = "create table t (id int primary key, v text);
    insert into t select i, repeat('x', 100) from generate_series(1, 20000) i;
    create table w (v text); alter table w alter v set storage external";

const MORE: &str =
    "[snapshot]\nmode = \"windows\"\nrows_per_second = 600\n[tables]\ninclude = [\"public.t\"]";

fn write_mib(world: &World, mib: u32) {
    world.sql(&format!(
        "insert into w select repeat(md5(i::text), 32768) from generate_series(1, {mib}) i"
    ));
}

fn is_slow_because(agent: &Running, why: &str) {
    let status = agent.until(why, |status| status.copies_slowed.contains(why));
    assert!(status.windows.iter().any(|window| window.state == "copying"), "{:?}", status.windows);
    let share = agent.metric("wellspring_copy_share");
    assert!((0.0625..1.0).contains(&share), "{share}");
}

fn ends_whole(world: &World, agent: Running) {
    agent.until("full speed", |status| status.copies_slowed.is_empty());
    assert_eq!(agent.metric("wellspring_copy_share"), 1.0);
    is_done(&agent, "public.t");
    assert_eq!(world.records("t", 20_000).len(), 20_000);
    agent.stop();
}

#[test]
fn chunks_slow_down_while_the_slots_room_is_short() {
    let world = World::with(&[("max_slot_wal_keep_size", "80MB")], TABLES, &["t"]);
    let agent = world.agent(MORE);
    agent.streams();
    // The slot keeps the WAL of a long transaction, however much is confirmed.
    let mut open = Open::begin(&world, "begin; insert into w values ('open');");
    write_mib(&world, 64);
    is_slow_because(&agent, "MiB are left until the slot is lost");
    open.end("commit; checkpoint;");
    ends_whole(&world, agent);
}

/// A receiver of WAL. A test stops its process by a signal and lets it go on.
struct Standby(Child);

impl Standby {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn chunks_slow_down_while_a_standby_falls_back() {
    let world = World::new(TABLES, &["t"]);
    world.sql("select pg_create_physical_replication_slot('standby', true)");
    let receiver = world
        .server
        .receiver("standby")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let standby = Standby(receiver);
    let active =
        || world.sql("select active from pg_replication_slots where slot_name = 'standby'") == "t";
    crate::support::world::wait_until(
        std::time::Instant::now() + crate::support::world::PATIENCE,
        active,
    );
    let agent = world.agent(MORE);
    // The agent reads the state of standbys only while something is copied.
    let copies = agent.until("a copy", |status| !status.windows.is_empty()).now_ms;
    agent.until("a first look at the standby", |status| status.wal.read_ms > copies);
    standby.signal("-STOP");
    write_mib(&world, 200);
    is_slow_because(&agent, "a standby is");
    standby.signal("-CONT");
    ends_whole(&world, agent);
}
