//! The commands of an operator about the slot: show, create, drop, try again, and accept a gap.
//!
//! Nothing is changed without a command, and the checkpoint lists the gaps that were accepted. A
//! halted agent reads the new checkpoint within seconds.

use super::Config;
use super::begin::create_slot;
use super::open::{ServerState, recorded};
use super::supervise::PipelineError;
use crate::continuity::checkpoint::{Accepted, Checkpoint, State, Window};
use crate::continuity::halted::{Author, Halted};
use crate::continuity::{By, Foresight, Halt, LsnRange, Proof, Reason, Verdict};
use crate::kafka::KafkaError;
use crate::lsn::Lsn;
use crate::plans::keeper::{Keeper, KeeperError};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::{PgError, Replication, Sql};
use crate::snapshot::window::Journal;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum ConsentError {
    /// Postgres, Kafka, the registry or the state failed, or there is a halt that no consent ends.
    #[error(transparent)]
    Pipeline(Box<PipelineError>),
    /// The state could not be opened in Kafka.
    #[error("open the state")]
    State(#[from] KafkaError),
    /// Another process holds the slot; `pid` is its walsender.
    #[error("slot `{slot}` is in use by pid {pid}: stop that agent first")]
    InUse { slot: String, pid: i32 },
    /// The slot that should be created exists already.
    #[error("slot `{slot}` exists already; `wellspring slot status` shows it")]
    Exists { slot: String },
    /// The state has a checkpoint of this slot. A new slot would leave out the changes after this
    /// checkpoint.
    #[error("slot `{slot}` has a record up to {confirmed}: a new slot loses what came after it")]
    Recorded { slot: String, confirmed: Lsn },
    /// There is no such slot.
    #[error("slot `{slot}` does not exist")]
    Missing { slot: String },
    /// The publication does not exist, and a slot must not be older than its publication.
    #[error(
        "publication `{publication}` does not exist: it has to be there before the slot, or \
         changes in between fail"
    )]
    NoPublication { publication: String },
    /// A pipeline of Debezium cannot be taken over as it is. `next` tells the operator what to do.
    #[error("{why}")]
    NotAdopted { why: String, next: String },
    /// A halt is recorded that consent to a gap does not end.
    #[error("`{}` is not ended by `wellspring slot accept`", reason.code())]
    NotAccepted { reason: Reason, next: String },
    /// A halt is recorded that one more try cannot end.
    #[error("`{}` is not ended by another try", reason.code())]
    NotRetried { reason: Reason, next: String },
    /// The gap that was found is not within the range of the command.
    #[error(
        "the gap from {} to {} is not within the range of --from and --to: see `wellspring slot \
         status`", found.from, found.to
    )]
    OtherRange { found: LsnRange },
}

impl ConsentError {
    /// True if the state could not be opened, read or written.
    #[must_use]
    pub fn is_of_state(&self) -> bool {
        match self {
            ConsentError::State(_) => true,
            ConsentError::Pipeline(error) => {
                matches!(**error, PipelineError::Kafka(_) | PipelineError::State(_))
            }
            _ => false,
        }
    }
}

impl From<PipelineError> for ConsentError {
    fn from(error: PipelineError) -> Self {
        ConsentError::Pipeline(Box::new(error))
    }
}

impl From<PgError> for ConsentError {
    fn from(error: PgError) -> Self {
        PipelineError::from(error).into()
    }
}

impl From<KeeperError> for ConsentError {
    fn from(error: KeeperError) -> Self {
        PipelineError::from(error).into()
    }
}

/// The slot and the state, as `slot status` shows them.
#[derive(Debug)]
pub struct SlotStatus {
    /// The row of the slot. `None` if there is no slot.
    pub slot: Option<SlotRow>,
    /// The newest checkpoint. `None` if there is none yet.
    pub record: Option<Checkpoint>,
    /// What a start would do now.
    pub foresight: Foresight,
    /// The recorded halt. `None` if there is none, or a consent has ended it since.
    pub halt: Option<Halted>,
    /// Tables whose first copy is not complete.
    pub owed: Vec<String>,
}

/// The connections of one command, and the state and the server as the command found them.
pub(super) struct CommandContext {
    pub sql: Sql,
    pub replication: Replication,
    pub keeper: Keeper,
    pub seen: ServerState,
}

