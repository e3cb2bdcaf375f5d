//! `wellspring preview`: what rows of a table become, before and after the transforms. Nothing is
//! sent: Kafka, the registry and the slot are not asked.
//!
//! The plans are made as the agent makes them. Records are shown in JSON, whatever `events.format`
//! is, so that a person can read them. Values are masked as in the records of the agent.

use super::{Code, Failure, block_on, logging, print};
use crate::agent::supervise::PipelineError;
use crate::change::{Context, Marker, Position, Row};
use crate::config::Checked;
use crate::continuity::Chain;
use crate::encode::{Config, Encoder, Format, Ids, Planner, Route};
use crate::lsn::{Lsn, PgMicros, Xid};
use crate::pgoutput::{Cell, CopyRow, OldTuple, Tuple};
use crate::postgres::{PgError, Sql, publication};
use crate::table::{ReplicaIdentity, Table};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The largest number that `--rows` takes. A person reads the rows.
const ROWS_MAX: u64 = 100;

/// The LSN and the transaction id of the shown records. They are not null, because a condition may
/// read them and they are null in no record of the agent.
const INVENTED_LSN: Lsn = Lsn::new(1);
const INVENTED_XID: Xid = Xid(1);

/// Which rows are shown, and as what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The table, as schema.table
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// How many rows of the table to show, those with the highest keys first
    #[arg(
        long, value_name = "N", default_value_t = 3, conflicts_with = "row",
        value_parser = clap::value_parser!(u64).range(1..=ROWS_MAX)
    )]
    rows: u64,
    /// Show this row instead, a JSON object with the names of columns; can be given many times
    #[arg(long, value_name = "JSON")]
    row: Vec<String>,
    /// The change that the rows are shown as [default: read, and insert with --row]
    #[arg(long, value_name = "CHANGE")]
    op: Option<Op>,
}

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Op {
    /// A row that a copy reads
    Read,
    /// A row that is inserted
    Insert,
    /// A row that is deleted, with its tombstone
    Delete,
}

pub(super) fn run(checked: &Checked, arguments: &Arguments) -> Result<Code, Failure> {
    logging::start(checked.log);
    block_on(async {
        let sql = Sql::connect(&checked.postgres).await.map_err(refused)?;
        let candidates = publication::candidates(&sql).await.map_err(refused)?;
        let named = |table: &&publication::Candidate| table.name.to_string() == arguments.table;
        let Some(candidate) = candidates.iter().find(named) else {
            return Err(Failure {
                code: Code::Config,
                primary: format!("there is no table {}", arguments.table),
                details: Vec::new(),
                hint: "write it as schema.table".to_owned(),
            });
        };
        if !checked.selection.matches(&candidate.name) {
            print("the configuration does not capture this table");
        }
        let table = super::check::described(&sql, candidate).await.map_err(refused)?;
        let rows = rows(&sql, &table, arguments).await.map_err(refused)?;
        if rows.is_empty() {
            print(&format!("table {} has no rows; give some by --row", arguments.table));
        }
        let op = arguments.op.unwrap_or(match arguments.row.is_empty() {
            true => Op::Read,
            false => Op::Insert,
        });
        for (number, row) in (1..).zip(&rows) {
            print(&format!("row {number} of {}", arguments.table));
            print(&shown(checked, sql.database(), &table, (op, row))?);
        }
        print("the times, source.lsn, source.sequence and source.txId are invented");
        Ok(Code::Done)
    })?
}

fn refused(error: PgError) -> Failure {
    PipelineError::Postgres(error).into()
}

/// Reads the rows to show from the table, or makes them from `--row`. Each one is a line of COPY in
/// its text format.
async fn rows(sql: &Sql, table: &Table, arguments: &Arguments) -> Result<Vec<Vec<u8>>, PgError> {
    let named = |name: &str| escape_identifier(name);
    let columns: Vec<String> = table.columns.iter().map(|column| named(&column.name)).collect();
    let columns = columns.join(", ");
    let relation = publication::quoted(&table.name);
    let mut statements = Vec::new();
    for row in &arguments.row {
        let row = escape_literal(row);
        statements.push(format!(
            "SELECT {columns} FROM pg_catalog.jsonb_populate_record(NULL::{relation}, {row}::jsonb)"
        ));
    }
    if statements.is_empty() {
        let key = table.key.iter().filter_map(|place| table.columns.get(*place));
        let order: Vec<String> = key.map(|column| named(&column.name) + " DESC").collect();
        // The query of a table without a key has no ORDER BY, because the server would sort the
        // whole table for it.
        let order = match order.is_empty() {
            true => String::new(),
            false => format!(" ORDER BY {}", order.join(", ")),
        };
        let count = arguments.rows;
        statements.push(format!("SELECT {columns} FROM {relation}{order} LIMIT {count}"));
    }
    let mut rows = Vec::new();
    for statement in statements {
        let found = sql.query(&statement).await?;
        rows.extend(found.iter().map(|cells| copied(cells)));
    }
    Ok(rows)
}

