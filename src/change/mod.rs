//! Messages become changes: which table, which transaction, at which position.
//!
//! This room is pure. It holds the cache of relations by oid, and the context of the open
//! transaction. It does not encode, and it does not ask the catalog: the facts are an argument of
//! the function `describe`. The room skips nothing, so a message that it cannot place is an error.

mod describe;

pub use describe::{describe, describe_copied};

use crate::lsn::{Lsn, PgMicros, Xid};
use crate::pgoutput::{OldTuple, Tuple};

/// Where a change stands in the stream. Every replay within an epoch has the same Position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Start of the transaction's commit record, which is the final LSN of Begin. For a message
    /// outside of transactions it is the byte before the message's LSN. That LSN is the end of the
    /// message's record, and a commit record may begin there.
    pub commit: Lsn,
    /// Number of rows, truncated tables and messages of the transaction before this change, before
    /// any filter of ours. It is 0 for a message outside of transactions.
    pub ordinal: u64,
}

/// The place of one change, and the facts of its transaction. Events carry both in `source`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context<'a> {
    /// Place of the change in the stream.
    pub position: Position,
    /// Start of the change's own WAL record (XLogData header); for a message of
    /// `pg_logical_emit_message` the end of its WAL record. It does not always rise from one
    /// transaction to the next.
    pub lsn: Lsn,
    /// End of the last commit before this change, or LSN of the last message outside of
    /// transactions. For such a message it is the message's own LSN. `None` before the first commit
    /// or message. It is `source.sequence[0]`.
    pub last_commit: Option<Lsn>,
    /// Id of the transaction; `None` for a message outside of transactions.
    pub xid: Option<Xid>,
    /// Time of the commit; for a message outside of transactions the time at which its frame was
    /// sent.
    pub committed_at: PgMicros,
    /// Name of the transaction's replication origin, and the position of its commit in the WAL of
    /// the origin's server. `None` if the transaction has no origin.
    pub origin: Option<(&'a str, Lsn)>,
    /// `catalog_xmin` of the replication slot when the agent last read it. `None` for a copied row,
    /// or if the agent does not read it. It is `source.xmin`.
    pub xmin: Option<Xid>,
    /// Whether the row was streamed or copied. It is `source.snapshot`.
    pub marker: Marker,
}

/// Whether a row was streamed or copied, and the place of a copied row in its copy. It is
/// `source.snapshot`.
///
/// A row of the first copy has the consistent point as `lsn`, the newest transaction id that its
/// snapshot knows of as `xid`, and no `last_commit`. A row of a later copy has no LSN and no
/// transaction id of its own. Its `xid` is `None`, and its `lsn` is the position that the stream
/// had reached when the row was sent. This `lsn` shows only in `source.sequence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marker {
    /// The row was streamed: it comes from the write-ahead log.
    #[default]
    Streamed,
    /// The first row of the first table of the first copy.
    First,
    /// The first row of a table of the first copy other than the first table.
    FirstInTable,
    /// A row of the first copy that is neither the first nor the last of its table.
    Inside,
    /// The last row of a table of the first copy other than the last table.
    LastInTable,
    /// The last row of the first copy.
    Last,
    /// A row of a backfill or of a standstill.
    Incremental,
}

impl Marker {
    /// Debezium's word for the marker.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Marker::Streamed => "false",
            Marker::First => "first",
            Marker::FirstInTable => "first_in_data_collection",
            Marker::Inside => "true",
            Marker::LastInTable => "last_in_data_collection",
            Marker::Last => "last",
            Marker::Incremental => "incremental",
        }
    }
}

/// One change of one row, or the truncation of one table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row<'a> {
    /// The row did not exist before.
    Insert {
        /// The new row; no cell is `Unchanged`.
        new: Tuple<'a>,
    },
    /// The row existed before; its key can have changed too.
    Update {
        /// The part of the old row that the replica identity logs. `None` if the server sent none.
        old: Option<OldTuple<'a>>,
        /// The new row; cells may be `Unchanged`.
        new: Tuple<'a>,
    },
    /// The row exists no longer.
    Delete {
        /// The part of the old row that the replica identity logs.
        old: OldTuple<'a>,
    },
    /// A copy has read the row from the table. The row does not come from the stream.
    Read {
        /// The row; no cell is `Unchanged`.
        new: Tuple<'a>,
    },
    /// TRUNCATE of this table. A statement over several tables makes one such change for each
    /// table, and each has its own ordinal.
    Truncate,
}

mod stream;
#[cfg(test)]
mod tests;

pub use stream::{ChangeError, Changes, Committed, RelationShape, RelationSlot, ShapeColumn, Step};
