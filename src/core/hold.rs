//! Confirm holds: how long the slot stays back after an unclean stop, and what ends that
//! (`docs/internals/producers.md`, rule 2).
//!
//! Bytes of a producer that ended without all its answers may still land. Reading and producing go on, and what is
//! delivered is recorded; only the slot stays at the hold's floor, so that the stream can be read again from there. A hold
//! ends when its time is over and the partitions' ends show that nothing landed late. Each unclean stop opens a hold of
//! its own, so that the slot follows one hold behind, however often a process is killed.

use super::{Action, Core, Moment, Rule, SECOND, newest};
use crate::change::Committed;
use crate::continuity::checkpoint::Hold;
use crate::ledger::RouteId;
use crate::lsn::Lsn;

/// Replays in a row that foreign writes may cause: a permanent second writer must not loop us
/// (`docs/internals/producers.md`, rule 2). No
/// hold is open after the last of them, so that only another unclean stop begins a new row.
const FOREIGN_REPLAYS_MAX: u32 = 3;

/// Holds that are kept apart: a process that is killed every two seconds opens thirty in a minute.
const HOLDS_MAX: usize = 40;

/// Ends of partitions that could not be read are asked for again after this.
const ENDS_RETRY: u64 = SECOND;

/// What is known of the partitions' ends when a hold is over: late records may lie behind our last ones, where no report
/// of ours would show the jump.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ends {
    Unasked,
    Asked,
    /// Partitions whose end lies beyond what was acknowledged: ours in flight, or somebody else's.
    Beyond(Vec<(RouteId, i32, i64)>),
}

/// An open hold, on the core's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    floor: Lsn,
    last_commit: Option<Committed>,
    until: Moment,
    /// Unix milliseconds: when the producer began that sends again what may still land.
    opened_ms: i64,
}

/// The open holds, oldest first, and what was found while they are open.
#[derive(Debug)]
pub(super) struct Holds {
    open: Vec<Open>,
    /// A late record was found.
    foreign: bool,
    ends: Ends,
    foreign_replays: u32,
    /// The next connection begins at the slot's own position.
    rewind: bool,
    /// A moment of the core's clock and the Unix milliseconds then.
    clock: (Moment, i64),
}

impl Default for Holds {
    fn default() -> Self {
        let clock = (Moment::default(), 0);
        Holds { open: Vec::new(), foreign: false, ends: Ends::Unasked, foreign_replays: 0, rewind: false, clock }
    }
}

impl Holds {
    /// Until when the oldest hold lasts, while there is one.
    pub fn until(&self) -> Option<Moment> {
        self.open.first().map(|hold| hold.until)
    }

    /// When the oldest hold wants a tick: not while the ends are being read.
    pub fn next_tick(&self) -> Option<Moment> {
        self.until().filter(|_| self.ends == Ends::Unasked)
    }

    /// Whether the next connection begins at the slot's own position.
    pub fn rewinds(&self) -> bool {
        self.rewind
    }

    /// Whether a late record was found while a hold is open.
    pub fn is_foreign(&self) -> bool {
        self.foreign && !self.open.is_empty()
    }

    /// Notes a foreign record: only while a hold is open can the stream be read again because of it.
    pub fn note_foreign(&mut self) {
        self.foreign |= !self.open.is_empty();
    }

    /// Up to where the slot may be confirmed, and the newest commit there; `None` where nothing holds it back.
    pub fn floor(&self) -> Option<(Lsn, Option<Committed>)> {
        self.open.first().map(|hold| (hold.floor, hold.last_commit))
    }

    /// The holds as the record carries them.
    pub fn recorded(&self) -> Vec<Hold> {
        let recorded = |hold: &Open| Hold {
            floor: hold.floor,
            last_commit: hold.last_commit,
            until_ms: self.unix_ms(hold.until),
            opened_ms: hold.opened_ms,
        };
        self.open.iter().map(recorded).collect()
    }

    /// A moment by the wall clock, as this connection began with it.
    fn unix_ms(&self, at: Moment) -> i64 {
        let (moment, unix_ms) = self.clock;
        let ahead = i64::try_from(at.since(moment) / 1000).unwrap_or(i64::MAX);
        let behind = i64::try_from(moment.since(at) / 1000).unwrap_or(i64::MAX);
        unix_ms.saturating_add(ahead).saturating_sub(behind)
    }

    /// A connection begins: the wall clock now.
    pub fn set_clock(&mut self, now: Moment, unix_ms: i64) {
        self.clock = (now, unix_ms);
    }

    /// Takes over the holds of another process's record. Its clock may be another one's: none lasts longer than `longest`.
    pub fn inherit(&mut self, recorded: &[Hold], foreign: bool, longest: u64) {
        let (now, unix_ms) = self.clock;
        let until = |until_ms: i64| {
            let left_ms = u64::try_from(until_ms.saturating_sub(unix_ms)).unwrap_or(0); // in the past: over
            now.plus(left_ms.saturating_mul(1000).min(longest))
        };
        let open = |hold: &Hold| Open {
            floor: hold.floor,
            last_commit: hold.last_commit,
            until: until(hold.until_ms),
            opened_ms: hold.opened_ms,
        };
        self.open = recorded.iter().map(open).collect();
        self.foreign = foreign;
        self.ends = Ends::Unasked;
    }

