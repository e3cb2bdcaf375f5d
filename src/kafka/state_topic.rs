//! The state topic: newest value per key, in one compacted partition.
//!
//! A write goes through a small idempotent producer of its own and returns when every in-sync
//! replica holds the record. A read goes from the beginning to the end offset as it was when the
//! call began, without a consumer group. A topic with any policy but exactly `compact` would lose
//! records and is refused. If the broker does not tell the policy, the policy is reported as not
//! proven. The meaning of the texts is not known here.

use crate::secret::Source;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::brokerless::Brokerless;
use super::config::Config;
use super::context::{Asking, NO_ANSWER, NO_TOKEN};
use super::error::KafkaError;
use super::login::{is_refusal, no_token, oauth_token};
use super::statistics::Statistics;
use super::topics::{Policy, TopicInfo, TopicSpec, Topics};

/// How long a write may stay unacknowledged before it returns `Timeout`. The record then stays
/// queued, in its order.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// For this long after its begin, a write is polled often, because most writes are acknowledged
/// within milliseconds. Later it is polled seldom.
const WRITE_SOON: Duration = Duration::from_millis(100);
const WRITE_POLL_MIN: Duration = Duration::from_millis(5);
const WRITE_POLL_MAX: Duration = Duration::from_millis(250);

/// How long reading may make no progress before it fails with `Timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one poll of the reader waits.
const READ_POLL: Duration = Duration::from_millis(100);

/// The only partition that the topic should have. On the mock cluster the topic may have more,
/// which stay empty.
const PARTITION: i32 = 0;

/// Limit of the writer's queue, in KiB. One write holds a batch of small records, or one record of
/// a few kilobytes.
const QUEUE_KBYTES_MAX: &str = "4096";

/// Segment size of a state topic that we create. Compaction leaves the newest segment alone. Each
/// start therefore reads all of that segment.
const SEGMENT_BYTES: &str = "16777216";

type Acknowledge = oneshot::Sender<Result<(), RDKafkaErrorCode>>;

/// The result of writing one record: the answer about the record, or the end of the writer without
/// an answer.
type Acknowledged = Result<Result<(), RDKafkaErrorCode>, oneshot::error::TryRecvError>;

/// The compacted topic that holds the state records of the agent.
pub struct StateTopic {
    config: Arc<Config>,
    info: TopicInfo,
    writer: Option<Arc<BaseProducer<Acknowledging>>>,
    write_timeout: Duration,
}

impl fmt::Debug for StateTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateTopic").field("info", &self.info).finish_non_exhaustive()
    }
}

impl StateTopic {
    /// Finds the state topic, or creates it if we may. Refuses a topic that would lose records.
    ///
    /// # Errors
    /// `Missing`, `StatePolicy`, `StatePartitions`, or what [`Topics::ensure`] says.
    pub async fn open(config: &Config) -> Result<Self, KafkaError> {
        let settings = [("cleanup.policy", "compact"), ("segment.bytes", SEGMENT_BYTES)];
        let spec = TopicSpec {
            name: config.state_topic.clone(),
            partitions: 1,
            replication: config.topics.replication,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let Some(info) = Topics::new(config).ensure(&[spec]).await?.pop() else {
            return Err(KafkaError::Missing { topic: config.state_topic.clone() });
        };
        if let Policy::Proven(policy) = &info.cleanup_policy {
            if policy != "compact" {
                return Err(KafkaError::StatePolicy { topic: info.name, found: policy.clone() });
            }
            if info.partitions != 1 {
                return Err(KafkaError::StatePartitions {
                    topic: info.name,
                    found: info.partitions,
                });
            }
        }
        Ok(StateTopic {
            config: Arc::new(config.clone()),
            info,
            writer: None,
            write_timeout: WRITE_TIMEOUT,
        })
    }

    /// Sets another time limit for each write.
    #[must_use]
    pub fn with_write_timeout(mut self, write_timeout: Duration) -> Self {
        self.write_timeout = write_timeout;
        self
    }

    /// Returns the description of the state topic, as it was when the topic was opened. The status
    /// shows whether the topic's `cleanup.policy` is proven.
    #[must_use]
    pub fn info(&self) -> &TopicInfo {
        &self.info
    }

    /// Reads the newest value of every key, up to the present end of the topic.
    ///
    /// # Errors
    /// `Timeout` without progress, `StateText` for a record that is not ours, `Request` for the
    /// broker's refusal.
    pub async fn read_all(&self) -> Result<BTreeMap<String, String>, KafkaError> {
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || read_all(&config))
            .await
            .unwrap_or(Err(KafkaError::Interrupted { call: "read the state topic" }))
    }

