//! Conditions by which transforms keep or drop a record. Conditions are compiled when a plan is
//! made, and evaluated before a record is written.
//!
//! Only the columns that a condition names are decoded. The values are written into the encoder's
//! buffer as plain text, masks included. After the evaluation, the values are removed from the
//! buffer.

use super::encoder::{EncodeError, Span};
use super::form::Form;
use super::plain_text::{self, PlainText};
use super::plan_error::PlanError;
use super::row::Writer;
use super::shaped::{ColumnGap, Compiler, Frame, Gap};
use super::shaped_row::{Images, cell};
use super::wire::Wire;
use crate::pgoutput::Cell;
use crate::table::ReplicaIdentity;
use crate::transform::TransformError;
use crate::transform::expression::bind::{Operand, VARIABLE};
use crate::transform::expression::compare::{Type, Value};
use crate::transform::expression::run::{Program, RunFault};
use crate::transform::filter::Guard;
use crate::transform::shape::{Base, Kind, Node, Shape, Side};
use std::borrow::Cow;

/// A compiled expression of a transform: a condition, or the name of a topic. `fields` are the
/// fields that the expression names.
#[derive(Debug)]
pub(super) struct Question {
    program: Program,
    fields: Vec<Field>,
    /// The text of the expression in the configuration.
    text: Box<str>,
}

/// A field that an expression names.
#[derive(Debug)]
struct Field {
    /// The script that writes the field's value as [`PlainText`].
    gaps: Vec<Gap>,
    of: Type,
    /// Whether the field is a `float4`, whose text has to be read as a number of 32 bits.
    is_float4: bool,
}

impl Compiler<'_> {
    /// Compiles the conditions that the records of one kind must meet.
    pub(super) fn asked(&self, shape: &Shape) -> Result<Vec<Question>, PlanError> {
        self.all_asked(&shape.guards)
    }

    pub(super) fn all_asked(&self, guards: &[Guard]) -> Result<Vec<Question>, PlanError> {
        guards.iter().map(|guard| self.guard(guard)).collect()
    }

    fn guard(&self, guard: &Guard) -> Result<Question, PlanError> {
        let fault = |source| PlanError::Transform {
            table: self.name(),
            transform: TransformError { number: guard.number, name: guard.name, source },
        };
        let identity = self.table.map(|of| of.table.identity);
        // With REPLICA IDENTITY FULL, no update comes without the old row. A condition that reads
        // the old row is therefore accepted. An update without old row would halt the stream.
        let never_comes =
            guard.kind == Kind::UpdateAlone && identity == Some(ReplicaIdentity::Full);
        if let Some(absent) = guard.ready.absent().filter(|_| !never_comes) {
            return Err(fault(guard.fault(absent)));
        }
        let mut fields = Vec::new();
        for operand in &guard.ready.operands {
            if let Some(column) = self.outside_identity(operand) {
                return Err(fault(guard.fault_of_identity(&column)));
            }
            fields.push(self.field(operand)?);
        }
        let program = guard.ready.program.clone();
        Ok(Question { program, fields, text: guard.text.as_str().into() })
    }

    /// Returns the name of a column that an operand of an expression reads from the old row,
    /// although old rows do not have the column under the table's replica identity. `None` if there
    /// is no such column.
    fn outside_identity(&self, operand: &Operand) -> Option<String> {
        let of = self.table.filter(|of| of.table.identity != ReplicaIdentity::Full)?;
        let mut lacking = None;
        operand.part.node.any(&mut |node| {
            if let Node::Column { index, side: Side::Old, .. } = node {
                let column = of.table.columns.get(*index).filter(|column| !column.in_identity);
                lacking = column.map(|column| column.name.to_string());
            }
            lacking.is_some()
        });
        lacking
    }

    fn field(&self, operand: &Operand) -> Result<Field, PlanError> {
        let schema = &operand.part.schema;
        let mut gaps = self.part::<PlainText>(&operand.part, &Frame::default(), None)?;
        if schema.name.as_deref() == Some(VARIABLE) {
            for gap in &mut gaps {
                if let Gap::Column(column) = gap {
                    column.plan.wire = Wire::DecimalText { scale: None };
                }
            }
        }
        Ok(Field { gaps, of: operand.of, is_float4: schema.base == Base::Float32 })
    }
}

