//! The measures of the sources: numbers about how easy they are to read and change, which may only
//! get better.
//!
//! Each measure has a bound, which is the best value so far, and a target. A value beyond its bound
//! fails. Whoever makes a value better moves the bound to it.
//! `cargo test --test tidy -- --nocapture measures` prints the table.

mod walk;
mod words;

use crate::{PURE, Source, sources};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One measure of the sources, with its present value.
struct Measure {
    what: &'static str,
    value: f64,
    /// The worst value that passes.
    bound: f64,
    /// The value that is to be reached.
    target: f64,
    /// True if a larger value is better, as with assertions.
    rises: bool,
    /// The file, room or struct that makes the value worst.
    worst: String,
}

impl Measure {
    fn of(what: &'static str, value: f64, (bound, target): (f64, f64), worst: String) -> Self {
        Measure { what, value, bound, target, rises: false, worst }
    }

    fn fault(&self) -> Option<String> {
        let beyond = if self.rises { self.value < self.bound } else { self.value > self.bound };
        beyond.then(|| {
            format!(
                "{}: {:.1}, and {:.1} was reached before ({})",
                self.what, self.value, self.bound, self.worst
            )
        })
    }
}

/// The files of the product, without those that are compiled for tests only.
fn product() -> impl Iterator<Item = &'static Source> {
    let is_test = |path: &str| {
        ["/simulation", "/tests/", "tests.rs"].iter().any(|part| path.contains(part))
            || path.ends_with("/rules.rs")
    };
    sources().iter().filter(move |source| {
        let tests_only = is_test(&source.path) || source.text.starts_with("//! Tests only: ");
        source.path.starts_with("src/") && !tests_only
    })
}

/// A file's text before its tests begin.
fn before_tests(source: &Source) -> &str {
    &source.text[..source.tests_at()]
}

fn lines(source: &Source) -> usize {
    before_tests(source).lines().count()
}

/// The largest room in percent of the product's lines.
fn largest_room() -> Measure {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for source in product() {
        *rooms.entry(source.room().unwrap_or("lib")).or_default() += lines(source);
    }
    let all: usize = rooms.values().sum();
    let (room, most) = rooms.iter().max_by_key(|(_, lines)| **lines).unwrap();
    let share = percent(*most, all);
    Measure::of(
        "largest room, percent of the product's lines",
        share,
        (14.4, 15.0),
        format!("`{room}`"),
    )
}

fn percent(part: usize, all: usize) -> f64 {
    number(part) * 100.0 / number(all)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Structs that may have any number of fields, because they are lists of values: file, name, and
/// the reason.
const LISTS: [(&str, &str, &str); 7] = [
    ("src/metrics/mod.rs", "Metrics", "the handles of all metrics"),
    ("src/status/mod.rs", "Status", "the values of `/status`"),
    ("src/continuity/checkpoint.rs", "Checkpoint", "a record of the state, one flat object"),
    ("src/continuity/halted.rs", "Halted", "a record of the state, one flat object"),
    ("src/watch/fingerprint.rs", "Relation", "a row that one query reads from the catalog"),
    ("src/config/mod.rs", "Checked", "the values of a checked configuration"),
    ("src/agent/mod.rs", "Config", "the values of a checked configuration"),
];

/// The most fields of one struct that is not in [`LISTS`].
fn most_fields() -> Measure {
    let mut most = (0, String::new());
    for source in product() {
        let code = &source.code[..source.tests_at()];
        for (at, _) in code.match_indices("struct ") {
            let rest = &code[at + "struct ".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            let Some(open) =
                rest.find(['{', ';', '(']).filter(|open| rest[*open..].starts_with('{'))
            else {
                continue;
            };
            let body = &rest[open..open + rest[open..].find("\n}").unwrap_or(0)];
            let fields = body.lines().filter(|line| is_field(line)).count();
            let is_list = LISTS.iter().any(|(path, list, _)| *path == source.path && *list == name);
            if fields > most.0 && !is_list {
                most = (fields, format!("`{name}` in {}", source.path));
            }
        }
    }
    Measure::of("fields of one struct", number(most.0), (15.0, 15.0), most.1)
}

/// Whether a line of a struct's body declares a field.
fn is_field(line: &str) -> bool {
    let Some(declared) =
        line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '#', '}']))
    else {
        return false;
    };
    let name = declared
        .strip_prefix("pub(")
        .map_or(declared, |rest| rest.split_once(") ").map_or(rest, |(_, name)| name));
    let name = name.strip_prefix("pub ").unwrap_or(name);
    name.split_once(": ")
        .is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// How often `found` holds in the product's code, with the room that has the most.
