//! A record before any row is known: its schemas, and for each field where the value comes from.
//!
//! A shape belongs to one kind of record of one version of a table. A transform makes another shape
//! of it. The encoder compiles the shape after the last transform into the plan, so that no row
//! passes through here.

use super::convert::{Conversion, Origin};
use super::filter::Guard;
use super::hash::{Class, Hash};
use super::outline::Source;
use super::views::View;
use std::borrow::Cow;

/// A schema of Kafka Connect, from which Avro's text and the JSON schema are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schema {
    /// The basic type of the values.
    pub base: Base,
    /// Whether a value can be null.
    pub optional: bool,
    /// The name of a semantic type or of a struct.
    pub name: Option<Cow<'static, str>>,
    /// The version of `name`, which Connect counts from 1.
    pub version: Option<u32>,
    /// A remark that is part of the schema's text.
    pub doc: Option<&'static str>,
    /// Parameters in the order in which they are written. Another order gives another schema text.
    pub parameters: Vec<(&'static str, String)>,
    /// The value a reader may put in place of a missing field.
    pub default: Option<Literal>,
}

pub(crate) const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
pub(crate) const CONNECT_DATE: &str = "org.apache.kafka.connect.data.Date";
pub(crate) const CONNECT_TIME: &str = "org.apache.kafka.connect.data.Time";
pub(crate) const CONNECT_TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

/// Connect's own temporal types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temporal {
    Date,
    Time,
    Timestamp,
}

impl Temporal {
    /// The temporal type whose schema has this name; `None` if there is none.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            CONNECT_DATE => Some(Temporal::Date),
            CONNECT_TIME => Some(Temporal::Time),
            CONNECT_TIMESTAMP => Some(Temporal::Timestamp),
            _ => None,
        }
    }
}

/// The basic type of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Base {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Bytes,
    Array(Box<Schema>),
    /// A map. Its keys are required texts or numbers.
    Map(Box<Schema>, Box<Schema>),
    Struct(Vec<Field>),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: Cow<'static, str>,
    pub schema: Schema,
}

/// A fixed value, such as a default, before it is encoded in a format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Boolean(bool),
    Int(i64),
    Float4(f32),
    Float8(f64),
    Text(String),
    Bytes(Vec<u8>),
    Decimal { unscaled: Vec<u8>, scale: u32 },
    Variable { unscaled: Vec<u8>, scale: u32 },
    Point(f64, f64),
    Geometry { wkb: Vec<u8> },
    Map(Vec<(String, String)>),
    List { elements: Vec<Literal>, element: Union },
}

/// The place of null in the union that is a field's type in Avro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Union {
    /// There is no union, because the field is required.
    Required,
    /// Null is first, because the field is optional and has no default.
    NullFirst,
    /// Null is last, because the field is optional and has a default.
    NullLast,
}

impl Union {
    pub(crate) fn of(optional: bool, has_default: bool) -> Self {
        match (optional, has_default) {
            (false, _) => Union::Required,
            (true, false) => Union::NullFirst,
            (true, true) => Union::NullLast,
        }
    }
}

impl Schema {
    pub(crate) fn plain(base: Base) -> Self {
        let (parameters, default) = (Vec::new(), None);
        Schema { base, optional: false, name: None, version: None, doc: None, parameters, default }
    }

    pub(crate) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The place of null in the Avro type of a field with this schema.
    pub(crate) fn union(&self) -> Union {
        Union::of(self.optional, self.default.is_some())
    }

    /// A copy as Connect rebuilds schemas. It keeps name, version, remark and parameters, but it is
    /// required and has no default.
    pub(crate) fn basics(&self) -> Self {
        Schema { optional: false, default: None, ..self.clone() }
    }

    /// Whether values of this schema are decimals, which Connect does not treat as bytes.
    pub(crate) fn is_decimal(&self) -> bool {
        self.name.as_deref() == Some(DECIMAL)
    }

    /// The fields of a struct. Another schema has none.
    pub(crate) fn fields(&self) -> &[Field] {
        match &self.base {
            Base::Struct(fields) => fields,
            _ => &[],
        }
    }

    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.fields().iter().position(|field| field.name == name)
    }
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    /// The same value in each record.
    Literal(Literal),
    /// One node for each field of the schema.
    Struct(Vec<Node>),
    /// A column of the row, by its place in the table.
    Column {
        index: usize,
        side: Side,
        /// Whether the schema's default takes the place of null. In Connect this happens when a
        /// transform reads the field.
        defaults: bool,
    },
    /// A value within a JSON document, by the names of the fields that lead to it.
    Document {
        source: Source,
        path: Vec<String>,
    },
    /// The names of the fields whose values differ, or of those whose values are equal, as a list.
    Compared {
        /// True to list the fields whose values differ, false to list those whose values are equal.
        differ: bool,
        /// A field's name, and the two values that are compared.
        fields: Vec<(String, Box<[Part; 2]>)>,
    },
    /// A column to which these views are applied, one after the other.
    Viewed(Box<Node>, Vec<View>),
    /// A value of the transaction, the server or the clock.
    Meta(Meta),
    /// The literal if the node is not null, and otherwise null.
    Masked(Box<Node>, Literal),
    /// A value that is converted to another type.
    Converted(Box<Converted>),
    /// The number of a partition.
    Hashed(Box<Hashed>),
}

