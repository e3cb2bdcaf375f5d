//! Reports what the loop does: in the status, in metrics, and in one log line when something ends
//! or changes.

mod copies;
mod detached;
mod measured;
mod ended;
mod operators;
mod parts;
mod person;
mod positions;
mod rates;
mod schemas;
mod troubles;
mod watched;

use parts::{Answers, CopyReport, Warnings};

use super::Config;
use super::pace::Pace;
use crate::continuity::{Trouble, TroubleReason};
use crate::core::{Core, Opened};
use crate::kafka::{Delivery, State, classify};
use crate::metrics::{Metrics, Peer, Stage, TableMetrics};
use crate::plans::{Ready, SinkConfig};
use crate::postgres::{Sql, SystemIdentity};
use crate::status::lag::Lag;
use crate::status::outlook::Outlook;
use crate::status::phase::PhaseReport;
use crate::status::{ChangeStatus, Phase, STATUS_FORMAT, Status, TableStatus};
use crate::table::TableName;
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::watch;
use tracing::{info, warn};

/// The most errors that `/status` keeps. They are enough to follow what happened.
const ERRORS_MAX: usize = 20;

/// The least time between two versions of the status. A person reads the status, and Prometheus
/// does not scrape the metrics faster.
const UPDATE_MS: i64 = 250;

/// A refused login counts as refused for this long, unless the brokers acknowledge a record
/// meanwhile. librdkafka tries a login every ten seconds.
const REFUSED_MS: i64 = 30_000;

const LOGIN_REFUSED: &str = "the brokers refuse our login (SASL)";

/// The broker counts as the stage that holds up the others if records are in flight and nothing is
/// acknowledged for this long.
const BROKER_STALL_MS: i64 = 1_000;

/// Keeps the status and the metrics, and what they are computed from.
pub struct Reporter {
    metrics: Metrics,
    sender: watch::Sender<Status>,
    status: Status,
    trouble: Option<Trouble>,
    warnings: Warnings,
    tables: BTreeMap<String, TableMetrics>,
    updated_ms: i64,
    answers: Answers,
    operators: operators::Operators,
    pace: Pace,
    flow: rates::Flow,
    outlook: Outlook,
    lag: Lag,
    copy: CopyReport,
    schemas: schemas::Schemas,
}

