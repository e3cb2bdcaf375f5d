//! Time in each of the five stages from the server's WAL to Kafka's acknowledgement.
//!
//! Each stage has a histogram of the time that one message takes, and a counter of the seconds in
//! which the stage delayed the others. The counter's rate is the utilisation of the stage, between
//! 0 and 1. The stage with the highest rate is the bottleneck. The rest up to 1 is idle time.

use super::declare::{Declare, full};
use super::labels::LATENCY_BUCKETS;
use prometheus::{Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, Opts};

/// A stage on the way of a change from Postgres to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for bytes from Postgres while the walsender still has changes to send.
    Source,
    /// Decoding bytes into changes.
    Decode,
    /// Encoding changes into records in the producer's queue.
    Encode,
    /// Looking up the catalog, topic and schema ids that a table needs.
    Registry,
    /// Waiting for acknowledgements because the byte budget is used up.
    Broker,
}

impl Stage {
    /// Every stage, in the order in which a change passes them.
    pub const ALL: [Stage; 5] =
        [Stage::Source, Stage::Decode, Stage::Encode, Stage::Registry, Stage::Broker];

    /// The value of the label `stage`, and the stage's name in `/status`.
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

/// Histograms and counters of all stages.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    /// `wellspring_stage_seconds{stage}`: time of one message, measured once in each burst.
    /// `source` runs from the server's sending, by the server's clock, to our handling, by our
    /// clock. `broker` runs from the producer's queue to the acknowledgement.
    seconds: [Histogram; Stage::ALL.len()],
    /// `wellspring_stage_busy_seconds_total{stage}`: time in which the stage delayed the others.
    busy: [Counter; Stage::ALL.len()],
}

impl StageMetrics {
    pub(super) fn declare(to: &Declare) -> Self {
        let help =
            "Seconds that one message takes in a stage, measured for one message of each burst.";
        let options = HistogramOpts::new(full("stage_seconds"), help).buckets(buckets());
        let seconds = to.add(HistogramVec::new(options, &["stage"]));
        let help = "Seconds in which a stage held up the others; the stage with the highest rate \
            is the bottleneck.";
        let busy =
            to.add(CounterVec::new(Opts::new(full("stage_busy_seconds_total"), help), &["stage"]));
        StageMetrics {
            seconds: Stage::ALL.map(|stage| seconds.with_label_values(&[stage.name()])),
            busy: Stage::ALL.map(|stage| busy.with_label_values(&[stage.name()])),
        }
    }

    /// Adds the time that one message took in this stage to the stage's histogram.
    pub fn took(&self, stage: Stage, seconds: f64) {
        self.seconds[stage as usize].observe(seconds.max(0.0));
    }

    /// Adds time in which a stage delayed the others.
    pub fn held_up(&self, stage: Stage, seconds: f64) {
        self.busy[stage as usize].inc_by(seconds.max(0.0));
    }

    /// Seconds so far in which the stage delayed the others.
    #[must_use]
    pub fn busy_seconds(&self, stage: Stage) -> f64 {
        self.busy[stage as usize].get()
    }

    /// Sum in seconds of the times that [`StageMetrics::took`] was given for a stage, and how many
    /// it was given.
    #[must_use]
    pub fn sum_and_count(&self, stage: Stage) -> (f64, u64) {
        let histogram = &self.seconds[stage as usize];
        (histogram.get_sample_sum(), histogram.get_sample_count())
    }
}

/// Bounds of the histograms' buckets in seconds. Decoding takes parts of a microsecond, an
/// acknowledgement takes milliseconds, and waiting for a registry takes up to minutes.
fn buckets() -> Vec<f64> {
    let fast =
        [0.000_000_2, 0.000_000_5, 0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_05, 0.000_2];
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
