//! A change that is skipped by consent: only this change is, the state has who consented and why,
//! and the quarantine topic has the change.

use super::repair::{TOPIC, ops};
use crate::support::world::{Running, World};
use std::collections::BTreeMap;
use wellspring::agent::request::Request;
use wellspring::change::Position;
use wellspring::continuity::skipped::{Consent, Skipped};
use wellspring::continuity::{Answer, Refused};

fn state(world: &World) -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { world.config("").open_state().await.unwrap().read_all().await.unwrap() })
}

/// Asks to skip a change, again and again until the changes before it are delivered.
fn skip(agent: &Running, table: &str, at: Position, why: &str) -> Answer {
    loop {
        let (by, why) = ("ada".to_owned(), why.to_owned());
        match agent.ask(Request::Skip(Consent { table: table.to_owned(), at, by, why })) {
            Err(Refused::NotAvailable(why)) if why.contains("ask again") => {
                std::thread::yield_now();
            }
            answer => return answer,
        }
    }
}

#[test]
fn only_the_change_of_the_halt_is_skipped_by_recorded_consent() {
    let world = World::new("create table t (id int primary key, n numeric not null)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    world.sql(
        "begin; insert into t values (1, 1); insert into t values (2, 'NaN'); insert into t values (3, 3); commit",
    );
    let status = agent.halts("row_unencodable");
    assert!(status.next.contains("wellspring skip"), "{}", status.next);
    let commit = status.range.unwrap().from;
    assert!(
        status.detail.contains(&format!("table public.t at commit {commit} ordinal 1")),
        "{}",
        status.detail
    );
    let ask = |ordinal: u64, why: &str| skip(&agent, "public.t", Position { commit, ordinal }, why);
    for (ordinal, why) in [(2, "ticket 7"), (1, "")] {
        assert!(matches!(ask(ordinal, why), Err(Refused::Faulty(_))), "{ordinal} {why:?}");
    }
    let said = ask(1, "ticket 7").unwrap().0;
    assert!(said.contains("ada") && said.contains(TOPIC), "{said}");
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 3));
    assert!(rows.iter().all(|row| row.value["after"]["id"] != 2));
    assert_eq!(ops(&world.until_in(TOPIC, |rows| !rows.is_empty())), ["c 2"]);
    let records = state(&world);
    assert!(!records.contains_key("halt/wellspring_p"), "the consent removes the recorded halt");
    let (_, record) =
        records.iter().find(|(key, _)| key.starts_with("skipped/wellspring_p/")).unwrap();
    let record: Skipped = serde_json::from_str(record).unwrap();
    assert_eq!(
        (record.by.as_str(), record.why.as_str(), record.at()),
        ("ada", "ticket 7", Position { commit, ordinal: 1 })
    );
    // The next such change halts the stream again.
    world.sql("insert into t values (4, 'NaN')");
    agent.halts("row_unencodable");
    agent.stop();
}

#[test]
fn a_logical_message_too_large_is_skipped_by_consent() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    world.topic("p.message");
    let agent = world.agent("");
    agent.streams();
    for (at, transactional) in [true, false].into_iter().enumerate() {
        world.sql(&format!(
            "begin; select pg_logical_emit_message({transactional}, 'huge', repeat('x', 2000000));
             insert into t values ({at}); commit"
        ));
        let halted = agent.halts("record_too_large");
        let stands = halted.stands_at.clone().unwrap();
        assert!(halted.next.contains("wellspring skip"), "{}", halted.next);
        let place = Position { commit: stands.commit_lsn, ordinal: stands.ordinal };
        let said = skip(&agent, &stands.table, place, "ticket 8").unwrap().0;
        assert!(said.contains("ada") && said.contains(TOPIC), "{said}");
        agent.streams();
        world.records("t", at + 1);
    }
    world.sql("select pg_logical_emit_message(true, 'small', 'x')");
    world.until_in("p.message", |rows| rows.len() == 1);
    let told = world.until_in(TOPIC, |rows| rows.len() >= 2);
    for row in &told {
        let of = |field: &str| row.value[field].as_str().unwrap_or_default().to_owned();
        assert_eq!((of("op"), of("prefix")), ("m".to_owned(), "huge".to_owned()), "{}", row.value);
        assert!(row.value["values_left_out"]["size_bytes"].as_u64().unwrap() > 2_000_000);
    }
    assert_eq!(told[1].value["xid"], serde_json::Value::Null, "it has no transaction");
    let records = state(&world);
    assert_eq!(records.keys().filter(|key| key.starts_with("skipped/wellspring_p/")).count(), 2);
    agent.stop();
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (9)");
    world.records("t", 3);
    agent.stop();
}
