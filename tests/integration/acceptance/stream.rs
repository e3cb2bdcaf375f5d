//! Acceptance cases of the stream: names, restarts within a transaction, replica identities that
//! change, heartbeats, messages and slots.

use crate::support::world::{PATIENCE, Row, World, wait_until};
use serde_json::json;
use std::process::Stdio;
use std::time::Instant;
use wellspring::agent::request::Request;
use wellspring::status::Phase;

fn places(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::place).collect()
}

/// Covers the cases S26, S41, R28, R29 and D14 of `docs/acceptance.md`.
#[test]
fn any_name_and_a_table_without_columns_are_copied_and_streamed() {
    let world = World::new(
        r#"create schema "Quoted_"" . Schema"; create schema "schema_名";
           create table "Quoted_"" . Schema"."Quoted_"" . Table" (id int primary key, "a" text, "A" text, "名🚀 "".c" text);
           create table "schema_名"."t\é" (id int primary key); create table "schema_名".empty ();
           alter table "schema_名".empty replica identity full;
           insert into "Quoted_"" . Schema"."Quoted_"" . Table" values (1, 'lower', 'upper', 'odd');
           insert into "schema_名".empty default values"#,
        &[],
    );
    for topic in ["p.Quoted___._Schema.Quoted___._Table", "p.schema__.t__", "p.schema__.empty"] {
        world.topic(topic);
    }
    let agent = world.agent("[tables]\ninclude = ['regex:(quoted|schema).*']");
    agent.streams();
    world.sql(
        r#"insert into "Quoted_"" . Schema"."Quoted_"" . Table" values (2, 'l', 'U', 'o'); insert into "schema_名"."t\é" values (3);
           insert into "schema_名".empty default values"#,
    );
    let quoted = world.until_in("p.Quoted___._Schema.Quoted___._Table", |rows| rows.len() == 2);
    assert_eq!(
        quoted[0].value["after"],
        json!({"id": 1, "a": "lower", "A": "upper", "名🚀 \".c": "odd"})
    );
    assert_eq!(quoted[1].value["after"], json!({"id": 2, "a": "l", "A": "U", "名🚀 \".c": "o"}));
    assert_eq!(quoted[1].value["source"]["schema"], "Quoted_\" . Schema");
    let odd = world.until_in("p.schema__.t__", |rows| rows.len() == 1);
    assert_eq!(
        (odd[0].place().as_str(), &odd[0].value["source"]["table"]),
        ("c false {\"id\":3}", &"t\\é".into())
    );
    let empty = world.until_in("p.schema__.empty", |rows| rows.len() == 2);
    assert_eq!((&empty[0].value["after"], &empty[1].value["after"]), (&json!({}), &json!({})));
    agent.stop();
}

