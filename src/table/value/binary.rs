//! Reads byte strings and bit strings, and checks that a text is UTF-8.

use super::ValueError;

/// Returns the text itself if it is UTF-8.
///
/// # Errors
/// The text is not UTF-8. A database in `SQL_ASCII` can hold such bytes.
pub fn utf8(text: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(text).map_err(|_| ValueError::new("text", "not UTF-8"))
}

/// Appends the bytes of a `bytea` in hex form (`\x0aff`) to `out`.
///
/// # Errors
/// The text has the escape form, an odd number of digits, or a character that is no hex digit.
/// `out` then holds a part of the bytes.
pub fn bytea(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    hex(text.strip_prefix(b"\\x").ok_or(ValueError::new("bytea", "not in hex form"))?, "bytea", out)
}

/// Appends the bytes of hex digits to `out`. `kind` is the name of the type, for errors.
///
/// # Errors
/// The text has an odd number of digits, or a character that is no hex digit. `out` then holds a
/// part of the bytes.
pub fn hex(digits: &[u8], kind: &'static str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ValueError::new(kind, "an odd number of digits"));
    }
    out.reserve(pairs.len());
    for [high, low] in pairs {
        match (HEX.get(usize::from(*high)), HEX.get(usize::from(*low))) {
            (Some(high), Some(low)) if (high | low) < 16 => out.push(high << 4 | low),
            _ => return Err(ValueError::new(kind, "a character that is no hex digit")),
        }
    }
    Ok(())
}

/// The value of each byte as a hex digit, or 255 for a byte that is none. A digit costs one
/// look-up.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut digit: u8 = 0;
    while digit < 16 {
        let (lower, upper) =
            (b"0123456789abcdef"[digit as usize], b"0123456789ABCDEF"[digit as usize]);
        table[lower as usize] = digit;
        table[upper as usize] = digit;
        digit += 1;
    }
    table
};

/// Appends the bytes of a bit string to `out`. The last bit is the lowest bit of the first byte.
/// Zero bytes at the end are left out.
///
/// # Errors
/// A character is neither 0 nor 1. `out` then holds a part of the bytes.
pub fn bits(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let start = out.len();
    for chunk in text.rchunks(8) {
        let mut byte = 0_u8;
        for bit in chunk {
            match bit {
                b'0' => byte <<= 1,
                b'1' => byte = byte << 1 | 1,
                _ => {
                    return Err(ValueError::new(
                        "a bit string",
                        "a character that is neither 0 nor 1",
                    ));
                }
            }
        }
        out.push(byte);
    }
    while out.len() > start && out.last() == Some(&0) {
        out.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(
        read: fn(&[u8], &mut Vec<u8>) -> Result<(), ValueError>,
        text: &str,
    ) -> Result<Vec<u8>, ValueError> {
        let mut out = Vec::new();
        read(text.as_bytes(), &mut out).map(|()| out)
    }

    proptest! {
        #[test]
        fn hex_reads_back_as_its_bytes(bytes: Vec<u8>) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(bytes_of(bytea, &format!("\\x{text}")), Ok(bytes));
        }

        #[test]
        fn a_bit_string_is_its_number_little_endian(number: u64) {
            let bytes = bytes_of(bits, &format!("{number:b}")).unwrap();
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(u64::from_le_bytes(padded), number);
            prop_assert_ne!(bytes.last(), Some(&0));
        }

        #[test]
        fn no_bytes_make_them_panic(text: Vec<u8>) {
            let _ = (bytea(&text, &mut Vec::new()), bits(&text, &mut Vec::new()), utf8(&text));
        }
    }

    #[test]
    fn bit_strings_are_as_debezium_writes_them() {
        // Some values are those of the reference case binary-bytes.
        assert_eq!(bytes_of(bits, "000000110000001000000001"), Ok(vec![1, 2, 3]));
        assert_eq!(bytes_of(bits, "1000000"), Ok(vec![0x40]));
        assert_eq!(bytes_of(bits, "00"), Ok(vec![]));
        assert_eq!(bytes_of(bits, ""), Ok(vec![]));
    }

    #[test]
    fn refuses_the_escape_form_of_bytea() {
        for text in ["abc", "\\001", "\\x0", "\\x0g"] {
            assert!(bytes_of(bytea, text).is_err(), "{text:?}");
        }
    }
}
