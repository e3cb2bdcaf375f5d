//! Findings about the server around the pipeline: the limit for kept WAL, excess rights, abandoned
//! slots, old transactions, generated columns, inheriting tables, and the provider.

use super::Findings;
use crate::postgres::preflight::Facts;
use crate::postgres::publication::{Candidate, quoted};
use crate::postgres::slot::{Blocker, SlotRow};
use crate::postgres::surroundings::{Child, Generated, IdleSlot, Surroundings, TableSurroundings};
use crate::table::TableName;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use std::collections::BTreeSet;
use std::time::Duration;

/// A transaction older than this is reported. Postgres keeps WAL for such a transaction, and the
/// creation of a slot waits for it.
const OLD: Duration = Duration::from_secs(600);

/// An idle slot of pgoutput that keeps at least this many bytes of WAL is a warning: a tenth of a
/// small disk. A slot whose name is like ours is a warning with fewer, too.
const MUCH_BYTES: u64 = 1 << 30;

/// The smallest `max_slot_wal_keep_size` that is advised, in GiB. Even a small database can write
/// this much WAL in an hour.
const LIMIT_GIB_MIN: u64 = 10;

const GIB: u64 = 1 << 30;

/// Checks `max_slot_wal_keep_size`, and advises a value by the WAL that this server writes in a
/// day. Also reports `wal_sender_timeout` if it is off.
pub(super) fn sizing(facts: &Facts, around: &Surroundings, findings: &mut Findings) {
    let a_day = around.wal_bytes_per_day.map(|bytes| bytes.div_ceil(GIB));
    let measured = a_day.map_or_else(
        || "what the disk can spare".to_owned(),
        |gib| {
            format!(
                "a day of this server's WAL is about {gib} GiB; no more than the disk can spare"
            )
        },
    );
    match facts.slot_keep_bytes_max {
        None => {
            let wanted = a_day.unwrap_or(0).max(LIMIT_GIB_MIN);
            let fix = format!(
                "ALTER SYSTEM SET max_slot_wal_keep_size = '{wanted}GB'; -- {measured}\nSELECT \
                 pg_reload_conf();"
            );
            findings.warn(
                "max_slot_wal_keep_size is unlimited: WAL of a stopped pipeline can fill the \
                     server's disk",
                fix,
            );
        }
        Some(limit) => {
            let hours = around
                .wal_bytes_per_day
                .filter(|bytes| *bytes > 0)
                .map(|bytes| limit.saturating_mul(24) / bytes);
            match hours {
                Some(hours) if hours < 4 => findings.warn(
                    format!(
                        "max_slot_wal_keep_size lets the pipeline be away for about {hours} h, \
                         then its slot is lost"
                    ),
                    format!(
                        "ALTER SYSTEM SET max_slot_wal_keep_size = '...'; -- {measured}\nSELECT \
                         pg_reload_conf();"
                    ),
                ),
                Some(hours) => findings.ok(format!(
                    "max_slot_wal_keep_size covers about {hours} h of this server's WAL"
                )),
                None => findings.ok(format!("max_slot_wal_keep_size is {} GiB", limit / GIB)),
            }
        }
    }
    if facts.wal_sender_timeout.is_none() {
        let fix = "ALTER SYSTEM SET wal_sender_timeout = '60s';\nSELECT pg_reload_conf();";
        findings.warn(
            "wal_sender_timeout is off: after a lost connection the slot stays held until TCP \
             gives up",
            fix,
        );
    }
}

/// SQL that creates a role with the least rights that a pipeline over these tables needs, first
/// copy included.
fn least_role<'a>(database: &str, tables: impl Iterator<Item = &'a TableName>) -> String {
    let (mut namespaces, mut names) = (BTreeSet::new(), Vec::new());
    for table in tables {
        namespaces.insert(escape_identifier(&table.namespace));
        names.push(quoted(table));
    }
    let mut sql = "CREATE ROLE wellspring LOGIN REPLICATION PASSWORD '...';".to_owned();
    sql.push_str(&format!(
        "\nGRANT CONNECT ON DATABASE {} TO wellspring;",
        escape_identifier(database)
    ));
    if !names.is_empty() {
        let namespaces: Vec<String> = namespaces.into_iter().collect();
        sql.push_str(&format!("\nGRANT USAGE ON SCHEMA {} TO wellspring;", namespaces.join(", ")));
        sql.push_str(&format!(
            "\nGRANT SELECT ON {} TO wellspring; -- to copy rows",
            names.join(", ")
        ));
    }
    sql
}

