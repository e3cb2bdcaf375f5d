//! The runner's part in schema ids: it follows plans whose ids the registry has not confirmed.
//!
//! An id under which the registry does not serve the plan's schema ends the connection. The next
//! connection makes every plan again before it reads a row, with the ids that the registry gives by
//! then. The records that it sends again from the confirmed position carry the right id.

use super::Runner;
use crate::agent::supervise::PipelineError;
use crate::change::Position;
use crate::continuity::Trouble;
use crate::continuity::{Chain, TroubleReason};
use crate::encode::registry::Registry;
use crate::plans::proofs::{Proofs, Standing};
use crate::plans::{Ready, Replaced, SchemaIds, Unproven, Uses};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// The first and the last Position that a plan sent with an unproven id. `None` if the plan sent
/// nothing.
pub(in crate::agent) type Span = Option<(Position, Position)>;

/// Plans with unproven ids, and the task that proves ids. Both outlive a connection.
#[derive(Default)]
pub(super) struct Doubts {
    ids: Option<SchemaIds>,
    /// Plans by name. Their unproven ids belong to the current connection, and their noted
    /// Positions to this process.
    plans: BTreeMap<String, InDoubt>,
    /// Whether a plan was made after the last check. Its ids may be proven or refuted already.
    looks_again: bool,
}

#[derive(Default)]
struct InDoubt {
    topic: String,
    unproven: Vec<Unproven>,
    uses: Rc<Uses>,
}

impl Doubts {
    /// Waits until ids have to be checked again. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        match &mut self.ids {
            Some(_) if self.looks_again => {}
            Some(ids) => ids.proofs.changed().await,
            None => std::future::pending().await,
        }
        self.looks_again = false;
    }

    /// Drops the registry's client and its answers, because the configuration names another
    /// registry.
    pub(super) fn forget_registry(&mut self) {
        self.ids = None;
    }
}

impl Runner {
    /// Makes the registry's client anew for each connection, because its files may have changed. If
    /// that fails and there is an earlier client, the earlier one stays in use. Returns `None` if
    /// no registry is configured.
    pub(super) fn schema_ids(
        &mut self,
    ) -> Result<Option<SchemaIds>, crate::encode::registry::RegistryError> {
        let Some(config) = &self.config.registry else { return Ok(None) };
        // The unproven ids belong to the connection before. The new plans bring their own.
        self.tables.doubts.plans.values_mut().for_each(|plan| plan.unproven.clear());
        let registry = match (Registry::new(config), &self.tables.doubts.ids) {
            (Ok(registry), _) => Arc::new(registry),
            (Err(error), Some(_)) => {
                tracing::warn!(
                    error = %Chain(&error),
                    "the schema registry's client stays as it was"
                );
                return Ok(self.tables.doubts.ids.clone());
            }
            (Err(error), None) => return Err(error),
        };
        let proofs = match &self.tables.doubts.ids {
            Some(SchemaIds { proofs, .. }) => {
                let (told, registry) = (proofs.clone(), Arc::clone(&registry));
                tokio::spawn(async move { told.ask_at(registry).await });
                proofs.clone()
            }
            None => Proofs::start(Arc::clone(&registry), self.reporter.metrics().clone()),
        };
        let ids = SchemaIds { registry, proofs };
        self.tables.doubts.ids = Some(ids.clone());
        Ok(Some(ids))
    }

    /// Notes the unproven ids of a new plan, and reports ids that replaced recorded ones. Returns
    /// where the plan notes its Positions, or `None` if all ids are proven.
    pub(super) fn ids_given(&mut self, ready: &Ready) -> Option<Rc<Uses>> {
        let known = self.tables.doubts.plans.remove(&ready.name).unwrap_or_default();
        self.reporter.ids_settled(&ready.name);
        for replaced in &ready.given.replaced {
            self.reporter.ids_differed(
                &ready.name,
                ready.plan.topic(),
                replaced,
                known.uses.span(),
            );
        }
        self.tables.doubts.looks_again = true;
        if ready.given.unproven.is_empty() {
            return None;
        }
        let uses = Rc::clone(&known.uses);
        let (topic, unproven) = (ready.plan.topic().to_owned(), ready.given.unproven.clone());
        self.tables
            .doubts
            .plans
            .insert(ready.name.clone(), InDoubt { topic, unproven, uses: Rc::clone(&uses) });
        Some(uses)
    }

    /// Checks all unproven ids after the registry has answered or failed. A refuted id ends the
    /// connection.
    pub(super) fn proofs_changed(&mut self) {
        let Some(SchemaIds { registry, proofs }) = self.tables.doubts.ids.clone() else { return };
        let (mut open, mut why, mut refuted) = (0, String::new(), Vec::new());
        let reporter = &mut self.reporter;
        self.tables.doubts.plans.retain(|name, plan| {
            let (had, refuted_before) = (plan.unproven.len(), refuted.len());
            plan.unproven.retain(|unproven| match proofs.standing(unproven.claim) {
                Standing::Proven => false,
                Standing::Refuted => {
                    let (Unproven { subject, claim }, span) = (unproven, plan.uses.span());
                    let detail = refutation(subject, claim.id, span);
                    if span.is_some() {
                        reporter.ids_refuted(
                            (name, &plan.topic),
                            (subject, claim.id),
                            span,
                            &detail,
                        );
                    }
                    refuted.push(format!("{name}: {detail}"));
                    false
                }
                Standing::Open(detail) => {
                    open += 1;
                    why = detail;
                    true
                }
            });
            // A plan with a refuted id stays in the list. Its Positions are reported again with the
            // new id, when the plan is made again.
            let is_proven = had > 0 && plan.unproven.is_empty() && refuted.len() == refuted_before;
            !is_proven
        });
        self.reporter.ids_unproven(open, registry.url(), &why);
        // Without a connection no plan is in use, and the next connection asks the registry.
        if let Some(first) = refuted.first().filter(|_| self.live.is_some()) {
            let more = match refuted.len() - 1 {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let next = "the agent registers the schemas and goes on under the ids that it is given";
            let detail = format!("{first}{more}");
            self.broke(PipelineError::Trouble(Trouble::plain(
                TroubleReason::SchemaIdsDiffered,
                detail,
                next,
            )));
        }
    }
}

fn refutation(subject: &str, id: u32, span: Span) -> String {
    let sent = sent(span);
    format!("the registry does not serve the schema of subject `{subject}` under id {id}; {sent}")
}

/// Makes the text about an id that replaced a recorded one. `span` has what was sent with the
/// recorded id.
pub(in crate::agent) fn replacement(replaced: &Replaced, span: Span) -> String {
    let Replaced { subject, was, id, .. } = replaced;
    format!("subject `{subject}`: id {was} is replaced by {id}; {}", sent(span))
}

/// Makes the text about the records that this process has sent with an id.
fn sent(span: Span) -> String {
    match span {
        None => "this process has sent no record with it".to_owned(),
        Some((first, _)) if first.commit.is_zero() => {
            "this process has sent records with it".to_owned()
        }
        Some((first, last)) => format!(
            "records from Position {}/{} to {}/{} were sent with it",
            first.commit, first.ordinal, last.commit, last.ordinal
        ),
    }
}
