//! The binary as a shell sees it: what it prints, where, and with which exit status.

use crate::support::postgres::Server;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

fn wellspring(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    // No variable of the test's own environment may configure the program.
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_version_names_what_is_linked_in() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = texts(&wellspring(&["--version"], folder.path()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with(&format!("wellspring {} (librdkafka ", env!("CARGO_PKG_VERSION"))),
        "{out}"
    );
    assert!(out.contains("OpenSSL "), "{out}");
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = texts(&wellspring(&["--help"], folder.path()));
    assert_eq!(code, Some(0));
    for text in [
        "run",
        "check",
        "config",
        "slot",
        "snapshot",
        "pause",
        "reload",
        "demo",
        "--config",
        "WELLSPRING_CONFIG",
        "Exit status:",
        "  3  ",
    ] {
        assert!(out.contains(text), "{text}\n{out}");
    }
}

#[test]
fn a_broken_configuration_ends_each_command_with_all_faults() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("wellspring.toml"),
        "[postgrs]\nurl = 1\n[tables]\ninclude = \"a.b\"\n",
    )
    .unwrap();
    for command in [&["run"][..], &["check"], &["config", "show"], &["slot", "status"]] {
        let (code, out, err) = texts(&wellspring(command, folder.path()));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}\n{err}");
        assert!(err.starts_with("error: the configuration has 4 faults\n"), "{err}");
        assert!(
            err.contains(
                "\n  wellspring.toml:1:2: postgrs: unknown section; did you mean `postgres`?\n"
            ),
            "{err}"
        );
        assert!(
            err.contains("\n  wellspring.toml:4:1: tables.include: expected a list of texts"),
            "{err}"
        );
        assert!(err.contains("\nhint: "), "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = texts(&wellspring(&["--config", "nowhere.toml", "run"], folder.path()));
    assert_eq!(code, Some(2));
    assert!(err.contains("nowhere.toml") && err.contains("No such file"), "{err}");
}

#[test]
fn an_unknown_command_is_a_fault_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = texts(&wellspring(&["chek"], folder.path()));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("check"), "{err}");
}

#[test]
fn the_example_is_a_configuration_that_works() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("wellspring.example.toml");
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = texts(&wellspring(
        &["--config", example.to_str().unwrap(), "config", "show"],
        folder.path(),
    ));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("slot = \"wellspring_shop\""), "{out}");
    // The output is a configuration file, and from it `config show` prints the same values.
    std::fs::write(folder.path().join("wellspring.toml"), &out).unwrap();
    let (code, again, err) = texts(&wellspring(&["config", "show"], folder.path()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let values = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
        lines.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(values(&out), values(&again));
}

#[test]
fn a_secret_of_the_environment_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wellspring"))
        .args(["config", "show"])
        .current_dir(folder.path())
        .env_clear()
        .env("WELLSPRING_SINK", "stdout")
        .env("WELLSPRING_POSTGRES__URL", "postgresql://u:hunter2@h/d")
        .env("WELLSPRING_TABLES__INCLUDE", "public.*")
        .env("WELLSPRING_TOPICS__PREFIX", "p")
        .env("WELLSPRING_SNAPSHOT__MODE", "no_data")
        .output()
        .unwrap();
    let (code, out, err) = texts(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("postgresql://u:***@h/d") && !out.contains("hunter2"), "{out}");
    assert!(out.contains("# WELLSPRING_POSTGRES__URL"), "{out}");
}

#[test]
fn check_names_the_side_that_cannot_be_reached() {
    let folder = tempfile::tempdir().unwrap();
    let text = "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@127.0.0.1:1/d\"\n[tables]\ninclude = [\"a.b\"]\n\
                [topics]\nprefix = \"p\"\n";
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
    let (code, out, err) = texts(&wellspring(&["check", "--json"], folder.path()));
    assert_eq!(code, Some(4), "{out}{err}");
    let findings: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(findings[0]["level"], "fail");
    assert!(findings[0]["what"].as_str().unwrap().contains("127.0.0.1:1"), "{out}");
}

/// A configuration whose Postgres is not there: an agent under it keeps trying.
const AWAY: &str = "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@127.0.0.1:1/d\"\n[tables]\n\
                    include = [\"a.b\"]\n[topics]\nprefix = \"p\"\n";

/// A running agent whose log is read line by line. It is killed when the test ends.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    read: String,
}

impl Running {
    fn start(folder: &Path, admin: &str) -> Running {
        Running::of(folder, &format!("{AWAY}[admin]\nlisten = \"{admin}\"\n"))
    }

