//! Causes other than a row that detach a table: a registry that refuses its schema, and a record
//! that no topic accepts. Without the operator's consent nothing detaches a table.

use super::repair::{BRISK, DETACH, TOPIC, is_confirmed, ops, snapshot, state};
use crate::support::world::World;
use std::io::{Read, Write};
use std::net::TcpStream;
use wellspring::peers::registry::Registry;

/// Sets the compatibility level of a subject at the built-in registry.
fn level(registry: &Registry, subject: &str, level: &str) {
    let address = registry.url().trim_start_matches("http://").to_owned();
    let body = format!("{{\"compatibility\":\"{level}\"}}");
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "PUT /config/{subject} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_refused_schema_detaches_its_table_and_others_go_on() {
    let registry = Registry::start(([127, 0, 0, 1], 0).into(), "BACKWARD").unwrap();
    let world = World::with(
        BRISK,
        "create table t (id int primary key, n int); create table u (id int primary key)",
        &["t", "u"],
    );
    let avro = format!(
        "[events]\nformat = \"avro\"\non_refusal = \"detach\"\n[registry]\nurl = \"{}\"",
        registry.url()
    );
    let agent = world.agent(&avro);
    agent.streams();
    world.sql("insert into t values (1, 1); insert into u values (1)");
    is_confirmed(&world, &agent);
    assert_eq!((world.end("p.public.t"), world.end("p.public.u")), (1, 1));
    world.sql("alter table t alter column id type text");
    world.sql("insert into u values (2); insert into t values ('2', 2); truncate t, u; insert into t values ('3', 3); insert into u values (3)");
    let status = state(&agent, "public.t", "detached");
    assert_eq!(status.reason, "schema_refused");
    for words in ["p.public.t-key", "BACKWARD wants", "'id'"] {
        assert!(status.detail.contains(words), "{words}: {}", status.detail);
    }
    is_confirmed(&world, &agent);
    let quarantined = world.until_in(TOPIC, |rows| rows.len() >= 3);
    assert_eq!(ops(&quarantined), ["c 2", "t ", "c 3"]);
    assert_eq!((world.end("p.public.t"), world.end("p.public.u")), (1, 4));

    let why = snapshot(&agent, None).unwrap_err();
    assert!(why.contains("stays detached") && why.contains("p.public.t-key"), "{why}");
    assert_eq!(state(&agent, "public.t", "detached").gap, status.gap);
    level(&registry, "p.public.t-key", "NONE");
    snapshot(&agent, None).unwrap();
    state(&agent, "public.t", "streaming");
    world.sql("insert into t values ('4', 4)");
    is_confirmed(&world, &agent);
    assert_eq!(world.end("p.public.t"), 3, "one row is copied, one streamed");
    assert_eq!(world.until_in(TOPIC, |_| true).len(), 3);
    agent.stop();
}

const WIDE: &str =
    "create table t (id int primary key, v text); create table u (id int primary key)";
const SMALL: &str = "[kafka.client]\n\"message.max.bytes\" = 20000";

#[test]
fn a_record_that_no_topic_takes_is_quarantined_without_values() {
    let world = World::new(WIDE, &["t", "u"]);
    let agent = world.agent(&format!("{SMALL}\n{DETACH}"));
    agent.streams();
    world.sql("insert into t values (1, 'a')");
    world.records("t", 1);
    // A changed key is a delete, a tombstone and a create. Only the create is too large.
    world.sql("update t set id = 2, v = repeat('x', 30000); insert into u values (1)");
    let status = state(&agent, "public.t", "detached");
    assert!(
        status.reason == "record_too_large" && status.detail.contains("`v` with 30000"),
        "{status:?}"
    );
    world.records("u", 1);
    let quarantined = world.until_in(TOPIC, |rows| !rows.is_empty());
    assert!(quarantined[0].value["values_left_out"]["size_bytes"].as_u64() > Some(30_000));
    assert!(quarantined[0].value.get("after").is_none());
    world.sql("update t set v = 'b'");
    let quarantined = world.until_in(TOPIC, |rows| rows.len() >= 2);
    assert_eq!(ops(&quarantined[1..]), ["u 2"]);
    assert_eq!(world.end("p.public.t"), 1);
    snapshot(&agent, None).unwrap();
    state(&agent, "public.t", "streaming");
    let rows = world.until("t", |rows| rows.len() >= 2);
    assert_eq!(
        (rows[1].place().as_str(), &rows[1].value["after"]["v"]),
        ("r incremental {\"id\":2}", &"b".into())
    );
    agent.stop();
}

#[test]
fn without_consent_it_halts_and_nothing_is_detached() {
    let world = World::new(WIDE, &["t", "u"]);
    let agent = world.agent(SMALL);
    agent.streams();
    world.sql("insert into t values (1, repeat('x', 30000))");
    let status = agent.halts("record_too_large");
    assert!(status.tables["public.t"].gap.is_none());
    assert_eq!(world.end(TOPIC), 0);
    agent.stop();
}

#[test]
fn a_partition_that_a_topic_lacks_detaches_its_table() {
    let tables = "create table t (id int primary key, aggregatetype text, aggregateid text, payload text, place int)";
    let world = World::with(BRISK, tables, &[]);
    world.topic("outbox.event.ann");
    let agent = world.agent(&format!(
        "{DETACH}\n[[transform]]\ntype = \"outbox\"\nplacement = [\"place:partition\"]"
    ));
    agent.streams();
    world.sql("insert into t values (1, 'ann', 'k', 'x', 0), (2, 'ann', 'k', 'y', null)");
    agent.until("both arrive", |_| world.end("outbox.event.ann") == 2);
    for (id, place) in [(3, 1000), (4, -1)] {
        world.sql(&format!("insert into t values ({id}, 'ann', 'k', 'z', {place})"));
        let status = state(&agent, "public.t", "detached");
        assert_eq!(status.reason, "row_unencodable");
        assert!(status.detail.contains("names none of the"), "{}", status.detail);
        let answered = snapshot(&agent, None).unwrap();
        assert!(answered.contains("not copied"), "{answered}");
    }
    agent.stop();
    assert_eq!(world.end("outbox.event.ann"), 2);
}
