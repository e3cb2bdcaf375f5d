//! What can go wrong with Kafka, and what it means.
//!
//! Two exhaustive decisions live here and nowhere else: [`classify`] says what a delivery report's
//! error code means, [`KafkaError::remedy`] whether a failed call is worth repeating. What the
//! pipeline then does is its own table.

use std::path::PathBuf;
use std::time::Duration;

use super::login::is_refusal;
use crate::secret::SourceError;
use rdkafka::types::RDKafkaErrorCode;

/// A call to Kafka that did not succeed. The cause stays in `source`; no text here repeats it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum KafkaError {
    /// The password or token cannot be had where it is kept.
    #[error("read the credentials for Kafka")]
    Secret {
        /// The file or command, and what became of it.
        #[source]
        source: SourceError,
    },
    /// A topic is missing and cannot be created with the way we log in.
    #[error(
        "topic `{topic}` does not exist, and the client that creates topics cannot log in by \
         token: create it first"
    )]
    NoCreation { topic: String },
    /// librdkafka refuses the properties; a configuration fault.
    #[error("create a Kafka client")]
    Client {
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// A file that a property names cannot be read.
    #[error("create a Kafka client: `{property}` names the file {}", path.display())]
    File {
        property: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("start the thread `{name}`")]
    Thread {
        name: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// No broker answered; `detail` is the last thing librdkafka said about the connection.
    #[error("reach Kafka at {brokers}: {detail}")]
    Unreachable {
        /// Bootstrap brokers as configured.
        brokers: String,
        /// librdkafka's last words, or that there were none within the time.
        detail: String,
    },
    /// An admin or metadata request failed.
    #[error("{call} `{topic}`")]
    Request {
        /// What was asked: `describe topic`, `create topic`.
        call: &'static str,
        topic: String,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// The broker answered with an error for this one topic.
    #[error("{call} `{topic}`: {code}")]
    Answer { call: &'static str, topic: String, code: RDKafkaErrorCode },
    /// The topic does not exist, and the configuration says that we do not create any.
    #[error("topic `{topic}` does not exist and `topics.create` is off")]
    Missing { topic: String },
    /// The state topic would forget: its policy is not exactly `compact`.
    #[error("state topic `{topic}` has cleanup.policy `{found}`, it must be exactly `compact`")]
    StatePolicy {
        topic: String,
        /// What the broker says.
        found: String,
    },
    /// The state topic has more than the one partition that keeps its records in order.
    #[error("state topic `{topic}` has {found} partitions, it must have exactly one")]
    StatePartitions {
        topic: String,
        /// What the broker says.
        found: i32,
    },
    /// A record in the state topic is not UTF-8: somebody else writes there.
    #[error("state topic `{topic}` holds a record at offset {offset} whose {part} is not text")]
    StateText { topic: String, offset: i64, part: &'static str },
    /// Something did not finish in time; it may still happen.
    #[error("{call} `{topic}` within {after:?}")]
    Timeout {
        /// What was waited for.
        call: &'static str,
        topic: String,
        after: Duration,
    },
    /// Our own blocking task ended without an answer; only a shutdown or a panic does that.
    #[error("{call}: the task ended without an answer")]
    Interrupted {
        /// What was under way.
        call: &'static str,
    },
}

/// Whether repeating a failed call can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The broker is away or busy: repeat with backoff, for ever.
    Retry,
    /// Somebody has to change rights, topics or configuration first.
    Operator,
}

impl KafkaError {
    /// Whether repeating the call can help, decided for every variant.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            KafkaError::Client { .. }
            | KafkaError::File { .. }
            | KafkaError::NoCreation { .. }
            | KafkaError::Missing { .. }
            | KafkaError::StatePolicy { .. }
            | KafkaError::StatePartitions { .. }
            | KafkaError::StateText { .. } => Remedy::Operator,
            // A cloud's metadata service may be away as a broker may.
            KafkaError::Secret { .. }
            | KafkaError::Thread { .. }
            | KafkaError::Unreachable { .. }
            | KafkaError::Timeout { .. }
            | KafkaError::Interrupted { .. } => Remedy::Retry,
            KafkaError::Request { source, .. } => {
                source.rdkafka_error_code().map_or(Remedy::Retry, remedy_of_code)
            }
            KafkaError::Answer { code, .. } => remedy_of_code(*code),
        }
    }
}

impl KafkaError {
    /// Whether it is of the topic asked for alone; not of credentials, the cluster or our own
    /// configuration.
    #[must_use]
    pub fn is_of_topic(&self) -> bool {
        let code = match self {
            KafkaError::Missing { .. } => return true,
            KafkaError::Answer { code, .. } => Some(*code),
            KafkaError::Request { source, .. } => source.rdkafka_error_code(),
            _ => None,
        };
        use RDKafkaErrorCode as Code;
        matches!(
            code,
            Some(Code::TopicAuthorizationFailed | Code::InvalidTopic | Code::PolicyViolation)
        )
    }
}

impl KafkaError {
    /// Whether brokers refused who we say we are; what the connection's last words were, by
    /// librdkafka's own phrase.
    #[must_use]
    pub fn is_login(&self) -> bool {
        let code = match self {
            KafkaError::Unreachable { detail, .. } => {
                return detail.contains("SASL authentication error");
            }
            KafkaError::Answer { code, .. } => Some(*code),
            KafkaError::Request { source, .. } => source.rdkafka_error_code(),
            _ => None,
        };
        is_refusal(code)
    }
}

/// Whether a failed delivery that [`FailureClass::lasts`] is of its topic or record alone: another
/// topic's records may still be taken.
#[must_use]
pub fn is_of_topic(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    match classify(code) {
        FailureClass::TooLarge | FailureClass::TopicUnknown => true,
        FailureClass::Denied => code == Code::TopicAuthorizationFailed,
        FailureClass::Refused => {
            matches!(
                code,
                Code::InvalidRecord
                    | Code::InvalidMessage
                    | Code::InvalidTimestamp
                    | Code::PolicyViolation
            )
        }
        FailureClass::Purged | FailureClass::ProducerEnded | FailureClass::Passing => false,
    }
}

/// What the broker's answer to an admin or metadata request asks for; anything not named is taken
/// for passing.
fn remedy_of_code(code: RDKafkaErrorCode) -> Remedy {
    use RDKafkaErrorCode as Code;
    match code {
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::PolicyViolation
        | Code::InvalidTopic
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidRequest
        | Code::InvalidArgument
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature => Remedy::Operator,
        _ => Remedy::Retry,
    }
}

/// What a failed delivery means. Whatever it is, the producer that reported it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// We, or librdkafka after another record's failure, threw the record out of the queue: not its
    /// own fault.
    Purged,
    /// The right to write is missing.
    Denied,
    /// The record, or a batch with it, is larger than the topic takes.
    TooLarge,
    /// The broker refuses this record or its form for good: invalid record, policy, timestamp,
    /// format.
    Refused,
    /// The topic or partition does not exist, also after librdkafka's wait for metadata to spread.
    TopicUnknown,
    /// The idempotent producer lost its place (sequence, epoch, producer id, gapless guarantee); a
    /// new one may go on.
    ProducerEnded,
    /// Not one of those that should surface with our settings; treated as passing, and logged by
    /// its code.
    Passing,
}

