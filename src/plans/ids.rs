//! Planning of schema ids: the recorded id if this registry serves it, otherwise the id that this
//! registry gives.

use super::{Failure, PlanMaker, PlanOf};
use crate::continuity::checkpoint::State;
use crate::continuity::schema_key::{RecordedId, SchemaKey};
use crate::continuity::{Trouble, TroubleReason};
use crate::encode::AvroSchema;
use crate::encode::registry::rule::broken_rule;
use crate::encode::registry::{Registry, RegistryError, SchemaDigest};
use crate::plans::proofs::{Claim, Proofs, Standing};
use std::sync::Arc;

/// The registry, and the task that proves recorded ids there.
#[derive(Clone)]
pub struct SchemaIds {
    /// Client that registers schemas and receives their ids.
    pub registry: Arc<Registry>,
    /// Handle of the task that proves recorded ids.
    pub proofs: Proofs,
}

/// A recorded schema id that a plan uses although the registry has not confirmed it yet.
#[derive(Clone, Debug)]
pub struct Unproven {
    /// Subject under which the schema was registered.
    pub subject: String,
    /// The claim that the registry serves the schema under the recorded id.
    pub claim: Claim,
}

/// A recorded id that this registry does not serve for its schema, and the id that replaces it.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Subject under which the schema is registered.
    pub subject: String,
    /// The recorded id, which this registry does not serve for the schema.
    pub was: u32,
    /// The id that this registry gave.
    pub id: u32,
    /// True if the recorded id came from this registry, by its URL. Then this registry has lost its
    /// schemas, and records in the topic carry ids that it does not serve.
    pub is_same_registry: bool,
}

/// Facts about the schema ids of one plan that have to be reported.
#[derive(Default)]
pub struct Given {
    /// Recorded ids that the plan uses and that are not proven yet.
    pub unproven: Vec<Unproven>,
    /// Recorded ids that new ids have replaced.
    pub replaced: Vec<Replaced>,
}

impl PlanMaker {
    /// Returns the id of a schema at this registry: a recorded id that is proven, a recorded id
    /// that is not proven yet, or a new id. An id that is not proven yet is added to `unproven`.
    /// Any other id is recorded. Without Avro the id is 0.
    pub(super) async fn schema_id(
        &mut self,
        of: PlanOf<'_>,
        schema: &AvroSchema,
        unproven: &mut Vec<Unproven>,
    ) -> Result<u32, Failure> {
        let Some(SchemaIds { registry, mut proofs }) = self.ids.clone() else { return Ok(0) };
        let (key, digest) = (SchemaKey::of(schema), SchemaDigest::of(&schema.text));
        let recorded = key.find(&self.recorded.schemas, registry.urls());
        if let Some(RecordedId { id, is_same_registry }) = recorded {
            let claim = Claim { id, schema: digest };
            match proofs.prove(claim).await {
                Standing::Proven => {
                    self.record_id(&key, registry.url(), id).await?;
                    return Ok(id);
                }
                // A recorded id of this registry is used while the registry does not answer. A
                // recorded id of another registry has to be proven first.
                Standing::Open(_) if is_same_registry => {
                    unproven.push(Unproven { subject: schema.subject.clone(), claim });
                    return Ok(id);
                }
                Standing::Open(_) | Standing::Refuted => {}
            }
        }
        self.metrics.registry_requests.inc();
        let id = match registry.id_of(&schema.subject, &schema.text).await {
            Ok(id) => id,
            Err(error) => {
                self.metrics.registry_failures.inc();
                let rule = match error {
                    RegistryError::Refused { status: INCOMPATIBLE, .. } => {
                        rule_of(&registry, schema).await
                    }
                    _ => None,
                };
                let level_url = registry.level_url(&schema.subject);
                return Err(failure(of, (&schema.subject, &level_url), error, rule));
            }
        };
        proofs.given(Claim { id, schema: digest }).await;
        self.record_id(&key, registry.url(), id).await?;
        if let Some(RecordedId { id: was, is_same_registry }) =
            recorded.filter(|recorded| recorded.id != id)
        {
            let subject = schema.subject.clone();
            // The replacement is remembered until the plan is complete. If a later step fails, the
            // next try finds the new id recorded, and would not notice the replacement.
            self.replaced.push(Replaced { subject, was, id, is_same_registry });
        }
        Ok(id)
    }

