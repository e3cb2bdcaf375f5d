//! Values known when a plan is made: defaults, what stands in for a missing value, what stands in for an unchanged one.

use super::form::{Form, Union, push_code};
use super::modes::Code;
use super::shape::Shape;
use super::transcode::Tools;
use super::{form, spatial, transcode};
use crate::table::value::{self, Decimal, DecimalScratch};
use crate::table::{Column, ColumnKind, DefaultText, default_text};
use md5::{Digest as _, Md5};

/// Well-known binary of an empty geometry collection, Debezium's empty geometry.
const EMPTY_GEOMETRY: [u8; 9] = [1, 7, 0, 0, 0, 0, 0, 0, 0];

/// A value in no form yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Boolean(bool),
    Int(i64),
    Float4(f32),
    Float8(f64),
    Text(String),
    Bytes(Vec<u8>),
    Decimal { unscaled: Vec<u8>, scale: u32 },
    Variable { unscaled: Vec<u8>, scale: u32 },
    Point(f64, f64),
    Geometry { wkb: Vec<u8> },
    Map(Vec<(String, String)>),
    List { elements: Vec<Literal>, element: Union },
}

impl Literal {
    /// What a default expression gives a schema; none where Debezium gives none.
    pub(super) fn of_default(expression: &str, kind: &ColumnKind, shape: &Shape) -> Option<Self> {
        match default_text(expression, kind)? {
            DefaultText::Computed => Self::computed(shape),
            DefaultText::Literal(text) => Self::parse(&text, shape),
        }
    }

