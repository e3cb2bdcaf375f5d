//! A short memory of what brokers said about topics.
//!
//! It belongs to one connection of the stream, so that a new connection asks again. A topic that
//! does not exist or could not be described is not remembered.

use crate::kafka::TopicInfo;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is used. A request creates two clients, which takes 0.2 s on an idle machine,
/// and no frame is read meanwhile. Tables that are altered again and again would otherwise delay
/// the stream.
const KNOWN: Duration = Duration::from_secs(60);

/// The last answer for each planned topic, with the time of the request.
#[derive(Default)]
pub(super) struct Described(HashMap<String, (Instant, TopicInfo)>);

impl Described {
    /// The remembered answer for a topic, if it is younger than [`KNOWN`].
    pub(super) fn known(&self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        let (asked, info) = self.0.get(topic)?;
        (now.duration_since(*asked) < KNOWN).then_some(info)
    }

    /// Remembers an answer that the brokers gave at `now`.
    pub(super) fn note(&mut self, topic: &str, now: Instant, info: &TopicInfo) {
        self.0.insert(topic.to_owned(), (now, info.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Policy;

    fn topic(partitions: i32) -> TopicInfo {
        TopicInfo {
            name: "t".to_owned(),
            partitions,
            replication: 1,
            max_message_bytes: Policy::Proven(1),
            cleanup_policy: Policy::Proven("delete".to_owned()),
            min_insync_replicas: Policy::Proven(1),
        }
    }

    #[test]
    fn a_topic_is_asked_again_a_minute_after_it_was_asked_and_not_before() {
        let (mut described, asked) = (Described::default(), Instant::now());
        let at = |seconds: u64| asked + Duration::from_secs(seconds);
        assert_eq!(described.known("t", at(0)), None);
        described.note("t", at(0), &topic(3));
        assert_eq!(described.known("t", at(59)), Some(&topic(3)));
        assert_eq!(described.known("another", at(1)), None);
        assert_eq!(described.known("t", at(60)), None);
        // The age counts from the request. Reading the answer does not renew it.
        described.note("t", at(60), &topic(6));
        assert_eq!(described.known("t", at(119)), Some(&topic(6)));
        assert_eq!(described.known("t", at(120)), None);
    }
}
