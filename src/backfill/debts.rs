//! Tables that lack rows in Kafka: the first copy has left them out, or their backfill was
//! cancelled. Nothing copies them before a person acts. A complete copy of the whole table brings
//! the rows, whoever asked for it.

use super::{Copies, Stage};
use crate::continuity::checkpoint::Window;
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::table::typed::in_shell;
use std::collections::BTreeMap;

/// The tables whose topics lack rows after the first copy or a cancelled backfill, and the
/// conditions that decide whether a backfill brings all of these rows.
#[derive(Default)]
pub(super) struct Debts {
    /// By table: the epoch under which its rows were left out, and the reason with the next step.
    tables: BTreeMap<String, (u64, Left)>,
    /// By table: the operator's SQL condition on the rows that the first copy reads.
    conditions: BTreeMap<String, String>,
}

impl Debts {
    pub fn configure(&mut self, snapshot: &crate::snapshot::Config) {
        self.conditions.clone_from(&snapshot.conditions);
    }

    /// Notes that a backfill is complete. `owed` is the epoch of the first copy that left the table
    /// to this backfill, if one did. If the backfill has copied all rows that a first copy would
    /// read, the table lacks no rows any more, and the epoch of the first copy that left the table
    /// out is returned. `None` if the backfill copied only a part, or if no first copy left the
    /// table out.
    pub fn settled(&mut self, table: &str, copy: &Window, owed: Option<u64>) -> Option<u64> {
        let is_whole = copy.filter.is_none() || copy.filter.as_ref() == self.conditions.get(table);
        if !is_whole {
            return None;
        }
        self.tables.remove(table).map(|(epoch, _)| epoch).or(owed)
    }
}

impl Copies {
    /// Notes that the first copy of `epoch` left the table to this backfill. When the backfill
    /// ends, the state records that the table is copied for that first copy.
    pub fn owe(&mut self, table: &str, epoch: u64) {
        self.list
            .iter_mut()
            .filter(|copy| copy.name == table)
            .for_each(|copy| copy.owed = Some(epoch));
    }

    /// Notes that the first copy of `epoch` has left the table out, and why (`left`). An earlier
    /// note about the table stays.
    pub fn lack(&mut self, table: &str, epoch: u64, left: &Left) {
        self.debts.tables.entry(table.to_owned()).or_insert_with(|| (epoch, left.clone()));
    }

    /// Notes, before all copies are cancelled, that rows are missing for each table whose topic
    /// needs the rows of its copy.
    pub(super) fn lack_what_is_cancelled(&mut self) {
        for copy in &self.list {
            if copy.owed.is_none() && !copy.window.needed {
                continue;
            }
            let left = Left::new(
                CopyReason::Cancelled,
                "the backfill that was to bring the rows was cancelled",
                format!("wellspring snapshot {}", in_shell(&copy.name)),
            );
            let epoch = copy.owed.unwrap_or(self.history.epoch);
            self.debts.tables.entry(copy.name.clone()).or_insert((epoch, left));
        }
    }

    /// Keeps the notes about missing rows only for the tables that `keep` accepts.
    pub fn lack_only(&mut self, keep: impl Fn(&str) -> bool) {
        self.debts.tables.retain(|table, _| keep(table));
    }

    /// Tables whose topics lack rows that nothing brings before a person acts, with the reasons. If
    /// the copy that was to bring the rows has failed, the reason is the reason of the failure.
    #[must_use]
    pub fn lacking(&self) -> BTreeMap<&str, &Left> {
        let mut lacking: BTreeMap<&str, &Left> =
            self.debts.tables.iter().map(|(table, (_, left))| (table.as_str(), left)).collect();
        for copy in &self.list {
            let was_wanted = copy.owed.is_some() || copy.window.needed;
            if let Stage::Failed(left) = &copy.stage
                && (was_wanted || lacking.contains_key(copy.name.as_str()))
            {
                lacking.insert(&copy.name, left);
            }
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::checkpoint::{Checkpoint, sample};
    use crate::table::TableName;

    fn left() -> Left {
        Left::new(CopyReason::CopyRefused, "d", "n")
    }

    #[test]
    fn a_table_lacks_rows_until_a_copy_of_all_of_them_ends() {
        let mut copies = Copies::new("s", false);
        copies.lack("p.t", 3, &left());
        let some = Window::requested(Some("id > 5".to_owned()), 0);
        assert_eq!(copies.debts.settled("p.t", &some, Some(3)), None);
        assert_eq!(copies.lacking().into_keys().collect::<Vec<_>>(), ["p.t"]);
        let whole = Window::requested(None, 0);
        assert_eq!(copies.debts.settled("p.t", &whole, None), Some(3));
        assert_eq!(copies.debts.settled("p.t", &whole, None), None);
        assert_eq!(copies.debts.settled("p.t", &whole, Some(4)), Some(4));
        assert!(copies.lacking().is_empty());
    }

    #[test]
    fn a_copy_that_failed_leaves_rows_out_if_the_topic_needs_it() {
        for (fresh, owed, lacks) in
            [(false, None, false), (true, None, true), (false, Some(1), true)]
        {
            let mut copies = Copies::new("s", false);
            copies.begin(&TableName::new("p", "t"), None, fresh, 0, None);
            if let Some(epoch) = owed {
                copies.owe("p.t", epoch);
            }
            assert!(copies.lacking().is_empty(), "a copy under way brings the rows");
            // The copy is no longer fresh once a chunk is delivered.
            copies.list[0].window.journal.fresh = false;
            copies.fail(0, left());
            assert_eq!(copies.lacking().contains_key("p.t"), lacks, "{fresh} {owed:?}");
        }
    }

    #[test]
    fn a_cancelled_copy_that_the_topic_needs_leaves_rows_out() {
        let mut copies = Copies::new("s", false);
        copies.begin(&TableName::new("p", "t"), None, true, 0, None);
        copies.begin(&TableName::new("p", "asked"), None, false, 0, None);
        copies.cancel();
        let lacking: Vec<_> = copies.lacking().into_iter().collect();
        assert_eq!(lacking.len(), 1);
        assert_eq!((lacking[0].0, &*lacking[0].1.reason), ("p.t", "window_cancelled"));
    }

    #[test]
    fn a_consent_replaces_a_copy_that_is_listed() {
        let mut copies = Copies::new("s", false);
        copies.begin(&TableName::new("p", "t"), Some("id > 5".to_owned()), false, 1, None);
        copies.fail(0, left());
        let record = Checkpoint { epoch: 2, ..sample() };
        let asked = [("p.t".to_owned(), Window::requested(None, 2))].into();
        copies.opened(&record, &asked, &"10:10:".parse().unwrap(), false);
        assert!(!copies.has_failed("p.t") && copies.list[0].window.filter.is_none());
    }
}
