//! The producer and the ledger of a connection. They begin together and end together.
//!
//! The producer ends when its connection is lost or a delivery fails. Its queued records are
//! purged, and its records in flight are awaited (`docs/internals/producers.md`, rule 1). The ended
//! producer keeps its ledger, which takes only the late reports of this producer. The next ledger
//! exists at once, but nothing is entered into it before the ended producer has settled.

use super::{Action, Core, Rule, Session};
use crate::change::Position;
use crate::ledger::{Generation, Ledger, RouteId, Ticket};

/// A producer that is being settled, with its ledger.
#[derive(Debug)]
pub(super) struct Ending {
    pub ledger: Ledger,
    pub generation: Generation,
}

/// The producers of this process: the running one, and the one before while it is settled.
#[derive(Debug)]
pub(super) struct Producers {
    /// The running producer. The ledger of the core belongs to it.
    pub generation: Generation,
    /// The first ticket that the running producer was given.
    pub first_ticket: Ticket,
    /// The previous producer with its ledger, while it is being settled.
    pub ending: Option<Ending>,
    /// True if a producer ended with unanswered records and no connection has begun since.
    pub unsettled: bool,
}

impl Default for Producers {
    fn default() -> Self {
        let (generation, first_ticket) = (Generation(1), Ticket(1));
        Producers { generation, first_ticket, ending: None, unsettled: false }
    }
}

impl Producers {
    /// True if reports of this producer still count: the running one, or the one that is being
    /// settled.
    pub fn knows(&self, generation: Generation) -> bool {
        generation == self.generation
            || self.ending.as_ref().is_some_and(|ending| ending.generation == generation)
    }
}

impl Core {
    /// True while an ended producer has not settled. Nothing is produced until then.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.producers.ending.is_some() && self.rules.keep(Rule::SettlesBeforeNext)
    }

    /// Ends the producer of this connection. A producer that was given no record serves the next
    /// connection too, unless `in_any_case` is true.
    pub(super) fn end_producer(&mut self, in_any_case: bool, actions: &mut Vec<Action>) {
        let handed = self.ledger.next_ticket() != self.producers.first_ticket;
        if self.producers.ending.is_some() {
            assert!(
                !handed || !self.rules.keep(Rule::SettlesBeforeNext),
                "records were sent while the producer before was settled"
            );
            return;
        }
        if !handed && !in_any_case {
            return;
        }
        let next = Ledger::resume(self.ledger.confirmed(), self.ledger.next_ticket());
        let ledger = std::mem::replace(&mut self.ledger, next);
        self.producers.ending = Some(Ending { ledger, generation: self.producers.generation });
        self.next_generation();
        actions.push(Action::Settle(self.producers.generation));
    }

    /// Switches to another producer while nothing is in flight. Its first records follow those of
    /// the previous producer.
    pub fn next_producer(&mut self) {
        assert!(
            self.ledger.is_settled(),
            "a producer with records in flight is settled, not exchanged"
        );
        assert!(self.producers.ending.is_none(), "two producers would run at once");
        self.next_generation();
        self.offsets.next_producer();
    }

    fn next_generation(&mut self) {
        self.producers.generation.0 += 1;
        self.producers.first_ticket = self.ledger.next_ticket();
    }

    /// Notes that the ended producer has settled. If records of it were never answered, they may
    /// still land. A hold then opens now, or with the next connection.
    pub(super) fn settled(&mut self, unanswered: usize) {
        assert!(self.producers.ending.take().is_some(), "a producer settled that had not ended");
        self.offsets.next_producer();
        self.producers.unsettled |= unanswered > 0 && self.rules.keep(Rule::UnansweredHolds);
        match &self.session {
            // A connection was opened meanwhile, so the hold begins where that connection began.
            Session::Recording(_) | Session::Streaming => {
                if std::mem::take(&mut self.producers.unsettled) {
                    self.hold();
                }
            }
            // `go_on` ends the drain once the halt is recorded as well.
            Session::Draining { .. } => {}
            Session::Closed { .. } | Session::Opening | Session::Halted(_) | Session::Stopped => {}
        }
    }

    /// Crosses off a delivered record in the ledger of its producer, and compares its offset with
    /// those before.
    pub(super) fn landed(
        &mut self,
        (generation, ticket): (Generation, Ticket),
        (partition, offset): (i32, i64),
        actions: &mut Vec<Action>,
    ) {
        let current = generation == self.producers.generation;
        let ledger = match &mut self.producers.ending {
            Some(ending) if !current => &mut ending.ledger,
            _ => &mut self.ledger,
        };
        let route = ledger.deliver(ticket);
        assert!(
            route.is_some() || !current,
            "ticket {} was reported twice, or never issued",
            ticket.0
        );
        let Some(route) = route else { return };
        self.refusals.topics.remove(&route);
        self.place(route, partition, offset, actions);
    }

    /// Finds the record of a failed delivery, and returns its route and Position. `None` for a
    /// record of a producer that has settled.
    pub(super) fn find(
        &self,
        generation: Generation,
        ticket: Ticket,
    ) -> Option<(RouteId, Position)> {
        let ending =
            self.producers.ending.as_ref().filter(|ending| ending.generation == generation);
        ending.map_or_else(|| self.ledger.find(ticket), |ending| ending.ledger.find(ticket))
    }
}
