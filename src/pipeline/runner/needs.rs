//! What the row path has to be fetched before it goes on: plans, each by a task that has the desk meanwhile.

use super::*;
use crate::pipeline::rows::{Burst, Need};

impl Runner {
    /// A burst has ended.
    pub(super) fn worked(&mut self, burst: Burst) {
        if burst.goodbye {
            return self.broke(PipelineError::Goodbye);
        }
        if burst.frames > 0 {
            self.apply(Event::Burst { reply: burst.reply });
        }
        let Some(need) = burst.need else { return };
        let Some(desk) = self.live.as_mut().and_then(|live| live.desk.take()) else { return };
        self.planning_since = std::time::Instant::now();
        self.tasks.planning = Some(match need {
            Need::Relation(slot, shape) => {
                let oid = shape.oid;
                if let Some(live) = &mut self.live {
                    live.relations.insert(slot, oid);
                    live.shapes.insert(slot, shape.clone());
                }
                self.plan_relation(desk, slot, shape)
            }
            Need::Aside(slot, at, cause) => self.plan_aside(desk, slot, at, cause),
            Need::Skip(slot) => self.plan_skip(desk, slot),
            Need::Nullable(slot, column) => {
                let oid = self.live.as_ref().and_then(|live| live.relations.get(&slot).copied()).unwrap_or_default();
                tokio::spawn(async move { (Place::Relation(slot, oid), desk.nullable(oid, column).await) })
            }
            Need::Messages => tokio::spawn(async move { (Place::Messages, desk.messages().await) }),
            Need::Transactions => tokio::spawn(async move { (Place::Transactions, desk.transactions().await) }),
        });
    }
}
