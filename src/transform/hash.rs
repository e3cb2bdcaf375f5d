//! Hashes of single values, equal to those of Java. `partition-routing` makes partitions of them.
//!
//! A value is hashed from its plain text, which the encoder writes. The hash is that of the Java
//! object that Debezium has for the value, and `murmur` is Debezium's own variant of MurmurHash3.

use super::convert::MILLIS_PER_DAY;
use super::shape::{Base, Schema, Temporal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A hash function of Debezium's `PartitionRouting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// `Object.hashCode` of the value.
    Java,
    /// The upper half of the first word of MurmurHash3. A text is hashed itself, and of any other
    /// value its `hashCode`.
    Murmur,
}

/// The Java class of a schema's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Boolean,
    /// A byte, short or int.
    Int,
    Long,
    Float,
    Double,
    Text,
    /// A `BigDecimal`, with its scale.
    Decimal,
    /// A `ByteBuffer`. The text is in Base64.
    Bytes,
    /// A `java.util.Date`. The text is a number of days or milliseconds.
    Moment(Temporal),
}

impl Class {
    /// The class of values with this schema. `None` for structs, lists and maps, and for values
    /// whose hash is another one in each process of Java.
    pub(crate) fn of(schema: &Schema) -> Option<Self> {
        let temporal = schema.name.as_deref().and_then(Temporal::of_name);
        Some(match (&schema.base, temporal) {
            (Base::Int32 | Base::Int64, Some(kind)) => Class::Moment(kind),
            (Base::Boolean, _) => Class::Boolean,
            (Base::Int8 | Base::Int16 | Base::Int32, _) => Class::Int,
            (Base::Int64, _) => Class::Long,
            (Base::Float32, _) => Class::Float,
            (Base::Float64, _) => Class::Double,
            (Base::Text, _) => Class::Text,
            (Base::Bytes, _) if schema.is_decimal() => Class::Decimal,
            // Bytes with a name (bit strings) are an array in Java. The hash of an array is another
            // one in each process.
            (Base::Bytes, _) if schema.name.is_none() => Class::Bytes,
            (Base::Bytes | Base::Array(_) | Base::Map(..) | Base::Struct(_), _) => return None,
        })
    }

    /// The hash of the value that `text` shows. `None` if the text does not fit the class.
    pub(crate) fn hash(self, hash: Hash, text: &str) -> Option<i32> {
        let code = match self {
            Class::Text if hash == Hash::Murmur => return Some(murmur(text.as_bytes())),
            Class::Text => text_code(text),
            Class::Boolean => match text {
                "true" => 1231,
                "false" => 1237,
                _ => return None,
            },
            Class::Int => text.parse().ok()?,
            Class::Long => folded(text.parse::<i64>().ok()?.cast_unsigned()),
            Class::Float => {
                let number: f32 = text.parse().ok()?;
                let bits = if number.is_nan() { 0x7FC0_0000 } else { number.to_bits() };
                bits.cast_signed()
            }
            Class::Double => {
                let number: f64 = text.parse().ok()?;
                folded(if number.is_nan() { 0x7FF8 << 48 } else { number.to_bits() })
            }
            Class::Decimal => decimal_code(text)?,
            Class::Bytes => {
                let bytes = STANDARD.decode(text).ok()?;
                let step = |code: i32, byte: &u8| {
                    code.wrapping_mul(31).wrapping_add(i32::from(byte.cast_signed()))
                };
                bytes.iter().rev().fold(1, step)
            }
            Class::Moment(kind) => {
                let number: i64 = text.parse().ok()?;
                let millis = match kind {
                    Temporal::Date => number.checked_mul(MILLIS_PER_DAY)?,
                    Temporal::Time | Temporal::Timestamp => number,
                };
                folded(millis.cast_unsigned())
            }
        };
        Some(match hash {
            Hash::Java => code,
            Hash::Murmur => murmur(&code.to_le_bytes()),
        })
    }
}

/// The partition of a record. `sum` is the sum of its values' hashes, and `partitions` is at least
/// 1.
pub(crate) fn partition(sum: i32, partitions: i32) -> i32 {
    let positive = sum & i32::MAX;
    let positive = if positive == i32::MAX { 0 } else { positive };
    assert!(partitions > 0, "a topic has partitions");
    positive % partitions
}

/// The two halves of a number, joined by XOR.
fn folded(bits: u64) -> i32 {
    low_half(bits ^ (bits >> 32))
}