    fn of(folder: &Path, config: &str) -> Running {
        std::fs::write(folder.join("wellspring.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command
            .arg("run")
            .current_dir(folder)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Running { child, log, read: String::new() }
    }

    /// Reads the log up to a line with this text.
    fn says(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "the log ends without {text:?}:\n{}",
                self.read
            );
            self.read.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The agent has ended by itself, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_agent_keeps_trying_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Running::start(folder.path(), "127.0.0.1:0");
    let line = agent.says("status, metrics and health: http://");
    let address = line.rsplit("http://").next().unwrap().trim().trim_end_matches('/');
    agent.says("postgres_unavailable");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    agent.signal("-TERM");
    agent.says("SIGTERM: stopping");
    agent.says("nothing was sent");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stop_before_kafka_is_reached_says_that_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[registry]\nurl = \"http://127.0.0.1:1\"\n";
    let config = AWAY.replace("sink = \"stdout\"\n", "");
    assert_ne!(config, AWAY);
    let mut agent =
        Running::of(folder.path(), &format!("{config}{kafka}[admin]\nlisten = \"127.0.0.1:0\"\n"));
    agent.says("kafka_unavailable");
    agent.signal("-INT");
    agent.says("SIGINT: stopping");
    agent.says("nothing was sent");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_agent_takes_requests_with_the_token_and_reloads_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let mut agent = Running::start(folder.path(), &format!("{address}\"\ntoken_file = \"token"));
    agent.says("postgres_unavailable");
    let ask = |command: &[&str]| texts(&wellspring(command, folder.path()));

    let (code, out, err) = ask(&["pause"]);
    assert!(code == Some(0) && out.starts_with("paused: no change is read"), "{out}{err}");
    assert_eq!(
        ask(&["resume"]),
        (Some(0), "resumed where it was paused\n".to_owned(), String::new())
    );
    let (_, out, err) = ask(&["resume"]);
    assert_eq!(out, "it was not paused\n", "{err}");
    let (code, _, err) = ask(&["snapshot", "public.t"]);
    assert!(code == Some(1) && err.contains("has not reached the stream yet"), "{err}");

    // SIGHUP and `wellspring reload` do the same. Both are refused, because the agent has not
    // reached Postgres.
    agent.signal("-HUP");
    agent.says("the configuration stays as it was: not available: the agent has not reached the");
    let (code, _, err) = ask(&["reload"]);
    assert!(code == Some(1) && err.contains("has not reached the stream yet"), "{err}");

    // A rotated token counts at once for the agent and for the command.
    std::fs::write(&token, "fedcba9876543210fedcba9876543210").unwrap();
    assert_eq!(ask(&["resume"]).0, Some(0));
    std::fs::write(&token, "short").unwrap();
    let (code, _, err) = ask(&["pause"]);
    assert!(
        code == Some(1) && err.contains("actions are off: the token has fewer than 16 bytes"),
        "{err}"
    );
    std::fs::write(&token, "fedcba9876543210fedcba9876543210").unwrap();

    // A reload that needs a restart is refused with the names of the keys, and prints no secret. A
    // faulty file changes nothing.
    let file = folder.path().join("wellspring.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = text
        .replace("u@127.0.0.1:1/d", "u:hunter2@127.0.0.1:1/d")
        .replace("prefix = \"p\"", "prefix = \"q\"");
    std::fs::write(&file, other).unwrap();
    let (code, _, err) = ask(&["reload"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains(
            "these need a restart: postgres.publication, postgres.slot, postgres.url, state_file, topics.prefix"
        ),
        "{err}"
    );
    assert!(!err.contains("hunter2"), "{err}");
    std::fs::write(&file, text.replace("[topics]", "[topcs]")).unwrap();
    agent.signal("-HUP");
    agent.says("the configuration stays as it was: error: the configuration has");
    std::fs::write(&file, &text).unwrap();

    agent.signal("-TERM");
    agent.says("SIGTERM: stopping");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
    let (code, _, err) = ask(&["pause"]);
    assert!(code == Some(1) && err.contains("cannot be reached"), "{err}");
}

#[test]
fn a_reload_of_the_same_file_captures_tables_that_are_new() {
    let server = Server::start();
    server.sql("postgres", "create table a (id integer primary key)");
    let (folder, listener) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0"));
    let address = listener.unwrap().local_addr().unwrap();
    std::fs::write(folder.path().join("token"), "0123456789abcdef0123456789abcdef").unwrap();
    let (url, text) = (server.url("postgres"), AWAY.replace("a.b", "public.*"));
    let text = text.replace("postgresql://u@127.0.0.1:1/d", &url);
    let admin = format!("[admin]\nlisten = \"{address}\"\ntoken_file = \"token\"\n");
    let mut agent = Running::of(folder.path(), &format!("{text}{admin}"));
    agent.says("streaming");
    let reload = || texts(&wellspring(&["reload"], folder.path()));
    let same = "the configuration is the same as before;";
    let nothing = format!("{same} the captured tables are the same\n");
    assert_eq!(reload(), (Some(0), nothing, String::new()));
    server.sql("postgres", "create table b (id integer primary key)");
    let joined = format!("{same} captured from now on: public.b\n");
    assert_eq!(reload(), (Some(0), joined, String::new()));
    agent.says("configuration read again: the configuration is the same as before; captured from");
    let published = "select count(*) from pg_publication_tables where tablename = 'b'";
    assert_eq!(server.sql("postgres", published).trim(), "1");
    agent.signal("-TERM");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
}

#[test]
fn actions_without_a_token_file_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wellspring.toml"), AWAY).unwrap();
    let (code, _, err) = texts(&wellspring(&["snapshot", "public.t"], folder.path()));
    assert!(code == Some(2) && err.contains("admin.token_file is not set"), "{err}");
    let (code, _, err) = texts(&wellspring(&["snapshot"], folder.path()));
    assert!(code == Some(2) && err.contains("<TABLE>"), "{err}");
}

#[test]
fn an_address_that_is_taken_is_noticed_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut agent = Running::start(folder.path(), &address);
    agent.says("error: admin.listen: cannot listen on");
    assert_eq!(agent.child.wait().unwrap().code(), Some(2));
    assert!(!agent.read.contains("from Postgres"), "{}", agent.read);
}
