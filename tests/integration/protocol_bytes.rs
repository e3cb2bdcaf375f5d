//! pgoutput by its bytes: against an encoder written apart from the decoder, against recorded streams of real servers
//! and against those streams damaged. Single messages in hexadecimal stand in `src/pgoutput/tests.rs`.

mod model;
mod damage;
mod properties;
mod recorded;

use std::path::PathBuf;
use wellspring::change::Changes;
use wellspring::lsn::{Lsn, PgMicros};
use wellspring::pgoutput::{self, Message, Tuple};

/// Where the recordings are.
fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "pgoutput"].iter().collect()
}

/// Decodes and places one message and reads everything that it lends; false where either refuses it.
fn swallow(changes: &mut Changes, start: Lsn, bytes: &[u8]) -> bool {
    let Ok(message) = pgoutput::decode(bytes) else { return false };
    walk(&message);
    let placed = changes.look(start, PgMicros(0), message).is_ok();
    if placed {
        changes.take(&message);
    }
    placed
}

/// Reads whatever a message lends, and holds it against what the message says of itself.
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
