//! `[[transform]]`: what is done to records before they are encoded, in the order of the file.
//!
//! Only faults that the file alone can show are found here. Whether a table has the fields that a
//! transform names is checked when the table is known, before its first record.

use super::reader::Reader;
use super::{conditions, conversions, outbox, records, unwrap, value};
use crate::encode::reroute::{KEY_FIELD, Replace, Reroute, RerouteFault};
use crate::encode::{Adjust, is_avro};
use crate::table::names::{NameList, NameOf};
use crate::transform::compared::Compared;
use crate::transform::fields::{Edit, Fields, Of};
use crate::transform::headers::Headers;
use crate::transform::logical::Logical;
use crate::transform::naming;
use crate::transform::pattern::Pattern;
use crate::transform::timed::Timed;
use crate::transform::{Chain, Condition, Link, Transform};

/// The section, as `[[transform]]` in the file and `transform.1` in a fault.
pub(super) const SECTION: &str = "transform";

type Read = fn(&mut At<'_, '_>) -> Option<Transform>;

/// Every type with the function that reads its keys.
const TYPES: [(&str, (&str, Read)); 28] = [
    ("unwrap", ("unwrap", unwrap::unwrap)),
    ("regex-router", ("regex-router", regex)),
    ("timestamp-router", ("timestamp-router", timestamp_router)),
    ("logical-router", ("logical-router", logical)),
    ("replace-field", ("replace-field", replace_field)),
    ("insert-field", ("insert-field", insert_field)),
    ("mask-field", ("mask-field", mask_field)),
    ("extract-field", ("extract-field", extract_field)),
    ("hoist-field", ("hoist-field", hoist_field)),
    ("flatten", ("flatten", flatten)),
    ("cast", ("cast", conversions::cast)),
    ("timestamp-converter", ("timestamp-converter", conversions::timestamp_converter)),
    ("schema-metadata", ("schema-metadata", metadata)),
    ("value-to-key", ("value-to-key", value_to_key)),
    ("insert-header", ("insert-header", insert_header)),
    ("drop-headers", ("drop-headers", drop_headers)),
    ("header-from", ("header-from", header_from)),
    ("header-to-value", ("header-to-value", header_to_value)),
    ("outbox", ("outbox", outbox::outbox)),
    ("decode-message", ("decode-message", outbox::decode_message)),
    ("changed-fields", ("changed-fields", changed_fields)),
    ("filter", ("filter", conditions::filter)),
    ("content-router", ("content-router", conditions::content_router)),
    ("partition-routing", ("partition-routing", records::partition_routing)),
    ("timezone", ("timezone", records::timezone)),
    ("geometry-format", ("geometry-format", records::geometry_format)),
    ("swap-coordinates", ("swap-coordinates", records::swap_coordinates)),
    ("vector-to-json", ("vector-to-json", records::vector_to_json)),
];

/// Reads the whole chain.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Chain> {
    let mut numbers = Vec::new();
    for name in reader.names(SECTION) {
        match name.parse::<usize>() {
            Ok(number) => numbers.push(number),
            Err(_) => {
                let what = "transforms have an order and no names; write [[transform]]";
                reader.fault(&format!("{SECTION}.{name}"), what);
            }
        }
    }
    numbers.sort_unstable();
    let mut links = Vec::new();
    for number in numbers {
        links.push(link(&mut At { reader, section: format!("{SECTION}.{number}") }));
    }
    let links: Vec<Link> = links.into_iter().collect::<Option<_>>()?;
    outbox::decoded_for_an_outbox(&links, reader)?;
    outbox::timed_by_rows_alone(&links, reader)?;
    conditions::one_names_topics(&links, reader)?;
    Some(Chain { links })
}

/// One `[[transform]]` that is being read.
pub(super) struct At<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    section: String,
}

