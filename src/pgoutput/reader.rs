//! A cursor over the bytes of one message. It cannot read beyond them.

/// Why a message could not be read. `at` is the offset in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum DecodeError {
    /// The message ends inside a field.
    #[error("message ends inside `{field}` at byte {at}")]
    Truncated {
        /// The field being read.
        field: &'static str,
        at: usize,
    },
    /// A byte that the protocol does not define at this place.
    #[error("byte {byte:#04x} at {at} is no {field}")]
    BadTag { field: &'static str, byte: u8, at: usize },
    /// A name or another text that ends with a zero byte is not UTF-8, although the connection asks
    /// for UTF-8.
    #[error("`{field}` at byte {at} is not UTF-8")]
    NotUtf8 {
        /// The field being read.
        field: &'static str,
        at: usize,
    },
    /// Bytes left over after a complete message.
    #[error("{count} bytes follow the end of the message at byte {at}")]
    Trailing {
        count: usize,
        /// Where the message should have ended.
        at: usize,
    },
}

/// Reads one message from its begin to its end. Every method reads its field whole, or fails and
/// never reads beyond the end of the message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Number of bytes not yet read.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes not yet read.
    pub(super) fn rest(&self) -> &'a [u8] {
        let Some(rest) = self.bytes.get(self.at..) else {
            unreachable!("the reader stands at {} of {} bytes", self.at, self.bytes.len());
        };
        rest
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated { field, at: self.at }
    }

    pub(super) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or_else(|| self.truncated(field))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.truncated(field))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let at = self.at;
        self.take(N, field)?.try_into().map_err(|_| DecodeError::Truncated { field, at })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Reads a text up to its zero byte, and skips the zero byte.
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let length =
            self.rest().iter().position(|&b| b == 0).ok_or_else(|| self.truncated(field))?;
        let bytes = self.take(length, field)?;
        self.take(1, field)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { field, at })
    }

    pub(super) fn bad_tag(&self, field: &'static str, byte: u8) -> DecodeError {
        DecodeError::BadTag { field, byte, at: self.at.saturating_sub(1) }
    }

    /// Succeeds if every byte of the message is read, and otherwise fails with `Trailing`.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count, at: self.at }),
        }
    }
}
