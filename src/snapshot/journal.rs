//! The parts of a first copy that survive a restart, as records of the state topic. Pure: text in,
//! text out.
//!
//! The key `copy/<slot>` holds the tables to be copied. This record is written before the first
//! row. A key `copied/<slot>/<epoch>/<namespace.name>` holds the outcome of one table. That record
//! is written after the delivery of the table's last row. A table without an outcome is still to be
//! copied, even if some of its rows are in Kafka. The key of an outcome holds the epoch. So
//! removing the record of an earlier copy cannot remove the record of this copy.

use crate::lsn::Lsn;
use crate::reason::CopyReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the records that this program writes. The program refuses records of a later version.
const FORMAT: u32 = 1;

/// The state record that lists the tables of a first copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    format: u32,
    /// Epoch of the checkpoint that the copy belongs to.
    pub epoch: u64,
    /// Consistent point of the slot: the copied rows are as of this position, and the stream begins
    /// here.
    pub consistent_point: Lsn,
    /// Tables as `namespace.name`, in the order in which they are begun.
    pub tables: Vec<String>,
}

/// The state record of the outcome of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    format: u32,
    /// Epoch of the copy, as in [`Planned`]. A record of another epoch does not count for this
    /// copy.
    epoch: u64,
    pub(crate) rows: u64,
    /// Why the table was left out. `None` if it was copied.
    pub left: Option<Left>,
}

/// Why a table is not copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The code of the reason. It stays the same in later versions.
    pub reason: String,
    /// A sentence about the reason, with names of objects and without values of rows.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
}

impl Left {
    /// Makes the entry for a table that is not copied: the reason, its detail, and the next step.
    #[must_use]
    pub fn new(reason: CopyReason, detail: impl Into<String>, next: impl Into<String>) -> Self {
        let (detail, next) = (detail.into(), next.into());
        Left { reason: reason.code().to_owned(), detail, next }
    }

    /// True if this is the reason why the table is not copied.
    #[must_use]
    pub fn is_of(&self, reason: CopyReason) -> bool {
        self.reason == reason.code()
    }

    /// True if a backfill copies the table later, so that nobody has to act.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.is_of(CopyReason::CopyRewritten) || self.is_of(CopyReason::CopyPostponed)
    }
}

/// All state records of one slot's first copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The tables of the first copy. `None` if no first copy was ever planned.
    pub planned: Option<Planned>,
    /// Outcomes of tables, by `namespace.name`.
    pub copied: BTreeMap<String, Copied>,
    /// Keys of records of earlier copies, which are to be removed.
    pub outdated: Vec<String>,
}

/// A state record that cannot be read. Nothing is guessed from it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum JournalError {
    /// The record is not JSON of the expected form.
    #[error("read state record `{key}`")]
    Unreadable {
        key: String,
        /// The error of the JSON parser.
        #[source]
        source: serde_json::Error,
    },
    /// The record was written by a later version.
    #[error(
        "state record `{key}` has format {format}; this version reads up to {FORMAT}: run the \
         version that wrote it"
    )]
    Newer { key: String, format: u32 },
}

impl Planned {
    /// Makes the state record of a first copy, in the format of this version.
    #[must_use]
    pub fn new(epoch: u64, consistent_point: Lsn, tables: Vec<String>) -> Self {
        Planned { format: FORMAT, epoch, consistent_point, tables }
    }

    #[must_use]
    pub(crate) fn key(slot: &str) -> String {
        format!("copy/{slot}")
    }

    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("a plan holds texts and numbers: {error}"))
    }
}

impl Copied {
    /// The outcome of a table whose rows are all delivered.
    #[must_use]
    pub fn whole(epoch: u64, rows: u64) -> Self {
        Copied { format: FORMAT, epoch, rows, left: None }
    }

    /// The outcome of a table that was left out.
    #[must_use]
    pub fn left(epoch: u64, rows: u64, left: Left) -> Self {
        Copied { format: FORMAT, epoch, rows, left: Some(left) }
    }

    #[must_use]
    pub(crate) fn key(&self, slot: &str, table: &str) -> String {
        format!("{}{}/{table}", Self::keys(slot), self.epoch)
    }

    /// Returns the text with which the keys of all outcomes of a slot's copies begin.
    fn keys(slot: &str) -> String {
        format!("copied/{slot}/")
    }

    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("an outcome holds texts and numbers: {error}"))
    }
}

