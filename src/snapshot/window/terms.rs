//! The inputs and outputs of `Windows`: which chunk is read next, a change with the keys that it
//! touches, what is sent before that change, and the journal.

use super::RowKey;
use crate::lsn::Lsn;
use crate::snapshot::visibility::FullXid;

/// What a chunk reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The rows whose keys are beyond this key. `None` if the chunk begins at the first row of the
    /// table.
    Beyond(Option<RowKey>),
    /// The rows of these keys.
    Keys(Vec<RowKey>),
}

/// What the copy can do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A chunk can be requested, and it has to read these rows.
    Read(What),
    /// No chunk can be requested now. An earlier chunk has to be read, sent or delivered first.
    Wait,
    /// All rows of the table are delivered and recorded in the journal. The copy ends when the
    /// checkpoint has passed this position: until then a crash repeats changes that the copy has
    /// already repaired.
    Confirm(Lsn),
}

/// A change of the table that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    pub(crate) xid: FullXid,
    /// Start of the commit record of the change's transaction.
    pub commit: Lsn,
    pub(crate) kind: Kind<'a>,
}

/// The kind of a change, with the keys of the row that it touches.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// One row was inserted, updated or deleted.
    Row {
        /// The key before the change. `None` if it is unknown or did not change.
        old: Option<&'a RowKey>,
        /// The key after the change, or the key of a deleted row.
        key: &'a RowKey,
        /// True if the server left out a large (TOAST) value of the row, because the update did not
        /// change this value.
        unsent: bool,
    },
    /// Every row of the table was removed.
    Truncate,
}

/// What has to happen before a change is sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Before<R> {
    /// No row of the copy is sent before the change.
    Nothing,
    /// These rows of the copy are sent first.
    Rows(Vec<R>),
    /// The change must not be sent now, and the stream waits before it. The row path asks again
    /// after the next event.
    Hold,
}

/// The delivered part of a copy, from which a restart continues.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Journal {
    /// Every row of the table up to this key is delivered. `None` if no row is delivered yet.
    pub after: Option<RowKey>,
    /// True if every row beyond `after` is delivered too, so that the copy has no range left to
    /// read. Only the rows of `moved` may be left to read.
    pub ended: bool,
    /// The highest WAL position among those of the delivered chunks. The last rows of a chunk were
    /// sent only when the stream had passed the chunk's position.
    pub upto: Lsn,
    /// Keys of rows that are read again. An update gave each of these rows its key, and the stream
    /// left out a large value of the row.
    pub moved: Vec<RowKey>,
    pub(crate) rows: u64,
    pub(crate) chunks: u64,
    /// True if no chunk was delivered since the table was published, or since its filter or columns
    /// changed.
    pub fresh: bool,
}
