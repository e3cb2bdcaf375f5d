//! A chunk that was read. It holds its rows until they are sent, and its end until they are
//! delivered.

use super::moved::WindowId;
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use crate::snapshot::keyset::RowKey;
use crate::snapshot::visibility::PgSnapshot;
use std::collections::HashMap;

/// A row of an open chunk, and the index of another row with the same key. A unique index admits
/// several rows whose key holds NULL.
#[derive(Debug)]
struct Waiting<R> {
    row: Option<R>,
    same: Option<usize>,
}

/// A chunk with rows that are not sent yet, or whose position the stream has not passed.
#[derive(Debug)]
pub(super) struct Window<R> {
    pub id: WindowId,
    pub end: End,
    pub snapshot: PgSnapshot,
    pub upto: Lsn,
    rows: Vec<Waiting<R>>,
    index: HashMap<RowKey, usize>,
    /// Index in `rows`. All rows before it were taken out.
    cursor: usize,
    pub left: usize,
    pub size_bytes: usize,
    pub passed: bool,
}

/// The progress of the copy when a chunk is delivered.
#[derive(Debug)]
pub(super) struct End {
    /// Last key that was read up to the end of this chunk. `None` for a chunk of given keys, or if
    /// no row was read.
    pub after: Option<RowKey>,
    pub last: bool,
    pub rows: u64,
}

impl End {
    pub fn is_of_range(&self) -> bool {
        self.after.is_some() || self.last
    }
}

/// A chunk whose rows are all sent, under tickets below `below`.
#[derive(Debug)]
pub(super) struct Leaving {
    pub id: WindowId,
    pub end: End,
    pub upto: Lsn,
    pub below: Ticket,
}

impl<R> Window<R> {
    pub fn new(
        id: WindowId,
        end: End,
        snapshot: PgSnapshot,
        upto: Lsn,
        rows: Vec<(RowKey, R)>,
        size_bytes: usize,
    ) -> Self {
        let mut window = Window {
            id,
            end,
            snapshot,
            upto,
            left: rows.len(),
            rows: Vec::with_capacity(rows.len()),
            index: HashMap::with_capacity(rows.len()),
            cursor: 0,
            size_bytes,
            passed: false,
        };
        for (at, (key, row)) in rows.into_iter().enumerate() {
            let same = window.index.insert(key, at);
            window.rows.push(Waiting { row: Some(row), same });
        }
        window
    }

    /// True if the chunk was read with this key, even if its row was taken out since.
    pub fn held(&self, key: &RowKey) -> bool {
        self.index.contains_key(key)
    }

    /// True if a row of this key is still in the chunk.
    pub fn holds(&self, key: &RowKey) -> bool {
        self.index
            .get(key)
            .and_then(|at| self.rows.get(*at))
            .is_some_and(|waiting| waiting.row.is_some())
    }

    /// Takes all rows of a key out of the chunk.
    pub fn take(&mut self, key: &RowKey, out: &mut Vec<R>) {
        let mut at = self.index.get(key).copied();
        while let Some(waiting) = at.and_then(|at| self.rows.get_mut(at)) {
            if let Some(row) = waiting.row.take() {
                out.push(row);
                self.left -= 1;
            }
            at = waiting.same;
        }
    }

    pub(crate) fn take_all(&mut self, out: &mut Vec<R>) {
        out.extend(std::iter::from_fn(|| self.next()));
    }

    /// Takes the next row out of the chunk.
    pub fn next(&mut self) -> Option<R> {
        while let Some(waiting) = self.rows.get_mut(self.cursor) {
            self.cursor += 1;
            if let Some(row) = waiting.row.take() {
                self.left -= 1;
                return Some(row);
            }
        }
        None
    }
}
