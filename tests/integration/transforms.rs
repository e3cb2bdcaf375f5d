//! Transforms from the configuration to the bytes, and the page that shows each of them.
//!
//! Real Debezium's records are compared by the corpus. Here every type of `[[transform]]` has one
//! example, which `docs/transforms.md` prints; `WELLSPRING_WRITE=1` writes the page.

use super::conditions;
mod debezium;
mod lines;

use lines::lines;
pub(super) use lines::records;
use std::fmt::Write;
use std::path::Path;
use wellspring::change::{Context, Marker, Position, Row};
use wellspring::config;
use wellspring::encode::{EncodeError, Encoder, Ids, PlanError, Planner, Route};
use wellspring::lsn::{Lsn, Oid, PgMicros, Xid};
use wellspring::pgoutput::{self, Message};
use wellspring::table::{Column, ColumnKind, ReplicaIdentity, SourceType, Table, TableName};

pub(super) const CONTEXT: Context<'static> = Context {
    position: Position { commit: Lsn::new(34_837_900), ordinal: 0 },
    lsn: Lsn::new(34_837_832),
    last_commit: None,
    xid: Some(Xid(771)),
    committed_at: PgMicros(809_165_600_123_456),
    origin: None,
    xmin: None,
    marker: Marker::Streamed,
};

