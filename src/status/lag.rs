//! The lag: the age of the oldest commit that Kafka has not acknowledged, received or not.
//!
//! This file is pure. It is given the position of the server, as read, and the positions of the
//! stream. A commit that was received has an exact time. A commit that was not received is known
//! only from the server's position. It lies between the last reading whose position Kafka has
//! acknowledged, and the first reading beyond.
//!
//! Laws:
//! - The lag is 0 only if Kafka has acknowledged everything up to a fresh reading.
//! - The lag of a stream that stands grows with the clock, whatever the reason.
//! - A lag that is not known is `None`, and never a number.

use crate::change::Committed;
use crate::lsn::Lsn;
use std::collections::VecDeque;

/// A reading counts as the server's present position for this long, in microseconds. The longest
/// spacing of readings is 5 s, and an answer may take a few seconds.
const FRESH_MICROS: i64 = 8_000_000;

/// The most readings that are kept. If there are more, every second one after the first two is
/// dropped. The first two decide the lag.
const MARKS_MAX: usize = 64;

/// A reading of the server's position: the first one that showed this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    lsn: Lsn,
    at_micros: i64,
}

/// Since when the oldest commit that Kafka has not acknowledged has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The age of that commit cannot be known.
    Unknown,
    /// Kafka has acknowledged every commit. This counts as known until this time, in Unix
    /// microseconds.
    CaughtUp(i64),
    /// The time of that commit, in Unix microseconds. The time is an estimate if the commit was not
    /// received.
    At(i64),
}

impl Since {
    /// The lag in seconds; `None` if it is not known.
    #[must_use]
    pub fn seconds(self, now_micros: i64) -> Option<f64> {
        match self {
            Since::Unknown => None,
            Since::CaughtUp(until) => (now_micros <= until).then_some(0.0),
            #[expect(clippy::cast_precision_loss, reason = "an age in microseconds, below 2^53")]
            Since::At(at) => Some((now_micros.saturating_sub(at) as f64 / 1e6).max(0.0)),
        }
    }
}

/// What is known about the positions of server, stream and Kafka.
#[derive(Debug, Default)]
pub struct Lag {
    /// Readings of the server's position, whose positions rise. At most the first of them lies at
    /// or before `delivered`.
    marks: VecDeque<Mark>,
    /// Time of the newest reading; `None` if the server cannot be asked now.
    read_micros: Option<i64>,
    /// True if the server's position fell. The server then has another history.
    went_back: bool,
    /// True if another agent has the slot, or had it last.
    elsewhere: bool,
    received: Lsn,
    /// Kafka has acknowledged everything before this position. `None` before that is known.
    delivered: Option<Lsn>,
    /// The oldest commit that was received and is not acknowledged. It is kept when the connection
    /// is lost.
    oldest: Option<Committed>,
    /// Time of the newest acknowledged commit, in Unix microseconds.
    acknowledged_micros: Option<i64>,
}