pub(super) async fn connect(config: &Config) -> Result<CommandContext, ConsentError> {
    let keeper = Keeper::start(config.open_state().await?);
    let sql = Sql::connect(&config.postgres).await?;
    let mut replication = Replication::connect(&config.postgres).await?;
    let server = replication.identify_system().await?;
    let seen = ServerState::new(config, &sql, &mut replication, &server, &keeper).await?;
    Ok(CommandContext { sql, replication, keeper, seen })
}

pub(super) fn idle(config: &Config, seen: &ServerState) -> Result<(), ConsentError> {
    match seen.slot().and_then(|slot| slot.active_pid) {
        Some(pid) => Err(ConsentError::InUse { slot: config.slot.clone(), pid }),
        None => Ok(()),
    }
}

/// The recorded halt. `None` if there is none, or if a consent has ended it: a consent raises the
/// epoch.
fn standing(state: &State) -> Option<&Halted> {
    state.halt.as_ref().filter(|halted| state.epoch() <= halted.epoch)
}

/// Finds the halt that `slot accept` accepts. If slot and state show a halt now, this halt is
/// accepted, or the recorded halt that covers this halt with a narrower range. Otherwise a recorded
/// halt is accepted whose cause a connect cannot observe again. The error is `NotAccepted` if no
/// consent ends the recorded halt. `None` if there is no such halt.
fn acceptable(seen: &ServerState) -> Result<Option<Halt>, ConsentError> {
    if let Verdict::Halt(halt) = seen.judge() {
        let covering =
            standing(&seen.state).filter(|halted| halted.covers(&halt, seen.state.epoch()));
        return Ok(Some(covering.map_or(halt, Halted::halt)));
    }
    match standing(&seen.state).filter(|halted| halted.reason.lifting().proof == Proof::Once) {
        None => Ok(None),
        Some(halted) if halted.reason.lifting().is_by(By::Accept) => Ok(Some(halted.halt())),
        Some(halted) => {
            Err(ConsentError::NotAccepted { reason: halted.reason, next: halted.halt().next() })
        }
    }
}

/// Marks the recorded halt for one more try, and returns the marked halt. A halted agent finds the
/// mark within seconds. `None` if no halt is recorded, so that there is nothing to try again.
///
/// # Errors
/// `NotRetried`, or the state cannot be read or written.
pub async fn retry(config: &Config) -> Result<Option<Halted>, ConsentError> {
    let keeper = Keeper::start(config.open_state().await?);
    let state = State::read(&config.slot, &keeper.read().await?).map_err(PipelineError::from)?;
    let Some(halted) = standing(&state) else { return Ok(None) };
    let marked = halted
        .retried()
        .map_err(|next| ConsentError::NotRetried { reason: halted.reason, next })?;
    recorded::write(&keeper, &config.slot, &marked).await?;
    Ok(Some(marked))
}

/// Reads the slot and the state, and changes nothing.
///
/// # Errors
/// The slot or the state cannot be read.
pub async fn status(config: &Config) -> Result<SlotStatus, ConsentError> {
    let CommandContext { seen, .. } = connect(config).await?;
    let halt = standing(&seen.state).cloned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let author = Author { run: String::new(), fingerprint: config.fingerprint.clone(), version };
    let foresight = seen.foresee(config, &author).await;
    let owed = seen.state.copy.owed().into_iter().map(|table| table.to_string()).collect();
    Ok(SlotStatus { slot: seen.slot().cloned(), foresight, record: seen.state.record, halt, owed })
}

/// Reads only the row of the slot, for `slot status` while the state cannot be read. `None` if
/// there is no slot.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn slot_alone(config: &Config) -> Result<Option<SlotRow>, ConsentError> {
    let sql = Sql::connect(&config.postgres).await?;
    Ok(slot::read(&sql, &config.slot).await?)
}

