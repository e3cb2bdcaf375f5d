//! Imports the settings of Kafka Connect and Debezium Server: converters, registry, and the
//! worker's guarantees.

use super::Input;
use super::source::Given;
use super::target::Target;

const REGISTRY_PASSWORD: &str = "WELLSPRING_REGISTRY_PASSWORD";

/// Refuses a configuration without brokers or format, and credentials without a password. Sets
/// `registry.insecure` if Debezium has sent credentials to the registry over http.
pub(super) fn defaults(input: &Input<'_>, target: &mut Target) {
    if !target.has("kafka", "brokers") {
        let what =
            "is missing; it stands in the worker's properties: import them with the connector's";
        target.refuse("bootstrap.servers", what);
    }
    let is_given = format(*input, "key").is_some() && format(*input, "value").is_some();
    if !target.has("events", "format") && !is_given {
        let what =
            "is missing; it stands in the worker's properties: import them with the connector's";
        target.refuse("value.converter", what);
    }
    if target.has("registry", "username") && !target.has("registry", "password") {
        target.refuse("value.converter.basic.auth.user.info", "has no password");
    }
    let urls =
        ["key", "value"].map(|part| input.or(&format!("{part}.converter.schema.registry.url"), ""));
    if target.has("registry", "username") && urls.iter().any(|url| url.contains("http://")) {
        target.flag(
            "registry",
            "insecure",
            true,
            "as before: the credentials go over http in the clear",
        );
    }
}

pub(super) fn class(_: Input<'_>, given: &Given, target: &mut Target) {
    let class = given.value.trim();
    if matches!(
        class,
        "io.debezium.connector.postgresql.PostgresConnector" | "PostgresConnector" | "Postgres"
    ) {
        target.idle(&given.written, "the only source");
    } else {
        target.refuse(&given.written, "is not Debezium's connector for Postgres");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Avro,
    Json,
    JsonSchema,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Format::Avro => "avro",
            Format::Json => "json",
            Format::JsonSchema => "json-schema",
        }
    }
}

/// Returns the format that the converter of keys or values writes, or the reason why there is no
/// such format here. `None` if no converter is given.
fn format(input: Input<'_>, part: &str) -> Option<Result<Format, &'static str>> {
    let server = format!("debezium.format.{part}");
    let class = input.value(&format!("{part}.converter")).or(input.value(&server))?;
    let schemas = match input.is(&format!("{part}.converter.schemas.enable"), "false") {
        true => Format::Json,
        false => Format::JsonSchema,
    };
    Some(match class.trim() {
        "io.confluent.connect.avro.AvroConverter" | "avro" => Ok(Format::Avro),
        "org.apache.kafka.connect.json.JsonConverter" | "json" | "jsonbytearray" => Ok(schemas),
        class if class.starts_with("io.apicurio.") => Err(
            "Apicurio's own framing is not written; point Confluent's AvroConverter at its ccompat \
             API",
        ),
        class if class.contains("rotobuf") => Err("events are Avro or JSON"),
        _ => Err("events are Avro or JSON: AvroConverter of Confluent, JsonConverter of Kafka"),
    })
}

pub(super) fn converter(input: Input<'_>, given: &Given, target: &mut Target) {
    let own = if given.name.contains("key") { "key" } else { "value" };
    match (format(input, "key"), format(input, "value")) {
        (Some(Err(_)), _) | (_, Some(Err(_))) => {
            let why = format(input, own).and_then(Result::err);
            if let Some(why) =
                why.filter(|why| !target.refused.iter().any(|(_, other)| other == why))
            {
                target.refuse(&given.written, why);
            }
        }
        (Some(Ok(key)), Some(Ok(value))) if key != value => {
            let what = format!(
                "keys are {} and values {}; a pipeline has one format",
                key.word(),
                value.word()
            );
            if !target.refused.iter().any(|(_, other)| *other == what) {
                target.refuse(&given.written, what);
            }
        }
        (Some(Ok(format)), _) | (None, Some(Ok(format))) => {
            target.text("events", "format", format.word(), "")
        }
        (None, None) => {}
    }
}

pub(super) fn converter_option(input: Input<'_>, given: &Given, target: &mut Target) {
    let option =
        given.name.split_once(".converter.").map_or(given.name.as_str(), |(_, option)| option);
    let is_false = given.value.trim().eq_ignore_ascii_case("false");
    match option {
        "schemas.enable" => converter(input, given, target),
        "schema.registry.url" => {
            let urls: Vec<String> =
                given.value.split(',').map(|url| url.trim().to_owned()).collect();
            if urls.iter().any(|url| url.contains('@')) {
                return target.refuse(
                    &given.written,
                    "holds credentials; write them as basic.auth.user.info",
                );
            }
            target.list("registry", "url", &urls, "");
        }
        "basic.auth.credentials.source" | "schema.registry.basic.auth.credentials.source" => {
            match given.value.trim() {
                "USER_INFO" => {
                    target.idle(&given.written, "registry.username and password are always sent")
                }
                _ => target.refuse(&given.written, "credentials are given as USER_INFO"),
            }
        }
        "basic.auth.user.info" | "schema.registry.basic.auth.user.info" => {
            let Some((user, password)) = given.value.split_once(':') else {
                return target.refuse(&given.written, "is not user:password");
            };
            target.text("registry", "username", user, "");
            if !target.has("registry", "password") {
                target.secret("registry", "password", REGISTRY_PASSWORD, &given.written, password);
            }
        }
        "auto.register.schemas" => target.flag("registry", "auto_register", !is_false, ""),
        "use.latest.version"
        | "enhanced.avro.schema.support"
        | "latest.compatibility.strict"
        | "schemas.registry.auto.register"
            if is_false =>
        {
            target.idle(&given.written, "it is off")
        }
        "connect.meta.data" if !is_false => {
            target.idle(&given.written, "schemas carry Connect's names")
        }
        "schemas.cache.config"
        | "schemas.cache.size"
        | "schema.registry.request.timeout.ms"
        | "max.schemas.per.subject" => {
            target.idle(&given.written, "every schema is kept for as long as its table is planned");
        }
        "replace.null.with.default" | "ignore.default.for.nullables" => {
            target.idle(
                &given.written,
                "a null is written as null, also where the column has a default",
            );
        }
        "decimal.format" if given.value.trim().eq_ignore_ascii_case("BASE64") => {
            target.idle(&given.written, "decimals in JSON are base64");
        }
        "key.subject.name.strategy" | "value.subject.name.strategy"
            if given.value.trim().ends_with(".TopicNameStrategy") =>
        {
            target.idle(&given.written, "subjects are <topic>-key and <topic>-value");
        }
        _ => target.refuse(&given.written, "this option of a converter has no counterpart"),
    }
}

pub(super) fn header_converter(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        "org.apache.kafka.connect.storage.SimpleHeaderConverter" => {
            target.idle(&given.written, "headers are written so");
        }
        _ => target
            .refuse(&given.written, "headers are written as SimpleHeaderConverter writes them"),
    }
}

pub(super) fn exactly_once(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "required" {
        target
            .refuse(&given.written, "delivery is at least once; write `requested` if that will do");
    } else {
        target.idle(
            &given.written,
            "delivery is at least once; events carry what removes duplicates",
        );
    }
}

pub(super) fn tolerance(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "none" {
        target.idle(&given.written, "nothing is ever skipped");
    } else {
        target.refuse(&given.written, "nothing is ever skipped");
    }
}

pub(super) fn sink(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "kafka" {
        target.idle(&given.written, "the only sink");
    } else {
        target.refuse(&given.written, "the only sink is Kafka");
    }
}
