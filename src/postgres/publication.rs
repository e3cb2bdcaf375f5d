//! Reads, creates, extends and drops publications, and finds tables whose UPDATE they make fail.
//!
//! This file never creates a publication FOR ALL TABLES and never changes a replica identity. If
//! the application's UPDATE would fail, an administrator has to run the SQL that prevents that.

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::selection::{Partitions, Selection};
use crate::table::{ReplicaIdentity, TableName};
use postgres_protocol::escape::escape_identifier;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// What a publication publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationRow {
    /// `pg_publication.oid`. Another oid means that the publication was dropped and created again.
    pub oid: Oid,
    /// True for FOR ALL TABLES, under which tables join and leave without a trace in the catalog's
    /// rows of the publication.
    pub all_tables: bool,
    /// True for FOR ALL SEQUENCES (19 on). Without `all_tables`, no table can then be in the
    /// publication.
    pub all_sequences: bool,
    /// The relations that EXCEPT leaves out of FOR ALL TABLES, with partitions below them. `None`
    /// before 19, which has no EXCEPT.
    pub excepted: Option<Vec<Excepted>>,
    /// `pubviaroot`: changes of partitions carry the name of the partitioned table at the root.
    pub via_root: bool,
    /// `pubinsert`: INSERT is published.
    pub inserts: bool,
    /// `pubupdate`: UPDATE is published, and refused on tables without a replica identity.
    pub updates: bool,
    /// `pubdelete`: DELETE is published, and refused on tables without a replica identity.
    pub deletes: bool,
    /// `pubtruncate`: TRUNCATE is published.
    pub truncates: bool,
    /// Every relation under whose name changes are published, in the order of names.
    pub tables: Vec<PublishedTable>,
}

/// A relation that EXCEPT leaves out of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excepted {
    pub(crate) relation: Oid,
    /// Namespace and name of the relation.
    pub name: TableName,
    /// The table that EXCEPT names: the relation itself, or the root above a partition.
    pub root: TableName,
}

impl PublicationRow {
    /// The operations that the pipeline wants and the publication does not publish: of `insert`,
    /// `update` and `delete`, and also of `truncate` if the argument `truncates` is true.
    #[must_use]
    pub fn lacks(&self, truncates: bool) -> Vec<&'static str> {
        let published = [
            ("insert", self.inserts, true),
            ("update", self.updates, true),
            ("delete", self.deletes, true),
            ("truncate", self.truncates, truncates),
        ];
        published.iter().filter(|(_, is, wanted)| *wanted && !is).map(|(what, ..)| *what).collect()
    }

    /// True for a publication of sequences only. No table can be added to such a publication.
    #[must_use]
    pub fn is_of_sequences(&self) -> bool {
        self.all_sequences && !self.all_tables
    }

    /// The relations that EXCEPT leaves out. There are none before 19.
    #[must_use]
    pub fn excepted(&self) -> &[Excepted] {
        self.excepted.as_deref().unwrap_or(&[])
    }
}

/// A relation that a publication publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    pub(crate) relation: Oid,
    /// Namespace and name, read in the same statement as the oid.
    pub name: TableName,
    /// The oid of the catalog row that makes the relation a member of the publication:
    /// `pg_publication_rel.oid` of the relation or of a root above it, otherwise
    /// `pg_publication_namespace.oid`; 0 under FOR ALL TABLES. Another oid than before means that
    /// changes may be missing.
    pub membership: Oid,
    /// The relation's replica identity. The server ignores that of a partitioned table and uses
    /// those of its partitions.
    pub identity: ReplicaIdentity,
    /// Ordinary or partitioned, by `pg_class.relkind`.
    pub kind: RelationKind,
    /// True if the publication has a row filter for the relation (15 on).
    pub row_filter: bool,
    /// True if the publication has a column list for the relation (15 on).
    pub column_list: bool,
    /// True if the publication makes UPDATE or DELETE fail in the table or in one of its
    /// partitions, because a replica identity is missing.
    pub update_fails: bool,
}

/// The kinds of relation that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// `pg_class.relkind` `r`: rows are stored in the relation itself.
    Ordinary,
    /// `pg_class.relkind` `p`: rows are stored in its leaf partitions.
    Partitioned,
}

