//! Tests of connecting and logging in: what the server must prove, and the settings of our
//! sessions.

use super::{SOON, config, options, transaction};
use crate::support::postgres::Server;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::io::{Read as _, Write as _};
use std::time::Duration;
use wellspring::lsn::PgMicros;
use wellspring::postgres::{PgError, Replication, Sql, StandbyStatus, slot};
use wellspring::secret::{Secret, Source};

#[tokio::test]
async fn every_way_of_logging_in_works_or_says_why_not() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role scram login replication password 'sécret';
         set password_encryption = md5; create role old login replication password 'older'",
    );
    server.allow(
        "local all all trust
         host all scram 127.0.0.1/32 scram-sha-256
         host all old 127.0.0.1/32 md5
         host all clear 127.0.0.1/32 password
         host all postgres 127.0.0.1/32 trust",
    );
    let as_role = |role: &str, password: &str| {
        config(&format!(
            "postgresql://{role}:{password}@127.0.0.1:{}/postgres?sslmode=disable",
            server.port()
        ))
    };
    for role in [as_role("scram", "s%C3%A9cret"), as_role("old", "older")] {
        Replication::connect(&role).await.unwrap().identify_system().await.unwrap();
        Sql::connect(&role).await.unwrap().query("select 1").await.unwrap();
    }
    for role in [as_role("scram", "wrong"), as_role("old", "wrong"), as_role("nobody", "wrong")] {
        let error = Replication::connect(&role).await.err().unwrap();
        assert!(matches!(error, PgError::Auth { .. }), "{error:?}");
        assert!(error.sqlstate().unwrap().starts_with("28"));
        assert!(!format!("{error:?}").contains("wrong"));
    }
    let mut without = as_role("scram", "x");
    without.password = None;
    assert!(matches!(Sql::connect(&without).await.err(), Some(PgError::PasswordMissing { .. })));
    let error = Sql::connect(&as_role("clear", "x")).await.err().unwrap();
    assert!(
        matches!(error, PgError::AuthUnsupported { .. }),
        "no clear password in the clear: {error:?}"
    );

    // The password's file is read at each connect, so a rotated password counts at the next one.
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut rotated = as_role("scram", "x");
    rotated.password = Some(Source::File(file.path().to_owned()));
    std::fs::write(file.path(), "no\n").unwrap();
    assert!(matches!(Sql::connect(&rotated).await.err(), Some(PgError::Auth { .. })));
    std::fs::write(file.path(), "sécret\n").unwrap();
    Sql::connect(&rotated).await.unwrap();
    rotated.password = Some(Source::Inline(Secret::new("sécret")));
    Sql::connect(&rotated).await.unwrap();
}

#[tokio::test]
async fn sockets_dead_ports_and_lists_of_hosts_are_reached_or_named() {
    let server = Server::start();
    let unix = config(&server.unix_url("postgres"));
    Sql::connect(&unix).await.unwrap();
    let mut control = Replication::connect(&unix).await.unwrap();
    control.create_slot("s", SOON).await.unwrap();
    control.start(&options()).await.unwrap().finish().await;

    let error =
        Sql::connect(&config("postgresql://u@127.0.0.1:1/d?sslmode=disable")).await.err().unwrap();
    assert!(
        matches!(error, PgError::Connect { .. }) && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );
    let nowhere = config("postgresql://u@wellspring.invalid/d?sslmode=disable");
    assert!(matches!(Sql::connect(&nowhere).await.err(), Some(PgError::Resolve { .. })));
    let list = format!(
        "postgresql://postgres@127.0.0.1:1,127.0.0.1:{}/postgres?sslmode=disable",
        server.port()
    );
    let sql = Sql::connect(&config(&list)).await.unwrap();
    assert_eq!(sql.host().to_string(), format!("127.0.0.1:{}", server.port()));
    let standby_wanted =
        config(&format!("{}&target_session_attrs=standby", server.url("postgres")));
    assert!(matches!(Sql::connect(&standby_wanted).await.err(), Some(PgError::WrongRole { .. })));
    let error = Sql::connect(&config(&server.url("missing"))).await.err().unwrap();
    assert_eq!(error.sqlstate(), Some("3D000"), "{error}");
    let clear = config(&server.url("postgres").replace("sslmode=disable", "sslmode=require"));
    assert!(matches!(Sql::connect(&clear).await.err(), Some(PgError::TlsRefused { .. })));
}