/// The line that COPY writes in its text format for a row with these values; `None` is NULL.
fn copied(cells: &[Option<String>]) -> Vec<u8> {
    let text = |cell: &Option<String>| match cell {
        None => "\\N".to_owned(),
        Some(text) => text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
    };
    let cells: Vec<String> = cells.iter().map(text).collect();
    cells.join("\t").into_bytes()
}

/// The text to print for a row: its records without the transforms and then with them, or why it
/// has none. Fails if no plan can be made for the table.
fn shown(
    checked: &Checked,
    database: &str,
    table: &Table,
    (op, row): (Op, &[u8]),
) -> Result<String, Failure> {
    let config = Config { format: Format::Json, ..checked.encode.clone() };
    let plain = Config { transforms: Arc::default(), ..config.clone() };
    // The plan in the configured format is made first, because the agent would refuse a table that
    // this format cannot express. The records below are in JSON.
    let planner = Planner::new(checked.encode.clone(), database, "preview", 1);
    planner.draft(table).map_err(|error| {
        let hint = error.next();
        Failure::of(Code::Config, &error, hint.as_deref().unwrap_or(""))
    })?;
    let mut copy = CopyRow::default();
    let tuple = copy
        .read(row, table.columns.len())
        .map_err(|error| Failure::of(Code::Failed, &error, ""))?;
    let mut text = String::new();
    if let Some(column) = lacking(table, op, tuple) {
        return Ok(format!(
            "  column `{column}` was not given, and takes no NULL; add it to --row"
        ));
    }
    for (title, config) in [("before", plain), ("after", config)] {
        let planner = Planner::new(config, database, "preview", 1);
        match records(&planner, table, (op, tuple)) {
            Ok(records) if records.is_empty() => {
                let _ = writeln!(text, "  {title}: nothing is sent"); // a String takes it
            }
            Ok(records) => {
                for record in records {
                    let _ = writeln!(text, "  {title}:\n{record}");
                }
            }
            Err(why) => {
                let _ = writeln!(text, "  {title}: the stream would halt: {why}");
            }
        }
    }
    Ok(text.trim_end().to_owned())
}

/// The name of the first column that is NOT NULL and is NULL in the given row; `None` if there is
/// none. Of the old row of a delete, only columns of the replica identity need a value.
fn lacking<'t>(table: &'t Table, op: Op, tuple: Tuple<'_>) -> Option<&'t str> {
    let is_whole = op != Op::Delete || table.identity == ReplicaIdentity::Full;
    let mut cells = table.columns.iter().zip(tuple.cells());
    let found = cells.find(|(column, cell)| {
        column.not_null && *cell == Cell::Null && (is_whole || column.in_identity)
    });
    found.map(|(column, _)| &*column.name)
}

/// The records of a row as text, or the error at which the stream would halt. A row that the
/// transforms drop has no records.
fn records(
    planner: &Planner,
    table: &Table,
    (op, tuple): (Op, Tuple<'_>),
) -> Result<Vec<String>, String> {
    let row = match (op, table.identity) {
        (Op::Read, _) => Row::Read { new: tuple },
        (Op::Insert, _) => Row::Insert { new: tuple },
        (Op::Delete, ReplicaIdentity::Full) => Row::Delete { old: OldTuple::Full(tuple) },
        (Op::Delete, _) => Row::Delete { old: OldTuple::Key(tuple) },
    };
    let told = |error: &dyn std::error::Error| Chain(error).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| told(&error))?;
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let committed_at = PgMicros::from_unix_micros(micros);
    let context = Context {
        position: Position::default(),
        lsn: INVENTED_LSN,
        last_commit: None,
        xid: Some(INVENTED_XID),
        committed_at,
        origin: None,
        xmin: None,
        marker: match op {
            Op::Read => Marker::Inside,
            Op::Insert | Op::Delete => Marker::Streamed,
        },
    };
    let mut plan = planner.draft(table).map_err(|error| told(&error))?.into_plan(Ids::default());
    if let Some(router) = plan.router().cloned() {
        let mut route = String::new();
        match router.of(&row, &context, &mut route).map_err(|error| told(&error))? {
            Route::Found => {
                router.check(&route, std::iter::empty()).map_err(|error| told(&error))?;
                let draft = planner.routed(&router, &route).map_err(|error| told(&error))?;
                plan = draft.into_plan(Ids::default());
            }
            Route::Own => {}
            Route::Nowhere | Route::Unexpected => return Ok(Vec::new()),
        }
    }
    let mut encoder = Encoder::new();
    let nanos = micros.saturating_mul(1000);
    encoder.row(&plan, &context, &row, nanos).map_err(|error| told(&error))?;
    let part = |part: Option<&[u8]>| {
        part.map_or_else(|| "none".to_owned(), |it| String::from_utf8_lossy(it).into_owned())
    };
    let records = encoder.records().map(|record| {
        let mut text = format!("    topic    {}\n    key      {}", plan.topic(), part(record.key));
        for (name, value) in record.headers() {
            let _ = write!(text, "\n    header   {name}={}", part(value)); // a String takes it
        }
        let _ = write!(text, "\n    value    {}", part(record.value));
        text
    });
    Ok(records.collect())
}