impl At<'_, '_> {
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.section)
    }

    pub(super) fn is_given(&self, key: &str) -> bool {
        self.reader.is_given(&self.key(key))
    }

    pub(super) fn fault(&mut self, key: &str, what: impl Into<String>) {
        let key = self.key(key);
        self.reader.fault(&key, what);
    }

    pub(super) fn text(&mut self, key: &str, wanted: &str) -> Option<String> {
        let key = self.key(key);
        self.reader.required(&key, value::text, wanted)
    }

    /// Reads a text that may be missing. The outer option is `None` for a faulty text, the inner
    /// one if no text is given.
    pub(super) fn maybe(&mut self, key: &str) -> Option<Option<String>> {
        let (given, key) = (self.is_given(key), self.key(key));
        let text = self.reader.optional(&key, value::any_text);
        if given { text.map(Some) } else { Some(None) }
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> Option<bool> {
        let key = self.key(key);
        self.reader.or(&key, value::flag, if default { "true" } else { "false" })
    }

    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let key = self.key(key);
        self.reader.or(&key, value::texts, "[]")
    }

    pub(super) fn some_list(&mut self, key: &str, wanted: &str) -> Option<Vec<String>> {
        let list = self.list(key)?;
        if list.is_empty() {
            self.fault(key, format!("names nothing; write {wanted}"));
            return None;
        }
        Some(list)
    }

    fn of(&mut self) -> Option<Of> {
        let key = self.key("of");
        self.reader.or(&key, value::one_of(&[("value", Of::Value), ("key", Of::Key)]), "value")
    }

    /// Reads a list of texts `a:b`, and returns the two parts of each. `None` if a text is not of
    /// this form, which is noted as a fault.
    fn pairs(&mut self, key: &str) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for text in self.list(key)? {
            match text.split_once(':') {
                Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                    pairs.push((old.trim().to_owned(), new.trim().to_owned()));
                }
                _ => {
                    self.fault(key, format!("`{text}` is no pair; write \"old:new\""));
                    return None;
                }
            }
        }
        Some(pairs)
    }

    /// Reads two lists, and returns pairs of their items. `None` if a list is missing or the lists
    /// differ in length, which is noted as a fault.
    fn sides(&mut self, left: &str, right: &str) -> Option<Vec<(String, String)>> {
        let (lefts, rights) = (self.some_list(left, "[\"a\"]"), self.some_list(right, "[\"b\"]"));
        let (lefts, rights) = (lefts?, rights?);
        if lefts.len() != rights.len() {
            self.fault(
                right,
                format!("has {} items, and `{left}` has {}", rights.len(), lefts.len()),
            );
            return None;
        }
        Some(lefts.into_iter().zip(rights).collect())
    }

    fn moves(&mut self) -> Option<bool> {
        let key = self.key("operation");
        self.reader.required(
            &key,
            value::one_of(&[("move", true), ("copy", false)]),
            "operation = \"move\"",
        )
    }

    fn replace(&mut self, regex: &str, replacement: &str) -> Option<Replace> {
        let expression = self.text(regex, "an expression that fits the whole topic");
        let new = self.text(replacement, "what takes its place, such as \"$1\"");
        let (expression, new) = (expression?, new?);
        self.read_replace((regex, &expression), (replacement, &new))
    }

    pub(super) fn read_replace(
        &mut self,
        regex: (&str, &str),
        replacement: (&str, &str),
    ) -> Option<Replace> {
        match Replace::read(regex.1, replacement.1) {
            Ok(replace) => return Some(replace),
            Err(fault @ RerouteFault::Regex(_)) => self.fault(regex.0, fault.to_string()),
            Err(fault) => self.fault(replacement.0, fault.to_string()),
        }
        None
    }
}

fn link(at: &mut At<'_, '_>) -> Option<Link> {
    let key = at.key("type");
    let of_type = at.reader.required(&key, value::one_of(&TYPES), "type = \"unwrap\"");
    let tables = at.list("tables").and_then(|list| {
        let read = NameList::read(&list, NameOf::Table);
        let told = read.map_err(|faults| {
            faults.iter().for_each(|bad| at.fault("tables", bad.to_string()));
        });
        told.ok()
    });
    let when = condition(at);
    let (name, read) = of_type?;
    let transform = read(at);
    let by_topic = matches!(when, Some(None | Some((Condition::Topic(_), _))));
    if transform.as_ref().is_some_and(conditions::is_of_rows) && !by_topic {
        let what =
            "the records of a row go to one topic; limit the transform by `tables` or `when_topic`";
        at.fault("negate", what);
        return None;
    }
    Some(Link { tables: tables?, when: when?, name, transform: transform? })
}

