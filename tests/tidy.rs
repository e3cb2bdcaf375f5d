//! Tests of the rules about the sources that a program can check: it reads the sources themselves.
//!
//! It knows no Rust beyond comments, strings and words, runs in milliseconds and needs nothing but
//! the working tree. ARCHITECTURE.md (rooms, laws) and CONTRIBUTING.md (habits) explain the rules.
//! A failure names file and line, and says what to do instead. An exception to a rule is a constant
//! in this file, with its reason.

#![expect(clippy::unwrap_used, reason = "a test ends where a file cannot be read")]

mod measures;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The most lines of a source file before its tests begin. A reader reads a file of tests one test
/// at a time, so such a file may be longer.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 800;

/// Files that may be longer, how long, and the reason.
const LONGER: &[(&str, usize, &str)] = &[
    ("src/core/simulation.rs", 620, "tests only: the world in which the core is tried"),
    (
        "src/agent/runner.rs",
        510,
        "one loop: what it waits for and what it does then, in the order of importance",
    ),
];

/// The pure rooms. They hold every rule that can lose data, and have no IO, clock or randomness.
const PURE: &[&str] = &[
    "lsn",
    "secret",
    "reason",
    "table",
    "pgoutput",
    "change",
    "ledger",
    "transform",
    "encode",
    "watch",
    "continuity",
    "core",
    "status",
];

/// The places of pure rooms that ask a server, a file or a program.
const IMPURE_PLACES: [&str; 5] = [
    "src/encode/registry",
    "src/secret/read.rs",
    "src/secret/key.rs",
    "src/secret/authorities.rs",
    "src/watch/query.rs",
];

/// The pure room that must also not be `async`.
const CORE: &str = "core";

/// Words that the code of a pure room must not have, with a blank between them.
const PURE_BANS: &str = "tokio rdkafka tracing reqwest std::net std::fs std::env std::thread std::time::Instant SystemTime rand";

/// Pairs of rooms of which the first must not import the second, although the order of rooms would
/// permit it.
const STRANGERS: &[(&str, &str)] = &[
    ("encode", "postgres"),
    ("kafka", "postgres"),
    ("continuity", "metrics"),
    ("continuity", "postgres"),
    ("continuity", "kafka"),
    ("core", "metrics"),
    ("core", "postgres"),
    ("core", "kafka"),
    ("status", "metrics"),
    ("status", "postgres"),
    ("status", "kafka"),
];

/// Rooms that import no other room. The servers with which the agent is tested share no code with
/// it.
const ALONE: &[&str] = &["peers"];

/// Files that may share state behind a lock.
const SHARED: &[(&str, &str)] =
    &[("src/peers/registry.rs", "a throw-away server's connections write into one store")];

/// The most characters in the name of a test. A name is read at a glance, in a list of a thousand.
const TEST_NAME_MAX: usize = 60;

/// Number of tests below `src` that had longer names when the rule was made. It only falls.
const LONG_TEST_NAMES_MAX: usize = 50;

/// The folders a reader finds at the top; hidden ones and `target` belong to tools.
const TOP_FOLDERS: &[&str] = &["src", "crates", "docs", "schemas", "docker", "tests", "findings"];

struct Source {
    /// Path from the top of the repository, with `/`.
    path: String,
    /// The text as it stands.
    text: String,
    /// The text with comments, strings and character literals blanked; the same lines.
    code: String,
}

impl Source {
    /// The room the file belongs to; none for the crate's root.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (room != "lib").then_some(room)
    }

    fn is_pure(&self) -> bool {
        !IMPURE_PLACES.iter().any(|place| self.path.starts_with(place))
            && self.room().is_some_and(|room| PURE.contains(&room))
    }

    /// Where the file's tests begin, as a byte offset into `code`; the whole file below `tests/`.
    fn tests_at(&self) -> usize {
        if self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
        {
            return 0;
        }
        self.code
            .match_indices("#[cfg(test)]")
            .map(|(at, found)| (at, self.code[at + found.len()..].trim_start()))
            .find(|(_, after)| {
                after.starts_with("mod ") && !after.lines().next().is_some_and(|l| l.contains(';'))
            })
            .map_or(self.code.len(), |(at, _)| at)
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The offsets of `word` in the code where it stands as a whole path segment or path.
    fn words(&self, word: &str) -> Vec<usize> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(|at| {
                !self.code[..*at].ends_with(is_word)
                    && !self.code[at + word.len()..].starts_with(is_word)
            })
            .collect()
    }

    /// The names of the file's tests with their offsets. Tests that a macro makes are not among
    /// them.
    fn laws(&self) -> Vec<(usize, String)> {
        let attributes =
            self.code.match_indices("#[test]").chain(self.code.match_indices("#[tokio::test"));
        attributes
            .filter_map(|(at, _)| {
                let start = at + self.code[at..].find("fn ")? + "fn ".len();
                Some((start, name(&self.code[start..])))
            })
            .collect()
    }

    fn fault(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line(at))
    }
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Every file below `folder`, as paths from the top.
fn files(folder: &Path, found: &mut Vec<String>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "__pycache__" {
                files(&path, found);
            }
        } else {
            let inside = path.strip_prefix(top()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(inside);
        }
    }
}

