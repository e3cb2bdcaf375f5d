//! Records that Kafka refuses permanently. The first refusal causes a replay. After the second the
//! stream halts, or the record's table is detached.

use super::{Action, Core, Rule, SECOND, Session};
use crate::change::Position;
use crate::continuity::{Halt, Reason};
use crate::ledger::{Generation, RouteId, Ticket};
use std::collections::{BTreeMap, BTreeSet};

/// Pause between the first refusal of a record and the second attempt. An authorizer or policy
/// service that fails for a few seconds has not decided against the record.
const REFUSAL_PAUSE: u64 = 5 * SECOND;

/// The records and topics that Kafka has refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Producer and Position of the first permanent failure. A second failure at that Position is
    /// not tried again.
    pub failed_at: Option<(Generation, Position)>,
    /// A change that Kafka refuses permanently, and the halt about it. The stream halts when it
    /// reaches this Position. `None` if there is no such change.
    pub blocked: Option<(Position, Halt)>,
    /// Topics whose tables may be detached.
    pub detachable: BTreeSet<RouteId>,
    /// Topics that refused a record and have accepted none since, with the producer that was
    /// refused.
    pub topics: BTreeMap<RouteId, Generation>,
}

impl Core {
    /// Notes that the tables of a topic may be detached: the operator has consented to that.
    pub fn may_detach(&mut self, route: RouteId) {
        self.refusals.detachable.insert(route);
    }

    /// Handles a failed delivery. The records that the producer sent after it are purged, and the
    /// stream is read again. A record that was refused twice is not tried again. If the record's
    /// table may be detached, one refusal is enough after an earlier refusal of the topic, as long
    /// as the topic has accepted nothing in between.
    pub(super) fn failed(
        &mut self,
        (generation, ticket): (Generation, Ticket),
        (permanent, of_topic): (bool, bool),
        actions: &mut Vec<Action>,
    ) {
        if permanent && let Some((route, position)) = self.find(generation, ticket) {
            self.refused_for_good(generation, (route, position), of_topic, actions);
        }
        // The replay that a failure of the settling producer needs has begun already.
        if generation == self.producers.generation && self.rules.keep(Rule::FailureEndsProducer) {
            self.end_producer(true, actions);
            if !matches!(self.session, Session::Draining { .. }) {
                self.lost(actions);
            }
        }
    }

    fn refused_for_good(
        &mut self,
        generation: Generation,
        (route, position): (RouteId, Position),
        of_topic: bool,
        actions: &mut Vec<Action>,
    ) {
        // Failures of the producer that failed first belong to the same attempt: only a later
        // producer makes a second attempt.
        let before = self.refusals.failed_at.filter(|(failed, _)| *failed < generation);
        // Rows of a first copy get a different ordinal in each attempt, because several readers
        // deliver them.
        let same = |failed: Position| {
            failed == position || (self.control.copying && failed.commit == position.commit)
        };
        let again = before.is_some_and(|(_, failed)| same(failed));
        let of_table = of_topic && self.refusals.detachable.contains(&route);
        let topic_again =
            self.refusals.topics.get(&route).is_some_and(|refused| *refused < generation);
        if of_table && (again || topic_again) {
            self.refusals.failed_at = None;
            self.detach(route, position, Reason::Undeliverable, actions);
        } else if again && self.rules.keep(Rule::SecondRefusalHalts) {
            let detail = format!(
                "a record of the transaction committed at {} failed again",
                position.commit
            );
            let halt = Halt::new(Reason::Undeliverable, detail)
                .over(self.ledger.confirmed(), position.commit);
            let halt = halt.of_topic(route);
            if self.control.copying || position == Position::default() {
                self.halt(halt, actions); // the stream would never reach this Position
            } else {
                self.refusals.blocked = Some((position, halt));
            }
        } else {
            if self.refusals.failed_at.is_none_or(|(failed, _)| failed < generation) {
                self.refusals.failed_at = Some((generation, position));
            }
            if of_table {
                self.refusals.topics.insert(route, generation);
            }
            self.retries.not_before = self.now.plus(REFUSAL_PAUSE);
        }
    }

    /// Handles a topic that assigned an already acknowledged offset again: it was recreated or has
    /// lost records. Which records the topic lacks is unknown. Its tables are therefore detached
    /// from the confirmed position on. A later copy repairs the topic.
    pub(super) fn began_anew(&mut self, route: RouteId, actions: &mut Vec<Action>) {
        self.offsets.forget(route);
        let from = Position { commit: self.updates.flushed, ordinal: 0 };
        self.detach(route, from, Reason::OffsetsWentBack, actions);
        self.lost(actions);
    }

