//! The loop's time, given to the stages that took it: which of them holds up the others?
//!
//! A few readings of the clock for each turn of the loop, none for a row. What the row path costs is split between
//! decoding and encoding in the ratio of the messages that are measured, one of each burst.
//!
//! Also how long the reader lets bytes gather.

use crate::metrics::{Stage, StageMetrics};
use std::time::{Duration, Instant};

/// What the loop did with a piece of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Waited for bytes of the server, and may read.
    Reading,
    /// Ran the row path.
    Working,
    /// Waited for what a table needs.
    Planning,
    /// Waited for acknowledgements with no room for more.
    Full,
    /// Waited for anything else, or did housekeeping.
    Other,
}

/// A wait for bytes longer than this found the server with nothing to send: it holds up nobody. Well above the longest
/// pause.
const FLOWING: Duration = Duration::from_millis(4);

/// After a read shorter than this the reader pauses while data keeps flowing: the walsender makes one send a message, and
/// each would wake us inside its call. A factor of two in rate, three in the server's CPU (`docs/internals/pacing.md`).
const SHORT_READ_BYTES: usize = 64 * 1024;
/// The pause. 0.5 ms costs a commit 0.8 ms until it is acknowledged.
const PAUSE: Duration = Duration::from_micros(500);
/// The pause in a backlog, whose commits have waited for longer anyway: fewer wake-ups and fuller requests. In 2 ms a large
/// transaction fills what the kernel holds for us, and its walsender waits: a fifth less of drain_large's rate.
const PAUSE_BEHIND: Duration = Duration::from_millis(1);
/// A transaction sent this long after its commit, by the server's own clock, is of a backlog. In microseconds.
const BEHIND: i64 = 1_000_000;
/// Data flows when it was not waited for longer than this since the bytes before were handled: a lone transaction waits
/// for nobody.
const GATHERS: Duration = Duration::from_millis(2);

/// How long to let bytes gather after a read of `bytes` that was waited for, where the last transaction was sent `behind`
/// microseconds after its commit.
#[must_use]
pub fn gather(bytes: usize, waited: Duration, behind: i64) -> Option<Duration> {
    let pause = if behind > BEHIND { PAUSE_BEHIND } else { PAUSE };
    (bytes < SHORT_READ_BYTES && waited < GATHERS).then_some(pause)
}

/// How much a measured message moves the ratio of decoding and encoding: the last few hundred count.
const SHARE_WEIGHT: f64 = 1.0 / 256.0;

/// See the module's own words.
#[derive(Debug)]
pub struct Pace {
    at: Instant,
    /// Decoding's share of the row path, from 0 to 1.
    decode_share: f64,
}

impl Pace {
    /// Time begins to count.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Pace { at: now, decode_share: 0.2 }
    }

    /// The time since the last lap was spent so.
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

    /// One message was measured.
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
        assert_eq!(spent(&[(Working, 100), (Planning, 20), (Full, 30), (Other, 500)]), [0.0, 0.02, 0.08, 0.02, 0.03]);
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
        assert_eq!(gather(100, ms(1), 1_500_000), Some(PAUSE_BEHIND), "a backlog has waited for longer");
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
