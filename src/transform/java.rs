//! Numbers and texts as Java writes them. Schema texts, JSON and header texts must be equal to
//! Java's in every character.

use std::fmt::{LowerExp, Write as _};

/// A short text on the stack.
pub(crate) struct Short {
    bytes: [u8; Self::LENGTH_MAX],
    length: usize,
}

impl Short {
    /// The longest text put here is an interval's: 56 bytes.
    const LENGTH_MAX: usize = 64;

    pub(crate) fn new() -> Self {
        Short { bytes: [0; Self::LENGTH_MAX], length: 0 }
    }

    /// Appends ASCII. A text that does not fit is left out as a whole.
    pub(crate) fn push(&mut self, text: &[u8]) {
        let end = self.length + text.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(text);
            self.length = end;
        }
    }

    /// Appends a number, with zeros in front if it has fewer than `width` digits.
    pub(crate) fn push_digits(&mut self, number: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let (mut at, mut rest) = (digits.len(), number);
        while let (1.., Some(slot)) = (rest, digits.get_mut(at.wrapping_sub(1))) {
            *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            (at, rest) = (at - 1, rest / 10);
        }
        self.push(written(&digits, at.min(20 - width.min(20)), digits.len()));
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_else(|| unreachable!("texts are pushed whole"))
    }
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Appends a number as `Double.toString` and `Float.toString` do. It has the shortest digits, and
/// at least one digit after the point. It has an exponent below 10^-3 and from 10^7 on. Values that
/// are not finite become `NaN`, `Infinity` or `-Infinity`.
pub(crate) fn push_float<T: LowerExp + Into<f64> + Copy>(value: T, out: &mut Vec<u8>) {
    let wide: f64 = value.into();
    if !wide.is_finite() {
        let name: &[u8] = if wide.is_nan() {
            b"NaN"
        } else if wide > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        };
        return out.extend_from_slice(name);
    }
    let mut short = Short::new();
    let _ = write!(short, "{value:e}"); // digits with at most one point, e, exponent; fits
    let (mantissa, exponent) = short.as_str().split_once('e').unwrap_or(("0", "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let count = digits.clone().count();
    out.extend_from_slice(sign.as_bytes());
    if wide == 0.0 {
        out.extend_from_slice(b"0.0");
    } else if (-3..0).contains(&exponent) {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent - 1).unwrap_or(0)));
        out.extend(digits);
    } else {
        let plain = (0..7).contains(&exponent);
        let whole = if plain { usize::try_from(exponent).unwrap_or(0) + 1 } else { 1 };
        out.extend(digits.clone().chain(std::iter::repeat(b'0')).take(whole));
        out.push(b'.');
        out.extend(digits.skip(whole));
        if count <= whole {
            out.push(b'0');
        }
        if !plain {
            out.push(b'E');
            push_int(i64::from(exponent), out);
        }
    }
}

/// Appends an integer in decimal.
pub(crate) fn push_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        if let (Some(slot), Ok(digit)) = (digits.get_mut(at), u8::try_from(rest % 10)) {
            *slot = b'0' + digit;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(written(&digits, at, digits.len()));
}

/// The part of `text` from `from` to `to`. It panics if there is no such part, because digits or
/// letters would be missing without notice.
#[inline]
fn written(text: &[u8], from: usize, to: usize) -> &[u8] {
    match text.get(from..to) {
        Some(part) => part,
        None => unreachable!("{from}..{to} is a part of {} bytes", text.len()),
    }
}

/// Appends `text` in quotes. It escapes what JSON must escape, as Jackson does; the rest stays
/// UTF-8.
pub(crate) fn push_json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    push_json_escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// Appends `text` with the escapes of [`push_json_text`], but without quotes.
pub(crate) fn push_json_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(written(text, from, at));
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0C => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => {
                out.extend_from_slice(b"\\u00");
                for digit in [other >> 4, other & 15] {
                    out.push(b"0123456789ABCDEF".get(usize::from(digit)).copied().unwrap_or(b'0'));
                }
            }
        }
    }
    out.extend_from_slice(written(text, from, text.len()));
}

/// Java's `String.hashCode`, with the spreading of `HashMap`. It decides the order in which
/// Debezium writes the pairs of an hstore.
pub(crate) fn hash_spread(text: &str) -> u32 {
    let hash = text
        .encode_utf16()
        .fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float<T: LowerExp + Into<f64> + Copy>(value: T) -> String {
        let mut out = Vec::new();
        push_float(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_as_in_java() {
        for (value, text) in [
            (1.25, "1.25"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1_234_567.5, "1234567.5"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(value), text);
        }
        assert_eq!(float(3.3_f32), "3.3");
        assert_eq!(float(3.402_823_5e38_f32), "3.4028235E38");
    }

    #[test]
    fn json_escapes_are_those_of_jackson() {
        let mut out = Vec::new();
        push_json_text("a\"b\\\u{1}\n\u{1f}ž\u{7f}", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\\\u0001\\n\\u001Fž\u{7f}\"");
    }

    proptest! {
        #[test]
        fn a_float_reads_back_bit_for_bit(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn an_integer_reads_back_as_itself(value: i64) {
            let mut out = Vec::new();
            push_int(value, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }

        #[test]
        fn json_text_reads_back_as_itself(text: String) {
            let mut out = Vec::new();
            push_json_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
