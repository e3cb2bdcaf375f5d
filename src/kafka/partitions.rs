//! Partitions: which of them exist, and where each of them ends.
//!
//! Each partition has an answer of its own, so a deleted topic or an unreachable leader says
//! nothing about the other partitions. The caller decides what an answer means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;

use super::context::Asking;
use super::error::KafkaError;
use super::topics::{Asker, Topics};

/// The time limit for reading the ends of all partitions together. It is as short as that of one
/// request, because the caller asks again after a failure.
const ENDS_TIMEOUT: Duration = Duration::from_secs(15);

/// The least time that a request gets. Even after the deadline a request is made, so that its error
/// reports the timeout.
const REQUEST_TIME_MIN: Duration = Duration::from_millis(1);

/// A broker that has just started may not know a topic yet. A partition therefore counts as gone
/// only if two looks with this pause between them do not find it.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(1);

/// Where a partition ends.
#[derive(Debug)]
pub enum PartitionEnd {
    /// The end of the partition: the offset after its last one.
    At(i64),
    /// The topic does not exist, or it has no partition of this number.
    Gone,
    /// The end could not be read. The partition may exist.
    Failed(KafkaError),
}

impl Topics {
    /// Reads where each partition ends, in the order asked.
    ///
    /// # Errors
    /// `Client`, `File` and `Secret` if no client can be made. A failure about one partition is the
    /// answer for that partition.
    pub async fn end_offsets(
        &self,
        places: &[(&str, i32)],
    ) -> Result<Vec<PartitionEnd>, KafkaError> {
        let places: Vec<(String, i32)> =
            places.iter().map(|(topic, p)| ((*topic).to_owned(), *p)).collect();
        self.off_the_runtime("read end offsets", move |asker| {
            let consumer = asker.consumer()?;
            let deadline = Instant::now() + ENDS_TIMEOUT;
            let existing = existing(&consumer, &places, deadline);
            let end = |(topic, partition): &(String, i32)| match existing.get(topic.as_str()) {
                Some(partitions) if !partitions.contains(partition) => PartitionEnd::Gone,
                _ => match asker.watermarks(&consumer, topic, *partition, deadline) {
                    Ok((_, end)) => PartitionEnd::At(end),
                    Err(error) => PartitionEnd::Failed(error),
                },
            };
            Ok(places.iter().map(end).collect())
        })
        .await
    }
}

impl Asker {
    /// Reads the first offset that a partition still holds, and the offset after its last one.
    /// Blocks until the deadline at most.
    pub(super) fn watermarks(
        &self,
        consumer: &BaseConsumer<Asking>,
        topic: &str,
        partition: i32,
        deadline: Instant,
    ) -> Result<(i64, i64), KafkaError> {
        consumer
            .fetch_watermarks(topic, partition, time_left(deadline))
            .map_err(|source| self.explain(consumer, "read end offsets", topic, source))
    }
}

/// Returns the existing partitions of each topic. A topic that does not exist has an empty set, and
/// a topic that no broker answered for is missing from the map. Blocks until the deadline at most.
pub(super) fn existing<'a>(
    consumer: &BaseConsumer<Asking>,
    places: &'a [(String, i32)],
    deadline: Instant,
) -> BTreeMap<&'a str, BTreeSet<i32>> {
    let topics: BTreeSet<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
    let mut existing: BTreeMap<&str, BTreeSet<i32>> = topics
        .into_iter()
        .filter_map(|topic| Some((topic, partitions(consumer, topic, deadline)?)))
        .collect();
    let is_missing = |existing: &BTreeMap<&str, BTreeSet<i32>>,
                      (topic, partition): &(String, i32)| {
        existing.get(topic.as_str()).is_some_and(|partitions| !partitions.contains(partition))
    };
    let doubtful: BTreeSet<&str> = places
        .iter()
        .filter(|place| is_missing(&existing, place))
        .map(|(topic, _)| topic.as_str())
        .collect();
    if !doubtful.is_empty() {
        std::thread::sleep(SECOND_LOOK_AFTER); // on the blocking pool
    }
    for topic in doubtful {
        match partitions(consumer, topic, deadline) {
            Some(partitions) => existing.insert(topic, partitions),
            None => existing.remove(topic),
        };
    }
    existing
}

/// Reads a topic's partitions once. `None` if no broker answered for the topic.
fn partitions(
    consumer: &BaseConsumer<Asking>,
    topic: &str,
    deadline: Instant,
) -> Option<BTreeSet<i32>> {
    let metadata = match consumer.fetch_metadata(Some(topic), time_left(deadline)) {
        Ok(metadata) => metadata,
        Err(error) => {
            tracing::debug!(topic, %error, "the topic's partitions cannot be read");
            return None;
        }
    };
    let found = metadata.topics().iter().find(|found| found.name() == topic)?;
    match found.error() {
        None => Some(found.partitions().iter().map(|partition| partition.id()).collect()),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Some(BTreeSet::new()),
        Some(error) => {
            tracing::debug!(topic, ?error, "the topic's partitions cannot be read");
            None
        }
    }
}

pub(super) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(REQUEST_TIME_MIN)
}
