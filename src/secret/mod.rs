//! Secrets: values that cannot be printed, and the sources that they are read from.
//!
//! `Secret` has no Debug of its content, no Display and no Serialize, so no log line, error, status
//! page or panic can show one. `postgres`, `encode::registry`, `kafka` and `admin` read a `Source`
//! again each time they need it. So a rotated file is picked up, and a token of a cloud is fresh.
//! Only `read`, `key` and `authorities` of this room do IO.

mod authorities;
mod key;
mod read;
mod token;

pub use authorities::system_authorities;
pub use key::{KeyError, read_key};
pub use read::{Kept, SourceError, fetch, read};
pub use token::Token;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Largest secret from a file or a command, in bytes. A signed token of a cloud has a few
/// kilobytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Longest run of a command that prints a secret. A tool that asks a cloud's metadata service
/// answers within a second or two, and a server waits a minute for a password.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);

/// A password, token or key. Only [`Secret::reveal`] returns the text, and only a place that sends
/// the text calls it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text so that it can no longer be printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself. Only code that sends the secret may use the text.
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
        // Best effort without unsafe code: the bytes are overwritten before the memory is freed.
        let length = self.0.len();
        self.0.clear();
        self.0.extend(std::iter::repeat_n('\0', length));
    }
}

/// The place from which a secret is read each time the secret is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The secret itself, from the configuration or from the environment at start.
    Inline(Secret),
    /// A file. Its content without the trailing line break is the secret, and it is read each time
    /// the secret is needed.
    File(PathBuf),
    /// A command. Its output without the trailing line break is the secret. It runs each time the
    /// secret is needed, unless a [`Kept`] still holds the output.
    Command(Command),
}

/// A program that prints a secret, and its arguments. It runs without a shell.
///
/// Only the program's name is ever printed, because an argument may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
}

impl Command {
    /// The command whose program is the first of `words` and whose arguments are the others. `None`
    /// if the first word is missing or empty.
    #[must_use]
    pub fn new(words: Vec<String>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty())?;
        Some(Command { program, arguments: words.collect() })
    }

    /// The program, which errors name.
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
