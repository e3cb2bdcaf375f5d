//! Finds out whether two texts are the same Avro schema, by a digest of each text. Nothing here
//! does IO.
//!
//! A registry may answer with another text than the one that we gave: the registry drops spaces,
//! orders attributes its own way, and shortens names by the namespace around them. Those texts are
//! one schema here. Everything that a reader can see is compared: names, fields in their order,
//! defaults, logical types, and the properties of Kafka Connect. Avro's own canonical form drops
//! the last three, so two schemas with the same canonical form can mean different values.
//!
//! If two texts of one schema get different digests, this costs one call: the registry is asked to
//! register our text, and answers with the id that it already has. If two different schemas got the
//! same digest, a wrong id would stay in use.

use serde_json::Value;
use std::fmt::Write as _;

/// The types that have a name, and that give their namespace to the types inside.
const NAMED: [&str; 4] = ["record", "error", "enum", "fixed"];

const PRIMITIVE: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// The digest of a schema in a form of our own that does not depend on how its text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SchemaDigest([u8; 32]);

impl SchemaDigest {
    /// Computes the digest of a schema's text. A text that is not JSON has the digest of the text
    /// itself.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut form = String::with_capacity(text.len());
        match serde_json::from_str::<Value>(text) {
            Ok(schema) => write_type(&schema, "", &mut form),
            Err(_) => form.push_str(text),
        }
        SchemaDigest(openssl::sha::sha256(form.as_bytes()))
    }
}

/// Writes a type. A name without a namespace belongs to `namespace`.
fn write_type(schema: &Value, namespace: &str, out: &mut String) {
    match schema {
        Value::String(name) => write_text(&full_name(name, namespace), out),
        Value::Array(branches) => {
            write_list(branches, out, |branch, out| write_type(branch, namespace, out))
        }
        Value::Object(attributes) => match attributes.get("type") {
            // `{"type": X}` says no more than `X`.
            Some(inner) if attributes.len() == 1 => write_type(inner, namespace, out),
            _ => write_definition(attributes, namespace, out),
        },
        other => write_value(other, out),
    }
}

fn write_definition(
    attributes: &serde_json::Map<String, Value>,
    namespace: &str,
    out: &mut String,
) {
    let kind = attributes.get("type").and_then(Value::as_str).unwrap_or("");
    let text = |name: &str| attributes.get(name).and_then(Value::as_str);
    let own = match (NAMED.contains(&kind), text("name")) {
        (true, Some(name)) => Some(full_name(name, text("namespace").unwrap_or(namespace))),
        _ => None,
    };
    let inside =
        own.as_deref().map_or(namespace, |own| own.rsplit_once('.').map_or("", |(space, _)| space));
    // The full name of a named type contains its namespace, so that attribute is left out.
    let kept = attributes.iter().filter(|(name, _)| own.is_none() || *name != "namespace");
    write_sorted(kept, out, |name, value, out| match (name, &own, value) {
        ("name", Some(own), _) => write_text(own, out),
        ("fields", Some(_), Value::Array(fields)) => {
            write_list(fields, out, |field, out| write_field(field, inside, out));
        }
        ("type" | "items" | "values", None, _) => write_type(value, inside, out),
        _ => write_value(value, out),
    });
}

fn write_field(field: &Value, namespace: &str, out: &mut String) {
    let Value::Object(attributes) = field else { return write_value(field, out) };
    let is_default = |name: &str, value: &Value| name == "order" && value == "ascending";
    let kept = attributes.iter().filter(|(name, value)| !is_default(name, value));
    write_sorted(kept, out, |name, value, out| match name {
        "type" => write_type(value, namespace, out),
        _ => write_value(value, out),
    });
}

/// Writes attributes in the order of their names.
fn write_sorted<'a>(
    attributes: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut String,
    mut write: impl FnMut(&str, &Value, &mut String),
) {
    let mut sorted: Vec<(&String, &Value)> = attributes.collect();
    sorted.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (name, value) in sorted {
        write_text(name, out);
        out.push(':');
        write(name, value, out);
        out.push(',');
    }
    out.push('}');
}

fn write_list(list: &[Value], out: &mut String, mut write: impl FnMut(&Value, &mut String)) {
    out.push('[');
    for item in list {
        write(item, out);
        out.push(',');
    }
    out.push(']');
}

