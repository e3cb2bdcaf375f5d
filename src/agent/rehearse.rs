//! Drafts a plan for every captured table by the present catalog, at each connect and before the
//! stream is read. Without rules and transforms in the configuration, nothing is drafted.
//!
//! The plan that is used is made when the stream announces the table. A table for which a rule or a
//! transform of the configuration cannot be kept would stop the stream there, perhaps days later.
//! So rules and transforms are tried on every table before. All failures are reported at once, and
//! at a first start before the slot is created. A relation that changes later is checked only when
//! the stream announces it.

use super::supervise::PipelineError;
use crate::change::{RelationShape, ShapeColumn, describe};
use crate::continuity::{Trouble, TroubleReason};
use crate::encode::{self, Adjust, PlanError, Planner, Rules};
use crate::lsn::Oid;
use crate::postgres::{Sql, catalog};
use crate::table::{ReplicaIdentity, TableFacts, TableName};

/// The most tables that the error names. The rest are counted.
const TOLD_MAX: usize = 10;

/// A captured table, as the catalog describes it.
pub(super) struct Captured<'a> {
    pub relation: Oid,
    pub name: &'a TableName,
    pub identity: ReplicaIdentity,
}

/// Tries the configured rules and transforms on the tables.
///
/// # Errors
/// The connection fails, or rules or transforms cannot be kept for some tables. The error names up
/// to [`TOLD_MAX`] of these tables.
pub(super) async fn rehearse(
    config: &encode::Config,
    sql: &Sql,
    tables: impl Iterator<Item = Captured<'_>>,
) -> Result<(), PipelineError> {
    if !has_rules(&config.rules) && config.transforms.links.is_empty() {
        return Ok(());
    }
    let planner = Planner::new(config.clone(), sql.database(), "", 0);
    let mut refused: Vec<PlanError> = Vec::new();
    for table in tables {
        let facts = catalog::table_facts(sql, table.relation).await?;
        let described = describe(&shape(&table, &facts), &facts);
        refused.extend(planner.draft(&described).err().filter(PlanError::is_of_rules));
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(PipelineError::Unsuitable(trouble(&refused)))
}

/// Makes the trouble that names the refused tables. Its next step is about the first one.
fn trouble(refused: &[PlanError]) -> Trouble {
    let more = refused.len().saturating_sub(TOLD_MAX);
    let mut told: Vec<String> = refused.iter().take(TOLD_MAX).map(PlanError::to_string).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    let next = refused.first().and_then(PlanError::next).unwrap_or_else(|| {
        "correct what the detail names in [columns], [masks], [keys], [[transform]] or the tables"
            .to_owned()
    });
    Trouble::plain(TroubleReason::TableRefused, told.join("; "), &next)
}

fn has_rules(rules: &Rules) -> bool {
    !rules.masks.is_empty()
        || !rules.keys.is_empty()
        || !rules.include.is_empty()
        || !rules.exclude.is_empty()
        || rules.field_names != Adjust::None
        || rules.reroute.is_some()
}

/// Makes the shape that the server's Relation message of the table would describe now, except for
/// the order of columns.
fn shape(table: &Captured<'_>, facts: &TableFacts) -> RelationShape {
    let flagged = match table.identity {
        ReplicaIdentity::Default => Some(&facts.primary_key),
        ReplicaIdentity::Index => Some(&facts.identity_index),
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => None,
    };
    let full = table.identity == ReplicaIdentity::Full;
    RelationShape {
        oid: table.relation,
        namespace: table.name.namespace.to_string(),
        name: table.name.name.to_string(),
        identity: match table.identity {
            ReplicaIdentity::Default => b'd',
            ReplicaIdentity::Nothing => b'n',
            ReplicaIdentity::Full => b'f',
            ReplicaIdentity::Index => b'i',
        },
        columns: facts
            .columns
            .iter()
            .map(|(name, column)| ShapeColumn {
                name: name.clone(),
                type_oid: column.type_oid,
                typmod: column.typmod,
                in_identity: full || flagged.is_some_and(|flagged| flagged.contains(name)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{TransformError, TransformFault};

    #[test]
    fn the_next_step_names_transform_table_and_field() {
        let fault = TransformFault::NoField {
            of: "value",
            field: "customer".to_owned(),
            known: "id".to_owned(),
        };
        let transform = TransformError { number: 2, name: "value-to-key", source: fault };
        let told = trouble(&[PlanError::Transform { table: "public.t".to_owned(), transform }]);
        assert_eq!(
            told.next,
            "correct field `customer` in transform 2 (value-to-key), or leave public.t out of its \
             `tables`"
        );
        let other = PlanError::NullRequired { table: "public.t".to_owned(), field: "f".to_owned() };
        assert!(trouble(&[other]).next.contains("[[transform]]"));
    }
}
