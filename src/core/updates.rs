//! Status updates to the server: what was confirmed, and when the next one is due.

use super::Moment;
use crate::lsn::Lsn;

/// The status updates of one connection.
#[derive(Debug)]
pub(super) struct Updates {
    /// Highest flush position sent on this connection. It starts as the slot's confirmed position.
    pub flushed: Lsn,
    /// When the next status update is due that asks the server for a keepalive. Other updates do
    /// not put it off.
    pub due_at: Moment,
    /// When the last update was sent.
    pub last: Moment,
    /// True if the server has asked for an update.
    pub reply_wanted: bool,
}

impl Updates {
    pub fn new(now: Moment) -> Self {
        Updates { flushed: Lsn::ZERO, due_at: now, last: Moment(0), reply_wanted: false }
    }
}
