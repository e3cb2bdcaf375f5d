//! Schemas as Avro, in the text that Confluent's converter registers.
//!
//! A registry may compare the texts of schemas. So the order of attributes, the spelling of numbers
//! and the reuse of named types must be those of the converter (`AvroData`, default settings). No
//! name is adjusted here. `plan` refuses names that Avro does not allow.

use super::java::{push_float, push_int, push_json_text};
use super::literal::Literal;
use super::schema::{Base, CONNECT_DATE, CONNECT_TIME, CONNECT_TIMESTAMP, DECIMAL, Field, Schema};

/// The precision that the converter writes for a decimal whose schema states no precision.
const PRECISION_UNKNOWN: &str = "64";

/// The name of the Avro record type for an entry of a map whose keys are not texts.
const MAP_ENTRY: &str = "io.confluent.connect.avro.MapEntry";

/// Returns the text of a schema as an Avro schema in JSON.
pub(super) fn text(schema: &Schema) -> String {
    let mut writer = Writer { out: Vec::with_capacity(4096), seen: Vec::new(), namespace: None };
    writer.field_type(schema);
    String::from_utf8_lossy(&writer.out).into_owned()
}

struct Writer {
    out: Vec<u8>,
    /// Full names of the Avro record types that are written already. A later use of such a type
    /// writes only its name.
    seen: Vec<String>,
    /// The namespace of the Avro record type that is being written. `None` outside of all types.
    namespace: Option<String>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn quoted(&mut self, text: &str) {
        push_json_text(text, &mut self.out);
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        self.quoted(value);
    }

    /// Writes `,"name":value`, whose value is a number.
    fn number(&mut self, name: &str, value: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        self.raw(value);
    }

