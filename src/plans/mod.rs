//! Planning: from a Relation message to everything its rows need, off the row path.
//!
//! Catalog facts, schema, topic and registered ids are fetched here while no frame is read. What can pass is tried again
//! for ever; what a person has to change is tried again every 30 s; both are told as trouble while they last.

pub mod keeper;
pub mod proofs;
pub mod sink;
mod active;
mod aside;
mod described;
mod ids;
mod uses;

pub use active::{Active, Aside, Planned};
pub use aside::SetAside;
pub use ids::{Given, Replaced, SchemaIds, Unproven};
pub use sink::Config as SinkConfig;
pub use uses::Uses;

use described::Described;

use crate::change::{RelationShape, describe, describe_copied};
use crate::continuity::detached::{OnRefusal, Refusal};
use crate::continuity::{Trouble, TroubleReason};
use crate::encode::{Draft, Ids, Plan, Planner};
use crate::kafka::{TopicInfo, TopicRules, TopicSpec, Topics};
use crate::lsn::Oid;
use crate::metrics::Metrics;
use crate::postgres::{PgError, Sql, catalog};
use crate::table::{Selection, Table, TableName};
use keeper::Keeper;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often something that a person has to change is looked at again.
pub const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// Something that passes by itself: from here, doubling up to [`BUSY_RETRY_MAX`].
const BUSY_RETRY_MIN: Duration = Duration::from_millis(200);
const BUSY_RETRY_MAX: Duration = Duration::from_secs(10);

/// What a plan needs besides the encoder's part.
pub struct Ready {
    /// How rows are encoded.
    pub plan: Plan,
    /// `namespace.name`, or the topic's name for messages.
    pub name: String,
    /// The topic as it is; none for a sink without topics.
    pub topic: Option<TopicInfo>,
    /// Partitions when the topic was first used.
    pub partitions: i32,
    /// Key and value ids.
    pub ids: Vec<u32>,
    /// Which of them the registry has not confirmed, and which took the place of recorded ones.
    pub given: Given,
    /// Things an operator should know: a changed partition count, a keyless table.
    pub warnings: Vec<String>,
}

/// How planning ended.
pub enum Outcome {
    /// The relation is as it was: its plan stays.
    Unchanged,
    /// Not captured.
    Excluded,
    /// Something a person has to change; only where that was asked for.
    Refused(Trouble),
    /// The table is set aside.
    Aside(Box<SetAside>),
    /// A plan.
    Ready(Box<Ready>),
}

/// Everything planning works with; handed to its task and back.
pub struct Desk {
    sql: Arc<Sql>,
    planner: Planner,
    ids: Option<SchemaIds>,
    kafka: Option<(Topics, TopicRules)>,
    topics: Described,
    keeper: Keeper,
    captured: Vec<TableName>,
    selection: Selection,
    partitions: BTreeMap<String, i32>,
    schemas: BTreeMap<String, u32>,
    /// Ids that took the place of recorded ones, since the last plan was made.
    replaced: Vec<Replaced>,
    /// What each relation was planned as.
    tables: HashMap<Oid, Table>,
    /// Columns that rows still to come may hold NULL in, whatever the catalog says by now.
    nullable: HashMap<Oid, BTreeSet<String>>,
    troubles: mpsc::Sender<Option<Trouble>>,
    metrics: Metrics,
    on_refusal: OnRefusal,
}

/// Where planning keeps what it learns.
pub struct Places {
    /// Catalog queries.
    pub sql: Arc<Sql>,
    /// Where schema ids come from, for Avro.
    pub ids: Option<SchemaIds>,
    /// Topics and the rules for new ones; none for a sink without topics.
    pub kafka: Option<(Topics, TopicRules)>,
    /// The state.
    pub keeper: Keeper,
    /// Trouble while it lasts, `None` when it is over.
    pub troubles: mpsc::Sender<Option<Trouble>>,
    /// Counts what the registry is asked.
    pub metrics: Metrics,
    /// What happens where one table is refused.
    pub on_refusal: OnRefusal,
}

