//! Connecting: the steps of continuity.md §3 in their order, from nothing to a stream whose slot is ours.
//!
//! An ordinary connection comes first: it is refused while a server shuts down, so it holds no shutdown up; it stays as
//! the sentinel and serves the catalog. Judging is `continuity`'s; here is only the asking.

use super::Config;
use super::continuity::{Observed, PublicationView, SlotView, Verdict, judge};
use super::core::Opened;
use super::keeper::Keeper;
use super::record::{FORMAT, Record, State, TableIdentity};
use super::supervise::{PipelineError, Trouble, TroubleReason};
use crate::lsn::{Lsn, Oid};
use crate::postgres::preflight::{self, SyncState};
use crate::postgres::publication::{self, PublicationRow};
use crate::postgres::slot::{self, Blocker, SlotRow};
use crate::postgres::{PgError, Replication, Sql, StartOptions, Stream, SystemIdentity};
use crate::table::TableName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long CREATE_REPLICATION_SLOT may wait for writing transactions before it says which and is tried again.
const SLOT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// After this the status tells which transactions a new slot waits for.
const SLOT_PATIENCE: Duration = Duration::from_secs(3);

/// CREATE PUBLICATION locks its tables for a moment; behind a long transaction it gives up instead of queueing others.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a dead walsender's error may take to arrive: it was sent before the slot was let go.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// wal_sender_timeout where the server has it off: how long we may pause before the slot may be another's.
const FREEZE_WITHOUT_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection whose slot is ours and whose continuity is proven.
pub struct Connection {
    /// Sentinel and catalog.
    pub sql: Arc<Sql>,
    /// The stream, not read yet.
    pub stream: Stream,
    /// For the core.
    pub opened: Opened,
    /// Everything the state held.
    pub state: State,
    /// The server's own words.
    pub server: SystemIdentity,
    /// Captured tables that are published.
    pub captured: Vec<TableName>,
    /// The slot's row.
    pub slot: SlotRow,
    /// wal_sender_timeout, or what stands for it.
    pub timeout: Duration,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// Connects and proves continuity.
///
/// # Errors
/// As `supervise` sorts them; nothing was created unless this is a first start.
pub async fn open(
    config: &Config,
    keeper: &Keeper,
    troubles: &mpsc::Sender<Option<Trouble>>,
) -> Result<Connection, PipelineError> {
    let sql = Sql::connect(&config.postgres).await?;
    let mut replication = Replication::connect(&config.postgres).await?;
    let server = replication.identify_system().await?;
    let mut seen = Seen::new(config, &sql, &mut replication, &server, keeper).await?;
    let mut warnings = Vec::new();
    loop {
        match seen.judge() {
            Verdict::Resume(_) | Verdict::Created(_) => break,
            Verdict::FirstStart => {
                first_start(config, &sql, &mut replication, keeper, &seen, troubles).await?;
                seen = Seen::new(config, &sql, &mut replication, &server, keeper).await?;
            }
            Verdict::Wait(detail) => return Err(waiting(detail)),
            Verdict::Halt(halt) => return Err(PipelineError::Halt(halt)),
        }
    }
    let timeout = replication.wal_sender_timeout().await?.unwrap_or(FREEZE_WITHOUT_TIMEOUT);
    let options = StartOptions { slot: config.slot.clone(), publication: config.publication.clone(), messages: true };
    let pid = replication.backend_pid();
    let mut stream = replication.start(&options).await?;
    // The slot is locked from here: what the state says now is final, and the row is looked at again.
    let entries = keeper.read().await?;
    seen.state = State::read(&config.slot, &entries)?;
    seen.read_slot(config, &sql).await?;
    if seen.slot.as_ref().and_then(|row| row.active_pid) != Some(pid) {
        return Err(not_held(config, &mut stream, pid).await);
    }
    let resume = match seen.judge() {
        Verdict::Resume(resume) | Verdict::Created(resume) => resume,
        Verdict::FirstStart => return Err(PipelineError::Goodbye), // the slot vanished under us: look again
        Verdict::Wait(detail) => return Err(waiting(detail)),
        Verdict::Halt(halt) => return Err(PipelineError::Halt(halt)),
    };
    asynchronous(config, &sql, pid).await?;
    seen.warn(config, &mut warnings);
    let clean = seen.state.record.as_ref().is_none_or(|record| record.clean);
    let record = seen.record(config, resume.from);
    let captured = seen.captured.clone();
    let (Some(slot), state) = (seen.slot, seen.state) else { return Err(PipelineError::Goodbye) };
    Ok(Connection {
        sql: Arc::new(sql),
        stream,
        opened: Opened { resume, record, clean },
        state,
        server,
        captured,
        slot,
        timeout,
        warnings,
    })
}

/// Why a slot just started is not ours: most likely the walsender has died of what it decoded first, and says so.
async fn not_held(config: &Config, stream: &mut Stream, pid: i32) -> PipelineError {
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
    let detail = format!("slot `{}` is not held by our walsender {pid}", config.slot);
    PipelineError::Trouble(Trouble::plain(TroubleReason::SlotInUse, detail, TroubleReason::SlotInUse.next()))
}

fn waiting(detail: String) -> PipelineError {
    PipelineError::Trouble(Trouble::plain(TroubleReason::StandbyBehind, detail, TroubleReason::StandbyBehind.next()))
}

/// What one look at server and state shows.
pub struct Seen {
    /// The state.
    pub state: State,
    observed: Observed,
    slot: Option<SlotRow>,
    publication: Option<PublicationRow>,
    captured: Vec<TableName>,
}

impl Seen {
    /// Looks at everything that continuity is judged by.
    ///
    /// # Errors
    /// Of the connections and the state.
    pub async fn new(
        config: &Config,
        sql: &Sql,
        replication: &mut Replication,
        server: &SystemIdentity,
        keeper: &Keeper,
    ) -> Result<Self, PipelineError> {
        let entries = keeper.read().await?;
        let state = State::read(&config.slot, &entries)?;
        let publication = publication::read(sql, &config.publication).await?;
        let published = publication.as_ref().map(|row| row.tables.as_slice()).unwrap_or_default();
        let captured: Vec<TableName> =
            published.iter().map(|table| table.name.clone()).filter(|name| config.selection.matches(name)).collect();
        let mut names: Vec<String> = captured.iter().map(TableName::to_string).collect();
        if let Some(record) = &state.record {
            // A table that is captured by the configuration and gone from the publication is a gap, not a choice.
            let selected = |name: &&String| {
                name.split_once('.').is_some_and(|(space, name)| config.selection.matches(&TableName::new(space, name)))
            };
            names.extend(record.tables.keys().filter(selected).cloned());
        }
        let (database, standby) = database(sql).await?;
        let history = history(replication, server.timeline, state.record.as_ref()).await?;
        let mut seen = Seen {
            state,
            observed: Observed {
                system_id: server.system_id.to_string(),
                timeline: server.timeline,
                history,
                server: server.flushed,
                standby,
                database,
                slot: None,
                publication: publication.as_ref().map(view),
                captured: names,
            },
            slot: None,
            publication,
            captured,
        };
        seen.read_slot(config, sql).await?;
        Ok(seen)
    }

