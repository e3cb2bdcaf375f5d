//! The share of the time that copies may take, by the load of the source. Pure: sizes come in, a
//! share comes out.
//!
//! Two kinds of load count. *Room* is the WAL that can be written until the slot is lost, as a part
//! of `max_slot_wal_keep_size`. *Lag* is how far the most distant physical standby has fallen back
//! since copies began. A standby that is behind on purpose (`recovery_min_apply_delay`) does not
//! count for that alone.
//!
//! Backfills slow down with both. The stream moves on while backfills rest, and so frees room. The
//! first copy and a standstill slow down with the lag only. While room is short, these copies do
//! not slow down at all. The slot cannot move before such a copy ends, so a slower copy would lose
//! the slot.
//!
//! Laws, tested below: a growing load never raises the share of backfills. Copies never stop.
//! Without knowledge of the source, copies run freely.

/// Room of at least `limit / ROOM_FREE` does not slow backfills. `limit` is
/// `max_slot_wal_keep_size`. The other half of it is for an outage of Kafka.
const ROOM_FREE: u64 = 2;
/// At a room of `limit / ROOM_SHORT` or less, backfills have the smallest share.
const ROOM_SHORT: u64 = 8;
/// Lag that does not slow copies: four segments, the burst of a checkpoint or of a batch job.
const LAG_FREE_BYTES: u64 = 64 << 20;
/// Lag at which copies have the smallest share: half the default of max_wal_size, which a standby
/// fetches in half a minute.
const LAG_MOST_BYTES: u64 = 512 << 20;
/// The smallest share of copies. Under a lasting load they still end, after sixteen times as long.
const LEAST: u32 = WHOLE / 16;
const WHOLE: u32 = 1 << 16;
/// The longest busy time from which a rest is computed. If reading takes longer, something else
/// than our reading delays it.
const BUSY_MAX_US: u64 = 1_000_000;

/// The share of the time that copies may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// The whole time: copies never rest.
    pub const FREE: Share = Share(WHOLE);

    /// Returns how long a copy has to rest after it was busy for `busy_us`. Both times are in
    /// microseconds.
    #[must_use]
    pub fn rest_after(self, busy_us: u64) -> u64 {
        let share = u64::from(self.0.max(LEAST));
        busy_us.min(BUSY_MAX_US) * (u64::from(WHOLE) - share) / share
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn part(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// Computes a share from the load `at`. The share falls from the whole to the smallest while
    /// `at` rises from `free` to `most`. `most` is larger than `free`.
    fn between(at: u64, free: u64, most: u64) -> Share {
        let beyond = at.clamp(free, most) - free;
        let fall =
            u128::from(beyond) * u128::from(WHOLE - LEAST) / u128::from((most - free).max(1));
        Share(WHOLE - u32::try_from(fall).unwrap_or(WHOLE - LEAST))
    }
}

/// Measures of the source's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of WAL that can be written until the slot can be lost, negative if it can be lost
    /// already. `None` without a limit.
    pub safe_bytes: Option<i64>,
    /// Bytes of WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    /// Bytes that the most distant physical standby is behind. `None` if there is no standby, or
    /// none is visible.
    pub standby_lag_bytes: Option<u64>,
}

/// Computes the share of the time that copies may take, from the load of the source.
#[derive(Clone, Debug)]
pub struct Throttle {
    room: Share,
    lag: Share,
    /// The smallest lag of the most distant standby, in bytes, that was measured since copies
    /// began.
    least_lag: Option<u64>,
    seen: Load,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { room: Share::FREE, lag: Share::FREE, least_lag: None, seen: Load::default() }
    }
}

impl Throttle {
    /// Takes measures of the source's load while a copy is under way, and computes the shares from
    /// them.
    pub fn measure(&mut self, load: Load) {
        self.seen = load;
        self.room = load.safe_bytes.map_or(Share::FREE, |safe| {
            let used = load.retained_bytes;
            let limit = used.saturating_add_signed(safe);
            // A slot that retains more than the limit has no room left.
            Share::between(used.min(limit), limit - limit / ROOM_FREE, limit - limit / ROOM_SHORT)
        });
        self.least_lag = match (self.least_lag, load.standby_lag_bytes) {
            (Some(least), Some(lag)) => Some(least.min(lag)),
            (None, lag) => lag,
            (least, None) => least,
        };
        self.lag = self.lags().map_or(Share::FREE, |(lag, least)| {
            assert!(lag >= least, "a standby is {lag} bytes behind, and never less than {least}");
            Share::between(lag - least, LAG_FREE_BYTES, LAG_MOST_BYTES)
        });
    }

    /// The lag at the last measure, and the smallest lag since copies began, in bytes. `None` if no
    /// standby is visible.
    fn lags(&self) -> Option<(u64, u64)> {
        self.seen.standby_lag_bytes.zip(self.least_lag)
    }

    /// The share of the time that backfills may take.
    #[must_use]
    pub fn of_chunks(&self) -> Share {
        self.room.min(self.lag)
    }

