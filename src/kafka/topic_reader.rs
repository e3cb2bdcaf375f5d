//! Reads a whole topic: every partition, up to the end that it has when the reading begins.
//!
//! The bytes are bounded, because the topics that are read in this way hold positions or other
//! state, in a few kilobytes. Nothing is committed and no group is joined.

use super::config::Config;
use super::context::Asking;
use super::error::KafkaError;
use super::login::is_refusal;
use super::state_topic::is_fatal;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long reading may make no progress before it fails with `Timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one poll of the consumer waits for a record.
const READ_POLL: Duration = Duration::from_millis(100);

/// The most bytes of keys and values that are read. A topic of positions or other state has fewer.
const BYTES_MAX: usize = 64 << 20;

/// A record's key and value.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// Reads every record that the topic has when the reading begins, in the order of each partition.
///
/// # Errors
/// `Request` for the broker's refusal, `Missing` for a topic that does not exist, `TopicTooLarge`
/// for a topic beyond the bound, `Timeout` without progress.
pub async fn read_whole(config: &Config, topic: &str) -> Result<Vec<Entry>, KafkaError> {
    let (config, topic) = (config.clone(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&config, &topic))
        .await
        .unwrap_or(Err(KafkaError::Interrupted { call: "read topic" }))
}

fn read(config: &Config, topic: &str) -> Result<Vec<Entry>, KafkaError> {
    const CALL: &str = "read topic";
    let failed =
        |source: RdError| KafkaError::Request { call: CALL, topic: topic.to_owned(), source };
    let reader = Asking::reader(config)?;
    let metadata = reader.fetch_metadata(Some(topic), READ_TIMEOUT).map_err(failed)?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|found| found.partitions())
        .map(|partition| partition.id())
        .collect();
    if partitions.is_empty() {
        return Err(KafkaError::Missing { topic: topic.to_owned() });
    }
    let (mut all, mut open) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in partitions {
        let (low, end) = reader.fetch_watermarks(topic, partition, READ_TIMEOUT).map_err(failed)?;
        if low < end {
            all.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(failed)?;
            open.insert(partition, end);
        }
    }
    reader.assign(&all).map_err(failed)?;
    let (mut whole, mut progress) = (Whole::default(), Instant::now());
    while !open.is_empty() {
        match reader.poll(READ_POLL) {
            Some(Ok(message)) => {
                progress = Instant::now();
                let end = open.get(&message.partition()).copied().unwrap_or(0);
                if message.offset() < end {
                    whole.take(topic, message.key().unwrap_or(&[]), message.payload())?;
                }
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
            }
            // A partition may end without a record at its last offset: compaction has removed the
            // record, or the offset holds the end of a transaction.
            Some(Err(RdError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) if is_lasting(&error) => return Err(failed(error)),
            Some(Err(error)) => tracing::debug!(%error, topic, "reading the topic goes on"),
            None => {}
        }
        if progress.elapsed() >= READ_TIMEOUT {
            return Err(KafkaError::Timeout {
                call: CALL,
                topic: topic.to_owned(),
                after: READ_TIMEOUT,
            });
        }
    }
    Ok(whole.entries)
}

/// Whether an error ends the reading: brokers refuse the topic or our login, and waiting longer
/// cannot help.
fn is_lasting(error: &RdError) -> bool {
    is_fatal(error) || is_refusal(error.rdkafka_error_code())
}

/// The records that are read so far.
#[derive(Default)]
struct Whole {
    entries: Vec<Entry>,
    /// The bytes of all keys and values that are read so far.
    bytes: usize,
}

impl Whole {
    /// Adds a record to those that were read. Fails with `TopicTooLarge` if all of them together
    /// exceed the bound.
    fn take(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), KafkaError> {
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        if self.bytes > BYTES_MAX {
            return Err(KafkaError::TopicTooLarge {
                topic: topic.to_owned(),
                bytes_max: BYTES_MAX,
            });
        }
        self.entries.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Remedy;
    use super::*;
    use rdkafka::types::RDKafkaErrorCode as Code;

    #[test]
    fn a_refused_topic_or_login_ends_the_reading() {
        let ends = |code| is_lasting(&RdError::MessageConsumption(code));
        for code in [
            Code::TopicAuthorizationFailed,
            Code::UnknownTopicOrPartition,
            Code::Authentication,
            Code::SaslAuthenticationFailed,
        ] {
            assert!(ends(code), "{code:?}");
        }
        for code in
            [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::GroupAuthorizationFailed]
        {
            assert!(!ends(code), "{code:?}");
        }
    }

    #[test]
    fn a_topic_beyond_the_bound_is_refused_by_its_size() {
        let mut whole = Whole::default();
        let most = vec![0; BYTES_MAX - 1];
        whole.take("offsets", b"k", Some(&most)).unwrap();
        let error = whole.take("offsets", b"k", None).unwrap_err();
        let told = "read topic `offsets`: it holds more than 64 MiB, and a topic of offsets or of \
                    state holds less; name another topic, or let Kafka compact this one";
        assert_eq!((error.to_string().as_str(), error.remedy()), (told, Remedy::Operator));
        assert_eq!(whole.entries.len(), 1);
    }
}
