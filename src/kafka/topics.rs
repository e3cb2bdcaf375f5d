//! Describes topics and the sizes that they accept, and creates missing topics.
//!
//! A question about a topic never creates the topic, because the client forbids that in its
//! requests. A client lives for one call, because nobody would read librdkafka's log queue of an
//! idle client. The calls are rare. Everything that blocks runs on the blocking pool, with a
//! deadline. If a broker does not tell a setting (no right, or the mock cluster), the setting is
//! reported as not proven and never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::config::{Config, TopicRules};
use super::context::Asking;
use super::error::KafkaError;

/// How long one request may take, connecting included.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How long one request of a probe waits before the probe looks whether the reason of a failure is
/// known.
const PROBE_SLICE: Duration = Duration::from_secs(3);

/// How long a failed request waits for librdkafka's message about the reason of the failure.
const LISTEN: Duration = Duration::from_millis(200);

/// How long a created topic may stay unknown to the broker that is asked next.
pub(super) const SPREAD_TIMEOUT: Duration = Duration::from_secs(15);

/// The name of librdkafka's mock cluster, which lets admin requests time out instead of refusing
/// them.
const MOCK_CLUSTER: &str = "mockCluster";

/// Pause between two looks at a topic that was just created.
pub(super) const SPREAD_PAUSE: Duration = Duration::from_millis(50);

/// A topic as it should be when we create it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub(crate) name: String,
    /// Number of partitions; -1 for the broker's default.
    pub partitions: i32,
    /// Number of replicas of each partition; -1 for the broker's default.
    pub replication: i32,
    /// Settings of the topic by Kafka's names, `cleanup.policy` among them.
    pub settings: BTreeMap<String, String>,
}

impl TopicSpec {
    /// Describes the topic `name` as it should be created by the rules for new topics.
    #[must_use]
    pub fn by(rules: &TopicRules, name: impl Into<String>) -> Self {
        let name = name.into();
        let rules = rules.of(&name);
        let mut settings = rules.extra;
        settings.insert("cleanup.policy".to_owned(), rules.cleanup_policy);
        TopicSpec { name, partitions: rules.partitions, replication: rules.replication, settings }
    }
}

/// A topic's setting as the broker told it, or the fact that the broker told none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy<T> {
    /// The broker gave this value.
    Proven(T),
    /// The broker gave no value. For example, we have no right to ask, we log in by a token, or the
    /// broker does not implement the request.
    NotProven,
}

impl<T> Policy<T> {
    /// The value, if the broker gave one.
    #[must_use]
    pub fn proven(&self) -> Option<&T> {
        match self {
            Policy::Proven(value) => Some(value),
            Policy::NotProven => None,
        }
    }
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub(crate) name: String,
    /// Number of partitions, at least one.
    pub partitions: i32,
    /// Number of replicas of partition 0.
    pub replication: usize,
    /// The largest batch of records that the topic accepts, in bytes as the broker counts them.
    pub max_message_bytes: Policy<usize>,
    /// `delete`, `compact` or `compact,delete`, as the broker writes it.
    pub cleanup_policy: Policy<String>,
    /// Number of in-sync replicas that a write needs (`min.insync.replicas`).
    pub min_insync_replicas: Policy<i32>,
}

impl TopicInfo {
    /// Whether the topic is compacted, and so refuses records without a key. False if the policy is
    /// not proven.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.cleanup_policy
            .proven()
            .is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact"))
    }
}

/// The cluster as the answer to a metadata request describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's id, if the broker has one.
    pub id: Option<String>,
    /// `host:port` of each broker, as they announce themselves.
    pub brokers: Vec<String>,
}

/// Creates and describes topics.
#[derive(Clone, Debug)]
pub struct Topics {
    config: Arc<Config>,
}

