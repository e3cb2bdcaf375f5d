//! Tests of slots that survive a failover: such a slot is created, an old one is altered, and
//! `check` says what the standbys lack.

use super::nineteen::wait_for;
use crate::support::postgres::{Server, installed_major};
use crate::support::world::World;
use std::path::Path;
use std::process::Command;
use wellspring::agent::Exit;

const TABLES: &str = "create table a (id int primary key)";
const WANTED: &str = "failover = true";

/// Runs the program, and returns everything that it prints.
fn wellspring(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    let output = command.args(arguments).current_dir(folder).env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_slot_is_made_for_a_failover_or_altered_for_one() {
    if installed_major() < 17 {
        return;
    }
    let failover = "select failover from pg_replication_slots";
    let world = World::new(TABLES, &["a"]);
    let agent = world.agent_with(WANTED, "");
    agent.streams();
    assert_eq!(world.sql(failover), "t");
    agent.stop();

    let world = World::new(TABLES, &["a"]);
    let agent = world.agent_with("", "");
    agent.streams();
    agent.stop();
    assert_eq!(world.sql(failover), "f");
    let agent = world.agent_with(WANTED, "");
    agent.streams();
    assert_eq!(world.sql(failover), "t");
    world.sql("insert into a values (1)");
    world.records("a", 1);
    agent.stop();
}

#[test]
fn a_server_that_knows_no_failover_slots_is_refused() {
    if installed_major() >= 17 {
        return;
    }
    let world = World::new(TABLES, &["a"]);
    assert_eq!(world.agent_with(WANTED, "").ends(), Exit::SourceRefuses);
    assert_eq!(world.sql("select count(*) from pg_replication_slots"), "0");
}

#[test]
fn check_says_what_a_standby_lacks_until_it_keeps_a_copy() {
    if installed_major() < 17 {
        return;
    }
    let primary = Server::start();
    primary.sql("postgres", TABLES);
    let standby = primary.standby();
    let folder = tempfile::tempdir().unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let url = format!(
        "postgresql://postgres@{hosts}/postgres?sslmode=disable&target_session_attrs=primary"
    );
    let text = format!(
        "sink = \"stdout\"\n[postgres]\nurl = \"{url}\"\n{WANTED}\n[tables]\ninclude = [\"public.*\"]\n\
         [topics]\nprefix = \"p\"\n"
    );
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();

    let check = wellspring(folder.path(), &["check"]);
    for lacking in [
        "no standby is connected through a physical slot",
        "sync_replication_slots is off",
        "primary_slot_name is empty",
        "primary_conninfo names no database",
        "synchronized_standby_slots is empty",
    ] {
        assert!(check.contains(lacking), "{lacking}\n{check}");
    }

    primary.sql("postgres", "select pg_create_physical_replication_slot('standby_1')");
    let socket = primary.socket_dir().to_str().unwrap();
    for (setting, value) in [
        ("sync_replication_slots", "on".to_owned()),
        ("primary_slot_name", "standby_1".to_owned()),
        (
            "primary_conninfo",
            format!("host={socket} port={} user=postgres dbname=postgres", primary.port()),
        ),
    ] {
        standby.sql("postgres", &format!("alter system set {setting} = '{value}'"));
    }
    standby.sql("postgres", "select pg_reload_conf()");
    primary.sql("postgres", "create publication wellspring_p for table a");
    wellspring(folder.path(), &["slot", "create"]);
    assert_eq!(
        primary
            .sql("postgres", "select failover from pg_replication_slots where plugin = 'pgoutput'"),
        "t"
    );
    let moves =
        "select pg_log_standby_snapshot(); select count(*) from pg_logical_slot_get_binary_changes(
        'wellspring_p', null, null, 'proto_version', '1', 'publication_names', 'wellspring_p')";
    let copy = "select count(*) from pg_replication_slots where synced and not temporary";
    wait_for("the standby has a copy", || {
        primary.sql("postgres", moves);
        standby.sql("postgres", copy) == "1"
    });
    let check = wellspring(folder.path(), &["check"]);
    assert!(check.contains("keeps a copy of slot wellspring_p"), "{check}");
    let set = "ALTER SYSTEM SET synchronized_standby_slots = 'standby_1';";
    assert!(check.contains(set), "{check}");
    primary.sql("postgres", set);
    primary.sql("postgres", "select pg_reload_conf()");
    wait_for("nothing is lacking", || {
        let check = wellspring(folder.path(), &["check"]);
        !check.contains("synchronized_standby_slots") && !check.contains("warn  standby")
    });

    assert!(standby.stop_fast(60));
    wait_for("the listed slot is free", || {
        wellspring(folder.path(), &["check"]).contains("names standby_1, which is used by nobody")
    });
}
