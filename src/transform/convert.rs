//! Conversions of a single value into another type: what Connect's `Cast` and
//! `TimestampConverter` do to it.
//!
//! A value is converted from its text, which the encoder writes in the forms that [`Origin`] names.
//! Java narrows numbers silently and writes times before 1970-01-02 without their date. Here a
//! value that the target does not hold is a fault, and a moment keeps its date. A fraction is cut
//! off where a whole number is asked for, as in Java.

use super::java::push_float;
pub use super::times::{TimeTarget, TimeUnit, Times};
use super::zoned::Zoned;

use super::shape::{
    Base, CONNECT_DATE, CONNECT_TIME, CONNECT_TIMESTAMP, Literal, Schema, Temporal,
};
use crate::table::value::{civil_of, unscaled_text};
use std::fmt::Write as _;

pub(super) const MILLIS_PER_DAY: i64 = 86_400_000;

/// A type that Connect casts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Target {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    Text,
}

impl Target {
    /// Each word of the configuration, with the type that it means.
    pub const WORDS: [(&'static str, Target); 8] = [
        ("int8", Target::Int8),
        ("int16", Target::Int16),
        ("int32", Target::Int32),
        ("int64", Target::Int64),
        ("float32", Target::Float32),
        ("float64", Target::Float64),
        ("boolean", Target::Boolean),
        ("string", Target::Text),
    ];

    /// The word of the configuration for this type.
    fn word(self) -> &'static str {
        Target::WORDS.iter().find(|(_, target)| *target == self).map_or("", |(word, _)| word)
    }

    pub(crate) fn base(self) -> Base {
        match self {
            Target::Int8 => Base::Int8,
            Target::Int16 => Base::Int16,
            Target::Int32 => Base::Int32,
            Target::Int64 => Base::Int64,
            Target::Float32 => Base::Float32,
            Target::Float64 => Base::Float64,
            Target::Boolean => Base::Boolean,
            Target::Text => Base::Text,
        }
    }
}

/// A conversion of single values: to another type, of dates and times, or to a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conversion {
    Cast(Target),
    Time(Box<Times>),
    Zone(Box<Zoned>),
}

/// The type of a value before its conversion. It decides the form of the value's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Boolean,
    Int,
    /// The text is that of Java's `Float.toString`.
    Float32,
    /// The text is that of Java's `Double.toString`.
    Float64,
    Text,
    /// A decimal. The text is the number without an exponent.
    Decimal,
    /// The text is in Base64.
    Bytes,
    /// The text is a number since 1970: of days for a date, otherwise of milliseconds.
    Moment(Temporal),
}

impl Origin {
    /// The origin of values with this schema. None for a struct, list or map.
    pub(crate) fn of(schema: &Schema) -> Option<Self> {
        let temporal = schema.name.as_deref().and_then(Temporal::of_name);
        Some(match (&schema.base, temporal) {
            (Base::Int32 | Base::Int64, Some(kind)) => Origin::Moment(kind),
            (Base::Boolean, _) => Origin::Boolean,
            (Base::Int8 | Base::Int16 | Base::Int32 | Base::Int64, _) => Origin::Int,
            (Base::Float32, _) => Origin::Float32,
            (Base::Float64, _) => Origin::Float64,
            (Base::Text, _) => Origin::Text,
            (Base::Bytes, _) if schema.is_decimal() => Origin::Decimal,
            (Base::Bytes, _) => Origin::Bytes,
            (Base::Array(_) | Base::Map(..) | Base::Struct(_), _) => return None,
        })
    }
}

