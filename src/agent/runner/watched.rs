//! The runner watches publication and tables while it streams: one look a second, on the session
//! that reads the slot's row.
//!
//! `watch` decides what a difference between two looks means. This module decides when a look is
//! made, and what follows from a finding: a halt, or a warning in status.

use super::server_notices::ServerNotices;
use super::{CheckResult, Runner, load};
use crate::agent::Config;
use crate::agent::supervise::PipelineError;
use crate::continuity::{self, Chain};
use crate::plans::Active;
use crate::postgres::{PgError, Sql};
use crate::table::selection::Selection;
use crate::watch::{self, Finding, Fingerprint, Keys, Weight};
use std::sync::Arc;
use std::time::Duration;

/// A look may take one fiftieth of the time: 20 ms of the server's time in each second.
const SHARE: u32 = 50;

/// The last look, and when the next one is due.
#[derive(Default)]
pub(super) struct Watch {
    /// The last look. The findings of its comparison with the look before are reported already.
    base: Option<Arc<Fingerprint>>,
    /// The epoch of `base`. A consent begins a new epoch. The comparison then begins anew.
    epoch: u64,
    /// The earliest time of the next look. `None` if the next look is due at once.
    due: Option<tokio::time::Instant>,
    pub notices: ServerNotices,
    /// The columns that make the key of each table's records. They outlive the connection.
    pub keys: Keys,
}

/// The facts that a look needs.
struct Question {
    publication: String,
    selection: Selection,
    base: Option<Arc<Fingerprint>>,
}

/// A look that was made, and the look that it is compared with.
pub(super) struct LookResult {
    base: Option<Arc<Fingerprint>>,
    took: Duration,
    outcome: Result<(Arc<Fingerprint>, Vec<Finding>), PgError>,
}

impl Watch {
    /// Takes the first look of a connection. Within one epoch the last look of the process stays
    /// the base of the comparison. The next look then also shows what happened while there was no
    /// connection.
    pub(super) fn opened(&mut self, first: Option<Fingerprint>, epoch: u64) {
        if self.base.is_none() || self.epoch != epoch {
            self.base = first.map(Arc::new);
            self.epoch = epoch;
        }
        self.due = None;
    }

    /// Returns a copy of the last look for the comparison of a reload. In the copy, tables that the
    /// new configuration excludes are marked as not captured. `None` without a last look.
    pub(super) fn base_under(&self, selection: &Selection) -> Option<Fingerprint> {
        let mut base = self.base.as_deref()?.clone();
        for relation in base.relations.values_mut() {
            relation.captured &= selection.matches(&relation.table());
        }
        Some(base)
    }

    /// Makes the next look due at once, however long the last look took.
    pub(super) fn look_at_once(&mut self) {
        self.due = None;
    }

    /// Keeps the look of a reload that found nothing that halts. The next look is compared with it.
    pub(super) fn reloaded(&mut self, seen: Fingerprint) {
        self.base = Some(Arc::new(seen));
    }

    fn question(&self, config: &Config) -> Option<Question> {
        if self.due.is_some_and(|due| tokio::time::Instant::now() < due) {
            return None;
        }
        let (publication, selection) = (config.publication.clone(), config.selection.clone());
        Some(Question { publication, selection, base: self.base.clone() })
    }
}

impl Question {
    async fn look(self, sql: &Sql) -> LookResult {
        let began = tokio::time::Instant::now();
        let Question { publication, selection, base } = self;
        let seen =
            watch::query(sql, &publication, |table| selection.matches(table), base.as_deref())
                .await;
        let outcome = seen.map(|seen| {
            let findings =
                base.as_deref().map_or_else(Vec::new, |base| watch::compare(base, &seen));
            (Arc::new(seen), findings)
        });
        LookResult { base, took: began.elapsed(), outcome }
    }
}

impl Runner {
    /// Starts the task that reads the slot's row, and looks at publication and tables if a look is
    /// due.
    pub(super) fn check_source(&mut self) {
        let Some(live) = &self.live else { return };
        let (sql, slot, copying) =
            (Arc::clone(&live.sql), self.config.slot.clone(), self.copies_anything());
        let question = self.checks.watch.question(&self.config);
        self.tasks.checking = Some(tokio::spawn(async move {
            let row = load::read(&sql, &slot, copying).await;
            let seen = match question {
                Some(question) => Some(Box::new(question.look(&sql).await)),
                None => None,
            };
            CheckResult::Source(row, seen)
        }));
    }

    /// Takes the result of a look, and acts on its findings.
    pub(super) fn watched(&mut self, seen: LookResult) {
        self.checks.watch.due = Some(tokio::time::Instant::now() + seen.took * SHARE);
        let is_current = match (&self.checks.watch.base, &seen.base) {
            (Some(base), Some(compared)) => Arc::ptr_eq(base, compared),
            (base, compared) => base.is_none() && compared.is_none(),
        };
        if !is_current || self.live.is_none() {
            // A reload or another connection came between. The next look compares with their look.
            return;
        }
        match seen.outcome {
            Ok((now, findings)) => {
                self.reporter.unidentified(&now.failing());
                self.checks.watch.base = Some(now);
                if !self.found(&findings) {
                    self.end_where_skipped();
                }
            }
            Err(error) => self.reporter.unwatched(&Chain(&error).to_string()),
        }
    }

    /// Reports a finding if the records of a table get another key than before. A table whose rows
    /// choose their topics is left out, because the route of the table decides the key.
    pub(super) fn key_planned(&mut self, active: &Active) {
        if active.routes.is_some() {
            return;
        }
        let names = active.plan.key_places().filter_map(|at| active.plan.column(at));
        let key = names.map(str::to_owned).collect();
        let at = self.core.received();
        if let Some(finding) = self.checks.watch.keys.planned(&active.table, key, at) {
            self.reporter.found(&finding);
        }
    }

    /// Reports findings. Returns true if they halt the stream.
    pub(super) fn found(&mut self, findings: &[Finding]) -> bool {
        for finding in findings.iter().filter(|finding| finding.code.weight() < Weight::Halts) {
            self.reporter.found(finding);
        }
        let halt = continuity::of_findings(findings);
        let halts = halt.is_some();
        if let Some(halt) = halt {
            self.broke(PipelineError::Halt(halt));
        }
        halts
    }
}
