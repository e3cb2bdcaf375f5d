//! Reads the facts about a server that a pipeline needs before it starts, who holds a slot, and
//! whether our walsender is at work.
//!
//! This file reads facts only. `check` says what is wrong with them and how to correct it.

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::TableName;
use std::fmt;
use std::time::Duration;
use tokio_postgres::types::Type;

/// Facts that a pipeline needs before it starts: settings of the server and rights of our role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub(crate) server_version: u32,
    /// The level at which the server writes WAL now: `effective_wal_level` if it exists (19 on),
    /// otherwise `wal_level`.
    pub wal_level: String,
    /// The setting `wal_level`, which can be lower than the present level (19 on).
    pub wal_level_set: String,
    /// True if the server is a standby.
    pub in_recovery: bool,
    /// The database's encoding, `UTF8` for instance.
    pub encoding: String,
    pub(crate) database_oid: Oid,
    /// Rights of the role that this session logged in as.
    pub role: Role,
    /// `max_replication_slots`: the most replication slots of every kind, in all databases of the
    /// server.
    pub slots_max: u32,
    /// Number of replication slots that exist in all databases of the server, active or not. Slots
    /// of REPACK (19 on) have places of their own (`max_repack_replication_slots`) and are not
    /// counted.
    pub slots_used: u32,
    /// `max_wal_senders`: the most walsenders that run at one time, for standbys and for logical
    /// consumers.
    pub senders_max: u32,
    /// Number of walsenders that run now, for all databases.
    pub senders_used: u32,
    /// `max_slot_wal_keep_size` in bytes. `None` for no limit. A stopped pipeline can then fill the
    /// disk.
    pub slot_keep_bytes_max: Option<u64>,
    /// `wal_sender_timeout`; `None` for no limit.
    pub wal_sender_timeout: Option<Duration>,
    pub(crate) synchronous_standby_names: String,
}

/// What our role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `pg_roles.rolname` of the session's `current_user`.
    pub name: String,
    /// `rolsuper`: every right is given.
    pub superuser: bool,
    /// `rolcanlogin`: the role may log in.
    pub login: bool,
    /// True if the role may replicate: by `rolreplication`, as a superuser, or as a member of
    /// `rds_replication` if that role exists.
    pub replication: bool,
    /// The right CREATE on the database, which CREATE PUBLICATION needs.
    pub create_on_database: bool,
}

/// Whether the server writes WAL that can be decoded for logical slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// The server decodes for every slot.
    On,
    /// The server will decode as soon as there is a logical slot, without a restart (19 on).
    WithSlot,
    /// The server does not decode. The setting `wal_level` has to change, which needs a restart.
    Off,
}

impl Facts {
    /// Whether the server decodes its WAL, so that a logical slot can be created and read.
    #[must_use]
    pub fn decoding(&self) -> Decoding {
        // A slot on a standby does not turn decoding on, because a standby decodes the WAL that its
        // primary writes.
        let turns_on =
            self.server_version >= 190_000 && self.wal_level_set == "replica" && !self.in_recovery;
        match self.wal_level.as_str() {
            "logical" => Decoding::On,
            _ if turns_on => Decoding::WithSlot,
            _ => Decoding::Off,
        }
    }

    /// The operator's steps that make the server decode its WAL: a statement of SQL, and the
    /// restart as a comment of SQL.
    #[must_use]
    pub fn decoding_fix(&self) -> &'static str {
        if self.in_recovery {
            "on the primary and here: ALTER SYSTEM SET wal_level = 'logical';\n-- and restart both \
             servers"
        } else {
            "ALTER SYSTEM SET wal_level = 'logical';\n-- and restart the server"
        }
    }
}