impl Topics {
    /// Makes a handle that keeps the configuration. Each call of the handle makes a connection.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Topics { config: Arc::new(config.clone()) }
    }

    /// Checks that the brokers can be reached and accept our login, and describes the cluster.
    ///
    /// # Errors
    /// `Client` for properties that librdkafka refuses, `Unreachable` with librdkafka's last
    /// message about the connection.
    pub async fn probe(&self) -> Result<Cluster, KafkaError> {
        self.off_the_runtime("reach Kafka", |asker| asker.probe()).await
    }

    /// Describes one topic. `None` if the topic does not exist.
    ///
    /// # Errors
    /// `Unreachable`, or `Answer` if the broker refuses to answer.
    pub async fn describe(&self, topic: &str) -> Result<Option<TopicInfo>, KafkaError> {
        Ok(self.describe_all(&[topic]).await?.pop().flatten())
    }

    /// Describes each topic, in the order asked, over one connection. `None` for a topic that does
    /// not exist.
    ///
    /// # Errors
    /// See [`Topics::describe`].
    pub async fn describe_all(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.off_the_runtime("describe topics", move |asker| asker.describe_all(&topics)).await
    }

    /// Makes sure that each topic exists, and describes it. Existing topics are left as they are.
    ///
    /// # Errors
    /// `Missing` if we may not create topics, `NoCreation` if we log in by a token, `Answer` if the
    /// broker refuses, `Timeout` if a created topic does not become visible, `Unreachable`.
    pub async fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<TopicInfo>, KafkaError> {
        let specs = specs.to_vec();
        self.off_the_runtime("create topics", move |asker| asker.ensure(&specs)).await
    }

    pub(super) async fn off_the_runtime<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(&Asker) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || work(&Asker { config }))
            .await
            .unwrap_or(Err(KafkaError::Interrupted { call }))
    }
}

/// The blocking half of [`Topics`]: its calls run on the blocking pool.
pub(super) struct Asker {
    pub(super) config: Arc<Config>,
}

impl Asker {
    pub(super) fn consumer(&self) -> Result<BaseConsumer<Asking>, KafkaError> {
        Asking::consumer(&self.config, &[])
    }

    fn admin(&self) -> Result<AdminClient<Asking>, KafkaError> {
        self.config
            .for_asking()?
            .create_with_context(Asking::default())
            .map_err(|source| self.config.no_client(source))
    }

    fn probe(&self) -> Result<Cluster, KafkaError> {
        let consumer = self.consumer()?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let metadata = loop {
            match consumer.fetch_metadata(Some(&self.config.state_topic), PROBE_SLICE) {
                Ok(metadata) => break metadata,
                Err(source) => {
                    let error = self.explain(
                        &consumer,
                        "ask about topic",
                        &self.config.state_topic,
                        source,
                    );
                    // The probe ends when a reason is known, because the caller wants to read the
                    // reason, and can repeat the probe.
                    if consumer.context().last_words().is_some() || Instant::now() >= deadline {
                        return Err(error);
                    }
                }
            }
        };
        let brokers = metadata
            .brokers()
            .iter()
            .map(|broker| format!("{}:{}", broker.host(), broker.port()))
            .collect();
        Ok(Cluster { id: consumer.client().fetch_cluster_id(REQUEST_TIMEOUT), brokers })
    }

    /// Makes the error of a failed request from librdkafka's error `source`. If no broker answered,
    /// the error is `Unreachable`, with librdkafka's last message about the connection.
    pub(super) fn explain(
        &self,
        consumer: &BaseConsumer<Asking>,
        call: &'static str,
        topic: &str,
        source: RdError,
    ) -> KafkaError {
        use RDKafkaErrorCode as Code;
        let Some(
            Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::AllBrokersDown
            | Code::Resolve,
        ) = source.rdkafka_error_code()
        else {
            return KafkaError::Request { call, topic: topic.to_owned(), source };
        };
        // With librdkafka's `debug` on, a thousand other messages come before the reason.
        let until = Instant::now() + LISTEN;
        while consumer.context().last_words().is_none() && Instant::now() < until {
            let _ = consumer.poll(LISTEN / 10);
        }
        let detail = consumer.context().last_words().unwrap_or_else(|| "no answer".to_owned());
        KafkaError::Unreachable { brokers: self.config.brokers.join(","), detail }
    }