    /// The share of the time that a copy may take while the slot cannot move: the first copy or a
    /// standstill.
    #[must_use]
    pub fn of_held(&self) -> Share {
        if self.room < Share::FREE { Share::FREE } else { self.lag }
    }

    /// Why copies are slowed down. `None` if they are not.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let mut why = Vec::new();
        if let Some(safe) = self.seen.safe_bytes.filter(|_| self.room < Share::FREE) {
            let limit = mib(self.seen.retained_bytes.saturating_add_signed(safe));
            let left = mib(u64::try_from(safe).unwrap_or(0)); // below 0 nothing is left
            why.push(format!(
                "{left} of {limit} MiB are left until the slot is lost (max_slot_wal_keep_size)"
            ));
        }
        if let Some((lag, least)) = self.lags().filter(|_| self.lag < Share::FREE) {
            let (lag, least) = (mib(lag), mib(least));
            why.push(format!(
                "a standby is {lag} MiB behind, and its smallest lag since copies began was \
                 {least} MiB"
            ));
        }
        (!why.is_empty()).then(|| why.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn room(retained: u64, safe: i64) -> Load {
        Load { safe_bytes: Some(safe), retained_bytes: retained, standby_lag_bytes: None }
    }

    fn measured(load: Load) -> Throttle {
        let mut throttle = Throttle::default();
        throttle.measure(Load { standby_lag_bytes: Some(0), ..Load::default() });
        throttle.measure(load);
        throttle
    }

    #[test]
    fn chunks_slow_down_from_half_of_the_room_to_an_eighth() {
        let part = |retained: u64| {
            measured(room(retained * MIB, i64::try_from((160 - retained) * MIB).unwrap()))
                .of_chunks()
                .part()
        };
        assert_eq!([part(0), part(80), part(140), part(160)], [1.0, 1.0, 0.0625, 0.0625]);
        assert!((0.5..0.6).contains(&part(110)), "{}", part(110));
        assert_eq!(measured(room(160 * MIB, -5)).of_chunks().part(), 0.0625);
    }

    #[test]
    fn what_the_slot_waits_for_hurries_where_room_is_short_and_rests_where_a_standby_falls_back() {
        let behind = Load { standby_lag_bytes: Some(512 * MIB), ..Load::default() };
        assert_eq!(
            (measured(behind).of_held().part(), measured(behind).of_chunks().part()),
            (0.0625, 0.0625)
        );
        let both =
            Load { standby_lag_bytes: behind.standby_lag_bytes, ..room(150 * MIB, 10 << 20) };
        assert_eq!(measured(both).of_held(), Share::FREE);
        assert_eq!(
            measured(both).in_words().unwrap(),
            "10 of 160 MiB are left until the slot is lost (max_slot_wal_keep_size); a standby is 512 MiB behind, and its smallest lag since copies began was 0 MiB"
        );
    }

    #[test]
    fn a_standby_that_is_behind_on_purpose_is_no_load() {
        let mut throttle = Throttle::default();
        for lag in [4000, 4010, 4030] {
            throttle.measure(Load { standby_lag_bytes: Some(lag * MIB), ..Load::default() });
            assert_eq!((throttle.of_chunks(), throttle.in_words()), (Share::FREE, None));
        }
        throttle.measure(Load { standby_lag_bytes: Some(4300 * MIB), ..Load::default() });
        assert!(throttle.of_chunks() < Share::FREE);
    }

    #[test]
    fn a_rest_is_as_long_as_the_share_wants_it() {
        assert_eq!(Share::FREE.rest_after(1000), 0);
        assert_eq!(Share(WHOLE / 4).rest_after(1000), 3000);
        assert_eq!(Share(0).rest_after(10 * BUSY_MAX_US), 15 * BUSY_MAX_US);
    }

    proptest! {
        /// Method: two measures of any sizes, of which one is at least as high in every part.
        #[test]
        fn a_growing_load_raises_no_share_of_chunks_and_stops_no_copy(
            limit in 0u64..1 << 50,
            (used, more) in (0u64..1 << 50, 0u64..1 << 50),
            (lag, further) in (0u64..1 << 50, 0u64..1 << 50),
            (limited, seen) in (any::<bool>(), any::<bool>()),
        ) {
            let load = |used: u64, lag: u64| Load {
                safe_bytes: limited.then(|| i64::try_from(limit).unwrap() - i64::try_from(used).unwrap()),
                retained_bytes: used,
                standby_lag_bytes: seen.then_some(lag),
            };
            let (calm, loaded) = (measured(load(used, lag)), measured(load(used + more, lag + further)));
            prop_assert!(loaded.of_chunks() <= calm.of_chunks());
            prop_assert!(calm.of_chunks() <= calm.of_held());
            for share in [calm.of_chunks(), calm.of_held(), loaded.of_chunks(), loaded.of_held()] {
                prop_assert!((LEAST..=WHOLE).contains(&share.0));
                prop_assert!(share.rest_after(u64::MAX) <= 15 * BUSY_MAX_US);
            }
            prop_assert_eq!(calm.in_words().is_some(), calm.of_chunks() < Share::FREE);
            if !limited && !seen { prop_assert_eq!(loaded.of_chunks(), Share::FREE); }
        }
    }
}
