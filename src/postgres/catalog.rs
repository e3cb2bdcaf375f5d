//! Reads facts about tables from the catalog: nullability, defaults, keys and types.
//!
//! All facts are of one moment, because one statement reads all tables that are asked for. The
//! facts may be newer than the change that is being decoded. `change` joins the facts to a
//! Relation.

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::{ColumnFacts, TableFacts, TypeClass, TypeFacts};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The call that errors name.
const READ: &str = "read the catalog's facts of relation";

/// The most domains, each based on the next, that [`domain_refuses_null`] follows to find a NOT
/// NULL. Postgres itself has no limit.
const DOMAINS_DEEP_MAX: usize = 64;

/// Reads columns, keys and types of each relation, each as one JSON array. For a relation that is
/// gone, the arrays are empty.
///
/// A NOT NULL that was never validated (18 on) does not hold for old rows, so it does not count. A
/// true array type is recognised by its output function, because `int2vector` has the category of
/// arrays and prints in another form. `pg_get_expr` gets no relation, because a default names no
/// columns. With a relation, `pg_get_expr` would lock it from 17 on. The lock would wait for a
/// session that alters or rewrites the relation.
const FACTS: &str = "
SELECT wanted.oid AS relation, facts.* FROM unnest($1::oid[]) AS wanted(oid) CROSS JOIN LATERAL (
WITH RECURSIVE attribute AS (
  SELECT a.attnum, a.attname::text AS name, a.atttypid::int8 AS type_oid, a.atttypmod AS typmod,
    a.attnotnull AND NOT EXISTS (
      SELECT FROM pg_constraint k
      WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey[1] = a.attnum AND NOT k.convalidated) AS not_null,
    CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, 0) END AS \"default\",
    a.attidentity <> '' OR EXISTS (
      SELECT FROM pg_depend p JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
      WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.deptype IN ('a', 'i')
        AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum) AS serial
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = wanted.oid AND a.attnum > 0 AND NOT a.attisdropped),
walk(oid) AS (
  SELECT type_oid::oid FROM attribute
  UNION
  SELECT next.oid FROM walk JOIN pg_type t ON t.oid = walk.oid
    CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) next(oid)
  WHERE next.oid <> 0),
type AS (
  SELECT t.oid::int8 AS oid, t.typname::text AS name, n.nspname::text AS namespace, t.typtype::text AS kind,
    t.typnotnull AS not_null, t.typbasetype::int8 AS base, t.typtypmod AS typmod,
    CASE WHEN t.typcategory = 'A' AND t.typoutput = 'array_out'::regproc THEN t.typelem::int8 END AS element,
    (SELECT json_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid) AS labels
  FROM walk JOIN pg_type t ON t.oid = walk.oid JOIN pg_namespace n ON n.oid = t.typnamespace),
