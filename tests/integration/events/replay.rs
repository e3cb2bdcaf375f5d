//! Replays a recording: wire messages and catalog facts through decode, describe, plan and encode,
//! and back to values.

use apache_avro::types::Value as Avro;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use wellspring::change::{Context, Marker, Position, Row, describe};
use wellspring::encode::{
    BinaryMode, Code, Config, DecimalMode, Encoder, Format, HstoreMode, Ids, IntervalMode, Modes,
    Plan, Planner, TimeMode, UnknownMode,
};
use wellspring::lsn::{Lsn, Oid, PgMicros, Xid};
use wellspring::pgoutput::{self, Message};
use wellspring::table::{ColumnFacts, TableFacts, TypeClass, TypeFacts};

/// The time at which a replay encodes its records: 2026-01-01, in nanoseconds.
const NOW: i64 = 1_767_225_600_000_000_000;

/// A record that our encoder wrote, with the schemas that it used.
pub struct Written {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    pub key_schema: Option<String>,
    pub value_schema: String,
    pub notes: Vec<String>,
}

/// The state of a replay: plans, facts of tables and the open transaction.
pub struct Replay {
    planner: Planner,
    format: Format,
    encoder: Encoder,
    facts: BTreeMap<Oid, TableFacts>,
    plans: BTreeMap<Oid, (Plan, Option<String>, String)>,
    messages: (Plan, Option<String>, String),
    last_commit: Option<Lsn>,
    transaction: (Option<Xid>, PgMicros, Position),
    written: Vec<Written>,
}

impl Replay {
    pub fn of(recording: &Json, format: Format) -> Vec<Written> {
        let options = &recording["options"];
        let config = Config {
            format,
            tombstones: options["tombstones"].as_bool().unwrap(),
            truncates: options["truncates"].as_bool().unwrap(),
            placeholder: options["placeholder"].as_str().unwrap().to_owned(),
            modes: modes_of(&options["modes"]),
            ..Config::new("shop")
        };
        let planner = Planner::new(config, "app", "run", 1);
        let messages = planned(planner.message_draft());
        let mut replay = Replay {
            planner,
            format,
            encoder: Encoder::new(),
            facts: BTreeMap::new(),
            plans: BTreeMap::new(),
            messages,
            last_commit: None,
            transaction: Default::default(),
            written: Vec::new(),
        };
        for step in recording["steps"].as_array().unwrap() {
            replay.facts = facts_of(step);
            for message in step["messages"].as_array().unwrap() {
                let bytes = bytes_of(message[1].as_str().unwrap());
                replay.apply(
                    message[0].as_str().unwrap().parse().unwrap(),
                    pgoutput::decode(&bytes).unwrap(),
                );
            }
        }
        replay.written
    }

