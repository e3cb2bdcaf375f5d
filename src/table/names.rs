//! Patterns over the names of namespaces, tables and columns.
//!
//! A pattern has as many parts as the name that it is for, with dots between them:
//! `namespace.table` for a table, and `namespace.table.column` for a column. A part may be quoted
//! as in SQL (`"my.schema".orders`, a quote is doubled). A quoted part is taken literally. An
//! unquoted part may have `*`, `?`, `[a-z]` and `{a,b}`. Names are compared as the catalog has
//! them, and nothing is folded to lower case.
//!
//! `regex:` begins a regular expression for the whole name, whose parts are joined by dots. The
//! expression ignores the case of letters. Debezium has the same rule, so its lists can be taken
//! over. Look-around is supported. An expression that needs too many steps for a name gives no
//! answer. [`NameList::lists`] and [`NameList::guards`] say what no answer means.

use fancy_regex::{Regex, RegexBuilder};
use globset::{GlobBuilder, GlobMatcher};

/// Text with which a regular expression begins.
pub const REGEX: &str = "regex:";

/// The most patterns of one list. Each pattern costs a comparison for each name at start, and a
/// glob can replace a list of this length.
const PATTERNS_MAX: usize = 1_000;

/// The most steps of one expression on one name. A name has at most 191 bytes, so an expression
/// that needs more steps backtracks without end. These steps take a tenth of a second.
const REGEX_STEPS_MAX: usize = 1_000_000;

/// The kind of object that a pattern is for. The kind decides the number of the name's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// The name of a namespace, or another name of one part, such as the prefix of a message.
    Namespace,
    /// The name of a topic, which is one part, dots included. The pattern cannot be quoted.
    Topic,
    /// `namespace.table`: two parts, each of which can be quoted.
    Table,
    /// `namespace.table.column`: three parts, each of which can be quoted.
    Column,
}

impl NameOf {
    fn parts(self) -> usize {
        match self {
            NameOf::Namespace | NameOf::Topic => 1,
            NameOf::Table => 2,
            NameOf::Column => 3,
        }
    }
}

/// A pattern that cannot be read, with its place in its list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}`: {fault}")]
pub struct BadPattern {
    /// Place of the pattern in the list, counted from 0.
    pub index: usize,
    pub(crate) pattern: String,
    /// What is wrong with the pattern.
    pub fault: PatternFault,
}

/// Why a pattern cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum PatternFault {
    /// The pattern has one part, although a table's name has two.
    #[error("a table is `namespace.name`, such as public.{0}")]
    NoNamespace(String),
    /// The pattern has fewer than three parts, although a column's name has three.
    #[error("a column is `namespace.table.column`, such as public.{0}")]
    NoColumn(String),
    /// The pattern has more parts than the name has.
    #[error("has too many dots; quote a name that holds one: \"my.schema\".orders")]
    TooManyParts,
    /// A part of the pattern is empty.
    #[error("a part is empty")]
    EmptyPart,
    /// A quote is not closed, or there is text beside a quoted part.
    #[error("a quoted name ends with its quote, and a quote inside is doubled")]
    Quote,
    #[error("not a glob: {0}")]
    Glob(String),
    /// The text is not a regular expression.
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// The list is too long.
    #[error("more than {PATTERNS_MAX} patterns; use globs")]
    TooMany,
}

/// One pattern. Two patterns are equal if their texts are equal.
#[derive(Clone, Debug)]
pub struct NamePattern {
    text: String,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Parts(Vec<Part>),
    Regex(Box<Regex>),
}