/// The examples of the page: a title, what the transform is for, and its TOML.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "unwrap",
        "The row takes the place of its envelope, as with Debezium's `ExtractNewRecordState`. `deletes` says what \
         becomes of a delete: `tombstone` (the default), `drop`, `rewrite`, `rewrite-with-tombstone` or \
         `delete-to-tombstone`. `add_fields` and `add_headers` name fields of the envelope that become fields of the \
         row or headers: `op`, `ts_ms`, a field of `source` or, as `struct.field`, a field of another struct. \
         `field:name` gives the added field another name. A named field that the envelope does not have is left out. \
         Truncates are dropped. `route` names a column whose text is the topic of the row, as Debezium's \
         `route.by.field` does. A row whose `route` column is NULL or blank halts the stream. With `route_missing = \
         \"own\"` a row whose `route` column is NULL or blank goes to the topic of its table, as with Debezium. A \
         tombstone goes to the topic of its row. The rows of a table go to at most `topics_max` (1000) topics. \
         `drop_fields_header` names a header that `changed-fields` made: an update leaves out the fields that this \
         header lists, as with Debezium's `drop.fields.header.name`. The last example of this page shows this.",
        "type = \"unwrap\"\ndeletes = \"rewrite\"\nadd_fields = [\"op\", \"lsn:position\"]\nadd_headers = [\"table\"]",
    ),
    (
        "regex-router",
        "If the expression `regex` fits the whole name of the topic, `replacement` gives another topic. Schemas keep \
         their names.",
        "type = \"regex-router\"\nregex = 'shop\\.public\\.(.*)'\nreplacement = \"flat.$1\"",
    ),
    (
        "timestamp-router",
        "The time of the commit becomes a part of the topic's name: `topic_format` holds `{topic}` and \
         `{timestamp}`, and `timestamp_format` is a pattern of Java's `SimpleDateFormat` in UTC. Connect's \
         `TimestampRouter` takes the time of the record, which Debezium sets only for events of an outbox. Schemas \
         keep their names.",
        "type = \"timestamp-router\"\ntopic_format = \"{topic}.{timestamp}\"\ntimestamp_format = \"yyyy-MM\"",
    ),
    (
        "logical-router",
        "Many tables share one topic. Their schemas are named after the shared topic, and a field of the key tells \
         the tables apart. `unique_keys = false` leaves this field out, for tables whose keys are never equal.",
        "type = \"logical-router\"\nregex = '(.*)\\.public\\.(.*)'\nreplacement = \"$1.all_$2\"\n\
         key_field = \"from\"",
    ),
    (
        "replace-field",
        "Fields are kept (`include`), left out (`exclude`) and renamed (`rename`). With `of = \"key\"` the transform \
         works on the key. A named field that a table does not have is ignored.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"replace-field\"\nexclude = [\"note\"]\nrename = [\"total:amount\"]",
    ),
    (
        "insert-field",
        "A fixed text (`static_field`, `static_value`) or the topic (`topic_field`) becomes a field. The new field \
         is optional; with `!` after its name the field is required.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"insert-field\"\nstatic_field = \"region!\"\nstatic_value = \"eu\"",
    ),
    (
        "mask-field",
        "The values of `fields` become the empty value of their type, or `replacement`. A null stays null. To mask \
         values before any other step sees them, use `[masks]`.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"mask-field\"\nfields = [\"total\"]",
    ),
    (
        "extract-field",
        "The value of one field takes the place of the whole key or value.",
        "type = \"extract-field\"\nof = \"key\"\nfield = \"id\"",
    ),
    (
        "hoist-field",
        "The whole key or value becomes the only field of a new struct.",
        "type = \"extract-field\"\nof = \"key\"\nfield = \"id\"\n\n[[transform]]\ntype = \"hoist-field\"\nof = \"key\"\n\
         field = \"order_id\"",
    ),
    (
        "flatten",
        "Nested structs become one level of fields. `delimiter` stands between the parts of a field's name. Avro \
         accepts no dot in a name.",
        "type = \"flatten\"\ndelimiter = \"_\"\n\n[[transform]]\ntype = \"replace-field\"\n\
         include = [\"after_id\", \"after_note\", \"source_table\", \"op\"]",
    ),
    (
        "cast",
        "Values are cast to `int8`, `int16`, `int32`, `int64`, `float32`, `float64`, `boolean` or `string`. `spec` \
         has fields with their types, or one type for a key or value that is no struct. A fraction is cut off, as in \
         Java. A value that the type cannot hold halts the stream; Java would change the value. A timestamp before \
         1970-01-02 that becomes a `string` keeps its date; Connect writes only the time of such a timestamp.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"cast\"\nspec = [\"id:string\", \"total:float64\"]",
    ),
    (
        "timestamp-converter",
        "The times in `field`, or in a key or value that is no struct, become a `string`, a number (`unix`), or \
         Connect's `Date`, `Time` or `Timestamp` (`target_type`). `format` is a pattern of Java's \
         `SimpleDateFormat`, by which texts are written and read, in UTC and in English. `unix_precision` is the \
         unit of numbers: `seconds`, `milliseconds` (the default), `microseconds` or `nanoseconds`. Connect's times \
         are in milliseconds, so parts of a millisecond are lost. A text that does not fit `format` halts the \
         stream.",
        "type = \"timestamp-converter\"\nfield = \"ts_us\"\ntarget_type = \"string\"\nunix_precision = \"microseconds\"\n\
         format = \"yyyy-MM-dd HH:mm:ss.SSS\"\n\n[[transform]]\ntype = \"unwrap\"\nadd_fields = [\"ts_us:at\"]",
    ),
    (
        "value-to-key",
        "The key is made of the fields of the value that `fields` names. The old row of a delete must hold these \
         fields, so a table whose replica identity lacks one of these columns is refused at the start.",
        "type = \"unwrap\"\ndeletes = \"drop\"\n\n[[transform]]\ntype = \"value-to-key\"\nfields = [\"customer\"]\n\
         when_tombstone = true\nnegate = true",
    ),
    (
        "schema-metadata",
        "The schema gets another name (`name`) or version (`version`). JSON without schemas does not show the \
         change.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"schema-metadata\"\nname = \"com.example.Order\"",
    ),
    (
        "insert-header",
        "Every record gets a header with a fixed text.",
        "type = \"insert-header\"\nheader = \"tenant\"\nvalue = \"acme\"",
    ),
    (
        "drop-headers",
        "The headers that `headers` names are dropped.",
        "type = \"insert-header\"\nheader = \"tenant\"\nvalue = \"acme\"\n\n[[transform]]\ntype = \"drop-headers\"\n\
         headers = [\"tenant\"]",
    ),
    (
        "header-from",
        "The fields that `fields` names are copied or moved (`operation`) into headers.",
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"header-from\"\nfields = [\"customer\"]\nheaders = [\"customer\"]\n\
         operation = \"move\"",
    ),
    (
        "header-to-value",
        "Headers are copied or moved (`operation`) into fields of the value, as with Debezium's `HeaderToValue`. A \
         tombstone keeps its headers.",
        "type = \"insert-header\"\nheader = \"tenant\"\nvalue = \"acme\"\n\n[[transform]]\ntype = \"unwrap\"\n\n\
         [[transform]]\ntype = \"header-to-value\"\nheaders = [\"tenant\"]\nfields = [\"tenant\"]\noperation = \"move\"",
    ),
    (
        "changed-fields",
        "Two headers list the fields that an update changes (`changed` names this header) and the fields that the \
         update does not change (`unchanged` names this header), as with Debezium's `ExtractChangedRecordState`. The \
         lists need the old row of the update, so the table needs REPLICA IDENTITY FULL. Both lists are empty for an \
         update without its old row, and for all other records.",
        "type = \"changed-fields\"\nchanged = \"changed\"\nunchanged = \"unchanged\"\n\n[[transform]]\ntype = \"unwrap\"",
    ),
    (
        "outbox",
        "Inserted rows of an outbox table become messages, as with Debezium's `EventRouter`; rows of the first copy \
         do, too. `event_key` and `payload` name the columns of the key and of the value, `event_id` names the \
         column of a header `id`, and the column `route` gives the topic by `regex` and `replacement`. `placement` \
         puts further columns into headers (`\"column:header\"`) or beside the payload (`\"column:envelope:name\"`). \
         `\"column:partition\"` in `placement` names an integer column with the number of the partition; if this \
         column is NULL, the key gives the partition. A table that lacks a column of `placement` is refused, unless \
         `placement_missing = \"ignore\"`. `timestamp` names a column without time zone that becomes the time of the \
         record. With `tombstones = true` a payload that is NULL or blank makes a record without value. \
         `schema_version` names an integer column with the version of the schema. `schema_version` is read only if \
         `placement` puts columns beside the payload. A delete of an outbox row is no event. An update of an outbox \
         row is no event either: the update is left out with a warning in the log, or halts the stream with `updates \
         = \"halt\"`. A topic is created by the settings of `[topics]` when the first row goes to it. The rows of a \
         table go to at most `topics_max` (1000) topics. A route that is NULL, or that gives no legal name of a \
         topic, halts the stream. Events with the same `event_key` stay in order within a topic. `wellspring \
         snapshot` copies no rows of an outbox table. For a detached outbox table the command lets its events flow \
         again; the events of the time in between are in the quarantine topic only. With `expand_json = true` a \
         payload that is a JSON object becomes a struct. The schema of this struct is inferred as Debezium infers \
         it: a number without a point is an int or a long, every other number is a double. Each form of payload \
         registers a version of the schema, so names of fields must not be data. A null in the payload becomes no \
         field, unless `json_nulls = \"optional_bytes\"`. An empty list in the payload becomes no field, unless \
         `json_empty_lists = \"optional_string\"`. A payload stays a text if it is no object, if a list in it holds \
         different types, or if a whole number in it is beyond 64 bits.",
        "type = \"outbox\"\ntables = [\"public.orders\"]\nroute = \"customer\"\nevent_key = \"id\"\n\
         payload = \"note\"\nplacement = [\"total:header\"]",
    ),
    (
        "filter",
        "Records for which `when_topic`, `when_header` or `when_tombstone` holds are dropped.",
        "type = \"filter\"\nwhen_tombstone = true",
    ),
];

