//! The questions of a connect to the server, besides slot and publication, and the meaning of the
//! answers.

use super::Config;
use crate::agent::supervise::PipelineError;
use crate::continuity::checkpoint::{Checkpoint, State, TableIdentity};
use crate::continuity::{PublicationView, Trouble, TroubleReason};
use crate::core::LastStop;
use crate::lsn::{Lsn, Oid};
use crate::postgres::preflight::{self, SyncState};
use crate::postgres::publication::{self, PublicationRow};
use crate::postgres::slot::SlotRow;
use crate::postgres::{FAILOVER_SINCE, Origins, PgError, Replication, Sql, Stream};
use crate::snapshot::visibility::PgSnapshot;
use crate::table::TableName;
use crate::watch::{self, Fingerprint};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the error of a dead walsender may take to arrive. The walsender sent it before it
/// released the slot.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Lets standbys keep a copy of the slot, if the configuration asks for that and the slot does not
/// allow it yet. A slot on a standby cannot be altered and stays as it is.
pub(super) async fn failover(
    config: &Config,
    replication: &mut Replication,
    slot: Option<&SlotRow>,
    standby: bool,
) -> Result<(), PipelineError> {
    if !config.failover || standby || slot.is_none_or(|slot| slot.failover) {
        return Ok(());
    }
    replication.alter_to_failover(&config.slot).await?;
    tracing::info!(
        slot = config.slot,
        "altered the replication slot: standbys can keep a copy of it"
    );
    Ok(())
}

/// Checks that the server supports what the configuration asks for: changes of chosen origins, and
/// slots that survive a failover.
pub(super) fn origins(config: &Config, sql: &Sql) -> Result<(), PipelineError> {
    let version = sql.server_version();
    if config.failover && version < FAILOVER_SINCE {
        let major = version / 10_000;
        let detail = format!(
            "postgres.failover is true, which Postgres {major} does not know: 17 is the first"
        );
        let next = "leave postgres.failover out, or upgrade the server";
        return Err(PipelineError::Refused(Trouble::plain(
            TroubleReason::PostgresSettings,
            detail,
            next,
        )));
    }
    if config.origins == Origins::Any || version >= Origins::SINCE {
        return Ok(());
    }
    let detail = format!(
        "postgres.origin is \"none\", which Postgres {} does not know: 16 is the first",
        version / 10_000
    );
    let next = "leave postgres.origin out, or upgrade the server";
    Err(PipelineError::Refused(Trouble::plain(TroubleReason::PostgresSettings, detail, next)))
}

/// Makes the warning about selected tables that the publication leaves out by EXCEPT. `None` if
/// there are none.
pub(super) fn excepts(config: &Config, row: &PublicationRow) -> Option<String> {
    let names = publication::excepted_of(row, &config.selection);
    let list: Vec<String> = names.iter().map(TableName::to_string).collect();
    (!list.is_empty()).then(|| {
        format!(
            "publication `{}` leaves out {} by EXCEPT, so that their changes are not captured: \
             `wellspring check` prints the SQL, or put them into tables.exclude",
            config.publication,
            list.join(", ")
        )
    })
}

/// Reads the server's present transaction snapshot (`pg_current_snapshot`).
///
/// # Errors
/// The query fails, or its answer is no snapshot.
pub async fn visible_now(sql: &Sql) -> Result<PgSnapshot, PgError> {
    let rows = sql.query("SELECT pg_catalog.pg_current_snapshot()").await?;
    let text = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let unreadable =
        || PgError::Protocol { call: "read the server's snapshot", what: "no snapshot".to_owned() };
    text.and_then(|text| text.parse().ok()).ok_or_else(unreadable)
}

pub(super) async fn database(sql: &Sql) -> Result<(Oid, bool), PipelineError> {
    const ASK: &str =
        "SELECT oid, pg_is_in_recovery() FROM pg_database WHERE datname = current_database()";
    let rows = sql.query(ASK).await?;
    let cell = |i: usize| rows.first().and_then(|row| row.get(i)).and_then(Option::as_deref);
    let oid = cell(0).and_then(|text| text.parse().ok()).map(Oid);
    let oid = oid
        .ok_or(PgError::Protocol { call: "read the database's oid", what: "no row".to_owned() })?;
    Ok((oid, cell(1) == Some("t")))
}

