//! The watch against a real server: what a look sees, and what becomes of it while a whole agent streams.

mod agent;
mod failover;
mod looks;
mod stream;