/// What is committed: the folders of the project and the files at the top.
fn committed() -> Vec<String> {
    let mut found = Vec::new();
    for folder in TOP_FOLDERS.iter().chain(&[".ci", ".cargo", ".github"]) {
        if top().join(folder).is_dir() {
            files(&top().join(folder), &mut found);
        }
    }
    for entry in fs::read_dir(top()).unwrap() {
        let entry = entry.unwrap();
        // In a worktree `.git` is a file, and git's own.
        if entry.file_type().unwrap().is_file() && entry.file_name() != ".git" {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Every source file, read and blanked once for all rules.
fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "crates", "tests", "examples", "benches"] {
        if top().join(folder).is_dir() {
            files(&top().join(folder), &mut found);
        }
    }
    found
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = read(&path);
            let code = blanked(&text);
            Source { path, text, code }
        })
        .collect()
}

/// `text` with everything that is not code turned into spaces, byte for byte; line ends stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + opaque_length(text, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    // What is left outside of literals and comments is whole characters, so this cannot fail on
    // valid input.
    String::from_utf8(out).unwrap()
}

/// Length of the comment, string or character literal that begins at `at`; 0 if none does.
fn opaque_length(text: &str, at: usize) -> usize {
    let Some(rest) = text.get(at..) else { return 0 };
    let bytes = rest.as_bytes();
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let (mut depth, mut i) = (0, 0);
        while i < bytes.len() {
            match &bytes[i..bytes.len().min(i + 2)] {
                b"/*" => (depth, i) = (depth + 1, i + 2),
                b"*/" => (depth, i) = (depth - 1, i + 2),
                _ => i += 1,
            }
            if depth == 0 {
                return i;
            }
        }
        return rest.len();
    }
    let word_before = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r');
    if let Some(hashed) = raw.filter(|_| !word_before) {
        let hashes = hashed.len() - hashed.trim_start_matches('#').len();
        if hashed[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.len() - hashed.len() + hashes + 1;
            return rest[open..].find(&close).map_or(rest.len(), |i| open + i + close.len());
        }
    }
    if bytes[0] == b'"' {
        return quoted_length(bytes, b'"');
    }
    // 'a' and '\n' are characters, 'a alone is a lifetime.
    let mut characters = rest.chars();
    if characters.next() == Some('\'') {
        let first = characters.next();
        if first == Some('\\') || characters.next() == Some('\'') {
            return quoted_length(bytes, b'\'');
        }
    }
    0
}

fn quoted_length(bytes: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b if b == quote => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The rooms in the order of the `mod` lines of `src/lib.rs`, with `main` at the end.
fn rooms() -> Vec<String> {
    let mut rooms: Vec<String> = blanked(&read("src/lib.rs"))
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("pub ")
                .strip_prefix("mod ")?
                .strip_suffix(';')
                .map(str::to_owned)
        })
        .collect();
    rooms.push("main".to_owned());
    rooms
}

/// The first segments of every `crate::` path of the file, groups included, with their offsets.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate", "wellspring"] {
        for at in source.words(root) {
            let Some(rest) = source.code[at + root.len()..].trim_start().strip_prefix("::") else {
                continue;
            };
            let rest = rest.trim_start();
            let names = if let Some(group) = rest.strip_prefix('{') {
                first_names(group)
            } else {
                vec![name(rest)]
            };
            found.extend(names.into_iter().map(|n| (at, n)));
        }
    }
    found
}

fn name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names at the start of each item of a `use` group, whose text begins after its brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|n| !n.is_empty());
    found
}

