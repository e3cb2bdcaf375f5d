//! Finds the values that the names of an expression mean in a record.

use super::bind::Fault;
use crate::transform::shape::{Base, Node, Part, Schema, Shape};

/// What a name leads to in a record.
pub(super) enum Found {
    /// A part of the record. If the struct around the part is null in every record of this kind of
    /// change, the text names this struct.
    Part(Part, Option<String>),
    /// There is no value, so the result is null.
    Nothing,
    /// A field in a value, key or header that the record does not have. The text names this value,
    /// key or header.
    OfNothing(String),
}

/// Finds the value at a path in a record.
pub(super) fn found(shape: &Shape, path: &[String]) -> Result<Found, Fault> {
    let Some((root, rest)) = path.split_first() else { return Ok(Found::Nothing) };
    let value = shape.value.as_ref().filter(|part| !part.is_null());
    match root.as_str() {
        "topic" if rest.is_empty() => Ok(Found::Part(Part::text(&shape.topic), None)),
        "value" => within(value, root, rest),
        "key" => within(shape.key.as_ref(), root, rest),
        "headers" => header(shape, rest),
        // A field of the envelope can be named without `value.` before it.
        _ => match value {
            None => Ok(Found::OfNothing("value".to_owned())),
            Some(value) if value.is_envelope() && value.schema.place(root).is_some() => {
                within(Some(value), "value", path)
            }
            Some(value) => Err(format!(
                "there is no `{root}`; there are topic, key, headers, value{}",
                if value.is_envelope() {
                    ", op, before, after and source"
                } else {
                    " and its fields"
                }
            )),
        },
    }
}

fn header(shape: &Shape, path: &[String]) -> Result<Found, Fault> {
    let Some((name, rest)) = path.split_first() else {
        return Err("`headers` is all of them; write headers.NAME.value".to_owned());
    };
    // If several headers have the same name, Debezium keeps the last one.
    let header = shape.headers.iter().rev().find(|header| header.name == *name);
    match (header, rest) {
        (None, []) => Ok(Found::Nothing),
        (None, _) => Ok(Found::OfNothing(format!("headers.{name}"))),
        (Some(header), []) => {
            let node = match header.part.is_null() {
                true => Node::Null,
                false => Node::Struct(Vec::new()),
            };
            let schema = Schema::plain(Base::Struct(Vec::new()));
            Ok(Found::Part(Part { schema, node }, None))
        }
        (Some(header), [value]) if value == "value" => Ok(Found::Part(header.part.clone(), None)),
        (Some(_), _) => Err(format!(
            "`headers.{}` is no value of a header; write headers.{name}.value",
            path.join(".")
        )),
    }
}

/// Finds the value at a path within a part of the record, whose name is `name`. `part` is `None` if
/// the record does not have the part.
fn within(part: Option<&Part>, name: &str, path: &[String]) -> Result<Found, Fault> {
    let Some(part) = part else {
        return Ok(match path.is_empty() {
            true => Found::Nothing,
            false => Found::OfNothing(name.to_owned()),
        });
    };
    let (mut part, mut name, mut absent) = (part.clone(), name.to_owned(), None);
    for field in path {
        if part.schema.place(field).is_none() {
            let known: Vec<&str> = part.schema.fields().iter().map(|field| &*field.name).collect();
            return Err(match known.is_empty() {
                true => format!("`{name}` has no fields, and `{name}.{field}` is asked for"),
                false => format!("`{name}` has no field `{field}`; it has {}", known.join(", ")),
            });
        }
        if part.is_null() && absent.is_none() {
            absent = Some(name.clone());
        }
        part = part
            .field(field)
            .ok_or_else(|| format!("`{name}` is one value, and `{field}` is not taken of it"))?;
        name = format!("{name}.{field}");
    }
    Ok(Found::Part(part, absent))
}