/// Covers the cases R09, R10, C02 and C20 of `docs/acceptance.md`.
#[test]
fn transactions_over_a_restart_arrive_whole_in_commit_order() {
    let world = World::new("create table a (id int primary key, v text)", &["a"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    // A prepared transaction is open in the log like any other, and it outlives its session.
    world.sql("begin; insert into a values (1, 'begun first'), (2, 'begun first'); prepare transaction 'first'");
    world.sql("begin; insert into a values (3, 'committed first'); commit");
    world.records("a", 1);
    agent.stop();
    world.sql("insert into a values (4, 'while stopped')");
    let agent = world.agent("");
    world.records("a", 2);
    agent.stop();
    world.sql("commit prepared 'first'; insert into a values (5, 'last')");
    let agent = world.agent("");
    let ids: Vec<_> = world
        .records("a", 5)
        .iter()
        .map(|row| row.value["after"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [3, 4, 1, 2, 5]);
    agent.stop();
}

/// Case X17 of `docs/acceptance.md`: an old row has the columns of the replica identity at the time
/// of its change.
#[test]
fn an_identity_changed_between_statements_counts_from_there_on() {
    let world = World::new(
        "create table a (id int primary key, v text); insert into a values (1, 'x')",
        &["a"],
    );
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    world.sql(
        "update a set v = 'y'; alter table a replica identity full; update a set v = 'z';
         alter table a replica identity default; update a set v = 'w'; delete from a",
    );
    let rows = world.records("a", 4);
    let before: Vec<_> = rows.iter().map(|row| row.value["before"].clone()).collect();
    assert_eq!(
        before,
        [json!(null), json!({"id": 1, "v": "y"}), json!(null), json!({"id": 1, "v": null})]
    );
    agent.stop();
}

/// Case R31 of `docs/acceptance.md`: the log still has the rows of the dropped table, and the
/// Relation message that describes them.
#[test]
fn rows_of_a_table_dropped_before_they_are_read_are_told_of() {
    let world = World::new(
        "create table a (id int primary key, v text); create table b (id int primary key)",
        &["a", "b"],
    );
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    world.sql(
        "begin; insert into a values (1, 'x'); drop table a; insert into b values (1); commit",
    );
    assert_eq!(places(&world.records("a", 1)), ["c false {\"id\":1}"]);
    assert_eq!(places(&world.records("b", 1)), ["c false {\"id\":1}"]);
    agent.stop();
}

/// Covers the cases H04, H05 and H06 of `docs/acceptance.md`.
#[test]
fn heartbeats_come_without_writes_and_their_query_runs() {
    let world = World::new(
        "create table a (id int primary key); create table beat (at timestamptz primary key)",
        &["a"],
    );
    world.topic("beats");
    let agent = world.agent(
        "[snapshot]\nmode = \"no_data\"\n[tables]\ninclude = [\"public.a\"]\n[topics]\nprefix = \"p\"\nheartbeat = \"beats\"\n\
         [heartbeat]\ninterval = \"100ms\"\nquery = \"insert into beat values (clock_timestamp())\"",
    );
    agent.streams();
    let beats = world.until_in("beats", |rows| rows.len() >= 3);
    assert_eq!(beats[0].key, json!({"serverName": "p"}));
    let times: Vec<_> = beats.iter().map(|row| row.value["ts_ms"].as_i64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 90), "{times:?}");
    agent.until("the query ran", |_| world.sql("select count(*) > 1 from beat").trim() == "t");
    agent.stop();
    // A heartbeat query that fails is tried again, and the stream goes on.
    world.sql("drop table beat");
    world.topic("__debezium-heartbeat.p");
    let agent = world.agent("[tables]\ninclude = [\"public.a\"]\n[heartbeat]\ninterval = \"100ms\"\nquery = \"insert into beat values (now())\"");
    agent.streams();
    world.until_in("__debezium-heartbeat.p", |rows| rows.len() >= 3);
    world.sql("insert into a values (1); create table beat (at timestamptz)");
    world.records("a", 1);
    agent.until("the query ran", |_| world.sql("select count(*) > 0 from beat").trim() == "t");
    agent.stop();
}

/// Covers case L01 of `docs/acceptance.md`.
#[test]
fn a_slot_may_have_a_name_of_digits() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    let agent = world.agent_with("slot = \"123456\"\npublication = \"p1\"", "");
    agent.streams();
    world.sql("insert into a values (1)");
    world.records("a", 1);
    assert_eq!(world.sql("select slot_name from pg_replication_slots").trim(), "123456");
    agent.stop();
}

/// Covers the cases L23 and L25 of `docs/acceptance.md`: an existing publication is left as it is.
#[test]
fn a_publication_that_is_there_is_used_as_it_is() {
    let world = World::new(
        "create table a (id int primary key); create table b (id int primary key);
         create publication wellspring_p for table a with (publish = 'insert', publish_via_partition_root = true)",
        &["a", "b"],
    );
    let agent = world.agent("[snapshot]\nmode = \"no_data\"\n[tables]\ninclude = [\"public.a\"]");
    agent.streams();
    world.sql(
        "insert into a values (1); update a set id = 2; delete from a; insert into a values (3)",
    );
    assert_eq!(places(&world.records("a", 2)), ["c false {\"id\":1}", "c false {\"id\":3}"]);
    let shown = "select pubinsert, pubupdate, (select count(*) from pg_publication_rel) from pg_publication";
    assert_eq!(world.sql(shown).trim(), "t|f|1");
    agent.stop();
}

/// Covers the cases F13, F18, S28 and L27 of `docs/acceptance.md`.
#[test]
fn lists_that_match_nothing_and_system_tables_publish_nothing() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    let nothing = "[tables]\ninclude = [\"regex:pg_catalog\\\\..*\", \"information_schema.*\", \"public.nowhere\"]";
    let agent = world.agent(nothing);
    let status = agent.until("a refusal", |status| !status.detail.is_empty());
    assert!(status.detail.contains("no table"), "{status:#?}");
    assert_eq!(world.sql("select count(*) from pg_publication").trim(), "0");
    assert!(world.check(nothing).contains("public.nowhere"), "{}", world.check(nothing));
    agent.stop();
}

