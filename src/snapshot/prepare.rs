//! Prepares a first copy before its first row: lists the tables under the snapshot, locks them, and
//! tries their statements.
//!
//! A table that cannot be copied gets a reason and a next step, and the others go on
//! (`docs/internals/copies.md`).

use super::Config;
use super::journal::Left;
use super::plan::{Plan, TablePlan};
use super::ranges::Range;
use crate::postgres::PgError;
use crate::postgres::holder::{Holder, Unlocked};
use crate::reason::CopyReason;
use crate::table::TableName;
use crate::table::typed::{in_sql, snapshot_of};
use std::time::Duration;

/// How long the copy waits for the lock of a table. The wait must not be long, because other
/// sessions wait behind this lock request meanwhile. ACCESS SHARE conflicts with ACCESS EXCLUSIVE
/// only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The next step for a table that a backfill copies after the first copy.
const BACKFILL: &str =
    "nothing has to be done; a backfill copies the table when the first copy is over";

/// The plan of a first copy. Its tables are locked, except for those that are left out.
#[derive(Debug)]
pub struct Prepared {
    /// All tables of the copy, including those that are left out.
    pub plan: Plan,
    /// Tables that are left out, by their index in the plan.
    pub left: Vec<(usize, Left)>,
}

/// Lists the tables, locks them, and tries their statements.
///
/// # Errors
/// The error of the connection. The copy does not begin then.
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

/// Locks a table and tries its statement. Returns the reason if the table cannot be copied, and
/// `None` if it can.
async fn ready(holder: &mut Holder, table: &mut TablePlan) -> Result<Option<Left>, PgError> {
    for part in &table.parts {
        match holder.lock(part, LOCK_TIMEOUT).await? {
            Ok(()) => {}
            Err(Unlocked::Refused(error)) => return Ok(Some(unread(&table.name, &error))),
            Err(Unlocked::Rewritten) => {
                let detail = format!(
                    "table {} was rewritten, truncated or dropped before it was locked",
                    part.name
                );
                return Ok(Some(Left::new(CopyReason::CopyRewritten, detail, BACKFILL)));
            }
        }
    }
    let name = table.name.to_string();
    if let Some(query) = table.query().map(str::to_owned) {
        let given = match holder.columns_of(&name, &query).await? {
            Ok(given) => given,
            Err(error) => return Ok(Some(unread(&table.name, &error))),
        };
        if let Err(column) = table.fit(&given) {
            let detail = format!("the query of {name} lacks column `{column}`, which is NOT NULL");
            return Ok(Some(left(CopyReason::CopyQuery.code(), detail, &table.name)));
        }
    }
    if table.parts.is_empty() && table.query().is_none() {
        // A partitioned table without partitions has no rows.
        return Ok(None);
    }
    let whole = Range { table: 0, part: 0, from: 0, to: None };
    match holder.columns_of(&name, &table.select(&whole)).await? {
        Ok(_) => Ok(None),
        Err(error) => Ok(Some(unread(&table.name, &error))),
    }
}

/// The reason why the first copy lacks a table that the server did not read. If the cause may pass,
/// the table is left to a backfill, which tries again.
#[must_use]
pub fn unread(table: &TableName, error: &PgError) -> Left {
    let left = refused(table, error);
    if error.sqlstate().is_none_or(is_final) {
        return left;
    }
    Left::new(CopyReason::CopyPostponed, left.detail, BACKFILL)
}

/// The reason and the next step for a table that the server refuses to read.
#[must_use]
pub fn refused(table: &TableName, error: &PgError) -> Left {
    let again = format!("then {} copies it", snapshot_of(&table.to_string()));
    let (detail, state) = match error {
        // The message of a data exception quotes the value, and the message of a user's function
        // may quote it too.
        PgError::Server { call, object, source }
            if matches!(source.sqlstate.get(..2), Some("22" | "P0")) =>
        {
            (
                format!(
                    "{call} {object}: the server reports SQLSTATE {} for a row",
                    source.sqlstate
                ),
                Some(&source.sqlstate),
            )
        }
        PgError::Server { call, object, source } => {
            (format!("{call} {object}: {source}"), Some(&source.sqlstate))
        }
        other => (other.to_string(), None),
    };
    let next = match state.map(String::as_str) {
        Some("42501") if detail.contains("row-level security") => {
            format!("give the role BYPASSRLS (row security would hide rows), {again}")
        }
        Some("42501") => {
            format!(
                "GRANT SELECT ON {} to the role (the whole table, not columns), {again}",
                in_sql(&table.to_string())
            )
        }
        Some("42P01") => format!(
            "it is not there any more: take it out of tables.include, or make it again; {again}"
        ),
        Some("53100") => {
            format!("free space on the server's disk (df names the full one), {again}")
        }
        Some("53400") => format!("raise the limit that the server names, {again}"),
        Some("55P03") => format!("end the transaction that locks the table, {again}"),
        Some(state) if state.starts_with("22") || state.starts_with("42") => {
            format!("correct snapshot.where or snapshot.query of the table, {again}")
        }
        _ => format!("remove the cause, {again}"),
    };
    Left::new(CopyReason::CopyRefused, detail, next)
}

/// True if the server lacks something that may be available again later: disk, memory, connections,
/// or room below a limit.
#[must_use]
pub fn is_short(error: &PgError) -> bool {
    error.sqlstate().is_some_and(|state| state.starts_with("53"))
}

/// Whether the server would refuse the same statement again after an error with the SQLSTATE
/// `state`. The refusal is then about rights, names, conditions, values, or damaged pages.
#[must_use]
pub fn is_final(state: &str) -> bool {
    matches!(state.get(..2), Some("42" | "22" | "0A" | "P0"))
        || matches!(state, "28000" | "XX001" | "XX002")
}

/// Makes the reason for a table that this program leaves out although the server can read it.
#[must_use]
pub fn left(reason: &str, detail: String, table: &TableName) -> Left {
    Left {
        reason: reason.to_owned(),
        detail,
        next: format!("{} copies it", snapshot_of(&table.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::ServerError;

    fn error(sqlstate: &str) -> PgError {
        let source = ServerError {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: "m".to_owned(),
            detail: None,
            hint: None,
        };
        PgError::Server { call: "copy", object: "p.t".to_owned(), source: Box::new(source) }
    }

    #[test]
    fn what_may_pass_leaves_a_table_to_a_backfill() {
        let table = TableName::new("p", "t");
        // The codes mean: cancelled, deadlock, lock timeout, out of memory, disk full, recovery
        // conflict, internal error.
        for passes in ["57014", "40P01", "55P03", "53200", "53100", "40001", "XX000"] {
            assert!(unread(&table, &error(passes)).is_owed(), "{passes}");
        }
        for stays in ["42501", "22012", "0A000", "28000", "P0001", "XX001"] {
            let left = unread(&table, &error(stays));
            assert!(left.is_of(CopyReason::CopyRefused), "{stays}: {left:?}");
            assert!(left.next.contains("wellspring snapshot p.t"), "{stays}: {left:?}");
        }
    }
}