/// What to do where only a person can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Try again every [`REFUSED_RETRY`].
    Endless,
    /// Come back where it is of this table alone, else try again.
    UntilTableRefused,
    /// Come back.
    UntilRefused,
}

/// Where the rows come from that a plan is for: schemas that name declared types differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The stream, or a copy beside it.
    Stream,
    /// The first copy.
    Copy,
}

enum Failure {
    Busy(Trouble),
    /// Of whatever is asked for: credentials, rights on everything.
    Refused(Trouble),
    /// Of this table or its topic alone.
    OfTable(Trouble),
}

impl Desk {
    /// A desk for one connection.
    #[must_use]
    pub fn new(
        places: Places,
        planner: Planner,
        (captured, selection): (Vec<TableName>, Selection),
        partitions: BTreeMap<String, i32>,
        schemas: BTreeMap<String, u32>,
    ) -> Self {
        let Places { sql, ids, kafka, keeper, troubles, metrics, on_refusal } = places;
        Desk {
            sql,
            planner,
            ids,
            kafka,
            topics: Described::default(),
            keeper,
            captured,
            selection,
            partitions,
            schemas,
            replaced: Vec::new(),
            tables: HashMap::new(),
            nullable: HashMap::new(),
            troubles,
            metrics,
            on_refusal,
        }
    }

    /// Captures these tables from now on.
    pub fn recapture(&mut self, captured: &[TableName]) {
        self.captured = captured.to_vec();
    }

    /// Plans a relation; returns when that is done, however long it takes. Where the table may be set aside it is back
    /// with the trouble that is this table's alone.
    ///
    /// # Errors
    /// Only the connection to Postgres: then the stream is read again anyway.
    pub async fn relation(self, shape: RelationShape) -> (Self, Result<Outcome, PgError>) {
        let patience = match self.on_refusal {
            OnRefusal::Stop => Patience::Endless,
            OnRefusal::Detach => Patience::UntilTableRefused,
        };
        self.plan(shape, Origin::Stream, patience).await
    }