/// A table of the database, with the facts that decide whether and how it can be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub(crate) relation: Oid,
    /// Namespace and name, read in the same statement as the oid.
    pub name: TableName,
    /// Ordinary or partitioned, by `pg_class.relkind`.
    pub kind: RelationKind,
    /// False for an unlogged table, which cannot be published.
    pub logged: bool,
    /// The table's replica identity, which decides which columns of old rows are sent.
    pub identity: ReplicaIdentity,
    /// True if the table has a primary key.
    pub primary_key: bool,
    /// True if the table has a primary key, or a valid unique index without expressions and
    /// predicate. Either can be the key of a record.
    pub usable_key: bool,
    /// True for a partition of another table.
    pub is_partition: bool,
    /// SQL that keeps the table's UPDATEs working once it is published: one statement for the
    /// table, or one for each partition that needs one. It is empty if nothing would fail.
    pub fixes: Vec<String>,
}

impl Candidate {
    /// Whether the publication of this table would make the application's UPDATE or DELETE fail.
    #[must_use]
    pub fn update_fails(&self) -> bool {
        !self.fixes.is_empty()
    }

    /// Whether a publication of ours names this table itself. With [`Partitions::Root`] it names no
    /// partition. With [`Partitions::Leaves`] it names no partitioned table.
    #[must_use]
    pub fn stands_for_itself(&self, partitions: Partitions) -> bool {
        match partitions {
            Partitions::Root => !self.is_partition,
            Partitions::Leaves => self.kind == RelationKind::Ordinary,
        }
    }
}

/// Says what an operator can do if the publication is of sequences only. No table can be added to
/// such a publication, and it may serve somebody else.
pub const OWN_NAME_NEXT: &str =
    "set postgres.publication to another name: the agent creates that publication";

/// The begin of the queries for members and for candidates: unique indexes, the relations without a
/// usable replica identity, and the SQL that gives each of these relations one.
///
/// It follows the server's own rule (`RelationGetIndexList`): an invalid, deferred or partial index
/// does not count.
const IDENTITIES: &str = "
WITH RECURSIVE uniques AS (
  SELECT i.indrelid, x.relname::text AS name, i.indisprimary, i.indisreplident, i.indimmediate,
    i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indislive AS usable,
    NOT EXISTS (
      SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull) AS no_nulls
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
  WHERE i.indisunique),
