//! Transforms of headers: Kafka Connect's, and Debezium's `HeaderToValue`.

use super::TransformFault;
use super::fields::{Of, no_field};
use super::shape::{Header, Part, Shape};

/// What is done to headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Adds a header with a fixed text.
    Insert {
        /// The name of the header.
        name: String,
        /// The text that the header has in every record.
        text: String,
    },
    /// Drops the headers of these names.
    Drop(Vec<String>),
    /// Copies or moves fields into headers.
    From {
        /// Whether the fields are those of the key or of the value.
        of: Of,
        /// Pairs of field and header.
        pairs: Vec<(String, String)>,
        /// Whether the fields are removed from the key or value.
        moves: bool,
        /// Whether a null is read as the default of its field.
        defaults: bool,
    },
    /// Copies or moves headers into the value.
    ToValue {
        /// Pairs of header and field.
        pairs: Vec<(String, String)>,
        /// Whether the headers are removed from the record.
        moves: bool,
    },
}

impl Headers {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        match self {
            Headers::Insert { name, text } => {
                shape.headers.push(Header { name: name.clone(), part: Part::text(text) });
            }
            Headers::Drop(names) => shape.headers.retain(|header| !names.contains(&header.name)),
            Headers::From { of, pairs, moves, defaults } => {
                from(*of, pairs, (*moves, *defaults), &mut shape)?;
            }
            Headers::ToValue { pairs, moves } => to_value(pairs, *moves, &mut shape)?,
        }
        Ok(shape)
    }
}

fn from(
    of: Of,
    pairs: &[(String, String)],
    (moves, defaults): (bool, bool),
    shape: &mut Shape,
) -> Result<(), TransformFault> {
    let place = match of {
        Of::Key => &mut shape.key,
        Of::Value => &mut shape.value,
    };
    let Some(part) = place.take_if(|part| !part.is_null()) else { return Ok(()) };
    let mut fields = part.parts().ok_or(TransformFault::NotStruct { of: of.name() })?;
    for (field, name) in pairs {
        let mut found =
            part.field(field).ok_or_else(|| no_field(of.name(), field, &part.schema))?;
        if defaults {
            found.node = found.node.with_defaults(&found.schema);
        }
        shape.headers.push(Header { name: name.clone(), part: found });
    }
    *place = Some(if moves {
        fields.retain(|(name, _)| !pairs.iter().any(|(field, _)| field == name));
        part.rebuilt(fields, defaults)
    } else {
        part
    });
    Ok(())
}

fn to_value(
    pairs: &[(String, String)],
    moves: bool,
    shape: &mut Shape,
) -> Result<(), TransformFault> {
    let Some(value) = shape.value.as_ref().filter(|value| !value.is_null()) else { return Ok(()) };
    let mut fields = value.parts().ok_or(TransformFault::NotStruct { of: "value" })?;
    let mut found = false;
    for (name, field) in pairs {
        let Some(header) = shape.headers.iter().find(|header| header.name == *name) else {
            continue;
        };
        if fields.iter().any(|(known, _)| known == field) {
            return Err(TransformFault::Clash { of: "value", field: field.clone() });
        }
        fields.push((field.clone().into(), header.part.clone()));
        found = true;
    }
    if found {
        shape.value = Some(value.rebuilt(fields, true));
        if moves {
            shape.headers.retain(|header| !pairs.iter().any(|(name, _)| *name == header.name));
        }
    }
    Ok(())
}
