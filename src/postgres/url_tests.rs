//! Tests of the meaning of URLs, and of the values that their errors must not show.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

#[track_caller]
fn check(url: &str, expect: Expect) {
    let told = match parse_url(url) {
        Ok(parts) => {
            let hosts: Vec<String> = parts.hosts.iter().map(ToString::to_string).collect();
            let password = parts.password.as_ref().map(|p| p.reveal().to_owned());
            format!("{} {:?} {:?} {:?}", hosts.join(" "), parts.user, password, parts.database)
        }
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&told);
}

#[test]
fn reads_what_libpq_reads() {
    check("postgresql://", expect![[r#" None None None"#]]);
    check("postgres://u@h", expect![[r#"h:5432 Some("u") None None"#]]);
    check("postgresql://u:p@h:6000/d", expect![[r#"h:6000 Some("u") Some("p") Some("d")"#]]);
    check(
        "postgresql://u%40x:p%2F%3A%40%25@h/d%20b",
        expect![[r#"h:5432 Some("u@x") Some("p/:@%") Some("d b")"#]],
    );
    check("postgresql://u:a?b#c:d@h/d", expect![[r#"h:5432 Some("u") Some("a?b#c:d") Some("d")"#]]);
    check("postgresql://a:1,b,[::1]:3/d", expect![[r#"a:1 b:5432 [::1]:3 None None Some("d")"#]]);
    check("postgresql://%2Frun%2Fpg:7/d", expect![[r#"/run/pg/.s.PGSQL.7 None None Some("d")"#]]);
    check(
        "postgresql:///d?host=/run/pg,::1&port=7,8&user=u&password=p",
        expect![[r#"/run/pg/.s.PGSQL.7 [::1]:8 Some("u") Some("p") Some("d")"#]],
    );
    check("postgresql://a,b/?port=9&dbname=d", expect![[r#"a:9 b:9 None None Some("d")"#]]);
}

#[test]
fn says_what_is_wrong_without_saying_the_password() {
    check("host=a dbname=b", expect!["the URL begins with neither postgresql:// nor postgres://"]);
    check(
        "postgresql://u:hunter@2@h/d",
        expect![
            "the URL has an `@` after the host part; in a password write `@` as %40, `/` as %2F, \
             `:` as %3A, `%` as %25"
        ],
    );
    check(
        "postgresql://u:hun/ter?x=2@h/d",
        expect![
            "the URL has an `@` after the host part; in a password write `@` as %40, `/` as %2F, \
             `:` as %3A, `%` as %25"
        ],
    );
    check(
        "postgresql://u:100%hunter@h/d",
        expect![
            "the password of the URL has a `%` without two hexadecimal digits, a zero byte, or \
             bytes that are not UTF-8"
        ],
    );
    check(
        "postgresql://u@h:hunter/d",
        expect!["the port of host 1 of the URL is not a number from 1 to 65535"],
    );
    check(
        "postgresql://a,b:0",
        expect!["the port of host 2 of the URL is not a number from 1 to 65535"],
    );
    check(
        "postgresql://a,,b",
        expect![
            "host 2 of the URL cannot be read (IPv6 goes in brackets, a socket's directory is \
             written %2Frun%2F...)"
        ],
    );
    check(
        "postgresql://[::1",
        expect![
            "host 1 of the URL cannot be read (IPv6 goes in brackets, a socket's directory is \
             written %2Frun%2F...)"
        ],
    );
    check(
        "postgresql://a,b?port=1,2,3",
        expect!["the URL has 3 ports for 2 hosts: give one, or one for each"],
    );
    check("postgresql://u@h?user=v", expect!["the Postgres URL says `user` twice"]);
    check(
        "postgresql://h?aplication_name=x",
        expect![
            "`aplication_name` is not a parameter of a Postgres URL (did you mean \
             `application_name`?)"
        ],
    );
    check("postgresql://h?zzz=x", expect!["`zzz` is not a parameter of a Postgres URL"]);
    check(
        "postgresql://h?gssencmode=prefer",
        expect!["`gssencmode` in the Postgres URL is not supported: GSSAPI is not spoken; use TLS"],
    );
    check(
        "postgresql://h?connect_timeout=0",
        expect!["`connect_timeout` in the Postgres URL must be seconds, 1 to 600"],
    );
}

/// The parameters of libpq 18, as `PQconndefaults` lists them without those for debugging, and
/// `ssl`, which its URLs know.
const OF_LIBPQ: &str = "service servicefile user password passfile channel_binding connect_timeout \
    dbname host hostaddr port client_encoding options application_name fallback_application_name \
    keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout sslmode \
    sslnegotiation sslcompression sslcert sslkey sslcertmode sslpassword sslrootcert sslcrl \
    sslcrldir sslsni requirepeer require_auth min_protocol_version max_protocol_version \
    ssl_min_protocol_version ssl_max_protocol_version gssencmode krbsrvname gsslib gssdelegation \
    replication target_session_attrs load_balance_hosts scram_client_key scram_server_key \
    sslkeylogfile oauth_issuer oauth_client_id oauth_client_secret oauth_scope ssl";

#[test]
fn no_parameter_of_libpq_is_called_unknown() {
    for name in OF_LIBPQ.split_whitespace() {
        let read = parse_url(&format!("postgresql:///?{name}=HUNTER"));
        assert!(!matches!(read, Err(UrlError::Unknown { .. })), "{name}: {read:?}");
        assert!(!format!("{:?}", read.err()).contains("HUNTER"), "{name}");
    }
}

#[test]
fn refuses_modes_that_an_attacker_can_turn_off() {
    for mode in ["prefer", "allow"] {
        let error = parse_url(&format!("postgresql://h?sslmode={mode}")).unwrap_err().to_string();
        assert!(error.contains("require or verify-full"), "{error}");
    }
}

#[test]
fn types_every_parameter() {
    let parts = parse_url(
        "postgresql://h?sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c&sslkey=/k&channel_binding=require\
         &target_session_attrs=primary&application_name=w%20s&connect_timeout=3&options=-c%20wal_sender_timeout%3D5s\
         &keepalives_idle=9&keepalives_interval=2&keepalives_count=4",
    )
    .unwrap();
    assert_eq!(
        parts,
        UrlParts {
            hosts: vec![Host::Tcp { name: "h".into(), port: 5432 }],
            tls: TlsParts {
                sslmode: Some(SslMode::VerifyCa),
                sslrootcert: Some("/ca.pem".into()),
                sslcert: Some("/c".into()),
                sslkey: Some("/k".into()),
                channel_binding: Some(ChannelBinding::Require),
                ..TlsParts::default()
            },
            target: Some(TargetSession::Primary),
            application_name: Some("w s".into()),
            connect_timeout: Some(Duration::from_secs(3)),
            options: Some("-c wal_sender_timeout=5s".into()),
            keepalives_idle: Some(Duration::from_secs(9)),
            keepalives_interval: Some(Duration::from_secs(2)),
            keepalives_count: Some(4),
            ..UrlParts::default()
        }
    );
}

proptest! {
    /// Goal: a password never appears in an error or a debug text, even if its special characters
    /// are not escaped.
    #[test]
    fn never_tells_a_password(before in "[a-z/@?:#&=%]{0,6}", after in "[a-z/@?:#&=%]{0,6}") {
        let url = format!("postgresql://u:{before}HUNTER{after}@h/d?sslmode=require");
        match parse_url(&url) {
            Ok(parts) => prop_assert!(!format!("{parts:?}").contains("HUNTER"), "{url}: {parts:?}"),
            Err(error) => prop_assert!(!format!("{error} {error:?}").contains("HUNTER"), "{url}: \
                {error}"),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = parse_url(&text);
        let _ = parse_url(&format!("postgresql://{text}"));
    }
}
