//! Reads a `numeric` as an unscaled value in two's complement or as plain text, and a `money` as a
//! number of hundredths. Nothing is rounded.

use super::{ValueError, around};

/// Digits of the largest `numeric`: 131072 before the point and 16383 after it. Reading takes
/// quadratic time beyond 38 digits, so a longer text is refused.
const DIGITS_MAX: usize = 131_072 + 16_383;

/// Digits that always fit `i128`.
const DIGITS_I128: usize = 38;

/// A `numeric` that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `NaN`, which Postgres sorts above every number.
    NotANumber,
    /// `Infinity`, which `numeric` has from Postgres 14 on.
    Infinity,
    /// `-Infinity`, which `numeric` has from Postgres 14 on.
    NegativeInfinity,
}

/// A `numeric` as read by [`decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// A number: its unscaled value is in [`DecimalScratch::unscaled`].
    Finite {
        /// Digits after the point.
        scale: u32,
    },
    /// NaN or an infinity, which have no scale.
    Special(Special),
}

/// Buffers that reading a decimal reuses.
#[derive(Debug, Default)]
pub struct DecimalScratch {
    unscaled: Vec<u8>,
    limbs: Vec<u32>,
}

impl DecimalScratch {
    /// The unscaled value of the decimal read last: two's complement, big-endian, as short as
    /// possible.
    #[must_use]
    pub fn unscaled(&self) -> &[u8] {
        &self.unscaled
    }

    /// Replaces the unscaled value by this number.
    pub fn set(&mut self, value: i128) {
        self.unscaled.clear();
        self.unscaled.extend_from_slice(shortest(&value.to_be_bytes()));
    }
}

/// Reads a `numeric`, and puts its unscaled value into `scratch`.
///
/// With `scale` the value gets exactly that many digits after the point. Without it, zeros at the
/// end of the fraction are dropped, and the digits that remain decide the scale.
///
/// # Errors
/// The text is no plain decimal number, it has more digits than Postgres can hold, or digits beyond
/// `scale` are not zero.
pub fn decimal(
    text: &[u8],
    scale: Option<u16>,
    scratch: &mut DecimalScratch,
) -> Result<Decimal, ValueError> {
    if let Some(special) = special(text) {
        return Ok(Decimal::Special(special));
    }
    let digits = Digits::split(text, scale)?;
    read_digits(digits.negative, [digits.whole, digits.fraction], digits.padding, scratch)?;
    let Ok(scale) = u32::try_from(digits.fraction.len() + digits.padding) else {
        unreachable!("more than {DIGITS_MAX} digits are refused")
    };
    Ok(Decimal::Finite { scale })
}

/// Appends a `numeric` in plain notation to `out`. With `scale` it has exactly that many digits
/// after the point, and without it the digits of `text`.
///
/// For NaN and the infinities it appends nothing, and returns which of them it is.
///
/// # Errors
/// The same as for [`decimal`]. `out` then holds a part of the text.
pub fn decimal_text(
    text: &[u8],
    scale: Option<u16>,
    out: &mut Vec<u8>,
) -> Result<Option<Special>, ValueError> {
    if let Some(special) = special(text) {
        return Ok(Some(special));
    }
    let digits = match scale {
        Some(_) => Digits::split(text, scale)?,
        None => Digits::unscaled(text)?,
    };
    if !digits.whole.iter().chain(digits.fraction).all(u8::is_ascii_digit) {
        return Err(NO_DIGIT);
    }
    out.extend_from_slice(if digits.negative { b"-" } else { b"" });
    out.extend_from_slice(if digits.whole.is_empty() { b"0" } else { digits.whole });
    if digits.fraction.len() + digits.padding > 0 {
        out.push(b'.');
        out.extend_from_slice(digits.fraction);
        out.extend(std::iter::repeat_n(b'0', digits.padding));
    }
    Ok(None)
}

fn special(text: &[u8]) -> Option<Special> {
    match text {
        b"NaN" => Some(Special::NotANumber),
        b"Infinity" => Some(Special::Infinity),
        b"-Infinity" => Some(Special::NegativeInfinity),
        _ => None,
    }
}

/// The text of a number, split at its point. Both parts may have characters that are no digits.
struct Digits<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Number of zeros to append to the fraction, so that it has the wanted length.
    padding: usize,
}

