//! The `kafka` room: records into Kafka, delivery reports out of it, topics, and the compacted
//! state topic.
//!
//! Everything here uses librdkafka through the safe interface of `rdkafka`, except for one call in
//! the crate `rdkafka-brokers`. `config` says which properties are pinned and why.
//! `error::classify` alone decides what a failed delivery means. This room knows nothing of
//! Postgres, LSNs or commits: a record is bytes with a `Ticket`, and its result comes back as a
//! `Delivery`. The ledger decides what may be confirmed, and `core` decides when a producer is
//! replaced.
//!
//! - `Producer`: sends the records of the row path. Each generation has a producer of its own, and
//!   a failed delivery ends this producer.
//! - `Topics`: creates and describes topics, probes brokers, and searches partitions. Every call
//!   has a time limit.
//! - `Follower`: reads a small topic that others write, as it grows.
//! - `Tail`: reads topics for a person who looks at them.
//! - `State`: small JSON texts by key, in a compacted topic or, for sinks without topics, in a
//!   file.

mod brokerless;
mod config;
mod context;
mod error;
mod follow;
mod late;
pub mod listener;
mod login;
mod many;
mod online;
mod partitions;
mod producer;
mod recent;
mod state;
mod state_topic;
mod statistics;
mod tail;
mod topics;
mod topic_reader;

pub use config::{
    Config, PropertyFault, QUEUE_RECORDS_MAX, TopicGroup, TopicRules, check_property, is_sensitive,
    refuse_pinned,
};
pub use error::{FailureClass, KafkaError, Remedy, classify, is_of_topic};
pub use follow::{Followed, Follower};
pub use late::{Late, LateQuestion, LateUnknown, ReadEnds};
pub use login::Login;
pub use partitions::PartitionEnd;
pub use producer::{
    Address, Delivery, Failed, Headers, Landed, Producer, SendError, Settled, wire_bytes,
};
pub use rdkafka::types::RDKafkaErrorCode;
pub use recent::RecentRecord;
pub use state::{FileState, State, StateError};
pub use state_topic::StateTopic;
pub use statistics::Statistics;
pub use tail::{Start, Tail, Tailed};
pub use topic_reader::{Entry, read_whole};
pub use topics::{Cluster, Policy, TopicInfo, TopicSpec, Topics};

/// The version of the librdkafka linked into this binary, as `2.12.1`.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}
