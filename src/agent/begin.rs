//! Begins a pipeline: creates the publication, records the intent to create the slot, creates the
//! slot with its snapshot, and records the tables that are copied under this snapshot.
//!
//! No other file creates a publication or a lasting slot without a command. At a first start the
//! intent is recorded before the slot exists, and the tables are recorded before their first row is
//! read. So the next start knows after a crash whether the slot is ours, and which tables are still
//! to be copied.

use super::Config;
use super::consent;
use super::open::{ServerState, in_use};
use super::rehearse::{Captured, rehearse};
use super::supervise::PipelineError;
use crate::continuity::checkpoint::{Checkpoint, FORMAT, Intent};
use crate::continuity::detached::Detached;
use crate::continuity::made::Made;
use crate::continuity::{Trouble, TroubleReason};
use crate::initial::FirstCopy;
use crate::lsn::Lsn;
use crate::plans::keeper::Keeper;
use crate::postgres::holder::Holder;
use crate::postgres::preflight::{self, Decoding};
use crate::postgres::slot::{self, Blocker, SlotRow};
use crate::postgres::{CreatedSlot, Replication, Sql, SystemIdentity};
use crate::postgres::{harm, publication};
use crate::snapshot::journal::Planned;
use crate::snapshot::prepare;
use crate::table::TableName;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first version of Postgres whose standbys can decode the WAL, in the form of
/// `server_version_num`.
const STANDBY_VERSION: u32 = 160_000;

/// The epoch of a pipeline that has not accepted a gap.
const FIRST_EPOCH: u64 = 1;

/// How long CREATE_REPLICATION_SLOT may wait for writing transactions. Then the error names them,
/// and the creation is tried again.
const SLOT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// After this wait the status names the transactions that a new slot waits for.
const SLOT_PATIENCE: Duration = Duration::from_secs(3);

/// CREATE PUBLICATION locks its tables for a moment. Behind a long transaction it gives up after
/// this time, because other statements would queue behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the begin of a pipeline works with: the configuration, the connections, the state, and the
/// channel on which it reports troubles.
pub(super) struct Start<'a> {
    pub config: &'a Config,
    pub sql: &'a Sql,
    pub replication: &'a mut Replication,
    pub keeper: &'a Keeper,
    pub troubles: &'a mpsc::Sender<Option<Trouble>>,
}

/// Starts a pipeline for the first time: creates the publication if it does not exist, records the
/// intent, and then creates the slot. Returns the first copy. `None` if `snapshot.mode` has none,
/// or if the server exported no snapshot with the slot.
pub(super) async fn first_start(
    start: &mut Start<'_>,
    seen: &ServerState,
) -> Result<Option<FirstCopy>, PipelineError> {
    let (config, sql) = (start.config, start.sql);
    let facts = preflight::facts(sql).await?;
    if facts.in_recovery && sql.server_version() < STANDBY_VERSION {
        let detail =
            "the server is a standby, and before version 16 Postgres decodes no log on one"
                .to_owned();
        let next = "set postgres.url to the primary; target_session_attrs=primary finds it among \
            several hosts";
        return Err(PipelineError::Refused(Trouble::plain(
            TroubleReason::PostgresSettings,
            detail,
            next,
        )));
    }
    if facts.decoding() == Decoding::Off {
        let detail = format!("wal_level is {}, changes cannot be decoded", facts.wal_level);
        let next = facts.decoding_fix();
        return Err(PipelineError::Refused(Trouble::plain(
            TroubleReason::PostgresSettings,
            detail,
            next,
        )));
    }
    match seen.publication() {
        None => {
            create_publication(config, sql).await?;
            let row = publication::read(sql, &config.publication).await?;
            let made = row.map(|row| Made { format: FORMAT, publication: row.oid }.to_json());
            start.keeper.write(&Made::key(&config.slot), made).await?;
        }
        Some(row) if row.is_of_sequences() => {
            let detail = format!(
                "publication `{}` is FOR ALL SEQUENCES and publishes no table",
                config.publication
            );
            let (reason, next) = (TroubleReason::PublicationIncomplete, publication::OWN_NAME_NEXT);
            return Err(PipelineError::Trouble(Trouble::plain(reason, detail, next)));
        }
        Some(_) => {}
    }
    start.forget_copies(seen).await?;
    let intent = Intent { format: FORMAT, copies: config.snapshot.mode.copies_first() };
    start.keeper.write(&Checkpoint::intent_key(&config.slot), Some(intent.to_json())).await?;
    let created = start.slot().await?;
    start.copy(&created, FIRST_EPOCH).await
}

