//! Reports the first copy, the backfills, and changes of the set of captured tables.

use super::{Reporter, UPDATE_MS, gauge};
use crate::metrics::WindowTotals;
use crate::snapshot::journal::Left;
use crate::snapshot::throttle::Share;
use crate::status::progress::Progress;
use crate::status::{CopyStatus, CopyTableStatus};
use crate::status::{TableStatus, WindowStatus};
use crate::table::TableName;
use std::collections::BTreeMap;
use tracing::{info, warn};

/// A warning about a table that is not copied is added to the status only while the status has
/// fewer warnings than this. The log has all of them.
const WARNINGS_MAX: usize = 100;

/// The least time between two log lines about the progress of the first copy.
const LOG_PROGRESS_MS: i64 = 10_000;

impl Reporter {
    /// Reports tables that are captured from now on, and tables that no longer are.
    pub fn recaptured(&mut self, joined: &[TableName], left: &[TableName]) {
        for table in joined {
            info!(%table, "the table is captured from now on");
            let waiting = TableStatus { state: "waiting".to_owned(), ..TableStatus::default() };
            self.status.tables.entry(table.to_string()).or_insert(waiting);
        }
        for table in left {
            info!(%table, "the table is no longer captured");
            self.status.tables.remove(&table.to_string());
        }
    }

    /// Takes the status of the backfills from `read`, which is called only if the status is due.
    pub fn windows(&mut self, read: impl FnOnce() -> (Vec<WindowStatus>, WindowTotals)) {
        if crate::agent::runner::unix_nanos() / 1_000_000 - self.updated_ms >= UPDATE_MS {
            let (status, totals) = read();
            let open = status.iter().map(|window| window.open_chunks).sum();
            self.metrics.windows.tell(
                totals,
                status.iter().map(|window| window.state.as_str()),
                open,
            );
            self.copies_seen(&status);
            self.status.windows = status;
        }
    }

    /// Reports the share of time that copies may take, and the reason for a limit. `why` is `None`
    /// if there is no limit.
    pub fn paced(&mut self, share: Share, why: Option<String>) {
        self.metrics.windows.share.set(share.part());
        match &why {
            Some(why) if self.status.copies_slowed.is_empty() => {
                info!(share = share.part(), "copies slow down to protect the source: {why}");
            }
            None if !self.status.copies_slowed.is_empty() => info!("copies go at full speed again"),
            _ => {}
        }
        self.status.copies_slowed = why.unwrap_or_default();
    }

    /// Whether the next [`Reporter::update`] makes the status anew.
    #[must_use]
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms - self.updated_ms >= UPDATE_MS
    }

    /// Reports the progress of the first copy. The status keeps the last progress after the end of
    /// the copy.
    pub fn copying(&mut self, mut copy: CopyStatus, now_ms: i64) {
        self.copy.progress.judge(&mut copy, self.copy.wal, now_ms);
        let metrics = &self.metrics;
        metrics.copy_rows.set(gauge(copy.rows));
        metrics.copy_rows_expected.set(gauge(copy.rows_expected));
        metrics.copy_remaining_seconds.set(copy.remaining_seconds.unwrap_or(-1.0));
        let open = |table: &&CopyTableStatus| !matches!(&*table.state, "copied" | "left" | "owed");
        let tables_open = copy.tables.values().filter(open).count();
        metrics.copy_tables_open.set(gauge(tables_open as u64));
        if Progress::is_too_slow(&copy, self.copy.wal) {
            let warning =
                "at this rate the slot is lost before the copy ends: raise max_slot_wal_keep_size"
                    .to_owned();
            if !self.status.warnings.contains(&warning) {
                warn!(
                    wal_bytes = copy.wal_bytes,
                    expected = copy.wal_bytes_expected,
                    safe = self.copy.wal.safe_bytes,
                    "{warning}"
                );
                self.status.warnings.push(warning);
            }
        }
        if now_ms - self.copy.logged_ms >= LOG_PROGRESS_MS && tables_open > 0 && copy.rows > 0 {
            self.copy.logged_ms = now_ms;
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

    /// Reports the tables whose topics lack rows that nothing brings before a person acts.
    pub fn lacking(&mut self, lacking: &BTreeMap<&str, &Left>) {
        self.metrics.copy_tables_left.set(gauge(lacking.len() as u64));
        for (table, left) in lacking {
            let warning = not_copied(table, left);
            if self.copy.lacking.get(*table) != Some(*left) {
                warn!("{warning}");
            }
            if !self.status.warnings.contains(&warning) && self.status.warnings.len() < WARNINGS_MAX
            {
                self.status.warnings.push(warning);
            }
            if let Some(status) = self.status.tables.get_mut(*table)
                && matches!(&*status.state, "streaming" | "waiting" | "incomplete")
            {
                "incomplete".clone_into(&mut status.state);
                status.reason.clone_from(&left.reason);
                status.detail.clone_from(&left.detail);
                status.next.clone_from(&left.next);
            }
        }
        for (table, left) in std::mem::take(&mut self.copy.lacking) {
            if lacking.get(&*table) == Some(&&left) {
                continue;
            }
            let warning = not_copied(&table, &left);
            self.status.warnings.retain(|known| *known != warning);
            if lacking.contains_key(&*table) {
                continue;
            }
            info!(table, "the table is no longer incomplete: a copy is complete or under way");
            if let Some(status) = self.status.tables.get_mut(&table)
                && status.state == "incomplete"
            {
                "streaming".clone_into(&mut status.state);
                for text in [&mut status.reason, &mut status.detail, &mut status.next] {
                    text.clear();
                }
            }
        }
        self.copy.lacking =
            lacking.iter().map(|(table, left)| ((*table).to_owned(), (*left).clone())).collect();
    }
}

fn not_copied(table: &str, left: &Left) -> String {
    format!("table {table} is not copied ({}): {}; {}", left.reason, left.detail, left.next)
}
