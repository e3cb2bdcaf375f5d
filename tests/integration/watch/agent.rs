//! Tests of a whole agent whose publication and tables change while it streams: which changes halt
//! the stream, and which do not.

use crate::support::world::{PATIENCE, Running, World, wait_until};
use std::time::Instant;
use wellspring::agent::request::Request;
use wellspring::lsn::Lsn;
use wellspring::status::{Phase, Status};

const TABLE: &str = "create table t (id int primary key, v varchar(10)); create role somebody";

/// SQL that takes a table out of the agent's publication, and SQL that puts it back.
const AWAY: &str = "alter publication wellspring_p drop table t";
const BACK: &str = "alter publication wellspring_p add table t";

/// Starts an agent, and streams one row of a table.
fn streaming() -> (World, Running) {
    let world = World::new(TABLE, &["t", "u"]);
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    (world, agent)
}

fn position(text: &str) -> Lsn {
    text.parse().unwrap()
}

#[test]
fn a_table_out_of_the_publication_for_a_moment_halts() {
    let (world, agent) = streaming();
    let here = "select pg_current_wal_insert_lsn()";
    let told = world.sql(&format!("{AWAY}; {here}; insert into t values (2); {here}; {BACK}"));
    let (before, after) = told.split_once('\n').unwrap();
    let halted = agent.halts("table_left");
    let range = halted.range.unwrap();
    assert!(range.from < position(before), "{range:?} holds {before}");
    // A look between the statements may have found that the table is not published. Then the
    // range may end before the insert.
    assert!(
        range.to >= position(after) || halted.detail.contains("no longer published"),
        "{range:?} holds {after}"
    );
    assert!(halted.detail.contains("table public.t"), "{}", halted.detail);
    agent.stop();
    let again = world.agent("");
    assert_eq!(
        again.halts("table_left").range,
        Some(range),
        "a start that finds another membership keeps the range"
    );
    world.command("", &["slot", "accept"]);
    again.streams();
    world.sql("insert into t values (3)");
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 3));
    assert!(rows.iter().all(|row| row.value["after"]["id"] != 2), "the row was lost");
}

#[test]
fn operations_that_were_left_out_for_a_moment_halt() {
    let (world, agent) = streaming();
    world.sql(
        "alter publication wellspring_p set (publish = 'insert'); update t set v = 'lost';
         alter publication wellspring_p set (publish = 'insert, update, delete, truncate')",
    );
    agent.halts("publication_altered");
    agent.stop();
    let again = world.agent("");
    again.halts("publication_altered");
    world.command("", &["slot", "accept"]);
    again.streams();
}

#[test]
fn a_table_loaded_and_swapped_halts_and_names_both() {
    let (world, agent) = streaming();
    world.sql(
        "create table t_new (like t including all); insert into t_new values (7);
         begin; alter table t rename to t_old; alter table t_new rename to t; commit; insert into t values (8)",
    );
    let halted = agent.halts("table_swapped");
    for words in [
        "public.t_old",
        "is not published",
        "ADD TABLE ONLY \"public\".\"t\"",
        "wellspring snapshot public.t",
    ] {
        assert!(halted.detail.contains(words), "{words}: {}", halted.detail);
    }
    assert!(halted.range.is_some_and(|range| range.from < range.to));
}

#[test]
fn a_reload_takes_over_no_membership_that_changed() {
    let (world, agent) = streaming();
    world.sql(&format!(
        "create table u (id int primary key); {AWAY}; insert into t values (2); {BACK}"
    ));
    let answer = agent.ask(Request::Reload(Box::new(world.config(""))));
    agent.halts("table_left");
    assert!(answer.is_err(), "{answer:?}");
    agent.stop();
    world.agent("").halts("table_left");
}

