//! Imports the sink: brokers, the producer's properties in librdkafka's terms, and new topics.

use super::Input;
use super::source::Given;
use super::target::Target;

const SASL_PASSWORD: &str = "WELLSPRING_KAFKA_PASSWORD";
const SSL_PASSWORD: &str = "WELLSPRING_KAFKA_KEY_PASSWORD";

pub(super) fn brokers(_: Input<'_>, given: &Given, target: &mut Target) {
    let strip = |broker: &str| {
        broker.split_once("://").map_or(broker.to_owned(), |(_, rest)| rest.to_owned())
    };
    let brokers: Vec<String> = given
        .value
        .split(',')
        .map(str::trim)
        .filter(|broker| !broker.is_empty())
        .map(strip)
        .collect();
    target.list("kafka", "brokers", &brokers, "");
}

/// Imports a property of Java's producer. A connector's `producer.override.` takes precedence over
/// the worker's `producer.`, and that over the worker's own property.
pub(super) fn producer(input: Input<'_>, given: &Given, target: &mut Target) {
    let (rank, property) = ranked(&given.name);
    let stronger = ["producer.override.", "producer.", ""].iter().take(rank);
    if stronger.into_iter().any(|prefix| input.value(&format!("{prefix}{property}")).is_some()) {
        return target.idle(&given.written, "a stronger one is set");
    }
    let set =
        |target: &mut Target, name: &str, value: &str| target.text("kafka.client", name, value, "");
    let value = given.value.trim();
    match property {
        "bootstrap.servers" => brokers(input, given, target),
        "compression.type"
        | "linger.ms"
        | "batch.size"
        | "client.id"
        | "security.protocol"
        | "sasl.mechanism"
        | "metadata.max.age.ms"
        | "reconnect.backoff.ms"
        | "reconnect.backoff.max.ms"
        | "retry.backoff.ms"
        | "connections.max.idle.ms"
        | "client.dns.lookup"
        | "sasl.kerberos.service.name" => {
            set(target, property, &lowered(property, value));
            if value.eq_ignore_ascii_case("SASL_PLAINTEXT") {
                target.flag(
                    "kafka",
                    "insecure",
                    true,
                    "as before: SASL over plain text shows the credentials",
                );
            }
        }
        "max.request.size" => set(target, "message.max.bytes", value),
        "request.timeout.ms" => set(target, "request.timeout.ms", value),
        "sasl.jaas.config" => jaas(given, target),
        "ssl.endpoint.identification.algorithm" => {
            set(target, property, if value.is_empty() { "none" } else { value });
        }
        "ssl.keystore.type" | "ssl.truststore.type" if value.eq_ignore_ascii_case("JKS") => {
            jks(given, target)
        }
        "ssl.keystore.type" | "ssl.truststore.type" => {
            target.idle(&given.written, "told by the file's own form")
        }
        "ssl.truststore.location"
            if input
                .or(&given.name.replace("location", "type"), "JKS")
                .eq_ignore_ascii_case("PEM") =>
        {
            set(target, "ssl.ca.location", value);
        }
        "ssl.keystore.location"
            if input
                .or(&given.name.replace("location", "type"), "JKS")
                .eq_ignore_ascii_case("PKCS12") =>
        {
            set(target, "ssl.keystore.location", value);
        }
        "ssl.truststore.location" | "ssl.keystore.location" => jks(given, target),
        "ssl.keystore.password" => {
            target.secret("kafka.client", property, SSL_PASSWORD, &given.written, value)
        }
        "ssl.truststore.password" | "ssl.key.password" => {
            target.idle(&given.written, "certificates are read from PEM files")
        }
        "acks" if matches!(value, "all" | "-1") => target.idle(&given.written, "always so"),
        "acks" => target
            .refuse(&given.written, "a record counts as written once every in-sync replica has it"),
        "enable.idempotence" if value == "true" => target.idle(&given.written, "always so"),
        "retries"
        | "delivery.timeout.ms"
        | "max.in.flight.requests.per.connection"
        | "max.block.ms" => {
            target.idle(
                &given.written,
                "a record is retried until it is written or refused for good",
            );
        }
        "buffer.memory" => target.idle(&given.written, "limits.memory bounds every queue in bytes"),
        "key.serializer" | "value.serializer" => {
            target.idle(&given.written, "bytes are written as they are")
        }
        "partitioner.class" if value.is_empty() || value.ends_with(".DefaultPartitioner") => {
            target.idle(&given.written, "keys go where Java's producer puts them");
        }
        "send.buffer.bytes" | "receive.buffer.bytes" => {
            target.idle(&given.written, "the system's own")
        }
        _ => target.refuse(
            &given.written,
            "this property of Java's producer has no counterpart known here; see [kafka.client]",
        ),
    }
}