/// Writes a value that is not a type, such as a default or a property.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(attributes) => {
            write_sorted(attributes.iter(), out, |_, value, out| write_value(value, out))
        }
        Value::Array(list) => write_list(list, out, write_value),
        Value::String(text) => write_text(text, out),
        // Registries write 0 for 0.0 and the reverse, so a whole double is written as an integer. A
        // double of 9e15 or more is written as it is, because it may be rounded.
        Value::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
                let _ = write!(out, "{float:.0}"); // writing to memory does not fail
            }
            _ => out.push_str(&number.to_string()),
        },
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    let _ = write!(out, "{text:?}"); // writing to memory does not fail
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() || PRIMITIVE.contains(&name) {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
            {"name":"id","type":"int"},
            {"name":"at","type":{"type":"long","connect.version":1,"connect.name":"io.debezium.time.Timestamp"}},
            {"name":"price","type":["null","double"],"default":null},
            {"name":"rate","type":"double","default":0.0}]}],"default":null},
        {"name":"after","type":["null","Value"],"default":null},
        {"name":"op","type":"string"}],"connect.name":"shop.public.orders.Envelope"}"#;

    fn same(a: &str, b: &str) -> bool {
        SchemaDigest::of(a) == SchemaDigest::of(b)
    }

    fn changed(from: &str, to: &str) -> String {
        assert!(ENVELOPE.contains(from), "{from}");
        ENVELOPE.replace(from, to)
    }

    #[test]
    fn texts_that_a_registry_writes_for_one_schema_are_the_same() {
        let compact = serde_json::from_str::<Value>(ENVELOPE).unwrap().to_string();
        assert_ne!(compact, ENVELOPE);
        for text in [
            compact,
            changed(r#"["null","Value"]"#, r#"["null","shop.public.orders.Value"]"#),
            changed(
                r#""name":"Envelope","namespace":"shop.public.orders""#,
                r#""name":"shop.public.orders.Envelope""#,
            ),
            changed(r#""name":"Value","#, r#""name":"Value","namespace":"shop.public.orders","#),
            changed(
                r#"{"name":"op","type":"string"}"#,
                r#"{"type":{"type":"string"},"name":"op"}"#,
            ),
            changed(
                r#"{"name":"op","type":"string"}"#,
                r#"{"name":"op","type":"string","order":"ascending"}"#,
            ),
            changed(r#""default":0.0"#, r#""default":0"#),
        ] {
            assert!(same(ENVELOPE, &text), "{text}");
        }
        assert!(same(r#""int""#, r#"{"type":"int"}"#));
    }

    #[test]
    fn whatever_a_reader_can_see_makes_another_schema() {
        for text in [
            changed("shop.public.orders", "shop.public.stock"),
            changed(r#""name":"id","type":"int""#, r#""name":"id","type":"long""#),
            changed(r#""name":"id""#, r#""name":"key""#),
            changed("io.debezium.time.Timestamp", "io.debezium.time.MicroTimestamp"),
            changed(r#""default":0.0"#, r#""default":0.5"#),
            changed(r#"["null","double"]"#, r#"["double","null"]"#),
            changed(r#""type":["null","double"],"default":null"#, r#""type":["null","double"]"#),
            changed(r#","connect.version":1"#, ""),
            changed(r#"["null","Value"]"#, r#"["null","other.Value"]"#),
            r#"{"type":"object","properties":{}}"#.to_owned(),
            "syntax = \"proto3\";".to_owned(),
            String::new(),
        ] {
            assert!(!same(ENVELOPE, &text), "{text}");
        }
    }

    /// Two different schemas to which `apache_avro` gives the same canonical form have different
    /// digests. Two schemas to which it gives different canonical forms also have different
    /// digests.
    #[test]
    fn is_stricter_than_the_canonical_form_and_never_looser() {
        let canonical = |text: &str| apache_avro::Schema::parse_str(text).unwrap().canonical_form();
        let logical = changed("io.debezium.time.Timestamp", "io.debezium.time.MicroTimestamp");
        assert_eq!(canonical(ENVELOPE), canonical(&logical));
        assert!(!same(ENVELOPE, &logical));
        let wider = changed(r#""name":"id","type":"int""#, r#""name":"id","type":"long""#);
        assert_ne!(canonical(ENVELOPE), canonical(&wider));
        assert!(!same(ENVELOPE, &wider));
    }
}
