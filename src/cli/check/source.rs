//! Findings about Postgres: connection, settings, rights, slot, tables and publication.
//!
//! The functions that judge the facts of a server are plain functions, which tests call. `try_look`
//! reads the facts.

use super::schemas::{self, Drafted};
use super::{Findings, environment, failover, reachability, versions};
use crate::agent::supervise::PipelineError;
use crate::config::Checked;
use crate::lsn::Oid;
use crate::postgres::harm::{self, Harm};
use crate::postgres::preflight::{self, Facts, TableRights};
use crate::postgres::publication::{
    self, Candidate, PublicationRow, RelationKind, create_sql, quoted,
};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::surroundings;
use crate::postgres::{Origins, PgError, Replication, Sql};
use crate::table::selection::Partitions;
use crate::table::{ReplicaIdentity, TableName};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use std::collections::BTreeSet;

/// The facts about a captured table that the checks of Kafka need.
pub(super) struct Captured {
    pub name: TableName,
    /// True if the table's records have a key.
    pub has_key: bool,
}

/// Results of the Postgres checks that the checks of Kafka and the registry need.
#[derive(Default)]
pub(super) struct SourceFacts {
    /// The captured tables that exist in the database.
    pub captured: Vec<Captured>,
    /// Topic and schemas of the records of the captured tables, or why a table cannot be published.
    pub drafted: Vec<Drafted>,
    /// True if Postgres answered every query of the check.
    pub is_reachable: bool,
}

/// Makes all findings about Postgres. Returns no table and `is_reachable` false if a query failed.
pub(super) async fn look(checked: &Checked, findings: &mut Findings) -> SourceFacts {
    match try_look(checked, findings).await {
        Ok(seen) => seen,
        Err(error) => {
            findings.failed(reachability::postgres(checked, error).await);
            SourceFacts::default()
        }
    }
}

async fn try_look(checked: &Checked, findings: &mut Findings) -> Result<SourceFacts, PgError> {
    let sql = Sql::connect(&checked.postgres).await?;
    let version = sql.server_version();
    findings.ok(format!(
        "connected to {} (Postgres {}.{})",
        sql.host(),
        version / 10_000,
        version % 10_000
    ));
    versions::support(version, findings);
    versions::warnings(&checked.postgres.user, sql.warnings(), findings);
    match checked.postgres.weakness() {
        Some(weakness) => findings.warn(weakness, "set postgres.sslmode = \"verify-full\""),
        None => findings.ok("the connection is verified by TLS, or stays on this machine"),
    }
    let facts = preflight::facts(&sql).await?;
    settings(&facts, &checked.postgres.application_name, findings);
    // pg_hba.conf may admit the role for SQL and refuse it for replication, so a replication
    // connection is tried.
    if facts.role.replication {
        match replication(checked).await {
            Ok(()) => findings.ok("replication connections are let in"),
            Err(error) => findings.failed(PipelineError::Postgres(error)),
        }
    }
    origins(checked.origins, &facts, findings);
    let around = surroundings::read(&sql, &checked.slot).await?;
    environment::provider(&around, findings);
    environment::sizing(&facts, &around, findings);
    let row = slot::read(&sql, &checked.slot).await?;
    slot_row(&checked.slot, row.as_ref(), &facts, sql.database(), findings);
    failover::look(checked, &sql, (&facts, &around, row.as_ref()), findings).await;
    environment::old_transactions(row.as_ref(), &slot::blockers(&sql).await?, findings);
    environment::abandoned(&checked.slot, &around, findings);
    let all = publication::candidates(&sql).await?;
    let published = publication::read(&sql, &checked.publication).await?;
    let captured = captured(checked, &all, published.as_ref());
    let harms = harms(checked, &sql, published.as_ref(), &captured).await?;
    harms.iter().for_each(|harm| findings.fail(harm.what.clone(), harm.fix.clone()));
    let harmed: Vec<Oid> = harms.iter().map(|harm| harm.root).collect();
    tables(checked, &all, (&captured, &harmed), findings);
    let relations: Vec<Oid> = captured.iter().map(|table| table.relation).collect();
    let near = surroundings::tables(&sql, &relations, &checked.publication).await?;
    environment::tables(&facts, &captured, &near, findings);
    let children = surroundings::children(&sql, &relations).await?;
    environment::children(&checked.publication, &captured, &children, findings);
    let is_writable = |table: &Candidate| {
        near.iter().any(|near| near.relation == table.relation && near.writable)
    };
    let writable: Vec<(&Candidate, bool)> =
        captured.iter().map(|table| (*table, is_writable(table))).collect();
    environment::excess(&facts, sql.database(), &around, &writable, findings);
    let drafted = schemas::drafts(checked, &sql, &captured).await?;
    schemas::plans(&drafted, findings);
    // No SQL that we print publishes a table whose UPDATE would then fail.
    let harmless = captured.iter().filter(|table| is_harmless(table));
    let names: Vec<TableName> = harmless.map(|table| table.name.clone()).collect();
    let rights = preflight::table_rights(&sql, &names).await?;
    if row.is_none() {
        readable(checked, &facts, &rights, findings);
    }
    match &published {
        Some(row) => publication_row(checked, row, &captured, findings),
        None => no_publication(checked, &facts, &rights, &names, findings),
    }
    let captured = captured
        .into_iter()
        .map(|table| Captured { name: table.name.clone(), has_key: has_key(table) })
        .collect();
    Ok(SourceFacts { captured, drafted, is_reachable: true })
}

