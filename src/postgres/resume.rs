//! Hands an open session to `tokio_postgres`.
//!
//! That library always sends a startup message and logs in before anything else. So its startup
//! message is discarded here, and the server's greeting is played back to the library. In this way
//! replication and SQL connections share one way of connecting, with one set of TLS, password and
//! error rules.

use crate::postgres::session::Session;
use crate::postgres::socket::Socket;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The byte stream of a session as `tokio_postgres` reads it: first the server's greeting, which
/// `session` has already read once, and then the bytes of the socket.
pub(super) struct Resumed {
    socket: Socket,
    /// The bytes that `tokio_postgres` reads before those of the socket: messages of the greeting,
    /// and whatever `session` has read after them.
    greeting: Vec<u8>,
    /// How many bytes of the greeting `tokio_postgres` has read; 1 after the last byte. While this
    /// is 0, `tokio_postgres` writes its startup message, which is discarded.
    read: usize,
}

impl Resumed {
    pub(super) fn new(session: Session) -> Self {
        let mut greeting = Vec::new();
        put(&mut greeting, b'R', &0i32.to_be_bytes()); // AuthenticationOk
        for (name, value) in &session.parameters {
            put(&mut greeting, b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        let (pid, key) = (session.backend_pid.to_be_bytes(), session.secret_key.to_be_bytes());
        put(&mut greeting, b'K', &[pid, key].concat());
        put(&mut greeting, b'Z', b"I");
        greeting.extend(session.inbox.into_rest());
        Resumed { socket: session.socket, greeting, read: 0 }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    // `GREETING_BYTES_MAX` bounds the value of a parameter far below the range of the length.
    let Ok(length) = u32::try_from(body.len() + 4) else {
        unreachable!("a parameter of {} bytes", body.len())
    };
    out.push(tag);
    out.extend(length.to_be_bytes());
    out.extend(body);
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.greeting.get(this.read..).unwrap_or(&[]); // empty after the last byte
        if rest.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        let Some(part) = rest.get(..count) else { unreachable!("{count} is bounded by the rest") };
        buf.put_slice(part);
        this.read += count;
        if this.read == this.greeting.len() {
            this.greeting = Vec::new();
            this.read = 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.read == 0 {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
