//! Takes keys out of a document with their types, and notes every fault.
//!
//! The section that owns a key reads it exactly once, with its type and default. The list of known
//! keys, the defaults that `config show` prints, and the types come from the same calls, so they
//! cannot disagree. A key that no section reads is unknown. A section reads all its keys before it
//! fails because of a faulty one.

use super::document::{Document, Environment, Setting, Value};
use super::faults::{Fault, Origin};
use super::foreign::{Foreign, Names};
use super::reference;
use super::show::{Digest, Line, mask_url};
use super::value::Expected;
use crate::secret::{Command, Secret, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Longest piece of a value that a fault quotes, in characters.
const FOUND_CHARS_MAX: usize = 60;

pub(super) struct Reader<'a> {
    document: Document,
    environment: &'a Environment,
    known: BTreeSet<String>,
    described: BTreeMap<String, Described>,
    maps: Vec<&'static str>,
    faults: Vec<Fault>,
    /// Keys without a default that are not given.
    missing: BTreeSet<String>,
    lines: Vec<Line>,
}

/// What a key accepts. To find that out, the key's parser is given a value that it must refuse with
/// its description, and one value of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The parser's description of what it accepts, as in "expected ...".
    pub expected: String,
    /// The default as `config show` prints it; `None` if there is none.
    pub default: Option<String>,
    /// True if the key must be given.
    pub required: bool,
    /// True if the key accepts true and false.
    pub flag: bool,
    /// True if the key accepts a whole number.
    pub number: bool,
    /// True if the key accepts a list of texts.
    pub list: bool,
    /// True if the key accepts a text.
    pub text: bool,
}

/// How a value is printed.
#[derive(Clone, Copy)]
enum Showing {
    Plain,
    /// A URL, which is printed with its password masked.
    Url,
    Secret,
}

impl<'a> Reader<'a> {
    pub fn new(document: Document, environment: &'a Environment) -> Self {
        let (known, described, maps, faults, missing, lines) = Default::default();
        Reader { document, environment, known, described, maps, faults, missing, lines }
    }

