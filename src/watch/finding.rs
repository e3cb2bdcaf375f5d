//! The meaning of a difference between two looks: a code, its weight, the range of the WAL in doubt
//! and the next step.

use crate::lsn::Lsn;

/// The weight of a finding decides what the agent does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Status and log show the finding. The stream goes on.
    Told,
    /// The owner of the database has to mend something. The stream goes on.
    NeedsPerson,
    /// Changes may be missing, so that the stream halts.
    Halts,
}

/// The kind of a finding. Its text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The publication was dropped.
    PublicationMissing,
    /// The publication was dropped and made again.
    PublicationChanged,
    /// The publication was altered, so that for a time some changes were not published, or were
    /// published under other names.
    PublicationAltered,
    /// The name of a captured table now belongs to another relation.
    TableSwapped,
    /// A captured relation is not published under its name any more, or was not published for a
    /// while.
    TableLeft,
    /// UPDATE and DELETE of a captured table fail, because nothing identifies the old row.
    IdentityLost,
    /// The replica identity or the primary key of a captured table is another one.
    KeyChanged,
    /// The records of a table have another key than before, or none.
    RecordKeyChanged,
    /// A change of a column's type rewrote every row.
    TableRewritten,
    /// A partition that may have held rows before was attached to a captured table.
    PartitionAttached,
    /// A partition was detached from a captured table, or was detached and attached again.
    PartitionLeft,
    /// A partition of a table that is published under the table's own name was truncated.
    PartitionEmptied,
    /// The publication publishes more operations than before, or has another owner.
    PublicationExtended,
    /// A namespace has a new row version that its owner and rights do not account for.
    NamespaceAltered,
}

impl Code {
    /// The stable text form for logs, status and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Code::PublicationMissing => "publication_missing",
            Code::PublicationChanged => "publication_changed",
            Code::PublicationAltered => "publication_altered",
            Code::TableSwapped => "table_swapped",
            Code::TableLeft => "table_left",
            Code::IdentityLost => "identity_lost",
            Code::KeyChanged => "key_changed",
            Code::RecordKeyChanged => "record_key_changed",
            Code::TableRewritten => "table_rewritten",
            Code::PartitionAttached => "partition_attached",
            Code::PartitionLeft => "partition_left",
            Code::PartitionEmptied => "partition_emptied",
            Code::PublicationExtended => "publication_extended",
            Code::NamespaceAltered => "namespace_altered",
        }
    }

    /// The weight of findings of this kind.
    #[must_use]
    pub const fn weight(self) -> Weight {
        match self {
            Code::PublicationMissing
            | Code::PublicationChanged
            | Code::PublicationAltered
            | Code::TableSwapped
            | Code::TableLeft => Weight::Halts,
            Code::IdentityLost => Weight::NeedsPerson,
            Code::KeyChanged
            | Code::RecordKeyChanged
            | Code::TableRewritten
            | Code::PartitionAttached
            | Code::PartitionLeft
            | Code::PartitionEmptied
            | Code::PublicationExtended
            | Code::NamespaceAltered => Weight::Told,
        }
    }
}

/// One difference between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of the finding.
    pub code: Code,
    /// The table, as `namespace.name` at the earlier look. `None` for the publication itself.
    pub table: Option<String>,
    /// The server's position before the earlier look. For a changed record key, the position of the
    /// change.
    pub from: Lsn,
    /// The server's position after the later look. For a changed record key, the same as `from`.
    pub to: Lsn,
    /// A sentence about the difference, with the names of objects.
    pub detail: String,
    /// A sentence about what a person has to do next.
    pub next: String,
}

impl Finding {
    /// Formats the finding for people: code, detail, range and next step.
    #[must_use]
    pub fn told(&self) -> String {
        let Finding { code, from, to, detail, next, .. } = self;
        let code = code.code();
        if from == to {
            return format!("{code}: {detail} (at {from}); {next}");
        }
        format!("{code}: {detail} (between {from} and {to}); {next}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::FINDINGS;

    #[test]
    fn the_metric_has_a_series_for_each_finding_that_does_not_halt() {
        let all = [
            Code::PublicationMissing,
            Code::PublicationChanged,
            Code::PublicationAltered,
            Code::TableSwapped,
            Code::TableLeft,
            Code::IdentityLost,
            Code::KeyChanged,
            Code::RecordKeyChanged,
            Code::TableRewritten,
            Code::PartitionAttached,
            Code::PartitionLeft,
            Code::PartitionEmptied,
            Code::PublicationExtended,
            Code::NamespaceAltered,
        ];
        let counted = all.into_iter().filter(|code| code.weight() < Weight::Halts);
        assert_eq!(counted.map(Code::code).collect::<Vec<_>>(), FINDINGS);
    }
}
