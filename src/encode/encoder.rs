//! The row path: writes the records of a change by a plan, at most three, into a reused buffer.
//!
//! Keys and values of a change are one after another in one buffer. Records are views of the
//! buffer, which are valid until the next change. The buffers keep up to 1 MiB from one row to the
//! next, so that most rows need no allocation.

use super::Format;
use super::auxiliary::{Counted, push_block};
use super::column::Key;
use super::envelope::{self, Step, push_number};
use super::form::{Avro, Form, Json, Union};
use super::notes::Note;
use super::plan::{FixedHeaders, Plan};
use super::row::{Image, Writer, is_same};
use super::shaped::{HeaderScript, Shaped};
use super::shaped_row::{Images, Written};
use super::transcode::Tools;
use crate::change::{Context, Position, Row};
use crate::pgoutput::CellSpan;
use crate::transform::shape::Kind;
use std::sync::Arc;

pub use super::encode_error::EncodeError;

/// The most bytes of capacity that a buffer keeps from one row to the next. Most rows fit into
/// them. The memory of a larger row is freed when the next row is written.
const KEEP_BYTES: usize = 1024 * 1024;

/// Writes changes as records, one change at a time.
#[derive(Debug, Default)]
pub struct Encoder {
    pub(super) out: Vec<u8>,
    pub(super) slots: Vec<Slot>,
    pub(super) new_spans: Vec<CellSpan>,
    pub(super) old_spans: Vec<CellSpan>,
    pub(super) tools: Tools,
    /// Numbers of events in the open transaction, used if events carry their place in the
    /// transaction.
    pub(super) counted: Counted,
    headers: Option<Arc<FixedHeaders>>,
    /// The scripts of the plan by which the last transformed records were written.
    shaped: Option<Arc<Shaped>>,
    /// Places in `out` of the header values of the last change's transformed records. `None` for
    /// null.
    shaped_headers: Vec<Option<Span>>,
    /// Whether the last records carry Debezium's context headers. Records of rows carry them.
    /// Logical messages and auxiliary records do not.
    pub(super) in_context: bool,
    commit_lsn: Span,
    ordinal: Span,
}

/// A part of the encoder's buffer, by the offsets of its begin and its end.
pub(super) type Span = (usize, usize);

/// Headers of a transformed record: their names, and the places of their values in the encoder's
/// buffer.
type ShapedHeaders<'a> = (&'a [(Box<str>, HeaderScript)], &'a [Option<Span>]);

/// The places of the parts of one record in the encoder's buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub key: Option<Span>,
    pub value: Option<Span>,
    pub change: Option<(&'static str, Span)>,
    /// The parts that only a transformed record has. `None` without transforms.
    pub shaped: Option<OfShape>,
}

/// The parts that only a transformed record has.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfShape {
    pub kind: Kind,
    /// Index of the record's first header in `Encoder::shaped_headers`.
    pub headers: usize,
    /// The record's time in milliseconds since 1970. `None` if it is the time at which the record
    /// is sent.
    pub time: Option<i64>,
    /// The partition that a transform has chosen. `None` if the partition follows from the key, or
    /// from the table's name for a record without key.
    pub partition: Option<i64>,
}

