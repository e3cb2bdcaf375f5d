//! Copies of detached tables: they end when the table is detached, and a new copy repairs the
//! table.

use super::Copies;
use crate::continuity::detached::Detached;
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::table::typed::snapshot_of;

impl Copies {
    /// Ends the copy of a table that was detached. The repair of the table begins a new copy.
    pub fn detached(&mut self, table: &str) {
        let Some(id) = self.list.iter().find(|copy| copy.name == table).map(|copy| copy.id) else {
            return;
        };
        let detail = format!("table {table} is detached");
        let next = format!("remove the cause, then {}", snapshot_of(table));
        self.refused(id, Left::new(CopyReason::Detached, detail, next));
    }

    /// Notes that the table's copy repairs it. The `Detached` record is removed when the copy ends.
    pub fn repairs(&mut self, table: &str) {
        self.list.iter_mut().filter(|copy| copy.name == table).for_each(|copy| copy.repairs = true);
    }

    /// Removes and returns the tables that were repaired since the last call.
    pub fn take_repaired(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished.repaired)
    }

    /// Removes the `Detached` record of a table that is no longer detached.
    pub fn forget_detached(&mut self, table: &str) {
        let key = Detached::key(self.unwritten.slot_name(), table);
        self.unwritten.insert(key, None);
    }
}
