//! `wellspring config import`: a Debezium pipeline's configuration becomes ours.
//!
//! Every property that Debezium's Postgres connector, Connect and Debezium Server have is in one table (`table`), with
//! what becomes of it: translated, not needed because ..., refused because .... A property that is in no row is refused
//! with the nearest name. What has no counterpart stops the import, all of it at once, unless the operator accepts the
//! loss. Where our default is better than Debezium's, the option that keeps Debezium's behaviour is written, so that an
//! imported pipeline does not change. What is made is checked like any file before it is handed out.

mod capture;
mod connect;
mod database;
mod kafka;
mod properties;
mod signals;
mod source;
mod table;
mod target;

#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod tests;

pub use source::SourceError;
pub use target::Hidden;

use super::{Environment, Faults};
use source::Given;
use target::Target;

/// What an import made.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration file.
    pub toml: String,
    /// Secrets, and the variables that the file has for them.
    pub hidden: Vec<Hidden>,
    /// What was left out, where that was accepted: property and reason.
    pub lost: Vec<(String, String)>,
}

/// Whether what has no counterpart may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It stops the import.
    Refused,
    /// It is left out, and named.
    Accepted,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Properties without counterpart, each with its reason.
    #[error("{} without counterpart", counted(refused.len()))]
    Refused {
        /// Property and reason.
        refused: Vec<(String, String)>,
    },
    /// What would be made is faulty: an expression that does not compile, a value that ours does not take.
    #[error("the configuration that would be made is faulty")]
    Faulty(#[source] Faults),
}

fn counted(count: usize) -> String {
    if count == 1 { "1 property".to_owned() } else { format!("{count} properties") }
}

/// Translates the files, given as names and texts.
///
/// # Errors
/// Nothing is made then.
pub fn import(files: &[(String, String)], loss: Loss) -> Result<Imported, ImportError> {
    let given = source::read(files)?;
    let mut target = Target::default();
    table::translate(&given, &mut target);
    capture::defaults(&Asked(&given), &mut target);
    if loss == Loss::Refused && !target.refused.is_empty() {
        return Err(ImportError::Refused { refused: target.refused });
    }
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let toml = target.print(&names);
    let environment: Environment =
        target.hidden.iter().map(|hidden| (hidden.variable.clone(), hidden.value.reveal().to_owned())).collect();
    super::check("the imported configuration", &toml, &environment)
        .map_err(|faults| {
            // A variable of the operator's own is not set here, and need not be.
            let told = |fault: &super::Fault| !fault.what.contains("is not set");
            Faults { file: faults.file, faults: faults.faults.into_iter().filter(told).collect() }
        })
        .map(|_| ())
        .or_else(|faults| if faults.faults.is_empty() { Ok(()) } else { Err(ImportError::Faulty(faults)) })?;
    Ok(Imported { toml, hidden: target.hidden, lost: target.refused })
}

/// Every property there is, what becomes of it (translated, not needed, refused), and as what or why.
pub fn properties() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    table::rows()
}

/// What was given, to be asked by name.
#[derive(Clone, Copy)]
struct Asked<'a>(&'a [Given]);

impl<'a> Asked<'a> {
    fn value(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|given| given.name == name).map(|given| given.value.as_str())
    }

    fn is(self, name: &str, value: &str) -> bool {
        self.value(name).is_some_and(|given| given.eq_ignore_ascii_case(value))
    }

    /// The value, or a default where there is none or nothing in it.
    fn or(self, name: &str, default: &'a str) -> &'a str {
        self.value(name).filter(|value| !value.trim().is_empty()).unwrap_or(default)
    }
}