#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn rooms_import_only_from_rooms_to_their_left() {
    let order = rooms();
    let place = |room: &str| order.iter().position(|r| r == room);
    let mut faults = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let Some(here) = place(room) else {
            faults.push(format!("{}: room `{room}` has no mod line in src/lib.rs", source.path));
            continue;
        };
        for (at, used) in crate_paths(source) {
            if place(&used).is_some_and(|there| there > here) {
                faults.push(source.fault(
                    at,
                    &format!("room `{room}` imports `{used}`, which stands to its right"),
                ));
            }
            if ALONE.contains(&room) && used != room && place(&used).is_some() {
                faults.push(source.fault(
                    at,
                    &format!("room `{room}` imports `{used}`; `{room}` imports no room"),
                ));
            }
            if STRANGERS.contains(&(room, used.as_str())) {
                faults.push(source.fault(
                    at,
                    &format!("room `{room}` does not know `{used}`; `agent` joins them"),
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn pure_rooms_name_no_runtime_no_sockets_no_clock_and_no_random() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.is_pure()) {
        for ban in PURE_BANS.split(' ') {
            for at in source.words(ban) {
                faults.push(source.fault(
                    at,
                    &format!(
                        "`{ban}` in a pure room: let time, randomness and IO come in as arguments"
                    ),
                ));
            }
        }
        for at in source.words("std::time") {
            let import = source.code[at..].split(';').next().unwrap_or_default();
            if import.contains('{') && import.contains("Instant") {
                faults.push(
                    source.fault(at, "a clock in a pure room: let the time come in as an argument"),
                );
            }
        }
        if source.room() == Some(CORE) {
            for at in source.words("async") {
                faults.push(
                    source.fault(at, "`async` in the pure core: it answers an event with actions"),
                );
            }
        }
    }
    none(faults);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    none(
        sources()
            .iter()
            .filter(|s| !s.text.starts_with("//!"))
            .map(|s| format!("{}:1: open with `//!`: what it is, what it is not", s.path))
            .collect(),
    );
}

#[test]
fn files_stay_short_enough_to_be_read() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source
            .code
            .get(..source.tests_at())
            .filter(|code| !code.is_empty())
            .unwrap_or(&source.code);
        let lines = code.lines().count();
        let usual = if source.tests_at() == 0 { TEST_LINES_MAX } else { LINES_MAX };
        let longer = LONGER.iter().find(|(path, ..)| *path == source.path);
        let most = longer.map_or(usual, |(_, most, _)| *most);
        if lines > most {
            faults.push(format!(
                "{}: {lines} lines before its tests; {most} at most, or a named reason",
                source.path
            ));
        }
    }
    none(faults);
}

#[test]
fn tests_are_named_as_laws_and_all_of_them_run() {
    let mut faults = Vec::new();
    for source in sources() {
        for (at, _) in source.code.match_indices("fn test_") {
            faults.push(source.fault(at, "name the law, not `test_`: `refuses_...`, `keeps_...`"));
        }
        for (at, _) in source.code.match_indices("#[ignore") {
            faults.push(source.fault(at, "an ignored test proves nothing: mend it or delete it"));
        }
    }
    none(faults);
}

#[test]
fn a_name_of_a_test_has_at_most_60_characters() {
    let mut faults = Vec::new();
    let mut long_in_src = Vec::new();
    for source in sources() {
        for (at, name) in source.laws() {
            let length = name.chars().count();
            if length > TEST_NAME_MAX {
                let fault = source.fault(
                    at,
                    &format!("`{name}` has {length} characters; {TEST_NAME_MAX} at most"),
                );
                if source.path.starts_with("src/") { &mut long_in_src } else { &mut faults }
                    .push(fault);
            }
        }
    }
    if long_in_src.len() > LONG_TEST_NAMES_MAX {
        let count = long_in_src.len();
        faults.append(&mut long_in_src);
        faults.push(format!("src: {count} names of tests are too long; {LONG_TEST_NAMES_MAX} were when the rule came"));
    }
    none(faults);
}

