//! Values known when a plan is made: defaults, what stands in for a missing value, what stands in for an unchanged one.

use super::form::{Form, Union};
use super::schema::element_is_optional;
use super::transcode::{Tools, wkb_point};
use super::{form, transcode};
use crate::table::value::{self, Days, Decimal, DecimalScratch};
use crate::table::{Column, ColumnKind, DefaultText, default_text};
use md5::{Digest as _, Md5};

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
    List { elements: Vec<Literal>, element: Union },
}

impl Literal {
    /// What a default expression gives a schema; none where Debezium gives none.
    pub(super) fn of_default(expression: &str, kind: &ColumnKind) -> Option<Self> {
        match default_text(expression, kind)? {
            DefaultText::Computed => Self::computed(kind),
            DefaultText::Literal(text) => Self::parse(&text, kind),
        }
    }

    /// What a schema says where a function computes the default.
    fn computed(kind: &ColumnKind) -> Option<Self> {
        match kind {
            ColumnKind::Json => Some(Literal::Text("{}".to_owned())),
            ColumnKind::Uuid => Some(Literal::Text("00000000-0000-0000-0000-000000000000".to_owned())),
            ColumnKind::Enum { .. } => None,
            ColumnKind::TimestampTz { .. } => Self::parse("1970-01-01", kind),
            _ => Some(Self::empty(kind)),
        }
    }

    /// A default's literal as a value of the kind.
    fn parse(text: &str, kind: &ColumnKind) -> Option<Self> {
        let bytes = text.as_bytes();
        let int = |range: std::ops::RangeInclusive<i64>| value::int(bytes).ok().filter(|value| range.contains(value));
        Some(match kind {
            ColumnKind::Text | ColumnKind::Json | ColumnKind::Xml | ColumnKind::Uuid | ColumnKind::Enum { .. } => {
                Literal::Text(text.to_owned())
            }
            ColumnKind::Bool => Literal::Boolean(text.eq_ignore_ascii_case("true")),
            ColumnKind::Int2 => Literal::Int(int(-0x8000..=0x7FFF)?),
            ColumnKind::Int4 => Literal::Int(int(-0x8000_0000..=0x7FFF_FFFF)?),
            ColumnKind::Int8 => Literal::Int(int(i64::MIN..=i64::MAX)?),
            ColumnKind::Float4 => Literal::Float4(value::float4(bytes).ok().filter(|value| value.is_finite())?),
            ColumnKind::Float8 => Literal::Float8(value::float8(bytes).ok().filter(|value| value.is_finite())?),
            ColumnKind::Numeric { scale, .. } => {
                let mut scratch = DecimalScratch::default();
                match value::decimal(bytes, Some(*scale), &mut scratch).ok()? {
                    Decimal::Finite { scale } => Literal::Decimal { unscaled: scratch.unscaled().to_vec(), scale },
                    Decimal::Special(_) => return None,
                }
            }
            ColumnKind::Bit => Literal::Boolean(text == "1"),
            ColumnKind::Bits { .. } => {
                let mut out = Vec::new();
                value::bits(bytes, &mut out).ok()?;
                Literal::Bytes(out)
            }
            ColumnKind::Date => match value::date(bytes).ok()? {
                Days::Finite(days) => Literal::Int(i64::from(days)),
                Days::Infinity | Days::NegativeInfinity => return None,
            },
            ColumnKind::Time { .. } | ColumnKind::Timestamp { .. } | ColumnKind::Interval => {
                Literal::Int(Self::through_json(bytes, kind)?.parse().ok()?)
            }
            ColumnKind::TimestampTz { .. } if text.ends_with("infinity") => return None,
            ColumnKind::TimestampTz { .. } => {
                Literal::Text(Self::through_json(bytes, kind)?.trim_matches('"').to_owned())
            }
            _ => return None,
        })
    }

    /// The JSON text of a value that reads without loss.
    fn through_json(text: &[u8], kind: &ColumnKind) -> Option<String> {
        let (mut out, mut tools) = (Vec::new(), Tools::default());
        transcode::value::<form::Json>(kind, text, &mut out, &mut tools).ok()?;
        String::from_utf8(out).ok()
    }

    /// The empty value: what a required field holds where the row has none (before-images of deletes).
    pub(super) fn empty(kind: &ColumnKind) -> Self {
        match kind {
            ColumnKind::Bool | ColumnKind::Bit => Literal::Boolean(false),
            ColumnKind::Int2
            | ColumnKind::Int4
            | ColumnKind::Int8
            | ColumnKind::Oid
            | ColumnKind::Date
            | ColumnKind::Time { .. }
            | ColumnKind::Timestamp { .. }
            | ColumnKind::Interval => Literal::Int(0),
            ColumnKind::Float4 => Literal::Float4(0.0),
            ColumnKind::Float8 => Literal::Float8(0.0),
            ColumnKind::Numeric { scale, .. } => Literal::Decimal { unscaled: vec![0], scale: u32::from(*scale) },
            ColumnKind::Money => Literal::Decimal { unscaled: vec![0], scale: 2 },
            ColumnKind::NumericAny => Literal::Variable { unscaled: vec![0], scale: 0 },
            ColumnKind::Text
            | ColumnKind::Verbatim
            | ColumnKind::Unknown { .. }
            | ColumnKind::Json
            | ColumnKind::Xml
            | ColumnKind::Uuid
            | ColumnKind::Ltree
            | ColumnKind::Tsvector
            | ColumnKind::Enum { .. } => Literal::Text(String::new()),
            ColumnKind::Hstore => Literal::Text("{}".to_owned()),
            ColumnKind::Bytea | ColumnKind::Bits { .. } => Literal::Bytes(Vec::new()),
            ColumnKind::TimeTz => Literal::Text("00:00:00Z".to_owned()),
            ColumnKind::TimestampTz { .. } => Literal::Text("1970-01-01T00:00:00Z".to_owned()),
            ColumnKind::Point => Literal::Point(0.0, 0.0),
            ColumnKind::Array(element) => Literal::list(element, Vec::new()),
        }
    }

