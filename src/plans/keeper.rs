//! The keeper of the state: one task that reads and writes the state topic or state file, one
//! request at a time.
//!
//! The loop of the agent sends a request and continues. The answer comes later. Nothing else in the
//! agent reads or writes the state.

use crate::kafka::{State, StateError};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// The most requests that wait for the keeper. The loop of the agent has at most one read or
/// checkpoint under way, and planning writes its ids and counts in one request at a time.
const REQUESTS_MAX: usize = 64;

enum Request {
    Read(oneshot::Sender<Result<BTreeMap<String, String>, StateError>>),
    Write(Vec<(String, Option<String>)>, oneshot::Sender<Result<(), StateError>>),
}

/// Handle that sends requests to the keeper.
#[derive(Clone)]
pub struct Keeper {
    requests: mpsc::Sender<Request>,
}

impl Keeper {
    /// Starts the task of the keeper on the current runtime, and returns a handle for it.
    #[must_use]
    pub fn start(mut state: State) -> Self {
        let (requests, mut queue) = mpsc::channel(REQUESTS_MAX);
        tokio::spawn(async move {
            while let Some(request) = queue.recv().await {
                // A send fails only if the requester is gone. Then nobody needs the answer.
                match request {
                    Request::Read(answer) => drop(answer.send(state.read_all().await)),
                    Request::Write(records, answer) => {
                        let records: Vec<(&str, Option<&str>)> = records
                            .iter()
                            .map(|(key, value)| (key.as_str(), value.as_deref()))
                            .collect();
                        drop(answer.send(state.write_all(&records).await));
                    }
                }
            }
        });
        Keeper { requests }
    }

    /// Reads everything that the state holds, up to its end at this moment.
    ///
    /// # Errors
    /// The error of the state topic or file; `Gone` at shutdown.
    pub async fn read(&self) -> Result<BTreeMap<String, String>, KeeperError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Read(answer)).await.map_err(|_| KeeperError::Gone)?;
        answered.await.map_err(|_| KeeperError::Gone)?.map_err(KeeperError::from)
    }

    /// Sets a key, or removes it if there is no value. Returns when the write is acknowledged.
    ///
    /// # Errors
    /// The error of the state topic or file; `Gone` at shutdown.
    pub async fn write(&self, key: &str, value: Option<String>) -> Result<(), KeeperError> {
        self.write_all(vec![(key.to_owned(), value)]).await
    }

    /// Writes several keys in this order, in one request. Returns when all writes are acknowledged.
    ///
    /// # Errors
    /// See [`Keeper::write`]. Some of the keys may have been written.
    pub async fn write_all(
        &self,
        records: Vec<(String, Option<String>)>,
    ) -> Result<(), KeeperError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Write(records, answer);
        self.requests.send(request).await.map_err(|_| KeeperError::Gone)?;
        answered.await.map_err(|_| KeeperError::Gone)?.map_err(KeeperError::from)
    }
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The state topic or file failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The agent is shutting down.
    #[error("the state's keeper has ended")]
    Gone,
}
