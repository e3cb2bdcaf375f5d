//! Decides whether the stream can continue exactly where it stopped, by a comparison of the
//! checkpoint with the server (`docs/internals/continuity.md`).
//!
//! The code here does no IO. Each check here prevents one way in which changes can be lost. A check
//! that fails causes a halt, or a wait if a standby lags.

pub mod checkpoint;
pub mod detached;
pub mod halted;
pub mod made;
pub mod named;
pub mod schema_key;
pub mod skipped;
mod absent;
mod answer;
mod copy_record;
mod findings;
mod published;
mod resume;
mod trouble;

pub use absent::absent;
pub use answer::{Answer, Granted, Refused, Reply, WAITING_MAX};
pub use findings::of_findings;
pub use published::Published;
pub use resume::{Beyond, Resume, begins_beyond};
pub use trouble::{Chain, Trouble};

pub use crate::reason::{By, Lifting, Proof, Reason, TroubleReason};

use crate::ledger::RouteId;
use crate::lsn::{Lsn, Oid};
use checkpoint::{Checkpoint, TableIdentity};
use serde::{Deserialize, Serialize};
use skipped::Place;
use std::collections::BTreeMap;

/// The JSON of a state record. The function panics if the record cannot be written as JSON, because
/// the state must not get an empty value in its place.
fn text_of(record: &impl Serialize) -> String {
    match serde_json::to_string(record) {
        Ok(text) => text,
        Err(error) => unreachable!("records have texts, numbers and maps by texts: {error}"),
    }
}

/// Takes `<slot>/...`, the key of a state record without its kind, and returns the part after the
/// slot's name. `None` for a key of another slot.
fn of_slot<'a>(rest: &'a str, slot: &str) -> Option<&'a str> {
    rest.strip_prefix(slot)?.strip_prefix('/')
}

/// A range of WAL that is missing or in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsnRange {
    /// Begin of the range: in most halts the last position known to be in Kafka.
    pub from: Lsn,
    /// End of the range: in most halts the position of the slot or of the server.
    pub to: Lsn,
}

/// A stop of the stream. A person's decision ends it, or a connect that no longer finds its cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Halt {
    /// Reason for the halt, with its stable code.
    pub reason: Reason,
    /// A sentence that names objects and positions.
    pub detail: String,
    /// Range of WAL that is missing or in doubt; `None` if the halt is about no range.
    pub range: Option<LsnRange>,
    /// The change that cannot be delivered, if one change caused the halt.
    pub place: Option<Box<Place>>,
    /// The table that the halt is about, as `namespace.name`. `None` for a halt about no table, and
    /// for a halt about several tables.
    pub table: Option<String>,
    /// Number of the topic that the halt is about. `None` if no report of Kafka led to the halt.
    pub route: Option<RouteId>,
    /// Topic, size and limit of the record that caused the halt, if it was too large.
    pub oversize: Option<Box<Oversize>>,
    /// When and by which run the halt was recorded; `None` if it was not read from the state topic.
    pub recorded: Option<Box<Recorded>>,
}

/// A record that exceeds the size limit of its topic or of the producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oversize {
    /// Name of the record's topic.
    pub topic: String,
    /// Size that topic and producer would have to accept, in bytes, framing included.
    pub bytes: u64,
    /// Size that topic and producer accepted when the halt was recorded, in bytes.
    pub limit_bytes: u64,
}

/// When a halt was recorded, and by which run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Time of the recording, in Unix milliseconds.
    pub at_ms: i64,
    /// Id of the run that recorded the halt.
    pub run: String,
    /// The epoch of the positions in the halt.
    pub epoch: u64,
}

impl Halt {
    /// A halt with a reason and a detail only.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Halt {
            reason,
            detail,
            range: None,
            place: None,
            table: None,
            route: None,
            oversize: None,
            recorded: None,
        }
    }

    /// Adds the change at which the stream halts, and its table.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.table = Some(place.table.clone());
        self.place = Some(Box::new(place));
        self
    }

    /// Adds the table that the halt is about.
    #[must_use]
    pub fn about(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    /// Adds the route of the topic that the halt is about.
    #[must_use]
    pub fn of_topic(mut self, route: RouteId) -> Self {
        self.route = Some(route);
        self
    }

    /// Adds the size of a record that is too large.
    #[must_use]
    pub fn oversized(mut self, oversize: Oversize) -> Self {
        self.oversize = Some(Box::new(oversize));
        self
    }

    /// Adds the range of WAL from one position to another.
    #[must_use]
    pub fn over(mut self, from: Lsn, to: Lsn) -> Self {
        self.range = Some(LsnRange { from, to });
        self
    }
}

