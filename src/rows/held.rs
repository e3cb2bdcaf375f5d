//! Copied rows of a backfill. A row is sent before a change that its chunk does not contain, or
//! when the stream has passed the position of the chunk.

use super::{RowOut, Rows, RowsError, Tools, records_out, written};
use crate::backfill::Held;
use crate::change::{Context, Marker, Position, Row};
use crate::continuity::Chain;
use crate::encode::Encoder;
use crate::lsn::{Lsn, PgMicros};
use crate::pgoutput::CopyRow;
use crate::plans::{Active, Routed};
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::table::typed::snapshot_of;

impl Rows {
    /// Sends one copied row whose position the stream has passed.
    pub(super) fn rest(&mut self, tools: &mut Tools<'_>) -> Result<(), RowsError> {
        let Some((copy, held)) = tools.copies.rest() else { return Ok(()) };
        let stands = tools.core.received();
        let context = Context {
            position: Position::default(),
            lsn: stands,
            last_commit: self.changes.last_commit(),
            xid: None,
            committed_at: PgMicros::default(),
            origin: None,
            xmin: None,
            marker: Marker::Incremental,
        };
        held_out(&mut self.encoder, &mut self.copied, copy, &held, &context, stands, tools)
    }
}

/// Sends a copied row at the present place of the stream. Its Position lies just before that place
/// and before the position that its chunk waits for, because all that the row holds was committed
/// by then. A row that cannot be sent ends its copy, and the stream goes on.
pub(super) fn held_out(
    encoder: &mut Encoder,
    copied: &mut CopyRow,
    copy: usize,
    held: &Held,
    context: &Context<'_>,
    stands: Lsn,
    tools: &mut Tools<'_>,
) -> Result<(), RowsError> {
    let shape = &held.shape;
    let commit = Lsn::new(shape.upto.min(stands).bytes().saturating_sub(1));
    let context = Context {
        position: Position { commit, ordinal: tools.copies.next_serial() },
        xid: None,
        committed_at: PgMicros::from_unix_micros(tools.now_unix_nanos / 1000),
        origin: None,
        xmin: None,
        marker: Marker::Incremental,
        ..*context
    };
    line_out((encoder, copied), copy, &shape.active, (held.line(), shape.columns), &context, tools)
}

/// Encodes and sends one copied row. A row that cannot be sent ends its copy, and the stream goes
/// on.
pub(super) fn line_out(
    (encoder, copied): (&mut Encoder, &mut CopyRow),
    copy: usize,
    active: &Active,
    (line, columns): (&[u8], usize),
    context: &Context<'_>,
    tools: &mut Tools<'_>,
) -> Result<(), RowsError> {
    let failed = |detail: String, tools: &mut Tools<'_>| {
        let next = format!("correct the row, then {}", snapshot_of(&active.table));
        tools.copies.fail(copy, Left::new(CopyReason::RowRefused, detail, next));
        Ok(())
    };
    let tuple = match copied.read(line, columns) {
        Ok(tuple) => tuple,
        Err(error) => return failed(format!("table {}: {error}", active.table), tools),
    };
    let row = Row::Read { new: tuple };
    let routed;
    let active = match active.routed(&row) {
        Ok(Routed::Own) => active,
        Ok(Routed::To(found)) => {
            routed = found;
            &*routed
        }
        Ok(Routed::New(..) | Routed::Nowhere | Routed::Unexpected) => {
            return failed(
                format!("table {}: outbox rows are not copied again", active.table),
                tools,
            );
        }
        Err(error) => return failed(Chain(&error).to_string(), tools),
    };
    let written = written(encoder, active, context, &row, tools);
    let sent = written.and_then(|written| {
        if matches!(written, RowOut::Sent) {
            records_out(encoder, active, context.position, tools)?;
        }
        Ok(written)
    });
    match sent {
        Ok(RowOut::Sent | RowOut::NotPublished) => {
            let size_bytes = encoder.records().map(|record| record.size_bytes()).sum();
            tools.copies.emitted_row(copy, size_bytes);
            Ok(())
        }
        Ok(RowOut::Needs(column)) => failed(
            format!("table {}: NULL in column `{column}`, which is NOT NULL by now", active.table),
            tools,
        ),
        Ok(RowOut::Routes(..)) => unreachable!("a copied row is routed before it is encoded"),
        Err(RowsError::Halt(halt)) => failed(halt.detail, tools),
        Err(error) => Err(error),
    }
}
