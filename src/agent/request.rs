//! Requests from outside into the loop, each with its answer: pause, resume, another configuration, a copy of tables.
//!
//! [`Handle`] is the asking side: `admin` and `cli` hold clones of it. The loop takes one request at a time, between
//! bursts, and answers it or refuses it with the reason; what an answer promises has been done, or is begun and is told
//! of in status. Nothing here judges who may ask: that is the asking side's business.

use super::Config;
use crate::continuity::skipped::Consent;
use crate::continuity::{Answer, Refused, Reply, WAITING_MAX};
use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// What may be asked of a running agent.
#[derive(Clone, Debug)]
pub enum Request {
    /// Copy tables again while the stream goes on.
    Snapshot {
        /// Captured tables, as `namespace.name`; at least one.
        tables: Vec<String>,
        /// An SQL condition on the rows to copy, given to the server as it is.
        filter: Option<String>,
    },
    /// End the copy that is under way, keeping what it has delivered.
    CancelSnapshot,
    /// Read no more changes. Connection, slot and status updates stay; the log gathers in Postgres meanwhile.
    Pause,
    /// Go on where [`Request::Pause`] stopped.
    Resume,
    /// Leave out the one change at which the stream has halted, by the operator's recorded consent.
    Skip(Consent),
    /// Go on with another configuration; the asking side has made sure that only `[tables]` and `[snapshot]` differ.
    Reload(Box<Config>),
}

impl Request {
    /// The word for it in log lines and answers.
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

/// A reply, and the answer that it will bring.
pub fn reply() -> (Reply, impl Future<Output = Answer>) {
    let (reply, answer) = oneshot::channel();
    // Whoever asked and went away is not told.
    let reply = Reply::new(move |answer| drop(reply.send(answer)));
    (reply, async { answer.await.unwrap_or(Err(Refused::Stopping)) })
}

/// A request on its way into the loop.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The asking side. Cloning is cheap.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Asked>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Asks, and waits until the loop has answered.
    ///
    /// # Errors
    /// The refusal: of the loop, or because it does not take requests any more or right now.
    pub async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = reply();
        self.0.try_send(Asked { request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Stopping,
        })?;
        answer.await
    }
}

/// Both ends, for one agent.
#[must_use]
pub fn channel() -> (Handle, mpsc::Receiver<Asked>) {
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
            let Asked { request, reply } = asked.recv().await.unwrap();
            assert_eq!(request.name(), "pause");
            reply.send(Ok(Granted("paused".to_owned())));
        };
        let (answer, ()) = tokio::join!(handle.ask(Request::Pause), loop_side);
        assert_eq!(answer, Ok(Granted("paused".to_owned())));
    }

    #[tokio::test]
    async fn a_request_that_nobody_answers_is_refused_and_not_kept_waiting() {
        let (handle, mut asked) = channel();
        let (answer, ()) = tokio::join!(handle.ask(Request::Resume), async { drop(asked.recv().await) });
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
