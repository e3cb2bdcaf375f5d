//! Why a change cannot become records: each error with its place, and without a value.

use super::notes::Loss;
use crate::table::value::ValueError;
use crate::transform::convert::ConvertFault;
use crate::transform::expression::run::RunFault;

/// Why a change cannot become records. An error names tables and columns, and never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum EncodeError {
    /// A value is not in the text form of its type.
    #[error("encode column `{column}` of {table}")]
    Value {
        table: String,
        column: String,
        /// What is wrong with the value.
        #[source]
        source: ValueError,
    },
    /// The column's schema can hold neither the value nor null in its place.
    #[error(
        "encode column `{column}` of {table}: its schema has no value for {loss} and the column is \
         NOT NULL; correct the row and skip the change, or drop NOT NULL"
    )]
    NotHoldable {
        table: String,
        column: String,
        /// The kind of value that the schema does not have.
        loss: Loss,
    },
    /// The row has NULL in a column that is NOT NULL by now. A plan of the same table in which the
    /// column is nullable can write this row.
    #[error(
        "encode column `{column}` of {table}: NULL in a column that the catalog has as NOT NULL"
    )]
    RequiredNull {
        table: String,
        column: String,
        /// Index of the column in the table.
        index: usize,
    },
    /// The old row of an update or delete lacks a column of the key, or the server did not send the
    /// column's value because it did not change.
    #[error(
        "encode the key of {table}: column `{column}` is not in the row; its replica identity must \
         hold the key"
    )]
    KeyMissing { table: String, column: String },
    /// The row lacks a column from which a transform computes the partition, or the server did not
    /// send the column's value because it did not change.
    #[error(
        "place a row of {table}: column `{column}`, which makes the partition, is not in the row; \
         its replica identity must hold the column, or write missing = \"ignore\" in \
         partition-routing"
    )]
    PartitionMissing { table: String, column: String },
    /// The column whose value names the topic is NULL or blank, or the row does not have its value.
    #[error("route a row of {table}: column `{column}`, which makes the topic, is NULL or blank")]
    RouteMissing { table: String, column: String },
    /// An update changes the key and the column whose value names the topic.
    #[error(
        "route a row of {table}: an update changes its key and its column `{column}`, which makes \
         the topic, and the records of both keys cannot go to one topic; make such a change a \
         DELETE and an INSERT"
    )]
    RouteMoved { table: String, column: String },
    /// An update changes the key, and an expression names two topics for its records.
    #[error(
        "route a row of {table}: an update changes its key, and content-router names one topic for \
         the delete of the old key and another one for the row of the new key, but the records of \
         a row go to one topic; name the topic by what both have, or make such a change a DELETE \
         and an INSERT"
    )]
    RouteDivided { table: String },
    /// The value of a column or expression makes no name of a topic that Kafka allows, or it makes
    /// the name of one of the agent's own topics.
    #[error("route a row of {table}: the value of column `{column}` makes no name of a topic")]
    RouteNoTopic { table: String, column: String },
    /// The column or expression that names the topics has named more topics than `topics_max`
    /// allows.
    #[error(
        "route a row of {table}: column `{column}` makes more than {max} topics, which topics_max \
         allows"
    )]
    RoutesFull { table: String, column: String, max: usize },
    /// The JSON documents of a payload column have more outlines (sets of field names and types)
    /// than there may be plans.
    #[error(
        "route a row of {table}: the JSON documents of column `{column}` have more than {max} \
         forms; names of fields that are data make a form each; set expand_json = false"
    )]
    OutlinesFull { table: String, column: String, max: usize },
    /// The updates of a table drop more different sets of fields than there may be plans.
    #[error(
        "encode an update of {table}: the updates drop more than {max} different sets of fields, \
         and each set has a schema; drop no fields by a header"
    )]
    SetsFull { table: String, max: usize },
    /// The row names a partition that its topic does not have.
    #[error(
        "place a row of {table}: its column for the partition names none of the {partitions} that \
         topic `{topic}` has"
    )]
    NoPartition { table: String, topic: String, partitions: i32 },
    /// The time of a record is before Kafka's first time, one millisecond after the begin of 1970.
    #[error(
        "encode a row of {table}: its column for the record's time is before 1970-01-01 \
         00:00:00.001, where Kafka's times begin"
    )]
    NoTime { table: String },
    /// A transform cannot convert a value to the new type.
    #[error("convert column `{column}` of {table}")]
    Unconverted {
        table: String,
        column: String,
        /// What is wrong with the value.
        #[source]
        source: ConvertFault,
    },
    /// An expression of a transform cannot be evaluated for a row. The expression is a condition or
    /// names the topic.
    #[error("work out `{condition}` for a row of {table}{column}")]
    Condition {
        table: String,
        /// Words such as ` at column ..`, which name the column that is the cause. The text is
        /// empty if no single column is.
        column: String,
        /// The text of the expression in the configuration.
        condition: String,
        #[source]
        source: RunFault,
    },
    /// The content of a logical message that should be an event is not a JSON object that can be
    /// expanded.
    #[error(
        "decode the content of a logical message: it is no JSON object, or holds a number or list \
         that has no schema; name the prefixes of events in events.message_prefixes, or correct \
         the sender"
    )]
    Content,
    /// The content of a logical message lacks a field that an event needs.
    #[error("route a logical message: its content has no field `{field}` that an event could take")]
    ContentField { field: String },
    /// A row of an outbox was updated, and `updates` is "halt".
    #[error("route a row of {table}: an update is no event, and `updates` is \"halt\"")]
    RoutedUpdate { table: String },
    /// The row has another number of columns than the table of its plan.
    #[error("encode a row of {table}: it has {found} columns, the table {expected}")]
    Shape {
        table: String,
        /// Columns of the plan.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
}

/// Finds the column and the kind of value that an [`EncodeError::NotHoldable`] names, in a text
/// that contains this error. `table` is `namespace.name`.
///
/// The record of a halt keeps only the text of the error. After a restart, the next step is derived
/// from this text.
#[must_use]
pub fn not_holdable_in<'a>(text: &'a str, table: &str) -> Option<(&'a str, Loss)> {
    let (_, rest) = text.split_once("encode column `")?;
    let (column, rest) = rest.split_once(&format!("` of {table}: its schema has no value for "))?;
    let loss = Loss::ALL.into_iter().find(|loss| {
        rest.strip_prefix(&loss.to_string()).is_some_and(|rest| rest.starts_with(" and "))
    })?;
    Some((column, loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_and_kind_are_read_back_from_the_text() {
        for loss in Loss::ALL {
            let (table, column) = ("p.Order `x`".to_owned(), "a `b` of c".to_owned());
            let error = EncodeError::NotHoldable { table, column, loss };
            let detail = format!("table p.Order `x` at commit 0/1E ordinal 2: {error}");
            let found = not_holdable_in(&detail, "p.Order `x`");
            assert_eq!(found, Some(("a `b` of c", loss)), "{detail}");
        }
        assert_eq!(not_holdable_in("encode column `a` of p.t: NULL in a column", "p.t"), None);
    }
}
