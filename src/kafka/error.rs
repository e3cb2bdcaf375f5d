//! The errors of calls to Kafka, and what each of them means.
//!
//! Two exhaustive decisions are here and nowhere else. [`classify`] says what a delivery report's
//! error code means, and [`KafkaError::remedy`] says whether a failed call is worth repeating.
//! `core` decides what a failed delivery leads to, and the caller what a failed call leads to.

use std::path::PathBuf;
use std::time::Duration;

use super::login::is_refusal;
use crate::secret::SourceError;
use rdkafka::types::RDKafkaErrorCode;

/// A call to Kafka that did not succeed. If another error is the cause, it is in `source`, and the
/// text of this error does not repeat it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum KafkaError {
    /// The password or token cannot be read from its source.
    #[error("read the credentials for Kafka")]
    Secret {
        /// The file or command, and why it failed.
        #[source]
        source: SourceError,
    },
    /// A topic is missing and cannot be created, because the admin client cannot log in by a token.
    #[error(
        "topic `{topic}` does not exist, and the client that creates topics cannot log in by \
         token: create it first"
    )]
    NoCreation { topic: String },
    /// librdkafka refuses the properties, which is a fault of the configuration.
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
    /// No broker answered. `detail` is librdkafka's last message about the connection.
    #[error("reach Kafka at {brokers}: {detail}")]
    Unreachable {
        /// Bootstrap brokers as configured.
        brokers: String,
        /// librdkafka's last message, or `no answer` if none came within the time.
        detail: String,
    },
    /// A request about this topic failed as a whole, with an error of librdkafka.
    #[error("{call} `{topic}`")]
    Request {
        /// The name of the request for the text of the error, such as `describe topic` or `create
        /// topic`.
        call: &'static str,
        topic: String,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// The broker answered a request with an error code for this one topic.
    #[error("{call} `{topic}`: {code}")]
    Answer { call: &'static str, topic: String, code: RDKafkaErrorCode },
    /// The topic does not exist, and the configuration forbids us to create topics.
    #[error("topic `{topic}` does not exist and `topics.create` is off")]
    Missing { topic: String },
    /// The state topic would lose records, because its policy is not exactly `compact`.
    #[error("state topic `{topic}` has cleanup.policy `{found}`, it must be exactly `compact`")]
    StatePolicy {
        topic: String,
        /// The policy that the broker reports.
        found: String,
    },
    /// The state topic has more than one partition. Its records therefore have no order.
    #[error("state topic `{topic}` has {found} partitions, it must have exactly one")]
    StatePartitions {
        topic: String,
        /// The number of partitions that the broker reports.
        found: i32,
    },
    /// A record in the state topic is not UTF-8. Somebody else has written this record.
    #[error("state topic `{topic}` holds a record at offset {offset} whose {part} is not text")]
    StateText { topic: String, offset: i64, part: &'static str },
    /// A topic that is read as a whole has more than `bytes_max` bytes of keys and values.
    #[error(
        "read topic `{topic}`: it holds more than {} MiB, and a topic of offsets or of state holds \
         less; name another topic, or let Kafka compact this one", bytes_max >> 20
    )]
    TopicTooLarge {
        topic: String,
        /// The most bytes of keys and values that are read.
        bytes_max: usize,
    },
    /// A call did not finish in time. Its effect may still happen.
    #[error("{call} `{topic}` within {after:?}")]
    Timeout {
        /// The name of the call that was waited for, for the text of the error.
        call: &'static str,
        topic: String,
        after: Duration,
    },
    /// Our own blocking task ended without an answer. Only a shutdown or a panic causes that.
    #[error("{call}: the task ended without an answer")]
    Interrupted {
        /// The name of the call that was under way, for the text of the error.
        call: &'static str,
    },
}

/// Whether repeating a failed call can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The cause can pass by itself, such as a broker that is away or busy. The caller repeats the
    /// call.
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
            | KafkaError::StateText { .. }
            | KafkaError::TopicTooLarge { .. } => Remedy::Operator,
            // A failed `Secret` can pass too: the password or token may come from a service that is
            // away for a while.
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
    /// Whether the error concerns the topic of the call alone, and not credentials, the cluster or
    /// our own configuration.
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
    /// Whether brokers refused our login. The error code shows it. `Unreachable` has no code; there
    /// a fixed phrase in librdkafka's last message shows it.
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

/// Whether a failed delivery concerns its topic or its record alone, so that Kafka may still accept
/// records of other topics. False for every code for which [`FailureClass::lasts`] is false.
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

/// The remedy for an error code in the answer to an admin or metadata request. A code that is not
/// named here means `Retry`.
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

/// The meaning of a failed delivery. In each case the producer that reported the failure has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The record was purged from the queue, by us or by librdkafka after the failure of another
    /// record. The record itself is not at fault.
    Purged,
    /// The broker refuses our login or denies us the right to write.
    Denied,
    /// The record, or its batch, is larger than the topic accepts.
    TooLarge,
    /// The broker refuses this record or its form for good, because of an invalid record, a policy,
    /// a time stamp or the format.
    Refused,
    /// The topic's name is not valid, or the topic or partition does not exist, even after
    /// librdkafka has waited for metadata to spread.
    TopicUnknown,
    /// The idempotent producer has lost its state (sequence, epoch, producer id, gapless
    /// guarantee). A new producer may go on.
    ProducerEnded,
    /// Any other code. None should occur with our settings. The failure counts as temporary, and
    /// the log has the code.
    Passing,
}

impl FailureClass {
    /// Whether the same record will probably fail again when it is sent again. A second such
    /// failure at the same Position halts the stream or detaches the table.
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

/// Returns the meaning of the error code of a delivery report. No other place decides this meaning.
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
