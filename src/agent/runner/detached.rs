//! Detaches tables that were refused, and plans them again when an operator asks for their repair.

use super::clock::unix_nanos;
use super::needs::Place;
use super::{PlanningTask, Runner};
use crate::agent::request::reply;
use crate::change::Position;
use crate::change::{RelationShape, RelationSlot};
use crate::continuity::Trouble;
use crate::continuity::detached::{Cause, Detached, Detachments, Refusal};
use crate::continuity::{Granted, Halt, Reason, Refused, Reply};
use crate::core::Event;
use crate::ledger::RouteId;
use crate::lsn::{Lsn, Oid};
use crate::plans::QuarantineTopic;
use crate::plans::{self, PlanMaker, Planned};
use crate::table::TableName;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// The detached tables, and the repairs that were asked for.
#[derive(Default)]
pub(super) struct Detaching {
    pub tables: Detachments,
    /// `Detached` records that have to be written before the stream is read again, by table.
    first: BTreeMap<String, Detached>,
    /// Repairs that were asked for, oldest first, each with the reply that waits for it.
    asked: VecDeque<(TableName, Option<Reply>)>,
    /// The repair whose table is being planned.
    repair: Option<Repair>,
}

struct Repair {
    table: TableName,
    detached: Detached,
    reply: Option<Reply>,
}

impl Runner {
    fn detached_key(&self, table: &str) -> String {
        Detached::key(&self.config.slot, table)
    }

