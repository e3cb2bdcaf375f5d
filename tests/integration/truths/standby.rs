//! A replica that waits for the slot is a standby, and nobody has to do anything about it.

use crate::support::world::World;
use wellspring::agent::request::Request;
use wellspring::status::Phase;

#[test]
fn a_replica_that_waits_is_a_standby_with_nothing_to_do() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let first = world.agent("");
    first.streams();
    let second = world.agent("");
    let status = second.until("standby", |status| status.phase == Phase::Standby);
    assert_eq!(
        (&*status.reason, status.needs_a_person, status.errors.len()),
        ("standby", false, 0)
    );
    assert!(status.next.starts_with("nothing has to be done"), "{}", status.next);
    let holder = world.sql("select active_pid from pg_replication_slots");
    assert!(status.detail.contains(&format!("pid {}", holder.trim())), "{}", status.detail);
    assert_eq!(second.metric("wellspring_phase{phase=\"standby\"}"), 1.0);
    assert_eq!(second.metric("wellspring_phase{phase=\"retrying\"}"), 0.0);
    assert_eq!(second.metric("wellspring_failures_total{reason=\"standby\"}"), 0.0);
    // A pause of a standby would take effect at the takeover, when nobody expects it.
    let refused = second.ask(Request::Pause).unwrap_err().to_string();
    assert!(refused.contains("standby"), "{refused}");
    first.stop();
    second.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    second.stop();
}

#[test]
fn an_agent_of_another_pipeline_on_the_slot_is_named() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    world.topic("q.wellspring-state");
    let first = world.agent("");
    first.streams();
    let other = world.agent_with("slot = \"wellspring_p\"", "");
    other.until("standby", |status| status.phase == Phase::Standby);
    other.stop();
    let other = world.agent_in("q", "slot = \"wellspring_p\"");
    let status = other.until("held", |status| status.reason == "slot_in_use");
    assert_eq!(status.phase, Phase::Retrying);
    assert!(status.detail.contains("another pipeline"), "{}", status.detail);
    other.stop();
    first.stop();
}
