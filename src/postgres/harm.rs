//! Tables whose UPDATE and DELETE a publication makes fail, although they have a replica identity:
//! the server requires that every column of the identity is published.
//!
//! A generated column is not published unless the publication says so (18 on). A column list may
//! leave out a column of the identity, and a row filter may read a column that is not in the
//! identity (15 on).

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::publication::quoted;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::TableName;
use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The first version that refuses an unpublished generated column in an identity, in the form of
/// `server_version_num`.
const GENERATED_VERSION: u32 = 180_000;

/// The first version with column lists and row filters, in the form of `server_version_num`.
const PARTS_VERSION: u32 = 150_000;

/// A published table, or a partition of one, whose UPDATE and DELETE the publication makes fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harm {
    /// The published relation: the table itself, or the root above the partition.
    pub root: Oid,
    /// Why the server refuses the UPDATE and DELETE, as a text that names table and columns.
    pub what: String,
    /// The SQL that ends the harm, with other ways as comments of SQL.
    pub fix: String,
}

/// A part of a query: the SQL that lists the columns of each leaf table below the relations in
/// `roots(root)`, and says whether the replica identity of the leaf has the column.
const PARTS: &str = "
leaves AS (
  SELECT r.root, l.oid, l.relreplident::text AS identity, n.nspname::text AS namespace,
    l.relname::text AS name,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indisprimary) AS has_key
  FROM roots r
  CROSS JOIN LATERAL (
    SELECT r.root AS oid UNION SELECT t.relid::oid FROM pg_partition_tree(r.root) t) b
  JOIN pg_class l ON l.oid = b.oid AND l.relkind = 'r'
  JOIN pg_namespace n ON n.oid = l.relnamespace),
parts AS (
  SELECT l.*, a.attname::text AS col, a.attgenerated::text AS generated,
    CASE l.identity WHEN 'f' THEN true WHEN 'n' THEN false ELSE EXISTS (
      SELECT FROM pg_index i WHERE i.indrelid = l.oid AND a.attnum = ANY (i.indkey::int2[])
        AND CASE l.identity WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END)
    END AS in_identity
  FROM leaves l
  JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped)";

/// Lists the harm that a publication would do to these relations, if it also published them without
/// a column list and without a row filter.
///
/// `existing` names the publication that the relations would be added to. Without a name, the
/// publication is a new one of ours. Both publish no generated column, unless an existing
/// publication has `publish_generated_columns = stored`. Then stored columns do no harm, and
/// virtual columns do.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn of_new(
    sql: &Sql,
    existing: Option<&str>,
    relations: &[Oid],
) -> Result<Vec<Harm>, PgError> {
    if sql.server_version() < GENERATED_VERSION {
        return Ok(Vec::new());
    }
    let asked = SqlCall { call: "read generated columns in", object: sql.database() };
    let text = format!(
        "WITH roots AS (SELECT unnest($1) AS root), {PARTS}
         SELECT root, namespace, name, identity = 'f' AND has_key AS by_default,
           array_agg(col ORDER BY col) AS cols, bool_or(generated = 'v') AS is_virtual
         FROM parts LEFT JOIN pg_publication p ON p.pubname = $2
         WHERE in_identity AND (p.oid IS NULL OR p.pubupdate OR p.pubdelete)
           AND (generated = 'v' OR generated = 's' AND p.pubgencols IS DISTINCT FROM 's')
         GROUP BY root, namespace, name, identity, has_key ORDER BY namespace, name"
    );
    let oids: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let rows = sql.ask(asked, &text, &[(&oids, Type::OID_ARRAY), (&existing, Type::TEXT)]).await?;
    rows.iter().map(|row| generated(asked, row, existing)).collect()
}

