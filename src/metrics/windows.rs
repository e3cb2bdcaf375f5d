//! Metrics of backfills and standstills: the rows that they sent, the time that they waited, and
//! the time in which the stream waited for them.
//!
//! They are set from totals that the loop keeps. Their labels have the two kinds of copies or the
//! states of a copy as values.

use super::declare::{Declare, full};
use prometheus::{Counter, CounterVec, Gauge, IntCounter, IntGauge, Opts};

/// The values of the label `kind`: a table is copied in chunks of its key (backfill), or whole
/// (standstill).
pub const WINDOW_KINDS: [&str; 2] = ["chunks", "whole"];

/// The values of `wellspring_window_tables{state}`, as `/status` writes the states of unfinished
/// copies.
pub const WINDOW_STATES: [&str; 5] = ["waiting", "copying", "confirming", "paused", "failed"];

/// What backfills and standstills did since the process began. No number here ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowTotals {
    /// Rows that backfills and standstills sent, one number for each of [`WINDOW_KINDS`].
    pub rows: [u64; 2],
    /// Chunks whose records Kafka has acknowledged. A standstill counts as one chunk.
    pub chunks: u64,
    /// Chunks and standstills that were dropped and are read again.
    pub given_up: u64,
    /// Microseconds in which a copy waited for transactions to become visible to its snapshot.
    pub unseen_us: u64,
    /// Microseconds in which the stream waited for a copy, one number for each of [`WINDOW_KINDS`].
    pub held_us: [u64; 2],
}

/// The metrics whose names begin with `wellspring_window_`, and the share of copies.
#[derive(Clone, Debug)]
pub struct WindowMetrics {
    /// `wellspring_window_rows_total{kind}`: rows that copies sent.
    rows: [IntCounter; 2],
    /// `wellspring_window_chunks_total`: chunks that were delivered.
    chunks: IntCounter,
    /// `wellspring_window_chunks_given_up_total`: chunks and standstills that were dropped and are
    /// read again.
    given_up: IntCounter,
    /// `wellspring_window_visibility_wait_seconds_total`: time in which copies waited for
    /// transactions to become visible.
    unseen: Counter,
    /// `wellspring_window_hold_seconds_total{kind}`: time in which the stream waited for a copy.
    held: [Counter; 2],
    /// `wellspring_window_tables{state}`: unfinished copies in each state.
    tables: [IntGauge; WINDOW_STATES.len()],
    /// `wellspring_window_chunks_open`: chunks whose position the stream has not passed yet.
    open: IntGauge,
    /// `wellspring_copy_share`: share of the time that copies may use; 1 if the source is not
    /// overloaded.
    pub share: Gauge,
}

impl WindowMetrics {
    pub(super) fn declare(to: &Declare) -> Self {
        let rows = to.labelled(
            "window_rows_total",
            "Rows that backfills and standstills sent.",
            &["kind"],
        );
        let held = Opts::new(
            full("window_hold_seconds_total"),
            "Seconds in which the stream was held for a copy.",
        );
        let held: CounterVec = to.add(CounterVec::new(held, &["kind"]));
        let unseen = Opts::new(
            full("window_visibility_wait_seconds_total"),
            "Seconds in which a copy waited for transactions to become visible.",
        );
        let tables = to.labelled_gauge(
            "window_tables",
            "Tables with a backfill or a standstill, by state.",
            "state",
        );
        let share = to.float(
            "copy_share",
            "Share of the time that copies may use; 1 if the source is not overloaded.",
        );
        share.set(1.0);
        WindowMetrics {
            share,
            rows: WINDOW_KINDS.map(|kind| rows.with_label_values(&[kind])),
            chunks: to.counter(
                "window_chunks_total",
                "Chunks of backfills that were delivered; a standstill counts as one.",
            ),
            given_up: to.counter(
                "window_chunks_given_up_total",
                "Chunks and standstills that were dropped and are read again.",
            ),
            unseen: to.add(Counter::with_opts(unseen)),
            held: WINDOW_KINDS.map(|kind| held.with_label_values(&[kind])),
            tables: WINDOW_STATES.map(|state| tables.with_label_values(&[state])),
            open: to.gauge(
                "window_chunks_open",
                "Chunks of backfills whose rows wait until the stream passes their position.",
            ),
        }
    }

    /// Raises the counters to `totals`, and sets the gauges. `states` has the state of each
    /// unfinished copy. `open` is the number of chunks whose position the stream has not passed
    /// yet.
    pub fn tell<'a>(
        &self,
        totals: WindowTotals,
        states: impl Iterator<Item = &'a str> + Clone,
        open: usize,
    ) {
        let count =
            |counter: &IntCounter, total: u64| counter.inc_by(total.saturating_sub(counter.get()));
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of a process's life, exact below 2^53"
        )]
        let time = |counter: &Counter, total: u64| {
            counter.inc_by((total as f64 / 1e6 - counter.get()).max(0.0))
        };
        self.rows.iter().zip(totals.rows).for_each(|(counter, total)| count(counter, total));
        self.held.iter().zip(totals.held_us).for_each(|(counter, total)| time(counter, total));
        count(&self.chunks, totals.chunks);
        count(&self.given_up, totals.given_up);
        time(&self.unseen, totals.unseen_us);
        for (gauge, state) in self.tables.iter().zip(WINDOW_STATES) {
            gauge.set(
                i64::try_from(states.clone().filter(|of| *of == state).count()).unwrap_or(i64::MAX),
            );
        }
        self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn totals_are_counted_once_however_often_they_are_told() {
        let metrics = Metrics::new("0");
        let totals = WindowTotals {
            rows: [5, 7],
            chunks: 2,
            given_up: 1,
            unseen_us: 1_500_000,
            held_us: [0, 250_000],
        };
        for _ in 0..3 {
            metrics.windows.tell(totals, ["copying", "failed", "copying", "done"].into_iter(), 4);
        }
        metrics.windows.tell(WindowTotals { chunks: 3, ..totals }, ["waiting"].into_iter(), 0);
        let text = metrics.render();
        for line in [
            "wellspring_window_rows_total{kind=\"chunks\"} 5",
            "wellspring_window_rows_total{kind=\"whole\"} 7",
            "wellspring_window_chunks_total 3",
            "wellspring_window_chunks_given_up_total 1",
            "wellspring_window_visibility_wait_seconds_total 1.5",
            "wellspring_window_hold_seconds_total{kind=\"whole\"} 0.25",
            "wellspring_window_tables{state=\"waiting\"} 1",
            "wellspring_window_tables{state=\"copying\"} 0",
            "wellspring_window_chunks_open 0",
        ] {
            assert!(text.lines().any(|of| of == line), "{line}\n{text}");
        }
    }
}
