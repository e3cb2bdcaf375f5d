//! Heartbeats: a record at an interval while changes could flow, and a query that moves the WAL of
//! a quiet database.
//!
//! A heartbeat is a record like any other to the producer and the ledger, and it confirms nothing
//! by itself. A query that fails is logged, and runs again with the next heartbeat. The stream does
//! not depend on the query.

use super::{Place, Runner, tools};
use crate::agent::Heartbeat;
use crate::continuity::Chain;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The wait if there are no heartbeats. The loop's other timers are shorter.
const NEVER: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(super) struct HeartbeatTimer {
    heartbeat: Option<Heartbeat>,
    /// When the next heartbeat is due. `None` without heartbeats.
    due: Option<Instant>,
    planned: bool,
    query: Option<JoinHandle<()>>,
}

impl HeartbeatTimer {
    /// Starts the interval for a new connection. The first heartbeat is due after one interval.
    pub(super) fn begin(&mut self, heartbeat: Option<&Heartbeat>) {
        self.heartbeat = heartbeat.cloned();
        self.due = heartbeat.map(|heartbeat| Instant::now() + heartbeat.interval);
        self.planned = false;
    }

    /// Returns the time until the next heartbeat is due, or [`NEVER`] without heartbeats.
    pub(super) fn rest(&self) -> Duration {
        self.due.map_or(NEVER, |due| due.saturating_duration_since(Instant::now()))
    }
}

impl Runner {
    /// Sends a heartbeat that is due, if rows could be sent now. Then starts the query, unless the
    /// query of an earlier heartbeat still runs.
    pub(super) fn beat(&mut self) {
        let Some(heartbeat) = self.checks.heartbeat.heartbeat.clone() else { return };
        if self.checks.heartbeat.rest() > Duration::ZERO {
            return;
        }
        self.checks.heartbeat.due = Some(Instant::now() + heartbeat.interval);
        if !self.may_read() {
            return; // A heartbeat would hide that the stream waits.
        }
        if !self.checks.heartbeat.planned {
            let Some(plan_maker) = self.live.as_mut().and_then(|live| live.plan_maker.take())
            else {
                return;
            };
            self.checks.heartbeat.planned = true;
            self.tasks.planning =
                Some(tokio::spawn(
                    async move { (Place::Heartbeats, plan_maker.heartbeats().await) },
                ));
            // The first heartbeat is sent once its plan is made.
            self.checks.heartbeat.due = Some(Instant::now());
            return;
        }
        let (Some(live), Some(sink)) = (&mut self.live, &mut self.outlet.sink) else { return };
        let mut tools = tools(&mut self.core, sink, &mut self.backfills.copies, &self.reporter);
        if let Err(error) = live.rows.beat(&mut tools) {
            return self.broke(error.into());
        }
        if let Some(query) = heartbeat.query
            && self.checks.heartbeat.query.as_ref().is_none_or(JoinHandle::is_finished)
        {
            let sql = Arc::clone(&live.sql);
            self.checks.heartbeat.query = Some(tokio::spawn(async move {
                if let Err(error) = sql.beat(&query).await {
                    tracing::warn!(
                        error = %Chain(&error),
                        "heartbeat.query failed; it is tried again with the next heartbeat"
                    );
                }
            }));
        }
    }
}
