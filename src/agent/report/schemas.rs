//! Reports schema ids that the registry has not confirmed, and ids that differed from the recorded
//! ones.

use super::{Reporter, gauge};
use crate::agent::runner::{Span, replacement};
use crate::continuity::TroubleReason;
use crate::plans::Replaced;
use crate::status::{DifferedStatus, WindowStatus};
use std::collections::BTreeMap;
use tracing::{info, warn};

/// The most findings that the status lists. If a registry has lost all schemas, there is a finding
/// for each table, and all findings say the same.
const LISTED_MAX: usize = 50;

/// The findings about schema ids.
#[derive(Default)]
pub(super) struct Schemas {
    /// The warning about unproven ids, as the status shows it. `None` if all ids are proven.
    unproven: Option<String>,
    /// Ids that differed from the recorded ones, keyed by plan and subject.
    differed: BTreeMap<String, Finding>,
    /// Findings that a person has to read and that did not fit into the list.
    unlisted: u64,
}

struct Finding {
    status: DifferedStatus,
    /// The copy of all rows that was asked for since the finding. `None` if there was no request.
    copy: Option<RepairCopy>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RepairCopy {
    /// The status has not listed the requested copy yet. A copy that is listed as done is an
    /// earlier one.
    Nothing,
    /// The next copy that is listed as done is the requested one.
    UnderWay,
}

impl Schemas {
    /// Returns the detail of the first finding that a person has to read, with the number of
    /// further ones. `None` if there is none.
    pub(super) fn needs_a_person(&self) -> Option<String> {
        let mut written = self.differed.values().filter(|finding| finding.status.needs_a_person);
        let first = written.next()?;
        let more = written.count() as u64 + self.unlisted;
        let more = if more == 0 {
            String::new()
        } else {
            format!("; and {more} more, see schema_ids in /status")
        };
        Some(format!("{}: {}{more}", first.status.plan, first.status.detail))
    }
}

impl Reporter {
    /// Reports how many ids in use the registry has not confirmed, and why.
    pub fn ids_unproven(&mut self, open: u64, url: &str, why: &str) {
        self.metrics.schema_ids_unproven.set(gauge(open));
        self.status.schema_ids.unproven = open;
        let before = self.schemas.unproven.take();
        if let Some(before) = &before {
            self.status.warnings.retain(|warning| warning != before);
        }
        self.updated_ms = 0;
        if open == 0 {
            if before.is_some() {
                info!(registry = url, "every schema id in use is proven or replaced");
            }
            return;
        }
        let warning = format!(
            "{open} schema ids are used as recorded: the registry at {url} has not confirmed that \
             it serves their schemas: {why}"
        );
        if before.is_none() {
            warn!("{warning}");
        }
        self.status.warnings.push(warning.clone());
        self.schemas.unproven = Some(warning);
    }

    /// Lists an id that this process has sent records with, and under which the registry does not
    /// serve their schema. The failure that ends the connection logs the id.
    pub fn ids_refuted(
        &mut self,
        (plan, topic): (&str, &str),
        (subject, was): (&str, u32),
        span: Span,
        detail: &str,
    ) {
        self.list_differed(DifferedStatus {
            plan: plan.to_owned(),
            topic: topic.to_owned(),
            subject: subject.to_owned(),
            was,
            id: None,
            from: span.map(|(first, _)| first.into()),
            to: span.map(|(_, last)| last.into()),
            needs_a_person: true,
            detail: detail.to_owned(),
            next: TroubleReason::SchemaIdsDiffered.next().to_owned(),
        });
    }

    /// Removes the findings about refuted ids of a plan, because the plan is made again. If the
    /// registry then gives the same id again, the id was right.
    pub fn ids_settled(&mut self, plan: &str) {
        self.schemas
            .differed
            .retain(|_, finding| finding.status.plan != plan || finding.status.id.is_some());
        self.tell_differed();
    }

    /// Reports an id that took the place of a recorded one. `span` has the Positions that this
    /// process sent with the recorded id.
    pub fn ids_differed(&mut self, plan: &str, topic: &str, replaced: &Replaced, span: Span) {
        let reason = TroubleReason::SchemaIdsDiffered;
        let mut detail = replacement(replaced, span);
        let needs_a_person = replaced.is_same_registry || span.is_some();
        if !replaced.is_same_registry {
            detail.push_str("; the recorded id is another registry's");
        } else if span.is_none() {
            detail.push_str(
                "; records that earlier processes sent carry an id that the registry does not serve"
            );
        }
        match (needs_a_person, span) {
            (true, None) => {
                warn!(reason = reason.code(), plan, topic, next = reason.next(), "{detail}");
                self.metrics.failed(reason.code());
                self.remember(reason.code(), &format!("{plan}: {detail}"), reason.next());
            }
            // The failure that ended the connection has reported the Positions, or no person has to
            // act.
            (true, Some(_)) | (false, _) => info!(plan, topic, "{detail}"),
        }
        self.list_differed(DifferedStatus {
            plan: plan.to_owned(),
            topic: topic.to_owned(),
            subject: replaced.subject.clone(),
            was: replaced.was,
            id: Some(replaced.id),
            from: span.map(|(first, _)| first.into()),
            to: span.map(|(_, last)| last.into()),
            needs_a_person,
            detail,
            next: if needs_a_person { reason.next().to_owned() } else { String::new() },
        });
    }

    /// Notes that a copy of all rows of a table was asked for. After the copy the topic holds each
    /// row under an id that the registry serves.
    pub fn copy_asked(&mut self, table: &str) {
        let has_done = self.status.windows.iter().any(|window| window.table == table);
        let seen = if has_done { RepairCopy::Nothing } else { RepairCopy::UnderWay };
        let findings =
            self.schemas.differed.values_mut().filter(|finding| finding.status.plan == table);
        findings.for_each(|finding| finding.copy = Some(seen));
    }

    /// Takes the status of the backfills, and removes the findings about tables whose requested
    /// copy is complete.
    pub(super) fn copies_seen(&mut self, windows: &[WindowStatus]) {
        let before = self.schemas.differed.len();
        self.schemas.differed.retain(|_, finding| {
            let Some(seen) = finding.copy else { return true };
            let states = || {
                windows
                    .iter()
                    .filter(|window| window.table == finding.status.plan)
                    .map(|window| &*window.state)
            };
            let is_open = states().any(|state| !matches!(state, "done" | "failed"));
            if is_open {
                finding.copy = Some(RepairCopy::UnderWay);
            }
            let is_done =
                !is_open && seen == RepairCopy::UnderWay && states().any(|state| state == "done");
            if is_done {
                info!(
                    table = finding.status.plan,
                    "the table is copied again with the schema ids that the registry serves"
                );
            }
            !is_done
        });
        if self.schemas.differed.len() != before {
            self.tell_differed();
        }
    }

    fn list_differed(&mut self, status: DifferedStatus) {
        let key = format!("{}\n{}", status.plan, status.subject);
        if self.schemas.differed.len() < LISTED_MAX || self.schemas.differed.contains_key(&key) {
            self.schemas.differed.insert(key, Finding { status, copy: None });
        } else if status.needs_a_person {
            self.schemas.unlisted += 1;
        }
        self.tell_differed();
    }

    fn tell_differed(&mut self) {
        self.status.schema_ids.differed =
            self.schemas.differed.values().map(|finding| finding.status.clone()).collect();
        self.updated_ms = 0;
    }
}
