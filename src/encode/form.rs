//! The forms in which a value can be written: Avro, JSON, and the text of a struct in a record
//! header.
//!
//! A form says how null, numbers, texts, lists and structs are written. `transcode` and `envelope`
//! say, for all forms, of which of these a value is made. Nothing here knows a column.

use super::java::{push_float, push_int, push_json_escaped, push_json_text};
use super::modes::Code;
use super::moment::temporal_text;
use crate::table::value::unscaled_text;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

pub(super) use crate::transform::shape::{Temporal, Union};

/// A place in an entry of a map whose keys are not texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    BeforeKey,
    BeforeValue,
    AfterValue,
}

/// How values look in one form. All functions append to `out`.
pub(super) trait Form {
    /// Writes null in an optional field.
    fn null(union: Union, out: &mut Vec<u8>);
    /// Writes the bytes that mark a value as not null, such as the number of Avro's union branch.
    fn some(union: Union, out: &mut Vec<u8>);
    fn boolean(value: bool, out: &mut Vec<u8>);
    /// Writes an integer of any width.
    fn int(value: i64, out: &mut Vec<u8>);
    /// Writes a value of one of Connect's own temporal types: a number of days since 1970, or of
    /// milliseconds of a day or since 1970.
    fn temporal(kind: Temporal, value: i64, out: &mut Vec<u8>);
    fn float4(value: f32, out: &mut Vec<u8>);
    fn float8(value: f64, out: &mut Vec<u8>);
    fn text(value: &str, out: &mut Vec<u8>);
    fn bytes(value: &[u8], out: &mut Vec<u8>);
    /// Writes a decimal, given its unscaled value and the scale of its schema.
    fn decimal(unscaled: &[u8], scale: u32, out: &mut Vec<u8>);
    /// Writes the begin of a list of `count` elements.
    fn list_open(count: usize, out: &mut Vec<u8>);
    /// Writes the bytes before an element of a list. `first` is true for the first element.
    fn element(first: bool, out: &mut Vec<u8>);
    /// Writes the end of a list.
    fn list_close(count: usize, out: &mut Vec<u8>);
    /// Writes the begin of a map of `count` entries, whose keys are texts. The caller then writes
    /// each key and its value.
    fn map_open(count: usize, out: &mut Vec<u8>);
    /// Writes the key of a map's entry, with the bytes around the key.
    fn map_key(first: bool, key: &str, out: &mut Vec<u8>);
    fn map_close(count: usize, out: &mut Vec<u8>);
    /// Writes the bytes at one place in an entry of a map whose keys are not texts. Such a map is
    /// written as a list.
    fn pair(part: Pair, out: &mut Vec<u8>);
    fn struct_open(out: &mut Vec<u8>);
    /// Writes the bytes before the value of a struct's field: the separator and the name in JSON,
    /// and none in Avro.
    fn field(first: bool, name: &str, out: &mut Vec<u8>);
    fn struct_close(out: &mut Vec<u8>);
}

/// Avro's binary encoding, without Confluent's header. The plan adds this header.
pub(super) struct Avro;

/// Appends a variable-length zig-zag integer, as Avro writes `int`, `long`, lengths and the numbers
/// of union branches.
pub(super) fn avro_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    if rest < 0x80 {
        return out.push(low_seven_bits(rest));
    }
    let length = (64 - rest.leading_zeros()).div_ceil(7) as usize;
    // All ten bytes are computed, because this needs no branches. The bytes that count are kept.
    let mut bytes = [0_u8; 10];
    for byte in &mut bytes {
        *byte = low_seven_bits(rest) | 0x80;
        rest >>= 7;
    }
    if let Some(last) = bytes.get_mut(length - 1) {
        *last &= 0x7F;
    }
    let Some(written) = bytes.get(..length) else {
        unreachable!("64 bits take ten bytes of seven, not {length}")
    };
    out.extend_from_slice(written);
}

fn low_seven_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7F
}

fn avro_length(length: usize, out: &mut Vec<u8>) {
    let Ok(length) = i64::try_from(length) else {
        unreachable!("{length} bytes or elements are more than the memory holds")
    };
    avro_long(length, out);
}

