//! Reads a `KafkaConnector` of Strimzi: the YAML that people keep, and the JSON of `kubectl get -o
//! json`.
//!
//! The configuration of a connector is a mapping of names to scalars. So only block mappings, plain
//! and quoted scalars and block scalars are read as YAML, which is how such files are written. Any
//! other form within the configuration is refused with its line, and is not guessed.

use serde_json::{Map, Value};

/// Why the YAML cannot be read, with its line counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}; kubectl get kafkaconnector NAME -o json prints a form that is read")]
pub struct BadYaml {
    /// Line of the fault in the file, counted from 1.
    pub line: usize,
    /// What is not read.
    pub what: &'static str,
}

const KIND: &str = "KafkaConnector";

/// True if the text is YAML of a `KafkaConnector`.
pub(super) fn is_yaml(text: &str) -> bool {
    text.lines().any(|line| {
        let Some(value) = line.strip_prefix("kind:") else { return false };
        let value = value.split_once(" #").map_or(value, |(value, _comment)| value);
        value.trim().trim_matches(['"', '\'']) == KIND
    })
}

/// Makes the JSON of a connector, as Connect takes one, from a `KafkaConnector` resource. `None`
/// for other JSON.
pub(super) fn connector(whole: &Map<String, Value>) -> Option<Map<String, Value>> {
    if whole.get("kind").and_then(Value::as_str) != Some(KIND) {
        return None;
    }
    let spec = whole.get("spec")?.as_object()?;
    let mut config = spec.get("config")?.as_object()?.clone();
    for (key, name) in [("class", "connector.class"), ("tasksMax", "tasks.max")] {
        if let Some(value) = spec.get(key) {
            config.insert(name.to_owned(), value.clone());
        }
    }
    let name = whole.get("metadata").and_then(|metadata| metadata.get("name"));
    let mut connector = Map::new();
    connector.insert("name".to_owned(), name.cloned().unwrap_or(Value::Null));
    connector.insert("config".to_owned(), Value::Object(config));
    Some(connector)
}

/// Reads the YAML of one `KafkaConnector` into the JSON of the same resource: kind, name, class,
/// number of tasks and configuration. All other parts of the resource are ignored.
///
/// # Errors
/// The first line in the configuration whose form is not read, or a second document.
pub(super) fn yaml(text: &str) -> Result<Value, BadYaml> {
    let mut whole = Map::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut config_indent = None;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let bad = |what| BadYaml { line: at + 1, what };
        if line.starts_with("---") && !whole.is_empty() {
            return Err(bad("a second document"));
        }
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') || line.starts_with("---") {
            continue;
        }
        let mut indent = line.len() - line.trim_start_matches(' ').len();
        path.retain(|(outer, _)| *outer < indent);
        let is_config = is_within(&path, &["spec", "config"]);
        if is_config && *config_indent.get_or_insert(indent) != indent {
            return Err(bad("a value of several lines"));
        }
        let mut content = content;
        while let Some(item) = content.strip_prefix("- ").filter(|_| !is_config) {
            indent += content.len() - item.trim_start().len();
            content = item.trim_start();
        }
        let Some((key, value)) = entry(content) else {
            if is_config {
                return Err(bad("not a name with a value"));
            }
            continue;
        };
        let value = match value.chars().next() {
            None => {
                path.push((indent, key.clone()));
                if is_config {
                    set(&mut whole, &path, String::new());
                }
                continue;
            }
            Some('|' | '>') => {
                let mut block = Vec::new();
                while let Some((_, next)) = lines.next_if(|(_, next)| {
                    next.trim().is_empty() || next.len() - next.trim_start().len() > indent
                }) {
                    block.push(next);
                }
                folded(value, &block)
            }
            _ => match scalar(value) {
                Some(value) => value,
                None if is_config => return Err(bad("a value of this form")),
                None => continue,
            },
        };
        path.push((indent, key));
        set(&mut whole, &path, value);
        path.pop();
    }
    Ok(Value::Object(whole))
}

fn is_within(path: &[(usize, String)], names: &[&str]) -> bool {
    path.len() >= names.len() && path.iter().zip(names).all(|((_, name), wanted)| name == wanted)
}

/// Stores a value of the resource under its path, if the import uses a value of this path.
fn set(whole: &mut Map<String, Value>, path: &[(usize, String)], value: String) {
    let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
    let place = match names.as_slice() {
        ["kind"] => whole,
        ["metadata", "name"] => object(whole, "metadata"),
        ["spec", "class" | "tasksMax"] => object(whole, "spec"),
        ["spec", "config", _] => object(object(whole, "spec"), "config"),
        _ => return,
    };
    if let Some(name) = names.last() {
        place.insert((*name).to_owned(), Value::String(value));
    }
}

/// The object under a name, made if it is missing.
fn object<'a>(whole: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = whole.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        other => unreachable!("made an object of it, and it is {other}"),
    }
}

