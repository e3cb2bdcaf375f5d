//! Turns changes into records: chooses the topic, and writes key, Debezium's envelope and headers
//! in Avro or JSON.
//!
//! For a relation, [`Planner::draft`] says which schemas its records have. With the ids of the
//! registry, the draft becomes a [`Plan`]. [`Encoder`] writes rows by the plan: from the server's
//! text straight into one reused buffer. Only a JSON document that a transform expands is read into
//! a tree. Only `registry` does IO. The caller passes the number of a topic's partitions.

mod plain_text;
mod avro_text;
mod auxiliary;
mod column;
mod condition;
mod connect_text;
mod document;
mod dropping;
mod encode_error;
mod encoder;
mod envelope;
mod filter;
mod form;
mod header;
mod literal;
mod mask;
mod messages;
mod modes;
mod moment;
mod notes;
mod notice;
pub mod placed;
mod plan;
mod plan_error;
mod probe;
mod quarantine;
pub mod registry;
mod route;
mod router;
mod reshape;
mod row;
pub mod rules;
mod schema;
mod shaped;
mod shaped_row;
mod shapes;
mod spatial;
mod transcode;
mod views;
mod wire;

pub use auxiliary::{Counted, Mark};
pub use encode_error::not_holdable_in;
pub use encoder::{EncodeError, Encoder, Record};
pub use modes::{
    BinaryMode, Code, DecimalMode, HstoreMode, IntervalMode, Modes, TimeMode, UnknownMode,
};
pub use naming::{Adjust, is_avro};
pub use notes::{Loss, Note};
pub use notice::Notice;
pub use plan::{AvroSchema, Draft, Ids, Plan, PlanError, Planner};
pub use quarantine::{Quarantine, TooLarge};
pub use route::{murmur2, partition};
pub use router::{Route, Router};
pub use rules::Rules;

pub use crate::transform::reroute;
use crate::transform::{Chain, java, naming};
use std::sync::Arc;

/// The format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Avro with schemas in a registry, in Confluent's framing.
    Avro,
    /// JSON with the payload alone, as with Debezium's `schemas.enable=false`.
    Json,
    /// JSON with the schema beside the payload in each key and value, as with Debezium's
    /// `schemas.enable=true`.
    JsonSchema,
}

impl Format {
    /// Returns the word for the format in the configuration, in status and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::Avro => "avro",
            Format::Json => "json",
            Format::JsonSchema => "json-schema",
        }
    }
}

/// The settings that decide the form of every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The first part of every topic (`topics.prefix`).
    pub prefix: String,
    /// The format of keys and values.
    pub format: Format,
    /// Whether a delete is followed by a tombstone: a record with the key of the delete and no
    /// value.
    pub tombstones: bool,
    /// Whether truncates are published.
    pub truncates: bool,
    /// Whether logical messages are published.
    pub messages: bool,
    /// Whether the records of rows carry Debezium's `__debezium.context.*` headers.
    pub context_headers: bool,
    /// Whether records carry `wellspring.epoch`, `wellspring.commit_lsn` and `wellspring.ordinal`.
    pub identity_headers: bool,
    /// The placeholder for a value that the server did not send because it did not change; see
    /// [`Config::placeholder_bytes`].
    pub placeholder: String,
    /// The chosen form of each type of Postgres that can be written in more than one form.
    pub modes: Modes,
    /// The operator's rules about topics, columns, keys and the changes that are published.
    pub rules: Arc<Rules>,
    /// The configured transforms, which change the form of records.
    pub transforms: Arc<Chain>,
}

impl Config {
    /// The text that Debezium sends in place of a TOAST value that an update did not change.
    pub const PLACEHOLDER: &'static str = "__debezium_unavailable_value";

    /// Makes the default settings for a prefix: format Avro, with tombstones, truncates, logical
    /// messages and context headers.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Config {
            prefix: prefix.to_owned(),
            format: Format::Avro,
            tombstones: true,
            truncates: true,
            messages: true,
            context_headers: true,
            identity_headers: false,
            placeholder: Self::PLACEHOLDER.to_owned(),
            modes: Modes::default(),
            rules: Arc::default(),
            transforms: Arc::default(),
        }
    }
    /// Returns the bytes of the placeholder. If the setting is `hex:` with an even number of
    /// hexadecimal digits, they are the bytes that the digits encode. Otherwise they are the bytes
    /// of the setting's text.
    #[must_use]
    pub fn placeholder_bytes(&self) -> Vec<u8> {
        let digits = self.placeholder.strip_prefix("hex:").and_then(|digits| {
            let mut bytes = Vec::new();
            crate::table::value::hex(digits.as_bytes(), "hex digits", &mut bytes)
                .ok()
                .map(|()| bytes)
        });
        digits.unwrap_or_else(|| self.placeholder.as_bytes().to_vec())
    }
}
