//! What a difference between two looks means: a code, its weight, the WAL in doubt and the next step.

use crate::lsn::Lsn;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Told,
    /// Something that the database's owner has to mend.
    NeedsPerson,
    /// Changes may be missing: the stream halts.
    Halts,
}

/// What was found. The code is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The publication was dropped.
    PublicationMissing,
    /// The publication was dropped and made again.
    PublicationChanged,
    /// The publication was altered so that changes were not published, or were published under other names.
    PublicationAltered,
    /// A captured name belongs to another relation.
    TableSwapped,
    /// A captured relation was not published under its name for a while.
    TableLeft,
    /// UPDATE and DELETE of a captured table fail, because nothing identifies the old row.
    IdentityLost,
    /// The columns of the replica identity are others.
    KeyChanged,
    /// A change of a column's type rewrote every row.
    TableRewritten,
    /// A partition was attached that may have held rows before.
    PartitionAttached,
    /// A partition left, or left and came back.
    PartitionLeft,
    /// The publication publishes more operations than before, or has another owner.
    PublicationExtended,
    /// A namespace has a new row version that its owner and rights do not account for.
    NamespaceAltered,
}

impl Code {
    /// The stable code.
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
            Code::TableRewritten => "table_rewritten",
            Code::PartitionAttached => "partition_attached",
            Code::PartitionLeft => "partition_left",
            Code::PublicationExtended => "publication_extended",
            Code::NamespaceAltered => "namespace_altered",
        }
    }

    /// How much it weighs.
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
            | Code::TableRewritten
            | Code::PartitionAttached
            | Code::PartitionLeft
            | Code::PublicationExtended
            | Code::NamespaceAltered => Weight::Told,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub code: Code,
    /// The table, as `namespace.name` at the look that was right; none where the publication itself is meant.
    pub table: Option<String>,
    /// The server's position at the last look that was right.
    pub from: Lsn,
    /// The server's position at the first look that was not.
    pub to: Lsn,
    /// What was found, with names.
    pub detail: String,
    /// What to do.
    pub next: String,
}

impl Finding {
    /// The finding as one sentence for people.
    #[must_use]
    pub fn told(&self) -> String {
        let Finding { code, from, to, detail, next, .. } = self;
        format!("{}: {detail} (between {from} and {to}); {next}", code.code())
    }
}
