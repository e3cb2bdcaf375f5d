//! Tables that are set aside: what the state records of each, and what follows from it. Pure.
//!
//! Where the operator has consented (`events.on_refusal = "detach"`) a table whose change cannot be delivered leaves the
//! stream instead of halting it: from that change on everything of it goes to the quarantine topic, until a copy has made
//! its own topic equal to the table again.
//!
//! Laws:
//! - The record is acknowledged before the first change is set aside, and holds that change's Position or an earlier one:
//!   everything of the table before it went to its topic.
//! - A table that is set aside stays so across restarts, whatever the configuration says by then.
//! - The record goes when the copy that repairs the table has ended, or the table is not captured any more.

use super::checkpoint::FORMAT;
use crate::change::Position;
use crate::lsn::Lsn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens where one table is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefusal {
    /// The stream waits, or halts, until a person acts.
    #[default]
    Stop,
    /// The table is set aside, the others go on: the operator's standing consent.
    Detach,
}

/// Why a table cannot go on: a stable code, and the same with names. No value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A reason's code.
    pub reason: &'static str,
    /// In a sentence.
    pub detail: String,
}

/// Why the row path cannot go on with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The change itself is refused.
    Change(Refusal),
    /// Its table's plan was, when it was tried: it is tried once more.
    Plan,
    /// The table is set aside, but its record begins behind this change.
    Recorded,
}

/// The record of a table that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// [`FORMAT`].
    pub format: u32,
    /// The epoch in which it was set aside: positions compare only within one.
    pub epoch: u64,
    /// Commit LSN of the first change that its topic lacks.
    pub commit: Lsn,
    /// That change's ordinal.
    pub ordinal: u64,
    /// Why: a stable code.
    pub reason: String,
    /// The same with names.
    pub detail: String,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The operator's consent, as it was given.
    pub consent: String,
    /// Since when a copy is to repair it, in Unix milliseconds: its changes flow again from then on.
    #[serde(default)]
    pub repair_ms: Option<i64>,
}

impl Detached {
    /// A table set aside by the consent of the configuration.
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

    /// The record's key.
    #[must_use]
    pub fn key(slot: &str, table: &str) -> String {
        format!("detached/{slot}/{table}")
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // texts and numbers: nothing that JSON cannot hold
    }

    /// Where the gap begins.
    #[must_use]
    pub fn from(&self) -> Position {
        Position { commit: self.commit, ordinal: self.ordinal }
    }

    /// Below this Position a change must not be set aside before the record says so. After another epoch began all of
    /// the table's changes lie within the gap, whatever their LSNs.
    #[must_use]
    pub fn floor(&self, epoch: u64) -> Position {
        if self.epoch == epoch { self.from() } else { Position::default() }
    }

    /// Whether its changes go to the quarantine topic; if not, they flow and a copy repairs what is missing.
    #[must_use]
    pub fn is_aside(&self) -> bool {
        self.repair_ms.is_none()
    }

    /// What an operator does next.
    #[must_use]
    pub fn next(&self, table: &str) -> String {
        match self.repair_ms {
            None => format!("remove the cause, then `wellspring snapshot {table}`"),
            Some(_) => format!("nothing while its copy goes on; `wellspring snapshot {table}` begins it anew"),
        }
    }

    /// The same with an earlier beginning, if this one is earlier. The cause is the first one's.
    #[must_use]
    pub fn reaching(&self, at: Position, epoch: u64) -> Self {
        let earlier = at < self.floor(epoch);
        let from = if earlier { at } else { self.from() };
        Detached { commit: from.commit, ordinal: from.ordinal, ..self.clone() }
    }
}

/// The tables that are set aside or being repaired, by `namespace.name`.
#[derive(Clone, Debug, Default)]
pub struct Detachments {
    epoch: u64,
    tables: BTreeMap<String, Detached>,
}

impl Detachments {
    /// What the state says, in the epoch of the connection.
    #[must_use]
    pub fn resume(epoch: u64, tables: BTreeMap<String, Detached>) -> Self {
        Detachments { epoch, tables }
    }

    /// A table's record.
    #[must_use]
    pub fn get(&self, table: &str) -> Option<&Detached> {
        self.tables.get(table)
    }

    /// Every record.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Detached)> {
        self.tables.iter()
    }

    /// Whether a table's changes go to the quarantine topic.
    #[must_use]
    pub fn is_aside(&self, table: &str) -> bool {
        self.get(table).is_some_and(Detached::is_aside)
    }

    /// Where its changes may be set aside from, without another record.
    #[must_use]
    pub fn floor(&self, table: &str) -> Position {
        self.get(table).map_or_else(Position::default, |detached| detached.floor(self.epoch))
    }

    /// The record to write before the change at a Position is set aside. One that is being repaired is set aside again,
    /// by the new cause; its gap begins where it began.
    #[must_use]
    pub fn record(&self, table: &str, refusal: &Refusal, at: Position, now_ms: i64) -> Detached {
        let new = Detached::new(refusal, at, self.epoch, now_ms);
        match self.get(table) {
            None => new,
            Some(was) if was.is_aside() => was.reaching(at, self.epoch),
            Some(was) => {
                let was = was.reaching(at, self.epoch);
                Detached { epoch: was.epoch, commit: was.commit, ordinal: was.ordinal, ..new }
            }
        }
    }

    /// The record to write before the table's changes flow again.
    #[must_use]
    pub fn repair(&self, table: &str, now_ms: i64) -> Option<Detached> {
        Some(Detached { repair_ms: Some(now_ms), ..self.get(table)?.clone() })
    }

    /// A record is acknowledged.
    pub fn recorded(&mut self, table: &str, detached: Detached) {
        self.tables.insert(table.to_owned(), detached);
    }

    /// The table is repaired, or not captured any more.
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
        for (position, from) in [(at(20, 9), at(20, 9)), (at(30, 3), at(30, 2)), (at(40, 0), at(30, 2))] {
            let again = with(first.clone()).record("p.t", &later, position, 9);
            assert_eq!((again.from(), again.reason.as_str(), again.at_ms), (from, "schema_refused", 5));
        }
    }

    #[test]
    fn one_that_is_set_aside_during_its_repair_keeps_its_gap_and_has_the_new_cause() {
        let first = Detached::new(&REFUSED, at(30, 2), 1, 5);
        let repaired = with(first).repair("p.t", 7).unwrap();
        assert!(!repaired.is_aside());
        let again = with(repaired).record("p.t", &Refusal { reason: "row_unencodable", ..REFUSED }, at(90, 0), 9);
        assert_eq!((again.from(), again.reason.as_str(), again.is_aside()), (at(30, 2), "row_unencodable", true));
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
