//! `wellspring config show`: the effective configuration with the origin of each value, and without
//! secrets.
//!
//! The output is a configuration file again, with each origin in a comment.

use super::document::toml_text;
use super::faults::Origin;
use crate::postgres::may_show_parameter;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

/// A digest of a value, by which a reload notices a changed value. It is computed from the value
/// itself, also for a secret, so it is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    /// The digest of a value's text.
    pub fn of(text: &str) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        text.hash(&mut hasher);
        Digest(hasher.finish())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One key with its value as TOML. A secret is masked.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub key: String,
    pub value: String,
    pub digest: Digest,
    pub at: Origin,
}

impl Line {
    /// The line of a key that was left out. `value` has the form that a variable would hold.
    pub fn default_of(key: &str, value: &str) -> Self {
        let is_toml = value.parse::<i64>().is_ok()
            || matches!(value, "true" | "false")
            || value.starts_with('[');
        let digest = Digest::of(value);
        let value = if is_toml { value.to_owned() } else { toml_text(value) };
        Line { key: key.to_owned(), value, digest, at: Origin::Default }
    }
}

/// The effective configuration, ready to be printed.
#[derive(Clone, Debug)]
pub struct Shown {
    pub(super) file: String,
    pub(super) lines: Vec<Line>,
}

/// The sections in the order of the reference. The keys outside of any section come first.
pub(super) const SECTIONS: [&str; 15] = [
    "",
    "postgres",
    "tables",
    "columns",
    "keys",
    "topics",
    "topics.extra",
    "events",
    "registry",
    "kafka",
    "kafka.client",
    "snapshot",
    "limits",
    "admin",
    "log",
];

/// Column in which the comment with the origin of a value begins, unless the setting is longer.
const ORIGIN_COLUMN: usize = 56;

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sections: Vec<&str> = SECTIONS.to_vec();
        let others = self.lines.iter().map(|line| split(&line.key).0);
        for other in others {
            if !sections.contains(&other) {
                sections.push(other);
            }
        }
        let mut text = String::new();
        // The `[[transform]]` come last, in the order of their numbers, which is their order in the
        // file.
        sections.sort_by_key(|section| number_of(section));
        for section in sections {
            let lines =
                self.lines.iter().filter(|line| split(&line.key).0 == section).collect::<Vec<_>>();
            if lines.is_empty() {
                continue;
            }
            let gap = if text.is_empty() { "" } else { "\n" };
            match number_of(section) {
                Some(_) => writeln!(text, "{gap}[[transform]]")?,
                None if section.is_empty() => {}
                None => writeln!(text, "{gap}[{section}]")?,
            }
            for line in lines {
                let key = split(&line.key).1;
                let quoted = if key.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                    toml_text(key)
                } else {
                    key.to_owned()
                };
                let setting = format!("{quoted} = {}", line.value);
                writeln!(text, "{setting:ORIGIN_COLUMN$} # {}", self.origin(&line.at))?;
            }
        }
        f.write_str(&text)
    }
}

/// Prefixes of the keys that decide a record's form, its largest size, or the set of captured
/// tables.
const DECIDING: [&str; 7] = [
    "tables.",
    "columns.",
    "keys.",
    "topics.",
    "events.",
    "transform.",
    "kafka.client.message.max.bytes",
];

impl Shown {
    /// A digest of the keys under [`DECIDING`] with their values as they are printed. Secrets are
    /// masked, and the order of the file does not matter.
    pub(super) fn fingerprint(&self) -> String {
        let decides = |line: &&Line| DECIDING.iter().any(|part| line.key.starts_with(part));
        let mut lines: Vec<String> = self
            .lines
            .iter()
            .filter(decides)
            .map(|line| format!("{} = {}\n", line.key, line.value))
            .collect();
        lines.sort();
        openssl::sha::sha256(lines.concat().as_bytes())[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Keys whose values differ, or that only one of the two configurations has, sorted.
    pub(super) fn differences(&self, other: &Shown) -> Vec<String> {
        let digests = |shown: &Shown| -> BTreeMap<String, Digest> {
            shown.lines.iter().map(|line| (line.key.clone(), line.digest)).collect()
        };
        let (ours, theirs) = (digests(self), digests(other));
        let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)).cloned().collect()
    }

