//! Turns a row of COPY's text format into the tuple that pgoutput would send for the row. So copied
//! and streamed rows go through the same plans.
//!
//! Both forms have the text of the type's output function. COPY escapes the text and ends it with a
//! tab, and pgoutput writes its length before it. Source of the format: Postgres documentation,
//! COPY, "Text Format". Laws, tested below: the values of a line that a server has written come
//! back byte for byte. Any other bytes are read or refused, and nothing is read out of bounds.

use super::tuple::Tuple;

/// The most bytes of memory that the buffer keeps from one row to the next. Most rows need no more.
/// The memory for one huge row is given back when the next row is read.
const KEEP_BYTES: usize = 1024 * 1024;

/// Why a line of COPY could not be read as a row of the table. No variant holds a value of the
/// line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum CopyRowError {
    /// The line has another number of columns than the caller of [`CopyRow::read`] wants.
    #[error("a copied row has {found} columns, {expected} were asked for")]
    Columns {
        expected: usize,
        /// Columns of the line.
        found: usize,
    },
    /// The line ends after a backslash, which begins an escape.
    #[error("a copied row ends inside an escape in column {column}")]
    Escape {
        /// Index of the column, counted from 0.
        column: usize,
    },
    /// A value is longer than the four bytes of a length in pgoutput can say.
    #[error("column {column} of a copied row is longer than 4 GiB")]
    TooLong {
        /// Index of the column, counted from 0.
        column: usize,
    },
}

/// A buffer for one row in the form of a pgoutput tuple. The buffer is used again for the next row.
#[derive(Debug, Default)]
pub struct CopyRow {
    wire: Vec<u8>,
}

impl CopyRow {
    /// Reads one line, with or without its line end, as a row of `columns` columns.
    ///
    /// # Errors
    /// See [`CopyRowError`].
    pub fn read(&mut self, line: &[u8], columns: usize) -> Result<Tuple<'_>, CopyRowError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.wire.clear();
        if self.wire.capacity() > KEEP_BYTES {
            self.wire.shrink_to(KEEP_BYTES);
        }
        let (mut rest, mut found) = (line, 0);
        // A row without columns is an empty line, and so is one whose only column is an empty text.
        let mut more = columns > 0 || !line.is_empty();
        while more {
            (rest, more) = self.field(rest, found)?;
            found += 1;
        }
        match u16::try_from(found) {
            Ok(count) if found == columns => Ok(Tuple::of_parts(count, &self.wire)),
            _ => Err(CopyRowError::Columns { expected: columns, found }),
        }
    }

    /// Reads the first field of `line`, and appends it to `wire` as a cell. Returns the rest of the
    /// line after the field's tab, and whether there was a tab. Without a tab it was the last
    /// field.
    #[inline]
    fn field<'l>(
        &mut self,
        line: &'l [u8],
        column: usize,
    ) -> Result<(&'l [u8], bool), CopyRowError> {
        if let Some(rest) = line.strip_prefix(b"\\N") {
            match rest.split_first() {
                None => {
                    self.wire.push(b'n');
                    return Ok((rest, false));
                }
                Some((b'\t', rest)) => {
                    self.wire.push(b'n');
                    return Ok((rest, true));
                }
                Some(_) => {} // `\Nx`: a text that begins with N, which no server writes so
            }
        }
        self.wire.push(b't');
        let mark = self.wire.len();
        self.wire.extend_from_slice(&[0; 4]);
        let mut rest = line;
        let more = loop {
            let (plain, special) = rest.split_at(plain_length(rest));
            self.wire.extend_from_slice(plain);
            match special {
                [] => {
                    rest = special;
                    break false;
                }
                [b'\t', after @ ..] => {
                    rest = after;
                    break true;
                }
                [_, escape @ ..] => {
                    let (byte, after) = unescape(escape).ok_or(CopyRowError::Escape { column })?;
                    self.wire.push(byte);
                    rest = after;
                }
            }
        };
        let length = u32::try_from(self.wire.len() - mark - 4)
            .map_err(|_| CopyRowError::TooLong { column })?;
        let Some(place) = self.wire.get_mut(mark..mark + 4) else {
            unreachable!("four bytes are kept for the length of each field")
        };
        place.copy_from_slice(&length.to_be_bytes());
        Ok((rest, more))
    }
}

/// Number of bytes before the first tab or backslash; all bytes if there is none.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    // Eight bytes are searched at a time. The lowest bit that is set in `found` belongs to the
    // first tab or backslash.
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let found = zero_in(word ^ (ONES * b'\t' as u64)) | zero_in(word ^ (ONES * b'\\' as u64));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let Some(tail) = bytes.get(at..) else { unreachable!("whole words lie within the bytes") };
    at + tail.iter().position(|byte| matches!(byte, b'\t' | b'\\')).unwrap_or(tail.len())
}

