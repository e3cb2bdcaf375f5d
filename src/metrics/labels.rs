//! Values that labels may have: fixed sets, and a bound on names of tables and topics.

use std::sync::OnceLock;

/// The most tables with counters of their own. Each table has twelve series, so these tables have
/// 2,400 series in a scrape.
pub const TABLES_MAX: usize = 200;

/// The most topics with a foreign-write counter of their own. A foreign write in one topic is
/// already a finding, and writes in fifty topics show a pattern.
pub const TOPICS_MAX: usize = 50;

/// Buckets in seconds from commit to acknowledgement. They are dense around the milliseconds that a
/// small transaction takes. They end at a minute, the default of the lag limit of `/readyz`.
pub(super) const LATENCY_BUCKETS: [f64; 18] = [
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0, 60.0,
];

/// The label of every name beyond a bound, and of every reason that has no known code.
pub(super) const OTHER: &str = "other";

/// The values of `wellspring_phase{phase}`, as `/status` writes the phases.
pub const PHASES: [&str; 8] =
    ["connecting", "snapshot", "streaming", "paused", "retrying", "standby", "halted", "stopping"];

/// The values of `wellspring_slot_wal_status{status}`, as `pg_replication_slots` has them.
pub const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// Kind of a published row change, for the label `operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
    /// The whole table was emptied.
    Truncate,
    /// An existing row was copied.
    Read,
}

impl Operation {
    pub(super) const ALL: [Operation; 5] = [
        Operation::Insert,
        Operation::Update,
        Operation::Delete,
        Operation::Truncate,
        Operation::Read,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The value of the label `operation` for this kind of change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Read => "read",
        }
    }
}

/// The side to which a new connection was made after the previous one had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The replication connection to Postgres.
    Source,
    /// Kafka: a new producer replaced the previous one.
    Sink,
}

impl Peer {
    /// The value of the label `peer` for this side.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Source => "source",
            Peer::Sink => "sink",
        }
    }
}

/// The values of `wellspring_watch_findings_total{code}`: the findings of the watch that do not
/// halt the stream.
pub const FINDINGS: [&str; 9] = [
    "identity_lost",
    "key_changed",
    "record_key_changed",
    "table_rewritten",
    "partition_attached",
    "partition_left",
    "partition_emptied",
    "publication_extended",
    "namespace_altered",
];

/// The first `N` different names that were counted, each of which is a label of its own. A name
/// keeps its place for ever.
pub(super) struct Admitted<const N: usize>([OnceLock<Box<str>>; N]);

impl<const N: usize> Default for Admitted<N> {
    fn default() -> Self {
        Admitted([const { OnceLock::new() }; N])
    }
}

impl<const N: usize> Admitted<N> {
    /// True if `name` is one of the `N` names, or becomes one now. False if `N` others are there.
    pub(super) fn admit(&self, name: &str) -> bool {
        self.0.iter().any(|place| &**place.get_or_init(|| name.into()) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_is_a_place_in_the_array() {
        assert!(Operation::ALL.iter().enumerate().all(|(i, o)| o.index() == i));
    }

    #[test]
    fn admits_the_first_names_and_keeps_to_them() {
        let names = Admitted::<2>::default();
        assert_eq!(
            ["a", "b", "c", "a", "b"].map(|n| names.admit(n)),
            [true, true, false, true, true]
        );
    }
}
