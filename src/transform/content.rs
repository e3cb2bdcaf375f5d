//! `content-router`: an expression names the topic of a record, as with Debezium's
//! `ContentBasedRouter`. If the expression gives null, the record keeps its topic.
//!
//! The topic is known only when the row is known. So the row path first evaluates the expressions
//! that [`Chain::probed`] gives, and then looks up the plan of the topic that they name.

use super::expression::bind::{Ready, bind};
use super::expression::compare::Type;
use super::expression::{Expression, Fixed};
use super::filter::{Guard, Nulls};
use super::shape::{Kind, Node, Part, Shape};
use super::unwrap::Unwrap;
use super::{By, Chain, Link, Routing, Transform, TransformError, TransformFault};
use crate::table::TableName;

/// The transform's type in the configuration.
const NAME: &str = "content-router";

/// The settings of `content-router`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRouter {
    /// The expression whose value is the topic. If the value is null, the record keeps its topic.
    pub topic: Expression,
    /// What happens to records without a value. A tombstone that is kept goes to the topic of its
    /// row.
    pub nulls: Nulls,
    /// The most topics that the rows of a table may go to.
    pub topics_max: usize,
}

/// The expressions that are evaluated for a row before its topic is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probed {
    /// The conditions that a record must meet to be written, whatever its topic is.
    pub conditions: Vec<Guard>,
    /// The expressions that name a topic. The last value that is not null is the topic.
    pub topics: Vec<Guard>,
}

impl ContentRouter {
    pub(super) fn apply(&self, mut shape: Shape, route: &str) -> Option<Shape> {
        if self.nulls == Nulls::Drop && has_no_value(&shape) {
            return None;
        }
        if !route.is_empty() {
            route.clone_into(&mut shape.topic);
        }
        Some(shape)
    }

    /// The fault of a chain in which an earlier transform removes the row that names a delete's
    /// topic.
    fn without_row(&self) -> TransformFault {
        let what = "a transform before it takes the row of a delete away, so that the delete would \
                    go to another topic than its row; put content-router before `unwrap`, write \
                    deletes = \"rewrite\" in `unwrap`, or write nulls = \"drop\" here to drop \
                    deletes";
        TransformFault::Expression { text: self.topic.text().to_owned(), what: what.to_owned() }
    }

    /// The expression, bound to the records of one kind of change. `None` if it is null for every
    /// such record.
    fn asked(&self, kind: Kind, shape: &Shape) -> Result<Option<Guard>, TransformFault> {
        let text = self.topic.text().to_owned();
        let fault = |what| TransformFault::Expression { text: text.clone(), what };
        let ready: Ready = bind(&self.topic, shape).map_err(fault)?;
        match (ready.of, ready.fixed()) {
            (_, Some(Fixed::Null)) => return Ok(None),
            (Type::Text | Type::Any, _) => {}
            (of, _) => {
                let what = format!("it is {}, and a topic is a text or null", of.name());
                return Err(TransformFault::Expression { text, what });
            }
        }
        let what = match (ready.reads(Node::reads_block), ready.reads(Node::reads_sequence)) {
            (true, _) => "`transaction` is counted when the topic is known",
            (_, true) => {
                "a replay can have another source.sequence, and has to have the same topic"
            }
            (false, false) => return Ok(Some(Guard { number: 0, name: NAME, text, kind, ready })),
        };
        Err(TransformFault::Expression { text, what: what.to_owned() })
    }
}

impl Ready {
    /// True if `asks` is true for the value of at least one field that the expression names.
    fn reads(&self, asks: fn(&Node) -> bool) -> bool {
        self.operands.iter().any(|operand| asks(&operand.part.node))
    }
}

impl Routing<'_> {
    /// True if rows of one table can have different topics, by their values or by their commit
    /// times.
    #[must_use]
    pub fn names_topics(&self) -> bool {
        !self.times.is_empty() || !matches!(self.by, None | Some(By::Dropped(_)))
    }
}

fn has_no_value(shape: &Shape) -> bool {
    shape.value.as_ref().is_none_or(Part::is_null)
}

