//! The row path of tables whose records are transformed: fills the scripts of a plan with the
//! values of a change.

use super::auxiliary::{Counted, count, push_block, push_id};
use super::document::{Document, UNFIT};
use super::encoder::{EncodeError, OfShape, Slot, Span};
use super::envelope;
use super::form::{Form, HeaderText, Union};
use super::header::HeaderValue;
use super::plain_text::{self, PlainText};
use super::row::{Image, Writer};
use super::shaped::{
    ColumnGap, ComparedGap, ConvertedGap, DocumentGap, Gap, HashedGap, HeaderScript, Need, Scripts,
    Shaped, Whole,
};
use super::transcode::Texts;
use crate::change::{Context, Marker};
use crate::pgoutput::Cell;
use crate::transform::convert::{ConvertFault, Made};
use crate::transform::hash;
use crate::transform::outline::Source;
use crate::transform::shape::{Base, Kind, Meta, Side};

/// The old and the new row of a change, as far as they are known.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, 'b> {
    pub old: Option<&'a Image<'b>>,
    pub new: Option<&'a Image<'b>>,
}

/// The lists to which records and the values of their headers are appended.
pub(super) struct Written<'a> {
    pub slots: &'a mut Vec<Slot>,
    /// Places in the buffer of the header values of all records, in the order of the scripts.
    /// `None` for null.
    pub headers: &'a mut Vec<Option<Span>>,
}

