//! Computes rates per second, the utilisation of each stage, and the chart of the last quarter of
//! an hour. The rates and the utilisation come from counters that only rise.

use crate::metrics::{Metrics, Stage, buckets};
use crate::status::delay::{Buckets, DelayStatus, Delays};
use crate::status::{Moment, Rates, StageStatus, TableStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rates are means over this time. Over less they would jump, and over more they would hide a
/// stall.
const WINDOW_MS: i64 = 5_000;

/// The time between two readings of the counters.
const SPACING_MS: i64 = 1_000;

/// The time between two points of the chart.
const MOMENT_MS: i64 = 5_000;

/// The most points of the chart, for a quarter of an hour.
const MOMENTS_MAX: usize = 180;

/// The busiest stage counts as the one that holds up the others if it is busy for at least this
/// share of the time. Below this share no stage is the bottleneck.
const BUSY_MIN: f64 = 0.5;

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    at_ms: i64,
    bytes: u64,
    messages: u64,
    transactions: u64,
    produced: u64,
    delivered: u64,
    busy: [f64; Stage::ALL.len()],
}

/// How many changes of one table were counted at each reading of the last [`WINDOW_MS`], with the
/// time of the reading in milliseconds.
#[derive(Debug, Default)]
struct Counted {
    changes: VecDeque<(i64, u64)>,
}

/// The readings from which the rates and the chart are made.
#[derive(Debug, Default)]
pub(super) struct Flow {
    counters: VecDeque<Counters>,
    tables: BTreeMap<String, Counted>,
    moments: VecDeque<Moment>,
    moment_ms: i64,
    delays: Delays,
}

