//! The session of a standstill: it notes a position, creates a temporary slot, imports its
//! snapshot, and reads the rows of a whole table.
//!
//! The session reports events and decides nothing. `standstill` decides when rows may be sent. The
//! slot lives only until its snapshot is imported. So the slot keeps no WAL for the length of the
//! copy. Rows go through one bounded queue. So the server sends no faster than the loop takes the
//! rows.

use super::plan::{Plan, TablePlan};
use super::ranges::Range;
use super::{Config, Mode};
use crate::lsn::{Lsn, Oid};
use crate::postgres::copies::{CopySession, Piece};
use crate::postgres::holder::{CopyTable, Holder, Unlocked};
use crate::postgres::slot::{self, Blocker};
use crate::postgres::{self, PgError, Replication, Sql};
use crate::table::TableName;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long CREATE_REPLICATION_SLOT may wait for each writing transaction, as for the pipeline's
/// own slot. The stream may be stopped before a change of the table meanwhile.
const SLOT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the session waits for the ACCESS SHARE lock of the table, or of each of its partitions.
/// Other sessions wait behind this lock request meanwhile. ACCESS SHARE conflicts with ACCESS
/// EXCLUSIVE only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes of the name of the pipeline's slot that the name of the temporary slot begins with. A
/// slot name has 63 bytes, of which `_copy_` and a process id take up to 13.
const NAME_BYTES_MAX: usize = 50;

/// The table that a standstill copies, with its server, its publication and the pipeline's slot.
#[derive(Clone, Debug)]
pub struct Order {
    pub(crate) postgres: postgres::Config,
    /// Publication that has the table.
    pub publication: String,
    /// The name of the pipeline's slot. The temporary slot is named after this slot.
    pub slot: String,
    pub(crate) table: TableName,
    pub(crate) relation: Oid,
    /// The operator's SQL condition that a row has to meet. `None` if all rows are copied.
    pub filter: Option<String>,
}

/// An event of the task that copies the table. The events come in the order of the variants, with
/// any number of `Rows`. `Failed` can come instead of any other event.
#[derive(Debug)]
pub enum StandstillEvent {
    /// The insert position of the server, read before the slot is created. The consistent point of
    /// the slot will be at or beyond this position. The task waits for [`Temporary::go`].
    Noted(Lsn),
    /// The consistent point of the temporary slot, and the table as the slot's snapshot shows it.
    /// The table is locked.
    Begun(Lsn, Box<CopyTable>),
    /// Rows in the order in which the server sent them.
    Rows(Piece),
    /// All rows were read.
    Done,
    /// The copy of the table has ended before its last row, for this reason. Only another copy from
    /// the first row can bring the remaining rows.
    Failed(Failure),
}

/// Why a copy ended before its last row.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum Failure {
    /// The server has no free slot or no free walsender.
    #[error("no replication slot or walsender is free on the server: {detail}")]
    NoRoom { detail: String },
    /// The slot was not created in time, because these transactions had written and stayed open.
    #[error("transactions that write: {0}")]
    Writers(String),
    /// The table was rewritten, truncated or dropped before it was locked. The snapshot then does
    /// not show its rows.
    #[error("the table was rewritten between the snapshot and the lock")]
    Rewritten,
    /// The publication does not have the table.
    #[error("the publication does not have the table")]
    NotPublished,
    /// The server refused a command, or the connection failed.
    #[error(transparent)]
    Postgres(#[from] PgError),
}

