//! Reads `[kafka]`, `[topics]` and `[registry]`: the sink and the schema registry.

use super::reader::Reader;
use super::value::{self, ByteSize};
use crate::encode::Format;
use crate::encode::registry::{self, Auth};
use crate::kafka::{self, Login, TopicGroup, TopicRules};
use crate::plans::SinkConfig;
use crate::secret::Source;
use crate::table::names::{NameList, NameOf};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Longest prefix, in characters. A topic's name has at most 249, so room is left for two names of
/// Postgres and the dots.
const PREFIX_CHARS_MAX: usize = 120;

/// The most partitions that may be configured. A typing error beyond it could take a cluster down.
const PARTITIONS_MAX: i32 = 10_000;

/// Reads `topics.prefix`. It may have only characters that Kafka accepts, at most
/// [`PREFIX_CHARS_MAX`], and no dot in front.
pub(super) fn prefix(reader: &mut Reader<'_>) -> Option<String> {
    let prefix = reader.required(
        "topics.prefix",
        value::text,
        "prefix = \"shop\": topics are then shop.public.orders",
    )?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if prefix.chars().all(is_legal) && prefix.len() <= PREFIX_CHARS_MAX && !prefix.starts_with('.')
    {
        return Some(prefix);
    }
    let wanted = "letters a-z and A-Z, digits, `.`, `_` and `-`, not beginning with a dot";
    reader.fault(
        "topics.prefix",
        format!("a topic's name has {wanted}; at most {PREFIX_CHARS_MAX} for the prefix"),
    );
    None
}

/// Reads the keys of `[topics]` that decide how new topics are created.
pub(super) fn topics(reader: &mut Reader<'_>) -> Option<TopicRules> {
    let create = reader.or("topics.create", value::flag, "true");
    let partitions = reader.optional("topics.partitions", value::count(1, PARTITIONS_MAX));
    let replication = reader.optional("topics.replication", value::count(1, i32::from(i16::MAX)));
    let cleanup_policy =
        reader.or("topics.cleanup_policy", value::one_of(&CLEANUP_POLICIES), "delete");
    let extra = reader.map("topics.extra", |_| false);
    let groups = groups(reader);
    if extra.contains_key("cleanup.policy") {
        reader.fault("topics.extra.cleanup.policy", "set topics.cleanup_policy instead");
    }
    Some(TopicRules {
        create: create?,
        partitions: partitions.unwrap_or(-1),
        replication: replication.unwrap_or(-1),
        cleanup_policy: cleanup_policy?.to_owned(),
        extra,
        groups: groups?,
    })
}

/// Reads each section `[topics.group.NAME]`, in the order of the names. Such a section gives
/// settings of their own to the new topics that its patterns match.
fn groups(reader: &mut Reader<'_>) -> Option<Vec<TopicGroup>> {
    let names = reader.names("topics.group");
    let groups: Vec<Option<TopicGroup>> = names.iter().map(|name| group(reader, name)).collect();
    groups.into_iter().collect()
}

fn group(reader: &mut Reader<'_>, name: &str) -> Option<TopicGroup> {
    let key = |what: &str| format!("topics.group.{name}.{what}");
    let include = reader.required(
        &key("include"),
        value::texts,
        "include = [\"regex:shop\\\\.public\\\\..*\"]",
    );
    let exclude = reader.or(&key("exclude"), value::texts, "[]");
    let partitions = reader.optional(&key("partitions"), value::count(1, PARTITIONS_MAX));
    let replication = reader.optional(&key("replication"), value::count(1, i32::from(i16::MAX)));
    let cleanup_policy = reader.optional(&key("cleanup_policy"), value::one_of(&CLEANUP_POLICIES));
    let extra = reader.inner_map(&key("extra"));
    let mut list = |what: &str, list: Option<Vec<String>>| {
        let read = NameList::read(&list?, NameOf::Topic);
        read.map_err(|faults| {
            faults.iter().for_each(|bad| reader.fault(&key(what), bad.to_string()))
        })
        .ok()
    };
    let (include, exclude) = (list("include", include), list("exclude", exclude));
    Some(TopicGroup {
        include: include?,
        exclude: exclude?,
        partitions,
        replication,
        cleanup_policy: cleanup_policy.map(str::to_owned),
        extra,
    })
}