/// Checks that the server can filter by origin, if the configuration asks for it.
fn origins(origins: Origins, facts: &Facts, findings: &mut Findings) {
    if origins == Origins::None && facts.server_version < Origins::SINCE {
        let what = format!(
            "postgres.origin is \"none\", which Postgres {} does not know",
            facts.server_version / 10_000
        );
        findings.fail(what, "leave postgres.origin out, or upgrade the server to 16");
    }
}

async fn replication(checked: &Checked) -> Result<(), PgError> {
    Replication::connect(&checked.postgres).await?.identify_system().await.map(|_| ())
}

/// The tables that the configuration selects and that a publication of ours would name, such as a
/// root instead of its partitions. A selected table that the existing publication names counts too.
fn captured<'a>(
    checked: &Checked,
    all: &'a [Candidate],
    published: Option<&PublicationRow>,
) -> Vec<&'a Candidate> {
    let is_published = |table: &Candidate| {
        published.is_some_and(|row| {
            row.tables.iter().any(|published| published.relation == table.relation)
        })
    };
    let selected = all.iter().filter(|table| checked.selection.matches(&table.name));
    let partitions = checked.selection.partitions();
    selected.filter(|table| table.stands_for_itself(partitions) || is_published(table)).collect()
}

/// True if the table has a primary key, a usable unique key or an identity index. Then its records
/// have a key. `change` has the same rule, which is Debezium's.
fn has_key(table: &Candidate) -> bool {
    table.primary_key || table.usable_key || table.identity == ReplicaIdentity::Index
}

fn is_harmless(table: &Candidate) -> bool {
    table.logged && !table.update_fails()
}

fn settings(facts: &Facts, application_name: &str, findings: &mut Findings) {
    versions::decoding(facts, findings);
    let role = &facts.role;
    let name = escape_identifier(&role.name);
    if !role.replication {
        let fix = format!(
            "ALTER ROLE {name} REPLICATION;\n-- on Amazon RDS: GRANT rds_replication TO {name};"
        );
        findings.fail(format!("role {} may not replicate", role.name), fix);
    } else {
        findings.ok(format!("role {} may replicate", role.name));
    }
    if facts.senders_used >= facts.senders_max {
        let fix = format!(
            "ALTER SYSTEM SET max_wal_senders = {};\n-- and restart the server",
            facts.senders_max + 5
        );
        findings.fail(
            format!("all {} walsenders are in use (max_wal_senders)", facts.senders_max),
            fix,
        );
    } else {
        findings
            .ok(format!("{} of {} walsenders are in use", facts.senders_used, facts.senders_max));
    }
    if preflight::names_standby(&facts.synchronous_standby_names, application_name) {
        let what = format!(
            "synchronous_standby_names names {application_name}: the application's commits would \
             wait for Kafka"
        );
        findings.fail(
            what,
            "list the real standbys there instead of *, or give the URL another application_name",
        );
    }
    if facts.encoding == "SQL_ASCII" {
        findings.warn(
            "the database's encoding is SQL_ASCII: texts that are not UTF-8 cannot be read",
            "",
        );
    }
    if facts.in_recovery {
        findings.warn(
            "the server is a standby: it decodes from Postgres 16 on, and a slot there waits for \
             the primary",
            "",
        );
    }
}

