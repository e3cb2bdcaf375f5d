//! A database server, a mock cluster and agents for one test.

use super::postgres::Server;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode::BrokerTransportFailure;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use std::time::{Duration, Instant};
use wellspring::agent::request::Request;
use wellspring::agent::{Agent, Exit};
use wellspring::config;
use wellspring::continuity::Answer;
use wellspring::metrics::Metrics;
use wellspring::peers::broker::Broker;
use wellspring::status::{Phase, Status};

/// Longest wait for anything in the tests. On an idle machine everything takes far less.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub server: Server,
    broker: Broker,
}

/// One record of a topic.
pub struct Row {
    pub key: Value,
    pub value: Value,
}

impl Row {
    /// Operation, snapshot marker and key of the record, as text.
    pub fn place(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        format!(
            "{} {} {}",
            text(&self.value["op"]),
            text(&self.value["source"]["snapshot"]),
            self.key
        )
    }

    pub fn source(&self, field: &str) -> u64 {
        self.value["source"][field].as_u64().unwrap()
    }
}

impl World {
    /// A server on which this SQL has run, and a topic of one partition for each of `tables`.
    pub fn new(sql: &str, tables: &[&str]) -> World {
        World::with(&[], sql, tables)
    }

    pub fn with(settings: &[(&str, &str)], sql: &str, tables: &[&str]) -> World {
        let server = Server::start_with(settings);
        server.sql("postgres", sql);
        World::on(server, tables)
    }

    /// A server on which this SQL has run, and a cluster of two brokers. The second broker leads
    /// the topic of the first table and no other.
    pub fn with_second_broker(sql: &str, tables: &[&str]) -> World {
        let server = Server::start();
        server.sql("postgres", sql);
        let world = World::between(server, Broker::start(2, 1).unwrap(), tables);
        for (at, table) in tables.iter().enumerate() {
            world
                .broker
                .lead(&format!("p.public.{table}"), 0, if at == 0 { 2 } else { 1 })
                .unwrap();
        }
        world.broker.lead("p.wellspring-state", 0, 1).unwrap();
        world
    }

    /// A world around a server that runs already.
    pub fn on(server: Server, tables: &[&str]) -> World {
        World::between(server, Broker::start(1, 1).unwrap(), tables)
    }

    fn between(server: Server, broker: Broker, tables: &[&str]) -> World {
        for table in tables {
            broker.create(&format!("p.public.{table}"), None).unwrap();
        }
        broker.create("p.wellspring-state", None).unwrap();
        broker.create("p.wellspring-quarantine", None).unwrap();
        World { server, broker }
    }

    pub fn sql(&self, text: &str) -> String {
        self.server.sql("postgres", text)
    }

    /// Makes a topic of one partition.
    pub fn topic(&self, topic: &str) {
        self.broker.create(topic, None).unwrap();
    }

    /// Starts an agent; `more` is added to its configuration.
    pub fn agent(&self, more: &str) -> Running {
        self.agent_as("postgres", more)
    }

    /// The configuration that [`World::agent`] checks, for a reload.
    pub fn config(&self, more: &str) -> wellspring::agent::Config {
        self.checked("postgres", more)
    }

    /// Starts an agent that logs in as `role`.
    pub fn agent_as(&self, role: &str, more: &str) -> Running {
        let metrics = Metrics::new("0");
        Running { agent: Agent::start(self.checked(role, more), metrics.clone()).unwrap(), metrics }
    }

    /// Starts an agent with more keys of `[postgres]` and of `[events]`.
    pub fn agent_with(&self, postgres: &str, events: &str) -> Running {
        let config = self.checked_with("postgres", postgres, events, "");
        let metrics = Metrics::new("0");
        Running { agent: Agent::start(config, metrics.clone()).unwrap(), metrics }
    }

    /// Starts an agent with another prefix, and with more keys of `[postgres]`.
    pub fn agent_in(&self, prefix: &str, postgres: &str) -> Running {
        let config = self.checked_with(
            "postgres",
            postgres,
            "",
            &format!("[topics]\nprefix = \"{prefix}\""),
        );
        let metrics = Metrics::new("0");
        Running { agent: Agent::start(config, metrics.clone()).unwrap(), metrics }
    }

