//! The configuration of this room, and the librdkafka properties that follow from it.
//!
//! The properties come in three layers: our defaults, then the operator's properties under
//! `[kafka.client]`, then the properties that are pinned because a guarantee rests on them.
//! [`refuse_pinned`] refuses a pinned property in the file with a reason. Such a property is never
//! overridden in silence. A password is read from its source (`login`) when a client is made. Only
//! librdkafka gets the password.

use crate::table::names::NameList;
use std::collections::BTreeMap;
use std::fmt;

use super::error::KafkaError;
use super::login::Login;
use crate::ledger::RECORD_OVERHEAD_BYTES;
use crate::secret::system_authorities;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// The limits of librdkafka's own queue, in records and in KiB: the highest values that librdkafka
/// accepts. They are far above any `limits.memory`, so that the byte budget alone holds the stream
/// back.
pub const QUEUE_RECORDS_MAX: usize = 2_147_483_647;
const QUEUE_KIB_MAX: usize = 2_147_483_647;

/// The number of delivery reports that may wait in addition to those of a full budget. It is needed
/// because the copied rows of a whole chunk can be sent at once, together with one change.
const DELIVERIES_SLACK: usize = 65_536;

/// The default of `message.max.bytes`: the largest record that librdkafka accepts, framing
/// included. This size equals the Java producer's default of `max.request.size`. Each record that
/// Debezium delivers with its defaults is thus delivered here too.
const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// The default of `batch.size`: the largest batch. It is below a broker's default
/// `max.message.bytes` (1,048,588), which limits a whole batch.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// The checked configuration of this room. The room `config` builds it, and has already refused
/// pinned properties.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port` of each bootstrap broker; at least one.
    pub brokers: Vec<String>,
    /// librdkafka properties from the operator, without pinned ones. The properties are never
    /// printed, because they may hold passwords.
    pub client: BTreeMap<String, String>,
    /// The password or token that a client logs in with, if the properties do not hold it.
    pub login: Login,
    /// The byte budget, which bounds the records in flight. The capacity of the channel for
    /// delivery reports follows from the budget.
    pub budget_bytes: usize,
    /// The most records that librdkafka queues. Only tests of a full queue set it below
    /// librdkafka's own maximum.
    pub queue_records_max: usize,
    /// Whether the agent creates missing topics, and with which partitions and settings.
    pub topics: TopicRules,
    /// Name of the compacted topic that holds the state records of the agent.
    pub state_topic: String,
}

/// Whether the agent creates missing topics, and with which partitions and settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// Whether we create topics at all. If not, a missing topic is an error that names the topic.
    pub create: bool,
    /// Number of partitions of a new topic; -1 leaves the number to the broker.
    pub partitions: i32,
    /// Number of replicas of each partition; -1 leaves the number to the broker.
    pub replication: i32,
    /// `cleanup.policy` of a new topic.
    pub cleanup_policy: String,
    /// Further settings of a new topic, by Kafka's names.
    pub extra: BTreeMap<String, String>,
    /// Groups of topics with rules of their own. A topic that is in several groups has the rules of
    /// the first one.
    pub groups: Vec<TopicGroup>,
}

/// Topics with rules of their own. For a rule that the group does not have, the general rule
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicGroup {
    /// Topics of the group, by their whole names.
    pub include: NameList,
    /// Topics of `include` that are not in the group.
    pub exclude: NameList,
    /// Number of partitions of a new topic. `None` if the general rule counts.
    pub partitions: Option<i32>,
    /// Number of replicas of each partition. `None` if the general rule counts.
    pub replication: Option<i32>,
    /// `cleanup.policy` of a new topic. `None` if the general rule counts.
    pub cleanup_policy: Option<String>,
    /// Further settings of a new topic. They replace the general settings of the same name.
    pub extra: BTreeMap<String, String>,
}

impl TopicRules {
    /// Returns the rules for one topic: the rules of its group, and the general rules where the
    /// group leaves them open.
    #[must_use]
    pub fn of(&self, topic: &str) -> TopicRules {
        let has =
            |group: &&TopicGroup| group.include.lists(&[topic]) && !group.exclude.lists(&[topic]);
        let general = TopicRules { groups: Vec::new(), ..self.clone() };
        let Some(group) = self.groups.iter().find(has) else { return general };
        TopicRules {
            partitions: group.partitions.unwrap_or(general.partitions),
            replication: group.replication.unwrap_or(general.replication),
            cleanup_policy: group.cleanup_policy.clone().unwrap_or(general.cleanup_policy),
            extra: general.extra.into_iter().chain(group.extra.clone()).collect(),
            ..general
        }
    }
}

