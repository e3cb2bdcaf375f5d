//! Rows that cannot be sent: what is wrong with them, and whether only their table is affected.

use super::{Need, RowsError, Tools};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::continuity::detached::{Cause, OnRefusal, Refusal};
use crate::continuity::skipped::Place;
use crate::continuity::{Chain, Halt, Oversize, Reason};
use crate::encode::{self, EncodeError, Encoder};
use crate::plans::{Active, QuarantineTopic};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Bytes that a batch with one record adds on the wire: 61 for the batch, up to 36 for the record,
/// and up to 10 for each of eight headers. The broker's max.message.bytes counts the whole batch.
pub(super) const RECORD_FRAMING_BYTES: usize = 61 + 36 + 8 * 10;

/// Changes that an operator has consented to skip, and the quarantine of each relation for them.
#[derive(Default)]
pub(super) struct Skips {
    pub at: BTreeSet<Position>,
    pub ready: Vec<(RelationSlot, Rc<QuarantineTopic>)>,
}

/// Decides what happens to a change that is refused. If the operator skips it, it goes to the
/// quarantine and the result is `None`. Otherwise the result names what has to be done first, or
/// the error stays.
#[cold]
pub(super) fn instead(
    error: RowsError,
    slot: RelationSlot,
    (skips, on_refusal, text): (&Skips, OnRefusal, &mut Vec<u8>),
    context: &Context<'_>,
    row: &Row<'_>,
    tools: &mut Tools<'_>,
) -> Result<Option<Need>, RowsError> {
    let RowsError::Halt(halt) = error else { return Err(error) };
    if !matches!(halt.reason, Reason::RowUnencodable | Reason::RecordTooLarge) {
        return Err(RowsError::Halt(halt));
    }
    if skips.at.contains(&context.position) {
        let Some((_, quarantine)) = skips.ready.iter().find(|(ready, _)| *ready == slot) else {
            return Ok(Some(Need::Skip(slot)));
        };
        tracing::warn!(table = %quarantine.table, commit = %context.position.commit, ordinal = context.position.ordinal, "skipped, as an operator consented to: {}", halt.detail);
        return quarantine.out(text, context, row, tools).map(|()| None);
    }
    match on_refusal {
        OnRefusal::Stop => Err(RowsError::Halt(halt)),
        OnRefusal::Detach => {
            let refusal = Refusal { reason: halt.reason.code(), detail: halt.detail };
            Ok(Some(Need::Detach(slot, context.position, Cause::Change(refusal))))
        }
    }
}

/// Size of a record in bytes. It is an error if the record does not fit its topic.
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

/// The partition of a record. It is an error if the record names one that the topic does not have.
#[inline]
pub(super) fn partition(
    active: &Active,
    position: Position,
    record: &encode::Record<'_>,
) -> Result<i32, RowsError> {
    let Some(number) = record.partition else {
        return Ok(encode::partition(record.key, &active.table, active.partitions));
    };
    match i32::try_from(number) {
        Ok(partition) if (0..active.partitions).contains(&partition) => Ok(partition),
        _ => {
            let (table, topic) = (active.table.to_string(), active.plan.topic().to_owned());
            let error = EncodeError::NoPartition { table, topic, partitions: active.partitions };
            Err(unencodable_at(active, position, &error))
        }
    }
}

#[cold]
pub(super) fn unencodable(
    active: &Active,
    context: &Context<'_>,
    error: &EncodeError,
) -> RowsError {
    unencodable_at(active, context.position, error)
}

#[cold]
fn unencodable_at(active: &Active, position: Position, error: &EncodeError) -> RowsError {
    let detail = format!(
        "table {} at commit {} ordinal {}: {}",
        active.table,
        position.commit,
        position.ordinal,
        Chain(error)
    );
    let place = Place { table: active.table.to_string(), at: position, key_hash: None };
    RowsError::Halt(
        Halt::new(Reason::RowUnencodable, detail).over(position.commit, position.commit).at(place),
    )
}

#[cold]
fn too_large(
    encoder: &Encoder,
    active: &Active,
    position: Position,
    record: &encode::Record<'_>,
) -> RowsError {
    let largest =
        encoder.largest_column(&active.plan).map_or_else(String::new, |(column, bytes)| {
            format!("; the largest column is `{column}` with {bytes} bytes")
        });
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
    let place = Place {
        table: active.table.to_string(),
        at: position,
        key_hash: record.key.map(encode::murmur2),
    };
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let oversize = Oversize {
        topic: active.plan.topic().to_owned(),
        bytes: bytes(record.size_bytes() + RECORD_FRAMING_BYTES),
        limit_bytes: bytes(active.record_bytes_max),
    };
    let halt =
        Halt::new(Reason::RecordTooLarge, detail).over(position.commit, position.commit).at(place);
    RowsError::Halt(halt.oversized(oversize))
}
