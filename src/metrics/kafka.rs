//! Metrics from librdkafka's own statistics: its queue, its connections, and the latency of the
//! brokers.
//!
//! librdkafka delivers the statistics a few times a minute. `kafka` reads them, and `agent` sets
//! the metrics.

use super::declare::Declare;
use prometheus::{Gauge, IntCounter, IntGauge};

/// The metrics whose names begin with `wellspring_kafka_`.
#[derive(Clone, Debug)]
pub struct KafkaMetrics {
    /// `wellspring_kafka_queue_records`: records that librdkafka queues or has sent without an
    /// answer.
    pub queue_records: IntGauge,
    /// `wellspring_kafka_queue_bytes`: bytes of the records that librdkafka queues or has sent
    /// without an answer, as librdkafka counts them.
    pub queue_bytes: IntGauge,
    /// `wellspring_kafka_brokers_up`: brokers with a working connection.
    pub brokers_up: IntGauge,
    /// `wellspring_kafka_queue_seconds`: time within which 99 of 100 records left the queue, in the
    /// last statistics window, for the slowest broker.
    pub queue_seconds: Gauge,
    /// `wellspring_kafka_round_trip_seconds`: time within which 99 of 100 requests were answered,
    /// in the last statistics window, for the slowest broker.
    pub round_trip_seconds: Gauge,
    /// `wellspring_kafka_sent_bytes_total`: bytes sent to brokers.
    pub sent_bytes: IntCounter,
    /// `wellspring_kafka_request_retries_total`: requests that were repeated.
    pub retries: IntCounter,
    /// `wellspring_kafka_request_timeouts_total`: requests that got no answer in time.
    pub timeouts: IntCounter,
    /// `wellspring_kafka_disconnects_total`: connections to brokers that were lost.
    pub disconnects: IntCounter,
}

impl KafkaMetrics {
    pub(super) fn declare(to: &Declare) -> Self {
        KafkaMetrics {
            queue_records: to.gauge(
                "kafka_queue_records",
                "Records that librdkafka queues or has sent without an answer.",
            ),
            queue_bytes: to.gauge(
                "kafka_queue_bytes",
                "Bytes of the records that librdkafka queues or has sent without an answer.",
            ),
            brokers_up: to.gauge("kafka_brokers_up", "Brokers with a working connection."),
            queue_seconds: to.float(
                "kafka_queue_seconds",
                "Seconds that a record waits in librdkafka's queue: 99th percentile of the slowest \
                 broker.",
            ),
            round_trip_seconds: to.float(
                "kafka_round_trip_seconds",
                "Seconds until a broker answers a request: 99th percentile of the slowest broker.",
            ),
            sent_bytes: to.counter("kafka_sent_bytes_total", "Bytes sent to brokers."),
            retries: to
                .counter("kafka_request_retries_total", "Requests to brokers that were repeated."),
            timeouts: to.counter(
                "kafka_request_timeouts_total",
                "Requests to brokers that got no answer in time.",
            ),
            disconnects: to.counter("kafka_disconnects_total", "Lost connections to brokers."),
        }
    }
}
