//! `partition-routing`: the partition of a record follows from fields of it, as with Debezium's
//! `PartitionRouting`.
//!
//! Debezium leaves a tombstone to the partition of its key, where it deletes nothing. Ours goes
//! where the delete before it went, which the encoder sees to.

use super::TransformFault;
use super::hash::{Class, Hash};
use super::shape::{Base, Hashed, Kind, Meta, Node, Part, Schema, Shape};

/// The word for the row that a change leaves: the old one of a delete, and the new one otherwise.
const CHANGE: &str = "change";

/// The settings of `partition-routing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The fields of the envelope whose hashes are added, each as the names that lead to it.
    pub fields: Vec<Vec<String>>,
    /// How many partitions records are spread over.
    pub partitions: i32,
    /// The hash of one value.
    pub hash: Hash,
    /// What is done with an old row that lacks a column.
    pub missing: MissingColumn,
}

/// What is done with an old row that lacks a column of the partition, as by its replica identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingColumn {
    /// The table is refused, because records of one row would be out of order.
    Halt,
    /// The value that stands for the column counts, and null does not, as with Debezium.
    Ignore,
}

impl Partition {
    pub(super) fn apply(&self, kind: Kind, mut shape: Shape) -> Result<Shape, TransformFault> {
        let Some(envelope) = shape.value.as_ref().filter(|value| value.is_envelope()) else {
            return Ok(shape);
        };
        if kind == Kind::Truncate {
            return Ok(shape);
        }
        let mut values = Vec::new();
        for path in &self.fields {
            values.extend(value(path, kind, envelope)?);
        }
        if values.is_empty() {
            return Ok(shape);
        }
        let (partitions, hash) = (self.partitions, self.hash);
        let is_strict = self.missing == MissingColumn::Halt;
        let hashed = Hashed { values, hash, partitions, is_strict };
        let schema = Schema::plain(Base::Int32).optional();
        shape.partition = Some(Part { schema, node: Node::Hashed(Box::new(hashed)) });
        Ok(shape)
    }
}

/// The value at a path, with the default of its column in place of null. None where the envelope
/// has no such field.
fn value(
    path: &[String],
    kind: Kind,
    envelope: &Part,
) -> Result<Option<(Class, Part)>, TransformFault> {
    let name = || path.join(".");
    let mut found = envelope.clone();
    for (place, field) in path.iter().enumerate() {
        let field = match field.as_str() {
            // Debezium knows the word in every place but the last.
            CHANGE if place + 1 < path.len() && kind.operation() == Some("d") => "before",
            CHANGE if place + 1 < path.len() => "after",
            field => field,
        };
        if found.is_null() {
            return Err(TransformFault::NullStruct { field: name() });
        }
        if found.schema.place(field).is_none() {
            return Ok(None);
        }
        let inner = found.field(field);
        found = inner.ok_or_else(|| TransformFault::NotHashed { field: name() })?;
    }
    let node = found.node.with_defaults(&found.schema);
    if matches!(node, Node::Null) {
        return Ok(None);
    }
    let is_of_the_clock =
        matches!(node, Node::Meta(Meta::NowMillis | Meta::NowMicros | Meta::NowNanos));
    match Class::of(&found.schema).filter(|_| !is_of_the_clock) {
        Some(class) => Ok(Some((class, Part { schema: found.schema, node }))),
        None => Err(TransformFault::NotHashed { field: name() }),
    }
}
