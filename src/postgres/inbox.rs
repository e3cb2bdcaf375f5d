//! The bytes that have arrived from the server and are not yet taken: one buffer, which is cut into
//! the server's messages without copying them.
//!
//! Every message is a tag byte, a length that counts itself, and a body. The length is checked
//! against the limit before memory is reserved. The buffer grows with the bytes that have arrived,
//! not with the length that a message claims.

use crate::postgres::error::PgError;
use bytes::{BufMut as _, BytesMut};
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Size of the buffer while messages are small. The buffer holds some 600 rows of a common size.
/// The agent, which lets bytes gather between two reads, then needs one read for each wake-up.
pub(super) const ROOM_BYTES: usize = 256 * 1024;

/// The number of reads in a row that need no more than [`ROOM_BYTES`] before a grown buffer
/// shrinks. With a smaller number, every row of a table with large rows would reallocate.
const CALM_READS: u32 = 64;

/// A message begins with one byte of tag and four of length; the length counts itself and not the
/// tag.
const HEADER_BYTES: usize = 5;

/// The read buffer of one connection.
pub(super) struct Inbox {
    buf: BytesMut,
    /// Offset in `buf` at which the first message that is not taken begins.
    at: usize,
    /// Length in bytes of the first message that is not taken, or of its header until the header
    /// has arrived. The next read makes room for it.
    wanted: usize,
    /// The longest message that is accepted, in bytes with its header.
    bytes_max: usize,
    calm_reads: u32,
}

impl Inbox {
    /// An empty inbox, which accepts messages of at most `bytes_max` bytes with their header.
    pub(super) fn new(bytes_max: usize) -> Self {
        Inbox { buf: BytesMut::new(), at: 0, wanted: HEADER_BYTES, bytes_max, calm_reads: 0 }
    }

