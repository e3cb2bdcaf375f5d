//! Transforms of records. Kafka Connect applies a transform to each record. Here a transform is
//! applied once, to the description of all records of one kind.
//!
//! A [`Chain`] holds the configured transforms in their order. It turns the shape of a record,
//! which says for each field where its value comes from, into another shape. The encoder compiles
//! the shape that the last transform returns. The resulting schemas are equal to Connect's, because
//! each transform does to the schema what its Java class does. Nothing here sees a row.
//!
//! Laws:
//! - A transform depends only on the description and on its settings, so a replay gets the same
//!   result.
//! - A transform that does not fit the description is refused before the first row. The error names
//!   the transform and the field.

pub mod compared;
pub mod content;
pub mod convert;
pub mod dropped;
pub mod expression;
mod fault;
pub mod fields;
pub mod filter;
pub mod hash;
pub mod headers;
pub(crate) mod java;
pub mod logical;
pub mod naming;
pub mod outbox;
pub(crate) mod outline;
pub mod partition;
pub mod pattern;
pub mod reroute;
pub(crate) mod shape;
#[cfg(test)]
mod tests;
pub mod timed;
pub mod times;
pub mod timezone;
pub mod unwrap;
pub mod views;
pub mod zoned;

pub use fault::{TransformError, TransformFault};

use crate::table::TableName;
use crate::table::names::NameList;
use compared::Compared;
use content::ContentRouter;
use dropped::Dropped;
use fields::Fields;
use filter::Filter;
use headers::Headers;
use logical::Logical;
use outbox::{Expand, Outbox, Places};
use partition::Partition;
use pattern::Pattern;
use reroute::Replace;
use shape::{Kind, Shape};
use timed::{Timed, split_time};
use timezone::Timezone;
use unwrap::{RouteBy, Unwrap};
use views::View;

/// Is used in place of a row's route (the text by which its plan is found) while no row is known.
pub const ANY_ROUTE: &str = "any";

/// One transform with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Replaces the envelope by the row.
    Unwrap(Unwrap),
    /// Names topics by a regular expression.
    Regex(Replace),
    /// Names topics by the time of the commit.
    Timed(Box<Timed>),
    /// Names topics by a regular expression, as `Regex` does, so that several tables share a topic.
    /// The names of the schemas and the keys are changed too.
    Logical(Box<Logical>),
    /// Changes fields of the key or value.
    Fields(Fields),
    /// Makes the record's key from these fields of its value. The flag says whether a null becomes
    /// the default of its field.
    ValueToKey(Vec<String>, bool),
    /// Adds, drops or moves headers.
    Headers(Headers),
    /// Makes messages of the inserted rows of an outbox table. Each row names its topic.
    Outbox(Box<Outbox>),
    /// Writes the names of the fields that an update changes into headers.
    Compared(Compared),
    /// Makes the content of a logical message a struct. A table's records stay as they are.
    DecodeMessage(Expand),
    /// Computes the partition of a record from hashes of its fields.
    Partition(Partition),
    /// Moves moments into another time zone.
    Timezone(Timezone),
    /// Gives geometries or vectors another form.
    View(View),
    /// Drops every record that the transform applies to.
    Filter,
    /// Drops the records for which a condition does not hold.
    FilterBy(Box<Filter>),
    /// Names the topic of a row by an expression.
    ContentRouter(Box<ContentRouter>),
}

impl Transform {
    fn apply(
        &self,
        kind: Kind,
        shape: Shape,
        route: Option<&str>,
    ) -> Result<Option<Shape>, TransformFault> {
        Ok(Some(match self {
            Transform::Outbox(outbox) => {
                return outbox.apply(kind, shape, route.unwrap_or(ANY_ROUTE));
            }
            Transform::Unwrap(unwrap) => {
                return unwrap.apply(kind, shape, route.unwrap_or(ANY_ROUTE));
            }
            Transform::Timed(timed) => timed.apply(shape, route.unwrap_or(ANY_ROUTE))?,
            Transform::Regex(replace) => {
                let topic = replace.apply(&shape.topic);
                Shape { topic, ..shape }
            }
            Transform::Logical(logical) => logical.apply(shape)?,
            Transform::Fields(fields) => fields.apply(shape)?,
            Transform::ValueToKey(names, defaults) => {
                fields::value_to_key(names, *defaults, shape)?
            }
            Transform::Headers(headers) => headers.apply(shape)?,
            Transform::Compared(compared) => compared.apply(shape)?,
            Transform::Partition(partition) => partition.apply(kind, shape)?,
            Transform::Timezone(timezone) => timezone.apply(shape)?,
            Transform::View(view) => view.apply(shape)?,
            Transform::DecodeMessage(_) => shape,
            Transform::Filter => return Ok(None),
            Transform::FilterBy(filter) => return filter.apply(kind, shape),
            Transform::ContentRouter(router) => {
                return Ok(router.apply(shape, route.unwrap_or(ANY_ROUTE)));
            }
        }))
    }
}

