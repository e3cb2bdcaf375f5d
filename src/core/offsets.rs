//! Offsets at which our records landed. They are consecutive on each partition while nobody else
//! writes (`docs/internals/producers.md`, rule 3).

use crate::ledger::RouteId;

/// What the offset of an acknowledged record shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The offset follows the previous one, or there is nothing to compare it with.
    Consecutive,
    /// Records of another writer lie between ours.
    Foreign,
    /// An offset was assigned twice: the topic was recreated or lost acknowledged records.
    WentBack {
        /// The highest offset acknowledged before.
        highest: i64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Track {
    /// Highest offset that was acknowledged to this process or that lies before a known end.
    highest: i64,
    /// Offset that the running producer's next report must carry. `None` when nothing can be
    /// compared: at its start and after `next_producer`.
    next: Option<i64>,
    /// True once a record of ours was acknowledged on this partition or the partition's end was
    /// read. Every later record on the partition must then be accounted for.
    watched: bool,
}

const FRESH: Track = Track { highest: -1, next: None, watched: false };

/// Known offsets, by route and then by partition.
#[derive(Debug, Default)]
pub struct Offsets {
    routes: Vec<Vec<Track>>,
    /// True after a topic assigned an already acknowledged offset again. Records below the
    /// delivered position may be missing then. So this position stays at the recorded value.
    pub(super) went_back: bool,
}

impl Offsets {
    /// Notes an acknowledged record and compares its offset. Offset -1 means that the broker
    /// already had the record's batch. librdkafka counts on from -1 within this batch, so nothing
    /// is compared until an offset lies above the highest acknowledged one.
    pub fn landed(&mut self, route: RouteId, partition: i32, offset: i64) -> Finding {
        self.track(route, partition).map_or(Finding::Consecutive, |track| track.landed(offset))
    }

    /// Every watched partition with its highest known offset.
    pub fn tracked(&self) -> impl Iterator<Item = (RouteId, i32, i64)> + '_ {
        self.routes.iter().zip(0u32..).flat_map(|(tracks, route)| {
            let landed = tracks.iter().zip(0i32..).filter(|(track, _)| track.watched);
            landed.map(move |(track, partition)| (RouteId(route), partition, track.highest))
        })
    }

    /// True if every record before `end` on a partition is known to be ours or was reported as
    /// foreign.
    pub fn reaches(&self, route: RouteId, partition: i32, end: i64) -> bool {
        self.tracked().any(|(r, p, highest)| (r, p) == (route, partition) && highest + 1 >= end)
    }

    /// Sets the end of a partition before any record of ours follows. An end below an acknowledged
    /// record is ignored: the next record of ours will show that the offsets went back.
    pub fn begins(&mut self, route: RouteId, partition: i32, end: i64) {
        if let Some(track) = self.track(route, partition)
            && end > track.highest
        {
            *track = Track { highest: end - 1, next: Some(end), watched: true };
        }
    }

    fn track(&mut self, route: RouteId, partition: i32) -> Option<&mut Track> {
        let partition = usize::try_from(partition).ok()?;
        let route = route.0 as usize;
        if self.routes.len() <= route {
            self.routes.resize(route + 1, Vec::new());
        }
        let tracks = self.routes.get_mut(route)?;
        if tracks.len() <= partition {
            tracks.resize(partition + 1, FRESH);
        }
        tracks.get_mut(partition)
    }

    /// Notes that the records before `end` that are not ours are records of another producer. The
    /// next record of ours must have the offset `end`.
    pub fn found(&mut self, route: RouteId, partition: i32, end: i64) {
        let Ok(partition) = usize::try_from(partition) else { return };
        let tracks = self.routes.get_mut(route.0 as usize);
        if let Some(track) = tracks.and_then(|tracks| tracks.get_mut(partition)) {
            *track = Track { highest: end - 1, next: Some(end), watched: true };
        }
    }

    /// Forgets the offsets of a topic that was recreated, or that lost records.
    pub fn forget(&mut self, route: RouteId) {
        if let Some(tracks) = self.routes.get_mut(route.0 as usize) {
            tracks.clear();
        }
    }

    /// Begins a new producer. The records between the last report of the previous producer and the
    /// first report of the new one may be of the previous producer. So the first offset is compared
    /// only with the highest known one.
    pub fn next_producer(&mut self) {
        for track in self.routes.iter_mut().flatten() {
            track.next = None;
        }
    }
}

impl Track {
    fn landed(&mut self, offset: i64) -> Finding {
        let duplicates = self.next == Some(DUPLICATES);
        if offset < 0 || (duplicates && offset <= self.highest) {
            self.next = Some(DUPLICATES);
            return Finding::Consecutive;
        }
        if offset <= self.highest {
            return Finding::WentBack { highest: self.highest };
        }
        self.watched = true;
        let foreign = !duplicates && self.next.is_some_and(|next| next != offset);
        self.highest = offset;
        self.next = Some(offset + 1);
        if foreign { Finding::Foreign } else { Finding::Consecutive }
    }
}

/// Value of [`Track::next`] inside a batch of duplicates. No expected offset is negative.
const DUPLICATES: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;
    use Finding::{Consecutive, Foreign, WentBack};

    #[track_caller]
    fn check(offsets: &[i64], findings: &[Finding]) {
        let mut seen = Offsets::default();
        let found: Vec<_> =
            offsets.iter().map(|&offset| seen.landed(RouteId(2), 1, offset)).collect();
        assert_eq!(found, findings);
    }

    #[test]
    fn our_own_records_are_consecutive_from_wherever_they_begin() {
        check(&[7, 8, 9], &[Consecutive; 3]);
    }

    #[test]
    fn a_jump_is_somebody_elses_record() {
        check(&[7, 9, 10], &[Consecutive, Foreign, Consecutive]);
    }

    #[test]
    fn an_offset_given_twice_is_a_lost_record() {
        check(&[7, 8, 8], &[Consecutive, Consecutive, WentBack { highest: 8 }]);
        check(&[7, 0], &[Consecutive, WentBack { highest: 7 }]);
    }

    #[test]
    fn a_batch_of_duplicates_proves_nothing_until_it_is_passed() {
        check(
            &[7, -1, 0, 1, 9, 10, 12],
            &[
                Consecutive,
                Consecutive,
                Consecutive,
                Consecutive,
                Consecutive,
                Consecutive,
                Foreign,
            ],
        );
    }

    #[test]
    fn reports_without_an_offset_prove_nothing() {
        let mut seen = Offsets::default();
        for _ in 0..2 {
            assert_eq!(seen.landed(RouteId(0), 0, -1), Consecutive);
            assert_eq!(seen.landed(RouteId(1), 0, -1), Consecutive);
            seen.next_producer();
        }
        assert_eq!(seen.tracked().count(), 0);
    }

    #[test]
    fn a_new_producer_begins_where_it_begins_but_not_before() {
        let mut seen = Offsets::default();
        seen.landed(RouteId(0), 0, 5);
        seen.next_producer();
        assert_eq!(seen.landed(RouteId(0), 0, 9), Consecutive);
        seen.next_producer();
        assert_eq!(seen.landed(RouteId(0), 0, 9), WentBack { highest: 9 });
    }
}