/// Reads how far the server's WAL is on its disk. On a standby this is the larger of the received
/// and the replayed position.
///
/// The caller reads the state first. Otherwise another agent could write a checkpoint in between,
/// and its positions could lie above this position, as if the server had gone back.
pub(super) async fn flushed(sql: &Sql) -> Result<Lsn, PipelineError> {
    const ASK: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
        THEN GREATEST(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
        ELSE pg_catalog.pg_current_wal_flush_lsn() END";
    let rows = sql.query(ASK).await?;
    let text = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let unreadable =
        || PgError::Protocol { call: "read the server's position", what: "no position".to_owned() };
    Ok(text.and_then(|text| text.parse().ok()).ok_or_else(unreadable)?)
}

/// Reads at which position each earlier timeline ended, keyed by timeline. The answer is empty, and
/// the server is not asked, if there is no checkpoint or it is of the server's timeline.
pub(super) async fn history(
    replication: &mut Replication,
    timeline: u32,
    record: Option<&Checkpoint>,
) -> Result<BTreeMap<u32, Lsn>, PipelineError> {
    if record.is_none_or(|record| record.timeline == timeline) {
        return Ok(BTreeMap::new());
    }
    let switches = replication.timeline_history(timeline).await?;
    Ok(switches.into_iter().map(|switch| (switch.timeline, switch.switched_at)).collect())
}

/// Says who wrote the newest checkpoint: this process, or another one that stopped cleanly or not.
/// Without a checkpoint the answer is `Clean`. `run` is our own id.
pub(super) fn last_stop(record: Option<&Checkpoint>, run: &str) -> LastStop {
    match record {
        Some(record) if record.run == run => LastStop::Own,
        Some(record) if !record.clean => LastStop::Unclean,
        _ => LastStop::Clean,
    }
}

/// Reads publication and tables before continuity is judged. The next look compares with this one.
/// A change after the verdict is therefore found. `None` if the look failed: its error is not
/// returned, because the next look fails in the same way.
pub(super) async fn first_look(config: &Config, sql: &Sql) -> Option<Fingerprint> {
    watch::query(sql, &config.publication, |table| config.selection.matches(table), None).await.ok()
}

/// Fails if our walsender is a synchronous standby, because commits of the application would wait
/// for our confirmations.
pub(super) async fn asynchronous(
    config: &Config,
    sql: &Sql,
    pid: i32,
) -> Result<(), PipelineError> {
    let told = |what: &str| {
        let detail = format!("our walsender {pid} {what}: commits would wait for Kafka");
        let next = TroubleReason::SynchronousStandby.next();
        Err(PipelineError::Trouble(Trouble::plain(TroubleReason::SynchronousStandby, detail, next)))
    };
    match preflight::sync_state(sql, pid).await? {
        SyncState::Gone => Ok(()),
        // A role without pg_read_all_stats does not see the state of a walsender. Everybody may
        // read the setting synchronous_standby_names.
        SyncState::Hidden => {
            let rows = sql.query("SHOW synchronous_standby_names").await?;
            let names =
                rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or("");
            if preflight::names_standby(names, &config.postgres.application_name) {
                return told("is named in synchronous_standby_names");
            }
            Ok(())
        }
        SyncState::Known(state) if state == "async" => Ok(()),
        SyncState::Known(state) => told(&format!("is a synchronous standby ({state})")),
    }
}

/// Finds out why our walsender does not hold the slot, although the server has just started the
/// stream. Most likely the walsender has failed on what it decoded first, and its error is on the
/// way.
pub(super) async fn not_held(config: &Config, stream: &mut Stream, pid: i32) -> PipelineError {
    let last_words = async {
        loop {
            match stream.next_frame() {
                Err(error) => return error,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if let Err(error) = stream.fill().await {
                        return error;
                    }
                }
            }
        }
    };
    if let Ok(error) = tokio::time::timeout(LAST_WORDS, last_words).await {
        return error.into();
    }
    in_use(format!("slot `{}` is not held by our walsender {pid}", config.slot))
}

/// Makes the trouble about another session that holds the slot. If the holder is an agent of this
/// pipeline, we wait as its standby. Any other holder is named. An agent with another prefix may
/// hold a slot of this name. Our state then has neither a checkpoint nor an intent.
pub(super) async fn held(config: &Config, sql: &Sql, state: &State) -> PipelineError {
    let holder = match preflight::slot_holder(sql, &config.slot).await {
        Ok(Some(holder)) => holder,
        Ok(None) => return in_use(format!("slot `{}` was in use a moment ago", config.slot)),
        Err(error) => return error.into(),
    };
    let slot = &config.slot;
    let application = &config.postgres.application_name;
    if holder.application.as_ref() != Some(application) {
        let other = holder.application.as_deref().unwrap_or("another program");
        return in_use(format!("slot `{slot}` is held by {other}: {holder}"));
    }
    if state.record.is_none() && state.intent.is_none() {
        let other = "an agent of another pipeline (its state is not in our state topic)";
        return in_use(format!("{other} holds slot `{slot}`: {holder}"));
    }
    let detail = format!("another agent of this pipeline holds slot `{slot}`: {holder}");
    let reason = TroubleReason::Standby;
    PipelineError::Trouble(Trouble::plain(reason, detail, reason.next()))
}

/// Makes the trouble `SlotInUse`: another agent uses the slot, and the connect is tried again.
pub(in crate::agent) fn in_use(detail: String) -> PipelineError {
    PipelineError::Trouble(Trouble::plain(
        TroubleReason::SlotInUse,
        detail,
        TroubleReason::SlotInUse.next(),
    ))
}

pub(super) fn waiting(detail: String) -> PipelineError {
    PipelineError::Trouble(Trouble::plain(
        TroubleReason::StandbyBehind,
        detail,
        TroubleReason::StandbyBehind.next(),
    ))
}

/// Converts the publication's row into the form that `continuity` compares: its oid and its tables.
pub(super) fn view(row: &PublicationRow) -> PublicationView {
    PublicationView {
        oid: row.oid,
        tables: identities(row, &row.tables.iter().map(|t| t.name.clone()).collect::<Vec<_>>()),
    }
}

/// Lists the captured tables of the publication by name, each with its oid and the oid of its
/// membership in the publication.
pub(in crate::agent) fn identities(
    row: &PublicationRow,
    captured: &[TableName],
) -> BTreeMap<String, TableIdentity> {
    let tables = row.tables.iter().filter(|table| captured.contains(&table.name));
    tables
        .map(|table| {
            (
                table.name.to_string(),
                TableIdentity {
                    relation: table.relation,
                    membership: (table.membership != Oid(0)).then_some(table.membership),
                    since: None,
                },
            )
        })
        .collect()
}
