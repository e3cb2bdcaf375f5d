//! Answers to requests of operators: what was done, or why nothing was done.
//!
//! This file is pure. `agent::request` carries requests to the loop and answers back.

use super::Halt;
use std::fmt;

/// The most requests that may wait for the loop. Requests come from people and scripts, so few wait
/// at once. The sender of a further one is told to ask again.
pub const WAITING_MAX: usize = 8;

/// An accepted request: a sentence that says what was done or begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted(pub String);

impl Granted {
    /// The answer to a request that was obeyed. If the agent is halted, the answer adds that it
    /// stays halted, and the next step.
    #[must_use]
    pub fn beside(halt: Option<&Halt>, done: &str) -> Granted {
        Granted(halt.map_or_else(
            || done.to_owned(),
            |halt| {
                let (code, next) = (halt.reason.code(), halt.next());
                format!("{done}; the agent stays halted ({code}) either way: {next}")
            },
        ))
    }
}

/// A refused request: the reason why it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This version, or the agent in its present phase, cannot do what the request asks.
    #[error("not available: {0}")]
    NotAvailable(String),
    /// The request itself is wrong: it names a table that is not captured, or a condition that the
    /// server refuses.
    #[error("{0}")]
    Faulty(String),
    /// Too many requests are waiting already.
    #[error("{WAITING_MAX} requests are waiting already: ask again")]
    Busy,
    /// The loop has ended or is ending.
    #[error("the agent is stopping")]
    Stopping,
}

impl Refused {
    /// The refusal of a request that needs the stream. `None` if the request can be begun: a lost
    /// connection is no obstacle, because the next connection goes on with what was begun.
    #[must_use]
    pub fn without_stream(halt: Option<&Halt>, has_streamed: bool) -> Option<Refused> {
        let why = match halt {
            Some(halt) => format!(
                "the agent is halted ({}); what ends the halt: {}; ask again when the agent \
                 streams",
                halt.reason.code(),
                halt.next()
            ),
            None if has_streamed => return None,
            // The captured tables are not known before the first connection.
            None => "the agent has not reached the stream yet; `wellspring slot status` says why: \
                     ask again when the agent streams"
                .to_owned(),
        };
        Some(Refused::NotAvailable(why))
    }
}

/// Outcome of one request: what was done, or why nothing changed.
pub type Answer = Result<Granted, Refused>;

/// Sends the answer to one request back to its sender. A reply that is dropped counts as
/// [`Refused::Stopping`].
pub struct Reply(Box<dyn FnOnce(Answer) + Send>);

impl Reply {
    /// A reply that passes its answer to `send`.
    pub fn new(send: impl FnOnce(Answer) + Send + 'static) -> Self {
        Reply(Box::new(send))
    }

    /// Sends the answer and uses up the reply.
    pub fn send(self, answer: Answer) {
        (self.0)(answer);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
