//! Debezium's transforms of records and of the values in them: the examples of the page, and tests
//! from the configuration to the bytes.

use super::{
    CONTEXT, FIRST, OUTBOX, SECOND, inserted, lines, message, orders, row, settings, settings_in,
};
use wellspring::change::Row;
use wellspring::config;
use wellspring::encode::{Encoder, Ids, PlanError, Planner, Route};
use wellspring::lsn::Oid;
use wellspring::pgoutput::{self, Message};
use wellspring::table::{Column, ColumnKind, ReplicaIdentity, SourceType, Table, TableName};

/// The examples of the page: a title, what the transform is for, and its TOML.
pub const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "partition-routing",
        "The partition of a record follows from fields of the envelope, as with Debezium's `PartitionRouting`. \
         `fields` are paths that begin in the envelope; `change` stands for the row before a delete, and for the row \
         after any other change. `hash` is `java` (the default) or `murmur`, and the sum of the hashes gives one of \
         `partitions` partitions. A field that the table does not have, or that is NULL, does not count. If no field \
         counts, the key gives the partition. A table is refused if a path leads to a struct, a list or a map, or \
         into a `before` or `after` that a change lacks. A table whose topic has fewer partitions than `partitions` \
         is refused when it is planned. If another transform gives the topic of each row, the row is refused instead \
         of the table. Records keep to the number of partitions that their topic had at its first use. A tombstone \
         goes to the partition of its delete, so that compaction removes the row; with Debezium the key gives the \
         partition of a tombstone. A column of `fields` must be in the replica identity; otherwise the table is \
         refused, because its deletes would overtake its inserts. With `missing = \"ignore\"` such a table is \
         accepted, as with Debezium: the value that stands for the missing column counts, and so does the \
         placeholder of a large value that an update did not change. If the column changes in a row, events of the \
         row go to two partitions, and have no order between these partitions.",
        "type = \"partition-routing\"\nfields = [\"change.region\"]\npartitions = 12\n\n[[transform]]\ntype = \"unwrap\"\n\n\
         [[transform]]\ntype = \"replace-field\"\ninclude = [\"id\", \"region\"]",
    ),
    (
        "timezone",
        "Times in the rows are moved to a time zone, as with Debezium's `TimezoneConverter`: timestamps with and \
         without time zone, and times with time zone. `zone` is a name such as `Europe/Berlin` or an offset such as \
         `+02:00`. A timestamp or time with time zone stays the same instant, and gets another offset. A timestamp \
         without time zone is read as a local time of the zone. `include` and `exclude` have rules: \
         `\"source:table\"` or `\"topic:topic\"`, each with `:field` for one field. A rule without `source:` or \
         `topic:` names a topic or else a table. The fields `source.ts_ms`, `source.ts_us` and `source.ts_ns` are \
         moved only if a rule names them. The offset is looked up as if the value were a local time, as Debezium \
         does, so near a change of the clocks it can be the offset of some hours before or after. A time without \
         date takes the offset of the commit; Debezium takes the offset of the day on which it runs. Infinite \
         timestamps stay as they are. A null is read as the default of its column.",
        "type = \"timezone\"\nzone = \"Europe/Berlin\"\ninclude = [\"source:places:seen\"]\n\n[[transform]]\n\
         type = \"unwrap\"\n\n[[transform]]\ntype = \"replace-field\"\ninclude = [\"id\", \"seen\", \"at\"]",
    ),
    (
        "geometry-format",
        "The binary form of a geometry loses the number of its reference system, as with Debezium's \
         `GeometryFormatTransformer`; the field `srid` keeps this number. `format` is `wkb` or `ewkb`. `wkb` and \
         `ewkb` do the same for geometries of PostGIS: Debezium converts from the form that it finds, and PostGIS \
         has the extended form.",
        "type = \"geometry-format\"\n\n[[transform]]\ntype = \"unwrap\"\n\n[[transform]]\ntype = \"replace-field\"\n\
         include = [\"id\", \"spot\"]",
    ),
    (
        "swap-coordinates",
        "The first two coordinates of a geometry are swapped, as with Debezium's `SwapGeometryCoordinates`, if the \
         reference system of the geometry is one of `srids` (by default 4326, 3857 and 4269). Debezium does not swap \
         curves and surfaces made of triangles; here such a geometry halts the stream.",
        "type = \"swap-coordinates\"\nsrids = [\"4326\"]\n\n[[transform]]\ntype = \"unwrap\"\n\n[[transform]]\n\
         type = \"replace-field\"\ninclude = [\"id\", \"spot\"]",
    ),
    (
        "vector-to-json",
        "Vectors become texts of JSON, as with Debezium's `VectorToJsonConverter`.",
        "type = \"vector-to-json\"\n\n[[transform]]\ntype = \"unwrap\"\n\n[[transform]]\ntype = \"replace-field\"\n\
         include = [\"id\", \"face\"]",
    ),
    (
        "unwrap, with fields dropped",
        "An update leaves out the fields that a header of `changed-fields` lists: in this example the fields that \
         the update does not change. Required fields stay, unless `drop_fields_compatible = false`. With \
         `drop_fields_from_key = true` the key leaves out these fields as well, and is then another key. A null in \
         such an update is read as the default of its column, as with Debezium. Each set of fields has a schema, \
         which the registry gets as a version. The updates of a table may have at most 1000 sets of fields; one more \
         set halts the stream. The table needs REPLICA IDENTITY FULL; otherwise no field is dropped.",
        "type = \"changed-fields\"\nunchanged = \"same\"\n\n[[transform]]\ntype = \"unwrap\"\n\
         drop_fields_header = \"same\"\n\n[[transform]]\ntype = \"drop-headers\"\nheaders = [\"same\"]",
    ),
];

