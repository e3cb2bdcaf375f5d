//! Planning for detached tables: the quarantine topic, and the state records that have to be
//! written before a change goes there.

use super::tries::{BUSY_RETRY_MAX, Pauses};
use super::{Failure, Outcome, PlanMaker};
use crate::change::RelationShape;
use crate::continuity::detached::{Detached, Refusal};
use crate::continuity::{Trouble, TroubleReason};
use crate::encode::Quarantine;
use crate::kafka::{TopicInfo, TopicSpec};
use crate::postgres::PgError;

/// The quarantine topic, prepared for the changes of one table, and the table's state record.
pub struct QuarantinePlan {
    /// How the table's changes are written to the quarantine topic.
    pub quarantine: Quarantine,
    /// Name of the quarantine topic.
    pub name: String,
    /// The quarantine topic as the broker describes it. `None` if the sink has no topics.
    pub topic: Option<TopicInfo>,
    /// Number of partitions of the quarantine topic over which tables are spread; see
    /// `Ready::partitions`.
    pub partitions: i32,
    /// The acknowledged state record of the detached table. `None` if only skipped changes go to
    /// the quarantine topic.
    pub detached: Option<Detached>,
}

impl PlanMaker {
    /// Plans a table again whose plan was refused. If the plan is refused again, the table is
    /// detached: `record` makes the table's state record from the refusal, and `key` is the key of
    /// that record.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn plan_or_detach(
        self,
        shape: RelationShape,
        key: String,
        record: impl FnOnce(&Refusal) -> Detached,
    ) -> (Self, Result<Outcome, PgError>) {
        match self.relation(shape.clone()).await {
            (plan_maker, Ok(Outcome::Refused(trouble))) => {
                plan_maker.quarantine(shape, Some(record(&Refusal::from(trouble))), Some(key)).await
            }
            planned => planned,
        }
    }

    /// Prepares the quarantine topic for a detached table, or for a table with a skipped change.
    /// When this returns, the topic exists. If `detached` and `key` are given, the state record of
    /// the detached table is acknowledged.
    ///
    /// # Errors
    /// None: failures are reported as trouble and tried again.
    pub async fn quarantine(
        self,
        shape: RelationShape,
        detached: Option<Detached>,
        key: Option<String>,
    ) -> (Self, Result<Outcome, PgError>) {
        let quarantine = Quarantine::new(self.planner.config(), &shape);
        let is_new = detached.is_some();
        let (mut plan_maker, set) = self.ready_quarantine(quarantine, detached, key).await;
        if is_new {
            plan_maker.relations.forget(shape.oid);
        }
        (plan_maker, Ok(Outcome::Quarantine(Box::new(set))))
    }

    /// Prepares the quarantine topic for a logical message that is skipped.
    ///
    /// # Errors
    /// None: failures are reported as trouble and tried again.
    pub async fn message_quarantine(self) -> (Self, Result<Outcome, PgError>) {
        let (plan_maker, set) = self.ready_quarantine(Quarantine::of_messages(), None, None).await;
        (plan_maker, Ok(Outcome::Quarantine(Box::new(set))))
    }

    async fn ready_quarantine(
        mut self,
        quarantine: Quarantine,
        detached: Option<Detached>,
        key: Option<String>,
    ) -> (Self, QuarantinePlan) {
        let name = self.planner.config().quarantine_topic();
        let mut pauses = Pauses::new();
        let mut troubled = false;
        let (topic, partitions) = loop {
            let failure = match self.quarantined(&name, key.as_deref().zip(detached.as_ref())).await
            {
                Ok(made) => break made,
                Err(failure) => failure,
            };
            troubled = true;
            let pause = pauses.after(&failure);
            // A send fails only if the agent is stopping. Nobody needs the report then.
            let _ = self.troubles.send(Some(failure.trouble())).await;
            tokio::time::sleep(pause).await;
        };
        if troubled {
            let _ = self.troubles.send(None).await;
        }
        (self, QuarantinePlan { quarantine, name, topic, partitions, detached })
    }

    async fn quarantined(
        &mut self,
        name: &str,
        record: Option<(&str, &Detached)>,
    ) -> Result<(Option<TopicInfo>, i32), Failure> {
        let topic = self.quarantine_topic(name).await?;
        let partitions = self.partitions_of(name, topic.as_ref(), &mut Vec::new()).await?;
        if let Some((key, detached)) = record {
            self.remember(key, detached.to_json()).await?;
        }
        Ok((topic, partitions))
    }

    /// Describes the quarantine topic, or creates it. The topic must not be compacted, because all
    /// changes of a table have the same key there.
    async fn quarantine_topic(&self, name: &str) -> Result<Option<TopicInfo>, Failure> {
        let Some((topics, rules)) = &self.kafka else { return Ok(None) };
        let spec = TopicSpec::by(rules, name);
        let settings = spec
            .settings
            .into_iter()
            .chain([("cleanup.policy".to_owned(), "delete".to_owned())])
            .collect();
        let info = self.topic_by(topics, rules.create, TopicSpec { settings, ..spec }).await?;
        if info.as_ref().is_some_and(TopicInfo::is_compacted) {
            let what =
                format!("topic `{name}` is compacted: it would keep one change of each table");
            let next = "set its cleanup.policy to delete";
            return Err(Failure::Refused(Trouble::plain(
                TroubleReason::TopicUnavailable,
                what,
                next,
            )));
        }
        Ok(info)
    }

    /// Plans a detached table again, so that its changes flow again, and then writes `detached` as
    /// its state record. Without `shape`, the stream has not sent a Relation message of the table
    /// on this connection. The table is then planned when the message comes.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn reattach(
        mut self,
        shape: Option<RelationShape>,
        (key, detached): (String, Detached),
    ) -> (Self, Result<Outcome, PgError>) {
        let outcome = match shape {
            Some(shape) => {
                self.relations.forget(shape.oid);
                let (plan_maker, outcome) = self.relation_once(shape).await;
                self = plan_maker;
                match outcome {
                    Ok(outcome @ Outcome::Ready(_)) => outcome,
                    outcome => return (self, outcome),
                }
            }
            None => Outcome::Unchanged,
        };
        loop {
            match self.remember(&key, detached.to_json()).await {
                Ok(()) => return (self, Ok(outcome)),
                Err(failure) => {
                    let _ = self.troubles.send(Some(failure.trouble())).await;
                }
            }
            tokio::time::sleep(BUSY_RETRY_MAX).await;
        }
    }
}
