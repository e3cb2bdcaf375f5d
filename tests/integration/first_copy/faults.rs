//! Faults during the first copy. A fault of one table is reported for that table, and the other
//! tables are copied. After a break the copy goes on, or the status says what is missing.

use crate::support::world::{Row, World};
use std::collections::BTreeSet;
use wellspring::agent::request::Request;
use wellspring::status::{Phase, Status};

fn keys(rows: &[Row]) -> BTreeSet<i64> {
    rows.iter().filter_map(|row| row.key["id"].as_i64()).collect()
}

#[test]
fn an_unreadable_table_is_left_out_and_told_and_others_go_on() {
    let tables = ["barred", "bad_where", "broken", "guarded", "nan", "plain"];
    let world = World::new(
        "create role ws login replication;
         alter role ws set statement_timeout = '1ms'; alter role ws set lock_timeout = '1ms';
         alter role ws set idle_in_transaction_session_timeout = '1ms';
         create table barred (id int primary key); create table bad_where (id int primary key);
         create table broken (id int primary key); create table guarded (id int primary key);
         create table nan (id int primary key, n numeric not null); create table plain (id int primary key);
         insert into barred values (1); insert into bad_where values (1); insert into guarded values (1);
         insert into broken select generate_series(1, 4000);
         insert into nan values (1, 1), (2, 'NaN'); insert into plain select generate_series(1, 50000);
         grant select on bad_where, broken, guarded, nan, plain to ws;
         alter table guarded enable row level security;
         create publication wellspring_p for table barred, bad_where, broken, guarded, nan, plain",
        &tables,
    );
    let agent = world.agent_as(
        "ws",
        "[snapshot.where]\n\"public.bad_where\" = \"id = (\"\n\"public.broken\" = \"1 / (id - 3999) > -9\"",
    );
    let status = agent.streams();
    let copy = status.copy.clone().unwrap();
    for (table, reason, next) in [
        ("public.barred", "permission denied", "GRANT SELECT ON public.barred"),
        ("public.bad_where", "syntax error", "correct snapshot.where"),
        ("public.broken", "SQLSTATE 22012", "correct snapshot.where"),
        ("public.guarded", "row-level security", "BYPASSRLS"),
        ("public.nan", "column `n`", "wellspring snapshot public.nan"),
    ] {
        let of = &copy.tables[table];
        assert_eq!(of.state, "left", "{table}: {of:?}");
        assert!(of.reason.contains(reason) && of.next.contains(next), "{table}: {of:?}");
    }
    assert_eq!(
        (copy.tables["public.plain"].state.as_str(), copy.tables["public.plain"].rows),
        ("copied", 50_000)
    );
    assert_eq!(keys(&world.records("plain", 50_000)).len(), 50_000);
    // The tables that were not copied stream all the same, and a restart reports them again.
    world.sql("insert into barred values (2)");
    assert_eq!(world.records("barred", 1)[0].place(), "c false {\"id\":2}");
    agent.stop();
    let agent = world.agent_as("ws", "");
    let status = agent.streams();
    for table in ["barred", "bad_where", "broken", "guarded", "nan"] {
        assert!(
            status
                .warnings
                .iter()
                .any(|warning| warning.contains(&format!("table public.{table} is not copied")))
        );
    }
    agent.stop();
}

