//! The facts about a table and its types that the catalog has and that a Relation message lacks.
//!
//! `postgres::catalog` reads the facts, and `change` combines them with the Relation. The catalog
//! may be newer than the change that is decoded. So the Relation decides which columns exist, and
//! the facts are joined to them by column name.

use crate::lsn::Oid;
use std::collections::BTreeMap;

/// Facts of one table at the moment at which the catalog was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFacts {
    /// Facts of the columns, by name. A column that the catalog no longer has is missing here. It
    /// counts as nullable and without a default.
    pub columns: BTreeMap<String, ColumnFacts>,
    /// Names of the primary key's columns in index order; empty if there is none.
    pub primary_key: Vec<String>,
    /// Names of the columns of a unique index in index order; empty if there is none. It is the
    /// first valid index by name that has no expressions and no predicate. Debezium takes this
    /// index as the key of a table without a primary key.
    pub unique_index: Vec<String>,
    /// Names of the replica identity index's columns (identity `i`), in index order.
    pub identity_index: Vec<String>,
    /// Every type to which a column refers, by oid. The base types of domains and the element types
    /// of arrays are here too.
    pub types: BTreeMap<Oid, TypeFacts>,
}

/// Facts of one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnFacts {
    /// `pg_attribute.attnotnull`, or the domain's NOT NULL.
    pub not_null: bool,
    /// `pg_get_expr(adbin, 0)`; `None` without a default, and for a generated column.
    pub default: Option<String>,
    /// True for an identity column, for a column that owns a sequence, and for a column whose
    /// default begins with `nextval(`.
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
    /// The type's namespace. Types of extensions can be in any namespace.
    pub namespace: String,
    /// The class of the type, with the types to which it refers.
    pub class: TypeClass,
}

/// The classes of types in `pg_type` that this room distinguishes.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeClass {
    /// A type of none of the other classes, such as a base type or a pseudo-type.
    Base,
    /// A true array (`typcategory` is `A`, and `typoutput` is `array_out`).
    Array {
        /// `pg_type.typelem`, the type of the elements.
        element: Oid,
    },
    /// A domain, with its base type and the type modifier that it applies to the base type.
    Domain {
        /// `pg_type.typbasetype`, which may be a domain too.
        base: Oid,
        /// `pg_type.typtypmod`, -1 for none.
        typmod: i32,
    },
    /// An enum (`typtype` is `e`), with its labels.
    Enum {
        /// The labels, by `enumsortorder`. A label that was added later can be in the middle.
        labels: Vec<String>,
    },
    /// A row type (`typtype` is `c`), of a table or of CREATE TYPE.
    Composite,
    /// A range type (`typtype` is `r`), such as `int4range`.
    Range,
    /// A multirange type (`typtype` is `m`), such as `int4multirange`.
    Multirange,
}
