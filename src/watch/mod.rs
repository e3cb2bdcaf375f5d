//! The watch: what the catalog says of the captured tables, look by look, and what a difference between two looks means.
//!
//! `fingerprint`, `compare`, `finding` and `rules` are pure. `look` asks the server. Who looks when, and what follows
//! from a finding, is `pipeline`'s.

mod compare;
mod finding;
mod fingerprint;
pub mod look;
mod rules;
#[cfg(test)]
mod simulation;

pub use compare::compare;
pub use finding::{Code, Finding, Weight};
pub use fingerprint::{Fingerprint, Part, Publication, Relation};
pub use look::look;