impl Form for Avro {
    fn null(union: Union, out: &mut Vec<u8>) {
        match union {
            Union::Required => {}
            Union::NullFirst => out.push(0),
            Union::NullLast => out.push(2),
        }
    }

    fn some(union: Union, out: &mut Vec<u8>) {
        match union {
            Union::Required => {}
            Union::NullFirst => out.push(2),
            Union::NullLast => out.push(0),
        }
    }

    fn boolean(value: bool, out: &mut Vec<u8>) {
        out.push(u8::from(value));
    }

    fn int(value: i64, out: &mut Vec<u8>) {
        avro_long(value, out);
    }

    fn temporal(_kind: Temporal, value: i64, out: &mut Vec<u8>) {
        Self::int(value, out);
    }

    fn float4(value: f32, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn float8(value: f64, out: &mut Vec<u8>) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        Self::bytes(value.as_bytes(), out);
    }

    fn bytes(value: &[u8], out: &mut Vec<u8>) {
        avro_length(value.len(), out);
        out.extend_from_slice(value);
    }

    fn decimal(unscaled: &[u8], _scale: u32, out: &mut Vec<u8>) {
        Self::bytes(unscaled, out);
    }

    fn list_open(count: usize, out: &mut Vec<u8>) {
        if count > 0 {
            avro_length(count, out);
        }
    }

    fn element(_first: bool, _out: &mut Vec<u8>) {}

    fn list_close(_count: usize, out: &mut Vec<u8>) {
        out.push(0);
    }

    fn map_open(count: usize, out: &mut Vec<u8>) {
        Self::list_open(count, out);
    }

    fn map_key(_first: bool, key: &str, out: &mut Vec<u8>) {
        Self::text(key, out);
    }

    fn map_close(count: usize, out: &mut Vec<u8>) {
        Self::list_close(count, out);
    }

    fn pair(_part: Pair, _out: &mut Vec<u8>) {}

    fn struct_open(_out: &mut Vec<u8>) {}

    fn field(_first: bool, _name: &str, _out: &mut Vec<u8>) {}

    fn struct_close(_out: &mut Vec<u8>) {}
}

/// JSON as Kafka's JsonConverter writes it: bytes and decimals in base64.
pub(super) struct Json;

impl Form for Json {
    fn null(_union: Union, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }

    fn some(_union: Union, _out: &mut Vec<u8>) {}

