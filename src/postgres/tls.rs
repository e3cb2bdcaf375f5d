//! TLS by OpenSSL. TLS is requested before anything else is sent, or begun at once. The server is
//! checked as `sslmode` says.
//!
//! The version is at least TLS 1.2. If TLS is required and the server has none, the connection ends
//! before user, database or password are sent. Our own certificate and its key (`secret`) are read
//! for each connection. A renewed certificate is therefore used from the next connect on.

use crate::postgres::config::{Config, Host, SslMode, SslNegotiation};
use crate::postgres::error::PgError;
use crate::postgres::socket::Socket;
use crate::secret;
use bytes::BytesMut;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::{
    ConnectConfiguration, SslConnector, SslMethod, SslRef, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509Ref, X509VerifyResult};
use postgres_protocol::message::frontend;
use std::pin::Pin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// The protocol name (ALPN) that a Postgres server names in a direct handshake.
const ALPN: &[u8] = b"postgresql";

/// Turns a fresh TCP connection into a stream: a plain one under `sslmode=disable`, and otherwise
/// one with TLS, whose server is checked as `sslmode` requires.
pub(super) async fn negotiate(
    config: &Config,
    host: &Host,
    name: &str,
    mut tcp: TcpStream,
) -> Result<Socket, PgError> {
    if config.tls.sslmode == SslMode::Disable {
        return Ok(Socket::Tcp(tcp));
    }
    let setup = connector(config)?;
    let is_direct = config.tls.negotiation == SslNegotiation::Direct;
    if !is_direct {
        ask(host, &mut tcp).await?;
    }
    let failed = |what: &'static str, source: Box<dyn std::error::Error + Send + Sync>| {
        PgError::Tls { host: host.clone(), what, source }
    };
    let ssl =
        setup.into_ssl(name).map_err(|e| failed("prepare the check of the host name", e.into()))?;
    let mut stream =
        SslStream::new(ssl, tcp).map_err(|e| failed("prepare the session", e.into()))?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verdict = stream.ssl().verify_result();
        // A server that does not expect a handshake takes it for a broken greeting. Such a server
        // closes the connection, or answers in the clear.
        if is_direct && verdict == X509VerifyResult::OK && !is_alert(&error) {
            let (what, source) = ("it does not answer a handshake", Some(error));
            return Err(PgError::DirectTlsRefused { host: host.clone(), what, source });
        }
        let what =
            if verdict == X509VerifyResult::OK { "handshake" } else { verdict.error_string() };
        return Err(failed(what, error.into()));
    }
    if is_direct && stream.ssl().selected_alpn_protocol() != Some(ALPN) {
        // Any other TLS server would complete the handshake, too. Only the protocol name shows a
        // Postgres server.
        let what = "it speaks TLS and does not name the protocol `postgresql`";
        return Err(PgError::DirectTlsRefused { host: host.clone(), what, source: None });
    }
    Ok(Socket::Tls(Box::new(stream)))
}

/// Asks the server for TLS by an unencrypted message, and waits for the answer. Fails with
/// `TlsRefused` if the server offers no TLS.
async fn ask(host: &Host, tcp: &mut TcpStream) -> Result<(), PgError> {
    let io = |source| PgError::Io { call: "ask for TLS", source };
    let mut request = BytesMut::with_capacity(8);
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(io)?;
    // Exactly one byte is read. Bytes that a man in the middle appends in the clear must fail as a
    // handshake, and must not be believed.
    match tcp.read_u8().await.map_err(io)? {
        b'S' => Ok(()),
        b'N' => Err(PgError::TlsRefused { host: host.clone() }),
        other => {
            let what = format!(
                "the answer begins with byte {other:#04x}, neither S nor N; is this a Postgres \
                 server?"
            );
            Err(PgError::Protocol { call: "ask for TLS", what })
        }
    }
}

/// Returns `PgError::Tls` if the first failure after the handshake is a TLS alert, and otherwise
/// the error itself. With TLS 1.3, a server checks our certificate only after the handshake, and
/// refuses it by an alert.
pub(super) fn refused_late(host: &Host, error: PgError) -> PgError {
    match error {
        PgError::Io { source, .. }
            if source.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(is_alert) =>
        {
            let what = "the server refuses the session: our certificate (sslcert) is missing, or \
                not one it takes";
            PgError::Tls { host: host.clone(), what, source: source.into() }
        }
        other => other,
    }
}

