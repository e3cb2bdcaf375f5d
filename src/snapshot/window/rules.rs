//! The rules of chunks by name, so that a test can switch off one of them and show why it is
//! needed.

/// A rule of chunks. The program keeps every rule. The simulation switches off one rule at a time,
/// and must then find a violation of a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The snapshot of a chunk has to see every transaction whose changes of the table were sent.
    SeesWhatWasEmitted,
    /// While a chunk is read, a change of the table is not sent if the chunk's snapshot does not
    /// see the change's transaction.
    HoldsWhileReading,
    /// Before a change that the snapshot does not see, the chunk's row of the same key is sent.
    ChunkRowComesFirst,
    /// A change that gives a row another key counts as a change of the old key too.
    KeyChangeTouchesBoth,
    /// Before a truncate is sent, all rows of the chunk that are not sent yet are sent.
    TruncateFlushes,
    /// The remaining rows of a chunk wait until the stream has passed the insert position that was
    /// read after the chunk.
    RestWaitsForPosition,
    /// The position that a chunk waits for is set back to the start of its WAL page if only the
    /// page header lies between.
    PageHeadersDoNotCount,
    /// A chunk is recorded in the journal only after all its rows are delivered.
    JournalAfterDelivery,
    /// A chunk that is open when the connection or the producer is lost is dropped.
    LostWindowsAreDropped,
    /// If an update gave a row another key and the stream left out a large value of the row, the
    /// row is read again.
    MovedRowsAreReadAgain,
    /// If the consumer lacks a value of a row and an update gives the row another key, the consumer
    /// lacks the value at the new key too.
    LackMovesWithTheRow,
    /// A chunk does not count as bringing the value of a moved row if the chunk's snapshot saw that
    /// the row moved on to another key.
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
