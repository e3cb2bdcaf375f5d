//! The shape of a captured Postgres table, and how its values are read.
//!
//! This room is pure. Facts come from `postgres::catalog`, and relations come from `change`.
//! Nothing here asks a server.

mod default;
mod facts;
mod kind;
pub mod names;
pub mod selection;
mod source_type;
pub mod typed;
pub mod value;

pub use default::{DefaultText, default_text};
pub use facts::{ColumnFacts, TableFacts, TypeClass, TypeFacts};
pub use kind::{AsBytes, ColumnKind, is_domain, resolve};
pub use selection::Selection;
pub use source_type::SourceType;

use crate::lsn::Oid;
use std::fmt;

/// A table's name in two parts. It prints as `namespace.name` without quotes, as topics and
/// messages use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// `pg_namespace.nspname`, which Postgres calls a schema.
    pub namespace: Box<str>,
    /// The relation's own name.
    pub name: Box<str>,
}

impl TableName {
    /// A name from its two parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        TableName { namespace: namespace.into(), name: name.into() }
    }

    /// Reads a name from the text that Display has written. The first dot ends the namespace.
    ///
    /// # Panics
    /// The text has no dot, so Display cannot have written it.
    #[must_use]
    pub fn of_shown(text: &str) -> Self {
        match text.split_once('.') {
            Some((namespace, name)) => TableName::new(namespace, name),
            None => unreachable!("`{text}` is the name of a table without its namespace"),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// Which part of an old row Postgres logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key (`d`); nothing if the table has no primary key.
    Default,
    /// Nothing (`n`). UPDATE and DELETE of a published table then fail.
    Nothing,
    /// The whole old row (`f`).
    Full,
    /// The columns of one index (`i`).
    Index,
}

/// One version of a captured table: the shape of its rows between two Relation messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// `pg_class.oid`. It is the oid of the root if the publication publishes by root.
    pub oid: Oid,
    /// Namespace and name in this version; a rename makes another version.
    pub name: TableName,
    /// The replica identity, which decides which columns old rows have.
    pub identity: ReplicaIdentity,
    /// Columns, in the order of the tuples on the wire.
    pub columns: Vec<Column>,
    /// Indices into `columns` in the order of the key. The key is the primary key, or else the
    /// first usable unique index, or else empty.
    pub key: Vec<usize>,
}

/// One column of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name of the column, as Postgres has it.
    pub name: Box<str>,
    /// How values are read. A domain has the kind of its base type.
    pub kind: ColumnKind,
    /// True if the column or its domain is NOT NULL.
    pub not_null: bool,
    /// SQL text of the default (`pg_get_expr`); `None` if there is no default, or if the column is
    /// generated.
    pub default: Option<Box<str>>,
    /// The type as it was declared.
    pub source_type: SourceType,
    /// True if the column is filled from a sequence (serial or identity).
    pub serial: bool,
    /// True if the column is part of the replica identity.
    pub in_identity: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_from_its_text() {
        let name = TableName::new("public", "a.b");
        assert_eq!(TableName::of_shown(&name.to_string()), name);
    }

    #[test]
    #[should_panic(expected = "`orders` is the name of a table without its namespace")]
    fn a_text_without_a_namespace_is_no_name() {
        let _ = TableName::of_shown("orders");
    }
}