    /// Reads a key that may be missing. `None` if the key is missing or its value is faulty.
    pub fn optional<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, Expected>,
    ) -> Option<T> {
        self.describe(key, &parse);
        self.take(key, Showing::Plain, parse)
    }

    /// Reads a key with a default, which is written as a variable would hold it. `None` only if the
    /// given value is faulty.
    pub fn or<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, Expected>,
        default: &str,
    ) -> Option<T> {
        self.describe(key, &parse).default = Some(Line::default_of(key, default).value);
        if self.is_given(key) {
            return self.take(key, Showing::Plain, parse);
        }
        self.known.insert(key.to_owned());
        self.lines.push(Line::default_of(key, default));
        parse(&Value::Loose(default.to_owned())).map_err(|expected| self.fault(key, expected)).ok()
    }

    /// Reads a key without a default. `wanted` is the example that is shown if the key is missing.
    /// `None` if the key is missing or its value is faulty, and a fault is noted then.
    pub fn required<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, Expected>,
        wanted: &str,
    ) -> Option<T> {
        self.describe(key, &parse).required = true;
        if !self.is_given(key) {
            self.missing(key, wanted);
        }
        self.take(key, Showing::Plain, parse)
    }

    /// Notes the fault that a key without a default is missing.
    pub fn missing(&mut self, key: &str, wanted: &str) {
        self.fault(key, format!("is missing; write {wanted}"));
        self.missing.insert(key.to_owned());
    }

    /// Reads a URL or a list of URLs. A URL may hold a password, so it is printed with that masked.
    pub fn url<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Value) -> Result<T, Expected>,
    ) -> Option<T> {
        self.describe(key, &parse);
        self.take(key, Showing::Url, parse)
    }

    /// Reads a secret, as a text or by a reference. A file that is referenced is read again each
    /// time the secret is needed.
    pub fn secret(&mut self, key: &str) -> Option<Source> {
        let file = self.referenced_file(key);
        self.describe(key, &super::value::text);
        let text = self.take(key, Showing::Secret, super::value::text)?;
        Some(file.map_or_else(|| Source::Inline(Secret::new(text)), Source::File))
    }

    /// Reads the path of a secret's file. The file must be readable now, and is read again each
    /// time the secret is needed.
    pub fn secret_file(&mut self, key: &str) -> Option<Source> {
        let path = self.optional(key, super::value::path)?;
        if let Err(what) = reference::content(&path) {
            self.fault(key, what);
        }
        Some(Source::File(path))
    }

    /// Reads a command that prints a secret. It runs each time the secret is needed. Its arguments
    /// are never printed, because they may be secrets.
    pub fn secret_command(&mut self, key: &str) -> Option<Source> {
        self.describe(key, &super::value::command);
        let words = self.take(key, Showing::Secret, super::value::command)?;
        Command::new(words).map(Source::Command)
    }

    /// Reads a secret that is given by one of several keys. Two of them are a fault. A key's suffix
    /// says whether it is a text, a file or a command.
    pub fn one_secret(&mut self, keys: &[&str]) -> Option<Source> {
        let mut found: Option<(&str, Source)> = None;
        for key in keys {
            let source = match key.rsplit('_').next() {
                Some("file") => self.secret_file(key),
                Some("command") => self.secret_command(key),
                _ => self.secret(key),
            };
            match (&found, source) {
                (None, Some(source)) => found = Some((key, source)),
                (Some((first, _)), Some(_)) => {
                    let what = format!("{first} is set as well: say it in one place");
                    self.fault(key, what);
                }
                (_, None) => {}
            }
        }
        found.map(|(_, source)| source)
    }

    /// Returns the path of the file, if the value of a key is a reference to a file and nothing
    /// else. Otherwise `None`. The key still counts as not read.
    pub fn referenced_file(&self, key: &str) -> Option<PathBuf> {
        match &self.document.settings.get(key)?.value {
            Value::Text(text) | Value::Loose(text) => reference::whole_file(text),
            _ => None,
        }
    }

    /// Reads every key below `prefix` as text, whatever the key's name is. Returns the texts by the
    /// part of the key after the prefix. `is_sensitive` says which values are not printed.
    pub fn map(
        &mut self,
        prefix: &'static str,
        is_sensitive: fn(&str) -> bool,
    ) -> BTreeMap<String, String> {
        self.maps.push(prefix);
        let under = format!("{prefix}.");
        let keys = self
            .document
            .settings
            .keys()
            .filter(|key| key.starts_with(&under))
            .cloned()
            .collect::<Vec<_>>();
        let mut map = BTreeMap::new();
        for key in keys {
            let name = &key[under.len()..];
            let showing = if is_sensitive(name) { Showing::Secret } else { Showing::Plain };
            if let Some(value) = self.take(&key, showing, super::value::property) {
                map.insert(name.to_owned(), value);
            }
        }
        map
    }

    /// Reads every key below `prefix` as text, and returns the texts by the part of the key after
    /// the prefix. `prefix` lies within a section whose names [`Reader::names`] returned.
    pub fn inner_map(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let under = format!("{prefix}.");
        let keys = self
            .document
            .settings
            .keys()
            .filter(|key| key.starts_with(&under))
            .cloned()
            .collect::<Vec<_>>();
        let mut map = BTreeMap::new();
        for key in keys {
            if let Some(value) = self.take(&key, Showing::Plain, super::value::property) {
                map.insert(key[under.len()..].to_owned(), value);
            }
        }
        map
    }

    /// Returns the names directly below `section`, as in `[section.NAME]`. The caller reads the
    /// keys of each name one by one.
    pub fn names(&mut self, section: &'static str) -> BTreeSet<String> {
        self.maps.push(section);
        let under = format!("{section}.");
        let paths = self.document.settings.keys().chain(self.document.tables.keys());
        let below = paths
            .filter_map(|path| path.strip_prefix(&under)?.split('.').next().map(str::to_owned));
        below.collect()
    }

    /// Reads every key below `section` as a list of texts, whatever its name.
    pub fn lists(&mut self, section: &'static str) -> BTreeMap<String, Vec<String>> {
        self.maps.push(section);
        let under = format!("{section}.");
        let keys = self
            .document
            .settings
            .keys()
            .filter(|key| key.starts_with(&under))
            .cloned()
            .collect::<Vec<_>>();
        let mut lists = BTreeMap::new();
        for key in keys {
            if let Some(list) = self.take(&key, Showing::Plain, super::value::texts) {
                lists.insert(key[under.len()..].to_owned(), list);
            }
        }
        lists
    }

    /// True if the file or the environment has the key.
    pub fn is_given(&self, key: &str) -> bool {
        self.document.settings.contains_key(key) || self.document.tables.contains_key(key)
    }

    /// Notes a fault of a key. Its place is that of the key, or else of the section.
    pub fn fault(&mut self, key: &str, what: impl Into<String>) {
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let own = self.document.settings.get(key).map(|setting| setting.at.clone());
        let table =
            || self.document.tables.get(key).or_else(|| self.document.tables.get(section)).cloned();
        let at = own.or_else(table).unwrap_or(Origin::Default);
        self.faults.push(Fault { at, key: key.to_owned(), what: what.into() });
    }

    /// Adds a line to `config show` for a key that was left out and whose value follows from other
    /// values.
    pub fn follows(&mut self, key: &str, value: &str) {
        self.lines.push(Line::default_of(key, value));
    }

    /// Notes what a key accepts.
    fn describe<T>(
        &mut self,
        key: &str,
        parse: &impl Fn(&Value) -> Result<T, Expected>,
    ) -> &mut Described {
        let takes = |value: &Value| parse(value).is_ok();
        let text = || Value::Text("x".to_owned());
        let expected = parse(&Value::Foreign).err().unwrap_or_default();
        let described = Described {
            default: None,
            required: false,
            flag: takes(&Value::Flag(true)),
            number: takes(&Value::Integer(1)),
            list: takes(&Value::List(vec![text()])),
            text: !expected.starts_with("a list")
                && !expected.starts_with("true or")
                && !expected.starts_with("a whole"),
            expected,
        };
        self.described.entry(key.to_owned()).insert_entry(described).into_mut()
    }

    /// Returns what each key accepts that was read, and the sections whose keys the operator names.
    pub fn described(&self) -> (BTreeMap<String, Described>, Vec<&'static str>) {
        (self.described.clone(), self.maps.clone())
    }

    /// The faults, including those of unknown keys, and every line of `config show`. If a required
    /// key is given under a misspelled name, only the misspelling is a fault.
    pub fn finish(mut self) -> (Vec<Fault>, Vec<Line>) {
        let names = Names {
            document: &self.document,
            known: &self.known,
            maps: &self.maps,
            missing: &self.missing,
        };
        for Foreign { path, what, meant } in names.foreign() {
            if let Some(meant) = meant {
                let is_meant = |key: &str| {
                    let given = key.strip_prefix(&meant).map(|rest| format!("{path}{rest}"));
                    self.missing.contains(key)
                        && given.is_some_and(|key| self.document.settings.contains_key(&key))
                };
                self.faults.retain(|fault| !is_meant(&fault.key));
            }
            self.fault(&path, what);
        }
        (self.faults, self.lines)
    }

    fn take<T>(
        &mut self,
        key: &str,
        showing: Showing,
        parse: impl Fn(&Value) -> Result<T, Expected>,
    ) -> Option<T> {
        self.known.insert(key.to_owned());
        let Some(setting) = self.document.settings.get(key).cloned() else {
            if self.document.tables.contains_key(key) {
                self.fault(key, "expected a value, found a section");
            }
            return None;
        };
        let is_url = matches!(showing, Showing::Url);
        let value = resolved(&setting.value, self.environment, is_url);
        // A secret's file is read again at each connect, so new content of the file does not change
        // the configuration.
        let is_a_file = match &setting.value {
            Value::Text(text) | Value::Loose(text) => reference::whole_file(text).is_some(),
            _ => false,
        };
        let is_read_again = matches!(showing, Showing::Secret) && is_a_file;
        let digest = Digest::of(&match &value {
            Ok(value) if !is_read_again => plain_text(value),
            _ => setting.typed.clone(),
        });
        self.lines.push(Line {
            key: key.to_owned(),
            value: shown(&setting, showing),
            digest,
            at: setting.at.clone(),
        });
        let value = match value {
            Ok(value) => value,
            Err(what) => {
                self.fault(key, what);
                return None;
            }
        };
        parse(&value)
            .map_err(|expected| self.fault(key, unexpected(&expected, &setting, showing)))
            .ok()
    }
}

