//! Before the first row: the tables are listed under the snapshot, locked, and their statements tried.
//!
//! What is wrong with one table is told of that table, with what to do; the others go on (`docs/internals/copies.md`).

use super::Config;
use super::journal::Left;
use super::plan::{Plan, TablePlan};
use super::ranges::Range;
use crate::postgres::PgError;
use crate::postgres::holder::{Holder, Unlocked};
use crate::table::TableName;
use std::time::Duration;

/// How long a table's lock is waited for. While we wait others queue behind us, so it is not long; ACCESS SHARE
/// conflicts with nothing but ACCESS EXCLUSIVE.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason of a table that this snapshot cannot show: it is copied by windows instead (`docs/internals/copies.md`).
pub const REWRITTEN: &str = "copy_rewritten";

/// A plan whose tables are locked, but for those that are left out.
#[derive(Debug)]
pub struct Prepared {
    /// What is to be copied.
    pub plan: Plan,
    /// By the table's place in the plan.
    pub left: Vec<(usize, Left)>,
}

/// Lists, locks and tries.
///
/// # Errors
/// The connection's: then there is no copy.
pub async fn prepare(
    config: &Config,
    holder: &mut Holder,
    publication: &str,
    captured: &[TableName],
) -> Result<Prepared, PgError> {
    let mut tables = holder.tables(publication).await?;
    tables.retain(|table| captured.contains(&table.name));
    let mut plan = Plan::new(config, tables);
    let mut left = Vec::new();
    for (at, table) in plan.tables.iter_mut().enumerate() {
        if let Some(reason) = ready(holder, table).await? {
            left.push((at, reason));
        }
    }
    Ok(Prepared { plan, left })
}

/// Why a table cannot be copied, if so.
async fn ready(holder: &mut Holder, table: &mut TablePlan) -> Result<Option<Left>, PgError> {
    for part in &table.parts {
        match holder.lock(part, LOCK_TIMEOUT).await? {
            Ok(()) => {}
            Err(Unlocked::Refused(error)) => return Ok(Some(refused(&table.name, &error))),
            Err(Unlocked::Rewritten) => {
                let detail = format!("table {} was rewritten, truncated or dropped before it was locked", part.name);
                let next = "nothing: it is copied beside the stream once the first copy is over".to_owned();
                return Ok(Some(Left { reason: REWRITTEN.to_owned(), detail, next }));
            }
        }
    }
    let name = table.name.to_string();
    if let Some(query) = table.query().map(str::to_owned) {
        let given = match holder.columns_of(&name, &query).await? {
            Ok(given) => given,
            Err(error) => return Ok(Some(refused(&table.name, &error))),
        };
        if let Err(column) = table.fit(&given) {
            let detail = format!("the query of {name} lacks column `{column}`, which is NOT NULL");
            return Ok(Some(left("copy_query", detail, &table.name)));
        }
    }
    if table.parts.is_empty() && table.query().is_none() {
        return Ok(None); // a partitioned table without partitions: no rows
    }
    let whole = Range { table: 0, part: 0, from: 0, to: None };
    match holder.columns_of(&name, &table.select(&whole)).await? {
        Ok(_) => Ok(None),
        Err(error) => Ok(Some(refused(&table.name, &error))),
    }
}

/// A table that the server would not let us read, with what changes that.
#[must_use]
pub fn refused(table: &TableName, error: &PgError) -> Left {
    let again = format!("then `wellspring snapshot {table}` copies it");
    let (detail, state) = match error {
        // A data exception quotes the value.
        PgError::Server { call, object, source } if source.sqlstate.starts_with("22") => (
            format!("{call} {object}: the server reports SQLSTATE {} for a row", source.sqlstate),
            Some(&source.sqlstate),
        ),
        PgError::Server { call, object, source } => (format!("{call} {object}: {source}"), Some(&source.sqlstate)),
        other => (other.to_string(), None),
    };
    let next = match state.map(String::as_str) {
        Some("42501") if detail.contains("row-level security") => {
            format!("give the role BYPASSRLS (row security would hide rows), {again}")
        }
        Some("42501") => format!("GRANT SELECT ON {table} to the role (the whole table, not columns), {again}"),
        Some("42P01") => format!("it is not there any more: take it out of tables.include, or make it again; {again}"),
        Some("53100") => format!("free space on the server's disk (df names the full one), {again}"),
        Some("53400") => format!("raise the limit that the server names, {again}"),
        Some("55P03") => format!("end the transaction that locks the table, {again}"),
        Some(state) if state.starts_with("22") || state.starts_with("42") => {
            format!("correct snapshot.where or snapshot.query of the table, {again}")
        }
        _ => format!("remove the cause, {again}"),
    };
    Left { reason: "copy_refused".to_owned(), detail, next }
}

/// Whether the server is short of something that may be there again by and by: disk, memory, connections, a limit.
#[must_use]
pub fn is_short(error: &PgError) -> bool {
    error.sqlstate().is_some_and(|state| state.starts_with("53"))
}

/// A table left out for a reason of ours.
#[must_use]
pub fn left(reason: &str, detail: String, table: &TableName) -> Left {
    Left { reason: reason.to_owned(), detail, next: format!("`wellspring snapshot {table}` copies it") }
}
