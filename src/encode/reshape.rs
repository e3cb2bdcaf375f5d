//! Makes the drafts of plans for tables whose records are transformed.

use super::dropping::Dropping;
use super::filter::Filtered;
use super::form::Json;
use super::naming;
use super::plan::{Draft, Ids, PlanError, Planner, TOPIC_LENGTH_MAX, What};
use super::probe::{Asks, Probe};
use super::router::Router;
use super::schema::{Base, Schema};
use super::shaped::{Compiler, Frame};
use super::shapes::Described;
use super::{Config, Format};
use crate::table::{Table, TableName};
use crate::transform::content::Probed;
use crate::transform::filter::Guard;
use crate::transform::shape::{Kind, Node, Part, Shape};
use crate::transform::{By, Routing, TransformError};
use std::sync::Arc;

/// The topic, schemas and table of records before any transform.
pub(super) struct Original {
    pub topic: String,
    pub key: Option<Schema>,
    pub key_field: Option<String>,
    pub envelope: Schema,
    pub table: Filtered,
    /// The table as the catalog describes it, without the rules.
    pub described: Table,
}

impl Planner {
    /// Makes the draft of the plan: the topic and the schemas of the table's records, as its
    /// transforms make them. With `route`, the plan is only for the rows that have this route.
    pub(super) fn reshaped(
        &self,
        original: Original,
        route: Option<&str>,
    ) -> Result<Draft, PlanError> {
        let config = self.config();
        let described = Described {
            config,
            database: self.database(),
            table: &original.table,
            topic: &original.topic,
            key: original.key.as_ref(),
            key_field: original.key_field.as_deref(),
            envelope: &original.envelope,
            context: self.context(),
        };
        let name = &original.table.table.name;
        let fault = fault_of(name);
        let router = match route {
            None => self.router(&original, &described)?,
            Some(_) => None,
        };
        // If some rows keep the topic of the table, this draft is the plan of those rows, and their
        // route is empty.
        let route = route.or(router.as_ref().filter(|it| it.has_own()).map(|_| ""));
        let mut shapes = Vec::new();
        for kind in Kind::ALL {
            let shape = match is_written(config, kind, original.key.is_some()) {
                true => config.transforms.apply(name, kind, described.shape(kind), route),
                false => Ok(None),
            };
            shapes.push(shape.map_err(&fault)?);
        }
        let of_deletes = self.guards_of_deletes(&original, &described)?;
        go_with_deletes(&mut shapes, &of_deletes, |shape| &mut shape.guards);
        for (delete, tombstone) in TOMBSTONES {
            let partition = shapes.get(delete as usize).and_then(partition_of).cloned();
            if let Some(Some(tombstone)) = shapes.get_mut(tombstone as usize) {
                tombstone.partition = tombstone.partition.take().or(partition);
            }
        }
        let divided = |of| PlanError::Divided { table: name.to_string(), of };
        let there = || shapes.iter().flatten();
        let topic = one(there().map(|shape| &shape.topic)).map_err(|()| divided("topics"))?;
        let topic = topic.map_or_else(|| original.topic.clone(), String::clone);
        let schema = |part: fn(&Shape) -> &Option<Part>| {
            one(there().filter_map(|shape| part(shape).as_ref()).map(|part| &part.schema))
        };
        let key = schema(|shape| &shape.key).map_err(|()| divided("key schemas"))?.cloned();
        let value = schema(|shape| &shape.value).map_err(|()| divided("value schemas"))?.cloned();
        self.checked(&name.to_string(), &topic, key.iter().chain(&value))?;
        // The scripts are compiled to find errors. JSON serves for every format, because an error
        // shows in each of them.
        let frame = Frame::default();
        Compiler { config, table: Some(&original.table) }
            .shaped::<Json>(&shapes, &frame, &frame)?;
        let what = What::Rows(Box::new(original.table), Some(shapes));
        let mut draft = self.drafted(topic, key, value, what);
        draft.router = router.map(Arc::new);
        Ok(draft)
    }