/// The condition that a record must meet for a transform to apply. Kafka Connect calls it a
/// predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The regular expression matches the whole topic of the record.
    Topic(Box<Replace>),
    /// The record has a header with this name.
    Header(String),
    /// The record has no value.
    Tombstone,
}

impl Condition {
    fn holds(&self, shape: &Shape) -> bool {
        match self {
            Condition::Topic(expression) => expression.fits(&shape.topic),
            Condition::Header(name) => shape.headers.iter().any(|header| header.name == *name),
            Condition::Tombstone => shape.value.as_ref().is_none_or(shape::Part::is_null),
        }
    }
}

/// A transform, with the tables that the transform is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The tables whose records are transformed; empty for all tables.
    pub tables: NameList,
    /// The condition on records; `None` for all records. The flag negates the condition.
    pub when: Option<(Condition, bool)>,
    /// The transform's type in the configuration.
    pub name: &'static str,
    /// What is done to records.
    pub transform: Transform,
}

impl Link {
    /// Whether the transform applies to all records of a topic. False if the condition asks for
    /// something else than the topic.
    fn holds(&self, topic: &str) -> bool {
        match &self.when {
            None => true,
            Some((Condition::Topic(expression), negate)) => expression.fits(topic) != *negate,
            // A condition on headers or tombstones does not depend on the topic. If the transform
            // names topics, the configuration or planning refuses such a condition.
            Some((Condition::Header(_) | Condition::Tombstone, _)) => false,
        }
    }

    /// Whether the transform applies to logical messages. `content-router` never does, because the
    /// outbox router names the topic of a message.
    fn is_for_messages(&self) -> bool {
        self.tables.is_empty() && !matches!(self.transform, Transform::ContentRouter(_))
    }

    fn is_for(&self, table: &TableName) -> bool {
        self.tables.is_empty() || self.tables.guards(&[&table.namespace, &table.name])
    }
}

/// The configured transforms, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The transforms. The first one is applied first.
    pub links: Vec<Link>,
}

impl Chain {
    /// Whether a table's records are transformed.
    #[must_use]
    pub fn is_for(&self, table: &TableName) -> bool {
        self.links.iter().any(|link| link.is_for(table))
    }

    /// The topic of a table's records after all transforms. `own` is the topic without transforms.
    #[must_use]
    pub fn topic(&self, table: &TableName, own: &str) -> String {
        self.followed(own, |link| link.is_for(table)).0
    }

