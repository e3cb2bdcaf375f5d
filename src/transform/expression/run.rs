//! Runs a bound expression over the fields of one record.
//!
//! A null is equal to null alone. Every other operator with a null gives null, and a condition that
//! is null does not hold, as in SQL. `&&` and `||` have a result if one side decides it, even if
//! the other side is null or fails, as CEL says.

use super::compare::{Order, Value, compared};
use super::{Compute, Fixed, Op, Test, To};
use std::borrow::Cow;

/// A bound expression, in which a field is a number: its place in `Ready::operands`.
pub(crate) type Program = Op<Bound>;

/// A leaf of an expression after it was bound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound {
    Value(Fixed),
    /// The field at this place in `Ready::operands`.
    Field(usize),
    /// A field that no record of this kind of change has.
    Absent(Absent),
}

/// A field of a struct that is null in every record of one kind of change, such as `after` of a
/// delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    /// The names that lead to the field.
    pub path: String,
    /// The names that lead to the struct.
    pub within: String,
}

/// Why an expression gives no value for a record. It contains no part of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFault {
    /// A number is too large or too small for its type.
    #[error("a number is out of the range of its type")]
    Range,
    /// A whole number is divided by zero.
    #[error("a number is divided by zero")]
    Zero,
    /// A text that should be a number is not one.
    #[error("a text is no number")]
    NoNumber,
    /// The server did not send a value.
    #[error(
        "a large value did not change, so the server did not send it; REPLICA IDENTITY FULL makes \
         the server send it"
    )]
    Unsent,
    /// The struct that holds a named field is null in the record.
    #[error("the row before the change is not known")]
    Absent,
    /// The encoder wrote a value that does not fit the schema.
    #[error("a value is not of the type of its schema")]
    Foreign,
}

type Ran<'a> = Result<Value<'a>, RunFault>;

/// Gives the values of a record's fields to a program that runs.
pub(crate) trait Fields<'a> {
    /// The value of the field at this place in `Ready::operands`.
    ///
    /// # Errors
    /// The server did not send the value, or the value is not of the field's type.
    fn field(&self, place: usize) -> Ran<'a>;
}

impl<'a, F: Fn(usize) -> Ran<'a>> Fields<'a> for F {
    fn field(&self, place: usize) -> Ran<'a> {
        self(place)
    }
}

impl Program {
    /// Evaluates the expression for one record.
    pub(crate) fn run<'a>(&'a self, fields: &impl Fields<'a>) -> Ran<'a> {
        Ok(match self {
            Op::Leaf(Bound::Value(value)) => value.into(),
            Op::Leaf(Bound::Field(place)) => fields.field(*place)?,
            Op::Leaf(Bound::Absent(_)) => return Err(RunFault::Absent),
            Op::Not(inner) => match inner.run(fields)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            },
            Op::Negate(inner) => negated(inner.run(fields)?)?,
            Op::And(sides) => decided(false, sides, fields)?,
            Op::Or(sides) => decided(true, sides, fields)?,
            Op::If(parts) => {
                let [condition, yes, no] = &**parts;
                match condition.run(fields)? {
                    Value::Bool(true) => yes.run(fields)?,
                    Value::Bool(false) => no.run(fields)?,
                    _ => Value::Null,
                }
            }
            Op::Compare(order, sides) => {
                compare(*order, &sides[0].run(fields)?, &sides[1].run(fields)?)
            }
            Op::In(value, items) => {
                let value = value.run(fields)?;
                for item in items {
                    if compare(Order::Equal, &value, &item.run(fields)?) == Value::Bool(true) {
                        return Ok(Value::Bool(true));
                    }
                }
                Value::Bool(false)
            }
            Op::Compute(compute, sides) => {
                computed(*compute, sides[0].run(fields)?, sides[1].run(fields)?)?
            }
            Op::Test(test, sides) => match (sides[0].run(fields)?, sides[1].run(fields)?) {
                (Value::Text(text), Value::Text(part)) => Value::Bool(match test {
                    Test::StartsWith => text.starts_with(&*part),
                    Test::EndsWith => text.ends_with(&*part),
                    Test::Contains => text.contains(&*part),
                }),
                _ => Value::Null,
            },
            Op::Matches(text, matcher) => match text.run(fields)? {
                Value::Text(text) => Value::Bool(matcher.0.is_match(&text)),
                _ => Value::Null,
            },
            Op::Size(text) => match text.run(fields)? {
                Value::Text(text) => {
                    Value::Int(i64::try_from(text.chars().count()).map_err(|_| RunFault::Range)?)
                }
                _ => Value::Null,
            },
            Op::Convert(to, value) => converted(*to, value.run(fields)?)?,
        })
    }
}

