//! The reference of the configuration: what each key takes, its default, and what it is for.
//!
//! Types and defaults are asked of the parsers themselves, so they cannot be told wrong; only the sentence is written here.
//! A test holds that every key has one.

use super::document;
use super::reader::{Described, Reader};
use super::show::SECTIONS;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What each key is for.
const ABOUT: &[(&str, &str)] = &[
    ("sink", "Where records go: `kafka`, or `stdout` for a look without Kafka: JSON events, one a line."),
    ("state_file", "With `sink = \"stdout\"` the file that stands for the state topic."),
    (
        "postgres.url",
        "The database, as libpq writes it. libpq's parameters are taken; one that a key sets as well must agree.",
    ),
    ("postgres.sslmode", "How much of the server is proven. Anything below `verify-full` is told in status."),
    ("postgres.sslrootcert", "The certificate authority of the server; the system's where it is left out."),
    ("postgres.password_file", "A file with the password, read again at each connect."),
    (
        "postgres.password_command",
        "A program that prints the password, with its arguments: a token of a cloud's. It runs again at each connect, without a shell, for 20 s at most.",
    ),
    ("postgres.sslcert", "Our own certificate chain in PEM, where the server asks for one; read at each connect."),
    (
        "postgres.sslkey",
        "Its private key, PEM or PKCS#8 in DER, which nobody but the agent (and root's group) may read.",
    ),
    ("postgres.sslpassword", "The passphrase of the key; better an `sslpassword_file`."),
    ("postgres.sslpassword_file", "A file with the passphrase of the key, read again."),
    (
        "postgres.sslnegotiation",
        "`postgres` asks for TLS first, `direct` begins with it, which takes Postgres 17 or later; as in libpq.",
    ),
    ("postgres.slot", "The replication slot. Slots share one name space per cluster."),
    ("postgres.publication", "The publication that the slot reads."),
    (
        "postgres.create_publication",
        "Create a missing publication at the first start, for exactly the captured tables.",
    ),
    (
        "postgres.origin",
        "`none` leaves out what replication brought into this database, from Postgres 16 on; `any` takes every change.",
    ),
    (
        "tables.include",
        "The captured tables: names or globs, `\"my.schema\".orders` where a dot is part of a name. A reload takes it.",
    ),
    ("tables.exclude", "Tables left out of what `include` matches. A reload takes it."),
    ("topics.prefix", "The first part of every topic: `shop` gives `shop.public.orders`."),
    ("topics.create", "Create topics that are missing."),
    ("topics.partitions", "Partitions of a topic that is created; the broker's default where it is left out."),
    ("topics.replication", "Copies of a topic that is created; the broker's default where it is left out."),
    ("topics.cleanup_policy", "`cleanup.policy` of a topic that is created."),
    (
        "events.format",
        "`avro` with schemas in a registry, plain `json`, or `json-schema` with the schema in each record.",
    ),
    ("events.tombstones", "A record without value after each delete, so that compaction forgets the key."),
    ("events.truncates", "Publish TRUNCATE as an event of its own."),
    ("events.messages", "Publish what the application writes with `pg_logical_emit_message`."),
    ("events.context_headers", "The headers `__debezium.context.*` that Debezium writes."),
    (
        "events.identity_headers",
        "The headers `wellspring.epoch`, `.commit_lsn` and `.ordinal`: an event's identity, the same in each replay.",
    ),
    (
        "events.xmin_interval",
        "Fills `source.xmin` of streamed events with the slot's `catalog_xmin`, looked up each such time; null where it is left out.",
    ),
    (
        "events.on_refusal",
        "Where one table is refused (its schema, a row, its topic): `stop` and wait for a person, or `detach` the table, whose changes then go to `<prefix>.wellspring-quarantine` until `wellspring snapshot` repairs it.",
    ),
    ("events.placeholder", "What stands for a large value that an update did not touch and the server did not send."),
    ("registry.url", "The schema registry, or several URLs of one. Needed for `avro`. A reload takes it."),
    ("registry.username", "Basic authentication, with a password."),
    ("registry.password", "Its password; better a `password_file`."),
    ("registry.password_file", "A file with the password, read again."),
    ("registry.password_command", "A program that prints the password, with its arguments; as in `postgres`."),
    ("registry.token", "A bearer token instead; better a `token_file`."),
    ("registry.token_file", "A file with the token, read again."),
    (
        "registry.token_command",
        "A program that prints the token, with its arguments; it runs again before the token ends, and when it is refused.",
    ),
    ("registry.certificate", "Our own certificate chain in PEM, where the registry asks for one."),
    ("registry.key", "Its private key, which nobody but the agent (and root's group) may read."),
    ("registry.key_password", "The passphrase of the key; better a `key_password_file`."),
    ("registry.key_password_file", "A file with the passphrase of the key."),
    ("registry.insecure", "Consent to credentials over plain http."),
    ("registry.ca", "The certificate authority of the registry; the system's where it is left out."),
    ("registry.timeout", "The longest wait for one answer."),
    ("registry.auto_register", "Register schemas; without it they must be there."),
    ("kafka.brokers", "Where to begin: `host:port` of some brokers."),
    (
        "kafka.password_file",
        "A file with `sasl.password`, read again for each client and when brokers refuse the one before.",
    ),
    ("kafka.password_command", "A program that prints `sasl.password`, with its arguments; as in `postgres`."),
    ("kafka.token_file", "A file with a token for OAUTHBEARER, read again before the token ends."),
    (
        "kafka.token_command",
        "A program that prints a token for OAUTHBEARER, with its arguments: the token, or JSON with `token` and `expires_in`. It runs again before the token ends. Topics have to be there: none can be created by token.",
    ),
    ("kafka.insecure", "Consent to credentials in the clear, or to brokers whose identity is not proven."),
    ("snapshot.mode", "What is copied before the stream, or in windows beside it."),
    ("snapshot.workers", "Readers of the first copy at once."),
    ("snapshot.rows_per_second", "The most rows read a second, by all copies."),
    ("snapshot.skip", "Captured tables that are not copied."),
    ("snapshot.order", "Tables that the first copy begins with."),
    ("snapshot.signal_table", "A table whose inserted rows ask for copies, as Debezium's signals; always captured."),
    (
        "snapshot.signal_topic",
        "A topic whose records ask for copies, as Debezium's signals from Kafka: key `topics.prefix`, value JSON.",
    ),
    (
        "limits.memory",
        "The byte budget of everything in flight: each record's key, value and headers, and 1 KiB for what is kept beside them.",
    ),
    (
        "limits.quarantine",
        "How long the slot is held back after an unclean stop, because records of the old producer may land late.",
    ),
    ("limits.shutdown", "How long a stop waits for Kafka."),
    ("limits.ready_lag", "The lag above which `/readyz` says no."),
    ("admin.listen", "Where the status page, `/status`, `/metrics`, `/livez` and `/readyz` are; `off` for none."),
    (
        "admin.token_file",
        "A file with the token (16 bytes or more) that actions need, read for each of them. Without it actions are refused.",
    ),
    ("admin.token_command", "A program that prints that token, with its arguments, run once a minute at most."),
    ("log.format", "`text` for people, `json` for machines."),
    ("log.level", "Down to which level."),
    ("log.notifications", "Tell the same in the log, without keys of rows; also where there is no such topic."),
    ("events.time", "Form of date, time and timestamp; Debezium's `time.precision.mode`."),
    ("events.decimals", "Form of numeric and money; Debezium's `decimal.handling.mode`."),
    ("events.intervals", "Form of interval; Debezium's `interval.handling.mode`."),
    ("events.hstore", "hstore as JSON text or as a map; Debezium's `hstore.handling.mode`."),
    ("events.binary", "bytea and logical messages as bytes or as text; Debezium's `binary.handling.mode`."),
    ("events.money_digits", "Digits after the point of a precise money; Debezium's `money.fraction.digits`."),
    ("events.unknown_types", "Types that Debezium does not know: their text, its bytes, or left out."),
    ("events.inserts", "Publish INSERT."),
    ("events.updates", "Publish UPDATE."),
    ("events.deletes", "Publish DELETE."),
    ("events.unchanged", "Publish updates that change no published column."),
    ("events.message_prefixes", "The logical messages that are published, by prefix; all where it is empty."),
    ("events.exclude_message_prefixes", "Logical messages left out of those."),
    ("events.schema_names", "What becomes of characters that Avro does not allow in the names of schemas."),
    ("events.field_names", "The same for the names of columns."),
    (
        "events.transactions",
        "A topic with the begin and the end of each transaction, and its id and order in each event.",
    ),
    ("columns.include", "The published columns, `namespace.table.column`; all where it is empty."),
    ("columns.exclude", "Columns left out."),
    ("columns.excluded_keys", "What a key does with a column that is left out."),
    ("columns.keys_outside_identity", "What a delete does whose old row lacks a column of `[keys]`."),
    ("columns.source_types", "Columns whose schema names their type at the source."),
    ("columns.source_types_of", "The same, by the type's name."),
    ("heartbeat.interval", "A record in the heartbeat topic each such time; none where it is left out."),
    (
        "heartbeat.query",
        "SQL that runs with each heartbeat, in one transaction; names without a namespace are those of `public`.",
    ),
    ("topics.heartbeat", "The heartbeat topic; `__debezium-heartbeat.` and the prefix where it is left out."),
    ("topics.transactions", "The transaction topic; the prefix and `.transaction` where it is left out."),
    (
        "topics.notifications",
        "A topic that tells how copies go on, in the records of Debezium's notifications; none where it is left out.",
    ),
    (
        "topics.regex",
        "A regular expression over the whole of a table's topic; where it fits, the topic is what `replacement` makes of it, so \
         that tables can share one.",
    ),
    (
        "topics.replacement",
        "What takes its place: `$1` and `$${name}` are its groups, as Java writes them (`$${` is our `${`).",
    ),
    ("topics.unique_keys", "A field in the key names the table, since keys of several tables meet in one topic."),
    ("topics.key_field", "That field's name."),
    ("topics.key_field_regex", "A regular expression over the table's own topic, for what the field holds."),
    ("topics.key_field_replacement", "What the field holds where it fits; the table's own topic otherwise."),
    ("topics.delimiter", "What stands between the parts of a topic's name."),
    ("tables.namespaces", "Only tables of these namespaces, of what `include` matches."),
    ("tables.exclude_namespaces", "Namespaces left out."),
    ("tables.later", "What becomes of tables that appear while the pipeline runs."),
    ("tables.partitions", "Partitioned tables under the name of their root, or each partition under its own."),
];

