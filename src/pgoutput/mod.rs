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
    /// A transaction begins. With protocol version 1 the server sends Begin after the transaction
    /// has committed.
    Begin {
        /// Start of the commit record. The transaction ends at the `end_lsn` of Commit, which is
        /// later.
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
        /// The position after the commit record. It is the only position of a transaction that may
        /// be confirmed.
        end_lsn: Lsn,
        /// Time of the commit by the server's clock, as in Begin.
        committed_at: PgMicros,
    },
    /// The transaction has a replication origin. The message follows Begin.
    Origin {
        /// Position of the commit in the WAL of the server from which the transaction came; 0 if
        /// the session that wrote the transaction here set an origin and no position.
        commit_lsn: Lsn,
        /// `pg_replication_origin.roname` on this server.
        name: &'a str,
    },
    /// The shape of a table for the changes that follow. The server sends it before the first
    /// change of the table, and again after the server's cache of the table was invalidated.
    Relation(Relation<'a>),
    /// A type that is not built in; sent before the Relation that uses it.
    Type {
        /// `pg_type.oid`. For a domain it is the oid of the domain itself.
        oid: Oid,
        /// Namespace of the type, for a domain that of its base type; empty for `pg_catalog`.
        namespace: &'a str,
        /// Name of the type, for a domain that of its base type.
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
        /// The part of the old row that the replica identity logs. `None` if the server sent none,
        /// as when an update changes no column of the identity.
        old: Option<OldTuple<'a>>,
        /// The new row; columns may be `Unchanged`.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// `pg_class.oid`, announced by an earlier Relation message.
        relation: Oid,
        /// The part of the old row that the replica identity logs.
        old: OldTuple<'a>,
    },
    /// One TRUNCATE statement over one or more tables.
    Truncate(Truncate<'a>),
    /// A call of `pg_logical_emit_message`.
    Logical {
        /// Whether the message belongs to a transaction. If not, it arrives outside of Begin and
        /// Commit.
        transactional: bool,
        /// The end of the message's own WAL record.
        lsn: Lsn,
        /// The prefix that the sender chose.
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
    /// The tuple of either variant.
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
    /// `pg_class.oid`. It is the oid of the root if the publication publishes by root.
    pub oid: Oid,
    /// Namespace of the table; empty for `pg_catalog`, as the server sends it.
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
    /// True if the column is part of the replica identity. Under FULL every column is.
    pub in_identity: bool,
    /// `pg_attribute.attname` when the change was made.
    pub name: &'a str,
    /// Oid of the column's type. For a domain it is the oid of the domain itself.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`; -1 if the type has no modifier.
    pub typmod: i32,
}

/// A Truncate message. The server sends one message for all tables of the statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncate<'a> {
    /// True if the statement said CASCADE (the lowest bit of the options).
    pub cascade: bool,
    /// True if the statement said RESTART IDENTITY (the next bit of the options).
    pub restart_identity: bool,
    relations: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The oids (`pg_class.oid`) of the truncated relations, in the order of the message.
    pub fn relations(self) -> impl Iterator<Item = Oid> + 'a {
        let (oids, rest) = self.relations.as_chunks();
        assert!(rest.is_empty(), "a truncate has four bytes for each relation, and no part of one");
        oids.iter().map(|four| Oid(u32::from_be_bytes(*four)))
    }
}
