//! The embedded broker: librdkafka's mock cluster behind a few words of its own.
//!
//! It speaks Kafka's protocol on loopback ports, verifies idempotent sequences, and keeps the newest 5 MB of each
//! partition, so whoever compares has to read along. It knows no ACLs, no TLS, no compaction and no topic creation by
//! request: topics are made here, or on first use with the mock's four partitions.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// A running mock cluster; gone when dropped.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    partitions: i32,
    replication: i32,
}

impl Broker {
    /// Starts `brokers` brokers on free loopback ports; topics made by [`Broker::create`] have `partitions`.
    ///
    /// # Errors
    /// What librdkafka says; a cluster needs at least one broker.
    pub fn start(brokers: i32, partitions: i32) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(brokers)?;
        Ok(Broker { cluster, partitions, replication: brokers.min(3) })
    }

    /// `host:port,..` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes a topic before its first use; `partitions` as given at the start unless said otherwise.
    ///
    /// # Errors
    /// What librdkafka says; a topic of that name that exists is one.
    pub fn create(&self, topic: &str, partitions: Option<i32>) -> Result<(), KafkaError> {
        self.cluster.create_topic(topic, partitions.unwrap_or(self.partitions), self.replication)
    }

    /// Gives a partition to one broker, numbered from 1. The topic is made if it does not exist.
    ///
    /// # Errors
    /// What librdkafka says; a broker that there is not.
    pub fn lead(&self, topic: &str, partition: i32, broker: i32) -> Result<(), KafkaError> {
        self.cluster.partition_leader(topic, partition, Some(broker))
    }

    /// What the next requests to write are answered with, whichever topic they are for: taken, or refused for good as
    /// without the right to write.
    pub fn answer_produce(&self, takes: &[bool]) {
        let answer = |takes: &bool| match takes {
            true => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
            false => RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        };
        self.cluster.request_errors(RDKafkaApiKey::Produce, &takes.iter().map(answer).collect::<Vec<_>>());
    }

    /// Takes a broker away, with its connections, or brings it back.
    ///
    /// # Errors
    /// What librdkafka says; a broker that there is not.
    pub fn set_up(&self, broker: i32, up: bool) -> Result<(), KafkaError> {
        if up { self.cluster.broker_up(broker) } else { self.cluster.broker_down(broker) }
    }
}
