//! Secrets: values that cannot be printed, and where they come from.
//!
//! `Secret` has no Debug of its content, no Display and no Serialize, so no log line, error, status page or panic can
//! carry one. `postgres`, `encode::registry`, `kafka` and `admin` read a `Source` anew where they need it (`read` and
//! `key`, the places of this room that do IO), so a rotated file is picked up and a token of a cloud's is a fresh one.

mod key;
mod read;
mod token;

pub use key::{KeyError, read_key};
pub use read::{Kept, SourceError, fetch, read};
pub use token::Token;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The largest secret taken from a file or a command: a signed token of a cloud's has a few kilobytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// How long a command may take that prints a secret. A tool that asks a cloud's metadata service answers within a second
/// or two; a server waits a minute for a password.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);

/// A password, token or key. Only [`Secret::reveal`] gives the text, at the place that sends it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of the printable world.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the call that sends it and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Best effort without unsafe code: the bytes are overwritten before the allocation is returned.
        let length = self.0.len();
        self.0.clear();
        self.0.extend(std::iter::repeat_n('\0', length));
    }
}

/// Where a secret is read from, each time it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Given in the configuration, or resolved from the environment at start.
    Inline(Secret),
    /// The content of a file, without its trailing line break, read again on each connect.
    File(PathBuf),
    /// What a command prints, without its trailing line break; it runs again on each connect.
    Command(Command),
}

/// A program that prints a secret, and its arguments. No shell has a part in it.
///
/// Only the program is printed: an argument may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
}

impl Command {
    /// None without a program.
    #[must_use]
    pub fn new(words: Vec<String>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty())?;
        Some(Command { program, arguments: words.collect() })
    }

    /// Its first word, by which errors name it.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Command").field(&self.program).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_content() {
        let source = Source::Inline(Secret::new("hunter2"));
        assert!(!format!("{source:?}").contains("hunter2"));
        let words = ["pass", "--key", "hunter2"].map(str::to_owned).to_vec();
        let source = Source::Command(Command::new(words).unwrap());
        assert_eq!(format!("{source:?}"), "Command(Command(\"pass\", ..))");
    }
}
