//! Patterns of dates and times: those of Java's `SimpleDateFormat`, in UTC and in English.
//!
//! Years are those of the Gregorian calendar, also before 1582, as Debezium counts them. Java takes
//! a month 13 as the next January, and digits of a longer fraction as milliseconds. Here such a
//! text is a fault. Text after the last field of a pattern is ignored, as in Java.

use crate::table::value::{civil_of, days_of};
use std::fmt::Write as _;

const MILLIS_PER_DAY: i64 = 86_400_000;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A pattern, split into fields and texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    /// A letter of the pattern, and how often it is repeated.
    Field(char, usize),
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// A quote opens a text that does not end.
    #[error("a quote is not closed")]
    Open,
    /// The letter is no field here. In Java it has another meaning, or none.
    #[error("`{0}` is no field of a pattern here; letters that stand for themselves are quoted")]
    Letter(char),
    /// The pattern has `y` or `yy`. Java takes two digits for a year near the day of reading.
    #[error(
        "`y` and `yy` cannot be read, because the century depends on the day of reading; write \
         `yyyy`"
    )]
    Century,
    /// The pattern has `a` without `h` or `K`. Java ignores `a` beside an hour of the whole day.
    #[error("`a` is read with `h` or `K` alone, and the pattern has another hour")]
    Half,
    /// The field can be written, but not read.
    #[error("`{0}` can be written and not be read")]
    Unread(char),
}

/// The parts of a date and time, as they are read from a text.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    half: Option<i64>,
    minute: i64,
    second: i64,
    milli: i64,
    offset: i64,
}

impl Pattern {
    /// Reads a pattern in Java's form.
    ///
    /// # Errors
    /// See [`PatternFault`].
    pub fn read(text: &str) -> Result<Self, PatternFault> {
        let (mut items, mut rest) = (Vec::new(), text.chars().peekable());
        let mut literal = String::new();
        while let Some(c) = rest.next() {
            if c == '\'' {
                if rest.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(c) => literal.push(c),
                        None => return Err(PatternFault::Open),
                    }
                }
            } else if c.is_ascii_alphabetic() {
                if !"yMdHhkKmsSaEuDXZz".contains(c) {
                    return Err(PatternFault::Letter(c));
                }
                if !literal.is_empty() {
                    items.push(Item::Text(std::mem::take(&mut literal)));
                }
                let mut count = 1;
                while rest.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if c == 'X' && count > 3 {
                    return Err(PatternFault::Letter(c));
                }
                items.push(Item::Field(c, count));
            } else {
                literal.push(c);
            }
        }
        if !literal.is_empty() {
            items.push(Item::Text(literal));
        }
        Ok(Pattern { items })
    }

    /// Whether texts of the pattern can be read.
    ///
    /// # Errors
    /// The reason why texts of the pattern cannot be read.
    pub fn is_read(&self) -> Result<(), PatternFault> {
        for item in &self.items {
            match item {
                Item::Field('y', 1 | 2) => return Err(PatternFault::Century),
                Item::Field('a', _) if !self.has("hK") => return Err(PatternFault::Half),
                Item::Field(letter @ ('D' | 'u'), _) => return Err(PatternFault::Unread(*letter)),
                _ => {}
            }
        }
        Ok(())
    }

    fn has(&self, letters: &str) -> bool {
        let is_one =
            |item: &Item| matches!(item, Item::Field(letter, _) if letters.contains(*letter));
        self.items.iter().any(is_one)
    }

    /// Writes the time `millis`, in milliseconds since 1970, by this pattern. Returns None for a
    /// time before the year 1, because the text has no place for the era.
    pub(crate) fn write(&self, millis: i64, out: &mut String) -> Option<()> {
        let (days, of_day) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
        let (year, month, day) = civil_of(days);
        if year < 1 {
            return None;
        }
        let hour = of_day / 3_600_000;
        let number = |value: i64, width: usize, out: &mut String| {
            let _ = write!(out, "{value:0width$}"); // writing to memory does not fail
        };
        for item in &self.items {
            let (letter, count) = match item {
                Item::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Item::Field(letter, count) => (*letter, *count),
            };
            match letter {
                'y' if count == 2 => number(year % 100, 2, out),
                'y' => number(year, count, out),
                'M' if count > 2 => out.push_str(named(&MONTHS, month - 1, count == 3)),
                'M' => number(month, count, out),
                'd' => number(day, count, out),
                'H' => number(hour, count, out),
                'k' => number(if hour == 0 { 24 } else { hour }, count, out),
                'K' => number(hour % 12, count, out),
                'h' => number(if hour % 12 == 0 { 12 } else { hour % 12 }, count, out),
                'm' => number(of_day / 60_000 % 60, count, out),
                's' => number(of_day / 1000 % 60, count, out),
                'S' => number(of_day % 1000, count, out),
                'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                'E' => out.push_str(named(&DAYS, weekday(days), count < 4)),
                'u' => number(weekday(days) + 1, count, out),
                'D' => number(days - days_of(year, 1, 1)? + 1, count, out),
                'X' => out.push('Z'),
                'Z' => out.push_str("+0000"),
                _ if count < 4 => out.push_str("UTC"),
                _ => out.push_str("Coordinated Universal Time"),
            }
        }
        Some(())
    }

    /// Reads a text as milliseconds since 1970. `None` if the text does not fit the pattern.
    pub(crate) fn parse(&self, text: &str) -> Option<i64> {
        let (year, month, day) = (1970, 1, 1);
        let (hour, minute, second, milli) = (0, 0, 0, 0);
        let (half, offset) = (None, 0);
        let mut parts = Parts { year, month, day, hour, half, minute, second, milli, offset };
        let mut rest = text;
        for (place, item) in self.items.iter().enumerate() {
            match item {
                Item::Text(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field(letter, count) => {
                    let follows = self.items.get(place + 1);
                    let is_adjacent = follows.is_some_and(Item::is_number);
                    let width = if is_adjacent { Some(*count) } else { None };
                    read(&mut parts, (*letter, *count), width, &mut rest)?;
                }
            }
        }
        parts.millis()
    }
}

