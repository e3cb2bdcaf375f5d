//! Records that are refused for good: a replay is tried once, then the stream halts, or their table is set aside.

use super::{Action, Core};
use crate::change::Position;
use crate::ledger::{RouteId, Ticket};
use crate::pipeline::continuity::{Halt, Reason};

impl Core {
    /// The tables of a topic may be set aside: the operator has consented to it.
    pub fn may_detach(&mut self, route: RouteId) {
        self.detachable.insert(route);
    }

    /// A record was not delivered. Twice the same one for good, or one of a topic that took nothing since it refused one,
    /// is not tried again.
    pub(super) fn failed(&mut self, ticket: Ticket, permanent: bool, of_topic: bool, actions: &mut Vec<Action>) {
        let Some((route, position)) = self.ledger.find(ticket) else { return };
        // What fails together with a producer's first failure is no second try.
        let before = self.failed_at.filter(|(generation, _)| *generation < self.generation);
        let again = before.is_some_and(|(_, failed)| failed == position);
        let of_table = permanent && of_topic && self.detachable.contains(&route);
        let topic_again = self.refused.get(&route).is_some_and(|generation| *generation < self.generation);
        if of_table && (again || topic_again) {
            self.failed_at = None;
            self.detach(route, position, Reason::Undeliverable, actions);
        } else if permanent && again {
            let detail = format!("a record of the transaction committed at {} failed again", position.commit);
            let halt = Halt::new(Reason::Undeliverable, detail).over(self.ledger.confirmed(), position.commit);
            self.halt(halt, actions);
        } else if permanent {
            if self.failed_at.is_none_or(|(generation, _)| generation < self.generation) {
                self.failed_at = Some((self.generation, position));
            }
            if of_table {
                self.refused.insert(route, self.generation);
            }
        }
        self.give_up(actions);
    }

    /// A topic gave out offsets again that it had acknowledged: it was made anew, or has lost records. What it lacks of
    /// those is unknown; its table is set aside from the confirmed position on, and a copy makes the two equal.
    pub(super) fn began_anew(&mut self, route: RouteId, actions: &mut Vec<Action>) {
        self.offsets.forget(route);
        let from = Position { commit: self.flushed, ordinal: 0 };
        self.detach(route, from, Reason::OffsetsWentBack, actions);
        self.lost(actions);
    }

    fn detach(&mut self, route: RouteId, from: Position, reason: Reason, actions: &mut Vec<Action>) {
        self.detachable.remove(&route);
        self.refused.remove(&route);
        actions.push(Action::Detach { route, from, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Committed;
    use crate::lsn::{Lsn, PgMicros, Xid};
    use crate::pipeline::continuity::Resume;
    use crate::pipeline::core::{Event, Moment, Opened, Outcome, Report, SECOND, Settings};
    use crate::pipeline::record::{Record, sample};

    const NOW: Moment = Moment(SECOND);
    const OWN: RouteId = RouteId(0);
    const OTHER: RouteId = RouteId(1);

    fn settings() -> Settings {
        Settings {
            status_interval: 10 * SECOND,
            quarantine: 0,
            freeze: 60 * SECOND,
            budget_bytes: 1 << 20,
            stop_patience: SECOND,
            seed: 1,
        }
    }

    fn open(core: &mut Core) {
        let record = Record { confirmed: Lsn::new(1000), sent: Lsn::new(1000), ..sample() };
        let resume = Resume { from: Lsn::new(1000), expect: None };
        core.apply(core.now.plus(SECOND), Event::Opened(Box::new(Opened { resume, record, clean: true })));
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

    /// The producer is settled and the stream read again.
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
    fn a_record_refused_twice_sets_its_table_aside_where_that_is_allowed_and_halts_where_not() {
        for allowed in [true, false] {
            let mut core = streaming();
            if allowed {
                core.may_detach(OWN);
            }
            for round in 0..2 {
                // Two records of one change fail together: that is one try.
                let tickets = [sent(&mut core, OWN, 1010), sent(&mut core, OWN, 1010)];
                let first = report(&mut core, tickets[0], REFUSED);
                let second = report(&mut core, tickets[1], REFUSED);
                let expected =
                    if allowed && round == 1 { vec![(OWN, 1010, Reason::Undeliverable)] } else { Vec::new() };
                assert_eq!((detached(&first), detached(&second)), (expected, Vec::new()), "{round}");
                assert_eq!(core.halted().is_some(), !allowed && round == 1);
                if core.halted().is_none() {
                    again(&mut core);
                }
            }
        }
    }

    #[test]
    fn a_topic_that_takes_nothing_is_set_aside_though_each_time_another_record_fails_first() {
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
        assert_eq!(detached(&report(&mut core, ticket, REFUSED)), [(OWN, 1030, Reason::Undeliverable)]);
        again(&mut core);
        // One that has taken a record since is not refused as a whole.
        let ticket = sent(&mut core, OTHER, 1040);
        report(&mut core, ticket, Outcome::Landed { partition: 0, offset: 7 });
        let ticket = sent(&mut core, OTHER, 1050);
        assert_eq!(detached(&report(&mut core, ticket, REFUSED)), []);
        assert!(core.halted().is_none());
    }

    #[test]
    fn what_is_not_of_a_topic_alone_halts_as_ever() {
        let mut core = streaming();
        core.may_detach(OWN);
        for _ in 0..2 {
            let ticket = sent(&mut core, OWN, 1010);
            let actions = report(&mut core, ticket, Outcome::Failed { permanent: true, of_topic: false });
            assert_eq!(detached(&actions), []);
            if core.halted().is_none() {
                again(&mut core);
            }
        }
        assert_eq!(core.halted().map(|halt| halt.reason), Some(Reason::Undeliverable));
    }

    #[test]
    fn a_topic_made_anew_sets_its_table_aside_from_the_confirmed_position_and_the_stream_goes_on() {
        let mut core = streaming();
        core.may_detach(OWN);
        for offset in [5, 3] {
            let ticket = sent(&mut core, OWN, 1010 + offset);
            core.committed(Committed { end: Lsn::new(1020), xid: Xid(1), at: PgMicros(0) }, true).unwrap();
            let actions = report(&mut core, ticket, Outcome::Landed { partition: 0, offset: offset.cast_signed() });
            let expected = if offset == 3 { vec![(OWN, 1000, Reason::OffsetsWentBack)] } else { Vec::new() };
            assert_eq!(detached(&actions), expected);
        }
        assert!(core.halted().is_none() && !core.is_streaming());
        core.apply(core.now.plus(2 * SECOND), Event::Tick);
        open(&mut core);
        core.may_detach(OWN);
        let ticket = sent(&mut core, OWN, 1030);
        assert_eq!(detached(&report(&mut core, ticket, Outcome::Landed { partition: 0, offset: 0 })), []);
    }
}
