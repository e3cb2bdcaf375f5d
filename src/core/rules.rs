//! The rules of the core by name, so that a test can switch one off and see what it is for.

/// A rule. In the program all of them hold; the simulation breaks each in turn and must then find a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing is produced before the producer that ended has settled.
    SettlesBeforeNext,
    /// A lost connection ends its producer, so that its queue is purged.
    LossEndsProducer,
    /// A producer that left records unanswered opens a confirm hold.
    UnansweredHolds,
    /// An unclean stop of another process opens a confirm hold.
    UncleanStopHolds,
    /// Holds that an earlier process left open are kept.
    HoldsAreInherited,
    /// Before a hold ends, the partitions' ends show whether records landed late.
    HoldAsksForEnds,
    /// A late record makes the stream be read again from the hold's floor.
    LateRecordsReplay,
    /// The record that begins a replay takes back what it said is delivered.
    ReplayIsRecorded,
    /// A flush position is sent once its record is acknowledged.
    RecordsBeforeUpdate,
    /// A failed delivery ends the producer.
    FailureEndsProducer,
    /// A suspension longer than the server's patience is a lost connection.
    FreezeLosesSlot,
    /// A record that is refused twice stops the stream before it.
    SecondRefusalHalts,
    /// The slot is held until the halt is recorded.
    HaltIsRecordedFirst,
    /// Deliveries are recorded every second, also while a hold is open.
    RecordsEverySecond,
    /// Attempts to connect begin anew by progress, not by connecting.
    BackoffByProgress,
}

#[cfg(test)]
impl Rule {
    /// Every rule.
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

/// Which rules hold: all of them, outside of tests.
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
