//! The table of all known properties and their translation.
//!
//! A `*` in a name stands for any text. The first matching row counts, so a name must stand before
//! a pattern that covers it.

use super::source::Given;
use super::target::Target;
use super::{
    Input, capture, connect, copies, database, kafka, masks, predicates, signals, topics,
    transforms,
};
use Fate::{By, Idle, Refused};

/// A function that translates a property. It is called with all properties, the one to translate,
/// and the result so far.
pub(super) type Translate = fn(Input<'_>, &Given, &mut Target);

/// What becomes of a property of Debezium.
#[derive(Clone, Copy)]
enum Fate {
    /// The property is translated: the new key, for the documentation, and the function.
    By(&'static str, Translate),
    /// The property is not needed, for this reason.
    Idle(&'static str),
    /// The property is refused, for this reason.
    Refused(&'static str),
}

const RETRIED: Fate =
    Idle("what can pass is retried for ever with a growing pause; status says so");
const BUDGET: Fate = Idle("limits.memory bounds every queue in bytes");
const SESSIONS: Fate = Idle("our sessions have limits of their own");
const SPI: Fate = Refused("names a Java class; there is none here");
const INTERNAL: Fate = Idle("tunes the inside of Debezium");
const WORKER: Fate = Idle("runs a Connect worker; there is none here");
const INCREMENTAL: Fate = Idle("later copies run in windows and write nothing to the source");

/// Every known property, in groups.
const TABLE: &[(&str, Fate)] = &[
    // Process and connection
    ("name", Idle("a pipeline is called by topics.prefix")),
    ("connector.class", By("checked", connect::class)),
    ("tasks.max", Idle("one pipeline is one task")),
    ("config.action.reload", WORKER),
    ("database.hostname", By("postgres.url", database::url)),
    ("database.port", By("postgres.url", database::url)),
    ("database.user", By("postgres.url", database::url)),
    ("database.dbname", By("postgres.url", database::url)),
    ("database.password", By("postgres.url", database::url)),
    ("database.sslmode", By("postgres.sslmode", database::sslmode)),
    ("database.sslrootcert", By("postgres.sslrootcert", database::root_certificate)),
    ("database.sslcert", By("postgres.sslcert", database::certificate)),
    ("database.sslkey", By("postgres.sslkey", database::key)),
    ("database.sslpassword", By("postgres.sslpassword", database::key_password)),
    ("database.sslfactory", SPI),
    ("database.tcpKeepAlive", Idle("always on")),
    ("database.tcpkeepalive", Idle("always on")),
    (
        "database.initial.statements",
        Refused("our sessions set what values depend on; set the rest by ALTER ROLE ... SET"),
    ),
    ("database.query.timeout.ms", SESSIONS),
    ("database.connection.factory.class", SPI),
    ("database.autosave", Idle("a JDBC driver's option")),
    ("database.server.name", Refused("the name before Debezium 2; write topic.prefix")),
    (
        "database.*",
        Refused("an option of the JDBC driver; write what you need as a parameter of postgres.url"),
    ),
    ("connection.validation.timeout.ms", SESSIONS),
    ("connection.timeout.ms", SESSIONS),
    ("connection.factory.class", SPI),
    ("plugin.name", By("checked", database::plugin)),
    // Slot and positions
    ("slot.name", By("postgres.slot", database::slot)),
    ("slot.drop.on.stop", By("refused if true", database::drop_on_stop)),
    ("slot.failover", By("postgres.failover", database::failover)),
    ("slot.max.retries", RETRIED),
    ("slot.retry.delay.ms", RETRIED),
    (
        "slot.stream.params",
        By("postgres.origin; refused for any other option", database::stream_params),
    ),
    ("status.update.interval.ms", Idle("follows from wal_sender_timeout")),
    ("lsn.flush.mode", By("refused if manual", database::flush_mode)),
    ("flush.lsn.source", By("refused if false", database::flush_mode)),
    ("lsn.flush.timeout.ms", Idle("a confirmation never waits")),
    ("lsn.flush.timeout.action", Idle("a confirmation never waits")),
    ("offset.mismatch.strategy", By("refused if it trusts the slot", database::mismatch)),
    ("xmin.fetch.interval.ms", By("events.xmin_interval", database::xmin)),
    ("internal.*", INTERNAL),
    // Publication and replica identity
    ("publication.name", By("postgres.publication", database::publication)),
    ("publication.autocreate.mode", By("postgres.create_publication", database::autocreate)),
    ("publish.via.partition.root", By("tables.partitions", capture::partitions)),
    (
        "replica.identity.autoset.values",
        By("tables.set_replica_identity", database::replica_identity),
    ),
    // First copy
    ("snapshot.mode", By("snapshot.mode", copies::snapshot_mode)),
    ("snapshot.mode.configuration.based.*", By("snapshot.mode", copies::snapshot_mode)),
    ("snapshot.mode.custom.name", SPI),
    (
        "snapshot.isolation.mode",
        Idle(
            "the copy reads in the snapshot that the slot exported, so it joins the stream exactly",
        ),
    ),
    ("snapshot.locking.mode", By("refused if custom", copies::locking)),
    ("snapshot.locking.mode.custom.name", SPI),
    ("snapshot.lock.timeout.ms", Idle("no lock is waited for")),
    ("snapshot.query.mode", By("refused if custom", copies::query_mode)),
    ("snapshot.query.mode.custom.name", SPI),
    ("snapshot.select.statement.overrides*", By("snapshot.query", copies::overrides)),
    ("snapshot.include.collection.list", By("snapshot.skip", copies::copied)),
    ("snapshot.fetch.size", Idle("rows are read by COPY as they come")),
    ("snapshot.delay.ms", By("refused unless 0", capture::zero)),
    ("streaming.delay.ms", By("refused unless 0", capture::zero)),
    ("snapshot.tables.order.by.row.count", Idle("ranges of all tables are copied side by side")),
    ("snapshot.max.threads*", Idle("the copy has workers of its own")),
    ("legacy.snapshot.max.threads", Idle("the copy has workers of its own")),
    ("include.schema.changes", Idle("the connector for Postgres has no such topic")),
    ("include.schema.comments", Idle("the connector for Postgres reads no comments")),
    ("query.fetch.size", Idle("rows are read by COPY as they come")),
    ("guardrail.collections.max", By("refused unless 0", capture::zero)),
    ("guardrail.collections.limit.action", Idle("without a limit there is no action")),
    // Later copies, signals, notifications
    ("incremental.snapshot.chunk.size", INCREMENTAL),
    ("incremental.snapshot.watermarking.strategy", INCREMENTAL),
    ("incremental.snapshot.allow.schema.changes", INCREMENTAL),
    ("read.only", Idle("nothing is written to the source")),
    ("signal.data.collection", By("snapshot.signal_table", signals::table)),
    (
        "signal.enabled.channels",
        By("snapshot.signal_table, snapshot.signal_topic", signals::channels_of_signals),
    ),
    ("signal.kafka.topic", By("snapshot.signal_topic", signals::kafka)),
    ("signal.kafka.bootstrap.servers", By("refused unless bootstrap.servers", signals::kafka)),
    ("signal.kafka.*", By("not needed", signals::kafka)),
    ("signal.consumer.*", By("not needed", signals::kafka)),
    ("signal.file", By("not needed; the channel `file` is refused", signals::file)),
    ("signal.poll.interval.ms", Idle("signals are read as they come")),
    ("signal.emit.failure.*", Idle("signals are read as they come")),
    (
        "notification.enabled.channels",
        By("topics.notifications, log.notifications", signals::notifications),
    ),
    ("notification.sink.topic.name", By("topics.notifications", signals::notifications)),
    // What is captured
    ("table.include.list", By("tables.include", capture::include)),
    ("table.exclude.list", By("tables.exclude", capture::exclude)),
    ("table.whitelist", Refused("the name before Debezium 2; write table.include.list")),
    ("table.blacklist", Refused("the name before Debezium 2; write table.exclude.list")),
    ("table.ignore.builtin", By("refused if false", capture::builtin)),
    ("schema.include.list", By("tables.namespaces", capture::namespaces)),
    ("schema.exclude.list", By("tables.exclude_namespaces", capture::namespaces)),
    ("column.include.list", By("columns.include", capture::columns)),
    ("column.exclude.list", By("columns.exclude", capture::columns)),
    ("column.truncate.to.*.chars", By("masks.*", masks::truncate)),
    ("column.mask.with.*.chars", By("masks.*", masks::stars)),
    ("column.mask.hash.v2.*.with.salt.*", By("masks.*", masks::hash)),
    ("column.mask.hash.*.with.salt.*", By("masks.*", masks::hash)),
    ("column.propagate.source.type", By("columns.source_types", capture::source_types)),
    ("datatype.propagate.source.type", By("columns.source_types_of", capture::source_types)),
    ("message.key.columns", By("keys", capture::keys)),
    ("message.prefix.include.list", By("events.message_prefixes", capture::messages)),
    ("message.prefix.exclude.list", By("events.exclude_message_prefixes", capture::messages)),
    ("skipped.operations", By("events.inserts, updates, deletes, truncates", capture::operations)),
    ("skip.messages.without.change", By("events.unchanged", capture::unchanged)),
    ("tombstones.on.delete", By("events.tombstones", capture::tombstones)),
    ("provide.transaction.metadata", By("events.transactions", capture::transactions)),
    ("topic.transaction", By("topics.transactions", capture::transactions)),
    ("transaction.metadata.factory", By("refused unless the default", capture::default_class)),
    ("unavailable.value.placeholder", By("events.placeholder", capture::placeholder)),
    (
        "toasted.value.placeholder",
        Refused("the name before Debezium 2; write unavailable.value.placeholder"),
    ),
    ("extended.headers.enabled", By("events.context_headers", capture::context_headers)),
    ("schema.refresh.mode", Idle("a table's shape follows the stream's own Relation messages")),
    ("event.processing.failure.handling.mode", By("refused unless fail", capture::never_skips)),
    (
        "event.converting.failure.handling.mode",
        Idle("every value has a form; a field that cannot hold it is null and counted"),
    ),
    ("binary.handling.mode", By("events.binary", capture::mode)),
    ("decimal.handling.mode", By("events.decimals", capture::mode)),
    ("time.precision.mode", By("events.time", capture::mode)),
    ("hstore.handling.mode", By("events.hstore", capture::mode)),
    ("interval.handling.mode", By("events.intervals", capture::mode)),
    ("money.fraction.digits", By("events.money_digits", capture::mode)),
    ("include.unknown.datatypes", By("events.unknown_types", capture::mode)),
    ("converters", SPI),
    ("sourceinfo.struct.maker", By("refused unless the default", capture::default_class)),
    // Topics and names
    ("topic.prefix", By("topics.prefix", topics::prefix)),
    ("topic.delimiter", By("topics.delimiter", topics::delimiter)),
    (
        "topic.naming.strategy",
        By(
            "topics.regex; refused unless SchemaTopicNamingStrategy or its regex variant",
            topics::naming,
        ),
    ),
    ("topic.cache.size", INTERNAL),
    ("topic.heartbeat.prefix", By("topics.heartbeat", topics::heartbeat)),
    ("topic.heartbeat.name", By("topics.heartbeat", topics::heartbeat)),
    ("heartbeat.topics.prefix", By("topics.heartbeat", topics::heartbeat)),
    ("topic.regex", By("topics.regex", topics::regex_naming)),
    ("topic.replacement", By("topics.replacement", topics::regex_naming)),
    ("topic.key.enforce.uniqueness", By("topics.unique_keys", topics::regex_naming)),
    ("topic.key.field.name", By("topics.key_field", topics::regex_naming)),
    ("topic.key.field.regex", By("topics.key_field_regex", topics::regex_naming)),
    ("topic.key.field.replacement", By("topics.key_field_replacement", topics::regex_naming)),
    ("topic.creation.enable", By("topics.create", kafka::create)),
    ("topic.creation.*", By("topics", kafka::creation)),
    ("schema.name.adjustment.mode", By("events.schema_names", capture::adjustment)),
    ("field.name.adjustment.mode", By("events.field_names", capture::adjustment)),
    (
        "sanitize.field.names",
        Refused("the name before Debezium 2; write field.name.adjustment.mode=avro"),
    ),
    // Heartbeats, errors, queues
    ("heartbeat.interval.ms", By("heartbeat.interval", topics::heartbeat)),
    ("heartbeat.action.query", By("heartbeat.query", topics::heartbeat)),
    ("errors.max.retries", RETRIED),
    ("retriable.restart.connector.wait.ms", RETRIED),
    ("max.queue.size", BUDGET),
    ("max.queue.size.in.bytes", BUDGET),
    ("max.batch.size", BUDGET),
    ("poll.interval.ms", Idle("changes are read as they come")),
    ("poll.dispatch.interval.ms", Idle("changes are read as they come")),
    ("queue.provider.*", BUDGET),
    ("executor.shutdown.timeout.ms", Idle("limits.shutdown bounds a stop")),
    ("custom.sanitize.pattern", Idle("secrets and rows are never logged")),
    ("custom.metric.tags", Refused("labels are added where metrics are scraped")),
    ("statistics.metrics.enabled", Idle("metrics are always there")),
    ("openlineage.integration.enabled", By("refused if true", capture::off)),
    ("openlineage.*", Idle("without openlineage.integration.enabled there is nothing to tell")),
    // Transforms
    (
        "post.processors*",
        Refused(
            "events are not looked up again; with REPLICA IDENTITY FULL an unchanged value is in \
             the stream",
        ),
    ),
    ("transforms", By("transform", transforms::transforms)),
    ("transforms.*", By("transform", transforms::option)),
    ("predicates", By("transform", predicates::predicates)),
    ("predicates.*", By("transform", transforms::option)),
    ("reselect.*", Refused("see post.processors")),
    ("large.message.*", Refused("see post.processors")),
    // Connect: converters and exactly-once
    ("key.converter", By("events.format", connect::converter)),
    ("value.converter", By("events.format", connect::converter)),
    ("key.converter.*", By("events.format, registry", connect::converter_option)),
    ("value.converter.*", By("events.format, registry", connect::converter_option)),
    ("header.converter", By("refused unless SimpleHeaderConverter", connect::header_converter)),
    ("header.converter.*", Refused("headers are written as SimpleHeaderConverter writes them")),
    ("exactly.once.support", By("refused if required", connect::exactly_once)),
    (
        "exactly.once.source.support",
        Idle("delivery is at least once; events carry what removes duplicates"),
    ),
    ("transaction.boundary*", Idle("records are not written in Kafka transactions")),
    (
        "offsets.storage.topic",
        Idle("`wellspring adopt` reads Connect's offsets; ours are in a topic of their own"),
    ),
    ("errors.tolerance", By("refused unless none", connect::tolerance)),
    ("errors.retry.*", RETRIED),
    ("errors.log.*", Idle("an error is logged once, without values")),
    ("producer.override.*", By("kafka.client", kafka::producer)),
    ("consumer.override.*", WORKER),
    ("admin.override.*", WORKER),
    // A worker's own
    ("bootstrap.servers", By("kafka.brokers", kafka::brokers)),
    ("group.id", WORKER),
    ("config.storage.*", WORKER),
    ("status.storage.*", WORKER),
    (
        "offset.storage*",
        Idle("`wellspring adopt` reads the offsets; ours are in a topic of their own"),
    ),
    ("offset.flush.*", Idle("a position is confirmed once everything before it is in Kafka")),
    ("offset.commit.policy", Idle("a position is confirmed once everything before it is in Kafka")),
    ("plugin.path", WORKER),
    ("plugin.discovery", WORKER),
    ("connector.client.config.override.policy", WORKER),
    ("config.providers*", Idle("${env:NAME} and ${file:/path} are always read")),
    ("listeners*", WORKER),
    ("rest.*", WORKER),
    ("admin.listeners*", WORKER),
    ("access.control.*", WORKER),
    ("task.shutdown.graceful.timeout.ms", Idle("limits.shutdown bounds a stop")),
    ("scheduled.rebalance.max.delay.ms", WORKER),
    ("heartbeat.interval.ms.worker", WORKER),
    ("session.timeout.ms", WORKER),
    ("rebalance.timeout.ms", WORKER),
    ("worker.*", WORKER),
    ("internal.key.converter*", WORKER),
    ("internal.value.converter*", WORKER),
    ("metrics.*", Idle("/metrics is for Prometheus")),
    ("metric.reporters", Idle("/metrics is for Prometheus")),
    ("consumer.*", WORKER),
    ("admin.*", WORKER),
    ("producer.*", By("kafka.client", kafka::producer)),
    ("security.protocol", By("kafka.client", kafka::producer)),
    ("sasl.*", By("kafka.client", kafka::producer)),
    ("ssl.*", By("kafka.client", kafka::producer)),
    ("client.id", By("kafka.client", kafka::producer)),
    // Debezium Server's own
    ("debezium.sink.type", By("refused unless kafka", connect::sink)),
    ("debezium.sink.kafka.wait.message.delivery.timeout.ms", RETRIED),
    ("debezium.sink.*", Refused("the only sink is Kafka")),
    ("debezium.format.key", By("events.format", connect::converter)),
    ("debezium.format.value", By("events.format", connect::converter)),
    ("debezium.format.header", By("refused unless json", connect::header_converter)),
    ("debezium.format.*", By("events.format, registry", connect::converter_option)),
    ("debezium.*", Refused("not a property of Debezium Server that we know")),
    ("record.processing.*", Idle("one thread keeps the order")),
    ("task.management.timeout.ms", WORKER),
    ("quarkus.*", Idle("the admin port and log have sections of their own")),
];

/// Translates, refuses or leaves out every given property, as its row of the table says.
pub(super) fn translate(given: &[Given], target: &mut Target) {
    for property in given {
        let shown = shown(&property.written);
        match TABLE.iter().find(|(name, _)| fits(name, &property.name)) {
            Some((_, By(_, translate))) => translate(Input(given), property, target),
            Some((_, Idle(why))) => target.idle(&shown, why),
            Some((_, Refused(why))) => target.refuse(&shown, *why),
            None if belongs_to_converter(given, &property.name) => {
                target.refuse(
                    &shown,
                    "belongs to a custom converter; there are no Java classes here",
                );
            }
            None => target.refuse(&shown, unknown(&property.name)),
        }
    }
}

/// A property's name in the form that may be printed. The part after `.with.salt.` is a secret.
pub(super) fn shown(name: &str) -> String {
    match name.split_once(".with.salt.") {
        Some((before, _)) => format!("{before}.with.salt.***"),
        // In a misspelt name the salt's place is unknown, so everything after the prefix is masked.
        None if name.starts_with("column.mask.hash.") => "column.mask.hash.***".to_owned(),
        None => name.to_owned(),
    }
}

fn belongs_to_converter(given: &[Given], name: &str) -> bool {
    let converters = Input(given).value("converters").unwrap_or("");
    converters
        .split(',')
        .any(|one| !one.trim().is_empty() && name.starts_with(&format!("{}.", one.trim())))
}

fn unknown(name: &str) -> String {
    let known = TABLE.iter().map(|(known, _)| *known).filter(|known| !known.contains('*'));
    let near = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    // A quarter of the name may be wrong. A name that differs more is another property.
    match near.filter(|(edits, _)| *edits <= name.chars().count() / 4) {
        Some((_, near)) => format!("unknown property; did you mean `{near}`?"),
        None => "unknown property".to_owned(),
    }
}

/// True if the name matches the pattern. A star stands for any text, and at the end of the pattern
/// also for none.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut rest = rest;
    let mut last = None;
    for part in parts {
        last = Some(part);
        if part.is_empty() {
            continue;
        }
        // A star inside of the pattern stands for at least one character.
        let Some(at) = rest
            .char_indices()
            .nth(1)
            .and_then(|(from, _)| rest[from..].find(part).map(|at| from + at))
        else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    match last {
        None => rest.is_empty(),
        Some("") => true,
        Some(_) => rest.is_empty(),
    }
}

/// Every row as text for the documentation: property, fate, and the new key or the reason.
pub(super) fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TABLE.iter().map(|(name, fate)| match fate {
        By(what, _) => (*name, "translated", *what),
        Idle(why) => (*name, "not needed", *why),
        Refused(why) => (*name, "refused", *why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_text() {
        assert!(fits("column.mask.with.*.chars", "column.mask.with.5.chars"));
        assert!(!fits("column.mask.with.*.chars", "column.mask.with..chars"));
        assert!(fits("column.mask.hash.*.with.salt.*", "column.mask.hash.SHA-256.with.salt.a.b"));
        assert!(
            fits("post.processors*", "post.processors")
                && fits("transforms.*", "transforms.unwrap.type")
        );
        assert!(fits("database.*", "database.autosave") && !fits("database.*", "databases"));
        assert!(!fits("name", "names"));
    }

    #[test]
    fn every_property_of_the_connector_has_a_row() {
        let list = include_str!("../../../tests/data/debezium-properties.txt");
        let names =
            list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let homeless: Vec<&str> =
            names.filter(|name| !TABLE.iter().any(|(row, _)| fits(row, name))).collect();
        assert_eq!(homeless, Vec::<&str>::new());
    }

    #[test]
    fn no_row_is_behind_a_pattern_that_takes_its_name() {
        for (index, (name, _)) in
            TABLE.iter().enumerate().filter(|(_, (name, _))| !name.contains('*'))
        {
            let first = TABLE.iter().position(|(row, _)| fits(row, name));
            assert_eq!(first, Some(index), "{name}");
        }
    }

    #[test]
    fn a_salt_in_a_name_is_not_shown() {
        assert_eq!(
            shown("column.mask.hash.MD5.with.salt.pepper"),
            "column.mask.hash.MD5.with.salt.***"
        );
        assert_eq!(shown("column.mask.hash.MD5.with.salts.pepper"), "column.mask.hash.***");
    }
}
