//! `outbox`: rows of an outbox table become messages, as with Debezium's `EventRouter`.
//!
//! The topic depends on a column of the row. If JSON is expanded, the schema depends on the
//! payload. So a shape is made for each pair of a column's value and a payload's outline. The row
//! path looks up the plan by both.

use super::TransformFault;
use super::fields::no_field;
use super::outline::{Outline, Source};
use super::reroute::Replace;
use super::shape::{Base, Header, Kind, Node, Part, Schema, Shape, Time};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Name of the header that holds the id of the event.
const ID_HEADER: &str = "id";

/// Name of the payload's field in a value that has other fields too.
const PAYLOAD_FIELD: &str = "payload";

/// The character in a route after the value that makes the topic. The version of the schema, if
/// there is one, and the outline of the payload follow. An empty payload has no outline. No text of
/// Postgres contains this character.
const OUTLINE_FOLLOWS: char = '\0';

/// The character before the version in a route; `VERSION_ENDS` is the character after it. No
/// outline begins with this character.
const VERSION_BEGINS: char = 'v';
const VERSION_ENDS: char = ';';

/// Stands for the outline in a route that has a version and whose payload is not known.
const UNKNOWN: &str = "*";

/// The settings of `outbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// The column whose value makes the topic.
    pub route: String,
    /// The rule that makes the topic from this value.
    pub topic: Replace,
    /// The column of the event's id.
    pub id: String,
    /// The column of the message's key.
    pub key: String,
    /// The column of the message's value.
    pub payload: String,
    /// Columns that become headers, with the names of the headers.
    pub headers: Vec<(String, String)>,
    /// Columns that become fields beside the payload, with the names of these fields.
    pub fields: Vec<(String, String)>,
    /// Column that holds the version of an event's schema; `None` if schemas have no version. Only
    /// the schema of a struct has one.
    pub version: Option<String>,
    /// The column that holds the timestamp of the record. `None` for the time of the sending.
    pub time: Option<String>,
    /// The column that holds the number of the record's partition. `None` if no column does.
    pub partition: Option<String>,
    /// Whether an empty payload makes a record without value.
    pub tombstones: bool,
    /// Whether a table may lack the columns of `headers`, `fields` and `partition`.
    pub missing: bool,
    /// How a payload that is a JSON document becomes a struct. `None` if the payload stays a text.
    pub expand: Option<Expand>,
    /// What happens to an update of a row.
    pub updates: Updates,
    /// The most topics that the rows of a table may go to.
    pub topics_max: usize,
}

/// What happens to nulls and empty lists of a JSON document, which do not show their type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expand {
    /// Whether a null of the document gets a field in the record. The field's type is optional
    /// bytes.
    pub nulls: bool,
    /// Whether an empty list of the document gets a field in the record. The field is a list of
    /// optional texts.
    pub empty_lists: bool,
}

/// The places of the columns by which a row chooses its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The column whose value is the topic, or makes it.
    pub route: usize,
    /// The column of the payload, and whether its type is a text. `None` if a plan does not depend
    /// on the payload.
    pub payload: Option<(usize, bool)>,
    /// The column of the schema's version, if schemas have one.
    pub version: Option<usize>,
}

/// What a plan knows about the payloads of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing is known. Each record gets the value of the payload's column as it is.
    Any,
    /// Every payload makes a record without a value.
    Empty,
    /// Every payload is a document with this outline.
    Document(Outline),
}

/// Appends the route of an event: the value that makes the topic, and then the version and the
/// outline that the plan depends on.
pub(crate) fn write_route(
    value: &str,
    payload: &Payload,
    version: Option<u32>,
    route: &mut String,
) {
    route.push_str(value);
    if *payload != Payload::Any || version.is_some() {
        route.push(OUTLINE_FOLLOWS);
    }
    if let Some(version) = version {
        // Writing to memory does not fail.
        let _ = write!(route, "{VERSION_BEGINS}{version}{VERSION_ENDS}");
    }
    match payload {
        Payload::Document(outline) => outline.write(route),
        Payload::Any if version.is_some() => route.push_str(UNKNOWN),
        Payload::Any | Payload::Empty => {}
    }
}

/// Splits the rest of a route, after the value, into the version and what follows it.
fn split_version(rest: &str) -> (Option<u32>, &str) {
    let found = rest.strip_prefix(VERSION_BEGINS).and_then(|rest| rest.split_once(VERSION_ENDS));
    match found {
        Some((version, rest)) => (version.parse().ok(), rest),
        None => (None, rest),
    }
}

/// The version of the schema that a route contains; `None` if it contains none.
fn version_of(route: &str) -> Option<u32> {
    split_version(route.split_once(OUTLINE_FOLLOWS)?.1).0
}

/// The value in a route from which the topic is made.
pub(crate) fn topic_value(route: &str) -> &str {
    route.split_once(OUTLINE_FOLLOWS).map_or(route, |(value, _)| value)
}

/// What a route says about the payload.
pub(crate) fn payload_of(route: &str) -> Payload {
    match route.split_once(OUTLINE_FOLLOWS).map(|(_, rest)| split_version(rest).1) {
        None | Some(UNKNOWN) => Payload::Any,
        Some("") => Payload::Empty,
        Some(text) => match Outline::read(text) {
            Some(outline) => Payload::Document(outline),
            None => unreachable!("a route has the outline that was written to it"),
        },
    }
}

