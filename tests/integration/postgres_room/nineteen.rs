//! Tests of what is new in Postgres 19. With an older server they do nothing. `make test-majors`
//! runs them with a server of 19.

use super::{config, sql};
use crate::support::postgres::{Server, installed_major};
use crate::support::world::{PATIENCE, World, wait_until};
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Instant;
use wellspring::agent::request::Request;
use wellspring::postgres::preflight::{self, Decoding};
use wellspring::postgres::{Sql, publication, slot};

const TABLES: &str = "create table a (id int primary key); create table b (id int primary key)";

/// Settings without a first copy, so that each record is of the stream.
const NO_DATA: &str = "[snapshot]\nmode = \"no_data\"";

/// The line that begins with `start` in the output of `check`. It is a statement of SQL.
fn statement<'a>(check: &'a str, start: &str) -> &'a str {
    check
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("{start}\n{check}"))
}

/// Starts a session of `psql` that runs these statements and stays open.
fn session(server: &Server, statements: &str) -> Child {
    let mut psql =
        server.psql("postgres").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    psql.stdin.as_mut().unwrap().write_all(statements.as_bytes()).unwrap();
    psql
}

#[track_caller]
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    wait_until(deadline, &condition);
    assert!(condition(), "{what}");
}

#[test]
fn an_excepted_table_is_left_out_by_check_and_run_alike() {
    if installed_major() < 19 {
        return;
    }
    let world = World::new(TABLES, &["a", "b"]);
    world.sql("create publication wellspring_p for all tables except (table b), all sequences");
    let check = world.check("");
    assert!(check.contains("FAIL  publication wellspring_p lacks public.b"), "{check}");
    let agent = world.agent(NO_DATA);
    let status = agent.streams();
    let warned =
        status.warnings.iter().any(|warning| warning.contains("leaves out public.b by EXCEPT"));
    assert!(warned, "{:?}", status.warnings);
    world.sql("insert into b values (1); insert into a values (1)");
    world.records("a", 1);
    agent.stop();
    assert_eq!(world.end("p.public.b"), 0, "no row of it was expected, and none came");

    world.sql(statement(&check, "ALTER PUBLICATION"));
    let check = world.check("");
    assert!(!check.contains("lacks"), "{check}");
    assert_eq!(
        world.sql("select puballsequences from pg_publication"),
        "t",
        "the sequences stay published"
    );
    let agent = world.agent(NO_DATA);
    agent.streams();
    world.sql("insert into b values (2)");
    let came = world.until("b", |rows| rows.iter().any(|row| row.value["after"]["id"] == 2));
    assert!(came.iter().all(|row| row.value["after"]["id"] == 2), "{:?}", came.len());
    agent.stop();
}

#[test]
fn a_table_that_is_excepted_while_nobody_streams_halts() {
    if installed_major() < 19 {
        return;
    }
    let world = World::new(TABLES, &["a", "b"]);
    world.sql("create publication wellspring_p for all tables");
    let agent = world.agent(NO_DATA);
    agent.streams();
    agent.stop();
    world.sql(
        "alter publication wellspring_p set all tables except (table b); insert into b values (1)",
    );
    let agent = world.agent(NO_DATA);
    let status = agent.halts("table_not_published");
    assert!(status.detail.contains("public.b"), "{}", status.detail);
    agent.stop();
}

#[test]
fn a_reload_publishes_no_table_that_is_excepted() {
    if installed_major() < 19 {
        return;
    }
    let world = World::new(TABLES, &["a", "b"]);
    world.sql("create publication wellspring_p for all tables except (table b)");
    let agent = world.agent(&format!("[tables]\ninclude = [\"public.a\"]\n{NO_DATA}"));
    agent.streams();
    let refused = agent.ask(Request::Reload(Box::new(world.config(NO_DATA)))).unwrap_err();
    let text = format!("{refused:?}");
    assert!(
        text.contains("EXCEPT leaves out a selected table") && text.contains("SET ALL TABLES;"),
        "{text}"
    );
    agent.stop();
}

