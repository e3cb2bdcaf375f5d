//! Findings of the watch that do not halt the stream: warnings in status, and one line in the log
//! for each.

use super::Reporter;
use tracing::warn;

/// The most warnings that status keeps. A migration of a thousand tables must not fill status. The
/// log has all of them.
const KEPT_MAX: usize = 100;

impl Reporter {
    /// Tells a finding in status and log.
    pub fn found(&mut self, finding: &str) {
        warn!("{finding}");
        if self.status.warnings.len() < KEPT_MAX
            && !self.status.warnings.iter().any(|known| known == finding)
        {
            self.status.warnings.push(finding.to_owned());
        }
    }

    /// Tells that a look failed.
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
