//! Computes the route of a row, a text by which the plan of the row is found. A route has the time
//! of the commit, the value that names the topic, the version and the outline (field names and
//! types) of an event's payload, or the set of fields that an update drops. A route has only those
//! parts that the transforms need.
//!
//! A new route is checked before a plan is made for it. Errors show no value, because values are
//! data.

use super::document::Document;
use super::dropping::{Dropping, SETS_MAX};
use super::encoder::{EncodeError, Encoder};
use super::messages::MESSAGES;
use super::naming;
use super::plan::{PlanError, TOPIC_LENGTH_MAX};
use super::probe::{Answer, BY_EXPRESSION, Probe};
use super::reshape::Original;
use crate::change::{Context, Row};
use crate::lsn::PgMicros;
use crate::pgoutput::{Cell, Tuple};
use crate::table::{ReplicaIdentity, Table};
use crate::transform::convert::ConvertFault;
use crate::transform::outbox::{
    Expand, Outbox, Payload, Places, Updates, topic_value, write_route,
};
use crate::transform::pattern::Pattern;
use crate::transform::timed::{TIME_ENDS, split_time};
use crate::transform::unwrap::{Missing, RouteBy};
use crate::transform::{By, Routing};
use std::collections::BTreeSet;

/// If topics are named by the time of the commit, the plans of other times are forgotten when a
/// table has this many plans, or `topics_max` plans if that is more. Rows of a past time come again
/// only in a replay.
const TIMED_PLANS_MAX: usize = 100;

/// The most plans that the rows of an outbox table may have, or `topics_max` if that is more. A
/// plan takes some kilobytes. Each outline (set of field names and types) of a payload has a plan,
/// and a version in the registry.
const PLANS_MAX: usize = 10_000;

/// Finds the routes of the rows of one version of a table, or of logical messages.
#[derive(Debug)]
pub struct Router {
    pub(super) of: Of,
    pub(super) by: RoutedBy,
    /// The patterns by which the commit's time is written into a route, one for each transform that
    /// names topics by this time.
    times: Vec<Pattern>,
    /// The expressions that are evaluated before the route is known, because they can drop the row
    /// or name its topic. `None` if there are none.
    probe: Option<Box<Probe>>,
}

/// What decides the topic or the plan of a row.
#[derive(Debug)]
pub(super) enum RoutedBy {
    /// The row is an event of an outbox. One column names the topic, and the payload can decide the
    /// plan.
    Outbox(Box<Outbox>),
    /// The value of a column is the name of the topic.
    Field(RouteBy),
    /// Expressions name the topic, and the probe evaluates them. The number is the most topics that
    /// they may name.
    Content(usize),
    /// The row does not decide the topic. Each set of fields that an update drops has its own plan.
    Dropped(Box<Dropping>),
    /// Only the time of the row's commit decides.
    Time,
}

impl RoutedBy {
    fn of(by: Option<By<'_>>) -> Self {
        match by {
            Some(By::Outbox(outbox)) => RoutedBy::Outbox(Box::new(outbox.clone())),
            Some(By::Field(route)) => RoutedBy::Field(route.clone()),
            Some(By::Content(router)) => RoutedBy::Content(router.topics_max),
            Some(By::Dropped(_)) | None => RoutedBy::Time,
        }
    }

    /// Returns the name of the column that names the topic, for errors, and the most topics that
    /// the column may name. If an expression names the topic, words for it are in place of the
    /// column.
    fn column(&self) -> (&str, usize) {
        match self {
            RoutedBy::Outbox(outbox) => (&outbox.route, outbox.topics_max),
            RoutedBy::Field(route) => (&route.field, route.topics_max),
            RoutedBy::Content(topics_max) => (BY_EXPRESSION, *topics_max),
            RoutedBy::Time | RoutedBy::Dropped(_) => ("", 1),
        }
    }
}

/// The changes for which a router finds routes.
#[derive(Debug)]
pub(super) enum Of {
    /// Rows of this table, as the catalog described it. The places are the indexes of the columns
    /// that decide the route. `None` if no column does.
    Rows(Box<Table>, Option<Places>),
    /// Logical messages. The rules say whether nulls and empty lists in the JSON content of a
    /// message get fields.
    Messages(Expand),
}

/// Which plan a row has.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The row has the plan that was made for its route.
    Found,
    /// The row has the plan of its table, and its route is empty.
    Own,
    /// The change has no record: the row is no event, a condition drops the row, or the change is a
    /// truncate that can have no topic.
    Nowhere,
    /// The change has no record, although an operator may expect one: the change is an update of an
    /// outbox row.
    Unexpected,
}