#[tokio::test]
async fn partitions_of_an_excepted_root_are_excepted_and_no_members() {
    if installed_major() < 19 {
        return;
    }
    let server = Server::start();
    server.sql(
        "postgres",
        "create table a (id int primary key);
         create table root (id int primary key) partition by range (id);
         create table leaf partition of root for values from (0) to (10);
         create publication p for all tables except (table root);
         create publication s for all sequences;
         create publication t for table a",
    );
    let sql = sql(&server).await;
    let row = publication::read(&sql, "p").await.unwrap().unwrap();
    let members: Vec<String> = row.tables.iter().map(|table| table.name.to_string()).collect();
    assert_eq!(members, ["public.a"]);
    let excepted: Vec<(String, String)> = row
        .excepted()
        .iter()
        .map(|excepted| (excepted.name.to_string(), excepted.root.to_string()))
        .collect();
    let names = [("public.leaf", "public.root"), ("public.root", "public.root")];
    assert_eq!(excepted, names.map(|(name, root)| (name.to_owned(), root.to_owned())));
    assert!(row.all_tables && !row.is_of_sequences());
    let sequences = publication::read(&sql, "s").await.unwrap().unwrap();
    assert!(sequences.is_of_sequences() && sequences.tables.is_empty());
    let table = publication::read(&sql, "t").await.unwrap().unwrap();
    assert!(
        !table.is_of_sequences()
            && table.excepted().is_empty()
            && table.tables[0].membership.0 != 0
    );

    // The server accepts the SQL that the agent prints.
    let leaf = row.excepted()[0].name.clone();
    let except = publication::except_sql("p", &row, &row.tables[0].name);
    assert!(
        except.ends_with("EXCEPT (TABLE ONLY \"public\".\"a\", TABLE ONLY \"public\".\"root\")"),
        "{except}"
    );
    sql.execute(&except).await.unwrap();
    sql.execute(&publication::readmit_sql("p", &row, &[leaf])).await.unwrap();
    let row = publication::read(&sql, "p").await.unwrap().unwrap();
    assert!(row.excepted().is_empty(), "a partition is readmitted with its root");
}

#[test]
fn a_publication_for_all_sequences_is_refused_before_a_slot() {
    if installed_major() < 19 {
        return;
    }
    let world = World::new(TABLES, &["a", "b"]);
    world.sql("create publication wellspring_p for all sequences");
    let check = world.check("");
    assert!(check.contains("FAIL  publication wellspring_p is FOR ALL SEQUENCES"), "{check}");
    let agent = world.agent("");
    let status = agent.until("the refusal", |status| status.reason == "publication_incomplete");
    assert!(status.detail.contains("FOR ALL SEQUENCES"), "{}", status.detail);
    assert!(status.next.contains("postgres.publication"), "{}", status.next);
    agent.stop();
    assert_eq!(world.sql("select count(*) from pg_replication_slots"), "0");
}

#[test]
fn the_first_slot_turns_logical_decoding_on() {
    if installed_major() < 19 {
        return;
    }
    let world = World::with(&[("wal_level", "replica")], TABLES, &["a", "b"]);
    let check = world.check("");
    assert!(
        check.contains("ok    wal_level is replica, and the first logical slot turns"),
        "{check}"
    );
    let agent = world.agent("");
    agent.streams();
    world.sql("insert into a values (1)");
    world.records("a", 1);
    assert_eq!(world.sql("show wal_level; show effective_wal_level"), "replica\nlogical");
    let check = world.check("");
    assert!(
        check.contains("ok    wal_level is replica, and effective_wal_level is logical"),
        "{check}"
    );
    agent.stop();
}

#[tokio::test]
async fn a_standby_decodes_while_its_primary_does() {
    if installed_major() < 19 {
        return;
    }
    let primary = Server::start_with(&[("wal_level", "replica")]);
    let standby = primary.standby();
    let there = Sql::connect(&config(&standby.url("postgres"))).await.unwrap();
    let facts = preflight::facts(&there).await.unwrap();
    assert_eq!(facts.decoding(), Decoding::Off);
    assert!(facts.decoding_fix().contains("on the primary"));
    primary.sql("postgres", "select pg_create_logical_replication_slot('keeps_it_on', 'pgoutput')");
    wait_for("the standby decodes", || {
        standby.sql("postgres", "show effective_wal_level") == "logical"
    });
    assert_eq!(preflight::facts(&there).await.unwrap().decoding(), Decoding::On);

    // On a standby the creation of a slot waits until the primary logs its running transactions.
    let made =
        session(&standby, "select pg_create_logical_replication_slot('ours', 'pgoutput');\n\\q\n");
    wait_for("the slot", || {
        primary.sql("postgres", "select pg_log_standby_snapshot()");
        standby.sql("postgres", "select count(confirmed_flush_lsn) from pg_replication_slots")
            == "1"
    });
    assert!(made.wait_with_output().unwrap().status.success());
    primary.sql("postgres", "select pg_drop_replication_slot('keeps_it_on')");
    let lost = "select invalidation_reason from pg_replication_slots where invalidation_reason is not null";
    wait_for("the slot is lost", || standby.sql("postgres", lost) == "wal_level_insufficient");
    let row = slot::read(&there, "ours").await.unwrap().unwrap();
    assert_eq!(row.invalidation.as_deref(), Some("wal_level_insufficient"));
}

