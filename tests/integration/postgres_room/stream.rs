//! Tests of slots and of the stream, from the beginning to the end.

use super::{SOON, config, options, read_until, replication, sql, transaction};
use crate::support::postgres::Server;
use std::sync::Arc;
use std::time::Duration;
use wellspring::lsn::{Lsn, PgMicros};
use wellspring::postgres::{Frame, PgError, Sql, StandbyStatus, StartOptions, preflight, slot};

#[tokio::test]
async fn a_committed_row_arrives_and_is_not_sent_again_once_confirmed() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table t (id int primary key, x text); create publication p for table t",
    );
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
    assert_eq!(
        preflight::sync_state(&sql, pid).await.unwrap(),
        preflight::SyncState::Known("async".into())
    );
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
    assert_eq!(
        (row.active_pid, row.confirmed_flush_lsn),
        (None, Some(end)),
        "finish waits for the slot to be free"
    );
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
    let mut control = replication(&server).await;
    control.drop_slot("s").await.unwrap();
    control.close().await;
    assert_eq!(slot::read(&sql, "s").await.unwrap(), None);
}

#[tokio::test]
async fn held_slot_missing_slot_and_missing_publication_are_distinct() {
    let server = Server::start();
    server.sql("postgres", "create table t (id int primary key)");
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let mut held = replication(&server).await.start(&options()).await.unwrap();
    let error = replication(&server).await.start(&options()).await.err().unwrap();
    assert!(error.is_slot_in_use(), "{error}");
    let missing = StartOptions { slot: "no".into(), ..options() };
    assert_eq!(
        replication(&server).await.start(&missing).await.err().unwrap().sqlstate(),
        Some("42704")
    );
    let mut control = replication(&server).await;
    assert_eq!(control.create_slot("s", SOON).await.unwrap_err().sqlstate(), Some("42710"));
    assert_eq!(
        control.query("select 1, null").await.unwrap(),
        [[Some("1".to_owned()), None]],
        "usable after an error"
    );

    if server.major() < 18 {
        server.sql("postgres", "insert into t values (1)");
        let failed = async {
            while held.fill().await.is_ok() {
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
async fn a_fast_shutdown_ends_the_sentinel_and_a_stream_that_keeps_up() {
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
    assert!(
        refused.is_shutting_down() || matches!(refused, PgError::Connect { .. }),
        "{refused:?}"
    );

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
                let status =
                    StandbyStatus { write, flush: Lsn::ZERO, apply: Lsn::ZERO, reply: false };
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
async fn a_slot_whose_wal_is_gone_says_so_on_every_version() {
    let server = Server::start_with(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ]);
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let sql = sql(&server).await;
    let healthy = slot::read(&sql, "s").await.unwrap().unwrap();
    assert_eq!(
        (healthy.wal_status.as_deref(), healthy.invalidation.as_deref()),
        (Some("reserved"), None)
    );
    assert!(healthy.safe_wal_size.is_some() && healthy.retained_bytes().is_some());
    server.sql("postgres", "create table t (x text)");
    for _ in 0..4 {
        server.sql(
            "postgres",
            "insert into t select repeat('x', 1000) from generate_series(1, 1000); select pg_switch_wal()",
        );
        server.sql("postgres", "checkpoint");
    }
    let lost = slot::read(&sql, "s").await.unwrap().unwrap();
    assert_eq!(
        (lost.wal_status.as_deref(), lost.invalidation.as_deref()),
        (Some("lost"), Some("wal_removed"))
    );
    let error = replication(&server).await.start(&options()).await.err().unwrap();
    assert_eq!(error.sqlstate(), Some("55000"), "{error:?}");
}

#[tokio::test]
async fn a_new_timeline_tells_where_it_left_the_old_one() {
    let server = Server::start();
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let before = replication(&server).await.identify_system().await.unwrap();
    assert!(server.stop_fast(60));
    server.write_private("standby.signal", b"");
    server.start_again();
    assert!(preflight::facts(&sql(&server).await).await.unwrap().in_recovery);
    server.promote();
    let mut control = replication(&server).await;
    let after = control.identify_system().await.unwrap();
    assert_eq!((after.system_id, after.timeline), (before.system_id, 2));
    let history = control.timeline_history(2).await.unwrap();
    assert_eq!(history.len(), 1);
    assert!(history[0].timeline == 1 && history[0].switched_at >= before.flushed, "{history:?}");
}

#[tokio::test]
async fn a_call_given_up_half_way_is_never_mistaken_for_the_next() {
    let server = Server::start();
    let mut control = replication(&server).await;
    let given_up = tokio::time::timeout(
        Duration::from_millis(100),
        control.query("select pg_sleep(20), 'old'"),
    )
    .await;
    assert!(given_up.is_err());
    let error = control.query("select 'new'").await.unwrap_err();
    assert!(matches!(error, PgError::Protocol { .. }), "{error:?}");
    assert!(sql(&server).await.cancel_backend(control.backend_pid()).await.unwrap());
    assert!(!sql(&server).await.cancel_backend(1_000_000_000).await.unwrap_or_default());
}

#[tokio::test]
async fn an_administrators_word_ends_stream_and_sentinel_with_state() {
    let server = Server::start();
    replication(&server).await.create_slot("s", SOON).await.unwrap();
    let sentinel = sql(&server).await;
    let mut stream = replication(&server).await.start(&options()).await.unwrap();
    let pids = format!("{}), ({}", sentinel.backend_pid(), stream.backend_pid());
    server.sql(
        "postgres",
        &format!("select pg_terminate_backend(pid) from (values ({pids})) ours (pid)"),
    );
    assert_eq!(
        tokio::time::timeout(SOON, sentinel.ended()).await.unwrap().error.unwrap().sqlstate,
        "57P01"
    );
    assert!(matches!(sentinel.query("select 1").await, Err(PgError::Closed { .. })));
    let failure = async {
        loop {
            while let Some(_skipped) = stream.next_frame()? {}
            stream.fill().await?;
        }
    };
    let error: Result<(), PgError> = tokio::time::timeout(SOON, failure).await.unwrap();
    assert!(error.unwrap_err().is_shutting_down());
}
