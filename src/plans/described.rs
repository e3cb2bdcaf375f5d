//! What topics are, as they were asked a while ago.
//!
//! Of one connection: whoever connects anew asks anew. A topic that is not there, or could not be described, is not
//! remembered.

use crate::kafka::TopicInfo;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long what a topic is need not be asked again. Each question is two clients, which takes 0.2 s on a machine of its own,
/// and frames are not read meanwhile: tables that are altered again and again would hold the stream up.
const KNOWN: Duration = Duration::from_secs(60);

/// What was asked of topics, and when: one entry for each topic that was planned.
#[derive(Default)]
pub(super) struct Described(HashMap<String, (Instant, TopicInfo)>);

impl Described {
    /// What the topic was a moment ago, if it was asked within [`KNOWN`].
    pub(super) fn known(&self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        let (asked, info) = self.0.get(topic)?;
        (now.duration_since(*asked) < KNOWN).then_some(info)
    }

    /// The topic was asked, and is this.
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
        // What is told meanwhile counts from when it was asked; being looked at does not make it younger.
        described.note("t", at(60), &topic(6));
        assert_eq!(described.known("t", at(119)), Some(&topic(6)));
        assert_eq!(described.known("t", at(120)), None);
    }
}