impl Default for TopicRules {
    fn default() -> Self {
        TopicRules {
            create: true,
            partitions: -1,
            replication: -1,
            cleanup_policy: "delete".to_owned(),
            extra: BTreeMap::new(),
            groups: Vec::new(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<&str, &str> = self
            .client
            .iter()
            .map(|(k, v)| (k.as_str(), if is_sensitive(k) { "***" } else { v.as_str() }))
            .collect();
        f.debug_struct("Config")
            .field("brokers", &self.brokers)
            .field("client", &shown)
            .field("login", &self.login)
            .field("budget_bytes", &self.budget_bytes)
            .field("topics", &self.topics)
            .field("state_topic", &self.state_topic)
            .finish()
    }
}

/// Whether a librdkafka property's value must not be shown. This is so for passwords, keys, tokens
/// and user names.
#[must_use]
pub fn is_sensitive(property: &str) -> bool {
    const MARKS: [&str; 6] =
        ["password", "secret", "key.pem", "oauthbearer.config", "private.key", "sasl.username"];
    MARKS.iter().any(|mark| property.contains(mark))
}

/// Returns the reason why the operator cannot set a librdkafka property, or `None` if the operator
/// can set it.
///
/// Aliases of properties are listed too, because librdkafka accepts both names.
#[must_use]
pub fn refuse_pinned(property: &str) -> Option<&'static str> {
    Some(match property {
        "acks" | "request.required.acks" => {
            "pinned to `all`: an LSN is confirmed to Postgres only for records every in-sync \
             replica holds"
        }
        "enable.idempotence" => {
            "pinned to `true`: without it a retry duplicates or reorders records"
        }
        "enable.gapless.guarantee" => {
            "pinned to `true`: after a failed batch nothing may follow it, or a change would be \
             missing in silence"
        }
        "message.timeout.ms" | "delivery.timeout.ms" => {
            "pinned to 0 (never): a record that times out is a gap that later records are written \
             past"
        }
        "retries" | "message.send.max.retries" => {
            "pinned: a record is retried until it is written or refused for good"
        }
        "partitioner" => {
            "pinned to `murmur2_random`: keys keep the partition that Java producers give them"
        }
        "queue.buffering.max.kbytes" | "queue.buffering.max.messages" => {
            "follows from `limits.memory`: the byte budget counts librdkafka's queue"
        }
        "bootstrap.servers" | "metadata.broker.list" => "set `kafka.brokers` instead",
        "transactional.id" => "transactions are not offered: delivery is at least once",
        "delivery.report.only.error" => "pinned to `false`: every delivery is counted",
        "produce.offset.report" => {
            "pinned: offsets prove that nobody else writes to our partitions"
        }
        "queuing.strategy" => "pinned to `fifo`: any other order is not Postgres's",
        "log.queue" | "log.connection.close" | "log_level" => {
            "pinned: a broken connection with requests in flight is noticed through librdkafka's \
             log"
        }
        "test.mock.num.brokers" | "test.mock.broker.rtt" => "would replace the brokers by a mock",
        "group.id"
        | "enable.auto.commit"
        | "auto.offset.reset"
        | "isolation.level"
        | "enable.partition.eof" => "belongs to consumers; the state topic's reader sets its own",
        "enable.sasl.oauthbearer.unsecure.jwt" => {
            "a token that nobody signed proves nothing; give kafka.token_command"
        }
        "sasl.oauthbearer.method"
        | "sasl.oauthbearer.client.id"
        | "sasl.oauthbearer.client.secret"
        | "sasl.oauthbearer.scope"
        | "sasl.oauthbearer.extensions"
        | "sasl.oauthbearer.token.endpoint.url" => {
            "librdkafka asks an OIDC provider only with libcurl, which this build leaves out; let \
             kafka.token_command ask"
        }
        "allow.auto.create.topics" => "pinned to `false`: asking about a topic must not create it",
        _ => return None,
    })
}

/// The properties that name a file which librdkafka reads when a client is made. The value `probe`
/// of `ssl.ca.location` names no file.
const FILE_PROPERTIES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// Why one property under `[kafka.client]` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum PropertyFault {
    /// The operator must not set the property, in most cases because the program sets it.
    #[error("`{property}` cannot be set: {reason}")]
    Pinned {
        /// The property as written.
        property: String,
        /// Why the operator must not set the property, or which key to set instead.
        reason: &'static str,
    },
    /// librdkafka does not know the property, or does not accept the value. The text is mostly
    /// librdkafka's. It never has the value of a property that [`is_sensitive`].
    #[error("`{property}` is refused by librdkafka: {detail}")]
    Refused {
        /// The property as written.
        property: String,
        detail: String,
    },
}

