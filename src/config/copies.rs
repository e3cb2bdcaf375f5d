//! `[snapshot]`: how existing rows are copied.

use super::document::Value;
use super::reader::Reader;
use super::value::{self, Expected};
use crate::snapshot::{self, Mode};
use crate::table::names::{NameOf, NamePattern};
use crate::table::{Selection, TableName};

/// Highest accepted `snapshot.rows_per_second`. No copy is faster, so a higher one would not limit
/// it.
const ROWS_PER_SECOND_MAX: i32 = 100_000_000;

const MODES: [(&str, Mode); 6] = [
    ("initial", Mode::Initial),
    ("no_data", Mode::NoData),
    ("initial_only", Mode::InitialOnly),
    ("always", Mode::Always),
    ("when_needed", Mode::WhenNeeded),
    ("windows", Mode::Windows),
];

/// Reads every key of `[snapshot]`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<snapshot::Config> {
    let mode = reader.or("snapshot.mode", value::one_of(&MODES), "initial");
    let defaults = snapshot::Config::new(mode.unwrap_or_default());
    let workers = reader.optional("snapshot.workers", value::count(1, snapshot::WORKERS_MAX));
    let rows_per_second =
        reader.optional("snapshot.rows_per_second", value::count(1, ROWS_PER_SECOND_MAX));
    let skip = reader.or("snapshot.skip", value::texts, "[]");
    let order = reader.or("snapshot.order", value::texts, "[]");
    let conditions = reader.map("snapshot.where", |_| false);
    let queries = reader.map("snapshot.query", |_| false);
    for table in conditions.keys().filter(|table| queries.contains_key(*table)) {
        reader.fault(
            &format!("snapshot.where.{table}"),
            "the table has a query too, which is read instead of it: put the condition there",
        );
    }
    let signal_table = reader.optional("snapshot.signal_table", one_table);
    let signal_topic = super::capture::topic(reader, "snapshot.signal_topic");
    let skip = match Selection::new(&skip?, &[]) {
        Ok(selection) => Some(selection),
        Err((bad, _)) => {
            bad.iter().for_each(|bad| reader.fault("snapshot.skip", bad.to_string()));
            None
        }
    };
    Some(snapshot::Config {
        mode: mode?,
        workers: workers
            .and_then(|workers| usize::try_from(workers).ok())
            .unwrap_or(defaults.workers),
        rows_per_second: rows_per_second.map(|rows| rows.unsigned_abs().into()),
        skip: Some(skip?),
        order: order?,
        conditions,
        queries,
        signal_table: signal_table.map(|table| table.to_string()),
        signal_topic: signal_topic?,
    })
}

/// Reads the exact name of one table.
fn one_table(given: &Value) -> Result<TableName, Expected> {
    let expected = || "the name of one table as namespace.name, in quotes".to_owned();
    let pattern = NamePattern::read(&value::text(given)?, NameOf::Table).map_err(|_| expected())?;
    match pattern.exact().as_deref() {
        Some([namespace, name]) => Ok(TableName::new(namespace, name)),
        _ => Err(expected()),
    }
}
