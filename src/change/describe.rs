//! A Relation message and the catalog's facts become a [`Table`].
//!
//! The Relation is as old as the change, and the facts are as new as the question. So the Relation
//! decides which columns exist and what their names are. Facts that do not fit the Relation are not
//! used. This file asks no server.

use super::RelationShape;
use crate::table::{
    Column, ReplicaIdentity, SourceType, Table, TableFacts, TableName, is_domain, resolve,
};

/// Describes the table that `relation` announces.
///
/// The key is the primary key, or else the first usable unique index, or else empty. The facts name
/// both. Under identity DEFAULT the columns that the Relation flags are the primary key, whatever
/// the catalog says now. Under identity INDEX a delete has only the index's columns. So if the key
/// has a column beyond the index, the index's columns are the key. A default counts only if the
/// column still has the type for which the catalog gave the default. A default of a domain never
/// counts, as with Debezium.
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
                source_type: SourceType::of(column.type_oid, column.typmod, &facts.types),
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
    Table {
        oid: relation.oid,
        name: TableName::new(&relation.namespace, &relation.name),
        identity,
        columns,
        key,
    }
}

/// Describes the table for rows of the first copy, as [`describe`] does but for the declared types
/// of its columns, which are those of [`SourceType::copied`].
#[must_use]
pub fn describe_copied(relation: &RelationShape, facts: &TableFacts) -> Table {
    let mut table = describe(relation, facts);
    for (column, shape) in table.columns.iter_mut().zip(&relation.columns) {
        let default = facts.columns.get(&shape.name).and_then(|known| known.default.as_deref());
        column.source_type =
            SourceType::copied(shape.type_oid, shape.typmod, &facts.types, default);
    }
    table
}

fn key_of(identity: ReplicaIdentity, columns: &[Column], facts: &TableFacts) -> Vec<usize> {
    let flagged: Vec<usize> =
        (0..columns.len()).filter(|i| columns.get(*i).is_some_and(|c| c.in_identity)).collect();
    let primary = positions(&facts.primary_key, columns);
    let unique = || positions(&facts.unique_index, columns);
    match identity {
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => {
            primary.or_else(unique).unwrap_or_default()
        }
        ReplicaIdentity::Default if flagged.is_empty() => unique().unwrap_or_default(),
        ReplicaIdentity::Default => primary.filter(|key| same(key, &flagged)).unwrap_or(flagged),
        ReplicaIdentity::Index => {
            let within = |key: &Vec<usize>| key.iter().all(|i| flagged.contains(i));
            let chosen = primary.or_else(unique).filter(within);
            chosen
                .or_else(|| {
                    positions(&facts.identity_index, columns).filter(|key| same(key, &flagged))
                })
                .unwrap_or(flagged)
        }
    }
}

/// The indexes of the named columns in `columns`. `None` if there are no names, or if the Relation
/// lacks one of the columns.
fn positions(names: &[String], columns: &[Column]) -> Option<Vec<usize>> {
    let found: Option<Vec<usize>> =
        names.iter().map(|name| columns.iter().position(|column| *column.name == **name)).collect();
    found.filter(|key| !key.is_empty())
}

