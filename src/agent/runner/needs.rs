//! Begins the row path of a connection and fetches the plans that the row path waits for. Each
//! lookup runs in a task that owns the planner until the lookup ends.

use super::Runner;
use crate::agent::supervise::PipelineError;
use crate::change::{Changes, RelationSlot};
use crate::core::{Event, Opened};
use crate::lsn::{Oid, Xid};
use crate::plans::{PlanMaker, Planned};
use crate::rows::{Burst, Need, Rows};

/// What a planning task plans. The variant decides who gets the plan.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A relation that the stream announced.
    Relation(RelationSlot, Oid),
    Messages,
    /// The topic of the records about the begin and the end of transactions.
    Transactions,
    Heartbeats,
    Notices,
    /// A table of the first copy: its index in the plan, and its relation.
    Copy(usize, Oid),
    /// One topic of a relation whose rows name their topics by a value.
    Route(RelationSlot),
    /// One topic of logical messages that are events.
    MessageRoute,
    /// One topic of a table of the first copy whose rows name their topics: the table's index in
    /// the plan of the copy.
    CopyRoute(usize),
    /// A table of a backfill: the id of the copy, and its relation.
    Window(u64, Oid),
    /// The quarantine topic for a table of which one change is skipped.
    Skip(RelationSlot, Oid),
    /// The quarantine topic for logical messages, of which one is skipped.
    SkipMessage,
    /// A detached table that is repaired, with its relation. `None` if the stream has not announced
    /// the relation yet.
    Repair(Option<(RelationSlot, Oid)>),
}

impl Runner {
    /// Makes the row path of a new connection. `xmin` is the xmin of the slot.
    pub(super) fn begin_rows(&self, opened: &Opened, xmin: Option<Xid>) -> Rows {
        let mut rows = Rows::new(Changes::resume(opened.record.sequence), self.config.on_refusal);
        rows.set_xmin(xmin);
        if opened.resume.leaves_out {
            rows.leave_out_below(opened.resume.from);
        }
        rows.messages_planned(self.tables.messages.clone());
        if !self.config.encode.rules.transactions {
            rows.transactions_planned(Planned::Excluded);
        }
        rows
    }

    /// Takes the end of a burst: tells the core, and starts the lookup that the burst waits for.
    pub(super) fn worked(&mut self, burst: Burst) {
        if burst.goodbye {
            return self.broke(PipelineError::Goodbye);
        }
        if burst.frames > 0 {
            self.apply(Event::Burst { reply: burst.reply });
        }
        let Some(need) = burst.need else { return };
        let Some(plan_maker) = self.live.as_mut().and_then(|live| live.plan_maker.take()) else {
            return;
        };
        self.tables.planning_since = std::time::Instant::now();
        self.tasks.planning =
            Some(match need {
                Need::Relation(slot, shape, at) => {
                    let oid = shape.oid;
                    if let Some(live) = &mut self.live {
                        live.relations.insert(slot, oid);
                        live.shapes.insert(slot, shape.clone());
                    }
                    self.plan_relation(plan_maker, slot, shape, at)
                }
                Need::Detach(slot, at, cause) => self.plan_detached(plan_maker, slot, at, cause),
                Need::Skip(slot) => self.plan_skip(plan_maker, slot),
                Need::SkipMessage => tokio::spawn(async move {
                    (Place::SkipMessage, plan_maker.message_quarantine().await)
                }),
                Need::Nullable(slot, column) => {
                    // The shape is the newest one of the stream. A copy may have planned a newer
                    // one from the catalog.
                    let shape = self.live.as_ref().and_then(|live| live.shapes.get(&slot).cloned());
                    let Some(shape) = shape else { return self.give_back(plan_maker) };
                    tokio::spawn(async move {
                        (Place::Relation(slot, shape.oid), plan_maker.nullable(shape, column).await)
                    })
                }
                Need::Route(slot, router, value) => tokio::spawn(async move {
                    (Place::Route(slot), plan_maker.route(router, value).await)
                }),
                Need::Messages => {
                    tokio::spawn(async move { (Place::Messages, plan_maker.messages().await) })
                }
                Need::MessageRoute(router, route) => tokio::spawn(async move {
                    (Place::MessageRoute, plan_maker.route(router, route).await)
                }),
                Need::Transactions => {
                    tokio::spawn(
                        async move { (Place::Transactions, plan_maker.transactions().await) },
                    )
                }
            });
    }

    /// Gives a planner that was taken and is not needed back to the connection.
    fn give_back(&mut self, plan_maker: PlanMaker) {
        if let Some(live) = &mut self.live {
            live.plan_maker = Some(plan_maker);
        }
    }
}