fn low_half(bits: u64) -> i32 {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn text_code(text: &str) -> i32 {
    let step = |code: i32, unit: u16| code.wrapping_mul(31).wrapping_add(i32::from(unit));
    text.encode_utf16().fold(0, step)
}

/// Number of decimal digits that are read at once. Nine digits make a number below 2^32.
const CHUNK_DIGITS: usize = 9;

/// The hash of a decimal in plain notation. Its digits after the point are counted as its scale.
fn decimal_code(text: &str) -> Option<i32> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = i32::try_from(fraction.len()).ok()?;
    let digits = [whole, fraction].concat();
    // The unscaled number in words of 32 bits, lowest word first.
    let mut words: Vec<u32> = Vec::new();
    for chunk in digits.as_bytes().chunks(CHUNK_DIGITS) {
        let mut carry: u64 = std::str::from_utf8(chunk).ok()?.parse().ok()?;
        let power = 10_u64.pow(u32::try_from(chunk.len()).ok()?);
        for word in &mut words {
            let wide = u64::from(*word) * power + carry;
            *word = low_half(wide).cast_unsigned();
            carry = wide >> 32;
        }
        if carry > 0 {
            words.push(low_half(carry).cast_unsigned());
        }
    }
    let step = |code: i32, word: &u32| code.wrapping_mul(31).wrapping_add(word.cast_signed());
    let magnitude = words.iter().rev().fold(0, step);
    let code = if negative { magnitude.wrapping_neg() } else { magnitude };
    Some(code.wrapping_mul(31).wrapping_add(scale))
}

/// State of MurmurHash3, in the variant in which both multipliers change after each block.
struct Murmur {
    hash: [u64; 2],
    multipliers: [u64; 2],
}

impl Murmur {
    /// The seed that Debezium begins with.
    const SEED: u64 = 9001;

    fn new() -> Self {
        Murmur {
            hash: [0x9368_e53c_2f6a_f274 ^ Self::SEED, 0x586d_cd20_8f7c_d3fd ^ Self::SEED],
            multipliers: [0x87c3_7b91_1142_53d5, 0x4cf5_ad43_2745_937f],
        }
    }

    fn mix(&mut self, words: [u64; 2]) {
        let ([h1, h2], [c1, c2]) = (&mut self.hash, &mut self.multipliers);
        let mixed = |word: u64, first: u64, second: u64| {
            word.wrapping_mul(first).rotate_left(23).wrapping_mul(second)
        };
        *h1 = (*h1 ^ mixed(words[0], *c1, *c2)).wrapping_add(*h2);
        *h2 = h2.rotate_left(41);
        *h2 = (*h2 ^ mixed(words[1], *c2, *c1)).wrapping_add(*h1);
        *h1 = h1.wrapping_mul(3).wrapping_add(0x52dc_e729);
        *h2 = h2.wrapping_mul(3).wrapping_add(0x3849_5ab5);
        *c1 = c1.wrapping_mul(5).wrapping_add(0x7b7d_159c);
        *c2 = c2.wrapping_mul(5).wrapping_add(0x6bce_6396);
    }

    fn first_word(self, length: u64) -> u64 {
        let [mut h1, mut h2] = self.hash;
        h2 ^= length;
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (h1, h2) = (finished(h1), finished(h2));
        h1.wrapping_add(h2)
    }
}

