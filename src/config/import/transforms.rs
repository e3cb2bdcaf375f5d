//! Imports `transforms` and `predicates`: each Java class with its options becomes a
//! `[[transform]]`.
//!
//! An option without a counterpart is refused by its name, unless Debezium does not read it either.

use super::capture::expressions;
use super::source::Given;
use super::target::Target;
use super::{Input, predicates, scripts};

/// How the value of an option of a transform is translated.
#[derive(Clone, Copy)]
enum As {
    Text,
    Flag,
    List,
    /// One of these words of Debezium, each with our word.
    Words(&'static [(&'static str, &'static str)]),
    /// The column that names the topic. A row without a topic keeps its table's topic, as in
    /// Debezium.
    Route,
    /// The language of a script.
    Language,
    /// A condition, or an expression for a topic's name, in the language that the option `language`
    /// of the same transform names.
    Script,
    /// A number, which is written to the file without quotes.
    Number,
    /// The fields that choose the partition. `missing = "ignore"` is added, which treats a column
    /// that an old row lacks as Debezium does.
    Fields,
    /// The rules of a time zone. A rule without a prefix gets the prefix of the rule before it.
    Rules,
    /// An option that Debezium does not read either.
    Idle,
}

/// A Java class and our type of transform. An option keeps its Java name with `_` for `.`, unless
/// `NAMED` gives it another one.
struct Class {
    java: &'static str,
    ours: &'static str,
    /// Whether the class ends in `$Key` or `$Value`.
    has_sides: bool,
    options: &'static [(&'static str, As)],
}

/// Options with another name here: our type of transform, the Java name, and our name.
const NAMED: &[(&str, &str, &str)] = &[
    ("", "replace.null.with.default", "null_becomes_default"),
    ("unwrap", "delete.tombstone.handling.mode", "deletes"),
    ("unwrap", "route.by.field", "route"),
    ("unwrap", "drop.fields.header.name", "drop_fields_header"),
    ("unwrap", "drop.fields.keep.schema.compatible", "drop_fields_compatible"),
    ("logical-router", "topic.regex", "regex"),
    ("logical-router", "topic.replacement", "replacement"),
    ("logical-router", "key.enforce.uniqueness", "unique_keys"),
    ("logical-router", "key.field.name", "key_field"),
    ("logical-router", "schema.name.adjustment.mode", "schema_names"),
    ("filter", "topic.regex", "when_topic"),
    ("filter", "null.handling.mode", "nulls"),
    ("content-router", "topic.expression", "topic"),
    ("content-router", "topic.regex", "when_topic"),
    ("content-router", "null.handling.mode", "nulls"),
    ("replace-field", "renames", "rename"),
    ("schema-metadata", "schema.name", "name"),
    ("schema-metadata", "schema.version", "version"),
    ("insert-header", "value.literal", "value"),
    ("decode-message", "fields.null.include", "null_fields"),
    ("changed-fields", "header.changed.name", "changed"),
    ("changed-fields", "header.unchanged.name", "unchanged"),
    ("partition-routing", "partition.payload.fields", "fields"),
    ("partition-routing", "partition.topic.num", "partitions"),
    ("partition-routing", "partition.hash.function", "hash"),
    ("timezone", "converted.timezone", "zone"),
    ("timezone", "include.list", "include"),
    ("timezone", "exclude.list", "exclude"),
    ("outbox", "route.by.field", "route"),
    ("outbox", "route.topic.regex", "regex"),
    ("outbox", "route.topic.replacement", "replacement"),
    ("outbox", "table.field.event.id", "event_id"),
    ("outbox", "table.field.event.key", "event_key"),
    ("outbox", "table.field.event.payload", "payload"),
    ("outbox", "table.fields.additional.placement", "placement"),
    ("outbox", "table.field.event.timestamp", "timestamp"),
    ("outbox", "table.field.event.schema.version", "schema_version"),
    ("outbox", "table.field.additional.missing", "placement_missing"),
    ("outbox", "table.op.invalid.behavior", "updates"),
    ("outbox", "route.tombstone.on.empty.payload", "tombstones"),
    ("outbox", "table.expand.json.payload", "expand_json"),
    ("outbox", "table.json.payload.null.behavior", "json_nulls"),
    ("outbox", "table.json.payload.empty.array.behavior", "json_empty_lists"),
];

