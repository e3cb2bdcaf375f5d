//! Measures how long the server has sent nothing although we were reading. After a long silence the
//! server is asked whether our walsender lives.
//!
//! Time in which we did not read is no silence: a walsender whose data nobody takes stands still,
//! and seems frozen.

use super::Probe;
use crate::agent::supervise::PipelineError;
use crate::postgres::{Sql, preflight};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The silence after which the server is asked whether our walsender lives. This silence is twice
/// the longest status interval. A regular status update asks the walsender for an answer. Together
/// with the probe, a frozen walsender is recognised within 60 s.
const SILENCE: Duration = Duration::from_secs(20);

/// The time between two readings of a silent walsender's wait event and of its slot's counters. A
/// transaction that spills to disk raises the counters within that time.
const PROBE_SPACING: Duration = Duration::from_secs(10);

/// The beginning of a connection's silence, and the longest silence that is accepted.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    longest: Duration,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Silence { since: now, longest: SILENCE }
    }

    /// Notes that bytes arrived. The accepted silence is [`SILENCE`] again.
    pub(super) fn broken(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Notes that we are not reading now. The silence begins anew at this moment.
    pub(super) fn not_reading(&mut self, now: Instant) {
        self.since = now;
    }

    /// Notes that the walsender works without sending, as in a huge transaction that spills or is
    /// filtered. Such work can take minutes. So the accepted silence doubles.
    pub(super) fn explained(&mut self, now: Instant) {
        self.since = now;
        self.longest *= 2;
    }

    /// Whether the silence is long enough to probe the walsender, and to believe that it is frozen.
    pub(super) fn is_too_long(&self, now: Instant) -> bool {
        now.duration_since(self.since) > self.longest
    }
}

/// Reads the wait event of a silent walsender and the counters of its slot twice, [`PROBE_SPACING`]
/// apart. If any of them has changed, the walsender works.
pub(super) async fn probe_walsender(sql: Arc<Sql>, pid: i32, slot: String) -> Probe {
    let frozen = || Probe::Frozen(PipelineError::Silent { pid, state: "frozen" });
    let mut first = None;
    for _ in 0..2 {
        match preflight::walsender_signs(&sql, pid, &slot).await {
            Err(error) => return Probe::Gone(error.into()),
            Ok(signs) if !signs.alive => {
                return Probe::Gone(PipelineError::Silent { pid, state: "gone" });
            }
            Ok(signs) => match &first {
                Some(before) if *before != signs => return Probe::Moving,
                Some(_) => return frozen(),
                None => first = Some(signs),
            },
        }
        tokio::time::sleep(PROBE_SPACING).await;
    }
    frozen()
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
        silence.not_reading(begin + SILENCE);
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