/// The handle of the task that copies the table. Dropping the handle ends the task and its
/// sessions.
pub struct Temporary {
    told: mpsc::Receiver<StandstillEvent>,
    go: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Temporary {
    /// Starts the task that copies the table, on the current runtime. The task creates no slot
    /// before [`Temporary::go`] is called.
    #[must_use]
    pub fn start(order: Order) -> Self {
        // One piece waits while the one before is sent. So the server sends no faster than the loop
        // takes pieces.
        let (tell, told) = mpsc::channel(1);
        let (go, may_go) = oneshot::channel();
        let task = tokio::spawn(async move {
            let last = match read(&order, may_go, &tell).await {
                Ok(()) => StandstillEvent::Done,
                Err(failure) => StandstillEvent::Failed(failure),
            };
            let _ = tell.send(last).await; // without a receiver nobody needs the event
        });
        Temporary { told, go: Some(go), task }
    }

    /// Lets the task create the temporary slot. The agent's loop calls this when it has received
    /// the noted position.
    pub fn go(&mut self) {
        if let Some(go) = self.go.take() {
            let _ = go.send(()); // if the task has failed, its next event says so
        }
    }

    /// Waits for the next event of the task. Returns `None` after the last event. This call is
    /// cancel-safe.
    pub async fn next_event(&mut self) -> Option<StandstillEvent> {
        self.told.recv().await
    }
}

async fn read(
    order: &Order,
    may_go: oneshot::Receiver<()>,
    tell: &mpsc::Sender<StandstillEvent>,
) -> Result<(), Failure> {
    let mut replication = Replication::connect(&order.postgres).await.map_err(no_walsender)?;
    let noted = written(&mut replication, &order.table).await?;
    if tell.send(StandstillEvent::Noted(noted)).await.is_err() || may_go.await.is_err() {
        return Ok(()); // the copy was given up
    }
    let name = slot_name(&order.slot, replication.backend_pid());
    let created = match replication.create_temporary_slot(&name, SLOT_LOCK_TIMEOUT).await {
        Ok(created) => created,
        Err(error) => return Err(refused(order, &mut replication, error).await),
    };
    let missing = || PgError::Answer {
        call: "create replication slot",
        object: name.clone(),
        field: "snapshot",
    };
    let snapshot = created.snapshot.as_deref().ok_or_else(missing)?;
    let mut holder = Holder::import(&order.postgres, snapshot).await?;
    replication.close().await; // the server drops the slot with its connection
    let found = holder.tables(&order.publication).await?;
    let table = found
        .into_iter()
        .find(|table| table.relation == order.relation)
        .ok_or(Failure::NotPublished)?;
    for part in &table.parts {
        match holder.lock(part, LOCK_TIMEOUT).await? {
            Ok(()) => {}
            Err(Unlocked::Rewritten) => return Err(Failure::Rewritten),
            Err(Unlocked::Refused(error)) => return Err(error.into()),
        }
    }
    let plan = planned(order, table.clone());
    if tell.send(StandstillEvent::Begun(created.consistent_point, Box::new(table))).await.is_err() {
        return Ok(());
    }
    let mut session = holder.into_session();
    for table in &plan.tables {
        for part in 0..table.parts.len() {
            if !copy(&mut session, table, part, tell).await? {
                return Ok(());
            }
        }
    }
    session.close().await;
    Ok(())
}

/// Reads the insert position of the server. On a standby, reads the position up to which the WAL
/// was replayed.
async fn written(replication: &mut Replication, table: &TableName) -> Result<Lsn, PgError> {
    let sql =
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END::text";
    let rows = replication.query(sql).await?;
    let position = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let unreadable = || PgError::Answer {
        call: "note the position before copying",
        object: table.to_string(),
        field: "position",
    };
    position.and_then(|text| text.parse().ok()).ok_or_else(unreadable)
}

fn planned(order: &Order, table: CopyTable) -> Plan {
    let mut config = Config::new(Mode::Windows);
    config.conditions.extend(order.filter.clone().map(|filter| (table.name.to_string(), filter)));
    Plan::new(&config, vec![table])
}

/// Reads the rows of one part of the table, and sends them as events. Returns false if the receiver
/// of the events is gone.
async fn copy(
    session: &mut CopySession,
    table: &TablePlan,
    part: usize,
    tell: &mpsc::Sender<StandstillEvent>,
) -> Result<bool, PgError> {
    let name = table.name.to_string();
    session.begin(&name, &table.copy(&Range { table: 0, part, from: 0, to: None })).await?;
    while let Some(piece) = session.next(&name).await? {
        if tell.send(StandstillEvent::Rows(piece)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_walsender(error: PgError) -> Failure {
    match error.sqlstate() {
        Some("53300") => Failure::NoRoom { detail: error.to_string() },
        _ => error.into(),
    }
}

/// Finds out why the server refused to create the slot, and makes the `Failure` for it.
async fn refused(order: &Order, replication: &mut Replication, error: PgError) -> Failure {
    match error.sqlstate() {
        Some("53400") => {
            let sql = "SELECT count(*)::text, pg_catalog.current_setting('max_replication_slots') \
                FROM pg_catalog.pg_replication_slots";
            let taken = replication.query(sql).await.unwrap_or_default();
            let detail = match taken.first().map(Vec::as_slice) {
                Some([Some(taken), Some(most)]) => {
                    format!("{taken} of {most} slots (max_replication_slots) are taken")
                }
                _ => error.to_string(),
            };
            Failure::NoRoom { detail }
        }
        Some("55P03" | "57014") => match writers(&order.postgres).await {
            Ok(names) => Failure::Writers(names),
            Err(error) => error.into(),
        },
        _ => error.into(),
    }
}

async fn writers(config: &postgres::Config) -> Result<String, PgError> {
    let blockers = slot::blockers(&Sql::connect(config).await?).await?;
    let words = |blocker: &Blocker| match (blocker.pid, &blocker.prepared) {
        (Some(pid), _) => format!("xid {} (pid {pid})", blocker.xid),
        (None, _) => format!("xid {} (prepared)", blocker.xid),
    };
    Ok(blockers.iter().take(8).map(words).collect::<Vec<_>>().join(", "))
}

/// The name of the temporary slot, from the pipeline's slot and this session's process. No name may
/// be used twice, because the slot of a lost session can live on for a moment.
fn slot_name(of: &str, backend_pid: i32) -> String {
    let kept: String = of.chars().take(NAME_BYTES_MAX).collect();
    format!("{kept}_copy_{backend_pid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_slots_name_is_one_that_postgres_takes() {
        assert_eq!(slot_name("wellspring_shop", 77), "wellspring_shop_copy_77");
        assert!(slot_name(&"x".repeat(63), 4_194_304).len() <= 63);
    }
}
