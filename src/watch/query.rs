//! Reads a fingerprint from the catalog.
//!
//! The statement takes no lock on a table and waits for none, so it can run every second on the
//! connection that reads the slot's row. `pg_get_publication_tables` and `pg_partition_tree` would
//! lock the tables, so neither is used.

use super::fingerprint::{Fingerprint, Publication, Relation};
use crate::lsn::{Lsn, Oid};
use crate::postgres::{PgError, Sql};
use crate::table::TableName;
use postgres_protocol::escape::escape_literal;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The SQL expression for the server's WAL position. On a standby it is the position up to which
/// the WAL was replayed, because a standby decodes only what it has replayed.
const POSITION: &str = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_insert_lsn() END";

/// The first version whose publications can leave tables out, as `server_version_num`.
const EXCEPT_SINCE: u32 = 190_000;

#[derive(Deserialize)]
struct Answer {
    publication: Option<Publication>,
    relations: Vec<Relation>,
}

/// What the statement reads besides the publication and its members.
#[derive(Default)]
struct Details {
    /// Relations that the statement reads even if they are not published.
    relations: Vec<Oid>,
    /// Names whose relations are read, whichever relation has the name now.
    names: Vec<TableName>,
    /// Relations whose column types, and whose rows in `pg_depend` that tie them to their
    /// namespaces, are read.
    typed: Vec<Oid>,
}

/// Reads the publication `name` and its captured relations. `earlier` is the look before, if there
/// was one.
///
/// The usual look is one statement. If a captured relation is new, altered, missing or renamed, a
/// second statement reads more, and its answer replaces that of the first. `before` is always the
/// position of the first statement.
///
/// # Errors
/// The connection's errors, or `Protocol` if the answer cannot be read.
pub async fn query(
    sql: &Sql,
    name: &str,
    is_selected: impl Fn(&TableName) -> bool,
    earlier: Option<&Fingerprint>,
) -> Result<Fingerprint, PgError> {
    let mut seen = ask(sql, name, &Details::default()).await?;
    seen.capture(&is_selected, earlier);
    let details = details(&seen, earlier);
    if details.relations.is_empty() && details.names.is_empty() && details.typed.is_empty() {
        return Ok(seen);
    }
    let before = seen.before;
    let mut seen = ask(sql, name, &details).await?;
    seen.capture(&is_selected, earlier);
    Ok(Fingerprint { before, ..seen })
}

/// Lists what a second statement has to read: relations that were captured and are missing or
/// renamed, and the column types that are not known.
fn details(seen: &Fingerprint, earlier: Option<&Fingerprint>) -> Details {
    let is_seen = |relation: &&Relation| {
        seen.relations.get(&relation.oid).is_some_and(|now| now.table() == relation.table())
    };
    let missing: Vec<&Relation> = earlier
        .iter()
        .flat_map(|earlier| earlier.captured())
        .filter(|relation| !is_seen(relation))
        .collect();
    let relations: Vec<Oid> = missing.iter().map(|relation| relation.oid).collect();
    let names = missing.iter().map(|relation| relation.table()).collect();
    // Another relation can be altered between the two statements, so the second one reads all.
    let is_open = !missing.is_empty() || seen.captured().any(|relation| relation.placed.is_none());
    let captured = seen.captured().filter(|_| is_open).map(|relation| relation.oid);
    let typed = captured.chain(relations.iter().copied()).collect();
    Details { relations, names, typed }
}

async fn ask(sql: &Sql, name: &str, details: &Details) -> Result<Fingerprint, PgError> {
    let rows = sql.query(&statement(sql.server_version(), name, details)).await?;
    let unreadable =
        |what: &str| PgError::Protocol { call: "look at the publication", what: what.to_owned() };
    let cell = |row: usize, at: usize| {
        rows.get(row).and_then(|row| row.get(at)).and_then(Option::as_deref)
    };
    let position = |text: Option<&str>| text.and_then(|text| text.parse::<Lsn>().ok());
    let before = position(cell(0, 0)).ok_or_else(|| unreadable("no position"))?;
    let after = position(cell(1, 1)).ok_or_else(|| unreadable("no position after the catalog"))?;
    let answer: Answer = cell(1, 0)
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| unreadable("the catalog's answer has another form"))?;
    let relations: BTreeMap<Oid, Relation> =
        answer.relations.into_iter().map(|relation| (relation.oid, relation)).collect();
    Ok(Fingerprint { before, after, publication: answer.publication, relations })
}