    /// The error of planning the first table of a recording.
    pub fn refusal_of(recording: &Json) -> String {
        let config =
            Config { modes: modes_of(&recording["options"]["modes"]), ..Config::new("shop") };
        let planner = Planner::new(config, "app", "run", 1);
        let step = &recording["steps"][0];
        let bytes = step["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| bytes_of(message[1].as_str().unwrap()));
        let refusals = bytes.filter_map(|bytes| match pgoutput::decode(&bytes).unwrap() {
            Message::Relation(relation) => {
                let facts = facts_of(step).remove(&relation.oid).unwrap();
                planner.draft(&describe(&relation.into(), &facts)).err()
            }
            _ => None,
        });
        refusals.map(|refusal| refusal.to_string()).next().unwrap()
    }

    fn apply(&mut self, lsn: Lsn, message: Message<'_>) {
        match message {
            Message::Begin { final_lsn, committed_at, xid } => {
                self.transaction =
                    (Some(xid), committed_at, Position { commit: final_lsn, ordinal: 0 });
            }
            Message::Commit { end_lsn, .. } => self.last_commit = Some(end_lsn),
            Message::Relation(relation) => {
                let facts = self.facts.get(&relation.oid).cloned().unwrap_or_default();
                let oid = relation.oid;
                self.plans.insert(
                    oid,
                    planned(self.planner.draft(&describe(&relation.into(), &facts)).unwrap()),
                );
            }
            Message::Insert { relation, new } => self.row(lsn, relation, Row::Insert { new }),
            Message::Update { relation, old, new } => {
                self.row(lsn, relation, Row::Update { old, new })
            }
            Message::Delete { relation, old } => self.row(lsn, relation, Row::Delete { old }),
            Message::Truncate(truncate) => {
                truncate.relations().for_each(|relation| self.row(lsn, relation, Row::Truncate));
            }
            Message::Logical { transactional, lsn, prefix, content } => {
                if !transactional {
                    self.last_commit = Some(lsn);
                }
                let (xid, at, position) = self.transaction;
                let context =
                    context(lsn, self.last_commit, (xid.filter(|_| transactional), at, position));
                self.encoder.message(&self.messages.0, &context, prefix, content, NOW).unwrap();
                collect(&self.encoder, &self.messages, &mut self.written);
            }
            Message::Origin { .. } | Message::Type { .. } => {}
        }
        assert!(
            self.format != Format::Avro
                || self
                    .written
                    .iter()
                    .all(|record| record.value.as_ref().is_none_or(|v| v[0] == 0))
        );
    }

    fn row(&mut self, lsn: Lsn, relation: Oid, row: Row<'_>) {
        let plan = &self.plans[&relation];
        self.encoder
            .row(&plan.0, &context(lsn, self.last_commit, self.transaction), &row, NOW)
            .unwrap();
        collect(&self.encoder, plan, &mut self.written);
    }
}

/// Our modes of types for the options with which Debezium made a recording.
fn modes_of(options: &Json) -> Modes {
    let option = |name: &str| options[name].as_str();
    let mut modes = Modes { unknown_types: UnknownMode::Text, ..Modes::default() };
    modes.time = match option("time.precision.mode") {
        None | Some("adaptive") => TimeMode::Adaptive,
        Some("adaptive_time_microseconds") => TimeMode::AdaptiveTimeMicroseconds,
        Some("connect") => TimeMode::Connect,
        Some("isostring") => TimeMode::IsoString,
        Some("microseconds") => TimeMode::Microseconds,
        Some("nanoseconds") => TimeMode::Nanoseconds,
        other => panic!("{other:?}"),
    };
    modes.decimals = match option("decimal.handling.mode") {
        None | Some("precise") => DecimalMode::Precise,
        Some("double") => DecimalMode::Double,
        Some("string") => DecimalMode::Text,
        other => panic!("{other:?}"),
    };
    modes.intervals = match option("interval.handling.mode") {
        None | Some("numeric") => IntervalMode::Numeric,
        Some("string") => IntervalMode::Text,
        other => panic!("{other:?}"),
    };
    modes.hstore = match option("hstore.handling.mode") {
        None | Some("json") => HstoreMode::Json,
        Some("map") => HstoreMode::Map,
        other => panic!("{other:?}"),
    };
    modes.binary = match option("binary.handling.mode") {
        None | Some("bytes") => BinaryMode::Bytes,
        Some("base64") => BinaryMode::Coded(Code::Base64),
        Some("base64-url-safe") => BinaryMode::Coded(Code::Base64Url),
        Some("hex") => BinaryMode::Coded(Code::Hex),
        other => panic!("{other:?}"),
    };
    if let Some(digits) = option("money.fraction.digits") {
        modes.money_digits = digits.parse().unwrap();
    }
    modes.unknown_types = match option("include.unknown.datatypes") {
        None => UnknownMode::Text,
        Some("true") => UnknownMode::Bytes,
        Some("false") => UnknownMode::Drop,
        other => panic!("{other:?}"),
    };
    modes
}

fn planned(draft: wellspring::encode::Draft) -> (Plan, Option<String>, String) {
    let texts = (
        draft.key.as_ref().map(|key| key.text.clone()),
        draft.value.as_ref().unwrap().text.clone(),
    );
    (draft.into_plan(Ids { key: Some(1), value: 2 }), texts.0, texts.1)
}

fn context(
    lsn: Lsn,
    last_commit: Option<Lsn>,
    transaction: (Option<Xid>, PgMicros, Position),
) -> Context<'static> {
    let (xid, committed_at, position) = transaction;
    Context {
        position,
        lsn,
        last_commit,
        xid,
        committed_at,
        origin: None,
        xmin: None,
        marker: Marker::Streamed,
    }
}

fn collect(encoder: &Encoder, plan: &(Plan, Option<String>, String), written: &mut Vec<Written>) {
    written.extend(encoder.records().map(|record| {
        Written {
            topic: plan.0.topic().to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|(n, v)| (n.to_owned(), String::from_utf8(v.unwrap().to_vec()).unwrap()))
                .collect(),
            key_schema: plan.1.clone(),
            value_schema: plan.2.clone(),
            notes: encoder
                .notes()
                .iter()
                .map(|n| format!("{}:{}", plan.0.column(n.column).unwrap(), n.loss.as_str()))
                .collect(),
        }
    }));
}

