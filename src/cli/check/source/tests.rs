//! Tests of findings from facts that are written by hand, without a server.

use super::super::tests::table;
use super::super::{Area, Level};
use super::*;
use crate::lsn::{Lsn, Oid};
use crate::postgres::preflight::Role;
use crate::postgres::publication::Excepted;
use expect_test::{Expect, expect};

fn facts() -> Facts {
    Facts {
        server_version: 150_018,
        wal_level: "logical".to_owned(),
        wal_level_set: "logical".to_owned(),
        in_recovery: false,
        encoding: "UTF8".to_owned(),
        database_oid: Oid(5),
        role: Role {
            name: "w s".to_owned(),
            superuser: false,
            login: true,
            replication: true,
            create_on_database: true,
        },
        slots_max: 10,
        slots_used: 1,
        senders_max: 10,
        senders_used: 1,
        slot_keep_bytes_max: Some(1 << 30),
        wal_sender_timeout: None,
        synchronous_standby_names: String::new(),
    }
}

#[track_caller]
fn check(find: impl FnOnce(&mut Findings), expect: Expect) {
    let mut findings = Findings::new(Area::Postgres);
    find(&mut findings);
    let wrong = findings.list.iter().filter(|finding| finding.level != Level::Ok);
    let lines: Vec<String> = wrong.map(|finding| super::super::as_text(finding, false)).collect();
    expect.assert_eq(&lines.join("\n"));
}

fn checked(text: &str) -> Checked {
    let text = format!(
        "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@h/shop\"\n{text}\n[topics]\nprefix \
         = \"p\"\n[tables]\n\
         include = [\"public.*\"]\n"
    );
    crate::config::check("w.toml", &text, &crate::config::Environment::new()).unwrap().checked
}

#[test]
fn a_server_set_up_well_leaves_nothing_to_say() {
    check(|findings| settings(&facts(), "wellspring", findings), expect![""]);
}