/// What happens to an update of an outbox row. An update is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// The update is left out, and the log says so.
    Warn,
    /// The stream halts at the update.
    Halt,
}

impl Outbox {
    /// Makes the shape of the message for rows with this route. `shape` is that of the rows. `None`
    /// if the change is no event.
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
        let is_there = |column: &String| !self.missing || row.schema.place(column).is_some();
        for (column, name) in self.headers.iter().filter(|(column, _)| is_there(column)) {
            shape.headers.push(Header { name: name.clone(), part: field(column)? });
        }
        shape.key = Some(field(&self.key)?);
        if let Some(column) = &self.time {
            shape.time = Some(time(column, field(column)?)?);
        }
        if let Some(column) = self.partition.as_ref().filter(|column| is_there(column)) {
            shape.partition = Some(partition(column, field(column)?)?);
        }
        let payload = field(&self.payload)?;
        let known = payload_of(route);
        shape.value = if known == Payload::Empty {
            None
        } else if self.fields.is_empty() {
            Some(self.expanded(payload, known))
        } else {
            let payload = self.expanded(payload, known);
            let mut fields: Vec<(Cow<'static, str>, Part)> = vec![(PAYLOAD_FIELD.into(), payload)];
            for (column, name) in self.fields.iter().filter(|(column, _)| is_there(column)) {
                if fields.iter().any(|(known, _)| known == name) {
                    return Err(TransformFault::Clash { of: "value", field: name.clone() });
                }
                fields.push((name.clone().into(), field(column)?));
            }
            let mut made = row.rebuilt(fields, false);
            let name = named(made.schema.name.as_deref(), value);
            let version = version_of(route).or(made.schema.version);
            made.schema = Schema { name, version, ..made.schema };
            Some(made)
        };
        shape.topic = self.topic.apply(value);
        Ok(Some(shape))
    }

    /// The payload as a struct, if it is known to be a document; otherwise the payload as it is.
    fn expanded(&self, payload: Part, known: Payload) -> Part {
        match (known, text_column(&payload)) {
            (Payload::Document(outline), Some(place)) => {
                outline.part(Some(&self.payload), Source::Column(place))
            }
            _ => payload,
        }
    }

    /// The places of the columns from which the route of a row is made.
    pub(super) fn places(&self, shape: &Shape) -> Result<Places, TransformFault> {
        let row = row(shape)?;
        let found =
            row.field(&self.route).ok_or_else(|| no_field("row", &self.route, &row.schema))?;
        let route = text_column(&found)
            .ok_or_else(|| TransformFault::NotText { field: self.route.clone() })?;
        let decides = self.expand.is_some() || self.tombstones;
        let payload = row.field(&self.payload).filter(|_| decides).and_then(|payload| {
            let Node::Column { index, .. } = payload.node else { return None };
            Some((index, payload.schema.base == Base::Text))
        });
        // The version is that of the struct around the payload. Without fields there is no struct.
        let version = self.version.as_ref().filter(|_| !self.fields.is_empty());
        let version = version.map(|column| version_place(column, &row)).transpose()?;
        Ok(Places { route, payload, version })
    }
}

/// The timestamp of a record, read from a column. A column of another type than timestamp is a
/// fault.
fn time(column: &str, part: Part) -> Result<Time, TransformFault> {
    let units = match part.schema.name.as_deref() {
        Some("io.debezium.time.Timestamp") => 1,
        Some("io.debezium.time.MicroTimestamp") => 1_000,
        Some("io.debezium.time.NanoTimestamp") => 1_000_000,
        _ => return Err(TransformFault::NotTime { field: column.to_owned() }),
    };
    Ok(Time { part, units })
}

/// The number of a partition, read from a column. A column of another type than int is a fault.
fn partition(column: &str, part: Part) -> Result<Part, TransformFault> {
    match part.schema {
        Schema { base: Base::Int32, name: None, .. } => Ok(part),
        _ => Err(TransformFault::NotPartition { field: column.to_owned() }),
    }
}

/// The place of the column that holds the version of the schema. A column of another type than int
/// is a fault.
fn version_place(column: &str, row: &Part) -> Result<usize, TransformFault> {
    let found = row.field(column).ok_or_else(|| no_field("row", column, &row.schema))?;
    match (found.schema, found.node) {
        (Schema { base: Base::Int32, name: None, .. }, Node::Column { index, .. }) => Ok(index),
        _ => Err(TransformFault::NotVersion { field: column.to_owned() }),
    }
}

/// The place of the column that is the value of this part. `None` if the value is no column, or no
/// text.
pub(super) fn text_column(part: &Part) -> Option<usize> {
    match part {
        Part { schema: Schema { base: Base::Text, .. }, node: Node::Column { index, .. } } => {
            Some(*index)
        }
        _ => None,
    }
}

pub(super) fn row(shape: &Shape) -> Result<Part, TransformFault> {
    let envelope = shape.value.as_ref().filter(|value| value.is_envelope());
    envelope.and_then(|envelope| envelope.field("after")).ok_or(TransformFault::NoEnvelope)
}

/// The name of a row's schema, with `route` inserted before the last part of the name. `None` if
/// the schema has no name, or a name of one part.
fn named(name: Option<&str>, route: &str) -> Option<Cow<'static, str>> {
    let (before, last) = name?.rsplit_once('.')?;
    Some(format!("{before}.{route}.{last}").into())
}
