//! The shape of a column's values on the wire: what its kind becomes under the modes that were chosen.
//!
//! Decided once for a plan; `transcode` matches on it row by row, `schema` and `literal` once.

use super::modes::{BinaryMode, Code, DecimalMode, HstoreMode, IntervalMode, Modes, TimeMode, UnknownMode};
use crate::table::{AsBytes, ColumnKind};

/// One shape for each way a value is written or a schema named.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// An unscaled value of the schema's scale.
    Decimal {
        precision: u16,
        scale: u16,
    },
    /// An unscaled value with a scale of its own.
    Variable,
    /// Plain notation, with so many digits after the point or its own.
    DecimalText {
        scale: Option<u16>,
    },
    /// The nearest floating point number; the scale is for defaults, which their type would round.
    DecimalFloat {
        scale: Option<u16>,
    },
    Money {
        digits: u8,
    },
    MoneyText {
        digits: u8,
    },
    MoneyFloat,
    /// The text itself, in a string without a name.
    Text,
    Json,
    Xml,
    Uuid,
    Ltree,
    Tsvector,
    HstoreJson,
    HstoreMap,
    Enum {
        allowed: Box<str>,
    },
    Bytes,
    BytesText(Code),
    /// The text's bytes; of a geometric type, its text as the JDBC driver prints it.
    Opaque {
        geometric: bool,
    },
    OpaqueText {
        code: Code,
        geometric: bool,
    },
    Bit,
    Bits {
        length: u32,
    },
    Date,
    ConnectDate,
    IsoDate,
    TimeMillis,
    TimeMicros,
    TimeNanos,
    ConnectTime,
    IsoTime,
    ZonedTime,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    ConnectTimestamp,
    IsoTimestamp,
    ZonedTimestamp {
        precision: u8,
    },
    IntervalMicros,
    IntervalText,
    Point,
    Geometry,
    Geography,
    Vector,
    HalfVector,
    SparseVector,
    Int2Vector,
    OidVector,
    List {
        element: Box<Shape>,
        /// Whether elements may be null.
        optional: bool,
        /// What stands between elements in the text.
        delimiter: u8,
    },
}

impl Shape {
    /// The shape of a kind; none if columns of it are left out.
    pub(super) fn of(kind: &ColumnKind, modes: &Modes) -> Option<Self> {
        Some(match kind {
            ColumnKind::Bool => Shape::Bool,
            ColumnKind::Int2 => Shape::Int2,
            ColumnKind::Int4 => Shape::Int4,
            ColumnKind::Int8 => Shape::Int8,
            ColumnKind::Oid => Shape::Oid,
            ColumnKind::Float4 => Shape::Float4,
            ColumnKind::Float8 => Shape::Float8,
            ColumnKind::Numeric { .. } | ColumnKind::NumericAny | ColumnKind::Money => decimal(kind, modes),
            ColumnKind::Text | ColumnKind::Verbatim | ColumnKind::Isbn => Shape::Text,
            ColumnKind::Json => Shape::Json,
            ColumnKind::Xml => Shape::Xml,
            ColumnKind::Uuid => Shape::Uuid,
            ColumnKind::Ltree => Shape::Ltree,
            ColumnKind::Tsvector => Shape::Tsvector,
            ColumnKind::Hstore => match modes.hstore {
                HstoreMode::Json => Shape::HstoreJson,
                HstoreMode::Map => Shape::HstoreMap,
            },
            ColumnKind::Enum { allowed } => Shape::Enum { allowed: allowed.clone() },
            ColumnKind::Bytea => match modes.binary {
                BinaryMode::Bytes => Shape::Bytes,
                BinaryMode::Coded(code) => Shape::BytesText(code),
            },
            ColumnKind::Bit => Shape::Bit,
            ColumnKind::Bits { length } => Shape::Bits { length: *length },
            ColumnKind::Date => date(modes.time),
            ColumnKind::Time { precision } => time(*precision, modes.time),
            ColumnKind::TimeTz => Shape::ZonedTime,
            ColumnKind::Timestamp { precision } => timestamp(*precision, modes.time),
            ColumnKind::TimestampTz { precision } => Shape::ZonedTimestamp { precision: *precision },
            ColumnKind::Interval => match modes.intervals {
                IntervalMode::Numeric => Shape::IntervalMicros,
                IntervalMode::Text => Shape::IntervalText,
            },
            ColumnKind::Point => Shape::Point,
            ColumnKind::Geometry => Shape::Geometry,
            ColumnKind::Geography => Shape::Geography,
            ColumnKind::Vector => Shape::Vector,
            ColumnKind::HalfVector => Shape::HalfVector,
            ColumnKind::SparseVector => Shape::SparseVector,
            ColumnKind::Int2Vector => Shape::Int2Vector,
            ColumnKind::OidVector => Shape::OidVector,
            ColumnKind::Array(element) => Shape::List {
                element: Box::new(Shape::of(element, modes)?),
                optional: has_null_elements(element),
                delimiter: if matches!(**element, ColumnKind::Geometry | ColumnKind::Geography) { b':' } else { b',' },
            },
            ColumnKind::Unknown { as_bytes, .. } => return unknown(*as_bytes, modes),
        })
    }

