//! The keys of records: a table whose records get another key, or none, is a finding.
//!
//! Consumers that keep the newest record of each key cannot follow such a change. The earlier
//! records stay under their keys, and no tombstone removes them. The looks show a changed replica
//! identity or primary key in the catalog. Here the keys of the records themselves are compared,
//! whatever the cause of a change is.

use super::finding::{Code, Finding};
use crate::lsn::Lsn;
use crate::table::typed::snapshot_of;
use std::collections::BTreeMap;

/// The columns of each table's record key, as this process saw them last.
#[derive(Debug, Default)]
pub struct Keys {
    tables: BTreeMap<String, Vec<String>>,
}

impl Keys {
    /// Notes the columns of the key that records of `table` have from the position `at` on. An
    /// empty `key` means records without a key. Returns a finding if the table's earlier records
    /// had another key.
    pub fn planned(&mut self, table: &str, key: Vec<String>, at: Lsn) -> Option<Finding> {
        let before = self.tables.insert(table.to_owned(), key.clone())?;
        if before == key {
            return None;
        }
        let (was, is) = (in_words(&before), in_words(&key));
        let detail = format!(
            "records of table {table} have {is} from here on, and {was} before: earlier records \
             stay under their keys, and no tombstone removes them"
        );
        let next = if key.is_empty() {
            "give the table a primary key, so that consumers can tell its rows apart".to_owned()
        } else {
            let copy = snapshot_of(table);
            format!(
                "if consumers keep the newest record of each key, {copy} sends each row under its \
                 key, and the records under earlier keys have to be removed there"
            )
        };
        let table = Some(table.to_owned());
        Some(Finding { code: Code::RecordKeyChanged, table, from: at, to: at, detail, next })
    }

    /// Keeps the tables for which `keep` is true, and forgets the keys of all others.
    pub fn keep(&mut self, keep: impl Fn(&str) -> bool) {
        self.tables.retain(|table, _| keep(table));
    }
}

fn in_words(key: &[String]) -> String {
    if key.is_empty() { "no key".to_owned() } else { format!("the key ({})", key.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|column| (*column).to_owned()).collect()
    }

    #[test]
    fn another_key_of_records_is_told_once() {
        let (mut keys, at) = (Keys::default(), Lsn::new(16));
        assert_eq!(keys.planned("p.t", key(&["id"]), at), None, "the first one");
        assert_eq!(keys.planned("p.t", key(&["id"]), at), None);
        let moved = keys.planned("p.t", key(&["k", "l"]), at).unwrap().told();
        let words =
            "records of table p.t have the key (k, l) from here on, and the key (id) before";
        assert!(moved.contains(words) && moved.contains("(at 0/10)"), "{moved}");
        assert!(moved.contains("wellspring snapshot p.t"), "{moved}");
        assert_eq!(keys.planned("p.t", key(&["k", "l"]), at), None);
        let lost = keys.planned("p.t", key(&[]), at).unwrap();
        assert_eq!((lost.code, lost.table.as_deref()), (Code::RecordKeyChanged, Some("p.t")));
        assert!(lost.detail.contains("have no key from here on"), "{}", lost.detail);
        assert!(lost.next.contains("primary key"), "{}", lost.next);
        keys.keep(|_| false);
        assert_eq!(keys.planned("p.t", key(&["id"]), at), None);
    }
}
