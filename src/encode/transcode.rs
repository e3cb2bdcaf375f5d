//! Reads one value from the text that the server sends, and writes the value in a form (Avro, JSON
//! or header text), as the column's `Wire` says.
//!
//! A value that the schema cannot hold is a [`Fault::Unholdable`], after which the caller writes
//! null or refuses the value. A value that is only written in a less exact form (such as a list of
//! two dimensions as one list) is noted. A value is rounded only if a mode asks for that.

use super::form::{Form, Temporal, Union, push_code};
use super::java::{hash_spread, push_json_escaped};
use super::modes::Code;
use super::notes::{Loss, Note};
use super::wire::{Reprint, Wire};
use super::{moment, spatial, views};
use crate::table::value::{
    self, Array, Decimal, DecimalScratch, Hstore, MICROS_PER_DAY, Special, ValueError,
};

/// Buffers and notes of the row being written.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub decimal: DecimalScratch,
    pub notes: Vec<Note>,
    /// Index of the column whose value is being written, for notes.
    pub column: usize,
    /// A buffer for the entries of a sparse vector: index and number.
    pub entries: Vec<(i16, f64)>,
    /// A buffer for the text that replaces the value of a masked column.
    pub masked: String,
    pub masked_bytes: Vec<u8>,
    pub texts: Texts,
    /// A buffer for the places of the values that an expression reads, in the encoder's buffer.
    /// `None` for a value that was not sent.
    pub operands: Vec<Option<(usize, usize)>>,
    element: Vec<u8>,
    pub bytes: Vec<u8>,
    pub text: Vec<u8>,
    /// Pairs of an hstore: the number by which they are sorted, and where they begin in the text.
    pairs: Vec<(u32, usize)>,
}

/// Buffers for the text of a value before and after its conversion.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub given: String,
    pub made: String,
}

impl Tools {
    pub(super) fn note(&mut self, loss: Loss) {
        self.notes.push(Note { column: self.column, loss });
    }

    /// Clears the buffers for texts, bytes and entries, and frees the memory of each beyond
    /// `keep_bytes`.
    pub(super) fn shrink(&mut self, keep_bytes: usize) {
        self.masked = String::new();
        for buffer in [&mut self.texts.given, &mut self.texts.made] {
            buffer.clear();
            buffer.shrink_to(keep_bytes);
        }
        for buffer in [&mut self.element, &mut self.bytes, &mut self.text, &mut self.masked_bytes] {
            buffer.clear();
            buffer.shrink_to(keep_bytes);
        }
        self.entries.clear();
        self.entries.shrink_to(keep_bytes / size_of::<(i16, f64)>());
    }
}

/// Why a value was not written. The bytes that were appended to `out` before are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text is not in the text form of its type.
    Text(ValueError),
    /// The schema of the field has no value that could stand for this one.
    Unholdable(Loss),
}

impl From<ValueError> for Fault {
    fn from(error: ValueError) -> Self {
        Fault::Text(error)
    }
}