fn condition(at: &mut At<'_, '_>) -> Option<Option<(Condition, bool)>> {
    let topic = at.maybe("when_topic");
    let header = at.maybe("when_header");
    let tombstone = at.flag("when_tombstone", false);
    let negate = at.flag("negate", false);
    let (topic, header, tombstone, negate) = (topic?, header?, tombstone?, negate?);
    let mut conditions = Vec::new();
    if let Some(topic) = topic {
        let expression = at.read_replace(("when_topic", &topic), ("when_topic", "$0"))?;
        conditions.push(Condition::Topic(Box::new(expression)));
    }
    conditions.extend(header.map(Condition::Header));
    conditions.extend(tombstone.then_some(Condition::Tombstone));
    if conditions.len() > 1 {
        at.fault(
            "negate",
            "a transform has one condition: `when_topic`, `when_header` or `when_tombstone`",
        );
        return None;
    }
    let condition = conditions.pop();
    if negate && condition.is_none() {
        at.fault("negate", "turns a condition around, and there is none");
        return None;
    }
    Some(condition.map(|condition| (condition, negate)))
}

fn timestamp_router(at: &mut At<'_, '_>) -> Option<Transform> {
    let key = at.key("topic_format");
    let topic = at.reader.or(&key, value::text, "{topic}-{timestamp}");
    let pattern = conversions::pattern(at, "timestamp_format")?;
    // Connect has this default pattern.
    let pattern = pattern.or_else(|| Pattern::read("yyyyMMdd").ok())?;
    let mut sample = String::new();
    let is_written = pattern.write(0, &mut sample).is_some();
    if !is_written || naming::topic(&sample) != sample {
        at.fault("timestamp_format", "has characters that no topic has; write \"yyyy-MM-dd\"");
        return None;
    }
    Some(Transform::Timed(Box::new(Timed { topic: topic?, pattern })))
}

fn regex(at: &mut At<'_, '_>) -> Option<Transform> {
    at.replace("regex", "replacement").map(Transform::Regex)
}

fn logical(at: &mut At<'_, '_>) -> Option<Transform> {
    let topic = at.replace("regex", "replacement");
    let unique = at.flag("unique_keys", true);
    let key = at.key("key_field");
    let field = at.reader.or(&key, value::text, KEY_FIELD);
    let (regex, replacement) = (at.maybe("key_field_regex"), at.maybe("key_field_replacement"));
    let key = at.key("schema_names");
    let adjusts =
        [("none", Adjust::None), ("avro", Adjust::Avro), ("avro_unicode", Adjust::AvroUnicode)];
    let names = at.reader.or(&key, value::one_of(&adjusts), "none");
    let key_value = match (regex?, replacement?) {
        (None, None) => None,
        (Some(regex), Some(new)) => {
            Some(at.read_replace(("key_field_regex", &regex), ("key_field_replacement", &new))?)
        }
        _ => {
            at.fault("key_field_regex", "and `key_field_replacement` belong together");
            return None;
        }
    };
    let field = field?;
    if !is_avro(&field) {
        at.fault(
            "key_field",
            "a field's name has letters, digits and `_`, and begins with no digit",
        );
        return None;
    }
    let reroute = Reroute { topic: topic?, key_field: unique?.then_some(field), key_value };
    Some(Transform::Logical(Box::new(Logical { reroute, names: names? })))
}

pub(super) fn fields(at: &mut At<'_, '_>, edit: Option<Edit>, rebuilds: bool) -> Option<Transform> {
    let of = at.of();
    let defaults = if rebuilds { at.flag("null_becomes_default", true) } else { Some(true) };
    Some(Transform::Fields(Fields { of: of?, defaults: defaults?, edit: edit? }))
}

fn replace_field(at: &mut At<'_, '_>) -> Option<Transform> {
    let (include, exclude, renames) = (at.list("include"), at.list("exclude"), at.pairs("rename"));
    let edit = match (include, exclude, renames) {
        (Some(include), Some(exclude), Some(renames)) => {
            Some(Edit::Replace { include, exclude, renames })
        }
        _ => None,
    };
    fields(at, edit, true)
}

fn insert_field(at: &mut At<'_, '_>) -> Option<Transform> {
    let (topic, field, text) =
        (at.maybe("topic_field"), at.maybe("static_field"), at.maybe("static_value"));
    let (topic, field, text) = (topic?.map(spec), field?.map(spec), text?);
    let fixed = match (field, text) {
        (Some((name, required)), Some(text)) => Some((name, required, text)),
        (None, None) => None,
        _ => {
            at.fault("static_field", "and `static_value` belong together");
            return None;
        }
    };
    if topic.is_none() && fixed.is_none() {
        at.fault("static_field", "is missing; write static_field and static_value, or topic_field");
        return None;
    }
    fields(at, Some(Edit::Insert { topic, fixed }), true)
}

