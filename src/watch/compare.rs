//! Compares two looks at the catalog, to find what happened between them.
//!
//! A difference halts only if changes of a captured table may be missing from the stream. VACUUM
//! FULL, CLUSTER, ANALYZE, REINDEX, GRANT, COMMENT, ADD COLUMN, a new owner of a table and another
//! member of the publication are no findings.

use super::finding::{Code, Finding};
use super::fingerprint::{Fingerprint, Part, Publication, Relation};
use super::rules::{Rule, Rules};
use crate::postgres::publication::add_sql;
use crate::table::typed::{in_sql, snapshot_of};

/// Finds what happened between two looks, table by table. A table that is captured only at the
/// later look is no finding.
#[must_use]
pub fn compare(recorded: &Fingerprint, seen: &Fingerprint) -> Vec<Finding> {
    compare_under(recorded, seen, Rules::default())
}

pub(super) fn compare_under(
    recorded: &Fingerprint,
    seen: &Fingerprint,
    rules: Rules,
) -> Vec<Finding> {
    let mut look = Comparison { recorded, seen, rules, found: Vec::new() };
    let own =
        |look: &Fingerprint| look.relations.iter().all(|(oid, relation)| *oid == relation.oid);
    assert!(own(recorded) && own(seen), "a look keeps each relation under the relation's own oid");
    let Some(before) = &recorded.publication else { return Vec::new() };
    let Some(now) = look.publication(before) else { return look.found };
    for relation in recorded.captured() {
        if let Some(same) = look.membership(relation, now) {
            look.identity(relation, same, now);
            look.rows(relation, same);
            if now.via_root {
                look.parts(relation, same, now);
            }
        }
    }
    look.found
}

struct Comparison<'a> {
    recorded: &'a Fingerprint,
    seen: &'a Fingerprint,
    rules: Rules,
    found: Vec<Finding>,
}

impl<'a> Comparison<'a> {
    fn find(&mut self, code: Code, table: Option<&Relation>, detail: String, next: String) {
        let table = table.map(|relation| relation.table().to_string());
        self.found.push(Finding {
            code,
            table,
            from: self.recorded.before,
            to: self.seen.after,
            detail,
            next,
        });
    }