/// Covers the cases R20, R21 and L28 of `docs/acceptance.md`.
#[test]
fn messages_are_left_out_by_their_prefix() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    world.topic("p.message");
    let say = |prefix: &str| format!("select pg_logical_emit_message(true, '{prefix}', 'x');");
    let prefixes = |rows: &[Row]| -> Vec<String> {
        rows.iter().map(|row| row.value["message"]["prefix"].as_str().unwrap().to_owned()).collect()
    };
    let agent = world
        .agent_with("", "exclude_message_prefixes = [\"regex:excluded.*\", \"prefix:excluded\"]");
    agent.streams();
    for prefix in ["excluded_prefix", "kept", "prefix:excluded", "not excluded"] {
        world.sql(&say(prefix));
    }
    assert_eq!(
        prefixes(&world.until_in("p.message", |rows| rows.len() == 2)),
        ["kept", "not excluded"]
    );
    agent.stop();
    let agent = world.agent_with("", "exclude_message_prefixes = [\"regex:.*\"]");
    agent.streams();
    world.sql(&format!("begin; {} insert into a values (1); commit", say("kept")));
    world.records("a", 1);
    assert_eq!(world.end("p.message"), 2, "the row comes alone");
    agent.stop();
}

/// Cases R34 and C01 of `docs/acceptance.md`: a record may come more than once, and has the same
/// numbers each time.
#[test]
fn a_transaction_cut_off_is_told_again_with_the_same_numbers() {
    const ROWS: i64 = 20_000;
    let world = World::new(
        "create table a (id int primary key); create table b (id int primary key)",
        &["a", "b"],
    );
    world.topic("p.transaction");
    let agent = world.agent_with("", "transactions = true");
    agent.streams();
    world.sql(&format!(
        "begin; insert into a select generate_series(1, {ROWS}); insert into b select generate_series(1, 3); commit"
    ));
    agent.until("some rows", |_| agent.metric("wellspring_records_delivered_total") >= 50.0);
    agent.stop();
    let agent = world.agent_with("", "transactions = true");
    let ends =
        world.until_in("p.transaction", |rows| rows.iter().any(|row| row.value["status"] == "END"));
    assert_eq!(ends.last().unwrap().value["event_count"], ROWS + 3);
    let rows =
        world.until("a", |rows| rows.last().is_some_and(|row| row.value["after"]["id"] == ROWS));
    let mut seen = std::collections::BTreeMap::new();
    for row in &rows {
        let (id, block) = (row.value["after"]["id"].as_i64().unwrap(), &row.value["transaction"]);
        assert_eq!(
            (block["total_order"].as_i64(), block["data_collection_order"].as_i64()),
            (Some(id), Some(id))
        );
        *seen.entry(id).or_insert(0) += 1;
    }
    assert!(seen.len() as i64 == ROWS && seen.values().all(|times| *times <= 2), "none is missing");
    let orders: Vec<_> = world
        .records("b", 3)
        .iter()
        .map(|row| row.value["transaction"]["total_order"].clone())
        .collect();
    assert_eq!(orders, [ROWS + 1, ROWS + 2, ROWS + 3]);
    agent.stop();
}

/// Covers case T48 of `docs/acceptance.md`.
#[test]
fn types_of_one_name_in_two_namespaces_are_not_confused() {
    let world = World::new(
        r#"create schema s1; create schema s2; create type s1.status as enum ('new', 'old'); create domain s2.status as int;
           create type s2."bug.status" as enum ('open', 'shut'); create domain s1."bug.status" as numeric(4,1);
           create table a (id int primary key, a s1.status, b s2.status, c s2."bug.status", d s1."bug.status", e s1.status[]);
           insert into a values (1, 'old', 7, 'shut', 1.5, '{new}')"#,
        &["a"],
    );
    let agent = world.agent("[events]\nformat = \"json-schema\"");
    agent.streams();
    world.sql("insert into a select 2, a, b, c, d, e from a");
    for row in world.until("a", |rows| rows.len() == 2) {
        let mut after = row.value["payload"]["after"].clone();
        after["id"].take();
        assert_eq!(
            after,
            json!({"id": null, "a": "old", "b": 7, "c": "shut", "d": "Dw==", "e": ["new"]})
        );
        let fields = row.value["schema"]["fields"][1]["fields"].as_array().unwrap();
        let allowed: Vec<_> =
            fields.iter().map(|field| field["parameters"]["allowed"].as_str()).collect();
        assert_eq!(allowed, [None, Some("new,old"), None, Some("open,shut"), None, None]);
        assert_eq!(fields[2]["type"], "int32");
    }
    agent.stop();
}

