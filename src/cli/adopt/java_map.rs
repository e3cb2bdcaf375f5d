//! Reads a serialised Java `HashMap<byte[], byte[]>` and nothing else of Java's serialisation.
//! Connect's FileOffsetBackingStore keeps offsets in such a file.

/// Stream magic and version, then the header of an object of class `java.util.HashMap` with its two
/// fields.
const CLASS: &[u8] = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16\x60\xd1\x03\x00\x02F\x00\x0aloadFactorI\x00\x09thresholdxp";

/// Class descriptor of byte arrays, as written before the first array. Before a later array stands
/// a reference to it instead: `q` and four bytes.
const BYTES: &[u8] = b"r\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp";

/// Reads the keys and values of the map, in the order of the file. `None` if the file is anything
/// but such a map.
pub(super) fn read(file: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut reader = Reader(file.strip_prefix(CLASS)?);
    reader.take(8)?; // load factor and threshold
    // A data block of eight bytes holds the number of buckets and the number of entries.
    if reader.take(2)? != [0x77, 8] {
        return None;
    }
    reader.take(4)?;
    let count = reader.number()?;
    // No memory is allocated by this count, because a damaged file can state any number. Each entry
    // must take its bytes from the file.
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push((reader.bytes()?, reader.bytes()?));
    }
    (reader.0 == [0x78]).then_some(entries)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.take(4)?.try_into().ok()?)).ok()
    }

    /// Reads one byte array, with its class descriptor or the reference to that.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.take(1)? != b"u" {
            return None;
        }
        match self.0.strip_prefix(BYTES) {
            Some(rest) => self.0 = rest,
            None if self.take(1)? == b"q" => drop(self.take(4)?),
            None => return None,
        }
        let length = self.number()?;
        self.take(length).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The file that Java would write for these entries.
    fn written(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut file = CLASS.to_vec();
        file.extend_from_slice(b"?\x40\x00\x00\x00\x00\x00\x0cw\x08\x00\x00\x00\x10");
        file.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
        for (index, bytes) in entries.iter().flat_map(|(key, value)| [key, value]).enumerate() {
            file.push(b'u');
            file.extend_from_slice(if index == 0 { BYTES } else { b"q\x00\x7e\x00\x02" });
            file.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            file.extend_from_slice(bytes);
        }
        file.push(b'x');
        file
    }

    proptest! {
        #[test]
        fn a_map_reads_back(entries in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..40)), 0..4)) {
            prop_assert_eq!(read(&written(&entries)), Some(entries));
        }

        #[test]
        fn a_damaged_file_is_none_or_a_map_and_never_a_panic(at in 0_usize..150, byte: u8, cut in 0_usize..150) {
            let mut file = written(&[(b"key".to_vec(), b"value".to_vec())]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            let _ = read(&file);
            let _ = read(&file[..cut.min(file.len())]);
        }
    }
}
