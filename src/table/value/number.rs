//! Reads booleans, integers, floating point numbers and points.

use super::{ValueError, around};

/// Reads a `boolean`, which is printed as `t` or `f`.
///
/// # Errors
/// The text is neither `t` nor `f`.
pub fn boolean(text: &[u8]) -> Result<bool, ValueError> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(ValueError::new("boolean", "neither t nor f")),
    }
}

/// Reads a decimal integer within `i64`, with an optional minus.
///
/// # Errors
/// The text has no digits, has other characters, or is out of range.
pub fn int(text: &[u8]) -> Result<i64, ValueError> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(ValueError::new("an integer", "no digits"));
    }
    let mut value: i64 = 0; // counted downwards, because the negative range is larger by one
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ValueError::new("an integer", "a character that is no digit"));
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(i64::from(digit)))
            .ok_or(ValueError::new("an integer", "beyond 64 bits"))?;
    }
    if negative {
        return Ok(value);
    }
    value.checked_neg().ok_or(ValueError::new("an integer", "beyond 64 bits"))
}

/// Reads a `real`, NaN and infinities included.
///
/// # Errors
/// The text is no number as Postgres prints it.
pub fn float4(text: &[u8]) -> Result<f32, ValueError> {
    float_text(text)?.parse().map_err(|_| ValueError::new("real", "not a number"))
}

/// Reads a `double precision`, NaN and infinities included.
///
/// # Errors
/// The text is no number as Postgres prints it.
pub fn float8(text: &[u8]) -> Result<f64, ValueError> {
    float_text(text)?.parse().map_err(|_| ValueError::new("double precision", "not a number"))
}

fn float_text(text: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(text).map_err(|_| ValueError::new("a floating point number", "not ASCII"))
}

/// Reads a `point`, which is printed as `(x,y)`.
///
/// # Errors
/// Parentheses or the comma are missing, or a coordinate is no number.
pub fn point(text: &[u8]) -> Result<(f64, f64), ValueError> {
    let inner = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
    let inner = inner.ok_or(ValueError::new("point", "not in parentheses"))?;
    let comma =
        inner.iter().position(|byte| *byte == b',').ok_or(ValueError::new("point", "no comma"))?;
    let (x, y) = around(inner, comma);
    Ok((float8(x)?, float8(y)?))
}

/// Appends a `pg_lsn`, or an array of `pg_lsn`, without leading zeros after each slash:
/// `0/16B3748`.
///
/// A server prints `0/016B3748` from version 19 on.
pub fn position(text: &[u8], out: &mut Vec<u8>) {
    let mut is_leading = false;
    for (at, byte) in text.iter().enumerate() {
        let is_before_digit = text.get(at + 1).is_some_and(u8::is_ascii_hexdigit);
        if is_leading && *byte == b'0' && is_before_digit {
            continue;
        }
        is_leading = *byte == b'/';
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_is_printed_alike_on_every_version() {
        for (text, printed) in [
            ("0/016B3748", "0/16B3748"),
            ("0/16B3748", "0/16B3748"),
            ("0/00000000", "0/0"),
            ("A0/F0000000", "A0/F0000000"),
            ("{0/00000001,NULL,10/0A000000}", "{0/1,NULL,10/A000000}"),
        ] {
            let mut out = Vec::new();
            position(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), printed);
        }
    }

    proptest! {
        #[test]
        fn an_integer_reads_back_as_itself(value: i64) {
            prop_assert_eq!(int(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn floats_read_back_bit_for_bit(bits: u64) {
            let value = f64::from_bits(bits);
            let read = float8(format!("{value:?}").as_bytes()).unwrap();
            prop_assert!(read.to_bits() == bits || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn no_bytes_make_them_panic(bytes: Vec<u8>) {
            let _ = (boolean(&bytes), int(&bytes), float4(&bytes), float8(&bytes), point(&bytes));
        }
    }

    #[test]
    fn refuses_what_is_out_of_range_or_not_a_number() {
        for text in
            ["", "-", "+1", "9223372036854775808", "-9223372036854775809", "1.0", "1e3", " 1"]
        {
            assert!(int(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_the_special_values_as_postgres_prints_them() {
        assert_eq!(float4(b"-Infinity"), Ok(f32::NEG_INFINITY));
        assert!(float8(b"NaN").unwrap().is_nan());
        assert_eq!(float8(b"-0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert_eq!(point(b"(-2.5,1e+300)"), Ok((-2.5, 1e300)));
        assert!(point(b"(1)").is_err() && point(b"1,2").is_err());
    }
}
