//! Binds an expression to the shape of one kind of record. Names become fields, types are checked,
//! and parts that are equal in every record of the kind are computed.
//!
//! So `op == 'd' || after.id == 2` is computed once for all deletes. The row `after`, which a
//! delete does not have, is never read.

use super::compare::{Order, Type, Value};
use super::names::{Found, found};
use super::run::{Absent, Bound, Program, RunFault};
use super::{Compute, Expression, Fixed, Named, Op, To, Tree};
use crate::transform::shape::{Base, Literal, Node, Part, Schema, Shape};

/// Name of the schema of a decimal whose values each have a scale of their own.
pub(crate) const VARIABLE: &str = "io.debezium.data.VariableScaleDecimal";

/// An expression that is bound to the records of one kind of change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ready {
    pub program: Program,
    /// The type of the program's result.
    pub of: Type,
    /// The fields that the program names.
    pub operands: Vec<Operand>,
}

/// A field that an expression names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    pub part: Part,
    pub of: Type,
}

/// What is wrong with an expression for the records of a table.
pub(crate) type Fault = String;

type Step = Result<(Program, Type), Fault>;

/// Binds an expression to the records of one kind of change.
pub(crate) fn bind(expression: &Expression, shape: &Shape) -> Result<Ready, Fault> {
    let mut binder = Binder { shape, operands: Vec::new() };
    let (mut program, of) = binder.bind(&expression.tree)?;
    // A part that was computed reads no field any more, so its fields are dropped here.
    let mut operands: Vec<Operand> = Vec::new();
    program.for_each(&mut |leaf| {
        if let Bound::Field(place) = leaf {
            let Some(operand) = binder.operands.get(*place) else {
                unreachable!("each field was noted")
            };
            assert!(operands.len() <= *place, "fields only become fewer");
            let known = operands.iter().position(|known| known == operand);
            *place = known.unwrap_or_else(|| {
                operands.push(operand.clone());
                operands.len() - 1
            });
        }
    });
    assert!(operands.len() <= binder.operands.len(), "no field is added by working out");
    Ok(Ready { program, of, operands })
}

