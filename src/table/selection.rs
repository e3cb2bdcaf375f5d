//! Which tables are captured: include and exclude lists of exact names and globs.
//!
//! A pattern is `namespace.name`. Either part may be quoted as in SQL (`"my.schema".orders`, a quote doubled), which
//! takes it literally; an unquoted part may hold `*`, `?`, `[a-z]` and `{a,b}`. Unlike in SQL, nothing is folded to
//! lower case: names are compared as the catalog holds them. Exclusion wins.
//!
//! Pure: it is told the tables, it does not ask for them.

use super::TableName;
use globset::{GlobBuilder, GlobMatcher};

/// The most patterns of one list; each costs a comparison per table at start, and a list this long wants a glob.
const PATTERNS_MAX: usize = 1_000;

/// The captured tables, as the operator described them.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// A pattern that cannot be read. Names its place in its list, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}`: {fault}")]
pub struct BadPattern {
    /// Its place in the list, from 0.
    pub index: usize,
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub fault: PatternFault,
}

/// What can be wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// One part only.
    #[error("a table is `namespace.name`, such as public.{0}")]
    NoNamespace(String),
    /// More than two parts.
    #[error("has more than one dot; quote a name that holds one: \"my.schema\".orders")]
    TooManyParts,
    /// A part is empty.
    #[error("a part is empty")]
    EmptyPart,
    /// A quote that does not close, or text beside a quoted part.
    #[error("a quoted name ends with its quote, and a quote inside is doubled")]
    Quote,
    /// Not a glob.
    #[error("not a glob: {0}")]
    Glob(String),
    /// The list is too long.
    #[error("more than {PATTERNS_MAX} patterns; use globs")]
    TooMany,
}

impl Selection {
    /// Reads both lists.
    ///
    /// # Errors
    /// Every bad pattern of the include list, then of the exclude list.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, (Vec<BadPattern>, Vec<BadPattern>)> {
        match (patterns(include), patterns(exclude)) {
            (Ok(include), Ok(exclude)) => Ok(Selection { include, exclude }),
            (include, exclude) => Err((include.err().unwrap_or_default(), exclude.err().unwrap_or_default())),
        }
    }

    /// Whether the table is captured.
    #[must_use]
    pub fn matches(&self, table: &TableName) -> bool {
        self.includes(table) && !self.excludes(table)
    }

    /// Whether the include list names it, excluded or not.
    #[must_use]
    pub fn includes(&self, table: &TableName) -> bool {
        self.include.iter().any(|pattern| pattern.matches(table))
    }

    /// Whether the exclude list names it.
    #[must_use]
    pub fn excludes(&self, table: &TableName) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(table))
    }

    /// The include patterns, as written, that match none of `tables`: misspelt, or not there yet.
    pub fn unmatched<'a>(&'a self, tables: &[TableName]) -> Vec<&'a str> {
        let idle = self.include.iter().filter(|pattern| !tables.iter().any(|table| pattern.matches(table)));
        idle.map(|pattern| pattern.text.as_str()).collect()
    }

    /// The include patterns that are exact names, in their order.
    pub fn exact(&self) -> impl Iterator<Item = TableName> + '_ {
        self.include.iter().filter_map(|pattern| match (&pattern.namespace, &pattern.name) {
            (Part::Exact(namespace), Part::Exact(name)) => Some(TableName::new(namespace, name)),
            _ => None,
        })
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    namespace: Part,
    name: Part,
}

#[derive(Clone, Debug)]
enum Part {
    Exact(String),
    Glob(GlobMatcher),
}