/// The sections that take any key, and what it means there.
const MAPS: &[(&str, &str)] = &[
    ("kafka.client", "librdkafka's own properties. Those that a guarantee rests on are refused, with the reason."),
    (
        "tables.set_replica_identity",
        "By table, or by a pattern of tables: `FULL`, `DEFAULT` or `INDEX` and an index's name. It changes tables: at each start \
         `ALTER TABLE ... REPLICA IDENTITY` runs for captured tables that have another one, and each statement is logged.",
    ),
    ("snapshot.where", "By table: an SQL condition on the rows that are copied."),
    (
        "snapshot.query",
        "By table: a whole query, read by the first copy instead of the table. Copies beside the stream, and so the mode \"windows\", refuse such a table.",
    ),
    ("keys", "By table, or by a pattern of tables: the columns of its key, in their order."),
    (
        "masks",
        "By a name of your own: `columns` whose values are replaced by `method` stars, hash or truncate, before they leave.",
    ),
    ("topics.group", "By a name of your own: topics, by pattern, that are created with settings of their own."),
    ("topics.extra", "Further settings of a topic that is created, as Kafka names them."),
];

const HEAD: &str = "# Configuration

One TOML file, by default `wellspring.toml`; `--config FILE` or `WELLSPRING_CONFIG` names another. Every key can be set by
the environment: `kafka.brokers` by `WELLSPRING_KAFKA__BROKERS=a:9092,b:9092`, which wins over the file. A text may hold
`${env:NAME}` and `${file:/path}`. Unknown keys are errors, and all faults are told at once. `wellspring config show`
prints what holds, with the origin of each value and secrets masked.

