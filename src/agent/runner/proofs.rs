//! The runner's part in schema ids: plans that rest on ids which the registry has not confirmed, and what becomes of them.
//!
//! An id that turns out to be another schema's ends the connection. The next one makes every plan anew, with the ids that the
//! registry gives by then, before a row is read; what it sends again from the confirmed position carries the right id.

use super::*;
use crate::change::Position;
use crate::continuity::{Chain, TroubleReason};
use crate::plans::proofs::{Proofs, Standing};
use crate::plans::{Ready, Replaced, SchemaIds, Unproven, Uses};
use std::collections::BTreeMap;

/// The first and the last Position that a plan sent with an unproven id.
pub(in crate::agent) type Span = Option<(Position, Position)>;

/// Plans in doubt, and the task that proves ids. Both outlive a connection.
#[derive(Default)]
pub(super) struct Doubts {
    ids: Option<SchemaIds>,
    /// By the plan's name. Unproven ids are of the current connection, noted records of this process.
    plans: BTreeMap<String, InDoubt>,
    /// A plan was made after the last look: its ids may be proven or refuted already.
    looks_again: bool,
}

#[derive(Default)]
struct InDoubt {
    topic: String,
    unproven: Vec<Unproven>,
    uses: Rc<Uses>,
}

impl Doubts {
    /// Waits until something is to be looked at. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        match &mut self.ids {
            Some(_) if self.looks_again => {}
            Some(ids) => ids.proofs.changed().await,
            None => std::future::pending().await,
        }
        self.looks_again = false;
    }

    /// Whoever knows the registry by another URL asks anew.
    pub(super) fn forget_registry(&mut self) {
        self.ids = None;
    }
}

impl Runner {
    /// The registry as configured, made anew for each connection: its files may have changed. A later one that cannot be made
    /// leaves the one before in use.
    pub(super) fn schema_ids(&mut self) -> Result<Option<SchemaIds>, crate::encode::registry::RegistryError> {
        let Some(config) = &self.config.registry else { return Ok(None) };
        self.doubts.plans.values_mut().for_each(|plan| plan.unproven.clear()); // plans of the connection before
        let registry = match (Registry::new(config), &self.doubts.ids) {
            (Ok(registry), _) => Arc::new(registry),
            (Err(error), Some(_)) => {
                tracing::warn!(error = %Chain(&error), "the schema registry's client stays as it was");
                return Ok(self.doubts.ids.clone());
            }
            (Err(error), None) => return Err(error),
        };
        let proofs = match &self.doubts.ids {
            Some(SchemaIds { proofs, .. }) => {
                let (told, registry) = (proofs.clone(), Arc::clone(&registry));
                tokio::spawn(async move { told.ask_at(registry).await });
                proofs.clone()
            }
            None => Proofs::start(Arc::clone(&registry), self.reporter.metrics().clone()),
        };
        let ids = SchemaIds { registry, proofs };
        self.doubts.ids = Some(ids.clone());
        Ok(Some(ids))
    }

    /// A plan is made: notes which of its ids are in doubt, and tells which took the place of recorded ones.
    pub(super) fn ids_given(&mut self, ready: &Ready) -> Option<Rc<Uses>> {
        let known = self.doubts.plans.remove(&ready.name).unwrap_or_default();
        self.reporter.ids_settled(&ready.name);
        for replaced in &ready.given.replaced {
            self.reporter.ids_differed(&ready.name, ready.plan.topic(), replaced, known.uses.span());
        }
        self.doubts.looks_again = true;
        if ready.given.unproven.is_empty() {
            return None;
        }
        let uses = Rc::clone(&known.uses);
        let (topic, unproven) = (ready.plan.topic().to_owned(), ready.given.unproven.clone());
        self.doubts.plans.insert(ready.name.clone(), InDoubt { topic, unproven, uses: Rc::clone(&uses) });
        Some(uses)
    }

    /// The registry has answered, or has failed to.
    pub(super) fn proofs_changed(&mut self) {
        let Some(SchemaIds { registry, proofs }) = self.doubts.ids.clone() else { return };
        let (mut open, mut why, mut refuted) = (0, String::new(), Vec::new());
        let reporter = &mut self.reporter;
        self.doubts.plans.retain(|name, plan| {
            let (had, refuted_before) = (plan.unproven.len(), refuted.len());
            plan.unproven.retain(|unproven| match proofs.standing(unproven.claim) {
                Standing::Proven => false,
                Standing::Refuted => {
                    let (Unproven { subject, claim }, span) = (unproven, plan.uses.span());
                    let detail = refutation(subject, claim.id, span);
                    if span.is_some() {
                        reporter.ids_refuted((name, &plan.topic), (subject, claim.id), span, &detail);
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
            // What was sent with a refuted id is told again when the plan is made anew, together with the new id.
            let is_proven = had > 0 && plan.unproven.is_empty() && refuted.len() == refuted_before;
            !is_proven
        });
        self.reporter.ids_unproven(open, registry.url(), &why);
        // Without a connection no plan is in use, and the next connection asks.
        if let Some(first) = refuted.first().filter(|_| self.live.is_some()) {
            let more = match refuted.len() - 1 {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let next = "the agent registers the schemas and goes on under the ids that it is given";
            let detail = format!("{first}{more}");
            self.broke(PipelineError::Trouble(Trouble::plain(TroubleReason::SchemaIdsDiffered, detail, next)));
        }
    }
}

fn refutation(subject: &str, id: u32, span: Span) -> String {
    let sent = sent(span);
    format!("the registry does not serve the schema of subject `{subject}` under id {id}; {sent}")
}

/// What is told of an id that took the place of a recorded one.
pub(in crate::agent) fn replacement(replaced: &Replaced, span: Span) -> String {
    let Replaced { subject, was, id, .. } = replaced;
    format!("subject `{subject}`: id {was} is replaced by {id}; {}", sent(span))
}

/// Which records carry an id that turned out to be wrong.
fn sent(span: Span) -> String {
    match span {
        None => "this process has sent no record with it".to_owned(),
        Some((first, _)) if first.commit.is_zero() => "this process has sent records with it".to_owned(),
        Some((first, last)) => format!(
            "records from Position {}/{} to {}/{} were sent with it",
            first.commit, first.ordinal, last.commit, last.ordinal
        ),
    }
}
