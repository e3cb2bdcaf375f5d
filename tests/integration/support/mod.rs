//! What the tests share: a Postgres server of their own, and a world of server, brokers and agent.

pub mod postgres;
pub mod run;
pub mod world;
