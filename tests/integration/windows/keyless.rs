//! Tests of backfills of tables without a key. Each such table is copied whole in a standstill.
//!
//! A consumer can rely on this: the rows of a copy come together, they are the table as it was at
//! one point of the stream, and the changes after them are not in them. A copy that was cut off is
//! repeated whole, so it comes at least once.

use super::requests::{Open, is_done};
use crate::support::world::{Row, World};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use wellspring::agent::request::Request;

const TABLES: &str = "create table k (v int, w text); alter table k replica identity full;
    insert into k select i % 500, 'w' || i % 7 from generate_series(1, 5000) i;
    create table t (id int primary key); insert into t values (1)";

const WINDOWS: &str = "[snapshot]\nmode = \"windows\"";
const NOTHING: &str = "[snapshot]\nmode = \"no_data\"";
/// Settings under which a copy of 10,000 rows takes twenty seconds, so a test can see it half done.
const SLOW: &str = "[snapshot]\nmode = \"windows\"\nrows_per_second = 500";
const MANY: &str = "create table k (v int, w text); alter table k replica identity full;
    insert into k select i, repeat('x', 200) from generate_series(1, 10000) i;
    create table t (id int primary key); insert into t values (1)";

type Bag = BTreeMap<(i64, String), i64>;

fn image(row: &Row, name: &str) -> (i64, String) {
    let image = &row.value[name];
    (image["v"].as_i64().unwrap(), image["w"].as_str().unwrap().to_owned())
}

/// The table that a consumer would build: the rows of the newest copy, with the changes after them
/// applied.
fn rebuilt(rows: &[Row]) -> Bag {
    let is_read = |row: &Row| row.value["op"] == "r";
    let end = rows.iter().rposition(is_read).unwrap() + 1;
    let begin = rows[..end].iter().rposition(|row| !is_read(row)).map_or(0, |at| at + 1);
    let mut bag = Bag::new();
    for row in &rows[begin..] {
        if matches!(row.value["op"].as_str(), Some("u" | "d")) {
            *bag.entry(image(row, "before")).or_default() -= 1;
        }
        if row.value["op"] != "d" {
            *bag.entry(image(row, "after")).or_default() += 1;
        }
    }
    bag.retain(|_, count| *count != 0);
    bag
}

fn of_source(world: &World) -> Bag {
    let text = world.sql("select v || ',' || w || ',' || count(*) from k group by v, w");
    let row = |line: &str| {
        let parts: Vec<&str> = line.split(',').collect();
        ((parts[0].parse().unwrap(), parts[1].to_owned()), parts[2].parse().unwrap())
    };
    text.lines().map(row).collect()
}

/// Inserts a last row, waits for it, and checks that the table equals what its topic gives.
fn ends_equal(world: &World) -> Vec<Row> {
    world.sql("insert into k values (-1, 'end')");
    let rows =
        world.until("k", |rows| rows.last().is_some_and(|row| row.value["after"]["v"] == -1));
    assert_eq!(rebuilt(&rows), of_source(world));
    rows
}

fn copy_again(agent: &crate::support::world::Running) {
    agent.ask(Request::Snapshot { tables: vec!["public.k".to_owned()], filter: None }).unwrap();
    is_done(agent, "public.k");
}

#[test]
fn a_whole_table_and_its_changes_equal_the_source_under_writes() {
    let world = World::new(TABLES, &["k", "t"]);
    let agent = world.agent(WINDOWS);
    agent.streams();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (server, stop) = (&world.server, &stop);
            scope.spawn(move || {
                for at in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let v = (at * 31 + writer * 7) % 500;
                    server.sql(
                        "postgres",
                        &format!(
                            "insert into k values ({v}, 'n{at}'); update k set w = 'u{at}' where v = {v};
                             begin; insert into t values ({writer}00000 + {at} + 10); delete from k where v = {v} + 1;
                             insert into k values ({v} + 1, 'm'), ({v} + 1, 'm'); commit;"
                        ),
                    );
                }
            });
        }
        for _ in 0..4 {
            is_done(&agent, "public.k");
            copy_again(&agent);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let rows = ends_equal(&world);
    let source = &rows.iter().find(|row| row.value["op"] == "r").unwrap().value["source"];
    assert_eq!(
        (&source["snapshot"], source["txId"].is_null(), source["lsn"].is_null()),
        (&"incremental".into(), true, true)
    );
    let status = agent.status();
    let window = status.windows.iter().find(|window| window.table == "public.k").unwrap();
    assert!(window.rows > 1000 && window.bytes > 0, "{window:?}");
    assert_eq!(
        world.sql("select count(*) from pg_replication_slots"),
        "1",
        "temporary slots are gone"
    );
    agent.stop();
}

