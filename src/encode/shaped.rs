//! Scripts of records that transforms have reshaped, one for each kind of record.
//!
//! A script is a list of constant bytes and of gaps for values. A script is compiled once for a
//! plan and a form (Avro or JSON). The row path copies the constants and fills the gaps.

use super::column::{ColumnPlan, field_of};
use super::condition::Question;
use super::filter::{FieldRule, Filtered};
use super::form::{Form, HeaderText, Union};
use super::header::HeaderValue;
use super::messages::MESSAGES;
use super::plain_text::PlainText;
use super::plan_error::PlanError;
use super::schema::{Base, Schema};
use super::{Config, Format, views};
use crate::table::ReplicaIdentity;
use crate::transform::convert::{Conversion, Origin};
use crate::transform::hash::{Class, Hash};
use crate::transform::outline::Source;
use crate::transform::shape::{Converted, Hashed, Kind, Literal, Meta, Node, Part, Shape, Side};

/// The scripts for all kinds of records of a table, or for logical messages.
#[derive(Debug)]
pub(super) struct Shaped {
    /// The scripts of each kind of record, in the order of [`Kind::ALL`]. `None` for a kind whose
    /// records the configuration or a transform leaves out.
    kinds: Vec<Option<Scripts>>,
}

impl Shaped {
    /// Returns the scripts for this kind of record, such as an update. `None` if the transforms
    /// write no record of this kind.
    pub(super) fn of(&self, kind: Kind) -> Option<&Scripts> {
        self.kinds.get(kind as usize)?.as_ref()
    }
}

/// The scripts of one kind of record.
#[derive(Debug)]
pub(super) struct Scripts {
    /// The conditions that must hold for a record to be written.
    pub conditions: Vec<Question>,
    /// The script of the key. `None` if the record has no key.
    pub key: Option<Whole>,
    /// The script of the value. `None` if the record has no value, as a tombstone.
    pub value: Option<Whole>,
    pub headers: Vec<(Box<str>, HeaderScript)>,
    /// The script of the record's time, with the number of the time's units in a millisecond.
    /// `None` if the time is that at which the record is sent.
    pub time: Option<(Vec<Gap>, i64)>,
    /// The script of the record's partition. `None` if no transform chooses the partition.
    pub partition: Option<Vec<Gap>>,
}

/// The script of a whole key or value.
#[derive(Debug)]
pub(super) struct Whole {
    pub gaps: Vec<Gap>,
    /// The bytes of a null. If the script writes exactly these bytes, the record has no key or no
    /// value. `None` if a null is written as bytes, as Connect's JSON converter does, or if there
    /// can be no null.
    pub nothing: Option<Box<[u8]>>,
}

/// How the value of a record's header is written.
#[derive(Debug)]
pub(super) enum HeaderScript {
    /// The same value in each record. `None` for null.
    Constant(Option<Box<[u8]>>),
    /// The script of a number, a text or another single value.
    Value(Vec<Gap>),
    /// The script of a struct, map or list, in which texts have quotes.
    Nested(Vec<Gap>),
}

/// A piece of a script: constant bytes, or a gap that a value of the row or transaction fills.
#[derive(Debug)]
pub(super) enum Gap {
    /// Bytes that are the same in each record.
    Constant(Box<[u8]>),
    Column(Box<ColumnGap>),
    Document(Box<DocumentGap>),
    Compared(Box<ComparedGap>),
    Converted(Box<ConvertedGap>),
    Hashed(Box<HashedGap>),
    Meta(Meta, Union),
}

/// The part of a record for which a value is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Key,
    Partition,
}

/// A gap for the value of a column.
#[derive(Debug)]
pub(super) struct ColumnGap {
    pub index: usize,
    pub side: Side,
    pub plan: ColumnPlan,
    /// The part of the record for which the value is needed. If the row lacks the value, the stream
    /// halts. `None` for a value that may be missing.
    pub need: Option<Need>,
    /// The bytes that are written for a NULL, if the schema's default replaces it. `None` if it
    /// stays null.
    pub null: Option<Box<[u8]>>,
    /// The bytes that replace every value that is not NULL, if a transform masks the field.
    pub masked: Option<Box<[u8]>>,
}

