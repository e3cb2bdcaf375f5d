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

/// The last answer for each planned topic, with the time of the request. There is no time as long
/// as no plan has used the answer.
#[derive(Default)]
pub(super) struct Described(HashMap<String, (Option<Instant>, TopicInfo)>);

impl Described {
    /// The remembered answer for a topic, if it is younger than [`KNOWN`] or was never used. A plan
    /// that was made at the beginning of the connection would hold an answer as old as that.
    pub(super) fn known(&self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        let (asked, info) = self.0.get(topic)?;
        asked.is_none_or(|asked| now.duration_since(asked) < KNOWN).then_some(info)
    }

    /// The same, for a plan. From now on the answer has an age.
    pub(super) fn take(&mut self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        self.known(topic, now)?;
        let (asked, info) = self.0.get_mut(topic)?;
        asked.get_or_insert(now);
        Some(info)
    }

    /// The newest answer for a topic, however old it is.
    pub(super) fn peek(&self, topic: &str) -> Option<&TopicInfo> {
        self.0.get(topic).map(|(_, info)| info)
    }

    /// Remembers an answer that the brokers gave to a plan at `now`.
    pub(super) fn note(&mut self, topic: &str, now: Instant, info: &TopicInfo) {
        self.0.insert(topic.to_owned(), (Some(now), info.clone()));
    }

    /// Remembers an answer that no plan has asked for yet.
    pub(super) fn note_ahead(&mut self, info: TopicInfo) {
        self.0.insert(info.name.clone(), (None, info));
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

    #[test]
    fn an_answer_is_of_no_age_before_its_first_use() {
        let (mut described, asked) = (Described::default(), Instant::now());
        let at = |seconds: u64| asked + Duration::from_secs(seconds);
        described.note_ahead(topic(3));
        assert_eq!(described.known("t", at(1000)), Some(&topic(3)));
        assert_eq!(described.take("t", at(1000)), Some(&topic(3)));
        assert_eq!(described.take("t", at(1059)), Some(&topic(3)));
        assert_eq!(described.take("t", at(1060)), None);
        assert_eq!(described.peek("t"), Some(&topic(3)));
    }
}