pub const HEAD: &str = "
## The records of the next examples

The table `places` has the columns `id` (the primary key), `region`, `seen` (a timestamp with time zone), `at` (a
timestamp without time zone), `spot` (a geometry) and `face` (a vector). Its replica identity is FULL. A place is
inserted, updated and deleted.
";

const SPOT: &str = "0101000020E6100000000000000000F83F0000000000000440";
const PLACE: [Option<&str>; 6] = [
    Some("7"),
    Some("orange"),
    Some("2018-06-20 13:37:03.12+00"),
    Some("2018-06-20 13:37:03.12"),
    Some(SPOT),
    Some("[1,2.5]"),
];
const SEEN: [Option<&str>; 6] =
    [Some("7"), Some("orange"), Some("2018-12-20 13:37:03+00"), None, Some(SPOT), None];

fn places(identity: ReplicaIdentity) -> Table {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        not_null: name == "id",
        default: None,
        source_type: SourceType::default(),
        serial: false,
        in_identity: identity == ReplicaIdentity::Full || name == "id",
    };
    let columns = vec![
        column("id", ColumnKind::Int4),
        column("region", ColumnKind::Text),
        column("seen", ColumnKind::TimestampTz { precision: 6 }),
        column("at", ColumnKind::Timestamp { precision: 6 }),
        column("spot", ColumnKind::Geometry),
        column("face", ColumnKind::Vector),
    ];
    let name = TableName::new("public", "places");
    Table { oid: Oid(2), name, identity, columns, key: vec![0] }
}

/// The records of an insert, an update and a delete of a row of the table of places.
pub fn records(config: &config::Checked) -> Result<Vec<String>, PlanError> {
    lines(config, &places(ReplicaIdentity::Full), [&PLACE, &SEEN])
}

const PARTITION: &str =
    "type = \"partition-routing\"\nfields = [\"change.region\"]\npartitions = 12";
const REGISTRY: &str = "\n\n[registry]\nurl = \"http://127.0.0.1:1\"";

#[test]
fn a_tombstone_has_the_partition_of_its_delete() {
    let lines = records(&settings(PARTITION)).unwrap();
    let partitions: Vec<&str> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(partitions.len(), 4, "{lines:?}");
    assert!(partitions.iter().all(|it| it.starts_with("partition=") && *it == partitions[0]));
}

#[test]
fn a_column_outside_the_identity_makes_no_partition_unasked() {
    let of = |more: &str| {
        let config = settings(&format!("{PARTITION}{more}"));
        lines(&config, &places(ReplicaIdentity::Default), [&PLACE, &SEEN])
    };
    let refused = of("").unwrap_err().to_string();
    let told = "table public.places: the replica identity does not hold column `region`, which makes \
                the partition";
    assert!(refused.starts_with(told), "{refused}");
    assert!(of("\nmissing = \"ignore\"").is_ok());
}