    /// How rows of a table choose their topic or plan. `None` if all rows share one plan. `own` is
    /// the topic without transforms.
    #[must_use]
    pub fn routing(&self, table: &TableName, own: &str) -> Option<Routing<'_>> {
        let by = self.followed(own, |link| link.is_for(table)).1;
        self.routing_by(by, |link| link.is_for(table))
    }

    /// How the content of logical messages is decoded, and how a message then chooses its topic by
    /// an outbox router. `None` if the transforms do not make events of messages.
    pub(crate) fn message_routing(&self, own: &str) -> Option<(Expand, Routing<'_>)> {
        let rules = self.links.iter().find_map(|link| match &link.transform {
            Transform::DecodeMessage(rules) if link.holds(own) => Some(*rules),
            _ => None,
        })?;
        // `unwrap` leaves a message as it is, and a message has no column that names a topic.
        let is_for_messages =
            |link: &Link| link.is_for_messages() && !matches!(link.transform, Transform::Unwrap(_));
        let by = self.followed(own, is_for_messages).1?;
        Some((rules, Routing { by: Some(by), times: Vec::new() }))
    }

    fn routing_by<'a>(
        &'a self,
        by: Option<By<'a>>,
        applies: impl Fn(&Link) -> bool,
    ) -> Option<Routing<'a>> {
        let times = self.links.iter().filter(|link| applies(link)).filter_map(timed);
        let times: Vec<&Pattern> = times.map(|timed| &timed.pattern).collect();
        (by.is_some() || !times.is_empty()).then_some(Routing { by, times })
    }

    /// Applies the links for which `applies` is true to the topic `own`. Returns the topic after
    /// them, and the first of these links that chooses the plan of a row by a value.
    fn followed(&self, own: &str, applies: impl Fn(&Link) -> bool) -> (String, Option<By<'_>>) {
        let (mut topic, mut found) = (own.to_owned(), None);
        for link in self.links.iter().filter(|link| applies(link)) {
            if !link.holds(&topic) {
                continue;
            }
            topic = match &link.transform {
                Transform::Regex(replace) => replace.apply(&topic),
                Transform::Logical(logical) => logical.reroute.topic.apply(&topic),
                Transform::Outbox(outbox) => {
                    found = found.or(Some(By::Outbox(outbox)));
                    outbox.topic.apply(ANY_ROUTE)
                }
                Transform::Unwrap(Unwrap { route: Some(route), .. }) => {
                    found = found.or(Some(By::Field(route)));
                    ANY_ROUTE.to_owned()
                }
                Transform::ContentRouter(router) => {
                    found = found.or(Some(By::Content(router)));
                    ANY_ROUTE.to_owned()
                }
                Transform::Unwrap(Unwrap { dropped: Some(dropped), .. }) => {
                    found = found.or(Some(By::Dropped(dropped)));
                    continue;
                }
                Transform::Timed(timed) => timed.topic(&topic, ANY_ROUTE),
                _ => continue,
            };
        }
        (topic, found)
    }

    /// The places of the columns that decide which plan a row has. `None` if no single column
    /// decides. `shape` is the shape of an inserted row.
    pub(crate) fn route_places(
        &self,
        table: &TableName,
        shape: Shape,
    ) -> Result<Option<Places>, TransformError> {
        let mut shape = Some(shape);
        for (number, link) in (1..).zip(&self.links).filter(|(_, link)| link.is_for(table)) {
            let name = link.name;
            let at = |source| TransformError { number, name, source };
            let Some(known) = shape else { return Ok(None) };
            if link.when.as_ref().is_some_and(|(when, negate)| when.holds(&known) == *negate) {
                shape = Some(known);
                continue;
            }
            match &link.transform {
                Transform::Outbox(outbox) => return outbox.places(&known).map(Some).map_err(at),
                Transform::Unwrap(Unwrap { route: Some(route), .. }) if known.is_wrapped() => {
                    return route.places(&known).map(Some).map_err(at);
                }
                _ => {}
            }
            shape = link.transform.apply(Kind::Create, known, None).map_err(at)?;
        }
        Ok(None)
    }

    /// The shape of a table's records of one kind after all transforms; `None` if they are dropped.
    /// `route` is the text of the row's route: first a time for each [`Timed`], and then the text
    /// of [`outbox::write_route`], the row's topic, or the set of dropped fields.
    pub(crate) fn apply(
        &self,
        table: &TableName,
        kind: Kind,
        shape: Shape,
        route: Option<&str>,
    ) -> Result<Option<Shape>, TransformError> {
        self.apply_where(|link| link.is_for(table), kind, shape, route)
    }

    /// The shape of a logical message after all transforms. `shape` is that of a decoded message.
    pub(crate) fn apply_to_message(
        &self,
        shape: Shape,
        route: &str,
    ) -> Result<Option<Shape>, TransformError> {
        self.apply_where(Link::is_for_messages, Kind::Create, shape, Some(route))
    }

    fn apply_where(
        &self,
        applies: impl Fn(&Link) -> bool,
        kind: Kind,
        mut shape: Shape,
        route: Option<&str>,
    ) -> Result<Option<Shape>, TransformError> {
        let links = || (1..).zip(&self.links).filter(|(_, link)| applies(link));
        let (mut value, mut times) = (route, Vec::new());
        for _ in links().filter(|(_, link)| timed(link).is_some()) {
            let Some((time, after)) = value.map(split_time) else { break };
            times.push(time);
            value = Some(after);
        }
        let mut times = times.into_iter();
        for (number, link) in links() {
            let name = link.name;
            let route = if timed(link).is_some() { times.next() } else { value };
            if link.when.as_ref().is_some_and(|(when, negate)| when.holds(&shape) == *negate) {
                continue;
            }
            let applied = link.transform.apply(kind, shape, route);
            match applied.map_err(|source| TransformError { number, name, source })? {
                Some(next) => shape = next.numbered(number),
                None => return Ok(None),
            }
        }
        Ok(Some(shape))
    }
}

/// How rows of a table choose their plan, and by it their topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing<'a> {
    /// The transform that chooses the plan by a value of the row. `None` if only the time decides.
    pub by: Option<By<'a>>,
    /// The pattern by which the commit's time is written, for each transform that puts it into the
    /// topic.
    pub times: Vec<&'a Pattern>,
}

/// A transform that chooses the plan of a row by values of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// The rows are events of an outbox.
    Outbox(&'a Outbox),
    /// A column of the row names the row's topic.
    Field(&'a RouteBy),
    /// Expressions over the row give its topic.
    Content(&'a ContentRouter),
    /// Rows go to the topic of the table. The plan depends on the fields that an update drops.
    Dropped(&'a Dropped),
}

fn timed(link: &Link) -> Option<&Timed> {
    match &link.transform {
        Transform::Timed(timed) => Some(timed),
        _ => None,
    }
}
