//! Acceptance cases of Debezium's connector that no other test covers. `docs/acceptance.md` names
//! the tests of all cases. These tests run the whole agent between a real Postgres and a mock
//! cluster.

mod copies;
mod crashes;
mod halts;
mod stream;
