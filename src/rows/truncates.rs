//! Truncates: one statement, each of its tables at a Position of its own.

use super::beside::Beside;
use super::held::held_out;
use super::{RowOut, RowsError, Tools, row_out};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::continuity::detached::Cause;
use crate::encode::Encoder;
use crate::pgoutput::CopyRow;
use crate::plans::{Active, Aside, Planned};
use crate::snapshot::window::Before;

/// What became of a statement.
pub(super) enum Truncated {
    /// It is done, and this says whether a record was sent.
    Done(bool),
    /// It waits for a copy.
    Held,
    /// One of its tables has to be set aside first.
    Aside(RelationSlot, Position, Cause),
}

/// Sends a statement's records, or nothing of it.
pub(super) fn truncated(
    (encoder, beside, copied, text): (&mut Encoder, &mut Beside, &mut CopyRow, &mut Vec<u8>),
    relations: &[Planned],
    slots: &[RelationSlot],
    mut context: Context<'_>,
    tools: &mut Tools<'_>,
) -> Result<Truncated, RowsError> {
    for (slot, ordinal) in slots.iter().zip(context.position.ordinal..) {
        let position = Position { ordinal, ..context.position };
        match relations.get(slot.0) {
            Some(Planned::Refused) => return Ok(Truncated::Aside(*slot, position, Cause::Plan)),
            Some(Planned::Aside(aside)) if position < aside.floor => {
                return Ok(Truncated::Aside(*slot, position, Cause::Recorded));
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
                    && let Before::Rows(rows) = tools.copies.before(copy, active, &context, &Row::Truncate)
                {
                    for held in rows {
                        held_out(encoder, copied, copy, &held, &context, context.position.commit, tools)?;
                    }
                    sent = true;
                }
                sent |= truncate_out((encoder, beside), active, &context, tools)?;
            }
            Some(Planned::Aside(aside)) => {
                Aside::out(aside, text, &context, &Row::Truncate, tools)?;
                sent = true;
            }
            Some(Planned::Excluded | Planned::Unplanned | Planned::Refused) | None => {}
        }
        context.position.ordinal += 1;
    }
    Ok(Truncated::Done(sent))
}

/// A truncate has no key, which a compacted topic refuses: there it is counted instead of sent.
fn truncate_out(
    (encoder, beside): (&mut Encoder, &mut Beside),
    active: &Active,
    context: &Context<'_>,
    tools: &mut Tools<'_>,
) -> Result<bool, RowsError> {
    if active.compacted {
        tools.metrics.truncates_not_sent.inc();
        tracing::warn!(table = %active.table, topic = active.plan.topic(), "a truncate was not sent: the topic is compacted and it has no key");
        return Ok(false);
    }
    Ok(matches!(row_out((encoder, beside), active, context, &Row::Truncate, tools)?, RowOut::Sent))
}