#[derive(Clone, Debug)]
enum Part {
    Exact(String),
    Glob(GlobMatcher),
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NamePattern {}

impl NamePattern {
    /// Reads one pattern of a list.
    ///
    /// # Errors
    /// The fault of the pattern, if it cannot be read.
    pub fn read(text: &str, of: NameOf) -> Result<Self, PatternFault> {
        let form = match text.trim().strip_prefix(REGEX) {
            Some(expression) => Form::Regex(Box::new(regex(expression)?)),
            None if of == NameOf::Topic => Form::Parts(vec![plain_part(text.trim())?]),
            None => Form::Parts(parts(text, of)?),
        };
        Ok(NamePattern { text: text.to_owned(), form })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the name with these parts matches the pattern. `None` if the regular expression
    /// needs too many steps.
    #[must_use]
    pub fn tells(&self, name: &[&str]) -> Option<bool> {
        match &self.form {
            Form::Parts(parts) => Some(
                parts.len() == name.len()
                    && parts.iter().zip(name).all(|(part, name)| part.matches(name)),
            ),
            Form::Regex(regex) => regex.is_match(&name.join(".")).ok(),
        }
    }

    /// The parts of a pattern that is an exact name; `None` for any other pattern.
    #[must_use]
    pub fn exact(&self) -> Option<Vec<&str>> {
        let Form::Parts(parts) = &self.form else { return None };
        parts
            .iter()
            .map(|part| if let Part::Exact(text) = part { Some(text.as_str()) } else { None })
            .collect()
    }
}

impl Part {
    fn matches(&self, name: &str) -> bool {
        match self {
            Part::Exact(text) => text == name,
            Part::Glob(glob) => glob.is_match(name),
        }
    }
}

/// A list of patterns. A name is in the list if one of the patterns matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameList {
    patterns: Vec<NamePattern>,
}

impl NameList {
    /// Reads a list of patterns.
    ///
    /// # Errors
    /// All patterns of the list that cannot be read. In too long a list, only the first in excess.
    pub fn read(list: &[String], of: NameOf) -> Result<Self, Vec<BadPattern>> {
        let bad =
            |index: usize, text: &str, fault| BadPattern { index, pattern: text.to_owned(), fault };
        if let Some(beyond) = list.get(PATTERNS_MAX) {
            return Err(vec![bad(PATTERNS_MAX, beyond, PatternFault::TooMany)]);
        }
        let (mut patterns, mut faults) = (Vec::new(), Vec::new());
        for (index, text) in list.iter().enumerate() {
            match NamePattern::read(text, of) {
                Ok(pattern) => patterns.push(pattern),
                Err(fault) => faults.push(bad(index, text, fault)),
            }
        }
        if faults.is_empty() { Ok(NameList { patterns }) } else { Err(faults) }
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern of the list matches a name. This is for a list that grants something, such
    /// as an include list. An expression that gives no answer does not count as a match.
    #[must_use]
    pub fn lists(&self, name: &[&str]) -> bool {
        self.patterns.iter().any(|pattern| pattern.tells(name).unwrap_or(false))
    }

    /// Whether a pattern of the list matches a name. This is for a list that withholds something,
    /// such as an exclude list. An expression that gives no answer counts as a match.
    #[must_use]
    pub fn guards(&self, name: &[&str]) -> bool {
        self.guard(name).is_some()
    }

    /// The first pattern that makes [`NameList::guards`] true for a name.
    #[must_use]
    pub fn guard(&self, name: &[&str]) -> Option<&NamePattern> {
        self.patterns.iter().find(|pattern| pattern.tells(name).unwrap_or(true))
    }

    /// The patterns, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &NamePattern> {
        self.patterns.iter()
    }
}

fn regex(expression: &str) -> Result<Regex, PatternFault> {
    let built = |text: &str| {
        RegexBuilder::new(text).case_insensitive(true).backtrack_limit(REGEX_STEPS_MAX).build()
    };
    let fault = |error: fancy_regex::Error| {
        let text = error.to_string();
        // The library prints some faults over several lines. The last line says what is wrong.
        PatternFault::Regex(
            text.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned(),
        )
    };
    // The expression is first compiled alone. The text around it would shift the place that a fault
    // names, and could close a bracket that the expression leaves open.
    built(expression).map_err(fault)?;
    built(&format!(r"\A(?:{expression})\z")).map_err(fault)
}

fn parts(text: &str, of: NameOf) -> Result<Vec<Part>, PatternFault> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    loop {
        let (part, after) = part(rest)?;
        found.push(part);
        match after.strip_prefix('.') {
            Some(_) if found.len() == of.parts() => return Err(PatternFault::TooManyParts),
            Some(next) => rest = next,
            None if !after.is_empty() => return Err(PatternFault::Quote),
            None if found.len() == of.parts() => return Ok(found),
            None if of == NameOf::Column => return Err(PatternFault::NoColumn(text.to_owned())),
            None => return Err(PatternFault::NoNamespace(text.to_owned())),
        }
    }
}

