//! Takes another configuration: tables join and leave while the stream runs.
//!
//! Only another registry needs a new connection. A table that joins is recorded and copied by a
//! backfill. It is added to the publication if `postgres.create_publication` is on. A table that
//! leaves is excluded, and stays in the publication.

use super::Runner;
use super::clock::unix_nanos;
use super::needs::Place;
use crate::agent::supervise::PipelineError;
use crate::agent::{Config, open};
use crate::change::RelationShape;
use crate::continuity::Trouble;
use crate::continuity::checkpoint::TableIdentity;
use crate::continuity::named::Named;
use crate::continuity::{Chain, Granted, Refused, Reply, TroubleReason};
use crate::encode::registry::Registry;
use crate::lsn::Oid;
use crate::plans::Planned;
use crate::postgres::publication::{self, Candidate};
use crate::postgres::{PgError, Sql, harm};
use crate::snapshot::Mode;
use crate::table::TableName;
use crate::watch::{self, Finding, Fingerprint};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// ALTER PUBLICATION locks its tables for a moment. Behind a long transaction it gives up after
/// this time, because other statements would queue behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of a reload at the server, with the new configuration and the reply.
pub(super) struct Reloaded {
    config: Config,
    reply: Reply,
    outcome: Result<Captured, Refused>,
}

/// The captured tables, and the identity of each in the publication.
struct Captured {
    tables: Vec<TableName>,
    identities: BTreeMap<String, TableIdentity>,
    /// The fingerprint after the reload, and the findings of its comparison with the look before.
    watched: Fingerprint,
    findings: Vec<Finding>,
}

impl Runner {
    /// Begins a reload. `config` differs from ours only in `[tables]`, `[snapshot]` and
    /// `[registry]`.
    pub(super) fn reload(&mut self, config: Config, reply: Reply) {
        if let Some(refused) = self.without_stream() {
            return reply.send(Err(refused));
        }
        if self.live.is_none() || !self.core.is_streaming() || self.core.is_copying() {
            let why = "tables change while the stream flows: try again then".to_owned();
            return reply.send(Err(Refused::NotAvailable(why)));
        }
        if self.tasks.reloading.is_some() {
            return reply.send(Err(Refused::Busy));
        }
        if let Some(Err(error)) = config.registry.as_ref().map(Registry::new) {
            return reply.send(Err(Refused::Faulty(Chain(&error).to_string())));
        }
        let base = self.checks.watch.base_under(&config.selection);
        self.tasks.reloading = Some(tokio::spawn(async move {
            let outcome = republish(&config, base).await;
            Reloaded { config, reply, outcome }
        }));
    }

