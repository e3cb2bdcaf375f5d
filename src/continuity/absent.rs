//! The halt about WAL that nothing can decode, because the publication did not exist under its name
//! when the WAL was written. Only the failure of a stream at that WAL shows the fault.

use super::{Halt, Observed, Reason};
use crate::lsn::Lsn;

/// The halt about changes after `from` that cannot be decoded, although the publication exists now.
/// The range begins at `from`, or at the slot's confirmed position if that is lower.
#[must_use]
pub fn absent(publication: &str, from: Lsn, seen: &Observed) -> Halt {
    let confirmed = seen.slot.as_ref().and_then(|slot| slot.confirmed);
    let from = from.min(confirmed.unwrap_or(Lsn::ZERO));
    let detail = format!(
        "publication `{publication}` exists, but it did not exist under this name somewhere in the \
         WAL after {from}, which Postgres therefore cannot decode"
    );
    Halt::new(Reason::PublicationAbsent, detail).over(from, seen.server)
}
