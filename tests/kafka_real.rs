//! Tests that need a real broker and a real registry. `make test` leaves them out (`test = false`
//! in Cargo.toml). They are run by
//! `KAFKA=127.0.0.1:9092 REGISTRY=http://127.0.0.1:8081 cargo test --test kafka_real`.

#![expect(clippy::expect_used, reason = "a test that cannot go on says where it stopped")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::sync::mpsc::channel;
use wellspring::encode::registry::{self, Registry, RegistryError};
use wellspring::kafka::{
    Config, FailureClass, KafkaError, Late, LateQuestion, LateUnknown, PartitionEnd, Policy,
    Producer, Remedy, StateTopic, TopicSpec, Topics, classify,
};
use wellspring::ledger::{Generation, Ticket};

const PATIENCE: Duration = Duration::from_secs(60);

/// A name of this run alone, because the broker may have topics of other runs.
fn fresh(name: &str) -> String {
    let nanos =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos();
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
        let info =
            topics.ensure(std::slice::from_ref(&spec)).await.expect("made").pop().expect("one");
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
        assert!(
            matches!(&error, KafkaError::StatePolicy { found, .. } if found == policy),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_record_above_the_topics_limit_is_refused_and_a_batch_not() {
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
        producer
            .send(&name, 0, Some(b"k"), Some(&value), std::iter::empty(), Ticket(ticket))
            .expect("taken");
    }
    for ticket in 1..=2_000 {
        let delivery = deliveries.recv().await.expect("open");
        assert_eq!(delivery.ticket, Ticket(ticket));
        delivery.outcome.expect("a megabyte of small records passes in batches");
    }
    let large = vec![b'x'; 80_000];
    producer
        .send(&name, 0, Some(b"k"), Some(&large), std::iter::empty(), Ticket(3_000))
        .expect("taken");
    let failed =
        deliveries.recv().await.expect("open").outcome.expect_err("too large for the topic");
    assert_eq!(classify(failed.code), FailureClass::TooLarge);
    assert!(producer.ended());
    assert_eq!(producer.settle(PATIENCE).await.unanswered, 0);
}

/// Records of these times in partition 0, in this order.
fn append(config: &Config, topic: &str, times_ms: &[i64]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", config.brokers.join(","))
        .create()
        .expect("producer");
    for at in times_ms {
        let record =
            BaseRecord::<str, str>::to(topic).partition(0).key("k").payload("value").timestamp(*at);
        producer.send(record).expect("taken");
    }
    producer.flush(PATIENCE).expect("landed");
}

#[tokio::test]
async fn late_records_are_found_by_the_producers_time() {
    let mut config = config();
    config.topics.partitions = 2;
    config.topics.extra.insert("message.timestamp.type".to_owned(), "CreateTime".to_owned());
    let topics = Topics::new(&config);
    let (rows, stamped) = (fresh("rows"), fresh("stamped"));
    topics.ensure(&[TopicSpec::by(&config.topics, &rows)]).await.expect("made");
    config.topics.extra.insert("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    topics.ensure(&[TopicSpec::by(&config.topics, &stamped)]).await.expect("made");
    let now = i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis(),
    )
    .expect("ms");
    let began = now - 60_000;
    let question = LateQuestion {
        began_ms: vec![began],
        seen: None,
        records_max: 1_000,
        bytes_max: 1 << 20,
        within: PATIENCE,
    };
    let places = [
        (rows.as_str(), 0),
        (rows.as_str(), 1),
        (rows.as_str(), 9),
        ("kafka-real.no-such-topic", 0),
    ];
    let search = async |question| topics.late_records(&places, question).await.expect("searched");
    append(&config, &rows, &[began - 9_000, began - 7_000, began - 8_000]);
    assert_eq!(search(question.clone()).await, Late::None, "nothing of the last process");
    append(&config, &rows, &[began, began + 10, began + 5]);
    assert_eq!(search(question.clone()).await, Late::None, "old records lie before new ones");
    let bounded = LateQuestion { records_max: 2, ..question.clone() };
    assert!(matches!(search(bounded).await, Late::Unknown(LateUnknown::TooMuch { .. })));
    append(&config, &rows, &[began + 20, began - 1, began + 30]);
    assert_eq!(
        search(question.clone()).await,
        Late::Found { topic: rows.clone(), partition: 0, offset: 7 }
    );

    append(&config, &stamped, &[began]);
    let told = topics.late_records(&[(&stamped, 0)], question).await.expect("searched");
    assert_eq!(told, Late::Unknown(LateUnknown::AppendTime { topic: stamped.clone() }));
}

#[tokio::test]
async fn a_deleted_topic_leaves_the_ends_of_others_known() {
    let mut config = config();
    config.topics.partitions = 1;
    let topics = Topics::new(&config);
    let (kept, deleted) = (fresh("kept"), fresh("deleted"));
    let specs = [&kept, &deleted].map(|name| TopicSpec::by(&config.topics, name));
    topics.ensure(&specs).await.expect("made");
    append(&config, &kept, &[1, 2, 3]);
    let places = [(deleted.as_str(), 0), (kept.as_str(), 0)];
    let ends = topics.end_offsets(&places).await.expect("asked");
    assert!(matches!(&ends[..], [PartitionEnd::At(0), PartitionEnd::At(3)]), "{ends:?}");
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", config.brokers.join(","))
        .create()
        .expect("client");
    for answer in admin.delete_topics(&[&deleted], &AdminOptions::new()).await.expect("asked") {
        answer.expect("deleted");
    }
    let ends = topics.end_offsets(&places).await.expect("asked");
    assert!(matches!(&ends[..], [PartitionEnd::Gone, PartitionEnd::At(3)]), "{ends:?}");
}

#[tokio::test]
async fn a_real_registry_gives_ids_and_refuses_by_field() {
    let url = std::env::var("REGISTRY").expect("REGISTRY is a URL");
    let client = Registry::new(&registry::Config::new(url)).expect("client");
    client.probe().await.expect("it is one");
    let subject = fresh("odd %table/ü-value");
    let first = r#"{"type":"record","name":"V","fields":[{"name":"id","type":"int"}]}"#;
    let second = r#"{"type":"record","name":"V","fields":[{"name":"id","type":"int"},{"name":"mail","type":"string"}]}"#;
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
    let nonsense =
        client.register(&subject, "{\"type\":\"nonsense\"}").await.expect_err("no schema");
    assert!(matches!(nonsense, RegistryError::Refused { .. }), "{nonsense:?}");
}