impl<'a> Digits<'a> {
    fn unscaled(text: &'a [u8]) -> Result<Self, ValueError> {
        let (negative, digits) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            Some(point) => around(digits, point),
            None => (digits, [].as_slice()),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(ValueError::new("numeric", "no digits"));
        }
        Ok(Digits { negative, whole, fraction, padding: 0 })
    }

    /// Splits a number. With `scale` the fraction gets that length. Without it, the zeros at the
    /// end of the fraction are dropped.
    fn split(text: &'a [u8], scale: Option<u16>) -> Result<Self, ValueError> {
        let mut digits = Digits::unscaled(text)?;
        let kept = scale.map_or(0, usize::from);
        while digits.fraction.len() > kept && digits.fraction.last() == Some(&b'0') {
            digits.fraction = digits.fraction.split_last().map_or(&[], |(_, shorter)| shorter);
        }
        if scale.is_some() && digits.fraction.len() > kept {
            return Err(ValueError::new(
                "numeric",
                "more digits after the point than the column's scale",
            ));
        }
        digits.padding = kept.saturating_sub(digits.fraction.len());
        Ok(digits)
    }
}

/// Reads a `money` as its number of hundredths.
///
/// The text depends on `lc_monetary`. Symbols and grouping are skipped. Parentheses or a minus mean
/// a negative amount. The last `.` or `,` is the point if two digits follow it. An amount without
/// `.` and `,` is a number of whole units.
///
/// # Errors
/// There are no digits, the amount is beyond 64 bits, or the point cannot be told from grouping, as
/// in locales without exactly two digits after the point.
pub fn money(text: &[u8]) -> Result<i64, ValueError> {
    let negative = text.iter().any(|byte| matches!(byte, b'-' | b'('));
    // The digits are summed as a negative number, because `i64` has one more of these.
    let (mut value, mut count) = (0_i64, 0_usize);
    let (mut separators, mut since) = (0_usize, 0_usize);
    let too_large = ValueError::new("money", "beyond 64 bits");
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                value = value
                    .checked_mul(10)
                    .and_then(|value| value.checked_sub(digit))
                    .ok_or(too_large)?;
                (count, since) = (count + 1, since + 1);
            }
            b'.' | b',' if count > 0 => (separators, since) = (separators + 1, 0),
            _ => {}
        }
    }
    if count == 0 {
        return Err(ValueError::new("money", "no digits"));
    }
    let factor = match (separators, since) {
        (1.., 2) => 1,
        (0, _) => 100,
        _ => return Err(ValueError::new("money", "not two digits after the point (lc_monetary)")),
    };
    let value = value.checked_mul(factor).ok_or(too_large)?;
    if negative { Ok(value) } else { value.checked_neg().ok_or(too_large) }
}

/// Puts the number that the digits of both parts and `padding` zeros form into `scratch.unscaled`.
fn read_digits(
    negative: bool,
    parts: [&[u8]; 2],
    padding: usize,
    scratch: &mut DecimalScratch,
) -> Result<(), ValueError> {
    let count = parts[0].len() + parts[1].len() + padding;
    if count > DIGITS_MAX {
        return Err(ValueError::new("numeric", "more digits than Postgres can hold"));
    }
    let zeros = std::iter::repeat_n(&b'0', padding);
    let digits = parts[0].iter().chain(parts[1]).chain(zeros).map(|byte| byte.wrapping_sub(b'0'));
    scratch.unscaled.clear();
    if count <= DIGITS_I128 {
        let mut value: i128 = 0;
        for digit in digits {
            if digit > 9 {
                return Err(NO_DIGIT);
            }
            value = value * 10 + i128::from(digit);
        }
        let bytes = if negative { -value } else { value }.to_be_bytes();
        scratch.unscaled.extend_from_slice(shortest(&bytes));
        return Ok(());
    }
    scratch.limbs.clear();
    let (mut chunk, mut power) = (0_u32, 1_u32);
    for digit in digits {
        if digit > 9 {
            return Err(NO_DIGIT);
        }
        chunk = chunk * 10 + u32::from(digit);
        power *= 10;
        if power == 1_000_000_000 {
            multiply_add(&mut scratch.limbs, power, chunk);
            (chunk, power) = (0, 1);
        }
    }
    multiply_add(&mut scratch.limbs, power, chunk);
    twos_complement(negative, scratch);
    Ok(())
}

const NO_DIGIT: ValueError = ValueError::new("numeric", "a character that is no digit");

