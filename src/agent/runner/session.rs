//! The runner's part in a connection: it takes an open connection, hands plans on, and closes the
//! connection. It also starts and exchanges producers.

use super::clock::{now, settings, unix_nanos};
use super::needs::Place;
use super::routes::Waiting;
use super::silence::Silence;
use super::{CheckResult, Live, Opening, Runner, SETTLE_LIMIT, STATUS_INTERVAL_MAX};
use crate::agent::open::Connection;
use crate::agent::supervise::{Disposition, Exit, PipelineError, disposition};
use crate::agent::supervise::{FILE_NEXT, without_client};
use crate::continuity::TroubleReason;
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::detached::OnRefusal;
use crate::continuity::named::Named;
use crate::continuity::{Chain, Trouble};
use crate::core::SECOND;
use crate::core::{Event, Opened};
use crate::encode::Planner;
use crate::kafka::TopicInfo;
use crate::ledger::RouteId;
use crate::lsn::{Lsn, Oid};
use crate::metrics::TableMetrics;
use crate::plans::sink::Sink;
use crate::plans::{self, Active, Places, PlanMaker, Planned, Routes, SinkConfig};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::{PgError, Sql};
use crate::rows::RowsError;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Pause before a producer that could not be started is tried again.
const SINK_RETRY: u64 = SECOND;

impl Runner {
    /// Reacts to the failure of a connection, or of the attempt at one.
    pub(super) fn broke(&mut self, error: PipelineError) {
        if matches!(error, PipelineError::Rows(RowsError::Send(_))) {
            self.reporter.failed(&disposition(&error));
            // This producer takes nothing more, whatever the cause is.
            return self.apply(Event::GiveUp);
        }
        if self.is_absence(&error) {
            // The slot is not confirmed beyond the WAL at which the stream failed. With `Lsn::MAX`,
            // the range that the halt names begins at the slot's position.
            return self.lacks_publication(Lsn::MAX, Chain(&error).to_string());
        }
        self.failed(disposition(&error));
    }

    /// Reports a failure, and applies what the failure means.
    fn failed(&mut self, disposition: Disposition) {
        // An agent that stood by has logged in, read the state, and asked for the slot.
        if matches!(&disposition, Disposition::Retry(trouble) if trouble.reason == TroubleReason::Standby)
        {
            self.process.stood_by = true;
        }
        let ends =
            matches!(&disposition, Disposition::Refused(_, exit) if self.process.ends_at(*exit));
        let disposition = if ends { disposition.of_a_first_connection() } else { disposition };
        // `record_halt` reports a halt of a topic, because it knows the topic's name.
        if !matches!(&disposition, Disposition::Halt(halt) if halt.route.is_some()) {
            self.reporter.failed(&disposition);
        }
        match disposition {
            Disposition::Retry(_) => self.apply(Event::Lost { retry_later: false }),
            Disposition::Refused(_, exit) if ends => self.process.exit = Some(exit),
            Disposition::Refused(..) => self.apply(Event::Lost { retry_later: true }),
            Disposition::Halt(halt) => self.apply(Event::Halt(halt)),
        }
    }

