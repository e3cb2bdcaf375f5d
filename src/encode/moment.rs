//! Writes dates, times and intervals as numbers in the unit of their column, or as texts.

use super::form::Temporal;
use super::java::Short;
use super::notes::Loss;
use super::transcode::{Fault, Tools};
use crate::table::value::{Days, Interval, IntervalParts, MICROS_PER_DAY, Moment, civil_of};
use crate::transform::times::{INFINITY_MICROS, NEGATIVE_INFINITY_MICROS};

/// Converts a date to a number of days since 1970. Infinite dates are the largest and the smallest
/// number of 32 bits. These numbers sort after and before every date of Postgres. (Debezium's
/// numbers for infinite dates differ between snapshot and stream, and both are dates in the past.)
pub(super) fn date_number(days: Days) -> i64 {
    i64::from(match days {
        Days::Finite(days) => days,
        Days::Infinity => i32::MAX,
        Days::NegativeInfinity => i32::MIN,
    })
}

/// Writes a date as `2016-11-04Z`. Infinite dates are `infinity` and `-infinity`. (Debezium writes
/// finite dates for them.)
pub(super) fn date_text(days: Days) -> Short {
    let mut text = Short::new();
    match days {
        Days::Infinity => text.push(b"infinity"),
        Days::NegativeInfinity => text.push(b"-infinity"),
        Days::Finite(days) => {
            push_date(&mut text, i64::from(days));
            text.push(b"Z");
        }
    }
    text
}

/// Converts a time of day from microseconds to milliseconds. Microseconds that are cut off are
/// noted.
pub(super) fn connect_time(micros: i64, tools: &mut Tools) -> i64 {
    if micros % 1000 != 0 {
        tools.note(Loss::BelowMillis);
    }
    micros.div_euclid(1000)
}

/// Converts a timestamp to milliseconds since 1970. Microseconds are cut off. Either the precision
/// of the column allows none, or `connect_timestamp` notes the loss.
pub(super) fn timestamp_millis(moment: Moment) -> i64 {
    match moment {
        Moment::Infinity => INFINITY_MICROS / 1000,
        Moment::NegativeInfinity => NEGATIVE_INFINITY_MICROS / 1000,
        Moment::Finite { days, micros } => days * (MICROS_PER_DAY / 1000) + micros / 1000,
    }
}

pub(super) fn connect_timestamp(moment: Moment, tools: &mut Tools) -> i64 {
    if let Moment::Finite { micros, .. } = moment
        && micros % 1000 != 0
    {
        tools.note(Loss::BelowMillis);
    }
    timestamp_millis(moment)
}

pub(super) fn timestamp_micros(moment: Moment) -> Result<i64, Fault> {
    match moment {
        Moment::Infinity => Ok(INFINITY_MICROS),
        Moment::NegativeInfinity => Ok(NEGATIVE_INFINITY_MICROS),
        finite => finite.unix_micros().ok_or(Fault::Unholdable(Loss::BeyondUnit)),
    }
}

/// Converts a timestamp to nanoseconds since 1970. Infinities are the largest and the smallest
/// number of 64 bits. A finite timestamp beyond 64 bits is an error.
pub(super) fn timestamp_nanos(moment: Moment) -> Result<i64, Fault> {
    match moment {
        Moment::Infinity => Ok(i64::MAX),
        Moment::NegativeInfinity => Ok(i64::MIN),
        finite => {
            let nanos = finite.unix_micros().and_then(|micros| micros.checked_mul(1000));
            nanos.ok_or(Fault::Unholdable(Loss::BeyondUnit))
        }
    }
}

/// Writes a moment in ISO form in UTC, with at least `precision` digits of a fraction. Infinities
/// are `infinity` and `-infinity`. Years beyond 9999 have a plus, and years before 1 are
/// astronomical (0000 is 1 BC).
pub(super) fn zoned_text(moment: Moment, precision: u8) -> Short {
    let mut text = Short::new();
    match moment {
        Moment::Infinity => text.push(b"infinity"),
        Moment::NegativeInfinity => text.push(b"-infinity"),
        Moment::Finite { days, micros } => {
            push_moment(&mut text, days, micros, usize::from(precision))
        }
    }
    text
}

/// Writes a timestamp without time zone in ISO form, with a `Z`. Infinities are the finite moments
/// that the JDBC driver uses for them.
pub(super) fn iso_text(moment: Moment) -> Short {
    let mut text = Short::new();
    let mut sentinel = |at: i64| {
        push_moment(&mut text, at.div_euclid(MICROS_PER_DAY), at.rem_euclid(MICROS_PER_DAY), 0)
    };
    match moment {
        Moment::Infinity => sentinel(INFINITY_MICROS),
        Moment::NegativeInfinity => sentinel(NEGATIVE_INFINITY_MICROS),
        Moment::Finite { days, micros } => push_moment(&mut text, days, micros, 0),
    }
    text
}

