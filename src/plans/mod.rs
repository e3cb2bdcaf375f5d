//! Planning: fetches everything that the rows of a relation need, outside of the row path.
//!
//! For each Relation message, planning fetches facts of the catalog, schema ids and the topic,
//! while no frame is read. The facts of the next relations are fetched in the same requests
//! (`ahead`). After a failure that can pass by itself, planning tries again without end. After a
//! failure that only a person can end, planning tries again every 30 s, unless the caller asked for
//! the failure. Both kinds of failure are reported as trouble while they last.

pub mod keeper;
pub mod proofs;
pub mod sink;
mod active;
mod ahead;
mod announced;
mod auxiliary;
mod described;
mod ids;
mod known;
mod quarantine;
mod routes;
mod topics;
mod tries;
mod uses;

pub use active::{Active, Planned, QuarantineTopic};
pub use ahead::{TABLES_MAX as BATCH_TABLES_MAX, announced as announced_in};
pub use ids::{Given, Replaced, SchemaIds, Unproven};
pub use quarantine::QuarantinePlan;
pub use routes::{RouteOf, Routed, Routes};
pub use sink::Config as SinkConfig;
pub use topics::TooFewPartitions;
pub use uses::Uses;

use ahead::Ahead;
use known::{Recorded, Relations};

use crate::change::{Position, RelationShape, describe, describe_copied};
use crate::continuity::detached::{OnRefusal, Refusal};
use crate::continuity::named::Named;
use crate::continuity::{Halt, Trouble, TroubleReason};
use crate::encode::{Draft, Ids, Plan, Planner};
use crate::kafka::{TopicInfo, TopicRules, Topics};
use crate::metrics::Metrics;
use crate::postgres::{PgError, Sql, catalog};
use crate::table::{Selection, TableName};
use keeper::Keeper;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pause before planning tries again after a failure that only a person can end.
pub const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// A plan with everything that its records need.
pub struct Ready {
    /// How the rows are encoded.
    pub plan: Plan,
    /// `namespace.name` of a table; for a plan of no table, a name for errors such as `heartbeats`.
    pub name: String,
    /// The topic as the broker describes it. `None` for a sink without topics.
    pub topic: Option<TopicInfo>,
    /// Number of partitions over which keys are spread: the number that the topic had at its first
    /// use, or a lower number if the topic has fewer partitions now.
    pub partitions: i32,
    /// Schema ids of the key, if there is one, and of the value. Empty without Avro, and for a
    /// table whose topics have plans of their own.
    pub ids: Vec<u32>,
    /// The schema ids of this plan that the registry has not confirmed, and those that have
    /// replaced recorded ids.
    pub given: Given,
    /// Warnings for the operator, such as a changed number of partitions.
    pub warnings: Vec<String>,
}

/// The result of planning.
pub enum Outcome {
    /// The relation is the same as before, and its plan stays.
    Unchanged,
    /// The configuration does not capture the table.
    Excluded,
    /// Planning failed, and only a person can end the failure. Returned only if the caller asked
    /// for such failures.
    Refused(Trouble),
    /// The table is detached: its changes go to the quarantine topic.
    Quarantine(Box<QuarantinePlan>),
    /// The relation has another name or oid than recorded, so the stream halts. Only
    /// [`PlanMaker::announced`] returns this outcome.
    Halts(Box<Halt>),
    /// The plan is complete.
    Ready(Box<Ready>),
    /// The plan of one topic of a routed table. Only [`PlanMaker::route`] returns this outcome.
    Routed(Box<Ready>, RouteOf),
}

/// Makes plans, with the clients, state records and settings that planning needs. Each lookup takes
/// the plan maker into a task, and hands it back at the end.
pub struct PlanMaker {
    sql: Arc<Sql>,
    planner: Planner,
    ids: Option<SchemaIds>,
    kafka: Option<(Topics, TopicRules)>,
    ahead: Ahead,
    keeper: Keeper,
    captured: Vec<TableName>,
    selection: Selection,
    named: Arc<Named>,
    recorded: Recorded,
    /// Schema ids that replaced recorded ids since the last plan was completed.
    replaced: Vec<Replaced>,
    relations: Relations,
    troubles: mpsc::Sender<Option<Trouble>>,
    metrics: Metrics,
    on_refusal: OnRefusal,
}