    fn detach(
        &mut self,
        route: RouteId,
        from: Position,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        self.refusals.detachable.remove(&route);
        self.refusals.topics.remove(&route);
        actions.push(Action::Detach { route, from, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Committed;
    use crate::continuity::Resume;
    use crate::continuity::checkpoint::{Checkpoint, sample};
    use crate::core::{Event, LastStop, Moment, Opened, Outcome, Report, Settings};
    use crate::lsn::{Lsn, PgMicros, Xid};

    const NOW: Moment = Moment(SECOND);
    const OWN: RouteId = RouteId(0);
    const OTHER: RouteId = RouteId(1);

    fn settings() -> Settings {
        Settings {
            status_interval: 10 * SECOND,
            hold: 0,
            freeze: 60 * SECOND,
            budget_bytes: 1 << 20,
            stop_patience: SECOND,
            seed: 1,
        }
    }

    fn open(core: &mut Core) {
        let record = Checkpoint { confirmed: Lsn::new(1000), sent: Lsn::new(1000), ..sample() };
        let resume = Resume::at_slot(Lsn::new(1000), None);
        let (slot_confirmed, last_stop) = (resume.from, LastStop::Clean);
        let opened =
            Opened { resume, slot_confirmed, record, last_stop, unix_ms: 0, ends: Vec::new() };
        core.apply(core.now.plus(SECOND), Event::Opened(Box::new(opened)));
        core.apply(core.now, Event::RecordWritten);
        assert!(core.is_streaming());
    }

    fn streaming() -> Core {
        let mut core = Core::new(settings(), NOW);
        core.apply(NOW, Event::Tick);
        open(&mut core);
        core
    }

    fn sent(core: &mut Core, route: RouteId, commit: u64) -> Ticket {
        let ticket = core.next_ticket();
        core.sent(route, Position { commit: Lsn::new(commit), ordinal: 0 }, 10);
        ticket
    }

    fn report(core: &mut Core, ticket: Ticket, outcome: Outcome) -> Vec<Action> {
        core.reports(core.now, &[Report { ticket, generation: core.generation(), outcome }])
    }

    const REFUSED: Outcome = Outcome::Failed { permanent: true, of_topic: true };

    /// Settles the producer and reads the stream again.
    fn again(core: &mut Core) {
        core.apply(core.now, Event::Settled { unanswered: 0 });
        core.apply(core.now.plus(2 * SECOND), Event::Tick);
        open(core);
    }

    fn detached(actions: &[Action]) -> Vec<(RouteId, u64, Reason)> {
        let of = |action: &Action| match action {
            Action::Detach { route, from, reason } => Some((*route, from.commit.bytes(), *reason)),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    }

    #[test]
    fn a_second_refusal_detaches_where_allowed_and_else_halts() {
        for allowed in [true, false] {
            let mut core = streaming();
            if allowed {
                core.may_detach(OWN);
            }
            for round in 0..2 {
                // Two records of one change fail together, which counts as one attempt.
                let tickets = [sent(&mut core, OWN, 1010), sent(&mut core, OWN, 1010)];
                let generation = core.generation();
                let first = report(&mut core, tickets[0], REFUSED);
                let other = Report { ticket: tickets[1], generation, outcome: REFUSED };
                let second = core.reports(core.now, &[other]);
                let expected = if allowed && round == 1 {
                    vec![(OWN, 1010, Reason::Undeliverable)]
                } else {
                    Vec::new()
                };
                assert_eq!(
                    (detached(&first), detached(&second)),
                    (expected, Vec::new()),
                    "{round}"
                );
                let at = Position { commit: Lsn::new(1010), ordinal: 0 };
                assert_eq!(core.blocks(at).is_some(), !allowed && round == 1);
                again(&mut core);
            }
        }
    }

    #[test]
    fn a_topic_that_takes_nothing_is_detached() {
        let mut core = streaming();
        core.may_detach(OWN);
        core.may_detach(OTHER);
        let ticket = sent(&mut core, OWN, 1010);
        assert_eq!(detached(&report(&mut core, ticket, REFUSED)), []);
        again(&mut core);
        let ticket = sent(&mut core, OTHER, 1020);
        assert_eq!(detached(&report(&mut core, ticket, REFUSED)), []);
        again(&mut core);
        let ticket = sent(&mut core, OWN, 1030);
        assert_eq!(
            detached(&report(&mut core, ticket, REFUSED)),
            [(OWN, 1030, Reason::Undeliverable)]
        );
        again(&mut core);
        // A topic that has accepted a record since its refusal is not detached as a whole.
        let ticket = sent(&mut core, OTHER, 1040);
        report(&mut core, ticket, Outcome::Landed { partition: 0, offset: 7 });
        let ticket = sent(&mut core, OTHER, 1050);
        assert_eq!(detached(&report(&mut core, ticket, REFUSED)), []);
        assert!(core.halted().is_none());
    }

    #[test]
    fn a_failure_that_is_not_of_one_topic_halts() {
        let mut core = streaming();
        core.may_detach(OWN);
        for _ in 0..2 {
            let ticket = sent(&mut core, OWN, 1010);
            let actions =
                report(&mut core, ticket, Outcome::Failed { permanent: true, of_topic: false });
            assert_eq!(detached(&actions), []);
            again(&mut core);
        }
        let at = Position { commit: Lsn::new(1010), ordinal: 0 };
        assert_eq!(core.blocks(at).map(|halt| halt.reason), Some(Reason::Undeliverable));
    }

    #[test]
    fn a_topic_made_anew_detaches_from_the_confirmed_position() {
        let mut core = streaming();
        core.may_detach(OWN);
        for offset in [5, 3] {
            let ticket = sent(&mut core, OWN, 1010 + offset);
            core.committed(Committed { end: Lsn::new(1020), xid: Xid(1), at: PgMicros(0) }, true)
                .unwrap();
            let actions = report(
                &mut core,
                ticket,
                Outcome::Landed { partition: 0, offset: offset.cast_signed() },
            );
            let expected =
                if offset == 3 { vec![(OWN, 1000, Reason::OffsetsWentBack)] } else { Vec::new() };
            assert_eq!(detached(&actions), expected);
        }
        assert!(core.halted().is_none() && !core.is_streaming());
        core.apply(core.now.plus(2 * SECOND), Event::Tick);
        open(&mut core);
        core.may_detach(OWN);
        let ticket = sent(&mut core, OWN, 1030);
        assert_eq!(
            detached(&report(&mut core, ticket, Outcome::Landed { partition: 0, offset: 0 })),
            []
        );
    }
}
