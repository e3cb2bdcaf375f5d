//! `unwrap`: the row in place of its envelope, as Debezium's `ExtractNewRecordState` has it.

use super::dropped::Dropped;
use super::fault::{TransformFault, known};
use super::fields::no_field;
use super::outbox::{Places, row, text_column};
use super::shape::{Base, Header, Kind, Literal, Node, Part, Schema, Shape};
use std::borrow::Cow;

/// Name of the field that says whether the record reports a delete. Rows have it if deletes are
/// rewritten.
const DELETED: &str = "__deleted";

/// What becomes of a delete and of the tombstone after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// The delete and the tombstone are dropped.
    Drop,
    /// The delete becomes a tombstone, and the tombstone that follows it is dropped.
    #[default]
    Tombstone,
    /// The delete becomes its old row, marked by `__deleted`. The tombstone is dropped.
    Rewrite,
    /// The delete becomes its old row, marked by `__deleted`. The tombstone stays.
    RewriteWithTombstone,
    /// The same as `Tombstone`. Debezium tells the two apart by a schema that Kafka never sees.
    DeleteToTombstone,
}

/// A field of the envelope that is added to rows or headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The struct of the envelope that holds the field; `None` for the envelope itself.
    within: Option<String>,
    field: String,
    /// The new name of the field, with the prefix.
    name: String,
}

impl Added {
    /// Reads `field`, `struct.field`, or either with `:name` after it. `None` for any other text.
    #[must_use]
    pub fn read(prefix: &str, text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(str::trim);
        let path: Vec<&str> = parts.next()?.split('.').collect();
        let (named, rest) = (parts.next(), parts.next());
        let is_whole =
            path.iter().chain(named.iter()).all(|part| !part.is_empty()) && rest.is_none();
        let (within, field, own) = match path[..] {
            [field] => (home(field), field, field.to_owned()),
            [within, field] => (Some(within), field, format!("{within}_{field}")),
            _ => return None,
        };
        let name = format!("{prefix}{}", named.map_or(own, str::to_owned));
        is_whole.then(|| Added { within: within.map(str::to_owned), field: field.to_owned(), name })
    }

    /// The value of the field, made optional. `None` if the envelope does not have the field;
    /// Debezium leaves it out too.
    fn of(&self, envelope: &Part) -> Result<Option<Part>, TransformFault> {
        let home = match &self.within {
            None => envelope.clone(),
            Some(within) => envelope.field(within).ok_or_else(|| TransformFault::NoField {
                of: "envelope",
                field: within.clone(),
                known: known(&envelope.schema),
            })?,
        };
        // Another transform may have put the field beside the envelope's own fields.
        let Some(found) = home.field(&self.field).or_else(|| envelope.field(&self.field)) else {
            return Ok(None);
        };
        if matches!(found.schema.base, Base::Struct(_) | Base::Array(_) | Base::Map(..)) {
            return Err(TransformFault::NotSingle { field: self.field.clone() });
        }
        Ok(Some(Part { schema: found.schema.basics().optional(), node: found.node }))
    }
}

/// The struct in which a field without a struct's name is looked for; `None` for the envelope.
fn home(field: &str) -> Option<&'static str> {
    match field {
        "id" | "total_order" | "data_collection_order" => Some("transaction"),
        "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
        _ => Some("source"),
    }
}

/// The column whose value names the topic of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBy {
    /// The name of the row's field that has the column's value.
    pub field: String,
    /// What is done with a row whose column for the topic is null or blank.
    pub missing: Missing,
    /// The most topics that the rows of a table may go to.
    pub topics_max: usize,
}

/// What is done with a row whose column for the topic is null or blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The stream halts at the row.
    Halt,
    /// The row goes to the topic that it would have without this transform, as with Debezium.
    Own,
}

