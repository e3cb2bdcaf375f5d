//! Rows that cannot be sent: what is wrong with them, and the changes that an operator skips.

use super::RowsError;
use crate::change::{Position, RelationSlot};
use crate::continuity::skipped::Place;
use crate::continuity::{Chain, Halt, Oversize, Reason};
use crate::encode::{self, EncodeError, Encoder};
use crate::plans::{Active, QuarantineTopic};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Bytes that a batch with one record adds on the wire: 61 for the batch, up to 36 for the record,
/// and up to 10 for each of eight headers. The broker's max.message.bytes counts the whole batch.
pub(super) const RECORD_FRAMING_BYTES: usize = 61 + 36 + 8 * 10;

/// Changes that an operator has consented to skip, and the quarantine topic of each relation for
/// these changes.
#[derive(Default)]
pub(super) struct Skips {
    pub at: BTreeSet<Position>,
    pub ready: Vec<(RelationSlot, Rc<QuarantineTopic>)>,
    /// The quarantine topic for skipped logical messages. `None` if the topic is not planned yet.
    pub messages: Option<Rc<QuarantineTopic>>,
}

impl Skips {
    /// The quarantine topic for skipped changes of a relation. `None` if the topic is not planned
    /// yet.
    pub fn topic(&self, slot: RelationSlot) -> Option<&QuarantineTopic> {
        self.ready.iter().find(|(ready, _)| *ready == slot).map(|(_, topic)| &**topic)
    }
}

/// The partition of a record. The record's change is refused if the record names a partition that
/// the topic does not have. In a sink without topics every record has partition 0.
#[inline]
pub(super) fn partition(
    active: &Active,
    position: Position,
    record: &encode::Record<'_>,
) -> Result<i32, RowsError> {
    let Some(partitions) = active.partitions else { return Ok(0) };
    let Some(number) = record.partition else {
        return Ok(encode::partition(record.key, &active.table, partitions));
    };
    match i32::try_from(number) {
        Ok(partition) if (0..partitions).contains(&partition) => Ok(partition),
        _ => {
            let (table, topic) = (active.table.to_string(), active.plan.topic().to_owned());
            let error = EncodeError::NoPartition { table, topic, partitions };
            Err(unencodable(active, position, &error))
        }
    }
}

/// Makes the halt for a change that cannot be encoded by its plan.
#[cold]
pub(super) fn unencodable(active: &Active, position: Position, error: &EncodeError) -> RowsError {
    let detail = refusal(active, position, error);
    let place = Place { table: active.table.to_string(), at: position, key_hash: None };
    RowsError::Halt(
        Halt::new(Reason::RowUnencodable, detail).over(position.commit, position.commit).at(place),
    )
}

/// Says of a change that cannot be encoded by its plan where it is, and why.
#[cold]
pub(super) fn refusal(active: &Active, position: Position, error: &EncodeError) -> String {
    format!(
        "table {} at commit {} ordinal {}: {}",
        active.table,
        position.commit,
        position.ordinal,
        Chain(error)
    )
}

/// Makes the halt for a record that is too large for its topic.
#[cold]
pub(super) fn too_large(
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
        "table {} at commit {} ordinal {}: a record of {} bytes (key hash {:08x}) where {} takes \
         {}{largest}",
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
