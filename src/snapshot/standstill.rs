//! A standstill: decides where the stream stands for the copy of a whole table, and for how long.
//! Pure.
//!
//! Without a key, nothing shows that a streamed change and a copied row belong to the same row. So
//! the rows are read under a snapshot whose place in the WAL is known: the consistent point of a
//! temporary slot. They are sent while the stream stands at that point. Every commit before the
//! point was sent and is in the snapshot. No commit after the point is in the snapshot. The changes
//! of such a commit follow the rows (`docs/internals/copies.md`).
//!
//! The server's insert position is noted before the slot is requested. So the point lies at or
//! beyond this position. Until the point is known, the stream stops before the first change of the
//! table that commits at or beyond the noted position, because that change may lie beyond the
//! point. Other tables go on up to there.
//!
//! Laws, tried below against every order of events:
//! - When the first row is sent, all changes of the table that commit before the point are sent,
//!   and no others.
//! - From the first row to the delivery of the last row, no change of any table is sent.

use crate::ledger::Ticket;
use crate::lsn::Lsn;

/// How far a standstill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The insert position of the server was read, and this variant contains it. The consistent
    /// point of the slot is not known yet, and will be at or beyond this position.
    Noted(Lsn),
    /// The consistent point is known, and this variant contains it. The stream has not reached the
    /// point.
    Point(Lsn),
    /// The stream waits at this consistent point, and rows of the table are sent.
    Standing(Lsn),
    /// All rows of the table were sent under tickets below this one. The stream waits until these
    /// rows are delivered.
    Leaving(Ticket),
}

/// The state of one standstill.
#[derive(Clone, Debug)]
pub struct Standstill {
    stage: Stage,
    /// True if a streamed change of the table waits until the consistent point is known.
    stopped: bool,
}

impl Standstill {
    /// Begins a standstill. `noted` is the insert position of the server (on a standby, the
    /// replayed position), read before the temporary slot is requested.
    #[must_use]
    pub fn noted(noted: Lsn) -> Self {
        Standstill { stage: Stage::Noted(noted), stopped: false }
    }

    /// Returns true if a streamed change of the table has to wait. `commit` is the start of the
    /// commit record of the change's transaction. The row path asks again after the next event.
    #[must_use]
    pub fn would_stop(&self, commit: Lsn) -> bool {
        match self.stage {
            Stage::Noted(noted) => commit >= noted,
            Stage::Point(point) => commit >= point,
            Stage::Standing(_) | Stage::Leaving(_) => true,
        }
    }

    /// Notes that a change of the table waits, because [`Standstill::would_stop`] returned true. No
    /// frame is then read until the consistent point is known.
    pub fn stop(&mut self) {
        self.stopped = matches!(self.stage, Stage::Noted(_));
    }

    /// Notes the consistent point of the temporary slot. A change that waited for the point can
    /// then be tried again. The caller must then report how far the stream is, by
    /// [`Standstill::passed`] or [`Standstill::began`].
    pub fn known(&mut self, point: Lsn) {
        if matches!(self.stage, Stage::Noted(_)) {
            (self.stage, self.stopped) = (Stage::Point(point), false);
        }
    }

    /// Notes that the stream is outside of a transaction, and has sent everything that committed
    /// before `position`.
    pub fn passed(&mut self, position: Lsn) {
        self.reached(position);
    }

    /// Notes that the stream is inside the transaction whose commit record begins at `commit`, and
    /// has sent everything that committed before this transaction.
    pub fn began(&mut self, commit: Lsn) {
        self.reached(commit);
    }

    fn reached(&mut self, position: Lsn) {
        if let Stage::Point(point) = self.stage
            && position >= point
        {
            self.stage = Stage::Standing(point);
        }
    }

