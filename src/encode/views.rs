//! Writes geometries and vectors in the forms (views) that transforms ask for.

use super::form::Form;
use super::java::push_float;
use super::spatial;
use super::transcode::{Fault, Tools};
use super::wire::Wire;
use crate::table::value::{self, SparseVector, ValueError};
use crate::transform::views::View;

/// A geometry or vector in a form that a transform asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Viewed {
    /// A geometry, with the views that are applied to it, in this order.
    Geometry(Vec<View>),
    /// The JSON text of a vector. `halves` is true for a `halfvec`.
    Vector { halves: bool },
    /// The JSON text of a sparse vector.
    Sparse,
}

/// Returns the form of the values after `view` is applied to values of the form `wire`. A view that
/// does not suit the type changes nothing.
pub(super) fn seen(wire: Wire, view: &View) -> Wire {
    match (wire, view) {
        (Wire::Geometry, View::Plain | View::Swapped(_)) => {
            Wire::Viewed(Viewed::Geometry(vec![view.clone()]))
        }
        (Wire::Viewed(Viewed::Geometry(mut views)), View::Plain | View::Swapped(_)) => {
            views.push(view.clone());
            Wire::Viewed(Viewed::Geometry(views))
        }
        (Wire::List { element, optional, delimiter }, View::Swapped(_)) => {
            Wire::List { element: Box::new(seen(*element, view)), optional, delimiter }
        }
        (Wire::Vector, View::Json) => Wire::Viewed(Viewed::Vector { halves: false }),
        (Wire::HalfVector, View::Json) => Wire::Viewed(Viewed::Vector { halves: true }),
        (Wire::SparseVector, View::Json) => Wire::Viewed(Viewed::Sparse),
        (wire, _) => wire,
    }
}

/// Appends a geometry or vector to `out` in the form that `viewed` names. `text` is the value in
/// the text form of Postgres.
pub(super) fn value<F: Form>(
    viewed: &Viewed,
    text: &[u8],
    out: &mut Vec<u8>,
    tools: &mut Tools,
) -> Result<(), Fault> {
    match viewed {
        Viewed::Geometry(views) => {
            tools.bytes.clear();
            let srid = value::geometry(text, &mut tools.bytes)?;
            for view in views {
                apply(view, srid, &mut tools.bytes)?;
            }
            spatial::geometry::<F>(&tools.bytes, srid, out);
        }
        Viewed::Vector { halves } => {
            tools.text.clear();
            tools.text.extend_from_slice(b"{ \"values\": [");
            for (place, part) in value::vector(text)?.enumerate() {
                if place > 0 {
                    tools.text.extend_from_slice(b", ");
                }
                match halves {
                    true => push_float(value::float4(part)?, &mut tools.text),
                    false => push_float(value::float8(part)?, &mut tools.text),
                }
            }
            tools.text.extend_from_slice(b"] }");
            F::text(value::utf8(&tools.text)?, out);
        }
        Viewed::Sparse => {
            sparse(text, tools)?;
            F::text(value::utf8(&tools.text)?, out);
        }
    }
    Ok(())
}

/// Puts the JSON text of a sparse vector into `tools.text`, with its entries in the order of their
/// index.
fn sparse(text: &[u8], tools: &mut Tools) -> Result<(), Fault> {
    use std::io::Write as _;
    let vector = SparseVector::parse(text)?;
    let dimensions = spatial::index(vector.dimensions)?;
    let Tools { entries, text, .. } = tools;
    entries.clear();
    for entry in vector.entries() {
        let (index, number) = entry?;
        entries.push((spatial::index(index)?, number));
    }
    entries.sort_by_key(|(index, _)| *index);
    text.clear();
    // Writing to memory does not fail.
    let _ = write!(text, "{{ \"dimensions\": {dimensions}, \"vector\": {{ ");
    for (place, (index, number)) in entries.iter().enumerate() {
        let before = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{before}\"{index}\": ");
        push_float(*number, text);
    }
    text.extend_from_slice(b" } }");
    Ok(())
}

/// The bit in the type of a geometry's binary which says that the id of the reference system
/// follows.
const SRID: u32 = 0x2000_0000;
const Z: u32 = 0x8000_0000;
const M: u32 = 0x4000_0000;

/// How deep geometries may be nested in geometries. PostGIS allows 200.
const DEPTH_MAX: u32 = 200;

const SHORT: ValueError = ValueError::new("a geometry", "shorter than its binary says");
const STRANGE: ValueError =
    ValueError::new("a geometry", "of a type whose coordinates are not swapped");
const DEEP: ValueError = ValueError::new("a geometry", "within too many others");

fn apply(view: &View, srid: Option<i32>, wkb: &mut Vec<u8>) -> Result<(), ValueError> {
    match (view, srid) {
        (View::Plain, Some(_)) => plain(wkb),
        (View::Swapped(srids), Some(srid)) if srids.contains(&srid) => {
            Walk { wkb, at: 0, little: true }.geometry(0)
        }
        (View::Plain | View::Swapped(_) | View::Json, _) => Ok(()),
    }
}

/// Removes the id of the reference system from a geometry's binary, unless an earlier view has
/// removed it.
fn plain(wkb: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut walk = Walk { wkb, at: 0, little: true };
    walk.order()?;
    let kind = walk.number()?;
    if kind & SRID == 0 {
        return Ok(());
    }
    let (little, plain) = (walk.little, kind & !SRID);
    let bytes = if little { plain.to_le_bytes() } else { plain.to_be_bytes() };
    wkb.get_mut(1..5).ok_or(SHORT)?.copy_from_slice(&bytes);
    if wkb.len() < 9 {
        return Err(SHORT);
    }
    wkb.drain(5..9);
    Ok(())
}

