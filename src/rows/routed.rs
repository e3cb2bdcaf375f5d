//! Rows that name their topic: which plan each of them has.

use super::refusals::unencodable;
use super::{RowOut, Rows, RowsError};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::plans::{Active, Planned, Routed};
use std::rc::Rc;

impl Rows {
    /// Takes the plan of a topic for the rows of a relation whose route has this value.
    pub fn routed(&mut self, slot: RelationSlot, value: &str, active: Active) {
        if let Some(Planned::Active(of)) = self.relations.get(slot.0)
            && let Some(routes) = &of.routes
        {
            routes.learn(value, active);
        }
    }
}

/// The plan of a row, if it is not that of its table. The inner error is the end of a row that has
/// no plan, or none yet.
#[inline]
pub(super) fn routed_by(
    active: &Active,
    context: &Context<'_>,
    row: &Row<'_>,
) -> Result<Result<Option<Rc<Active>>, RowOut>, RowsError> {
    let routed = active.routed(row).map_err(|error| unencodable(active, context, &error))?;
    Ok(match routed {
        Routed::Own => Ok(None),
        Routed::To(found) => Ok(Some(found)),
        Routed::New(router, value) => Err(RowOut::Routes(router, value)),
        Routed::Nowhere => Err(RowOut::NotPublished),
        Routed::Unexpected => {
            unexpected(active, context);
            Err(RowOut::NotPublished)
        }
    })
}

/// Tells that a row of an outbox was updated, which makes no event.
#[cold]
fn unexpected(active: &Active, context: &Context<'_>) {
    let Position { commit, ordinal } = context.position;
    tracing::warn!(table = %active.table, %commit, ordinal, "an update of an outbox row was not sent: only inserted rows are events");
}
