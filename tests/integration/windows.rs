//! Backfills, against a real server and a cluster in memory: windows from the first moment, a table read
//! again by request, one that joins, one whose first copy was cut off, writers on hot keys meanwhile.

mod bad_source;
mod bad_tables;
mod journals;
mod keyless;
mod published;
mod requests;
mod signals;
mod strain;
mod under_fire;
