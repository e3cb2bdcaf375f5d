//! The pace of copies: the operator's limit of rows per second, and the pauses that the source's
//! load asks for.

use crate::core::{Moment, SECOND};
use crate::snapshot;
use crate::snapshot::throttle::Share;

/// The longest pause that the limit of rows per second may ask for after one chunk.
const PAUSE_MAX_SECONDS: u64 = 10;

/// Decides when the next chunk of any copy may begin.
pub(super) struct Pace {
    /// The operator's limit of rows per second. It is above 0.
    pub rows_per_second: Option<u64>,
    /// Share of the time that chunks may take.
    pub share: Share,
    /// No chunk begins before this moment.
    pub rests_until: Moment,
}

impl Pace {
    /// No limit and no rest.
    pub fn free() -> Self {
        Pace { rows_per_second: None, share: Share::FREE, rests_until: Moment::default() }
    }

    /// Sets the operator's limit of rows per second. `None` and 0 mean that there is no limit. A
    /// changed limit ends the pause that the earlier limit asked for.
    pub fn configure(&mut self, rows_per_second: Option<u64>, now: Moment) {
        let limit = rows_per_second.filter(|rate| *rate > 0);
        if limit != self.rows_per_second {
            (self.rows_per_second, self.rests_until) = (limit, now);
        }
    }

    /// Most rows of one chunk, so that the pause after the chunk is at most 10 s.
    pub fn chunk_rows_max(&self) -> u64 {
        self.rows_per_second.map_or(u64::MAX, |rate| rate.saturating_mul(PAUSE_MAX_SECONDS))
    }

    /// Sets the rest of all copies after a chunk. The rest is the longer of two: the one that the
    /// share asks for after `took_us` microseconds, and the one that the limit of rows per second
    /// asks for after `rows` rows.
    pub fn rest_after(&mut self, rows: u64, took_us: u64, now: Moment) {
        let by_rows = self.rows_per_second.map_or(0, |rate| rows.saturating_mul(SECOND) / rate);
        // A chunk that was asked for under another limit can have more rows than this limit allows.
        let by_rows = by_rows.min(PAUSE_MAX_SECONDS * SECOND);
        self.rests_until = now.plus(by_rows.max(self.share.rest_after(took_us)));
    }
}

/// The pace of a copy during which the stream does not move: the first copy or a standstill. The
/// readers of such a copy hand over pieces of rows.
pub struct PiecePace {
    rows_per_second: Option<u64>,
    /// Share of the time that pieces may take.
    share: Share,
    /// The moment at which the next piece may be taken.
    next_piece: Moment,
}

impl PiecePace {
    /// The pace of a copy that begins now.
    #[must_use]
    pub fn new(config: &snapshot::Config, now: Moment) -> Self {
        let rows_per_second = config.rows_per_second.filter(|rate| *rate > 0);
        PiecePace { rows_per_second, share: Share::FREE, next_piece: now }
    }

    /// Sets the share of the time that pieces may take.
    pub fn take_share(&mut self, share: Share) {
        self.share = share;
    }

    /// The moment at which the next piece may be taken.
    #[must_use]
    pub fn next_piece(&self) -> Moment {
        self.next_piece
    }

    /// Notes that a piece of this many rows was taken, and sets the moment of the next one.
    pub fn took(&mut self, rows: usize, now: Moment) {
        let pause =
            self.rows_per_second.map_or(0, |rate| (rows as u64).saturating_mul(SECOND) / rate);
        let pause = pause.max(self.share.rest_after(now.since(self.next_piece)));
        self.next_piece = self.next_piece.max(now).plus(pause);
    }
}
