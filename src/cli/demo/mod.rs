//! `wellspring demo`: everything the agent needs, thrown away afterwards.

pub mod broker;
pub mod registry;