/// Writes a time as `13:51:30.123Z`. The end of a day, 24:00:00, becomes the start of the next day.
/// `end_of_day` is true for such a time, and this loss is noted.
pub(super) fn time_text(micros: i64, end_of_day: bool, tools: &mut Tools) -> Short {
    if end_of_day {
        tools.note(Loss::EndOfDay);
    }
    let mut text = Short::new();
    push_clock(&mut text, micros.rem_euclid(MICROS_PER_DAY), 0);
    text
}

/// Writes a value of Connect's own temporal types as Connect's header converter writes it: without
/// quotes, and a time with three digits of milliseconds.
pub(super) fn temporal_text(kind: Temporal, value: i64) -> Short {
    const MILLIS_PER_DAY: i64 = MICROS_PER_DAY / 1000;
    let mut text = Short::new();
    let (days, millis) = match kind {
        Temporal::Date => (value, 0),
        Temporal::Time | Temporal::Timestamp => {
            (value.div_euclid(MILLIS_PER_DAY), value.rem_euclid(MILLIS_PER_DAY))
        }
    };
    match kind {
        Temporal::Date => push_date(&mut text, days),
        Temporal::Time => push_clock(&mut text, millis * 1000, 3),
        Temporal::Timestamp => push_moment(&mut text, days, millis * 1000, 3),
    }
    text
}

fn push_date(text: &mut Short, days: i64) {
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
}

fn push_moment(text: &mut Short, days: i64, micros: i64, least: usize) {
    push_date(text, days);
    text.push(b"T");
    push_clock(text, micros, least);
}

/// Appends hours, minutes, seconds, a fraction, and `Z`. The fraction has at least `least` digits,
/// and no zeros at its end beyond them.
fn push_clock(text: &mut Short, micros: i64, least: usize) {
    let (seconds, fraction) =
        (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    text.push_digits(seconds / 3600, 2);
    text.push(b":");
    text.push_digits(seconds / 60 % 60, 2);
    text.push(b":");
    text.push_digits(seconds % 60, 2);
    push_fraction(text, fraction, least);
    text.push(b"Z");
}

/// Appends a point and a fraction of a second, given in microseconds. Zeros at its end are cut
/// while more than `least` digits are left. Appends nothing if no digit is left.
fn push_fraction(text: &mut Short, mut micros: u64, least: usize) {
    let mut width = 6;
    while width > least && micros.is_multiple_of(10) {
        (micros, width) = (micros / 10, width - 1);
    }
    if width > 0 {
        text.push(b".");
        text.push_digits(micros, width);
    }
}

/// Converts an interval to microseconds. An interval beyond 64 bits becomes the largest or the
/// smallest number of 64 bits, as in Debezium, and the loss is noted.
pub(super) fn interval_micros(interval: Interval, tools: &mut Tools) -> i64 {
    let micros = match interval {
        Interval::Infinity => i128::MAX,
        Interval::NegativeInfinity => i128::MIN,
        Interval::Finite(parts) => parts.total_micros(),
    };
    i64::try_from(micros).unwrap_or_else(|_| {
        tools.note(Loss::IntervalCut);
        if micros < 0 { i64::MIN } else { i64::MAX }
    })
}

/// Writes an interval as `P1Y2M3DT4H5M6.78S`, with every part, each with its sign. Infinities are
/// `infinity` and `-infinity`.
pub(super) fn interval_text(interval: Interval) -> Short {
    let mut text = Short::new();
    match interval {
        Interval::Infinity => text.push(b"infinity"),
        Interval::NegativeInfinity => text.push(b"-infinity"),
        Interval::Finite(parts) => push_interval(&mut text, &parts),
    }
    text
}

fn push_interval(text: &mut Short, parts: &IntervalParts) {
    let mut part = |lead: &[u8], count: i64| {
        text.push(lead);
        text.push(if count < 0 { b"-" } else { b"" });
        text.push_digits(count.unsigned_abs(), 1);
    };
    part(b"P", parts.years);
    part(b"Y", parts.months);
    part(b"M", parts.days);
    part(b"DT", parts.hours);
    part(b"H", parts.minutes);
    text.push(if parts.micros < 0 { b"M-" } else { b"M" });
    text.push_digits(parts.micros.unsigned_abs() / 1_000_000, 1);
    push_fraction(text, parts.micros.unsigned_abs() % 1_000_000, 0);
    text.push(b"S");
}