    /// What a column's field holds in a row that does not have it: null, the schema's default, or the empty value.
    pub(super) fn missing(column: &Column) -> Option<Self> {
        let default = || column.default.as_deref().and_then(|text| Literal::of_default(text, &column.kind));
        column.not_null.then(|| default().unwrap_or_else(|| Literal::empty(&column.kind)))
    }

    /// What stands for a value that the server did not send because it did not change; none for a kind that can hold
    /// no sign of it (booleans and lists of them, numbers, moments: of these only the lists are ever stored out of line).
    ///
    /// Texts are the placeholder and bytes its bytes; lists hold one of these, or the placeholder's bytes as numbers.
    /// Debezium has no placeholder for decimals and several lists, and writes null: ours are the placeholder's bytes as
    /// unscaled value, and the same rule for lists.
    pub(super) fn unavailable(kind: &ColumnKind, placeholder: &str) -> Option<Self> {
        let bytes = placeholder.as_bytes();
        Some(match kind {
            ColumnKind::Hstore => Literal::Text(hstore_placeholder(placeholder)),
            ColumnKind::Bytea | ColumnKind::Bits { .. } => Literal::Bytes(bytes.to_vec()),
            ColumnKind::Numeric { scale, .. } => {
                Literal::Decimal { unscaled: bytes.to_vec(), scale: u32::from(*scale) }
            }
            ColumnKind::NumericAny => Literal::Variable { unscaled: bytes.to_vec(), scale: 0 },
            ColumnKind::Array(element) => match &**element {
                ColumnKind::Bool | ColumnKind::Bit | ColumnKind::Point => return None,
                ColumnKind::Uuid => Literal::list(element, vec![Literal::Text(name_based_uuid(bytes))]),
                ColumnKind::Float4 => {
                    Literal::list(element, bytes.iter().map(|byte| Literal::Float4(f32::from(*byte))).collect())
                }
                ColumnKind::Float8 => {
                    Literal::list(element, bytes.iter().map(|byte| Literal::Float8(f64::from(*byte))).collect())
                }
                ColumnKind::TimestampTz { .. } | ColumnKind::TimeTz => {
                    Literal::list(element, vec![Literal::Text(placeholder.to_owned())])
                }
                other => match Literal::unavailable(other, placeholder) {
                    Some(one) => Literal::list(element, vec![one]),
                    None => Literal::list(element, bytes.iter().map(|byte| Literal::Int(i64::from(*byte))).collect()),
                },
            },
            ColumnKind::Text
            | ColumnKind::Verbatim
            | ColumnKind::Unknown { .. }
            | ColumnKind::Json
            | ColumnKind::Xml
            | ColumnKind::Uuid
            | ColumnKind::Ltree
            | ColumnKind::Tsvector
            | ColumnKind::Enum { .. } => Literal::Text(placeholder.to_owned()),
            _ => return None,
        })
    }

    fn list(element: &ColumnKind, elements: Vec<Literal>) -> Self {
        Literal::List { elements, element: Union::of(element_is_optional(element), false) }
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
            Literal::Point(x, y) => transcode::point::<F>(*x, *y, &wkb_point(*x, *y), out),
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
    use super::*;

    #[test]
    fn the_uuid_of_the_placeholder_is_debeziums() {
        // Reference case toast-default.
        assert_eq!(name_based_uuid(b"__debezium_unavailable_value"), "b68a35a7-17ad-35b3-af2a-ae46edb4545a");
    }

    #[test]
    fn a_default_that_its_type_would_round_or_not_hold_is_none() {
        let of = |text, kind| Literal::of_default(text, &kind);
        let numeric = || ColumnKind::Numeric { precision: 6, scale: 2 };
        assert_eq!(of("1.555", numeric()), None);
        assert_eq!(of("1.50000", numeric()), Some(Literal::Decimal { unscaled: vec![0, 150], scale: 2 }));
        assert_eq!(of("(2 + 3)", ColumnKind::Int4), None);
        assert_eq!(of("40000", ColumnKind::Int2), None);
        assert_eq!(of("'infinity'::timestamp with time zone", ColumnKind::TimestampTz { precision: 6 }), None);
        assert_eq!(of("'NaN'::double precision", ColumnKind::Float8), None);
    }
}
