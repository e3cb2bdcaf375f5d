//! Tests that a publication which would make the application's UPDATE fail is found before it is
//! made, and that the printed SQL helps.

use crate::support::world::World;
use wellspring::agent::request::Request;
use wellspring::status::Phase;

/// True if the application's UPDATE of the table works.
fn updates(world: &World, table: &str) -> bool {
    world.server.try_sql("postgres", &format!("update {table} set v = 'y'")).status.success()
}

#[test]
fn a_generated_column_in_an_identity_is_found_before_publishing() {
    let sql =
        "create table t (id int primary key, v text, g text generated always as (v || 'x') stored);
               alter table t replica identity full; insert into t values (1, 'x')";
    let world = World::new(sql, &["t"]);
    if world.server.major() < 18 {
        return; // earlier versions do not look at generated columns
    }
    let told = world.check("");
    assert!(
        told.contains("FAIL  public.t: the replica identity has the generated columns g"),
        "{told}"
    );
    assert!(told.contains("0 of 1 captured tables can be published without harm"), "{told}");
    let agent = world.agent("");
    let status = agent.until("it waits", |status| status.reason == "publication_incomplete");
    assert_eq!(status.phase, Phase::Retrying);
    assert!(
        status.next.contains("ALTER TABLE \"public\".\"t\" REPLICA IDENTITY DEFAULT;"),
        "{}",
        status.next
    );
    assert!(updates(&world, "t"), "nothing was published");
    world.sql("alter table t replica identity default");
    agent.streams();
    assert!(updates(&world, "t"));
    agent.stop();
    // An operator now sets REPLICA IDENTITY FULL on the published table, which includes the
    // generated column.
    world.sql("alter table t replica identity full");
    assert!(!updates(&world, "t"), "the server refuses it");
    let told = world.check("");
    assert!(told.contains("publish_generated_columns = stored"), "{told}");
    world.sql("alter publication wellspring_p set (publish_generated_columns = stored)");
    assert!(updates(&world, "t"));
    let told = world.check("");
    assert!(!told.contains("the replica identity has"), "{told}");
}

#[test]
fn a_reload_publishes_no_generated_column_of_an_identity() {
    let world = World::new("create table a (id int primary key)", &["a"]);
    if world.server.major() < 18 {
        return; // earlier versions do not look at generated columns
    }
    let agent = world.agent("");
    agent.streams();
    let none = "[tables]\ninclude = [\"public.*\"]\n";
    world.sql(
        "create table t (id int primary key, v text, g text generated always as (v || 'x') stored);
         alter table t replica identity full; insert into t values (1, 'x')",
    );
    let told = world.check(none);
    assert!(told.contains("FAIL  public.t: the replica identity has the gen"), "{told}");
    let answer = agent.ask(Request::Reload(Box::new(world.config(none))));
    let text = answer.unwrap_err().to_string();
    assert!(text.contains("once published, public.t: the replica identity has"), "{text}");
    assert!(text.contains("ALTER TABLE \"public\".\"t\" REPLICA IDENTITY DEFAULT;"), "{text}");
    assert!(updates(&world, "t"), "nothing was published");
    agent.stop();
    // Stored columns do no harm to a publication that publishes them. Virtual columns still do.
    world.sql("alter publication wellspring_p set (publish_generated_columns = stored)");
    let told = world.check(none);
    assert!(!told.contains("the replica identity has"), "{told}");
    world.sql("alter table t add column w text generated always as (v || 'y') virtual");
    let told = world.check(none);
    assert!(told.contains("FAIL  public.t: the replica identity has the gen"), "{told}");
}

#[test]
fn a_column_list_or_row_filter_beside_the_identity_is_found() {
    let sql = "create table a (id int primary key, v text); create table b (id int primary key, v text);
               create table c (id int primary key, v text); create table d (id int primary key, v text);
               alter table c replica identity full; insert into a values (1, 'x'); insert into b values (1, 'x');
               insert into c values (1, 'x'); insert into d values (1, 'x')";
    let world = World::new(sql, &["a", "b", "c", "d"]);
    if world.server.major() < 15 {
        return; // no column lists and no row filters
    }
    world.sql("create publication wellspring_p for table a (v), b where (v <> ''), c (id, v), d (id) where (id > 0)");
    let harmed = ["a", "b", "c"];
    let told = world.check("");
    for table in harmed {
        assert!(!updates(&world, table), "{table}");
        assert!(told.contains(&format!("FAIL  public.{table}: the ")), "{table}: {told}");
    }
    assert!(updates(&world, "d") && !told.contains("FAIL  public.d"), "{told}");
    // The first SQL that is printed for a table makes its UPDATE work.
    for table in harmed {
        let at = told.find(&format!("FAIL  public.{table}: the ")).unwrap();
        let lines = told[at..].lines().skip(1).map(str::trim);
        let fix: Vec<&str> = lines.take_while(|line| line.starts_with("ALTER")).collect();
        world.sql(&fix.join(" "));
        assert!(updates(&world, table), "{table}: {fix:?}");
    }
}
