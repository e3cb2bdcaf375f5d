//! The lag is the age of the oldest commit that Kafka has not acknowledged, received or not. It
//! grows while nothing flows. If it cannot be known, it is no number.

use crate::support::world::{PATIENCE, Running, World, wait_until};
use std::time::{Duration, Instant};
use wellspring::agent::request::Request;
use wellspring::status::{Phase, Status};

/// How far a lag in seconds may be off. A server without a stream is read from time to time only,
/// and the machine may be slow.
const OFF_SECONDS_MAX: f64 = 8.0;

/// The least lag to wait for, in seconds.
const GROWN_SECONDS: f64 = 12.0;

/// Waits until the agent reports a lag above [`GROWN_SECONDS`], and compares it with the time since
/// `since`.
#[track_caller]
fn grows(agent: &Running, since: Instant) -> Status {
    let status = agent
        .until("a grown lag", |status| status.lag_seconds.is_some_and(|lag| lag > GROWN_SECONDS));
    let (told, real) = (status.lag_seconds.unwrap(), since.elapsed().as_secs_f64());
    assert!((told - real).abs() < OFF_SECONDS_MAX, "{told} told, {real} by our clock");
    let metric = agent.metric("wellspring_lag_seconds");
    assert!((metric - since.elapsed().as_secs_f64()).abs() < OFF_SECONDS_MAX, "{metric}");
    status
}

fn caught_up(agent: &Running) {
    agent.streams();
    agent.until("no lag", |status| status.lag_seconds == Some(0.0) && status.lag_bytes == Some(0));
}

#[test]
fn the_lag_of_a_paused_stream_grows_and_counts_what_it_lacks() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    caught_up(&agent);
    agent.ask(Request::Pause).unwrap();
    agent.until("paused", |status| status.phase == Phase::Paused);
    let since = Instant::now();
    let bytes = || world.sql("select pg_current_wal_lsn() - '0/0'").trim().parse::<u64>().unwrap();
    let before = bytes();
    world.sql("insert into t select generate_series(1, 50000)");
    let written = bytes() - before;
    let status = grows(&agent, since);
    let told = status.lag_bytes.unwrap();
    assert!(told >= written && told < written + (1 << 20), "{told} told, {written} written");
    let metric =
        agent.metric("wellspring_undelivered_bytes") - f64::from(u32::try_from(told).unwrap());
    assert!((0.0..f64::from(1 << 20)).contains(&metric), "{metric} more in the metrics");
    agent.ask(Request::Resume).unwrap();
    caught_up(&agent);
    agent.stop();
}

#[test]
fn a_halted_stream_has_a_growing_lag_and_no_flowing_table() {
    let world = World::new("create table t (id int primary key, v text)", &["t"]);
    let agent = world.agent("[kafka.client]\n\"message.max.bytes\" = 20000");
    caught_up(&agent);
    world.sql("insert into t values (1, 'x')");
    world.records("t", 1);
    agent.until("streaming", |status| status.tables["public.t"].state == "streaming");
    let since = Instant::now();
    world.sql("insert into t values (2, repeat('x', 30000))");
    agent.halts("record_too_large");
    let status = grows(&agent, since);
    let table = &status.tables["public.t"];
    assert_eq!((&*table.state, &*table.reason), ("waiting", "record_too_large"));
    assert!(status.lag_bytes.unwrap() > 0);
    agent.stop();
    // A new process does not know up to which position Kafka has the stream.
    let agent = world.agent("[kafka.client]\n\"message.max.bytes\" = 20000");
    let status = agent.halts("record_too_large");
    assert_eq!((status.lag_seconds, status.lag_bytes), (None, None));
    assert!(agent.metric("wellspring_lag_seconds").is_nan());
    assert!(agent.metric("wellspring_undelivered_bytes").is_nan());
    agent.stop();
}

#[test]
fn the_lag_is_not_known_while_postgres_is_away() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("");
    caught_up(&agent);
    assert!(world.server.stop_fast(30));
    let away = |status: &Status| status.phase == Phase::Retrying && status.lag_seconds.is_none();
    let status = agent.until("unknown", away);
    assert_eq!(status.lag_bytes, None);
    // Status and metric are computed at different times.
    wait_until(Instant::now() + PATIENCE, || agent.metric("wellspring_lag_seconds").is_nan());
    world.server.start_again();
    caught_up(&agent);
    agent.stop();
}

#[test]
fn a_standby_does_not_tell_the_lag_of_another_agent() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let first = world.agent("");
    caught_up(&first);
    let second = world.agent("");
    let status =
        second.until("standby", |status| status.phase == Phase::Standby && status.wal.read_ms > 0);
    assert_eq!((status.lag_seconds, status.lag_bytes), (None, None));
    assert!(status.wal.retained_bytes.is_some());
    first.stop();
    caught_up(&second);
    second.stop();
}

#[test]
fn the_slot_is_looked_at_although_kafka_is_away_at_the_start() {
    let world = World::new("create table t (id int primary key)", &["t"]);
    let agent = world.agent("[snapshot]\nmode = \"no_data\"");
    caught_up(&agent);
    agent.stop();
    let agent = world.agent_without_kafka();
    let unknown = [
        "slot_retained_bytes",
        "slot_limit_bytes",
        "slot_limit_forecast_seconds",
        "slot_standstill_seconds",
    ];
    let names = unknown.map(|name| format!("wellspring_{name}"));
    let told = names.clone().map(|name| agent.metric(&name));
    // Before the agent has read the slot's row, these metrics are NaN, and never 0, -1 or infinite.
    assert!(agent.status().wal.read_ms > 0 || told.iter().all(|value| value.is_nan()), "{told:?}");
    let status = agent.until("the slot's row", |status| status.wal.read_ms > 0);
    assert!(status.wal.retained_bytes.is_some() && status.lag_seconds.is_none(), "{status:#?}");
    assert!(agent.metric("wellspring_slot_retained_bytes") >= 0.0);
    let deadline = Instant::now() + PATIENCE.min(Duration::from_secs(60));
    wait_until(deadline, || agent.status().reason == "kafka_unavailable");
    assert_eq!(agent.status().reason, "kafka_unavailable");
    agent.stop();
}
