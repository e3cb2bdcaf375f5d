//! Reads topics that a person looks at: every partition, from a place that the person names, as the
//! topic grows.
//!
//! A reading leaves no trace and needs no right on a group, because no group is joined and nothing
//! is committed. The meaning of the records is not known here. Every call blocks.

use super::config::Config;
use super::context::Asking;
use super::error::KafkaError;
use super::login::is_refusal;
use super::state_topic::is_fatal;
use super::topics::{Asker, REQUEST_TIMEOUT};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Kilobytes that librdkafka reads ahead, over all partitions.
const AHEAD_KBYTES: &str = "4096";

/// Where reading a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Reading begins at the oldest record that the partition still has.
    Beginning,
    /// Reading begins after the newest record.
    End,
    /// Reading begins at this offset, or at the nearest one that the partition has.
    Offset(i64),
    /// Reading begins this many records before the end of the partition.
    Newest(i64),
}

/// A record as Kafka holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tailed {
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record in its partition.
    pub offset: i64,
    /// The time stamp of the record in milliseconds since 1970. `None` if the record has no time
    /// stamp.
    pub timestamp_ms: Option<i64>,
    /// `None` for a record without a key.
    pub key: Option<Vec<u8>>,
    /// `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order. A name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl std::fmt::Debug for Tailed {
    /// The content of records stays out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tailed({} {}:{})", self.topic, self.partition, self.offset)
    }
}

/// A consumer of topics that a person looks at.
pub struct Tail {
    asker: Asker,
    consumer: BaseConsumer<Asking>,
    /// Names of the topics that are read, for error texts.
    names: String,
    /// True if the log has said, since the last record, that no broker answers.
    is_told: bool,
}

impl Tail {
    /// Makes the consumer, which reads nothing yet.
    ///
    /// # Errors
    /// `Client`, `File` or `Secret`.
    pub fn new(config: &Config) -> Result<Self, KafkaError> {
        let properties = [
            // librdkafka needs a group to assign partitions; nothing is committed to the group
            ("group.id", "wellspring-tail"),
            ("enable.auto.commit", "false"),
            // An offset that retention has removed is replaced by the oldest offset that is left.
            ("auto.offset.reset", "earliest"),
            ("queued.max.messages.kbytes", AHEAD_KBYTES),
        ];
        let consumer = Asking::consumer(config, &properties)?;
        let asker = Asker { config: Arc::new(config.clone()) };
        Ok(Tail { asker, consumer, names: String::new(), is_told: false })
    }

    /// Lists every topic that the brokers show us, with its number of partitions.
    ///
    /// # Errors
    /// `Unreachable`, or `Request` if the brokers refuse to answer.
    pub fn topics(&self) -> Result<BTreeMap<String, i32>, KafkaError> {
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|source| self.explained("list topics", "*", source))?;
        let known = metadata.topics().iter().map(|topic| {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            (topic.name().to_owned(), partitions)
        });
        Ok(known.collect())
    }

    /// Begins to read these topics, each with its number of partitions. `from` is the place at
    /// which the reading of each partition begins.
    ///
    /// # Errors
    /// `Unreachable`, or `Request` if the brokers refuse to tell the end of a partition. `Missing`
    /// for a topic without partitions, which is being made or deleted.
    pub fn read(&mut self, topics: &BTreeMap<String, i32>, from: Start) -> Result<(), KafkaError> {
        self.names = topics.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut places = TopicPartitionList::new();
        for (topic, partitions) in topics {
            if *partitions == 0 {
                return Err(KafkaError::Missing { topic: topic.clone() });
            }
            for partition in 0..*partitions {
                let place = self.place(topic, partition, from)?;
                let added = places.add_partition_offset(topic, partition, place);
                added.map_err(|source| self.explained("read topic", topic, source))?;
            }
        }
        let failed = |source| self.explained("read topic", &self.names, source);
        self.consumer.assign(&places).map_err(failed)
    }

    fn place(&self, topic: &str, partition: i32, from: Start) -> Result<Offset, KafkaError> {
        Ok(match from {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
            Start::Newest(count) => Offset::OffsetTail(count),
            Start::Offset(offset) => {
                // An offset beyond the end would read the partition from its beginning.
                let (low, end) = self
                    .consumer
                    .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                    .map_err(|source| self.explained("read topic", topic, source))?;
                Offset::Offset(offset.min(end).max(low))
            }
        })
    }

    /// Returns the next record of all topics. `None` if none comes within `wait`.
    ///
    /// After an error that can pass, librdkafka itself connects and fetches again, and the answer
    /// is `None`. The log says once that no broker answers.
    ///
    /// # Errors
    /// `Request` for an error that does not pass by waiting: brokers refuse the login or the topic.
    pub fn poll(&mut self, wait: Duration) -> Result<Option<Tailed>, KafkaError> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => {
                self.is_told = false;
                Ok(Some(tailed(&message)))
            }
            Some(Err(error)) if is_fatal(&error) || is_refusal(error.rdkafka_error_code()) => {
                Err(self.explained("read topic", &self.names, error))
            }
            Some(Err(error)) if !self.is_told && is_away(&error) => {
                self.is_told = true;
                tracing::warn!(%error, "no broker answers; reading goes on when one does");
                Ok(None)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "reading the topics goes on");
                Ok(None)
            }
        }
    }

    fn explained(
        &self,
        call: &'static str,
        topic: &str,
        source: rdkafka::error::KafkaError,
    ) -> KafkaError {
        self.asker.explain(&self.consumer, call, topic, source)
    }
}

fn is_away(error: &rdkafka::error::KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
}

fn tailed(message: &impl Message) -> Tailed {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let timestamp_ms = match message.timestamp() {
        Timestamp::NotAvailable => None,
        Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => Some(at),
    };
    Tailed {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms,
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    }
}
