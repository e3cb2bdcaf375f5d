//! Imports the names of topics: prefix, naming strategy and heartbeats.

use super::Input;
use super::capture::flag;
use super::source::Given;
use super::target::Target;

pub(super) fn prefix(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("topics", "prefix", given.value.trim(), "");
}

pub(super) fn delimiter(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("topics", "delimiter", given.value.trim(), "");
}

pub(super) fn naming(input: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        "io.debezium.schema.SchemaTopicNamingStrategy" => {
            target.idle(&given.written, "topics are named so")
        }
        REGEX_NAMING => {
            for property in ["topic.regex", "topic.replacement"] {
                if input.value(property).is_none_or(|value| value.trim().is_empty()) {
                    target.refuse(property, "is missing; SchemaRegexTopicNamingStrategy needs it");
                }
            }
        }
        "io.debezium.schema.DefaultTopicNamingStrategy"
        | "io.debezium.schema.DefaultRegexTopicNamingStrategy" => {
            target.refuse(
                &given.written,
                "its topics lack the namespace, so that tables of one name in two namespaces share \
                 one; write SchemaRegexTopicNamingStrategy, whose topic.regex is held against \
                 prefix.namespace.table",
            );
        }
        _ => target.refuse(
            &given.written,
            "topics are named as SchemaTopicNamingStrategy and SchemaRegexTopicNamingStrategy do",
        ),
    }
}

/// Debezium's strategy that names topics by a regular expression. With it, as with `topics.regex`,
/// the records of a table without a key have no key.
const REGEX_NAMING: &str = "io.debezium.schema.SchemaRegexTopicNamingStrategy";

pub(super) fn regex_naming(input: Input<'_>, given: &Given, target: &mut Target) {
    if input.value("topic.naming.strategy").map(str::trim) != Some(REGEX_NAMING) {
        return target.idle(&given.written, "topics are named without it");
    }
    let key = match given.name.as_str() {
        "topic.regex" => "regex",
        "topic.replacement" => "replacement",
        "topic.key.field.name" => "key_field",
        "topic.key.field.regex" => "key_field_regex",
        "topic.key.field.replacement" => "key_field_replacement",
        "topic.key.enforce.uniqueness" => {
            if let Some(unique) = flag(given, target) {
                target.flag("topics", "unique_keys", unique, "");
            }
            return;
        }
        _ => return target.refuse(&given.written, "unknown property"),
    };
    target.text("topics", key, &given.value, "");
}

pub(super) fn heartbeat(input: Input<'_>, given: &Given, target: &mut Target) {
    let interval = input.or("heartbeat.interval.ms", "0").trim();
    if interval == "0" {
        return target
            .idle(&given.written, "without heartbeat.interval.ms there are no heartbeats");
    }
    if interval.parse::<u64>().is_err() {
        return target.refuse("heartbeat.interval.ms", "is no number of milliseconds");
    }
    target.text("heartbeat", "interval", &format!("{interval}ms"), "");
    if let Some(query) = input.value("heartbeat.action.query") {
        target.text("heartbeat", "query", query, "");
    }
    let prefix = input.value("topic.heartbeat.prefix").or(input.value("heartbeat.topics.prefix"));
    let named = input.value("topic.heartbeat.name").filter(|name| !name.is_empty());
    let whole = prefix.zip(input.value("topic.prefix"));
    if let Some(name) = named {
        target.text("topics", "heartbeat", name, "");
    } else if let Some((first, prefix)) = whole {
        target.text(
            "topics",
            "heartbeat",
            &[first, prefix].join(input.or("topic.delimiter", ".")),
            "",
        );
    }
}
