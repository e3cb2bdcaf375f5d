//! What the state topic holds: the confirm record and its neighbours. Pure: text in, text out.
//!
//! Keys are `confirm/<slot>/<term>`, `intent/<slot>`, `window/<slot>/<table>`, `detached/<slot>/<table>`, `skipped/<slot>/..`,
//! `halt/<slot>`, `topic/<topic>`, `schema/<subject>/<fingerprint>/<registry>`, and those of `snapshot::journal`; values are
//! JSON with a format version.

use super::detached::Detached;
use super::halted::Halted;
use super::skipped::Skipped;
use crate::change::Committed;
use crate::lsn::{Lsn, Oid};
use crate::snapshot::journal::{Journal, JournalError};
use crate::snapshot::window;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version this program writes; it reads no later one.
pub const FORMAT: u32 = 1;

/// How many consents a record carries along: enough for an audit, bounded for a compacted topic.
const ACCEPTED_MAX: usize = 20;

/// How a captured table was published: both ids change when it is made anew, the second also when it leaves the
/// publication and rejoins, or its filter or column list changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableIdentity {
    /// `pg_class.oid`.
    pub relation: Oid,
    /// `pg_publication_rel.oid`, or `pg_publication_namespace.oid`; none for FOR ALL TABLES.
    pub membership: Option<Oid>,
}

/// An operator's consent to go on past a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Last position known to be in Kafka.
    pub from: Lsn,
    /// Where the stream goes on.
    pub to: Lsn,
    /// The halt's code.
    pub reason: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A table that is copied beside the stream: what was asked, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// [`FORMAT`].
    pub format: u32,
    /// `pg_class.oid`; of another one nothing is copied yet.
    pub relation: Oid,
    /// Names of the key's columns by which its ranges were cut.
    pub key: Vec<String>,
    /// The operator's condition on its rows.
    pub filter: Option<String>,
    /// Unix milliseconds.
    pub asked_ms: i64,
    /// Held by an operator.
    #[serde(default)]
    pub paused: bool,
    /// The commit of the signal that asked for it.
    #[serde(default)]
    pub signal: Option<Lsn>,
    /// The offset of the signal that asked for it, where it came from the topic.
    #[serde(default)]
    pub signal_offset: Option<i64>,
    /// The column that the signal wants chunks cut by.
    #[serde(default)]
    pub surrogate: Option<String>,
    /// The id of that signal, by which it is told of.
    #[serde(default)]
    pub correlation: Option<String>,
    /// The record's epoch under which it was looked at last: a later one begins behind a gap, whose changes of rows copied
    /// before it nobody tells. 0 for none.
    #[serde(default)]
    pub epoch: u64,
    /// What is published of the table, as it was looked at last; chunks of another publication are not like those to come.
    #[serde(default)]
    pub published: Option<Published>,
    /// What is delivered.
    pub journal: window::Journal,
}

/// Which part of a table is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The names of its columns, in the stream's order.
    pub columns: Vec<String>,
    /// The publication's row filter.
    pub filter: Option<String>,
}

impl Window {
    /// The record's key.
    #[must_use]
    pub fn key(slot: &str, table: &str) -> String {
        format!("window/{slot}/{table}")
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // texts and numbers: nothing that JSON cannot hold
    }
}

/// How far the signals of a topic are obeyed. Written after what they asked for, so that none is lost; a copy that is
/// told again by a crash in between is known by its signal's offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// [`FORMAT`].
    pub format: u32,
    /// The topic.
    pub topic: String,
    /// The offset of the next one.
    pub next: i64,
}

