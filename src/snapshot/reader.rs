//! The session that reads chunks while the stream runs: surveys, snapshots, rows and the insert
//! position.
//!
//! Each call waits for the server and decides nothing; `window` decides whether and when to read. A
//! call that fails ends the session. The next try opens another session. Timeouts that the server
//! knows end what is left of the failed session.

use super::visibility::PgSnapshot;
use crate::lsn::{Lsn, Oid, Xid};
use crate::postgres::copies::{CopySession, Piece};
use crate::postgres::holder::{self, CopyTable, Which};
use crate::postgres::publication::quoted;
use crate::postgres::{Config, PgError};
use std::time::Duration;

/// How long a chunk waits for the ACCESS SHARE lock of its table. Other sessions wait behind this
/// lock request meanwhile. ACCESS SHARE conflicts with ACCESS EXCLUSIVE only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The server ends our session when it stays idle in a transaction for this long, whatever happens
/// to this process.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// An open session that reads chunks. Dropping the reader ends the session.
pub struct Reader {
    session: CopySession,
}

/// The open transactions of the server, and the table of the copy, as one survey found them.
#[derive(Debug)]
pub struct Survey {
    /// True if the server is a standby, whose snapshots do not list the transactions of the
    /// primary.
    pub standby: bool,
    /// A snapshot that was taken before `holders` was read.
    pub snapshot: PgSnapshot,
    /// The ids of all transactions that `pg_locks` showed as writing just after the snapshot, each
    /// with the id of its process. A prepared transaction has no process.
    pub holders: Vec<(Xid, Option<i32>)>,
    /// The table as it is published. `None` if it is not published, or if its name now belongs to
    /// another relation than the expected one.
    pub table: Option<CopyTable>,
}

/// The rows of a chunk, as lines of COPY text.
#[derive(Debug)]
pub struct Chunk {
    /// Pieces of lines, as the server sent them: in the order of the key, unless the chunk reads
    /// given keys.
    pub pieces: Vec<Piece>,
    /// Number of rows in all pieces.
    pub rows: u64,
    /// Bytes of all pieces, including the length before each line.
    pub size_bytes: usize,
    /// The server's WAL insert position, read after the rows.
    pub insert_lsn: Lsn,
}

/// Why a chunk was not read. None of its rows is kept.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum ReadError {
    /// The server refused a statement, or the connection failed.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The chunk is too large. The caller tries again with fewer rows.
    #[error("a chunk of table {table} is larger than {limit_bytes} bytes")]
    TooLarge { table: String, limit_bytes: usize },
}

/// Makes the error for an answer of the server whose `field` cannot be read.
fn answer(call: &'static str, object: &str, field: &'static str) -> PgError {
    PgError::Answer { call, object: object.to_owned(), field }
}

impl Reader {
    /// Opens a session that reads chunks. A lock request of this session fails after
    /// `LOCK_TIMEOUT`.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn connect(config: &Config) -> Result<Self, PgError> {
        let mut session = CopySession::connect(config, ":window").await?;
        // Sizes and filters are read under a lock too. The survey of a table that is being
        // rewritten fails after this time.
        let sql = format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        session.query("begin a session for chunks", ":window", &sql).await?;
        Ok(Reader { session })
    }

    /// Reads the open transactions and the table, outside of the transaction of a chunk. The
    /// answers show all changes made before this call.
    ///
    /// # Errors
    /// The connection fails, or the answer is unreadable.
    pub async fn survey(
        &mut self,
        publication: &str,
        table: &str,
        relation: Option<Oid>,
    ) -> Result<Survey, PgError> {
        const CALL: &str = "look who writes to table";
        let sql =
            "SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.pg_current_snapshot()::text,
            pg_catalog.array_to_string(ARRAY(
              SELECT transactionid::text || ':' || coalesce(pid, 0) FROM pg_catalog.pg_locks
              WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted), ' ')";
        let rows = self.session.query(CALL, table, sql).await?;
        let Some([Some(standby), Some(snapshot), Some(holders)]) = rows.first().map(Vec::as_slice)
        else {
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
                found.name.to_string() == table
                    && relation.is_none_or(|relation| found.relation == relation)
            }),
        })
    }

    /// Lets the server parse a statement, without running it.
    ///
    /// # Errors
    /// The connection fails; `Server` if the statement is not valid.
    pub async fn try_out(&mut self, table: &str, statement: &str) -> Result<(), PgError> {
        self.session.columns_of(table, statement).await.map(drop)
    }

    /// Begins a chunk: locks the table, then takes the snapshot, then describes the table under
    /// this snapshot. `limit` is the longest time of each statement after that. Returns the
    /// snapshot and the table, or `None` for a table that is no longer published.
    ///
    /// # Errors
    /// The connection fails; `Server` with 55P03 if the table cannot be locked in time.
    pub async fn begin(
        &mut self,
        publication: &str,
        table: &CopyTable,
        limit: Duration,
    ) -> Result<(PgSnapshot, Option<CopyTable>), PgError> {
        const CALL: &str = "begin a chunk of table";
        let name = table.name.to_string();
        // With ONLY, children by inheritance are neither locked nor read. Partitions are locked and
        // read.
        let only = if is_parted(table) { "" } else { "ONLY " };
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
            SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle};
            SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off;
            SET LOCAL enable_seqscan = off;
            LOCK TABLE {only}{relation} IN ACCESS SHARE MODE",
            lock = LOCK_TIMEOUT.as_millis(),
            idle = IDLE_LIMIT.as_millis(),
            relation = quoted(&table.name),
        );
        self.session.query(CALL, &name, &sql).await?;
        let rows = self
            .session
            .query(CALL, &name, "SELECT pg_catalog.pg_current_snapshot()::text")
            .await?;
        let snapshot = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        let snapshot = snapshot
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| answer(CALL, &name, "snapshot"))?;
        let found =
            holder::tables(&mut self.session, publication, Which::Relation(table.relation)).await?;
        let found = found.into_iter().next();
        self.session
            .query(CALL, &name, &format!("SET LOCAL statement_timeout = {}", limit.as_millis()))
            .await?;
        Ok((snapshot, found))
    }

    /// Reads the rows of the chunk, then the insert position, and ends the transaction. The rows
    /// have at most `limit_bytes`, unless there is only one row.
    ///
    /// # Errors
    /// The connection fails; `Server` with 57014 if the statement takes too long; `TooLarge`.
    pub async fn read(
        &mut self,
        table: &str,
        select: &str,
        limit_bytes: usize,
    ) -> Result<Chunk, ReadError> {
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
        let answered = self
            .session
            .query(CALL, table, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text; COMMIT")
            .await?;
        let insert_lsn = answered.first().and_then(|row| row.first()).and_then(Option::as_deref);
        let insert_lsn = insert_lsn
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| answer(CALL, table, "position"))?;
        Ok(Chunk { pieces, rows, size_bytes, insert_lsn })
    }

    /// Ends a chunk without reading it.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn end(&mut self, table: &str) -> Result<(), PgError> {
        self.session.query("end a chunk of table", table, "ROLLBACK").await.map(drop)
    }
}

/// True if the rows of the table are in its partitions.
#[must_use]
pub fn is_parted(table: &CopyTable) -> bool {
    table.parts.iter().any(|part| part.relation != table.relation)
}