    async fn read_slot(&mut self, config: &Config, sql: &Sql) -> Result<(), PipelineError> {
        self.slot = slot::read(sql, &config.slot).await?;
        self.observed.slot = self.slot.as_ref().map(|row| SlotView {
            confirmed: row.confirmed_flush_lsn,
            lost: row.invalidation.clone(),
            ours: row.plugin.as_deref() == Some("pgoutput") && row.database_oid == Some(self.observed.database),
        });
        Ok(())
    }

    /// Holds state and server against each other.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        judge(self.state.record.as_ref(), self.state.intent, &self.observed)
    }

    /// The slot's row, if there is a slot.
    #[must_use]
    pub fn slot(&self) -> Option<&SlotRow> {
        self.slot.as_ref()
    }

    /// Whether the publication exists.
    #[must_use]
    pub fn has_publication(&self) -> bool {
        self.publication.is_some()
    }

    /// The server's own position.
    #[must_use]
    pub fn server(&self) -> Lsn {
        self.observed.server
    }

    /// The record of the next term: what was, brought up to what is. A first one confirms up to `from`.
    #[must_use]
    pub fn record(&self, config: &Config, from: Lsn) -> Record {
        let seen = &self.observed;
        let publication = self.publication.as_ref().map(|row| row.oid).unwrap_or_default();
        let tables = self.publication.as_ref().map(|row| identities(row, &self.captured)).unwrap_or_default();
        let fresh = Record {
            format: FORMAT,
            slot: config.slot.clone(),
            term: 0,
            epoch: 1,
            system_id: String::new(),
            timeline: 0,
            database: seen.database,
            publication,
            tables: BTreeMap::new(),
            confirmed: from,
            sent: from,
            last_commit: None,
            server_seen: Lsn::ZERO,
            pending_xids: Vec::new(),
            pending_upto: None,
            sequence: None,
            clean: false,
            accepted: Vec::new(),
        };
        let was = self.state.record.clone().unwrap_or(fresh);
        Record {
            term: was.term + 1,
            system_id: seen.system_id.clone(),
            timeline: seen.timeline,
            database: seen.database,
            publication,
            tables,
            // A timeline's positions mean nothing on another one's branch.
            server_seen: if was.timeline == seen.timeline { was.server_seen.max(seen.server) } else { seen.server },
            clean: false,
            ..was
        }
    }

