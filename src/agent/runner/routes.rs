//! Plans of the topics of routed tables, which the row path or the first copy waits for.

use super::Runner;
use super::session::Place;
use crate::continuity::detached::OnRefusal;
use crate::plans::{Outcome, RouteOf};

impl Runner {
    /// Takes the plan of a topic. The rows that wait for it go on.
    pub(super) fn route_planned(&mut self, place: Place, outcome: Outcome) {
        let Outcome::Ready(mut ready) = outcome else {
            unreachable!("a topic is looked up until its plan is ready")
        };
        let Some(RouteOf { table, value }) = ready.route.take() else {
            unreachable!("the plan of a topic names its route")
        };
        self.reporter.route_planned(&table, &ready);
        let metrics = self.reporter.metrics().table(&table);
        let active = self.active(*ready, table.into(), metrics);
        if self.config.on_refusal == OnRefusal::Detach {
            self.core.may_detach(active.route);
        }
        self.exchange_producer();
        match place {
            Place::CopyRoute(table) => {
                self.reporter.trouble_over();
                if let Some(copying) = &mut self.first_copy.copying {
                    copying.routed(table, &value, active);
                }
            }
            Place::Route(slot) => {
                if let Some(live) = &mut self.live {
                    live.rows.routed(slot, &value, active);
                }
            }
            _ => unreachable!("only routes are planned here"),
        }
    }
}
