//! The rules of windows by name, so that a test can switch one off and see what it is for.

/// A rule. In the program all of them hold; the simulation breaks each in turn and must then find a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A chunk's snapshot has to see every transaction whose changes of the table were emitted.
    SeesWhatWasEmitted,
    /// While a chunk is read no change is emitted that its snapshot does not see.
    HoldsWhileReading,
    /// Before a change of a key that the snapshot does not see comes the chunk's row of that key.
    ChunkRowComesFirst,
    /// A change of the key touches the old one too.
    KeyChangeTouchesBoth,
    /// Before a truncate comes everything of the chunk.
    TruncateFlushes,
    /// The rest of a chunk waits until the stream has passed the insert position of its reading.
    RestWaitsForPosition,
    /// That position is set back to the page's start where only a header lies between.
    PageHeadersDoNotCount,
    /// A chunk is journalled once it is delivered.
    JournalAfterDelivery,
    /// A window open when the connection or the producer is lost is dropped.
    LostWindowsAreDropped,
    /// Rows that moved without all of their values are read again.
    MovedRowsAreReadAgain,
    /// A row that moves on lacks at its next key what it lacked.
    LackMovesWithTheRow,
    /// A window that saw a row move on does not bring it.
    CoversWhatItHolds,
    /// A copy is over once nothing that it repaired can come again.
    EndsOnceConfirmed,
}

/// Which rules hold: all of them, outside of tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    off: Option<Rule>,
}

impl Rules {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests one of them can be off")]
    pub(super) const fn keeps(&self, _rule: Rule) -> bool {
        true
    }

    #[cfg(test)]
    pub(super) fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(test)]
    pub(super) const fn without(off: Option<Rule>) -> Self {
        Rules { off }
    }
}
