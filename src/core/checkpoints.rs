//! What is written to the state topic: checkpoints, and the halt that has to be recorded.

use super::Moment;
use super::progress::Progress;
use crate::continuity::checkpoint::{Checkpoint, TableIdentity};
use std::collections::BTreeMap;

/// The checkpoints of this process. At most one is being written.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// The newest acknowledged checkpoint. The next checkpoint is built from it.
    pub newest: Option<Checkpoint>,
    /// The checkpoint that is being written.
    pub writing: Option<Checkpoint>,
    /// No checkpoint is written before this moment.
    pub write_at: Moment,
    pub progress: Progress,
    /// True if the next checkpoint is due at once, because a caller waits until a position is
    /// recorded as confirmed.
    pub wanted: bool,
    /// Identities of the captured tables that the next checkpoint must record. `None` if the newest
    /// checkpoint has them.
    pub tables: Option<BTreeMap<String, TableIdentity>>,
    /// True while a halt still has to be written to the state topic.
    pub halt_unrecorded: bool,
}

impl Checkpoints {
    pub fn new(now: Moment) -> Self {
        Checkpoints {
            newest: None,
            writing: None,
            write_at: now,
            progress: Progress::new(now),
            wanted: false,
            tables: None,
            halt_unrecorded: false,
        }
    }
}
