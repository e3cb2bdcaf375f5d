//! `[tables]`, `[columns]`, `[masks.*]`, `[keys]` and the names in `[events]`: which changes are
//! captured, and in which form they are published.
//!
//! Patterns are parsed here, so that a faulty one is reported with its key and its place in the
//! list. Whether a rule fits a table is checked and reported once the table is known.

use super::reader::Reader;
use super::value;
use crate::agent::Heartbeat;
use crate::encode::reroute::{KEY_FIELD, Replace, Reroute, RerouteFault};
use crate::encode::rules::{
    Algorithm, Allowed, HashRule, KeyRule, MaskRule, Method, Payload, RowRules, Rules, Salt,
};
use crate::encode::{Adjust, is_avro};
use crate::postgres::identity::{Rule, Wanted};
use crate::secret::read;
use crate::table::Selection;
use crate::table::names::{NameList, NameOf, NamePattern};
use crate::table::selection::{Later, Partitions};
use std::time::Duration;

/// The most stars, and the most characters that truncation keeps. More would only come from a
/// typing error, and would make large records.
const MASK_LENGTH_MAX: i32 = 10_000;

/// Shortest interval at which the slot's `catalog_xmin` is read.
const XMIN_MIN: Duration = Duration::from_secs(1);

/// Shortest interval of heartbeats. More than ten a second would only add load.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Returns the two words that a key accepts which refuses or allows something: `refuse` and `word`,
/// each with its meaning.
const fn allowing(word: &str) -> [(&str, Allowed); 2] {
    [("refuse", Allowed::No), (word, Allowed::Yes)]
}

/// Reads which tables are captured.
pub(super) fn selection(reader: &mut Reader<'_>) -> Option<Selection> {
    let include = reader.required(
        "tables.include",
        value::texts,
        "include = [\"public.orders\", \"inventory.*\"]",
    );
    let exclude = reader.or("tables.exclude", value::texts, "[]");
    let namespaces = names(reader, "tables.namespaces", NameOf::Namespace);
    let exclude_namespaces = names(reader, "tables.exclude_namespaces", NameOf::Namespace);
    let partitions = [("root", Partitions::Root), ("leaves", Partitions::Leaves)];
    let partitions = reader.or("tables.partitions", value::one_of(&partitions), "root");
    let later = reader.or(
        "tables.later",
        value::one_of(&[("reload", Later::Reload), ("capture", Later::Capture)]),
        "reload",
    );
    if include.as_ref().is_some_and(Vec::is_empty) {
        reader.fault(
            "tables.include",
            "is empty; write include = [\"public.orders\", \"inventory.*\"]",
        );
    }
    match Selection::new(&include?, &exclude?) {
        Ok(selection) => {
            Some(selection.within(namespaces?, exclude_namespaces?).by(partitions?, later?))
        }
        Err((include, exclude)) => {
            include.iter().for_each(|bad| reader.fault("tables.include", bad.to_string()));
            exclude.iter().for_each(|bad| reader.fault("tables.exclude", bad.to_string()));
            None
        }
    }
}

