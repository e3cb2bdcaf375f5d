//! Reads the files to import: a connector's JSON or YAML, properties of a connector or a worker,
//! or Debezium Server's properties.
//!
//! All become one list of properties under the names of Debezium's connector and Kafka Connect.
//! Each keeps its name in the file, because the operator looks for it there.

use super::{properties, strimzi};
use std::collections::BTreeMap;

/// One property, as it was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Name in Debezium's connector or in Connect.
    pub name: String,
    /// Name as written in the file, which Debezium Server's prefixes can make different.
    pub written: String,
    /// Value of the property, as text.
    pub value: String,
    /// True if it comes from a worker's file and not from a connector's.
    pub of_worker: bool,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file begins like JSON and is not JSON.
    #[error("{file}: not JSON: line {line}, column {column}")]
    Json {
        /// Name of the file.
        file: String,
        /// Line of the fault, counted from 1.
        line: usize,
        /// Column of the fault, counted from 1.
        column: usize,
    },
    /// The JSON does not have the shape of a connector's configuration.
    #[error(
        "{file}: `{at}` is no text, number or flag; a connector is {{\"name\": ..., \"config\": \
         {{...}}}} or its config alone"
    )]
    Shape {
        /// Name of the file.
        file: String,
        /// The part with another shape.
        at: String,
    },
    /// The YAML of a connector has a form that is not read.
    #[error("{file}: {fault}")]
    Yaml {
        /// Name of the file.
        file: String,
        /// The fault, with its line.
        fault: strimzi::BadYaml,
    },
    /// The properties file has a faulty escape.
    #[error("{file}: {fault}")]
    Properties {
        /// Name of the file.
        file: String,
        /// The fault, with its line.
        fault: properties::BadEscape,
    },
}

/// Prefix of a connector's properties in the file of Debezium Server.
const SERVER_SOURCE: &str = "debezium.source.";
const SERVER_PRODUCER: &str = "debezium.sink.kafka.producer.";

/// Properties that only a worker has. A file with one of them and without `connector.class` is a
/// worker's file.
const WORKER_MARKS: [&str; 4] =
    ["group.id", "config.storage.topic", "offset.storage.file.filename", "plugin.path"];

/// Reads files. A connector's property overrides the worker's property of the same name.
///
/// # Errors
/// One of the files cannot be read. The first such file is reported.
pub fn read(files: &[(String, String)]) -> Result<Vec<Given>, SourceError> {
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    let mut order = Vec::new();
    for (file, text) in files {
        for property in one(file, text)? {
            let overrides = given
                .get(&property.name)
                .is_none_or(|other| other.of_worker || !property.of_worker);
            if !given.contains_key(&property.name) {
                order.push(property.name.clone());
            }
            if overrides {
                given.insert(property.name.clone(), property);
            }
        }
    }
    Ok(order.iter().filter_map(|name| given.remove(name)).collect())
}

fn one(file: &str, text: &str) -> Result<Vec<Given>, SourceError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let pairs = if text.trim_start().starts_with('{') {
        json(file, text)?
    } else if strimzi::is_yaml(text) {
        let read = strimzi::yaml(text)
            .map_err(|fault| SourceError::Yaml { file: file.to_owned(), fault })?;
        pairs_of(file, &read)?
    } else {
        properties::read(text)
            .map_err(|fault| SourceError::Properties { file: file.to_owned(), fault })?
    };
    let is_server = pairs.iter().any(|(name, _)| name.starts_with(SERVER_SOURCE));
    let of_worker = !is_server
        && !pairs.iter().any(|(name, _)| name == "connector.class")
        && pairs.iter().any(|(name, _)| WORKER_MARKS.contains(&name.as_str()));
    Ok(pairs
        .into_iter()
        .map(|(written, value)| {
            let name = if is_server { server_name(&written) } else { written.clone() };
            Given { name, written, value, of_worker }
        })
        .collect())
}

/// Translates a name of Debezium Server into the name of the connector or of Connect.
fn server_name(written: &str) -> String {
    if let Some(rest) = written.strip_prefix(SERVER_SOURCE) {
        return rest.to_owned();
    }
    if let Some(rest) = written.strip_prefix(SERVER_PRODUCER) {
        return match rest {
            "bootstrap.servers" => rest.to_owned(),
            _ => format!("producer.{rest}"),
        };
    }
    if let Some(rest) = written.strip_prefix("debezium.")
        && ["transforms", "predicates"].iter().any(|list| rest.starts_with(list))
    {
        return rest.to_owned();
    }
    for part in ["key", "value"] {
        if let Some(rest) = written.strip_prefix(&format!("debezium.format.{part}.")) {
            return format!("{part}.converter.{rest}");
        }
    }
    written.to_owned()
}

fn json(file: &str, text: &str) -> Result<Vec<(String, String)>, SourceError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        SourceError::Json { file: file.to_owned(), line: error.line(), column: error.column() }
    })?;
    pairs_of(file, &value)
}

