//! The `postgres` room.