impl Ready {
    /// The result of the expression, if it is the same in every record.
    pub(crate) fn fixed(&self) -> Option<&Fixed> {
        match &self.program {
            Op::Leaf(Bound::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// The first field of the expression that no record of this kind of change has.
    pub(crate) fn absent(&self) -> Option<&Absent> {
        self.program.absent()
    }
}

impl<L> Op<L> {
    /// All leaves of the expression, from the left to the right.
    pub(super) fn leaves(&self) -> Vec<&L> {
        match self {
            Op::Leaf(leaf) => vec![leaf],
            other => other.children().into_iter().flat_map(Op::leaves).collect(),
        }
    }

    fn children(&self) -> Vec<&Op<L>> {
        match self {
            Op::Leaf(_) => Vec::new(),
            Op::Not(inner)
            | Op::Negate(inner)
            | Op::Matches(inner, _)
            | Op::Size(inner)
            | Op::Convert(_, inner) => vec![inner],
            Op::And(sides)
            | Op::Or(sides)
            | Op::Compare(_, sides)
            | Op::Compute(_, sides)
            | Op::Test(_, sides) => sides.iter().collect(),
            Op::If(parts) => parts.iter().collect(),
            Op::In(value, items) => std::iter::once(&**value).chain(items).collect(),
        }
    }

    fn for_each(&mut self, act: &mut impl FnMut(&mut L)) {
        match self {
            Op::Leaf(leaf) => act(leaf),
            Op::Not(inner)
            | Op::Negate(inner)
            | Op::Matches(inner, _)
            | Op::Size(inner)
            | Op::Convert(_, inner) => inner.for_each(act),
            Op::And(sides)
            | Op::Or(sides)
            | Op::Compare(_, sides)
            | Op::Compute(_, sides)
            | Op::Test(_, sides) => sides.iter_mut().for_each(|side| side.for_each(act)),
            Op::If(parts) => parts.iter_mut().for_each(|part| part.for_each(act)),
            Op::In(value, items) => {
                value.for_each(act);
                items.iter_mut().for_each(|item| item.for_each(act));
            }
        }
    }
}

impl Program {
    fn fixed(&self) -> Option<&Fixed> {
        match self {
            Op::Leaf(Bound::Value(value)) => Some(value),
            _ => None,
        }
    }

    fn absent(&self) -> Option<&Absent> {
        match self {
            Op::Leaf(Bound::Absent(absent)) => Some(absent),
            other => other.children().into_iter().find_map(Program::absent),
        }
    }
}

struct Binder<'a> {
    shape: &'a Shape,
    operands: Vec<Operand>,
}

impl Binder<'_> {
    fn bind(&mut self, tree: &Tree) -> Step {
        let (program, of) = match tree {
            Op::Leaf(Named::Value(value)) => {
                (Op::Leaf(Bound::Value(value.clone())), type_of_fixed(value))
            }
            Op::Leaf(Named::Path(path)) => self.leaf(path)?,
            Op::Leaf(Named::Has(path)) => self.has(path)?,
            Op::Not(inner) => (Op::Not(Box::new(self.bool(inner)?)), Type::Bool),
            Op::Negate(inner) => {
                let (program, of) = self.bind(inner)?;
                if !matches!(of, Type::Int | Type::Double | Type::Any) {
                    return Err(wrong(inner, of, "a number"));
                }
                (Op::Negate(Box::new(program)), of)
            }
            Op::And(sides) => {
                let sides = [self.bool(&sides[0])?, self.bool(&sides[1])?];
                return Ok((decided(false, sides, Op::And), Type::Bool));
            }
            Op::Or(sides) => {
                let sides = [self.bool(&sides[0])?, self.bool(&sides[1])?];
                return Ok((decided(true, sides, Op::Or), Type::Bool));
            }
            Op::If(parts) => return self.choice(parts),
            Op::Compare(order, sides) => {
                let (mut left, right) = (self.side(&sides[0])?, self.side(&sides[1])?);
                let right = comparable(*order, &mut left, right)?;
                (Op::Compare(*order, Box::new([left.program, right])), Type::Bool)
            }
            Op::In(value, items) => {
                let mut bound = Vec::new();
                // `value` is bound once for all items: nested `in`s would multiply the work.
                let mut found = self.side(value)?;
                for item in items {
                    let item = comparable(Order::Equal, &mut found, self.side(item)?)?;
                    bound.push(item);
                }
                (Op::In(Box::new(found.program), bound), Type::Bool)
            }
            Op::Compute(compute, sides) => self.computed(*compute, sides)?,
            Op::Test(test, sides) => {
                let sides = [self.text(&sides[0])?, self.text(&sides[1])?];
                (Op::Test(*test, Box::new(sides)), Type::Bool)
            }
            Op::Matches(text, matcher) => {
                (Op::Matches(Box::new(self.text(text)?), matcher.clone()), Type::Bool)
            }
            Op::Size(text) => (Op::Size(Box::new(self.text(text)?)), Type::Int),
            Op::Convert(to, value) => self.converted(*to, value)?,
        };
        Ok((worked_out(program, tree)?, of))
    }

    fn bool(&mut self, tree: &Tree) -> Result<Program, Fault> {
        match self.bind(tree)? {
            (program, Type::Bool | Type::Any) => Ok(program),
            (_, of) => Err(wrong(tree, of, "a bool, such as a comparison")),
        }
    }

    fn text(&mut self, tree: &Tree) -> Result<Program, Fault> {
        match self.bind(tree)? {
            (program, Type::Text | Type::TimeText | Type::Any) => Ok(program),
            (_, of) => Err(wrong(tree, of, "a text")),
        }
    }

    fn choice(&mut self, parts: &[Tree; 3]) -> Step {
        let condition = self.bool(&parts[0])?;
        let ((yes, left), (no, right)) = (self.bind(&parts[1])?, self.bind(&parts[2])?);
        let of = match (left, right) {
            (left, right) if left == right => left,
            (Type::Null | Type::Any, of) | (of, Type::Null | Type::Any) => of,
            (left, right) if left.is_text() && right.is_text() => Type::Text,
            (left, right) => {
                return Err(format!(
                    "`{}` is {} and `{}` is {}, and both sides of `:` have one type",
                    parts[1],
                    left.name(),
                    parts[2],
                    right.name()
                ));
            }
        };
        let program = match condition.fixed() {
            Some(Fixed::Bool(true)) => yes,
            Some(Fixed::Bool(false)) => no,
            Some(_) => Op::Leaf(Bound::Value(Fixed::Null)),
            None => Op::If(Box::new([condition, yes, no])),
        };
        Ok((program, of))
    }

    fn side<'t>(&mut self, tree: &'t Tree) -> Result<Side<'t>, Fault> {
        let (program, of) = self.bind(tree)?;
        Ok(Side { tree, program, of })
    }

    fn computed(&mut self, compute: Compute, sides: &[Tree; 2]) -> Step {
        let ((left, of_left), (right, of_right)) = (self.bind(&sides[0])?, self.bind(&sides[1])?);
        let of = match (of_left, of_right) {
            (Type::Any, of) | (of, Type::Any) => of,
            (Type::Int, Type::Int) => Type::Int,
            (Type::Double, Type::Double) => Type::Double,
            (left, right) if compute == Compute::Add && left.is_text() && right.is_text() => {
                Type::Text
            }
            (left, right) => {
                let hint = match left.is_number() && right.is_number() {
                    true => "; write both as double(...), or a number with a point",
                    false => "",
                };
                return Err(format!(
                    "`{}` is {} and `{}` is {}, and `{}` takes two of one type{hint}",
                    sides[0],
                    left.name(),
                    sides[1],
                    right.name(),
                    compute.sign()
                ));
            }
        };
        Ok((Op::Compute(compute, Box::new([left, right])), of))
    }

    fn converted(&mut self, to: To, value: &Tree) -> Step {
        let (program, of) = self.bind(value)?;
        let is_there = match (to, of) {
            (_, Type::Opaque | Type::Null) | (To::Double, Type::Bool) => false,
            (To::Int | To::Double | To::Text, _) => true,
        };
        if !is_there {
            return Err(wrong(value, of, &format!("what {}(...) takes", to.name())));
        }
        let made = match to {
            To::Int => Type::Int,
            To::Double => Type::Double,
            To::Text => Type::Text,
        };
        Ok((Op::Convert(to, Box::new(program)), made))
    }

    fn leaf(&mut self, path: &[String]) -> Step {
        let name = path.join(".");
        let (part, absent) = match found(self.shape, path)? {
            Found::Part(part, absent) => (part, absent),
            Found::Nothing => return Ok((Op::Leaf(Bound::Value(Fixed::Null)), Type::Null)),
            Found::OfNothing(within) => {
                let absent = Absent { path: name, within };
                return Ok((Op::Leaf(Bound::Absent(absent)), Type::Any));
            }
        };
        let of = type_of(&part.schema);
        if let Some(within) = absent {
            return Ok((Op::Leaf(Bound::Absent(Absent { path: name, within })), of));
        }
        let leaf = match &part.node {
            Node::Null => Bound::Value(Fixed::Null),
            Node::Literal(literal) => Bound::Value(fixed(literal)),
            Node::Struct(_) => Bound::Value(Fixed::Opaque),
            node if node.reads_clock() => {
                return Err(format!(
                    "`{name}` is the time of the sending, which is another one in a replay; \
                     source.ts_ms is that of the commit"
                ));
            }
            _ => {
                self.operands.push(Operand { part, of });
                Bound::Field(self.operands.len() - 1)
            }
        };
        Ok((Op::Leaf(leaf), of))
    }

    fn has(&mut self, path: &[String]) -> Step {
        let (program, _) = self.leaf(path)?;
        let null = Op::Leaf(Bound::Value(Fixed::Null));
        let program = match program {
            Op::Leaf(Bound::Absent(_)) => Op::Leaf(Bound::Value(Fixed::Bool(false))),
            there => Op::Compare(Order::NotEqual, Box::new([there, null])),
        };
        Ok((program, Type::Bool))
    }
}