/// Reads one part of a pattern. Returns the part and the text after it, which is empty or begins
/// with the dot.
fn part(text: &str) -> Result<(Part, &str), PatternFault> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let (plain, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        return Ok((plain_part(plain)?, rest));
    };
    let mut name = String::new();
    loop {
        let (before, after) = quoted.split_once('"').ok_or(PatternFault::Quote)?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(rest) => {
                name.push('"');
                quoted = rest;
            }
            None if name.is_empty() => return Err(PatternFault::EmptyPart),
            None => return Ok((Part::Exact(name), after)),
        }
    }
}

fn plain_part(text: &str) -> Result<Part, PatternFault> {
    if text.is_empty() {
        return Err(PatternFault::EmptyPart);
    }
    if text.contains('"') {
        return Err(PatternFault::Quote);
    }
    if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        return Ok(Part::Exact(text.to_owned()));
    }
    let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
    glob.map(|glob| Part::Glob(glob.compile_matcher()))
        .map_err(|error| PatternFault::Glob(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(pattern: &str, name: [&str; 3]) -> bool {
        NamePattern::read(pattern, NameOf::Column).unwrap().tells(&name).unwrap()
    }

    #[test]
    fn a_column_has_three_parts() {
        assert!(column("public.people.name", ["public", "people", "name"]));
        assert!(column("*.people.n?me", ["public", "people", "name"]));
        assert!(!column("public.people.name", ["public", "people", "Name"]));
        assert!(column(r#"public."a.b".c"#, ["public", "a.b", "c"]));
        assert_eq!(
            NamePattern::read("people.name", NameOf::Column).unwrap_err(),
            PatternFault::NoColumn("people.name".to_owned())
        );
        assert_eq!(
            NamePattern::read("a.b.c.d", NameOf::Column).unwrap_err(),
            PatternFault::TooManyParts
        );
    }

    #[test]
    fn an_expression_is_held_against_the_whole_name_whatever_its_case() {
        assert!(column(r"regex:PUBLIC\.people\.A.*", ["public", "people", "age"]));
        assert!(!column(r"regex:people\.age", ["public", "people", "age"]));
        assert!(column(r"regex:public\.(?!secret_).*\.v", ["public", "open", "v"]));
        assert!(!column(r"regex:public\.(?!secret_).*\.v", ["public", "secret_a", "v"]));
        assert!(column(r"regex:a\.b\.c|public\.t\.v", ["public", "t", "v"]));
    }

    #[test]
    fn an_expression_that_does_not_compile_says_so() {
        assert!(matches!(
            NamePattern::read("regex:a(", NameOf::Table),
            Err(PatternFault::Regex(_))
        ));
        assert!(matches!(NamePattern::read("regex:*", NameOf::Table), Err(PatternFault::Regex(_))));
    }

    #[test]
    fn an_expression_without_end_keeps_back_and_gives_nothing() {
        // The look-ahead makes the library run the expression with backtracking.
        let list =
            NameList::read(&[r"regex:((?=.)(a|aa))+\2z".to_owned()], NameOf::Namespace).unwrap();
        let name = "a".repeat(63);
        assert!(list.guards(&[&name]));
        assert!(!list.lists(&[&name]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(regex:)?\\PC*") {
            for of in [NameOf::Namespace, NameOf::Table, NameOf::Column] {
                let _ = NamePattern::read(&text, of);
            }
        }
    }
}
