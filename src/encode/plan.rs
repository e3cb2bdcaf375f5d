//! Plans: the decisions about a relation that are made once, and not for each row.
//!
//! A draft has the schemas' texts and no ids. With the registry's ids, the draft becomes a plan. A
//! plan is immutable. A plan belongs to one version of a table, to logical messages, or to one kind
//! of auxiliary record. A plan has topic, envelope, columns and key in the form in which they are
//! written.

use super::auxiliary::Auxiliary;
use super::column::{ColumnPlan, Key, columns_of};
use super::envelope::{self, Step};
use super::filter::{Filtered, takes_message};
use super::form::{Avro, Form, Json};
use super::messages::MESSAGES;
use super::reshape::Original;
use super::router::{Of, Router};
use super::rules::RowRules;
use super::shaped::{Compiler, Shaped};
use super::{Config, Format, Rules, avro_text, connect_text, naming, schema};
use crate::table::{Table, TableName};
use crate::transform::shape::Shape;
use std::sync::Arc;

pub use super::plan_error::PlanError;

pub(super) const TOPIC_LENGTH_MAX: usize = 249; // Kafka's limit for a topic's name

/// A schema of a draft, with the subject under which the registry gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroSchema {
    /// The subject: `<topic>-key` or `<topic>-value`.
    pub subject: String,
    /// The text of the schema, exactly as it is sent to the registry.
    pub text: String,
}

/// The ids that a registry gave a draft's schemas. JSON needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The id of the key's schema, if the draft has one.
    pub key: Option<u32>,
    /// The id of the value's schema.
    pub value: u32,
}

/// Makes the drafts of plans.
#[derive(Clone, Debug)]
pub struct Planner {
    shared: Arc<Shared>,
}

/// The parts that all plans of one planner share.
#[derive(Debug)]
struct Shared {
    config: Config,
    database: String,
    headers: Arc<FixedHeaders>,
}

/// Headers whose values are the same in each record that carries them.
#[derive(Debug)]
pub(super) struct FixedHeaders {
    pub(crate) context: Vec<(&'static str, Box<[u8]>)>,
    /// Bytes of the names and values of `context` together.
    pub context_bytes: usize,
    /// A token that is compared in place of `context` ([`Record::headers_token`]).
    ///
    /// [`Record::headers_token`]: super::encoder::Record::headers_token
    pub token: Arc<()>,
    /// The epoch's text, if records carry identity headers.
    pub epoch: Option<Box<[u8]>>,
}

impl Planner {
    /// Makes a planner for one database. `run_id` identifies this run of the process. `epoch` is
    /// the number that rises when a gap is accepted.
    #[must_use]
    pub fn new(config: Config, database: &str, run_id: &str, epoch: u64) -> Self {
        let text = |value: &str| -> Box<[u8]> { value.as_bytes().into() };
        let context = match config.context_headers {
            true => vec![
                ("__debezium.context.connectorLogicalName", text(&config.prefix)),
                ("__debezium.context.taskId", text("0")),
                ("__debezium.context.connectorName", text("postgresql")),
                ("__debezium.context.runId", text(run_id)),
            ],
            false => Vec::new(),
        };
        let epoch = config.identity_headers.then(|| text(&epoch.to_string()));
        let context_bytes: usize =
            context.iter().map(|(name, value)| name.len() + value.len()).sum();
        let headers = FixedHeaders { context, context_bytes, token: Arc::default(), epoch };
        let headers = Arc::new(headers);
        Planner { shared: Arc::new(Shared { config, database: database.to_owned(), headers }) }
    }

    /// Whether schemas name the declared types of some columns. The first copy then has other
    /// schemas than the stream, as in Debezium, because the driver names some types in another way.
    #[must_use]
    pub fn names_source_types(&self) -> bool {
        self.shared.config.rules.name_source_types()
    }

    /// Returns the configuration of this planner.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Makes the draft of the plan for a table's rows: the topic and the schemas of their records.
    ///
    /// # Errors
    /// See [`PlanError`]. For example, Avro or Kafka does not allow a name, or old rows do not hold
    /// the key.
    pub fn draft(&self, table: &Table) -> Result<Draft, PlanError> {
        self.draft_by(table, None)
    }

    /// Makes the draft of the plan for those rows, or logical messages, of the router that have
    /// this route.
    ///
    /// # Errors
    /// See [`Planner::draft`].
    pub fn routed(&self, router: &Router, route: &str) -> Result<Draft, PlanError> {
        let draft = match &router.of {
            Of::Rows(table, _) => self.draft_by(table, Some(route)),
            Of::Messages(_) => self.message_routed(route),
        };
        draft.map(|draft| Draft { is_routed: true, ..draft })
    }

