//! A source that is short of disk while a table is copied: that table waits, or is left out, with the next step; the others
//! go on. The condition on its rows makes the server say so half-way, as a full disk does below a sort.

use crate::requests::is_done;
use crate::world::World;

const TABLES: &str = "create table f (id int primary key); insert into f select generate_series(1, 5000);
    create table k (v int, w text); alter table k replica identity full;
    insert into k select i, 'w' from generate_series(1, 100) i;
    create table t (id int primary key); insert into t values (1);
    create table disk (is_full bool);  insert into disk values (true);
    create function fits(n int) returns bool language plpgsql volatile as $$ begin
      if n > 50 and (select is_full from disk) then
        raise exception using errcode = '53100', message = 'could not write to file: No space left on device';
      end if;
      return true;
    end $$";

const WHERE: &str = "\n[tables]\ninclude = [\"public.f\", \"public.k\", \"public.t\"]\n[snapshot.where]\n\"public.f\" = \"fits(id)\"\n\"public.k\" = \"fits(v)\"";

#[test]
fn a_full_disk_leaves_a_table_out_of_the_first_copy_and_the_others_go_on() {
    let world = World::new(TABLES, &["f", "k", "t"]);
    let agent = world.agent(WHERE);
    let copy = agent.streams().copy.unwrap();
    for table in ["public.f", "public.k"] {
        let of = &copy.tables[table];
        assert_eq!(of.state, "left", "{of:?}");
        assert!(of.reason.contains("No space left on device") && of.next.contains("free space"), "{of:?}");
        assert!(of.next.contains(&format!("wellspring snapshot {table}")), "{of:?}");
    }
    assert_eq!(copy.tables["public.t"].state, "copied");
    world.sql("insert into f values (0)");
    world.until("f", |rows| rows.last().is_some_and(|row| row.value["op"] == "c"));
    agent.stop();
}

#[test]
fn a_full_disk_holds_up_copies_beside_the_stream_until_there_is_room() {
    let world = World::new(TABLES, &["f", "k", "t"]);
    let agent = world.agent(&format!("[snapshot]\nmode = \"windows\"{WHERE}"));
    is_done(&agent, "public.t");
    let status = agent.until("both wait", |status| {
        let short = status.windows.iter().filter(|window| window.reason == "window_no_room");
        short.filter(|window| window.state == "waiting").count() == 2
    });
    for window in status.windows.iter().filter(|window| window.table != "public.t") {
        assert!(window.detail.contains("No space left") && window.next.contains("free space"), "{window:?}");
    }
    world.sql("insert into t values (2)");
    world.records("t", 2);
    world.sql("update disk set is_full = false");
    is_done(&agent, "public.f");
    is_done(&agent, "public.k");
    world.records("f", 5000);
    world.until("k", |rows| rows.len() >= 100);
    agent.stop();
}