#[test]
fn tests_wait_for_facts_and_not_for_time() {
    let mut faults = Vec::new();
    for source in sources() {
        for (at, _) in source
            .code
            .match_indices("thread::sleep")
            .chain(source.code.match_indices("time::sleep"))
        {
            if at < source.tests_at() {
                continue;
            }
            let begin = source.code[..at].rfind("fn ").unwrap_or(0);
            let body = &source.code[begin..at];
            if !(body.starts_with("fn wait_until")
                && body.contains("deadline")
                && body.contains("condition"))
            {
                faults.push(source.fault(
                    at,
                    "a sleep in a test: use `wait_until` with a condition and a deadline",
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn every_select_says_its_order() {
    let mut faults = Vec::new();
    for source in sources() {
        for at in source.words("select!") {
            let body = source.code[at + "select!".len()..].trim_start();
            if !body.trim_start_matches(['{', '(']).trim_start().starts_with("biased;") {
                faults.push(source.fault(
                    at,
                    "`select!` without `biased;`: what frees room comes before what takes it",
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn state_has_one_owner() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/")) {
        if SHARED.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        let squeezed: Vec<&str> = source.code.lines().collect();
        for (number, line) in squeezed.iter().enumerate() {
            let line: String = line.split_whitespace().collect();
            for lock in ["Mutex<", "RwLock<"] {
                let shared = line.match_indices("Arc<").any(|(at, _)| {
                    let inside = line[at + 4..]
                        .trim_start_matches("std::sync::")
                        .trim_start_matches("tokio::sync::");
                    inside.starts_with(lock)
                });
                if shared {
                    faults.push(format!(
                        "{}:{}: a lock behind an Arc: give the state one owner",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
        for at in source.words("unbounded_channel") {
            faults.push(
                source.fault(at, "a queue without a bound: say its capacity and what fills it"),
            );
        }
    }
    none(faults);
}

#[test]
fn nothing_committed_names_a_machine() {
    // Put together here, so that this file does not name them either.
    let machines = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    let mut faults = Vec::new();
    for path in committed() {
        let Ok(text) = fs::read_to_string(top().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(machine) = machines.iter().find(|m| line.contains(m.as_str())) {
                faults.push(format!(
                    "{path}:{}: names a path of one machine, `{machine}`",
                    number + 1
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn comments_name_only_documents_that_exist() {
    let mut faults = Vec::new();
    for source in sources() {
        let beside = Path::new(&source.path).parent().unwrap();
        for (number, line) in source.text.lines().enumerate() {
            for page in pages_named(comment_of(line)) {
                if !top().join(page).is_file() && !top().join(beside).join(page).is_file() {
                    faults.push(format!(
                        "{}:{}: names `{page}`, which does not exist",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    none(faults);
}

/// The comment of a line, from its first `//` that does not belong to an address; empty if the line
/// has none.
fn comment_of(line: &str) -> &str {
    line.match_indices("//")
        .find(|(at, _)| !line[..*at].ends_with(':'))
        .map_or("", |(at, _)| &line[at + 2..])
}

/// Every path in a text that ends in `.md`.
fn pages_named(text: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    text.split(move |c| !is_of_path(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.len() > 3 && word.ends_with(".md"))
}

#[test]
fn the_top_folder_stays_small() {
    let mut faults = Vec::new();
    for entry in fs::read_dir(top()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let known =
            TOP_FOLDERS.contains(&name.as_str()) || name == "target" || name.starts_with('.');
        if entry.file_type().unwrap().is_dir() && !known {
            faults
                .push(format!("{name}/: a new folder at the top; {TOP_FOLDERS:?} hold everything"));
        }
    }
    none(faults);
}

#[test]
fn architecture_names_every_room_and_every_dependency() {
    let page = read("ARCHITECTURE.md");
    let named = |what: &str| page.contains(&format!("`{what}`"));
    let mut faults: Vec<String> = rooms()
        .iter()
        .filter(|r| !named(r))
        .map(|r| format!("ARCHITECTURE.md: room `{r}` is not on the map"))
        .collect();
    let lines = page.lines().count();
    if lines >= 250 {
        faults
            .push(format!("ARCHITECTURE.md: {lines} lines; below 250 it is read, above it is not"));
    }
    faults.extend(
        dependencies()
            .iter()
            .filter(|d| !named(d))
            .map(|d| format!("ARCHITECTURE.md: no line says why `{d}` is here")),
    );
    none(faults);
}

/// The names of `[dependencies]` and `[dev-dependencies]` in Cargo.toml.
fn dependencies() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in read("Cargo.toml").lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) =
            line.split_once('=').filter(|_| inside && !line.starts_with('#'))
        {
            found.insert(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn blanking_takes_comments_and_literals_and_leaves_code() {
    let text =
        "a /* x /* y */ */ b // c\n\"tokio\" r#\"std::net\"# 'x' '\\'' fn f<'a>(v: &'a str) {}";
    let code = blanked(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["a", "b", "fn", "f<'a>(v:", "&'a", "str)", "{}"]
    );
}

#[test]
fn a_test_is_found_behind_each_attribute_and_in_a_proptest() {
    let text = "#[test]\n#[should_panic]\nfn a() {}\n#[tokio::test(flavor = \"x\")]\nasync fn b() {}\n\
                proptest! {\n    #[test]\n    /// words\n    fn c(n in 0..9) {}\n}\nfn no_test() {}";
    let source = Source { path: String::new(), text: text.to_owned(), code: blanked(text) };
    let mut names: Vec<_> = source.laws().into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn grouped_imports_are_read_by_their_first_names() {
    assert_eq!(
        first_names("lsn::Lsn, kafka::{self, Producer}, table}; use other;"),
        ["lsn", "kafka", "table"]
    );
}

#[test]
fn a_page_is_found_in_a_comment_and_nowhere_else() {
    // The slashes are written so that this file's own comments name nothing.
    let named = |line| pages_named(comment_of(line)).collect::<Vec<_>>();
    assert_eq!(named("let x = 1; /\u{2f} see `docs/a.md`, b.md."), ["docs/a.md", "b.md"]);
    assert_eq!(named("/\u{2f}! (`docs/a-b.md#part`)"), ["docs/a-b.md"]);
    assert!(named("read(\"docs/a.md\"); get(\"http://host/b.md\")").is_empty());
}
