//! What a copy waits for, when it is tried again, and the cause of the wait in words for the
//! operator.

use super::{BACKOFF_MAX, BACKOFF_MIN, Copy};
use crate::core::Moment;
use crate::lsn::Xid;
use crate::snapshot::journal::Left;
use crate::snapshot::visibility::FullXid;

/// Why a copy is tried again later, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// These transactions have to end first.
    Transactions(String),
    /// The last try failed, for this reason.
    Failure(String),
}

/// What one copy waits for.
pub(super) struct Waits {
    /// The copy is not tried before this moment.
    pub not_before: Moment,
    /// Pause before the next try of a postponed copy, in microseconds.
    backoff: u64,
    /// When a snapshot of the copy first missed a transaction that it has to see. While this is
    /// set, a requested chunk holds the stream before changes of the table, so that the next
    /// snapshot can succeed.
    pub hold_since: Option<Moment>,
    /// True if the last snapshot did not see a transaction that it has to see as ended.
    pub unseen: bool,
    /// Why the copy waits, for the status. `None` if no cause is known.
    pub cause: Option<Cause>,
    /// What the server lacks for the copy, such as a free slot. `None` if it lacks nothing.
    pub stuck: Option<Left>,
}

impl Waits {
    /// Creates the state of a copy that waits for nothing and may begin at once.
    pub fn new(now: Moment) -> Self {
        Waits {
            not_before: now,
            backoff: BACKOFF_MIN,
            hold_since: None,
            unseen: false,
            cause: None,
            stuck: None,
        }
    }

    /// Puts the next try off by a pause and notes the cause. Each pause is twice as long as the one
    /// before, up to [`BACKOFF_MAX`].
    pub fn postpone(&mut self, cause: Cause, now: Moment) {
        self.cause = Some(cause);
        self.hold_since = None;
        self.not_before = now.plus(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// Notes that a snapshot saw every transaction that it has to see: no cause is left, and the
    /// next pause is the shortest one.
    pub fn over(&mut self) {
        (self.backoff, self.cause, self.unseen) = (BACKOFF_MIN, None, false);
    }
}

impl Copy {
    /// Notes the open transactions (`holders`) as the cause for which the first chunk of a newly
    /// published table waits. For any other table, notes that there is no cause.
    pub(super) fn waits_of(&mut self, holders: &[(Xid, Option<i32>)], near: FullXid) {
        let words = holders.iter().map(|(xid, pid)| {
            let xid = FullXid::widen(*xid, near);
            pid.map_or_else(
                || format!("xid {xid} (prepared)"),
                |pid| format!("xid {xid} (pid {pid})"),
            )
        });
        let is_awaited = self.window.journal.fresh && !holders.is_empty();
        self.waits.cause =
            is_awaited.then(|| Cause::Transactions(words.take(8).collect::<Vec<_>>().join(", ")));
    }

    /// Lists up to eight of these transactions as text, each with its process id if that is known.
    pub(super) fn in_words(&self, unseen: &[FullXid]) -> String {
        let waited_for = match &self.waits.cause {
            Some(Cause::Transactions(words)) => words.as_str(),
            Some(Cause::Failure(_)) | None => "",
        };
        let known = |xid: &FullXid| {
            let mut words = waited_for.split(", ");
            let named = words.find(|words| words.starts_with(&format!("xid {xid} ")));
            named.map_or_else(|| format!("xid {xid}"), str::to_owned)
        };
        unseen.iter().take(8).map(known).collect::<Vec<_>>().join(", ")
    }
}
