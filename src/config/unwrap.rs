//! Reads the keys of the transform `unwrap` in `[[transform]]`.

use super::transforms::At;
use super::value;
use crate::transform::Transform;
use crate::transform::dropped::Dropped;
use crate::transform::unwrap::{Added, Deletes, Missing, RouteBy, Unwrap};

pub(super) fn unwrap(at: &mut At<'_, '_>) -> Option<Transform> {
    let words = [
        ("tombstone", Deletes::Tombstone),
        ("drop", Deletes::Drop),
        ("rewrite", Deletes::Rewrite),
        ("rewrite-with-tombstone", Deletes::RewriteWithTombstone),
        ("delete-to-tombstone", Deletes::DeleteToTombstone),
    ];
    let key = at.key("deletes");
    let deletes = at.reader.or(&key, value::one_of(&words), "tombstone");
    let fields = added(at, "add_fields");
    let headers = added(at, "add_headers");
    let defaults = at.flag("null_becomes_default", true);
    let (route, dropped) = (route_by(at)?, dropped(at)?);
    if route.is_some() && dropped.is_some() {
        at.fault("drop_fields_header", "and `route` do not go together; write one of them");
        return None;
    }
    let (deletes, fields, headers, defaults) = (deletes?, fields?, headers?, defaults?);
    Some(Transform::Unwrap(Unwrap { deletes, fields, headers, route, dropped, defaults }))
}

/// Reads the key `route`, the column that names the topic, with its options. The outer option is
/// `None` for a faulty setting, the inner one if `route` is not given.
fn route_by(at: &mut At<'_, '_>) -> Option<Option<RouteBy>> {
    let field = at.maybe("route");
    let key = at.key("route_missing");
    let words = [("halt", Missing::Halt), ("own", Missing::Own)];
    let missing = at.reader.or(&key, value::one_of(&words), "halt");
    let key = at.key("topics_max");
    let topics_max = at.reader.or(&key, value::count(1, 10_000), "1000");
    let (missing, topics_max) = (missing?, usize::try_from(topics_max?).ok()?);
    let Some(field) = field?.filter(|field| !field.is_empty()) else {
        for key in ["route_missing", "topics_max"] {
            if at.is_given(key) {
                at.fault(key, "belongs to `route`, which names the column of the topic");
                return None;
            }
        }
        return Some(None);
    };
    Some(Some(RouteBy { field, missing, topics_max }))
}

/// Reads `drop_fields_header`, the header that names the fields to drop, with its options. The
/// outer option is `None` for a faulty setting, the inner one if no header is given.
fn dropped(at: &mut At<'_, '_>) -> Option<Option<Dropped>> {
    let header = at.maybe("drop_fields_header");
    let from_key = at.flag("drop_fields_from_key", false);
    let compatible = at.flag("drop_fields_compatible", true);
    let (header, from_key, compatible) = (header?, from_key?, compatible?);
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
        for key in ["drop_fields_from_key", "drop_fields_compatible"] {
            if at.is_given(key) {
                at.fault(key, "belongs to `drop_fields_header`, which names the header");
                return None;
            }
        }
        return Some(None);
    };
    Some(Some(Dropped { header, from_key, compatible }))
}

/// Reads a list of fields of the envelope that are added to each record, and the prefix of their
/// new names.
fn added(at: &mut At<'_, '_>, list: &str) -> Option<Vec<Added>> {
    let texts = at.list(list);
    let prefix = at.key(&format!("{list}_prefix"));
    let prefix = at.reader.or(&prefix, value::any_text, "__")?;
    let mut read = Vec::new();
    for text in texts? {
        let Some(added) = Added::read(&prefix, &text) else {
            let what = format!(
                "`{text}` is not a field; write \"op\", \"source.ts_ms\" or \"lsn:position\""
            );
            at.fault(list, what);
            return None;
        };
        read.push(added);
    }
    Some(read)
}
