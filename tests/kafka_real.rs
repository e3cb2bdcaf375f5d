//! What only a real broker and a real registry can show. `make test` leaves it out (`test = false` in Cargo.toml);
//! `KAFKA=127.0.0.1:9092 REGISTRY=http://127.0.0.1:8081 cargo test --test kafka_real` runs it.

#![expect(clippy::expect_used, reason = "a test that cannot go on says where it stopped")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::channel;
use wellspring::encode::registry::{self, Registry, RegistryError};
use wellspring::kafka::{
    Config, FailureClass, KafkaError, Policy, Producer, Remedy, StateTopic, TopicSpec, Topics, classify,
};
use wellspring::ledger::{Generation, Ticket};

const PATIENCE: Duration = Duration::from_secs(60);

/// Names of this run: the broker may have seen others.
fn fresh(name: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos();
    format!("kafka-real-{nanos}.{name}")
}

fn config() -> Config {
    let brokers = std::env::var("KAFKA").expect("KAFKA names a broker");
    let mut config = Config::new(vec![brokers], fresh("wellspring-state"));
    config.topics.replication = 1;
    config
}

#[tokio::test]
async fn topics_are_made_as_ruled_and_described_as_they_are() {
    let mut config = config();
    config.topics.partitions = 3;
    config.topics.extra.insert("max.message.bytes".to_owned(), "70000".to_owned());
    let topics = Topics::new(&config);
    let name = fresh("rows");
    assert_eq!(topics.describe(&name).await.expect("asked"), None);
    let spec = TopicSpec::by(&config.topics, &name);
    for _ in 0..2 {
        let info = topics.ensure(std::slice::from_ref(&spec)).await.expect("made").pop().expect("one");
        assert_eq!((info.partitions, info.replication), (3, 1));
        assert_eq!(info.cleanup_policy, Policy::Proven("delete".to_owned()));
        assert_eq!(info.max_message_bytes, Policy::Proven(70_000));
        assert_eq!(info.min_insync_replicas, Policy::Proven(1));
        assert!(!info.is_compacted());
    }
    let cluster = topics.probe().await.expect("reached");
    assert!(cluster.id.is_some() && !cluster.brokers.is_empty(), "{cluster:?}");

    let mut impossible = TopicSpec::by(&config.topics, fresh("impossible"));
    impossible.replication = 9;
    let error = topics.ensure(&[impossible]).await.expect_err("nine copies on one broker");
    assert_eq!(error.remedy(), Remedy::Operator, "{error}");
}

#[tokio::test]
async fn the_state_topic_is_compact_or_refused() {
    let config = config();
    let mut state = StateTopic::open(&config).await.expect("opened");
    assert_eq!(state.info().cleanup_policy, Policy::Proven("compact".to_owned()));
    assert_eq!(state.info().partitions, 1);
    state.write("a", Some("1")).await.expect("written");
    state.write("a", Some("2")).await.expect("written");
    state.write("b", Some("3")).await.expect("written");
    state.write("b", None).await.expect("written");
    let read = StateTopic::open(&config).await.expect("opened").read_all().await.expect("read");
    assert_eq!(read, [("a".to_owned(), "2".to_owned())].into());

    for policy in ["delete", "compact,delete"] {
        let mut forgetful = self::config();
        forgetful.topics.cleanup_policy = policy.to_owned();
        forgetful.topics.partitions = 1;
        let spec = TopicSpec::by(&forgetful.topics, &forgetful.state_topic);
        Topics::new(&forgetful).ensure(&[spec]).await.expect("made");
        let error = StateTopic::open(&forgetful).await.expect_err("it would forget");
        assert!(matches!(&error, KafkaError::StatePolicy { found, .. } if found == policy), "{error}");
    }
}

#[tokio::test]
async fn a_batch_within_the_topics_limit_passes_and_a_record_above_it_is_refused_for_good() {
    let mut config = config();
    config.topics.partitions = 1;
    config.topics.extra.insert("max.message.bytes".to_owned(), "70000".to_owned());
    config.client.insert("compression.type".to_owned(), "none".to_owned());
    let name = fresh("limited");
    let spec = TopicSpec::by(&config.topics, &name);
    let info = Topics::new(&config).ensure(&[spec]).await.expect("made").pop().expect("one");
    config.lower_batch_bytes(*info.max_message_bytes.proven().expect("proven"));

    let (sender, mut deliveries) = channel(config.delivery_capacity());
    let mut producer = Producer::start(&config, Generation(1), sender).expect("producer");
    let value = vec![b'x'; 500];
    for ticket in 1..=2_000 {
        producer.send(&name, 0, Some(b"k"), Some(&value), std::iter::empty(), Ticket(ticket)).expect("taken");
    }
    for ticket in 1..=2_000 {
        let delivery = deliveries.recv().await.expect("open");
        assert_eq!(delivery.ticket, Ticket(ticket));
        delivery.outcome.expect("a megabyte of small records passes in batches");
    }
    let large = vec![b'x'; 80_000];
    producer.send(&name, 0, Some(b"k"), Some(&large), std::iter::empty(), Ticket(3_000)).expect("taken");
    let failed = deliveries.recv().await.expect("open").outcome.expect_err("too large for the topic");
    assert_eq!(classify(failed.code), FailureClass::TooLarge);
    assert!(producer.ended());
    assert_eq!(producer.settle(PATIENCE).await.unanswered, 0);
}

#[tokio::test]
async fn a_real_registry_gives_ids_and_refuses_by_field() {
    let url = std::env::var("REGISTRY").expect("REGISTRY is a URL");
    let client = Registry::new(&registry::Config::new(url)).expect("client");
    client.probe().await.expect("it is one");
    let subject = fresh("odd %table/ü-value");
    let first = r#"{"type":"record","name":"V","fields":[{"name":"id","type":"int"}]}"#;
    let second =
        r#"{"type":"record","name":"V","fields":[{"name":"id","type":"int"},{"name":"mail","type":"string"}]}"#;
    assert_eq!(client.lookup(&subject, first).await.expect("asked"), None);
    let id = client.register(&subject, first).await.expect("registered");
    assert_eq!(client.register(&subject, first).await.expect("again"), id);
    assert_eq!(client.lookup(&subject, first).await.expect("asked"), Some(id));
    let text = client.schema(id).await.expect("asked").expect("there");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON"),
        serde_json::from_str::<serde_json::Value>(first).expect("JSON")
    );
    if client.level(&subject).await.expect("asked") != "BACKWARD" {
        return; // nothing to refuse
    }
    assert!(!client.check(&subject, second).await.expect("asked").compatible);
    match client.register(&subject, second).await.expect_err("incompatible") {
        RegistryError::Refused { status: 409 | 422, message, field, .. } => {
            assert_eq!(field.as_deref(), Some("mail"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let nonsense = client.register(&subject, "{\"type\":\"nonsense\"}").await.expect_err("no schema");
    assert!(matches!(nonsense, RegistryError::Refused { .. }), "{nonsense:?}");
}
