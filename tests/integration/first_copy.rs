//! Tests of the first copy by the whole agent, between a real Postgres and a mock cluster: which
//! rows are copied, what the status says, what follows in the stream, and what happens at faults.

mod faults;
mod modes;

use crate::support::world::{self, World};

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
    world.sql(
        "insert into a values (4, 'late'); update b set v = 'new'; delete from a where id = 1",
    );
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
    assert!(
        first.source("lsn") <= late.source("lsn") && first.source("txId") < late.source("txId")
    );
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
    assert_eq!(
        (copy.rows, copy.tables["public.a"].rows, copy.tables["public.c"].state.as_str()),
        (6, 3, "copied")
    );
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

/// SQL that inserts a row in a session with a replication origin, as logical replication does, and
/// another row without one.
const BROUGHT_IN: &str = "select pg_replication_origin_create('elsewhere');
    select pg_replication_origin_session_setup('elsewhere'); insert into a values (1, 'brought in');
    select pg_replication_origin_session_reset(); insert into a values (2, 'made here')";

#[test]
fn replicated_changes_are_left_out_where_the_server_knows_them() {
    let world = World::new("create table a (id int primary key, v text)", &["a"]);
    let more = "origin = \"none\"";
    let version: u32 =
        world.sql("select current_setting('server_version_num')").trim().parse().unwrap();
    let agent = world.agent_with(more, "");
    if version < 160_000 {
        let status = agent.until("a refusal", |status| !status.detail.is_empty());
        assert!(status.detail.contains("which Postgres 15 does not know"), "{status:#?}");
        return;
    }
    agent.streams();
    world.sql(BROUGHT_IN);
    let rows = world.records("a", 1);
    assert_eq!(rows[0].place(), "c false {\"id\":2}");
    agent.stop();
}

#[test]
fn streamed_rows_have_the_slots_xmin_and_copied_ones_none() {
    let world =
        World::new("create table a (id int primary key, v text); insert into a values (1)", &["a"]);
    let agent = world.agent_with("", "xmin_interval = \"1s\"");
    agent.streams();
    world.sql(BROUGHT_IN.replace("(1, 'brought in')", "(3, 'brought in')").as_str());
    let rows = world.records("a", 3);
    assert!(rows[0].value["source"]["xmin"].is_null());
    let xid = rows[1].source("txId");
    assert!((3..=xid).contains(&rows[1].source("xmin")), "{}", rows[1].value);
    assert_eq!(rows[1].value["source"]["origin"], "elsewhere");
    agent.stop();
}

#[test]
fn replica_identities_are_set_only_where_asked_and_different() {
    let world = World::new(
        "create table a (id int primary key, v text); create table b (id int primary key, code text not null);
         create unique index by_code on b (code); create table c (id int primary key); create table keyless (v text);
         create table parts (id int primary key) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (10)",
        &["a", "b", "c", "keyless", "parts"],
    );
    let identities = "[tables.set_replica_identity]\n\"public.a\" = \"FULL\"\n\"public.b\" = \"INDEX by_code\"\n\
                      \"public.keyless\" = \"full\"\n\"public.parts\" = \"FULL\"\n\"regex:PUBLIC\\\\.a\" = \"FULL\"\n";
    let agent = world.agent(&format!("[tables]\ninclude = [\"public.*\"]\n{identities}"));
    agent.streams();
    let shown =
        "select string_agg(relname::text || relreplident::text, ' ' order by relname) from pg_class
                 where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace";
    assert_eq!(world.sql(shown).trim(), "af bi cd keylessf partsf parts_1f");
    agent.stop();
    // Without the option the agent leaves the replica identities as they are.
    world.sql("alter table a replica identity default");
    let agent = world.agent("[tables]\ninclude = [\"public.*\"]\n");
    agent.streams();
    assert_eq!(world.sql(shown).trim(), "ad bi cd keylessf partsf parts_1f");
    agent.stop();
}

#[test]
fn an_identity_that_would_make_updates_fail_is_refused() {
    let world = World::new(
        "create table keyless (v text); alter table keyless replica identity full",
        &["keyless"],
    );
    let agent = world
        .agent("[tables]\ninclude = [\"public.*\"]\n[tables.set_replica_identity]\n\"public.keyless\" = \"DEFAULT\"\n");
    let status = agent.until("a refusal", |status| !status.detail.is_empty());
    assert!(status.detail.contains("public.keyless has no primary key"), "{status:#?}");
    agent.ends();
    assert_eq!(
        world.sql("select relreplident from pg_class where relname = 'keyless'").trim(),
        "f"
    );
}

#[test]
fn tables_of_one_topic_are_copied_and_streamed_with_own_keys() {
    let world = World::new(
        "create table shard_1_orders (id int primary key); create table shard_2_orders (id int primary key);
         insert into shard_1_orders values (1)",
        &["orders"],
    );
    let agent = world.agent(
        "[topics]\nprefix = \"p\"\nregex = '(.*)shard_\\d+_(.*)'\nreplacement = \"$1$2\"\nkey_field = \"shard\"\n",
    );
    agent.streams();
    world.sql("insert into shard_2_orders values (1)");
    world.sql("delete from shard_1_orders");
    let shown: Vec<_> = world.records("orders", 3).iter().map(world::Row::place).collect();
    assert_eq!(
        shown,
        [
            r#"r last {"id":1,"shard":"p.public.shard_1_orders"}"#,
            r#"c false {"id":1,"shard":"p.public.shard_2_orders"}"#,
            r#"d false {"id":1,"shard":"p.public.shard_1_orders"}"#
        ]
    );
    agent.stop();
}

#[test]
fn a_copy_that_ends_the_process_is_told_of_to_its_end() {
    let world = World::new(
        "create table a (id int primary key); insert into a values (1)",
        &["a", "notes"],
    );
    let agent = world
        .agent("[snapshot]\nmode = \"initial_only\"\n[topics]\nprefix = \"p\"\nnotifications = \"p.public.notes\"\n");
    agent.ends();
    let notes =
        world.until("notes", |rows| rows.iter().any(|row| row.value["type"] == "COMPLETED"));
    let told: Vec<_> = notes.iter().map(|row| row.value["type"].as_str().unwrap()).collect();
    assert_eq!(told, ["STARTED", "IN_PROGRESS", "TABLE_SCAN_COMPLETED", "COMPLETED"]);
    assert_eq!(notes[2].value["additional_data"]["total_rows_scanned"], "1");
}
