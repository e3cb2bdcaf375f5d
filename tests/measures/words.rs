//! The words of the sources: names and texts use the glossary of ARCHITECTURE.md, and no word that
//! only we use.

use crate::{none, sources};

/// Phrases that no text may have, each with the word of the glossary to write instead.
const OLD_PHRASES: &[(&str, &str)] = &[
    ("beside the stream", "backfill, or while the stream runs"),
    ("set aside", "detached for a table, skipped or quarantined for a change"),
    ("sets aside", "detaches"),
];

/// Names that no type should have, because they do not say what the type is: participles, and
/// words that only we use.
const OLD_TYPES: &str = "Told Asked Seen Got Look Looked Sent Desk Luck Strain Kindness";

/// How many types still have such a name. The number only falls.
const OLD_TYPES_MAX: usize = 1;

#[test]
fn texts_use_the_words_of_the_glossary() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.path != "tests/measures/words.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for (old, word) in OLD_PHRASES.iter().filter(|(old, _)| line.contains(old)) {
                let (path, number) = (&source.path, number + 1);
                faults.push(format!("{path}:{number}: `{old}`; the word is {word}"));
            }
        }
    }
    none(faults);
}

#[test]
fn types_are_named_by_nouns() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/")) {
        for old in OLD_TYPES.split(' ') {
            let declares = |at: &usize| {
                ["struct ", "enum ", "type "].iter().any(|kind| source.code[..*at].ends_with(kind))
            };
            let found = source.words(old).into_iter().filter(declares);
            faults.extend(found.map(|at| source.fault(at, &format!("`{old}` as a type"))));
        }
    }
    none(if faults.len() > OLD_TYPES_MAX { faults } else { Vec::new() });
}