impl<F: Form> Writer<'_, F> {
    /// Whether all conditions of a record hold.
    pub(super) fn is_kept(
        &mut self,
        conditions: &[Question],
        images: Images<'_, '_>,
    ) -> Result<bool, EncodeError> {
        for asked in conditions {
            let notes = self.tools.notes.len();
            // A condition that is null does not hold.
            if !self.asked(asked, images, |value| value == Value::Bool(true))? {
                // The notes of the condition are kept, because no record follows that would note
                // the same inexact values.
                return Ok(false);
            }
            self.tools.notes.truncate(notes);
        }
        Ok(true)
    }

    /// Evaluates an expression, and returns what `take` makes of its value.
    pub(super) fn asked<T>(
        &mut self,
        asked: &Question,
        images: Images<'_, '_>,
        take: impl FnOnce(Value<'_>) -> T,
    ) -> Result<T, EncodeError> {
        let start = self.out.len();
        let mut spans = std::mem::take(&mut self.tools.operands);
        spans.clear();
        for field in &asked.fields {
            let span = match is_unsent(&field.gaps, images) {
                true => None,
                false => Some(self.gaps::<PlainText>(&field.gaps, images)?),
            };
            spans.push(span);
        }
        assert_eq!(spans.len(), asked.fields.len(), "each field was looked for");
        let out = &*self.out;
        let read = |place: usize| match (asked.fields.get(place), spans.get(place)) {
            (Some(field), Some(span)) => field.read(out, *span),
            _ => Err(RunFault::Foreign),
        };
        let taken = asked.program.run(&read).map(take).map_err(|source| EncodeError::Condition {
            table: self.plan.table.to_string(),
            column: asked.column(source, &spans),
            condition: asked.text.to_string(),
            source,
        });
        self.tools.operands = spans;
        self.out.truncate(start);
        taken
    }
}

impl Question {
    /// Returns words for an error, such as ` at column ..`, with the column whose value was not
    /// sent, or with the only column of the expression. The text is empty if there is no such
    /// column.
    fn column(&self, fault: RunFault, spans: &[Option<Span>]) -> String {
        let unsent = self.fields.iter().zip(spans).find(|(_, span)| span.is_none());
        let field = match (fault, unsent, &self.fields[..]) {
            (RunFault::Unsent, Some((field, _)), _) | (_, _, [field]) => field,
            _ => return String::new(),
        };
        match &field.gaps[..] {
            [Gap::Column(column)] => format!(" at column `{}`", column.plan.name),
            _ => String::new(),
        }
    }
}

impl Field {
    fn read<'t>(&self, out: &'t [u8], span: Option<Span>) -> Result<Value<'t>, RunFault> {
        let (from, to) = span.ok_or(RunFault::Unsent)?;
        let bytes = out.get(from..to).ok_or(RunFault::Foreign)?;
        if bytes == plain_text::NULL {
            return Ok(Value::Null);
        }
        if self.of == Type::Opaque {
            return Ok(Value::Opaque);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RunFault::Foreign)?;
        let foreign = |_| RunFault::Foreign;
        Ok(match self.of {
            Type::Bool => Value::Bool(text == "true"),
            Type::Int => Value::Int(text.parse().map_err(|_| RunFault::Foreign)?),
            Type::Double if self.is_float4 => {
                Value::Double(f64::from(text.parse::<f32>().map_err(foreign)?))
            }
            Type::Double => Value::Double(text.parse().map_err(foreign)?),
            // A NaN or an infinity counts as null, because the record has null in its place.
            Type::Decimal if text.ends_with(|c: char| c.is_ascii_digit()) => {
                Value::Decimal(Cow::Borrowed(text))
            }
            Type::Decimal => Value::Null,
            Type::Text | Type::TimeText => Value::Text(Cow::Borrowed(text)),
            Type::Null | Type::Any | Type::Opaque => return Err(RunFault::Foreign),
        })
    }
}

/// Whether the script needs a value that the change does not have: the row lacks the column, or the
/// server did not send the value because it did not change.
fn is_unsent(gaps: &[Gap], images: Images<'_, '_>) -> bool {
    let is_lacking = |gap: &ColumnGap| match cell(gap, images) {
        None => true,
        Some(Cell::Unchanged) => gap.masked.is_none(),
        Some(_) => false,
    };
    gaps.iter().any(|gap| match gap {
        Gap::Column(gap) => is_lacking(gap),
        Gap::Converted(gap) => is_unsent(&gap.gaps, images),
        Gap::Hashed(gap) => gap.values.iter().any(|(_, gaps)| is_unsent(gaps, images)),
        Gap::Constant(_) | Gap::Document(_) | Gap::Compared(_) | Gap::Meta(..) => false,
    })
}
