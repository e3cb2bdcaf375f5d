//! The records of the state topic, the checkpoint among them. They are read from text and written
//! as text.
//!
//! Keys are `confirm/<slot>/<term>`, `intent/<slot>`, `window/<slot>/<table>`, `signals/<slot>`,
//! `watched/<slot>`, `detached/<slot>/<table>`, `skipped/<slot>/..`, `halt/<slot>`, `made/<slot>`,
//! `topic/<topic>`, `schema/<subject>/<fingerprint>/<registry>`, and those of `snapshot::journal`.
//! Values are JSON with a format version, except for `topic` and `schema`, whose values are a
//! number.

pub use super::copy_record::{Published, Window};
use super::detached::Detached;
use super::halted::Halted;
pub use super::named::TableIdentity;
use super::skipped::Skipped;
use crate::change::Committed;
use crate::lsn::{Lsn, Oid};
use crate::snapshot::journal::{Journal, JournalError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Format version of the records. This program writes this version and refuses to read a later one.
pub const FORMAT: u32 = 1;

/// The most consents that a checkpoint keeps: enough for an audit, and few enough for one message
/// of the state topic.
const ACCEPTED_MAX: usize = 20;

/// An operator's consent to continue past a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Last position known to be in Kafka before the gap.
    pub from: Lsn,
    /// Position at which the stream continues after the gap.
    pub to: Lsn,
    /// Reason code of the halt.
    pub reason: String,
    /// Time of the consent, in Unix milliseconds.
    pub at_ms: i64,
}

/// Progress in the topic of signals. This record is written after the records of the copies that a
/// signal requested, so a crash loses no signal. After a crash in between the signal is read again.
/// The signal's offset in the record of the copy shows the repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// Name of the topic of signals.
    pub topic: String,
    /// Offset of the next signal to obey.
    pub next: i64,
}

impl Obeyed {
    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("signals/{slot}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }
}

/// The checkpoint (`docs/internals/continuity.md`): the last proven state of the stream. It is
/// written before each confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// Name of the replication slot.
    pub slot: String,
    /// A number that rises each time that an agent connects. The checkpoint with the highest term
    /// counts, so a late write of an older connection changes nothing.
    pub term: u64,
    /// Number that rises only when a gap is accepted. LSNs compare only within one epoch.
    pub epoch: u64,
    /// System identifier of the Postgres cluster, from `pg_control`.
    pub system_id: String,
    /// The timeline on which the stream was read.
    pub timeline: u32,
    /// `pg_database.oid` of the database.
    pub database: Oid,
    /// `pg_publication.oid` of the publication.
    pub publication: Oid,
    /// Identity of every captured table, by `namespace.name`.
    pub tables: BTreeMap<String, TableIdentity>,
    /// The server's position at the last consent, or else when this field was first recorded.
    /// Changes before it may carry another name or oid of their table. `None` in records of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_from: Option<Lsn>,
    /// Everything before this position is in Kafka, and the slot may be confirmed up to it.
    pub confirmed: Lsn,
    /// Highest commit position of which a record had been sent when the checkpoint was written. A
    /// killed process may have sent more.
    pub sent: Lsn,
    /// The newest commit at or below `confirmed` that had records; `None` if none is known.
    pub last_commit: Option<Committed>,
    /// Highest position that the server has shown, at a connect or in the stream.
    pub server_seen: Lsn,
    /// 64-bit ids of transactions whose changes were sent, and that no snapshot has seen yet. A
    /// chunk of a backfill needs a snapshot that sees all of them.
    pub pending_xids: Vec<u64>,
    /// The highest 64-bit id of such transactions, if `pending_xids` would be too long to list
    /// them. Then a snapshot may lack any transaction up to this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_upto: Option<u64>,
    /// The value that later records have as `source.sequence[0]`: the end of the newest commit, or
    /// the LSN of a later non-transactional message. `None` before both.
    pub sequence: Option<Lsn>,
    /// True if the process stopped cleanly after this checkpoint.
    pub clean: bool,
    /// Consents to continue past a gap that were given so far, newest last; at most 20.
    pub accepted: Vec<Accepted>,
    /// Everything before this position is in Kafka. It is higher than `confirmed` only while a
    /// confirm hold is open. The next connection starts here if the slot's confirmed position is
    /// then `confirmed`.
    #[serde(default)]
    pub delivered: Lsn,
    /// The newest commit at or below `delivered` that had records; `None` if none is known.
    #[serde(default)]
    pub delivered_commit: Option<Committed>,
    /// Open confirm holds, oldest first. Each floor is at least the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// True if a late record of an earlier producer was found during a hold. The stream is read
    /// again from `confirmed` when the hold ends.
    #[serde(default)]
    pub foreign: bool,
    /// Id of the process that wrote the checkpoint. Empty in records of earlier versions.
    #[serde(default)]
    pub run: String,
}

