//! Rate of a copy, time until its end, and WAL at its end. This file is pure: times and sizes are
//! arguments.

use super::CopyStatus;
use std::collections::VecDeque;

/// Time over which the rate is measured, in milliseconds. It is long enough to bridge a pause and
/// short enough to follow a change.
const WINDOW_MS: i64 = 10_000;

/// The most samples that are kept: one for each quarter of a second of `WINDOW_MS`.
const SAMPLES_MAX: usize = 40;

/// Measurements of one copy.
#[derive(Debug, Default)]
pub struct Progress {
    /// Samples of time (Unix milliseconds) and sent rows, oldest first.
    samples: VecDeque<(i64, u64)>,
    /// The first reading of the slot's WAL: its time in Unix milliseconds, and the bytes kept.
    first_wal: Option<(i64, u64)>,
}

/// The slot's WAL at the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wal {
    /// Bytes of WAL kept for the slot; `None` before the first reading.
    pub retained_bytes: Option<u64>,
    /// Bytes of WAL that can be written before the slot may be lost; `None` if the server has no
    /// limit.
    pub safe_bytes: Option<u64>,
}

impl Progress {
    /// Adds a sample of the rows sent so far. Writes the rate of the copy and the forecasts into
    /// `status`.
    pub fn judge(&mut self, status: &mut CopyStatus, wal: Wal, now_ms: i64) {
        self.samples.push_back((now_ms, status.rows));
        while self.samples.len() > SAMPLES_MAX
            || self.samples.front().is_some_and(|(at, _)| now_ms - at > WINDOW_MS)
        {
            self.samples.pop_front();
        }
        let Some(&(began, before)) = self.samples.front() else {
            unreachable!("the newest sample lies within each window")
        };
        let seconds = (now_ms - began) as f64 / 1000.0;
        status.rows_per_second =
            if seconds > 0.0 { status.rows.saturating_sub(before) as f64 / seconds } else { 0.0 };
        let expected = status.rows_expected;
        status.remaining_seconds =
            (status.rows_per_second > 0.0 && expected >= status.rows && expected > 0)
                .then(|| (expected - status.rows) as f64 / status.rows_per_second);
        status.wal_bytes_expected = None;
        if let Some(bytes) = wal.retained_bytes {
            status.wal_bytes = bytes;
            let (since, first) = *self.first_wal.get_or_insert((now_ms, bytes));
            let seconds = (now_ms - since) as f64 / 1000.0;
            if let Some(remaining) = status.remaining_seconds.filter(|_| seconds > 0.0) {
                let growth = bytes.saturating_sub(first) as f64 / seconds * remaining;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a forecast; `as` saturates"
                )]
                let growth = growth as u64;
                status.wal_bytes_expected = Some(bytes.saturating_add(growth));
            }
        }
    }

    /// True if the slot will be lost before the copy ends, by the forecasts in `status`.
    #[must_use]
    pub fn is_too_slow(status: &CopyStatus, wal: Wal) -> bool {
        match (status.wal_bytes_expected, wal.safe_bytes) {
            (Some(expected), Some(safe)) => expected.saturating_sub(status.wal_bytes) > safe,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(progress: &mut Progress, rows: u64, retained: u64, now_ms: i64) -> CopyStatus {
        let mut status = CopyStatus { rows, rows_expected: 10_000, ..CopyStatus::default() };
        let wal = Wal { retained_bytes: Some(retained), safe_bytes: None };
        progress.judge(&mut status, wal, now_ms);
        status
    }

    #[test]
    fn rate_end_and_wal_follow_from_what_was_seen() {
        let mut progress = Progress::default();
        let status = judged(&mut progress, 0, 1000, 0);
        assert_eq!(
            (status.rows_per_second, status.remaining_seconds, status.wal_bytes_expected),
            (0.0, None, None)
        );
        let status = judged(&mut progress, 2000, 3000, 2000);
        assert_eq!((status.rows_per_second, status.remaining_seconds), (1000.0, Some(8.0)));
        assert_eq!((status.wal_bytes, status.wal_bytes_expected), (3000, Some(11_000)));
        let wal = |safe| Wal { retained_bytes: Some(3000), safe_bytes: safe };
        assert!(
            !Progress::is_too_slow(&status, wal(None))
                && !Progress::is_too_slow(&status, wal(Some(8000)))
        );
        assert!(Progress::is_too_slow(&status, wal(Some(7999))));
    }

    #[test]
    fn the_rate_forgets_what_is_long_past() {
        let mut progress = Progress::default();
        judged(&mut progress, 5000, 0, 0);
        judged(&mut progress, 5000, 0, 11_000);
        let status = judged(&mut progress, 5100, 0, 12_000);
        assert_eq!(status.rows_per_second, 100.0);
    }

    #[test]
    fn more_rows_than_expected_have_no_end_in_sight() {
        let mut progress = Progress::default();
        judged(&mut progress, 0, 0, 0);
        assert_eq!(judged(&mut progress, 20_000, 0, 1000).remaining_seconds, None);
    }
}