#[test]
fn statements_that_lose_nothing_are_not_told() {
    let (world, agent) = streaming();
    let before = agent.status().warnings;
    let quiet = [
        "vacuum full t",
        "cluster t using t_pkey",
        "analyze",
        "reindex table concurrently t",
        "grant select on t to somebody",
        "comment on table t is 'x'",
        "alter table t add column w int default 7",
        "alter table t owner to somebody",
        "vacuum freeze t",
        "create table u (id int primary key)",
        "alter publication wellspring_p add table u",
        "alter table t alter column v type varchar(20)",
        "create index concurrently t_v on t (v)",
        "alter table t alter column v set statistics 200",
        "alter table t set (fillfactor = 70)",
        "alter table t add constraint positive check (id > 0)",
        "create schema beside; create table beside.u (id int primary key)",
        "create publication beside for table u",
        "create statistics t_s on id, v from t",
        "drop index t_v",
    ];
    for statement in quiet {
        world.sql(statement);
    }
    // The next look reports this change. By then looks have seen all changes before it.
    world.sql("alter publication wellspring_p owner to somebody");
    let is_told = |warning: &String| warning.starts_with("publication_extended: ");
    let status = agent.until("a told finding", |status| status.warnings.iter().any(is_told));
    let told: Vec<&String> =
        status.warnings.iter().filter(|warning| !before.contains(warning)).collect();
    assert!(told.len() == 1 && is_told(told[0]), "{told:#?}");
    assert_eq!(status.phase, Phase::Streaming);
    let counted =
        |code| agent.metric(&format!("wellspring_watch_findings_total{{code=\"{code}\"}}"));
    assert_eq!((counted("publication_extended"), counted("table_rewritten")), (1.0, 0.0));
    world.sql("insert into t values (2, 'x', 8); update t set v = 'y'");
    world.records("t", 4);
    agent.stop();
}

#[test]
fn a_server_that_waits_for_a_standby_is_told_with_its_slot() {
    let (world, agent) = streaming();
    if world.server.major() < 17 {
        return; // synchronized_standby_slots and failover slots came with 17
    }
    agent.stop();
    world.sql("select pg_create_physical_replication_slot('absent', true)");
    world.sql("alter system set synchronized_standby_slots = 'absent'");
    world.sql("select pg_reload_conf()");
    let slot = world.sql("select slot_name from pg_replication_slots where slot_type = 'logical'");
    let alter = format!("ALTER_REPLICATION_SLOT \"{}\" (FAILOVER true)", slot.trim());
    let url = format!("{}&replication=database", world.server.url("postgres"));
    let altered = world.server.psql("postgres").args(["-d", &url, "-c", &alter]).output().unwrap();
    assert!(altered.status.success(), "{altered:?}");

    let agent = world.agent("");
    world.sql("insert into t values (2)");
    let told = agent.until("the wait", |status| status.reason == "standby_awaited");
    assert!(told.detail.contains("`absent`") && told.needs_a_person, "{}", told.detail);
    world.sql("alter system reset synchronized_standby_slots");
    world.sql("select pg_reload_conf()");
    world.records("t", 2);
    agent.until("the end of the wait", |status| status.reason.is_empty());
    agent.stop();
}

#[test]
fn what_a_publication_leaves_out_is_said_at_the_start() {
    let world = World::new(
        "create table t (id int primary key); create table t_child () inherits (t);
         create table u (id int) partition by range (id); create table u_1 partition of u
         for values from (0) to (10); create publication wellspring_p for table only t, u
         with (publish = 'insert', publish_via_partition_root)",
        &["t", "u"],
    );
    let more = "[tables]\ninclude = [\"public.*\"]\nexclude = [\"public.t_child\"]";
    let agent = world.agent(more);
    let warnings = agent.streams().warnings.join("\n");
    for part in ["does not publish update, delete", "table public.t that lie in public.t_child"] {
        assert!(warnings.contains(part), "{part} is not in:\n{warnings}");
    }
    world.sql("alter publication wellspring_p set (publish = 'insert, update')");
    let told = agent.until("the lack of an identity", |status| status.needs_a_person);
    let warnings = told.warnings.join("\n");
    assert!(warnings.contains("fail on public.u_1:"), "{warnings}");
    world.sql("alter table u_1 replica identity full");
    let told = agent.until("its end", |status| !status.needs_a_person);
    assert!(!told.warnings.join("").contains("fail on"), "{:?}", told.warnings);
    agent.stop();
    let told = world.check(more);
    assert!(told.contains("inherit from it and are not captured: public.t_child"), "{told}");
}