    /// A connection begins at `from`. What it reads again covers every hold that lies at or above: they become one.
    pub fn begin(&mut self, from: Lsn, last_commit: Option<Committed>) {
        let opened_ms = self.clock.1;
        if let Some(until) = self.open.iter().filter(|hold| hold.floor >= from).map(|hold| hold.until).max() {
            self.open.retain(|hold| hold.floor < from);
            self.open.push(Open { floor: from, last_commit, until, opened_ms });
        }
        self.ends = Ends::Unasked;
    }

    /// Opens a hold at the position that the connection began at.
    pub fn open(&mut self, floor: Lsn, last_commit: Option<Committed>, now: Moment, until: Moment) {
        self.ends = Ends::Unasked;
        if let Some(last) = self.open.last() {
            assert!(last.floor <= floor, "a hold at {floor} opens below one at {}", last.floor);
        }
        let opened_ms = self.unix_ms(now);
        self.open.push(Open { floor, last_commit, until, opened_ms });
        if self.open.len() > HOLDS_MAX {
            // The one that is left keeps the slot further back, for as long as the one that goes.
            let oldest = self.open.remove(0);
            if let Some(next) = self.open.first_mut() {
                (next.floor, next.last_commit) = (oldest.floor, oldest.last_commit);
                next.opened_ms = oldest.opened_ms;
            }
        }
    }
}

impl Core {
    /// Whether the next connection begins at the slot's own position, since late records were found.
    #[must_use]
    pub fn rewinds(&self) -> bool {
        self.holds.rewinds()
    }

    /// Opens a hold for this connection: bytes of an earlier producer may still land.
    pub(super) fn hold(&mut self) {
        let (floor, last_commit) = self.began;
        self.holds.open(floor, last_commit, self.now, self.now.plus(self.settings.hold));
    }

    /// Takes up the holds for a connection that begins at `from`.
    /// `replays`: it begins at the slot's own position, and so sends again what late records may have overtaken.
    pub(super) fn resume_holds(&mut self, from: Lsn, last_commit: Option<Committed>, unclean: bool, replays: bool) {
        self.began = (from, last_commit);
        self.holds.begin(from, last_commit);
        self.holds.foreign &= !replays;
        let rewound = std::mem::take(&mut self.holds.rewind);
        // A replay, too, must not be overtaken.
        if unclean || rewound || std::mem::take(&mut self.unsettled) {
            self.hold();
        }
    }

    pub(super) fn ends_read(&mut self, ends: Option<Vec<(RouteId, i32, i64)>>) {
        match ends {
            Some(ends) if self.holds.ends == Ends::Asked => self.holds.ends = Ends::Beyond(ends),
            Some(_) => {}
            None => {
                self.holds.ends = Ends::Unasked;
                if let Some(oldest) = self.holds.open.first_mut() {
                    oldest.until = self.now.plus(ENDS_RETRY);
                }
            }
        }
    }

    /// Ends the oldest hold that has lasted long enough, once the partitions' ends show whether late records landed.
    pub(super) fn end_hold(&mut self, actions: &mut Vec<Action>) {
        match &mut self.holds.ends {
            Ends::Unasked if !self.rules.keep(Rule::HoldAsksForEnds) => {}
            Ends::Unasked => {
                self.holds.ends = Ends::Asked;
                actions.push(Action::Ends);
                return;
            }
            Ends::Asked => return,
            Ends::Beyond(beyond) => {
                beyond.retain(|&(route, partition, end)| !self.offsets.reaches(route, partition, end))
            }
        }
        if let Ends::Beyond(beyond) = &self.holds.ends
            && let Some(&(route, ..)) = beyond.first()
        {
            if !self.ledger.is_settled() {
                return; // may be our own, acknowledged but not reported yet
            }
            self.holds.foreign = true;
            actions.push(Action::Foreign(route));
            for &(route, partition, end) in beyond {
                self.offsets.found(route, partition, end);
            }
        }
        self.holds.ends = Ends::Unasked;
        let replay = std::mem::take(&mut self.holds.foreign) && self.rules.keep(Rule::LateRecordsReplay);
        if replay && self.holds.foreign_replays < FOREIGN_REPLAYS_MAX {
            self.holds.foreign_replays += 1;
            self.holds.foreign = true; // until the replay has begun: a crash before it is told by the record
            self.holds.rewind = true;
            actions.push(Action::Replay);
            self.lost(actions);
        } else {
            self.holds.foreign_replays = 0;
            self.holds.open.remove(0);
        }
    }

    /// What the slot may be told, and the newest commit there: what is delivered, or the floor of the oldest hold.
    pub(super) fn confirmable(&self, was: (Lsn, Option<Committed>)) -> (Lsn, Option<Committed>) {
        match self.holds.floor() {
            Some((floor, last_commit)) if floor > was.0 => (floor, last_commit),
            Some(_) => was,
            None => self.delivered(),
        }
    }

    /// Everything before this is in Kafka, with the newest commit there.
    pub(super) fn delivered(&self) -> (Lsn, Option<Committed>) {
        let recorded = self.record.as_ref().map(|record| (record.delivered, record.delivered_commit));
        let (delivered, commit) = recorded.unwrap_or_default();
        if self.went_back {
            return (delivered, commit);
        }
        (delivered.max(self.ledger.confirmed()), newest(commit, self.ledger.last_commit()))
    }
}
