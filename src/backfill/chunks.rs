//! The chunks of a copy: the size of the next chunk, and what became of the earlier chunks.

use super::{QUICK, ROWS_FIRST, ROWS_MAX, SLOW};
use crate::core::Moment;
use crate::snapshot::window::What;

/// The chunks of one copy.
pub(super) struct Chunks {
    /// Rows that the next chunk of a new range of keys asks for.
    pub rows_asked: u64,
    /// When the chunk under way began.
    pub began: Moment,
    /// True if the chunk under way is a new range of keys, false if it reads moved rows again.
    pub goes_forward: bool,
    /// Number of delivered chunks by the copy's newest state record that Kafka has acknowledged.
    pub recorded: u64,
    /// Number of chunks that were begun and dropped.
    pub dropped: u64,
    /// The reason of the last drop.
    pub dropped_why: String,
}

impl Chunks {
    /// The chunks of a copy that has read no chunk in this process.
    pub fn new(recorded: u64, now: Moment) -> Self {
        Chunks {
            rows_asked: ROWS_FIRST,
            began: now,
            goes_forward: false,
            recorded,
            dropped: 0,
            dropped_why: String::new(),
        }
    }

    /// Sets the rows of the next chunk of a new range by the time that the last chunk took, in
    /// microseconds.
    pub fn took(&mut self, took_us: u64) {
        if took_us < QUICK {
            self.rows_asked = (self.rows_asked * 2).min(ROWS_MAX);
        } else if took_us > SLOW {
            self.rows_asked = (self.rows_asked / 2).max(1);
        }
    }

    /// Bounds the keys of a chunk that reads moved rows again by the rows that a chunk asks for. The
    /// rest of the keys is read by the next chunk.
    pub fn bounded(&self, what: What) -> What {
        match what {
            What::Keys(mut keys) => {
                keys.truncate(usize::try_from(self.rows_asked).unwrap_or(usize::MAX));
                What::Keys(keys)
            }
            beyond @ What::Beyond(_) => beyond,
        }
    }

    /// Lets the next chunk of a new range ask for a quarter of the rows. Returns false if it asks
    /// for one row already.
    pub fn shrink(&mut self) -> bool {
        let can_shrink = self.rows_asked > 1;
        self.rows_asked = (self.rows_asked / 4).max(1);
        can_shrink
    }
}