    fn origin(&self, at: &Origin) -> String {
        match at {
            Origin::File { line, .. } => format!("{}:{line}", self.file),
            Origin::Environment(name) => name.clone(),
            Origin::Default => "default".to_owned(),
        }
    }
}

/// The number of a `[[transform]]`; none for any other section.
fn number_of(section: &str) -> Option<usize> {
    section.strip_prefix("transform.")?.parse().ok()
}

/// Section and key of a path. In the maps the key is everything after the map's name.
fn split(path: &str) -> (&str, &str) {
    for map in ["kafka.client", "topics.extra", "keys"] {
        if let Some(key) = path.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) {
            return (map, key);
        }
    }
    if path.starts_with("masks.")
        || path.starts_with("transform.")
        || path.starts_with("topics.group.")
    {
        return path.rsplit_once('.').unwrap_or(("", path));
    }
    path.split_once('.').unwrap_or(("", path))
}

/// A URL as typed, with every place of a password masked. One place is between the first colon
/// after the scheme and the last `@`. The others are the values of parameters, except those of
/// Postgres that hold no secret. The whole text is masked if it has an `@` and no scheme, or an
/// escape of TOML.
pub(super) fn mask_url(typed: &str) -> String {
    if typed.contains('\\') {
        return "\"***\"".to_owned();
    }
    let mut masked = String::new();
    for (i, piece) in typed.split("://").enumerate() {
        if i > 0 {
            masked.push_str("://");
        }
        match piece.rsplit_once('@') {
            Some((credentials, rest)) if i > 0 => {
                let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
                let has_password = user.len() < credentials.len();
                masked.push_str(user);
                masked.push_str(if has_password { ":***@" } else { "@" });
                masked.push_str(rest);
            }
            None => masked.push_str(piece),
            // Without a scheme the place of a password is unknown.
            Some(_) => return "\"***\"".to_owned(),
        }
    }
    let Some((before, query)) = masked.split_once('?') else { return masked };
    let (query, quote) = match query.strip_suffix(['"', '\'']) {
        Some(query) => (query, &masked[masked.len() - 1..]),
        None => (query, ""),
    };
    let shown: Vec<String> = query.split('&').map(parameter).collect();
    format!("{before}?{}{quote}", shown.join("&"))
}

/// A parameter of a URL, with its value masked unless it may be shown.
fn parameter(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if may_show_parameter(name) => pair.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_a_password_wherever_a_url_can_hold_it() {
        assert_eq!(mask_url("\"postgresql://u:p@ss@h/d\""), "\"postgresql://u:***@h/d\"");
        assert_eq!(mask_url("\"postgresql://u:a/b@h/d\""), "\"postgresql://u:***@h/d\"");
        assert_eq!(
            mask_url("\"postgresql://u@h/d?password=x&sslmode=require\""),
            "\"postgresql://u@h/d?password=***&sslmode=require\""
        );
        assert_eq!(
            mask_url("\"postgresql://u@h/d?password=a&sslpassword=b\""),
            "\"postgresql://u@h/d?password=***&sslpassword=***\""
        );
        assert_eq!(mask_url("\"a://h?password=ab'cd\""), "\"a://h?password=***\"");
        assert_eq!(mask_url("\"a://h?pass%77ord=x\""), "\"a://h?pass%77ord=***\"");
        assert_eq!(mask_url("\"a://h?pass\\u0077ord=x\""), "\"***\"");
        assert_eq!(mask_url("\"a://u:p\\u0040h/d\""), "\"***\"");
        assert_eq!(mask_url("'a://h?port=1&x'"), "'a://h?port=1&***'");
        assert_eq!(mask_url("\"postgresql://u@h:5432/d\""), "\"postgresql://u@h:5432/d\"");
        assert_eq!(mask_url("\"u:p@h\""), "\"***\"");
    }
}
