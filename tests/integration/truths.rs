//! Operators are told the truth: what status, metrics, log and commands say, held against the servers.

mod breaks;
mod commands;
mod harm;
mod lag;
mod log;
mod standby;