/// Lists the harm that the publication `name` does now to the tables that it publishes.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn of_published(sql: &Sql, name: &str) -> Result<Vec<Harm>, PgError> {
    let mut harms = Vec::new();
    if sql.server_version() < PARTS_VERSION {
        return Ok(harms);
    }
    let asked = SqlCall { call: "read what is published by", object: name };
    if sql.server_version() >= GENERATED_VERSION {
        let text = format!(
            "WITH p AS (SELECT * FROM pg_publication WHERE pubname = $1
                 AND (pubupdate OR pubdelete)),
             roots AS (SELECT DISTINCT t.relid AS root
               FROM p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname::text) t), {PARTS}
             SELECT root, namespace, name, identity = 'f' AND has_key AS by_default,
               array_agg(col ORDER BY col) AS cols, bool_or(generated = 'v') AS is_virtual
             FROM parts CROSS JOIN p
             LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = root
             WHERE in_identity AND r.prattrs IS NULL
               AND (generated = 'v' OR generated = 's' AND p.pubgencols = 'n')
             GROUP BY root, namespace, name, identity, has_key ORDER BY namespace, name"
        );
        let rows = sql.ask(asked, &text, &[(&name, Type::TEXT)]).await?;
        for row in &rows {
            harms.push(generated(asked, row, Some(name))?);
        }
    }
    let text = format!(
        "WITH members AS (
           SELECT r.prrelid AS root, r.prattrs IS NOT NULL AS has_list, ARRAY(
             SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) AS listed, ARRAY(
             SELECT a.attname::text FROM pg_depend d JOIN pg_attribute a
               ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE r.prqual IS NOT NULL AND d.classid = 'pg_publication_rel'::regclass
               AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = r.prrelid AND d.refobjsubid > 0
               AND (r.prattrs IS NULL OR NOT a.attnum = ANY (r.prattrs::int2[]))) AS filtered
           FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
           WHERE p.pubname = $1 AND (p.pubupdate OR p.pubdelete)
             AND (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL)),
         roots AS (SELECT root FROM members), {PARTS}
         SELECT p.root, namespace, name, identity = 'f' AS is_full, has_key,
           coalesce(array_agg(col ORDER BY col) FILTER (
             WHERE m.has_list AND in_identity AND (identity = 'f' OR NOT col = ANY (m.listed))),
             '{{}}') AS left_out,
           coalesce(array_agg(col ORDER BY col) FILTER (
             WHERE col = ANY (m.filtered) AND NOT in_identity), '{{}}') AS outside
         FROM parts p JOIN members m ON m.root = p.root
         GROUP BY p.root, namespace, name, identity, has_key ORDER BY namespace, name"
    );
    let rows = sql.ask(asked, &text, &[(&name, Type::TEXT)]).await?;
    for row in &rows {
        harms.extend(parts(asked, row, name)?);
    }
    Ok(harms)
}

/// Makes the harm that generated columns in a replica identity do to the one table of `row`.
/// `publication` is `None` for a publication of ours that does not exist yet.
fn generated(asked: SqlCall<'_>, row: &Row, publication: Option<&str>) -> Result<Harm, PgError> {
    let table = TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?);
    let columns: Vec<String> = asked.get(row, "cols")?;
    let mut fix = Vec::new();
    if asked.get(row, "by_default")? {
        fix.push(format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", quoted(&table)));
    } else {
        fix.push("-- give the table a replica identity without these columns".to_owned());
    }
    if !asked.get::<bool>(row, "is_virtual")? {
        fix.push(match publication {
            Some(name) => format!(
                "-- or: ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
                escape_identifier(name)
            ),
            None => "-- or create it with publish_generated_columns = stored".to_owned(),
        });
    }
    fix.push("-- or put it into tables.exclude".to_owned());
    let (columns, root) = (columns.join(", "), Oid(asked.get(row, "root")?));
    let what = format!(
        "{table}: the replica identity has the generated columns {columns}, not published: \
         the application's UPDATE and DELETE fail"
    );
    Ok(Harm { root, what, fix: fix.join("\n") })
}

/// Makes the harms that a column list and a row filter of a publication do to the one table of
/// `row`: none, one or two.
fn parts(asked: SqlCall<'_>, row: &Row, publication: &str) -> Result<Vec<Harm>, PgError> {
    let table = TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?);
    let left_out: Vec<String> = asked.get(row, "left_out")?;
    let outside: Vec<String> = asked.get(row, "outside")?;
    let (root, quoted) = (Oid(asked.get(row, "root")?), quoted(&table));
    let by_default = asked.get::<bool>(row, "is_full")? && asked.get::<bool>(row, "has_key")?;
    let publication = escape_identifier(publication);
    let again = format!(
        "ALTER PUBLICATION {publication} DROP TABLE {quoted};\n\
         ALTER PUBLICATION {publication} ADD TABLE ONLY {quoted};"
    );
    let mut harms = Vec::new();
    let fails = "the application's UPDATE and DELETE fail";
    if !left_out.is_empty() {
        let columns = left_out.join(", ");
        let why = format!("the column list does not suit the replica identity ({columns})");
        let what = format!("{table}: {why}: {fails}");
        let other = format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT;\n-- or:\n");
        let other = if by_default { other } else { String::new() };
        harms.push(Harm { root, what, fix: format!("{other}{again}") });
    }
    if !outside.is_empty() {
        let columns = outside.join(", ");
        let why = format!("the row filter reads {columns}, outside of the replica identity");
        let what = format!("{table}: {why}: {fails}");
        let fix = format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;\n-- or:\n{again}");
        harms.push(Harm { root, what, fix });
    }
    Ok(harms)
}