#[test]
fn a_row_without_the_column_of_its_partition_says_so() {
    let config = settings(PARTITION);
    let planner = Planner::new(config.encode.clone(), "app", "run", 1);
    let plan = planner.draft(&places(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
    let mut wire = message(b'U', &[(b'N', &SEEN)]);
    let region = wire.windows(11).position(|at| at == b"t\0\0\0\x06orange").unwrap();
    wire.splice(region..region + 11, [b'u']);
    let Message::Update { old, new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    let error = Encoder::new().row(&plan, &CONTEXT, &Row::Update { old, new }, 0).unwrap_err();
    let told = "place a row of public.places: column `region`, which makes the partition, is not in \
                the row; its replica identity must hold the column, or write missing = \"ignore\" \
                in partition-routing";
    assert_eq!(error.to_string(), told);
}

#[test]
fn what_makes_no_partition_is_refused_before_a_row() {
    let refused = |field: &str| {
        let text = format!("type = \"partition-routing\"\nfields = [\"{field}\"]\npartitions = 3");
        let refused = records(&settings(&text)).unwrap_err();
        std::error::Error::source(&refused).map_or_else(|| refused.to_string(), told)
    };
    for field in ["change.spot", "source", "ts_ms", "change.spot.srid"] {
        assert!(refused(field).contains("makes no partition"), "{field}: {}", refused(field));
    }
    for field in ["after.region", "before.region"] {
        assert!(refused(field).contains("write `change`"), "{field}: {}", refused(field));
    }
    let none = "type = \"partition-routing\"\nfields = [\"change.no\", \"no\"]\npartitions = 3";
    let lines = records(&settings(none)).unwrap();
    assert!(!lines[0].contains("partition="), "a missing field does not count: {lines:?}");
}

/// An error with its causes.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", told(cause)))
}

#[test]
fn values_are_seen_otherwise_and_their_schemas_stay() {
    let schema = |toml: &str| {
        let config = settings_in("avro", &format!("{toml}{REGISTRY}"));
        let planner = Planner::new(config.encode, "app", "run", 1);
        planner.draft(&places(ReplicaIdentity::Full)).unwrap().value.unwrap().text
    };
    let plain = schema("type = \"filter\"\nwhen_tombstone = true");
    for kind in ["geometry-format\"", "swap-coordinates\"", "timezone\"\nzone = \"+01:00\""] {
        assert_eq!(schema(&format!("type = \"{kind}")), plain, "{kind}");
    }
    let json = schema("type = \"vector-to-json\"");
    assert_ne!(json, plain);
    assert!(json.contains("io.debezium.data.Json") && !json.contains("DoubleVector"), "{json}");
}

const UNCHANGED: &str = "type = \"changed-fields\"\nunchanged = \"u\"\n\n[[transform]]\n\
                         type = \"unwrap\"\ndrop_fields_header = \"u\"";

#[test]
fn an_update_drops_the_optional_fields_that_it_leaves() {
    let mut full = orders(ReplicaIdentity::Full);
    full.columns[3].kind = ColumnKind::Int8;
    let updated = |more: &str, second: &[Option<&str>]| {
        let lines = lines(&settings(&format!("{UNCHANGED}{more}")), &full, [&FIRST, second]);
        lines.unwrap()[1].clone()
    };
    let [id, customer, note, _] = FIRST;
    let left = [id, customer, note, Some("9")];
    let whole = r#"shop.public.orders {"id":7}"#;
    let names = r#"u=["id","customer","note"]"#;
    // `id` and `customer` are required.
    let value = format!(r#"{{"id":7,"customer":"ann","total":9}} {names}"#);
    assert_eq!(updated("", &left), format!("{whole} {value}"));
    let all = "\ndrop_fields_compatible = false";
    assert_eq!(updated(all, &left), format!(r#"{whole} {{"total":9}} {names}"#));
    let key = format!("{all}\ndrop_fields_from_key = true");
    assert_eq!(updated(&key, &left), format!(r#"shop.public.orders {{}} {{"total":9}} {names}"#));
    let changed = updated("", &SECOND);
    assert!(changed.contains(r#""note":"gift","total":6"#), "{changed}");
}

#[test]
fn each_set_of_dropped_fields_has_a_schema() {
    let config = settings_in("avro", &format!("{UNCHANGED}{REGISTRY}"));
    let planner = Planner::new(config.encode, "app", "run", 1);
    let own = planner.draft(&orders(ReplicaIdentity::Full)).unwrap();
    let text = |draft: &wellspring::encode::Draft| draft.value.as_ref().unwrap().text.clone();
    let whole = text(&own);
    let plan = own.into_plan(Ids::default());
    let router = plan.router().unwrap();
    let schema = |new: &[Option<&str>]| {
        let wire = message(b'U', &[(b'O', &FIRST), (b'N', new)]);
        let Message::Update { old, new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
        let (row, mut route) = (Row::Update { old, new }, String::new());
        match router.of(&row, &CONTEXT, &mut route).unwrap() {
            Route::Own => None,
            Route::Found => Some(text(&planner.routed(router, &route).unwrap())),
            other => panic!("{other:?}"),
        }
    };
    let [id, ann, note, total] = FIRST;
    let total_alone = schema(&[id, Some("bob"), note, Some("9")]).unwrap();
    assert!(total_alone.contains("\"total\"") && !total_alone.contains("\"note\""));
    let note_alone = schema(&[id, ann, Some("x"), total]).unwrap();
    assert!(note_alone != total_alone && note_alone != whole);
    assert_eq!(schema(&[Some("8"), ann, note, total]), None, "a delete and a create drop nothing");
}

#[test]
fn a_header_that_names_no_fields_is_refused() {
    let text = "type = \"insert-header\"\nheader = \"u\"\nvalue = \"note\"\n\n[[transform]]\n\
                type = \"unwrap\"\ndrop_fields_header = \"u\"";
    let refused = super::records(&settings(text), &orders(ReplicaIdentity::Full)).unwrap_err();
    assert!(told(&refused).contains("header `u` holds no names"), "{}", told(&refused));
    let none = "type = \"unwrap\"\ndrop_fields_header = \"u\"";
    let lines = super::records(&settings(none), &orders(ReplicaIdentity::Full)).unwrap();
    assert!(lines[1].contains("\"customer\""), "a record without the header is whole: {lines:?}");
}

#[test]
fn what_drops_fields_is_limited_by_the_topic_and_names_none() {
    for (more, told) in [
        ("drop_fields_header = \"u\"\nroute = \"customer\"", "transform.1.drop_fields_header"),
        ("drop_fields_header = \"u\"\nwhen_header = \"u\"", "transform.1.negate"),
        ("drop_fields_from_key = true", "belongs to `drop_fields_header`"),
    ] {
        let text = format!("[[transform]]\ntype = \"unwrap\"\n{more}\n");
        let faults = config::check("t.toml", &text, &config::Environment::default()).unwrap_err();
        assert!(faults.to_string().contains(told), "{told} is not in {faults}");
    }
}

#[test]
fn a_schema_has_the_version_of_its_event() {
    let more = "placement = [\"id:envelope\"]\nschema_version = \"total\"";
    let config = settings_in("avro", &format!("{OUTBOX}\n{more}{REGISTRY}"));
    let planner = Planner::new(config.encode, "app", "run", 1);
    let plan = planner.draft(&orders(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
    let router = plan.router().unwrap();
    let schema = |version| {
        let wire = inserted(&[Some("7"), Some("ann"), Some("x"), version]);
        let mut route = String::new();
        router.of(&row(&wire), &CONTEXT, &mut route).map_err(|it| it.to_string())?;
        let draft = planner.routed(router, &route).unwrap();
        assert_eq!(draft.topic, "outbox.event.ann");
        Ok::<_, String>(draft.value.unwrap().text)
    };
    assert!(schema(Some("3")).unwrap().contains("\"connect.version\":3"));
    assert!(!schema(None).unwrap().contains("connect.version"));
    let refused = schema(Some("-1")).unwrap_err();
    assert!(refused.contains("`total` of public.orders"), "{refused}");
}

#[test]
fn a_value_is_written_by_row_as_its_zone_has_it() {
    let zone = "type = \"timezone\"\nzone = \"America/New_York\"\n\n[[transform]]\n\
                type = \"unwrap\"\ndeletes = \"drop\"\n\n[[transform]]\ntype = \"replace-field\"\n\
                include = [\"seen\", \"at\"]";
    let lines = records(&settings(zone)).unwrap();
    let ends = |line: usize, text: &str| assert!(lines[line].ends_with(text), "{lines:?}");
    ends(0, r#"{"seen":"2018-06-20T09:37:03.12-04:00","at":1529516223120000}"#);
    ends(1, r#"{"seen":"2018-12-20T08:37:03-05:00","at":null}"#);
    let planner = Planner::new(settings(zone).encode, "app", "run", 1);
    let plan = planner.draft(&places(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
    let wire = inserted(&[Some("7"), None, Some("infinity"), None, None, None]);
    // The encoder may refuse this row, and must not panic.
    let _ = Encoder::new().row(&plan, &CONTEXT, &row(&wire), 0);
}