/// One side of a comparison.
struct Side<'t> {
    tree: &'t Tree,
    program: Program,
    of: Type,
}

/// Returns the program of the right side, if the two sides may be compared. On either side, a fixed
/// number that is compared with a decimal becomes a decimal.
fn comparable(order: Order, left: &mut Side<'_>, mut right: Side<'_>) -> Result<Program, Fault> {
    let (one, other) = (left.of, right.of);
    let mismatch = |more: &str| {
        Err(format!(
            "`{}` is {} and `{}` is {}, which `{}` does not compare{more}",
            left.tree,
            one.name(),
            right.tree,
            other.name(),
            order.sign()
        ))
    };
    match (one, other) {
        (Type::Any, _) | (_, Type::Any) => {}
        (Type::Null, _) | (_, Type::Null) if order.is_of_equality() => {}
        (Type::Null, _) | (_, Type::Null) => {
            return mismatch("; ask whether a value is null by `==` or `!=`");
        }
        (Type::Opaque, _) | (_, Type::Opaque) => {
            return mismatch(
                "; of structs, lists and bytes an expression asks only whether they are null",
            );
        }
        (Type::Decimal, Type::Double) => decimal(&mut right, left.tree)?,
        (Type::Double, Type::Decimal) => decimal(left, right.tree)?,
        // The number becomes a decimal once here, and not for each row.
        (Type::Decimal, Type::Int) => {
            if let Op::Leaf(Bound::Value(fixed)) = &mut right.program
                && let Fixed::Int(value) = fixed
            {
                *fixed = Fixed::Decimal(value.to_string());
            }
        }
        (one, other) if one.is_number() && other.is_number() => {}
        (Type::TimeText, other) | (other, Type::TimeText)
            if other.is_text() && !order.is_of_equality() =>
        {
            return mismatch(
                "; such texts have no order of time, so take the time from a column of type \
                 timestamp or bigint",
            );
        }
        (one, other) if one.is_text() && other.is_text() => {}
        (Type::Bool, Type::Bool) if order.is_of_equality() => {}
        (one, other) if one.is_number() && other.is_text() => {
            return mismatch("; write a number without quotes, or string(...) around the number");
        }
        (one, other) if one.is_text() && other.is_number() => {
            return mismatch("; write a text in quotes, or double(...) around the text");
        }
        _ => return mismatch(""),
    }
    Ok(right.program)
}

