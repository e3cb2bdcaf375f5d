//! Up to where the topics show that changes were published, once the server's timeline has changed.
//!
//! The newest checkpoint of a process that was killed is up to a second older than what this
//! process sent. A failover can undo exactly that second. The records that were sent after the
//! checkpoint say where their changes stand.

use crate::encode::placed::Placed;
use crate::lsn::Lsn;
use std::collections::BTreeSet;

/// The most transactions that are asked about. The records of some seconds have fewer. Beyond this
/// number the oldest transactions are left out, because their commits lie furthest back.
const UNDECIDED_MAX: usize = 100_000;

/// What the records after a checkpoint show.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Epoch of the checkpoint. Positions of other epochs do not compare.
    pub epoch: u64,
    /// End of the timeline on which the records were sent.
    pub switch: Lsn,
    /// One beyond the highest position found; zero if none was found.
    pub upto: Lsn,
    /// Transactions whose changes lie below `switch`, and whose commits may not.
    pub undecided: BTreeSet<u32>,
    /// A record that was sent after the checkpoint, and whose position cannot be read.
    pub unplaced: Option<String>,
}

impl Published {
    /// The result before any record was read.
    #[must_use]
    pub fn new(epoch: u64, switch: Lsn) -> Self {
        let (upto, undecided, unplaced) = (Lsn::ZERO, BTreeSet::new(), None);
        Published { epoch, switch, upto, undecided, unplaced }
    }

    /// Notes the position of a record.
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

    /// Notes a record without a position. The first one is kept.
    pub fn note_unplaced(&mut self, place: impl FnOnce() -> String) {
        self.unplaced.get_or_insert_with(place);
    }

    /// Notes that the server has no commit of a transaction in `undecided`: it lay beyond `switch`.
    pub fn undone(&mut self) {
        self.reach(self.switch);
    }

    /// The change at this position is undone if the timeline ended there or below.
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
