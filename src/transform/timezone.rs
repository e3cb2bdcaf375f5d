//! `timezone`: moments in another time zone, as with Debezium's `TimezoneConverter`.
//!
//! A field is moved if its type is a timestamp, or a time with a time zone. Rules limit the tables,
//! topics and fields.

use super::TransformFault;
use super::convert::{Conversion, Origin};
use super::shape::{Base, CONNECT_TIMESTAMP, Converted, Field, Literal, Node, Part, Schema, Shape};
use super::zoned::{Form, Zone, Zoned};
use std::collections::BTreeSet;

/// The settings of `timezone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timezone {
    /// The zone that moments are moved to.
    pub zone: Zone,
    /// Which fields are moved.
    pub which: Which,
}

/// Which fields are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every field of each row whose type can be moved.
    All,
    /// The fields that a rule names. A rule without a field names all fields of the record's rows.
    Included(Vec<Rule>),
    /// The fields that no rule names. A rule without a field names the whole record.
    Excluded(Vec<Rule>),
}

/// A rule: `source:table`, `topic:topic` or a name that is either. The name of a field may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether the name is of a topic or of a table.
    pub scope: Scope,
    /// The topic, or the table without its namespace.
    pub name: String,
    /// The field, if the rule is for one field. A field of a row is written alone or after
    /// `before.` or `after.`. A field of the source is written after `source.`.
    pub field: Option<String>,
}

/// Whether the name in a rule is of a topic or of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The name is of a topic.
    Topic,
    /// The name is of a table.
    Table,
    /// The name may be that of a topic or of a table. The topic is compared first.
    Either,
}

impl Rule {
    /// Reads `source:table:field` and its shorter forms. `None` if the text is none of these forms.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (scope, rest) = match *parts.as_slice() {
            ["source", ref rest @ ..] => (Scope::Table, rest),
            ["topic", ref rest @ ..] => (Scope::Topic, rest),
            ref all => (Scope::Either, all),
        };
        let (name, field) = match *rest {
            [name] => (name, None),
            [name, field] => (name, Some(field)),
            _ => return None,
        };
        let is_whole = !name.is_empty() && field != Some("");
        let (name, field) = (name.to_owned(), field.map(str::to_owned));
        is_whole.then_some(Rule { scope, name, field })
    }
}

/// The fields of a record that are moved.
enum Chosen<'a> {
    All,
    /// The fields with these names.
    These(BTreeSet<&'a str>),
    /// All fields except those with these names.
    Others(BTreeSet<&'a str>),
}

impl Timezone {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        let Some(envelope) = shape.value.as_mut().filter(|value| value.is_envelope()) else {
            return Ok(shape);
        };
        let Some(chosen) = self.chosen(&shape.topic, table_of(envelope).as_deref()) else {
            return Ok(shape);
        };
        let (Base::Struct(fields), Node::Struct(nodes)) =
            (&envelope.schema.base, &mut envelope.node)
        else {
            return Ok(shape);
        };
        for (field, node) in fields.iter().zip(nodes) {
            let home = &*field.name;
            if !matches!(home, "before" | "after" | "source") {
                continue;
            }
            let Some(chosen) = chosen.within(home) else { continue };
            let Node::Struct(nodes) = node else { continue };
            for (field, node) in field.schema.fields().iter().zip(nodes) {
                if chosen.has(&field.name)
                    && let Some(form) = form_of(home, field)
                {
                    let made = self.moved(field, form, std::mem::replace(node, Node::Null));
                    *node = made?;
                }
            }
        }
        Ok(shape)
    }

    /// Says which fields of the records of this topic and table are moved. `None` if no field is.
    fn chosen(&self, topic: &str, table: Option<&str>) -> Option<Chosen<'_>> {
        let (rules, is_included) = match &self.which {
            Which::All => return Some(Chosen::All),
            Which::Included(rules) => (rules, true),
            Which::Excluded(rules) => (rules, false),
        };
        // Rules are looked at in this order. The first kind of rules that names the record decides
        // alone.
        let kinds = [
            (Scope::Topic, Some(topic)),
            (Scope::Table, table),
            (Scope::Either, Some(topic)),
            (Scope::Either, table),
        ];
        let found = kinds.into_iter().find_map(|(scope, name)| {
            let name = name?;
            let of = |rule: &&Rule| rule.scope == scope && rule.name == name;
            let fields: BTreeSet<&str> =
                rules.iter().filter(of).filter_map(|rule| rule.field.as_deref()).collect();
            rules.iter().any(|rule| of(&rule)).then_some(fields)
        });
        match (found, is_included) {
            (None, true) => None,
            (None, false) => Some(Chosen::All),
            (Some(fields), true) if fields.is_empty() => Some(Chosen::All),
            (Some(fields), false) if fields.is_empty() => None,
            (Some(fields), true) => Some(Chosen::These(fields)),
            (Some(fields), false) => Some(Chosen::Others(fields)),
        }
    }

    /// The value of a field, moved into the zone. As in Debezium, a null is read as the default of
    /// its column.
    fn moved(&self, field: &Field, form: Form, node: Node) -> Result<Node, TransformFault> {
        let Field { name, schema } = field;
        let conversion = Conversion::Zone(Box::new(Zoned { zone: self.zone.clone(), form }));
        let fault = || TransformFault::no_conversion(name, schema, conversion.asked(schema));
        let origin = Origin::of(schema).ok_or_else(fault)?;
        let literal = |value: &Literal| {
            let converted = conversion.literal(schema, value).ok_or_else(fault)?;
            converted
                .map_err(|fault| TransformFault::Unconverted { field: name.to_string(), fault })
        };
        Ok(match node.with_defaults(schema) {
            Node::Null => Node::Null,
            Node::Literal(value) => Node::Literal(literal(&value)?),
            Node::Masked(inner, value) => Node::Masked(inner, literal(&value)?),
            node => {
                let part = Part { schema: schema.clone(), node };
                let (conversion, field) = (conversion.clone(), name.to_string());
                let defaults = false;
                Node::Converted(Box::new(Converted { part, origin, conversion, field, defaults }))
            }
        })
    }
}

