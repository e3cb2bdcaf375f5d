//! Tests of every type with null and its least, largest and special values. A copied row has the
//! same bytes as a streamed one, and both are the same on every version of Postgres.
//!
//! The golden file has the JSON of each value, and the modes under which it is another one.

use super::{SOON, config, options, read_until, replication, sql};
use crate::support::postgres::Server;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use wellspring::change::{Context, Marker, Position, Row, describe};
use wellspring::encode::{
    BinaryMode, Code, Config, DecimalMode, Encoder, Format, HstoreMode, Ids, IntervalMode, Modes,
    Plan, Planner, TimeMode, UnknownMode,
};
use wellspring::lsn::{Lsn, Oid, PgMicros, Xid};
use wellspring::pgoutput::{self, CopyRow, Message, Tuple};
use wellspring::postgres::copies::CopySession;
use wellspring::postgres::{Frame, catalog};
use wellspring::table::Table;

/// Types of PostGIS and pgvector. The tests define them over `text`, with values as the real types
/// print them.
const EXTENSION_TYPES: [(&str, char); 5] =
    [("geometry", ':'), ("geography", ':'), ("vector", ','), ("halfvec", ','), ("sparsevec", ',')];

/// SQL that installs extensions and creates an enum, a composite type, a range and domains.
const SETUP: &str = "
create extension citext; create extension ltree; create extension hstore; create extension isn;
create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); create type span as range (subtype = text);
create domain amount as numeric(8,3); create domain tone as mood; create domain pairs as pair; create domain words as text[];
create domain stamp as timestamp(3); create domain price as money;
";

/// Strings of 64 bits: no bit set, all bits set, and only the highest bit set.
const B64: [&str; 3] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "1111111111111111111111111111111111111111111111111111111111111111",
    "1000000000000000000000000000000000000000000000000000000000000000",
];

