//! `outbox`: rows of an outbox table become messages, as with Debezium's `EventRouter`.
//!
//! The topic depends on a column of the row, and the schema on the payload where JSON is expanded.
//! A shape is therefore made for each value of the column and each outline of a payload that rows
//! have. The row path looks the plan up by both.

use super::TransformFault;
use super::fields::no_field;
use super::outline::{Outline, Source};
use super::reroute::Replace;
use super::shape::{Base, Header, Kind, Node, Part, Schema, Shape};
use std::borrow::Cow;

/// The header that has the id of the event.
const ID_HEADER: &str = "id";

/// The field of the payload in a value that has other fields.
const PAYLOAD_FIELD: &str = "payload";

/// What stands between the topic's value and the outline in a route. Postgres has it in no text.
const OUTLINE_FOLLOWS: char = '\0';

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
    /// How a payload that is a JSON document is expanded. None if it stays a text.
    pub expand: Option<Expand>,
    /// What is done with an update.
    pub updates: Updates,
    /// The most topics that the rows of a table may go to.
    pub topics_max: usize,
}

/// What becomes of values whose type a document does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expand {
    /// Whether a null has a field, which is of optional bytes. It has none otherwise.
    pub nulls: bool,
    /// Whether an empty list has a field, which is a list of optional texts. It has none otherwise.
    pub empty_lists: bool,
}

/// The places of columns in a table of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The column that makes the topic.
    pub route: usize,
    /// The column of the payload. None if no payload is expanded.
    pub payload: Option<usize>,
}

/// Writes the route of an event: the value that makes the topic, and the outline of a payload that
/// is expanded.
pub(crate) fn write_route(value: &str, outline: Option<&Outline>, route: &mut String) {
    route.push_str(value);
    if let Some(outline) = outline {
        route.push(OUTLINE_FOLLOWS);
        outline.write(route);
    }
}

/// The value in a route that makes the topic.
pub(crate) fn topic_value(route: &str) -> &str {
    route.split_once(OUTLINE_FOLLOWS).map_or(route, |(value, _)| value)
}

/// The outline in a route.
fn outline(route: &str) -> Option<Outline> {
    let (_, text) = route.split_once(OUTLINE_FOLLOWS)?;
    let outline = Outline::read(text);
    Some(outline.unwrap_or_else(|| unreachable!("a route has the outline that was written to it")))
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
    /// The message of a row with this route. None for what is no event.
    pub(super) fn apply(
        &self,
        kind: Kind,
        mut shape: Shape,
        route: &str,
    ) -> Result<Option<Shape>, TransformFault> {
        let value = topic_value(route);
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
        let payload = self.expanded(field(&self.payload)?, route);
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

    /// The payload, as the document that the route has the outline of.
    fn expanded(&self, payload: Part, route: &str) -> Part {
        match (outline(route), text_column(&payload)) {
            (Some(outline), Some(place)) => {
                outline.part(Some(&self.payload), Source::Column(place))
            }
            _ => payload,
        }
    }

    /// The places of the columns that the route of a row is made of.
    pub(super) fn places(&self, shape: &Shape) -> Result<Places, TransformFault> {
        let row = row(shape)?;
        let found =
            row.field(&self.route).ok_or_else(|| no_field("row", &self.route, &row.schema))?;
        let route = text_column(&found)
            .ok_or_else(|| TransformFault::NotText { field: self.route.clone() })?;
        let payload = self.expand.and_then(|_| text_column(&row.field(&self.payload)?));
        Ok(Places { route, payload })
    }
}

/// The place of the column that a part is, if it is a text.
fn text_column(part: &Part) -> Option<usize> {
    match part {
        Part { schema: Schema { base: Base::Text, .. }, node: Node::Column { index, .. } } => {
            Some(*index)
        }
        _ => None,
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
