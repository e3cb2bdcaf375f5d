//! Facts about the server that a pipeline does not depend on: the cloud provider, standbys, the WAL
//! that other slots keep, and rights of our role that the pipeline does not need.
//!
//! This file reads the catalog and statistics views that every role may read, and takes no lock on
//! tables of the application. `check` says what the facts mean.

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::TableName;
use postgres_protocol::escape::escape_literal;
use tokio_postgres::types::Type;

/// Facts about the server and our role, beyond what a pipeline needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Name of the cloud service that runs the server: Amazon RDS, Amazon Aurora, Google Cloud SQL,
    /// Azure, Neon, Supabase or AlloyDB. Each is recognised by roles or functions of its own.
    /// `None` if none of them is recognised.
    pub provider: Option<String>,
    /// Attributes of our role beyond LOGIN and REPLICATION: `CREATEDB`, `CREATEROLE`, `BYPASSRLS`.
    pub attributes: Vec<String>,
    /// Bytes of WAL that the server writes per day, on average since its counters were last reset.
    /// `None` if the reset was less than an hour ago.
    pub wal_bytes_per_day: Option<u64>,
    /// Number of sessions that hold a physical slot, such as those of connected standbys.
    pub standbys: u32,
    /// The name of each physical slot that is not temporary, and true if a session holds the slot.
    pub physical_slots: Vec<(String, bool)>,
    /// `synchronized_standby_slots` (17 on); empty if it is not set.
    pub synchronized_standby_slots: String,
    /// `idle_replication_slot_timeout` (18 on) as the server writes it; `0` if it is off or the
    /// server has no such setting.
    pub idle_slot_timeout: String,
    /// Logical slots, other than ours and temporary ones, that no session holds.
    pub idle_slots: Vec<IdleSlot>,
}

/// A logical slot that no session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleSlot {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) plugin: String,
    /// Bytes of WAL that the server keeps for the slot.
    pub retained_bytes: u64,
}

/// Generated columns and rights to write, of one captured table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSurroundings {
    pub(crate) relation: Oid,
    /// The table's generated columns, in the order of the table.
    pub generated: Vec<Generated>,
    /// True if our role has at least one of the rights INSERT, UPDATE, DELETE and TRUNCATE on the
    /// table.
    pub writable: bool,
}

/// A generated column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Name of the column.
    pub name: String,
    /// True if the value is stored. A virtual column (18 on) is never in the stream.
    pub is_stored: bool,
    /// True if the publication publishes the column, or would publish it with the table added. It
    /// is always false before 18.
    pub is_published: bool,
}

/// Reads the facts about the server and our role. `slot` is our own slot, which is not listed among
/// the idle ones.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn read(sql: &Sql, slot: &str) -> Result<Surroundings, PgError> {
    let asked = SqlCall { call: "read the surroundings of", object: sql.database() };
    let text = "SELECT
      CASE
        WHEN to_regprocedure('pg_catalog.aurora_version()') IS NOT NULL
          OR EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version') THEN 'Amazon Aurora'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') THEN 'Amazon RDS'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'alloydbsuperuser') THEN 'Google AlloyDB'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloudsqlsuperuser')
        THEN 'Google Cloud SQL'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_pg_admin')
        THEN 'Azure Database for PostgreSQL'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'neon_superuser') THEN 'Neon'
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'supabase_admin') THEN 'Supabase'
      END AS provider,
      r.rolcreatedb AS createdb, r.rolcreaterole AS createrole, r.rolbypassrls AS bypassrls,
      (SELECT CASE WHEN extract(epoch FROM now() - w.stats_reset) > 3600
         THEN (w.wal_bytes / extract(epoch FROM now() - w.stats_reset) * 86400)::float8 END
         FROM pg_stat_wal w) AS wal_a_day,
      (SELECT count(*) FROM pg_stat_activity a JOIN pg_replication_slots s ON s.active_pid = a.pid
         WHERE s.slot_type = 'physical') AS standbys,
      coalesce(current_setting('synchronized_standby_slots', true), '') AS standby_slots,
      coalesce(current_setting('idle_replication_slot_timeout', true), '0') AS idle_timeout
    FROM pg_roles r WHERE r.rolname = current_user";
    let rows = sql.ask(asked, text, &[]).await?;
    let row = rows.first().ok_or_else(|| asked.unreadable("row"))?;
    let mut attributes = Vec::new();
    for (field, name) in
        [("createdb", "CREATEDB"), ("createrole", "CREATEROLE"), ("bypassrls", "BYPASSRLS")]
    {
        if asked.get(row, field)? {
            attributes.push(name.to_owned());
        }
    }
    let standbys: i64 = asked.get(row, "standbys")?;
    let wal: Option<f64> = asked.get(row, "wal_a_day")?;
    Ok(Surroundings {
        provider: asked.get(row, "provider")?,
        attributes,
        wal_bytes_per_day: wal.and_then(whole),
        standbys: u32::try_from(standbys).unwrap_or(u32::MAX),
        synchronized_standby_slots: asked.get(row, "standby_slots")?,
        idle_slot_timeout: asked.get(row, "idle_timeout")?,
        idle_slots: idle_slots(sql, slot).await?,
        physical_slots: physical_slots(sql).await?,
    })
}

