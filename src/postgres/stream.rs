//! The stream of changes: frames in, status updates out.
//!
//! This file knows nothing of pgoutput and decides nothing about positions: the content of a status
//! update is an argument. One task owns the stream, and decides when it reads.
//!
//! Laws, tested below:
//! - Frames do not depend on where single reads end, and taking a frame allocates nothing.
//! - A status update is sent whole or not at all, in order, and a newer update takes the place of
//!   an update that is not yet begun.

use crate::lsn::{Lsn, PgMicros};
use crate::postgres::error::{PgError, ServerError};
use crate::postgres::inbox::Inbox;
use crate::postgres::outbox::{Outbox, StandbyStatus};
use crate::postgres::socket::Socket;
use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// How long [`Stream::finish`] waits for the server to let go of the slot. A walsender in the
/// middle of a large transaction notices our goodbye after the message that it is sending. If that
/// takes longer than this limit, we close the socket, and the walsender ends when it notices the
/// closed socket.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// The most bytes that [`Stream::flush_unread`] reads before it sends a status update. If Linux has
/// taken a TCP window back (`socket::UNSCALED_BYTES`), it keeps the window shut until a sixteenth
/// of the receive buffer is free. `PARTIAL_BYTES` is more than this sixteenth. Linux then accepts
/// the server's TCP acknowledgement of the update, and the next update need not wait.
const PARTIAL_BYTES: usize = 32 * 1024;

/// With this many bytes in the inbox that are not taken, [`Stream::flush_unread`] reads nothing
/// more. With fewer, it reads up to `PARTIAL_BYTES` with each status update. With a
/// `wal_sender_timeout` of 60 s, the bound is thus reached after about ten minutes in which only
/// `flush_unread` reads. From then on the connection is lost if Linux takes the TCP window back, as
/// it does for about one stream in twenty.
const UNREAD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The most notices that wait for [`Stream::take_notices`]. The first notices name the cause. A
/// server repeats its notices while the cause lasts.
const NOTICES_MAX: usize = 8;

const CALL: &str = "read the replication stream";

/// A streaming replication connection.
pub struct Stream {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
    backend_pid: i32,
    notices: Vec<ServerError>,
}

/// One frame of the stream, which borrows from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frame<'a> {
    /// One message of pgoutput, with a header of the walsender.
    XLogData {
        /// Begin of the change's WAL record, as the walsender reports it; 0 for some messages. The
        /// agent must not take it for the progress of the stream.
        start: Lsn,
        /// The walsender of a logical slot sends the same value as in `start`.
        end: Lsn,
        /// The time of the server's clock when the server sent the frame.
        sent_at: PgMicros,
        /// One pgoutput message, as `pgoutput::decode` takes it.
        payload: &'a [u8],
    },
    /// A keepalive message of the walsender.
    Keepalive {
        /// The changes of every commit before this position have been sent.
        end: Lsn,
        /// The time of the server's clock when the server sent the frame.
        sent_at: PgMicros,
        /// True if the server asks for a status update now.
        reply: bool,
    },
    /// The walsender says goodbye: the server is shutting down. Nothing follows.
    Goodbye,
}

impl Stream {
    pub(super) fn new(
        socket: Socket,
        mut inbox: Inbox,
        backend_pid: i32,
        frame_bytes_max: usize,
    ) -> Self {
        inbox.set_bytes_max(frame_bytes_max);
        Stream { socket, inbox, outbox: Outbox::default(), backend_pid, notices: Vec::new() }
    }