keys AS (
  SELECT indrelid, bool_or(indisprimary) AS any_primary,
    bool_or(indisprimary OR usable) AS any_usable,
    bool_or(indisprimary AND usable AND indimmediate) AS primary_key,
    bool_or(indisreplident AND usable AND indimmediate) AS identity,
    min(name COLLATE \"C\") FILTER (WHERE usable AND indimmediate AND no_nulls) AS index
  FROM uniques GROUP BY indrelid),
lacking AS (
  SELECT c.oid, n.nspname, c.relname, coalesce(k.primary_key, false) AS primary_key, k.index
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN keys k ON k.indrelid = c.oid
  WHERE c.relkind = 'r' AND CASE c.relreplident
    WHEN 'f' THEN false
    WHEN 'n' THEN true
    WHEN 'd' THEN NOT coalesce(k.primary_key, false)
    ELSE NOT coalesce(k.identity, false) END),
below(root, oid) AS (
  SELECT l.oid, l.oid FROM lacking l
  UNION ALL
  SELECT h.inhparent, below.oid FROM below
  JOIN pg_class c ON c.oid = below.root AND c.relispartition
  JOIN pg_inherits h ON h.inhrelid = below.root),
fix AS (
  SELECT below.root, array_agg(format('ALTER TABLE %I.%I REPLICA IDENTITY %s;', l.nspname, l.relname,
    CASE WHEN l.primary_key THEN 'DEFAULT' WHEN l.index IS NOT NULL THEN format('USING INDEX %I', l.index)
      ELSE 'FULL' END) ORDER BY l.nspname, l.relname) AS statements
  FROM below JOIN lacking l ON l.oid = below.oid GROUP BY below.root)";

/// Reads the publication `name`. `None` if it does not exist.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn read(sql: &Sql, name: &str) -> Result<Option<PublicationRow>, PgError> {
    let asked = SqlCall { call: "read publication", object: name };
    let knows_except = sql.server_version() >= EXCEPT_VERSION;
    let sequences = if knows_except { "puballsequences" } else { "false" };
    let text = format!(
        "SELECT oid, puballtables, {sequences} AS all_sequences, pubviaroot, pubinsert, pubupdate,
           pubdelete, pubtruncate FROM pg_publication WHERE pubname = $1"
    );
    let rows = sql.ask(asked, &text, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let tables =
        sql.ask(asked, &members_query(sql.server_version()), &[(&name, Type::TEXT)]).await?;
    let excepted = if knows_except { Some(excepted(sql, name).await?) } else { None };
    Ok(Some(PublicationRow {
        oid: Oid(asked.get(row, "oid")?),
        all_tables: asked.get(row, "puballtables")?,
        all_sequences: asked.get(row, "all_sequences")?,
        excepted,
        via_root: asked.get(row, "pubviaroot")?,
        inserts: asked.get(row, "pubinsert")?,
        updates: asked.get(row, "pubupdate")?,
        deletes: asked.get(row, "pubdelete")?,
        truncates: asked.get(row, "pubtruncate")?,
        tables: tables.iter().map(|row| published(asked, row)).collect::<Result<_, _>>()?,
    }))
}

/// The first version with EXCEPT and FOR ALL SEQUENCES, in the form of `server_version_num`.
const EXCEPT_VERSION: u32 = 190_000;

/// The relations that EXCEPT leaves out: each table that EXCEPT names, and the partitions below it.
async fn excepted(sql: &Sql, name: &str) -> Result<Vec<Excepted>, PgError> {
    let asked = SqlCall { call: "read what is excepted from publication", object: name };
    let text = "SELECT c.oid, n.nspname::text AS namespace, c.relname::text AS name,
           m.nspname::text AS root_namespace, a.relname::text AS root
         FROM pg_publication p
         JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prexcept
         JOIN pg_class a ON a.oid = r.prrelid JOIN pg_namespace m ON m.oid = a.relnamespace
         CROSS JOIN LATERAL (
           SELECT a.oid UNION SELECT t.relid::oid FROM pg_partition_tree(a.oid) t) below
         JOIN pg_class c ON c.oid = below.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE p.pubname = $1 ORDER BY n.nspname, c.relname";
    let rows = sql.ask(asked, text, &[(&name, Type::TEXT)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Excepted {
                relation: Oid(asked.get(row, "oid")?),
                name: TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?),
                root: TableName::new(asked.get(row, "root_namespace")?, asked.get(row, "root")?),
            })
        })
        .collect()
}

/// The query for the relations that `pg_get_publication_tables` returns, each with the catalog row
/// that made it a member of the publication. If the relation and its ancestors have several such
/// rows, the row of the relation itself or of the nearest ancestor counts.
fn members_query(version: u32) -> String {
    // TABLES IN SCHEMA, row filters and column lists came with 15.
    let (filter, columns, by_namespace) = if version >= 150_000 {
        (
            "r.prqual IS NOT NULL",
            "r.prattrs IS NOT NULL",
            "UNION ALL
             SELECT s.oid, false, false, 1000 + up.height FROM up JOIN pg_class u ON u.oid = up.oid
             JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = u.relnamespace",
        )
    } else {
        ("false", "false", "")
    };
    // From 19 on, a row of `pg_publication_rel` can also say that EXCEPT leaves a table out.
    let member = if version >= EXCEPT_VERSION { "AND NOT r.prexcept" } else { "" };
    format!(
        "{IDENTITIES}
SELECT c.oid, n.nspname::text AS namespace, c.relname::text AS name, c.relkind::text AS kind,
  c.relreplident::text AS identity, coalesce(m.oid, 0) AS membership, coalesce(m.row_filter, false) AS row_filter,
  coalesce(m.column_list, false) AS column_list, fix.root IS NOT NULL AND (p.pubupdate OR p.pubdelete) AS update_fails
FROM pg_publication p CROSS JOIN LATERAL (SELECT DISTINCT relid FROM pg_get_publication_tables(p.pubname::text)) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN fix ON fix.root = c.oid
LEFT JOIN LATERAL (
  WITH up AS (
    SELECT c.oid, 0 AS height
    UNION ALL
    SELECT a.relid::oid, a.height::int FROM pg_partition_ancestors(c.oid) WITH ORDINALITY a(relid, height)
    WHERE a.relid <> c.oid)
  SELECT * FROM (
    SELECT r.oid, {filter} AS row_filter, {columns} AS column_list, up.height AS distance
    FROM up JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = up.oid {member}
    {by_namespace}) reasons
  ORDER BY distance LIMIT 1) m ON true
WHERE p.pubname = $1
ORDER BY n.nspname, c.relname"
    )
}

