//! Records that are refused for good: a replay is tried once, then the stream halts, or their table is set aside.

use super::{Action, Core};
use crate::change::Position;
use crate::ledger::{Generation, RouteId, Ticket};
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
        if !self.settling {
            self.settling = true;
            actions.push(Action::Settle(Generation(self.generation.0 + 1)));
        }
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
