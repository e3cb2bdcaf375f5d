//! Connects: takes the steps of `docs/internals/continuity.md` in their order, up to a stream whose
//! slot is ours.
//!
//! An ordinary connection comes first, because a server that shuts down refuses it. This connection
//! stays open. Its end shows that the server may be shutting down, and it serves queries of the
//! catalog. This file asks, and `continuity` judges the answers.

mod beyond;
mod foresight;
mod published;
mod questions;
pub mod recorded;
mod warnings;

use self::questions::{
    asynchronous, database, failover, first_look, flushed, held, history, last_stop, not_held,
    origins, view, waiting,
};
pub(super) use self::questions::{identities, in_use, visible_now};
use self::recorded::begin_try;
use super::Config;
use super::begin::{Start, anew, first_start};
use super::identities;
use super::rehearse::{Captured, rehearse};
use super::supervise::PipelineError;
use crate::continuity::checkpoint::{Checkpoint, FORMAT, State, TableIdentity};
use crate::continuity::detached::Detached;
use crate::continuity::halted::{Author, Halted};
use crate::continuity::{Halt, Observed, Reason, SlotView, Trouble, Verdict, absent, judge};
use crate::core::Opened;
use crate::initial::FirstCopy;
use crate::lsn::{Lsn, Oid};
use crate::plans::keeper::Keeper;
use crate::postgres::publication::{self, PublicationRow};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::{Replication, Sql, StartOptions, Stream, SystemIdentity};
use crate::snapshot::Mode;
use crate::snapshot::visibility::PgSnapshot;
use crate::table::TableName;
use crate::watch::Fingerprint;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Replaces wal_sender_timeout if the server has it off. After this process was suspended for
/// longer than this, another process may hold the slot.
const FREEZE_WITHOUT_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that holds the slot and whose continuity is proven.
pub struct Connection {
    /// The ordinary connection. It serves catalog queries, and ends first at the server's shutdown.
    pub sql: Arc<Sql>,
    pub(crate) stream: Stream,
    pub(crate) opened: Opened,
    pub(crate) state: State,
    /// The server's answer to IDENTIFY_SYSTEM.
    pub server: SystemIdentity,
    pub(crate) captured: Vec<TableName>,
    pub(crate) slot: SlotRow,
    /// wal_sender_timeout, or 60 s where the server has it off.
    pub timeout: Duration,
    pub(crate) warnings: Vec<String>,
    /// The first copy that begins with this connection. `None` if no copy begins.
    pub copy: Option<FirstCopy>,
    /// The server's transaction snapshot, read after our walsender took the slot.
    pub snapshot: PgSnapshot,
    /// Topic, partition and end offset of each partition before anything was sent. Empty if no hold
    /// of another process is open, or if the stream begins at the slot's own position.
    pub ends: Vec<(String, i32, i64)>,
    /// The recorded halt that this connection tries to get past. `None` if there is no try.
    pub trial: Option<Halted>,
    /// The look from before continuity was judged. `None` if the look failed.
    pub watched: Option<Fingerprint>,
}

/// The facts about the process that a connect needs.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Whether this process has not streamed yet.
    pub first: bool,
    /// The consistent point of the first copy under way, if its snapshot is still held.
    pub copying_at: Option<Lsn>,
    /// Whether late records were found: the stream is read again from the slot's own position.
    pub rewind: bool,
    /// The last stream failed at WAL after this position, because the publication did not exist
    /// when that WAL was written. The next connect judges this failure.
    pub absent_from: Option<Lsn>,
    /// The last epoch of this process, and the position up to which it has sent changes.
    pub sent: (u64, Lsn),
    /// The id of the process, as its checkpoints name it.
    pub run: String,
}

/// Connects and proves continuity. Fails on a recorded halt that still stops the stream, and
/// records a halt that it finds.
///
/// # Errors
/// `supervise` says what each failure means. Nothing was created, except at a first start, or if
/// `snapshot.mode` consents to begin again.
pub async fn open(
    config: &Config,
    keeper: &Keeper,
    troubles: &mpsc::Sender<Option<Trouble>>,
    carried: Carried,
    author: &Author,
) -> Result<Connection, PipelineError> {
    match prove(config, keeper, troubles, carried, author).await {
        Err(PipelineError::Halt(halt)) => Err(recorded::record(config, keeper, author, halt).await),
        found => found,
    }
}