    /// Returns the publication of the later look. Returns `None` if it is missing, is another
    /// publication or has another `publish_via_partition_root`, because its members cannot be
    /// compared then.
    fn publication(&mut self, before: &Publication) -> Option<&'a Publication> {
        let name = &before.name;
        let Some(now) = &self.seen.publication else {
            if self.rules.keep(Rule::PublicationExists) {
                let detail = format!("publication `{name}` does not exist any more");
                let next = "create the publication as it was, then run `wellspring slot accept`";
                self.find(Code::PublicationMissing, None, detail, next.to_owned());
            }
            return None;
        };
        if before.oid != now.oid {
            if self.rules.keep(Rule::PublicationIsTheSame) {
                let detail = format!("publication `{name}` was dropped and made again");
                self.find(Code::PublicationChanged, None, detail, accept_and_copy(None));
            }
            return None;
        }
        let stopped = before.stopped(now);
        let renames = before.via_root != now.via_root;
        if !stopped.is_empty() || renames {
            if self.rules.keep(Rule::OptionsStay) {
                self.options(now, &stopped, renames);
            }
            // With another `publish_via_partition_root`, changes come under the names of other
            // relations, so memberships cannot be compared.
            return (!renames).then_some(now);
        }
        if before.version != now.version && self.rules.keep(Rule::PublicationVersion) {
            if before.owner != now.owner || before.publishes() != now.publishes() {
                let detail =
                    format!("publication `{name}` has another owner, or publishes more operations");
                self.find(
                    Code::PublicationExtended,
                    None,
                    detail,
                    "nothing has to be done".to_owned(),
                );
            } else {
                let detail = format!("publication `{name}` was altered and altered back");
                self.find(Code::PublicationAltered, None, detail, accept_and_copy(None));
            }
        }
        Some(now)
    }

    /// Adds the finding that the publication publishes fewer operations than before, or publishes
    /// partitions under other names.
    fn options(&mut self, now: &Publication, stopped: &[&str], renames: bool) {
        let mut what = Vec::new();
        if !stopped.is_empty() {
            what.push(format!("no longer publishes {}", stopped.join(", ")));
        }
        if renames {
            what.push(format!("has publish_via_partition_root = {}", now.via_root));
        }
        let detail = format!("publication `{}` {}", now.name, what.join(" and "));
        let next = "set the publication's options as they were, then run `wellspring slot accept`; \
                    copy the tables in question with `wellspring snapshot TABLE`";
        self.find(Code::PublicationAltered, None, detail, next.to_owned());
    }

    /// Returns the relation of the later look if it was published under its name all the time.
    /// Otherwise adds a finding and returns `None`.
    fn membership(&mut self, before: &Relation, publication: &Publication) -> Option<&'a Relation> {
        let table = before.table();
        assert!(before.captured, "{table} is compared without being captured");
        let now = self.seen.relations.get(&before.oid);
        let moved = now.is_none_or(|now| now.table() != table);
        let successor = self
            .seen
            .relations
            .values()
            .find(|other| other.oid != before.oid && other.table() == table);
        let holds = if now.is_some() { Rule::NameStays } else { Rule::RelationExists };
        if moved {
            if self.rules.keep(holds) {
                self.moved(before, now, successor, publication);
            }
            return None;
        }
        let now = now?;
        if let Some(detail) = self.left(before, now) {
            let next = if now.published {
                accept_and_copy(Some(before))
            } else {
                let add = add_sql(&publication.name, &[table]);
                format!("run {add}; then {}", accept_and_copy(Some(before)))
            };
            self.find(Code::TableLeft, Some(before), detail, next);
            return None;
        }
        if now.namespace_version != before.namespace_version
            && now.namespace_rights == before.namespace_rights
            && self.rules.keep(Rule::NamespaceVersion)
        {
            let detail = format!(
                "schema {} of table {table} was altered and altered back",
                before.namespace
            );
            let next = "nothing, if only rights were granted and revoked; if the schema was \
                        renamed and renamed back, copy its tables with `wellspring snapshot TABLE`";
            self.find(Code::NamespaceAltered, Some(before), detail, next.to_owned());
        }
        Some(now)
    }

    /// Adds the finding that the captured name belongs to another relation, or to none.
    fn moved(
        &mut self,
        before: &Relation,
        now: Option<&Relation>,
        successor: Option<&Relation>,
        publication: &Publication,
    ) {
        let (table, oid) = (before.table(), before.oid);
        assert!(now.is_none_or(|now| now.oid == oid && now.table() != table), "{table} has moved");
        assert!(successor.is_none_or(|next| next.oid != oid), "no relation follows itself");
        let gone = now.map_or_else(
            || format!("relation {oid}, which was table {table}, was dropped"),
            |now| format!("relation {oid}, which was table {table}, is now named {}", now.table()),
        );
        let Some(successor) = successor else {
            let next = format!(
                "give the table its name back and publish it, then {}; or exclude it and restart \
                 the agent",
                accept_and_copy(Some(before))
            );
            return self.find(Code::TableLeft, Some(before), gone, next);
        };
        let is_published = if successor.published { "is published" } else { "is not published" };
        let detail =
            format!("{gone}; {table} is now relation {}, which {is_published}", successor.oid);
        let next = if successor.published {
            accept_and_copy(Some(before))
        } else {
            format!(
                "run {}; then {}",
                add_sql(&publication.name, &[table]),
                accept_and_copy(Some(before))
            )
        };
        self.find(Code::TableSwapped, Some(before), detail, next);
    }

    /// Says why the changes of a relation that kept its name may not have been published all the
    /// time between the looks. `None` if all of them were published.
    fn left(&self, before: &Relation, now: &Relation) -> Option<String> {
        let (table, keep) = (before.table(), |rule| self.rules.keep(rule));
        if !now.published && before.persistence == now.persistence {
            return keep(Rule::StaysPublished)
                .then(|| format!("table {table} is no longer published"));
        }
        if before.persistence == 'p' && now.persistence != 'p' {
            return keep(Rule::StaysLogged)
                .then(|| format!("table {table} is unlogged: its changes are not in the WAL"));
        }
        if before.membership != now.membership && keep(Rule::MembershipStays) {
            let what = match (before.filter == now.filter, before.columns == now.columns) {
                (true, true) => "left the publication and joined it again",
                (false, true) => "is published with another row filter",
                (true, false) => "is published with another column list",
                (false, false) => "is published with another row filter and column list",
            };
            return Some(format!("table {table} {what}"));
        }
        if before.lineage != now.lineage && keep(Rule::LineageStays) {
            return Some(format!("table {table} was detached from its published root for a while"));
        }
        // A renaming that was taken back needs no rule here. The table stays published, and the
        // stream itself announces the other name before a row that was written under it.
        let was_moved = before.placed.zip(now.placed).is_some_and(|(before, now)| before != now);
        (was_moved && keep(Rule::NamespaceStays))
            .then(|| format!("table {table} was in another schema for a while"))
    }

    /// Compares the replica identity and the primary key of a relation. Adds a finding if UPDATE
    /// and DELETE have begun to fail, or if one of the two is another one.
    fn identity(&mut self, before: &Relation, now: &Relation, publication: &Publication) {
        let table = now.table();
        let publishes_old_rows = publication.updates || publication.deletes;
        if publishes_old_rows && now.updates_fail && !before.updates_fail {
            if self.rules.keep(Rule::UpdatesGoOn) {
                let detail = format!(
                    "UPDATE and DELETE of table {table} fail: it has no replica identity any more"
                );
                self.find(
                    Code::IdentityLost,
                    Some(before),
                    detail,
                    give_identity(&table.to_string()),
                );
            }
        } else if self.rules.keep(Rule::KeyStays) && before.is_keyed_otherwise(now) {
            let is_same = (before.identity, &before.key) == (now.identity, &now.key);
            let what = if is_same { "primary key" } else { "replica identity" };
            let detail =
                format!("the {what} of table {table} changed: old rows carry other columns");
            let next = "check that consumers expect it: records from here on may have another key";
            self.find(Code::KeyChanged, Some(before), detail, next.to_owned());
        }
    }

    /// Adds a finding if a change of a column's type has rewritten all rows. The stream has no
    /// event for such a rewrite.
    fn rows(&mut self, before: &Relation, now: &Relation) {
        let is_rewritten = before.filenode != now.filenode;
        if is_rewritten && before.has_other_types(now) && self.rules.keep(Rule::RewriteIsTold) {
            let table = now.table();
            let detail = format!(
                "a change of a column rewrote table {table}: records from before {} hold the old \
                 form",
                self.seen.after
            );
            self.find(Code::TableRewritten, Some(before), detail, copy(before));
        }
    }

    /// Finds leaves that were truncated alone. Postgres publishes a TRUNCATE under the names that
    /// the statement has, so that a leaf below a published root is in no event. A TRUNCATE of the
    /// root empties all leaves in one transaction, and is an event.
    fn emptied(&mut self, before: &Relation, now: &Relation) {
        if before.types != now.types || !self.rules.keep(Rule::TruncateIsTold) {
            return; // A change of the columns can rewrite every leaf.
        }
        let stay: Vec<(&Part, &Part)> =
            now.parts.iter().filter_map(|(oid, is)| Some((before.parts.get(oid)?, is))).collect();
        let emptied: Vec<(&Part, &Part)> =
            stay.iter().copied().filter(|(was, is)| was.is_emptied(is)).collect();
        let mut versions = emptied.iter().map(|(_, is)| is.version);
        let first = versions.next();
        let is_one_statement = versions.all(|version| Some(version) == first);
        if emptied.len() > 1 && emptied.len() == stay.len() && is_one_statement {
            return;
        }
        for (was, is) in emptied {
            let rows = estimate(was);
            let detail = format!(
                "partition {} of table {} was truncated: if the statement named the partition \
                 alone, no event deletes {rows} of it",
                is.name,
                now.table()
            );
            let next =
                "delete the rows where they are consumed, if they should go: a copy deletes none";
            self.find(Code::PartitionEmptied, Some(before), detail, next.to_owned());
        }
    }

    /// Compares the leaves of a partitioned table whose changes are published under the table's own
    /// name. Adds a finding if a leaf was attached, detached or truncated, or if its UPDATE and
    /// DELETE have begun to fail.
    fn parts(&mut self, before: &Relation, now: &Relation, publication: &Publication) {
        let table = now.table();
        for (oid, part) in &now.parts {
            let known = before.parts.get(oid);
            if known.is_none() && part.made != part.joined && self.rules.keep(Rule::AttachIsTold) {
                let rows = estimate(part);
                let detail = format!(
                    "partition {} was attached to table {table}: {rows} in it are in no event",
                    part.name
                );
                self.find(Code::PartitionAttached, Some(before), detail, copy(before));
            }
            if known.is_some_and(|known| known.joined != part.joined)
                && self.rules.keep(Rule::DetachIsTold)
            {
                let detail =
                    format!("partition {} of table {table} was detached for a while", part.name);
                self.find(Code::PartitionLeft, Some(before), detail, copy(before));
            }
            let publishes_old_rows = publication.updates || publication.deletes;
            let is_new_failure = part.updates_fail && known.is_none_or(|known| !known.updates_fail);
            if publishes_old_rows && is_new_failure && self.rules.keep(Rule::UpdatesGoOn) {
                let detail = format!(
                    "UPDATE and DELETE of partition {} of table {table} fail: it has no replica \
                     identity",
                    part.name
                );
                self.find(Code::IdentityLost, Some(before), detail, give_identity(&part.name));
            }
        }
        self.emptied(before, now);
        for (_, part) in before.parts.iter().filter(|(oid, _)| !now.parts.contains_key(oid)) {
            if self.rules.keep(Rule::DetachIsTold) {
                let rows = estimate(part);
                let detail = format!(
                    "partition {} left table {table}: no event deletes {rows} of it",
                    part.name
                );
                let next = "delete the rows where they are consumed, if they should go";
                self.find(Code::PartitionLeft, Some(before), detail, next.to_owned());
            }
        }
    }
}