/// Reads the rules over columns, keys, names and kinds of changes. `xmin` is true if events carry
/// the `catalog_xmin` of the slot.
pub(super) fn rules(reader: &mut Reader<'_>, xmin: bool) -> Option<Rules> {
    let include = names(reader, "columns.include", NameOf::Column);
    let exclude = names(reader, "columns.exclude", NameOf::Column);
    if let (Some(include), Some(exclude)) = (&include, &exclude)
        && !include.is_empty()
        && !exclude.is_empty()
    {
        reader.fault("columns.exclude", "columns.include is set as well: say it in one list");
    }
    let excluded_keys =
        reader.or("columns.excluded_keys", value::one_of(&allowing("keep")), "refuse");
    let source_types = names(reader, "columns.source_types", NameOf::Column);
    let source_types_of = names(reader, "columns.source_types_of", NameOf::Column);
    let masks = masks(reader);
    let keys = keys(reader);
    let keys_outside_identity = reader.or(
        "columns.keys_outside_identity",
        value::one_of(&allowing("halt_on_delete")),
        "refuse",
    );
    let rows = rows(reader);
    let adjusts =
        [("none", Adjust::None), ("avro", Adjust::Avro), ("avro_unicode", Adjust::AvroUnicode)];
    let reroute = reroute(reader);
    let schema_names = reader.or("events.schema_names", value::one_of(&adjusts), "none");
    let field_names = reader.or("events.field_names", value::one_of(&adjusts), "none");
    let delimiter = delimiter(reader);
    let transactions = reader.or("events.transactions", value::flag, "false");
    let transaction_topic = topic(reader, "topics.transactions");
    let heartbeat_topic = topic(reader, "topics.heartbeat");
    let notice_topic = topic(reader, "topics.notifications");
    let message_include = names(reader, "events.message_prefixes", NameOf::Namespace);
    let message_exclude = names(reader, "events.exclude_message_prefixes", NameOf::Namespace);
    Some(Rules {
        delimiter: delimiter?,
        reroute: reroute?,
        schema_names: schema_names?,
        field_names: field_names?,
        include: include?,
        exclude: exclude?,
        excluded_keys: excluded_keys?,
        masks: masks?,
        source_types: source_types?,
        source_types_of: source_types_of?,
        keys: keys?,
        keys_outside_identity: keys_outside_identity?,
        rows: rows?,
        xmin,
        transactions: transactions?,
        transaction_topic: transaction_topic?,
        heartbeat_topic: heartbeat_topic?,
        notice_topic: notice_topic?,
        message_include: message_include?,
        message_exclude: message_exclude?,
    })
}

fn rows(reader: &mut Reader<'_>) -> Option<RowRules> {
    let inserts = reader.or("events.inserts", value::flag, "true");
    let updates = reader.or("events.updates", value::flag, "true");
    let deletes = reader.or("events.deletes", value::flag, "true");
    let unchanged = reader.or("events.unchanged", value::flag, "true");
    Some(RowRules {
        inserts: inserts?,
        updates: updates?,
        deletes: deletes?,
        unchanged: unchanged?,
    })
}

/// Reads the full name of a topic. The outer option is `None` for a faulty name, the inner one if
/// none is given.
pub(super) fn topic(reader: &mut Reader<'_>, key: &str) -> Option<Option<String>> {
    if !reader.is_given(key) {
        let _ = reader.optional(key, value::text);
        return Some(None);
    }
    let name = reader.optional(key, value::text)?;
    let is_legal = name.len() <= 249
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if is_legal && name != "." && name != ".." {
        return Some(Some(name));
    }
    reader.fault(
        key,
        "a topic's name has letters a-z and A-Z, digits, `.`, `_` and `-`, at most 249",
    );
    None
}