impl<F: Form> Writer<'_, F> {
    /// Writes the transformed records of an update: one update, or a delete, a tombstone and a
    /// create if the update changes the key.
    pub(super) fn shaped_update(
        &mut self,
        shaped: &Shaped,
        images: Images<'_, '_>,
        written: &mut Written<'_>,
    ) -> Result<(), EncodeError> {
        let (Some(old), Some(new)) = (images.old, images.new) else {
            return self.shaped(shaped, Kind::UpdateAlone, images, written);
        };
        if !self.moves(old, new)? {
            return self.shaped(shaped, Kind::Update, images, written);
        }
        self.shaped(shaped, Kind::MovedDelete, images, written)?;
        self.shaped(shaped, Kind::MovedTombstone, images, written)?;
        self.shaped(shaped, Kind::MovedCreate, images, written)
    }

    /// Whether the update changes the key that the table has before any transform.
    pub(super) fn moves(&mut self, old: &Image<'_>, new: &Image<'_>) -> Result<bool, EncodeError> {
        let start = self.out.len();
        let (new, old) = (self.key(new)?, self.key(old)?);
        let lost = || -> &[u8] { unreachable!("both keys were written to the buffer") };
        let part = |(from, to): Span| self.out.get(from..to).unwrap_or_else(lost);
        let moves = old.is_some() && old.map(part) != new.map(part);
        self.out.truncate(start);
        Ok(moves)
    }

    /// Writes the record of one kind, unless a transform drops the kind or a condition does not
    /// hold.
    pub(super) fn shaped(
        &mut self,
        shaped: &Shaped,
        kind: Kind,
        images: Images<'_, '_>,
        written: &mut Written<'_>,
    ) -> Result<(), EncodeError> {
        if kind.operation().is_some() {
            *self.counted = self.counted.next();
        }
        let Some(scripts) = shaped.of(kind) else { return Ok(()) };
        if !self.is_kept(&scripts.conditions, images)? {
            return Ok(());
        }
        let time = match &scripts.time {
            Some((gaps, units)) => self.number(gaps, images)?.map(|time| time / units),
            None => None,
        };
        if time.is_some_and(|millis| millis < 1) {
            return Err(EncodeError::NoTime { table: self.plan.table.to_string() });
        }
        let partition = match &scripts.partition {
            Some(gaps) => self.number(gaps, images)?,
            None => None,
        };
        let headers = written.headers.len();
        self.headers(scripts, images, written.headers)?;
        let key = self.whole::<F>(scripts.key.as_ref(), images)?;
        let value = self.whole::<F>(scripts.value.as_ref(), images)?;
        let shaped = Some(OfShape { kind, headers, time, partition });
        written.slots.push(Slot { key, value, change: None, shaped });
        Ok(())
    }

    /// Writes a key or value. `None` if the record has none, or if the whole key or value is null
    /// and Connect writes no bytes for that.
    fn whole<G: Form>(
        &mut self,
        whole: Option<&Whole>,
        images: Images<'_, '_>,
    ) -> Result<Option<Span>, EncodeError> {
        let Some(Whole { gaps, nothing }) = whole else { return Ok(None) };
        let (from, to) = self.gaps::<G>(gaps, images)?;
        if nothing.is_some() && nothing.as_deref() == self.out.get(from..to) {
            self.out.truncate(from);
            return Ok(None);
        }
        Ok(Some((from, to)))
    }

    fn headers(
        &mut self,
        scripts: &Scripts,
        images: Images<'_, '_>,
        headers: &mut Vec<Option<Span>>,
    ) -> Result<(), EncodeError> {
        for (_, script) in &scripts.headers {
            let span = match script {
                HeaderScript::Constant(bytes) => bytes.as_ref().map(|bytes| {
                    let start = self.out.len();
                    self.out.extend_from_slice(bytes);
                    (start, self.out.len())
                }),
                HeaderScript::Value(gaps) if self.is_null(gaps, images) => None,
                HeaderScript::Nested(gaps) if self.is_null(gaps, images) => None,
                HeaderScript::Value(gaps) => Some(self.gaps::<HeaderValue>(gaps, images)?),
                HeaderScript::Nested(gaps) => Some(self.gaps::<HeaderText>(gaps, images)?),
            };
            headers.push(span);
        }
        Ok(())
    }

    /// Computes the time or the partition of a record. The buffer keeps no bytes of it. `None` if
    /// the value is null.
    fn number(&mut self, gaps: &[Gap], images: Images<'_, '_>) -> Result<Option<i64>, EncodeError> {
        if self.is_null(gaps, images) {
            return Ok(None);
        }
        let (from, to) = self.gaps::<HeaderValue>(gaps, images)?;
        let digits = self.out.get(from..to).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| digits.parse().ok());
        self.out.truncate(from);
        Ok(number)
    }

    /// Whether the value of a header, of the time or of the partition is null. Such a null has no
    /// bytes.
    fn is_null(&self, gaps: &[Gap], images: Images<'_, '_>) -> bool {
        let context = self.context;
        match gaps {
            [Gap::Column(gap)] => {
                gap.null.is_none() && matches!(cell(gap, images), None | Some(Cell::Null))
            }
            [Gap::Converted(gap)] => gap.null.is_some() && self.is_null(&gap.gaps, images),
            // In an expanded document, only a field that was null has the type bytes.
            [Gap::Document(gap)] => gap.schema.base == Base::Bytes,
            [Gap::Meta(meta, _)] => match meta {
                Meta::Snapshot => context.marker == Marker::Streamed,
                Meta::Lsn => context.marker == Marker::Incremental,
                Meta::Transaction => context.xid.is_none(),
                Meta::Xmin => context.xmin.is_none(),
                Meta::Origin | Meta::OriginLsn => context.origin.is_none(),
                Meta::Block | Meta::BlockId | Meta::BlockTotal | Meta::BlockTable => {
                    context.xid.is_none() || context.marker != Marker::Streamed
                }
                _ => false,
            },
            _ => false,
        }
    }

    pub(super) fn gaps<G: Form>(
        &mut self,
        gaps: &[Gap],
        images: Images<'_, '_>,
    ) -> Result<Span, EncodeError> {
        let start = self.out.len();
        for gap in gaps {
            match gap {
                Gap::Constant(bytes) => self.out.extend_from_slice(bytes),
                Gap::Column(gap) => self.column::<G>(gap, images)?,
                Gap::Document(gap) => self.document::<G>(gap, images)?,
                Gap::Compared(gap) => self.compared::<G>(gap, images)?,
                Gap::Converted(gap) => self.converted::<G>(gap, images)?,
                Gap::Hashed(gap) => self.hashed::<G>(gap, images)?,
                Gap::Meta(meta, union) => self.meta::<G>(*meta, *union),
            }
        }
        Ok((start, self.out.len()))
    }

    fn column<G: Form>(
        &mut self,
        gap: &ColumnGap,
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        let found = cell(gap, images);
        if let (None | Some(Cell::Unchanged), Some(need)) = (&found, gap.need) {
            let (table, column) = (self.plan.table.to_string(), gap.plan.name.to_string());
            return Err(match need {
                Need::Key => EncodeError::KeyMissing { table, column },
                Need::Partition => EncodeError::PartitionMissing { table, column },
            });
        }
        match (found, &gap.null, &gap.masked) {
            (None, ..) => self.out.extend_from_slice(&gap.plan.missing),
            (Some(Cell::Null), Some(null), _) => self.out.extend_from_slice(null),
            (Some(Cell::Text(_) | Cell::Unchanged), _, Some(masked)) => {
                self.out.extend_from_slice(masked)
            }
            (Some(cell), ..) => return self.cell::<G>(gap.index, &gap.plan, cell),
        }
        Ok(())
    }

    /// Writes the result of a value's conversion. The texts before and after the conversion are in
    /// reused buffers.
    fn converted<G: Form>(
        &mut self,
        gap: &ConvertedGap,
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        let (from, to) = self.gaps::<PlainText>(&gap.gaps, images)?;
        let Some(found) = self.out.get(from..to) else {
            unreachable!("the gaps end where the buffer does")
        };
        let is_null = found == plain_text::NULL;
        let known = if is_null { gap.null.as_deref() } else { gap.masked.as_deref() };
        if let Some(bytes) = known {
            self.out.truncate(from);
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let context = self.context;
        let Texts { given, made } = &mut self.tools.texts;
        given.clear();
        made.clear();
        let converted = match std::str::from_utf8(found) {
            Ok(text) => {
                given.push_str(text);
                let at = context.committed_at.unix_micros().div_euclid(1_000_000);
                gap.conversion.convert(gap.origin, given, Some(at), made)
            }
            Err(_) => Err(ConvertFault::Foreign),
        };
        self.out.truncate(from);
        match converted {
            Ok(value) => {
                G::some(gap.union, self.out);
                write::<G>(value, self.out);
                Ok(())
            }
            Err(source) => {
                let column = match &*gap.gaps {
                    [Gap::Column(column)] => &column.plan.name,
                    _ => &gap.field,
                };
                let (table, column) = (self.plan.table.to_string(), column.to_string());
                Err(EncodeError::Unconverted { table, column, source })
            }
        }
    }

    /// Writes the number of the partition, which is made of the sum of the values' hashes. A null
    /// value is left out of the sum. If all values are null, null is written.
    fn hashed<G: Form>(
        &mut self,
        gap: &HashedGap,
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        let mut sum: Option<i32> = None;
        for (class, gaps) in &gap.values {
            let (from, to) = self.gaps::<PlainText>(gaps, images)?;
            let found = self.out.get(from..to).filter(|found| *found != plain_text::NULL);
            let hashed = found.map(|found| {
                std::str::from_utf8(found).ok().and_then(|text| class.hash(gap.hash, text))
            });
            self.out.truncate(from);
            match hashed {
                None => {}
                Some(Some(code)) => sum = Some(sum.unwrap_or(0).wrapping_add(code)),
                Some(None) => {
                    let (table, column) = (self.plan.table.to_string(), name_of(gaps));
                    let source = ConvertFault::Foreign;
                    return Err(EncodeError::Unconverted { table, column, source });
                }
            }
        }
        match sum {
            None => G::null(gap.union, self.out),
            Some(sum) => {
                G::some(gap.union, self.out);
                G::int(i64::from(hash::partition(sum, gap.partitions)), self.out);
            }
        }
        Ok(())
    }

    /// Writes the names of the fields whose values differ, or of those whose values are the same.
    /// Values are compared as they are written. Masked values are therefore compared after masking.
    fn compared<G: Form>(
        &mut self,
        gap: &ComparedGap,
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        let mut names: Vec<&str> = Vec::new();
        for (name, [old, new]) in &gap.fields {
            let (from, middle) = self.gaps::<HeaderText>(old, images)?;
            let (_, to) = self.gaps::<HeaderText>(new, images)?;
            let (Some(old), Some(new)) = (self.out.get(from..middle), self.out.get(middle..to))
            else {
                unreachable!("both values were written to the buffer")
            };
            if (old != new) == gap.differ {
                names.push(name);
            }
            self.out.truncate(from);
        }
        G::some(gap.union, self.out);
        G::list_open(names.len(), self.out);
        for (place, name) in names.iter().enumerate() {
            G::element(place == 0, self.out);
            G::some(Union::NullFirst, self.out);
            G::text(name, self.out);
        }
        G::list_close(names.len(), self.out);
        Ok(())
    }

    /// Writes a value of an expanded JSON document. The document is parsed once for each row.
    fn document<G: Form>(
        &mut self,
        gap: &DocumentGap,
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        if let (None, Source::Column(index)) = (&self.document, gap.source) {
            self.document = match images.new.and_then(|image| image.cell(index, true)) {
                Some(Cell::Text(text)) => Document::expandable(text),
                _ => None,
            };
        }
        let document = self.document.as_ref().ok_or(UNFIT);
        let written =
            document.and_then(|found| found.at(&gap.path).write::<G>(&gap.schema, self.out));
        written.map_err(|source| EncodeError::Value {
            table: self.plan.table.to_string(),
            column: match gap.source {
                Source::Column(index) => {
                    self.plan.column(index).map_or_else(String::new, str::to_owned)
                }
                Source::Content => "content".to_owned(),
            },
            source,
        })
    }

    fn meta<G: Form>(&mut self, meta: Meta, union: Union) {
        let (context, counted) = (self.context, *self.counted);
        match meta {
            Meta::Block => push_block::<G>(context, counted, self.out),
            Meta::BlockId | Meta::BlockTotal | Meta::BlockTable => {
                block::<G>(meta, union, context, counted, self.out);
            }
            other => envelope::meta::<G>(other, union, context, self.now, self.out),
        }
    }
}

