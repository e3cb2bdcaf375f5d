//! Decodes records into changes as an independent consumer would: Confluent's framing, schemas
//! fetched from the registry by id, and `apache_avro` for the values. It must not use our own
//! encoder, because it checks that encoder.

use super::tables::{Change, Op, Position, Row};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id_and_type,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::SchemaType;
use std::collections::HashMap;
use tokio::runtime::Runtime;

/// First byte of a record in Confluent's framing.
const MAGIC: u8 = 0;

/// The decoded content of a record.
#[derive(Debug)]
pub(super) enum Event {
    /// A row change or a truncate.
    Change(Change),
    /// A logical message (`pg_logical_emit_message`): its prefix and content.
    Message(String, String),
    /// The record without value that follows a delete, for compaction.
    Tombstone,
}

/// Why a record cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("fetch schema {id} from the registry")]
    Fetch {
        id: u32,
        #[source]
        source: SRCError,
    },
    #[error("read a record of {topic} by its schema {id}")]
    Avro {
        topic: String,
        id: u32,
        #[source]
        source: Box<apache_avro::Error>,
    },
    #[error("parse schema {id}, which the registry gave")]
    Json {
        id: u32,
        #[source]
        source: serde_json::Error,
    },
    #[error("read a record of {topic}: it does not begin as Confluent's serialisers do")]
    Frame { topic: String },
    #[error("read a record of {topic}: {what}")]
    Shape { topic: String, what: &'static str },
}

/// Meaning of a column's values beyond their Avro type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Decimal {
        scale: usize,
    },
    /// Text of an ISO 8601 time in UTC, whose fraction of a second has zero to six digits.
    ZonedTimestamp,
}

struct Known {
    schema: Schema,
    /// Columns whose kind is not plain, by name.
    kinds: HashMap<String, Kind>,
}

/// Decodes records and keeps the schemas that it has fetched.
pub(super) struct Decoder {
    registry: SrSettings,
    /// Runs the requests to the registry. The consumer's thread has no other runtime.
    runtime: Runtime,
    schemas: HashMap<u32, Known>,
}

impl Decoder {
    pub(super) fn new(registry: String, runtime: Runtime) -> Self {
        Decoder { registry: SrSettings::new(registry), runtime, schemas: HashMap::new() }
    }

    /// Decodes one record of topic `<prefix>.<namespace>.<table>` or `<prefix>.message`.
    ///
    /// # Errors
    /// Every unexpected content is an error, because the demo may skip no record.
    pub(super) fn event(&mut self, record: &BorrowedMessage<'_>) -> Result<Event, DecodeError> {
        let topic = record.topic();
        let Some(payload) = record.payload() else { return Ok(Event::Tombstone) };
        let (value, kinds) = self.value(topic, payload)?;
        let shape = |what| DecodeError::Shape { topic: topic.to_owned(), what };
        let op = field(&value, "op").and_then(as_text).ok_or_else(|| shape("no op"))?;
        let op = match op.as_str() {
            "c" | "r" => Op::Create,
            "u" => Op::Update,
            "d" => Op::Delete,
            "t" => Op::Truncate,
            "m" => return message(&value).ok_or_else(|| shape("no message")),
            _ => return Err(shape("an op that Debezium does not have")),
        };
        let image = |name| match field(&value, name).map(inner) {
            None | Some(Value::Null) => Ok(None),
            Some(image) => {
                row(image, &kinds).map(Some).ok_or_else(|| shape("a value of an unexpected type"))
            }
        };
        let (before, after) = (image("before")?, image("after")?);
        let key = match record.key() {
            None => None,
            Some(key) => {
                let (key, kinds) = self.value(topic, key)?;
                Some(row(&key, &kinds).ok_or_else(|| shape("a key of an unexpected type"))?)
            }
        };
        let position = position(record).ok_or_else(|| shape("no identity headers"))?;
        let table = topic.rsplit_once('.').map_or(topic, |(_, table)| table).to_owned();
        Ok(Event::Change(Change { table, op, key, before, after, position }))
    }

