//! Late records: records that reached a partition after the records that replaced them.
//!
//! After an unclean stop, the next process begins at the position up to which everything was
//! delivered. A record of an even earlier process may have landed while nobody watched, because its
//! bytes were held up in the network. Such a record is newer in the log than the value that
//! replaced it. A consumer then ends on the old value. Offsets do not show such a record to a
//! process that has not written yet. The producer's time stamp does: the record was produced before
//! the last process began, and it lies after records that the last process wrote.
//!
//! The search reads each partition to its end. It begins at the first record since the first of the
//! given times, or where an earlier search stopped. The search is bounded in records, bytes and
//! time. Where the search cannot tell, it says `Unknown`. The search compares the clocks of the
//! machines that produced the records. So the caller has to allow for the difference between these
//! clocks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::{Message, Timestamp};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Asking;
use super::error::KafkaError;
use super::partitions::{existing, time_left};
use super::state_topic::is_fatal;
use super::topics::{Asker, Topics, is_mock};

/// The longest wait of one poll. It bounds how late the search notices that its time is over.
const READ_POLL: Duration = Duration::from_millis(100);

/// Kilobytes that librdkafka reads ahead. The default is 64 MiB, which the search has no use for.
const AHEAD_KBYTES: &str = "1024";

/// Bytes that one fetch takes from one partition, unless a single batch is larger. The number is
/// low, because one fetch may ask for a hundred partitions.
const FETCH_BYTES: &str = "65536";

/// What counts as late, and how much may be read to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateQuestion {
    /// The times at which producers began, in milliseconds since 1970, ascending, at least one.
    /// Each of these producers sent again what its predecessor had left unanswered. A record is
    /// late if it lies after a record of a later producer. Without `read_ends`, a partition is read
    /// from its first record since the first of these times. A late record before that place is
    /// harmless, because the records that replace it follow it.
    pub began_ms: Vec<i64>,
    /// Where an earlier search stopped. `None` without an earlier search: the times of the records
    /// then say where to begin.
    pub read_ends: Option<ReadEnds>,
    /// The most records to read in all partitions together.
    pub records_max: u64,
    /// The most bytes of keys and values to read in all partitions together.
    pub bytes_max: usize,
    /// The longest that the whole search may take.
    pub within: Duration,
}

/// How far an earlier search has read each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEnds {
    /// One past the last offset that the earlier search read, by topic and partition. A partition
    /// without an entry is read from its first record.
    pub ends: BTreeMap<(String, i32), i64>,
    /// How many producers of `LateQuestion::began_ms` had begun, at least, when a record after
    /// these ends was produced. A record with a lower number is late.
    pub newest: usize,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Late {
    /// No record landed late.
    None,
    /// This record landed late. Other records may have landed late, too.
    Found {
        /// Topic of the late record, by its full name.
        topic: String,
        /// Partition of the late record, counted from 0.
        partition: i32,
        /// The late record's offset.
        offset: i64,
    },
    /// The search cannot tell whether a record landed late, for this reason.
    Unknown(LateUnknown),
}

/// Why the search cannot tell whether a record landed late.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum LateUnknown {
    /// The records of the topic carry the time at which the broker received them, and not the time
    /// at which they were produced.
    #[error(
        "topic `{topic}` has message.timestamp.type `LogAppendTime`, which hides when a record was \
         produced"
    )]
    AppendTime { topic: String },
    /// A record carries no time at all.
    #[error("topic `{topic}` holds a record without a time stamp")]
    NoTime { topic: String },
    /// More records or bytes would have to be read than the question permits.
    #[error("more than {records_max} records or {bytes_max} bytes would have to be read")]
    TooMuch {
        /// The most records to read.
        records_max: u64,
        /// The most bytes to read.
        bytes_max: usize,
    },
    /// The time ran out before the last record was read.
    #[error("the records could not be read within {within:?}")]
    OutOfTime {
        /// The time limit that the question gave.
        within: Duration,
    },
}

impl Topics {
    /// Searches these partitions for a record that landed late by the times of `question`.
    /// Partitions that do not exist are passed over.
    ///
    /// # Errors
    /// `Client`, `File` and `Secret` if no client can be made; `Unreachable`, `Request` and
    /// `Timeout` if a partition cannot be read.
    pub async fn late_records(
        &self,
        places: &[(&str, i32)],
        question: LateQuestion,
    ) -> Result<Late, KafkaError> {
        let places: Vec<(String, i32)> =
            places.iter().map(|(topic, p)| ((*topic).to_owned(), *p)).collect();
        self.off_the_runtime("search late records", move |asker| {
            Search::begin(asker, question)?.run(&places)
        })
        .await
    }
}