    /// The same, back with the trouble where a person has to change something: another table can go first.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn relation_once(self, shape: RelationShape) -> (Self, Result<Outcome, PgError>) {
        self.plan(shape, Origin::Stream, Patience::UntilRefused).await
    }

    /// The same for rows of the first copy.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn copied_once(self, shape: RelationShape) -> (Self, Result<Outcome, PgError>) {
        self.plan(shape, Origin::Copy, Patience::UntilRefused).await
    }

    async fn plan(
        mut self,
        shape: RelationShape,
        origin: Origin,
        patience: Patience,
    ) -> (Self, Result<Outcome, PgError>) {
        let name = TableName::new(&shape.namespace, &shape.name);
        if !self.captured.contains(&name) && !self.selection.captures_later(&name) {
            return (self, Ok(Outcome::Excluded));
        }
        let facts = match catalog::table_facts(&self.sql, shape.oid).await {
            Ok(facts) => facts,
            Err(error) => return (self, Err(error)),
        };
        let mut table = match origin {
            Origin::Copy if self.planner.names_source_types() => describe_copied(&shape, &facts),
            Origin::Copy | Origin::Stream => describe(&shape, &facts),
        };
        if let Some(nullable) = self.nullable.get(&shape.oid) {
            table.columns.iter_mut().filter(|c| nullable.contains(&*c.name)).for_each(|c| c.not_null = false);
        }
        if self.tables.get(&table.oid) == Some(&table) {
            return (self, Ok(Outcome::Unchanged));
        }
        let outcome = self.until_done(&name.to_string(), patience, |planner| planner.draft(&table)).await;
        if matches!(outcome, Ok(Outcome::Ready(_))) {
            self.tables.insert(table.oid, table);
        }
        (self, outcome)
    }

    /// Plans a relation anew, with one more column that may be NULL: its rows are from before it was NOT NULL.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn nullable(mut self, shape: RelationShape, column: String) -> (Self, Result<Outcome, PgError>) {
        self.nullable.entry(shape.oid).or_default().insert(column);
        self.relation(shape).await
    }

    /// The same for rows of the first copy.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn copied_nullable(mut self, shape: RelationShape, column: String) -> (Self, Result<Outcome, PgError>) {
        self.nullable.entry(shape.oid).or_default().insert(column);
        self.plan(shape, Origin::Copy, Patience::Endless).await
    }

    /// Plans the topic of logical messages.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn messages(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome =
            self.until_done("logical messages", Patience::Endless, |planner| Ok(planner.message_draft())).await;
        (self, outcome)
    }

    /// Plans the topic of transactions.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn transactions(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome =
            self.until_done("transactions", Patience::Endless, |planner| Ok(planner.transaction_draft())).await;
        (self, outcome)
    }

    /// Plans the topic of heartbeats.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn heartbeats(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome = self.until_done("heartbeats", Patience::Endless, |planner| Ok(planner.heartbeat_draft())).await;
        (self, outcome)
    }

    /// Plans the topic of notices; `Excluded` where none is named.
    ///
    /// # Errors
    /// As [`Desk::relation`].
    pub async fn notices(mut self) -> (Self, Result<Outcome, PgError>) {
        let Some(draft) = self.planner.notice_draft() else { return (self, Ok(Outcome::Excluded)) };
        let outcome = self.until_done("notifications", Patience::Endless, |_| Ok(draft.clone())).await;
        (self, outcome)
    }

    async fn until_done(
        &mut self,
        name: &str,
        patience: Patience,
        draft: impl Fn(&Planner) -> Result<Draft, crate::encode::PlanError>,
    ) -> Result<Outcome, PgError> {
        let mut delay = BUSY_RETRY_MIN;
        let mut troubled = false;
        loop {
            let (trouble, wait) = match self.once(name, &draft).await {
                Ok(ready) => {
                    if troubled {
                        let _ = self.troubles.send(None).await; // nobody to tell: the agent is stopping
                    }
                    return Ok(Outcome::Ready(Box::new(ready)));
                }
                Err(failure) if failure.comes_back(patience) => {
                    let (Failure::Busy(trouble) | Failure::Refused(trouble) | Failure::OfTable(trouble)) = failure;
                    if troubled {
                        let _ = self.troubles.send(None).await;
                    }
                    return Ok(Outcome::Refused(trouble));
                }
                Err(Failure::Refused(trouble) | Failure::OfTable(trouble)) => (trouble, REFUSED_RETRY),
                Err(Failure::Busy(trouble)) => {
                    delay = (delay * 2).min(BUSY_RETRY_MAX);
                    (trouble, delay)
                }
            };
            troubled = true;
            let _ = self.troubles.send(Some(trouble)).await;
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(
        &mut self,
        name: &str,
        draft: &impl Fn(&Planner) -> Result<Draft, crate::encode::PlanError>,
    ) -> Result<Ready, Failure> {
        let draft = draft(&self.planner).map_err(|error| {
            Failure::OfTable(Trouble::new(TroubleReason::TableRefused, format!("table {name}"), &error))
        })?;
        let mut warnings = Vec::new();
        let topic = self.topic(&draft.topic).await?;
        let partitions = self.partitions_of(&draft.topic, topic.as_ref(), &mut warnings).await?;
        if draft.key.is_none() && topic.as_ref().is_some_and(TopicInfo::is_compacted) {
            let what = format!("table {name} has no key, and topic `{}` is compacted", draft.topic);
            let next = "set the topic's cleanup.policy to delete, or give the table a primary key";
            return Err(Failure::OfTable(Trouble::plain(TroubleReason::TableRefused, what, next)));
        }
        let (mut ids, mut listed, mut unproven) = (Ids { key: None, value: 0 }, Vec::new(), Vec::new());
        if self.ids.is_some() {
            if let Some(key) = &draft.key {
                let id = self.schema_id(name, key, &mut unproven).await?;
                ids.key = Some(id);
                listed.push(id);
            }
            ids.value = self.schema_id(name, &draft.value, &mut unproven).await?;
            listed.push(ids.value);
        }
        let (name, plan) = (name.to_owned(), draft.into_plan(ids));
        let given = Given { unproven, replaced: std::mem::take(&mut self.replaced) };
        Ok(Ready { name, plan, topic, partitions, ids: listed, given, warnings })
    }

    async fn topic(&mut self, name: &str) -> Result<Option<TopicInfo>, Failure> {
        if let Some(info) = self.topics.known(name, Instant::now()) {
            return Ok(Some(info.clone()));
        }
        let info = self.ask_topic(name).await?;
        if let Some(info) = &info {
            self.topics.note(name, Instant::now(), info);
        }
        Ok(info)
    }

    async fn ask_topic(&self, name: &str) -> Result<Option<TopicInfo>, Failure> {
        let Some((topics, rules)) = &self.kafka else { return Ok(None) };
        self.topic_by(topics, rules.create, TopicSpec::by(rules, name)).await
    }

    async fn topic_by(&self, topics: &Topics, create: bool, spec: TopicSpec) -> Result<Option<TopicInfo>, Failure> {
        let name = spec.name.clone();
        let failure = |error: crate::kafka::KafkaError| {
            let trouble = |reason| Trouble::new(reason, format!("topic `{name}`"), &error);
            match error.remedy() {
                // Brokers that are away pass by themselves; a topic that cannot be had needs a person.
                crate::kafka::Remedy::Retry => Failure::Busy(trouble(TroubleReason::KafkaUnavailable)),
                crate::kafka::Remedy::Operator if error.is_of_topic() => {
                    Failure::OfTable(trouble(TroubleReason::TopicUnavailable))
                }
                crate::kafka::Remedy::Operator => Failure::Refused(trouble(TroubleReason::TopicUnavailable)),
            }
        };
        if let Some(info) = topics.describe(&name).await.map_err(failure)? {
            return Ok(Some(info));
        }
        if !create {
            let what = format!("topic `{name}` does not exist, and topics.create is off");
            return Err(Failure::OfTable(Trouble::plain(TroubleReason::TopicUnavailable, what, "create the topic")));
        }
        let made = topics.ensure(&[spec]).await.map_err(failure)?;
        Ok(made.into_iter().next())
    }

    /// The partition count recorded when the topic was first used; a changed one is told, not followed.
    async fn partitions_of(
        &mut self,
        topic: &str,
        info: Option<&TopicInfo>,
        warnings: &mut Vec<String>,
    ) -> Result<i32, Failure> {
        let Some(info) = info else { return Ok(1) };
        if let Some(&recorded) = self.partitions.get(topic) {
            if recorded != info.partitions {
                warnings.push(format!(
                    "topic `{topic}` has {} partitions; keys stay on the {recorded} it had when it was first used",
                    info.partitions
                ));
            }
            return Ok(recorded.min(info.partitions));
        }
        self.remember(&format!("topic/{topic}"), info.partitions.to_string()).await?;
        self.partitions.insert(topic.to_owned(), info.partitions);
        Ok(info.partitions)
    }

    async fn remember(&self, key: &str, value: String) -> Result<(), Failure> {
        self.write(key, Some(value)).await
    }

    async fn forget(&self, key: &str) -> Result<(), Failure> {
        self.write(key, None).await
    }

    async fn write(&self, key: &str, value: Option<String>) -> Result<(), Failure> {
        let failed =
            |error| Failure::Busy(Trouble::new(TroubleReason::StateUnavailable, format!("write `{key}`"), &error));
        self.keeper.write(key, value).await.map_err(failed)
    }
}

impl Failure {
    fn comes_back(&self, patience: Patience) -> bool {
        match (self, patience) {
            (Failure::Refused(_), Patience::UntilRefused) => true,
            (Failure::OfTable(_), Patience::UntilRefused | Patience::UntilTableRefused) => true,
            (Failure::Busy(_), _) | (_, Patience::Endless) | (Failure::Refused(_), Patience::UntilTableRefused) => {
                false
            }
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Refusal { reason: trouble.reason.code(), detail: trouble.detail }
    }
}

/// A registry that cannot even be set up.
#[must_use]
pub fn registry_trouble(error: &dyn std::error::Error) -> Trouble {
    Trouble::new(TroubleReason::RegistryUnavailable, "set up the registry client".to_owned(), error)
}
