//! What planning knows from earlier: the state records of topics and schemas, and the relations of
//! earlier plans.

use crate::lsn::Oid;
use crate::table::Table;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What the state records say about topics and schemas.
pub(super) struct Recorded {
    /// The number of partitions that keys are spread over, by topic.
    pub partitions: BTreeMap<String, i32>,
    /// The ids of schemas, by the key of their state record.
    pub schemas: BTreeMap<String, u32>,
}

/// The relations of earlier plans.
#[derive(Default)]
pub(super) struct Relations {
    /// The table as it was at the last plan of each relation.
    tables: HashMap<Oid, Table>,
    /// By relation: columns in which rows may still hold NULL, although the catalog has these
    /// columns as NOT NULL now.
    nullable: HashMap<Oid, BTreeSet<String>>,
}

impl Relations {
    pub fn is_planned(&self, relation: Oid) -> bool {
        self.tables.contains_key(&relation)
    }

    /// True if the last plan of the relation was made for the same description.
    pub fn is_unchanged(&self, table: &Table) -> bool {
        self.tables.get(&table.oid) == Some(table)
    }

    pub fn planned(&mut self, table: Table) {
        self.tables.insert(table.oid, table);
    }

    pub fn forget(&mut self, relation: Oid) {
        self.tables.remove(&relation);
    }

    /// Notes that rows may still hold NULL in a column that the catalog has as NOT NULL.
    pub fn allow_null(&mut self, relation: Oid, column: String) {
        self.nullable.entry(relation).or_default().insert(column);
    }

    /// Makes those columns of `table` nullable in which rows may still hold NULL.
    pub fn loosen(&self, table: &mut Table) {
        let Some(nullable) = self.nullable.get(&table.oid) else { return };
        for column in table.columns.iter_mut().filter(|column| nullable.contains(&*column.name)) {
            column.not_null = false;
        }
    }
}
