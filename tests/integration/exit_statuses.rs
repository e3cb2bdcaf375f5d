//! How `wellspring run` ends in each case: the exit status and the last log line of the real
//! program, which runs against real peers.
//!
//! `WELLSPRING_WRITE=1 cargo test --test integration exit_statuses::` writes the table of
//! `docs/exit-statuses.md`.

use crate::support::postgres::Server;
use crate::support::run::Run;
use crate::support::world::{PATIENCE, World, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

/// How a run ended.
struct End {
    status: i32,
    words: String,
}

/// Waits for the end of a run.
#[track_caller]
fn ends(run: Run) -> End {
    let (status, text) = run.ended_log();
    let words = words(&text).unwrap_or_else(|| panic!("no last words in\n{text}"));
    End { status, words }
}

fn terminated(run: Run) -> End {
    run.signal();
    ends(run)
}

/// The message of the last log line, or the line `error: ..` of a program that logs nothing.
fn words(stderr: &str) -> Option<String> {
    let message = |line: &str| {
        Some(serde_json::from_str::<Value>(line).ok()?["message"].as_str()?.to_owned())
    };
    let logged = stderr.lines().rev().find_map(message);
    logged.or_else(|| stderr.lines().find(|line| line.starts_with("error: ")).map(str::to_owned))
}

/// Settings under which a stop waits one second for Kafka.
const HASTY: &str = "shutdown = \"1s\"";

/// Number of rows of a transaction. It takes longer than a stop waits for its end under [`HASTY`].
const MANY: u32 = 400_000;

fn idle() -> End {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let run = Run::start(&world.text("postgres", ""), &[], Stdio::null());
    run.streams();
    world.sql("insert into t values (1, 'x')");
    world.records("t", 1);
    terminated(run)
}

fn unreached() -> End {
    let config = "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@127.0.0.1:1/d\"\n[tables]\n\
                  include = [\"a.b\"]\n[topics]\nprefix = \"p\"\n";
    let run = Run::start(config, &[], Stdio::null());
    run.until("trying", |status| status["reason"] == "postgres_unavailable");
    terminated(run)
}

fn in_transaction() -> End {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let run = Run::start(&world.text("postgres", HASTY), &[], Stdio::null());
    run.streams();
    world.sql(&format!("insert into t select g, 'x' from generate_series(1, {MANY}) g"));
    wait_until(Instant::now() + PATIENCE, || world.end("p.public.t") > 0);
    terminated(run)
}

fn in_copy() -> End {
    let sql = "create table t (id int primary key, v text); insert into t select g, 'x' from generate_series(1,";
    let world = World::new(&format!("{sql} {MANY}) g"), &["t"]);
    let run = Run::start(&world.text("postgres", HASTY), &[], Stdio::null());
    wait_until(Instant::now() + PATIENCE, || world.end("p.public.t") > 0);
    terminated(run)
}

/// Starts a run whose last row Kafka does not acknowledge.
fn unacknowledged(more: &str) -> (World, Run) {
    let world = World::with_second_broker("create table t (id int primary key)", &["t"]);
    let run = Run::start(&world.text("postgres", more), &[], Stdio::null());
    run.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    world.second_broker(false);
    world.sql("insert into t values (2)");
    run.until("a record in flight", |status| status["in_flight_records"] == 1);
    (world, run)
}

fn kafka_away() -> End {
    let (_world, run) = unacknowledged(HASTY);
    terminated(run)
}

fn twice() -> End {
    let (_world, run) = unacknowledged("");
    run.signal();
    run.until("stopping", |status| status["phase"] == "stopping");
    // Signals within half a second count as one, so more than two may be needed.
    let repeated = Instant::now();
    while run.status()["phase"] == "stopping" && repeated.elapsed() < PATIENCE {
        run.signal();
    }
    ends(run)
}

/// Starts a run that halts, because a record is larger than its limit.
fn halting(arguments: &[&str]) -> (World, Run) {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let small = "[kafka.client]\n\"message.max.bytes\" = 20000";
    let run = Run::start(&world.text("postgres", small), arguments, Stdio::null());
    run.streams();
    world.sql("insert into t values (1, 'x'); insert into t values (2, repeat('x', 30000))");
    (world, run)
}

fn halt() -> End {
    let (_world, run) = halting(&[]);
    run.until("halted", |status| {
        status["phase"] == "halted" && status["reason"] == "record_too_large"
    });
    terminated(run)
}

fn exit_on_halt() -> End {
    let (world, run) = halting(&["--exit-on-halt"]);
    let config = std::fs::read_to_string(run.file("wellspring.toml")).unwrap();
    let end = ends(run);
    world.records("t", 1);
    // A restart respects the record of the halt, and sends nothing again.
    let again = ends(Run::start(
        config.split("\n[admin]").next().unwrap(),
        &["--exit-on-halt"],
        Stdio::null(),
    ));
    assert_eq!((again.status, &again.words), (end.status, &end.words));
    world.records("t", 1);
    end
}

fn closed_stdout() -> End {
    let server = Server::start();
    server.sql("postgres", "create table t (id int primary key)");
    let config = format!(
        "sink = \"stdout\"\n[postgres]\nurl = \"{}\"\n[tables]\ninclude = [\"public.t\"]\n[topics]\nprefix = \"p\"\n",
        server.url("postgres")
    );
    let mut run = Run::start(&config, &[], Stdio::piped());
    run.streams();
    drop(run.child.stdout.take());
    server.sql("postgres", "insert into t values (1)");
    ends(run)
}

fn refused_by_postgres() -> End {
    let world = World::new("create table t (id int primary key)", &["t"]);
    ends(Run::start(&world.text("nobody_known", ""), &[], Stdio::null()))
}

fn refused_by_kafka() -> End {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let ssl =
        "[kafka.client]\n\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = \"missing.pem\"";
    ends(Run::start(&world.text("postgres", ssl), &[], Stdio::null()))
}

fn faulty_transform() -> End {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let transforms = "[[transform]]\ntype = \"unwrap\"\n\n[[transform]]\ntype = \"value-to-key\"\n\
                      fields = [\"customer\"]";
    let run = Run::start(&world.text("postgres", transforms), &[], Stdio::null());
    let (status, text) = run.ended_log();
    let next = "correct field `customer` in transform 2 (value-to-key), or leave public.t out";
    assert!(text.contains(next), "{text}");
    End { status, words: words(&text).unwrap() }
}

fn faulty() -> End {
    ends(Run::start("sink = \"nowhere\"", &[], Stdio::null()))
}

/// A row of the table: what happens, and the function that makes it happen.
type Case = (&'static str, fn() -> End);

const CASES: [Case; 13] = [
    ("SIGTERM while the stream is idle", idle),
    ("SIGTERM before Postgres or Kafka was reached", unreached),
    ("SIGTERM in a transaction that does not end in time", in_transaction),
    ("SIGTERM in the first copy", in_copy),
    ("SIGTERM, and Kafka acknowledges nothing for `limits.shutdown`", kafka_away),
    ("a second SIGTERM", twice),
    ("SIGTERM while halted", halt),
    ("a halt with `--exit-on-halt`, and each start after it", exit_on_halt),
    ("Postgres refuses the first connection", refused_by_postgres),
    ("the first connection to Kafka cannot be set up", refused_by_kafka),
    ("the configuration is faulty", faulty),
    ("a transform does not suit a captured table", faulty_transform),
    ("the reader of `sink = \"stdout\"` goes away", closed_stdout),
];

const HEAD: &str = "# Exit statuses\n\n\
    This page shows how `wellspring run` ends in each case: the exit status and the last line of its log.\n\
    `tests/integration/exit_statuses.rs` runs each case against a real Postgres and writes this table.\n\
    The [README](../README.md) and `wellspring --help` give the meaning of each status.\n\n\
    | event | status | last line of the log |\n|---|---|---|\n";

const TAIL: &str = "\nAfter status 6 the next start sends a part of the stream again. \
    Records that were delivered and not confirmed come\n\
    twice, and no record is missing. A service manager should treat status 6 as a normal stop, as the packaged systemd\n\
    unit does (`SuccessExitStatus=6`).\n\n\
    If there is nothing to accept or to try again, `wellspring slot accept` and `wellspring retry` say so and end with\n\
    status 0. If a halt stands that the command does not end, the command ends with status 3, and its hint is the step\n\
    that ends the halt.\n";

#[test]
fn every_way_to_end_has_its_status_and_its_words() {
    let mut page = HEAD.to_owned();
    // Two cases at a time: most of a case is waiting for servers.
    let run = |cases: &[Case]| cases.iter().map(|(_, case)| case()).collect::<Vec<End>>();
    let (some, others) = CASES.split_at(CASES.len() / 2);
    let ends = std::thread::scope(|scope| {
        let others = scope.spawn(|| run(others));
        let mut ends = run(some);
        ends.extend(others.join().unwrap());
        ends
    });
    for ((what, _), End { status, words }) in CASES.iter().zip(ends) {
        page.push_str(&format!("| {what} | {status} | {words} |\n"));
    }
    page.push_str(TAIL);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/exit-statuses.md");
    if std::env::var_os("WELLSPRING_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == known,
        "WELLSPRING_WRITE=1 cargo test --test integration exit_statuses:: renews the page; it says now:\n{page}"
    );
}
