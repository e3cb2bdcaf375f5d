//! The quarantine: how long confirming is held after an unclean stop, and what ends it (continuity.md §2).
//!
//! Bytes of an earlier producer may still land. Reading and producing go on; nothing new is recorded or confirmed until
//! the time is over and the partitions' ends show that nothing landed late, or the stream was read again because it did.

use super::{Action, Core, SECOND};
use crate::ledger::RouteId;

/// Replays that foreign writes may cause in one start: a permanent second writer must not loop us (continuity.md §2).
const FOREIGN_REPLAYS_MAX: u32 = 3;

/// Ends of partitions that could not be read are asked for again after this.
const ENDS_RETRY: u64 = SECOND;

/// What is known of the partitions' ends when a quarantine is over: late records may lie behind our last ones, where no
/// report of ours would show the jump.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ends {
    Unasked,
    Asked,
    /// Partitions whose end lies beyond what was acknowledged: ours in flight, or somebody else's.
    Beyond(Vec<(RouteId, i32, i64)>),
}

impl Core {
    /// Starts a quarantine: bytes of an earlier producer may still land.
    pub(super) fn hold(&mut self) {
        self.held_until = Some(self.now.plus(self.settings.quarantine));
        self.foreign_in_quarantine = false;
        self.ends = Ends::Unasked;
    }

    pub(super) fn ends_read(&mut self, ends: Option<Vec<(RouteId, i32, i64)>>) {
        match ends {
            Some(ends) if self.ends == Ends::Asked => self.ends = Ends::Beyond(ends),
            Some(_) => {}
            None => {
                self.ends = Ends::Unasked;
                self.held_until = self.held_until.map(|_| self.now.plus(ENDS_RETRY));
            }
        }
    }

    /// Ends a quarantine that has lasted long enough, once the partitions' ends show whether late records landed.
    pub(super) fn end_quarantine(&mut self, actions: &mut Vec<Action>) {
        match &mut self.ends {
            Ends::Unasked => {
                self.ends = Ends::Asked;
                actions.push(Action::Ends);
                return;
            }
            Ends::Asked => return,
            Ends::Beyond(beyond) => {
                beyond.retain(|&(route, partition, end)| !self.offsets.reaches(route, partition, end))
            }
        }
        if let Ends::Beyond(beyond) = &self.ends
            && let Some(&(route, ..)) = beyond.first()
        {
            if !self.ledger.is_settled() {
                return; // may be our own, acknowledged but not reported yet
            }
            self.foreign_in_quarantine = true;
            actions.push(Action::Foreign(route));
            for &(route, partition, end) in beyond {
                self.offsets.found(route, partition, end);
            }
        }
        self.held_until = None;
        if std::mem::take(&mut self.foreign_in_quarantine) && self.foreign_replays < FOREIGN_REPLAYS_MAX {
            self.foreign_replays += 1;
            actions.push(Action::Replay);
            self.lost(actions);
            self.hold(); // the replay, too, must not be overtaken
        }
    }
}
