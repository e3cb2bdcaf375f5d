//! The `kafka` room against librdkafka's mock cluster: what is promised about order, failures and
//! the end of a producer. The registry's client has `tests/integration/registry_client.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;
use wellspring::kafka::{
    Address, Config, Delivery, Failed, FailureClass, Followed, Follower, Headers, KafkaError, Late,
    LateQuestion, LateUnknown, Login, PartitionEnd, Policy, Producer, RDKafkaErrorCode, ReadEnds,
    SendError, State, StateTopic, TopicSpec, Topics, classify,
};
use wellspring::ledger::{Generation, Ticket};
use wellspring::secret::{Command, Source};

/// Longest wait for anything in these tests. On an idle machine nothing takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A mock cluster with one topic, and what a producer of one generation needs.
struct World {
    cluster: Cluster,
    config: Config,
}

impl World {
    fn start(partitions: i32) -> World {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("rows", partitions, 1).expect("topic");
        let config = Config::new(vec![cluster.bootstrap_servers()], "shop.wellspring-state");
        World { cluster, config }
    }

    fn producer(&self, generation: u32) -> (Producer, Receiver<Delivery>) {
        let (sender, receiver) = channel(self.config.delivery_capacity());
        (Producer::start(&self.config, Generation(generation), sender).expect("producer"), receiver)
    }

    /// A producer whose first record, with ticket 1, is delivered.
    async fn begun(&self) -> (Producer, Receiver<Delivery>) {
        let (mut producer, mut deliveries) = self.producer(1);
        send(&mut producer, 0, 1).expect("taken");
        next(&mut deliveries).await.outcome.expect("delivered");
        (producer, deliveries)
    }

    /// Everything in one partition of `rows`, as (key, value).
    fn content(&self, partition: i32, end: i64) -> Vec<(Option<String>, Option<String>)> {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .expect("reader");
        let mut from_start = TopicPartitionList::new();
        from_start.add_partition_offset("rows", partition, Offset::Beginning).expect("partition");
        reader.assign(&from_start).expect("assign");
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut content = Vec::new();
        while (content.len() as i64) < end {
            let message =
                reader.poll(PATIENCE).expect("a record before patience ends").expect("a record");
            content.push((text(message.key()), text(message.payload())));
        }
        content
    }
}

/// A partition of the topic `rows`.
fn rows(partition: i32) -> Address<'static> {
    Address { topic: "rows", partition, time: None }
}

fn send(producer: &mut Producer, partition: i32, ticket: u64) -> Result<(), SendError> {
    let value = format!("v{ticket}");
    let none = std::iter::empty::<(&str, Option<&[u8]>)>();
    producer.send(
        rows(partition),
        Some(b"k"),
        Some(value.as_bytes()),
        Headers::of(none),
        Ticket(ticket),
    )
}

async fn next(deliveries: &mut Receiver<Delivery>) -> Delivery {
    timeout(PATIENCE, deliveries.recv())
        .await
        .expect("a report before patience ends")
        .expect("the channel is open")
}

/// Waits for the next delivery report. Meanwhile the producer is asked for room again and again, as
/// the loop asks it.
async fn next_of_parked(producer: &mut Producer, deliveries: &mut Receiver<Delivery>) -> Delivery {
    let asks = async {
        loop {
            let _ = producer.has_room();
            if let Ok(delivery) = timeout(Duration::from_millis(10), deliveries.recv()).await {
                return delivery.expect("the channel is open");
            }
        }
    };
    timeout(PATIENCE, asks).await.expect("a report before patience ends")
}

#[tokio::test]
async fn every_record_is_reported_with_its_ticket_in_offset_order() {
    let world = World::start(3);
    let (mut producer, mut deliveries) = world.producer(7);
    for ticket in 1..=900 {
        send(&mut producer, (ticket % 3) as i32, ticket).expect("taken");
    }
    let mut offsets: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    for _ in 0..900 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.generation, Generation(7));
        let landed = delivery.outcome.expect("delivered");
        offsets.entry(landed.partition).or_default().push((landed.offset, delivery.ticket.0));
    }
    for (partition, seen) in offsets {
        let expected: Vec<(i64, u64)> = (1..=900)
            .filter(|t| (*t % 3) as i32 == partition)
            .enumerate()
            .map(|(at, t)| (at as i64, t))
            .collect();
        assert_eq!(seen, expected, "partition {partition}");
    }
    assert_eq!(producer.in_flight(), 0);
    assert_eq!(producer.settle(PATIENCE).await.unanswered, 0);
}

