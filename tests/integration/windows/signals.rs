//! Copies that rows of Debezium's signal table ask for.

use crate::support::world::{Running, World};

const TABLES: &str =
    "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 2500) i;
    create table u (id int primary key); insert into u values (1);
    create table signals (id varchar(64) primary key, type varchar(32), data varchar(2048))";

const MORE: &str = "[snapshot]\nmode = \"no_data\"\nsignal_table = \"public.signals\"\n[tables]\ninclude = [\"public.?\"]";

fn started(tables: &str) -> (World, Running) {
    let world = World::new(tables, &["t", "u", "signals"]);
    let agent = world.agent(MORE);
    agent.streams();
    (world, agent)
}

fn signal(world: &World, id: &str, kind: &str, data: &str) {
    world.sql(&format!("insert into signals values ('{id}', '{kind}', '{data}')"));
}

fn state(agent: &Running, table: &str, state: &str) {
    agent.until(&format!("{table} {state}"), |status| {
        status.windows.iter().any(|window| window.table == table && window.state == state)
    });
}

#[test]
fn a_signal_copies_its_tables_where_its_conditions_hold() {
    let (world, agent) = started(TABLES);
    signal(
        &world,
        "s",
        "execute-snapshot",
        r#"{"data-collections": ["public.[tu]", "public.nowhere"], "type": "incremental", "surrogate-key": "id",
            "additional-conditions": [{"data-collection": "public.t", "filter": "id between 11 and 20"}]}"#,
    );
    state(&agent, "public.t", "done");
    state(&agent, "public.u", "done");
    let rows = world.records("t", 10);
    assert!(
        rows.iter()
            .all(|row| row.value["op"] == "r" && row.value["source"]["snapshot"] == "incremental")
    );
    world.records("u", 1);
    let told = world.records("signals", 1); // the table of signals is captured though no list takes it
    assert_eq!(told[0].value["op"], "c");
    agent.stop();
}

