//! What the server says of a replication slot, and who keeps a new one waiting.
//!
//! Reads only; creating and dropping are replication commands (`Replication`), advancing does not
//! exist here.

use crate::lsn::{Lsn, Oid, Xid};
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use std::time::Duration;
use tokio_postgres::types::Type;

/// A row of `pg_replication_slots`, whatever the server's version calls its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// None for a physical slot.
    pub plugin: Option<String>,
    /// None for a physical slot.
    pub database: Option<String>,
    pub(crate) database_oid: Option<Oid>,
    /// Gone when its session ends.
    pub temporary: bool,
    /// The walsender that holds it.
    pub active_pid: Option<i32>,
    /// WAL from here on is kept for it.
    pub restart_lsn: Option<Lsn>,
    /// What the consumer confirmed: where streaming goes on.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// The oldest transaction whose catalog rows are kept for it.
    pub catalog_xmin: Option<Xid>,
    /// reserved, extended, unreserved or lost.
    pub wal_status: Option<String>,
    /// Bytes of WAL until it may be lost; None without `max_slot_wal_keep_size`. Negative when it
    /// is overdue.
    pub safe_wal_size: Option<i64>,
    /// Why it can no longer be used; the server's own word from 17 on, `wal_removed` or
    /// `conflicting` before.
    pub invalidation: Option<String>,
    /// Prepared transactions are decoded at PREPARE; ours never are.
    pub two_phase: bool,
    /// Meant to survive a failover (17 on).
    pub failover: bool,
    /// Kept in step with a primary's slot (17 on); not usable here until a promotion.
    pub synced: bool,
    /// Where the server's WAL ends now: written on a primary, replayed on a standby.
    pub server_lsn: Lsn,
}

impl SlotRow {
    /// Bytes of WAL the server keeps for this slot; None when it keeps none.
    #[must_use]
    pub fn retained_bytes(&self) -> Option<u64> {
        self.restart_lsn.map(|restart| self.server_lsn.bytes_since(restart))
    }

    /// What the slot has confirmed; zero where it has confirmed nothing, as a physical slot.
    #[must_use]
    pub fn confirmed(&self) -> Lsn {
        self.confirmed_flush_lsn.unwrap_or(Lsn::ZERO)
    }
}

/// The view's row as JSON: columns that a version lacks are simply not there.
#[derive(serde::Deserialize)]
struct JsonRow {
    plugin: Option<String>,
    database: Option<String>,
    /// An oid is a string in JSON.
    datoid: Option<String>,
    temporary: bool,
    active_pid: Option<i32>,
    restart_lsn: Option<Lsn>,
    confirmed_flush_lsn: Option<Lsn>,
    /// So is a transaction's id.
    catalog_xmin: Option<String>,
    wal_status: Option<String>,
    safe_wal_size: Option<i64>,
    invalidation_reason: Option<String>,
    conflicting: Option<bool>,
    two_phase: Option<bool>,
    failover: Option<bool>,
    synced: Option<bool>,
}

impl JsonRow {
    fn invalidation(&self) -> Option<String> {
        self.invalidation_reason
            .clone()
            .or_else(|| {
                (self.wal_status.as_deref() == Some("lost")).then(|| "wal_removed".to_owned())
            })
            .or_else(|| self.conflicting.unwrap_or(false).then(|| "conflicting".to_owned()))
    }
}