/// The number of a partition, made of the hashes of values. It is null if all values are null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hashed {
    pub values: Vec<(Class, Part)>,
    pub hash: Hash,
    pub partitions: i32,
    /// Whether a missing value is a fault: planning then refuses a table whose old rows lack a
    /// column, and the stream halts at a row that lacks a value.
    pub is_strict: bool,
}

/// A value that is converted for each row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Converted {
    /// The value before the conversion. It is no literal, no struct, and not null in every record.
    pub part: Part,
    /// The type of this value, which decides the form of its text.
    pub origin: Origin,
    pub conversion: Conversion,
    /// Name of the field, for the message of a fault.
    pub field: String,
    /// Whether the default of the new schema takes the place of null.
    pub defaults: bool,
}

/// Which row of a change a column is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The row before the change.
    Old,
    /// The row after the change.
    New,
}

/// A value of the transaction, the server or the clock, which is no column of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    CommitMillis,
    CommitMicros,
    CommitNanos,
    NowMillis,
    NowMicros,
    NowNanos,
    Snapshot,
    Sequence,
    Transaction,
    Lsn,
    Xmin,
    Origin,
    OriginLsn,
    /// An event's place in its transaction, as a struct. The next three variants are its fields.
    Block,
    BlockId,
    BlockTotal,
    BlockTable,
}

/// A value with its schema.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub schema: Schema,
    pub node: Node,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub name: String,
    pub part: Part,
}

/// The kind of change that a record of a table reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Read,
    /// An update for which the server sent the old row, at least in part.
    Update,
    /// An update for which the server sent the new row alone.
    UpdateAlone,
    Delete,
    /// The tombstone that follows a delete.
    Tombstone,
    /// The delete that is sent first for an update that changes the key.
    MovedDelete,
    MovedTombstone,
    /// The create that is sent last for an update that changes the key.
    MovedCreate,
    Truncate,
}

impl Kind {
    pub(crate) const ALL: [Kind; 10] = [
        Kind::Create,
        Kind::Read,
        Kind::Update,
        Kind::UpdateAlone,
        Kind::Delete,
        Kind::Tombstone,
        Kind::MovedDelete,
        Kind::MovedTombstone,
        Kind::MovedCreate,
        Kind::Truncate,
    ];

    /// The letter of `op`; a tombstone has none.
    pub(crate) const fn operation(self) -> Option<&'static str> {
        match self {
            Kind::Create | Kind::MovedCreate => Some("c"),
            Kind::Read => Some("r"),
            Kind::Update | Kind::UpdateAlone => Some("u"),
            Kind::Delete | Kind::MovedDelete => Some("d"),
            Kind::Truncate => Some("t"),
            Kind::Tombstone | Kind::MovedTombstone => None,
        }
    }
}

/// The description of all records of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub topic: String,
    /// The key; `None` if records have no key.
    pub key: Option<Part>,
    /// The value; `None` for a tombstone.
    pub value: Option<Part>,
    pub headers: Vec<Header>,
    /// The timestamp of the record; `None` for the time of the sending. If its value is null, the
    /// time of the sending is used too.
    pub time: Option<Time>,
    /// The number of the partition; `None` if the key decides. If its value is null, the key
    /// decides.
    pub partition: Option<Part>,
    /// The conditions that a record must meet to be written.
    pub guards: Vec<Guard>,
}

/// The timestamp of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Time {
    pub part: Part,
    /// Number of units of the value in a millisecond.
    pub units: i64,
}

impl Shape {
    /// The shape that the transform with this number has made. Each condition that has no number
    /// yet was added by this transform, and gets its number.
    pub(crate) fn numbered(mut self, number: usize) -> Self {
        for guard in self.guards.iter_mut().filter(|guard| guard.number == 0) {
            guard.number = number;
        }
        self
    }

    /// Whether the value of the record is an envelope of Debezium's.
    pub(crate) fn is_wrapped(&self) -> bool {
        self.value.as_ref().is_some_and(Part::is_envelope)
    }
}

impl Part {
    pub(crate) fn literal(schema: Schema, literal: Literal) -> Self {
        Part { schema, node: Node::Literal(literal) }
    }

    /// A required text that never changes.
    pub(crate) fn text(value: &str) -> Self {
        Part::literal(Schema::plain(Base::Text), Literal::Text(value.to_owned()))
    }