    /// Starts an agent that cannot reach its brokers.
    pub fn agent_without_kafka(&self) -> Running {
        let text = self.text("postgres", "").replace(&self.broker.bootstrap(), "127.0.0.1:1");
        let loaded = config::check("test.toml", &text, &config::Environment::new())
            .unwrap_or_else(|e| panic!("{e}"));
        let metrics = Metrics::new("0");
        let agent = Agent::start(loaded.checked.pipeline(false), metrics.clone()).unwrap();
        Running { agent, metrics }
    }

    /// Runs `wellspring check` and returns what it prints.
    pub fn check(&self, more: &str) -> String {
        String::from_utf8(self.run(more, &["check"]).stdout).unwrap()
    }

    /// Exit code and standard output of a command of the program.
    pub fn told(&self, more: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(more, arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Exit code and standard output of a command that cannot reach its brokers.
    pub fn told_without_kafka(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let text = self.text("postgres", "").replace(&self.broker.bootstrap(), "127.0.0.1:1");
        let output = run(&text, arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command of the program, which has to succeed.
    #[track_caller]
    pub fn command(&self, more: &str, arguments: &[&str]) {
        let output = self.run(more, arguments);
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs a command of the program, which has to refuse with these words.
    #[track_caller]
    pub fn refused(&self, more: &str, arguments: &[&str], words: &str) {
        let output = self.run(more, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{output:?}");
    }

    /// Makes the brokers refuse the next record for good, accept the two state writes of a
    /// reconnect, and refuse the replay of the record. The two writes are the new confirm record
    /// and the removal of the one before.
    pub fn refuse_twice(&self) {
        self.broker.answer_produce(&[false, true, true, false]);
    }

    fn run(&self, more: &str, arguments: &[&str]) -> std::process::Output {
        run(&self.text("postgres", more), arguments)
    }

    fn checked(&self, role: &str, more: &str) -> wellspring::agent::Config {
        self.checked_with(role, "", "", more)
    }

    fn checked_with(
        &self,
        role: &str,
        postgres: &str,
        events: &str,
        more: &str,
    ) -> wellspring::agent::Config {
        let text = self.text_with(role, postgres, events, more);
        let loaded = config::check("test.toml", &text, &config::Environment::new())
            .unwrap_or_else(|e| panic!("{e}"));
        loaded.checked.pipeline(false)
    }

    /// The text of the configuration.
    pub fn text(&self, role: &str, more: &str) -> String {
        self.text_with(role, "", "", more)
    }

    fn text_with(&self, role: &str, postgres: &str, events: &str, more: &str) -> String {
        let tables =
            if more.contains("[tables]") { "" } else { "[tables]\ninclude = [\"public.*\"]\n" };
        let topics = if more.contains("[topics]") { "" } else { "[topics]\nprefix = \"p\"\n" };
        let json = if more.contains("[events]") { "" } else { "[events]\nformat = \"json\"\n" };
        format!(
            "[postgres]\nurl = \"{}\"\n{postgres}\n{tables}{topics}\
             {json}{events}\n[kafka]\nbrokers = [\"{}\"]\n[limits]\nquarantine = \"0s\"\n{more}\n",
            self.server.url("postgres").replace("postgres@", &format!("{role}@")),
            self.broker.bootstrap()
        )
    }

    /// Waits for `count` records in a table's topic and returns them. There must be no more.
    #[track_caller]
    pub fn records(&self, table: &str, count: usize) -> Vec<Row> {
        let rows = self.until(table, |rows| rows.len() >= count);
        assert_eq!(
            rows.len(),
            count,
            "the last: {:?}",
            rows.iter().rev().take(20).map(Row::place).collect::<Vec<_>>()
        );
        rows
    }

    /// Waits until the records of a table's topic satisfy the condition, and returns them without
    /// tombstones.
    #[track_caller]
    pub fn until(&self, table: &str, condition: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        self.until_in(&format!("p.public.{table}"), condition)
    }

    /// Writes a record into a topic, and waits until it is there.
    pub fn send(&self, topic: &str, key: &str, value: &str) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.broker.bootstrap()).create().unwrap();
        producer
            .send(BaseRecord::to(topic).partition(0).key(key).payload(value))
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(PATIENCE).unwrap();
    }

    /// Takes the second broker up or down.
    pub fn second_broker(&self, up: bool) {
        self.broker.set_up(2, up).unwrap();
    }

    /// The newest value of a key of the state topic, if it has one.
    pub fn state(&self, key: &str) -> Option<Value> {
        let rows = self.until_in("p.wellspring-state", |_| true);
        rows.into_iter().rev().find(|row| row.key == key).map(|row| row.value)
    }

    /// Number of records in a topic of one partition, tombstones included.
    pub fn end(&self, topic: &str) -> i64 {
        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.broker.bootstrap()).create().unwrap();
        reader.fetch_watermarks(topic, 0, PATIENCE).unwrap().1
    }

    /// Waits until the records of a topic satisfy the condition, and returns them without
    /// tombstones. A key or value that is not JSON is taken as text.
    #[track_caller]
    pub fn until_in(&self, topic: &str, condition: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.bootstrap())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut from_start = TopicPartitionList::new();
        from_start.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        reader.assign(&from_start).unwrap();
        let (mut rows, mut end, deadline) = (Vec::new(), 0, Instant::now() + PATIENCE);
        loop {
            let polled = reader.poll(Duration::from_millis(100));
            let is_away =
                |error: &KafkaError| error.rdkafka_error_code() == Some(BrokerTransportFailure);
            // An error about a broker that was taken down is ignored, because another one may lead
            // this topic.
            if let Some(message) = polled.filter(|polled| !polled.as_ref().is_err_and(is_away)) {
                let message = message.unwrap();
                let json = |bytes: Option<&[u8]>| {
                    bytes.map_or(Value::Null, |b| {
                        serde_json::from_slice(b)
                            .unwrap_or_else(|_| String::from_utf8_lossy(b).into_owned().into())
                    })
                };
                if message.payload().is_some() {
                    rows.push(Row { key: json(message.key()), value: json(message.payload()) });
                }
                if message.offset() + 1 < end {
                    continue;
                }
                end = reader.fetch_watermarks(topic, 0, PATIENCE).unwrap().1;
                if message.offset() + 1 >= end && condition(&rows) {
                    return rows;
                }
            }
            let shown: Vec<_> = rows.iter().rev().take(20).map(Row::place).collect();
            assert!(
                Instant::now() < deadline,
                "records of {topic} did not come: {} {shown:?}",
                rows.len()
            );
        }
    }
}

pub struct Running {
    agent: Agent,
    metrics: Metrics,
}

impl Running {
    /// The value of one line of the metrics.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    pub fn status(&self) -> Status {
        self.agent.status().borrow().clone()
    }

    /// Sends a request to the running agent and returns its answer.
    pub fn ask(&self, request: Request) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.agent.handle().ask(request))
    }

    /// Waits until the status satisfies the condition, and returns it.
    #[track_caller]
    pub fn until(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        wait_until(deadline, || condition(&self.status()) || self.agent.is_finished());
        let status = self.status();
        assert!(condition(&status), "waited for {what}: {status:#?}");
        status
    }

    /// Waits until changes flow.
    #[track_caller]
    pub fn streams(&self) -> Status {
        self.until("streaming", |status| status.phase == Phase::Streaming)
    }

    /// Stops the agent and checks how it ends. A halted agent has a change left to deliver, so it
    /// ends with [`Exit::Repeats`].
    #[track_caller]
    pub fn stop(self) {
        let status = self.status();
        let has_left = status.phase == Phase::Halted && status.term > 0;
        let expected = if has_left { Exit::Repeats } else { Exit::Stopped };
        self.agent.stop();
        assert_eq!(self.agent.join().unwrap(), expected);
    }

    /// Stops the agent while it copies. The next start copies the rest.
    #[track_caller]
    pub fn stop_in_a_copy(self) {
        self.agent.stop();
        assert_eq!(self.agent.join().unwrap(), Exit::Repeats);
    }

    /// Waits for a halt with this reason.
    #[track_caller]
    pub fn halts(&self, reason: &str) -> Status {
        self.until(reason, |status| status.phase == Phase::Halted && status.reason == reason)
    }

    /// Waits until the agent ends by itself.
    #[track_caller]
    pub fn ends(self) -> Exit {
        let deadline = Instant::now() + PATIENCE;
        wait_until(deadline, || self.agent.is_finished());
        assert!(self.agent.is_finished(), "{:#?}", self.status());
        self.agent.join().unwrap()
    }
}

fn run(config: &str, arguments: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wellspring.toml"), config).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wellspring"));
    command.args(arguments).current_dir(folder.path()).env_clear().output().unwrap()
}

/// Waits until the condition holds or the deadline has come.
pub fn wait_until(deadline: Instant, condition: impl Fn() -> bool) {
    while !condition() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}
