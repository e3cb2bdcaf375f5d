//! Skips one change on behalf of an operator. The consent is recorded first, and then the stream is
//! read again.

use super::clock::unix_nanos;
use super::needs::Place;
use super::{PlanningTask, Runner};
use crate::change::RelationSlot;
use crate::continuity::checkpoint::State;
use crate::continuity::halted::Halted;
use crate::continuity::skipped::{Consent, Skipped, beyond_bound};
use crate::continuity::{By, Granted, Refused, Reply};
use crate::core::Event;
use crate::lsn::{Lsn, Oid};
use crate::plans::keeper::KeeperError;
use crate::plans::{self, PlanMaker};
use crate::rows::Rows;

/// A consent, the reply that waits for it, and the outcome of its write.
pub(super) type Consented = (Skipped, Reply, Result<(), KeeperError>);

impl Runner {
    /// Takes an operator's request to skip the change at which the stream has halted.
    pub(super) fn on_skip_request(&mut self, consent: &Consent, reply: Reply) {
        if self.tasks.skipping.is_some() {
            return reply.send(Err(Refused::Busy));
        }
        let halt = self.core.halted().filter(|halt| halt.reason.lifting().is_by(By::Skip));
        let place = halt.and_then(|halt| Some((halt, halt.place.as_deref()?)));
        let Some((halt, place)) = place else {
            let why = "only a change at which the stream has halted (record_too_large, \
                row_unencodable) can be skipped";
            return reply.send(Err(Refused::NotAvailable(why.to_owned())));
        };
        if self.live.is_some() {
            let why = "what came before the change is still being delivered: ask again".to_owned();
            return reply.send(Err(Refused::NotAvailable(why)));
        }
        // A replica that read the halt from the state knows the epoch only from the record of the
        // halt.
        let epoch =
            halt.recorded.as_ref().map_or_else(|| self.reporter.epoch(), |recorded| recorded.epoch);
        let now_ms = unix_nanos() / 1_000_000;
        let skipped =
            match Skipped::new(place, consent, (halt.reason.code(), &halt.detail), epoch, now_ms) {
                Ok(skipped) => skipped,
                Err(why) => return reply.send(Err(Refused::Faulty(why))),
            };
        let (keeper, key) = (self.keeper.clone(), skipped.key(&self.config.slot));
        let halt_key = Halted::key(&self.config.slot);
        self.tasks.skipping = Some(tokio::spawn(async move {
            let text = skipped.to_json();
            let written = async {
                keeper.write(&key, Some(text)).await?;
                // The halt is removed second. After a crash in between the halt stands, and the
                // same command works again.
                keeper.write(&halt_key, None).await
            };
            let written = written.await;
            (skipped, reply, written)
        }));
    }

    /// Answers the request. If the consent is recorded, the stream is read again.
    pub(super) fn skip_recorded(&mut self, (skipped, reply, written): Consented) {
        let Skipped { table, commit, ordinal, by, why, .. } = &skipped;
        if let Err(error) = written {
            let why =
                format!("the consent could not be recorded: {}", crate::continuity::Chain(&error));
            return reply.send(Err(Refused::NotAvailable(why)));
        }
        tracing::warn!(table, %commit, ordinal, by, why, "an operator leaves out one change");
        let topic = self.config.encode.quarantine_topic();
        reply.send(Ok(Granted(format!(
            "{table}, commit {commit}, ordinal {ordinal}: left out of its topic and sent to \
             `{topic}` instead, recorded as {by}'s consent; the stream goes on"
        ))));
        self.apply(Event::Retry);
    }

    /// Tells the row path which skipped changes may come again on this connection. Returns the keys
    /// of the oldest skip records, which are removed, if there are more than the bound on
    /// remembered skips.
    pub(super) fn open_skipped(
        &mut self,
        state: &State,
        rows: &mut Rows,
        epoch: u64,
    ) -> Vec<String> {
        state
            .skipped
            .values()
            .filter(|skipped| skipped.epoch == epoch)
            .for_each(|skipped| rows.skip(skipped.at()));
        let confirmed = state.record.as_ref().map_or(Lsn::ZERO, |record| record.confirmed);
        beyond_bound(&state.skipped, epoch, confirmed)
    }

    /// Starts the task that plans the quarantine topic for a skipped change.
    pub(super) fn plan_skip(&self, plan_maker: PlanMaker, slot: RelationSlot) -> PlanningTask {
        let shape = self.live.as_ref().and_then(|live| live.shapes.get(&slot)).cloned();
        tokio::spawn(async move {
            match shape {
                Some(shape) => {
                    (Place::Skip(slot, shape.oid), plan_maker.quarantine(shape, None, None).await)
                }
                // This case does not occur. The shape is known, because a row comes after the
                // announcement of its relation.
                None => (Place::Skip(slot, Oid(0)), (plan_maker, Ok(plans::Outcome::Unchanged))),
            }
        })
    }
}