const CONNECT: &str = "org.apache.kafka.connect.transforms.";
const POSTGRES: &str = "io.debezium.connector.postgresql.transforms.";
const DEBEZIUM: &str = "io.debezium.transforms.";
const DEFAULTS: (&str, As) = ("replace.null.with.default", As::Flag);

/// Debezium's words for what an update of an outbox row causes, each with ours. `warn` and `error`
/// both lead to a warning in the log.
const UPDATES: &[(&str, &str)] = &[("warn", "warn"), ("error", "warn"), ("fatal", "halt")];

/// The hash functions. Debezium takes any other word as `java` without a message, and the import
/// refuses it.
const HASHES: &[(&str, &str)] = &[("java", "java"), ("murmur", "murmur")];

const GEOMETRIES: &[(&str, &str)] = &[("wkb", "wkb"), ("ewkb", "ewkb")];

const CLASSES: &[Class] = &[
    Class {
        java: "ExtractNewRecordState",
        ours: "unwrap",
        has_sides: false,
        options: &[
            ("delete.tombstone.handling.mode", As::Text),
            ("add.fields", As::List),
            ("add.fields.prefix", As::Text),
            ("add.headers", As::List),
            ("add.headers.prefix", As::Text),
            ("route.by.field", As::Route),
            ("drop.fields.header.name", As::Text),
            ("drop.fields.from.key", As::Flag),
            ("drop.fields.keep.schema.compatible", As::Flag),
            DEFAULTS,
        ],
    },
    Class {
        java: "Filter",
        ours: "filter",
        has_sides: false,
        options: &[
            ("language", As::Language),
            ("condition", As::Script),
            ("topic.regex", As::Text),
            ("null.handling.mode", As::Text),
        ],
    },
    Class {
        java: "ContentBasedRouter",
        ours: "content-router",
        has_sides: false,
        options: &[
            ("language", As::Language),
            ("topic.expression", As::Script),
            ("topic.regex", As::Text),
            ("null.handling.mode", As::Text),
        ],
    },
    Class {
        java: "ByLogicalTableRouter",
        ours: "logical-router",
        has_sides: false,
        options: &[
            ("topic.regex", As::Text),
            ("topic.replacement", As::Text),
            ("key.enforce.uniqueness", As::Flag),
            ("key.field.name", As::Text),
            ("key.field.regex", As::Text),
            ("key.field.replacement", As::Text),
            ("schema.name.adjustment.mode", As::Text),
        ],
    },
    Class {
        java: "HeaderToValue",
        ours: "header-to-value",
        has_sides: false,
        options: &[("headers", As::List), ("fields", As::List), ("operation", As::Text)],
    },
    Class {
        java: "outbox.EventRouter",
        ours: "outbox",
        has_sides: false,
        options: &[
            ("route.by.field", As::Text),
            ("route.topic.regex", As::Text),
            ("route.topic.replacement", As::Text),
            ("route.tombstone.on.empty.payload", As::Flag),
            ("table.field.event.id", As::Text),
            ("table.field.event.key", As::Text),
            ("table.field.event.payload", As::Text),
            ("table.field.event.type", As::Idle),
            ("table.fields.additional.placement", As::List),
            ("table.field.event.timestamp", As::Text),
            ("table.field.event.schema.version", As::Text),
            ("table.field.additional.missing", As::Text),
            ("table.expand.json.payload", As::Flag),
            ("table.json.payload.null.behavior", As::Text),
            ("table.json.payload.empty.array.behavior", As::Text),
            ("table.op.invalid.behavior", As::Words(UPDATES)),
        ],
    },
    Class {
        java: "ExtractChangedRecordState",
        ours: "changed-fields",
        has_sides: false,
        options: &[("header.changed.name", As::Text), ("header.unchanged.name", As::Text)],
    },
    Class {
        java: "partitions.PartitionRouting",
        ours: "partition-routing",
        has_sides: false,
        options: &[
            ("partition.payload.fields", As::Fields),
            ("partition.topic.num", As::Number),
            ("partition.hash.function", As::Words(HASHES)),
        ],
    },
    Class {
        java: "TimezoneConverter",
        ours: "timezone",
        has_sides: false,
        options: &[
            ("converted.timezone", As::Text),
            ("include.list", As::Rules),
            ("exclude.list", As::Rules),
        ],
    },
    Class {
        java: "GeometryFormatTransformer",
        ours: "geometry-format",
        has_sides: false,
        options: &[("format", As::Words(GEOMETRIES))],
    },
    Class {
        java: "SwapGeometryCoordinates",
        ours: "swap-coordinates",
        has_sides: false,
        options: &[("srids", As::List)],
    },
    Class { java: "VectorToJsonConverter", ours: "vector-to-json", has_sides: false, options: &[] },
    Class {
        java: "DecodeLogicalDecodingMessageContent",
        ours: "decode-message",
        has_sides: false,
        options: &[("fields.null.include", As::Flag)],
    },
    Class {
        java: "RegexRouter",
        ours: "regex-router",
        has_sides: false,
        options: &[("regex", As::Text), ("replacement", As::Text)],
    },
    Class {
        java: "TimestampRouter",
        ours: "timestamp-router",
        has_sides: false,
        options: &[("topic.format", As::Text), ("timestamp.format", As::Text)],
    },
    Class {
        java: "ReplaceField",
        ours: "replace-field",
        has_sides: true,
        options: &[("include", As::List), ("exclude", As::List), ("renames", As::List), DEFAULTS],
    },
    Class {
        java: "InsertField",
        ours: "insert-field",
        has_sides: true,
        options: &[
            ("topic.field", As::Text),
            ("static.field", As::Text),
            ("static.value", As::Text),
            DEFAULTS,
        ],
    },
    Class {
        java: "MaskField",
        ours: "mask-field",
        has_sides: true,
        options: &[("fields", As::List), ("replacement", As::Text), DEFAULTS],
    },
    Class {
        java: "ExtractField",
        ours: "extract-field",
        has_sides: true,
        options: &[("field", As::Text), DEFAULTS],
    },
    Class {
        java: "HoistField",
        ours: "hoist-field",
        has_sides: true,
        options: &[("field", As::Text)],
    },
    Class {
        java: "Flatten",
        ours: "flatten",
        has_sides: true,
        options: &[("delimiter", As::Text)],
    },
    Class { java: "Cast", ours: "cast", has_sides: true, options: &[("spec", As::List), DEFAULTS] },
    Class {
        java: "TimestampConverter",
        ours: "timestamp-converter",
        has_sides: true,
        options: &[
            ("field", As::Text),
            ("target.type", As::Text),
            ("format", As::Text),
            ("unix.precision", As::Text),
            DEFAULTS,
        ],
    },
    Class {
        java: "SetSchemaMetadata",
        ours: "schema-metadata",
        has_sides: true,
        options: &[("schema.name", As::Text), ("schema.version", As::Number), DEFAULTS],
    },
    Class {
        java: "ValueToKey",
        ours: "value-to-key",
        has_sides: false,
        options: &[("fields", As::List), DEFAULTS],
    },
    Class {
        java: "InsertHeader",
        ours: "insert-header",
        has_sides: false,
        options: &[("header", As::Text), ("value.literal", As::Text)],
    },
    Class {
        java: "DropHeaders",
        ours: "drop-headers",
        has_sides: false,
        options: &[("headers", As::List)],
    },
    Class {
        java: "HeaderFrom",
        ours: "header-from",
        has_sides: true,
        options: &[("fields", As::List), ("headers", As::List), ("operation", As::Text), DEFAULTS],
    },
    Class { java: "Filter", ours: "filter", has_sides: false, options: &[] },
];

