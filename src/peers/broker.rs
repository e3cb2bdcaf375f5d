//! The embedded broker: a thin wrapper around librdkafka's mock cluster.
//!
//! The mock cluster speaks Kafka's protocol on loopback ports and checks the sequence numbers of
//! idempotent producers. The cluster keeps only the newest 5 MB of each partition, so a test that
//! compares records has to read them while they are written. The cluster has no ACLs, no TLS, no
//! compaction and no topic creation by request. Topics are created here, or at first use with the
//! mock's four partitions.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// A running mock cluster. Dropping it stops the brokers.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    partitions: i32,
    replication: i32,
}

impl Broker {
    /// Starts `brokers` brokers on free loopback ports. A topic that [`Broker::create`] makes has
    /// `partitions` partitions, unless that call states another number.
    ///
    /// # Errors
    /// librdkafka's error. A cluster needs at least one broker.
    pub fn start(brokers: i32, partitions: i32) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(brokers)?;
        Ok(Broker { cluster, partitions, replication: brokers.min(3) })
    }

    /// Addresses for clients, as `host:port,..`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic before its first use. If `partitions` is `None`, the topic has the number of
    /// partitions that was given at the start.
    ///
    /// # Errors
    /// librdkafka's error, also for a topic that exists.
    pub fn create(&self, topic: &str, partitions: Option<i32>) -> Result<(), KafkaError> {
        self.cluster.create_topic(topic, partitions.unwrap_or(self.partitions), self.replication)
    }

    /// Makes one broker, numbered from 1, the leader of a partition. The topic is created if it
    /// does not exist.
    ///
    /// # Errors
    /// librdkafka's error, also for a broker that does not exist.
    pub fn lead(&self, topic: &str, partition: i32, broker: i32) -> Result<(), KafkaError> {
        self.cluster.partition_leader(topic, partition, Some(broker))
    }

    /// Sets the answers to the next produce requests, for any topic: `true` accepts the request,
    /// `false` refuses it with the error that the client may not write to the topic.
    pub fn answer_produce(&self, takes: &[bool]) {
        let answer = |takes: &bool| match takes {
            true => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
            false => RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        };
        self.cluster
            .request_errors(RDKafkaApiKey::Produce, &takes.iter().map(answer).collect::<Vec<_>>());
    }

    /// Starts a broker again if `up` is true. Otherwise stops the broker, and closes its
    /// connections.
    ///
    /// # Errors
    /// librdkafka's error, also for a broker that does not exist.
    pub fn set_up(&self, broker: i32, up: bool) -> Result<(), KafkaError> {
        if up { self.cluster.broker_up(broker) } else { self.cluster.broker_down(broker) }
    }
}
