//! `wellspring check`: connects to Postgres, Kafka and the registry, compares what it finds with
//! the agent's needs, and changes nothing.
//!
//! A finding says what was found, and the SQL or setting that fixes it. `source`, `sink` and
//! `running` make the findings, and this file prints them.

mod environment;
mod detached;
mod failover;
mod reachability;
mod running;
mod schemas;
mod sink;
mod source;
mod versions;

pub(super) use schemas::described;

use super::{Code, Failure, block_on, print};
use crate::config::Checked;
use serde::Serialize;
use std::io::IsTerminal;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// What the check found is as it should be.
    Ok,
    /// The agent works as things are, but a person should know about it.
    Warn,
    /// The agent would fail, or would make the application fail.
    Fail,
}

/// What a finding is about: one of the systems, or the continuity of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Area {
    Postgres,
    Kafka,
    Registry,
    Continuity,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    area: Area,
    what: String,
    /// SQL, setting or command that fixes what was found; empty if the check has no advice.
    fix: String,
}

/// Findings about one area, in the order in which they were made.
struct Findings {
    area: Area,
    list: Vec<Finding>,
}

impl Findings {
    fn new(area: Area) -> Self {
        Findings { area, list: Vec::new() }
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.note(Level::Ok, what, "");
    }

    fn warn(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.note(Level::Warn, what, fix);
    }

    fn fail(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.note(Level::Fail, what, fix);
    }

    /// Adds a finding that fails: a request of the check itself to a server has failed.
    fn failed(&mut self, failure: impl Into<Failure>) {
        let failure = failure.into();
        let chain: Vec<String> = std::iter::once(failure.primary).chain(failure.details).collect();
        // A hint to run `wellspring check` is left out, because the person has just done so.
        let fix =
            if failure.hint.contains("wellspring check") { String::new() } else { failure.hint };
        self.fail(chain.join(": "), fix);
    }

    fn note(&mut self, level: Level, what: impl Into<String>, fix: impl Into<String>) {
        self.list.push(Finding { level, area: self.area, what: what.into(), fix: fix.into() });
    }
}

pub(super) fn run(checked: &Checked, json: bool) -> Result<Code, Failure> {
    let findings = block_on(look(checked))?;
    if json {
        let text = serde_json::to_string_pretty(&findings);
        print(&text.map_err(|error| Failure::of(Code::Failed, &error, ""))?);
    } else {
        let is_colourful =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        findings.iter().for_each(|finding| print(&as_text(finding, is_colourful)));
        print(&summary(&findings));
    }
    Ok(code(&findings))
}

async fn look(checked: &Checked) -> Vec<Finding> {
    let mut postgres = Findings::new(Area::Postgres);
    let seen = source::look(checked, &mut postgres).await;
    let mut findings = postgres.list;
    findings.extend(sink::look(checked, &seen).await);
    // Continuity is judged only if Postgres answered and no finding about Kafka fails. Otherwise
    // an earlier finding has reported the failure.
    let fails = |area| findings.iter().any(|f| f.area == area && f.level == Level::Fail);
    let is_reachable = seen.is_reachable && !fails(Area::Kafka);
    findings.extend(running::look(checked, is_reachable).await);
    findings
}

/// The exit code: 0 if no finding fails, with or without warnings. Otherwise the code for the area
/// of the first finding that fails.
fn code(findings: &[Finding]) -> Code {
    match findings.iter().find(|finding| finding.level == Level::Fail).map(|finding| finding.area) {
        None => Code::Done,
        Some(Area::Postgres) => Code::Source,
        Some(Area::Kafka | Area::Registry) => Code::Sink,
        Some(Area::Continuity) => Code::Continuity,
    }
}

fn as_text(finding: &Finding, is_colourful: bool) -> String {
    let (word, colour) = match finding.level {
        Level::Ok => ("ok  ", "32"),
        Level::Warn => ("warn", "33"),
        Level::Fail => ("FAIL", "31"),
    };
    let word = if is_colourful { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
    let mut text = format!("{word}  {}", finding.what);
    for line in finding.fix.lines() {
        text.push_str("\n        ");
        text.push_str(line);
    }
    text
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    format!(
        "{} ok, {} to know, {} to fix",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Oid;
    use crate::postgres::publication::{Candidate, RelationKind};
    use crate::table::{ReplicaIdentity, TableName};
    use expect_test::Expect;

    /// Asserts that the warnings and failures that `find` adds have the expected text.
    #[track_caller]
    pub(super) fn check(find: impl FnOnce(&mut Findings), expect: Expect) {
        let mut findings = Findings::new(Area::Postgres);
        find(&mut findings);
        let wrong = findings.list.iter().filter(|finding| finding.level != Level::Ok);
        expect.assert_eq(
            &wrong.map(|finding| as_text(finding, false)).collect::<Vec<_>>().join("\n"),
        );
    }

    /// A table that is set up well.
    pub(super) fn table(name: &str) -> Candidate {
        Candidate {
            relation: Oid(u32::try_from(name.len()).unwrap()),
            name: TableName::new("public", name),
            kind: RelationKind::Ordinary,
            logged: true,
            identity: ReplicaIdentity::Default,
            primary_key: true,
            usable_key: true,
            is_partition: false,
            fixes: Vec::new(),
        }
    }

    #[test]
    fn what_fails_first_decides_the_status() {
        let mut kafka = Findings::new(Area::Kafka);
        kafka.warn("slow", "");
        assert_eq!(code(&kafka.list), Code::Done);
        kafka.fail("away", "");
        assert_eq!(code(&kafka.list), Code::Sink);
        let mut postgres = Findings::new(Area::Postgres);
        postgres.fail("away", "");
        assert_eq!(code(&[postgres.list, kafka.list].concat()), Code::Source);
    }

    #[test]
    fn prints_each_line_of_a_fix_below_its_finding() {
        let mut findings = Findings::new(Area::Postgres);
        findings
            .fail("wal_level is replica", "ALTER SYSTEM SET wal_level = logical;\n-- and restart");
        let text = as_text(&findings.list[0], false);
        assert_eq!(
            text,
            "FAIL  wal_level is replica\n        ALTER SYSTEM SET wal_level = logical;\n        -- and restart"
        );
        assert!(as_text(&findings.list[0], true).starts_with("\x1b[31mFAIL\x1b[0m"));
    }
}