impl Obeyed {
    /// The record's key.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("signals/{slot}")
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The confirm record (`docs/internals/continuity.md`): what we last proved, written before each confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`FORMAT`].
    pub format: u32,
    /// The slot's name.
    pub slot: String,
    /// Rises at every connect; the highest wins. It only fences.
    pub term: u64,
    /// Rises only by consent; LSNs compare only within one.
    pub epoch: u64,
    /// `pg_control` system identifier.
    pub system_id: String,
    /// The timeline the stream was read on.
    pub timeline: u32,
    /// `pg_database.oid`.
    pub database: Oid,
    /// `pg_publication.oid`.
    pub publication: Oid,
    /// Every captured table by `namespace.name`.
    pub tables: BTreeMap<String, TableIdentity>,
    /// Everything before it is in Kafka.
    pub confirmed: Lsn,
    /// Highest position produced; after a crash up to one status interval old.
    pub sent: Lsn,
    /// The newest commit at or below `confirmed` that had records.
    pub last_commit: Option<Committed>,
    /// Highest flushed server position seen.
    pub server_seen: Lsn,
    /// 64-bit ids of transactions emitted and not yet seen as ended; no window opens until they are visible.
    pub pending_xids: Vec<u64>,
    /// Where there were too many to list: any transaction up to this 64-bit id may be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_upto: Option<u64>,
    /// `source.sequence[0]` as last emitted.
    pub sequence: Option<Lsn>,
    /// Whether the stop that followed was clean.
    pub clean: bool,
    /// Consents so far, newest last.
    pub accepted: Vec<Accepted>,
    /// Everything before it is in Kafka, as with `confirmed`. It is higher than `confirmed` only while a confirm hold is
    /// open. The next connection starts here, where the slot still stands at `confirmed`.
    #[serde(default)]
    pub delivered: Lsn,
    /// The newest commit at or below `delivered` that had records.
    #[serde(default)]
    pub delivered_commit: Option<Committed>,
    /// Open confirm holds, oldest first; each floor is at least the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// A late record of an earlier producer was found while a hold was open: the stream is read again from `confirmed`
    /// when the hold ends.
    #[serde(default)]
    pub foreign: bool,
    /// The id of the process that wrote it; empty in records of earlier versions.
    #[serde(default)]
    pub run: String,
}

/// A confirm hold: bytes of a producer that ended without all its answers may still land until `until_ms`, so the slot
/// stays at `floor` for a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The position that a replay would start at. Nothing above it is confirmed to Postgres while the hold is open.
    pub floor: Lsn,
    /// The newest commit at or below `floor` that had records.
    pub last_commit: Option<Committed>,
    /// Unix milliseconds.
    pub until_ms: i64,
    /// When the producer began that sends again what may still land: Unix milliseconds.
    pub opened_ms: i64,
}

impl Checkpoint {
    /// The record's key in the state topic.
    #[must_use]
    pub fn key(slot: &str, term: u64) -> String {
        format!("confirm/{slot}/{term}")
    }

    /// The key of the note that a slot is about to be created.
    #[must_use]
    pub fn intent_key(slot: &str) -> String {
        format!("intent/{slot}")
    }

    /// A record of an earlier version knew no `delivered`: it is what was confirmed.
    fn completed(mut self) -> Self {
        if self.delivered <= self.confirmed {
            (self.delivered, self.delivered_commit) = (self.confirmed, self.last_commit);
        }
        self
    }

    /// Notes a consent, dropping the oldest beyond the bound.
    pub fn accept(&mut self, accepted: Accepted) {
        self.accepted.push(accepted);
        let excess = self.accepted.len().saturating_sub(ACCEPTED_MAX);
        self.accepted.drain(..excess);
    }

    /// The record as the topic's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // The types above hold nothing that JSON cannot: texts, numbers, maps with text keys.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where each partition ended when a process began that inherited a confirm hold, and no late record lay before: its
/// successor looks only behind that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// [`FORMAT`].
    pub format: u32,
    /// The process's id.
    pub run: String,
    /// When it looked, in Unix milliseconds.
    pub at_ms: i64,
    /// One past the last offset of each partition, by topic; -1 where there was no such partition.
    pub ends: BTreeMap<String, Vec<i64>>,
}

impl Watched {
    /// The record's key.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("watched/{slot}")
    }

    /// The record's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // texts and numbers: nothing that JSON cannot hold
    }
}

/// The note that a slot is about to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// [`FORMAT`].
    pub format: u32,
    /// Whether existing rows are to be copied under its snapshot.
    #[serde(default)]
    pub copies: bool,
}

impl Intent {
    /// The note as the topic's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A state record that cannot be read: nothing is guessed from it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the expected form.
    #[error("read state record `{key}`")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Of a copy.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Written by a later version.
    #[error(
        "state record `{key}` has format {format}; this version reads up to {FORMAT}: run the version that wrote it"
    )]
    Newer {
        /// Its key.
        key: String,
        /// Its format.
        format: u32,
    },
}