    fn value(
        &mut self,
        topic: &str,
        framed: &[u8],
    ) -> Result<(Value, HashMap<String, Kind>), DecodeError> {
        let frame = || DecodeError::Frame { topic: topic.to_owned() };
        let (head, mut body) = framed.split_at_checked(5).ok_or_else(frame)?;
        let [MAGIC, a, b, c, d] = *head else { return Err(frame()) };
        let id = u32::from_be_bytes([a, b, c, d]);
        let known = match self.schemas.remove(&id) {
            Some(known) => known,
            None => self.fetch(topic, id)?,
        };
        let avro =
            |source| DecodeError::Avro { topic: topic.to_owned(), id, source: Box::new(source) };
        let reader = GenericDatumReader::builder(&known.schema).build().map_err(avro)?;
        let value = reader.read_value(&mut body).map_err(avro)?;
        if !body.is_empty() {
            return Err(DecodeError::Shape {
                topic: topic.to_owned(),
                what: "bytes are left after its value",
            });
        }
        let kinds = known.kinds.clone();
        self.schemas.insert(id, known);
        Ok((value, kinds))
    }

    fn fetch(&self, topic: &str, id: u32) -> Result<Known, DecodeError> {
        let fetched =
            self.runtime.block_on(get_schema_by_id_and_type(id, &self.registry, SchemaType::Avro));
        let text = fetched.map_err(|source| DecodeError::Fetch { id, source })?.schema;
        let avro =
            |source| DecodeError::Avro { topic: topic.to_owned(), id, source: Box::new(source) };
        let schema = Schema::parse_str(&text).map_err(avro)?;
        let json =
            serde_json::from_str(&text).map_err(|source| DecodeError::Json { id, source })?;
        Ok(Known { schema, kinds: kinds(&json) })
    }
}