/// Asks librdkafka itself whether it accepts one property, without connecting to anything.
///
/// # Errors
/// `Pinned` with the reason, or `Refused` with what is wrong. Neither holds the value of a property
/// that [`is_sensitive`].
pub fn check_property(property: &str, value: &str) -> Result<(), PropertyFault> {
    if let Some(reason) = refuse_pinned(property) {
        return Err(PropertyFault::Pinned { property: property.to_owned(), reason });
    }
    let mut config = ClientConfig::new();
    config.set(property, value);
    match config.create_native_config() {
        Ok(native) => match native.get(property) {
            // librdkafka reads "5x" as 5, but the person who wrote "5x" meant something else.
            Ok(taken) if taken.parse::<f64>().is_ok() && value.trim().parse::<f64>().is_err() => {
                let detail = format!("`{value}` is not a number");
                Err(PropertyFault::Refused { property: property.to_owned(), detail })
            }
            _ => Ok(()),
        },
        Err(rdkafka::error::KafkaError::ClientConfig(_, detail, _, _)) => {
            let detail = if is_sensitive(property) {
                "its value is not accepted".to_owned()
            } else {
                detail
            };
            Err(PropertyFault::Refused { property: property.to_owned(), detail })
        }
        Err(_) => Err(PropertyFault::Refused {
            property: property.to_owned(),
            detail: "not accepted".to_owned(),
        }),
    }
}

impl Config {
    /// A configuration with defaults for everything but the brokers and the state topic, for tests
    /// and the demo.
    #[must_use]
    pub fn new(brokers: Vec<String>, state_topic: impl Into<String>) -> Self {
        Config {
            brokers,
            client: BTreeMap::new(),
            login: Login::Properties,
            budget_bytes: 32 * 1024 * 1024,
            queue_records_max: QUEUE_RECORDS_MAX,
            topics: TopicRules::default(),
            state_topic: state_topic.into(),
        }
    }

    /// Capacity for the channel of delivery reports.
    ///
    /// The channel has room for a report of every record that one producer can have in flight. So
    /// the poll thread does not wait for the reader of the channel, and a slow reader cannot hold
    /// up librdkafka.
    #[must_use]
    pub fn delivery_capacity(&self) -> usize {
        (self.budget_bytes / RECORD_OVERHEAD_BYTES).min(QUEUE_RECORDS_MAX) + DELIVERIES_SLACK
    }

