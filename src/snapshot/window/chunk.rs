//! A chunk that was read. The chunk keeps its rows until they are sent, and the progress that it
//! means for the copy (`End`) until they are delivered.

use super::moved::WindowId;
use crate::ledger::Ticket;
use crate::lsn::Lsn;
use crate::snapshot::keyset::RowKey;
use crate::snapshot::visibility::PgSnapshot;
use std::collections::HashMap;

/// A row of an open chunk (`None` after it was taken out), and the index of another row with the
/// same key. A unique index admits several rows whose key holds NULL.
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
    /// Index in `rows` of the row at which the search for the next row begins. All rows before this
    /// one were taken out.
    cursor: usize,
    pub left: usize,
    pub size_bytes: usize,
    pub passed: bool,
}

/// The progress of the copy that the journal records when a chunk is delivered.
#[derive(Debug)]
pub(super) struct End {
    /// The last key that the copy has read when this chunk ends. `None` for a chunk of given keys,
    /// or if the copy has read no row.
    pub after: Option<RowKey>,
    pub last: bool,
    pub rows: u64,
}

impl End {
    pub fn is_of_range(&self) -> bool {
        self.after.is_some() || self.last
    }
}

/// A chunk whose rows were all sent, and which may not be delivered yet. The tickets of its rows
/// are below `below`.
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

    /// True if the chunk had a row of this key when it was read, even if that row was taken out
    /// since.
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

    /// Takes all rows of a key out of the chunk, and appends them to `out`.
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

    /// Takes the next row out of the chunk. `None` if every row was taken out.
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