/// Creates the slot and its checkpoint, for a pipeline that starts later from this point.
///
/// # Errors
/// `Exists`, `Recorded`, `NoPublication`, or the server refuses the slot.
pub async fn create(config: &Config) -> Result<Checkpoint, ConsentError> {
    let CommandContext { sql, mut replication, keeper, seen } = connect(config).await?;
    if seen.slot().is_some() {
        return Err(ConsentError::Exists { slot: config.slot.clone() });
    }
    if let Some(record) = &seen.state.record {
        let (slot, confirmed) = (config.slot.clone(), record.confirmed);
        return Err(ConsentError::Recorded { slot, confirmed });
    }
    if seen.publication().is_none() {
        return Err(ConsentError::NoPublication { publication: config.publication.clone() });
    }
    create_slot(config, &sql, &mut replication).await?;
    let server = replication.identify_system().await?;
    let seen = ServerState::new(config, &sql, &mut replication, &server, &keeper).await?;
    let from = seen.slot().map_or(Lsn::ZERO, SlotRow::confirmed);
    let record = consented(config, &seen, from, "slot_created");
    write(&keeper, &record).await?;
    Ok(record)
}

/// Drops the slot. The checkpoint stays, so that a later start reports a missing slot.
///
/// # Errors
/// `Missing`, `InUse`, or the server refuses to drop the slot.
pub async fn drop_slot(config: &Config) -> Result<(), ConsentError> {
    let CommandContext { mut replication, seen, .. } = connect(config).await?;
    if seen.slot().is_none() {
        return Err(ConsentError::Missing { slot: config.slot.clone() });
    }
    idle(config, &seen)?;
    Ok(replication.drop_slot(&config.slot).await?)
}

/// Whether a consent also asks for copies of the tables of which changes may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// The tables of which changes may be missing are copied again.
    Ask,
    /// No copy is asked for. The operator decides about copies later.
    Leave,
}

/// A consent that is recorded, with the tables whose copies are asked for.
#[derive(Debug)]
pub struct Repaired {
    /// The checkpoint under the new epoch.
    pub record: Checkpoint,
    /// The tables to be copied, as `namespace.name`.
    pub copied: Vec<String>,
}

/// Accepts the loss that a halt names. A new checkpoint with a new epoch says where the stream goes
/// on. If the slot is missing, lost or older than its publication, a new slot is created.
///
/// `range` bounds the gap that the operator accepts. Without `range` every gap is accepted. The gap
/// that is found, up to the position of a new slot, must lie within `range`. Returns `None` if
/// there is no halt to accept.
///
/// # Errors
/// `NotAccepted`, `OtherRange`, `InUse`, `NoPublication`, or a halt that no consent ends.
pub async fn accept(
    config: &Config,
    range: Option<LsnRange>,
    copies: Copies,
) -> Result<Option<Repaired>, ConsentError> {
    let CommandContext { sql, mut replication, keeper, mut seen } = connect(config).await?;
    // Without a halt nothing is changed. Another process may then go on streaming from the slot.
    let Some(halt) = acceptable(&seen)? else { return Ok(None) };
    idle(config, &seen)?;
    let found = halt.range.unwrap_or(LsnRange { from: Lsn::ZERO, to: Lsn::ZERO });
    let exceeds =
        |gap: LsnRange| range.is_some_and(|most| gap.from < most.from || gap.to > most.to);
    if exceeds(found) {
        return Err(ConsentError::OtherRange { found });
    }
    match halt.reason {
        Reason::SlotForeign => return Err(PipelineError::Halt(halt).into()),
        Reason::PublicationMissing => {
            return Err(ConsentError::NoPublication { publication: config.publication.clone() });
        }
        _ => {}
    }
    let created = halt.reason.is_passed_by_a_new_slot();
    if created {
        if seen.slot().is_some() {
            replication.drop_slot(&config.slot).await?;
        }
        create_slot(config, &sql, &mut replication).await?;
        let server = replication.identify_system().await?;
        seen = ServerState::new(config, &sql, &mut replication, &server, &keeper).await?;
    }
    let from = seen.slot().map_or(Lsn::ZERO, SlotRow::confirmed);
    // A new slot may begin after the end of the gap that was found before the slot existed.
    let whole = if created { LsnRange { to: found.to.max(from), ..found } } else { found };
    if created && exceeds(whole) {
        // The server has written WAL since, so that the gap up to the new slot exceeds `range`.
        // Nobody needs the new slot.
        replication.drop_slot(&config.slot).await?;
        return Err(ConsentError::OtherRange { found: whole });
    }
    let accepted = halt.range.map(|_| whole);
    let record = record_of(config, &seen, from, (halt.reason, accepted));
    let copied = match copies {
        Copies::Ask => ask_for_copies(config, &keeper, &seen, halt.table.as_deref()).await?,
        Copies::Leave => Vec::new(),
    };
    write(&keeper, &record).await?;
    // The new epoch has ended the recorded halt. If a crash leaves the record of the halt behind,
    // the record has no meaning any more.
    if seen.state.halt.is_some() {
        keeper.write(&Halted::key(&config.slot), None).await?;
    }
    Ok(Some(Repaired { record, copied }))
}

