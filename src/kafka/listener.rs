//! Finds out whether a broker's listener speaks TLS or plain text.
//!
//! If the configuration names the wrong one of the two, librdkafka only sees a connection that
//! ends. librdkafka cannot say why. `wellspring check` asks here after it could not reach Kafka.

use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Longest wait for the connection, and for each answer. A broker answers a handshake at once, but
/// it may share a busy machine with this program.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bootstrap broker's listener that speaks TLS although the configuration does not, or the
/// reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `host:port` of the listener, as it is configured.
    pub broker: String,
    /// `security.protocol` of the configuration.
    pub protocol: String,
    /// True if the listener speaks TLS and the configuration does not.
    pub speaks_tls: bool,
}

/// Finds a bootstrap broker that speaks TLS although the configuration does not, or the reverse.
/// `None` if there is no such broker, or no broker can be connected to. This call blocks.
#[must_use]
pub fn mismatch(brokers: &[String], protocol: &str) -> Option<Mismatch> {
    let protocol = protocol.to_ascii_lowercase();
    let wants_tls = protocol.ends_with("ssl");
    brokers.iter().find_map(|broker| {
        let speaks_tls = speaks_tls(broker)?;
        (speaks_tls != wants_tls).then(|| Mismatch {
            broker: broker.clone(),
            protocol: protocol.clone(),
            speaks_tls,
        })
    })
}

/// Whether this listener speaks TLS. `None` if no connection can be made, or no answer comes in
/// time.
fn speaks_tls(broker: &str) -> Option<bool> {
    let address = broker.to_socket_addrs().ok()?.next()?;
    let socket = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    // No data is sent over the connection, so the broker's certificate need not be checked.
    connector.set_verify(SslVerifyMode::NONE);
    let name = broker.rsplit_once(':').map_or(broker, |(name, _)| name);
    match connector.build().connect(name.trim_matches(['[', ']']), socket) {
        Ok(_) => Some(true),
        Err(HandshakeError::Failure(failed)) => {
            // An alert is an answer in TLS, for example to a client without a certificate.
            let is_alert = failed.error().ssl_error().is_some_and(|stack| {
                stack
                    .errors()
                    .iter()
                    .any(|error| error.reason().is_some_and(|reason| reason.contains("alert")))
            });
            Some(is_alert)
        }
        // A read that times out comes as `WouldBlock`.
        Err(HandshakeError::WouldBlock(_) | HandshakeError::SetupFailure(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// A listener that ends each connection after its first bytes, as a broker without TLS ends a
    /// TLS handshake.
    fn plain() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let _ = socket.unwrap().read(&mut [0; 8]); // the client may be gone
            }
        });
        address
    }

    #[test]
    fn a_plain_listener_is_told_from_one_that_is_away() {
        let brokers = [plain()];
        assert_eq!(mismatch(&brokers, "plaintext"), None);
        let found = mismatch(&brokers, "SASL_SSL").unwrap();
        assert_eq!((found.protocol.as_str(), found.speaks_tls), ("sasl_ssl", false));
        assert_eq!(mismatch(&["127.0.0.1:1".to_owned()], "ssl"), None);
    }
}