#[tokio::test]
async fn keys_values_tombstones_and_headers_arrive_byte_for_byte() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.producer(1);
    let headers =
        [("__debezium.newkey", Some(&b"\x00\x01"[..])), ("empty", Some(&b""[..])), ("null", None)];
    producer
        .send(rows(0), Some(b"\x00k"), Some(b""), Headers::of(headers.into_iter()), Ticket(1))
        .expect("taken");
    producer
        .send(rows(0), Some(b"k"), None, Headers::of(std::iter::empty()), Ticket(2))
        .expect("taken");
    producer
        .send(rows(0), None, Some(b"v"), Headers::of(std::iter::empty()), Ticket(3))
        .expect("taken");
    for _ in 0..3 {
        next(&mut deliveries).await.outcome.expect("delivered");
    }
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", world.cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .expect("reader");
    let mut from_start = TopicPartitionList::new();
    from_start.add_partition_offset("rows", 0, Offset::Beginning).expect("partition");
    reader.assign(&from_start).expect("assign");
    let first = reader.poll(PATIENCE).expect("a record").expect("a record").detach();
    assert_eq!((first.key(), first.payload()), (Some(&b"\x00k"[..]), Some(&b""[..])));
    let seen: Vec<(String, Option<Vec<u8>>)> = first
        .headers()
        .expect("headers")
        .iter()
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect();
    let sent = [("__debezium.newkey", Some(vec![0, 1])), ("empty", Some(vec![])), ("null", None)];
    assert_eq!(seen, sent.map(|(name, value)| (name.to_owned(), value)));
    let second = reader.poll(PATIENCE).expect("a record").expect("a record").detach();
    assert_eq!((second.key(), second.payload()), (Some(&b"k"[..]), None));
    let third = reader.poll(PATIENCE).expect("a record").expect("a record").detach();
    assert_eq!((third.key(), third.payload()), (None, Some(&b"v"[..])));
}

#[tokio::test]
async fn retriable_errors_neither_reorder_nor_fail_anything() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.producer(1);
    world.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    for ticket in 1..=50 {
        send(&mut producer, 0, ticket).expect("taken");
    }
    for ticket in 1..=50 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.ticket, Ticket(ticket));
        delivery.outcome.expect("delivered");
    }
    let expected: Vec<_> =
        (1..=50).map(|t| (Some("k".to_owned()), Some(format!("v{t}")))).collect();
    assert_eq!(world.content(0, 50), expected);
}

#[tokio::test]
async fn nothing_is_written_past_a_record_that_failed() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.begun().await;
    world.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    for ticket in 2..=300 {
        match send(&mut producer, 0, ticket) {
            Ok(()) => {}
            Err(SendError::Ended | SendError::Fatal(_)) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let failed = next(&mut deliveries).await.outcome.expect_err("the first batch is refused");
    assert_eq!(classify(failed.code), FailureClass::TooLarge);
    assert!(classify(failed.code).lasts() && !failed.purged);
    assert_eq!(
        send(&mut producer, 0, 1000),
        Err(SendError::Ended),
        "an ended producer takes nothing"
    );
    assert!(producer.ended());
    // Every other record that the producer took is reported as failed. The topic ends before the
    // first failed record.
    let settled = producer.settle(PATIENCE).await;
    assert_eq!(settled.unanswered, 0);
    while let Ok(delivery) = deliveries.try_recv() {
        let failed = delivery.outcome.expect_err("nothing lands past the gap");
        assert!(!failed.doubtful, "{failed:?}");
    }
    assert_eq!(world.content(0, 1), [(Some("k".to_owned()), Some("v1".to_owned()))]);
    let (mut replay, mut deliveries) = world.producer(2);
    send(&mut replay, 0, 2000).expect("taken");
    assert_eq!(
        next(&mut deliveries).await.outcome.expect("delivered").offset,
        1,
        "nothing lies between"
    );
}

#[tokio::test]
async fn a_success_that_no_broker_has_told_is_a_failure() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.begun().await;
    // The broker refuses the second record while the third one is under way, and accepts the third.
    world.cluster.broker_round_trip_time(1, Duration::from_secs(1)).expect("slow");
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    send(&mut producer, 0, 2).expect("taken");
    assert!(!producer.flush(Duration::from_millis(200)).await, "the request is under way");
    send(&mut producer, 0, 3).expect("taken");
    let (mut landed, mut failed) = (Vec::new(), Vec::new());
    for _ in 2..=3 {
        let delivery = next(&mut deliveries).await;
        match delivery.outcome {
            Ok(_) => landed.push(delivery.ticket),
            Err(why) => failed.push((delivery.ticket, why)),
        }
    }
    assert_eq!(landed, [Ticket(3)]);
    let [(Ticket(2), why)] = failed[..] else { panic!("{failed:?}") };
    assert_eq!(classify(why.code), FailureClass::ProducerEnded);
    assert!(!why.purged && !why.doubtful && producer.ended());
    let content = world.content(0, 2);
    assert_eq!(content[1].1.as_deref(), Some("v3"), "the second record is lost");
}

