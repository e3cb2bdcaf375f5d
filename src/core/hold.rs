//! Confirm holds: how long the slot's confirmed position stays back after an unclean stop, and when
//! that ends (`docs/internals/producers.md`, rule 2).
//!
//! Records of a producer that ended without all its answers may still land in Kafka. Meanwhile the
//! agent reads, produces and records deliveries as usual. Only the slot stays at the hold's floor.
//! The stream can then be read again from the floor. A hold ends when its time is over and the ends
//! of the partitions show that nothing landed late. Each unclean stop opens a hold of its own. The
//! slot therefore lags by one hold at most, however often a process is killed.

use super::{Action, Core, Moment, Rule, SECOND, newest};
use crate::change::Committed;
use crate::continuity::checkpoint::Hold;
use crate::ledger::RouteId;
use crate::lsn::Lsn;

/// The most replays in a row that foreign writes may cause. A permanent second writer must not make
/// us replay for ever (`docs/internals/producers.md`, rule 2). After the last of them the hold ends
/// without a replay, so only another hold can start a new series.
const FOREIGN_REPLAYS_MAX: u32 = 3;

/// The most holds that are kept apart. A process that is killed every two seconds opens thirty in a
/// minute.
const HOLDS_MAX: usize = 40;

/// Delay before a failed read of the partition ends is repeated.
const ENDS_RETRY: u64 = SECOND;

/// Progress of the check that ends a hold. The check reads the ends of the partitions. A late record
/// of the earlier producer may lie after our last record, and no delivery report shows such a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ends {
    Unasked,
    Asked,
    /// Partitions whose end lies beyond the highest known offset, each with its route and end
    /// offset. The records beyond that known offset are our own records in flight, or records of
    /// another producer.
    Beyond(Vec<(RouteId, i32, i64)>),
}

/// A confirm hold that has not ended. `until` is the moment of the core's clock at which the hold
/// may end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    floor: Lsn,
    last_commit: Option<Committed>,
    until: Moment,
    /// Unix milliseconds at which the hold was opened. The producer that began then sends the
    /// unanswered records again.
    opened_ms: i64,
}

/// The open holds, oldest first, and the findings made while they are open.
#[derive(Debug)]
pub(super) struct Holds {
    open: Vec<Open>,
    /// True if the agent found a record of another producer while a hold was open.
    foreign: bool,
    ends: Ends,
    foreign_replays: u32,
    /// True if the next connection must begin at the slot's confirmed position.
    rewind: bool,
    /// A moment of the core's clock, and the Unix milliseconds at that moment.
    clock: (Moment, i64),
}

impl Default for Holds {
    fn default() -> Self {
        let clock = (Moment::default(), 0);
        Holds {
            open: Vec::new(),
            foreign: false,
            ends: Ends::Unasked,
            foreign_replays: 0,
            rewind: false,
            clock,
        }
    }
}

impl Holds {
    /// End of the oldest hold; `None` when no hold is open.
    pub fn until(&self) -> Option<Moment> {
        self.open.first().map(|hold| hold.until)
    }

    /// The moment at which the oldest hold ends and the partition ends have to be read. `None` when
    /// no hold is open or the partition ends were requested already.
    pub fn next_tick(&self) -> Option<Moment> {
        self.until().filter(|_| self.ends == Ends::Unasked)
    }

    /// True if the next connection must begin at the slot's confirmed position.
    pub fn rewinds(&self) -> bool {
        self.rewind
    }

    /// True if a hold is open and a record of another producer was found while it was open.
    pub fn is_foreign(&self) -> bool {
        self.foreign && !self.open.is_empty()
    }

    /// Notes a record of another producer. It counts only while a hold is open, because only then
    /// can the stream be read again.
    pub fn note_foreign(&mut self) {
        self.foreign |= !self.open.is_empty();
    }

    /// Returns the highest position that the slot may confirm, and the newest commit at that
    /// position. `None` when no hold is open.
    pub fn floor(&self) -> Option<(Lsn, Option<Committed>)> {
        self.open.first().map(|hold| (hold.floor, hold.last_commit))
    }

    /// The open holds in the form that the checkpoint stores.
    pub fn recorded(&self) -> Vec<Hold> {
        let recorded = |hold: &Open| Hold {
            floor: hold.floor,
            last_commit: hold.last_commit,
            until_ms: self.unix_ms(hold.until),
            opened_ms: hold.opened_ms,
        };
        self.open.iter().map(recorded).collect()
    }

    /// Converts a moment to Unix milliseconds, by the clock pair that was set when this connection
    /// began.
    fn unix_ms(&self, at: Moment) -> i64 {
        let (moment, unix_ms) = self.clock;
        let ahead = i64::try_from(at.since(moment) / 1000).unwrap_or(i64::MAX);
        let behind = i64::try_from(moment.since(at) / 1000).unwrap_or(i64::MAX);
        unix_ms.saturating_add(ahead).saturating_sub(behind)
    }

    /// Sets the clock pair at the beginning of a connection.
    pub fn set_clock(&mut self, now: Moment, unix_ms: i64) {
        self.clock = (now, unix_ms);
    }

