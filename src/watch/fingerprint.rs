//! The fingerprint: the rows of the catalog that one look reads about a publication and its
//! captured relations.
//!
//! A row version is the `xmin` of a catalog row. Each ALTER writes a new version of the rows that
//! it touches, so that a change that was taken back between two looks still shows. Freezing keeps
//! the `xmin` of a row (PostgreSQL 9.4 and later).

use crate::lsn::{Lsn, Oid};
use crate::table::TableName;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The rows that one look has read from the catalog, between two positions of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The server's WAL position, read before the rows of the catalog. A statement that the look
    /// does not see was committed after this position.
    pub before: Lsn,
    /// The server's WAL position, read after the rows of the catalog. A statement that the look
    /// sees was committed before this position.
    pub after: Lsn,
    /// The publication, or `None` if the server has no publication of the configured name.
    pub publication: Option<Publication>,
    /// Three kinds of relations: those that were captured at the look before, those that are
    /// published and selected by the configuration, and those that have the name of a captured one.
    pub relations: BTreeMap<Oid, Relation>,
}

/// The row of the publication in `pg_publication`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Publication {
    /// The publication's oid. Another oid means that the publication was dropped and created again.
    pub oid: Oid,
    /// The publication's name: `pg_publication.pubname`.
    pub name: String,
    /// The `xmin` of the publication's row.
    pub version: u32,
    /// The owner's oid. ALTER PUBLICATION OWNER writes a new row version as well.
    pub owner: Oid,
    /// True if INSERT is published.
    pub inserts: bool,
    /// True if UPDATE is published.
    pub updates: bool,
    /// True if DELETE is published.
    pub deletes: bool,
    /// True if TRUNCATE is published.
    pub truncates: bool,
    /// True if changes of partitions are published under the name of their root table
    /// (`publish_via_partition_root`).
    pub via_root: bool,
}

/// A table or partitioned table, as one look reads it from the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Relation {
    /// The relation's oid: `pg_class.oid`.
    pub oid: Oid,
    /// The name of the relation's namespace.
    pub namespace: String,
    /// `pg_class.relname`, without the namespace.
    pub name: String,
    /// True if the publication publishes the relation under the relation's own name.
    pub published: bool,
    /// True if the relation is published and the configuration selects it. [`Fingerprint::capture`]
    /// sets this.
    #[serde(default)]
    pub captured: bool,
    /// The oid of the `pg_publication_rel` or `pg_publication_namespace` row that makes the
    /// relation a member; 0 under FOR ALL TABLES.
    pub membership: Oid,
    /// The `xmin` of the row that makes the relation a member of the publication.
    pub membership_version: u32,
    /// The `xmin` of each row in `pg_inherits` between the published root and this leaf. ATTACH and
    /// DETACH write and remove these rows. The text is empty if the relation itself is a member of
    /// the publication.
    #[serde(default)]
    pub lineage: String,
    /// The attribute numbers of the published columns, or `None` if all columns are published.
    pub columns: Option<String>,
    /// A digest of the row filter, or `None` without a row filter.
    pub filter: Option<String>,
    /// `pg_class.relpersistence`. Only `p` writes WAL.
    pub persistence: char,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: char,
    /// The numbers of the columns of the replica identity's index, or an empty text without such an
    /// index. REINDEX CONCURRENTLY makes another index of the same columns, so that the oid of the
    /// index says nothing.
    pub key: String,
    /// The numbers of the columns of the primary key, or an empty text without one. Under REPLICA
    /// IDENTITY FULL it is the key of records.
    #[serde(default)]
    pub primary_key: String,
    /// True if published UPDATE and DELETE statements fail, because nothing identifies the old row.
    pub updates_fail: bool,
    /// `pg_class.relfilenode`. TRUNCATE, VACUUM FULL, CLUSTER and a rewrite exchange it.
    pub filenode: Oid,
    /// The `xmin` of the relation's row in `pg_class`.
    pub version: u32,
    /// The `xmin` of the row of the relation's namespace.
    pub namespace_version: u32,
    /// A digest of the namespace's owner and rights. If it has changed, it explains a new
    /// `namespace_version`.
    pub namespace_rights: String,
    /// `number:type:modifier` of each column. `varchar` counts as `text`, because a change from one
    /// to the other, or of a length, keeps the values. The look takes the types from the look
    /// before if `version` has not changed.
    pub types: Option<String>,
    /// The `xmin` of the row in `pg_depend` that ties the relation to its namespace, or 0 without
    /// such a row. Only SET SCHEMA writes a new version. The look takes this value from the look
    /// before under the same condition as `types`.
    pub placed: Option<u32>,
    /// The leaves below a partitioned table, by oid.
    #[serde(default)]
    pub parts: BTreeMap<Oid, Part>,
}

