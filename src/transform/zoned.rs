//! Moments in another time zone: what Debezium's `TimezoneConverter` does to a value.
//!
//! Debezium looks up the offset of a moment as if the moment were a local time, even if the moment
//! is in UTC. Near a change of the clocks the offset is therefore that of some hours before or
//! after. This file does the same, so that values are equal. Only a time without a date differs:
//! Debezium takes the offset of the day on which it runs. Here the offset is that of the commit, so
//! that a replay writes the same value.

use super::convert::{ConvertFault, Made, Origin};
use super::shape::Temporal;
use super::times::{INFINITY_MICROS, NEGATIVE_INFINITY_MICROS};
use crate::table::value::{civil_of, days_of};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use std::fmt::Write as _;

/// A time zone: an offset, or a name of the time zone database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// The largest offset from UTC that Java allows, in hours.
const OFFSET_HOURS_MAX: i32 = 18;

/// Seconds of four hundred years. After them weekdays and the rules of zones repeat.
const CYCLE_SECONDS: i64 = 146_097 * 86_400;
/// Starts of the years 2400 and 9000, in seconds since 1970. A moment from 9000 on is looked up in
/// the four hundred years from 2400 on.
const CYCLE_FROM: i64 = 13_569_465_600;
const CYCLE_AFTER: i64 = 221_845_392_000;
/// A moment before the year -7500, in seconds since 1970. Earlier moments have the same offset,
/// because no zone has rules for them.
const EARLIEST: i64 = -300_000_000_000;

impl Zone {
    /// The zone with this name, or with this offset as `+08:00`. `None` if there is no such zone.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if let Some(seconds) = offset_of(text).filter(|_| text != "Z") {
            return Some(Zone(TimeZone::fixed(Offset::from_seconds(seconds).ok()?)));
        }
        let zone = TimeZoneDatabase::bundled().get(text).ok()?;
        // The database finds a name whatever its case is, and Java does not.
        let is_named = zone.iana_name().is_none_or(|name| name == text);
        (is_named && !text.starts_with(['+', '-'])).then_some(Zone(zone))
    }

    /// The zone's offset from UTC at a moment. Offset and moment are in seconds.
    fn at(&self, seconds: i64) -> i64 {
        match jiff::Timestamp::from_second(repeated(seconds)) {
            Ok(moment) => i64::from(self.0.to_offset(moment).seconds()),
            Err(_) => unreachable!("a moment of the cycle has a date"),
        }
    }

    /// The zone's offset from UTC at a local time, in seconds. `seconds` counts the local time as
    /// if it were UTC. For a local time that a change of the clocks skips or repeats, the offset is
    /// that before the change.
    fn local(&self, seconds: i64) -> i64 {
        let Ok(moment) = jiff::Timestamp::from_second(repeated(seconds)) else {
            unreachable!("a moment of the cycle has a date")
        };
        let time = Offset::UTC.to_datetime(moment);
        let offset = match self.0.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        i64::from(offset.seconds())
    }
}

/// A moment with the same offset as `seconds`, but within the years that `jiff` can represent.
fn repeated(seconds: i64) -> i64 {
    if seconds >= CYCLE_AFTER {
        return CYCLE_FROM + (seconds - CYCLE_FROM).rem_euclid(CYCLE_SECONDS);
    }
    seconds.max(EARLIEST)
}

/// The seconds of an offset that is written as `Z`, `+hh:mm` or `+hh:mm:ss`, also with `-`. `None`
/// for any other text.
fn offset_of(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut parts = rest.split(':');
    let mut two = || {
        let part = parts.next()?;
        let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<i32>().ok())?
    };
    let (hours, minutes, seconds) = (two()?, two()?, two());
    let seconds = seconds.unwrap_or(0);
    let is_whole = matches!(rest.len(), 5 | 8) && minutes < 60 && seconds < 60;
    let all = hours * 3600 + minutes * 60 + seconds;
    (is_whole && all <= OFFSET_HOURS_MAX * 3600).then_some(sign * all)
}

/// The form of a value that is moved into a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number since 1970 of a timestamp without a zone. The argument is the number of its units
    /// in a second.
    Number(i64),
    /// A number of Connect's own type `Timestamp`.
    Connect,
    /// A number since 1970 in the envelope's `source`. The argument is the number of its units in a
    /// second.
    Instant(i64),
    /// A text with date and offset.
    Text,
    /// A text with offset and without date.
    Time,
}

/// The conversion of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zoned {
    pub zone: Zone,
    pub form: Form,
}

