//! Requests from outside to the loop, each with its answer: pause, resume, skip a change, another
//! configuration, a copy of tables.
//!
//! `admin` and `cli` make requests with clones of [`Handle`]. The loop takes one request at a time,
//! between bursts. It carries the request out, or begins it and shows it in the status, or refuses
//! it with the reason. The caller checks who may make a request.

use super::Config;
use crate::continuity::skipped::Consent;
use crate::continuity::{Answer, Refused, Reply, WAITING_MAX};
use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// A request to a running agent.
#[derive(Clone, Debug)]
pub enum Request {
    /// Copy tables again while the stream runs.
    Snapshot {
        /// Captured tables, as `namespace.name`; at least one.
        tables: Vec<String>,
        /// An SQL condition on the rows to copy, given to the server as it is. `None` copies all
        /// rows.
        filter: Option<String>,
    },
    /// End all backfills. The rows that they have delivered stay.
    CancelSnapshot,
    /// Read no more changes. Connection, slot and status updates stay, and Postgres keeps the WAL
    /// meanwhile.
    Pause,
    /// Go on where [`Request::Pause`] stopped.
    Resume,
    /// Skip the one change at which the stream has halted, by the operator's recorded consent.
    Skip(Consent),
    /// Go on with another configuration. The caller has checked that only `[tables]`, `[snapshot]`
    /// and `[registry]` differ.
    Reload(Box<Config>),
}

impl Request {
    /// The name of the request in log lines and answers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Request::Snapshot { .. } => "snapshot",
            Request::CancelSnapshot => "snapshot cancel",
            Request::Pause => "pause",
            Request::Resume => "resume",
            Request::Skip(_) => "skip",
            Request::Reload(_) => "reload",
        }
    }
}

/// Makes a reply and the future of its answer. The answer is `Stopping` if the reply is dropped
/// without an answer.
pub fn reply() -> (Reply, impl Future<Output = Answer>) {
    let (reply, answer) = oneshot::channel();
    // Nobody gets the answer if the caller has gone away.
    let reply = Reply::new(move |answer| drop(reply.send(answer)));
    (reply, async { answer.await.unwrap_or(Err(Refused::Stopping)) })
}

/// A request on its way to the loop, with the reply that waits for it.
#[derive(Debug)]
pub struct PendingRequest {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
}

/// The sending end of the channel of requests. Cloning it is cheap.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<PendingRequest>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Makes a request, and waits until the loop has answered.
    ///
    /// # Errors
    /// The loop refuses the request, has ended, or has too many requests waiting.
    pub async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = reply();
        self.0.try_send(PendingRequest { request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Stopping,
        })?;
        answer.await
    }
}

/// Makes both ends of the channel on which one agent receives requests.
#[must_use]
pub fn channel() -> (Handle, mpsc::Receiver<PendingRequest>) {
    let (ask, asked) = mpsc::channel(WAITING_MAX);
    (Handle(ask), asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::Granted;

    #[tokio::test]
    async fn an_answer_reaches_whoever_asked() {
        let (handle, mut asked) = channel();
        let loop_side = async {
            let PendingRequest { request, reply } = asked.recv().await.unwrap();
            assert_eq!(request.name(), "pause");
            reply.send(Ok(Granted("paused".to_owned())));
        };
        let (answer, ()) = tokio::join!(handle.ask(Request::Pause), loop_side);
        assert_eq!(answer, Ok(Granted("paused".to_owned())));
    }

    #[tokio::test]
    async fn a_request_that_nobody_answers_is_refused_and_not_kept_waiting() {
        let (handle, mut asked) = channel();
        let (answer, ()) =
            tokio::join!(handle.ask(Request::Resume), async { drop(asked.recv().await) });
        assert_eq!(answer, Err(Refused::Stopping));
        drop(asked);
        assert_eq!(handle.ask(Request::Resume).await, Err(Refused::Stopping));
    }

    #[tokio::test]
    async fn a_flood_is_told_to_come_again() {
        let (handle, asked) = channel();
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.ask(Request::Pause).await })
            })
            .collect();
        while asked.len() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(handle.ask(Request::Pause).await, Err(Refused::Busy));
        drop(asked);
        for task in waiting {
            assert_eq!(task.await.unwrap(), Err(Refused::Stopping));
        }
    }
}
