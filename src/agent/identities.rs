//! Sets replica identities where the operator asks for it, in `tables.set_replica_identity`.
//!
//! This happens at each connect until the process streams for the first time, before the connect
//! creates a publication. Only selected tables whose identity differs are changed, and each
//! statement is logged. An identity that would make the application's UPDATE fail is refused.

use super::Config;
use super::supervise::PipelineError;
use crate::continuity::{Trouble, TroubleReason};
use crate::postgres::identity::{self, Wanted};
use crate::postgres::publication::{self, Candidate, RelationKind};
use crate::postgres::{PgError, Sql};
use crate::table::TableName;
use std::time::Duration;

/// ALTER TABLE locks its table for a moment. Behind a long transaction it gives up after this time,
/// because other statements would queue behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Gives the selected tables the replica identities that the configuration asks for.
///
/// # Errors
/// The connection fails, or an identity cannot be set: rules contradict each other, a key, an index
/// or a right is missing, or a table stays locked.
pub(super) async fn set(config: &Config, sql: &Sql) -> Result<(), PipelineError> {
    if config.identities.is_empty() {
        return Ok(());
    }
    let partitions = config.selection.partitions();
    for table in publication::candidates(sql).await? {
        if !table.logged
            || !table.stands_for_itself(partitions)
            || !config.selection.matches(&table.name)
        {
            continue;
        }
        let Some(wanted) = wanted(&config.identities, &table)? else { continue };
        for present in identity::read(sql, table.relation).await? {
            if present.is(wanted) {
                continue;
            }
            if *wanted == Wanted::Default && !present.primary_key {
                let what = format!(
                    "{} has no primary key: with DEFAULT its UPDATE and DELETE would fail",
                    present.name
                );
                return Err(refused(what));
            }
            change(sql, &present.name, wanted).await?;
        }
    }
    Ok(())
}

/// Finds the replica identity that the rules ask for. `None` if no rule names the table. An error
/// if two rules ask for different identities, or if a rule cannot be applied to the table.
fn wanted<'r>(
    rules: &'r [identity::Rule],
    table: &Candidate,
) -> Result<Option<&'r Wanted>, PipelineError> {
    let name = [&*table.name.namespace, &*table.name.name];
    let mut found: Option<&identity::Rule> = None;
    for rule in rules {
        match rule.tables.tells(&name) {
            Some(false) => continue,
            Some(true) => {}
            None => {
                return Err(refused(format!(
                    "`{}` takes too long on {}",
                    rule.tables.text(),
                    table.name
                )));
            }
        }
        match found {
            Some(other) if other.identity != rule.identity => {
                let (one, two) = (other.tables.text(), rule.tables.text());
                return Err(refused(format!(
                    "`{one}` and `{two}` both fit {} and want different ones",
                    table.name
                )));
            }
            _ => found = Some(rule),
        }
    }
    let wanted = found.map(|rule| &rule.identity);
    if matches!(wanted, Some(Wanted::Index(_))) && table.kind == RelationKind::Partitioned {
        return Err(refused(format!(
            "{} is partitioned: its partitions' indexes have names of their own",
            table.name
        )));
    }
    Ok(wanted)
}

async fn change(sql: &Sql, table: &TableName, wanted: &Wanted) -> Result<(), PipelineError> {
    let statement = identity::set_sql(table, wanted);
    match identity::set(sql, table, wanted, LOCK_TIMEOUT).await {
        Ok(()) => {
            tracing::info!(
                %table, statement,
                "set a replica identity, as tables.set_replica_identity asks"
            );
            Ok(())
        }
        Err(error) => Err(failed(table, &statement, error)),
    }
}

fn failed(table: &TableName, statement: &str, error: PgError) -> PipelineError {
    let trouble = |detail| {
        Trouble::plain(TroubleReason::PublicationIncomplete, detail, &format!("{statement};"))
    };
    match error.sqlstate() {
        Some("42501") => {
            PipelineError::Trouble(trouble(format!("the role may not alter {table}: {error}")))
        }
        Some("55P03") => PipelineError::Trouble(trouble(format!(
            "{table} is locked, its replica identity is not set"
        ))),
        Some("42704" | "42809" | "25006") => {
            refused(format!("{table}: {}", crate::continuity::Chain(&error)))
        }
        _ => error.into(),
    }
}

fn refused(detail: String) -> PipelineError {
    let next = "correct tables.set_replica_identity";
    PipelineError::Unsuitable(Trouble::plain(TroubleReason::TableRefused, detail, next))
}