/// The clients, rules and settings from which a [`PlanMaker`] is built.
pub struct Places {
    /// Client for queries of the catalog.
    pub sql: Arc<Sql>,
    /// Source of schema ids. `None` without Avro.
    pub ids: Option<SchemaIds>,
    /// Client for topics, and the rules for new ones. `None` for a sink without topics.
    pub kafka: Option<(Topics, TopicRules)>,
    /// Writes the state records.
    pub keeper: Keeper,
    /// Receives a trouble while it lasts, and `None` when it is over.
    pub troubles: mpsc::Sender<Option<Trouble>>,
    /// Counts the requests to the registry.
    pub metrics: Metrics,
    /// What happens if one table is refused: the stream waits or halts, or the table is detached.
    pub on_refusal: OnRefusal,
}

/// What planning does with a failure that only a person can end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Planning tries again every [`REFUSED_RETRY`].
    Endless,
    /// Planning returns the failure if it concerns this table alone, and tries again otherwise.
    UntilTableRefused,
    /// Planning returns the failure.
    UntilRefused,
}

/// The source of the rows. The first copy and the stream describe declared types in different ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The stream, a backfill or a standstill brings the rows.
    Stream,
    /// The first copy reads the rows.
    Copy,
}

/// The kind of records that a plan is made for. Troubles name the records so.
#[derive(Clone, Copy)]
enum PlanOf<'a> {
    /// The rows of a table, by `namespace.name`, or those rows that go to one topic.
    Table(&'a str),
    /// Records of no table, such as heartbeats.
    Other(&'a str),
}

impl<'a> PlanOf<'a> {
    fn name(self) -> &'a str {
        match self {
            PlanOf::Table(name) | PlanOf::Other(name) => name,
        }
    }
}

impl fmt::Display for PlanOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanOf::Table(name) => write!(f, "table {name}"),
            PlanOf::Other(name) => f.write_str(name),
        }
    }
}

enum Failure {
    /// The failure can pass by itself.
    Busy(Trouble),
    /// The registry is busy, and asks for this pause before the next call.
    Paused(Trouble, Duration),
    /// The failure concerns more than this table, such as credentials or general rights.
    Refused(Trouble),
    /// The failure concerns this table or its topic alone.
    OfTable(Trouble),
}

impl PlanMaker {
    /// Creates the plan maker of one connection to Postgres.
    #[must_use]
    pub fn new(
        places: Places,
        planner: Planner,
        (captured, selection): (Vec<TableName>, Selection),
        partitions: BTreeMap<String, i32>,
        schemas: BTreeMap<String, u32>,
    ) -> Self {
        let Places { sql, ids, kafka, keeper, troubles, metrics, on_refusal } = places;
        PlanMaker {
            sql,
            planner,
            ids,
            kafka,
            ahead: Ahead::default(),
            keeper,
            captured,
            selection,
            named: Arc::default(),
            recorded: Recorded { partitions, schemas },
            replaced: Vec::new(),
            relations: Relations::default(),
            troubles,
            metrics,
            on_refusal,
        }
    }

    /// Plans a relation, however long it takes. If refused tables may be detached, a failure that
    /// concerns this table alone is returned as [`Outcome::Refused`].
    ///
    /// # Errors
    /// A query to Postgres failed. Any other failure is reported as trouble or returned as an
    /// [`Outcome`].
    pub async fn relation(self, shape: RelationShape) -> (Self, Result<Outcome, PgError>) {
        self.relation_at(shape, None).await
    }

    /// Plans a relation before the change at `at`. Facts of the catalog that were fetched before
    /// are used only if they were read after the commit of this change.
    async fn relation_at(
        self,
        shape: RelationShape,
        at: Option<Position>,
    ) -> (Self, Result<Outcome, PgError>) {
        let patience = match self.on_refusal {
            OnRefusal::Stop => Patience::Endless,
            OnRefusal::Detach => Patience::UntilTableRefused,
        };
        self.plan(shape, (Origin::Stream, at), patience).await
    }