/// Asks for a copy of each captured table, or of only the table that the halt is about. Returns the
/// names of these tables. The requests are written before the consent, because a halted agent goes
/// on within seconds after the consent. If the consent is then not written, the requests lead to
/// ordinary copies.
async fn ask_for_copies(
    config: &Config,
    keeper: &Keeper,
    seen: &ServerState,
    only: Option<&str>,
) -> Result<Vec<String>, ConsentError> {
    let mut asked = Vec::new();
    for table in seen.captured() {
        let name = table.to_string();
        let is_meant = only.is_none_or(|only| only == name);
        // Three kinds of tables are left out: an outbox, whose events are not sent again; a table
        // with a `snapshot.query`, which only the first copy reads; and a detached table, which its
        // repair copies.
        if !is_meant
            || config.encode.is_outbox(table)
            || config.snapshot.queries.contains_key(&name)
            || seen.state.detached.contains_key(&name)
        {
            continue;
        }
        // `fresh`: a transaction that began while changes were missing can still be open. The copy
        // waits until its snapshot sees this transaction.
        let journal = Journal { fresh: true, ..Journal::default() };
        let window = Window { needed: true, journal, ..Window::requested(None, unix_ms()) };
        keeper.write(&Window::key(&config.slot, &name), Some(window.to_json())).await?;
        asked.push(name);
    }
    Ok(asked)
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.map_or(0, |since| since.as_millis())).unwrap_or(i64::MAX)
}

type Consent = (Reason, Option<LsnRange>);

fn record_of(
    config: &Config,
    seen: &ServerState,
    from: Lsn,
    (reason, range): Consent,
) -> Checkpoint {
    let mut record = consented(config, seen, from, reason.code());
    if let (Some(range), Some(last)) = (range, record.accepted.last_mut()) {
        (last.from, last.to) = (range.from, range.to);
    }
    record
}

/// Makes the checkpoint with which the stream goes on at `from`. The checkpoint lists the WAL from
/// the last confirmed position to `from` as an accepted gap, for `reason`. The epoch rises, unless
/// this is the first checkpoint.
pub(super) fn consented(
    config: &Config,
    seen: &ServerState,
    from: Lsn,
    reason: &str,
) -> Checkpoint {
    let was = seen.record(config, from, true);
    let first = seen.state.record.is_none();
    let at_ms = unix_ms();
    let mut record = Checkpoint {
        epoch: if first { was.epoch } else { was.epoch + 1 },
        named_from: Some(seen.server()),
        confirmed: from,
        sent: from,
        last_commit: None,
        server_seen: seen.server(),
        pending_xids: Vec::new(),
        pending_upto: None,
        sequence: None,
        // The position at which a hold of an earlier epoch keeps the slot means nothing in this
        // epoch. If a hold is open, the checkpoint is not clean, and the next start opens a new
        // hold.
        clean: seen
            .state
            .record
            .as_ref()
            .is_none_or(|record| record.clean && record.holds.is_empty()),
        delivered: from,
        delivered_commit: None,
        holds: Vec::new(),
        foreign: false,
        ..was
    };
    let since = seen.state.record.as_ref().map_or(Lsn::ZERO, |record| record.confirmed);
    record.accept(Accepted { from: since, to: from, reason: reason.to_owned(), at_ms });
    record
}

pub(super) async fn write(keeper: &Keeper, record: &Checkpoint) -> Result<(), ConsentError> {
    Ok(keeper.write(&Checkpoint::key(&record.slot, record.term), Some(record.to_json())).await?)
}
