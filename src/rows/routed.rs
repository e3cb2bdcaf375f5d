//! Takes the plans of topics that rows and logical messages name by a value of theirs.

use super::Rows;
use crate::change::RelationSlot;
use crate::plans::{Active, Planned};

impl Rows {
    /// Takes the plan of the topic to which rows of a relation go if `value` is their route.
    pub fn routed(&mut self, slot: RelationSlot, value: &str, active: Active) {
        if let Some(Planned::Active(of)) = self.plans.relations.get(slot.0)
            && let Some(routes) = &of.routes
        {
            routes.learn(value, active);
        }
    }

    /// Takes the plan of the topic to which logical messages with this route go.
    pub fn message_routed(&mut self, route: &str, active: Active) {
        if let Planned::Active(of) = &self.plans.messages
            && let Some(routes) = &of.routes
        {
            routes.learn(route, active);
        }
    }
}