impl Router {
    pub(super) fn new(
        routing: &Routing<'_>,
        places: Option<Places>,
        original: &Original,
        probe: Option<Box<Probe>>,
    ) -> Result<Self, PlanError> {
        let by = RoutedBy::of(routing.by);
        let table = Box::new(original.described.clone());
        let is_masked =
            |place: usize| original.table.fields.get(place).is_some_and(|rule| rule.mask.is_some());
        let names = || (table.name.to_string(), by.column().0.to_owned());
        if places.is_some_and(|places| is_masked(places.route)) {
            let (table, column) = names();
            return Err(PlanError::MaskedRoute { table, column });
        }
        let column = places.and_then(|places| table.columns.get(places.route));
        if let (RoutedBy::Field(RouteBy { missing: Missing::Halt, .. }), Some(column)) =
            (&by, column)
            && !column.in_identity
            && table.identity != ReplicaIdentity::Full
        {
            let (table, column) = names();
            return Err(PlanError::RouteOutsideIdentity { table, column });
        }
        // A masked payload is no JSON document, so the plan does not depend on it.
        let places = places.map(|places| {
            let payload = places.payload.filter(|(place, _)| !is_masked(*place));
            Places { payload, ..places }
        });
        Ok(Router { of: Of::Rows(table, places), by, times: times(routing), probe })
    }

    /// Makes a router that finds the plan of an update by the set of fields that the update drops.
    pub(super) fn of_dropped(
        routing: &Routing<'_>,
        dropping: Dropping,
        original: &Original,
    ) -> Self {
        let of = Of::Rows(Box::new(original.described.clone()), None);
        let by = RoutedBy::Dropped(Box::new(dropping));
        Router { of, by, times: times(routing), probe: None }
    }

    pub(super) fn of_messages(rules: Expand, routing: &Routing<'_>) -> Self {
        let by = RoutedBy::of(routing.by);
        Router { of: Of::Messages(rules), by, times: times(routing), probe: None }
    }

    /// Whether logical messages are routed, and not the rows of a table.
    #[must_use]
    pub fn is_of_messages(&self) -> bool {
        matches!(self.of, Of::Messages(_))
    }