/// Whether `key` and `flagged`, two lists of indexes of columns, have the same columns in any
/// order.
fn same(key: &[usize], flagged: &[usize]) -> bool {
    key.len() == flagged.len() && key.iter().all(|i| flagged.contains(i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ShapeColumn;
    use crate::lsn::Oid;
    use crate::table::{ColumnFacts, TypeClass, TypeFacts};
    use expect_test::{Expect, expect};

    /// A Relation with these columns and this replica identity. A star before a name marks a column
    /// of the identity.
    fn relation(identity: u8, columns: &[&str]) -> RelationShape {
        let column = |name: &&str| ShapeColumn {
            name: name.trim_start_matches('*').to_owned(),
            type_oid: Oid(23),
            typmod: -1,
            in_identity: name.starts_with('*'),
        };
        RelationShape {
            oid: Oid(1),
            namespace: "public".into(),
            name: "t".into(),
            identity,
            columns: columns.iter().map(column).collect(),
        }
    }

    fn facts(primary: &[&str], unique: &[&str], identity: &[&str]) -> TableFacts {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        TableFacts {
            primary_key: names(primary),
            unique_index: names(unique),
            identity_index: names(identity),
            ..TableFacts::default()
        }
    }

    #[track_caller]
    fn check(relation: &RelationShape, facts: &TableFacts, expect: Expect) {
        let table = describe(relation, facts);
        let names: Vec<_> = table.key.iter().map(|i| &*table.columns[*i].name).collect();
        expect.assert_eq(&names.join(","));
    }

    #[test]
    fn the_key_has_the_order_of_the_primary_key() {
        check(&relation(b'd', &["*a", "b", "*c"]), &facts(&["c", "a"], &[], &[]), expect!["c,a"]);
        check(
            &relation(b'f', &["*a", "*b", "*c"]),
            &facts(&["c", "a"], &["b"], &[]),
            expect!["c,a"],
        );
        check(&relation(b'n', &["a", "b"]), &facts(&["b"], &[], &[]), expect!["b"]);
    }

    #[test]
    fn under_default_the_wire_knows_the_key_of_its_time() {
        // The catalog has changed since the change was made: it has another primary key, or none
        // that fits the Relation.
        check(&relation(b'd', &["*a", "b"]), &facts(&["b", "a"], &[], &[]), expect!["a"]);
        check(&relation(b'd', &["*a", "b"]), &facts(&["dropped"], &["b"], &[]), expect!["a"]);
    }

    #[test]
    fn without_primary_key_the_first_unique_index_is_the_key() {
        check(&relation(b'd', &["a", "b"]), &facts(&[], &["b", "a"], &[]), expect!["b,a"]);
        check(&relation(b'f', &["*a", "*b"]), &facts(&[], &[], &[]), expect![""]);
        check(&relation(b'f', &["*a", "*b"]), &facts(&[], &["dropped"], &[]), expect![""]);
    }

    #[test]
    fn under_index_the_key_is_one_that_old_rows_hold() {
        check(
            &relation(b'i', &["*id", "*tenant", "v"]),
            &facts(&["id"], &[], &["tenant", "id"]),
            expect!["id"],
        );
        check(
            &relation(b'i', &["id", "*email"]),
            &facts(&["id"], &["email"], &["email"]),
            expect!["email"],
        );
        check(
            &relation(b'i', &["id", "*b", "*a"]),
            &facts(&["id"], &[], &["a", "b"]),
            expect!["a,b"],
        );
        check(&relation(b'i', &["*code", "v"]), &facts(&[], &["code"], &["code"]), expect!["code"]);
    }

    #[test]
    fn facts_of_another_type_or_of_a_domain_give_no_default() {
        let fact = |type_oid| ColumnFacts {
            not_null: true,
            default: Some("7".into()),
            serial: false,
            type_oid: Oid(type_oid),
            typmod: -1,
        };
        let mut facts = facts(&[], &[], &[]);
        facts.columns = [("same", 23), ("other", 20), ("domain", 20_000)]
            .map(|(n, oid)| (n.to_owned(), fact(oid)))
            .into();
        let class = TypeClass::Domain { base: Oid(23), typmod: -1 };
        facts
            .types
            .insert(Oid(20_000), TypeFacts { name: "d".into(), namespace: "public".into(), class });
        let mut relation = relation(b'd', &["same", "other", "domain", "unknown"]);
        relation.columns[2].type_oid = Oid(20_000);
        let table = describe(&relation, &facts);
        let shown: Vec<_> =
            table.columns.iter().map(|c| (&*c.name, c.default.as_deref(), c.not_null)).collect();
        expect![[
            r#"[("same", Some("7"), true), ("other", None, true), ("domain", None, true), ("unknown", None, false)]"#
        ]]
        .assert_eq(&format!("{shown:?}"));
    }
}
