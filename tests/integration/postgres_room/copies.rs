//! Tests of what copies need: the snapshot that a slot exports, its holder, and rows by COPY.

use super::{SOON, config, replication};
use crate::support::postgres::Server;
use wellspring::postgres::copies::CopySession;
use wellspring::postgres::holder::{self, Holder, Unlocked, Which, tables};
use wellspring::postgres::{PgError, Replication};

/// Creates a slot, and a holder that keeps the slot's snapshot. The connection that exported the
/// snapshot is free then.
async fn held(server: &Server) -> (Replication, Holder) {
    let mut control = replication(server).await;
    let slot = control.create_slot("s", SOON).await.unwrap();
    let holder =
        Holder::import(&config(&server.url("postgres")), &slot.snapshot.unwrap()).await.unwrap();
    control.wal_sender_timeout().await.unwrap();
    (control, holder)
}

async fn reader(server: &Server, snapshot: &str) -> CopySession {
    let mut session =
        CopySession::connect(&config(&server.url("postgres")), ":copy").await.unwrap();
    holder::begin(&mut session, snapshot).await.unwrap();
    session
}

/// Reads all lines of a COPY, up to its end.
async fn lines(session: &mut CopySession, sql: &str) -> Result<Vec<String>, PgError> {
    session.begin("public.t", sql).await?;
    let mut found = Vec::new();
    while let Some(piece) = session.next("public.t").await? {
        let (mut at, mut rows) = (0, 0);
        while let Some((line, next)) = piece.line(at) {
            found.push(String::from_utf8(line.to_vec()).unwrap());
            (at, rows) = (next, rows + 1);
        }
        assert_eq!((rows, at), (piece.rows(), piece.size_bytes()));
    }
    Ok(found)
}

#[tokio::test]
async fn readers_see_what_was_there_when_the_slot_was_made() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table t (id int primary key, x text); insert into t select g, 'x' from generate_series(1, 5000) g",
    );
    let (_control, holder) = held(&server).await;
    server.sql("postgres", "insert into t values (9999, 'late'); delete from t where id = 1");
    let mut session = reader(&server, &holder.snapshot).await;
    let found =
        lines(&mut session, "COPY (SELECT id, x FROM ONLY t WHERE ctid >= '(0,0)') TO STDOUT")
            .await
            .unwrap();
    assert_eq!((found.len(), found.first().map(String::as_str)), (5000, Some("1\tx\n")));
    // An error in the middle of a COPY ends the statement and the transaction. The session stays
    // usable.
    let failed =
        lines(&mut session, "COPY (SELECT 1 / (id - 4000) FROM t) TO STDOUT").await.unwrap_err();
    assert_eq!(failed.sqlstate(), Some("22012"));
    session.query("end", "t", "ROLLBACK").await.unwrap();
    holder::begin(&mut session, &holder.snapshot).await.unwrap();
    assert_eq!(lines(&mut session, "COPY (SELECT) TO STDOUT").await.unwrap(), ["\n"]);
    assert_eq!(
        lines(&mut session, "COPY (SELECT WHERE false) TO STDOUT").await.unwrap(),
        Vec::<String>::new()
    );
    let large = lines(&mut session, "COPY (SELECT repeat('x', 3000000) FROM t LIMIT 2) TO STDOUT")
        .await
        .unwrap();
    assert_eq!(large.iter().map(String::len).collect::<Vec<_>>(), [3_000_001, 3_000_001]);
    assert!(lines(&mut session, "COPY nowhere TO STDOUT").await.is_err());
    let failed = lines(&mut session, "COPY (SELECT 1) TO STDOUT").await.unwrap_err();
    assert_eq!(failed.sqlstate(), Some("25P02"), "the failed transaction says so");
}

#[tokio::test]
async fn a_holder_keeps_rewrites_away_and_tells_earlier_ones() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table kept (id int primary key); insert into kept values (1);
         create table rewritten (id int primary key); insert into rewritten values (1);
         create table dropped (id int primary key); create table hidden (id int primary key);
         create publication p for table kept, rewritten, dropped, hidden",
    );
    let (_control, mut holder) = held(&server).await;
    server.sql("postgres", "alter table rewritten alter id type bigint; drop table dropped");
    let listed = holder.tables("p").await.unwrap();
    let mut outcomes = Vec::new();
    for table in &listed {
        let locked = holder.lock(&table.parts[0], SOON).await.unwrap();
        outcomes.push((
            table.name.name.to_string(),
            locked.map_err(|unlocked| matches!(unlocked, Unlocked::Rewritten)),
        ));
    }
    // The storage of `rewritten` is not the one that the snapshot knows. `dropped` is not checked,
    // because a dropped table leaves the publication.
    let name = |name: &str| name.to_owned();
    assert!(outcomes.contains(&(name("kept"), Ok(()))), "{outcomes:?}");
    assert!(outcomes.contains(&(name("rewritten"), Err(true))), "{outcomes:?}");
    let blocked = server.try_sql("postgres", "set lock_timeout = '50ms'; truncate kept");
    assert!(!blocked.status.success(), "a rewrite must wait for the holder");
    drop(holder);
}