    fn draft_by(&self, table: &Table, route: Option<&str>) -> Result<Draft, PlanError> {
        let config = &self.shared.config;
        let shape = Filtered::of(config, table)?;
        let topic = config.topic(&table.name);
        let structure = config.rules.schema_names.schema_name(&topic);
        if config.format == Format::Avro {
            check_names(config, &shape, &topic)?;
        }
        if naming::topic(&topic) != topic {
            return Err(PlanError::Rerouted { table: table.name.to_string(), topic });
        }
        if topic.len() > TOPIC_LENGTH_MAX {
            return Err(PlanError::Topic { table: table.name.to_string(), topic });
        }
        let mut key_fields = shape.key_fields();
        let key_field = config.key_field(&shape.table);
        if let Some((field, _)) = &key_field {
            if key_fields.iter().any(|known| known.name == *field) {
                return Err(PlanError::KeyField {
                    table: table.name.to_string(),
                    field: field.clone(),
                });
            }
            key_fields.push(schema::required_named(field.clone(), schema::Base::Text));
        }
        let key = schema::of_key(&structure, key_fields);
        let value = schema::of_envelope(&structure, shape.row_fields());
        if config.transforms.is_for(&table.name) {
            let key_field = key_field.map(|(_, value)| value);
            let described = table.clone();
            let (envelope, table) = (value, shape);
            let original = Original { topic, key, key_field, envelope, table, described };
            return self.reshaped(original, route);
        }
        Ok(self.drafted(topic, key, value, What::Rows(Box::new(shape), None)))
    }

    /// Makes the draft of the plan for logical messages. The topic is `<prefix>.message`, unless
    /// the messages are events.
    #[must_use]
    pub fn message_draft(&self) -> Draft {
        let topic = self.message_topic();
        let value = schema::of_message(self.shared.config.modes.binary);
        let router = self.message_router(&topic);
        let what = What::Messages(None);
        Draft { router, ..self.drafted(topic, Some(schema::of_message_key()), value, what) }
    }

    pub(super) fn message_topic(&self) -> String {
        naming::topic(&format!("{}.message", self.shared.config.prefix))
    }

    /// Makes the draft of the plan for the begin and end records of transactions.
    #[must_use]
    pub fn transaction_draft(&self) -> Draft {
        let config = &self.shared.config;
        let named = config.rules.transaction_topic.clone();
        let topic =
            named.unwrap_or_else(|| [&*config.prefix, "transaction"].join(&config.rules.delimiter));
        self.auxiliary_draft(topic, Auxiliary::Transactions)
    }

    /// Makes the draft of the plan for heartbeats.
    #[must_use]
    pub fn heartbeat_draft(&self) -> Draft {
        self.auxiliary_draft(self.shared.config.heartbeat_topic(), Auxiliary::Heartbeats)
    }

    /// Makes the draft of the plan for notices. `None` if the configuration names no topic for
    /// them.
    #[must_use]
    pub fn notice_draft(&self) -> Option<Draft> {
        let topic = self.shared.config.rules.notice_topic.clone()?;
        Some(self.auxiliary_draft(topic, Auxiliary::Notices))
    }

    fn auxiliary_draft(&self, topic: String, auxiliary: Auxiliary) -> Draft {
        let (key, value) = auxiliary.schemas();
        self.drafted(naming::topic(&topic), Some(key), value, What::Auxiliary(auxiliary))
    }

    pub(super) fn database(&self) -> &str {
        &self.shared.database
    }