/// Writes one field of an event's block `transaction`: the transaction's id, or the number of the
/// event among all events or among those of its table. The field is null for a copied row and
/// outside a transaction.
fn block<G: Form>(
    meta: Meta,
    union: Union,
    context: &Context<'_>,
    counted: Counted,
    out: &mut Vec<u8>,
) {
    let Some(xid) = context.xid.filter(|_| context.marker == Marker::Streamed) else {
        return G::null(union, out);
    };
    G::some(union, out);
    match meta {
        Meta::BlockId => push_id::<G>(xid, context.lsn, out),
        Meta::BlockTotal => G::int(count(counted.total), out),
        _ => G::int(count(counted.of_table), out),
    }
}

/// Returns the name of the column from which a value comes, for an error.
fn name_of(gaps: &[Gap]) -> String {
    match gaps {
        [Gap::Column(gap)] => gap.plan.name.to_string(),
        _ => "of the partition".to_owned(),
    }
}

/// Writes a converted value. The caller has written the bytes that mark it as not null.
fn write<G: Form>(value: Made<'_>, out: &mut Vec<u8>) {
    match value {
        Made::Boolean(value) => G::boolean(value, out),
        Made::Int(value) => G::int(value, out),
        Made::Float32(value) => G::float4(value, out),
        Made::Float64(value) => G::float8(value, out),
        Made::Text(value) => G::text(value, out),
        Made::Moment(kind, value) => G::temporal(kind, value, out),
    }
}

pub(super) fn cell<'a>(gap: &ColumnGap, images: Images<'_, 'a>) -> Option<Cell<'a>> {
    let image = match gap.side {
        Side::Old => images.old,
        Side::New => images.new,
    };
    image.and_then(|image| image.cell(gap.index, gap.plan.in_identity))
}