    /// Returns the name of the table whose rows are routed, or the name of logical messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.of {
            Of::Rows(table, _) => table.name.to_string(),
            Of::Messages(_) => MESSAGES.to_owned(),
        }
    }

    /// Replaces the content of `route` by the route of a row.
    ///
    /// # Errors
    /// See [`Router::of_by`].
    pub fn of(
        &self,
        row: &Row<'_>,
        context: &Context<'_>,
        route: &mut String,
    ) -> Result<Route, EncodeError> {
        self.of_by(row, context, route, &mut Encoder::new())
    }

    /// Replaces the content of `route` by the route of a row. Expressions are evaluated in the
    /// buffers of `encoder`.
    ///
    /// # Errors
    /// See [`EncodeError`]. For example, the row names no topic, it is an update of an event and
    /// `updates` is "halt", or an expression cannot be evaluated.
    pub fn of_by(
        &self,
        row: &Row<'_>,
        context: &Context<'_>,
        route: &mut String,
        encoder: &mut Encoder,
    ) -> Result<Route, EncodeError> {
        let Of::Rows(table, places) = &self.of else { unreachable!("messages are no rows") };
        self.write_times(context.committed_at, route)?;
        if let Some(probe) = &self.probe
            && encoder.probe(probe, row, context, route)? == Answer::Dropped
        {
            return Ok(Route::Nowhere);
        }
        let (outbox, places) = match (&self.by, places) {
            (RoutedBy::Content(_), _) if matches!(row, Row::Truncate) => return Ok(Route::Nowhere),
            (RoutedBy::Content(_), _) if route.is_empty() => return Ok(Route::Own),
            (RoutedBy::Time | RoutedBy::Content(_), _) => return Ok(Route::Found),
            (RoutedBy::Dropped(dropping), _) => {
                dropping.write(row, route);
                return Ok(if route.is_empty() { Route::Own } else { Route::Found });
            }
            (_, None) => unreachable!("the places were found with the router"),
            (RoutedBy::Field(by), Some(places)) => {
                return self.by_field(by, (table, places.route), row, route);
            }
            (RoutedBy::Outbox(outbox), Some(places)) => (outbox, places),
        };
        let new = match row {
            Row::Insert { new } | Row::Read { new } => *new,
            Row::Update { .. } if outbox.updates == Updates::Halt => {
                return Err(EncodeError::RoutedUpdate { table: self.name() });
            }
            Row::Update { .. } => return Ok(Route::Unexpected),
            Row::Delete { .. } | Row::Truncate => return Ok(Route::Nowhere),
        };
        match new.cells().nth(places.route) {
            Some(Cell::Text(value)) => {
                let value = std::str::from_utf8(value).map_err(|_| self.no_topic())?;
                let version = self.version(outbox, places, new)?;
                write_route(value, &payload(outbox, places, new), version, route);
                Ok(Route::Found)
            }
            Some(Cell::Null | Cell::Unchanged | Cell::Binary(_)) | None => Err(self.missing()),
        }
    }

    /// Reads the version of an event's schema from the column that states it. `None` if no column
    /// states it, or if the column is NULL.
    fn version(
        &self,
        outbox: &Outbox,
        places: &Places,
        row: Tuple<'_>,
    ) -> Result<Option<u32>, EncodeError> {
        let Some(Cell::Text(text)) = places.version.and_then(|place| cell(row, place)) else {
            return Ok(None);
        };
        let version = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        version.map(Some).ok_or_else(|| EncodeError::Unconverted {
            table: self.name(),
            column: outbox.version.clone().unwrap_or_else(|| outbox.payload.clone()),
            source: ConvertFault::Range("a schema's version"),
        })
    }

    /// Replaces the content of `route` by the time of the commit, in each form that the transforms
    /// need.
    fn write_times(&self, committed_at: PgMicros, route: &mut String) -> Result<(), EncodeError> {
        route.clear();
        for pattern in &self.times {
            let millis = committed_at.unix_micros().div_euclid(1000);
            pattern.write(millis, route).ok_or_else(|| self.no_topic())?;
            route.push(TIME_ENDS);
        }
        Ok(())
    }

    /// Returns the part of a route that follows the times of the commit. This part comes from the
    /// row itself.
    fn without_times<'r>(&self, mut route: &'r str) -> &'r str {
        for _ in &self.times {
            route = split_time(route).1;
        }
        route
    }

    /// Returns the value in a route from which the topic is made. The text is empty if the route
    /// has no value.
    fn value<'r>(&self, route: &'r str) -> &'r str {
        topic_value(self.without_times(route))
    }

    /// Appends to `route` the topic that a column names. Appends nothing if the row keeps the topic
    /// of its table.
    fn by_field(
        &self,
        by: &RouteBy,
        (table, place): (&Table, usize),
        row: &Row<'_>,
        route: &mut String,
    ) -> Result<Route, EncodeError> {
        let found = match row {
            Row::Insert { new } | Row::Read { new } => cell(*new, place),
            Row::Update { old, new } => {
                let (before, after) = (old.map(|old| cell(old.tuple(), place)), cell(*new, place));
                let found = match after {
                    Some(Cell::Unchanged) => before.flatten(),
                    after => after,
                };
                // The update changes key and topic. The update is refused, because the delete of
                // the old key and the create of the new key would need two topics.
                if let Some(old) = old
                    && before.is_some_and(|before| before != found)
                    && is_moved(table, old.tuple(), *new)
                {
                    let column = by.field.clone();
                    return Err(EncodeError::RouteMoved { table: self.name(), column });
                }
                found
            }
            Row::Delete { old } => cell(old.tuple(), place),
            Row::Truncate => return Ok(Route::Nowhere),
        };
        let value = match found {
            Some(Cell::Text(value)) => std::str::from_utf8(value).map_err(|_| self.no_topic())?,
            Some(Cell::Null | Cell::Unchanged | Cell::Binary(_)) | None => "",
        };
        match (value.trim().is_empty(), by.missing) {
            (false, _) => route.push_str(value),
            (true, Missing::Own) => {}
            (true, Missing::Halt) => return Err(self.missing()),
        }
        Ok(Route::Found)
    }

    /// Checks a new route, given the routes that are known already.
    ///
    /// # Errors
    /// The route does not make a valid name of a topic, or there are too many topics or outlines.
    pub fn check<'a>(
        &self,
        route: &str,
        known: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), EncodeError> {
        let topic = match &self.by {
            RoutedBy::Outbox(outbox) => outbox.topic.apply(self.value(route)),
            // Without a value in the route, the topic is made of the table's own topic and perhaps
            // of the commit's time. The row adds nothing that has to be checked.
            RoutedBy::Field(_) | RoutedBy::Content(_) if self.value(route).is_empty() => {
                return Ok(());
            }
            RoutedBy::Time => return Ok(()),
            RoutedBy::Field(_) | RoutedBy::Content(_) => self.value(route).to_owned(),
            RoutedBy::Dropped(_) if known.len() < SETS_MAX => return Ok(()),
            RoutedBy::Dropped(_) => {
                return Err(EncodeError::SetsFull { table: self.name(), max: SETS_MAX });
            }
        };
        if topic.len() > TOPIC_LENGTH_MAX || naming::topic(&topic) != topic || is_refused(&topic) {
            return Err(self.no_topic());
        }
        let topics_max = self.by.column().1;
        if let RoutedBy::Outbox(outbox) = &self.by
            && known.len() >= PLANS_MAX.max(topics_max)
        {
            let (table, column) = (self.name(), outbox.payload.clone());
            return Err(EncodeError::OutlinesFull { table, column, max: PLANS_MAX });
        }
        let values: BTreeSet<&str> = known.map(|route| self.value(route)).collect();
        if values.len() >= topics_max && !values.contains(self.value(route)) {
            let (table, column) = self.names();
            return Err(EncodeError::RoutesFull { table, column, max: topics_max });
        }
        Ok(())
    }

    /// Returns the times of the commit, with which a route begins.
    #[must_use]
    pub fn times_of<'r>(&self, route: &'r str) -> &'r str {
        let rest = self.without_times(route);
        route.strip_suffix(rest).unwrap_or(route)
    }

    /// Whether some rows can have the plan of their table, and no route. The plan of the table must
    /// then have the topic and the schemas of these rows.
    #[must_use]
    pub fn has_own(&self) -> bool {
        let has_own = matches!(self.by, RoutedBy::Content(_) | RoutedBy::Dropped(_));
        has_own && self.times.is_empty()
    }

    /// Whether a table that has `known` plans forgets the plans of past times, because it has too
    /// many. False if no topic is named by the time. Only a replay needs the plan of a past time
    /// again.
    #[must_use]
    pub fn forgets(&self, known: usize) -> bool {
        !self.times.is_empty() && known >= TIMED_PLANS_MAX.max(self.by.column().1)
    }

    /// Whether the rows are events of an outbox.
    #[must_use]
    pub fn is_of_events(&self) -> bool {
        matches!(self.by, RoutedBy::Outbox(_))
    }

    fn missing(&self) -> EncodeError {
        let (table, column) = self.names();
        EncodeError::RouteMissing { table, column }
    }

    fn no_topic(&self) -> EncodeError {
        let (table, column) = self.names();
        EncodeError::RouteNoTopic { table, column }
    }

    fn names(&self) -> (String, String) {
        (self.name(), self.by.column().0.to_owned())
    }
}

