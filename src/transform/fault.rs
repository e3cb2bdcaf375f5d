//! Why a transform cannot be applied.

use super::convert::ConvertFault;
use super::shape::{Base, Schema};

/// Why a transform cannot be applied to a table. A fault names fields, and never contains a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum TransformFault {
    #[error("the {of} has no field `{field}`; its fields are {known}")]
    NoField { of: &'static str, field: String, known: String },
    #[error("field `{field}` is no single value and cannot be added")]
    NotSingle { field: String },
    #[error("the {of} is no struct")]
    NotStruct { of: &'static str },
    #[error("field `{field}` is of a type that is not flattened")]
    NotFlat { field: String },
    #[error(
        "field `{field}` is of a type that is not masked, or the replacement is not of its type"
    )]
    NoMask { field: String },
    #[error(
        "a tombstone has no value to take a key from; limit the transform by \
         `when_tombstone = true` and `negate = true`, and consider what the tombstones' key should \
         be"
    )]
    NoValue,
    #[error("the {of} would have two fields named `{field}`")]
    Clash { of: &'static str, field: String },
    #[error("field `{field}` is no text of a column, so it makes no topic")]
    NotText { field: String },
    #[error(
        "field `{field}` is no time of a record; a timestamp without time zone is one, unless \
         events.time is \"connect\" or \"isostring\""
    )]
    NotTime { field: String },
    #[error("the record has the time of a column, and topics are named by the time of the commit")]
    OtherTime,
    #[error("field `{field}` is no number of a partition; an integer is one")]
    NotPartition { field: String },
    #[error("field `{field}` is no version of a schema; an integer is one")]
    NotVersion { field: String },
    #[error(
        "field `{field}` makes no partition: it is no single value, its hash is another one in \
         each process of Java, or it says when the record was made"
    )]
    NotHashed { field: String },
    #[error(
        "header `{header}` holds no names of fields, by which fields are dropped; that of a \
         transform of type \"changed-fields\" does"
    )]
    NotNames { header: String },
    #[error(
        "field `{field}` is of a row that some changes do not have; write `change` in place of \
         `before` and `after`"
    )]
    NullStruct { field: String },
    #[error("field `{field}` is of type {of}, for which there is no {asked}")]
    NoConversion {
        field: String,
        /// The type of the field, as Connect names it.
        of: String,
        /// The conversion that was asked for.
        asked: String,
    },
    #[error("field `{field}` is the same in each record and cannot be converted: {fault}")]
    Unconverted { field: String, fault: ConvertFault },
    #[error("the record is no envelope; no transform before this one may change that")]
    NoEnvelope,
    #[error("`{text}`: {what}")]
    Expression { text: String, what: String },
}

impl TransformFault {
    /// Name of the field at fault. `None` if the fault concerns no single field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            TransformFault::NoField { field, .. }
            | TransformFault::NotSingle { field }
            | TransformFault::NotFlat { field }
            | TransformFault::NoMask { field }
            | TransformFault::Clash { field, .. }
            | TransformFault::NotText { field }
            | TransformFault::NotTime { field }
            | TransformFault::NoConversion { field, .. }
            | TransformFault::Unconverted { field, .. }
            | TransformFault::NotHashed { field }
            | TransformFault::NotVersion { field }
            | TransformFault::NullStruct { field }
            | TransformFault::NotPartition { field } => Some(field),
            TransformFault::NotStruct { .. }
            | TransformFault::NotNames { .. }
            | TransformFault::NoValue
            | TransformFault::OtherTime
            | TransformFault::NoEnvelope
            | TransformFault::Expression { .. } => None,
        }
    }
}

/// A fault, with the transform that caused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transform {number} ({name})")]
pub struct TransformError {
    /// Place of the transform in the configuration, counted from 1.
    pub number: usize,
    /// The transform's type in the configuration.
    pub name: &'static str,
    /// What is wrong with the transform.
    #[source]
    pub source: TransformFault,
}

impl TransformFault {
    /// The fault of a field whose type a conversion does not take.
    pub(super) fn no_conversion(field: &str, of: &Schema, asked: String) -> Self {
        TransformFault::NoConversion { field: field.to_owned(), of: type_of(of), asked }
    }
}

/// The type of a field as Connect names it, with the name of its semantic type if it has one.
fn type_of(schema: &Schema) -> String {
    let base = match &schema.base {
        Base::Boolean => "boolean",
        Base::Int8 => "int8",
        Base::Int16 => "int16",
        Base::Int32 => "int32",
        Base::Int64 => "int64",
        Base::Float32 => "float32",
        Base::Float64 => "float64",
        Base::Text => "string",
        Base::Bytes => "bytes",
        Base::Array(_) => "array",
        Base::Map(..) => "map",
        Base::Struct(_) => "struct",
    };
    schema.name.as_ref().map_or_else(|| base.to_owned(), |name| format!("{base} ({name})"))
}

/// The names of a struct's fields, for the message of a fault.
pub(super) fn known(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|field| &*field.name).collect();
    names.join(", ")
}