fn finished(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// A block of bytes as two words. If `signed` is true, each byte is widened with its sign, as Java
/// does in the last block.
fn words(block: &[u8], signed: bool) -> [u64; 2] {
    let mut words = [0_u64; 2];
    for (place, byte) in block.iter().enumerate() {
        let wide = match signed {
            true => i64::from(byte.cast_signed()).cast_unsigned(),
            false => u64::from(*byte),
        };
        if let Some(word) = words.get_mut(place / 8) {
            *word ^= wide << (place % 8 * 8);
        }
    }
    words
}

fn murmur(bytes: &[u8]) -> i32 {
    let mut state = Murmur::new();
    let (blocks, last) = bytes.as_chunks::<16>();
    for block in blocks {
        state.mix(words(block, false));
    }
    if !last.is_empty() {
        state.mix(words(last, true));
    }
    low_half(state.first_word(bytes.len() as u64) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `hashCode` of OpenJDK and `io.debezium.util.MurmurHash3` have computed.
    const HASHES: &[(Class, &str, i32, i32)] = &[
        (Class::Boolean, "true", 1_231, -1_891_831_265),
        (Class::Boolean, "false", 1_237, -682_375_457),
        (Class::Int, "-7", -7, -1_990_014_637),
        (Class::Int, "1", 1, -1_931_162_451),
        (Class::Long, "1", 1, -1_931_162_451),
        (Class::Long, "-9223372036854775808", -2_147_483_648, -797_218_156),
        (Class::Long, "-7", 6, -1_186_792_804),
        (Class::Float, "1.0", 1_065_353_216, 2_136_525_425),
        (Class::Float, "NaN", 2_143_289_344, -831_917_046),
        (Class::Float, "3.4028235E38", 2_139_095_039, -1_490_182_825),
        (Class::Double, "1.5", 1_073_217_536, -1_122_085_266),
        (Class::Double, "NaN", 2_146_959_360, -1_249_978_784),
        (Class::Double, "-0.0", -2_147_483_648, -797_218_156),
        (Class::Double, "-Infinity", -1_048_576, -1_812_493_044),
        (Class::Text, "", 0, 89_125_410),
        (Class::Text, "orange", -1_008_851_410, -1_471_092_080),
        (Class::Text, "žluť 🚀", -1_358_538_107, -595_493_411),
        (Class::Text, "0123456789abcdef", 285_443_752, 26_898_387),
        (Class::Text, "0123456789abcdef0123456789abcdéž", -1_783_312_796, -2_099_059_270),
        (Class::Decimal, "0", 0, 1_805_505_889),
        (Class::Decimal, "0.00", 2, -351_805_952),
        (Class::Decimal, "12.50", 38_752, -1_550_805_569),
        (Class::Decimal, "-12.50", -38_748, -1_379_530_310),
        (Class::Decimal, "9223372036854775808", -2_147_483_648, -797_218_156),
        (Class::Decimal, "-123456789012345678901234567890.123456789", 210_863_894, 197_118_388),
        (Class::Decimal, "0.000000000000000000001", 52, 1_071_991_351),
        (Class::Decimal, "4294967296", 961, 392_629_079),
        (Class::Bytes, "", 1, -1_931_162_451),
        (Class::Bytes, "AH+A/w==", 774_659, 85_091_296),
        (Class::Moment(Temporal::Date), "-1", 86_399_999, 913_866_341),
        (Class::Moment(Temporal::Time), "3723004", 3_723_004, -1_289_775_652),
        (Class::Moment(Temporal::Timestamp), "1755850400345", -791_223_359, -597_246_099),
    ];

    #[test]
    fn values_hash_as_javas_objects_and_as_debeziums_murmur() {
        for (class, text, java, murmur) in HASHES {
            assert_eq!(class.hash(Hash::Java, text), Some(*java), "{class:?} {text}");
            assert_eq!(class.hash(Hash::Murmur, text), Some(*murmur), "{class:?} {text}");
        }
    }

    /// Partitions of `PartitionRoutingTest`.
    #[test]
    fn sums_name_the_partitions_of_debeziums_own_tests() {
        for (hash, expected) in [(Hash::Java, 39), (Hash::Murmur, 65)] {
            let of = |class: Class, text| class.hash(hash, text).unwrap();
            let sum = of(Class::Long, "1").wrapping_add(of(Class::Text, "orange"));
            assert_eq!(partition(sum, 100), expected);
        }
        assert_eq!(partition(Class::Text.hash(Hash::Java, "orange").unwrap(), 3), 1);
    }

    #[test]
    fn a_text_that_is_none_of_its_class_has_no_hash() {
        for (class, text) in [
            (Class::Boolean, "t"),
            (Class::Int, "2147483648"),
            (Class::Decimal, "1e3"),
            (Class::Bytes, "*"),
            (Class::Moment(Temporal::Date), "9223372036854775807"),
        ] {
            assert_eq!(class.hash(Hash::Java, text), None, "{class:?}");
        }
    }

    /// The sign is cut off, and the largest number counts as zero.
    #[test]
    fn a_partition_is_the_remainder_of_a_positive_sum() {
        assert_eq!(partition(-1, 7), 0);
        assert_eq!(partition(i32::MAX, 7), 0);
        assert_eq!(partition(i32::MIN, 7), 0);
        assert_eq!(partition(i32::MIN + 9, 7), 2);
        assert_eq!(partition(10, 4), 2);
    }
}
