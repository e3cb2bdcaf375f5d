//! `outbox`: rows of an outbox table become messages, as with Debezium's `EventRouter`.
//!
//! The topic depends on a column of the row, and the schema on the payload where JSON is expanded.
//! A shape is therefore made for each value of the column and each outline of a payload that rows
//! have. The row path looks the plan up by both.

use super::TransformFault;
use super::fields::no_field;
use super::outline::{Outline, Source};
use super::reroute::Replace;
use super::shape::{Base, Header, Kind, Node, Part, Schema, Shape, Time};
use std::borrow::Cow;
use std::fmt::Write as _;

/// The header that has the id of the event.
const ID_HEADER: &str = "id";

/// The field of the payload in a value that has other fields.
const PAYLOAD_FIELD: &str = "payload";

/// What stands between the topic's value and the rest of a route: the version of the schema, if it
/// has one, and the payload's outline. Nothing of an outline is there if the payload is empty.
/// Postgres has it in no text.
const OUTLINE_FOLLOWS: char = '\0';

/// What stands before and after the version in a route. No outline begins so.
const VERSION_BEGINS: char = 'v';
const VERSION_ENDS: char = ';';

/// What stands for the outline of a payload that is not known, where a version stands.
const UNKNOWN: &str = "*";

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
    /// Column that holds the version of an event's schema. Only the schema of a struct has one.
    pub version: Option<String>,
    /// The column of the record's time.
    pub time: Option<String>,
    /// The column with the number of the partition.
    pub partition: Option<String>,
    /// Whether an empty payload makes a record without value.
    pub tombstones: bool,
    /// Whether a table may lack the columns of `headers`, `fields` and `partition`.
    pub missing: bool,
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
    /// The column of the payload, and whether it is a text. None if the topic alone decides.
    pub payload: Option<(usize, bool)>,
    /// The column of the schema's version, if schemas have one.
    pub version: Option<usize>,
}

/// What a plan knows of the payloads of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing: they are what the column holds.
    Any,
    /// They make records without value.
    Empty,
    /// They are documents with this outline.
    Document(Outline),
}

/// Writes the route of an event: the value that makes the topic, and what the plan has to know of
/// the payload and of the schema's version.
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

/// The version in what follows the value in a route, and what follows the version.
fn split_version(rest: &str) -> (Option<u32>, &str) {
    let found = rest.strip_prefix(VERSION_BEGINS).and_then(|rest| rest.split_once(VERSION_ENDS));
    match found {
        Some((version, rest)) => (version.parse().ok(), rest),
        None => (None, rest),
    }
}

/// The version of the schema in a route.
fn version_of(route: &str) -> Option<u32> {
    split_version(route.split_once(OUTLINE_FOLLOWS)?.1).0
}

/// The value in a route that makes the topic.
pub(crate) fn topic_value(route: &str) -> &str {
    route.split_once(OUTLINE_FOLLOWS).map_or(route, |(value, _)| value)
}

/// The payload in a route.
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

    /// The payload, as the document that it is known to be.
    fn expanded(&self, payload: Part, known: Payload) -> Part {
        match (known, text_column(&payload)) {
            (Payload::Document(outline), Some(place)) => {
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
        let decides = self.expand.is_some() || self.tombstones;
        let payload = row.field(&self.payload).filter(|_| decides).and_then(|payload| {
            let Node::Column { index, .. } = payload.node else { return None };
            Some((index, payload.schema.base == Base::Text))
        });
        // Without fields beside the payload there is no struct that could have a version.
        let version = self.version.as_ref().filter(|_| !self.fields.is_empty());
        let version = version.map(|column| version_place(column, &row)).transpose()?;
        Ok(Places { route, payload, version })
    }
}

/// The time of a record that a column holds.
fn time(column: &str, part: Part) -> Result<Time, TransformFault> {
    let units = match part.schema.name.as_deref() {
        Some("io.debezium.time.Timestamp") => 1,
        Some("io.debezium.time.MicroTimestamp") => 1_000,
        Some("io.debezium.time.NanoTimestamp") => 1_000_000,
        _ => return Err(TransformFault::NotTime { field: column.to_owned() }),
    };
    Ok(Time { part, units })
}

/// The number of a partition that a column holds.
fn partition(column: &str, part: Part) -> Result<Part, TransformFault> {
    match part.schema {
        Schema { base: Base::Int32, name: None, .. } => Ok(part),
        _ => Err(TransformFault::NotPartition { field: column.to_owned() }),
    }
}

/// The place of the column with the version of schemas.
fn version_place(column: &str, row: &Part) -> Result<usize, TransformFault> {
    let found = row.field(column).ok_or_else(|| no_field("row", column, &row.schema))?;
    match (found.schema, found.node) {
        (Schema { base: Base::Int32, name: None, .. }, Node::Column { index, .. }) => Ok(index),
        _ => Err(TransformFault::NotVersion { field: column.to_owned() }),
    }
}

/// The place of the column that a part is, if it is a text.
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

/// The name of a row's schema, with the route before its last part.
fn named(name: Option<&str>, route: &str) -> Option<Cow<'static, str>> {
    let (before, last) = name?.rsplit_once('.')?;
    Some(format!("{before}.{route}.{last}").into())
}