const HEAD: &str = "# Transforms

A transform changes the form of records before they are encoded. The transforms of this page do what Kafka Connect's
stock transforms and some of Debezium's do. `wellspring config import` translates `transforms` and `predicates` of a
connector, and refuses a transform that has no counterpart by its name.

The `[[transform]]` sections of the configuration are applied in their order. `tables` limits a transform to tables
(patterns as in `tables.include`). Without `tables` the transform applies to all tables. One condition can limit a
transform further, as Connect's predicates do: `when_topic` (an expression that fits all of the topic), `when_header`
(the record has a header of this name) or `when_tombstone = true`. With `negate = true` the transform applies if the
condition does not hold.

Transforms are applied once to the description of a table, and each row is then encoded in the resulting form. So a
transform adds no work for a row, unless it needs a value of the row: an expression, a conversion or a route is
evaluated for each row. These are refused before the first record: a transform that needs a field which the table lacks,
a name that Kafka or Avro does not take, and transforms that give the records of one table two topics or two schemas.

- Transforms work on the records of tables. Heartbeats, transaction records and notifications stay as they are.
- Logical messages stay as they are, unless they are events of an outbox. `decode-message` reads the content of a
  logical message as a JSON object, and an `outbox` after it makes an event of the object's fields, as of the columns of
  a row. `decode-message` and the `outbox` after it have no `tables`; `when_topic` limits them to the topic of messages.
  Such events need no outbox table:

  ```toml
  [[transform]]
  type = \"decode-message\"
  when_topic = '.*\\.message'

  [[transform]]
  type = \"outbox\"
  when_topic = '.*\\.message'
  ```

  ```sql
  select pg_logical_emit_message(true, 'outbox',
    '{\"id\": \"m-1\", \"aggregatetype\": \"order\", \"aggregateid\": \"7\", \"payload\": {\"total\": 5}}');
  ```

  The topic is `outbox.event.order`, and the key is `7`. A message whose content is no object, or lacks one of the
  fields, halts the stream. A null in the object becomes a field only with `null_fields = true`.
- Most types of transforms have the key `null_becomes_default`: whether a null is read as the default of its column, as
  Connect's `replace.null.with.default` says. The default of this key is true.
- A row can name its topic: by a column (`route` of `unwrap`, an outbox), by the time of its commit (`timestamp-router`)
  or by an expression (`content-router`). If rows name their topics, a truncate is not sent, because it names no topic;
  `wellspring_truncates_not_sent_total` counts it. A backfill sends rows only to topics to which streamed rows have
  gone. At a row with another topic the backfill ends, and `/status` gives the reason. The first copy sends rows to any
  topic.
- With `deletes = \"tombstone\"` the record of a delete has no value in every format. Debezium with the JSON converter
  writes the text `null` as the value of a delete, and a compacted topic would keep this record.
- Scripts beyond simple expressions have no counterpart.

## The records of the examples

The table `orders` has the columns `id` (the primary key), `customer`, `note` with the default `'none'`, and `total`.
Its replica identity is FULL. An order is inserted, updated and deleted. The content of `source` is left out below.
";

pub(super) fn settings(transforms: &str) -> config::Checked {
    settings_in("json", transforms)
}

fn settings_in(format: &str, transforms: &str) -> config::Checked {
    let transforms = if transforms.is_empty() {
        String::new()
    } else {
        format!("\n[[transform]]\n{transforms}\n")
    };
    let text = format!(
        "[postgres]\nurl = \"postgresql://u@127.0.0.1/app?sslmode=disable\"\n[tables]\ninclude = [\"public.orders\"]\n\
         [topics]\nprefix = \"shop\"\n[events]\nformat = \"{format}\"\ncontext_headers = false\n[kafka]\n\
         brokers = [\"127.0.0.1:1\"]\n[snapshot]\nmode = \"initial\"\n{transforms}"
    );
    config::check("test.toml", &text, &config::Environment::default())
        .unwrap_or_else(|faults| panic!("{faults}"))
        .checked
}

