//! Reads the server's row of a replication slot, and the transactions that a new slot waits for.
//!
//! This file only reads. The commands that create and drop a slot are in `Replication`. No code
//! calls `pg_replication_slot_advance`.

use crate::lsn::{Lsn, Oid, Xid};
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use std::time::Duration;
use tokio_postgres::types::Type;

/// A row of `pg_replication_slots`, in one form for all versions of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// Name of the output plugin. `None` for a physical slot.
    pub plugin: Option<String>,
    /// Name of the slot's database. `None` for a physical slot.
    pub database: Option<String>,
    pub(crate) database_oid: Option<Oid>,
    /// True for a temporary slot, which the server drops when the session ends that created it.
    pub temporary: bool,
    /// Process id of the session that holds the slot. `None` if no session does.
    pub active_pid: Option<i32>,
    /// The server keeps WAL from this position on for the slot. `None` if it keeps none.
    pub restart_lsn: Option<Lsn>,
    /// The position that the slot's consumer has confirmed, and from which streaming goes on.
    /// `None` for a physical slot.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// The server keeps rows of the catalog that this transaction or a later one has deleted,
    /// because the slot needs them. `None` if the slot needs none.
    pub catalog_xmin: Option<Xid>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that can be written before the slot may be lost, negative if it is in danger
    /// already. `None` without `max_slot_wal_keep_size`, or for a lost slot.
    pub safe_wal_size: Option<i64>,
    /// The reason why the slot can no longer be used, `None` if it can: the server's
    /// `invalidation_reason` from 17 on, and `wal_removed` or `conflicting` before.
    pub invalidation: Option<String>,
    /// True if the slot decodes prepared transactions at PREPARE, which our slots never do.
    pub two_phase: bool,
    /// True if standbys are to keep a copy of the slot for a failover (17 on).
    pub failover: bool,
    /// True for the copy of a primary's slot (17 on), which cannot be used before a promotion.
    pub synced: bool,
    /// The present end of the server's WAL: the position up to which a primary has written, or a
    /// standby has replayed. It is zero on a standby that has replayed nothing.
    pub server_lsn: Lsn,
}

impl SlotRow {
    /// Bytes of WAL that the server keeps for this slot. `None` if the server keeps none.
    #[must_use]
    pub fn retained_bytes(&self) -> Option<u64> {
        self.restart_lsn.map(|restart| self.server_lsn.bytes_since(restart))
    }

    /// Bytes of WAL that can be written before the slot may be lost: 0 if it is in danger or lost.
    /// `None` without a limit. The server's `safe_wal_size` is NULL for a lost slot, too.
    #[must_use]
    pub fn safe_bytes(&self) -> Option<u64> {
        let is_lost = self.invalidation.is_some() || self.wal_status.as_deref() == Some("lost");
        if is_lost {
            return Some(0);
        }
        self.safe_wal_size.map(|bytes| u64::try_from(bytes).unwrap_or(0))
    }

    /// The position that the slot's consumer has confirmed. It is zero if nothing is confirmed, as
    /// for a physical slot.
    #[must_use]
    pub fn confirmed(&self) -> Lsn {
        self.confirmed_flush_lsn.unwrap_or(Lsn::ZERO)
    }
}

/// A row of the view `pg_replication_slots` as JSON. Columns that the server's version does not
/// have are missing in it.
#[derive(serde::Deserialize)]
struct JsonRow {
    plugin: Option<String>,
    database: Option<String>,
    /// The oid of the database, which is a string in JSON.
    datoid: Option<String>,
    temporary: bool,
    active_pid: Option<i32>,
    restart_lsn: Option<Lsn>,
    confirmed_flush_lsn: Option<Lsn>,
    /// A transaction id, which is a string in JSON.
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

/// Reads the slot `name`, of any kind and database. `None` if it does not exist.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
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
    // A standby that has not replayed anything yet has no position.
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
        // A version without one of these three columns has no slots of the kind.
        two_phase: json.two_phase.unwrap_or(false),
        failover: json.failover.unwrap_or(false),
        synced: json.synced.unwrap_or(false),
        server_lsn,
    }))
}

/// A writing transaction. A slot that is being created waits for the end of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Process id of the transaction's session. `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of a prepared transaction, which waits for COMMIT PREPARED.
    pub prepared: Option<String>,
    /// The id of the top-level transaction.
    pub xid: Xid,
    /// The role of the session, if we may see it, or the owner of the prepared transaction.
    pub user: Option<String>,
    /// The database of the transaction, if we may see it.
    pub database: Option<String>,
    /// `application_name` of the session, if we may see it.
    pub application: Option<String>,
    /// State of the session, such as `active` or `idle in transaction`, if we may see it.
    pub state: Option<String>,
    /// Time since the transaction began, or since it was prepared, if we may see it.
    pub age: Option<Duration>,
    /// Time since the session's last statement began, if we may see it.
    pub statement_age: Option<Duration>,
}

/// Lists every writing transaction in all databases of the server, oldest first, without that of
/// this session.
///
/// The transactions are found by their locks, because `pg_stat_activity` shows a role without
/// `pg_read_all_stats` only its own transactions.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wal_status: &str, safe_wal_size: Option<i64>) -> SlotRow {
        SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            database_oid: Some(Oid(5)),
            temporary: false,
            active_pid: None,
            restart_lsn: None,
            confirmed_flush_lsn: Some(Lsn::new(1)),
            catalog_xmin: None,
            wal_status: Some(wal_status.to_owned()),
            safe_wal_size,
            invalidation: None,
            two_phase: false,
            failover: false,
            synced: false,
            server_lsn: Lsn::new(5),
        }
    }

    #[test]
    fn a_lost_slot_is_not_one_without_a_limit() {
        assert_eq!(row("reserved", None).safe_bytes(), None);
        assert_eq!(row("reserved", Some(7)).safe_bytes(), Some(7));
        assert_eq!(row("unreserved", Some(-7)).safe_bytes(), Some(0));
        assert_eq!(row("lost", None).safe_bytes(), Some(0));
        let invalidated =
            SlotRow { invalidation: Some("idle_timeout".to_owned()), ..row("", None) };
        assert_eq!(invalidated.safe_bytes(), Some(0));
    }
}
