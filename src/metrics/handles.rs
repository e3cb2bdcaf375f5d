//! Handles of metrics for which the Prometheus client has no type: a time, and a set of gauges.

use prometheus::core::Metric;
use prometheus::{Histogram, IntGauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Time of the main loop's last turn, in Unix milliseconds. 0 before its first turn.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<AtomicI64>);

impl Heartbeat {
    /// Notes that the main loop has made a turn at this time.
    pub fn beat(&self, now_unix_ms: i64) {
        self.0.store(now_unix_ms, Ordering::Relaxed);
    }

    /// Time of the loop's last turn, in Unix milliseconds; 0 before its first turn.
    #[must_use]
    pub fn last_unix_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge for each state of a fixed set: 1 for the current one, 0 for the others.
#[derive(Clone, Debug)]
pub struct OneHot(pub(super) Vec<(&'static str, IntGauge)>);

impl OneHot {
    /// Makes `name` the current state. A name outside the set leaves every gauge at 0.
    pub fn set(&self, name: &str) {
        for (state, gauge) in &self.0 {
            gauge.set(i64::from(*state == name));
        }
    }
}

/// Reads a histogram. Returns the upper bound in seconds of each bucket with the number of values
/// up to this bound, and then the number of all values.
#[must_use]
pub fn buckets(histogram: &Histogram) -> (Vec<(f64, u64)>, u64) {
    let metric = histogram.metric();
    let read = metric.get_histogram();
    let counts = read.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count()));
    (counts.collect(), read.get_sample_count())
}
