//! Waits until new partitions can be written to.
//!
//! A broker names a new topic in its metadata before it has made the logs of the partitions. The
//! first request of a producer can then be refused while the second one, already on its way, is
//! accepted: rule 3 of `docs/internals/producers.md` says what follows.

use super::context::Asking;
use super::partitions::time_left;
use super::topics::{Asker, SPREAD_TIMEOUT, TopicInfo, spread};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Instant;

impl Asker {
    /// Waits until the leader of each partition of new topics answers where the partition ends, for
    /// 15 s at most. One request asks for all partitions that a broker leads.
    ///
    /// A leader that does not answer is no error. The topic is used all the same. If a request of
    /// the producer is then refused, the stream is read again from the confirmed position.
    pub(super) fn await_leaders<'t>(
        consumer: &BaseConsumer<Asking>,
        created: impl Iterator<Item = &'t TopicInfo>,
    ) {
        let mut first = None;
        let mut asked = TopicPartitionList::new();
        for topic in created {
            first.get_or_insert(topic.name.as_str());
            for partition in 0..topic.partitions {
                // `Offset::End` in the place of a time asks for the end of the partition.
                let _ = asked.add_partition_offset(&topic.name, partition, Offset::End);
            }
        }
        let Some(first) = first else { return };
        let deadline = Instant::now() + SPREAD_TIMEOUT;
        let mut why = String::new();
        let look = || {
            let ends = consumer.offsets_for_times(asked.clone(), time_left(deadline));
            let refused =
                ends.and_then(|ends| ends.elements().iter().try_for_each(|end| end.error()));
            why = refused.as_ref().err().map_or_else(String::new, ToString::to_string);
            Ok(refused.ok())
        };
        if spread("see the leaders of the created topic", first, deadline, look).is_err() {
            tracing::warn!(topic = first, why, "a leader of new topics does not answer");
        }
    }
}
