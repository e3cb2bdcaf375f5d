//! Tests of Relation messages that differ from the tables in the checkpoint. The stream can show an
//! old name or an old relation after the catalog has neither, so no look and no connect can find
//! the difference.

use crate::support::world::{Running, World};
use wellspring::status::Status;

const EVERY: &str = "create table t (id int primary key, v varchar(10));
    create publication wellspring_p for all tables";

/// Runs an agent that sends one row and is stopped. Then runs the statements, and starts another
/// agent.
fn meanwhile(before: &str, statements: &str) -> (World, Running) {
    let world = World::new(before, &["t", "u"]);
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    agent.stop();
    world.sql(statements);
    let again = world.agent("");
    (world, again)
}

/// Checks that the detail of the halt has each of these words.
#[track_caller]
fn names(halted: &Status, words: &[&str]) {
    for words in words {
        assert!(halted.detail.contains(words), "{words}: {}", halted.detail);
    }
}

/// Waits until the topic of a table has a row with the id `last`, and returns the ids of all rows.
fn ids(world: &World, table: &str, last: i64) -> Vec<i64> {
    let id = |value: &serde_json::Value| value["after"]["id"].as_i64();
    let rows = world.until(table, |rows| rows.iter().any(|row| id(&row.value) == Some(last)));
    rows.iter().filter_map(|row| id(&row.value)).collect()
}

#[test]
fn rows_under_another_name_halt_also_once_it_is_back() {
    let (world, agent) = meanwhile(
        "create table t (id int primary key)",
        "insert into t values (2); alter table t rename to x;
         insert into x values (3); alter table x rename to t; insert into t values (4)",
    );
    let halted = agent.halts("table_left");
    let oid = world.sql("select 't'::regclass::oid");
    names(&halted, &["public.x", "public.t", oid.trim(), "wellspring snapshot public.t"]);
    let (at, range) = (halted.stands_at.clone().unwrap(), halted.range.unwrap());
    assert_eq!((&*at.table, at.ordinal, range.from), ("public.t", 0, at.commit_lsn));
    assert!(range.from < range.to, "{range:?}");
    assert_eq!(ids(&world, "t", 2), [1, 2], "what came before the halt is delivered");
    agent.stop();
    let again = world.agent("");
    assert_eq!(again.halts("table_left").range, Some(range), "a start keeps the halt");
    world.command("", &["slot", "accept"]);
    again.streams();
    assert_eq!(ids(&world, "t", 4), [1, 2, 4], "a consent passes the rows");
    again.stop();
}

#[test]
fn another_relation_under_a_captured_name_halts() {
    let (world, agent) = meanwhile(
        EVERY,
        "create table t_new (like t including all);
         begin; alter table t rename to t_old; alter table t_new rename to t; commit;
         insert into t values (2);
         begin; alter table t rename to t_new; alter table t_old rename to t; commit;
         drop table t_new; insert into t values (3)",
    );
    let halted = agent.halts("table_swapped");
    let oid = world.sql("select 't'::regclass::oid");
    names(&halted, &["public.t", oid.trim(), "wellspring snapshot public.t"]);
    assert_eq!(ids(&world, "t", 1), [1]);
    world.command("", &["slot", "accept"]);
    agent.streams();
    assert_eq!(*ids(&world, "t", 3).last().unwrap(), 3);
    agent.stop();
}

#[test]
fn a_table_that_joins_under_a_new_name_is_no_halt() {
    let tables = "[tables]\ninclude = [\"public.u\"]\n";
    let (world, agent) = meanwhile(EVERY, "insert into t values (2); alter table t rename to u");
    agent.halts("table_not_published");
    agent.stop();
    world.sql("insert into u values (3)");
    let renamed = world.agent(tables);
    renamed.streams();
    world.sql("insert into u values (4)");
    assert!(ids(&world, "u", 4).contains(&3), "its rows from before the join are those of t");
    renamed.stop();
}

#[test]
fn wal_that_lacks_the_publication_halts_and_can_be_passed() {
    let (world, agent) = meanwhile(
        "create table t (id int primary key)",
        "alter publication wellspring_p rename to q; insert into t values (2);
         alter publication q rename to wellspring_p; insert into t values (3)",
    );
    let halted = agent.halts("publication_absent");
    let range = halted.range.unwrap();
    assert!(range.from < range.to && halted.needs_a_person, "{halted:?}");
    agent.stop();
    let again = world.agent("");
    assert_eq!(again.halts("publication_absent").range, Some(range), "a start keeps the halt");
    world.command("", &["slot", "accept"]);
    again.streams();
    world.sql("insert into t values (4)");
    assert!(!ids(&world, "t", 4).contains(&2), "the row was lost");
    again.stop();
}