This page is written by `wellspring config reference`, and a test holds it in step with the code; the JSON schema for
editors is `schemas/wellspring.schema.json`.
";

/// Every key with what its parser says, in the order of the file.
fn keys() -> (BTreeMap<String, Described>, Vec<&'static str>) {
    let environment = BTreeMap::new();
    // Every section asks for all its keys, whatever is wrong; an empty file asks for each.
    let (empty, _) = document::read("", &environment);
    let mut reader = Reader::new(empty, &environment);
    let _ = super::read_all(&mut reader);
    reader.described()
}

fn about(key: &str) -> &'static str {
    ABOUT.iter().chain(MAPS).find(|(name, _)| *name == key).map_or("", |(_, about)| about)
}

/// The reference as a page of Markdown: `docs/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let (keys, maps) = keys();
    let mut page = HEAD.to_owned();
    // Writing to a String does not fail.
    let mut sections = SECTIONS.to_vec();
    for section in keys.keys().map(|key| key.rsplit_once('.').map_or("", |(of, _)| of)).chain(maps.iter().copied()) {
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for section in sections {
        let title = if section.is_empty() { "Outside of any section".to_owned() } else { format!("[{section}]") };
        let _ = write!(page, "\n## {title}\n\n");
        if maps.contains(&section) {
            let _ = writeln!(page, "{}", about(section));
            continue;
        }
        page.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        let is_here = |key: &str| key.rsplit_once('.').map_or("", |(of, _)| of) == section;
        let mut here: Vec<(&String, &Described)> = keys.iter().filter(|(key, _)| is_here(key)).collect();
        here.sort_by_key(|(key, described)| !default(key, described).starts_with("**"));
        for (key, described) in here {
            let name = key.rsplit('.').next().unwrap_or(key);
            let _ =
                writeln!(page, "| `{name}` | {} | {} | {} |", described.expected, default(key, described), about(key));
        }
    }
    page
}

