//! Up to where the topics show that changes were published, once the server's timeline has changed.
//!
//! A process that is killed has sent records after its newest checkpoint, usually for up to a
//! second. A failover can undo the changes of just these records. The records themselves carry the
//! positions of their changes.

use crate::encode::placed::Placed;
use crate::lsn::Lsn;
use std::collections::BTreeSet;

/// The most transactions of which the server is asked whether they have been committed. The records
/// of some seconds have fewer. Beyond this number the lowest transaction ids are left out, because
/// their commits most likely lie furthest back.
const UNDECIDED_MAX: usize = 100_000;

/// What the records that were sent after the checkpoint show about what was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Epoch of the checkpoint. Positions of other epochs do not compare.
    pub epoch: u64,
    /// End of the timeline on which the records were sent.
    pub switch: Lsn,
    /// One beyond the highest position found; zero if none was found.
    pub upto: Lsn,
    /// Ids of transactions with a change below `switch`. Their commits may lie below or beyond
    /// `switch`.
    pub undecided: BTreeSet<u32>,
    /// Describes the first record after the checkpoint whose position cannot be read, or what was
    /// not read at all. `None` if every position was read.
    pub unplaced: Option<String>,
}

impl Published {
    /// The result before any record was read.
    #[must_use]
    pub fn new(epoch: u64, switch: Lsn) -> Self {
        let (upto, undecided, unplaced) = (Lsn::ZERO, BTreeSet::new(), None);
        Published { epoch, switch, upto, undecided, unplaced }
    }

    /// Notes the position of a record: raises `upto`, or adds the transaction to `undecided`.
    pub fn note(&mut self, placed: Placed) {
        match placed {
            Placed::Commit { epoch, commit } if epoch == self.epoch => self.reach(commit),
            Placed::Commit { .. } | Placed::Copied | Placed::Foreign => {}
            Placed::Change { lsn, .. } if lsn >= self.switch => self.reach(lsn),
            Placed::Change { xid, .. } => {
                self.undecided.extend(xid.map(|xid| xid.0));
                if self.undecided.len() > UNDECIDED_MAX {
                    self.undecided.pop_first();
                }
            }
        }
    }

    /// Notes the place of a record whose position cannot be read. Only the first place is kept.
    pub fn note_unplaced(&mut self, place: impl FnOnce() -> String) {
        self.unplaced.get_or_insert_with(place);
    }

    /// Notes that the server has no commit of one of the transactions in `undecided`. The
    /// transaction was therefore committed beyond `switch`, and the failover undid it. So `upto`
    /// rises above `switch`.
    pub fn undone(&mut self) {
        self.reach(self.switch);
    }

    /// Raises `upto` above `at`. A change at `at` is undone if the timeline ended at `at` or below.
    fn reach(&mut self, at: Lsn) {
        self.upto = self.upto.max(Lsn::new(at.bytes().saturating_add(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Xid;

    fn upto(placed: &[Placed]) -> u64 {
        let mut published = Published::new(2, Lsn::new(1000));
        placed.iter().for_each(|placed| published.note(*placed));
        published.upto.bytes()
    }

    #[test]
    fn the_highest_commit_of_the_epoch_counts() {
        let commit = |epoch, commit| Placed::Commit { epoch, commit: Lsn::new(commit) };
        assert_eq!(upto(&[commit(2, 900), commit(2, 1000), commit(2, 950), commit(1, 7000)]), 1001);
        assert_eq!(upto(&[Placed::Copied]), 0);
    }

    #[test]
    fn a_change_below_the_switch_is_decided_by_its_transaction() {
        let change = |lsn, xid| Placed::Change { lsn: Lsn::new(lsn), xid: Some(Xid(xid)) };
        let mut published = Published::new(1, Lsn::new(1000));
        published.note(change(999, 7));
        assert_eq!((published.upto, &published.undecided), (Lsn::ZERO, &[7].into()));
        published.undone();
        assert_eq!(published.upto, Lsn::new(1001));
        published.note(change(1200, 8));
        assert_eq!((published.upto, published.undecided.len()), (Lsn::new(1201), 1));
    }
}