/// Covers the cases X13 and X14 of `docs/acceptance.md`.
#[test]
fn identities_that_cannot_be_set_are_told_with_the_next_step() {
    let world = World::new(
        "create role ws login replication; create table a (id int primary key); grant select on a to ws;
         create publication wellspring_p for table a with (publish_via_partition_root = true)",
        &["a"],
    );
    let agent = world.agent_as("ws", "[tables.set_replica_identity]\n\"public.a\" = \"FULL\"\n");
    let status =
        agent.until("the right is missing", |status| status.detail.contains("may not alter"));
    assert!(
        status.next.contains("ALTER TABLE") && status.next.contains("REPLICA IDENTITY FULL"),
        "{status:#?}"
    );
    // The owner of the table sets the identity, and the agent goes on by itself.
    world.sql("alter table a replica identity full");
    agent.streams();
    agent.stop();
    let twice = "[tables.set_replica_identity]\n\"regex:public\\\\.a\" = \"DEFAULT\"\n\"regex:.*\\\\.a\" = \"FULL\"\n";
    let agent = world.agent(twice);
    let status =
        agent.until("they contradict", |status| status.detail.contains("want different ones"));
    assert_eq!(status.next, "correct tables.set_replica_identity");
    agent.ends();
    let letter =
        || world.sql("select relreplident from pg_class where relname = 'a'").trim().to_owned();
    assert_eq!(letter(), "f");
    let agent = world.agent("[tables.set_replica_identity]\n\"public.a\" = \"DEFAULT\"\n");
    agent.streams();
    assert_eq!(letter(), "d");
    agent.stop();
}

/// Covers the cases F11 and F14 of `docs/acceptance.md`.
#[test]
fn a_mask_holds_for_the_columns_that_a_list_takes() {
    let world = World::new(
        "create table a (id int primary key, name text, card text, secret text); alter table a replica identity full;
         insert into a values (1, 'n', '4111', 's')",
        &["a"],
    );
    let agent = world.agent_with(
        "",
        "unchanged = false\n[columns]\ninclude = [\"public.a.id\", \"public.a.name\", \"public.a.card\"]\n\
         [masks.m]\ncolumns = [\"public.a.card\", \"public.a.secret\"]\nmethod = \"stars\"\nlength = 3",
    );
    agent.streams();
    world.sql("update a set secret = 't'; update a set name = 'm'; update a set card = '5222'");
    let rows = world.records("a", 3);
    assert_eq!(rows[0].value["after"], json!({"id": 1, "name": "n", "card": "***"}));
    assert_eq!(
        (&rows[1].value["before"]["name"], &rows[1].value["after"]["name"]),
        (&json!("n"), &json!("m"))
    );
    assert_eq!(rows[2].value["before"], json!({"id": 1, "name": "m", "card": "***"}));
    agent.stop();
}

/// Covers case C23 of `docs/acceptance.md`.
#[test]
fn a_registry_that_is_away_holds_the_stream_and_loses_nothing() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let avro = format!(
        "[snapshot]\nmode = \"no_data\"\n[events]\nformat = \"avro\"\n[registry]\nurl = \"http://127.0.0.1:{port}\""
    );
    let agent = world.agent(&avro);
    agent.streams();
    let before = world.sql("select confirmed_flush_lsn from pg_replication_slots");
    world.sql("insert into a values (1); insert into a values (2)");
    agent.until("the registry is missed", |status| status.reason == "registry_unavailable");
    assert_eq!(world.end("p.public.a"), 0);
    let waits = format!(
        "select confirmed_flush_lsn < pg_current_wal_lsn() and '{}' <= confirmed_flush_lsn from pg_replication_slots",
        before.trim()
    );
    assert_eq!(world.sql(&waits).trim(), "t");
    let _registry =
        wellspring::peers::registry::Registry::start(([127, 0, 0, 1], port).into(), "BACKWARD")
            .unwrap();
    agent.until("both arrive", |_| world.end("p.public.a") == 2);
    agent.stop();
}

