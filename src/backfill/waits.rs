//! The transactions that a copy waits for, in words for the operator.

use super::Copy;
use crate::lsn::Xid;
use crate::snapshot::visibility::FullXid;

impl Copy {
    /// Notes the open transactions that the first chunk of a newly published table waits for.
    pub(super) fn waits_of(&mut self, holders: &[(Xid, Option<i32>)], near: FullXid) {
        let words = holders.iter().map(|(xid, pid)| {
            let xid = FullXid::widen(*xid, near);
            pid.map_or_else(
                || format!("xid {xid} (prepared)"),
                |pid| format!("xid {xid} (pid {pid})"),
            )
        });
        self.waits = if self.window.journal.fresh {
            words.take(8).collect::<Vec<_>>().join(", ")
        } else {
            String::new()
        };
    }

    /// Lists up to eight transactions, with the process ids that are known.
    pub(super) fn in_words(&self, unseen: &[FullXid]) -> String {
        let known = |xid: &FullXid| {
            let named =
                self.waits.split(", ").find(|words| words.starts_with(&format!("xid {xid} ")));
            named.map_or_else(|| format!("xid {xid}"), str::to_owned)
        };
        unseen.iter().take(8).map(known).collect::<Vec<_>>().join(", ")
    }
}
