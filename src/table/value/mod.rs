//! Text forms of Postgres values, read exactly.
//!
//! This room has pure functions, one for each kind. They turn the bytes that a server sends into
//! numbers, days, microseconds and bytes. They expect the settings that we force on every
//! connection (`DateStyle ISO`, `IntervalStyle postgres`, `TimeZone UTC`, `bytea_output hex`,
//! `extra_float_digits 3`), and they refuse any other form. Nothing is rounded or clamped here, and
//! no input causes a panic. `encode` decides what a schema can hold.

mod array;
mod binary;
mod decimal;
mod extension;
mod hstore;
mod interval;
mod number;
mod temporal;

pub use array::{Array, Element};
pub use binary::{bits, bytea, hex, utf8};
pub use decimal::{Decimal, DecimalScratch, Special, decimal, decimal_text, money, unscaled_text};
pub use extension::{SparseVector, geometry, spaced, vector};
pub use hstore::{Hstore, HstorePair};
pub use interval::{Interval, IntervalParts, interval};
pub use number::{boolean, float4, float8, int, point, position};
pub use temporal::{
    Days, MICROS_PER_DAY, Moment, ZonedTime, civil_of, date, days_of, time, timestamp, timestamptz,
    timetz,
};

/// The bytes before and after the byte at `at`, which the caller has found in `text`.
///
/// # Panics
/// `at` lies beyond the text, which is a fault of the caller.
#[inline]
fn around(text: &[u8], at: usize) -> (&[u8], &[u8]) {
    match text.split_at_checked(at) {
        Some((before, [_, behind @ ..])) => (before, behind),
        Some((_, [])) | None => unreachable!("byte {at} was found in {} bytes", text.len()),
    }
}

/// The error about a text that does not have the form of its type.
///
/// The error names the type and the fault, and never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the text form of {kind}: {why}")]
pub struct ValueError {
    /// The type whose form was expected.
    pub kind: &'static str,
    /// How the text differs from the form of the type, such as "no digits".
    pub why: &'static str,
}

impl ValueError {
    pub(crate) const fn new(kind: &'static str, why: &'static str) -> Self {
        ValueError { kind, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_around_a_byte_of_it() {
        assert_eq!(around(b"a,bc", 1), (b"a".as_slice(), b"bc".as_slice()));
        assert_eq!(around(b",", 0), (b"".as_slice(), b"".as_slice()));
    }

    #[test]
    #[should_panic(expected = "byte 2 was found in 2 bytes")]
    fn a_byte_beyond_the_text_is_no_empty_value() {
        let _ = around(b"ab", 2);
    }
}
