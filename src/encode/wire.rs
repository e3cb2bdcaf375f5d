//! The form of a column's values on the wire, which follows from the column's kind and the chosen
//! modes.
//!
//! The form of a column is decided once for a plan. `transcode` matches on this form for each
//! value, and `schema` and `literal` do so once for a plan.

use super::modes::{
    BinaryMode, Code, DecimalMode, HstoreMode, IntervalMode, Modes, TimeMode, UnknownMode,
};
use super::views::Viewed;
use crate::table::{AsBytes, ColumnKind};

/// The forms of values. There is one for each way in which a value is written or its schema is
/// named.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// A decimal as its unscaled value. The schema states the scale.
    Decimal {
        precision: u16,
        scale: u16,
    },
    /// A decimal as a struct of its own scale and its unscaled value.
    Variable,
    /// A decimal as a text in plain notation, with this many digits after the point, or with the
    /// value's own.
    DecimalText {
        scale: Option<u16>,
    },
    /// The floating point number that is nearest to a decimal. The scale is used only for a
    /// DEFAULT: one with more digits than the column's type keeps is left out of the schema.
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
    /// The text that Postgres prints, in a string whose schema has no name.
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
    /// The bytes of the text that Postgres prints, or of this text printed again.
    Opaque {
        reprint: Reprint,
    },
    OpaqueText {
        code: Code,
        reprint: Reprint,
    },
    /// The text of a `pg_lsn`, or of an array of them.
    PositionText,
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
    /// A geometry or vector in a form that a transform asks for.
    Viewed(Viewed),
    Int2Vector,
    OidVector,
    List {
        element: Box<Wire>,
        /// Whether elements may be null.
        optional: bool,
        /// The character between elements in the array's text.
        delimiter: u8,
    },
}

/// How the text of an opaque value (of a type without a mapping) is printed again before it is
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reprint {
    /// The text stays as the server prints it.
    Not,
    /// The text of a geometric type is printed as the JDBC driver prints it.
    Geometric,
    /// The text of a `pg_lsn` is printed without leading zeros. Postgres prints leading zeros from
    /// version 19 on, so that a key with such a column would change after an upgrade.
    Position,
}

impl Wire {
    /// Returns the form of the values of a kind of column. `None` if columns of this kind are left
    /// out of events.
    pub(super) fn of(kind: &ColumnKind, modes: &Modes) -> Option<Self> {
        Some(match kind {
            ColumnKind::Bool => Wire::Bool,
            ColumnKind::Int2 => Wire::Int2,
            ColumnKind::Int4 => Wire::Int4,
            ColumnKind::Int8 => Wire::Int8,
            ColumnKind::Oid => Wire::Oid,
            ColumnKind::Float4 => Wire::Float4,
            ColumnKind::Float8 => Wire::Float8,
            ColumnKind::Numeric { .. } | ColumnKind::NumericAny | ColumnKind::Money => {
                decimal(kind, modes)
            }
            ColumnKind::Text | ColumnKind::Verbatim | ColumnKind::Isbn => Wire::Text,
            ColumnKind::Json => Wire::Json,
            ColumnKind::Xml => Wire::Xml,
            ColumnKind::Uuid => Wire::Uuid,
            ColumnKind::Ltree => Wire::Ltree,
            ColumnKind::Tsvector => Wire::Tsvector,
            ColumnKind::Hstore => match modes.hstore {
                HstoreMode::Json => Wire::HstoreJson,
                HstoreMode::Map => Wire::HstoreMap,
            },
            ColumnKind::Enum { allowed } => Wire::Enum { allowed: allowed.clone() },
            ColumnKind::Bytea => match modes.binary {
                BinaryMode::Bytes => Wire::Bytes,
                BinaryMode::Coded(code) => Wire::BytesText(code),
            },
            ColumnKind::Bit => Wire::Bit,
            ColumnKind::Bits { length } => Wire::Bits { length: *length },
            ColumnKind::Date => date(modes.time),
            ColumnKind::Time { precision } => time(*precision, modes.time),
            ColumnKind::TimeTz => Wire::ZonedTime,
            ColumnKind::Timestamp { precision } => timestamp(*precision, modes.time),
            ColumnKind::TimestampTz { precision } => Wire::ZonedTimestamp { precision: *precision },
            ColumnKind::Interval => match modes.intervals {
                IntervalMode::Numeric => Wire::IntervalMicros,
                IntervalMode::Text => Wire::IntervalText,
            },
            ColumnKind::Point => Wire::Point,
            ColumnKind::Geometry => Wire::Geometry,
            ColumnKind::Geography => Wire::Geography,
            ColumnKind::Vector => Wire::Vector,
            ColumnKind::HalfVector => Wire::HalfVector,
            ColumnKind::SparseVector => Wire::SparseVector,
            ColumnKind::Int2Vector => Wire::Int2Vector,
            ColumnKind::OidVector => Wire::OidVector,
            ColumnKind::Array(element) => Wire::List {
                element: Box::new(Wire::of(element, modes)?),
                optional: has_null_elements(element),
                delimiter: if matches!(**element, ColumnKind::Geometry | ColumnKind::Geography) {
                    b':'
                } else {
                    b','
                },
            },
            ColumnKind::Unknown { as_bytes, .. } => return unknown(*as_bytes, modes),
        })
    }

