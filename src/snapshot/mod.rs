//! Copies of what the log does not hold: rows that were there before the stream, or that are asked for again.
//!
//! The first copy reads under the snapshot that the slot exported: `plan` says what, in which order and by which
//! statements, `ranges` which piece of a table a reader takes next, `worker` reads, `markers` tells first from last, and
//! `journal` is what of it survives a restart. Everything copied later is copied while the stream runs: `window` decides
//! what may be read, held and emitted when, with its rules and their reasons, `visibility` reads Postgres's snapshots, and
//! `keyset` writes the SQL of a chunk. `reader` asks the server. A table without a key is copied whole: `whole` decides where
//! the stream stands for it, `temporary` reads. `signal` reads what a signal asks for. All but `worker`, `prepare`, `reader`
//! and `temporary` are pure. Nothing here writes to the source.

pub mod journal;
pub mod keyset;
pub mod kindness;
pub mod markers;
pub mod plan;
pub mod prepare;
pub mod ranges;
pub mod reader;
pub mod signal;
pub mod temporary;
pub mod visibility;
pub mod whole;
pub mod window;
pub mod worker;

use crate::table::{Selection, TableName};
use std::collections::BTreeMap;

/// When existing rows are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Once, at a pipeline's first start.
    #[default]
    Initial,
    /// The same, and then stop.
    InitialOnly,
    /// Existing rows are never copied.
    NoData,
    /// At every start, from a new slot: the operator's standing consent to what lies between.
    Always,
    /// At the first start, and whenever the stream cannot go on where it was: a standing consent too.
    WhenNeeded,
    /// At the first start, in windows, while the stream runs.
    Windows,
}

impl Mode {
    /// Its word in the configuration.
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

    /// Whether a first start copies under the slot's exported snapshot.
    #[must_use]
    pub const fn copies_first(self) -> bool {
        match self {
            Mode::Initial | Mode::InitialOnly | Mode::Always | Mode::WhenNeeded => true,
            Mode::NoData | Mode::Windows => false,
        }
    }
}

/// How existing rows are copied, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) mode: Mode,
    /// Readers at once, at most [`WORKERS_MAX`].
    pub workers: usize,
    /// At most this many rows a second, all readers together; none for as fast as it goes.
    pub rows_per_second: Option<u64>,
    /// Captured tables that are not copied; none are skipped without.
    pub skip: Option<Selection>,
    /// Tables copied before the others, in this order; the others follow by name.
    pub order: Vec<String>,
    /// SQL conditions by `namespace.name`: only rows that meet them are copied.
    pub conditions: BTreeMap<String, String>,
    /// Whole queries by `namespace.name`, read instead of the table.
    pub queries: BTreeMap<String, String>,
    /// The table whose inserted rows are signals, as `namespace.name`.
    pub signal_table: Option<String>,
    /// The topic whose records are signals.
    pub signal_topic: Option<String>,
}

/// Readers at once: one loop encodes for all of them, and each holds a server process and a snapshot.
pub const WORKERS_MAX: i32 = 16;

/// The default's cap: what one loop can encode keeps about this many servers busy.
pub const WORKERS_DEFAULT_MAX: usize = 4;

impl Config {
    /// A configuration of this mode with every default.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Config {
            mode,
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_DEFAULT_MAX),
            rows_per_second: None,
            skip: None,
            order: Vec::new(),
            conditions: BTreeMap::new(),
            queries: BTreeMap::new(),
            signal_table: None,
            signal_topic: None,
        }
    }

    /// Whether a captured table is left out of copies.
    #[must_use]
    pub fn skips(&self, table: &TableName) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.matches(table))
    }

    /// Names of tables in the configuration that are not among `captured`: misspelt, or not captured.
    pub fn strangers<'a>(&'a self, captured: &'a [TableName]) -> impl Iterator<Item = (&'static str, &'a str)> {
        let keys = self.order.iter().map(|name| ("snapshot.order", name));
        let keys = keys.chain(self.conditions.keys().map(|name| ("snapshot.where", name)));
        let keys = keys.chain(self.queries.keys().map(|name| ("snapshot.query", name)));
        let keys = keys.chain(self.signal_table.iter().map(|name| ("snapshot.signal_table", name)));
        keys.map(|(key, name)| (key, name.as_str()))
            .filter(|(_, name)| !captured.iter().any(|table| table.to_string() == *name))
    }
}
