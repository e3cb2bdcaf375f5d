//! Truncates: one statement can name several tables, and each table has a Position of its own.

use super::auxiliary::AuxiliaryRecords;
use super::held::held_out;
use super::{RowOut, RowsError, Tools, row_out};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::continuity::detached::Cause;
use crate::encode::Encoder;
use crate::pgoutput::CopyRow;
use crate::plans::{Active, Planned, QuarantineTopic};
use crate::snapshot::window::Before;

/// The result of a truncate statement.
pub(super) enum Truncated {
    /// The statement was handled. True if a record was sent.
    Done(bool),
    /// The statement waits for a copy.
    Held,
    /// One of its tables has to be detached first.
    Detach(RelationSlot, Position, Cause),
}

/// Sends the records of a statement, or none of them if it has to wait.
pub(super) fn truncated(
    (encoder, auxiliary, copied, text): (
        &mut Encoder,
        &mut AuxiliaryRecords,
        &mut CopyRow,
        &mut Vec<u8>,
    ),
    relations: &[Planned],
    slots: &[RelationSlot],
    mut context: Context<'_>,
    tools: &mut Tools<'_>,
) -> Result<Truncated, RowsError> {
    for (slot, ordinal) in slots.iter().zip(context.position.ordinal..) {
        let position = Position { ordinal, ..context.position };
        match relations.get(slot.0) {
            Some(Planned::Refused) => return Ok(Truncated::Detach(*slot, position, Cause::Plan)),
            Some(Planned::Detached(quarantine)) if position < quarantine.floor => {
                return Ok(Truncated::Detach(*slot, position, Cause::Recorded));
            }
            _ => {}
        }
    }
    let mut watched = slots.iter().filter_map(|slot| tools.copies.watching(*slot));
    let held = watched.any(|copy| tools.copies.would_hold(copy, context.xid));
    if held {
        tools.copies.hold();
    }
    if held || slots.iter().any(|slot| tools.copies.stops(*slot, context.position.commit)) {
        return Ok(Truncated::Held);
    }
    tools.copies.emitted(context.xid);
    let mut sent = false;
    for slot in slots {
        match relations.get(slot.0) {
            Some(Planned::Active(active)) => {
                if let Some(copy) = tools.copies.watching(*slot)
                    && let Before::Rows(rows) =
                        tools.copies.before(copy, active, &context, &Row::Truncate)
                {
                    for held in rows {
                        held_out(
                            encoder,
                            copied,
                            copy,
                            &held,
                            &context,
                            context.position.commit,
                            tools,
                        )?;
                    }
                    sent = true;
                }
                sent |= truncate_out((encoder, auxiliary), active, &context, tools)?;
            }
            Some(Planned::Detached(quarantine)) => {
                QuarantineTopic::out(quarantine, text, &context, &Row::Truncate, tools)?;
                sent = true;
            }
            Some(Planned::Excluded | Planned::Unplanned | Planned::Refused) | None => {}
        }
        context.position.ordinal += 1;
    }
    Ok(Truncated::Done(sent))
}

/// Sends the record of one table. A compacted topic refuses a truncate, because it has no key; then
/// it is counted instead.
fn truncate_out(
    (encoder, auxiliary): (&mut Encoder, &mut AuxiliaryRecords),
    active: &Active,
    context: &Context<'_>,
    tools: &mut Tools<'_>,
) -> Result<bool, RowsError> {
    if active.compacted {
        tools.metrics.truncates_not_sent.inc();
        tracing::warn!(table = %active.table, topic = active.plan.topic(), "a truncate was not sent: the topic is compacted, and the record of a truncate has no key");
        return Ok(false);
    }
    Ok(matches!(
        row_out((encoder, auxiliary), active, context, &Row::Truncate, tools)?,
        RowOut::Sent
    ))
}
