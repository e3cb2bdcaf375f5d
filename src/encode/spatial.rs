//! Writes points, geometries, vectors and sparse vectors.

use super::form::{Form, Pair, Union};
use super::java::push_float;
use super::notes::Loss;
use super::transcode::{Fault, Tools};
use crate::table::value::{self, SparseVector, ValueError};

/// Writes a point: x, y, its well-known binary, and null as its reference system.
pub(super) fn point<F: Form>(x: f64, y: f64, out: &mut Vec<u8>) {
    F::struct_open(out);
    F::field(true, "x", out);
    F::float8(x, out);
    F::field(false, "y", out);
    F::float8(y, out);
    F::field(false, "wkb", out);
    F::some(Union::NullFirst, out);
    F::bytes(&wkb_point(x, y), out);
    F::field(false, "srid", out);
    F::null(Union::NullFirst, out);
    F::struct_close(out);
}

/// Makes the well-known binary of a point: little-endian, type 1, both coordinates.
fn wkb_point(x: f64, y: f64) -> [u8; 21] {
    let mut wkb = [0; 21];
    let (head, coordinates) = wkb.split_at_mut(5);
    head.copy_from_slice(&[1, 1, 0, 0, 0]);
    let (first, second) = coordinates.split_at_mut(8);
    first.copy_from_slice(&x.to_le_bytes());
    second.copy_from_slice(&y.to_le_bytes());
    wkb
}

/// Writes a geometry: its extended well-known binary unchanged, and the id of its reference system,
/// or null if the binary has none.
pub(super) fn geometry<F: Form>(wkb: &[u8], srid: Option<i32>, out: &mut Vec<u8>) {
    F::struct_open(out);
    F::field(true, "wkb", out);
    F::bytes(wkb, out);
    F::field(false, "srid", out);
    match srid {
        Some(srid) => {
            F::some(Union::NullFirst, out);
            F::int(i64::from(srid), out);
        }
        None => F::null(Union::NullFirst, out),
    }
    F::struct_close(out);
}

/// Writes a list of numbers that cannot be null. `parts` are their texts, and `push` writes each.
pub(super) fn numbers<'a, F: Form>(
    parts: impl Iterator<Item = &'a [u8]> + Clone,
    push: impl Fn(&'a [u8], &mut Vec<u8>) -> Result<(), ValueError>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let count = parts.clone().count();
    F::list_open(count, out);
    for (index, part) in parts.enumerate() {
        F::element(index == 0, out);
        push(part, out)?;
    }
    F::list_close(count, out);
    Ok(())
}

/// Converts an index or the number of dimensions of a sparse vector to 16 bits, which Debezium's
/// field has.
pub(super) fn index(number: i64) -> Result<i16, Fault> {
    i16::try_from(number).map_err(|_| Fault::Unholdable(Loss::BeyondInt16))
}

/// Writes a sparse vector: its dimensions, and a map from index to number in the order of Java's
/// HashMap.
pub(super) fn sparse<F: Form>(
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    let vector = SparseVector::parse(text)?;
    F::struct_open(out);
    F::field(true, "dimensions", out);
    F::int(i64::from(index(vector.dimensions)?), out);
    F::field(false, "vector", out);
    let entries = &mut tools.entries;
    entries.clear();
    for entry in vector.entries() {
        let (place, number) = entry?;
        entries.push((index(place)?, number));
    }
    // Java's HashMap begins with as many buckets as the next power of two from the number of
    // entries, and doubles them when they are more than three quarters full. The hash of a short is
    // the short itself. The entries of one bucket stay in order.
    let mut buckets = entries.len().next_power_of_two();
    if entries.len() > buckets * 3 / 4 {
        buckets *= 2;
    }
    entries.sort_by_key(|(index, _)| usize::try_from(*index).unwrap_or(0) & (buckets - 1));
    F::list_open(entries.len(), out);
    for (position, (index, number)) in entries.iter().enumerate() {
        F::element(position == 0, out);
        F::pair(Pair::BeforeKey, out);
        F::int(i64::from(*index), out);
        F::pair(Pair::BeforeValue, out);
        F::float8(*number, out);
        F::pair(Pair::AfterValue, out);
    }
    F::list_close(entries.len(), out);
    F::struct_close(out);
    Ok(())
}

/// Appends a geometric type's text as the JDBC driver prints it: with each number as Java prints a
/// double.
pub(super) fn driver_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let is_number = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let mut rest = text;
    while let Some(first) = rest.first() {
        let number = rest.iter().position(|byte| !is_number(*byte)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number.max(1));
        if is_number(*first) {
            push_float(value::float8(number)?, out);
        } else {
            out.push(*first);
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometric_texts_have_the_drivers_numbers() {
        // The texts are from the reference case unknown-types-included.
        for (text, printed) in [
            ("(2,3),(0,0)", "(2.0,3.0),(0.0,0.0)"),
            ("{1,-1,0.5}", "{1.0,-1.0,0.5}"),
            ("<(1,2),3>", "<(1.0,2.0),3.0>"),
            ("[(0,0),(1e+20,1),(2,1e-07)]", "[(0.0,0.0),(1.0E20,1.0),(2.0,1.0E-7)]"),
            ("(Infinity,NaN)", "(Infinity,NaN)"),
        ] {
            let mut out = Vec::new();
            assert_eq!(driver_text(text.as_bytes(), &mut out), Ok(()));
            assert_eq!(String::from_utf8(out).unwrap(), printed);
        }
        assert!(driver_text(b"(x,1)", &mut Vec::new()).is_err());
    }
}