/// The kinds of columns by name, without columns of the plain kind. `schema` is the schema of an
/// envelope or of a key.
fn kinds(schema: &serde_json::Value) -> HashMap<String, Kind> {
    let named = |name: &str| {
        let fields = schema["fields"].as_array().into_iter().flatten();
        fields.filter(move |field| field["name"] == name).map(|field| branch(&field["type"])).next()
    };
    let columns = named("before").unwrap_or(schema);
    let columns = columns["fields"].as_array().into_iter().flatten();
    columns
        .filter_map(|column| {
            let r#type = branch(&column["type"]);
            let kind = match (r#type["logicalType"].as_str(), r#type["connect.name"].as_str()) {
                (Some("decimal"), _) => {
                    Kind::Decimal { scale: usize::try_from(r#type["scale"].as_u64()?).ok()? }
                }
                (_, Some("io.debezium.time.ZonedTimestamp")) => Kind::ZonedTimestamp,
                _ => return None,
            };
            Some((column["name"].as_str()?.to_owned(), kind))
        })
        .collect()
}

/// The type in the union of an optional type that is not null. If the type is not a union, the type
/// itself.
fn branch(r#type: &serde_json::Value) -> &serde_json::Value {
    r#type
        .as_array()
        .and_then(|branches| branches.iter().find(|branch| *branch != "null"))
        .unwrap_or(r#type)
}

fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Record(fields) = inner(record) else { return None };
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

fn inner(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => inner,
        value => value,
    }
}

fn as_text(value: &Value) -> Option<String> {
    match inner(value) {
        Value::String(text) => Some(text.clone()),
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

fn message(value: &Value) -> Option<Event> {
    let message = field(value, "message")?;
    let part = |name| field(message, name).and_then(as_text).unwrap_or_default();
    Some(Event::Message(part("prefix"), part("content")))
}

fn position(record: &BorrowedMessage<'_>) -> Option<Position> {
    let headers = record.headers()?;
    let text = |name: &str| {
        let header = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(header.value?).ok()
    };
    let lsn = text("wellspring.commit_lsn")?;
    let lsn = match lsn.split_once('/') {
        Some((high, low)) => {
            u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?
        }
        None => lsn.parse().ok()?,
    };
    Some((text("wellspring.epoch")?.parse().ok()?, lsn, text("wellspring.ordinal")?.parse().ok()?))
}

fn row(image: &Value, kinds: &HashMap<String, Kind>) -> Option<Row> {
    let Value::Record(fields) = inner(image) else { return None };
    let column = |(name, value): &(String, Value)| {
        let kind = kinds.get(name).copied().unwrap_or(Kind::Plain);
        Some((name.clone(), text(value, kind)?))
    };
    fields.iter().map(column).collect()
}

/// A value as text, in the form in which the queries of `shop::TABLES` read it from the source.
/// `Some(None)` for null. `None` for a value of a type that no column of the demo has.
fn text(value: &Value, kind: Kind) -> Option<Option<String>> {
    Some(Some(match (inner(value), kind) {
        (Value::Null, _) => return Some(None),
        (Value::Boolean(value), _) => value.to_string(),
        (Value::Int(value), _) => value.to_string(),
        (Value::Long(value), _) => value.to_string(),
        (Value::Decimal(value), Kind::Decimal { scale }) => {
            decimal(&Vec::<u8>::try_from(value).ok()?, scale)?
        }
        (Value::String(value), Kind::ZonedTimestamp) => micros(value)?,
        (Value::String(value), _) => value.clone(),
        (Value::Array(items), _) => {
            let items: Option<Vec<Option<String>>> =
                items.iter().map(|item| text(item, Kind::Plain)).collect();
            serde_json::to_string(&items?).ok()?
        }
        _ => return None,
    }))
}

/// Converts two's complement in big endian to the text that Postgres prints for a numeric of that
/// scale. `None` for more than 16 bytes.
fn decimal(bytes: &[u8], scale: usize) -> Option<String> {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    if bytes.len() > 16 {
        return None;
    }
    let unscaled = bytes
        .iter()
        .fold(if is_negative { -1 } else { 0 }, |sum: i128, byte| sum << 8 | i128::from(*byte));
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let (sign, point) = (if unscaled < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" });
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// The text of an instant in UTC, filled with zeros up to six digits after the point. `None` if the
/// text does not end with `Z`.
fn micros(text: &str) -> Option<String> {
    let local = text.strip_suffix('Z')?;
    let (seconds, fraction) = local.split_once('.').unwrap_or((local, ""));
    Some(format!("{seconds}.{fraction:0<6}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_written_as_postgres_writes_it() {
        let cases: [(&[u8], usize, &str); 6] = [
            (&[0], 2, "0.00"),
            (&[0x04, 0xd2], 2, "12.34"),
            (&[0xff], 2, "-0.01"),
            (&[0xfb, 0x2e], 2, "-12.34"),
            (&[0x7b], 0, "123"),
            (&[0x00, 0x80], 3, "0.128"),
        ];
        for (bytes, scale, expected) in cases {
            assert_eq!(decimal(bytes, scale).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_instant_has_six_digits() {
        assert_eq!(micros("2026-01-02T03:04:05Z").as_deref(), Some("2026-01-02T03:04:05.000000Z"));
        assert_eq!(
            micros("2026-01-02T03:04:05.12Z").as_deref(),
            Some("2026-01-02T03:04:05.120000Z")
        );
        assert_eq!(micros("2026-01-02T03:04:05.12+01:00"), None);
    }

    #[test]
    fn kinds_are_read_from_an_envelope() {
        let schema = serde_json::json!({ "fields": [
            { "name": "before", "type": ["null", { "type": "record", "fields": [
                { "name": "id", "type": "long" },
                { "name": "price", "type": [{ "type": "bytes", "logicalType": "decimal", "scale": 2 }, "null"] },
                { "name": "at", "type": { "type": "string", "connect.name": "io.debezium.time.ZonedTimestamp" } },
            ]}]},
            { "name": "after", "type": ["null", "Value"] },
        ]});
        let expected = [
            ("price".to_owned(), Kind::Decimal { scale: 2 }),
            ("at".to_owned(), Kind::ZonedTimestamp),
        ];
        assert_eq!(kinds(&schema), HashMap::from(expected));
    }
}