#[test]
fn a_table_left_out_needs_a_person_until_it_is_copied() {
    let world = World::new(
        "create table inf (id int primary key, n numeric not null); create table plain (id int primary key);
         insert into inf values (1, 1), (2, 2), (3, 'NaN'), (4, 4); insert into plain values (1)",
        &["inf", "plain"],
    );
    let is_told = |status: &Status| status.phase == Phase::Streaming && status.needs_a_person;
    for start in 0..2 {
        let agent = world.agent("");
        let status = agent.until("what is missing", is_told);
        assert_eq!(status.reason, "table_not_copied", "start {start}: {status:?}");
        assert!(status.detail.contains("public.inf"), "{}", status.detail);
        let next = "wellspring snapshot public.inf";
        assert!(status.next.contains(next), "{}", status.next);
        let table = &status.tables["public.inf"];
        assert_eq!((&*table.state, &*table.reason), ("incomplete", "row_unencodable"));
        assert!(table.detail.contains("column `n`") && table.next.contains(next), "{table:?}");
        assert_eq!(agent.metric("wellspring_copy_tables_left"), 1.0);
        agent.stop();
    }
    // With `snapshot.skip` the operator consents to the missing rows.
    let agent = world.agent("[snapshot]\nskip = [\"public.inf\"]");
    agent.streams();
    world.sql("insert into plain values (2)");
    world.records("plain", 2);
    assert!(!agent.status().needs_a_person, "{:?}", agent.status());
    agent.stop();

    let agent = world.agent("");
    agent.until("what is missing", is_told);
    world.sql("update inf set n = 3 where id = 3");
    let (tables, filter) = (vec!["public.inf".to_owned()], None);
    agent.ask(Request::Snapshot { tables, filter }).unwrap();
    let status = agent.until("its end", |status| !status.needs_a_person);
    assert_eq!((&*status.reason, &*status.tables["public.inf"].state), ("", "streaming"));
    assert_eq!(agent.metric("wellspring_copy_tables_left"), 0.0);
    world.until("inf", |rows| keys(rows).len() == 4);
    agent.stop();
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into plain values (3)");
    world.records("plain", 3);
    assert!(!agent.status().needs_a_person, "the end of the copy is recorded");
    agent.stop();
}

#[test]
fn a_deadlock_leaves_a_table_to_a_backfill() {
    let world = World::new(
        "create table t (id int primary key); insert into t select generate_series(1, 5000);
         create table passing (is_over bool); insert into passing values (false);
         create function is_read(n int) returns bool language plpgsql volatile as $$ begin
           if n > 4000 and not (select is_over from passing) then
             raise exception using errcode = '40P01', message = 'deadlock detected';
           end if;
           return true;
         end $$",
        &["t"],
    );
    let agent = world.agent(
        "[tables]\ninclude = [\"public.t\"]\n[snapshot.where]\n\"public.t\" = \"is_read(id)\"",
    );
    let told = agent.streams();
    let of = &told.copy.as_ref().unwrap().tables["public.t"];
    assert_eq!(of.state, "owed", "{of:?}");
    assert!(of.reason.contains("deadlock") && of.next.contains("nothing has to be done"), "{of:?}");
    assert!(!told.needs_a_person, "{told:?}");
    world.sql("update passing set is_over = true");
    agent.until("the backfill", |status| {
        status.windows.iter().any(|window| window.table == "public.t" && window.state == "done")
    });
    world.until("t", |rows| keys(rows).len() == 5000);
    let journalled = world.state("copied/wellspring_p/1/public.t").unwrap();
    assert!(journalled["left"].is_null(), "{journalled}");
    agent.stop();
}

/// Starts an agent that takes some seconds to copy a table of 20,000 rows, and waits until that has
/// begun.
fn slow(more: &str) -> (World, crate::support::world::Running) {
    let world = World::new(
        "create table t (id int primary key, v text); create table done (id int primary key);
         insert into t select g, repeat('x', 200) from generate_series(1, 20000) g; insert into done values (1); analyze",
        &["t", "done"],
    );
    let agent = world.agent(more);
    agent.until("rows", |status| status.copy.as_ref().is_some_and(|copy| copy.rows > 1));
    (world, agent)
}

const SLOW: &str = "[snapshot]\nrows_per_second = 5000\norder = [\"public.done\"]";

#[test]
fn a_lost_reader_or_walsender_does_not_end_the_copy() {
    let (world, agent) = slow(SLOW);
    world.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%:copy'");
    agent.until("more rows", |status| status.copy.as_ref().is_some_and(|copy| copy.rows > 8000));
    world.sql("delete from t where id = 1; select pg_terminate_backend(active_pid) from pg_replication_slots");
    agent.until("a new connection", |status| status.reconnects > 0);
    let status = agent.streams();
    assert_eq!(
        status.copy.unwrap().tables["public.t"].rows,
        20_000,
        "read again from the beginning"
    );
    let rows = world.until("t", |rows| rows.last().is_some_and(|row| row.value["op"] == "d"));
    assert_eq!(keys(&rows).len(), 20_000);
    assert_eq!(rows.last().unwrap().place(), "d false {\"id\":1}");
    agent.stop();
}

