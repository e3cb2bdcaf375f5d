//! A Relation message and the catalog's facts become a [`Table`].
//!
//! The Relation is as old as the change, the facts as young as the question: the Relation decides which columns there
//! are and what they are called, facts that do not fit it are not used. Nothing is asked here.

use super::RelationShape;
use crate::table::{Column, ReplicaIdentity, Table, TableFacts, TableName, is_domain, resolve};

/// Describes the table that `relation` announces.
///
/// The key is the primary key, else the first usable unique index (both by the facts), else empty; under identity
/// DEFAULT the columns of the primary key are those the Relation flags, whatever the catalog says by now. Under
/// identity INDEX a key that the index does not hold could not be known for deletes, so the index's columns are the
/// key then. A default counts only if the column's type is still the one the catalog gave it for, and never for a
/// domain (as Debezium has it).
#[must_use]
pub fn describe(relation: &RelationShape, facts: &TableFacts) -> Table {
    let columns: Vec<Column> = relation
        .columns
        .iter()
        .map(|column| {
            let known = facts.columns.get(&column.name);
            let same_type = known.filter(|known| known.type_oid == column.type_oid);
            let default = same_type
                .filter(|_| !is_domain(column.type_oid, &facts.types))
                .and_then(|known| known.default.as_deref());
            Column {
                name: column.name.as_str().into(),
                kind: resolve(column.type_oid, column.typmod, &facts.types),
                not_null: known.is_some_and(|known| known.not_null),
                default: default.map(Into::into),
                serial: known.is_some_and(|known| known.serial),
                in_identity: column.in_identity,
            }
        })
        .collect();
    let identity = match relation.identity {
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        _ => ReplicaIdentity::Default,
    };
    let key = key_of(identity, &columns, facts);
    Table { oid: relation.oid, name: TableName::new(&relation.namespace, &relation.name), identity, columns, key }
}

fn key_of(identity: ReplicaIdentity, columns: &[Column], facts: &TableFacts) -> Vec<usize> {
    let flagged: Vec<usize> = (0..columns.len()).filter(|i| columns.get(*i).is_some_and(|c| c.in_identity)).collect();
    let primary = positions(&facts.primary_key, columns);
    let unique = || positions(&facts.unique_index, columns);
    match identity {
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => primary.or_else(unique).unwrap_or_default(),
        ReplicaIdentity::Default if flagged.is_empty() => unique().unwrap_or_default(),
        ReplicaIdentity::Default => primary.filter(|key| same(key, &flagged)).unwrap_or(flagged),
        ReplicaIdentity::Index => {
            let within = |key: &Vec<usize>| key.iter().all(|i| flagged.contains(i));
            let chosen = primary.or_else(unique).filter(within);
            chosen
                .or_else(|| positions(&facts.identity_index, columns).filter(|key| same(key, &flagged)))
                .unwrap_or(flagged)
        }
    }
}

/// Where the named columns stand; none if there are no names or one of them is not in the Relation.
fn positions(names: &[String], columns: &[Column]) -> Option<Vec<usize>> {
    let found: Option<Vec<usize>> =
        names.iter().map(|name| columns.iter().position(|column| *column.name == **name)).collect();
    found.filter(|key| !key.is_empty())
}

/// Whether two keys have the same columns in whatever order.
fn same(key: &[usize], flagged: &[usize]) -> bool {
    key.len() == flagged.len() && key.iter().all(|i| flagged.contains(i))
}
