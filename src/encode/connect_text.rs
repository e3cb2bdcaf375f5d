//! Schemas as Kafka's JsonConverter writes them beside each payload.

use super::form::{Form as _, Json};
use super::java::{push_int, push_json_text};
use super::schema::{Base, Schema};

/// Returns the JSON text of a schema, as JsonConverter writes it.
pub(super) fn text(schema: &Schema) -> String {
    let mut out = Vec::with_capacity(4096);
    push_schema(schema, None, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn push_schema(schema: &Schema, field: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_name(&schema.base).as_bytes());
    out.push(b'"');
    match &schema.base {
        Base::Struct(fields) => {
            out.extend_from_slice(b",\"fields\":[");
            for (index, field) in fields.iter().enumerate() {
                Json::element(index == 0, out);
                push_schema(&field.schema, Some(&field.name), out);
            }
            out.push(b']');
        }
        Base::Array(element) => {
            out.extend_from_slice(b",\"items\":");
            push_schema(element, None, out);
        }
        Base::Map(key, value) => {
            out.extend_from_slice(b",\"keys\":");
            push_schema(key, None, out);
            out.extend_from_slice(b",\"values\":");
            push_schema(value, None, out);
        }
        _ => {}
    }
    Json::field(false, "optional", out);
    Json::boolean(schema.optional, out);
    let text = |name: &str, value: &str, out: &mut Vec<u8>| {
        Json::field(false, name, out);
        push_json_text(value, out);
    };
    if let Some(name) = &schema.name {
        text("name", name, out);
    }
    if let Some(version) = schema.version {
        Json::field(false, "version", out);
        push_int(i64::from(version), out);
    }
    if let Some(doc) = schema.doc {
        text("doc", doc, out);
    }
    if !schema.parameters.is_empty() {
        Json::field(false, "parameters", out);
        out.push(b'{');
        for (index, (name, value)) in schema.parameters.iter().enumerate() {
            Json::field(index == 0, name, out);
            push_json_text(value, out);
        }
        out.push(b'}');
    }
    if let Some(default) = &schema.default {
        Json::field(false, "default", out);
        default.write::<Json>(out);
    }
    if let Some(field) = field {
        text("field", field, out);
    }
    out.push(b'}');
}

fn type_name(base: &Base) -> &'static str {
    match base {
        Base::Boolean => "boolean",
        Base::Int8 => "int8",
        Base::Int16 => "int16",
        Base::Int32 => "int32",
        Base::Int64 => "int64",
        Base::Float32 => "float",
        Base::Float64 => "double",
        Base::Text => "string",
        Base::Bytes => "bytes",
        Base::Array(_) => "array",
        Base::Map(..) => "map",
        Base::Struct(_) => "struct",
    }
}