/// Everything the state topic says about one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The record of the highest term.
    pub record: Option<Checkpoint>,
    /// Keys of the older records, to be tombstoned.
    pub outdated: Vec<String>,
    /// A slot of ours was about to be created.
    pub intent: Option<Intent>,
    /// Partition count per topic when it was first used.
    pub partitions: BTreeMap<String, i32>,
    /// Schema ids, by the keys that `schema_key` finds.
    pub schemas: BTreeMap<String, u32>,
    /// Copies under way beside the stream, by `namespace.name`.
    pub windows: BTreeMap<String, Window>,
    /// Tables set aside, by `namespace.name`.
    pub detached: BTreeMap<String, Detached>,
    /// Single changes that an operator has left out, by the records' keys.
    pub skipped: BTreeMap<String, Skipped>,
    /// The halt that stands, or a try to end it.
    pub halt: Option<Halted>,
    /// What was to be copied, and what of it is.
    pub copy: Journal,
    /// How far the topic of signals is obeyed.
    pub obeyed: Option<Obeyed>,
    /// Where partitions ended when the newest process began, if it inherited a confirm hold.
    pub watched: Option<Watched>,
}

impl State {
    /// Reads the topic's newest value per key.
    ///
    /// # Errors
    /// When a record of this slot cannot be read, or was written by a later version.
    pub fn read(slot: &str, entries: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let mut state = State { copy: Journal::read(slot, entries)?, ..State::default() };
        let mut records: Vec<(String, Checkpoint)> = Vec::new();
        for (key, value) in entries {
            let unreadable = |source| RecordError::Unreadable { key: key.clone(), source };
            match key.split_once('/') {
                Some(("confirm", rest)) if rest.rsplit_once('/').is_some_and(|(name, _)| name == slot) => {
                    records.push((key.clone(), known(key, value)?));
                }
                Some(("window", rest)) if rest.strip_prefix(slot).is_some_and(|rest| rest.starts_with('/')) => {
                    let table = rest.get(slot.len() + 1..).unwrap_or_default();
                    state.windows.insert(table.to_owned(), known(key, value)?);
                }
                Some(("watched", name)) if name == slot => state.watched = Some(known(key, value)?),
                Some(("signals", name)) if name == slot => state.obeyed = Some(known(key, value)?),
                Some(("detached", rest)) if rest.strip_prefix(slot).is_some_and(|rest| rest.starts_with('/')) => {
                    let table = rest.get(slot.len() + 1..).unwrap_or_default();
                    state.detached.insert(table.to_owned(), known(key, value)?);
                }
                Some(("skipped", rest)) if rest.strip_prefix(slot).is_some_and(|rest| rest.starts_with('/')) => {
                    state.skipped.insert(key.clone(), known(key, value)?);
                }
                Some(("halt", name)) if name == slot => state.halt = Some(known(key, value)?),
                Some(("intent", name)) if name == slot => state.intent = Some(known(key, value)?),
                Some(("topic", topic)) => {
                    state.partitions.insert(topic.to_owned(), serde_json::from_str(value).map_err(unreadable)?);
                }
                Some(("schema", schema)) => {
                    state.schemas.insert(schema.to_owned(), serde_json::from_str(value).map_err(unreadable)?);
                }
                _ => {} // the journal's, another slot's, or a later version's
            }
        }
        records.sort_by_key(|(_, record)| record.term);
        state.record = records.pop().map(|(_, record)| record.completed());
        state.outdated = records.into_iter().map(|(key, _)| key).collect();
        Ok(state)
    }

    /// The confirm record's epoch; 0 where there is none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.epoch)
    }

    /// Keys of everything said of copies, and of tables that one of them is to repair. A pipeline that begins removes them:
    /// what an earlier one of this name has copied is not copied by this one.
    #[must_use]
    pub fn copies(&self, slot: &str) -> Vec<String> {
        let windows = self.windows.keys().map(|table| Window::key(slot, table));
        let copied = self.copy.copied.iter().map(|(table, copied)| copied.key(slot, table));
        let detached = self.detached.keys().map(|table| Detached::key(slot, table));
        windows.chain(copied).chain(detached).chain(self.copy.outdated.iter().cloned()).collect()
    }
}

