//! The demo's own consumer, on its own thread. It reads every topic, shows the events, rebuilds the
//! tables, and compares them with the source on request. It uses no code of the agent that it
//! checks. From the agent it reads only the status, for the line of numbers.

use super::decode::{DecodeError, Decoder, Event};
use super::screen::Screen;
use super::tables::{Difference, Rebuilt, Snapshot};
use crate::status::Status;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Longest wait of one poll for a record. A request for a comparison and the line of numbers may
/// be late by this time.
const POLL: Duration = Duration::from_millis(50);

/// Longest wait for the end of a partition. The broker is in this process.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(10);

/// The topics to read and the servers to read them from.
pub(super) struct Peers {
    /// Addresses of the brokers, as `host:port,..`.
    pub brokers: String,
    /// URL of the registry.
    pub registry: String,
    /// Topics with their numbers of partitions.
    pub topics: Vec<(String, i32)>,
    /// The agent's status, for the line of numbers.
    pub status: watch::Receiver<Status>,
}

/// Why the consumer stopped reading.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReaderError {
    #[error("read the topics")]
    Kafka(#[source] KafkaError),
    #[error(
        "read {topic} in order: expected offset {expected} of partition {partition}, got {found}"
    )]
    Gap { topic: String, partition: i32, expected: i64, found: i64 },
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("start the consumer's thread")]
    Thread(#[source] std::io::Error),
}

/// Result of a comparison. The consumer has first read up to the ends that the topics had at the
/// request.
pub(super) struct Answer {
    pub differences: Vec<Difference>,
    /// Number of the source's rows that were compared.
    pub rows: usize,
    /// Number of changes and messages that the consumer has read so far.
    pub events: u64,
}

struct Question {
    source: Snapshot,
    answer: oneshot::Sender<Answer>,
}

/// A running consumer. Dropping it ends its thread and waits for that, so that the thread does not
/// outlive the broker.
pub(super) struct Reader {
    /// Sends requests for comparisons to the thread, which ends when this sender is dropped. `None`
    /// only while the reader is dropped.
    questions: Option<SyncSender<Question>>,
    failed: oneshot::Receiver<ReaderError>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.questions = None;
        // If the thread has panicked, the panic has been printed, and the demo ends in any case.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Reader {
    /// Starts the consumer's thread.
    pub(super) fn start(peers: Peers, screen: Screen) -> Result<Self, ReaderError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ReaderError::Thread)?;
        let (consumer, asker) = consumers(&peers).map_err(ReaderError::Kafka)?;
        // The caller waits for the answer, so there is one request at most.
        let (questions, asked) = sync_channel(1);
        let (tell, failed) = oneshot::channel();
        let work = Work {
            consumer,
            asker,
            decoder: Decoder::new(peers.registry, runtime),
            next: peers.topics.iter().flat_map(partitions).map(|at| (at, 0)).collect(),
            rebuilt: Rebuilt::default(),
            screen,
            status: peers.status,
        };
        let thread = std::thread::Builder::new().name("reader".to_owned());
        let spawned = thread.spawn(move || {
            if let Err(error) = work.run(&asked) {
                // Nobody receives the error once the demo is over.
                let _ = tell.send(error);
            }
        });
        let thread = Some(spawned.map_err(ReaderError::Thread)?);
        Ok(Reader { questions: Some(questions), failed, thread })
    }

    /// Reads up to the present ends of the topics, and compares.
    ///
    /// # Errors
    /// The error that has ended the reading of records.
    pub(super) async fn compare(&mut self, source: Snapshot) -> Result<Answer, ReaderError> {
        let (answer, answered) = oneshot::channel();
        if self
            .questions
            .as_ref()
            .is_none_or(|asked| asked.try_send(Question { source, answer }).is_err())
        {
            return Err(self.failed().await);
        }
        match answered.await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.failed().await),
        }
    }

    /// Waits until reading ends, and returns the error that ended it. Nothing else ends reading.
    pub(super) async fn failed(&mut self) -> ReaderError {
        match (&mut self.failed).await {
            Ok(error) => error,
            Err(_) => ReaderError::Thread(std::io::Error::other("it ended without a word")),
        }
    }
}

fn partitions((topic, count): &(String, i32)) -> impl Iterator<Item = (String, i32)> {
    let topic = topic.clone();
    (0..*count).map(move |partition| (topic.clone(), partition))
}

