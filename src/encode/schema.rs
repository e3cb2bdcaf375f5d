//! The schemas of events, as Kafka Connect has them: the one tree from which both schema texts are written.
//!
//! Which names, versions, parameters and defaults a column's schema has is Debezium's contract (reference cases under
//! `tests/data/debezium`); how a text of it looks is `avro_text`'s and `connect_text`'s business.

use super::literal::Literal;
use crate::table::{Column, ColumnKind};
use std::borrow::Cow;

/// A Connect schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schema {
    /// What values are made of.
    pub base: Base,
    /// Whether null is a value.
    pub optional: bool,
    /// The semantic name, or a struct's.
    pub name: Option<Cow<'static, str>>,
    /// Of the name.
    pub version: Option<u32>,
    /// A remark that is part of the text.
    pub doc: Option<&'static str>,
    /// In order.
    pub parameters: Vec<(&'static str, String)>,
    /// The value a reader may put in place of a missing field. We never do.
    pub default: Option<Literal>,
}

/// What values are made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Bytes,
    Array(Box<Schema>),
    Struct(Vec<Field>),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub name: Cow<'static, str>,
    pub schema: Schema,
}

/// The name of Connect's decimals, which Avro gets more properties for.
pub(super) const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Markers of `source.snapshot`.
const SNAPSHOT_MARKERS: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

impl Schema {
    pub(super) fn plain(base: Base) -> Self {
        Schema { base, optional: false, name: None, version: None, doc: None, parameters: Vec::new(), default: None }
    }

    /// A semantic type, version 1.
    pub(super) fn named(base: Base, name: &'static str) -> Self {
        Schema { name: Some(name.into()), version: Some(1), ..Schema::plain(base) }
    }

    fn with(mut self, parameter: &'static str, value: String) -> Self {
        self.parameters.push((parameter, value));
        self
    }

    fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

pub(super) fn field(name: &'static str, schema: Schema) -> Field {
    Field { name: name.into(), schema }
}

pub(super) fn required(name: &'static str, base: Base) -> Field {
    field(name, Schema::plain(base))
}

pub(super) fn optional(name: &'static str, base: Base) -> Field {
    field(name, Schema::plain(base).optional())
}

/// The schema of a kind's values, required and without default.
pub(super) fn of_kind(kind: &ColumnKind) -> Schema {
    match kind {
        ColumnKind::Bool | ColumnKind::Bit => Schema::plain(Base::Boolean),
        ColumnKind::Int2 => Schema::plain(Base::Int16),
        ColumnKind::Int4 => Schema::plain(Base::Int32),
        ColumnKind::Int8 | ColumnKind::Oid => Schema::plain(Base::Int64),
        ColumnKind::Float4 => Schema::plain(Base::Float32),
        ColumnKind::Float8 => Schema::plain(Base::Float64),
        ColumnKind::Numeric { precision, scale } => Schema::named(Base::Bytes, DECIMAL)
            .with("scale", scale.to_string())
            .with("connect.decimal.precision", precision.to_string()),
        ColumnKind::NumericAny => Schema {
            doc: Some("Variable scaled decimal"),
            ..Schema::named(
                Base::Struct(vec![required("scale", Base::Int32), required("value", Base::Bytes)]),
                "io.debezium.data.VariableScaleDecimal",
            )
        },
        ColumnKind::Money => Schema::named(Base::Bytes, DECIMAL).with("scale", "2".to_owned()),
        ColumnKind::Text | ColumnKind::Verbatim | ColumnKind::Unknown { .. } => Schema::plain(Base::Text),
        ColumnKind::Json | ColumnKind::Hstore => Schema::named(Base::Text, "io.debezium.data.Json"),
        ColumnKind::Xml => Schema::named(Base::Text, "io.debezium.data.Xml"),
        ColumnKind::Uuid => Schema::named(Base::Text, "io.debezium.data.Uuid"),
        ColumnKind::Ltree => Schema::named(Base::Text, "io.debezium.data.Ltree"),
        ColumnKind::Tsvector => Schema::named(Base::Text, "io.debezium.data.Tsvector"),
        ColumnKind::Enum { allowed } => {
            Schema::named(Base::Text, "io.debezium.data.Enum").with("allowed", allowed.to_string())
        }
        ColumnKind::Bytea => Schema::plain(Base::Bytes),
        ColumnKind::Bits { length } => {
            Schema::named(Base::Bytes, "io.debezium.data.Bits").with("length", length.to_string())
        }
        ColumnKind::Date => Schema::named(Base::Int32, "io.debezium.time.Date"),
        ColumnKind::Time { precision: 0..=3 } => Schema::named(Base::Int32, "io.debezium.time.Time"),
        ColumnKind::Time { .. } => Schema::named(Base::Int64, "io.debezium.time.MicroTime"),
        ColumnKind::TimeTz => Schema::named(Base::Text, "io.debezium.time.ZonedTime"),
        ColumnKind::Timestamp { precision: 0..=3 } => Schema::named(Base::Int64, "io.debezium.time.Timestamp"),
        ColumnKind::Timestamp { .. } => Schema::named(Base::Int64, "io.debezium.time.MicroTimestamp"),
        ColumnKind::TimestampTz { .. } => Schema::named(Base::Text, "io.debezium.time.ZonedTimestamp"),
        ColumnKind::Interval => Schema::named(Base::Int64, "io.debezium.time.MicroDuration"),
        ColumnKind::Point => Schema {
            doc: Some("Geometry (POINT)"),
            ..Schema::named(
                Base::Struct(vec![
                    required("x", Base::Float64),
                    required("y", Base::Float64),
                    optional("wkb", Base::Bytes),
                    optional("srid", Base::Int32),
                ]),
                "io.debezium.data.geometry.Point",
            )
        },
        ColumnKind::Array(element) => {
            let element_schema = Schema { optional: element_is_optional(element), ..of_kind(element) };
            Schema::plain(Base::Array(Box::new(element_schema)))
        }
    }
}

/// Whether an array's elements may be null: all but the labels of an enum, which Debezium declares as required.
pub(super) fn element_is_optional(element: &ColumnKind) -> bool {
    !matches!(element, ColumnKind::Enum { .. })
}

/// A column's field, with what nullability and default make of its kind's schema.
pub(super) fn of_column(column: &Column) -> Field {
    let schema = Schema {
        optional: !column.not_null,
        default: column.default.as_deref().and_then(|text| Literal::of_default(text, &column.kind)),
        ..of_kind(&column.kind)
    };
    Field { name: column.name.to_string().into(), schema }
}

/// A table's `Key`; none without key columns.
pub(super) fn of_key(structure: &str, fields: Vec<Field>) -> Option<Schema> {
    let name = Some(format!("{structure}.Key").into());
    (!fields.is_empty()).then(|| Schema { name, ..Schema::plain(Base::Struct(fields)) })
}

/// A table's `Envelope`. `structure` is `prefix.namespace.table`, `fields` are the row's.
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

/// The key of logical messages.
pub(super) fn of_message_key() -> Schema {
    let fields = vec![optional("prefix", Base::Text)];
    Schema::named(Base::Struct(fields), "io.debezium.connector.postgresql.MessageKey")
}

/// The value of logical messages.
pub(super) fn of_message() -> Schema {
    let message = Base::Struct(vec![optional("prefix", Base::Text), optional("content", Base::Bytes)]);
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
        ..Schema::named(Base::Text, "io.debezium.data.Enum").with("allowed", SNAPSHOT_MARKERS.to_owned()).optional()
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
