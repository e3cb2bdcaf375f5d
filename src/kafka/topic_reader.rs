//! Reads a whole topic: every partition, up to the end that it has when the reading begins.
//!
//! The bytes are bounded, because the topics that are read in this way hold positions or other
//! state, in a few kilobytes. Nothing is committed and no group is joined.

use super::config::Config;
use super::context::Asking;
use super::error::KafkaError;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long reading may make no progress.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one poll waits.
const READ_POLL: Duration = Duration::from_millis(100);

/// The most bytes of keys and values that are read. A topic of positions or other state has fewer.
const BYTES_MAX: usize = 64 << 20;

/// A record's key and value.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// Reads every record, partition by partition, in the order of each partition.
///
/// # Errors
/// `Request` for the broker's refusal, `Missing` for a topic that does not exist, `Timeout` without
/// progress or beyond the bound.
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
    let (mut entries, mut bytes, mut progress) = (Vec::new(), 0_usize, Instant::now());
    while !open.is_empty() {
        match reader.poll(READ_POLL) {
            Some(Ok(message)) => {
                progress = Instant::now();
                let end = open.get(&message.partition()).copied().unwrap_or(0);
                if message.offset() < end {
                    let entry = (
                        message.key().map_or_else(Vec::new, <[u8]>::to_vec),
                        message.payload().map(<[u8]>::to_vec),
                    );
                    bytes += entry.0.len() + entry.1.as_ref().map_or(0, Vec::len);
                    entries.push(entry);
                }
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
            }
            // A partition may end without a record at its last offset: compaction has removed the
            // record, or the offset holds the end of a transaction.
            Some(Err(RdError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => tracing::debug!(%error, topic, "reading the topic goes on"),
            None => {}
        }
        if progress.elapsed() >= READ_TIMEOUT || bytes > BYTES_MAX {
            return Err(KafkaError::Timeout {
                call: CALL,
                topic: topic.to_owned(),
                after: READ_TIMEOUT,
            });
        }
    }
    Ok(entries)
}
