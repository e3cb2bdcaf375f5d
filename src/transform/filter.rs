//! `filter` with a condition, as with Debezium's `Filter`: a record for which the condition does
//! not hold is dropped.
//!
//! The condition is bound to the shape of the records of each kind of change. If its result is the
//! same for all records of a kind, none of them is tested.

use super::TransformFault;
use super::expression::bind::{Ready, bind};
use super::expression::compare::Type;
use super::expression::run::Absent;
use super::expression::{Expression, Fixed};
use super::shape::{Kind, Part, Shape};

/// What is done with a record that has no value, such as a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// The record stays, and the expression is not evaluated.
    Keep,
    /// The record is dropped.
    Drop,
    /// The expression is evaluated as for any other record.
    Evaluate,
}

/// The settings of `filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The condition that a record must meet to stay.
    pub condition: Expression,
    /// What happens to records without a value.
    pub nulls: Nulls,
}

/// An expression that is evaluated for each record of one kind of change. It is a condition, or it
/// names a topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guard {
    /// Place of the transform in the configuration, counted from 1; 0 until the chain sets it.
    pub number: usize,
    /// The transform's type in the configuration.
    pub name: &'static str,
    /// The expression as it was written.
    pub text: String,
    pub kind: Kind,
    pub ready: Ready,
}

impl Filter {
    pub(super) fn apply(
        &self,
        kind: Kind,
        mut shape: Shape,
    ) -> Result<Option<Shape>, TransformFault> {
        if shape.value.as_ref().is_none_or(Part::is_null) {
            match self.nulls {
                Nulls::Keep => return Ok(Some(shape)),
                Nulls::Drop => return Ok(None),
                Nulls::Evaluate => {}
            }
        }
        let text = self.condition.text().to_owned();
        let ready = match bind(&self.condition, &shape) {
            Ok(ready) => ready,
            Err(what) => return Err(TransformFault::Expression { text, what }),
        };
        match (ready.of, ready.fixed()) {
            (Type::Bool, Some(Fixed::Bool(true))) => return Ok(Some(shape)),
            // A condition that is null does not hold.
            (Type::Bool, Some(_)) => return Ok(None),
            (Type::Bool | Type::Any, _) => {}
            (of, _) => {
                let what =
                    format!("it is {}, and a condition is a bool, such as a comparison", of.name());
                return Err(TransformFault::Expression { text, what });
            }
        }
        shape.guards.push(Guard { number: 0, name: "filter", text, kind, ready });
        Ok(Some(shape))
    }
}

impl Guard {
    /// The fault of a condition that reads a field which no record of this kind of change has.
    pub(crate) fn fault(&self, absent: &Absent) -> TransformFault {
        let Absent { path, within } = absent;
        let records = match self.kind {
            Kind::Create | Kind::MovedCreate => "an insert",
            Kind::Read => "a copied row",
            Kind::Update => "an update",
            Kind::UpdateAlone => "an update without REPLICA IDENTITY FULL",
            Kind::Delete | Kind::MovedDelete => "a delete",
            Kind::Tombstone | Kind::MovedTombstone => "a tombstone",
            Kind::Truncate => "a truncate",
        };
        let instead = match self.kind.operation() {
            Some("t") => {
                "write `op == 't' || ...` to keep such records, `op != 't' && ...` to drop \
                          them, or events.truncates = false"
                    .to_owned()
            }
            Some(op) => format!(
                "write `op == '{op}' || ...` to keep such records, or `op != '{op}' && ...` to \
                 drop them"
            ),
            None => "write nulls = \"keep\" or nulls = \"drop\"".to_owned(),
        };
        let what = format!(
            "the record of {records} has null in `{within}`, and so no `{path}`; {instead}"
        );
        TransformFault::Expression { text: self.text.clone(), what }
    }

    /// The fault of a condition that reads a column which old rows do not contain.
    pub(crate) fn fault_of_identity(&self, column: &str) -> TransformFault {
        let what = format!(
            "the row before a change holds column `{column}` only with REPLICA IDENTITY FULL"
        );
        TransformFault::Expression { text: self.text.clone(), what }
    }
}