/// One leaf of a partitioned table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Part {
    /// The leaf as `namespace.name`.
    pub name: String,
    /// The `xmin` of the leaf's row type in `pg_type`: the transaction that created, renamed or
    /// moved the leaf.
    pub made: u32,
    /// The `xmin` of the leaf's row in `pg_inherits`: the transaction that created or attached the
    /// leaf.
    pub joined: u32,
    /// The same as [`Relation::updates_fail`], for the leaf.
    pub updates_fail: bool,
    /// The number of the leaf's rows, as the catalog estimates it; below 0 without an estimate.
    pub rows: i64,
    /// The leaf's `pg_class.relfilenode`. See [`Relation::filenode`].
    pub filenode: Oid,
    /// The `xmin` of the leaf's row in `pg_class`.
    pub version: u32,
}

impl Relation {
    /// Returns the name of the relation, with its namespace.
    #[must_use]
    pub fn table(&self) -> TableName {
        TableName::new(&self.namespace, &self.name)
    }
}

impl Part {
    /// True if the leaf was truncated, or rewritten by ALTER TABLE, between this look and `now`.
    /// Both remove the catalog's estimate of the leaf's rows. VACUUM FULL and CLUSTER write a new
    /// estimate.
    #[must_use]
    pub fn is_emptied(&self, now: &Part) -> bool {
        self.filenode != now.filenode && now.rows < 0
    }
}

impl Fingerprint {
    /// Names of the captured tables and leaves whose UPDATE and DELETE are published and fail,
    /// because nothing identifies their old rows.
    #[must_use]
    pub fn failing(&self) -> Vec<String> {
        let publishes = |row: &Publication| row.updates || row.deletes;
        if !self.publication.as_ref().is_some_and(publishes) {
            return Vec::new();
        }
        let mut failing = Vec::new();
        for relation in self.captured() {
            failing.extend(relation.updates_fail.then(|| relation.table().to_string()));
            let leaves = relation.parts.values().filter(|part| part.updates_fail);
            failing.extend(leaves.map(|part| part.name.clone()));
        }
        failing
    }

    /// Iterates over the captured relations.
    pub fn captured(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values().filter(|relation| relation.captured)
    }

    /// Marks the captured relations, and removes relations that are not selected and were not
    /// captured at the look before. Column types and `placed` that this look left out are taken
    /// from the look before, if the relation's row version is the same.
    pub fn capture(
        &mut self,
        is_selected: impl Fn(&TableName) -> bool,
        earlier: Option<&Fingerprint>,
    ) {
        let known = |oid: &Oid| earlier.and_then(|earlier| earlier.relations.get(oid));
        self.relations.retain(|oid, relation| {
            let is_selected = is_selected(&relation.table());
            relation.captured = relation.published && is_selected;
            is_selected || known(oid).is_some_and(|known| known.captured)
        });
        for (oid, relation) in &mut self.relations {
            let unchanged = known(oid).filter(|known| known.version == relation.version);
            if let (None, Some(unchanged)) = (relation.placed, unchanged) {
                relation.types.clone_from(&unchanged.types);
                relation.placed = unchanged.placed;
            }
        }
    }
}

impl Relation {
    /// True if `now` has another replica identity or another primary key than this relation.
    #[must_use]
    pub fn is_keyed_otherwise(&self, now: &Relation) -> bool {
        (self.identity, &self.key, &self.primary_key) != (now.identity, &now.key, &now.primary_key)
    }

    /// True if a column that both looks show has another type in `now`. The type's modifier counts,
    /// because a change of it can rewrite every row as well.
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
