//! Findings about failovers: whether the slot would survive one, and what each standby lacks.

use super::Findings;
use crate::config::Checked;
use crate::postgres::preflight::Facts;
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::surroundings::{self, Standby, Surroundings};
use crate::postgres::{Config, FAILOVER_SINCE, Sql, TargetSession};
use postgres_protocol::escape::escape_literal;

const RELOAD: &str = "SELECT pg_reload_conf();";

/// Facts about the connected Postgres server, about its surroundings, and about our slot; `None` if
/// there is no slot.
type Server<'a> = (&'a Facts, &'a Surroundings, Option<&'a SlotRow>);

/// Makes all findings about failovers. If `postgres.failover` is set and the server knows failover
/// slots, each other host of the URL is asked as a standby.
pub(super) async fn look(
    checked: &Checked,
    sql: &Sql,
    server: Server<'_>,
    findings: &mut Findings,
) {
    if !checked.failover {
        return unasked(server, findings);
    }
    wanted(&checked.slot, server, findings);
    if server.0.server_version < FAILOVER_SINCE {
        return;
    }
    for host in &checked.postgres.hosts {
        if host == sql.host() {
            continue;
        }
        let alone = Config {
            hosts: vec![host.clone()],
            target: TargetSession::Any,
            ..checked.postgres.clone()
        };
        let asked = async {
            let there = Sql::connect(&alone).await?;
            let found = surroundings::standby(&there).await?;
            let copy = slot::read(&there, &checked.slot).await?;
            Ok::<_, crate::postgres::PgError>((found, copy))
        };
        match asked.await {
            Ok((Some(found), copy)) => {
                standby(&host.to_string(), &found, (&checked.slot, copy.as_ref()), findings)
            }
            Ok((None, _)) => {
                findings.warn(format!("{host} is a primary, and not a standby of this server"), "")
            }
            Err(error) => findings.warn(
                format!(
                    "{host} could not be asked what a failover to it needs: {}",
                    crate::continuity::Chain(&error)
                ),
                "",
            ),
        }
    }
}

/// Reports that a failover would lose the slot, or that Kafka could be ahead of a promoted standby.
/// It is called if `postgres.failover` is not set, and reports nothing for a server without
/// standbys.
fn unasked((facts, around, row): Server<'_>, findings: &mut Findings) {
    if around.standbys == 0 || facts.in_recovery {
        return;
    }
    let count = around.standbys;
    let s = if count == 1 { "" } else { "s" };
    if facts.server_version < FAILOVER_SINCE {
        let what = format!(
            "{count} standby{s}: before Postgres 17 a failover loses the slot, and the agent halts"
        );
        return findings.warn(what, "see docs/runbooks.md, failover");
    }
    if row.is_some_and(|row| !row.failover) {
        let what = format!("{count} standby{s}, and the slot is not made for a failover");
        findings.warn(what, "set postgres.failover = true; see docs/runbooks.md, failover");
    }
    if around.synchronized_standby_slots.is_empty() {
        unsynchronized(around, findings);
    }
}

/// Reports what the connected server lacks for a slot that survives a failover, and if standbys can
/// copy the slot. It is called if `postgres.failover` is set.
fn wanted(name: &str, (facts, around, row): Server<'_>, findings: &mut Findings) {
    if facts.server_version < FAILOVER_SINCE {
        let major = facts.server_version / 10_000;
        let what = format!("postgres.failover is true, which Postgres {major} does not know");
        return findings.fail(what, "leave postgres.failover out, or upgrade the server to 17");
    }
    if facts.in_recovery {
        let what =
            "postgres.failover is true, and a slot that is created on a standby has no copies";
        return findings.warn(what, "set target_session_attrs=primary in postgres.url");
    }
    match row {
        None => findings
            .ok(format!("slot {name} will be created so that standbys can keep a copy of it")),
        Some(row) if row.failover => {
            findings.ok(format!("standbys can keep a copy of slot {name}"))
        }
        Some(_) => findings.ok(format!(
            "slot {name} will be altered at the next connect: standbys can then copy it"
        )),
    }
    if !around.physical_slots.iter().any(|(_, is_active)| *is_active) {
        let fix = "SELECT pg_create_physical_replication_slot('standby_1');\n-- and on the \
                   standby: ALTER SYSTEM SET primary_slot_name = 'standby_1'; SELECT \
                   pg_reload_conf();";
        findings.warn(
            "no standby is connected through a physical slot, so that nothing keeps a copy of the \
             slot",
            fix,
        );
    }
    if around.synchronized_standby_slots.is_empty() {
        return unsynchronized(around, findings);
    }
    for listed in
        around.synchronized_standby_slots.split(',').map(|name| name.trim().trim_matches('"'))
    {
        let what = match around.physical_slots.iter().find(|(name, _)| name == listed) {
            None => "does not exist",
            Some((_, false)) => "is used by nobody",
            Some((_, true)) => continue,
        };
        let what = format!(
            "synchronized_standby_slots names {listed}, which {what}: the stream stops until it is \
             used"
        );
        findings.fail(
            what,
            format!("start that standby, or take {listed} out of synchronized_standby_slots"),
        );
    }
}

