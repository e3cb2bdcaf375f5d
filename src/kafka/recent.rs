//! Reads the newest records of topics, which a process sent after its newest state record.
//!
//! A process that was killed has sent more than its newest checkpoint says. The time stamps of its
//! records and of its checkpoint come from the same clock. So the time of the checkpoint shows
//! where in each partition the reading has to begin. The meaning of the records is not known here.
//! The time of the reading is bounded, and no record is kept.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Asking;
use super::error::KafkaError;
use super::partitions::{existing, time_left};
use super::state_topic::is_fatal;
use super::topics::{Asker, Topics, is_mock};

/// How long one poll of the consumer waits for a record.
const READ_POLL: Duration = Duration::from_millis(100);

/// How long the whole reading may take. A failover waits for it.
const WITHIN: Duration = Duration::from_secs(30);

/// A record that was sent after the state record may have a time stamp that is earlier than the
/// state record's by this much. Brokers may set the times, and each broker has a clock of its own.
const MARGIN_MS: i64 = 5_000;

/// Kilobytes that librdkafka reads ahead, and bytes that one fetch takes from one partition.
const PROPERTIES: [(&str, &str); 2] =
    [("queued.max.messages.kbytes", "4096"), ("fetch.message.max.bytes", "262144")];

/// A record that [`Topics::recent_records`] shows to its caller.
#[derive(Debug)]
pub struct RecentRecord<'a> {
    /// Topic of the record, by its full name.
    pub topic: &'a str,
    /// Partition of the record, counted from 0.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// True if the record's time stamp is later than that of the newest state record under the
    /// given key, or if the record has no time stamp.
    pub is_later: bool,
    /// Names and values of the headers, in order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

impl Topics {
    /// Shows to `visit` every record that these partitions hold since the state topic's newest
    /// record under `key` was written, and possibly some from before. Returns what `visit` has
    /// made of `found`. `None` if the state topic has no such record. Partitions that do not exist
    /// are passed over.
    ///
    /// # Errors
    /// `Client`, `File` and `Secret` if no client can be made, `Unreachable` and `Request` if a
    /// partition cannot be read, `Timeout` if the time is over before the last record was read.
    pub async fn recent_records<T: Send + 'static>(
        &self,
        key: &str,
        places: Vec<(String, i32)>,
        mut found: T,
        visit: impl Fn(&mut T, &RecentRecord<'_>) + Send + 'static,
    ) -> Result<Option<T>, KafkaError> {
        let key = key.to_owned();
        self.off_the_runtime("read the ends of topics", move |asker| {
            let deadline = Instant::now() + WITHIN;
            let reader = Asking::reader_of(&asker.config, &PROPERTIES)?;
            let tails = Tails { asker, reader, deadline };
            let Some(since_ms) = tails.written_at(key.as_bytes())? else { return Ok(None) };
            for (topic, tail) in tails.begins(&places, since_ms)? {
                tails.read(&topic, &tail, &mut |message| {
                    visit(&mut found, &record(message, &topic, since_ms));
                })?;
            }
            Ok(Some(found))
        })
        .await
    }
}

/// A partition, the offset that its reading begins at, and one past its last offset.
type Part = (i32, i64, i64);

/// The partitions of one topic that are read, each with the offsets where its reading begins and
/// ends.
type Tail = Vec<Part>;

struct Tails<'a> {
    asker: &'a Asker,
    reader: BaseConsumer<Asking>,
    deadline: Instant,
}