    /// Plans a relation, but returns a failure that only a person can end, so that another table
    /// can be planned first.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn relation_once(self, shape: RelationShape) -> (Self, Result<Outcome, PgError>) {
        self.plan(shape, (Origin::Stream, None), Patience::UntilRefused).await
    }

    /// Plans a relation for rows of the first copy, like [`PlanMaker::relation_once`]. The
    /// relations `ahead`, which are copied next, are prepared together with this one.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn copied_once(
        mut self,
        shape: RelationShape,
        ahead: Vec<RelationShape>,
    ) -> (Self, Result<Outcome, PgError>) {
        let batch: Vec<RelationShape> = std::iter::once(shape.clone()).chain(ahead).collect();
        self.prepare(&batch, Origin::Copy).await;
        self.plan(shape, (Origin::Copy, None), Patience::UntilRefused).await
    }

    async fn plan(
        mut self,
        shape: RelationShape,
        (origin, at): (Origin, Option<Position>),
        patience: Patience,
    ) -> (Self, Result<Outcome, PgError>) {
        let name = TableName::new(&shape.namespace, &shape.name);
        if !self.captures(&name) {
            return (self, Ok(Outcome::Excluded));
        }
        let facts = match self.ahead.take_facts(shape.oid, origin, at) {
            Some(facts) => facts,
            None => match catalog::table_facts(&self.sql, shape.oid).await {
                Ok(facts) => facts,
                Err(error) => return (self, Err(error)),
            },
        };
        let mut table = match origin {
            Origin::Copy if self.planner.names_source_types() => describe_copied(&shape, &facts),
            Origin::Copy | Origin::Stream => describe(&shape, &facts),
        };
        self.relations.loosen(&mut table);
        if self.relations.is_unchanged(&table) {
            return (self, Ok(Outcome::Unchanged));
        }
        let name = name.to_string();
        let of = PlanOf::Table(&name);
        let outcome = self.until_done(of, patience, |planner| planner.draft(&table)).await;
        if matches!(outcome, Ok(Outcome::Ready(_))) {
            self.relations.planned(table);
        }
        (self, outcome)
    }

    fn captures(&self, name: &TableName) -> bool {
        self.captured.contains(name) || self.selection.captures_later(name)
    }

    /// Plans a relation again with `column` as nullable, for rows that are older than the NOT NULL
    /// of this column.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn nullable(
        mut self,
        shape: RelationShape,
        column: String,
    ) -> (Self, Result<Outcome, PgError>) {
        self.relations.allow_null(shape.oid, column);
        self.relation(shape).await
    }

    /// Plans a relation again for rows of the first copy, with `column` as nullable.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn copied_nullable(
        mut self,
        shape: RelationShape,
        column: String,
    ) -> (Self, Result<Outcome, PgError>) {
        self.relations.allow_null(shape.oid, column);
        self.plan(shape, (Origin::Copy, None), Patience::Endless).await
    }

    /// Plans the topic of logical messages.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn messages(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome = self
            .until_done(PlanOf::Other("logical messages"), Patience::Endless, |planner| {
                Ok(planner.message_draft())
            })
            .await;
        (self, outcome)
    }

    /// Plans the topic of transaction records.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn transactions(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome = self
            .until_done(PlanOf::Other("transactions"), Patience::Endless, |planner| {
                Ok(planner.transaction_draft())
            })
            .await;
        (self, outcome)
    }

    async fn until_done(
        &mut self,
        of: PlanOf<'_>,
        patience: Patience,
        draft: impl Fn(&Planner) -> Result<Draft, crate::encode::PlanError>,
    ) -> Result<Outcome, PgError> {
        let gives_up = |failure: Failure| match failure.comes_back(patience) {
            true => Err(failure.trouble()),
            false => Ok(failure),
        };
        Ok(match self.until_ready(of, draft, gives_up).await {
            Ok(ready) => Outcome::Ready(ready),
            Err(trouble) => Outcome::Refused(trouble),
        })
    }

    async fn once(
        &mut self,
        of: PlanOf<'_>,
        draft: &impl Fn(&Planner) -> Result<Draft, crate::encode::PlanError>,
    ) -> Result<Ready, Failure> {
        let draft = draft(&self.planner).map_err(|error| {
            let trouble = Trouble::new(TroubleReason::TableRefused, of.to_string(), &error);
            Failure::OfTable(trouble.or_next(error.next()))
        })?;
        let mut warnings = Vec::new();
        if draft.router.as_ref().is_some_and(|router| !router.has_own()) {
            // Each topic is looked up, and its schemas are registered, when the first row goes to
            // the topic.
            let given = Given { unproven: Vec::new(), replaced: Vec::new() };
            let (name, plan) = (of.name().to_owned(), draft.into_plan(Ids::default()));
            let (ids, topic) = (Vec::new(), None);
            return Ok(Ready { name, plan, topic, partitions: 1, ids, given, warnings });
        }
        let topic = self.topic(&draft.topic).await?;
        self.hold_partitions(of, &draft, topic.as_ref())?;
        let partitions = self.partitions_of(&draft.topic, topic.as_ref(), &mut warnings).await?;
        if draft.key.is_none() && topic.as_ref().is_some_and(TopicInfo::is_compacted) {
            return Err(without_key(of, &draft.topic));
        }
        let (mut ids, mut listed, mut unproven) =
            (Ids { key: None, value: 0 }, Vec::new(), Vec::new());
        if self.ids.is_some() {
            if let Some(key) = &draft.key {
                let id = self.schema_id(of, key, &mut unproven).await?;
                ids.key = Some(id);
                listed.push(id);
            }
            if let Some(value) = &draft.value {
                ids.value = self.schema_id(of, value, &mut unproven).await?;
                listed.push(ids.value);
            }
        }
        let (name, plan) = (of.name().to_owned(), draft.into_plan(ids));
        let given = Given { unproven, replaced: std::mem::take(&mut self.replaced) };
        Ok(Ready { name, plan, topic, partitions, ids: listed, given, warnings })
    }

    async fn remember(&self, key: &str, value: String) -> Result<(), Failure> {
        self.write(key, Some(value)).await
    }

    async fn forget(&self, key: &str) -> Result<(), Failure> {
        self.write(key, None).await
    }

    async fn write(&self, key: &str, value: Option<String>) -> Result<(), Failure> {
        let failed = |error| {
            Failure::Busy(Trouble::new(
                TroubleReason::StateUnavailable,
                format!("write `{key}`"),
                &error,
            ))
        };
        self.keeper.write(key, value).await.map_err(failed)
    }
}

