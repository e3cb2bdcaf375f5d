//! One change left out by consent: the very one, recorded with who and why, and quarantined.

use super::repair::{TOPIC, ops};
use crate::support::world::World;
use std::collections::BTreeMap;
use wellspring::agent::request::Request;
use wellspring::change::Position;
use wellspring::continuity::Refused;
use wellspring::continuity::skipped::{Consent, Skipped};

fn state(world: &World) -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { world.config("").open_state().await.unwrap().read_all().await.unwrap() })
}

#[test]
fn only_the_change_of_the_halt_is_skipped_by_recorded_consent() {
    let world = World::new("create table t (id int primary key, n numeric not null)", &["t"]);
    let agent = world.agent("");
    agent.streams();
    world.sql(
        "begin; insert into t values (1, 1); insert into t values (2, 'NaN'); insert into t values (3, 3); commit",
    );
    let status = agent.halts("row_unencodable");
    assert!(status.next.contains("wellspring skip"), "{}", status.next);
    let commit = status.range.unwrap().from;
    assert!(
        status.detail.contains(&format!("table public.t at commit {commit} ordinal 1")),
        "{}",
        status.detail
    );
    let ask = |ordinal: u64, why: &str| {
        let (table, at) = ("public.t".to_owned(), Position { commit, ordinal });
        // What came before is delivered first.
        loop {
            let consent =
                Consent { table: table.clone(), at, by: "ada".to_owned(), why: why.to_owned() };
            match agent.ask(Request::Skip(consent)) {
                Err(Refused::NotAvailable(why)) if why.contains("ask again") => {
                    std::thread::yield_now()
                }
                answer => return answer,
            }
        }
    };
    for (ordinal, why) in [(2, "ticket 7"), (1, "")] {
        assert!(matches!(ask(ordinal, why), Err(Refused::Faulty(_))), "{ordinal} {why:?}");
    }
    let said = ask(1, "ticket 7").unwrap().0;
    assert!(said.contains("ada") && said.contains(TOPIC), "{said}");
    let rows = world.until("t", |rows| rows.iter().any(|row| row.value["after"]["id"] == 3));
    assert!(rows.iter().all(|row| row.value["after"]["id"] != 2));
    assert_eq!(ops(&world.until_in(TOPIC, |rows| !rows.is_empty())), ["c 2"]);
    let records = state(&world);
    assert!(!records.contains_key("halt/wellspring_p"), "the consent removes the recorded halt");
    let (_, record) =
        records.iter().find(|(key, _)| key.starts_with("skipped/wellspring_p/")).unwrap();
    let record: Skipped = serde_json::from_str(record).unwrap();
    assert_eq!(
        (record.by.as_str(), record.why.as_str(), record.at()),
        ("ada", "ticket 7", Position { commit, ordinal: 1 })
    );
    // The next one halts as this one did.
    world.sql("insert into t values (4, 'NaN')");
    agent.halts("row_unencodable");
    agent.stop();
}
