//! Tests that `check` and `slot status` decide by the rules of `run`, and report a recorded halt.

use crate::support::world::World;

const SMALL: &str = "[kafka.client]\n\"message.max.bytes\" = 20000";

#[test]
fn a_recorded_halt_is_told_by_every_command() {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let agent = world.agent(SMALL);
    agent.streams();
    world.sql("insert into t values (2, repeat('x', 30000))");
    agent.halts("record_too_large");
    agent.stop();
    let told = world.check(SMALL);
    assert!(told.contains("FAIL  run halts: record_too_large"), "{told}");
    let (code, told) = world.told(SMALL, &["slot", "status"]);
    assert!(code == Some(3) && told.contains("verdict              record_too_large"), "{told}");
    // Under another limit a start tries the record once, and the command says so.
    let (_, told) = world.told("", &["slot", "status"]);
    assert!(told.contains("verdict              tries_once"), "{told}");
}

#[test]
fn check_is_not_green_where_the_slot_is_missing() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let told = world.check("");
    assert!(told.contains("ok    first_start"), "{told}");
    let agent = world.agent("");
    agent.streams();
    let told = world.check("");
    assert!(told.contains("ok    resumes: continuity is proven"), "{told}");
    agent.stop();
    world.sql("select pg_drop_replication_slot('wellspring_p')");
    let told = world.check("");
    assert!(
        told.contains("FAIL  run halts: slot_missing") && told.contains("wellspring slot accept"),
        "{told}"
    );
    // With `when_needed` a start begins anew and copies again, so `run` does not halt.
    let told = world.check("[snapshot]\nmode = \"when_needed\"");
    assert!(told.contains("warn  begins_anew: slot_missing"), "{told}");
}

#[test]
fn slot_status_shows_the_slot_while_kafka_is_away() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    agent.stop();
    let (code, told) = world.told_without_kafka(&["slot", "status"]);
    assert_ne!(code, Some(0), "{told}");
    for words in ["wellspring_p", "confirmed  ", "WAL retained", "record               unknown"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(
        told.contains("127.0.0.1:1") && told.contains("verdict              unknown"),
        "{told}"
    );
    let (_, told) = world.told_without_kafka(&["slot", "status", "--json"]);
    let look: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&look["verdict"], look["slot"].is_object()), (&"unknown".into(), true), "{told}");
}