/// A gap for a value of an expanded JSON document.
#[derive(Debug)]
pub(super) struct DocumentGap {
    pub source: Source,
    /// The names of the fields that lead from the whole document to the value.
    pub path: Vec<String>,
    pub schema: Schema,
}

/// A gap for a list of field names: of the fields whose old and new values differ, or of those
/// whose values are the same.
#[derive(Debug)]
pub(super) struct ComparedGap {
    pub differ: bool,
    /// The name of each field, and the scripts of the two values that are compared.
    pub fields: Vec<(Box<str>, [Vec<Gap>; 2])>,
    pub union: Union,
}

/// A gap for a value that a transform converts into another type.
#[derive(Debug)]
pub(super) struct ConvertedGap {
    /// The script that writes the value before the conversion as [`PlainText`].
    pub gaps: Vec<Gap>,
    pub origin: Origin,
    pub conversion: Conversion,
    pub union: Union,
    /// The bytes that are written for null: those of null, or of the schema's default. `None` if
    /// the field is required and has no default.
    pub null: Option<Box<[u8]>>,
    /// The bytes that replace every value that is not null, if a transform masks the field.
    pub masked: Option<Box<[u8]>>,
    /// The field's name, for an error.
    pub field: Box<str>,
}

/// A gap for the number of a partition, which is made of the hashes of values.
#[derive(Debug)]
pub(super) struct HashedGap {
    /// The Java class of each value, and the script that writes the value as [`PlainText`].
    pub values: Vec<(Class, Vec<Gap>)>,
    pub hash: Hash,
    pub partitions: i32,
    pub union: Union,
}

/// The bytes before and after a key or value.
pub(super) type Frame = (Vec<u8>, Vec<u8>);

/// Compiles the shapes of a table's records, or of logical messages, into scripts.
pub(super) struct Compiler<'a> {
    pub config: &'a Config,
    /// The table. `None` for logical messages.
    pub table: Option<&'a Filtered>,
}

struct Script {
    gaps: Vec<Gap>,
    pending: Vec<u8>,
}

impl Script {
    fn push(&mut self, gap: Gap) {
        self.flush();
        self.gaps.push(gap);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.gaps.push(Gap::Constant(std::mem::take(&mut self.pending).into()));
        }
    }
}

