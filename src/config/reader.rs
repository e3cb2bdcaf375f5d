//! Takes keys out of a document, one type each, and notes every fault on the way.
//!
//! Each key is asked for exactly once, with its type and default, by the section that owns it. So the list of known
//! keys, the defaults that `config show` prints and the types cannot disagree: they are the same calls. What nobody
//! asked for is unknown. A section asks for all its keys before it gives up on a faulty one.

use super::document::{Document, Environment, Setting, Value};
use super::faults::{Fault, Origin};
use super::reference;
use super::show::{Digest, Line, mask_url};
use super::value::{Expected, nearest};
use crate::secret::{Command, Secret, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The longest piece of a value that a fault repeats, in characters.
const FOUND_CHARS_MAX: usize = 60;

pub(super) struct Reader<'a> {
    document: Document,
    environment: &'a Environment,
    known: BTreeSet<String>,
    described: BTreeMap<String, Described>,
    maps: Vec<&'static str>,
    faults: Vec<Fault>,
    lines: Vec<Line>,
}

/// What a key takes, as its own parser says it: asked with a value that no key has, and with one of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// "expected ...".
    pub expected: String,
    /// As `config show` prints it; none where there is no default.
    pub default: Option<String>,
    /// It must be given.
    pub required: bool,
    /// It takes true and false.
    pub flag: bool,
    /// It takes a whole number.
    pub number: bool,
    /// It takes a list of texts.
    pub list: bool,
    /// It takes a text.
    pub text: bool,
}

/// How a value may be repeated.
#[derive(Clone, Copy)]
enum Showing {
    Plain,
    /// A URL whose password is masked.
    Url,
    Secret,
}

impl<'a> Reader<'a> {
    pub fn new(document: Document, environment: &'a Environment) -> Self {
        let (known, described, maps, faults, lines) = Default::default();
        Reader { document, environment, known, described, maps, faults, lines }
    }

