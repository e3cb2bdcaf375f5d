//! The runner's regular checks: the server after the end of the ordinary connection, the row of the
//! slot, whether a halt is over, a silent walsender.

use super::session::read_slot;
use super::silence::probe_walsender;
use super::{CHECK_INTERVAL, CheckResult, Probe, Runner, SLOT_INTERVAL};
use crate::agent::supervise::{PipelineError, disposition};
use crate::core::Event;
use crate::postgres::Sql;
use std::sync::Arc;

impl Runner {
    /// Checks whether the server is shutting down, because the ordinary connection ended. If so,
    /// the stream has to close at once, because a shutdown waits for the stream.
    pub(super) fn probe_server(&mut self) {
        let config = self.config.postgres.clone();
        self.tasks.probing = Some(tokio::spawn(async move {
            match Sql::connect(&config).await {
                Ok(sql) => Probe::Sentinel(Box::new(sql)),
                Err(error) => Probe::Gone(error.into()),
            }
        }));
    }

    /// Starts the checks that are due: of a silent walsender, and then of the halt if the stream is
    /// halted without a connection. Otherwise the row of the slot is read, and an open connection
    /// also looks at publication and tables.
    pub(super) fn start_checks(&mut self) {
        let now = tokio::time::Instant::now();
        let reads = self.may_read();
        if let Some(live) = &mut self.live {
            if !reads {
                live.silence.not_reading(now);
            }
            if live.silence.is_too_long(now) && self.tasks.probing.is_none() {
                self.tasks.probing = Some(tokio::spawn(probe_walsender(
                    Arc::clone(&live.sql),
                    live.stream.backend_pid(),
                    self.config.slot.clone(),
                )));
            }
        }
        let often = self
            .config
            .xmin_interval
            .filter(|_| self.live.is_some())
            .map_or(CHECK_INTERVAL, |often| CHECK_INTERVAL.min(often));
        // While something is copied, [`SLOT_INTERVAL`] does not apply, because the load of the
        // source is judged from one reading of the row to the next.
        let plain = self.live.is_some() && self.core.halted().is_none() && !self.copies_anything();
        let often = if plain { often.min(SLOT_INTERVAL) } else { often };
        if now.duration_since(self.checks.looked_at) < often || self.tasks.checking.is_some() {
            return;
        }
        self.checks.looked_at = now;
        if let Some(halt) = self.core.halted().filter(|_| self.live.is_none()).cloned() {
            self.look_at_halt(halt);
        } else if self.live.is_none() && !self.core.is_stopping() {
            let (postgres, slot) = (self.config.postgres.clone(), self.config.slot.clone());
            let check = async move { CheckResult::Away(read_slot(&postgres, &slot).await) };
            self.tasks.checking = Some(tokio::spawn(check));
        } else {
            self.check_source();
        }
    }

    pub(super) fn on_check(&mut self, result: CheckResult) {
        match result {
            CheckResult::Halted { lifted, slot, state } => {
                if let Some(state) = state {
                    self.reporter.consents(&state);
                }
                if let Some(row) = slot {
                    self.reporter.slot(&row);
                }
                if lifted {
                    self.apply(Event::Retry);
                }
            }
            CheckResult::Away(Some(row)) => self.reporter.slot(&row),
            CheckResult::Away(None) => {}
            CheckResult::Login(Ok(None)) => self.reporter.login_refused(),
            CheckResult::Login(Ok(Some(sink))) => {
                self.config.sink = sink;
                self.apply(Event::GiveUp);
            }
            CheckResult::Login(Err(error)) => {
                self.reporter.failed(&disposition(&PipelineError::Kafka(error)))
            }
            CheckResult::Source(row, seen) => {
                if let Some((row, standby_lag)) = row {
                    self.reporter.slot(&row);
                    self.judge_load(&row, standby_lag);
                    if let Some(live) = &mut self.live {
                        live.rows.set_xmin(row.catalog_xmin);
                        live.slot = row;
                    }
                }
                if let Some(seen) = seen {
                    self.watched(*seen);
                }
            }
        }
    }
}