/// Rounds a rate in bytes to a whole number. `None` if the rate is negative or no finite number.
fn whole(bytes: f64) -> Option<u64> {
    format!("{bytes:.0}").parse().ok()
}

async fn physical_slots(sql: &Sql) -> Result<Vec<(String, bool)>, PgError> {
    let asked = SqlCall { call: "list physical slots of", object: sql.database() };
    let text = "SELECT slot_name::text AS name, active FROM pg_replication_slots
         WHERE slot_type = 'physical' AND NOT temporary ORDER BY slot_name";
    let rows = sql.ask(asked, text, &[]).await?;
    rows.iter().map(|row| Ok((asked.get(row, "name")?, asked.get(row, "active")?))).collect()
}

/// Settings of a standby that decide whether it can keep copies of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standby {
    /// `sync_replication_slots`: the standby copies the slots that are made for a failover.
    pub syncs: bool,
    /// `hot_standby_feedback`: the standby tells the primary which rows its slots need, so that the
    /// primary keeps them.
    pub feedback: bool,
    /// `primary_slot_name`: the primary's slot from which the standby receives WAL; empty if it
    /// uses no slot.
    pub slot_name: String,
    /// Whether `primary_conninfo` names a database. `None` if our role may not read it.
    pub names_database: Option<bool>,
}

/// Reads the standby settings of this server. `None` if it is a primary. The server has to be of
/// version 17 or later.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn standby(sql: &Sql) -> Result<Option<Standby>, PgError> {
    let host = sql.host().to_string();
    let asked = SqlCall { call: "read the standby's settings of", object: &host };
    let text = "SELECT pg_is_in_recovery() AS in_recovery, \
        current_setting('sync_replication_slots') = 'on' AS syncs,
           current_setting('hot_standby_feedback') = 'on' AS feedback,
           current_setting('primary_slot_name') AS slot_name,
           (SELECT setting ~ '\\mdbname *=' FROM pg_settings \
           WHERE name = 'primary_conninfo') AS names_database";
    let rows = sql.ask(asked, text, &[]).await?;
    let row = rows.first().ok_or_else(|| asked.unreadable("row"))?;
    let in_recovery: bool = asked.get(row, "in_recovery")?;
    let standby = Standby {
        syncs: asked.get(row, "syncs")?,
        feedback: asked.get(row, "feedback")?,
        slot_name: asked.get(row, "slot_name")?,
        names_database: asked.get(row, "names_database")?,
    };
    Ok(in_recovery.then_some(standby))
}

async fn idle_slots(sql: &Sql, slot: &str) -> Result<Vec<IdleSlot>, PgError> {
    let asked = SqlCall { call: "list idle slots beside", object: slot };
    let text = "SELECT slot_name::text AS name, database::text AS database, plugin::text AS plugin,
           coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
             ELSE pg_current_wal_lsn() END, restart_lsn), 0)::int8 AS retained
         FROM pg_replication_slots
         WHERE slot_type = 'logical' AND NOT active AND NOT temporary AND slot_name <> $1 \
         ORDER BY retained DESC, name";
    let rows = sql.ask(asked, text, &[(&slot, Type::TEXT)]).await?;
    rows.iter()
        .map(|row| {
            let retained: i64 = asked.get(row, "retained")?;
            Ok(IdleSlot {
                name: asked.get(row, "name")?,
                database: asked.get(row, "database")?,
                plugin: asked.get(row, "plugin")?,
                retained_bytes: u64::try_from(retained).unwrap_or(0),
            })
        })
        .collect()
}

/// The largest lag of a physical standby in bytes of WAL, as far as the role may see: the bytes
/// that the standby has not replayed, or that its slot keeps. `None` if the role sees no standby.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn standby_lag(sql: &Sql) -> Result<Option<u64>, PgError> {
    let asked = SqlCall { call: "read how far standbys are behind in", object: sql.database() };
    let text = "WITH here AS (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
           ELSE pg_current_wal_lsn() END AS lsn)
         SELECT max(lag)::int8 AS lag FROM (
           SELECT pg_wal_lsn_diff(here.lsn, r.replay_lsn) AS lag FROM here, pg_stat_replication r
           WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid
           AND s.slot_type = 'logical')
           UNION ALL
           SELECT pg_wal_lsn_diff(here.lsn, s.restart_lsn) FROM here, pg_replication_slots s
           WHERE s.slot_type = 'physical' AND s.active) seen";
    let rows = sql.ask(asked, text, &[]).await?;
    let row = rows.first().ok_or_else(|| asked.unreadable("row"))?;
    let lag: Option<i64> = asked.get(row, "lag")?;
    Ok(lag.map(|lag| u64::try_from(lag).unwrap_or(0)))
}

