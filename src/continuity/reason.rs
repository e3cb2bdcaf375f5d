//! The reasons for a halt, under the name that this room gives them.

pub use crate::reason::{By, Lifting, Proof, Reason};
