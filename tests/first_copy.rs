//! The first copy by the whole agent, between a real Postgres and a mock cluster: what is copied, what it says of itself,
//! what follows in the stream, and what happens when something is wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

#[path = "first_copy/world.rs"]
#[expect(dead_code, reason = "two test binaries share it, and neither needs all of it")]
mod world;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "first_copy/faults.rs"]
mod faults;
#[path = "first_copy/modes.rs"]
mod modes;

use world::World;

#[test]
fn rows_are_copied_with_their_places_and_the_stream_follows() {
    let world = World::new(
        "create table a (id int primary key, v text); create table b (id int primary key, v text);
         create table c (id int primary key); create table keyless (v text); alter table keyless replica identity full;
         insert into a select g, 'a' || g from generate_series(1, 3) g; insert into b values (1, E'tab\\tline\\nback\\\\slash');
         insert into keyless values ('x'), (null)",
        &["a", "b", "c", "keyless"],
    );
    let agent = world.agent("");
    agent.until("the copy's beginning", |status| status.copy.is_some());
    world.sql("insert into a values (4, 'late'); update b set v = 'new'; delete from a where id = 1");
    agent.streams();
    let rows = world.records("a", 5);
    let shown: Vec<_> = rows.iter().map(world::Row::place).collect();
    assert_eq!(
        shown,
        [
            "r first {\"id\":1}",
            "r true {\"id\":2}",
            "r last_in_data_collection {\"id\":3}",
            "c false {\"id\":4}",
            "d false {\"id\":1}"
        ]
    );
    let (first, late) = (&rows[0], &rows[3]);
    assert_eq!(first.source("lsn"), agent.status().copy.unwrap().consistent_point.bytes());
    assert!(first.source("lsn") <= late.source("lsn") && first.source("txId") < late.source("txId"));
    assert_eq!(first.value["source"]["sequence"], format!("[null,\"{}\"]", first.source("lsn")));
    let rows = world.records("b", 2);
    assert_eq!(
        rows.iter().map(world::Row::place).collect::<Vec<_>>(),
        ["r last_in_data_collection {\"id\":1}", "u false {\"id\":1}"]
    );
    assert_eq!(rows[0].value["after"]["v"], "tab\tline\nback\\slash");
    let rows = world.records("keyless", 2);
    assert_eq!(
        rows.iter().map(world::Row::place).collect::<Vec<_>>(),
        ["r first_in_data_collection null", "r last null"]
    );
    let copy = agent.status().copy.unwrap();
    assert_eq!((copy.rows, copy.tables["public.a"].rows, copy.tables["public.c"].state.as_str()), (6, 3, "copied"));
    agent.stop();

    // A second start copies nothing and goes on.
    world.sql("insert into c values (1)");
    let agent = world.agent("");
    agent.streams();
    assert_eq!(world.records("c", 1)[0].place(), "c false {\"id\":1}");
    assert_eq!(agent.status().copy, None);
    agent.stop();
    assert_eq!(world.records("a", 5).len(), 5);
}