    /// Compiles the expressions that are evaluated for a row before its topic is known. `None` if
    /// there are none.
    fn probe(
        &self,
        routing: &Routing<'_>,
        original: &Original,
        described: &Described<'_>,
    ) -> Result<Option<Box<Probe>>, PlanError> {
        if routing.by.is_none() {
            return Ok(None);
        }
        let config = self.config();
        let name = &original.table.table.name;
        let compiler = Compiler { config, table: Some(&original.table) };
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let probed = match is_written(config, kind, original.key.is_some()) {
                true => config.transforms.probed(name, kind, described.shape(kind)),
                false => Ok(None),
            };
            // A truncate has no row that could name its topic, so it is not sent.
            all.push(probed.map_err(fault_of(name))?.filter(|_| kind != Kind::Truncate));
        }
        let of_deletes = self.guards_of_deletes(original, described)?;
        go_with_deletes(&mut all, &of_deletes, |probed| &mut probed.conditions);
        let mut kinds = Vec::new();
        for probed in all {
            kinds.push(match probed {
                None => None,
                Some(Probed { conditions, topics }) => Some(Asks {
                    conditions: compiler.all_asked(&conditions)?,
                    topics: compiler.all_asked(&topics)?,
                }),
            });
        }
        let asks = |of: &Asks| !of.conditions.is_empty() || !of.topics.is_empty();
        if !kinds.iter().flatten().any(asks) && !matches!(routing.by, Some(By::Content(_))) {
            return Ok(None);
        }
        let (topic, key) = (original.topic.clone(), original.key.clone());
        let what = What::Rows(Box::new(original.table.clone()), None);
        let plan = self.drafted(topic, key, original.envelope.clone(), what);
        let plan = plan.into_plan(Ids { key: None, value: 0 });
        Ok(Some(Box::new(Probe { plan, kinds })))
    }

    /// Finds the conditions of the deletes that a tombstone follows, in the order of
    /// [`TOMBSTONES`]. The list is empty if no expression names topics. `None` stands for deletes
    /// that are dropped.
    fn guards_of_deletes(
        &self,
        original: &Original,
        described: &Described<'_>,
    ) -> Result<Vec<Option<Vec<Guard>>>, PlanError> {
        let transforms = &self.config().transforms;
        let name = &original.table.table.name;
        let routing = transforms.routing(name, &original.topic);
        if !routing.is_some_and(|routing| matches!(routing.by, Some(By::Content(_)))) {
            return Ok(Vec::new());
        }
        let guards = |(delete, _)| {
            let probed = transforms.probed(name, delete, described.shape(delete));
            Ok(probed.map_err(fault_of(name))?.map(|probed| probed.conditions))
        };
        TOMBSTONES.into_iter().map(guards).collect()
    }

    /// Makes the router that finds the plans of rows. `None` if all rows have the plan of the
    /// table.
    fn router(
        &self,
        original: &Original,
        described: &Described<'_>,
    ) -> Result<Option<Router>, PlanError> {
        let transforms = &self.config().transforms;
        let name = &original.table.table.name;
        transforms.one_names_topics(name).map_err(fault_of(name))?;
        let Some(routing) = transforms.routing(name, &original.topic) else { return Ok(None) };
        if let Some(By::Dropped(_)) = routing.by {
            let decisive = transforms.decisive(name, described.shape(Kind::Update));
            if let Some(decisive) = decisive.map_err(fault_of(name))? {
                let dropping = Dropping::new(&original.table, decisive);
                return Ok(Some(Router::of_dropped(&routing, dropping, original)));
            }
        }
        let places = transforms.route_places(name, described.shape(Kind::Create));
        let places = places.map_err(fault_of(name))?;
        // If an earlier transform drops every row, no row names a topic. Then only the commit's
        // time can decide the plan.
        let is_by_content = matches!(routing.by, Some(By::Content(_)));
        let is_there = places.is_some() || is_by_content;
        let routing = Routing { by: routing.by.filter(|_| is_there), ..routing };
        if routing.by.is_none() && routing.times.is_empty() {
            return Ok(None);
        }
        let probe = self.probe(&routing, original, described)?;
        Router::new(&routing, places, original, probe).map(Some)
    }

    /// Checks that the transforms have made names that Kafka and Avro allow.
    pub(super) fn checked<'a>(
        &self,
        table: &str,
        topic: &str,
        mut schemas: impl Iterator<Item = &'a Schema>,
    ) -> Result<(), PlanError> {
        let table = table.to_owned();
        if naming::topic(topic) != topic || topic.is_empty() || topic.len() > TOPIC_LENGTH_MAX {
            return Err(PlanError::ShapedTopic { table, topic: topic.to_owned() });
        }
        let foreign = schemas.find_map(foreign_name);
        match foreign.filter(|_| self.config().format == Format::Avro) {
            Some(found) => Err(PlanError::NotAvro { table, name: found.to_owned() }),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Whether the rows of a table are events of an outbox.
    #[must_use]
    pub fn is_outbox(&self, table: &TableName) -> bool {
        let routing = self.transforms.routing(table, &self.topic(table));
        routing.is_some_and(|routing| matches!(routing.by, Some(By::Outbox(_))))
    }

    /// Whether rows of a table can have different topics, by their values or by the time of the
    /// commit.
    #[must_use]
    pub fn is_routed(&self, table: &TableName) -> bool {
        let routing = self.transforms.routing(table, &self.topic(table));
        routing.is_some_and(|routing| routing.names_topics())
    }

    /// Returns the name of the topic of heartbeats, even if heartbeats are switched off.
    #[must_use]
    pub fn heartbeat_topic(&self) -> String {
        let named = self.rules.heartbeat_topic.clone();
        named.unwrap_or_else(|| ["__debezium-heartbeat", &*self.prefix].join(&self.rules.delimiter))
    }

    /// Returns the topic of a table's records after all transforms. If a value of the row decides
    /// the topic, the word `any` is in place of the value.
    #[must_use]
    pub fn final_topic(&self, table: &TableName) -> String {
        self.transforms.topic(table, &self.topic(table))
    }
}

impl Draft {
    /// Returns the number of partitions that transforms spread the records over. `None` if no
    /// transform computes the partition from hashes.
    #[must_use]
    pub fn partitions(&self) -> Option<i32> {
        let (What::Rows(_, Some(shapes)) | What::Messages(Some(shapes))) = &self.what else {
            return None;
        };
        let spread_over = |shape| match partition_of(shape)?.node {
            Node::Hashed(ref hashed) => Some(hashed.partitions),
            _ => None,
        };
        shapes.iter().filter_map(spread_over).max()
    }
}

fn fault_of(table: &TableName) -> impl Fn(TransformError) -> PlanError + use<> {
    let table = table.to_string();
    move |transform| PlanError::Transform { table: table.clone(), transform }
}

/// Kinds of deletes, each with the tombstone that follows it.
const TOMBSTONES: [(Kind, Kind); 2] =
    [(Kind::Delete, Kind::Tombstone), (Kind::MovedDelete, Kind::MovedTombstone)];

/// Gives each tombstone the conditions of its delete, and drops a tombstone whose delete is
/// dropped. A tombstone has no row that could name its topic. Without these conditions, a tombstone
/// would be in a topic that has nothing for it to delete.
fn go_with_deletes<T>(
    kinds: &mut [Option<T>],
    deletes: &[Option<Vec<Guard>>],
    guards_of: fn(&mut T) -> &mut Vec<Guard>,
) {
    for ((_, tombstone), guards) in TOMBSTONES.into_iter().zip(deletes) {
        let Some(place) = kinds.get_mut(tombstone as usize) else { continue };
        match (place.as_mut(), guards) {
            (Some(known), Some(guards)) => guards_of(known).extend(guards.iter().cloned()),
            _ => *place = None,
        }
    }
}

fn partition_of(shape: &Option<Shape>) -> Option<&Part> {
    shape.as_ref()?.partition.as_ref()
}

/// Whether the configuration lets records of a kind be written at all.
fn is_written(config: &Config, kind: Kind, is_keyed: bool) -> bool {
    let rows = config.rules.rows;
    match kind {
        Kind::Create => rows.inserts,
        Kind::Read => true,
        Kind::Update | Kind::UpdateAlone => rows.updates,
        Kind::Delete => rows.deletes,
        Kind::Tombstone => rows.deletes && config.tombstones,
        Kind::MovedDelete | Kind::MovedCreate => rows.updates && is_keyed,
        Kind::MovedTombstone => rows.updates && is_keyed && config.tombstones,
        Kind::Truncate => config.truncates,
    }
}

/// Returns the value that all have in common. `None` if there are no values. An error if they
/// differ.
fn one<'a, T: PartialEq>(mut all: impl Iterator<Item = &'a T>) -> Result<Option<&'a T>, ()> {
    let Some(first) = all.next() else { return Ok(None) };
    if all.all(|other| other == first) { Ok(Some(first)) } else { Err(()) }
}

/// Returns the first name in a schema that Avro does not allow. `None` if Avro allows all names.
fn foreign_name(schema: &Schema) -> Option<&str> {
    match &schema.base {
        Base::Struct(fields) => {
            let name = schema.name.as_deref().filter(|name| !name.split('.').all(naming::is_avro));
            name.or_else(|| {
                fields.iter().find_map(|field| match naming::is_avro(&field.name) {
                    true => foreign_name(&field.schema),
                    false => Some(&*field.name),
                })
            })
        }
        Base::Array(inner) => foreign_name(inner),
        Base::Map(key, value) => foreign_name(key).or_else(|| foreign_name(value)),
        _ => None,
    }
}