impl Journal {
    /// Reads the records of a slot from the newest values of the state topic.
    ///
    /// # Errors
    /// A record of this slot cannot be read, or a later version has written it.
    pub fn read(slot: &str, entries: &BTreeMap<String, String>) -> Result<Self, JournalError> {
        let mut journal = Journal::default();
        if let Some((key, value)) = entries.get_key_value(&Planned::key(slot)) {
            journal.planned = Some(parsed(key, value)?);
        }
        let keys = Copied::keys(slot);
        for (key, value) in entries.iter().filter(|(key, _)| key.starts_with(&keys)) {
            let copied: Copied = parsed(key, value)?;
            match key.strip_prefix(&copied.key(slot, "")) {
                Some(table)
                    if journal
                        .planned
                        .as_ref()
                        .is_some_and(|planned| planned.epoch == copied.epoch) =>
                {
                    journal.copied.insert(table.to_owned(), copied);
                }
                _ => journal.outdated.push(key.clone()),
            }
        }
        Ok(journal)
    }

    /// Tables that have no outcome and are still to be copied, in the order of the plan.
    #[must_use]
    pub fn owed(&self) -> Vec<&str> {
        let planned = self.planned.as_ref().map_or(&[][..], |planned| planned.tables.as_slice());
        planned
            .iter()
            .filter(|table| !self.copied.contains_key(*table))
            .map(String::as_str)
            .collect()
    }

    /// Tables that were left out, with the reasons.
    pub fn left(&self) -> impl Iterator<Item = (&str, &Left)> {
        self.copied
            .iter()
            .filter_map(|(table, copied)| Some((table.as_str(), copied.left.as_ref()?)))
    }

    /// True if a copy was planned and every table has an outcome.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.planned.is_some() && self.owed().is_empty()
    }
}

fn parsed<T: serde::de::DeserializeOwned>(key: &str, value: &str) -> Result<T, JournalError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |source| JournalError::Unreadable { key: key.to_owned(), source };
    let Format { format } = serde_json::from_str(value).map_err(unreadable)?;
    if format > FORMAT {
        return Err(JournalError::Newer { key: key.to_owned(), format });
    }
    serde_json::from_str(value).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(epoch: u64, tables: &[&str], copied: &[(&str, Copied)]) -> BTreeMap<String, String> {
        let planned = Planned::new(
            epoch,
            Lsn::new(16),
            tables.iter().map(|table| (*table).to_owned()).collect(),
        );
        let mut entries = BTreeMap::from([(Planned::key("s"), planned.to_json())]);
        entries.extend(
            copied.iter().map(|(table, copied)| (copied.key("s", table), copied.to_json())),
        );
        entries
    }

    fn left() -> Left {
        Left { reason: "r".to_owned(), detail: "d".to_owned(), next: "n".to_owned() }
    }

    #[test]
    fn a_table_is_owed_until_something_is_recorded_of_it() {
        let journal = Journal::read("s", &entries(1, &["p.b", "p.a"], &[])).unwrap();
        assert_eq!((journal.owed(), journal.is_over()), (vec!["p.b", "p.a"], false));
        let some = entries(1, &["p.b", "p.a"], &[("p.b", Copied::whole(1, 5))]);
        assert_eq!(Journal::read("s", &some).unwrap().owed(), ["p.a"]);
        let all = entries(
            1,
            &["p.b", "p.a"],
            &[("p.b", Copied::whole(1, 5)), ("p.a", Copied::left(1, 0, left()))],
        );
        let journal = Journal::read("s", &all).unwrap();
        assert!(journal.is_over());
        assert_eq!(journal.left().collect::<Vec<_>>(), [("p.a", &left())]);
        assert_eq!(Journal::read("s", &BTreeMap::new()).unwrap(), Journal::default());
    }

    #[test]
    fn what_an_earlier_copy_recorded_says_nothing_of_this_one() {
        let earlier = Copied::whole(1, 5);
        let journal =
            Journal::read("s", &entries(2, &["p.a"], &[("p.a", earlier.clone())])).unwrap();
        assert_eq!(
            (journal.owed(), journal.outdated.as_slice()),
            (vec!["p.a"], &[earlier.key("s", "p.a")][..])
        );
        // A record that is removed as outdated is never one of this copy.
        assert!(!journal.outdated.contains(&Copied::whole(2, 5).key("s", "p.a")));
        // Records of another slot do not count, even if our slot's name begins with its name.
        let other = entries(1, &["p.a"], &[]);
        assert_eq!(Journal::read("s2", &other).unwrap(), Journal::default());
    }

    #[test]
    fn refuses_what_it_cannot_read_and_what_a_later_version_wrote() {
        let read =
            |value: &str| Journal::read("s", &[(Planned::key("s"), value.to_owned())].into());
        assert!(matches!(read("{\"format\":1}"), Err(JournalError::Unreadable { .. })));
        assert!(matches!(read("{\"format\":2}"), Err(JournalError::Newer { format: 2, .. })));
    }
}