/// Makes the failure of a plan whose records have no key, because its topic is compacted and
/// refuses such records.
fn without_key(of: PlanOf<'_>, topic: &str) -> Failure {
    let (what, next) = match of {
        PlanOf::Table(name) => (
            format!("table {name} has no key, and topic `{topic}` is compacted"),
            "set the topic's cleanup.policy to delete, or give the table a primary key",
        ),
        PlanOf::Other(name) => (
            format!("{name} have no key, and topic `{topic}` is compacted"),
            "set the topic's cleanup.policy to delete",
        ),
    };
    Failure::OfTable(Trouble::plain(TroubleReason::TableRefused, what, next))
}

impl Failure {
    fn trouble(self) -> Trouble {
        match self {
            Failure::Busy(trouble)
            | Failure::Paused(trouble, _)
            | Failure::Refused(trouble)
            | Failure::OfTable(trouble) => trouble,
        }
    }

    fn comes_back(&self, patience: Patience) -> bool {
        match (self, patience) {
            (Failure::Refused(_), Patience::UntilRefused) => true,
            (Failure::OfTable(_), Patience::UntilRefused | Patience::UntilTableRefused) => true,
            (Failure::Busy(_) | Failure::Paused(..), _)
            | (_, Patience::Endless)
            | (Failure::Refused(_), Patience::UntilTableRefused) => false,
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Refusal { reason: trouble.reason.code(), detail: trouble.detail }
    }
}

/// Makes the trouble of a registry whose client cannot be set up.
#[must_use]
pub fn registry_trouble(error: &dyn std::error::Error) -> Trouble {
    Trouble::new(TroubleReason::RegistryUnavailable, "set up the registry client".to_owned(), error)
}
