//! Follows a small topic from an offset that the caller keeps: the first partition is read record
//! by record, as it grows.
//!
//! A thread reads the records and puts them into a bounded channel. When the channel is full, the
//! thread waits. No group is joined and nothing is committed: the caller remembers the offset. The
//! meaning of the records is not known here.

use super::config::Config;
use super::context::Asking;
use super::error::KafkaError;
use super::login::is_refusal;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long one poll waits. This bounds how late the thread notices that it should stop (see
/// `producer`).
const POLL: Duration = Duration::from_millis(500);

/// How long a question about the topic may take, such as where its partition ends.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before another consumer is tried. The pause is short enough for a person who waits for
/// a signal. It doubles up to a maximum that burdens no broker and no token endpoint.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The only partition that is read, because records of several partitions have no common order.
const PARTITION: i32 = 0;

/// Kilobytes of records that librdkafka reads ahead. Few are enough, because people write the
/// records of the topic.
const AHEAD_KBYTES: &str = "1024";

/// What the follower of a topic reports.
#[derive(Clone, PartialEq, Eq)]
pub enum Followed {
    /// The topic is followed from this offset on. This is reported once, if the caller knew no
    /// offset.
    From(i64),
    /// One record of the topic. Records are reported in the order of the partition.
    Record {
        /// Offset of the record. Offsets rise, with gaps if compaction has removed records.
        offset: i64,
        /// `None` for a record without a key.
        key: Option<Vec<u8>>,
        /// `None` for a tombstone.
        value: Option<Vec<u8>>,
    },
}

impl std::fmt::Debug for Followed {
    /// The content of records stays out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Followed::From(offset) => write!(f, "From({offset})"),
            Followed::Record { offset, .. } => write!(f, "Record({offset})"),
        }
    }
}

/// The handle of a topic that is being followed. Dropping the handle ends the following.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
}

impl Follower {
    /// Follows `topic` from an offset, or from its present end. A topic that does not exist yet is
    /// followed from its first record. This does not wait for a connection: a failed attempt is
    /// repeated for ever, and the log tells when the failures begin.
    ///
    /// # Errors
    /// `Thread` if no thread can be started.
    pub fn start(
        config: &Config,
        topic: &str,
        from: Option<i64>,
        records: mpsc::Sender<Followed>,
    ) -> Result<Self, KafkaError> {
        let stop = Arc::new(AtomicBool::new(false));
        let following = Following {
            config: config.clone(),
            topic: topic.to_owned(),
            stop: Arc::clone(&stop),
            records,
        };
        std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || following.run(from))
            .map_err(|source| KafkaError::Thread { name: "follow", source })?;
        Ok(Follower { stop })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // the thread ends within one poll, and nobody needs to wait for that
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Following {
    config: Config,
    topic: String,
    stop: Arc<AtomicBool>,
    records: mpsc::Sender<Followed>,
}

impl Following {
    /// Follows the topic with one consumer after another, until the [`Follower`] is dropped or the
    /// channel of records is closed.
    ///
    /// A consumer keeps the password that it was made with. When brokers refuse a consumer, the
    /// next one reads the password anew.
    fn run(self, mut from: Option<i64>) {
        let (mut pause, mut is_told) = (RETRY_MIN, false);
        while !self.is_over() {
            let (before, began) = (from, Instant::now());
            let Err(error) = self.follow(&mut from) else { return };
            if from != before || began.elapsed() > RETRY_MAX {
                (pause, is_told) = (RETRY_MIN, false);
            }
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            if is_told {
                tracing::debug!(
                    topic = self.topic, %error, cause,
                    "the topic still cannot be followed"
                );
            } else {
                tracing::warn!(
                    topic = self.topic, %error, cause,
                    "the topic cannot be followed; this is tried again"
                );
            }
            is_told = true;
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.is_over() {
                std::thread::sleep(POLL);
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Follows the topic with one consumer, and keeps in `from` the offset at which the next
    /// consumer has to go on. Returns without an error when the [`Follower`] is dropped or the
    /// channel of records is closed.
    fn follow(&self, from: &mut Option<i64>) -> Result<(), KafkaError> {
        let failed = |source| KafkaError::Request {
            call: "follow topic",
            topic: self.topic.clone(),
            source,
        };
        let properties = [
            // librdkafka needs a group to assign partitions; nothing is committed to the group
            ("group.id", "wellspring-follower"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"), // if `start` is gone, all that is left is new
            ("queued.max.messages.kbytes", AHEAD_KBYTES),
        ];
        let consumer = Asking::consumer(&self.config, &properties)?;
        let start = match *from {
            Some(start) => start,
            None => {
                let end = self.end(&consumer).map_err(failed)?;
                if self.records.blocking_send(Followed::From(end)).is_err() {
                    return Ok(());
                }
                *from = Some(end);
                end
            }
        };
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(start))
            .map_err(failed)?;
        consumer.assign(&place).map_err(failed)?;
        while !self.is_over() {
            let message = match consumer.poll(POLL) {
                Some(Ok(message)) => message,
                Some(Err(error)) if ends_the_consumer(&error) => return Err(failed(error)),
                // librdkafka itself connects and fetches again after such an error.
                Some(Err(error)) => {
                    tracing::debug!(topic = self.topic, %error, "following the topic goes on");
                    continue;
                }
                None => continue,
            };
            let record = Followed::Record {
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            };
            if self.records.blocking_send(record).is_err() {
                return Ok(());
            }
            *from = Some(message.offset() + 1);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.records.is_closed()
    }

    /// Reads the offset after the last record of the topic's first partition. It is 0 for a topic
    /// that does not exist.
    fn end(&self, consumer: &BaseConsumer<Asking>) -> Result<i64, RdError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), ASK_TIMEOUT)?;
        let partitions =
            metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
        if partitions > 1 {
            tracing::warn!(
                topic = self.topic,
                partitions,
                "of this topic only partition 0 is read"
            );
        }
        match partitions {
            0 => Ok(0),
            _ => Ok(consumer.fetch_watermarks(&self.topic, PARTITION, ASK_TIMEOUT)?.1),
        }
    }
}

/// Whether only a new consumer can go on, because brokers refuse the login, which a consumer never
/// changes, or because librdkafka gave up.
fn ends_the_consumer(error: &RdError) -> bool {
    matches!(error, RdError::MessageConsumptionFatal(_)) || is_refusal(error.rdkafka_error_code())
}