    fn warn(&self, config: &Config, warnings: &mut Vec<String>) {
        if let Some(weak) = config.postgres.weakness() {
            warnings.push(weak.to_owned());
        }
        if self.publication.as_ref().is_some_and(|publication| publication.all_tables) {
            warnings.push(format!(
                "publication `{}` is FOR ALL TABLES: a table's absence cannot be noticed",
                config.publication
            ));
        }
        for pattern in config.selection.unmatched(&self.captured) {
            warnings
                .push(format!("tables.include `{pattern}` matches no table of publication `{}`", config.publication));
        }
    }
}

fn view(row: &PublicationRow) -> PublicationView {
    PublicationView {
        oid: row.oid,
        tables: identities(row, &row.tables.iter().map(|t| t.name.clone()).collect::<Vec<_>>()),
    }
}

fn identities(row: &PublicationRow, captured: &[TableName]) -> BTreeMap<String, TableIdentity> {
    let tables = row.tables.iter().filter(|table| captured.contains(&table.name));
    tables
        .map(|table| {
            (
                table.name.to_string(),
                TableIdentity {
                    relation: table.relation,
                    membership: (table.membership != Oid(0)).then_some(table.membership),
                },
            )
        })
        .collect()
}

async fn database(sql: &Sql) -> Result<(Oid, bool), PipelineError> {
    const ASK: &str = "SELECT oid, pg_is_in_recovery() FROM pg_database WHERE datname = current_database()";
    let rows = sql.query(ASK).await?;
    let cell = |i: usize| rows.first().and_then(|row| row.get(i)).and_then(Option::as_deref);
    let oid = cell(0).and_then(|text| text.parse().ok()).map(Oid);
    let oid = oid.ok_or(PgError::Protocol { call: "read the database's oid", what: "no row".to_owned() })?;
    Ok((oid, cell(1) == Some("t")))
}

/// The switch points before the server's timeline, asked only where the record is of another one.
async fn history(
    replication: &mut Replication,
    timeline: u32,
    record: Option<&Record>,
) -> Result<BTreeMap<u32, Lsn>, PipelineError> {
    if record.is_none_or(|record| record.timeline == timeline) {
        return Ok(BTreeMap::new());
    }
    let switches = replication.timeline_history(timeline).await?;
    Ok(switches.into_iter().map(|switch| (switch.timeline, switch.switched_at)).collect())
}

/// A synchronous standby's confirmations hold the application's commits up: we must not be one.
async fn asynchronous(config: &Config, sql: &Sql, pid: i32) -> Result<(), PipelineError> {
    let told = |what: &str| {
        let detail = format!("our walsender {pid} {what}: commits would wait for Kafka");
        let next = TroubleReason::SynchronousStandby.next();
        Err(PipelineError::Trouble(Trouble::plain(TroubleReason::SynchronousStandby, detail, next)))
    };
    match preflight::sync_state(sql, pid).await? {
        SyncState::Gone => Ok(()),
        // A role without pg_read_all_stats does not see it; the setting is there for everybody.
        SyncState::Hidden => {
            let rows = sql.query("SHOW synchronous_standby_names").await?;
            let names = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or_default();
            if preflight::names_standby(names, &config.postgres.application_name) {
                return told("is named in synchronous_standby_names");
            }
            Ok(())
        }
        SyncState::Known(state) if state == "async" => Ok(()),
        SyncState::Known(state) => told(&format!("is a synchronous standby ({state})")),
    }
}

