//! Tests of the decoder of pgoutput with three kinds of bytes: those of an encoder that shares no
//! code with it, recorded streams of real servers, and damaged recordings. Tests of single messages
//! are in `src/pgoutput/tests.rs`.

mod model;
mod damage;
mod properties;
mod recorded;

use std::path::PathBuf;
use wellspring::change::Changes;
use wellspring::lsn::{Lsn, PgMicros};
use wellspring::pgoutput::{self, Message, Tuple};

/// The folder of the recordings.
fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "pgoutput"].iter().collect()
}

/// Decodes a message, reads every value that it borrows, and gives it to `change`. False if the
/// decoder or `change` refuses it.
fn swallow(changes: &mut Changes, start: Lsn, bytes: &[u8]) -> bool {
    let Ok(message) = pgoutput::decode(bytes) else { return false };
    walk(&message);
    let placed = changes.look(start, PgMicros(0), message).is_ok();
    if placed {
        changes.take(&message);
    }
    placed
}

/// Reads every value that a message borrows, and checks rows against their number of columns and
/// their size.
fn walk(message: &Message<'_>) {
    match *message {
        Message::Relation(relation) => drop(relation.columns().collect::<Vec<_>>()),
        Message::Truncate(truncate) => drop(truncate.relations().collect::<Vec<_>>()),
        Message::Insert { new, .. } => walk_row(new),
        Message::Update { old, new, .. } => {
            walk_row(new);
            old.into_iter().for_each(|old| walk_row(old.tuple()));
        }
        Message::Delete { old, .. } => walk_row(old.tuple()),
        _ => {}
    }
}

fn walk_row(row: Tuple<'_>) {
    let mut spans = Vec::new();
    row.index_into(&mut spans);
    assert_eq!(spans.len(), row.len());
    assert!(
        spans.capacity() <= row.len().next_power_of_two().max(4),
        "room for more columns than there are"
    );
    assert!(row.cells().eq(spans.iter().map(|span| row.cell(*span))));
    assert!(spans.iter().map(|span| span.size_bytes()).sum::<usize>() <= row.size_bytes());
}
