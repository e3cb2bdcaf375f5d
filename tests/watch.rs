//! The watch against a real server: what a look sees, and what becomes of it while a whole agent streams.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

#[path = "watch/agent.rs"]
mod agent;
#[path = "watch/looks.rs"]
mod looks;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "first_copy/world.rs"]
#[expect(dead_code, reason = "several test binaries share it, and none needs all of it")]
mod world;
