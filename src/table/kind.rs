//! How a column's values read: its kind.

/// The kind of a column: its base type with the parameters that shape its value on the wire and in a schema.
///
/// One kind for each way a value is transcoded; a domain has the kind of its base type.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// Any type without a mapping of its own; travels as its text.
    Unknown {
        /// `pg_type.typname`, for messages.
        type_name: Box<str>,
    },
}
