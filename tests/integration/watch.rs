//! The watch against a real server: what a look sees, and what becomes of it while a whole agent streams.

mod agent;
mod looks;
mod stream;