fn slot_row(
    name: &str,
    row: Option<&SlotRow>,
    facts: &Facts,
    database: &str,
    findings: &mut Findings,
) {
    let Some(row) = row else {
        if facts.slots_used >= facts.slots_max {
            let more = facts.slots_max + 5;
            let fix = format!(
                "ALTER SYSTEM SET max_replication_slots = {more};\n-- and restart the server, or \
                 drop one"
            );
            findings.fail(format!("all {} replication slots are in use", facts.slots_max), fix);
        } else {
            let used = format!("{} of {} are in use", facts.slots_used, facts.slots_max);
            findings.ok(format!(
                "slot {name} does not exist and will be created at the first start; {used}"
            ));
        }
        return;
    };
    if row.plugin.as_deref() != Some("pgoutput") || row.database.as_deref() != Some(database) {
        let plugin = row.plugin.as_deref().unwrap_or("no plugin");
        let of = row.database.as_deref().unwrap_or("no database");
        let what = format!(
            "slot {name} belongs to {of} with {plugin}: slots share one name space per cluster"
        );
        findings.fail(what, "set postgres.slot to a name of its own");
    } else if let Some(why) = &row.invalidation {
        let fix = "wellspring slot status, then wellspring slot accept";
        findings.fail(format!("slot {name} is lost ({why}): {}", versions::invalidation(why)), fix);
    } else {
        let held = row
            .active_pid
            .map_or_else(|| "held by nobody".to_owned(), |pid| format!("held by pid {pid}"));
        let retained = row.retained_bytes().unwrap_or(0);
        findings.ok(format!("slot {name} is {held} and keeps {retained} bytes of WAL"));
    }
}

/// Finds the tables whose UPDATE and DELETE our publication makes fail now, or would make fail once
/// it also names the captured tables that it lacks.
async fn harms(
    checked: &Checked,
    sql: &Sql,
    published: Option<&PublicationRow>,
    captured: &[&Candidate],
) -> Result<Vec<Harm>, PgError> {
    let members = published.iter().flat_map(|row| &row.tables);
    let members: Vec<Oid> = members.map(|table| table.relation).collect();
    let is_member = |oid: Oid| members.contains(&oid);
    let lacking = captured.iter().map(|table| table.relation).filter(|oid| !is_member(*oid));
    let existing = published.map(|_| &*checked.publication);
    let mut harms = harm::of_new(sql, existing, &lacking.collect::<Vec<_>>()).await?;
    if published.is_some() {
        harms.extend(harm::of_published(sql, &checked.publication).await?);
    }
    Ok(harms)
}

/// The captured tables, and the oids of tables whose publication harms the application.
type Chosen<'a> = (&'a [&'a Candidate], &'a [Oid]);

fn tables(
    checked: &Checked,
    all: &[Candidate],
    (captured, harmed): Chosen<'_>,
    findings: &mut Findings,
) {
    let names: Vec<TableName> = all.iter().map(|table| table.name.clone()).collect();
    for pattern in checked.selection.unmatched(&names) {
        findings.warn(
            format!("tables.include: {pattern} matches no table"),
            "correct it, or create the table",
        );
    }
    if captured.is_empty() {
        let database = &checked.postgres.database;
        let fix = "correct tables.include and tables.exclude, or the database in postgres.url";
        return findings.fail(format!("no table of database `{database}` is captured"), fix);
    }
    for table in captured {
        if !table.logged {
            let fix = format!(
                "ALTER TABLE {} SET LOGGED;\n-- or put it into tables.exclude",
                quoted(&table.name)
            );
            findings.fail(format!("{} is unlogged and cannot be published", table.name), fix);
        }
        if table.update_fails() {
            let what = format!(
                "{} has no replica identity: once published, the application's UPDATE and DELETE \
                 fail",
                table.name
            );
            findings.fail(
                what,
                format!("{}\n-- or put it into tables.exclude", table.fixes.join("\n")),
            );
        }
    }
    let is_unharmed = |table: &&&Candidate| is_harmless(table) && !harmed.contains(&table.relation);
    let harmless = captured.iter().filter(is_unharmed).count();
    findings.ok(format!(
        "{harmless} of {} captured tables can be published without harm",
        captured.len()
    ));
}