#[tokio::test]
async fn settings_are_ours_whatever_role_and_database_say() {
    let server = Server::start();
    server.sql(
        "postgres",
        "create role r login replication superuser;
         alter role r set datestyle = 'German'; alter role r set timezone = 'Asia/Tokyo';
         alter role r set bytea_output = 'escape'; alter role r set intervalstyle = 'iso_8601';
         alter role r set extra_float_digits = 0; alter role r set statement_timeout = 1;
         alter role r set idle_session_timeout = 1; alter role r set row_security = on;
         alter database postgres set client_encoding = 'latin1'",
    );
    if server.major() >= 17 {
        server.sql("postgres", "alter role r set transaction_timeout = '1h'");
    }
    let url = server.url("postgres").replace("postgres@", "r@");
    let config =
        config(&format!("{url}&options=-c%20wal_sender_timeout%3D7s%20-c%20datestyle%3DSQL"));
    let mut names = vec![
        ("DateStyle", "ISO, DMY"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "3"),
        ("idle_session_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("row_security", "off"),
        ("client_encoding", "UTF8"),
    ];
    if server.major() >= 17 {
        names.push(("transaction_timeout", "0"));
    }
    let mut control = Replication::connect(&config).await.unwrap();
    let sql = Sql::connect(&config).await.unwrap();
    for (name, value) in names {
        let show = format!("select current_setting('{name}')");
        let walsender = control.query(&show).await.unwrap()[0][0].clone().unwrap();
        let ordinary = sql.query(&show).await.unwrap()[0][0].clone().unwrap();
        assert_eq!(walsender, ordinary, "{name}");
        assert!(
            walsender == value || name == "DateStyle" && walsender.starts_with("ISO"),
            "{name} = {walsender}"
        );
    }
    assert_eq!(control.wal_sender_timeout().await.unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(control.query("show statement_timeout").await.unwrap(), [[Some("0".to_owned())]]);
    assert_eq!(sql.query("show statement_timeout").await.unwrap(), [[Some("30s".to_owned())]]);
}

/// A certificate authority, and a certificate for the host `localhost` that it has signed.
pub(crate) struct Certificates {
    authority_key: PKey<Private>,
    pub(crate) authority: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let (authority_key, key) = (rsa(), rsa());
        let authority = issue(&authority_key, "authority", &authority_key, &|builder| {
            builder
                .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                .unwrap();
        });
        let certificate = issue(&authority_key, "localhost", &key, &|builder| {
            let names = SubjectAlternativeName::new()
                .dns("localhost")
                .build(&builder.x509v3_context(None, None))
                .unwrap();
            builder.append_extension(names).unwrap();
        });
        Certificates {
            authority_key,
            authority,
            certificate,
            key: key.private_key_to_pem_pkcs8().unwrap(),
        }
    }

    /// A certificate for a role, signed by this authority.
    pub(crate) fn of_role(&self, role: &str, key: &PKey<Private>) -> Vec<u8> {
        issue(&self.authority_key, role, key, &|_| {})
    }
}

fn issue(
    authority_key: &PKey<Private>,
    subject: &str,
    key: &PKey<Private>,
    extensions: &dyn Fn(&mut X509Builder),
) -> Vec<u8> {
    let name = |text: &str| {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", text).unwrap();
        name.build()
    };
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_issuer_name(&name("authority")).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    extensions(&mut builder);
    builder.sign(authority_key, MessageDigest::sha384()).unwrap();
    builder.build().to_pem().unwrap()
}

pub(crate) fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

#[tokio::test]
async fn tls_proves_what_sslmode_asks_and_binds_the_password_exchange() {
    let server = Server::start();
    let (ours, strangers) = (Certificates::new(), Certificates::new());
    server.write_private("server.crt", &ours.certificate);
    server.write_private("server.key", &ours.key);
    server.sql(
        "postgres",
        "alter system set ssl = on; select pg_reload_conf(); create role scram login replication password 'secret'",
    );
    server.allow(
        "local all all trust
         hostssl all scram 127.0.0.1/32 scram-sha-256
         hostssl all postgres 127.0.0.1/32 password",
    );
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, stranger) =
        (file("ca.pem", &ours.authority), file("stranger.pem", &strangers.authority));
    let entering = async |host: &str, parameters: &str| {
        let url =
            format!("postgresql://scram:secret@{host}:{}/postgres?{parameters}", server.port());
        let sql = Sql::connect(&config(&url)).await;
        let control = Replication::connect(&config(&url)).await;
        assert_eq!(sql.is_ok(), control.is_ok(), "one rule for both connections: {parameters}");
        sql
    };

    for (host, parameters) in [
        ("localhost", format!("sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&channel_binding=require&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", "sslmode=require&channel_binding=require".to_owned()),
        ("127.0.0.1", "sslmode=require&channel_binding=disable".to_owned()),
    ] {
        let sql = entering(host, &parameters)
            .await
            .unwrap_or_else(|error| panic!("{host} {parameters}: {error:?}"));
        let version = sql
            .query("select version from pg_stat_ssl where pid = pg_backend_pid()")
            .await
            .unwrap();
        assert!(version[0][0].as_deref().is_some_and(|v| v.starts_with("TLSv1.")), "{version:?}");
    }
    for (host, parameters, told) in [
        ("127.0.0.1", format!("sslrootcert={ca}"), "IP address mismatch"),
        ("localhost", String::new(), "local issuer certificate"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={stranger}"), "certificate"),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={stranger}"), "certificate"),
    ] {
        let error = entering(host, &parameters).await.err().unwrap();
        let text = format!("{error:?}");
        assert!(text.contains("Tls {") && text.contains(told), "{host} {parameters}: {text}");
    }
    let error = entering("localhost", "sslrootcert=/nowhere/ca.pem").await.err().unwrap();
    assert!(
        matches!(&error, PgError::TlsSetup { what, .. } if what.contains("/nowhere/ca.pem")),
        "{error:?}"
    );
    assert_eq!(
        entering("127.0.0.1", "sslmode=disable").await.err().unwrap().sqlstate(),
        Some("28000")
    );

    // A stream under TLS has rows that are larger than any record of TLS.
    server.sql("postgres", "create table t (x text); create publication p for table t");
    let url =
        format!("postgresql://scram:secret@localhost:{}/postgres?sslrootcert={ca}", server.port());
    let mut control = Replication::connect(&config(&url)).await.unwrap();
    control.create_slot("s", SOON).await.unwrap();
    server.sql(
        "postgres",
        "insert into t select repeat(md5(n::text), 30000) from generate_series(1, 5) n",
    );
    let mut stream = control.start(&options()).await.unwrap();
    let (rows, end) = transaction(&mut stream).await;
    assert_eq!(rows[1..].iter().map(|row| row.len()).collect::<Vec<_>>(), [960_007; 5]);
    stream.queue_status(
        StandbyStatus { write: end, flush: end, apply: end, reply: false },
        PgMicros(0),
    );
    stream.finish().await;
    assert_eq!(
        slot::read(&Sql::connect(&config(&server.unix_url("postgres"))).await.unwrap(), "s")
            .await
            .unwrap()
            .unwrap()
            .confirmed_flush_lsn,
        Some(end)
    );
}