/// The types: name, first version of Postgres that has the type and its values, and the values as
/// texts of SQL.
const TYPES: &[(&str, u32, &[&str])] = &[
    ("boolean", 14, &["f", "t"]),
    ("smallint", 14, &["-32768", "0", "32767"]),
    ("integer", 14, &["-2147483648", "2147483647"]),
    ("bigint", 14, &["-9223372036854775808", "9223372036854775807"]),
    ("oid", 14, &["0", "4294967295"]),
    ("real", 14, &["-3.4028235e38", "1e-45", "-0", "NaN", "Infinity", "-Infinity"]),
    (
        "double precision",
        14,
        &["-1.7976931348623157e308", "5e-324", "-0", "0.1", "NaN", "Infinity", "-Infinity"],
    ),
    ("numeric(5,2)", 14, &["-999.99", "0", "999.99", "NaN"]),
    (
        "numeric(38,10)",
        14,
        &[
            "-9999999999999999999999999999.9999999999",
            "0.0000000001",
            "9999999999999999999999999999.9999999999",
        ],
    ),
    ("numeric(3,-2)", 15, &["-99900", "12345"]),
    ("numeric(2,5)", 15, &["-0.00099", "0.00012"]),
    ("numeric", 14, &["-1e20", "22.2200", "1e-30", "100", "NaN", "Infinity", "-Infinity"]),
    ("money", 14, &["-92233720368547758.08", "0.05", "92233720368547758.07"]),
    ("text", 14, &["", "žš 🚀", "tab\tline\nback\\slash \\N", "\\."]),
    ("varchar(3)", 14, &["", "abc"]),
    ("varchar", 14, &["", "any length"]),
    ("char(4)", 14, &["", "ab"]),
    ("bpchar", 14, &["", "ab "]),
    ("\"char\"", 14, &["", "q"]),
    ("name", 14, &["", "n"]),
    ("citext", 14, &["MiXed"]),
    ("ltree", 14, &["", "Top.Science"]),
    ("isbn", 14, &["0-393-04002-X"]),
    ("issn", 14, &["1436-4522"]),
    ("ean13", 14, &["9780393040029"]),
    ("json", 14, &["null", "{\"a\":  [1]}"]),
    ("jsonb", 14, &["null", "{\"a\":  [1.50]}"]),
    ("xml", 14, &["<a b=\"1\"/>"]),
    ("uuid", 14, &["00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"]),
    ("inet", 14, &["0.0.0.0", "::1", "192.168.2.0/12"]),
    ("cidr", 14, &["0.0.0.0/0", "2001:db8::/32"]),
    ("macaddr", 14, &["ff:ff:ff:ff:ff:ff"]),
    ("macaddr8", 14, &["08:00:2b:01:02:03:04:05"]),
    ("tsvector", 14, &["", "'fat':1 'rat''s':2"]),
    ("tsquery", 14, &["", "'fat' & 'rat'"]),
    ("bytea", 14, &["", "\\x00ff5c"]),
    ("bit(1)", 14, &["0", "1"]),
    ("bit(3)", 14, &["000", "101"]),
    ("bit(64)", 14, &B64),
    ("varbit(1)", 14, &["", "1"]),
    ("varbit(24)", 14, &["", "00", "000000110000001000000001"]),
    ("varbit", 14, &["", "100000000"]),
    (
        "date",
        14,
        &["4713-01-01 BC", "0044-03-15 BC", "1582-10-10", "5874897-12-31", "infinity", "-infinity"],
    ),
    ("time", 14, &["00:00", "23:59:59.999999", "24:00"]),
    ("time(0)", 14, &["13:51:30"]),
    ("time(3)", 14, &["13:51:30.123"]),
    ("timetz", 14, &["00:00:00+15:59", "23:59:59.999999-15:59", "24:00:00+00", "12:00:00.5+05:30"]),
    ("timetz(3)", 14, &["00:00:00.001+00", "04:05:11.789-08"]),
    (
        "timestamp",
        14,
        &[
            "4713-01-01 00:00:00 BC",
            "1677-09-21 00:12:43.145224",
            "2262-04-11 23:47:16.854775",
            "294247-01-01 23:59:59.999999",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
        ],
    ),
    ("timestamp(0)", 14, &["2019-07-09 02:28:57", "-infinity"]),
    ("timestamp(6)", 14, &["1582-10-04 12:00:00.000001"]),
    ("timestamp(3)", 14, &["1969-12-31 23:59:59.999", "294276-12-31 23:59:59.999", "infinity"]),
    (
        "timestamptz",
        14,
        &["4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity"],
    ),
    ("timestamptz(3)", 14, &["21016-11-04 13:51:30.12+02", "0044-03-15 12:00:00+00 BC"]),
    ("timestamptz(0)", 14, &["2016-11-04 13:51:30+02"]),
    (
        "interval",
        14,
        &[
            "-178000000 years",
            "178000000 years",
            "1 mon -1 day +02:03:04.5",
            "0",
            "-0.000001 second",
        ],
    ),
    ("interval(3)", 14, &["1.235 seconds", "-1.999 seconds"]),
    ("interval", 17, &["infinity", "-infinity"]),
    ("point", 14, &["(-2.5,1e300)", "(Infinity,NaN)"]),
    ("box", 14, &["(2,3),(0,0)"]),
    ("line", 14, &["{1,-1,0.5}"]),
    ("lseg", 14, &["[(0,0),(1,1e20)]"]),
    ("path", 14, &["((0,0),(1,1))", "[(0,0),(1,1e-7)]"]),
    ("polygon", 14, &["((0,0),(1,1),(2,0))"]),
    ("circle", 14, &["<(1,2),3>"]),
    ("int4range", 14, &["empty", "(,)", "[1,5]"]),
    ("int8range", 14, &["(,10)", "[-9223372036854775808,9223372036854775807)"]),
    ("numrange", 14, &["(1.5,2.50]"]),
    ("tsrange", 14, &["[2019-03-31 15:30:00,infinity)"]),
    ("tstzrange", 14, &["[2017-06-05 11:29:12.5+02,)"]),
    ("daterange", 14, &["[2020-01-01,2020-02-01]"]),
    ("span", 14, &["[a,b)"]),
    ("int4multirange", 14, &["{}", "{[1,3),[5,8)}"]),
    ("pg_lsn", 14, &["0/0", "0/16B3748", "FFFFFFFF/FFFFFFFF"]),
    ("pg_lsn[]", 14, &["{0/0,0/16B3748}"]),
    ("xid8", 14, &["18446744073709551615"]),
    ("txid_snapshot", 14, &["10:20:10,14"]),
    ("jsonpath", 14, &["$.a"]),
    ("regclass", 14, &["pg_catalog.pg_class"]),
    ("hstore", 14, &["", "a=>1, b=>NULL, \"c d\"=>\"e,\\\"f\""]),
    ("mood", 14, &["sad", "ok"]),
    ("pair", 14, &["(1,\"a b\")", "(,)"]),
    ("amount", 14, &["1.5"]),
    ("stamp", 14, &["2020-01-01 00:00:00.123", "infinity"]),
    ("price", 14, &["-92233720368547758.08", "9.99"]),
    ("tone", 14, &["ok"]),
    ("pairs", 14, &["(2,y)"]),
    ("words", 14, &["{a,NULL}"]),
    ("int2vector", 14, &["", "1 -2"]),
    ("oidvector", 14, &["", "1 4000000000"]),
    ("geometry", 14, &["0101000020730C00001C7C613255DE6540787AA52C435C42C0", "010700000000000000"]),
    ("geography", 14, &["0101000020E6100000000000000000F03F0000000000000040"]),
    ("vector", 14, &["[1,2.5,-3e-05]"]),
    ("halfvec", 14, &["[65504,0.1]"]),
    ("sparsevec", 14, &["{}/3", "{1:1.5,3:-2}/5", "{40000:1}/70000"]),
    ("boolean[]", 14, &["{}", "{t,NULL}"]),
    ("smallint[]", 14, &["{-32768,NULL,32767}"]),
    ("bigint[]", 14, &["{-9223372036854775808,NULL,9223372036854775807}"]),
    ("oid[]", 14, &["{0,NULL,4294967295}"]),
    ("real[]", 14, &["{1e-45,NULL,NaN,-Infinity}"]),
    ("double precision[]", 14, &["{5e-324,NULL,NaN,Infinity}"]),
    ("varchar(3)[]", 14, &["{abc,NULL}"]),
    ("char(10)[]", 14, &["{a,NULL}"]),
    ("name[]", 14, &["{n,NULL}"]),
    ("citext[]", 14, &["{MiXed,NULL}"]),
    ("ltree[]", 14, &["{Top.Science,NULL}"]),
    ("json[]", 14, &["{\"{\\\"a\\\":  1}\",NULL}"]),
    ("xml[]", 14, &["{<a/>,NULL}"]),
    ("inet[]", 14, &["{::1,NULL,192.168.2.0/12}"]),
    ("cidr[]", 14, &["{10.0.0.0/8,NULL}"]),
    ("macaddr[]", 14, &["{08:00:2b:01:02:03,NULL}"]),
    ("macaddr8[]", 14, &["{08:00:2b:01:02:03:04:05,NULL}"]),
    ("varbit[]", 14, &["{110,NULL}"]),
    ("point[]", 14, &["{\"(1,1)\",NULL}"]),
    ("tsquery[]", 14, &["{'a',NULL}"]),
    ("numrange[]", 14, &["{\"(1.5,2.50]\",NULL}"]),
    ("tstzrange[]", 14, &["{\"[2017-06-05 11:29:12.5+02,)\",NULL}"]),
    ("daterange[]", 14, &["{\"[2020-01-01,2020-02-01]\",NULL}"]),
    ("integer[]", 14, &["{1,NULL}", "{{1,2},{3,NULL}}", "[0:1]={5,6}"]),
    ("text[]", 14, &["{a,NULL,\"\",\"NULL\",\"q\\\"b\\\\,\"}"]),
    ("numeric(5,2)[]", 14, &["{1.5,NULL,NaN}"]),
    ("numeric[]", 14, &["{1.10,NULL}"]),
    ("date[]", 14, &["{0044-03-15 BC,infinity}"]),
    ("time[]", 14, &["{13:51:30.123456,24:00}"]),
    ("timetz[]", 14, &["{23:59:59.999999-15:59}"]),
    ("timestamp[]", 14, &["{\"2016-11-04 13:51:30.123456\",infinity}"]),
    ("timestamptz[]", 14, &["{\"2016-11-04 13:51:30.123456+02\",-infinity}"]),
    ("interval[]", 14, &["{\"1 day\"}"]),
    ("money[]", 14, &["{1.50}"]),
    ("uuid[]", 14, &["{6b29fc40-ca47-1067-b31d-00dd010662da}"]),
    ("jsonb[]", 14, &["{\"{\\\"a\\\": 1}\"}"]),
    ("bytea[]", 14, &["{\"\\\\x00ff\",NULL}"]),
    ("bit(3)[]", 14, &["{101}"]),
    ("hstore[]", 14, &["{\"a=>1\",NULL}"]),
    ("mood[]", 14, &["{sad,ok}", "{sad,NULL}"]),
    ("amount[]", 14, &["{1.5,NULL}"]),
    ("pair[]", 14, &["{\"(1,x)\"}"]),
    ("tsvector[]", 14, &["{\"'a':1\"}"]),
    ("isbn[]", 14, &["{0-393-04002-X}"]),
    ("box[]", 14, &["{(2,3),(0,0);(1,1),(0,0)}"]),
    ("int4range[]", 14, &["{\"[1,3)\",empty}"]),
    ("geometry[]", 14, &["{010700000000000000:NULL}"]),
    ("vector[]", 14, &["{\"[1,2]\"}"]),
];