    /// Whether a column's field may be null even if the column may not. Debezium declares some
    /// types in this way.
    pub(super) fn is_always_optional(&self) -> bool {
        matches!(self, Wire::Geometry | Wire::SparseVector)
    }
}

/// Whether a list's elements may be null. Debezium declares the elements of some lists as required.
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

fn decimal(kind: &ColumnKind, modes: &Modes) -> Wire {
    let digits = modes.money_digits;
    let scale = match kind {
        ColumnKind::Numeric { scale, .. } => Some(*scale),
        _ => None,
    };
    match (kind, modes.decimals) {
        (ColumnKind::Money, DecimalMode::Precise) => Wire::Money { digits },
        (ColumnKind::Money, DecimalMode::Double) => Wire::MoneyFloat,
        (ColumnKind::Money, DecimalMode::Text) => Wire::MoneyText { digits },
        (_, DecimalMode::Double) => Wire::DecimalFloat { scale },
        (_, DecimalMode::Text) => Wire::DecimalText { scale },
        (ColumnKind::Numeric { precision, scale }, DecimalMode::Precise) => {
            Wire::Decimal { precision: *precision, scale: *scale }
        }
        (_, DecimalMode::Precise) => Wire::Variable,
    }
}

fn date(mode: TimeMode) -> Wire {
    match mode {
        TimeMode::Connect => Wire::ConnectDate,
        TimeMode::IsoString => Wire::IsoDate,
        TimeMode::Adaptive
        | TimeMode::AdaptiveTimeMicroseconds
        | TimeMode::Microseconds
        | TimeMode::Nanoseconds => Wire::Date,
    }
}

fn time(precision: u8, mode: TimeMode) -> Wire {
    match mode {
        TimeMode::Adaptive if precision <= 3 => Wire::TimeMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            Wire::TimeMicros
        }
        TimeMode::Nanoseconds => Wire::TimeNanos,
        TimeMode::Connect => Wire::ConnectTime,
        TimeMode::IsoString => Wire::IsoTime,
    }
}

fn timestamp(precision: u8, mode: TimeMode) -> Wire {
    match mode {
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds if precision <= 3 => {
            Wire::TimestampMillis
        }
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            Wire::TimestampMicros
        }
        TimeMode::Nanoseconds => Wire::TimestampNanos,
        TimeMode::Connect => Wire::ConnectTimestamp,
        TimeMode::IsoString => Wire::IsoTimestamp,
    }
}

fn unknown(as_bytes: AsBytes, modes: &Modes) -> Option<Wire> {
    let opaque = |reprint| match modes.binary {
        BinaryMode::Bytes => Wire::Opaque { reprint },
        BinaryMode::Coded(code) => Wire::OpaqueText { code, reprint },
    };
    let list = |reprint, delimiter| Wire::List {
        element: Box::new(opaque(reprint)),
        optional: false,
        delimiter,
    };
    match (modes.unknown_types, as_bytes) {
        (UnknownMode::Text, AsBytes::Position | AsBytes::PositionList) => Some(Wire::PositionText),
        (UnknownMode::Text, _) => Some(Wire::Text),
        (UnknownMode::Drop, _) | (UnknownMode::Bytes, AsBytes::Nothing) => None,
        (UnknownMode::Bytes, AsBytes::Text) => Some(opaque(Reprint::Not)),
        (UnknownMode::Bytes, AsBytes::Geometric) => Some(opaque(Reprint::Geometric)),
        (UnknownMode::Bytes, AsBytes::List) => Some(list(Reprint::Not, b',')),
        (UnknownMode::Bytes, AsBytes::GeometricList) => Some(list(Reprint::Geometric, b',')),
        (UnknownMode::Bytes, AsBytes::BoxList) => Some(list(Reprint::Geometric, b';')),
        (UnknownMode::Bytes, AsBytes::Position) => Some(opaque(Reprint::Position)),
        (UnknownMode::Bytes, AsBytes::PositionList) => Some(list(Reprint::Position, b',')),
    }
}
