//! Tests of the demo as a person starts it. It ends after its time or by Ctrl-C, with equal tables,
//! and leaves no files behind.
//!
//! The tests in `src/cli/demo/tables.rs` show that a lost or altered event makes the comparison
//! fail.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longest time for a demo of some seconds. It is several times what a busy machine needs, and
/// every wait within the demo ends before it.
const DEADLINE: Duration = Duration::from_secs(240);

/// The demo with its temporary files in `folder`.
fn demo(folder: &Path) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    demo.arg("demo").env("TMPDIR", folder).env_remove("DEMO_SECONDS").stdin(Stdio::null());
    // A configuration in the environment is for the user's agent and not for the demo's.
    demo.env("WELLSPRING_KAFKA__BROKERS", "nowhere:1");
    demo
}

/// Kills the demo if it has not ended at [`DEADLINE`]. The test drops the sender once the demo has
/// ended.
fn watchdog(demo: &Child) -> Sender<()> {
    let id = demo.id().to_string();
    let (ended, wait) = channel::<()>();
    std::thread::spawn(move || {
        if wait.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the demo did not end within {DEADLINE:?}");
            let _ = Command::new("kill").args(["-KILL", &id]).status(); // what it printed is shown by the assertion
        }
    });
    ended
}

/// A folder that an unprivileged server may enter as well.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("wsd").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn left_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect()
}

fn signal(demo: &Child) {
    let sent = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The number before `word` in the last comparison's line.
fn number_before(text: &str, word: &str) -> u64 {
    let line = text.lines().rfind(|line| line.starts_with("tables equal at the end, at ")).unwrap();
    line.split(word).next().unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn tables_equal_topics_and_nothing_is_left_behind() {
    let folder = folder();
    let mut demo = demo(folder.path());
    let demo = demo
        .env("DEMO_SECONDS", "5")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let watchdog = watchdog(&demo);
    let output = demo.wait_with_output().unwrap();
    drop(watchdog);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert!(out.contains("tables equal at the end"), "{out}\n{err}");
    assert!(!out.contains("NOT EQUAL"), "{out}");
    assert!(number_before(&out, " events") > 200, "more than the opening's rows\n{out}");
    assert!(number_before(&out, " rows in 5 tables") > 100, "{out}");
    assert!(out.contains("/status"), "{out}");
    assert!(!out.contains('\x1b'), "no colours where there is no terminal\n{out}");
    assert!(!err.contains("ERROR"), "{err}");
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}

#[test]
fn an_interrupt_ends_it_with_a_comparison() {
    let folder = folder();
    let mut demo =
        demo(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _watchdog = watchdog(&demo);
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("insert") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended before the first event");
    }
    signal(&demo);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{rest}");
    assert!(rest.contains("tables equal at the end"), "{rest}");
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}

#[test]
fn a_second_interrupt_ends_it_at_once_and_leaves_nothing_behind() {
    let folder = folder();
    let mut demo =
        demo(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _watchdog = watchdog(&demo);
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Streaming") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended before it streamed");
    }
    signal(&demo);
    while !line.starts_with("stopping") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended without a word");
    }
    signal(&demo);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    // The demo may have ended before the second signal came.
    let code = demo.wait().unwrap().code();
    assert!(code == Some(1) || rest.contains("tables equal at the end"), "{code:?}\n{rest}");
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}

#[test]
fn a_length_that_is_no_number_is_refused_before_anything_starts() {
    let folder = folder();
    let output = demo(folder.path()).env("DEMO_SECONDS", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DEMO_SECONDS"));
    assert_eq!(left_in(folder.path()), Vec::<String>::new());
}
