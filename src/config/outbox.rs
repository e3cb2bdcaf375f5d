//! Reads the transforms `outbox` and `decode-message` of `[[transform]]`: events of rows, and
//! events of logical messages.

use super::reader::Reader;
use super::transforms::{At, SECTION};
use super::value;
use crate::transform::outbox::{Expand, Outbox, Updates};
use crate::transform::{Link, Transform};

pub(super) fn outbox(at: &mut At<'_, '_>) -> Option<Transform> {
    let mut column = |key: &str, default| {
        let key = at.key(key);
        at.reader.or(&key, value::text, default)
    };
    let (route, id) = (column("route", "aggregatetype"), column("event_id", "id"));
    let (key, payload) = (column("event_key", "aggregateid"), column("payload", "payload"));
    let regex = column("regex", "(?<routedByValue>.*)");
    let replacement = column("replacement", "outbox.event.${routedByValue}");
    let updates = at.key("updates");
    let words = [("warn", Updates::Warn), ("halt", Updates::Halt)];
    let updates = at.reader.or(&updates, value::one_of(&words), "warn");
    let expand = at.flag("expand_json", false);
    let nulls = at.key("json_nulls");
    let words = [("ignore", false), ("optional_bytes", true)];
    let nulls = at.reader.or(&nulls, value::one_of(&words), "ignore");
    let empty_lists = at.key("json_empty_lists");
    let words = [("ignore", false), ("optional_string", true)];
    let empty_lists = at.reader.or(&empty_lists, value::one_of(&words), "ignore");
    let topics_max = at.key("topics_max");
    let topics_max = at.reader.or(&topics_max, value::count(1, 10_000), "1000");
    let (time, tombstones) = (at.maybe("timestamp"), at.flag("tombstones", false));
    let version = at.maybe("schema_version");
    let missing = at.key("placement_missing");
    let words = [("error", false), ("ignore", true)];
    let missing = at.reader.or(&missing, value::one_of(&words), "error");
    let (mut headers, mut fields, mut partition) = (Vec::new(), Vec::new(), None);
    for text in at.list("placement")? {
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (column, place, name) = match parts[..] {
            [column, place] => (column, place, column),
            [column, place, name] => (column, place, name),
            _ => ("", "", ""),
        };
        let pair = (column.to_owned(), name.to_owned());
        match place {
            "header" if !column.is_empty() && !name.is_empty() => headers.push(pair),
            "partition" if !column.is_empty() && partition.is_none() => {
                partition = Some(column.to_owned());
            }
            "envelope" if !column.is_empty() && !name.is_empty() => fields.push(pair),
            _ => {
                let what = format!(
                    "`{text}` is no placement; write \"column:header\", \"column:envelope:name\" \
                     or one \"column:partition\""
                );
                at.fault("placement", what);
                return None;
            }
        }
    }
    let topic = at.read_replace(("regex", &regex?), ("replacement", &replacement?))?;
    let topics_max = usize::try_from(topics_max?).ok()?;
    let (nulls, empty_lists) = (nulls?, empty_lists?);
    let expand = expand?.then_some(Expand { nulls, empty_lists });
    let (route, id, key, payload, updates) = (route?, id?, key?, payload?, updates?);
    Some(Transform::Outbox(Box::new(Outbox {
        route,
        topic,
        id,
        key,
        payload,
        headers,
        fields,
        version: version?,
        time: time?,
        partition,
        tombstones: tombstones?,
        missing: missing?,
        expand,
        updates,
        topics_max,
    })))
}

/// Reads `decode-message`, which decodes the content of logical messages. Empty lists in it are
/// left out, as by Debezium.
pub(super) fn decode_message(at: &mut At<'_, '_>) -> Option<Transform> {
    let nulls = at.flag("null_fields", false)?;
    Some(Transform::DecodeMessage(Expand { nulls, empty_lists: false }))
}

/// Refuses to decode content if no outbox without `tables` follows. Only such an outbox takes
/// logical messages.
pub(super) fn decoded_for_an_outbox(links: &[Link], reader: &mut Reader<'_>) -> Option<()> {
    let mut numbered = (1..).zip(links);
    let decodes = |link: &Link| matches!(link.transform, Transform::DecodeMessage(_));
    let Some((number, link)) = numbered.find(|(_, link)| decodes(link)) else { return Some(()) };
    let is_outbox = |link: &Link| matches!(link.transform, Transform::Outbox(_));
    let follows = numbered.any(|(_, link)| is_outbox(link) && link.tables.is_empty());
    if link.tables.is_empty() && follows {
        return Some(());
    }
    let what = "content of logical messages is decoded for an outbox; write a transform of type \
                \"outbox\" after it, both without `tables`";
    reader.fault(&format!("{SECTION}.{number}.type"), what);
    None
}

/// Refuses topics by time for logical messages that an outbox makes into events. Such a message is
/// routed before the time of its commit is known.
pub(super) fn timed_by_rows_alone(links: &[Link], reader: &mut Reader<'_>) -> Option<()> {
    if !links.iter().any(|link| matches!(link.transform, Transform::DecodeMessage(_))) {
        return Some(());
    }
    let timed = |link: &Link| matches!(link.transform, Transform::Timed(_));
    let of_messages = (1..).zip(links).find(|(_, link)| timed(link) && link.tables.is_empty());
    let Some((number, _)) = of_messages else { return Some(()) };
    let what = "the topics of logical messages are not named by the time; limit it by `tables`";
    reader.fault(&format!("{SECTION}.{number}.tables"), what);
    None
}
