//! Values that are known when a plan is made: defaults, and the values in place of a missing or an
//! unchanged value.

use super::form::{Form, Union, push_code};
use super::modes::Code;
use super::transcode::Tools;
use super::views::Viewed;
use super::wire::Wire;
use super::{form, spatial, transcode};
use crate::table::value::{self, Decimal, DecimalScratch};
use crate::table::{Column, ColumnKind, DefaultText, default_text};
use md5::{Digest as _, Md5};

pub(super) use crate::transform::shape::Literal;

/// Well-known binary of an empty geometry collection, Debezium's empty geometry.
const EMPTY_GEOMETRY: [u8; 9] = [1, 7, 0, 0, 0, 0, 0, 0, 0];

impl Literal {
    /// Makes the default in a column's schema from the column's DEFAULT expression. `None` if
    /// Debezium writes no default for it.
    pub(super) fn of_default(expression: &str, kind: &ColumnKind, wire: &Wire) -> Option<Self> {
        match default_text(expression, kind)? {
            DefaultText::Computed => Self::computed(wire),
            DefaultText::Literal(text) => Self::parse(&text, wire),
        }
    }

    /// Makes the default in the schema if a function computes the column's default: a fixed value,
    /// which is mostly the empty value of the form. `None` if Debezium writes no default then.
    fn computed(wire: &Wire) -> Option<Self> {
        match wire {
            Wire::Json => Some(Literal::Text("{}".to_owned())),
            Wire::Uuid => Some(Literal::Text("00000000-0000-0000-0000-000000000000".to_owned())),
            Wire::Enum { .. } | Wire::Variable => None,
            Wire::ZonedTimestamp { .. } => Self::parse("1970-01-01", wire),
            _ => Self::empty(wire),
        }
    }

    /// Reads the literal of a column's DEFAULT as a value in the form `wire`. `None` if the literal
    /// cannot be read so, or if Debezium writes no default for it.
    fn parse(text: &str, wire: &Wire) -> Option<Self> {
        let bytes = text.as_bytes();
        Some(match wire {
            Wire::Text | Wire::Json | Wire::Xml | Wire::Uuid | Wire::Enum { .. } => {
                Literal::Text(text.to_owned())
            }
            Wire::PositionText => {
                let mut position = Vec::new();
                value::position(bytes, &mut position);
                Literal::Text(String::from_utf8(position).ok()?)
            }
            Wire::Bool => Literal::Boolean(text.eq_ignore_ascii_case("true")),
            Wire::Float4 => {
                Literal::Float4(value::float4(bytes).ok().filter(|value| value.is_finite())?)
            }
            Wire::Float8 => {
                Literal::Float8(value::float8(bytes).ok().filter(|value| value.is_finite())?)
            }
            Wire::Decimal { scale, .. } => {
                let mut scratch = DecimalScratch::default();
                match value::decimal(bytes, Some(*scale), &mut scratch).ok()? {
                    Decimal::Finite { scale } => {
                        Literal::Decimal { unscaled: scratch.unscaled().to_vec(), scale }
                    }
                    Decimal::Special(_) => return None,
                }
            }
            Wire::DecimalText { scale } | Wire::DecimalFloat { scale } => {
                let mut plain = Vec::new();
                match value::decimal_text(bytes, *scale, &mut plain).ok()? {
                    Some(_) => return None,
                    None if matches!(wire, Wire::DecimalFloat { .. }) => Literal::Float8(
                        value::float8(&plain).ok().filter(|value| value.is_finite())?,
                    ),
                    None => Literal::Text(String::from_utf8(plain).ok()?),
                }
            }
            Wire::Bit => Literal::Boolean(text == "1"),
            Wire::Bits { .. } => {
                let mut out = Vec::new();
                value::bits(bytes, &mut out).ok()?;
                Literal::Bytes(out)
            }
            Wire::Int2
            | Wire::Int4
            | Wire::Int8
            | Wire::TimeMillis
            | Wire::TimeMicros
            | Wire::TimeNanos
            | Wire::ConnectTime
            | Wire::TimestampMillis
            | Wire::TimestampMicros
            | Wire::TimestampNanos
            | Wire::ConnectTimestamp
            | Wire::IntervalMicros => Literal::Int(Self::through_json(bytes, wire)?.parse().ok()?),
            // Debezium writes no default for an infinite `date` or `timestamptz`.
            Wire::Date | Wire::ConnectDate | Wire::IsoDate | Wire::ZonedTimestamp { .. }
                if text.ends_with("infinity") =>
            {
                return None;
            }
            Wire::Date | Wire::ConnectDate => {
                Literal::Int(Self::through_json(bytes, wire)?.parse().ok()?)
            }
            Wire::IsoDate
            | Wire::IsoTime
            | Wire::IsoTimestamp
            | Wire::ZonedTimestamp { .. }
            | Wire::IntervalText => {
                Literal::Text(Self::through_json(bytes, wire)?.trim_matches('"').to_owned())
            }
            _ => return None,
        })
    }

