//! The schemas of events, as trees in the form of Kafka Connect. The Avro text and the JSON text of
//! a schema are written from the same tree.
//!
//! The names, versions, parameters and defaults of a column's schema are those of Debezium
//! (reference cases under `tests/data/debezium`). `avro_text` writes the Avro text, and
//! `connect_text` the JSON text.

use super::literal::Literal;
use super::modes::BinaryMode;
use super::views::Viewed;
use super::wire::Wire;
use crate::table::Column;

pub(super) use crate::transform::shape::{
    Base, CONNECT_DATE, CONNECT_TIME, CONNECT_TIMESTAMP, DECIMAL, Field, Schema,
};

/// The values of `source.snapshot`, as the `allowed` parameter of Debezium's enum type lists them.
const SNAPSHOT_MARKERS: &str =
    "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

impl Schema {
    /// Makes a schema with this name, in version 1. The name says what a value means, such as
    /// `io.debezium.time.Date`.
    pub(super) fn named(base: Base, name: &'static str) -> Self {
        Schema { name: Some(name.into()), version: Some(1), ..Schema::plain(base) }
    }

    fn with(mut self, parameter: &'static str, value: String) -> Self {
        self.parameters.push((parameter, value));
        self
    }
}

pub(super) fn field(name: &'static str, schema: Schema) -> Field {
    Field { name: name.into(), schema }
}

pub(super) fn required(name: &'static str, base: Base) -> Field {
    field(name, Schema::plain(base))
}

/// Makes a required field whose name the configuration gives.
pub(super) fn required_named(name: String, base: Base) -> Field {
    Field { name: name.into(), schema: Schema::plain(base) }
}

pub(super) fn optional(name: &'static str, base: Base) -> Field {
    field(name, Schema::plain(base).optional())
}

