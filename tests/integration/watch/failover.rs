//! Tests of a failover after an agent was killed. The agent has sent more than its checkpoint says.
//! If the new primary has another timeline, the records in the topics show what the failover has
//! undone.

use crate::support::world::{PATIENCE, Running, World, wait_until};
use serde_json::json;
use std::time::Instant;
use wellspring::lsn::Lsn;

/// A world with the state that a killed agent leaves, and with a server that has begun another
/// timeline at the end of its WAL.
fn after_a_failover() -> World {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    agent.stop();
    let key = "confirm/wellspring_p/1";
    let mut record = world.state(key).unwrap();
    record["clean"] = false.into();
    world.send("p.wellspring-state", key, &record.to_string());
    world.sql("alter system set restore_command = 'false'");
    assert!(world.server.stop_fast(60));
    world.server.write_private("recovery.signal", b"");
    world.server.start_again();
    let is_over = || world.sql("select pg_is_in_recovery()").trim() == "f";
    wait_until(Instant::now() + PATIENCE, is_over);
    world
}

/// Writes the record that the killed agent would have sent for a change.
fn sent(world: &World, lsn: Lsn, xid: &str) {
    let source = json!({"snapshot": "false", "lsn": lsn.bytes(), "txId": xid.trim().parse::<u64>().unwrap()});
    let value = json!({"op": "c", "before": null, "after": {"id": 9}, "source": source});
    world.send("p.public.t", "{\"id\":9}", &value.to_string());
}

fn here(world: &World) -> Lsn {
    world.sql("select pg_current_wal_insert_lsn()").trim().parse().unwrap()
}

fn goes_on(world: &World, agent: &Running) {
    agent.streams();
    world.sql("insert into t values (2)");
    world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
}

#[test]
fn a_change_beyond_the_switch_halts_with_its_position() {
    let world = after_a_failover();
    let lost = Lsn::new(here(&world).bytes() + 1_000_000);
    sent(&world, lost, "7");
    let agent = world.agent("");
    let range = agent.halts("published_ahead").range.unwrap();
    assert!(range.from < lost && range.to.bytes() == lost.bytes() + 1, "{range:?}");
    world.command("", &["slot", "accept"]);
    goes_on(&world, &agent);
    agent.stop();
}

#[test]
fn a_change_below_the_switch_is_judged_by_its_transaction() {
    for (end, is_lost) in [("commit", false), ("rollback", true)] {
        let world = after_a_failover();
        let xid =
            world.sql(&format!("begin; create table other (); select pg_current_xact_id(); {end}"));
        sent(&world, Lsn::new(16), &xid);
        let agent = world.agent("");
        match is_lost {
            true => drop(agent.halts("published_ahead")),
            false => goes_on(&world, &agent),
        }
        agent.stop();
    }
}

#[test]
fn a_record_without_a_position_is_a_warning() {
    let world = after_a_failover();
    world.send("p.public.t", "{\"id\":9}", "{\"id\":9}");
    let agent = world.agent("");
    let warnings = agent.streams().warnings.join("\n");
    assert!(warnings.contains("offset 1 of p.public.t[0] could not be placed"), "{warnings}");
    goes_on(&world, &agent);
    agent.stop();
}