impl<'a> Chosen<'a> {
    /// The chosen fields of the struct `home` of the envelope. `None` if this struct stays as it
    /// is.
    fn within(&self, home: &str) -> Option<Chosen<'a>> {
        let names = |all: &BTreeSet<&'a str>| {
            let own = |name: &&'a str| {
                let found = name.strip_prefix(home).and_then(|rest| rest.strip_prefix('.'));
                let is_of_row = home != "source" && !is_of_struct(name);
                found.or(is_of_row.then_some(*name))
            };
            all.iter().filter_map(own).collect::<BTreeSet<&'a str>>()
        };
        match self {
            Chosen::All => (home != "source").then_some(Chosen::All),
            Chosen::These(all) => Some(Chosen::These(names(all))),
            Chosen::Others(all) => {
                let names = names(all);
                // A field of the source is moved only if a rule names a field of the source.
                (home != "source" || !names.is_empty()).then_some(Chosen::Others(names))
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Chosen::All => true,
            Chosen::These(names) => names.contains(name),
            Chosen::Others(names) => !names.contains(name),
        }
    }
}

fn is_of_struct(name: &str) -> bool {
    ["source.", "before.", "after."].iter().any(|home| name.starts_with(home))
}

/// The name of the table in `source` of an envelope; `None` if `source` has no fixed name.
fn table_of(envelope: &Part) -> Option<String> {
    match envelope.field("source")?.field("table")?.node {
        Node::Literal(Literal::Text(table)) => Some(table),
        _ => None,
    }
}

/// How the value of a field is written, by the type of the field. `None` if the field is never
/// moved.
fn form_of(home: &str, Field { name, schema }: &Field) -> Option<Form> {
    let Schema { name: Some(kind), .. } = schema else {
        return match (home, &**name) {
            ("source", "ts_ms") => Some(Form::Instant(1_000)),
            ("source", "ts_us") => Some(Form::Instant(1_000_000)),
            ("source", "ts_ns") => Some(Form::Instant(1_000_000_000)),
            _ => None,
        };
    };
    match &**kind {
        "io.debezium.time.Timestamp" => Some(Form::Number(1_000)),
        "io.debezium.time.MicroTimestamp" => Some(Form::Number(1_000_000)),
        "io.debezium.time.NanoTimestamp" => Some(Form::Number(1_000_000_000)),
        "io.debezium.time.ZonedTimestamp" => Some(Form::Text),
        "io.debezium.time.ZonedTime" => Some(Form::Time),
        CONNECT_TIMESTAMP => Some(Form::Connect),
        _ => None,
    }
}
