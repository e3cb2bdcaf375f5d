//! Parses one value of the file into one type, with its unit.
//!
//! Each function returns a description of what it expects, and never the value. `reader` adds what
//! was found, unless the key is a secret.

use super::document::{Value, loose_list};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Description of what a key accepts, for "expected ..., found ...".
pub(super) type Expected = String;

/// The most edits between a misspelt name and the known name that is suggested for it.
const NEAREST_EDITS_MAX: usize = 3;

/// A number of bytes. It prints in the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    /// The number as a `usize`, which saturates.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits =
            Self::UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match fits {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

pub(super) fn text(value: &Value) -> Result<String, Expected> {
    match value {
        Value::Text(text) | Value::Loose(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err("a text that is not empty, in quotes".to_owned()),
    }
}

/// Parses a text that may be empty.
pub(super) fn any_text(value: &Value) -> Result<String, Expected> {
    match value {
        Value::Text(text) | Value::Loose(text) => Ok(text.clone()),
        _ => Err("a text in quotes".to_owned()),
    }
}

pub(super) fn path(value: &Value) -> Result<PathBuf, Expected> {
    text(value).map(PathBuf::from).map_err(|_| "the path of a file, in quotes".to_owned())
}

pub(super) fn flag(value: &Value) -> Result<bool, Expected> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        Value::Loose(text) if text == "true" => Ok(true),
        Value::Loose(text) if text == "false" => Ok(false),
        _ => Err("true or false, without quotes".to_owned()),
    }
}

/// Parses a property of Kafka: a text, number or flag, which is passed on as text.
pub(super) fn property(value: &Value) -> Result<String, Expected> {
    match value {
        Value::Text(text) | Value::Loose(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Flag(flag) => Ok(flag.to_string()),
        _ => Err("a text, a whole number, or true or false".to_owned()),
    }
}

/// Parses a whole number from `low` to `high`.
pub(super) fn count(low: i32, high: i32) -> impl Fn(&Value) -> Result<i32, Expected> {
    move |value| {
        let number = match value {
            Value::Integer(number) => i32::try_from(*number).ok(),
            Value::Loose(text) => text.parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number| (low..=high).contains(number));
        fits.ok_or_else(|| format!("a whole number from {low} to {high}, without quotes"))
    }
}

pub(super) fn texts(value: &Value) -> Result<Vec<String>, Expected> {
    let expected = || "a list of texts, such as [\"a\", \"b\"]".to_owned();
    let items = match value {
        Value::List(items) => items.clone(),
        Value::Loose(text) => loose_list(text).ok_or_else(expected)?,
        _ => return Err(expected()),
    };
    items.iter().map(|item| text(item).map_err(|_| expected())).collect()
}

/// Parses a list of a program and its arguments.
pub(super) fn command(value: &Value) -> Result<Vec<String>, Expected> {
    let words = texts(value).ok().filter(|words| !words.is_empty());
    words.ok_or_else(|| {
        "a list of a program and its arguments, such as [\"pass\", \"show\", \"db\"]".to_owned()
    })
}

/// Parses one text, or a list of texts.
pub(super) fn text_or_texts(value: &Value) -> Result<Vec<String>, Expected> {
    match value {
        Value::Text(_) => text(value).map(|one| vec![one]),
        _ => texts(value).map_err(|_| "a text, or a list of texts".to_owned()),
    }
}

/// Parses one of a few words.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Value) -> Result<T, Expected> {
    move |value| {
        let word = any_text(value).unwrap_or_default();
        let found = words.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| {
            let names: Vec<String> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let near = nearest(&word, words.iter().map(|(name, _)| *name));
            let hint = near.map_or_else(String::new, |near| format!(" (did you mean \"{near}\"?)"));
            format!("one of {}{hint}", names.join(", "))
        })
    }
}