/// Joins two sides by `&&` or `||`, unless a fixed side already decides the result.
fn decided(deciding: bool, sides: [Program; 2], made: fn(Box<[Program; 2]>) -> Program) -> Program {
    let is = |side: &Program, value| side.fixed() == Some(&Fixed::Bool(value));
    if sides.iter().any(|side| is(side, deciding)) {
        return Op::Leaf(Bound::Value(Fixed::Bool(deciding)));
    }
    let [left, right] = sides;
    match (is(&left, !deciding), is(&right, !deciding)) {
        (true, _) => right,
        (false, true) => left,
        (false, false) => made(Box::new([left, right])),
    }
}

/// Computes a program that reads no field, and returns the value in its place.
fn worked_out(program: Program, tree: &Tree) -> Result<Program, Fault> {
    let children = program.children();
    if children.is_empty() || !children.iter().all(|child| child.fixed().is_some()) {
        return Ok(program);
    }
    let no_field = |_: usize| -> Result<Value<'_>, RunFault> { Err(RunFault::Foreign) };
    match program.run(&no_field) {
        Ok(value) => Ok(Op::Leaf(Bound::Value(value.into()))),
        Err(fault) => Err(format!("`{tree}` fails in each record: {fault}")),
    }
}

/// Makes a double that is written in the expression a decimal, so that it can be compared with a
/// decimal. A double that was computed is refused, because it is rounded.
fn decimal(number: &mut Side<'_>, decimal: &Tree) -> Result<(), Fault> {
    if let (Some(value), Op::Leaf(Bound::Value(fixed))) =
        (number.tree.written(), &mut number.program)
    {
        *fixed = Fixed::Decimal(value.to_string());
        number.of = Type::Decimal;
        return Ok(());
    }
    Err(format!(
        "`{decimal}` is a decimal and `{}` is a double, which is not exact; write \
         double({decimal})",
        number.tree
    ))
}

impl Tree {
    /// The double, with its sign, that this part of the expression is; `None` for any other part.
    fn written(&self) -> Option<f64> {
        match self {
            Op::Leaf(Named::Value(Fixed::Double(value))) if value.is_finite() => Some(*value),
            Op::Negate(inner) => inner.written().map(|value| -value),
            _ => None,
        }
    }
}

fn wrong(tree: &Tree, of: Type, wanted: &str) -> Fault {
    format!("`{tree}` is {}, and it should be {wanted}", of.name())
}

fn type_of_fixed(value: &Fixed) -> Type {
    match value {
        Fixed::Null => Type::Null,
        Fixed::Bool(_) => Type::Bool,
        Fixed::Int(_) => Type::Int,
        Fixed::Double(_) => Type::Double,
        Fixed::Decimal(_) => Type::Decimal,
        Fixed::Text(_) => Type::Text,
        Fixed::Opaque => Type::Opaque,
    }
}

/// The type that values of a schema have in an expression.
fn type_of(schema: &Schema) -> Type {
    let name = schema.name.as_deref().unwrap_or("");
    match &schema.base {
        Base::Boolean => Type::Bool,
        Base::Int8 | Base::Int16 | Base::Int32 | Base::Int64 => Type::Int,
        Base::Float32 | Base::Float64 => Type::Double,
        Base::Text if name.starts_with("io.debezium.time.") => Type::TimeText,
        Base::Text => Type::Text,
        Base::Bytes if schema.is_decimal() => Type::Decimal,
        Base::Struct(_) if name == VARIABLE => Type::Decimal,
        Base::Bytes | Base::Struct(_) | Base::Array(_) | Base::Map(..) => Type::Opaque,
    }
}

fn fixed(literal: &Literal) -> Fixed {
    match literal {
        Literal::Boolean(value) => Fixed::Bool(*value),
        Literal::Int(value) => Fixed::Int(*value),
        Literal::Float4(value) => Fixed::Double(f64::from(*value)),
        Literal::Float8(value) => Fixed::Double(*value),
        Literal::Text(value) => Fixed::Text(value.clone()),
        Literal::Decimal { unscaled, scale } | Literal::Variable { unscaled, scale } => {
            let mut text = Vec::new();
            crate::table::value::unscaled_text(unscaled, *scale, &mut text);
            Fixed::Decimal(String::from_utf8_lossy(&text).into_owned())
        }
        Literal::Bytes(_)
        | Literal::Point(..)
        | Literal::Geometry { .. }
        | Literal::Map(_)
        | Literal::List { .. } => Fixed::Opaque,
    }
}