/// Evaluates `&&` or `||`. A side whose value is `deciding` decides, even if the other side fails.
fn decided<'a>(deciding: bool, sides: &'a [Program; 2], fields: &impl Fields<'a>) -> Ran<'a> {
    let decides = |ran: &Ran<'_>| *ran == Ok(Value::Bool(deciding));
    let left = sides[0].run(fields);
    if decides(&left) {
        return left;
    }
    let right = sides[1].run(fields);
    if decides(&right) {
        return right;
    }
    Ok(match (left?, right?) {
        (Value::Bool(_), Value::Bool(_)) => Value::Bool(!deciding),
        _ => Value::Null,
    })
}

fn compare(order: Order, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    match (left, right) {
        (Value::Null, Value::Null) if order.is_of_equality() => Value::Bool(order == Order::Equal),
        (Value::Null, _) | (_, Value::Null) if order.is_of_equality() => {
            Value::Bool(order == Order::NotEqual)
        }
        (Value::Null, _) | (_, Value::Null) => Value::Null,
        (left, right) => Value::Bool(order.holds(compared(left, right))),
    }
}

fn negated(value: Value<'_>) -> Ran<'_> {
    Ok(match value {
        Value::Int(value) => Value::Int(value.checked_neg().ok_or(RunFault::Range)?),
        Value::Double(value) => Value::Double(-value),
        _ => Value::Null,
    })
}

fn computed<'a>(compute: Compute, left: Value<'a>, right: Value<'a>) -> Ran<'a> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            if right == 0 && matches!(compute, Compute::Divide | Compute::Remainder) {
                return Err(RunFault::Zero);
            }
            let value = match compute {
                Compute::Add => left.checked_add(right),
                Compute::Subtract => left.checked_sub(right),
                Compute::Multiply => left.checked_mul(right),
                Compute::Divide => left.checked_div(right),
                Compute::Remainder => left.checked_rem(right),
            };
            Value::Int(value.ok_or(RunFault::Range)?)
        }
        (Value::Double(left), Value::Double(right)) => Value::Double(match compute {
            Compute::Add => left + right,
            Compute::Subtract => left - right,
            Compute::Multiply => left * right,
            Compute::Divide => left / right,
            Compute::Remainder => left % right,
        }),
        (Value::Text(left), Value::Text(right)) => {
            let mut text = left.into_owned();
            text.push_str(&right);
            Value::Text(text.into())
        }
        _ => Value::Null,
    })
}

fn converted<'a>(to: To, value: Value<'a>) -> Ran<'a> {
    Ok(match (to, value) {
        (_, Value::Null | Value::Opaque) => Value::Null,
        (To::Int, Value::Int(value)) => Value::Int(value),
        (To::Int, Value::Bool(value)) => Value::Int(i64::from(value)),
        (To::Int, Value::Double(value)) => Value::Int(whole(value)?),
        (To::Int, Value::Decimal(value)) => {
            let whole = value.split_once('.').map_or(&*value, |(whole, _)| whole);
            Value::Int(whole.parse().map_err(|_| RunFault::Range)?)
        }
        (To::Int, Value::Text(value)) => Value::Int(value.parse().map_err(|_| RunFault::NoNumber)?),
        (To::Double, Value::Double(value)) => Value::Double(value),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is asked for")]
        (To::Double, Value::Int(value)) => Value::Double(value as f64),
        (To::Double, Value::Bool(_)) => Value::Null,
        (To::Double, Value::Decimal(value) | Value::Text(value)) => {
            Value::Double(value.parse().map_err(|_| RunFault::NoNumber)?)
        }
        (To::Text, Value::Text(value) | Value::Decimal(value)) => Value::Text(value),
        (To::Text, Value::Bool(value)) => Value::Text(Cow::Borrowed(match value {
            true => "true",
            false => "false",
        })),
        (To::Text, Value::Int(value)) => Value::Text(value.to_string().into()),
        (To::Text, Value::Double(value)) => Value::Text(value.to_string().into()),
    })
}

/// The whole part of a number. A part that is beyond `i64` is a fault.
fn whole(value: f64) -> Result<i64, RunFault> {
    // The lower bound is the least `i64`. The upper bound is the first double above every `i64`.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        #[expect(clippy::cast_possible_truncation, reason = "it lies within the range of an i64")]
        let whole = value as i64;
        return Ok(whole);
    }
    Err(RunFault::Range)
}
