//! What keeps frames from being read: a pause, a stop, the first copy, and buffered rows.

use super::Moment;

/// What an operator, a stop or a copy adds to the decision whether frames are read.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// True while an operator has paused the stream. The pause survives reconnects and ends with
    /// `Resume` or the process.
    pub paused: bool,
    /// True while the first copy runs, until all of it is delivered and recorded in the state. The
    /// rows of the first copy are sent before any frame is read.
    pub copying: bool,
    /// The deadline of a stop, once one was requested.
    pub stop: Option<Moment>,
    /// Bytes of the backfill rows that wait in memory to be sent. The bytes in flight do not
    /// contain them yet.
    pub buffered_bytes: usize,
}
