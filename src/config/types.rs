//! Reads the keys of `[events]` that choose the forms of types.
//!
//! Their values have the same names as those of Debezium's connector, so `config import` copies
//! them:
//!
//! | key | option | what import adds |
//! |---|---|---|
//! | `time` | `time.precision.mode` | `structured` has no counterpart |
//! | `decimals` | `decimal.handling.mode` | |
//! | `intervals` | `interval.handling.mode` | |
//! | `hstore` | `hstore.handling.mode` | |
//! | `binary` | `binary.handling.mode` | |
//! | `money_digits` | `money.fraction.digits` | |
//! | `placeholder` | `unavailable.value.placeholder` | |
//! | `unknown_types` | `include.unknown.datatypes` | `true` is `bytes`, `false` (its default) is `drop` |

use super::document::Value;
use super::reader::Reader;
use super::value::{self, Expected};
use crate::encode::{
    BinaryMode, Code, DecimalMode, HstoreMode, IntervalMode, Modes, TimeMode, UnknownMode,
};

/// Reads the placeholder for an unchanged value: a text, or bytes as `hex:` and digits.
pub(super) fn placeholder(value: &Value) -> Result<String, Expected> {
    let text = value::any_text(value)?;
    let is_hex = |digits: &str| {
        digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match text.strip_prefix("hex:") {
        Some(digits) if !is_hex(digits) => {
            Err("a text, or \"hex:\" and an even number of hex digits".to_owned())
        }
        _ => Ok(text),
    }
}

/// Reads the keys of `[events]` that choose the forms of types. Every key is read, even after a
/// faulty one.
pub(super) fn modes(reader: &mut Reader<'_>) -> Option<Modes> {
    let times = [
        ("adaptive", TimeMode::Adaptive),
        ("adaptive_time_microseconds", TimeMode::AdaptiveTimeMicroseconds),
        ("connect", TimeMode::Connect),
        ("isostring", TimeMode::IsoString),
        ("microseconds", TimeMode::Microseconds),
        ("nanoseconds", TimeMode::Nanoseconds),
    ];
    let decimals = [
        ("precise", DecimalMode::Precise),
        ("double", DecimalMode::Double),
        ("string", DecimalMode::Text),
    ];
    let intervals = [("numeric", IntervalMode::Numeric), ("string", IntervalMode::Text)];
    let hstores = [("json", HstoreMode::Json), ("map", HstoreMode::Map)];
    let binaries = [
        ("bytes", BinaryMode::Bytes),
        ("base64", BinaryMode::Coded(Code::Base64)),
        ("base64-url-safe", BinaryMode::Coded(Code::Base64Url)),
        ("hex", BinaryMode::Coded(Code::Hex)),
    ];
    let unknowns = [UnknownMode::Text, UnknownMode::Bytes, UnknownMode::Drop]
        .map(|mode| (mode.as_str(), mode));
    let time = reader.or("events.time", value::one_of(&times), "adaptive");
    let decimals = reader.or("events.decimals", value::one_of(&decimals), "precise");
    let intervals = reader.or("events.intervals", value::one_of(&intervals), "numeric");
    let hstore = reader.or("events.hstore", value::one_of(&hstores), "json");
    let binary = reader.or("events.binary", value::one_of(&binaries), "bytes");
    let digits = value::count(0, i32::from(Modes::MONEY_DIGITS_MAX));
    let money_digits = reader.or("events.money_digits", digits, "2");
    let unknown_types = reader.or("events.unknown_types", value::one_of(&unknowns), "text");
    Some(Modes {
        time: time?,
        decimals: decimals?,
        intervals: intervals?,
        hstore: hstore?,
        binary: binary?,
        money_digits: u8::try_from(money_digits?).ok()?,
        unknown_types: unknown_types?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, check};
    use super::*;
    use expect_test::expect;

    fn modes_of(events: &str) -> Result<Modes, String> {
        let rest = "[postgres]\nurl = \"postgresql://w@h/d\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n\
                    [registry]\nurl = \"http://r\"\n[kafka]\nbrokers = [\"k:9092\"]\n[snapshot]\nmode = \"no_data\"\n";
        let loaded = check("w.toml", &format!("[events]\n{events}\n{rest}"), &Environment::new());
        loaded.map(|loaded| loaded.checked.encode.modes).map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_words_are_debeziums() {
        assert_eq!(modes_of(""), Ok(Modes::default()));
        let all = "time = \"isostring\"\ndecimals = \"string\"\nintervals = \"string\"\nhstore = \"map\"\n\
                   binary = \"base64-url-safe\"\nmoney_digits = 4\nunknown_types = \"bytes\"";
        let expected = Modes {
            time: TimeMode::IsoString,
            decimals: DecimalMode::Text,
            intervals: IntervalMode::Text,
            hstore: HstoreMode::Map,
            binary: BinaryMode::Coded(Code::Base64Url),
            money_digits: 4,
            unknown_types: UnknownMode::Bytes,
        };
        assert_eq!(modes_of(all), Ok(expected));
    }

    #[test]
    fn a_misspelt_word_is_told_with_the_nearest() {
        let faults = modes_of(
            "time = \"iso_string\"\ndecimals = \"text\"\nmoney_digits = 17\nplaceholder = \"hex:0\"\nunkown_types = \"drop\"",
        );
        expect![[r#"
            w.toml:2:1: events.time: expected one of "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds" (did you mean "isostring"?); found "iso_string"
            w.toml:3:1: events.decimals: expected one of "precise", "double", "string"; found "text"
            w.toml:4:1: events.money_digits: expected a whole number from 0 to 16, without quotes; found 17
            w.toml:5:1: events.placeholder: expected a text, or "hex:" and an even number of hex digits; found "hex:0"
            w.toml:6:1: events.unkown_types: unknown key; did you mean `unknown_types`?"#]].assert_eq(&faults.unwrap_err());
    }
}
