//! Every metric of the program, with its name, help, unit, labels and handle.
//!
//! Each agent has one [`Metrics`], built at start and cloned into the rooms that count. There are
//! no globals. Nothing is looked up by name for a row: the handles of a table are fetched once,
//! when its plan is made. The values of labels are bounded here ([`TABLES_MAX`], [`TOPICS_MAX`],
//! fixed enums), whatever the source does. No label holds a row value.
//!
//! This room does not judge positions or errors: `agent` sets the values, and `admin` renders them.

mod declare;
mod handles;
mod kafka;
mod labels;
mod lag;
mod process;
mod stages;
mod windows;

pub use handles::{Heartbeat, OneHot, buckets};
pub use kafka::KafkaMetrics;
pub use labels::{FINDINGS, Operation, PHASES, Peer, TABLES_MAX, TOPICS_MAX, WAL_STATUSES};
pub use lag::OldestOpen;
pub use stages::{Stage, StageMetrics};
pub use windows::{WINDOW_KINDS, WINDOW_STATES, WindowMetrics, WindowTotals};

use crate::reason;
use declare::{Declare, full};
use labels::{Admitted, OTHER};
use process::ProcessMetrics;
use prometheus::{
    Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// All metrics. Cloning is cheap and shares every handle.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// `wellspring_received_lsn_bytes`: end LSN of the last commit or keepalive that was received.
    pub received_lsn: IntGauge,
    /// `wellspring_delivered_lsn_bytes`: position before which Kafka has acknowledged everything.
    pub delivered_lsn: IntGauge,
    /// `wellspring_confirmed_lsn_bytes`: position up to which Postgres was told that it may discard
    /// WAL.
    pub confirmed_lsn: IntGauge,
    /// `wellspring_slot_restart_lsn_bytes`: the slot's restart_lsn, as last read.
    pub restart_lsn: Gauge,
    /// `wellspring_undelivered_bytes`: the server's WAL after the delivered position; NaN if
    /// unknown.
    pub undelivered_bytes: Gauge,
    /// `wellspring_unconfirmed_bytes`: the server's WAL after the confirmed position; NaN if
    /// unknown.
    pub unconfirmed_bytes: Gauge,
    /// The oldest commit that Kafka has not acknowledged. Its age is `wellspring_lag_seconds`.
    pub oldest_open: OldestOpen,
    lag_seconds: Gauge,
    /// `wellspring_commit_to_ack_seconds`: time from a commit on the server to the acknowledgement
    /// of the transaction's last record.
    pub commit_to_ack_seconds: Histogram,
    /// `wellspring_transactions_total`: transactions with changes of captured tables that Kafka
    /// acknowledged.
    pub transactions: IntCounter,
    /// `wellspring_messages_total`: logical messages published.
    pub messages: IntCounter,
    /// `wellspring_records_produced_total`: records handed to the producer.
    pub records_produced: IntCounter,
    /// `wellspring_records_delivered_total`: records that Kafka acknowledged.
    pub records_delivered: IntCounter,
    /// `wellspring_records_failed_total`: records whose delivery failed; each is replayed, none is
    /// skipped.
    pub records_failed: IntCounter,
    /// `wellspring_in_flight_records`: records that were produced and that Kafka has not answered.
    pub in_flight_records: IntGauge,
    /// `wellspring_in_flight_bytes`: bytes of the records in flight, with the overhead of each.
    pub in_flight_bytes: IntGauge,
    /// `wellspring_budget_limit_bytes`: the byte budget of `limits.memory`.
    pub budget_limit_bytes: IntGauge,
    /// `wellspring_budget_used_bytes`: bytes of the byte budget that are in use.
    pub budget_used_bytes: IntGauge,
    /// `wellspring_registry_requests_total`: requests sent to the schema registry.
    pub registry_requests: IntCounter,
    /// `wellspring_registry_failures_total`: registry requests that got no usable answer.
    pub registry_failures: IntCounter,
    /// `wellspring_topic_requests_total`: requests to Kafka that describe or create topics.
    pub topic_requests: IntCounter,
    /// `wellspring_schema_ids_unproven`: recorded schema ids in use that the registry has not
    /// confirmed.
    pub schema_ids_unproven: IntGauge,
    /// `wellspring_received_bytes_total`: bytes read from the replication connection.
    pub received_bytes: IntCounter,
    /// `wellspring_received_messages_total`: messages read from the replication connection,
    /// keepalives included.
    pub received_messages: IntCounter,
    /// Metrics of the time in each stage between the server's WAL and Kafka.
    pub stages: StageMetrics,
    /// Metrics of queue, connections and latencies, from librdkafka's statistics.
    pub kafka: KafkaMetrics,
    /// `wellspring_status_updates_total`: status updates sent to Postgres.
    pub status_updates: IntCounter,
    /// `wellspring_confirm_records_total`: checkpoints that the state topic acknowledged.
    pub confirm_records: IntCounter,
    /// `wellspring_quarantine_active`: 1 during a confirm hold.
    pub quarantine_active: IntGauge,
    /// `wellspring_tables_detached`: captured tables that are detached, including those under
    /// repair.
    pub tables_detached: IntGauge,
    /// `wellspring_quarantined_total`: changes that were sent to the quarantine topic.
    pub quarantined: IntCounter,
    /// `wellspring_truncates_not_sent_total`: truncates that were not published because the topic
    /// is compacted, or because rows name their topics.
    pub truncates_not_sent: IntCounter,
    /// `wellspring_copy_rows`: rows sent by the first copy.
    pub copy_rows: IntGauge,
    /// `wellspring_copy_rows_expected`: rows that the first copy is expected to send, by the
    /// statistics of the tables.
    pub copy_rows_expected: IntGauge,
    /// `wellspring_copy_remaining_seconds`: seconds until the end of the first copy at the rate of
    /// the last seconds; -1 if unknown.
    pub copy_remaining_seconds: Gauge,
    /// `wellspring_copy_tables_open`: tables of the first copy that are not copied yet.
    pub copy_tables_open: IntGauge,
    /// `wellspring_copy_tables_left`: tables whose topics lack existing rows, because no copy
    /// could bring them.
    pub copy_tables_left: IntGauge,
    /// Metrics of backfills and standstills.
    pub windows: WindowMetrics,
    /// `wellspring_slot_retained_bytes`: WAL that the server keeps for the slot, as last read.
    pub slot_retained_bytes: Gauge,
    /// `wellspring_slot_safe_wal_bytes`: WAL until the slot is lost; 0 if lost, -1 without limit.
    pub slot_safe_wal_bytes: Gauge,
    /// `wellspring_slot_limit_bytes`: the most WAL the server keeps for a slot; -1 without a limit.
    pub slot_limit_bytes: Gauge,
    /// `wellspring_slot_limit_forecast_seconds`: seconds until the limit at the present growth of
    /// the retained WAL; +Inf if it does not grow or if there is no limit.
    pub slot_limit_forecast_seconds: Gauge,
    /// `wellspring_slot_standstill_seconds`: seconds until the limit if nothing more were
    /// confirmed; +Inf without a limit.
    pub slot_standstill_seconds: Gauge,
    /// `wellspring_server_lsn_bytes`: the end of the server's WAL, as last read.
    pub server_lsn: Gauge,
    /// Time of the main loop's last turn. `/livez` reads it.
    pub heartbeat: Heartbeat,
    /// `wellspring_needs_a_person`: 1 while a person has to act, even if the stream runs.
    pub needs_a_person: IntGauge,
    /// `wellspring_phase{phase}`: 1 for the current phase, 0 for the others.
    pub phase: OneHot,
    /// `wellspring_slot_wal_status{status}`: 1 for the slot's current status, 0 for the others.
    pub slot_wal_status: OneHot,
    heartbeat_seconds: Gauge,
    process: ProcessMetrics,
    mode_info: IntGaugeVec,
    reconnects: IntCounterVec,
    findings: IntCounterVec,
    failures: IntCounterVec,
    rows: IntCounterVec,
    row_bytes: IntCounterVec,
    unrepresentable: IntCounterVec,
    filtered: IntCounterVec,
    foreign_writes: IntCounterVec,
    tables: Arc<Admitted<TABLES_MAX>>,
    topics: Arc<Admitted<TOPICS_MAX>>,
}

