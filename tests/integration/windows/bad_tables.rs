//! Tests of faults in the backfill of one table. The fault is reported for this table with the next
//! step, and the other tables go on.

use super::requests::is_done;
use crate::support::world::World;

/// Settings that leave seconds between two chunks of a table, and conditions that fail.
const SLOW: &str = "[snapshot]\nmode = \"windows\"\nrows_per_second = 300\n[snapshot.where]\n\
    \"public.bad_where\" = \"id = (\"\n\"public.broken\" = \"1 / (id - 99) > -9\"";

#[test]
fn an_uncopyable_table_tells_the_next_step_and_others_go_on() {
    let tables =
        ["bad_where", "bag", "barred", "broken", "gone", "guarded", "nan", "plain", "shaped"];
    let world = World::new(
        "create role ws login replication;
         alter role ws set statement_timeout = '1ms'; alter role ws set lock_timeout = '1ms';
         alter role ws set idle_in_transaction_session_timeout = '1ms';
         create table bad_where (id int primary key); create table broken (id int primary key);
         create table bag (v int); alter table bag replica identity full;
         create table barred (id int primary key); create table guarded (id int primary key);
         create table gone (id int primary key); create table shaped (id int primary key, v text, w text);
         create table nan (id int primary key, n numeric not null); create table plain (id int primary key);
         insert into bad_where values (1); insert into broken select generate_series(1, 100);
         insert into bag values (1); insert into barred values (1); insert into guarded values (1);
         insert into gone select generate_series(1, 1500); insert into shaped select i, 'v' from generate_series(1, 1500) i;
         insert into nan values (1, 1), (2, 'NaN'); insert into plain select generate_series(1, 500);
         grant select on bad_where, broken, gone, guarded, nan, plain, shaped to ws;
         alter table guarded enable row level security;
         create publication wellspring_p for table bad_where, bag, barred, broken, gone, guarded, nan, plain, shaped",
        &tables,
    );
    let agent = world.agent_as("ws", SLOW);
    let is_half_copied = |table: &str| {
        agent.until("the table is half copied", |status| {
            status.windows.iter().any(|window| window.table == table && window.chunks == 1)
        });
    };
    is_half_copied("public.gone");
    world.sql("drop table gone");
    // The stream halts, because a dropped table may have lost changes. The copies go on afterwards.
    agent.halts("table_left");
    world.command(SLOW, &["slot", "accept"]);
    agent.streams();
    is_half_copied("public.shaped");
    world.sql("alter table shaped drop column v, alter column w type varchar(40)");
    is_done(&agent, "public.plain");
    is_done(&agent, "public.shaped");
    let failed = |status: &wellspring::status::Status| {
        status.windows.iter().filter(|window| window.state == "failed").count()
    };
    let status = agent.until("the others have failed", |status| failed(status) == 6);
    for (table, detail, next) in [
        ("public.bad_where", "syntax error", "correct snapshot.where"),
        ("public.bag", "permission denied", "GRANT SELECT ON public.bag"),
        ("public.barred", "permission denied", "GRANT SELECT ON public.barred"),
        ("public.broken", "SQLSTATE 22012", "correct snapshot.where"),
        ("public.guarded", "row-level security", "BYPASSRLS"),
        ("public.nan", "column `n`", "wellspring snapshot public.nan"),
    ] {
        let window = status.windows.iter().find(|window| window.table == table).unwrap();
        assert_eq!(window.state, "failed", "{window:?}");
        assert!(window.detail.contains(detail) && window.next.contains(next), "{window:?}");
        // The journal of a table that was not copied does not say that its copy has ended.
        let journal =
            world.state(&format!("window/wellspring_p/{table}")).unwrap()["journal"].clone();
        assert_eq!(journal["ended"], false, "{table}: {journal}");
    }
    let shaped = world.until("shaped", |rows| rows.len() >= 1500);
    let last: std::collections::BTreeMap<i64, bool> = shaped
        .iter()
        .map(|row| {
            (row.value["after"]["id"].as_i64().unwrap(), row.value["after"].get("v").is_none())
        })
        .collect();
    assert_eq!(
        (last.len(), last.values().all(|newest| *newest)),
        (1500, true),
        "every row is told in its last shape"
    );
    world.records("plain", 500);
    world.sql("insert into barred values (2); insert into plain values (0)");
    assert_eq!(world.records("barred", 1)[0].place(), "c false {\"id\":2}");
    world.records("plain", 501);
    // A table whose copy failed can be copied once the cause is gone.
    world.sql("grant select on barred to ws");
    agent
        .ask(wellspring::agent::request::Request::Snapshot {
            tables: vec!["public.barred".to_owned()],
            filter: None,
        })
        .unwrap();
    is_done(&agent, "public.barred");
    world.records("barred", 3);
    agent.stop();
}

/// A table that is rewritten between the slot's snapshot and the lock is empty in that snapshot,
/// and the log does not have the rewrite. The test rewrites it while the partitions are being
/// locked.
#[test]
fn a_table_rewritten_before_its_lock_is_copied_by_a_backfill() {
    let world = World::new(
        "create table a (id int primary key) partition by range (id);
         select format('create table a_%s partition of a for values from (%s) to (%s)', i, i, i + 1)
           from generate_series(1, 300) i \\gexec
         insert into a select generate_series(1, 300);
         create table gone (id int primary key); insert into gone values (1);
         create table rewritten (id int primary key, v int);
         insert into rewritten select i, i from generate_series(1, 1000) i;
         create publication wellspring_p for table a, gone, rewritten with (publish_via_partition_root = true)",
        &["a", "gone", "rewritten"],
    );
    let mut ddl = world.server.psql("postgres");
    ddl.args([
        "-c",
        "do $$ begin while not exists (select from pg_locks where relation = 'a_1'::regclass)
           loop perform pg_sleep(0.001); end loop; end $$",
        "-c",
        "alter table rewritten alter v type bigint",
        "-c",
        "drop table gone",
    ]);
    let mut ddl = ddl.spawn().unwrap();
    let agent =
        world.agent("[tables]\ninclude = [\"public.a\", \"public.gone\", \"public.rewritten\"]");
    let copy = agent.streams().copy.unwrap();
    assert!(ddl.wait().unwrap().success());
    assert_eq!(
        (copy.tables["public.a"].state.as_str(), copy.tables["public.a"].rows),
        ("copied", 300)
    );
    for table in ["public.gone", "public.rewritten"] {
        let of = &copy.tables[table];
        assert_eq!(of.state, "owed", "{table}: {of:?}");
        assert!(of.reason.contains("rewritten") && of.next.contains("backfill"), "{table}: {of:?}");
    }
    is_done(&agent, "public.rewritten");
    assert_eq!(world.records("rewritten", 1000).len(), 1000);
    let status = agent.until("gone", |status| {
        status.windows.iter().any(|window| window.reason == "window_not_published")
    });
    let gone = status.windows.iter().find(|window| window.table == "public.gone").unwrap();
    assert!(
        gone.detail.contains("public.gone")
            && gone.next.contains("wellspring snapshot public.gone"),
        "{gone:?}"
    );
    assert!(
        world.state("copied/wellspring_p/1/public.gone").is_none(),
        "nothing says that it is copied"
    );
    agent.stop();
}