const CLEANUP_POLICIES: [(&str, &str); 3] =
    [("delete", "delete"), ("compact", "compact"), ("compact,delete", "compact,delete")];

/// Reads `sink` and the keys of the chosen sink: `[kafka]`, or the state file if records go to
/// stdout.
pub(super) fn sink(
    reader: &mut Reader<'_>,
    prefix: Option<&str>,
    topics: Option<TopicRules>,
    memory: Option<ByteSize>,
) -> Option<SinkConfig> {
    let is_stdout =
        reader.or("sink", value::one_of(&[("kafka", false), ("stdout", true)]), "kafka");
    let Some(is_stdout) = is_stdout else {
        let _ = reader.optional("state_file", value::path);
        ignore_kafka(reader);
        return None;
    };
    if is_stdout {
        let default = format!("{}.wellspring-state.json", prefix.unwrap_or(""));
        let state_file = reader.or("state_file", value::path, &default);
        ignore_kafka(reader);
        prefix?;
        return Some(SinkConfig::Stdout { state_file: state_file? });
    }
    if reader.optional("state_file", value::path).is_some() {
        reader.fault("state_file", "is for sink = \"stdout\"; with Kafka the state is in a topic");
    }
    let brokers = reader.required("kafka.brokers", value::texts, "brokers = [\"host:9092\"]");
    let brokers = brokers.filter(|brokers| are_brokers(reader, brokers));
    let insecure = reader.or("kafka.insecure", value::flag, "false");
    let mut client = reader.map("kafka.client", kafka::is_sensitive);
    let login = login(reader, &mut client);
    for (property, value) in &client {
        if let Err(fault) = kafka::check_property(property, value) {
            reader.fault(&format!("kafka.client.{property}"), fault.to_string());
        }
    }
    if insecure == Some(false) {
        refuse_insecure(reader, &client);
    }
    refuse_idle_login(reader, &client, &login);
    Some(SinkConfig::Kafka(Box::new(kafka::Config {
        brokers: brokers?,
        client,
        login,
        budget_bytes: memory?.bytes(),
        queue_records_max: kafka::QUEUE_RECORDS_MAX,
        topics: topics?,
        state_topic: format!("{}.wellspring-state", prefix?),
    })))
}

const LOGIN_KEYS: [&str; 4] =
    ["kafka.password_file", "kafka.password_command", "kafka.token_file", "kafka.token_command"];

/// Reads the login that comes from a file or a command. `kafka.client.sasl.password` counts as a
/// file if it is a reference to one and nothing else. The file is read for each new client.
fn login(reader: &mut Reader<'_>, client: &mut BTreeMap<String, String>) -> Login {
    const PROPERTY: &str = "kafka.client.sasl.password";
    let source = reader.one_secret(&LOGIN_KEYS);
    let referenced = reader.referenced_file(PROPERTY).map(Source::File);
    match (source, client.contains_key("sasl.password")) {
        (None, _) => match referenced {
            Some(file) => {
                client.remove("sasl.password");
                Login::password(file)
            }
            None => Login::Properties,
        },
        (Some(source), is_twice) => {
            let key = LOGIN_KEYS.into_iter().find(|key| reader.is_given(key)).unwrap_or(PROPERTY);
            if is_twice {
                reader.fault(key, format!("{PROPERTY} is set as well: say it in one place"));
            }
            if key.starts_with("kafka.token") {
                Login::Token(source)
            } else {
                Login::password(source)
            }
        }
    }
}