#[test]
fn a_copy_goes_to_the_own_topic_of_a_table_that_names_topics() {
    let world = World::new(TABLES, &["t", "u", "signals"]);
    let router = "[[transform]]\ntype = \"content-router\"\ntables = [\"public.u\"]\n\
                  topic = \"op in ['c', 'r'] && after.id == 9 ? 'p.public.t' : null\"";
    let agent = world.agent(&format!("{MORE}\n{router}\n"));
    agent.streams();
    // No streamed row has gone to the topic of `u` before.
    signal(&world, "s", "execute-snapshot", r#"{"data-collections": ["public.u"]}"#);
    state(&agent, "public.u", "done");
    let rows = world.records("u", 1);
    assert_eq!(rows[0].value["op"], "r");
    world.sql("insert into u values (9)");
    assert_eq!(world.records("t", 1)[0].value["source"]["table"], "u");
    agent.stop();
}

#[test]
fn a_copy_by_signal_is_notified_from_its_start_to_its_end() {
    let world = World::new(TABLES, &["t", "u", "signals", "notes"]);
    let more = format!("{MORE}\n[topics]\nprefix = \"p\"\nnotifications = \"p.public.notes\"\n");
    let agent = world.agent(&more);
    agent.streams();
    signal(&world, "s1", "execute-snapshot", r#"{"data-collections": ["public.u", "public.t"]}"#);
    let notes =
        world.until("notes", |rows| rows.iter().any(|row| row.value["type"] == "COMPLETED"));
    let told: Vec<String> = notes
        .iter()
        .filter(|row| row.value["type"] != "IN_PROGRESS")
        .map(|row| {
            let data = &row.value["additional_data"];
            format!(
                "{} {} {} {}",
                row.value["type"],
                row.key["id"],
                data["scanned_collection"],
                data["total_rows_scanned"]
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            r#""SKIPPED" ID null null"#.replace("ID", &notes[0].key["id"].to_string()).as_str(),
            r#""STARTED" "s1" null null"#,
            r#""TABLE_SCAN_COMPLETED" "s1" "public.t" "2500""#,
            r#""TABLE_SCAN_COMPLETED" "s1" "public.u" "1""#,
            r#""COMPLETED" "s1" null null"#,
        ]
    );
    let progress = |row: &&crate::support::world::Row| row.value["type"] == "IN_PROGRESS";
    let last = notes
        .iter()
        .filter(progress)
        .map(|row| row.value["additional_data"]["last_processed_key"].clone());
    let last: Vec<_> = last.collect();
    // The number of rows in later chunks depends on how long the first one took.
    assert!(
        last.len() >= 3
            && last.first() == Some(&"1000".into())
            && last.ends_with(&["2500".into(), "1".into()]),
        "{last:?}"
    );
    world.records("t", 2500);
    agent.stop();
}

#[test]
fn a_signal_of_the_topic_is_obeyed_once_and_an_older_one_never() {
    let world = World::new(TABLES, &["t", "u", "asked"]);
    let asked = "p.public.asked";
    let execute = |table: &str, more: &str| {
        format!(
            r#"{{"id": "k", "type": "execute-snapshot", "data": {{"data-collections": ["public.{table}"]{more}}}}}"#
        )
    };
    let obeyed = |next: u64| {
        world.until_in("p.wellspring-state", |rows| {
            rows.iter().any(|row| row.key == "signals/wellspring_p" && row.value["next"] == next)
        });
    };
    world.send(asked, "p", &execute("t", ""));
    let more = format!(
        "[snapshot]\nmode = \"no_data\"\nsignal_topic = \"{asked}\"\n[tables]\ninclude = [\"public.?\"]"
    );
    let agent = world.agent(&more);
    obeyed(1);
    world.send(asked, "another", &execute("t", ""));
    world.send(asked, "p", "nonsense");
    world.send(asked, "p", &execute("u", ""));
    state(&agent, "public.u", "done");
    obeyed(4);
    agent.stop();
    // Signals that come while no agent runs are obeyed by the next agent.
    world.send(asked, "p", r#"{"type": "log", "data": {"message": "hello"}}"#);
    let filter =
        r#", "additional-conditions": [{"data-collection": "public.t", "filter": "id <= 10"}]"#;
    world.send(asked, "p", &execute("t", filter));
    let agent = world.agent(&more);
    state(&agent, "public.t", "done");
    obeyed(6);
    world.records("t", 10);
    world.records("u", 1);
    agent.stop();
}

#[test]
fn a_signal_that_cannot_be_done_leaves_the_stream_as_it_is() {
    let (world, agent) = started(TABLES);
    signal(&world, "1", "nonsense", "{}");
    signal(&world, "2", "execute-snapshot", "{nonsense");
    world.sql("insert into signals values ('3', null, null)");
    signal(
        &world,
        "4",
        "execute-snapshot",
        r#"{"data-collections": ["public.t"], "surrogate-key": "v"}"#,
    );
    agent.until("a surrogate key is refused", |status| {
        status.windows.iter().any(|window| window.reason == "window_surrogate_key")
    });
    // A failed copy does not keep a later signal from beginning its own.
    signal(
        &world,
        "5",
        "execute-snapshot",
        r#"{"data-collections": ["public.t"], "type": "blocking"}"#,
    );
    state(&agent, "public.t", "done");
    world.sql("insert into t values (0, 'new')");
    world.records("t", 2501);
    world.records("signals", 5);
    agent.stop();
}

#[test]
fn signals_hold_resume_and_end_copies_once_over_restarts() {
    let (world, agent) = started(TABLES);
    // Both signals are in one transaction, so the copies are paused before they can read anything.
    world.sql(
        r#"insert into signals values ('1', 'execute-snapshot', '{"data-collections": ["public.t", "public.u"]}'),
           ('2', 'pause-snapshot', null)"#,
    );
    state(&agent, "public.t", "paused");
    state(&agent, "public.u", "paused");
    agent.stop();
    let agent = world.agent(MORE);
    agent.streams();
    state(&agent, "public.t", "paused"); // a restart frees nothing
    signal(&world, "3", "stop-snapshot", r#"{"data-collections": ["public.u"]}"#);
    agent.until("u is ended", |status| {
        status.windows.iter().all(|window| window.table != "public.u")
    });
    world.sql("insert into t values (0, 'new')");
    let before = world.records("t", 1);
    assert_eq!(before[0].value["op"], "c");
    signal(&world, "4", "resume-snapshot", "");
    state(&agent, "public.t", "done");
    world.records("t", 2502);
    agent.stop();
    let agent = world.agent(MORE);
    agent.streams();
    world.sql("insert into u values (2)");
    world.records("u", 1);
    world.records("t", 2502);
    agent.stop();
}

#[test]
fn a_signal_in_a_cut_off_first_copy_is_obeyed_by_the_next_start() {
    let world = World::new(TABLES, &["t", "u", "asked"]);
    let tables = "signal_topic = \"p.public.asked\"\nskip = [\"public.u\"]\n[tables]\ninclude = [\"public.[tu]\"]";
    // The first piece of 2500 rows holds the next one back for longer than this test takes.
    let agent =
        world.agent(&format!("[snapshot]\nmode = \"initial\"\nrows_per_second = 1\n{tables}"));
    world.until_in("p.wellspring-state", |rows| {
        rows.iter().any(|row| row.key == "signals/wellspring_p")
    });
    agent.until("the copy's rows", |status| status.copy.as_ref().is_some_and(|copy| copy.rows > 0));
    world.send(
        "p.public.asked",
        "p",
        r#"{"id": "k", "type": "execute-snapshot", "data": {"data-collections": ["public.u"]}}"#,
    );
    agent.stop_in_a_copy();
    let agent = world.agent(&format!("[snapshot]\nmode = \"initial\"\n{tables}"));
    state(&agent, "public.u", "done");
    world.records("u", 1);
    agent.stop();
}
