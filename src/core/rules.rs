//! The rules of the core by name, so that a test can switch one off and show what it prevents.

/// A rule of the core. In the program all rules hold. The simulation breaks each one in turn and
/// must then find a violation of a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing is produced before the ended producer has settled.
    SettlesBeforeNext,
    /// A lost connection ends its producer, and the producer's queue is purged.
    LossEndsProducer,
    /// A producer that left records unanswered opens a confirm hold.
    UnansweredHolds,
    /// An unclean stop of another process opens a confirm hold.
    UncleanStopHolds,
    /// A start keeps the confirm holds that an earlier process left open.
    HoldsAreInherited,
    /// Before a hold ends, the ends of the partitions are read, to show whether records landed
    /// late.
    HoldAsksForEnds,
    /// After a late record the stream is read again from the hold's floor.
    LateRecordsReplay,
    /// The checkpoint that begins a replay lowers its delivered position to the begin of the
    /// replay.
    ReplayIsRecorded,
    /// A flush position is sent only after a checkpoint that holds it is acknowledged.
    RecordsBeforeUpdate,
    /// A failed delivery ends the producer.
    FailureEndsProducer,
    /// A suspension longer than wal_sender_timeout counts as a lost connection.
    FreezeLosesSlot,
    /// A record that is refused twice stops the stream before that record.
    SecondRefusalHalts,
    /// The slot is not released before the halt is recorded.
    HaltIsRecordedFirst,
    /// Deliveries are recorded every second, also during a confirm hold.
    RecordsEverySecond,
    /// The reconnect delay falls back to its minimum after progress, not after each connect.
    BackoffByProgress,
}

#[cfg(test)]
impl Rule {
    /// Every rule, for the test that breaks them one by one.
    pub const ALL: [Rule; 15] = [
        Rule::SettlesBeforeNext,
        Rule::LossEndsProducer,
        Rule::UnansweredHolds,
        Rule::UncleanStopHolds,
        Rule::HoldsAreInherited,
        Rule::HoldAsksForEnds,
        Rule::LateRecordsReplay,
        Rule::ReplayIsRecorded,
        Rule::RecordsBeforeUpdate,
        Rule::FailureEndsProducer,
        Rule::FreezeLosesSlot,
        Rule::SecondRefusalHalts,
        Rule::HaltIsRecordedFirst,
        Rule::RecordsEverySecond,
        Rule::BackoffByProgress,
    ];
}

/// The rules that hold. Outside of tests all of them do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    off: Option<Rule>,
}

impl Rules {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests one of them can be off")]
    pub(super) const fn keep(&self, _rule: Rule) -> bool {
        true
    }

    #[cfg(test)]
    pub(super) fn keep(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(test)]
    pub(super) const fn without(off: Option<Rule>) -> Self {
        Rules { off }
    }
}
