//! The consumer, which keeps the rows that the topic describes, and the judge, which checks each
//! record when it is sent.

use super::database::{Database, Op, Row};
use crate::lsn::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// A record of the topic.
#[derive(Clone, Copy, Debug)]
pub enum Record {
    Stream { at: (Lsn, usize), op: Op },
    Window { key: u64, row: Row },
}

/// What the consumer knows of a row.
#[derive(Clone, Copy, Debug)]
struct Known {
    version: u64,
    toast: Option<u64>,
    /// True if the consumer may lack the large value of the row, because it would lack the value
    /// without a copy too: the row moved to this key, and the consumer knew the value at the old
    /// key.
    excused: bool,
}

#[derive(Default)]
pub struct Consumer {
    rows: BTreeMap<u64, Known>,
    /// Changes that moved a row to another key and left its large value out, where a stream without
    /// a copy would leave the value out too.
    excused: BTreeSet<(Lsn, usize)>,
    /// For each key, the place of the last change that moved a row to this key.
    moved_by: BTreeMap<u64, (Lsn, usize)>,
}

impl Consumer {
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Window { key, row } => {
                if let Some(known) = self.rows.get(&key)
                    && known.version == row.version
                    && let Some(at) = self.moved_by.get(&key)
                {
                    self.excused.remove(at);
                }
                self.rows.insert(
                    key,
                    Known { version: row.version, toast: Some(row.toast), excused: false },
                );
            }
            Record::Stream { op: Op::Truncate { .. }, .. } => self.rows.clear(),
            Record::Stream { op: Op::Delete { key, .. }, .. } => drop(self.rows.remove(&key)),
            Record::Stream { at, op: Op::Put { from, key, version, toast } } => {
                let source = from.and_then(|from| self.rows.remove(&from));
                let here = self.rows.get(&key).copied();
                let mut known =
                    Known { version, toast: toast.or(here.and_then(|k| k.toast)), excused: false };
                if from.is_some() && toast.is_none() {
                    if source.is_some_and(|source| source.toast.is_some() || source.excused) {
                        self.excused.insert(at);
                    }
                    known.excused = self.excused.contains(&at);
                    self.moved_by.insert(key, at);
                } else if toast.is_none() {
                    known.excused = here.is_some_and(|here| here.excused);
                }
                self.rows.insert(key, known);
            }
        }
    }

    /// Returns a sentence about the first difference between the consumer's rows and those of the
    /// table. `None` if there is no difference.
    pub fn differs(&self, rows: &BTreeMap<u64, Row>) -> Option<String> {
        let keys: BTreeSet<u64> = self.rows.keys().chain(rows.keys()).copied().collect();
        keys.into_iter().find_map(|key| match (self.rows.get(&key), rows.get(&key)) {
            (None, None) => None,
            (Some(known), None) => Some(format!("key {key} is a ghost: {known:?}")),
            (None, Some(row)) => Some(format!("key {key} is missing: {row:?}")),
            (Some(known), Some(row)) if known.version != row.version => {
                Some(format!("key {key} is stale: {known:?}, the row is {row:?}"))
            }
            (Some(known), Some(row)) if known.toast != Some(row.toast) && !known.excused => {
                Some(format!("key {key} lost its large value: {known:?}, the row is {row:?}"))
            }
            _ => None,
        })
    }
}

/// Checks that no older version of a key follows a newer one. It knows the newest version of each
/// key that one connection has sent.
pub struct Judge {
    newest: BTreeMap<u64, u64>,
    emptied: u64,
}

impl Judge {
    /// Begins with a connection that resumes at `from`. Earlier changes are not sent again, and
    /// count as sent.
    pub fn resume(database: &Database, from: Lsn) -> Self {
        let mut judge = Judge { newest: BTreeMap::new(), emptied: 0 };
        let past =
            database.commits.iter().map(|at| &database.transactions[*at]).filter(|t| t.end <= from);
        for (_, op) in past.flat_map(|t| &t.ops).filter(|(lsn, _)| *lsn >= database.published) {
            let _ = judge.note(*op);
        }
        judge
    }

    fn note(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Truncate { version } => {
                self.emptied = self.emptied.max(version);
                Ok(())
            }
            Op::Delete { key, version } => self.at(key, version),
            Op::Put { from, key, version, .. } => {
                from.map_or(Ok(()), |from| self.at(from, version))?;
                self.at(key, version)
            }
        }
    }

    fn at(&mut self, key: u64, version: u64) -> Result<(), String> {
        let newest = self.newest.entry(key).or_default();
        if version < (*newest).max(self.emptied) {
            return Err(format!(
                "key {key}: version {version} follows {newest}, emptied at {}",
                self.emptied
            ));
        }
        *newest = version;
        Ok(())
    }

    pub fn hear(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Stream { op, .. } => self.note(*op),
            Record::Window { key, row } => self.at(*key, row.version),
        }
    }
}
