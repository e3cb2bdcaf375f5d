//! The postgres room against a real server: connections, slots, the stream, the catalog.

mod support {
    pub mod postgres;
}

use expect_test::expect;
use std::sync::Arc;
use std::time::Duration;
use support::postgres::Server;
use wellspring::lsn::{Lsn, Oid, PgMicros};
use wellspring::pgoutput::{self, Cell, Message};
use wellspring::postgres::{
    Config, Frame, PgError, Replication, Sql, StandbyStatus, StartOptions, Stream, catalog, parse_url, preflight,
    publication, slot,
};
use wellspring::secret::{Secret, Source};
use wellspring::table::{TableName, TypeClass};

/// For anything that takes milliseconds where all is well.
const SOON: Duration = Duration::from_secs(30);

fn config(url: &str) -> Config {
    Config::from_url(parse_url(url).unwrap()).unwrap()
}

async fn replication(server: &Server) -> Replication {
    Replication::connect(&config(&server.url("postgres"))).await.unwrap()
}

async fn sql(server: &Server) -> Sql {
    Sql::connect(&config(&server.url("postgres"))).await.unwrap()
}

fn options() -> StartOptions {
    StartOptions { slot: "s".into(), publication: "p".into(), messages: true }
}

/// Reads until `seen` says so and gives what it made of the frames.
async fn read_until<T>(stream: &mut Stream, mut seen: impl FnMut(Frame<'_>) -> Option<T>) -> T {
    let reading = async {
        loop {
            while let Some(frame) = stream.next_frame().unwrap() {
                if let Some(found) = seen(frame) {
                    return found;
                }
            }
            stream.fill().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("the frames waited for did not come")
}

/// Reads one transaction: what it holds, in words, and its end.
async fn transaction(stream: &mut Stream) -> (Vec<String>, Lsn) {
    let mut told = Vec::new();
    read_until(stream, |frame| {
        let Frame::XLogData { payload, .. } = frame else { return None };
        match pgoutput::decode(payload).unwrap() {
            Message::Begin { .. } => told.push("begin".to_owned()),
            Message::Insert { new, .. } => {
                let cells = new.cells().map(|cell| match cell {
                    Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                });
                told.push(format!("insert {}", cells.collect::<Vec<_>>().join(",")));
            }
            Message::Logical { prefix, .. } => told.push(format!("message {prefix}")),
            Message::Commit { end_lsn, .. } => return Some((std::mem::take(&mut told), end_lsn)),
            _ => {}
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_committed_row_arrives_and_is_not_sent_again_once_confirmed() {
    let server = Server::start();
    server.sql("postgres", "create table t (id int primary key, x text); create publication p for table t");
    let mut control = replication(&server).await;
    assert!(control.server_version() >= 140_000);
    let identity = control.identify_system().await.unwrap();
    assert_eq!((identity.timeline, identity.database.as_str()), (1, "postgres"));
    assert_eq!(control.timeline_history(1).await.unwrap(), []);
    assert_eq!(control.wal_sender_timeout().await.unwrap(), Some(Duration::from_secs(60)));
    let slot = control.create_slot("s", SOON).await.unwrap();
    assert!(slot.consistent_point >= identity.flushed && slot.snapshot.is_some());
    server.sql(
        "postgres",
        "begin; insert into t values (1, 'one'); select pg_logical_emit_message(true, 'note', 'x'); commit;
         insert into t values (2, null)",
    );

    let pid = control.backend_pid();
    let mut stream = control.start(&options()).await.unwrap();
    assert_eq!(stream.backend_pid(), pid);
    assert_eq!(transaction(&mut stream).await.0, ["begin", "insert 1,one", "message note"]);
    let (_, end) = transaction(&mut stream).await;
    let sql = sql(&server).await;
    assert_eq!(slot::read(&sql, "s").await.unwrap().unwrap().active_pid, Some(pid));
    assert_eq!(preflight::sync_state(&sql, pid).await.unwrap(), preflight::SyncState::Known("async".into()));
    assert!(preflight::walsender_signs(&sql, pid, "s").await.unwrap().alive);

    let status = StandbyStatus { write: end, flush: end, apply: end, reply: true };
    stream.queue_status(status, PgMicros(0));
    stream.flush().await.unwrap();
    assert!(!stream.has_unsent());
    let kept_up = read_until(&mut stream, |frame| match frame {
        Frame::Keepalive { end, reply, .. } => Some((end, reply)),
        _ => None,
    })
    .await;
    assert!(kept_up.0 >= end);
    stream.finish().await;

    let row = slot::read(&sql, "s").await.unwrap().unwrap();
    assert_eq!((row.active_pid, row.confirmed_flush_lsn), (None, Some(end)), "finish waits for the slot to be free");
    assert_eq!(
        (row.plugin.as_deref(), row.database.as_deref(), row.invalidation),
        (Some("pgoutput"), Some("postgres"), None)
    );
    assert!(row.server_lsn >= end);
    assert!(!preflight::walsender_signs(&sql, pid, "s").await.unwrap().alive);
    server.sql("postgres", "insert into t values (3, 'three')");
    let mut stream = replication(&server).await.start(&options()).await.unwrap();
    assert_eq!(transaction(&mut stream).await.0, ["begin", "insert 3,three"]);
    stream.finish().await;
    replication(&server).await.drop_slot("s").await.unwrap();
    assert_eq!(slot::read(&sql, "s").await.unwrap(), None);
}

#[tokio::test]
async fn a_held_slot_a_missing_one_and_a_missing_publication_are_told_apart() {
    let server = Server::start();
    server.sql("postgres", "create table t (id int primary key)");
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let mut held = replication(&server).await.start(&options()).await.unwrap();
    let error = replication(&server).await.start(&options()).await.err().unwrap();
    assert!(error.is_slot_in_use(), "{error}");
    let missing = StartOptions { slot: "no".into(), ..options() };
    assert_eq!(replication(&server).await.start(&missing).await.err().unwrap().sqlstate(), Some("42704"));
    let mut control = replication(&server).await;
    assert_eq!(control.create_slot("s", SOON).await.unwrap_err().sqlstate(), Some("42710"));
    assert_eq!(control.query("select 1, null").await.unwrap(), [[Some("1".to_owned()), None]], "usable after an error");

    if server.major() < 18 {
        server.sql("postgres", "insert into t values (1)");
        let failed = async {
            while let Ok(_) = held.fill().await {
                loop {
                    match held.next_frame() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(error) => return error,
                    }
                }
            }
            panic!("closed without an error")
        };
        let error = tokio::time::timeout(SOON, failed).await.unwrap();
        assert_eq!(error.sqlstate(), Some("42704"), "{error}");
    }
}

#[tokio::test]
async fn a_new_slot_waits_for_writers_and_says_for_whom() {
    let server = Server::start();
    server.sql("postgres", "create table t (id int)");
    let sql = sql(&server).await;
    assert_eq!(slot::blockers(&sql).await.unwrap(), []);
    let writer = Sql::connect_as(&config(&server.url("postgres")), ":writer").await.unwrap();
    writer.execute("begin").await.unwrap();
    writer.execute("insert into public.t values (1)").await.unwrap();
    server.sql("postgres", "begin; insert into t values (2); prepare transaction 'later'");

    let blockers = slot::blockers(&sql).await.unwrap();
    assert_eq!(blockers.len(), 2, "{blockers:?}");
    assert_eq!(blockers[0].pid, Some(writer.backend_pid()));
    assert_eq!(blockers[0].application.as_deref(), Some("wellspring:writer"));
    assert_eq!(blockers[0].state.as_deref(), Some("idle in transaction"));
    assert!(blockers[0].age.is_some());
    assert_eq!((blockers[1].pid, blockers[1].prepared.as_deref()), (None, Some("later")));

    let mut control = replication(&server).await;
    let error = control.create_slot("s", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("55P03"), "{error}");
    assert_eq!(slot::read(&sql, "s").await.unwrap(), None);
    server.sql("postgres", "rollback prepared 'later'");
    writer.execute("commit").await.unwrap();
    control.create_slot("s", SOON).await.unwrap();
}

#[tokio::test]
async fn every_way_of_logging_in_works_or_says_why_not() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role scram login replication password 'sécret';
         set password_encryption = md5; create role old login replication password 'older'",
    );
    server.allow(
        "local all all trust
         host all scram 127.0.0.1/32 scram-sha-256
         host all old 127.0.0.1/32 md5
         host all clear 127.0.0.1/32 password
         host all postgres 127.0.0.1/32 trust",
    );
    let as_role = |role: &str, password: &str| {
        config(&format!("postgresql://{role}:{password}@127.0.0.1:{}/postgres?sslmode=disable", server.port()))
    };
    for role in [as_role("scram", "s%C3%A9cret"), as_role("old", "older")] {
        Replication::connect(&role).await.unwrap().identify_system().await.unwrap();
        Sql::connect(&role).await.unwrap().query("select 1").await.unwrap();
    }
    for role in [as_role("scram", "wrong"), as_role("old", "wrong"), as_role("nobody", "wrong")] {
        let error = Replication::connect(&role).await.err().unwrap();
        assert!(matches!(error, PgError::Auth { .. }), "{error:?}");
        assert!(error.sqlstate().unwrap().starts_with("28"));
        assert!(!format!("{error:?}").contains("wrong"));
    }
    let mut without = as_role("scram", "x");
    without.password = None;
    assert!(matches!(Sql::connect(&without).await.err(), Some(PgError::PasswordMissing { .. })));
    let error = Sql::connect(&as_role("clear", "x")).await.err().unwrap();
    assert!(matches!(error, PgError::AuthUnsupported { .. }), "no clear password in the clear: {error:?}");

    // Read again on each connect: a rotated file is picked up.
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut rotated = as_role("scram", "x");
    rotated.password = Some(Source::File(file.path().to_owned()));
    std::fs::write(file.path(), "no\n").unwrap();
    assert!(matches!(Sql::connect(&rotated).await.err(), Some(PgError::Auth { .. })));
    std::fs::write(file.path(), "sécret\n").unwrap();
    Sql::connect(&rotated).await.unwrap();
    rotated.password = Some(Source::Inline(Secret::new("sécret")));
    Sql::connect(&rotated).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_a_dead_port_and_a_list_of_hosts_are_reached_or_named() {
    let server = Server::start();
    let unix = config(&server.unix_url("postgres"));
    Sql::connect(&unix).await.unwrap();
    let mut control = Replication::connect(&unix).await.unwrap();
    control.create_slot("s", SOON).await.unwrap();
    control.start(&options()).await.unwrap().finish().await;

    let error = Sql::connect(&config("postgresql://u@127.0.0.1:1/d?sslmode=disable")).await.err().unwrap();
    assert!(matches!(error, PgError::Connect { .. }) && error.to_string().contains("127.0.0.1:1"), "{error}");
    let nowhere = config("postgresql://u@wellspring.invalid/d?sslmode=disable");
    assert!(matches!(Sql::connect(&nowhere).await.err(), Some(PgError::Resolve { .. })));
    let list = format!("postgresql://postgres@127.0.0.1:1,127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let sql = Sql::connect(&config(&list)).await.unwrap();
    assert_eq!(sql.host().to_string(), format!("127.0.0.1:{}", server.port()));
    let standby_wanted = config(&format!("{}&target_session_attrs=standby", server.url("postgres")));
    assert!(matches!(Sql::connect(&standby_wanted).await.err(), Some(PgError::WrongRole { .. })));
    let error = Sql::connect(&config(&server.url("missing"))).await.err().unwrap();
    assert_eq!(error.sqlstate(), Some("3D000"), "{error}");
    let clear = config(&server.url("postgres").replace("sslmode=disable", "sslmode=require"));
    assert!(matches!(Sql::connect(&clear).await.err(), Some(PgError::TlsRefused { .. })));
}

#[tokio::test]
async fn settings_are_ours_whatever_role_and_database_say() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role r login replication superuser;
         alter role r set datestyle = 'German'; alter role r set timezone = 'Asia/Tokyo';
         alter role r set bytea_output = 'escape'; alter role r set intervalstyle = 'iso_8601';
         alter role r set extra_float_digits = 0; alter role r set statement_timeout = 1;
         alter role r set idle_session_timeout = 1; alter role r set row_security = on;
         alter database postgres set client_encoding = 'latin1'",
    );
    if server.major() >= 17 {
        server.sql("postgres", "alter role r set transaction_timeout = '1h'");
    }
    let url = server.url("postgres").replace("postgres@", "r@");
    let config = config(&format!("{url}&options=-c%20wal_sender_timeout%3D7s%20-c%20datestyle%3DSQL"));
    let mut names = vec![
        ("DateStyle", "ISO, DMY"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "3"),
        ("idle_session_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("row_security", "off"),
        ("client_encoding", "UTF8"),
    ];
    if server.major() >= 17 {
        names.push(("transaction_timeout", "0"));
    }
    let mut control = Replication::connect(&config).await.unwrap();
    let sql = Sql::connect(&config).await.unwrap();
    for (name, value) in names {
        let show = format!("select current_setting('{name}')");
        let walsender = control.query(&show).await.unwrap()[0][0].clone().unwrap();
        let ordinary = sql.query(&show).await.unwrap()[0][0].clone().unwrap();
        assert_eq!(walsender, ordinary, "{name}");
        assert!(walsender == value || name == "DateStyle" && walsender.starts_with("ISO"), "{name} = {walsender}");
    }
    assert_eq!(control.wal_sender_timeout().await.unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(control.query("show statement_timeout").await.unwrap(), [[Some("0".to_owned())]]);
    assert_eq!(sql.query("show statement_timeout").await.unwrap(), [[Some("30s".to_owned())]]);
}

#[tokio::test]
async fn a_fast_shutdown_ends_the_sentinel_and_says_goodbye_to_a_stream_that_keeps_up() {
    let server = Arc::new(Server::start());
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let sentinel = sql(&server).await;
    let mut stream = replication(&server).await.start(&options()).await.unwrap();
    let stopping = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.stop_fast(20)
    });
    let ended = tokio::time::timeout(SOON, sentinel.ended()).await.unwrap();
    assert_eq!(ended.error.unwrap().sqlstate, "57P01");
    let refused = Sql::connect(&config(&server.url("postgres"))).await.err().unwrap();
    assert!(refused.is_shutting_down() || matches!(refused, PgError::Connect { .. }), "{refused:?}");

    let goodbye = async {
        loop {
            stream.fill().await?;
            let mut sent = None;
            while let Some(frame) = stream.next_frame()? {
                match frame {
                    Frame::Keepalive { end, .. } => sent = Some(end),
                    Frame::Goodbye => return Ok::<_, PgError>(()),
                    Frame::XLogData { .. } => {}
                }
            }
            if let Some(write) = sent {
                let status = StandbyStatus { write, flush: Lsn::ZERO, apply: Lsn::ZERO, reply: false };
                stream.queue_status(status, PgMicros(0));
                stream.flush().await?;
            }
        }
    };
    tokio::time::timeout(SOON, goodbye).await.unwrap().unwrap();
    assert!(stopping.await.unwrap());
    server.start_again();
    sql(&server).await;
}

#[tokio::test]
async fn the_catalog_gives_what_a_relation_message_lacks() {
    let server = Server::start();
    server.sql(
        "postgres",
        r#"create extension hstore;
        create schema "Other s";
        create type "Other s".mood as enum ('sad', 'ok'); alter type "Other s".mood add value 'meh' before 'ok';
        create domain pos as int check (value > 0); create domain must as pos not null;
        create domain price as numeric(10,2);
        create type pair as (a int, b text); create type span as range (subtype = float8);
        create table "Other s"."T x" (
          id serial, big bigint generated by default as identity, "Na""me" varchar(20) not null default 'x''y',
          m "Other s".mood default 'ok', ms "Other s".mood[], d must, p price default 1.5, ps price[],
          pr pair, sp span, h hstore, v int2vector, gen int generated always as (1 + 1) stored, at timestamptz(3) default now(),
          gone int, primary key ("Na""me", id));
        alter table "Other s"."T x" drop column gone;
        create unique index a_expression on "Other s"."T x" ((id + 1));
        create unique index b_partial on "Other s"."T x" (big) where big > 0;
        create unique index c_usable on "Other s"."T x" (m, id) include (big);
        create unique index d_later on "Other s"."T x" (id);
        alter table "Other s"."T x" replica identity using index "T x_pkey";"#,
    );
    let sql = sql(&server).await;
    let oid = Oid(server.sql("postgres", r#"select '"Other s"."T x"'::regclass::oid"#).parse().unwrap());
    let facts = catalog::table_facts(&sql, oid).await.unwrap();

    assert_eq!(facts.primary_key, ["Na\"me", "id"]);
    assert_eq!(facts.unique_index, ["m", "id"]);
    assert_eq!(facts.identity_index, ["Na\"me", "id"]);
    let told: Vec<String> = facts
        .columns
        .iter()
        .map(|(name, c)| {
            format!("{name}: {} {} {:?}", if c.not_null { "required" } else { "null" }, c.serial, c.default)
        })
        .collect();
    expect![[r#""#]].assert_eq(&told.join("\n"));
    let type_of = |column: &str| facts.types[&facts.columns[column].type_oid].clone();
    let base_of = |column: &str| match type_of(column).class {
        TypeClass::Domain { base, typmod } => (facts.types[&base].name.clone(), typmod),
        TypeClass::Array { element } => (facts.types[&element].name.clone(), -1),
        other => panic!("{other:?}"),
    };
    assert_eq!(type_of("m").class, TypeClass::Enum { labels: ["sad", "meh", "ok"].map(str::to_owned).into() });
    assert_eq!((type_of("m").name.as_str(), type_of("m").namespace.as_str()), ("mood", "Other s"));
    assert_eq!(base_of("ms"), ("mood".into(), -1));
    assert_eq!(base_of("d"), ("pos".into(), -1));
    assert!(facts.types.values().any(|t| t.name == "int4"), "through both domains");
    assert_eq!(base_of("p"), ("numeric".into(), 655_366));
    assert_eq!(base_of("ps"), ("price".into(), -1));
    assert_eq!(facts.columns["at"].typmod, 3);
    assert_eq!(type_of("pr").class, TypeClass::Composite);
    assert_eq!(type_of("sp").class, TypeClass::Range);
    assert_eq!((type_of("h").class, type_of("h").namespace.as_str()), (TypeClass::Base, "public"));
    assert_eq!(type_of("v").class, TypeClass::Base, "int2vector does not print as an array");

    assert_eq!(catalog::table_facts(&sql, Oid(4_000_000_000)).await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_not_null_that_was_never_validated_does_not_count() {
    let server = Server::start();
    if server.major() < 18 {
        return;
    }
    server.sql(
        "postgres",
        "create table t (a int, b int); insert into t values (null, 1);
         alter table t add constraint a_set not null a not valid; alter table t alter b set not null",
    );
    let oid = Oid(server.sql("postgres", "select 't'::regclass::oid").parse().unwrap());
    let facts = catalog::table_facts(&sql(&server).await, oid).await.unwrap();
    assert_eq!((facts.columns["a"].not_null, facts.columns["b"].not_null), (false, true));
}

#[tokio::test]
async fn a_publication_of_ours_has_exactly_its_tables_and_their_memberships() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table a (id int primary key); create table \"B c\" (id int); create table child () inherits (a);
         create table root (id int primary key, k int) partition by range (id);
         create table leaf1 partition of root for values from (0) to (10);
         create table leaf2 partition of root for values from (10) to (20)",
    );
    let sql = sql(&server).await;
    assert_eq!(publication::read(&sql, "p").await.unwrap(), None);
    let wanted = ["a", "B c", "root"].map(|name| TableName::new("public", name));
    publication::create(&sql, "p", &wanted, SOON).await.unwrap();
    let before = publication::read(&sql, "p").await.unwrap().unwrap();
    let names: Vec<String> = before.tables.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["public.B c", "public.a", "public.root"]);
    assert!(before.via_root && before.updates && before.truncates && !before.all_tables);
    assert!(before.tables.iter().all(|t| t.membership != Oid(0) && !t.row_filter && !t.column_list));
    let fails: Vec<bool> = before.tables.iter().map(|t| t.update_fails).collect();
    assert_eq!(fails, [true, false, false]);

    server.sql("postgres", "alter publication p drop table only a; alter publication p add table only a");
    let after = publication::read(&sql, "p").await.unwrap().unwrap();
    let moved: Vec<bool> = before.tables.iter().zip(&after.tables).map(|(b, a)| b.membership != a.membership).collect();
    assert_eq!((moved, before.oid == after.oid), (vec![false, true, false], true));

    // A lock in the way is an error after its limit, and the session is usable then.
    let busy = Sql::connect(&config(&server.url("postgres"))).await.unwrap();
    busy.execute("begin").await.unwrap();
    busy.execute("lock table public.a in share mode").await.unwrap();
    let error = publication::create(&sql, "q", &wanted, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("55P03"), "{error}");
    assert_eq!(publication::read(&sql, "q").await.unwrap(), None);
    busy.execute("rollback").await.unwrap();

    server.sql("postgres", "create publication leaves for table root; create publication every for all tables");
    let leaves = publication::read(&sql, "leaves").await.unwrap().unwrap();
    let names: Vec<&str> = leaves.tables.iter().map(|t| &*t.name.name).collect();
    assert_eq!(names, ["leaf1", "leaf2"]);
    assert!(leaves.tables[0].membership != Oid(0) && leaves.tables[0].membership == leaves.tables[1].membership);
    let every = publication::read(&sql, "every").await.unwrap().unwrap();
    assert!(every.all_tables && every.tables.iter().all(|t| t.membership == Oid(0)));
    if server.major() >= 15 {
        server.sql(
            "postgres",
            "create publication s for tables in schema public, table a where (id > 1);
             create publication l for table root (id)",
        );
        let schema = publication::read(&sql, "s").await.unwrap().unwrap();
        let of = |name: &str| schema.tables.iter().find(|t| &*t.name.name == name).unwrap();
        assert!(of("a").row_filter && !of("B c").row_filter);
        assert!(of("B c").membership != Oid(0) && of("B c").membership == of("leaf1").membership);
        assert_ne!(of("a").membership, of("B c").membership);
        assert!(publication::read(&sql, "l").await.unwrap().unwrap().tables.iter().all(|t| t.column_list));
    }
}

#[tokio::test]
async fn a_candidate_whose_update_would_fail_comes_with_the_sql_that_prevents_it() {
    let server = Server::start();
    server.sql(
        "postgres",
        r#"create table with_key (id int primary key); create table without_key (id int);
        create table uniq (id int not null unique, x int unique); create table nullable (id int unique);
        create table late (id int primary key deferrable); create table off (id int primary key);
        alter table off replica identity nothing;
        create table lost (id int not null); create unique index lost_i on lost (id);
        alter table lost replica identity using index lost_i; drop index lost_i;
        create table whole (id int); alter table whole replica identity full;
        create unlogged table fleeting (id int);
        create schema "S"; create table "S"."Root" (id int) partition by list (id);
        create table "S"."One" partition of "S"."Root" for values in (1);
        create table "S".mid partition of "S"."Root" for values in (2) partition by list (id);
        create table "S".low partition of "S".mid for values in (2); alter table "S".low replica identity full;"#,
    );
    let sql = sql(&server).await;
    let candidates = publication::candidates(&sql).await.unwrap();
    let told: Vec<String> = candidates
        .iter()
        .map(|c| {
            let flags =
                [(c.primary_key, "pk"), (c.usable_key, "key"), (c.is_partition, "leaf"), (!c.logged, "unlogged")];
            let flags: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            format!("{} {:?} {:?} [{}] {}", c.name, c.kind, c.identity, flags.join(" "), c.fixes.join(" "))
        })
        .collect();
    expect![[r#""#]].assert_eq(&told.join("\n"));

    // What we say fails, fails; what we say is well, is; and what we advise helps.
    server.sql("postgres", "create publication every for all tables");
    for candidate in candidates.iter().filter(|c| c.logged) {
        let table = publication::quoted(&candidate.name);
        let probe = format!("update {table} set id = id where false; delete from {table} where false");
        assert_eq!(!server.try_sql("postgres", &probe).status.success(), candidate.update_fails(), "{probe}");
    }
    let fixes: Vec<String> = candidates.iter().flat_map(|c| c.fixes.clone()).collect();
    server.sql("postgres", &fixes.concat());
    assert!(publication::candidates(&sql).await.unwrap().iter().all(|c| !c.update_fails()));
}

#[tokio::test]
async fn preflight_tells_settings_and_rights() {
    let server = Server::start_with(&[("max_slot_wal_keep_size", "64MB"), ("wal_sender_timeout", "5s")]);
    server.sql(
        "postgres",
        "create role small login; create table mine (id int); alter table mine owner to small;
         create table read_only (id int); grant select on read_only to small;
         create table one_column (id int, x int); grant select (id) on one_column to small;
         create schema closed; create table closed.t (id int); grant select on closed.t to small",
    );
    let small = Sql::connect(&config(&server.url("postgres").replace("postgres@", "small@"))).await.unwrap();
    let facts = preflight::facts(&small).await.unwrap();
    assert_eq!((facts.wal_level.as_str(), facts.encoding.as_str(), facts.in_recovery), ("logical", "UTF8", false));
    assert_eq!((facts.slots_max, facts.slots_used, facts.senders_max, facts.senders_used), (10, 0, 10, 0));
    assert_eq!(facts.slot_keep_bytes_max, Some(64 << 20));
    assert_eq!(facts.wal_sender_timeout, Some(Duration::from_secs(5)));
    assert_eq!(facts.role.name, "small");
    assert!(facts.role.login && !facts.role.superuser && !facts.role.replication && !facts.role.create_on_database);
    let names =
        [("public", "mine"), ("public", "read_only"), ("public", "one_column"), ("closed", "t"), ("public", "no")];
    let rights = preflight::table_rights(&small, &names.map(|(s, t)| TableName::new(s, t))).await.unwrap();
    let told: Vec<_> = rights.iter().map(|r| (r.relation.is_some(), r.usage, r.select, r.owner)).collect();
    assert_eq!(
        told,
        [
            (true, true, true, true),
            (true, true, true, false),
            (true, true, false, false),
            (true, false, true, false),
            (false, true, false, false)
        ]
    );
    let error =
        Replication::connect(&config(&server.url("postgres").replace("postgres@", "small@"))).await.err().unwrap();
    assert!(error.sqlstate() == Some("42501"), "{error:?}");
    let facts = preflight::facts(&sql(&server).await).await.unwrap();
    assert!(facts.role.superuser && facts.role.replication && facts.role.create_on_database);
}