#[test]
fn another_key_of_records_is_told_where_it_begins() {
    let (world, agent) = streaming();
    let is_told = |status: &Status, words: &str| {
        let told = |warning: &String| {
            warning.starts_with("record_key_changed: ") && warning.contains(words)
        };
        status.warnings.iter().any(told)
    };
    // The index of the identity is dropped: nothing identifies old rows, and new ones have no key.
    world.sql(
        "alter table t add column k int not null default 7; create unique index t_k on t (k);
         alter table t drop constraint t_pkey, replica identity using index t_k",
    );
    world.sql("insert into t values (2, 'x', 8)");
    let moved = "have the key (k) from here on, and the key (id) before";
    agent.until("the moved key", |status| is_told(status, moved));
    world.sql("drop index t_k");
    world.sql("insert into t values (3, 'x', 9)");
    let status = agent.until("the lost key", |status| {
        is_told(status, "have no key from here on, and the key (k) before") && status.needs_a_person
    });
    assert_eq!(status.phase, Phase::Streaming);
    let rows = world.records("t", 3);
    let keys: Vec<String> = rows.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(keys, ["{\"id\":1}", "{\"k\":8}", "null"]);
    // The primary key moves under REPLICA IDENTITY FULL, which the identity does not show.
    world.sql("alter table t replica identity full, add primary key (id)");
    world.sql("insert into t values (4, 'x', 10)");
    agent.until("the key again", |status| is_told(status, "have the key (id) from here on"));
    agent.until("its end", |status| !status.needs_a_person);
    world.sql("alter table t drop constraint t_pkey, add primary key (k)");
    world.sql("insert into t values (5, 'x', 11)");
    let counted = || agent.metric("wellspring_watch_findings_total{code=\"record_key_changed\"}");
    agent.until("the moved primary key", |_| counted() > 3.0);
    agent.stop();
}

#[test]
fn partitions_that_come_go_or_are_emptied_are_told_with_rows() {
    let world = World::new(
        "create table r (id int primary key) partition by range (id);
         create table r_1 partition of r for values from (0) to (10);
         create table r_2 partition of r for values from (10) to (20);
         create publication wellspring_p for table r with (publish_via_partition_root);
         create table late (id int primary key); insert into late select generate_series(20, 26)",
        &["r"],
    );
    let more = "[tables]\ninclude = [\"public.r\"]";
    let agent = world.agent(more);
    agent.streams();
    world.sql("insert into r values (1), (2), (11); analyze");
    world.records("r", 3);
    let until = |code: &str, words: &[&str]| {
        agent.until(code, |status| {
            let told = |warning: &String| {
                warning.starts_with(code) && words.iter().all(|word| warning.contains(word))
            };
            status.phase == Phase::Streaming && status.warnings.iter().any(told)
        });
    };
    // Once this change is reported, a look has also read the estimated numbers of rows.
    world.sql("alter publication wellspring_p owner to postgres; create role somebody");
    world.sql("alter role somebody superuser; alter publication wellspring_p owner to somebody");
    until("publication_extended: ", &[]);
    world.sql("truncate r_1");
    until("partition_emptied: ", &["public.r_1 of table public.r", "about 2 rows"]);
    world.sql("alter table r attach partition late for values from (20) to (30)");
    let copy = "wellspring snapshot public.r";
    until("partition_attached: ", &["public.late", "about 7 rows", copy]);
    world.sql("alter table r detach partition r_2");
    until("partition_left: ", &["public.r_2 left table public.r", "about 1 rows"]);
    world.sql("truncate r; insert into r values (3)");
    world.until("r", |rows| rows.iter().any(|row| row.value["after"]["id"] == 3));
    let told = agent.status().warnings.join("\n");
    assert!(!told.contains("partition public.late of table public.r was truncated"), "{told}");
    agent.stop();
}

#[test]
fn a_consent_can_ask_for_the_copies_that_repair_the_gap() {
    let (world, agent) = streaming();
    world.sql(&format!("{AWAY}; insert into t values (2); {BACK}"));
    agent.halts("table_left");
    // The halted agent releases the slot after a moment.
    let accept = || world.told("", &["slot", "accept", "--copy"]);
    wait_until(Instant::now() + PATIENCE, || accept().0 == Some(0));
    // The agent that has halted goes on, and makes the copy.
    let status = agent.until("the copy", |status| {
        status.windows.iter().any(|window| window.table == "public.t" && window.state == "done")
    });
    assert_eq!((status.phase, status.needs_a_person), (Phase::Streaming, false));
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
    assert!(rows.iter().all(|row| row.value["after"]["id"] != 2 || row.value["op"] == "r"));
    agent.stop();
    let (code, told) = accept();
    assert!(code == Some(0) && told.contains("there is nothing to accept"), "{told}");
}
