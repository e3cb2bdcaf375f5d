//! The faults of a configuration, each with its place and key.
//!
//! No fault repeats a value that could be a secret: `reader` quotes only the text as typed, and
//! nothing for keys that hold secrets.

use std::fmt;

/// Where a value of the configuration comes from. Places in the file compare by their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A place in the file.
    File {
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// No place: the key was left out.
    Default,
}

/// One fault of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Place of the faulty value.
    pub at: Origin,
    /// The key's path, such as `postgres.url`; empty for a fault of the file itself.
    pub key: String,
    /// The fault and, where it is known, what to write instead.
    pub what: String,
}

/// Every fault of one configuration, in the order of the file. Prints one line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// Name of the file, as it was given.
    pub file: String,
    /// The faults; there is at least one.
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
