//! The runner's part in notices that the server sends into the stream.

use super::Runner;
use crate::continuity::{Trouble, TroubleReason};
use crate::lsn::Lsn;
use crate::watch::notice::{Notice, meaning};

/// What earlier notices of a connection have led to.
#[derive(Default)]
pub(super) struct Noticed {
    /// The received position at which the server began to wait for a standby.
    awaiting_at: Option<Lsn>,
    /// The last notice in the log. The server repeats a notice while its cause lasts.
    logged: Option<String>,
}

impl Runner {
    /// Acts on the notices of the last read, and ends the wait for a standby when changes arrive
    /// again.
    pub(super) fn noticed(&mut self) {
        let received = self.core.received();
        if self.checks.watch.noticed.awaiting_at.is_some_and(|at| received > at) {
            self.checks.watch.noticed.awaiting_at = None;
            self.reporter.trouble_over_if(TroubleReason::StandbyAwaited);
        }
        let Some(live) = &mut self.live else { return };
        for notice in live.stream.take_notices() {
            match meaning(&notice.sqlstate, &notice.message, &self.config.publication) {
                Notice::StandbyAwaited { slot } => {
                    self.checks.watch.noticed.awaiting_at = Some(received);
                    let which = slot.map_or_else(String::new, |slot| format!(" of slot `{slot}`"));
                    let detail = format!(
                        "the server waits for the standby{which} before it sends changes: {}",
                        notice.message
                    );
                    let reason = TroubleReason::StandbyAwaited;
                    self.reporter.trouble(Some(Trouble::plain(reason, detail, reason.next())));
                }
                // The next look finds the publication as it is, and halts with the range.
                Notice::PublicationSkipped => self.checks.watch.look_at_once(),
                Notice::Other => {}
            }
            if self.checks.watch.noticed.logged.as_ref() != Some(&notice.message) {
                tracing::warn!(sqlstate = notice.sqlstate, "notice: {}", notice.message);
                self.checks.watch.noticed.logged = Some(notice.message);
            }
        }
    }
}