    /// The walsender's process id.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Waits until bytes have arrived, reads them and returns their number, which is never 0. Call
    /// `fill` when [`Stream::next_frame`] has no more frames.
    ///
    /// Cancel-safe: a dropped future has either put its bytes into the buffer or read none. While
    /// `fill` waits, it also sends the queued status update.
    ///
    /// # Errors
    /// `Closed` at the end of the stream, `Io`.
    pub async fn fill(&mut self) -> Result<usize, PgError> {
        let Stream { socket, inbox, outbox, .. } = self;
        let read = poll_fn(|cx| {
            if outbox.has_unsent()
                && let Poll::Ready(Err(error)) = outbox.poll_send(cx, socket)
            {
                return Poll::Ready(Err(error));
            }
            let mut bytes = ready!(inbox.poll_fill(cx, socket))?;
            // OpenSSL returns one record of at most 16 KiB for each read. Further records that have
            // arrived are read as well, because the agent pauses after a short read, and otherwise
            // every read under TLS would be short. An end or a failure of the stream is ignored
            // here, because the next read meets it again.
            while bytes > 0 && socket.reads_records() && inbox.has_room() {
                match inbox.poll_fill(cx, socket) {
                    Poll::Ready(Ok(more)) if more > 0 => bytes += more,
                    _ => break,
                }
            }
            Poll::Ready(Ok(bytes))
        });
        match read.await {
            Ok(0) => Err(PgError::Closed { call: CALL }),
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(PgError::Io { call: CALL, source }),
        }
    }

    /// Takes the next whole frame from the bytes that were read. `None` if they have no whole
    /// frame, so that [`Stream::fill`] has to read more.
    ///
    /// # Errors
    /// `Server` when the server ends the stream with an error, `FrameTooLong`, `Protocol`. After an
    /// error the stream is of no more use.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, PgError> {
        let body = loop {
            let Some((tag, body)) = self.inbox.take()? else { return Ok(None) };
            match tag {
                b'd' => break body,
                b'c' | b'C' => return Ok(Some(Frame::Goodbye)),
                b'N' => self.notice(body),
                b'S' => {} // a changed setting: nothing to act on
                other => return Err(self.unwanted(other, body)),
            }
        };
        frame_of(self.inbox.bytes(body)).map(Some)
    }

    /// The messages of pgoutput whose frames were read from the socket and that
    /// [`Stream::next_frame`] has not yet returned, in their order. The bytes of the messages are
    /// not decoded.
    pub fn payloads_ahead(&self) -> impl Iterator<Item = &[u8]> {
        self.inbox.ahead().filter(|(tag, _)| *tag == b'd').filter_map(|(_, body)| {
            match frame_of(body) {
                Ok(Frame::XLogData { payload, .. }) => Some(payload),
                _ => None,
            }
        })
    }

    /// Number of bytes that were read and are not yet taken as frames.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.inbox.buffered_bytes()
    }

    /// Queues a status update, in place of one that waits in the queue. `now` is our clock, which
    /// the server shows in `pg_stat_replication.reply_time`.
    pub fn queue_status(&mut self, status: StandbyStatus, now: PgMicros) {
        self.outbox.queue(status, now);
    }

    /// Whether some bytes of a status update have not yet been handed to the operating system.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.outbox.has_unsent()
    }

    /// Sends the queued status update. Cancel-safe: an update that was begun is continued by the
    /// next `flush` or `fill`.
    ///
    /// # Errors
    /// `Io`.
    pub async fn flush(&mut self) -> Result<(), PgError> {
        let Stream { socket, outbox, .. } = self;
        poll_fn(|cx| outbox.poll_send(cx, socket))
            .await
            .map_err(|source| PgError::Io { call: "send a status update", source })
    }

    /// Sends the queued status update while back-pressure stops the reading of changes. First it
    /// reads up to `PARTIAL_BYTES` of the bytes that have arrived, because otherwise Linux might
    /// refuse the server's TCP acknowledgement. Returns the number of bytes that were read. This is
    /// 0 also at the end of the stream, which `fill` reports. Cancel-safe as `flush`.
    ///
    /// # Errors
    /// `Io`.
    pub async fn flush_unread(&mut self) -> Result<usize, PgError> {
        let Stream { socket, inbox, .. } = self;
        let read = poll_fn(|cx| {
            let mut read = 0;
            while read < PARTIAL_BYTES && inbox.buffered_bytes() < UNREAD_BYTES_MAX {
                match inbox.poll_partial(cx, socket, PARTIAL_BYTES - read) {
                    Poll::Ready(Ok(bytes)) if bytes > 0 => read += bytes,
                    Poll::Ready(Err(source)) => {
                        return Poll::Ready(Err(PgError::Io { call: CALL, source }));
                    }
                    _ => break,
                }
            }
            Poll::Ready(Ok(read))
        });
        let read = read.await?;
        self.flush().await?;
        Ok(read)
    }

    /// Waits until the server has closed its side of the connection, and returns the error for
    /// that. Cancel-safe, because it reads no bytes.
    pub async fn hung_up(&self) -> PgError {
        match self.socket.hung_up().await {
            Ok(()) => PgError::Closed { call: CALL },
            Err(source) => PgError::Io { call: CALL, source },
        }
    }

    /// Sends the queued status update and a goodbye, and waits until the server has let go of the
    /// slot, for at most 2 s. Bytes that still arrive are discarded. No failure is reported: if the
    /// server still holds the slot, it refuses the next START_REPLICATION.
    pub async fn finish(mut self) {
        // A failure needs no handling, because the connection ends either way.
        let _ = tokio::time::timeout(FINISH_LIMIT, self.say_goodbye()).await;
    }

    async fn say_goodbye(&mut self) -> Result<(), PgError> {
        self.flush().await?;
        let mut goodbye = BytesMut::with_capacity(10);
        postgres_protocol::message::frontend::copy_done(&mut goodbye);
        postgres_protocol::message::frontend::terminate(&mut goodbye);
        let io = |source| PgError::Io { call: "end the replication stream", source };
        self.socket.write_all(&goodbye).await.map_err(io)?;
        self.socket.flush().await.map_err(io)?;
        loop {
            self.fill().await?;
            while self.inbox.take()?.is_some() {}
        }
    }

    /// Removes and returns the server's notices that arrived since the last call, at most the first
    /// eight. The server sends a notice if it goes on although something is wrong: from 17 on while
    /// it waits for a standby of `synchronized_standby_slots`, from 18 on while the publication
    /// does not exist.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.notices)
    }

    #[cold]
    fn notice(&mut self, body: Range<usize>) {
        let parsed = whole(b'N', self.inbox.bytes(body));
        if let Some(Message::NoticeResponse(notice)) = parsed
            && self.notices.len() < NOTICES_MAX
        {
            self.notices.push(ServerError::of_notice(&notice));
        }
    }

    /// The error for an ErrorResponse of the server (`Server`), or for a message that has no place
    /// in a stream (`Protocol`).
    #[cold]
    fn unwanted(&self, tag: u8, body: Range<usize>) -> PgError {
        let body = self.inbox.bytes(body);
        if tag == b'E'
            && let Some(Message::ErrorResponse(error)) = whole(tag, body)
        {
            let source = Box::new(ServerError::of_wire(&error));
            let object = "the slot".to_owned();
            return PgError::Server { call: PgError::STREAM, object, source };
        }
        PgError::Protocol {
            call: CALL,
            what: format!("tag {tag:#04x} with {} bytes has no place in it", body.len()),
        }
    }
}

