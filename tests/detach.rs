//! Tables that are set aside, against a real server, a cluster in memory and the built-in registry: what is refused, what
//! goes on, what a restart keeps, and how one command repairs it.

#![expect(clippy::unwrap_used, reason = "a test ends where its peers do not answer")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "detach/refused.rs"]
mod refused;
#[path = "detach/repair.rs"]
mod repair;
#[path = "detach/skip.rs"]
mod skip;
#[path = "first_copy/world.rs"]
#[expect(dead_code, reason = "three test binaries share it, and none needs all of it")]
mod world;
