//! Lag of Kafka behind the source, in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Commit time, by the server's clock, of the oldest commit that Kafka has not acknowledged. The
/// lag is the age of this commit. The age is computed at each reading, so the lag grows with the
/// clock even when nothing else changes.
#[derive(Clone, Debug)]
pub struct OldestOpen {
    /// The commit's time in Unix microseconds, or [`OldestOpen::NONE`].
    at: Arc<AtomicI64>,
    /// Time, in Unix microseconds, up to which it is known that Kafka has acknowledged every
    /// commit, or [`OldestOpen::NONE`].
    caught_up_until: Arc<AtomicI64>,
}

impl OldestOpen {
    /// A field has this value if its time is not known.
    const NONE: i64 = i64::MIN;

    /// Notes the time of the oldest commit that Kafka has not acknowledged, in Unix microseconds;
    /// `None` if no such commit is known. Without such a commit, `caught_up_until` is the time up
    /// to which it is known that every commit is acknowledged.
    pub fn set(&self, unix_micros: Option<i64>, caught_up_until: Option<i64>) {
        self.at.store(unix_micros.unwrap_or(Self::NONE), Ordering::Relaxed);
        self.caught_up_until.store(caught_up_until.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    /// Age in seconds of the oldest commit that Kafka has not acknowledged. If no such commit is
    /// known, the age is 0 up to `caught_up_until`, and NaN after that. The age is never negative,
    /// even if the server's clock is ahead of ours.
    #[must_use]
    pub fn age_seconds(&self, now_unix_micros: i64) -> f64 {
        let at = self.at.load(Ordering::Relaxed);
        if at == Self::NONE {
            let known = now_unix_micros <= self.caught_up_until.load(Ordering::Relaxed);
            return if known { 0.0 } else { f64::NAN };
        }
        #[expect(clippy::cast_precision_loss, reason = "an age in microseconds, exact below 2^53")]
        let seconds = now_unix_micros.saturating_sub(at) as f64 / 1e6;
        seconds.max(0.0)
    }
}

impl Default for OldestOpen {
    fn default() -> Self {
        let none = || Arc::new(AtomicI64::new(Self::NONE));
        OldestOpen { at: none(), caught_up_until: none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_oldest_open_commits_age_when_somebody_asks() {
        let open = OldestOpen::default();
        assert!(open.age_seconds(5_000_000).is_nan(), "nothing is known yet");
        open.set(Some(1_000_000), None);
        assert_eq!((open.age_seconds(3_500_000), open.age_seconds(9_000_000)), (2.5, 8.0));
        // The server's clock is ahead of ours, so the age is 0.
        assert_eq!(open.age_seconds(500_000), 0.0);
    }

    #[test]
    fn lag_is_0_only_as_long_as_that_is_known() {
        let open = OldestOpen::default();
        open.set(None, Some(7_000_000));
        assert_eq!(open.age_seconds(7_000_000), 0.0);
        assert!(open.age_seconds(7_000_001).is_nan());
        open.set(None, None);
        assert!(open.age_seconds(1).is_nan());
    }
}