    /// Sets the longest message that is accepted, for every message that is not yet taken.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Number of bytes that have arrived and are not taken.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buf.len() - self.at
    }

    /// True if the buffer has room for at least one more byte without growing.
    pub(super) fn has_room(&self) -> bool {
        self.buf.len() < self.buf.capacity()
    }

    /// The tag of the first message that is not taken, and the range in the buffer of the whole
    /// message with its tag. The message is not taken. `None` until the whole message has arrived.
    ///
    /// # Errors
    /// A length below 4 or above the limit. The message stays in the buffer, so each further call
    /// returns the error again.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<(u8, Range<usize>)>, PgError> {
        let [tag, a, b, c, d, ..] = *self.unread() else {
            self.wanted = HEADER_BYTES;
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length < 4 {
            return Err(PgError::Protocol {
                call: "read a message",
                what: format!("length {length} after tag {tag:#04x} does not count itself"),
            });
        }
        let total = length.saturating_add(1);
        if total > self.bytes_max {
            return Err(PgError::FrameTooLong { bytes: total, bytes_max: self.bytes_max });
        }
        self.wanted = total;
        Ok((self.buffered_bytes() >= total).then(|| (tag, self.at..self.at + total)))
    }

    /// Tags and bodies of the whole messages that have arrived and are not taken, in their order.
    /// The iterator ends before a message that is not whole or that has an impossible length.
    /// [`Inbox::peek`] reports such a length when that message is the first.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut unread = self.buf.get(self.at..).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let (&tag, rest) = unread.split_first()?;
            let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
            let body = rest.get(4..length)?;
            unread = rest.get(length..)?;
            Some((tag, body))
        })
    }

    /// Takes the first whole message. Returns its tag, and the range of its body in the buffer,
    /// which is valid until the next read. `None` until the whole message has arrived.
    ///
    /// # Errors
    /// As [`Inbox::peek`].
    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<(u8, Range<usize>)>, PgError> {
        let Some((tag, range)) = self.peek()? else { return Ok(None) };
        self.at = range.end;
        Ok(Some((tag, range.start + HEADER_BYTES..range.end)))
    }

    /// The bytes of a range of the buffer, such as one that `take` has returned since the last
    /// read.
    #[inline]
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        let Some(bytes) = self.buf.get(range.clone()) else {
            unreachable!("bytes {range:?} were taken from a buffer of {}", self.buf.len());
        };
        bytes
    }

    /// Takes the first whole message. Returns its tag and a copy of all its bytes, for a parser
    /// that owns them. `None` until the whole message has arrived.
    ///
    /// # Errors
    /// As [`Inbox::peek`].
    pub(super) fn split(&mut self) -> Result<Option<(u8, BytesMut)>, PgError> {
        let Some((tag, range)) = self.peek()? else { return Ok(None) };
        let message = BytesMut::from(self.bytes(range.clone()));
        self.at = range.end;
        Ok(Some((tag, message)))
    }

    /// All bytes that have arrived and are not taken.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.unread().to_vec()
    }

    #[inline]
    fn unread(&self) -> &[u8] {
        let Some(unread) = self.buf.get(self.at..) else {
            unreachable!("messages were taken beyond the bytes that arrived")
        };
        unread
    }

    /// Reads once from the socket. If the poll is ready, the bytes that arrived are in the buffer.
    /// If the poll is pending, no byte was read.
    ///
    /// A result of 0 means that the server has closed its side.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<std::io::Result<usize>> {
        self.poll_partial(cx, socket, usize::MAX)
    }

    /// Like [`Inbox::poll_fill`], but reads no more than `bytes_max`.
    pub(super) fn poll_partial<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
        bytes_max: usize,
    ) -> Poll<std::io::Result<usize>> {
        self.make_room();
        pin!(socket.read_buf(&mut (&mut self.buf).limit(bytes_max))).poll(cx)
    }

    /// Drops the bytes that were taken, and makes room for at least one byte.
    fn make_room(&mut self) {
        if self.at > 0 {
            let unread = self.at..self.buf.len();
            let length = unread.len();
            self.buf.copy_within(unread, 0);
            self.buf.truncate(length);
            self.at = 0;
        }
        let (length, room) = (self.buf.len(), self.buf.capacity());
        if room > ROOM_BYTES {
            self.calm_reads =
                if self.wanted.max(length) <= ROOM_BYTES { self.calm_reads + 1 } else { 0 };
            if self.calm_reads > CALM_READS {
                let grown = std::mem::replace(&mut self.buf, BytesMut::with_capacity(ROOM_BYTES));
                self.buf.extend_from_slice(&grown);
                self.calm_reads = 0;
            }
        } else if room < ROOM_BYTES {
            self.buf.reserve(ROOM_BYTES - length);
        }
        if self.buf.len() == self.buf.capacity() {
            // The buffer grows to twice the present bytes, or by the bytes that the message still
            // lacks if these are fewer. So a sender with a false length has to send bytes before
            // memory is used.
            let lacks = self.wanted.saturating_sub(length).max(HEADER_BYTES);
            self.buf.reserve(lacks.min(length.max(ROOM_BYTES)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    /// Feeds `bytes` to the inbox in reads of at most `piece` bytes, and takes each message as soon
    /// as it is whole. Returns the tags and bodies of all messages.
    fn read_all(
        inbox: &mut Inbox,
        mut bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<(u8, Vec<u8>)>, PgError> {
        let mut messages = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !bytes.is_empty() {
            let (mut now, later) = bytes.split_at(piece.min(bytes.len()));
            bytes = later;
            while !now.is_empty() {
                assert!(matches!(inbox.poll_fill(&mut cx, &mut now), Poll::Ready(Ok(1..))));
                while let Some((tag, range)) = inbox.take()? {
                    messages.push((tag, inbox.bytes(range).to_vec()));
                }
            }
        }
        Ok(messages)
    }

    proptest! {
        /// Goal: where reads end does not change which messages are read. Method: messages are fed
        /// in pieces of a random size, and must come out as they were sent.
        #[test]
        fn messages_are_the_same_for_every_split(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
            piece in 1usize..64,
        ) {
            let sent: Vec<(u8, Vec<u8>)> = (0u8..).zip(bodies).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            prop_assert_eq!(read_all(&mut Inbox::new(1000), &bytes, piece).unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..64) {
            let _ = read_all(&mut Inbox::new(1000), &bytes, piece);
        }
    }

    #[test]
    fn shows_whole_messages_ahead_and_takes_none() {
        let mut inbox = Inbox::new(1000);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let bytes = [message(b'd', b"one"), message(b'N', b""), message(b'd', b"three")].concat();
        let mut cut = bytes.get(..bytes.len() - 1).unwrap();
        assert!(matches!(inbox.poll_fill(&mut cx, &mut cut), Poll::Ready(Ok(1..))));
        for _ in 0..2 {
            let ahead: Vec<_> = inbox.ahead().collect();
            assert_eq!(ahead, [(b'd', &b"one"[..]), (b'N', b"")]);
        }
        inbox.take().unwrap();
        assert_eq!(inbox.ahead().collect::<Vec<_>>(), [(b'N', &b""[..])]);
        assert!(matches!(inbox.poll_fill(&mut cx, &mut &b"e"[..]), Poll::Ready(Ok(1))));
        assert_eq!(inbox.ahead().last(), Some((b'd', &b"three"[..])));
        let mut lies = Inbox::new(1000);
        assert!(matches!(lies.poll_fill(&mut cx, &mut &[b'd', 0, 0, 0, 3][..]), Poll::Ready(_)));
        assert_eq!(lies.ahead().count(), 0);
    }

    #[test]
    fn refuses_a_length_above_the_limit_before_making_room_for_it() {
        let mut inbox = Inbox::new(1000);
        let error = read_all(&mut inbox, &[b'd', 0x7f, 0xff, 0xff, 0xff], 5).unwrap_err();
        assert!(matches!(error, PgError::FrameTooLong { bytes: 0x8000_0000, bytes_max: 1000 }));
        assert!(inbox.buf.capacity() <= ROOM_BYTES);
    }

    #[test]
    fn refuses_a_length_that_does_not_count_itself() {
        assert!(read_all(&mut Inbox::new(1000), &[b'd', 0, 0, 0, 3], 5).is_err());
    }

    #[test]
    fn a_claimed_length_costs_no_room_until_its_bytes_arrive() {
        let mut inbox = Inbox::new(usize::MAX);
        read_all(&mut inbox, &[b'd', 0x7f, 0xff, 0xff, 0xff, 1, 2, 3], 8).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(inbox.poll_fill(&mut cx, &mut [0u8].as_slice()), Poll::Ready(Ok(1))));
        assert!(inbox.buf.capacity() <= 2 * ROOM_BYTES);
    }

    #[test]
    fn grows_for_a_large_message_and_gives_the_room_back() {
        let mut inbox = Inbox::new(usize::MAX);
        let large = vec![7u8; 3_000_000];
        let got = read_all(&mut inbox, &message(b'd', &large), 50_000).unwrap();
        assert_eq!(got, [(b'd', large)]);
        assert!(inbox.buf.capacity() < 8_000_000, "{}", inbox.buf.capacity());
        for _ in 0..=CALM_READS {
            read_all(&mut inbox, &message(b'd', b"small"), 50).unwrap();
        }
        assert_eq!(inbox.buf.capacity(), ROOM_BYTES);
    }
}