impl Zoned {
    /// Converts the value that `text` shows. `committed_at` is in seconds since 1970.
    pub(super) fn convert<'a>(
        &self,
        origin: Origin,
        text: &str,
        committed_at: Option<i64>,
        buffer: &'a mut String,
    ) -> Result<Made<'a>, ConvertFault> {
        const OUT_OF_RANGE: ConvertFault = ConvertFault::Range("int64");
        let number = || text.parse::<i64>().map_err(|_| ConvertFault::Foreign);
        let moved = |number: i64, units: i64, seconds: i64| {
            seconds.checked_mul(units).and_then(|by| number.checked_add(by)).ok_or(OUT_OF_RANGE)
        };
        match (self.form, origin) {
            (Form::Number(units) | Form::Instant(units), Origin::Int)
                if is_infinite(number()?, units) =>
            {
                number().map(Made::Int)
            }
            (Form::Connect, Origin::Moment(Temporal::Timestamp))
                if is_infinite(number()?, 1000) =>
            {
                Ok(Made::Moment(Temporal::Timestamp, number()?))
            }
            (Form::Text, Origin::Text) if matches!(text, "infinity" | "-infinity") => {
                buffer.push_str(text);
                Ok(Made::Text(buffer))
            }
            (Form::Number(units), Origin::Int) => {
                let number = number()?;
                let offset = self.zone.local(number.div_euclid(units));
                moved(number, units, -offset).map(Made::Int)
            }
            (Form::Connect, Origin::Moment(Temporal::Timestamp)) => {
                let number = number()?;
                let offset = self.zone.local(number.div_euclid(1000));
                Ok(Made::Moment(Temporal::Timestamp, moved(number, 1000, -offset)?))
            }
            (Form::Instant(units), Origin::Int) => {
                let number = number()?;
                let offset = self.zone.at(number.div_euclid(units));
                moved(number, units, offset).map(Made::Int)
            }
            (Form::Text, Origin::Text) => {
                let read = Local::read(text).ok_or(ConvertFault::NoOffset)?;
                let offset = self.zone.local(read.seconds);
                read.moved(offset).write(buffer);
                Ok(Made::Text(buffer))
            }
            (Form::Time, Origin::Text) => {
                let read = Local::read_time(text).ok_or(ConvertFault::NoOffset)?;
                let at = committed_at.ok_or(ConvertFault::NoOffset)?;
                read.moved(self.zone.at(at)).write_time(buffer);
                Ok(Made::Text(buffer))
            }
            _ => Err(ConvertFault::Foreign),
        }
    }
}

/// True if `number` stands for `infinity` or `-infinity`, which have no offset. `units` is the
/// number of its units in a second.
fn is_infinite(number: i64, units: i64) -> bool {
    match units {
        1000 => [INFINITY_MICROS / 1000, NEGATIVE_INFINITY_MICROS / 1000].contains(&number),
        1_000_000 => [INFINITY_MICROS, NEGATIVE_INFINITY_MICROS].contains(&number),
        _ => [i64::MAX, i64::MIN].contains(&number),
    }
}

/// A local time with its offset, as ISO 8601 has it.
struct Local {
    /// Seconds since 1970, as if the local time were UTC.
    seconds: i64,
    nanos: u32,
    offset: i64,
}

const DAY: i64 = 86_400;

impl Local {
    fn read(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('T')?;
        let days = date_of(date)?;
        let time = Local::read_time(time)?;
        Some(Local { seconds: days.checked_mul(DAY)?.checked_add(time.seconds)?, ..time })
    }

    fn read_time(text: &str) -> Option<Self> {
        let at = text.find(['Z', '+', '-'])?;
        let (time, offset) = text.split_at_checked(at)?;
        let offset = i64::from(offset_of(offset)?);
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut parts = time.split(':').map(number_of);
        let (hours, minutes) = (parts.next()??, parts.next()??);
        let seconds = parts.next().unwrap_or(Some(0))?;
        if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 {
            return None;
        }
        let nanos = match fraction.len() {
            0 => 0,
            digits @ 1..=9 => {
                let power = 10_i64.pow(9 - u32::try_from(digits).ok()?);
                u32::try_from(number_of(fraction)? * power).ok()?
            }
            _ => return None,
        };
        Some(Local { seconds: hours * 3600 + minutes * 60 + seconds, nanos, offset })
    }

    /// The same instant with another offset.
    fn moved(self, offset: i64) -> Self {
        Local { seconds: self.seconds - self.offset + offset, offset, ..self }
    }

    fn write(&self, out: &mut String) {
        let (year, month, day) = civil_of(self.seconds.div_euclid(DAY));
        let sign = match year {
            10_000.. => "+",
            ..0 => "-",
            _ => "",
        };
        // Writing to memory does not fail.
        let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}T", year.unsigned_abs());
        self.write_time(out);
    }

    fn write_time(&self, out: &mut String) {
        let of_day = self.seconds.rem_euclid(DAY);
        let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}");
        if self.nanos > 0 {
            let digits = format!("{:09}", self.nanos);
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
        if self.offset == 0 {
            return out.push('Z');
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let offset = self.offset.abs();
        let _ = write!(out, "{sign}{:02}:{:02}", offset / 3600, offset / 60 % 60);
        if offset % 60 != 0 {
            let _ = write!(out, ":{:02}", offset % 60);
        }
    }
}

/// Reads a number that consists of digits alone. `None` for any other text.
fn number_of(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The days since 1970 of a date as ISO 8601 has it, with a sign before a year of more than four
/// digits, or before the year 0.
fn date_of(date: &str) -> Option<i64> {
    let (sign, rest) = match date.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, date),
    };
    let mut parts = rest.split('-').map(number_of);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || year > 999_999_999 {
        return None;
    }
    days_of(sign * year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(form: Form, origin: Origin, text: &str) -> String {
        let zoned = Zoned { zone: Zone::read("America/New_York").unwrap(), form };
        let mut buffer = String::new();
        match zoned.convert(origin, text, None, &mut buffer).unwrap() {
            Made::Int(number) | Made::Moment(_, number) => number.to_string(),
            Made::Text(text) => text.to_owned(),
            _ => panic!("a moment is a number or a text"),
        }
    }

    #[test]
    fn an_infinite_moment_stays_as_it_is() {
        for text in ["infinity", "-infinity"] {
            assert_eq!(converted(Form::Text, Origin::Text, text), text);
        }
        for (units, text) in [
            (1_000_000, "9223372036825200000"),
            (1_000_000, "-9223372036832400000"),
            (1000, "9223372036825200"),
            (1_000_000_000, "9223372036854775807"),
        ] {
            assert_eq!(converted(Form::Number(units), Origin::Int, text), text);
        }
        let timestamp = Origin::Moment(Temporal::Timestamp);
        assert_eq!(converted(Form::Connect, timestamp, "-9223372036832400"), "-9223372036832400");
        assert_eq!(converted(Form::Number(1000), Origin::Int, "0"), "18000000");
    }
}
