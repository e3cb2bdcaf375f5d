//! The topic of a plan: describes it, creates it if the configuration allows that, and finds its
//! number of partitions.

use super::{Failure, PlanMaker, PlanOf};
use crate::continuity::{Trouble, TroubleReason};
use crate::encode::Draft;
use crate::kafka::{TopicInfo, TopicSpec, Topics};
use tokio::time::Instant;

/// The error of a plan whose transforms spread records over more partitions than the topic has or
/// may use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition-routing spreads records over {wanted} partitions, and topic `{topic}` has {there}{}",
    kept(*.recorded, *.there)
)]
pub struct TooFewPartitions {
    /// Topic of the records.
    pub topic: String,
    /// The number that the transform names.
    pub wanted: i32,
    /// The number that the topic has.
    pub there: i32,
    /// The number that the topic had at its first use. Records go to no partition beyond it.
    pub recorded: Option<i32>,
}

/// Returns the number of partitions that records use: the number that the topic had at its first
/// use, or the present number if that is lower or if none is recorded.
fn usable(recorded: Option<i32>, there: i32) -> i32 {
    recorded.map_or(there, |recorded| recorded.min(there))
}

fn kept(recorded: Option<i32>, there: i32) -> String {
    match recorded {
        Some(recorded) if recorded < there => {
            format!(", of which records use the {recorded} that it had when it was first used")
        }
        _ => String::new(),
    }
}

impl TooFewPartitions {
    /// Returns the error if the transforms of a draft spread records over more partitions than they
    /// may use, by the topic's number (`there`) and the recorded number. `None` if they do not, or
    /// if rows name the topic by a value, because each of these rows is checked then.
    #[must_use]
    pub fn find(draft: &Draft, there: i32, recorded: Option<i32>) -> Option<Self> {
        let wanted = draft.partitions().filter(|_| !draft.is_routed)?;
        let topic = draft.topic.clone();
        (wanted > usable(recorded, there)).then_some(TooFewPartitions {
            topic,
            wanted,
            there,
            recorded,
        })
    }

    /// The next step for the operator. More partitions help only if no lower number is recorded.
    #[must_use]
    pub fn next(&self) -> String {
        let TooFewPartitions { topic, wanted, there, recorded } = self;
        match recorded {
            Some(recorded) if recorded < wanted => format!(
                "write partitions = {} in the transform, or give the records another topic",
                usable(Some(*recorded), *there)
            ),
            _ => format!(
                "write partitions = {there} in the transform, or run kafka-topics --alter --topic \
                 {topic} --partitions {wanted}"
            ),
        }
    }
}

impl PlanMaker {
    pub(super) async fn topic(&mut self, name: &str) -> Result<Option<TopicInfo>, Failure> {
        self.take_recorded().await;
        if let Some(info) = self.ahead.topics.take(name, Instant::now()) {
            return Ok(Some(info.clone()));
        }
        let info = self.ask_topic(name).await?;
        if let Some(info) = &info {
            self.ahead.topics.note(name, Instant::now(), info);
        }
        Ok(info)
    }

    pub(super) async fn ask_topic(&self, name: &str) -> Result<Option<TopicInfo>, Failure> {
        let Some((topics, rules)) = &self.kafka else { return Ok(None) };
        self.topic_by(topics, rules.create, TopicSpec::by(rules, name)).await
    }

    pub(super) async fn topic_by(
        &self,
        topics: &Topics,
        create: bool,
        spec: TopicSpec,
    ) -> Result<Option<TopicInfo>, Failure> {
        let name = spec.name.clone();
        let failure = |error: crate::kafka::KafkaError| {
            let trouble = |reason| Trouble::new(reason, format!("topic `{name}`"), &error);
            match error.remedy() {
                // Brokers that are unreachable come back by themselves. A topic that cannot be
                // created or described needs a person.
                crate::kafka::Remedy::Retry => {
                    Failure::Busy(trouble(TroubleReason::KafkaUnavailable))
                }
                crate::kafka::Remedy::Operator if error.is_of_topic() => {
                    Failure::OfTable(trouble(TroubleReason::TopicUnavailable))
                }
                crate::kafka::Remedy::Operator => {
                    Failure::Refused(trouble(TroubleReason::TopicUnavailable))
                }
            }
        };
        self.metrics.topic_requests.inc();
        if let Some(info) = topics.describe(&name).await.map_err(failure)? {
            return Ok(Some(info));
        }
        if !create {
            let what = format!("topic `{name}` does not exist, and topics.create is off");
            return Err(Failure::OfTable(Trouble::plain(
                TroubleReason::TopicUnavailable,
                what,
                "create the topic",
            )));
        }
        self.metrics.topic_requests.inc();
        let made = topics.ensure(&[spec]).await.map_err(failure)?;
        Ok(made.into_iter().next())
    }

    /// Refuses a table whose transforms name more partitions than its topic has. A sink without
    /// topics takes any number.
    pub(super) fn hold_partitions(
        &self,
        of: PlanOf<'_>,
        draft: &Draft,
        info: Option<&TopicInfo>,
    ) -> Result<(), Failure> {
        match info.and_then(|info| self.too_few_partitions(draft, info)) {
            Some(error) => {
                let trouble = Trouble::new(TroubleReason::TableRefused, of.to_string(), &error);
                Err(Failure::OfTable(trouble.or_next(Some(error.next()))))
            }
            None => Ok(()),
        }
    }

    pub(super) fn too_few_partitions(
        &self,
        draft: &Draft,
        info: &TopicInfo,
    ) -> Option<TooFewPartitions> {
        let recorded = self.recorded.partitions.get(&draft.topic).copied();
        TooFewPartitions::find(draft, info.partitions, recorded)
    }

    /// Returns the number of partitions that records of a topic use. At the first use of the topic,
    /// its number is recorded. If the topic has another number later, a warning is added, and keys
    /// stay on the recorded number. Only if the topic has fewer partitions now, the lower number is
    /// returned. A sink without topics has one partition.
    pub(super) async fn partitions_of(
        &mut self,
        topic: &str,
        info: Option<&TopicInfo>,
        warnings: &mut Vec<String>,
    ) -> Result<i32, Failure> {
        let Some(info) = info else { return Ok(1) };
        if let Some(&recorded) = self.recorded.partitions.get(topic) {
            if recorded != info.partitions {
                warnings.push(format!(
                    "topic `{topic}` has {} partitions; keys stay on the {recorded} it had when it \
                     was first used",
                    info.partitions
                ));
            }
            return Ok(usable(Some(recorded), info.partitions));
        }
        self.remember(&format!("topic/{topic}"), info.partitions.to_string()).await?;
        self.recorded.partitions.insert(topic.to_owned(), info.partitions);
        Ok(info.partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_partitions_are_offered_only_where_records_use_them() {
        let few = |there, recorded| {
            TooFewPartitions { topic: "t".to_owned(), wanted: 4, there, recorded }.next()
        };
        for (there, recorded) in [(2, None), (2, Some(4))] {
            assert!(few(there, recorded).contains("--topic t --partitions 4"), "{recorded:?}");
        }
        for (there, recorded, usable) in [(2, Some(2), 2), (8, Some(2), 2), (1, Some(2), 1)] {
            let next = few(there, recorded);
            assert!(next.starts_with(&format!("write partitions = {usable} in")), "{next}");
            assert!(next.ends_with("or give the records another topic"), "{next}");
        }
    }
}
