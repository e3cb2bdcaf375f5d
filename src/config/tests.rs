//! Golden tests of the whole file: the text of each fault, the precedence of values, and that no
//! secret is printed.

use super::*;
use crate::snapshot::Mode;
use crate::table::TableName;
use expect_test::{Expect, expect};

/// The shortest valid configuration.
const SHORTEST: &str = r#"
[postgres]
url = "postgresql://wellspring@db.internal/shop"
[tables]
include = ["public.orders"]
[topics]
prefix = "Shop.eu1"
[registry]
url = "http://registry:8081"
[kafka]
brokers = ["kafka:9092"]
[snapshot]
mode = "initial"
"#;

pub(super) fn with(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Faults> {
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    super::check("w.toml", text, &environment)
}

/// Checks the text of the faults that the shortest configuration has after these lines are
/// replaced.
#[track_caller]
pub(super) fn check(replace: &[(&str, &str)], environment: &[(&str, &str)], expect: Expect) {
    let text = replaced(replace);
    expect.assert_eq(
        &with(&text, environment)
            .map_or_else(|faults| faults.to_string(), |_| "no fault".to_owned()),
    );
}

#[track_caller]
pub(super) fn replaced(replace: &[(&str, &str)]) -> String {
    replace.iter().fold(SHORTEST.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

#[test]
fn the_shortest_file_gives_a_whole_configuration() {
    let loaded = with(SHORTEST, &[]).unwrap();
    expect![[r#"
        sink = "kafka"                                           # default

        [postgres]
        url = "postgresql://wellspring@db.internal/shop"         # w.toml:3
        slot = "wellspring_shop_eu1"                             # default
        publication = "wellspring_shop_eu1"                      # default
        create_publication = true                                # default
        origin = "any"                                           # default
        failover = false                                         # default
        sslmode = "verify-full"                                  # default

        [tables]
        include = ["public.orders"]                              # w.toml:5
        exclude = []                                             # default
        namespaces = []                                          # default
        exclude_namespaces = []                                  # default
        partitions = "root"                                      # default
        later = "reload"                                         # default

        [columns]
        include = []                                             # default
        exclude = []                                             # default
        excluded_keys = "refuse"                                 # default
        source_types = []                                        # default
        source_types_of = []                                     # default
        keys_outside_identity = "refuse"                         # default

        [topics]
        prefix = "Shop.eu1"                                      # w.toml:7
        unique_keys = true                                       # default
        key_field = "__dbz__physicalTableIdentifier"             # default
        delimiter = "."                                          # default
        create = true                                            # default
        cleanup_policy = "delete"                                # default

        [events]
        inserts = true                                           # default
        updates = true                                           # default
        deletes = true                                           # default
        unchanged = true                                         # default
        schema_names = "none"                                    # default
        field_names = "none"                                     # default
        transactions = false                                     # default
        message_prefixes = []                                    # default
        exclude_message_prefixes = []                            # default
        format = "avro"                                          # default
        tombstones = true                                        # default
        truncates = true                                         # default
        messages = true                                          # default
        context_headers = true                                   # default
        identity_headers = false                                 # default
        placeholder = "__debezium_unavailable_value"             # default
        time = "adaptive"                                        # default
        decimals = "precise"                                     # default
        intervals = "numeric"                                    # default
        hstore = "json"                                          # default
        binary = "bytes"                                         # default
        money_digits = 2                                         # default
        unknown_types = "text"                                   # default
        on_refusal = "stop"                                      # default

        [registry]
        url = "http://registry:8081"                             # w.toml:9
        insecure = false                                         # default
        timeout = "15s"                                          # default
        auto_register = true                                     # default

        [kafka]
        brokers = ["kafka:9092"]                                 # w.toml:11
        insecure = false                                         # default

        [snapshot]
        mode = "initial"                                         # w.toml:13
        skip = []                                                # default
        order = []                                               # default

        [limits]
        memory = "32MiB"                                         # default
        quarantine = "60s"                                       # default
        shutdown = "30s"                                         # default
        ready_lag = "60s"                                        # default

        [admin]
        listen = "127.0.0.1:9630"                                # default

        [log]
        format = "text"                                          # default
        level = "info"                                           # default
        notifications = false                                    # default
    "#]]
    .assert_eq(&loaded.shown.to_string());
}

#[test]
fn names_the_key_that_was_meant() {
    check(
        &[("prefix =", "perfix =")],
        &[],
        expect!["w.toml:7:1: topics.perfix: unknown key; did you mean `prefix`?"],
    );
    check(
        &[("[topics]", "[topcis]")],
        &[],
        expect!["w.toml:6:2: topcis: unknown section; did you mean `topics`?"],
    );
    // The misspelled section does not give `topics.prefix`, so that key is reported as missing too.
    check(
        &[("[topics]\nprefix", "[topcis]\npartitions = 1\n[admin]\nready_lag")],
        &[],
        expect![[r#"
            w.toml:6:2: topcis: unknown section; did you mean `topics`?
            w.toml:9:1: admin.ready_lag: unknown key; did you mean `limits.ready_lag`?
            w.toml: topics.prefix: is missing; write prefix = "shop": topics are then shop.public.orders"#]],
    );
    // `kafka.brokers` is missing, so it is suggested before the similar `snapshot.workers`.
    check(
        &[
            ("[kafka]\nbrokers = [\"kafka:9092\"]\n", ""),
            ("mode = ", "brokers = [\"a:1\"]\nmode = "),
        ],
        &[],
        expect!["w.toml:11:1: snapshot.brokers: unknown key; did you mean `kafka.brokers`?"],
    );
    check(
        &[("mode = \"initial\"", "mode = \"initial\"\nbrokers = [\"a:1\"]")],
        &[],
        expect!["w.toml:14:1: snapshot.brokers: unknown key; did you mean `workers`?"],
    );
    check(
        &[("[snapshot]", "[regstry]\nurl = \"x\"\nca = \"y\"\n[snapshot]")],
        &[],
        expect!["w.toml:12:2: regstry: unknown section; did you mean `registry`?"],
    );
    check(
        &[("[snapshot]", "[foo.bar]\nurl = \"x\"\n[snapshot]")],
        &[],
        expect![
            "w.toml:12:2: foo: unknown section; the sections are admin, columns, events, \
             heartbeat, kafka, limits, log, postgres, registry, snapshot, tables, topics"
        ],
    );
}

#[test]
fn reports_every_fault_at_once() {
    let faulty = [
        ("[\"public.orders\"]", "\"orders\""),
        ("prefix = \"Shop.eu1\"", "prefix = \"sh op\"\npartitions = \"six\""),
        ("[\"kafka:9092\"]", "[\"kafka\"]\n[kafka.client]\nacks = 1\nlinger.ms = \"soon\""),
        (
            "mode = \"initial\"",
            "\n[limits]\nmemory = 32\nquarantine = \"1 week\"\nshutdwn = \"1s\"",
        ),
    ];
    check(
        &faulty,
        &[],
        expect![[r#"
            w.toml:5:1: tables.include: expected a list of texts, such as ["a", "b"]; found "orders"
            w.toml:7:1: topics.prefix: a topic's name has letters a-z and A-Z, digits, `.`, `_` and `-`, not beginning with a dot; at most 120 for the prefix
            w.toml:8:1: topics.partitions: expected a whole number from 1 to 10000, without quotes; found "six"
            w.toml:12:1: kafka.brokers: expected host:port in each entry; 1 of 1 are not
            w.toml:14:1: kafka.client.acks: `acks` cannot be set: pinned to `all`: an LSN is confirmed to Postgres only for records every in-sync replica holds
            w.toml:15:8: kafka.client.linger.ms: `linger.ms` is refused by librdkafka: Invalid value for configuration property "queue.buffering.max.ms"
            w.toml:19:1: limits.memory: expected a size from 4MiB to 64GiB with its unit, such as "32MiB" (KiB, MiB, GiB); found 32
            w.toml:20:1: limits.quarantine: expected a duration from 0ns to 86400s with its unit, such as "30s" (ms, s, m, h, d); found "1 week"
            w.toml:21:1: limits.shutdwn: unknown key; did you mean `shutdown`?"#]],
    );
}

#[test]
fn says_what_is_missing_and_what_to_write() {
    expect![[r#"
        w.toml: kafka.brokers: is missing; write brokers = ["host:9092"]
        w.toml: postgres.url: is missing; write url = "postgresql://user@host:5432/database"
        w.toml: tables.include: is missing; write include = ["public.orders", "inventory.*"]
        w.toml: topics.prefix: is missing; write prefix = "shop": topics are then shop.public.orders"#]]
    .assert_eq(&with("", &[]).unwrap_err().to_string());
}

#[test]
fn an_avro_namespace_is_stricter_than_a_topic() {
    check(
        &[("Shop.eu1", "Shop.eu-1")],
        &[],
        expect![[
            r#"w.toml:7:1: topics.prefix: with Avro each part of the prefix is part of a namespace: a letter or _, then letters, digits and _; `eu-1` is not; events.schema_names = "avro" adjusts it"#
        ]],
    );
    let json = "[registry]\nurl = \"http://registry:8081\"";
    check(
        &[("Shop.eu1", "Shop.eu-1"), (json, "[events]\nformat = \"json\"")],
        &[],
        expect!["no fault"],
    );
}

#[test]
fn says_what_is_wrong_with_a_copys_settings() {
    check(
        &[("\"initial\"", "\"none\"")],
        &[],
        expect![[
            r#"w.toml:13:1: snapshot.mode: expected one of "initial", "no_data", "initial_only", "always", "when_needed", "windows"; found "none""#
        ]],
    );
    let more = "mode = \"initial\"\nworkers = 0\nrows_per_second = \"fast\"\nskip = \
                [\"orders\"]\nwere = 1\n\
                signal_table = \"signals\"\n\
                [snapshot.where]\n\"public.orders\" = \"id > \
                1\"\n[snapshot.query]\n\"public.orders\" = \"select 1\"";
    check(
        &[("mode = \"initial\"", more)],
        &[],
        expect![[r#"
            w.toml:14:1: snapshot.workers: expected a whole number from 1 to 16, without quotes; found 0
            w.toml:15:1: snapshot.rows_per_second: expected a whole number from 1 to 100000000, without quotes; found "fast"
            w.toml:16:1: snapshot.skip: `orders`: a table is `namespace.name`, such as public.orders
            w.toml:17:1: snapshot.were: unknown key; did you mean `snapshot.mode`?
            w.toml:18:1: snapshot.signal_table: expected the name of one table as namespace.name, in quotes; found "signals"
            w.toml:20:1: snapshot.where.public.orders: the table has a query too, which is read instead of it: put the condition there"#]],
    );
}

#[test]
fn takes_a_copys_settings() {
    let more = "mode = \"when_needed\"\nworkers = 3\nrows_per_second = 1000\nskip = \
                [\"public.log_*\"]\n\
                order = [\"public.orders\"]\n[snapshot.where]\n\"public.orders\" = \"id > 1\"\n\
                [snapshot.query]\n\"public.items\" = \"select * from items\"";
    let copies = with(&replaced(&[("mode = \"initial\"", more)]), &[]).unwrap().checked.snapshot;
    assert_eq!(
        (copies.mode, copies.workers, copies.rows_per_second),
        (Mode::WhenNeeded, 3, Some(1000))
    );
    assert!(
        copies.skips(&TableName::new("public", "log_1"))
            && !copies.skips(&TableName::new("public", "orders"))
    );
    assert_eq!(copies.order, ["public.orders"]);
    assert_eq!(copies.conditions["public.orders"], "id > 1");
    assert_eq!(copies.queries["public.items"], "select * from items");
    let default =
        with(&replaced(&[("[snapshot]\nmode = \"initial\"", "")]), &[]).unwrap().checked.snapshot;
    assert_eq!((default.mode, default.rows_per_second), (Mode::Initial, None));
    assert!(!default.skips(&TableName::new("public", "orders")));
}

#[test]
fn keeps_its_bearings_in_a_broken_file() {
    check(
        &[("\"postgresql://wellspring@db.internal/shop\"", "postgresql://u:hunter2@h/d")],
        &[],
        expect!["w.toml:3:7: not TOML: string values must be quoted, expected literal string"],
    );
    check(
        &[("prefix =", "prefix")],
        &[],
        expect!["w.toml:7:8: not TOML: key with no value, expected `=`"],
    );
    check(
        &[("[tables]", "[tables]\ninclude = []")],
        &[],
        expect![[r#"
        w.toml:5:1: tables.include: is empty; write include = ["public.orders", "inventory.*"]
        w.toml:6:1: not TOML: duplicate key"#]],
    );
    check(
        &[("[registry]", "registry = 1\n[limits")],
        &[],
        expect![[r#"
        w.toml:8:1: topics.registry: unknown key
        w.toml:9:8: not TOML: unclosed table, expected `]`"#]],
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("WELLSPRING_KAFKA__BROKERS", "a:1, b:2"),
        ("WELLSPRING_TABLES__INCLUDE", "[\"public.*\"]"),
        ("WELLSPRING_KAFKA__CLIENT__COMPRESSION_TYPE", "zstd"),
        ("WELLSPRING_TOPICS__PARTITIONS", "6"),
        ("WELLSPRING_EVENTS__TOMBSTONES", "false"),
        ("WELLSPRING_LOG__LEVEL", ""),
        ("WELLSPRING_SERVICE_HOST", "10.0.0.1"),
        ("WELLSPRING_PORT_9630_TCP", "tcp://10.0.0.1:9630"),
    ];
    let loaded = with(SHORTEST, &environment).unwrap();
    let SinkConfig::Kafka(kafka) = &loaded.checked.sink else { panic!() };
    assert_eq!(kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(kafka.client["compression.type"], "zstd");
    assert_eq!(kafka.topics.partitions, 6);
    assert!(!loaded.checked.encode.tombstones);
    assert!(loaded.shown.to_string().contains("# WELLSPRING_KAFKA__CLIENT__COMPRESSION_TYPE"));
}

#[test]
fn everything_can_come_from_the_environment() {
    let environment = [
        ("WELLSPRING_SINK", "stdout"),
        ("WELLSPRING_POSTGRES__URL", "postgresql://u@h/d"),
        ("WELLSPRING_TABLES__INCLUDE", "public.*"),
        ("WELLSPRING_TOPICS__PREFIX", "p"),
        ("WELLSPRING_SNAPSHOT__MODE", "no_data"),
    ];
    with("", &environment).unwrap();
    let names: Environment =
        environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert!(load(Path::new("/does/not/exist.toml"), true, &names).is_ok());
    assert!(matches!(
        load(Path::new("/does/not/exist.toml"), false, &names),
        Err(ConfigError::Unreadable { .. })
    ));
}

#[test]
fn a_fault_of_the_environment_names_its_variable() {
    let environment = [
        ("WELLSPRING_KAFKA__BROKRES", "a:1"),
        ("WELLSPRING_LIMITS__MEMORY", "32"),
        ("WELLSPRING_SINK", "null"),
    ];
    check(
        &[],
        &environment,
        expect![[r#"
            environment WELLSPRING_KAFKA__BROKRES: kafka.brokres: unknown key; did you mean `brokers`?
            environment WELLSPRING_LIMITS__MEMORY: limits.memory: expected a size from 4MiB to 64GiB with its unit, such as "32MiB" (KiB, MiB, GiB); found "32"
            environment WELLSPRING_SINK: sink: expected one of "kafka", "stdout"; found "null""#]],
    );
}

#[test]
fn a_variable_that_is_not_utf_8_is_a_fault_that_names_it() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let variable = |name: &str, value: &[u8]| (name.into(), OsString::from_vec(value.to_vec()));
    let read = |name: &str| {
        let variables = [variable(name, b"caf\xe9"), variable("WELLSPRING_SINK", b"stdout")];
        document::environment(variables.into_iter())
    };
    let faults = read("WELLSPRING_POSTGRES__PUBLICATION").unwrap_err();
    expect![
        "environment WELLSPRING_POSTGRES__PUBLICATION: postgres.publication: the value is not \
         UTF-8; set the variable to a text in UTF-8"
    ]
    .assert_eq(&Faults { file: "w.toml".to_owned(), faults }.to_string());
    for no_key in ["LANG", "WELLSPRING_CONFIG", "WELLSPRING_SERVICE_HOST"] {
        assert_eq!(read(no_key).unwrap().len(), 1, "{no_key}");
    }
}

#[test]
fn what_is_said_twice_must_agree() {
    let url = |url: &str| format!("{url}\"\nsslmode = \"require\"\nsslrootcert = \"/ca.pem");
    let in_url = |query: &str| url(&format!("postgresql://u:hunter2@h/d?{query}"));
    let was = "postgresql://wellspring@db.internal/shop";
    check(
        &[(was, &in_url("sslmode=disable&sslrootcert=/other.pem"))],
        &[],
        expect![[r#"
        w.toml:4:1: postgres.sslmode: the URL says sslmode=disable as well: say it in one place
        w.toml:5:1: postgres.sslrootcert: the URL says another sslrootcert as well: say it in one place"#]],
    );
    check(&[(was, &in_url("sslmode=require&sslrootcert=/ca.pem"))], &[], expect!["no fault"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let both = format!("postgresql://u:hunter2@h/d\"\npassword_file = \"{}", file.path().display());
    check(
        &[(was, &both)],
        &[],
        expect![
            "w.toml:4:1: postgres.password_file: the URL says a password as well: say it in one \
             place"
        ],
    );
    check(
        &[("kafka:9092\"]", "kafka:9092\"]\n[kafka.client]\na.b = 1\n\"a.b\" = 2")],
        &[],
        expect!["w.toml:14:1: kafka.client.a.b: is set twice, with and without quotes"],
    );
}

#[test]
fn stdout_needs_neither_kafka_nor_registry() {
    let text = replaced(&[
        ("[kafka]\nbrokers = [\"kafka:9092\"]\n", ""),
        ("[registry]\nurl = \"http://registry:8081\"\n", ""),
        ("\n[postgres]", "sink = \"stdout\"\n[postgres]"),
    ]);
    let loaded = with(&text, &[]).unwrap();
    let SinkConfig::Stdout { state_file } = &loaded.checked.sink else { panic!() };
    assert_eq!(state_file, Path::new("Shop.eu1.wellspring-state.json"));
    assert_eq!(loaded.checked.encode.format, Format::Json);
    assert!(loaded.checked.registry.is_none());
    check(
        &[("\n[postgres]", "sink = \"stdout\"\n[events]\nformat = \"avro\"\n[postgres]")],
        &[],
        expect![[
            r#"w.toml:3:1: events.format: Avro is no text; with sink = "stdout" write "json" or "json-schema""#
        ]],
    );
    check(
        &[("\n[postgres]", "state_file = \"x\"\n[postgres]")],
        &[],
        expect![[
            r#"w.toml:1:1: state_file: is for sink = "stdout"; with Kafka the state is in a topic"#
        ]],
    );
}

#[test]
fn json_needs_no_registry() {
    let text =
        replaced(&[("[registry]\nurl = \"http://registry:8081\"", "[events]\nformat = \"json\"")]);
    assert!(with(&text, &[]).unwrap().checked.registry.is_none());
}

#[test]
fn says_what_is_weaker_than_it_could_be() {
    let text = replaced(&[("db.internal/shop", "db.internal/shop?sslmode=require")]);
    let text = format!("{text}\n[admin]\nlisten = \"0.0.0.0:9630\"");
    expect![[r#"
        registry over http: schemas can be read and changed on the way
        kafka over plaintext: records travel in the clear
        admin.listen is 0.0.0.0:9630: /status and /metrics can be read from other machines"#]]
    .assert_eq(&with(&text, &[]).unwrap().checked.warnings.join("\n"));
}

#[test]
fn a_slots_name_is_one_that_postgres_takes() {
    let named = |name: &str| {
        with(
            &replaced(&[("url = \"postgresql", &format!("slot = \"{name}\"\nurl = \"postgresql"))]),
            &[],
        )
    };
    for name in ["1", "123456", "a_1", "x".repeat(63).as_str()] {
        assert!(named(name).is_ok(), "{name}");
    }
    for name in ["test1-", "Upper", "ž", "a b", "x".repeat(64).as_str()] {
        let faults = named(name).unwrap_err().to_string();
        assert!(
            faults.contains(
                "postgres.slot: a slot's name has lower case letters, digits and _, at most 63"
            ),
            "{faults}"
        );
    }
}

#[test]
fn the_fingerprint_follows_what_decides_a_record_and_nothing_else() {
    let of = |text: &str| with(text, &[]).unwrap().checked.fingerprint;
    let plain = of(&replaced(&[]));
    let same = [
        replaced(&[("db.internal/shop", "other.internal/shop")]),
        format!("# a remark\n{}", replaced(&[])),
        format!("{}\n[limits]\nshutdown = \"5s\"", replaced(&[])),
    ];
    for text in same {
        assert_eq!(of(&text), plain, "{text}");
    }
    let others = [
        format!("{}\n[kafka.client]\n\"message.max.bytes\" = 20000", replaced(&[])),
        format!("{}\n[events]\ntombstones = false", replaced(&[])),
        replaced(&[("include = [", "exclude = [\"a.b\"]\ninclude = [")]),
    ];
    for text in others {
        assert_ne!(of(&text), plain, "{text}");
    }
}