#[tokio::test]
async fn a_missing_right_is_told_apart_from_a_passing_fault() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.producer(1);
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[refusal; 3]);
    send(&mut producer, 0, 1).expect("taken");
    let Failed { code, .. } = next(&mut deliveries).await.outcome.expect_err("refused");
    assert_eq!(classify(code), FailureClass::Denied);
}

#[tokio::test]
async fn nothing_fails_while_the_broker_is_away_and_all_arrives_later() {
    let world = World::start(1);
    let (mut producer, mut deliveries) = world.begun().await;
    world.cluster.broker_down(1).expect("down");
    for ticket in 2..=20 {
        send(&mut producer, 0, ticket).expect("taken");
    }
    assert!(!producer.flush(Duration::from_millis(300)).await, "nothing can be delivered");
    assert!(deliveries.try_recv().is_err());
    world.cluster.broker_up(1).expect("up");
    for ticket in 2..=20 {
        assert_eq!(next(&mut deliveries).await.ticket, Ticket(ticket));
    }
    assert!(producer.flush(PATIENCE).await);
}

#[tokio::test]
async fn a_record_that_meets_a_full_queue_waits_in_its_place() {
    const FITS: u64 = 100;
    let mut world = World::start(1);
    world.config.queue_records_max = usize::try_from(FITS).expect("small");
    let (mut producer, mut deliveries) = world.producer(1);
    world.cluster.broker_down(1).expect("down");
    for ticket in 1..=FITS {
        send(&mut producer, 0, ticket).expect("taken");
        assert!(producer.has_room());
    }
    for ticket in FITS + 1..=FITS + 3 {
        send(&mut producer, 0, ticket).expect("parked");
        assert!(!producer.has_room(), "the row path stops until a delivery frees a place");
    }
    assert_eq!(producer.in_flight() as u64, FITS);
    world.cluster.broker_up(1).expect("up");
    assert!(producer.has_parked());
    for ticket in 1..=FITS + 3 {
        let delivery = next_of_parked(&mut producer, &mut deliveries).await;
        delivery.outcome.expect("delivered");
        assert_eq!(delivery.ticket, Ticket(ticket), "in order, the parked ones last");
    }
    assert!(producer.has_room() && !producer.has_parked());
}

#[tokio::test]
async fn a_record_too_large_for_librdkafka_is_not_taken() {
    let mut world = World::start(1);
    world.config.client.insert("message.max.bytes".to_owned(), "1500".to_owned());
    let (mut producer, _deliveries) = world.producer(1);
    let framing = wellspring::kafka::wire_bytes(None, None, std::iter::empty::<(&str, usize)>());
    let headers = [("name", Some(&b"value"[..]))];
    let measured = |value: usize| {
        let value = vec![0; value];
        wellspring::kafka::wire_bytes(
            Some(b"k"),
            Some(&value),
            headers.iter().map(|(name, value)| (*name, value.map_or(0, <[u8]>::len))),
        )
    };
    let largest = 1500 - measured(0);
    assert_eq!(measured(largest), 1500);
    assert!(framing > 0);
    let fits = vec![0; largest];
    let over = vec![0; largest + 1];
    assert_eq!(
        producer.send(
            rows(0),
            Some(b"k"),
            Some(&over),
            Headers::of(headers.into_iter()),
            Ticket(1)
        ),
        Err(SendError::TooLarge)
    );
    assert_eq!(
        producer.send(
            rows(0),
            Some(b"k"),
            Some(&fits),
            Headers::of(headers.into_iter()),
            Ticket(1)
        ),
        Ok(())
    );
}

