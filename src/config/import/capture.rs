//! Imports which changes are captured and in which form: Debezium's lists of tables and columns,
//! keys, operations, names and modes.

use super::Input;
use super::source::Given;
use super::target::Target;
use crate::table::names::REGEX;

/// Sets the defaults of Debezium that differ from ours, and refuses a missing `topic.prefix`.
pub(super) fn defaults(input: &Input<'_>, target: &mut Target) {
    if input.value("topic.prefix").is_none_or(|prefix| prefix.trim().is_empty()) {
        target.refuse("topic.prefix", "is missing; every pipeline has one");
    }
    if !target.has("tables", "include") {
        target.list(
            "tables",
            "include",
            &["*.*".to_owned()],
            "without table.include.list Debezium takes every table",
        );
    }
    let root = input.is("publish.via.partition.root", "true");
    if !root {
        target.text(
            "tables",
            "partitions",
            "leaves",
            "as Debezium: partitions are tables of their own",
        );
    }
    if !target.has("events", "truncates") {
        target.flag(
            "events",
            "truncates",
            false,
            "Debezium skips truncates unless skipped.operations says otherwise",
        );
    }
    if !target.has("events", "unknown_types") {
        target.text(
            "events",
            "unknown_types",
            "drop",
            "Debezium leaves types it does not know out",
        );
    }
    if input.value("column.exclude.list").or(input.value("column.include.list")).is_some() {
        target.text(
            "columns",
            "excluded_keys",
            "keep",
            "as Debezium: a key column that rows lack stays in the key",
        );
    }
    if input.value("message.key.columns").is_some() {
        let remark = "a delete whose old row lacks the key halts; REPLICA IDENTITY FULL has it";
        target.text("columns", "keys_outside_identity", "halt_on_delete", remark);
    }
    if !target.has("snapshot", "mode") {
        target.text("snapshot", "mode", "initial", "");
    }
    super::database::defaults(input, target);
    super::connect::defaults(input, target);
}

/// Splits one of Debezium's lists. Commas separate expressions, `\,` stands for a comma inside of
/// one, and blanks around an expression are dropped.
pub(super) fn expressions(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '\\' if chars.peek() == Some(&',') => {
                parts[last].push(',');
                chars.next();
            }
            ',' => parts.push(String::new()),
            c => parts[last].push(c),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Turns the expressions of one of Debezium's lists into our patterns by regular expression.
pub(super) fn patterns(list: &str) -> Vec<String> {
    expressions(list).into_iter().map(|expression| format!("{REGEX}{expression}")).collect()
}

pub(super) fn flag(given: &Given, target: &mut Target) -> Option<bool> {
    match given.value.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            target.refuse(&given.written, "is neither true nor false");
            None
        }
    }
}

pub(super) fn include(input: Input<'_>, given: &Given, target: &mut Target) {
    exclusive(input, given, "table.exclude.list", target);
    target.list("tables", "include", &patterns(&given.value), "");
}

pub(super) fn exclude(_: Input<'_>, given: &Given, target: &mut Target) {
    target.list("tables", "exclude", &patterns(&given.value), "");
}

fn exclusive(input: Input<'_>, given: &Given, other: &str, target: &mut Target) {
    if input.value(other).is_some() {
        target.refuse(
            &given.written,
            format!("{other} is set as well, which Debezium refuses; say it in one list"),
        );
    }
}

pub(super) fn namespaces(input: Input<'_>, given: &Given, target: &mut Target) {
    let key = if given.name == "schema.include.list" {
        exclusive(input, given, "schema.exclude.list", target);
        "namespaces"
    } else {
        "exclude_namespaces"
    };
    target.list("tables", key, &patterns(&given.value), "");
}

pub(super) fn columns(input: Input<'_>, given: &Given, target: &mut Target) {
    let key = if given.name == "column.include.list" {
        exclusive(input, given, "column.exclude.list", target);
        "include"
    } else {
        "exclude"
    };
    target.list("columns", key, &patterns(&given.value), "");
}

pub(super) fn source_types(_: Input<'_>, given: &Given, target: &mut Target) {
    let key = if given.name.starts_with("datatype") { "source_types_of" } else { "source_types" };
    target.list("columns", key, &patterns(&given.value), "");
}

pub(super) fn builtin(_: Input<'_>, given: &Given, target: &mut Target) {
    match flag(given, target) {
        Some(false) => {
            target.refuse(&given.written, "tables of Postgres itself cannot be published")
        }
        _ => target.idle(&given.written, "tables of Postgres itself are never captured"),
    }
}

/// Imports `message.key.columns`: entries `schema.table:c1,c2` between semicolons, in which every
/// part is an expression. Two entries for one table make one key.
pub(super) fn keys(_: Input<'_>, given: &Given, target: &mut Target) {
    let mut keys: Vec<(String, Vec<String>)> = Vec::new();
    for entry in given.value.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let columns = entry.split_once(':').map(|(table, columns)| (table.trim(), columns));
        let columns =
            columns.filter(|(table, columns)| !table.is_empty() && !columns.contains(':'));
        let Some((table, columns)) = columns else {
            return target
                .refuse(&given.written, format!("`{entry}` is not `schema.table:column,column`"));
        };
        let columns = columns
            .split(',')
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .map(|c| format!("{REGEX}{c}"));
        match keys.iter_mut().find(|(known, _)| known == table) {
            Some((_, known)) => known.extend(columns),
            None => keys.push((table.to_owned(), columns.collect())),
        }
    }
    for (table, columns) in keys {
        target.list("keys", &format!("{REGEX}{table}"), &columns, "");
    }
}