/// Reads the facts about tables, in no particular order. Tables that are gone are left out. If the
/// publication does not exist, no generated column counts as published, because the publication
/// that the agent creates publishes none.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn tables(
    sql: &Sql,
    relations: &[Oid],
    publication: &str,
) -> Result<Vec<TableSurroundings>, PgError> {
    let asked = SqlCall { call: "read the surroundings of tables in", object: sql.database() };
    let oids: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let text = tables_query(sql.server_version(), publication);
    let rows = sql.ask(asked, &text, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter()
        .map(|row| {
            let names: Vec<String> = asked.get(row, "names")?;
            let stored: Vec<bool> = asked.get(row, "stored")?;
            let published: Vec<bool> = asked.get(row, "published")?;
            let columns = names.into_iter().zip(stored).zip(published);
            let generated =
                |((name, is_stored), is_published)| Generated { name, is_stored, is_published };
            Ok(TableSurroundings {
                relation: Oid(asked.get(row, "oid")?),
                generated: columns.map(generated).collect(),
                writable: asked.get(row, "writable")?,
            })
        })
        .collect()
}

/// The query of [`tables`]. Before 18 no generated column is published. From 18 on
/// `pg_get_publication_tables` says which ones are, by the option or by a column list.
fn tables_query(version: u32, publication: &str) -> String {
    let (with, published) = if version >= 180_000 {
        let name = escape_literal(publication);
        let with = format!(
            "WITH p AS (SELECT * FROM pg_publication WHERE pubname = {name}),
             t AS MATERIALIZED (
               SELECT DISTINCT ON (g.relid) g.relid, g.attrs
               FROM p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname::text) g
               ORDER BY g.relid)"
        );
        let published = "coalesce(
             (SELECT a.attnum = ANY (t.attrs::int2[]) FROM t WHERE t.relid = a.attrelid),
             (SELECT p.pubgencols = 's' AND a.attgenerated = 's' FROM p), false)";
        (with, published)
    } else {
        (String::new(), "false")
    };
    format!(
        "{with} SELECT c.oid, g.names, g.stored, g.published,
           has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS writable
         FROM pg_class c CROSS JOIN LATERAL (
           SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{{}}') AS names,
             coalesce(array_agg(a.attgenerated = 's' ORDER BY a.attnum), '{{}}') AS stored,
             coalesce(array_agg({published} ORDER BY a.attnum), '{{}}') AS published
           FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attgenerated <> '') g
         WHERE c.oid = ANY ($1)"
    )
}

/// Reads the names of a table's columns in the order of the table. Generated columns are left out.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn columns(sql: &Sql, relation: Oid) -> Result<Vec<String>, PgError> {
    let asked = SqlCall { call: "list columns in", object: sql.database() };
    let text = "SELECT attname::text AS name FROM pg_attribute
         WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' \
         ORDER BY attnum";
    let rows = sql.ask(asked, text, &[(&relation.0, Type::OID)]).await?;
    rows.iter().map(|row| asked.get(row, "name")).collect()
}

/// A table that inherits from another one. Its changes carry its own name, and never the parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The one of the given relations from which the child inherits, directly or through another
    /// child.
    pub parent: Oid,
    /// The oid of the child.
    pub relation: Oid,
    /// Namespace and name of the child.
    pub name: TableName,
}

/// Lists the tables that inherit from these relations, without partitions. The chunks of a
/// TimescaleDB hypertable are such tables.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn children(sql: &Sql, relations: &[Oid]) -> Result<Vec<Child>, PgError> {
    let asked = SqlCall { call: "list tables that inherit in", object: sql.database() };
    let oids: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let text = "WITH RECURSIVE below(parent, oid) AS (
           SELECT inhparent, inhrelid FROM pg_inherits WHERE inhparent = ANY ($1)
           UNION SELECT b.parent, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid)
         SELECT b.parent, c.oid, n.nspname::text AS namespace, c.relname::text AS name
         FROM below b JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND NOT c.relispartition ORDER BY b.parent, n.nspname, c.relname";
    let rows = sql.ask(asked, text, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Child {
                parent: Oid(asked.get(row, "parent")?),
                relation: Oid(asked.get(row, "oid")?),
                name: TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?),
            })
        })
        .collect()
}
