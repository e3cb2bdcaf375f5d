//! Tables that the first copy leaves out: those that a backfill will copy, and those that wait for
//! a person.

use super::{Copying, State};
use crate::snapshot::journal::Left;
use crate::table::TableName;

impl Copying {
    /// Leaves a table out of the copy, and drops its rows that are not sent.
    pub fn leave(&mut self, table: usize, left: Left) {
        let (Some(name), Some(of)) = (self.name(table), self.tables.get_mut(table)) else { return };
        if matches!(of.state, State::Left(_)) {
            return;
        }
        // No end is recorded for a table that is left to a backfill, so that the table is still to
        // be copied after a restart.
        of.journalled |= left.is_owed();
        if left.is_owed() {
            tracing::warn!(
                table = %name,
                reason = left.reason,
                next = left.next,
                "a table is left to a backfill: {}",
                left.detail
            );
        } else {
            tracing::error!(
                table = %name,
                reason = left.reason,
                next = left.next,
                "a table is left out of the copy: {}",
                left.detail
            );
        }
        of.state = State::Left(left);
        self.tell_scanned(table, "SQL_EXCEPTION");
        self.ranges.give_up(table);
        self.markers.give_up(table);
        if self.in_hand.as_ref().is_some_and(|in_hand| in_hand.table == table) {
            self.in_hand = None;
        }
    }

    /// Tables that a backfill copies when the first copy is over.
    pub fn owed(&self) -> impl Iterator<Item = &TableName> {
        self.without_rows().filter(|(_, left)| left.is_owed()).map(|(name, _)| name)
    }

    /// Tables that nothing copies before a person acts, with the reasons.
    pub fn left_out(&self) -> impl Iterator<Item = (&TableName, &Left)> {
        self.without_rows().filter(|(_, left)| !left.is_owed())
    }

    fn without_rows(&self) -> impl Iterator<Item = (&TableName, &Left)> {
        self.tables.iter().zip(&self.plan.tables).filter_map(|(table, planned)| {
            let State::Left(left) = &table.state else { return None };
            Some((&planned.name, left))
        })
    }
}