/// Drops the slot if it exists, and begins the pipeline again with a new slot and a new epoch, by
/// the standing consent of `snapshot.mode` `always` or `when_needed`. If there was a checkpoint,
/// the new one names the range of WAL that is left out. The first copy brings the rows as they are
/// after this range. Only the single changes within the range are missing.
pub(super) async fn anew(
    start: &mut Start<'_>,
    server: &SystemIdentity,
    reason: &str,
    seen: ServerState,
) -> Result<Option<FirstCopy>, PipelineError> {
    let config = start.config;
    if let Some(pid) = seen.slot().and_then(|slot| slot.active_pid) {
        let detail = format!("slot `{}` is held by pid {pid}", config.slot);
        let next = TroubleReason::SlotInUse.next();
        return Err(PipelineError::Trouble(Trouble::plain(TroubleReason::SlotInUse, detail, next)));
    }
    if seen.slot().is_some() {
        start.replication.drop_slot(&config.slot).await?;
    }
    if seen.state.record.is_none() {
        start.forget_copies(&seen).await?;
    }
    // The copy repairs every table, so no table stays detached. A table that is refused again is
    // detached again.
    for table in seen.state.detached.keys() {
        start.keeper.write(&Detached::key(&config.slot, table), None).await?;
    }
    let created = start.slot().await?;
    let epoch = seen.state.record.as_ref().map_or(FIRST_EPOCH, |record| record.epoch + 1);
    let copy = start.copy(&created, epoch).await?;
    if seen.state.record.is_none() {
        // Without a checkpoint, the recorded intent marks the new slot as ours, as after a first
        // start.
        let intent = Intent { format: FORMAT, copies: true };
        start.keeper.write(&Checkpoint::intent_key(&config.slot), Some(intent.to_json())).await?;
        return Ok(copy);
    }
    let seen = ServerState::new(config, start.sql, start.replication, server, start.keeper).await?;
    let from = seen.slot().map_or(Lsn::ZERO, SlotRow::confirmed);
    let record = consent::consented(config, &seen, from, reason);
    let accepted = record.accepted.last().map_or(Lsn::ZERO, |accepted| accepted.from);
    tracing::warn!(
        reason, epoch, from = %accepted, to = %from,
        "the pipeline begins again, because snapshot.mode allows it: changes in between are not \
         published one by one"
    );
    start.keeper.write(&Checkpoint::key(&record.slot, record.term), Some(record.to_json())).await?;
    Ok(copy)
}

impl Start<'_> {
    /// Removes the state records that an earlier pipeline with this slot name left about its
    /// copies.
    async fn forget_copies(&self, seen: &ServerState) -> Result<(), PipelineError> {
        for key in seen.state.copies(&self.config.slot) {
            self.keeper.write(&key, None).await?;
        }
        Ok(())
    }

    /// Creates the slot. If this takes longer than [`SLOT_PATIENCE`], a trouble is reported that
    /// names the transactions for which the creation waits.
    async fn slot(&mut self) -> Result<CreatedSlot, PipelineError> {
        let (config, sql, troubles) = (self.config, self.sql, self.troubles);
        let created = create_slot(config, sql, self.replication);
        let waited = async {
            tokio::time::sleep(SLOT_PATIENCE).await;
            if let Ok(trouble) = waits_for(config, sql).await {
                let _ = troubles.send(Some(trouble)).await; // Nobody listens while the agent stops.
            }
            std::future::pending().await
        };
        tokio::select! {
            biased; // The slot comes first, then the report about the wait.
            created = created => created.map_err(|error| match error {
                PipelineError::Postgres(error) if error.sqlstate() == Some("42710") => {
                    raced("slot", &config.slot)
                }
                error => error,
            }),
            () = waited => Err(PipelineError::Goodbye), // This future never ends.
        }
    }

    /// Makes a holder keep the new slot's snapshot, prepares the first copy, and records the tables
    /// of the copy before a row is read. Returns `None` if `snapshot.mode` has no first copy, or if
    /// the server exported no snapshot with the slot.
    async fn copy(
        &mut self,
        created: &CreatedSlot,
        epoch: u64,
    ) -> Result<Option<FirstCopy>, PipelineError> {
        let (config, Some(snapshot)) = (self.config, &created.snapshot) else { return Ok(None) };
        if !config.snapshot.mode.copies_first() {
            return Ok(None);
        }
        let mut holder = Holder::import(&config.postgres, snapshot).await?;
        let captured = publication::read(self.sql, &config.publication).await?;
        let captured: Vec<TableName> = captured
            .into_iter()
            .flat_map(|row| row.tables)
            .map(|table| table.name)
            .filter(|name| config.selection.matches(name))
            .collect();
        let prepared =
            prepare::prepare(&config.snapshot, &mut holder, &config.publication, &captured).await?;
        let tables = prepared.plan.tables.iter().map(|table| table.name.to_string()).collect();
        let planned = Planned::new(epoch, created.consistent_point, tables);
        self.keeper.write(&Planned::key(&config.slot), Some(planned.to_json())).await?;
        Ok(Some(FirstCopy { holder, prepared, point: created.consistent_point, epoch }))
    }
}

/// The error for a slot or a publication that another replica created between our check and our own
/// creation. The next try finds the slot or the publication.
fn raced(kind: &str, name: &str) -> PipelineError {
    in_use(format!("{kind} `{name}` was created by another agent a moment ago"))
}

