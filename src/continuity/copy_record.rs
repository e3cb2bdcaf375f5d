//! The record of a backfill in the state topic, `window/<slot>/<table>`.

use super::checkpoint::FORMAT;
use crate::lsn::{Lsn, Oid};
use crate::snapshot::window;
use serde::{Deserialize, Serialize};

/// The record of a backfill: the request for it and its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// `pg_class.oid` of the table. Progress that was recorded under another oid does not count.
    pub relation: Oid,
    /// Names of the key columns that bound the chunks.
    pub key: Vec<String>,
    /// The operator's SQL condition on the rows to copy; `None` if all rows are copied.
    pub filter: Option<String>,
    /// Time of the request, in Unix milliseconds.
    pub asked_ms: i64,
    /// True while a signal keeps this backfill paused.
    #[serde(default)]
    pub paused: bool,
    /// Commit LSN of the signal row that requested the backfill. `None` if no row of the signal
    /// table did.
    #[serde(default)]
    pub signal: Option<Lsn>,
    /// Offset of the signal that requested the backfill, if the signal was read from a topic.
    #[serde(default)]
    pub signal_offset: Option<i64>,
    /// Column by which the chunks are cut, if the signal named one.
    #[serde(default)]
    pub surrogate: Option<String>,
    /// Id of the signal that requested the backfill. The notices about the backfill contain the id.
    #[serde(default)]
    pub correlation: Option<String>,
    /// Epoch of the last survey, the query about the table before its chunks are read. A higher
    /// epoch of the stream means that a gap was accepted since then. Changes to rows already copied
    /// may be missing, so the copy restarts. 0 means never surveyed.
    #[serde(default)]
    pub epoch: u64,
    /// The published part of the table at the last survey; `None` before the first survey. Chunks
    /// that were copied under another publication do not fit the next ones.
    #[serde(default)]
    pub published: Option<Published>,
    /// True if the topic lacks rows until this backfill ends. If the backfill fails, a person has
    /// to act.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needed: bool,
    /// Progress: the parts of the table that are delivered.
    pub journal: window::Journal,
}

/// The part of a table that its publication covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Names of the published columns, in the order of the stream.
    pub columns: Vec<String>,
    /// Row filter of the publication, as SQL; `None` if the publication has all rows.
    pub filter: Option<String>,
}

impl Window {
    /// The record of a copy that was just requested: no survey yet, nothing delivered.
    #[must_use]
    pub fn requested(filter: Option<String>, asked_ms: i64) -> Self {
        Window {
            format: FORMAT,
            relation: Oid(0),
            key: Vec::new(),
            filter,
            asked_ms,
            paused: false,
            signal: None,
            signal_offset: None,
            surrogate: None,
            correlation: None,
            epoch: 0,
            published: None,
            needed: false,
            journal: window::Journal::default(),
        }
    }

    /// True if a signal requested the backfill.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        self.signal.is_some() || self.signal_offset.is_some()
    }

    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str, table: &str) -> String {
        format!("window/{slot}/{table}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }
}