    /// Records an id under the URL of this registry, if it is not recorded so yet. Removes a record
    /// of the same schema that has no URL.
    async fn record_id(&mut self, key: &SchemaKey, url: &str, id: u32) -> Result<(), Failure> {
        let ours = key.at(url);
        if self.recorded.schemas.get(&ours) != Some(&id) {
            self.remember(&State::schema_key(&ours), id.to_string()).await?;
            self.recorded.schemas.insert(ours, id);
        }
        if self.recorded.schemas.contains_key(key.bare()) {
            // A state record without the URL of a registry would later be taken for an id of any
            // configured registry.
            self.forget(&State::schema_key(key.bare())).await?;
            self.recorded.schemas.remove(key.bare());
        }
        Ok(())
    }
}

/// HTTP status with which a registry refuses a schema that is incompatible with earlier schemas of
/// the subject.
const INCOMPATIBLE: u16 = 409;

/// The next step for a schema that the registry refuses as incompatible. The command in this step
/// sets the compatibility of the subject to NONE, with which the registry accepts every schema.
fn lower(level_url: &str) -> String {
    format!(
        "make the schema compatible, or lower the subject's compatibility with \
         `curl -X PUT -H 'Content-Type: application/json' --data '{{\"compatibility\": \"NONE\"}}' \
         {level_url}`; it is tried again every 30 s"
    )
}

/// Returns, as text, the rule of compatibility that a refused schema breaks. `None` if the registry
/// does not return its level or latest schema, or if it has a rule of its own.
async fn rule_of(registry: &Registry, schema: &AvroSchema) -> Option<String> {
    let level = registry.level(&schema.subject).await.ok()?;
    let latest = registry.latest(&schema.subject).await.ok()??;
    broken_rule(&level, &latest, &schema.text)
}

fn failure(
    of: PlanOf<'_>,
    (subject, level_url): (&str, &str),
    error: RegistryError,
    rule: Option<String>,
) -> Failure {
    let mut what = format!("{of}, subject `{subject}`");
    if let RegistryError::Refused { field: Some(field), .. } = &error {
        what.push_str(&format!(", field `{field}`"));
    }
    match error {
        RegistryError::Unavailable { retry_after, .. } => {
            let trouble = Trouble::new(TroubleReason::RegistryUnavailable, what, &error);
            match retry_after {
                Some(pause) => Failure::Paused(trouble, pause),
                None => Failure::Busy(trouble),
            }
        }
        RegistryError::Secret { .. } | RegistryError::Broken { .. } => {
            Failure::Busy(Trouble::new(TroubleReason::RegistryUnavailable, what, &error))
        }
        RegistryError::Refused { status, .. } => {
            let trouble = Trouble::new(TroubleReason::SchemaRefused, what, &error);
            let is_of_level = status == INCOMPATIBLE;
            let next = if is_of_level { lower(level_url) } else { trouble.next.clone() };
            let detail = match rule {
                Some(rule) => format!("{}; {rule}", trouble.detail),
                None => trouble.detail.clone(),
            };
            Failure::OfTable(Trouble { next, detail, ..trouble })
        }
        RegistryError::Denied { .. } | RegistryError::Setup { .. } => {
            Failure::Refused(Trouble::new(TroubleReason::SchemaRefused, what, &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_pause_of_a_busy_registry_reaches_the_next_try() {
        let error = RegistryError::Unavailable {
            url: "http://r/".to_owned(),
            status: Some(429),
            retry_after: Some(Duration::from_secs(7)),
            detail: "busy".to_owned(),
            source: None,
        };
        let failure =
            failure(PlanOf::Table("t"), ("p.t-value", "http://r/config/p.t-value"), error, None);
        let Failure::Paused(_, pause) = failure else { panic!() };
        assert_eq!(pause, Duration::from_secs(7));
    }

    #[test]
    fn only_a_table_is_called_a_table() {
        let told = |of| {
            let error = RegistryError::Setup { detail: "x".to_owned() };
            failure(of, ("s", "http://r/config/s"), error, None).trouble().detail
        };
        let (table, other) = (told(PlanOf::Table("public.t")), told(PlanOf::Other("heartbeats")));
        assert!(table.starts_with("table public.t, subject `s`"), "{table}");
        assert!(other.starts_with("heartbeats, subject `s`"), "{other}");
    }

    #[test]
    fn only_an_incompatible_schema_is_helped_by_a_lower_level() {
        let next = |status| {
            let (subject, message) = ("p.t-value".to_owned(), String::new());
            let error =
                RegistryError::Refused { subject, status, error_code: 0, message, field: None };
            match failure(
                PlanOf::Table("t"),
                ("p.t-value", "http://r/config/p.t-value"),
                error,
                None,
            ) {
                Failure::OfTable(trouble) => trouble.next,
                _ => unreachable!("a refusal is about the table"),
            }
        };
        assert!(next(409).contains("\"NONE\"}' http://r/config/p.t-value`"), "{}", next(409));
        assert_eq!(next(422), TroubleReason::SchemaRefused.next());
    }
}