/// Why a value cannot be converted. It contains no part of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertFault {
    /// The target type cannot hold the value.
    #[error("the value is out of the range of {0}")]
    Range(&'static str),
    /// The text is not a number.
    #[error("the text is no number of type {0}")]
    NoNumber(&'static str),
    /// The text does not fit the pattern.
    #[error("the text is no moment of the pattern")]
    NoMoment,
    /// The moment is before the year 1, and its text would not show the era.
    #[error("the value is before the year 1, which its text would not show")]
    BeforeChrist,
    /// The text is not a moment with an offset from UTC.
    #[error("the text is no moment with an offset")]
    NoOffset,
    /// The encoder's text for the value does not have the form that `Origin` names.
    #[error("the value is not of the type of its schema")]
    Foreign,
}

/// A value that a conversion has made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Made<'a> {
    Boolean(bool),
    Int(i64),
    Float32(f32),
    Float64(f64),
    Text(&'a str),
    Moment(Temporal, i64),
}

impl Made<'_> {
    fn literal(self) -> Literal {
        match self {
            Made::Boolean(value) => Literal::Boolean(value),
            Made::Int(value) | Made::Moment(_, value) => Literal::Int(value),
            Made::Float32(value) => Literal::Float4(value),
            Made::Float64(value) => Literal::Float8(value),
            Made::Text(value) => Literal::Text(value.to_owned()),
        }
    }
}

impl Conversion {
    /// The schema of converted values. It is required and has no default.
    pub(crate) fn schema(&self) -> Schema {
        let named = |base, name: &'static str| {
            let (name, version) = (Some(name.into()), Some(1));
            Schema { name, version, ..Schema::plain(base) }
        };
        match self {
            Conversion::Cast(target) => Schema::plain(target.base()),
            Conversion::Time(times) => match times.to {
                TimeTarget::Text => Schema::plain(Base::Text),
                TimeTarget::Unix => Schema::plain(Base::Int64),
                TimeTarget::Date => named(Base::Int32, CONNECT_DATE),
                TimeTarget::Time => named(Base::Int32, CONNECT_TIME),
                TimeTarget::Timestamp => named(Base::Int64, CONNECT_TIMESTAMP),
            },
            Conversion::Zone(_) => unreachable!("a field keeps its schema in another zone"),
        }
    }

    /// The conversion of a field with this schema in words, for the message of a fault.
    pub(crate) fn asked(&self, schema: &Schema) -> String {
        match self {
            Conversion::Cast(target) => format!("cast to {}", target.word()),
            Conversion::Time(times) => {
                let by = match (&schema.base, &times.pattern) {
                    (Base::Text, None) => " without a `format`",
                    (Base::Text, Some(_)) => " by this `format`",
                    _ => "",
                };
                format!("conversion to {}{by}", times.to.word())
            }
            Conversion::Zone(_) => "conversion to another time zone".to_owned(),
        }
    }

    /// Whether converted values keep the default of their field. `TimestampConverter` of Connect
    /// leaves the default out.
    pub(crate) fn keeps_default(&self) -> bool {
        matches!(self, Conversion::Cast(_))
    }

    /// The origin of values with this schema, which `convert` needs. `None` if this conversion does
    /// not take such values.
    pub(crate) fn origin(&self, schema: &Schema) -> Option<Origin> {
        let origin = Origin::of(schema)?;
        let is_taken = match self {
            Conversion::Cast(target) => *target == Target::Text || origin != Origin::Bytes,
            Conversion::Time(times) => match origin {
                Origin::Moment(_) => true,
                Origin::Int => schema.base == Base::Int64,
                Origin::Text => times.pattern.as_ref().is_some_and(|it| it.is_read().is_ok()),
                _ => false,
            },
            Conversion::Zone(_) => true,
        };
        is_taken.then_some(origin)
    }

    /// Converts the value that `text` shows. If the result is a text, it is put into `buffer`,
    /// which must be empty. `committed_at` is in seconds since 1970; `None` where no row is known.
    pub(crate) fn convert<'a>(
        &self,
        origin: Origin,
        text: &str,
        committed_at: Option<i64>,
        buffer: &'a mut String,
    ) -> Result<Made<'a>, ConvertFault> {
        match self {
            Conversion::Cast(target) => cast(*target, origin, text, buffer),
            Conversion::Time(times) => times.convert(origin, text, buffer),
            Conversion::Zone(zoned) => zoned.convert(origin, text, committed_at, buffer),
        }
    }

    /// Converts a value that is the same in every record. `None` if the conversion does not take
    /// it.
    pub(crate) fn literal(
        &self,
        schema: &Schema,
        literal: &Literal,
    ) -> Option<Result<Literal, ConvertFault>> {
        let (origin, text) = (self.origin(schema)?, text_of(literal)?);
        let mut buffer = String::new();
        Some(self.convert(origin, &text, None, &mut buffer).map(Made::literal))
    }
}