impl Class {
    /// The class with this Java name, and the part of the record that its suffix names: `key`,
    /// `value` or none.
    fn of(java: &str) -> Option<(&'static Class, Option<&'static str>)> {
        let (name, side) = match java.rsplit_once('$') {
            Some((name, "Key")) => (name, Some("key")),
            Some((name, "Value")) => (name, Some("value")),
            _ => (java, None),
        };
        let is = |class: &&Class| {
            let home = match class.ours {
                "unwrap" | "logical-router" | "header-to-value" | "outbox" | "changed-fields"
                | "partition-routing" | "timezone" | "geometry-format" | "swap-coordinates"
                | "vector-to-json" => DEBEZIUM,
                "decode-message" => POSTGRES,
                _ if class.options.iter().any(|(_, form)| matches!(form, As::Language)) => DEBEZIUM,
                _ => CONNECT,
            };
            name.strip_prefix(home) == Some(class.java) && class.has_sides == side.is_some()
        };
        CLASSES.iter().find(is).map(|class| (class, side))
    }

    fn key(&self, option: &str) -> String {
        let named = NAMED
            .iter()
            .find(|(of, theirs, _)| (of.is_empty() || *of == self.ours) && *theirs == option);
        named.map_or_else(|| option.replace('.', "_"), |(.., ours)| (*ours).to_owned())
    }
}