    /// Returns true if the agent must not read a frame of the stream. Either a change waits for the
    /// consistent point, or the stream has reached that point and not all rows of the copy are
    /// delivered.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.stopped || matches!(self.stage, Stage::Standing(_) | Stage::Leaving(_))
    }

    /// True if the consistent point of the temporary slot is known, and with it the slot's
    /// snapshot.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self.stage, Stage::Noted(_))
    }

    /// Returns the consistent point if rows of the copy may be sent now. `None` before the stream
    /// has reached the point, and after the last row was sent.
    #[must_use]
    pub fn may_send(&self) -> Option<Lsn> {
        match self.stage {
            Stage::Standing(point) => Some(point),
            Stage::Noted(_) | Stage::Point(_) | Stage::Leaving(_) => None,
        }
    }

    /// Notes that the last row of the copy was sent. `next` is the first ticket after the tickets
    /// of all these rows.
    pub fn sent_all(&mut self, next: Ticket) {
        assert!(self.may_send().is_some(), "rows are sent only while the stream stands for them");
        self.stage = Stage::Leaving(next);
    }

    /// Returns true if every row of the copy was sent and is delivered. All tickets below `oldest`
    /// are delivered.
    #[must_use]
    pub fn is_delivered(&self, oldest: Ticket) -> bool {
        matches!(self.stage, Stage::Leaving(below) if below <= oldest)
    }

    /// A sentence about the present stage, for `/status`.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.stage {
            Stage::Noted(_) if self.stopped => {
                "the stream stands before a change of it until a temporary slot has its snapshot, \
                 which waits for every writing transaction"
                    .to_owned()
            }
            Stage::Noted(_) => "a temporary slot is being made, which waits for every writing \
                transaction"
                .to_owned(),
            Stage::Point(point) => format!("its rows are sent when the stream has come to {point}"),
            Stage::Standing(point) => {
                format!("the stream stands at {point} until all rows are sent and delivered")
            }
            Stage::Leaving(_) => "all rows are sent; the stream stands until they are \
                delivered"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A transaction: start and end of its commit record, and whether it changes the copied table
    /// (`ours`) and another table.
    #[derive(Clone, Debug)]
    struct Commit {
        begins: Lsn,
        ends: Lsn,
        ours: bool,
        other: bool,
    }

    /// One step of the agent.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The agent reads the next message of the stream, if it may.
        Stream,
        /// The consistent point becomes known.
        Known,
        /// The agent sends a row of the copy, if it may.
        Row,
        /// The agent sends the last row, and the row is delivered.
        End,
    }

    #[derive(Clone, Copy, Debug)]
    enum Message {
        Begin(usize),
        Other(usize),
        Ours(usize),
        End(usize),
        Keepalive(Lsn),
    }

    fn messages(commits: &[Commit], last: Lsn) -> Vec<Message> {
        let mut all = Vec::new();
        for (at, commit) in commits.iter().enumerate() {
            all.push(Message::Begin(at));
            all.extend(commit.other.then_some(Message::Other(at)));
            all.extend(commit.ours.then_some(Message::Ours(at)));
            all.push(Message::End(at));
        }
        all.push(Message::Keepalive(last));
        all
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Stream), 1 => Just(Step::Known), 2 => Just(Step::Row), 1 => Just(Step::End)]
    }

    /// Makes random commits of a stream, a noted position, a consistent point at or beyond the
    /// noted position, and the last position of the stream.
    fn world() -> impl Strategy<Value = (Vec<Commit>, Lsn, Lsn, Lsn)> {
        let commits =
            prop::collection::vec((1u64..5, 1u64..5, any::<bool>(), any::<bool>()), 0..12);
        (commits, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(
            |(gaps, noted, point)| {
                let mut at = 100;
                let (mut commits, mut ends) = (Vec::new(), vec![Lsn::new(at)]);
                for (gap, length, ours, other) in gaps {
                    let begins = at + gap * 8;
                    at = begins + length * 8;
                    commits.push(Commit {
                        begins: Lsn::new(begins),
                        ends: Lsn::new(at),
                        ours,
                        other,
                    });
                    // A consistent point is the end of a commit record, or of a record between two
                    // commits.
                    ends.extend([Lsn::new(begins), Lsn::new(at)]);
                }
                let noted = noted.index(ends.len());
                let point = noted + point.index(ends.len() - noted);
                (commits, ends[noted], ends[point], ends[ends.len() - 1])
            },
        )
    }

    proptest! {
        /// Goal: rows are sent at the point and nowhere else, nothing is sent between them, and the
        /// stream always reaches its end. Method: any order of stream, point, rows and deliveries;
        /// the changes that were sent are compared with the commits.
        #[test]
        fn rows_are_sent_exactly_at_the_point(
            (commits, noted, point, last) in world(),
            before in 0usize..20,
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let stream = messages(&commits, last);
            let (mut standstill, mut next, mut sent) = (None::<Standstill>, 0, BTreeSet::new());
            let (mut stands, mut open) = (Lsn::ZERO, None::<usize>);
            let (mut rows, mut over, mut sent_at_first_row) = (0, false, None);
            let turns = before + stream.len() + 2;
            let drain = (0..turns).flat_map(|_| [Step::Known, Step::Stream, Step::Row, Step::End]);
            for (number, step) in steps.into_iter().chain(drain).enumerate() {
                // The slot is requested after any progress of the stream, but before the stream
                // passes the noted position.
                if standstill.is_none() && !over && (number >= before || next >= stream.len()
                    || matches!(stream[next], Message::Begin(at) if commits[at].begins >= noted)) {
                    standstill = Some(Standstill::noted(noted));
                }
                match step {
                    Step::Stream => {
                        if standstill.as_ref().is_some_and(Standstill::stands) { continue; }
                        let Some(message) = stream.get(next) else { continue };
                        match *message {
                            Message::Begin(at) => {
                                open = Some(at);
                                standstill.iter_mut().for_each(|standstill| standstill.began(commits[at].begins));
                            }
                            Message::Other(at) => { sent.insert((at, false)); }
                            Message::Ours(at) => {
                                let waits = standstill.as_mut().filter(|of| of.would_stop(commits[at].begins));
                                if let Some(standstill) = waits {
                                    standstill.stop();
                                    continue;
                                }
                                sent.insert((at, true));
                            }
                            Message::End(at) => {
                                (open, stands) = (None, commits[at].ends);
                                standstill.iter_mut().for_each(|standstill| standstill.passed(stands));
                            }
                            Message::Keepalive(end) => {
                                stands = end;
                                standstill.iter_mut().for_each(|standstill| standstill.passed(stands));
                            }
                        }
                        next += 1;
                    }
                    Step::Known => {
                        if let Some(standstill) = &mut standstill {
                            standstill.known(point);
                            match open {
                                Some(at) => standstill.began(commits[at].begins),
                                None => standstill.passed(stands),
                            }
                        }
                    }
                    Step::Row => {
                        if let Some(at) = standstill.as_ref().and_then(Standstill::may_send) {
                            prop_assert_eq!(at, point);
                            sent_at_first_row.get_or_insert(sent.clone());
                            prop_assert_eq!(sent_at_first_row.as_ref(), Some(&sent), "a change between two rows");
                            rows += 1;
                        }
                    }
                    Step::End => {
                        if rows > 0 && let Some(of) = &mut standstill {
                            of.sent_all(Ticket(5));
                            prop_assert!(of.stands() && !of.is_delivered(Ticket(4)) && of.is_delivered(Ticket(5)));
                            prop_assert_eq!(
                                sent_at_first_row.as_ref(), Some(&sent),
                                "a change before the delivery"
                            );
                            (standstill, over) = (None, true);
                        }
                    }
                }
            }
            prop_assert!(
                over && next == stream.len(),
                "the stream stands for ever at {next} of {stream:?}"
            );
            let ours = |sent: &BTreeSet<(usize, bool)>| {
                sent.iter().filter(|(_, ours)| *ours).map(|(at, _)| *at).collect::<Vec<_>>()
            };
            let contained = |(_, commit): &(usize, &Commit)| commit.ours && commit.begins < point;
            let expected: Vec<usize> = commits.iter().enumerate().filter(contained).map(|(at, _)| at).collect();
            prop_assert_eq!(ours(&sent_at_first_row.unwrap()), expected);
        }
    }

    #[test]
    fn other_tables_go_on_until_the_point_is_known() {
        let mut standstill = Standstill::noted(Lsn::new(100));
        standstill.began(Lsn::new(300));
        assert!(!standstill.would_stop(Lsn::new(99)) && !standstill.stands());
        assert!(
            standstill.would_stop(Lsn::new(300)) && !standstill.stands(),
            "a look changes nothing"
        );
        standstill.stop();
        assert!(standstill.stands());
        standstill.known(Lsn::new(400));
        standstill.began(Lsn::new(300));
        assert!(
            !standstill.stands() && !standstill.would_stop(Lsn::new(300)),
            "its transaction is in the snapshot"
        );
        standstill.began(Lsn::new(400));
        assert_eq!((standstill.may_send(), standstill.stands()), (Some(Lsn::new(400)), true));
    }
}
