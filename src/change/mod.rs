//! Messages become changes: which table, which transaction, at which position.
//!
//! Pure. Holds the cache of relations by oid and the context of the transaction being read; does
//! not encode, does not ask the catalog (facts come in by `Changes::describe`), and skips nothing:
//! what it cannot place is an error.

mod describe;

pub use describe::{describe, describe_copied};

use crate::lsn::{Lsn, PgMicros, Xid};
use crate::pgoutput::{OldTuple, Tuple};

/// Where a change stands in the stream: the same for every replay of it within an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Start of the transaction's commit record (Begin's final LSN). Of a non-transactional message
    /// the byte before its own LSN: that LSN is the end of its record, where a commit record may
    /// begin.
    pub commit: Lsn,
    /// Count of row messages of the transaction before this one, before any filter of ours; 0 for
    /// such a message.
    pub ordinal: u64,
}

/// What every change of one transaction shares, and events carry in `source`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context<'a> {
    /// Its place in the stream.
    pub position: Position,
    /// Start of the change's own WAL record (XLogData header). Not monotonic across transactions.
    pub lsn: Lsn,
    /// End of the last commit (or own LSN of the last non-transactional message) before this one,
    /// of such a message its own; none until one was seen. `source.sequence[0]`.
    pub last_commit: Option<Lsn>,
    /// None for a non-transactional logical message.
    pub xid: Option<Xid>,
    /// Commit time; for a non-transactional message the time its frame was sent.
    pub committed_at: PgMicros,
    /// Replication origin of the transaction, with its position there.
    pub origin: Option<(&'a str, Lsn)>,
    /// The oldest transaction whose catalog rows the server keeps for the slot, as it was looked up
    /// last; none of a copied row, and where it is not looked up. `source.xmin`.
    pub xmin: Option<Xid>,
    /// Whether the row was streamed or copied; `source.snapshot`.
    pub marker: Marker,
}

/// Where a row comes from, and a copied one's place in its copy: `source.snapshot`.
///
/// A row of the first copy has as `lsn` the consistent point, as `xid` the newest one its snapshot
/// knows of, and no `last_commit`. A row of a later copy has neither an LSN nor an xid of its own:
/// `xid` is none, `lsn` is where the stream stood and shows in `source.sequence` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marker {
    /// From the write-ahead log.
    #[default]
    Streamed,
    /// The first row of the first table of the first copy.
    First,
    /// The first row of another table.
    FirstInTable,
    /// Neither first nor last.
    Inside,
    /// The last row of a table.
    LastInTable,
    /// The last row of the first copy.
    Last,
    /// Of a copy made while streaming.
    Incremental,
}

impl Marker {
    /// Debezium's word for it.
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
        /// What the identity logs of the old row, if anything.
        old: Option<OldTuple<'a>>,
        /// The new row; cells may be `Unchanged`.
        new: Tuple<'a>,
    },
    /// The row exists no longer.
    Delete {
        /// What the identity logs of the old row.
        old: OldTuple<'a>,
    },
    /// A row that was there before: copied, not streamed.
    Read {
        /// The row; no cell is `Unchanged`.
        new: Tuple<'a>,
    },
    /// TRUNCATE of this table; a statement over several tables is one of these for each, at
    /// ordinals of their own.
    Truncate,
}

mod stream;
#[cfg(test)]
mod tests;

pub use stream::{ChangeError, Changes, Committed, RelationShape, RelationSlot, ShapeColumn, Step};
