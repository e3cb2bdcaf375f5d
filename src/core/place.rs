//! Where the stream stands on this connection.

use crate::change::Committed;
use crate::lsn::Lsn;

/// Positions of one connection. `sent` is kept from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct StreamPlace {
    /// Position at which this connection began, and the newest commit at or below that position.
    pub began: (Lsn, Option<Committed>),
    /// The larger of the last Commit's end and the last keepalive's end on this connection.
    pub received: Lsn,
    /// Highest commit position among the sent records. Positions compare only within an epoch.
    pub sent: Lsn,
    /// Value of the field `sequence` for the next checkpoint: the end of the newest commit, or the
    /// LSN of a later non-transactional message.
    pub sequence: Option<Lsn>,
    /// The commit that the replay must contain, until it arrives, and the highest position that may
    /// be confirmed to the server before it arrives.
    pub expect: Option<(Committed, Lsn)>,
    /// True between a Begin and its Commit.
    pub in_transaction: bool,
}
