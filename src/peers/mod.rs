//! Peers to throw away: a Kafka broker, a schema registry and a Postgres server, each on free loopback ports.
//!
//! The demo, the tests and `tests/tools/peers.rs` start them; `wellspring run` never does. A peer imports no other
//! room, because what an agent is checked against must not share code with the agent.

pub mod broker;
pub mod registry;
pub mod server;
