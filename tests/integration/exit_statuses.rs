//! How `wellspring run` ends in each case: exit status and last words, by the real binary against real peers.
//!
//! `WELLSPRING_WRITE=1 cargo test --test integration exit_statuses::` writes the table in `docs/exit-statuses.md`.

use crate::support::postgres::Server;
use crate::support::world::{PATIENCE, World, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

/// A running binary. It is killed when the test gives up.
struct Run {
    child: Child,
    folder: tempfile::TempDir,
    admin: u16,
    stderr: mpsc::Receiver<Vec<u8>>,
}

/// How a run ended.
struct End {
    status: i32,
    words: String,
}

impl Run {
    fn start(config: &str, arguments: &[&str], stdout: Stdio) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "{config}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(folder.path().join("wellspring.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command.arg("run").args(arguments).current_dir(folder.path()).env_clear();
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let (send, stderr) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).unwrap();
            let _ = send.send(text); // a test that has given up reads nothing
        });
        Run { child, folder, admin, stderr }
    }

    /// `/status`, or null where nobody answers yet.
    fn status(&self) -> Value {
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.admin))?;
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = get().unwrap_or_default();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        wait_until(Instant::now() + PATIENCE, || condition(&self.status()));
        let status = self.status();
        assert!(condition(&status), "waited for {what}: {status:#}");
    }

    #[track_caller]
    fn streams(&self) {
        self.until("streaming", |status| status["phase"] == "streaming");
    }

    fn signal(&self) {
        let sent =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    #[track_caller]
    fn ends(mut self) -> End {
        let deadline = Instant::now() + PATIENCE;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.child.try_wait().unwrap();
            std::thread::yield_now();
        }
        let status = ended.unwrap_or_else(|| panic!("it does not end: {:#}", self.status()));
        let text = self.stderr.recv_timeout(PATIENCE).unwrap();
        let text = String::from_utf8(text).unwrap();
        let words = words(&text).unwrap_or_else(|| panic!("no last words in\n{text}"));
        End { status: status.code().unwrap(), words }
    }

    fn terminated(self) -> End {
        self.signal();
        self.ends()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended by itself, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The message of the last log line; of a command that logs nothing, its error.
fn words(stderr: &str) -> Option<String> {
    let message = |line: &str| {
        Some(serde_json::from_str::<Value>(line).ok()?["message"].as_str()?.to_owned())
    };
    let logged = stderr.lines().rev().find_map(message);
    logged.or_else(|| stderr.lines().find(|line| line.starts_with("error: ")).map(str::to_owned))
}

/// A stop has one second for Kafka.
const HASTY: &str = "shutdown = \"1s\"";

/// Rows that take longer than a hasty stop waits for a transaction's end.
const MANY: u32 = 400_000;

fn idle() -> End {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let run = Run::start(&world.text("postgres", ""), &[], Stdio::null());
    run.streams();
    world.sql("insert into t values (1, 'x')");
    world.records("t", 1);
    run.terminated()
}

fn unreached() -> End {
    let config = "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@127.0.0.1:1/d\"\n[tables]\n\
                  include = [\"a.b\"]\n[topics]\nprefix = \"p\"\n";
    let run = Run::start(config, &[], Stdio::null());
    run.until("trying", |status| status["reason"] == "postgres_unavailable");
    run.terminated()
}

fn in_transaction() -> End {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let run = Run::start(&world.text("postgres", HASTY), &[], Stdio::null());
    run.streams();
    world.sql(&format!("insert into t select g, 'x' from generate_series(1, {MANY}) g"));
    wait_until(Instant::now() + PATIENCE, || world.end("p.public.t") > 0);
    run.terminated()
}

fn in_copy() -> End {
    let sql = "create table t (id int primary key, v text); insert into t select g, 'x' from generate_series(1,";
    let world = World::new(&format!("{sql} {MANY}) g"), &["t"]);
    let run = Run::start(&world.text("postgres", HASTY), &[], Stdio::null());
    wait_until(Instant::now() + PATIENCE, || world.end("p.public.t") > 0);
    run.terminated()
}

/// Kafka does not acknowledge the last row.
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
    run.terminated()
}

fn twice() -> End {
    let (_world, run) = unacknowledged("");
    run.signal();
    run.until("stopping", |status| status["phase"] == "stopping");
    // Signals within half a second are one wish.
    let repeated = Instant::now();
    while run.status()["phase"] == "stopping" && repeated.elapsed() < PATIENCE {
        run.signal();
    }
    run.ends()
}

/// A row that no topic takes.
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
    run.terminated()
}

fn exit_on_halt() -> End {
    let (world, run) = halting(&["--exit-on-halt"]);
    let config = std::fs::read_to_string(run.file("wellspring.toml")).unwrap();
    let end = run.ends();
    world.records("t", 1);
    // A restart respects the record of the halt, and sends nothing again.
    let again =
        Run::start(config.split("\n[admin]").next().unwrap(), &["--exit-on-halt"], Stdio::null())
            .ends();
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
    run.ends()
}

fn refused_by_postgres() -> End {
    let world = World::new("create table t (id int primary key)", &["t"]);
    Run::start(&world.text("nobody_known", ""), &[], Stdio::null()).ends()
}

fn refused_by_kafka() -> End {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let ssl =
        "[kafka.client]\n\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = \"missing.pem\"";
    Run::start(&world.text("postgres", ssl), &[], Stdio::null()).ends()
}

fn faulty() -> End {
    Run::start("sink = \"nowhere\"", &[], Stdio::null()).ends()
}

/// What happens, and how to make it happen.
type Case = (&'static str, fn() -> End);

const CASES: [Case; 12] = [
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
    ("the reader of `sink = \"stdout\"` goes away", closed_stdout),
];

const HEAD: &str = "# Exit statuses\n\n\
    This page shows how `wellspring run` ends in each case: the exit status and the last line of its log.\n\
    `tests/integration/exit_statuses.rs` runs each case against a real Postgres and writes this table. \
    The [README](../README.md) and\n\
    `wellspring --help` give the meaning of each status.\n\n\
    | event | status | last line of the log |\n|---|---|---|\n";

const TAIL: &str = "\nAfter status 6 the next start sends a part of the stream again. \
    Records that were delivered and not confirmed come\n\
    twice, and none is missing. A service manager should treat 6 as a normal stop, as the packaged systemd unit does\n\
    (`SuccessExitStatus=6`).\n";

#[test]
fn every_way_to_end_has_its_status_and_its_words() {
    let mut page = HEAD.to_owned();
    for (what, case) in CASES {
        let End { status, words } = case();
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
