//! The arms of the loop's `select!` that are more than one call. Each is cancel-safe: an arm that
//! is dropped has consumed nothing.

use super::Happened;
use crate::agent::supervise::Exit;
use crate::continuity::Chain;
use crate::plans::sink::{Sink, StdoutError};
use crate::postgres::{Sql, Stream};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Waits for the end of the task, and then forgets the task. Waits for ever without a task or after
/// an abort. A panic of the task continues here.
pub(super) async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> T {
    let ended = match task {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    };
    *task = None;
    match ended {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Waits until standard output can take no more lines, and returns the reason. Waits for ever
/// without a sink, or if the sink is Kafka.
pub(super) async fn stdout_ended(sink: Option<&mut Sink>) -> StdoutError {
    match sink {
        Some(sink) => sink.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of the ordinary connection, which ends when the server shuts down. Waits for
/// ever without a connection.
pub(super) async fn ended(sentinel: Option<&Arc<Sql>>) {
    match sentinel {
        Some(sql) => drop(sql.ended().await),
        None => std::future::pending().await,
    }
}

/// Reads from the stream if `may_read` is true. Otherwise it sends the queued status updates, or
/// waits for the end of the connection if none is queued.
pub(super) async fn io(stream: Option<&mut Stream>, may_read: bool, unsent: bool) -> Happened {
    match stream {
        Some(stream) if may_read => Happened::Read(stream.fill().await),
        Some(stream) if unsent => Happened::Flushed(stream.flush_unread().await),
        Some(stream) => Happened::Read(Err(stream.hung_up().await)),
        None => std::future::pending().await,
    }
}

/// Says how the process ends after standard output has failed.
pub(super) fn without_stdout(error: &StdoutError) -> Exit {
    match error {
        StdoutError::ReaderGone => Exit::ReaderGone,
        StdoutError::Write(_) | StdoutError::Interrupted => {
            tracing::error!(error = %Chain(error), "standard output cannot be written");
            Exit::StdoutFailed
        }
    }
}