impl Reporter {
    /// Makes the reporter of a process that has not connected yet.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics, sender: watch::Sender<Status>) -> Self {
        let sink = match &config.sink {
            SinkConfig::Kafka(_) => "kafka",
            SinkConfig::Stdout { .. } => "stdout",
        };
        let format = config.encode.format.name();
        metrics.runs_as(&config.encode.prefix, [format, sink, config.snapshot.mode.name()]);
        let status = Status {
            status_format: STATUS_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: super::runner::unix_nanos() / 1_000_000,
            sink: sink.to_owned(),
            format: format.to_owned(),
            prefix: config.encode.prefix.clone(),
            hosts: config.postgres.hosts.iter().map(ToString::to_string).collect(),
            database: config.postgres.database.clone(),
            slot: config.slot.clone(),
            publication: config.publication.clone(),
            budget_bytes: config.budget_bytes as u64,
            ..Status::default()
        };
        metrics.budget_limit_bytes.set(gauge(config.budget_bytes as u64));
        metrics.phase.set(Phase::Connecting.name());
        Reporter {
            metrics,
            sender,
            status,
            trouble: None,
            warnings: Warnings { standing: config.warnings.clone(), unidentified: None },
            tables: BTreeMap::new(),
            updated_ms: 0,
            answers: Answers::default(),
            operators: operators::Operators::new(),
            pace: Pace::new(Instant::now()),
            flow: rates::Flow::default(),
            outlook: Outlook::default(),
            lag: Lag::default(),
            copy: CopyReport::default(),
            schemas: schemas::Schemas::default(),
        }
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The epoch of the last proven connection. 0 before the first one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.status.epoch
    }

    /// Reports that a connection is open and that its continuity is proven.
    pub fn opened(
        &mut self,
        config: &Config,
        opened: &Opened,
        server: &SystemIdentity,
        sql: &Sql,
        captured: &[TableName],
        warnings: Vec<String>,
    ) {
        let record = &opened.record;
        let is_first = self.status.system_id.is_empty();
        if !is_first {
            self.status.reconnects += 1;
            let cause = self.status.errors.last().map_or("", |error| error.reason.as_str());
            self.metrics.reconnected(Peer::Source, cause);
        }
        info!(
            slot = config.slot,
            from = %opened.resume.from,
            term = record.term,
            epoch = record.epoch,
            tables = captured.len(),
            server = sql.server_version(),
            "connected: continuity is proven"
        );
        let standing = &self.warnings.standing;
        let warnings: Vec<String> = standing.iter().cloned().chain(warnings).collect();
        for warning in warnings
            .iter()
            .filter(|warning| !standing.contains(warning))
            .filter(|warning| !self.status.warnings.contains(warning))
        {
            warn!("{warning}");
        }
        self.status.warnings = warnings;
        self.warnings.unidentified = None;
        let position = (record.epoch, server.timeline);
        self.lag.opened((self.status.epoch, self.status.timeline) != position);
        self.status.system_id = server.system_id.to_string();
        self.status.timeline = server.timeline;
        self.status.server_version = sql.server_version();
        self.status.epoch = record.epoch;
        self.status.term = record.term;
        for table in captured {
            let waiting = TableStatus { state: "waiting".to_owned(), ..TableStatus::default() };
            self.status.tables.entry(table.to_string()).or_insert(waiting);
        }
        self.trouble_over();
        self.updated_ms = 0;
    }

    /// Warns if the topic of the state is not proven to be compacted.
    pub fn state(&mut self, state: &State) {
        if let State::Topic(topic) = state
            && topic.info().cleanup_policy.proven().is_none()
        {
            let name = &topic.info().name;
            let warning =
                format!("topic `{name}`: not proven that its cleanup.policy is `compact`");
            self.warnings.standing.push(warning);
        }
    }

    /// Reports the plan of a table, with its warnings.
    pub fn planned(&mut self, ready: &Ready) {
        info!(
            table = ready.name,
            topic = ready.plan.topic(),
            partitions = ready.partitions,
            "the records of this table go to this topic"
        );
        self.tables.insert(ready.name.clone(), self.metrics.table(&ready.name));
        let table = self.status.tables.entry(ready.name.clone()).or_default();
        table.topic = ready.plan.topic().to_owned();
        table.routed = ready.plan.router().is_some();
        table.state = "streaming".to_owned();
        (table.reason, table.detail, table.next) = (String::new(), String::new(), String::new());
        table.schema_ids.clone_from(&ready.ids);
        for warning in &ready.warnings {
            if !self.status.warnings.contains(warning) {
                warn!("{warning}");
                self.status.warnings.push(warning.clone());
            }
        }
        self.updated_ms = 0;
    }

    /// Reports the plan of one topic of a table whose rows name their topics, with its warnings.
    pub fn route_planned(&mut self, table: &str, ready: &Ready) {
        let (topic, partitions) = (ready.plan.topic(), ready.partitions);
        info!(table, topic, partitions, "planned a topic of the table");
        for warning in &ready.warnings {
            if !self.status.warnings.contains(warning) {
                warn!("{warning}");
                self.status.warnings.push(warning.clone());
            }
        }
        self.updated_ms = 0;
    }

    /// Counts delivery reports, and logs those that failed.
    pub fn delivered(&mut self, deliveries: &[Delivery]) {
        let landed = deliveries.iter().filter(|delivery| delivery.outcome.is_ok()).count() as u64;
        self.metrics.records_delivered.inc_by(landed);
        self.answers.answered_ms = super::runner::unix_nanos() / 1_000_000;
        if landed > 0 {
            self.answers.login_refused_ms = None;
        }
        if let Some((ticket, since)) = self.answers.measured
            && deliveries.iter().any(|delivery| delivery.ticket == ticket)
        {
            self.answers.measured = None;
            self.metrics.stages.took(Stage::Broker, since.elapsed().as_secs_f64());
        }
        for failed in deliveries.iter().filter_map(|delivery| delivery.outcome.err()) {
            self.metrics.records_failed.inc();
            if !failed.purged {
                warn!(
                    code = ?failed.code, class = ?classify(failed.code),
                    "a delivery failed; the producer is rebuilt and the stream read again"
                );
                self.metrics.reconnected(Peer::Sink, TroubleReason::KafkaUnavailable.code());
            }
        }
    }

    /// Counts a checkpoint that is acknowledged, and ends trouble with Kafka.
    pub fn recorded(&mut self) {
        self.metrics.confirm_records.inc();
        let of_kafka = [
            TroubleReason::StateUnavailable,
            TroubleReason::KafkaUnavailable,
            TroubleReason::KafkaRefuses,
        ];
        // As a rule, an earlier checkpoint that failed has reported this trouble.
        if self.trouble.as_ref().is_some_and(|trouble| of_kafka.contains(&trouble.reason)) {
            self.trouble(None);
        }
    }

    /// Counts a status update that goes out.
    pub fn updated(&mut self) {
        self.metrics.status_updates.inc();
    }

    /// Reports that another producer writes to this topic of ours. Without a topic nothing is
    /// reported.
    pub fn foreign(&mut self, topic: Option<&String>) {
        let Some(topic) = topic else { return };
        warn!(
            topic,
            "another producer's records lie between ours; see wellspring_foreign_writes_total"
        );
        self.metrics.foreign_write(topic, 1);
        *self.status.foreign_writes.entry(topic.clone()).or_default() += 1;
    }

    /// Logs that the stream is read again, because late records were found.
    pub fn replay(&mut self) {
        warn!(
            "records of an earlier producer landed late: the stream is read again from the \
             confirmed position"
        );
    }

    /// Makes the next turn renew the status, because a request from outside may change the status.
    pub fn count_request(&mut self) {
        self.updated_ms = 0;
    }

    /// Publishes the status while the agent waits for Kafka, before it has connected to Postgres. A
    /// reported trouble is shown as the phase `Retrying`.
    pub fn waiting(&mut self, now_ms: i64) {
        self.metrics.heartbeat.beat(now_ms);
        let Some(trouble) = &self.trouble else {
            self.sender.send_replace(self.status.told());
            return;
        };
        if self.status.reason != trouble.reason.code() {
            self.status.since_ms = now_ms;
            self.metrics.phase.set(Phase::Retrying.name());
        }
        self.status.phase = Phase::Retrying;
        self.status.reason = trouble.reason.code().to_owned();
        (self.status.detail, self.status.next) = (trouble.detail.clone(), trouble.next.clone());
        self.sender.send_replace(self.status.told());
    }

    /// Brings the metrics up to date, and the status at most every [`UPDATE_MS`].
    pub fn update(&mut self, core: &mut Core, now_ms: i64) {
        self.metrics.heartbeat.beat(now_ms);
        for at in core.take_acknowledged() {
            let seconds = (now_ms * 1000 - at.unix_micros()) as f64 / 1e6;
            self.metrics.commit_to_ack_seconds.observe(seconds.max(0.0));
            self.metrics.transactions.inc();
        }
        self.positions(core, now_ms * 1000);
        if now_ms - self.updated_ms < UPDATE_MS {
            return;
        }
        self.updated_ms = now_ms;
        if core.ledger().is_settled() {
            self.answers.answered_ms = now_ms;
        }
        // A silent broker holds up everything, even while the budget has room. The measured time of
        // the loop does not show that.
        let since = now_ms - self.answers.answered_ms.max(self.status.now_ms);
        if now_ms.saturating_sub(self.answers.answered_ms) > BROKER_STALL_MS
            && !core.is_full()
            && self.status.now_ms > 0
        {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since the last telling")]
            self.metrics.stages.held_up(Stage::Broker, since as f64 / 1000.0);
        }
        self.levels(core, now_ms);
        let PhaseReport { phase, reason, detail, next } = self.phase(core, now_ms);
        if phase != self.status.phase || reason != self.status.reason {
            self.status.since_ms = now_ms;
            self.metrics.phase.set(phase.name());
            match phase {
                Phase::Streaming if self.status.phase != phase => info!("streaming: changes flow"),
                // A silent broker makes no call fail, so nothing else logs this phase.
                Phase::Retrying if self.trouble.is_none() && !reason.is_empty() => {
                    warn!(reason, next, "{detail}");
                }
                _ => {}
            }
        }
        self.status.needs_a_person = self.needs_a_person(core, &reason);
        self.metrics.needs_a_person.set(i64::from(self.status.needs_a_person));
        self.flow(now_ms);
        self.status.operators = self.operators.told();
        self.status.range = core.halted().and_then(|halt| halt.range);
        self.status.stands_at =
            core.halted().and_then(|halt| halt.place.as_deref()).map(ChangeStatus::from);
        (self.status.phase, self.status.reason, self.status.detail, self.status.next) =
            (phase, reason, detail, next);
        // The channel keeps the status for the next reader, even if nobody listens now.
        self.sender.send_replace(self.status.told());
    }

    /// Updates the values that are renewed only together with the status, such as the lag and the
    /// records in flight.
    fn levels(&mut self, core: &Core, now_ms: i64) {
        let ledger = core.ledger();
        let status = &mut self.status;
        for (name, metrics) in &self.tables {
            if let Some(table) = status.tables.get_mut(name) {
                table.changes = metrics.changes();
                table.filtered = metrics.filtered.get();
            }
        }
        status.lag_seconds = self.lag.since().seconds(now_ms * 1000);
        status.in_flight_records = ledger.in_flight_records() as u64;
        status.in_flight_bytes = ledger.in_flight_bytes() as u64;
        let held = core.held_until().map(|until| until.since(core.now()) / 1000);
        match (held, status.quarantine_until_ms > 0) {
            (Some(left), false) => {
                info!(seconds = left / 1000, "confirming is held: late records may still land");
            }
            (None, true) => info!("confirming is not held any more"),
            _ => {}
        }
        status.quarantine_until_ms =
            held.map_or(0, |left| now_ms + i64::try_from(left).unwrap_or(i64::MAX - now_ms));
        let metrics = &self.metrics;
        metrics.in_flight_records.set(gauge(status.in_flight_records));
        metrics.in_flight_bytes.set(gauge(status.in_flight_bytes));
        metrics.budget_used_bytes.set(gauge(core.budget_used_bytes() as u64));
        metrics.quarantine_active.set(i64::from(held.is_some()));
        let produced = core.next_ticket().0 - 1;
        metrics.records_produced.inc_by(produced.saturating_sub(metrics.records_produced.get()));
    }
}

/// Converts a number for a gauge, which is signed. A number beyond its range becomes the largest
/// one.
fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
