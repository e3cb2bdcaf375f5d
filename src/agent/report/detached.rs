//! Reports tables that are refused or detached.

use super::{Reporter, gauge};
use crate::continuity::Trouble;
use crate::continuity::detached::{Detached, Detachments};
use crate::reason;
use crate::status::GapStatus;
use crate::status::TableStatus;
use tracing::warn;

impl Reporter {
    /// Reports that a table is detached, or that its gap begins at an earlier change than was
    /// known.
    pub fn newly_detached(&mut self, detached: &Detached, next: &str) {
        // A record of another version may have a reason that this version does not know. The code
        // is then empty.
        let code = reason::known(&detached.reason).unwrap_or("");
        self.metrics.failed(code);
        self.remember(code, &detached.detail, next);
        self.updated_ms = 0;
    }

    /// Reports that a table's plan is refused. The next change of the table detaches it.
    pub fn refused(&mut self, table: &str, trouble: &Trouble) {
        let reason = trouble.reason.code();
        warn!(
            table,
            reason,
            next = trouble.next,
            "refused; the next change of the table detaches it: {}",
            trouble.detail
        );
        self.metrics.failed(reason);
        self.remember(reason, &trouble.detail, &trouble.next);
        let status = self.status.tables.entry(table.to_owned()).or_default();
        status.state = "refused".to_owned();
        (status.reason, status.detail, status.next) =
            (reason.to_owned(), trouble.detail.clone(), trouble.next.clone());
        self.updated_ms = 0;
    }

    /// Shows a table as streaming again, because its repair is complete.
    pub fn repaired(&mut self, table: &str) {
        if let Some(status) = self.status.tables.get_mut(table) {
            *status = TableStatus {
                state: "streaming".to_owned(),
                reason: String::new(),
                detail: String::new(),
                next: String::new(),
                gap: None,
                ..std::mem::take(status)
            };
        }
        self.updated_ms = 0;
    }

    /// Brings the status of detached tables and of tables under repair up to date.
    pub fn detached(&mut self, tables: &Detachments) {
        self.metrics.tables_detached.set(gauge(tables.iter().count() as u64));
        for (table, detached) in tables.iter() {
            let Some(status) = self.status.tables.get_mut(table) else { continue };
            let state = if detached.is_quarantined() { "detached" } else { "repairing" };
            state.clone_into(&mut status.state);
            status.reason.clone_from(&detached.reason);
            status.detail.clone_from(&detached.detail);
            status.next = detached.next(table);
            status.gap = Some(GapStatus {
                commit_lsn: detached.commit,
                ordinal: detached.ordinal,
                since_ms: detached.at_ms,
                repair_ms: detached.repair_ms,
            });
        }
    }
}
