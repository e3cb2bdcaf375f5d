//! Fetches what the plans of many tables need with few requests, before the plans are made.
//!
//! Nothing is decided here. A plan uses the facts that were fetched, and fetches any missing fact
//! itself. A failure is therefore dropped: the plan that meets the failure again reports it with
//! the table.
//!
//! A schema is registered only for a relation that the stream has announced or that the first copy
//! reads, and in that order. A schema that was made from the catalog could be newer than rows that
//! still lie in the log. The registry would then get the versions in the wrong order.

use super::described::Described;
use super::{Origin, PlanMaker, SchemaIds};
use crate::change::{Position, RelationShape, describe, describe_copied};
use crate::continuity::Chain;
use crate::continuity::checkpoint::State;
use crate::continuity::schema_key::SchemaKey;
use crate::encode::registry::{RegistryError, SchemaDigest};
use crate::encode::{AvroSchema, Draft};
use crate::kafka::{TopicInfo, TopicRules, TopicSpec, Topics};
use crate::lsn::{Lsn, Oid};
use crate::pgoutput::{self, Message};
use crate::plans::proofs::Claim;
use crate::postgres::catalog;
use crate::table::{TableFacts, TableName};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// The most tables of one batch. The first rows wait until the whole batch is prepared, and Kafka
/// creates this many topics in about a second.
pub const TABLES_MAX: usize = 128;

/// The most schemas that are registered at the same time. Eight register a thousand schemas within
/// seconds, and are few enough for the smallest registry.
const REGISTERED_AT_ONCE_MAX: usize = 8;

/// The most recorded topics that are described when a connection begins. An outbox can have any
/// number of topics, and the answer has to stay small.
const TOPICS_MAX: usize = 10_000;

/// What planning has fetched before a plan asks for it: descriptions of topics, and facts of
/// relations from the catalog.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) topics: Described,
    /// The task that describes the recorded topics. The task was started when the connection began.
    recorded: Option<JoinHandle<Vec<TopicInfo>>>,
    facts: HashMap<Oid, (Lsn, TableFacts)>,
    /// Relations for which facts were fetched in a batch. In one connection, this is tried once for
    /// each relation.
    tried: HashSet<Oid>,
}

impl Ahead {
    /// Removes the fetched facts of a relation. Returns the facts if they were read after the
    /// commit of the change at `at`, or if the plan is for the first copy, whose rows are older
    /// than every batch of facts. `None` otherwise.
    pub(super) fn take_facts(
        &mut self,
        relation: Oid,
        origin: Origin,
        at: Option<Position>,
    ) -> Option<TableFacts> {
        let (read_at, facts) = self.facts.remove(&relation)?;
        let is_covered = origin == Origin::Copy || at.is_some_and(|at| at.commit < read_at);
        is_covered.then_some(facts)
    }
}

/// The relations that these messages announce, in their order. Each relation is in the list once,
/// as its first message describes it.
pub fn announced<'m>(payloads: impl Iterator<Item = &'m [u8]>) -> Vec<RelationShape> {
    let mut known = HashSet::new();
    payloads
        .filter(|payload| payload.first() == Some(&b'R'))
        .filter_map(|payload| match pgoutput::decode(payload) {
            Ok(Message::Relation(relation)) => Some(relation),
            _ => None,
        })
        .filter(|relation| known.insert(relation.oid))
        .map(RelationShape::from)
        .take(TABLES_MAX)
        .collect()
}

impl PlanMaker {
    /// Starts a task that asks the brokers to describe the topics that the state remembers, while
    /// the stream begins.
    pub fn describe_recorded(&mut self) {
        let Some((topics, _)) = self.kafka.clone() else { return };
        let names: Vec<String> =
            self.recorded.partitions.keys().take(TOPICS_MAX).cloned().collect();
        if names.is_empty() {
            return;
        }
        self.metrics.topic_requests.inc();
        self.ahead.recorded = Some(tokio::spawn(async move {
            let described = topics.describe_many(names).await;
            described
                .map_or_else(|error| dropped(&error), |infos| infos.into_iter().flatten().collect())
        }));
    }

