//! A table copied whole, at one point of the stream: where the stream stands for it, and for how long. Pure.
//!
//! A table without a key has nothing by which a streamed change and a copied row could be told to be of one row. So its rows
//! are read under a snapshot whose place in the log is known (a temporary slot's consistent point), and sent exactly when
//! the stream stands at that place: whatever committed before it is in the snapshot and was sent, whatever commits after it
//! is not, and follows the rows (`docs/internals/copies.md`).
//!
//! Before the slot is asked for, the server's insert position is noted: the point lies at or beyond it. Until the point is
//! known the stream stops before the first change of the table that commits at or beyond the noted position, since it may
//! lie beyond the point; other tables go on up to there.
//!
//! Laws, tried below against every order of events:
//! - When the first row is sent, every change of the table that commits before the point is sent, and no other one.
//! - From the first row to the delivery of the last no change of any table is sent.

use crate::ledger::Ticket;
use crate::lsn::Lsn;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The point lies at or beyond this.
    Noted(Lsn),
    /// The stream has not come to the point.
    Point(Lsn),
    /// It stands at it, while rows are sent.
    Standing(Lsn),
    /// All rows are sent, under tickets below this one.
    Leaving(Ticket),
}

/// See the module's own words.
#[derive(Clone, Debug)]
pub struct Whole {
    stage: Stage,
    /// A change of the table waits for the point to be known.
    stopped: bool,
}

impl Whole {
    /// A copy whose slot is asked for next: the server's insert position is `noted`.
    #[must_use]
    pub fn noted(noted: Lsn) -> Self {
        Whole { stage: Stage::Noted(noted), stopped: false }
    }

    /// A change of the table would be sent, of the transaction whose commit record begins at `commit`: whether it has to
    /// wait. It is asked about again after the next event.
    pub fn stops(&mut self, commit: Lsn) -> bool {
        match self.stage {
            Stage::Noted(noted) => {
                self.stopped = commit >= noted;
                self.stopped
            }
            Stage::Point(point) => commit >= point,
            Stage::Standing(_) | Stage::Leaving(_) => true,
        }
    }

    /// The slot's consistent point is known. Where the stream is has to be told next, by [`Whole::passed`] or
    /// [`Whole::began`].
    pub fn known(&mut self, point: Lsn) {
        if matches!(self.stage, Stage::Noted(_)) {
            (self.stage, self.stopped) = (Stage::Point(point), false);
        }
    }

    /// The stream stands outside of a transaction, and has sent everything that committed before `position`.
    pub fn passed(&mut self, position: Lsn) {
        self.reached(position);
    }

    /// The stream is inside the transaction whose commit record begins at `commit`, and has sent everything that committed
    /// before it.
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

