//! Why no plan can be made for a table. Each error names the place and a way to correct it.

use crate::table::typed::in_sql;
use crate::transform::TransformError;

/// Why no plan can be made for a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum PlanError {
    /// The namespace of the schemas would have a part that is not an Avro name. The namespace is
    /// made of the topic.
    #[error(
        "table {table}: `{part}` cannot be part of an Avro namespace (letters, digits and _, not \
         first a digit); rename it, exclude the table, adjust it by events.schema_names = \
         \"avro\", or use events.format = \"json\""
    )]
    Namespace {
        table: String,
        /// The first part that is no Avro name: a part of the prefix between dots, the namespace or
        /// the table's name. With `topics.regex` it is a part of the topic.
        part: String,
    },
    /// A column's name is not an Avro name.
    #[error(
        "column `{column}` of table {table} has a name that Avro does not allow (letters, digits \
         and _, not first a digit); rename it, exclude it, adjust it by events.field_names = \
         \"avro\", or use events.format = \"json\""
    )]
    ColumnName { table: String, column: String },
    /// The old rows of deletes and key changes do not hold a column of the key.
    #[error(
        "table {table}: the replica identity does not hold the key column `{column}`, so deletes \
         could not be keyed; use an identity that holds it (ALTER TABLE {} REPLICA IDENTITY FULL) \
         or exclude the table",
        in_sql(table)
    )]
    KeyOutsideIdentity {
        table: String,
        /// The first key column that old rows lack.
        column: String,
    },
    /// The old rows of deletes do not hold a column from which a transform computes the partition.
    #[error(
        "table {table}: the replica identity does not hold column `{column}`, which makes the \
         partition, so a delete could go to another partition than its row; use an identity that \
         holds it (ALTER TABLE {} REPLICA IDENTITY FULL), or write missing = \"ignore\" in \
         partition-routing",
        in_sql(table)
    )]
    PartitionOutsideIdentity { table: String, column: String },
    /// The mode for unknown types leaves a column of the key out of events. The keys of rows would
    /// lack this column.
    #[error(
        "table {table}: its key column `{column}` is of type {type_name}, which \
         events.unknown_types = \"{mode}\" leaves out, so rows could not be told apart; write \
         \"text\", or exclude the table"
    )]
    KeyLeftOut {
        table: String,
        column: String,
        type_name: String,
        /// The value of `events.unknown_types`, which leaves the column out.
        mode: &'static str,
    },
    /// The topic's name is too long for Kafka.
    #[error(
        "table {table}: its topic `{topic}` has more than 249 characters; rename it, shorten \
         topics.prefix, or exclude the table"
    )]
    Topic { table: String, topic: String },
    /// The rule `topics.regex` makes a name of a topic, and Kafka does not allow this name.
    #[error(
        "table {table}: topics.regex and topics.replacement make `{topic}` of its topic, and a \
         topic's name has letters a-z and A-Z, digits, `.`, `_` and `-`; correct them"
    )]
    Rerouted { table: String, topic: String },
    /// The field that names the table in the key has the name of a key column.
    #[error(
        "table {table}: topics.key_field is `{field}`, which is a column of its key; name the \
         field otherwise"
    )]
    KeyField { table: String, field: String },
    /// A column of the key is masked, but the keys would contain its values unmasked.
    #[error(
        "table {table}: column `{column}` is masked and part of the key, where its values would \
         stand unmasked; give the table another key under [keys], or take the column out of the \
         mask"
    )]
    MaskedKey { table: String, column: String },
    /// The column whose values name the topics is masked, but the names of topics would contain its
    /// values.
    #[error(
        "table {table}: column `{column}` is masked and makes the topics, whose names would hold \
         its values; take the column out of the mask, or route by another one"
    )]
    MaskedRoute { table: String, column: String },
    /// The old rows of deletes do not hold the column whose values name the topics.
    #[error(
        "table {table}: the replica identity does not hold column `{column}`, which makes the \
         topics, so deletes would have none; use an identity that holds it (ALTER TABLE {} REPLICA \
         IDENTITY FULL), or write route_missing = \"own\"",
        in_sql(table)
    )]
    RouteOutsideIdentity { table: String, column: String },
    /// A column of the key is left out of rows, but the keys would contain its values.
    #[error(
        "table {table}: column `{column}` is excluded and part of the key, where its values would \
         stand; give the table another key under [keys], or allow it by columns.excluded_keys = \
         \"keep\""
    )]
    ExcludedKey { table: String, column: String },
    /// One column has two masks.
    #[error(
        "table {table}: column `{column}` has two masks, masks.{} and masks.{}; take it out of one \
         of them", masks[0], masks[1]
    )]
    TwoMasks {
        table: String,
        column: String,
        /// The names of the two masks in the configuration.
        masks: [String; 2],
    },
    /// A mask cannot be applied to the values of a column's type.
    #[error(
        "table {table}: column `{column}` is under masks.{mask} and its type has no masked form; \
         exclude the column, take it out of the mask, or let it pass by masks.{mask}.other_types = \
         \"pass\""
    )]
    NoMaskedForm {
        table: String,
        column: String,
        /// The name of the mask in the configuration.
        mask: String,
    },
    /// Two entries under `[keys]` match one table.
    #[error(
        "table {table}: [keys] has two entries for it, `{}` and `{}`; take it out of one of \
         them", keys[0], keys[1]
    )]
    TwoKeys { table: String, keys: [String; 2] },
    /// An entry under `[keys]` names a column that its table does not have.
    #[error(
        "table {table}: keys.\"{key}\" names column `{column}`, which the table does not have; \
         correct the name"
    )]
    NoKeyColumn {
        table: String,
        /// The pattern of the entry under `[keys]`, which matches the table.
        key: String,
        column: String,
    },
    /// A transform cannot be applied.
    #[error("table {table}: {transform}: {}", transform.source)]
    Transform { table: String, transform: TransformError },
    /// A transform leaves a required field without value.
    #[error("table {table}: the transforms leave the required field `{field}` without a value")]
    NullRequired { table: String, field: String },
    /// A transform makes a name of a topic, and Kafka does not allow this name.
    #[error(
        "table {table}: the transforms send it to topic `{topic}`; a topic has letters a-z and \
         A-Z, digits, `.`, `_` and `-`, at most 249"
    )]
    ShapedTopic { table: String, topic: String },
    /// A transform makes a name of a schema or field that Avro does not allow.
    #[error(
        "table {table}: the transforms name something `{name}`, which Avro does not allow \
         (letters, digits and _, not first a digit); choose another name, or use events.format = \
         \"json\""
    )]
    NotAvro { table: String, name: String },
    /// Transforms give the kinds of records of one table, such as creates and deletes, different
    /// topics or different schemas.
    #[error(
        "table {table}: the transforms give its records two {of}; one table has one: use `tables` \
         to apply them to other tables, or leave the condition out"
    )]
    Divided { table: String, of: &'static str },
    /// Two columns have the same name after the adjustment of names.
    #[error(
        "table {table}: columns `{}` and `{}` are both `{field}` in events; exclude or rename one, \
         or use events.field_names = \"avro_unicode\"", columns[0], columns[1]
    )]
    FieldClash { table: String, field: String, columns: [String; 2] },
}

