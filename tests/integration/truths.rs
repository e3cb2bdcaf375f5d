//! Tests that status, metrics, log and commands say what is true of the servers and of the stream.

mod breaks;
mod commands;
mod harm;
mod lag;
mod log;
mod standby;
