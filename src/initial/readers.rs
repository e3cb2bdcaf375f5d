//! The readers of the first copy: who reads which range, and what happens when a reader is lost.

use super::rows::InHand;
use super::{Copying, FirstCopy, State};
use crate::change::RelationShape;
use crate::continuity::Chain;
use crate::core::Moment;
use crate::postgres::{self, PgError};
use crate::snapshot::READER_BYTES;
use crate::snapshot::prepare::unread;
use crate::snapshot::ranges::Range;
use crate::snapshot::worker::{Job, What, Worker, WorkerEvent};
use crate::table::TableName;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The most relations that every reader locks. By default a server has room for 6,400 locks:
/// `max_locks_per_transaction` (64) times `max_connections` (100). Several readers lock each
/// relation.
const LOCKS_MAX: usize = 500;

/// The most readers that may be lost one after the other without a row between them. Beyond that
/// the cause is not the readers, and the copy needs a new connection.
const LOST_MAX: usize = 8;

/// A reader, and the range that it reads.
#[derive(Default)]
pub(super) struct Reader {
    pub worker: Option<Worker>,
    pub free: bool,
    pub range: Option<Range>,
}

/// The readers of one copy, the queue of their events, and what a new reader needs.
pub(super) struct Readers {
    list: Vec<Reader>,
    /// The number of readers that a connection begins with.
    wanted: usize,
    events: mpsc::Receiver<WorkerEvent>,
    event_sender: mpsc::Sender<WorkerEvent>,
    postgres: postgres::Config,
    snapshot: String,
    /// Relations that each reader locks when it begins.
    locks: Arc<[TableName]>,
    /// Readers that were lost since the last row.
    lost: usize,
}

impl Readers {
    pub fn new(postgres: &postgres::Config, wanted: usize, first: &FirstCopy) -> Self {
        let (event_sender, events) = queue(wanted);
        Readers {
            list: Vec::new(),
            wanted,
            events,
            event_sender,
            postgres: postgres.clone(),
            snapshot: first.holder.snapshot.clone(),
            locks: locks(first),
            lost: 0,
        }
    }

    /// Starts all readers on the current runtime.
    pub fn start(&mut self) {
        self.list = (0..self.wanted).map(|_| Reader::default()).collect();
        (0..self.wanted).for_each(|worker| self.start_one(worker));
    }

    fn start_one(&mut self, worker: usize) {
        let (postgres, snapshot, locks) =
            (self.postgres.clone(), self.snapshot.clone(), Arc::clone(&self.locks));
        let started = Worker::start(postgres, snapshot, locks, worker, self.event_sender.clone());
        if let Some(reader) = self.list.get_mut(worker) {
            *reader = Reader { worker: Some(started), ..Reader::default() };
        }
    }

    /// Drops the readers and the events that they have queued.
    pub fn interrupt(&mut self) {
        self.list.clear();
        (self.event_sender, self.events) = queue(self.wanted);
    }

    /// Ends the sessions of the readers, without waiting for them.
    pub fn finish(&mut self) {
        self.list.drain(..).filter_map(|reader| reader.worker).for_each(Worker::finish);
    }

    /// Waits for the next event of a reader. A wait that is cancelled loses no event.
    pub async fn next_event(&mut self) -> Option<WorkerEvent> {
        self.events.recv().await
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn buffered_bytes(&self) -> usize {
        self.list.len() * READER_BYTES
    }

    /// True if the reader waits for a range.
    fn is_free(&self, worker: usize) -> bool {
        self.list.get(worker).is_some_and(|reader| reader.free && reader.worker.is_some())
    }
}

/// The queue of events. It has room for one piece of each reader, so that the readers slow down
/// with the loop.
fn queue(readers: usize) -> (mpsc::Sender<WorkerEvent>, mpsc::Receiver<WorkerEvent>) {
    mpsc::channel(readers)
}

/// The relations that every reader locks: all that are copied. If they are more than [`LOCKS_MAX`],
/// none is locked, because the server's lock table would run short of room.
fn locks(first: &FirstCopy) -> Arc<[TableName]> {
    let is_left = |at: usize| first.prepared.left.iter().any(|(left, _)| *left == at);
    let tables = first.prepared.plan.tables.iter().enumerate().filter(|(at, _)| !is_left(*at));
    let parts: Vec<TableName> =
        tables.flat_map(|(_, table)| &table.parts).map(|part| part.name.clone()).collect();
    if parts.len() > LOCKS_MAX { Arc::default() } else { parts.into() }
}

impl Copying {
    /// The shapes of all tables that have no plan and may be planned now, at most `limit`.
    #[must_use]
    pub fn all_unplanned(&self, now: Moment, limit: usize) -> Vec<RelationShape> {
        let tables = self.tables.iter().zip(&self.plan.tables);
        tables
            .filter(|(t, _)| matches!(t.state, State::Unplanned(at) if at <= now))
            .map(|(_, planned)| planned.shape.clone())
            .take(limit)
            .collect()
    }