/// Appends the value of `text` in the form that `wire` names. The caller has written the bytes that
/// mark the value as not null.
pub(super) fn value<F: Form>(
    wire: &Wire,
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    match wire {
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid => F::int(integer(wire, text)?, out),
        Wire::Text
        | Wire::Json
        | Wire::Xml
        | Wire::Uuid
        | Wire::Ltree
        | Wire::Tsvector
        | Wire::Enum { .. } => F::text(value::utf8(text)?, out),
        Wire::Decimal { scale, .. } => {
            let scale = finite(value::decimal(text, Some(*scale), &mut tools.decimal)?)?;
            F::decimal(tools.decimal.unscaled(), scale, out);
        }
        Wire::Variable => {
            let scale = finite(value::decimal(text, None, &mut tools.decimal)?)?;
            variable::<F>(tools.decimal.unscaled(), scale, out);
        }
        Wire::DecimalText { scale } => decimal_text::<F>(text, *scale, out, tools)?,
        Wire::DecimalFloat { .. } => decimal_float::<F>(text, out, tools)?,
        Wire::Money { digits } => {
            let unscaled = money(value::money(text)?, *digits, tools);
            tools.decimal.set(unscaled);
            F::decimal(tools.decimal.unscaled(), u32::from(*digits), out);
        }
        Wire::MoneyText { .. } => {
            push_cents(value::money(text)?, &mut tools.text);
            F::text(value::utf8(&tools.text)?, out);
        }
        Wire::MoneyFloat => {
            push_cents(value::money(text)?, &mut tools.text);
            F::float8(value::float8(&tools.text)?, out);
        }
        Wire::Bool => F::boolean(value::boolean(text)?, out),
        Wire::Float4 => F::float4(value::float4(text)?, out),
        Wire::Float8 => F::float8(value::float8(text)?, out),
        Wire::Date => F::int(moment::date_number(value::date(text)?), out),
        Wire::TimeMillis => F::int(value::time(text)?.div_euclid(1000), out),
        Wire::TimeMicros => F::int(value::time(text)?, out),
        Wire::TimestampMillis => F::int(moment::timestamp_millis(value::timestamp(text)?), out),
        Wire::TimestampMicros => F::int(moment::timestamp_micros(value::timestamp(text)?)?, out),
        Wire::ZonedTimestamp { precision } => {
            F::text(moment::zoned_text(value::timestamptz(text)?, *precision).as_str(), out);
        }
        Wire::ZonedTime => {
            let time = value::timetz(text)?;
            F::text(moment::time_text(time.micros, time.end_of_day, tools).as_str(), out);
        }
        Wire::IntervalMicros => F::int(moment::interval_micros(value::interval(text)?, tools), out),
        Wire::TimeNanos => F::int(value::time(text)? * 1000, out),
        Wire::ConnectDate => {
            F::temporal(Temporal::Date, moment::date_number(value::date(text)?), out)
        }
        Wire::ConnectTime => {
            F::temporal(Temporal::Time, moment::connect_time(value::time(text)?, tools), out)
        }
        Wire::TimestampNanos => F::int(moment::timestamp_nanos(value::timestamp(text)?)?, out),
        Wire::ConnectTimestamp => {
            let millis = moment::connect_timestamp(value::timestamp(text)?, tools);
            F::temporal(Temporal::Timestamp, millis, out);
        }
        Wire::IsoDate => F::text(moment::date_text(value::date(text)?).as_str(), out),
        Wire::IsoTime => {
            let micros = value::time(text)?;
            F::text(moment::time_text(micros, micros == MICROS_PER_DAY, tools).as_str(), out);
        }
        Wire::IsoTimestamp => F::text(moment::iso_text(value::timestamp(text)?).as_str(), out),
        Wire::IntervalText => F::text(moment::interval_text(value::interval(text)?).as_str(), out),
        Wire::Bytes => {
            tools.bytes.clear();
            value::bytea(text, &mut tools.bytes)?;
            F::bytes(&tools.bytes, out);
        }
        Wire::BytesText(code) => {
            tools.bytes.clear();
            value::bytea(text, &mut tools.bytes)?;
            coded::<F>(*code, &tools.bytes, &mut tools.text, out)?;
        }
        Wire::Opaque { reprint } => {
            reprinted(*reprint, text, &mut tools.bytes)?;
            F::bytes(&tools.bytes, out);
        }
        Wire::OpaqueText { code, reprint } => {
            reprinted(*reprint, text, &mut tools.bytes)?;
            coded::<F>(*code, &tools.bytes, &mut tools.text, out)?;
        }
        Wire::PositionText => {
            reprinted(Reprint::Position, text, &mut tools.bytes)?;
            F::text(value::utf8(&tools.bytes)?, out);
        }
        Wire::Bit => match text {
            b"1" => F::boolean(true, out),
            b"0" => F::boolean(false, out),
            b"" => return Err(Fault::Unholdable(Loss::EmptyBits)),
            _ => return Err(ValueError::new("a bit", "neither 0 nor 1").into()),
        },
        Wire::Bits { .. } => {
            tools.bytes.clear();
            value::bits(text, &mut tools.bytes)?;
            F::bytes(&tools.bytes, out);
        }
        Wire::HstoreJson => hstore_json::<F>(text, out, tools)?,
        Wire::HstoreMap => hstore_map::<F>(text, out, tools)?,
        Wire::Point => {
            let (x, y) = value::point(text)?;
            spatial::point::<F>(x, y, out);
        }
        Wire::Geometry | Wire::Geography => {
            tools.bytes.clear();
            let srid = value::geometry(text, &mut tools.bytes)?;
            spatial::geometry::<F>(&tools.bytes, srid, out);
        }
        Wire::Vector => {
            let push =
                |part, out: &mut Vec<u8>| value::float8(part).map(|number| F::float8(number, out));
            spatial::numbers::<F>(value::vector(text)?, push, out)?;
        }
        Wire::HalfVector => {
            let push =
                |part, out: &mut Vec<u8>| value::float4(part).map(|number| F::float4(number, out));
            spatial::numbers::<F>(value::vector(text)?, push, out)?;
        }
        Wire::SparseVector => spatial::sparse::<F>(text, out, tools)?,
        Wire::Viewed(viewed) => views::value::<F>(viewed, text, out, tools)?,
        Wire::Int2Vector | Wire::OidVector => {
            let element = if *wire == Wire::Int2Vector { &Wire::Int2 } else { &Wire::Oid };
            let push =
                |part, out: &mut Vec<u8>| integer(element, part).map(|number| F::int(number, out));
            spatial::numbers::<F>(value::spaced(text), push, out)?;
        }
        Wire::List { element, optional, delimiter } => {
            let array = Array::parse(text, *delimiter)?;
            list::<F>(element, Union::of(*optional, false), &array, out, tools)?;
        }
    }
    Ok(())
}