/// The text of a literal in the form of its origin. `None` if the literal has no such form.
fn text_of(literal: &Literal) -> Option<String> {
    let mut out = Vec::new();
    match literal {
        Literal::Boolean(value) => return Some(value.to_string()),
        Literal::Int(value) => return Some(value.to_string()),
        Literal::Text(value) => return Some(value.clone()),
        Literal::Float4(value) => push_float(*value, &mut out),
        Literal::Float8(value) => push_float(*value, &mut out),
        Literal::Decimal { unscaled, scale } => unscaled_text(unscaled, *scale, &mut out),
        Literal::Bytes(_)
        | Literal::Variable { .. }
        | Literal::Point(..)
        | Literal::Geometry { .. }
        | Literal::Map(_)
        | Literal::List { .. } => return None,
    }
    String::from_utf8(out).ok()
}

fn cast<'a>(
    target: Target,
    origin: Origin,
    text: &str,
    buffer: &'a mut String,
) -> Result<Made<'a>, ConvertFault> {
    let whole = |name, low, high| {
        let number = whole(origin, text, name)?;
        match i64::try_from(number) {
            Ok(number) if (low..=high).contains(&number) => Ok(Made::Int(number)),
            _ => Err(ConvertFault::Range(name)),
        }
    };
    match target {
        Target::Int8 => whole("int8", i8::MIN.into(), i8::MAX.into()),
        Target::Int16 => whole("int16", i16::MIN.into(), i16::MAX.into()),
        Target::Int32 => whole("int32", i32::MIN.into(), i32::MAX.into()),
        Target::Int64 => whole("int64", i64::MIN, i64::MAX),
        Target::Float32 => float32(origin, text).map(Made::Float32),
        Target::Float64 => float64(origin, text, "float64").map(Made::Float64),
        Target::Boolean => Ok(Made::Boolean(match origin {
            Origin::Boolean | Origin::Text => text.eq_ignore_ascii_case("true"),
            // Java looks at the whole part of the number. So 0.5 is false, and NaN is false too.
            Origin::Float32 | Origin::Float64 => float64(origin, text, "boolean")?.abs() >= 1.0,
            Origin::Decimal => {
                let whole = text.split('.').next().unwrap_or(text);
                whole.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
            }
            Origin::Int | Origin::Moment(_) | Origin::Bytes => {
                whole_of(text).is_some_and(|number| number != 0)
            }
        })),
        Target::Text => {
            match origin {
                Origin::Decimal => push_decimal(text, buffer),
                Origin::Moment(kind) => {
                    push_moment(kind, text.parse().map_err(|_| ConvertFault::Foreign)?, buffer)?;
                }
                _ => buffer.push_str(text),
            }
            Ok(Made::Text(buffer))
        }
    }
}

/// Reads a text of digits, with or without a sign. `None` for any other text.
fn whole_of(text: &str) -> Option<i128> {
    text.parse().ok()
}

/// Reads the number that `text` shows, and cuts off its fraction. A fault names the target type as
/// `name`.
fn whole(origin: Origin, text: &str, name: &'static str) -> Result<i128, ConvertFault> {
    let out_of_range = ConvertFault::Range(name);
    match origin {
        Origin::Boolean => Ok(i128::from(text == "true")),
        Origin::Int | Origin::Moment(_) => whole_of(text).ok_or(ConvertFault::Foreign),
        Origin::Decimal => {
            let digits = text.split('.').next().unwrap_or(text);
            whole_of(digits).ok_or(out_of_range)
        }
        Origin::Text => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                true => whole_of(text).ok_or(out_of_range),
                false => Err(ConvertFault::NoNumber(name)),
            }
        }
        Origin::Float32 | Origin::Float64 => {
            let number = float64(origin, text, name)?.trunc();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is whole, and 128 bits hold it"
            )]
            let exact = number as i128;
            if number.abs() < 1e19 { Ok(exact) } else { Err(out_of_range) }
        }
        Origin::Bytes => Err(ConvertFault::Foreign),
    }
}

