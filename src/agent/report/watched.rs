//! What the watch has found and does not halt: warnings in status, and one line in the log for each.

use super::Reporter;
use tracing::warn;

/// Warnings that status keeps of findings. More are in the log: a migration of a thousand tables must not fill status.
const KEPT_MAX: usize = 100;

impl Reporter {
    /// Publication or tables changed in a way that people should know.
    pub fn found(&mut self, finding: &str) {
        warn!("{finding}");
        if self.status.warnings.len() < KEPT_MAX && !self.status.warnings.iter().any(|known| known == finding) {
            self.status.warnings.push(finding.to_owned());
        }
    }

    /// The catalog could not be looked at.
    pub fn unwatched(&mut self, error: &str) {
        let warning = format!("publication and tables could not be watched: {error}; the next look tries again");
        if !self.status.warnings.contains(&warning) {
            warn!("{warning}");
            self.status.warnings.push(warning);
        }
    }
}
