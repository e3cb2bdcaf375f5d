//! Acceptance cases of Debezium's connector that no other test holds (`docs/acceptance.md` says who holds the others): the
//! whole agent, a real Postgres, a mock cluster.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

#[path = "acceptance/copies.rs"]
mod copies;
#[path = "acceptance/halts.rs"]
mod halts;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "acceptance/stream.rs"]
mod stream;
#[path = "first_copy/world.rs"]
#[expect(dead_code, reason = "three test binaries share it, and none needs all of it")]
mod world;