/// Reads the rule that names topics by a regular expression. The outer option is `None` for a
/// fault, the inner one without `topics.regex`. The other keys of the rule are faults then, unless
/// they repeat their default.
fn reroute(reader: &mut Reader<'_>) -> Option<Option<Reroute>> {
    let regex = reader.optional("topics.regex", value::text);
    let replacement = reader.optional("topics.replacement", value::text);
    let unique = reader.or("topics.unique_keys", value::flag, "true");
    let key_field = reader.or("topics.key_field", value::text, KEY_FIELD);
    let key_regex = reader.optional("topics.key_field_regex", value::text);
    let key_replacement = reader.optional("topics.key_field_replacement", value::text);
    if !reader.is_given("topics.regex") {
        let mut others =
            vec!["topics.replacement", "topics.key_field_regex", "topics.key_field_replacement"];
        // A key that repeats its default changes nothing, so it is no fault.
        others.extend((unique == Some(false)).then_some("topics.unique_keys"));
        others.extend(
            key_field
                .as_ref()
                .is_some_and(|field| field != KEY_FIELD)
                .then_some("topics.key_field"),
        );
        let idle: Vec<&str> = others.into_iter().filter(|key| reader.is_given(key)).collect();
        idle.iter().for_each(|key| reader.fault(key, "has no effect without topics.regex"));
        return idle.is_empty().then_some(None);
    }
    if replacement.is_none() && !reader.is_given("topics.replacement") {
        reader.missing(
            "topics.replacement",
            "replacement = \"$1\", the topic that topics.regex makes",
        );
    }
    let topic = replace(reader, "topics.regex", regex?, "topics.replacement", replacement?);
    let key_value = match (key_regex, key_replacement) {
        (None, None) => Some(None),
        (Some(regex), Some(replacement)) => replace(
            reader,
            "topics.key_field_regex",
            regex,
            "topics.key_field_replacement",
            replacement,
        )
        .map(Some),
        (one, _) => {
            let key = if one.is_some() {
                "topics.key_field_replacement"
            } else {
                "topics.key_field_regex"
            };
            reader.missing(
                key,
                "both of topics.key_field_regex and topics.key_field_replacement, or neither",
            );
            None
        }
    };
    let key_field = key_field?;
    if !is_avro(&key_field) {
        reader.fault(
            "topics.key_field",
            "a field's name has letters a-z and A-Z, digits and `_`, and begins with no digit",
        );
    }
    Some(Some(Reroute {
        topic: topic?,
        key_field: unique?.then_some(key_field),
        key_value: key_value?,
    }))
}

fn replace(
    reader: &mut Reader<'_>,
    key: &str,
    regex: String,
    of: &str,
    replacement: String,
) -> Option<Replace> {
    match Replace::read(&regex, &replacement) {
        Ok(replace) => return Some(replace),
        Err(fault @ RerouteFault::Regex(_)) => reader.fault(key, fault.to_string()),
        Err(fault) => reader.fault(of, fault.to_string()),
    }
    None
}

/// Reads the text between the parts of a topic's name. Only characters that Kafka accepts are
/// allowed.
fn delimiter(reader: &mut Reader<'_>) -> Option<String> {
    let delimiter = reader.or("topics.delimiter", value::text, ".")?;
    if delimiter.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Some(delimiter);
    }
    reader.fault(
        "topics.delimiter",
        "a topic's name has letters a-z and A-Z, digits, `.`, `_` and `-`",
    );
    None
}

/// Reads a list of patterns of names. The list is empty if the key is not given. `None` if a
/// pattern is faulty.
fn names(reader: &mut Reader<'_>, key: &str, of: NameOf) -> Option<NameList> {
    let list = reader.or(key, value::texts, "[]")?;
    read_names(reader, key, &list, of)
}

fn read_names(reader: &mut Reader<'_>, key: &str, list: &[String], of: NameOf) -> Option<NameList> {
    let read = NameList::read(list, of);
    read.map_err(|faults| faults.iter().for_each(|bad| reader.fault(key, bad.to_string()))).ok()
}

/// Reads `[masks.NAME]`, in the order of the names.
fn masks(reader: &mut Reader<'_>) -> Option<Vec<MaskRule>> {
    let names = reader.names("masks");
    let read: Vec<Option<MaskRule>> = names.iter().map(|name| mask(reader, name)).collect();
    let masks: Vec<MaskRule> = read.into_iter().collect::<Option<_>>()?;
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let mut twice = Vec::new();
    for rule in &masks {
        for pattern in rule.columns.iter() {
            match seen.iter().find(|(_, text)| *text == pattern.text()) {
                Some((other, text)) => {
                    twice.push((rule.name.clone(), (*other).to_owned(), (*text).to_owned()))
                }
                None => seen.push((&rule.name, pattern.text())),
            }
        }
    }
    for (name, other, text) in &twice {
        let what = format!(
            "masks.{other} has `{text}` as well: a column has one mask; take it out of one of them"
        );
        reader.fault(&format!("masks.{name}.columns"), what);
    }
    twice.is_empty().then_some(masks)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Stars,
    Hash(Payload),
    Truncate,
}

