//! Detached tables, from the refused change to the copy that repairs the table.

use crate::support::world::{Row, Running, World};
use std::collections::BTreeMap;
use wellspring::agent::request::Request;
use wellspring::continuity::Refused;
use wellspring::status::TableStatus;

const TABLES: &str =
    "create table t (id int primary key, n numeric not null); create table u (id int primary key)";
pub const DETACH: &str = "[events]\nformat = \"json\"\non_refusal = \"detach\"";
/// A short timeout of the walsender. The agent confirms every third of this time, so the tests wait
/// less.
pub const BRISK: &[(&str, &str)] = &[("wal_sender_timeout", "3s")];
pub const TOPIC: &str = "p.wellspring-quarantine";

pub fn state(agent: &Running, table: &str, state: &str) -> TableStatus {
    let is_so = |table: Option<&TableStatus>| table.is_some_and(|table| table.state == state);
    agent.until(state, |status| is_so(status.tables.get(table))).tables[table].clone()
}

pub fn snapshot(agent: &Running, filter: Option<&str>) -> Result<String, String> {
    let filter = filter.map(str::to_owned);
    let asked = agent.ask(Request::Snapshot { tables: vec!["public.t".to_owned()], filter });
    match asked {
        Ok(granted) => Ok(granted.0),
        Err(Refused::Faulty(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

/// Waits until everything written by now is confirmed.
pub fn is_confirmed(world: &World, agent: &Running) {
    let end: wellspring::lsn::Lsn =
        world.sql("select pg_current_wal_insert_lsn()").trim().parse().unwrap();
    world.sql("select pg_logical_emit_message(false, 'x', 'x')");
    agent.until("confirmed", |status| status.lsn.confirmed >= end);
}

pub fn ops(rows: &[Row]) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let id = |row: &Row| [&row.value["after"]["id"], &row.value["before"]["id"]].map(text).concat();
    rows.iter().map(|row| format!("{} {}", text(&row.value["op"]), id(row))).collect()
}

/// The newest value of each key of a topic, without deleted keys.
fn newest(rows: &[Row]) -> BTreeMap<i64, serde_json::Value> {
    let mut newest = BTreeMap::new();
    for row in rows {
        let id = row.key["id"].as_i64().unwrap();
        match row.value["op"].as_str() {
            Some("d") => drop(newest.remove(&id)),
            _ => drop(newest.insert(id, row.value["after"]["n"].clone())),
        }
    }
    newest
}

#[test]
fn an_unwritable_row_detaches_its_table_until_a_copy_repairs() {
    let world = World::with(BRISK, TABLES, &["t", "u"]);
    let agent = world.agent(DETACH);
    agent.streams();
    world.sql("insert into t values (1, 1), (9, 9); insert into u values (1)");
    world.records("t", 2);
    world.sql("begin; insert into u values (2); insert into t values (2, 'NaN'); insert into u values (3); commit");
    world.sql("insert into t values (3, 3); delete from t where id = 1; insert into u values (4)");

    // The other tables go on. Their changes and the quarantined ones are confirmed.
    let status = state(&agent, "public.t", "detached");
    assert_eq!(status.reason, "row_unencodable");
    assert!(status.detail.contains("column `n`"), "{}", status.detail);
    assert!(status.next.contains("wellspring snapshot public.t"), "{}", status.next);
    world.records("u", 4);
    is_confirmed(&world, &agent);
    let quarantined = world.until_in(TOPIC, |rows| rows.len() >= 3);
    assert_eq!(ops(&quarantined), ["c 2", "c 3", "d 1"]);
    assert_eq!(
        (&quarantined[0].key, &quarantined[0].value["after"]["n"]),
        (&"public.t".into(), &"NaN".into())
    );
    let gap = status.gap.unwrap();
    assert_eq!(
        (quarantined[0].value["commit_lsn"].as_str(), gap.ordinal),
        (Some(gap.commit_lsn.to_string().as_str()), 1)
    );
    agent.stop();

    // A restart keeps the table detached, also under a configuration that detaches no table.
    let agent = world.agent("");
    agent.streams();
    world.sql(
        "insert into t values (4, 4); update t set n = 10 where id = 9; insert into u values (5)",
    );
    let quarantined = world.until_in(TOPIC, |rows| rows.len() >= 5);
    assert_eq!(ops(&quarantined[3..]), ["c 4", "u 9"]);
    world.records("u", 5);
    assert_eq!(state(&agent, "public.t", "detached").gap.unwrap().commit_lsn, gap.commit_lsn);
    assert_eq!(world.records("t", 2).len(), 2, "nothing of it reached its own topic");

    let said = world.check("");
    let expected =
        format!("table public.t is detached, its topic lacks changes from {}", gap.commit_lsn);
    assert!(said.contains(&expected) && said.contains("wellspring snapshot public.t"), "{said}");

    // A copy that cannot end repairs nothing: the cause has to go first.
    let why = snapshot(&agent, Some("id > 3")).unwrap_err();
    assert!(why.contains("without a condition"), "{why}");
    let begun = snapshot(&agent, None).unwrap();
    assert!(
        begun.contains("copied while") && begun.contains(TOPIC) && begun.contains("deleted since"),
        "{begun}"
    );
    agent.until("the copy failed", |status| {
        status.windows.iter().any(|copy| copy.reason == "window_row_refused")
    });
    let status = state(&agent, "public.t", "repairing");
    assert_eq!(status.gap.unwrap().commit_lsn, gap.commit_lsn);
    agent.stop();

    // A restart repairs nothing either: the copy goes on, the table's changes flow, and its gap
    // stays recorded.
    let agent = world.agent("");
    agent.until("the copy failed", |status| {
        status.windows.iter().any(|copy| copy.reason == "window_row_refused")
    });
    assert_eq!(state(&agent, "public.t", "repairing").gap.unwrap().commit_lsn, gap.commit_lsn);
    world.sql("insert into t values (5, 5)");
    world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 5));

    world.sql("update t set n = 2 where id = 2");
    snapshot(&agent, None).unwrap();
    let status = state(&agent, "public.t", "streaming");
    assert!(status.gap.is_none() && status.reason.is_empty(), "{status:?}");
    agent.stop();

    // After the repair a restart begins no copy, and changes flow.
    let agent = world.agent("");
    let status = agent.streams();
    assert!(status.windows.is_empty() && status.tables["public.t"].gap.is_none(), "{status:?}");
    world.sql("insert into t values (6, 6)");
    let rows =
        world.until("t", |rows| rows.last().is_some_and(|row| row.value["after"]["id"] == 6));
    let mut kept = newest(&rows);
    // A row that was deleted while the table was detached stays in the topic. Its delete is in the
    // quarantine topic.
    assert!(kept.remove(&1).is_some());
    let table = world.sql("select id from t order by id");
    let ids: Vec<String> = kept.keys().map(i64::to_string).collect();
    assert_eq!(ids, table.split_whitespace().collect::<Vec<_>>());
    let value = |id: i64| kept[&id]["value"].as_str().map(str::to_owned).unwrap();
    assert_eq!((value(2), value(9)), ("Ag==".to_owned(), "Cg==".to_owned()));
    assert_eq!(world.until_in(TOPIC, |_| true).len(), 5, "nothing more was quarantined");
    agent.stop();
}

#[test]
fn a_table_without_a_key_is_repaired_by_a_copy_of_it_whole() {
    let keyless =
        "create table t (id int, n numeric not null); alter table t replica identity full";
    let world = World::with(BRISK, keyless, &["t"]);
    let agent = world.agent(DETACH);
    agent.streams();
    world.sql("insert into t values (1, 1)");
    world.records("t", 1);
    world.sql("insert into t values (2, 'NaN'); insert into t values (3, 3)");
    state(&agent, "public.t", "detached");
    world.sql("update t set n = 2 where id = 2");
    world.until_in(TOPIC, |rows| rows.len() >= 3);
    snapshot(&agent, None).unwrap();
    state(&agent, "public.t", "streaming");
    world.sql("insert into t values (4, 4)");
    let rows = world.records("t", 5);
    let ids: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.value["op"], row.value["after"]["id"]))
        .collect();
    assert_eq!(ids, ["\"c\" 1", "\"r\" 1", "\"r\" 3", "\"r\" 2", "\"c\" 4"]);
    agent.stop();
}