/// Counters of one table, fetched once for each plan. All tables beyond the first [`TABLES_MAX`]
/// share the counters with the label `table="other"`.
#[derive(Clone, Debug)]
pub struct TableMetrics {
    rows: [IntCounter; Operation::ALL.len()],
    bytes: [IntCounter; Operation::ALL.len()],
    /// `wellspring_unrepresentable_values_total{table}`: values that were published in their
    /// documented substitute form.
    pub unrepresentable: IntCounter,
    /// `wellspring_rows_filtered_total{table}`: changes that the configuration leaves out.
    pub filtered: IntCounter,
}

impl TableMetrics {
    /// Number of the table's published changes so far, of all kinds together.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.rows.iter().map(IntCounter::get).sum()
    }

    /// Counts `rows` changes of one kind, and the bytes of their records' keys and values.
    pub fn count(&self, operation: Operation, rows: u64, bytes: u64) {
        self.rows[operation.index()].inc_by(rows);
        self.bytes[operation.index()].inc_by(bytes);
    }
}

impl Metrics {
    /// Every metric at zero. `version` is the program's version, for `wellspring_build_info`.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let to = Declare(Registry::new());
        to.labelled_gauge("build_info", "Always 1; the labels hold the version.", "version")
            .with_label_values(&[version])
            .set(1);
        let by_table = |name, help| to.labelled(name, help, &["table", "operation"]);
        let reconnects =
            to.labelled("reconnects_total", "Reconnects, by peer and cause.", &["peer", "reason"]);
        let failures = to.labelled("failures_total", "Failures, by reason code.", &["reason"]);
        // An alert on an increase needs the series to exist before the increase.
        for reason in reason::codes() {
            drop(failures.with_label_values(&[reason]));
        }
        let help = "Findings of the watch that do not halt the stream, by code.";
        let findings = to.labelled("watch_findings_total", help, &["code"]);
        FINDINGS.iter().for_each(|code| drop(findings.with_label_values(&[code])));
        for (peer, reason) in
            [(Peer::Source, "postgres_unavailable"), (Peer::Sink, "kafka_unavailable")]
        {
            drop(reconnects.with_label_values(&[peer.name(), reason]));
        }
        let one_hot = |name, help, label, states: &[&'static str]| {
            let gauges = to.labelled_gauge(name, help, label);
            OneHot(
                states.iter().map(|state| (*state, gauges.with_label_values(&[state]))).collect(),
            )
        };
        let metrics = Metrics {
            received_lsn: to.gauge(
                "received_lsn_bytes",
                "The end LSN of the last commit or keepalive that was received.",
            ),
            delivered_lsn: to.gauge(
                "delivered_lsn_bytes",
                "The LSN before which Kafka has acknowledged everything.",
            ),
            confirmed_lsn: to.gauge(
                "confirmed_lsn_bytes",
                "The LSN that was confirmed to Postgres, which may discard WAL before it.",
            ),
            restart_lsn: to
                .float("slot_restart_lsn_bytes", "The slot's restart_lsn; NaN if unknown."),
            undelivered_bytes: to.float(
                "undelivered_bytes",
                "Bytes of WAL that Kafka has not acknowledged; NaN if unknown.",
            ),
            unconfirmed_bytes: to.float(
                "unconfirmed_bytes",
                "Bytes of WAL that are not confirmed to the server; NaN if unknown.",
            ),
            oldest_open: OldestOpen::default(),
            lag_seconds: to.float(
                "lag_seconds",
                "Age of the oldest commit that Kafka has not acknowledged; NaN if unknown.",
            ),
            commit_to_ack_seconds: to.histogram(
                "commit_to_ack_seconds",
                "Seconds from a commit in Postgres to its acknowledgement by Kafka.",
            ),
            transactions: to.counter(
                "transactions_total",
                "Transactions with changes of captured tables that Kafka acknowledged.",
            ),
            messages: to.counter("messages_total", "Logical messages published."),
            records_produced: to
                .counter("records_produced_total", "Records that were handed to the producer."),
            records_delivered: to
                .counter("records_delivered_total", "Records that Kafka acknowledged."),
            records_failed: to.counter(
                "records_failed_total",
                "Records whose delivery failed. The stream is read again from before them.",
            ),
            in_flight_records: to.gauge(
                "in_flight_records",
                "Records that were produced and that Kafka has not answered yet.",
            ),
            in_flight_bytes: to.gauge(
                "in_flight_bytes",
                "Bytes of the records in flight, with 1 KiB of overhead for each record.",
            ),
            budget_limit_bytes: to
                .gauge("budget_limit_bytes", "The byte budget, which limits.memory sets."),
            budget_used_bytes: to
                .gauge("budget_used_bytes", "Bytes of the byte budget that are in use."),
            registry_requests: to
                .counter("registry_requests_total", "Requests to the schema registry."),
            registry_failures: to
                .counter("registry_failures_total", "Registry requests without a usable answer."),
            topic_requests: to.counter(
                "topic_requests_total",
                "Requests to Kafka that describe or create topics.",
            ),
            schema_ids_unproven: to.gauge(
                "schema_ids_unproven",
                "Recorded schema ids in use that the registry has not confirmed.",
            ),
            received_bytes: to
                .counter("received_bytes_total", "Bytes read from the replication connection."),
            received_messages: to.counter(
                "received_messages_total",
                "Messages read from the replication connection, keepalives included.",
            ),
            stages: StageMetrics::declare(&to),
            kafka: KafkaMetrics::declare(&to),
            status_updates: to.counter("status_updates_total", "Status updates sent to Postgres."),
            confirm_records: to
                .counter("confirm_records_total", "Checkpoints that the state topic acknowledged."),
            quarantine_active: to
                .gauge("quarantine_active", "1 during a confirm hold (limits.quarantine)."),
            tables_detached: to.gauge(
                "tables_detached",
                "Captured tables that are detached, including those under repair.",
            ),
            quarantined: to
                .counter("quarantined_total", "Changes that were sent to the quarantine topic."),
            truncates_not_sent: to.counter(
                "truncates_not_sent_total",
                "Truncates that were not published because the topic is compacted, or because rows \
                 name their topics.",
            ),
            copy_rows: to.gauge("copy_rows", "Rows sent by the first copy."),
            copy_rows_expected: to.gauge(
                "copy_rows_expected",
                "Rows that the first copy is expected to send, by the statistics of the tables.",
            ),
            copy_remaining_seconds: to.float(
                "copy_remaining_seconds",
                "Estimated seconds until the end of the first copy; -1 if unknown.",
            ),
            copy_tables_open: to
                .gauge("copy_tables_open", "Tables of the first copy that are not copied yet."),
            copy_tables_left: to.gauge(
                "copy_tables_left",
                "Tables whose topics lack existing rows, because no copy could bring them.",
            ),
            windows: WindowMetrics::declare(&to),
            slot_retained_bytes: to.float(
                "slot_retained_bytes",
                "Bytes of WAL that the server kept for the slot when it was last read; NaN before.",
            ),
            slot_safe_wal_bytes: to.float(
                "slot_safe_wal_bytes",
                "Bytes of WAL until the slot is lost; 0 if lost, -1 without limit, NaN if unknown.",
            ),
            slot_limit_bytes: to.float(
                "slot_limit_bytes",
                "The most WAL kept for a slot; -1 without a limit, NaN if unknown.",
            ),
            slot_limit_forecast_seconds: to.float(
                "slot_limit_forecast_seconds",
                "Seconds until the retained WAL is at its limit; +Inf if never, NaN if unknown.",
            ),
            slot_standstill_seconds: to.float(
                "slot_standstill_seconds",
                "Seconds until the limit if the slot stood still; NaN if unknown.",
            ),
            server_lsn: to
                .float("server_lsn_bytes", "The end of the server's WAL; NaN if unknown."),
            process: ProcessMetrics::declare(&to),
            mode_info: to.add(IntGaugeVec::new(
                Opts::new(
                    full("mode_info"),
                    "Always 1; labels: pipeline (`topics.prefix`), format, sink and snapshot mode.",
                ),
                &["pipeline", "format", "sink", "snapshot"],
            )),
            heartbeat: Heartbeat::default(),
            heartbeat_seconds: to.float(
                "loop_heartbeat_timestamp_seconds",
                "Time of the main loop's last turn, in seconds since 1970.",
            ),
            needs_a_person: to
                .gauge("needs_a_person", "1 while a person has to act, even if the stream runs."),
            phase: one_hot(
                "phase",
                "1 for the current phase of the agent, 0 for the others.",
                "phase",
                &PHASES,
            ),
            slot_wal_status: one_hot(
                "slot_wal_status",
                "1 for the current wal_status of the slot, 0 for the others.",
                "status",
                &WAL_STATUSES,
            ),
            reconnects,
            findings,
            failures,
            rows: by_table("rows_total", "Row changes and truncates published."),
            row_bytes: by_table(
                "row_bytes_total",
                "Bytes of the keys and values of published records.",
            ),
            unrepresentable: to.labelled(
                "unrepresentable_values_total",
                "Values that a field cannot represent and that were published in their documented \
                 substitute form.",
                &["table"],
            ),
            filtered: to.labelled(
                "rows_filtered_total",
                "Row changes that a filter, another transform or a setting such as \
                 events.deletes leaves out.",
                &["table"],
            ),
            foreign_writes: to.labelled(
                "foreign_writes_total",
                "Records of other producers that were found between records of the agent.",
                &["topic"],
            ),
            tables: Arc::default(),
            topics: Arc::default(),
            registry: to.0,
        };
        // Nothing is known of server and slot before the first reading.
        for unknown in [
            &metrics.restart_lsn,
            &metrics.server_lsn,
            &metrics.undelivered_bytes,
            &metrics.unconfirmed_bytes,
            &metrics.slot_retained_bytes,
            &metrics.slot_safe_wal_bytes,
            &metrics.slot_limit_bytes,
            &metrics.slot_limit_forecast_seconds,
            &metrics.slot_standstill_seconds,
        ] {
            unknown.set(f64::NAN);
        }
        metrics
    }

    /// Makes the handles of one table's counters, for its plan. `name` is `namespace.name`.
    #[must_use]
    pub fn table(&self, name: &impl Display) -> TableMetrics {
        let name = name.to_string();
        let label = if self.tables.admit(&name) { name.as_str() } else { OTHER };
        let each = |of: &IntCounterVec| {
            Operation::ALL.map(|operation| of.with_label_values(&[label, operation.name()]))
        };
        TableMetrics {
            rows: each(&self.rows),
            bytes: each(&self.row_bytes),
            unrepresentable: self.unrepresentable.with_label_values(&[label]),
            filtered: self.filtered.with_label_values(&[label]),
        }
    }

    /// Counts records that another program wrote to a topic. All topics beyond the first
    /// [`TOPICS_MAX`] share the label `topic="other"`.
    pub fn foreign_write(&self, topic: &str, records: u64) {
        let label = if self.topics.admit(topic) { topic } else { OTHER };
        self.foreign_writes.with_label_values(&[label]).inc_by(records);
    }

    /// Counts a finding of the watch that does not halt the stream.
    pub fn found(&self, code: &'static str) {
        self.findings.with_label_values(&[code]).inc();
    }

    /// Counts a connection that was made again. `reason` is the code of the reason for which the
    /// previous connection ended.
    pub fn reconnected(&self, peer: Peer, reason: &str) {
        self.reconnects.with_label_values(&[peer.name(), known(reason)]).inc();
    }

    /// Counts a halt, a trouble or a refused table in `wellspring_failures_total`, by its code.
    pub fn failed(&self, reason: &str) {
        self.failures.with_label_values(&[known(reason)]).inc();
    }

    /// Sets the labels of `wellspring_mode_info`, once at start.
    pub fn runs_as(&self, pipeline: &str, [format, sink, snapshot]: [&str; 3]) {
        self.mode_info.with_label_values(&[pipeline, format, sink, snapshot]).set(1);
    }

    /// Every metric in the Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        // Milliseconds of this century fit a float's 53 bits of precision.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a clock in milliseconds, exact below 2^53"
        )]
        self.heartbeat_seconds.set(self.heartbeat.last_unix_ms() as f64 / 1000.0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.lag_seconds.set(
            self.oldest_open.age_seconds(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        );
        self.process.read();
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            Ok(()) => text,
            // No metric is rendered then. A scrape without any metric is noticed, and a scrape that
            // lacks some is not.
            Err(error) => format!("# not rendered: {error}\n"),
        }
    }
}

