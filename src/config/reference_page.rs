//! The reference of the configuration: accepted values, default and purpose of each key.
//!
//! Accepted values and defaults come from the parsers themselves, so they cannot differ from the
//! code. Only the sentence of each key is written by hand, in `about`. A test checks that every key
//! has one.

use super::about::{ABOUT, MAPS};
use super::reader::{Described, Reader};
use super::show::SECTIONS;
use super::{document, examples};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

const HEAD: &str = "# Configuration

The configuration is one TOML file, by default `wellspring.toml`. `--config FILE` or
`WELLSPRING_CONFIG` names another file. An environment variable can set a key, and wins over the
file: `WELLSPRING_KAFKA__BROKERS=a:9092,b:9092` sets `kafka.brokers`. In a text, `${env:NAME}`
stands for a variable of the environment, and `${file:/path}` for the content of a file. An unknown
key is an error, and all errors are reported at once. `wellspring config show` prints the effective
value of each key with its origin; secrets are masked.

`wellspring config reference` prints this page, and a test keeps the page equal to the code. The
JSON schema for editors is `schemas/wellspring.schema.json`.
";

/// Every key with what it accepts, sorted by name. Also the sections whose keys the operator names.
fn keys() -> (BTreeMap<String, Described>, Vec<&'static str>) {
    let environment = BTreeMap::new();
    // Every section reads all its keys even after a fault, so reading an empty file visits every
    // key.
    let (empty, _) = document::read("", &environment);
    let mut reader = Reader::new(empty, &environment);
    let _ = super::read_all(&mut reader);
    reader.described()
}

fn about(key: &str) -> &'static str {
    ABOUT.iter().chain(MAPS).find(|(name, _)| *name == key).map_or("", |(_, about)| about)
}

/// The reference as a page in Markdown: `docs/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let (keys, maps) = keys();
    let mut page = HEAD.to_owned();
    // Writing to a String cannot fail.
    let mut sections = SECTIONS.to_vec();
    for section in keys
        .keys()
        .map(|key| key.rsplit_once('.').map_or("", |(of, _)| of))
        .chain(maps.iter().copied())
    {
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for section in sections {
        let title = if section.is_empty() {
            "Outside of any section".to_owned()
        } else {
            format!("[{section}]")
        };
        let _ = write!(page, "\n## {title}\n\n");
        if maps.contains(&section) {
            let _ = write!(page, "{}\n{}", about(section), examples::block(section));
            continue;
        }
        page.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        let is_here = |key: &str| key.rsplit_once('.').map_or("", |(of, _)| of) == section;
        let mut here: Vec<(&String, &Described)> =
            keys.iter().filter(|(key, _)| is_here(key)).collect();
        here.sort_by_key(|(key, described)| !default(key, described).starts_with("**"));
        for (key, described) in here {
            let name = key.rsplit('.').next().unwrap_or(key);
            let _ = writeln!(
                page,
                "| `{name}` | {} | {} | {} |",
                described.expected,
                default(key, described),
                about(key)
            );
        }
        page.push_str(&examples::block(section));
    }
    page
}

fn default(key: &str, described: &Described) -> String {
    match (&described.default, described.required, key) {
        // These defaults follow from the prefix.
        (_, _, "postgres.slot") => {
            "`wellspring_<prefix>` in lower case, with `_` for other characters".to_owned()
        }
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

/// The reference as a JSON schema for editors: `schemas/wellspring.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let (keys, maps) = keys();
    let mut top = Map::new();
    let mut sections: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (key, described) in &keys {
        let property = property(key, described);
        match key.split_once('.') {
            Some((section, name)) => {
                drop(sections.entry(section).or_default().insert(name.to_owned(), property))
            }
            None => drop(top.insert(key.clone(), property)),
        }
    }
    for map in maps {
        let property = match map {
            "transform" => json!({
                "description": about(map),
                "type": "array",
                "items": { "type": "object", "required": ["type"] },
            }),
            _ => json!({
                "description": about(map),
                "type": "object",
                "additionalProperties": values_of(map),
            }),
        };
        match map.split_once('.') {
            Some((section, name)) => {
                drop(sections.entry(section).or_default().insert(name.to_owned(), property))
            }
            None => drop(top.insert(map.to_owned(), property)),
        }
    }
    for (section, properties) in sections {
        let of =
            json!({ "type": "object", "additionalProperties": false, "properties": properties });
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

/// Schema of the values in a section whose keys the operator names.
fn values_of(map: &str) -> Value {
    match map {
        "masks" | "topics.group" => json!({ "type": "object" }),
        "keys" => json!({ "type": "array", "items": { "type": "string" } }),
        _ => json!({ "type": ["string", "number", "boolean"] }),
    }
}

fn property(key: &str, described: &Described) -> Value {
    let mut property = Map::new();
    property.insert(
        "description".to_owned(),
        format!("{} Takes {}.", about(key), described.expected).into(),
    );
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
    if let Some(default) = described
        .default
        .as_deref()
        .filter(|_| !matches!(key, "postgres.slot" | "postgres.publication" | "state_file"))
    {
        // The default is TOML. Where JSON has the same form it is parsed, and otherwise it stays a
        // text.
        property.insert(
            "default".to_owned(),
            serde_json::from_str(default).unwrap_or_else(|_| default.into()),
        );
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
        let read: BTreeSet<&str> = keys.keys().map(String::as_str).collect();
        let described: BTreeSet<&str> = ABOUT.iter().map(|(key, _)| *key).collect();
        assert_eq!(read, described);
        assert_eq!(
            maps.iter().copied().collect::<BTreeSet<_>>(),
            MAPS.iter().map(|(map, _)| *map).collect()
        );
        assert!(keys.values().all(|key| !key.expected.is_empty()));
    }

    #[test]
    fn the_schema_takes_what_the_parsers_take() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let of =
            |section: &str, key: &str| schema["properties"][section]["properties"][key].clone();
        assert_eq!(of("tables", "include")["type"], "array");
        assert_eq!(of("topics", "partitions")["type"], "integer");
        assert_eq!(of("topics", "create")["type"], "boolean");
        assert_eq!(of("topics", "create")["default"], true);
        assert_eq!(of("events", "format")["enum"], json!(["avro", "json", "json-schema"]));
        assert_eq!(of("limits", "memory")["type"], "string");
        assert_eq!(of("registry", "url")["anyOf"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            of("topics", "cleanup_policy")["enum"],
            json!(["delete", "compact", "compact,delete"])
        );
    }

    #[test]
    fn the_schema_knows_every_map_and_the_form_of_its_values() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        assert_eq!(schema["properties"]["transform"]["items"]["type"], "object");
        for (map, _) in MAPS.iter().filter(|(map, _)| *map != "transform") {
            let pointer = format!(
                "/properties/{}/additionalProperties/type",
                map.replace('.', "/properties/")
            );
            let expected = match *map {
                "keys" => json!("array"),
                "masks" | "topics.group" => json!("object"),
                _ => json!(["string", "number", "boolean"]),
            };
            assert_eq!(schema.pointer(&pointer), Some(&expected), "{map}");
        }
    }
}
