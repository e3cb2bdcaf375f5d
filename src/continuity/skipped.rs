//! Single changes that an operator has skipped. The state holds a record of each, for replays and
//! for later audits. This file is pure.

use super::checkpoint::FORMAT;
use crate::change::Position;
use crate::lsn::Lsn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most records of skipped changes that are kept. Only records that a replay may still need can
/// exceed this number. A person decides each skip, so there are few.
const SKIPPED_MAX: usize = 200;

/// Longest name and longest reason that are kept, in characters. The record must fit into a message
/// of the state topic.
const TEXT_CHARS_MAX: usize = 500;

/// The change at which the stream has halted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Table of the change, as `namespace.name`.
    pub table: String,
    /// Position of the change.
    pub at: Position,
    /// murmur2 of the bytes of the record's key; `None` if no key was encoded, or if the record has
    /// none.
    pub key_hash: Option<u32>,
}

/// An operator's consent to skip one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Table of the change to skip, as `namespace.name`.
    pub table: String,
    /// Position of the change to skip.
    pub at: Position,
    /// Name of the consenting person, as that person typed it.
    pub by: String,
    /// Reason for the consent, as the consenting person typed it.
    pub why: String,
}

/// The record of a skipped change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// Epoch of the Position. Positions compare only within one epoch.
    pub epoch: u64,
    /// Table of the change, as `namespace.name`.
    pub table: String,
    /// Commit LSN of the change.
    pub commit: Lsn,
    /// Ordinal of the change within its transaction.
    pub ordinal: u64,
    /// See [`Place::key_hash`], in hexadecimal.
    pub key_hash: Option<String>,
    /// Reason code of the halt.
    pub reason: String,
    /// The halt's detail, which names the objects.
    pub detail: String,
    /// Name of the person who consented.
    pub by: String,
    /// Reason for the consent, as the person gave it.
    pub why: String,
    /// Time of the consent, in Unix milliseconds.
    pub at_ms: i64,
}

impl Skipped {
    /// The record of a consent to skip the change at which the stream has halted.
    ///
    /// # Errors
    /// The consent names another change, or has no name or no reason. The error is a sentence for
    /// the operator.
    pub fn new(
        place: &Place,
        consent: &Consent,
        (reason, detail): (&str, &str),
        epoch: u64,
        at_ms: i64,
    ) -> Result<Self, String> {
        let Place { table, at, key_hash } = place;
        if (table, at) != (&consent.table, &consent.at) {
            return Err(format!(
                "the stream has halted at another change: {table}, commit {}, ordinal {}",
                at.commit, at.ordinal
            ));
        }
        let text = |text: &str| text.trim().chars().take(TEXT_CHARS_MAX).collect::<String>();
        let (by, why) = (text(&consent.by), text(&consent.why));
        // An operator may paste the next step of a halt as it stands, with dots in place of name
        // and reason.
        let says = |text: &str| text.chars().any(char::is_alphanumeric);
        if !says(&by) || !says(&why) {
            return Err("say who leaves the change out (--by), and why (--why): both are recorded"
                .to_owned());
        }
        Ok(Skipped {
            format: FORMAT,
            epoch,
            table: table.clone(),
            commit: at.commit,
            ordinal: at.ordinal,
            key_hash: key_hash.map(|hash| format!("{hash:08x}")),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            by,
            why,
            at_ms,
        })
    }

    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(&self, slot: &str) -> String {
        format!("skipped/{slot}/{}-{:016x}-{}", self.epoch, self.commit.bytes(), self.ordinal)
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }

    /// Position of the skipped change.
    #[must_use]
    pub fn at(&self) -> Position {
        Position { commit: self.commit, ordinal: self.ordinal }
    }
}

/// Keys of the records to delete, oldest first, if more than `SKIPPED_MAX` are stored. Records of
/// changes that can still be replayed are kept.
#[must_use]
pub fn beyond_bound(
    skipped: &BTreeMap<String, Skipped>,
    epoch: u64,
    confirmed: Lsn,
) -> Vec<String> {
    let mut over: Vec<_> = skipped
        .iter()
        .filter(|(_, skipped)| skipped.epoch < epoch || skipped.commit < confirmed)
        .collect();
    over.sort_by_key(|(_, skipped)| skipped.at_ms);
    let excess = skipped.len().saturating_sub(SKIPPED_MAX);
    over.into_iter().take(excess).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let at = Position { commit: Lsn::new(30), ordinal: 2 };
        Place { table: "p.t".to_owned(), at, key_hash: Some(0xab) }
    }

    fn consent(why: &str) -> Consent {
        let Place { table, at, .. } = place();
        Consent { table, at, by: "ada".to_owned(), why: why.to_owned() }
    }

    #[test]
    fn a_consent_names_the_very_change_and_says_who_and_why() {
        let made =
            |consent: &Consent| Skipped::new(&place(), consent, ("row_unencodable", "NaN"), 1, 9);
        let skipped = made(&consent("ticket 7")).unwrap();
        assert_eq!((skipped.key_hash.as_deref(), skipped.at()), (Some("000000ab"), place().at));
        assert_eq!(serde_json::from_str::<Skipped>(&skipped.to_json()).unwrap(), skipped);
        assert!(made(&consent(" ")).unwrap_err().contains("why"));
        assert!(made(&consent("...")).is_err(), "the dots of the next step are no reason");
        assert!(made(&Consent { by: "...".to_owned(), ..consent("x") }).is_err());
        let other = Consent { at: Position { ordinal: 3, ..place().at }, ..consent("x") };
        assert!(made(&other).unwrap_err().contains("ordinal 2"));
    }

    #[test]
    fn records_beyond_the_bound_go_but_for_those_that_can_come_again() {
        let one = |n: usize| {
            let at_ms = i64::try_from(n).unwrap();
            let skipped = Skipped::new(&place(), &consent("x"), ("", ""), 1, at_ms).unwrap();
            (format!("{n}"), Skipped { commit: Lsn::new(n as u64), ..skipped })
        };
        let all: BTreeMap<String, Skipped> = (0..SKIPPED_MAX + 3).map(one).collect();
        assert_eq!(beyond_bound(&all, 1, Lsn::new(2)), ["0", "1"]);
        assert_eq!(beyond_bound(&all, 2, Lsn::new(0)), ["0", "1", "2"]);
    }
}