/// Reads the settings of the server and the rights of the session's role.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn facts(sql: &Sql) -> Result<Facts, PgError> {
    let asked = SqlCall { call: "read settings of", object: sql.database() };
    let text = "SELECT
      coalesce(current_setting('effective_wal_level', true),
      current_setting('wal_level')) AS wal_level,
      current_setting('wal_level') AS wal_level_set,
      pg_is_in_recovery() AS in_recovery, pg_encoding_to_char(d.encoding)::text AS encoding,
      d.oid AS database_oid,
      r.rolname::text AS name, r.rolsuper AS superuser, r.rolcanlogin AS login,
      r.rolreplication OR r.rolsuper OR coalesce((
        SELECT pg_has_role(r.oid, m.oid, 'MEMBER') FROM pg_roles m
        WHERE m.rolname = 'rds_replication'), false) AS replication,
      has_database_privilege(d.oid, 'CREATE') AS create_on_database,
      current_setting('max_replication_slots')::int8 AS slots_max,
      (SELECT count(*) FROM pg_replication_slots
         WHERE NOT (temporary AND plugin IS NOT DISTINCT FROM 'pgrepack')) AS slots_used,
      current_setting('max_wal_senders')::int8 AS senders_max,
      (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender') AS senders_used,
      (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_mib,
      (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout') AS
      sender_timeout_ms,
      current_setting('synchronous_standby_names') AS standby_names
    FROM pg_database d, pg_roles r WHERE d.datname = current_database() \
    AND r.rolname = current_user";
    let rows = sql.ask(asked, text, &[]).await?;
    let row = rows.first().ok_or_else(|| asked.unreadable("row"))?;
    let count = |field: &'static str| {
        let value: i64 = asked.get(row, field)?;
        u32::try_from(value).map_err(|_| asked.unreadable(field))
    };
    let keep_mib: i64 = asked.get(row, "keep_mib")?;
    let sender_timeout_ms: i64 = asked.get(row, "sender_timeout_ms")?;
    Ok(Facts {
        server_version: sql.server_version(),
        wal_level: asked.get(row, "wal_level")?,
        wal_level_set: asked.get(row, "wal_level_set")?,
        in_recovery: asked.get(row, "in_recovery")?,
        encoding: asked.get(row, "encoding")?,
        database_oid: Oid(asked.get(row, "database_oid")?),
        role: Role {
            name: asked.get(row, "name")?,
            superuser: asked.get(row, "superuser")?,
            login: asked.get(row, "login")?,
            replication: asked.get(row, "replication")?,
            create_on_database: asked.get(row, "create_on_database")?,
        },
        slots_max: count("slots_max")?,
        slots_used: count("slots_used")?,
        senders_max: count("senders_max")?,
        senders_used: count("senders_used")?,
        slot_keep_bytes_max: u64::try_from(keep_mib)
            .ok()
            .map(|mib| mib.saturating_mul(1024 * 1024)),
        wal_sender_timeout: u64::try_from(sender_timeout_ms)
            .ok()
            .filter(|&ms| ms > 0)
            .map(Duration::from_millis),
        synchronous_standby_names: asked.get(row, "standby_names")?,
    })
}

/// What our role may do with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRights {
    /// The table asked for.
    pub name: TableName,
    /// The table's oid. `None` if there is no such table; `select` and `owner` are then false.
    pub relation: Option<Oid>,
    /// The right USAGE on the table's namespace.
    pub usage: bool,
    /// The right SELECT on the whole table. Grants on columns do not count, because they do not
    /// permit the LOCK of a copy.
    pub select: bool,
    /// True if our role owns the table or has the owner's rights, as CREATE PUBLICATION requires.
    pub owner: bool,
}

/// Reads our role's rights on tables, in the order of `tables`.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn table_rights(sql: &Sql, tables: &[TableName]) -> Result<Vec<TableRights>, PgError> {
    let asked = SqlCall { call: "read table rights in", object: sql.database() };
    let (namespaces, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|t| (&*t.namespace, &*t.name)).unzip();
    let text = "SELECT c.oid, coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS usage,
           coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS select,
           coalesce(pg_has_role(c.relowner, 'USAGE'), false) AS owner
         FROM unnest($1, $2) WITH ORDINALITY t(namespace, name, place)
         LEFT JOIN pg_namespace n ON n.nspname = t.namespace
         LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
         AND c.relkind IN ('r', 'p')
         ORDER BY t.place";
    let rows = sql
        .ask(asked, text, &[(&namespaces, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)])
        .await?;
    tables
        .iter()
        .zip(&rows)
        .map(|(name, row)| {
            let relation: Option<u32> = asked.get(row, "oid")?;
            Ok(TableRights {
                name: name.clone(),
                relation: relation.map(Oid),
                usage: asked.get(row, "usage")?,
                select: asked.get(row, "select")?,
                owner: asked.get(row, "owner")?,
            })
        })
        .collect()
}