#[tokio::test]
async fn a_published_table_is_described_as_in_the_stream() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table plain (id int primary key, gone text, v numeric(5,2), g int generated always as (id) stored);
         alter table plain drop column gone; insert into plain values (1, 2);
         create table parted (id int, day date, v text, primary key (id, day)) partition by range (day);
         create table parted_1 partition of parted for values from ('2020-01-01') to ('2021-01-01');
         create table parted_2 (v text, id int not null, day date not null);
         alter table parted attach partition parted_2 for values from ('2021-01-01') to ('2022-01-01');
         create table whole (a int, b int); alter table whole replica identity full;
         create table empty ();
         create publication p for table plain, parted, whole, empty with (publish_via_partition_root = true);
         create publication leaves for table parted;",
    );
    let (_control, mut holder) = held(&server).await;
    let mut shown = Vec::new();
    for table in holder.tables("p").await.unwrap() {
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|c| {
                format!(
                    "{}{}:{}/{}",
                    if c.in_identity { "*" } else { "" },
                    c.name,
                    c.type_oid,
                    c.typmod
                )
            })
            .collect();
        let parts: Vec<_> =
            table.parts.iter().map(|p| format!("{}({} pages)", p.name, p.pages)).collect();
        let identity = char::from(table.identity);
        shown.push(format!(
            "{} {identity} [{}] in {}",
            table.name,
            columns.join(" "),
            parts.join(" ")
        ));
    }
    assert_eq!(
        shown,
        [
            "public.empty d [] in public.empty(0 pages)",
            "public.parted d [*id:23/-1 *day:1082/-1 v:25/-1] in public.parted_1(0 pages) public.parted_2(0 pages)",
            "public.plain d [*id:23/-1 v:1700/327686] in public.plain(1 pages)",
            "public.whole f [*a:23/-1 *b:23/-1] in public.whole(0 pages)",
        ]
    );
    let leaves = holder.tables("leaves").await.unwrap();
    let names: Vec<_> = leaves.iter().map(|table| table.name.to_string()).collect();
    assert_eq!(names, ["public.parted_1", "public.parted_2"]);
    assert_eq!(holder.tables("none").await.unwrap(), []);
    // A table is described alone in the same way as among the others.
    let all = holder.tables("p").await.unwrap();
    let mut session = holder.into_session();
    for table in &all {
        let by_oid = tables(&mut session, "p", Which::Relation(table.relation)).await.unwrap();
        let by_name =
            tables(&mut session, "p", Which::Called(&table.name.to_string())).await.unwrap();
        assert_eq!(by_oid, std::slice::from_ref(table));
        assert_eq!(by_name, std::slice::from_ref(table));
    }
    assert_eq!(tables(&mut session, "p", Which::Called("public.nowhere'")).await.unwrap(), []);
}

#[tokio::test]
async fn column_lists_and_filters_are_the_publications() {
    let server = Server::start();
    if server.major() < 15 {
        return;
    }
    server.sql(
        "postgres",
        "create table t (id int primary key, secret text, v text);
         create publication p for table t (id, v) where (id > 10)",
    );
    let (_control, mut holder) = held(&server).await;
    let listed = holder.tables("p").await.unwrap();
    let names: Vec<_> = listed[0].columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, listed[0].filter.as_deref()), (vec!["id", "v"], Some("(id > 10)")));
    let columns = holder
        .columns_of("public.t", "select id, upper(v) as v from t -- all")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        columns.iter().map(|c| (c.name.as_str(), c.type_oid.0)).collect::<Vec<_>>(),
        [("id", 23), ("v", 25)]
    );
    let bad = holder.columns_of("public.t", "select nonsense from t").await.unwrap().unwrap_err();
    assert_eq!(bad.sqlstate(), Some("42703"));
    for bad in ["select from t where (v = ''", "select from t where (true); drop table t"] {
        assert_eq!(
            holder.columns_of("public.t", bad).await.unwrap().unwrap_err().sqlstate(),
            Some("42601"),
            "{bad}"
        );
    }
    assert_eq!(
        holder.columns_of("public.t", "select from t where (v = '')").await.unwrap().unwrap(),
        []
    );
    assert_eq!(holder.columns_of("public.t", "select id from t").await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_holder_that_is_ended_says_so_and_its_snapshot_is_gone() {
    let server = Server::start();
    let (_control, holder) = held(&server).await;
    let (pid, snapshot) = (holder.backend_pid(), holder.snapshot.clone());
    server.sql("postgres", &format!("select pg_terminate_backend({pid})"));
    let error =
        tokio::time::timeout(SOON, holder.hold(std::future::pending())).await.unwrap().unwrap();
    assert_eq!(error.sqlstate(), Some("57P01"), "{error:?}");
    let mut session =
        CopySession::connect(&config(&server.url("postgres")), ":copy").await.unwrap();
    assert!(holder::begin(&mut session, &snapshot).await.is_err());
}