fn default(key: &str, described: &Described) -> String {
    match (&described.default, described.required, key) {
        // Follow from the prefix.
        (_, _, "postgres.slot") => "`wellspring_<prefix>`, lower case, others as `_`".to_owned(),
        (_, _, "postgres.publication") => "the slot's name".to_owned(),
        (_, _, "state_file") => "`<prefix>.wellspring-state.json`".to_owned(),
        (_, _, "postgres.url") | (_, true, _) => "**required**".to_owned(),
        (_, _, "registry.url") => "**required** for `avro`".to_owned(),
        (_, _, "postgres.sslmode") => "`\"verify-full\"` over TCP".to_owned(),
        (_, _, "postgres.sslnegotiation") => "`\"postgres\"`".to_owned(),
        (Some(default), ..) => format!("`{default}`"),
        (None, false, _) => "none".to_owned(),
    }
}

/// The same for editors: `schemas/wellspring.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let (keys, maps) = keys();
    let mut top = Map::new();
    let mut sections: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (key, described) in &keys {
        let property = property(key, described);
        match key.split_once('.') {
            Some((section, name)) => drop(sections.entry(section).or_default().insert(name.to_owned(), property)),
            None => drop(top.insert(key.clone(), property)),
        }
    }
    for map in maps {
        if let Some((section, name)) = map.split_once('.') {
            let property = json!({ "description": about(map), "type": "object",
                "additionalProperties": { "type": ["string", "number", "boolean"] } });
            sections.entry(section).or_default().insert(name.to_owned(), property);
        }
    }
    for (section, properties) in sections {
        let of = json!({ "type": "object", "additionalProperties": false, "properties": properties });
        top.insert(section.to_owned(), of);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wellspring.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    });
    format!("{schema:#}\n")
}

fn property(key: &str, described: &Described) -> Value {
    let mut property = Map::new();
    property.insert("description".to_owned(), format!("{} Takes {}.", about(key), described.expected).into());
    let words: Vec<&str> = match described.expected.strip_prefix("one of ") {
        Some(words) => words.split(", \"").map(|word| word.trim_matches('"')).collect(),
        None => Vec::new(),
    };
    if words.is_empty() {
        let list = json!({ "type": "array", "items": { "type": "string" } });
        let kinds: Vec<Value> = [
            described.text.then(|| json!({ "type": "string" })),
            described.list.then_some(list),
            described.number.then(|| json!({ "type": "integer" })),
            described.flag.then(|| json!({ "type": "boolean" })),
        ]
        .into_iter()
        .flatten()
        .collect();
        match kinds.as_slice() {
            [Value::Object(one)] => property.extend(one.clone()),
            _ => drop(property.insert("anyOf".to_owned(), kinds.into())),
        }
    } else {
        property.insert("enum".to_owned(), words.into());
    }
    if let Some(default) =
        described.default.as_deref().filter(|_| !matches!(key, "postgres.slot" | "postgres.publication" | "state_file"))
    {
        // The default is TOML; what JSON writes the same way is taken as it is.
        property.insert("default".to_owned(), serde_json::from_str(default).unwrap_or_else(|_| default.into()));
    }
    Value::Object(property)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_has_a_sentence_and_every_sentence_a_key() {
        let (keys, maps) = keys();
        let asked: BTreeSet<&str> = keys.keys().map(String::as_str).collect();
        let told: BTreeSet<&str> = ABOUT.iter().map(|(key, _)| *key).collect();
        assert_eq!(asked, told);
        assert_eq!(maps.iter().copied().collect::<BTreeSet<_>>(), MAPS.iter().map(|(map, _)| *map).collect());
        assert!(keys.values().all(|key| !key.expected.is_empty()));
    }

    #[test]
    fn the_schema_takes_what_the_parsers_take() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let of = |section: &str, key: &str| schema["properties"][section]["properties"][key].clone();
        assert_eq!(of("tables", "include")["type"], "array");
        assert_eq!(of("topics", "partitions")["type"], "integer");
        assert_eq!(of("topics", "create")["type"], "boolean");
        assert_eq!(of("topics", "create")["default"], true);
        assert_eq!(of("events", "format")["enum"], json!(["avro", "json", "json-schema"]));
        assert_eq!(of("limits", "memory")["type"], "string");
        assert_eq!(of("registry", "url")["anyOf"].as_array().map(Vec::len), Some(2));
        assert_eq!(of("topics", "cleanup_policy")["enum"], json!(["delete", "compact", "compact,delete"]));
    }
}
