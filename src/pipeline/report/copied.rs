//! What a first copy says of itself: progress in status, metrics and log, and the tables it is over without.

use super::{Reporter, gauge};
use crate::pipeline::progress::Progress;
use crate::pipeline::status::{CopyStatus, CopyTableStatus};
use crate::snapshot::journal::Left;
use tracing::{info, warn};

/// The copy's progress is logged at most this often.
const LOG_PROGRESS_MS: i64 = 10_000;

impl Reporter {
    /// Where the first copy is; kept after its end for whoever asks.
    pub fn copying(&mut self, mut copy: CopyStatus, now_ms: i64) {
        self.progress.judge(&mut copy, self.wal, now_ms);
        let metrics = &self.metrics;
        metrics.copy_rows.set(gauge(copy.rows));
        metrics.copy_rows_expected.set(gauge(copy.rows_expected));
        metrics.copy_remaining_seconds.set(copy.remaining_seconds.unwrap_or(-1.0));
        let open = |table: &&CopyTableStatus| table.state != "copied" && table.state != "left";
        let tables_open = copy.tables.values().filter(open).count();
        metrics.copy_tables_open.set(gauge(tables_open as u64));
        metrics.copy_tables_left.set(gauge(copy.tables.values().filter(|table| table.state == "left").count() as u64));
        if Progress::is_too_slow(&copy, self.wal) {
            let warning = "at this rate the slot is lost before the copy ends: raise max_slot_wal_keep_size".to_owned();
            if !self.status.warnings.contains(&warning) {
                warn!(
                    wal_bytes = copy.wal_bytes,
                    expected = copy.wal_bytes_expected,
                    safe = self.wal.safe_bytes,
                    "{warning}"
                );
                self.status.warnings.push(warning);
            }
        }
        if now_ms - self.logged_ms >= LOG_PROGRESS_MS && tables_open > 0 && copy.rows > 0 {
            self.logged_ms = now_ms;
            info!(
                rows = copy.rows,
                of = copy.rows_expected,
                per_second = copy.rows_per_second.round(),
                remaining_seconds = copy.remaining_seconds.map(f64::round),
                tables_open,
                wal_mib = copy.wal_bytes / (1024 * 1024),
                "copying"
            );
        }
        self.status.copy = Some(copy);
    }

    /// A table that the first copy is over without.
    pub fn left(&mut self, table: &str, left: &Left) {
        let warning = format!("table {table} is not copied ({}): {}; {}", left.reason, left.detail, left.next);
        if !self.status.warnings.contains(&warning) {
            warn!("{warning}");
            self.status.warnings.push(warning);
        }
    }
}
