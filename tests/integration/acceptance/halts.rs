//! Halts that outlive their process: two agents on one slot, the state record of the halt, and the
//! command that ends it.

use crate::support::world::{PATIENCE, Running, World, wait_until};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;
use wellspring::agent::request::Request;
use wellspring::continuity::Granted;
use wellspring::continuity::halted::Halted;
use wellspring::status::{Phase, Status};

const SMALL: &str = "[kafka.client]\n\"message.max.bytes\" = 20000";

/// The newest state records by their keys.
fn state(world: &World) -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { world.config("").open_state().await.unwrap().read_all().await.unwrap() })
}

fn recorded(world: &World) -> Option<Halted> {
    state(world).get("halt/wellspring_p").map(|text| serde_json::from_str(text).unwrap())
}

/// The keys of the confirm records in the state. There is one for each term.
fn terms(world: &World) -> Vec<String> {
    state(world).into_keys().filter(|key| key.starts_with("confirm/")).collect()
}

/// A first agent that streams, and a second one that waits for the slot.
fn pair(world: &World, more: &str) -> (Running, Running) {
    let first = world.agent(more);
    first.streams();
    let second = world.agent(more);
    second.until("waiting", |status| status.phase == Phase::Standby);
    (first, second)
}

/// Waits until both agents are halted for this reason. Both must report the same recorded halt.
#[track_caller]
fn both_halt(agents: [&Running; 2], reason: &str) {
    let is_recorded =
        |status: &Status| status.reason == reason && status.detail.contains("recorded at");
    let told = agents.map(|agent| agent.until(reason, is_recorded));
    assert_eq!((&told[0].detail, told[0].range), (&told[1].detail, told[1].range));
    assert_eq!(told[0].stands_at, told[1].stands_at);
    assert_eq!(told[1].term, 0, "the second agent has written no confirm record");
}

/// Waits until one of the two agents streams again.
#[track_caller]
fn one_streams(agents: [&Running; 2]) {
    let streams = |agent: &Running| agent.status().phase == Phase::Streaming;
    wait_until(Instant::now() + PATIENCE, || agents.iter().any(|agent| streams(agent)));
    assert!(agents.iter().any(|agent| streams(agent)), "{:#?}", agents.map(Running::status));
}

#[test]
fn a_record_too_large_halts_two_replicas_until_the_limit_rises() {
    let world = World::new(
        "create table t (id int primary key, v text); create table u (id int primary key)",
        &["t", "u"],
    );
    let (a, b) = pair(&world, SMALL);
    world.sql(
        "begin; insert into u select generate_series(1, 100); insert into t values (1, repeat('x', 30000));
         insert into u values (101); commit",
    );
    both_halt([&a, &b], "record_too_large");
    let halt = recorded(&world).unwrap();
    assert_eq!((halt.term, halt.epoch), (1, 1));
    let (bytes, limit) =
        halt.oversize.as_ref().map(|oversize| (oversize.bytes, oversize.limit_bytes)).unwrap();
    assert!(bytes > 30_000 && limit == 20_000, "{bytes} {limit}");
    a.stop();
    b.stop();
    // A restart does not end the halt: no term begins, and nothing is sent.
    let a = world.agent(SMALL);
    assert!(a.halts("record_too_large").detail.contains("recorded at"));
    a.stop();
    assert_eq!((world.end("p.public.u"), world.end("p.public.t")), (100, 0));
    assert_eq!(terms(&world), ["confirm/wellspring_p/1"]);
    assert_eq!(recorded(&world).as_ref(), Some(&halt));

    let (a, b) = (world.agent(""), world.agent(""));
    one_streams([&a, &b]);
    assert_eq!(world.records("t", 1)[0].value["after"]["id"], 1);
    world.until("u", |rows| rows.iter().any(|row| row.value["after"]["id"] == 101));
    wait_until(Instant::now() + PATIENCE, || recorded(&world).is_none());
    assert_eq!(recorded(&world), None, "the position is passed");
}

#[test]
fn a_limit_still_too_small_is_tried_once_and_recorded_anew() {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let agent = world.agent(SMALL);
    agent.streams();
    world.sql("insert into t values (1, 'x'); insert into t values (2, repeat('x', 30000))");
    agent.halts("record_too_large");
    agent.stop();
    // Another limit allows one try of the record, which is still too large.
    let agent = world.agent("[kafka.client]\n\"message.max.bytes\" = 25000");
    agent.halts("record_too_large");
    wait_until(Instant::now() + PATIENCE, || {
        recorded(&world).is_some_and(|halt| halt.trying.is_none())
    });
    let again = recorded(&world).unwrap();
    assert_eq!(again.oversize.map(|oversize| oversize.limit_bytes), Some(25_000));
    assert!(again.term > 1, "{}", again.term);
    agent.stop();
    assert_eq!(world.end("p.public.t"), 1);
}