async fn prove(
    config: &Config,
    keeper: &Keeper,
    troubles: &mpsc::Sender<Option<Trouble>>,
    carried: Carried,
    author: &Author,
) -> Result<Connection, PipelineError> {
    let sql = Sql::connect(&config.postgres).await?;
    origins(config, &sql)?;
    if carried.first {
        identities::set(config, &sql).await?;
    }
    let watched = first_look(config, &sql).await;
    let mut replication = Replication::connect(&config.postgres).await?;
    let mut server = replication.identify_system().await?;
    let mut seen = ServerState::new(config, &sql, &mut replication, &server, keeper).await?;
    seen.carry(&carried);
    // A replica that waits for the slot learns of a halt here, without taking the slot.
    recorded::respect(config, author, &seen.state).await?;
    let (mut warnings, mut copy, mut looked_again) = (Vec::new(), None, false);
    rehearse(&config.encode, &sql, seen.published()).await?;
    loop {
        // Another replica that holds the slot may move the slot between our readings of state and
        // slot, or may be making the copy that looks cut off. Until that replica lets the slot go,
        // there is nothing to judge. A second reading shows whether the replica let go, or the
        // server was promoted, in between.
        let next = seen.next(config, &carried, copy.is_some());
        if matches!(next, Next::Halt(_) | Next::Anew(_)) {
            if seen.holder(&next).is_some() {
                return Err(held(config, &sql, &seen.state).await);
            }
            if !std::mem::replace(&mut looked_again, true) {
                server = replication.identify_system().await?;
                seen = ServerState::new(config, &sql, &mut replication, &server, keeper).await?;
                seen.carry(&carried);
                continue;
            }
        }
        let mut start =
            Start { config, sql: &sql, replication: &mut replication, keeper, troubles };
        match next {
            Next::Start => break,
            Next::FirstStart => copy = first_start(&mut start, &seen).await?,
            Next::Anew(reason) => copy = anew(&mut start, &server, reason, seen).await?,
            Next::Wait(detail) => return Err(waiting(detail)),
            Next::Halt(halt) => return Err(PipelineError::Halt(halt)),
        }
        seen = ServerState::new(config, &sql, &mut replication, &server, keeper).await?;
        seen.carry(&carried);
    }
    failover(config, &mut replication, seen.slot.as_ref(), seen.observed.standby).await?;
    let timeout = replication.wal_sender_timeout().await?.unwrap_or(FREEZE_WITHOUT_TIMEOUT);
    let beyond = seen.beyond(config, keeper, &carried).await?;
    let options = StartOptions {
        slot: config.slot.clone(),
        publication: config.publication.clone(),
        messages: true,
        origins: config.origins,
        from: beyond.as_ref().map_or(Lsn::ZERO, |decided| decided.beyond.asked()),
    };
    let pid = replication.backend_pid();
    let mut stream = match replication.start(&options).await {
        Err(error) if error.is_slot_in_use() => return Err(held(config, &sql, &seen.state).await),
        started => started?,
    };
    // From here on our walsender holds the slot, so that no other agent changes state or slot.
    // State and row of the slot are read again.
    let entries = keeper.read().await?;
    seen.state = State::read(&config.slot, &entries)?;
    seen.carry(&carried);
    seen.read_positions(config, &sql).await?;
    if seen.slot.as_ref().and_then(|row| row.active_pid) != Some(pid) {
        return Err(not_held(config, &mut stream, pid).await);
    }
    let passed = recorded::respect(config, author, &seen.state).await?;
    let mut resume = match seen.judge() {
        Verdict::Resume(resume) | Verdict::Created(resume) => resume,
        // The slot has vanished. The next connect reads again.
        Verdict::FirstStart => return Err(PipelineError::Goodbye),
        Verdict::Wait(detail) => return Err(waiting(detail)),
        Verdict::Halt(halt) => return Err(PipelineError::Halt(halt)),
    };
    if let Some(decided) = &beyond {
        // A decision from before the slot was ours is right only if nobody has held the slot since.
        if seen.state.record.as_ref().map(|record| record.term) != Some(decided.term) {
            return Err(in_use(format!("another agent used slot `{}` a moment ago", config.slot)));
        }
        decided.beyond.apply(&mut resume);
    }
    asynchronous(config, &sql, pid).await?;
    let snapshot = visible_now(&sql).await?;
    warnings.extend(
        sql.warnings().iter().map(|warning| format!("the server warns at the login: {warning}")),
    );
    warnings.extend(warnings::of(config, &sql, &seen).await?);
    let last_stop = last_stop(seen.state.record.as_ref(), &carried.run);
    let record = seen.record(config, resume.from, resume.expect.is_none());
    let captured = seen.captured.clone();
    let (Some(slot), mut state) = (seen.slot, seen.state) else {
        return Err(PipelineError::Goodbye);
    };
    let slot_confirmed = slot.confirmed();
    let trial = begin_try(config, keeper, &mut state, passed).await?;
    Ok(Connection {
        sql: Arc::new(sql),
        stream,
        opened: Opened {
            resume,
            slot_confirmed,
            record,
            last_stop,
            unix_ms: unix_ms(),
            ends: Vec::new(),
        },
        ends: beyond.map_or_else(Vec::new, |decided| decided.ends),
        state,
        server,
        captured,
        slot,
        timeout,
        warnings,
        copy,
        snapshot,
        trial,
        watched,
    })
}