impl Pattern {
    fn matches(&self, table: &TableName) -> bool {
        self.namespace.matches(&table.namespace) && self.name.matches(&table.name)
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

fn patterns(list: &[String]) -> Result<Vec<Pattern>, Vec<BadPattern>> {
    let bad = |index: usize, text: &str, fault| BadPattern { index, pattern: text.to_owned(), fault };
    if list.len() > PATTERNS_MAX {
        return Err(vec![bad(PATTERNS_MAX, &list[PATTERNS_MAX], PatternFault::TooMany)]);
    }
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for (index, text) in list.iter().enumerate() {
        match pattern(text) {
            Ok(pattern) => good.push(pattern),
            Err(fault) => faults.push(bad(index, text, fault)),
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(faults) }
}

fn pattern(text: &str) -> Result<Pattern, PatternFault> {
    let (namespace, rest) = part(text.trim())?;
    let Some(rest) = rest.strip_prefix('.') else {
        return Err(if rest.is_empty() { PatternFault::NoNamespace(text.to_owned()) } else { PatternFault::Quote });
    };
    let (name, rest) = part(rest)?;
    match rest.chars().next() {
        None => Ok(Pattern { text: text.to_owned(), namespace, name }),
        Some('.') => Err(PatternFault::TooManyParts),
        Some(_) => Err(PatternFault::Quote),
    }
}

/// Reads one part and returns what follows it: nothing, or the dot.
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
    glob.map(|glob| Part::Glob(glob.compile_matcher())).map_err(|error| PatternFault::Glob(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lists(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }

    fn fault(text: &str) -> PatternFault {
        Selection::new(&[text.to_owned()], &[]).unwrap_err().0.remove(0).fault
    }

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], (namespace, name): (&str, &str), expect: bool) {
        assert_eq!(lists(include, exclude).matches(&TableName::new(namespace, name)), expect);
    }

    #[test]
    fn an_exact_name_captures_that_table_and_no_other() {
        check(&["public.orders"], &[], ("public", "orders"), true);
        check(&["public.orders"], &[], ("public", "orders2"), false);
        check(&["public.orders"], &[], ("Public", "orders"), false);
    }

    #[test]
    fn a_glob_stays_within_its_part() {
        check(&["inventory.*"], &[], ("inventory", "a.b/c"), true);
        check(&["inventory.*"], &[], ("inventory2", "a"), false);
        check(&["inv*.o?ders_{eu,us}"], &[], ("inventory", "orders_eu"), true);
        check(&["*.orders"], &[], ("a.b", "orders"), true);
    }

    #[test]
    fn exclusion_wins() {
        check(&["public.*"], &["public.audit_*"], ("public", "audit_log"), false);
        check(&["public.audit_log"], &["public.audit_*"], ("public", "audit_log"), false);
        check(&["public.*"], &["public.audit_*"], ("public", "orders"), true);
    }

    #[test]
    fn quotes_take_dots_stars_and_quotes_literally() {
        check(&[r#""my.schema".t"#], &[], ("my.schema", "t"), true);
        check(&[r#"public."a*""#], &[], ("public", "a*"), true);
        check(&[r#"public."a*""#], &[], ("public", "ab"), false);
        check(&[r#"public."say ""hi""""#], &[], ("public", r#"say "hi""#), true);
        check(&["public.größe"], &[], ("public", "größe"), true);
    }

    #[test]
    fn refuses_what_is_not_two_parts() {
        assert_eq!(fault("orders"), PatternFault::NoNamespace("orders".to_owned()));
        assert_eq!(fault("a.b.c"), PatternFault::TooManyParts);
        assert_eq!(fault("a."), PatternFault::EmptyPart);
        assert_eq!(fault(".a"), PatternFault::EmptyPart);
        assert_eq!(fault(r#""".a"#), PatternFault::EmptyPart);
        assert_eq!(fault(r#""a.b"#), PatternFault::Quote);
        assert_eq!(fault(r#""a"b.c"#), PatternFault::Quote);
        assert_eq!(fault(r#"a"b".c"#), PatternFault::Quote);
        assert!(matches!(fault("a.[b"), PatternFault::Glob(_)));
    }

    #[test]
    fn reports_every_bad_pattern_of_both_lists() {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (include, exclude) = Selection::new(&owned(&["a.b", "c", "d.e.f"]), &owned(&["x"])).unwrap_err();
        assert_eq!(include.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(exclude.iter().map(|bad| bad.index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn names_the_patterns_that_match_nothing() {
        let tables = [TableName::new("public", "orders"), TableName::new("inventory", "a")];
        let selection = lists(&["public.orders", "public.order", "inventory.*", "x.*"], &["inventory.*"]);
        assert_eq!(selection.unmatched(&tables), ["public.order", "x.*"]);
        assert_eq!(
            selection.exact().collect::<Vec<_>>(),
            [("public", "orders"), ("public", "order")].map(|(a, b)| TableName::new(a, b))
        );
    }

    fn quoted(name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    proptest! {
        /// Goal: any name Postgres allows can be selected. Method: quote it, and hold it against another.
        #[test]
        fn a_quoted_name_selects_exactly_that_table(
            namespace in "[^\0]{1,20}", name in "[^\0]{1,20}", other in "[^\0]{1,20}"
        ) {
            let selection = lists(&[&format!("{}.{}", quoted(&namespace), quoted(&name))], &[]);
            prop_assert!(selection.matches(&TableName::new(&namespace, &name)));
            prop_assert_eq!(selection.matches(&TableName::new(&namespace, &other)), name == other);
            prop_assert_eq!(selection.exact().count(), 1);
        }

        #[test]
        fn capturing_is_inclusion_without_exclusion(
            include in prop::collection::vec("[a-c*]{1,2}\\.[a-c*]{1,2}", 0..4),
            exclude in prop::collection::vec("[a-c*]{1,2}\\.[a-c*]{1,2}", 0..4),
            namespace in "[a-c]{1,2}", name in "[a-c]{1,2}"
        ) {
            let table = TableName::new(&namespace, &name);
            let any = |list: &[String]| list.iter().any(|p| lists(&[p], &[]).matches(&table));
            let selection = Selection::new(&include, &exclude).unwrap();
            prop_assert_eq!(selection.matches(&table), any(&include) && !any(&exclude));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Selection::new(&[text], &[]);
        }
    }
}
