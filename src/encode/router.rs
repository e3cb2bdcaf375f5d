//! The route of a row: the value of a column that says which plan the row has.
//!
//! A value is checked when it is seen first. No value is told, because values are data.

use super::encoder::EncodeError;
use super::naming;
use super::plan::{PlanError, TOPIC_LENGTH_MAX};
use super::reshape::Original;
use crate::change::Row;
use crate::pgoutput::Cell;
use crate::table::{Table, TableName};
use crate::transform::outbox::{Outbox, Updates};

/// How the rows of one version of a table are routed.
#[derive(Debug)]
pub struct Router {
    /// The table as the catalog described it.
    pub(super) table: Table,
    place: usize,
    outbox: Outbox,
}

/// Where a row goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// To the topic of this value.
    To(&'a str),
    /// Nowhere: it is no event.
    Nowhere,
    /// Nowhere, which the operator should know.
    Unexpected,
}

impl Router {
    pub(super) fn new(
        outbox: &Outbox,
        place: usize,
        original: &Original,
    ) -> Result<Self, PlanError> {
        let rule = original.table.fields.get(place);
        if rule.is_some_and(|rule| rule.mask.is_some()) {
            let (table, column) = (original.described.name.to_string(), outbox.route.clone());
            return Err(PlanError::MaskedRoute { table, column });
        }
        Ok(Router { table: original.described.clone(), place, outbox: outbox.clone() })
    }

    /// The table whose rows are routed.
    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.table.name
    }

    /// The route of a row.
    ///
    /// # Errors
    /// The route is null, or the row is an update and those are refused.
    pub fn of<'a>(&self, row: &Row<'a>) -> Result<Route<'a>, EncodeError> {
        let new = match row {
            Row::Insert { new } | Row::Read { new } => *new,
            Row::Update { .. } if self.outbox.updates == Updates::Halt => {
                return Err(EncodeError::RoutedUpdate { table: self.table.name.to_string() });
            }
            Row::Update { .. } => return Ok(Route::Unexpected),
            Row::Delete { .. } | Row::Truncate => return Ok(Route::Nowhere),
        };
        match new.cells().nth(self.place) {
            Some(Cell::Text(value)) => match std::str::from_utf8(value) {
                Ok(value) => Ok(Route::To(value)),
                Err(_) => Err(self.no_topic()),
            },
            Some(Cell::Null | Cell::Unchanged | Cell::Binary(_)) | None => {
                let (table, column) = self.names();
                Err(EncodeError::RouteMissing { table, column })
            }
        }
    }

    /// Checks a value that is new, where this many are known already.
    ///
    /// # Errors
    /// The value makes no name of a topic, or there are too many topics.
    pub fn check(&self, value: &str, known: usize) -> Result<(), EncodeError> {
        let topic = self.outbox.topic.apply(value);
        if topic.is_empty() || topic.len() > TOPIC_LENGTH_MAX || naming::topic(&topic) != topic {
            return Err(self.no_topic());
        }
        if known >= self.outbox.topics_max {
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
        (self.table.name.to_string(), self.outbox.route.clone())
    }
}
