//! Tests that apache-avro reads back each record of the encoder by the text of the record's schema.
//!
//! Rows are made as bytes of pgoutput, go through the real decoder, and come back as values.
//! `events.rs` compares records with Debezium's.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wellspring::change::{Context, Marker, Position, Row};
use wellspring::encode::{
    BinaryMode, Code, Config, DecimalMode, Encoder, Format, HstoreMode, Ids, IntervalMode, Modes,
    Plan, PlanError, Planner, TimeMode, UnknownMode,
};
use wellspring::lsn::{Lsn, Oid, PgMicros, Xid};
use wellspring::pgoutput::{self, CopyRow, Message};
use wellspring::table::{
    Column, ColumnKind, ReplicaIdentity, SourceType, Table, TableName, TypeClass, TypeFacts,
    resolve,
};

/// A type as the catalog names it: its oid and modifier.
type TypeId = (u32, i32);

/// Oids of an enum, its array and hstore in the catalog of these tests.
const MOOD: u32 = 20_001;
const MOODS: u32 = 20_002;
const HSTORE: u32 = 20_003;
/// Types of extensions. In the catalog of these tests they and their arrays have the oids from
/// `EXTENSION_FIRST` on.
const EXTENSION_TYPES: [&str; 6] =
    ["geometry", "geography", "vector", "halfvec", "sparsevec", "isbn"];
const EXTENSION_FIRST: u32 = 20_100;

/// The types of the columns in these tests. Together they have every kind of column.
const TYPES: [TypeId; 64] = [
    (16, -1),
    (17, -1),
    (18, -1),
    (20, -1),
    (21, -1),
    (23, -1),
    (25, -1),
    (26, -1),
    (114, -1),
    (142, -1),
    (600, -1),
    (700, -1),
    (701, -1),
    (790, -1),
    (869, -1),
    (1082, -1),
    (1083, -1),
    (1083, 3),
    (1114, -1),
    (1114, 0),
    (1184, -1),
    (1184, 3),
    (1186, -1),
    (1266, -1),
    (1560, 1),
    (1562, 24),
    (1700, -1),
    (1700, (10 << 16) + 2 + 4),
    (2950, -1),
    (3614, -1),
    (603, -1),
    (1007, -1),
    (1009, -1),
    (1231, -1),
    (1231, (5 << 16) + 2 + 4),
    (1000, -1),
    (1115, -1),
    (1185, -1),
    (2951, -1),
    (MOOD, -1),
    (MOODS, -1),
    (HSTORE, -1),
    (22, -1),
    (30, -1),
    (718, -1),
    (1020, -1),
    (1187, -1),
    (3220, -1),
    (3643, -1),
    (1182, -1),
    (1183, 3),
    (1001, -1),
    (EXTENSION_FIRST, -1),
    (EXTENSION_FIRST + 1, -1),
    (EXTENSION_FIRST + 2, -1),
    (EXTENSION_FIRST + 3, -1),
    (EXTENSION_FIRST + 4, -1),
    (EXTENSION_FIRST + 5, -1),
    (EXTENSION_FIRST + 6, -1),
    (EXTENSION_FIRST + 7, -1),
    (EXTENSION_FIRST + 8, -1),
    (EXTENSION_FIRST + 9, -1),
    (EXTENSION_FIRST + 10, -1),
    (EXTENSION_FIRST + 11, -1),
];

fn kind(id: TypeId) -> ColumnKind {
    let fact =
        |name: &str, class| TypeFacts { name: name.into(), namespace: "public".into(), class };
    let mut types = BTreeMap::from([
        (Oid(MOOD), fact("mood", TypeClass::Enum { labels: vec!["sad".into(), "ok".into()] })),
        (Oid(MOODS), fact("_mood", TypeClass::Array { element: Oid(MOOD) })),
        (Oid(HSTORE), fact("hstore", TypeClass::Base)),
    ]);
    for (oid, name) in (EXTENSION_FIRST..).step_by(2).zip(EXTENSION_TYPES) {
        types.insert(Oid(oid), fact(name, TypeClass::Base));
        types.insert(
            Oid(oid + 1),
            fact(&format!("_{name}"), TypeClass::Array { element: Oid(oid) }),
        );
    }
    resolve(Oid(id.0), id.1, &types)
}