#[test]
fn names_the_sql_for_each_setting_that_is_wrong() {
    let mut wrong = facts();
    wrong.wal_level = "replica".to_owned();
    wrong.role.replication = false;
    wrong.senders_used = 10;
    wrong.slot_keep_bytes_max = None;
    wrong.synchronous_standby_names = "*".to_owned();
    check(
        |findings| settings(&wrong, "wellspring", findings),
        expect![[r#"
            FAIL  wal_level is replica, changes cannot be decoded
                    ALTER SYSTEM SET wal_level = 'logical';
                    -- and restart the server
            FAIL  role w s may not replicate
                    ALTER ROLE "w s" REPLICATION;
                    -- on Amazon RDS: GRANT rds_replication TO "w s";
            FAIL  all 10 walsenders are in use (max_wal_senders)
                    ALTER SYSTEM SET max_wal_senders = 15;
                    -- and restart the server
            FAIL  synchronous_standby_names names wellspring: the application's commits would wait for Kafka
                    list the real standbys there instead of *, or give the URL another application_name"#]],
    );
}

#[test]
fn a_table_that_would_break_the_application_is_named_with_its_fix() {
    let checked = checked("");
    let harmful = Candidate {
        fixes: vec!["ALTER TABLE public.log REPLICA IDENTITY FULL;".to_owned()],
        ..table("log")
    };
    let unlogged = Candidate { logged: false, ..table("cache") };
    let all = [harmful, unlogged, table("orders")];
    let captured: Vec<&Candidate> = all.iter().collect();
    check(
        |findings| tables(&checked, &all, (&captured, &[]), findings),
        expect![[r#"
        FAIL  public.log has no replica identity: once published, the application's UPDATE and DELETE fail
                ALTER TABLE public.log REPLICA IDENTITY FULL;
                -- or put it into tables.exclude
        FAIL  public.cache is unlogged and cannot be published
                ALTER TABLE "public"."cache" SET LOGGED;
                -- or put it into tables.exclude"#]],
    );
    check(
        |findings| tables(&checked, &[], (&[], &[]), findings),
        expect![[r#"
        warn  tables.include: public.* matches no table
                correct it, or create the table
        FAIL  no table of database `shop` is captured
                correct tables.include and tables.exclude, or the database in postgres.url"#]],
    );
}

#[test]
fn a_publication_is_held_against_the_configuration() {
    let checked = checked("");
    let row = PublicationRow {
        oid: Oid(1),
        all_tables: false,
        all_sequences: false,
        excepted: None,
        via_root: false,
        inserts: true,
        updates: true,
        deletes: false,
        truncates: false,
        tables: Vec::new(),
    };
    let orders = Candidate { kind: RelationKind::Partitioned, ..table("orders") };
    check(
        |findings| publication_row(&checked, &row, &[&orders], findings),
        expect![[r#"
        FAIL  publication wellspring_p lacks public.orders
                ALTER PUBLICATION "wellspring_p" ADD TABLE ONLY "public"."orders";
        warn  publication wellspring_p publishes partitions under their own names
                ALTER PUBLICATION "wellspring_p" SET (publish_via_partition_root = true);
        warn  publication wellspring_p does not publish delete, truncate
                ALTER PUBLICATION "wellspring_p" SET (publish = 'insert, update, delete, truncate');"#]],
    );
}

#[test]
fn a_publication_of_all_tables_is_corrected_by_sql_it_takes() {
    let excepted = |name: &str| Excepted {
        relation: Oid(u32::try_from(name.len()).unwrap()),
        name: TableName::new("public", name),
        root: TableName::new("public", name),
    };
    let row = PublicationRow {
        oid: Oid(1),
        all_tables: true,
        all_sequences: true,
        excepted: Some(vec![excepted("audits"), excepted("orders")]),
        via_root: true,
        inserts: true,
        updates: true,
        deletes: true,
        truncates: true,
        tables: Vec::new(),
    };
    let orders = table("orders");
    check(
        |findings| publication_row(&checked(""), &row, &[&orders], findings),
        expect![[r#"
        FAIL  publication wellspring_p lacks public.orders
                ALTER PUBLICATION "wellspring_p" SET ALL TABLES EXCEPT (TABLE ONLY "public"."audits"), ALL SEQUENCES;
                -- or put it into tables.exclude
        warn  publication wellspring_p is FOR ALL TABLES: a new table without key breaks the application
                DROP PUBLICATION "wellspring_p";
                -- let wellspring run create it; then wellspring slot accept"#]],
    );
    let sequences = PublicationRow { all_tables: false, excepted: Some(Vec::new()), ..row };
    check(
        |findings| publication_row(&checked(""), &sequences, &[&orders], findings),
        expect![[r#"
        FAIL  publication wellspring_p is FOR ALL SEQUENCES and publishes no table
                set postgres.publication to another name: the agent creates that publication"#]],
    );
}

#[test]
fn prints_the_publication_for_an_administrator_where_the_role_may_not_create_it() {
    let names = [TableName::new("public", "orders")];
    let rights = |owner| {
        [TableRights {
            name: names[0].clone(),
            relation: Some(Oid(6)),
            usage: true,
            select: true,
            owner,
        }]
    };
    check(
        |findings| no_publication(&checked(""), &facts(), &rights(true), &names, findings),
        expect![""],
    );
    check(
        |findings| no_publication(&checked(""), &facts(), &rights(false), &names, findings),
        expect![[r#"
        FAIL  publication wellspring_p does not exist, and w s does not own public.orders
                CREATE PUBLICATION "wellspring_p" FOR TABLE ONLY "public"."orders" WITH (publish_via_partition_root = true);
                -- as the tables' owner"#]],
    );
    let off = checked("create_publication = false");
    check(
        |findings| no_publication(&off, &facts(), &rights(true), &names, findings),
        expect![[r#"
        FAIL  publication wellspring_p does not exist, and postgres.create_publication is off
                CREATE PUBLICATION "wellspring_p" FOR TABLE ONLY "public"."orders" WITH (publish_via_partition_root = true);"#]],
    );
}

#[test]
fn a_slot_of_somebody_else_is_not_ours_to_use() {
    let row = SlotRow {
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        database_oid: Some(Oid(5)),
        temporary: false,
        active_pid: None,
        restart_lsn: Some(Lsn::new(1)),
        confirmed_flush_lsn: Some(Lsn::new(1)),
        catalog_xmin: None,
        wal_status: None,
        safe_wal_size: None,
        invalidation: None,
        two_phase: false,
        failover: false,
        synced: false,
        server_lsn: Lsn::new(5),
    };
    check(|findings| slot_row("s", Some(&row), &facts(), "shop", findings), expect![""]);
    check(
        |findings| slot_row("s", Some(&row), &facts(), "other", findings),
        expect![[r#"
        FAIL  slot s belongs to shop with pgoutput: slots share one name space per cluster
                set postgres.slot to a name of its own"#]],
    );
    let lost = SlotRow { invalidation: Some("wal_removed".to_owned()), ..row };
    check(
        |findings| slot_row("s", Some(&lost), &facts(), "shop", findings),
        expect![[r#"
        FAIL  slot s is lost (wal_removed): the server discarded WAL that it needs
                wellspring slot status, then wellspring slot accept"#]],
    );
    let full = Facts { slots_used: 10, ..facts() };
    check(
        |findings| slot_row("s", None, &full, "shop", findings),
        expect![[r#"
        FAIL  all 10 replication slots are in use
                ALTER SYSTEM SET max_replication_slots = 15;
                -- and restart the server, or drop one"#]],
    );
}

#[test]
fn a_first_copy_needs_select_on_what_it_copies() {
    let rights = |name: &str, usage, select| TableRights {
        name: TableName::new("public", name),
        relation: Some(Oid(1)),
        usage,
        select,
        owner: false,
    };
    let tables = [rights("a", true, true), rights("b", true, false), rights("audit", false, false)];
    check(
        |findings| readable(&checked(""), &facts(), &tables, findings),
        expect![[r#"
        FAIL  w s may not read every table that the first copy reads
                GRANT SELECT ON "public"."b" TO "w s"; GRANT USAGE ON SCHEMA "public" TO "w s"; GRANT SELECT ON "public"."audit" TO "w s";"#]],
    );
    let skipping = checked("[snapshot]\nskip = [\"public.audit\"]");
    check(
        |findings| readable(&skipping, &facts(), &tables, findings),
        expect![[r#"
        FAIL  w s may not read every table that the first copy reads
                GRANT SELECT ON "public"."b" TO "w s";"#]],
    );
    let closed = [rights("a", false, false), rights("b", false, false)];
    check(
        |findings| readable(&checked(""), &facts(), &closed, findings),
        expect![[r#"
        FAIL  w s may not read every table that the first copy reads
                GRANT USAGE ON SCHEMA "public" TO "w s"; GRANT SELECT ON "public"."a" TO "w s"; GRANT SELECT ON "public"."b" TO "w s";"#]],
    );
    let streaming = checked("[snapshot]\nmode = \"no_data\"");
    check(|findings| readable(&streaming, &facts(), &tables, findings), expect![""]);
}

#[test]
fn origins_are_told_apart_from_16_on() {
    let newer = Facts { server_version: 160_000, ..facts() };
    check(|findings| origins(Origins::None, &newer, findings), expect![""]);
    check(|findings| origins(Origins::Any, &facts(), findings), expect![""]);
    check(
        |findings| origins(Origins::None, &facts(), findings),
        expect![[r#"
        FAIL  postgres.origin is "none", which Postgres 15 does not know
                leave postgres.origin out, or upgrade the server to 16"#]],
    );
}
