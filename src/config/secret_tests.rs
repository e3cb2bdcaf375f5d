//! Tests of secrets in the configuration: they are refused in plain text where that is unsafe, and
//! are never printed.

use super::tests::{check, replaced, with};
use crate::kafka::Login;
use crate::plans::SinkConfig;
use crate::secret::Source;
use expect_test::expect;

#[test]
fn refuses_credentials_in_the_clear_without_consent() {
    let registry = "url = \"http://registry:8081\"";
    let credentials = format!("{registry}\nusername = \"u\"\npassword = \"hunter2\"");
    check(
        &[(registry, &credentials)],
        &[],
        expect![
            "w.toml:9:1: registry.url: sends the registry's credentials over http in the clear; \
             use https, or consent with registry.insecure = true"
        ],
    );
    check(&[(registry, &format!("{credentials}\ninsecure = true"))], &[], expect!["no fault"]);
    check(
        &[(registry, "url = \"https://u:hunter2@registry\"")],
        &[],
        expect![
            "w.toml:9:1: registry.url: holds credentials; write them as registry.username and \
             registry.password"
        ],
    );
    let brokers = "brokers = [\"kafka:9092\"]";
    let client = "[kafka.client]\nsecurity.protocol = \"SASL_PLAINTEXT\"\nsasl.mechanism = \
                  \"PLAIN\"\n\
                  sasl.username = \"u\"\nsasl.password = \"hunter2\"";
    check(
        &[(brokers, &format!("{brokers}\n{client}"))],
        &[],
        expect![
            "w.toml:13:10: kafka.client.security.protocol: SASL over plaintext shows the \
             credentials to the network; use sasl_ssl, or consent with kafka.insecure = true"
        ],
    );
    let text = replaced(&[(brokers, &format!("{brokers}\ninsecure = true\n{client}"))]);
    let warnings = with(&text, &[]).unwrap().checked.warnings;
    let told = "kafka over SASL_PLAINTEXT: records and the password travel in the clear";
    assert!(warnings.iter().any(|warning| warning == told), "{warnings:?}");
    let unverified = "[kafka.client]\nsecurity.protocol = \
                      \"ssl\"\nssl.endpoint.identification.algorithm = \"none\"\n\
                      sasl.password = \"hunter2\"";
    check(
        &[(brokers, &format!("{brokers}\n{unverified}"))],
        &[],
        expect![[r#"
        w.toml:14:29: kafka.client.ssl.endpoint.identification.algorithm: lets any certificate pass for the broker's; connect by the name it carries, or consent with kafka.insecure = true
        w.toml:15:6: kafka.client.sasl.password: has no effect without security.protocol = "sasl_ssl""#]],
    );
}

#[test]
fn half_of_a_credential_is_a_fault() {
    let registry = "url = \"http://registry:8081\"";
    check(
        &[(registry, "url = \"https://r\"\nusername = \"u\"")],
        &[],
        expect![
            "w.toml:10:1: registry.username: has no registry.password, password_file or \
             password_command"
        ],
    );
    check(
        &[(registry, "url = \"https://r\"\npassword = \"hunter2\"")],
        &[],
        expect!["w.toml:10:1: registry.password: has no registry.username"],
    );
    check(
        &[(registry, "url = \"https://r\"\ntoken = \"hunter2\"\nusername = \"u\"")],
        &[],
        expect![
            "w.toml:10:1: registry.token: a token takes the place of username and password: give \
             one or the other"
        ],
    );
    check(
        &[(registry, "url = \"https://r\"\ntoken_file = \"/does/not/exist\"")],
        &[],
        expect![
            "w.toml:10:1: registry.token_file: file /does/not/exist: No such file or directory (os \
             error 2)"
        ],
    );
}

#[test]
fn a_secret_is_said_in_one_place_and_a_certificate_comes_with_its_key() {
    let registry = "url = \"http://registry:8081\"";
    check(
        &[(
            registry,
            "url = \"https://r\"\ntoken = \"hunter2\"\ntoken_command = [\"pass\", \"hunter2\"]",
        )],
        &[],
        expect![
            "w.toml:11:1: registry.token_command: registry.token is set as well: say it in one \
             place"
        ],
    );
    check(
        &[(registry, "url = \"https://r\"\ntoken_command = \"pass hunter2\"")],
        &[],
        expect![[
            r#"w.toml:10:1: registry.token_command: expected a list of a program and its arguments, such as ["pass", "show", "db"]"#
        ]],
    );
    check(
        &[(registry, "url = \"https://r\"\ncertificate = \"Cargo.toml\"")],
        &[],
        expect![
            "w.toml:10:1: registry.certificate: a certificate needs its key: give \
             registry.certificate and registry.key"
        ],
    );
    let url = "url = \"postgresql://wellspring@db.internal/shop\"";
    let with_password = "url = \"postgresql://wellspring:hunter2@db.internal/shop?sslkey=k\"";
    check(
        &[(
            url,
            &format!("{with_password}\npassword_command = [\"pass\"]\nsslkey = \"Cargo.toml\""),
        )],
        &[],
        expect![[r#"
            w.toml:3:1: postgres.url: one of sslcert and sslkey is given without the other; a certificate needs its key
            w.toml:4:1: postgres.password_command: the URL says a password as well: say it in one place
            w.toml:5:1: postgres.sslkey: the URL says another sslkey as well: say it in one place"#]],
    );
    check(
        &[(url, &format!("{url}\nsslmode = \"disable\"\nsslnegotiation = \"direct\""))],
        &[],
        expect![
            "w.toml:5:1: postgres.sslnegotiation: sslnegotiation=direct begins with TLS, and \
             sslmode=disable forbids it: say one of them"
        ],
    );
}

#[test]
fn a_login_to_kafka_is_one_that_librdkafka_uses() {
    let brokers = "brokers = [\"kafka:9092\"]";
    let sasl = |keys: &str, client: &str| format!("{brokers}\n{keys}\n[kafka.client]\n{client}");
    let scram = "security.protocol = \"sasl_ssl\"\nsasl.mechanism = \
        \"SCRAM-SHA-256\"\nsasl.username = \"u\"";
    check(&[(brokers, &sasl("password_command = [\"pass\"]", scram))], &[], expect!["no fault"]);
    check(
        &[(brokers, &sasl("token_command = [\"pass\"]", "security.protocol = \"sasl_ssl\""))],
        &[],
        expect!["no fault"],
    );
    check(
        &[(brokers, &sasl("token_command = [\"pass\"]", scram))],
        &[],
        expect![[
            r#"w.toml:12:1: kafka.token_command: a token is for kafka.client."sasl.mechanism" = "OAUTHBEARER", which is the default with it"#
        ]],
    );
    check(
        &[(brokers, &sasl("password_command = [\"pass\"]", "client.id = \"x\""))],
        &[],
        expect![[
            r#"w.toml:12:1: kafka.password_command: has no effect without kafka.client."security.protocol" = "sasl_ssl""#
        ]],
    );
    let oauth = "security.protocol = \"sasl_ssl\"\nsasl.mechanism = \"OAUTHBEARER\"";
    check(
        &[(brokers, &sasl("", oauth))],
        &[],
        expect![
            "w.toml:15:6: kafka.client.sasl.mechanism: OAUTHBEARER needs a token: give \
             kafka.token_command or kafka.token_file"
        ],
    );
    let oidc = "security.protocol = \"sasl_ssl\"\nsasl.oauthbearer.client.secret = \"hunter2\"";
    check(
        &[(brokers, &sasl("token_command = [\"pass\"]", oidc))],
        &[],
        expect![
            "w.toml:15:25: kafka.client.sasl.oauthbearer.client.secret: \
             `sasl.oauthbearer.client.secret` cannot be set: librdkafka asks an OIDC provider only \
             with libcurl, which this build leaves out; let kafka.token_command ask"
        ],
    );
    let twice = format!("{scram}\nsasl.password = \"hunter2\"");
    check(
        &[(brokers, &sasl("password_command = [\"pass\"]", &twice))],
        &[],
        expect![
            "w.toml:12:1: kafka.password_command: kafka.client.sasl.password is set as well: say \
             it in one place"
        ],
    );
}

#[test]
fn a_password_of_kafkas_that_is_a_file_is_read_for_each_client() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2").unwrap();
    let brokers = "brokers = [\"kafka:9092\"]";
    let client = format!(
        "{brokers}\n[kafka.client]\nsecurity.protocol = \"sasl_ssl\"\nsasl.mechanism = \
         \"PLAIN\"\nsasl.password = \"${{file:{}}}\"",
        file.path().display()
    );
    let loaded = with(&replaced(&[(brokers, &client)]), &[]).unwrap();
    let SinkConfig::Kafka(kafka) = &loaded.checked.sink else { panic!("no Kafka") };
    assert_eq!(kafka.login, Login::password(Source::File(file.path().to_owned())));
    assert!(!kafka.client.contains_key("sasl.password"));
}

/// Goal: no credential is ever printed. Method: every credential is a canary, in valid and in
/// faulty files.
#[test]
fn never_prints_a_secret() {
    const CANARY: &str = "hunter2";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CANARY).unwrap();
    let registry = "url = \"http://registry:8081\"";
    let brokers = "brokers = [\"kafka:9092\"]";
    let url = "postgresql://wellspring@db.internal/shop";
    let from_file = format!(
        "url = \"https://r\"\nusername = \"u\"\npassword = \"${{file:{}}}\"",
        file.path().display()
    );
    let files = [
        replaced(&[(url, "postgresql://u:hunter2@h/d")]),
        replaced(&[(url, "postgresql://u@h/d?password=hunter2")]),
        replaced(&[(url, "postgresql://u:hun@ter2/hunter2@h/d")]),
        replaced(&[(url, "postgresql://u:hunter2@h:hunter2/d?hunter2=hunter2")]),
        replaced(&[(url, "u:hunter2@h")]),
        replaced(&[(url, "postgresql://u:${env:SECRET}@h/d")]),
        replaced(&[(url, "postgresql://u:hunter2${env:NOPE}@h/d")]),
        replaced(&[(registry, "url = \"https://r\"\nusername = \"u\"\npassword = \"hunter2\"")]),
        replaced(&[(registry, "url = \"https://r\"\ntoken = [\"hunter2\"]")]),
        replaced(&[(registry, "url = \"hunter2\"\ntoken = \"hunter2\"")]),
        replaced(&[(registry, &from_file)]),
        replaced(&[(
            registry,
            "url = \"https://r\"\ntoken_command = [\"pass\", \"hunter2\"]\nkey_password = \
             \"hunter2\"",
        )]),
        replaced(&[(url, "postgresql://u@h/d?sslpassword=hunter2")]),
        replaced(&[(
            brokers,
            &format!(
                "{brokers}\n[kafka.client]\nsecurity.protocol=\"sasl_ssl\"\nsasl.password=\"hunter2\""
            ),
        )]),
        replaced(&[(
            brokers,
            &format!(
                "{brokers}\n[kafka.client]\nsasl.password=[\"hunter2\"]\nssl.key.pem=\"hunter2\""
            ),
        )]),
        replaced(&[("\"initial\"", "\"${env:SECRET}\"")]),
        replaced(&[(
            "mode = \"initial\"",
            "mode = \"initial\"\n[limits]\nmemory = \"${env:SECRET}\"",
        )]),
        replaced(&[("[\"kafka:9092\"]", "[\"${env:SECRET}\"]")]),
    ];
    for text in files {
        match with(&text, &[("SECRET", CANARY)]) {
            Ok(loaded) => {
                assert!(!loaded.shown.to_string().contains(CANARY), "{text}\n{}", loaded.shown);
                assert!(!format!("{loaded:?}").contains(CANARY), "{text}\n{loaded:?}");
                // This is the text that a panic hook would print.
                let panicked =
                    std::panic::catch_unwind(|| panic!("{:?}", loaded.checked.pipeline(false)))
                        .unwrap_err();
                let message = panicked.downcast_ref::<String>().unwrap();
                assert!(!message.contains(CANARY) && message.contains("Config"), "{message}");
            }
            Err(faults) => {
                assert!(!format!("{faults} {faults:?}").contains(CANARY), "{text}\n{faults}")
            }
        }
    }
}