/// Makes the schema of the values that have the form `wire`, without default. The schema is
/// required, except for [`Wire::is_always_optional`].
pub(super) fn of_wire(wire: &Wire) -> Schema {
    match wire {
        Wire::Bool | Wire::Bit => Schema::plain(Base::Boolean),
        Wire::Int2 => Schema::plain(Base::Int16),
        Wire::Int4 => Schema::plain(Base::Int32),
        Wire::Int8 | Wire::Oid => Schema::plain(Base::Int64),
        Wire::Float4 => Schema::plain(Base::Float32),
        Wire::Float8 | Wire::DecimalFloat { .. } | Wire::MoneyFloat => Schema::plain(Base::Float64),
        Wire::Text
        | Wire::DecimalText { .. }
        | Wire::MoneyText { .. }
        | Wire::BytesText(_)
        | Wire::PositionText
        | Wire::OpaqueText { .. } => Schema::plain(Base::Text),
        Wire::Bytes | Wire::Opaque { .. } => Schema::plain(Base::Bytes),
        Wire::Decimal { precision, scale } => Schema::named(Base::Bytes, DECIMAL)
            .with("scale", scale.to_string())
            .with("connect.decimal.precision", precision.to_string()),
        Wire::Variable => variable(),
        Wire::Money { digits } => {
            Schema::named(Base::Bytes, DECIMAL).with("scale", digits.to_string())
        }
        Wire::Json | Wire::HstoreJson => Schema::named(Base::Text, "io.debezium.data.Json"),
        Wire::Xml => Schema::named(Base::Text, "io.debezium.data.Xml"),
        Wire::Uuid => Schema::named(Base::Text, "io.debezium.data.Uuid"),
        Wire::Ltree => Schema::named(Base::Text, "io.debezium.data.Ltree"),
        Wire::Tsvector => Schema::named(Base::Text, "io.debezium.data.Tsvector"),
        Wire::HstoreMap => {
            let (key, value) = (Schema::plain(Base::Text), Schema::plain(Base::Text).optional());
            Schema::plain(Base::Map(Box::new(key), Box::new(value)))
        }
        Wire::Enum { allowed } => {
            Schema::named(Base::Text, "io.debezium.data.Enum").with("allowed", allowed.to_string())
        }
        Wire::Bits { length } => {
            Schema::named(Base::Bytes, "io.debezium.data.Bits").with("length", length.to_string())
        }
        Wire::Date => Schema::named(Base::Int32, "io.debezium.time.Date"),
        Wire::TimeMillis => Schema::named(Base::Int32, "io.debezium.time.Time"),
        Wire::TimeMicros => Schema::named(Base::Int64, "io.debezium.time.MicroTime"),
        Wire::TimeNanos => Schema::named(Base::Int64, "io.debezium.time.NanoTime"),
        Wire::ZonedTime => Schema::named(Base::Text, "io.debezium.time.ZonedTime"),
        Wire::TimestampMillis => Schema::named(Base::Int64, "io.debezium.time.Timestamp"),
        Wire::TimestampMicros => Schema::named(Base::Int64, "io.debezium.time.MicroTimestamp"),
        Wire::TimestampNanos => Schema::named(Base::Int64, "io.debezium.time.NanoTimestamp"),
        Wire::ZonedTimestamp { .. } => Schema::named(Base::Text, "io.debezium.time.ZonedTimestamp"),
        Wire::ConnectDate => Schema::named(Base::Int32, CONNECT_DATE),
        Wire::ConnectTime => Schema::named(Base::Int32, CONNECT_TIME),
        Wire::ConnectTimestamp => Schema::named(Base::Int64, CONNECT_TIMESTAMP),
        Wire::IsoDate => Schema::named(Base::Text, "io.debezium.time.IsoDate"),
        Wire::IsoTime => Schema::named(Base::Text, "io.debezium.time.IsoTime"),
        Wire::IsoTimestamp => Schema::named(Base::Text, "io.debezium.time.IsoTimestamp"),
        Wire::IntervalMicros => Schema::named(Base::Int64, "io.debezium.time.MicroDuration"),
        Wire::IntervalText => Schema::named(Base::Text, "io.debezium.time.Interval"),
        Wire::Point => point(),
        Wire::Geometry => geometry("Geometry", "io.debezium.data.geometry.Geometry").optional(),
        Wire::Geography => geometry("Geography", "io.debezium.data.geometry.Geography"),
        Wire::Vector => {
            Schema::named(list(Schema::plain(Base::Float64)), "io.debezium.data.DoubleVector")
        }
        Wire::HalfVector => {
            Schema::named(list(Schema::plain(Base::Float32)), "io.debezium.data.FloatVector")
        }
        Wire::SparseVector => sparse_vector().optional(),
        Wire::Viewed(Viewed::Geometry(_)) => of_wire(&Wire::Geometry),
        Wire::Viewed(Viewed::Vector { .. } | Viewed::Sparse) => of_wire(&Wire::Json),
        Wire::Int2Vector => Schema::plain(list(Schema::plain(Base::Int16))),
        Wire::OidVector => Schema::plain(list(Schema::plain(Base::Int64))),
        Wire::List { element, optional, .. } => {
            Schema::plain(list(Schema { optional: *optional, ..of_wire(element) }))
        }
    }
}

fn list(element: Schema) -> Base {
    Base::Array(Box::new(element))
}

fn variable() -> Schema {
    let fields = vec![required("scale", Base::Int32), required("value", Base::Bytes)];
    let schema = Schema::named(Base::Struct(fields), "io.debezium.data.VariableScaleDecimal");
    Schema { doc: Some("Variable scaled decimal"), ..schema }
}

fn point() -> Schema {
    let fields = vec![
        required("x", Base::Float64),
        required("y", Base::Float64),
        optional("wkb", Base::Bytes),
        optional("srid", Base::Int32),
    ];
    let schema = Schema::named(Base::Struct(fields), "io.debezium.data.geometry.Point");
    Schema { doc: Some("Geometry (POINT)"), ..schema }
}

fn geometry(doc: &'static str, name: &'static str) -> Schema {
    let fields = vec![required("wkb", Base::Bytes), optional("srid", Base::Int32)];
    Schema { doc: Some(doc), ..Schema::named(Base::Struct(fields), name) }
}

