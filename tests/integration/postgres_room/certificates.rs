//! Tests of logins by a client certificate, and of the way in which TLS begins.

use super::login::{Certificates, rsa};
use super::{SOON, config, options};
use crate::support::postgres::Server;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::symm::Cipher;
use openssl::x509::X509;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use wellspring::postgres::{Config, PgError, Replication, Sql};
use wellspring::secret::{Command, Secret, Source};

/// A server with TLS, the authority whose client certificates it accepts, and a folder for the
/// client's files.
struct Secure {
    server: Server,
    ours: Certificates,
    directory: tempfile::TempDir,
}

impl Secure {
    fn start(rules: &str) -> Self {
        let (server, ours) = (Server::start(), Certificates::new());
        server.write_private("server.crt", &ours.certificate);
        server.write_private("server.key", &ours.key);
        server.write_private("clients.crt", &ours.authority);
        server.sql(
            "postgres",
            "alter system set ssl = on; alter system set ssl_ca_file = 'clients.crt'; select pg_reload_conf();
             create role agent login replication; create role other login replication password 'secret'",
        );
        server.allow(&format!("local all all trust\n{rules}"));
        let secure = Secure { server, ours, directory: tempfile::tempdir().unwrap() };
        secure.file("ca.pem", &secure.ours.authority, 0o644);
        secure
    }

    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn config(&self, user: &str, parameters: &str) -> Config {
        let (port, files) = (self.server.port(), self.directory.path().display());
        let parameters = parameters.replace("./", &format!("{files}/"));
        config(&format!(
            "postgresql://{user}@localhost:{port}/postgres?sslrootcert={files}/ca.pem&{parameters}"
        ))
    }
}

/// Connects for SQL and for replication, which must have the same result. Returns the role and the
/// certificate's name that the server sees, or the error.
async fn enter(config: &Config) -> Result<String, PgError> {
    let sql = Sql::connect(config).await;
    let control = Replication::connect(config).await;
    assert_eq!(
        sql.is_ok(),
        control.is_ok(),
        "one rule for both connections: {:?} {:?}",
        sql.err(),
        control.err()
    );
    let who = "select current_user || ' ' || coalesce(client_dn, '-') from pg_stat_ssl where pid = pg_backend_pid()";
    let told = sql?.query(who).await.unwrap()[0][0].clone().unwrap();
    assert_eq!(control?.query(who).await.unwrap()[0][0].clone().unwrap(), told);
    Ok(told)
}

fn pem(key: &PKey<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8().unwrap()
}

#[tokio::test]
async fn a_certificate_is_the_login_of_both_connections() {
    let secure = Secure::start("hostssl all all 127.0.0.1/32 cert");
    let key = rsa();
    secure.file("agent.crt", &secure.ours.of_role("agent", &key), 0o644);
    secure.file("agent.key", &pem(&key), 0o600);
    secure.file(
        "locked.key",
        &key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"s3cret").unwrap(),
        0o600,
    );
    secure.file("agent.pk8", &key.private_key_to_pkcs8().unwrap(), 0o400);
    secure.file("open.key", &pem(&key), 0o644);
    secure.file("none.key", &secure.ours.authority, 0o600);
    secure.file("foreign.key", &pem(&rsa()), 0o600);
    secure.file("foreign.crt", &Certificates::new().of_role("agent", &key), 0o644);

    for parameters in
        ["sslkey=./agent.key", "sslkey=./locked.key&sslpassword=s3cret", "sslkey=./agent.pk8"]
    {
        let told =
            enter(&secure.config("agent", &format!("sslcert=./agent.crt&{parameters}"))).await;
        assert_eq!(
            told.unwrap_or_else(|error| panic!("{parameters}: {error:?}")),
            "agent /CN=agent"
        );
    }
    // The file of the passphrase is read at each connect.
    let mut locked = secure.config("agent", "sslcert=./agent.crt&sslkey=./locked.key");
    let error = enter(&locked).await.unwrap_err();
    assert!(
        matches!(&error, PgError::TlsKey { .. }) && format!("{error:?}").contains("no passphrase"),
        "{error:?}"
    );
    locked.tls.sslpassword = Some(Source::File(secure.file("passphrase", b"wrong\n", 0o600)));
    assert!(
        format!("{:?}", enter(&locked).await.unwrap_err())
            .contains("another one than the one given")
    );
    secure.file("passphrase", b"s3cret\n", 0o600);
    assert_eq!(enter(&locked).await.unwrap(), "agent /CN=agent");

    for (parameters, told) in [
        ("sslcert=./agent.crt&sslkey=./open.key", "group or world access"),
        ("sslcert=./agent.crt&sslkey=./nowhere.key", "nowhere.key"),
        ("sslcert=./nowhere.crt&sslkey=./agent.key", "nowhere.crt"),
        ("sslcert=./agent.crt&sslkey=./foreign.key", "not the key of sslcert"),
        ("sslcert=./agent.crt&sslkey=./none.key", "no private key"),
        ("sslcert=./foreign.crt&sslkey=./agent.key", "the server refuses the session"),
    ] {
        let text = format!("{:?}", enter(&secure.config("agent", parameters)).await.unwrap_err());
        // If the server closes the connection while we write, its error message may be lost.
        let is_reset = parameters.contains("foreign.crt") && text.contains("ConnectionReset");
        assert!(text.contains(told) && text.contains("Tls") || is_reset, "{parameters}: {text}");
    }
    // Without a certificate, or with one that names another role, the server refuses the login.
    for (user, parameters) in [("agent", ""), ("other", "sslcert=./agent.crt&sslkey=./agent.key")] {
        let error = enter(&secure.config(user, parameters)).await.unwrap_err();
        assert!(matches!(error, PgError::Auth { .. }), "{user}: {error:?}");
    }
    // A renewed certificate counts at the next connect.
    let (renewed, entering) =
        (rsa(), secure.config("other", "sslcert=./agent.crt&sslkey=./agent.key"));
    secure.file("agent.crt", &secure.ours.of_role("other", &renewed), 0o644);
    secure.file("agent.key", &pem(&renewed), 0o600);
    assert_eq!(enter(&entering).await.unwrap(), "other /CN=other");
    let mut control = Replication::connect(&entering).await.unwrap();
    control.create_slot("s", SOON).await.unwrap();
    let publication = "create publication p for all tables";
    secure.server.sql("postgres", publication);
    control.start(&options()).await.unwrap().finish().await;
}

