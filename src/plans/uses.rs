//! The Positions of records that a plan sent before the registry confirmed its schema ids.

use crate::change::Position;
use std::cell::Cell;

/// First and last Position of the records that were sent with one plan. If a later connection makes
/// the same plan while an id is not confirmed, both plans share one value.
#[derive(Debug, Default)]
pub struct Uses(Cell<Option<(Position, Position)>>);

impl Uses {
    /// Notes that a record at this Position was handed to the producer.
    pub fn note(&self, at: Position) {
        let (first, last) = self.0.get().unwrap_or((at, at));
        self.0.set(Some((first.min(at), last.max(at))));
    }

    /// The first and the last Position. `None` if no record was sent.
    #[must_use]
    pub fn span(&self) -> Option<(Position, Position)> {
        self.0.get()
    }
}
