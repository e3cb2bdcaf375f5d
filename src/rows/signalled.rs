//! Rows that are signals: inserts into the table that `snapshot.signal_table` names.

use crate::change::{Context, Row};
use crate::encode::Plan;
use crate::lsn::Lsn;
use crate::pgoutput::{Cell, Tuple};
use crate::snapshot::signal::shown_id;

/// A signal that was inserted as a row into the signal table. The stream does not go on before the
/// signal is obeyed.
pub struct Signalled {
    /// Start of the commit record of the transaction that inserted the row.
    pub commit: Lsn,
    /// Id of the signal, as it is shown in the log.
    pub id: String,
    /// Value of the column `type`; `None` if the column is null.
    pub kind: Option<String>,
    /// Value of the column `data`; `None` if the column is null.
    pub data: Option<String>,
}

impl std::fmt::Debug for Signalled {
    /// Row values stay out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signalled({})", self.commit)
    }
}

/// Indices of the columns `id`, `type` and `data` of the signal table, found by their names. If the
/// names are others and the table has three columns, the order of the columns decides. `None` for
/// any other table.
pub fn places(plan: &Plan) -> Option<[usize; 3]> {
    let columns: Vec<&str> = (0..).map_while(|place| plan.column(place)).collect();
    let named = |name: &str| columns.iter().position(|column| *column == name);
    match (named("id"), named("type"), named("data")) {
        (Some(id), Some(kind), Some(data)) => Some([id, kind, data]),
        _ => (columns.len() == 3).then_some([0, 1, 2]),
    }
}

/// Reads the signal from a row of the signal table. `places` are the indices that [`places`]
/// returns. `None` if the change is not an insert.
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
