//! The holder of a snapshot: one transaction that imports the snapshot that a slot exported, locks
//! the tables to be copied against rewrites, and passes the snapshot on to any number of readers.
//!
//! A table that is rewritten between the snapshot and the lock is empty for the snapshot. The
//! stream does not show the rewrite (`docs/internals/copies.md`). So the table's storage is checked
//! after the lock. Catalog queries of the holder see the catalog as of the snapshot.

use crate::lsn::{Oid, PgMicros};
use crate::postgres::config::Config;
use crate::postgres::copies::{CopySession, ResultColumn};
use crate::postgres::error::PgError;
use crate::table::TableName;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Deserialize;
use std::time::Duration;

/// The begin of every transaction of ours that reads rows. Parallel workers and compilation are
/// off, because they would take resources from the application. Synchronized scans are off, because
/// they may begin in the middle of a table and rows in the table's order are easier to follow. The
/// lock timeout replaces the role's default. A lock that cannot be taken in this time is reported
/// with its table.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off;
SET LOCAL synchronize_seqscans = off;
SET LOCAL lock_timeout = '10s';";

/// A published table as the snapshot's catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTable {
    /// The table's oid, or the root's oid if the publication publishes by root.
    pub relation: Oid,
    /// The table's name, or the root's name if the publication publishes by root.
    pub name: TableName,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: u8,
    /// The published columns, in the order in which streamed rows have them.
    pub columns: Vec<CopyColumn>,
    /// The publication's row filter for this table, as an SQL expression. `None` if there is no
    /// filter.
    pub filter: Option<String>,
    /// The relations that hold the rows: the table itself, or the leaves of its partition tree.
    pub parts: Vec<Part>,
}

/// A published column of a published table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CopyColumn {
    /// `pg_attribute.attname`, not quoted for SQL.
    pub name: String,
    /// `pg_attribute.atttypid`. For a column of a domain this is the oid of the domain.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`; -1 if the type has no modifier.
    pub typmod: i32,
    /// The type as SQL writes it, such as `numeric(5,2)`.
    pub type_name: String,
    /// `pg_attribute.attnotnull`; a domain's own NOT NULL is not in it.
    pub not_null: bool,
    /// True if the column is part of the replica identity.
    pub in_identity: bool,
}

/// A relation that stores rows of a published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub(crate) relation: Oid,
    /// The table itself, or one leaf of its partition tree.
    pub name: TableName,
    /// Present number of pages of the table without its TOAST table, by the size of the file.
    pub pages: u32,
    /// Present size in bytes, with the TOAST table and without indexes.
    pub bytes: u64,
    /// Estimated number of rows: the `reltuples` of the last VACUUM or ANALYZE, scaled to the
    /// present size. `None` if there is no estimate.
    pub rows: Option<u64>,
}

/// Why a table, or a leaf of it, cannot be copied under this snapshot.
#[derive(Debug)]
pub enum Unlocked {
    /// The lock could not be taken: a right is missing, or another session held a lock for longer
    /// than the limit.
    Refused(PgError),
    /// The storage is not the one that the snapshot knows: the table was rewritten, truncated or
    /// dropped in between.
    Rewritten,
}

/// A transaction that keeps an exported snapshot importable and holds the locks of the planned
/// tables.
pub struct Holder {
    session: CopySession,
    /// The name by which readers import the snapshot. It is valid until the holder's transaction
    /// ends.
    pub snapshot: String,
    /// The snapshot's `xmax` less one, in 64 bits: the newest id of a transaction that the snapshot
    /// can see as ended.
    pub newest_xid: u64,
    /// When the holder's transaction began, by the server's clock.
    pub at: PgMicros,
}

