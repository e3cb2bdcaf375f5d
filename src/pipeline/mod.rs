//! The wiring: one loop that carries every arrow between the rooms.

pub mod status;