fn times(routing: &Routing<'_>) -> Vec<Pattern> {
    routing.times.iter().map(|pattern| (*pattern).clone()).collect()
}

fn cell(tuple: Tuple<'_>, place: usize) -> Option<Cell<'_>> {
    tuple.cells().nth(place)
}

/// Whether an update changes the key of the table.
fn is_moved(table: &Table, old: Tuple<'_>, new: Tuple<'_>) -> bool {
    table.key.iter().any(|place| {
        let after = new.cells().nth(*place);
        after != Some(Cell::Unchanged) && old.cells().nth(*place) != after
    })
}

/// Reads the facts about an event's payload on which its plan depends: whether it is empty, and the
/// outline of its JSON document.
fn payload(outbox: &Outbox, places: &Places, row: Tuple<'_>) -> Payload {
    let Some((place, is_text)) = places.payload else { return Payload::Any };
    match row.cells().nth(place) {
        Some(Cell::Text(text)) if is_text => {
            // Java's `trim` removes each character up to the space, so this text counts as empty.
            if outbox.tombstones && text.iter().all(|byte| *byte <= b' ') {
                return Payload::Empty;
            }
            let outline = outbox.expand.and_then(|rules| {
                Document::expandable(text).and_then(|document| document.outline(rules))
            });
            outline.map_or(Payload::Any, Payload::Document)
        }
        Some(Cell::Null) if outbox.tombstones => Payload::Empty,
        _ => Payload::Any,
    }
}

/// Whether a row may not name this topic: Kafka refuses it, or an agent keeps its state or its
/// quarantine there.
fn is_refused(topic: &str) -> bool {
    matches!(topic, "" | "." | "..") || topic.contains(".wellspring-")
}