impl Lag {
    /// Notes a reading of the server's position.
    pub fn read(&mut self, at_micros: i64, server: Lsn) {
        self.read_micros = Some(at_micros);
        match self.marks.back() {
            Some(last) if server < last.lsn => self.went_back = true,
            Some(last) if server == last.lsn => {}
            _ => self.marks.push_back(Mark { lsn: server, at_micros }),
        }
        if self.marks.len() > MARKS_MAX {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at <= 2 || at % 2 == 1
            });
        }
        let newest = self.marks.back().map(|mark| mark.lsn);
        assert!(newest >= Some(server), "a reading is kept, or it is below the newest one");
    }

    /// Notes that the server cannot be asked now, so that its position is not known.
    pub fn lost(&mut self) {
        self.read_micros = None;
    }

    /// Notes that a connection has passed the continuity checks. `is_other` is true if the epoch or
    /// the server's timeline has changed. If it is true, or if another agent had the slot,
    /// everything that was noted so far is forgotten.
    pub fn opened(&mut self, is_other: bool) {
        if is_other || self.elsewhere {
            *self = Lag::default();
        }
    }

    /// Notes that another agent has the slot. Its stream is not ours to measure until we have a
    /// connection again.
    pub fn stand_by(&mut self) {
        *self = Lag { elsewhere: true, ..Lag::default() };
    }

    /// Notes the positions of the stream: received and delivered, the oldest commit that waits for
    /// an acknowledgement, and the newest acknowledged commit.
    pub fn stream(
        &mut self,
        (received, delivered): (Lsn, Lsn),
        oldest: Option<Committed>,
        acknowledged: Option<Committed>,
    ) {
        self.received = received;
        if delivered == Lsn::ZERO || self.elsewhere {
            return; // No connection of ours has been proven yet.
        }
        // After a replay has begun, the given position can lie before one that Kafka has
        // acknowledged already.
        let delivered = self.delivered.map_or(delivered, |before| before.max(delivered));
        self.delivered = Some(delivered);
        let newest = [acknowledged, self.oldest.take_if(|oldest| oldest.end <= delivered)];
        for commit in newest.into_iter().flatten() {
            let at = commit.at.unix_micros();
            let newest = self.acknowledged_micros.map_or(at, |before| before.max(at));
            self.acknowledged_micros = Some(newest);
        }
        if let Some(open) = oldest.filter(|open| open.end > delivered)
            && self.oldest.is_none_or(|known| open.end < known.end)
        {
            self.oldest = Some(open);
        }
        assert!(
            self.oldest.is_none_or(|oldest| oldest.end > delivered),
            "the oldest commit that waits is acknowledged"
        );
        while self.marks.get(1).is_some_and(|second| second.lsn <= delivered) {
            self.marks.pop_front();
        }
    }

    /// Returns the time of the oldest commit that Kafka has not acknowledged, or that there is no
    /// such commit, or that the time is unknown.
    #[must_use]
    pub fn since(&self) -> Since {
        let Some(delivered) = self.delivered.filter(|_| !self.went_back) else {
            return Since::Unknown;
        };
        if let Some(oldest) = self.oldest {
            return Since::At(oldest.at.unix_micros());
        }
        match self.marks.iter().position(|mark| mark.lsn > delivered) {
            // Kafka has acknowledged the position of the reading before it. So the commit came
            // between the two readings.
            Some(first) if first > 0 => Since::At(self.marks[first].at_micros),
            Some(_) => self.acknowledged_micros.map_or(Since::Unknown, Since::At),
            None if self.marks.is_empty() => Since::Unknown,
            None => {
                let until = self.read_micros.map(|at| at + FRESH_MICROS);
                until.map_or(Since::Unknown, Since::CaughtUp)
            }
        }
    }

    /// The end of the server's WAL; `None` if it is not known now.
    #[must_use]
    pub fn server(&self, now_micros: i64) -> Option<Lsn> {
        let fresh = self.read_micros.is_some_and(|at| now_micros <= at + FRESH_MICROS);
        let read = self.marks.back().filter(|_| fresh && !self.went_back)?;
        Some(read.lsn.max(self.received))
    }

    /// Bytes of the server's WAL that Kafka has not acknowledged; `None` if that is not known.
    #[must_use]
    pub fn bytes(&self, now_micros: i64) -> Option<u64> {
        Some(self.server(now_micros)?.bytes_since(self.delivered?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::{PgMicros, Xid};

    const SECOND: i64 = 1_000_000;

    fn commit(end: u64, at_micros: i64) -> Committed {
        Committed { end: Lsn::new(end), xid: Xid(1), at: PgMicros::from_unix_micros(at_micros) }
    }

    fn positions(received: u64, delivered: u64) -> (Lsn, Lsn) {
        (Lsn::new(received), Lsn::new(delivered))
    }

    /// Kafka has acknowledged everything before position 100, which the server had at second 10.
    fn caught_up() -> Lag {
        let mut lag = Lag::default();
        lag.stream(positions(100, 100), None, Some(commit(90, 5 * SECOND)));
        lag.read(10 * SECOND, Lsn::new(100));
        lag
    }

    #[test]
    fn nothing_is_known_before_a_connection_and_a_reading() {
        let mut lag = Lag::default();
        assert_eq!((lag.since(), lag.bytes(0)), (Since::Unknown, None));
        lag.read(SECOND, Lsn::new(100));
        assert_eq!((lag.since(), lag.bytes(SECOND)), (Since::Unknown, None));
    }

    #[test]
    fn the_lag_is_0_only_up_to_a_fresh_reading() {
        let mut lag = caught_up();
        assert_eq!(lag.since().seconds(11 * SECOND), Some(0.0));
        assert_eq!(lag.since().seconds(30 * SECOND), None);
        assert_eq!(lag.bytes(11 * SECOND), Some(0));
        assert_eq!(lag.bytes(30 * SECOND), None);
        lag.lost();
        assert_eq!((lag.since(), lag.bytes(11 * SECOND)), (Since::Unknown, None));
    }

    #[test]
    fn the_lag_of_a_received_commit_is_exact_over_connections() {
        let mut lag = caught_up();
        lag.stream(positions(200, 100), Some(commit(150, 20 * SECOND)), None);
        assert_eq!(lag.since().seconds(50 * SECOND), Some(30.0));
        lag.lost();
        // The next connection begins before the commit, and has not received the commit yet.
        lag.stream(positions(100, 100), None, None);
        assert_eq!(lag.since().seconds(60 * SECOND), Some(40.0));
        lag.stream(positions(200, 150), None, Some(commit(150, 20 * SECOND)));
        lag.read(61 * SECOND, Lsn::new(150));
        assert_eq!(lag.since().seconds(61 * SECOND), Some(0.0));
    }

    #[test]
    fn a_commit_that_was_not_received_counts_from_its_reading() {
        let mut lag = caught_up();
        lag.read(11 * SECOND, Lsn::new(130));
        for second in 12..500 {
            lag.read(second * SECOND, Lsn::new(130 + u64::try_from(second).unwrap()));
        }
        assert_eq!(lag.since().seconds(500 * SECOND), Some(489.0));
        assert_eq!(lag.bytes(500 * SECOND), Some(130 + 499 - 100));
        assert!(lag.marks.len() <= MARKS_MAX);
        // Kafka acknowledges the position of the first of these readings.
        lag.stream(positions(200, 135), None, None);
        let at = lag.since().seconds(500 * SECOND).unwrap();
        assert!(at < 489.0 && at > 400.0, "{at}");
    }

    #[test]
    fn a_stream_that_catches_up_is_as_old_as_its_last_commit() {
        let mut lag = Lag::default();
        lag.stream(positions(100, 100), None, None);
        lag.read(1000 * SECOND, Lsn::new(900));
        assert_eq!(lag.since(), Since::Unknown);
        lag.stream(positions(200, 200), None, Some(commit(200, 300 * SECOND)));
        assert_eq!(lag.since().seconds(1000 * SECOND), Some(700.0));
    }

    #[test]
    fn a_standby_measures_nothing_of_what_another_agent_does() {
        let mut lag = caught_up();
        lag.stand_by();
        lag.stream(positions(100, 100), None, Some(commit(90, 5 * SECOND)));
        lag.read(20 * SECOND, Lsn::new(500));
        assert_eq!((lag.since(), lag.bytes(20 * SECOND)), (Since::Unknown, None));
        lag.opened(false);
        lag.stream(positions(500, 500), None, None);
        lag.read(21 * SECOND, Lsn::new(500));
        assert_eq!(lag.since().seconds(21 * SECOND), Some(0.0));
    }

    #[test]
    fn a_server_that_went_back_makes_the_lag_unknown() {
        let mut lag = caught_up();
        lag.read(11 * SECOND, Lsn::new(50));
        assert_eq!((lag.since(), lag.bytes(11 * SECOND)), (Since::Unknown, None));
        lag.opened(true);
        lag.stream(positions(50, 50), None, None);
        lag.read(12 * SECOND, Lsn::new(50));
        assert_eq!(lag.since().seconds(12 * SECOND), Some(0.0));
    }
}