    /// Sets a key, or removes it with `None`. Returns when every in-sync replica holds the change.
    ///
    /// # Errors
    /// After `Timeout` the change may still be written, before any later write. After `Answer` the
    /// brokers have refused the change or our login, and the next write makes a new producer.
    pub async fn write(&mut self, key: &str, json: Option<&str>) -> Result<(), KafkaError> {
        self.write_all(&[(key, json)]).await
    }

    /// Writes several keys in this order, as [`StateTopic::write`] does. Returns when every in-sync
    /// replica holds all of the records. The records are sent together, which saves a round trip
    /// for each.
    ///
    /// # Errors
    /// See [`StateTopic::write`]. Some of the records may have been written.
    pub async fn write_all(&mut self, records: &[(&str, Option<&str>)]) -> Result<(), KafkaError> {
        const CALL: &str = "write to state topic";
        let topic = self.config.state_topic.clone();
        let writer = self.writer().await?;
        let mut acknowledged = VecDeque::with_capacity(records.len());
        for (key, json) in records {
            let (acknowledge, answer) = oneshot::channel();
            let mut record = BaseRecord::with_opaque_to(&topic, Box::new(acknowledge))
                .key(*key)
                .partition(PARTITION);
            if let Some(json) = json {
                record = record.payload(*json);
            }
            if let Err((source, _)) = writer.send(record) {
                self.end_writer();
                return Err(KafkaError::Request { call: CALL, topic, source });
            }
            acknowledged.push_back(answer);
        }
        // The writer is polled only while a write is under way. A thread of its own would waste CPU
        // all the time, because rdkafka's poll spins through its last millisecond.
        let (patience, brokers) = (self.write_timeout, self.config.brokers.clone());
        let answer = tokio::task::spawn_blocking(move || {
            await_all(&writer, acknowledged, patience, &brokers)
        });
        match answer.await {
            Ok(Some(Ok(Ok(())))) => Ok(()),
            Ok(Some(Ok(Err(code)))) => {
                self.end_writer(); // no later record may land before the repeat of this one
                Err(KafkaError::Answer { call: CALL, topic, code })
            }
            Ok(Some(Err(_))) | Err(_) => Err(KafkaError::Interrupted { call: CALL }),
            Ok(None) => {
                if self
                    .writer
                    .as_ref()
                    .is_some_and(|writer| writer.client().context().brokerless.is_final())
                {
                    self.end_writer(); // without brokers it would never send the record
                }
                Err(KafkaError::Timeout { call: CALL, topic, after: self.write_timeout })
            }
        }
    }

    async fn writer(&mut self) -> Result<Arc<BaseProducer<Acknowledging>>, KafkaError> {
        if let Some(writer) = &self.writer {
            // Nobody polls the writer between two writes. Meanwhile its token may have expired, and
            // its session at the broker with the token.
            writer.poll(Duration::ZERO);
            if !writer.client().context().is_refused() {
                return Ok(Arc::clone(writer));
            }
            self.end_writer();
        }
        let mut config = Config::clone(&self.config);
        config.login.renew().await.map_err(|source| KafkaError::Secret { source })?;
        let writer: BaseProducer<Acknowledging> = config
            .for_producer()?
            .set("linger.ms", "0")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX)
            .create_with_context(Acknowledging {
                refused: AtomicBool::new(false),
                brokerless: Brokerless::default(),
                token: config.login.token(),
            })
            .map_err(|source| self.config.no_client(source))?;
        let writer = Arc::new(writer);
        self.writer = Some(Arc::clone(&writer));
        Ok(writer)
    }

    /// Closes the producer that writes to the state topic, off the runtime, because closing waits
    /// for a thread. The next write makes another producer.
    fn end_writer(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(writer))),
            Err(_) => drop(writer),
        }
    }
}

impl Drop for StateTopic {
    fn drop(&mut self) {
        self.end_writer();
    }
}

/// The librdkafka context of the writer. It sends the result of each write to the caller that waits
/// for it.
struct Acknowledging {
    /// True if brokers refused our login since this writer was made.
    refused: AtomicBool,
    brokerless: Brokerless,
    token: Option<Source>,
}

impl Acknowledging {
    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

impl ClientContext for Acknowledging {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth_token(self.token.as_ref().ok_or(NO_TOKEN)?).map_err(|error| no_token(&error).into())
    }

    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, detail: &str) {
        // The producer of the row path talks to the same brokers and logs the same failures at a
        // higher level.
        tracing::debug!(?level, facility, detail, "librdkafka (state topic)");
    }

    fn error(&self, error: RdError, detail: &str) {
        if is_refusal(error.rdkafka_error_code()) {
            self.refused.store(true, Ordering::Relaxed);
        }
        tracing::debug!(%error, detail, "librdkafka (state topic) reported an error");
    }

    fn stats_raw(&self, json: &[u8]) {
        if let Some(statistics) = Statistics::read(json) {
            self.brokerless.note(statistics.brokers_known);
        }
    }
}

