//! The sentence of each key, as the reference and the JSON schema print it.

/// The purpose of each key, as the reference and the JSON schema print it.
pub(super) const ABOUT: &[(&str, &str)] = &[
    (
        "sink",
        "Where records go: to Kafka (`kafka`), or to standard output (`stdout`), as one line of \
         JSON for each event.",
    ),
    ("state_file", "The file that takes the place of the state topic when `sink = \"stdout\"`."),
    (
        "postgres.url",
        "The URL of the database, in the form of libpq. The URL may hold parameters of libpq, such \
         as `sslmode`. If a key sets the same parameter, both must have the same value.",
    ),
    (
        "postgres.sslmode",
        "How far the identity of the server is verified. `/status` reports any mode below \
         `verify-full`.",
    ),
    (
        "postgres.sslrootcert",
        "The file of the certificate authority that signed the server's certificate; by default \
         the authorities of the system.",
    ),
    ("postgres.password_file", "A file with the password, which is read again at each connect."),
    (
        "postgres.password_command",
        "A program that prints the password (for example a cloud token), with its arguments; the \
         program runs at each connect, without a shell, for 20 s at most.",
    ),
    (
        "postgres.sslcert",
        "The client's certificate chain in PEM, for a server that asks for one; the file is read \
         again at each connect.",
    ),
    (
        "postgres.sslkey",
        "The private key of `sslcert`, PEM or PKCS#8 in DER; its file must have mode 0600 or less, \
         or mode 0640 or less if root owns the file.",
    ),
    ("postgres.sslpassword", "The passphrase of `sslkey`. `sslpassword_file` is safer."),
    (
        "postgres.sslpassword_file",
        "A file with the passphrase of `sslkey`, which is read again at each connect.",
    ),
    (
        "postgres.sslnegotiation",
        "How TLS begins, as in libpq: `postgres` asks the server first, `direct` starts with TLS \
         and needs Postgres 17 or later.",
    ),
    (
        "postgres.slot",
        "The name of the replication slot. Slots of all databases of a server share one name \
         space.",
    ),
    ("postgres.publication", "The name of the publication whose changes are streamed."),
    (
        "postgres.create_publication",
        "Create a missing publication at the first start, for exactly the captured tables.",
    ),
    (
        "postgres.origin",
        "`any` takes every change; `none` leaves out changes that replication brought into this \
         database, and needs Postgres 16 or later.",
    ),
    (
        "postgres.failover",
        "Create the slot so that a standby can keep a copy of it, and alter an existing slot in \
         the same way. This needs Postgres 17 or later. `wellspring check` names the settings that \
         the standbys lack for `failover`.",
    ),
    (
        "tables.include",
        "The captured tables, as names or globs: `public.orders`, or `\"my.schema\".orders` if a \
         dot is part of a name. A text that begins with `regex:` is a regular expression over the \
         whole name. `wellspring reload` applies a change of `include`.",
    ),
    (
        "tables.exclude",
        "Tables that `include` matches and that are not captured. `wellspring reload` applies a \
         change of `exclude`.",
    ),
    (
        "topics.prefix",
        "The first part of the name of every topic: `shop` gives `shop.public.orders`.",
    ),
    ("topics.create", "Create topics that are missing."),
    (
        "topics.partitions",
        "The number of partitions of a topic that the agent creates; by default the setting of the \
         broker.",
    ),
    (
        "topics.replication",
        "The replication factor of a topic that the agent creates; by default the setting of the \
         broker.",
    ),
    ("topics.cleanup_policy", "The `cleanup.policy` of a topic that the agent creates."),
    (
        "events.format",
        "`avro` with schemas in a registry, plain `json`, or `json-schema` with the schema in each \
         record.",
    ),
    (
        "events.tombstones",
        "Send a record without a value after each delete, so that log compaction removes the key.",
    ),
    ("events.truncates", "Publish each TRUNCATE as an event."),
    (
        "events.messages",
        "Publish the messages that the application writes with `pg_logical_emit_message`.",
    ),
    (
        "events.context_headers",
        "Add the headers `__debezium.context.*` to each record, except those of later copies, as \
         Debezium does.",
    ),
    (
        "events.identity_headers",
        "Add the headers `wellspring.epoch`, `wellspring.commit_lsn` and `wellspring.ordinal`, \
         which identify an event and are the same in each replay.",
    ),
    (
        "events.xmin_interval",
        "How often the slot's `catalog_xmin` is read. `source.xmin` of streamed events has this \
         value. Without `xmin_interval` the field `source.xmin` is null.",
    ),
    (
        "events.on_refusal",
        "What happens if one table is refused (its schema, a row or its topic): `stop` stops the \
         stream until a person acts; `detach` sends the changes of this table to \
         `<prefix>.wellspring-quarantine` until `wellspring snapshot` repairs it.",
    ),
    (
        "events.placeholder",
        "The text that takes the place of a large value that an update did not change, because the \
         server does not send such a value.",
    ),
    (
        "registry.url",
        "The URL of the schema registry, or several URLs of one registry. The format `avro` needs \
         `url`. `wellspring reload` applies a change of `url`.",
    ),
    ("registry.username", "The user name for basic authentication; it needs a password."),
    ("registry.password", "The password of `username`. `password_file` is safer."),
    (
        "registry.password_file",
        "A file with the password of `username`, which is read for each request to the registry.",
    ),
    (
        "registry.password_command",
        "A program that prints the password, with its arguments; the program runs without a shell, \
         for 20 s at most.",
    ),
    ("registry.token", "A bearer token, instead of `username`. `token_file` is safer."),
    (
        "registry.token_file",
        "A file with a bearer token, which is read for each request to the registry.",
    ),
    (
        "registry.token_command",
        "A program that prints a bearer token, with its arguments; the program runs again before \
         the token expires, and when the registry refuses the token.",
    ),
    (
        "registry.certificate",
        "The client's certificate chain in PEM, for a registry that asks for one.",
    ),
    (
        "registry.key",
        "The private key of `certificate`; its file must have mode 0600 or less, or mode 0640 or \
         less if root owns the file.",
    ),
    ("registry.key_password", "The passphrase of `key`. `key_password_file` is safer."),
    ("registry.key_password_file", "A file with the passphrase of `key`."),
    ("registry.insecure", "Allow credentials over plain http."),
    (
        "registry.ca",
        "The file of the certificate authority that signed the registry's certificate; by default \
         the authorities of the system.",
    ),
    ("registry.timeout", "The longest wait for one answer of the registry."),
    (
        "registry.auto_register",
        "Register schemas that the registry does not have. If false, every schema must already be \
         registered.",
    ),
    ("kafka.brokers", "The bootstrap brokers: `host:port` of some brokers of the cluster."),
    (
        "kafka.password_file",
        "A file with `sasl.password`, which is read again for each new client, and when the \
         brokers refuse the password.",
    ),
    (
        "kafka.password_command",
        "A program that prints `sasl.password`, with its arguments; the program runs without a \
         shell, for 20 s at most.",
    ),
    (
        "kafka.token_file",
        "A file with a token for OAUTHBEARER, which is read again before the token expires. With a \
         token all topics must exist, because the agent cannot create topics with a token.",
    ),
    (
        "kafka.token_command",
        "A program that prints a token for OAUTHBEARER, with its arguments. The program prints the \
         token alone, or JSON with `token` and `expires_in`, and runs again before the token \
         expires. With a token all topics must exist, because the agent cannot create topics with \
         a token.",
    ),
    (
        "kafka.insecure",
        "Allow credentials without encryption, and brokers whose identity is not verified.",
    ),
    (
        "snapshot.mode",
        "Which existing rows are copied, and when: before the stream, or in chunks while the \
         stream runs (`windows`).",
    ),
    (
        "snapshot.workers",
        "How many readers the first copy uses at the same time; by default the number of cores, at \
         most 4.",
    ),
    ("snapshot.rows_per_second", "The most rows that all copies together read in a second."),
    ("snapshot.skip", "Captured tables whose existing rows are not copied."),
    ("snapshot.order", "Tables that the first copy copies before all others."),
    (
        "snapshot.signal_table",
        "A table in which an inserted row asks for a copy, as Debezium's signals do. The table is \
         always captured.",
    ),
    (
        "snapshot.signal_topic",
        "A topic in which a record asks for a copy, as Debezium's signals from Kafka do. The key \
         of the record is `topics.prefix`, and its value is JSON.",
    ),
    (
        "limits.memory",
        "The byte budget of everything in flight: the key, value and headers of each record, and 1 \
         KiB per record for bookkeeping.",
    ),
    (
        "limits.quarantine",
        "The length of a confirm hold: after an unclean stop the slot is held back for this time, \
         because records of the old producer may still land.",
    ),
    (
        "limits.shutdown",
        "How long a stop waits at most until Kafka has acknowledged everything that was sent.",
    ),
    ("limits.ready_lag", "The lag above which `/readyz` answers that the agent is not ready."),
    (
        "admin.listen",
        "The address of the status page, `/status`, `/metrics`, `/livez` and `/readyz`. `off` \
         opens no port.",
    ),
    (
        "admin.token_file",
        "A file with the token (16 bytes or more) that actions need, which is read for each \
         action. Without a token every action is refused.",
    ),
    (
        "admin.token_command",
        "A program that prints the token that actions need, with its arguments; the program runs \
         once a minute at most.",
    ),
    ("log.format", "`text` for people, `json` for machines."),
    ("log.level", "The lowest level that is logged."),
    (
        "log.notifications",
        "Log how copies proceed, without keys of rows. This works without `topics.notifications`, \
         too.",
    ),
    ("events.time", "Form of date, time and timestamp; Debezium's `time.precision.mode`."),
    ("events.decimals", "Form of numeric and money; Debezium's `decimal.handling.mode`."),
    ("events.intervals", "Form of interval; Debezium's `interval.handling.mode`."),
    ("events.hstore", "Form of hstore: a JSON text or a map; Debezium's `hstore.handling.mode`."),
    (
        "events.binary",
        "Form of bytea and logical messages: bytes or text; Debezium's `binary.handling.mode`.",
    ),
    (
        "events.money_digits",
        "Digits after the decimal point of money with `decimals = \"precise\"`; Debezium's \
         `money.fraction.digits`.",
    ),
    (
        "events.unknown_types",
        "Columns of a type that Debezium does not know: published as text, as the bytes of this \
         text, or left out.",
    ),
    ("events.inserts", "Publish INSERT."),
    ("events.updates", "Publish UPDATE."),
    ("events.deletes", "Publish DELETE."),
    ("events.unchanged", "Publish updates that change no published column."),
    (
        "events.message_prefixes",
        "Prefixes of the logical messages that are published. An empty list publishes all.",
    ),
    (
        "events.exclude_message_prefixes",
        "Prefixes of logical messages that `message_prefixes` matches and that are not published.",
    ),
    (
        "events.schema_names",
        "How characters that Avro does not allow are replaced in names of schemas; Debezium's \
         `schema.name.adjustment.mode`.",
    ),
    (
        "events.field_names",
        "How characters that Avro does not allow are replaced in names of fields; Debezium's \
         `field.name.adjustment.mode`.",
    ),
    (
        "events.transactions",
        "Publish the begin and the end of each transaction in a topic. Each event then has the id \
         of its transaction, and its number in the transaction.",
    ),
    (
        "columns.include",
        "The published columns, as `namespace.table.column`. An empty list publishes all.",
    ),
    ("columns.exclude", "Columns that are not published, as `namespace.table.column`."),
    (
        "columns.excluded_keys",
        "A key column that is not published: `refuse` refuses its table at the start, `keep` \
         leaves the column in the key.",
    ),
    (
        "columns.keys_outside_identity",
        "A column of `[keys]` that the replica identity does not cover: `refuse` refuses its table \
         at the start, `halt_on_delete` halts at a delete that lacks the column.",
    ),
    (
        "columns.source_types",
        "Columns whose schema names their type in Postgres, as `namespace.table.column`.",
    ),
    (
        "columns.source_types_of",
        "Types, as `namespace.table.type`. The schema of each column of such a type names the type \
         in Postgres.",
    ),
    (
        "heartbeat.interval",
        "How often a record is sent to the heartbeat topic; without this key no heartbeat is sent.",
    ),
    (
        "heartbeat.query",
        "SQL that runs with each heartbeat, in one transaction. Names without a namespace are \
         looked up in the namespace of the role's name, then in `public`.",
    ),
    ("topics.heartbeat", "The heartbeat topic; by default `__debezium-heartbeat.` and the prefix."),
    ("topics.transactions", "The transaction topic; by default the prefix and `.transaction`."),
    (
        "topics.notifications",
        "The topic that reports how copies proceed, in the records of Debezium's notifications; \
         without this key no notification is sent.",
    ),
    (
        "topics.regex",
        "A regular expression over the whole name of a table's topic. If the expression matches, \
         `replacement` gives another name, so that several tables can share a topic.",
    ),
    (
        "topics.replacement",
        "The name that replaces a topic's name which `regex` matches. `$1` and `$${name}` stand \
         for groups of `regex`, as in Java. Write `$${` for `${`, because `${` begins a reference \
         in this file.",
    ),
    (
        "topics.unique_keys",
        "Add a field with the name of the table to each key, because the keys of several tables \
         meet in one topic. `unique_keys` applies only if `regex` is set.",
    ),
    ("topics.key_field", "The name of the key field that `unique_keys` adds."),
    (
        "topics.key_field_regex",
        "A regular expression over the name of the table's own topic. If the expression matches, \
         `key_field_replacement` gives the value of the key field.",
    ),
    (
        "topics.key_field_replacement",
        "The value of the key field if `key_field_regex` matches; otherwise the value is the name \
         of the table's own topic.",
    ),
    ("topics.delimiter", "The text between the parts of a topic's name."),
    (
        "tables.namespaces",
        "Namespaces (schemas of Postgres) to which `include` is limited. An empty list limits \
         nothing.",
    ),
    ("tables.exclude_namespaces", "Namespaces whose tables are not captured."),
    (
        "tables.later",
        "A table that `include` matches and that is created while the pipeline runs is captured \
         after `wellspring reload` (`reload`), or at once (`capture`).",
    ),
    (
        "tables.partitions",
        "Publish rows of a partitioned table under the name of the `root`, or under the name of \
         each partition (`leaves`).",
    ),
];