pub(super) fn orders(identity: ReplicaIdentity) -> Table {
    let full = identity == ReplicaIdentity::Full;
    let column = |name: &str, kind, not_null, default: Option<&str>| Column {
        name: name.into(),
        kind,
        not_null,
        default: default.map(Into::into),
        source_type: SourceType::default(),
        serial: false,
        in_identity: full || name == "id",
    };
    let columns = vec![
        column("id", ColumnKind::Int4, true, None),
        column("customer", ColumnKind::Text, true, None),
        column("note", ColumnKind::Text, false, Some("'none'::text")),
        column("total", ColumnKind::Int4, false, None),
    ];
    Table { oid: Oid(1), name: TableName::new("public", "orders"), identity, columns, key: vec![0] }
}

fn push(cells: &[Option<&str>], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
    for cell in cells {
        match cell {
            None => out.push(b'n'),
            Some(text) => {
                out.push(b't');
                out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// The bytes of a message of pgoutput: its letter, then each tuple after its own letter.
pub(super) fn message(letter: u8, tuples: &[(u8, &[Option<&str>])]) -> Vec<u8> {
    let mut out = vec![letter, 0, 0, 0, 1];
    for (tag, cells) in tuples {
        out.push(*tag);
        push(cells, &mut out);
    }
    out
}

pub(super) const FIRST: [Option<&str>; 4] = [Some("7"), Some("ann"), None, Some("5")];
pub(super) const SECOND: [Option<&str>; 4] = [Some("7"), Some("ann"), Some("gift"), Some("6")];

#[test]
fn the_page_shows_what_each_transform_makes() {
    let full = orders(ReplicaIdentity::Full);
    let mut page = HEAD.to_owned();
    let block = |page: &mut String, records: Vec<String>| {
        write!(page, "\n```text\n{}\n```\n", records.join("\n")).unwrap();
    };
    block(&mut page, records(&settings(""), &full).unwrap());
    for (title, about, toml) in EXAMPLES.iter().chain(conditions::EXAMPLES) {
        write!(page, "\n## {title}\n\n{about}\n\n```toml\n[[transform]]\n{toml}\n```\n").unwrap();
        block(&mut page, records(&settings(toml), &full).unwrap());
    }
    page.push_str(conditions::EXPRESSIONS);
    page.push_str(debezium::HEAD);
    for (title, about, toml) in debezium::EXAMPLES {
        write!(page, "\n## {title}\n\n{about}\n\n```toml\n[[transform]]\n{toml}\n```\n").unwrap();
        block(&mut page, debezium::records(&settings(toml)).unwrap());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/transforms.md");
    if std::env::var_os("WELLSPRING_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == page,
        "docs/transforms.md: WELLSPRING_WRITE=1 writes it"
    );
}

/// The bytes of an Insert message with these cells. A decoded row borrows from them.
fn inserted(cells: &[Option<&str>]) -> Vec<u8> {
    message(b'I', &[(b'N', cells)])
}

fn row(wire: &[u8]) -> Row<'_> {
    match pgoutput::decode(wire).unwrap() {
        Message::Insert { new, .. } => Row::Insert { new },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_that_is_null_as_a_whole_is_none_in_avro() {
    let extract = "type = \"unwrap\"\n\n[[transform]]\ntype = \"extract-field\"\nfield = \"total\"";
    let avro = format!("{extract}\n\n[registry]\nurl = \"http://127.0.0.1:1\"");
    for (config, null) in
        [(settings_in("avro", &avro), None), (settings_in("json", extract), Some(&b"null"[..]))]
    {
        let planner = Planner::new(config.encode, "app", "run", 1);
        let draft = planner.draft(&orders(ReplicaIdentity::Full)).unwrap();
        let text = if null.is_none() { "[\"null\",\"int\"]" } else { "" };
        assert_eq!(draft.value.as_ref().unwrap().text, text);
        let plan = draft.into_plan(Ids::default());
        let mut encoder = Encoder::new();
        let mut value = |total| {
            let wire = inserted(&[Some("7"), Some("ann"), None, total]);
            encoder.row(&plan, &CONTEXT, &row(&wire), 0).unwrap();
            encoder.records().next().unwrap().value.map(<[u8]>::to_vec)
        };
        assert_eq!(value(None).as_deref(), null);
        assert!(value(Some("5")).is_some());
    }
}

/// The record of an inserted row as text, or the error of planning or encoding.
fn inserted_as(settings: &config::Checked, cells: &[Option<&str>]) -> Result<String, String> {
    let planner = Planner::new(settings.encode.clone(), "app", "run", 1);
    let draft = planner.draft(&orders(ReplicaIdentity::Full)).map_err(|it| it.to_string())?;
    let (plan, wire) = (draft.into_plan(Ids::default()), inserted(cells));
    let mut encoder = Encoder::new();
    let told = |error: EncodeError| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    encoder.row(&plan, &CONTEXT, &row(&wire), 0).map_err(told)?;
    let value = encoder.records().next().unwrap().value.unwrap_or_default();
    Ok(String::from_utf8_lossy(value).into_owned())
}

#[test]
fn a_cast_that_overflows_names_the_column_and_no_value() {
    let cast = settings(
        "type = \"unwrap\"\n\n[[transform]]\ntype = \"cast\"\nspec = [\"total:int8\", \"customer:boolean\"]",
    );
    let of = |total| inserted_as(&cast, &[Some("7"), Some("true"), None, total]);
    assert_eq!(of(Some("127")).unwrap(), r#"{"id":7,"customer":true,"note":"none","total":127}"#);
    assert_eq!(of(None).unwrap(), r#"{"id":7,"customer":true,"note":"none","total":null}"#);
    let told = of(Some("128")).unwrap_err();
    assert_eq!(
        told,
        "convert column `total` of public.orders: the value is out of the range of int8"
    );
}

/// The letter of a message of pgoutput, and its tuples with their letters.
pub(super) type Letters<'a> = (u8, &'a [(u8, &'a [Option<&'a str>])]);

/// The topic of a row that names it, with the route by which its plan is found.
pub(super) fn topic_of(
    toml: &str,
    table: &Table,
    (letter, tuples): Letters<'_>,
) -> Result<(String, String), String> {
    let planner = Planner::new(settings(toml).encode, "app", "run", 1);
    let told = |error: PlanError| error.to_string();
    let plan = planner.draft(table).map_err(told)?.into_plan(Ids::default());
    let (router, wire) = (plan.router().unwrap(), message(letter, tuples));
    let row = match pgoutput::decode(&wire).unwrap() {
        Message::Insert { new, .. } => Row::Insert { new },
        Message::Update { old, new, .. } => Row::Update { old, new },
        Message::Delete { old, .. } => Row::Delete { old },
        other => panic!("{other:?}"),
    };
    let mut route = String::new();
    let found = router.of(&row, &CONTEXT, &mut route);
    if found.map_err(|error| error.to_string())? == Route::Own {
        return Ok((plan.topic().to_owned(), route));
    }
    router.check(&route, [].into_iter()).map_err(|error| error.to_string())?;
    Ok((planner.routed(router, &route).map_err(told)?.topic, route))
}

#[test]
fn a_row_goes_to_the_topic_that_its_column_names() {
    const BY: &str =
        "type = \"unwrap\"\ndeletes = \"rewrite-with-tombstone\"\nroute = \"customer\"";
    let full = orders(ReplicaIdentity::Full);
    let of = |more: &str, letter, tuples: &[(u8, &[Option<&str>])]| {
        topic_of(&format!("{BY}{more}"), &full, (letter, tuples)).map(|(topic, _)| topic)
    };
    assert_eq!(of("", b'I', &[(b'N', &FIRST)]).as_deref(), Ok("ann"));
    assert_eq!(of("", b'D', &[(b'O', &FIRST)]).as_deref(), Ok("ann"));
    let bob = [Some("7"), Some("bob"), None, None];
    assert_eq!(of("", b'U', &[(b'O', &FIRST), (b'N', &bob)]).as_deref(), Ok("bob"));
    let moved = [Some("8"), Some("bob"), None, None];
    let told = of("", b'U', &[(b'O', &FIRST), (b'N', &moved)]).unwrap_err();
    assert!(told.contains("public.orders") && told.contains("`customer`"), "{told}");
    for missing in [None, Some(" ")] {
        let row = [Some("7"), missing, None, None];
        let told = of("", b'I', &[(b'N', &row)]).unwrap_err();
        assert!(told.contains("`customer`, which makes the topic, is NULL or blank"), "{told}");
        let own = of("\nroute_missing = \"own\"", b'I', &[(b'N', &row)]);
        assert_eq!(own.as_deref(), Ok("shop.public.orders"), "as with Debezium");
    }
    let faulty = [Some("7"), Some("a b"), None, None];
    let told = of("", b'I', &[(b'N', &faulty)]).unwrap_err();
    assert!(!told.contains("a b") && told.contains("makes no name of a topic"), "{told}");
    let default = orders(ReplicaIdentity::Default);
    let told = topic_of(BY, &default, (b'I', &[(b'N', &FIRST)])).unwrap_err();
    assert!(told.contains("route_missing") && told.contains("`customer`"), "{told}");
}

#[test]
fn the_time_of_the_commit_is_a_part_of_the_topic() {
    let full = orders(ReplicaIdentity::Full);
    let insert: Letters<'_> = (b'I', &[(b'N', &FIRST)]);
    let timed = "type = \"timestamp-router\"";
    let (topic, route) = topic_of(timed, &full, insert).unwrap();
    assert_eq!((&*topic, &*route), ("shop.public.orders-20250822", "20250822\0"));
    let both = format!(
        "type = \"unwrap\"\nroute = \"customer\"\n\n[[transform]]\n{timed}\ntimestamp_format = \"yyyy\""
    );
    let (topic, route) = topic_of(&both, &full, insert).unwrap();
    assert_eq!((&*topic, &*route), ("ann-2025", "2025\0ann"));
    let planner = Planner::new(settings(timed).encode, "app", "run", 1);
    let plan = planner.draft(&full).unwrap().into_plan(Ids::default());
    let forgets = |known| plan.router().unwrap().forgets(known);
    assert_eq!([forgets(99), forgets(100)], [false, true], "a past day is not kept for ever");
    let outbox = format!("{OUTBOX}\n\n[[transform]]\n{timed}");
    let (topic, _) = topic_of(&outbox, &full, insert).unwrap();
    assert_eq!(topic, "outbox.event.ann-20250822");
}

const OUTBOX: &str = "type = \"outbox\"\nroute = \"customer\"\nevent_key = \"id\"\npayload = \"note\"\ntopics_max = 2";

#[test]
fn a_route_that_names_no_topic_is_refused_without_its_value() {
    let planner = Planner::new(settings(OUTBOX).encode, "app", "run", 1);
    let plan = planner.draft(&orders(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
    let router = plan.router().unwrap();
    let route = |customer| {
        let (wire, mut route) = (inserted(&[Some("7"), customer, None, None]), String::new());
        let found = router.of(&row(&wire), &CONTEXT, &mut route).map_err(|error| error.to_string());
        found.map(|found| (found, route))
    };
    assert_eq!(route(Some("ann")), Ok((Route::Found, "ann".to_owned())));
    let null = route(None).unwrap_err();
    assert!(null.contains("public.orders") && null.contains("`customer`"), "{null}");
    assert_eq!(router.check("ann", ["bob"].into_iter()), Ok(()));
    assert_eq!(router.check("ann\0{}", ["ann", "bob"].into_iter()), Ok(()), "not a new topic");
    let full = router.check("ann", ["bob", "eve"].into_iter()).unwrap_err().to_string();
    assert!(full.contains("more than 2 topics"), "{full}");
    for faulty in ["a b", "ä", &"x".repeat(250)] {
        let error = router.check(faulty, [].into_iter()).unwrap_err().to_string();
        assert!(error.contains("`customer`") && !error.contains(faulty), "{error}");
    }
}

#[test]
fn a_json_payload_is_written_as_its_struct() {
    let expanded = |format: &str, payload: Option<&str>| {
        let registry = "\n\n[registry]\nurl = \"http://127.0.0.1:1\"";
        let toml =
            format!("{OUTBOX}\nexpand_json = true{}", if format == "avro" { registry } else { "" });
        let planner = Planner::new(settings_in(format, &toml).encode, "app", "run", 1);
        let plan = planner.draft(&orders(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
        let router = plan.router().unwrap();
        let (wire, mut route) = (inserted(&[Some("7"), Some("ann"), payload, None]), String::new());
        router.of(&row(&wire), &CONTEXT, &mut route).unwrap();
        let draft = planner.routed(router, &route).unwrap();
        let (topic, schema) = (draft.topic.clone(), draft.value.as_ref().unwrap().text.clone());
        let mut encoder = Encoder::new();
        encoder.row(&draft.into_plan(Ids::default()), &CONTEXT, &row(&wire), 0).unwrap();
        let value = encoder.records().next().unwrap().value.unwrap().to_vec();
        (topic, schema, value)
    };
    let json = |payload| String::from_utf8(expanded("json", payload).2).unwrap();
    let document = r#"{"total":5,"lines":[{"sku":"a"}],"ok":true,"no":null}"#;
    assert_eq!(json(Some(document)), r#"{"total":5,"lines":[{"sku":"a"}],"ok":true}"#);
    assert_eq!(json(Some("{no json")), r#""{no json""#);
    let (topic, schema, value) = expanded("avro", Some(document));
    assert_eq!(topic, "outbox.event.ann");
    assert!(
        schema.starts_with(r#"["null",{"type":"record","name":"note","fields":[{"name":"total""#)
    );
    let apache = apache_avro::Schema::parse_str(&schema).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&apache).build().unwrap();
    let mut bytes = &value[5..];
    let read = serde_json::Value::try_from(reader.read_value(&mut bytes).unwrap()).unwrap();
    assert!(bytes.is_empty());
    assert_eq!(read["lines"][0]["sku"], "a", "{read}");
}

type Placed = (Option<i64>, Option<i64>, Option<String>);

/// Time, partition and value of the only record that an outbox makes of a row.
fn placed(more: &str, table: &Table, cells: &[Option<&str>]) -> Result<Placed, String> {
    let planner = Planner::new(settings(&format!("{OUTBOX}\n{more}")).encode, "app", "run", 1);
    let told = |error: PlanError| error.to_string();
    let plan = planner.draft(table).map_err(told)?.into_plan(Ids::default());
    let router = plan.router().unwrap();
    let (wire, mut route) = (inserted(cells), String::new());
    router.of(&row(&wire), &CONTEXT, &mut route).map_err(|error| error.to_string())?;
    let plan = planner.routed(router, &route).map_err(told)?.into_plan(Ids::default());
    let mut encoder = Encoder::new();
    let encoded = encoder.row(&plan, &CONTEXT, &row(&wire), 0);
    encoded.map_err(|error| error.to_string())?;
    let record = encoder.records().next().unwrap();
    let value = record.value.map(|value| String::from_utf8_lossy(value).into_owned());
    Ok((record.time, record.partition, value))
}

#[test]
fn an_event_has_the_time_and_partition_of_its_row() {
    let mut table = orders(ReplicaIdentity::Full);
    let at = Column {
        name: "at".into(),
        kind: ColumnKind::Timestamp { precision: 6 },
        ..table.columns[3].clone()
    };
    table.columns.push(at);
    let of = |at: Option<&str>, total: Option<&str>| {
        let more = "timestamp = \"at\"\nplacement = [\"total:partition\"]";
        placed(more, &table, &[Some("7"), Some("ann"), Some("x"), total, at])
    };
    let (time, partition, _) = of(Some("2020-01-02 00:00:00.123456"), Some("3")).unwrap();
    assert_eq!((time, partition), (Some(1_577_923_200_123), Some(3)));
    let (time, partition, _) = of(None, None).unwrap();
    assert_eq!((time, partition), (None, None), "the sending and the key decide");
    let early = of(Some("1970-01-01 00:00:00"), None).unwrap_err();
    assert!(early.contains("public.orders") && early.contains("1970-01-01"), "{early}");
    for (more, field) in
        [("timestamp = \"total\"", "total"), ("placement = [\"note:partition\"]", "note")]
    {
        let refused = placed(more, &table, &FIRST).unwrap_err();
        assert!(refused.contains("transform 1 (outbox)"), "{field}: {refused}");
    }
}

#[test]
fn an_empty_payload_is_a_tombstone_where_asked() {
    let table = orders(ReplicaIdentity::Full);
    let value = |more: &str, payload| {
        placed(more, &table, &[Some("7"), Some("ann"), payload, None]).unwrap().2
    };
    let on = "tombstones = true\nexpand_json = true";
    for empty in [None, Some(""), Some(" \t\n")] {
        assert_eq!(value(on, empty), None);
        assert!(value("", empty).is_some());
    }
    assert_eq!(value(on, Some("{}")).as_deref(), Some("{}"));
}

#[test]
fn a_placement_that_a_table_lacks_is_left_out_where_asked() {
    let table = orders(ReplicaIdentity::Full);
    let more = "placement = [\"no:envelope\", \"no:partition\", \"total:envelope\"]";
    let refused = placed(more, &table, &FIRST).unwrap_err();
    assert!(refused.contains("transform 1 (outbox)"), "{refused}");
    let left_out = placed(&format!("{more}\nplacement_missing = \"ignore\""), &table, &FIRST);
    assert_eq!(left_out.unwrap().2.as_deref(), Some(r#"{"payload":"none","total":5}"#));
}

const MESSAGES: &str = "type = \"decode-message\"\nwhen_topic = '.*\\.message'\n\n[[transform]]\ntype = \"outbox\"\n\
                        when_topic = '.*\\.message'";

#[test]
fn a_logical_message_is_an_event_of_its_content() {
    let planner = Planner::new(settings(MESSAGES).encode, "app", "run", 1);
    let plan = planner.message_draft().into_plan(Ids::default());
    let router = plan.router().unwrap();
    let record = |content: &str| {
        let mut route = String::new();
        router.of_message(content.as_bytes(), &mut route).map_err(|error| error.to_string())?;
        router.check(&route, [].into_iter()).map_err(|error| error.to_string())?;
        let plan = planner.routed(router, &route).unwrap().into_plan(Ids::default());
        let mut encoder = Encoder::new();
        encoder.message(&plan, &CONTEXT, "outbox", content.as_bytes(), 0).unwrap();
        let record = encoder.records().next().unwrap();
        let text = |part: Option<&[u8]>| String::from_utf8(part.unwrap().to_vec()).unwrap();
        let headers: Vec<String> =
            record.headers().map(|(name, value)| format!("{name}={}", text(value))).collect();
        let (key, value) = (text(record.key), text(record.value));
        Ok::<_, String>(format!("{} {key} {value} {}", plan.topic(), headers.join(" ")))
    };
    let event = r#"{"id":"m-1","aggregatetype":"order","aggregateid":"7","payload":{"total":5}}"#;
    assert_eq!(record(event).unwrap(), r#"outbox.event.order "7" {"total":5} id=m-1"#);
    for (content, told) in [
        ("", "no JSON object"),
        ("secret", "no JSON object"),
        (r#"{"id":"secret","aggregatetype":"order","payload":1}"#, "`aggregateid`"),
        (r#"{"id":1,"aggregatetype":7,"aggregateid":1,"payload":"secret"}"#, "`aggregatetype`"),
    ] {
        let refused = record(content).unwrap_err();
        assert!(refused.contains(told) && !refused.contains("secret"), "{content}: {refused}");
    }
    // The outbox of logical messages changes nothing about a table, which has its usual topic.
    let table = planner.draft(&orders(ReplicaIdentity::Full)).unwrap();
    assert_eq!((table.topic.as_str(), table.router.is_none()), ("shop.public.orders", true));
}

#[test]
fn content_is_decoded_for_an_outbox_alone() {
    for more in ["", "\n\n[[transform]]\ntype = \"outbox\"\ntables = [\"public.orders\"]"] {
        let text = format!("[[transform]]\ntype = \"decode-message\"{more}\n");
        let faults = config::check("t.toml", &text, &config::Environment::default()).unwrap_err();
        assert!(faults.to_string().contains("transform.1.type"), "{faults}");
    }
}

#[test]
fn changed_fields_need_the_old_row_and_can_move_into_the_value() {
    let changed = "type = \"changed-fields\"\nchanged = \"c\"\nunchanged = \"u\"\n\n[[transform]]\n\
                   type = \"unwrap\"\ndeletes = \"drop\"\n\n[[transform]]\ntype = \"header-to-value\"\n\
                   headers = [\"c\"]\nfields = [\"c\"]\noperation = \"move\"";
    let lines = records(&settings(changed), &orders(ReplicaIdentity::Full)).unwrap();
    assert!(lines[0].ends_with(r#""c":[]} u=[]"#), "{lines:?}");
    assert!(lines[1].ends_with(r#""c":["note","total"]} u=["id","customer"]"#), "{lines:?}");
    let planner = Planner::new(settings(changed).encode, "app", "run", 1);
    let plan = planner.draft(&orders(ReplicaIdentity::Default)).unwrap().into_plan(Ids::default());
    let wire = message(b'U', &[(b'N', &SECOND)]);
    let Message::Update { old, new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    let mut encoder = Encoder::new();
    encoder.row(&plan, &CONTEXT, &Row::Update { old, new }, 0).unwrap();
    let record = encoder.records().next().unwrap();
    let header = record.headers().next().unwrap();
    assert_eq!(header, ("u", Some(&b"[]"[..])), "the old row is not known");
}

#[test]
fn a_routed_update_is_no_event_or_is_refused() {
    let route = |more: &str| {
        let planner = Planner::new(settings(&format!("{OUTBOX}{more}")).encode, "app", "run", 1);
        let plan = planner.draft(&orders(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
        let wire = inserted(&FIRST);
        let Row::Insert { new } = row(&wire) else { panic!() };
        let updated = plan.router().unwrap().of(
            &Row::Update { old: None, new },
            &CONTEXT,
            &mut String::new(),
        );
        updated.map(|route| route == Route::Unexpected)
    };
    assert_eq!(route(""), Ok(true));
    let refused = route("\nupdates = \"halt\"").unwrap_err().to_string();
    assert!(refused.contains("public.orders"), "{refused}");
}

#[test]
fn a_replay_is_transformed_to_the_same_bytes() {
    let full = orders(ReplicaIdentity::Full);
    for (title, _, toml) in EXAMPLES.iter().chain(conditions::EXAMPLES) {
        let settings = settings(toml);
        assert_eq!(records(&settings, &full), records(&settings, &full), "{title}");
    }
}

#[test]
fn what_a_table_cannot_give_is_refused_before_a_row() {
    let refused =
        |toml: &str, identity| records(&settings(toml), &orders(identity)).unwrap_err().to_string();
    let full = |toml: &str| refused(toml, ReplicaIdentity::Full);
    let missing = full("type = \"extract-field\"\nof = \"key\"\nfield = \"no\"");
    assert!(
        missing
            .contains("transform 1 (extract-field): the key has no field `no`; its fields are id"),
        "{missing}"
    );
    let topic = full("type = \"regex-router\"\nregex = \".*\"\nreplacement = \"a b\"");
    assert!(topic.contains("topic `a b`"), "{topic}");
    let clash = full("type = \"insert-field\"\nstatic_field = \"op\"\nstatic_value = \"x\"");
    assert!(clash.contains("two fields named `op`"), "{clash}");
    let divided = full(
        "type = \"insert-field\"\nstatic_field = \"x\"\nstatic_value = \"x\"\nof = \"key\"\nwhen_tombstone = true",
    );
    assert!(divided.contains("two key schemas"), "{divided}");
    let rewrite = "type = \"unwrap\"\ndeletes = \"rewrite\"\n\n[[transform]]\ntype = \"value-to-key\"\n\
                   fields = [\"customer\"]\nwhen_tombstone = true\nnegate = true";
    let outside = refused(rewrite, ReplicaIdentity::Default);
    assert!(outside.contains("does not hold the key column `customer`"), "{outside}");
}

#[test]
fn a_faulty_transform_is_told_with_its_place() {
    let told = |text: &str| {
        let faults = config::check("t.toml", text, &config::Environment::default()).unwrap_err();
        faults.to_string()
    };
    let text = told(
        "[[transform]]\ntype = \"unwarp\"\n\n[[transform]]\ntype = \"unwrap\"\ndelets = \"drop\"\nadd_fields = [\"a:b:c\"]\n",
    );
    for part in [
        "t.toml:2:1",
        "transform.1.type: expected one of \"unwrap\"",
        "t.toml:6:1",
        "transform.2.delets: unknown key; did you mean `deletes`?",
        "t.toml:7:1",
        "transform.2.add_fields: `a:b:c` is not a field",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let twice =
        told("[[transform]]\ntype = \"filter\"\nwhen_tombstone = true\nwhen_header = \"x\"\n");
    assert!(twice.contains("transform.1.negate: a transform has one condition"), "{twice}");
}
