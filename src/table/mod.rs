//! What a captured Postgres table looks like, and how its values read.
//!
//! Pure: shapes come from `postgres::catalog` (facts) and `change` (relations); nothing here asks a
//! server.

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

/// A table's name in two parts. Prints as `namespace.name`, unquoted, as topics and messages use
/// it.
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

    /// The name that Display has written. The first dot ends the namespace.
    ///
    /// # Panics
    /// The text has no dot, so that Display has not written it.
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

/// What Postgres logs of an old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key (`d`); nothing where there is none.
    Default,
    /// Nothing (`n`): UPDATE and DELETE of a published table fail.
    Nothing,
    /// The whole old row (`f`).
    Full,
    /// The columns of one index (`i`).
    Index,
}

/// One version of a captured table: what its rows look like from one Relation message to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// `pg_class.oid`; of the root where the publication publishes by root.
    pub oid: Oid,
    /// Namespace and name in this version; a rename makes another version.
    pub name: TableName,
    /// What old rows carry.
    pub identity: ReplicaIdentity,
    /// In the order of the tuples on the wire.
    pub columns: Vec<Column>,
    /// Indices into `columns` in the order of the key: the primary key, else the first usable
    /// unique index, else empty.
    pub key: Vec<usize>,
}

/// One column of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// As Postgres names it.
    pub name: Box<str>,
    /// How its values read, through domains down to the base type.
    pub kind: ColumnKind,
    /// NOT NULL, by the column or by its domain.
    pub not_null: bool,
    /// The default's SQL text (`pg_get_expr`), where there is one and it is not a generated
    /// column's.
    pub default: Option<Box<str>>,
    /// The type as it was declared.
    pub source_type: SourceType,
    /// Filled from a sequence (serial, identity).
    pub serial: bool,
    /// Whether old tuples of kind `K` carry it.
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
