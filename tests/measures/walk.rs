//! The way of a row: how many functions a reader follows from the socket to the producer.

use crate::{sources, top};
use std::fs;

/// The most functions that a row may pass.
const FUNCTIONS_MAX: usize = 12;

/// The room that calls the others. Each other room is entered once.
const CALLER: &str = "rows";

/// The list of `docs/internals/rows.md`: file and function of each step.
fn steps() -> Vec<(String, String)> {
    let page = fs::read_to_string(top().join("docs/internals/rows.md")).unwrap();
    let mut steps = Vec::new();
    for line in page.lines() {
        let Some((number, rest)) = line.split_once(". `src/") else { continue };
        assert_eq!(number.parse(), Ok(steps.len() + 1), "{line}");
        let (file, rest) = rest.split_once("` (`").unwrap();
        let (function, _) = rest.split_once("`)").unwrap();
        steps.push((format!("src/{file}"), function.to_owned()));
    }
    steps
}

#[test]
fn a_row_passes_twelve_functions_that_exist() {
    let steps = steps();
    assert!((8..=FUNCTIONS_MAX).contains(&steps.len()), "{} functions", steps.len());
    for (file, function) in &steps {
        let source = sources().iter().find(|source| source.path == *file);
        let code = &source.unwrap_or_else(|| panic!("{file} does not exist")).code;
        let declared =
            ["(", "<"].iter().any(|after| code.contains(&format!("fn {function}{after}")));
        assert!(declared, "{file} has no function `{function}`");
    }
}

#[test]
fn a_row_enters_no_room_twice() {
    let mut rooms: Vec<String> = Vec::new();
    for (file, _) in steps() {
        let room = file["src/".len()..].split('/').next().unwrap().to_owned();
        if room != CALLER && rooms.last() != Some(&room) {
            assert!(!rooms.contains(&room), "`{room}` is entered twice");
            rooms.push(room);
        }
    }
    assert!(rooms.len() > 4, "{rooms:?}");
}
