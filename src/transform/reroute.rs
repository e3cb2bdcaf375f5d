//! Topics by a regular expression: Debezium's regex topic naming, where many tables share a topic.
//!
//! The topic is decided once for each table. The expression is matched against the topic that the
//! table would have otherwise. If the expression matches the whole topic, the replacement takes the
//! place of its first match, as `java.util.regex.Matcher.replaceFirst` does it. Keys of several
//! tables meet in one topic, so a field of the key names the table.

use fancy_regex::{Regex, RegexBuilder};
use std::fmt;

/// Debezium's name of the field in the key.
pub const KEY_FIELD: &str = "__dbz__physicalTableIdentifier";

/// The most backtracking steps that an expression may take on one name, as in `table::names`.
const STEPS_MAX: usize = 1_000_000;

/// Why a rule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum RerouteFault {
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// The replacement ends in a backslash or a dollar sign.
    #[error("ends in `\\` or `$`; write `\\$` for the sign itself")]
    Unfinished,
    /// The replacement names a group that the expression does not have.
    #[error("has no group `{0}` in the expression")]
    NoGroup(String),
}

/// A regular expression and its replacement.
#[derive(Clone)]
pub struct Replace {
    text: [String; 2],
    whole: Regex,
    first: Regex,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

impl PartialEq for Replace {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Replace {}

impl fmt::Debug for Replace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replace({:?}, {:?})", self.text[0], self.text[1])
    }
}

impl Replace {
    /// Reads an expression and its replacement. In the replacement, `$1` and `${name}` stand for
    /// groups, and the sign after a `\` stands for itself.
    ///
    /// # Errors
    /// `Regex` for a fault of the expression; the other variants for a fault of the replacement.
    pub fn read(expression: &str, replacement: &str) -> Result<Self, RerouteFault> {
        let built = |text: &str| {
            let built = RegexBuilder::new(text).backtrack_limit(STEPS_MAX).build();
            built.map_err(|error| {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                RerouteFault::Regex(last.trim_start_matches("error: ").to_owned())
            })
        };
        let first = built(expression)?;
        let whole = built(&format!("\\A(?:{expression})\\z"))?;
        let pieces = pieces(replacement, &first)?;
        Ok(Replace { text: [expression.to_owned(), replacement.to_owned()], whole, first, pieces })
    }

    /// The name after the replacement. The name is unchanged if the expression does not match all
    /// of it or takes too many steps, or if nothing would be left.
    #[must_use]
    pub fn apply(&self, name: &str) -> String {
        self.replaced(name).unwrap_or_else(|| name.to_owned())
    }

    /// Whether the expression matches all of a name.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        self.whole.is_match(name).unwrap_or(false)
    }

    /// The name after the replacement; `None` if the name does not match or becomes empty.
    #[must_use]
    pub fn replaced(&self, name: &str) -> Option<String> {
        if !self.fits(name) {
            return None;
        }
        let found = self.first.captures(name).ok()??;
        let all = found.get(0)?;
        let (Some(before), Some(behind)) = (name.get(..all.start()), name.get(all.end()..)) else {
            unreachable!("a match begins and ends between characters")
        };
        let mut out = before.to_owned();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(group) => {
                    out.push_str(found.get(*group).map_or("", |group| group.as_str()))
                }
            }
        }
        out.push_str(behind);
        (!out.is_empty()).then_some(out)
    }
}

/// Splits a replacement in Java's form into texts and groups.
fn pieces(replacement: &str, regex: &Regex) -> Result<Vec<Piece>, RerouteFault> {
    let groups = regex.captures_len(); // the whole is group 0
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = replacement.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.push(rest.next().ok_or(RerouteFault::Unfinished)?),
            '$' => {
                let group = match rest.next() {
                    Some('{') => {
                        let name: String = rest.by_ref().take_while(|c| *c != '}').collect();
                        let place =
                            regex.capture_names().position(|known| known == Some(name.as_str()));
                        place.ok_or(RerouteFault::NoGroup(name))?
                    }
                    Some(first) => {
                        let digit =
                            |c: char| c.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                        let mut group = digit(first).ok_or(RerouteFault::Unfinished)?;
                        // Further digits belong to the number as long as a group with this number
                        // exists.
                        while let Some(more) = rest.peek().copied().and_then(digit) {
                            let longer = group * 10 + more;
                            if longer >= groups {
                                break;
                            }
                            group = longer;
                            rest.next();
                        }
                        group
                    }
                    None => return Err(RerouteFault::Unfinished),
                };
                if group >= groups {
                    return Err(RerouteFault::NoGroup(group.to_string()));
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Group(group));
            }
            c => text.push(c),
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// How topics are named, and how the keys of several tables are told apart in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reroute {
    /// Makes the new topic from the topic that a table would have.
    pub topic: Replace,
    /// The field of the key that names the table; `None` if keys of the tables are never equal.
    pub key_field: Option<String>,
    /// Makes the content of `key_field` from the topic that the table would have. `None` if the
    /// content of `key_field` is that topic itself.
    pub key_value: Option<Replace>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replaced(expression: &str, replacement: &str, name: &str) -> String {
        Replace::read(expression, replacement).unwrap().apply(name)
    }

    /// As `Matcher.replaceFirst` of `java.util.regex` replaces.
    #[test]
    fn a_replacement_is_javas() {
        let name = "shop.public.shard_12_orders";
        assert_eq!(replaced(r"(.*)public\.shard_\d+_(.*)", "$1all_$2", name), "shop.all_orders");
        assert_eq!(
            replaced(r"(?<rest>.*)\.shard_(\d+)_(\w+)", r"${rest}.$3\$$2", name),
            "shop.public.orders$12"
        );
        assert_eq!(replaced("(shop).*", "$10", name), "shop0");
        // The expression has to match the whole name. Its first match in the name is replaced.
        assert_eq!(replaced("shard", "x", name), name);
        assert_eq!(replaced("(a|ab)", "$1c", "ab"), "acb");
        assert_eq!(replaced(".*", "", name), name);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        assert!(matches!(Replace::read("(", "x"), Err(RerouteFault::Regex(_))));
        assert_eq!(Replace::read("(a)", "$2").unwrap_err(), RerouteFault::NoGroup("2".to_owned()));
        assert_eq!(
            Replace::read("(a)", "${b}").unwrap_err(),
            RerouteFault::NoGroup("b".to_owned())
        );
        for unfinished in ["a$", "a\\", "$x"] {
            assert_eq!(Replace::read("(a)", unfinished).unwrap_err(), RerouteFault::Unfinished);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(expression in "\\PC{0,12}", replacement in "[$\\\\{}a1]{0,8}", name in "\\PC{0,20}") {
            if let Ok(replace) = Replace::read(&expression, &replacement) {
                let _ = replace.apply(&name);
            }
        }
    }
}
