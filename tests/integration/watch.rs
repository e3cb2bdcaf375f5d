//! Tests of the watch with a real server: what looks find, and what a streaming agent does about
//! their findings.

mod agent;
mod failover;
mod looks;
mod stream;
