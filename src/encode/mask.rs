//! Applies masks: computes the text in place of a value, and in place of null.
//!
//! A mask is made once for each column. The row path passes a value's text and a buffer that is
//! used again. The salt is hashed when the mask is made. A row then only costs the hashing of its
//! own value.

use super::literal::Literal;
use super::rules::{Algorithm, HashRule, Method, Payload};
use super::wire::Wire;
use crate::table::{ColumnKind, SourceType};
use md5::{Digest as _, Md5};
use openssl::sha::{Sha1, Sha224, Sha256, Sha384, Sha512};
use std::fmt;

/// A mask of one column.
#[derive(Clone, Debug)]
pub(super) enum Mask {
    /// The same stars for every value, also for null.
    Stars(Box<str>),
    Hash(Box<Hash>),
    /// The first `units` UTF-16 units of a text, or the first `units` bytes of a `bytea`.
    Cut {
        units: usize,
        bytes: bool,
    },
}

/// The kinds of values, as masks distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The column has a type that Debezium treats as a character type. An enum is one.
    Characters,
    /// The value is a text of a type that is no character type, such as `json`. Debezium's stars
    /// and hashes let such a value pass unmasked.
    Text,
    Bytes,
    /// No mask has a form for the value.
    Other,
}

pub(super) fn holds(kind: &ColumnKind, wire: &Wire) -> Holds {
    match (kind, wire) {
        (ColumnKind::Text | ColumnKind::Enum { .. }, _) => Holds::Characters,
        (
            _,
            Wire::Text
            | Wire::Json
            | Wire::Xml
            | Wire::Uuid
            | Wire::Ltree
            | Wire::Tsvector
            | Wire::PositionText,
        ) => Holds::Text,
        (_, Wire::Bytes) => Holds::Bytes,
        _ => Holds::Other,
    }
}

impl Mask {
    /// Makes the mask of a column. `holds` is the kind of the column's values. `source` has the
    /// column's declared length, to which a hash is cut.
    pub(super) fn new(method: &Method, holds: Holds, source: &SourceType) -> Self {
        match method {
            Method::Stars(count) => Mask::Stars("*".repeat(*count).into()),
            Method::Hash(rule) => Mask::Hash(Box::new(Hash::new(rule, source.length))),
            Method::Truncate(units) => Mask::Cut { units: *units, bytes: holds == Holds::Bytes },
        }
    }

    /// Returns the text that replaces null. `None` if null stays null.
    pub(super) fn null(&self) -> Option<&str> {
        match self {
            Mask::Stars(stars) => Some(stars),
            Mask::Hash(_) | Mask::Cut { .. } => None,
        }
    }

    /// Returns the text that replaces `text`. A hash is written into `buffer`. Stars and the part
    /// of the given text need no buffer.
    pub(super) fn text<'a>(&'a self, text: &'a str, buffer: &'a mut String) -> &'a str {
        match self {
            Mask::Stars(stars) => stars,
            Mask::Hash(hash) => {
                buffer.clear();
                hash.push(text, buffer);
                buffer
            }
            Mask::Cut { units, .. } => cut(text, *units),
        }
    }

    /// Masks a value that is known when a plan is made, such as a default. `None` is null, which
    /// stays null unless the mask replaces null.
    pub(super) fn literal(&self, literal: Option<Literal>) -> Option<Literal> {
        match (self, literal) {
            (Mask::Cut { units, bytes: true }, Some(Literal::Bytes(mut bytes))) => {
                bytes.truncate(*units);
                Some(Literal::Bytes(bytes))
            }
            (_, Some(Literal::Text(text))) => {
                Some(Literal::Text(self.text(&text, &mut String::new()).to_owned()))
            }
            (_, None) => self.null().map(|stars| Literal::Text(stars.to_owned())),
            // Only a column of texts or bytes has a mask. Such a column has no literal of another
            // kind, so this arm lets nothing pass unmasked.
            (_, other) => other,
        }
    }
}

