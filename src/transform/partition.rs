//! `partition-routing`: the partition of a record follows from fields of it, as with Debezium's
//! `PartitionRouting`.
//!
//! Debezium sends a tombstone to the partition of its key, where it deletes nothing. Here the
//! encoder sends the tombstone to the partition of the delete before it.

use super::TransformFault;
use super::hash::{Class, Hash};
use super::shape::{Base, Hashed, Kind, Meta, Node, Part, Schema, Shape};

/// In a path, this word means the old row of a delete, and the new row of any other change.
const CHANGE: &str = "change";

/// The settings of `partition-routing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The fields of the envelope whose hashes are added up. Each field is given by the names that
    /// lead to it.
    pub fields: Vec<Vec<String>>,
    /// How many partitions records are spread over.
    pub partitions: i32,
    /// The function that hashes one value.
    pub hash: Hash,
    /// What happens if a row lacks the value of one of these fields.
    pub missing: MissingColumn,
}

/// What happens if a row lacks the value of a field: an old row has only the columns of the replica
/// identity, and an update does not carry an unchanged large value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingColumn {
    /// Planning refuses a table whose old rows lack the column, and the stream halts at a row that
    /// lacks the value. Otherwise records of one row would be out of order.
    Halt,
    /// The default or the placeholder that the record has in place of the value is hashed. A null
    /// is not. Debezium does the same.
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

/// Finds the value at a path of the envelope, and the Java class of the value. The default of its
/// column takes the place of null. `None` if the envelope has no such field, or if the value is
/// null in every record.
fn value(
    path: &[String],
    kind: Kind,
    envelope: &Part,
) -> Result<Option<(Class, Part)>, TransformFault> {
    let name = || path.join(".");
    let mut found = envelope.clone();
    for (place, field) in path.iter().enumerate() {
        let field = match field.as_str() {
            // Debezium knows this word in every place of a path except the last.
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