impl PlanError {
    /// Returns the next step for the operator. `None` if the general step for a refused table fits.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        let PlanError::Transform { table, transform } = self else { return None };
        let field = transform.source.field();
        let field = field.map_or_else(String::new, |field| format!("field `{field}` in "));
        Some(format!("correct {field}{transform}, or leave {table} out of its `tables`"))
    }

    /// False if Avro or Kafka does not allow a name in the database, or the topic's name that
    /// follows from it. True for every other error: its cause is a setting of the operator's, or
    /// the replica identity.
    #[must_use]
    pub fn is_of_rules(&self) -> bool {
        match self {
            PlanError::MaskedKey { .. }
            | PlanError::MaskedRoute { .. }
            | PlanError::RouteOutsideIdentity { .. }
            | PlanError::ExcludedKey { .. }
            | PlanError::TwoMasks { .. }
            | PlanError::NoMaskedForm { .. }
            | PlanError::TwoKeys { .. }
            | PlanError::NoKeyColumn { .. }
            | PlanError::FieldClash { .. }
            | PlanError::KeyOutsideIdentity { .. }
            | PlanError::PartitionOutsideIdentity { .. }
            | PlanError::KeyLeftOut { .. }
            | PlanError::Rerouted { .. }
            | PlanError::Transform { .. }
            | PlanError::NullRequired { .. }
            | PlanError::Divided { .. }
            | PlanError::ShapedTopic { .. }
            | PlanError::NotAvro { .. }
            | PlanError::KeyField { .. } => true,
            PlanError::Namespace { .. }
            | PlanError::ColumnName { .. }
            | PlanError::Topic { .. } => false,
        }
    }
}
