//! What labels may say: fixed sets, and a bound for names that the source or the cluster invents.

use std::sync::OnceLock;

/// The most tables with counters of their own: at ten series each a scrape stays below 200 KiB.
pub const TABLES_MAX: usize = 200;

/// The most topics with a foreign-write counter of their own. One is already a finding; fifty show a pattern.
pub const TOPICS_MAX: usize = 50;

/// The label of everything beyond a bound.
pub(super) const OTHER: &str = "other";

/// The values of `wellspring_phase{phase}`, the words of `/status`.
pub const PHASES: [&str; 7] = ["connecting", "snapshot", "streaming", "paused", "retrying", "halted", "stopping"];

/// The values of `wellspring_slot_wal_status{status}`, as `pg_replication_slots` says them.
pub const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows went.
    Truncate,
    /// A row that was there before was copied.
    Read,
}

impl Operation {
    pub(super) const ALL: [Operation; 5] =
        [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate, Operation::Read];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
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

/// Whom we connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Postgres.
    Source,
    /// Kafka: a producer built anew.
    Sink,
}

impl Peer {
    pub(super) const ALL: [Peer; 2] = [Peer::Source, Peer::Sink];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Source => "source",
            Peer::Sink => "sink",
        }
    }
}

/// What failed, as far as an alert needs to tell it apart; the stable reason codes are in `/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Postgres is away, or a connection to it broke.
    Source,
    /// Postgres refuses us: rights, settings, another holder of the slot.
    SourceRefused,
    /// Kafka is away, or a delivery failed for now.
    Sink,
    /// Kafka refuses a record or us for good.
    SinkRefused,
    /// The registry is away.
    Registry,
    /// The registry refuses a schema.
    RegistryRefused,
    /// Continuity is not proven.
    Continuity,
    /// Bytes from Postgres that cannot be read.
    Decode,
    /// A row that cannot be published exactly.
    Encode,
    /// The state topic or state file.
    State,
}

impl Failure {
    pub(super) const ALL: [Failure; 10] = [
        Failure::Source,
        Failure::SourceRefused,
        Failure::Sink,
        Failure::SinkRefused,
        Failure::Registry,
        Failure::RegistryRefused,
        Failure::Continuity,
        Failure::Decode,
        Failure::Encode,
        Failure::State,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Source => "source",
            Failure::SourceRefused => "source_refused",
            Failure::Sink => "sink",
            Failure::SinkRefused => "sink_refused",
            Failure::Registry => "registry",
            Failure::RegistryRefused => "registry_refused",
            Failure::Continuity => "continuity",
            Failure::Decode => "decode",
            Failure::Encode => "encode",
            Failure::State => "state",
        }
    }
}

/// The first `N` names that came. Asking again about one of them answers the same; nothing ever leaves.
pub(super) struct Admitted<const N: usize>([OnceLock<Box<str>>; N]);

impl<const N: usize> Default for Admitted<N> {
    fn default() -> Self {
        Admitted([const { OnceLock::new() }; N])
    }
}

impl<const N: usize> Admitted<N> {
    /// Whether `name` has, or now gets, one of the places.
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
        assert!(Peer::ALL.iter().enumerate().all(|(i, p)| p.index() == i));
        assert!(Failure::ALL.iter().enumerate().all(|(i, f)| f.index() == i));
    }

    #[test]
    fn admits_the_first_names_and_keeps_to_them() {
        let names = Admitted::<2>::default();
        assert_eq!(["a", "b", "c", "a", "b"].map(|n| names.admit(n)), [true, true, false, true, true]);
    }
}