fn published(asked: SqlCall<'_>, row: &Row) -> Result<PublishedTable, PgError> {
    Ok(PublishedTable {
        relation: Oid(asked.get(row, "oid")?),
        name: TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?),
        membership: Oid(asked.get(row, "membership")?),
        identity: identity(asked, row)?,
        kind: kind(asked, row)?,
        row_filter: asked.get(row, "row_filter")?,
        column_list: asked.get(row, "column_list")?,
        update_fails: asked.get(row, "update_fails")?,
    })
}

/// Lists every table of the database by name, without system tables and temporary tables.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn candidates(sql: &Sql) -> Result<Vec<Candidate>, PgError> {
    let asked = SqlCall { call: "list tables of database", object: sql.database() };
    let text = format!(
        "{IDENTITIES}
SELECT c.oid, n.nspname::text AS namespace, c.relname::text AS name, c.relkind::text AS kind,
  c.relpersistence = 'p' AS logged, c.relreplident::text AS identity, c.relispartition AS is_partition,
  coalesce(k.any_primary, false) AS primary_key, coalesce(k.any_usable, false) AS usable_key,
  coalesce(fix.statements, '{{}}') AS fixes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN fix ON fix.root = c.oid
LEFT JOIN keys k ON k.indrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY n.nspname, c.relname"
    );
    let rows = sql.ask(asked, &text, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                relation: Oid(asked.get(row, "oid")?),
                name: TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?),
                kind: kind(asked, row)?,
                logged: asked.get(row, "logged")?,
                identity: identity(asked, row)?,
                primary_key: asked.get(row, "primary_key")?,
                usable_key: asked.get(row, "usable_key")?,
                is_partition: asked.get(row, "is_partition")?,
                fixes: asked.get(row, "fixes")?,
            })
        })
        .collect()
}

fn identity(asked: SqlCall<'_>, row: &Row) -> Result<ReplicaIdentity, PgError> {
    match asked.get(row, "identity")? {
        "d" => Ok(ReplicaIdentity::Default),
        "n" => Ok(ReplicaIdentity::Nothing),
        "f" => Ok(ReplicaIdentity::Full),
        "i" => Ok(ReplicaIdentity::Index),
        _ => Err(asked.unreadable("identity")),
    }
}

fn kind(asked: SqlCall<'_>, row: &Row) -> Result<RelationKind, PgError> {
    match asked.get(row, "kind")? {
        "r" => Ok(RelationKind::Ordinary),
        "p" => Ok(RelationKind::Partitioned),
        _ => Err(asked.unreadable("kind")),
    }
}

/// Makes the statement that creates a publication of ours for these tables. An administrator runs
/// it if the agent's role may not.
#[must_use]
pub fn create_sql(name: &str, tables: &[TableName], partitions: Partitions) -> String {
    // ONLY is used because children by inheritance are tables of their own. Partitions follow their
    // root in either case.
    let via_root = partitions == Partitions::Root;
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {}", quoted(table))).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = {via_root})",
        escape_identifier(name),
        list.join(", ")
    )
}

/// Makes the statement that adds these tables, without children by inheritance, to the publication
/// `name`.
#[must_use]
pub fn add_sql(name: &str, tables: &[TableName]) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {}", quoted(table))).collect();
    format!("ALTER PUBLICATION {} ADD TABLE {}", escape_identifier(name), list.join(", "))
}

/// The tables of `selection` that EXCEPT leaves out of the publication. Under [`Partitions::Root`]
/// the result has no partition whose root EXCEPT names.
#[must_use]
pub fn excepted_of(row: &PublicationRow, selection: &Selection) -> Vec<TableName> {
    let by_root = selection.partitions() == Partitions::Root;
    let stands = |excepted: &&Excepted| !by_root || excepted.name == excepted.root;
    let selected = row.excepted().iter().filter(stands).map(|excepted| &excepted.name);
    selected.filter(|name| selection.matches(name)).cloned().collect()
}

