//! Tests what the agent sends again after a crash of the server, which moves the slot back.

use crate::support::world::{World, wait_until};
use std::time::{Duration, Instant};
use wellspring::status::Phase;

/// A crash moves the slot back to the position that the server has last stored. That may be
/// minutes old.
#[test]
fn a_crashed_servers_slot_repeats_nothing_delivered() {
    let world = World::new("create table a (id int primary key, v text)", &["a"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    for id in 1..=20 {
        world.sql(&format!("insert into a values ({id}, 'before the crash')"));
    }
    world.records("a", 20);
    let confirmed = "select confirmed_flush_lsn from pg_replication_slots";
    let before = world.sql("select pg_current_wal_lsn()");
    let is_confirmed = || {
        let passed = format!("select confirmed_flush_lsn >= '{}'", before.trim());
        world.sql(&format!("{passed} from pg_replication_slots")).trim() == "t"
    };
    wait_until(Instant::now() + Duration::from_secs(30), is_confirmed);
    assert!(is_confirmed(), "{} of {before}", world.sql(confirmed));
    world.server.crash();
    agent.until("the crash is noticed", |status| status.phase != Phase::Streaming);
    world.server.start_again();
    let after =
        format!("select confirmed_flush_lsn < '{}' from pg_replication_slots", before.trim());
    assert_eq!(world.sql(&after).trim(), "t", "the server has stored the slot before the crash");
    world.sql("insert into a values (21, 'after the crash')");
    agent.streams();
    let ids: Vec<_> =
        world.records("a", 21).iter().map(|row| row.value["after"]["id"].clone()).collect();
    assert_eq!(ids, (1..=21).collect::<Vec<i32>>());
    agent.stop();
}