impl Item {
    /// Whether the field is written in digits.
    fn is_number(&self) -> bool {
        match self {
            Item::Field('M', count) => *count < 3,
            Item::Field(letter, _) => !"aEXZz".contains(*letter),
            Item::Text(_) => false,
        }
    }
}

fn read(
    parts: &mut Parts,
    (letter, count): (char, usize),
    width: Option<usize>,
    rest: &mut &str,
) -> Option<()> {
    match letter {
        'M' if count > 2 => parts.month = name(&MONTHS, rest)? + 1,
        'E' => drop(name(&DAYS, rest)?),
        'a' => parts.half = Some(name(&["AM", "PM"], rest)?),
        'X' | 'Z' | 'z' => parts.offset = offset(rest)?,
        _ => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (taken, after) = rest.split_at(digits.min(width.unwrap_or(digits)));
            let value: i64 = taken.parse().ok()?;
            *rest = after;
            match letter {
                'y' => parts.year = value,
                'M' => parts.month = value,
                'd' => parts.day = value,
                'H' => parts.hour = value,
                'k' => parts.hour = if value == 24 { 0 } else { value },
                'K' => parts.hour = value,
                'h' => parts.hour = if value == 12 { 0 } else { value },
                'm' => parts.minute = value,
                's' => parts.second = value,
                _ => parts.milli = value,
            }
        }
    }
    Some(())
}

/// Finds the name with which the text begins, removes it from `rest`, and returns its place in
/// `names`. The name may be cut to three letters. `None` if the text begins with no name.
fn name(names: &[&str], rest: &mut &str) -> Option<i64> {
    for length in [usize::MAX, 3] {
        for (place, name) in (0..).zip(names) {
            let name = name.get(..length.min(name.len()))?;
            let head = rest.get(..name.len());
            if head.is_some_and(|head| head.eq_ignore_ascii_case(name)) {
                *rest = rest.get(name.len()..)?;
                return Some(place);
            }
        }
    }
    None
}

/// Reads the offset of a time zone in milliseconds: `Z`, `UTC`, `GMT`, `+01:00` or `GMT+01:00`. The
/// colon and the minutes may be missing.
fn offset(rest: &mut &str) -> Option<i64> {
    for utc in ["UTC", "GMT", "Z"] {
        if let Some(after) = rest.strip_prefix(utc) {
            *rest = after;
            if utc == "GMT" && after.starts_with(['+', '-']) {
                break;
            }
            return Some(0);
        }
    }
    let (sign, digits) = match rest.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, rest.strip_prefix('-')?),
    };
    let two = |text: &str| {
        let two = text.get(..2)?;
        two.bytes().all(|byte| byte.is_ascii_digit()).then(|| two.parse::<i64>().ok())?
    };
    let hours = two(digits)?;
    let after = digits.get(2..)?;
    let (minutes, after) = match two(after.strip_prefix(':').unwrap_or(after)) {
        Some(minutes) => (minutes, after.strip_prefix(':').unwrap_or(after).get(2..)?),
        None => (0, after),
    };
    *rest = after;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

