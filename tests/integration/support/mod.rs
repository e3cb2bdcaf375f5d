//! What the tests share: a Postgres server for one test, the program as a process, and a world of
//! server, brokers and agent.

pub mod postgres;
pub mod run;
pub mod world;
