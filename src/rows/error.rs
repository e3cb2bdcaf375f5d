//! Why the row path stops the stream.

use crate::continuity::Halt;
use crate::kafka::SendError;
use crate::pgoutput;
use crate::postgres::PgError;

/// Why the stream cannot continue at this message.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The connection to Postgres failed.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The bytes are not a valid message.
    #[error("read a message of the stream")]
    Decode(#[from] pgoutput::DecodeError),
    /// The messages do not make sense in this order.
    #[error("follow the stream")]
    Change(#[from] crate::change::ChangeError),
    /// The producer does not accept the record.
    #[error("hand a record to the producer")]
    Send(#[from] SendError),
    /// Only a person can let the stream continue.
    #[error("{}: {}", .0.reason.code(), .0.detail)]
    Halt(Halt),
}