/// Writes the SQL of one look: two statements in one message. The first statement reads a position,
/// which lies before the snapshot of the second statement. The position that the second statement
/// reads lies after its own snapshot.
fn statement(version: u32, name: &str, details: &Details) -> String {
    let name = escape_literal(name);
    // Published schemas, row filters and column lists came with PostgreSQL 15.
    let (by_namespace, namespace_row, lists) = if version >= 150_000 {
        (
            "UNION SELECT c.oid FROM p JOIN pg_publication_namespace s ON s.pnpubid = p.oid
               JOIN pg_class c ON c.relnamespace = s.pnnspid WHERE c.relkind IN ('r', 'p') \
               AND c.relpersistence = 'p'",
            "LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid \
             AND s.pnnspid = u.relnamespace",
            "r.prattrs::text AS columns, md5(r.prqual::text) AS filter,
    coalesce(r.oid, s.oid) AS membership, coalesce(r.xmin, s.xmin) AS version",
        )
    } else {
        ("", "", "NULL AS columns, NULL AS filter, r.oid AS membership, r.xmin AS version")
    };
    // From PostgreSQL 19 on, a row of `pg_publication_rel` can also leave a table out, with its
    // partitions.
    let (member, excepted) = if version >= EXCEPT_SINCE {
        (
            "AND NOT r.prexcept",
            "SELECT r.prrelid AS oid FROM p JOIN pg_publication_rel r ON r.prpubid = p.oid \
             AND r.prexcept
  UNION SELECT i.inhrelid FROM excepted e JOIN pg_inherits i ON i.inhparent = e.oid
  JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition",
        )
    } else {
        ("", "SELECT oid FROM pg_class WHERE false")
    };
    let relations = oids(&details.relations);
    let typed = oids(&details.typed);
    let names: Vec<String> = details
        .names
        .iter()
        .map(|table| {
            format!("({}, {})", escape_literal(&table.namespace), escape_literal(&table.name))
        })
        .collect();
    let named = if names.is_empty() {
        String::new()
    } else {
        format!(
            "UNION SELECT c.oid FROM (VALUES {}) v(namespace, name) \
             JOIN pg_namespace n ON n.nspname = v.namespace
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.name WHERE c.relkind IN ('r', 'p')",
            names.join(", ")
        )
    };
    format!(
        "SELECT {POSITION};
WITH RECURSIVE p AS (SELECT *, xmin AS version FROM pg_publication WHERE pubname = {name}),
excepted AS ({excepted}),
base AS (
  SELECT r.prrelid AS oid FROM p JOIN pg_publication_rel r ON r.prpubid = p.oid {member}
  {by_namespace}
  UNION SELECT c.oid FROM p JOIN pg_class c ON p.puballtables
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
    AND c.oid NOT IN (SELECT oid FROM excepted)),
below(root, oid, height, lineage) AS (
  SELECT oid, oid, 0, '' FROM base
  UNION
  SELECT b.root, i.inhrelid, b.height + 1, b.lineage || ' ' || i.xmin::text
  FROM below b JOIN pg_inherits i ON i.inhparent = b.oid
  JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition),
member AS (
  SELECT DISTINCT ON (b.oid) b.oid, {lists},
    CASE WHEN b.oid IN (SELECT oid FROM base) THEN '' ELSE b.lineage END AS lineage
  FROM p CROSS JOIN below b JOIN pg_class c ON c.oid = b.oid JOIN pg_class u ON u.oid = b.root
  LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = b.root {member}
  {namespace_row}
  WHERE CASE WHEN p.pubviaroot THEN b.oid NOT IN (SELECT oid FROM below WHERE height > 0) ELSE c.relkind = 'r' END
  ORDER BY b.oid, r.oid IS NULL, b.height),
key AS (
  SELECT c.oid, string_agg(i.indkey::text, ';' ORDER BY i.indkey::text) AS key
  FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
  WHERE i.indisvalid AND i.indislive AND i.indimmediate
    AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
  GROUP BY c.oid),
parts AS (
  SELECT b.root, json_object_agg(l.oid, json_build_object('name', n.nspname || '.' || l.relname,
    'made', t.xmin::text::int8, 'joined', i.xmin::text::int8, 'rows', l.reltuples::int8,
    'filenode', l.relfilenode::int8, 'version', l.xmin::text::int8,
    'updates_fail', l.relreplident = 'n' OR (l.relreplident IN ('d', 'i') AND k.key IS NULL))) AS parts
  FROM p JOIN below b ON p.pubviaroot AND b.height > 0 JOIN pg_class l ON l.oid = b.oid AND l.relkind = 'r'
  JOIN pg_namespace n ON n.oid = l.relnamespace JOIN pg_type t ON t.oid = l.reltype
  JOIN pg_inherits i ON i.inhrelid = l.oid LEFT JOIN key k ON k.oid = l.oid
  GROUP BY b.root),
wanted AS (SELECT oid FROM member UNION SELECT unnest({relations}) {named}),
relation AS (
  SELECT c.oid::int8 AS oid, n.nspname::text AS namespace, c.relname::text AS name, m.oid IS NOT NULL AS published,
    coalesce(m.membership, 0)::int8 AS membership, coalesce(m.version::text::int8, 0) AS membership_version,
    coalesce(m.lineage, '') AS lineage,
    m.columns, m.filter, c.relpersistence AS persistence, c.relreplident AS identity, coalesce(k.key, '') AS key,
    coalesce((SELECT i.indkey::text FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
      '') AS primary_key,
    c.relkind = 'r' AND (c.relreplident = 'n' OR (c.relreplident IN ('d', 'i') AND k.key IS NULL)) AS updates_fail,
    c.relfilenode::int8 AS filenode, c.xmin::text::int8 AS version,
    n.xmin::text::int8 AS namespace_version,
    md5(n.nspowner::text || coalesce(n.nspacl::text, '')) AS namespace_rights,
    CASE WHEN c.oid = ANY ({typed}) THEN (
      SELECT string_agg(format('%s:%s', a.attnum,
        CASE WHEN a.atttypid IN (25, 1043) THEN '25:-1' ELSE format('%s:%s', a.atttypid, a.atttypmod) END), ' ' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) END AS types,
    CASE WHEN c.oid = ANY ({typed}) THEN coalesce((
      SELECT max(d.xmin::text::int8) FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_namespace'::regclass), 0) END AS placed,
    coalesce(parts.parts, '{{}}'::json) AS parts
  FROM wanted w JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN member m ON m.oid = c.oid LEFT JOIN key k ON k.oid = c.oid
  LEFT JOIN parts ON parts.root = c.oid)
SELECT json_build_object(
  'publication', (SELECT json_build_object('oid', p.oid::int8, 'name', p.pubname, 'version', p.version::text::int8,
    'owner', p.pubowner::int8, 'inserts', p.pubinsert, 'updates', p.pubupdate, 'deletes', p.pubdelete,
    'truncates', p.pubtruncate, 'via_root', p.pubviaroot) FROM p),
  'relations', (SELECT coalesce(json_agg(r), '[]') FROM relation r)), {POSITION}"
    )
}

fn oids(oids: &[Oid]) -> String {
    let oids: Vec<String> = oids.iter().map(Oid::to_string).collect();
    format!("'{{{}}}'::oid[]", oids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(version: u32, placed: Option<u32>) -> Fingerprint {
        let relation = serde_json::json!({
            "oid": 1, "namespace": "p", "name": "t", "published": true, "membership": 2,
            "membership_version": 3, "columns": null, "filter": null, "persistence": "p",
            "identity": "d", "key": "1", "updates_fail": false, "filenode": 4, "version": version,
            "namespace_version": 5, "namespace_rights": "", "types": null, "placed": placed,
        });
        let relation: Relation = serde_json::from_value(relation).unwrap();
        Fingerprint { relations: [(Oid(1), relation)].into(), ..Fingerprint::default() }
    }

    #[test]
    fn an_altered_relation_has_all_relations_read_again() {
        let is_selected = |_: &TableName| true;
        let mut first = look(7, None);
        first.capture(is_selected, None);
        assert_eq!(details(&first, None).typed, [Oid(1)], "nothing is known at the first look");
        let mut known = look(7, Some(9));
        known.capture(is_selected, None);
        let mut same = look(7, None);
        same.capture(is_selected, Some(&known));
        assert!(details(&same, Some(&known)).typed.is_empty());
        assert_eq!(same.relations[&Oid(1)].placed, Some(9));
        let mut altered = look(8, None);
        altered.capture(is_selected, Some(&known));
        assert_eq!(details(&altered, Some(&known)).typed, [Oid(1)]);
        assert_eq!(details(&Fingerprint::default(), Some(&known)).typed, [Oid(1)]);
    }
}
