//! The operator's checked rules: which columns are left out of events, masked and renamed, and
//! which tables have other keys.
//!
//! A rule is about names. `filter` decides once for each table which of its columns a rule applies
//! to. Debezium has the same rules under other names. In some cases Debezium publishes a value
//! although a rule seems to hide it. Such a rule is refused, unless a word in the rule asks for
//! Debezium's behaviour.

use super::naming::Adjust;
use super::reroute::Reroute;
use crate::table::names::{NameList, NamePattern};
use std::fmt;
use std::sync::Arc;

/// The operator's rules for one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The separator between the parts of a topic's name.
    pub delimiter: String,
    /// The rule that makes topics by a regular expression, so that tables can share a topic.
    pub reroute: Option<Reroute>,
    /// How the names of schemas are made fit for Avro.
    pub schema_names: Adjust,
    /// How the names of fields are made fit for Avro.
    pub field_names: Adjust,
    /// Columns that the rows in events have. If the list is empty, the rows have all columns.
    pub include: NameList,
    /// Columns that the rows in events do not have.
    pub exclude: NameList,
    /// Whether a column that is left out of the rows in events may be in the key.
    pub excluded_keys: Allowed,
    /// The masks. A column has at most one.
    pub masks: Vec<MaskRule>,
    /// Columns whose declared type is written into the schema.
    pub source_types: NameList,
    /// Columns whose declared type is written into the schema, chosen by `namespace.table.type`.
    pub source_types_of: NameList,
    /// Keys for tables that have another key than their own.
    pub keys: Vec<KeyRule>,
    /// Whether a key of `keys` may have columns that old rows do not hold.
    pub keys_outside_identity: Allowed,
    /// Which changes of rows are published.
    pub rows: RowRules,
    /// Whether the source block of events has the slot's xmin.
    pub xmin: bool,
    /// Whether the begin and the end of each transaction are records, and events carry their place
    /// in the transaction.
    pub transactions: bool,
    /// The topic for the begin and end records of transactions. `None` for `<prefix>.transaction`.
    pub transaction_topic: Option<String>,
    /// The topic of heartbeats. `None` for `__debezium-heartbeat.<prefix>`.
    pub heartbeat_topic: Option<String>,
    /// The topic of notices about copies. `None` if no topic gets notices.
    pub notice_topic: Option<String>,
    /// Prefixes of logical messages that are published. If the list is empty, all are published.
    pub message_include: NameList,
    /// Prefixes of logical messages that are not published.
    pub message_exclude: NameList,
}

impl Default for Rules {
    /// No rule: every column, key and name stays as it is, and every change is published.
    fn default() -> Self {
        Rules {
            delimiter: ".".to_owned(),
            reroute: None,
            schema_names: Adjust::None,
            field_names: Adjust::None,
            include: NameList::default(),
            exclude: NameList::default(),
            excluded_keys: Allowed::No,
            masks: Vec::new(),
            source_types: NameList::default(),
            source_types_of: NameList::default(),
            keys: Vec::new(),
            keys_outside_identity: Allowed::No,
            rows: RowRules::default(),
            xmin: false,
            transactions: false,
            transaction_topic: None,
            heartbeat_topic: None,
            notice_topic: None,
            message_include: NameList::default(),
            message_exclude: NameList::default(),
        }
    }
}

impl Rules {
    /// Whether schemas name the declared types of some columns.
    #[must_use]
    pub fn name_source_types(&self) -> bool {
        !self.source_types.is_empty() || !self.source_types_of.is_empty()
    }
}

/// Whether the operator allows something that planning refuses by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// The default: planning refuses a table for which the setting would be needed.
    #[default]
    No,
    /// The operator's setting permits what planning refuses by default.
    Yes,
}

/// Which changes of rows are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRules {
    pub(crate) inserts: bool,
    /// Whether updates are published, those that change a key included.
    pub updates: bool,
    pub(crate) deletes: bool,
    /// Whether updates are published that change no published column. This is known only under
    /// REPLICA IDENTITY FULL.
    pub unchanged: bool,
}

impl Default for RowRules {
    /// Every change is published, updates that change nothing included.
    fn default() -> Self {
        RowRules { inserts: true, updates: true, deletes: true, unchanged: true }
    }
}

/// Another key for some tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    pub(crate) tables: NamePattern,
    /// The columns of the key, in order. A column with an exact name must exist. A regular
    /// expression may match any number of columns. If nothing matches, the table keeps its own key.
    pub columns: Vec<NamePattern>,
}

/// A mask over some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRule {
    /// The name of the mask in the configuration.
    pub name: String,
    pub(crate) columns: NameList,
    /// How the values are masked.
    pub method: Method,
    /// Whether columns of other types than character types pass as they are, as Debezium lets them.
    /// If not, texts of every type are masked, and a column whose values have no masked form is
    /// refused.
    pub other_types_pass: Allowed,
}

/// How a masked value is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// The value is replaced by this many stars, and so is null.
    Stars(usize),
    /// The value is replaced by its salted hash in hexadecimal, cut to the column's length.
    Hash(HashRule),
    /// The value is cut to this many characters (UTF-16 units, without splitting a pair) or bytes.
    Truncate(usize),
}

/// The settings of a hashing mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRule {
    pub(crate) algorithm: Algorithm,
    /// The bytes that are hashed before the value.
    pub salt: Salt,
    /// The form of the value that is hashed.
    pub payload: Payload,
}

/// The hash algorithms, with the names that Java gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`: 32 hexadecimal digits.
    Md5,
    /// `SHA-1`: 40 hexadecimal digits.
    Sha1,
    /// `SHA-224`: 56 hexadecimal digits.
    Sha224,
    /// `SHA-256`: 64 hexadecimal digits.
    Sha256,
    /// `SHA-384`: 96 hexadecimal digits.
    Sha384,
    /// `SHA-512`: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// Every algorithm by its name.
    pub const ALL: [(&'static str, Algorithm); 6] = [
        ("SHA-256", Algorithm::Sha256),
        ("SHA-512", Algorithm::Sha512),
        ("SHA-384", Algorithm::Sha384),
        ("SHA-224", Algorithm::Sha224),
        ("SHA-1", Algorithm::Sha1),
        ("MD5", Algorithm::Md5),
    ];
}

/// The form of a value that is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The value's bytes in UTF-8, as in Debezium's version 2.
    Plain,
    /// The value in Java's serialisation, as in Debezium's version 1.
    JavaSerialised,
}

/// A salt, which is never printed, because with the salt short values can be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(Arc<[u8]>);

impl Salt {
    /// A salt of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Salt(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(***)")
    }
}
