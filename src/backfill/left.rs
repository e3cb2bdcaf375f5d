//! Tables that cannot be copied while the stream runs: reason, detail and next step of each kind.

use crate::reason::CopyReason;
use crate::snapshot::journal::Left;

/// The reason and the next step for a table that has a query in `snapshot.query` and therefore
/// cannot be backfilled. The rows of a query are in no order of keys that chunks could follow, and
/// the query can change values that the stream sends unchanged.
#[must_use]
pub fn queried(table: &str) -> (String, String) {
    let detail = format!(
        "table {table} has a query of its own in snapshot.query, which only the first copy can read"
    );
    let next = format!(
        "take {table} out of snapshot.query (snapshot.where takes a condition instead) and start \
         again"
    );
    (detail, next)
}

/// Returns the reason and the next step for an outbox table, which cannot be copied.
#[must_use]
pub fn events_only() -> Left {
    Left::new(
        CopyReason::RowRefused,
        "the table is an outbox, whose events are not sent again",
        "insert the events again that consumers lack",
    )
}

/// Returns the reason and the next step for a table that the configuration does not capture.
#[must_use]
pub fn not_captured() -> Left {
    Left::new(
        CopyReason::NotCaptured,
        "the table is not captured by the configuration",
        "add it to tables.include",
    )
}