/// Makes the trouble that names the transactions for which the creation of the slot waits.
async fn waits_for(config: &Config, sql: &Sql) -> Result<Trouble, PipelineError> {
    let blockers = slot::blockers(sql).await?;
    let list: Vec<String> = blockers.iter().map(blocker).collect();
    let detail = format!(
        "creating slot `{}` waits for writing transactions: {}",
        config.slot,
        list.join("; ")
    );
    let next = "end these transactions, or wait; the agent tries again by itself";
    Ok(Trouble::plain(TroubleReason::SlotWaits, detail, next))
}

/// Creates the slot. A wait for writing transactions ends after `SLOT_LOCK_TIMEOUT` with an error
/// that names these transactions.
///
/// # Errors
/// The server refuses the slot, or writing transactions hold it up.
pub async fn create_slot(
    config: &Config,
    sql: &Sql,
    replication: &mut Replication,
) -> Result<CreatedSlot, PipelineError> {
    let created = match config.failover {
        true => replication.create_failover_slot(&config.slot, SLOT_LOCK_TIMEOUT).await,
        false => replication.create_slot(&config.slot, SLOT_LOCK_TIMEOUT).await,
    };
    match created {
        Ok(slot) => {
            tracing::info!(
                slot = config.slot, consistent_point = %slot.consistent_point,
                "created the replication slot"
            );
            Ok(slot)
        }
        Err(error) if matches!(error.sqlstate(), Some("55P03" | "57014")) => {
            Err(PipelineError::Trouble(waits_for(config, sql).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates the publication for exactly the tables that the configuration selects. If the agent may
/// not create it, the error has the SQL that somebody has to run.
async fn create_publication(config: &Config, sql: &Sql) -> Result<(), PipelineError> {
    let trouble = |detail: String, next: &str| {
        PipelineError::Trouble(Trouble::plain(TroubleReason::PublicationIncomplete, detail, next))
    };
    let candidates = publication::candidates(sql).await?;
    let chosen: Vec<_> = candidates
        .iter()
        .filter(|table| table.logged && config.selection.matches(&table.name))
        .collect();
    let partitions = config.selection.partitions();
    let roots: Vec<_> = chosen.iter().filter(|table| table.stands_for_itself(partitions)).collect();
    if roots.is_empty() {
        return Err(trouble(
            "tables.include matches no table of this database".to_owned(),
            "correct tables.include",
        ));
    }
    let tables = roots.iter().map(|table| Captured {
        relation: table.relation,
        name: &table.name,
        identity: table.identity,
    });
    rehearse(&config.encode, sql, tables).await?;
    if let Some(harmed) = roots.iter().find(|table| table.update_fails()) {
        let detail = format!(
            "publishing {} would make the application's UPDATE and DELETE fail: no replica \
             identity",
            harmed.name
        );
        return Err(trouble(detail, &harmed.fixes.join(" ")));
    }
    let relations: Vec<_> = roots.iter().map(|table| table.relation).collect();
    if let Some(harm) = harm::of_new(sql, None, &relations).await?.first() {
        return Err(trouble(format!("once published, {}", harm.what), &harm.fix));
    }
    let names: Vec<TableName> = roots.iter().map(|table| table.name.clone()).collect();
    let statement = publication::create_sql(&config.publication, &names, partitions);
    if !config.create_publication {
        let detail = format!(
            "publication `{}` does not exist, and postgres.create_publication is off",
            config.publication
        );
        return Err(trouble(detail, &statement));
    }
    match publication::create(sql, &config.publication, (&names, partitions), LOCK_TIMEOUT).await {
        Ok(()) => {
            tracing::info!(
                publication = config.publication,
                tables = names.len(),
                "created the publication"
            );
            Ok(())
        }
        // Another publication has the name (42710). If the transaction that created it committed
        // while ours waited, the error is a duplicate key in pg_publication (23505) instead.
        Err(error) if matches!(error.sqlstate(), Some("42710" | "23505")) => {
            Err(raced("publication", &config.publication))
        }
        Err(error) if error.sqlstate() == Some("25006") => {
            let detail = format!(
                "publication `{}` does not exist, and a standby cannot create it",
                config.publication
            );
            Err(trouble(detail, &format!("on the primary: {statement}")))
        }
        Err(error) if error.sqlstate() == Some("42501") => {
            let detail =
                format!("the role may not create publication `{}`: {error}", config.publication);
            Err(trouble(detail, &statement))
        }
        Err(error) => Err(error.into()),
    }
}

/// Describes one transaction that a new slot waits for, in one line.
fn blocker(blocker: &Blocker) -> String {
    let who = match (blocker.pid, &blocker.prepared) {
        (Some(pid), _) => format!("pid {pid}"),
        (None, Some(name)) => format!("prepared transaction `{name}`"),
        (None, None) => "unknown".to_owned(),
    };
    let what = [&blocker.user, &blocker.application, &blocker.state].into_iter().flatten();
    let what: Vec<&str> = what.map(String::as_str).filter(|text| !text.is_empty()).collect();
    let age = blocker.age.map_or_else(String::new, |age| format!(", for {} s", age.as_secs()));
    format!("{who} (xid {}, {}{age})", blocker.xid, what.join(", "))
}