/// Multiplies `limbs`, which is little-endian in base 2^32, by `factor` and adds `addend`.
fn multiply_add(limbs: &mut Vec<u32>, factor: u32, addend: u32) {
    let mut carry = u64::from(addend);
    for limb in limbs.iter_mut() {
        let product = u64::from(*limb) * u64::from(factor) + carry;
        *limb = low_half(product);
        carry = product >> 32;
    }
    if carry != 0 {
        limbs.push(low_half(carry));
    }
}

fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn twos_complement(negative: bool, scratch: &mut DecimalScratch) {
    let out = &mut scratch.unscaled;
    out.push(0); // room for the sign
    for limb in scratch.limbs.iter().rev() {
        out.extend_from_slice(&limb.to_be_bytes());
    }
    if negative {
        let mut carry = true;
        for byte in out.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let surplus = out.len() - shortest(out).len();
    out.drain(..surplus);
}

/// Drops leading bytes that only repeat the sign.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match (first, tail.first()) {
            (0, Some(next)) if *next < 0x80 => rest = tail,
            (0xFF, Some(next)) if *next >= 0x80 => rest = tail,
            _ => break,
        }
    }
    rest
}

/// Appends the number with this unscaled value and this scale to `out`, as Java's
/// `BigDecimal.toString` writes it.
///
/// Takes quadratic time in the number of bytes.
pub fn unscaled_text(unscaled: &[u8], scale: u32, out: &mut Vec<u8>) {
    let negative = unscaled.first().is_some_and(|byte| *byte >= 0x80);
    let mut magnitude = unscaled.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut digits = Vec::new(); // least significant first
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u16;
        for byte in &mut magnitude {
            let value = remainder << 8 | u16::from(*byte);
            let Ok(quotient) = u8::try_from(value / 10) else {
                unreachable!("a remainder below 10 before a byte is below 2560, and not {value}")
            };
            (*byte, remainder) = (quotient, value % 10);
        }
        let Ok(digit) = u8::try_from(remainder) else { unreachable!("{remainder} is no digit") };
        digits.push(b'0' + digit);
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    digits.reverse();
    if negative {
        out.push(b'-');
    }
    let scale = usize::try_from(scale).unwrap_or(usize::MAX);
    // The exponent of scientific notation is count - 1 - scale; plain notation is used down to -6.
    if scale + 1 > digits.len() + 6 {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(format!("E-{}", scale + 1 - digits.len()).as_bytes());
        return;
    }
    if digits.len() <= scale {
        digits.splice(0..0, std::iter::repeat_n(b'0', scale + 1 - digits.len()));
    }
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.extend_from_slice(whole);
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, scale: Option<u16>, expect: Expect) {
        let mut scratch = DecimalScratch::default();
        let shown = match decimal(text.as_bytes(), scale, &mut scratch) {
            Ok(Decimal::Finite { scale }) => {
                let hex: String =
                    scratch.unscaled().iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{hex} scale {scale}")
            }
            other => format!("{other:?}"),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn numbers_are_as_debezium_writes_them() {
        // Some values are those of the reference case types-numeric.
        check("1.10", Some(2), expect!["6e scale 2"]);
        check("-999.99", Some(2), expect!["fe7961 scale 2"]);
        check(
            "12345678901234567890.0123456789",
            Some(10),
            expect!["018ee90ff6c373e0ee0c04d515 scale 10"],
        );
        check("22.2200", None, expect!["08ae scale 2"]);
        check("1200.00", None, expect!["04b0 scale 0"]);
        check("100", None, expect!["64 scale 0"]);
        check("0.00", None, expect!["00 scale 0"]);
        check("0.000000000000000000000000000001", None, expect!["01 scale 30"]);
        check(
            "-123456789012345678901234567890123456789012345678901234567890.123456789",
            None,
            expect!["fb6bb52b95012f58ada8f92d6d61b0fb3950dbd71ed51e67d751c67eeb scale 9"],
        );
        check("NaN", None, expect!["Ok(Special(NotANumber))"]);
        check("-Infinity", Some(2), expect!["Ok(Special(NegativeInfinity))"]);
    }

    #[test]
    fn refuses_digits_beyond_the_scale_instead_of_rounding() {
        check(
            "1.105",
            Some(2),
            expect![[
                r#"Err(ValueError { kind: "numeric", why: "more digits after the point than the column's scale" })"#
            ]],
        );
        check("1.100", Some(2), expect!["6e scale 2"]);
        check("1.", Some(2), expect!["64 scale 2"]);
    }

    #[test]
    fn plain_text_has_the_columns_scale_or_its_own() {
        let text = |text: &str, scale| {
            let mut out = Vec::new();
            let special = decimal_text(text.as_bytes(), scale, &mut out)?;
            Ok::<_, ValueError>((special, String::from_utf8(out).unwrap()))
        };
        // Some values are those of the reference case types-numeric-string.
        for (given, scale, plain) in [
            ("1.1", Some(2), "1.10"),
            ("-0.0000000001", Some(10), "-0.0000000001"),
            ("10", Some(0), "10"),
            ("22.2200", None, "22.2200"),
            ("1.500", Some(1), "1.5"),
        ] {
            assert_eq!(text(given, scale), Ok((None, plain.to_owned())), "{given}");
        }
        assert_eq!(text("NaN", Some(2)), Ok((Some(Special::NotANumber), String::new())));
        assert!(text("1.55", Some(1)).is_err() && text("1e3", None).is_err());
    }

    #[track_caller]
    fn check_money(text: &str, expect: Expect) {
        let shown = money(text.as_bytes())
            .map_or_else(|error| error.to_string(), |cents| cents.to_string());
        expect.assert_eq(&shown);
    }

    #[test]
    fn money_reads_in_every_locale_with_two_digits_or_none() {
        check_money("$1,234.11", expect!["123411"]);
        check_money("-$1,234.11", expect!["-123411"]);
        check_money("($0.05)", expect!["-5"]);
        check_money("1.234,11 €", expect!["123411"]);
        check_money("-$92,233,720,368,547,758.08", expect!["-9223372036854775808"]);
        check_money("¥12", expect!["1200"]);
        check_money(
            "$92,233,720,368,547,758.08",
            expect!["not the text form of money: beyond 64 bits"],
        );
        check_money(
            "¥1,234",
            expect!["not the text form of money: not two digits after the point (lc_monetary)"],
        );
    }

    #[test]
    fn header_text_is_that_of_big_decimal() {
        let text = |unscaled: &[u8], scale| {
            let mut out = Vec::new();
            unscaled_text(unscaled, scale, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&[110], 2), "1.10");
        assert_eq!(text(&[0], 0), "0");
        assert_eq!(text(&[0], 2), "0.00");
        assert_eq!(text(&[1], 6), "0.000001");
        assert_eq!(text(&[1], 7), "1E-7");
        assert_eq!(text(&[0], 7), "0E-7");
        assert_eq!(text(&[123], 9), "1.23E-7");
        assert_eq!(text(&[0xff, 0x7f], 1), "-12.9");
    }

    proptest! {
        #[test]
        fn short_and_long_numbers_read_alike(value: i64, zeros in 0_usize..60) {
            // The long path, forced by zeros in front, must agree with the short one.
            let mut short = DecimalScratch::default();
            let mut long = DecimalScratch::default();
            decimal(value.to_string().as_bytes(), Some(0), &mut short).unwrap();
            let sign = if value < 0 { "-" } else { "" };
            let text = format!("{sign}{}{}", "0".repeat(zeros), value.unsigned_abs());
            decimal(text.as_bytes(), Some(0), &mut long).unwrap();
            prop_assert_eq!(short.unscaled(), long.unscaled());
            let mut bytes = [if value < 0 { 0xFF } else { 0 }; 8];
            let at = 8 - short.unscaled().len();
            bytes[at..].copy_from_slice(short.unscaled());
            prop_assert_eq!(i64::from_be_bytes(bytes), value);
        }

        #[test]
        fn a_number_reads_back_from_its_text(digits in "[1-9][0-9]{0,80}", scale in 0_u16..40, negative: bool) {
            let mut scratch = DecimalScratch::default();
            let sign = if negative { "-" } else { "" };
            let padded = format!("{digits:0>width$}", width = usize::from(scale) + 1);
            let (whole, fraction) = padded.split_at(padded.len() - usize::from(scale));
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            decimal(text.as_bytes(), Some(scale), &mut scratch).unwrap();
            let mut out = Vec::new();
            unscaled_text(scratch.unscaled(), 0, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{sign}{digits}"));
        }

        #[test]
        fn no_bytes_make_them_panic(bytes: Vec<u8>, scale in proptest::option::of(0_u16..2000)) {
            let mut scratch = DecimalScratch::default();
            let _ = decimal(&bytes, scale, &mut scratch);
            let _ = (money(&bytes), decimal_text(&bytes, scale, &mut Vec::new()));
            unscaled_text(&bytes, 3, &mut Vec::new());
        }
    }
}