/// A confirm hold. Records of a producer that ended without all its delivery reports may still
/// arrive in Kafka until `until_ms`. Nothing beyond `floor` is confirmed until then, so that the
/// stream can be replayed from `floor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Position at which a replay would start. Nothing above it is confirmed to Postgres while the
    /// hold is open.
    pub floor: Lsn,
    /// The newest commit at or below `floor` that had records; `None` if none is known.
    pub last_commit: Option<Committed>,
    /// End of the hold, in Unix milliseconds.
    pub until_ms: i64,
    /// Time of the hold's begin, in Unix milliseconds. The producer that began at that time sends
    /// the records without a delivery report again.
    pub opened_ms: i64,
}

impl Checkpoint {
    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str, term: u64) -> String {
        format!("confirm/{slot}/{term}")
    }

    /// Key of the record that announces the creation of a slot.
    #[must_use]
    pub fn intent_key(slot: &str) -> String {
        format!("intent/{slot}")
    }

    /// Fills `delivered` in a record of an earlier version, which had only `confirmed`.
    fn completed(mut self) -> Self {
        if self.delivered <= self.confirmed {
            (self.delivered, self.delivered_commit) = (self.confirmed, self.last_commit);
        }
        self
    }

    /// Returns `server_seen` for the next checkpoint. On another timeline it is `server`, because
    /// positions of one timeline mean nothing on another. On the same timeline it rises to `server`
    /// only if the history is `proven`: otherwise the server may be a wrong one, and the right
    /// server would later seem to have gone back.
    #[must_use]
    pub fn server_seen_at(&self, timeline: u32, server: Lsn, proven: bool) -> Lsn {
        match (self.timeline == timeline, proven) {
            (true, true) => self.server_seen.max(server),
            (true, false) => self.server_seen,
            (false, _) => server,
        }
    }

    /// Raises `sent` to the position up to which this process has sent changes, because the
    /// checkpoint may be older. Nothing changes if the epochs differ: positions compare only within
    /// one epoch.
    pub fn carry_sent(&mut self, (epoch, sent): (u64, Lsn)) {
        if self.epoch == epoch {
            self.sent = self.sent.max(sent);
        }
    }

    /// Appends a consent and drops the oldest ones beyond the bound.
    pub fn accept(&mut self, accepted: Accepted) {
        self.accepted.push(accepted);
        let excess = self.accepted.len().saturating_sub(ACCEPTED_MAX);
        self.accepted.drain(..excess);
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Checkpoint { confirmed, delivered, .. } = self;
        assert!(confirmed <= delivered, "{confirmed} lies beyond what Kafka has: {delivered}");
        super::text_of(self)
    }
}

/// Ends of all partitions when a process began that inherited a confirm hold. This process found no
/// late record before the ends, so the next process searches only after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// Id of the process that read the ends.
    pub run: String,
    /// Time of the reading, in Unix milliseconds.
    pub at_ms: i64,
    /// One past the last offset of each partition, by topic; -1 for a partition that did not exist.
    pub ends: BTreeMap<String, Vec<i64>>,
}