fn ranked(name: &str) -> (usize, &str) {
    if let Some(property) = name.strip_prefix("producer.override.") {
        return (0, property);
    }
    name.strip_prefix("producer.").map_or((2, name), |property| (1, property))
}

/// The value of `security.protocol` in lower case, as librdkafka requires; other values as they
/// are.
fn lowered(property: &str, value: &str) -> String {
    if property == "security.protocol" { value.to_ascii_lowercase() } else { value.to_owned() }
}

fn jks(given: &Given, target: &mut Target) {
    let what = "a Java key store is not read; export it as PEM and set \
                kafka.client.\"ssl.ca.location\" (and ssl.certificate.location, ssl.key.location)";
    target.refuse(&given.written, what);
}

/// Imports user and password from `...LoginModule required username="u" password="p";`.
fn jaas(given: &Given, target: &mut Target) {
    let field = |name: &str| {
        let (_, rest) = given.value.split_once(&format!("{name}="))?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut text = String::new();
        let mut chars = rest.chars().skip(1);
        loop {
            match chars.next()? {
                '\\' => text.push(chars.next()?),
                c if c == quote => return Some(text),
                c => text.push(c),
            }
        }
    };
    match (field("username"), field("password")) {
        (Some(user), Some(password)) if given.value.contains("LoginModule") => {
            target.text("kafka.client", "sasl.username", &user, "");
            target.secret(
                "kafka.client",
                "sasl.password",
                SASL_PASSWORD,
                &given.written,
                &password,
            );
        }
        _ => target
            .refuse(&given.written, "only a LoginModule with username and password is understood"),
    }
}

pub(super) fn create(_: Input<'_>, given: &Given, target: &mut Target) {
    target.flag("topics", "create", !given.value.trim().eq_ignore_ascii_case("false"), "");
}

/// Imports `topic.creation.default.*`, and groups of topics that are given by expressions over
/// topic names.
pub(super) fn creation(input: Input<'_>, given: &Given, target: &mut Target) {
    let rest = given.name.strip_prefix("topic.creation.").unwrap_or_default();
    if rest == "groups" {
        return groups(input, given, target);
    }
    let Some((group, setting)) = rest.split_once('.') else {
        return target.refuse(&given.written, "is no setting of a group of topics");
    };
    let listed = input.or("topic.creation.groups", "").split(',').any(|name| name.trim() == group);
    let section = match group {
        "default" => "topics".to_owned(),
        _ if listed => format!("topics.group.{group}"),
        _ => {
            return target
                .refuse(&given.written, format!("topic.creation.groups does not name `{group}`"));
        }
    };
    let value = given.value.trim();
    match setting {
        "partitions" | "replication.factor" => {
            let key = if setting == "partitions" { "partitions" } else { "replication" };
            match value.parse::<i32>() {
                Ok(-1) => target.idle(&given.written, "the broker's default"),
                Ok(_) => target.raw(&section, key, value.to_owned(), ""),
                Err(_) => target.refuse(&given.written, "is no number"),
            }
        }
        "include" | "exclude" if group != "default" => {
            let expressions = super::capture::expressions(value);
            let patterns: Vec<String> =
                expressions.iter().map(|e| format!("{}{e}", crate::table::names::REGEX)).collect();
            target.list(&section, setting, &patterns, "");
        }
        "cleanup.policy" => {
            let mut policies: Vec<&str> = value.split(',').map(str::trim).collect();
            policies.sort_unstable();
            target.text(&section, "cleanup_policy", &policies.join(","), "");
        }
        _ => target.text(&format!("{section}.extra"), setting, value, ""),
    }
}

fn groups(input: Input<'_>, given: &Given, target: &mut Target) {
    for group in given.value.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        if input.value(&format!("topic.creation.{group}.include")).is_none() {
            target.refuse(&given.written, format!("topic.creation.{group}.include is missing"));
        }
    }
}
