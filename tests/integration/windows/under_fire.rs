//! Tests of copies while real writers run: many changes of few keys, changed keys, truncates, large
//! values, rewrites, and copies of the table in a loop.

use crate::support::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use wellspring::agent::request::Request;

const TABLE: &str = "create sequence versions;
    create table t (id int primary key, n bigint not null default nextval('versions'), small text, big text);
    alter table t alter big set storage external;
    insert into t (id, small, big) select i, 's', repeat(md5(i::text), 200) from generate_series(1, 12) i";

/// Number of copies that have to end while the writers run.
const COPIES: usize = 12;

/// Statement number `at` of a writer. There are few keys, so that writers change the same rows.
fn statement(writer: u64, at: u64) -> String {
    let random = |salt: u64, bound: u64| {
        let mixed = (writer * 7919 + at * 104_729 + salt).wrapping_mul(0x2545_F491_4F6C_DD1D);
        (mixed >> 40) % bound
    };
    let (key, other) = (random(1, 16), random(2, 16));
    let next = "n = nextval('versions')";
    match random(3, 12) {
        0..=2 => format!(
            "insert into t (id, small, big) values ({key}, 'i', repeat(md5('{at}'), 200)) on conflict do nothing"
        ),
        3..=5 => format!("update t set {next}, small = 'u{at}' where id = {key}"),
        6 => {
            format!("update t set {next}, big = repeat(md5('{writer}.{at}'), 200) where id = {key}")
        }
        7 | 8 => format!(
            "update t set id = {other}, {next} where id = {key} and not exists (select from t where id = {other})"
        ),
        9 => format!("delete from t where id = {key}"),
        10 => format!(
            "begin; update t set {next} where id = {key}; savepoint a; delete from t where id = {key}; rollback to a; commit"
        ),
        _ if random(4, 20) == 0 => "truncate t".to_owned(),
        _ if random(6, 4) == 0 => {
            format!(
                "alter table t alter small type {}",
                ["text", "varchar(40)"][random(7, 2) as usize]
            )
        }
        _ if random(5, 8) == 0 => "vacuum full t".to_owned(),
        _ => format!("begin; update t set {next} where id = {key}; select pg_sleep(0.002); commit"),
    }
}

/// The table that a consumer builds from the newest record of each key. A large value that was not
/// sent keeps its earlier text, or that of the row whose key was changed into this one. The delete
/// and the create of a changed key have the same LSN.
fn rebuilt(rows: &[crate::support::world::Row]) -> BTreeMap<i64, (i64, String)> {
    let mut table: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    let mut moving = None;
    for row in rows {
        let lsn = row.value["source"]["lsn"].as_u64();
        let image = |name: &str| (&row.value[name], row.value[name]["id"].as_i64());
        match row.value["op"].as_str().unwrap() {
            "t" => table.clear(),
            "d" => moving = table.remove(&image("before").1.unwrap()).map(|(_, big)| (lsn, big)),
            _ => {
                let (after, id) = image("after");
                let text = after["big"].as_str().unwrap();
                let with_it = moving
                    .take()
                    .filter(|(from, _)| *from == lsn && row.value["op"] == "c")
                    .map(|(_, big)| big);
                let there = table.get(&id.unwrap()).map(|(_, big)| big.clone());
                let kept = with_it.or(there).unwrap_or_else(|| "lost".to_owned());
                let big =
                    if text == "__debezium_unavailable_value" { kept } else { text.to_owned() };
                table.insert(id.unwrap(), (after["n"].as_i64().unwrap(), big));
            }
        }
    }
    table
}

/// Finds a copied row that differs from the newest streamed record of its key. There must be none,
/// because the agent was never restarted and so nothing is a replay. Only equality is checked: an
/// INSERT takes its version before it waits for the key.
fn copied_out_of_time(rows: &[crate::support::world::Row]) -> Option<String> {
    let mut told: BTreeMap<i64, Option<i64>> = BTreeMap::new();
    rows.iter().find_map(|row| {
        let (before, after) = (&row.value["before"]["id"], &row.value["after"]["id"]);
        let (id, n) = (after.as_i64().or(before.as_i64()), row.value["after"]["n"].as_i64());
        match (row.value["op"].as_str()?, id) {
            ("t", _) => told.values_mut().for_each(|n| *n = None),
            ("r", Some(id)) => {
                let last = told.get(&id)?;
                return (*last != n).then(|| {
                    format!("key {id}: copied {n:?}, told {last:?}; {}", row.value["source"])
                });
            }
            (_, Some(id)) => drop(told.insert(id, n)),
            _ => {}
        }
        None
    })
}

#[test]
fn copies_under_fire_end_equal_to_the_table() {
    let world = World::new(TABLE, &["t"]);
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    agent.streams();
    let stop = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        for writer in 0..4 {
            let (server, stop) = (&world.server, &stop);
            scope.spawn(move || {
                let mut at = 0;
                while !stop.load(Ordering::Relaxed) {
                    let batch: Vec<String> =
                        (at..at + 40).map(|at| statement(writer, at)).collect();
                    // Deadlocks and duplicate keys are expected.
                    let _ = server.try_sql(
                        "postgres",
                        &format!("\\set ON_ERROR_STOP off\n{};\n", batch.join(";\n")),
                    );
                    at += 40;
                }
            });
        }
        let mut copies = 0;
        while copies < COPIES {
            // Each copy has to end while the writers run, within the time of one wait.
            agent.until("the copy is over", |status| {
                status
                    .windows
                    .iter()
                    .any(|window| window.table == "public.t" && window.state == "done")
            });
            copies += 1;
            agent
                .ask(Request::Snapshot { tables: vec!["public.t".to_owned()], filter: None })
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        copies
    });
    assert_eq!(copies, COPIES);
    agent.until("the last copy is over", |status| {
        status.windows.iter().all(|window| window.state == "done")
    });
    world.sql("insert into t (id, small, big) values (999, 'end', 'end')");
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 999));
    let text = world.sql("select json_object_agg(id, json_build_array(n, big)) from t");
    let source: BTreeMap<i64, (i64, String)> =
        serde_json::from_str::<BTreeMap<String, Value>>(&text)
            .unwrap()
            .into_iter()
            .map(|(id, row)| {
                (
                    id.parse().unwrap(),
                    (row[0].as_i64().unwrap(), row[1].as_str().unwrap().to_owned()),
                )
            })
            .collect();
    let copied = rows.iter().filter(|row| row.value["op"] == "r").count();
    assert_eq!(copied_out_of_time(&rows), None);
    assert!(copied > 12, "{copied} rows copied");
    let built = rebuilt(&rows);
    assert_eq!(
        built.keys().collect::<Vec<_>>(),
        source.keys().collect::<Vec<_>>(),
        "{copied} rows copied"
    );
    for (id, (n, big)) in &source {
        let (version, text) = &built[id];
        assert_eq!((version, text == big), (n, true), "key {id}");
    }
    agent.stop();
}