    fn describe_all(&self, topics: &[String]) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        let consumer = self.consumer()?;
        let mut infos = Vec::with_capacity(topics.len());
        for topic in topics {
            infos.push(self.shape(&consumer, topic)?);
        }
        self.add_settings(&consumer, &mut infos)?;
        Ok(infos)
    }

    /// Describes a topic by its metadata: the numbers of partitions and of replicas, and no
    /// setting. `None` if the topic does not exist or has no leader yet.
    fn shape(
        &self,
        consumer: &BaseConsumer<Asking>,
        topic: &str,
    ) -> Result<Option<TopicInfo>, KafkaError> {
        const CALL: &str = "describe topic";
        let metadata = consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .map_err(|source| self.explain(consumer, CALL, topic, source))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error() {
            None => {}
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            ) => return Ok(None),
            Some(error) => {
                return Err(KafkaError::Answer {
                    call: CALL,
                    topic: topic.to_owned(),
                    code: error.into(),
                });
            }
        }
        Ok(shape_of(found))
    }

    /// Fills in the settings of these topics that DescribeConfigs proves. A refusal is not an
    /// error: settings without an answer stay not proven.
    pub(super) fn add_settings(
        &self,
        consumer: &BaseConsumer<Asking>,
        infos: &mut [Option<TopicInfo>],
    ) -> Result<(), KafkaError> {
        let names: Vec<String> = infos.iter().flatten().map(|info| info.name.clone()).collect();
        // An admin client cannot log in by a token, because `rdkafka` does not poll it for tokens.
        if names.is_empty() || self.config.login.token().is_some() || is_mock(consumer.client()) {
            return Ok(());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let admin = self.admin()?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let answers = match wait_for(admin.describe_configs(&resources, &options)) {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "topic settings cannot be read; they count as not proven");
                return Ok(());
            }
        };
        // librdkafka answers in the order asked. A topic that we may not describe comes back
        // without entries.
        for (info, answer) in infos.iter_mut().flatten().zip(answers) {
            let Ok(settings) = answer else { continue };
            let text = |name: &str| settings.get(name).and_then(|entry| entry.value.clone());
            if let Some(policy) = text("cleanup.policy") {
                info.cleanup_policy = Policy::Proven(policy);
            }
            if let Some(bytes) = text("max.message.bytes").and_then(|text| text.parse().ok()) {
                info.max_message_bytes = Policy::Proven(bytes);
            }
            if let Some(replicas) = text("min.insync.replicas").and_then(|text| text.parse().ok()) {
                info.min_insync_replicas = Policy::Proven(replicas);
            }
        }
        Ok(())
    }

    fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<TopicInfo>, KafkaError> {
        let consumer = self.consumer()?;
        let mut shapes = Vec::with_capacity(specs.len());
        for spec in specs {
            shapes.push(self.shape(&consumer, &spec.name)?);
        }
        let missing: Vec<&TopicSpec> = specs
            .iter()
            .zip(&shapes)
            .filter(|(_, shape)| shape.is_none())
            .map(|(spec, _)| spec)
            .collect();
        if let Some(first) = missing.first() {
            if !self.config.topics.create {
                return Err(KafkaError::Missing { topic: first.name.clone() });
            }
            if self.config.login.token().is_some() {
                return Err(KafkaError::NoCreation { topic: first.name.clone() });
            }
            self.create(&consumer, &missing)?;
            let deadline = Instant::now() + SPREAD_TIMEOUT;
            for (spec, shape) in specs.iter().zip(&mut shapes).filter(|(_, shape)| shape.is_none())
            {
                *shape = Some(self.await_topic(&consumer, &spec.name, deadline)?);
            }
            let created = |info: &&TopicInfo| missing.iter().any(|spec| spec.name == info.name);
            Self::await_leaders(&consumer, shapes.iter().flatten().filter(created));
        }
        self.add_settings(&consumer, &mut shapes)?;
        Ok(shapes.into_iter().flatten().collect())
    }

    pub(super) fn create(
        &self,
        consumer: &BaseConsumer<Asking>,
        specs: &[&TopicSpec],
    ) -> Result<(), KafkaError> {
        const CALL: &str = "create topic";
        let first = specs.first().map(|spec| spec.name.clone()).unwrap_or_default();
        let new: Vec<NewTopic<'_>> = specs.iter().map(|spec| new_topic(spec)).collect();
        let admin = self.admin()?;
        if is_mock(consumer.client()) {
            return touch(admin.inner(), specs); // the mock cluster creates topics on first use
        }
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT))
            .operation_timeout(Some(SPREAD_TIMEOUT));
        let answers = match wait_for(admin.create_topics(&new, &options)) {
            Ok(answers) => answers,
            Err(source) => return Err(KafkaError::Request { call: CALL, topic: first, source }),
        };
        let mut refused = Ok(());
        for answer in answers {
            match answer {
                Ok(topic) => tracing::info!(topic, "created topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {} // somebody was faster
                Err((topic, code)) => {
                    refused = refused.and(Err(KafkaError::Answer { call: CALL, topic, code }));
                }
            }
        }
        refused
    }

    fn await_topic(
        &self,
        consumer: &BaseConsumer<Asking>,
        topic: &str,
        deadline: Instant,
    ) -> Result<TopicInfo, KafkaError> {
        spread("see the created topic", topic, deadline, || self.shape(consumer, topic))
    }
}

