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
    /// The transaction that moved the row.
    pub xid: FullXid,
    /// The chunk that brings the value when it is delivered. `None` if the row has to be read
    /// again.
    pub cover: Option<WindowId>,
}

/// Rows of which the consumer lacks a value, by the key to which they moved.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<RowKey, Missing>);

impl Moved {
    /// The rows that a journal lists. The journal does not hold the transactions that moved the
    /// rows, and they are not needed: the first snapshot waits for the changes that were sent, and
    /// the server repeats the others.
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

    /// Keys that have to be read again, at most `max` of them.
    pub fn uncovered(&self, max: usize) -> Vec<RowKey> {
        self.0
            .iter()
            .filter(|(_, missing)| missing.cover.is_none())
            .take(max)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Adds a row at this key. Returns true if the key was not in the list.
    pub fn insert(&mut self, key: &RowKey, missing: Missing) -> bool {
        self.0.insert(key.clone(), missing).is_none()
    }

    /// What is known of the row at this key, if it lacks a value.
    pub fn get(&self, key: &RowKey) -> Option<Missing> {
        self.0.get(key).copied()
    }

    /// Removes a key: its row is gone, or all its values are sent.
    pub fn remove(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes that a chunk was read under this snapshot. The chunk brings the rows at the keys for
    /// which `holds` is true.
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

    /// Removes the rows that a delivered chunk has brought.
    pub fn delivered(&mut self, window: WindowId) {
        self.0.retain(|_, missing| missing.cover != Some(window));
    }

    /// Notes that all chunks are dropped, so that no chunk brings a value.
    pub fn uncover(&mut self) {
        self.0.values_mut().for_each(|missing| missing.cover = None);
    }
}
