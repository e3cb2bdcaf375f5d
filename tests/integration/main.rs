//! The program and its rooms against real peers: a Postgres server, a mock Kafka cluster and a
//! schema registry.
//!
//! All modules are one binary, so that librdkafka and the crate are linked once. The modules run
//! side by side in one process: a test starts its own servers on free ports and its own folders,
//! and changes nothing that belongs to the process, such as the environment, the current folder or
//! the log. `cargo test --test integration windows::` runs one module.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says where it stopped"
)]

mod support;
mod truths;

mod acceptance;
mod check_command;
mod cli;
mod conditions;
mod demo;
mod detach;
mod encode;
mod events;
mod exit_statuses;
mod first_copy;
mod kafka_room;
mod planning;
mod preview;
mod postgres_room;
mod protocol_bytes;
mod registry_client;
mod schema_ids;
mod stdout;
mod tail;
mod transforms;
mod watch;
mod windows;