    /// A key that may be missing.
    pub fn optional<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, Expected>) -> Option<T> {
        self.describe(key, &parse);
        self.take(key, Showing::Plain, parse)
    }

    /// A key with a default, written as a variable's value would be. None only if the given value is faulty.
    pub fn or<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, Expected>, default: &str) -> Option<T> {
        self.describe(key, &parse).default = Some(Line::default_of(key, default).value);
        if self.is_given(key) {
            return self.take(key, Showing::Plain, parse);
        }
        self.known.insert(key.to_owned());
        self.lines.push(Line::default_of(key, default));
        parse(&Value::Loose(default.to_owned())).map_err(|expected| self.fault(key, expected)).ok()
    }

    /// A key without default. `wanted` says what to write where it is missing.
    pub fn required<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, Expected>, wanted: &str) -> Option<T> {
        self.describe(key, &parse).required = true;
        if !self.is_given(key) {
            self.missing(key, wanted);
        }
        self.take(key, Showing::Plain, parse)
    }

    /// Notes that a key without default is missing.
    pub fn missing(&mut self, key: &str, wanted: &str) {
        self.fault(key, format!("is missing; write {wanted}"));
    }

    /// A text that may hold a password: a connection's URL. A list is joined by its reader.
    pub fn url<T>(&mut self, key: &str, parse: impl Fn(&Value) -> Result<T, Expected>) -> Option<T> {
        self.describe(key, &parse);
        self.take(key, Showing::Url, parse)
    }

    /// A secret, as a text or by a reference. A reference to a file is read again each time.
    pub fn secret(&mut self, key: &str) -> Option<Source> {
        let file = self.referenced_file(key);
        self.describe(key, &super::value::text);
        let text = self.take(key, Showing::Secret, super::value::text)?;
        Some(file.map_or_else(|| Source::Inline(Secret::new(text)), Source::File))
    }

    /// A secret's file, which must be readable now and is read again each time.
    pub fn secret_file(&mut self, key: &str) -> Option<Source> {
        let path = self.optional(key, super::value::path)?;
        if let Err(what) = reference::content(&path) {
            self.fault(key, what);
        }
        Some(Source::File(path))
    }

    /// A command that prints a secret, run each time one is needed. Its arguments are not shown: they may be secrets.
    pub fn secret_command(&mut self, key: &str) -> Option<Source> {
        self.describe(key, &super::value::command);
        let words = self.take(key, Showing::Secret, super::value::command)?;
        Command::new(words).map(Source::Command)
    }

    /// A secret by one of several keys, not by two of them. The keys of texts, files and commands are told by their names.
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

    /// The file of a text that is one reference to it and nothing else; it is not taken by this.
    pub fn referenced_file(&self, key: &str) -> Option<PathBuf> {
        match &self.document.settings.get(key)?.value {
            Value::Text(text) | Value::Loose(text) => reference::whole_file(text),
            _ => None,
        }
    }

    /// Every key below `prefix`, whatever its name, as text. `is_sensitive` says which values are not shown.
    pub fn map(&mut self, prefix: &'static str, is_sensitive: fn(&str) -> bool) -> BTreeMap<String, String> {
        self.maps.push(prefix);
        let under = format!("{prefix}.");
        let keys = self.document.settings.keys().filter(|key| key.starts_with(&under)).cloned().collect::<Vec<_>>();
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

    /// Every key below `prefix`, inside a section whose names [`Reader::names`] gave, as text.
    pub fn inner_map(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let under = format!("{prefix}.");
        let keys = self.document.settings.keys().filter(|key| key.starts_with(&under)).cloned().collect::<Vec<_>>();
        let mut map = BTreeMap::new();
        for key in keys {
            if let Some(value) = self.take(&key, Showing::Plain, super::value::property) {
                map.insert(key[under.len()..].to_owned(), value);
            }
        }
        map
    }

    /// The names that stand directly below `section`, as in `[section.NAME]`; each name's keys are asked for one by one.
    pub fn names(&mut self, section: &'static str) -> BTreeSet<String> {
        self.maps.push(section);
        let under = format!("{section}.");
        let paths = self.document.settings.keys().chain(self.document.tables.keys());
        let below = paths.filter_map(|path| path.strip_prefix(&under)?.split('.').next().map(str::to_owned));
        below.collect()
    }

    /// Every key below `section`, whatever its name, with a list of texts.
    pub fn lists(&mut self, section: &'static str) -> BTreeMap<String, Vec<String>> {
        self.maps.push(section);
        let under = format!("{section}.");
        let keys = self.document.settings.keys().filter(|key| key.starts_with(&under)).cloned().collect::<Vec<_>>();
        let mut lists = BTreeMap::new();
        for key in keys {
            if let Some(list) = self.take(&key, Showing::Plain, super::value::texts) {
                lists.insert(key[under.len()..].to_owned(), list);
            }
        }
        lists
    }

    /// Whether the file or the environment holds the key.
    pub fn is_given(&self, key: &str) -> bool {
        self.document.settings.contains_key(key) || self.document.tables.contains_key(key)
    }

    /// Notes a fault of a key, at its place: its own, else its section's.
    pub fn fault(&mut self, key: &str, what: impl Into<String>) {
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let own = self.document.settings.get(key).map(|setting| setting.at.clone());
        let table = || self.document.tables.get(key).or_else(|| self.document.tables.get(section)).cloned();
        let at = own.or_else(table).unwrap_or(Origin::Default);
        self.faults.push(Fault { at, key: key.to_owned(), what: what.into() });
    }

    /// Notes a value that follows from others, for `config show`.
    pub fn follows(&mut self, key: &str, value: &str) {
        self.lines.push(Line::default_of(key, value));
    }

    /// Notes what a key takes.
    fn describe<T>(&mut self, key: &str, parse: &impl Fn(&Value) -> Result<T, Expected>) -> &mut Described {
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

    /// What every key takes that was asked for, and the maps.
    pub fn described(&self) -> (BTreeMap<String, Described>, Vec<&'static str>) {
        (self.described.clone(), self.maps.clone())
    }

    /// The faults, those of unknown keys included, and every line of `config show`.
    pub fn finish(mut self) -> (Vec<Fault>, Vec<Line>) {
        for (path, what) in self.foreign() {
            self.fault(&path, what);
        }
        (self.faults, self.lines)
    }

    /// What nobody asked for: sections, each once whatever it holds, and keys.
    fn foreign(&self) -> Vec<(String, String)> {
        let sections = self.sections();
        let mut foreign: Vec<(String, String)> = Vec::new();
        for path in self.document.tables.keys() {
            let is_known = sections.contains(path.as_str()) || self.known.contains(path);
            let in_map = self.maps.iter().any(|map| is_inside(path, map));
            if !is_known && !in_map && !foreign.iter().any(|(outer, _)| is_inside(path, outer)) {
                let near = nearest(path, sections.iter().copied());
                let hint = near.map_or_else(|| format!("the sections are {}", names(&sections)), did_you_mean);
                foreign.push((path.clone(), format!("unknown section; {hint}")));
            }
        }
        let foreign_tables = foreign.len();
        for key in self.document.settings.keys().filter(|key| !self.known.contains(*key)) {
            if foreign[..foreign_tables].iter().any(|(outer, _)| is_inside(key, outer)) {
                continue;
            }
            let what = if sections.contains(key.as_str()) {
                format!("is a section: write [{key}] and its keys below")
            } else {
                format!("unknown key{}", self.near_key(key))
            };
            foreign.push((key.clone(), what));
        }
        foreign
    }

    fn take<T>(&mut self, key: &str, showing: Showing, parse: impl Fn(&Value) -> Result<T, Expected>) -> Option<T> {
        self.known.insert(key.to_owned());
        let Some(setting) = self.document.settings.get(key).cloned() else {
            if self.document.tables.contains_key(key) {
                self.fault(key, "expected a value, found a section");
            }
            return None;
        };
        let is_url = matches!(showing, Showing::Url);
        let value = resolved(&setting.value, self.environment, is_url);
        // A secret's file is read again at each connect: a rotated one is no other configuration.
        let is_read_again = matches!(showing, Showing::Secret)
            && matches!(&setting.value, Value::Text(text) | Value::Loose(text) if reference::whole_file(text).is_some());
        let digest = Digest::of(&match &value {
            Ok(value) if !is_read_again => plain_text(value),
            _ => setting.typed.clone(),
        });
        self.lines.push(Line { key: key.to_owned(), value: shown(&setting, showing), digest, at: setting.at.clone() });
        let value = match value {
            Ok(value) => value,
            Err(what) => {
                self.fault(key, what);
                return None;
            }
        };
        parse(&value).map_err(|expected| self.fault(key, unexpected(&expected, &setting, showing))).ok()
    }

    /// The known sections, from the known keys and maps.
    fn sections(&self) -> BTreeSet<&str> {
        let of_keys = self.known.iter().filter_map(|key| key.split_once('.').map(|(section, _)| section));
        let of_maps = self.maps.iter().copied().filter(|map| self.document.tables.contains_key(*map));
        of_keys.chain(of_maps).collect()
    }

    /// The nearest known key: a misspelling in the same section, or the same name in another.
    fn near_key(&self, key: &str) -> String {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let in_section = self.known.iter().filter_map(|known| {
            let (its_section, its_name) = known.rsplit_once('.').unwrap_or(("", known));
            (its_section == section).then_some(its_name)
        });
        if let Some(near) = nearest(name, in_section) {
            return format!("; {}", did_you_mean(near));
        }
        let elsewhere = self.known.iter().find(|known| known.rsplit_once('.').is_some_and(|(_, its)| its == name));
        let near = elsewhere.map(String::as_str).or_else(|| nearest(key, self.known.iter().map(String::as_str)));
        near.map_or_else(String::new, |near| format!("; {}", did_you_mean(near)))
    }
}

/// Whether a path is another, or lies below it.
fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

fn names(of: &BTreeSet<&str>) -> String {
    of.iter().copied().collect::<Vec<_>>().join(", ")
}

/// References resolved, in texts and in lists of them. A text with references can become any type.
fn resolved(value: &Value, environment: &Environment, is_url: bool) -> Result<Value, String> {
    let resolve = if is_url { reference::resolve_url } else { reference::resolve };
    Ok(match value {
        Value::Text(text) | Value::Loose(text) => {
            resolve(text, environment)?.map_or_else(|| value.clone(), Value::Loose)
        }
        Value::List(items) => {
            Value::List(items.iter().map(|item| resolved(item, environment, is_url)).collect::<Result<_, _>>()?)
        }
        Value::Integer(_) | Value::Flag(_) | Value::Foreign => value.clone(),
    })
}

/// A value as a variable would hold it, so that a default given in the file is no other value.
fn plain_text(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Loose(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(plain_text).collect::<Vec<_>>().join(", ")),
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
