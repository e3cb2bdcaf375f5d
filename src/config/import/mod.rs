//! `wellspring config import`: translates the configuration of a Debezium pipeline into ours.
//!
//! One table (`table`) has every property of Debezium's Postgres connector, of Connect and of
//! Debezium Server. Each row says whether the property is translated, not needed, or refused, and
//! why. A property without a row is refused with the nearest name. All properties without a
//! counterpart are reported at once and stop the import, unless the operator accepts the loss.
//! If our default differs from Debezium's, the option that keeps Debezium's behaviour is written,
//! so that an imported pipeline behaves as before. The result is checked like any configuration
//! file before it is returned.

mod capture;
mod connect;
mod copies;
mod database;
mod kafka;
mod masks;
mod predicates;
mod properties;
mod scripts;
mod signals;
mod source;
mod strimzi;
mod table;
mod target;
mod topics;
mod transforms;

#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod tests;

pub use source::SourceError;
pub use target::Hidden;

use super::{Environment, Faults};
use source::Given;
use target::Target;

/// The result of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Text of the configuration file.
    pub toml: String,
    /// Secrets, and the variables by which the file refers to them.
    pub hidden: Vec<Hidden>,
    /// Properties that were left out with the operator's consent, each with its reason.
    pub lost: Vec<(String, String)>,
}

/// Whether properties without a counterpart may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A property without a counterpart stops the import.
    Refused,
    /// A property without a counterpart is left out and named.
    Accepted,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Properties without a counterpart, each with its reason.
    #[error("{} cannot be translated", counted(refused.len()))]
    Refused {
        /// Pairs of property and reason.
        refused: Vec<(String, String)>,
    },
    /// The resulting configuration is faulty: it has an expression that does not compile, or a
    /// value that a key of ours does not accept.
    #[error("the configuration that would be made is faulty")]
    Faulty(#[source] Faults),
}

fn counted(count: usize) -> String {
    if count == 1 { "1 property".to_owned() } else { format!("{count} properties") }
}

/// Translates files, given as pairs of name and text.
///
/// # Errors
/// The import failed, and there is no result.
pub fn import(files: &[(String, String)], loss: Loss) -> Result<Imported, ImportError> {
    let given = source::read(files)?;
    let mut target = Target::default();
    table::translate(&given, &mut target);
    capture::defaults(&Input(&given), &mut target);
    if loss == Loss::Refused && !target.refused.is_empty() {
        return Err(ImportError::Refused { refused: target.refused });
    }
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let toml = target.print(&names);
    let environment: Environment = target
        .hidden
        .iter()
        .map(|hidden| (hidden.variable.clone(), hidden.value.reveal().to_owned()))
        .collect();
    super::check("the imported configuration", &toml, &environment)
        .map_err(|faults| {
            // A variable to which the imported files refer need not be set during the import.
            let told = |fault: &super::Fault| !fault.what.contains("is not set");
            Faults { file: faults.file, faults: faults.faults.into_iter().filter(told).collect() }
        })
        .map(|_| ())
        .or_else(|faults| {
            if faults.faults.is_empty() { Ok(()) } else { Err(ImportError::Faulty(faults)) }
        })?;
    Ok(Imported { toml, hidden: target.hidden, lost: target.refused })
}

/// Every known property with its fate (translated, not needed, refused), and the new key or the
/// reason.
pub fn properties() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    table::rows()
}

/// The given properties, for access by name.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [Given]);

impl<'a> Input<'a> {
    fn value(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|given| given.name == name).map(|given| given.value.as_str())
    }

    fn is(self, name: &str, value: &str) -> bool {
        self.value(name).is_some_and(|given| given.eq_ignore_ascii_case(value))
    }

    /// The value of a property, or `default` if it is missing or blank.
    fn or(self, name: &str, default: &'a str) -> &'a str {
        self.value(name).filter(|value| !value.trim().is_empty()).unwrap_or(default)
    }
}