/// A copy cannot bring the rows of an outbox, so `wellspring snapshot` only lets its changes flow
/// again. Nothing is sent twice.
#[test]
fn a_repaired_outbox_flows_again_without_a_copy() {
    let tables =
        "create table t (id int primary key, aggregatetype text, aggregateid text, payload text)";
    let world = World::with(BRISK, tables, &[]);
    world.topic("outbox.event.ann");
    let settings = format!("{DETACH}\n[[transform]]\ntype = \"outbox\"");
    let agent = world.agent(&settings);
    agent.streams();
    world.sql("insert into t values (1, 'ann', 'k', 'x')");
    agent.until("the first event arrives", |_| world.end("outbox.event.ann") == 1);
    world.sql("insert into t values (2, 'no topic', 'k', 'y'), (3, 'ann', 'k', 'z')");
    state(&agent, "public.t", "detached");
    let quarantined = world.until_in(TOPIC, |rows| rows.len() >= 2);
    assert_eq!(ops(&quarantined), ["c 2", "c 3"]);

    let said = snapshot(&agent, None).unwrap();
    assert!(said.contains("not copied") && said.contains(TOPIC), "{said}");
    let is_detached = |table: &TableStatus| table.state == "detached";
    agent.until("it is taken up", |status| !status.tables.get("public.t").is_some_and(is_detached));
    world.sql("insert into t values (4, 'ann', 'k', 'w')");
    agent.until("a later event arrives", |_| world.end("outbox.event.ann") == 2);
    is_confirmed(&world, &agent);
    agent.stop();

    // The state record of the detached table is gone, so an agent sends events after a restart too.
    let agent = world.agent(&settings);
    agent.streams();
    world.sql("insert into t values (5, 'ann', 'k', 'v')");
    agent.until("an event arrives after a restart", |_| world.end("outbox.event.ann") == 3);
    agent.stop();
    assert_eq!(world.end(TOPIC), 2);
}
