//! Requests that begin a backfill, and what status shows of it.

use crate::support::world::{Running, World};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use wellspring::agent::request::Request;
use wellspring::continuity::Refused;

const TABLES: &str =
    "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 2500) i;
    create table u (id int primary key); insert into u values (1)";

/// A session of `psql` with an open transaction.
pub struct Open(std::process::Child);

impl Open {
    pub fn begin(world: &World, sql: &str) -> Open {
        let mut psql = world.server.psql("postgres");
        let child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut open = Open(child);
        open.run(&format!("{sql}\nselect 'open';"));
        let mut line = String::new();
        BufReader::new(open.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        open
    }

    fn run(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }

    pub fn end(&mut self, sql: &str) {
        self.run(sql);
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

pub fn is_done(agent: &Running, table: &str) {
    agent.until(table, |status| {
        status.windows.iter().any(|window| window.table == table && window.state == "done")
    });
}

#[test]
fn windows_copy_everything_while_changes_flow() {
    let world = World::new(TABLES, &["t", "u"]);
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    agent.streams();
    world.sql("insert into t values (0, 'new')");
    is_done(&agent, "public.t");
    is_done(&agent, "public.u");
    let rows = world.until("t", |rows| rows.len() >= 2501);
    let read: Vec<_> = rows.iter().filter(|row| row.value["op"] == "r").collect();
    assert!((2500..=2501).contains(&read.len()), "{}", read.len());
    let source = &read[7].value["source"];
    assert_eq!(
        (&source["snapshot"], source["txId"].is_null(), source["lsn"].is_null()),
        (&"incremental".into(), true, true)
    );
    let status = agent.status();
    let window = status.windows.iter().find(|window| window.table == "public.t").unwrap();
    assert!(window.rows >= 2500 && window.chunks >= 2, "{window:?}");
    assert!(agent.metric("wellspring_window_rows_total{kind=\"chunks\"}") >= 2501.0);
    assert!(agent.metric("wellspring_window_chunks_total") >= 3.0);
    assert_eq!(agent.metric("wellspring_window_tables{state=\"copying\"}"), 0.0);
    agent.stop();
}

#[test]
fn a_table_is_read_again_by_request_where_a_condition_holds() {
    let world = World::new(TABLES, &["t", "u"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    let ask = |tables: &[&str], filter: Option<&str>| {
        agent.ask(Request::Snapshot {
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            filter: filter.map(str::to_owned),
        })
    };
    assert!(matches!(ask(&["public.nowhere"], None), Err(Refused::Faulty(_))));
    let Err(Refused::Faulty(why)) = ask(&["public.t"], Some("nonsense = 5")) else { panic!() };
    assert!(why.contains("nonsense") && why.contains("42703"), "{why}");
    // The copy that is asked for now takes the place of the failed one.
    ask(&["public.t"], Some("id between 11 and 20 -- a comment")).unwrap();
    is_done(&agent, "public.t");
    let rows = world.records("t", 10);
    assert!(rows.iter().all(|row| row.value["op"] == "r"));
    assert_eq!(
        (&rows[0].value["after"]["v"], &rows[9].value["after"]["v"]),
        (&"v11".into(), &"v20".into())
    );
    agent.stop();
}

#[test]
fn a_table_that_joins_is_published_copied_and_streamed() {
    let world = World::new(TABLES, &["t", "u"]);
    let agent = world.agent("[tables]\ninclude = [\"public.u\"]");
    agent.streams();
    world.records("u", 1);
    // This open transaction inserts a row while no publication has the table.
    let mut open = Open::begin(&world, "begin; insert into t values (0, 'before');");
    let taken = agent.ask(Request::Reload(Box::new(
        world.config("[tables]\ninclude = [\"public.u\", \"public.t\"]"),
    )));
    assert!(taken.unwrap().0.contains("public.t"));
    agent.until("the open writer is waited for", |status| {
        status
            .windows
            .iter()
            .any(|window| window.state == "waiting" && window.detail.contains("pid"))
    });
    assert_eq!(agent.metric("wellspring_window_tables{state=\"waiting\"}"), 1.0);
    world.sql("insert into u values (2)");
    world.records("u", 2);
    open.end("insert into t values (-1, 'after'); commit;");
    is_done(&agent, "public.t");
    assert!(agent.metric("wellspring_window_visibility_wait_seconds_total") > 0.0);
    world.sql("delete from t where id = 7");
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["op"] == "d"));
    for id in [-1, 0, 7, 2500] {
        assert!(rows.iter().any(|row| row.value["after"]["id"] == id), "{id} is missing");
    }
    agent.stop();
}

#[test]
fn a_table_with_its_own_query_is_refused_and_others_go_on() {
    let world = World::new(TABLES, &["t", "u"]);
    let agent = world.agent(
        "[snapshot]\nmode = \"windows\"\n[snapshot.query]\n\"public.t\" = \"select * from t\"",
    );
    is_done(&agent, "public.u");
    let status = agent
        .until("t failed", |status| status.windows.iter().any(|window| window.state == "failed"));
    let window = status.windows.iter().find(|window| window.table == "public.t").unwrap();
    assert_eq!((window.reason.as_str(), window.rows), ("window_query", 0));
    assert!(window.next.contains("snapshot.where"), "{window:?}");
    agent.ask(Request::CancelSnapshot).unwrap();
    let asked = agent.ask(Request::Snapshot { tables: vec!["public.t".to_owned()], filter: None });
    let Err(Refused::Faulty(why)) = asked else { panic!("{asked:?}") };
    assert!(why.contains("snapshot.query"), "{why}");
    world.sql("insert into t values (0, 'streamed')");
    let rows = world.records("t", 1);
    assert_eq!(rows[0].value["op"], "c");
    agent.stop();
}

#[test]
fn a_copy_goes_on_after_a_restart_where_it_was() {
    let world = World::new(
        "create table t (id int primary key, v text); insert into t select i, repeat('x', 1000) from generate_series(1, 30000) i",
        &["t"],
    );
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    let chunks = |agent: &Running, at_least: u64| {
        agent
            .until("some chunks", |status| {
                status.windows.iter().any(|window| window.chunks >= at_least)
            })
            .windows[0]
            .clone()
    };
    let before = chunks(&agent, 2);
    agent.stop();
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    let after = chunks(&agent, 2);
    assert!(after.rows >= before.rows, "{before:?} {after:?}");
    is_done(&agent, "public.t");
    let rows = world.until("t", |rows| rows.len() >= 30_000);
    assert!(rows.len() < 45_000, "{}: at most a chunk is repeated", rows.len());
    let ids: std::collections::BTreeSet<i64> =
        rows.iter().filter_map(|row| row.value["after"]["id"].as_i64()).collect();
    assert_eq!(ids.len(), 30_000);
    agent.stop();
}
