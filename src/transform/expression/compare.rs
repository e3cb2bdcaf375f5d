//! Values of an expression, and how they are compared.
//!
//! Numbers are compared exactly, whatever their types are. A null is equal to null alone, and has
//! no order.

use super::Fixed;
use std::borrow::Cow;
use std::cmp::Ordering;

/// The value of an expression, or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// A number in plain notation.
    Decimal(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// A value that is not null, and whose content no operator reads.
    Opaque,
}

/// The type of a field, or of a part of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Bool,
    Int,
    Double,
    Decimal,
    Text,
    /// A time in the form of a text. The order of such texts is not the order of the times.
    TimeText,
    /// A list, map, struct or bytes: only whether it is null can be asked.
    Opaque,
    /// The type of a field in a value, key or header that the record does not have. What the type
    /// would be is not known.
    Any,
}

impl Type {
    /// The name of the type in the message of a fault.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Bool => "a bool",
            Type::Int => "a number (int)",
            Type::Double => "a number (double)",
            Type::Decimal => "a number (decimal)",
            Type::Text => "a text",
            Type::TimeText => "a time in a text",
            Type::Opaque => "a struct, list or bytes",
            Type::Any => "a field of nothing",
        }
    }

    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Double | Type::Decimal)
    }

    pub(crate) const fn is_text(self) -> bool {
        matches!(self, Type::Text | Type::TimeText)
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Order::Equal => "==",
            Order::NotEqual => "!=",
            Order::Less => "<",
            Order::LessOrEqual => "<=",
            Order::Greater => ">",
            Order::GreaterOrEqual => ">=",
        }
    }

    pub(crate) const fn is_of_equality(self) -> bool {
        matches!(self, Order::Equal | Order::NotEqual)
    }

    /// Whether a comparison with the result `found` is true by this operator. `found` is `None` if
    /// a number is NaN, which has no order and is equal to nothing.
    pub(crate) fn holds(self, found: Option<Ordering>) -> bool {
        match self {
            Order::Equal => found == Some(Ordering::Equal),
            Order::NotEqual => found != Some(Ordering::Equal),
            Order::Less => found == Some(Ordering::Less),
            Order::LessOrEqual => found.is_some_and(Ordering::is_le),
            Order::Greater => found == Some(Ordering::Greater),
            Order::GreaterOrEqual => found.is_some_and(Ordering::is_ge),
        }
    }
}

impl<'a> From<&'a Fixed> for Value<'a> {
    fn from(fixed: &'a Fixed) -> Self {
        match fixed {
            Fixed::Null => Value::Null,
            Fixed::Bool(value) => Value::Bool(*value),
            Fixed::Int(value) => Value::Int(*value),
            Fixed::Double(value) => Value::Double(*value),
            Fixed::Decimal(value) => Value::Decimal(Cow::Borrowed(value)),
            Fixed::Text(value) => Value::Text(Cow::Borrowed(value)),
            Fixed::Opaque => Value::Opaque,
        }
    }
}

impl From<Value<'_>> for Fixed {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Fixed::Null,
            Value::Bool(value) => Fixed::Bool(value),
            Value::Int(value) => Fixed::Int(value),
            Value::Double(value) => Fixed::Double(value),
            Value::Decimal(value) => Fixed::Decimal(value.into_owned()),
            Value::Text(value) => Fixed::Text(value.into_owned()),
            Value::Opaque => Fixed::Opaque,
        }
    }
}

/// Returns the order of two values that are not null. `None` if a number is NaN, or if values of
/// these two types are not compared.
pub(crate) fn compared(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Double(right)) => int_with_double(*left, *right),
        (Value::Double(left), Value::Int(right)) => {
            int_with_double(*right, *left).map(Ordering::reverse)
        }
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Decimal(left), Value::Decimal(right)) => Some(decimals(left, right)),
        (Value::Decimal(left), Value::Int(right)) => Some(decimals(left, &right.to_string())),
        (Value::Int(left), Value::Decimal(right)) => Some(decimals(&left.to_string(), right)),
        // Binding refuses comparisons of other types.
        _ => None,
    }
}

/// Compares exactly: a whole number above 2^53 is not rounded to a double. `None` if `right` is
/// NaN.
fn int_with_double(left: i64, right: f64) -> Option<Ordering> {
    /// The first double that is too large for an `i64`.
    const ABOVE: f64 = 9_223_372_036_854_775_808.0;
    if right.is_nan() {
        return None;
    }
    if right >= ABOVE {
        return Some(Ordering::Less);
    }
    if right < -ABOVE {
        return Some(Ordering::Greater);
    }
    let whole = right.trunc();
    #[expect(clippy::cast_possible_truncation, reason = "it lies within the range of an i64")]
    let ordering = left.cmp(&(whole as i64));
    // If the whole parts are equal, the fraction decides.
    Some(ordering.then_with(|| 0.0_f64.partial_cmp(&(right - whole)).unwrap_or(Ordering::Equal)))
}

/// Compares two numbers in plain notation.
pub(crate) fn decimals(left: &str, right: &str) -> Ordering {
    let (left, right) = (Digits::of(left), Digits::of(right));
    match (left.sign(), right.sign()) {
        (-1, -1) => right.size(&left),
        (1, 1) => left.size(&right),
        (left, right) => left.cmp(&right),
    }
}

/// A number in plain notation, without zeros at its beginning and at the end of its fraction.
struct Digits<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Digits<'a> {
    fn of(text: &'a str) -> Self {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Digits { is_negative, whole, fraction }
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn size(&self, other: &Self) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len());
        whole.then_with(|| self.whole.cmp(other.whole)).then_with(|| {
            // If one fraction begins with the other one, the shorter fraction is less.
            self.fraction.cmp(other.fraction)
        })
    }
}