/// Whether the application's commits may wait for the confirmations of a walsender's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// The walsender's `sync_state`: `async`, `potential`, `sync` or `quorum`. With any state but
    /// `async`, the application's commits may wait for the client's confirmations.
    Known(String),
    /// The state is hidden, because only roles with `pg_read_all_stats` may see it.
    /// [`names_standby`] decides by the setting instead.
    Hidden,
    /// No walsender has the process id that was asked for.
    Gone,
}

/// Reads `sync_state` of the walsender with the process id `pid`.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn sync_state(sql: &Sql, pid: i32) -> Result<SyncState, PgError> {
    let asked = SqlCall { call: "read sync_state of walsender", object: &pid.to_string() };
    let text = "SELECT sync_state::text AS state FROM pg_stat_replication WHERE pid = $1";
    let rows = sql.ask(asked, text, &[(&pid, Type::INT4)]).await?;
    let Some(row) = rows.first() else { return Ok(SyncState::Gone) };
    let state: Option<String> = asked.get(row, "state")?;
    Ok(state.map_or(SyncState::Hidden, SyncState::Known))
}

/// Whether `setting`, the value of `synchronous_standby_names`, names `application_name`: as one of
/// its entries or by `*`.
#[must_use]
pub fn names_standby(setting: &str, application_name: &str) -> bool {
    // `FIRST 2 (a, "b,c")`, `ANY 1 (*)`, `2 (a)`, `a, b`: the entries are in the parentheses, if
    // there are parentheses.
    let inside = setting.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let entries = inside.map_or(setting, |(entries, _)| entries);
    let (mut quoted, mut entry, mut found) = (false, String::new(), false);
    for c in entries.chars().chain([',']) {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                let name = std::mem::take(&mut entry);
                found |= name.trim() == "*" || name.trim().eq_ignore_ascii_case(application_name);
            }
            other => entry.push(other),
        }
    }
    found
}

/// The session that holds a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHolder {
    /// Process id of the session's backend.
    pub pid: i32,
    /// `application_name` of the session, which every role may see. `None` if the session has just
    /// ended.
    pub application: Option<String>,
    /// Name of the role with which the session logged in. `None` if it cannot be seen.
    pub user: Option<String>,
    /// Client address; `None` for a Unix socket, or if our role may not see it.
    pub client: Option<String>,
}

impl fmt::Display for SlotHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        for (what, value) in [("user", &self.user), ("address", &self.client)] {
            if let Some(value) = value {
                write!(f, ", {what} {value}")?;
            }
        }
        Ok(())
    }
}

/// The session that holds the slot; `None` if nobody does.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn slot_holder(sql: &Sql, slot: &str) -> Result<Option<SlotHolder>, PgError> {
    let asked = SqlCall { call: "read the holder of slot", object: slot };
    let text = "SELECT s.active_pid AS pid, a.application_name::text AS application,
           a.usename::text AS user, host(a.client_addr) AS client
         FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
         WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL";
    let rows = sql.ask(asked, text, &[(&slot, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SlotHolder {
        pid: asked.get(row, "pid")?,
        application: asked.get(row, "application")?,
        user: asked.get(row, "user")?,
        client: asked.get(row, "client")?,
    }))
}

/// Signs that a caller compares with later ones, to see whether a walsender that sends nothing is
/// at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalsenderSigns {
    /// True if the process exists and is a walsender.
    pub alive: bool,
    /// `wait_event` of the walsender. `None` if it waits for nothing, or if our role may not see
    /// it.
    pub wait_event: Option<String>,
    /// Statistics of the slot. `None` if the server has none, as for a slot that does not exist.
    pub counters: Option<SlotCounters>,
}