/// Whether this transform names the topic of a row by a value of the row.
fn names_topics(link: &Link) -> bool {
    match &link.transform {
        Transform::ContentRouter(_) | Transform::Outbox(_) => true,
        Transform::Unwrap(Unwrap { route, .. }) => route.is_some(),
        _ => false,
    }
}

impl Chain {
    /// Refuses a table that has a `content-router` and another transform that chooses the plan of a
    /// row by a value of the row.
    pub(crate) fn one_names_topics(&self, table: &TableName) -> Result<(), TransformError> {
        let links = || (1..).zip(&self.links).filter(|(_, link)| link.is_for(table));
        let content = links().find_map(|(number, link)| match &link.transform {
            Transform::ContentRouter(router) => Some((number, router)),
            _ => None,
        });
        let other = links().find_map(|(number, link)| match &link.transform {
            Transform::Outbox(_) => Some((number, link, "the topic of a row by a column")),
            Transform::Unwrap(unwrap) if unwrap.route.is_some() => {
                Some((number, link, "the topic of a row by a column"))
            }
            Transform::Unwrap(unwrap) if unwrap.dropped.is_some() => {
                Some((number, link, "the schema of a row by a header"))
            }
            _ => None,
        });
        match (content, other) {
            (Some((content, router)), Some((number, link, chosen))) => {
                let text = router.topic.text().to_owned();
                let what = format!(
                    "transform {content} ({NAME}) chooses the topic of a row by this expression, \
                     and transform {number} ({}) chooses {chosen}; a table can have one of the two \
                     transforms: leave the table out of the `tables` of the other one",
                    link.name
                );
                let source = TransformFault::Expression { text, what };
                Err(TransformError { number, name: link.name, source })
            }
            _ => Ok(()),
        }
    }

    /// The expressions that are evaluated for the records of one kind before the topic of a row is
    /// known. `shape` is the shape of such records without transforms. `None` if the transforms
    /// drop them.
    pub(crate) fn probed(
        &self,
        table: &TableName,
        kind: Kind,
        mut shape: Shape,
    ) -> Result<Option<Probed>, TransformError> {
        let links: Vec<(usize, &Link)> =
            (1..).zip(&self.links).filter(|(_, link)| link.is_for(table)).collect();
        let last = links.iter().rposition(|(_, link)| names_topics(link));
        let mut topics: Vec<Guard> = Vec::new();
        for (number, link) in links.into_iter().take(last.map_or(0, |last| last + 1)) {
            let (number, name) = (number, link.name);
            let at = |source| TransformError { number, name, source };
            if link.when.as_ref().is_some_and(|(when, negate)| when.holds(&shape) == *negate) {
                continue;
            }
            match &link.transform {
                Transform::ContentRouter(router) => {
                    if has_no_value(&shape) {
                        match router.nulls {
                            Nulls::Drop => return Ok(None),
                            // An earlier transform has removed the row that names the topic.
                            _ if kind.operation().is_some() => {
                                return Err(at(router.without_row()));
                            }
                            Nulls::Keep | Nulls::Evaluate => continue,
                        }
                    }
                    if let Some(asked) = router.asked(kind, &shape).map_err(at)? {
                        topics.push(Guard { number, ..asked });
                    }
                }
                Transform::Outbox(_) | Transform::Unwrap(Unwrap { route: Some(_), .. }) => break,
                other => match other.apply(kind, shape, None).map_err(at)? {
                    Some(next) => shape = next.numbered(number),
                    None => return Ok(None),
                },
            }
        }
        // These conditions are evaluated before the record is counted in its transaction. So a
        // condition on `transaction` would see a wrong count.
        if let Some(guard) = shape.guards.iter().find(|it| it.ready.reads(Node::reads_block)) {
            let what = "`transaction` is counted when the topic is known, and this is asked \
                        before; put it behind the transform that names the topic";
            let (number, name) = (guard.number, guard.name);
            let (text, what) = (guard.text.clone(), what.to_owned());
            let source = TransformFault::Expression { text, what };
            return Err(TransformError { number, name, source });
        }
        assert!(shape.guards.iter().all(|guard| guard.number > 0), "the chain numbers its links");
        assert!(topics.len() <= self.links.len(), "a router names one topic of a record");
        Ok(Some(Probed { conditions: shape.guards, topics }))
    }
}
