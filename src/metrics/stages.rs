//! Where the time goes: five stages from the server's log to Kafka's acknowledgement.
//!
//! Each stage has a histogram of how long one message takes there, and a counter of the seconds in which it held up the
//! others. The rate of the counter is the stage's utilisation, between 0 and 1: the largest is the bottleneck, and what
//! is missing to 1 is idle time.

use super::{Declare, labels::LATENCY_BUCKETS};
use prometheus::{Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, Opts};

/// One part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the walsender while it has more to send.
    Source,
    /// Bytes to changes.
    Decode,
    /// Changes to records in the producer's queue.
    Encode,
    /// Looking up what a table needs: catalog, topic, schema ids.
    Registry,
    /// Waiting for acknowledgements, the byte budget used up.
    Broker,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Stage; 5] = [Stage::Source, Stage::Decode, Stage::Encode, Stage::Registry, Stage::Broker];

    /// The label's value, and the word in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Source => "source",
            Stage::Decode => "decode",
            Stage::Encode => "encode",
            Stage::Registry => "registry",
            Stage::Broker => "broker",
        }
    }
}

/// Times of the stages.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    /// `wellspring_stage_seconds{stage}`: what one message takes; one of each burst is measured. `source` is from the
    /// server's sending to our handling, by both clocks; `broker` from the producer's queue to the acknowledgement.
    seconds: [Histogram; Stage::ALL.len()],
    /// `wellspring_stage_busy_seconds_total{stage}`: time in which the stage held up the others.
    busy: [Counter; Stage::ALL.len()],
}

impl StageMetrics {
    pub(super) fn declare(to: &Declare) -> Self {
        let help = "Seconds that one message takes in a stage, measured for one message of each burst.";
        let options = HistogramOpts::new(super::full("stage_seconds"), help).buckets(buckets());
        let seconds = to.add(HistogramVec::new(options, &["stage"]));
        let help = "Seconds in which a stage held up the others; the stage with the highest rate is the bottleneck.";
        let busy = to.add(CounterVec::new(Opts::new(super::full("stage_busy_seconds_total"), help), &["stage"]));
        StageMetrics {
            seconds: Stage::ALL.map(|stage| seconds.with_label_values(&[stage.name()])),
            busy: Stage::ALL.map(|stage| busy.with_label_values(&[stage.name()])),
        }
    }

    /// Notes what one message took.
    pub fn took(&self, stage: Stage, seconds: f64) {
        self.seconds[stage as usize].observe(seconds.max(0.0));
    }

    /// Notes time in which a stage held up the others.
    pub fn held_up(&self, stage: Stage, seconds: f64) {
        self.busy[stage as usize].inc_by(seconds.max(0.0));
    }

    /// Seconds so far in which the stage held up the others.
    #[must_use]
    pub fn busy_seconds(&self, stage: Stage) -> f64 {
        self.busy[stage as usize].get()
    }

    /// Seconds one message took on average so far, and how many were measured.
    #[must_use]
    pub fn sum_and_count(&self, stage: Stage) -> (f64, u64) {
        let histogram = &self.seconds[stage as usize];
        (histogram.get_sample_sum(), histogram.get_sample_count())
    }
}

/// Decoding takes parts of a microsecond, an acknowledgement milliseconds, a registry that waits minutes.
fn buckets() -> Vec<f64> {
    let fast = [0.000_000_2, 0.000_000_5, 0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_05, 0.000_2];
    fast.into_iter().chain(LATENCY_BUCKETS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_stage_in_the_list_is_a_place_in_the_array() {
        assert!(Stage::ALL.iter().enumerate().all(|(i, stage)| *stage as usize == i));
    }

    #[test]
    fn each_stage_counts_for_itself() {
        let metrics = Metrics::new("0");
        metrics.stages.took(Stage::Decode, 0.000_001);
        metrics.stages.held_up(Stage::Broker, 1.5);
        metrics.stages.held_up(Stage::Broker, -1.0);
        let text = metrics.render();
        for line in [
            "wellspring_stage_seconds_count{stage=\"decode\"} 1",
            "wellspring_stage_seconds_count{stage=\"source\"} 0",
            "wellspring_stage_busy_seconds_total{stage=\"broker\"} 1.5",
            "wellspring_stage_busy_seconds_total{stage=\"source\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
