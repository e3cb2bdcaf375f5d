//! `wellspring slot`: shows, creates or drops the slot, and accepts a gap. Also `wellspring retry`.

use super::running::Running;
use super::{Code, Failure, block_on, logging, print, running};
use crate::agent::consent::{self, Copies, Repaired, SlotStatus};
use crate::config::Checked;
use crate::continuity::{Chain, Foresight, LsnRange, Verdict};
use crate::lsn::Lsn;
use crate::postgres::slot::SlotRow;
use crate::table::typed::in_shell;
use clap::Subcommand;
use std::fmt::Write;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the slot, our record, and whether they fit together; changes nothing
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Create the slot now, for a pipeline that starts later from this point
    Create,
    /// Drop the slot; a later start halts and says so, since what lies between is lost
    ///
    /// Without --yes it only shows what would be lost.
    Drop {
        /// Drop the slot, and lose the changes that it keeps
        #[arg(long)]
        yes: bool,
    },
    /// Accept the loss that a halt named, and go on under a new epoch
    ///
    /// With --from and --to, a gap that reaches beyond this range is not accepted.
    Accept {
        /// Where the accepted range begins; the halt names it
        #[arg(long, value_name = "LSN", requires = "to")]
        from: Option<Lsn>,
        /// Where the accepted range ends
        #[arg(long, value_name = "LSN", requires = "from")]
        to: Option<Lsn>,
        /// Copy the tables again of which changes may be missing
        #[arg(long)]
        copy: bool,
    },
}

pub(super) fn run(checked: &Checked, command: &Command) -> Result<Code, Failure> {
    logging::start(checked.log);
    let config = checked.pipeline(false);
    block_on(async {
        match command {
            Command::Status { json } => {
                let agent = running::ask(checked).await;
                let status = match consent::status(&config).await {
                    Ok(status) => status,
                    Err(error) if error.is_of_state() => {
                        let slot = consent::slot_alone(&config).await?;
                        let why = Chain(&error).to_string();
                        let shown = if *json { alone_as_json } else { alone_as_text };
                        print(&shown(&checked.slot, slot.as_ref(), &why, agent.as_ref()));
                        return Err(error.into());
                    }
                    Err(error) => return Err(error.into()),
                };
                let shown = if *json { as_json } else { as_text };
                print(&shown(&checked.slot, &status, agent.as_ref()));
                Ok(match (&status.foresight, &status.halt) {
                    (Foresight::Halts(_), _) | (_, Some(_)) => Code::Continuity,
                    _ => Code::Done,
                })
            }
            Command::Create => {
                let record = consent::create(&config).await?;
                print(&format!("created slot `{}` at {}", record.slot, record.confirmed));
                Ok(Code::Done)
            }
            Command::Drop { yes: false } => {
                let status = consent::status(&config).await?;
                print(&as_text(&checked.slot, &status, None));
                let slot = &checked.slot;
                print(&format!("slot `{slot}` is not dropped: `wellspring slot drop --yes` does"));
                Ok(Code::Done)
            }
            Command::Drop { yes: true } => {
                consent::drop_slot(&config).await?;
                print(&format!("dropped slot `{}`; its record stays", checked.slot));
                Ok(Code::Done)
            }
            Command::Accept { from, to, copy } => {
                let range = from.zip(*to).map(|(from, to)| LsnRange { from, to });
                let copies = if *copy { Copies::Ask } else { Copies::Leave };
                print(&accepted(consent::accept(&config, range, copies).await?.as_ref()));
                Ok(Code::Done)
            }
        }
    })?
}

/// The text that `slot accept` prints: the accepted gap, and the tables that are copied again or
/// should be. `repaired` is `None` if there was nothing to accept.
fn accepted(repaired: Option<&Repaired>) -> String {
    let Some(Repaired { record, copied }) = repaired else {
        return "there is nothing to accept: record and slot show no gap, and no halt is recorded; \
                nothing was changed"
            .to_owned();
    };
    let gap = record
        .accepted
        .last()
        .map_or_else(String::new, |gap| format!("{} to {} ({}); ", gap.from, gap.to, gap.reason));
    let mut text =
        format!("accepted {gap}epoch {} goes on from {}", record.epoch, record.confirmed);
    if !copied.is_empty() {
        text.push_str(&format!(
            "\nthe running agent or the next start copies {}; a copy deletes no rows that were \
             deleted meanwhile",
            copied.join(", ")
        ));
        return text;
    }
    let tables: Vec<&str> = record.tables.keys().map(String::as_str).collect();
    if !tables.is_empty() {
        let tables: Vec<_> = tables.into_iter().map(in_shell).collect();
        let tables = tables.join(" ");
        text.push_str(&format!(
            "\nchanges may be missing; `wellspring snapshot {tables}` copies its tables again"
        ));
    }
    text
}