fn sparse_vector() -> Schema {
    let entries =
        Base::Map(Box::new(Schema::plain(Base::Int16)), Box::new(Schema::plain(Base::Float64)));
    let fields = vec![required("dimensions", Base::Int16), required("vector", entries)];
    let schema = Schema::named(Base::Struct(fields), "io.debezium.data.SparseDoubleVector");
    Schema { doc: Some("Sparse double vector"), ..schema }
}

/// Makes the field of a column: the schema of its `Wire`, with the column's nullability and
/// default.
pub(super) fn of_column(column: &Column, wire: &Wire) -> Field {
    let schema = Schema {
        optional: !column.not_null || wire.is_always_optional(),
        default: column
            .default
            .as_deref()
            .and_then(|text| Literal::of_default(text, &column.kind, wire)),
        ..of_wire(wire)
    };
    Field { name: column.name.to_string().into(), schema }
}

/// Makes the schema `Key` of a table's keys. `None` for a table without key.
pub(super) fn of_key(structure: &str, fields: Vec<Field>) -> Option<Schema> {
    let name = Some(format!("{structure}.Key").into());
    (!fields.is_empty()).then(|| Schema { name, ..Schema::plain(Base::Struct(fields)) })
}

/// Makes the schema `Envelope` of a table's values. `structure` is the namespace of the schemas,
/// which is made of the topic. `fields` are the fields of a row.
pub(super) fn of_envelope(structure: &str, fields: Vec<Field>) -> Schema {
    let row = Schema {
        name: Some(format!("{structure}.Value").into()),
        optional: true,
        ..Schema::plain(Base::Struct(fields))
    };
    let fields = vec![
        field("before", row.clone()),
        field("after", row),
        field("source", source()),
        field("transaction", transaction()),
        required("op", Base::Text),
        optional("ts_ms", Base::Int64),
        optional("ts_us", Base::Int64),
        optional("ts_ns", Base::Int64),
    ];
    Schema {
        name: Some(format!("{structure}.Envelope").into()),
        version: Some(2),
        ..Schema::plain(Base::Struct(fields))
    }
}

/// Makes the schema of the keys of logical messages.
pub(super) fn of_message_key() -> Schema {
    let fields = vec![optional("prefix", Base::Text)];
    Schema::named(Base::Struct(fields), "io.debezium.connector.postgresql.MessageKey")
}

/// Makes the schema of the values of logical messages. The content of a message has the form of a
/// `bytea`.
pub(super) fn of_message(binary: BinaryMode) -> Schema {
    let content = match binary {
        BinaryMode::Bytes => Base::Bytes,
        BinaryMode::Coded(_) => Base::Text,
    };
    let message = Base::Struct(vec![optional("prefix", Base::Text), optional("content", content)]);
    let fields = vec![
        required("op", Base::Text),
        optional("ts_ms", Base::Int64),
        field("source", source()),
        field("transaction", transaction()),
        field("message", Schema::named(message, "io.debezium.connector.postgresql.Message")),
    ];
    Schema::named(Base::Struct(fields), "io.debezium.connector.postgresql.MessageValue")
}

fn source() -> Schema {
    let snapshot = Schema {
        default: Some(Literal::Text("false".to_owned())),
        ..Schema::named(Base::Text, "io.debezium.data.Enum")
            .with("allowed", SNAPSHOT_MARKERS.to_owned())
            .optional()
    };
    let fields = vec![
        required("version", Base::Text),
        required("connector", Base::Text),
        required("name", Base::Text),
        required("ts_ms", Base::Int64),
        field("snapshot", snapshot),
        required("db", Base::Text),
        optional("sequence", Base::Text),
        optional("ts_us", Base::Int64),
        optional("ts_ns", Base::Int64),
        required("schema", Base::Text),
        required("table", Base::Text),
        optional("txId", Base::Int64),
        optional("lsn", Base::Int64),
        optional("xmin", Base::Int64),
        optional("origin", Base::Text),
        optional("origin_lsn", Base::Int64),
    ];
    Schema::named(Base::Struct(fields), "io.debezium.connector.postgresql.Source")
}

fn transaction() -> Schema {
    let fields = vec![
        required("id", Base::Text),
        required("total_order", Base::Int64),
        required("data_collection_order", Base::Int64),
    ];
    Schema::named(Base::Struct(fields), "event.block").optional()
}