    /// Takes the detached tables of the state when a connection is proven. Tables that are not
    /// captured any more are left out.
    ///
    /// Returns the keys of records that have no meaning any more.
    pub(super) fn open_detached(
        &mut self,
        recorded: &BTreeMap<String, Detached>,
        epoch: u64,
        captured: &[TableName],
    ) -> Vec<String> {
        self.tables.detaching.first.retain(|table, _| !recorded.contains_key(table));
        let is_captured = |name: &String| captured.iter().any(|table| table.to_string() == *name);
        // A record counts as removed while its removal waits to be written.
        let going = self.backfills.copies.unwritten();
        let is_going = |name: &String| going.get(&self.detached_key(name)) == Some(&None);
        let (held, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = recorded
            .clone()
            .into_iter()
            .partition(|(name, _)| is_captured(name) && !is_going(name));
        self.tables.detaching.tables = Detachments::resume(epoch, held);
        for (table, detached) in
            self.tables.detaching.tables.iter().filter(|(_, detached)| detached.is_quarantined())
        {
            let (from, next) = (detached.commit, detached.next(table));
            tracing::warn!(
                table, reason = detached.reason, %from, next,
                "detached: the changes of the table go to the quarantine topic"
            );
        }
        gone.keys().map(|name| self.detached_key(name)).collect()
    }

    /// Adjusts the copies of detached tables, after the copies of the state were resumed. A table
    /// under repair has a copy, and any other detached table has none.
    pub(super) fn open_repairs(&mut self, captured: &[TableName]) {
        let now_ms = unix_nanos() / 1_000_000;
        for table in captured {
            let name = table.to_string();
            match self.tables.detaching.tables.get(&name) {
                Some(detached) if detached.is_quarantined() => {
                    self.backfills.copies.detached(&name)
                }
                Some(_) => {
                    if !self.backfills.copies.is_copying(&name) {
                        self.backfills.copies.begin(table, None, false, now_ms, None);
                    }
                    self.backfills.copies.repairs(&name);
                }
                None => {}
            }
        }
    }

    fn shape_of(&self, slot: RelationSlot) -> Option<(String, RelationShape)> {
        let shape = self.live.as_ref()?.shapes.get(&slot)?.clone();
        Some((format!("{}.{}", shape.namespace, shape.name), shape))
    }

    /// Starts the task that plans a relation that the stream announces. The task plans the
    /// quarantine topic instead if the relation's table is detached.
    pub(super) fn plan_relation(
        &self,
        plan_maker: PlanMaker,
        slot: RelationSlot,
        shape: RelationShape,
        at: Position,
    ) -> PlanningTask {
        let place = Place::Relation(slot, shape.oid);
        let table = format!("{}.{}", shape.namespace, shape.name);
        let detached = self.tables.detaching.tables.get(&table);
        let quarantined = detached.filter(|detached| detached.is_quarantined()).cloned();
        let mut ahead = self
            .live
            .as_ref()
            .map_or_else(Vec::new, |live| plans::announced_in(live.stream.payloads_ahead()));
        ahead.retain(|shape| {
            let table = format!("{}.{}", shape.namespace, shape.name);
            self.tables.detaching.tables.get(&table).is_none()
        });
        tokio::spawn(
            async move { (place, plan_maker.announced(shape, at, quarantined, ahead).await) },
        )
    }

    /// Starts the task that detaches a table, because one of its changes cannot be sent. The task
    /// writes the `Detached` record before the change goes to the quarantine topic. If the cause is
    /// a refused plan, the task plans the table once more, and detaches it only if the plan is
    /// refused again.
    pub(super) fn plan_detached(
        &self,
        plan_maker: PlanMaker,
        slot: RelationSlot,
        at: Position,
        cause: Cause,
    ) -> PlanningTask {
        let place = Place::Relation(slot, Oid(0));
        let Some((table, shape)) = self.shape_of(slot) else {
            // This case does not occur. The shape is known, because a row comes after the
            // announcement of its relation.
            return tokio::spawn(
                async move { (place, (plan_maker, Ok(plans::Outcome::Unchanged))) },
            );
        };
        let (key, now_ms) = (self.detached_key(&table), unix_nanos() / 1_000_000);
        let place = Place::Relation(slot, shape.oid);
        let tables = self.tables.detaching.tables.clone();
        let refusal = match cause {
            Cause::Plan => {
                return tokio::spawn(async move {
                    let record = |refusal: &Refusal| tables.record(&table, refusal, at, now_ms);
                    (place, plan_maker.plan_or_detach(shape, key, record).await)
                });
            }
            Cause::Change(refusal) => refusal,
            // The existing record of the table names its cause.
            Cause::Recorded => Refusal { reason: "", detail: String::new() },
        };
        let detached = tables.record(&table, &refusal, at, now_ms);
        tokio::spawn(async move {
            (place, plan_maker.quarantine(shape, Some(detached), Some(key)).await)
        })
    }

    /// Takes the plan of the quarantine topic. The changes of the detached table, or the one
    /// skipped change, are then sent to this topic.
    pub(super) fn quarantine_planned(&mut self, place: Place, set: plans::QuarantinePlan) {
        let (slot, oid) = match place {
            Place::Relation(slot, oid) | Place::Skip(slot, oid) => (slot, oid),
            Place::SkipMessage => return self.message_quarantine_planned(set),
            _ => return,
        };
        let Some((table, _)) = self.shape_of(slot) else { return };
        let plans::QuarantinePlan { quarantine, name, topic, partitions, detached } = set;
        let quarantine_topic = QuarantineTopic {
            quarantine,
            floor: Position::default(),
            route: self.route_of(&name),
            record_bytes_max: self.record_bytes_max(topic.as_ref()),
            table: table.as_str().into(),
            topic: name.into(),
            partitions,
        };
        self.exchange_producer();
        let Some(detached) = detached else {
            let Some(live) = &mut self.live else { return };
            return live.rows.skip_to(slot, Rc::new(quarantine_topic));
        };
        let known = self.tables.detaching.tables.get(&table);
        if known.is_none_or(|known| *known != detached) {
            let (from, ordinal, next) = (detached.commit, detached.ordinal, detached.next(&table));
            tracing::warn!(
                table, reason = detached.reason, %from, ordinal, next,
                "detached: {}", detached.detail
            );
            self.reporter.newly_detached(&detached, &next);
        }
        self.tables.detaching.tables.recorded(&table, detached);
        let quarantine_topic = QuarantineTopic {
            floor: self.tables.detaching.tables.floor(&table),
            ..quarantine_topic
        };
        self.tables.actives.remove(&oid);
        self.backfills.copies.detached(&table);
        if let Some(live) = &mut self.live {
            live.rows.planned(slot, Planned::Detached(Rc::new(quarantine_topic)));
        }
    }

    /// Takes the plan of the quarantine topic. Skipped logical messages are then sent to this
    /// topic.
    fn message_quarantine_planned(&mut self, set: plans::QuarantinePlan) {
        let plans::QuarantinePlan { quarantine, name, topic, partitions, detached: _ } = set;
        let quarantine_topic = QuarantineTopic {
            table: quarantine.table().into(),
            quarantine,
            floor: Position::default(),
            route: self.route_of(&name),
            record_bytes_max: self.record_bytes_max(topic.as_ref()),
            topic: name.into(),
            partitions,
        };
        self.exchange_producer();
        if let Some(live) = &mut self.live {
            live.rows.skip_messages_to(Rc::new(quarantine_topic));
        }
    }

    /// Notes that a table's plan is refused. The next change of the table will detach it.
    pub(super) fn relation_refused(&mut self, slot: RelationSlot, trouble: &Trouble) {
        let Some((table, _)) = self.shape_of(slot) else { return };
        self.reporter.refused(&table, trouble);
        if let Some(live) = &mut self.live {
            live.rows.planned(slot, Planned::Refused);
        }
    }

    /// Detaches the tables of a topic, because Kafka refuses records of the topic for good or has
    /// lost some. The records about the detached tables are written before the stream is read
    /// again. The stream halts if no table has this topic.
    pub(super) fn detach_topic(&mut self, route: RouteId, from: Position, reason: Reason) {
        let Some(topic) = self.outlet.routes.get(route.0 as usize) else {
            unreachable!("a record went by a route that no topic has: {route:?}")
        };
        let detail = match reason {
            Reason::OffsetsWentBack => {
                format!("topic `{topic}` gave out offsets again that it had acknowledged")
            }
            _ => format!("Kafka refused records for topic `{topic}` again"),
        };
        let refusal = Refusal { reason: reason.code(), detail };
        let now_ms = unix_nanos() / 1_000_000;
        let tables: Vec<String> = self
            .tables
            .actives
            .values()
            .filter(|active| active.goes_to(route))
            .map(|active| active.table.to_string())
            .collect();
        if tables.is_empty() {
            return self.apply(Event::Halt(
                Halt::new(reason, refusal.detail).over(from.commit, from.commit),
            ));
        }
        for table in tables {
            let detached = self.tables.detaching.tables.record(&table, &refusal, from, now_ms);
            tracing::warn!(
                table, reason = refusal.reason, from = %detached.commit,
                "detached: {}", refusal.detail
            );
            self.reporter.newly_detached(&detached, &detached.next(&table));
            self.tables.detaching.first.insert(table, detached);
        }
    }

    /// Returns the `Detached` records, by key, that have to be written before the stream is read
    /// again.
    pub(super) fn detached_first(&self) -> BTreeMap<String, Option<String>> {
        let first = self.tables.detaching.first.iter();
        first
            .map(|(table, detached)| (self.detached_key(table), Some(detached.to_json())))
            .collect()
    }

    /// Queues the repairs of detached tables. A request with a condition is refused, because a copy
    /// of some rows repairs no table.
    pub(super) fn begin_repairs(
        &mut self,
        tables: Vec<TableName>,
        filter: Option<&str>,
        mut reply: Option<Reply>,
    ) {
        if filter.is_some() {
            let names = tables.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ");
            let why = format!(
                "{names}: detached. A copy of some rows repairs no table; ask without a condition"
            );
            return reply
                .into_iter()
                .for_each(|reply| reply.send(Err(Refused::Faulty(why.clone()))));
        }
        for table in tables {
            self.tables.detaching.asked.push_back((table, reply.take()));
        }
    }

    /// Whether a table is detached or being repaired.
    pub(super) fn is_detached(&self, table: &str) -> bool {
        self.tables.detaching.tables.get(table).is_some()
    }

    /// Ends the repairs whose copies are complete, and begins the next repair that was asked for by
    /// planning its table again.
    pub(super) fn repair_next(&mut self) {
        for table in self.backfills.copies.take_repaired() {
            if let Some(detached) = self.tables.detaching.tables.forget(&table) {
                tracing::info!(
                    table, from = %detached.commit,
                    "the table is repaired: its topic has each row, and may also have rows that \
                     were deleted in the gap"
                );
                self.reporter.repaired(&table);
            }
        }
        let ready = self.tasks.planning.is_none()
            && self.live.as_ref().is_some_and(|live| live.plan_maker.is_some());
        if !ready {
            return;
        }
        let Some((table, reply)) = self.tables.detaching.asked.pop_front() else { return };
        let (name, now_ms) = (table.to_string(), unix_nanos() / 1_000_000);
        let Some(detached) = self.tables.detaching.tables.repair(&name, now_ms) else {
            // An ordinary copy follows, because the table was repaired meanwhile.
            self.backfills.copies.begin(&table, None, false, now_ms, reply);
            return;
        };
        let keyed = (self.detached_key(&name), detached.clone());
        let Some(live) = &mut self.live else { return };
        let is_table = |shape: &RelationShape| {
            *shape.namespace == *table.namespace && *shape.name == *table.name
        };
        let told = live
            .shapes
            .iter()
            .find(|(_, shape)| is_table(shape))
            .map(|(slot, shape)| (*slot, shape.clone()));
        let Some(plan_maker) = live.plan_maker.take() else { return };
        let place = Place::Repair(told.as_ref().map(|(slot, shape)| (*slot, shape.oid)));
        self.tables.planning_since = std::time::Instant::now();
        self.tasks.planning = Some(tokio::spawn(async move {
            (place, plan_maker.reattach(told.map(|(_, shape)| shape), keyed).await)
        }));
        self.tables.detaching.repair = Some(Repair { table, detached, reply });
    }

    /// Takes the outcome of planning a table for its repair. A planned table is copied, unless it
    /// is an outbox. A refused table stays detached.
    pub(super) fn repair_planned(
        &mut self,
        told: Option<(RelationSlot, Oid)>,
        outcome: plans::Outcome,
    ) {
        let Some(Repair { table, detached, reply: asked }) = self.tables.detaching.repair.take()
        else {
            return;
        };
        let name = table.to_string();
        let planned = match outcome {
            plans::Outcome::Ready(ready) => {
                self.reporter.planned(&ready);
                Some(self.activate(*ready))
            }
            plans::Outcome::Unchanged => None,
            plans::Outcome::Refused(trouble) => {
                return not_repaired(&name, asked, format!("{}; {}", trouble.detail, trouble.next));
            }
            plans::Outcome::Routed(..) | plans::Outcome::Halts(_) => {
                unreachable!("a repair plans a table by its catalog, not a topic of it")
            }
            plans::Outcome::Excluded | plans::Outcome::Quarantine(_) => {
                return not_repaired(
                    &name,
                    asked,
                    "it is not captured by the configuration".to_owned(),
                );
            }
        };
        self.exchange_producer();
        if let (Some(active), Some((slot, oid)), Some(live)) = (planned, told, &mut self.live) {
            live.rows.planned(slot, Planned::Active(active.clone()));
            self.table_active(oid, &active);
        }
        if self.config.encode.is_outbox(&table) {
            return reply_to(asked, Ok(self.outbox_repaired(&name, detached.commit)));
        }
        tracing::info!(
            table = name, from = %detached.commit,
            "the repair of a detached table begins: its changes flow, and a copy brings what its \
             topic lacks"
        );
        let note = format!(
            "rows deleted since {} stay in its topic: topic `{}` holds their deletes",
            detached.commit,
            self.config.encode.quarantine_topic()
        );
        self.tables.detaching.tables.recorded(&name, detached);
        let (told_by_copy, answer) = reply();
        tokio::spawn(async move {
            let answer = answer.await.map(|Granted(said)| Granted(format!("{said}; {note}")));
            reply_to(asked, answer);
        });
        self.backfills.copies.begin(
            &table,
            None,
            false,
            unix_nanos() / 1_000_000,
            Some(told_by_copy),
        );
        self.backfills.copies.repairs(&name);
    }

    /// Ends the repair of an outbox when its changes flow. A copy would send events again that
    /// consumers already have. So an operator decides about the events in the quarantine topic.
    fn outbox_repaired(&mut self, name: &str, from: Lsn) -> Granted {
        tracing::info!(
            table = name, %from,
            "taken up again: its changes flow, an outbox is not copied"
        );
        self.tables.detaching.tables.forget(name);
        self.backfills.copies.forget_detached(name);
        let topic = self.config.encode.quarantine_topic();
        Granted(format!(
            "{name} is taken up again and its changes flow; an outbox is not copied: topic \
             `{topic}` holds its events since {from}, insert those again that consumers lack"
        ))
    }

    /// Refuses the repair that is being planned, because the connection is closed.
    pub(super) fn repair_interrupted(&mut self) {
        if let Some(Repair { reply, .. }) = self.tables.detaching.repair.take() {
            let why = "the connection to Postgres was lost: ask again".to_owned();
            reply_to(reply, Err(Refused::NotAvailable(why)));
        }
    }

    /// Forgets detached tables that are not captured any more.
    pub(super) fn forget_detached(&mut self, left: &[TableName]) {
        for table in left.iter().map(TableName::to_string) {
            if self.tables.detaching.tables.forget(&table).is_some() {
                self.backfills.copies.forget_detached(&table);
            }
        }
    }
}

fn not_repaired(table: &str, reply: Option<Reply>, why: String) {
    tracing::warn!(table, "the table stays detached: {why}");
    reply_to(reply, Err(Refused::Faulty(format!("{table} stays detached: {why}"))));
}

fn reply_to(reply: Option<Reply>, answer: crate::continuity::Answer) {
    if let Some(reply) = reply {
        reply.send(answer);
    }
}