/// Translates the list of transforms, each with its options.
pub(super) fn transforms(input: Input<'_>, given: &Given, target: &mut Target) {
    for (number, alias) in (1..).zip(expressions(&given.value)) {
        one(input, &format!("transforms.{alias}"), number, target);
    }
}

/// Refuses an option whose transform or predicate is not in the list. An option of a listed one is
/// translated together with its transform.
pub(super) fn option(input: Input<'_>, given: &Given, target: &mut Target) {
    let Some((list, rest)) = given.name.split_once('.') else { return };
    let aliases = expressions(input.or(list, ""));
    let is_listed = aliases
        .iter()
        .any(|alias| rest.strip_prefix(alias.as_str()).is_some_and(|r| r.starts_with('.')));
    if !is_listed {
        target.refuse(&given.written, format!("{list} does not name it"));
    }
}

fn one(input: Input<'_>, name: &str, number: usize, target: &mut Target) {
    let type_of = format!("{name}.type");
    let Some(java) = input.value(&type_of) else {
        return target.refuse(&type_of, "is missing");
    };
    let Some((class, side)) = Class::of(java.trim()) else {
        return target.refuse(&type_of, format!("there is no transform like {java} here"));
    };
    let section = format!("transform.{number}");
    target.text(&section, "type", class.ours, "");
    if let Some(side) = side {
        target.text(&section, "of", side, "");
    }
    let under = format!("{name}.");
    let language = input.or(&format!("{name}.language"), "").trim();
    let given = input.0.iter().filter_map(|given| Some((given, given.name.strip_prefix(&under)?)));
    for (given, option) in
        given.filter(|(_, option)| !matches!(*option, "type" | "predicate" | "negate"))
    {
        let Some((_, form)) = class.options.iter().find(|(theirs, _)| *theirs == option) else {
            target.refuse(&given.written, format!("is no option of {java} that has a counterpart"));
            continue;
        };
        let dropping = input.or(&format!("{name}.drop.fields.header.name"), "");
        if option.starts_with("drop.fields.") && dropping.trim().is_empty() {
            continue; // Without the header nothing is dropped.
        }
        let (key, value) = (class.key(option), given.value.trim());
        match form {
            As::Number => match value.parse::<i32>() {
                Ok(number) => target.raw(&section, &key, number.to_string(), ""),
                Err(_) => target.refuse(&given.written, "is no number"),
            },
            As::Text => target.text(&section, &key, value, ""),
            As::List => target.list(&section, &key, &expressions(value), ""),
            As::Flag => target.flag(&section, &key, value.eq_ignore_ascii_case("true"), ""),
            As::Words(words) => match words.iter().find(|(theirs, _)| value == *theirs) {
                Some((_, ours)) => target.text(&section, &key, ours, ""),
                None => target.refuse(&given.written, format!("has no value {value}")),
            },
            As::Fields => {
                target.list(&section, &key, &expressions(value), "");
                target.text(&section, "missing", "ignore", "");
            }
            As::Rules => match rules(value) {
                Some(rules) => target.list(&section, &key, &rules, ""),
                None => target.refuse(&given.written, "is a list that Debezium does not take"),
            },
            As::Route if value.is_empty() => {}
            As::Route => {
                target.text(&section, &key, value, "");
                target.text(&section, "route_missing", "own", "");
            }
            As::Language if scripts::is_translated(value) => {}
            As::Script => match scripts::translated(language, value) {
                Ok(expression) => target.text(&section, &key, &expression, ""),
                Err(why) => target.refuse(&given.written, why),
            },
            As::Language => target.refuse(&given.written, "has no counterpart"),
            As::Idle => target.idle(&given.written, "the transform does not read it"),
        }
    }
    let has_regex = class.key("topic.regex") == "when_topic"
        && input.value(&format!("{name}.topic.regex")).is_some();
    predicates::of_transform(input, name, (&section, has_regex), target);
}