/// Replaces the content of `out` by the text of an opaque value, printed anew if its type needs
/// that.
fn reprinted(reprint: Reprint, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.clear();
    match reprint {
        Reprint::Not => out.extend_from_slice(text),
        Reprint::Geometric => spatial::driver_text(text, out)?,
        Reprint::Position => value::position(text, out),
    }
    Ok(())
}

fn integer(wire: &Wire, text: &[u8]) -> Result<i64, ValueError> {
    let value = value::int(text)?;
    let (low, high) = match wire {
        Wire::Int2 => (-0x8000, 0x7FFF),
        Wire::Int4 => (-0x8000_0000, 0x7FFF_FFFF),
        Wire::Oid => (0, 0xFFFF_FFFF),
        _ => (i64::MIN, i64::MAX),
    };
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(ValueError::new("an integer", "out of its type's range"))
    }
}

/// Returns the scale of a decimal. NaN and the infinities are an error, because they have no scale.
fn finite(decimal: Decimal) -> Result<u32, Fault> {
    match decimal {
        Decimal::Finite { scale } => Ok(scale),
        Decimal::Special(_) => Err(Fault::Unholdable(Loss::NotANumber)),
    }
}

/// Writes a decimal as a struct of its own scale and its unscaled value.
pub(super) fn variable<F: Form>(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
    F::struct_open(out);
    F::field(true, "scale", out);
    F::int(i64::from(scale), out);
    F::field(false, "value", out);
    F::bytes(unscaled, out);
    F::struct_close(out);
}

/// Writes a decimal in plain notation, or Debezium's name of a NaN or an infinity.
fn decimal_text<F: Form>(
    text: &[u8],
    scale: Option<u16>,
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    tools.text.clear();
    match value::decimal_text(text, scale, &mut tools.text)? {
        None => F::text(value::utf8(&tools.text)?, out),
        Some(Special::NotANumber) => F::text("NAN", out),
        Some(Special::Infinity) => F::text("POSITIVE_INFINITY", out),
        Some(Special::NegativeInfinity) => F::text("NEGATIVE_INFINITY", out),
    }
    Ok(())
}

/// Writes the floating point number that is nearest to a decimal.
fn decimal_float<F: Form>(text: &[u8], out: &mut Vec<u8>, tools: &mut Tools) -> Result<(), Fault> {
    let number = value::float8(text)?;
    if number.is_infinite() && !text.ends_with(b"Infinity") {
        tools.note(Loss::BeyondDouble);
    }
    F::float8(number, out);
    Ok(())
}

/// Converts hundredths to an unscaled value with `digits` digits after the point. With fewer than
/// two digits the value is rounded, half away from zero, and the loss is noted.
fn money(cents: i64, digits: u8, tools: &mut Tools) -> i128 {
    let cents = i128::from(cents);
    if digits >= 2 {
        return cents * 10_i128.pow(u32::from(digits) - 2);
    }
    let unit = 10_i128.pow(2 - u32::from(digits));
    if cents % unit != 0 {
        tools.note(Loss::MoneyRounded);
    }
    (cents.abs() + unit / 2) / unit * cents.signum()
}

/// Replaces the content of `text` by a number of hundredths in plain notation, such as `-1.05`.
fn push_cents(cents: i64, text: &mut Vec<u8>) {
    use std::io::Write as _;
    text.clear();
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    // writing to memory does not fail
    let _ = write!(text, "{sign}{}.{:02}", cents / 100, cents % 100);
}

/// Writes bytes as the text that `code` makes of them.
fn coded<F: Form>(
    code: Code,
    bytes: &[u8],
    text: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    text.clear();
    push_code(code, bytes, text);
    F::text(value::utf8(text)?, out);
    Ok(())
}