/// A record that an [`Encoder`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `None` for a record without key, such as a truncate.
    pub key: Option<&'a [u8]>,
    /// `None` for a record without value, such as a tombstone.
    pub value: Option<&'a [u8]>,
    /// The record's time in milliseconds since 1970. `None` if it is the time at which the record
    /// is sent.
    pub time: Option<i64>,
    /// The partition that a transform has chosen. `None` if the partition follows from the key, or
    /// from the table's name for a record without key.
    pub partition: Option<i64>,
    change: Option<(&'static str, &'a [u8])>,
    headers: Option<&'a FixedHeaders>,
    in_context: bool,
    /// Names and values of the headers of a transformed record. Empty for any other record.
    shaped: ShapedHeaders<'a>,
    bytes: &'a [u8],
    commit_lsn: &'a [u8],
    ordinal: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns the names and values of all headers, in the order of the record. A value can be
    /// null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone {
        let context =
            self.headers.filter(|_| self.in_context).map_or(&[][..], |headers| &headers.context);
        let epoch = self.headers.and_then(|headers| headers.epoch.as_deref());
        let (commit_lsn, ordinal) = (self.commit_lsn, self.ordinal);
        let identity = epoch.map(|epoch| {
            [
                ("wellspring.epoch", epoch),
                ("wellspring.commit_lsn", commit_lsn),
                ("wellspring.ordinal", ordinal),
            ]
        });
        let change = self.change.map(|(name, value)| (name as &str, value));
        let bytes = self.bytes;
        let shaped = self.shaped.0.iter().zip(self.shaped.1);
        let lost = || -> &'a [u8] { unreachable!("the value of a header was written") };
        let shaped = shaped.map(move |((name, _), value)| {
            (&**name, value.map(|(from, to)| bytes.get(from..to).unwrap_or_else(lost)))
        });
        let there = |(name, value): (&'a str, &'a [u8])| (name, Some(value));
        change
            .into_iter()
            .chain(context.iter().map(|(name, value)| (*name as &str, &**value)))
            .map(there)
            .chain(shaped)
            .chain(identity.into_iter().flatten().map(there))
    }

    /// Returns the plan's fixed headers, if the record has the context headers and no others.
    /// `None` for any other record.
    fn only_fixed(&self) -> Option<&'a FixedHeaders> {
        self.headers.filter(|headers| {
            let others =
                self.change.is_some() || headers.epoch.is_some() || !self.shaped.0.is_empty();
            self.in_context && !others
        })
    }

    /// Returns a token for the headers of this record: records with the same token have the same
    /// headers. `None` unless the headers are exactly the context headers of the plan.
    #[must_use]
    pub fn headers_token(&self) -> Option<&'a Arc<()>> {
        self.only_fixed().map(|headers| &headers.token)
    }

    /// Returns the number of bytes of the key, the value and the headers together, with the
    /// headers' names.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let bytes =
            |(name, value): (&str, Option<&[u8]>)| name.len() + value.map_or(0, <[u8]>::len);
        let headers: usize = match self.only_fixed() {
            Some(fixed) => fixed.context_bytes,
            None => self.headers().map(bytes).sum(),
        };
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

impl Encoder {
    /// Makes an encoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the records of a row's change, which replace the records of the previous change.
    ///
    /// Without transforms, an insert, a copied row and an update are one record each. An update
    /// that changes the key is a delete, a tombstone and a create. A delete is one record and a
    /// tombstone. A truncate is one record without key. Tombstones are left out if the
    /// configuration switches them off. A change of a kind that is switched off has no records.
    ///
    /// # Errors
    /// See [`EncodeError`]. The change then has no records.
    pub fn row(
        &mut self,
        plan: &Plan,
        context: &Context<'_>,
        row: &Row<'_>,
        now_unix_nanos: i64,
    ) -> Result<(), EncodeError> {
        self.begin(plan, context.position);
        self.in_context = true;
        let result = match plan.format {
            Format::Avro => self.row_in::<Avro>(plan, context, row, now_unix_nanos),
            Format::Json | Format::JsonSchema => {
                self.row_in::<Json>(plan, context, row, now_unix_nanos)
            }
        };
        if result.is_err() {
            self.slots.clear();
        }
        result
    }

    /// Writes a logical message. Nothing is written if the configuration does not publish messages
    /// with this prefix.
    ///
    /// # Errors
    /// See [`EncodeError`]. Only a message that transforms make an event can fail.
    pub fn message(
        &mut self,
        plan: &Plan,
        context: &Context<'_>,
        prefix: &str,
        content: &[u8],
        now_unix_nanos: i64,
    ) -> Result<(), EncodeError> {
        self.begin(plan, context.position);
        self.in_context = false;
        if !plan.takes_message(prefix) {
            return Ok(());
        }
        if let Some(shaped) = &plan.shaped {
            let written = match plan.format {
                Format::Avro => {
                    self.shaped_message::<Avro>(plan, shaped, context, content, now_unix_nanos)
                }
                Format::Json | Format::JsonSchema => {
                    self.shaped_message::<Json>(plan, shaped, context, content, now_unix_nanos)
                }
            };
            return written.inspect_err(|_| self.slots.clear());
        }
        match plan.format {
            Format::Avro => {
                self.message_in::<Avro>(plan, context, (prefix, content), now_unix_nanos)
            }
            Format::Json | Format::JsonSchema => {
                self.message_in::<Json>(plan, context, (prefix, content), now_unix_nanos)
            }
        }
        Ok(())
    }