fn mask(reader: &mut Reader<'_>, name: &str) -> Option<MaskRule> {
    let key = |what: &str| format!("masks.{name}.{what}");
    let list =
        reader.required(&key("columns"), value::texts, "columns = [\"public.people.email\"]");
    let columns = list.and_then(|list| {
        if list.is_empty() {
            reader.fault(&key("columns"), "is empty; write columns = [\"public.people.email\"]");
        }
        read_names(reader, &key("columns"), &list, NameOf::Column)
    });
    let ways = [
        ("stars", Way::Stars),
        ("hash", Way::Hash(Payload::Plain)),
        ("hash-v1", Way::Hash(Payload::JavaSerialised)),
        ("truncate", Way::Truncate),
    ];
    let way = reader.required(
        &key("method"),
        value::one_of(&ways),
        "method = \"stars\", \"hash\" or \"truncate\"",
    );
    let length = reader.optional(&key("length"), value::count(0, MASK_LENGTH_MAX));
    let algorithm = reader.optional(&key("algorithm"), value::one_of(&Algorithm::ALL));
    let salt = salt(reader, name);
    let other_types_pass =
        reader.or(&key("other_types"), value::one_of(&allowing("pass")), "refuse");
    let method = method(reader, name, way?, (length, algorithm, salt))?;
    Some(MaskRule {
        name: name.to_owned(),
        columns: columns?,
        method,
        other_types_pass: other_types_pass?,
    })
}

type HashParts = (Option<i32>, Option<Algorithm>, Option<Option<Salt>>);

fn method(
    reader: &mut Reader<'_>,
    name: &str,
    way: Way,
    (length, algorithm, salt): HashParts,
) -> Option<Method> {
    let key = |what: &str| format!("masks.{name}.{what}");
    let count = |reader: &mut Reader<'_>| {
        if !reader.is_given(&key("length")) {
            reader.missing(&key("length"), "length = 5");
        }
        usize::try_from(length?).ok()
    };
    let foreign: &[&str] = match way {
        Way::Stars | Way::Truncate => &["algorithm", "salt", "salt_file"],
        Way::Hash(_) => &["length"],
    };
    for what in foreign.iter().filter(|what| reader.is_given(&key(what))).collect::<Vec<_>>() {
        reader.fault(&key(what), "has no meaning for this method");
    }
    match way {
        Way::Stars => count(reader).map(Method::Stars),
        Way::Truncate => count(reader).map(Method::Truncate),
        Way::Hash(payload) => {
            let salt = salt?;
            if salt.is_none() {
                reader.missing(&key("salt"), "salt = \"${env:MASK_SALT}\", or salt_file");
            }
            let given = reader.is_given(&key("algorithm"));
            let algorithm = if given { algorithm? } else { Algorithm::Sha256 };
            Some(Method::Hash(HashRule { algorithm, salt: salt?, payload }))
        }
    }
}

/// Reads the salt from one of two keys. It is read once at start: a salt that changed while the
/// agent runs would give one value two hashes.
fn salt(reader: &mut Reader<'_>, name: &str) -> Option<Option<Salt>> {
    let (inline, file) = (format!("masks.{name}.salt"), format!("masks.{name}.salt_file"));
    let text = reader.secret(&inline);
    let from_file = reader.secret_file(&file);
    if text.is_some() && from_file.is_some() {
        reader.fault(&file, format!("{inline} is set as well: say it in one place"));
    }
    let given = reader.is_given(&inline) || reader.is_given(&file);
    match text.or(from_file) {
        None if given => None, // its fault is noted already
        None => Some(None),
        Some(source) => {
            read(&source).ok().map(|secret| Some(Salt::new(secret.reveal().as_bytes())))
        }
    }
}