/// The slot's row in `pg_replication_slots`, as far as the checks need it.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    /// `confirmed_flush_lsn`; `None` on a lost slot.
    pub confirmed: Option<Lsn>,
    /// Why the slot can no longer be used; `None` if it can.
    pub lost: Option<String>,
    /// True if the slot is a pgoutput slot of this database.
    pub ours: bool,
    /// True if the slot decodes prepared transactions (`two_phase`). The agent cannot read their
    /// messages.
    pub two_phase: bool,
}

/// The publication as the server shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicationView {
    /// `pg_publication.oid` of the publication.
    pub oid: Oid,
    /// Identity of each captured table, by `namespace.name`.
    pub tables: BTreeMap<String, TableIdentity>,
}

/// The facts that a connect has read, and that [`judge`] compares with the checkpoint
/// (`docs/internals/continuity.md`).
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// System identifier, from IDENTIFY_SYSTEM.
    pub system_id: String,
    /// Current timeline, from IDENTIFY_SYSTEM.
    pub timeline: u32,
    /// End of each earlier timeline (its switch point), by timeline. Empty unless the checkpoint is
    /// of an earlier timeline.
    pub history: BTreeMap<u32, Lsn>,
    /// The server's position: how far its WAL is flushed. On a standby the higher of the received
    /// and the replayed position.
    pub server: Lsn,
    /// True if the server is a standby.
    pub standby: bool,
    /// `pg_database.oid` of the database.
    pub database: Oid,
    /// The slot's row; `None` if the slot does not exist.
    pub slot: Option<SlotView>,
    /// The publication; `None` if it does not exist.
    pub publication: Option<PublicationView>,
    /// The tables of publication and checkpoint that the configuration selects, as
    /// `namespace.name`.
    pub captured: Vec<String>,
    /// What the topics show to have been sent after the checkpoint. `None` if the topics were not
    /// read: they are read only if the timeline has changed.
    pub published: Option<Published>,
}

/// Result of comparing checkpoint and server.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Continuity is proven, and the stream resumes.
    Resume(Resume),
    /// Neither slot nor checkpoint exists. No first start was tried before, or one crashed before
    /// it created the slot.
    FirstStart,
    /// Our own first start created the slot and wrote no checkpoint yet.
    Created(Resume),
    /// The server is a standby whose WAL does not reach the position in the checkpoint yet. The
    /// text has both positions.
    Wait(String),
    /// Continuity is not proven, so the agent halts.
    Halt(Halt),
}