/// Refuses a password or token that librdkafka would not use, and OAUTHBEARER without a token.
fn refuse_idle_login(reader: &mut Reader<'_>, client: &BTreeMap<String, String>, login: &Login) {
    let property = |name: &str| client.get(name).map(|value| value.to_ascii_uppercase());
    let mechanism = property("sasl.mechanism").or_else(|| property("sasl.mechanisms"));
    let is_sasl =
        property("security.protocol").is_some_and(|protocol| protocol.starts_with("SASL"));
    let key = LOGIN_KEYS
        .into_iter()
        .find(|key| reader.is_given(key))
        .unwrap_or("kafka.client.sasl.password");
    let is_oauth = mechanism.as_deref() == Some("OAUTHBEARER");
    match login {
        Login::Properties if is_oauth => {
            let what = "OAUTHBEARER needs a token: give kafka.token_command or kafka.token_file";
            reader.fault("kafka.client.sasl.mechanism", what);
        }
        Login::Properties => {}
        Login::Password(..) | Login::Token(_) if !is_sasl => {
            reader.fault(
                key,
                "has no effect without kafka.client.\"security.protocol\" = \"sasl_ssl\"",
            );
        }
        Login::Token(_) if mechanism.is_some() && !is_oauth => {
            reader.fault(
                key,
                "a token is for kafka.client.\"sasl.mechanism\" = \"OAUTHBEARER\", which is the \
                 default with it",
            );
        }
        Login::Password(..) if is_oauth => {
            reader.fault(
                key,
                "OAUTHBEARER takes a token: give kafka.token_command or kafka.token_file",
            );
        }
        Login::Password(..) | Login::Token(_) => {}
    }
}

/// Reads the keys of `[kafka]` and uses none of them. With stdout the section may stay in the file,
/// so that one line switches between the two sinks.
fn ignore_kafka(reader: &mut Reader<'_>) {
    let _ = reader.optional("kafka.brokers", value::texts);
    let _ = reader.optional("kafka.insecure", value::flag);
    let _ = reader.map("kafka.client", kafka::is_sensitive);
    let _ = reader.one_secret(&LOGIN_KEYS);
}

fn are_brokers(reader: &mut Reader<'_>, brokers: &[String]) -> bool {
    let is_broker = |text: &String| {
        let port =
            text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0)
    };
    if brokers.is_empty() {
        reader.fault("kafka.brokers", "is empty; write brokers = [\"host:9092\"]");
    }
    let bad = brokers.iter().filter(|text| !is_broker(text)).count();
    if bad > 0 {
        reader.fault(
            "kafka.brokers",
            format!("expected host:port in each entry; {bad} of {} are not", brokers.len()),
        );
    }
    bad == 0 && !brokers.is_empty()
}

/// Refuses settings that send a password unencrypted or to an unverified broker, and properties of
/// SASL that have no effect.
fn refuse_insecure(reader: &mut Reader<'_>, client: &BTreeMap<String, String>) {
    let has = |property: &str, wanted: &str| {
        client.get(property).is_some_and(|v| v.eq_ignore_ascii_case(wanted))
    };
    let consent = "or consent with kafka.insecure = true";
    if has("security.protocol", "sasl_plaintext") {
        let what = format!(
            "SASL over plaintext shows the credentials to the network; use sasl_ssl, {consent}"
        );
        reader.fault("kafka.client.security.protocol", what);
    }
    let no_sasl = !client
        .get("security.protocol")
        .is_some_and(|v| v.to_ascii_lowercase().starts_with("sasl"));
    if let Some(property) =
        client.keys().find(|property| property.starts_with("sasl.")).filter(|_| no_sasl)
    {
        let what = "has no effect without security.protocol = \"sasl_ssl\"";
        reader.fault(&format!("kafka.client.{property}"), what);
    }
    if has("enable.ssl.certificate.verification", "false") {
        let what = format!("lets anybody pose as the broker; give ssl.ca.location, {consent}");
        reader.fault("kafka.client.enable.ssl.certificate.verification", what);
    }
    if has("ssl.endpoint.identification.algorithm", "none") {
        let what = format!(
            "lets any certificate pass for the broker's; connect by the name it carries, {consent}"
        );
        reader.fault("kafka.client.ssl.endpoint.identification.algorithm", what);
    }
}

