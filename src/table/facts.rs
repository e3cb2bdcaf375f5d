//! What the catalog knows of a table and its types, and a Relation message does not carry.
//!
//! Filled by `postgres::catalog`, combined with the wire's Relation by `change`. The catalog may be
//! newer than the change being decoded, so the Relation decides which columns exist and facts are
//! joined to it by column name.

use crate::lsn::Oid;
use std::collections::BTreeMap;

/// Facts of one table, as of the moment they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFacts {
    /// By column name; a column the catalog no longer knows is missing and counts as nullable
    /// without default.
    pub columns: BTreeMap<String, ColumnFacts>,
    /// Names of the primary key's columns in index order; empty if there is none.
    pub primary_key: Vec<String>,
    /// Names of the columns of the first unique index without expressions or predicate, by index
    /// name, in index order; empty if there is none. Debezium's choice of key for a table without
    /// primary key.
    pub unique_index: Vec<String>,
    /// Columns of the replica identity index (identity `i`), in index order.
    pub identity_index: Vec<String>,
    /// Every type that a column refers to, by oid, with the types those lead to (domain base, array
    /// element).
    pub types: BTreeMap<Oid, TypeFacts>,
}

/// Facts of one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnFacts {
    /// `pg_attribute.attnotnull`, or the domain's NOT NULL.
    pub not_null: bool,
    /// `pg_get_expr(adbin, 0)`; none for generated columns.
    pub default: Option<String>,
    /// Owned sequence or identity column.
    pub serial: bool,
    /// `pg_attribute.atttypid` in the catalog now.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod` in the catalog now.
    pub typmod: i32,
}

/// Facts of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeFacts {
    /// `pg_type.typname`: `int4`, not `integer`.
    pub name: String,
    /// Its schema; extension types can be installed anywhere.
    pub namespace: String,
    /// What it is, with what it refers to.
    pub class: TypeClass,
}

/// The classes of `pg_type` that matter to us.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeClass {
    /// A base, pseudo or other type known by its name.
    Base,
    /// A true array (`typcategory A`, `typelem`, `typsubscript array_subscript_handler`).
    Array {
        /// `pg_type.typelem`, the type of the elements.
        element: Oid,
    },
    /// A domain: its base type and the typmod it applies to that (`typbasetype`, `typtypmod`).
    Domain {
        /// `pg_type.typbasetype`, itself possibly a domain.
        base: Oid,
        /// `pg_type.typtypmod`, -1 for none.
        typmod: i32,
    },
    /// An enum with its labels by `enumsortorder`.
    Enum {
        /// By `enumsortorder`, in which a label added later can stand in the middle.
        labels: Vec<String>,
    },
    /// A row type (`typtype` is `c`), of a table or of CREATE TYPE.
    Composite,
    /// A range type (`typtype` is `r`), such as `int4range`.
    Range,
    /// A multirange type (`typtype` is `m`), such as `int4multirange`.
    Multirange,
}
