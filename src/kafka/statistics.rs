//! librdkafka's statistics, reduced to the few numbers that are used.
//!
//! The text of the statistics holds every partition and may be megabytes long. A field that the
//! structs of this file do not name is skipped and not stored.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// A client counts as abandoned after this many statistics in a row without any broker, which takes
/// 15 s. A client that looks for its brokers anew knows those of its configuration again within a
/// second.
const BROKERLESS_MAX: u32 = 3;

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

/// Counts the statistics in a row without any broker, to notice a client that has lost all of them.
///
/// librdkafka 2.12 can come into a state in which it knows no broker and looks for none (its issue
/// 5301). The client then never connects again, although the cluster works. Only another client
/// helps.
#[derive(Debug, Default)]
pub(crate) struct Brokerless {
    in_a_row: AtomicU32,
}

impl Brokerless {
    /// Notes the number of brokers that the client knows by its next statistics.
    pub fn note(&self, brokers_known: u64) {
        if brokers_known > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        } else {
            self.in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the client has been without brokers for so long that it is to be replaced.
    pub fn is_final(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= BROKERLESS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_replaced_once_it_stays_without_brokers() {
        let internal =
            br#"{"msg_cnt":1,"msg_size":1,"tx_bytes":0,"brokers":{":0/internal":{"state":"UP","source":"internal"}}}"#;
        let known = Statistics::read(internal).map(|statistics| statistics.brokers_known);
        assert_eq!(known, Some(0));
        let brokerless = Brokerless::default();
        let finals = [0, 0, 1, 0, 0, 0].map(|known| {
            brokerless.note(known);
            brokerless.is_final()
        });
        assert_eq!(finals, [false, false, false, false, false, true]);
    }

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