#[tokio::test]
async fn a_direct_handshake_needs_a_server_that_expects_it() {
    let secure = Secure::start("hostssl all all 127.0.0.1/32 scram-sha-256");
    let entering = |parameters: &str| {
        let mut config = secure.config("other", parameters);
        config.password = Some(Source::Inline(Secret::new("secret")));
        config
    };
    assert_eq!(enter(&entering("sslnegotiation=postgres")).await.unwrap(), "other -");
    let direct = entering("sslnegotiation=direct&channel_binding=require");
    if secure.server.major() < 17 {
        let error = enter(&direct).await.unwrap_err();
        assert!(matches!(&error, PgError::DirectTlsRefused { .. }), "{error:?}");
        assert!(error.to_string().contains("needs Postgres 17 or later"), "{error}");
        return;
    }
    assert_eq!(enter(&direct).await.unwrap(), "other -");
    // The server's certificate is verified also if the connection begins with TLS.
    let mut stranger = direct.clone();
    stranger.tls.sslrootcert =
        Some(secure.file("stranger.pem", &Certificates::new().authority, 0o644));
    assert!(matches!(enter(&stranger).await, Err(PgError::Tls { .. })));
    secure.server.sql("postgres", "alter system set ssl = off; select pg_reload_conf()");
    let error = enter(&direct).await.unwrap_err();
    assert!(matches!(&error, PgError::DirectTlsRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_direct_handshake_is_not_taken_from_another_protocol() {
    let ours = Certificates::new();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&ours.certificate).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&ours.key).unwrap()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving =
        std::thread::spawn(move || acceptor.build().accept(listener.accept().unwrap().0).is_ok());
    let url = format!("postgresql://u@127.0.0.1:{port}/d?sslmode=require&sslnegotiation=direct");
    let error = Sql::connect(&config(&url)).await.err().unwrap();
    assert!(serving.join().unwrap(), "a handshake that works");
    let PgError::DirectTlsRefused { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("does not name the protocol"), "{error}");
}

#[tokio::test]
async fn a_command_prints_the_password_at_each_connect() {
    let server = Server::start();
    server.sql("postgres", "create role agent login replication password 'first'");
    server.allow("local all all trust\nhost all agent 127.0.0.1/32 scram-sha-256");
    let directory = tempfile::tempdir().unwrap();
    let vault = directory.path().join("vault");
    let words = ["cat", vault.to_str().unwrap()].map(str::to_owned).to_vec();
    let mut entering =
        config(&format!("postgresql://agent@127.0.0.1:{}/postgres?sslmode=disable", server.port()));
    entering.password = Some(Source::Command(Command::new(words).unwrap()));
    let failed = Sql::connect(&entering).await.err().unwrap();
    let PgError::PasswordSource { source, .. } = &failed else { panic!("{failed:?}") };
    assert_eq!(
        source.to_string(),
        "the command `cat` ended with exit status: 1; run it by hand to see what it says"
    );
    std::fs::write(&vault, "first\n").unwrap();
    Sql::connect(&entering).await.unwrap();
    server.sql("postgres", "alter role agent password 'second'");
    assert!(matches!(Replication::connect(&entering).await.err(), Some(PgError::Auth { .. })));
    std::fs::write(&vault, r#"{"accessToken": "second", "expires_on": 1}"#).unwrap();
    Sql::connect(&entering).await.unwrap();
    Replication::connect(&entering).await.unwrap();
}
