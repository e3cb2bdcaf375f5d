//! Findings about continuity: what a start of `wellspring run` would decide now, by the same rules,
//! and what the running agent says of itself.

use super::super::running::{self, Running};
use super::super::slot;
use super::{Area, Finding, Findings};
use crate::agent::consent::{self, SlotStatus};
use crate::config::Checked;
use crate::continuity::Foresight;

/// Reports what a start of the agent would do now, and what a running agent says of itself. The
/// first needs Postgres and Kafka, and is left out if `is_reachable` is false.
pub(super) async fn look(checked: &Checked, is_reachable: bool) -> Vec<Finding> {
    let mut findings = Findings::new(Area::Continuity);
    if is_reachable {
        match consent::status(&checked.pipeline(false)).await {
            Ok(status) => foreseen(&status, &mut findings),
            Err(error) => findings.failed(error),
        }
    }
    if let Some(agent) = running::ask(checked).await {
        told(&agent, &mut findings);
    }
    findings.list
}

fn foreseen(status: &SlotStatus, findings: &mut Findings) {
    let (code, detail, next) = slot::said(&status.foresight);
    match &status.foresight {
        Foresight::Streams(_) | Foresight::Held(_) => findings.ok(format!("{code}: {detail}")),
        Foresight::Anew(_) | Foresight::Tries(_) | Foresight::Waits(_) => {
            findings.warn(format!("{code}: {detail}"), next);
        }
        Foresight::Halts(_) => findings.fail(format!("run halts: {code}: {detail}"), next),
    }
    if !status.owed.is_empty() {
        let what = format!("the first copy is not complete: {}", status.owed.join(", "));
        findings.warn(what, "the running agent or the next start copies the rest");
    }
}

/// Reports what the running agent says: its phase, refused tables, and failed copies. If none of
/// these is a fault, one finding says that the agent runs.
fn told(agent: &Running, findings: &mut Findings) {
    let before = findings.list.len();
    if agent.needs_a_person {
        let what = format!("the running agent is {}: {}", agent.summary(), agent.detail);
        findings.fail(what, agent.next.clone());
    } else if !matches!(&*agent.phase, "streaming" | "snapshot" | "standby") {
        let what = format!("the running agent is {}: {}", agent.summary(), agent.detail);
        findings.warn(what, agent.next.clone());
    }
    for (name, table) in &agent.tables {
        if table.state == "refused" {
            let (reason, detail) = (&table.reason, &table.detail);
            let what = format!("table {name} is refused ({reason}): {detail}");
            findings.fail(what, table.next.clone());
        }
    }
    for copy in agent.windows.iter().filter(|copy| copy.state == "failed") {
        let what = format!("the copy of {} failed ({}): {}", copy.table, copy.reason, copy.detail);
        findings.fail(what, copy.next.clone());
    }
    if findings.list.len() == before {
        findings.ok(format!("the running agent is {}", agent.summary()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::status::{Phase, Status, TableStatus, WindowStatus};

    #[track_caller]
    fn check(status: &Status, expected: &[(Level, &str)]) {
        let agent: Running = serde_json::from_str(&serde_json::to_string(status).unwrap()).unwrap();
        let mut findings = Findings::new(Area::Continuity);
        told(&agent, &mut findings);
        let found: Vec<(Level, &str)> = findings.list.iter().map(|f| (f.level, &*f.what)).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((level, what), (wanted, words)) in found.iter().zip(expected) {
            assert!(level == wanted && what.contains(words), "{found:?}");
        }
    }

    #[test]
    fn a_running_agent_that_needs_a_person_is_a_finding() {
        let status =
            Status { phase: Phase::Streaming, lag_seconds: Some(0.0), ..Status::default() };
        check(&status, &[(Level::Ok, "streaming, lag 0.0 s")]);
        let standby =
            Status { phase: Phase::Standby, reason: "standby".to_owned(), ..Status::default() };
        check(&standby, &[(Level::Ok, "standby (standby), lag unknown")]);
        let away = Status {
            phase: Phase::Retrying,
            reason: "kafka_unavailable".to_owned(),
            ..Status::default()
        };
        check(&away, &[(Level::Warn, "retrying (kafka_unavailable)")]);
        let halted = Status {
            phase: Phase::Halted,
            reason: "record_too_large".to_owned(),
            needs_a_person: true,
            ..Status::default()
        };
        check(&halted, &[(Level::Fail, "halted (record_too_large)")]);
    }

    #[test]
    fn a_copy_or_table_that_failed_is_a_finding() {
        let mut status =
            Status { phase: Phase::Streaming, lag_seconds: Some(0.0), ..Status::default() };
        let refused = TableStatus { state: "refused".to_owned(), ..TableStatus::default() };
        status.tables.insert("public.a".to_owned(), refused);
        status.windows.push(WindowStatus {
            table: "public.b".to_owned(),
            state: "failed".to_owned(),
            reason: "copy_refused".to_owned(),
            ..WindowStatus::default()
        });
        let words = [
            (Level::Fail, "table public.a is refused"),
            (Level::Fail, "copy of public.b failed (copy_ref"),
        ];
        check(&status, &words);
    }
}
