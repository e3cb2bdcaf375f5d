//! Copies of rows that the WAL does not hold: existing rows, and rows that are requested again.
//!
//! The first copy reads under the snapshot that the slot has exported. `plan` holds its tables,
//! their order and their statements, `ranges` the pages that a reader reads next, `worker` the
//! readers, `markers` the marks of first and last rows, and `journal` the records that survive a
//! restart.
//!
//! Later copies run while the stream runs. `window` decides when a chunk may be read and when its
//! rows are sent, with the rules and their reasons. `visibility` reads snapshots of Postgres,
//! `keyset` writes the SQL of a chunk, and `reader` is the session that reads chunks. A table
//! without a key is copied by a standstill: `standstill` decides where the stream stands, and
//! `temporary` reads the rows. `signal` reads signals. `throttle` limits the load of all copies.
//!
//! All files but `worker`, `prepare`, `reader` and `temporary` are pure. Nothing here writes to the
//! source.

pub mod journal;
pub mod keyset;
pub mod throttle;
pub mod markers;
pub mod plan;
pub mod prepare;
pub mod ranges;
pub mod reader;
pub mod signal;
pub mod temporary;
pub mod visibility;
pub mod standstill;
pub mod window;
pub mod worker;

use crate::table::{Selection, TableName};
use std::collections::BTreeMap;

/// Bytes that a reader of a whole table holds in memory besides the records in flight: the piece
/// that it fills, one piece in the queue, and the buffer of its socket.
pub const READER_BYTES: usize = 768 * 1024;

/// When existing rows are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Existing rows are copied once, before the stream begins, at the first start of a pipeline.
    #[default]
    Initial,
    /// Existing rows are copied once, at the first start of a pipeline. The agent stops after that
    /// copy.
    InitialOnly,
    /// Existing rows are never copied.
    NoData,
    /// Rows are copied at every start, from a new slot. The operator consents in advance to the gap
    /// before the new slot.
    Always,
    /// Rows are copied at the first start, and whenever the stream cannot continue where it was.
    /// Here too the operator consents in advance to the gap.
    WhenNeeded,
    /// Rows are copied at the first start, in chunks while the stream runs.
    Windows,
}

impl Mode {
    /// Returns the word that names this mode in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Initial => "initial",
            Mode::InitialOnly => "initial_only",
            Mode::NoData => "no_data",
            Mode::Always => "always",
            Mode::WhenNeeded => "when_needed",
            Mode::Windows => "windows",
        }
    }

    /// True if a first start in this mode copies rows before the stream begins, under the snapshot
    /// that the slot has exported.
    #[must_use]
    pub const fn copies_first(self) -> bool {
        match self {
            Mode::Initial | Mode::InitialOnly | Mode::Always | Mode::WhenNeeded => true,
            Mode::NoData | Mode::Windows => false,
        }
    }
}

/// The checked configuration of copies.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) mode: Mode,
    /// Number of readers of the first copy, at most [`WORKERS_MAX`].
    pub workers: usize,
    /// The most rows per second that a copy reads, with all its readers together. `None` for no
    /// limit.
    pub rows_per_second: Option<u64>,
    /// Captured tables that are not copied. `None` if all are copied.
    pub skip: Option<Selection>,
    /// Tables that are copied before the others, in this order. The others follow by name.
    pub order: Vec<String>,
    /// SQL conditions by `namespace.name`. A row is copied only if it meets the condition of its
    /// table.
    pub conditions: BTreeMap<String, String>,
    /// Queries by `namespace.name`. The first copy reads them instead of the tables.
    pub queries: BTreeMap<String, String>,
    /// The table, as `namespace.name`, whose inserted rows are signals.
    pub signal_table: Option<String>,
    /// The topic whose records are signals.
    pub signal_topic: Option<String>,
}

/// The highest number of readers that the configuration may ask for. One loop encodes for all of
/// them, and each reader takes a process of the server.
pub const WORKERS_MAX: i32 = 16;

/// The highest number of readers if the configuration gives none. About this many readers supply as
/// many rows as one loop can encode.
pub const WORKERS_DEFAULT_MAX: usize = 4;

impl Config {
    /// A configuration of this mode with defaults for all other settings.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Config {
            mode,
            workers: std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(WORKERS_DEFAULT_MAX),
            rows_per_second: None,
            skip: None,
            order: Vec::new(),
            conditions: BTreeMap::new(),
            queries: BTreeMap::new(),
            signal_table: None,
            signal_topic: None,
        }
    }

    /// True if the configuration leaves this table out of copies.
    #[must_use]
    pub fn skips(&self, table: &TableName) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.matches(table))
    }

    /// Returns the names of tables in the configuration that are not in `captured`, each with the
    /// key of the configuration that contains it. Such a name is misspelt, or its table is not
    /// captured.
    pub fn strangers<'a>(
        &'a self,
        captured: &'a [TableName],
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        let keys = self.order.iter().map(|name| ("snapshot.order", name));
        let keys = keys.chain(self.conditions.keys().map(|name| ("snapshot.where", name)));
        let keys = keys.chain(self.queries.keys().map(|name| ("snapshot.query", name)));
        let keys = keys.chain(self.signal_table.iter().map(|name| ("snapshot.signal_table", name)));
        keys.map(|(key, name)| (key, name.as_str()))
            .filter(|(_, name)| !captured.iter().any(|table| table.to_string() == *name))
    }
}