    /// Takes over the holds from the checkpoint of another process. Clocks of two machines differ,
    /// so no hold lasts longer than `longest`.
    pub fn inherit(&mut self, recorded: &[Hold], foreign: bool, longest: u64) {
        let (now, unix_ms) = self.clock;
        let until = |until_ms: i64| {
            // an end in the past is over
            let left_ms = u64::try_from(until_ms.saturating_sub(unix_ms)).unwrap_or(0);
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

    /// Merges holds at the beginning of a connection. Everything from `from` on is read again, so
    /// the holds with a floor at or above `from` become one hold at `from`.
    pub fn begin(&mut self, from: Lsn, last_commit: Option<Committed>) {
        let opened_ms = self.clock.1;
        if let Some(until) =
            self.open.iter().filter(|hold| hold.floor >= from).map(|hold| hold.until).max()
        {
            self.open.retain(|hold| hold.floor < from);
            self.open.push(Open { floor: from, last_commit, until, opened_ms });
        }
        self.ends = Ends::Unasked;
    }

    /// Opens a hold at the position where the connection began.
    pub fn open(&mut self, floor: Lsn, last_commit: Option<Committed>, now: Moment, until: Moment) {
        self.ends = Ends::Unasked;
        if let Some(last) = self.open.last() {
            assert!(last.floor <= floor, "a hold at {floor} opens below one at {}", last.floor);
        }
        let opened_ms = self.unix_ms(now);
        self.open.push(Open { floor, last_commit, until, opened_ms });
        if self.open.len() > HOLDS_MAX {
            // Too many holds: the oldest one is merged into the next. The slot stays at the older
            // floor until the later end.
            let oldest = self.open.remove(0);
            if let Some(next) = self.open.first_mut() {
                (next.floor, next.last_commit) = (oldest.floor, oldest.last_commit);
                next.opened_ms = oldest.opened_ms;
            }
        }
    }
}

impl Core {
    /// True if the next connection must begin at the slot's confirmed position, because late
    /// records were found.
    #[must_use]
    pub fn rewinds(&self) -> bool {
        self.holds.rewinds()
    }

    /// Opens a hold for this connection, because records of an earlier producer may still land.
    pub(super) fn hold(&mut self) {
        let (floor, last_commit) = self.place.began;
        self.holds.open(floor, last_commit, self.now, self.now.plus(self.settings.hold));
    }

    /// Merges the holds for a connection that begins at `from`. Opens a new hold after an unclean
    /// stop, for the replay of a rewound stream, or if a producer of this process has ended with
    /// unanswered records. `replays` is true if the connection begins at the slot's confirmed
    /// position, and so sends again every change that a late record may have covered with an older
    /// value.
    pub(super) fn resume_holds(
        &mut self,
        from: Lsn,
        last_commit: Option<Committed>,
        unclean: bool,
        replays: bool,
    ) {
        self.place.began = (from, last_commit);
        self.holds.begin(from, last_commit);
        self.holds.foreign &= !replays;
        let rewound = std::mem::take(&mut self.holds.rewind);
        // The replay of a rewound stream also needs a hold: late records may still land after its
        // records.
        if unclean || rewound || std::mem::take(&mut self.producers.unsettled) {
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

    /// Ends the oldest hold, whose time is over, once the partition ends show whether late records
    /// landed.
    pub(super) fn end_hold(&mut self, actions: &mut Vec<Action>) {
        match &mut self.holds.ends {
            Ends::Unasked if !self.rules.keep(Rule::HoldAsksForEnds) => {}
            Ends::Unasked => {
                self.holds.ends = Ends::Asked;
                actions.push(Action::Ends);
                return;
            }
            Ends::Asked => return,
            Ends::Beyond(beyond) => beyond
                .retain(|&(route, partition, end)| !self.offsets.reaches(route, partition, end)),
        }
        if let Ends::Beyond(beyond) = &self.holds.ends
            && let Some(&(route, ..)) = beyond.first()
        {
            if !self.ledger.is_settled() {
                return; // these may be our own records: acknowledged, but not reported yet
            }
            self.holds.foreign = true;
            actions.push(Action::Foreign(route));
            for &(route, partition, end) in beyond {
                self.offsets.found(route, partition, end);
            }
        }
        self.holds.ends = Ends::Unasked;
        let replay =
            std::mem::take(&mut self.holds.foreign) && self.rules.keep(Rule::LateRecordsReplay);
        if replay && self.holds.foreign_replays < FOREIGN_REPLAYS_MAX {
            self.holds.foreign_replays += 1;
            // kept until the replay has begun, so that the checkpoint still says it after a crash
            self.holds.foreign = true;
            self.holds.rewind = true;
            actions.push(Action::Replay);
            self.lost(actions);
        } else {
            self.holds.foreign_replays = 0;
            self.holds.open.remove(0);
        }
    }

    /// Highest position that the slot may confirm, and the newest commit there. Without a hold it
    /// is the delivered position. With one it is the floor of the oldest hold, but never below
    /// `was`, the position already recorded.
    pub(super) fn confirmable(&self, was: (Lsn, Option<Committed>)) -> (Lsn, Option<Committed>) {
        match self.holds.floor() {
            Some((floor, last_commit)) if floor > was.0 => (floor, last_commit),
            Some(_) => was,
            None => self.delivered(),
        }
    }

    /// Highest position that a status update may confirm to the server now.
    pub(super) fn flushable(&self) -> Lsn {
        let recorded =
            self.checkpoints.newest.as_ref().map_or(Lsn::ZERO, |record| record.confirmed);
        let delivered = self.ledger.confirmed();
        let may = match self.rules.keep(Rule::RecordsBeforeUpdate) {
            true => recorded.min(delivered),
            false => delivered,
        };
        self.place.expect.map_or(may, |(_, unproven)| may.min(unproven))
    }

    /// Position before which everything is in Kafka, and the newest commit there. If the offsets of
    /// a topic went back, only the recorded position counts.
    pub(super) fn delivered(&self) -> (Lsn, Option<Committed>) {
        let recorded = self
            .checkpoints
            .newest
            .as_ref()
            .map(|record| (record.delivered, record.delivered_commit));
        let (delivered, commit) = recorded.unwrap_or_default();
        if self.offsets.went_back {
            return (delivered, commit);
        }
        (delivered.max(self.ledger.confirmed()), newest(commit, self.ledger.last_commit()))
    }
}
