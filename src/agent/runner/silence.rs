//! How long the server has sent nothing although we were reading: the reason to ask whether our walsender lives.
//!
//! Time in which we did not read is no silence. A walsender whose data nobody takes stands still, and looks frozen.

use std::time::Duration;
use tokio::time::Instant;

/// Nothing read for this long although an answer was asked for: ask the server whether our walsender lives. Twice the
/// longest status interval; with the probe's own time a frozen one is recognised within 60 s.
const SILENCE: Duration = Duration::from_secs(20);

/// The silence of one connection.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    longest: Duration,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Silence { since: now, longest: SILENCE }
    }

    /// Bytes came.
    pub(super) fn broken(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// We are not reading at this moment, so the server cannot be heard.
    pub(super) fn unheard(&mut self, now: Instant) {
        self.since = now;
    }

    /// The walsender works without sending, as in a huge transaction that spills or is filtered. That can take minutes.
    pub(super) fn explained(&mut self, now: Instant) {
        self.since = now;
        self.longest *= 2;
    }

    /// Whether the walsender is to be asked for, and whether an answer of its being frozen counts.
    pub(super) fn is_too_long(&self, now: Instant) -> bool {
        now.duration_since(self.since) > self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_without_reading_is_no_silence() {
        let begin = Instant::now();
        let mut silence = Silence::new(begin);
        assert!(silence.is_too_long(begin + SILENCE + SECOND));
        silence.unheard(begin + SILENCE);
        assert!(!silence.is_too_long(begin + SILENCE + SECOND));
        assert!(silence.is_too_long(begin + 2 * SILENCE + SECOND));
    }

    #[test]
    fn a_walsender_at_work_is_asked_less_often_until_it_sends() {
        let begin = Instant::now();
        let mut silence = Silence::new(begin);
        silence.explained(begin);
        assert!(!silence.is_too_long(begin + SILENCE + SECOND));
        silence.broken(begin);
        assert!(silence.is_too_long(begin + SILENCE + SECOND));
    }
}