/// The records of one partition that are not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The offset at which the reading of the partition begins.
    from: i64,
    /// The offset after the last record that the partition had when the search began.
    end: i64,
    /// How many producers of `LateQuestion::began_ms` had begun when the newest record read so far
    /// was produced. A record with a lower number is late.
    newest: usize,
}

/// The records of one topic that are not read yet, by partition.
type Spans = BTreeMap<i32, Span>;

struct Search<'a> {
    asker: &'a Asker,
    reader: BaseConsumer<Asking>,
    question: LateQuestion,
    deadline: Instant,
    bytes: usize,
}

impl<'a> Search<'a> {
    fn begin(asker: &'a Asker, question: LateQuestion) -> Result<Self, KafkaError> {
        let deadline = Instant::now() + question.within;
        let reader = Asking::reader_of(
            &asker.config,
            &[
                ("queued.max.messages.kbytes", AHEAD_KBYTES),
                ("fetch.message.max.bytes", FETCH_BYTES),
            ],
        )?;
        Ok(Search { asker, reader, question, deadline, bytes: 0 })
    }

    fn run(mut self, places: &[(String, i32)]) -> Result<Late, KafkaError> {
        let mut topics: BTreeMap<&str, Spans> = BTreeMap::new();
        let is_mock = is_mock(self.reader.client());
        let existing = existing(&self.reader, places, self.deadline);
        for (topic, partition) in places {
            if existing
                .get(topic.as_str())
                .is_some_and(|partitions| !partitions.contains(partition))
            {
                continue;
            }
            if self.is_over() {
                return Ok(self.out_of_time());
            }
            // The mock cluster does not look up offsets by time. There, everything is read.
            let span = match &self.question.read_ends {
                Some(ends) => self.behind(ends, topic, *partition)?,
                None if is_mock => self.whole(topic, *partition)?,
                None => self.since(topic, *partition)?,
            };
            if let Some(span) = span {
                topics.entry(topic).or_default().insert(*partition, span);
            }
        }
        let records: u64 =
            topics.values().flat_map(Spans::values).map(|span| span.end.abs_diff(span.from)).sum();
        if records > self.question.records_max {
            return Ok(self.too_much());
        }
        // One topic at a time, because librdkafka names only the partition when its end is reached.
        for (topic, spans) in topics {
            match self.read(topic, spans)? {
                Late::None => {}
                told => return Ok(told),
            }
        }
        Ok(Late::None)
    }

    /// Finds the records of a partition from the first one that was produced since the first time
    /// of `began_ms`. `None` if there is no such record.
    fn since(&self, topic: &str, partition: i32) -> Result<Option<Span>, KafkaError> {
        let failed =
            |source| self.asker.explain(&self.reader, "read offsets by time", topic, source);
        let mut times = TopicPartitionList::new();
        let first = self.question.began_ms.first().copied().unwrap_or_default();
        let moment = Offset::Offset(first);
        times.add_partition_offset(topic, partition, moment).map_err(failed)?;
        let answers =
            self.reader.offsets_for_times(times, time_left(self.deadline)).map_err(failed)?;
        // The end is asked after the start, so that it cannot lie before the start.
        let (_, end) = self.asker.watermarks(&self.reader, topic, partition, self.deadline)?;
        let answer = answers.find_partition(topic, partition);
        answer.as_ref().map_or(Ok(()), |answer| answer.error()).map_err(failed)?;
        match answer.map(|answer| answer.offset()) {
            Some(Offset::End) => Ok(None),
            Some(Offset::Offset(from)) if from <= end => {
                Ok((from < end).then_some(Span { from, end, newest: 1 }))
            }
            // librdkafka leaves the time in the place of the offset if it has no answer.
            _ => Err(KafkaError::Timeout {
                call: "read offsets by time of",
                topic: topic.to_owned(),
                after: self.question.within,
            }),
        }
    }

    /// Finds the records of a partition that an earlier search has not read. `None` if there is no
    /// such record.
    fn behind(
        &self,
        ends: &ReadEnds,
        topic: &str,
        partition: i32,
    ) -> Result<Option<Span>, KafkaError> {
        let (first, end) = self.asker.watermarks(&self.reader, topic, partition, self.deadline)?;
        let from =
            ends.ends.get(&(topic.to_owned(), partition)).map_or(first, |seen| first.max(*seen));
        Ok((from < end).then_some(Span { from, end, newest: ends.newest }))
    }

    /// Finds all records of a partition. `None` if it is empty. The times of the records show which
    /// of them were produced since the first time of `began_ms`.
    fn whole(&self, topic: &str, partition: i32) -> Result<Option<Span>, KafkaError> {
        let (from, end) = self.asker.watermarks(&self.reader, topic, partition, self.deadline)?;
        Ok((from < end).then_some(Span { from, end, newest: 0 }))
    }

