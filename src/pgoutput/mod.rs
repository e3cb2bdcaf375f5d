//! pgoutput, protocol version 1: bytes to [`Message`], borrowing from the read buffer.
//!
//! This room is pure and checks bounds. It compares every length and count with the bytes at hand
//! before it reads or reserves anything. So a hostile or broken server costs an error and no
//! memory. `change` knows to which Relation a row belongs. Source of the format: Postgres
//! documentation, "Logical Replication Message Formats", servers 14 to 18.

mod copy_row;
mod decode;
mod reader;
#[cfg(test)]
mod tests;
mod tuple;

pub use copy_row::{CopyRow, CopyRowError};
pub use decode::decode;
pub use reader::DecodeError;
pub use tuple::{Cell, CellSpan, Tuple};

use crate::lsn::{Lsn, Oid, PgMicros, Xid};

/// One logical replication message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message<'a> {
    /// A transaction begins. Protocol version 1 sends it when the transaction has committed.
    Begin {
        /// Start of the commit record; not where the transaction ends.
        final_lsn: Lsn,
        /// Time of the commit by the server's clock.
        committed_at: PgMicros,
        /// The top-level transaction's id, also for rows that a subtransaction wrote.
        xid: Xid,
    },
    /// The transaction is complete.
    Commit {
        /// Start of the commit record, as in Begin.
        commit_lsn: Lsn,
        /// One past the commit record: the only position of a transaction that may be confirmed.
        end_lsn: Lsn,
        /// Time of the commit by the server's clock, as in Begin.
        committed_at: PgMicros,
    },
    /// The transaction came from another replication origin; follows Begin.
    Origin {
        /// Position on the origin; 0 when only the session's origin is set.
        commit_lsn: Lsn,
        /// `pg_replication_origin.roname` on this server.
        name: &'a str,
    },
    /// What a table looks like from here on; sent before its first use and again after any
    /// invalidation.
    Relation(Relation<'a>),
    /// A type that is not built in; sent before the Relation that uses it.
    Type {
        /// `pg_type.oid`; of a domain the domain's own.
        oid: Oid,
        /// Empty for `pg_catalog`, as in Relation.
        namespace: &'a str,
        /// For a domain, the base type's name.
        name: &'a str,
    },
    /// A row was inserted.
    Insert {
        /// `pg_class.oid`, announced by an earlier Relation message.
        relation: Oid,
        /// The new row; no column is `Unchanged`.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// `pg_class.oid`, announced by an earlier Relation message.
        relation: Oid,
        /// What the replica identity logs of the old row, if anything.
        old: Option<OldTuple<'a>>,
        /// The new row; columns may be `Unchanged`.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// `pg_class.oid`, announced by an earlier Relation message.
        relation: Oid,
        /// What the replica identity logs of the old row.
        old: OldTuple<'a>,
    },
    /// One TRUNCATE statement over one or more tables.
    Truncate(Truncate<'a>),
    /// A call of `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the surrounding transaction; if not, it arrives outside Begin and
        /// Commit.
        transactional: bool,
        /// The message's own position.
        lsn: Lsn,
        /// Chosen by the sender.
        prefix: &'a str,
        /// The content can be arbitrary bytes, even if the sender passed a text.
        content: &'a [u8],
    },
}

/// The old row of an update or delete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OldTuple<'a> {
    /// Only the identity's columns carry values; the others are sent as null and mean nothing.
    Key(Tuple<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The tuple, whichever it is.
    #[must_use]
    pub fn tuple(self) -> Tuple<'a> {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }
}

/// A Relation message; its columns are read one by one from the buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation<'a> {
    /// `pg_class.oid`; of the root where the publication publishes by root.
    pub oid: Oid,
    /// Its schema; the wire's empty text for pg_catalog is given as it is.
    pub namespace: &'a str,
    /// `pg_class.relname` when the change was made.
    pub name: &'a str,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: u8,
    columns: u16,
    body: &'a [u8],
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity; under FULL every column is.
    pub in_identity: bool,
    /// `pg_attribute.attname` when the change was made.
    pub name: &'a str,
    /// Its type; of a domain the domain's own oid.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`; -1 where the type has no modifier.
    pub typmod: i32,
}

/// A Truncate message: one for all tables of the statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncate<'a> {
    /// The statement said CASCADE (bit 1 of the options).
    pub cascade: bool,
    /// TRUNCATE … RESTART IDENTITY.
    pub restart_identity: bool,
    relations: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The truncated relations, in the order of the message.
    pub fn relations(self) -> impl Iterator<Item = Oid> + 'a {
        let (oids, rest) = self.relations.as_chunks();
        assert!(rest.is_empty(), "a truncate has four bytes for each relation, and no part of one");
        oids.iter().map(|four| Oid(u32::from_be_bytes(*four)))
    }
}