/// Joins a tag and a body to a message, and parses it. `None` if they are not a message of the
/// protocol.
#[cold]
fn whole(tag: u8, body: &[u8]) -> Option<Message> {
    let Ok(length) = u32::try_from(body.len() + 4) else {
        unreachable!("a message of {} bytes", body.len())
    };
    let length = length.to_be_bytes();
    let mut message = BytesMut::from([&[tag], length.as_slice(), body].concat().as_slice());
    Message::parse(&mut message).ok().flatten()
}

/// Reads the body of one CopyData message as a frame: XLogData or a keepalive.
#[inline]
fn frame_of(body: &[u8]) -> Result<Frame<'_>, PgError> {
    match body.split_first() {
        Some((b'w', rest)) => {
            if let Some((start, rest)) = rest.split_first_chunk()
                && let Some((end, rest)) = rest.split_first_chunk()
                && let Some((sent_at, payload)) = rest.split_first_chunk()
            {
                let (start, end) =
                    (Lsn::new(u64::from_be_bytes(*start)), Lsn::new(u64::from_be_bytes(*end)));
                return Ok(Frame::XLogData {
                    start,
                    end,
                    sent_at: PgMicros(i64::from_be_bytes(*sent_at)),
                    payload,
                });
            }
        }
        Some((b'k', rest)) => {
            if let Some((end, rest)) = rest.split_first_chunk()
                && let Some((sent_at, [reply])) = rest.split_first_chunk()
            {
                return Ok(Frame::Keepalive {
                    end: Lsn::new(u64::from_be_bytes(*end)),
                    sent_at: PgMicros(i64::from_be_bytes(*sent_at)),
                    reply: *reply != 0,
                });
            }
        }
        _ => {}
    }
    Err(malformed(body))
}

