//! Forecasts when the WAL that the server keeps for the slot reaches its limit.
//!
//! This file is pure. It is given the row of the slot, which is read every second or so. There are
//! two forecasts: one at the present growth of the kept WAL, and one for an outage of Kafka, in
//! which nothing is confirmed from now on.

use crate::lsn::Lsn;
use crate::status::WalStatus;
use std::collections::VecDeque;

/// Growth is measured over this time, so that a checkpoint of Postgres or a batch job changes the
/// result only a little.
const WINDOW_MS: i64 = 120_000;

/// Readings over a shorter time than this give no measure. The kept WAL falls in steps, with a
/// status update every ten seconds.
const WINDOW_MS_MIN: i64 = 25_000;

/// The least time between two kept rows. A row that comes earlier shows nothing new about growth.
const SPACING_MS: i64 = 4_000;

/// The most rows that are kept. Rows are 4 s apart, so the window holds at most 31 of them.
const ROWS_MAX: usize = 32;

/// What the forecasts need of the slot's row in the catalog, read at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// End of the server's WAL.
    pub server: Lsn,
    /// Bytes of WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    /// Bytes of WAL until the slot may be lost; `None` without a limit.
    pub safe_bytes: Option<i64>,
    /// `wal_status` of the slot.
    pub wal_status: String,
    /// Why the slot can no longer be used; empty if it can be used.
    pub invalidation: String,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: i64,
    server: Lsn,
    retained: u64,
}

/// The readings of the slot's row in the last two minutes.
#[derive(Debug, Default)]
pub struct Outlook {
    seen: VecDeque<Sample>,
}

impl Outlook {
    /// Notes a reading of the slot's row, and returns what the status shows about the WAL.
    pub fn read(&mut self, at_ms: i64, row: Reading) -> WalStatus {
        let retained = row.retained_bytes;
        // A server that went back in time has another history, so that earlier readings say nothing
        // about it.
        if self.seen.back().is_some_and(|last| row.server < last.server || at_ms < last.at_ms) {
            self.seen.clear();
        }
        if self.seen.back().is_none_or(|last| at_ms - last.at_ms >= SPACING_MS) {
            self.seen.push_back(Sample { at_ms, server: row.server, retained });
        }
        while self.seen.len() > ROWS_MAX
            || self.seen.front().is_some_and(|first| at_ms - first.at_ms > WINDOW_MS)
        {
            self.seen.pop_front();
        }
        let (written, growth) = self.rates().unzip();
        let (safe, is_lost) = (row.safe_bytes, row.wal_status == "lost");
        #[expect(clippy::cast_precision_loss, reason = "sizes of WAL, below 2^53 bytes")]
        let until = |rate: Option<f64>| {
            let safe = safe.map(|safe| safe.max(0) as f64)?;
            rate.filter(|rate| *rate > 0.0).map(|rate| safe / rate)
        };
        WalStatus {
            read_ms: at_ms,
            server: row.server,
            retained_bytes: Some(retained),
            limit_bytes: safe.map(|safe| retained.saturating_add_signed(safe)),
            wal_status: row.wal_status,
            invalidation: row.invalidation,
            written_bytes_per_second: written,
            growth_bytes_per_second: growth,
            seconds_to_limit: if is_lost { Some(0.0) } else { until(growth) },
            seconds_at_standstill: if is_lost { Some(0.0) } else { until(written) },
        }
    }

