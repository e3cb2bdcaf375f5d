//! The halt for findings that two looks at publication and tables have shown. This file is pure.

use super::{Halt, Reason};
use crate::watch::{Code, Finding};

/// The most findings that a halt names one by one. A schema that was dropped and created again has
/// one finding for each table.
const NAMED_MAX: usize = 5;

/// Returns the halt for these findings; `None` if none of them is of weight
/// [`crate::watch::Weight::Halts`].
#[must_use]
pub fn of_findings(findings: &[Finding]) -> Option<Halt> {
    let reason = |finding: &Finding| match finding.code {
        Code::PublicationMissing => Some(Reason::PublicationMissing),
        Code::PublicationChanged => Some(Reason::PublicationChanged),
        Code::PublicationAltered => Some(Reason::PublicationAltered),
        Code::TableSwapped => Some(Reason::TableSwapped),
        Code::TableLeft => Some(Reason::TableLeft),
        Code::IdentityLost
        | Code::KeyChanged
        | Code::RecordKeyChanged
        | Code::TableRewritten
        | Code::PartitionAttached
        | Code::PartitionLeft
        | Code::PartitionEmptied
        | Code::PublicationExtended
        | Code::NamespaceAltered => None,
    };
    let halting: Vec<(&Finding, Reason)> =
        findings.iter().filter_map(|finding| Some((finding, reason(finding)?))).collect();
    let (first, reason) = *halting.first()?;
    let named = halting
        .iter()
        .take(NAMED_MAX)
        .map(|(finding, _)| format!("{}; {}", finding.detail, finding.next));
    let mut detail = named.collect::<Vec<_>>().join("; ");
    if halting.len() > NAMED_MAX {
        detail.push_str(&format!("; and {} more", halting.len() - NAMED_MAX));
    }
    let halt = Halt::new(reason, detail).over(first.from, first.to);
    // A halt about several tables does not end when one of them is excluded.
    Some(match &first.table {
        Some(table) if halting.len() == 1 => halt.about(table),
        _ => halt,
    })
}
