//! Answers to requests from outside: what was done, or why nothing was.
//!
//! Pure. How a request reaches the loop, and how its answer travels back, is the business of `agent::request`.

use std::fmt;

/// Requests that may wait. People and scripts ask; a flood of them is told to come again instead of being kept.
pub const WAITING_MAX: usize = 8;

/// What was done or begun, in a sentence for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted(pub String);

/// Why a request changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This version, or the agent in its present phase, cannot.
    #[error("not available: {0}")]
    NotAvailable(String),
    /// The request itself is faulty: a table that is not captured, a condition the server refuses.
    #[error("{0}")]
    Faulty(String),
    /// Too much is asked at once.
    #[error("{WAITING_MAX} requests are waiting already: ask again")]
    Busy,
    /// The loop has ended, or ends.
    #[error("the agent is stopping")]
    Stopping,
}

/// A request's answer.
pub type Answer = Result<Granted, Refused>;

/// Where the answer to one request goes. Dropped unanswered, it tells [`Refused::Stopping`].
pub struct Reply(Box<dyn FnOnce(Answer) + Send>);

impl Reply {
    /// A reply that hands its answer to `send`.
    pub fn new(send: impl FnOnce(Answer) + Send + 'static) -> Self {
        Reply(Box::new(send))
    }

    /// Answers.
    pub fn send(self, answer: Answer) {
        (self.0)(answer);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
