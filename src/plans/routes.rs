//! Topics by value: the plans of a table whose rows name their topic.
//!
//! The row path finds a plan by the value of the row. A value that is new makes it wait until its
//! topic is looked up and its schemas are registered.

use super::{Active, Failure, Outcome, PlanMaker};
use crate::change::Row;
use crate::encode::{EncodeError, Planner, Route, Router};
use crate::ledger::RouteId;
use crate::postgres::PgError;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

/// Rows of a routed table whose route has the same value.
pub struct RouteOf {
    /// `namespace.name` of the table.
    pub table: String,
    /// The value that these rows have in the column of the route.
    pub value: String,
}

/// The plans of a table whose rows name their topic, by the value that names it. They are as many
/// as `topics_max` allows.
pub struct Routes {
    router: Arc<Router>,
    known: RefCell<HashMap<Box<str>, Rc<Active>>>,
}

/// Which plan a row has.
pub enum Routed {
    /// That of its table.
    Own,
    /// That of its topic.
    To(Rc<Active>),
    /// That of a topic which is not planned yet, for rows with this value.
    New(Arc<Router>, String),
    /// None: it is no event.
    Nowhere,
    /// None, which the log tells.
    Unexpected,
}

impl Routes {
    /// No topic is planned yet.
    #[must_use]
    pub fn new(router: Arc<Router>) -> Self {
        Routes { router, known: RefCell::default() }
    }

    /// Takes the plan of the rows with this value.
    pub fn learn(&self, value: &str, active: Active) {
        self.known.borrow_mut().insert(value.into(), Rc::new(active));
    }

    /// Whether a plan has this topic's number.
    fn has(&self, route: RouteId) -> bool {
        self.known.borrow().values().any(|active| active.route == route)
    }
}

impl Active {
    /// Which plan a row has. A known route is found without an allocation.
    ///
    /// # Errors
    /// The row has no route, or its table has too many.
    #[inline]
    pub fn routed(&self, row: &Row<'_>) -> Result<Routed, EncodeError> {
        let Some(routes) = &self.routes else { return Ok(Routed::Own) };
        let value = match routes.router.of(row)? {
            Route::To(value) => value,
            Route::Nowhere => return Ok(Routed::Nowhere),
            Route::Unexpected => return Ok(Routed::Unexpected),
        };
        let known = routes.known.borrow();
        if let Some(active) = known.get(value) {
            return Ok(Routed::To(Rc::clone(active)));
        }
        routes.router.check(value, known.len())?;
        Ok(Routed::New(Arc::clone(&routes.router), value.to_owned()))
    }

    /// Whether records of the table go to the topic with this number.
    #[must_use]
    pub fn goes_to(&self, route: RouteId) -> bool {
        self.route == route || self.routes.as_ref().is_some_and(|routes| routes.has(route))
    }
}

impl PlanMaker {
    /// Plans the topic of the rows of a routed table whose route has this value, however long it
    /// takes.
    ///
    /// # Errors
    /// None today: the lookup asks no Postgres.
    pub async fn route(
        mut self,
        router: Arc<Router>,
        value: String,
    ) -> (Self, Result<Outcome, PgError>) {
        let name = match self.planner.routed(&router, &value) {
            Ok(draft) => format!("{} to {}", router.table(), draft.topic),
            Err(_) => router.table().to_string(), // the draft below fails with the same error
        };
        let draft = |planner: &Planner| planner.routed(&router, &value);
        // The type says that no failure ends the tries.
        let Ok(ready) = self.until_ready(&name, draft, Ok::<Failure, Infallible>).await;
        let of = RouteOf { table: router.table().to_string(), value };
        (self, Ok(Outcome::Routed(ready, of)))
    }
}
