//! Copied rows of a standstill, which are sent while the stream stands still.

use super::{Rows, RowsError, Tools};
use crate::change::{Context, Marker, Position};
use crate::lsn::{Lsn, PgMicros};
use crate::postgres::copies::Piece;

impl Rows {
    /// Sends rows of the piece from offset `at`, while there is room and the stream stands still
    /// for the copy. Returns the offset of the next row, or `None` if the piece has no more rows to
    /// send.
    ///
    /// # Errors
    /// The error of the producer. The stream is then read again, and the table is copied again.
    pub fn standstill(
        &mut self,
        piece: &Piece,
        mut at: usize,
        tools: &mut Tools<'_>,
    ) -> Result<Option<usize>, RowsError> {
        let Some(sends) = tools.copies.sends_standstill() else { return Ok(Some(at)) };
        let (last_commit, mut rows) = (self.changes.last_commit(), 0);
        while tools.core.has_room() && tools.sink.has_room() {
            let Some((line, next)) = piece.line(at) else {
                tools.copies.standstill_sent(rows);
                return Ok(None);
            };
            // The last byte before the consistent point. No streamed commit can begin there.
            let commit = Lsn::new(sends.point.bytes().saturating_sub(1));
            let context = Context {
                position: Position { commit, ordinal: tools.copies.next_serial() },
                lsn: sends.point,
                last_commit,
                xid: None,
                committed_at: PgMicros::from_unix_micros(tools.now_unix_nanos / 1000),
                origin: None,
                xmin: None,
                marker: Marker::Incremental,
            };
            let line = (line, sends.columns);
            self.output.copied.line(sends.copy, &sends.active, line, &context, tools)?;
            if tools.copies.standstill_id().is_none() {
                return Ok(None); // this row could not be sent, and has ended its copy
            }
            (at, rows) = (next, rows + 1);
        }
        tools.copies.standstill_sent(rows);
        Ok(Some(at))
    }
}