/// The slot `name`, of any kind and database; None if there is none.
///
/// # Errors
/// The connection's, or `Answer`.
pub async fn read(sql: &Sql, name: &str) -> Result<Option<SlotRow>, PgError> {
    let asked = SqlCall { call: "read replication slot", object: name };
    let text = "SELECT to_jsonb(s)::text AS slot,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn()
           END)::text AS server_lsn
         FROM pg_replication_slots s WHERE s.slot_name = $1";
    let rows = sql.ask(asked, text, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let json: JsonRow =
        serde_json::from_str(asked.get(row, "slot")?).map_err(|_| asked.unreadable("slot"))?;
    // On a standby that has not replayed anything yet there is no position.
    let server_lsn: Option<&str> = asked.get(row, "server_lsn")?;
    let server_lsn =
        server_lsn.map_or(Ok(Lsn::ZERO), str::parse).map_err(|_| asked.unreadable("server_lsn"))?;
    Ok(Some(SlotRow {
        invalidation: json.invalidation(),
        plugin: json.plugin,
        database: json.database,
        database_oid: json.datoid.and_then(|oid| oid.parse().ok()).map(Oid),
        temporary: json.temporary,
        active_pid: json.active_pid,
        restart_lsn: json.restart_lsn,
        confirmed_flush_lsn: json.confirmed_flush_lsn,
        catalog_xmin: json.catalog_xmin.and_then(|xid| xid.parse().ok()).map(Xid),
        wal_status: json.wal_status,
        safe_wal_size: json.safe_wal_size,
        // A version without the column has no such slots.
        two_phase: json.two_phase.unwrap_or(false),
        failover: json.failover.unwrap_or(false),
        synced: json.synced.unwrap_or(false),
        server_lsn,
    }))
}

/// A transaction that is writing: a slot being created waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its session; None for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of a prepared transaction, which waits for COMMIT PREPARED.
    pub prepared: Option<String>,
    /// Its top-level transaction id.
    pub xid: Xid,
    /// Its role, where we may see it.
    pub user: Option<String>,
    /// Its database, where we may see it.
    pub database: Option<String>,
    /// Its application's name, where we may see it.
    pub application: Option<String>,
    /// `active`, `idle in transaction`, ..., where we may see it.
    pub state: Option<String>,
    /// Since the transaction began.
    pub age: Option<Duration>,
    /// Since its last statement began.
    pub statement_age: Option<Duration>,
}

/// Every writing transaction of the cluster but ours, oldest first.
///
/// Locks tell, not `pg_stat_activity`, which shows a role without `pg_read_all_stats` no
/// transaction but its own.
///
/// # Errors
/// The connection's, or `Answer`.
pub async fn blockers(sql: &Sql) -> Result<Vec<Blocker>, PgError> {
    let asked = SqlCall { call: "list writing transactions of", object: sql.database() };
    let text = "SELECT * FROM (
           SELECT DISTINCT ON (l.pid, p.gid) l.pid, p.gid::text AS gid,
           l.transactionid::text::int8 AS xid,
             coalesce(a.usename, p.owner)::text AS usename,
             coalesce(a.datname, p.database)::text AS datname,
             a.application_name::text AS application, a.state::text AS state,
             extract(epoch FROM clock_timestamp() - coalesce(a.xact_start,
             p.prepared))::float8 AS age,
             extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS statement_age,
             age(l.transactionid) AS xids_ago
           FROM pg_locks l
           LEFT JOIN pg_stat_activity a ON a.pid = l.pid
           LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid
           WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
             AND l.pid IS DISTINCT FROM pg_backend_pid() AND (l.pid IS NOT NULL
             OR p.gid IS NOT NULL)
           ORDER BY l.pid, p.gid, age(l.transactionid) DESC) b
         ORDER BY xids_ago DESC";
    let rows = sql.ask(asked, text, &[]).await?;
    let seconds =
        |value: Option<f64>| value.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok());
    rows.iter()
        .map(|row| {
            let xid: i64 = asked.get(row, "xid")?;
            Ok(Blocker {
                pid: asked.get(row, "pid")?,
                prepared: asked.get(row, "gid")?,
                xid: Xid(u32::try_from(xid).map_err(|_| asked.unreadable("xid"))?),
                user: asked.get(row, "usename")?,
                database: asked.get(row, "datname")?,
                application: asked.get(row, "application")?,
                state: asked.get(row, "state")?,
                age: seconds(asked.get(row, "age")?),
                statement_age: seconds(asked.get(row, "statement_age")?),
            })
        })
        .collect()
}
