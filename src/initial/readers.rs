//! The readers of the first copy: who reads which range, and what happens when a reader is lost.

use super::rows::InHand;
use super::{Copying, State};
use crate::change::RelationShape;
use crate::continuity::Chain;
use crate::core::Moment;
use crate::postgres::PgError;
use crate::snapshot::prepare::unread;
use crate::snapshot::ranges::Range;
use crate::snapshot::worker::{Job, What, Worker, WorkerEvent};
use std::sync::Arc;

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

    pub(super) fn read(&mut self, worker: usize) {
        let (postgres, snapshot, locks) =
            (self.postgres.clone(), self.snapshot.clone(), Arc::clone(&self.locks));
        let started = Worker::start(postgres, snapshot, locks, worker, self.event_sender.clone());
        if let Some(reader) = self.readers.get_mut(worker) {
            *reader = Reader { worker: Some(started), ..Reader::default() };
        }
    }

    /// Handles an event of a reader.
    ///
    /// # Errors
    /// The error of the reader, after more than [`LOST_MAX`] losses in a row or when the server
    /// shuts down. The copy then cannot go on with this connection.
    pub fn on_event(&mut self, event: WorkerEvent, now: Moment) -> Result<(), PgError> {
        let WorkerEvent { worker, what } = event;
        let Some(reader) = self.readers.get_mut(worker) else { return Ok(()) };
        match what {
            What::Free => reader.free = true,
            What::Rows(piece) => {
                self.lost = 0;
                let Some(table) = reader.range.map(|range| range.table) else { return Ok(()) };
                if matches!(self.tables.get(table).map(|t| &t.state), Some(State::Left(_))) {
                    return Ok(());
                }
                if let Some(of) = self.tables.get_mut(table) {
                    of.scanned += piece.rows() as u64;
                }
                self.tell_read(table);
                let pause = self.row_nanos.saturating_mul(piece.rows() as u64) / 1000;
                let pause = pause.max(self.share.rest_after(now.since(self.next_piece)));
                self.next_piece = self.next_piece.max(now).plus(pause);
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
        let Some(reader) = self.readers.get_mut(worker) else { return Ok(()) };
        if let Some(range) = std::mem::take(reader).range {
            self.ranges.lost(range);
        }
        self.lost += 1;
        if self.lost > LOST_MAX || error.is_shutting_down() {
            return Err(error);
        }
        tracing::warn!(
            worker, error = %Chain(&error),
            "a reader of the copy was lost; its range is read again"
        );
        // The remaining readers do its work. Connections may be short, so that a new reader is
        // started only if none remains.
        if !self.readers.iter().any(|reader| reader.worker.is_some()) {
            self.read(worker);
        }
        self.hand_out();
        Ok(())
    }

    /// Gives each free reader its next range.
    pub(super) fn hand_out(&mut self) {
        for worker in 0..self.readers.len() {
            if !self
                .readers
                .get(worker)
                .is_some_and(|reader| reader.free && reader.worker.is_some())
            {
                continue;
            }
            let tables = &self.tables;
            let ready =
                |at: usize| tables.get(at).is_some_and(|table| table.state == State::Copying);
            let Some(range) = self.ranges.take(ready) else { return };
            let Some(table) = self.plan.tables.get(range.table) else { return };
            let job = Job { table: table.name.to_string(), sql: table.copy(&range) };
            if let Some(reader) = self.readers.get_mut(worker)
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
