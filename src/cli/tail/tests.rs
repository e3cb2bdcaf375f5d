//! Tests that encode rows with every kind of type in each format, decode the records, and compare
//! the lines that a person sees.

use super::decode::Decoder;
use crate::change::{Context, Marker, Position, Row};
use crate::encode::{
    Config, Encoder, Format, HstoreMode, Ids, IntervalMode, Modes, Planner, TimeMode,
};
use crate::kafka::Tailed;
use crate::lsn::{Lsn, Oid, PgMicros, Xid};
use crate::pgoutput::{self, Message};
use crate::table::{
    Column, ReplicaIdentity, SourceType, Table, TableName, TypeClass, TypeFacts, resolve,
};
use expect_test::{Expect, expect};
use std::collections::BTreeMap;

/// The oids that these tests give to an enum and to types of extensions.
const HSTORE: u32 = 20_001;
const VECTOR: u32 = 20_002;
const GEOMETRY: u32 = 20_003;
const MOOD: u32 = 20_004;
const SPARSE: u32 = 20_005;

/// A column and its value: name, oid of the type, type modifier, and the value as a text.
type Cell = (&'static str, u32, i32, &'static str);

const CELLS: [Cell; 38] = [
    ("id", 23, -1, "7"),
    ("boolean", 16, -1, "t"),
    ("smallint", 21, -1, "-32768"),
    ("bigint", 20, -1, "9223372036854775807"),
    ("real", 700, -1, "1.1"),
    ("double", 701, -1, "-0.5"),
    ("numeric_10_2", 1700, (10 << 16) + 2 + 4, "-0.05"),
    ("numeric_20_8", 1700, (20 << 16) + 8 + 4, "0"),
    ("numeric", 1700, -1, "12345678901234567890123.4500"),
    ("money", 790, -1, "$1,234.50"),
    ("text", 25, -1, "a \"b\"\nü"),
    ("json", 114, -1, "{\"a\": 1}"),
    ("xml", 142, -1, "<a/>"),
    ("uuid", 2950, -1, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bytea", 17, -1, "\\x00ff10"),
    ("bit", 1560, 1, "1"),
    ("bits", 1562, 24, "1011"),
    ("date", 1082, -1, "2026-11-29"),
    ("date_bc", 1082, -1, "0044-03-15 BC"),
    ("time_3", 1083, 3, "13:51:30.123"),
    ("time", 1083, -1, "24:00:00"),
    ("timetz", 1266, -1, "13:51:30.123456+02"),
    ("timestamp_3", 1114, 3, "1969-12-31 23:59:59.999"),
    ("timestamp", 1114, -1, "2026-11-29 21:13:10.123456"),
    ("timestamptz", 1184, -1, "2026-11-29 21:13:10.5+00"),
    ("interval", 1186, -1, "1 day 00:00:01"),
    ("point", 600, -1, "(1,2.5)"),
    ("inet", 869, -1, "10.0.0.1/8"),
    ("range", 3904, -1, "[1,5)"),
    ("tsvector", 3614, -1, "'a':1"),
    ("ints", 1007, -1, "{1,NULL,3}"),
    ("numerics", 1231, (5 << 16) + 2 + 4, "{1.50,-2.25}"),
    ("timestamps", 1115, -1, "{\"2026-11-29 21:13:10.123456\"}"),
    ("hstore", HSTORE, -1, "\"a\"=>\"1\", \"b\"=>NULL"),
    ("vector", VECTOR, -1, "[1,2.5]"),
    ("sparse", SPARSE, -1, "{1:0.5,3:2}/4"),
    ("geometry", GEOMETRY, -1, "0101000000000000000000F03F0000000000000040"),
    ("mood", MOOD, -1, "ok"),
];

fn column((name, oid, typmod, _): &Cell) -> Column {
    let named =
        |name: &str, class| TypeFacts { name: name.into(), namespace: "public".into(), class };
    let base = |name: &str| named(name, TypeClass::Base);
    let labels = vec!["sad".into(), "ok".into()];
    let types = BTreeMap::from([
        (Oid(HSTORE), base("hstore")),
        (Oid(VECTOR), base("vector")),
        (Oid(SPARSE), base("sparsevec")),
        (Oid(GEOMETRY), base("geometry")),
        (Oid(MOOD), named("mood", TypeClass::Enum { labels })),
    ]);
    Column {
        name: (*name).into(),
        kind: resolve(Oid(*oid), *typmod, &types),
        not_null: *name == "id",
        default: None,
        source_type: SourceType::default(),
        serial: false,
        in_identity: *name == "id",
    }
}

const CONTEXT: Context<'static> = Context {
    position: Position { commit: Lsn::new(34_837_832), ordinal: 0 },
    lsn: Lsn::new(34_837_832),
    last_commit: Some(Lsn::new(34_837_776)),
    xid: Some(Xid(771)),
    committed_at: PgMicros(809_165_600_123_456),
    origin: None,
    xmin: None,
    marker: Marker::Streamed,
};