/// Reports rights that the agent's role in Postgres has and the agent does not need. `tables` says
/// of each captured table whether the role may write to it.
pub(super) fn excess(
    facts: &Facts,
    database: &str,
    around: &Surroundings,
    tables: &[(&Candidate, bool)],
    findings: &mut Findings,
) {
    let name = escape_identifier(&facts.role.name);
    if facts.role.superuser {
        let what = format!("role {} is a superuser: more than the agent needs", facts.role.name);
        let captured = tables.iter().map(|(table, _)| &table.name);
        return findings.warn(
            what,
            format!("{}\n-- and use it instead of {name}", least_role(database, captured)),
        );
    }
    if !around.attributes.is_empty() {
        let what = format!(
            "role {} has {}: more than the agent needs",
            facts.role.name,
            around.attributes.join(", ")
        );
        let without: Vec<String> =
            around.attributes.iter().map(|attribute| format!("NO{attribute}")).collect();
        findings.warn(what, format!("ALTER ROLE {name} {};", without.join(" ")));
    }
    let writable: Vec<&Candidate> =
        tables.iter().filter(|(_, writable)| *writable).map(|(table, _)| *table).collect();
    if let Some(first) = writable.first() {
        let what = format!(
            "role {} may write to {} captured table{}, {} for one: the agent only reads",
            facts.role.name,
            writable.len(),
            if writable.len() == 1 { "" } else { "s" },
            first.name
        );
        let list: Vec<String> = writable.iter().map(|table| quoted(&table.name)).collect();
        // An owner can grant itself again what was revoked, so the fix names another way too.
        let fix = format!(
            "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM {name};\n-- or, if it owns them, \
             create the publication as the owner and run the agent as another role",
            list.join(", ")
        );
        findings.warn(what, fix);
    }
}

/// Reports other slots that are not in use and may have been forgotten: those of pgoutput, and
/// those whose name begins like ours or with `wellspring`.
pub(super) fn abandoned(slot: &str, around: &Surroundings, findings: &mut Findings) {
    let alike = |idle: &&IdleSlot| {
        idle.plugin == "pgoutput"
            || idle.name.starts_with("wellspring")
            || is_like(slot, &idle.name)
    };
    for idle in around.idle_slots.iter().filter(alike) {
        let kept = idle.retained_bytes;
        let what = format!(
            "slot {} of database {} is held by nobody and keeps {kept} bytes of WAL",
            idle.name, idle.database
        );
        let fix = format!(
            "SELECT pg_drop_replication_slot({}); -- only if no pipeline will come back for it",
            escape_literal(&idle.name)
        );
        if kept >= MUCH_BYTES || idle.name.starts_with("wellspring") || is_like(slot, &idle.name) {
            findings.warn(what, fix);
        } else {
            findings.ok(what);
        }
    }
}