/// Makes the statement that removes `tables`, or their roots, from the EXCEPT list of a publication
/// FOR ALL TABLES, so that they are published. The other tables of the list stay left out.
#[must_use]
pub fn readmit_sql(name: &str, row: &PublicationRow, tables: &[TableName]) -> String {
    let is_wanted = |root: &TableName| {
        row.excepted().iter().any(|e| e.root == *root && tables.contains(&e.name))
    };
    let mut roots: Vec<&TableName> = row.excepted().iter().map(|excepted| &excepted.root).collect();
    roots.sort();
    roots.dedup();
    roots.retain(|root| !is_wanted(root));
    all_tables_sql(name, row, &roots)
}

/// Makes the statement that adds `table` to the EXCEPT list of a publication FOR ALL TABLES, so
/// that it is no longer published.
#[must_use]
pub fn except_sql(name: &str, row: &PublicationRow, table: &TableName) -> String {
    let mut roots: Vec<&TableName> =
        row.excepted().iter().map(|excepted| &excepted.root).chain([table]).collect();
    roots.sort();
    roots.dedup();
    all_tables_sql(name, row, &roots)
}

fn all_tables_sql(name: &str, row: &PublicationRow, except: &[&TableName]) -> String {
    let list: Vec<String> =
        except.iter().map(|table| format!("TABLE ONLY {}", quoted(table))).collect();
    let except =
        if list.is_empty() { String::new() } else { format!(" EXCEPT ({})", list.join(", ")) };
    let sequences = if row.all_sequences { ", ALL SEQUENCES" } else { "" };
    format!("ALTER PUBLICATION {} SET ALL TABLES{except}{sequences}", escape_identifier(name))
}

/// Adds tables to a publication. Fails if a table's lock cannot be taken within `lock_timeout`.
///
/// # Errors
/// `Server`: 42501 not allowed (see [`add_sql`]), 42710 a table is a member already, 55P03 locked.
pub async fn add(
    sql: &Sql,
    name: &str,
    tables: &[TableName],
    lock_timeout: Duration,
) -> Result<(), PgError> {
    let asked = SqlCall { call: "add tables to publication", object: name };
    let text =
        format!("SET LOCAL lock_timeout = {}; {}", lock_timeout.as_millis(), add_sql(name, tables));
    sql.run(asked, &text).await
}

/// A table's name in the form for SQL: namespace and name, each in double quotes.
#[must_use]
pub fn quoted(table: &TableName) -> String {
    format!("{}.{}", escape_identifier(&table.namespace), escape_identifier(&table.name))
}

/// Creates a publication for exactly these tables. Fails if a table's lock cannot be taken within
/// `lock_timeout`.
///
/// # Errors
/// `Server`: 42501 not allowed (see [`create_sql`]), 42710 the publication exists, 42P01 a table
/// does not exist, 55P03 locked, 42601 no tables.
pub async fn create(
    sql: &Sql,
    name: &str,
    (tables, partitions): (&[TableName], Partitions),
    lock_timeout: Duration,
) -> Result<(), PgError> {
    let asked = SqlCall { call: "create publication", object: name };
    // Two statements in one message are one transaction, and SET LOCAL ends with it.
    let text = format!(
        "SET LOCAL lock_timeout = {}; {}",
        lock_timeout.as_millis(),
        create_sql(name, tables, partitions)
    );
    sql.run(asked, &text).await
}

/// Drops a publication. The tables are left alone.
///
/// # Errors
/// An error of the connection; `Server` if our role may not drop the publication.
pub async fn drop(sql: &Sql, name: &str) -> Result<(), PgError> {
    let text = format!("DROP PUBLICATION {}", escape_identifier(name));
    sql.run(SqlCall { call: "drop publication", object: name }, &text).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_table_and_no_other() {
        let tables = [TableName::new("public", "orders"), TableName::new(r#"a"b"#, "Ünï x")];
        assert_eq!(
            create_sql("well.spring", &tables, Partitions::Root),
            "CREATE PUBLICATION \"well.spring\" FOR TABLE ONLY \"public\".\"orders\", ONLY \"a\"\"b\".\"Ünï x\" \
             WITH (publish_via_partition_root = true)"
        );
    }
}
