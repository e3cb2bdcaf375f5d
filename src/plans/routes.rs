//! The plans of a table whose rows have different plans, for example because a value of the row
//! names its topic.
//!
//! The row path finds a plan by the route of the row. A row with a new route waits until the topic
//! of the route is looked up and its schemas are registered.

use super::{Active, Failure, Outcome, PlanMaker, PlanOf};
use crate::change::{Context, Row};
use crate::encode::{EncodeError, Encoder, Planner, Route, Router};
use crate::ledger::RouteId;
use crate::postgres::PgError;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

/// Which rows of a routed table a plan is for: those with this route.
pub struct RouteOf {
    /// `namespace.name` of the table.
    pub table: String,
    /// The route that these rows have: the text that decides their topic.
    pub route: String,
}

/// The plans of a routed table, by the routes of its rows. The router bounds the number of plans.
pub struct Routes {
    router: Arc<Router>,
    known: RefCell<HashMap<Box<str>, Rc<Active>>>,
    /// The ledger's numbers of all topics that were planned. A number is kept when its plan is
    /// forgotten, because records of the plan can still be in flight.
    numbers: RefCell<HashSet<RouteId>>,
    /// Buffer for the route of the present row.
    route: RefCell<String>,
    /// The buffers in which the route of a row is computed.
    encoder: RefCell<Encoder>,
}

/// Which plan a row or a logical message has, if it has a record at all.
pub enum Routed {
    /// The row has the plan of its table.
    Own,
    /// The row has this plan, which was made for the route of the row.
    To(Rc<Active>),
    /// No plan is made yet for the route of the row. The router and this route are what planning
    /// needs.
    New(Arc<Router>, String),
    /// The change has no record: the row is no event, a condition drops the row, or the change is a
    /// truncate that can have no topic.
    Nowhere,
    /// The change has no record, because it is an update of an outbox row. The agent logs that.
    Unexpected,
}

impl Routes {
    /// True if the rows are events of an outbox.
    #[must_use]
    pub fn is_of_events(&self) -> bool {
        self.router.is_of_events()
    }

    /// Creates the routes of a table. No route has a plan yet.
    #[must_use]
    pub fn new(router: Arc<Router>) -> Self {
        Routes {
            router,
            known: RefCell::default(),
            numbers: RefCell::default(),
            route: RefCell::default(),
            encoder: RefCell::default(),
        }
    }

    /// Adds the plan for the rows with this route.
    pub fn learn(&self, route: &str, active: Active) {
        self.numbers.borrow_mut().insert(active.route);
        self.known.borrow_mut().insert(route.into(), Rc::new(active));
    }

    /// Returns the plan of a route, or [`Routed::New`] if the route has no plan yet.
    #[inline]
    fn found(&self, route: &str) -> Result<Routed, EncodeError> {
        if self.router.forgets(self.known.borrow().len()) {
            let times = self.router.times_of(route);
            self.known.borrow_mut().retain(|known, _| self.router.times_of(known) == times);
        }
        let known = self.known.borrow();
        if let Some(active) = known.get(route) {
            return Ok(Routed::To(Rc::clone(active)));
        }
        self.router.check(route, known.keys().map(|known| &**known))?;
        Ok(Routed::New(Arc::clone(&self.router), route.to_owned()))
    }

    /// True if a topic with this number in the ledger was planned for any route, even if its plan
    /// is forgotten by now.
    fn has(&self, route: RouteId) -> bool {
        self.numbers.borrow().contains(&route)
    }
}

impl Active {
    /// Finds the plan of a row by the route of the row.
    ///
    /// # Errors
    /// The route of the row cannot be computed, or the table has too many routes.
    #[inline]
    pub fn routed(&self, row: &Row<'_>, context: &Context<'_>) -> Result<Routed, EncodeError> {
        let Some(routes) = &self.routes else { return Ok(Routed::Own) };
        let mut route = routes.route.borrow_mut();
        let mut encoder = routes.encoder.borrow_mut();
        match routes.router.of_by(row, context, &mut route, &mut encoder)? {
            Route::Found => {}
            Route::Own => return Ok(Routed::Own),
            Route::Nowhere => {
                self.count_notes(&encoder);
                return Ok(Routed::Nowhere);
            }
            Route::Unexpected => return Ok(Routed::Unexpected),
        }
        routes.found(&route)
    }

    /// Finds the plan of a logical message by its prefix and its content.
    ///
    /// # Errors
    /// The message should be an event and is none, or there are too many topics.
    pub fn routed_message(&self, prefix: &str, content: &[u8]) -> Result<Routed, EncodeError> {
        let Some(routes) = self.routes.as_ref().filter(|_| self.plan.takes_message(prefix)) else {
            return Ok(Routed::Own);
        };
        let mut route = routes.route.borrow_mut();
        routes.router.of_message(content, &mut route)?;
        routes.found(&route)
    }

    /// Counts the values of the last row that the encoder wrote in a less exact form, in records or
    /// for a condition.
    #[inline]
    pub fn count_notes(&self, encoder: &Encoder) {
        let notes = encoder.notes().len();
        if notes > 0 {
            self.metrics.unrepresentable.inc_by(notes as u64);
        }
    }

    /// Counts a change that has no record, because the configuration leaves it out. In an outbox
    /// only inserted rows are events, so that nothing is left out of the other changes.
    #[inline]
    pub fn count_filtered(&self, row: &Row<'_>) {
        if matches!(row, Row::Insert { .. } | Row::Read { .. }) || !self.is_of_events() {
            self.metrics.filtered.inc();
        }
    }

    /// True if the rows are events of an outbox.
    #[must_use]
    pub fn is_of_events(&self) -> bool {
        self.routes.as_ref().is_some_and(|routes| routes.is_of_events())
    }

    /// True if records of the table can be on the topic with this number in the ledger.
    #[must_use]
    pub fn goes_to(&self, route: RouteId) -> bool {
        self.route == route || self.routes.as_ref().is_some_and(|routes| routes.has(route))
    }
}

impl PlanMaker {
    /// Plans the topic of the rows of a routed table that have this route, however long it takes.
    ///
    /// # Errors
    /// None: this lookup sends no query to Postgres.
    pub async fn route(
        mut self,
        router: Arc<Router>,
        route: String,
    ) -> (Self, Result<Outcome, PgError>) {
        let name = match self.planner.routed(&router, &route) {
            Ok(draft) => format!("{} to {}", router.name(), draft.topic),
            Err(_) => router.name(), // the draft below fails with the same error
        };
        let draft = |planner: &Planner| planner.routed(&router, &route);
        // No failure ends the tries, because `Infallible` has no value.
        let plan_of = match router.is_of_messages() {
            true => PlanOf::Other(&name),
            false => PlanOf::Table(&name),
        };
        let Ok(ready) = self.until_ready(plan_of, draft, Ok::<Failure, Infallible>).await;
        let of = RouteOf { table: router.name(), route };
        (self, Ok(Outcome::Routed(ready, of)))
    }
}
