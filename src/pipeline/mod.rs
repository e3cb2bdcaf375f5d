//! The wiring: one loop that carries every arrow between the rooms.

pub mod continuity;
pub mod core;
mod offsets;
pub mod record;
pub mod status;
