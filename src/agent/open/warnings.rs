//! The warnings of a connect: weak settings, names and patterns that match no table, and changes
//! that the publication leaves out of the topics.

use super::ServerState;
use super::questions::excepts;
use crate::agent::Config;
use crate::lsn::Oid;
use crate::postgres::publication::{PublicationRow, PublishedTable};
use crate::postgres::surroundings::{self, Child};
use crate::postgres::{PgError, Sql};

/// The most tables that one warning names. A schema with thousands of tables must not fill the
/// status.
const NAMED_MAX: usize = 5;

/// Collects the warnings of a connect.
///
/// # Errors
/// The connection fails, or an answer of the server cannot be read (`Answer`).
pub(super) async fn of(
    config: &Config,
    sql: &Sql,
    seen: &ServerState,
) -> Result<Vec<String>, PgError> {
    let mut warnings: Vec<String> =
        config.postgres.weakness().map(str::to_owned).into_iter().collect();
    for (key, name) in config.snapshot.strangers(&seen.captured) {
        warnings.push(format!("{key} names {name}, which is not a captured table"));
    }
    for pattern in config.selection.unmatched(&seen.captured) {
        warnings.push(format!(
            "tables.include `{pattern}` matches no table of publication `{}`",
            config.publication
        ));
    }
    let published = seen.observed.published.as_ref();
    if let Some(record) = published.and_then(|published| published.unplaced.as_ref()) {
        warnings.push(format!(
            "after the failover {record} could not be placed in the WAL, so that a change which \
             the failover undid may be in the topics: events.identity_headers = true would show it"
        ));
    }
    let Some(publication) = &seen.publication else { return Ok(warnings) };
    let captured: Vec<&PublishedTable> =
        publication.tables.iter().filter(|table| seen.captured.contains(&table.name)).collect();
    let relations: Vec<Oid> = captured.iter().map(|table| table.relation).collect();
    let children = surroundings::children(sql, &relations).await?;
    warnings.extend(of_publication(config, publication));
    warnings.extend(of_children(publication, &captured, &children));
    Ok(warnings)
}

/// Makes the warnings about the publication's own settings.
fn of_publication(config: &Config, publication: &PublicationRow) -> Vec<String> {
    let name = &config.publication;
    let mut warnings = Vec::new();
    if publication.all_tables {
        warnings.push(format!(
            "publication `{name}` is FOR ALL TABLES: a table's absence cannot be noticed"
        ));
    }
    warnings.extend(excepts(config, publication));
    let lacking = publication.lacks(config.encode.truncates);
    if !lacking.is_empty() {
        warnings.push(format!(
            "publication `{name}` does not publish {}: such changes are in no topic; \
             run ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')",
            lacking.join(", ")
        ));
    }
    warnings
}

/// Makes the warnings about captured tables with rows in tables that inherit from them and are not
/// published.
fn of_children(
    publication: &PublicationRow,
    captured: &[&PublishedTable],
    children: &[Child],
) -> Vec<String> {
    let is_published =
        |child: &Child| publication.tables.iter().any(|table| table.relation == child.relation);
    let of_one = |parent: &&PublishedTable| {
        let left_out = children.iter().filter(|child| child.parent == parent.relation);
        let names: Vec<String> = left_out
            .filter(|child| !is_published(child))
            .map(|child| child.name.to_string())
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "rows of table {} that lie in {} are in no topic: tables that inherit from it are \
                 published by themselves; `wellspring check` prints the SQL",
                parent.name,
                few(&names)
            )
        })
    };
    captured.iter().filter_map(of_one).collect()
}

/// Lists at most [`NAMED_MAX`] names, and counts the others.
fn few(names: &[String]) -> String {
    let mut list = names[..names.len().min(NAMED_MAX)].join(", ");
    if names.len() > NAMED_MAX {
        list.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    list
}
