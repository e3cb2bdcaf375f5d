//! What is wrong with a configuration: every fault, each with its place and key.
//!
//! No fault repeats a value that could be a secret: `reader` passes only what was typed, nothing for
//! sensitive keys.

use std::fmt;

/// Where a value comes from. Orders faults as a reader of the file meets them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A place in the file, both from 1.
    File {
        /// Line.
        line: usize,
        /// Column in characters.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// Nowhere: it was left out.
    Default,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub at: Origin,
    /// The key's path, such as `postgres.url`; empty for a fault of the file itself.
    pub key: String,
    /// What is wrong and, where it is known, what to write.
    pub what: String,
}

/// Every fault of one configuration, in the order of the file. Prints one line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The file's name as it was given.
    pub file: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match &fault.at {
                Origin::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Origin::Environment(name) => write!(f, "environment {name}: ")?,
                Origin::Default => write!(f, "{}: ", self.file)?,
            }
            if !fault.key.is_empty() {
                write!(f, "{}: ", fault.key)?;
            }
            f.write_str(&fault.what)?;
        }
        Ok(())
    }
}
