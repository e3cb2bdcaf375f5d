//! The `encode` room.

pub mod registry;
mod route;
pub use route::{murmur2, partition};