/// The value of the label `reason`: the given code, or `other` if it is not a known code.
fn known(reason: &str) -> &'static str {
    reason::known(reason).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_rendered_with_its_help_before_it_ever_moves() {
        let metrics = Metrics::new("0.0.0");
        let _ = metrics.table(&"public.t");
        metrics.foreign_write("t", 0);
        let text = metrics.render();
        for line in [
            "wellspring_build_info{version=\"0.0.0\"} 1",
            "wellspring_lag_seconds NaN",
            "wellspring_phase{phase=\"streaming\"} 0",
            "wellspring_failures_total{reason=\"slot_lost\"} 0",
            "wellspring_slot_limit_forecast_seconds NaN",
            "wellspring_slot_retained_bytes NaN",
            "wellspring_slot_limit_bytes NaN",
            "wellspring_rows_total{operation=\"insert\",table=\"public.t\"} 0",
            "# HELP wellspring_confirmed_lsn_bytes The LSN that was confirmed to Postgres, which may discard WAL before it.",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn counts_a_table_under_its_name() {
        let metrics = Metrics::new("0");
        metrics.table(&"public.t").count(Operation::Update, 2, 300);
        metrics.table(&"public.t").count(Operation::Update, 1, 50);
        let text = metrics.render();
        assert!(
            text.contains("wellspring_rows_total{operation=\"update\",table=\"public.t\"} 3"),
            "{text}"
        );
        assert!(
            text.contains(
                "wellspring_row_bytes_total{operation=\"update\",table=\"public.t\"} 350"
            ),
            "{text}"
        );
    }

    #[test]
    fn tables_and_topics_beyond_the_bound_share_one_label() {
        let metrics = Metrics::new("0");
        for i in 0..TABLES_MAX + 50 {
            metrics.table(&format!("public.t{i}")).count(Operation::Insert, 1, 1);
            metrics.foreign_write(&format!("topic{i}"), 1);
        }
        let text = metrics.render();
        let tables = text
            .lines()
            .filter(|l| l.starts_with("wellspring_rows_total{operation=\"insert\""))
            .count();
        let topics =
            text.lines().filter(|l| l.starts_with("wellspring_foreign_writes_total{")).count();
        assert_eq!((tables, topics), (TABLES_MAX + 1, TOPICS_MAX + 1));
        assert!(
            text.contains("wellspring_rows_total{operation=\"insert\",table=\"other\"} 50"),
            "{text}"
        );
    }

    #[test]
    fn lag_grows_with_the_clock_and_is_0_only_if_that_is_known() {
        let metrics = Metrics::new("0");
        assert!(metrics.render().contains("wellspring_lag_seconds NaN\n"));
        metrics.oldest_open.set(None, Some(i64::MAX));
        assert!(metrics.render().contains("wellspring_lag_seconds 0\n"));
        metrics.oldest_open.set(Some(1_000_000), None);
        let text = metrics.render();
        assert!(
            !text.contains("wellspring_lag_seconds 0\n")
                && !text.contains("wellspring_lag_seconds NaN\n")
        );
    }

    #[test]
    fn one_phase_is_current() {
        let metrics = Metrics::new("0");
        metrics.phase.set("connecting");
        metrics.phase.set("halted");
        let text = metrics.render();
        assert_eq!(
            text.lines()
                .filter(|l| l.starts_with("wellspring_phase{") && l.ends_with(" 1"))
                .count(),
            1
        );
        assert!(text.contains("wellspring_phase{phase=\"halted\"} 1"));
    }

    #[test]
    fn clones_count_together_and_two_agents_do_not() {
        let (one, other) = (Metrics::new("0"), Metrics::new("0"));
        one.clone().failed("registry_unavailable");
        one.failed("a row's value");
        one.reconnected(Peer::Sink, "kafka_unavailable");
        one.heartbeat.beat(1_500);
        assert!(
            one.render().contains("wellspring_failures_total{reason=\"registry_unavailable\"} 1")
        );
        assert!(one.render().contains("wellspring_failures_total{reason=\"other\"} 1"));
        assert!(
            one.render().contains(
                "wellspring_reconnects_total{peer=\"sink\",reason=\"kafka_unavailable\"} 1"
            )
        );
        assert!(one.render().contains("wellspring_loop_heartbeat_timestamp_seconds 1.5"));
        assert!(
            other.render().contains("wellspring_failures_total{reason=\"registry_unavailable\"} 0")
        );
    }
}