/// A new route needs a topic and schema ids. The connection to Postgres breaks while the route
/// waits for the registry.
#[test]
fn new_routes_wait_for_the_registry_across_a_reconnect() {
    let world = World::new(
        "create table o (id int primary key, aggregatetype text, aggregateid text, payload text)",
        &[],
    );
    for topic in ["outbox.event.ann", "outbox.event.bob"] {
        world.topic(topic);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let agent = world.agent(&format!(
        "[snapshot]\nmode = \"no_data\"\n[events]\nformat = \"avro\"\n\
         [registry]\nurl = \"http://127.0.0.1:{port}\"\n[[transform]]\ntype = \"outbox\""
    ));
    agent.streams();
    world.sql(
        "insert into o values (1, 'ann', 'k', 'x'), (2, 'bob', 'k', 'y'), (3, 'ann', 'k', 'z')",
    );
    let missed = |status: &wellspring::status::Status| status.reason == "registry_unavailable";
    agent.until("the registry is missed", missed);
    world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots");
    agent.until("the connection broke", |status| !missed(status));
    agent.until("the registry is missed again", missed);
    let _registry =
        wellspring::peers::registry::Registry::start(([127, 0, 0, 1], port).into(), "BACKWARD")
            .unwrap();
    let ends = || (world.end("outbox.event.ann"), world.end("outbox.event.bob"));
    agent.until("all arrive, and none twice", |_| ends() == (2, 1));
    agent.until("the trouble is over", |status| status.reason.is_empty());
    agent.stop();
    assert_eq!(ends(), (2, 1));
}

/// Covers the cases R23 to R26 of `docs/acceptance.md`.
#[test]
fn an_origin_is_told_with_its_transaction_and_after_a_restart() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    let of = |origin: &str, lsn: &str, id: u32| {
        format!(
            "select pg_replication_origin_session_setup('{origin}'); begin;
             select pg_replication_origin_xact_setup('{lsn}', now()); insert into a values ({id}); commit;
             select pg_replication_origin_session_reset();"
        )
    };
    world.sql("select pg_replication_origin_create('one'), pg_replication_origin_create('two')");
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    world.sql(&format!(
        "{} {} insert into a values (3)",
        of("one", "0/ABCD", 1),
        of("two", "1/2", 2)
    ));
    world.records("a", 3);
    agent.stop();
    world.sql(&format!("{} insert into a values (5)", of("one", "0/ABCE", 4)));
    let agent = world.agent("");
    let rows = world.records("a", 5);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&row.value["source"]["origin"], &row.value["source"]["origin_lsn"]))
        .collect();
    let nobody = (&json!(null), &json!(null));
    let (one, two) = (&json!("one"), &json!("two"));
    assert_eq!(
        told,
        [
            (one, &json!(0xABCD)),
            (two, &json!(0x1_0000_0002_u64)),
            nobody,
            (one, &json!(0xABCE)),
            nobody
        ]
    );
    agent.stop();
}

/// Covers case C25 of `docs/acceptance.md`.
#[test]
fn a_slot_that_is_lost_under_a_running_agent_halts_it_by_name() {
    let settings =
        [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
    let world = World::with(
        &settings,
        "create table a (id int primary key); create table filler (x text)",
        &["a"],
    );
    let agent = world.agent("[tables]\ninclude = [\"public.a\"]\n[snapshot]\nmode = \"no_data\"");
    agent.streams();
    // The paused agent reads nothing, so the slot stays where it is.
    agent.ask(Request::Pause).unwrap();
    world.sql("insert into a values (1)");
    for _ in 0..4 {
        world.sql("insert into filler select repeat('x', 1000) from generate_series(1, 1000); select pg_switch_wal()");
        world.sql("checkpoint");
    }
    assert_eq!(world.sql("select wal_status from pg_replication_slots").trim(), "lost");
    let status = agent.halts("slot_lost");
    assert!(status.next.contains("wellspring slot"), "{status:#?}");
    assert_eq!(agent.metric("wellspring_failures_total{reason=\"slot_lost\"}"), 1.0);
    agent.stop();
}

/// A waiting replica has this view too: it has read the state before the active agent confirmed
/// more.
#[test]
fn a_slot_that_another_holds_is_not_judged_before_it_is_free() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    agent.streams();
    agent.stop();
    world.sql("insert into a values (1)");
    world.sql("checkpoint"); // a slot advances to what is flushed
    world.sql("select pg_replication_slot_advance('wellspring_p', pg_current_wal_lsn())");
    let mut holder = world
        .server
        .holder("postgres", "wellspring_p", "wellspring_p")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_held = || world.sql("select active from pg_replication_slots").trim() == "t";
    wait_until(Instant::now() + PATIENCE, is_held);
    assert!(is_held());
    let agent = world.agent("");
    agent.until("it is in use", |status| {
        status.phase == Phase::Retrying && status.reason == "slot_in_use"
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    agent.halts("slot_ahead");
    agent.stop();
}
