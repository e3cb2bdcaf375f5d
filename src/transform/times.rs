//! Conversions of moments: what Connect's `TimestampConverter` does to a value.

use super::convert::{ConvertFault, MILLIS_PER_DAY, Made, Origin};
use super::pattern::Pattern;
use super::shape::Temporal;

/// What Debezium writes for `infinity` in a timestamp, in microseconds: the JDBC driver's sentinel.
pub(crate) const INFINITY_MICROS: i64 = 9_223_372_036_825_200_000;

/// What Debezium writes for `-infinity` in a timestamp, in microseconds.
pub(crate) const NEGATIVE_INFINITY_MICROS: i64 = -9_223_372_036_832_400_000;

/// The settings of Connect's `TimestampConverter`, which converts dates, times and timestamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// The type that values have after the conversion.
    pub to: TimeTarget,
    /// The pattern of dates and times in texts, for reading and for writing. `None` if there are no
    /// texts.
    pub pattern: Option<Pattern>,
    /// The unit of whole numbers that are not of one of Connect's types `Date`, `Time` and
    /// `Timestamp`.
    pub unit: TimeUnit,
}

/// A type to which dates, times and timestamps are converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TimeTarget {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

impl TimeTarget {
    /// The words of Connect's configuration, with the types that they mean.
    pub const WORDS: [(&'static str, TimeTarget); 5] = [
        ("string", TimeTarget::Text),
        ("unix", TimeTarget::Unix),
        ("Date", TimeTarget::Date),
        ("Time", TimeTarget::Time),
        ("Timestamp", TimeTarget::Timestamp),
    ];

    /// The word of the configuration for this type.
    pub(super) fn word(self) -> &'static str {
        TimeTarget::WORDS.iter().find(|(_, target)| *target == self).map_or("", |(word, _)| word)
    }
}

/// The unit of a number that counts from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TimeUnit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl TimeUnit {
    /// The words of Connect's configuration, with the units that they mean.
    pub const WORDS: [(&'static str, TimeUnit); 4] = [
        ("milliseconds", TimeUnit::Millis),
        ("seconds", TimeUnit::Seconds),
        ("microseconds", TimeUnit::Micros),
        ("nanoseconds", TimeUnit::Nanos),
    ];

    /// The number in milliseconds; `None` if it is too large. A smaller fraction is cut off, as in
    /// Java.
    fn millis(self, value: i64) -> Option<i64> {
        match self {
            TimeUnit::Seconds => value.checked_mul(1000),
            TimeUnit::Millis => Some(value),
            TimeUnit::Micros => Some(value / 1000),
            TimeUnit::Nanos => Some(value / 1_000_000),
        }
    }

    fn of_millis(self, millis: i64) -> Option<i64> {
        match self {
            TimeUnit::Seconds => Some(millis / 1000),
            TimeUnit::Millis => Some(millis),
            TimeUnit::Micros => millis.checked_mul(1000),
            TimeUnit::Nanos => millis.checked_mul(1_000_000),
        }
    }
}

impl Times {
    pub(super) fn convert<'a>(
        &self,
        origin: Origin,
        text: &str,
        buffer: &'a mut String,
    ) -> Result<Made<'a>, ConvertFault> {
        let number = || text.parse::<i64>().map_err(|_| ConvertFault::Foreign);
        let millis = match origin {
            Origin::Moment(Temporal::Date) => number()?.checked_mul(MILLIS_PER_DAY),
            Origin::Moment(_) => Some(number()?),
            Origin::Int => self.unit.millis(number()?),
            _ => {
                let pattern = self.pattern.as_ref().ok_or(ConvertFault::Foreign)?;
                Some(pattern.parse(text).ok_or(ConvertFault::NoMoment)?)
            }
        };
        let millis = millis.ok_or(ConvertFault::Range("Timestamp"))?;
        match self.to {
            TimeTarget::Text => {
                let pattern = self.pattern.as_ref().ok_or(ConvertFault::Foreign)?;
                pattern.write(millis, buffer).ok_or(ConvertFault::BeforeChrist)?;
                Ok(Made::Text(buffer))
            }
            TimeTarget::Unix => {
                self.unit.of_millis(millis).map(Made::Int).ok_or(ConvertFault::Range("unix"))
            }
            TimeTarget::Date => {
                let days = millis.div_euclid(MILLIS_PER_DAY);
                match i32::try_from(days) {
                    Ok(_) => Ok(Made::Moment(Temporal::Date, days)),
                    Err(_) => Err(ConvertFault::Range("Date")),
                }
            }
            TimeTarget::Time => Ok(Made::Moment(Temporal::Time, millis.rem_euclid(MILLIS_PER_DAY))),
            TimeTarget::Timestamp => Ok(Made::Moment(Temporal::Timestamp, millis)),
        }
    }
}
