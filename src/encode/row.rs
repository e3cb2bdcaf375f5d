//! Writes the records of one row: decides which values of the old and the new row each record has.
//!
//! An image is the old or the new row of a change. The image of a new row takes values that the
//! server did not send again from the old row. Of an old row, often only the identity's columns are
//! known. `transcode` decides the form of a value, and `envelope` writes the parts around the rows.

use super::auxiliary::{Counted, push_block};
use super::column::{ColumnPlan, Key, KeyColumn};
use super::document::Document;
use super::encoder::{EncodeError, Slot, Span};
use super::envelope::{self, Step};
use super::form::{Form, HeaderText, Union};
use super::mask::Mask;
use super::notes::Loss;
use super::plan::Plan;
use super::transcode::{self, Fault, Tools};
use crate::change::Context;
use crate::pgoutput::{Cell, CellSpan, OldTuple, Tuple};
use crate::table::value::{self, ValueError};

/// The old or the new row of a change, as records are written from it.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    tuple: Tuple<'a>,
    spans: &'a [CellSpan],
    /// True if only the columns of the replica identity are known.
    only_identity: bool,
    /// For a new row, the old row of the same change, which may have values that the server did not
    /// send again. `None` for an old row, and if there is no old row.
    before: Option<&'a Image<'a>>,
}

impl<'a> Image<'a> {
    /// Makes the image of a row that has all columns. Values that the server did not send because
    /// they did not change are taken from `before`.
    pub(super) fn whole(
        plan: &Plan,
        tuple: Tuple<'a>,
        spans: &'a mut Vec<CellSpan>,
        before: Option<&'a Image<'a>>,
    ) -> Result<Self, EncodeError> {
        tuple.index_into(spans);
        if spans.len() != plan.columns.len() {
            let (expected, found) = (plan.columns.len(), tuple.len());
            return Err(EncodeError::Shape { table: plan.table.to_string(), expected, found });
        }
        Ok(Image { tuple, spans, only_identity: false, before })
    }

    /// Makes the image of an old row, which is whole or has only the columns of the replica
    /// identity.
    pub(super) fn old(
        plan: &Plan,
        old: OldTuple<'a>,
        spans: &'a mut Vec<CellSpan>,
    ) -> Result<Self, EncodeError> {
        let only_identity = matches!(old, OldTuple::Key(_));
        Ok(Image { only_identity, ..Image::whole(plan, old.tuple(), spans, None)? })
    }

    /// Whether every column is known.
    pub(super) fn is_whole(&self) -> bool {
        !self.only_identity
    }

    /// Returns a column's cell. `None` if the image does not have the column. `in_identity` is true
    /// for a column of the replica identity.
    pub(super) fn cell(&self, index: usize, in_identity: bool) -> Option<Cell<'a>> {
        if self.only_identity && !in_identity {
            return None;
        }
        let cell = self.spans.get(index).map_or(Cell::Null, |span| self.tuple.cell(*span));
        match (cell, self.before) {
            (Cell::Unchanged, Some(before)) => before.cell(index, in_identity).or(Some(cell)),
            _ => Some(cell),
        }
    }
}

/// The parts that are needed to write one change.
pub(super) struct Writer<'a, F> {
    pub(super) plan: &'a Plan,
    pub(super) context: &'a Context<'a>,
    pub(super) now: i64,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) tools: &'a mut Tools,
    pub(super) counted: &'a mut Counted,
    /// The JSON document of the row or message, if a transform expands it. `None` before the
    /// document is parsed.
    pub(super) document: Option<Document>,
    form: std::marker::PhantomData<F>,
}

impl<'a, F: Form> Writer<'a, F> {
    pub(super) fn new(
        plan: &'a Plan,
        context: &'a Context<'a>,
        now: i64,
        out: &'a mut Vec<u8>,
        (tools, counted): (&'a mut Tools, &'a mut Counted),
    ) -> Self {
        let (document, form) = (None, std::marker::PhantomData);
        Writer { plan, context, now, out, tools, counted, document, form }
    }

