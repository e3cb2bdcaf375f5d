//! Sends the rows of the first copy. Lines of COPY text become records, by the same plans as
//! streamed rows.

use super::{Copying, FirstCopy, Need};
use crate::change::{Context, Marker, Position, Row};
use crate::continuity::Chain;
use crate::encode::{EncodeError, Router};
use crate::ledger::Ticket;
use crate::lsn::{Lsn, PgMicros, Xid};
use crate::plans::{Active, Routed};
use crate::postgres::copies::Piece;
use crate::reason::{CopyReason, Reason};
use crate::rows::{RowsError, Tools};
use crate::snapshot::journal::Left;
use crate::snapshot::prepare::left;
use std::sync::Arc;

/// A piece (a part of a reader's COPY output) whose rows are being sent.
pub(super) struct InHand {
    pub table: usize,
    pub piece: Piece,
    /// Offset in the piece at which the next line begins.
    pub at: usize,
    /// True once the row that was held back from the table's previous piece may be sent.
    pub begun: bool,
}

/// What every row of the copy has in `source`, and the number of the next row.
pub(super) struct CopyContext {
    /// Consistent point of the slot. The copied rows are as of this position.
    point: Lsn,
    /// The newest transaction that the snapshot knows of.
    xid: Xid,
    /// Time of the snapshot.
    at: PgMicros,
    /// Number of rows that were sent.
    ordinal: u64,
}

impl CopyContext {
    pub fn new(first: &FirstCopy) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "events carry the lower 32 bits")]
        let xid = Xid(first.holder.newest_xid as u32);
        CopyContext { point: first.point, xid, at: first.holder.at, ordinal: 0 }
    }

    pub fn point(&self) -> Lsn {
        self.point
    }

    /// The context of the next row: the Position, transaction and time that its record shows.
    fn of(&self, marker: Marker) -> Context<'static> {
        // The last byte before the consistent point. No streamed commit can begin there.
        let commit = Lsn::new(self.point.bytes().saturating_sub(1));
        Context {
            position: Position { commit, ordinal: self.ordinal },
            lsn: self.point,
            last_commit: None,
            xid: Some(self.xid),
            committed_at: self.at,
            origin: None,
            xmin: None,
            marker,
        }
    }

    fn sent_row(&mut self) {
        self.ordinal += 1;
    }
}

/// The result of sending one row.
enum RowOutcome {
    Yes,
    /// The row has NULL in this column, which its plan has as NOT NULL.
    Needs(String),
    /// The row's values choose a plan that is not made yet. The text is the route, by which the
    /// plan is found.
    Routes(Arc<Router>, String),
    Left(Left),
}

/// The row to be sent next, without its bytes.
struct NextRow {
    table: usize,
    marker: Marker,
    /// Offset of the row in the piece in hand. `None` for a row that was held back.
    line_at: Option<usize>,
}

impl Copying {
    /// Sends rows until there is no room, no row is in hand, or a plan has to be fetched. Returns
    /// what has to be fetched.
    ///
    /// # Errors
    /// The error of the producer. The loop then reads the stream again, and the copy goes on with
    /// the tables that are not recorded.
    pub fn work(&mut self, tools: &mut Tools<'_>) -> Result<Option<Need>, RowsError> {
        while tools.core.has_room_to_copy(self.readers.buffered_bytes()) && tools.sink.has_room() {
            let Some(next) = self.next_row() else { return Ok(None) };
            let NextRow { table, marker, line_at } = next;
            match self.send(&next, tools)? {
                RowOutcome::Yes => {}
                RowOutcome::Left(left) => {
                    self.leave(table, left);
                    // Rows of the table that were held back are dropped with the table.
                    continue;
                }
                RowOutcome::Needs(column) => {
                    self.take_back(table, marker, line_at);
                    return Ok(Some(Need::Nullable(table, column)));
                }
                RowOutcome::Routes(router, value) => {
                    self.take_back(table, marker, line_at);
                    return Ok(Some(Need::Route(table, router, value)));
                }
            }
            if line_at.is_none() {
                self.markers.sent();
            }
        }
        Ok(None)
    }

    /// Stores the plan for the rows of a table whose route is `value`: the text, made of a row's
    /// values, by which the plan is found.
    pub fn routed(&mut self, table: usize, value: &str, active: Active) {
        self.waits = false;
        let of = self.tables.get(table).and_then(|of| of.active.as_ref());
        if let Some(routes) = of.and_then(|of| of.routes.as_ref()) {
            routes.learn(value, active);
        }
    }

