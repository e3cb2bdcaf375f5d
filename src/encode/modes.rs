//! The operator's choices for those types of Postgres that can be written in more than one form.
//!
//! The words are those of Debezium's options, such as `time.precision.mode`, so that readers of
//! Debezium's records get the same values. `wire` decides which form a column's values have under
//! these modes.

/// The chosen form of each type of Postgres that can be written in more than one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// How `date`, `time` and `timestamp` are written. Types with a time zone are text in each
    /// mode.
    pub time: TimeMode,
    /// How `numeric` and `money` are written.
    pub decimals: DecimalMode,
    /// How `interval` is written.
    pub intervals: IntervalMode,
    /// How `hstore` is written.
    pub hstore: HstoreMode,
    /// How `bytea`, the content of logical messages, and unknown types (if they are written as
    /// bytes) are written.
    pub binary: BinaryMode,
    /// Digits after the point of `money` under [`DecimalMode::Precise`], at most
    /// [`Modes::MONEY_DIGITS_MAX`].
    pub money_digits: u8,
    /// How types without a mapping of their own are written.
    pub unknown_types: UnknownMode,
}

impl Modes {
    /// The most digits after the point of a `money`. With this many digits, every `money`, which is
    /// 64 bits of hundredths, fits 128 bits. No currency has more than four.
    pub const MONEY_DIGITS_MAX: u8 = 16;
}

impl Default for Modes {
    /// Debezium's defaults, except that unknown types are written as text instead of being left
    /// out.
    fn default() -> Self {
        Modes {
            time: TimeMode::Adaptive,
            decimals: DecimalMode::Precise,
            intervals: IntervalMode::Numeric,
            hstore: HstoreMode::Json,
            binary: BinaryMode::Bytes,
            money_digits: 2,
            unknown_types: UnknownMode::Text,
        }
    }
}

/// Debezium's `time.precision.mode`: unit and type of dates, times and timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// Times and timestamps are a number of milliseconds for a column with up to three digits of a
    /// fraction, and of microseconds for any other. Dates are a number of days.
    Adaptive,
    /// Like `Adaptive`, with `time` always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Connect's own types. Times and timestamps are in milliseconds, and microseconds are cut off.
    Connect,
    /// Texts in the forms of ISO 8601.
    IsoString,
    /// Times and timestamps are a number of microseconds, whatever the column's precision. Dates
    /// are a number of days.
    Microseconds,
    /// Times and timestamps are a number of nanoseconds. A timestamp before 1677 or after 2262 has
    /// no such number. Dates are a number of days.
    Nanoseconds,
}

/// Debezium's `decimal.handling.mode`: how `numeric` and `money` are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    /// The unscaled value with its scale.
    Precise,
    /// The nearest 64-bit floating point number.
    Double,
    /// A text without an exponent.
    Text,
}

/// Debezium's `interval.handling.mode`: a number of microseconds or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalMode {
    /// A number of microseconds, with 30.4375 days for each month.
    Numeric,
    /// An ISO duration with every part.
    Text,
}

/// Debezium's `hstore.handling.mode`: a JSON text or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HstoreMode {
    /// The text of a JSON object.
    Json,
    /// A map of texts, whose values can be null.
    Map,
}

/// Debezium's `binary.handling.mode`: bytes, or a text that encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryMode {
    /// The bytes themselves, which are Base64 in JSON.
    Bytes,
    /// A text in this code.
    Coded(Code),
}

/// The code by which bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Base64 with `+`, `/` and padding (RFC 4648, section 4).
    Base64,
    /// Base64 with `-`, `_` and padding (RFC 4648, section 5).
    Base64Url,
    /// Two hexadecimal digits for each byte, in lower case.
    Hex,
}

/// How types without a mapping are written. Debezium's `include.unknown.datatypes` corresponds to
/// `Bytes` or `Drop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownMode {
    /// The text that Postgres prints.
    Text,
    /// The bytes of the text that Postgres prints, in the form of [`Modes::binary`].
    Bytes,
    /// The column is left out.
    Drop,
}

impl UnknownMode {
    /// Returns the word for the mode in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            UnknownMode::Text => "text",
            UnknownMode::Bytes => "bytes",
            UnknownMode::Drop => "drop",
        }
    }
}