/// What a start would do now, as `check` and `slot status` tell it.
#[derive(Clone, Debug, PartialEq)]
pub enum Foresight {
    /// The start begins or continues the stream, as this verdict says.
    Streams(Verdict),
    /// The server process with this pid uses the slot. What the start finds is judged only after
    /// that process has released the slot.
    Held(i32),
    /// The start begins a new copy, to which `snapshot.mode` consents. The text is the reason.
    Anew(&'static str),
    /// The start tries once to get past this recorded halt.
    Tries(Halt),
    /// The start waits. The text says for what.
    Waits(String),
    /// The start halts for this reason.
    Halts(Halt),
}

/// Compares the checkpoint with what the server shows, and returns what the connect may do.
/// `intent` is true if a first start of ours was about to create the slot.
#[must_use]
pub fn judge(record: Option<&Checkpoint>, intent: bool, seen: &Observed) -> Verdict {
    let slot = match (&seen.slot, record) {
        (None, None) => return Verdict::FirstStart,
        (None, Some(record)) => {
            let detail = format!(
                "slot `{}` does not exist; the record confirms up to {}",
                record.slot, record.confirmed
            );
            return Verdict::Halt(
                Halt::new(Reason::SlotMissing, detail).over(record.confirmed, seen.server),
            );
        }
        (Some(slot), _) => slot,
    };
    if !slot.ours {
        return Verdict::Halt(Halt::new(
            Reason::SlotForeign,
            "the slot is not a pgoutput slot of this database",
        ));
    }
    if slot.two_phase {
        let detail = "the slot decodes prepared transactions (two_phase), which are not read";
        return Verdict::Halt(Halt::new(Reason::SlotForeign, detail));
    }
    let from = record.map_or(Lsn::ZERO, |r| r.confirmed);
    let (Some(confirmed), None) = (slot.confirmed, &slot.lost) else {
        let why = slot.lost.as_deref().unwrap_or("no confirmed position");
        return Verdict::Halt(
            Halt::new(Reason::SlotLost, format!("the slot is lost: {why}")).over(from, seen.server),
        );
    };
    let Some(record) = record else {
        if intent {
            return Verdict::Created(Resume::at_slot(confirmed, None));
        }
        let detail = format!("the slot exists at {confirmed}, but the state holds no record of it");
        return Verdict::Halt(Halt::new(Reason::StateMissing, detail).over(Lsn::ZERO, confirmed));
    };
    match same_history(record, confirmed, seen).and_then(|()| same_tables(record, confirmed, seen))
    {
        Err(halt) => Verdict::Halt(halt),
        Ok(()) if went_back(record, seen) && seen.standby => Verdict::Wait(format!(
            "the standby has received or replayed WAL up to {}; the stream was at {}",
            seen.server, record.server_seen
        )),
        Ok(()) => {
            let expect = record
                .last_commit
                .filter(|commit| resume::comes_again(commit, confirmed, record, seen));
            Verdict::Resume(Resume::at_slot(confirmed, expect))
        }
    }
}

/// Checks that the Postgres cluster (its system identifier) and the database are those of the
/// checkpoint. Checks also that the server still has every change that was sent, and that the slot
/// is not ahead of the checkpoint.
fn same_history(record: &Checkpoint, confirmed: Lsn, seen: &Observed) -> Result<(), Halt> {
    if record.system_id != seen.system_id {
        let detail = format!(
            "system identifier {} where the record has {}",
            seen.system_id, record.system_id
        );
        return Err(Halt::new(Reason::OtherCluster, detail).over(record.confirmed, confirmed));
    }
    if record.database != seen.database {
        let detail =
            format!("database oid {} where the record has {}", seen.database, record.database);
        return Err(Halt::new(Reason::OtherDatabase, detail).over(record.confirmed, confirmed));
    }
    let mut reached = record.confirmed;
    if record.timeline == seen.timeline {
        if went_back(record, seen) && !seen.standby {
            let detail = format!(
                "the server is at {}, the stream had seen {}",
                seen.server, record.server_seen
            );
            return Err(
                Halt::new(Reason::ServerWentBack, detail).over(seen.server, record.server_seen)
            );
        }
    } else {
        let Some(&switch) = seen.history.get(&record.timeline) else {
            let detail = format!(
                "timeline {} does not descend from timeline {}",
                seen.timeline, record.timeline
            );
            return Err(
                Halt::new(Reason::TimelineUnknown, detail).over(record.confirmed, confirmed)
            );
        };
        let published = seen.published.as_ref().filter(|found| found.epoch == record.epoch);
        let sent = record.sent.max(published.map_or(Lsn::ZERO, |found| found.upto));
        if switch < sent {
            let detail = format!(
                "timeline {} ended at {switch}, but changes up to {sent} were sent",
                record.timeline
            );
            return Err(Halt::new(Reason::PublishedAhead, detail).over(switch, sent));
        }
        reached = reached.min(switch);
    }
    if confirmed > reached {
        let detail = format!(
            "the slot is confirmed up to {confirmed}, Kafka holds everything up to {reached}"
        );
        return Err(Halt::new(Reason::SlotAhead, detail).over(reached, confirmed));
    }
    Ok(())
}

/// True if the server's position is below the highest one in the checkpoint, on the same timeline.
fn went_back(record: &Checkpoint, seen: &Observed) -> bool {
    record.timeline == seen.timeline && seen.server < record.server_seen
}

/// Checks that the publication and every captured table are those of the checkpoint.
fn same_tables(record: &Checkpoint, confirmed: Lsn, seen: &Observed) -> Result<(), Halt> {
    let halt = |reason, detail: String| Err(Halt::new(reason, detail).over(confirmed, seen.server));
    let Some(publication) = &seen.publication else {
        return halt(Reason::PublicationMissing, "the publication does not exist".to_owned());
    };
    if publication.oid != record.publication {
        let detail = format!(
            "publication oid {} where the record has {}",
            publication.oid, record.publication
        );
        return halt(Reason::PublicationChanged, detail);
    }
    let captured = record.tables.iter().filter(|(table, _)| seen.captured.contains(table));
    let is = |table: &String| publication.tables.get(table);
    let found = captured.map(|(table, was)| (table, differs(table, was, is(table))));
    let faults: Vec<(&String, Fault)> =
        found.filter_map(|(table, fault)| Some((table, fault?))).collect();
    // The detail names every table at fault, because one consent covers all of them. Only a halt
    // about one table names it in `table`: excluding that table then ends the halt.
    let Some((first, (reason, _))) = faults.first() else { return Ok(()) };
    let all: Vec<&str> = faults.iter().map(|(_, (_, detail))| detail.as_str()).collect();
    let found = halt(*reason, all.join("; "));
    if faults.len() > 1 { found } else { found.map_err(|halt| halt.about(first)) }
}

/// Why one table halts the stream: the reason, and a sentence for the detail of the halt.
type Fault = (Reason, String);

/// Says how a published table differs from the table that the checkpoint has recorded. `None` if
/// both are the same table. `is` is `None` if the table is not in the publication.
fn differs(table: &str, was: &TableIdentity, is: Option<&TableIdentity>) -> Option<Fault> {
    let Some(is) = is else {
        let detail = format!("table {table} is not in the publication");
        return Some((Reason::TableNotPublished, detail));
    };
    if is.relation != was.relation {
        let (is, was) = (is.relation, was.relation);
        let detail = format!("table {table} has oid {is} where the record has {was}");
        return Some((Reason::TableRecreated, detail));
    }
    if is.membership != was.membership {
        let detail = format!("table {table} left the publication and came back");
        return Some((Reason::TableRepublished, detail));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::checkpoint::sample;
    use super::*;
    use crate::change::Committed;
    use crate::lsn::{PgMicros, Xid};

    pub(super) fn seen(record: &Checkpoint) -> Observed {
        Observed {
            system_id: record.system_id.clone(),
            timeline: record.timeline,
            history: BTreeMap::new(),
            server: record.server_seen,
            standby: false,
            database: record.database,
            slot: Some(SlotView {
                confirmed: Some(record.confirmed),
                lost: None,
                ours: true,
                two_phase: false,
            }),
            publication: Some(PublicationView {
                oid: record.publication,
                tables: record.tables.clone(),
            }),
            captured: record.tables.keys().cloned().collect(),
            published: None,
        }
    }

    #[test]
    fn every_table_at_fault_is_named() {
        let mut record = sample();
        let (name, identity) =
            record.tables.first_key_value().map(|(n, i)| (n.clone(), *i)).unwrap();
        record.tables.insert("public.zz".to_owned(), identity);
        let mut now = seen(&record);
        now.publication.as_mut().unwrap().tables.clear();
        let Verdict::Halt(halt) = judge(Some(&record), false, &now) else { panic!("halts") };
        assert!(
            halt.detail.contains(&name) && halt.detail.contains("public.zz"),
            "{}",
            halt.detail
        );
        assert_eq!(halt.table, None, "to exclude one of them does not end the halt");
    }

    #[test]
    fn a_slot_with_two_phase_is_refused_by_name() {
        let record = sample();
        let mut now = seen(&record);
        now.slot.as_mut().unwrap().two_phase = true;
        let Verdict::Halt(halt) = judge(Some(&record), false, &now) else { panic!("halts") };
        assert_eq!(halt.reason, Reason::SlotForeign);
        assert!(halt.detail.contains("two_phase"), "{}", halt.detail);
    }

    #[track_caller]
    fn halts(change: impl FnOnce(&mut Observed), reason: Reason, range: Option<(u64, u64)>) {
        let record = sample();
        let mut now = seen(&record);
        change(&mut now);
        let Verdict::Halt(halt) = judge(Some(&record), false, &now) else {
            panic!("{:?}", judge(Some(&record), false, &now));
        };
        assert_eq!(halt.reason, reason);
        assert_eq!(halt.range.map(|r| (r.from.bytes(), r.to.bytes())), range);
    }

    pub(super) fn slot(now: &mut Observed) -> &mut SlotView {
        now.slot.as_mut().unwrap()
    }

    fn table(now: &mut Observed) -> &mut TableIdentity {
        now.publication.as_mut().unwrap().tables.get_mut("public.t").unwrap()
    }

    #[test]
    fn resumes_where_nothing_changed() {
        let record = sample();
        let resume = Resume::at_slot(record.confirmed, None);
        assert_eq!(judge(Some(&record), false, &seen(&record)), Verdict::Resume(resume));
    }

    #[test]
    fn halts_where_the_slot_is_gone_lost_or_moved() {
        halts(|now| now.slot = None, Reason::SlotMissing, Some((1000, 1200)));
        halts(
            |now| slot(now).lost = Some("wal_removed".to_owned()),
            Reason::SlotLost,
            Some((1000, 1200)),
        );
        halts(
            |now| slot(now).confirmed = Some(Lsn::new(1001)),
            Reason::SlotAhead,
            Some((1000, 1001)),
        );
        halts(|now| slot(now).ours = false, Reason::SlotForeign, None);
    }

    #[test]
    fn halts_on_another_cluster_database_or_publication() {
        halts(|now| now.system_id = "8".to_owned(), Reason::OtherCluster, Some((1000, 1000)));
        halts(|now| now.database = Oid(6), Reason::OtherDatabase, Some((1000, 1000)));
        halts(|now| now.publication = None, Reason::PublicationMissing, Some((1000, 1200)));
        halts(
            |now| now.publication.as_mut().unwrap().oid = Oid(1),
            Reason::PublicationChanged,
            Some((1000, 1200)),
        );
    }

    #[test]
    fn halts_where_a_table_was_made_anew_or_left_the_publication() {
        halts(|now| table(now).relation = Oid(1), Reason::TableRecreated, Some((1000, 1200)));
        halts(
            |now| table(now).membership = Some(Oid(1)),
            Reason::TableRepublished,
            Some((1000, 1200)),
        );
        halts(
            |now| now.publication.as_mut().unwrap().tables.clear(),
            Reason::TableNotPublished,
            Some((1000, 1200)),
        );
    }

    #[test]
    fn halts_where_the_server_went_back_and_waits_where_a_standby_lags() {
        halts(|now| now.server = Lsn::new(1199), Reason::ServerWentBack, Some((1199, 1200)));
        let record = sample();
        let lagging = Observed { server: Lsn::new(1199), standby: true, ..seen(&record) };
        let Verdict::Wait(told) = judge(Some(&record), false, &lagging) else { panic!() };
        let text = "the standby has received or replayed WAL up to 0/4AF; the stream was at 0/4B0";
        assert_eq!(told, text);
    }

    #[test]
    fn a_failover_resumes_only_where_nothing_sent_was_undone() {
        let failover = |switch: u64| {
            move |now: &mut Observed| {
                now.timeline = 2;
                now.server = Lsn::new(switch);
                now.history.insert(1, Lsn::new(switch));
            }
        };
        let record = sample();
        let mut now = seen(&record);
        failover(1100)(&mut now);
        assert!(matches!(judge(Some(&record), false, &now), Verdict::Resume(_)));
        halts(failover(1099), Reason::PublishedAhead, Some((1099, 1100)));
        // The process has sent more than its record says, under this epoch and under another one.
        let mut carried = record.clone();
        carried.carry_sent((record.epoch, Lsn::new(1150)));
        let Verdict::Halt(halt) = judge(Some(&carried), false, &now) else { panic!("halts") };
        let range = LsnRange { from: Lsn::new(1100), to: Lsn::new(1150) };
        assert_eq!((halt.reason, halt.range), (Reason::PublishedAhead, Some(range)));
        let mut other = record.clone();
        other.carry_sent((record.epoch + 1, Lsn::new(1150)));
        assert_eq!(other, record);
        halts(|now| now.timeline = 2, Reason::TimelineUnknown, Some((1000, 1000)));
        // The topics show more than record and process know.
        let found =
            |epoch| Published { upto: Lsn::new(1201), ..Published::new(epoch, record.sent) };
        now.published = Some(found(record.epoch + 1));
        assert!(matches!(judge(Some(&record), false, &now), Verdict::Resume(_)));
        now.published = Some(found(record.epoch));
        let Verdict::Halt(halt) = judge(Some(&record), false, &now) else { panic!("halts") };
        let range = LsnRange { from: Lsn::new(1100), to: Lsn::new(1201) };
        assert_eq!((halt.reason, halt.range), (Reason::PublishedAhead, Some(range)));
    }

    #[test]
    fn a_slot_below_the_last_commit_must_bring_that_commit_again() {
        let commit = Committed { end: Lsn::new(1000), xid: Xid(9), at: PgMicros(1) };
        let record = Checkpoint { last_commit: Some(commit), ..sample() };
        let mut now = seen(&record);
        slot(&mut now).confirmed = Some(Lsn::new(900));
        let resume = Resume::at_slot(Lsn::new(900), Some(commit));
        assert_eq!(judge(Some(&record), false, &now), Verdict::Resume(resume));
    }

    #[test]
    fn a_slot_without_record_is_ours_only_by_intent() {
        let now = seen(&sample());
        let Verdict::Halt(halt) = judge(None, false, &now) else { panic!() };
        assert_eq!(halt.reason, Reason::StateMissing);
        assert!(matches!(judge(None, true, &now), Verdict::Created(_)));
        assert_eq!(judge(None, true, &Observed { slot: None, ..now }), Verdict::FirstStart);
    }
}
