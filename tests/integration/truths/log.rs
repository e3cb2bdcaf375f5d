//! Tests that the whole log of a run has no contradiction: a trouble that is logged is later logged
//! as over, a refusal is not logged as done, and each beginning is logged when it begins.

use crate::support::run::Run;
use crate::support::world::World;
use serde_json::Value;
use std::process::Stdio;

/// One line of the log.
#[derive(Debug)]
struct Line {
    level: String,
    reason: String,
    message: String,
}

fn lines(log: &str) -> Vec<Line> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let parsed = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed
        .map(|line| Line {
            level: text(&line, "level"),
            reason: text(&line, "reason"),
            message: text(&line, "message"),
        })
        .collect()
}

/// The index of the log line whose message begins with these words. There must be exactly one.
#[track_caller]
fn once(log: &[Line], words: &str) -> usize {
    let found: Vec<usize> =
        (0..log.len()).filter(|at| log[*at].message.starts_with(words)).collect();
    assert_eq!(found.len(), 1, "{words}: {log:#?}");
    found[0]
}

/// Checks the log for contradictions that no run may have.
#[track_caller]
fn contradictions(log: &[Line]) {
    let ends = log.iter().any(|line| line.message.contains("not tried again"));
    for (at, line) in log.iter().enumerate() {
        if ends {
            assert!(
                !line.message.contains("tries again by itself"),
                "{line:?} in a log of a process that ends: {log:#?}"
            );
        }
        let is_trouble = line.level == "WARN" && !line.reason.is_empty();
        let later = &log[at + 1..];
        let is_over =
            |later: &Line| later.message == "recovered" || later.message.starts_with("ended");
        if is_trouble {
            assert!(later.iter().any(is_over), "{line:?} has no end: {log:#?}");
        }
        if line.message == "recovered" {
            assert!(
                log[..at].iter().any(|before| before.reason == line.reason),
                "{line:?} recovers nothing: {log:#?}"
            );
        }
    }
}

#[test]
fn a_first_copy_begins_before_the_log_says_that_changes_flow() {
    let world = World::new(
        "create table t (id int primary key); insert into t select generate_series(1, 1000)",
        &["t"],
    );
    let run = Run::start(&world.text("postgres", ""), &[], Stdio::null());
    run.streams();
    world.records("t", 1000);
    let (status, log) = run.log();
    let log = lines(&log);
    contradictions(&log);
    let connected = once(&log, "connected: continuity is proven");
    let streaming = once(&log, "streaming: changes flow");
    assert!(connected < streaming, "{log:#?}");
    assert_eq!(status, 0);
}

#[test]
fn a_restart_of_postgres_is_told_from_begin_to_end() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let run = Run::start(&world.text("postgres", ""), &[], Stdio::null());
    run.streams();
    assert!(world.server.stop_fast(30));
    run.until("away", |status| status["reason"] == "postgres_unavailable");
    world.server.start_again();
    run.streams();
    let (_, log) = run.log();
    let log = lines(&log);
    contradictions(&log);
    let told = log
        .iter()
        .filter(|line| line.reason == "postgres_unavailable" && line.message == "recovered")
        .count();
    assert!(told >= 1, "{log:#?}");
}

#[test]
fn a_kill_is_followed_by_a_word_about_the_confirm_hold() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let text = world.text("postgres", "").replace("quarantine = \"0s\"", "quarantine = \"2s\"");
    let run = Run::start(&text, &[], Stdio::null());
    run.streams();
    world.sql("insert into t values (1)");
    world.records("t", 1);
    drop(run); // as by kill -9
    let run = Run::start(&text, &[], Stdio::null());
    run.streams();
    run.until("the hold's end", |status| status["quarantine_until_ms"] == 0);
    let (_, log) = run.log();
    let log = lines(&log);
    contradictions(&log);
    let held = once(&log, "confirming is held");
    assert!(held < once(&log, "confirming is not held any more"), "{log:#?}");
}

#[test]
fn a_refused_first_connection_is_not_told_as_tried_again() {
    let world = World::new("create table t (id int primary key); create role nobody login", &["t"]);
    world.server.allow(
        "local all postgres trust\nhost all postgres all trust\nhost all nobody all reject\n",
    );
    let run = Run::start(&world.text("nobody", ""), &[], Stdio::null());
    let (status, log) = run.ended_log();
    let log = lines(&log);
    assert_eq!(status, 4, "{log:#?}");
    assert!(log.iter().any(|line| line.message.contains("not tried again")), "{log:#?}");
    contradictions(&log);
}