/// `wellspring retry`: records in the state that the recorded halt is to be tried once more.
pub(super) fn retry(checked: &Checked) -> Result<Code, Failure> {
    logging::start(checked.log);
    let config = checked.pipeline(false);
    block_on(async {
        let answer = match consent::retry(&config).await? {
            Some(halted) => format!(
                "{} is tried once more, by the running agent within seconds or at the next start",
                halted.reason.code()
            ),
            None => format!(
                "there is nothing to try again: no halt is recorded for slot `{}`; an agent that \
                 is retrying goes on by itself",
                config.slot
            ),
        };
        print(&answer);
        Ok(Code::Done)
    })?
}

/// A text for the terminal, with a name and its value on each line.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name:20} {value}");
    }

    fn text(&self) -> String {
        self.0.trim_end().to_owned()
    }
}

/// The text of `slot status` if the state cannot be read: the slot, and what the running agent
/// says.
fn alone_as_text(name: &str, slot: Option<&SlotRow>, why: &str, agent: Option<&Running>) -> String {
    let mut page = Page::default();
    slot_as_text(&mut page, name, slot);
    page.line("record", "unknown: the state in Kafka could not be read");
    page.line("  because", why);
    if let Some(agent) = agent {
        agent_as_text(&mut page, agent);
    }
    page.line("verdict", "unknown: slot and record could not be compared");
    page.text()
}

fn agent_as_text(page: &mut Page, agent: &Running) {
    page.line("running agent", agent.summary());
    for (name, text) in [("  because", &agent.detail), ("  next", &agent.next)] {
        if !text.is_empty() {
            page.line(name, text);
        }
    }
}

fn as_text(name: &str, status: &SlotStatus, agent: Option<&Running>) -> String {
    let mut page = Page::default();
    slot_as_text(&mut page, name, status.slot.as_ref());
    match &status.record {
        None => page.line("record", "none".to_owned()),
        Some(record) => {
            page.line("record", format!("term {}, epoch {}", record.term, record.epoch));
            page.line("  confirmed", record.confirmed.to_string());
            page.line("  sent", record.sent.to_string());
            page.line(
                "  last stop",
                if record.clean { "clean" } else { "not clean, or still running" }.to_owned(),
            );
            page.line("  tables", record.tables.len().to_string());
            for gap in &record.accepted {
                page.line("  accepted", format!("{} to {} ({})", gap.from, gap.to, gap.reason));
            }
        }
    }
    if let Some(agent) = agent {
        agent_as_text(&mut page, agent);
    }
    let (verdict, detail, next) = said(&status.foresight);
    page.line("verdict", verdict.to_owned());
    if !detail.is_empty() {
        page.line("  because", detail);
    }
    if let Foresight::Halts(halt) = &status.foresight
        && let Some(range) = halt.range
    {
        page.line("  in doubt", format!("{} to {}", range.from, range.to));
    }
    if !next.is_empty() {
        page.line("  next", next.to_owned());
    }
    if let Some(halted) = &status.halt {
        page.line("recorded halt", halted.reason.code().to_owned());
        page.line("  because", halted.halt().told());
        if let Some(range) = halted.range {
            page.line("  in doubt", format!("{} to {}", range.from, range.to));
        }
        if halted.retry || halted.trying.is_some() {
            page.line(
                "  tried again",
                if halted.retry { "at the next connect" } else { "now" }.to_owned(),
            );
        }
        page.line("  next", halted.next.clone());
    }
    page.text()
}