    /// Lets a row wait for a plan. When the plan is made, the same row is sent next.
    fn take_back(&mut self, table: usize, marker: Marker, line_at: Option<usize>) {
        if let (Some(at), Some(in_hand)) = (line_at, &mut self.in_hand) {
            in_hand.at = at;
            self.markers.take_back(table, marker);
        }
        self.waits = true;
    }

    /// Returns the next row to send: a row that was held back, or else the next row of the piece in
    /// hand. The last row of a piece is held back. `None` if no piece is in hand any more.
    #[inline]
    fn next_row(&mut self) -> Option<NextRow> {
        loop {
            if let Some(released) = self.markers.released() {
                return Some(NextRow {
                    table: released.table,
                    marker: released.marker,
                    line_at: None,
                });
            }
            let in_hand = self.in_hand.as_mut()?;
            let (table, at) = (in_hand.table, in_hand.at);
            if !std::mem::replace(&mut in_hand.begun, true) {
                self.markers.piece(table);
                continue;
            }
            match in_hand.piece.line(at) {
                Some((line, end)) if end == in_hand.piece.size_bytes() => {
                    self.markers.hold(table, line);
                    self.in_hand = None;
                }
                Some((_, end)) => {
                    in_hand.at = end;
                    return Some(NextRow {
                        table,
                        marker: self.markers.next(table),
                        line_at: Some(at),
                    });
                }
                None => self.in_hand = None,
            }
        }
    }

    /// Encodes and sends one row.
    #[inline]
    fn send(&mut self, next: &NextRow, tools: &mut Tools<'_>) -> Result<RowOutcome, RowsError> {
        let Copying { tables, plan, row, records, markers, in_hand, context: shared, .. } = self;
        let (of, planned) = (tables.get_mut(next.table), plan.tables.get(next.table));
        let line = match next.line_at {
            Some(at) => {
                in_hand.as_ref().and_then(|in_hand| in_hand.piece.line(at)).map(|(line, _)| line)
            }
            None => markers.released().map(|released| released.line.as_slice()),
        };
        let (Some(of), Some(planned), Some(line)) = (of, planned, line) else {
            return Ok(RowOutcome::Yes);
        };
        let Some(active) = &of.active else { return Ok(RowOutcome::Yes) };
        let context = shared.of(next.marker);
        let name = &planned.name;
        let new = match row.read(line, planned.shape.columns.len()) {
            Ok(new) => new,
            Err(error) => {
                return Ok(RowOutcome::Left(left(
                    CopyReason::CopyUnreadable.code(),
                    format!("table {name}: {error}"),
                    name,
                )));
            }
        };
        let read = Row::Read { new };
        let routed;
        let active = match active.routed(&read, &context) {
            Ok(Routed::Own) => active,
            Ok(Routed::To(found)) => {
                routed = found;
                &*routed
            }
            Ok(Routed::New(router, value)) => return Ok(RowOutcome::Routes(router, value)),
            Ok(Routed::Nowhere | Routed::Unexpected) => {
                active.count_filtered(&read);
                return Ok(RowOutcome::Yes);
            }
            Err(error) => {
                let detail = format!("table {name}: {}", Chain(&error));
                return Ok(RowOutcome::Left(left(Reason::RowUnencodable.code(), detail, name)));
            }
        };
        match records.encode(active, &context, &read, tools.now_unix_nanos) {
            Ok(()) => {}
            Err(EncodeError::RequiredNull { column, .. }) => return Ok(RowOutcome::Needs(column)),
            Err(error) => {
                let detail = format!("table {name}: {}", Chain(&error));
                return Ok(RowOutcome::Left(left(Reason::RowUnencodable.code(), detail, name)));
            }
        }
        match records.check(active, context.position, tools.core) {
            Ok(()) => {}
            Err(RowsError::Halt(halt)) => {
                return Ok(RowOutcome::Left(left(halt.reason.code(), halt.detail, name)));
            }
            Err(error) => return Err(error),
        }
        if records.is_empty() {
            records.count_notes(active);
            active.count_filtered(&read);
            return Ok(RowOutcome::Yes);
        }
        records.send(active, context.position, tools)?;
        records.count(active, &read);
        shared.sent_row();
        of.rows += 1;
        of.bytes += line.len() as u64;
        of.last = Some(Ticket(tools.core.next_ticket().0 - 1));
        Ok(RowOutcome::Yes)
    }
}