/// Reads `[registry]`. The inner option is `None` if the format needs no registry. The section may
/// stay in the file then.
pub(super) fn registry(
    reader: &mut Reader<'_>,
    format: Option<Format>,
) -> Option<Option<registry::Config>> {
    let is_needed = format == Some(Format::Avro);
    if is_needed && !reader.is_given("registry.url") {
        reader.missing(
            "registry.url",
            "url = \"http://registry:8081\", or [events] format = \"json\" to do without",
        );
    }
    let urls = reader.url("registry.url", value::text_or_texts);
    let urls = urls.filter(|urls| are_registry_urls(reader, urls));
    let credentials = Credentials {
        username: reader.optional("registry.username", value::text),
        password: reader.one_secret(&[
            "registry.password",
            "registry.password_file",
            "registry.password_command",
        ]),
        token: reader.one_secret(&[
            "registry.token",
            "registry.token_file",
            "registry.token_command",
        ]),
    };
    let insecure = reader.or("registry.insecure", value::flag, "false");
    let ca_file = reader.optional("registry.ca", value::path);
    let certificate = reader.optional("registry.certificate", value::path);
    let key = reader.optional("registry.key", value::path);
    let key_password = reader.one_secret(&["registry.key_password", "registry.key_password_file"]);
    let timeout = reader.or(
        "registry.timeout",
        value::duration(Duration::from_millis(100), Duration::from_secs(300)),
        "15s",
    );
    let register = reader.or("registry.auto_register", value::flag, "true");
    note_unreadable(reader, "registry.ca", ca_file.as_ref());
    note_unreadable(reader, "registry.certificate", certificate.as_ref());
    note_unreadable(reader, "registry.key", key.as_ref());
    if certificate.is_some() != key.is_some() {
        let given = if key.is_some() { "registry.key" } else { "registry.certificate" };
        reader.fault(
            given,
            "a certificate needs its key: give registry.certificate and registry.key",
        );
    }

    let auth = credentials.auth(reader);
    let is_http = urls.iter().flatten().any(|url| url.starts_with("http://"));
    if is_http && insecure == Some(false) && auth.as_ref().is_some_and(|auth| *auth != Auth::None) {
        let what = "sends the registry's credentials over http in the clear; use https, or consent \
                    with registry.insecure = true";
        reader.fault("registry.url", what);
    }
    if format.is_some() && !is_needed {
        return Some(None);
    }
    Some(Some(registry::Config {
        urls: urls?,
        auth: auth?,
        ca_file,
        client_certificate: certificate.zip(key),
        key_password,
        timeout: timeout?,
        register: register?,
    }))
}

fn are_registry_urls(reader: &mut Reader<'_>, urls: &[String]) -> bool {
    let is_url = |url: &String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
    };
    if urls.is_empty() || !urls.iter().all(is_url) {
        reader.fault(
            "registry.url",
            "a registry's URL begins with https:// or http:// and names a host",
        );
        return false;
    }
    if urls.iter().any(|url| url.contains('@')) {
        reader.fault(
            "registry.url",
            "holds credentials; write them as registry.username and registry.password",
        );
        return false;
    }
    true
}

struct Credentials {
    username: Option<String>,
    password: Option<Source>,
    token: Option<Source>,
}

impl Credentials {
    fn auth(self, reader: &mut Reader<'_>) -> Option<Auth> {
        match (self.username, self.password, self.token) {
            (None, None, None) => Some(Auth::None),
            (Some(user), Some(password), None) => Some(Auth::Basic { user, password }),
            (None, None, Some(token)) => Some(Auth::Bearer { token }),
            (Some(_), None, None) => {
                reader.fault(
                    "registry.username",
                    "has no registry.password, password_file or password_command",
                );
                None
            }
            (None, Some(_), None) => {
                let key = given(reader, "registry.password");
                reader.fault(&key, "has no registry.username");
                None
            }
            (_, _, Some(_)) => {
                let key = given(reader, "registry.token");
                reader.fault(
                    &key,
                    "a token takes the place of username and password: give one or the other",
                );
                None
            }
        }
    }
}

/// Returns the key by which the operator has given the secret `name`: as a text, by a file or by a
/// command. Returns `name` itself if none of the three is given.
fn given(reader: &Reader<'_>, name: &str) -> String {
    let keys = ["", "_file", "_command"].map(|kind| format!("{name}{kind}"));
    keys.iter().find(|key| reader.is_given(key)).cloned().unwrap_or_else(|| name.to_owned())
}

/// Notes a fault for a file that cannot be read, so that it is found at the start and not at the
/// first connection.
pub(super) fn note_unreadable(reader: &mut Reader<'_>, key: &str, path: Option<&PathBuf>) {
    if let Some(Err(error)) = path.map(std::fs::File::open) {
        reader.fault(key, format!("cannot be read: {error}"));
    }
}
