//! Progress of copies as `/status` shows it: the first copy, backfills and standstills.

use crate::lsn::Lsn;
use serde::Serialize;
use std::collections::BTreeMap;

/// Progress of the first copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CopyStatus {
    /// The consistent point: the rows are as of this position, and the stream begins here.
    pub consistent_point: Lsn,
    /// Rows sent so far.
    pub rows: u64,
    /// Expected rows by the statistics of the tables; 0 if no table was analysed.
    pub rows_expected: u64,
    /// Bytes of the text of the rows sent so far.
    pub bytes: u64,
    /// Bytes of the tables on disk.
    pub bytes_expected: u64,
    /// Number of readers that run in parallel.
    pub workers: usize,
    /// Seconds since the copy began in this process.
    pub seconds: f64,
    /// Rows sent per second, over the last ten seconds.
    pub rows_per_second: f64,
    /// Remaining seconds at the present rate; `None` if no rows are sent, or if the expected number
    /// of rows is not known or exceeded.
    pub remaining_seconds: Option<f64>,
    /// WAL in bytes that the server kept for the slot at the last reading. It grows until the copy
    /// ends.
    pub wal_bytes: u64,
    /// Expected WAL at the end of the copy, in bytes, at its mean growth so far; `None` if the end
    /// is not known.
    pub wal_bytes_expected: Option<u64>,
    /// Progress of each table, by `namespace.name`.
    pub tables: BTreeMap<String, CopyTableStatus>,
}

/// Progress of one backfill or standstill.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WindowStatus {
    /// Name of the table, as `namespace.name`.
    pub table: String,
    /// `waiting`, `copying`, `confirming`, `paused`, `failed` or `done`.
    pub state: String,
    /// Rows delivered so far.
    pub rows: u64,
    /// Bytes of the records that this process has handed to the producer.
    pub bytes: u64,
    /// Chunks delivered so far.
    pub chunks: u64,
    /// Chunks that are read and whose position the stream has not passed yet.
    pub open_chunks: usize,
    /// Position of the first chunk that the stream has not passed yet; `None` if there is none.
    pub waits_for_lsn: Option<Lsn>,
    /// Number of rows that must be read again. An update gave each of these rows another key, and
    /// the server did not send a TOAST value that the update left unchanged.
    pub moved_rows: usize,
    /// Chunks dropped since start. Their rows are read again. Some drops are normal for a table
    /// that is written to.
    pub dropped_chunks: u64,
    /// Reason why the newest dropped chunk was dropped; empty if no chunk was dropped.
    pub dropped_why: String,
    /// The operator's condition on the rows.
    pub filter: Option<String>,
    /// Stable code of the reason why the copy is `failed` or `waiting`; empty in other states.
    pub reason: String,
    /// What the copy waits for, or why it failed.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
}

/// Progress of one table in the first copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CopyTableStatus {
    /// `waiting`, `copying`, `delivering`, `copied`, `refused`, `left` if the first copy leaves the
    /// table out, or `owed` if a backfill copies the table instead.
    pub state: String,
    /// Rows sent so far.
    pub rows: u64,
    /// Expected rows by the statistics; `None` if the table was never analysed, or if a condition
    /// or query selects rows.
    pub rows_expected: Option<u64>,
    /// Bytes of the text of the rows sent so far.
    pub bytes: u64,
    /// Bytes of the table on disk.
    pub bytes_expected: u64,
    /// Why the table is `refused`, `left` or `owed`; otherwise empty.
    pub reason: String,
    /// The next step for the operator if the table is `left` or `owed`; otherwise empty.
    pub next: String,
}