/// The wall clock in milliseconds. The holds of a checkpoint have times of this clock, because
/// another process may read them.
fn unix_ms() -> i64 {
    super::runner::unix_nanos() / 1_000_000
}

enum Next {
    Start,
    FirstStart,
    /// The pipeline begins again with a new slot, as `snapshot.mode` allows. The text is the
    /// reason.
    Anew(&'static str),
    Wait(String),
    Halt(Halt),
}

/// One reading of the state and the server, by which continuity is judged.
pub struct ServerState {
    pub(crate) state: State,
    observed: Observed,
    slot: Option<SlotRow>,
    publication: Option<PublicationRow>,
    captured: Vec<TableName>,
}

impl ServerState {
    /// Reads everything by which continuity is judged.
    ///
    /// # Errors
    /// A connection or the state fails.
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
        let published = publication.as_ref().map_or(&[][..], |row| row.tables.as_slice());
        let captured: Vec<TableName> = published
            .iter()
            .map(|table| table.name.clone())
            .filter(|name| config.selection.matches(name))
            .collect();
        let mut names: Vec<String> = captured.iter().map(TableName::to_string).collect();
        if let Some(record) = &state.record {
            // The names also include the selected tables of the checkpoint. If the publication
            // lacks one of these tables, this is a gap.
            let selected = |name: &&String| {
                name.split_once('.').is_some_and(|(space, name)| {
                    config.selection.matches(&TableName::new(space, name))
                })
            };
            names.extend(record.tables.keys().filter(selected).cloned());
        }
        let (database, standby) = database(sql).await?;
        let history = history(replication, server.timeline, state.record.as_ref()).await?;
        let published = published::upto(config, &state, sql, &history).await?;
        let mut seen = ServerState {
            state,
            observed: Observed {
                system_id: server.system_id.to_string(),
                timeline: server.timeline,
                history,
                server: Lsn::ZERO,
                standby,
                database,
                slot: None,
                publication: publication.as_ref().map(view),
                captured: names,
                published,
            },
            slot: None,
            publication,
            captured,
        };
        seen.read_positions(config, sql).await?;
        Ok(seen)
    }

