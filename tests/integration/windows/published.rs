//! Tests that a copy begins anew if other columns or rows of its table are published while no agent
//! looks at the publication.

use super::requests::is_done;
use crate::support::world::{Running, World};
use std::collections::BTreeSet;
use wellspring::agent::request::Request;

const TABLE: &str = "create table t (id int primary key, v text); insert into t select i, 'v' from generate_series(1, 2500) i";

/// Settings under which more than three seconds lie between the first chunk and the second.
const SLOW: &str = "[snapshot]\nmode = \"windows\"\nrows_per_second = 300";

fn has_copied_a_chunk(agent: &Running) {
    agent.until("a chunk", |status| status.windows.iter().any(|window| window.chunks >= 1));
}

#[test]
fn a_copy_begins_anew_where_a_column_joins_between_processes() {
    let world = World::new(TABLE, &["t"]);
    let agent = world.agent(SLOW);
    has_copied_a_chunk(&agent);
    agent.stop();
    world.sql("alter table t add column w int not null default 5");
    let agent = world.agent("[snapshot]\nmode = \"windows\"");
    is_done(&agent, "public.t");
    let rows = world.until("t", |rows| rows.len() >= 2500);
    let whole = rows.iter().filter(|row| row.value["after"]["w"] == 5);
    let ids: BTreeSet<i64> = whole.filter_map(|row| row.value["after"]["id"].as_i64()).collect();
    assert_eq!(ids.len(), 2500, "every row is told with its new column");
    agent.stop();
}

#[test]
fn a_copy_begins_anew_where_a_filter_changes_while_disconnected() {
    let world = World::new(TABLE, &["t"]);
    if world.server.major() < 15 {
        return; // row filters came with 15
    }
    world.sql("create publication wellspring_p for table t where (id % 2 = 0)");
    let agent = world.agent(SLOW);
    has_copied_a_chunk(&agent);
    world.sql(
        "alter publication wellspring_p set table t;
         select pg_terminate_backend(active_pid) from pg_replication_slots",
    );
    agent.halts("table_republished");
    world.command(SLOW, &["slot", "accept"]);
    agent.streams();
    agent.ask(Request::Reload(Box::new(world.config("[snapshot]\nmode = \"windows\"")))).unwrap(); // at full speed
    is_done(&agent, "public.t");
    let rows = world.until("t", |rows| rows.len() >= 2500);
    let ids: BTreeSet<i64> =
        rows.iter().filter_map(|row| row.value["after"]["id"].as_i64()).collect();
    assert_eq!(ids.len(), 2500, "rows that the filter kept out of the first chunks are copied too");
    agent.stop();
}
