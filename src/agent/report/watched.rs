//! Findings of the watch that do not halt the stream: warnings in status, and one line in the log
//! for each.

use super::Reporter;
use crate::watch::Finding;
use tracing::warn;

/// The most warnings that status keeps. A migration of a thousand tables must not fill the status.
/// The log has all of them.
const KEPT_MAX: usize = 100;

/// The beginning of the warning about tables whose UPDATE fails.
const FAILING: &str = "UPDATE and DELETE of the application fail on ";

/// The most tables that the warning about failing UPDATEs names.
const NAMED_MAX: usize = 5;

impl Reporter {
    /// Reports the captured tables on which UPDATE and DELETE fail, by the last look. The status
    /// keeps the warning until a look finds no such table.
    pub fn unidentified(&mut self, failing: &[String]) {
        let warning = (!failing.is_empty()).then(|| {
            let named = failing[..failing.len().min(NAMED_MAX)].join(", ");
            let more = failing.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "{FAILING}{named}{more}: nothing identifies their old rows; add a primary key, or \
                 run ALTER TABLE ... REPLICA IDENTITY FULL on each"
            )
        });
        if self.warnings.unidentified != warning {
            self.status.warnings.retain(|known| !known.starts_with(FAILING));
            if let Some(warning) = &warning {
                warn!("{warning}");
                self.status.warnings.push(warning.clone());
            }
            self.warnings.unidentified = warning;
        }
    }

    /// Reports a finding in status, log and metrics.
    pub fn found(&mut self, finding: &Finding) {
        self.metrics.found(finding.code.code());
        let finding = finding.told();
        warn!("{finding}");
        if self.status.warnings.len() < KEPT_MAX && !self.status.warnings.contains(&finding) {
            self.status.warnings.push(finding);
        }
    }

    /// Reports in status and log that a look at publication and tables failed.
    pub fn unwatched(&mut self, error: &str) {
        let warning = format!(
            "publication and tables could not be watched: {error}; the next look tries again"
        );
        if !self.status.warnings.contains(&warning) {
            warn!("{warning}");
            self.status.warnings.push(warning);
        }
    }
}
