//! The session that reads chunks beside the stream: who writes, what the table looks like, a snapshot, rows, a position.
//!
//! Each call waits for the server and nothing else; whether and when to read is `window`'s. A call that fails ends the
//! session: the next attempt opens another, and the server's own limits end what is left of this one.

use super::visibility::PgSnapshot;
use crate::lsn::{Lsn, Oid, Xid};
use crate::postgres::copies::{CopySession, Piece};
use crate::postgres::holder::{self, CopyTable, Which};
use crate::postgres::publication::quoted;
use crate::postgres::{Config, PgError};
use std::time::Duration;

/// How long ACCESS SHARE is waited for, behind which others would queue. It conflicts with ACCESS EXCLUSIVE only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// No transaction of ours that reads a chunk is longer than this, whatever happens to us meanwhile.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// An open session. Dropping it ends it.
pub struct Reader {
    session: CopySession,
}

/// Who writes, and what there is to copy.
#[derive(Debug)]
pub struct Survey {
    /// The server is a standby, whose snapshots do not list the primary's transactions.
    pub standby: bool,
    /// Taken before `holders` was read.
    pub snapshot: PgSnapshot,
    /// Every transaction id that was held right after it, with its process; none for a prepared one.
    pub holders: Vec<(Xid, Option<i32>)>,
    /// The table as it is published; none if it is not.
    pub table: Option<CopyTable>,
}

/// Rows as COPY wrote them.
#[derive(Debug)]
pub struct Chunk {
    /// In the order of the key.
    pub pieces: Vec<Piece>,
    /// How many there are.
    pub rows: u64,
    /// Bytes of all pieces, with the length before each line.
    pub size_bytes: usize,
    /// The server's WAL insert position, asked for after the rows were read.
    pub insert_lsn: Lsn,
}

/// Why a chunk was not read; none of its rows is kept.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum ReadError {
    /// The server's, or the connection's.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The caller asks for the chunk again with fewer rows.
    #[error("a chunk of table {table} is larger than {limit_bytes} bytes")]
    TooLarge { table: String, limit_bytes: usize },
}

/// What of the row's text is unreadable.
fn answer(call: &'static str, object: &str, field: &'static str) -> PgError {
    PgError::Answer { call, object: object.to_owned(), field }
}

impl Reader {
    /// Opens a session.
    ///
    /// # Errors
    /// The connection's.
    pub async fn connect(config: &Config) -> Result<Self, PgError> {
        let mut session = CopySession::connect(config, ":window").await?;
        // Sizes and filters are told under a lock, too: a survey of a table that is being rewritten comes back and says so.
        let sql = format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        session.query("begin a session for chunks", ":window", &sql).await?;
        Ok(Reader { session })
    }

    /// Looks at the server and the table, in a transaction of its own: what was changed before this call is seen.
    ///
    /// # Errors
    /// The connection's, or `Answer`.
    pub async fn survey(&mut self, publication: &str, table: &str, relation: Option<Oid>) -> Result<Survey, PgError> {
        const CALL: &str = "look who writes to table";
        let sql = "SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.pg_current_snapshot()::text,
            pg_catalog.array_to_string(ARRAY(
              SELECT transactionid::text || ':' || coalesce(pid, 0) FROM pg_catalog.pg_locks
              WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted), ' ')";
        let rows = self.session.query(CALL, table, sql).await?;
        let Some([Some(standby), Some(snapshot), Some(holders)]) = rows.first().map(Vec::as_slice) else {
            return Err(answer(CALL, table, "row"));
        };
        let holder = |text: &str| {
            let (xid, pid) = text.split_once(':')?;
            let pid: i32 = pid.parse().ok()?;
            Some((Xid(xid.parse().ok()?), (pid != 0).then_some(pid)))
        };
        let holders: Option<Vec<_>> = holders.split_whitespace().map(holder).collect();
        let tables = holder::tables(&mut self.session, publication, Which::Called(table)).await?;
        Ok(Survey {
            standby: standby == "true",
            snapshot: snapshot.parse().map_err(|_| answer(CALL, table, "snapshot"))?,
            holders: holders.ok_or_else(|| answer(CALL, table, "holders"))?,
            table: tables.into_iter().find(|found| {
                found.name.to_string() == table && relation.is_none_or(|relation| found.relation == relation)
            }),
        })
    }