/// Returns the properties of a connector from JSON of any of these forms: as it is posted to
/// Connect, as `GET /connectors/NAME` or its `config` return it, as the only one of `GET
/// /connectors?expand=info`, or as a resource of Strimzi.
fn pairs_of(file: &str, value: &serde_json::Value) -> Result<Vec<(String, String)>, SourceError> {
    let shape = |at: &str| SourceError::Shape { file: file.to_owned(), at: at.to_owned() };
    let mut whole = value.as_object().ok_or_else(|| shape("the file"))?;
    let resource = strimzi::connector(whole);
    if let Some(connector) = &resource {
        whole = connector;
    }
    if let (Some((_, only)), 1) = (whole.iter().next(), whole.len())
        && let Some(info) = only.get("info").and_then(serde_json::Value::as_object)
    {
        whole = info;
    }
    let config = match whole.get("config") {
        Some(config) => config.as_object().ok_or_else(|| shape("config"))?,
        None => whole,
    };
    let mut pairs = Vec::new();
    if let Some(name) = whole.get("name").and_then(serde_json::Value::as_str)
        && !config.contains_key("name")
    {
        pairs.push(("name".to_owned(), name.to_owned()));
    }
    for (name, value) in config {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => return Err(shape(name)),
        };
        pairs.push((name.clone(), text));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<(String, String)> {
        let files: Vec<_> = files.iter().map(|text| ("f".to_owned(), (*text).to_owned())).collect();
        read(&files).unwrap().into_iter().map(|given| (given.name, given.value)).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_connector_comes_with_or_without_its_wrapper() {
        let wrapped = r#"{"name": "c", "config": {"topic.prefix": "shop", "tasks.max": 1, "read.only": true}}"#;
        let bare = r#"{"name": "c", "topic.prefix": "shop", "tasks.max": 1, "read.only": true}"#;
        let mut bare = names(&[bare]);
        bare.sort();
        let mut wrapped = names(&[wrapped]);
        wrapped.sort();
        assert_eq!(wrapped, bare);
        assert_eq!(bare[1], ("read.only".to_owned(), "true".to_owned()));
    }

    #[test]
    fn a_connector_comes_as_connect_and_kubernetes_show_it() {
        let expect = [("name", "c"), ("topic.prefix", "shop"), ("tasks.max", "1")];
        let shown = r#"{"name": "c", "config": {"topic.prefix": "shop", "tasks.max": "1"}, "tasks": [], "type": "source"}"#;
        let all = format!("{{\"c\": {{\"info\": {shown}}}}}");
        let resource = r#"{"kind": "KafkaConnector", "metadata": {"name": "c"},
            "spec": {"tasksMax": 1, "config": {"topic.prefix": "shop"}}, "status": {}}"#;
        let yaml = "kind: KafkaConnector\nmetadata:\n  name: c\nspec:\n  tasksMax: 1\n  config:\n    topic.prefix: shop\n";
        for text in [shown, &all, resource, yaml] {
            let (mut read, mut expect) = (names(&[text]), pairs(&expect));
            read.sort();
            expect.sort();
            assert_eq!(read, expect, "{text}");
        }
    }

    #[test]
    fn a_connector_overrides_its_worker() {
        let worker = "group.id=w\nkey.converter=json\nbootstrap.servers=k:1";
        let connector = "connector.class=x\nkey.converter=avro";
        let expect = pairs(&[
            ("group.id", "w"),
            ("key.converter", "avro"),
            ("bootstrap.servers", "k:1"),
            ("connector.class", "x"),
        ]);
        assert_eq!(names(&[worker, connector]), expect);
        let mut other = names(&[connector, worker]);
        let mut expect = expect;
        other.sort();
        expect.sort();
        assert_eq!(other, expect);
    }

    #[test]
    fn debezium_servers_names_become_the_connectors() {
        let server = "debezium.source.topic.prefix=shop\ndebezium.sink.kafka.producer.bootstrap.servers=k:1\n\
                      debezium.sink.kafka.producer.linger.ms=5\ndebezium.format.value=avro\n\
                      debezium.format.value.schema.registry.url=u\nquarkus.log.level=INFO";
        let expect = [
            ("topic.prefix", "shop"),
            ("bootstrap.servers", "k:1"),
            ("producer.linger.ms", "5"),
            ("debezium.format.value", "avro"),
            ("value.converter.schema.registry.url", "u"),
            ("quarkus.log.level", "INFO"),
        ];
        assert_eq!(names(&[server]), pairs(&expect));
    }

    #[test]
    fn other_shapes_are_told_with_their_place() {
        let fault =
            |text: &str| read(&[("f".to_owned(), text.to_owned())]).unwrap_err().to_string();
        assert_eq!(fault("{\"a\": 1,\n}"), "f: not JSON: line 2, column 1");
        assert!(fault("{\"a\": [1]}").starts_with("f: `a` is no text"));
        assert!(fault("{\"config\": 1}").starts_with("f: `config`"));
        assert!(fault("a=\\u1").starts_with("f: line 1"));
        let yaml = "kind: KafkaConnector\nspec:\n  config:\n    a: [1]\n";
        assert!(fault(yaml).starts_with("f: line 4"));
        let two = r#"{"a": {"info": {"config": {}}}, "b": {"info": {"config": {}}}}"#;
        assert!(fault(two).starts_with("f: `a` is no text"));
    }
}
