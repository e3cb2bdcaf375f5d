//! The session that reads a whole table under the snapshot of a temporary slot: a position, a slot, its snapshot, rows.
//!
//! It asks, waits and tells; when rows may be sent is `whole`'s. The slot lives until its snapshot is imported, a moment: it
//! keeps no log for the length of the copy. Rows go through one bounded queue, so that the loop's pace is the server's.

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

/// How long CREATE_REPLICATION_SLOT may wait for each writing transaction: as for a pipeline's own slot. The stream may
/// stand before a change of the table meanwhile.
const SLOT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long ACCESS SHARE is waited for, behind which others would queue. It conflicts with ACCESS EXCLUSIVE only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A slot's name has 63 bytes, of which `_copy_` and a process id take 13.
const NAME_BYTES_MAX: usize = 50;

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Order {
    pub(crate) postgres: postgres::Config,
    /// By which the table is published.
    pub publication: String,
    /// The pipeline's slot, after which the temporary one is named.
    pub slot: String,
    pub(crate) table: TableName,
    pub(crate) relation: Oid,
    /// The operator's condition on its rows.
    pub filter: Option<String>,
}

/// An event of the copy; the variants come in this order.
#[derive(Debug)]
pub enum Told {
    /// The slot's point will lie at or beyond this. Nothing more happens before [`Temporary::go`].
    Noted(Lsn),
    /// The slot's point, and the table as its snapshot has it, locked.
    Begun(Lsn, Box<CopyTable>),
    /// Rows in the order in which the server sent them.
    Rows(Piece),
    /// There are no more.
    Done,
    /// The copy has ended early and must start again.
    Failed(Failure),
}

/// Why a copy ended before its last row.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum Failure {
    /// The server has no free slot or no free walsender.
    #[error("no replication slot or walsender is free on the server: {detail}")]
    NoRoom { detail: String },
    /// Transactions wrote for longer than the slot's making may wait.
    #[error("transactions that write: {0}")]
    Writers(String),
    /// The table was rewritten, truncated or dropped before it was locked: the snapshot has nothing of it.
    #[error("a rewrite of the table, which came between snapshot and lock")]
    Rewritten,
    /// The publication does not have the table.
    #[error("the table's return to the publication")]
    NotPublished,
    /// The server's, or the connection's.
    #[error(transparent)]
    Postgres(#[from] PgError),
}

/// A running copy. Dropping it cuts its sessions.
pub struct Temporary {
    told: mpsc::Receiver<Told>,
    go: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Temporary {
    /// Begins, on the current runtime.
    #[must_use]
    pub fn start(order: Order) -> Self {
        let (tell, told) = mpsc::channel(1); // a piece waits while the one before is sent: the loop's pace is the server's
        let (go, may_go) = oneshot::channel();
        let task = tokio::spawn(async move {
            let last = match read(&order, may_go, &tell).await {
                Ok(()) => Told::Done,
                Err(failure) => Told::Failed(failure),
            };
            let _ = tell.send(last).await; // nobody listens: nobody needs to know
        });
        Temporary { told, go: Some(go), task }
    }

    /// The position is noted: the slot may be made.
    pub fn go(&mut self) {
        if let Some(go) = self.go.take() {
            let _ = go.send(()); // it may have failed, which it says next
        }
    }

    /// What it tells next. Cancel-safe.
    pub async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

async fn read(order: &Order, may_go: oneshot::Receiver<()>, tell: &mpsc::Sender<Told>) -> Result<(), Failure> {
    let mut replication = Replication::connect(&order.postgres).await.map_err(no_walsender)?;
    let noted = written(&mut replication, &order.table).await?;
    if tell.send(Told::Noted(noted)).await.is_err() || may_go.await.is_err() {
        return Ok(()); // nobody wants it any more
    }
    let name = slot_name(&order.slot, replication.backend_pid());
    let created = match replication.create_temporary_slot(&name, SLOT_LOCK_TIMEOUT).await {
        Ok(created) => created,
        Err(error) => return Err(refused(order, &mut replication, error).await),
    };
    let missing = || PgError::Answer { call: "create replication slot", object: name.clone(), field: "snapshot" };
    let snapshot = created.snapshot.as_deref().ok_or_else(missing)?;
    let mut holder = Holder::import(&order.postgres, snapshot).await?;
    replication.close().await; // and the slot with it
    let found = holder.tables(&order.publication).await?;
    let table = found.into_iter().find(|table| table.relation == order.relation).ok_or(Failure::NotPublished)?;
    for part in &table.parts {
        match holder.lock(part, LOCK_TIMEOUT).await? {
            Ok(()) => {}
            Err(Unlocked::Rewritten) => return Err(Failure::Rewritten),
            Err(Unlocked::Refused(error)) => return Err(error.into()),
        }
    }
    let plan = planned(order, table.clone());
    if tell.send(Told::Begun(created.consistent_point, Box::new(table))).await.is_err() {
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

/// Where the server's log goes on; on a standby, how far it has replayed.
async fn written(replication: &mut Replication, table: &TableName) -> Result<Lsn, PgError> {
    let sql = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END::text";
    let rows = replication.query(sql).await?;
    let position = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let unreadable =
        || PgError::Answer { call: "note the position before copying", object: table.to_string(), field: "position" };
    position.and_then(|text| text.parse().ok()).ok_or_else(unreadable)
}

fn planned(order: &Order, table: CopyTable) -> Plan {
    let mut config = Config::new(Mode::Windows);
    config.conditions.extend(order.filter.clone().map(|filter| (table.name.to_string(), filter)));
    Plan::new(&config, vec![table])
}

/// Copies one part; false if nobody listens any more.
async fn copy(
    session: &mut CopySession,
    table: &TablePlan,
    part: usize,
    tell: &mpsc::Sender<Told>,
) -> Result<bool, PgError> {
    let name = table.name.to_string();
    session.begin(&name, &table.copy(&Range { table: 0, part, from: 0, to: None })).await?;
    while let Some(piece) = session.next(&name).await? {
        if tell.send(Told::Rows(piece)).await.is_err() {
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

/// What a refusal to make the slot means.
async fn refused(order: &Order, replication: &mut Replication, error: PgError) -> Failure {
    match error.sqlstate() {
        Some("53400") => {
            let sql = "SELECT count(*)::text, pg_catalog.current_setting('max_replication_slots') FROM pg_catalog.pg_replication_slots";
            let taken = replication.query(sql).await.unwrap_or_default();
            let detail = match taken.first().map(Vec::as_slice) {
                Some([Some(taken), Some(most)]) => format!("{taken} of {most} slots (max_replication_slots) are taken"),
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

/// Of this pipeline and this session: a slot that a cut session leaves lives on for a moment, and no name comes twice.
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
