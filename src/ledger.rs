//! The ledger of the records that have been sent to Kafka and are not yet delivered.
//!
//! The ledger answers one question: before which LSN may Postgres discard WAL? It does no IO, reads
//! no clock and never skips a failed ticket. Only `core` feeds the ledger and acts on its answer.
//!
//! Laws, asserted here and property-tested below:
//! - Tickets are issued in WAL order and delivered in any order. No ticket is issued twice in a
//!   process, not even by different producers.
//! - `confirmed` never falls, and is always the end of an entry whose tickets, and all earlier
//!   ones, are delivered.
//! - A keepalive outside a transaction is an entry without records. It is confirmed in its turn.
//! - Nothing is confirmed inside a transaction: a ticket whose commit has not been entered holds
//!   back everything after it.

use crate::change::{Committed, Position};
use crate::lsn::{Lsn, PgMicros};
use std::collections::VecDeque;

/// Number of a record in flight. It rises by one for each record that the process sends, across
/// producers, and is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Number of a producer of this process. It rises with each new producer, and each delivery report
/// carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// Number of a topic to which this process sends records: the index of the topic in the agent's
/// list of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// Memory that a record in flight costs besides its own bytes. librdkafka keeps a message of about
/// 200 bytes and four context headers of about 100 bytes each, and the ledger keeps an `InFlight`.
/// Measured with a full queue and stopped brokers: 530 bytes a record at rest. While such a queue
/// drains, the allocator's arenas hold nearly as much again.
pub const RECORD_OVERHEAD_BYTES: usize = 1024;

/// A record that was sent and is not yet removed from the ledger. It waits for its own delivery
/// report or for that of an earlier record.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    bytes: u32,
    route: RouteId,
    delivered: bool,
    position: Position,
}

/// A position (`end`) that may be confirmed once every ticket below `upto` is delivered.
#[derive(Clone, Copy, Debug)]
struct Entry {
    end: Lsn,
    /// The newest commit that became part of this entry; its end is at or below `end`. `None` if
    /// the entry has only keepalives.
    commit: Option<Committed>,
    upto: Ticket,
}

/// Tickets in flight and the positions that wait for their delivery. The head of the file states
/// the laws.
#[derive(Debug)]
pub struct Ledger {
    /// The records from the ticket `oldest` on, in ticket order. The first of them is not
    /// delivered, and later ones may be.
    in_flight: VecDeque<InFlight>,
    oldest: Ticket,
    /// Payload and overhead, in bytes, of the records that are not delivered.
    in_flight_bytes: usize,
    undelivered: usize,
    /// Positions that wait for deliveries, oldest first. Every `end` and every `upto` is at least
    /// that of the entry before.
    entries: VecDeque<Entry>,
    confirmed: Lsn,
    last_commit: Option<Committed>,
    /// End of the newest entry, whether its records are delivered or not. At first it is the floor
    /// of `resume`. The end of a later entry is never below it.
    entered: Lsn,
    /// Commit times of the entries that were confirmed since the last
    /// [`Ledger::take_acknowledged`]; at most [`ACKNOWLEDGED_MAX`]. An entry of several commits has
    /// the time of the newest one.
    acknowledged: Vec<PgMicros>,
}

/// The most commit times that are kept until `take_acknowledged`. Further times are dropped. The
/// latency histogram needs no more samples than this.
const ACKNOWLEDGED_MAX: usize = 4096;

impl Ledger {
    /// A ledger for a connection that resumes at `floor`, which is the first confirmed position.
    /// `next` is the first ticket. Tickets continue where the previous ledger of the process
    /// stopped.
    #[must_use]
    pub fn resume(floor: Lsn, next: Ticket) -> Self {
        Ledger {
            in_flight: VecDeque::new(),
            oldest: next,
            in_flight_bytes: 0,
            undelivered: 0,
            entries: VecDeque::new(),
            confirmed: floor,
            last_commit: None,
            entered: floor,
            acknowledged: Vec::new(),
        }
    }