/// Reads `[keys]`: the columns that make the key of the tables that match a pattern.
fn keys(reader: &mut Reader<'_>) -> Option<Vec<KeyRule>> {
    let lists = reader.lists("keys");
    let mut rules = Vec::new();
    let mut is_whole = true;
    for (table, columns) in lists {
        let key = format!("keys.{table}");
        let tables = NamePattern::read(&table, NameOf::Table)
            .map_err(|fault| reader.fault(&key, fault.to_string()));
        let columns = read_names(reader, &key, &columns, NameOf::Namespace)
            .map(|list| list.iter().cloned().collect());
        let columns: Option<Vec<NamePattern>> = columns;
        if columns.as_ref().is_some_and(Vec::is_empty) {
            reader.fault(&key, "is empty; write the columns of the key in their order");
            is_whole = false;
        }
        match (tables, columns) {
            (Ok(tables), Some(columns)) => rules.push(KeyRule { tables, columns }),
            _ => is_whole = false,
        }
    }
    is_whole.then_some(rules)
}

/// Reads `[tables.set_replica_identity]`, by table or by a pattern of tables.
pub(super) fn identities(reader: &mut Reader<'_>) -> Option<Vec<Rule>> {
    const EXPECTED: &str = "FULL, DEFAULT or INDEX and the index's name";
    let given = reader.map("tables.set_replica_identity", |_| false);
    let mut rules = Vec::new();
    let mut is_whole = true;
    for (table, identity) in given {
        let key = format!("tables.set_replica_identity.{table}");
        let mut fault = |what: String| {
            reader.fault(&key, what);
            is_whole = false;
        };
        let tables = match NamePattern::read(&table, NameOf::Table) {
            Ok(tables) => tables,
            Err(bad) => {
                fault(bad.to_string());
                continue;
            }
        };
        let (word, rest) =
            identity.trim().split_once(char::is_whitespace).unwrap_or((identity.trim(), ""));
        let identity = match (word.to_ascii_uppercase().as_str(), rest.trim()) {
            ("FULL", "") => Wanted::Full,
            ("DEFAULT", "") => Wanted::Default,
            ("INDEX", index) if !index.is_empty() => Wanted::Index(index.to_owned()),
            ("NOTHING", "") => {
                fault(format!(
                    "NOTHING would make UPDATE and DELETE of a published table fail; write \
                     {EXPECTED}"
                ));
                continue;
            }
            _ => {
                fault(format!("is none of {EXPECTED}"));
                continue;
            }
        };
        rules.push(Rule { tables, identity });
    }
    is_whole.then_some(rules)
}

/// Reads `events.xmin_interval`. The outer option is `None` for a faulty value, the inner one if
/// none is given.
pub(super) fn xmin_interval(reader: &mut Reader<'_>) -> Option<Option<Duration>> {
    let given = reader.is_given("events.xmin_interval");
    let interval = reader.optional("events.xmin_interval", value::duration(XMIN_MIN, super::DAY));
    if given { interval.map(Some) } else { Some(None) }
}

/// Reads `[heartbeat]`. The outer option is `None` for a faulty interval, the inner one if none is
/// given.
pub(super) fn heartbeat(reader: &mut Reader<'_>) -> Option<Option<Heartbeat>> {
    let given = reader.is_given("heartbeat.interval");
    let interval =
        reader.optional("heartbeat.interval", value::duration(HEARTBEAT_MIN, super::DAY));
    let query = reader.optional("heartbeat.query", value::text);
    if query.is_some() && !given {
        reader
            .fault("heartbeat.query", "has no effect without heartbeat.interval, such as \"10s\"");
    }
    match interval {
        Some(interval) => Some(Some(Heartbeat { interval, query })),
        None => (!given).then_some(None),
    }
}
