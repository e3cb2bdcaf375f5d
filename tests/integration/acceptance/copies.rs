//! Acceptance cases of copies: a transaction open at the start, keys of every kind, signals, and a
//! table definition that changes between copies.

use crate::support::world::{Running, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SIGNALS: &str =
    "create table signals (id varchar(64) primary key, type varchar(32), data varchar(2048));";

/// Settings without a first copy, so that only signals begin copies.
const NO_DATA: &str = "mode = \"no_data\"\nsignal_table = \"public.signals\"";

fn signal(world: &World, id: &str, kind: &str, data: &Value) {
    world.sql(&format!("insert into signals values ('{id}', '{kind}', $${data}$$)"));
}

fn is_done(agent: &Running, table: &str) {
    agent.until(table, |status| {
        status.windows.iter().any(|window| window.table == table && window.state == "done")
    });
}

/// The values of a column in the copied rows of a table. There must be `count` such rows.
fn read(world: &World, table: &str, column: &str, count: usize) -> BTreeSet<String> {
    let rows = world
        .until(table, |rows| rows.iter().filter(|row| row.value["op"] == "r").count() >= count);
    let read: Vec<_> = rows.iter().filter(|row| row.value["op"] == "r").collect();
    assert_eq!(read.len(), count, "{table}: none twice");
    read.iter().map(|row| row.value["after"][column].to_string()).collect()
}

/// Covers case S14 of `docs/acceptance.md`.
#[test]
fn a_writer_open_at_the_start_is_awaited_and_its_row_comes_once() {
    let world = World::new("create table a (id int primary key); insert into a values (1)", &["a"]);
    world.sql("begin; insert into a values (2); prepare transaction 'open'");
    let agent = world.agent("");
    let status = agent.until("the writer is named", |status| status.detail.contains("open"));
    assert_eq!(status.copy, None);
    world.sql("commit prepared 'open'");
    agent.streams();
    world.sql("insert into a values (3)");
    let ids: Vec<_> = world
        .records("a", 3)
        .iter()
        .map(|row| row.value["after"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "each once");
    agent.stop();
}

/// Covers the cases I10, I11, I12, I13, I17, I18, I25 and I35 of `docs/acceptance.md`.
#[test]
fn chunks_take_keys_of_every_kind_and_computed_columns() {
    let world = World::new(
        &format!(
            "{SIGNALS} create type level as enum ('low', 'high', 'mid', 'least');
             create type pair as (a int, b text);
             create table by_level (l level primary key, p pair);
             insert into by_level select l, '(1,x)' from unnest(enum_range(null::level)) l;
             create table by_number (n numeric primary key);
             insert into by_number select g / 7.0 from generate_series(-1500, 1500) g; insert into by_number values ('NaN');
             create table computed (id int primary key, twice int generated always as (id * 2) stored);
             insert into computed select generate_series(1, 1100);
             create table parts (id int, day date, primary key (day, id)) partition by range (day);
             create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');
             create table parts_2 partition of parts for values from ('2021-01-01') to ('2022-01-01');
             insert into parts select g, date '2020-12-01' + g % 60 from generate_series(1, 1300) g"
        ),
        &["by_level", "by_number", "computed", "parts", "signals"],
    );
    let events = "[events]\nformat = \"json\"\ndecimals = \"string\"";
    let agent = world.agent(&format!("[snapshot]\n{NO_DATA}\n{events}"));
    agent.streams();
    let tables = [
        "public.nowhere",
        "public.by_level",
        "public.by_.*",
        "public.computed",
        "public.parts",
        "public.computed",
        "nothing\\..*",
    ];
    signal(
        &world,
        "1",
        "execute-snapshot",
        &json!({"data-collections": tables, "additional-conditions": []}),
    );
    for table in ["by_level", "by_number", "computed", "parts"] {
        is_done(&agent, &format!("public.{table}"));
    }
    let levels = read(&world, "by_level", "l", 4);
    assert_eq!(levels, ["\"high\"", "\"least\"", "\"low\"", "\"mid\""].map(str::to_owned).into());
    let numbers = read(&world, "by_number", "n", 3002);
    assert!(numbers.len() == 3002 && numbers.contains("\"NAN\""));
    assert_eq!(read(&world, "computed", "id", 1100).len(), 1100);
    assert_eq!(read(&world, "parts", "id", 1300).len(), 1300);
    agent.stop();
}

/// Covers the cases I16 and B02 of `docs/acceptance.md`.
#[test]
fn copies_have_the_columns_of_the_definition_at_their_time() {
    let world = World::new(
        &format!(
            "{SIGNALS} create table t (id int primary key, v text); insert into t values (1, 'x')"
        ),
        &["t", "signals"],
    );
    let agent = world.agent(&format!("[snapshot]\n{NO_DATA}"));
    agent.streams();
    let steps = ["add column w int default 7", "drop column v", "rename column w to u"];
    for (number, step) in steps.iter().enumerate() {
        world.sql(&format!("alter table t {step}"));
        signal(
            &world,
            &number.to_string(),
            "execute-snapshot",
            &json!({"data-collections": ["public.t"], "type": "blocking"}),
        );
        let rows = world.until("t", |rows| rows.len() > number);
        let wanted = [
            json!({"id": 1, "v": "x", "w": 7}),
            json!({"id": 1, "w": 7}),
            json!({"id": 1, "u": 7}),
        ];
        assert_eq!(rows[number].value["after"], wanted[number], "{step}");
        is_done(&agent, "public.t");
    }
    // Every signal's copy ended, and the stream goes on.
    world.sql("insert into t values (2, 8)");
    assert_eq!(world.records("t", 4)[3].place(), "c false {\"id\":2}");
    agent.stop();
}

/// Covers the cases B07 and N03 of `docs/acceptance.md`.
#[test]
fn signals_and_their_tables_may_have_names_that_need_quotes() {
    let world = World::new(
        r#"create schema "Odd s"; create table "Odd s"."Sig nals" (id text primary key, type text, data text);
           create table public."t.A (x)" (id int primary key); insert into public."t.A (x)" values (1), (2)"#,
        &["t.A__x_"],
    );
    world.topic("p.Odd_s.Sig_nals");
    let agent = world.agent(
        "[snapshot]\nmode = \"no_data\"\nsignal_table = '\"Odd s\".\"Sig nals\"'\n[tables]\ninclude = [\"public.*\"]",
    );
    agent.streams();
    world.sql(
        r#"insert into "Odd s"."Sig nals" values ('1', 'execute-snapshot', '{"data-collections": ["public\\.t\\.A \\(x\\)"]}')"#,
    );
    let rows = world.until("t.A__x_", |rows| rows.len() == 2);
    assert!(rows.iter().all(|row| row.value["source"]["table"] == "t.A (x)"));
    let told = world.until_in("p.Odd_s.Sig_nals", |rows| rows.len() == 1);
    assert_eq!(told[0].value["after"]["type"], "execute-snapshot");
    agent.stop();
}

/// Covers case S27 of `docs/acceptance.md`.
#[test]
fn a_table_dropped_while_the_copy_is_prepared_stops_nothing() {
    let world = World::new(
        "create table a (id int primary key); create table b (id int primary key); insert into a values (1); insert into b values (1)",
        &["a", "b"],
    );
    // The agent lists and publishes the tables before it creates the slot. The creation waits for
    // this prepared transaction.
    world.sql("begin; insert into a values (2); prepare transaction 'open'");
    let agent = world.agent("");
    agent.until("the writer is named", |status| status.detail.contains("open"));
    world.sql("drop table b; commit prepared 'open'");
    agent.streams();
    world.sql("insert into a values (3)");
    world.records("a", 3);
    agent.stop();
}

/// Covers case I28 of `docs/acceptance.md`.
#[test]
fn a_copy_of_an_empty_table_is_told_as_empty() {
    let world =
        World::new(&format!("{SIGNALS} create table t (id int primary key)"), &["t", "signals"]);
    world.topic("notes");
    let agent = world.agent(&format!(
        "[snapshot]\n{NO_DATA}\n[topics]\nprefix = \"p\"\nnotifications = \"notes\""
    ));
    agent.streams();
    signal(&world, "1", "execute-snapshot", &json!({"data-collections": ["public.t"]}));
    let notes =
        world.until_in("notes", |rows| rows.iter().any(|row| row.value["type"] == "COMPLETED"));
    let scanned = notes.iter().find(|row| row.value["type"] == "TABLE_SCAN_COMPLETED").unwrap();
    let data = &scanned.value["additional_data"];
    assert_eq!((&data["status"], &data["total_rows_scanned"]), (&json!("EMPTY"), &json!("0")));
    agent.stop();
}

/// Covers case I22 of `docs/acceptance.md`.
#[test]
fn a_condition_holds_after_a_restart() {
    let world = World::new(
        &format!(
            "{SIGNALS} create table t (id int primary key); insert into t select generate_series(1, 100)"
        ),
        &["t", "signals"],
    );
    let agent = world.agent(&format!("[snapshot]\n{NO_DATA}"));
    agent.streams();
    // Both signals are in one transaction, so the copy is paused before it can read anything.
    world.sql(
        r#"insert into signals values ('1', 'execute-snapshot', '{"data-collections": ["public.t"],
             "additional-conditions": [{"data-collection": "public.t", "filter": "id % 10 = 7"}]}'),
           ('2', 'pause-snapshot', null)"#,
    );
    agent
        .until("it is held", |status| status.windows.iter().any(|window| window.state == "paused"));
    agent.stop();
    let agent = world.agent(&format!("[snapshot]\n{NO_DATA}"));
    agent.streams();
    world.sql("insert into signals values ('3', 'resume-snapshot', null)");
    is_done(&agent, "public.t");
    assert_eq!(read(&world, "t", "id", 10).len(), 10);
    agent.stop();
}

/// Covers case L19 of `docs/acceptance.md`.
#[test]
fn a_slot_whose_log_is_gone_is_begun_anew_where_asked_for() {
    let settings =
        [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
    let world = World::with(
        &settings,
        "create table a (id int primary key); create table filler (x text)",
        &["a"],
    );
    let mode = "[tables]\ninclude = [\"public.a\"]\n[snapshot]\nmode = \"when_needed\"";
    let agent = world.agent(mode);
    agent.streams();
    agent.stop();
    world.sql("insert into a values (1)");
    for _ in 0..4 {
        world.sql("insert into filler select repeat('x', 1000) from generate_series(1, 1000); select pg_switch_wal()");
        world.sql("checkpoint");
    }
    assert_eq!(world.sql("select wal_status from pg_replication_slots").trim(), "lost");
    let agent = world.agent(mode);
    assert_eq!(agent.streams().epoch, 2);
    assert_eq!(world.records("a", 1)[0].place(), "r last {\"id\":1}");
    agent.stop();
}

/// Covers case I09 of `docs/acceptance.md`.
#[test]
fn chunks_go_by_the_key_that_the_rules_give() {
    let world = World::new(
        &format!(
            "{SIGNALS} create table t (id int, region text, v text, primary key (id, region));
             insert into t select g, 'r' || g % 3, 'v' from generate_series(1, 1500) g"
        ),
        &["t", "signals"],
    );
    let agent =
        world.agent(&format!("[snapshot]\n{NO_DATA}\n[keys]\n\"public.t\" = [\"region\", \"id\"]"));
    agent.streams();
    signal(&world, "1", "execute-snapshot", &json!({"data-collections": ["public.t"]}));
    is_done(&agent, "public.t");
    assert_eq!(read(&world, "t", "id", 1500).len(), 1500);
    let rows = world.until("t", |rows| rows.len() == 1500);
    let regions: Vec<_> = rows.iter().map(|row| row.key["region"].as_str().unwrap()).collect();
    assert!(regions.is_sorted(), "the first column of the key comes first");
    agent.stop();
}