impl Watched {
    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("watched/{slot}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }
}

/// The record that announces the creation of a slot. A start that finds this record knows that its
/// own pipeline created the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// True if existing rows are to be copied under the slot's snapshot.
    #[serde(default)]
    pub copies: bool,
}

impl Intent {
    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }
}

/// A state record that cannot be read. The agent does not guess its content.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The value is not JSON of the expected form.
    #[error("read state record `{key}`")]
    Unreadable {
        /// Key of the unreadable record.
        key: String,
        /// Fault that the JSON reader reports.
        #[source]
        source: serde_json::Error,
    },
    /// A state record about copies cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The record was written by a later version.
    #[error(
        "state record `{key}` has format {format}; this version reads up to {FORMAT}: run the \
         version that wrote it"
    )]
    Newer {
        /// Key of the newer record.
        key: String,
        /// Format version that the record has.
        format: u32,
    },
}

/// What the state topic holds about one slot, except for the record `made`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Checkpoint of the highest term; `None` before the first start.
    pub record: Option<Checkpoint>,
    /// Keys of older checkpoints. The agent deletes them with tombstones.
    pub outdated: Vec<String>,
    /// The announcement of an earlier start that was about to create the slot; `None` without one.
    pub intent: Option<Intent>,
    /// Number of partitions of each topic at its first use.
    pub partitions: BTreeMap<String, i32>,
    /// Schema ids by key, as `schema_key` defines it.
    pub schemas: BTreeMap<String, u32>,
    /// Unfinished backfills, by `namespace.name`.
    pub windows: BTreeMap<String, Window>,
    /// Detached tables, by `namespace.name`.
    pub detached: BTreeMap<String, Detached>,
    /// Skipped changes, by the keys of their records.
    pub skipped: BTreeMap<String, Skipped>,
    /// The recorded halt of the slot, with the attempt to continue past it; `None` without a halt.
    pub halt: Option<Halted>,
    /// Plan of the first copy, and the outcome of each of its tables.
    pub copy: Journal,
    /// Progress in the topic of signals.
    pub obeyed: Option<Obeyed>,
    /// Ends of the partitions when the newest process began, if it inherited a confirm hold.
    pub watched: Option<Watched>,
}

impl State {
    /// Reads the newest value of each key in the state topic.
    ///
    /// # Errors
    /// A record of this slot cannot be read, or was written by a later version.
    pub fn read(slot: &str, entries: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let mut state = State { copy: Journal::read(slot, entries)?, ..State::default() };
        let mut records: Vec<(String, Checkpoint)> = Vec::new();
        for (key, value) in entries {
            let unreadable = |source| RecordError::Unreadable { key: key.clone(), source };
            match key.split_once('/') {
                Some(("confirm", rest))
                    if rest.rsplit_once('/').is_some_and(|(name, _)| name == slot) =>
                {
                    records.push((key.clone(), known(key, value)?));
                }
                Some(("window", rest)) => {
                    if let Some(table) = super::of_slot(rest, slot) {
                        state.windows.insert(table.to_owned(), known(key, value)?);
                    }
                }
                Some(("watched", name)) if name == slot => state.watched = Some(known(key, value)?),
                Some(("signals", name)) if name == slot => state.obeyed = Some(known(key, value)?),
                Some(("detached", rest)) => {
                    if let Some(table) = super::of_slot(rest, slot) {
                        state.detached.insert(table.to_owned(), known(key, value)?);
                    }
                }
                Some(("skipped", rest)) if super::of_slot(rest, slot).is_some() => {
                    state.skipped.insert(key.clone(), known(key, value)?);
                }
                Some(("halt", name)) if name == slot => state.halt = Some(known(key, value)?),
                Some(("intent", name)) if name == slot => state.intent = Some(known(key, value)?),
                Some(("topic", topic)) => {
                    state
                        .partitions
                        .insert(topic.to_owned(), serde_json::from_str(value).map_err(unreadable)?);
                }
                Some(("schema", schema)) => {
                    state.schemas.insert(
                        schema.to_owned(),
                        serde_json::from_str(value).map_err(unreadable)?,
                    );
                }
                _ => {} // a key of `snapshot::journal`, `made`, another slot or a later version
            }
        }
        records.sort_by_key(|(_, record)| record.term);
        state.record = records.pop().map(|(_, record)| record.completed());
        state.outdated = records.into_iter().map(|(key, _)| key).collect();
        Ok(state)
    }