fn publication_row(
    checked: &Checked,
    row: &PublicationRow,
    captured: &[&Candidate],
    findings: &mut Findings,
) {
    let name = &checked.publication;
    let identifier = escape_identifier(name);
    if row.is_of_sequences() {
        let what = format!("publication {name} is FOR ALL SEQUENCES and publishes no table");
        return findings.fail(what, publication::OWN_NAME_NEXT);
    }
    // A publication FOR ALL TABLES cannot drop a single table, so it must be replaced.
    let anew = format!(
        "DROP PUBLICATION {identifier};\n-- let wellspring run create it; then wellspring slot \
         accept"
    );
    let before = findings.list.len();
    let lacks = |table: &&&Candidate| {
        !row.tables.iter().any(|published| published.relation == table.relation)
    };
    let missing: Vec<&&Candidate> =
        captured.iter().filter(|table| is_harmless(table)).filter(lacks).collect();
    if !missing.is_empty() {
        let tables: Vec<TableName> = missing.iter().map(|table| table.name.clone()).collect();
        let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
        // The server refuses ADD TABLE for a publication FOR ALL TABLES.
        let fix = if row.all_tables {
            format!(
                "{};\n-- or put it into tables.exclude",
                publication::readmit_sql(name, row, &tables)
            )
        } else {
            format!("{};", publication::add_sql(name, &tables))
        };
        findings.fail(format!("publication {name} lacks {}", names.join(", ")), fix);
    }
    for table in row.tables.iter().filter(|table| table.update_fails) {
        if !captured.iter().any(|captured| captured.relation == table.relation) {
            let fix = if row.excepted.is_some() && row.all_tables {
                format!("{};", publication::except_sql(name, row, &table.name))
            } else if row.all_tables {
                format!("{anew}\n-- or give {} a replica identity", quoted(&table.name))
            } else {
                format!("ALTER PUBLICATION {identifier} DROP TABLE {};", quoted(&table.name))
            };
            findings.fail(
                format!(
                    "the application's UPDATE of {} fails while {name} publishes it",
                    table.name
                ),
                fix,
            );
        }
    }
    if row.all_tables {
        let what = format!(
            "publication {name} is FOR ALL TABLES: a new table without key breaks the application"
        );
        findings.warn(what, anew.clone());
    }
    let partitioned =
        captured.iter().any(|table| table.kind == RelationKind::Partitioned || table.is_partition);
    if partitioned && !row.via_root && checked.selection.partitions() == Partitions::Root {
        let fix =
            format!("ALTER PUBLICATION {identifier} SET (publish_via_partition_root = true);");
        findings
            .warn(format!("publication {name} publishes partitions under their own names"), fix);
    }
    let lacking = row.lacks(checked.encode.truncates);
    if !lacking.is_empty() {
        let fix = format!(
            "ALTER PUBLICATION {identifier} SET (publish = {});",
            escape_literal("insert, update, delete, truncate")
        );
        findings.warn(format!("publication {name} does not publish {}", lacking.join(", ")), fix);
    }
    for table in row.tables.iter().filter(|table| table.row_filter || table.column_list) {
        findings
            .warn(format!("publication {name} holds back rows or columns of {}", table.name), "");
    }
    if findings.list.len() == before {
        findings.ok(format!("publication {name} publishes every captured table"));
    }
}

/// Checks if the role has the rights to read the tables of the first copy. Streaming does not need
/// these rights.
fn readable(checked: &Checked, facts: &Facts, rights: &[TableRights], findings: &mut Findings) {
    let copies = &checked.snapshot;
    if !copies.mode.copies_first() {
        return;
    }
    let role = escape_identifier(&facts.role.name);
    let (mut barred, mut closed) = (Vec::new(), BTreeSet::new());
    for table in
        rights.iter().filter(|table| table.relation.is_some() && !copies.skips(&table.name))
    {
        // Tables of one namespace need the same GRANT.
        if !table.usage && closed.insert(&table.name.namespace) {
            barred.push(format!(
                "GRANT USAGE ON SCHEMA {} TO {role};",
                escape_identifier(&table.name.namespace)
            ));
        }
        if !table.select {
            barred.push(format!("GRANT SELECT ON {} TO {role};", quoted(&table.name)));
        }
    }
    if barred.is_empty() {
        findings.ok("every table to be copied can be read");
    } else {
        let what =
            format!("{} may not read every table that the first copy reads", facts.role.name);
        findings.fail(what, barred.join(" "));
    }
}

fn no_publication(
    checked: &Checked,
    facts: &Facts,
    rights: &[TableRights],
    names: &[TableName],
    findings: &mut Findings,
) {
    if names.is_empty() {
        return;
    }
    let name = &checked.publication;
    let sql = format!("{};", create_sql(name, names, checked.selection.partitions()));
    let foreign: Vec<String> =
        rights.iter().filter(|table| !table.owner).map(|table| table.name.to_string()).collect();
    let role = &facts.role.name;
    if !checked.create_publication {
        findings.fail(
            format!("publication {name} does not exist, and postgres.create_publication is off"),
            sql,
        );
    } else if facts.role.superuser || (facts.role.create_on_database && foreign.is_empty()) {
        findings.ok(format!(
            "publication {name} does not exist and will be created at the first start"
        ));
    } else if !facts.role.create_on_database {
        let what = format!(
            "publication {name} does not exist, and {role} may not create one: CREATE on the \
             database"
        );
        findings.fail(what, format!("{sql}\n-- as the tables' owner"));
    } else {
        let what = format!(
            "publication {name} does not exist, and {role} does not own {}",
            foreign.join(", ")
        );
        findings.fail(what, format!("{sql}\n-- as the tables' owner"));
    }
}

#[cfg(test)]
mod tests;