impl RouteBy {
    /// Finds the place of the column that names the topic.
    pub(super) fn places(&self, shape: &Shape) -> Result<Places, TransformFault> {
        let row = row(shape)?;
        let found =
            row.field(&self.field).ok_or_else(|| no_field("row", &self.field, &row.schema))?;
        let route = text_column(&found)
            .ok_or_else(|| TransformFault::NotText { field: self.field.clone() })?;
        Ok(Places { route, payload: None, version: None })
    }
}

/// The settings of `unwrap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrap {
    /// What becomes of deletes.
    pub deletes: Deletes,
    /// Fields of the envelope that rows get beside their columns.
    pub fields: Vec<Added>,
    /// Fields of the envelope that become headers.
    pub headers: Vec<Added>,
    /// The column that names the topic of a row; `None` if no column does.
    pub route: Option<RouteBy>,
    /// Which fields are dropped; `None` if all are kept. This is never set together with `route`.
    pub dropped: Option<Dropped>,
    /// Whether a row that gets the field `__deleted` has the default of a column in place of null.
    pub defaults: bool,
}

impl Unwrap {
    pub(super) fn apply(
        &self,
        kind: Kind,
        mut shape: Shape,
        route: &str,
    ) -> Result<Option<Shape>, TransformFault> {
        if self.is_of_others(kind, route) {
            return Ok(None);
        }
        // A tombstone goes to the topic of its row. Debezium leaves it in the topic of the table,
        // where it has nothing to delete.
        let is_routed = kind.operation().is_none() || shape.is_wrapped();
        if self.route.is_some() && is_routed && !route.is_empty() {
            route.clone_into(&mut shape.topic);
        }
        let Some(envelope) = shape.value.take() else {
            for added in self.headers.iter().filter(|added| added.field == "op") {
                shape.headers.push(Header { name: added.name.clone(), part: Part::text("d") });
            }
            let stays = self.deletes == Deletes::RewriteWithTombstone;
            return Ok(stays.then_some(shape));
        };
        if !envelope.is_envelope() {
            shape.value = Some(envelope);
            return Ok(Some(shape));
        }
        for added in &self.headers {
            if let Some(part) = added.of(&envelope)? {
                shape.headers.push(Header { name: added.name.clone(), part });
            }
        }
        let rewrites = matches!(self.deletes, Deletes::Rewrite | Deletes::RewriteWithTombstone);
        let row = match (kind, self.deletes) {
            (Kind::Truncate, _) | (Kind::Delete | Kind::MovedDelete, Deletes::Drop) => {
                return Ok(None);
            }
            (Kind::Delete | Kind::MovedDelete, Deletes::Tombstone | Deletes::DeleteToTombstone) => {
                return Ok(Some(shape));
            }
            (Kind::Delete | Kind::MovedDelete, _) => envelope.field("before"),
            _ => envelope.field("after"),
        };
        let Some(row) = row.filter(|row| !row.is_null()) else { return Ok(None) };
        let Some(mut fields) = row.parts() else { return Ok(None) };
        if rewrites {
            let deleted = if kind.operation() == Some("d") { "true" } else { "false" };
            let schema = Schema::plain(Base::Text).optional();
            let part = Part { schema, node: Node::Literal(Literal::Text(deleted.to_owned())) };
            fields = row
                .rebuilt(fields, self.defaults)
                .parts()
                .unwrap_or_else(|| unreachable!("a rebuilt struct has fields"));
            put(&mut fields, DELETED, part)?;
        }
        for added in &self.fields {
            if let Some(part) = added.of(&envelope)? {
                put(&mut fields, &added.name, part)?;
            }
        }
        shape.value = Some(row.rebuilt(fields, false));
        match &self.dropped {
            Some(dropped) => dropped.apply(shape, route).map(Some),
            None => Ok(Some(shape)),
        }
    }
}

fn put(
    fields: &mut Vec<(Cow<'static, str>, Part)>,
    name: &str,
    part: Part,
) -> Result<(), TransformFault> {
    if fields.iter().any(|(known, _)| known == name) {
        return Err(TransformFault::Clash { of: "value", field: name.to_owned() });
    }
    fields.push((name.to_owned().into(), part));
    Ok(())
}
