//! Examples of the reference: one for each section whose keys alone do not show how it is written.
//!
//! A test reads each of them as a part of a configuration file, so that none can differ from the
//! code.

/// The sections with an example, and the example as a part of the file.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "tables",
        r#"[tables]
include = ["public.orders", "shop_*.*", 'regex:audit\.(y|m)[0-9]+']
exclude = ["*.tmp_*"]"#,
    ),
    (
        "keys",
        r#"[keys]
"public.orders" = ["region", "id"]
"audit.*" = ["event_id"]"#,
    ),
    (
        "events",
        r#"[events]
format = "json"           # without a registry; "avro" is the default and needs [registry]
decimals = "string""#,
    ),
    (
        "kafka.client",
        r#"[kafka.client]
"client.id" = "wellspring-shop"
"compression.type" = "zstd"
"message.max.bytes" = 2000000"#,
    ),
    (
        "masks",
        r#"[masks.card]
columns = ["public.orders.card"]
method = "stars"
length = 8

[masks.mail]
columns = ['regex:.*\.email']
method = "hash"
salt = "${env:MASK_SALT}""#,
    ),
    (
        "topics.group",
        r#"[topics.group.busy]
include = ['regex:shop\.public\.(orders|items)']
partitions = 12
cleanup_policy = "compact"
extra = { "min.insync.replicas" = "2" }"#,
    ),
    (
        "snapshot.where",
        r#"[snapshot.where]
"public.orders" = "created_at >= date '2024-01-01'""#,
    ),
    (
        "snapshot.query",
        r#"[snapshot.query]
"public.customers" = "SELECT * FROM public.customers WHERE NOT is_test""#,
    ),
];

/// The example of a section as a part of the page. Empty if its keys show how it is written.
pub(super) fn block(section: &str) -> String {
    let example = EXAMPLES.iter().find(|(name, _)| *name == section);
    example.map_or_else(String::new, |(_, text)| format!("\n```toml\n{text}\n```\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, check};

    /// The sections that every file has, with the least that they need.
    const NEEDED: [(&str, &str); 4] = [
        ("postgres", "[postgres]\nurl = \"postgresql://u@h/d\""),
        ("tables", "[tables]\ninclude = [\"public.*\"]"),
        ("topics", "[topics]\nprefix = \"shop\""),
        ("events", "[events]\nformat = \"json\""),
    ];

    #[test]
    fn each_example_is_a_part_of_a_correct_file() {
        let environment = Environment::from([("MASK_SALT".to_owned(), "pepper".to_owned())]);
        for (section, example) in EXAMPLES {
            let needed = NEEDED.iter().filter(|(name, _)| name != section);
            let mut parts: Vec<&str> = needed.map(|(_, text)| *text).collect();
            parts.extend(["[kafka]\nbrokers = [\"h:9092\"]", example]);
            let text = parts.join("\n");
            let read = check("w.toml", &text, &environment);
            assert!(
                read.is_ok(),
                "{section}: {}",
                read.err().map_or(String::new(), |e| e.to_string())
            );
        }
    }
}