    /// Whether a column's field may be null even if the column may not: Debezium declares these so.
    pub(super) fn is_always_optional(&self) -> bool {
        matches!(self, Shape::Geometry | Shape::SparseVector)
    }
}

/// Debezium declares the elements of some lists as required.
fn has_null_elements(element: &ColumnKind) -> bool {
    !matches!(
        element,
        ColumnKind::Enum { .. }
            | ColumnKind::Isbn
            | ColumnKind::Tsvector
            | ColumnKind::Vector
            | ColumnKind::HalfVector
            | ColumnKind::SparseVector
    )
}

fn decimal(kind: &ColumnKind, modes: &Modes) -> Shape {
    let digits = modes.money_digits;
    let scale = match kind {
        ColumnKind::Numeric { scale, .. } => Some(*scale),
        _ => None,
    };
    match (kind, modes.decimals) {
        (ColumnKind::Money, DecimalMode::Precise) => Shape::Money { digits },
        (ColumnKind::Money, DecimalMode::Double) => Shape::MoneyFloat,
        (ColumnKind::Money, DecimalMode::Text) => Shape::MoneyText { digits },
        (_, DecimalMode::Double) => Shape::DecimalFloat { scale },
        (_, DecimalMode::Text) => Shape::DecimalText { scale },
        (ColumnKind::Numeric { precision, scale }, DecimalMode::Precise) => {
            Shape::Decimal { precision: *precision, scale: *scale }
        }
        (_, DecimalMode::Precise) => Shape::Variable,
    }
}

fn date(mode: TimeMode) -> Shape {
    match mode {
        TimeMode::Connect => Shape::ConnectDate,
        TimeMode::IsoString => Shape::IsoDate,
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds | TimeMode::Nanoseconds => {
            Shape::Date
        }
    }
}

fn time(precision: u8, mode: TimeMode) -> Shape {
    match mode {
        TimeMode::Adaptive if precision <= 3 => Shape::TimeMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => Shape::TimeMicros,
        TimeMode::Nanoseconds => Shape::TimeNanos,
        TimeMode::Connect => Shape::ConnectTime,
        TimeMode::IsoString => Shape::IsoTime,
    }
}

fn timestamp(precision: u8, mode: TimeMode) -> Shape {
    match mode {
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds if precision <= 3 => Shape::TimestampMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => Shape::TimestampMicros,
        TimeMode::Nanoseconds => Shape::TimestampNanos,
        TimeMode::Connect => Shape::ConnectTimestamp,
        TimeMode::IsoString => Shape::IsoTimestamp,
    }
}

fn unknown(as_bytes: AsBytes, modes: &Modes) -> Option<Shape> {
    let opaque = |geometric| match modes.binary {
        BinaryMode::Bytes => Shape::Opaque { geometric },
        BinaryMode::Coded(code) => Shape::OpaqueText { code, geometric },
    };
    let list = |geometric, delimiter| Shape::List { element: Box::new(opaque(geometric)), optional: false, delimiter };
    match (modes.unknown_types, as_bytes) {
        (UnknownMode::Text, _) => Some(Shape::Text),
        (UnknownMode::Drop, _) | (UnknownMode::Bytes, AsBytes::Nothing) => None,
        (UnknownMode::Bytes, AsBytes::Text) => Some(opaque(false)),
        (UnknownMode::Bytes, AsBytes::Geometric) => Some(opaque(true)),
        (UnknownMode::Bytes, AsBytes::List) => Some(list(false, b',')),
        (UnknownMode::Bytes, AsBytes::GeometricList) => Some(list(true, b',')),
        (UnknownMode::Bytes, AsBytes::BoxList) => Some(list(true, b';')),
    }
}