    /// Writes an update as `u`, or as delete, tombstone and create if it changes the key.
    pub(super) fn update(
        &mut self,
        old: Option<&Image<'_>>,
        new: &Image<'_>,
        slots: &mut Vec<Slot>,
    ) -> Result<(), EncodeError> {
        let key = self.key(new)?;
        let old_key = old.map(|old| self.key(old)).transpose()?.flatten();
        let lost = || -> &[u8] { unreachable!("both keys were written to the buffer") };
        let part = |(from, to): Span| self.out.get(from..to).unwrap_or_else(lost);
        let moves = old_key.is_some() && old_key.map(part) != key.map(part);
        let (Some(old), true) = (old, moves) else {
            let value = Some(self.envelope("u", old, Some(new))?);
            slots.push(Slot { key, value, change: None, shaped: None });
            return Ok(());
        };
        let new_text = Some(("__debezium.newkey", self.key_text(new)?));
        let old_text = Some(("__debezium.oldkey", self.key_text(old)?));
        let deleted = Some(self.envelope("d", Some(old), None)?);
        slots.push(Slot { key: old_key, value: deleted, change: new_text, shaped: None });
        if self.plan.emits.tombstones {
            slots.push(Slot { key: old_key, value: None, change: new_text, shaped: None });
        }
        let created = Some(self.envelope("c", None, Some(new))?);
        slots.push(Slot { key, value: created, change: old_text, shaped: None });
        Ok(())
    }

    /// Writes the image's key. `None` for a table without key.
    pub(super) fn key(&mut self, image: &Image<'_>) -> Result<Option<Span>, EncodeError> {
        let Key::Columns { prefix, columns, added, suffix } = &self.plan.key else {
            return Ok(None);
        };
        let start = self.out.len();
        self.out.extend_from_slice(prefix);
        self.key_struct::<F>((columns, &added[0]), image, |column| &column.lead)?;
        self.out.extend_from_slice(suffix);
        Ok(Some((start, self.out.len())))
    }

    fn key_text(&mut self, image: &Image<'_>) -> Result<Span, EncodeError> {
        let start = self.out.len();
        if let Key::Columns { columns, added, .. } = &self.plan.key {
            self.key_struct::<HeaderText>((columns, &added[1]), image, |column| {
                &column.header_lead
            })?;
        }
        Ok((start, self.out.len()))
    }

    fn key_struct<G: Form>(
        &mut self,
        (columns, added): (&[KeyColumn], &[u8]),
        image: &Image<'_>,
        lead: fn(&KeyColumn) -> &[u8],
    ) -> Result<(), EncodeError> {
        G::struct_open(self.out);
        for key_column in columns {
            self.out.extend_from_slice(lead(key_column));
            let index = key_column.index;
            let Some(column) = self.plan.columns.get(index) else {
                unreachable!("the key has column {index} of {}", self.plan.columns.len())
            };
            match image.cell(index, column.in_identity) {
                None | Some(Cell::Unchanged) => {
                    let (table, column) = (self.plan.table.to_string(), column.name.to_string());
                    return Err(EncodeError::KeyMissing { table, column });
                }
                Some(cell) => self.cell::<G>(index, column, cell)?,
            }
        }
        self.out.extend_from_slice(added);
        G::struct_close(self.out);
        Ok(())
    }

    pub(super) fn envelope(
        &mut self,
        operation: &str,
        before: Option<&Image<'_>>,
        after: Option<&Image<'_>>,
    ) -> Result<Span, EncodeError> {
        let start = self.out.len();
        for step in &self.plan.value {
            match step {
                Step::Constant(bytes) => self.out.extend_from_slice(bytes),
                Step::Before => self.image(before)?,
                Step::After => self.image(after)?,
                Step::Operation => F::text(operation, self.out),
                Step::Block => {
                    *self.counted = self.counted.next();
                    push_block::<F>(self.context, *self.counted, self.out);
                }
                other => envelope::fill::<F>(other, self.context, self.now, self.out),
            }
        }
        Ok((start, self.out.len()))
    }

    fn image(&mut self, image: Option<&Image<'_>>) -> Result<(), EncodeError> {
        let Some(image) = image else {
            F::null(Union::NullFirst, self.out);
            return Ok(());
        };
        F::some(Union::NullFirst, self.out);
        F::struct_open(self.out);
        for (index, column) in self.plan.columns.iter().enumerate() {
            if !column.in_row {
                continue;
            }
            self.out.extend_from_slice(&column.lead);
            match image.cell(index, column.in_identity) {
                None => self.out.extend_from_slice(&column.missing),
                Some(cell) => self.cell::<F>(index, column, cell)?,
            }
        }
        F::struct_close(self.out);
        Ok(())
    }