/// Reports that `synchronized_standby_slots` is empty, so records in Kafka can be ahead of the
/// standbys. The SQL of the fix names the physical slots in use.
fn unsynchronized(around: &Surroundings, findings: &mut Findings) {
    let used = around
        .physical_slots
        .iter()
        .filter(|(_, is_active)| *is_active)
        .map(|(name, _)| name.as_str());
    let used = used.collect::<Vec<_>>().join(", ");
    let named = if used.is_empty() { "<the standby's physical slot>" } else { &used };
    let what = "synchronized_standby_slots is empty: Kafka can be ahead of the standby that a \
        failover promotes";
    findings.warn(
        what,
        format!(
            "ALTER SYSTEM SET synchronized_standby_slots = {};\n{RELOAD}",
            escape_literal(named)
        ),
    );
}

/// Reports what a standby lacks to keep a copy of the slot, or that the standby keeps a copy.
fn standby(
    host: &str,
    found: &Standby,
    (name, copy): (&str, Option<&SlotRow>),
    findings: &mut Findings,
) {
    let before = findings.list.len();
    let mut lack = |what: &str, set: &str| {
        findings.warn(format!("standby {host}: {what}"), format!("-- on {host}\n{set}\n{RELOAD}"));
    };
    if !found.syncs {
        lack(
            "sync_replication_slots is off, so that it copies no slot",
            "ALTER SYSTEM SET sync_replication_slots = on;",
        );
    }
    if !found.feedback {
        lack(
            "hot_standby_feedback is off, without which it copies no slot",
            "ALTER SYSTEM SET hot_standby_feedback = on;",
        );
    }
    if found.slot_name.is_empty() {
        let set = "ALTER SYSTEM SET primary_slot_name = '<its physical slot on the primary>';";
        lack("primary_slot_name is empty, without which it copies no slot", set);
    }
    if found.names_database == Some(false) {
        let set = "ALTER SYSTEM SET primary_conninfo = '... dbname=postgres';";
        lack("primary_conninfo names no database, without which it copies no slot", set);
    }
    match copy {
        Some(SlotRow { synced: true, temporary: false, confirmed_flush_lsn: Some(at), .. }) => {
            findings
                .ok(format!("standby {host} keeps a copy of slot {name}, confirmed up to {at}"));
        }
        _ if findings.list.len() == before => {
            let what =
                format!("standby {host} has no copy of slot {name} that a promotion could use yet");
            findings.warn(
                what,
                "check again in a minute; the copy of the slot appears after the slot has moved",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;
    use expect_test::expect;

    fn facts(server_version: u32) -> Facts {
        Facts::fit(server_version)
    }

    #[test]
    fn a_failover_that_the_slot_would_not_survive_is_told() {
        let around = Surroundings { standbys: 1, ..Surroundings::default() };
        check(
            |findings| unasked((&facts(150_018), &around, None), findings),
            expect![[r#"
                warn  1 standby: before Postgres 17 a failover loses the slot, and the agent halts
                        see docs/runbooks.md, failover"#]],
        );
        check(
            |findings| unasked((&facts(150_018), &Surroundings::default(), None), findings),
            expect![""],
        );
        check(
            |findings| wanted("s", (&facts(160_010), &around, None), findings),
            expect![[r#"
                FAIL  postgres.failover is true, which Postgres 16 does not know
                        leave postgres.failover out, or upgrade the server to 17"#]],
        );
    }

    #[test]
    fn a_listed_slot_that_would_stop_the_stream_is_a_fault() {
        let around = Surroundings {
            standbys: 1,
            physical_slots: vec![("a".to_owned(), true), ("b".to_owned(), false)],
            synchronized_standby_slots: "a, b, \"c\"".to_owned(),
            ..Surroundings::default()
        };
        check(
            |findings| wanted("s", (&facts(170_010), &around, None), findings),
            expect![[r#"
                FAIL  synchronized_standby_slots names b, which is used by nobody: the stream stops until it is used
                        start that standby, or take b out of synchronized_standby_slots
                FAIL  synchronized_standby_slots names c, which does not exist: the stream stops until it is used
                        start that standby, or take c out of synchronized_standby_slots"#]],
        );
    }
}
