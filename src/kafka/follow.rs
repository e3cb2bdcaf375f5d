//! Following a small topic from a place that the caller keeps: its first partition, record by record, as it grows.
//!
//! A thread of its own reads; what it reads waits in a bounded channel, and so does the thread. No group is joined and
//! nothing is committed: where to go on is the caller's to remember. What the records mean is not known here.

use super::config::Config;
use super::context::Asking;
use super::error::KafkaError;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long one poll waits: bounds how late the thread notices that it should stop (see `producer`).
const POLL: Duration = Duration::from_millis(500);

/// How long a question about the topic may take, and the pause before it is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_PAUSES: u32 = 10;

/// The only partition that is read: records of several would have no order.
const PARTITION: i32 = 0;

/// Kilobytes that librdkafka reads ahead: the topic is for people, who send little.
const AHEAD_KBYTES: &str = "1024";

/// What a followed topic says.
#[derive(Clone, PartialEq, Eq)]
pub enum Followed {
    /// It is followed from this offset on; told once, where the caller knew none.
    From(i64),
    /// A record.
    Record {
        /// Its offset.
        offset: i64,
        /// Its key.
        key: Option<Vec<u8>>,
        /// Its value.
        value: Option<Vec<u8>>,
    },
}

impl std::fmt::Debug for Followed {
    /// What records hold stays out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Followed::From(offset) => write!(f, "From({offset})"),
            Followed::Record { offset, .. } => write!(f, "Record({offset})"),
        }
    }
}

/// A topic that is followed until this is dropped.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
}

impl Follower {
    /// Follows `topic` from an offset, or from its end as it is now; one that does not exist yet from its first record. Does
    /// not wait for a connection: what fails is tried again for ever, and told in the log when it begins.
    ///
    /// # Errors
    /// `Thread` if no thread can be had.
    pub fn start(
        config: &Config,
        topic: &str,
        from: Option<i64>,
        records: mpsc::Sender<Followed>,
    ) -> Result<Self, KafkaError> {
        let stop = Arc::new(AtomicBool::new(false));
        let following = Following { config: config.clone(), topic: topic.to_owned(), stop: Arc::clone(&stop), records };
        std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || following.run(from))
            .map_err(|source| KafkaError::Thread { name: "follow", source })?;
        Ok(Follower { stop })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed); // it ends within a poll, and nobody needs to wait for that
    }
}

struct Following {
    config: Config,
    topic: String,
    stop: Arc<AtomicBool>,
    records: mpsc::Sender<Followed>,
}

impl Following {
    fn run(self, from: Option<i64>) {
        let Some(consumer) = self.consumer() else { return };
        let Some(from) = from.or_else(|| self.end(&consumer)) else { return };
        let mut place = TopicPartitionList::new();
        let assigned = place
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(from))
            .and_then(|()| consumer.assign(&place));
        if let Err(error) = assigned {
            return tracing::error!(topic = self.topic, %error, "a topic cannot be followed");
        }
        while !self.is_over() {
            let record = match consumer.poll(POLL) {
                Some(Ok(message)) => Followed::Record {
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                },
                Some(Err(error)) => {
                    tracing::debug!(topic = self.topic, %error, "following the topic goes on");
                    continue;
                }
                None => continue,
            };
            if self.records.blocking_send(record).is_err() {
                return;
            }
        }
    }

    /// A consumer, made until it can be: passwords and tokens may be late. None when it is over.
    fn consumer(&self) -> Option<BaseConsumer<Asking>> {
        let properties = [
            ("group.id", "wellspring-follower"), // librdkafka wants one to assign; nothing is committed to it
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"), // the topic was made anew: everything in it is new
            ("queued.max.messages.kbytes", AHEAD_KBYTES),
        ];
        let mut is_told = false;
        while !self.is_over() {
            match Asking::consumer(&self.config, &properties) {
                Ok(consumer) => return Some(consumer),
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(topic = self.topic, %error, "a topic cannot be followed yet; it is tried again");
                }
                Err(_) => {}
            }
            (0..ASK_PAUSES).take_while(|_| !self.is_over()).for_each(|_| std::thread::sleep(POLL));
        }
        None
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.records.is_closed()
    }

    /// The topic's end as it is now, told to the caller; 0 for a topic that is not there. None when it is over.
    fn end(&self, consumer: &BaseConsumer<Asking>) -> Option<i64> {
        let mut is_told = false;
        while !self.is_over() {
            let asked = consumer.fetch_metadata(Some(&self.topic), ASK_TIMEOUT).and_then(|metadata| {
                let partitions = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
                if partitions > 1 {
                    tracing::warn!(topic = self.topic, partitions, "of this topic only partition 0 is read");
                }
                match partitions {
                    0 => Ok(0),
                    _ => Ok(consumer.fetch_watermarks(&self.topic, PARTITION, ASK_TIMEOUT)?.1),
                }
            });
            match asked {
                Ok(end) => return self.records.blocking_send(Followed::From(end)).ok().map(|()| end),
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(topic = self.topic, %error, "the end of a topic cannot be read; it is tried again");
                }
                Err(_) => {}
            }
            (0..ASK_PAUSES).take_while(|_| !self.is_over()).for_each(|_| drop(consumer.poll(POLL)));
        }
        None
    }
}