    /// Writes a schema without the union that makes it optional.
    fn schema(&mut self, schema: &Schema) {
        match &schema.base {
            Base::Struct(fields) => {
                let name =
                    schema.name.as_deref().unwrap_or("io.confluent.connect.avro.ConnectDefault");
                self.record(name, fields, Some(schema));
            }
            Base::Array(element) => {
                self.raw("{\"type\":\"array\",\"items\":");
                self.field_type(element);
                self.properties(schema);
                self.raw("}");
            }
            Base::Map(key, value) if key.base == Base::Text => {
                self.raw("{\"type\":\"map\",\"values\":");
                self.field_type(value);
                self.properties(schema);
                self.raw("}");
            }
            Base::Map(key, value) => {
                // The keys of an Avro map are texts. A map with other keys is a list of entries.
                self.raw("{\"type\":\"array\",\"items\":");
                let field = |name: &'static str, schema: &Schema| Field {
                    name: name.into(),
                    schema: schema.clone(),
                };
                self.record(MAP_ENTRY, &[field("key", key), field("value", value)], None);
                self.properties(schema);
                self.raw("}");
            }
            base => {
                let name = primitive(base);
                if has_properties(schema) {
                    self.raw("{\"type\":");
                    self.quoted(name);
                    self.properties(schema);
                    self.raw("}");
                } else {
                    self.quoted(name);
                }
            }
        }
    }

    /// Writes an Avro record type, or only its name if the type is written already. `schema` has
    /// the type's properties, such as its version. `None` for a map's entry, which has none.
    fn record(&mut self, full: &str, fields: &[Field], schema: Option<&Schema>) {
        let (namespace, name) = full.rsplit_once('.').unwrap_or(("", full));
        let same_namespace = self.namespace.as_deref().unwrap_or("") == namespace;
        if self.seen.iter().any(|seen| seen == full) {
            return self.quoted(if same_namespace { name } else { full });
        }
        self.seen.push(full.to_owned());
        self.raw("{\"type\":\"record\"");
        self.attribute("name", name);
        if !same_namespace {
            self.attribute("namespace", namespace);
        }
        let outer = self.namespace.replace(namespace.to_owned());
        self.raw(",\"fields\":[");
        for (index, field) in fields.iter().enumerate() {
            self.raw(if index == 0 { "{\"name\":" } else { ",{\"name\":" });
            self.quoted(&field.name);
            self.raw(",\"type\":");
            self.field_type(&field.schema);
            self.field_default(&field.schema);
            self.raw("}");
        }
        self.raw("]");
        self.namespace = outer;
        if let Some(schema) = schema {
            self.properties(schema);
        }
        self.raw("}");
    }

    /// Writes the schema of a field, of an element or of a whole key or value. An optional schema
    /// is a union with null first, or with null last if it has a default.
    fn field_type(&mut self, schema: &Schema) {
        match (schema.optional, &schema.default) {
            (false, _) => self.schema(schema),
            (true, None) => {
                self.raw("[\"null\",");
                self.schema(schema);
                self.raw("]");
            }
            (true, Some(_)) => {
                self.raw("[");
                self.schema(schema);
                self.raw(",\"null\"]");
            }
        }
    }

    fn field_default(&mut self, schema: &Schema) {
        match &schema.default {
            Some(Literal::Float4(value)) => {
                // Java's Avro library keeps the default of a `float` as a double. The text has the
                // digits of that double.
                self.raw(",\"default\":");
                push_float(f64::from(*value), &mut self.out);
            }
            Some(default) => {
                self.raw(",\"default\":");
                self.literal(default);
            }
            None if schema.optional => self.raw(",\"default\":null"),
            None => {}
        }
    }

    fn properties(&mut self, schema: &Schema) {
        let parameter = |wanted: &str| {
            schema
                .parameters
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.as_str())
        };
        let is_decimal = schema.name.as_deref() == Some(DECIMAL);
        if is_decimal {
            self.number("scale", parameter("scale").unwrap_or("0"));
            self.number(
                "precision",
                parameter("connect.decimal.precision").unwrap_or(PRECISION_UNKNOWN),
            );
        }
        if let Some(doc) = schema.doc {
            self.attribute("connect.doc", doc);
        }
        if let Some(version) = schema.version {
            self.number("connect.version", &version.to_string());
        }
        if !schema.parameters.is_empty() {
            self.raw(",\"connect.parameters\":{");
            for (index, (name, value)) in schema.parameters.iter().enumerate() {
                if index > 0 {
                    self.raw(",");
                }
                self.quoted(name);
                self.raw(":");
                self.quoted(value);
            }
            self.raw("}");
        }
        if let Some(default) = &schema.default {
            self.raw(",\"connect.default\":");
            self.literal(default);
        }
        if let Some(name) = &schema.name {
            self.attribute("connect.name", name);
        }
        match schema.base {
            Base::Int8 => self.attribute("connect.type", "int8"),
            Base::Int16 => self.attribute("connect.type", "int16"),
            _ => {}
        }
        match schema.name.as_deref() {
            Some(DECIMAL) => self.attribute("logicalType", "decimal"),
            Some(CONNECT_DATE) => self.attribute("logicalType", "date"),
            Some(CONNECT_TIME) => self.attribute("logicalType", "time-millis"),
            Some(CONNECT_TIMESTAMP) => self.attribute("logicalType", "timestamp-millis"),
            _ => {}
        }
    }

    /// Writes a default as JSON. Bytes are a text in ISO-8859-1. No column has a struct, map or
    /// list as its default, so null is written for them.
    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::Boolean(value) => self.raw(if *value { "true" } else { "false" }),
            Literal::Int(value) => push_int(*value, &mut self.out),
            Literal::Float4(value) => push_float(*value, &mut self.out),
            Literal::Float8(value) => push_float(*value, &mut self.out),
            Literal::Text(value) => self.quoted(value),
            Literal::Bytes(bytes) | Literal::Decimal { unscaled: bytes, .. } => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                self.quoted(&text);
            }
            Literal::Variable { .. }
            | Literal::Point(..)
            | Literal::Geometry { .. }
            | Literal::Map(_)
            | Literal::List { .. } => self.raw("null"),
        }
    }
}

fn primitive(base: &Base) -> &'static str {
    match base {
        Base::Boolean => "boolean",
        Base::Int8 | Base::Int16 | Base::Int32 => "int",
        Base::Int64 => "long",
        Base::Float32 => "float",
        Base::Float64 => "double",
        Base::Text => "string",
        Base::Bytes | Base::Array(_) | Base::Map(..) | Base::Struct(_) => "bytes",
    }
}

fn has_properties(schema: &Schema) -> bool {
    schema.name.is_some()
        || schema.doc.is_some()
        || schema.default.is_some()
        || !schema.parameters.is_empty()
        || matches!(schema.base, Base::Int8 | Base::Int16)
}
