//! Which records a plan has sent whose schema ids the registry has not confirmed.

use crate::change::Position;
use std::cell::Cell;

/// The first and the last Position of a plan's records. Shared by every copy of the plan in this process: a later
/// connection goes on with what an earlier one noted.
#[derive(Debug, Default)]
pub struct Uses(Cell<Option<(Position, Position)>>);

impl Uses {
    /// A record at this Position is handed to the producer.
    pub fn note(&self, at: Position) {
        let (first, last) = self.0.get().unwrap_or((at, at));
        self.0.set(Some((first.min(at), last.max(at))));
    }

    /// The first and the last Position; none if nothing was sent.
    #[must_use]
    pub fn span(&self) -> Option<(Position, Position)> {
        self.0.get()
    }
}
