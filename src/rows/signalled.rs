//! Rows that are signals: inserted into the table that the configuration names.

use crate::change::{Context, Row};
use crate::encode::Plan;
use crate::lsn::Lsn;
use crate::pgoutput::{Cell, Tuple};
use crate::snapshot::signal::shown_id;

/// A signal's row, to be acted on where it stands in the stream.
pub struct Signalled {
    /// The commit that inserted it.
    pub commit: Lsn,
    /// Its id, for the log.
    pub id: String,
    /// The column `type`.
    pub kind: Option<String>,
    /// The column `data`.
    pub data: Option<String>,
}

impl std::fmt::Debug for Signalled {
    /// Row values stay out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signalled({})", self.commit)
    }
}

/// Where `id`, `type` and `data` are in a table's rows: by their names, or in this order where it has three columns.
pub fn places(plan: &Plan) -> Option<[usize; 3]> {
    let columns: Vec<&str> = (0..).map_while(|place| plan.column(place)).collect();
    let named = |name: &str| columns.iter().position(|column| *column == name);
    match (named("id"), named("type"), named("data")) {
        (Some(id), Some(kind), Some(data)) => Some([id, kind, data]),
        _ => (columns.len() == 3).then_some([0, 1, 2]),
    }
}

/// The signal in a row, if it is an inserted one.
pub(super) fn read(places: [usize; 3], context: &Context<'_>, row: &Row<'_>) -> Option<Signalled> {
    let Row::Insert { new } = *row else { return None };
    let [id, kind, data] = places.map(|place| text(new, place));
    let id = shown_id(&id.unwrap_or_default());
    Some(Signalled { commit: context.position.commit, id, kind, data })
}

fn text(row: Tuple<'_>, place: usize) -> Option<String> {
    match row.cells().nth(place)? {
        Cell::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Cell::Null | Cell::Unchanged | Cell::Binary(_) => None,
    }
}
