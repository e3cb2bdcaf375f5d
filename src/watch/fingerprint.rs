//! What one look sees of a publication and of the captured relations.
//!
//! A row version is the `xmin` of a catalog row. Each ALTER writes a new version of the rows that it touches, so a
//! change that was taken back between two looks still shows. Freezing leaves the `xmin` of a row as it is (9.4 on).

use crate::lsn::{Lsn, Oid};
use crate::table::TableName;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What one look sees, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The server's position before the moment: what was committed later and broke something lies behind it.
    pub before: Lsn,
    /// The server's position after the moment: whatever the look sees was committed before it.
    pub after: Lsn,
    /// The publication; none if there is none of this name.
    pub publication: Option<Publication>,
    /// The published relations, those that were captured at the look before, and those that have a captured name by now.
    pub relations: BTreeMap<Oid, Relation>,
}

/// A publication's own row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Publication {
    /// Another one means that it was dropped and made again.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// The row's version.
    pub version: u32,
    /// Its owner. ALTER PUBLICATION OWNER writes a new row version as well.
    pub owner: Oid,
    /// Publishes INSERT.
    pub inserts: bool,
    /// Publishes UPDATE.
    pub updates: bool,
    /// Publishes DELETE.
    pub deletes: bool,
    /// Publishes TRUNCATE.
    pub truncates: bool,
    /// Changes of partitions carry the root's name.
    pub via_root: bool,
}

/// A relation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Relation {
    /// Its oid.
    pub oid: Oid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The publication publishes it under its own name.
    pub published: bool,
    /// Published, and selected by the configuration. The caller of the look decides it.
    #[serde(default)]
    pub captured: bool,
    /// `pg_publication_rel.oid` or `pg_publication_namespace.oid` of what makes it a member; 0 under FOR ALL TABLES.
    pub membership: Oid,
    /// The row version of the membership.
    pub membership_version: u32,
    /// Numbers of the published columns; none if all are.
    pub columns: Option<String>,
    /// Digest of the row filter; none if there is none.
    pub filter: Option<String>,
    /// `pg_class.relpersistence`: `p` writes WAL.
    pub persistence: char,
    /// `pg_class.relreplident`.
    pub identity: char,
    /// Numbers of the columns of the replica identity's index; empty if it has none. REINDEX CONCURRENTLY makes another
    /// index of the same columns, so the index's oid says nothing.
    pub key: String,
    /// UPDATE and DELETE fail once they are published, because nothing identifies the old row.
    pub updates_fail: bool,
    /// Where its rows are stored. TRUNCATE, VACUUM FULL, CLUSTER and a rewrite exchange it.
    pub filenode: Oid,
    /// The version of its row in `pg_class`.
    pub version: u32,
    /// The version of its row type. RENAME, SET SCHEMA and OWNER write one; GRANT and VACUUM FULL do not.
    pub name_version: u32,
    /// Its owner.
    pub owner: Oid,
    /// The row version of its namespace.
    pub namespace_version: u32,
    /// Owner and rights of the namespace, which account for a new row version.
    pub namespace_rights: String,
    /// `number:type:modifier` of each column. `varchar` counts as `text`: a change from one to the other, or of a length,
    /// leaves the values. The look leaves the types out where `version` is the one that the caller knows.
    pub types: Option<String>,
    /// The leaves below it, if it is partitioned.
    #[serde(default)]
    pub parts: BTreeMap<Oid, Part>,
}

/// A leaf of a partitioned table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Part {
    /// `namespace.name`.
    pub name: String,
    /// The version of its row type: of the transaction that made, renamed or moved it.
    pub made: u32,
    /// The version of the row that joins it to its parent: of the transaction that made or attached it.
    pub joined: u32,
    /// As [`Relation::updates_fail`].
    pub updates_fail: bool,
    /// Rows by the catalog's estimate; below 0 if it has none.
    pub rows: i64,
}

impl Relation {
    /// Its name.
    #[must_use]
    pub fn table(&self) -> TableName {
        TableName::new(&self.namespace, &self.name)
    }
}

impl Fingerprint {
    /// The captured relations.
    pub fn captured(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values().filter(|relation| relation.captured)
    }

    /// Says which relations are captured, and forgets those that concern nobody. What the look has left out because it
    /// has not changed is taken from the look before.
    pub fn capture(&mut self, is_selected: impl Fn(&TableName) -> bool, earlier: Option<&Fingerprint>) {
        let known = |oid: &Oid| earlier.and_then(|earlier| earlier.relations.get(oid));
        self.relations.retain(|oid, relation| {
            let is_selected = is_selected(&relation.table());
            relation.captured = relation.published && is_selected;
            is_selected || known(oid).is_some_and(|known| known.captured)
        });
        for (oid, relation) in &mut self.relations {
            let unchanged = known(oid).filter(|known| known.version == relation.version);
            if let (None, Some(unchanged)) = (&relation.types, unchanged) {
                relation.types.clone_from(&unchanged.types);
            }
        }
    }
}

impl Relation {
    /// Whether a column that both have is of another type. The type's modifier counts: it can rewrite every row as well.
    #[must_use]
    pub fn has_other_types(&self, now: &Relation) -> bool {
        let (Some(before), Some(now)) = (&self.types, &now.types) else { return false };
        let columns = |text: &'_ str| -> BTreeMap<String, String> {
            let pairs = text.split(' ').filter_map(|column| column.split_once(':'));
            pairs.map(|(number, kind)| (number.to_owned(), kind.to_owned())).collect()
        };
        let now = columns(now);
        columns(before).iter().any(|(number, kind)| now.get(number).is_some_and(|now| now != kind))
    }
}