impl Parts {
    fn millis(&self) -> Option<i64> {
        let hour = match self.half {
            Some(half) if self.hour < 12 => self.hour + 12 * half,
            Some(_) => return None,
            None => self.hour,
        };
        let within = (0..24).contains(&hour)
            && self.minute < 60
            && self.second < 60
            && self.milli < 1000
            && (1..=9_999_999).contains(&self.year);
        if !within {
            return None;
        }
        let days = days_of(self.year, self.month, self.day)?;
        let of_day = ((hour * 60 + self.minute) * 60 + self.second) * 1000 + self.milli;
        Some(days * MILLIS_PER_DAY + of_day - self.offset)
    }
}

/// The day of the week, from Monday as 0.
fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) // 1970-01-01 was a Thursday
}

fn named(names: &[&'static str], place: i64, is_short: bool) -> &'static str {
    let name = usize::try_from(place).ok().and_then(|place| names.get(place)).unwrap_or(&"");
    if is_short { name.get(..3).unwrap_or(name) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(pattern: &str, millis: i64) -> String {
        let mut out = String::new();
        Pattern::read(pattern).unwrap().write(millis, &mut out).unwrap();
        out
    }

    /// Recorded from `SimpleDateFormat` of Java 17, in UTC and English.
    #[test]
    fn a_moment_is_written_as_in_java() {
        let (late, midnight) = (1_755_850_400_345, 1_577_836_800_000);
        for (pattern, millis, text) in [
            ("yyyyMMdd", late, "20250822"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", late, "2025-08-22T08:13:20.345Z"),
            ("yyyy-MM-dd HH:mm:ss XXX", late, "2025-08-22 08:13:20 Z"),
            ("yy.M.d h:m a", late, "25.8.22 8:13 AM"),
            ("EEE, d MMM yyyy HH:mm:ss Z", late, "Fri, 22 Aug 2025 08:13:20 +0000"),
            ("EEEE MMMM D u z", late, "Friday August 234 5 UTC"),
            ("SSSSSS kk KK hh 'o''clock' ''", late, "000345 08 08 08 o'clock '"),
            ("k K h H a", midnight, "24 0 12 0 AM"),
            ("y", -1, "1969"),
        ] {
            assert_eq!(written(pattern, millis), text, "{pattern}");
        }
    }

    #[test]
    fn a_text_is_read_as_in_java() {
        for (pattern, text, millis) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2025-08-22T08:13:20.345Z", Some(1_755_850_400_345)),
            ("yyyyMMddHHmmss", "20250822081320", Some(1_755_850_400_000)),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2025-08-22T10:13:20+02:00", Some(1_755_850_400_000)),
            ("EEE, d MMM yyyy h:mm a", "Fri, 22 Aug 2025 8:13 PM", Some(1_755_893_580_000)),
            ("yyyy-MM-dd", "2025-08-22 and more", Some(1_755_820_800_000)),
            ("yyyy-MM-dd", "2025-02-30", None),
            ("yyyy-MM-dd", "2025-13-01", None),
            ("HH:mm:ss.S", "00:00:01.123456", None),
            ("yyyy", "", None),
        ] {
            assert_eq!(Pattern::read(pattern).unwrap().parse(text), millis, "{pattern}: {text}");
        }
    }

    #[test]
    fn a_pattern_that_would_mean_something_else_is_refused() {
        assert_eq!(Pattern::read("YYYY"), Err(PatternFault::Letter('Y')));
        assert_eq!(Pattern::read("yyyy'T"), Err(PatternFault::Open));
        assert_eq!(Pattern::read("yy").unwrap().is_read(), Err(PatternFault::Century));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in -60_000_000_000_000_i64..250_000_000_000_000) {
            let text = written("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", millis);
            let pattern = Pattern::read("yyyy-MM-dd'T'HH:mm:ss.SSSXXX").unwrap();
            prop_assert_eq!(pattern.parse(&text), Some(millis));
        }

        #[test]
        fn no_text_panics(pattern in "[yMdHhkKmsSaEXZz:' -]{0,12}", text in "\\PC{0,20}") {
            if let Ok(pattern) = Pattern::read(&pattern) {
                let _ = pattern.parse(&text);
            }
        }
    }
}
