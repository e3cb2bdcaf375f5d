//! Rows that name their topic: which plan each of them has.

use super::refusals::unencodable;
use super::{Need, RowOut, Rows, RowsError};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::pgoutput::Message;
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

impl Rows {
    /// Takes the plan of a topic for the logical messages with this route.
    pub fn message_routed(&mut self, route: &str, active: Active) {
        if let Planned::Active(of) = &self.messages
            && let Some(routes) = &of.routes
        {
            routes.learn(route, active);
        }
    }
}

/// The plan that a logical message waits for. What is wrong with a message is told when it is
/// placed.
pub(super) fn message_need(messages: &Planned, message: &Message<'_>) -> Option<Need> {
    let Message::Logical { prefix, content, .. } = message else { return None };
    match messages {
        Planned::Unplanned => Some(Need::Messages),
        Planned::Active(active) => match active.routed_message(prefix, content) {
            Ok(Routed::New(router, route)) => Some(Need::MessageRoute(router, route)),
            _ => None,
        },
        _ => None,
    }
}

/// The plan of a logical message, if it is not that of all messages.
pub(super) fn message_plan(
    active: &Active,
    context: &Context<'_>,
    prefix: &str,
    content: &[u8],
) -> Result<Option<Rc<Active>>, RowsError> {
    match active.routed_message(prefix, content) {
        Ok(Routed::To(found)) => Ok(Some(found)),
        Ok(Routed::New(..)) => unreachable!("the plan of a message is made before it is placed"),
        Ok(Routed::Own | Routed::Nowhere | Routed::Unexpected) => Ok(None),
        Err(error) => Err(unencodable(active, context, &error)),
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
