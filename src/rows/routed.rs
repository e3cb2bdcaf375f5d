//! Stores the plans that rows and logical messages choose by their values. A look finds such a plan
//! by a text that is made of the values: the route.

use super::Rows;
use crate::change::RelationSlot;
use crate::plans::{Active, Planned};

impl Rows {
    /// Stores the plan for the rows of a relation whose route is `value`: the text, made of a row's
    /// values, by which the plan is found.
    pub fn routed(&mut self, slot: RelationSlot, value: &str, active: Active) {
        if let Some(Planned::Active(of)) = self.plans.relations.get(slot.0)
            && let Some(routes) = &of.routes
        {
            routes.learn(value, active);
        }
    }

    /// Stores the plan for the logical messages with this route: the text, made of the content, by
    /// which the plan is found.
    pub fn message_routed(&mut self, route: &str, active: Active) {
        if let Planned::Active(of) = &self.plans.messages
            && let Some(routes) = &of.routes
        {
            routes.learn(route, active);
        }
    }
}
