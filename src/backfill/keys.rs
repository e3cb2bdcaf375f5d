//! Reads the keys of changes and of copied rows from their tuples.

use super::{Held, RowKey, Shape};
use crate::change::Row;
use crate::encode::Plan;
use crate::lsn::Lsn;
use crate::pgoutput::{Cell, CopyRow, OldTuple, Tuple};
use crate::postgres::copies::Piece;
use crate::snapshot::reader::Chunk;
use crate::snapshot::visibility::FullXid;
use crate::snapshot::window::{Before, Kind, Touch, Windows};
use std::rc::Rc;

/// Asks the chunks of a table what the row path has to do before it sends a change of the table.
pub(super) fn ask(
    windows: &mut Windows<Held>,
    xid: FullXid,
    commit: Lsn,
    plan: &Plan,
    row: &Row<'_>,
) -> Before<Held> {
    let (old, key, unsent) = match *row {
        Row::Insert { new } | Row::Read { new } => (None, key_of(plan, new, None), false),
        Row::Delete { old } => (None, key_of(plan, old.tuple(), None), false),
        Row::Update { old, new } => {
            let before = old.map(OldTuple::tuple);
            let key = key_of(plan, new, before);
            let old_key = before
                .and_then(|before| key_of(plan, before, None))
                .filter(|old| Some(old) != key.as_ref());
            // With REPLICA IDENTITY FULL, the old row holds the values that the new row does not
            // repeat.
            let whole = matches!(old, Some(OldTuple::Full(_)));
            (old_key, key, !whole && new.cells().any(|cell| matches!(cell, Cell::Unchanged)))
        }
        Row::Truncate => return windows.before(&Touch { xid, commit, kind: Kind::Truncate }),
    };
    // A row without its key cannot be encoded, which halts the stream. So no order has to be kept
    // for such a row.
    let Some(key) = key else { return Before::Nothing };
    windows.before(&Touch { xid, commit, kind: Kind::Row { old: old.as_ref(), key: &key, unsent } })
}

/// Returns the key of the row in `tuple`, as texts. A value that the tuple marks as unchanged is
/// taken from `before`. `None` if a value of the key is missing.
fn key_of(plan: &Plan, tuple: Tuple<'_>, before: Option<Tuple<'_>>) -> Option<RowKey> {
    let part = |place: usize| {
        let cell = match (tuple.cells().nth(place)?, before) {
            (Cell::Unchanged, Some(before)) => before.cells().nth(place)?,
            (cell, _) => cell,
        };
        match cell {
            Cell::Null => Some(None),
            Cell::Text(text) => Some(Some(text)),
            Cell::Unchanged | Cell::Binary(_) => None,
        }
    };
    RowKey::new(plan.key_places().map(part).collect::<Option<Vec<_>>>()?)
}

/// The rows of a chunk, each with its key.
///
/// # Errors
/// A sentence about a line that is not a row of the table.
pub(super) fn rows(
    chunk: &Chunk,
    shape: &Rc<Shape>,
    places: &[usize],
    row: &mut CopyRow,
) -> Result<Vec<(RowKey, Held)>, String> {
    let mut rows = Vec::with_capacity(chunk.pieces.iter().map(Piece::rows).sum());
    for piece in &chunk.pieces {
        let mut at = 0;
        while let Some((line, next)) = piece.line(at) {
            at = next;
            let tuple = row.read(line, shape.columns).map_err(|error| error.to_string())?;
            let part = |place: &usize| match tuple.cells().nth(*place) {
                Some(Cell::Text(text)) => Some(Some(text)),
                Some(Cell::Null) => Some(None),
                _ => None,
            };
            let key = places.iter().map(part).collect::<Option<Vec<_>>>().and_then(RowKey::new);
            let key = key.ok_or_else(|| {
                "a copied row lacks a column of its key, or it is not UTF-8".to_owned()
            })?;
            rows.push((key, Held { line: line.into(), shape: Rc::clone(shape) }));
        }
    }
    Ok(rows)
}