/// Splits `key: value` of a YAML mapping. The value is empty if the entry has children, or no
/// value. `None` if the text is not an entry.
fn entry(content: &str) -> Option<(String, &str)> {
    let (key, rest) = match content.chars().next()? {
        quote @ ('"' | '\'') => {
            let end = closing(content, quote)?;
            let (key, rest) = content.split_at(end + 1);
            (scalar(key)?, rest.trim_start().strip_prefix(':')?)
        }
        _ => match content.split_once(": ") {
            Some((key, rest)) => (key.trim_end().to_owned(), rest),
            None => (content.strip_suffix(':')?.trim_end().to_owned(), ""),
        },
    };
    let rest = rest.trim();
    Some((key, if rest.starts_with('#') { "" } else { rest }))
}

/// Returns the index of the quote that ends the quoted scalar at the beginning of the text. `None`
/// if the scalar has no end.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => drop(chars.next()),
            '\'' if quote == '\'' && chars.next_if(|(_, next)| *next == '\'').is_some() => {}
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A scalar on one line. `None` for a form that is not read.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (quoted, after) = text.split_at(closing(text, quote)? + 1);
            let after = after.trim();
            if !after.is_empty() && !after.starts_with('#') {
                return None;
            }
            match quote {
                // The escapes that people write are those of JSON.
                '"' => serde_json::from_str(quoted).ok(),
                _ => {
                    let inner = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
                    Some(inner.replace("''", "'"))
                }
            }
        }
        Some('&' | '*' | '!' | '{' | '[' | '%' | '@' | '`' | '|' | '>' | '?') => None,
        _ => {
            let plain = text.split_once(" #").map_or(text, |(plain, _)| plain).trim_end();
            Some(if matches!(plain, "~" | "null") { String::new() } else { plain.to_owned() })
        }
    }
}

/// The text of a block scalar: its lines joined by breaks (`|`) or by blanks (`>`). Breaks at the
/// end are dropped, because no property needs them.
fn folded(head: &str, block: &[&str]) -> String {
    let join = if head.starts_with('|') { "\n" } else { " " };
    let lines: Vec<&str> = block.iter().map(|line| line.trim()).collect();
    lines.join(join).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r##"# kept in git
---
apiVersion: kafka.strimzi.io/v1beta2
kind: KafkaConnector
metadata:
  name: shop
  labels:
    strimzi.io/cluster: connect
  managedFields:
  - apiVersion: v1
    fieldsV1: {"f:spec": {}}
spec:
  class: io.debezium.connector.postgresql.PostgresConnector
  tasksMax: 1
  config:
    database.hostname: db.internal   # the writer
    database.port: 5432
    "database.user": 'it''s'
    database.password: "${file:/opt/kafka/db:password}"
    topic.prefix: shop

    table.include.list: >-
      public.orders,
      public.items
    column.exclude.list: "public\\.t\\.a,\tb"
    transforms:
    plugin.name: pgoutput
status:
  conditions:
  - type: Ready
"##;

    #[test]
    fn a_connector_is_read_from_the_yaml_of_its_resource() {
        assert!(is_yaml(YAML));
        let read = yaml(YAML).unwrap();
        let connector = connector(read.as_object().unwrap()).unwrap();
        assert_eq!(connector["name"], "shop");
        let expected = serde_json::json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "db.internal",
            "database.port": "5432",
            "database.user": "it's",
            "database.password": "${file:/opt/kafka/db:password}",
            "topic.prefix": "shop",
            "table.include.list": "public.orders, public.items",
            "column.exclude.list": "public\\.t\\.a,\tb",
            "transforms": "",
            "plugin.name": "pgoutput",
        });
        assert_eq!(connector["config"], expected);
    }

    #[test]
    fn a_form_that_is_not_read_is_refused_with_its_line() {
        for value in ["&a x", "*a", "!!str x", "{a: b}", "[a]", "\"x", "'x' y"] {
            let text = YAML.replace("5432", value);
            assert_eq!(yaml(&text).unwrap_err().line, 17, "{value}");
        }
        let split = YAML.replace("5432", "5432\n      more");
        assert_eq!(yaml(&split).unwrap_err().line, 18);
        let listed = YAML.replace("5432", "\n      - 5432");
        assert_eq!(yaml(&listed).unwrap_err().line, 18);
        assert!(yaml(&format!("{YAML}---\nkind: KafkaConnector\n")).is_err());
        assert!(!is_yaml("connector.class=x\nkind=KafkaConnector"));
    }

    #[test]
    fn other_resources_are_no_connectors() {
        let of = |json: serde_json::Value| connector(json.as_object().unwrap());
        assert_eq!(of(serde_json::json!({"kind": "KafkaTopic", "spec": {"config": {}}})), None);
        assert_eq!(of(serde_json::json!({"name": "c", "config": {}})), None);
        assert_eq!(of(serde_json::json!({"kind": "KafkaConnector", "spec": {}})), None);
    }
}
