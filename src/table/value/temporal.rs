//! Reads dates, times and timestamps: ISO texts become days and microseconds since 1970. The
//! calendar is proleptic Gregorian throughout.

use super::{ValueError, around};

/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 1970-01-01, or one of the two infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Days {
    /// `-infinity`: before every day.
    NegativeInfinity,
    /// A day. Postgres has days from -2440588 (4714-11-24 BC) to 2145042905 (5874897-12-31).
    Finite(i32),
    /// `infinity`: after every day.
    Infinity,
}

/// A moment, or one of the two infinities.
///
/// Day and time of day are two fields, because Postgres has moments beyond 64 bits of microseconds
/// since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// `-infinity`: before every moment.
    NegativeInfinity,
    /// A moment, split into its day and the time of that day.
    Finite {
        /// Days since 1970-01-01; negative before.
        days: i64,
        /// Microseconds of the day: 0 to below [`MICROS_PER_DAY`].
        micros: i64,
    },
    /// `infinity`: after every moment.
    Infinity,
}

impl Moment {
    /// Microseconds since 1970; `None` for infinities, and beyond 64 bits (after 294247-01-10).
    #[must_use]
    pub fn unix_micros(self) -> Option<i64> {
        match self {
            Moment::Finite { days, micros } => {
                days.checked_mul(MICROS_PER_DAY)?.checked_add(micros)
            }
            _ => None,
        }
    }
}

/// A time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedTime {
    /// Microseconds of the day: 0 to below [`MICROS_PER_DAY`].
    pub micros: i64,
    /// True if the time was 24:00:00 before the shift to UTC. `micros` no longer shows it.
    pub end_of_day: bool,
}

/// Reads a `date`, such as `2016-11-04`, `0044-03-15 BC` or `infinity`.
///
/// # Errors
/// The text is not a calendar date in ISO form.
pub fn date(text: &[u8]) -> Result<Days, ValueError> {
    match text {
        b"infinity" => return Ok(Days::Infinity),
        b"-infinity" => return Ok(Days::NegativeInfinity),
        _ => {}
    }
    let mut scan = Scan { rest: text, kind: "date" };
    let (year, month, day) = scan.year_month_day()?;
    let days = days_of(scan.era(year)?, month, day).ok_or(scan.error("no such day"))?;
    i32::try_from(days).map(Days::Finite).map_err(|_| scan.error("beyond 32 bits of days"))
}

/// Reads a `time` as microseconds of the day, up to and including 24:00:00.
///
/// # Errors
/// The text is not a time of day in ISO form.
pub fn time(text: &[u8]) -> Result<i64, ValueError> {
    let mut scan = Scan { rest: text, kind: "time" };
    let micros = scan.time_of_day()?;
    scan.end()?;
    Ok(micros)
}

/// Reads a `timetz`, such as `13:51:30.123789+02`. The result is shifted to UTC and wrapped at
/// midnight.
///
/// # Errors
/// The text is not a time of day with an offset.
pub fn timetz(text: &[u8]) -> Result<ZonedTime, ValueError> {
    let mut scan = Scan { rest: text, kind: "timetz" };
    let micros = scan.time_of_day()?;
    let offset = scan.offset()?.ok_or(scan.error("no offset"))?;
    scan.end()?;
    let shifted = (micros - offset * 1_000_000).rem_euclid(MICROS_PER_DAY);
    Ok(ZonedTime { micros: shifted, end_of_day: micros == MICROS_PER_DAY })
}

/// Reads a `timestamp` as if it were UTC.
///
/// # Errors
/// The text is not a timestamp in ISO form, or it has an offset.
pub fn timestamp(text: &[u8]) -> Result<Moment, ValueError> {
    moment(text, "timestamp", false)
}

/// Reads a `timestamptz`, shifted to UTC. A text without an offset, as in a default expression,
/// counts as UTC.
///
/// # Errors
/// The text is not a timestamp in ISO form.
pub fn timestamptz(text: &[u8]) -> Result<Moment, ValueError> {
    moment(text, "timestamptz", true)
}

