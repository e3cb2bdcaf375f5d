//! Turns records of Kafka into lines of JSON. It reads Avro in Confluent's framing, with schemas
//! that it fetches from the registry by id, and JSON with or without its schema.
//!
//! A record that cannot be read is shown with its size, its first bytes and the reason. Only a
//! registry that does not answer ends the work, because no further record could be read.

use super::form::Form;
use super::show;
use crate::encode::Format;
use crate::encode::registry::{Registry, RegistryError};
use crate::kafka::Tailed;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// First byte of a record in Confluent's framing.
const MAGIC: u8 = 0;

/// Bytes of an unreadable record that are shown: enough to recognize another serializer by.
const SHOWN_BYTES_MAX: usize = 32;

/// Reads records, and keeps the schemas that it has fetched.
pub(super) struct Decoder {
    /// `None` if the events are not Avro or no registry is configured.
    registry: Option<Registry>,
    format: Format,
    /// True if dates, times and decimals are shown as the numbers and bytes that the record has.
    raw: bool,
    schemas: HashMap<u32, Rc<Known>>,
}

pub(super) struct Known {
    schema: Schema,
    form: Form,
}

/// The key or the value of a record, as it is shown.
enum Part {
    Json(String),
    /// Why the key or the value cannot be read.
    Unreadable(String),
}

/// A value in JSON together with its schema, in the form in which JsonConverter writes the two.
#[derive(Deserialize)]
struct Enveloped<'a> {
    schema: serde_json::Value,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Decoder {
    pub(super) fn new(registry: Option<Registry>, format: Format, raw: bool) -> Self {
        Decoder { registry, format, raw, schemas: HashMap::new() }
    }

    /// Decodes a record into the line that is shown, in JSON and without a line break at its end.
    ///
    /// # Errors
    /// The registry does not answer, or refuses our login.
    pub(super) async fn line(&mut self, record: &Tailed) -> Result<String, RegistryError> {
        let mut out = String::from("{\"topic\":");
        show::text(&record.topic, &mut out);
        // Writing into a text cannot fail.
        let _ = write!(out, ",\"partition\":{},\"offset\":{}", record.partition, record.offset);
        if let Some(millis) = record.timestamp_ms {
            out.push_str(",\"time\":");
            show::instant(millis, &mut out);
        }
        for (name, bytes) in [("key", &record.key), ("value", &record.value)] {
            let part = match bytes {
                None => Part::Json("null".to_owned()),
                Some(bytes) => self.part(bytes).await?,
            };
            match part {
                Part::Json(json) => {
                    let _ = write!(out, ",\"{name}\":{json}");
                }
                Part::Unreadable(why) => {
                    let _ = write!(out, ",\"{name}_unreadable\":");
                    unreadable(bytes.as_deref().unwrap_or(&[]), &why, &mut out);
                }
            }
        }
        if record.value.is_none() {
            out.push_str(",\"tombstone\":true");
        }
        if !record.headers.is_empty() {
            out.push_str(",\"headers\":");
            let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value));
            show::object(headers, |_, value, out| header(value.as_deref(), out), &mut out);
        }
        out.push('}');
        Ok(out)
    }

    async fn part(&mut self, bytes: &[u8]) -> Result<Part, RegistryError> {
        let is_framed = bytes.first() == Some(&MAGIC) && bytes.len() >= 5;
        Ok(match (self.format, bytes) {
            (Format::Avro, [MAGIC, a, b, c, d, body @ ..]) => {
                self.avro(u32::from_be_bytes([*a, *b, *c, *d]), body).await?
            }
            _ => match serde_json::from_slice::<&RawValue>(bytes) {
                Ok(json) => Part::Json(self.json(json)),
                Err(_) if is_framed => Part::Unreadable(format!(
                    "it is not JSON; it begins as Confluent's serializers do, and events.format is \
                     \"{}\"",
                    self.format.name()
                )),
                Err(_) if self.format == Format::Avro => Part::Unreadable(
                    "it does not begin as Confluent's serializers do, and is not JSON".to_owned(),
                ),
                Err(_) => Part::Unreadable("it is not JSON".to_owned()),
            },
        })
    }

    fn json(&self, json: &RawValue) -> String {
        let mut out = String::new();
        match serde_json::from_str::<Enveloped<'_>>(json.get()) {
            Ok(Enveloped { schema, payload }) if self.format == Format::JsonSchema => {
                let form = if self.raw { Form::Plain } else { Form::of_connect(&schema) };
                show::connect(payload, &form, &mut out);
            }
            _ => show::line(json.get(), &mut out),
        }
        out
    }

    async fn avro(&mut self, id: u32, mut body: &[u8]) -> Result<Part, RegistryError> {
        let known = match self.known(id).await? {
            Ok(known) => known,
            Err(why) => return Ok(Part::Unreadable(why)),
        };
        let read = GenericDatumReader::builder(&known.schema)
            .build()
            .and_then(|reader| reader.read_value(&mut body));
        Ok(match read {
            Ok(value) if body.is_empty() => {
                let mut out = String::new();
                show::avro(&value, &known.form, &mut out);
                Part::Json(out)
            }
            Ok(_) => Part::Unreadable(format!(
                "{} bytes are left after the value of schema {id}",
                body.len()
            )),
            Err(error) => Part::Unreadable(format!("it does not fit its schema {id}: {error}")),
        })
    }

    /// The schema with this id, kept or fetched now. The inner error says why there is none. The
    /// outer error says that the registry gave no usable answer.
    async fn known(&mut self, id: u32) -> Result<Result<Rc<Known>, String>, RegistryError> {
        if let Some(known) = self.schemas.get(&id) {
            return Ok(Ok(Rc::clone(known)));
        }
        let Some(registry) = &self.registry else {
            return Ok(Err("no registry is configured".to_owned()));
        };
        let Some(text) = registry.schema(id).await? else {
            return Ok(Err(format!("the registry has no schema {id}")));
        };
        Ok(self.learn(id, &text))
    }

    /// Parses the text of a schema and keeps it under its id. The error says why it cannot be read.
    pub(super) fn learn(&mut self, id: u32, text: &str) -> Result<Rc<Known>, String> {
        let unreadable = |why: &dyn std::fmt::Display| {
            format!("schema {id} of the registry cannot be read: {why}")
        };
        let schema = Schema::parse_str(text).map_err(|error| unreadable(&error))?;
        let json = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
        let form = if self.raw { Form::Plain } else { Form::of_avro(&json) };
        let known = Rc::new(Known { schema, form });
        self.schemas.insert(id, Rc::clone(&known));
        Ok(known)
    }
}

fn header(value: Option<&[u8]>, out: &mut String) {
    match value.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.push_str("null"),
        Some((_, Ok(value))) => show::text(value, out),
        Some((bytes, Err(_))) => unreadable(bytes, "it is not text", out),
    }
}

fn unreadable(bytes: &[u8], why: &str, out: &mut String) {
    let _ = write!(out, "{{\"bytes\":{},\"hex\":\"", bytes.len());
    for byte in bytes.iter().take(SHOWN_BYTES_MAX) {
        let _ = write!(out, "{byte:02x}");
    }
    out.push_str(if bytes.len() > SHOWN_BYTES_MAX { "..\",\"why\":" } else { "\",\"why\":" });
    show::text(why, out);
    out.push('}');
}
