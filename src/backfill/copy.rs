//! One copy of a table while the stream runs: what is known of it, and how far it is.

use super::chunks::Chunks;
use super::standstill;
use super::waits::Waits;
use crate::change::RelationSlot;
use crate::continuity::Reply;
use crate::continuity::checkpoint::Window;
use crate::core::Moment;
use crate::lsn::Lsn;
use crate::plans::Active;
use crate::postgres::holder::CopyTable;
use crate::snapshot::journal::Left;
use crate::snapshot::keyset::Keyset;
use crate::snapshot::window::Windows;
use crate::table::TableName;
use std::rc::Rc;

/// A copied row that waits to be sent: its line of COPY text, and the shape that it is encoded by.
#[derive(Clone)]
pub struct Held {
    pub(super) line: Box<[u8]>,
    pub shape: Rc<Shape>,
}

impl std::fmt::Debug for Held {
    /// Row values stay out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} bytes)", self.line.len())
    }
}

impl Held {
    /// The row as one line of COPY text.
    pub fn line(&self) -> &[u8] {
        &self.line
    }
}

/// What the rows of one chunk have in common.
pub struct Shape {
    /// Plan and topic that the rows are encoded for.
    pub active: Active,
    /// Number of columns in each row.
    pub columns: usize,
    /// Insert position of the server, read after the rows. The stream has to pass this position
    /// before the remaining rows of the chunk are sent.
    pub upto: Lsn,
}

/// What a copy needs next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// The server and the table have to be surveyed.
    Unsurveyed,
    /// The table is surveyed, and its plan has to be made.
    Unplanned,
    /// A chunk, or the standstill, can be read.
    Ready,
    /// The copy has failed.
    Failed(Left),
}

/// What the last survey and the planning after it found out about the table.
pub(super) struct Known {
    pub(super) table: CopyTable,
    pub(super) active: Option<Active>,
    pub(super) keyset: Option<Keyset>,
    pub(super) places: Vec<usize>,
}

pub(super) struct Copy {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) window: Window,
    pub(super) stage: Stage,
    pub(super) known: Option<Known>,
    pub(super) windows: Option<Windows<Held>>,
    /// The table's relation. `None` until this connection has sent a Relation message for it.
    pub(super) slot: Option<RelationSlot>,
    pub(super) chunks: Chunks,
    pub(super) waits: Waits,
    pub(super) reply: Option<Reply>,
    pub(super) bytes: u64,
    /// Epoch of the first copy that left this table to this copy. When this copy ends, the state
    /// records that the table is copied for that first copy.
    pub(super) owed: Option<u64>,
    /// How far the copy by standstills is. `None` if the table is copied in chunks.
    pub(super) standstill: Option<standstill::Round>,
    /// True if the server was a standby at the last survey.
    pub(super) standby: bool,
    /// True if this copy repairs a detached table, whose `Detached` record it removes at its end.
    pub(super) repairs: bool,
}

impl Copy {
    pub(super) fn new(
        id: u64,
        name: &str,
        window: Window,
        now: Moment,
        reply: Option<Reply>,
    ) -> Self {
        Copy {
            id,
            name: name.to_owned(),
            chunks: Chunks::new(window.journal.chunks, now),
            window,
            stage: Stage::Unsurveyed,
            known: None,
            windows: None,
            slot: None,
            waits: Waits::new(now),
            reply,
            bytes: 0,
            owed: None,
            standstill: None,
            standby: false,
            repairs: false,
        }
    }

    pub(super) fn can_go_on(&self) -> bool {
        !self.window.paused && !matches!(self.stage, Stage::Failed(..))
    }

    pub(super) fn is_reading(&self) -> bool {
        self.windows.as_ref().is_some_and(Windows::is_reading)
    }

    /// Counts a chunk that was dropped, and keeps the reason.
    pub(super) fn dropped(&mut self, why: String) {
        tracing::debug!(
            table = self.name,
            rows = self.chunks.rows_asked,
            "a chunk of a backfill is dropped: {why}"
        );
        self.chunks.dropped += 1;
        self.chunks.dropped_why = why;
    }

    /// A statement that the server accepts only if the operator's condition is valid SQL. `None`
    /// without a condition.
    pub(super) fn statement(&self) -> Option<String> {
        let filter = self.window.filter.as_deref()?;
        let (namespace, name) = self.name.split_once('.')?;
        let table = crate::postgres::publication::quoted(&TableName::new(namespace, name));
        Some(format!("SELECT FROM {table} WHERE ({filter}\n)"))
    }
}