    /// Waits for the task of [`PlanMaker::describe_recorded`] and remembers the descriptions of the
    /// topics. Does nothing if no task was started or its answer is taken already.
    pub(super) async fn take_recorded(&mut self) {
        let Some(task) = self.ahead.recorded.take() else { return };
        // The task fails only if the runtime ends.
        if let Ok(infos) = task.await {
            let now = Instant::now();
            infos.into_iter().for_each(|info| self.ahead.topics.note_ahead(now, info));
        }
    }

    /// Fetches what the plans of these relations need: the facts of the catalog in one statement,
    /// topics in one request, schemas in a bounded number of requests at once, and the state
    /// records in one write.
    pub(super) async fn prepare(&mut self, shapes: &[RelationShape], origin: Origin) {
        let wanted: Vec<&RelationShape> = shapes
            .iter()
            .filter(|shape| self.captures(&TableName::new(&shape.namespace, &shape.name)))
            .filter(|shape| !self.relations.is_planned(shape.oid))
            .filter(|shape| !self.ahead.tried.contains(&shape.oid))
            .take(TABLES_MAX)
            .collect();
        // For one relation, fetching ahead saves no request.
        if wanted.len() < 2 {
            return;
        }
        self.ahead.tried.extend(wanted.iter().map(|shape| shape.oid));
        let Some(drafts) = self.drafts(&wanted, origin).await else { return };
        let mut records = BTreeMap::new();
        let drafts = self.prepare_topics(drafts, &mut records).await;
        let ids = self.prepare_ids(&drafts).await;
        let url = self.ids.as_ref().map_or_else(String::new, |ids| ids.registry.url().to_owned());
        let ids: BTreeMap<String, u32> =
            ids.into_iter().map(|(key, id)| (key.at(&url), id)).collect();
        let written = records
            .iter()
            .map(|(topic, partitions)| (format!("topic/{topic}"), Some(partitions.to_string())))
            .chain(ids.iter().map(|(key, id)| (State::schema_key(key), Some(id.to_string()))))
            .collect::<Vec<_>>();
        if written.is_empty() {
            return;
        }
        match self.keeper.write_all(written).await {
            Ok(()) => {
                self.recorded.partitions.extend(records);
                self.recorded.schemas.extend(ids);
            }
            Err(error) => dropped(&error),
        }
    }

    /// Fetches the catalog's facts of these relations, keeps the facts for the plans, and drafts
    /// the plans by them. Relations that cannot be planned, and those whose rows name their topics,
    /// are left out. `None` if the facts cannot be fetched.
    async fn drafts(&mut self, wanted: &[&RelationShape], origin: Origin) -> Option<Vec<Draft>> {
        let at = match super::announced::position(&self.sql).await {
            Ok(at) => at,
            Err(error) => return dropped(&error),
        };
        let oids: Vec<Oid> = wanted.iter().map(|shape| shape.oid).collect();
        let facts = match catalog::facts_of(&self.sql, &oids).await {
            Ok(facts) => facts,
            Err(error) => return dropped(&error),
        };
        let copied = origin == Origin::Copy && self.planner.names_source_types();
        let draft = |shape: &&RelationShape| {
            let facts = facts.get(&shape.oid)?;
            let table = if copied { describe_copied(shape, facts) } else { describe(shape, facts) };
            self.planner.draft(&table).ok().filter(|draft| draft.router.is_none())
        };
        let drafts = wanted.iter().filter_map(draft).collect();
        self.ahead.facts.extend(facts.into_iter().map(|(oid, facts)| (oid, (at, facts))));
        Some(drafts)
    }

