//! Tests of detached tables with a real server, a cluster in memory and the built-in registry: what
//! is refused, what goes on, what a restart keeps, and how one command repairs a table.

mod refused;
mod repair;
mod skip;
