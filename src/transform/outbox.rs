//! `outbox`: rows of an outbox table become messages, as with Debezium's `EventRouter`.
//!
//! The topic depends on a column of the row. A shape is therefore made for each value of the
//! column that rows have, and the row path looks the plan up by the value.

use super::TransformFault;
use super::fields::no_field;
use super::reroute::Replace;
use super::shape::{Base, Header, Kind, Node, Part, Schema, Shape};
use std::borrow::Cow;

/// The header that has the id of the event.
const ID_HEADER: &str = "id";

/// The field of the payload in a value that has other fields.
const PAYLOAD_FIELD: &str = "payload";

/// The settings of `outbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// The column whose value makes the topic.
    pub route: String,
    /// How it makes it.
    pub topic: Replace,
    /// The column of the event's id.
    pub id: String,
    /// The column of the message's key.
    pub key: String,
    /// The column of the message's value.
    pub payload: String,
    /// Columns that become headers, with the names of the headers.
    pub headers: Vec<(String, String)>,
    /// Columns that stand beside the payload, with the names of the fields.
    pub fields: Vec<(String, String)>,
    /// What is done with an update.
    pub updates: Updates,
    /// The most topics that the rows of a table may go to.
    pub topics_max: usize,
}

/// What is done with an update of an outbox row, which is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// It is left out, and the log tells so.
    Warn,
    /// The stream halts.
    Halt,
}

impl Outbox {
    /// The message of a row whose route has this value. None for what is no event.
    pub(super) fn apply(
        &self,
        kind: Kind,
        mut shape: Shape,
        value: &str,
    ) -> Result<Option<Shape>, TransformFault> {
        if !matches!(kind, Kind::Create | Kind::Read) {
            return Ok(None);
        }
        let row = row(&shape)?;
        let field = |name: &str| {
            let found = row.field(name).ok_or_else(|| no_field("row", name, &row.schema))?;
            let node = found.node.with_defaults(&found.schema);
            Ok::<_, TransformFault>(Part { schema: found.schema, node })
        };
        shape.headers.push(Header { name: ID_HEADER.to_owned(), part: field(&self.id)? });
        for (column, name) in &self.headers {
            shape.headers.push(Header { name: name.clone(), part: field(column)? });
        }
        shape.key = Some(field(&self.key)?);
        let payload = field(&self.payload)?;
        shape.value = Some(if self.fields.is_empty() {
            payload
        } else {
            let mut fields: Vec<(Cow<'static, str>, Part)> = vec![(PAYLOAD_FIELD.into(), payload)];
            for (column, name) in &self.fields {
                if fields.iter().any(|(known, _)| known == name) {
                    return Err(TransformFault::Clash { of: "value", field: name.clone() });
                }
                fields.push((name.clone().into(), field(column)?));
            }
            let mut made = row.rebuilt(fields, false);
            made.schema = Schema { name: named(made.schema.name.as_deref(), value), ..made.schema };
            made
        });
        shape.topic = self.topic.apply(value);
        Ok(Some(shape))
    }

    /// The place of the route's column in the table.
    pub(super) fn place(&self, shape: &Shape) -> Result<usize, TransformFault> {
        let row = row(shape)?;
        let found =
            row.field(&self.route).ok_or_else(|| no_field("row", &self.route, &row.schema))?;
        match found {
            Part { schema: Schema { base: Base::Text, .. }, node: Node::Column { index, .. } } => {
                Ok(index)
            }
            _ => Err(TransformFault::NotText { field: self.route.clone() }),
        }
    }
}

fn row(shape: &Shape) -> Result<Part, TransformFault> {
    let envelope = shape.value.as_ref().filter(|value| value.is_envelope());
    envelope.and_then(|envelope| envelope.field("after")).ok_or(TransformFault::NoEnvelope)
}

/// The name of a row's schema, with the route before its last part.
fn named(name: Option<&str>, route: &str) -> Option<Cow<'static, str>> {
    let (before, last) = name?.rsplit_once('.')?;
    Some(format!("{before}.{route}.{last}").into())
}