fn float64(origin: Origin, text: &str, name: &'static str) -> Result<f64, ConvertFault> {
    match origin {
        Origin::Boolean => Ok(if text == "true" { 1.0 } else { 0.0 }),
        Origin::Float32 => named(text)
            .or_else(|| text.parse::<f32>().ok().map(f64::from))
            .ok_or(ConvertFault::Foreign),
        Origin::Float64 => named(text).or_else(|| text.parse().ok()).ok_or(ConvertFault::Foreign),
        Origin::Int | Origin::Moment(_) | Origin::Decimal => {
            finite(text.parse().map_err(|_| ConvertFault::Foreign)?, name)
        }
        Origin::Text => {
            let text = java_float(text).ok_or(ConvertFault::NoNumber(name))?;
            match named(text) {
                Some(number) => Ok(number),
                None => finite(text.parse().map_err(|_| ConvertFault::NoNumber(name))?, name),
            }
        }
        Origin::Bytes => Err(ConvertFault::Foreign),
    }
}

fn float32(origin: Origin, text: &str) -> Result<f32, ConvertFault> {
    const NAME: &str = "float32";
    let digits = match origin {
        Origin::Text => java_float(text).ok_or(ConvertFault::NoNumber(NAME))?,
        Origin::Int | Origin::Moment(_) | Origin::Decimal | Origin::Float32 => text,
        Origin::Boolean | Origin::Float64 | Origin::Bytes => "",
    };
    let is_rounded_twice = digits.is_empty() || named(digits).is_some();
    if !is_rounded_twice {
        let number: f32 = digits.parse().map_err(|_| ConvertFault::NoNumber(NAME))?;
        return if number.is_finite() { Ok(number) } else { Err(ConvertFault::Range(NAME)) };
    }
    let wide = float64(origin, text, NAME)?;
    #[expect(clippy::cast_possible_truncation, reason = "Java narrows to the nearest float too")]
    let number = wide as f32;
    match number.is_infinite() && wide.is_finite() {
        true => Err(ConvertFault::Range(NAME)),
        false => Ok(number),
    }
}

fn finite(number: f64, name: &'static str) -> Result<f64, ConvertFault> {
    if number.is_finite() { Ok(number) } else { Err(ConvertFault::Range(name)) }
}

/// Reads the names that Java has for NaN and the infinities. `None` for any other text.
fn named(text: &str) -> Option<f64> {
    match text {
        "NaN" | "+NaN" | "-NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The part of a text that `parseDouble` of Java takes as a number. Hexadecimal is refused here.
fn java_float(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c <= ' ');
    if named(text).is_some() {
        return Some(text);
    }
    let text = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    (text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().all(is_part)).then_some(text)
}

/// Appends a plain decimal as `BigDecimal.toString` writes it. It gets an exponent if its first
/// significant digit is beyond the sixth place after the point.
fn push_decimal(plain: &str, out: &mut String) {
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |rest| ("-", rest));
    let Some((whole, fraction)) = digits.split_once('.') else { return out.push_str(plain) };
    let significant = fraction.trim_start_matches('0');
    // Zero has one significant digit, the last one of its fraction.
    let significant = if significant.is_empty() { "0" } else { significant };
    let exponent = fraction.len() - (significant.len() - 1).min(fraction.len());
    if whole.bytes().any(|byte| byte != b'0') || exponent <= 6 {
        return out.push_str(plain);
    }
    out.push_str(sign);
    let (first, rest) = significant.split_at(1);
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    let _ = write!(out, "E-{exponent}"); // writing to memory does not fail
}

