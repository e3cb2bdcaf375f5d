//! Tests that the documents and the packaged files fit the code: what they name exists, and what
//! they have to name is named.
//!
//! `WELLSPRING_WRITE=1 cargo test --test docs` writes the pages that are generated.
#![expect(clippy::unwrap_used, reason = "a test ends where a file cannot be read")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use wellspring::config;
use wellspring::continuity::{Proof, Reason};
use wellspring::metrics::Metrics;
use wellspring::reason::{self, CopyReason, TroubleReason};

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Checks that a file is equal to `text`, which the code generates. With `WELLSPRING_WRITE` the
/// text is written into the file first.
#[track_caller]
fn same(path: &str, text: &str) {
    if std::env::var_os("WELLSPRING_WRITE").is_some() {
        fs::write(top().join(path), text).unwrap();
    }
    assert!(
        read(path) == text,
        "{path} is not what the code says: WELLSPRING_WRITE=1 cargo test --test docs"
    );
}

/// Every metric: its name, its type and its help text.
fn metrics() -> Vec<(String, String, String)> {
    let metrics = Metrics::new("0.0.0");
    let _ = metrics.table(&"public.t");
    metrics.foreign_write("t", 0);
    metrics.runs_as("shop", ["avro", "kafka", "initial"]);
    let text = metrics.render();
    let kind = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        line.unwrap_or_default().to_owned()
    };
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    helps.map(|(name, help)| (name.to_owned(), kind(name), help.to_owned())).collect()
}

/// Every name of a metric that a text uses, without the suffixes of a histogram.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    let ours =
        words.filter(|word| word.starts_with("wellspring_") && word.len() > "wellspring_".len());
    ours.map(|word| {
        let whole = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix))
            .unwrap_or(word);
        whole.to_owned()
    })
    .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn the_configuration_reference_is_what_the_parsers_take() {
    same("docs/configuration.md", &config::reference_page());
    same("schemas/wellspring.schema.json", &config::json_schema());
}

#[test]
fn the_metrics_page_lists_every_metric_with_its_help() {
    let page = read("docs/metrics.md");
    let (head, rest) = page.split_once("<!-- metrics -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    let rows: String = metrics()
        .iter()
        .map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |\n"))
        .collect();
    let table = format!("| metric | type | |\n|---|---|---|\n{rows}");
    same("docs/metrics.md", &format!("{head}<!-- metrics -->\n{table}<!-- end -->{tail}"));
    let known: BTreeSet<String> = metrics().into_iter().map(|(name, ..)| name).collect();
    let unknown: Vec<String> = named(&page).difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "docs/metrics.md names {unknown:?}");
}

#[test]
fn the_runbooks_list_what_ends_each_halt() {
    let page = read("docs/runbooks.md");
    let (head, rest) = page.split_once("<!-- halts -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    let row = |reason: Reason| {
        let lifting = reason.lifting();
        let seen = match lifting.proof {
            Proof::EachConnect => "each connect checks the cause again",
            Proof::Once => "no connect checks the cause again",
            Proof::Reading => {
                "each reading of the state checks the cause again; the halt is not recorded"
            }
        };
        let by: Vec<&str> = lifting.by.iter().map(|by| by.words()).collect();
        format!("| [`{0}`](#{0}) | {seen} | ends by {1} |\n", reason.code(), by.join(", or by "))
    };
    let rows: String = Reason::ALL.iter().copied().map(row).collect();
    let table =
        format!("| reason | checks of the cause | end of the halt |\n|---|---|---|\n{rows}");
    same("docs/runbooks.md", &format!("{head}<!-- halts -->\n{table}<!-- end -->{tail}"));
}

#[test]
fn every_reason_code_has_a_runbook_and_every_runbook_a_code() {
    let page = read("docs/runbooks.md");
    let headings: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let codes: BTreeSet<&str> = reason::codes().chain(["paused"]).collect();
    assert_eq!(headings, codes);
}