fn slot_as_text(page: &mut Page, name: &str, slot: Option<&SlotRow>) {
    page.line("slot", name);
    match slot {
        None => page.line("", "does not exist".to_owned()),
        Some(row) => {
            let lsn = |lsn: Option<Lsn>| lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
            let held =
                row.active_pid.map_or_else(|| "nobody".to_owned(), |pid| format!("pid {pid}"));
            page.line("  held by", held);
            page.line("  confirmed", lsn(row.confirmed_flush_lsn));
            page.line("  restart", lsn(row.restart_lsn));
            page.line("  server", row.server_lsn.to_string());
            page.line(
                "  WAL retained",
                row.retained_bytes()
                    .map_or_else(|| "-".to_owned(), |bytes| format!("{bytes} bytes")),
            );
            let left = row
                .safe_bytes()
                .map_or_else(|| "no limit".to_owned(), |bytes| format!("{bytes} bytes"));
            page.line("  WAL until lost", left);
            page.line("  WAL status", row.wal_status.clone().unwrap_or_else(|| "-".to_owned()));
            if let Some(why) = &row.invalidation {
                page.line("  invalidated", why.clone());
            }
        }
    }
}

/// What a start would do now: a code for it, the reason as a text, and the next step for the
/// operator. The next step is empty if there is none.
pub(super) fn said(foresight: &Foresight) -> (&'static str, String, String) {
    match foresight {
        Foresight::Held(pid) => ("held", format!("pid {pid} holds the slot"), String::new()),
        Foresight::Anew(reason) => {
            let detail = format!("{reason}: snapshot.mode copies every table again");
            ("begins_anew", detail, String::new())
        }
        Foresight::Tries(halt) => {
            let detail = format!("{}: {}", halt.reason.code(), halt.told());
            ("tries_once", detail, "`wellspring run` tries the change once more".to_owned())
        }
        Foresight::Waits(detail) => ("waits", detail.clone(), String::new()),
        Foresight::Halts(halt) => (halt.reason.code(), halt.told(), halt.next()),
        Foresight::Streams(verdict) => verdict_said(verdict),
    }
}

fn verdict_said(verdict: &Verdict) -> (&'static str, String, String) {
    let plain = |code, detail: String| (code, detail, String::new());
    match verdict {
        Verdict::Resume(resume) => {
            plain("resumes", format!("continuity is proven from {}", resume.from))
        }
        Verdict::Created(resume) => {
            plain("resumes", format!("a first start created the slot at {}", resume.from))
        }
        Verdict::FirstStart => {
            let detail = "there is neither slot nor record".to_owned();
            ("first_start", detail, "`wellspring run` creates both".to_owned())
        }
        Verdict::Wait(detail) => plain("waits", detail.clone()),
        Verdict::Halt(halt) => (halt.reason.code(), halt.told(), halt.next()),
    }
}

fn as_json(name: &str, status: &SlotStatus, agent: Option<&Running>) -> String {
    let (verdict, detail, next) = said(&status.foresight);
    let range = match &status.foresight {
        Foresight::Halts(halt) => halt.range,
        _ => None,
    };
    let whole = serde_json::json!({
        "name": name, "slot": status.slot.as_ref().map(slot_as_json), "record": status.record,
        "verdict": verdict, "detail": detail, "range": range, "next": next, "halt": status.halt, "agent": agent,
    });
    format!("{whole:#}")
}

/// The content of [`alone_as_text`] as JSON. `record` is null, as if there were no record, and the
/// verdict is `unknown`.
fn alone_as_json(name: &str, slot: Option<&SlotRow>, why: &str, agent: Option<&Running>) -> String {
    let whole = serde_json::json!({
        "name": name, "slot": slot.map(slot_as_json), "record": null,
        "verdict": "unknown", "detail": why, "range": null, "next": "", "halt": null,
        "agent": agent,
    });
    format!("{whole:#}")
}

fn slot_as_json(row: &SlotRow) -> serde_json::Value {
    serde_json::json!({
        "active_pid": row.active_pid,
        "confirmed_flush_lsn": row.confirmed_flush_lsn,
        "restart_lsn": row.restart_lsn,
        "server_lsn": row.server_lsn,
        "retained_bytes": row.retained_bytes(),
        "safe_wal_size": row.safe_wal_size,
        "wal_status": row.wal_status,
        "invalidation": row.invalidation,
    })
}