/// Returns the known name that is most similar to a misspelt one. `None` if no name is similar
/// enough.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // A third of the name may be wrong: `kafak` is kafka, `id` is not `ca`.
    let edits_max = (name.chars().count() / 3).clamp(1, NEAREST_EDITS_MAX);
    let distances = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    distances.filter(|(edits, _)| *edits <= edits_max).min().map(|(_, known)| known)
}

/// Parses a duration with its unit, from `low` to `high`.
pub(super) fn duration(
    low: Duration,
    high: Duration,
) -> impl Fn(&Value) -> Result<Duration, Expected> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    move |value| {
        let read = any_text(value)
            .ok()
            .and_then(|text| number_with_unit(&text, &UNITS))
            .map(Duration::from_millis);
        let fits = read.filter(|duration| (low..=high).contains(duration));
        fits.ok_or_else(|| {
            format!(
                "a duration from {low:?} to {high:?} with its unit, such as \"30s\" (ms, s, m, h, \
                 d)"
            )
        })
    }
}

/// Parses a number of bytes with its unit, from `low` to `high`.
pub(super) fn size(low: ByteSize, high: ByteSize) -> impl Fn(&Value) -> Result<ByteSize, Expected> {
    move |value| {
        let read = any_text(value)
            .ok()
            .and_then(|text| number_with_unit(&text, &ByteSize::UNITS))
            .map(ByteSize);
        let fits = read.filter(|size| (low..=high).contains(size));
        fits.ok_or_else(|| {
            format!("a size from {low} to {high} with its unit, such as \"32MiB\" (KiB, MiB, GiB)")
        })
    }
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Parses an address to listen on; `None` for `off`.
pub(super) fn listen(value: &Value) -> Result<Option<SocketAddr>, Expected> {
    let text = any_text(value).unwrap_or_default();
    if text == "off" {
        return Ok(None);
    }
    let numeric = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.clone(), |port| format!("127.0.0.1:{port}"));
    numeric
        .parse()
        .map(Some)
        .map_err(|_| "an address and port, such as \"127.0.0.1:9630\", or \"off\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loose(text: &str) -> Value {
        Value::Loose(text.to_owned())
    }

    #[test]
    fn a_size_needs_its_unit() {
        let size = size(ByteSize(0), ByteSize(u64::MAX));
        assert_eq!(size(&loose("32MiB")), Ok(ByteSize(32 << 20)));
        assert_eq!(size(&loose("64 kB")), Ok(ByteSize(64_000)));
        for bad in ["32", "MiB", "", "-1MiB", "1.5GiB", "32mib", "99999999999999GiB"] {
            assert!(size(&loose(bad)).is_err(), "{bad}");
        }
        assert!(size(&Value::Integer(32)).is_err());
    }

    #[test]
    fn a_duration_stays_within_its_bounds() {
        let duration = duration(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(duration(&loose("1m")), Ok(Duration::from_secs(60)));
        assert!(duration(&loose("999ms")).is_err());
        assert!(duration(&loose("61s")).is_err());
    }

    #[test]
    fn a_list_from_the_environment_is_commas_or_toml() {
        assert_eq!(texts(&loose("a, b,")), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(&loose(r#"["a,b", "c"]"#)), Ok(vec!["a,b".to_owned(), "c".to_owned()]));
        assert_eq!(texts(&loose("[]")), Ok(vec![]));
        assert!(texts(&loose("[1]")).is_err());
        assert!(texts(&loose("[")).is_err());
    }

    #[test]
    fn listens_on_addresses_and_on_nothing() {
        assert_eq!(listen(&loose("localhost:1")), Ok(Some(SocketAddr::from(([127, 0, 0, 1], 1)))));
        assert_eq!(listen(&loose("off")), Ok(None));
        assert!(listen(&loose("9630")).is_err());
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back_as_itself(bytes: u64) {
            prop_assert_eq!(size(ByteSize(0), ByteSize(u64::MAX))(&loose(&ByteSize(bytes).to_string())), Ok(ByteSize(bytes)));
        }
    }
}