    /// Returns the context headers, which every record of a table's rows carries.
    pub(super) fn context(&self) -> &[(&'static str, Box<[u8]>)] {
        &self.shared.headers.context
    }

    pub(super) fn drafted(
        &self,
        topic: String,
        key: Option<schema::Schema>,
        value: impl Into<Option<schema::Schema>>,
        what: What,
    ) -> Draft {
        let format = self.shared.config.format;
        let text = |schema: &schema::Schema| match format {
            Format::Avro => avro_text::text(schema),
            Format::Json => String::new(),
            Format::JsonSchema => connect_text::text(schema),
        };
        Draft {
            key: key
                .map(|schema| AvroSchema { subject: format!("{topic}-key"), text: text(&schema) }),
            value: value.into().map(|schema| AvroSchema {
                subject: format!("{topic}-value"),
                text: text(&schema),
            }),
            topic,
            what,
            router: None,
            is_routed: false,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// A plan without schema ids.
///
/// In format `json` the schemas' texts are empty. In `json-schema` they are Connect's JSON schemas,
/// which no registry gets.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The topic of all records of this draft.
    pub topic: String,
    /// The key's schema. `None` for a table without key.
    pub key: Option<AvroSchema>,
    /// The value's schema. `None` if no record has a value.
    pub value: Option<AvroSchema>,
    /// The router that finds the plan of a row by its route. `None` if all rows have the plan of
    /// this draft. With a router, rows have this plan only if [`Router::has_own`] is true.
    pub router: Option<Arc<Router>>,
    /// True if [`Planner::routed`] made the draft, for the rows of one route.
    pub is_routed: bool,
    pub(super) what: What,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Rows of a table. With transforms, also the shape (schemas and sources of values) of each
    /// kind of record, in the order of `Kind::ALL`.
    Rows(Box<Filtered>, Option<Vec<Option<Shape>>>),
    /// Logical messages. If they are events, the shape of an event is in the place of
    /// `Kind::Create`.
    Messages(Option<Vec<Option<Shape>>>),
    Auxiliary(Auxiliary),
}

impl Draft {
    /// Compiles the plan. `ids` are those under which the registry knows the draft's schemas.
    #[must_use]
    pub fn into_plan(self, ids: Ids) -> Plan {
        match self.shared.config.format {
            Format::Avro => self.compile::<Avro>(ids),
            Format::Json | Format::JsonSchema => self.compile::<Json>(ids),
        }
    }

    fn compile<F: Form>(self, ids: Ids) -> Plan {
        let config = &self.shared.config;
        let frame = |schema: Option<&AvroSchema>, id: u32| {
            frame(config.format, schema.map_or("", |s| &s.text), id)
        };
        let (key_prefix, key_suffix) = frame(self.key.as_ref(), ids.key.unwrap_or(0));
        let (value_prefix, value_suffix) = frame(self.value.as_ref(), ids.value);
        let (key_frame, value_frame) = (
            (key_prefix.clone(), key_suffix.clone()),
            (value_prefix.clone(), value_suffix.clone()),
        );
        let compiled = |table, shapes: &[Option<Shape>]| {
            let made = Compiler { config, table }.shaped::<F>(shapes, &key_frame, &value_frame);
            Arc::new(made.unwrap_or_else(|error| unreachable!("the draft was compiled: {error}")))
        };
        let (table, value, key, columns);
        let mut shaped = None;
        match &self.what {
            What::Rows(shape, shapes) => {
                shaped = shapes.as_ref().map(|shapes| compiled(Some(shape), shapes));
                let name = &shape.table.name;
                table = name.to_string();
                let name = [&*name.namespace, &*name.name];
                value = envelope::of_rows::<F>(
                    config,
                    &self.shared.database,
                    name,
                    &value_prefix,
                    &value_suffix,
                );
                key = Key::of_table::<F>(
                    &shape.table,
                    (key_prefix, key_suffix),
                    config.key_field(&shape.table),
                );
                columns = columns_of::<F>(shape, config);
            }
            What::Messages(shapes) => {
                shaped = shapes.as_ref().map(|shapes| compiled(None, shapes));
                table = MESSAGES.to_owned();
                value = envelope::of_messages::<F>(
                    config,
                    &self.shared.database,
                    &value_prefix,
                    &value_suffix,
                );
                key = Key::Message(envelope::of_message_keys::<F>(&key_prefix, &key_suffix));
                columns = Vec::new();
            }
            What::Auxiliary(auxiliary) => {
                table = self.topic.clone();
                let (key_frame, value_frame) =
                    ([&*key_prefix, &*key_suffix], [&*value_prefix, &*value_suffix]);
                let (keys, values) = auxiliary.scripts::<F>(&config.prefix, key_frame, value_frame);
                (key, value, columns) = (Key::Message(keys), values, Vec::new());
            }
        }
        Plan {
            topic: self.topic.into(),
            table: table.into(),
            format: config.format,
            emits: Emits {
                tombstones: config.tombstones,
                truncates: config.truncates,
                messages: config.messages,
                rows: config.rules.rows,
            },
            rules: Arc::clone(&config.rules),
            value,
            key,
            columns,
            headers: Arc::clone(&self.shared.headers),
            shaped,
            router: self.router,
        }
    }
}

/// Returns the bytes before and after each key or value: Confluent's header in Avro, nothing in
/// JSON, and in JSON with schemas the object that holds the schema and the payload.
fn frame(format: Format, schema: &str, id: u32) -> (Vec<u8>, Vec<u8>) {
    match format {
        Format::Avro => {
            let mut prefix = vec![0]; // Confluent's magic byte
            prefix.extend_from_slice(&id.to_be_bytes());
            (prefix, Vec::new())
        }
        Format::Json => (Vec::new(), Vec::new()),
        Format::JsonSchema => {
            (format!("{{\"schema\":{schema},\"payload\":").into_bytes(), b"}".to_vec())
        }
    }
}

/// How changes become records. A plan is for the rows of one version of a table, for logical
/// messages, or for one kind of auxiliary record.
#[derive(Debug)]
pub struct Plan {
    topic: Box<str>,
    pub(super) table: Box<str>,
    pub(super) format: Format,
    pub(super) emits: Emits,
    rules: Arc<Rules>,
    pub(super) value: Vec<Step>,
    pub(super) key: Key,
    pub(super) columns: Vec<ColumnPlan>,
    pub(super) headers: Arc<FixedHeaders>,
    /// The scripts by which transformed records are written, in place of `value`. `None` without
    /// transforms.
    pub(super) shaped: Option<Arc<Shaped>>,
    router: Option<Arc<Router>>,
}

/// The kinds of records that are written, as the configuration switches them on or off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emits {
    pub tombstones: bool,
    pub truncates: bool,
    pub messages: bool,
    pub rows: RowRules,
}

impl Plan {
    /// Whether a logical message with this prefix is published.
    #[must_use]
    pub fn takes_message(&self, prefix: &str) -> bool {
        self.emits.messages
            && takes_message(&self.rules.message_include, &self.rules.message_exclude, prefix)
    }

    /// Returns the name of the topic of all records of this plan.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the router that finds the plan of a row by its route. `None` if all rows have this
    /// plan.
    #[must_use]
    pub fn router(&self) -> Option<&Arc<Router>> {
        self.router.as_ref()
    }

    /// Returns the columns of a row's key before any transform, in the order of the key, as indexes
    /// into the table's columns. There are none if rows have no key.
    pub fn key_places(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = match &self.key {
            Key::Columns { columns, .. } => columns.as_slice(),
            Key::None | Key::Message(_) => &[],
        };
        columns.iter().map(|column| column.index)
    }

    /// Returns the name of the column with this index. A [`super::Note`] holds such an index.
    #[must_use]
    pub fn column(&self, index: usize) -> Option<&str> {
        self.columns.get(index).map(|column| &*column.name)
    }
}

impl Config {
    /// Returns the name of the topic of a table's records before any transform.
    #[must_use]
    pub fn topic(&self, table: &TableName) -> String {
        let own = naming::topic(&self.own_topic(table));
        self.rules.reroute.as_ref().map_or_else(|| own.clone(), |reroute| reroute.topic.apply(&own))
    }

    /// Returns the topic that a table has by its own name: prefix, namespace and name. Characters
    /// that Kafka does not allow are not replaced yet.
    fn own_topic(&self, table: &TableName) -> String {
        [&*self.prefix, &*table.namespace, &*table.name].join(&self.rules.delimiter)
    }

    /// Returns the field that names a table in its keys, and the content of the field. `None` if no
    /// rule lets tables share a topic, if the rule names no such field, or if the table has no key.
    /// With this field as its only field, the key would be the same for all rows of a table without
    /// key.
    fn key_field(&self, table: &Table) -> Option<(String, String)> {
        let reroute = self.rules.reroute.as_ref().filter(|_| !table.key.is_empty())?;
        let own = self.own_topic(&table.name);
        let value =
            reroute.key_value.as_ref().map_or_else(|| own.clone(), |replace| replace.apply(&own));
        Some((reroute.key_field.clone()?, value))
    }
}

fn check_names(config: &Config, shape: &Filtered, topic: &str) -> Result<(), PlanError> {
    let name = &shape.table.name;
    let own = || config.prefix.split('.').chain([&*name.namespace, &*name.name]);
    let parts: Vec<&str> =
        if config.rules.reroute.is_some() { topic.split('.').collect() } else { own().collect() };
    for part in parts {
        if !naming::is_avro(&config.rules.schema_names.field_name(part)) {
            return Err(PlanError::Namespace { table: name.to_string(), part: part.to_owned() });
        }
    }
    let keyed = |index: &usize| shape.table.key.contains(index);
    let columns = (0..).zip(shape.table.columns.iter().zip(&shape.fields));
    let mut published = columns.filter(|(index, (_, rule))| rule.in_row || keyed(index));
    match published.find(|(_, (column, _))| !naming::is_avro(&column.name)) {
        Some((_, (_, rule))) => {
            Err(PlanError::ColumnName { table: name.to_string(), column: rule.name.to_string() })
        }
        None => Ok(()),
    }
}
