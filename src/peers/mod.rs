//! Throw-away peers: a Kafka broker, a schema registry and a Postgres server, each on free loopback
//! ports.
//!
//! The demo, the tests and `tests/tools/peers.rs` start them, and `wellspring run` never does. A
//! peer imports no other room, because a check of the agent must not share code with the agent.

pub mod broker;
pub mod registry;
pub mod server;
