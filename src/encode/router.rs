//! The route of a row: what says which plan the row has. It is the value of a column, and the
//! outline of the payload where that is expanded.
//!
//! A route is checked when it is seen first. No value is told, because values are data.

use super::document::Document;
use super::encoder::EncodeError;
use super::messages::MESSAGES;
use super::naming;
use super::plan::{PlanError, TOPIC_LENGTH_MAX};
use super::reshape::Original;
use crate::change::Row;
use crate::pgoutput::{Cell, Tuple};
use crate::table::Table;
use crate::transform::outbox::{
    Expand, Outbox, Payload, Places, Updates, topic_value, write_route,
};
use std::collections::BTreeSet;

/// The most plans that the rows of a table may have. A plan takes some kilobytes, and each outline
/// of a payload has one and a version in the registry.
const PLANS_MAX: usize = 10_000;

/// How the rows of one version of a table are routed.
#[derive(Debug)]
pub struct Router {
    pub(super) of: Of,
    pub(super) outbox: Outbox,
}

/// The changes that a router routes.
#[derive(Debug)]
pub(super) enum Of {
    /// Rows of a table, as the catalog described it.
    Rows(Box<Table>, Places),
    /// Logical messages, whose content has an outline by these rules.
    Messages(Expand),
}

/// Where a row goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// By the plan of its route.
    Found,
    /// Nowhere: it is no event.
    Nowhere,
    /// Nowhere, which the operator should know.
    Unexpected,
}

impl Router {
    pub(super) fn new(
        outbox: &Outbox,
        places: Places,
        original: &Original,
    ) -> Result<Self, PlanError> {
        let is_masked =
            |place: usize| original.table.fields.get(place).is_some_and(|rule| rule.mask.is_some());
        if is_masked(places.route) {
            let (table, column) = (original.described.name.to_string(), outbox.route.clone());
            return Err(PlanError::MaskedRoute { table, column });
        }
        // What stands for a masked payload is no document.
        let payload = places.payload.filter(|(place, _)| !is_masked(*place));
        let places = Places { payload, ..places };
        let table = Box::new(original.described.clone());
        Ok(Router { of: Of::Rows(table, places), outbox: outbox.clone() })
    }

    /// The table whose rows are routed, or the name of logical messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.of {
            Of::Rows(table, _) => table.name.to_string(),
            Of::Messages(_) => MESSAGES.to_owned(),
        }
    }

    /// Writes the route of a row to `route`, in place of what is there.
    ///
    /// # Errors
    /// The route is null, or the row is an update and those are refused.
    pub fn of(&self, row: &Row<'_>, route: &mut String) -> Result<Route, EncodeError> {
        let new = match row {
            Row::Insert { new } | Row::Read { new } => *new,
            Row::Update { .. } if self.outbox.updates == Updates::Halt => {
                return Err(EncodeError::RoutedUpdate { table: self.name() });
            }
            Row::Update { .. } => return Ok(Route::Unexpected),
            Row::Delete { .. } | Row::Truncate => return Ok(Route::Nowhere),
        };
        let Of::Rows(_, places) = &self.of else { unreachable!("messages are no rows") };
        route.clear();
        match new.cells().nth(places.route) {
            Some(Cell::Text(value)) => {
                let value = std::str::from_utf8(value).map_err(|_| self.no_topic())?;
                write_route(value, &self.payload(places, new), route);
                Ok(Route::Found)
            }
            Some(Cell::Null | Cell::Unchanged | Cell::Binary(_)) | None => {
                let (table, column) = self.names();
                Err(EncodeError::RouteMissing { table, column })
            }
        }
    }

    /// What the plan of a row has to know of its payload.
    fn payload(&self, places: &Places, row: Tuple<'_>) -> Payload {
        let Some((place, is_text)) = places.payload else { return Payload::Any };
        match row.cells().nth(place) {
            Some(Cell::Text(text)) if is_text => {
                // What Java's `trim` takes away.
                if self.outbox.tombstones && text.iter().all(|byte| *byte <= b' ') {
                    return Payload::Empty;
                }
                let outline = self.outbox.expand.and_then(|rules| {
                    Document::expandable(text).and_then(|document| document.outline(rules))
                });
                outline.map_or(Payload::Any, Payload::Document)
            }
            Some(Cell::Null) if self.outbox.tombstones => Payload::Empty,
            _ => Payload::Any,
        }
    }

    /// Checks a route that is new, where these are known already.
    ///
    /// # Errors
    /// The route makes no name of a topic, or there are too many topics or outlines.
    pub fn check<'a>(
        &self,
        route: &str,
        known: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), EncodeError> {
        let topic = self.outbox.topic.apply(topic_value(route));
        if topic.is_empty() || topic.len() > TOPIC_LENGTH_MAX || naming::topic(&topic) != topic {
            return Err(self.no_topic());
        }
        if known.len() >= PLANS_MAX.max(self.outbox.topics_max) {
            let (table, column) = (self.name(), self.outbox.payload.clone());
            return Err(EncodeError::OutlinesFull { table, column, max: PLANS_MAX });
        }
        let values: BTreeSet<&str> = known.map(topic_value).collect();
        if values.len() >= self.outbox.topics_max && !values.contains(topic_value(route)) {
            let (table, column) = self.names();
            return Err(EncodeError::RoutesFull { table, column, max: self.outbox.topics_max });
        }
        Ok(())
    }

    fn no_topic(&self) -> EncodeError {
        let (table, column) = self.names();
        EncodeError::RouteNoTopic { table, column }
    }

    fn names(&self) -> (String, String) {
        (self.name(), self.outbox.route.clone())
    }
}