/// The modes under which values are written, each with its name in the golden file.
fn modes() -> [(&'static str, Modes); 6] {
    let default = Modes::default();
    [
        ("", default),
        (
            "connect string map base64 bytes",
            Modes {
                time: TimeMode::Connect,
                decimals: DecimalMode::Text,
                intervals: IntervalMode::Text,
                hstore: HstoreMode::Map,
                binary: BinaryMode::Coded(Code::Base64),
                money_digits: 0,
                unknown_types: UnknownMode::Bytes,
            },
        ),
        (
            "isostring double hex drop",
            Modes {
                time: TimeMode::IsoString,
                decimals: DecimalMode::Double,
                binary: BinaryMode::Coded(Code::Hex),
                unknown_types: UnknownMode::Drop,
                ..default
            },
        ),
        (
            "nanoseconds money_digits=0",
            Modes { time: TimeMode::Nanoseconds, money_digits: 0, ..default },
        ),
        ("microseconds", Modes { time: TimeMode::Microseconds, ..default }),
        (
            "adaptive_time_microseconds base64-url-safe money_digits=4",
            Modes {
                time: TimeMode::AdaptiveTimeMicroseconds,
                binary: BinaryMode::Coded(Code::Base64Url),
                money_digits: 4,
                ..default
            },
        ),
    ]
}

/// The rows of one type as the server sent them, once streamed and once copied.
struct Sent {
    table: Table,
    streamed: Vec<Vec<u8>>,
    copied: Vec<Vec<u8>>,
}

#[tokio::test]
async fn copied_and_streamed_rows_have_equal_bytes_on_every_version() {
    let server = Server::start();
    let major = server.major();
    let types: Vec<_> = TYPES.iter().filter(|(_, since, _)| *since <= major).collect();
    let statements: Vec<String> =
        types.iter().enumerate().map(|(n, (name, _, values))| rows_of(n, name, values)).collect();
    server.sql("postgres", &format!("{SETUP}{}", extension_types()));
    let mut sections = Vec::new();
    for (sent, (name, since, values)) in sent(&server, &statements).await.iter().zip(&types) {
        let written: Vec<(&str, Vec<String>)> =
            modes().iter().map(|(mode, modes)| (*mode, written(sent, *modes))).collect();
        sections.push((*since, section(name, values, &written)));
    }
    compare(&sections, major);
}

/// Compares with the sections of the golden file that this version has.
fn compare(sections: &[(u32, String)], major: u32) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/postgres_room/values.txt");
    let whole: String =
        sections.iter().map(|(since, text)| format!("since {since}: {text}\n")).collect();
    if std::env::var_os("UPDATE_EXPECT").is_some()
        && TYPES.iter().all(|(_, since, _)| *since <= major)
    {
        std::fs::write(path, &whole).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    let is_here = |section: &&str| {
        let since = section.strip_prefix("since ").and_then(|rest| rest.split_once(':'));
        since.is_some_and(|(since, _)| since.parse::<u32>().unwrap() <= major)
    };
    let golden: String = golden.split_inclusive("\n\n").filter(is_here).collect();
    assert!(
        golden == whole,
        "Postgres {major} differs from values.txt (UPDATE_EXPECT=1 writes it):\n{whole}"
    );
}

/// The section of a type in the golden file: each value with its JSON, and with its JSON under each
/// mode that has another one.
fn section(name: &str, values: &[&str], written: &[(&str, Vec<String>)]) -> String {
    let mut text = format!("{name}\n");
    for (row, value) in [None].into_iter().chain(values.iter().map(Some)).enumerate() {
        let own = written.first().map_or("", |(_, texts)| &texts[row]);
        writeln!(
            text,
            "    {}  {own}",
            value.map_or("NULL".to_owned(), |value| format!("{value:?}"))
        )
        .unwrap();
        for (mode, texts) in written.iter().skip(1).filter(|(_, texts)| texts[row] != own) {
            writeln!(text, "        {mode}  {}", texts[row]).unwrap();
        }
    }
    text
}

fn extension_types() -> String {
    let one = |(name, delimiter): &(&str, char)| {
        let functions = [("in", "cstring", *name), ("out", name, "cstring")].map(|(way, from, to)| {
            format!(
                "create function {name}_{way}({from}) returns {to} language internal immutable strict as 'text{way}';"
            )
        });
        format!(
            "create type {name}; {} create type {name} (input = {name}_in, output = {name}_out, like = text, \
             delimiter = '{delimiter}');\n",
            functions.concat()
        )
    };
    EXTENSION_TYPES.iter().map(one).collect()
}

/// SQL that creates a table with a column of the type, one row with null, and one row for each
/// value.
fn rows_of(number: usize, name: &str, values: &[&str]) -> String {
    let literal = |value: &&str| format!("'{}'", value.replace('\'', "''"));
    let all = ["NULL".to_owned()].into_iter().chain(values.iter().map(literal));
    let rows: Vec<String> = all.enumerate().map(|(id, value)| format!("({id}, {value})")).collect();
    format!(
        "create table v{number} (id int primary key, v {name}); insert into v{number} values {};",
        rows.join(", ")
    )
}

/// Streams and copies the rows of every statement's table.
async fn sent(server: &Server, statements: &[String]) -> Vec<Sent> {
    server.sql("postgres", "create publication p for all tables");
    let mut control = replication(server).await;
    control.create_slot("s", SOON).await.unwrap();
    server.sql("postgres", &format!("begin; {} commit", statements.concat()));
    let mut relations = BTreeMap::new();
    let mut streamed: BTreeMap<Oid, Vec<Vec<u8>>> = BTreeMap::new();
    let mut stream = control.start(&options()).await.unwrap();
    read_until(&mut stream, |frame| {
        let Frame::XLogData { payload, .. } = frame else { return None };
        match pgoutput::decode(payload).unwrap() {
            Message::Relation(relation) => {
                drop(relations.insert(relation.name.to_owned(), payload.to_vec()))
            }
            Message::Insert { relation, .. } => {
                streamed.entry(relation).or_default().push(payload.to_vec())
            }
            // Postgres 14 also sends empty transactions, such as those of autovacuum.
            Message::Commit { .. } if !streamed.is_empty() => return Some(()),
            _ => {}
        }
        None
    })
    .await;
    stream.finish().await;
    let catalog = sql(server).await;
    let mut copy = CopySession::connect(&config(&server.url("postgres")), ":copy").await.unwrap();
    let mut all = Vec::new();
    for number in 0..statements.len() {
        let name = format!("v{number}");
        let Ok(Message::Relation(relation)) = pgoutput::decode(&relations[&name]) else {
            panic!("{name}")
        };
        let oid = relation.oid;
        let facts = catalog::table_facts(&catalog, oid).await.unwrap();
        copy.begin(&name, &format!("COPY (SELECT id, v FROM ONLY {name} ORDER BY id) TO STDOUT"))
            .await
            .unwrap();
        let mut copied = Vec::new();
        while let Some(piece) = copy.next(&name).await.unwrap() {
            let mut at = 0;
            while let Some((line, next)) = piece.line(at) {
                copied.push(line.to_vec());
                at = next;
            }
        }
        let table = describe(&relation.into(), &facts);
        all.push(Sent { table, streamed: streamed.remove(&oid).unwrap(), copied });
    }
    all
}

/// The column `v` of each row as JSON. In every format the records of a copied and a streamed row
/// must differ in nothing but `op`.
fn written(sent: &Sent, modes: Modes) -> Vec<String> {
    let mut texts = Vec::new();
    for format in [Format::Avro, Format::Json] {
        let planner =
            Planner::new(Config { format, modes, ..Config::new("shop") }, "app", "run", 1);
        let plan = planner.draft(&sent.table).unwrap().into_plan(Ids { key: Some(1), value: 2 });
        assert_eq!(sent.streamed.len(), sent.copied.len());
        for (streamed, copied) in sent.streamed.iter().zip(&sent.copied) {
            let Ok(Message::Insert { new, .. }) = pgoutput::decode(streamed) else {
                panic!("no insert")
            };
            let streamed = record(&plan, &Row::Insert { new });
            let mut row = CopyRow::default();
            let new: Tuple<'_> = row.read(copied, sent.table.columns.len()).unwrap();
            let copied = record(&plan, &Row::Read { new });
            assert_eq!(streamed.0, copied.0, "keys of {}", sent.table.name);
            let differing: Vec<(u8, u8)> = streamed
                .1
                .iter()
                .copied()
                .zip(copied.1.iter().copied())
                .filter(|(l, r)| l != r)
                .collect();
            let same = streamed.1.len() == copied.1.len() && differing == [(b'c', b'r')];
            assert!(
                same,
                "{}: {:?} {:?}",
                sent.table.name,
                String::from_utf8_lossy(&streamed.1),
                copied.1
            );
            if format == Format::Json {
                let event: Json = serde_json::from_slice(&streamed.1).unwrap();
                let after = event["after"].as_object().unwrap();
                texts.push(after.get("v").map_or("left out".to_owned(), Json::to_string));
            }
        }
    }
    texts
}

/// Key and value of the only record of a row.
fn record(plan: &Plan, row: &Row<'_>) -> (Vec<u8>, Vec<u8>) {
    let position = Position { commit: Lsn::new(2), ordinal: 0 };
    let context = Context {
        position,
        lsn: Lsn::new(1),
        last_commit: None,
        xid: Some(Xid(1)),
        committed_at: PgMicros(0),
        origin: None,
        xmin: None,
        marker: Marker::Streamed,
    };
    let mut encoder = Encoder::new();
    encoder.row(plan, &context, row, 0).unwrap();
    let record = encoder.records().next().unwrap();
    (record.key.unwrap().to_vec(), record.value.unwrap().to_vec())
}