    /// Writes the value of a column: the value or its masked form, null, or the placeholder for a
    /// value that the server did not send. A value that the schema cannot hold becomes null, and is
    /// an error in a required field.
    pub(super) fn cell<G: Form>(
        &mut self,
        index: usize,
        column: &ColumnPlan,
        cell: Cell<'_>,
    ) -> Result<(), EncodeError> {
        if let Some(mask) = &column.mask
            && self.masked::<G>(mask, column, cell)?
        {
            return Ok(());
        }
        let names = || (self.plan.table.to_string(), column.name.to_string());
        match cell {
            Cell::Text(text) => {
                let mark = self.out.len();
                self.tools.column = index;
                G::some(column.union, self.out);
                match transcode::value::<G>(&column.wire, text, self.out, self.tools) {
                    Ok(()) => Ok(()),
                    Err(Fault::Unholdable(loss)) if column.union != Union::Required => {
                        self.out.truncate(mark);
                        G::null(column.union, self.out);
                        self.tools.note(loss);
                        Ok(())
                    }
                    Err(Fault::Unholdable(loss)) => {
                        let (table, column) = names();
                        Err(EncodeError::NotHoldable { table, column, loss })
                    }
                    Err(Fault::Text(source)) => {
                        let (table, column) = names();
                        Err(EncodeError::Value { table, column, source })
                    }
                }
            }
            Cell::Null if column.union == Union::Required => {
                let (table, column) = names();
                Err(EncodeError::RequiredNull { table, column, index })
            }
            Cell::Null => {
                G::null(column.union, self.out);
                Ok(())
            }
            Cell::Unchanged => {
                if !column.has_placeholder {
                    self.tools.column = index;
                    self.tools.note(Loss::Unavailable);
                }
                self.out.extend_from_slice(&column.unavailable);
                Ok(())
            }
            Cell::Binary(_) => {
                let (table, column) = names();
                Err(EncodeError::Value { table, column, source: BINARY })
            }
        }
    }
}

impl<F: Form> Writer<'_, F> {
    /// Writes the value of a masked column in its masked form. Returns false for a cell that is
    /// written like any other: a null that is not masked, or a value that the server did not send.
    fn masked<G: Form>(
        &mut self,
        mask: &Mask,
        column: &ColumnPlan,
        cell: Cell<'_>,
    ) -> Result<bool, EncodeError> {
        let text = match (cell, mask.null()) {
            (Cell::Text(text), _) => text,
            (Cell::Null, Some(stars)) => {
                G::some(column.union, self.out);
                G::text(stars, self.out);
                return Ok(true);
            }
            (Cell::Null, None) | (Cell::Unchanged | Cell::Binary(_), _) => return Ok(false),
        };
        let fault = |source| EncodeError::Value {
            table: self.plan.table.to_string(),
            column: column.name.to_string(),
            source,
        };
        G::some(column.union, self.out);
        match mask {
            Mask::Cut { units, bytes: true } => {
                self.tools.masked_bytes.clear();
                value::bytea(text, &mut self.tools.masked_bytes).map_err(fault)?;
                self.tools.masked_bytes.truncate(*units);
                G::bytes(&self.tools.masked_bytes, self.out);
            }
            Mask::Stars(_) | Mask::Hash(_) | Mask::Cut { .. } => {
                let text = value::utf8(text).map_err(fault)?;
                G::text(mask.text(text, &mut self.tools.masked), self.out);
            }
        }
        Ok(true)
    }
}

/// Whether the old and the new row are equal in every column that the rows in events have. A value
/// that the server did not send again counts as equal. Both images must be whole.
pub(super) fn is_same(plan: &Plan, old: &Image<'_>, new: &Image<'_>) -> bool {
    let same = |index: usize, column: &ColumnPlan| match (
        old.cell(index, column.in_identity),
        new.cell(index, true),
    ) {
        (_, Some(Cell::Unchanged)) => true,
        (old, new) => old == new,
    };
    plan.columns.iter().enumerate().all(|(index, column)| !column.in_row || same(index, column))
}

/// The error for a value in binary form. We never ask for such values.
const BINARY: ValueError = ValueError::new("any type", "sent in binary, which we did not ask for");