    /// Takes the new configuration if the reload at the server succeeded and no finding halts the
    /// stream. Answers the request.
    pub(super) fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded { config, reply, outcome } = reloaded;
        let Captured { tables, mut identities, watched, findings } = match outcome {
            Ok(captured) => captured,
            Err(refused) => return reply.send(Err(refused)),
        };
        // A finding halts the stream, for example because the publication or a table was replaced.
        // The request is then refused.
        if self.found(&findings) {
            let why = "publication or tables changed in a way that halts the stream: see \
                `wellspring slot status`";
            return reply.send(Err(Refused::Faulty(why.to_owned())));
        }
        if let Some(was) = self.core.record() {
            // A table that an earlier reload has added may not be in the checkpoint yet. It joins
            // again, at the present position.
            TableIdentity::joined(&mut identities, &was.tables, (was.confirmed, watched.after));
            self.tables.named = Arc::new(Named::of(&identities, was.named_from));
        }
        self.checks.watch.reloaded(watched);
        let joined: Vec<TableName> =
            tables.iter().filter(|table| !self.tables.captured.contains(table)).cloned().collect();
        let left: Vec<TableName> =
            self.tables.captured.iter().filter(|table| !tables.contains(table)).cloned().collect();
        let is_other_registry = self.config.registry != config.registry;
        self.config.registry = config.registry;
        self.config.selection = config.selection;
        self.config.snapshot = config.snapshot;
        self.config.fingerprint = config.fingerprint;
        self.backfills.copies.configure(&self.config.snapshot);
        self.tables.captured.clone_from(&tables);
        self.core.retable(identities);
        self.forget_detached(&left);
        self.backfills.copies.forget(|name| tables.iter().any(|table| table.to_string() == name));
        self.lack_what_is_copied(&tables);
        self.checks.watch.keys.keep(|name| tables.iter().any(|table| table.to_string() == name));
        let copied = self.config.snapshot.mode != Mode::NoData;
        let now_ms = unix_nanos() / 1_000_000;
        for table in joined.iter().filter(|table| copied && !self.config.snapshot.skips(table)) {
            let filter = self.config.snapshot.conditions.get(&table.to_string()).cloned();
            self.backfills.copies.begin(table, filter, true, now_ms, None);
        }
        if let Some(live) = &mut self.live {
            if let Some(plan_maker) = &mut live.plan_maker {
                plan_maker.recapture(&tables, &self.tables.named);
            }
            let is_of = |tables: &[TableName], shape: &RelationShape| {
                tables
                    .iter()
                    .any(|table| *table.namespace == *shape.namespace && *table.name == *shape.name)
            };
            for (slot, shape) in &live.shapes {
                if is_of(&left, shape) {
                    live.rows.planned(*slot, Planned::Excluded);
                } else if is_of(&joined, shape) {
                    live.replan.push((*slot, shape.clone())); // The stream announced it before.
                }
            }
        }
        if is_other_registry {
            self.exchange_registry();
        }
        let names = |tables: &[TableName]| {
            tables.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
        };
        self.reporter.recaptured(&joined, &left);
        let what = match (joined.is_empty(), left.is_empty()) {
            (true, true) => "the captured tables are the same".to_owned(),
            (false, true) => format!("captured from now on: {}", names(&joined)),
            (true, false) => format!("no longer captured: {}", names(&left)),
            (false, false) => {
                format!("captured from now on: {}; no longer: {}", names(&joined), names(&left))
            }
        };
        let registry = if is_other_registry {
            "; schema ids are asked for at the registry as configured"
        } else {
            ""
        };
        reply.send(Ok(Granted(format!("{what}{registry}"))));
    }

    /// Ends the connection, because the registry's configuration has changed. The next connection
    /// makes every plan again before it reads a row, with ids that the new registry serves.
    fn exchange_registry(&mut self) {
        self.tables.doubts.forget_registry();
        let detail = "the registry's configuration changed, and every plan is made anew".to_owned();
        let next = TroubleReason::StreamBroke.next();
        self.broke(PipelineError::Trouble(Trouble::plain(
            TroubleReason::StreamBroke,
            detail,
            next,
        )));
    }

    /// Starts the task that plans one relation that the stream announced before its table was
    /// captured.
    pub(super) fn replan(&mut self) {
        let Some(live) = &mut self.live else { return };
        if self.tasks.planning.is_some() || live.plan_maker.is_none() {
            return;
        }
        let Some((slot, shape)) = live.replan.pop() else { return };
        let Some(mut plan_maker) = live.plan_maker.take() else { return };
        plan_maker.recapture(&self.tables.captured, &self.tables.named);
        self.tables.planning_since = std::time::Instant::now();
        let oid = shape.oid;
        self.tasks.planning = Some(tokio::spawn(async move {
            (Place::Relation(slot, oid), plan_maker.relation(shape).await)
        }));
    }
}

