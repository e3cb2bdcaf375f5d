//! Reads values of PostGIS and pgvector, and the types `int2vector` and `oidvector`.

use super::binary::hex;
use super::number::{float8, int};
use super::{ValueError, around};

/// This bit in a geometry's type is set if the number of its reference system (SRID) follows.
const HAS_SRID: u32 = 0x2000_0000;

/// Appends the bytes of a `geometry` or `geography` to `out`. Returns the number of its reference
/// system (SRID); `None` if the value names none.
///
/// The text is the hex form of extended well-known binary: byte order, type with flags, perhaps an
/// SRID, the rest.
///
/// # Errors
/// The text is not hexadecimal, or is too short for a geometry. `out` then holds a part of the
/// bytes.
pub fn geometry(text: &[u8], out: &mut Vec<u8>) -> Result<Option<i32>, ValueError> {
    let start = out.len();
    hex(text, "geometry", out)?;
    let short = ValueError::new("geometry", "too short");
    let (order, rest) = out.get(start..).and_then(<[u8]>::split_first).ok_or(short)?;
    let (kind, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let first = rest.first_chunk::<4>().ok_or(short)?;
    let is_little = *order != 0;
    let kind = if is_little { u32::from_le_bytes(*kind) } else { u32::from_be_bytes(*kind) };
    let srid = if is_little { i32::from_le_bytes(*first) } else { i32::from_be_bytes(*first) };
    Ok((kind & HAS_SRID != 0).then_some(srid))
}

/// The numbers of a `vector` or `halfvec`: `[1,2.5]`, each as its text.
///
/// # Errors
/// The text has no brackets.
pub fn vector(text: &[u8]) -> Result<impl Iterator<Item = &[u8]> + Clone, ValueError> {
    let inner = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    Ok(parts(inner.ok_or(ValueError::new("vector", "not in brackets"))?, b','))
}

/// The numbers of an `int2vector` or `oidvector`: `1 2`, each as its text.
pub fn spaced(text: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    parts(text, b' ')
}

/// The parts of a text between separators. An empty text has no parts.
fn parts(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> + Clone {
    let count = if text.is_empty() { 0 } else { usize::MAX };
    text.split(move |byte| *byte == separator).take(count)
}

/// A `sparsevec`, such as `{1:1.5,3:-2}/5`: indices count from 1.
#[derive(Clone, Copy, Debug)]
pub struct SparseVector<'a> {
    /// Number of dimensions of the vector; pgvector allows a thousand million.
    pub dimensions: i64,
    entries: &'a [u8],
}

impl<'a> SparseVector<'a> {
    /// Reads the number of dimensions, and finds the braces around the entries. The entries are
    /// read later, by [`SparseVector::entries`].
    ///
    /// # Errors
    /// Braces, slash or dimensions are missing.
    pub fn parse(text: &'a [u8]) -> Result<Self, ValueError> {
        let error =
            ValueError::new("sparsevec", "not entries in braces, a slash and the dimensions");
        let slash = text.iter().rposition(|byte| *byte == b'/').ok_or(error)?;
        let (entries, dimensions) = around(text, slash);
        let entries =
            entries.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).ok_or(error)?;
        Ok(SparseVector { dimensions: int(dimensions)?, entries })
    }

    /// Reads the entries in the order of the text: the index, counted from 1, and the number at
    /// this index.
    pub fn entries(&self) -> impl Iterator<Item = Result<(i64, f64), ValueError>> + use<'a> {
        parts(self.entries, b',').map(|entry| {
            let colon = entry.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or(ValueError::new("sparsevec", "an entry without index"))?;
            let (index, number) = around(entry, colon);
            Ok((int(index)?, float8(number)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn srid(text: &str) -> Result<Option<i32>, ValueError> {
        geometry(text.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn a_geometry_names_its_reference_system_in_either_byte_order() {
        assert_eq!(srid("0101000020730C00001C7C613255DE6540787AA52C435C42C0"), Ok(Some(3187)));
        assert_eq!(srid("00200000010000001A3FF00000000000004000000000000000"), Ok(Some(26)));
        assert_eq!(srid("0101000000000000000000F03F0000000000000040"), Ok(None));
        assert_eq!(srid("010700000000000000"), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_geometry_in_hex() {
        for text in
            ["", "01", "0101000020", "POINT(1 2)", "010700000000000", "\\x010700000000000000"]
        {
            assert!(srid(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn vectors_are_numbers_between_brackets() {
        let read = |text: &str| {
            vector(text.as_bytes()).map(|parts| parts.map(float8).collect::<Result<Vec<_>, _>>())
        };
        assert_eq!(read("[1,2.5,-3e-05]"), Ok(Ok(vec![1.0, 2.5, -3e-5])));
        assert_eq!(read("[]"), Ok(Ok(vec![])));
        assert!(read("1,2").is_err());
        assert!(matches!(read("[1,]"), Ok(Err(_))));
        assert_eq!(spaced(b"1 2").map(int).collect::<Result<Vec<_>, _>>(), Ok(vec![1, 2]));
        assert_eq!(spaced(b"").count(), 0);
    }

    #[test]
    fn sparse_vectors_are_indexes_and_numbers() {
        let read = |text: &str| {
            let vector = SparseVector::parse(text.as_bytes())?;
            Ok::<_, ValueError>((
                vector.dimensions,
                vector.entries().collect::<Result<Vec<_>, _>>()?,
            ))
        };
        assert_eq!(read("{1:1.5,3:-2}/5"), Ok((5, vec![(1, 1.5), (3, -2.0)])));
        assert_eq!(read("{}/3"), Ok((3, vec![])));
        for text in ["", "{1:1}", "{1}/2", "1:1/2", "{1:x}/2", "{1:1}/"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic(bytes: Vec<u8>, text in "[{}0-9:/,\\[\\] .-]{0,30}") {
            for input in [bytes.as_slice(), text.as_bytes()] {
                let _ = geometry(input, &mut Vec::new());
                let _ = vector(input).map(Iterator::count);
                let _ = SparseVector::parse(input).map(|vector| vector.entries().count());
            }
        }
    }
}