    /// The largest record that librdkafka accepts, as [`super::wire_bytes`] counts it
    /// (`message.max.bytes`).
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.number("message.max.bytes", MESSAGE_BYTES_MAX)
    }

    /// The largest batch sent to one partition (`batch.size`), unless a single record is larger.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        self.number("batch.size", BATCH_BYTES_MAX)
    }

    /// Lowers `batch.size` to `bytes`, and never raises it. Batches have to stay within a topic's
    /// `max.message.bytes`, because the broker refuses a larger batch as a whole, and librdkafka
    /// does not split a batch. The lower limit takes effect for the next producer.
    pub fn lower_batch_bytes(&mut self, bytes: usize) {
        if bytes < self.batch_bytes_max() {
            self.client.insert("batch.size".to_owned(), bytes.max(1).to_string());
        }
    }

    /// What clients send unencrypted when they log in: `password`, `token`, or `None` if they send
    /// neither. With SCRAM the password itself does not travel.
    #[must_use]
    pub fn secret_in_clear(&self) -> Option<&'static str> {
        let protocol = self.client.get("security.protocol")?;
        if !protocol.eq_ignore_ascii_case("sasl_plaintext") {
            return None;
        }
        if let Login::Token(_) = &self.login {
            return Some("token");
        }
        let mechanism =
            self.client.get("sasl.mechanism").or_else(|| self.client.get("sasl.mechanisms"))?;
        match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Some("password"),
            "OAUTHBEARER" => Some("token"),
            _ => None,
        }
    }

    fn number(&self, property: &str, default: usize) -> usize {
        self.client.get(property).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// Makes the properties of a producer, that of the row path or that of the state topic:
    /// defaults, then the operator's properties, then the pinned ones.
    ///
    /// # Errors
    /// `Secret` if the password cannot be read. The reading blocks, unless the password was renewed
    /// before.
    pub(crate) fn for_producer(&self) -> Result<ClientConfig, KafkaError> {
        let mut config = self.base();
        config
            // One setting serves rate and latency. In 2 ms a few bursts gather. Compared with 1 ms,
            // this wait spares librdkafka and the broker a third of their requests. The goal for
            // the latency is 3 ms (p50).
            .set("linger.ms", "2")
            // The metrics read the statistics. Making the statistics costs librdkafka well below a
            // millisecond.
            .set("statistics.interval.ms", "5000")
            .set("batch.num.messages", "10000")
            .set("batch.size", BATCH_BYTES_MAX.to_string())
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            // By measurement, lz4 is no slower than no compression. It takes less CPU in our
            // process and the broker together. It needs a third of the bytes on the wire and on the
            // broker's disk. zstd compresses better but takes more memory per connection.
            .set("compression.type", "lz4");
        for (property, value) in &self.client {
            config.set(property, value);
        }
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", self.queue_records_max.to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX.to_string());
        self.pin_common(&mut config);
        self.log_in(&self.login, &mut config)?;
        Ok(config)
    }

    /// Makes the properties of admin clients and consumers. Of the operator's properties these
    /// clients get only those about the connection.
    ///
    /// # Errors
    /// `Secret` if the password cannot be read. It is read here, which blocks.
    pub(crate) fn for_asking(&self) -> Result<ClientConfig, KafkaError> {
        let mut config = self.base();
        for (property, value) in
            self.client.iter().filter(|(property, _)| is_of_the_connection(property))
        {
            config.set(property, value);
        }
        self.pin_common(&mut config);
        self.log_in(&self.login.forgotten(), &mut config)?;
        Ok(config)
    }

    /// Makes the error for a client that librdkafka refuses to create. librdkafka's text names only
    /// a property. So a file that cannot be read is named here by its path.
    pub(crate) fn no_client(&self, source: rdkafka::error::KafkaError) -> KafkaError {
        let unreadable = FILE_PROPERTIES.into_iter().find_map(|property| {
            let path = self.client.get(property).filter(|path| *path != "probe")?;
            Some((property, path, std::fs::File::open(path).err()?))
        });
        match unreadable {
            Some((property, path, source)) => {
                KafkaError::File { property, path: path.into(), source }
            }
            None => KafkaError::Client { source },
        }
    }

    fn log_in(&self, login: &Login, config: &mut ClientConfig) -> Result<(), KafkaError> {
        if let Some(password) =
            login.password_now().map_err(|source| KafkaError::Secret { source })?
        {
            config.set("sasl.password", password.reveal());
        }
        if login.token().is_some() {
            config.set("sasl.mechanism", "OAUTHBEARER");
        }
        Ok(())
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "wellspring")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            // A broker that is back is found within two seconds. The default of ten seconds would
            // be visible as lag.
            .set("reconnect.backoff.max.ms", "2000");
        if let Some(place) = system_authorities() {
            config.set("ssl.ca.location", place.to_string_lossy());
        }
        config
    }

    fn pin_common(&self, config: &mut ClientConfig) {
        config.set("bootstrap.servers", self.brokers.join(",")).set("log.connection.close", "true");
        // The filter of our own log decides which lines are shown. librdkafka's level only has to
        // let its lines about connection failures reach us (`context`).
        config.set_log_level(RDKafkaLogLevel::Info);
    }
}