/// Splits the name of a field from its mark, and returns whether the field is required. A `!` after
/// the name makes the field required. With `?` or nothing after the name, it is not required.
fn spec(text: String) -> (String, bool) {
    match (text.strip_suffix('!'), text.strip_suffix('?')) {
        (Some(name), _) => (name.to_owned(), true),
        (None, Some(name)) => (name.to_owned(), false),
        (None, None) => (text, false),
    }
}

fn mask_field(at: &mut At<'_, '_>) -> Option<Transform> {
    let (masked, replacement) =
        (at.some_list("fields", "fields = [\"email\"]"), at.maybe("replacement"));
    let edit =
        masked.zip(replacement).map(|(fields, replacement)| Edit::Mask { fields, replacement });
    fields(at, edit, true)
}

fn extract_field(at: &mut At<'_, '_>) -> Option<Transform> {
    let edit = at.text("field", "field = \"id\"").map(Edit::Extract);
    fields(at, edit, true)
}

fn hoist_field(at: &mut At<'_, '_>) -> Option<Transform> {
    let edit = at.text("field", "field = \"row\"").map(Edit::Hoist);
    fields(at, edit, false)
}

fn flatten(at: &mut At<'_, '_>) -> Option<Transform> {
    let key = at.key("delimiter");
    let edit = at.reader.or(&key, value::any_text, ".").map(Edit::Flatten);
    fields(at, edit, false)
}

fn metadata(at: &mut At<'_, '_>) -> Option<Transform> {
    let name = at.maybe("name")?;
    let key = at.key("version");
    let given = at.is_given("version");
    let version = at.reader.optional(&key, value::count(1, i32::MAX));
    if given && version.is_none() {
        return None;
    }
    let version = version.and_then(|version| u32::try_from(version).ok());
    fields(at, Some(Edit::Metadata { name, version }), true)
}

fn value_to_key(at: &mut At<'_, '_>) -> Option<Transform> {
    let names = at.some_list("fields", "fields = [\"customer_id\"]");
    let defaults = at.flag("null_becomes_default", true);
    Some(Transform::ValueToKey(names?, defaults?))
}

fn insert_header(at: &mut At<'_, '_>) -> Option<Transform> {
    let name = at.text("header", "header = \"tenant\"");
    let key = at.key("value");
    let text = at.reader.required(&key, value::text, "value = \"acme\"");
    let text = text?;
    // Connect reads numbers, booleans, dates and lists out of the text and gives them other types.
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_word
        || ["true", "false", "null", "nan", "infinity"]
            .contains(&text.to_ascii_lowercase().as_str())
    {
        at.fault(
            "value",
            "is read by Connect as something other than a text; only texts that begin with a \
             letter are taken",
        );
        return None;
    }
    Some(Transform::Headers(Headers::Insert { name: name?, text }))
}

fn changed_fields(at: &mut At<'_, '_>) -> Option<Transform> {
    let (changed, unchanged) = (at.maybe("changed"), at.maybe("unchanged"));
    let (changed, unchanged) = (changed?, unchanged?);
    if changed.is_none() && unchanged.is_none() {
        at.fault(
            "changed",
            "is missing; write changed = \"changed\", or unchanged = \"unchanged\"",
        );
        return None;
    }
    Some(Transform::Compared(Compared { changed, unchanged }))
}

fn drop_headers(at: &mut At<'_, '_>) -> Option<Transform> {
    let names = at.some_list("headers", "headers = [\"tenant\"]")?;
    Some(Transform::Headers(Headers::Drop(names)))
}

fn header_from(at: &mut At<'_, '_>) -> Option<Transform> {
    let (pairs, of, moves) = (at.sides("fields", "headers"), at.of(), at.moves());
    let defaults = at.flag("null_becomes_default", true);
    let (of, pairs, moves, defaults) = (of?, pairs?, moves?, defaults?);
    Some(Transform::Headers(Headers::From { of, pairs, moves, defaults }))
}

fn header_to_value(at: &mut At<'_, '_>) -> Option<Transform> {
    let (pairs, moves) = (at.sides("headers", "fields"), at.moves());
    let pairs = pairs?;
    if pairs.iter().any(|(_, field)| field.contains('.')) {
        at.fault("fields", "a field within a struct cannot be added");
        return None;
    }
    Some(Transform::Headers(Headers::ToValue { pairs, moves: moves? }))
}