/// Calls `look` again and again until it finds something, or until the deadline. This call blocks.
///
/// # Errors
/// `Timeout` at the deadline, or the error of `look`.
pub(super) fn spread<T>(
    call: &'static str,
    topic: &str,
    deadline: Instant,
    mut look: impl FnMut() -> Result<Option<T>, KafkaError>,
) -> Result<T, KafkaError> {
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(KafkaError::Timeout {
                call,
                topic: topic.to_owned(),
                after: SPREAD_TIMEOUT,
            });
        }
        std::thread::sleep(SPREAD_PAUSE); // on the blocking pool
    }
}

/// Describes a topic by its metadata, without its settings. `None` if it has no partition yet.
pub(super) fn shape_of(found: &MetadataTopic) -> Option<TopicInfo> {
    let first = found.partitions().first()?;
    Some(TopicInfo {
        name: found.name().to_owned(),
        partitions: i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
        replication: first.replicas().len(),
        max_message_bytes: Policy::NotProven,
        cleanup_policy: Policy::NotProven,
        min_insync_replicas: Policy::NotProven,
    })
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let new = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication));
    spec.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
}

pub(super) fn is_mock(client: &Client<Asking>) -> bool {
    client.fetch_cluster_id(REQUEST_TIMEOUT).is_some_and(|id| id.starts_with(MOCK_CLUSTER))
}

/// Asks for the metadata of each topic as a producer does. A broker that does not implement
/// CreateTopics, such as the mock cluster, then creates the topic.
fn touch(client: &Client<Asking>, specs: &[&TopicSpec]) -> Result<(), KafkaError> {
    for spec in specs {
        client.fetch_metadata(Some(&spec.name), REQUEST_TIMEOUT).map_err(|source| {
            KafkaError::Request { call: "create topic by use", topic: spec.name.clone(), source }
        })?;
    }
    Ok(())
}

/// Waits for the answer to an admin request, on a thread of the blocking pool. The options of the
/// request bound the time.
fn wait_for<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(answer)
}