/// Writes an array as one list of its elements, in row-major order.
fn list<F: Form>(
    element: &Wire,
    union: Union,
    array: &Array<'_>,
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    if !array.flat() {
        tools.note(Loss::ArrayShape);
    }
    let mut buffer = std::mem::take(&mut tools.element);
    F::list_open(array.len(), out);
    let mut written = Ok(());
    for (index, item) in array.elements().enumerate() {
        F::element(index == 0, out);
        written = match item.text(&mut buffer) {
            None if union == Union::Required => Err(Fault::Unholdable(Loss::NullElement)),
            None => {
                F::null(union, out);
                Ok(())
            }
            Some(text) => optional_element::<F>(element, union, text, out, tools),
        };
        if written.is_err() {
            break;
        }
    }
    tools.element = buffer;
    written?;
    F::list_close(array.len(), out);
    Ok(())
}

/// Writes a list's element that is not null. If the schema cannot hold the element, an optional
/// element is written as null, and the loss is noted.
fn optional_element<F: Form>(
    wire: &Wire,
    union: Union,
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    let mark = out.len();
    F::some(union, out);
    match value::<F>(wire, text, out, tools) {
        Err(Fault::Unholdable(loss)) if union != Union::Required => {
            out.truncate(mark);
            F::null(union, out);
            tools.note(loss);
            Ok(())
        }
        other => other,
    }
}

/// Puts the pairs of an hstore into the order of Java's HashMap, in which Debezium writes them: by
/// hash, and within one bucket in the order of the text.
fn sort_pairs(text: &[u8], tools: &mut Tools) -> Result<(), ValueError> {
    let Tools { bytes, pairs, .. } = tools;
    pairs.clear();
    let mut walk = Hstore::new(text);
    loop {
        let offset = walk.offset();
        let Some(pair) = walk.next() else { break };
        pairs.push((hash_spread(value::utf8(unescaped(pair?.key, bytes))?), offset));
    }
    // A HashMap starts with 16 buckets and doubles when it is more than three quarters full.
    let mut buckets = 16_usize;
    while pairs.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let mask = u32::try_from(buckets - 1).unwrap_or(u32::MAX);
    pairs.sort_by_key(|(spread, offset)| (spread & mask, *offset));
    Ok(())
}

/// Writes an hstore as the text of a JSON object.
fn hstore_json<F: Form>(text: &[u8], out: &mut Vec<u8>, tools: &mut Tools) -> Result<(), Fault> {
    sort_pairs(text, tools)?;
    let Tools { bytes, text: json, pairs, .. } = tools;
    json.clear();
    json.push(b'{');
    for (position, (_, offset)) in pairs.iter().enumerate() {
        let Some(Ok(pair)) = Hstore::resume(text, *offset).next() else {
            unreachable!("the pair was read when the pairs were put in order")
        };
        json.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
        push_json_escaped(unescaped(pair.key, bytes), json);
        json.extend_from_slice(b"\":");
        match pair.value {
            Some(value) => {
                json.push(b'"');
                push_json_escaped(unescaped(value, bytes), json);
                json.push(b'"');
            }
            None => json.extend_from_slice(b"null"),
        }
    }
    json.push(b'}');
    F::text(value::utf8(json)?, out);
    Ok(())
}

/// Writes an hstore as a map from text to text or null.
fn hstore_map<F: Form>(text: &[u8], out: &mut Vec<u8>, tools: &mut Tools) -> Result<(), Fault> {
    sort_pairs(text, tools)?;
    let Tools { bytes, pairs, .. } = tools;
    F::map_open(pairs.len(), out);
    for (position, (_, offset)) in pairs.iter().enumerate() {
        let Some(Ok(pair)) = Hstore::resume(text, *offset).next() else {
            unreachable!("the pair was read when the pairs were put in order")
        };
        F::map_key(position == 0, value::utf8(unescaped(pair.key, bytes))?, out);
        match pair.value {
            Some(value) => {
                F::some(Union::NullFirst, out);
                F::text(value::utf8(unescaped(value, bytes))?, out);
            }
            None => F::null(Union::NullFirst, out),
        }
    }
    F::map_close(pairs.len(), out);
    Ok(())
}

fn unescaped<'a>(text: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if !text.contains(&b'\\') {
        return text;
    }
    buffer.clear();
    let mut escaped = false;
    for byte in text {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            buffer.push(*byte);
            escaped = false;
        }
    }
    buffer
}