/// True if one of the names begins with the other one, as `shop` and `shop_v2` do.
fn is_like(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// Reports transactions older than [`OLD`]. Postgres keeps WAL for them, and the creation of a slot
/// waits for them.
pub(super) fn old_transactions(
    row: Option<&SlotRow>,
    blockers: &[Blocker],
    findings: &mut Findings,
) {
    let old = |blocker: &'_ Blocker| blocker.age.filter(|age| *age > OLD);
    for (blocker, age) in blockers.iter().filter_map(|blocker| Some((blocker, old(blocker)?))) {
        let minutes = age.as_secs() / 60;
        let (who, fix) = match (blocker.pid, &blocker.prepared) {
            (Some(pid), _) => {
                (format!("session {pid}"), format!("SELECT pg_terminate_backend({pid});"))
            }
            (None, Some(gid)) => {
                let gid = escape_literal(gid);
                (
                    format!("prepared transaction {gid}"),
                    format!("COMMIT PREPARED {gid}; -- or ROLLBACK PREPARED"),
                )
            }
            (None, None) => continue,
        };
        let by = blocker.user.as_deref().map_or_else(String::new, |user| format!(" of {user}"));
        let effect = if row.is_none() {
            "creating the slot waits for it"
        } else {
            "WAL since then is kept for it"
        };
        findings.warn(format!("{who}{by} has been writing for {minutes} min: {effect}"), fix);
    }
}

/// Reports the generated columns of the captured tables that the publication does not publish. The
/// stream does not contain them.
pub(super) fn tables(
    facts: &Facts,
    captured: &[&Candidate],
    around: &[TableSurroundings],
    findings: &mut Findings,
) {
    for table in captured {
        let near = around.iter().find(|near| near.relation == table.relation);
        let generated = near.map_or(&[][..], |near| &near.generated);
        let unsent: Vec<&Generated> = generated.iter().filter(|one| !one.is_published).collect();
        if unsent.is_empty() {
            continue;
        }
        let fix = if facts.server_version < 180_000 {
            "compute them where they are read; Postgres sends them from 18 on"
        } else if unsent.iter().any(|column| column.is_stored) {
            "stored ones are sent if the publication has publish_generated_columns = stored, or a \
             column list with them"
        } else {
            "compute them where they are read; Postgres sends only stored ones"
        };
        let names: Vec<&str> = unsent.iter().map(|column| column.name.as_str()).collect();
        let list = names.join(", ");
        findings
            .warn(format!("{}: generated columns are not in the stream: {list}", table.name), fix);
    }
}

/// Reports captured tables with rows that are stored in tables that inherit from them and are not
/// captured. Changes of these rows are in no topic.
pub(super) fn children(
    publication: &str,
    captured: &[&Candidate],
    children: &[Child],
    findings: &mut Findings,
) {
    for parent in captured {
        let is_left_out = |child: &&Child| {
            child.parent == parent.relation
                && !captured.iter().any(|table| table.relation == child.relation)
        };
        let left_out: Vec<&Child> = children.iter().filter(is_left_out).collect();
        if left_out.is_empty() {
            continue;
        }
        let names: Vec<String> = left_out.iter().map(|child| child.name.to_string()).collect();
        let list: Vec<String> =
            left_out.iter().map(|child| format!("ONLY {}", quoted(&child.name))).collect();
        let fix = format!(
            "ALTER PUBLICATION {} ADD TABLE {};\n-- and add them to tables.include; each gets a \
             topic of its own",
            escape_identifier(publication),
            list.join(", ")
        );
        let what = format!(
            "rows of {} lie in tables that inherit from it and are not captured: {}",
            parent.name,
            names.join(", ")
        );
        findings.fail(what, fix);
    }
}

/// Reports who hosts the server, if this is a known provider: what to know about the provider, and
/// the server's `idle_replication_slot_timeout` unless it is 0.
pub(super) fn provider(around: &Surroundings, findings: &mut Findings) {
    let Some(provider) = around.provider.as_deref() else { return };
    let special = match provider {
        "Amazon RDS" => {
            "rds.logical_replication = 1 sets wal_level; GRANT rds_replication stands for \
             REPLICATION"
        }
        "Amazon Aurora" => {
            "rds.logical_replication = 1 sets wal_level; use the writer's endpoint, a reader has \
             no slots"
        }
        "Google Cloud SQL" => {
            "the flag cloudsql.logical_decoding = on sets wal_level; ALTER ROLE ... REPLICATION \
             works as postgres"
        }
        "Google AlloyDB" => "the flag alloydb.logical_decoding = on sets wal_level",
        "Azure Database for PostgreSQL" => {
            "wal_level is set in the portal; ALTER ROLE ... REPLICATION works as the admin"
        }
        "Neon" => {
            "logical replication is switched on per project; an idle slot is dropped by Neon, so \
             keep the agent running"
        }
        "Supabase" => {
            "use the direct connection, not the pooler; ALTER ROLE ... REPLICATION works as \
             postgres"
        }
        _ => "",
    };
    findings.ok(format!("the server is {provider}: {special}"));
    if around.idle_slot_timeout != "0" {
        let timeout = &around.idle_slot_timeout;
        findings.ok(format!(
            "idle_replication_slot_timeout is {timeout}: an outage longer than that loses the slot"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, table};
    use super::*;
    use expect_test::expect;

    fn facts(keep: Option<u64>) -> Facts {
        Facts {
            slot_keep_bytes_max: keep,
            wal_sender_timeout: Some(Duration::from_secs(60)),
            ..Facts::fit(150_018)
        }
    }

    #[test]
    fn a_limit_is_advised_by_what_the_server_writes_a_day() {
        let around = Surroundings { wal_bytes_per_day: Some(30 << 30), ..Surroundings::default() };
        check(
            |findings| sizing(&facts(None), &around, findings),
            expect![[r#"
                warn  max_slot_wal_keep_size is unlimited: WAL of a stopped pipeline can fill the server's disk
                        ALTER SYSTEM SET max_slot_wal_keep_size = '30GB'; -- a day of this server's WAL is about 30 GiB; no more than the disk can spare
                        SELECT pg_reload_conf();"#]],
        );
        check(
            |findings| sizing(&facts(Some(2 << 30)), &around, findings),
            expect![[r#"
                warn  max_slot_wal_keep_size lets the pipeline be away for about 1 h, then its slot is lost
                        ALTER SYSTEM SET max_slot_wal_keep_size = '...'; -- a day of this server's WAL is about 30 GiB; no more than the disk can spare
                        SELECT pg_reload_conf();"#]],
        );
        check(|findings| sizing(&facts(Some(60 << 30)), &around, findings), expect![""]);
    }

    fn idle(name: &str, plugin: &str, retained_bytes: u64) -> IdleSlot {
        IdleSlot {
            name: name.to_owned(),
            database: "shop".to_owned(),
            plugin: plugin.to_owned(),
            retained_bytes,
        }
    }

    #[test]
    fn names_the_slots_that_somebody_may_have_forgotten() {
        let around = Surroundings {
            idle_slots: vec![
                idle("debezium", "pgoutput", 5 << 30),
                idle("small", "pgoutput", 10),
                idle("wellspring_old", "pgoutput", 10),
                idle("json", "wal2json", 5 << 30),
                idle("wellspring_shop_v2", "test_decoding", 0),
            ],
            ..Surroundings::default()
        };
        check(
            |findings| abandoned("wellspring_shop", &around, findings),
            expect![[r#"
                warn  slot debezium of database shop is held by nobody and keeps 5368709120 bytes of WAL
                        SELECT pg_drop_replication_slot('debezium'); -- only if no pipeline will come back for it
                warn  slot wellspring_old of database shop is held by nobody and keeps 10 bytes of WAL
                        SELECT pg_drop_replication_slot('wellspring_old'); -- only if no pipeline will come back for it
                warn  slot wellspring_shop_v2 of database shop is held by nobody and keeps 0 bytes of WAL
                        SELECT pg_drop_replication_slot('wellspring_shop_v2'); -- only if no pipeline will come back for it"#]],
        );
    }

    #[test]
    fn names_who_holds_the_log_by_an_old_transaction() {
        let blocker = |pid, prepared: Option<&str>, age| Blocker {
            pid,
            prepared: prepared.map(str::to_owned),
            xid: crate::lsn::Xid(7),
            user: Some("app".to_owned()),
            database: None,
            application: None,
            state: None,
            age: Some(Duration::from_secs(age)),
            statement_age: None,
        };
        let blockers = [
            blocker(Some(42), None, 7200),
            blocker(None, Some("o'x"), 4000),
            blocker(Some(43), None, 5),
        ];
        check(
            |findings| old_transactions(None, &blockers, findings),
            expect![[r#"
                warn  session 42 of app has been writing for 120 min: creating the slot waits for it
                        SELECT pg_terminate_backend(42);
                warn  prepared transaction 'o''x' of app has been writing for 66 min: creating the slot waits for it
                        COMMIT PREPARED 'o''x'; -- or ROLLBACK PREPARED"#]],
        );
    }

    #[test]
    fn a_generated_column_that_is_published_is_in_the_stream() {
        let column = |name: &str, is_stored, is_published| Generated {
            name: name.to_owned(),
            is_stored,
            is_published,
        };
        let table = table("orders");
        let told = |version, generated: Vec<Generated>, expect| {
            let near = TableSurroundings { relation: table.relation, generated, writable: false };
            check(|findings| tables(&Facts::fit(version), &[&table], &[near], findings), expect);
        };
        told(180_000, vec![column("total", true, true)], expect![""]);
        told(
            180_000,
            vec![column("total", true, true), column("gross", false, false)],
            expect![[r#"
                warn  public.orders: generated columns are not in the stream: gross
                        compute them where they are read; Postgres sends only stored ones"#]],
        );
        told(
            180_000,
            vec![column("total", true, false), column("gross", false, false)],
            expect![[r#"
                warn  public.orders: generated columns are not in the stream: total, gross
                        stored ones are sent if the publication has publish_generated_columns = stored, or a column list with them"#]],
        );
        told(
            170_000,
            vec![column("total", true, false)],
            expect![[r#"
                warn  public.orders: generated columns are not in the stream: total
                        compute them where they are read; Postgres sends them from 18 on"#]],
        );
    }

    #[test]
    fn the_least_role_is_printed_with_its_grants() {
        let tables = [
            TableName::new("public", "a"),
            TableName::new("public", "b c"),
            TableName::new("Shop", "x"),
        ];
        expect![[r#"
            CREATE ROLE wellspring LOGIN REPLICATION PASSWORD '...';
            GRANT CONNECT ON DATABASE "shop" TO wellspring;
            GRANT USAGE ON SCHEMA "Shop", "public" TO wellspring;
            GRANT SELECT ON "public"."a", "public"."b c", "Shop"."x" TO wellspring; -- to copy rows"#]]
        .assert_eq(&least_role("shop", tables.iter()));
        assert!(!least_role("shop", [].iter()).contains("SELECT"));
    }
}