/// The only place that creates anything in Postgres unasked: publication first, then the intent, then the slot.
async fn first_start(
    config: &Config,
    sql: &Sql,
    replication: &mut Replication,
    keeper: &Keeper,
    seen: &Seen,
    troubles: &mpsc::Sender<Option<Trouble>>,
) -> Result<(), PipelineError> {
    let level = preflight::facts(sql).await?.wal_level;
    if level != "logical" {
        let detail = format!("wal_level is {level}");
        let next = "ALTER SYSTEM SET wal_level = 'logical'; then restart the server";
        return Err(PipelineError::Refused(Trouble::plain(TroubleReason::PostgresSettings, detail, next)));
    }
    if seen.publication.is_none() {
        create_publication(config, sql).await?;
    }
    keeper.write(&Record::intent_key(&config.slot), Some("{\"format\":1}".to_owned())).await?;
    let created = create_slot(config, sql, replication);
    let waited = async {
        tokio::time::sleep(SLOT_PATIENCE).await;
        if let Ok(trouble) = waits_for(config, sql).await {
            let _ = troubles.send(Some(trouble)).await; // nobody to tell: the agent is stopping
        }
        std::future::pending().await
    };
    tokio::select! {
        biased; // the slot, then what is said while it is waited for
        created = created => created,
        () = waited => Ok(()),
    }
}

/// Which transactions a slot being created waits for.
async fn waits_for(config: &Config, sql: &Sql) -> Result<Trouble, PipelineError> {
    let blockers = slot::blockers(sql).await?;
    let list: Vec<String> = blockers.iter().map(blocker).collect();
    let detail = format!("creating slot `{}` waits for writing transactions: {}", config.slot, list.join("; "));
    let next = "end these transactions, or wait; it is tried again by itself";
    Ok(Trouble::plain(TroubleReason::SlotWaits, detail, next))
}

/// Creates the slot; a wait for writing transactions ends with their list.
///
/// # Errors
/// As the server refuses it.
pub async fn create_slot(config: &Config, sql: &Sql, replication: &mut Replication) -> Result<(), PipelineError> {
    let created = replication.create_slot(&config.slot, SLOT_LOCK_TIMEOUT).await;
    match created {
        Ok(slot) => {
            tracing::info!(slot = config.slot, consistent_point = %slot.consistent_point, "created the replication slot");
            Ok(())
        }
        Err(error) if matches!(error.sqlstate(), Some("55P03" | "57014")) => {
            Err(PipelineError::Trouble(waits_for(config, sql).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates the publication for exactly the configured tables, or says who has to run which SQL.
async fn create_publication(config: &Config, sql: &Sql) -> Result<(), PipelineError> {
    let trouble = |detail: String, next: &str| {
        PipelineError::Trouble(Trouble::plain(TroubleReason::PublicationIncomplete, detail, next))
    };
    let candidates = publication::candidates(sql).await?;
    let chosen: Vec<_> =
        candidates.iter().filter(|table| table.logged && config.selection.matches(&table.name)).collect();
    let roots: Vec<_> = chosen.iter().filter(|table| !table.is_partition).collect();
    if roots.is_empty() {
        return Err(trouble("tables.include matches no table of this database".to_owned(), "correct tables.include"));
    }
    if let Some(harmed) = roots.iter().find(|table| table.update_fails()) {
        let detail = format!(
            "publishing {} would make the application's UPDATE and DELETE fail: no replica identity",
            harmed.name
        );
        return Err(trouble(detail, &harmed.fixes.join(" ")));
    }
    let names: Vec<TableName> = roots.iter().map(|table| table.name.clone()).collect();
    let statement = publication::create_sql(&config.publication, &names);
    if !config.create_publication {
        let detail =
            format!("publication `{}` does not exist, and postgres.create_publication is off", config.publication);
        return Err(trouble(detail, &statement));
    }
    match publication::create(sql, &config.publication, &names, LOCK_TIMEOUT).await {
        Ok(()) => {
            tracing::info!(publication = config.publication, tables = names.len(), "created the publication");
            Ok(())
        }
        Err(error) if error.sqlstate() == Some("42501") => {
            let detail = format!("the role may not create publication `{}`: {error}", config.publication);
            Err(trouble(detail, &statement))
        }
        Err(error) => Err(error.into()),
    }
}

/// One line about a transaction that a new slot waits for.
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