/// Two consumers: one reads, and one asks for the ends of partitions. On one connection a request
/// would wait behind a fetch that waits for data.
fn consumers(peers: &Peers) -> Result<(BaseConsumer, BaseConsumer), KafkaError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &peers.brokers)
        .set("group.id", "demo")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false")
        // The mock keeps 5 MB of a partition. A consumer that falls behind must fail, because it
        // cannot read the lost records.
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "100");
    let consumer: BaseConsumer = config.create()?;
    let mut all = TopicPartitionList::new();
    for (topic, partition) in peers.topics.iter().flat_map(partitions) {
        all.add_partition_offset(&topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&all)?;
    Ok((consumer, config.create()?))
}

/// State of the consumer's thread.
struct Work {
    consumer: BaseConsumer,
    asker: BaseConsumer,
    decoder: Decoder,
    /// Offset of the next record, by topic and partition.
    next: BTreeMap<(String, i32), i64>,
    rebuilt: Rebuilt,
    screen: Screen,
    status: watch::Receiver<Status>,
}

/// A request for a comparison, with the end of each partition. The consumer reads up to these ends
/// before it compares.
struct Open {
    question: Question,
    ends: BTreeMap<(String, i32), i64>,
}

impl Work {
    fn run(mut self, asked: &Receiver<Question>) -> Result<(), ReaderError> {
        let mut open: Option<Open> = None;
        loop {
            if open.is_none() {
                open = match asked.try_recv() {
                    Ok(question) => Some(Open { question, ends: self.ends()? }),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                };
            }
            open = open.and_then(|open| self.answer_if_read(open));
            self.read()?;
            if self.screen.is_due() {
                self.screen.tick(&self.status.borrow().clone(), self.rebuilt.rows());
            }
        }
    }

    /// Reads one record, if there is one.
    fn read(&mut self) -> Result<(), ReaderError> {
        let consumer = &self.consumer;
        match consumer.poll(POLL) {
            None => Ok(()),
            Some(Ok(record)) => {
                expect_next(&mut self.next, &record)?;
                match self.decoder.event(&record)? {
                    Event::Change(change) => {
                        self.screen.change(&change);
                        self.rebuilt.apply(change);
                    }
                    Event::Message(prefix, content) => self.screen.message(&prefix, &content),
                    Event::Tombstone => self.screen.tombstone(),
                }
                Ok(())
            }
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(%error, "the demo's consumer");
                Ok(())
            }
            Some(Err(error)) => Err(ReaderError::Kafka(error)),
        }
    }

    /// Asks the broker for the end of every partition, which is one past its last offset.
    fn ends(&self) -> Result<BTreeMap<(String, i32), i64>, ReaderError> {
        let end = |(topic, partition): &(String, i32)| {
            let (_, end) = self.asker.fetch_watermarks(topic, *partition, WATERMARK_TIMEOUT)?;
            Ok(((topic.clone(), *partition), end))
        };
        self.next.keys().map(end).collect::<Result<_, _>>().map_err(ReaderError::Kafka)
    }

    fn answer_if_read(&self, open: Open) -> Option<Open> {
        let is_read =
            open.ends.iter().all(|(at, end)| self.next.get(at).is_some_and(|next| next >= end));
        if !is_read {
            return Some(open);
        }
        let Question { source, answer } = open.question;
        let differences = self.rebuilt.differences(&source);
        let rows = source.values().map(Vec::len).sum();
        // The caller may be gone.
        let _ = answer.send(Answer { differences, rows, events: self.screen.events() });
        None
    }
}

/// Checks that the offsets of a partition have no gap. The mock has no transactions and no
/// compaction, which would cause gaps.
fn expect_next(
    next: &mut BTreeMap<(String, i32), i64>,
    record: &BorrowedMessage<'_>,
) -> Result<(), ReaderError> {
    let (topic, partition, found) =
        (record.topic().to_owned(), record.partition(), record.offset());
    let expected = next.get(&(topic.clone(), partition)).copied().unwrap_or(0);
    if found != expected {
        return Err(ReaderError::Gap { topic, partition, expected, found });
    }
    next.insert((topic, partition), found + 1);
    Ok(())
}

/// True if librdkafka recovers from the error by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve].contains(&code)
    })
}
