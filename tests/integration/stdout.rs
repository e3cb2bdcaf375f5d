//! Tests of `sink = "stdout"` as a person uses it: the real program and a real Postgres, with a
//! pipe or a file as standard output.

use crate::support::postgres::Server;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longest wait for anything in these tests. On an idle machine everything takes far less.
const DEADLINE: Duration = Duration::from_secs(90);

/// A server with two tables of three rows each.
fn server() -> Server {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table a (id integer primary key); insert into a select generate_series(1, 3);
         create table b (id integer primary key); insert into b select generate_series(1, 3);",
    );
    server
}

/// The running program, and the folder that it keeps its state in.
pub(super) struct Program {
    child: Child,
    _folder: tempfile::TempDir,
    _watchdog: Sender<()>,
}

impl Program {
    fn start(server: &Server, stdout: Stdio) -> Program {
        Program::start_with(server, stdout, "")
    }

    /// Starts the program with more configuration.
    pub(super) fn start_with(server: &Server, stdout: Stdio, more: &str) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "sink = \"stdout\"\n[postgres]\nurl = \"{}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n\
             [admin]\nlisten = \"off\"\n{more}",
            server.url("postgres")
        );
        std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command.arg("run").current_dir(folder.path()).env_clear().stdin(Stdio::null());
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let _watchdog = watchdog(&child);
        Program { child, _folder: folder, _watchdog }
    }

    pub(super) fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    /// Waits for the end of the program. Returns its exit status and its standard error.
    pub(super) fn ended(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

/// Kills the program if it has not ended at [`DEADLINE`]. The sender is dropped with the program.
fn watchdog(child: &Child) -> Sender<()> {
    let id = child.id().to_string();
    let (ended, wait) = channel::<()>();
    std::thread::spawn(move || {
        if wait.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the program did not end within {DEADLINE:?}");
            let _ = Command::new("kill").args(["-KILL", &id]).status(); // what it said is shown by the assertion
        }
    });
    ended
}

#[track_caller]
fn read(lines: &mut BufReader<ChildStdout>, count: usize) {
    let mut line = String::new();
    for at in 0..count {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended after {at} of {count} lines");
        assert!(line.starts_with("{\"topic\":\"p.public."), "{line}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_process() {
    let server = server();
    let mut program = Program::start(&server, Stdio::piped());
    read(&mut program.lines(), 3); // and the reader is gone, as `head -3` is
    server.sql("postgres", "insert into a values (4)");
    let (code, said) = program.ended();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("the reader of standard output is gone"), "{said}");
    assert!(!said.contains("ERROR") && !said.contains("reconnecting"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_noticed_while_nothing_changes() {
    let server = server();
    let mut program = Program::start(&server, Stdio::piped());
    read(&mut program.lines(), 6); // all rows there are, and then `head -6` is gone
    let (code, said) = program.ended();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("the reader of standard output is gone"), "{said}");
}

#[test]
fn a_full_disk_behind_standard_output_is_named() {
    let server = server();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, said) = Program::start(&server, full.into()).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("standard output cannot be written"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn several_tables_give_no_warning_of_another_producer() {
    let server = server();
    let mut program = Program::start(&server, Stdio::piped());
    let mut lines = program.lines();
    read(&mut lines, 6);
    for id in 4..=13 {
        server
            .sql("postgres", &format!("insert into a values ({id}); insert into b values ({id});"));
    }
    read(&mut lines, 20);
    assert!(Command::new("kill").arg(program.child.id().to_string()).status().unwrap().success());
    let (code, said) = program.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("another producer"), "{said}");
}

#[test]
fn a_number_of_a_partition_does_not_matter_without_topics() {
    let server = server();
    let transform = "[[transform]]\ntype = \"partition-routing\"\nfields = [\"change.id\"]\n\
                     partitions = 12\n";
    let mut program = Program::start_with(&server, Stdio::piped(), transform);
    read(&mut program.lines(), 6);
    let (code, said) = program.ended();
    assert_eq!(code, Some(7), "{said}");
    assert!(!said.contains("halted"), "{said}");
}
