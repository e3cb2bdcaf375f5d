//! Compares a relation that the stream announces with the captured tables that the checkpoint has
//! recorded.
//!
//! This file is pure. The stream announces a relation with the name and the oid that it had at the
//! time of its changes. A look at the catalog and a connect see the present only. So a rename that
//! was taken back while no agent ran shows in the stream alone.

use super::skipped::Place;
use super::{Halt, Reason};
use crate::change::{Position, RelationShape};
use crate::lsn::{Lsn, Oid};
use crate::table::TableName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Identity of a captured table in the publication. `relation` changes when the table is recreated.
/// For a table that is published by its name, `membership` changes then too, and when the table
/// leaves the publication and returns, or when its row filter or column list changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableIdentity {
    /// `pg_class.oid` of the table.
    pub relation: Oid,
    /// `pg_publication_rel.oid` of a table published by its name, `pg_publication_namespace.oid` of
    /// one published with its schema of Postgres; `None` for FOR ALL TABLES.
    pub membership: Option<Oid>,
    /// The server's position when the table was first captured. Earlier changes of the table may
    /// carry another name or oid. `None` if everything before that position is in Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Lsn>,
}

/// The captured tables by oid and by name. Each has the position from which on its changes carry
/// this oid and this name.
#[derive(Clone, Debug, Default)]
pub struct Named {
    tables: HashMap<Oid, (String, Lsn)>,
    relations: HashMap<String, (Oid, Lsn)>,
}

impl TableIdentity {
    /// Sets `since` of each table in `now`. A table that `was` has under the same oid keeps its
    /// `since`. Any other table gets the position `server`. A `since` at or below `confirmed`
    /// becomes `None`, because everything before `confirmed` is in Kafka.
    pub fn joined(
        now: &mut BTreeMap<String, TableIdentity>,
        was: &BTreeMap<String, TableIdentity>,
        (confirmed, server): (Lsn, Lsn),
    ) {
        for (table, identity) in now {
            let known = was.get(table).filter(|known| known.relation == identity.relation);
            let since = known.map_or(Some(server), |known| known.since);
            identity.since = since.filter(|since| *since > confirmed);
        }
    }
}

impl Named {
    /// Makes the tables to compare with, from the captured tables and the `named_from` of a
    /// checkpoint. Without `named_from` no change is compared.
    #[must_use]
    pub fn of(tables: &BTreeMap<String, TableIdentity>, named_from: Option<Lsn>) -> Self {
        let mut named = Named::default();
        for (table, identity) in tables {
            let since = identity.since.unwrap_or(Lsn::ZERO).max(named_from.unwrap_or(Lsn::MAX));
            named.tables.insert(identity.relation, (table.clone(), since));
            named.relations.insert(table.clone(), (identity.relation, since));
        }
        named
    }

