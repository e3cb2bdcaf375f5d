//! What is told of copies, the first one and those beside the stream, and of the tables captured.

use super::*;

impl Reporter {
    /// Tables are captured from now on, or no longer.
    pub fn recaptured(&mut self, joined: &[TableName], left: &[TableName]) {
        for table in joined {
            info!(%table, "captured from now on");
            let waiting = TableStatus { state: "waiting".to_owned(), ..TableStatus::default() };
            self.status.tables.entry(table.to_string()).or_insert(waiting);
        }
        for table in left {
            info!(%table, "no longer captured");
            self.status.tables.remove(&table.to_string());
        }
    }

    /// What copies beside the stream say of themselves, where it is time to tell.
    pub fn windows(&mut self, status: impl FnOnce() -> Vec<WindowStatus>) {
        if crate::pipeline::runner::unix_nanos() / 1_000_000 - self.told_ms >= TELL_MS {
            self.status.windows = status();
        }
    }

    /// A table that the first copy is over without.
    pub fn left(&mut self, table: &str, left: &Left) {
        let warning = format!("table {table} is not copied ({}): {}; {}", left.reason, left.detail, left.next);
        if !self.status.warnings.contains(&warning) {
            warn!("{warning}");
            self.status.warnings.push(warning);
        }
    }

    /// Where the first copy is; kept after its end for whoever asks.
    pub fn copying(&mut self, copy: Option<CopyStatus>) {
        self.status.copy = copy;
        self.told_ms = 0;
    }
}
