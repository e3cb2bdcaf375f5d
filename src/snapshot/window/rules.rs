//! The rules of chunks by name, so that a test can switch off one of them and show why it is
//! needed.

/// A rule. The program keeps all of them. The simulation breaks each in turn, and must then find a
/// violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The snapshot of a chunk has to see every transaction whose changes of the table were sent.
    SeesWhatWasEmitted,
    /// While a chunk is read, no change is sent that its snapshot does not see.
    HoldsWhileReading,
    /// Before a change that the snapshot does not see, the chunk's row of the same key is sent.
    ChunkRowComesFirst,
    /// A change that gives a row another key counts as a change of the old key too.
    KeyChangeTouchesBoth,
    /// Before a truncate, all rows of the chunk are sent.
    TruncateFlushes,
    /// The remaining rows of a chunk wait until the stream has passed the insert position that was
    /// read after the chunk.
    RestWaitsForPosition,
    /// The position that a chunk waits for is set back to the start of its WAL page if only the
    /// page header lies between.
    PageHeadersDoNotCount,
    /// A chunk is recorded in the journal after its delivery.
    JournalAfterDelivery,
    /// A chunk that is open when the connection or the producer is lost is dropped.
    LostWindowsAreDropped,
    /// Rows that moved without all of their values are read again.
    MovedRowsAreReadAgain,
    /// A row that lacks a value and moves on lacks the value at its next key too.
    LackMovesWithTheRow,
    /// A chunk whose snapshot saw a row move on does not count as bringing that row.
    CoversWhatItHolds,
    /// A copy is over only when the confirmed position has passed the copy's last position. Until
    /// then a replay can repeat changes that the copy has repaired.
    EndsOnceConfirmed,
}

/// The rules that are in force: all of them. A test can switch off one.
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
