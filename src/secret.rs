//! Secrets: values that cannot be printed, and where they come from.
//!
//! `Secret` has no Debug of its content, no Display and no Serialize, so no log line, error, status page or panic can
//! carry one. This room does no IO: `postgres`, `encode::registry` and `kafka` read a `Source` at each connect, so a
//! rotated file is picked up.

use std::fmt;
use std::path::PathBuf;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_content() {
        let source = Source::Inline(Secret::new("hunter2"));
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}