    /// What a schema says where a function computes the default.
    fn computed(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Json => Some(Literal::Text("{}".to_owned())),
            Shape::Uuid => Some(Literal::Text("00000000-0000-0000-0000-000000000000".to_owned())),
            Shape::Enum { .. } | Shape::Variable => None,
            Shape::ZonedTimestamp { .. } => Self::parse("1970-01-01", shape),
            _ => Self::empty(shape),
        }
    }

    /// A default's literal as a value of the shape.
    fn parse(text: &str, shape: &Shape) -> Option<Self> {
        let bytes = text.as_bytes();
        Some(match shape {
            Shape::Text | Shape::Json | Shape::Xml | Shape::Uuid | Shape::Enum { .. } => Literal::Text(text.to_owned()),
            Shape::Bool => Literal::Boolean(text.eq_ignore_ascii_case("true")),
            Shape::Float4 => Literal::Float4(value::float4(bytes).ok().filter(|value| value.is_finite())?),
            Shape::Float8 => Literal::Float8(value::float8(bytes).ok().filter(|value| value.is_finite())?),
            Shape::Decimal { scale, .. } => {
                let mut scratch = DecimalScratch::default();
                match value::decimal(bytes, Some(*scale), &mut scratch).ok()? {
                    Decimal::Finite { scale } => Literal::Decimal { unscaled: scratch.unscaled().to_vec(), scale },
                    Decimal::Special(_) => return None,
                }
            }
            Shape::DecimalText { scale } | Shape::DecimalFloat { scale } => {
                let mut plain = Vec::new();
                match value::decimal_text(bytes, *scale, &mut plain).ok()? {
                    Some(_) => return None,
                    None if matches!(shape, Shape::DecimalFloat { .. }) => {
                        Literal::Float8(value::float8(&plain).ok().filter(|value| value.is_finite())?)
                    }
                    None => Literal::Text(String::from_utf8(plain).ok()?),
                }
            }
            Shape::Bit => Literal::Boolean(text == "1"),
            Shape::Bits { .. } => {
                let mut out = Vec::new();
                value::bits(bytes, &mut out).ok()?;
                Literal::Bytes(out)
            }
            Shape::Int2
            | Shape::Int4
            | Shape::Int8
            | Shape::TimeMillis
            | Shape::TimeMicros
            | Shape::TimeNanos
            | Shape::ConnectTime
            | Shape::TimestampMillis
            | Shape::TimestampMicros
            | Shape::TimestampNanos
            | Shape::ConnectTimestamp
            | Shape::IntervalMicros => Literal::Int(Self::through_json(bytes, shape)?.parse().ok()?),
            // Debezium has no default where a date or a moment with time zone is infinite.
            Shape::Date | Shape::ConnectDate | Shape::IsoDate | Shape::ZonedTimestamp { .. }
                if text.ends_with("infinity") =>
            {
                return None;
            }
            Shape::Date | Shape::ConnectDate => Literal::Int(Self::through_json(bytes, shape)?.parse().ok()?),
            Shape::IsoDate
            | Shape::IsoTime
            | Shape::IsoTimestamp
            | Shape::ZonedTimestamp { .. }
            | Shape::IntervalText => Literal::Text(Self::through_json(bytes, shape)?.trim_matches('"').to_owned()),
            _ => return None,
        })
    }

    /// The JSON text of a value that reads without loss.
    fn through_json(text: &[u8], shape: &Shape) -> Option<String> {
        let (mut out, mut tools) = (Vec::new(), Tools::default());
        transcode::value::<form::Json>(shape, text, &mut out, &mut tools).ok()?;
        String::from_utf8(out).ok()
    }

    /// The empty value: what a required field holds where the row has none (before-images of deletes). Of a sparse
    /// vector, whose field is never required, there is none.
    pub(super) fn empty(shape: &Shape) -> Option<Self> {
        let text = |text: &str| Literal::Text(text.to_owned());
        let zeros = |digits: u32| match digits {
            0 => "0".to_owned(),
            digits => format!("0.{:0<1$}", "", digits as usize),
        };
        Some(match shape {
            Shape::Bool | Shape::Bit => Literal::Boolean(false),
            Shape::Int2
            | Shape::Int4
            | Shape::Int8
            | Shape::Oid
            | Shape::Date
            | Shape::ConnectDate
            | Shape::TimeMillis
            | Shape::TimeMicros
            | Shape::TimeNanos
            | Shape::ConnectTime
            | Shape::TimestampMillis
            | Shape::TimestampMicros
            | Shape::TimestampNanos
            | Shape::ConnectTimestamp
            | Shape::IntervalMicros => Literal::Int(0),
            Shape::Float4 => Literal::Float4(0.0),
            Shape::Float8 | Shape::DecimalFloat { .. } | Shape::MoneyFloat => Literal::Float8(0.0),
            Shape::Decimal { scale, .. } => Literal::Decimal { unscaled: vec![0], scale: u32::from(*scale) },
            Shape::Money { digits } => Literal::Decimal { unscaled: vec![0], scale: u32::from(*digits) },
            Shape::DecimalText { scale } => Literal::Text(zeros(u32::from(scale.unwrap_or(0)))),
            Shape::MoneyText { digits } => Literal::Text(zeros(u32::from(*digits))),
            Shape::Variable => Literal::Variable { unscaled: vec![0], scale: 0 },
            Shape::Text
            | Shape::Json
            | Shape::Xml
            | Shape::Uuid
            | Shape::Ltree
            | Shape::Tsvector
            | Shape::BytesText(_)
            | Shape::OpaqueText { .. }
            | Shape::Enum { .. } => text(""),
            Shape::HstoreJson => text("{}"),
            Shape::HstoreMap => Literal::Map(Vec::new()),
            Shape::Bytes | Shape::Opaque { .. } | Shape::Bits { .. } => Literal::Bytes(Vec::new()),
            Shape::IsoDate => text("1970-01-01Z"),
            Shape::IsoTime | Shape::ZonedTime => text("00:00:00Z"),
            Shape::IsoTimestamp | Shape::ZonedTimestamp { .. } => text("1970-01-01T00:00:00Z"),
            Shape::IntervalText => text("P0Y0M0DT0H0M0S"),
            Shape::Point => Literal::Point(0.0, 0.0),
            Shape::Geometry | Shape::Geography => Literal::Geometry { wkb: EMPTY_GEOMETRY.to_vec() },
            Shape::Vector | Shape::HalfVector | Shape::Int2Vector | Shape::OidVector => Literal::required(Vec::new()),
            Shape::List { .. } => Literal::required(Vec::new()),
            Shape::SparseVector => return None,
        })
    }

    /// What a column's field holds in a row that does not have it: null, the schema's default, or the empty value.
    pub(super) fn missing(column: &Column, shape: &Shape) -> Option<Self> {
        let default = || column.default.as_deref().and_then(|text| Literal::of_default(text, &column.kind, shape));
        if column.not_null { default().or_else(|| Literal::empty(shape)) } else { None }
    }

    /// What stands for a value that the server did not send because it did not change; none for a shape that can hold
    /// no sign of it (booleans, numbers, moments: of these only the lists are ever stored out of line).
    ///
    /// Texts are the placeholder and bytes its bytes; lists hold one of these, or the placeholder's bytes as numbers.
    /// Debezium has no placeholder for decimals, several lists, geometries and vectors, and writes null: ours are the
    /// placeholder's bytes as unscaled value or well-known binary, and the same rules for lists.
    pub(super) fn unavailable(shape: &Shape, placeholder: &str) -> Option<Self> {
        let bytes = placeholder.as_bytes();
        let floats = || bytes.iter().map(|byte| Literal::Float8(f64::from(*byte))).collect();
        let halves = || bytes.iter().map(|byte| Literal::Float4(f32::from(*byte))).collect();
        let ints = || bytes.iter().map(|byte| Literal::Int(i64::from(*byte))).collect();
        Some(match shape {
            Shape::HstoreJson => Literal::Text(hstore_placeholder(placeholder)),
            Shape::HstoreMap => Literal::Map(vec![(placeholder.to_owned(), placeholder.to_owned())]),
            Shape::Bytes | Shape::Opaque { .. } | Shape::Bits { .. } => Literal::Bytes(bytes.to_vec()),
            Shape::BytesText(code) | Shape::OpaqueText { code, .. } => Literal::Text(coded(*code, placeholder)),
            Shape::Decimal { scale, .. } => Literal::Decimal { unscaled: bytes.to_vec(), scale: u32::from(*scale) },
            Shape::Variable => Literal::Variable { unscaled: bytes.to_vec(), scale: 0 },
            Shape::Text
            | Shape::DecimalText { .. }
            | Shape::MoneyText { .. }
            | Shape::Json
            | Shape::Xml
            | Shape::Uuid
            | Shape::Ltree
            | Shape::Tsvector
            | Shape::Enum { .. }
            | Shape::IsoDate
            | Shape::IsoTime
            | Shape::ZonedTime
            | Shape::IsoTimestamp
            | Shape::ZonedTimestamp { .. }
            | Shape::IntervalText => Literal::Text(placeholder.to_owned()),
            Shape::Geometry | Shape::Geography => Literal::Geometry { wkb: bytes.to_vec() },
            Shape::Vector => Literal::required(floats()),
            Shape::HalfVector => Literal::required(halves()),
            Shape::Int2Vector | Shape::OidVector => Literal::required(ints()),
            Shape::List { element, optional, .. } => {
                let elements = match &**element {
                    Shape::Bool | Shape::Bit | Shape::Point | Shape::SparseVector => return None,
                    Shape::Uuid => vec![Literal::Text(name_based_uuid(bytes))],
                    Shape::Float4 => halves(),
                    Shape::Float8 | Shape::DecimalFloat { .. } | Shape::MoneyFloat => floats(),
                    other => Literal::unavailable(other, placeholder).map_or_else(ints, |one| vec![one]),
                };
                Literal::List { elements, element: Union::of(*optional, false) }
            }
            _ => return None,
        })
    }

    /// A list whose elements are required, or an empty one.
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
            Literal::Variable { unscaled, scale } => transcode::variable::<F>(unscaled, *scale, out),
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