#[cold]
fn malformed(body: &[u8]) -> PgError {
    let kind = body.first().copied().unwrap_or(0);
    PgError::Protocol {
        call: CALL,
        what: format!("a frame of kind {kind:#04x} has {} bytes", body.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(Socket::Unix(ours), Inbox::new(1 << 20), 7, 1 << 20), theirs)
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    fn xlog(payload: &[u8]) -> Vec<u8> {
        let numbers = [1u64, 2, 3].map(u64::to_be_bytes).concat();
        message(b'd', &[b"w".as_slice(), &numbers, payload].concat())
    }

    fn keepalive(reply: u8) -> Vec<u8> {
        let numbers = [9u64, 3].map(u64::to_be_bytes).concat();
        message(b'd', &[b"k".as_slice(), &numbers, &[reply]].concat())
    }

    async fn frames(
        stream: &mut Stream,
        theirs: &mut UnixStream,
        pieces: &[&[u8]],
    ) -> Result<Vec<String>, PgError> {
        let mut seen = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            theirs.write_all(piece).await.unwrap();
            stream.fill().await?;
            while let Some(frame) = stream.next_frame()? {
                seen.push(format!("{frame:?}"));
            }
        }
        Ok(seen)
    }

    #[test]
    fn a_frame_is_whole_wherever_the_read_ends() {
        let bytes = [
            xlog(b"one"),
            message(b'N', b"\0"),
            keepalive(1),
            xlog(b""),
            message(b'C', b"COPY 0\0"),
        ]
        .concat();
        runtime().block_on(async {
            for at in 0..bytes.len() {
                let (mut stream, mut theirs) = pair();
                let (first, rest) = bytes.split_at(at);
                let seen = frames(&mut stream, &mut theirs, &[first, rest]).await.unwrap();
                assert_eq!(seen.len(), 4, "split at {at}");
                assert!(seen[0].contains("payload: [111, 110, 101]"), "{}", seen[0]);
                assert!(seen[1].contains("reply: true"), "{}", seen[1]);
                assert_eq!(seen[3], "Goodbye");
                assert_eq!(stream.buffered_bytes(), 0);
            }
        });
    }

    #[test]
    fn an_error_of_the_server_keeps_its_state() {
        runtime().block_on(async {
            let (mut stream, mut theirs) = pair();
            let error = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
            let failed = frames(&mut stream, &mut theirs, &[&error]).await.unwrap_err();
            assert_eq!(failed.sqlstate(), Some("57P01"));
            assert!(failed.is_shutting_down());
        });
    }

    #[test]
    fn notices_of_the_server_are_kept_up_to_a_bound() {
        runtime().block_on(async {
            let (mut stream, mut theirs) = pair();
            let notice = message(b'N', b"SWARNING\0VWARNING\0C55000\0Mskipped\0\0");
            let many = [notice.as_slice(); NOTICES_MAX + 1].concat();
            assert_eq!(frames(&mut stream, &mut theirs, &[&many]).await.unwrap().len(), 0);
            let taken = stream.take_notices();
            assert_eq!(taken.len(), NOTICES_MAX);
            assert_eq!((&*taken[0].sqlstate, &*taken[0].message), ("55000", "skipped"));
            assert_eq!(stream.take_notices(), []);
        });
    }

    #[test]
    fn the_end_of_the_socket_is_an_error() {
        runtime().block_on(async {
            let (mut stream, theirs) = pair();
            drop(theirs);
            assert!(matches!(stream.fill().await, Err(PgError::Closed { .. })));
        });
    }

    #[test]
    fn an_end_is_noticed_while_nothing_is_read() {
        runtime().block_on(async {
            let (mut stream, mut server) = pair();
            server.write_all(&keepalive(0)).await.unwrap();
            {
                let mut hung_up = std::pin::pin!(stream.hung_up());
                let waits = poll_fn(|cx| Poll::Ready(hung_up.as_mut().poll(cx).is_pending())).await;
                assert!(waits, "bytes that are not read are no end");
                drop(server);
                let ended = tokio::time::timeout(FINISH_LIMIT, hung_up).await.unwrap();
                assert!(matches!(ended, PgError::Closed { .. }), "{ended:?}");
            }
            assert!(stream.fill().await.unwrap() > 0, "what came before the end is still there");
        });
    }

    #[test]
    fn a_read_given_up_loses_nothing() {
        runtime().block_on(async {
            let (mut stream, mut theirs) = pair();
            for byte in xlog(b"abc") {
                let nothing_there = tokio::time::timeout(Duration::ZERO, stream.fill()).await;
                assert!(nothing_there.is_err());
                theirs.write_all(&[byte]).await.unwrap();
                assert_eq!(stream.fill().await.unwrap(), 1);
            }
            assert!(matches!(
                stream.next_frame().unwrap(),
                Some(Frame::XLogData { payload: b"abc", .. })
            ));
        });
    }

    #[test]
    fn reading_sends_what_is_queued() {
        runtime().block_on(async {
            let (mut stream, mut theirs) = pair();
            let status = StandbyStatus {
                write: Lsn::new(1),
                flush: Lsn::ZERO,
                apply: Lsn::ZERO,
                reply: false,
            };
            stream.queue_status(status, PgMicros(5));
            assert!(stream.has_unsent());
            assert!(tokio::time::timeout(Duration::ZERO, stream.fill()).await.is_err());
            assert!(!stream.has_unsent());
            let mut sent = [0; 39];
            theirs.read_exact(&mut sent).await.unwrap();
            assert_eq!(sent[0], b'd');
        });
    }

    #[test]
    fn partial_reads_end_at_their_bound_and_lose_nothing() {
        const FRAMES: u32 = 400;
        runtime().block_on(async {
            let (mut stream, mut theirs) = pair();
            let status = StandbyStatus {
                write: Lsn::new(1),
                flush: Lsn::ZERO,
                apply: Lsn::ZERO,
                reply: false,
            };
            let sender = tokio::spawn(async move {
                for n in 0..FRAMES {
                    theirs
                        .write_all(&xlog(&[n.to_be_bytes().as_slice(), &[0; 8192]].concat()))
                        .await
                        .unwrap();
                }
                theirs
            });
            while stream.buffered_bytes() < UNREAD_BYTES_MAX {
                stream.queue_status(status, PgMicros(5));
                assert!(stream.flush_unread().await.unwrap() <= PARTIAL_BYTES);
                tokio::task::yield_now().await;
            }
            assert!(stream.buffered_bytes() < UNREAD_BYTES_MAX + PARTIAL_BYTES);
            assert_eq!(stream.flush_unread().await.unwrap(), 0);
            let mut next = 0;
            while next < FRAMES {
                while let Some(frame) = stream.next_frame().unwrap() {
                    let Frame::XLogData { payload, .. } = frame else { panic!("{frame:?}") };
                    assert_eq!(payload[..4], next.to_be_bytes());
                    next += 1;
                }
                if next < FRAMES {
                    stream.fill().await.unwrap();
                }
            }
            drop(sender.await.unwrap());
        });
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..64), kind in prop::sample::select(b"wkx".to_vec())) {
            let _ = frame_of(&body);
            let _ = frame_of(&[&[kind], body.as_slice()].concat());
        }
    }
}