impl Holder {
    /// Opens a session and a transaction, imports an exported snapshot into it, and exports the
    /// snapshot again for readers. When `import` returns, the session that exported the snapshot
    /// first is no longer needed.
    ///
    /// # Errors
    /// An error of the connection; `Server` with 22023 or 55000 if the snapshot is gone.
    pub async fn import(config: &Config, snapshot: &str) -> Result<Self, PgError> {
        let mut session = CopySession::connect(config, ":holder").await?;
        begin(&mut session, snapshot).await?;
        const CALL: &str = "pass on snapshot";
        let sql = "SELECT pg_catalog.pg_export_snapshot(),
            pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8 - 1,
            (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000000)::int8";
        let rows = session.query(CALL, snapshot, sql).await?;
        let row = rows.first().map(Vec::as_slice);
        let answer = |field| PgError::Answer { call: CALL, object: snapshot.to_owned(), field };
        let Some([Some(passed_on), Some(newest), Some(at)]) = row else {
            return Err(answer("row"));
        };
        Ok(Holder {
            snapshot: passed_on.clone(),
            newest_xid: newest.parse().map_err(|_| answer("xmax"))?,
            at: PgMicros::from_unix_micros(at.parse().map_err(|_| answer("time"))?),
            session,
        })
    }

    /// Process id of the holder's server process.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.session.backend_pid()
    }

    /// Every table of a publication, in the order of names, as the table was at the snapshot. Sizes
    /// are the present ones.
    ///
    /// # Errors
    /// An error of the connection or of the server, or `Answer` if the result cannot be read.
    pub async fn tables(&mut self, publication: &str) -> Result<Vec<CopyTable>, PgError> {
        tables(&mut self.session, publication, Which::All).await
    }

    /// Locks a relation against rewrites (ACCESS SHARE), waiting `lock_timeout` at most, and checks
    /// that the relation's storage is still that of the snapshot.
    ///
    /// # Errors
    /// An error of the connection. An error that concerns this relation only is the inner result.
    pub async fn lock(
        &mut self,
        part: &Part,
        lock_timeout: Duration,
    ) -> Result<Result<(), Unlocked>, PgError> {
        const CALL: &str = "lock table";
        let object = part.name.to_string();
        let name = format!(
            "{}.{}",
            escape_identifier(&part.name.namespace),
            escape_identifier(&part.name.name)
        );
        let sql = format!(
            "SAVEPOINT l; SET LOCAL lock_timeout = {}; \
             LOCK TABLE ONLY {name} IN ACCESS SHARE MODE; RELEASE SAVEPOINT l",
            lock_timeout.as_millis()
        );
        if let Err(error) = self.session.query(CALL, &object, &sql).await {
            let gone = error.sqlstate() == Some("42P01");
            if error.sqlstate().is_none() {
                return Err(error);
            }
            self.session
                .query(CALL, &object, "ROLLBACK TO SAVEPOINT l; RELEASE SAVEPOINT l")
                .await?;
            return Ok(Err(if gone { Unlocked::Rewritten } else { Unlocked::Refused(error) }));
        }
        // `relfilenode` is as of the snapshot, and `pg_relation_filenode` is the present file. If
        // the name belongs to another table by now, the oid differs.
        let sql = format!(
            "SELECT c.relfilenode <> 0 AND c.relfilenode = pg_catalog.pg_relation_filenode(c.oid)
               AND c.oid = pg_catalog.to_regclass({})
             FROM pg_catalog.pg_class c WHERE c.oid = {}",
            escape_literal(&name),
            part.relation
        );
        let rows = self.session.query(CALL, &object, &sql).await?;
        let same = rows.first().and_then(|row| row.first()).and_then(Option::as_deref) == Some("t");
        Ok(if same { Ok(()) } else { Err(Unlocked::Rewritten) })
    }

    /// The holder's session, for a caller that reads in the holder's own transaction without other
    /// readers.
    #[must_use]
    pub fn into_session(self) -> CopySession {
        self.session
    }

    /// The columns that a statement would return, or the server's error, which is the inner result.
    /// The statement is not run, and a text with several statements is refused.
    ///
    /// # Errors
    /// An error of the connection.
    pub async fn columns_of(
        &mut self,
        object: &str,
        statement: &str,
    ) -> Result<Result<Vec<ResultColumn>, PgError>, PgError> {
        const CALL: &str = "try the query of";
        self.session.query(CALL, object, "SAVEPOINT q").await?;
        let tried = self.session.columns_of(object, statement).await;
        if let Err(error) = &tried
            && error.sqlstate().is_none()
        {
            return tried.map(Ok);
        }
        self.session.query(CALL, object, "ROLLBACK TO SAVEPOINT q; RELEASE SAVEPOINT q").await?;
        Ok(tried)
    }

    /// Keeps the transaction, and with it the snapshot, until `release` is ready. Then it ends the
    /// session and returns `None`. If the session ends before, it returns the error of this end.
    pub async fn hold(mut self, release: impl Future<Output = ()>) -> Option<PgError> {
        tokio::select! {
            biased; // 1. the release; 2. the end of the session
            () = release => {
                self.session.close().await;
                None
            }
            error = self.session.ended() => Some(error),
        }
    }
}

