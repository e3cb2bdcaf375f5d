//! `wellspring tail` as a person uses it: the real program against a mock Kafka, a registry and an
//! agent that writes.

use crate::support::world::{PATIENCE, Running, World, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;
use wellspring::peers::registry::Registry;

const SQL: &str = "create table t (id int primary key, total numeric(12,2), card text);
     alter table t replica identity full; insert into t values (1, 9.50, '4111-1111');";

struct Shop {
    world: World,
    registry: Registry,
}

impl Shop {
    fn new() -> Shop {
        let registry = Registry::start(([127, 0, 0, 1], 0).into(), "BACKWARD").unwrap();
        Shop { world: World::new(SQL, &["t"]), registry }
    }

    fn more(&self, format: &str) -> String {
        format!(
            "[events]\nformat = \"{format}\"\n[registry]\nurl = \"{}\"\n\
             [masks.card]\ncolumns = [\"public.t.card\"]\nmethod = \"stars\"\nlength = 3\n",
            self.registry.url()
        )
    }

    fn agent(&self, format: &str) -> Running {
        let agent = self.world.agent(&self.more(format));
        agent.streams();
        agent
    }

    fn tail(&self, arguments: &[&str]) -> Tail {
        let folder = tempfile::tempdir().unwrap();
        let text = self.world.text("postgres", &self.more("avro"));
        std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command.arg("tail").args(arguments).current_dir(folder.path()).env_clear();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Some(BufReader::new(child.stdout.take().unwrap()));
        Tail { child, out, _folder: folder }
    }
}

/// A running `wellspring tail`. It is killed when this value is dropped.
struct Tail {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Tail {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for the end of the command. Returns its exit status and its standard error.
    #[track_caller]
    fn ended(mut self) -> (Option<i32>, String) {
        let mut ended = None;
        let deadline = Instant::now() + PATIENCE;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.child.try_wait().unwrap();
            std::thread::yield_now();
        }
        let ended = ended.expect("it does not end");
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.code(), said)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // The command has ended by itself, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tail_shows_rows_changes_and_tombstones_of_each_format() {
    for format in ["avro", "json-schema"] {
        let shop = Shop::new();
        let agent = shop.agent(format);
        shop.world.sql("update t set total = 12.25; delete from t");
        wait_until(Instant::now() + PATIENCE, || shop.world.end("p.public.t") == 4);
        let arguments = ["tail", "p.public.t", "--from", "beginning", "--max", "4"];
        let (code, out) = shop.world.told(&shop.more(format), &arguments);
        assert_eq!(code, Some(0), "{out}");
        let lines = lines(&out);
        let row = |total: &str| serde_json::json!({"id": 1, "total": total, "card": "***"});
        for (offset, line) in (0_u64..).zip(&lines) {
            assert_eq!(line["topic"], "p.public.t");
            assert_eq!(
                (line["partition"].as_u64(), line["offset"].as_u64()),
                (Some(0), Some(offset))
            );
            assert_eq!(line["key"], serde_json::json!({"id": 1}));
            assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        }
        let ops: Vec<_> = lines.iter().map(|line| line["value"]["op"].clone()).collect();
        assert_eq!(ops, ["r".into(), "u".into(), "d".into(), Value::Null]);
        assert_eq!(lines[0]["value"]["after"], row("9.50"));
        assert_eq!(lines[1]["value"]["before"], row("9.50"));
        assert_eq!(lines[1]["value"]["after"], row("12.25"));
        assert_eq!(lines[2]["value"]["before"], row("12.25"));
        assert_eq!(
            (&lines[3]["value"], &lines[3]["tombstone"]),
            (&Value::Null, &Value::Bool(true))
        );
        assert_eq!(lines[0]["headers"]["__debezium.context.connectorLogicalName"], "p");
        assert!(!out.contains("4111"), "{out}");
        agent.stop();
    }
}

#[test]
fn tail_begins_where_it_is_told_and_follows() {
    let shop = Shop::new();
    let agent = shop.agent("avro");
    shop.world.sql("insert into t select g, g from generate_series(2, 20) g");
    wait_until(Instant::now() + PATIENCE, || shop.world.end("p.public.t") == 20);
    for (from, first) in [("5", 5), ("-3", 17), ("-99", 0), ("beginning", 0)] {
        let mut tail = shop.tail(&["p.public.t", "--from", from]);
        assert_eq!(tail.line()["offset"], first, "{from}");
    }
    // Without a named topic the command reads all topics of the pipeline.
    let mut tail = shop.tail(&["--from", "-1"]);
    assert_eq!(tail.line()["key"]["id"], 20);
    shop.world.sql("insert into t values (21, 21)");
    assert_eq!(tail.line()["key"]["id"], 21);
    let id = tail.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(tail.ended(), (Some(0), String::new()));
    agent.stop();
}

#[test]
fn tail_ends_when_its_reader_is_gone() {
    let shop = Shop::new();
    let agent = shop.agent("avro");
    let mut tail = shop.tail(&["p.public.t", "--from", "beginning"]);
    tail.line();
    tail.out = None; // as `head -1` ends, and nothing changes any more
    assert_eq!(tail.ended(), (Some(0), String::new()));
    agent.stop();
}

#[test]
fn tail_names_what_is_there_and_goes_on_past_foreign_records() {
    let shop = Shop::new();
    let more = shop.more("avro");
    shop.world.refused(&more, &["tail"], "the pipeline has written to no topic yet");
    shop.world.refused(&more, &["tail", "p.public.x"], "there is p.public.t");
    shop.world.send("p.public.t", "k", "not an event");
    let agent = shop.agent("avro");
    wait_until(Instant::now() + PATIENCE, || shop.world.end("p.public.t") == 2);
    let arguments = ["tail", "p.public.t", "--from", "beginning", "--max", "2"];
    let (code, out) = shop.world.told(&more, &arguments);
    let lines = lines(&out);
    assert_eq!((code, &lines[0]["value_unreadable"]["bytes"]), (Some(0), &Value::from(12)));
    assert_eq!(lines[1]["value"]["after"]["total"], "9.50");
    let (code, _) = shop.world.told_without_kafka(&["tail", "p.public.t"]);
    assert_eq!(code, Some(5));
    agent.stop();
}