/// Whether a property says how to reach and trust the brokers. Other clients than the producer take
/// only these, because producer properties would make librdkafka warn.
fn is_of_the_connection(property: &str) -> bool {
    const PREFIXES: [&str; 14] = [
        "ssl.",
        "sasl.",
        "security.",
        "enable.ssl",
        "enable.sasl",
        "socket.",
        "broker.",
        "reconnect.",
        "client.",
        "https.",
        "api.version.",
        "receive.message.",
        "connections.",
        "plugin.",
    ];
    PREFIXES.iter().any(|prefix| property.starts_with(prefix)) || property == "debug"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(vec!["a:9092".to_owned(), "b:9092".to_owned()], "shop.wellspring-state")
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let mut config = config();
        config.client.insert("security.protocol".to_owned(), "ssl".to_owned());
        config.client.insert("ssl.ca.location".to_owned(), ca.display().to_string());
        let made = || super::super::context::Asking::consumer(&config, &[]).map(|_| ());
        let error = made().expect_err("no file");
        assert!(matches!(&error, KafkaError::File { path, .. } if *path == ca), "{error}");
        assert!(error.to_string().contains(&ca.display().to_string()), "{error}");
        std::fs::write(&ca, "no certificate").unwrap();
        assert!(matches!(made(), Err(KafkaError::Client { .. })));
    }

    #[test]
    fn a_pinned_property_wins_over_whatever_is_in_the_map() {
        let mut config = config();
        for (property, value) in [
            ("acks", "1"),
            ("enable.idempotence", "false"),
            ("message.timeout.ms", "5"),
            ("bootstrap.servers", "x:1"),
        ] {
            assert!(refuse_pinned(property).is_some(), "{property} has no reason");
            config.client.insert(property.to_owned(), value.to_owned());
        }
        let built = config.for_producer().unwrap();
        assert_eq!(built.get("acks"), Some("all"));
        assert_eq!(built.get("enable.idempotence"), Some("true"));
        assert_eq!(built.get("enable.gapless.guarantee"), Some("true"));
        assert_eq!(built.get("message.timeout.ms"), Some("0"));
        assert_eq!(built.get("bootstrap.servers"), Some("a:9092,b:9092"));
        assert_eq!(built.get("partitioner"), Some("murmur2_random"));
    }

    #[test]
    fn the_operators_properties_win_over_defaults() {
        let mut config = config();
        config.client.insert("linger.ms".to_owned(), "20".to_owned());
        config.client.insert("compression.type".to_owned(), "zstd".to_owned());
        let built = config.for_producer().unwrap();
        assert_eq!(built.get("linger.ms"), Some("20"));
        assert_eq!(built.get("compression.type"), Some("zstd"));
    }

    #[test]
    fn everything_built_is_accepted_by_librdkafka() {
        let mut config = config();
        config.client.insert("security.protocol".to_owned(), "sasl_ssl".to_owned());
        config.client.insert("sasl.mechanism".to_owned(), "SCRAM-SHA-512".to_owned());
        config.for_producer().unwrap().create_native_config().unwrap();
        config.for_asking().unwrap().create_native_config().unwrap();
    }

    #[test]
    fn every_record_of_a_full_budget_has_room_for_its_report() {
        for budget_bytes in [0, 1, 64 * 1024, 1 << 20, 16 << 20, 1 << 30, 1 << 40] {
            let config = Config { budget_bytes, ..config() };
            assert!(config.delivery_capacity() > budget_bytes / RECORD_OVERHEAD_BYTES);
            config.for_producer().unwrap().create_native_config().unwrap();
        }
    }

    #[test]
    fn never_prints_a_password() {
        let mut config = config();
        for property in [
            "sasl.password",
            "sasl.username",
            "ssl.key.password",
            "ssl.key.pem",
            "sasl.oauthbearer.config",
        ] {
            config.client.insert(property.to_owned(), "hunter2".to_owned());
        }
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", check_property("ssl.key.pem", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn names_an_unknown_property_and_an_impossible_value() {
        let unknown = check_property("linger.mss", "1").unwrap_err().to_string();
        assert!(unknown.contains("linger.mss"), "{unknown}");
        let impossible = check_property("batch.size", "5x").unwrap_err().to_string();
        assert!(impossible.contains("`5x` is not a number"), "{impossible}");
        assert!(
            check_property("linger.ms", "5ms").is_err()
                && check_property("compression.type", "lz5").is_err()
        );
        assert_eq!(check_property("linger.ms", "5"), Ok(()));
        assert!(check_property("acks", "1").unwrap_err().to_string().contains("in-sync replica"));
    }

    #[test]
    fn only_ever_lowers_the_batch() {
        let mut config = config();
        config.lower_batch_bytes(2_000_000);
        assert_eq!(config.batch_bytes_max(), BATCH_BYTES_MAX);
        config.lower_batch_bytes(100_000);
        assert_eq!(config.batch_bytes_max(), 100_000);
        assert_eq!(config.for_producer().unwrap().get("batch.size"), Some("100000"));
    }

    #[test]
    fn a_password_or_token_in_clear_is_named() {
        let by = |protocol: &str, mechanism: &str, login: &Login| {
            let mut config = Config { login: login.clone(), ..config() };
            config.client.insert("security.protocol".to_owned(), protocol.to_owned());
            config.client.insert("sasl.mechanisms".to_owned(), mechanism.to_owned());
            config.secret_in_clear()
        };
        let own = Login::Properties;
        let token = Login::Token(crate::secret::Source::File("token".into()));
        assert_eq!(config().secret_in_clear(), None);
        assert_eq!(by("SASL_PLAINTEXT", "plain", &own), Some("password"));
        assert_eq!(by("sasl_plaintext", "OAUTHBEARER", &own), Some("token"));
        assert_eq!(by("sasl_plaintext", "SCRAM-SHA-512", &own), None);
        assert_eq!(by("sasl_plaintext", "", &token), Some("token"));
        assert_eq!(by("sasl_ssl", "PLAIN", &own), None);
        assert_eq!(by("sasl_ssl", "", &token), None);
    }
}
