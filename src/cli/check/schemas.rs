//! Findings about the schemas of the captured tables: whether the registry accepts each of them,
//! and whether it serves the schema ids that the state has recorded.
//!
//! The schemas are made as the agent makes them, from the present catalog. The check only reads
//! from the registry and registers nothing.

use super::Findings;
use crate::change::{RelationShape, ShapeColumn, describe};
use crate::config::Checked;
use crate::continuity::Chain;
use crate::continuity::schema_key::{RecordedId, SchemaKey};
use crate::encode::registry::{Registry, RegistryError, SchemaDigest};
use crate::encode::{Draft, Planner};
use crate::postgres::publication::Candidate;
use crate::postgres::{PgError, Sql, catalog, surroundings};
use crate::table::{ReplicaIdentity, Table, TableName};
use std::collections::BTreeMap;

/// The most tables whose schemas are checked. Each table takes several requests to the registry,
/// and the check has to end.
const TABLES_MAX: usize = 500;

/// Topic and schemas of one table's records, or the reason why the table cannot be published.
pub(super) struct Drafted {
    name: String,
    draft: Result<Draft, String>,
}

/// Finds the draft of a table. `None` if the table cannot be published or was not planned.
pub(super) fn drafted<'d>(drafted: &'d [Drafted], table: &TableName) -> Option<&'d Draft> {
    let name = table.to_string();
    drafted.iter().find(|drafted| drafted.name == name)?.draft.as_ref().ok()
}

/// Plans the captured tables as the agent would, the first [`TABLES_MAX`] of them at most.
pub(super) async fn drafts(
    checked: &Checked,
    sql: &Sql,
    captured: &[&Candidate],
) -> Result<Vec<Drafted>, PgError> {
    let planner = Planner::new(checked.encode.clone(), sql.database(), "", 1);
    let mut drafted = Vec::new();
    for table in captured.iter().take(TABLES_MAX) {
        let described = described(sql, table).await?;
        let draft = planner.draft(&described).map_err(|error| Chain(&error).to_string());
        drafted.push(Drafted { name: table.name.to_string(), draft });
    }
    Ok(drafted)
}

/// Describes a table from the catalog, in the way that a Relation message of the stream does.
pub(in crate::cli) async fn described(sql: &Sql, table: &Candidate) -> Result<Table, PgError> {
    let facts = catalog::table_facts(sql, table.relation).await?;
    let identity = match table.identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    };
    let flagged = match table.identity {
        ReplicaIdentity::Default => &facts.primary_key,
        ReplicaIdentity::Index => &facts.identity_index,
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => &Vec::new(),
    };
    let columns = surroundings::columns(sql, table.relation).await?;
    let column = |name: String| {
        let (type_oid, typmod) =
            facts.columns.get(&name).map_or((Default::default(), -1), |c| (c.type_oid, c.typmod));
        let in_identity = table.identity == ReplicaIdentity::Full || flagged.contains(&name);
        ShapeColumn { name, type_oid, typmod, in_identity }
    };
    let shape = RelationShape {
        oid: table.relation,
        namespace: table.name.namespace.to_string(),
        name: table.name.name.to_string(),
        identity,
        columns: columns.into_iter().map(column).collect(),
    };
    Ok(describe(&shape, &facts))
}

/// Reports the tables for which no plan can be made, with the reason. The registry is not asked.
pub(super) fn plans(drafted: &[Drafted], findings: &mut Findings) {
    for table in drafted {
        if let Err(why) = &table.draft {
            findings.fail(
                format!("{}: {why}", table.name),
                "change what this fault names, or put the table into tables.exclude",
            );
        }
    }
}

/// Asks the registry about each schema: is it registered, or would it be accepted? `register` says
/// whether the agent registers schemas itself.
pub(super) async fn ask(
    registry: &Registry,
    register: bool,
    drafted: &[Drafted],
    findings: &mut Findings,
) {
    let (mut known, mut taken) = (0_usize, 0_usize);
    for draft in drafted.iter().filter_map(|table| table.draft.as_ref().ok()) {
        for schema in draft.key.iter().chain(&draft.value) {
            match verdict(registry, &schema.subject, &schema.text).await {
                Ok(Verdict::Known) => known += 1,
                Ok(Verdict::Taken) if register => taken += 1,
                Ok(Verdict::Taken) => {
                    let what = format!(
                        "subject {}: its schema is not registered, and registration is off",
                        schema.subject
                    );
                    findings.fail(what, "register it, or set registry.auto_register = true");
                }
                Ok(Verdict::Refused(why)) => {
                    let fix = "change the table back, or lower the subject's compatibility level";
                    findings.fail(
                        format!("subject {} would refuse its schema: {why}", schema.subject),
                        fix,
                    );
                }
                Err(error) => {
                    let what = format!("subject {}: {}", schema.subject, Chain(&error));
                    return findings.fail(
                        what,
                        "see the registry's rights: subjects are read, and written by the agent",
                    );
                }
            }
        }
    }
    if known + taken > 0 {
        findings.ok(format!(
            "{known} schemas are registered, {taken} would be registered and are compatible"
        ));
    }
}

/// Checks that the registry serves each schema under the id that the state has recorded for it. The
/// agent writes a recorded id into its records without registering the schema again.
pub(super) async fn recorded(
    registry: &Registry,
    recorded: &BTreeMap<String, u32>,
    drafted: &[Drafted],
    findings: &mut Findings,
) {
    let (mut served, mut differ) = (0_usize, Vec::new());
    let drafts = drafted.iter().filter_map(|table| table.draft.as_ref().ok());
    for schema in drafts.flat_map(|draft| draft.key.iter().chain(&draft.value)) {
        let Some(RecordedId { id, .. }) = SchemaKey::of(schema).find(recorded, registry.urls())
        else {
            continue;
        };
        match registry.schema(id).await {
            Ok(Some(text)) if SchemaDigest::of(&text) == SchemaDigest::of(&schema.text) => {
                served += 1
            }
            Ok(_) => differ.push(format!("{} of subject {}", id, schema.subject)),
            Err(error) => {
                let what = format!(
                    "recorded schema id {id} of subject {}: {}",
                    schema.subject,
                    Chain(&error)
                );
                return findings.warn(
                    what,
                    "the agent uses the id as recorded, and asks until the registry answers",
                );
            }
        }
    }
    if served > 0 {
        findings.ok(format!("the registry serves {served} recorded schema ids"));
    }
    if let Some(first) = differ.first() {
        let more = if differ.len() > 1 {
            format!(" and {} more", differ.len() - 1)
        } else {
            String::new()
        };
        let url = registry.url();
        let what = format!(
            "the registry at {url} does not serve the schema recorded under id {first}{more}"
        );
        let fix = "Restore the registry if it should have them. Otherwise the agent registers the \
                   schemas at its next start and uses the new ids.\nRecords that are in the topics \
                   keep their ids: this registry's clients cannot read them.";
        findings.warn(what, fix);
    }
}

enum Verdict {
    Known,
    Taken,
    Refused(String),
}

async fn verdict(
    registry: &Registry,
    subject: &str,
    schema: &str,
) -> Result<Verdict, RegistryError> {
    if registry.lookup(subject, schema).await?.is_some() {
        return Ok(Verdict::Known);
    }
    let asked = registry.check(subject, schema).await?;
    if asked.compatible {
        return Ok(Verdict::Taken);
    }
    let why = asked
        .messages
        .first()
        .cloned()
        .unwrap_or_else(|| "incompatible with the latest version".to_owned());
    Ok(Verdict::Refused(why.lines().next().unwrap_or("").to_owned()))
}