/// A false server, which accepts one connection, reads `expects` bytes, sends `answer` and closes
/// its side. The thread returns all bytes that it has received.
fn impostor(expects: usize, answer: Vec<u8>) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut sent = vec![0; expects];
        socket.read_exact(&mut sent).unwrap();
        // The client may have closed the connection already. Only the bytes that it sent matter.
        let _ = socket.write_all(&answer).and_then(|()| socket.shutdown(std::net::Shutdown::Write));
        let _ = socket.read_to_end(&mut sent);
        sent
    });
    (port, thread)
}

#[tokio::test]
async fn a_server_without_tls_learns_nothing_of_us() {
    for answer in [
        b"N".to_vec(),
        b"E\0\0\0\x10SFATAL\0C53300\0\0".to_vec(),
        b"S\x15\x03\x01\0\x02\x02\x28".to_vec(),
        vec![],
    ] {
        let (port, heard) = impostor(8, answer);
        let url = format!("postgresql://user:hunter2@127.0.0.1:{port}/database?sslmode=require");
        let error = Replication::connect(&config(&url)).await.err().unwrap();
        let heard = heard.join().unwrap();
        assert_eq!(heard[..8], [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], "{error:?}");
        for told in ["user", "hunter2", "database", "replication"] {
            assert!(
                !heard.windows(told.len()).any(|w| w == told.as_bytes()),
                "{told} after {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_an_error() {
    let mut answers: Vec<Vec<u8>> = vec![
        vec![],
        b"R".to_vec(),
        b"R\0\0\0\x03".to_vec(),
        b"R\x7f\xff\xff\xff\0\0\0\0".to_vec(),
        b"R\0\0\0\x08\0\0\0\x63".to_vec(), // a login that does not exist
        b"R\0\0\0\x08\0\0\0\x07".to_vec(), // GSSAPI
        b"R\0\0\0\x14\0\0\0\x0aOAUTHBEARER\0\0".to_vec(), // its length is one byte too small
        b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0".to_vec(),
        b"R\0\0\0\x08\0\0\0\x0a".to_vec(), // no list of mechanisms
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec(), // AuthenticationOk, and no server_version
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"E\0\0\0\x30SFATAL".to_vec(),
        b"E\0\0\0\x05\0".to_vec(),
        b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0".to_vec(),
    ];
    // Each answer is the server's greeting, cut off at one place or with one changed byte.
    let mut greeting =
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\0fifteen\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I".to_vec();
    greeting[13] = 4 + 15 + 8;
    for at in 0..greeting.len() {
        answers.push(greeting[..at].to_vec());
        let mut changed = greeting.clone();
        changed[at] ^= 0x41;
        answers.push(changed);
    }
    for answer in answers {
        let told = format!("{:?}", String::from_utf8_lossy(&answer));
        let (port, heard) = impostor(8, answer);
        let url = format!("postgresql://user:hunter2@127.0.0.1:{port}/database?sslmode=disable");
        let error = Sql::connect(&config(&url))
            .await
            .err()
            .unwrap_or_else(|| panic!("{told} was believed"));
        assert!(!format!("{error:?}").contains("hunter2"), "{told}");
        heard.join().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for sslmode in ["disable", "require"] {
        let url = format!("postgresql://u@127.0.0.1:{port}/d?connect_timeout=1&sslmode={sslmode}");
        let error = tokio::time::timeout(SOON, Replication::connect(&config(&url)))
            .await
            .unwrap()
            .err()
            .unwrap();
        assert!(matches!(error, PgError::ConnectTimeout { .. }), "{error:?}");
    }
}

/// A proxy that takes every setting out of the first message of each connection, as a pooler does.
/// Returns its port.
async fn forgetful_proxy(server: u16) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const KEPT: [&[u8]; 3] = [b"user", b"database", b"replication"];
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut ours, _)) = listener.accept().await {
            let mut theirs = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let length = ours.read_u32().await.unwrap();
            let mut body = vec![0; length as usize - 4];
            ours.read_exact(&mut body).await.unwrap();
            let (protocol, parameters) = body.split_at(4);
            let mut words = parameters.split(|byte| *byte == 0);
            let mut kept = protocol.to_vec();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                if KEPT.contains(&name) {
                    kept.extend([name, b"\0", value, b"\0"].concat());
                }
            }
            kept.push(0);
            theirs.write_u32(u32::try_from(kept.len() + 4).unwrap()).await.unwrap();
            theirs.write_all(&kept).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_proxy_that_drops_our_settings_changes_no_value() {
    let server = Server::start();
    let role = "alter role postgres set";
    server.sql("postgres", &format!("{role} extra_float_digits = 0; {role} datestyle = 'SQL'"));
    server.sql("postgres", &format!("{role} bytea_output = 'escape'"));
    if server.major() < 19 {
        server.sql("postgres", &format!("{role} standard_conforming_strings = off"));
    }
    server.allow("local all all trust\nhost all all 127.0.0.1/32 trust");
    let port = forgetful_proxy(server.port()).await;
    let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    let session = Sql::connect(&config(&url)).await.unwrap();
    let asked = r"select 0.1::float8 + 0.2, '\x01'::bytea, 'a\b', date '2026-11-28'";
    let rows = session.query(asked).await.unwrap();
    let told: Vec<&str> = rows[0].iter().filter_map(Option::as_deref).collect();
    assert_eq!(told, ["0.30000000000000004", r"\x01", r"a\b", "2026-11-28"]);
    let mut walsender = Replication::connect(&config(&url)).await.unwrap();
    walsender.identify_system().await.unwrap();
}