fn count(what: &'static str, bounds: (f64, f64), found: impl Fn(&Source) -> usize) -> Measure {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for source in product() {
        *rooms.entry(source.room().unwrap_or("lib")).or_default() += found(source);
    }
    let (room, most) = rooms.iter().max_by_key(|(_, count)| **count).unwrap();
    Measure::of(what, number(rooms.values().sum()), bounds, format!("{most} of them in `{room}`"))
}

fn in_code(source: &Source, what: &str) -> usize {
    source.code[..source.tests_at()].matches(what).count()
}

/// Number of documentation comments of one line with three words or fewer. Such a comment repeats
/// the name below it.
fn short_comments(source: &Source) -> usize {
    let texts: Vec<Option<&str>> =
        before_tests(source).lines().map(|line| line.trim_start().strip_prefix("/// ")).collect();
    let is_short = |texts: &[Option<&str>]| match texts {
        [None, Some(text), None] => text.split_whitespace().count() <= 3,
        _ => false,
    };
    texts.windows(3).filter(|texts| is_short(texts)).count()
}

/// Assertions in a thousand lines of the pure rooms: places that panic if a law of ARCHITECTURE.md
/// is broken.
fn assertions() -> Measure {
    const FORMS: [&str; 4] = ["assert!(", "assert_eq!(", "unreachable!(", ".expect("];
    let pure = || product().filter(|source| source.room().is_some_and(|room| PURE.contains(&room)));
    let found: usize =
        pure().map(|source| FORMS.iter().map(|form| in_code(source, form)).sum::<usize>()).sum();
    let all: usize = pure().map(lines).sum();
    Measure {
        rises: true,
        ..Measure::of(
            "assertions in 1000 lines of the pure rooms",
            number(found) * 1000.0 / number(all),
            (3.0, 3.0),
            format!("{found} in {all} lines"),
        )
    }
}

#[test]
fn the_measures_of_the_house_only_get_better() {
    let measures = [
        largest_room(),
        most_fields(),
        count("`use super::*` outside of tests", (0.0, 0.0), |source| {
            in_code(source, "use super::*")
        }),
        count("`unwrap_or_default()`", (37.0, 60.0), |source| {
            in_code(source, ".unwrap_or_default()")
        }),
        count("comments of three words or fewer", (10.0, 50.0), short_comments),
        count("lines wider than 100", (51.0, 0.0), |source| {
            before_tests(source).lines().filter(|line| line.chars().count() > 100).count()
        }),
        assertions(),
    ];
    let mut table = format!("{:<48}{:>8}{:>8}{:>8}\n", "measure", "today", "bound", "target");
    for Measure { what, value, bound, target, worst, .. } in &measures {
        writeln!(table, "{what:<48}{value:>8.1}{bound:>8.1}{target:>8.1}  {worst}").unwrap();
    }
    println!("{table}");
    let faults: Vec<String> = measures.iter().filter_map(Measure::fault).collect();
    assert!(faults.is_empty(), "{}\n\n{table}", faults.join("\n"));
}

#[test]
fn a_field_is_told_from_what_stands_around_it() {
    let fields = [
        "    a: u8,",
        "    pub b_2: Vec<u8>,",
        "    pub(super) c: X,",
        "    #[serde(default)]",
        "}",
        "        d: u8,",
    ];
    assert_eq!(fields.map(is_field), [true, true, true, false, false, false]);
}
