//! One value: from the text a server sends to a form, by the column's kind.
//!
//! What the kind's schema cannot hold is a [`Fault::Unholdable`], for the caller to write null or refuse; what is only
//! said less exactly than it was (a list of two dimensions as one list) is noted. No value is rounded.

use super::form::{Form, Union};
use super::java::{Short, hash_spread, push_json_escaped};
use super::notes::{Loss, Note};
use super::schema::element_is_optional;
use crate::table::ColumnKind;
use crate::table::value::{
    self, Array, Days, Decimal, DecimalScratch, Hstore, MICROS_PER_DAY, Moment, ValueError, ZonedTime, civil_of,
};

/// What Debezium writes for `infinity` in a timestamp, in microseconds: the JDBC driver's sentinel.
const INFINITY_MICROS: i64 = 9_223_372_036_825_200_000;
/// What it writes for `-infinity`.
const NEGATIVE_INFINITY_MICROS: i64 = -9_223_372_036_832_400_000;

/// Buffers and notes of the row being written.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub decimal: DecimalScratch,
    pub notes: Vec<Note>,
    /// The column being written, for notes.
    pub column: usize,
    /// What stands for the masked value being written.
    pub masked: String,
    pub masked_bytes: Vec<u8>,
    element: Vec<u8>,
    bytes: Vec<u8>,
    json: Vec<u8>,
    /// Pairs of an hstore: what sorts them, and where they begin in its text.
    pairs: Vec<(u32, usize)>,
}

impl Tools {
    pub(super) fn note(&mut self, loss: Loss) {
        self.notes.push(Note { column: self.column, loss });
    }

    /// Bytes of memory kept for the next row.
    pub(super) fn shrink(&mut self, keep_bytes: usize) {
        self.masked = String::new();
        for buffer in [&mut self.element, &mut self.bytes, &mut self.json, &mut self.masked_bytes] {
            buffer.clear();
            buffer.shrink_to(keep_bytes);
        }
    }
}

/// Why a value was not written. What stands in `out` by then is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text is not of its type.
    Text(ValueError),
    /// The field's schema has no value for it.
    Unholdable(Loss),
}

impl From<ValueError> for Fault {
    fn from(error: ValueError) -> Self {
        Fault::Text(error)
    }
}

/// Appends the value that `text` says, as a value of `kind` and without what marks it as not null.
pub(super) fn value<F: Form>(
    kind: &ColumnKind,
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    match kind {
        ColumnKind::Int2 | ColumnKind::Int4 | ColumnKind::Int8 | ColumnKind::Oid => F::int(integer(kind, text)?, out),
        ColumnKind::Text
        | ColumnKind::Verbatim
        | ColumnKind::Unknown { .. }
        | ColumnKind::Json
        | ColumnKind::Xml
        | ColumnKind::Uuid
        | ColumnKind::Ltree
        | ColumnKind::Tsvector
        | ColumnKind::Enum { .. } => F::text(value::utf8(text)?, out),
        ColumnKind::Numeric { scale, .. } => {
            let scale = finite(value::decimal(text, Some(*scale), &mut tools.decimal)?)?;
            F::decimal(tools.decimal.unscaled(), scale, out);
        }
        ColumnKind::NumericAny => {
            let scale = finite(value::decimal(text, None, &mut tools.decimal)?)?;
            variable::<F>(tools.decimal.unscaled(), scale, out);
        }
        ColumnKind::Money => {
            value::money(text, &mut tools.decimal)?;
            F::decimal(tools.decimal.unscaled(), 2, out);
        }
        ColumnKind::Bool => F::boolean(value::boolean(text)?, out),
        ColumnKind::Float4 => F::float4(value::float4(text)?, out),
        ColumnKind::Float8 => F::float8(value::float8(text)?, out),
        ColumnKind::Date => F::int(date_number(value::date(text)?), out),
        ColumnKind::Time { precision } => F::int(in_unit(value::time(text)?, *precision), out),
        ColumnKind::Timestamp { precision } => F::int(timestamp_number(value::timestamp(text)?, *precision)?, out),
        ColumnKind::TimestampTz { precision } => {
            F::text(timestamp_text(value::timestamptz(text)?, *precision).as_str(), out);
        }
        ColumnKind::TimeTz => {
            let time = value::timetz(text)?;
            if time.end_of_day {
                tools.note(Loss::EndOfDay);
            }
            F::text(time_text(time).as_str(), out);
        }
        ColumnKind::Interval => F::int(interval_number(value::interval(text)?, tools), out),
        ColumnKind::Bytea => {
            tools.bytes.clear();
            value::bytea(text, &mut tools.bytes)?;
            F::bytes(&tools.bytes, out);
        }
        ColumnKind::Bit => match text {
            b"1" => F::boolean(true, out),
            b"0" => F::boolean(false, out),
            b"" => return Err(Fault::Unholdable(Loss::EmptyBits)),
            _ => return Err(ValueError::new("a bit", "neither 0 nor 1").into()),
        },
        ColumnKind::Bits { .. } => {
            tools.bytes.clear();
            value::bits(text, &mut tools.bytes)?;
            F::bytes(&tools.bytes, out);
        }
        ColumnKind::Hstore => hstore::<F>(text, out, tools)?,
        ColumnKind::Point => {
            let (x, y) = value::point(text)?;
            point::<F>(x, y, &wkb_point(x, y), out);
        }
        ColumnKind::Array(element) => array::<F>(element, text, out, tools)?,
    }
    Ok(())
}

