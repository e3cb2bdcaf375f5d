//! The runner's part in a standstill: it starts and ends the session that reads the table, takes
//! its events, and sends its rows while the stream stands still.

use super::clock::now;
use super::{Runner, tools};
use crate::agent::Config;
use crate::backfill::PiecePace;
use crate::core::Moment;
use crate::lsn::Oid;
use crate::postgres::copies::Piece;
use crate::snapshot::READER_BYTES;
use crate::snapshot::prepare::{is_final, refused};
use crate::snapshot::temporary::{Failure, Order, StandstillEvent, Temporary};
use crate::table::TableName;

/// The session that reads a table at a standstill, and the piece of its rows that is being sent.
pub(super) struct Reading {
    id: u64,
    table: TableName,
    temporary: Temporary,
    in_hand: Option<(Piece, usize)>,
    /// Whether the session has read all rows.
    done: bool,
    pace: PiecePace,
}

impl Reading {
    pub(super) fn may_take(&self, now: Moment) -> bool {
        self.in_hand.is_none() && !self.done && now >= self.pace.next_piece()
    }

    pub(super) fn next_piece(&self) -> Moment {
        self.pace.next_piece()
    }
}

/// Waits for the next event of the session that reads the table. Returns `None` at once without a
/// session, and after the last event of a session.
pub(super) async fn next_event(reading: Option<&mut Reading>) -> Option<StandstillEvent> {
    reading?.temporary.next_event().await
}

impl Runner {
    pub(super) fn read_standstill(&mut self, id: u64, order: Order) {
        let (table, temporary) = (order.table.clone(), Temporary::start(order));
        let pace = PiecePace::new(&self.config.snapshot, now());
        self.backfills.reading =
            Some(Reading { id, table, temporary, in_hand: None, done: false, pace });
    }

    /// Ends the session if no copy wants it any more. A stop ends the standstill, because the stop
    /// would wait for it.
    pub(super) fn standstill_on(&mut self) {
        if self.core.is_stopping() {
            self.backfills.copies.drop_standstill();
        }
        if self
            .backfills
            .reading
            .as_ref()
            .is_some_and(|reading| self.backfills.copies.standstill_id() != Some(reading.id))
        {
            self.backfills.reading = None;
            if let Some(live) = &mut self.live {
                live.silence.not_reading(tokio::time::Instant::now());
            }
        }
    }

    /// The most bytes that the session holds in memory. 0 without a session.
    pub(super) fn standstill_bytes(&self) -> usize {
        self.backfills.reading.as_ref().map_or(0, |_| READER_BYTES)
    }

    pub(super) fn on_standstill_event(&mut self, told: StandstillEvent) {
        let Some(reading) = &mut self.backfills.reading else { return };
        match told {
            StandstillEvent::Noted(noted) => {
                // `Copies` takes the noted position before the session takes its snapshot. From now
                // on the stream stops before a change of the table that commits at or beyond this
                // position, because the snapshot may not contain that change.
                self.backfills.copies.standstill_noted(noted);
                reading.temporary.go();
            }
            StandstillEvent::Begun(point, table) => {
                self.backfills.copies.standstill_begun(point, &table);
            }
            StandstillEvent::Rows(piece) => {
                reading.pace.take_share(self.backfills.throttle.of_held());
                reading.pace.took(piece.rows(), now());
                reading.in_hand = Some((piece, 0));
            }
            StandstillEvent::Done => reading.done = true,
            StandstillEvent::Failed(failure) => self.standstill_failed(&failure),
        }
    }

    fn standstill_failed(&mut self, failure: &Failure) {
        let Some(Reading { id, table, .. }) = self.backfills.reading.take() else { return };
        match failure {
            Failure::Postgres(error) if error.sqlstate().is_some_and(is_final) => {
                self.backfills.copies.refused(id, refused(&table, error));
            }
            Failure::NoRoom { .. }
            | Failure::Writers(_)
            | Failure::Rewritten
            | Failure::NotPublished
            | Failure::Postgres(_) => self.backfills.copies.standstill_failed(failure),
        }
    }

    /// Sends rows of the standstill while there is room.
    pub(super) fn send_standstill(&mut self) {
        let (Some(reading), Some(live), Some(sink)) =
            (&mut self.backfills.reading, &mut self.live, &mut self.outlet.sink)
        else {
            return;
        };
        if self.tasks.planning.is_some() || self.outlet.smaller_batches.is_some() {
            return;
        }
        let mut tools = tools(&mut self.core, sink, &mut self.backfills.copies, &self.reporter);
        if let Some((piece, at)) = &mut reading.in_hand {
            match live.rows.standstill(piece, *at, &mut tools) {
                Ok(Some(next)) => *at = next,
                Ok(None) => reading.in_hand = None,
                Err(error) => return self.broke(error.into()),
            }
        }
        if reading.done
            && reading.in_hand.is_none()
            && self.backfills.copies.sends_standstill().is_some()
        {
            self.backfills.copies.standstill_sent_all(self.core.next_ticket());
        }
    }
}

/// Makes the order for a session that copies this table at a standstill.
pub(super) fn order(
    config: &Config,
    table: TableName,
    relation: Oid,
    filter: Option<String>,
) -> Order {
    Order {
        postgres: config.postgres.clone(),
        publication: config.publication.clone(),
        slot: config.slot.clone(),
        table,
        relation,
        filter,
    }
}
