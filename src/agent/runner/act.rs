//! Performs the actions that the core has decided.

use super::clock::unix_nanos;
use super::{Runner, SETTLE_LIMIT, backfill};
use crate::agent::open;
use crate::continuity::Chain;
use crate::continuity::checkpoint::Checkpoint;
use crate::core::{Action, Update};
use crate::kafka::{PartitionEnd, Settled};
use crate::ledger::RouteId;
use crate::lsn::PgMicros;
use crate::postgres::StandbyStatus;
use std::time::Duration;

/// The lowest limit of the time for which an ended producer waits for Kafka's answers, however
/// short confirm holds are configured.
const SETTLE_LEAST: Duration = Duration::from_secs(5);

impl Runner {
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open => {
                    let (config, keeper, troubles) =
                        (self.config.clone(), self.keeper.clone(), self.process.troubles.clone());
                    let (carried, first, author) =
                        (self.carried(), self.detached_first(), self.author());
                    self.tasks.opening = Some(tokio::spawn(async move {
                        backfill::write_all(&keeper, &first).await?;
                        open::open(&config, &keeper, &troubles, carried, &author).await
                    }));
                }
                Action::Close => self.close(),
                Action::Write(record) => self.write(*record),
                Action::RecordHalt(halt) => self.record_halt(*halt),
                Action::Update(update) => self.update(update),
                Action::Settle(_) => self.settle(),
                Action::Detach { route, from, reason } => self.detach_topic(route, from, reason),
                Action::Ends => self.ask_ends(),
                Action::Foreign(route) => {
                    self.reporter.foreign(self.outlet.routes.get(route.0 as usize))
                }
                Action::Replay => self.reporter.replay(),
                Action::Exit(stopped) => {
                    self.reporter.stopped(stopped);
                    self.process.exit = Some(stopped.into());
                }
            }
        }
    }

    /// Starts the task that ends the producer: it purges the queue of records, and waits for the
    /// requests that are in flight.
    fn settle(&mut self) {
        // There is nothing to wait for, because a producer that could not be started has sent
        // nothing.
        let Some(sink) = self.outlet.sink.take() else {
            return self.tasks.settling = Some(tokio::spawn(async { Settled { unanswered: 0 } }));
        };
        self.reporter.producer_ended();
        // Records that stay unanswered open a confirm hold. A wait that is longer than the hold
        // would gain nothing.
        let within = SETTLE_LIMIT.min(self.config.confirm_hold.max(SETTLE_LEAST));
        self.tasks.settling = Some(tokio::spawn(sink.settle(within)));
    }

    fn write(&mut self, mut record: Checkpoint) {
        let keeper = self.keeper.clone();
        record.run.clone_from(&self.process.run_id);
        (record.pending_xids, record.pending_upto) = self.backfills.copies.pending();
        // Postgres does not send again what this checkpoint confirms, so the journals of the
        // backfills are written first. A write of journals that is under way ends first, because
        // that write would overwrite the newer records.
        self.backfills.copies.take_journals();
        let (unwritten, before) = (self.backfills.copies.unwritten(), self.tasks.recording.take());
        self.tasks.writing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // A failure loses nothing: `unwritten` has every record that is not known to be
                // written.
                let _ = before.await;
            }
            backfill::write_all(&keeper, &unwritten).await?;
            keeper.write(&Checkpoint::key(&record.slot, record.term), Some(record.to_json())).await
        }));
    }

    fn update(&mut self, update: Update) {
        let Some(live) = &mut self.live else { return };
        let Update { write, flush, ask } = update;
        // A queued confirmation must not be replaced by an update that confirms nothing. The queued
        // one answers the server as well.
        if flush.is_zero() && live.confirming && live.stream.has_unsent() {
            return;
        }
        live.confirming = !flush.is_zero();
        let status = StandbyStatus { write, flush, apply: flush, reply: ask };
        live.stream.queue_status(status, PgMicros::from_unix_micros(unix_nanos() / 1000));
        self.reporter.updated();
    }

    fn ask_ends(&mut self) {
        let Some(topics) = self.outlet.topics.clone() else {
            return self.tasks.ends = Some(tokio::spawn(async { Some(Vec::new()) }));
        };
        let asked: Vec<(RouteId, String, i32)> = self
            .core
            .partitions()
            .filter_map(|(route, partition)| {
                Some((route, self.outlet.routes.get(route.0 as usize)?.clone(), partition))
            })
            .collect();
        self.tasks.ends = Some(tokio::spawn(async move {
            let places: Vec<(&str, i32)> =
                asked.iter().map(|(_, topic, p)| (topic.as_str(), *p)).collect();
            let ends = topics.end_offsets(&places).await.ok()?;
            let mut known = Vec::with_capacity(asked.len());
            for ((route, topic, partition), end) in asked.iter().zip(ends) {
                match end {
                    PartitionEnd::At(end) => known.push((*route, *partition, end)),
                    // Nothing can land in a partition that does not exist, so the confirm hold does
                    // not wait for it.
                    PartitionEnd::Gone => {
                        tracing::warn!(topic, partition, "the partition no longer exists")
                    }
                    PartitionEnd::Failed(error) => {
                        tracing::debug!(
                            topic, partition, error = %Chain(&error),
                            "the partition's end cannot be read"
                        );
                        return None; // The core asks for all ends again.
                    }
                }
            }
            Some(known)
        }));
    }
}