fn integer(kind: &ColumnKind, text: &[u8]) -> Result<i64, ValueError> {
    let value = value::int(text)?;
    let (low, high) = match kind {
        ColumnKind::Int2 => (-0x8000, 0x7FFF),
        ColumnKind::Int4 => (-0x8000_0000, 0x7FFF_FFFF),
        ColumnKind::Oid => (0, 0xFFFF_FFFF),
        _ => (i64::MIN, i64::MAX),
    };
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(ValueError::new("an integer", "out of its type's range"))
    }
}

/// The scale of a decimal that is a number.
fn finite(decimal: Decimal) -> Result<u32, Fault> {
    match decimal {
        Decimal::Finite { scale } => Ok(scale),
        Decimal::Special(_) => Err(Fault::Unholdable(Loss::NotANumber)),
    }
}

/// A decimal with a scale of its own.
pub(super) fn variable<F: Form>(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
    F::struct_open(out);
    F::field(true, "scale", out);
    F::int(i64::from(scale), out);
    F::field(false, "value", out);
    F::bytes(unscaled, out);
    F::struct_close(out);
}

/// A point with its well-known binary and no reference system.
pub(super) fn point<F: Form>(x: f64, y: f64, wkb: &[u8], out: &mut Vec<u8>) {
    F::struct_open(out);
    F::field(true, "x", out);
    F::float8(x, out);
    F::field(false, "y", out);
    F::float8(y, out);
    F::field(false, "wkb", out);
    F::some(Union::NullFirst, out);
    F::bytes(wkb, out);
    F::field(false, "srid", out);
    F::null(Union::NullFirst, out);
    F::struct_close(out);
}

/// Well-known binary of a point: little-endian, type 1, both coordinates.
pub(super) fn wkb_point(x: f64, y: f64) -> [u8; 21] {
    let mut wkb = [0; 21];
    let (head, coordinates) = wkb.split_at_mut(5);
    head.copy_from_slice(&[1, 1, 0, 0, 0]);
    let (first, second) = coordinates.split_at_mut(8);
    first.copy_from_slice(&x.to_le_bytes());
    second.copy_from_slice(&y.to_le_bytes());
    wkb
}

/// Infinite dates are the ends of 32 bits: they sort after and before every date Postgres has. (Debezium's numbers for
/// them differ between snapshot and stream and lie in the past both.)
fn date_number(days: Days) -> i64 {
    i64::from(match days {
        Days::Finite(days) => days,
        Days::Infinity => i32::MAX,
        Days::NegativeInfinity => i32::MIN,
    })
}

/// Microseconds, or milliseconds for up to three digits; what those cannot say was rounded away by Postgres before.
fn in_unit(micros: i64, precision: u8) -> i64 {
    if precision <= 3 { micros.div_euclid(1000) } else { micros }
}

