//! Waits until new partitions can be written to.
//!
//! A broker names a new topic in its metadata before it has made the logs of the partitions. The
//! first request of a producer can then be refused while the second one, already on its way, is
//! accepted: rule 3 of `docs/internals/producers.md` says what follows.

use super::context::Asking;
use super::error::KafkaError;
use super::partitions::time_left;
use super::topics::{Asker, SPREAD_TIMEOUT, TopicInfo, spread};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Instant;

impl Asker {
    /// Waits until the leader of each partition of new topics answers where the partition ends. One
    /// request asks for all partitions that a broker leads.
    ///
    /// # Errors
    /// `Timeout` if a partition has not answered in time.
    pub(super) fn await_leaders<'t>(
        &self,
        consumer: &BaseConsumer<Asking>,
        created: impl Iterator<Item = &'t TopicInfo>,
    ) -> Result<(), KafkaError> {
        let mut first = None;
        let mut ends = TopicPartitionList::new();
        for topic in created {
            first.get_or_insert(topic.name.as_str());
            for partition in 0..topic.partitions {
                // In the place of a time, the end of the partition is asked for.
                let _ = ends.add_partition_offset(&topic.name, partition, Offset::End);
            }
        }
        let Some(first) = first else { return Ok(()) };
        let deadline = Instant::now() + SPREAD_TIMEOUT;
        spread("see the leaders of the created topic", first, deadline, || {
            let answered = consumer.offsets_for_times(ends.clone(), time_left(deadline));
            let is_online =
                answered.is_ok_and(|ends| ends.elements().iter().all(|end| end.error().is_ok()));
            Ok(is_online.then_some(()))
        })
    }
}