    /// Returns the JSON text of a value. `None` if the value cannot be written.
    fn through_json(text: &[u8], wire: &Wire) -> Option<String> {
        let (mut out, mut tools) = (Vec::new(), Tools::default());
        transcode::value::<form::Json>(wire, text, &mut out, &mut tools).ok()?;
        String::from_utf8(out).ok()
    }

    /// Makes the empty value of a form, such as 0 or an empty text. A required field holds it if
    /// the row has no value, as in the field `before` of a delete. `None` for a sparse vector,
    /// whose field is never required.
    pub(super) fn empty(wire: &Wire) -> Option<Self> {
        let text = |text: &str| Literal::Text(text.to_owned());
        let zeros = |digits: u32| match digits {
            0 => "0".to_owned(),
            digits => format!("0.{:0<1$}", "", digits as usize),
        };
        Some(match wire {
            Wire::Bool | Wire::Bit => Literal::Boolean(false),
            Wire::Int2
            | Wire::Int4
            | Wire::Int8
            | Wire::Oid
            | Wire::Date
            | Wire::ConnectDate
            | Wire::TimeMillis
            | Wire::TimeMicros
            | Wire::TimeNanos
            | Wire::ConnectTime
            | Wire::TimestampMillis
            | Wire::TimestampMicros
            | Wire::TimestampNanos
            | Wire::ConnectTimestamp
            | Wire::IntervalMicros => Literal::Int(0),
            Wire::Float4 => Literal::Float4(0.0),
            Wire::Float8 | Wire::DecimalFloat { .. } | Wire::MoneyFloat => Literal::Float8(0.0),
            Wire::Decimal { scale, .. } => {
                Literal::Decimal { unscaled: vec![0], scale: u32::from(*scale) }
            }
            Wire::Money { digits } => {
                Literal::Decimal { unscaled: vec![0], scale: u32::from(*digits) }
            }
            Wire::DecimalText { scale } => Literal::Text(zeros(u32::from(scale.unwrap_or(0)))),
            Wire::MoneyText { digits } => Literal::Text(zeros(u32::from(*digits))),
            Wire::Variable => Literal::Variable { unscaled: vec![0], scale: 0 },
            Wire::Text
            | Wire::PositionText
            | Wire::Json
            | Wire::Xml
            | Wire::Uuid
            | Wire::Ltree
            | Wire::Tsvector
            | Wire::BytesText(_)
            | Wire::OpaqueText { .. }
            | Wire::Enum { .. } => text(""),
            Wire::HstoreJson => text("{}"),
            Wire::HstoreMap => Literal::Map(Vec::new()),
            Wire::Bytes | Wire::Opaque { .. } | Wire::Bits { .. } => Literal::Bytes(Vec::new()),
            Wire::IsoDate => text("1970-01-01Z"),
            Wire::IsoTime | Wire::ZonedTime => text("00:00:00Z"),
            Wire::IsoTimestamp | Wire::ZonedTimestamp { .. } => text("1970-01-01T00:00:00Z"),
            Wire::IntervalText => text("P0Y0M0DT0H0M0S"),
            Wire::Point => Literal::Point(0.0, 0.0),
            Wire::Geometry | Wire::Geography | Wire::Viewed(Viewed::Geometry(_)) => {
                Literal::Geometry { wkb: EMPTY_GEOMETRY.to_vec() }
            }
            Wire::Viewed(Viewed::Vector { .. }) => text("{ \"values\": [] }"),
            Wire::Vector | Wire::HalfVector | Wire::Int2Vector | Wire::OidVector => {
                Literal::required(Vec::new())
            }
            Wire::List { .. } => Literal::required(Vec::new()),
            Wire::SparseVector | Wire::Viewed(Viewed::Sparse) => return None,
        })
    }