fn timestamp_number(moment: Moment, precision: u8) -> Result<i64, Fault> {
    match moment {
        Moment::Infinity => Ok(in_unit(INFINITY_MICROS, precision)),
        Moment::NegativeInfinity => Ok(in_unit(NEGATIVE_INFINITY_MICROS, precision)),
        Moment::Finite { days, micros } if precision <= 3 => Ok(days * (MICROS_PER_DAY / 1000) + micros / 1000),
        finite => finite.unix_micros().ok_or(Fault::Unholdable(Loss::BeyondMicros)),
    }
}

/// ISO form in UTC with at least `precision` digits of a fraction; infinities by name. Years beyond 9999 have a plus,
/// years before 1 are astronomical (0000 is 1 BC).
fn timestamp_text(moment: Moment, precision: u8) -> Short {
    let mut text = Short::new();
    match moment {
        Moment::Infinity => text.push(b"infinity"),
        Moment::NegativeInfinity => text.push(b"-infinity"),
        Moment::Finite { days, micros } => {
            let (year, month, day) = civil_of(days);
            match year {
                10_000.. => text.push(b"+"),
                ..0 => text.push(b"-"),
                _ => {}
            }
            text.push_digits(year.unsigned_abs(), 4);
            text.push(b"-");
            text.push_digits(month.unsigned_abs(), 2);
            text.push(b"-");
            text.push_digits(day.unsigned_abs(), 2);
            text.push(b"T");
            push_clock(&mut text, micros, usize::from(precision));
        }
    }
    text
}

/// Hours, minutes, seconds, a fraction of at least `least` digits and no zeros at its end beyond them, and `Z`.
fn push_clock(text: &mut Short, micros: i64, least: usize) {
    let (seconds, mut fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    text.push_digits(seconds / 3600, 2);
    text.push(b":");
    text.push_digits(seconds / 60 % 60, 2);
    text.push(b":");
    text.push_digits(seconds % 60, 2);
    let mut width = 6;
    while width > least && fraction % 10 == 0 {
        (fraction, width) = (fraction / 10, width - 1);
    }
    if width > 0 {
        text.push(b".");
        text.push_digits(fraction, width);
    }
    text.push(b"Z");
}

fn time_text(time: ZonedTime) -> Short {
    let mut text = Short::new();
    push_clock(&mut text, time.micros, 0);
    text
}

/// Beyond 64 bits of microseconds the nearest end stands, as Debezium has it, and is noted.
fn interval_number(micros: i128, tools: &mut Tools) -> i64 {
    i64::try_from(micros).unwrap_or_else(|_| {
        tools.note(Loss::IntervalCut);
        if micros < 0 { i64::MIN } else { i64::MAX }
    })
}

/// A list of an array's elements in row-major order.
fn array<F: Form>(element: &ColumnKind, text: &[u8], out: &mut Vec<u8>, tools: &mut Tools) -> Result<(), Fault> {
    let array = Array::parse(text)?;
    if !array.flat() {
        tools.note(Loss::ArrayShape);
    }
    let union = Union::of(element_is_optional(element), false);
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

/// An element that is not null; if its schema cannot hold it, null where that is possible.
fn optional_element<F: Form>(
    kind: &ColumnKind,
    union: Union,
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    let mark = out.len();
    F::some(union, out);
    match value::<F>(kind, text, out, tools) {
        Err(Fault::Unholdable(loss)) if union != Union::Required => {
            out.truncate(mark);
            F::null(union, out);
            tools.note(loss);
            Ok(())
        }
        other => other,
    }
}

/// A JSON object as text. Its order is that of Java's HashMap, in which Debezium writes it: by hash, pairs of one
/// bucket in the order of the text.
fn hstore<F: Form>(text: &[u8], out: &mut Vec<u8>, tools: &mut Tools) -> Result<(), Fault> {
    let Tools { bytes, json, pairs, .. } = tools;
    pairs.clear();
    json.clear();
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
    json.push(b'{');
    for (position, (_, offset)) in pairs.iter().enumerate() {
        let Some(Ok(pair)) = Hstore::resume(text, *offset).next() else { continue };
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