impl Compiler<'_> {
    /// Compiles the scripts of all kinds of records. `shapes` are in the order of [`Kind::ALL`].
    /// `key` and `value` are the bytes before and after each key and each value.
    pub(super) fn shaped<F: Form>(
        &self,
        shapes: &[Option<Shape>],
        key: &Frame,
        value: &Frame,
    ) -> Result<Shaped, PlanError> {
        let one = |shape: &Option<Shape>| {
            shape.as_ref().map(|shape| self.scripts::<F>(shape, key, value)).transpose()
        };
        assert_eq!(shapes.len(), Kind::ALL.len(), "a shape for each kind");
        Ok(Shaped { kinds: shapes.iter().map(one).collect::<Result<_, _>>()? })
    }

    fn scripts<F: Form>(
        &self,
        shape: &Shape,
        key: &Frame,
        value: &Frame,
    ) -> Result<Scripts, PlanError> {
        let part = |part: &Part, frame: &Frame, need| {
            let gaps = self.part::<F>(part, frame, need)?;
            Ok(Whole { gaps, nothing: self.nothing::<F>(&part.schema, frame) })
        };
        let is_there = |part: &&Part| !part.is_null();
        let header = |header: &crate::transform::shape::Header| {
            Ok((header.name.as_str().into(), self.header(&header.part)?))
        };
        Ok(Scripts {
            conditions: self.asked(shape)?,
            key: shape
                .key
                .as_ref()
                .filter(is_there)
                .map(|it| part(it, key, Some(Need::Key)))
                .transpose()?,
            value: shape
                .value
                .as_ref()
                .filter(is_there)
                .map(|it| part(it, value, None))
                .transpose()?,
            headers: shape.headers.iter().map(header).collect::<Result<_, PlanError>>()?,
            time: match &shape.time {
                Some(time) => Some((self.text_of(&time.part)?, time.units)),
                None => None,
            },
            partition: shape.partition.as_ref().map(|part| self.text_of(part)).transpose()?,
        })
    }

    pub(super) fn part<F: Form>(
        &self,
        part: &Part,
        frame: &Frame,
        need: Option<Need>,
    ) -> Result<Vec<Gap>, PlanError> {
        let mut script = Script { gaps: Vec::new(), pending: frame.0.clone() };
        self.node::<F>(&part.schema, &part.node, need, &mut script)?;
        script.pending.extend_from_slice(&frame.1);
        script.flush();
        Ok(script.gaps)
    }

    /// Returns the bytes of a null that is the whole key or value. Connect's Avro converter leaves
    /// such a null out. `None` for other formats, and if the schema allows no null.
    fn nothing<F: Form>(&self, schema: &Schema, frame: &Frame) -> Option<Box<[u8]>> {
        if self.config.format != Format::Avro || schema.union() == Union::Required {
            return None;
        }
        let mut bytes = frame.0.clone();
        F::null(schema.union(), &mut bytes);
        bytes.extend_from_slice(&frame.1);
        Some(bytes.into())
    }

    /// Compiles the script that writes a value as a text, for a time or a partition, or to compare
    /// values.
    fn text_of(&self, part: &Part) -> Result<Vec<Gap>, PlanError> {
        self.part::<HeaderValue>(part, &Frame::default(), None)
    }

    fn header(&self, part: &Part) -> Result<HeaderScript, PlanError> {
        if part.is_null() {
            return Ok(HeaderScript::Constant(None));
        }
        let frame = Frame::default();
        let nested = matches!(part.schema.base, Base::Struct(_) | Base::Array(_) | Base::Map(..));
        let mut gaps = match nested {
            true => self.part::<HeaderText>(part, &frame, None)?,
            false => self.part::<HeaderValue>(part, &frame, None)?,
        };
        Ok(match gaps.pop() {
            Some(Gap::Constant(bytes)) if gaps.is_empty() => HeaderScript::Constant(Some(bytes)),
            None => HeaderScript::Constant(Some(Box::default())), // an empty text
            Some(last) => {
                gaps.push(last);
                if nested { HeaderScript::Nested(gaps) } else { HeaderScript::Value(gaps) }
            }
        })
    }

    fn node<F: Form>(
        &self,
        schema: &Schema,
        node: &Node,
        need: Option<Need>,
        script: &mut Script,
    ) -> Result<(), PlanError> {
        let union = schema.union();
        match node {
            Node::Null if union == Union::Required => return Err(self.null_required(schema)),
            Node::Null => F::null(union, &mut script.pending),
            Node::Literal(literal) => {
                script.pending.extend_from_slice(&field_of::<F>(union, Some(literal)));
            }
            Node::Struct(nodes) => {
                F::some(union, &mut script.pending);
                F::struct_open(&mut script.pending);
                for (place, (field, node)) in schema.fields().iter().zip(nodes).enumerate() {
                    F::field(place == 0, &field.name, &mut script.pending);
                    self.node::<F>(&field.schema, node, need, script)?;
                }
                F::struct_close(&mut script.pending);
            }
            Node::Column { .. } | Node::Viewed(..) => {
                self.column::<F>(schema, node, None, need, script)?;
            }
            Node::Compared { differ, fields } => {
                let mut compared = Vec::new();
                for (name, sides) in fields {
                    let [old, new] = &**sides;
                    compared.push((name.as_str().into(), [self.text_of(old)?, self.text_of(new)?]));
                }
                let (differ, fields) = (*differ, compared);
                script.push(Gap::Compared(Box::new(ComparedGap { differ, fields, union })));
            }
            Node::Document { source, path } => {
                let (path, schema) = (path.clone(), schema.clone());
                script.push(Gap::Document(Box::new(DocumentGap { source: *source, path, schema })));
            }
            Node::Meta(meta) => script.push(Gap::Meta(*meta, union)),
            Node::Converted(converted) => {
                let gap = self.converted::<F>(schema, converted, None, need)?;
                script.push(Gap::Converted(Box::new(gap)));
            }
            Node::Hashed(hashed) => {
                let gap = self.hashed(hashed, union)?;
                script.push(Gap::Hashed(Box::new(gap)));
            }
            Node::Masked(inner, literal) => match &**inner {
                Node::Column { .. } | Node::Viewed(..) => {
                    self.column::<F>(schema, inner, Some(literal), need, script)?;
                }
                Node::Converted(converted) => {
                    let gap = self.converted::<F>(schema, converted, Some(literal), need)?;
                    script.push(Gap::Converted(Box::new(gap)));
                }
                Node::Null => F::null(union, &mut script.pending),
                // Every other node is never null, or is replaced by the literal even if it is null.
                _ => script.pending.extend_from_slice(&field_of::<F>(union, Some(literal))),
            },
        }
        Ok(())
    }

    fn converted<F: Form>(
        &self,
        schema: &Schema,
        converted: &Converted,
        mask: Option<&Literal>,
        need: Option<Need>,
    ) -> Result<ConvertedGap, PlanError> {
        let union = schema.union();
        let default = schema.default.as_ref().filter(|_| converted.defaults);
        let is_required = union == Union::Required && default.is_none();
        Ok(ConvertedGap {
            gaps: self.part::<PlainText>(&converted.part, &Frame::default(), need)?,
            origin: converted.origin,
            conversion: converted.conversion.clone(),
            union,
            null: (!is_required).then(|| field_of::<F>(union, default)),
            masked: mask.map(|literal| field_of::<F>(union, Some(literal))),
            field: converted.field.as_str().into(),
        })
    }

    fn hashed(&self, hashed: &Hashed, union: Union) -> Result<HashedGap, PlanError> {
        let need = hashed.is_strict.then_some(Need::Partition);
        let gaps = |part| self.part::<PlainText>(part, &Frame::default(), need);
        let values = hashed.values.iter().map(|(class, part)| Ok((*class, gaps(part)?)));
        let values = values.collect::<Result<_, PlanError>>()?;
        Ok(HashedGap { values, hash: hashed.hash, partitions: hashed.partitions, union })
    }

    fn column<F: Form>(
        &self,
        schema: &Schema,
        node: &Node,
        mask: Option<&Literal>,
        need: Option<Need>,
        script: &mut Script,
    ) -> Result<(), PlanError> {
        let (node, seen) = match node {
            Node::Viewed(inner, seen) => (&**inner, seen.as_slice()),
            node => (node, [].as_slice()),
        };
        let Node::Column { index, side, defaults } = *node else { return Ok(()) };
        let columns = self
            .table
            .and_then(|of| Some((&of.table, of.table.columns.get(index)?, of.fields.get(index)?)));
        let Some((table, column, rule)) = columns else {
            unreachable!("a node is of a column of its table")
        };
        let partial = match table.identity {
            ReplicaIdentity::Index | ReplicaIdentity::Default => true,
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => false,
        };
        let of_key = table.key.contains(&index);
        let is_outside = side == Side::Old && partial && !column.in_identity && !of_key;
        if let Some(need) = need.filter(|_| is_outside) {
            let (table, column) = (table.name.to_string(), rule.name.to_string());
            return Err(match need {
                Need::Key => PlanError::KeyOutsideIdentity { table, column },
                Need::Partition => PlanError::PartitionOutsideIdentity { table, column },
            });
        }
        let union = schema.union();
        let wire = seen.iter().fold(rule.wire.clone(), views::seen);
        let rule = &FieldRule { wire, ..rule.clone() };
        let mut plan = ColumnPlan::value::<F>(union, column, rule, self.config);
        let default = schema.default.as_ref().filter(|_| defaults);
        let null = default.map(|default| field_of::<F>(union, Some(default)));
        if let Some(null) = &null
            && !column.not_null
        {
            plan.missing = null.clone();
        }
        let masked = mask.map(|literal| field_of::<F>(union, Some(literal)));
        if let (Some(masked), Union::Required) = (&masked, union) {
            plan.missing = masked.clone();
        }
        let gap = ColumnGap { index, side, plan, need, null, masked };
        script.push(Gap::Column(Box::new(gap)));
        Ok(())
    }

    fn null_required(&self, schema: &Schema) -> PlanError {
        let field = schema.name.as_deref().unwrap_or("a field").to_owned();
        PlanError::NullRequired { table: self.name(), field }
    }

    /// Returns the name of the table, or the name of logical messages.
    pub(super) fn name(&self) -> String {
        self.table.map_or(MESSAGES.to_owned(), |of| of.table.name.to_string())
    }
}