fn facts_of(step: &Json) -> BTreeMap<Oid, TableFacts> {
    let names = |list: &Json| {
        list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let oid = |value: &Json| Oid(value.as_u64().unwrap().try_into().unwrap());
    let number = |value: &Json| i32::try_from(value.as_i64().unwrap()).unwrap();
    let types: BTreeMap<Oid, TypeFacts> = step["types"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, fact)| {
            let class = match fact["class"].as_str().unwrap() {
                "array" => TypeClass::Array { element: oid(&fact["element"]) },
                "domain" => {
                    TypeClass::Domain { base: oid(&fact["base"]), typmod: number(&fact["typmod"]) }
                }
                "enum" => TypeClass::Enum { labels: names(&fact["labels"]) },
                "composite" => TypeClass::Composite,
                "range" => TypeClass::Range,
                "multirange" => TypeClass::Multirange,
                _ => TypeClass::Base,
            };
            let text = |name: &str| fact[name].as_str().unwrap().to_owned();
            (
                Oid(id.parse().unwrap()),
                TypeFacts { name: text("name"), namespace: text("namespace"), class },
            )
        })
        .collect();
    let column = |fact: &Json| ColumnFacts {
        not_null: fact["not_null"].as_bool().unwrap(),
        default: fact["default"].as_str().map(str::to_owned),
        serial: fact["serial"].as_bool().unwrap(),
        type_oid: oid(&fact["type_oid"]),
        typmod: number(&fact["typmod"]),
    };
    let tables = step["facts"].as_object().unwrap();
    let table = |fact: &Json| TableFacts {
        columns: fact["columns"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(n, f)| (n.clone(), column(f)))
            .collect(),
        primary_key: names(&fact["primary_key"]),
        unique_index: names(&fact["unique_index"]),
        identity_index: names(&fact["identity_index"]),
        types: types.clone(),
    };
    tables.iter().map(|(id, fact)| (Oid(id.parse().unwrap()), table(fact))).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

pub fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A decoded value in the notation of the recordings: bytes in hex, special numbers by name, and
/// `real` marked.
fn shown(value: Avro) -> Json {
    match value {
        Avro::Null => Json::Null,
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) => json!(value),
        Avro::Long(value) => json!(value),
        Avro::Float(value) if value.is_finite() => json!({ "$float": value.to_bits() }),
        Avro::Float(value) => shown(Avro::Double(f64::from(value))),
        Avro::Double(value) if value.is_finite() => json!(value),
        Avro::Double(value) if value.is_nan() => json!("NaN"),
        Avro::Double(value) => json!(if value > 0.0 { "Infinity" } else { "-Infinity" }),
        Avro::String(value) => json!(shortened(value)),
        Avro::Bytes(value) => json!({ "$bytes": shortened(hex_of(&value)) }),
        Avro::Decimal(value) => {
            let bytes = Vec::<u8>::try_from(&value).unwrap();
            json!({ "$bytes": shortened(hex_of(&bytes)) })
        }
        Avro::Union(_, value) => shown(*value),
        Avro::Array(values) => values.into_iter().map(shown).collect(),
        Avro::Map(values) => {
            Json::Object(values.into_iter().map(|(name, value)| (name, shown(value))).collect())
        }
        Avro::Date(value) | Avro::TimeMillis(value) => json!(value),
        Avro::TimestampMillis(value) => json!(value),
        Avro::Record(fields) => {
            Json::Object(fields.into_iter().map(|(name, value)| (name, shown(value))).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// [`shortened`] for every text of a value.
pub fn all_shortened(value: Json) -> Json {
    match value {
        Json::String(text) => shortened(text),
        Json::Array(values) => values.into_iter().map(all_shortened).collect(),
        Json::Object(fields) => {
            Json::Object(fields.into_iter().map(|(n, value)| (n, all_shortened(value))).collect())
        }
        other => other,
    }
}

/// A text of more than 4096 characters as its length and hash, as the recordings have it.
fn shortened(text: String) -> Json {
    if text.chars().count() <= 4096 {
        return json!(text);
    }
    let hash = hex_of(&openssl::sha::sha256(text.as_bytes()));
    json!({ "$long_text": { "characters": text.chars().count(), "sha256": hash } })
}

pub fn decoded(schema: &str, framed: &[u8]) -> Json {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut body = &framed[5..];
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut body).unwrap();
    assert!(body.is_empty(), "bytes after the value");
    shown(value)
}

/// Replaces the parts of records that differ from run to run: times, LSNs, transaction ids and the
/// version. A test uses one of these for Debezium's records and one for ours.
#[derive(Default)]
pub struct Normal {
    transactions: Vec<Json>,
}

impl Normal {
    pub fn value(&mut self, mut value: Json) -> Json {
        if value.get("op").is_some() {
            for name in ["ts_ms", "ts_us", "ts_ns"] {
                if value.get(name).is_some() {
                    value[name] = json!("$ts");
                }
            }
        }
        if let Some(source) = value.get_mut("source") {
            for (name, mark) in [
                ("version", "$version"),
                ("ts_ms", "$ts"),
                ("ts_us", "$ts"),
                ("ts_ns", "$ts"),
                ("lsn", "$lsn"),
            ] {
                assert!(!source[name].is_null(), "{name}");
                source[name] = json!(mark);
            }
            let known = source["sequence"].as_str().unwrap().starts_with("[\"");
            source["sequence"] =
                json!(if known { "[\"$lsn\",\"$lsn\"]" } else { "[null,\"$lsn\"]" });
            if !source["txId"].is_null() {
                let id = source["txId"].take();
                let number =
                    self.transactions.iter().position(|seen| *seen == id).unwrap_or_else(|| {
                        self.transactions.push(id);
                        self.transactions.len() - 1
                    });
                source["txId"] = json!(number);
            }
        }
        value
    }
}
