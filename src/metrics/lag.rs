//! Lag of Kafka behind the source, in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Commit time, by the server's clock, of the oldest commit that Kafka has not acknowledged. The
/// lag is its age. It is computed at each reading, so it grows with the clock even when nothing
/// else changes.
#[derive(Clone, Debug)]
pub struct OldestOpen(Arc<AtomicI64>);

impl OldestOpen {
    /// Stands for "no unacknowledged commit".
    const NONE: i64 = i64::MIN;

    /// Notes the commit's time in Unix microseconds; `None` when every commit is acknowledged.
    pub fn set(&self, unix_micros: Option<i64>) {
        self.0.store(unix_micros.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    /// Age of the commit in seconds. It is 0 when every commit is acknowledged, or when the
    /// server's clock is ahead of ours.
    #[must_use]
    pub fn age_seconds(&self, now_unix_micros: i64) -> f64 {
        let at = self.0.load(Ordering::Relaxed);
        if at == Self::NONE {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "an age in microseconds, exact below 2^53")]
        let seconds = now_unix_micros.saturating_sub(at) as f64 / 1e6;
        seconds.max(0.0)
    }
}

impl Default for OldestOpen {
    fn default() -> Self {
        OldestOpen(Arc::new(AtomicI64::new(Self::NONE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_oldest_open_commits_age_when_somebody_asks() {
        let open = OldestOpen::default();
        assert_eq!(open.age_seconds(5_000_000), 0.0);
        open.set(Some(1_000_000));
        assert_eq!((open.age_seconds(3_500_000), open.age_seconds(9_000_000)), (2.5, 8.0));
        // The server's clock is ahead of ours, so the age is 0.
        assert_eq!(open.age_seconds(500_000), 0.0);
        open.set(None);
        assert_eq!(open.age_seconds(i64::MAX), 0.0);
    }
}
