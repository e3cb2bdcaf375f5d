//! Rows that moved to another key by an update without their large value: at which key they are,
//! and which chunk brings the value.
//!
//! The keys survive a restart in the journal. A row leaves this list when a chunk with the row is
//! delivered, or when a change leaves nothing to bring: the row is deleted, is written with all its
//! values, or moves on. If it moves on, its new key takes the place of the old one, with the same
//! chunk. Otherwise rows that keep moving would be read again without end.

use super::super::keyset::RowKey;
use super::super::visibility::{FullXid, PgSnapshot};
use std::collections::BTreeMap;

/// Number of a chunk of one table. Chunks are numbered from 1 in the order in which they are read.
pub(super) type WindowId = u64;

/// A row of which the consumer lacks a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// The transaction that moved the row to its present key.
    pub xid: FullXid,
    /// The number of the chunk that contains the value. The consumer has the value when this chunk
    /// is delivered. `None` if the row has to be read again.
    pub cover: Option<WindowId>,
}

/// Rows of which the consumer lacks a value, by the key to which they moved.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<RowKey, Missing>);

impl Moved {
    /// Makes the list from the keys in a journal. The journal does not hold the transactions that
    /// moved the rows, and they are not needed: the first snapshot waits for the changes that were
    /// sent, and the server repeats the others.
    pub fn resume(keys: &[RowKey]) -> Self {
        Moved(
            keys.iter()
                .map(|key| (key.clone(), Missing { xid: FullXid(0), cover: None }))
                .collect(),
        )
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn keys(&self) -> Vec<RowKey> {
        self.0.keys().cloned().collect()
    }

    /// Returns the keys of rows that have to be read again, because no chunk brings their value.
    /// Returns at most `max` keys.
    pub fn uncovered(&self, max: usize) -> Vec<RowKey> {
        self.0
            .iter()
            .filter(|(_, missing)| missing.cover.is_none())
            .take(max)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Puts a row into the list at this key, and replaces the entry that the list has at this key.
    /// Returns true if there was no such entry.
    pub fn insert(&mut self, key: &RowKey, missing: Missing) -> bool {
        self.0.insert(key.clone(), missing).is_none()
    }

    /// Returns the list's entry for the row at this key. `None` if the consumer lacks no value of
    /// this row.
    pub fn get(&self, key: &RowKey) -> Option<Missing> {
        self.0.get(key).copied()
    }

    /// Removes the row at this key from the list, because the row is gone or all its values are
    /// sent.
    pub fn remove(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes that the chunk `window` was read under this snapshot. If no chunk brings the value of
    /// a row yet, this chunk does, provided that the snapshot sees the transaction that moved the
    /// row and that `holds` is true for the row's key.
    pub fn cover(
        &mut self,
        window: WindowId,
        snapshot: &PgSnapshot,
        holds: impl Fn(&RowKey) -> bool,
    ) {
        for (key, missing) in &mut self.0 {
            if missing.cover.is_none() && snapshot.sees(missing.xid) && holds(key) {
                missing.cover = Some(window);
            }
        }
    }

    /// Removes the rows whose values came with this chunk, because the chunk is delivered.
    pub fn delivered(&mut self, window: WindowId) {
        self.0.retain(|_, missing| missing.cover != Some(window));
    }

    /// Notes that all chunks are dropped, so that no chunk brings a value.
    pub fn uncover(&mut self) {
        self.0.values_mut().for_each(|missing| missing.cover = None);
    }
}
