//! The arms of the loop's `select!` that are more than one call. Each is cancel-safe: what is dropped has happened to nobody.

use super::Happened;
use crate::plans::sink::{Sink, StdoutError};
use crate::postgres::{Sql, Stream};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The end of a task, if there is one; it is then forgotten. A task that was aborted or panicked never ends here.
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

/// The end of the thread that writes standard output.
pub(super) async fn stdout_ended(sink: Option<&mut Sink>) -> StdoutError {
    match sink {
        Some(sink) => sink.ended().await,
        None => std::future::pending().await,
    }
}

/// The end of the idle connection that tells when the server goes away.
pub(super) async fn ended(sentinel: Option<&Arc<Sql>>) {
    match sentinel {
        Some(sql) => drop(sql.ended().await),
        None => std::future::pending().await,
    }
}

/// Reads where there is room, else only sends what waits.
pub(super) async fn io(stream: Option<&mut Stream>, may_read: bool, unsent: bool) -> Happened {
    match stream {
        Some(stream) if may_read => Happened::Read(stream.fill().await),
        Some(stream) if unsent => Happened::Flushed(stream.flush_unread().await),
        _ => std::future::pending().await,
    }
}
