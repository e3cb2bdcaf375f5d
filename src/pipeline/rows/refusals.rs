//! Rows that cannot be sent: what is wrong with them, and whether it is of one table.

use super::{Active, RowsError};
use crate::change::{Context, Position};
use crate::encode::{self, EncodeError, Encoder};
use crate::pipeline::continuity::{Halt, Reason};
use crate::pipeline::detached::Refusal;
use crate::pipeline::supervise::Chain;

/// What a batch of one record adds to its bytes on the wire: 61 of the batch, up to 36 of the record, and up to 10 for each
/// of eight headers. The broker's max.message.bytes counts the whole batch.
pub(super) const RECORD_FRAMING_BYTES: usize = 61 + 36 + 8 * 10;

/// What sets one table aside; anything else stays an error.
#[cold]
pub(super) fn refusal(error: RowsError) -> Result<Refusal, RowsError> {
    match error {
        RowsError::Halt(halt) if matches!(halt.reason, Reason::RowUnencodable | Reason::RecordTooLarge) => {
            Ok(Refusal { reason: halt.reason.code(), detail: halt.detail })
        }
        error => Err(error),
    }
}

/// A record's size in bytes, if its topic takes it.
#[inline]
pub(super) fn fits(
    encoder: &Encoder,
    active: &Active,
    position: Position,
    record: &encode::Record<'_>,
) -> Result<usize, RowsError> {
    let size_bytes = record.size_bytes();
    if size_bytes + RECORD_FRAMING_BYTES > active.record_bytes_max {
        return Err(too_large(encoder, active, position, record));
    }
    Ok(size_bytes)
}

#[cold]
pub(super) fn unencodable(active: &Active, context: &Context<'_>, error: &EncodeError) -> RowsError {
    let Context { position, .. } = context;
    let detail =
        format!("table {} at commit {} ordinal {}: {}", active.table, position.commit, position.ordinal, Chain(error));
    RowsError::Halt(Halt::new(Reason::RowUnencodable, detail).over(position.commit, position.commit))
}

#[cold]
fn too_large(encoder: &Encoder, active: &Active, position: Position, record: &encode::Record<'_>) -> RowsError {
    let largest = encoder
        .largest_column(&active.plan)
        .map_or_else(String::new, |(column, bytes)| format!("; the largest column is `{column}` with {bytes} bytes"));
    let detail = format!(
        "table {} at commit {} ordinal {}: a record of {} bytes (key hash {:08x}) where {} takes {}{largest}",
        active.table,
        position.commit,
        position.ordinal,
        record.size_bytes(),
        record.key.map_or(0, encode::murmur2),
        active.plan.topic(),
        active.record_bytes_max,
    );
    RowsError::Halt(Halt::new(Reason::RecordTooLarge, detail).over(position.commit, position.commit))
}
