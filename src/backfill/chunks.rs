//! The chunks of a copy: the size of the next chunk, and what became of the earlier chunks.

use super::{QUICK, ROWS_FIRST, ROWS_MAX, SLOW};
use crate::core::Moment;
use crate::snapshot::window::What;

/// The chunks of one copy.
pub(super) struct Chunks {
    /// The most rows that the next chunk of a new range of keys reads.
    pub rows_asked: u64,
    /// When the chunk under way began.
    pub began: Moment,
    /// True if the chunk under way reads a new range of keys. False if it reads rows again that an
    /// update has moved to another key.
    pub goes_forward: bool,
    /// Number of delivered chunks in the copy's newest state record that Kafka has acknowledged.
    pub recorded: u64,
    /// Number of chunks that were begun and dropped.
    pub dropped: u64,
    /// Why the newest dropped chunk was dropped; empty if no chunk was dropped.
    pub dropped_why: String,
}

impl Chunks {
    /// Creates the chunks of a copy that has read no chunk in this process. `recorded` is the
    /// number of its delivered chunks by its state record.
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

    /// Sets the number of rows of the next chunk: twice as many after a quick chunk, and half as
    /// many after a slow one. `took_us` is the time that the last chunk took.
    pub fn took(&mut self, took_us: u64) {
        if took_us < QUICK {
            self.rows_asked = (self.rows_asked * 2).min(ROWS_MAX);
        } else if took_us > SLOW {
            self.rows_asked = (self.rows_asked / 2).max(1);
        }
    }

    /// Limits a chunk that reads moved rows again: it gets at most as many keys as a chunk may have
    /// rows. A later chunk reads the other keys.
    pub fn bounded(&self, what: What) -> What {
        match what {
            What::Keys(mut keys) => {
                keys.truncate(usize::try_from(self.rows_asked).unwrap_or(usize::MAX));
                What::Keys(keys)
            }
            beyond @ What::Beyond(_) => beyond,
        }
    }

    /// Reduces the number of rows of the next chunk to a quarter, but to no less than one row.
    /// Returns false if the number was one already.
    pub fn shrink(&mut self) -> bool {
        let can_shrink = self.rows_asked > 1;
        self.rows_asked = (self.rows_asked / 4).max(1);
        can_shrink
    }
}
