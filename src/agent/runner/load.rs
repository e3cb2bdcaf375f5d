//! Measures the load of the source while something is copied, and limits the copies by it.

use super::Runner;
use crate::postgres::Sql;
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::surroundings;
use crate::snapshot::throttle::{Load, Share, Throttle};

/// The row of the slot, and how many bytes the slowest standby is behind, if something is copied
/// and a standby is visible. `None` if the row could not be read.
pub(super) type SourceLoad = Option<(SlotRow, Option<u64>)>;

impl Runner {
    /// Whether the first copy, a backfill or a standstill is under way.
    pub(super) fn copies_anything(&self) -> bool {
        self.first_copy.copying.is_some() || !self.backfills.copies.is_empty()
    }

    /// Takes a reading of the source's load. Copies get the share of time that the load allows.
    pub(super) fn judge_load(&mut self, row: &SlotRow, standby_lag_bytes: Option<u64>) {
        if self.copies_anything() {
            let retained_bytes = row.retained_bytes().unwrap_or(0);
            self.backfills.throttle.measure(Load {
                safe_bytes: row.safe_wal_size,
                retained_bytes,
                standby_lag_bytes,
            });
        } else {
            self.backfills.throttle = Throttle::default();
        }
        self.backfills.copies.take_share(self.backfills.throttle.of_chunks());
        let held = self.backfills.throttle.of_held();
        if let Some(copying) = &mut self.first_copy.copying {
            copying.take_share(held);
        }
        let holds = self.first_copy.copying.is_some() || self.backfills.reading.is_some();
        let share = if holds { held } else { self.backfills.throttle.of_chunks() };
        self.reporter
            .paced(share, self.backfills.throttle.in_words().filter(|_| share < Share::FREE));
    }
}

/// Reads the row of the slot. While something is copied, also reads how far standbys are behind.
pub(super) async fn read(sql: &Sql, slot: &str, copying: bool) -> SourceLoad {
    let row = slot::read(sql, slot).await.ok().flatten()?;
    // A role that may not see the standbys copies as if there were none.
    let lag = if copying { surroundings::standby_lag(sql).await.ok().flatten() } else { None };
    Some((row, lag))
}
