//! The inputs and outputs of `Windows`: which chunk is read next, a change with the keys that it
//! touches, what is sent before that change, and the journal.

use super::RowKey;
use crate::lsn::Lsn;
use crate::snapshot::visibility::FullXid;

/// What a chunk reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The rows beyond this key, or from the first row if there is no key.
    Beyond(Option<RowKey>),
    /// The rows of these keys.
    Keys(Vec<RowKey>),
}

/// What the copy can do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next chunk can be read.
    Read(What),
    /// A chunk under way has to be finished first.
    Wait,
    /// Everything is in the journal. The copy ends when the checkpoint has passed this position:
    /// until then a crash repeats changes that the copy has already repaired.
    Confirm(Lsn),
}

/// A change that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    pub(crate) xid: FullXid,
    /// Start of the commit record of the change's transaction.
    pub commit: Lsn,
    pub(crate) kind: Kind<'a>,
}

/// The keys that a change touches.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// One row was inserted, updated or deleted.
    Row {
        /// The key before the change. `None` if it is unknown or did not change.
        old: Option<&'a RowKey>,
        /// The key after the change, or the key of a deleted row.
        key: &'a RowKey,
        /// True if the server left out a TOAST value that did not change.
        unsent: bool,
    },
    /// Every row of the table was removed.
    Truncate,
}

/// What has to happen before a change is sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Before<R> {
    /// The change is sent without rows before it.
    Nothing,
    /// These rows of the copy are sent first.
    Rows(Vec<R>),
    /// The stream is held before the change. The row path asks again after the next event.
    Hold,
}

/// The delivered part of a copy, from which a restart continues.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Journal {
    /// Everything up to this key is delivered.
    pub after: Option<RowKey>,
    /// True if every row after that key is delivered too. Only the rows of `moved` may be left to
    /// read.
    pub ended: bool,
    /// The highest position that a delivered chunk waited for.
    pub upto: Lsn,
    /// Keys of rows to be read again. Each moved there by an update without its large value.
    pub moved: Vec<RowKey>,
    pub(crate) rows: u64,
    pub(crate) chunks: u64,
    /// True if no chunk was delivered since the table was published, or since its filter or columns
    /// changed.
    pub fresh: bool,
}