#[tokio::test]
async fn settling_purges_the_queue_and_doubts_only_what_is_under_way() {
    let world = World::start(1);
    // This producer has never connected, so no record can be on its way.
    world.cluster.broker_down(1).expect("down");
    let (mut fresh, mut deliveries) = world.producer(1);
    for ticket in 1..=10 {
        send(&mut fresh, 0, ticket).expect("taken");
    }
    let settled = fresh.settle(Duration::from_millis(200)).await;
    let mut reports = 0;
    while let Ok(delivery) = deliveries.try_recv() {
        assert!(delivery.outcome.expect_err("thrown out").purged);
        reports += 1;
    }
    assert_eq!(reports, 10);
    // A refused connection is a failure too, after which librdkafka may count queued records as
    // doubtful. So more records may be unanswered than were sent.
    assert!(settled.unanswered <= 10);

    // A request that is under way when the broker falls silent stays in doubt.
    world.cluster.broker_up(1).expect("up");
    let (mut silent, mut deliveries) = world.producer(2);
    send(&mut silent, 0, 11).expect("taken");
    next(&mut deliveries).await.outcome.expect("delivered");
    world.cluster.broker_round_trip_time(1, Duration::from_secs(3600)).expect("slow");
    send(&mut silent, 0, 12).expect("taken");
    assert!(!silent.flush(Duration::from_millis(500)).await);
    assert_eq!(silent.settle(Duration::from_millis(200)).await.unanswered, 1);
}

#[tokio::test]
async fn requests_cut_off_by_a_broken_connection_stay_in_doubt() {
    let world = World::start(1);
    let (mut producer, _deliveries) = world.begun().await;
    world.cluster.broker_round_trip_time(1, Duration::from_secs(3600)).expect("slow");
    send(&mut producer, 0, 2).expect("taken");
    assert!(!producer.flush(Duration::from_millis(300)).await, "it is under way");
    world.cluster.broker_down(1).expect("cut");
    // librdkafka takes the request back into its queue. The copy that was sent may still arrive.
    assert!(!producer.flush(Duration::from_millis(700)).await);
    assert_eq!(producer.settle(Duration::from_millis(500)).await.unanswered, 1);
}

#[tokio::test]
async fn a_settled_producer_does_not_wait_for_a_reader_that_is_itself() {
    let world = World::start(1);
    world.cluster.broker_down(1).expect("down");
    let (sender, _unread) = channel(1);
    let mut producer = Producer::start(&world.config, Generation(1), sender).expect("producer");
    for ticket in 1..=100 {
        send(&mut producer, 0, ticket).expect("taken");
    }
    timeout(PATIENCE, producer.settle(Duration::from_millis(500)))
        .await
        .expect("settle comes back");
}

#[tokio::test]
async fn topics_are_created_by_use_and_their_policy_is_not_proven() {
    let world = World::start(6);
    let topics = Topics::new(&world.config);
    assert_eq!(topics.describe("missing").await.expect("asked"), None);
    assert_eq!(topics.describe("missing").await.expect("asked"), None, "asking does not create");
    let rows = topics.describe("rows").await.expect("asked").expect("there");
    assert_eq!(rows.partitions, 6);
    assert_eq!(rows.cleanup_policy, Policy::NotProven);
    let made = topics.ensure(&[TopicSpec::by(&world.config.topics, "new")]).await.expect("created");
    assert_eq!(made.len(), 1);
    assert!(made[0].partitions > 0);
    assert!(topics.describe("new").await.expect("asked").is_some());
    assert_eq!(topics.probe().await.expect("reached").brokers.len(), 1);
}

#[tokio::test]
async fn a_missing_topic_is_named_where_we_may_not_create() {
    let mut world = World::start(1);
    world.config.topics.create = false;
    let error =
        Topics::new(&world.config).ensure(&[TopicSpec::by(&world.config.topics, "absent")]).await;
    assert!(matches!(error, Err(KafkaError::Missing { topic }) if topic == "absent"));
}