/// Says which tables of a publication [`tables`] describes. A caller that asks before every chunk
/// of a table names this table. Otherwise each call could measure the sizes of thousands of tables.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Every table of the publication.
    All,
    /// The table with this oid.
    Relation(Oid),
    /// The tables called `namespace.name`. If a name holds a dot, there can be two.
    Called(&'a str),
}

/// Lists the tables of a publication that `which` names, in the order of names, as the session's
/// transaction sees them. Sizes are the present ones.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn tables(
    session: &mut CopySession,
    publication: &str,
    which: Which<'_>,
) -> Result<Vec<CopyTable>, PgError> {
    const CALL: &str = "list the tables of publication";
    let rows = session
        .query(CALL, publication, &tables_query(session.server_version(), publication, which))
        .await?;
    let unreadable =
        || PgError::Answer { call: CALL, object: publication.to_owned(), field: "table" };
    rows.iter()
        .map(|row| {
            let [Some(json)] = row.as_slice() else { return Err(unreadable()) };
            let table: JsonTable = serde_json::from_str(json).map_err(|_| unreadable())?;
            Ok(table.into())
        })
        .collect()
}

/// Begins a reader's transaction under an exported snapshot.
///
/// # Errors
/// An error of the connection; `Server` with 22023 or 55000 if the snapshot is gone.
pub async fn begin(session: &mut CopySession, snapshot: &str) -> Result<(), PgError> {
    let sql = format!("{BEGIN} SET TRANSACTION SNAPSHOT {}", escape_literal(snapshot));
    // SET TRANSACTION SNAPSHOT must come before any query, and SET LOCAL is not a query.
    session.query("import snapshot", snapshot, &sql).await.map(drop)
}

