//! One row becomes records, which are counted and not sent yet.

use super::refusals::unencodable;
use super::{RowOut, RowsError, Tools};
use crate::change::{Context, Row};
use crate::encode::{EncodeError, Encoder};
use crate::metrics::Operation;
use crate::plans::Active;

/// Encodes the records of one row, and counts it.
#[inline]
pub(super) fn written(
    encoder: &mut Encoder,
    active: &Active,
    context: &Context<'_>,
    row: &Row<'_>,
    tools: &Tools<'_>,
) -> Result<RowOut, RowsError> {
    match encoder.row(&active.plan, context, row, tools.now_unix_nanos) {
        Ok(()) => {}
        Err(EncodeError::RequiredNull { column, .. }) => return Ok(RowOut::Needs(column)),
        Err(error) => return Err(unencodable(active, context, &error)),
    }
    if encoder.records().next().is_none() {
        return Ok(RowOut::NotPublished);
    }
    let (operation, bytes) = match row {
        Row::Insert { new } => (Operation::Insert, new.size_bytes()),
        Row::Update { new, .. } => (Operation::Update, new.size_bytes()),
        Row::Delete { old } => (Operation::Delete, old.tuple().size_bytes()),
        Row::Read { new } => (Operation::Read, new.size_bytes()),
        Row::Truncate => (Operation::Truncate, 0),
    };
    active.metrics.count(operation, 1, bytes as u64);
    if !encoder.notes().is_empty() {
        active.metrics.unrepresentable.inc_by(encoder.notes().len() as u64);
    }
    Ok(RowOut::Sent)
}
