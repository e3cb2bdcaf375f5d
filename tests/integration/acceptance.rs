//! Acceptance cases of Debezium's connector that no other test holds (`docs/acceptance.md` says who holds the others): the
//! whole agent, a real Postgres, a mock cluster.

mod copies;
mod crashes;
mod halts;
mod stream;