/// Resolves the references in texts and in lists of texts. A text with references becomes
/// `Loose`: its key decides the type.
fn resolved(value: &Value, environment: &Environment, is_url: bool) -> Result<Value, String> {
    let resolve = if is_url { reference::resolve_url } else { reference::resolve };
    Ok(match value {
        Value::Text(text) | Value::Loose(text) => {
            resolve(text, environment)?.map_or_else(|| value.clone(), Value::Loose)
        }
        Value::List(items) => Value::List(
            items
                .iter()
                .map(|item| resolved(item, environment, is_url))
                .collect::<Result<_, _>>()?,
        ),
        Value::Integer(_) | Value::Flag(_) | Value::Foreign => value.clone(),
    })
}

/// Returns a value as the text that a variable would hold. A default that the file repeats
/// therefore counts as the same value.
fn plain_text(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Loose(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => {
            format!("[{}]", items.iter().map(plain_text).collect::<Vec<_>>().join(", "))
        }
        Value::Foreign => String::new(),
    }
}

fn unexpected(expected: &str, setting: &Setting, showing: Showing) -> String {
    match showing {
        Showing::Plain if setting.typed.chars().count() <= FOUND_CHARS_MAX => {
            format!("expected {expected}; found {}", setting.typed)
        }
        Showing::Plain => {
            let start: String = setting.typed.chars().take(FOUND_CHARS_MAX).collect();
            format!("expected {expected}; found {start}...")
        }
        Showing::Url | Showing::Secret => format!("expected {expected}"),
    }
}

fn shown(setting: &Setting, showing: Showing) -> String {
    let is_reference = match &setting.value {
        Value::Text(text) | Value::Loose(text) => reference::is_whole(text),
        _ => false,
    };
    match showing {
        Showing::Secret if !is_reference => "\"***\"".to_owned(),
        Showing::Url if !is_reference => mask_url(&setting.typed),
        Showing::Plain | Showing::Url | Showing::Secret => setting.typed.clone(),
    }
}