/// The sections that accept any key, and the meaning of such a key.
pub(super) const MAPS: &[(&str, &str)] = &[
    (
        "kafka.client",
        "Properties of librdkafka. Properties on which a guarantee rests are refused, with the \
         reason.",
    ),
    (
        "tables.set_replica_identity",
        "A replica identity for each table or pattern of tables: `FULL`, `DEFAULT`, or `INDEX` and \
         the name of an index. The setting alters tables: at each start `ALTER TABLE t REPLICA \
         IDENTITY` runs for captured tables that have another identity, and each statement is \
         logged.",
    ),
    (
        "snapshot.where",
        "An SQL condition for a table: only rows for which the condition holds are copied.",
    ),
    (
        "snapshot.query",
        "A query for a table, which the first copy reads instead of the table. Later copies refuse \
         such a table, and so does the mode `windows`.",
    ),
    (
        "keys",
        "The columns of the key of a table, in their order. A pattern gives the key of each table \
         that it matches.",
    ),
    (
        "masks",
        "Each section has a name that you choose. The values of its `columns` are replaced by its \
         `method` (`stars`, `hash` or `truncate`) before they leave the agent.",
    ),
    (
        "topics.group",
        "Each section has a name that you choose. The section has the settings with which the \
         agent creates the topics that `include` matches.",
    ),
    (
        "transform",
        "Written as `[[transform]]`, once for each transform, in the order in which they are \
         applied. `type` names the transform, and `tables` limits the transform to some tables: \
         see [transforms](transforms.md).",
    ),
    ("topics.extra", "Further settings of a topic that the agent creates, by Kafka's names."),
];
