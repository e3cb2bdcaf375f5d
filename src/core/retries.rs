//! How long the core waits before it connects again.

use super::{Moment, SECOND};

/// Delay between attempts to connect. The first attempt is immediate. Then the delay doubles from
/// the minimum to the maximum. The maximum is short because each attempt begins with an ordinary
/// connection, which costs the server little, and because a pipeline should resume soon after a
/// restart of Postgres.
const BACKOFF_MAX: u64 = SECOND;
const BACKOFF_MIN: u64 = SECOND / 5;

/// Longest delay after a connection that was opened and then lost without progress. Such a
/// connection cost the server a decoding session, and the next one will most likely end the same
/// way.
const FRUITLESS_BACKOFF_MAX: u64 = 10 * SECOND;

/// The attempts to connect since the last connection that was worthwhile, and when the next one is
/// allowed.
#[derive(Debug)]
pub(super) struct Retries {
    pub attempts: u32,
    /// No connection is opened and no frame is read before this moment.
    pub not_before: Moment,
    jitter_seed: u64,
}

impl Retries {
    pub fn new(now: Moment, jitter_seed: u64) -> Self {
        Retries { attempts: 0, not_before: now, jitter_seed }
    }

    /// Counts an attempt to connect that has failed, and returns the delay before the next attempt.
    /// `connected` is true if the attempt had opened a connection that was then lost.
    pub fn next_delay(&mut self, connected: bool) -> u64 {
        let longest = if connected { FRUITLESS_BACKOFF_MAX } else { BACKOFF_MAX };
        let delay = (BACKOFF_MIN << self.attempts.min(10)).min(longest);
        // A random delay between half of `delay` and all of it, by a linear congruential step
        // (Knuth's MMIX constants).
        self.jitter_seed = self
            .jitter_seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let delay =
            if self.attempts == 0 { 0 } else { delay / 2 + (self.jitter_seed >> 33) % (delay / 2) };
        self.attempts += 1;
        delay
    }
}
