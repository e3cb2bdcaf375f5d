//! Compares a table with the state in which its copy last saw it.
//!
//! The chunks of a copy fit together only while the same rows and columns of the table are
//! published. Each chunk compares the table, as its snapshot shows it, with the last survey. A
//! change during a lost connection, or while no process ran, shows when the next survey is compared
//! with the record of the copy.

use super::{Active, Copy, CopyTable, Journal, Stage};
use crate::continuity::checkpoint::Published;

impl Published {
    /// Returns the names of the table's published columns, and the table's row filter.
    pub(super) fn of(table: &CopyTable) -> Self {
        let columns = table.columns.iter().map(|column| column.name.clone()).collect();
        Published { columns, filter: table.filter.clone() }
    }
}

impl Copy {
    /// True if the rows that are copied already and the rows of the next chunks fit together.
    /// Otherwise the copy begins again like that of a newly published table: other rows or columns
    /// are published, or a gap was accepted, in which changes of copied rows may be missing.
    pub(super) fn is_published_as_before(&mut self, table: &CopyTable, epoch: u64) -> bool {
        let published = Published::of(table);
        let other = self.window.published.as_ref().is_some_and(|was| *was != published);
        let behind_a_gap = self.window.epoch != 0 && self.window.epoch != epoch;
        (self.window.published, self.window.epoch) = (Some(published), epoch);
        if !other && !behind_a_gap {
            return true;
        }
        let why =
            if other { "another part of it is published" } else { "changes may be missing since" };
        tracing::info!(
            table = self.name,
            rows = self.window.journal.rows,
            "the copy of the table begins again: {why}"
        );
        self.window.journal = match &mut self.windows {
            Some(windows) => {
                windows.begin_anew(true);
                windows.journal()
            }
            None => Journal { upto: self.window.journal.upto, fresh: true, ..Journal::default() },
        };
        false
    }

    /// Begins the copy again, because the table's key has other columns now. The ranges of the old
    /// key are of no use for the new one.
    pub(super) fn key_changed(&mut self, key: Vec<String>) {
        self.window.key = key;
        if let Some(windows) = &mut self.windows {
            windows.begin_anew(false);
            self.window.journal = windows.journal();
        }
        self.known = None;
        self.stage = Stage::Unsurveyed;
    }
}

/// Names of the columns of the key.
pub(super) fn key_names(active: &Active) -> Vec<String> {
    active
        .plan
        .key_places()
        .filter_map(|place| active.plan.column(place))
        .map(str::to_owned)
        .collect()
}

/// True if both descriptions have the same oid, name, replica identity, columns and row filter, so
/// that the rows have the same form.
pub(super) fn same_shape(a: &CopyTable, b: &CopyTable) -> bool {
    (a.relation, &a.name, a.identity, &a.columns, &a.filter)
        == (b.relation, &b.name, b.identity, &b.columns, &b.filter)
}

#[cfg(test)]
mod tests {
    use super::super::{Copies, Windows};
    use super::*;
    use crate::continuity::checkpoint::{Checkpoint, sample};
    use crate::lsn::{Lsn, Oid};
    use crate::snapshot::keyset::RowKey;
    use crate::snapshot::reader::Survey;
    use crate::table::TableName;
    use std::collections::BTreeMap;

    fn table(filter: Option<&str>) -> CopyTable {
        let (name, filter) = (TableName::new("p", "t"), filter.map(str::to_owned));
        CopyTable {
            relation: Oid(1),
            name,
            identity: b'd',
            columns: Vec::new(),
            filter,
            parts: Vec::new(),
        }
    }

    fn look(copies: &mut Copies, table: CopyTable) -> Stage {
        let snapshot = "10:10:".parse().unwrap();
        let id = copies.list[0].id;
        copies.surveyed(
            id,
            Survey { standby: false, snapshot, holders: Vec::new(), table: Some(table) },
        );
        copies.list[0].stage.clone()
    }

    /// A copy with 7 delivered rows after a lost connection, reconnected under this epoch.
    fn reconnected(epoch: u64) -> Copies {
        let (mut copies, record) = (Copies::new("s", false), Checkpoint { epoch: 1, ..sample() });
        let snapshot = "10:10:".parse().unwrap();
        copies.opened(&record, &BTreeMap::new(), &snapshot, true);
        copies.begin(&TableName::new("p", "t"), None, false, 0, None);
        assert_eq!(look(&mut copies, table(None)), Stage::Unplanned);
        let after = RowKey::new([Some(&b"7"[..])]);
        let journal =
            Journal { after, upto: Lsn::new(5), rows: 7, chunks: 1, ..Journal::default() };
        copies.list[0].window.journal = journal.clone();
        copies.list[0].windows = Some(Windows::resume(journal, Vec::new()));
        copies.lost();
        copies.opened(&Checkpoint { epoch, ..record }, &BTreeMap::new(), &snapshot, false);
        copies
    }

    #[track_caller]
    fn begins_anew(mut copies: Copies, now: &CopyTable) {
        assert_eq!(look(&mut copies, now.clone()), Stage::Unsurveyed, "it looks again who writes");
        let journal = copies.list[0].window.journal.clone();
        assert_eq!(journal, Journal { upto: Lsn::new(5), fresh: true, ..Journal::default() });
        assert_eq!(look(&mut copies, now.clone()), Stage::Unplanned);
    }

    #[test]
    fn a_transaction_that_a_failover_undid_is_not_waited_for() {
        let pending = |epoch, timeline| {
            let (mut copies, record) = (Copies::new("s", false), sample());
            let (none, snapshot) = (BTreeMap::new(), "10:10:".parse().unwrap());
            copies.opened(&record, &none, &snapshot, true);
            copies.emitted(Some(crate::lsn::Xid(11)));
            copies.lost();
            copies.opened(&Checkpoint { epoch, timeline, ..record }, &none, &snapshot, false);
            copies.pending().0
        };
        assert_eq!(pending(2, 2), [0; 0]);
        assert_eq!(pending(2, 1), [11], "the consent is about the same history");
        assert_eq!(pending(1, 2), [11], "the failover has kept it");
    }

    #[test]
    fn a_copy_goes_on_where_it_was_if_the_same_is_published() {
        let mut copies = reconnected(1);
        assert_eq!(look(&mut copies, table(None)), Stage::Unplanned);
        assert_eq!(copies.list[0].window.journal.rows, 7);
    }

    #[test]
    fn a_copy_begins_anew_where_another_part_of_its_table_is_published_than_before_the_connection_was_lost()
     {
        begins_anew(reconnected(1), &table(Some("id > 5")));
    }

    #[test]
    fn a_copy_begins_anew_behind_a_gap_that_was_consented_to() {
        begins_anew(reconnected(2), &table(None));
    }

    #[test]
    fn the_record_of_a_copy_made_by_an_earlier_version_goes_on() {
        let mut copies = reconnected(2);
        let text = copies.list[0]
            .window
            .to_json()
            .replace("\"epoch\":1,\"published\":{\"columns\":[],\"filter\":null},", "");
        let window: crate::continuity::checkpoint::Window = serde_json::from_str(&text).unwrap();
        assert_eq!((window.epoch, &window.published), (0, &None));
        copies.list[0].window = window;
        assert_eq!(look(&mut copies, table(None)), Stage::Unplanned);
    }
}
