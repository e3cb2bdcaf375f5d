//! The configuration as typed: the keys of the file and of the environment as flat paths, each with
//! its place.
//!
//! This file checks only the syntax. `[kafka.client] "a.b" = 1` and `[kafka] client.a.b = 1` are
//! the same path, `kafka.client.a.b`, so that dots in a property's name need no quotes.

use super::faults::{Fault, Origin};
use std::collections::BTreeMap;
use std::ffi::OsString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Names and values of environment variables. [`environment`] makes it.
pub type Environment = BTreeMap<String, String>;

/// Prefix of our environment variables.
const VARIABLE_PREFIX: &str = "WELLSPRING_";

/// The keys outside of any section. A variable without `__` counts only if it names one of these.
/// Kubernetes sets others, such as `WELLSPRING_SERVICE_HOST`, in every container of a namespace
/// that has a service called wellspring.
const TOP_LEVEL: [&str; 2] = ["sink", "state_file"];

/// The key whose value is an array of tables.
const ARRAY: &str = "transform";

/// A value with its TOML type, or a text whose key decides the type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Value>),
    /// A text from the environment, or one that contained `${...}`.
    Loose(String),
    /// A kind of value that no key accepts: a date, a float, an integer beyond 64 bits.
    Foreign,
}

/// One key's value, with its text and place.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub value: Value,
    /// The text as written, for faults and `config show`: references are unresolved, and quotes are
    /// included.
    pub typed: String,
    pub at: Origin,
}

/// A whole configuration as typed, file and environment together.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub settings: BTreeMap<String, Setting>,
    /// Paths of all tables of the TOML text, each with the place where the table is named.
    pub tables: BTreeMap<String, Origin>,
}

/// Takes the names and values of environment variables. A variable whose name or value is not UTF-8
/// is left out if it sets no key.
///
/// # Errors
/// One fault for each variable that sets a key and has a value that is not UTF-8.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Environment, Vec<Fault>> {
    let (mut environment, mut faults) = (Environment::new(), Vec::new());
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        if let Ok(value) = value.into_string() {
            environment.insert(name, value);
        } else if let Some(key) = key_of(&name) {
            let what = "the value is not UTF-8; set the variable to a text in UTF-8".to_owned();
            faults.push(Fault { at: Origin::Environment(name), key, what });
        }
    }
    if faults.is_empty() { Ok(environment) } else { Err(faults) }
}

/// Returns the path of the key that a variable sets. `WELLSPRING_KAFKA__BROKERS` is
/// `kafka.brokers`. In a map, `WELLSPRING_KAFKA__CLIENT__LINGER_MS` is `kafka.client.linger.ms`.
/// `None` if the name is not of this form.
fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(VARIABLE_PREFIX)?.to_lowercase();
    let parts: Vec<&str> = rest.splitn(3, "__").collect();
    match parts[..] {
        [top] if TOP_LEVEL.contains(&top) => Some(top.to_owned()),
        [section, key] => Some(format!("{section}.{key}")),
        [section, map, key] => Some(format!("{section}.{map}.{}", key.replace('_', "."))),
        _ => None,
    }
}

/// Reads the text of a file, and lets variables of the environment replace its values.
pub(super) fn read(text: &str, environment: &Environment) -> (Document, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading { text, document: Document::default(), faults: Vec::new() };
    for error in errors {
        // Only the parser's message is used. Its Display would quote the line, which may hold a
        // password.
        let at = error.span().map_or(Origin::Default, |span| place(text, span.start));
        reading.faults.push(Fault {
            at,
            key: String::new(),
            what: format!("not TOML: {}", error.message()),
        });
    }
    reading.table("", table.get_ref());
    for (name, value) in environment {
        reading.variable(name, value);
    }
    (reading.document, reading.faults)
}

struct Reading<'a> {
    text: &'a str,
    document: Document,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = place(self.text, name.span().start);
            let key = if path.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{path}.{}", name.get_ref())
            };
            if let DeValue::Table(inner) = value.get_ref() {
                self.document.tables.insert(key.clone(), at);
                self.table(&key, inner);
                continue;
            }
            if let (true, DeValue::Array(items)) = (key == ARRAY, value.get_ref())
                && items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_)))
            {
                self.document.tables.insert(key.clone(), at);
                self.array(&key, items.iter());
                continue;
            }
            let typed = self.text.get(value.span()).unwrap_or_default().to_owned();
            let setting = Setting { value: plain(value), typed, at: at.clone() };
            if self.document.settings.insert(key.clone(), setting).is_some() {
                self.faults.push(Fault {
                    at,
                    key,
                    what: "is set twice, with and without quotes".to_owned(),
                });
            }
        }
    }

    /// Reads `[[transform]]`. The path of each table ends in its place, which counts from 1.
    fn array<'t, 'd: 't>(
        &mut self,
        path: &str,
        items: impl Iterator<Item = &'t Spanned<DeValue<'d>>>,
    ) {
        for (number, item) in (1..).zip(items) {
            if let DeValue::Table(inner) = item.get_ref() {
                let key = format!("{path}.{number}");
                self.document.tables.insert(key.clone(), place(self.text, item.span().start));
                self.table(&key, inner);
            }
        }
    }

    /// Reads one variable. An empty value counts as not set, because compose files pass unset
    /// variables so.
    fn variable(&mut self, name: &str, value: &str) {
        let Some(key) = key_of(name) else { return };
        if value.is_empty() {
            return;
        }
        let at = Origin::Environment(name.to_owned());
        let setting =
            Setting { value: Value::Loose(value.to_owned()), typed: toml_text(value), at };
        self.document.settings.insert(key, setting);
    }
}

fn plain(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or(Value::Foreign, Value::Integer),
        DeValue::Array(items) => Value::List(items.iter().map(plain).collect()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Value::Foreign,
    }
}

/// Reads a list from a variable: a TOML array, or parts between commas. `None` if the text begins
/// like an array and is not one.
pub(super) fn loose_list(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('[') {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Some(parts.map(|part| Value::Text(part.to_owned())).collect());
    }
    match plain(&DeValue::parse(text.trim()).ok()?) {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// The text as a quoted TOML string.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Line and column of a byte in the text. Both count from 1, and the column counts characters.
fn place(text: &str, byte: usize) -> Origin {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit_once('\n').map_or(before, |(_, line)| line).chars().count() + 1;
    Origin::File { line, column }
}