fn column(index: usize, id: TypeId, not_null: bool, default: Option<&str>) -> Column {
    Column {
        name: format!("c{index}").into(),
        kind: kind(id),
        not_null,
        default: default.map(Into::into),
        source_type: SourceType::default(),
        serial: false,
        in_identity: index == 0,
    }
}

fn table(identity: ReplicaIdentity, columns: Vec<Column>) -> Table {
    Table { oid: Oid(1), name: TableName::new("public", "t"), identity, columns, key: vec![0] }
}

/// A cell of a row in a message of pgoutput.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

fn push_tuple(cells: &[Cell], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
    for cell in cells {
        match cell {
            Cell::Null => out.push(b'n'),
            Cell::Unchanged => out.push(b'u'),
            Cell::Text(text) => {
                out.push(b't');
                out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

fn insert(cells: &[Cell]) -> Vec<u8> {
    let mut out = vec![b'I', 0, 0, 0, 1, b'N'];
    push_tuple(cells, &mut out);
    out
}

fn update(old_tag: u8, old: &[Cell], new: &[Cell]) -> Vec<u8> {
    let mut out = vec![b'U', 0, 0, 0, 1, old_tag];
    push_tuple(old, &mut out);
    out.push(b'N');
    push_tuple(new, &mut out);
    out
}

fn delete(old_tag: u8, old: &[Cell]) -> Vec<u8> {
    let mut out = vec![b'D', 0, 0, 0, 1, old_tag];
    push_tuple(old, &mut out);
    out
}

const CONTEXT: Context<'static> = Context {
    position: Position { commit: Lsn::new(0x16_B374_D848), ordinal: 7 },
    lsn: Lsn::new(34_837_832),
    last_commit: Some(Lsn::new(34_837_776)),
    xid: Some(Xid(771)),
    committed_at: PgMicros(809_165_600_123_456),
    origin: Some(("elsewhere", Lsn::ZERO)),
    xmin: Some(Xid(700)),
    marker: Marker::Streamed,
};

/// Any combination of the modes of types.
fn modes() -> impl Strategy<Value = Modes> {
    let times = [
        TimeMode::Adaptive,
        TimeMode::AdaptiveTimeMicroseconds,
        TimeMode::Connect,
        TimeMode::IsoString,
        TimeMode::Microseconds,
        TimeMode::Nanoseconds,
    ];
    let decimals = [DecimalMode::Precise, DecimalMode::Double, DecimalMode::Text];
    let codes = [Code::Base64, Code::Base64Url, Code::Hex].map(BinaryMode::Coded);
    let unknown = [UnknownMode::Text, UnknownMode::Bytes, UnknownMode::Drop];
    let pick = |count: usize| 0..count;
    (pick(6), pick(3), pick(4), pick(3), 0..=Modes::MONEY_DIGITS_MAX, any::<bool>(), any::<bool>())
        .prop_map(move |(time, decimal, binary, unknown_type, money_digits, interval, hstore)| {
            Modes {
                time: times[time],
                decimals: decimals[decimal],
                intervals: if interval { IntervalMode::Text } else { IntervalMode::Numeric },
                hstore: if hstore { HstoreMode::Map } else { HstoreMode::Json },
                binary: codes.get(binary).copied().unwrap_or(BinaryMode::Bytes),
                money_digits,
                unknown_types: unknown[unknown_type],
            }
        })
}

/// A plan, with the schemas by which its records are read back.
struct Fixture {
    plan: Plan,
    key: Schema,
    value: Schema,
    encoder: Encoder,
}

impl Fixture {
    fn new(table: &Table, config: Config) -> Self {
        Self::try_new(table, config).unwrap()
    }

    fn try_new(table: &Table, config: Config) -> Result<Self, PlanError> {
        let draft = Planner::new(config, "app", "run", 3).draft(table)?;
        let key = Schema::parse_str(&draft.key.as_ref().unwrap().text).unwrap();
        let value = Schema::parse_str(&draft.value.as_ref().unwrap().text).unwrap();
        Ok(Fixture {
            plan: draft.into_plan(Ids { key: Some(1), value: 2 }),
            key,
            value,
            encoder: Encoder::new(),
        })
    }

    /// Encodes a wire message and reads every record back: key and value.
    fn encode(&mut self, wire: &[u8]) -> Result<Vec<(Value, Option<Value>)>, String> {
        let row = match pgoutput::decode(wire).unwrap() {
            Message::Insert { new, .. } => Row::Insert { new },
            Message::Update { old, new, .. } => Row::Update { old, new },
            Message::Delete { old, .. } => Row::Delete { old },
            other => panic!("{other:?}"),
        };
        self.encoder.row(&self.plan, &CONTEXT, &row, 1).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        })?;
        let read = |schema: &Schema, framed: &[u8]| {
            let mut body = &framed[5..];
            let value =
                GenericDatumReader::builder(schema).build().unwrap().read_value(&mut body).unwrap();
            assert!(body.is_empty(), "{} bytes after the value", body.len());
            value
        };
        let records = self.encoder.records();
        Ok(records
            .map(|r| {
                (read(&self.key, r.key.unwrap()), r.value.map(|value| read(&self.value, value)))
            })
            .collect())
    }

    /// The fields of `before` or `after` of the record at `index`.
    fn fields(
        records: &[(Value, Option<Value>)],
        index: usize,
        image: usize,
    ) -> Option<Vec<Value>> {
        let Some(Value::Record(envelope)) = &records[index].1 else { panic!("no envelope") };
        match &envelope[image].1 {
            Value::Union(1, row) => match &**row {
                Value::Record(fields) => {
                    Some(fields.iter().map(|(_, value)| plain(value.clone())).collect())
                }
                other => panic!("{other:?}"),
            },
            _ => None,
        }
    }
}

/// A value without the unions around it and its parts. A decimal becomes its bytes.
fn plain(value: Value) -> Value {
    match value {
        Value::Union(_, inner) => plain(*inner),
        Value::Decimal(decimal) => Value::Bytes(Vec::<u8>::try_from(&decimal).unwrap()),
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        Value::Record(fields) => {
            Value::Record(fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
        }
        other => other,
    }
}

/// The shortest two's complement of a number. Each length is tried in turn.
fn unscaled(number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let fits = |n: usize| number >= -(1_i128 << (8 * n - 1)) && number < 1_i128 << (8 * n - 1);
    let length = (1..16).find(|n| fits(*n)).unwrap_or(16);
    bytes[16 - length..].to_vec()
}

fn record(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// Values whose text and Avro form are made independently of each other.
fn typed_value() -> impl Strategy<Value = (TypeId, String, Value)> {
    prop_oneof![
        any::<i16>().prop_map(|v| ((21, -1), v.to_string(), Value::Int(v.into()))),
        any::<i32>().prop_map(|v| ((23, -1), v.to_string(), Value::Int(v))),
        any::<i64>().prop_map(|v| ((20, -1), v.to_string(), Value::Long(v))),
        any::<u32>().prop_map(|v| ((26, -1), v.to_string(), Value::Long(v.into()))),
        any::<bool>().prop_map(|v| (
            (16, -1),
            if v { "t" } else { "f" }.to_owned(),
            Value::Boolean(v)
        )),
        any::<f64>().prop_map(|v| ((701, -1), format!("{v:?}"), Value::Double(v))),
        any::<f32>().prop_map(|v| ((700, -1), format!("{v:?}"), Value::Float(v))),
        ".*".prop_map(|v: String| ((25, -1), v.clone(), Value::String(v))),
        any::<[u8; 5]>().prop_map(|v| (
            (17, -1),
            v.iter().fold("\\x".to_owned(), |t, b| format!("{t}{b:02x}")),
            Value::Bytes(v.to_vec())
        )),
        (-99_999_999_i64..=99_999_999).prop_map(|v| {
            let (sign, magnitude) = (if v < 0 { "-" } else { "" }, v.unsigned_abs());
            let text = format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100);
            ((1700, (10 << 16) + 2 + 4), text, Value::Bytes(unscaled(v.into())))
        }),
        any::<i128>().prop_map(|v| {
            let value = record(&[("scale", Value::Int(0)), ("value", Value::Bytes(unscaled(v)))]);
            ((1700, -1), v.to_string(), value)
        }),
        (0_i64..86_400_000_000).prop_map(|v| {
            let s = v / 1_000_000;
            let text =
                format!("{:02}:{:02}:{:02}.{:06}", s / 3600, s / 60 % 60, s % 60, v % 1_000_000);
            ((1083, -1), text, Value::Long(v))
        }),
        proptest::collection::vec(proptest::option::of(any::<i32>()), 0..5).prop_map(|v| {
            let text = |item: &Option<i32>| item.map_or("NULL".to_owned(), |n| n.to_string());
            let text = format!("{{{}}}", v.iter().map(text).collect::<Vec<_>>().join(","));
            let values = v.into_iter().map(|item| item.map_or(Value::Null, Value::Int)).collect();
            ((1007, -1), text, Value::Array(values))
        }),
        any::<(f64, f64)>().prop_map(|(x, y)| {
            let wkb = [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat();
            let value = record(&[
                ("x", Value::Double(x)),
                ("y", Value::Double(y)),
                ("wkb", Value::Bytes(wkb)),
                ("srid", Value::Null),
            ]);
            ((600, -1), format!("({x:?},{y:?})"), value)
        }),
    ]
}

proptest! {
    /// Goal: values arrive exactly, and a null arrives as a null. Method: the text that is sent and
    /// the expected value are made independently.
    #[test]
    fn what_is_written_reads_back_as_it_was(cells in proptest::collection::vec((typed_value(), any::<bool>(), any::<bool>()), 1..12)) {
        let mut columns = vec![column(0, (20, -1), true, None)];
        let (mut wire, mut expected) = (vec![Cell::Text(b"42".to_vec())], vec![Value::Long(42)]);
        for (index, ((id, text, value), not_null, null)) in cells.into_iter().enumerate() {
            columns.push(column(index + 1, id, not_null, None));
            let null = null && !not_null;
            wire.push(if null { Cell::Null } else { Cell::Text(text.into_bytes()) });
            expected.push(if null { Value::Null } else { value });
        }
        let mut fixture = Fixture::new(&table(ReplicaIdentity::Full, columns), Config::new("shop"));
        let records = fixture.encode(&insert(&wire)).unwrap();
        prop_assert_eq!(records.len(), 1);
        prop_assert_eq!(Fixture::fields(&records, 0, 0), None);
        prop_assert_eq!(Fixture::fields(&records, 0, 1), Some(expected.clone()));
        prop_assert_eq!(plain(records[0].0.clone()), record(&[("c0", Value::Long(42))]));

        let records = fixture.encode(&delete(b'O', &wire)).unwrap();
        prop_assert_eq!(records.len(), 2);
        prop_assert_eq!(Fixture::fields(&records, 0, 0), Some(expected));
        prop_assert!(records[1].1.is_none());
    }

    /// Goal: no text of any column makes the encoder panic or write bytes that do not read back,
    /// whole or as a key, in any mode. Method: texts that look like values, and some that do not.
    #[test]
    fn any_text_is_refused_or_reads_back(
        modes in modes(),
        columns in proptest::collection::vec((0..TYPES.len(), any::<bool>(), any::<bool>()), 1..8),
        cells in proptest::collection::vec(
            prop_oneof![
                Just(Cell::Null), Just(Cell::Unchanged),
                "[-0-9.:{}\",=>()a-eNUL +\\\\]{0,16}".prop_map(|t| Cell::Text(t.into_bytes())),
                "[0-9]{1,4}".prop_map(|t| Cell::Text(t.into_bytes())),
                "[{\\[][0-9:,.-]{0,8}[}\\]](/[0-9]{1,5})?".prop_map(|t| Cell::Text(t.into_bytes())),
                "(0[01])(0[0-9A-F]){8,20}".prop_map(|t| Cell::Text(t.into_bytes())),
                "(-?[0-9]{1,3} (years|mons|days) ){0,3}-?[0-9]{2}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?".prop_map(|t| Cell::Text(t.into_bytes())),
                "[0-9]{4}-(0[1-9]|1[0-2])-[0-2][0-9]( [0-9]{2}:00:0[0-9]\\.[0-9]{1,6})?( BC)?".prop_map(|t| Cell::Text(t.into_bytes())),
                any::<Vec<u8>>().prop_map(Cell::Text),
            ], 16),
        kind in 0..4,
    ) {
        let defaults = ["'1'::text", "now()", "7", "'2020-01-01'::date"];
        let columns: Vec<Column> = columns
            .iter()
            .enumerate()
            .map(|(i, (t, not_null, default))| column(i, TYPES[*t], *not_null, default.then(|| defaults[i % 4])))
            .collect();
        let (old, new) = (&cells[..columns.len()], &cells[8..8 + columns.len()]);
        let shape = table(ReplicaIdentity::Default, columns.clone());
        let mut fixture = match Fixture::try_new(&shape, Config { modes, ..Config::new("shop") }) {
            Err(PlanError::KeyLeftOut { .. }) if modes.unknown_types != UnknownMode::Text => return Ok(()),
            fixture => fixture.unwrap(),
        };
        let wire = match kind {
            0 => insert(new),
            1 => update(b'K', old, new),
            2 => update(b'O', old, new),
            _ => delete(b'K', old),
        };
        if let Err(error) = fixture.encode(&wire) {
            prop_assert!(error.contains("public.t"), "{}", error);
            prop_assert_eq!(fixture.encoder.records().count(), 0);
        }
        let json = Config { format: Format::JsonSchema, modes, ..Config::new("shop") };
        let plan = Planner::new(json, "app", "run", 3).draft(&shape).unwrap().into_plan(Ids::default());
        let wire = insert(new);
        let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
        if fixture.encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 1).is_ok() {
            let record = fixture.encoder.records().next().unwrap();
            let value: serde_json::Value = serde_json::from_slice(record.value.unwrap()).unwrap();
            prop_assert_eq!(&value["payload"]["source"]["table"], "t");
            prop_assert!(serde_json::from_slice::<serde_json::Value>(record.key.unwrap()).is_ok());
        }
    }
}

#[track_caller]
fn check_error(columns: Vec<Column>, wire: &[u8], expect: Expect) {
    let mut fixture = Fixture::new(&table(ReplicaIdentity::Default, columns), Config::new("shop"));
    expect.assert_eq(&fixture.encode(wire).unwrap_err());
}

fn text(value: &str) -> Cell {
    Cell::Text(value.as_bytes().to_vec())
}

#[test]
fn refuses_a_null_where_the_catalog_has_none() {
    let columns = vec![column(0, (23, -1), true, None), column(1, (25, -1), true, None)];
    check_error(
        columns,
        &insert(&[text("1"), Cell::Null]),
        expect![
            "encode column `c1` of public.t: NULL in a column that the catalog has as NOT NULL"
        ],
    );
}

#[test]
fn refuses_a_number_that_a_required_decimal_does_not_have() {
    let columns = vec![column(0, (23, -1), true, None), column(1, (1700, -1), true, None)];
    let expect = expect![
        "encode column `c1` of public.t: its schema has no value for NaN or infinity in a decimal and the column is NOT NULL; correct the row and skip the change, or drop NOT NULL"
    ];
    check_error(columns, &insert(&[text("1"), text("NaN")]), expect);
}

#[test]
fn refuses_values_of_another_type_without_repeating_them() {
    let columns = vec![column(0, (23, -1), true, None), column(1, (1082, -1), false, None)];
    check_error(
        columns,
        &insert(&[text("1"), text("04/11/2016")]),
        expect!["encode column `c1` of public.t: not the text form of date: too few digits"],
    );
}

#[test]
fn refuses_rows_of_another_version_of_the_table() {
    check_error(
        vec![column(0, (23, -1), true, None)],
        &insert(&[text("1"), text("2")]),
        expect!["encode a row of public.t: it has 2 columns, the table 1"],
    );
}

#[test]
fn refuses_a_delete_whose_old_row_lacks_the_key() {
    let mut columns = vec![column(0, (23, -1), true, None), column(1, (23, -1), true, None)];
    columns[0].in_identity = false;
    columns[1].in_identity = true;
    let expect = expect![
        "encode the key of public.t: column `c0` is not in the row; its replica identity must hold the key"
    ];
    check_error(columns, &delete(b'K', &[Cell::Null, text("2")]), expect);
}

#[track_caller]
fn check_plan(table: &Table, format: Format, expect: Expect) {
    let planner = Planner::new(Config { format, ..Config::new("shop") }, "app", "run", 1);
    expect.assert_eq(&match planner.draft(table) {
        Ok(draft) => draft.topic,
        Err(error) => error.to_string(),
    });
}

#[test]
fn refuses_names_that_avro_does_not_have_and_says_the_way_out() {
    let mut column = column(0, (23, -1), true, None);
    column.name = "order-id".into();
    let bad_column = table(ReplicaIdentity::Default, vec![column]);
    check_plan(
        &bad_column,
        Format::Avro,
        expect![[
            r#"column `order-id` of table public.t has a name that Avro does not allow (letters, digits and _, not first a digit); rename it, exclude it, adjust it by events.field_names = "avro", or use events.format = "json""#
        ]],
    );
    check_plan(&bad_column, Format::Json, expect!["shop.public.t"]);
    let bad_table = Table { name: TableName::new("2020", "ž tab"), ..bad_column };
    check_plan(
        &bad_table,
        Format::Avro,
        expect![[
            r#"table 2020.ž tab: `2020` cannot be part of an Avro namespace (letters, digits and _, not first a digit); rename it, exclude the table, adjust it by events.schema_names = "avro", or use events.format = "json""#
        ]],
    );
    check_plan(&bad_table, Format::Json, expect!["shop.2020.__tab"]);
}

#[test]
fn refuses_a_key_that_an_identity_index_does_not_hold() {
    let mut column = column(0, (23, -1), true, None);
    column.in_identity = false;
    check_plan(
        &table(ReplicaIdentity::Index, vec![column]),
        Format::Avro,
        expect![
            "table public.t: the replica identity does not hold the key column `c0`, so deletes could not be keyed; use an identity that holds it (ALTER TABLE public.t REPLICA IDENTITY FULL) or exclude the table"
        ],
    );
}

#[test]
fn identity_headers_say_epoch_commit_and_ordinal() {
    let config = Config { identity_headers: true, context_headers: false, ..Config::new("shop") };
    let columns =
        vec![column(0, (1700, (5 << 16) + 2 + 4), true, None), column(1, (25, -1), true, None)];
    let mut table = table(ReplicaIdentity::Default, columns);
    table.key = vec![0, 1];
    table.columns[1].in_identity = true;
    let mut fixture = Fixture::new(&table, config);
    fixture
        .encode(&update(b'K', &[text("1.10"), text("a\"b\\")], &[text("1.20"), text("ž")]))
        .unwrap();
    let shown: Vec<String> = fixture
        .encoder
        .records()
        .map(|record| {
            let headers = record.headers().map(|(name, value)| {
                format!("{name}={}", std::str::from_utf8(value.unwrap()).unwrap())
            });
            headers.collect::<Vec<_>>().join(" ")
        })
        .collect();
    expect![[r#"
        __debezium.newkey={"c0":1.20,"c1":"ž"} wellspring.epoch=3 wellspring.commit_lsn=16/B374D848 wellspring.ordinal=7
        __debezium.newkey={"c0":1.20,"c1":"ž"} wellspring.epoch=3 wellspring.commit_lsn=16/B374D848 wellspring.ordinal=7
        __debezium.oldkey={"c0":1.10,"c1":"a\"b\\"} wellspring.epoch=3 wellspring.commit_lsn=16/B374D848 wellspring.ordinal=7"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn the_source_names_origin_sequence_and_times() {
    let config = Config { format: Format::Json, ..Config::new("shop") };
    let plan = Planner::new(config, "app", "run", 3)
        .draft(&table(ReplicaIdentity::Default, vec![column(0, (23, -1), true, None)]))
        .unwrap();
    let plan = plan.into_plan(Ids::default());
    let mut encoder = Encoder::new();
    let wire = insert(&[text("7")]);
    let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 1_755_850_000_345_678_901).unwrap();
    let record = encoder.records().next().unwrap();
    let value = std::str::from_utf8(record.value.unwrap()).unwrap();
    let version = concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\"");
    expect![[r#"{"before":null,"after":{"c0":7},"source":{VERSION,"connector":"postgresql","name":"shop","ts_ms":1755850400123,"snapshot":"false","db":"app","sequence":"[\"34837776\",\"34837832\"]","ts_us":1755850400123456,"ts_ns":1755850400123456000,"schema":"public","table":"t","txId":771,"lsn":34837832,"xmin":null,"origin":"elsewhere","origin_lsn":0},"transaction":null,"op":"c","ts_ms":1755850000345,"ts_us":1755850000345678,"ts_ns":1755850000345678901}"#]]
        .assert_eq(&value.replace(version, "VERSION"));
}

/// The value of a copied row's record as JSON. The version of the program is replaced by VERSION.
fn copied(context: &Context<'_>) -> String {
    let config = Config { format: Format::Json, ..Config::new("shop") };
    let draft = Planner::new(config, "app", "run", 3)
        .draft(&table(ReplicaIdentity::Default, vec![column(0, (23, -1), true, None)]))
        .unwrap();
    let plan = draft.into_plan(Ids::default());
    let (mut encoder, mut row) = (Encoder::new(), CopyRow::default());
    let new = row.read(b"7\n", 1).unwrap();
    encoder.row(&plan, context, &Row::Read { new }, 1_755_850_000_345_678_901).unwrap();
    let records: Vec<_> = encoder.records().collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key, Some(&b"{\"c0\":7}"[..]));
    let value = std::str::from_utf8(records[0].value.unwrap()).unwrap();
    value.replace(concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\""), "VERSION")
}

#[test]
fn a_row_of_the_first_copy_says_place_and_consistent_point() {
    let value = copied(&Context {
        marker: Marker::FirstInTable,
        last_commit: None,
        origin: None,
        ..CONTEXT
    });
    expect![[r#"{"before":null,"after":{"c0":7},"source":{VERSION,"connector":"postgresql","name":"shop","ts_ms":1755850400123,"snapshot":"first_in_data_collection","db":"app","sequence":"[null,\"34837832\"]","ts_us":1755850400123456,"ts_ns":1755850400123456000,"schema":"public","table":"t","txId":771,"lsn":34837832,"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,"op":"r","ts_ms":1755850000345,"ts_us":1755850000345678,"ts_ns":1755850000345678901}"#]].assert_eq(&value);
    for (marker, word) in [
        (Marker::First, "first"),
        (Marker::Inside, "true"),
        (Marker::LastInTable, "last_in_data_collection"),
        (Marker::Last, "last"),
    ] {
        let value = copied(&Context { marker, ..CONTEXT });
        assert!(value.contains(&format!("\"snapshot\":\"{word}\"")), "{value}");
    }
}

#[test]
fn the_slots_xmin_is_in_events_where_it_is_asked_for_and_known() {
    let shown = |xmin: bool, context: &Context<'_>| {
        let rules = wellspring::encode::Rules { xmin, ..Default::default() };
        let config = Config {
            format: Format::Json,
            rules: std::sync::Arc::new(rules),
            ..Config::new("shop")
        };
        let table = table(ReplicaIdentity::Default, vec![column(0, (23, -1), true, None)]);
        let plan =
            Planner::new(config, "app", "run", 1).draft(&table).unwrap().into_plan(Ids::default());
        let bytes = insert(&[Cell::Text(b"7".to_vec())]);
        let Message::Insert { new, .. } = wellspring::pgoutput::decode(&bytes).unwrap() else {
            panic!()
        };
        let mut encoder = Encoder::new();
        encoder.row(&plan, context, &Row::Insert { new }, 0).unwrap();
        let value =
            String::from_utf8(encoder.records().next().unwrap().value.unwrap().to_vec()).unwrap();
        value.split("\"xmin\":").nth(1).unwrap().split(',').next().unwrap().to_owned()
    };
    assert_eq!(shown(true, &CONTEXT), "700");
    assert_eq!(shown(true, &Context { xmin: None, ..CONTEXT }), "null");
    assert_eq!(shown(false, &CONTEXT), "null");
}

#[test]
fn a_row_of_a_later_copy_has_neither_lsn_nor_transaction() {
    let value =
        copied(&Context { marker: Marker::Incremental, xid: None, origin: None, ..CONTEXT });
    expect![[r#"{"before":null,"after":{"c0":7},"source":{VERSION,"connector":"postgresql","name":"shop","ts_ms":1755850400123,"snapshot":"incremental","db":"app","sequence":"[\"34837776\",\"34837832\"]","ts_us":1755850400123456,"ts_ns":1755850400123456000,"schema":"public","table":"t","txId":null,"lsn":null,"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,"op":"r","ts_ms":1755850000345,"ts_us":1755850000345678,"ts_ns":1755850000345678901}"#]].assert_eq(&value);
}

/// The schemas that Debezium's `ByLogicalTableRouter` makes of two shards. Debezium's naming of
/// topics by a regular expression makes the same.
const ROUTED: &str = include_str!("../corpus/cases/table-router-key-field/schemas.json");

fn rerouted(format: Format, columns: Vec<Column>) -> (Planner, Table) {
    use wellspring::encode::reroute::{Replace, Reroute};
    let reroute = Reroute {
        topic: Replace::read(r"(.*)shard_\d+_(.*)", "$1$2").unwrap(),
        key_field: Some("shard".to_owned()),
        key_value: Some(Replace::read(r".*shard_(\d+)_.*", "$1").unwrap()),
    };
    let rules = wellspring::encode::Rules { reroute: Some(reroute), ..Default::default() };
    let config = Config { format, rules: std::sync::Arc::new(rules), ..Config::new("shop") };
    let name = TableName::new("public", "shard_2_orders");
    (
        Planner::new(config, "app", "run", 1),
        Table { name, ..table(ReplicaIdentity::Default, columns) },
    )
}

fn orders() -> Vec<Column> {
    let named = |name: &str, column: Column| Column { name: name.into(), ..column };
    vec![named("id", column(0, (23, -1), true, None)), named("v", column(1, (25, -1), false, None))]
}

#[test]
fn tables_of_one_topic_have_debeziums_schemas_and_distinct_keys() {
    let (planner, table) = rerouted(Format::Avro, orders());
    let draft = planner.draft(&table).unwrap();
    let schemas: serde_json::Value = serde_json::from_str(ROUTED).unwrap();
    assert_eq!(draft.topic, "shop.public.orders");
    assert_eq!(schemas["shop.public.orders-key"][0], draft.key.as_ref().unwrap().text);
    assert_eq!(schemas["shop.public.orders-value"][0], draft.value.as_ref().unwrap().text);
    let plan = draft.into_plan(Ids { key: Some(1), value: 2 });
    let bytes = insert(&[Cell::Text(b"2".to_vec()), Cell::Text(b"zwei".to_vec())]);
    let Message::Insert { new, .. } = pgoutput::decode(&bytes).unwrap() else { panic!() };
    let mut encoder = Encoder::new();
    encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 0).unwrap();
    // In the recorded case the key of shard 2 has the bytes 04 02 32.
    assert_eq!(encoder.records().next().unwrap().key.unwrap()[5..], [0x04, 0x02, 0x32]);
}

#[test]
fn a_changed_key_names_its_table_in_the_headers_as_well() {
    let (planner, table) = rerouted(Format::Json, orders());
    let plan = planner.draft(&table).unwrap().into_plan(Ids::default());
    let old = [Cell::Text(b"1".to_vec()), Cell::Null];
    let bytes = update(b'K', &old, &[Cell::Text(b"2".to_vec()), Cell::Null]);
    let Message::Update { old, new, .. } = pgoutput::decode(&bytes).unwrap() else { panic!() };
    let mut encoder = Encoder::new();
    encoder.row(&plan, &CONTEXT, &Row::Update { old, new }, 0).unwrap();
    let records: Vec<_> = encoder.records().collect();
    assert_eq!(records[0].key, Some(&br#"{"id":1,"shard":"2"}"#[..]));
    assert_eq!(records[0].headers().next().unwrap().1, Some(&br#"{"id":2,"shard":"2"}"#[..]));
    assert_eq!(records[2].key, Some(&br#"{"id":2,"shard":"2"}"#[..]));
}

#[test]
fn a_shared_topic_adds_no_key_and_refuses_a_clash_of_names() {
    let (planner, table) = rerouted(Format::Json, orders());
    assert!(planner.draft(&Table { key: Vec::new(), ..table.clone() }).unwrap().key.is_none());
    let mut clash = table;
    clash.columns[0].name = "shard".into();
    assert!(matches!(planner.draft(&clash), Err(PlanError::KeyField { .. })));
}
