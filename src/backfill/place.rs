//! Where the stream is, as far as copies need to know it, and the numbers that copies use once.

use crate::core::Moment;
use crate::lsn::Lsn;

/// Where the stream is on this connection, as copies need to know it. A new connection begins with
/// the default values.
#[derive(Default)]
pub(super) struct StreamPlace {
    /// Position where the stream last was outside of a transaction, or zero.
    pub stands: Lsn,
    /// Start of the commit record of the open transaction. `None` outside of a transaction.
    pub open: Option<Lsn>,
    /// Since when the stream has been held before a change. `None` while it is not held.
    pub held: Option<Moment>,
}

/// The epoch and the timeline that the newest connect has proven. They stay when the connection is
/// lost.
#[derive(Default)]
pub(super) struct History {
    /// Epoch in the checkpoint of that connect.
    pub epoch: u64,
    /// The server's timeline at that connect.
    pub timeline: u32,
}

/// The ids of copies and the ordinals of copied rows. Each of these numbers is used once.
#[derive(Default)]
pub(super) struct Numbers {
    /// The last id given to a copy. Copies need ids because their index in the list changes.
    id: u64,
    /// The last ordinal of a copied row. The upper bits of an ordinal are the term, so that
    /// Positions are unique.
    serial: u64,
}

impl Numbers {
    /// Sets the first ordinal of copied rows on a connection with this term.
    pub fn begin_term(&mut self, term: u64) {
        self.serial = term << 40;
    }

    pub fn next_id(&mut self) -> u64 {
        self.id += 1;
        self.id
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
