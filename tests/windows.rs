//! Copies beside the stream, against a real server and a cluster in memory: windows from the first moment, a table read
//! again by request, one that joins, one whose first copy was cut off, writers on hot keys meanwhile.

#![expect(clippy::unwrap_used, reason = "a test ends where its peers do not answer")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "windows/bad_source.rs"]
mod bad_source;
#[path = "windows/bad_tables.rs"]
mod bad_tables;
#[path = "windows/journals.rs"]
mod journals;
#[path = "windows/keyless.rs"]
mod keyless;
#[path = "windows/published.rs"]
mod published;
#[path = "windows/requests.rs"]
mod requests;
#[path = "windows/signals.rs"]
mod signals;
#[path = "windows/strain.rs"]
mod strain;
#[path = "windows/under_fire.rs"]
mod under_fire;
#[path = "first_copy/world.rs"]
#[expect(dead_code, reason = "two test binaries share it, and neither needs all of it")]
mod world;
