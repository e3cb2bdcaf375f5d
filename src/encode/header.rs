//! The text of a header whose value is no struct, map or list. The value has the same text in a
//! struct, except that texts and bytes have quotes there, and that texts are escaped.

use super::form::{Form, HeaderText, Pair, Temporal, Union};
use super::java::push_float;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A header's single value as Connect's SimpleHeaderConverter writes it.
pub(super) struct HeaderValue;

impl Form for HeaderValue {
    fn null(union: Union, out: &mut Vec<u8>) {
        HeaderText::null(union, out);
    }

    fn some(_union: Union, _out: &mut Vec<u8>) {}

    fn boolean(value: bool, out: &mut Vec<u8>) {
        HeaderText::boolean(value, out);
    }

    fn int(value: i64, out: &mut Vec<u8>) {
        HeaderText::int(value, out);
    }

    fn temporal(kind: Temporal, value: i64, out: &mut Vec<u8>) {
        HeaderText::temporal(kind, value, out);
    }

    fn float4(value: f32, out: &mut Vec<u8>) {
        push_float(value, out);
    }

    fn float8(value: f64, out: &mut Vec<u8>) {
        push_float(value, out);
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(value.as_bytes());
    }

    fn bytes(value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
    }

    fn decimal(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
        HeaderText::decimal(unscaled, scale, out);
    }

    fn list_open(count: usize, out: &mut Vec<u8>) {
        HeaderText::list_open(count, out);
    }

    fn element(first: bool, out: &mut Vec<u8>) {
        HeaderText::element(first, out);
    }

    fn list_close(count: usize, out: &mut Vec<u8>) {
        HeaderText::list_close(count, out);
    }

    fn map_open(count: usize, out: &mut Vec<u8>) {
        HeaderText::map_open(count, out);
    }

    fn map_key(first: bool, key: &str, out: &mut Vec<u8>) {
        HeaderText::map_key(first, key, out);
    }

    fn map_close(count: usize, out: &mut Vec<u8>) {
        HeaderText::map_close(count, out);
    }

    fn pair(part: Pair, out: &mut Vec<u8>) {
        HeaderText::pair(part, out);
    }

    fn struct_open(out: &mut Vec<u8>) {
        HeaderText::struct_open(out);
    }

    fn field(first: bool, name: &str, out: &mut Vec<u8>) {
        HeaderText::field(first, name, out);
    }

    fn struct_close(out: &mut Vec<u8>) {
        HeaderText::struct_close(out);
    }
}
