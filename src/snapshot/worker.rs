//! The readers of the first copy. Each has a session of its own, copies one range after the other
//! under the holder's snapshot, and hands over the rows in pieces.
//!
//! A reader reports that it is free, and gets its next range. The events of a reader go through one
//! bounded queue. So the server sends no faster than the loop takes these events. The loss of a
//! reader does not end the copy, because the holder keeps the snapshot.

use crate::postgres::copies::{CopySession, Piece};
use crate::postgres::{Config, PgError, holder};
use crate::table::TableName;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The COPY statement that a reader executes next, which reads one range of a table.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the table, for error texts.
    pub table: String,
    /// The COPY command. The server sends its rows to the reader.
    pub sql: String,
}

/// An event of one reader, with the number of the reader.
#[derive(Debug)]
pub struct WorkerEvent {
    pub(crate) worker: usize,
    pub(crate) what: What,
}

/// What a reader of the first copy reports.
#[derive(Debug)]
pub enum What {
    /// The reader is connected, and waits for its first range.
    Free,
    /// The reader has read some rows of its job.
    Rows(Piece),
    /// The reader has read all rows of its job, and waits for the next job.
    Done,
    /// The server refused the job, or failed in the middle of it. The reader waits for the next
    /// job.
    Refused(PgError),
    /// The connection is lost, and the reader has ended.
    Lost(PgError),
}

/// The handle of a running reader. Dropping the handle ends the reader and its session.
#[derive(Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    task: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a reader on the current runtime. The reader sends its events to `told`.
    #[must_use]
    pub fn start(
        config: Config,
        snapshot: String,
        locks: Arc<[TableName]>,
        worker: usize,
        told: mpsc::Sender<WorkerEvent>,
    ) -> Self {
        let (jobs, mut queue) = mpsc::channel(1); // a reader has one job at a time
        let task = tokio::spawn(async move {
            let error = match work(&config, &snapshot, &locks, worker, &mut queue, &told).await {
                Ok(()) => return,
                Err(error) => error,
            };
            // The receiver may be gone; then nobody needs the event.
            let _ = told.send(WorkerEvent { worker, what: What::Lost(error) }).await;
        });
        Worker { jobs, task: Some(task) }
    }

    /// Ends a free reader, without waiting until the reader has closed its session.
    pub fn finish(mut self) {
        // The task is detached. It ends when the sender of its jobs is gone.
        self.task = None;
    }

    /// Gives a free reader its next job. Returns false if the reader has ended.
    pub fn give(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn work(
    config: &Config,
    snapshot: &str,
    locks: &[TableName],
    worker: usize,
    jobs: &mut mpsc::Receiver<Job>,
    told: &mpsc::Sender<WorkerEvent>,
) -> Result<(), PgError> {
    let mut session = CopySession::connect(config, ":copy").await?;
    begin(&mut session, snapshot, locks).await?;
    let mut says = What::Free;
    loop {
        if told.send(WorkerEvent { worker, what: says }).await.is_err() {
            return Ok(());
        }
        let Some(job) = jobs.recv().await else {
            session.close().await;
            return Ok(());
        };
        says = match copy(&mut session, &job, worker, told).await {
            Ok(true) => What::Done,
            Ok(false) => return Ok(()),
            Err(error) if error.sqlstate().is_some() && !error.is_shutting_down() => {
                // The transaction has failed, and the session can go on. If the error was FATAL,
                // the next call fails.
                session.query("end the transaction of", &job.table, "ROLLBACK").await?;
                begin(&mut session, snapshot, locks).await?;
                What::Refused(error)
            }
            Err(error) => return Err(error),
        };
    }
}

async fn begin(
    session: &mut CopySession,
    snapshot: &str,
    locks: &[TableName],
) -> Result<(), PgError> {
    holder::begin(session, snapshot).await?;
    if !holder::lock_all(session, locks).await? {
        tracing::debug!("a reader has not all locks of the copy: it waits for each in its turn");
    }
    Ok(())
}

/// Reads the rows of one job, and sends them as events. Returns false if the receiver of the events
/// is gone.
async fn copy(
    session: &mut CopySession,
    job: &Job,
    worker: usize,
    told: &mpsc::Sender<WorkerEvent>,
) -> Result<bool, PgError> {
    session.begin(&job.table, &job.sql).await?;
    while let Some(piece) = session.next(&job.table).await? {
        if told.send(WorkerEvent { worker, what: What::Rows(piece) }).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
