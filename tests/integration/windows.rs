//! Tests of backfills with a real server and a cluster in memory: from the first start on, by a
//! request, for a table that joins, after a first copy that was cut off, and with writers on the
//! same keys.

mod bad_source;
mod bad_tables;
mod journals;
mod keyless;
mod published;
mod requests;
mod signals;
mod strain;
mod under_fire;