    /// The ticket of the next record.
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        Ticket(self.oldest.0 + self.in_flight.len() as u64)
    }

    /// The first ticket that is not delivered; [`Ledger::next_ticket`] if there is none.
    #[must_use]
    pub fn oldest(&self) -> Ticket {
        self.oldest
    }

    /// Notes a record that was handed to the producer under [`Ledger::next_ticket`], and returns
    /// this ticket.
    pub fn sent(&mut self, route: RouteId, position: Position, size_bytes: usize) -> Ticket {
        let ticket = self.next_ticket();
        let bytes = size_bytes.saturating_add(RECORD_OVERHEAD_BYTES).min(u32::MAX as usize);
        self.in_flight_bytes += bytes;
        self.undelivered += 1;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.in_flight.push_back(InFlight { bytes, route, delivered: false, position });
        ticket
    }

    /// Notes the commit of a transaction whose records have all been sent, as an entry.
    pub fn committed(&mut self, commit: Committed) {
        self.enter(commit.end, Some(commit));
    }

    /// Notes a keepalive that arrived outside a transaction: everything before `end` has been
    /// received.
    ///
    /// The server may repeat an `end`. After a restart of the slot it may send one below the newest
    /// entry. Neither changes anything.
    pub fn keepalive(&mut self, end: Lsn) {
        if end > self.entered {
            self.enter(end, None);
        }
    }

    fn enter(&mut self, end: Lsn, commit: Option<Committed>) {
        let end = end.max(self.entered);
        self.entered = end;
        let upto = self.next_ticket();
        match self.entries.back_mut() {
            // No record was sent since the last entry, so the two become one. The number of entries
            // is therefore at most the number of records in flight plus one.
            Some(last) if last.upto == upto => {
                last.end = end;
                last.commit = commit.or(last.commit);
            }
            _ => self.entries.push_back(Entry { end, commit, upto }),
        }
        self.settle();
    }

    /// Marks a ticket as delivered and returns its route. `None` for a ticket of an earlier ledger,
    /// a ticket that was never issued, or a ticket reported twice.
    pub fn deliver(&mut self, ticket: Ticket) -> Option<RouteId> {
        let index = usize::try_from(ticket.0.checked_sub(self.oldest.0)?).ok()?;
        let record = self.in_flight.get_mut(index)?;
        if std::mem::replace(&mut record.delivered, true) {
            return None;
        }
        let route = record.route;
        self.in_flight_bytes -= record.bytes as usize;
        self.undelivered -= 1;
        if index == 0 {
            while self.in_flight.front().is_some_and(|r| r.delivered) {
                self.in_flight.pop_front();
                self.oldest.0 += 1;
            }
            assert!(
                self.undelivered <= self.in_flight.len(),
                "{} of {} records in flight are not delivered",
                self.undelivered,
                self.in_flight.len()
            );
            self.settle();
        }
        Some(route)
    }

    /// Route and Position of the record that was sent with this ticket. `None` for a ticket below
    /// `oldest`, or one that was never issued.
    #[must_use]
    pub fn find(&self, ticket: Ticket) -> Option<(RouteId, Position)> {
        let index = usize::try_from(ticket.0.checked_sub(self.oldest.0)?).ok()?;
        self.in_flight.get(index).map(|r| (r.route, r.position))
    }

    /// Confirms entries from the oldest on, up to the first entry that has a ticket that is not
    /// delivered.
    fn settle(&mut self) {
        while let Some(entry) = self.entries.front()
            && entry.upto <= self.oldest
        {
            assert!(
                entry.end >= self.confirmed,
                "confirmed would fall from {} to {}",
                self.confirmed,
                entry.end
            );
            self.confirmed = entry.end;
            self.last_commit = entry.commit.or(self.last_commit);
            if let Some(commit) = entry.commit
                && self.acknowledged.len() < ACKNOWLEDGED_MAX
            {
                self.acknowledged.push(commit.at);
            }
            self.entries.pop_front();
        }
        assert!(
            self.undelivered > 0 || self.entries.is_empty(),
            "{} entries wait although every record is delivered",
            self.entries.len()
        );
    }

    /// End of the newest entry whose records, and all earlier records, are delivered. It is the
    /// floor of `resume` if there is no such entry. Postgres may discard the WAL before this
    /// position.
    #[must_use]
    pub fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// The newest commit of the confirmed entries of this ledger. `None` if there is no such commit
    /// yet.
    #[must_use]
    pub fn last_commit(&self) -> Option<Committed> {
        self.last_commit
    }

    /// End of the newest commit or keepalive that was noted, whether the records before it are
    /// delivered or not. It is the floor of `resume` if there is none.
    #[must_use]
    pub fn entered(&self) -> Lsn {
        self.entered
    }

    /// The oldest commit that still waits for deliveries; `None` when no commit waits. Of several
    /// commits in one entry it is the newest.
    #[must_use]
    pub fn oldest_open_commit(&self) -> Option<Committed> {
        self.entries.iter().find_map(|entry| entry.commit)
    }

    /// Records sent and not delivered.
    #[must_use]
    pub fn in_flight_records(&self) -> usize {
        self.undelivered
    }

    /// Bytes of the records sent and not delivered, each with [`RECORD_OVERHEAD_BYTES`].
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Removes and returns the commit times that were confirmed since the last call, at most 4096.
    /// Of several commits that waited with no record between them, only the newest has its time
    /// here.
    pub fn take_acknowledged(&mut self) -> impl Iterator<Item = PgMicros> + '_ {
        self.acknowledged.drain(..)
    }

    /// True if every record that was sent is delivered.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.undelivered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Xid;
    use proptest::prelude::*;

    fn commit(end: u64) -> Committed {
        Committed { end: Lsn::new(end), xid: Xid(end as u32), at: PgMicros(end as i64) }
    }

    /// One input of the ledger. The test gives each input a position above that of the previous
    /// one.
    #[derive(Clone, Copy, Debug)]
    enum Entered {
        Records(u8),
        Commit,
        Keepalive,
    }

    fn entered() -> impl Strategy<Value = Vec<Entered>> {
        let one = prop_oneof![
            3 => (1u8..5).prop_map(Entered::Records),
            3 => Just(Entered::Commit),
            1 => Just(Entered::Keepalive),
        ];
        prop::collection::vec(one, 1..40)
    }

    /// A naive model of [`Ledger::confirmed`]: it walks the history, stops at the first undelivered
    /// record, and returns the last end before this record.
    #[derive(Default)]
    struct Model {
        history: Vec<(Option<u64>, Lsn)>, // a ticket, or an end
        delivered: std::collections::HashSet<u64>,
    }

    impl Model {
        fn confirmed(&self) -> Lsn {
            let mut confirmed = Lsn::ZERO;
            for (ticket, end) in &self.history {
                match ticket {
                    Some(ticket) if !self.delivered.contains(ticket) => break,
                    Some(_) => {}
                    None => confirmed = *end,
                }
            }
            confirmed
        }
    }

    proptest! {
        /// Goal: no order of deliveries confirms a position with an undelivered record before it,
        /// and every position is confirmed in the end. Method: interleave entries and deliveries at
        /// random, repeated and unknown tickets included, and ask a naive model after each.
        #[test]
        fn never_confirms_past_an_undelivered_ticket(script in entered(), order in prop::collection::vec(any::<u16>(), 0..200)) {
            let first = Ticket(1000);
            let (mut ledger, mut model) = (Ledger::resume(Lsn::ZERO, first), Model::default());
            let (mut at, mut order) = (0, order.into_iter());
            let mut before = Lsn::ZERO;
            for step in script {
                at += 10;
                match step {
                    Entered::Records(n) => for _ in 0..n {
                        let ticket = ledger.sent(RouteId(0), Position::default(), 1);
                        model.history.push((Some(ticket.0), Lsn::ZERO));
                    },
                    Entered::Commit => {
                        ledger.committed(commit(at));
                        model.history.push((None, Lsn::new(at)));
                    }
                    Entered::Keepalive => {
                        ledger.keepalive(Lsn::new(at));
                        model.history.push((None, Lsn::new(at)));
                    }
                }
                for pick in order.by_ref().take(3) {
                    let ticket = Ticket(first.0 - 5 + u64::from(pick) % (ledger.next_ticket().0 - first.0 + 10));
                    let known = model.history.iter().any(|(t, _)| *t == Some(ticket.0)) && !model.delivered.contains(&ticket.0);
                    prop_assert_eq!(ledger.deliver(ticket).is_some(), known);
                    if known { model.delivered.insert(ticket.0); }
                    prop_assert_eq!(ledger.confirmed(), model.confirmed());
                }
                prop_assert!(ledger.confirmed() >= before);
                before = ledger.confirmed();
                prop_assert_eq!(ledger.confirmed(), model.confirmed());
                let open = model.history.iter().filter(|(t, _)| t.is_some_and(|t| !model.delivered.contains(&t))).count();
                prop_assert_eq!(ledger.in_flight_records(), open);
            }
            for ticket in first.0..ledger.next_ticket().0 { ledger.deliver(Ticket(ticket)); model.delivered.insert(ticket); }
            prop_assert_eq!(ledger.confirmed(), model.confirmed());
            prop_assert_eq!(ledger.in_flight_bytes(), 0);
            prop_assert!(ledger.is_settled());
        }
    }

    #[test]
    fn a_report_of_an_earlier_ledger_confirms_nothing() {
        let mut before = Ledger::resume(Lsn::ZERO, Ticket(0));
        let old = before.sent(RouteId(0), Position::default(), 1);
        let mut ledger = Ledger::resume(Lsn::ZERO, before.next_ticket());
        ledger.sent(RouteId(0), Position::default(), 1);
        ledger.committed(commit(10));
        assert_eq!(ledger.deliver(old), None);
        assert_eq!(ledger.confirmed(), Lsn::ZERO);
    }

    #[test]
    fn a_keepalive_waits_for_the_records_before_it() {
        let mut ledger = Ledger::resume(Lsn::new(5), Ticket(0));
        let ticket = ledger.sent(RouteId(0), Position::default(), 1);
        ledger.committed(commit(10));
        ledger.keepalive(Lsn::new(20));
        assert_eq!(ledger.confirmed(), Lsn::new(5));
        ledger.deliver(ticket);
        assert_eq!(ledger.confirmed(), Lsn::new(20));
        assert_eq!(ledger.last_commit(), Some(commit(10)));
    }

    #[test]
    fn a_keepalive_on_an_idle_stream_is_confirmed_at_once() {
        let mut ledger = Ledger::resume(Lsn::new(5), Ticket(0));
        ledger.keepalive(Lsn::new(6));
        assert_eq!(ledger.confirmed(), Lsn::new(6));
    }

    #[test]
    fn holds_no_more_entries_than_records() {
        let mut ledger = Ledger::resume(Lsn::ZERO, Ticket(0));
        ledger.sent(RouteId(0), Position::default(), 1);
        for at in 1..10_000 {
            ledger.keepalive(Lsn::new(at));
            ledger.committed(commit(at));
        }
        assert_eq!(ledger.entries.len(), 1);
    }
}
