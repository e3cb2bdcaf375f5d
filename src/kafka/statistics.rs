//! librdkafka's statistics, reduced to the few numbers that are used.
//!
//! The text of the statistics holds every partition and may be megabytes long. A field that the
//! structs of this file do not name is skipped and not stored.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The statistics of one producer. Counts begin at the producer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Number of records in librdkafka's queue or on their way to a broker.
    pub queue_records: u64,
    /// Bytes of the records in librdkafka's queue or on their way to a broker, as librdkafka
    /// counts.
    pub queue_bytes: u64,
    /// Number of known brokers, from the configuration or from the cluster's metadata, connected or
    /// not.
    pub brokers_known: u64,
    /// Number of brokers with a working connection.
    pub brokers_up: u64,
    /// How many seconds a record waits in librdkafka's queue: the 99th percentile of the last
    /// window of measurement, of the slowest broker.
    pub queue_seconds: f64,
    /// How many seconds a request takes until its answer: the 99th percentile of the last window of
    /// measurement, of the slowest broker.
    pub round_trip_seconds: f64,
    /// Number of bytes sent to brokers, repeated requests included.
    pub sent_bytes: u64,
    pub(crate) retries: u64,
    /// Number of requests to brokers that got no answer in time.
    pub timeouts: u64,
    pub(crate) disconnects: u64,
}

#[derive(Deserialize)]
struct Whole {
    msg_cnt: u64,
    msg_size: u64,
    tx_bytes: u64,
    brokers: BTreeMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
    /// Where librdkafka has the broker from: `configured`, `learned`, `logical`, or `internal` for
    /// an entry that stands for no server.
    #[serde(default)]
    source: String,
    #[serde(default)]
    txretries: u64,
    #[serde(default)]
    req_timeouts: u64,
    #[serde(default)]
    disconnects: u64,
    #[serde(default)]
    int_latency: Window,
    #[serde(default)]
    rtt: Window,
}

#[derive(Default, Deserialize)]
struct Window {
    #[serde(default)]
    p99: i64,
}

impl Statistics {
    /// Reads librdkafka's JSON. `None` if it does not have the expected form.
    #[must_use]
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let whole: Whole = serde_json::from_slice(json).ok()?;
        let brokers = || whole.brokers.values();
        let worst = |micros: fn(&Broker) -> i64| {
            let micros = brokers().map(micros).max().unwrap_or(0);
            u32::try_from(micros).map_or(0.0, |micros| f64::from(micros) / 1e6)
        };
        Some(Statistics {
            queue_records: whole.msg_cnt,
            queue_bytes: whole.msg_size,
            brokers_known: brokers().filter(|broker| broker.source != "internal").count() as u64,
            brokers_up: brokers().filter(|broker| broker.state == "UP").count() as u64,
            queue_seconds: worst(|broker| broker.int_latency.p99),
            round_trip_seconds: worst(|broker| broker.rtt.p99),
            sent_bytes: whole.tx_bytes,
            retries: brokers().map(|broker| broker.txretries).sum(),
            timeouts: brokers().map(|broker| broker.req_timeouts).sum(),
            disconnects: brokers().map(|broker| broker.disconnects).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_worst_broker_and_the_sum_of_what_went_wrong() {
        let json =
            br#"{"name":"p","msg_cnt":3,"msg_size":300,"tx_bytes":7000,"topics":{"t":{"partitions":{}}},"brokers":{
            "a:1/0":{"state":"UP","txretries":1,"disconnects":2,"int_latency":{"p99":5000,"avg":1},"rtt":{"p99":2000}},
            "b:1/1":{"state":"DOWN","txretries":2,"req_timeouts":4,"int_latency":{"p99":9000},"rtt":{"p99":1000}}}}"#;
        let expected = Statistics {
            queue_records: 3,
            queue_bytes: 300,
            brokers_known: 2,
            brokers_up: 1,
            queue_seconds: 0.009,
            round_trip_seconds: 0.002,
            sent_bytes: 7000,
            retries: 3,
            timeouts: 4,
            disconnects: 2,
        };
        assert_eq!(Statistics::read(json), Some(expected));
        assert_eq!(Statistics::read(b"{}"), None);
    }
}