/// Locks relations for a reader in the same mode as the holder (ACCESS SHARE). Returns false if a
/// lock could not be taken at once, or if the server refused it for another reason.
///
/// A DDL statement that waits for the holder would block every reader that comes later, while the
/// holder waits for the readers. A reader that has the lock already is not blocked.
///
/// # Errors
/// An error of the connection.
pub async fn lock_all(session: &mut CopySession, parts: &[TableName]) -> Result<bool, PgError> {
    const CALL: &str = "lock tables";
    if parts.is_empty() {
        return Ok(true);
    }
    let quoted = |name: &TableName| {
        format!("ONLY {}.{}", escape_identifier(&name.namespace), escape_identifier(&name.name))
    };
    let names: Vec<String> = parts.iter().map(quoted).collect();
    let sql = format!(
        "SAVEPOINT l; LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT l",
        names.join(", ")
    );
    match session.query(CALL, "of the copy", &sql).await {
        Ok(_) => Ok(true),
        Err(error) if error.sqlstate().is_some() && !error.is_shutting_down() => {
            session
                .query(CALL, "of the copy", "ROLLBACK TO SAVEPOINT l; RELEASE SAVEPOINT l")
                .await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct JsonTable {
    oid: u32,
    namespace: String,
    name: String,
    identity: String,
    columns: Option<Vec<CopyColumn>>,
    filter: Option<String>,
    parts: Option<Vec<JsonPart>>,
}

#[derive(Deserialize)]
struct JsonPart {
    oid: u32,
    namespace: String,
    name: String,
    pages: u32,
    bytes: u64,
    rows: Option<f64>,
}

impl From<JsonTable> for CopyTable {
    fn from(table: JsonTable) -> Self {
        let part = |part: JsonPart| Part {
            relation: Oid(part.oid),
            name: TableName::new(&part.namespace, &part.name),
            pages: part.pages,
            bytes: part.bytes,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an estimate; `as` saturates"
            )]
            rows: part.rows.map(|rows| rows as u64),
        };
        CopyTable {
            relation: Oid(table.oid),
            name: TableName::new(&table.namespace, &table.name),
            identity: table.identity.bytes().next().unwrap_or(b'd'),
            columns: table.columns.unwrap_or_default(),
            filter: table.filter,
            parts: table.parts.into_iter().flatten().map(part).collect(),
        }
    }
}

/// The query of [`tables`], which returns one JSON object for each table. Column lists and row
/// filters came with 15. From 15 on `pg_get_publication_tables` says which columns are published,
/// including generated ones if the publication has them (18 on).
fn tables_query(version: u32, publication: &str, which: Which<'_>) -> String {
    let only = match which {
        Which::All => String::new(),
        Which::Relation(oid) => format!(" AND c.oid = {oid}"),
        Which::Called(name) => {
            format!(" AND n.nspname || '.' || c.relname = {}", escape_literal(name))
        }
    };
    let (columns, filter) = if version >= 150_000 {
        (
            "CASE WHEN t.attrs IS NULL THEN a.attgenerated = '' \
             ELSE a.attnum = ANY (t.attrs::int2[]) END",
            "pg_catalog.pg_get_expr(t.qual, t.relid)",
        )
    } else {
        ("a.attgenerated = ''", "NULL::text")
    };
    format!(
        "SELECT pg_catalog.json_build_object(
  'oid', c.oid::int8, 'namespace', n.nspname, 'name', c.relname, 'identity', c.relreplident,
  'filter', {filter},
  'columns', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname, 'type_oid',
    a.atttypid::int8,
        'typmod', a.atttypmod, 'type_name', pg_catalog.format_type(a.atttypid, a.atttypmod),
        'not_null', a.attnotnull,
        'in_identity', CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false ELSE EXISTS (
          SELECT FROM pg_catalog.pg_index i CROSS JOIN LATERAL
            pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
          WHERE i.indrelid = c.oid AND k.attnum = a.attnum AND k.place <= i.indnkeyatts
          AND i.indislive
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate
            ELSE i.indisreplident END) END)
      ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {columns}),
  'parts', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object('oid', l.oid::int8, 'namespace',
    ln.nspname,
        'name', l.relname, 'pages', s.bytes / pg_catalog.current_setting('block_size')::int8,
        'bytes', coalesce(pg_catalog.pg_table_size(l.oid), 0), 'rows', CASE
          WHEN l.reltuples > 0 AND l.relpages > 0
            THEN l.reltuples / l.relpages * (s.bytes /
            pg_catalog.current_setting('block_size')::int8)
          WHEN l.reltuples = 0 AND s.bytes = 0 THEN 0 END)
      ORDER BY ln.nspname, l.relname)
    FROM (
      SELECT c.oid WHERE c.relkind = 'r'
      UNION ALL
      SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) p WHERE c.relkind = 'p'
      AND p.isleaf) leaf
    JOIN pg_catalog.pg_class l ON l.oid = leaf.oid AND l.relkind = 'r'
    JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_relation_size(l.oid), 0) AS bytes) s)
)::text
FROM pg_catalog.pg_publication p
CROSS JOIN LATERAL (
  SELECT DISTINCT ON (g.relid) g.* FROM pg_catalog.pg_get_publication_tables(p.pubname::text) g
  ORDER BY g.relid) t
JOIN pg_catalog.pg_class c ON c.oid = t.relid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = {}{only}
ORDER BY n.nspname, c.relname",
        escape_literal(publication)
    )
}
