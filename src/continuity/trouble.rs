//! Troubles: conditions under which the agent keeps trying. Each has an object, a cause and
//! a next step for the operator.
//!
//! This file is pure. `agent::supervise` decides which error is which trouble.

use crate::reason::TroubleReason;
use std::error::Error;
use std::fmt;

/// An error with its causes on one line, as `top: cause: cause of the cause`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A trouble, as status and log show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Reason for the trouble, with its code.
    pub reason: TroubleReason,
    /// The affected object, and the cause.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
}

impl Trouble {
    /// A trouble with the object `what`, caused by an error.
    #[must_use]
    pub fn new(reason: TroubleReason, what: String, error: &dyn Error) -> Self {
        Trouble {
            reason,
            detail: format!("{what}: {}", Chain(error)),
            next: reason.next().to_owned(),
        }
    }

    /// The trouble for a process that ends. The next step does not say that the agent tries again
    /// by itself.
    #[must_use]
    pub fn of_an_end(self) -> Self {
        Trouble { next: without_retries(self.next), ..self }
    }

    /// The same trouble with the given next step, or with its own if `next` is `None`.
    #[must_use]
    pub fn or_next(self, next: Option<String>) -> Self {
        Trouble { next: next.unwrap_or(self.next), ..self }
    }

    /// A trouble with a detail and a next step of its own.
    #[must_use]
    pub fn plain(reason: TroubleReason, detail: String, next: &str) -> Self {
        Trouble { reason, detail, next: next.to_owned() }
    }
}

/// Removes the words at the end of a next step that say that the agent tries again by itself.
fn without_retries(next: String) -> String {
    let again = ["; the agent tries again by itself", "; the agent tries again every 30 s"];
    let end = again.iter().find_map(|again| next.strip_suffix(again)).map(str::to_owned);
    end.unwrap_or(next)
}