fn moment(text: &[u8], kind: &'static str, zoned: bool) -> Result<Moment, ValueError> {
    match text {
        b"infinity" => return Ok(Moment::Infinity),
        b"-infinity" => return Ok(Moment::NegativeInfinity),
        _ => {}
    }
    let mut scan = Scan { rest: text, kind };
    let (year, month, day) = scan.year_month_day()?;
    let mut micros = 0;
    if let Some(rest) =
        scan.rest.strip_prefix(b" ").filter(|rest| rest.first().is_some_and(u8::is_ascii_digit))
    {
        scan.rest = rest;
        micros = scan.time_of_day()?;
    }
    if zoned {
        micros -= scan.offset()?.unwrap_or(0) * 1_000_000;
    }
    let days = days_of(scan.era(year)?, month, day).ok_or(scan.error("no such day"))?;
    Ok(Moment::Finite {
        days: days + micros.div_euclid(MICROS_PER_DAY),
        micros: micros.rem_euclid(MICROS_PER_DAY),
    })
}

/// The part of a text that is not read yet, with the name of the type for errors.
struct Scan<'a> {
    rest: &'a [u8],
    kind: &'static str,
}

impl Scan<'_> {
    fn error(&self, why: &'static str) -> ValueError {
        ValueError::new(self.kind, why)
    }

    /// Reads a number of `min` to `max` digits.
    fn digits(&mut self, min: usize, max: usize) -> Result<i64, ValueError> {
        let (mut value, mut count) = (0_i64, 0);
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            if count == max {
                return Err(self.error("too many digits"));
            }
            value = value * 10 + i64::from(digit - b'0');
            count += 1;
            self.rest = rest;
        }
        if count < min {
            return Err(self.error("too few digits"));
        }
        Ok(value)
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn need(&mut self, byte: u8, why: &'static str) -> Result<(), ValueError> {
        if self.take(byte) { Ok(()) } else { Err(self.error(why)) }
    }

    fn end(&self) -> Result<(), ValueError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("text after its end")) }
    }

    fn year_month_day(&mut self) -> Result<(i64, i64, i64), ValueError> {
        let year = self.digits(4, 7)?;
        self.need(b'-', "no month")?;
        let month = self.digits(2, 2)?;
        self.need(b'-', "no day")?;
        Ok((year, month, self.digits(2, 2)?))
    }

    /// Reads the end of the text: ` BC` or nothing. Returns `year` as an astronomical year: 1 BC is
    /// the year 0, and 2 BC is -1.
    fn era(&mut self, year: i64) -> Result<i64, ValueError> {
        if self.rest == b" BC" {
            self.rest = &[];
            return Ok(1 - year);
        }
        self.end().map(|()| year)
    }

    /// Reads hours, minutes, seconds and a fraction of up to six digits, and returns microseconds.
    /// Seconds may be missing, as in a default.
    fn time_of_day(&mut self) -> Result<i64, ValueError> {
        let hours = self.digits(2, 2)?;
        self.need(b':', "no minutes")?;
        let minutes = self.digits(2, 2)?;
        let seconds = if self.take(b':') { self.digits(2, 2)? } else { 0 };
        let mut micros = 0;
        if self.take(b'.') {
            let before = self.rest.len();
            micros = self.digits(1, 6)?;
            for _ in before - self.rest.len()..6 {
                micros *= 10;
            }
        }
        let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
        if minutes > 59 || seconds > 60 || total > MICROS_PER_DAY {
            return Err(self.error("no such time of day"));
        }
        Ok(total)
    }

    /// Reads an offset from UTC, such as `+02`, `-08:30` or `+05:53:28`, in seconds. `None` if the
    /// next byte is no sign.
    fn offset(&mut self) -> Result<Option<i64>, ValueError> {
        let sign = match self.rest.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Ok(None),
        };
        self.rest = around(self.rest, 0).1;
        let mut seconds = self.digits(1, 2)? * 3600;
        if self.take(b':') {
            seconds += self.digits(2, 2)? * 60;
        }
        if self.take(b':') {
            seconds += self.digits(2, 2)?;
        }
        Ok(Some(sign * seconds))
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` if there is no such
/// day.
#[must_use]
pub fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // In this computation a year begins in March, so that the leap day is its last day. 400 years
    // have 146097 days.
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468)
}

/// Year (0 is 1 BC), month and day of a number of days since 1970-01-01.
#[must_use]
pub fn civil_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> Option<i64> {
        timestamp(text.as_bytes()).unwrap().unix_micros()
    }

    #[test]
    fn dates_are_days_since_1970_in_both_eras() {
        // Some values are those of the reference case temporal-adaptive.
        for (text, days) in [
            ("2016-11-04", 17_109),
            ("1969-12-31", -1),
            ("1582-10-04", -141_438),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
            ("0044-03-15 BC", -735_160),
            ("21016-11-04", 6_956_716),
            ("4714-11-24 BC", -2_440_588),
            ("5874897-12-31", 2_145_042_905),
        ] {
            assert_eq!(date(text.as_bytes()), Ok(Days::Finite(days)), "{text}");
        }
        assert_eq!(date(b"infinity"), Ok(Days::Infinity));
        assert_eq!(date(b"-infinity"), Ok(Days::NegativeInfinity));
    }

    #[test]
    fn timestamps_are_microseconds_since_1970() {
        assert_eq!(micros("2016-11-04 13:51:30.123456"), Some(1_478_267_490_123_456));
        assert_eq!(micros("1936-10-25 22:10:12.608"), Some(-1_047_174_587_392_000));
        assert_eq!(micros("0044-03-15 12:00:00 BC"), Some(-63_517_780_800_000_000));
        assert_eq!(micros("2001-02-03"), Some(981_158_400_000_000));
    }

    #[test]
    fn a_timestamp_beyond_64_bits_of_microseconds_is_known_and_not_a_number() {
        assert_eq!(micros("294247-01-01 23:59:59.999999"), Some(9_223_371_331_199_999_999));
        assert!(matches!(timestamp(b"294276-12-31 23:59:59.999999"), Ok(Moment::Finite { .. })));
        assert_eq!(micros("294276-12-31 23:59:59.999999"), None);
    }

    #[test]
    fn offsets_shift_to_utc() {
        let zoned = |text: &str| timestamptz(text.as_bytes()).unwrap().unix_micros();
        assert_eq!(zoned("2016-11-04 11:51:30.123456+00"), Some(1_478_260_290_123_456));
        assert_eq!(zoned("2016-11-04 13:51:30.123456+02"), zoned("2016-11-04 11:51:30.123456+00"));
        assert_eq!(zoned("2021-03-20 13:44:28+05:30"), zoned("2021-03-20 08:14:28+00"));
        assert_eq!(zoned("0044-03-15 12:00:00+00 BC"), micros("0044-03-15 12:00:00 BC"));
        assert_eq!(timetz(b"13:51:30.123789+02").unwrap().micros, 42_690_123_789);
        assert_eq!(timetz(b"00:00:00-08").unwrap().micros, 8 * 3_600_000_000);
        assert_eq!(timetz(b"24:00:00+00"), Ok(ZonedTime { micros: 0, end_of_day: true }));
        assert_eq!(
            timetz(b"12:00:00+05:53:28").unwrap().micros,
            ((6 * 60 + 6) * 60 + 32) * 1_000_000
        );
    }

    #[test]
    fn times_reach_the_end_of_the_day() {
        assert_eq!(time(b"24:00:00"), Ok(MICROS_PER_DAY));
        assert_eq!(time(b"13:51:30.123"), Ok(49_890_123_000));
        assert_eq!(time(b"00:00"), Ok(0));
        assert!(time(b"24:00:00.000001").is_err());
    }

    #[test]
    fn refuses_what_is_not_on_the_calendar_or_not_iso() {
        for text in [
            "2021-02-29",
            "2021-13-01",
            "2021-00-01",
            "2021-01-32",
            "21-01-01",
            "2021-1-1",
            "2021-01-01 AD",
            "04/11/2016",
        ] {
            assert!(date(text.as_bytes()).is_err(), "{text}");
        }
        assert!(timestamp(b"2021-01-01 00:00:00+00").is_err());
        assert!(timestamp(b"2021-01-01 25:00:00").is_err());
    }

    proptest! {
        #[test]
        fn every_day_has_one_date(days in -3_000_000_i64..2_200_000_000) {
            let (year, month, day) = civil_of(days);
            prop_assert_eq!(days_of(year, month, day), Some(days));
        }

        #[test]
        fn no_bytes_make_them_panic(bytes: Vec<u8>, text in "[0-9:. +BC-]{0,40}") {
            for input in [bytes.as_slice(), text.as_bytes()] {
                let _ = (date(input), time(input), timetz(input), timestamp(input), timestamptz(input));
            }
        }
    }
}