key AS (
  SELECT c.relname::text AS name, i.indisprimary AS is_primary, i.indisreplident AS is_identity,
    i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indislive AS usable,
    (SELECT json_agg(a.attname::text ORDER BY k.place)
     FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE k.place <= i.indnkeyatts) AS columns
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  WHERE i.indrelid = wanted.oid AND i.indisunique)
SELECT
  (SELECT coalesce(json_agg(a ORDER BY a.attnum), '[]')::text FROM attribute a) AS columns,
  (SELECT coalesce(json_agg(k ORDER BY k.name COLLATE \"C\"), '[]')::text FROM key k) AS keys,
  (SELECT coalesce(json_agg(t), '[]')::text FROM type t) AS types) facts";

#[derive(Deserialize)]
struct JsonColumn {
    name: String,
    type_oid: u32,
    typmod: i32,
    not_null: bool,
    default: Option<String>,
    serial: bool,
}

#[derive(Deserialize)]
struct JsonKey {
    is_primary: bool,
    is_identity: bool,
    usable: bool,
    columns: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct JsonType {
    oid: u32,
    name: String,
    namespace: String,
    kind: String,
    not_null: bool,
    base: u32,
    typmod: i32,
    element: Option<u32>,
    labels: Option<Vec<String>>,
}

impl JsonType {
    fn class(&self) -> TypeClass {
        match self.kind.as_str() {
            "d" => TypeClass::Domain { base: Oid(self.base), typmod: self.typmod },
            "e" => TypeClass::Enum { labels: self.labels.clone().unwrap_or_default() },
            "c" => TypeClass::Composite,
            "r" => TypeClass::Range,
            "m" => TypeClass::Multirange,
            _ => self
                .element
                .map_or(TypeClass::Base, |element| TypeClass::Array { element: Oid(element) }),
        }
    }
}

/// Reads the present facts of a relation: its keys, and its columns with their types and defaults.
/// The facts are empty if the relation is gone.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn table_facts(sql: &Sql, relation: Oid) -> Result<TableFacts, PgError> {
    let facts = facts_of(sql, &[relation]).await?.remove(&relation);
    facts.ok_or_else(|| PgError::Answer { call: READ, object: relation.to_string(), field: "row" })
}

/// Reads the present facts of each relation in one statement, as [`table_facts`] does. The facts
/// are empty for a relation that is gone.
///
/// # Errors
/// See [`table_facts`].
pub async fn facts_of(sql: &Sql, relations: &[Oid]) -> Result<BTreeMap<Oid, TableFacts>, PgError> {
    let object = match relations {
        [one] => one.to_string(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
        [] => return Ok(BTreeMap::new()),
    };
    let asked = SqlCall { call: READ, object: &object };
    let oids: Vec<u32> = relations.iter().map(|relation| relation.0).collect();
    let rows = sql.ask(asked, FACTS, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter().map(|row| Ok((Oid(asked.get(row, "relation")?), facts(asked, row)?))).collect()
}

fn facts(asked: SqlCall<'_>, row: &Row) -> Result<TableFacts, PgError> {
    let columns: Vec<JsonColumn> = json(asked, row, "columns")?;
    let keys: Vec<JsonKey> = json(asked, row, "keys")?;
    let types: Vec<JsonType> = json(asked, row, "types")?;
    let types: BTreeMap<Oid, JsonType> = types.into_iter().map(|t| (Oid(t.oid), t)).collect();

    let first_key = |wanted: fn(&JsonKey) -> bool| {
        keys.iter().find(|key| wanted(key)).and_then(|key| key.columns.clone()).unwrap_or_default()
    };
    Ok(TableFacts {
        primary_key: first_key(|key| key.is_primary),
        unique_index: first_key(|key| key.usable && !key.is_primary),
        identity_index: first_key(|key| key.is_identity),
        columns: columns
            .into_iter()
            .map(|column| {
                let type_oid = Oid(column.type_oid);
                let facts = ColumnFacts {
                    not_null: column.not_null || domain_refuses_null(&types, type_oid),
                    serial: column.serial
                        || column.default.as_deref().is_some_and(|d| d.starts_with("nextval(")),
                    default: column.default,
                    type_oid,
                    typmod: column.typmod,
                };
                (column.name, facts)
            })
            .collect(),
        types: types
            .iter()
            .map(|(&oid, t)| {
                (
                    oid,
                    TypeFacts {
                        name: t.name.clone(),
                        namespace: t.namespace.clone(),
                        class: t.class(),
                    },
                )
            })
            .collect(),
    })
}

/// Whether the type `oid` is a domain that has NOT NULL, or that is based on a domain with NOT
/// NULL, directly or through other domains.
fn domain_refuses_null(types: &BTreeMap<Oid, JsonType>, mut oid: Oid) -> bool {
    for _ in 0..DOMAINS_DEEP_MAX {
        match types.get(&oid) {
            Some(t) if t.kind == "d" && t.not_null => return true,
            Some(t) if t.kind == "d" => oid = Oid(t.base),
            _ => return false,
        }
    }
    false
}

fn json<T: DeserializeOwned>(
    asked: SqlCall<'_>,
    row: &Row,
    field: &'static str,
) -> Result<T, PgError> {
    serde_json::from_str(asked.get(row, field)?).map_err(|_| asked.unreadable(field))
}
