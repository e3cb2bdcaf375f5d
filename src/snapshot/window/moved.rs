//! Rows that moved to another key without a value that was not sent: where they stand, and which window brings the value.
//!
//! What is here survives a restart as a list of keys. A row leaves it with the delivery of a window that holds it, or with
//! a change that leaves nothing to bring: it is deleted, written whole, or moves on, and then its lack moves with it. Without
//! the latter rows that keep moving would be read again without end.

use super::super::keyset::RowKey;
use super::super::visibility::{FullXid, PgSnapshot};
use std::collections::BTreeMap;

/// Windows of one table are numbered from 1 in the order in which they are made.
pub(super) type WindowId = u64;

/// A row that lacks a value at the consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// The transaction that moved the row.
    pub xid: FullXid,
    /// The window that brings the value, once it is delivered; none: it has to be read again.
    pub cover: Option<WindowId>,
}

/// Rows that lack a value at the consumer, by the key to which they moved.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<RowKey, Missing>);

impl Moved {
    /// The rows that a journal lists. The transactions that moved them are no longer known. None is needed: the first
    /// snapshot waits for the changes that were emitted, and the server repeats the others.
    pub fn resume(keys: &[RowKey]) -> Self {
        Moved(keys.iter().map(|key| (key.clone(), Missing { xid: FullXid(0), cover: None })).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn keys(&self) -> Vec<RowKey> {
        self.0.keys().cloned().collect()
    }

    /// Keys to be read again, at most so many.
    pub fn uncovered(&self, max: usize) -> Vec<RowKey> {
        self.0.iter().filter(|(_, missing)| missing.cover.is_none()).take(max).map(|(key, _)| key.clone()).collect()
    }

    /// A row came to this key; true if none was known here.
    pub fn insert(&mut self, key: &RowKey, missing: Missing) -> bool {
        self.0.insert(key.clone(), missing).is_none()
    }

    /// What the row at this key lacks.
    pub fn get(&self, key: &RowKey) -> Option<Missing> {
        self.0.get(key).copied()
    }

    /// The row is gone from this key, or has all of its values.
    pub fn remove(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A window was read under this snapshot, and holds whatever stood at the keys for which `holds` is true.
    pub fn cover(&mut self, window: WindowId, snapshot: &PgSnapshot, holds: impl Fn(&RowKey) -> bool) {
        for (key, missing) in &mut self.0 {
            if missing.cover.is_none() && snapshot.sees(missing.xid) && holds(key) {
                missing.cover = Some(window);
            }
        }
    }

    /// A window is delivered.
    pub fn delivered(&mut self, window: WindowId) {
        self.0.retain(|_, missing| missing.cover != Some(window));
    }

    /// Every window is dropped.
    pub fn uncover(&mut self) {
        self.0.values_mut().for_each(|missing| missing.cover = None);
    }
}
