//! The result of one call of the row path, and what the row path may need from the loop.

use super::Signalled;
use crate::change::{Position, RelationShape, RelationSlot};
use crate::continuity::detached::Cause;
use crate::encode::Router;
use crate::lsn::PgMicros;
use std::sync::Arc;
use std::time::Duration;

/// What the loop has to fetch or do before the row path can continue.
#[derive(Debug)]
pub enum Need {
    /// The plan of a relation that a Relation message has described before the change at this
    /// Position.
    Relation(RelationSlot, RelationShape, Position),
    /// The plan of logical messages, before the first of them.
    Messages,
    /// The plan of the records of transactions, before the first transaction.
    Transactions,
    /// The quarantine of this relation, for a change that an operator skips.
    Skip(RelationSlot),
    /// The quarantine of logical messages, for a message that an operator skips.
    SkipMessage,
    /// The table has to be detached from this change on.
    Detach(RelationSlot, Position, Cause),
    /// A plan in which this column may be NULL, because the row is older than the column's NOT
    /// NULL.
    Nullable(RelationSlot, String),
    /// A plan for the rows of this relation that have this route: the text, made of a row's values,
    /// by which the plan is found.
    Route(RelationSlot, Arc<Router>, String),
    /// A plan for the logical messages that have this route: the text, made of the content, by
    /// which the plan is found.
    MessageRoute(Arc<Router>, String),
}

/// The result of handling one read.
#[derive(Debug, Default)]
pub struct Burst {
    /// Number of frames that were handled.
    pub frames: usize,
    /// True if the server asked for a status update.
    pub reply: bool,
    /// True if the server has ended the stream of replication.
    pub goodbye: bool,
    /// The fetch or the step for which the row path waits, if it waits for the loop.
    pub need: Option<Need>,
    /// A signal that has to be obeyed next. The burst ended with its row.
    pub signal: Option<Signalled>,
    /// When the server sent the first message of the burst. `None` if there was no message.
    pub sent_at: Option<PgMicros>,
    /// Time between the commit of the last transaction that began in the burst and its sending by
    /// the server, in microseconds of the server's clock. `None` if no transaction began in the
    /// burst.
    pub behind: Option<i64>,
    /// How long the first row took: its decoding, and then its encoding and sending. `None` if no
    /// row of a table with a plan was handled.
    pub measured: Option<(Duration, Duration)>,
}