    fn boolean(value: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn int(value: i64, out: &mut Vec<u8>) {
        push_int(value, out);
    }

    fn temporal(_kind: Temporal, value: i64, out: &mut Vec<u8>) {
        Self::int(value, out);
    }

    fn float4(value: f32, out: &mut Vec<u8>) {
        Self::float8_or_name(value.is_finite(), out, |out| push_float(value, out));
    }

    fn float8(value: f64, out: &mut Vec<u8>) {
        Self::float8_or_name(value.is_finite(), out, |out| push_float(value, out));
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        push_json_text(value, out);
    }

    fn bytes(value: &[u8], out: &mut Vec<u8>) {
        push_base64(value, out);
    }

    fn decimal(unscaled: &[u8], _scale: u32, out: &mut Vec<u8>) {
        push_base64(unscaled, out);
    }

    fn list_open(_count: usize, out: &mut Vec<u8>) {
        out.push(b'[');
    }

    fn element(first: bool, out: &mut Vec<u8>) {
        if !first {
            out.push(b',');
        }
    }

    fn list_close(_count: usize, out: &mut Vec<u8>) {
        out.push(b']');
    }

    fn map_open(_count: usize, out: &mut Vec<u8>) {
        Self::struct_open(out);
    }

    fn map_key(first: bool, key: &str, out: &mut Vec<u8>) {
        Self::field(first, key, out);
    }

    fn map_close(_count: usize, out: &mut Vec<u8>) {
        Self::struct_close(out);
    }

    fn pair(part: Pair, out: &mut Vec<u8>) {
        out.push(match part {
            Pair::BeforeKey => b'[',
            Pair::BeforeValue => b',',
            Pair::AfterValue => b']',
        });
    }

    fn struct_open(out: &mut Vec<u8>) {
        out.push(b'{');
    }

    fn field(first: bool, name: &str, out: &mut Vec<u8>) {
        Self::element(first, out);
        push_json_text(name, out);
        out.push(b':');
    }

    fn struct_close(out: &mut Vec<u8>) {
        out.push(b'}');
    }
}

impl Json {
    /// Appends the number that `push` writes. JSON has no number for NaN and the infinities, so the
    /// names of these values get quotes.
    fn float8_or_name(finite: bool, out: &mut Vec<u8>, push: impl Fn(&mut Vec<u8>)) {
        if !finite {
            out.push(b'"');
        }
        push(out);
        if !finite {
            out.push(b'"');
        }
    }
}

fn push_base64(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_code(Code::Base64, value, out);
    out.push(b'"');
}

/// Appends bytes as the text that `code` makes of them.
pub(super) fn push_code(code: Code, value: &[u8], out: &mut Vec<u8>) {
    let engine = match code {
        Code::Base64 => &STANDARD,
        Code::Base64Url => &URL_SAFE,
        Code::Hex => {
            let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
            return out.extend(value.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        }
    };
    let at = out.len();
    out.resize(at + value.len().div_ceil(3) * 4, 0);
    let written = out.get_mut(at..).and_then(|room| engine.encode_slice(value, room).ok());
    let Some(written) = written else {
        unreachable!("four characters for each three bytes hold every Base64 text")
    };
    assert!(at + written == out.len(), "the room is exactly what the padded text takes");
}

/// The text of a struct in a record header, as Connect's SimpleHeaderConverter writes it: like
/// JSON, but decimals are plain numbers and only quotes and backslashes are escaped.
pub(super) struct HeaderText;

impl Form for HeaderText {
    fn null(union: Union, out: &mut Vec<u8>) {
        Json::null(union, out);
    }

    fn some(_union: Union, _out: &mut Vec<u8>) {}

    fn boolean(value: bool, out: &mut Vec<u8>) {
        Json::boolean(value, out);
    }

    fn int(value: i64, out: &mut Vec<u8>) {
        push_int(value, out);
    }

    fn temporal(kind: Temporal, value: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(temporal_text(kind, value).as_str().as_bytes());
    }

    fn float4(value: f32, out: &mut Vec<u8>) {
        push_float(value, out);
    }

    fn float8(value: f64, out: &mut Vec<u8>) {
        push_float(value, out);
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        out.push(b'"');
        for byte in value.bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }

    fn bytes(value: &[u8], out: &mut Vec<u8>) {
        push_base64(value, out);
    }

    fn decimal(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
        unscaled_text(unscaled, scale, out);
    }

    fn list_open(count: usize, out: &mut Vec<u8>) {
        Json::list_open(count, out);
    }

    fn element(first: bool, out: &mut Vec<u8>) {
        Json::element(first, out);
    }

    fn list_close(count: usize, out: &mut Vec<u8>) {
        Json::list_close(count, out);
    }

    fn map_open(_count: usize, out: &mut Vec<u8>) {
        Self::struct_open(out);
    }

    fn map_key(first: bool, key: &str, out: &mut Vec<u8>) {
        Json::element(first, out);
        Self::text(key, out);
        out.push(b':');
    }

    fn map_close(_count: usize, out: &mut Vec<u8>) {
        Self::struct_close(out);
    }

    fn pair(part: Pair, out: &mut Vec<u8>) {
        Json::pair(part, out);
    }

    fn struct_open(out: &mut Vec<u8>) {
        out.push(b'{');
    }

    fn field(first: bool, name: &str, out: &mut Vec<u8>) {
        Json::element(first, out);
        out.push(b'"');
        push_json_escaped(name.as_bytes(), out);
        out.extend_from_slice(b"\":");
    }

    fn struct_close(out: &mut Vec<u8>) {
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn avro_integers_read_back_with_apache_avro(value: i64) {
            let mut out = Vec::new();
            avro_long(value, &mut out);
            let schema = apache_avro::Schema::Long;
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
            let read = reader.read_value(&mut out.as_slice()).unwrap();
            prop_assert_eq!(read, apache_avro::types::Value::Long(value));
        }
    }
}