#[test]
fn a_refused_record_halts_two_replicas_once_until_a_retry() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let a = world.agent("");
    a.streams();
    world.refuse_twice();
    world.sql("insert into t values (2)");
    a.halts("undeliverable");
    // The second agent starts only now, because a replica that took the slot between the two
    // refusals would count them anew.
    let b = world.agent("");
    both_halt([&a, &b], "undeliverable");
    assert_eq!(world.end("p.public.t"), 0);
    let halt = recorded(&world).unwrap();
    world.refused("", &["slot", "accept"], "wellspring retry");
    let before = terms(&world);
    a.stop();
    let a = world.agent("");
    a.halts("undeliverable");
    assert_eq!((terms(&world), recorded(&world)), (before, Some(halt)), "a restart lifts nothing");

    world.command("", &["retry"]);
    one_streams([&a, &b]);
    world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
    wait_until(Instant::now() + PATIENCE, || recorded(&world).is_none());
    assert_eq!(recorded(&world), None, "the position is passed");
    // The stream needs no command any more. A command that is given now changes nothing.
    for (command, words) in [
        (&["retry"][..], "there is nothing to try again"),
        (&["slot", "accept"], "there is nothing to accept"),
    ] {
        let (code, out) = world.told("", command);
        assert!(code == Some(0) && out.contains(words), "{command:?}: {code:?} {out}");
    }
}

#[test]
fn a_table_published_anew_halts_two_replicas_until_accepted() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let a = world.agent("");
    a.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    // The connection is ended in the same command, so that the check at the next connect finds the
    // change, and not a look of the running stream.
    world.sql(
        "alter publication wellspring_p drop table t; alter publication wellspring_p add table t;
         select pg_terminate_backend(active_pid) from pg_replication_slots where active",
    );
    let first = a.halts("table_republished");
    let b = world.agent("");
    let second = b.halts("table_republished");
    assert_eq!(
        (&first.detail, first.range),
        (&second.detail, second.range),
        "both tell the record"
    );
    assert_eq!(recorded(&world).unwrap().table.as_deref(), Some("public.t"));
    world.refused("", &["retry"], "wellspring slot accept");
    world.command("", &["slot", "accept"]);
    one_streams([&a, &b]);
    world.sql("insert into t values (2)");
    world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
    assert_eq!(recorded(&world), None);
}

/// The state record `intent/..` of the first start proves that the slot is ours. It counts only
/// until there is a checkpoint.
#[test]
fn a_lost_checkpoint_halts_although_the_slot_is_ours() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    wait_until(Instant::now() + PATIENCE, || !state(&world).contains_key("intent/wellspring_p"));
    agent.stop();
    forget(&world, &terms(&world));
    world.sql("insert into t values (2)");
    let agent = world.agent("");
    agent.halts("state_missing");
    assert_eq!(world.end("p.public.t"), 1);
    world.command("", &["slot", "accept"]);
    agent.streams();
    world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
}

/// Removes these records from the state topic.
fn forget(world: &World, keys: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut state = world.config("").open_state().await.unwrap();
        for key in keys {
            state.write(key, None).await.unwrap();
        }
    });
}

#[test]
fn a_copy_that_another_replica_makes_is_not_cut_off() {
    let world = World::new(
        "create table t (id int primary key); insert into t select generate_series(1, 4000)",
        &["t"],
    );
    let only = "[snapshot]\nmode = \"initial_only\"\nrows_per_second = 500";
    let a = world.agent(only);
    a.until("it copies", |status| status.copy.as_ref().is_some_and(|copy| copy.rows > 0));
    let b = world.agent(only);
    let told = b.until("it waits or halts", |status| {
        matches!(status.phase, Phase::Standby | Phase::Halted)
    });
    assert_eq!((told.phase, told.reason.as_str()), (Phase::Standby, "standby"), "{}", told.detail);
    assert_eq!(recorded(&world), None);
    a.stop_in_a_copy();
    b.halts("copy_unfinished");
}

#[test]
fn a_foreign_slot_is_foreign_while_its_owner_reads_it() {
    let world = World::new("create table t (id int primary key); create database other", &["t"]);
    world.server.sql("other", "create table o (id int); create publication o for table o");
    world
        .server
        .sql("other", "select pg_create_logical_replication_slot('wellspring_p', 'pgoutput')");
    let mut owner =
        world.server.holder("other", "wellspring_p", "o").stderr(Stdio::null()).spawn().unwrap();
    let is_held = || world.sql("select active from pg_replication_slots").trim() == "t";
    wait_until(Instant::now() + PATIENCE, is_held);
    let agent = world.agent("");
    let told = agent.until("it waits or halts", |status| {
        matches!(status.phase, Phase::Retrying | Phase::Halted)
    });
    assert_eq!(told.reason, "slot_foreign", "{}", told.detail);
    owner.kill().unwrap();
    owner.wait().unwrap();
}

/// An agent that halts at its first connect does not know the captured tables.
#[test]
fn a_halted_agent_tells_each_request_what_ends_the_halt() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    agent.stop();
    world.sql("select pg_drop_replication_slot('wellspring_p')");
    let agent = world.agent("");
    agent.halts("slot_missing");
    let copy = Request::Snapshot { tables: vec!["public.t".to_owned()], filter: None };
    let reload = Request::Reload(Box::new(world.config("[tables]\ninclude = [\"public.u\"]")));
    for request in [copy, reload] {
        let refused = agent.ask(request).unwrap_err().to_string();
        assert!(refused.contains("halted (slot_missing)"), "{refused}");
        assert!(refused.contains("`wellspring slot accept` creates a new slot"), "{refused}");
    }
    for (request, words) in [(Request::Pause, "paused: "), (Request::Resume, "resumed")] {
        let Granted(done) = agent.ask(request).unwrap();
        assert!(done.starts_with(words) && done.contains("halted (slot_missing)"), "{done}");
    }
    let Granted(done) = agent.ask(Request::Resume).unwrap();
    assert!(done.starts_with("it was not paused"), "{done}");
    agent.stop();
}
