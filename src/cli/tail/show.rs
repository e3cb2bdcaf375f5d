//! Values as JSON for a person: decimals and times as texts, bytes as base64, fields in the order
//! of the record.
//!
//! A value comes from Avro or from the JSON of Connect's converter. Its [`Form`] says what it
//! means.

use super::form::Form;
use crate::table::value::{civil_of, unscaled_text};
use apache_avro::types::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt::Write as _;

const SECONDS_PER_DAY: i64 = 86_400;

/// Appends a value of Avro.
pub(super) fn avro(value: &Value, form: &Form, out: &mut String) {
    match value {
        Value::Union(place, inner) => avro(inner, form.branch(*place), out),
        Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Date(value) | Value::TimeMillis(value) => {
            number(i64::from(*value), form, out);
        }
        Value::Long(value)
        | Value::TimeMicros(value)
        | Value::TimestampMillis(value)
        | Value::TimestampMicros(value)
        | Value::TimestampNanos(value)
        | Value::LocalTimestampMillis(value)
        | Value::LocalTimestampMicros(value)
        | Value::LocalTimestampNanos(value) => number(*value, form, out),
        Value::Float(value) if value.is_finite() => append(out, format_args!("{value:?}")),
        Value::Float(value) => text(&value.to_string(), out),
        Value::Double(value) if value.is_finite() => append(out, format_args!("{value:?}")),
        Value::Double(value) => text(&value.to_string(), out),
        Value::String(value) | Value::Enum(_, value) => text(value, out),
        Value::Bytes(value) | Value::Fixed(_, value) => bytes(value, form, out),
        Value::Decimal(value) => match Vec::<u8>::try_from(value) {
            Ok(value) => bytes(&value, form, out),
            Err(_) => out.push_str("null"),
        },
        Value::Record(fields) => record(fields, form, out),
        Value::Array(elements) => {
            list(elements.iter(), |element, out| avro(element, form.element(), out), out);
        }
        Value::Map(entries) => {
            // A decoded map of Avro has no order, so its keys are sorted.
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter().map(|(key, value)| (key.as_str(), value));
            object(entries, |_, value, out| avro(value, form.element(), out), out);
        }
        Value::Uuid(value) => text(&value.to_string(), out),
        // No record of Debezium or Connect has a BigDecimal or a Duration.
        Value::Null | Value::BigDecimal(_) | Value::Duration(_) => out.push_str("null"),
    }
}

fn record(fields: &[(String, Value)], form: &Form, out: &mut String) {
    if *form == Form::VariableDecimal
        && let [(_, Value::Int(scale)), (_, Value::Bytes(unscaled))] = fields
        && let Ok(scale) = u32::try_from(*scale)
    {
        return decimal(unscaled, scale, out);
    }
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value));
    object(fields, |name, value, out| avro(value, form.field(name), out), out);
}

/// Appends a value that Connect's converter wrote as JSON. A value that does not fit its form stays
/// as it is.
pub(super) fn connect(value: &RawValue, form: &Form, out: &mut String) {
    let whole = value.get();
    let fits = match form {
        Form::Plain | Form::Branches(_) => None,
        Form::Decimal(scale) => unscaled(whole).map(|bytes| decimal(&bytes, *scale, out)),
        Form::VariableDecimal => variable(value).map(|(scale, b)| decimal(&b, scale, out)),
        Form::Date | Form::Time(_) | Form::Moment(_) => {
            whole.parse().ok().map(|value| number(value, form, out))
        }
        Form::List(element) => serde_json::from_str::<Vec<&RawValue>>(whole)
            .ok()
            .map(|all| list(all.into_iter(), |value, out| connect(value, element, out), out)),
        Form::Map(_) | Form::Fields(_) => entries(value).map(|all| {
            let form_of = |name: &str| match form {
                Form::Map(element) => element.as_ref(),
                _ => form.field(name),
            };
            let all = all.iter().map(|(name, value)| (name.as_str(), *value));
            object(all, |name, value, out| connect(value, form_of(name), out), out);
        }),
    };
    if fits.is_none() {
        line(whole, out);
    }
}

