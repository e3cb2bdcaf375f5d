//! What can be chosen about the forms of types.
//!
//! The words are Debezium's (`time.precision.mode` and its siblings), so that its readers get what
//! they got. Which form a column's values have under them is `wire`'s business.

/// The forms of the types that have more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// `date`, `time` and `timestamp`; those with a time zone are text in each mode.
    pub time: TimeMode,
    /// How `numeric` and `money` are written.
    pub decimals: DecimalMode,
    /// How `interval` is written.
    pub intervals: IntervalMode,
    /// How `hstore` is written.
    pub hstore: HstoreMode,
    /// `bytea`, the content of logical messages, and unknown types as bytes.
    pub binary: BinaryMode,
    /// Digits after the point of a precise `money`, at most [`Modes::MONEY_DIGITS_MAX`].
    pub money_digits: u8,
    /// Types without a mapping of their own.
    pub unknown_types: UnknownMode,
}

impl Modes {
    /// 64 bits of hundredths with these digits after the point fit 128 bits; no currency has more
    /// than four.
    pub const MONEY_DIGITS_MAX: u8 = 16;
}

impl Default for Modes {
    /// Debezium's defaults, but unknown types are text instead of being left out.
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
    /// Milliseconds up to three digits of a fraction, else microseconds.
    Adaptive,
    /// As `Adaptive`, with `time` always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Connect's own types, in milliseconds: microseconds are cut off.
    Connect,
    /// Texts in the forms of ISO 8601.
    IsoString,
    /// A number of microseconds, whatever the column's precision.
    Microseconds,
    /// Nanoseconds; a timestamp before 1677 or after 2262 has none.
    Nanoseconds,
}

/// Debezium's `decimal.handling.mode`: how `numeric` and `money` are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    /// Unscaled value and scale.
    Precise,
    /// The nearest 64-bit floating point number.
    Double,
    /// A text without an exponent.
    Text,
}

/// Debezium's `interval.handling.mode`: a number of microseconds or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalMode {
    /// Microseconds, a month being 30.4375 days.
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
    /// Bytes in Avro, Base64 in JSON.
    Bytes,
    /// Text in one of these.
    Coded(Code),
}

/// The code by which bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Base64 with `+`, `/` and padding (RFC 4648, section 4).
    Base64,
    /// The same with `-` and `_`, padded too.
    Base64Url,
    /// Two digits a byte, in lower case.
    Hex,
}

/// Ours; Debezium's `include.unknown.datatypes` is `Bytes` or `Drop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownMode {
    /// The text Postgres prints.
    Text,
    /// The bytes of that text, in the form of `binary`.
    Bytes,
    /// The column is left out.
    Drop,
}

impl UnknownMode {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            UnknownMode::Text => "text",
            UnknownMode::Bytes => "bytes",
            UnknownMode::Drop => "drop",
        }
    }
}
