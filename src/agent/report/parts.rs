//! The parts of the reporter. Each part holds the values about one subject.

use crate::kafka::Statistics;
use crate::ledger::Ticket;
use crate::snapshot::journal::Left;
use crate::status::progress::{Progress, Wal};
use std::collections::BTreeMap;
use std::time::Instant;

/// What the reporter remembers of the brokers' answers.
pub(super) struct Answers {
    /// When the last delivery report came, or when nothing was in flight, whichever was later.
    pub answered_ms: i64,
    /// When brokers last refused our login. `None` if they never did, or have acknowledged a record
    /// since.
    pub login_refused_ms: Option<i64>,
    /// The record for which the time until its acknowledgement is measured, and the begin of that
    /// time. One record is measured at a time.
    pub measured: Option<(Ticket, Instant)>,
    /// librdkafka's counters at the last reading. They begin anew with each producer.
    pub counters: Statistics,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            answered_ms: i64::MAX,
            login_refused_ms: None,
            measured: None,
            counters: Statistics::default(),
        }
    }
}

/// The progress of the first copy, and the tables that lack rows.
#[derive(Default)]
pub(super) struct CopyReport {
    pub progress: Progress,
    pub wal: Wal,
    /// When the progress of the first copy was last logged.
    pub logged_ms: i64,
    /// The tables whose topics lack rows that nothing brings before a person acts.
    pub lacking: BTreeMap<String, Left>,
}

/// The warnings that the reporter remembers, so that it can put them into the status again or
/// remove them.
pub(super) struct Warnings {
    /// Warnings about the configuration and the state that hold for the life of the process.
    pub standing: Vec<String>,
    /// The warning about captured tables whose UPDATE and DELETE fail. `None` if there are none.
    pub unidentified: Option<String>,
}
