//! The records of a row that is inserted, updated and deleted, each as a line of text.

use super::{CONTEXT, FIRST, SECOND, message};
use std::fmt::Write;
use wellspring::change::Row;
use wellspring::config;
use wellspring::encode::{Encoder, Ids, PlanError, Planner, Route};
use wellspring::pgoutput::{self, Message};
use wellspring::table::Table;

/// The records of an order that is inserted, updated and deleted, each as a line of text.
pub fn records(config: &config::Checked, table: &Table) -> Result<Vec<String>, PlanError> {
    lines(config, table, [&FIRST, &SECOND])
}

/// The records of a row that is inserted, updated and deleted, each as a line of text.
pub fn lines(
    config: &config::Checked,
    table: &Table,
    [first, second]: [&[Option<&str>]; 2],
) -> Result<Vec<String>, PlanError> {
    let planner = Planner::new(config.encode.clone(), "app", "run", 1);
    let own = planner.draft(table)?.into_plan(Ids::default());
    let mut encoder = Encoder::new();
    let mut lines = Vec::new();
    for wire in [
        message(b'I', &[(b'N', first)]),
        message(b'U', &[(b'O', first), (b'N', second)]),
        message(b'D', &[(b'O', second)]),
    ] {
        let row = match pgoutput::decode(&wire).unwrap() {
            Message::Insert { new, .. } => Row::Insert { new },
            Message::Update { old, new, .. } => Row::Update { old, new },
            Message::Delete { old, .. } => Row::Delete { old },
            other => panic!("{other:?}"),
        };
        let (mut route, mut routed) = (String::new(), None);
        if let Some(router) = own.router() {
            match router.of(&row, &CONTEXT, &mut route).unwrap() {
                Route::Found => {
                    routed = Some(planner.routed(router, &route)?.into_plan(Ids::default()));
                }
                Route::Own => {}
                Route::Nowhere | Route::Unexpected => continue,
            }
        }
        let plan = routed.as_ref().unwrap_or(&own);
        encoder.row(plan, &CONTEXT, &row, 1_755_850_400_345_000_000).unwrap();
        for record in encoder.records() {
            let part = |part: Option<&[u8]>| {
                part.map_or("null".to_owned(), |it| String::from_utf8_lossy(it).into_owned())
            };
            let mut line = format!(
                "{} {} {}",
                plan.topic(),
                part(record.key),
                without_source(&part(record.value))
            );
            for (name, value) in record.headers() {
                write!(line, " {name}={}", part(value)).unwrap();
            }
            if let Some(partition) = record.partition {
                write!(line, " partition={partition}").unwrap();
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

fn without_source(value: &str) -> String {
    match value.split_once("\"source\":{") {
        Some((before, rest)) => {
            let after = rest.split_once('}').unwrap().1;
            format!("{before}\"source\":{{...}}{after}")
        }
        None => value.to_owned(),
    }
}
