//! One row as pgoutput sends it.

use super::reader::{DecodeError, Reader};

/// A row whose structure has been checked. Its cells are read from the bytes of the message or of
/// the [`CopyRow`](super::CopyRow) that it borrows.
#[derive(Clone, Copy, PartialEq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// One column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// NULL. In a key tuple it can also mean that the column is not part of the identity.
    Null,
    /// A TOAST value that the server did not send, because it did not change. It is not NULL.
    Unchanged,
    /// The value in the text form of its type.
    Text(&'a [u8]),
    /// The value in the binary form of its type. The server sends this form only on request, and we
    /// do not request it.
    Binary(&'a [u8]),
}

/// The place of a [`Cell`] in its [`Tuple`]. A reused buffer can hold the places of a row without
/// borrowing from the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellSpan {
    tag: u8,
    start: u32,
    length: u32,
}

impl CellSpan {
    /// Number of bytes of the value; 0 for NULL and for a value that the server did not send.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        self.length as usize
    }
}

impl std::fmt::Debug for Tuple<'_> {
    /// Row values stay out of logs and panics: only the shape is printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tuple({} columns, {} bytes)", self.count, self.bytes.len())
    }
}

impl<'a> Tuple<'a> {
    /// Checks one tuple, and leaves `reader` after its last column.
    ///
    /// # Errors
    /// `Truncated` if the message ends inside a column, and `BadTag` for a kind that pgoutput does
    /// not define. The number of columns is compared with the bytes at hand first, so that a false
    /// number costs no time.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u16("column count")?;
        if reader.remaining() < usize::from(count) {
            return Err(reader.truncated("columns")); // every column takes at least its tag byte
        }
        let whole = reader.rest();
        let start = reader.at();
        for _ in 0..count {
            match reader.u8("column kind")? {
                b'n' | b'u' => {}
                b't' | b'b' => {
                    let length = reader.u32("column length")?;
                    reader.take(usize::try_from(length).unwrap_or(usize::MAX), "column value")?;
                }
                other => return Err(reader.bad_tag("column kind", other)),
            }
        }
        let Some(bytes) = whole.get(..reader.at() - start) else {
            unreachable!("the reader went past the end of its message");
        };
        Ok(Tuple { count, bytes })
    }

    /// A tuple without a check. The caller guarantees that `bytes` has exactly `count` whole
    /// columns.
    pub(super) fn of_parts(count: u16, bytes: &'a [u8]) -> Self {
        Tuple { count, bytes }
    }

    /// How many columns the row has.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the row has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of bytes of all cells in the form of pgoutput, with their tags and lengths.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The columns in table order.
    pub fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        let mut at = 0;
        (0..self.count).map(move |_| {
            let (span, next) = self.span_at(at);
            at = next;
            self.cell(span)
        })
    }

    /// Replaces the content of `spans` by the places of this row's cells, in the order of the
    /// table's columns.
    pub fn index_into(self, spans: &mut Vec<CellSpan>) {
        spans.clear();
        let mut at = 0;
        for _ in 0..self.count {
            let (span, next) = self.span_at(at);
            spans.push(span);
            at = next;
        }
    }

    /// The cell at a place that [`Tuple::index_into`] of this same tuple gave.
    #[must_use]
    pub fn cell(self, span: CellSpan) -> Cell<'a> {
        let (start, length) = (span.start as usize, span.length as usize);
        let Some(value) = self.bytes.get(start..start + length) else {
            unreachable!(
                "a cell at {start} of {length} bytes is of another tuple: this one has {}",
                self.bytes.len()
            );
        };
        match span.tag {
            b'u' => Cell::Unchanged,
            b't' => Cell::Text(value),
            b'b' => Cell::Binary(value),
            _ => Cell::Null,
        }
    }

    /// The place of the cell that begins at the offset `at`, and the offset of the next cell.
    /// `read` has checked the structure.
    fn span_at(self, at: usize) -> (CellSpan, usize) {
        let Some((&tag, rest)) = self.bytes.get(at..).and_then(<[u8]>::split_first) else {
            unreachable!("a tuple of {} columns ends before one of them", self.count)
        };
        if !matches!(tag, b't' | b'b') {
            return (CellSpan { tag, start: 0, length: 0 }, at + 1);
        }
        let (Some(length), Ok(start)) = (rest.first_chunk(), u32::try_from(at + 5)) else {
            unreachable!("a tuple of {} columns ends inside one of them", self.count)
        };
        let length = u32::from_be_bytes(*length);
        (CellSpan { tag, start, length }, at + 5 + length as usize)
    }
}
