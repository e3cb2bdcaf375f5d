//! The byte stream under a session: TCP, Unix socket, or TLS over TCP.
//!
//! The request for TLS (`tls`) is the only message of Postgres that opening a stream sends.

use crate::postgres::config::{Config, Host, Keepalive};
use crate::postgres::error::PgError;
use crate::postgres::startup::Purpose;
use crate::postgres::tls;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_openssl::SslStream;

/// Size in bytes of a replication socket's receive buffer while it connects. Linux reserves twice
/// this size, because its own bookkeeping counts, too. 65,535 bytes is the longest TCP window that
/// needs no scale factor. The scale factor is negotiated only at the connect (RFC 7323).
///
/// Linux rounds a scaled window up at each acknowledgement. A sender of small messages, as the
/// walsender is, thus never reaches the end of the window. Its unread bytes fill the memory of the
/// receive buffer instead. Linux then takes the window back (6.14, `tcp: correct handling of
/// extreme memory squeeze`; from 6.17 far sooner, `tcp: stronger sk_rcvbuf checks`) and refuses the
/// server's acknowledgements as outside of the window. Our status updates then wait behind one
/// update, which Linux sends again ever more seldom. The walsender ends after `wal_sender_timeout`.
/// On 6.18 this was measured for every second stream with 256 KiB, and for about one stream in
/// twenty with the present size. `Stream::flush_unread` keeps the connections of these streams.
///
/// The small buffer also lets messages gather in the kernel of the walsender's machine. In the case
/// drain_small of `make bench`, the rate is 2.3 to 3.1 times that of pg_recvlogical, and 1.1 to 1.3
/// times with the kernel's own tuning.
const UNSCALED_BYTES: u32 = 65_535;

/// Size in bytes of a replication socket's receive buffer after the connect. The longest window
/// stays the same, because its scale factor is fixed. The larger buffer gives Linux room for its
/// overhead of small messages.
const UNREAD_BYTES: usize = 96 * 1024;

/// A server to which a TCP connect takes longer than this counts as far. For a far server the
/// kernel tunes the TCP window, because 64 KiB for each round trip would be too slow (13 MB/s at 5
/// ms).
const NEAR: Duration = Duration::from_millis(5);

/// The number of TCP connects that must all take longer than [`NEAR`] before a server counts as
/// far. A single slow connect may only show that our own machine is busy.
const TRIES: u32 = 3;

/// An open byte stream to a server.
pub(super) enum Socket {
    /// An unencrypted TCP stream, under `sslmode=disable`.
    Tcp(TcpStream),
    /// An unencrypted stream over a Unix socket, which does not leave the machine.
    Unix(UnixStream),
    /// A TCP stream with TLS. The server's certificate was checked as `sslmode` requires.
    Tls(Box<SslStream<TcpStream>>),
}

impl Socket {
    /// Opens a stream to one address, with TLS if `config` asks for it. No message of Postgres is
    /// sent on the stream except for the request for TLS.
    pub(super) async fn open(
        config: &Config,
        host: &Host,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Self, PgError> {
        let refused = |source| PgError::Connect { host: host.clone(), source };
        match (host, address) {
            (Host::Unix { dir, port }, _) => {
                let path = dir.join(format!(".s.PGSQL.{port}"));
                Ok(Socket::Unix(UnixStream::connect(path).await.map_err(refused)?))
            }
            (Host::Tcp { name, .. }, Address::Tcp(address)) => {
                let tcp = match purpose {
                    Purpose::Replication => connect_to_stream(*address).await,
                    Purpose::Sql | Purpose::Copy => TcpStream::connect(address).await,
                };
                let tcp = tcp.map_err(refused)?;
                prepare(&tcp, config.keepalive).map_err(refused)?;
                tls::negotiate(config, host, name, tcp).await
            }
            (Host::Tcp { .. }, Address::Path) => {
                Err(refused(io::ErrorKind::AddrNotAvailable.into()))
            }
        }
    }

    /// The digest of the server's certificate that binds a password exchange to this TLS channel.
    /// `None` without TLS, or if the signature of the server's certificate has no known hash.
    pub(super) fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Socket::Tls(stream) => tls::server_end_point(stream.ssl()),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }

    /// True for TLS, where a read returns no more than one TLS record, even if more bytes have
    /// arrived.
    pub(super) fn reads_records(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Waits until the server has closed its side of the connection, and takes no bytes. Bytes that
    /// arrived before the end can still be read.
    ///
    /// `Interest::PRIORITY` (urgent data) reports the end of the stream, too, and does not report
    /// ordinary unread bytes. Postgres sends no urgent data.
    pub(super) async fn hung_up(&self) -> io::Result<()> {
        let ready = match self {
            Socket::Tcp(stream) => stream.ready(Interest::PRIORITY).await,
            Socket::Unix(stream) => stream.ready(Interest::PRIORITY).await,
            Socket::Tls(stream) => stream.get_ref().ready(Interest::PRIORITY).await,
        }?;
        if ready.is_read_closed() { Ok(()) } else { std::future::pending().await }
    }

    /// True for TLS and for a Unix socket, where nobody can read along. It is false for any TCP
    /// stream without TLS, even to this machine.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self, Socket::Tcp(_))
    }
}

/// One address at which a host of the configuration can be reached.
pub(super) enum Address {
    /// One of the addresses to which the host's name resolves, with the port.
    Tcp(SocketAddr),
    /// The host is the path of a Unix socket and needs no further address.
    Path,
}

/// Resolves `host` into all its addresses, in the resolver's order. The result is never empty: a
/// name without an address is the error `Resolve`.
pub(super) async fn addresses(host: &Host) -> Result<Vec<Address>, PgError> {
    let Host::Tcp { name, port } = host else { return Ok(vec![Address::Path]) };
    let failed = |source| PgError::Resolve { host: host.clone(), source };
    let found: Vec<_> = tokio::net::lookup_host((name.as_str(), *port))
        .await
        .map_err(failed)?
        .map(Address::Tcp)
        .collect();
    if found.is_empty() { Err(failed(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// Opens a TCP connection for a replication stream. The connection's receive buffer is chosen so
/// that a near server receives our status updates while nobody reads from the stream (see
/// [`UNSCALED_BYTES`]).
pub(super) async fn connect_to_stream(address: SocketAddr) -> io::Result<TcpStream> {
    for _ in 0..TRIES {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_recv_buffer_size(UNSCALED_BYTES)?;
        let asked = Instant::now();
        let stream = socket.connect(address).await?;
        if address.ip().is_loopback() || asked.elapsed() <= NEAR {
            SockRef::from(&stream).set_recv_buffer_size(UNREAD_BYTES)?;
            return Ok(stream);
        }
    }
    TcpStream::connect(address).await
}

/// Turns off the delay of small writes, such as the 39 bytes of a status update, and turns on
/// probes that find a dead peer while nothing is sent.
fn prepare(tcp: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.count);
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
