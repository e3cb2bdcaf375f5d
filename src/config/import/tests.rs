//! Golden tests of the import: the resulting file, the refusals with their reasons, and that no
//! secret is printed.

use super::*;
use expect_test::{Expect, expect};

const CONNECTOR: &str = r#"
connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
database.hostname=db.internal
database.user=cdc
database.password=h@nter2
database.dbname=shop
topic.prefix=shop
bootstrap.servers=k1:9092,k2:9092
key.converter=io.confluent.connect.avro.AvroConverter
key.converter.schema.registry.url=http://registry:8081
value.converter=io.confluent.connect.avro.AvroConverter
value.converter.schema.registry.url=http://registry:8081
"#;

pub(super) fn imported(more: &str, loss: Loss) -> Result<Imported, ImportError> {
    import(&[("shop.properties".to_owned(), format!("{CONNECTOR}{more}"))], loss)
}

/// Checks the refusals of an import, one in each line.
#[track_caller]
pub(super) fn refused(more: &str, expect: Expect) {
    match imported(more, Loss::Refused) {
        Err(ImportError::Refused { refused }) => {
            let lines: Vec<String> =
                refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            expect.assert_eq(&lines.join("\n"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_connector_becomes_a_configuration() {
    expect![[r##"
        # Made by `wellspring config import` from shop.properties.
        # Set WELLSPRING_POSTGRES_PASSWORD in the environment: the secret in database.password.

        [postgres]
        url = "postgresql://cdc:${env:WELLSPRING_POSTGRES_PASSWORD}@db.internal:5432/shop"
        slot = "debezium"  # Debezium's default
        publication = "dbz_publication"  # Debezium's default
        sslmode = "require"  # Debezium's `prefer` would go on in plain text; write "disable" for a server without TLS

        [tables]
        include = ["*.*"]  # without table.include.list Debezium takes every table
        partitions = "leaves"  # as Debezium: partitions are tables of their own
        later = "capture"  # as Debezium: a new table streams from its first row on

        [topics]
        prefix = "shop"

        [events]
        format = "avro"
        truncates = false  # Debezium skips truncates unless skipped.operations says otherwise
        unknown_types = "drop"  # Debezium leaves types it does not know out

        [registry]
        url = ["http://registry:8081"]

        [kafka]
        brokers = ["k1:9092", "k2:9092"]

        [snapshot]
        mode = "initial"

        # Not needed here:
        #   connector.class: the only source
        #   plugin.name: the only plugin
    "##]]
    .assert_eq(&imported("", Loss::Refused).unwrap().toml);
}

#[test]
fn everything_that_is_captured_is_said_in_our_words() {
    let more = r#"
slot.name=dbz
table.include.list=public\\.orders, S1\\..*
schema.exclude.list=internal
column.exclude.list=public\\.people\\.secret
column.mask.with.5.chars=public\\.people\\.card
column.truncate.to.20.chars=public\\.people\\.name
column.mask.hash.v2.SHA-256.with.salt.pepper=public\\.people\\.email
message.key.columns=public\\.orders:region,id
skipped.operations=u,t
skip.messages.without.change=true
provide.transaction.metadata=true
heartbeat.interval.ms=10000
heartbeat.action.query=insert into beat default values
time.precision.mode=connect
schema.name.adjustment.mode=avro
topic.creation.default.partitions=6
topic.creation.default.replication.factor=3
topic.creation.groups=compact
topic.creation.compact.include=shop\\.public\\..*
topic.creation.compact.cleanup.policy=compact
producer.override.compression.type=zstd
snapshot.mode=no_data
"#;
    expect![[r##"
        # Made by `wellspring config import` from shop.properties.
        # Set WELLSPRING_POSTGRES_PASSWORD in the environment: the secret in database.password.
        # Set WELLSPRING_MASK_SALT_2 in the environment: the secret in column.mask.hash.v2.SHA-256.with.salt.***.

        [postgres]
        url = "postgresql://cdc:${env:WELLSPRING_POSTGRES_PASSWORD}@db.internal:5432/shop"
        slot = "dbz"
        publication = "dbz_publication"  # Debezium's default
        sslmode = "require"  # Debezium's `prefer` would go on in plain text; write "disable" for a server without TLS

        [tables]
        include = ['regex:public\.orders', 'regex:S1\..*']
        exclude_namespaces = ["regex:internal"]
        partitions = "leaves"  # as Debezium: partitions are tables of their own
        later = "capture"  # as Debezium: a new table streams from its first row on

        [columns]
        exclude = ['regex:public\.people\.secret']
        excluded_keys = "keep"  # as Debezium: a key column that rows lack stays in the key
        keys_outside_identity = "halt_on_delete"  # a delete whose old row lacks the key halts; REPLICA IDENTITY FULL has it

        [keys]
        'regex:public\.orders' = ["regex:region", "regex:id"]

        [topics]
        prefix = "shop"
        partitions = 6
        replication = 3

        [events]
        format = "avro"
        updates = false
        truncates = false
        unchanged = false
        transactions = true
        time = "connect"
        schema_names = "avro"
        unknown_types = "drop"  # Debezium leaves types it does not know out

        [heartbeat]
        interval = "10000ms"
        query = "insert into beat default values"

        [registry]
        url = ["http://registry:8081"]

        [kafka]
        brokers = ["k1:9092", "k2:9092"]

        [kafka.client]
        "compression.type" = "zstd"

        [snapshot]
        mode = "no_data"

        [masks.stars_1]
        columns = ['regex:public\.people\.card']
        method = "stars"
        length = 5
        other_types = "pass"  # as Debezium: columns of other types are not masked

        [masks.truncate_1]
        columns = ['regex:public\.people\.name']
        method = "truncate"
        length = 20
        other_types = "pass"  # as Debezium: columns of other types are not masked

        [masks.hash_1]
        columns = ['regex:public\.people\.email']
        method = "hash"
        algorithm = "SHA-256"
        salt = "${env:WELLSPRING_MASK_SALT_2}"
        other_types = "pass"  # as Debezium: columns of other types are not masked

        [topics.group.compact]
        include = ['regex:shop\.public\..*']
        cleanup_policy = "compact"

        # Not needed here:
        #   connector.class: the only source
        #   plugin.name: the only plugin
    "##]].assert_eq(&imported(more, Loss::Refused).unwrap().toml);
}

#[test]
fn everything_without_counterpart_is_told_at_once() {
    refused(
        "transforms=unwrap\ntransforms.unwrap.type=x\ntransforms.other.type=y\nslot.drop.on.stop=true\nsnapshot.mod=initial\nfoo=bar\n\
         signal.enabled.channels=source,file\ncolumn.mask.hash.SHA-256.with.salts.pepper=a",
        expect![[r#"
            transforms.unwrap.type: there is no transform like x here
            transforms.other.type: transforms does not name it
            slot.drop.on.stop: a slot is dropped by command only (`wellspring slot drop`): its changes would be lost
            snapshot.mod: unknown property; did you mean `snapshot.mode`?
            foo: unknown property
            signal.enabled.channels: there is no channel `file`: signals are read from a table (source) and from a topic (kafka); `wellspring snapshot` asks the running agent for a copy
            column.mask.hash.***: unknown property"#]],
    );
    refused(
        "table.include.list=a\ntable.exclude.list=b\nmessage.key.columns=nonsense",
        expect![[r#"
        table.include.list: table.exclude.list is set as well, which Debezium refuses; say it in one list
        message.key.columns: `nonsense` is not `schema.table:column,column`"#]],
    );
}

#[test]
fn a_signal_table_is_taken_over_with_or_without_its_database() {
    let made = |more: &str| {
        imported(&format!("snapshot.mode=no_data\n{more}"), Loss::Refused).unwrap().toml
    };
    for table in ["ops.signals", "shop.ops.signals"] {
        let toml = made(&format!("signal.enabled.channels=source\nsignal.data.collection={table}"));
        assert!(toml.contains("signal_table = \"ops.signals\""), "{toml}");
    }
    let off = made("signal.enabled.channels=\nsignal.data.collection=ops.signals");
    assert!(!off.contains("signal_table ="), "{off}");
}

#[test]
fn a_loss_that_is_accepted_is_named_in_the_file() {
    let made = imported("custom.metric.tags=a=b\nsnapshot.mode=no_data", Loss::Accepted).unwrap();
    assert_eq!(made.lost.len(), 1);
    assert!(made.toml.contains("# LEFT OUT: custom.metric.tags: "), "{}", made.toml);
}

#[test]
fn an_expression_that_does_not_compile_stops_the_import() {
    let error = imported("table.include.list=public\\\\.(a\nsnapshot.mode=no_data", Loss::Refused)
        .unwrap_err();
    let ImportError::Faulty(faults) = error else { panic!("{error:?}") };
    assert!(
        faults
            .to_string()
            .contains("tables.include: `regex:public\\.(a`: not a regular expression"),
        "{faults}"
    );
}

#[test]
fn no_secret_is_printed() {
    let more = "snapshot.mode=no_data\ncolumn.mask.hash.MD5.with.salt.s3cret-a=x\nvalue.converter.basic.auth.user.info=u:s3cret-b\n\
                key.converter.basic.auth.user.info=u:s3cret-b\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
                value.converter.basic.auth.credentials.source=USER_INFO\n\
                sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
                username=\"u\" \
                password=\"s3cret-c\";\nssl.keystore.password=s3cret-d\ntransforms=x\nfoo=s3cret-e\n\
                column.mask.hash.SHA3.with.salt.s3cret-f=y\ndatabase.sslpassword=s3cret-g";
    let text = format!("{:?} {:?}", imported(more, Loss::Accepted), imported(more, Loss::Refused));
    assert!(!text.contains("s3cret") && !text.contains("h@nter2"), "{text}");
    let plain = more.lines().filter(|line| !line.contains("SHA3")).collect::<Vec<_>>().join("\n");
    let made = imported(&plain, Loss::Accepted).unwrap();
    let variables: Vec<&str> = made.hidden.iter().map(|hidden| hidden.variable.as_str()).collect();
    expect![[r#"
        WELLSPRING_POSTGRES_PASSWORD
        WELLSPRING_MASK_SALT_2
        WELLSPRING_REGISTRY_PASSWORD
        WELLSPRING_KAFKA_PASSWORD
        WELLSPRING_KAFKA_KEY_PASSWORD
        WELLSPRING_POSTGRES_KEY_PASSWORD"#]]
    .assert_eq(&variables.join("\n"));
}

#[test]
fn json_and_debezium_servers_file_say_the_same() {
    let json = r#"{"name": "shop", "config": {"connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput", "database.hostname": "db.internal", "database.user": "cdc", "database.dbname": "shop",
        "topic.prefix": "shop", "snapshot.mode": "no_data", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter", "key.converter.schemas.enable": false,
        "value.converter.schemas.enable": false}}"#;
    let worker = "group.id=w\nbootstrap.servers=k:9092\nkey.converter=x\nconfig.storage.topic=c";
    let server = "debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
        debezium.source.plugin.name=pgoutput\ndebezium.source.database.hostname=db.internal\n\
        debezium.source.database.user=cdc\ndebezium.source.database.dbname=shop\ndebezium.source.topic.prefix=shop\n\
        debezium.source.snapshot.mode=no_data\ndebezium.sink.type=kafka\n\
        debezium.sink.kafka.producer.bootstrap.servers=k:9092\ndebezium.format.key=json\ndebezium.format.value=json\n\
        debezium.format.key.schemas.enable=false\ndebezium.format.value.schemas.enable=false\n\
        debezium.source.offset.storage.file.filename=data/offsets.dat\nquarkus.log.console.json=false";
    let settings = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let made = import(&files, Loss::Refused).unwrap().toml;
        let mut lines: Vec<String> = made
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let server = settings(&[("application.properties", server)]);
    assert_eq!(settings(&[("c.json", json), ("worker.properties", worker)]), server);
    assert!(server.contains(&"format = \"json\"".to_owned()));
}

#[test]
fn a_signal_topic_is_taken_over_from_the_same_cluster() {
    let more = "signal.enabled.channels=source,kafka\nsignal.kafka.bootstrap.servers=k2:9092,k1:9092\n\
                signal.kafka.groupId=g\nsignal.consumer.security.protocol=SSL\n";
    let toml = imported(more, Loss::Refused).unwrap().toml;
    assert!(toml.contains("signal_topic = \"shop-signal\""), "{toml}");
    let named = imported(&format!("{more}signal.kafka.topic=asked"), Loss::Refused).unwrap().toml;
    assert!(named.contains("signal_topic = \"asked\""), "{named}");
    let off = imported("signal.kafka.topic=asked", Loss::Refused).unwrap().toml;
    assert!(!off.contains("signal_topic ="), "{off}");
    refused(
        "signal.enabled.channels=kafka\nsignal.kafka.bootstrap.servers=other:9092",
        expect![
            "signal.kafka.bootstrap.servers: is not bootstrap.servers: signals are read from the \
             cluster that records go to"
        ],
    );
}

#[test]
fn notifications_go_to_a_topic_and_to_the_log() {
    let more =
        "notification.enabled.channels=sink, log,jmx\nnotification.sink.topic.name=shop-notes\n";
    let toml = imported(more, Loss::Refused).unwrap().toml;
    assert!(
        toml.contains("notifications = \"shop-notes\"")
            && toml.contains("[log]\nnotifications = true"),
        "{toml}"
    );
    refused(
        "notification.enabled.channels=sink,mail",
        expect![[r#"
            notification.sink.topic.name: is missing; the channel `sink` needs it
            notification.enabled.channels: there is no channel `mail`: notifications go to a topic (sink) and to the log; /status and /metrics say the same to who asks"#]],
    );
}

#[test]
fn origin_and_xmin_become_options_of_ours() {
    let given = "slot.stream.params=origin=none\nxmin.fetch.interval.ms=60000\nslot.failover=true";
    let toml = imported(given, Loss::Refused).unwrap().toml;
    assert!(toml.contains("failover = true"), "{toml}");
    assert!(
        toml.contains("origin = \"none\"") && toml.contains("xmin_interval = \"60000ms\""),
        "{toml}"
    );
    let often = imported("xmin.fetch.interval.ms=10", Loss::Refused).unwrap().toml;
    assert!(often.contains("xmin_interval = \"1s\"  # 10 ms at the source"), "{often}");
    refused(
        "slot.stream.params=origin=none;foo=1",
        expect!["slot.stream.params: `foo=1`: only origin=any and origin=none are understood"],
    );
}

#[test]
fn replica_identities_are_set_by_an_option_that_says_so() {
    let more = "replica.identity.autoset.values=public\\\\.a.*:FULL, s.t:INDEX by_code,s.u:DEFAULT";
    let toml = imported(more, Loss::Refused).unwrap().toml;
    let section = toml.split("[tables.set_replica_identity]\n").nth(1).unwrap_or(&toml);
    expect![[r#"
        'regex:public\.a.*' = "FULL"  # changes the tables at each start, as replica.identity.autoset.values did
        "regex:s.t" = "INDEX by_code"  # changes the tables at each start, as replica.identity.autoset.values did
        "regex:s.u" = "DEFAULT"  # changes the tables at each start, as replica.identity.autoset.values did"#]]
    .assert_eq(section.lines().take(3).collect::<Vec<_>>().join("\n").as_str());
    refused(
        "replica.identity.autoset.values=public.a:NOTHING,public.b",
        expect![[r#"
        replica.identity.autoset.values: `public.a:NOTHING`: UPDATE and DELETE of a published table would fail
        replica.identity.autoset.values: `public.b` is not `schema.table:IDENTITY`"#]],
    );
}

#[test]
fn topics_by_a_regular_expression_are_taken_over() {
    let more = "topic.naming.strategy=io.debezium.schema.SchemaRegexTopicNamingStrategy\n\
                topic.regex=(.*)shard_\\\\d+_(.*)\ntopic.replacement=$1$2\ntopic.key.field.name=shard\n\
                topic.key.enforce.uniqueness=true\n";
    let toml = imported(more, Loss::Refused).unwrap().toml;
    let topics = toml
        .split("[topics]\n")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .take_while(|line| !line.is_empty());
    expect![[r#"
        prefix = "shop"
        regex = '(.*)shard_\d+_(.*)'
        replacement = "$1$2"
        key_field = "shard"
        unique_keys = true"#]]
    .assert_eq(topics.collect::<Vec<_>>().join("\n").as_str());
    refused(
        "topic.naming.strategy=io.debezium.schema.SchemaRegexTopicNamingStrategy\ntopic.regex=a",
        expect!["topic.replacement: is missing; SchemaRegexTopicNamingStrategy needs it"],
    );
    refused(
        "topic.naming.strategy=x.OurStrategy",
        expect![
            "topic.naming.strategy: topics are named as SchemaTopicNamingStrategy and \
             SchemaRegexTopicNamingStrategy do"
        ],
    );
    let idle = imported("topic.regex=a\ntopic.replacement=b", Loss::Refused).unwrap().toml;
    assert!(!idle.contains("regex = "), "{idle}");
}