#[test]
fn repack_of_a_captured_table_leaves_stream_and_findings_alone() {
    if installed_major() < 19 {
        return;
    }
    // Our slot takes the only place of `max_replication_slots`, and REPACK has places of its own.
    let world = World::with(&[("max_replication_slots", "1")], TABLES, &["a", "b"]);
    world.sql("insert into a select generate_series(1, 5000)");
    let agent = world.agent(NO_DATA);
    agent.streams();

    // REPACK swaps the files once no transaction has locked the table. Its slot exists until then.
    let holder = session(&world.server, "begin; select count(*) from a;\n");
    wait_for("the lock", || {
        world.sql("select count(*) from pg_locks where relation = 'a'::regclass") != "0"
    });
    let repack = session(&world.server, "repack (concurrently) a;\n\\q\n");
    let slots = "select count(*) from pg_replication_slots where plugin = 'pgrepack' and temporary";
    wait_for("the slot of REPACK", || world.sql(slots) == "1");
    world.sql("insert into b values (1)");
    world.records("b", 1);
    let check = world.check("");
    assert!(
        !check.contains("pg_repack") && !check.contains("replication slots are in use"),
        "{check}"
    );
    assert_eq!(world.sql(slots), "1", "it was there all the while");
    drop(holder.wait_with_output().unwrap());
    assert!(repack.wait_with_output().unwrap().status.success());

    for round in 0..5 {
        world.sql(&format!("insert into a values ({}); repack (concurrently) a", 10_001 + round));
        world.sql(&format!("update a set id = {} where id = {}", 20_001 + round, 10_001 + round));
    }
    // An update of a key is a delete and a create.
    let places: Vec<String> =
        world.records("a", 15).iter().map(|row| row.value["op"].to_string()).collect();
    assert_eq!(places, [["\"c\"", "\"d\"", "\"c\""]; 5].concat());
    assert_eq!(agent.status().reason, "", "{:#?}", agent.status());
    agent.stop();
}

#[tokio::test]
async fn the_slots_of_repack_are_not_counted_among_ours() {
    if installed_major() < 19 {
        return;
    }
    let server = Server::start();
    server.sql("postgres", "create table t (id int primary key)");
    let sql = sql(&server).await;
    let holder = session(&server, "begin; select count(*) from t;\n");
    wait_for("the lock", || {
        server.sql("postgres", "select count(*) from pg_locks where relation = 't'::regclass")
            != "0"
    });
    let repack = session(&server, "repack (concurrently) t;\n\\q\n");
    wait_for("the slot", || {
        server.sql("postgres", "select count(*) from pg_replication_slots") == "1"
    });
    assert_eq!(preflight::facts(&sql).await.unwrap().slots_used, 0);
    drop(holder.wait_with_output().unwrap());
    assert!(repack.wait_with_output().unwrap().status.success());
}

#[tokio::test]
async fn the_warning_about_an_md5_password_is_kept() {
    if installed_major() < 19 {
        return;
    }
    let server = Server::start();
    server.sql(
        "postgres",
        "set password_encryption = md5; create role old login password 'older';
         set password_encryption = 'scram-sha-256'; create role young login password 'younger'",
    );
    server.allow("local all all trust\nhost all all 127.0.0.1/32 md5");
    let as_role = |role: &str| {
        config(&format!("postgresql://{role}@127.0.0.1:{}/postgres?sslmode=disable", server.port()))
    };
    let old = Sql::connect(&as_role("old:older")).await.unwrap();
    let [warning] = old.warnings() else { panic!("{:?}", old.warnings()) };
    assert!(warning.to_string().contains("MD5"), "{warning}");
    assert!(Sql::connect(&as_role("young:younger")).await.unwrap().warnings().is_empty());
}