    /// Makes sure that the topics of these drafts are described, and creates missing topics if the
    /// configuration allows that. Returns the drafts whose topics accept their records. Adds to
    /// `records` the numbers of partitions that are not recorded yet.
    async fn prepare_topics(
        &mut self,
        drafts: Vec<Draft>,
        records: &mut BTreeMap<String, i32>,
    ) -> Vec<Draft> {
        let Some((topics, rules)) = self.kafka.clone() else { return drafts };
        self.take_recorded().await;
        let now = Instant::now();
        let unknown: BTreeSet<String> = drafts
            .iter()
            .filter(|draft| self.ahead.topics.known(&draft.topic, now).is_none())
            .map(|draft| draft.topic.clone())
            .collect();
        for info in self.made(&topics, &rules, unknown.into_iter().collect()).await {
            self.ahead.topics.note_ahead(now, info);
        }
        let mut ready = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let Some(info) = self.ahead.topics.peek(&draft.topic) else { continue };
            let refused = self.too_few_partitions(&draft, info).is_some();
            if refused || (draft.key.is_none() && info.is_compacted()) {
                continue;
            }
            if !self.recorded.partitions.contains_key(&draft.topic) {
                records.insert(draft.topic.clone(), info.partitions);
            }
            ready.push(draft);
        }
        ready
    }

    /// Asks the brokers to describe these topics, and creates those that do not exist if the
    /// configuration allows that. Returns the descriptions of the topics that exist then.
    async fn made(
        &self,
        topics: &Topics,
        rules: &TopicRules,
        names: Vec<String>,
    ) -> Vec<TopicInfo> {
        if names.is_empty() {
            return Vec::new();
        }
        self.metrics.topic_requests.inc();
        let described = match topics.describe_many(names.clone()).await {
            Ok(described) => described,
            Err(error) => return dropped(&error),
        };
        let missing: Vec<TopicSpec> = names
            .iter()
            .zip(&described)
            .filter(|(_, info)| rules.create && info.is_none())
            .map(|(name, _)| TopicSpec::by(rules, name))
            .collect();
        let mut known: Vec<TopicInfo> = described.into_iter().flatten().collect();
        if !missing.is_empty() {
            self.metrics.topic_requests.inc();
            match topics.create_many(missing).await {
                Ok(made) => known.extend(made.into_iter().flatten()),
                Err(error) => dropped(&error),
            }
        }
        known
    }

    /// Registers the schemas that have no recorded id, and asks for the proof of the recorded ids
    /// without waiting for the answers.
    async fn prepare_ids(&mut self, drafts: &[Draft]) -> Vec<(SchemaKey, u32)> {
        let Some(SchemaIds { registry, proofs }) = self.ids.clone() else { return Vec::new() };
        let mut subjects = HashSet::new();
        let mut unknown = Vec::new();
        let schemas: Vec<AvroSchema> =
            drafts.iter().flat_map(|draft| draft.key.iter().chain(&draft.value)).cloned().collect();
        for schema in schemas {
            let key = SchemaKey::of(&schema);
            match key.find(&self.recorded.schemas, registry.urls()) {
                Some(recorded) => {
                    let schema = SchemaDigest::of(&schema.text);
                    proofs.ask(Claim { id: recorded.id, schema }).await;
                }
                // A second schema of the same subject is registered later, when its own plan is
                // made, so that the order of the rows is kept.
                None if subjects.insert(schema.subject.clone()) => unknown.push((key, schema)),
                None => {}
            }
        }
        let mut unknown = unknown.into_iter();
        let (mut asking, mut given) = (JoinSet::new(), Vec::new());
        loop {
            while asking.len() < REGISTERED_AT_ONCE_MAX
                && let Some((key, schema)) = unknown.next()
            {
                self.metrics.registry_requests.inc();
                let registry = Arc::clone(&registry);
                asking.spawn(async move {
                    let id = registry.id_of(&schema.subject, &schema.text).await;
                    (key, SchemaDigest::of(&schema.text), id)
                });
            }
            let Some(answered) = asking.join_next().await else { return given };
            match answered {
                Ok((key, schema, Ok(id))) => {
                    proofs.given(Claim { id, schema }).await;
                    given.push((key, id));
                }
                Ok((.., Err(error))) => {
                    self.metrics.registry_failures.inc();
                    if !matches!(error, RegistryError::Refused { .. }) {
                        unknown.by_ref().for_each(drop); // the others would fail in the same way
                    }
                    dropped(&error)
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return given, // the runtime is ending
            }
        }
    }
}

/// Logs at level debug that something could not be fetched ahead, and returns an empty value. The
/// plan itself meets the failure again.
fn dropped<T: Default>(error: &(dyn std::error::Error + 'static)) -> T {
    tracing::debug!(error = %Chain(error), "each plan asks for itself");
    T::default()
}
