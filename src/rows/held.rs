//! Copied rows of a backfill. A row is sent before a change of its key, or a truncate, that the
//! chunk's snapshot does not see. Every other row is sent when the stream has passed the position
//! that its chunk waits for.

use super::records::Records;
use super::refusals::refusal;
use super::{Rows, RowsError, Tools};
use crate::backfill::Held;
use crate::change::{Context, Marker, Position, Row};
use crate::continuity::Chain;
use crate::encode::EncodeError;
use crate::lsn::{Lsn, PgMicros};
use crate::pgoutput::CopyRow;
use crate::plans::{Active, Routed};
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::table::typed::snapshot_of;

/// The buffers in which copied rows become records.
#[derive(Default)]
pub(super) struct CopiedRows {
    records: Records,
    /// Buffer in which a line of COPY text is read as a row.
    line: CopyRow,
}

impl Rows {
    /// Sends the next copied row of a chunk, if the stream has passed the position that the chunk
    /// waits for. If there is no such row, nothing is sent.
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
        self.output.copied.held(copy, &held, &context, stands, tools)
    }
}

impl CopiedRows {
    /// Sends a copied row when the stream has reached the position `stands`. The row's Position
    /// lies just before `stands`, or just before the position that its chunk waits for if that is
    /// lower, because everything in the row was committed by then. A row that cannot be sent ends
    /// its copy, and the stream goes on.
    pub fn held(
        &mut self,
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
        self.line(copy, &shape.active, (held.line(), shape.columns), &context, tools)
    }

    /// Encodes and sends one copied row. A row that cannot be sent ends its copy, and the stream
    /// goes on.
    pub fn line(
        &mut self,
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
        let row = match self.line.read(line, columns) {
            Ok(new) => Row::Read { new },
            Err(error) => return failed(format!("table {}: {error}", active.table), tools),
        };
        let routed;
        let active = match active.routed(&row, context) {
            Ok(Routed::Own) => active,
            Ok(Routed::To(found)) => {
                routed = found;
                &*routed
            }
            Ok(Routed::New(router, _)) if !router.is_of_events() => {
                return failed(
                    format!(
                        "table {}: a copied row goes to a topic that no streamed row has gone to \
                         yet",
                        active.table
                    ),
                    tools,
                );
            }
            // A condition of a transform drops this row, as it would drop a streamed row.
            Ok(Routed::Nowhere) if !active.is_of_events() => {
                active.count_filtered(&row);
                tools.copies.emitted_row(copy, 0);
                return Ok(());
            }
            Ok(Routed::New(..) | Routed::Nowhere | Routed::Unexpected) => {
                return failed(
                    format!("table {}: outbox rows are not copied again", active.table),
                    tools,
                );
            }
            Err(error) => return failed(Chain(&error).to_string(), tools),
        };
        match self.records.encode(active, context, &row, tools.now_unix_nanos) {
            Ok(()) => {}
            Err(EncodeError::RequiredNull { column, .. }) => {
                let table = &active.table;
                return failed(
                    format!("table {table}: NULL in column `{column}`, which is NOT NULL by now"),
                    tools,
                );
            }
            Err(error) => return failed(refusal(active, context.position, &error), tools),
        }
        if !self.records.is_empty() {
            match self.records.check(active, context.position, tools.core) {
                Ok(()) => {}
                Err(RowsError::Halt(halt)) => return failed(halt.detail, tools),
                Err(error) => return Err(error),
            }
            self.records.count(active, &row);
            self.records.send(active, context.position, tools)?;
        } else {
            self.records.count_notes(active);
            active.count_filtered(&row);
        }
        tools.copies.emitted_row(copy, self.records.size_bytes());
        Ok(())
    }
}