#[test]
fn a_copy_cut_off_goes_on_beside_the_stream() {
    let (world, agent) = slow(SLOW);
    agent.until("a journalled table", |status| {
        status.copy.as_ref().is_some_and(|copy| copy.tables["public.done"].state == "copied")
    });
    agent.stop_in_a_copy();
    world.sql("delete from t where id = 1");
    let agent = world.agent("");
    let status = agent.until("the rest", |status| {
        status.windows.iter().any(|window| window.table == "public.t" && window.state == "done")
    });
    assert_eq!(
        status.windows.len(),
        1,
        "what was copied is not copied again: {:?}",
        status.windows
    );
    assert_eq!(status.windows[0].rows, 19_999);
    agent.stop();
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (0)");
    let rows =
        world.until("t", |rows| rows.last().is_some_and(|row| row.value["after"]["id"] == 0));
    let mut left: std::collections::BTreeSet<i64> = std::collections::BTreeSet::new();
    for row in &rows {
        match row.value["after"]["id"].as_i64() {
            Some(id) => drop(left.insert(id)),
            None => drop(left.remove(&row.value["before"]["id"].as_i64().unwrap())),
        }
    }
    assert!(!left.contains(&1), "no ghosts");
    assert_eq!(left.len(), 20_000);
    agent.stop();
}

#[test]
fn a_waiting_alter_table_does_not_stop_the_copy() {
    // The ALTER TABLE is for a table that is copied later, and it waits for the end of the copy.
    // The reader of that table must not queue behind it.
    let (world, agent) = slow("[snapshot]\nrows_per_second = 5000\norder = [\"public.t\"]");
    let mut alter = world
        .server
        .psql("postgres")
        .args(["-c", "alter table done add column w int"])
        .spawn()
        .unwrap();
    let status = agent.streams();
    assert_eq!(status.copy.unwrap().rows, 20_001);
    assert!(alter.wait().unwrap().success(), "the holder's locks end with the copy");
    world.sql("insert into done values (2, 5)");
    assert_eq!(world.records("done", 2)[1].value["after"], serde_json::json!({"id": 2, "w": 5}));
    agent.stop();
}

#[test]
fn a_snapshot_that_ends_leaves_the_rest_to_windows() {
    let (world, agent) = slow(SLOW);
    world.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%:holder'");
    agent.until("the rest", |status| {
        status.windows.iter().any(|window| window.table == "public.t" && window.state == "done")
    });
    agent.stop();
}

#[test]
fn a_table_is_journalled_once_its_last_record_is_acknowledged() {
    let world = World::with_second_broker(
        "create table t (id int primary key); insert into t select generate_series(1, 10000);
         create table done (id int primary key); insert into done values (1); analyze",
        &["t", "done"],
    );
    let agent = world.agent("[snapshot]\nrows_per_second = 3000\norder = [\"public.done\"]");
    let state = |status: &wellspring::status::Status, table: &str| {
        status.copy.as_ref().map(|copy| copy.tables[table].state.clone()).unwrap_or_default()
    };
    agent.until("a table done, another begun", |status| {
        state(status, "public.done") == "copied" && state(status, "public.t") == "copying"
    });
    world.second_broker(false); // what is sent of t from here on is not acknowledged
    let sent = agent.until("every row is sent", |status| state(status, "public.t") == "delivering");
    // In this second the loop has turned many times, and the status must not say that the table
    // is copied.
    let later = agent.until("a later look", |status| status.now_ms > sent.now_ms + 1000);
    assert_eq!(state(&later, "public.t"), "delivering");
    assert!(world.state("copied/wellspring_p/1/public.done").is_some());
    assert!(world.state("copied/wellspring_p/1/public.t").is_none());
    world.second_broker(true);
    agent.streams();
    assert_eq!(world.state("copied/wellspring_p/1/public.t").unwrap()["rows"], 10_000);
    world.records("t", 10_000);
    agent.stop();
}