/// Appends JSON with a space in place of each line break. In JSON a string has no line break of its
/// own, so no value changes.
pub(super) fn line(json: &str, out: &mut String) {
    out.extend(json.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
}

/// Appends a text in quotes.
pub(super) fn text(value: &str, out: &mut String) {
    append(out, format_args!("{}", serde_json::Value::from(value)));
}

/// Appends elements between brackets.
pub(super) fn list<T>(
    elements: impl Iterator<Item = T>,
    mut append: impl FnMut(T, &mut String),
    out: &mut String,
) {
    out.push('[');
    for (place, element) in elements.enumerate() {
        if place > 0 {
            out.push(',');
        }
        append(element, out);
    }
    out.push(']');
}

/// Appends fields between braces.
pub(super) fn object<'a, T>(
    fields: impl Iterator<Item = (&'a str, T)>,
    mut append: impl FnMut(&str, T, &mut String),
    out: &mut String,
) {
    out.push('{');
    for (place, (name, value)) in fields.enumerate() {
        if place > 0 {
            out.push(',');
        }
        text(name, out);
        out.push(':');
        append(name, value, out);
    }
    out.push('}');
}

fn append(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing into a text cannot fail.
    let _ = out.write_fmt(what);
}

/// Appends milliseconds since 1970 as a time in UTC.
pub(super) fn instant(millis: i64, out: &mut String) {
    number(millis, &Form::Moment(1000), out);
    out.insert(out.len() - 1, 'Z'); // before the closing quote
}

fn number(value: i64, form: &Form, out: &mut String) {
    match form {
        // A number beyond 32 bits is no date of Debezium or Connect.
        Form::Date if i32::try_from(value).is_ok() => {
            out.push('"');
            date(value, out);
            out.push('"');
        }
        Form::Time(per_second) if value >= 0 => {
            out.push('"');
            clock(value, *per_second, out);
            out.push('"');
        }
        Form::Moment(per_second) => {
            let per_day = per_second * SECONDS_PER_DAY;
            out.push('"');
            date(value.div_euclid(per_day), out);
            out.push('T');
            clock(value.rem_euclid(per_day), *per_second, out);
            out.push('"');
        }
        _ => append(out, format_args!("{value}")),
    }
}

/// Appends a date. Years before 1 and after 9999 have a sign, as in ISO 8601.
fn date(days: i64, out: &mut String) {
    let (year, month, day) = civil_of(days);
    let sign = match year {
        ..0 => "-",
        0..=9999 => "",
        _ => "+",
    };
    append(out, format_args!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs()));
}

/// Appends a time of day, with as many digits of the fraction as the unit has: three for
/// milliseconds. The time may be 24:00:00, which Postgres permits.
fn clock(value: i64, per_second: i64, out: &mut String) {
    let (seconds, fraction) = (value / per_second, value % per_second);
    let digits = per_second.to_string().len() - 1;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    append(out, format_args!("{hours:02}:{minutes:02}:{:02}.{fraction:0digits$}", seconds % 60));
}

fn bytes(value: &[u8], form: &Form, out: &mut String) {
    match form {
        Form::Decimal(scale) => decimal(value, *scale, out),
        _ => text(&STANDARD.encode(value), out),
    }
}

/// Most bytes of a decimal that are converted into digits: about 9,800 digits, which takes
/// milliseconds. The time grows with the square of the number of bytes.
const DECIMAL_BYTES_MAX: usize = 4096;

/// Appends a decimal in plain notation, as a text, because many readers of JSON would round a
/// number. Of a very long one it appends the scale, and the bytes of the unscaled value in Base64.
fn decimal(unscaled: &[u8], scale: u32, out: &mut String) {
    if unscaled.len() > DECIMAL_BYTES_MAX {
        let bytes = STANDARD.encode(unscaled);
        return append(out, format_args!("{{\"scale\":{scale},\"unscaled\":\"{bytes}\"}}"));
    }
    let mut digits = Vec::new();
    unscaled_text(unscaled, 0, &mut digits);
    let digits = String::from_utf8_lossy(&digits);
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", &*digits),
    };
    let scale = usize::try_from(scale).unwrap_or(usize::MAX).min(DIGITS_MAX);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    append(out, format_args!("\"{sign}{whole}{point}{fraction}\""));
}

/// The most digits after the point that a `numeric` of Postgres has. A record of another program
/// may state a larger scale.
const DIGITS_MAX: usize = 16_383;

fn unscaled(json: &str) -> Option<Vec<u8>> {
    STANDARD.decode(serde_json::from_str::<String>(json).ok()?).ok()
}

fn variable(value: &RawValue) -> Option<(u32, Vec<u8>)> {
    let fields = entries(value)?;
    let named = |name| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
    Some((named("scale")?.parse().ok()?, unscaled(named("value")?)?))
}

/// The fields of a JSON object in their order; `None` if the value is no object.
pub(super) fn entries(value: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = map.next_entry()? {
                all.push(entry);
            }
            Ok(all)
        }
    }
    serde_json::Deserializer::from_str(value.get()).deserialize_map(Entries).ok()
}