    /// Lists the captured tables, without those whose changes go to the quarantine topic.
    fn published(&self) -> impl Iterator<Item = Captured<'_>> {
        let tables = self.publication.iter().flat_map(|row| &row.tables);
        let is_quarantined = |name: &TableName| {
            self.state.detached.get(&name.to_string()).is_some_and(Detached::is_quarantined)
        };
        let captured = tables.filter(move |table| {
            self.captured.contains(&table.name) && !is_quarantined(&table.name)
        });
        captured.map(|table| Captured {
            relation: table.relation,
            name: &table.name,
            identity: table.identity,
        })
    }

    /// Raises the sent position of the checkpoint in memory to the position up to which this
    /// process has sent changes in the same epoch. The checkpoint can be older than that.
    fn carry(&mut self, carried: &Carried) {
        if let Some(record) = &mut self.state.record {
            record.carry_sent(carried.sent);
        }
    }

    /// Reads the server's WAL position and the slot's row. The caller has read the state before.
    async fn read_positions(&mut self, config: &Config, sql: &Sql) -> Result<(), PipelineError> {
        self.observed.server = flushed(sql).await?;
        self.slot = slot::read(sql, &config.slot).await?;
        self.observed.slot = self.slot.as_ref().map(|row| SlotView {
            confirmed: row.confirmed_flush_lsn,
            lost: row.invalidation.clone(),
            ours: row.plugin.as_deref() == Some("pgoutput")
                && row.database_oid == Some(self.observed.database),
            two_phase: row.two_phase,
        });
        Ok(())
    }

    #[must_use]
    pub(crate) fn judge(&self) -> Verdict {
        judge(self.state.record.as_ref(), self.state.intent.is_some(), &self.observed)
    }

    /// Decides the connect's next step by verdict and mode. `begun`: this connect has begun a copy.
    fn next(&self, config: &Config, carried: &Carried, begun: bool) -> Next {
        let mode = config.snapshot.mode;
        let consents = matches!(mode, Mode::Always | Mode::WhenNeeded) && !begun;
        match self.judge() {
            Verdict::FirstStart => Next::FirstStart,
            Verdict::Wait(detail) => Next::Wait(detail),
            Verdict::Halt(halt) if consents && halt.reason.is_lost_position() => {
                Next::Anew(halt.reason.code())
            }
            Verdict::Halt(halt) => Next::Halt(halt),
            Verdict::Resume(_) if let Some(from) = carried.absent_from => {
                Next::Halt(absent(&config.publication, from, &self.observed))
            }
            Verdict::Resume(_) | Verdict::Created(_) if begun => Next::Start,
            verdict @ (Verdict::Resume(_) | Verdict::Created(_)) => {
                let confirmed = self.slot.as_ref().and_then(|slot| slot.confirmed_flush_lsn);
                let kept = carried.copying_at.is_some() && carried.copying_at == confirmed;
                let created = matches!(verdict, Verdict::Created(_));
                match self.unfinished(created) {
                    _ if mode == Mode::Always && carried.first => Next::Anew("always"),
                    Some(_) if kept => Next::Start,
                    Some(_) if consents => Next::Anew(Reason::CopyUnfinished.code()),
                    Some(halt) if mode == Mode::InitialOnly => Next::Halt(halt),
                    _ => Next::Start, // A backfill copies the owed tables.
                }
            }
        }
    }

    /// Makes the halt that applies if the snapshot of an incomplete first copy is gone. `None` if
    /// no first copy is incomplete.
    fn unfinished(&self, created: bool) -> Option<Halt> {
        let owed = self.state.copy.owed();
        let detail = match (&self.state.copy.planned, &self.state.intent) {
            (Some(planned), _) if !owed.is_empty() => {
                let done = planned.tables.len() - owed.len();
                format!(
                    "the first copy was cut off: {done} of {} tables are copied, not {}",
                    planned.tables.len(),
                    owed.join(", ")
                )
            }
            (None, Some(intent)) if created && intent.copies => {
                "the first copy was cut off before its first row".to_owned()
            }
            _ => return None,
        };
        Some(Halt::new(Reason::CopyUnfinished, detail))
    }

    /// Returns the pid of the walsender that holds the slot. `None` if there is none, or if `next`
    /// is a halt that no holder causes: the slot, the cluster or the database is another one.
    fn holder(&self, next: &Next) -> Option<i32> {
        let is_other = matches!(next, Next::Halt(halt) if halt.reason.is_other());
        self.slot.as_ref().and_then(|slot| slot.active_pid).filter(|_| !is_other)
    }

    #[must_use]
    pub(crate) fn slot(&self) -> Option<&SlotRow> {
        self.slot.as_ref()
    }

    #[must_use]
    pub(crate) fn publication(&self) -> Option<&PublicationRow> {
        self.publication.as_ref()
    }

    /// The captured tables that are published.
    pub(crate) fn captured(&self) -> &[TableName] {
        &self.captured
    }

    /// How far the server's WAL is on its disk. On a standby, the larger of the received and the
    /// replayed position.
    #[must_use]
    pub fn server(&self) -> Lsn {
        self.observed.server
    }

    /// Makes the checkpoint of the next term: the newest one with the present facts of server and
    /// publication. Without one, the new checkpoint confirms up to `from`. `proven` is false while
    /// the replay still has to prove the server's history.
    #[must_use]
    pub fn record(&self, config: &Config, from: Lsn, proven: bool) -> Checkpoint {
        let seen = &self.observed;
        let publication = self.publication.as_ref().map_or(Oid(0), |row| row.oid);
        let row = self.publication.as_ref();
        let mut tables = row.map_or_else(BTreeMap::new, |row| identities(row, &self.captured));
        if let Some(was) = &self.state.record {
            TableIdentity::joined(&mut tables, &was.tables, (was.confirmed, seen.server));
        }
        let fresh = Checkpoint {
            format: FORMAT,
            slot: config.slot.clone(),
            term: 0,
            epoch: 1,
            system_id: String::new(),
            timeline: 0,
            database: seen.database,
            publication,
            tables: BTreeMap::new(),
            named_from: None,
            confirmed: from,
            sent: from,
            last_commit: None,
            server_seen: Lsn::ZERO,
            pending_xids: Vec::new(),
            pending_upto: None,
            sequence: None,
            clean: false,
            accepted: Vec::new(),
            delivered: from,
            delivered_commit: None,
            holds: Vec::new(),
            foreign: false,
            run: String::new(),
        };
        let was = self.state.record.clone().unwrap_or(fresh);
        Checkpoint {
            term: was.term + 1,
            system_id: seen.system_id.clone(),
            timeline: seen.timeline,
            database: seen.database,
            publication,
            tables,
            named_from: was.named_from.or(Some(seen.server)),
            server_seen: was.server_seen_at(seen.timeline, seen.server, proven),
            clean: false,
            ..was
        }
    }
}
