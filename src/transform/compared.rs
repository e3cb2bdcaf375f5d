//! `changed-fields`: headers that name the fields which an update changes, as Debezium's
//! `ExtractChangedRecordState` adds them.
//!
//! The server sends the row before an update with REPLICA IDENTITY FULL. If it sends no such row,
//! the lists are empty. The lists are also empty for every record that is no update.

use super::TransformFault;
use super::shape::{Base, Header, Node, Part, Schema, Shape};

/// The names of the headers. A name is `None` if its list is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Name of the header that lists the fields whose values an update changes.
    pub changed: Option<String>,
    /// Name of the header that lists the fields whose values an update leaves as they are.
    pub unchanged: Option<String>,
}

impl Compared {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        let Some(envelope) = shape.value.as_ref().filter(|value| value.is_envelope()) else {
            return Ok(shape);
        };
        // If one of the two rows is null, nothing is compared.
        let row = |name| envelope.field(name).and_then(|row| row.parts());
        let mut fields = Vec::new();
        if let (Some(before), Some(after)) = (row("before"), row("after")) {
            for (name, new) in after {
                if let Some((_, old)) = before.iter().find(|(known, _)| *known == name) {
                    fields.push((name.to_string(), Box::new([old.clone(), new])));
                }
            }
        }
        for (header, differ) in [(&self.changed, true), (&self.unchanged, false)] {
            if let Some(name) = header {
                let element = Schema::plain(Base::Text).optional();
                let schema = Schema::plain(Base::Array(Box::new(element))).optional();
                let schema = Schema { name: Some(name.clone().into()), ..schema };
                let node = Node::Compared { differ, fields: fields.clone() };
                let (name, part) = (name.clone(), Part { schema, node });
                shape.headers.push(Header { name, part });
            }
        }
        Ok(shape)
    }
}
