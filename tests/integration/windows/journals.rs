//! Tests that the state counts only delivered rows of a copy, and that several open chunks wait for
//! the stream.

use super::requests::is_done;
use crate::support::world::{PATIENCE, Running, World, wait_until};
use std::process::Command;
use std::time::Instant;
use wellspring::agent::request::Request;

/// Rows enough for several chunks.
const TABLES: &str =
    "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 10000) i;
    create table u (id int primary key); insert into u values (1)";

fn snapshot(agent: &Running, table: &str) {
    agent.ask(Request::Snapshot { tables: vec![table.to_owned()], filter: None }).unwrap();
}

/// Starts an agent, and streams a row of each table so that both have a plan.
fn streams(world: &World) -> Running {
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    world.sql("insert into t values (0, 'new'); insert into u values (0)");
    world.records("t", 1);
    world.records("u", 1);
    agent
}

#[test]
fn an_acknowledged_chunk_is_journalled_and_then_the_next_leaves() {
    let world = World::with_second_broker(TABLES, &["t", "u"]);
    let agent = streams(&world);
    world.second_broker(false); // nothing sent to t is acknowledged
    snapshot(&agent, "public.t");
    // The first chunk has a thousand rows. The next chunk is sent once the first one is recorded,
    // and that waits for the delivery of its rows.
    let sent = || agent.metric("wellspring_window_rows_total{kind=\"chunks\"}");
    wait_until(Instant::now() + PATIENCE, || sent() >= 1000.0);
    // Whatever the agent has to record about `t` is recorded before this record of `u`, or together
    // with it.
    snapshot(&agent, "public.u");
    world.until_in("p.wellspring-state", |rows| {
        rows.iter().any(|row| row.key == "window/wellspring_p/public.u")
    });
    let journal =
        |world: &World| world.state("window/wellspring_p/public.t").unwrap()["journal"].clone();
    let claimed = journal(&world);
    assert_eq!(
        (&claimed["rows"], &claimed["chunks"], &claimed["ended"]),
        (&0.into(), &0.into(), &false.into())
    );
    assert_eq!(sent(), 1000.0);
    world.second_broker(true);
    is_done(&agent, "public.t");
    is_done(&agent, "public.u");
    world.records("t", 10_002);
    agent.stop();
}

#[test]
fn chunks_are_read_ahead_and_each_waits_for_its_position() {
    let world = World::new(TABLES, &["t", "u"]);
    let agent = streams(&world);
    let walsender = world.sql("select active_pid from pg_replication_slots");
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &walsender]).status().unwrap().success())
    };
    signal("-STOP");
    world.sql("insert into u values (2)"); // there is log that the stream has not passed
    snapshot(&agent, "public.t");
    let status = agent.until("chunks are open", |status| {
        status.windows.iter().any(|window| window.open_chunks >= 3)
    });
    signal("-CONT");
    let window = status.windows.iter().find(|window| window.table == "public.t").unwrap();
    assert_eq!(
        (window.rows, window.chunks),
        (0, 0),
        "none is emitted before the stream has passed it: {window:?}"
    );
    is_done(&agent, "public.t");
    let rows = world.records("t", 10_002);
    let ids: std::collections::BTreeSet<i64> =
        rows.iter().filter_map(|row| row.value["after"]["id"].as_i64()).collect();
    assert_eq!(ids.len(), 10_001);
    agent.stop();
}