impl Flow {
    /// Whether it is time to read the counters again.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.counters.back().is_none_or(|last| (now_ms - last.at_ms).abs() >= SPACING_MS)
    }

    /// Adds a reading of the counters, and drops readings that the window does not need.
    pub(super) fn read(&mut self, now_ms: i64, metrics: &Metrics) {
        self.counters.push_back(Counters {
            at_ms: now_ms,
            bytes: metrics.received_bytes.get(),
            messages: metrics.received_messages.get(),
            transactions: metrics.transactions.get(),
            produced: metrics.records_produced.get(),
            delivered: metrics.records_delivered.get(),
            busy: Stage::ALL.map(|stage| metrics.stages.busy_seconds(stage)),
        });
        let (counts, all) = buckets(&metrics.commit_to_ack_seconds);
        self.delays.read(now_ms, Buckets { counts, all });
        while self.counters.len() > 2
            && self.counters.get(1).is_some_and(|next| now_ms - next.at_ms >= WINDOW_MS)
        {
            self.counters.pop_front();
        }
    }

    /// Computes the percentiles of the delays from commit to acknowledgement.
    pub(super) fn delay(&self) -> DelayStatus {
        self.delays.percentiles()
    }

    /// Computes the rates over the last [`WINDOW_MS`]. All are 0 before the second reading.
    pub(super) fn rates(&self) -> Rates {
        let Some((first, last, seconds)) = self.window() else { return Rates::default() };
        #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
        let rate = |of: fn(&Counters) -> u64| of(&last).saturating_sub(of(&first)) as f64 / seconds;
        Rates {
            received_bytes: rate(|c| c.bytes),
            messages: rate(|c| c.messages),
            transactions: rate(|c| c.transactions),
            produced: rate(|c| c.produced),
            delivered: rate(|c| c.delivered),
        }
    }

    /// Lists every stage with its utilisation over the last [`WINDOW_MS`]. At most one stage is
    /// marked as the slowest.
    pub(super) fn stages(&self, metrics: &Metrics) -> Vec<StageStatus> {
        let busy = self.window().map_or([0.0; Stage::ALL.len()], |(first, last, seconds)| {
            std::array::from_fn(|i| ((last.busy[i] - first.busy[i]) / seconds).clamp(0.0, 1.0))
        });
        let slowest = (0..busy.len())
            .max_by(|a, b| busy[*a].total_cmp(&busy[*b]))
            .filter(|i| busy[*i] >= BUSY_MIN);
        let stage = |(i, stage): (usize, Stage)| {
            let (sum, count) = metrics.stages.sum_and_count(stage);
            #[expect(clippy::cast_precision_loss, reason = "a mean")]
            let mean_seconds = if count == 0 { 0.0 } else { sum / count as f64 };
            StageStatus {
                name: stage.name().to_owned(),
                busy: busy[i],
                slowest: slowest == Some(i),
                mean_seconds,
            }
        };
        Stage::ALL.into_iter().enumerate().map(stage).collect()
    }

    fn window(&self) -> Option<(Counters, Counters, f64)> {
        let (first, last) = (self.counters.front()?, self.counters.back()?);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a few seconds")]
        let seconds = (last.at_ms - first.at_ms) as f64 / 1000.0;
        (seconds > 0.0).then_some((*first, *last, seconds))
    }

    /// Updates a table's rate and the time of its last change from its current count.
    pub(super) fn table(&mut self, now_ms: i64, name: &str, table: &mut TableStatus) {
        if !self.tables.contains_key(name) {
            self.tables.insert(name.to_owned(), Counted::default());
        }
        let Some(counted) = self.tables.get_mut(name) else { return };
        if counted.changes.back().is_some_and(|(_, before)| table.changes > *before)
            || (counted.changes.is_empty() && table.changes > 0)
        {
            table.last_change_ms = now_ms;
        }
        counted.changes.push_back((now_ms, table.changes));
        while counted.changes.len() > 2
            && counted.changes.get(1).is_some_and(|(at, _)| now_ms - at >= WINDOW_MS)
        {
            counted.changes.pop_front();
        }
        let (Some((from, before)), Some((to, after))) =
            (counted.changes.front(), counted.changes.back())
        else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "counts and milliseconds of a few seconds")]
        let rate = if to > from {
            after.saturating_sub(*before) as f64 * 1000.0 / (to - from) as f64
        } else {
            0.0
        };
        table.changes_per_second = rate;
    }

    /// If a point is due, adds it to the chart and returns all points. `None` if no point is due.
    pub(super) fn moment(
        &mut self,
        moment: impl FnOnce() -> Moment,
        now_ms: i64,
    ) -> Option<Arc<[Moment]>> {
        if (now_ms - self.moment_ms).abs() < MOMENT_MS {
            return None;
        }
        self.moment_ms = now_ms;
        self.moments.push_back(moment());
        if self.moments.len() > MOMENTS_MAX {
            self.moments.pop_front();
        }
        Some(self.moments.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let (metrics, mut flow) = (Metrics::new("0"), Flow::default());
        assert_eq!(flow.rates(), Rates::default());
        for second in 0..20 {
            let rows = if second < 10 { 100 } else { 10 };
            flow.read(second * 1000, &metrics);
            metrics.records_produced.inc_by(rows);
            metrics.received_bytes.inc_by(rows * 50);
        }
        assert_eq!((flow.rates().produced, flow.rates().received_bytes), (10.0, 500.0));
        assert!(flow.counters.len() <= 7);
    }

    #[test]
    fn the_busiest_stage_is_the_slowest_only_if_it_holds_up_the_others() {
        let (metrics, mut flow) = (Metrics::new("0"), Flow::default());
        flow.read(0, &metrics);
        metrics.stages.held_up(Stage::Encode, 0.3);
        metrics.stages.held_up(Stage::Broker, 0.1);
        flow.read(1000, &metrics);
        assert!(flow.stages(&metrics).iter().all(|stage| !stage.slowest));
        metrics.stages.held_up(Stage::Broker, 0.9);
        flow.read(2000, &metrics);
        let stages = flow.stages(&metrics);
        let slowest: Vec<_> =
            stages.iter().filter(|stage| stage.slowest).map(|stage| stage.name.as_str()).collect();
        assert_eq!((slowest, stages[4].busy), (vec!["broker"], 0.5));
    }

    #[test]
    fn a_table_tells_when_it_last_changed() {
        let (mut flow, mut table) = (Flow::default(), TableStatus::default());
        let mut at = |now_ms, changes| {
            table.changes = changes;
            flow.table(now_ms, "public.t", &mut table);
            (table.last_change_ms, table.changes_per_second)
        };
        assert_eq!(at(1000, 0), (0, 0.0));
        assert_eq!(at(2000, 50), (2000, 50.0));
        assert_eq!(at(3000, 50), (2000, 25.0));
        for second in 4..12 {
            at(second * 1000, 50);
        }
        assert_eq!(at(12_000, 50), (2000, 0.0));
    }

    #[test]
    fn the_chart_holds_a_quarter_of_an_hour() {
        let mut flow = Flow::default();
        let mut last = None;
        for at in 0..20_000 {
            let moment = || Moment { at_ms: at * 1000, ..Moment::default() };
            last = flow.moment(moment, at * 1000 + 5000).or(last);
        }
        let moments = last.unwrap();
        assert_eq!((moments.len(), moments[1].at_ms - moments[0].at_ms), (MOMENTS_MAX, 5000));
    }
}