    pub(super) fn opened(&mut self, opening: Opening) {
        let connection = match opening {
            Ok(connection) => connection,
            Err(error) => return self.broke(error),
        };
        let Connection {
            sql,
            stream,
            mut opened,
            state,
            server,
            captured,
            slot,
            timeout,
            warnings,
            copy,
            snapshot,
            ends,
            trial,
            watched,
        } = connection;
        self.checks.halts.trial = trial;
        self.checks.watch.opened(watched, opened.record.epoch);
        opened.ends = ends
            .iter()
            .map(|(topic, partition, end)| (self.route_of(topic), *partition, *end))
            .collect();
        self.reporter.opened(&self.config, &opened, &server, &sql, &captured, warnings);
        self.reporter.slot(&slot);
        self.reporter.consents(&state);
        let interval = STATUS_INTERVAL_MAX.min(timeout / 3);
        self.core.retime(settings(&self.config, interval, timeout));
        let ids = match self.schema_ids() {
            Ok(ids) => ids,
            Err(error) => {
                let trouble =
                    Trouble { next: FILE_NEXT.to_owned(), ..plans::registry_trouble(&error) };
                return self.failed(without_client(trouble, self.process.streamed));
            }
        };
        let kafka = match &self.config.sink {
            SinkConfig::Kafka(kafka) => {
                self.outlet.topics.clone().map(|topics| (topics, kafka.topics.clone()))
            }
            SinkConfig::Stdout { .. } => None,
        };
        let places = Places {
            sql: Arc::clone(&sql),
            ids,
            kafka,
            keeper: self.keeper.clone(),
            troubles: self.process.troubles.clone(),
            metrics: self.reporter.metrics().clone(),
            on_refusal: self.config.on_refusal,
        };
        let planner = Planner::new(
            self.config.encode.clone(),
            sql.database(),
            &self.process.run_id,
            opened.record.epoch,
        );
        let mut gone = self.open_detached(&state.detached, opened.record.epoch, &captured);
        let seen = super::backfill::RecordedCopies::new(&state, snapshot);
        if let Err(error) = self.follow_signals(state.obeyed.as_ref()) {
            let trouble = Trouble::new(
                TroubleReason::KafkaUnavailable,
                "the signal topic".to_owned(),
                &error,
            );
            return self.failed(without_client(trouble, self.process.streamed));
        }
        let selected = (captured.clone(), self.config.selection.clone());
        self.tables.actives.clear();
        self.tables.messages =
            if self.config.encode.messages { Planned::Unplanned } else { Planned::Excluded };
        let mut rows = self.begin_rows(&opened, slot.catalog_xmin);
        gone.extend(self.open_skipped(&state, &mut rows, opened.record.epoch));
        let mut plan_maker =
            PlanMaker::new(places, planner, selected, state.partitions, state.schemas);
        let named = Named::of(&opened.record.tables, opened.record.named_from);
        self.tables.named = Arc::new(named);
        plan_maker.recapture(&captured, &self.tables.named);
        self.checks.heartbeat.begin(self.config.heartbeat.as_ref());
        plan_maker.describe_recorded();
        let read_at = tokio::time::Instant::now();
        self.live = Some(Live {
            sql,
            stream,
            rows,
            plan_maker: Some(plan_maker),
            relations: HashMap::new(),
            shapes: HashMap::new(),
            replan: Vec::new(),
            confirming: false,
            read_at,
            silence: Silence::new(read_at),
            behind: 0,
            slot,
        });
        self.process.outdated = state.outdated;
        let previous = state.record.map(|record| Checkpoint::key(&record.slot, record.term));
        self.process.outdated.extend(previous);
        // The intent loses its meaning once the checkpoint is written: it marks a slot without a
        // checkpoint as created by our own first start.
        self.process
            .outdated
            .extend(state.intent.map(|_| Checkpoint::intent_key(&self.config.slot)));
        self.process.outdated.extend(state.copy.outdated.iter().cloned());
        self.process.outdated.extend(gone);
        self.begin_copy(copy, &state.copy);
        self.open_windows(&opened.record, &seen, &captured);
        self.tables.captured = captured;
        self.begin(opened);
    }

    fn begin(&mut self, opened: Opened) {
        self.apply(Event::Opened(Box::new(opened)));
        self.process.streamed = true;
        self.end_if_copied();
    }

    pub(super) fn close(&mut self) {
        for task in [
            self.tasks.opening.take().map(|t| t.abort_handle()),
            self.tasks.planning.take().map(|t| t.abort_handle()),
        ] {
            task.iter().for_each(tokio::task::AbortHandle::abort);
        }
        self.tasks.probing = None;
        self.take_copy_news();
        self.interrupt_copy();
        self.repair_interrupted();
        self.windows_lost();
        self.backfills.notices.lost();
        if let Some(live) = self.live.take() {
            self.tasks.closing = Some(tokio::spawn(live.stream.finish()));
        }
    }

