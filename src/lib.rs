//! Wellspring: Postgres changes into Kafka.
//!
//! The rooms (modules) stand in one order, which is the order of the data. A room uses rooms above
//! it in this list and none below. `tests/tidy.rs` checks the order, and ARCHITECTURE.md explains
//! it.

pub mod lsn;
pub mod secret;
pub mod reason;
pub mod metrics;
pub mod table;
pub mod postgres;
pub mod pgoutput;
pub mod change;
pub mod ledger;
pub mod transform;
pub mod encode;
pub mod kafka;
pub mod snapshot;
pub mod watch;
pub mod continuity;
pub mod core;
pub mod status;
mod plans;
mod backfill;
mod rows;
mod initial;
pub mod agent;
pub mod admin;
pub mod config;
pub mod peers;
pub mod cli;