impl FailureClass {
    /// Whether the same record, replayed, will fail again: a second time at the same Position is a
    /// halt.
    #[must_use]
    pub fn lasts(self) -> bool {
        match self {
            FailureClass::Denied
            | FailureClass::TooLarge
            | FailureClass::Refused
            | FailureClass::TopicUnknown => true,
            FailureClass::Purged | FailureClass::ProducerEnded | FailureClass::Passing => false,
        }
    }
}

/// The one place that reads a delivery report's error code.
#[must_use]
pub fn classify(code: RDKafkaErrorCode) -> FailureClass {
    use RDKafkaErrorCode as Code;
    match code {
        Code::PurgeQueue | Code::PurgeInflight => FailureClass::Purged,
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => FailureClass::Denied,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            FailureClass::TooLarge
        }
        Code::InvalidRecord
        | Code::InvalidMessage
        | Code::InvalidTimestamp
        | Code::InvalidRequiredAcks
        | Code::InvalidRequest
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature => FailureClass::Refused,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic => FailureClass::TopicUnknown,
        Code::Fatal
        | Code::GaplessGuarantee
        | Code::Fenced
        | Code::ProducerFenced
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId
        | Code::Inconsistent => FailureClass::ProducerEnded,
        _ => FailureClass::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_measured_as_permanent_lasts() {
        for code in [
            RDKafkaErrorCode::MessageSizeTooLarge,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::InvalidRecord,
            RDKafkaErrorCode::PolicyViolation,
            RDKafkaErrorCode::UnknownTopicOrPartition,
        ] {
            assert!(classify(code).lasts(), "{code:?}");
        }
        for code in [
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::GaplessGuarantee,
            RDKafkaErrorCode::InvalidProducerEpoch,
            RDKafkaErrorCode::RequestTimedOut,
        ] {
            assert!(!classify(code).lasts(), "{code:?}");
        }
    }
}