/// True if the error is a TLS alert that the server sent, which shows that the server speaks TLS.
fn is_alert(error: &openssl::ssl::Error) -> bool {
    let reasons = error
        .ssl_error()
        .into_iter()
        .flat_map(ErrorStack::errors)
        .filter_map(openssl::error::Error::reason);
    reasons.into_iter().any(|reason| reason.contains("alert"))
}

/// Sets up a connector for one connection, with our certificate and the checks of `sslmode`. As in
/// libpq, `require` with an `sslrootcert` checks the chain.
fn connector(config: &Config) -> Result<ConnectConfiguration, PgError> {
    let setup = |what: &str| {
        let what = what.to_owned();
        move |source: ErrorStack| PgError::TlsSetup { what, source }
    };
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(setup("OpenSSL's defaults"))?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(setup("OpenSSL's defaults"))?;
    if config.tls.negotiation == SslNegotiation::Direct {
        // The list of ALPN names has one entry: the length of the name, and the name.
        builder.set_alpn_protos(b"\x0apostgresql").map_err(setup("OpenSSL's defaults"))?;
    }
    if let Some(path) = &config.tls.sslrootcert {
        let name = format!("sslrootcert {}", path.display());
        // A new store has no authorities. So only the authorities in `sslrootcert` count, and not
        // those of the system.
        let store = X509StoreBuilder::new().map_err(setup(&name))?;
        builder.set_cert_store(store.build());
        builder.set_ca_file(path).map_err(setup(&name))?;
    } else if let Some(place) = secret::system_authorities() {
        let name = format!("the system's authorities in {}", place.display());
        let place = place.as_path();
        let (file, folder) = if place.is_dir() { (None, Some(place)) } else { (Some(place), None) };
        builder.load_verify_locations(file, folder).map_err(setup(&name))?;
    }
    if let Some((certificate, path)) = &config.tls.client_certificate {
        let unreadable = |source| PgError::TlsFile { path: certificate.clone(), source };
        std::fs::File::open(certificate).map_err(unreadable)?;
        let name = format!("sslcert {}", certificate.display());
        builder.set_certificate_chain_file(certificate).map_err(setup(&name))?;
        let key = secret::read_key(path, config.tls.sslpassword.as_ref());
        let key = key.map_err(|source| PgError::TlsKey { source })?;
        let name = format!("sslkey {}: it is not the key of sslcert", path.display());
        builder.set_private_key(&key).map_err(setup(&name))?;
        builder.check_private_key().map_err(setup(&name))?;
    }
    let chain = config.tls.sslmode != SslMode::Require || config.tls.sslrootcert.is_some();
    builder.set_verify(if chain { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    let mut connection = builder.build().configure().map_err(setup("OpenSSL's defaults"))?;
    connection.set_verify_hostname(config.tls.sslmode == SslMode::VerifyFull);
    Ok(connection)
}

/// `tls-server-end-point` of RFC 5929: the certificate's digest by the hash of its signature, or by
/// SHA-256 if that hash is MD5 or SHA-1. `None` if the signature has no hash of its own (Ed25519,
/// RSA-PSS); SCRAM is then not bound to the channel.
pub(super) fn server_end_point(ssl: &SslRef) -> Option<Vec<u8>> {
    end_point_of(ssl.peer_certificate().as_deref()?)
}

fn end_point_of(certificate: &X509Ref) -> Option<Vec<u8>> {
    let hash = match certificate.signature_algorithm().object().nid().signature_algorithms()?.digest
    {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        nid => MessageDigest::from_nid(nid)?,
    };
    certificate.digest(hash).ok().map(|digest| digest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::X509;

    fn signed_by(hash: MessageDigest) -> X509 {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, hash).unwrap();
        builder.build()
    }

    #[test]
    fn binds_by_the_hash_of_the_certificates_signature_but_never_a_broken_one() {
        for (signed, bound) in [
            (MessageDigest::sha1(), MessageDigest::sha256()),
            (MessageDigest::sha256(), MessageDigest::sha256()),
            (MessageDigest::sha384(), MessageDigest::sha384()),
            (MessageDigest::sha512(), MessageDigest::sha512()),
        ] {
            let certificate = signed_by(signed);
            assert_eq!(
                end_point_of(&certificate).unwrap(),
                certificate.digest(bound).unwrap().to_vec()
            );
        }
    }
}
