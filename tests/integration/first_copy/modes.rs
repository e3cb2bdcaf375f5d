//! Tests of `[snapshot]`: when rows are copied, and which rows.

use crate::support::world::{Row, World};
use wellspring::agent::Exit;

fn places(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::place).collect()
}

fn one_table() -> World {
    World::new(
        "create table a (id int primary key, v text); insert into a values (1, 'one')",
        &["a"],
    )
}

#[test]
fn initial_only_copies_stops_and_keeps_the_slot() {
    let world = one_table();
    let mode = "[snapshot]\nmode = \"initial_only\"";
    assert_eq!(world.agent(mode).ends(), Exit::Stopped);
    world.sql("insert into a values (2, 'two')");
    assert_eq!(world.agent(mode).ends(), Exit::Stopped);
    assert_eq!(places(&world.records("a", 1)), ["r last {\"id\":1}"]);
    assert_eq!(world.sql("select active from pg_replication_slots"), "f");
    // An agent with another mode streams on from the end of the copy.
    let agent = world.agent("");
    assert_eq!(places(&world.records("a", 2)), ["r last {\"id\":1}", "c false {\"id\":2}"]);
    agent.stop();
}

#[test]
fn no_data_copies_nothing() {
    let world = one_table();
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    assert_eq!(agent.streams().copy, None);
    world.sql("insert into a values (2, 'two')");
    assert_eq!(places(&world.records("a", 1)), ["c false {\"id\":2}"]);
    agent.stop();
}

#[test]
fn always_copies_at_every_start_and_records_what_it_left_out() {
    let world = one_table();
    let mode = "[snapshot]\nmode = \"always\"";
    let agent = world.agent(mode);
    assert_eq!(agent.streams().epoch, 1);
    world.sql("insert into a values (2, 'two')");
    world.records("a", 2);
    agent.stop();
    world.sql("insert into a values (3, 'while stopped')");
    let agent = world.agent(mode);
    assert_eq!(agent.streams().epoch, 2);
    world.sql("insert into a values (4, 'four')");
    assert_eq!(
        places(&world.records("a", 6))[2..],
        ["r first {\"id\":1}", "r true {\"id\":2}", "r last {\"id\":3}", "c false {\"id\":4}"]
    );
    // A reconnect is no start, so nothing is copied again.
    world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots");
    agent.until("a new connection", |status| status.reconnects > 0);
    world.sql("insert into a values (5, 'five')");
    let rows =
        world.until("a", |rows| rows.last().is_some_and(|row| row.place() == "c false {\"id\":5}"));
    assert_eq!(rows.iter().filter(|row| row.value["op"] == "r").count(), 4);
    assert_eq!(agent.streams().epoch, 2);
    agent.stop();
}

#[test]
fn when_needed_copies_anew_where_the_slot_is_gone_and_not_else() {
    let world = one_table();
    let mode = "[snapshot]\nmode = \"when_needed\"";
    let agent = world.agent(mode);
    agent.streams();
    agent.stop();
    let agent = world.agent(mode);
    assert_eq!((agent.streams().epoch, agent.status().copy), (1, None));
    agent.stop();
    world.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots; insert into a values (2, 'two')");
    let agent = world.agent(mode);
    assert_eq!(agent.streams().epoch, 2);
    assert_eq!(places(&world.records("a", 3))[1..], ["r first {\"id\":1}", "r last {\"id\":2}"]);
    agent.stop();
    // With another mode the agent halts at the missing slot.
    world.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
    let agent = world.agent("");
    agent.halts("slot_missing");
    agent.stop();
}

#[test]
fn conditions_queries_and_skipped_tables_decide_what_is_copied() {
    let world = World::new(
        "create table a (id int primary key, v text, w int); create table b (id int primary key, v varchar(9));
         create table c (id int primary key); create table d (id int primary key);
         insert into a select g, 'a' || g, g from generate_series(1, 6) g; insert into b values (1, 'b1'), (2, 'b2');
         insert into c values (1); insert into d values (1), (2)",
        &["a", "b", "c", "d"],
    );
    let agent = world.agent(
        "[snapshot]\nskip = [\"public.c\"]\norder = [\"public.d\"]\n[snapshot.where]\n\"public.d\" = \"id > 1\"\n\
         [snapshot.query]\n\"public.a\" = \"select id, v from public.a where id > 4 order by id desc\"\n\
         \"public.b\" = \"select upper(v) as v, id from public.b where id = 2\"",
    );
    agent.streams();
    world.sql("insert into c values (2)");
    let rows = world.records("a", 2);
    assert_eq!(
        places(&rows),
        ["r first_in_data_collection {\"id\":6}", "r last_in_data_collection {\"id\":5}"]
    );
    assert_eq!(rows[0].value["after"], serde_json::json!({"id": 6, "v": "a6", "w": null}));
    let rows = world.records("b", 1);
    assert_eq!(
        (rows[0].place().as_str(), &rows[0].value["after"]["v"]),
        ("r last {\"id\":2}", &"B2".into())
    );
    assert_eq!(places(&world.records("d", 1)), ["r first {\"id\":2}"]);
    assert_eq!(places(&world.records("c", 1)), ["c false {\"id\":2}"]);
    agent.stop();
}

#[test]
fn partitions_go_to_their_root_and_children_to_themselves() {
    let world = World::new(
        "create table m (id int, day date, primary key (id, day)) partition by range (day);
         create table m_1 partition of m for values from ('2020-01-01') to ('2021-01-01');
         create table m_2 (day date not null, id int not null, primary key (id, day));
         alter table m attach partition m_2 for values from ('2021-01-01') to ('2022-01-01');
         insert into m values (1, '2020-05-05'), (2, '2021-05-05'), (3, '2021-06-06');
         create table parent (id int primary key); create table child (primary key (id)) inherits (parent);
         insert into parent values (1); insert into child values (2)",
        &["m", "parent", "child"],
    );
    let agent = world.agent("");
    agent.streams();
    let ids: Vec<_> = world
        .records("m", 3)
        .iter()
        .map(|row| row.value["after"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(places(&world.records("parent", 1)), ["r last {\"id\":1}"]);
    assert_eq!(places(&world.records("child", 1)), ["r first {\"id\":2}"]);
    agent.stop();
}

#[test]
fn a_publications_column_list_and_filter_hold_for_the_copy() {
    let world = World::new("create table a (id int primary key, secret text, v int)", &["a"]);
    if world.server.major() < 15 {
        return;
    }
    world.sql(
        "insert into a values (1, 's', 1), (20, 's', 2); alter table a replica identity default;
         create publication wellspring_p for table a (id, v) where (id > 10)",
    );
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into a values (2, 's', 3), (30, 's', 4)");
    let rows = world.records("a", 2);
    assert_eq!(places(&rows), ["r last {\"id\":20}", "c false {\"id\":30}"]);
    assert_eq!(rows[0].value["after"], serde_json::json!({"id": 20, "v": 2}));
    agent.stop();
}
