//! What the row path has to be fetched before it goes on: plans, each by a task that has the desk meanwhile.

use super::*;
use crate::rows::{Burst, Need};

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
                // As the stream told it last: a copy may have planned what the catalog has by now.
                let shape = self.live.as_ref().and_then(|live| live.shapes.get(&slot).cloned());
                let Some(shape) = shape else { return self.give_back(desk) };
                tokio::spawn(async move { (Place::Relation(slot, shape.oid), desk.nullable(shape, column).await) })
            }
            Need::Messages => tokio::spawn(async move { (Place::Messages, desk.messages().await) }),
            Need::Transactions => tokio::spawn(async move { (Place::Transactions, desk.transactions().await) }),
        });
    }

    /// A desk that was taken for nothing.
    fn give_back(&mut self, desk: Desk) {
        if let Some(live) = &mut self.live {
            live.desk = Some(desk);
        }
    }
}