    /// Returns the halt for a relation whose name or oid is another one than recorded; `None` for
    /// any other relation. `at` is the Position of the relation's next change.
    ///
    /// The halt has no range yet, because the range ends at the server's present position.
    #[must_use]
    pub fn compare(&self, shape: &RelationShape, at: Position) -> Option<Halt> {
        let (oid, name) = (shape.oid, TableName::new(&shape.namespace, &shape.name).to_string());
        let recorded =
            self.tables.get(&oid).filter(|(table, since)| *table != name && at.commit >= *since);
        let expected = self
            .relations
            .get(&name)
            .filter(|(relation, since)| *relation != oid && at.commit >= *since);
        let place =
            format!("at change {} of the transaction committed at {}", at.ordinal, at.commit);
        let (reason, table, detail) = match (expected, recorded) {
            (Some((relation, _)), recorded) => {
                let is = recorded.map_or_else(String::new, |(table, _)| {
                    format!(", which is recorded as table {table}")
                });
                let detail = format!(
                    "{place}, table {name} is relation {oid}{is}, and not the recorded relation \
                     {relation}"
                );
                (Reason::TableSwapped, &name, detail)
            }
            (None, Some((table, _))) => {
                let detail = format!(
                    "{place}, relation {oid}, which is recorded as table {table}, is {name}"
                );
                (Reason::TableLeft, table, detail)
            }
            (None, None) => return None,
        };
        let next = format!(
            "run `wellspring slot accept`, then copy the table again with `wellspring snapshot \
             {table}`"
        );
        let place = Place { table: table.clone(), at, key_hash: None };
        Some(Halt::new(reason, format!("{detail}; {next}")).at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::checkpoint::{Checkpoint, sample};

    fn table(oid: u32) -> TableIdentity {
        TableIdentity { relation: Oid(oid), membership: None, since: None }
    }

    /// Tables t (20) and u (30) of a record, compared from position 1000 on.
    fn record() -> Checkpoint {
        let tables = [("s.t".to_owned(), table(20)), ("s.u".to_owned(), table(30))];
        Checkpoint { tables: tables.into(), named_from: Some(Lsn::new(1000)), ..sample() }
    }

    fn shape(oid: u32, name: &str) -> RelationShape {
        RelationShape {
            oid: Oid(oid),
            namespace: "s".to_owned(),
            name: name.to_owned(),
            identity: b'd',
            columns: Vec::new(),
        }
    }

    fn found(record: &Checkpoint, (oid, name): (u32, &str), commit: u64) -> Option<Halt> {
        let at = Position { commit: Lsn::new(commit), ordinal: 0 };
        Named::of(&record.tables, record.named_from).compare(&shape(oid, name), at)
    }

    #[test]
    fn a_recorded_relation_under_another_name_is_found() {
        let halt = found(&record(), (20, "x"), 1000).unwrap();
        assert_eq!((halt.reason, halt.table.as_deref()), (Reason::TableLeft, Some("s.t")));
        assert!(halt.detail.contains("relation 20") && halt.detail.contains("s.x"), "{halt:?}");
        assert_eq!(halt.place.unwrap().at.commit, Lsn::new(1000));
    }

    #[test]
    fn another_relation_under_a_recorded_name_is_found() {
        let halt = found(&record(), (40, "t"), 1000).unwrap();
        assert_eq!((halt.reason, halt.table.as_deref()), (Reason::TableSwapped, Some("s.t")));
        let both = found(&record(), (30, "t"), 1000).unwrap();
        assert!(both.detail.contains("as table s.u") && both.detail.contains("relation 20"));
        assert_eq!(both.reason, Reason::TableSwapped);
    }

    #[test]
    fn recorded_and_unknown_relations_are_no_finding() {
        for (oid, name) in [(20, "t"), (30, "u"), (50, "other")] {
            assert_eq!(found(&record(), (oid, name), 5000), None, "{name}");
        }
    }

    #[test]
    fn changes_from_before_a_consent_are_not_compared() {
        assert_eq!(found(&record(), (20, "x"), 999), None);
        let earlier = Checkpoint { named_from: None, ..record() };
        assert_eq!(found(&earlier, (20, "x"), 5000), None, "an earlier version compared nothing");
    }

    #[test]
    fn changes_from_before_a_table_joined_are_not_compared() {
        let (mut now, was) = (record(), record().tables);
        now.tables = [("s.x".to_owned(), table(20)), ("s.u".to_owned(), table(30))].into();
        TableIdentity::joined(&mut now.tables, &was, (Lsn::new(1500), Lsn::new(2000)));
        assert_eq!(found(&now, (20, "t"), 1999), None, "it was s.t before");
        assert!(found(&now, (20, "t"), 2000).is_some());
        assert!(found(&now, (30, "x"), 1600).is_some(), "s.u has been there before");
        let was: BTreeMap<_, _> = now.tables.clone();
        TableIdentity::joined(&mut now.tables, &was, (Lsn::new(2000), Lsn::new(3000)));
        assert_eq!(now.tables["s.x"].since, None, "everything before is in Kafka");
    }
}