    pub(super) fn planned(
        &mut self,
        place: Place,
        mut plan_maker: PlanMaker,
        outcome: Result<plans::Outcome, PgError>,
    ) {
        if let Some(live) = &mut self.live {
            // A reload may have changed the captured tables meanwhile.
            plan_maker.recapture(&self.tables.captured, &self.tables.named);
            live.plan_maker = Some(plan_maker);
        }
        self.reporter.looked_up(self.tables.planning_since);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.broke(error.into()),
        };
        let known = match place {
            Place::Relation(_, oid) | Place::Copy(_, oid) | Place::Window(_, oid) => {
                self.tables.actives.get(&oid).cloned()
            }
            Place::Skip(..) | Place::SkipMessage | Place::Repair(_) => None,
            Place::Messages | Place::Transactions | Place::Heartbeats | Place::Notices => None,
            Place::Route(slot) => return self.route_planned(Waiting::Row(slot), outcome),
            Place::CopyRoute(table) => return self.route_planned(Waiting::Copy(table), outcome),
            Place::MessageRoute => return self.route_planned(Waiting::Message, outcome),
        };
        if let Place::Repair(told) = place {
            return self.repair_planned(told, outcome);
        }
        let planned = match outcome {
            plans::Outcome::Unchanged => known.map_or(Planned::Excluded, Planned::Active),
            plans::Outcome::Excluded => Planned::Excluded,
            plans::Outcome::Refused(trouble) => match place {
                Place::Relation(slot, _) => return self.relation_refused(slot, &trouble),
                _ => return self.copy_refused(place, trouble),
            },
            plans::Outcome::Quarantine(set) => return self.quarantine_planned(place, *set),
            plans::Outcome::Halts(halt) => return self.broke(PipelineError::Halt(*halt)),
            plans::Outcome::Routed(..) => {
                unreachable!("the places of routes, which have returned, ask for a topic")
            }
            plans::Outcome::Ready(ready) => {
                self.reporter.planned(&ready);
                let active = self.activate(*ready);
                self.exchange_producer();
                Planned::Active(active)
            }
        };
        match place {
            Place::Window(id, oid) => {
                if let Planned::Active(active) = &planned {
                    self.table_active(oid, active);
                }
                self.window_planned(id, &planned);
            }
            Place::Copy(table, oid) => {
                if let Planned::Active(active) = planned {
                    self.tables.actives.insert(oid, active.clone());
                    self.copy_planned(table, active);
                }
            }
            Place::Relation(slot, oid) => {
                if let Planned::Active(active) = &planned {
                    self.table_active(oid, active);
                    self.backfills.copies.relation(slot, oid, active);
                    self.key_planned(active);
                }
                if let Some(live) = &mut self.live {
                    live.rows.planned(slot, planned);
                }
            }
            Place::Repair(_) | Place::Skip(..) | Place::SkipMessage => {}
            Place::Route(..) | Place::MessageRoute | Place::CopyRoute(..) => {}
            Place::Messages => {
                self.tables.messages = planned.clone();
                if let Some(live) = &mut self.live {
                    live.rows.messages_planned(planned);
                }
            }
            Place::Transactions => {
                if let Some(live) = &mut self.live {
                    live.rows.transactions_planned(planned);
                }
            }
            Place::Heartbeats => {
                if let Some(live) = &mut self.live {
                    live.rows.heartbeats_planned(planned);
                }
            }
            Place::Notices => {
                if let Some(live) = &mut self.live {
                    live.rows.notices_planned(planned);
                }
            }
        }
    }

    /// Keeps the plan by which the stream or a backfill sends a table.
    pub(super) fn table_active(&mut self, oid: Oid, active: &Active) {
        if self.config.on_refusal == OnRefusal::Detach {
            self.core.may_detach(active.route);
        }
        self.tables.actives.insert(oid, active.clone());
    }

    pub(super) fn route_of(&mut self, topic: &str) -> RouteId {
        let route =
            self.outlet.routes.iter().position(|known| known == topic).unwrap_or_else(|| {
                self.outlet.routes.push(topic.to_owned());
                self.outlet.routes.len() - 1
            });
        RouteId(u32::try_from(route).unwrap_or(u32::MAX))
    }

    /// Returns the size in bytes of the largest record that both topic and producer take. Asks for
    /// smaller batches if the topic takes less than a batch.
    pub(super) fn record_bytes_max(&mut self, topic: Option<&TopicInfo>) -> usize {
        let producer_max = match &self.config.sink {
            SinkConfig::Kafka(kafka) => kafka.message_bytes_max(),
            SinkConfig::Stdout { .. } => usize::MAX,
        };
        let topic_max = topic.and_then(|topic| topic.max_message_bytes.proven().copied());
        if let (SinkConfig::Kafka(kafka), Some(topic_max)) = (&self.config.sink, topic_max)
            && topic_max < kafka.batch_bytes_max()
        {
            self.outlet.smaller_batches = Some(topic_max);
        }
        producer_max.min(topic_max.unwrap_or(usize::MAX))
    }

    pub(super) fn activate(&mut self, ready: plans::Ready) -> Active {
        let metrics = self.reporter.metrics().table(&ready.name);
        let table = Rc::from(ready.name.as_str());
        self.active(ready, table, metrics)
    }

    /// Makes the active plan of a table, with the name and the counters of the table.
    pub(super) fn active(
        &mut self,
        ready: plans::Ready,
        table: Rc<str>,
        metrics: TableMetrics,
    ) -> Active {
        let router = ready.plan.router().cloned();
        let routes = router.map(|router| Rc::new(Routes::new(router)));
        Active {
            uses: self.ids_given(&ready),
            signals: self.signals_of(&ready),
            metrics,
            route: self.route_of(ready.plan.topic()),
            record_bytes_max: self.record_bytes_max(ready.topic.as_ref()),
            plan: Rc::new(ready.plan),
            table,
            partitions: ready.topic.is_some().then_some(ready.partitions),
            compacted: ready.topic.is_some_and(|topic| topic.is_compacted()),
            routes,
        }
    }

    /// Exchanges the producer for one with smaller batches. Nothing is sent twice, because the
    /// exchange waits until nothing is in flight.
    pub(super) fn exchange_producer(&mut self) {
        let (Some(bytes), SinkConfig::Kafka(kafka)) =
            (self.outlet.smaller_batches, &mut self.config.sink)
        else {
            return;
        };
        if !self.core.ledger().is_settled() || self.core.is_settling() || self.outlet.sink.is_none()
        {
            return;
        }
        kafka.lower_batch_bytes(bytes);
        self.outlet.smaller_batches = None;
        if let Some(sink) = self.outlet.sink.take() {
            tokio::spawn(sink.settle(SETTLE_LIMIT));
        }
        self.reporter.producer_ended();
        self.core.next_producer();
        self.ensure_sink();
    }

    pub(super) fn start_sink(&mut self) -> Result<(), Exit> {
        match Sink::start(&self.config.sink, self.core.generation(), self.outlet.deliveries.clone())
        {
            Ok(sink) => {
                self.outlet.sink = Some(sink);
                Ok(())
            }
            Err(error) => {
                self.outlet.sink_retry_at = now().plus(SINK_RETRY);
                let disposition = disposition(&PipelineError::Kafka(error));
                let waits = match disposition {
                    Disposition::Retry(trouble) | Disposition::Refused(trouble, _) => {
                        without_client(trouble, self.process.streamed)
                    }
                    halt @ Disposition::Halt(_) => halt,
                };
                self.reporter.failed(&waits);
                Err(Exit::SinkRefuses)
            }
        }
    }

    /// Starts the next producer once the one before has settled. If that fails, an agent that has
    /// streamed tries again, because somebody may be replacing a password file or a certificate at
    /// this moment. If the agent has not streamed yet, the configuration is most likely wrong, and
    /// the process ends.
    pub(super) fn ensure_sink(&mut self) {
        let wanted = self.outlet.sink.is_none()
            && self.tasks.settling.is_none()
            && self.process.exit.is_none();
        if !wanted || now() < self.outlet.sink_retry_at {
            return;
        }
        if let Err(exit) = self.start_sink()
            && !self.process.streamed
            && !self.process.stood_by
        {
            self.process.exit = Some(exit);
        }
    }

    /// Removes outdated records of the state. The next connection repeats a removal that fails.
    pub(super) fn forget_outdated(&mut self) {
        let keys = std::mem::take(&mut self.process.outdated);
        if keys.is_empty() {
            return;
        }
        let keeper = self.keeper.clone();
        tokio::spawn(async move {
            for key in keys {
                let _ = keeper.write(&key, None).await;
            }
        });
    }

    /// Brings status and metrics up to date. Replaces a Kafka client that has lost its brokers.
    pub(super) fn report(&mut self) {
        self.reporter.windows(|| (self.backfills.copies.status(), self.backfills.copies.totals()));
        if let Some(statistics) = self.outlet.sink.as_ref().and_then(super::Sink::take_statistics) {
            self.reporter.kafka(statistics);
        }
        if self.outlet.sink.as_ref().is_some_and(Sink::is_abandoned) {
            tracing::warn!(
                "Kafka's client knows no broker and takes none; it is replaced by another"
            );
            self.apply(Event::GiveUp);
        }
        self.look_for_a_login();
        let now_ms = unix_nanos() / 1_000_000;
        self.report_copy(now_ms);
        if self.reporter.is_due(now_ms) {
            self.reporter.detached(&self.tables.detaching.tables);
            self.start_checks(); // Under load no timer runs out.
        }
        self.reporter.update(&mut self.core, now_ms);
    }

    /// If brokers refuse our login, starts the task that reads the password again. The producer is
    /// replaced if the password has changed.
    fn look_for_a_login(&mut self) {
        if self.tasks.checking.is_some()
            || !self.outlet.sink.as_ref().is_some_and(super::Sink::take_refused)
        {
            return;
        }
        let mut sink = self.config.sink.clone();
        self.tasks.checking = Some(tokio::spawn(async move {
            CheckResult::Login(sink.renew().await.map(|new| new.then_some(sink)))
        }));
    }

    /// Closes the connection, and waits for the goodbye to Postgres, which carries the last status
    /// update.
    pub(super) async fn close_down(&mut self) {
        self.close();
        if let Some(closing) = self.tasks.closing.take() {
            let _ = closing.await;
        }
    }
}

/// Reads the row of the slot over a connection of its own. `None` without a slot or a connection.
pub(super) async fn read_slot(postgres: &crate::postgres::Config, slot: &str) -> Option<SlotRow> {
    let sql = Sql::connect(postgres).await.ok()?;
    slot::read(&sql, slot).await.ok()?
}
