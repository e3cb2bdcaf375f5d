//! Percentiles of the delay from a commit to its acknowledgement by Kafka, over the last minute.
//! They are computed from readings of a histogram, so that no single commit has to be kept.

use serde::Serialize;
use std::collections::VecDeque;

/// The percentiles are computed from the commits that were acknowledged within this last time.
const WINDOW_MS: i64 = 60_000;

/// The least time between two readings that are kept. It bounds the number of readings.
const SPACING_MS: i64 = 5_000;

/// Percentiles of the delay over the last minute; `None` if no commit was acknowledged in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DelayStatus {
    /// Half of the commits were acknowledged within so many seconds. 60 stands for any longer time.
    pub p50_seconds: Option<f64>,
    /// 99 of 100 commits were acknowledged within so many seconds. 60 stands for any longer time.
    pub p99_seconds: Option<f64>,
}

/// One reading of a histogram.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    /// Upper bound of each bucket in seconds, and the number of values up to it. Both rise.
    pub counts: Vec<(f64, u64)>,
    /// Number of all values, those above the last bound included.
    pub all: u64,
}

/// The readings of the last minute.
#[derive(Debug, Default)]
pub struct Delays {
    /// The readings, each with its time in Unix milliseconds, oldest first.
    readings: VecDeque<(i64, Buckets)>,
    latest: Buckets,
}

impl Delays {
    /// Notes a reading of the histogram, and drops the readings that the window does not need.
    pub fn read(&mut self, now_ms: i64, buckets: Buckets) {
        // If the clock has gone back, readings with a later time are dropped.
        self.readings.retain(|(at_ms, _)| *at_ms <= now_ms);
        let is_due = |(at_ms, _): &(i64, Buckets)| now_ms - at_ms >= SPACING_MS;
        if self.readings.back().is_none_or(is_due) {
            self.readings.push_back((now_ms, buckets.clone()));
        }
        self.latest = buckets;
        let is_over = |(at_ms, _): &(i64, Buckets)| now_ms - at_ms >= WINDOW_MS;
        while self.readings.get(1).is_some_and(is_over) {
            self.readings.pop_front();
        }
    }

    /// Returns the percentiles of the delays that were added to the histogram since the oldest
    /// reading.
    #[must_use]
    pub fn percentiles(&self) -> DelayStatus {
        let at = |part| self.quantile(part);
        DelayStatus { p50_seconds: at(0.5), p99_seconds: at(0.99) }
    }

    /// The delay below which the share `part` of the delays lies. `None` if there is no delay.
    /// Within a bucket the values count as spread evenly, as Prometheus assumes.
    fn quantile(&self, part: f64) -> Option<f64> {
        assert!((0.0..=1.0).contains(&part), "{part} is no part of a whole");
        let (_, oldest) = self.readings.front()?;
        let before = |i: usize| oldest.counts.get(i).map_or(0, |(_, count)| *count);
        let all = self.latest.all.saturating_sub(oldest.all);
        if all == 0 {
            return None;
        }
        let wanted = number(all) * part;
        let (mut lower, mut below) = (0.0, 0.0);
        for (i, (upper, count)) in self.latest.counts.iter().enumerate() {
            let upto = number(count.saturating_sub(before(i)));
            if upto >= wanted && upto > below {
                return Some(lower + (upper - lower) * (wanted - below) / (upto - below));
            }
            (lower, below) = (*upper, upto);
        }
        Some(lower) // The value lies above the last bound.
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of the last minute")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading of a histogram with the bounds 0.01, 0.1 and 1 s, from the number of values in
    /// each bucket and above the last bound.
    fn reading(values: [u64; 4]) -> Buckets {
        let mut all = 0;
        let sums = values.map(|count| {
            all += count;
            all
        });
        Buckets { counts: [0.01, 0.1, 1.0].into_iter().zip(sums).collect(), all }
    }

    #[test]
    fn percentiles_are_those_of_the_last_minute() {
        let mut delays = Delays::default();
        assert_eq!(delays.percentiles(), DelayStatus::default());
        delays.read(0, reading([1000, 0, 0, 0]));
        assert_eq!(delays.percentiles(), DelayStatus::default(), "nothing since the first reading");
        delays.read(1_000, reading([1000, 100, 0, 0]));
        let DelayStatus { p50_seconds, p99_seconds } = delays.percentiles();
        for (told, expected) in [(p50_seconds, 0.055), (p99_seconds, 0.0991)] {
            assert!(told.is_some_and(|told| (told - expected).abs() < 1e-9), "{told:?}");
        }
        for second in 2..=200 {
            delays.read(second * 1_000, reading([1000, 100, 0, 0]));
        }
        assert_eq!(delays.percentiles(), DelayStatus::default(), "the minute is over");
        assert!(delays.readings.len() <= 14, "{}", delays.readings.len());
        // Half of the values lie above every bound.
        delays.read(201_000, reading([1000, 110, 0, 10]));
        assert_eq!(delays.percentiles().p99_seconds, Some(1.0));
    }
}