    /// The field of this name, with its value. Each field of a null struct is null. `None` if there
    /// is no such field, or if the value is one whole, such as a column.
    pub(crate) fn field(&self, name: &str) -> Option<Part> {
        let place = self.schema.place(name)?;
        let schema = self.schema.fields().get(place)?.schema.clone();
        let node = match &self.node {
            Node::Struct(nodes) => {
                assert_eq!(nodes.len(), self.schema.fields().len(), "a node for each field");
                nodes.get(place)?.clone()
            }
            Node::Null => Node::Null,
            Node::Meta(Meta::Block) => Node::Meta(match name {
                "id" => Meta::BlockId,
                "total_order" => Meta::BlockTotal,
                _ => Meta::BlockTable,
            }),
            _ => return None,
        };
        Some(Part { schema, node })
    }

    /// Whether the value is null in every record.
    pub(crate) fn is_null(&self) -> bool {
        self.node == Node::Null
    }

    /// Whether the value is an envelope of Debezium's.
    pub(crate) fn is_envelope(&self) -> bool {
        self.schema.name.as_deref().is_some_and(|name| name.ends_with(".Envelope"))
    }

    /// The struct as Connect rebuilds it, with `fields` in place of its own fields. `defaults` says
    /// whether a null becomes the default of its field.
    pub(crate) fn rebuilt(&self, fields: Vec<(Cow<'static, str>, Part)>, defaults: bool) -> Part {
        let (mut named, mut nodes) = (Vec::new(), Vec::new());
        for (name, part) in fields {
            nodes.push(if defaults { part.node.with_defaults(&part.schema) } else { part.node });
            named.push(Field { name, schema: part.schema });
        }
        Part {
            schema: Schema { base: Base::Struct(named), ..self.schema.basics() },
            node: Node::Struct(nodes),
        }
    }

    /// The fields of a struct with their names. `None` if the value is null or is one whole, such
    /// as a column.
    pub(crate) fn parts(&self) -> Option<Vec<(Cow<'static, str>, Part)>> {
        let Node::Struct(nodes) = &self.node else { return None };
        let with_name = |(field, node): (&Field, &Node)| {
            (field.name.clone(), Part { schema: field.schema.clone(), node: node.clone() })
        };
        Some(self.schema.fields().iter().zip(nodes).map(with_name).collect())
    }
}

impl Node {
    /// Whether `is` is true for the node, or for a node from which its value is made.
    pub(crate) fn any(&self, is: &mut dyn FnMut(&Node) -> bool) -> bool {
        if is(self) {
            return true;
        }
        match self {
            Node::Struct(nodes) => nodes.iter().any(|node| node.any(is)),
            Node::Compared { fields, .. } => {
                fields.iter().any(|(_, parts)| parts.iter().any(|part| part.node.any(is)))
            }
            Node::Masked(node, _) | Node::Viewed(node, _) => node.any(is),
            Node::Hashed(hashed) => hashed.values.iter().any(|(_, part)| part.node.any(is)),
            Node::Converted(converted) => converted.part.node.any(is),
            Node::Null
            | Node::Literal(_)
            | Node::Column { .. }
            | Node::Document { .. }
            | Node::Meta(_) => false,
        }
    }

    /// Whether the value depends on the time of the sending, which is another one in a replay.
    pub(crate) fn reads_clock(&self) -> bool {
        self.any(&mut |node| {
            matches!(node, Node::Meta(Meta::NowMillis | Meta::NowMicros | Meta::NowNanos))
        })
    }

    /// Whether the value depends on the place of a record in its transaction. This place is known
    /// only when the record's topic is known.
    pub(crate) fn reads_block(&self) -> bool {
        self.any(&mut |node| {
            matches!(
                node,
                Node::Meta(Meta::Block | Meta::BlockId | Meta::BlockTotal | Meta::BlockTable)
            )
        })
    }

    /// Whether the value depends on the commit before the record's own commit. This earlier commit
    /// can be another one in a replay.
    pub(crate) fn reads_sequence(&self) -> bool {
        self.any(&mut |node| matches!(node, Node::Meta(Meta::Sequence)))
    }

    /// The node, with the default of its schema in place of null.
    pub(crate) fn with_defaults(self, schema: &Schema) -> Self {
        match (self, &schema.default) {
            (Node::Null, Some(default)) => Node::Literal(default.clone()),
            (Node::Column { index, side, .. }, Some(_)) => {
                Node::Column { index, side, defaults: true }
            }
            (Node::Converted(converted), Some(_)) => {
                Node::Converted(Box::new(Converted { defaults: true, ..*converted }))
            }
            (Node::Viewed(inner, views), Some(_)) => {
                Node::Viewed(Box::new(inner.with_defaults(schema)), views)
            }
            (node, _) => node,
        }
    }
}