/// Returns the first `units` UTF-16 units of a text. A character of two units is left out rather
/// than split.
fn cut(text: &str, units: usize) -> &str {
    if text.len() <= units {
        return text; // a unit takes at least a byte
    }
    // In ASCII, with which most texts begin, each byte is one unit.
    if let Some(start) = text.get(..units).filter(|start| start.is_ascii()) {
        return start;
    }
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += c.len_utf16();
        if taken > units {
            return text.split_at(at).0;
        }
    }
    text
}

/// A hash over salt and value, written in hexadecimal.
#[derive(Clone)]
pub(super) struct Hash {
    /// The state of the hash after the salt was hashed.
    salted: State,
    payload: Payload,
    /// The most hexadecimal digits that are written: the declared length of the column, if it has
    /// one.
    digits: usize,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash")
            .field("payload", &self.payload)
            .field("digits", &self.digits)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum State {
    Md5(Md5),
    Sha1(Sha1),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl State {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha224 => State::Sha224(Sha224::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Sha384::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha224(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    fn push_digits(self, digits: usize, out: &mut String) {
        match self {
            State::Md5(state) => push_hex(&state.finalize(), digits, out),
            State::Sha1(state) => push_hex(&state.finish(), digits, out),
            State::Sha224(state) => push_hex(&state.finish(), digits, out),
            State::Sha256(state) => push_hex(&state.finish(), digits, out),
            State::Sha384(state) => push_hex(&state.finish(), digits, out),
            State::Sha512(state) => push_hex(&state.finish(), digits, out),
        }
    }
}

/// Bytes of the longest hash.
const HASH_BYTES_MAX: usize = 64;

/// Appends the first `digits` hexadecimal digits of `bytes`.
fn push_hex(bytes: &[u8], digits: usize, out: &mut String) {
    // The digits are appended in one piece, because single characters would cost as much as the
    // hash of a short value.
    let mut hex = [[0_u8; 2]; HASH_BYTES_MAX];
    for (pair, byte) in hex.iter_mut().zip(bytes) {
        *pair = [byte >> 4, byte & 15]
            .map(|half| if half < 10 { b'0' + half } else { b'a' + half - 10 });
    }
    let Some(hex) = hex.as_flattened().get(..digits.min(bytes.len() * 2)) else {
        unreachable!("a hash of {} bytes is longer than {HASH_BYTES_MAX}", bytes.len());
    };
    let Ok(hex) = std::str::from_utf8(hex) else { unreachable!("hexadecimal digits are ASCII") };
    out.push_str(hex);
}

/// The bytes that Java's serialisation writes before the length of a string of up to 65535 bytes.
/// `JAVA_LONG_STRING` is for a longer string.
const JAVA_STRING: [u8; 5] = [0xAC, 0xED, 0, 5, 0x74];
const JAVA_LONG_STRING: [u8; 5] = [0xAC, 0xED, 0, 5, 0x7C];

impl Hash {
    fn new(rule: &HashRule, length: i32) -> Self {
        let mut salted = State::new(rule.algorithm);
        salted.update(rule.salt.bytes());
        let digits =
            usize::try_from(length).ok().filter(|length| *length > 0).unwrap_or(usize::MAX);
        Hash { salted, payload: rule.payload, digits }
    }

    fn push(&self, text: &str, out: &mut String) {
        let mut state = self.salted.clone();
        match self.payload {
            Payload::Plain => state.update(text.as_bytes()),
            Payload::JavaSerialised => {
                let length: usize = text.chars().map(modified_utf8_len).sum();
                match u16::try_from(length) {
                    Ok(length) => {
                        state.update(&JAVA_STRING);
                        state.update(&length.to_be_bytes());
                    }
                    Err(_) => {
                        state.update(&JAVA_LONG_STRING);
                        state.update(&(length as u64).to_be_bytes());
                    }
                }
                modified_utf8(text, |bytes| state.update(bytes));
            }
        }
        state.push_digits(self.digits, out);
    }
}

/// Returns the number of bytes of a character in Java's serialisation. NUL takes two bytes, and a
/// character of two UTF-16 units takes three bytes for each unit. Any other takes its bytes in
/// UTF-8.
fn modified_utf8_len(c: char) -> usize {
    match c {
        '\0' => 2,
        c if c.len_utf16() == 2 => 6,
        c => c.len_utf8(),
    }
}

fn modified_utf8(text: &str, mut push: impl FnMut(&[u8])) {
    let is_other = |c: char| c == '\0' || c.len_utf16() == 2;
    let mut rest = text;
    while let Some(at) = rest.find(is_other) {
        let (plain, from) = rest.split_at(at);
        push(plain.as_bytes());
        let mut chars = from.chars();
        match chars.next() {
            Some('\0') | None => push(&[0xC0, 0x80]),
            Some(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes();
                    push(&[0xE0 | high >> 4, 0x80 | (high & 15) << 2 | low >> 6, 0x80 | low & 63]);
                }
            }
        }
        rest = chars.as_str();
    }
    push(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::rules::Salt;
    use super::*;
    use proptest::prelude::*;

    fn hashed(
        algorithm: Algorithm,
        payload: Payload,
        salt: &str,
        length: i32,
        text: &str,
    ) -> String {
        let rule = HashRule { algorithm, salt: Salt::new(salt.as_bytes()), payload };
        let mut out = String::new();
        Hash::new(&rule, length).push(text, &mut out);
        out
    }

    /// The expected hashes are those of the reference case column-mask-hash.
    #[test]
    fn hashes_are_debeziums() {
        use Payload::{JavaSerialised, Plain};
        let sha =
            |payload, length, text| hashed(Algorithm::Sha256, payload, "CzQMA0cB5K", length, text);
        assert_eq!(sha(JavaSerialised, 20, "test"), "8e68c68edbbac316dfe2");
        assert_eq!(sha(Plain, 20, "test"), "b924906bc565bd0a7da8");
        assert_eq!(
            sha(JavaSerialised, i32::MAX, "hello"),
            "b4d39ab0d198fb4cac8b2f023da74f670bcaf192dcc79b5d6361b7ae6b2fafdf"
        );
        assert_eq!(
            sha(JavaSerialised, i32::MAX, "žluť 🚀"),
            "b05b15ffa8fd87a067176acd5cc4f449fbb1568d838bb46ae3f86c9977fc19f2"
        );
        assert_eq!(sha(JavaSerialised, 20, ""), "7b061bc77caec9afdc6b");
        assert_eq!(
            hashed(Algorithm::Md5, JavaSerialised, "pepper", 100, "test"),
            "6757b0e8ac62870da967caac77ab8de5"
        );
        assert!(
            hashed(Algorithm::Sha512, Plain, "pepper", 300, "test")
                .starts_with("ea0de00d609eb9653784ffc3a1741507")
        );
    }

    #[test]
    fn a_character_of_two_units_is_not_split() {
        assert_eq!(cut("abc🚀x", 4), "abc");
        assert_eq!(cut("abc🚀x", 5), "abc🚀");
        assert_eq!(cut("žščř", 4), "žščř");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn stars_stand_for_null_and_hashes_do_not() {
        let stars = Mask::Stars("***".into());
        assert_eq!(stars.literal(None), Some(Literal::Text("***".to_owned())));
        assert_eq!(Mask::Cut { units: 2, bytes: false }.literal(None), None);
        let cut =
            Mask::Cut { units: 2, bytes: false }.literal(Some(Literal::Text("abc".to_owned())));
        assert_eq!(cut, Some(Literal::Text("ab".to_owned())));
    }

    proptest! {
        #[test]
        fn the_length_of_modified_utf8_is_what_is_written(text: String) {
            let mut bytes = Vec::new();
            modified_utf8(&text, |part| bytes.extend_from_slice(part));
            prop_assert_eq!(bytes.len(), text.chars().map(modified_utf8_len).sum::<usize>());
            prop_assert!(!bytes.contains(&0));
        }

        #[test]
        fn a_cut_text_is_the_longest_beginning_that_fits(text: String, units in 0_usize..12) {
            let kept = cut(&text, units);
            prop_assert!(text.starts_with(kept) && kept.encode_utf16().count() <= units);
            if let Some(next) = text[kept.len()..].chars().next() {
                prop_assert!(kept.encode_utf16().count() + next.len_utf16() > units);
            }
        }
    }
}
