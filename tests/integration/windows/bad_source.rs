//! Tests of backfills from a server that is short of disk, and from a standby.
//!
//! If disk is short while a table is copied, this table waits, and the status has the next step.
//! The others go on. A condition on the rows raises the server's error in the middle of the copy,
//! as a sort on a full disk does.

use super::requests::is_done;
use crate::support::postgres::Server;
use crate::support::world::{PATIENCE, World, wait_until};
use std::time::Instant;
use wellspring::agent::Exit;

const TABLES: &str = "create table f (id int primary key); insert into f select generate_series(1, 5000);
    create table k (v int, w text); alter table k replica identity full;
    insert into k select i, 'w' from generate_series(1, 100) i;
    create table t (id int primary key); insert into t values (1);
    create table disk (is_full bool);  insert into disk values (true);
    create function fits(n int) returns bool language plpgsql volatile as $$ begin
      if n > 50 and (select is_full from disk) then
        raise exception using errcode = '53100', message = 'could not write to file: No space left on device';
      end if;
      return true;
    end $$";

const WHERE: &str = "\n[tables]\ninclude = [\"public.f\", \"public.k\", \"public.t\"]\n[snapshot.where]\n\"public.f\" = \"fits(id)\"\n\"public.k\" = \"fits(v)\"";

#[test]
fn a_full_disk_leaves_tables_of_the_first_copy_to_backfills() {
    let world = World::new(TABLES, &["f", "k", "t"]);
    let agent = world.agent(WHERE);
    let copy = agent.streams().copy.unwrap();
    for table in ["public.f", "public.k"] {
        let of = &copy.tables[table];
        assert_eq!(of.state, "owed", "{of:?}");
        assert!(
            of.reason.contains("No space left on device") && of.next.contains("backfill"),
            "{of:?}"
        );
    }
    assert_eq!(copy.tables["public.t"].state, "copied");
    world.sql("insert into f values (0)");
    world.until("f", |rows| rows.last().is_some_and(|row| row.value["op"] == "c"));
    let short = agent.until("both wait", |status| {
        status.windows.iter().filter(|window| window.reason == "window_no_room").count() == 2
    });
    assert!(!short.needs_a_person, "{short:?}");
    world.sql("update disk set is_full = false");
    is_done(&agent, "public.f");
    is_done(&agent, "public.k");
    agent.stop();
}

#[test]
fn a_full_disk_holds_up_backfills_until_there_is_room() {
    let world = World::new(TABLES, &["f", "k", "t"]);
    let agent = world.agent(&format!("[snapshot]\nmode = \"windows\"{WHERE}"));
    is_done(&agent, "public.t");
    let status = agent.until("both wait", |status| {
        let short = status.windows.iter().filter(|window| window.reason == "window_no_room");
        short.filter(|window| window.state == "waiting").count() == 2
    });
    for window in status.windows.iter().filter(|window| window.table != "public.t") {
        assert!(
            window.detail.contains("No space left") && window.next.contains("free space"),
            "{window:?}"
        );
    }
    world.sql("insert into t values (2)");
    world.records("t", 2);
    world.sql("update disk set is_full = false");
    is_done(&agent, "public.f");
    is_done(&agent, "public.k");
    world.records("f", 5000);
    world.until("k", |rows| rows.len() >= 100);
    agent.stop();
}

/// No table of a standby is copied in chunks, because its snapshots do not list the primary's
/// transactions. If the standby can decode, every table is copied whole. If it cannot, the first
/// start says so.
#[test]
fn a_standby_copies_whole_tables_or_refuses_at_once() {
    let primary = Server::start();
    primary.sql(
        "postgres",
        "create table k (v int, w text); alter table k replica identity full; insert into k select i, 'w' from generate_series(1, 3000) i;
         create table t (id int primary key); insert into t select generate_series(1, 3000);
         create publication wellspring_p for table k, t",
    );
    let world = World::on(primary.standby(), &["k", "t"]);
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    if world.server.major() < 16 {
        let status = agent.until("a refusal", |status| !status.errors.is_empty());
        let told = &status.errors[0];
        assert_eq!(told.reason, "postgres_settings");
        assert!(told.message.contains("standby") && told.next.contains("primary"), "{told:?}");
        assert_eq!(agent.ends(), Exit::SourceRefuses);
        assert_eq!(world.sql("select count(*) from pg_replication_slots"), "0");
        return;
    }
    // The creation of a slot on a standby waits until the primary logs its running transactions.
    // An idle primary does not do that by itself.
    wait_until(Instant::now() + PATIENCE, || {
        primary.sql("postgres", "select pg_log_standby_snapshot()");
        let status = agent.status();
        let done = status.windows.iter().filter(|window| window.state == "done");
        done.filter(|window| (window.rows, window.chunks) == (3000, 1)).count() == 2
    });
    is_done(&agent, "public.k");
    is_done(&agent, "public.t");
    primary.sql("postgres", "insert into k values (-1, 'end'); delete from t where id = 7");
    let rows =
        world.until("k", |rows| rows.last().is_some_and(|row| row.value["after"]["v"] == -1));
    assert_eq!(rows.len(), 3001);
    let rows = world.until("t", |rows| rows.last().is_some_and(|row| row.value["op"] == "d"));
    assert_eq!(rows.len(), 3001);
    agent.stop();
}