/// Encodes one message of pgoutput about a table with these cells into records, and returns the
/// line that `wellspring tail` shows for each record.
async fn lines(config: Config, raw: bool, cells: &[Cell], wire: &[u8]) -> Vec<String> {
    let table = Table {
        oid: Oid(1),
        name: TableName::new("public", "t"),
        identity: ReplicaIdentity::Full,
        columns: cells.iter().map(column).collect(),
        key: vec![0],
    };
    let decoded = config.format;
    let mut decoder = Decoder::new(None, decoded, raw);
    let draft = Planner::new(config, "app", "run", 1).draft(&table).unwrap();
    for (id, schema) in [(1, &draft.key), (2, &draft.value)] {
        // Only Avro needs this: in the other formats a record contains its schema or has none.
        if let (Some(schema), Format::Avro) = (schema, decoded) {
            decoder.learn(id, &schema.text).unwrap();
        }
    }
    let plan = draft.into_plan(Ids { key: Some(1), value: 2 });
    let row = match pgoutput::decode(wire).unwrap() {
        Message::Insert { new, .. } => Row::Insert { new },
        Message::Delete { old, .. } => Row::Delete { old },
        other => panic!("{other:?}"),
    };
    let mut encoder = Encoder::new();
    encoder.row(&plan, &CONTEXT, &row, 1).unwrap();
    let mut lines = Vec::new();
    for (offset, record) in (40..).zip(encoder.records()) {
        let headers = record.headers();
        let record = Tailed {
            topic: plan.topic().to_owned(),
            partition: 3,
            offset,
            timestamp_ms: Some(1_755_850_400_123),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect(),
        };
        lines.push(decoder.line(&record).await.unwrap());
    }
    lines
}

fn config(format: Format) -> Config {
    Config { format, context_headers: false, ..Config::new("shop") }
}

fn message(head: &[u8], cells: &[Cell]) -> Vec<u8> {
    let mut wire = head.to_vec();
    wire.extend_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
    for (.., text) in cells {
        wire.push(b't');
        wire.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        wire.extend_from_slice(text.as_bytes());
    }
    wire
}

const INSERT: [u8; 6] = [b'I', 0, 0, 0, 1, b'N'];
const DELETE: [u8; 6] = [b'D', 0, 0, 0, 1, b'O'];

/// Encodes an insert of these cells, and returns the fields of `after` as `wellspring tail` shows
/// them, each on a line.
async fn row(config: Config, raw: bool, cells: &[Cell]) -> String {
    let lines = lines(config, raw, cells, &message(&INSERT, cells)).await;
    let after = lines[0].split_once("\"after\":{").unwrap().1.split_once("},\"source\"").unwrap().0;
    let mut shown = after.to_owned();
    for (name, ..) in cells.iter().skip(1) {
        let begin = format!(",\"{name}\":");
        assert!(shown.contains(&begin), "{name} in {shown}");
        shown = shown.replacen(&begin, &format!("\n{}", &begin[1..]), 1);
    }
    shown.push('\n');
    shown
}

fn check(shown: &str, expect: &Expect) {
    expect.assert_eq(shown);
}