    /// Reads the spans of a topic to their ends. Stops at the first record that is late or has no
    /// usable time stamp, or at a limit of the question.
    fn read(&mut self, topic: &str, mut spans: Spans) -> Result<Late, KafkaError> {
        let failed = |source: RdError| KafkaError::Request {
            call: "read topic",
            topic: topic.to_owned(),
            source,
        };
        let mut all = TopicPartitionList::new();
        for (partition, span) in &spans {
            all.add_partition_offset(topic, *partition, Offset::Offset(span.from))
                .map_err(failed)?;
        }
        self.reader.assign(&all).map_err(failed)?;
        while !spans.is_empty() {
            if self.is_over() {
                return Ok(self.out_of_time());
            }
            let message = match self.reader.poll(READ_POLL) {
                Some(Ok(message)) => message,
                // A partition may end without a record at its last offset: compaction has removed
                // the record, or the offset holds the end of a transaction.
                Some(Err(RdError::PartitionEOF(partition))) => {
                    spans.remove(&partition);
                    continue;
                }
                Some(Err(error)) if is_fatal(&error) => return Err(failed(error)),
                Some(Err(error)) => {
                    tracing::debug!(%error, topic, "the search for late records goes on");
                    continue;
                }
                None => continue,
            };
            let Some(span) = spans.get_mut(&message.partition()) else { continue };
            if message.offset() < span.end {
                self.bytes += message.key_len() + message.payload_len();
                if self.bytes > self.question.bytes_max {
                    return Ok(self.too_much());
                }
                match judge(span, message.timestamp(), &self.question) {
                    Judgement::OnTime => {}
                    Judgement::Late => {
                        let (partition, offset) = (message.partition(), message.offset());
                        return Ok(Late::Found { topic: topic.to_owned(), partition, offset });
                    }
                    Judgement::AppendTime => {
                        return Ok(Late::Unknown(LateUnknown::AppendTime {
                            topic: topic.to_owned(),
                        }));
                    }
                    Judgement::NoTime => {
                        return Ok(Late::Unknown(LateUnknown::NoTime { topic: topic.to_owned() }));
                    }
                }
            }
            if message.offset() + 1 >= span.end {
                spans.remove(&message.partition());
            }
        }
        Ok(Late::None)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn out_of_time(&self) -> Late {
        Late::Unknown(LateUnknown::OutOfTime { within: self.question.within })
    }

    fn too_much(&self) -> Late {
        let LateQuestion { records_max, bytes_max, .. } = self.question;
        Late::Unknown(LateUnknown::TooMuch { records_max, bytes_max })
    }
}

/// Whether a record is late, or why its time stamp does not show this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    OnTime,
    Late,
    AppendTime,
    NoTime,
}

/// Judges by its time stamp whether the next record of a span is late.
fn judge(span: &mut Span, time: Timestamp, question: &LateQuestion) -> Judgement {
    match time {
        Timestamp::CreateTime(at) => {
            let begun = question.began_ms.partition_point(|began| *began <= at);
            span.newest = span.newest.max(begun);
            if begun < span.newest { Judgement::Late } else { Judgement::OnTime }
        }
        Timestamp::LogAppendTime(_) => Judgement::AppendTime,
        Timestamp::NotAvailable => Judgement::NoTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> LateQuestion {
        let within = Duration::from_secs(1);
        LateQuestion {
            began_ms: vec![150, 200],
            read_ends: None,
            records_max: 100,
            bytes_max: 100,
            within,
        }
    }

    fn judge_all(newest: usize, times: &[i64]) -> Vec<Judgement> {
        let mut span = Span { from: 0, end: 9, newest };
        times.iter().map(|at| judge(&mut span, Timestamp::CreateTime(*at), &question())).collect()
    }

    #[test]
    fn an_old_record_is_late_only_behind_a_new_one() {
        use Judgement::{Late, OnTime};
        assert_eq!(judge_all(1, &[149, 150, 200]), [Late, OnTime, OnTime]);
        assert_eq!(
            judge_all(0, &[149, 199, 160, 200, 199]),
            [OnTime, OnTime, OnTime, OnTime, Late]
        );
    }

    #[test]
    fn a_time_that_is_not_the_producers_decides_nothing() {
        let mut span = Span { from: 0, end: 9, newest: 1 };
        assert_eq!(
            judge(&mut span, Timestamp::LogAppendTime(1), &question()),
            Judgement::AppendTime
        );
        assert_eq!(judge(&mut span, Timestamp::NotAvailable, &question()), Judgement::NoTime);
    }
}
