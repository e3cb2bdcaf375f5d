//! Tests that a broken connection to Postgres is reported at once, whatever the agent waits for.

use crate::support::run::Run;
use crate::support::world::{World, wait_until};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longest time until the break is reported. It is less than the interval of status updates to
/// Postgres, of which the second one would notice the break.
const AT_ONCE: Duration = Duration::from_secs(8);

/// The registry accepts connections and never answers, so that a plan waits for it.
#[test]
fn a_connection_that_ends_during_a_lookup_is_noticed_at_once() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let more = format!(
        "[events]\nformat = \"avro\"\n[registry]\nurl = \"{url}\"\ntimeout = \"60s\"\n\
         [snapshot]\nmode = \"no_data\""
    );
    let run = Run::start(&world.text("postgres", &more), &[], Stdio::null());
    run.streams();
    world.sql("insert into t values (1)");
    let asked = silent.accept().unwrap();
    let ended = Instant::now();
    world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
    let is_told = || run.status()["phase"] == "retrying";
    wait_until(ended + AT_ONCE, is_told);
    assert!(is_told(), "after {:?}: {:#}", ended.elapsed(), run.status());
    drop(asked);
}