    /// Has the server parse a statement, without running it.
    ///
    /// # Errors
    /// The connection's; `Server` with its objection.
    pub async fn try_out(&mut self, table: &str, statement: &str) -> Result<(), PgError> {
        self.session.columns_of(table, statement).await.map(drop)
    }

    /// Begins a chunk: the table is locked, and only then the snapshot taken, by which the table is described. `limit`
    /// is what one statement may take.
    ///
    /// # Errors
    /// The connection's; `Server` with 55P03 where the lock is not to be had.
    pub async fn begin(
        &mut self,
        publication: &str,
        table: &CopyTable,
        limit: Duration,
    ) -> Result<(PgSnapshot, Option<CopyTable>), PgError> {
        const CALL: &str = "begin a chunk of table";
        let name = table.name.to_string();
        // ONLY: children by inheritance are not locked, and not read; partitions are.
        let only = if is_parted(table) { "" } else { "ONLY " };
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
            SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle};
            SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off; SET LOCAL enable_seqscan = off;
            LOCK TABLE {only}{relation} IN ACCESS SHARE MODE",
            lock = LOCK_TIMEOUT.as_millis(),
            idle = IDLE_LIMIT.as_millis(),
            relation = quoted(&table.name),
        );
        self.session.query(CALL, &name, &sql).await?;
        let rows = self.session.query(CALL, &name, "SELECT pg_catalog.pg_current_snapshot()::text").await?;
        let snapshot = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        let snapshot = snapshot.and_then(|text| text.parse().ok()).ok_or_else(|| answer(CALL, &name, "snapshot"))?;
        let found = holder::tables(&mut self.session, publication, Which::Relation(table.relation)).await?;
        let found = found.into_iter().next();
        self.session.query(CALL, &name, &format!("SET LOCAL statement_timeout = {}", limit.as_millis())).await?;
        Ok((snapshot, found))
    }

    /// Reads the chunk begun, at most `limit_bytes` of it, asks for the insert position, and ends the transaction.
    ///
    /// # Errors
    /// The connection's; `Server` with 57014 where it takes too long; `TooLarge`.
    pub async fn read(&mut self, table: &str, select: &str, limit_bytes: usize) -> Result<Chunk, ReadError> {
        const CALL: &str = "end a chunk of table";
        self.session.begin(table, &format!("COPY ({select}\n) TO STDOUT")).await?;
        let (mut pieces, mut size_bytes, mut rows) = (Vec::new(), 0, 0);
        while let Some(piece) = self.session.next(table).await? {
            size_bytes += piece.size_bytes();
            rows += piece.rows() as u64;
            if size_bytes > limit_bytes && rows > 1 {
                return Err(ReadError::TooLarge { table: table.to_owned(), limit_bytes });
            }
            pieces.push(piece);
        }
        let answered =
            self.session.query(CALL, table, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text; COMMIT").await?;
        let insert_lsn = answered.first().and_then(|row| row.first()).and_then(Option::as_deref);
        let insert_lsn =
            insert_lsn.and_then(|text| text.parse().ok()).ok_or_else(|| answer(CALL, table, "position"))?;
        Ok(Chunk { pieces, rows, size_bytes, insert_lsn })
    }

    /// Ends a chunk that is not read.
    ///
    /// # Errors
    /// The connection's.
    pub async fn end(&mut self, table: &str) -> Result<(), PgError> {
        self.session.query("end a chunk of table", table, "ROLLBACK").await.map(drop)
    }
}

/// Whether the table's rows are in partitions below it.
#[must_use]
pub fn is_parted(table: &CopyTable) -> bool {
    table.parts.iter().any(|part| part.relation != table.relation)
}