/// Counters of `pg_stat_replication_slots`. If the counters grow, the walsender works although it
/// sends nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounters {
    /// Bytes that the walsenders of the slot have written to disk for transactions that are too
    /// large for their memory.
    pub spill_bytes: u64,
    pub(crate) total_txns: u64,
    pub(crate) total_bytes: u64,
}

/// Reads the signs of the walsender `pid` on `slot`. If two readings differ, the walsender works.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn walsender_signs(sql: &Sql, pid: i32, slot: &str) -> Result<WalsenderSigns, PgError> {
    let asked = SqlCall { call: "read the counters of slot", object: slot };
    let text = "SELECT a.pid IS NOT NULL AS alive, a.wait_event::text AS wait_event,
           s.spill_bytes, s.total_txns, s.total_bytes
         FROM (SELECT) one
         LEFT JOIN pg_stat_activity a ON a.pid = $1 AND a.backend_type = 'walsender'
         LEFT JOIN pg_stat_replication_slots s ON s.slot_name = $2";
    let rows = sql.ask(asked, text, &[(&pid, Type::INT4), (&slot, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| asked.unreadable("row"))?;
    let counter = |field: &'static str| {
        let value: Option<i64> = asked.get(row, field)?;
        Ok::<_, PgError>(value.and_then(|v| u64::try_from(v).ok()))
    };
    let counters = match (counter("spill_bytes")?, counter("total_txns")?, counter("total_bytes")?)
    {
        (Some(spill_bytes), Some(total_txns), Some(total_bytes)) => {
            Some(SlotCounters { spill_bytes, total_txns, total_bytes })
        }
        _ => None,
    };
    Ok(WalsenderSigns {
        alive: asked.get(row, "alive")?,
        wait_event: asked.get(row, "wait_event")?,
        counters,
    })
}

#[cfg(test)]
impl Facts {
    /// The facts of a primary that suits a pipeline, for tests.
    pub(crate) fn fit(server_version: u32) -> Self {
        Facts {
            server_version,
            wal_level: "logical".to_owned(),
            wal_level_set: "logical".to_owned(),
            in_recovery: false,
            encoding: "UTF8".to_owned(),
            database_oid: Oid(5),
            role: Role {
                name: "w".to_owned(),
                superuser: false,
                login: true,
                replication: true,
                create_on_database: true,
            },
            slots_max: 10,
            slots_used: 1,
            senders_max: 10,
            senders_used: 1,
            slot_keep_bytes_max: None,
            wal_sender_timeout: None,
            synchronous_standby_names: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_turns_decoding_on_only_at_a_primary_of_19() {
        let facts = |server_version, wal_level: &str, set: &str, in_recovery| Facts {
            wal_level: wal_level.to_owned(),
            wal_level_set: set.to_owned(),
            in_recovery,
            ..Facts::fit(server_version)
        };
        assert_eq!(facts(180_004, "replica", "replica", false).decoding(), Decoding::Off);
        assert_eq!(facts(180_004, "logical", "logical", false).decoding(), Decoding::On);
        assert_eq!(facts(190_000, "replica", "replica", false).decoding(), Decoding::WithSlot);
        assert_eq!(facts(190_000, "logical", "replica", false).decoding(), Decoding::On);
        assert_eq!(facts(190_000, "minimal", "minimal", false).decoding(), Decoding::Off);
        assert_eq!(facts(190_000, "replica", "logical", true).decoding(), Decoding::Off);
        assert_eq!(facts(190_000, "replica", "replica", true).decoding(), Decoding::Off);
    }

    #[test]
    fn finds_our_name_among_synchronous_standbys() {
        for setting in [
            "*",
            "wellspring",
            "a, WellSpring",
            "FIRST 1 (a, wellspring)",
            "ANY 2 (\"wellspring\", b)",
            "1 (*)",
        ] {
            assert!(names_standby(setting, "wellspring"), "{setting}");
        }
        for setting in ["", "a, b", "FIRST 1 (wellspring2)", "\"a, wellspring\"", "wellspring (a)"]
        {
            assert!(!names_standby(setting, "wellspring"), "{setting}");
        }
    }
}