/// A record that carries its format: no later one than ours is read, since what it says in other words would be lost.
fn known<T: DeserializeOwned>(key: &str, value: &str) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |source| RecordError::Unreadable { key: key.to_owned(), source };
    match serde_json::from_str(value).map_err(unreadable)? {
        Format { format } if format > FORMAT => Err(RecordError::Newer { key: key.to_owned(), format }),
        Format { .. } => serde_json::from_str(value).map_err(unreadable),
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        slot: "s".to_owned(),
        term: 3,
        epoch: 1,
        system_id: "7".to_owned(),
        timeline: 1,
        database: Oid(5),
        publication: Oid(16),
        tables: [("public.t".to_owned(), TableIdentity { relation: Oid(20), membership: Some(Oid(21)) })].into(),
        confirmed: Lsn::new(1000),
        sent: Lsn::new(1100),
        last_commit: None,
        server_seen: Lsn::new(1200),
        pending_xids: Vec::new(),
        pending_upto: None,
        sequence: Some(Lsn::new(1000)),
        clean: true,
        accepted: Vec::new(),
        delivered: Lsn::new(1000),
        delivered_commit: None,
        holds: Vec::new(),
        foreign: false,
        run: "run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(records: &[Checkpoint]) -> BTreeMap<String, String> {
        records.iter().map(|r| (Checkpoint::key(&r.slot, r.term), r.to_json())).collect()
    }

    #[test]
    fn the_highest_term_wins_and_the_others_are_outdated() {
        // As numbers: 10 is above 9, though not as text.
        let records = [9, 10, 2].map(|term| Checkpoint { term, ..sample() });
        let state = State::read("s", &entries(&records)).unwrap();
        assert_eq!(state.record.map(|r| r.term), Some(10));
        assert_eq!(state.outdated, ["confirm/s/2", "confirm/s/9"]);
    }

    #[test]
    fn another_slots_record_is_not_ours() {
        let other = Checkpoint { slot: "s/2".to_owned(), ..sample() };
        assert_eq!(State::read("s", &entries(&[other])).unwrap(), State::default());
    }

    #[test]
    fn a_new_pipeline_can_remove_everything_an_earlier_one_noted_of_copies() {
        use crate::snapshot::journal::{Copied, Planned};
        let planned = Planned::new(2, Lsn::new(16), vec!["p.a".to_owned()]);
        let copied = [1, 2].map(|epoch| Copied::whole(epoch, 5));
        let mut entries: BTreeMap<String, String> = [(Planned::key("s"), planned.to_json())].into();
        entries.extend(copied.map(|copied| (copied.key("s", "p.a"), copied.to_json())));
        let state = State::read("s", &entries).unwrap();
        assert_eq!(state.copies("s"), ["copied/s/2/p.a", "copied/s/1/p.a"]);
        let left = entries.into_iter().filter(|(key, _)| !state.copies("s").contains(key)).collect();
        assert_eq!(State::read("s", &left).unwrap().copy.owed(), ["p.a"]);
    }

    /// As the first version of this program wrote them; each field that came since has a meaning where it is missing.
    #[test]
    fn reads_the_records_of_earlier_versions() {
        let confirm = r#"{"format":1,"slot":"s","term":3,"epoch":1,"system_id":"7","timeline":1,"database":5,"publication":16,
            "tables":{"public.t":{"relation":20,"membership":21}},"confirmed":"0/3E8","sent":"0/44C",
            "last_commit":{"end":"0/3E0","xid":740,"at":1000000},"server_seen":"0/4B0","pending_xids":[],
            "sequence":"0/3E8","clean":true,"accepted":[]}"#;
        let window = r#"{"format":1,"relation":20,"key":["id"],"filter":null,"asked_ms":5,
            "journal":{"after":null,"ended":false,"upto":"0/3E8","moved":[],"rows":7,"chunks":1,"fresh":false}}"#;
        let entries = [
            (Checkpoint::key("s", 3), confirm.to_owned()),
            (Checkpoint::intent_key("s"), r#"{"format":1}"#.to_owned()),
            (Window::key("s", "public.t"), window.to_owned()),
        ];
        let state = State::read("s", &entries.into()).unwrap();
        let commit = Committed { end: Lsn::new(992), xid: crate::lsn::Xid(740), at: crate::lsn::PgMicros(1_000_000) };
        let earlier =
            Checkpoint { last_commit: Some(commit), delivered_commit: Some(commit), run: String::new(), ..sample() };
        assert_eq!(state.record, Some(earlier));
        assert_eq!(state.intent, Some(Intent { format: 1, copies: false }));
        let window = &state.windows["public.t"];
        assert_eq!((window.journal.rows, window.paused, window.signal, window.epoch), (7, false, None, 0));
    }

    #[test]
    fn refuses_a_record_of_a_later_format_of_each_kind() {
        for kind in ["confirm/s/1", "window/s/p.t", "signals/s", "detached/s/p.t", "skipped/s/1", "halt/s", "intent/s"]
        {
            let later = [(kind.to_owned(), format!(r#"{{"format":{},"new":[]}}"#, FORMAT + 1))].into();
            assert!(matches!(State::read("s", &later), Err(RecordError::Newer { .. })), "{kind}");
        }
    }

    #[test]
    fn refuses_a_record_it_cannot_read() {
        let broken = [("confirm/s/1".to_owned(), "{}".to_owned())].into();
        assert!(matches!(State::read("s", &broken), Err(RecordError::Unreadable { .. })));
    }
}
