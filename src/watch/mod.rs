//! The watch: reads the catalog's rows of publication and captured tables, look by look, and
//! decides what a difference between two looks means.
//!
//! `fingerprint`, `compare`, `finding`, `keys`, `notice` and `rules` are pure. `query` asks the
//! server. `agent` decides when a look is made and what follows from a finding.

mod compare;
mod finding;
mod fingerprint;
pub mod query;
mod keys;
pub mod notice;
mod rules;
#[cfg(test)]
mod simulation;

pub use compare::compare;
pub use finding::{Code, Finding, Weight};
pub use fingerprint::{Fingerprint, Part, Publication, Relation};
pub use keys::Keys;
pub use query::query;