    /// Whether no frame may be read.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.stopped || matches!(self.stage, Stage::Standing(_) | Stage::Leaving(_))
    }

    /// Whether the snapshot is there.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self.stage, Stage::Noted(_))
    }

    /// The point, while rows may be sent.
    #[must_use]
    pub fn may_send(&self) -> Option<Lsn> {
        match self.stage {
            Stage::Standing(point) => Some(point),
            Stage::Noted(_) | Stage::Point(_) | Stage::Leaving(_) => None,
        }
    }

    /// The last row is sent; `next` is the first ticket after it.
    pub fn sent_all(&mut self, next: Ticket) {
        self.stage = Stage::Leaving(next);
    }

    /// Whether every row is delivered: everything below `oldest` is.
    #[must_use]
    pub fn is_delivered(&self, oldest: Ticket) -> bool {
        matches!(self.stage, Stage::Leaving(below) if below <= oldest)
    }

    /// What it does now, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.stage {
            Stage::Noted(_) if self.stopped => {
                "the stream stands before a change of it until a temporary slot has its snapshot, which waits for every writing transaction".to_owned()
            }
            Stage::Noted(_) => "a temporary slot is being made, which waits for every writing transaction".to_owned(),
            Stage::Point(point) => format!("its rows are sent when the stream has come to {point}"),
            Stage::Standing(point) => format!("the stream stands at {point} until all rows are sent and delivered"),
            Stage::Leaving(_) => "all rows are sent; the stream stands until they are delivered".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A transaction: where its commit record begins and ends, and whether it changes the table and another one.
    #[derive(Clone, Debug)]
    struct Commit {
        begins: Lsn,
        ends: Lsn,
        ours: bool,
        other: bool,
    }

    /// One step of the agent's.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// The next message of the stream, if it may be read.
        Stream,
        /// The slot's point becomes known.
        Known,
        /// A row of the copy, if it may be sent.
        Row,
        /// The last row, and its delivery.
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

    /// Commits, the place among them where the position was noted, and, not before it, where the point lies.
    fn world() -> impl Strategy<Value = (Vec<Commit>, Lsn, Lsn, Lsn)> {
        let commits = prop::collection::vec((1u64..5, 1u64..5, any::<bool>(), any::<bool>()), 0..12);
        (commits, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(gaps, noted, point)| {
            let mut at = 100;
            let (mut commits, mut ends) = (Vec::new(), vec![Lsn::new(at)]);
            for (gap, length, ours, other) in gaps {
                let begins = at + gap * 8;
                at = begins + length * 8;
                commits.push(Commit { begins: Lsn::new(begins), ends: Lsn::new(at), ours, other });
                // A point is the end of a record, a commit's or one between two.
                ends.extend([Lsn::new(begins), Lsn::new(at)]);
            }
            let noted = noted.index(ends.len());
            let point = noted + point.index(ends.len() - noted);
            (commits, ends[noted], ends[point], ends[ends.len() - 1])
        })
    }

    proptest! {
        /// Goal: rows leave at the point and nowhere else, and nothing leaves between them; the stream always comes to its
        /// end. Method: every order of stream, answer, rows and deliveries; what was sent is compared with the commits.
        #[test]
        fn rows_are_sent_exactly_at_the_point(
            (commits, noted, point, last) in world(),
            before in 0usize..20,
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let stream = messages(&commits, last);
            let (mut whole, mut next, mut sent) = (None::<Whole>, 0, BTreeSet::new());
            let (mut stands, mut open) = (Lsn::ZERO, None::<usize>);
            let (mut rows, mut over, mut sent_at_first_row) = (0, false, None);
            let turns = before + stream.len() + 2;
            let drain = (0..turns).flat_map(|_| [Step::Known, Step::Stream, Step::Row, Step::End]);
            for (number, step) in steps.into_iter().chain(drain).enumerate() {
                // The slot is asked for when the stream has already come somewhere, but not beyond what was written then.
                if whole.is_none() && !over && (number >= before || next >= stream.len()
                    || matches!(stream[next], Message::Begin(at) if commits[at].begins >= noted)) {
                    whole = Some(Whole::noted(noted));
                }
                match step {
                    Step::Stream => {
                        if whole.as_ref().is_some_and(Whole::stands) { continue; }
                        let Some(message) = stream.get(next) else { continue };
                        match *message {
                            Message::Begin(at) => {
                                open = Some(at);
                                whole.iter_mut().for_each(|whole| whole.began(commits[at].begins));
                            }
                            Message::Other(at) => { sent.insert((at, false)); }
                            Message::Ours(at) => {
                                if whole.as_mut().is_some_and(|whole| whole.stops(commits[at].begins)) { continue; }
                                sent.insert((at, true));
                            }
                            Message::End(at) => {
                                (open, stands) = (None, commits[at].ends);
                                whole.iter_mut().for_each(|whole| whole.passed(stands));
                            }
                            Message::Keepalive(end) => {
                                stands = end;
                                whole.iter_mut().for_each(|whole| whole.passed(stands));
                            }
                        }
                        next += 1;
                    }
                    Step::Known => {
                        if let Some(whole) = &mut whole {
                            whole.known(point);
                            match open {
                                Some(at) => whole.began(commits[at].begins),
                                None => whole.passed(stands),
                            }
                        }
                    }
                    Step::Row => {
                        if let Some(at) = whole.as_ref().and_then(Whole::may_send) {
                            prop_assert_eq!(at, point);
                            sent_at_first_row.get_or_insert(sent.clone());
                            prop_assert_eq!(sent_at_first_row.as_ref(), Some(&sent), "a change between two rows");
                            rows += 1;
                        }
                    }
                    Step::End => {
                        if rows > 0 && let Some(of) = &mut whole {
                            of.sent_all(Ticket(5));
                            prop_assert!(of.stands() && !of.is_delivered(Ticket(4)) && of.is_delivered(Ticket(5)));
                            prop_assert_eq!(sent_at_first_row.as_ref(), Some(&sent), "a change before the delivery");
                            (whole, over) = (None, true);
                        }
                    }
                }
            }
            prop_assert!(over && next == stream.len(), "the stream stands for ever at {next} of {stream:?}");
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
        let mut whole = Whole::noted(Lsn::new(100));
        whole.began(Lsn::new(300));
        assert!(!whole.stops(Lsn::new(99)) && !whole.stands());
        assert!(whole.stops(Lsn::new(300)) && whole.stands());
        whole.known(Lsn::new(400));
        whole.began(Lsn::new(300));
        assert!(!whole.stands() && !whole.stops(Lsn::new(300)), "its transaction is in the snapshot");
        whole.began(Lsn::new(400));
        assert_eq!((whole.may_send(), whole.stands()), (Some(Lsn::new(400)), true));
    }
}
