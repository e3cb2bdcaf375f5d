//! Detached tables: the record that the state holds for each, and the rules that follow from it.
//! This file is pure.
//!
//! With `events.on_refusal = "detach"` the operator consents that a table leaves the stream when
//! one of its changes cannot be delivered, instead of halting the stream. From that change on, all
//! changes of the table go to the quarantine topic. This ends when a copy has made the table's own
//! topic equal to the table again.
//!
//! Laws:
//! - The record is acknowledged before the first change goes to quarantine. The record holds the
//!   Position of that change or an earlier one. Every change of the table before the recorded
//!   Position went to the table's topic.
//! - A detached table stays detached across restarts, even if the configuration changes.
//! - The record is deleted when the copy that repairs the table ends, or when the table is no
//!   longer captured.

use super::checkpoint::FORMAT;
use crate::change::Position;
use crate::lsn::Lsn;
use crate::table::typed::snapshot_of;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The effect of a refusal that concerns one table: the setting `events.on_refusal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// The stream waits or halts until a person acts.
    #[default]
    Stop,
    /// The table is detached and the other tables continue. The setting is the operator's standing
    /// consent.
    Detach,
}

/// Why a change, or the plan of a table, was refused. A refusal contains no row value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code of the reason.
    pub reason: &'static str,
    /// A sentence that names the objects.
    pub detail: String,
}

/// Why the row path cannot continue with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The change itself is refused.
    Change(Refusal),
    /// The plan of the change's table was refused. The table is planned once more.
    Plan,
    /// The table is detached, but its state record has a Position after this change.
    Recorded,
}

/// The record of a detached table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// The epoch in which the table was detached. Positions compare only within one epoch.
    pub epoch: u64,
    /// Commit LSN of the first change that the table's topic lacks.
    pub commit: Lsn,
    /// Ordinal, within its transaction, of the first change that the table's topic lacks.
    pub ordinal: u64,
    /// Stable code of the reason.
    pub reason: String,
    /// The reason as a sentence that names the objects.
    pub detail: String,
    /// Time of the detachment, in Unix milliseconds.
    pub at_ms: i64,
    /// The setting by which the operator consented.
    pub consent: String,
    /// Start of the repairing copy, in Unix milliseconds. From then on changes are sent to the
    /// table's own topic again. `None` before the repair.
    #[serde(default)]
    pub repair_ms: Option<i64>,
}

impl Detached {
    /// The record of a table that is detached because `events.on_refusal` consents to it. `at` is
    /// the Position of the first change that its topic lacks.
    #[must_use]
    pub fn new(refusal: &Refusal, at: Position, epoch: u64, at_ms: i64) -> Self {
        Detached {
            format: FORMAT,
            epoch,
            commit: at.commit,
            ordinal: at.ordinal,
            reason: refusal.reason.to_owned(),
            detail: refusal.detail.clone(),
            at_ms,
            consent: "events.on_refusal = \"detach\"".to_owned(),
            repair_ms: None,
        }
    }

    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str, table: &str) -> String {
        format!("detached/{slot}/{table}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }

    /// Position of the first change that the table's topic lacks.
    #[must_use]
    pub fn from(&self) -> Position {
        Position { commit: self.commit, ordinal: self.ordinal }
    }

    /// First Position from which changes may go to quarantine under this record. A change before it
    /// needs a new record first. If a later epoch has begun, all changes of the table lie within
    /// the gap, whatever their LSNs.
    #[must_use]
    pub fn floor(&self, epoch: u64) -> Position {
        if self.epoch == epoch { self.from() } else { Position::default() }
    }

    /// True if the table's changes go to the quarantine topic. False once a copy has begun to
    /// repair the table.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.repair_ms.is_none()
    }

    /// The next step that is shown to the operator for this detached table.
    #[must_use]
    pub fn next(&self, table: &str) -> String {
        let again = snapshot_of(table);
        match self.repair_ms {
            None => format!("remove the cause, then {again}"),
            Some(_) => format!("nothing while its copy goes on; {again} begins it anew"),
        }
    }

    /// The same record, extended to an earlier Position if `at` is earlier. The reason stays.
    #[must_use]
    pub fn reaching(&self, at: Position, epoch: u64) -> Self {
        let earlier = at < self.floor(epoch);
        let from = if earlier { at } else { self.from() };
        Detached { commit: from.commit, ordinal: from.ordinal, ..self.clone() }
    }
}

/// The detached tables and those under repair, by `namespace.name`.
#[derive(Clone, Debug, Default)]
pub struct Detachments {
    epoch: u64,
    tables: BTreeMap<String, Detached>,
}

impl Detachments {
    /// Begins a connection in `epoch` with the detached tables that the state has recorded.
    #[must_use]
    pub fn resume(epoch: u64, tables: BTreeMap<String, Detached>) -> Self {
        Detachments { epoch, tables }
    }

    /// The record of a table; `None` if the table is not detached.
    #[must_use]
    pub fn get(&self, table: &str) -> Option<&Detached> {
        self.tables.get(table)
    }

    /// Every detached table and every table under repair, by name, with its record.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Detached)> {
        self.tables.iter()
    }

    /// True if the table's changes go to the quarantine topic.
    #[must_use]
    pub fn is_quarantined(&self, table: &str) -> bool {
        self.get(table).is_some_and(Detached::is_quarantined)
    }

    /// First Position from which the table's changes may go to quarantine without another record.
    /// [`Position::default`] for a table that is not detached.
    #[must_use]
    pub fn floor(&self, table: &str) -> Position {
        self.get(table).map_or_else(Position::default, |detached| detached.floor(self.epoch))
    }

    /// The record to write before the change at `at` goes to quarantine. A table under repair is
    /// detached again with the new reason. Its gap still begins at the recorded Position, or at
    /// `at` if that is earlier.
    #[must_use]
    pub fn record(&self, table: &str, refusal: &Refusal, at: Position, now_ms: i64) -> Detached {
        let new = Detached::new(refusal, at, self.epoch, now_ms);
        let record = match self.get(table) {
            None => new,
            Some(was) if was.is_quarantined() => was.reaching(at, self.epoch),
            Some(was) => {
                let was = was.reaching(at, self.epoch);
                Detached { epoch: was.epoch, commit: was.commit, ordinal: was.ordinal, ..new }
            }
        };
        assert!(
            record.floor(self.epoch) <= at && record.is_quarantined(),
            "the record lets the change at {at:?} go to quarantine"
        );
        record
    }

    /// The record to write before the table's changes are sent to its own topic again. `None` if
    /// the table is not detached.
    #[must_use]
    pub fn repair(&self, table: &str, now_ms: i64) -> Option<Detached> {
        Some(Detached { repair_ms: Some(now_ms), ..self.get(table)?.clone() })
    }

    /// Notes a record that the state topic has acknowledged.
    pub fn recorded(&mut self, table: &str, detached: Detached) {
        self.tables.insert(table.to_owned(), detached);
    }

    /// Removes a table that is repaired or no longer captured, and returns its record if it has
    /// one.
    pub fn forget(&mut self, table: &str) -> Option<Detached> {
        self.tables.remove(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Refusal = Refusal { reason: "schema_refused", detail: String::new() };

    fn at(commit: u64, ordinal: u64) -> Position {
        Position { commit: Lsn::new(commit), ordinal }
    }

    fn with(detached: Detached) -> Detachments {
        Detachments::resume(1, [("p.t".to_owned(), detached)].into())
    }

    #[test]
    fn a_gap_reaches_back_and_never_shrinks() {
        let first = Detachments::resume(1, BTreeMap::new()).record("p.t", &REFUSED, at(30, 2), 5);
        let later = Refusal { reason: "row_unencodable", ..REFUSED };
        for (position, from) in
            [(at(20, 9), at(20, 9)), (at(30, 3), at(30, 2)), (at(40, 0), at(30, 2))]
        {
            let again = with(first.clone()).record("p.t", &later, position, 9);
            assert_eq!(
                (again.from(), again.reason.as_str(), again.at_ms),
                (from, "schema_refused", 5)
            );
        }
    }

    #[test]
    fn one_that_is_detached_during_its_repair_keeps_its_gap_and_has_the_new_cause() {
        let first = Detached::new(&REFUSED, at(30, 2), 1, 5);
        let repaired = with(first).repair("p.t", 7).unwrap();
        assert!(!repaired.is_quarantined());
        let again = with(repaired).record(
            "p.t",
            &Refusal { reason: "row_unencodable", ..REFUSED },
            at(90, 0),
            9,
        );
        assert_eq!(
            (again.from(), again.reason.as_str(), again.is_quarantined()),
            (at(30, 2), "row_unencodable", true)
        );
    }

    #[test]
    fn positions_of_another_epoch_are_not_compared() {
        let other = Detached::new(&REFUSED, at(30, 2), 0, 5);
        assert_eq!(with(other.clone()).floor("p.t"), at(0, 0));
        assert_eq!(with(other).record("p.t", &REFUSED, at(1, 0), 9).from(), at(30, 2));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let detached = Detached::new(&REFUSED, at(30, 2), 1, 5);
        assert_eq!(serde_json::from_str::<Detached>(&detached.to_json()).unwrap(), detached);
    }
}
