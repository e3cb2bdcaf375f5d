//! `logical-router`: many tables in one topic, as Debezium's `ByLogicalTableRouter` has it.

use super::TransformFault;
use super::naming::Adjust;
use super::reroute::Reroute;
use super::shape::{Base, Field, Part, Schema, Shape};

/// The settings of `logical-router`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// The new topic, and the field that tells tables apart in their keys.
    pub reroute: Reroute,
    /// How the names of schemas are made fit for Avro.
    pub names: Adjust,
}

impl Logical {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        let Some(topic) = self.reroute.topic.replaced(&shape.topic) else { return Ok(shape) };
        let name = |end: &str| Some(self.names.schema_name(&format!("{topic}.{end}")).into());
        if let Some(key) = shape.key.take() {
            let mut fields = key.parts().ok_or(TransformFault::NotStruct { of: "key" })?;
            if let Some(field) = &self.reroute.key_field {
                if fields.iter().any(|(known, _)| known == field) {
                    return Err(TransformFault::Clash { of: "key", field: field.clone() });
                }
                let old = &shape.topic;
                let table = self.reroute.key_value.as_ref();
                let table = table.map_or_else(|| old.clone(), |replace| replace.apply(old));
                fields.push((field.clone().into(), Part::text(&table)));
            }
            let made = key.rebuilt(fields, true);
            shape.key =
                Some(Part { schema: Schema { name: name("Key"), ..made.schema }, node: made.node });
        }
        if let Some(value) = shape.value.as_mut().filter(|value| value.is_envelope()) {
            value.schema.name = name("Envelope");
            if let Base::Struct(fields) = &mut value.schema.base {
                let rows = |field: &&mut Field| matches!(&*field.name, "before" | "after");
                fields.iter_mut().filter(rows).for_each(|field| field.schema.name = name("Value"));
            }
        }
        shape.topic = topic;
        Ok(shape)
    }
}
