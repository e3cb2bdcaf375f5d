//! The byte stream under a session: TCP, Unix socket, or TLS over TCP.
//!
//! Nothing here knows Postgres's messages but the one that asks for TLS (`tls`).

use crate::postgres::config::{Config, Host, Keepalive};
use crate::postgres::error::PgError;
use crate::postgres::tls;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;

/// An open byte stream to a server.
pub(super) enum Socket {
    /// In the clear.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
    /// Encrypted; what was checked is the configuration's `sslmode`.
    Tls(Box<SslStream<TcpStream>>),
}

impl Socket {
    /// Opens a stream to one address, TLS included where `config` asks for it. No Postgres message has been sent after
    /// it but the request for TLS.
    pub(super) async fn open(config: &Config, host: &Host, address: &Address) -> Result<Self, PgError> {
        let refused = |source| PgError::Connect { host: host.clone(), source };
        match (host, address) {
            (Host::Unix { dir, port }, _) => {
                let path = dir.join(format!(".s.PGSQL.{port}"));
                Ok(Socket::Unix(UnixStream::connect(path).await.map_err(refused)?))
            }
            (Host::Tcp { name, .. }, Address::Tcp(address)) => {
                let tcp = TcpStream::connect(address).await.map_err(refused)?;
                prepare(&tcp, config.keepalive).map_err(refused)?;
                tls::negotiate(config, host, name, tcp).await
            }
            (Host::Tcp { .. }, Address::Path) => Err(refused(io::ErrorKind::AddrNotAvailable.into())),
        }
    }

    /// What binds a password exchange to this channel; none without TLS or for a certificate without a known digest.
    pub(super) fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Socket::Tls(stream) => tls::server_end_point(stream.ssl()),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }

    /// Whether a read ends at a record's end, though more has arrived.
    pub(super) fn reads_records(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Whether nobody on the way can read along: encrypted, or no way at all.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self, Socket::Tcp(_))
    }
}

/// Where a host can be reached.
pub(super) enum Address {
    /// One of a name's addresses.
    Tcp(SocketAddr),
    /// The host is a path itself.
    Path,
}

/// Every address of `host`, in the resolver's order. Never empty.
pub(super) async fn addresses(host: &Host) -> Result<Vec<Address>, PgError> {
    let Host::Tcp { name, port } = host else { return Ok(vec![Address::Path]) };
    let failed = |source| PgError::Resolve { host: host.clone(), source };
    let found: Vec<_> =
        tokio::net::lookup_host((name.as_str(), *port)).await.map_err(failed)?.map(Address::Tcp).collect();
    if found.is_empty() { Err(failed(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// No delay for the 39 bytes of a status update, and probes that find a dead peer while nothing is sent.
fn prepare(tcp: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval).with_retries(keepalive.count);
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
