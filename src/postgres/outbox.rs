//! Holds status updates on their way to the server.
//!
//! At most two updates are held: the one that is being sent, whose bytes may not change any more,
//! and the newest one behind it.

use crate::lsn::{Lsn, PgMicros};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Size of an update: tag, length, kind, three positions, a time and a flag.
const STATUS_BYTES: usize = 1 + 4 + 1 + 3 * 8 + 8 + 1;

/// A status update: the progress that we report to the server. `ledger` and `core` decide its
/// positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    /// We have received every byte of WAL before this position.
    pub write: Lsn,
    /// The server may discard the WAL before this position. 0 leaves the slot's position as it is.
    pub flush: Lsn,
    /// We have applied every change before this position. The agent gives `flush` and `apply` the
    /// same value.
    pub apply: Lsn,
    /// True to ask for a keepalive in return.
    pub reply: bool,
}

/// The status updates of a stream that are queued or half sent.
#[derive(Default)]
pub(super) struct Outbox {
    /// The update that is being sent, with the number of its bytes that are sent. It may no longer
    /// change, because under TLS the socket may have taken bytes without reporting that.
    begun: Option<([u8; STATUS_BYTES], usize)>,
    next: Option<[u8; STATUS_BYTES]>,
    /// True if bytes are written to the socket and the socket is not yet flushed.
    unflushed: bool,
}

impl Outbox {
    pub(super) fn queue(&mut self, status: StandbyStatus, now: PgMicros) {
        self.next = Some(encode(status, now));
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.begun.is_some() || self.next.is_some() || self.unflushed
    }

    /// Sends all updates that are held. If the poll is pending, the next call sends the rest.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.begun.is_none() {
                self.begun = self.next.take().map(|bytes| (bytes, 0));
            }
            let Some((bytes, sent)) = &mut self.begun else { break };
            let Some(rest) = bytes.get(*sent..) else {
                unreachable!("{sent} of {} bytes are sent", bytes.len())
            };
            match ready!(Pin::new(&mut *socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
            if *sent >= STATUS_BYTES {
                self.begun = None;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn encode(status: StandbyStatus, now: PgMicros) -> [u8; STATUS_BYTES] {
    let mut bytes = [0; STATUS_BYTES];
    let parts: [&[u8]; 8] = [
        b"d",
        &38u32.to_be_bytes(), // all but the tag
        b"r",
        &status.write.bytes().to_be_bytes(),
        &status.flush.bytes().to_be_bytes(),
        &status.apply.bytes().to_be_bytes(),
        &now.0.to_be_bytes(),
        &[u8::from(status.reply)],
    ];
    for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(n: u64) -> StandbyStatus {
        StandbyStatus {
            write: Lsn::new(n),
            flush: Lsn::new(n + 1),
            apply: Lsn::new(n + 2),
            reply: n % 2 == 1,
        }
    }

    #[test]
    fn a_status_update_has_its_fields_in_the_protocols_order() {
        let bytes = encode(status(0x0102_0304_0506_0707), PgMicros(-2));
        let expected = [
            b"d\0\0\0\x26r".as_slice(),
            &[1, 2, 3, 4, 5, 6, 7, 7],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[1, 2, 3, 4, 5, 6, 7, 9],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe],
            &[1],
        ]
        .concat();
        assert_eq!(bytes.as_slice(), expected);
    }

    /// A socket that accepts a given number of bytes at each call. 0 means that it is not ready.
    struct Narrow {
        takes: Vec<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.takes.pop().unwrap_or(usize::MAX).min(bytes.len()) {
                0 => Poll::Pending,
                count => {
                    self.taken.extend_from_slice(&bytes[..count]);
                    Poll::Ready(Ok(count))
                }
            }
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        /// Goal: the server sees whole updates, in order, and the newest one in the end. Method: a
        /// socket that accepts any number of bytes, and updates that arrive between its calls.
        #[test]
        fn updates_are_whole_and_in_order_and_the_newest_arrives(takes in proptest::collection::vec(0usize..50, 0..40), count in 1u64..12) {
            let mut socket = Narrow { takes, taken: Vec::new() };
            let mut outbox = Outbox::default();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for n in 0..count {
                outbox.queue(status(n), PgMicros(0));
                let _ = outbox.poll_send(&mut cx, &mut socket);
            }
            socket.takes.clear();
            prop_assert!(outbox.poll_send(&mut cx, &mut socket).is_ready());
            prop_assert!(!outbox.has_unsent());
            let whole = socket.taken.chunks(STATUS_BYTES).map(|chunk| {
                (0..count).find(|&n| chunk == encode(status(n), PgMicros(0)))
            });
            let seen: Vec<Option<u64>> = whole.collect();
            prop_assert!(seen.iter().all(Option::is_some), "{:?}", seen);
            prop_assert!(seen.is_sorted());
            prop_assert_eq!(seen.last(), Some(&Some(count - 1)));
        }
    }
}
