//! Counts the requests that planning many tables sends to the catalog, the brokers and the
//! registry.

use crate::support::world::{Running, World};
use wellspring::peers::registry::Registry;

const TABLES: usize = 60;

/// A world whose server logs each statement, with tables `t0`, `t1`, .. of one row each.
fn world() -> (World, Registry) {
    let tables: String = (0..TABLES)
        .map(|n| {
            format!(
                "create table t{n} (id int primary key, v text); insert into t{n} values (1, 'a');"
            )
        })
        .collect();
    let world = World::with(&[("log_statement", "all")], &tables, &[]);
    (world, Registry::start(([127, 0, 0, 1], 0).into(), "BACKWARD").unwrap())
}

fn agent(world: &World, registry: &Registry, mode: &str) -> Running {
    world.agent(&format!(
        "[events]\nformat = \"avro\"\n[registry]\nurl = \"{}\"\n[snapshot]\nmode = \"{mode}\"",
        registry.url()
    ))
}

/// Number of statements in the server's log that read facts of tables.
fn catalog_reads(world: &World) -> usize {
    world.server.log().matches("unnest($1::oid[]) AS wanted(oid)").count()
}

/// Waits until `count` records are delivered.
#[track_caller]
fn delivers(agent: &Running, count: usize) {
    agent
        .until("delivered", |_| agent.metric("wellspring_records_delivered_total") >= count as f64);
}

fn insert(world: &World, id: usize) {
    let inserts: String =
        (0..TABLES).map(|n| format!("insert into t{n} values ({id}, 'a');")).collect();
    world.sql(&format!("begin; {inserts} commit;"));
}

#[track_caller]
fn asked(agent: &Running, what: &str) -> usize {
    agent.metric(&format!("wellspring_{what}_requests_total")) as usize
}

#[test]
fn tables_of_a_first_copy_are_planned_in_one_batch() {
    let (world, registry) = world();
    let agent = agent(&world, &registry, "initial");
    delivers(&agent, TABLES);
    agent.streams();
    assert_eq!(asked(&agent, "registry"), 2 * TABLES);
    assert_eq!(asked(&agent, "topic"), 2, "one describes and one creates");
    assert_eq!(catalog_reads(&world), 1);
    agent.stop();
}

#[test]
fn tables_that_the_stream_announces_are_planned_together() {
    let (world, registry) = world();
    let agent = agent(&world, &registry, "no_data");
    agent.streams();
    insert(&world, 2);
    delivers(&agent, TABLES);
    assert_eq!(asked(&agent, "registry"), 2 * TABLES);
    // Tables of one read are planned together, and the transaction may come in several reads.
    assert!(asked(&agent, "topic") <= 10, "{}", asked(&agent, "topic"));
    assert!(catalog_reads(&world) <= 5, "{}", catalog_reads(&world));
    agent.stop();
}

#[test]
fn a_restart_asks_about_known_topics_once() {
    let (world, registry) = world();
    let first = agent(&world, &registry, "no_data");
    first.streams();
    insert(&world, 2);
    delivers(&first, TABLES);
    first.stop();
    let before = catalog_reads(&world);
    let again = agent(&world, &registry, "no_data");
    again.streams();
    insert(&world, 3);
    delivers(&again, TABLES);
    assert_eq!(asked(&again, "topic"), 1);
    assert_eq!(asked(&again, "registry"), 2 * TABLES, "each recorded id is proven once");
    assert!(catalog_reads(&world) - before <= 5, "{}", catalog_reads(&world) - before);
    again.stop();
}

#[test]
fn the_own_topic_of_a_table_that_names_topics_has_its_schemas() {
    let tables = "create table t0 (id int primary key, v text); insert into t0 values (1, 'a')";
    let world = World::with(&[], tables, &[]);
    let registry = Registry::start(([127, 0, 0, 1], 0).into(), "BACKWARD").unwrap();
    let agent = world.agent(&format!(
        "[events]\nformat = \"avro\"\n[registry]\nurl = \"{}\"\n[snapshot]\nmode = \"initial\"\n\
         [[transform]]\ntype = \"content-router\"\ntopic = \"op == 'r' ? null : 'others'\"",
        registry.url()
    ));
    delivers(&agent, 1);
    assert_eq!(asked(&agent, "registry"), 2, "key and value");
    agent.stop();
}

#[test]
fn more_partitions_than_the_topic_has_are_refused_in_planning() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let routed = "[snapshot]\nmode = \"no_data\"\n[[transform]]\ntype = \"partition-routing\"\n\
                  fields = [\"change.id\"]\npartitions = 2";
    let told = "partition-routing spreads records over 2 partitions, and topic `p.public.t` has 1";
    let checked = world.check(routed);
    assert!(checked.contains(&format!("public.t: {told}")), "{checked}");
    let agent = world.agent(routed);
    agent.streams();
    world.sql("insert into t values (1)");
    let status = agent.until("a refusal", |status| status.reason == "table_refused");
    assert!(status.detail.contains(&format!("table public.t: {told}")), "{}", status.detail);
    let next = "write partitions = 1 in the transform, or run kafka-topics --alter --topic \
                p.public.t --partitions 2";
    assert_eq!(status.next, next);
    agent.stop_in_a_copy(); // the row is not sent
}
