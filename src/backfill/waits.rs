//! Whom a copy waits for, in words for the operator.

use super::Copy;
use crate::lsn::Xid;
use crate::snapshot::visibility::FullXid;

impl Copy {
    /// Whom the first chunk waits for, where it waits for writers.
    pub(super) fn waits_of(&mut self, holders: &[(Xid, Option<i32>)], near: FullXid) {
        let words = holders.iter().map(|(xid, pid)| {
            let xid = FullXid::widen(*xid, near);
            pid.map_or_else(|| format!("xid {xid} (prepared)"), |pid| format!("xid {xid} (pid {pid})"))
        });
        self.waits =
            if self.window.journal.fresh { words.take(8).collect::<Vec<_>>().join(", ") } else { String::new() };
    }

    /// Transactions, with what is known of their writers.
    pub(super) fn in_words(&self, unseen: &[FullXid]) -> String {
        let known = |xid: &FullXid| {
            let named = self.waits.split(", ").find(|words| words.starts_with(&format!("xid {xid} ")));
            named.map_or_else(|| format!("xid {xid}"), str::to_owned)
        };
        unseen.iter().take(8).map(known).collect::<Vec<_>>().join(", ")
    }
}