    /// Returns the records of the last change, in the order in which they must be sent.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let lost = || -> &[u8] { unreachable!("each span was written to the buffer") };
        let part = move |(from, to): Span| self.out.get(from..to).unwrap_or_else(lost);
        self.slots.iter().map(move |slot| Record {
            key: slot.key.map(part),
            value: slot.value.map(part),
            time: slot.shaped.and_then(|of| of.time),
            partition: slot.shaped.and_then(|of| of.partition),
            change: slot.change.map(|(name, span)| (name, part(span))),
            headers: self.headers.as_deref(),
            in_context: self.in_context && slot.shaped.is_none(),
            shaped: self.shaped_of(slot),
            bytes: &self.out,
            commit_lsn: part(self.commit_lsn),
            ordinal: part(self.ordinal),
        })
    }

    fn shaped_of(&self, slot: &Slot) -> ShapedHeaders<'_> {
        let (Some(of), Some(shaped)) = (slot.shaped, self.shaped.as_ref()) else {
            return (&[], &[]);
        };
        let Some(scripts) = shaped.of(of.kind) else { return (&[], &[]) };
        let (names, from) = (&scripts.headers, of.headers);
        let Some(values) = self.shaped_headers.get(from..from + names.len()) else {
            unreachable!("a transformed record has a value for each of {} headers", names.len())
        };
        (names, values)
    }

    /// Returns the number of records of the last change.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns the columns whose values the records of the last change hold less exactly than its
    /// rows. A column can be listed more than once.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.tools.notes
    }

    /// Returns the name of the column that has the largest value in the old or new row of the last
    /// change, with the value's size in bytes. Messages about the size of a row name it.
    #[must_use]
    pub fn largest_column<'p>(&self, plan: &'p Plan) -> Option<(&'p str, usize)> {
        let spans = [&self.new_spans, &self.old_spans]
            .into_iter()
            .flat_map(|spans| spans.iter().enumerate());
        let (index, span) = spans.max_by_key(|(_, span)| span.size_bytes())?;
        Some((plan.column(index)?, span.size_bytes()))
    }

    pub(super) fn begin(&mut self, plan: &Plan, position: Position) {
        self.slots.clear();
        self.out.clear();
        self.tools.notes.clear();
        if self.out.capacity() > KEEP_BYTES {
            self.out.shrink_to(KEEP_BYTES);
            self.tools.shrink(KEEP_BYTES);
        }
        self.shaped_headers.clear();
        if let Some(shaped) = &plan.shaped
            && !self.shaped.as_ref().is_some_and(|known| Arc::ptr_eq(known, shaped))
        {
            self.shaped = Some(Arc::clone(shaped));
        }
        if !self.headers.as_ref().is_some_and(|headers| Arc::ptr_eq(headers, &plan.headers)) {
            self.headers = Some(Arc::clone(&plan.headers));
        }
        if plan.headers.epoch.is_some() {
            use std::io::Write as _;
            let start = self.out.len();
            let _ = write!(self.out, "{}", position.commit); // writing to memory does not fail
            let middle = self.out.len();
            push_number(position.ordinal, &mut self.out);
            (self.commit_lsn, self.ordinal) = ((start, middle), (middle, self.out.len()));
        }
    }

    /// Makes a writer of records. Returns the writer, the list for the records, and the list for
    /// the places of their headers' values.
    pub(super) fn writer<'a, F: Form>(
        &'a mut self,
        plan: &'a Plan,
        context: &'a Context<'_>,
        now: i64,
    ) -> (Writer<'a, F>, &'a mut Vec<Slot>, &'a mut Vec<Option<Span>>) {
        let Encoder { out, slots, tools, counted, shaped_headers, .. } = self;
        (Writer::new(plan, context, now, out, (tools, counted)), slots, shaped_headers)
    }

    fn message_in<F: Form>(
        &mut self,
        plan: &Plan,
        context: &Context<'_>,
        message: (&str, &[u8]),
        now: i64,
    ) {
        let Encoder { out, slots, counted, .. } = self;
        let mut script = |steps: &[Step]| {
            let start = out.len();
            for step in steps {
                match step {
                    Step::Constant(bytes) => out.extend_from_slice(bytes),
                    Step::Operation => F::text("m", out),
                    Step::Block => {
                        *counted = counted.next();
                        push_block::<F>(context, *counted, out);
                    }
                    Step::MessagePrefix => {
                        F::some(Union::NullFirst, out);
                        F::text(message.0, out);
                    }
                    Step::MessageContent(binary) => envelope::content::<F>(*binary, message.1, out),
                    other => envelope::fill::<F>(other, context, now, out),
                }
            }
            (start, out.len())
        };
        let key = match &plan.key {
            Key::Message(steps) => Some(script(steps)),
            Key::None | Key::Columns { .. } => None,
        };
        let value = Some(script(&plan.value));
        slots.push(Slot { key, value, change: None, shaped: None });
    }

    fn row_in<F: Form>(
        &mut self,
        plan: &Plan,
        context: &Context<'_>,
        row: &Row<'_>,
        now: i64,
    ) -> Result<(), EncodeError> {
        if let Some(shaped) = &plan.shaped {
            return self.shaped_in::<F>(plan, shaped, context, row, now);
        }
        let Encoder { out, slots, new_spans, old_spans, tools, counted, .. } = self;
        let emits = plan.emits.rows;
        let mut write = Writer::<F>::new(plan, context, now, out, (tools, counted));
        match *row {
            Row::Insert { new } if emits.inserts => {
                let new = Image::whole(plan, new, new_spans, None)?;
                let key = write.key(&new)?;
                let value = Some(write.envelope("c", None, Some(&new))?);
                slots.push(Slot { key, value, change: None, shaped: None });
            }
            Row::Read { new } => {
                let new = Image::whole(plan, new, new_spans, None)?;
                let key = write.key(&new)?;
                let value = Some(write.envelope("r", None, Some(&new))?);
                slots.push(Slot { key, value, change: None, shaped: None });
            }
            Row::Update { old, new } if emits.updates => {
                let old = old.map(|old| Image::old(plan, old, old_spans)).transpose()?;
                let new = Image::whole(plan, new, new_spans, old.as_ref())?;
                let known = old.as_ref().filter(|old| !emits.unchanged && old.is_whole());
                if known.is_some_and(|old| is_same(plan, old, &new)) {
                    return Ok(());
                }
                write.update(old.as_ref(), &new, slots)?;
            }
            Row::Delete { old } if emits.deletes => {
                let old = Image::old(plan, old, old_spans)?;
                let key = write.key(&old)?;
                let value = Some(write.envelope("d", Some(&old), None)?);
                slots.push(Slot { key, value, change: None, shaped: None });
                if plan.emits.tombstones {
                    slots.push(Slot { key, value: None, change: None, shaped: None });
                }
            }
            Row::Truncate if plan.emits.truncates => {
                let value = Some(write.envelope("t", None, None)?);
                slots.push(Slot { key: None, value, change: None, shaped: None });
            }
            Row::Insert { .. } | Row::Update { .. } | Row::Delete { .. } | Row::Truncate => {}
        }
        Ok(())
    }

    /// Writes the records of a row's change in a table whose records are transformed.
    fn shaped_in<F: Form>(
        &mut self,
        plan: &Plan,
        shaped: &Shaped,
        context: &Context<'_>,
        row: &Row<'_>,
        now: i64,
    ) -> Result<(), EncodeError> {
        let Encoder { out, slots, new_spans, old_spans, tools, counted, shaped_headers, .. } = self;
        let emits = plan.emits.rows;
        let mut write = Writer::<F>::new(plan, context, now, out, (tools, counted));
        let written = &mut Written { slots, headers: shaped_headers };
        match *row {
            Row::Insert { new } | Row::Read { new } => {
                let kind = if matches!(row, Row::Read { .. }) { Kind::Read } else { Kind::Create };
                if kind == Kind::Create && !emits.inserts {
                    return Ok(());
                }
                let new = Image::whole(plan, new, new_spans, None)?;
                write.shaped(shaped, kind, Images { old: None, new: Some(&new) }, written)
            }
            Row::Update { old, new } if emits.updates => {
                let old = old.map(|old| Image::old(plan, old, old_spans)).transpose()?;
                let new = Image::whole(plan, new, new_spans, old.as_ref())?;
                let known = old.as_ref().filter(|old| !emits.unchanged && old.is_whole());
                if known.is_some_and(|old| is_same(plan, old, &new)) {
                    return Ok(());
                }
                write.shaped_update(shaped, Images { old: old.as_ref(), new: Some(&new) }, written)
            }
            Row::Delete { old } if emits.deletes => {
                let old = Image::old(plan, old, old_spans)?;
                let images = Images { old: Some(&old), new: None };
                write.shaped(shaped, Kind::Delete, images, written)?;
                write.shaped(shaped, Kind::Tombstone, images, written)
            }
            Row::Truncate if plan.emits.truncates => {
                write.shaped(shaped, Kind::Truncate, Images { old: None, new: None }, written)
            }
            Row::Update { .. } | Row::Delete { .. } | Row::Truncate => Ok(()),
        }
    }
}