/// A walk through the well-known binary of a geometry, which swaps the first two coordinates of
/// each point.
struct Walk<'a> {
    wkb: &'a mut Vec<u8>,
    at: usize,
    little: bool,
}

impl Walk<'_> {
    fn geometry(&mut self, depth: u32) -> Result<(), ValueError> {
        if depth > DEPTH_MAX {
            return Err(DEEP);
        }
        self.order()?;
        let kind = self.number()?;
        if kind & SRID != 0 {
            self.number()?;
        }
        let doubles = 2 + usize::from(kind & Z != 0) + usize::from(kind & M != 0);
        match kind & 0xFF {
            1 => self.point(doubles),
            2 => self.points(doubles),
            3 => {
                let rings = self.number()?;
                (0..rings).try_for_each(|_| self.points(doubles))
            }
            4..=7 => {
                let parts = self.number()?;
                (0..parts).try_for_each(|_| self.geometry(depth + 1))
            }
            _ => Err(STRANGE),
        }
    }

    fn points(&mut self, doubles: usize) -> Result<(), ValueError> {
        let count = self.number()?;
        (0..count).try_for_each(|_| self.point(doubles))
    }

    fn point(&mut self, doubles: usize) -> Result<(), ValueError> {
        let end = self.at + doubles * 8;
        let point = self.wkb.get_mut(self.at..end).ok_or(SHORT)?;
        let (first, rest) = point.split_at_mut(8);
        first.swap_with_slice(rest.get_mut(..8).ok_or(SHORT)?);
        self.at = end;
        Ok(())
    }

    fn order(&mut self) -> Result<(), ValueError> {
        self.little = *self.wkb.get(self.at).ok_or(SHORT)? == 1;
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<u32, ValueError> {
        let bytes = self.wkb.get(self.at..).and_then(<[u8]>::first_chunk::<4>).ok_or(SHORT)?;
        self.at += 4;
        Ok(if self.little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// Values recorded from Debezium: a geometry, the same without its reference system, and the
    /// same with swapped coordinates.
    fn geometries() -> impl Iterator<Item = [&'static str; 3]> {
        let lines = include_str!("../../tests/data/debezium-geometries.txt").lines();
        let of = |line: &'static str| {
            let mut parts = line.split('|');
            std::array::from_fn(|_| parts.next().unwrap())
        };
        lines.filter(|line| !line.starts_with('#')).map(of)
    }

    fn seen_as(view: &View, srid: Option<i32>, hex: &str) -> Result<String, ValueError> {
        let mut wkb = bytes(hex);
        apply(view, srid, &mut wkb)?;
        Ok(wkb.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn json(viewed: &Viewed, text: &str) -> String {
        let (mut out, mut tools) = (Vec::new(), Tools::default());
        value::<super::super::header::HeaderValue>(viewed, text.as_bytes(), &mut out, &mut tools)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The texts are from `VectorToJsonConverter`'s own tests.
    #[test]
    fn vectors_are_texts_of_json() {
        let vector = |halves| Viewed::Vector { halves };
        assert_eq!(json(&vector(false), "[101,102,0.5]"), r#"{ "values": [101.0, 102.0, 0.5] }"#);
        assert_eq!(json(&vector(true), "[1,2,3]"), r#"{ "values": [1.0, 2.0, 3.0] }"#);
        assert_eq!(
            json(&Viewed::Sparse, "{1:25,2:15,10:100}/25"),
            r#"{ "dimensions": 25, "vector": { "1": 25.0, "2": 15.0, "10": 100.0 } }"#
        );
        assert_eq!(json(&Viewed::Sparse, "{}/25"), r#"{ "dimensions": 25, "vector": {  } }"#);
    }

    #[test]
    fn a_geometry_loses_its_reference_system_once() {
        for [extended, plain, _] in geometries() {
            assert_eq!(seen_as(&View::Plain, Some(4326), extended).unwrap(), plain);
            assert_eq!(seen_as(&View::Plain, Some(4326), plain).unwrap(), plain);
            assert_eq!(seen_as(&View::Plain, None, extended).unwrap(), extended);
        }
    }

    #[test]
    fn the_first_two_coordinates_are_swapped() {
        let swapped = View::Swapped(vec![4326]);
        for [extended, _, swap] in geometries() {
            assert_eq!(seen_as(&swapped, Some(4326), extended).unwrap(), swap);
            assert_eq!(seen_as(&swapped, Some(3857), extended).unwrap(), extended);
            assert_eq!(seen_as(&swapped, None, extended).unwrap(), extended);
        }
        let curve = "0108000020e610000000000000";
        assert_eq!(seen_as(&swapped, Some(4326), curve), Err(STRANGE));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_as_a_geometry(wkb: Vec<u8>, kind in 0_u8..9, count: u8) {
            for head in [vec![], vec![1, kind, 0, 0, 0, count, 0, 0, 0], vec![1, kind, 0, 0, 0x20]] {
                let mut all = [head, wkb.clone()].concat();
                let _ = apply(&View::Swapped(vec![1]), Some(1), &mut all);
                let _ = apply(&View::Plain, Some(1), &mut all);
            }
        }
    }
}