/// The rules of a time zone, each with its own prefix. Debezium takes three parts in the first rule
/// alone. `None` if Debezium refuses the list.
fn rules(list: &str) -> Option<Vec<String>> {
    let (mut rules, mut common) = (Vec::new(), None::<String>);
    for (place, text) in expressions(list).into_iter().enumerate() {
        let parts: Vec<&str> = text.split(':').collect();
        let is_name = |part: &&str| {
            let is_known = |c: char| c.is_ascii_alphanumeric() || "\"._ \t".contains(c);
            !part.is_empty() && part.chars().all(is_known)
        };
        let is_taken = if place == 0 { 2..=3 } else { 1..=2 };
        if !parts.iter().all(is_name) || !is_taken.contains(&parts.len()) {
            return None;
        }
        // Debezium recognises a prefix in any case of letters, but obeys it only in lower case.
        let is_prefix =
            |part: &str| ["source", "topic"].iter().any(|it| part.eq_ignore_ascii_case(it));
        let rest = match parts.as_slice() {
            [first, rest @ ..] if is_prefix(first) && !rest.is_empty() => {
                common = Some((*first).to_owned());
                rest.join(":")
            }
            // If three parts have no prefix, the last part is ignored.
            all => all.iter().take(2).copied().collect::<Vec<_>>().join(":"),
        };
        let heeded = common.as_deref().filter(|common| matches!(*common, "source" | "topic"));
        rules.push(heeded.map_or(rest.clone(), |prefix| format!("{prefix}:{rest}")));
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::super::{ImportError, Loss, import};
    use super::*;
    use expect_test::expect;

    fn imported(more: &str) -> Result<String, ImportError> {
        let text = format!(
            "connector.class=io.debezium.connector.postgresql.PostgresConnector\nplugin.name=pgoutput\n\
             topic.prefix=shop\ndatabase.hostname=db\ndatabase.port=5432\ndatabase.user=u\ndatabase.dbname=app\n\
             database.sslmode=disable\nbootstrap.servers=k:9092\nsnapshot.mode=initial\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             key.converter=org.apache.kafka.connect.json.JsonConverter\n{more}"
        );
        Ok(import(&[("c.properties".to_owned(), text)], Loss::Refused)?.toml)
    }

    #[test]
    fn a_chain_with_predicates_is_translated_in_its_order() {
        let toml = imported(
            "transforms=unwrap, hide\npredicates=isA\n\
             transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState\n\
             transforms.unwrap.delete.tombstone.handling.mode=rewrite\ntransforms.unwrap.add.fields=op,lsn:at\n\
             transforms.hide.type=org.apache.kafka.connect.transforms.ReplaceField$Value\n\
             transforms.hide.exclude=a,b\ntransforms.hide.renames=v:w\ntransforms.hide.predicate=isA\n\
             transforms.hide.negate=true\n\
             predicates.isA.type=org.apache.kafka.connect.transforms.predicates.TopicNameMatches\n\
             predicates.isA.pattern=.*public.a",
        );
        let toml = toml.unwrap();
        let chain = toml.split_once("[[transform]]").unwrap().1.split("\n# Not").next().unwrap();
        expect![[r#"

            type = "unwrap"
            deletes = "rewrite"
            add_fields = ["op", "lsn:at"]

            [[transform]]
            type = "replace-field"
            of = "value"
            exclude = ["a", "b"]
            rename = ["v:w"]
            when_topic = ".*public.a"
            negate = true
        "#]]
        .assert_eq(chain);
    }

    #[test]
    fn a_transform_without_counterpart_is_refused() {
        let refused = |more: &str| match imported(more) {
            Err(ImportError::Refused { refused }) => {
                refused.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let outbox = "transforms=o\ntransforms.o.type=io.debezium.transforms.outbox.EventRouter\n\
                      transforms.o.table.expand.json.payload=true\n\
                      transforms.o.tracing.span.context.field=v";
        assert_eq!(refused(outbox), ["transforms.o.tracing.span.context.field"]);
        let unwrap =
            "transforms=u\ntransforms.u.type=io.debezium.transforms.ExtractNewRecordState\n";
        assert_eq!(
            refused(&format!("{unwrap}transforms.u.add.field=a")),
            ["transforms.u.add.field"]
        );
        let without_side =
            "transforms=r\ntransforms.r.type=org.apache.kafka.connect.transforms.ReplaceField";
        assert_eq!(refused(without_side), ["transforms.r.type"]);
    }

    #[test]
    fn conversions_and_topics_by_value_are_translated() {
        let toml = imported(
            "transforms=c,t,u,r\n\
             transforms.c.type=org.apache.kafka.connect.transforms.Cast$Value\n\
             transforms.c.spec=ts_ms:string\n\
             transforms.t.type=org.apache.kafka.connect.transforms.TimestampConverter$Value\n\
             transforms.t.field=ts_us\ntransforms.t.target.type=Timestamp\n\
             transforms.t.unix.precision=microseconds\n\
             transforms.u.type=io.debezium.transforms.ExtractNewRecordState\n\
             transforms.u.route.by.field=region\n\
             transforms.r.type=org.apache.kafka.connect.transforms.TimestampRouter\n\
             transforms.r.timestamp.format=yyyy-MM",
        );
        let toml = toml.unwrap();
        let chain = toml.split_once("[[transform]]").unwrap().1.split("\n# Not").next().unwrap();
        expect![[r#"

            type = "cast"
            of = "value"
            spec = ["ts_ms:string"]

            [[transform]]
            type = "timestamp-converter"
            of = "value"
            field = "ts_us"
            target_type = "Timestamp"
            unix_precision = "microseconds"

            [[transform]]
            type = "unwrap"
            route = "region"
            route_missing = "own"

            [[transform]]
            type = "timestamp-router"
            timestamp_format = "yyyy-MM"
        "#]]
        .assert_eq(chain);
    }

    #[test]
    fn debeziums_transforms_of_records_are_translated() {
        let toml = imported(
            "transforms=c,u,p,z,g,s,v\n\
             transforms.c.type=io.debezium.transforms.ExtractChangedRecordState\n\
             transforms.c.header.unchanged.name=same\n\
             transforms.u.type=io.debezium.transforms.ExtractNewRecordState\n\
             transforms.u.drop.fields.header.name=same\n\
             transforms.u.drop.fields.keep.schema.compatible=false\n\
             transforms.p.type=io.debezium.transforms.partitions.PartitionRouting\n\
             transforms.p.partition.payload.fields=change.region,op\n\
             transforms.p.partition.topic.num=12\n\
             transforms.p.partition.hash.function=murmur\n\
             transforms.z.type=io.debezium.transforms.TimezoneConverter\n\
             transforms.z.converted.timezone=+05:30\n\
             transforms.z.include.list=source:orders:at,items:seen\n\
             transforms.g.type=io.debezium.transforms.GeometryFormatTransformer\n\
             transforms.g.format=ewkb\n\
             transforms.s.type=io.debezium.transforms.SwapGeometryCoordinates\n\
             transforms.s.srids=4326\n\
             transforms.v.type=io.debezium.transforms.VectorToJsonConverter",
        );
        let toml = toml.unwrap();
        let chain = toml.split_once("[[transform]]").unwrap().1.split("\n# Not").next().unwrap();
        expect![[r#"

            type = "changed-fields"
            unchanged = "same"

            [[transform]]
            type = "unwrap"
            drop_fields_header = "same"
            drop_fields_compatible = false

            [[transform]]
            type = "partition-routing"
            fields = ["change.region", "op"]
            missing = "ignore"
            partitions = 12
            hash = "murmur"

            [[transform]]
            type = "timezone"
            zone = "+05:30"
            include = ["source:orders:at", "source:items:seen"]

            [[transform]]
            type = "geometry-format"
            format = "ewkb"

            [[transform]]
            type = "swap-coordinates"
            srids = ["4326"]

            [[transform]]
            type = "vector-to-json"
        "#]]
        .assert_eq(chain);
    }

    /// Each list has the rules that Debezium 3.7.0.Final reads from it, or `None` if it refuses the
    /// list.
    #[test]
    fn the_rules_of_a_zone_are_those_that_debezium_reads() {
        for (list, read) in [
            ("source:t", Some(vec!["source:t"])),
            ("source:t, source:u", Some(vec!["source:t", "source:u"])),
            ("source:t:v,t:w", Some(vec!["source:t:v", "source:t:w"])),
            ("topic:p.s.t:v,u", Some(vec!["topic:p.s.t:v", "topic:u"])),
            ("t:v", Some(vec!["t:v"])),
            ("a:b:c", Some(vec!["a:b"])),
            ("Source:t:v", Some(vec!["t:v"])),
            ("t", None),
            ("source:t:v,source:u:v", None),
            ("topic:p.s-t:v", None),
        ] {
            let read = read.map(|read| read.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(rules(list), read, "{list}");
        }
    }

    #[test]
    fn the_drop_options_mean_nothing_without_a_header() {
        let toml = imported(
            "transforms=u\ntransforms.u.type=io.debezium.transforms.ExtractNewRecordState\n\
             transforms.u.drop.fields.from.key=true\n\
             transforms.u.drop.fields.keep.schema.compatible=true",
        );
        assert!(!toml.unwrap().contains("drop_fields"));
        let refused = imported(
            "transforms=p\ntransforms.p.type=io.debezium.transforms.partitions.PartitionRouting\n\
             transforms.p.partition.payload.fields=op\ntransforms.p.partition.topic.num=many\n\
             transforms.p.partition.hash.function=crc",
        );
        let Err(ImportError::Refused { refused }) = refused else { panic!("{refused:?}") };
        let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
        let under = "transforms.p.partition.";
        assert_eq!(names, [format!("{under}topic.num"), format!("{under}hash.function")]);
    }

    #[test]
    fn every_option_has_a_key_that_the_parser_knows() {
        for class in CLASSES {
            for (option, form) in class.options {
                let key = class.key(option);
                assert!(matches!(form, As::Idle) || !key.contains('.'), "{} {option}", class.java);
            }
        }
    }
}
