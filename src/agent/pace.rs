//! Divides the loop's time among the stages that took it, to show which stage holds up the others.
//!
//! The clock is read a few times in each turn of the loop, and never for a row. The time of the row
//! path is split into decoding and encoding by the ratio of measured messages, one of each burst.
//!
//! [`gather`] says how long the reader pauses after a small read, so that more bytes gather.

use crate::metrics::{Stage, StageMetrics};
use std::time::{Duration, Instant};

/// The purpose for which the loop spent a piece of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Waited for bytes of the server, and was allowed to read.
    Reading,
    /// Ran the row path.
    Working,
    /// Waited until a plan was made, with its catalog, schema ids and topic.
    Planning,
    /// Waited for acknowledgements, because the byte budget was used up.
    Full,
    /// Waited for something else, or did other work.
    Other,
}

/// If a wait for bytes is longer than this, the server had nothing to send, and the wait counts for
/// no stage. The limit is well above the longest pause that [`gather`] returns.
const FLOWING: Duration = Duration::from_millis(4);

/// After a read of fewer bytes the reader pauses while data keeps flowing. The walsender makes one
/// send call for each message, and without a pause each of these calls would wake the loop. The
/// pause gives twice the rate for a third of the server's CPU (`docs/internals/pacing.md`).
const SHORT_READ_BYTES: usize = 64 * 1024;
/// The pause outside of a backlog. A pause of 0.5 ms delays the acknowledgement of a commit by 0.8
/// ms.
const PAUSE: Duration = Duration::from_micros(500);
/// The pause in a backlog, whose commits have waited for longer anyway. The longer pause makes
/// wake-ups fewer and produce requests fuller. 2 ms would be too long: a large transaction then
/// fills the receive buffer of our socket, the walsender waits, and the benchmark drain_large loses
/// a fifth of its rate.
const PAUSE_BEHIND: Duration = Duration::from_millis(1);
/// A transaction belongs to a backlog if the server sent it more than this many microseconds after
/// its commit, by the server's own clock.
const BEHIND: i64 = 1_000_000;
/// If the next bytes arrive within this time, data is flowing and a pause pays. A lone transaction
/// is never delayed.
const GATHERS: Duration = Duration::from_millis(2);

/// How long to let bytes gather after a read of `bytes` bytes. `waited` is the wait for these
/// bytes. `behind` is the time from the last transaction's commit to its sending, in microseconds.
/// `None` means no pause.
#[must_use]
pub fn gather(bytes: usize, waited: Duration, behind: i64) -> Option<Duration> {
    let pause = if behind > BEHIND { PAUSE_BEHIND } else { PAUSE };
    (bytes < SHORT_READ_BYTES && waited < GATHERS).then_some(pause)
}

/// The weight of one measured message in the moving average of decoding's share. So the last few
/// hundred messages count.
const SHARE_WEIGHT: f64 = 1.0 / 256.0;

/// Charges each piece of the loop's time to a stage.
#[derive(Debug)]
pub struct Pace {
    at: Instant,
    /// Decoding's share of the row path, from 0 to 1.
    decode_share: f64,
}

impl Pace {
    /// Starts the clock. Decoding counts as a fifth of the row path's time until messages are
    /// measured.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Pace { at: now, decode_share: 0.2 }
    }

    /// Charges the time since the last call to the stage that `spent` names.
    pub fn lap(&mut self, now: Instant, spent: Spent, stages: &StageMetrics) {
        let took = now.saturating_duration_since(std::mem::replace(&mut self.at, now));
        let seconds = took.as_secs_f64();
        match spent {
            Spent::Reading if took <= FLOWING => stages.held_up(Stage::Source, seconds),
            Spent::Working => {
                stages.held_up(Stage::Decode, seconds * self.decode_share);
                stages.held_up(Stage::Encode, seconds * (1.0 - self.decode_share));
            }
            Spent::Planning => stages.held_up(Stage::Registry, seconds),
            Spent::Full => stages.held_up(Stage::Broker, seconds),
            Spent::Reading | Spent::Other => {}
        }
    }

    /// Adds the times of one measured message to the histograms and to decoding's share.
    pub fn measured(&mut self, decode: Duration, encode: Duration, stages: &StageMetrics) {
        let (decode, encode) = (decode.as_secs_f64(), encode.as_secs_f64());
        stages.took(Stage::Decode, decode);
        stages.took(Stage::Encode, encode);
        if decode + encode > 0.0 {
            self.decode_share += (decode / (decode + encode) - self.decode_share) * SHARE_WEIGHT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn spent(laps: &[(Spent, u64)]) -> [f64; 5] {
        let stages = Metrics::new("0").stages;
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for (spent, millis) in laps {
            now += Duration::from_millis(*millis);
            pace.lap(now, *spent, &stages);
        }
        Stage::ALL.map(|stage| (stages.busy_seconds(stage) * 1000.0).round() / 1000.0)
    }

    #[test]
    fn each_piece_of_time_goes_to_the_stage_that_took_it() {
        use Spent::{Full, Other, Planning, Reading, Working};
        assert_eq!(
            spent(&[(Working, 100), (Planning, 20), (Full, 30), (Other, 500)]),
            [0.0, 0.02, 0.08, 0.02, 0.03]
        );
        assert_eq!(spent(&[(Reading, 2), (Reading, 2), (Reading, 1)]), [0.005, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_server_with_nothing_to_send_holds_up_nobody() {
        assert_eq!(spent(&[(Spent::Reading, 900)]), [0.0; 5]);
    }

    #[test]
    fn bytes_gather_only_where_they_keep_coming_in_small_reads() {
        let ms = Duration::from_millis;
        assert_eq!(gather(100, ms(30), 0), None, "a lone transaction");
        assert_eq!(gather(100_000, ms(0), 9_000_000), None, "there is enough to do");
        assert_eq!(gather(100, ms(1), 0), Some(PAUSE));
        assert_eq!(
            gather(100, ms(1), 1_500_000),
            Some(PAUSE_BEHIND),
            "a backlog has waited for longer"
        );
        assert!(PAUSE_BEHIND < FLOWING, "the server is not idle while we pause");
    }

    #[test]
    fn measured_messages_say_how_the_row_path_is_split() {
        let stages = Metrics::new("0").stages;
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..5000 {
            pace.measured(Duration::from_micros(3), Duration::from_micros(1), &stages);
        }
        pace.lap(now + Duration::from_secs(4), Spent::Working, &stages);
        assert!((stages.busy_seconds(Stage::Decode) - 3.0).abs() < 0.01);
        assert_eq!(stages.sum_and_count(Stage::Encode).1, 5000);
    }
}