#[test]
fn the_operator_finds_each_reason_of_a_copy() {
    let page = read("docs/operating.md");
    let (head, rest) = page.split_once("<!-- copies -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    let rows: String = CopyReason::ALL
        .iter()
        .map(|reason| format!("| `{}` | {} |\n", reason.code(), reason.means()))
        .collect();
    let table = format!("| reason | meaning |\n|---|---|\n{rows}");
    same("docs/operating.md", &format!("{head}<!-- copies -->\n{table}<!-- end -->{tail}"));
}

#[test]
fn the_section_of_a_runbook_is_the_class_of_its_reason() {
    let page = read("docs/runbooks.md");
    let mut section = "";
    let mut wrong = Vec::new();
    for line in page.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let Some(code) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) else {
            continue;
        };
        let trouble = TroubleReason::ALL.iter().find(|reason| reason.code() == code);
        let halt = Reason::ALL.iter().any(|reason| reason.code() == code);
        let is_right = match trouble.map(|reason| reason.needs_a_person()) {
            Some(true) => section == "Needs a person",
            Some(false) => section == "Passes by itself",
            None if halt => section.starts_with("Halts: "),
            None => section == "Not a fault",
        };
        if !is_right {
            wrong.push(format!("`{code}` stands below `{section}`"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn dashboards_and_alerts_name_only_metrics_that_there_are() {
    let known: BTreeSet<String> = metrics().into_iter().map(|(name, ..)| name).collect();
    let mut found = Vec::new();
    files(&top().join("docker"), &mut found);
    let mut used = BTreeSet::new();
    for path in found
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "json" || kind == "yml"))
    {
        used.extend(named(&fs::read_to_string(path).unwrap()));
    }
    let unknown: Vec<&String> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(used.len() > 20, "the dashboard and the alerts were not found");
}

#[test]
fn the_chart_ships_the_alerts_that_are_tested() {
    assert_eq!(read("docker/helm/wellspring/alerts.yml"), read("docker/prometheus/alerts.yml"));
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(read("docker/helm/wellspring/Chart.yaml").contains(&version), "{version}");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut found = Vec::new();
    files(&top().join("docs"), &mut found);
    found.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
            .map(|name| top().join(name)),
    );
    let mut broken = Vec::new();
    for path in found.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_ours = !target.contains("://") && !file.is_empty();
            if is_ours && !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_internals_name_only_files_and_names_that_exist() {
    let mut found = Vec::new();
    files(&top().join("docs/internals"), &mut found);
    let (mut named, mut wrong) = (0, Vec::new());
    for path in found {
        let page = fs::read_to_string(&path).unwrap();
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        // A page writes a file and names in it as `src/ledger.rs` (`settle`). The file must have
        // each of the names.
        for (file, after) in page.split("`src/").skip(1).filter_map(|rest| rest.split_once('`')) {
            named += 1;
            let file = format!("src/{file}");
            if !top().join(&file).exists() {
                wrong.push(format!("{}: {file} does not exist", path.display()));
                continue;
            }
            let names = after
                .strip_prefix(" (")
                .and_then(|rest| rest.split_once(')'))
                .map_or("", |(names, _)| names);
            let names = names.split('`').skip(1).step_by(2);
            let absent = names.filter(|name| !read(&file).contains(*name));
            wrong.extend(absent.map(|name| format!("{}: {file} has no `{name}`", path.display())));
        }
    }
    assert!(named > 60, "the pages name {named} files");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Everything that a row of `docs/acceptance.md` may name, as `kind:name`, which is how the row
/// writes it.
fn holders() -> BTreeSet<String> {
    let mut found = Vec::new();
    files(&top().join("src"), &mut found);
    files(&top().join("tests"), &mut found);
    let mut names = BTreeSet::new();
    let mut add = |kind: &str, name: &str| names.extend([format!("{kind}:{name}")]);
    for path in found
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs" || kind == "py"))
    {
        let text = fs::read_to_string(path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_word = |word: &str| {
                !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            let function = |line: &str, start: &str| {
                line.strip_prefix(start)?.split('(').next().map(str::to_owned)
            };
            match file {
                "leak.py" => line.split('"').nth(1).into_iter().for_each(|name| add("leak", name)),
                "adopt.py" => function(line, "def ").iter().for_each(|name| add("adopt", name)),
                "run.py" if path.ends_with("tests/faults/run.py") => {
                    function(line, "def ").iter().for_each(|name| add("faults", name));
                }
                _ if file.starts_with("scenarios") && line.ends_with("(world):") => {
                    function(line, "def ").iter().for_each(|name| add("stack", name))
                }
                _ => {}
            }
            // A test is a function after its attribute, or a line of the macro `cases!`, which
            // makes a test of each recording.
            let attribute =
                |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let is_test = lines[at.saturating_sub(4)..at].iter().any(attribute);
            let name = function(line.trim_start_matches("async "), "fn ");
            name.filter(|name| is_word(name) && (is_test || in_proptest(&lines, at)))
                .iter()
                .for_each(|name| add("test", name));
            if let Some((name, _)) =
                line.split_once(" \"").filter(|(name, case)| is_word(name) && case.ends_with("\","))
            {
                add("test", name);
            }
        }
    }
    for case in fs::read_dir(top().join("tests/corpus/cases")).unwrap() {
        add("corpus", case.unwrap().file_name().to_str().unwrap());
    }
    names
}

/// True if `#[test]` stands before the function in line `at`, with nothing but documentation or
/// `#[ignore]` in between.
fn in_proptest(lines: &[&str], at: usize) -> bool {
    let before = lines[..at]
        .iter()
        .rev()
        .find(|line| !line.starts_with("///") && !line.starts_with("#[ignore"));
    before.is_some_and(|line| line.starts_with("#[test]"))
}

#[test]
fn every_acceptance_case_has_a_row_and_what_a_row_names_exists() {
    let known: Vec<String> = read("tests/data/debezium-cases.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert!(known.len() >= 380, "{}", known.len());
    let page = read("docs/acceptance.md");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(case, _)| case.len() == 3 && case[1..].chars().all(|c| c.is_ascii_digit()))
        .collect();
    assert_eq!(
        rows.iter().map(|(case, _)| *case).collect::<Vec<_>>(),
        known,
        "a row for each case, in their order"
    );
    let holders = holders();
    let mut wrong = Vec::new();
    for (case, held) in &rows {
        let named: Vec<&str> =
            held.split('`').skip(1).step_by(2).filter(|name| name.contains(':')).collect();
        wrong.extend(
            named
                .iter()
                .filter(|name| !holders.contains(**name))
                .map(|name| format!("{case} {name}")),
        );
        let reason = held.strip_prefix("does not apply: ").is_some_and(|why| why.len() > 5);
        if named.is_empty() && !reason {
            wrong.push(format!("{case}: `{held}` names no test and no reason"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_commands_that_the_documents_name_are_commands() {
    let program = env!("CARGO_BIN_EXE_wellspring");
    let help = |arguments: &[&str]| {
        let output =
            std::process::Command::new(program).args(arguments).arg("--help").output().unwrap();
        output.status.success()
    };
    let mut found = Vec::new();
    files(&top().join("docs"), &mut found);
    let mut commands = BTreeSet::new();
    for path in found.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for command in text.split("`wellspring ").skip(1).filter_map(|rest| rest.split('`').next())
        {
            let words = command
                .split_whitespace()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
            commands.insert(words.take(2).map(str::to_owned).collect::<Vec<_>>());
        }
    }
    for words in commands.iter().filter(|words| !words.is_empty()) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // The second word may be an argument, such as a shell's name.
        assert!(help(&words) || help(&words[..1]), "`wellspring {}`", words.join(" "));
    }
}
