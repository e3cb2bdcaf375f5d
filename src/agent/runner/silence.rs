//! How long the server has sent nothing although we were reading: the reason to ask whether our walsender lives.
//!
//! Time in which we did not read is no silence. A walsender whose data nobody takes stands still, and looks frozen.

use super::Probe;
use crate::agent::supervise::PipelineError;
use crate::postgres::{Sql, preflight};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Nothing read for this long although an answer was asked for: ask the server whether our walsender lives. Twice the
/// longest status interval; with the probe's own time a frozen one is recognised within 60 s.
const SILENCE: Duration = Duration::from_secs(20);

/// Between two looks at a silent walsender: long enough for a spilling transaction to show in the counters.
const PROBE_SPACING: Duration = Duration::from_secs(10);

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

/// Whether a walsender that sends nothing works: two looks a little apart show whether its counters grow.
pub(super) async fn probe_walsender(sql: Arc<Sql>, pid: i32, slot: String) -> Probe {
    let frozen = || Probe::Frozen(PipelineError::Silent { pid, state: "frozen" });
    let mut first = None;
    for _ in 0..2 {
        match preflight::walsender_signs(&sql, pid, &slot).await {
            Err(error) => return Probe::Gone(error.into()),
            Ok(signs) if !signs.alive => return Probe::Gone(PipelineError::Silent { pid, state: "gone" }),
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
