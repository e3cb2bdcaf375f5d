//! Plans of topics that are named by a value of each row or logical message. The row path or the
//! first copy waits for these plans.

use super::Runner;
use crate::change::RelationSlot;
use crate::continuity::detached::OnRefusal;
use crate::plans::{Outcome, RouteOf};

/// Who waits for the plan of a topic.
pub(super) enum Waiting {
    /// A row of the stream, of this relation.
    Row(RelationSlot),
    /// A logical message that is an event.
    Message,
    /// The first copy of a table, by the table's index in the plan of the copy.
    Copy(usize),
}

impl Runner {
    /// Takes the plan of a topic. The rows that wait for it go on.
    pub(super) fn route_planned(&mut self, waiting: Waiting, outcome: Outcome) {
        let Outcome::Routed(ready, RouteOf { table, route }) = outcome else {
            unreachable!("`PlanMaker::route` returns no other outcome")
        };
        self.reporter.route_planned(&table, &ready);
        let metrics = self.reporter.metrics().table(&table);
        let active = self.active(*ready, table.into(), metrics);
        // Messages are of no table that could be detached.
        let is_of_table = !matches!(waiting, Waiting::Message);
        if self.config.on_refusal == OnRefusal::Detach && is_of_table {
            self.core.may_detach(active.route);
        }
        self.exchange_producer();
        match waiting {
            Waiting::Copy(table) => {
                self.reporter.trouble_over();
                if let Some(copying) = &mut self.first_copy.copying {
                    copying.routed(table, &route, active);
                }
            }
            Waiting::Message => {
                if let Some(live) = &mut self.live {
                    live.rows.message_routed(&route, active);
                }
            }
            Waiting::Row(slot) => {
                if let Some(live) = &mut self.live {
                    live.rows.routed(slot, &route, active);
                }
            }
        }
    }
}