    /// Makes the value of a column's field for a row that does not have the column, such as an old
    /// row with the columns of the replica identity alone. A NOT NULL column has the schema's
    /// default or the empty value. `None` stands for null.
    pub(super) fn missing(column: &Column, wire: &Wire) -> Option<Self> {
        let default = || {
            column.default.as_deref().and_then(|text| Literal::of_default(text, &column.kind, wire))
        };
        if column.not_null { default().or_else(|| Literal::empty(wire)) } else { None }
    }

    /// Makes the placeholder for a value that the server did not send because it did not change.
    /// `None` for types that cannot hold a placeholder: booleans, points, sparse vectors, precise
    /// `money`, and integers, floating point numbers and moments that are written as numbers.
    /// `None` also for lists of booleans, points and sparse vectors.
    ///
    /// The placeholder of a text is its text, in which invalid UTF-8 is replaced. The placeholder
    /// of bytes is `bytes`. A list of texts or bytes holds one such element, and a list of numbers
    /// holds `bytes` as signed numbers. For decimals, lists of several types, geometries and
    /// vectors, Debezium has no placeholder and writes null. We write `bytes` as the unscaled
    /// value, as the well-known binary, or as the numbers of the list.
    pub(super) fn unavailable(wire: &Wire, bytes: &[u8]) -> Option<Self> {
        let placeholder = &*String::from_utf8_lossy(bytes);
        let numbers = || bytes.iter().map(|byte| byte.cast_signed());
        let floats = || numbers().map(|byte| Literal::Float8(f64::from(byte))).collect();
        let halves = || numbers().map(|byte| Literal::Float4(f32::from(byte))).collect();
        let ints = || numbers().map(|byte| Literal::Int(i64::from(byte))).collect();
        Some(match wire {
            Wire::HstoreJson => Literal::Text(hstore_placeholder(placeholder)),
            Wire::HstoreMap => Literal::Map(vec![(placeholder.to_owned(), placeholder.to_owned())]),
            Wire::Bytes | Wire::Opaque { .. } | Wire::Bits { .. } => Literal::Bytes(bytes.to_vec()),
            Wire::BytesText(code) | Wire::OpaqueText { code, .. } => {
                Literal::Text(coded(*code, bytes))
            }
            Wire::Decimal { scale, .. } => {
                Literal::Decimal { unscaled: bytes.to_vec(), scale: u32::from(*scale) }
            }
            Wire::Variable => Literal::Variable { unscaled: bytes.to_vec(), scale: 0 },
            Wire::Text
            | Wire::PositionText
            | Wire::DecimalText { .. }
            | Wire::MoneyText { .. }
            | Wire::Json
            | Wire::Xml
            | Wire::Uuid
            | Wire::Ltree
            | Wire::Tsvector
            | Wire::Enum { .. }
            | Wire::IsoDate
            | Wire::IsoTime
            | Wire::ZonedTime
            | Wire::IsoTimestamp
            | Wire::ZonedTimestamp { .. }
            | Wire::IntervalText => Literal::Text(placeholder.to_owned()),
            Wire::Geometry | Wire::Geography | Wire::Viewed(Viewed::Geometry(_)) => {
                Literal::Geometry { wkb: bytes.to_vec() }
            }
            Wire::Viewed(Viewed::Vector { .. }) => Literal::Text(placeholder.to_owned()),
            Wire::Vector => Literal::required(floats()),
            Wire::HalfVector => Literal::required(halves()),
            Wire::Int2Vector | Wire::OidVector => Literal::required(ints()),
            Wire::List { element, optional, .. } => {
                let elements = match &**element {
                    Wire::Bool | Wire::Bit | Wire::Point | Wire::SparseVector => return None,
                    Wire::Uuid => vec![Literal::Text(name_based_uuid(bytes))],
                    Wire::Float4 => halves(),
                    Wire::Float8 | Wire::DecimalFloat { .. } | Wire::MoneyFloat => floats(),
                    other => Literal::unavailable(other, bytes).map_or_else(ints, |one| vec![one]),
                };
                Literal::List { elements, element: Union::of(*optional, false) }
            }
            _ => return None,
        })
    }

