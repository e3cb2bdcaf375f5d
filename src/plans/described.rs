//! A short memory of the topics as brokers described them.
//!
//! The memory belongs to one connection of the stream. A new connection asks the brokers again. A
//! topic that does not exist or could not be described is not remembered.

use crate::kafka::TopicInfo;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a description of a topic by the brokers is used. A request for it creates two clients,
/// which takes 0.2 s on an idle machine, and no frame is read meanwhile. Tables that are altered
/// again and again would otherwise delay the stream.
const KNOWN: Duration = Duration::from_secs(60);

/// How long a description of a topic is used that no plan has used before. This time bridges the
/// wait for the first rows of a table. The time is bounded, because a topic can be deleted or made
/// anew.
const UNUSED: Duration = Duration::from_secs(600);

/// The brokers' newest description of each topic, by the topic's name.
#[derive(Default)]
pub(super) struct Described(HashMap<String, Answer>);

struct Answer {
    /// When the answer came, or when a plan used it first.
    since: Instant,
    /// True as long as no plan has used the answer.
    unused: bool,
    info: TopicInfo,
}

impl Described {
    /// The remembered answer for a topic, if it is younger than [`KNOWN`], or younger than
    /// [`UNUSED`] if no plan has used it yet.
    pub(super) fn known(&self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        let Answer { since, unused, info } = self.0.get(topic)?;
        let longest = if *unused { UNUSED } else { KNOWN };
        (now.duration_since(*since) < longest).then_some(info)
    }

    /// Returns the same as [`Described::known`], for a plan that uses the answer. After the first
    /// such use, the age of the answer counts from this use.
    pub(super) fn take(&mut self, topic: &str, now: Instant) -> Option<&TopicInfo> {
        self.known(topic, now)?;
        let answer = self.0.get_mut(topic)?;
        if std::mem::take(&mut answer.unused) {
            answer.since = now;
        }
        Some(&answer.info)
    }

    /// The newest answer for a topic, however old it is.
    pub(super) fn peek(&self, topic: &str) -> Option<&TopicInfo> {
        self.0.get(topic).map(|answer| &answer.info)
    }

    /// Remembers an answer that the brokers gave to a plan at `now`.
    pub(super) fn note(&mut self, topic: &str, now: Instant, info: &TopicInfo) {
        let answer = Answer { since: now, unused: false, info: info.clone() };
        self.0.insert(topic.to_owned(), answer);
    }

    /// Remembers an answer that no plan has asked for yet.
    pub(super) fn note_ahead(&mut self, now: Instant, info: TopicInfo) {
        self.0.insert(info.name.clone(), Answer { since: now, unused: true, info });
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
    fn an_answer_of_no_use_lasts_longer_and_not_for_ever() {
        let (mut described, asked) = (Described::default(), Instant::now());
        let at = |seconds: u64| asked + Duration::from_secs(seconds);
        described.note_ahead(at(0), topic(3));
        assert_eq!(described.known("t", at(600)), None);
        assert_eq!(described.take("t", at(599)), Some(&topic(3)));
        assert_eq!(described.take("t", at(658)), Some(&topic(3)));
        assert_eq!(described.take("t", at(659)), None);
        assert_eq!(described.peek("t"), Some(&topic(3)));
    }
}
