//! The runner's part in notices that the server sends into the stream.

use super::Runner;
use crate::agent::supervise::PipelineError;
use crate::continuity::{Trouble, TroubleReason};
use crate::lsn::Lsn;
use crate::rows::RowsError;
use crate::watch::notice::{self, Notice, meaning};

/// What the server's notices so far have led to.
#[derive(Default)]
pub(super) struct ServerNotices {
    /// The received position at which the server began to wait for a standby.
    awaiting_at: Option<Lsn>,
    /// The server skips changes after this position, because the publication does not exist at
    /// their place of the WAL. The publication may exist now.
    skipped_from: Option<Lsn>,
    /// The stream failed at WAL after this position, because the publication does not exist there.
    /// The next connect judges this failure.
    pub absent_from: Option<Lsn>,
    /// The last notice in the log. The server repeats a notice while its cause lasts.
    logged: Option<String>,
}

impl Runner {
    /// Acts on the server's notices in the last read. Ends the trouble about an awaited standby
    /// when the stream has moved on.
    pub(super) fn on_server_notices(&mut self) {
        let received = self.core.received();
        if self.checks.watch.notices.awaiting_at.is_some_and(|at| received > at) {
            self.checks.watch.notices.awaiting_at = None;
            self.reporter.trouble_over_if(TroubleReason::StandbyAwaited);
        }
        let Some(live) = &mut self.live else { return };
        for notice in live.stream.take_notices() {
            match meaning(&notice.sqlstate, &notice.message, &self.config.publication) {
                Notice::StandbyAwaited { slot } => {
                    self.checks.watch.notices.awaiting_at = Some(received);
                    let which = slot.map_or_else(String::new, |slot| format!(" of slot `{slot}`"));
                    let detail = format!(
                        "the server waits for the standby{which} before it sends changes: {}",
                        notice.message
                    );
                    let reason = TroubleReason::StandbyAwaited;
                    self.reporter.trouble(Some(Trouble::plain(reason, detail, reason.next())));
                }
                // If the publication is missing now, the next look finds that, and halts with the
                // range. If it exists again by now, the next connect halts.
                Notice::PublicationSkipped => {
                    let from = self.core.record().map(|record| record.confirmed);
                    self.checks.watch.notices.skipped_from = from;
                    self.checks.watch.look_at_once();
                }
                Notice::Other => {}
            }
            if self.checks.watch.notices.logged.as_ref() != Some(&notice.message) {
                tracing::warn!(sqlstate = notice.sqlstate, "notice: {}", notice.message);
                self.checks.watch.notices.logged = Some(notice.message);
            }
        }
    }

    /// Ends the connection after a look that has found nothing, if the server skipped changes.
    pub(super) fn end_where_skipped(&mut self) {
        if let Some(from) = self.checks.watch.notices.skipped_from.take() {
            self.lacks_publication(from, "the server skips changes".to_owned());
        }
    }

    /// True if this error ends the stream, because the publication does not exist at this place of
    /// the WAL.
    pub(super) fn is_absence(&self, error: &PipelineError) -> bool {
        let publication = &self.config.publication;
        let (PipelineError::Postgres(error) | PipelineError::Rows(RowsError::Postgres(error))) =
            error
        else {
            return false;
        };
        // Only errors of a running stream count. A start without its slot fails with the same
        // SQLSTATE, and the slot can have the publication's name.
        error.of_stream().is_some_and(|source| {
            notice::is_absence(&source.sqlstate, &source.message, publication)
        })
    }

    /// Ends the connection, because the publication does not exist at a place of the WAL after
    /// `from`. The next connect judges whether the publication exists by now, and halts in either
    /// case.
    pub(super) fn lacks_publication(&mut self, from: Lsn, what: String) {
        self.checks.watch.notices.absent_from = Some(from);
        let publication = &self.config.publication;
        let detail =
            format!("{what}: publication `{publication}` does not exist at this place of the WAL");
        let reason = TroubleReason::StreamBroke;
        self.broke(PipelineError::Trouble(Trouble::plain(reason, detail, reason.next())));
    }
}