impl ProducerContext for Acknowledging {
    type DeliveryOpaque = Box<Acknowledge>;

    fn delivery(&self, result: &DeliveryResult<'_>, acknowledge: Box<Acknowledge>) {
        let outcome = match result {
            Ok(message) if message.offset() == NO_ANSWER => {
                Err(RDKafkaErrorCode::OutOfOrderSequenceNumber)
            }
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        // After a timeout nobody waits for the result.
        let _ = acknowledge.send(outcome);
    }
}

/// Polls until every record is acknowledged or one has failed, and returns that result. `None` if
/// neither has happened after `patience`. This call blocks. A writer that has lost its brokers gets
/// `brokers` again.
fn await_all(
    writer: &BaseProducer<Acknowledging>,
    mut waiting: VecDeque<oneshot::Receiver<Result<(), RDKafkaErrorCode>>>,
    patience: Duration,
    brokers: &[String],
) -> Option<Acknowledged> {
    let began = Instant::now();
    loop {
        writer.poll(if began.elapsed() < WRITE_SOON { WRITE_POLL_MIN } else { WRITE_POLL_MAX });
        writer.client().context().brokerless.restore(writer.client(), brokers);
        while let Some(first) = waiting.front_mut() {
            match first.try_recv() {
                // After a refused login the write would wait for ever. It fails instead, because
                // the next write reads the password again.
                Err(oneshot::error::TryRecvError::Empty)
                    if writer.client().context().is_refused() =>
                {
                    return Some(Ok(Err(RDKafkaErrorCode::Authentication)));
                }
                Err(oneshot::error::TryRecvError::Empty) if began.elapsed() < patience => break,
                Err(oneshot::error::TryRecvError::Empty) => return None,
                Ok(Ok(())) => drop(waiting.pop_front()),
                answer => return Some(answer),
            }
        }
        if waiting.is_empty() {
            return Some(Ok(Ok(())));
        }
    }
}

fn read_all(config: &Config) -> Result<BTreeMap<String, String>, KafkaError> {
    const CALL: &str = "read state topic";
    let topic = &config.state_topic;
    let failed = |source: RdError| KafkaError::Request { call: CALL, topic: topic.clone(), source };
    let reader = Asking::reader(config)?;
    let (low, end) = reader.fetch_watermarks(topic, PARTITION, READ_TIMEOUT).map_err(failed)?;
    let mut newest = BTreeMap::new();
    if low >= end {
        return Ok(newest);
    }
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, PARTITION, Offset::Offset(low)).map_err(failed)?;
    reader.assign(&all).map_err(failed)?;
    let mut progress = Instant::now();
    loop {
        match reader.poll(READ_POLL) {
            Some(Ok(message)) => {
                progress = Instant::now();
                // A record at or beyond `end` was written after this reading began, and is left
                // out.
                if message.offset() >= end {
                    return Ok(newest);
                }
                keep(&mut newest, topic, &message)?;
                if message.offset() + 1 >= end {
                    return Ok(newest);
                }
            }
            // A partition may end without a record at its last offset: compaction has removed the
            // record, or the offset holds the end of a transaction.
            Some(Err(RdError::PartitionEOF(_))) => return Ok(newest),
            Some(Err(source)) if is_fatal(&source) => return Err(failed(source)),
            Some(Err(error)) => tracing::debug!(%error, "reading the state topic goes on"),
            None => {}
        }
        if progress.elapsed() >= READ_TIMEOUT {
            return Err(KafkaError::Timeout {
                call: CALL,
                topic: topic.clone(),
                after: READ_TIMEOUT,
            });
        }
    }
}

/// Whether an error ends the reading, because waiting longer cannot help.
///
/// librdkafka asks for the coordinator of a group even if partitions are assigned by hand. A broker
/// that refuses the group serves the partitions, so a refused group is not fatal.
pub(super) fn is_fatal(error: &RdError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error, RdError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                Code::TopicAuthorizationFailed
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::UnknownPartition
                    | Code::AutoOffsetReset
            )
        )
}

fn keep(
    newest: &mut BTreeMap<String, String>,
    topic: &str,
    message: &impl Message,
) -> Result<(), KafkaError> {
    let text = |bytes: &[u8], part| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| KafkaError::StateText {
            topic: topic.to_owned(),
            offset: message.offset(),
            part,
        })
    };
    let key = text(message.key().unwrap_or(&[]), "key")?;
    match message.payload() {
        Some(value) => newest.insert(key, text(value, "value")?),
        None => newest.remove(&key),
    };
    Ok(())
}