    /// Handles an event of a reader.
    ///
    /// # Errors
    /// The error of the reader, after more than [`LOST_MAX`] losses in a row or when the server
    /// shuts down. The copy then cannot go on with this connection.
    pub fn on_event(&mut self, event: WorkerEvent, now: Moment) -> Result<(), PgError> {
        let WorkerEvent { worker, what } = event;
        let Some(reader) = self.readers.list.get_mut(worker) else { return Ok(()) };
        match what {
            What::Free => reader.free = true,
            What::Rows(piece) => {
                self.readers.lost = 0;
                let Some(table) = reader.range.map(|range| range.table) else { return Ok(()) };
                if matches!(self.tables.get(table).map(|t| &t.state), Some(State::Left(_))) {
                    return Ok(());
                }
                if let Some(of) = self.tables.get_mut(table) {
                    of.scanned += piece.rows() as u64;
                }
                self.tell_read(table);
                self.pace.took(piece.rows(), now);
                self.in_hand = Some(InHand { table, piece, at: 0, begun: false });
            }
            What::Done => {
                reader.free = true;
                if let Some(range) = reader.range.take() {
                    self.ranges.read(&range);
                    self.look(range.table);
                }
            }
            What::Refused(error) => {
                reader.free = true;
                if let Some(range) = reader.range.take() {
                    self.ranges.read(&range);
                    if let Some(name) = self.name(range.table) {
                        self.leave(range.table, unread(&name, &error));
                    }
                }
            }
            What::Lost(error) => return self.lost(worker, error),
        }
        self.hand_out();
        Ok(())
    }

    fn lost(&mut self, worker: usize, error: PgError) -> Result<(), PgError> {
        let Some(reader) = self.readers.list.get_mut(worker) else { return Ok(()) };
        if let Some(range) = std::mem::take(reader).range {
            self.ranges.lost(range);
        }
        self.readers.lost += 1;
        if self.readers.lost > LOST_MAX || error.is_shutting_down() {
            return Err(error);
        }
        tracing::warn!(
            worker, error = %Chain(&error),
            "a reader of the copy was lost; its range is read again"
        );
        // The remaining readers do its work. The server may have no connection to spare, so a new
        // reader is started only if none remains.
        if !self.readers.list.iter().any(|reader| reader.worker.is_some()) {
            self.readers.start_one(worker);
        }
        self.hand_out();
        Ok(())
    }

    /// Gives each free reader its next range.
    pub(super) fn hand_out(&mut self) {
        for worker in 0..self.readers.count() {
            if !self.readers.is_free(worker) {
                continue;
            }
            let tables = &self.tables;
            let ready =
                |at: usize| tables.get(at).is_some_and(|table| table.state == State::Copying);
            let Some(range) = self.ranges.take(ready) else { return };
            let Some(table) = self.plan.tables.get(range.table) else { return };
            let job = Job { table: table.name.to_string(), sql: table.copy(&range) };
            if let Some(reader) = self.readers.list.get_mut(worker)
                && reader.worker.as_ref().is_some_and(|worker| worker.give(job))
            {
                (reader.free, reader.range) = (false, Some(range));
            } else {
                // The reader has ended, and reports that next.
                self.ranges.lost(range);
            }
        }
    }
}