/// The byte that an escape means, and the rest of the line after the escape. `escape` begins after
/// the backslash. `None` if the line ends at the backslash.
fn unescape(escape: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = escape.split_first()?;
    let digits = |bytes: &[u8], radix: u32, most: usize| {
        let count =
            bytes.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let number = bytes.iter().take(count).fold(0u32, |number, byte| {
            let digit = char::from(*byte).to_digit(radix);
            number * radix + digit.unwrap_or_else(|| unreachable!("only digits are counted"))
        });
        (number.to_le_bytes()[0], count)
    };
    Some(match first {
        b'b' => (0x08, rest),
        b'f' => (0x0c, rest),
        b'n' => (b'\n', rest),
        b'r' => (b'\r', rest),
        b't' => (b'\t', rest),
        b'v' => (0x0b, rest),
        b'0'..=b'7' => {
            let (byte, count) = digits(escape, 8, 3);
            (byte, escape.get(count..)?)
        }
        b'x' => match digits(rest, 16, 2) {
            (_, 0) => (b'x', rest),
            (byte, count) => (byte, rest.get(count..)?),
        },
        other => (other, rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput::Cell;
    use proptest::prelude::*;

    /// Writes a row as a line of COPY, with the escapes of the server's function
    /// CopyAttributeOutText.
    fn line(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, cell) in row.iter().enumerate() {
            if at > 0 {
                out.push(b'\t');
            }
            let Some(value) = cell else {
                out.extend_from_slice(b"\\N");
                continue;
            };
            for byte in value {
                match byte {
                    0x08 => out.extend_from_slice(b"\\b"),
                    0x0c => out.extend_from_slice(b"\\f"),
                    b'\n' => out.extend_from_slice(b"\\n"),
                    b'\r' => out.extend_from_slice(b"\\r"),
                    b'\t' => out.extend_from_slice(b"\\t"),
                    0x0b => out.extend_from_slice(b"\\v"),
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    other => out.push(*other),
                }
            }
        }
        out.push(b'\n');
        out
    }

    fn cells(tuple: Tuple<'_>) -> Vec<Option<Vec<u8>>> {
        let cell = |cell| match cell {
            Cell::Text(text) => Some(text.to_vec()),
            _ => None,
        };
        tuple.cells().map(cell).collect()
    }

    #[track_caller]
    fn check(line: &str, expect: &[&str]) {
        let mut row = CopyRow::default();
        let tuple = row.read(line.as_bytes(), expect.len()).unwrap();
        let found: Vec<String> =
            cells(tuple).into_iter().map(|c| String::from_utf8(c.unwrap()).unwrap()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn reads_every_escape_of_the_format() {
        check("\\b\\f\\n\\r\\t\\v\\\\", &["\u{8}\u{c}\n\r\t\u{b}\\"]);
        check("\\101\\1018\\7\\x41\\x4a\\x4ag\\xg", &["AA8\u{7}AJJgxg"]);
        check("\\a\\.\\Nx\tplain", &["a.Nx", "plain"]);
    }

    #[test]
    fn an_empty_line_is_no_column_or_an_empty_text() {
        let mut row = CopyRow::default();
        assert_eq!(cells(row.read(b"\n", 0).unwrap()), Vec::<Option<Vec<u8>>>::new());
        assert_eq!(cells(row.read(b"\n", 1).unwrap()), [Some(Vec::new())]);
        assert_eq!(cells(row.read(b"\\N\n", 1).unwrap()), [None]);
        assert_eq!(cells(row.read(b"\\N\t\t\\N\n", 3).unwrap()), [None, Some(Vec::new()), None]);
    }

    #[test]
    fn refuses_a_row_with_another_number_of_columns() {
        let mut row = CopyRow::default();
        assert_eq!(row.read(b"a\tb\n", 3), Err(CopyRowError::Columns { expected: 3, found: 2 }));
        assert_eq!(row.read(b"a\tb\n", 1), Err(CopyRowError::Columns { expected: 1, found: 2 }));
        assert_eq!(row.read(b"a\n", 0), Err(CopyRowError::Columns { expected: 0, found: 1 }));
        assert_eq!(row.read(b"a\tb\\\n", 2), Err(CopyRowError::Escape { column: 1 }));
    }

    proptest! {
        /// Goal: no value changes on its way through COPY. Method: any bytes, escaped as the server
        /// does it.
        #[test]
        fn what_a_server_writes_comes_back(row in prop::collection::vec(
            prop::option::of(prop::collection::vec(
                prop_oneof![prop::sample::select(b"\t\\\n\r\x08\x0c\x0bNx0".to_vec()), any::<u8>()], 0..40)), 1..12)
        ) {
            let mut read = CopyRow::default();
            let line = line(&row);
            let tuple = read.read(&line, row.len()).unwrap();
            let mut spans = Vec::new();
            tuple.index_into(&mut spans);
            prop_assert_eq!(spans.len(), row.len());
            prop_assert_eq!(cells(tuple), row);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"\t\\x07N\n".to_vec()), any::<u8>()], 0..200),
            columns in 0usize..6,
        ) {
            if let Ok(tuple) = CopyRow::default().read(&bytes, columns) {
                prop_assert_eq!(tuple.cells().count(), columns);
            }
        }

        #[test]
        fn the_first_special_byte_is_found_wherever_it_stands(
            bytes in prop::collection::vec(prop_oneof![9 => any::<u8>(), 1 => prop::sample::select(b"\t\\".to_vec())], 0..64),
        ) {
            let naive = bytes.iter().position(|b| *b == b'\t' || *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(plain_length(&bytes), naive);
        }
    }
}