/// Adds the selected tables that are not published, and returns the captured tables. Uses a
/// connection of its own, because the statement may wait for locks.
async fn republish(config: &Config, base: Option<Fingerprint>) -> Result<Captured, Refused> {
    let failed = |error: PgError| Refused::Faulty(Chain(&error).to_string());
    let sql = Sql::connect(&config.postgres).await.map_err(failed)?;
    let missing_publication =
        || Refused::Faulty(format!("publication `{}` does not exist", config.publication));
    let row = publication::read(&sql, &config.publication)
        .await
        .map_err(failed)?
        .ok_or_else(missing_publication)?;
    let published = |name: &TableName| row.tables.iter().any(|table| table.name == *name);
    let candidates = publication::candidates(&sql).await.map_err(failed)?;
    let wanted =
        candidates.iter().filter(|table| table.logged && config.selection.matches(&table.name));
    // A partition is never missing: it is published with its root, under the name of the root or of
    // the partition.
    let missing: Vec<_> =
        wanted.filter(|table| !table.is_partition && !published(&table.name)).collect();
    let names: Vec<TableName> = missing.iter().map(|table| table.name.clone()).collect();
    unharmed(&sql, &config.publication, &missing).await?;
    if row.is_of_sequences() {
        let (name, next) = (&config.publication, publication::OWN_NAME_NEXT);
        return Err(Refused::Faulty(format!("publication `{name}` is FOR ALL SEQUENCES; {next}")));
    }
    if row.excepted().iter().any(|excepted| names.contains(&excepted.name)) {
        let statement = publication::readmit_sql(&config.publication, &row, &names);
        let why = "EXCEPT leaves out a selected table, and FOR ALL TABLES is not ours to publish";
        return Err(Refused::Faulty(format!(
            "{why}; run {statement}; and reload again, or exclude the table"
        )));
    }
    if !names.is_empty() {
        let statement = publication::add_sql(&config.publication, &names);
        if !config.create_publication {
            let why =
                "postgres.create_publication is off, so the publication is not ours to change";
            return Err(Refused::Faulty(format!("{why}; run {statement}; and reload again")));
        }
        match publication::add(&sql, &config.publication, &names, LOCK_TIMEOUT).await {
            Ok(()) => tracing::info!(
                publication = config.publication,
                tables = names.len(),
                "added tables"
            ),
            Err(error) if error.sqlstate() == Some("42501") => {
                return Err(Refused::Faulty(format!(
                    "{error}; have its owner run {statement}; and reload again"
                )));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let row = publication::read(&sql, &config.publication)
        .await
        .map_err(failed)?
        .ok_or_else(missing_publication)?;
    let tables: Vec<TableName> = row
        .tables
        .iter()
        .map(|table| table.name.clone())
        .filter(|name| config.selection.matches(name))
        .collect();
    // The look comes after the reading of the identities. A change before the look is found now,
    // and a later change is found by the next look.
    let is_selected = |table: &TableName| config.selection.matches(table);
    let watched = watch::query(&sql, &config.publication, is_selected, base.as_ref())
        .await
        .map_err(failed)?;
    let findings = base.as_ref().map_or_else(Vec::new, |base| watch::compare(base, &watched));
    Ok(Captured { identities: open::identities(&row, &tables), tables, watched, findings })
}

/// Refuses tables whose UPDATE and DELETE would fail if the publication also published them.
async fn unharmed(sql: &Sql, publication: &str, missing: &[&Candidate]) -> Result<(), Refused> {
    if let Some(harmed) = missing.iter().find(|table| table.update_fails()) {
        let name = &harmed.name;
        return Err(Refused::Faulty(format!(
            "publishing {name} would make the application's UPDATE and DELETE fail: no replica \
             identity; run {}",
            harmed.fixes.join(" ")
        )));
    }
    let relations: Vec<Oid> = missing.iter().map(|table| table.relation).collect();
    let harms = harm::of_new(sql, Some(publication), &relations).await;
    match harms.map_err(|error| Refused::Faulty(Chain(&error).to_string()))?.first() {
        Some(harm) => Err(Refused::Faulty(format!(
            "once published, {}; run this, and reload again:\n{}",
            harm.what, harm.fix
        ))),
        None => Ok(()),
    }
}
