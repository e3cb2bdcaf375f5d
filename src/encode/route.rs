//! Finds the partition of a record, which is the same each time the record is replayed.
//!
//! A record with a key is sent to the partition that Java producers and Kafka Connect choose
//! (murmur2 of the key bytes). Records without a key keep their order, because each table has a
//! fixed partition for them. The caller passes the number of partitions that was recorded when the
//! topic was first used.

/// Computes murmur2 as Kafka's Java client does (seed 0x9747b28c, 32 bits, little-endian words).
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Java's length is an int. A key is far below 2 GiB. The low 32 bits are therefore the length
    // that Java uses.
    let mut hash = SEED ^ (bytes.len() as u32);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Computes the partition of a record: by the bytes of its key, or by the table's name if it has no
/// key.
///
/// `partitions` below 1 counts as 1, because a topic has at least one partition.
#[must_use]
pub fn partition(key: Option<&[u8]>, table_name: &str, partitions: i32) -> i32 {
    let positive = murmur2(key.unwrap_or(table_name.as_bytes())) & 0x7fff_ffff;
    // The number fits: the mask keeps it below 2^31, and the remainder keeps it below `partitions`.
    (positive % partitions.max(1).unsigned_abs()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `org.apache.kafka.common.utils.Utils.murmur2`, as Kafka's own tests have them.
    #[test]
    fn hashes_as_the_java_client_does() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn the_sign_bit_is_masked_and_not_negated() {
        // Java's toPositive is `& 0x7fffffff`; -973932308 masked is 1173551340.
        assert_eq!(partition(Some(b"21"), "", i32::MAX), 1_173_551_340);
        assert_eq!(partition(Some(b"21"), "", 6), 1_173_551_340 % 6);
    }

    #[test]
    fn records_without_a_key_keep_to_one_partition_per_table() {
        let fixed = partition(None, "public.history", 12);
        assert_eq!(fixed, partition(None, "public.history", 12));
        assert!((0..12).contains(&fixed));
    }

    #[test]
    fn a_topic_has_at_least_one_partition() {
        for partitions in [i32::MIN, -1, 0, 1] {
            assert_eq!(partition(Some(b"k"), "t", partitions), 0);
        }
    }
}
