//! The shape of a table's records before any transform: their schemas, and where the value of each
//! field comes from.

use super::Config;
use super::envelope::CONNECTOR;
use super::filter::Filtered;
use super::schema::Schema;
use crate::transform::shape::{Header, Kind, Literal, Meta, Node, Part, Shape, Side};

/// The parts that the records of all kinds of a table have in common.
pub(super) struct Described<'a> {
    pub config: &'a Config,
    pub database: &'a str,
    pub table: &'a Filtered,
    pub topic: &'a str,
    /// Schema of the key. `None` for a table without key.
    pub key: Option<&'a Schema>,
    /// The content of the key's field that names the table. `None` if keys have no such field.
    pub key_field: Option<&'a str>,
    /// Schema of the envelope.
    pub envelope: &'a Schema,
    /// The context headers, which every record carries.
    pub context: &'a [(&'static str, Box<[u8]>)],
}

impl Described<'_> {
    /// Makes the shape of the records of one kind: the schemas, and the sources of all values.
    pub(super) fn shape(&self, kind: Kind) -> Shape {
        let side = match kind {
            Kind::Delete | Kind::Tombstone | Kind::MovedDelete | Kind::MovedTombstone => Side::Old,
            _ => Side::New,
        };
        let key = (kind != Kind::Truncate).then(|| self.key(side)).flatten();
        let value = kind.operation().map(|operation| self.value(kind, operation));
        let moved = match kind {
            Kind::MovedDelete | Kind::MovedTombstone => Some(("__debezium.newkey", Side::New)),
            Kind::MovedCreate => Some(("__debezium.oldkey", Side::Old)),
            _ => None,
        };
        let header = |name: &str, part| Header { name: name.to_owned(), part };
        let mut headers: Vec<Header> = moved
            .and_then(|(name, side)| Some(header(name, self.key(side)?)))
            .into_iter()
            .collect();
        let context = self.context.iter();
        headers.extend(
            context.map(|(name, text)| header(name, Part::text(&String::from_utf8_lossy(text)))),
        );
        let topic = self.topic.to_owned();
        let (time, partition, guards) = (None, None, Vec::new());
        Shape { topic, key, value, headers, time, partition, guards }
    }

    fn key(&self, side: Side) -> Option<Part> {
        let schema = self.key?;
        let columns = self.table.table.key.iter();
        let mut nodes: Vec<Node> =
            columns.map(|index| Node::Column { index: *index, side, defaults: false }).collect();
        nodes.extend(self.key_field.map(text));
        Some(Part { schema: schema.clone(), node: Node::Struct(nodes) })
    }

    fn value(&self, kind: Kind, operation: &str) -> Part {
        let (old, new) = match kind {
            Kind::Create | Kind::Read | Kind::UpdateAlone | Kind::MovedCreate => (false, true),
            Kind::Update => (true, true),
            Kind::Delete | Kind::MovedDelete => (true, false),
            _ => (false, false),
        };
        let row = |is_there: bool, side| if is_there { self.row(side) } else { Node::Null };
        let block =
            if self.config.rules.transactions { Node::Meta(Meta::Block) } else { Node::Null };
        let node = Node::Struct(vec![
            row(old, Side::Old),
            row(new, Side::New),
            source(
                self.config,
                self.database,
                &self.table.table.name.namespace,
                &self.table.table.name.name,
            ),
            block,
            text(operation),
            Node::Meta(Meta::NowMillis),
            Node::Meta(Meta::NowMicros),
            Node::Meta(Meta::NowNanos),
        ]);
        Part { schema: self.envelope.clone(), node }
    }

    fn row(&self, side: Side) -> Node {
        let fields = (0..).zip(&self.table.fields).filter(|(_, rule)| rule.in_row);
        Node::Struct(
            fields.map(|(index, _)| Node::Column { index, side, defaults: false }).collect(),
        )
    }
}

/// Returns the sources of the values in the envelope's field `source`, in the order of the schema's
/// fields.
pub(super) fn source(config: &Config, database: &str, namespace: &str, table: &str) -> Node {
    let xmin = if config.rules.xmin { Node::Meta(Meta::Xmin) } else { Node::Null };
    Node::Struct(vec![
        text(env!("CARGO_PKG_VERSION")),
        text(CONNECTOR),
        text(&config.prefix),
        Node::Meta(Meta::CommitMillis),
        Node::Meta(Meta::Snapshot),
        text(database),
        Node::Meta(Meta::Sequence),
        Node::Meta(Meta::CommitMicros),
        Node::Meta(Meta::CommitNanos),
        text(namespace),
        text(table),
        Node::Meta(Meta::Transaction),
        Node::Meta(Meta::Lsn),
        xmin,
        Node::Meta(Meta::Origin),
        Node::Meta(Meta::OriginLsn),
    ])
}

fn text(value: &str) -> Node {
    Node::Literal(Literal::Text(value.to_owned()))
}