/// The placeholder where bytes are text. In hex Debezium writes it as it is; in base64 it writes null, or stops at a
/// required field, and ours is its code.
fn coded(code: Code, placeholder: &str) -> String {
    let mut out = Vec::new();
    match code {
        Code::Hex => return placeholder.to_owned(),
        Code::Base64 | Code::Base64Url => push_code(code, placeholder.as_bytes(), &mut out),
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

/// Java's `UUID.nameUUIDFromBytes`.
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
        // Reference case toast-default.
        assert_eq!(name_based_uuid(b"__debezium_unavailable_value"), "b68a35a7-17ad-35b3-af2a-ae46edb4545a");
    }

    #[test]
    fn a_default_that_its_type_would_round_or_not_hold_is_none() {
        let of =
            |text, kind: ColumnKind| Literal::of_default(text, &kind, &Shape::of(&kind, &Modes::default()).unwrap());
        let numeric = || ColumnKind::Numeric { precision: 6, scale: 2 };
        assert_eq!(of("1.555", numeric()), None);
        assert_eq!(of("1.50000", numeric()), Some(Literal::Decimal { unscaled: vec![0, 150], scale: 2 }));
        assert_eq!(of("(2 + 3)", ColumnKind::Int4), None);
        assert_eq!(of("40000", ColumnKind::Int2), None);
        assert_eq!(of("'infinity'::timestamp with time zone", ColumnKind::TimestampTz { precision: 6 }), None);
        assert_eq!(of("'NaN'::double precision", ColumnKind::Float8), None);
    }
}