#[tokio::test]
async fn every_type_is_shown_as_a_person_reads_it() {
    check(
        &row(config(Format::Avro), false, &CELLS).await,
        &expect![[r#"
        "id":7
        "boolean":true
        "smallint":-32768
        "bigint":9223372036854775807
        "real":1.1
        "double":-0.5
        "numeric_10_2":"-0.05"
        "numeric_20_8":"0.00000000"
        "numeric":"12345678901234567890123.45"
        "money":"1234.50"
        "text":"a \"b\"\nü"
        "json":"{\"a\": 1}"
        "xml":"<a/>"
        "uuid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        "bytea":"AP8Q"
        "bit":true
        "bits":"Cw=="
        "date":"2026-11-29"
        "date_bc":"-0043-03-15"
        "time_3":"13:51:30.123"
        "time":"24:00:00.000000"
        "timetz":"11:51:30.123456Z"
        "timestamp_3":"1969-12-31T23:59:59.999"
        "timestamp":"2026-11-29T21:13:10.123456"
        "timestamptz":"2026-11-29T21:13:10.500000Z"
        "interval":86401000000
        "point":{"x":1.0,"y":2.5,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAARA","srid":null}
        "inet":"10.0.0.1/8"
        "range":"[1,5)"
        "tsvector":"'a':1"
        "ints":[1,null,3]
        "numerics":["1.50","-2.25"]
        "timestamps":["2026-11-29T21:13:10.123456"]
        "hstore":"{\"a\":\"1\",\"b\":null}"
        "vector":[1.0,2.5]
        "sparse":{"dimensions":4,"vector":[{"key":1,"value":0.5},{"key":3,"value":2.0}]}
        "geometry":{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}
        "mood":"ok"
    "#]],
    );
}

#[tokio::test]
async fn avro_and_json_with_its_schema_look_the_same() {
    // `sparse` differs: a map whose keys are not strings is a list of records in Avro and a list
    // of pairs in JSON.
    let cells: Vec<Cell> = CELLS.into_iter().filter(|(name, ..)| *name != "sparse").collect();
    let avro = row(config(Format::Avro), false, &cells).await;
    assert_eq!(row(config(Format::JsonSchema), false, &cells).await, avro);
}

#[tokio::test]
async fn other_modes_of_types_are_shown_by_their_schema() {
    let cells: Vec<Cell> = CELLS
        .into_iter()
        .filter(|(name, ..)| {
            let begins = ["id", "date", "time", "interval", "hstore"];
            begins.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    let mut shown = String::new();
    for time in [TimeMode::Connect, TimeMode::Nanoseconds, TimeMode::IsoString] {
        let modes = Modes {
            time,
            intervals: IntervalMode::Text,
            hstore: HstoreMode::Map,
            ..Modes::default()
        };
        let avro = Config { modes, ..config(Format::Avro) };
        let json = Config { modes, ..config(Format::JsonSchema) };
        let row_of_avro = row(avro, false, &cells).await;
        assert_eq!(row(json, false, &cells).await, row_of_avro);
        shown.push_str(&row_of_avro);
    }
    check(
        &shown,
        &expect![[r#"
        "id":7
        "date":"2026-11-29"
        "date_bc":"-0043-03-15"
        "time_3":"13:51:30.123"
        "time":"24:00:00.000"
        "timetz":"11:51:30.123456Z"
        "timestamp_3":"1969-12-31T23:59:59.999"
        "timestamp":"2026-11-29T21:13:10.123"
        "timestamptz":"2026-11-29T21:13:10.500000Z"
        "interval":"P0Y0M1DT0H0M1S"
        "timestamps":["2026-11-29T21:13:10.123"]
        "hstore":{"a":"1","b":null}
        "id":7
        "date":"2026-11-29"
        "date_bc":"-0043-03-15"
        "time_3":"13:51:30.123000000"
        "time":"24:00:00.000000000"
        "timetz":"11:51:30.123456Z"
        "timestamp_3":"1969-12-31T23:59:59.999000000"
        "timestamp":"2026-11-29T21:13:10.123456000"
        "timestamptz":"2026-11-29T21:13:10.500000Z"
        "interval":"P0Y0M1DT0H0M1S"
        "timestamps":["2026-11-29T21:13:10.123456000"]
        "hstore":{"a":"1","b":null}
        "id":7
        "date":"2026-11-29Z"
        "date_bc":"-0043-03-15Z"
        "time_3":"13:51:30.123Z"
        "time":"00:00:00Z"
        "timetz":"11:51:30.123456Z"
        "timestamp_3":"1969-12-31T23:59:59.999Z"
        "timestamp":"2026-11-29T21:13:10.123456Z"
        "timestamptz":"2026-11-29T21:13:10.500000Z"
        "interval":"P0Y0M1DT0H0M1S"
        "timestamps":["2026-11-29T21:13:10.123456Z"]
        "hstore":{"a":"1","b":null}
    "#]],
    );
}

#[tokio::test]
async fn raw_shows_what_the_record_has() {
    let cells: Vec<Cell> = CELLS
        .into_iter()
        .filter(|(name, ..)| ["id", "numeric_10_2", "numeric", "date", "time"].contains(name))
        .collect();
    let avro = row(config(Format::Avro), true, &cells).await;
    assert_eq!(row(config(Format::JsonSchema), true, &cells).await, avro);
    check(
        &avro,
        &expect![[r#"
        "id":7
        "numeric_10_2":"+w=="
        "numeric":{"scale":2,"value":"AQVuDzamRD3i33k="}
        "date":20786
        "time":86400000000
    "#]],
    );
}

#[tokio::test]
async fn a_line_has_place_time_key_value_and_headers() {
    let wire = message(&DELETE, &CELLS[..1]);
    let identified = Config { identity_headers: true, ..config(Format::Avro) };
    let lines = lines(identified, false, &CELLS[..1], &wire).await;
    let source = lines[0].split_once("\"source\":{").unwrap().1.split_once('}').unwrap().0;
    check(
        &lines.join("\n").replace(source, ".."),
        &expect![[r#"
        {"topic":"shop.public.t","partition":3,"offset":40,"time":"2025-08-22T08:13:20.123Z","key":{"id":7},"value":{"before":{"id":7},"after":null,"source":{..},"transaction":null,"op":"d","ts_ms":0,"ts_us":0,"ts_ns":1},"headers":{"wellspring.epoch":"1","wellspring.commit_lsn":"0/2139548","wellspring.ordinal":"0"}}
        {"topic":"shop.public.t","partition":3,"offset":41,"time":"2025-08-22T08:13:20.123Z","key":{"id":7},"value":null,"tombstone":true,"headers":{"wellspring.epoch":"1","wellspring.commit_lsn":"0/2139548","wellspring.ordinal":"0"}}"#]],
    );
}

#[tokio::test]
async fn json_is_shown_as_it_is() {
    let mut decoder = Decoder::new(None, Format::Json, false);
    let record = |value: &str| Tailed {
        topic: "t".to_owned(),
        partition: 0,
        offset: 1,
        timestamp_ms: None,
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let value = "{\"z\": 0.10,\n \"a\": 123456789012345678901234567890}";
    let line = decoder.line(&record(value)).await.unwrap();
    check(
        &line,
        &expect![[
            r#"{"topic":"t","partition":0,"offset":1,"key":null,"value":{"z": 0.10,  "a": 123456789012345678901234567890}}"#
        ]],
    );
}

#[tokio::test]
async fn a_record_of_somebody_else_is_shown_with_the_reason() {
    let mut shown = String::new();
    for (format, value) in [
        (Format::Avro, &[0, 0, 0, 0, 2, 1][..]),
        (Format::Avro, &[0, 0, 0, 0, 1, 2, 3]),
        (Format::Avro, &[0, 0, 0, 0, 9, 2]),
        (Format::Avro, b"plain text that is longer than what is shown of it"),
        (Format::Avro, b"{\"op\":\"c\"}"),
        (Format::Json, &[0, 0, 0, 0, 2, 1]),
        (Format::Json, b"not json"),
    ] {
        let mut decoder = Decoder::new(None, format, false);
        decoder.learn(1, "\"boolean\"").unwrap();
        decoder.learn(2, "\"string\"").unwrap();
        let record = Tailed {
            topic: "t".to_owned(),
            partition: 0,
            offset: 1,
            timestamp_ms: None,
            key: Some(b"\xff".to_vec()),
            value: Some(value.to_vec()),
            headers: vec![("h".to_owned(), None), ("h".to_owned(), Some(b"\xfe".to_vec()))],
        };
        let line = decoder.line(&record).await.unwrap();
        let begin = line.find("\"value").unwrap();
        shown.push_str(&line[begin..]);
        shown.push('\n');
    }
    check(
        &shown,
        &expect![[r#"
        "value_unreadable":{"bytes":6,"hex":"000000000201","why":"it does not fit its schema 2: Cannot convert i64 to usize: -1"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value_unreadable":{"bytes":7,"hex":"00000000010203","why":"it does not fit its schema 1: Invalid u8 for bool: 2"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value_unreadable":{"bytes":6,"hex":"000000000902","why":"no registry is configured"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value_unreadable":{"bytes":50,"hex":"706c61696e20746578742074686174206973206c6f6e676572207468616e2077..","why":"it does not begin as Confluent's serializers do, and is not JSON"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value":{"op":"c"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value_unreadable":{"bytes":6,"hex":"000000000201","why":"it is not JSON; it begins as Confluent's serializers do, and events.format is \"json\""},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
        "value_unreadable":{"bytes":8,"hex":"6e6f74206a736f6e","why":"it is not JSON"},"headers":{"h":null,"h":{"bytes":1,"hex":"fe","why":"it is not text"}}}
    "#]],
    );
}

#[test]
fn a_place_to_begin_is_a_word_an_offset_or_a_count() {
    use super::{Start, start};
    assert_eq!(start("beginning"), Ok(Start::Beginning));
    assert_eq!(start("end"), Ok(Start::End));
    assert_eq!(start("12"), Ok(Start::Offset(12)));
    assert_eq!(start("-12"), Ok(Start::Newest(12)));
    for wrong in ["", "-", "--3", "x", "1.5", "+-3"] {
        assert!(start(wrong).is_err(), "{wrong}");
    }
}