/// Appends a date, a time of day, or a timestamp in UTC. From 1970-01-02 on, a timestamp at
/// midnight is written as a date alone, as in Connect.
fn push_moment(kind: Temporal, value: i64, out: &mut String) -> Result<(), ConvertFault> {
    let millis = match kind {
        Temporal::Date => value.checked_mul(MILLIS_PER_DAY).ok_or(ConvertFault::Foreign)?,
        Temporal::Time | Temporal::Timestamp => value,
    };
    let (days, of_day) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
    // Connect has no time of day 24:00:00, and would write such a value as a date.
    if kind == Temporal::Time && days != 0 {
        return Err(ConvertFault::Range("string"));
    }
    let has_time = kind != Temporal::Date && (of_day != 0 || days < 1);
    if kind != Temporal::Time {
        let (year, month, day) = civil_of(days);
        if year < 1 {
            return Err(ConvertFault::BeforeChrist);
        }
        let _ = write!(out, "{year:04}-{month:02}-{day:02}"); // cannot fail
        if has_time {
            out.push('T');
        }
    }
    if has_time {
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (minutes, second) = (seconds / 60, seconds % 60);
        let (hour, minute) = (minutes / 60, minutes % 60);
        let _ = write!(out, "{hour:02}:{minute:02}:{second:02}.{millis:03}Z"); // cannot fail
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    fn cast_to(target: Target, origin: Origin, text: &str) -> Result<String, ConvertFault> {
        let mut buffer = String::new();
        let made = Conversion::Cast(target).convert(origin, text, None, &mut buffer)?;
        Ok(text_of(&made.literal()).unwrap())
    }

    /// Recorded from `Cast` of Kafka Connect 4.3.1, for values that fit the target type.
    #[test]
    fn a_cast_makes_what_connect_makes() {
        use Origin::{Boolean, Bytes, Decimal, Float32, Float64, Int, Moment, Text};
        for (origin, text, target, made) in [
            (Int, "-5", Target::Int8, "-5"),
            (Int, "300", Target::Float32, "300.0"),
            (Int, "16777217", Target::Float32, "1.6777216E7"),
            (Int, "9007199254740993", Target::Float64, "9.007199254740992E15"),
            (Int, "300", Target::Boolean, "true"),
            (Float64, "1.9", Target::Int8, "1"),
            (Float64, "-1.9", Target::Int64, "-1"),
            (Float64, "1.0E20", Target::Float32, "1.0E20"),
            (Float64, "NaN", Target::Float32, "NaN"),
            (Float64, "NaN", Target::Boolean, "false"),
            (Float64, "0.5", Target::Boolean, "false"),
            (Float64, "-1.9", Target::Boolean, "true"),
            (Float32, "0.1", Target::Float64, "0.10000000149011612"),
            (Float32, "0.1", Target::Text, "0.1"),
            (Boolean, "true", Target::Int8, "1"),
            (Boolean, "true", Target::Float32, "1.0"),
            (Boolean, "true", Target::Text, "true"),
            (Text, "+12", Target::Int8, "12"),
            (Text, " 12", Target::Float32, "12.0"),
            (Text, "1.5f", Target::Float64, "1.5"),
            (Text, "NaN", Target::Float64, "NaN"),
            (Text, "TRUE", Target::Boolean, "true"),
            (Text, "1", Target::Boolean, "false"),
            (Decimal, "12.90", Target::Int32, "12"),
            (Decimal, "12.90", Target::Float32, "12.9"),
            (Decimal, "12.90", Target::Text, "12.90"),
            (Decimal, "0.50", Target::Boolean, "false"),
            (Decimal, "0.000000123", Target::Text, "1.23E-7"),
            (Decimal, "0.0000000", Target::Text, "0E-7"),
            (Decimal, "-0.00000100", Target::Text, "-0.00000100"),
            (Bytes, "AQI=", Target::Text, "AQI="),
            (Moment(Temporal::Date), "18000", Target::Int64, "18000"),
            (Moment(Temporal::Date), "18000", Target::Text, "2019-04-14"),
            (Moment(Temporal::Time), "3723004", Target::Text, "01:02:03.004Z"),
            (
                Moment(Temporal::Timestamp),
                "1577923200123",
                Target::Text,
                "2020-01-02T00:00:00.123Z",
            ),
            (Moment(Temporal::Timestamp), "1555200000000", Target::Text, "2019-04-14"),
        ] {
            assert_eq!(cast_to(target, origin, text).as_deref(), Ok(made), "{text} as {target:?}");
        }
    }

    fn moment(to: TimeTarget, unit: TimeUnit, origin: Origin, text: &str) -> String {
        let pattern = Some(Pattern::read("yyyy-MM-dd HH:mm:ss.SSS").unwrap());
        let mut buffer = String::new();
        let times = Conversion::Time(Box::new(Times { to, pattern, unit }));
        match times.convert(origin, text, None, &mut buffer) {
            Ok(made) => text_of(&made.literal()).unwrap(),
            Err(fault) => fault.to_string(),
        }
    }

    /// Recorded from `TimestampConverter` of Kafka Connect 4.3.1.
    #[test]
    fn a_moment_becomes_what_connect_makes_of_it() {
        use TimeUnit::{Micros, Millis, Nanos, Seconds};
        let int = Origin::Int;
        let timestamp = Origin::Moment(Temporal::Timestamp);
        for (to, unit, origin, text, made) in [
            (TimeTarget::Text, Micros, int, "1577923200123456", "2020-01-02 00:00:00.123"),
            (TimeTarget::Text, Nanos, int, "1577923200123456789", "2020-01-02 00:00:00.123"),
            (TimeTarget::Text, Seconds, int, "-1", "1969-12-31 23:59:59.000"),
            (
                TimeTarget::Text,
                Millis,
                Origin::Moment(Temporal::Date),
                "-1",
                "1969-12-31 00:00:00.000",
            ),
            (TimeTarget::Unix, Micros, int, "-1500", "-1000"),
            (TimeTarget::Unix, Seconds, timestamp, "-1500", "-1"),
            (TimeTarget::Unix, Nanos, timestamp, "5", "5000000"),
            (TimeTarget::Unix, Millis, Origin::Text, "2020-01-02 00:00:00.123", "1577923200123"),
            (TimeTarget::Date, Millis, int, "-1", "-1"),
            (TimeTarget::Date, Millis, int, "1577923200123", "18263"),
            (TimeTarget::Time, Millis, int, "-1", "86399999"),
            (TimeTarget::Timestamp, Micros, int, "1577923200123456", "1577923200123"),
            (TimeTarget::Timestamp, Millis, Origin::Moment(Temporal::Time), "5", "5"),
        ] {
            assert_eq!(moment(to, unit, origin, text), made, "{text} in {unit:?} to {to:?}");
        }
        let early = moment(TimeTarget::Text, Millis, int, "-62198755200000");
        assert_eq!(early, ConvertFault::BeforeChrist.to_string());
        let other = moment(TimeTarget::Unix, Millis, Origin::Text, "2020-01-02");
        assert_eq!(other, ConvertFault::NoMoment.to_string());
        let wide = moment(TimeTarget::Text, Seconds, int, "9223372036854775807");
        assert_eq!(wide, ConvertFault::Range("Timestamp").to_string());
    }

    /// Java silently makes 44 of 300, 0 of NaN, and infinity of 1E39, and writes a timestamp of
    /// 1969 without its date.
    #[test]
    fn a_cast_changes_no_value_silently() {
        use Origin::{Decimal, Float64, Int, Moment, Text};
        let range = |name| Err(ConvertFault::Range(name));
        assert_eq!(cast_to(Target::Int8, Int, "300"), range("int8"));
        assert_eq!(cast_to(Target::Int64, Float64, "1.0E20"), range("int64"));
        assert_eq!(cast_to(Target::Int32, Float64, "NaN"), range("int32"));
        assert_eq!(cast_to(Target::Float32, Float64, "1.0E39"), range("float32"));
        assert_eq!(cast_to(Target::Float64, Text, "1e400"), range("float64"));
        assert_eq!(cast_to(Target::Int64, Decimal, "9223372036854775808.0"), range("int64"));
        assert_eq!(cast_to(Target::Int8, Text, " 12"), Err(ConvertFault::NoNumber("int8")));
        assert_eq!(cast_to(Target::Float64, Text, "inf"), Err(ConvertFault::NoNumber("float64")));
        let timestamp = Moment(Temporal::Timestamp);
        let early = cast_to(Target::Text, timestamp, "-1");
        assert_eq!(early.as_deref(), Ok("1969-12-31T23:59:59.999Z"));
        let christ = cast_to(Target::Text, timestamp, "-62198755200000");
        assert_eq!(christ, Err(ConvertFault::BeforeChrist));
    }
}