    /// Epoch of the checkpoint; 0 where there is none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.epoch)
    }

    /// Keys of the records about backfills, copied tables and detached tables. A new pipeline
    /// removes them, because they tell of copies by an earlier pipeline with the same name.
    #[must_use]
    pub fn copies(&self, slot: &str) -> Vec<String> {
        let windows = self.windows.keys().map(|table| Window::key(slot, table));
        let copied = self.copy.copied.iter().map(|(table, copied)| copied.key(slot, table));
        let detached = self.detached.keys().map(|table| Detached::key(slot, table));
        windows.chain(copied).chain(detached).chain(self.copy.outdated.iter().cloned()).collect()
    }
}

/// Reads a record that carries its format version. A later format is refused, because fields that
/// this version does not know would be lost.
fn known<T: DeserializeOwned>(key: &str, value: &str) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |source| RecordError::Unreadable { key: key.to_owned(), source };
    match serde_json::from_str(value).map_err(unreadable)? {
        Format { format } if format > FORMAT => {
            Err(RecordError::Newer { key: key.to_owned(), format })
        }
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
        tables: [(
            "public.t".to_owned(),
            TableIdentity { relation: Oid(20), membership: Some(Oid(21)), since: None },
        )]
        .into(),
        named_from: None,
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
        // The terms are compared as numbers: 10 is above 9, although its text sorts first.
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
        let left =
            entries.into_iter().filter(|(key, _)| !state.copies("s").contains(key)).collect();
        assert_eq!(State::read("s", &left).unwrap().copy.owed(), ["p.a"]);
    }

    /// Records as the first version of this program wrote them. Each field added since then has a
    /// defined meaning where it is missing.
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
        let commit = Committed {
            end: Lsn::new(992),
            xid: crate::lsn::Xid(740),
            at: crate::lsn::PgMicros(1_000_000),
        };
        let earlier = Checkpoint {
            last_commit: Some(commit),
            delivered_commit: Some(commit),
            run: String::new(),
            ..sample()
        };
        assert_eq!(state.record, Some(earlier));
        assert_eq!(state.intent, Some(Intent { format: 1, copies: false }));
        let window = &state.windows["public.t"];
        assert_eq!(
            (window.journal.rows, window.paused, window.signal, window.epoch),
            (7, false, None, 0)
        );
    }

    #[test]
    fn refuses_a_record_of_a_later_format_of_each_kind() {
        for kind in [
            "confirm/s/1",
            "window/s/p.t",
            "signals/s",
            "detached/s/p.t",
            "skipped/s/1",
            "halt/s",
            "intent/s",
        ] {
            let later =
                [(kind.to_owned(), format!(r#"{{"format":{},"new":[]}}"#, FORMAT + 1))].into();
            assert!(matches!(State::read("s", &later), Err(RecordError::Newer { .. })), "{kind}");
        }
    }

    #[test]
    fn a_servers_position_is_recorded_only_for_a_proven_history() {
        let record = sample();
        let (seen, later) = (record.server_seen, Lsn::new(9000));
        assert_eq!(record.server_seen_at(record.timeline, later, true), later);
        assert_eq!(record.server_seen_at(record.timeline, Lsn::new(1), true), seen);
        assert_eq!(record.server_seen_at(record.timeline, later, false), seen);
        assert_eq!(record.server_seen_at(record.timeline + 1, Lsn::new(1), false), Lsn::new(1));
    }

    #[test]
    fn refuses_a_record_it_cannot_read() {
        let broken = [("confirm/s/1".to_owned(), "{}".to_owned())].into();
        assert!(matches!(State::read("s", &broken), Err(RecordError::Unreadable { .. })));
    }
}
