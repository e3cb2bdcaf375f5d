//! What labels may say: fixed sets, and a bound for names that the source or the cluster invents.

use std::sync::OnceLock;

/// The most tables with counters of their own: at ten series each a scrape stays below 200 KiB.
pub const TABLES_MAX: usize = 200;

/// The most topics with a foreign-write counter of their own. One is already a finding; fifty show a pattern.
pub const TOPICS_MAX: usize = 50;

/// Seconds from commit to acknowledgement. Dense around the milliseconds that a small transaction takes, sparse up to
/// the minute after which `/readyz` has long said no.
pub(super) const LATENCY_BUCKETS: [f64; 18] =
    [0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

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
    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Source => "source",
            Peer::Sink => "sink",
        }
    }
}

/// The values of `wellspring_failures_total{reason}` and `wellspring_reconnects_total{reason}`: the stable codes of
/// status. What is none of them counts as `other`.
pub const REASONS: [&str; 40] = [
    "postgres_unavailable",
    "postgres_refuses",
    "tls_refused",
    "postgres_settings",
    "slot_in_use",
    "slot_waits",
    "stream_broke",
    "synchronous_standby",
    "standby_behind",
    "kafka_unavailable",
    "kafka_refuses",
    "state_unavailable",
    "topic_unavailable",
    "registry_unavailable",
    "schema_refused",
    "schema_ids_differed",
    "table_refused",
    "publication_incomplete",
    "slot_missing",
    "slot_lost",
    "slot_ahead",
    "slot_foreign",
    "state_missing",
    "other_cluster",
    "other_database",
    "timeline_unknown",
    "published_ahead",
    "server_went_back",
    "history_differs",
    "publication_missing",
    "publication_changed",
    "table_recreated",
    "table_republished",
    "table_not_published",
    "record_too_large",
    "row_unencodable",
    "undeliverable",
    "offsets_went_back",
    "state_unreadable",
    "copy_unfinished",
];

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
    }

    #[test]
    fn admits_the_first_names_and_keeps_to_them() {
        let names = Admitted::<2>::default();
        assert_eq!(["a", "b", "c", "a", "b"].map(|n| names.admit(n)), [true, true, false, true, true]);
    }
}
