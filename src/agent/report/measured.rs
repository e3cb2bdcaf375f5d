//! Takes measurements: how the loop spends its time, how long one message of each burst takes, how
//! long one record at a time waits for its acknowledgement, and librdkafka's statistics.

use super::{Phase, Reporter, gauge};
use crate::agent::pace::Spent;
use crate::kafka::Statistics;
use crate::ledger::Ticket;
use crate::lsn::PgMicros;
use crate::metrics::Stage;
use crate::rows::Burst;
use crate::status::Moment;
use std::time::Instant;

impl Reporter {
    /// Charges the time since the last call to the purpose `spent`.
    pub fn lap(&mut self, spent: Spent) {
        self.pace.lap(Instant::now(), spent, &self.metrics.stages);
    }

    /// Counts the frames of a burst, and takes its measured times. `last` is the ticket of the
    /// burst's newest record. The time until this record is acknowledged is measured, unless
    /// another record is being measured.
    pub fn burst(&mut self, burst: &Burst, last: Option<Ticket>) {
        self.metrics.received_messages.inc_by(burst.frames as u64);
        if let Some((decode, encode)) = burst.measured {
            self.pace.measured(decode, encode, &self.metrics.stages);
        }
        if let Some(ticket) = last
            && self.answers.measured.is_none()
        {
            self.answers.measured = Some((ticket, Instant::now()));
        }
    }

    /// Counts bytes that arrived from the server.
    pub fn received(&self, bytes: usize) {
        self.metrics.received_bytes.inc_by(bytes as u64);
    }

    /// Measures how long the first message of a read was on its way from the server. `sent_at` is
    /// `None` if the read brought no message.
    pub fn arrived(&self, sent_at: Option<PgMicros>, now_micros: i64) {
        if let Some(sent_at) = sent_at {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a difference of clocks in microseconds"
            )]
            self.metrics
                .stages
                .took(Stage::Source, (now_micros - sent_at.unix_micros()) as f64 / 1e6);
        }
    }

    /// Measures how long the planning took that began at `since`.
    pub fn looked_up(&mut self, since: Instant) {
        let took = since.elapsed();
        self.metrics.stages.took(Stage::Registry, took.as_secs_f64());
        tracing::debug!(took_ms = took.as_millis(), "looked up what a plan needs");
    }

    /// Forgets the record that is measured and the last counters, because the producer has ended.
    pub fn producer_ended(&mut self) {
        self.answers.measured = None;
        self.answers.counters = Statistics::default();
    }

    /// Takes new statistics of librdkafka. The counters of librdkafka begin anew with each
    /// producer. So our counters rise by the difference to the last statistics.
    pub fn kafka(&mut self, now: Statistics) {
        let before = std::mem::replace(&mut self.answers.counters, now);
        let kafka = &self.metrics.kafka;
        kafka.queue_records.set(gauge(now.queue_records));
        kafka.queue_bytes.set(gauge(now.queue_bytes));
        kafka.brokers_up.set(gauge(now.brokers_up));
        kafka.queue_seconds.set(now.queue_seconds);
        kafka.round_trip_seconds.set(now.round_trip_seconds);
        kafka.sent_bytes.inc_by(now.sent_bytes.saturating_sub(before.sent_bytes));
        kafka.retries.inc_by(now.retries.saturating_sub(before.retries));
        kafka.timeouts.inc_by(now.timeouts.saturating_sub(before.timeouts));
        kafka.disconnects.inc_by(now.disconnects.saturating_sub(before.disconnects));
    }

    /// Updates the rates, the stages and the chart in the status, at most once a second.
    pub(super) fn flow(&mut self, now_ms: i64) {
        self.status.now_ms = now_ms;
        if !self.flow.is_due(now_ms) {
            return;
        }
        self.flow.read(now_ms, &self.metrics);
        self.status.rates = self.flow.rates();
        self.status.delay = self.flow.delay();
        self.status.stages = self.flow.stages(&self.metrics);
        for (name, table) in &mut self.status.tables {
            self.flow.table(now_ms, name, table);
        }
        let status = &self.status;
        let moment = || Moment {
            at_ms: now_ms,
            lag_seconds: status.lag_seconds,
            lag_bytes: status.lag_bytes,
            delivered: status.rates.delivered,
            streaming: status.phase == Phase::Streaming,
            phase: status.phase,
        };
        if let Some(history) = self.flow.moment(moment, now_ms) {
            self.status.history = history;
        }
    }
}
