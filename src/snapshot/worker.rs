//! Readers: a session each, which copies one range after the other under the holder's snapshot and hands over pieces.
//!
//! A reader asks for its next range by saying that it is free. What it sends goes through one bounded queue, so that the
//! loop's pace is the server's. A reader that is lost is not the end of the copy: the holder keeps the snapshot.

use crate::postgres::copies::{CopySession, Piece};
use crate::postgres::{Config, PgError, holder};
use crate::table::TableName;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a reader does next.
#[derive(Clone, Debug)]
pub struct Job {
    /// The table's name, for errors.
    pub table: String,
    /// A COPY to standard output.
    pub sql: String,
}

/// What a reader says.
#[derive(Debug)]
pub struct Told {
    pub(crate) worker: usize,
    pub(crate) what: What,
}

/// An event of one reader of the first copy.
#[derive(Debug)]
pub enum What {
    /// Connected, and waiting for a range.
    Free,
    /// Rows of its job.
    Rows(Piece),
    /// Its job is done; it is free.
    Done,
    /// The server refused its job, or failed half-way; it is free.
    Refused(PgError),
    /// Its connection is gone, and it has ended.
    Lost(PgError),
}

/// A running reader. Dropping it cuts its session.
#[derive(Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    task: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a reader on the current runtime.
    #[must_use]
    pub fn start(
        config: Config,
        snapshot: String,
        locks: Arc<[TableName]>,
        worker: usize,
        told: mpsc::Sender<Told>,
    ) -> Self {
        let (jobs, mut queue) = mpsc::channel(1); // it has one job at a time
        let task = tokio::spawn(async move {
            let error = match work(&config, &snapshot, &locks, worker, &mut queue, &told).await {
                Ok(()) => return,
                Err(error) => error,
            };
            // Whoever asked may be gone: then nobody needs to know.
            let _ = told.send(Told { worker, what: What::Lost(error) }).await;
        });
        Worker { jobs, task: Some(task) }
    }

    /// Lets a free reader end its session in its own time.
    pub fn finish(mut self) {
        self.task = None; // detached; it ends when its queue of jobs is gone
    }

    /// Gives a free reader its next job; false if it has ended.
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
    told: &mpsc::Sender<Told>,
) -> Result<(), PgError> {
    let mut session = CopySession::connect(config, ":copy").await?;
    begin(&mut session, snapshot, locks).await?;
    let mut says = What::Free;
    loop {
        if told.send(Told { worker, what: says }).await.is_err() {
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
                // The transaction is spoilt, the session is not; FATAL shows at the next call.
                session.query("end the transaction of", &job.table, "ROLLBACK").await?;
                begin(&mut session, snapshot, locks).await?;
                What::Refused(error)
            }
            Err(error) => return Err(error),
        };
    }
}

async fn begin(session: &mut CopySession, snapshot: &str, locks: &[TableName]) -> Result<(), PgError> {
    holder::begin(session, snapshot).await?;
    if !holder::lock_all(session, locks).await? {
        tracing::debug!("a reader has not all locks of the copy: it waits for each in its turn");
    }
    Ok(())
}

/// Copies one range; false if nobody listens any more.
async fn copy(session: &mut CopySession, job: &Job, worker: usize, told: &mpsc::Sender<Told>) -> Result<bool, PgError> {
    session.begin(&job.table, &job.sql).await?;
    while let Some(piece) = session.next(&job.table).await? {
        if told.send(Told { worker, what: What::Rows(piece) }).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