#[tokio::test]
async fn an_unreachable_broker_is_named_with_the_reason() {
    // Nobody listens on this port, which was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("bind")
        .local_addr()
        .expect("address")
        .port();
    let config = Config::new(vec![format!("127.0.0.1:{port}")], "state");
    let error = Topics::new(&config).probe().await.expect_err("nobody listens").to_string();
    assert!(
        error.contains(&port.to_string()) && error.to_lowercase().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn the_state_topic_gives_back_the_newest_value_of_each_key() {
    let world = World::start(1);
    let mut state = State::Topic(StateTopic::open(&world.config).await.expect("opened"));
    assert_eq!(state.read_all().await.expect("read"), BTreeMap::new());
    state.write("slot/1", Some("{\"confirmed\":1}")).await.expect("written");
    state.write("slot/1", Some("{\"confirmed\":2}")).await.expect("written");
    state.write("slot/2", Some("{}")).await.expect("written");
    state.write("gone", Some("1")).await.expect("written");
    state.write("gone", None).await.expect("written");
    let mut again = State::Topic(StateTopic::open(&world.config).await.expect("opened"));
    let expected = BTreeMap::from([
        ("slot/1".to_owned(), "{\"confirmed\":2}".to_owned()),
        ("slot/2".to_owned(), "{}".to_owned()),
    ]);
    assert_eq!(again.read_all().await.expect("read"), expected);
    again.write("slot/3", Some("3")).await.expect("written");
    assert_eq!(state.read_all().await.expect("read").len(), 3, "the end is taken at each call");
}

#[tokio::test]
async fn a_state_write_says_when_it_is_late_and_goes_on_later() {
    let world = World::start(1);
    let mut state = StateTopic::open(&world.config).await.expect("opened");
    state.write("a", Some("1")).await.expect("written");
    let mut state = state.with_write_timeout(Duration::from_millis(500));
    world.cluster.broker_down(1).expect("down");
    let error = state.write("a", Some("2")).await.expect_err("nobody acknowledges");
    assert!(matches!(error, KafkaError::Timeout { .. }), "{error}");
    world.cluster.broker_up(1).expect("up");
    let mut state = state.with_write_timeout(PATIENCE);
    state.write("a", Some("3")).await.expect("written");
    assert_eq!(state.read_all().await.expect("read")["a"], "3");
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    world.cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    let error = state.write("a", Some("4")).await.expect_err("refused");
    assert!(
        matches!(
            error,
            KafkaError::Answer { code: RDKafkaErrorCode::TopicAuthorizationFailed, .. }
        ),
        "{error}"
    );
    state.write("a", Some("5")).await.expect("a new writer");
    assert_eq!(state.read_all().await.expect("read")["a"], "5");
}

/// Records of these times in one partition of `rows`, in this order.
fn append(world: &World, partition: i32, times_ms: &[i64]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", world.cluster.bootstrap_servers())
        .create()
        .expect("producer");
    for at in times_ms {
        let record = BaseRecord::<str, str>::to("rows")
            .partition(partition)
            .key("k")
            .payload("value")
            .timestamp(*at);
        producer.send(record).expect("taken");
    }
    producer.flush(PATIENCE).expect("landed");
}

fn question() -> LateQuestion {
    LateQuestion {
        began_ms: vec![1_500, 2_000],
        read_ends: None,
        records_max: 1_000,
        bytes_max: 1 << 20,
        within: PATIENCE,
    }
}

#[tokio::test]
async fn finds_a_record_that_landed_behind_newer_ones() {
    let world = World::start(3);
    append(&world, 0, &[1_000, 1_100, 2_000, 2_100]);
    append(&world, 1, &[1_000, 2_000, 1_400, 2_100]);
    let topics = Topics::new(&world.config);
    let search = async |places: &[(&str, i32)]| {
        topics.late_records(places, question()).await.expect("searched")
    };
    assert_eq!(search(&[("rows", 0), ("rows", 2)]).await, Late::None);
    let found = Late::Found { topic: "rows".to_owned(), partition: 1, offset: 2 };
    assert_eq!(search(&[("rows", 0), ("rows", 1), ("rows", 2)]).await, found);
    assert_eq!(
        search(&[("gone", 0), ("rows", 7)]).await,
        Late::None,
        "what does not exist holds nothing late"
    );
    assert_eq!(search(&[("gone", 0), ("rows", 1)]).await, found);
    append(&world, 0, &[1_499]);
    assert_eq!(
        search(&[("rows", 0)]).await,
        Late::Found { topic: "rows".to_owned(), partition: 0, offset: 4 }
    );
}

#[tokio::test]
async fn a_second_look_reads_only_what_came_since() {
    let world = World::start(2);
    append(&world, 0, &[1_000, 2_000, 1_400, 2_100]);
    let topics = Topics::new(&world.config);
    let behind = |offset| {
        let ends = ReadEnds { ends: [(("rows".to_owned(), 0), offset)].into(), newest: 2 };
        LateQuestion { read_ends: Some(ends), records_max: 3, ..question() }
    };
    let search =
        async |question| topics.late_records(&[("rows", 0)], question).await.expect("searched");
    assert_eq!(search(behind(3)).await, Late::None);
    assert_eq!(
        search(behind(1)).await,
        Late::Found { topic: "rows".to_owned(), partition: 0, offset: 2 }
    );
    let unknown = Late::Unknown(LateUnknown::TooMuch { records_max: 3, bytes_max: 1 << 20 });
    assert_eq!(search(behind(0)).await, unknown);
}

#[tokio::test]
async fn a_search_for_late_records_reads_no_more_than_permitted() {
    let world = World::start(1);
    append(&world, 0, &[2_000, 2_100, 2_200]);
    let topics = Topics::new(&world.config);
    let search =
        async |question| topics.late_records(&[("rows", 0)], question).await.expect("searched");
    // Each record holds a key of one byte and a value of five.
    assert_eq!(
        search(LateQuestion { records_max: 3, bytes_max: 18, ..question() }).await,
        Late::None
    );
    for (records_max, bytes_max) in [(2, 18), (3, 17)] {
        let unknown = Late::Unknown(LateUnknown::TooMuch { records_max, bytes_max });
        assert_eq!(search(LateQuestion { records_max, bytes_max, ..question() }).await, unknown);
    }
    let within = Duration::ZERO;
    let unknown = Late::Unknown(LateUnknown::OutOfTime { within });
    assert_eq!(search(LateQuestion { within, ..question() }).await, unknown);
}

#[tokio::test]
async fn each_partition_has_an_end_of_its_own() {
    let world = World::start(2);
    append(&world, 1, &[1, 2, 3]);
    let topics = Topics::new(&world.config);
    let ends = topics
        .end_offsets(&[("rows", 0), ("gone", 0), ("rows", 1), ("rows", 2)])
        .await
        .expect("asked");
    use PartitionEnd::{At, Failed, Gone};
    assert!(matches!(&ends[..], [At(0), Gone, At(3), Gone]), "{ends:?}");
    // One request asks for the first offset, one for the last.
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2];
    world.cluster.request_errors(RDKafkaApiKey::ListOffsets, &refused);
    let ends = topics.end_offsets(&[("rows", 0), ("rows", 1)]).await.expect("asked");
    assert!(matches!(&ends[..], [Failed(KafkaError::Request { .. }), At(3)]), "{ends:?}");
}

#[tokio::test]
async fn a_follower_that_brokers_refuse_logs_in_anew() {
    let mut world = World::start(1);
    let folder = tempfile::tempdir().expect("folder");
    let logins = folder.path().join("logins");
    let script = format!("echo x >> {}; echo password", logins.display());
    let command = Command::new(vec!["sh".to_owned(), "-c".to_owned(), script]).expect("command");
    world.config.login = Login::password(Source::Command(command));
    let (sender, mut records) = channel(8);
    let _follower = Follower::start(&world.config, "rows", Some(0), sender).expect("started");
    append(&world, 0, &[1]);
    let mut next = async || {
        timeout(PATIENCE, records.recv()).await.expect("before patience ends").expect("open")
    };
    assert!(matches!(next().await, Followed::Record { offset: 0, .. }));
    assert_eq!(std::fs::read_to_string(&logins).expect("read"), "x\n");
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
    world.cluster.request_errors(RDKafkaApiKey::Fetch, &[refusal]);
    let is_read_anew = async || {
        // A client that is slow to log in anew may be refused once more. Then it reads the password
        // once more.
        while !std::fs::read_to_string(&logins).expect("read").starts_with("x\nx\n") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_read_anew()).await.expect("the password is read anew");
    append(&world, 0, &[2]);
    assert!(
        matches!(next().await, Followed::Record { offset: 1, .. }),
        "it goes on behind the last record"
    );
}