impl Publication {
    fn publishes(&self) -> [(&'static str, bool); 4] {
        [
            ("insert", self.inserts),
            ("update", self.updates),
            ("delete", self.deletes),
            ("truncate", self.truncates),
        ]
    }

    /// Lists the operations that this publication publishes and `now` does not.
    fn stopped(&self, now: &Publication) -> Vec<&'static str> {
        let both = self.publishes().into_iter().zip(now.publishes());
        both.filter(|((_, before), (_, now))| *before && !now).map(|((name, _), _)| name).collect()
    }
}

/// Formats the number of rows of a leaf, as the catalog estimates it.
fn estimate(part: &Part) -> String {
    match part.rows {
        rows if rows < 0 => "an unknown number of rows".to_owned(),
        rows => format!("about {rows} rows"),
    }
}

fn copy(table: &Relation) -> String {
    format!("copy the table again with {}", snapshot_of(&table.table().to_string()))
}

fn accept_and_copy(table: Option<&Relation>) -> String {
    match table {
        Some(table) => format!("run `wellspring slot accept`, then {}", copy(table)),
        None => "run `wellspring slot accept`, then copy the captured tables with `wellspring \
             snapshot TABLE`"
            .to_owned(),
    }
}

/// Returns the next step for a table without a replica identity. It works for every table. A unique
/// index as the replica identity costs less.
fn give_identity(name: &str) -> String {
    format!("add a primary key, or run ALTER TABLE {} REPLICA IDENTITY FULL", in_sql(name))
}
