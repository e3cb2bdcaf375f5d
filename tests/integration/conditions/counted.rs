//! Rows that a condition drops are counted for their table, in the metrics and in the status.

use crate::support::world::World;
use wellspring::agent::request::Request;

const TABLE: &str =
    "create table t (id int primary key); insert into t select generate_series(1, 4)";

const ODD: &str =
    "[[transform]]\ntype = \"filter\"\ncondition = \"op == 'd' || after.id % 2 == 1\"";
const LARGE: &str = "[[transform]]\ntype = \"content-router\"\n\
                     topic = \"op == 't' || op == 'd' || after.id < 100 ? null : 'large'\"";

/// Copies, streams and copies rows again. The transforms drop half of them each time, and the
/// counts show that.
fn half_is_dropped(transforms: &str) {
    let world = World::new(TABLE, &["t"]);
    let truncates = "[events]\nformat = \"json\"\ntruncates = false";
    let agent = world.agent(&format!("{truncates}\n{transforms}"));
    let counted = |count: u64| {
        agent.until("what is counted", |status| {
            status.tables.get("public.t").is_some_and(|table| table.filtered == count)
        });
        let metric = agent.metric("wellspring_rows_filtered_total{table=\"public.t\"}");
        assert_eq!(metric, count as f64);
    };
    agent.streams();
    world.records("t", 2);
    counted(2);
    world.sql("insert into t select generate_series(5, 8); delete from t where id < 3");
    world.records("t", 6);
    counted(4);
    let tables = vec!["public.t".to_owned()];
    agent.ask(Request::Snapshot { tables, filter: None }).unwrap();
    world.records("t", 9);
    counted(7);
    agent.stop();
}

#[test]
fn rows_that_a_condition_drops_are_counted_for_their_table() {
    half_is_dropped(ODD);
}

#[test]
fn rows_dropped_before_their_topic_is_known_are_counted() {
    half_is_dropped(&format!("{ODD}\n{LARGE}"));
}