impl Tails<'_> {
    /// Reads the time stamp of the newest record of the state topic under this key, in milliseconds
    /// since 1970. `None` if there is no such record, or if it has no time stamp.
    fn written_at(&self, key: &[u8]) -> Result<Option<i64>, KafkaError> {
        let topic = self.asker.config.state_topic.clone();
        let (low, end) = self.asker.watermarks(&self.reader, &topic, 0, self.deadline)?;
        let mut newest = None;
        if low < end {
            self.read(&topic, &[(0, low, end)], &mut |message| {
                if message.key() == Some(key) && message.payload().is_some() {
                    newest = message.timestamp().to_millis();
                }
            })?;
        }
        Ok(newest)
    }

    /// Finds the offsets to read of each partition: all from its first record since `since_ms`,
    /// less a margin. Partitions without such a record are left out.
    fn begins(
        &self,
        places: &[(String, i32)],
        since_ms: i64,
    ) -> Result<Vec<(String, Tail)>, KafkaError> {
        let is_mock = is_mock(self.reader.client());
        let existing = existing(&self.reader, places, self.deadline);
        let mut tails: Vec<(String, Tail)> = Vec::new();
        let is_there = |(topic, partition): &&(String, i32)| {
            existing.get(topic.as_str()).is_none_or(|partitions| partitions.contains(partition))
        };
        for (topic, partition) in places.iter().filter(is_there) {
            // The mock cluster does not look up offsets by time. There, everything is read.
            let from = match is_mock {
                true => Some(0),
                false => self.since(topic, *partition, since_ms - MARGIN_MS)?,
            };
            let Some(from) = from else { continue };
            // The end is asked after the start, so that the end cannot lie before the start.
            let (low, end) =
                self.asker.watermarks(&self.reader, topic, *partition, self.deadline)?;
            if from.max(low) >= end {
                continue;
            }
            let part = (*partition, from.max(low), end);
            match tails.last_mut().filter(|(name, _)| name == topic) {
                Some((_, tail)) => tail.push(part),
                None => tails.push((topic.clone(), vec![part])),
            }
        }
        Ok(tails)
    }

    /// Reads the offset of the first record of a partition that is not older than `since_ms`.
    /// `None` if there is no such record, and 0 if the broker gave no answer.
    fn since(&self, topic: &str, partition: i32, since_ms: i64) -> Result<Option<i64>, KafkaError> {
        let failed =
            |source| self.asker.explain(&self.reader, "read offsets by time", topic, source);
        let mut times = TopicPartitionList::new();
        times
            .add_partition_offset(topic, partition, Offset::Offset(since_ms.max(0)))
            .map_err(failed)?;
        let answers =
            self.reader.offsets_for_times(times, time_left(self.deadline)).map_err(failed)?;
        let answer = answers.find_partition(topic, partition);
        answer.as_ref().map_or(Ok(()), |answer| answer.error()).map_err(failed)?;
        match answer.map(|answer| answer.offset()) {
            Some(Offset::End) => Ok(None),
            // librdkafka leaves the time in the place of the offset if it has no answer.
            Some(Offset::Offset(from)) if from != since_ms.max(0) => Ok(Some(from)),
            _ => Ok(Some(0)),
        }
    }

    /// Reads the given partitions of a topic to their ends, and hands each record to `visit`.
    fn read(
        &self,
        topic: &str,
        tail: &[Part],
        visit: &mut impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), KafkaError> {
        const CALL: &str = "read the end of topic";
        let failed =
            |source: RdError| KafkaError::Request { call: CALL, topic: topic.to_owned(), source };
        let (mut all, mut open) = (TopicPartitionList::new(), tail.to_vec());
        for (partition, from, _) in tail {
            all.add_partition_offset(topic, *partition, Offset::Offset(*from)).map_err(failed)?;
        }
        self.reader.assign(&all).map_err(failed)?;
        while !open.is_empty() {
            if Instant::now() >= self.deadline {
                let (topic, after) = (topic.to_owned(), WITHIN);
                return Err(KafkaError::Timeout { call: CALL, topic, after });
            }
            match self.reader.poll(READ_POLL) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let end = open.iter().find(|part| part.0 == partition).map(|part| part.2);
                    let Some(end) = end else { continue };
                    if offset < end {
                        visit(&message);
                    }
                    if offset + 1 >= end {
                        open.retain(|part| part.0 != partition);
                    }
                }
                // A partition may end without a record at its last offset: compaction has removed
                // the record, or the offset holds the end of a transaction.
                Some(Err(RdError::PartitionEOF(partition))) => {
                    open.retain(|part| part.0 != partition);
                }
                Some(Err(error)) if is_fatal(&error) => return Err(failed(error)),
                Some(Err(error)) => tracing::debug!(%error, topic, "reading the topic goes on"),
                None => {}
            }
        }
        Ok(())
    }
}

fn record<'a>(message: &'a BorrowedMessage<'_>, topic: &'a str, since_ms: i64) -> RecentRecord<'a> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    RecentRecord {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        is_later: message.timestamp().to_millis().is_none_or(|at_ms| at_ms > since_ms),
        headers: headers.map(|header| (header.key, header.value)).collect(),
        value: message.payload(),
    }
}