    /// Returns two rates in bytes per second: how fast the server writes WAL, and how fast the WAL
    /// that it keeps for the slot grows. `None` before the readings cover enough time.
    #[expect(clippy::cast_precision_loss, reason = "sizes of WAL and milliseconds, below 2^53")]
    fn rates(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        assert!(
            first.at_ms <= last.at_ms && first.server <= last.server,
            "the readings of another history were dropped"
        );
        if last.at_ms - first.at_ms < WINDOW_MS_MIN {
            return None;
        }
        let seconds = (last.at_ms - first.at_ms) as f64 / 1000.0;
        let written = last.server.bytes_since(first.server) as f64 / seconds;
        // Growth is measured from the smallest `retained` of the older half of the samples to the
        // smallest of the newer half. So the steps of the kept WAL do not count as growth.
        let half = self.seen.len() / 2;
        let least = |seen: &mut dyn Iterator<Item = &Sample>| {
            seen.min_by_key(|seen| seen.retained).copied()
        };
        let (older, newer) =
            (least(&mut self.seen.iter().take(half)), least(&mut self.seen.iter().skip(half)));
        let (older, newer) = (older?, newer?);
        let apart = (newer.at_ms - older.at_ms) as f64 / 1000.0;
        let growth =
            if apart > 0.0 { (newer.retained as f64 - older.retained as f64) / apart } else { 0.0 };
        Some((written, growth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(restart: u64, server: u64, safe_bytes: Option<i64>) -> Reading {
        Reading {
            server: Lsn::new(server),
            retained_bytes: server - restart,
            safe_bytes,
            wal_status: "reserved".to_owned(),
            invalidation: String::new(),
        }
    }

    #[test]
    fn a_slot_that_stands_still_reaches_its_limit_at_the_rate_of_writing() {
        let mut outlook = Outlook::default();
        let first = outlook.read(0, row(1000, 2000, Some(9000)));
        assert_eq!(
            (first.retained_bytes, first.limit_bytes, first.seconds_to_limit),
            (Some(1000), Some(10_000), None)
        );
        let last = outlook.read(30_000, row(1000, 5000, Some(6000)));
        assert_eq!(
            (last.written_bytes_per_second, last.growth_bytes_per_second),
            (Some(100.0), Some(100.0))
        );
        assert_eq!((last.seconds_to_limit, last.seconds_at_standstill), (Some(60.0), Some(60.0)));
    }

    #[test]
    fn a_slot_that_keeps_up_has_no_end_in_sight_but_knows_how_long_an_outage_may_last() {
        let mut outlook = Outlook::default();
        outlook.read(0, row(1000, 2000, Some(9000)));
        let last = outlook.read(30_000, row(4500, 5000, Some(9500)));
        assert_eq!((last.seconds_to_limit, last.seconds_at_standstill), (None, Some(95.0)));
    }

    #[test]
    fn a_lost_slot_has_no_time_left() {
        let lost = Reading { wal_status: "lost".to_owned(), ..row(2000, 2000, None) };
        let told = Outlook::default().read(0, lost);
        assert_eq!((told.seconds_to_limit, told.seconds_at_standstill), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn without_a_limit_nothing_is_foretold() {
        let mut outlook = Outlook::default();
        outlook.read(0, row(1000, 2000, None));
        let last = outlook.read(30_000, row(1000, 9000, None));
        assert_eq!(
            (last.limit_bytes, last.seconds_to_limit, last.seconds_at_standstill),
            (None, None, None)
        );
    }

    #[test]
    fn what_is_overdue_has_no_time_left_and_another_history_starts_anew() {
        let mut outlook = Outlook::default();
        outlook.read(0, row(1000, 2000, Some(100)));
        let overdue = outlook.read(30_000, row(1000, 3000, Some(-900)));
        assert_eq!((overdue.limit_bytes, overdue.seconds_to_limit), (Some(1100), Some(0.0)));
        let other = outlook.read(40_000, row(10, 50, Some(100)));
        assert_eq!(other.written_bytes_per_second, None);
    }

    #[test]
    fn the_teeth_of_a_slot_that_keeps_up_are_no_growth() {
        let mut outlook = Outlook::default();
        let mut foretold = Vec::new();
        for step in 0..200_u64 {
            // The server writes 100 bytes in five seconds; every third reading finds the slot moved
            // up.
            let (server, restart) = (10_000 + step * 100, 9_000 + step / 3 * 300);
            let at = i64::try_from(step).unwrap() * 5_000;
            foretold.extend(outlook.read(at, row(restart, server, Some(1 << 20))).seconds_to_limit);
        }
        assert!(foretold.iter().all(|seconds| *seconds > 100_000.0), "{foretold:?}");
    }

    #[test]
    fn keeps_a_bounded_window() {
        let mut outlook = Outlook::default();
        for at in 0..10_000 {
            outlook.read(at * 5_000, row(1000, 2000, None));
        }
        assert!(outlook.seen.len() <= ROWS_MAX);
    }
}
