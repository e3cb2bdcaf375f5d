//! Copies of tables that are set aside: ended with them, and begun to repair them.

use super::Copies;
use crate::continuity::detached::Detached;
use crate::snapshot::journal::Left;

impl Copies {
    /// The table is set aside: its copy, if there is one, ends here, and is begun anew by whoever repairs the table.
    pub fn detached(&mut self, table: &str) {
        let Some(id) = self.list.iter().find(|copy| copy.name == table).map(|copy| copy.id) else { return };
        let left = Left {
            reason: "table_detached".to_owned(),
            detail: format!("table {table} is set aside"),
            next: format!("remove the cause, then `wellspring snapshot {table}`"),
        };
        self.refused(id, &left);
    }

    /// The table's copy repairs it: with the copy's end its record goes.
    pub fn repairs(&mut self, table: &str) {
        self.list.iter_mut().filter(|copy| copy.name == table).for_each(|copy| copy.repairs = true);
    }

    /// Tables that were repaired since this was last asked.
    pub fn take_repaired(&mut self) -> Vec<String> {
        std::mem::take(&mut self.repaired)
    }

    /// The table is not set aside any more: its record goes.
    pub fn forget_detached(&mut self, table: &str) {
        self.unwritten.insert(Detached::key(&self.slot_name, table), None);
    }
}