#[test]
fn rows_of_a_condition_and_a_table_that_joins_are_copied_too() {
    let world = World::new(TABLES, &["k", "t"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"\n[tables]\ninclude = [\"public.t\"]");
    agent.streams();
    let more = "[tables]\ninclude = [\"public.t\", \"public.k\"]\n[snapshot.where]\n\"public.k\" = \"v < 10\"";
    agent.ask(Request::Reload(Box::new(world.config(more)))).unwrap();
    is_done(&agent, "public.k");
    assert_eq!(world.records("k", 100).len(), 100);
    let ask = |filter: &str| Request::Snapshot {
        tables: vec!["public.k".to_owned()],
        filter: Some(filter.to_owned()),
    };
    agent.ask(ask("v = 7 -- a comment")).unwrap();
    agent.until("the second copy", |status| {
        status
            .windows
            .iter()
            .any(|window| window.state == "done" && window.filter.is_none() && window.rows == 10)
    });
    world.records("k", 110);
    world.sql("truncate k; insert into k values (1, 'after')");
    let rows = world.until("k", |rows| rows.len() >= 112);
    assert_eq!((&rows[110].value["op"], &rows[111].value["op"]), (&"t".into(), &"c".into()));
    agent.stop();
}

#[test]
fn an_open_writer_stops_no_stream_and_each_row_arrives_once() {
    let world = World::new(TABLES, &["k", "t"]);
    let agent = world.agent(NOTHING);
    agent.streams();
    let mut open = Open::begin(&world, "begin; insert into k values (1000, 'before');");
    agent.ask(Request::Snapshot { tables: vec!["public.k".to_owned()], filter: None }).unwrap();
    agent.until("a slot is waited for", |status| {
        status
            .windows
            .iter()
            .any(|window| window.state == "waiting" && window.detail.contains("temporary slot"))
    });
    // Changes of another table pass. The first change of the copied table waits for the temporary
    // slot, and every later change waits behind it.
    world.sql("insert into t values (2)");
    world.records("t", 1);
    world.sql("insert into k values (1001, 'meanwhile')");
    agent.until("the stream stands", |status| {
        status.windows.iter().any(|window| window.detail.contains("stands"))
    });
    open.end("insert into k values (1002, 'after'); commit;");
    is_done(&agent, "public.k");
    let rows = ends_equal(&world);
    for v in [1000, 1001, 1002] {
        let copied = rows
            .iter()
            .filter(|row| row.value["op"] == "r" && row.value["after"]["v"] == v)
            .count();
        assert_eq!(copied, 1, "{v} committed before the slot was made");
    }
    assert!(agent.metric("wellspring_window_rows_total{kind=\"whole\"}") >= 5003.0);
    assert!(agent.metric("wellspring_window_hold_seconds_total{kind=\"whole\"}") > 0.0);
    agent.stop();
}

#[test]
fn without_a_free_slot_the_copy_waits_and_the_stream_goes_on() {
    let world = World::with(&[("max_replication_slots", "2")], TABLES, &["k", "t"]);
    world.sql("select pg_create_physical_replication_slot('taken')");
    let agent = world.agent(WINDOWS);
    is_done(&agent, "public.t");
    let status = agent.until("k waits", |status| {
        status.windows.iter().any(|window| window.reason == "window_no_slot")
    });
    let window = status.windows.iter().find(|window| window.table == "public.k").unwrap();
    assert_eq!(window.state, "waiting");
    assert!(
        window.detail.contains("2 of 2 slots") && window.next.contains("max_replication_slots"),
        "{window:?}"
    );
    world.sql("insert into k values (7, 'streamed')");
    world.records("k", 1);
    world.sql("select pg_drop_replication_slot('taken')");
    is_done(&agent, "public.k");
    ends_equal(&world);
    agent.stop();
}

#[test]
fn a_copy_that_is_cut_off_is_repeated_whole() {
    let world = World::new(MANY, &["k", "t"]);
    let agent = world.agent(SLOW);
    let half = |agent: &crate::support::world::Running| {
        agent.until("rows", |status| {
            status
                .windows
                .iter()
                .any(|window| window.state == "copying" && (1000..10_000).contains(&window.rows))
        })
    };
    half(&agent);
    // The session of the copy is lost. The stream goes on, and then stands still for a new copy.
    world.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%:holder';
         delete from k where v = 1",
    );
    world.until("k", |rows| rows.last().is_some_and(|row| row.value["op"] == "d"));
    half(&agent);
    // The replication connection is lost. That shows at the next status update, because nothing is
    // read during a standstill.
    world.sql("delete from k where v = 2; select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'wellspring_p'");
    agent.until("a new connection", |status| status.reconnects > 0);
    half(&agent);
    // The agent is stopped. The stop does not wait for the copy.
    agent.stop();
    world.sql("delete from k where v = 3");
    let agent = world.agent(WINDOWS);
    is_done(&agent, "public.k");
    ends_equal(&world);
    agent.stop();
}

/// A process of the program, which a test kills.
struct Program(Child);

impl Program {
    fn start(world: &World, more: &str) -> Program {
        let file = world.server.socket_dir().join("wellspring.toml");
        std::fs::write(
            &file,
            world.text("postgres", &format!("{more}\n[admin]\nlisten = \"127.0.0.1:0\"")),
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command.args(["run", "--config"]).arg(file);
        Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_kill_during_a_copy_repeats_rows_and_loses_none() {
    let world = World::new(MANY, &["k", "t"]);
    for round in 0..3 {
        let program = Program::start(&world, SLOW);
        let before = 1500 * (round + 1);
        world.until("k", |rows| rows.len() >= before);
        world.sql(&format!(
            "delete from k where v = {round} + 1; insert into k values (0, 'r{round}')"
        ));
        drop(program);
    }
    let agent = world.agent(WINDOWS);
    is_done(&agent, "public.k");
    let rows = ends_equal(&world);
    assert!(
        rows.len() > 10_000 + 4500,
        "{}: the halves of the copies that were cut off are there too",
        rows.len()
    );
    agent.stop();
}

#[test]
fn a_first_copy_cut_off_in_a_table_leaves_it_to_a_backfill() {
    let world = World::new(MANY, &["k", "t"]);
    let agent = world.agent("[snapshot]\nrows_per_second = 500");
    agent.until("rows", |status| status.copy.as_ref().is_some_and(|copy| copy.rows > 2000));
    agent.stop_in_a_copy();
    world.sql("delete from k where v = 1");
    let agent = world.agent("");
    is_done(&agent, "public.k");
    is_done(&agent, "public.t");
    ends_equal(&world);
    agent.stop();
    let agent = world.agent("");
    agent.streams();
    assert_eq!(agent.status().windows.len(), 0, "it is not owed any more");
    agent.stop();
}