    /// Makes a list whose elements cannot be null.
    fn required(elements: Vec<Literal>) -> Self {
        Literal::List { elements, element: Union::Required }
    }

    /// Appends the value in the form `F`.
    pub(super) fn write<F: Form>(&self, out: &mut Vec<u8>) {
        match self {
            Literal::Boolean(value) => F::boolean(*value, out),
            Literal::Int(value) => F::int(*value, out),
            Literal::Float4(value) => F::float4(*value, out),
            Literal::Float8(value) => F::float8(*value, out),
            Literal::Text(value) => F::text(value, out),
            Literal::Bytes(value) => F::bytes(value, out),
            Literal::Decimal { unscaled, scale } => F::decimal(unscaled, *scale, out),
            Literal::Variable { unscaled, scale } => {
                transcode::variable::<F>(unscaled, *scale, out)
            }
            Literal::Point(x, y) => spatial::point::<F>(*x, *y, out),
            Literal::Geometry { wkb } => spatial::geometry::<F>(wkb, None, out),
            Literal::Map(entries) => {
                F::map_open(entries.len(), out);
                for (index, (key, value)) in entries.iter().enumerate() {
                    F::map_key(index == 0, key, out);
                    F::some(Union::NullFirst, out);
                    F::text(value, out);
                }
                F::map_close(entries.len(), out);
            }
            Literal::List { elements, element } => {
                F::list_open(elements.len(), out);
                for (index, value) in elements.iter().enumerate() {
                    F::element(index == 0, out);
                    F::some(*element, out);
                    value.write::<F>(out);
                }
                F::list_close(elements.len(), out);
            }
        }
    }
}

/// Makes the placeholder for bytes that are written as a text. In hexadecimal it is the placeholder
/// as it is, as in Debezium. In Base64 it is the encoded placeholder. Debezium writes null in that
/// case, or stops at a required field.
fn coded(code: Code, placeholder: &[u8]) -> String {
    let mut out = Vec::new();
    match code {
        Code::Hex => out.extend_from_slice(placeholder),
        Code::Base64 | Code::Base64Url => push_code(code, placeholder, &mut out),
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hstore_placeholder(placeholder: &str) -> String {
    let mut out = vec![b'{'];
    super::java::push_json_text(placeholder, &mut out);
    out.push(b':');
    super::java::push_json_text(placeholder, &mut out);
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// Makes a UUID as Java's `UUID.nameUUIDFromBytes` makes it: version 3, by MD5, without a name
/// space.
fn name_based_uuid(name: &[u8]) -> String {
    let mut bytes: [u8; 16] = Md5::digest(name).into();
    bytes[6] = bytes[6] & 0x0F | 0x30;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::modes::Modes;
    use super::*;

    #[test]
    fn the_uuid_of_the_placeholder_is_debeziums() {
        // The expected value is that of the reference case toast-default.
        assert_eq!(
            name_based_uuid(b"__debezium_unavailable_value"),
            "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
        );
    }

    #[test]
    fn a_default_that_its_type_would_round_or_not_hold_is_none() {
        let of = |text, kind: ColumnKind| {
            Literal::of_default(text, &kind, &Wire::of(&kind, &Modes::default()).unwrap())
        };
        let numeric = || ColumnKind::Numeric { precision: 6, scale: 2 };
        assert_eq!(of("1.555", numeric()), None);
        assert_eq!(
            of("1.50000", numeric()),
            Some(Literal::Decimal { unscaled: vec![0, 150], scale: 2 })
        );
        assert_eq!(of("(2 + 3)", ColumnKind::Int4), None);
        assert_eq!(of("40000", ColumnKind::Int2), None);
        assert_eq!(
            of("'infinity'::timestamp with time zone", ColumnKind::TimestampTz { precision: 6 }),
            None
        );
        assert_eq!(of("'NaN'::double precision", ColumnKind::Float8), None);
    }
}
