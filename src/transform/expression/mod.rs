//! Expressions over a record, in the Common Expression Language: conditions, and names of topics.
//!
//! An expression is read with the configuration ([`Expression::read`]). It is bound to the shape of
//! each kind of record when a table is planned ([`bind`]). Binding finds its fields, checks its
//! types, and computes the parts that are equal in every record. What remains is evaluated for each
//! row over the values of the named fields ([`run`]). The crate `cel` only parses, because its
//! interpreter builds a tree of values for each run and does not check types before a run.
//!
//! Laws:
//! - A run ends, because an expression has no loop, and it has at most [`TOKENS_MAX`] steps.
//! - The same record gives the same result, because no expression reads the clock.
//! - An error is a fault. It never counts as false.

pub(crate) mod bind;
pub(crate) mod compare;
mod names;
mod parse;
pub(crate) mod run;
#[cfg(test)]
mod tests;

use compare::Order;
use std::fmt;

/// The most tokens of an expression. A run takes at most one step for each token, and the tree is
/// at most this deep.
pub const TOKENS_MAX: usize = 400;

/// The most bytes of an expression.
const BYTES_MAX: usize = 16 * 1024;

/// The most brackets within brackets. In a debug build the parser takes 140 KiB of stack for each
/// of them, and a thread has 2 MiB.
const BRACKETS_MAX: usize = 8;

/// The most choices (`? :`) of an expression. Choices can be nested, so their number bounds the
/// depth.
const CHOICES_MAX: usize = 16;

/// The most digits of a number with a point. A double holds that many digits exactly.
const DIGITS_MAX: usize = 15;

/// Why a text cannot be used as an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionFault(pub(super) String);

/// A condition, or an expression that gives the name of a topic.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    tree: Tree,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl Expression {
    /// Reads an expression as it is written in the configuration.
    ///
    /// # Errors
    /// The text is no expression of the language, it is too large, or it uses a construct that is
    /// not allowed here, such as a loop.
    pub fn read(text: &str) -> Result<Self, ExpressionFault> {
        let tree = parse::parse(text)?;
        Ok(Expression { text: text.trim().to_owned(), tree })
    }

    /// Whether the expression names `root`, or a field of `root`.
    #[must_use]
    pub fn names(&self, root: &str) -> bool {
        self.tree.leaves().into_iter().any(|leaf| match leaf {
            Named::Path(path) | Named::Has(path) => path.first().is_some_and(|it| it == root),
            Named::Value(_) => false,
        })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// An operator with its operands. A leaf is a fixed value, or a name that binding replaces by a
/// numbered field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op<L> {
    Leaf(L),
    Not(Box<Op<L>>),
    Negate(Box<Op<L>>),
    And(Box<[Op<L>; 2]>),
    Or(Box<[Op<L>; 2]>),
    /// A condition, the value if it holds, and the value if it does not.
    If(Box<[Op<L>; 3]>),
    Compare(Order, Box<[Op<L>; 2]>),
    /// Whether the first operand is equal to at least one of the others.
    In(Box<Op<L>>, Vec<Op<L>>),
    Compute(Compute, Box<[Op<L>; 2]>),
    Test(Test, Box<[Op<L>; 2]>),
    Matches(Box<Op<L>>, Matcher),
    /// The number of characters of a text.
    Size(Box<Op<L>>),
    Convert(To, Box<Op<L>>),
}

/// An expression before it is bound.
pub(crate) type Tree = Op<Named>;

/// A leaf of an expression as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Named {
    Value(Fixed),
    /// A name, and the names of the fields that lead from it to a value.
    Path(Vec<String>),
    /// `has(...)`: whether there is a value at this path that is not null.
    Has(Vec<String>),
}

/// A value that is written in an expression, or computed from such values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fixed {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// A number in plain notation.
    Decimal(String),
    Text(String),
    /// A value that is not null, and that can be compared with null alone.
    Opaque,
}

/// Operators of numbers. `Add` also joins texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compute {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Questions about two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    StartsWith,
    EndsWith,
    Contains,
}

/// A type that a value is converted into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Int,
    Double,
    Text,
}

/// A regular expression that may match anywhere in a text. A search takes time in proportion to the
/// text.
#[derive(Clone, Debug)]
pub(crate) struct Matcher(pub(super) regex::Regex);

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fixed::Null => f.write_str("null"),
            Fixed::Bool(value) => write!(f, "{value}"),
            Fixed::Int(value) => write!(f, "{value}"),
            Fixed::Double(value) => write!(f, "{value}"),
            Fixed::Decimal(value) => f.write_str(value),
            Fixed::Text(value) => write!(f, "'{value}'"),
            Fixed::Opaque => f.write_str("a struct"),
        }
    }
}

impl fmt::Display for Tree {
    /// Writes a part of an expression for the message of a fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Leaf(Named::Value(value)) => write!(f, "{value}"),
            Op::Leaf(Named::Path(path)) => f.write_str(&path.join(".")),
            Op::Leaf(Named::Has(path)) => write!(f, "has({})", path.join(".")),
            Op::Not(inner) => write!(f, "!{inner}"),
            Op::Negate(inner) => write!(f, "-{inner}"),
            Op::And(sides) => write!(f, "{} && {}", sides[0], sides[1]),
            Op::Or(sides) => write!(f, "{} || {}", sides[0], sides[1]),
            Op::If(parts) => write!(f, "{} ? {} : {}", parts[0], parts[1], parts[2]),
            Op::Compare(order, sides) => {
                write!(f, "{} {} {}", sides[0], order.sign(), sides[1])
            }
            Op::In(value, _) => write!(f, "{value} in [...]"),
            Op::Compute(compute, sides) => {
                write!(f, "{} {} {}", sides[0], compute.sign(), sides[1])
            }
            Op::Test(test, sides) => write!(f, "{}.{}({})", sides[0], test.name(), sides[1]),
            Op::Matches(text, matcher) => write!(f, "{text}.matches('{}')", matcher.0.as_str()),
            Op::Size(text) => write!(f, "size({text})"),
            Op::Convert(to, value) => write!(f, "{}({value})", to.name()),
        }
    }
}

impl Compute {
    pub(crate) const fn sign(self) -> char {
        match self {
            Compute::Add => '+',
            Compute::Subtract => '-',
            Compute::Multiply => '*',
            Compute::Divide => '/',
            Compute::Remainder => '%',
        }
    }
}

impl Test {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Test::StartsWith => "startsWith",
            Test::EndsWith => "endsWith",
            Test::Contains => "contains",
        }
    }
}

impl To {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            To::Int => "int",
            To::Double => "double",
            To::Text => "string",
        }
    }
}
