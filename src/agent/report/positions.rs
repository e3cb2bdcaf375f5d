//! Reports the positions of the stream, the lag that follows from them, and the WAL that the server
//! keeps for the slot.

use super::{Reporter, gauge};
use crate::core::Core;
use crate::lsn::Lsn;
use crate::postgres::slot::SlotRow;
use crate::status::Positions;
use crate::status::lag::Since;
use crate::status::outlook::Reading;
use crate::status::progress::Wal;

impl Reporter {
    /// Puts the slot's row, which was just read, into status and metrics: the WAL that the server
    /// keeps, its limit, and the forecast. The confirmed position comes from the core.
    pub fn slot(&mut self, row: &SlotRow) {
        self.status.lsn.restart = row.restart_lsn.unwrap_or(Lsn::ZERO); // a lost slot keeps nothing
        self.metrics.restart_lsn.set(float(self.status.lsn.restart.bytes()));
        self.copy.wal = Wal { retained_bytes: row.retained_bytes(), safe_bytes: row.safe_bytes() };
        self.metrics.slot_retained_bytes.set(row.retained_bytes().map_or(f64::NAN, float));
        self.metrics.slot_safe_wal_bytes.set(row.safe_bytes().map_or(-1.0, float));
        if let Some(wal_status) = &row.wal_status {
            self.metrics.slot_wal_status.set(wal_status);
        }
        let now_micros = crate::agent::runner::unix_nanos() / 1000;
        self.lag.read(now_micros, row.server_lsn);
        let reading = Reading {
            server: row.server_lsn,
            retained_bytes: row.retained_bytes().unwrap_or(0),
            safe_bytes: row.safe_wal_size,
            wal_status: row.wal_status.clone().unwrap_or_default(),
            invalidation: row.invalidation.clone().unwrap_or_default(),
        };
        let wal = self.outlook.read(now_micros / 1000, reading);
        let metrics = &self.metrics;
        metrics.server_lsn.set(float(wal.server.bytes()));
        let unlimited = if wal.wal_status == "lost" { f64::NAN } else { -1.0 };
        metrics.slot_limit_bytes.set(wal.limit_bytes.map_or(unlimited, float));
        metrics.slot_limit_forecast_seconds.set(wal.seconds_to_limit.unwrap_or(f64::INFINITY));
        metrics.slot_standstill_seconds.set(wal.seconds_at_standstill.unwrap_or(f64::INFINITY));
        self.status.wal = wal;
    }

    /// Updates the positions after each turn of the loop, so that a scrape reads current values.
    pub(super) fn positions(&mut self, core: &Core, now_micros: i64) {
        let ledger = core.ledger();
        let lsn = Positions {
            received: core.received(),
            delivered: ledger.confirmed(),
            confirmed: core.flushed(),
            restart: self.status.lsn.restart,
        };
        self.status.lsn = lsn;
        let (oldest, newest) = (ledger.oldest_open_commit(), ledger.last_commit());
        self.lag.stream((lsn.received, lsn.delivered), oldest, newest);
        self.status.lag_bytes = self.lag.bytes(now_micros);
        let server = self.lag.server(now_micros).filter(|_| lsn.confirmed > Lsn::ZERO);
        let unconfirmed = server.map(|end| end.bytes_since(lsn.confirmed));
        let metrics = &self.metrics;
        metrics.received_lsn.set(gauge(lsn.received.bytes()));
        metrics.delivered_lsn.set(gauge(lsn.delivered.bytes()));
        metrics.confirmed_lsn.set(gauge(lsn.confirmed.bytes()));
        metrics.undelivered_bytes.set(self.status.lag_bytes.map_or(f64::NAN, float));
        metrics.unconfirmed_bytes.set(unconfirmed.map_or(f64::NAN, float));
        match self.lag.since() {
            Since::Unknown => metrics.oldest_open.set(None, None),
            Since::CaughtUp(until) => metrics.oldest_open.set(None, Some(until)),
            Since::At(at) => metrics.oldest_open.set(Some(at), None),
        }
    }
}

/// Converts bytes for a gauge that can also be NaN.
#[expect(clippy::cast_precision_loss, reason = "bytes and positions, exact below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}
