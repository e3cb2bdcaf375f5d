//! Where a connection begins, and what the server has to send first
//! (`docs/internals/continuity.md`, "Where a connection begins").

use super::Observed;
use super::checkpoint::Checkpoint;
use crate::change::Committed;
use crate::lsn::Lsn;

/// Where a stream resumes, and the commit that the server has to send before it is trusted.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// Position from which on changes are sent: the slot's confirmed position, or one beyond it
    /// ([`begins_beyond`]).
    pub from: Lsn,
    /// True if the server begins below `from`. The changes of transactions that commit below `from`
    /// arrive again, are in Kafka, and are left out. The last of these transactions is `expect`.
    pub leaves_out: bool,
    /// The commit that the server must send again before any later commit. `None` if no commit is
    /// waited for.
    pub expect: Option<Committed>,
}

impl Resume {
    /// A stream that sends everything from the slot's confirmed position on.
    #[must_use]
    pub fn at_slot(confirmed: Lsn, expect: Option<Committed>) -> Self {
        Resume { from: confirmed, leaves_out: false, expect }
    }

    /// Highest position that may be confirmed to the server before `expect` has arrived. If no
    /// changes are left out, there is no bound. If changes are left out, nothing beyond `slot`, the
    /// slot's confirmed position, may be confirmed. The reason is that these changes are in Kafka
    /// only if the server has the history of the checkpoint, and `expect` proves this.
    #[must_use]
    pub fn confirmable_unproven(&self, slot: Lsn) -> Lsn {
        if self.leaves_out { slot } else { Lsn::MAX }
    }
}

/// A position beyond the slot's confirmed position at which a connection may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// The position at which the connection may begin. Everything before it is in Kafka.
    pub from: Lsn,
    /// The commit that ends at `from` and that the server has to send again. The server then begins
    /// at the slot's confirmed position. `None` if the server may begin at `from`.
    pub proof: Option<Committed>,
}

impl Beyond {
    /// The position that START_REPLICATION asks for. At `Lsn::ZERO` the server begins at the slot's
    /// confirmed position.
    #[must_use]
    pub fn asked(&self) -> Lsn {
        if self.proof.is_some() { Lsn::ZERO } else { self.from }
    }

    /// Changes `resume` so that the connection begins at this position.
    pub fn apply(self, resume: &mut Resume) {
        resume.from = self.from;
        if let Some(proof) = self.proof {
            (resume.leaves_out, resume.expect) = (true, Some(proof));
        }
    }
}

/// Decides whether a connection may begin beyond the slot's confirmed position, and where. Every
/// change before the checkpoint's `delivered` is in Kafka. The slot's confirmed position is lower
/// while a confirm hold is open, and after a process or a server ended before the newest status
/// update was stored.
///
/// If the slot's confirmed position is exactly the checkpoint's `confirmed`, the server has stored
/// what the checkpoint says. The connection then begins at `delivered`. If the slot's position is
/// lower, the server must show that its history is the same: it must send the newest delivered
/// commit again. Only the changes up to that commit are left out.
///
/// `None` where all changes from the slot's confirmed position on must be sent: on another
/// timeline, after a late record was found, and where nothing was delivered beyond the slot or no
/// commit can prove the history.
#[must_use]
pub fn begins_beyond(record: &Checkpoint, seen: &Observed) -> Option<Beyond> {
    let slot = seen.slot.as_ref()?.confirmed?;
    if record.timeline != seen.timeline || record.foreign || record.delivered <= slot {
        return None;
    }
    if record.confirmed == slot {
        return Some(Beyond { from: record.delivered, proof: None });
    }
    let proof = record.delivered_commit.filter(|commit| comes_again(commit, slot, record, seen))?;
    Some(Beyond { from: proof.end, proof: Some(proof) })
}

/// True if a server with the history of the checkpoint must send this delivered commit again,
/// beginning at `slot`. A commit that changed only tables which are no longer captured may stay
/// away, so the result is false if any recorded table is no longer captured.
pub(super) fn comes_again(
    commit: &Committed,
    slot: Lsn,
    record: &Checkpoint,
    seen: &Observed,
) -> bool {
    let all_captured = record.tables.keys().all(|table| seen.captured.contains(table));
    all_captured && slot < commit.end
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::sample;
    use super::super::tests::{seen, slot};
    use super::*;
    use crate::lsn::{PgMicros, Xid};

    #[track_caller]
    fn begins(record: &Checkpoint, slot_at: u64, beyond: Option<Beyond>) {
        let mut now = Observed { timeline: 1, ..seen(record) };
        slot(&mut now).confirmed = Some(Lsn::new(slot_at));
        assert_eq!(begins_beyond(record, &now), beyond);
    }

    #[test]
    fn begins_beyond_the_slot_only_where_nothing_can_be_missing() {
        let record = Checkpoint { delivered: Lsn::new(1100), ..sample() };
        begins(&record, 1000, Some(Beyond { from: Lsn::new(1100), proof: None }));
        begins(&sample(), 1000, None); // nothing is delivered beyond the slot
        // the server has lost its last bytes, and no commit proves the rest
        begins(&record, 999, None);
        begins(&Checkpoint { foreign: true, ..record.clone() }, 1000, None);
        begins(&Checkpoint { timeline: 2, ..record }, 1000, None);
    }

    #[test]
    fn a_slot_left_behind_needs_the_newest_delivered_commit() {
        let proof = Committed { end: Lsn::new(1090), xid: Xid(9), at: PgMicros(1) };
        let delivered_commit = Some(proof);
        let record = Checkpoint { delivered: Lsn::new(1100), delivered_commit, ..sample() };
        let beyond = Beyond { from: proof.end, proof: Some(proof) };
        begins(&record, 900, Some(beyond));
        begins(&Checkpoint { foreign: true, ..record.clone() }, 900, None);
        begins(&Checkpoint { timeline: 2, ..record.clone() }, 900, None);
        let mut now = seen(&record);
        slot(&mut now).confirmed = Some(Lsn::new(900));
        now.captured.clear();
        assert_eq!(begins_beyond(&record, &now), None, "its tables may be captured no more");
        let mut resume = Resume::at_slot(Lsn::new(900), None);
        beyond.apply(&mut resume);
        assert_eq!(resume, Resume { from: proof.end, leaves_out: true, expect: Some(proof) });
        assert_eq!(beyond.asked(), Lsn::ZERO, "the server begins at its slot");
    }
}
