//! The transforms among `[[transform]]` that Debezium adds for records and the values in them:
//! `partition-routing`, `timezone`, `geometry-format`, `swap-coordinates` and `vector-to-json`.

use super::transforms::At;
use super::value;
use crate::transform::Transform;
use crate::transform::hash::Hash;
use crate::transform::partition::{MissingColumn, Partition};
use crate::transform::timezone::{Rule, Timezone, Which};
use crate::transform::views::View;
use crate::transform::zoned::Zone;

/// The reference systems whose coordinates Debezium swaps.
const SRIDS: &str = "[\"4326\", \"3857\", \"4269\"]";

pub(super) fn partition_routing(at: &mut At<'_, '_>) -> Option<Transform> {
    let texts = at.some_list("fields", "fields = [\"change.customer\"]");
    let key = at.key("partitions");
    let partitions = at.reader.required(&key, value::count(1, i32::MAX), "partitions = 6");
    let key = at.key("hash");
    let words = [("java", Hash::Java), ("murmur", Hash::Murmur)];
    let hash = at.reader.or(&key, value::one_of(&words), "java");
    let key = at.key("missing");
    let words = [("halt", MissingColumn::Halt), ("ignore", MissingColumn::Ignore)];
    let missing = at.reader.or(&key, value::one_of(&words), "halt");
    let mut fields = Vec::new();
    for text in texts? {
        let path: Vec<String> = text.split('.').map(|name| name.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            at.fault("fields", format!("`{text}` is no field; write \"change.customer\""));
            return None;
        }
        fields.push(path);
    }
    let (partitions, hash, missing) = (partitions?, hash?, missing?);
    Some(Transform::Partition(Partition { fields, partitions, hash, missing }))
}

pub(super) fn timezone(at: &mut At<'_, '_>) -> Option<Transform> {
    let zone = at.text("zone", "zone = \"Europe/Berlin\", or an offset such as \"+02:00\"");
    let (included, excluded) = (rules(at, "include"), rules(at, "exclude"));
    let (zone, included, excluded) = (zone?, included?, excluded?);
    let Some(zone) = Zone::read(&zone) else {
        let what = format!(
            "`{zone}` is no time zone; write a name such as \"Europe/Berlin\", or an offset such \
             as \"+02:00\""
        );
        at.fault("zone", what);
        return None;
    };
    let which = match (included.is_empty(), excluded.is_empty()) {
        (true, true) => Which::All,
        (false, true) => Which::Included(included),
        (true, false) => Which::Excluded(excluded),
        (false, false) => {
            at.fault("exclude", "and `include` do not go together; write one of them");
            return None;
        }
    };
    Some(Transform::Timezone(Timezone { zone, which }))
}

fn rules(at: &mut At<'_, '_>, key: &str) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    for text in at.list(key)? {
        let Some(rule) = Rule::read(&text) else {
            let what = format!(
                "`{text}` is no rule; write \"source:table:field\", \"topic:topic:field\", or \
                 either without its first or last part"
            );
            at.fault(key, what);
            return None;
        };
        rules.push(rule);
    }
    Some(rules)
}

pub(super) fn geometry_format(at: &mut At<'_, '_>) -> Option<Transform> {
    let key = at.key("format");
    let words = [("wkb", ()), ("ewkb", ())];
    at.reader.or(&key, value::one_of(&words), "wkb")?;
    Some(Transform::View(View::Plain))
}

pub(super) fn swap_coordinates(at: &mut At<'_, '_>) -> Option<Transform> {
    let key = at.key("srids");
    let mut srids = Vec::new();
    for text in at.reader.or(&key, value::texts, SRIDS)? {
        let Ok(srid) = text.trim().parse() else {
            at.fault("srids", format!("`{text}` is no number of a reference system"));
            return None;
        };
        srids.push(srid);
    }
    Some(Transform::View(View::Swapped(srids)))
}

pub(super) fn vector_to_json(_: &mut At<'_, '_>) -> Option<Transform> {
    Some(Transform::View(View::Json))
}
