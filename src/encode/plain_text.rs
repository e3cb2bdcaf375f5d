//! The text of a value that a transform converts, hashes or tests in an expression.

use super::form::{Form, Pair, Temporal, Union, push_code};
use super::header::HeaderValue;
use super::java::push_int;
use super::modes::Code;

/// A single value as its plain text. No bytes mark a value as not null. Null is the byte 0xFF,
/// which no UTF-8 text has.
pub(super) struct PlainText;

/// The byte that is written for null.
pub(super) const NULL: &[u8] = &[0xFF];

impl Form for PlainText {
    fn null(_union: Union, out: &mut Vec<u8>) {
        out.extend_from_slice(NULL);
    }

    fn some(_union: Union, _out: &mut Vec<u8>) {}

    fn boolean(value: bool, out: &mut Vec<u8>) {
        HeaderValue::boolean(value, out);
    }

    fn int(value: i64, out: &mut Vec<u8>) {
        push_int(value, out);
    }

    /// Writes the number of days or milliseconds.
    fn temporal(_kind: Temporal, value: i64, out: &mut Vec<u8>) {
        push_int(value, out);
    }

    fn float4(value: f32, out: &mut Vec<u8>) {
        HeaderValue::float4(value, out);
    }

    fn float8(value: f64, out: &mut Vec<u8>) {
        HeaderValue::float8(value, out);
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        HeaderValue::text(value, out);
    }

    fn bytes(value: &[u8], out: &mut Vec<u8>) {
        push_code(Code::Base64, value, out);
    }

    fn decimal(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
        HeaderValue::decimal(unscaled, scale, out);
    }

    fn list_open(count: usize, out: &mut Vec<u8>) {
        HeaderValue::list_open(count, out);
    }

    fn element(first: bool, out: &mut Vec<u8>) {
        HeaderValue::element(first, out);
    }

    fn list_close(count: usize, out: &mut Vec<u8>) {
        HeaderValue::list_close(count, out);
    }

    fn map_open(count: usize, out: &mut Vec<u8>) {
        HeaderValue::map_open(count, out);
    }

    fn map_key(first: bool, key: &str, out: &mut Vec<u8>) {
        HeaderValue::map_key(first, key, out);
    }

    fn map_close(count: usize, out: &mut Vec<u8>) {
        HeaderValue::map_close(count, out);
    }

    fn pair(part: Pair, out: &mut Vec<u8>) {
        HeaderValue::pair(part, out);
    }

    fn struct_open(out: &mut Vec<u8>) {
        HeaderValue::struct_open(out);
    }

    fn field(first: bool, name: &str, out: &mut Vec<u8>) {
        HeaderValue::field(first, name, out);
    }

    fn struct_close(out: &mut Vec<u8>) {
        HeaderValue::struct_close(out);
    }
}