pub(super) fn messages(input: Input<'_>, given: &Given, target: &mut Target) {
    let key = if given.name == "message.prefix.include.list" {
        exclusive(input, given, "message.prefix.exclude.list", target);
        "message_prefixes"
    } else {
        "exclude_message_prefixes"
    };
    target.list("events", key, &patterns(&given.value), "");
}

pub(super) fn operations(_: Input<'_>, given: &Given, target: &mut Target) {
    let skipped: Vec<String> =
        given.value.split(',').map(|one| one.trim().to_ascii_lowercase()).collect();
    if let Some(bad) =
        skipped.iter().find(|one| !matches!(one.as_str(), "c" | "u" | "d" | "t" | "none" | ""))
    {
        return target.refuse(&given.written, format!("`{bad}` is none of c, u, d, t and none"));
    }
    for (letter, key) in [("c", "inserts"), ("u", "updates"), ("d", "deletes"), ("t", "truncates")]
    {
        let skips = skipped.iter().any(|one| one == letter);
        if skips || letter == "t" {
            target.flag("events", key, !skips, "");
        }
    }
}

pub(super) fn unchanged(_: Input<'_>, given: &Given, target: &mut Target) {
    if let Some(skip) = flag(given, target) {
        target.flag("events", "unchanged", !skip, "");
    }
}

pub(super) fn tombstones(_: Input<'_>, given: &Given, target: &mut Target) {
    if let Some(tombstones) = flag(given, target) {
        target.flag("events", "tombstones", tombstones, "");
    }
}

pub(super) fn context_headers(_: Input<'_>, given: &Given, target: &mut Target) {
    if let Some(headers) = flag(given, target) {
        target.flag("events", "context_headers", headers, "");
    }
}

pub(super) fn transactions(input: Input<'_>, given: &Given, target: &mut Target) {
    if !input.is("provide.transaction.metadata", "true") {
        return target.idle(&given.written, "transactions are not published");
    }
    target.flag("events", "transactions", true, "");
    if let (Some(topic), Some(prefix)) =
        (input.value("topic.transaction"), input.value("topic.prefix"))
    {
        let topic = [prefix, topic].join(input.or("topic.delimiter", "."));
        target.text("topics", "transactions", &topic, "");
    }
}

pub(super) fn placeholder(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("events", "placeholder", &given.value, "");
}

/// Imports a property that chooses the form of values, such as `decimal.handling.mode`. Both
/// programs use the same names for these forms.
pub(super) fn mode(_: Input<'_>, given: &Given, target: &mut Target) {
    let value = given.value.trim().to_ascii_lowercase();
    let key = match given.name.as_str() {
        "binary.handling.mode" => "binary",
        "decimal.handling.mode" => "decimals",
        "time.precision.mode" if value == "structured" => {
            return target.refuse(
                &given.written,
                "times have no such form here, and Debezium 3.6 does not start with it",
            );
        }
        "time.precision.mode" => "time",
        "hstore.handling.mode" => "hstore",
        "interval.handling.mode" => "intervals",
        "money.fraction.digits" => return target.raw("events", "money_digits", value, ""),
        "include.unknown.datatypes" => {
            let Some(included) = flag(given, target) else { return };
            return target.text(
                "events",
                "unknown_types",
                if included { "bytes" } else { "drop" },
                "",
            );
        }
        _ => return,
    };
    target.text("events", key, &value, "");
}

pub(super) fn adjustment(_: Input<'_>, given: &Given, target: &mut Target) {
    let key = if given.name.starts_with("schema") { "schema_names" } else { "field_names" };
    target.text("events", key, &given.value.trim().to_ascii_lowercase(), "");
}

pub(super) fn partitions(_: Input<'_>, given: &Given, target: &mut Target) {
    if let Some(root) = flag(given, target) {
        target.text("tables", "partitions", if root { "root" } else { "leaves" }, "");
    }
}

pub(super) fn zero(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "0" {
        target.idle(&given.written, "0 switches it off");
    } else {
        target.refuse(&given.written, "there is nothing like it; take it out, or write 0");
    }
}

pub(super) fn off(_: Input<'_>, given: &Given, target: &mut Target) {
    match flag(given, target) {
        Some(true) => {
            target.refuse(&given.written, "there is nothing like it; take it out, or write false")
        }
        _ => target.idle(&given.written, "it is off"),
    }
}

pub(super) fn never_skips(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "fail" {
        target
            .idle(&given.written, "a change that cannot be read stops the stream, with its place");
    } else {
        target.refuse(&given.written, "a change that cannot be read is never skipped");
    }
}

/// Accepts a Java class only if it is Debezium's own default.
pub(super) fn default_class(_: Input<'_>, given: &Given, target: &mut Target) {
    const DEFAULTS: [&str; 2] = [
        "io.debezium.connector.postgresql.PostgresSourceInfoStructMaker",
        "io.debezium.pipeline.txmetadata.DefaultTransactionMetadataFactory",
    ];
    if DEFAULTS.contains(&given.value.trim()) {
        target.idle(&given.written, "events are made so");
    } else {
        target.refuse(&given.written, "names a Java class; there is none here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_at_commas_that_are_not_escaped() {
        assert_eq!(expressions(r" a\.b , c{1\,3},, d "), [r"a\.b", "c{1,3}", "d"]);
        assert_eq!(expressions(""), Vec::<String>::new());
        assert_eq!(expressions(r"a\"), [r"a\"]);
    }
}
