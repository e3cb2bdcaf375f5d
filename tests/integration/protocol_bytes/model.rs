//! The messages of pgoutput as owned values, and an encoder that writes them as Postgres does. It
//! knows the decoder only by the messages that it returns.

use wellspring::pgoutput::{Cell, Message, OldTuple, Tuple};

/// One column of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

/// The tag of the old row, `K` or `O`, and the row.
pub type Old = (u8, Vec<Value>);

/// A column of a relation: whether it is in the key, name, type, and type modifier.
pub type Column = (bool, String, u32, i32);

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Begin { lsn: u64, at: i64, xid: u32 },
    Commit { lsn: u64, end: u64, at: i64 },
    Origin { lsn: u64, name: String },
    Relation { oid: u32, namespace: String, name: String, identity: u8, columns: Vec<Column> },
    Type { oid: u32, namespace: String, name: String },
    Insert { relation: u32, new: Vec<Value> },
    Update { relation: u32, old: Option<Old>, new: Vec<Value> },
    Delete { relation: u32, old: Old },
    Truncate { cascade: bool, restart: bool, relations: Vec<u32> },
    Logical { transactional: bool, lsn: u64, prefix: String, content: Vec<u8> },
}

impl Said {
    /// The message as a server sends it.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Said::Begin { lsn, at, xid } => Bytes::tag(b'B').int(*lsn).int(*at).int(*xid),
            Said::Commit { lsn, end, at } => Bytes::tag(b'C').int(0u8).int(*lsn).int(*end).int(*at),
            Said::Origin { lsn, name } => Bytes::tag(b'O').int(*lsn).text(name),
            Said::Relation { oid, namespace, name, identity, columns } => columns.iter().fold(
                Bytes::tag(b'R')
                    .int(*oid)
                    .text(namespace)
                    .text(name)
                    .int(*identity)
                    .count(columns.len()),
                |bytes, (key, name, oid, typmod)| {
                    bytes.int(u8::from(*key)).text(name).int(*oid).int(*typmod)
                },
            ),
            Said::Type { oid, namespace, name } => {
                Bytes::tag(b'Y').int(*oid).text(namespace).text(name)
            }
            Said::Insert { relation, new } => Bytes::tag(b'I').int(*relation).row(b'N', new),
            Said::Update { relation, old: None, new } => {
                Bytes::tag(b'U').int(*relation).row(b'N', new)
            }
            Said::Update { relation, old: Some((tag, old)), new } => {
                Bytes::tag(b'U').int(*relation).row(*tag, old).row(b'N', new)
            }
            Said::Delete { relation, old: (tag, old) } => {
                Bytes::tag(b'D').int(*relation).row(*tag, old)
            }
            Said::Truncate { cascade, restart, relations } => relations.iter().fold(
                Bytes::tag(b'T')
                    .length(relations.len())
                    .int(u8::from(*cascade) | u8::from(*restart) << 1),
                |bytes, oid| bytes.int(*oid),
            ),
            Said::Logical { transactional, lsn, prefix, content } => Bytes::tag(b'M')
                .int(u8::from(*transactional))
                .int(*lsn)
                .text(prefix)
                .length(content.len())
                .raw(content),
        }
        .0
    }

    /// A message that the decoder has returned, as an owned value.
    pub fn of(message: &Message<'_>) -> Said {
        match *message {
            Message::Begin { final_lsn, committed_at, xid } => {
                Said::Begin { lsn: final_lsn.bytes(), at: committed_at.0, xid: xid.0 }
            }
            Message::Commit { commit_lsn, end_lsn, committed_at } => {
                Said::Commit { lsn: commit_lsn.bytes(), end: end_lsn.bytes(), at: committed_at.0 }
            }
            Message::Origin { commit_lsn, name } => {
                Said::Origin { lsn: commit_lsn.bytes(), name: name.into() }
            }
            Message::Relation(relation) => Said::Relation {
                oid: relation.oid.0,
                namespace: relation.namespace.into(),
                name: relation.name.into(),
                identity: relation.identity,
                columns: relation
                    .columns()
                    .map(|c| (c.in_identity, c.name.into(), c.type_oid.0, c.typmod))
                    .collect(),
            },
            Message::Type { oid, namespace, name } => {
                Said::Type { oid: oid.0, namespace: namespace.into(), name: name.into() }
            }
            Message::Insert { relation, new } => {
                Said::Insert { relation: relation.0, new: row(new) }
            }
            Message::Update { relation, old: before, new } => {
                Said::Update { relation: relation.0, old: before.map(old), new: row(new) }
            }
            Message::Delete { relation, old: before } => {
                Said::Delete { relation: relation.0, old: old(before) }
            }
            Message::Truncate(truncate) => Said::Truncate {
                cascade: truncate.cascade,
                restart: truncate.restart_identity,
                relations: truncate.relations().map(|oid| oid.0).collect(),
            },
            Message::Logical { transactional, lsn, prefix, content } => Said::Logical {
                transactional,
                lsn: lsn.bytes(),
                prefix: prefix.into(),
                content: content.into(),
            },
        }
    }
}

fn row(tuple: Tuple<'_>) -> Vec<Value> {
    let value = |cell| match cell {
        Cell::Null => Value::Null,
        Cell::Unchanged => Value::Unchanged,
        Cell::Text(text) => Value::Text(text.into()),
        Cell::Binary(bytes) => Value::Binary(bytes.into()),
    };
    tuple.cells().map(value).collect()
}

fn old(tuple: OldTuple<'_>) -> Old {
    (if tuple.is_key_only() { b'K' } else { b'O' }, row(tuple.tuple()))
}

/// An integer, which has a fixed width on the wire.
trait Int {
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! int {
    ($($int:ty)*) => { $(impl Int for $int {
        fn put(self, out: &mut Vec<u8>) {
            out.extend(self.to_be_bytes());
        }
    })* };
}
int!(u8 u16 u32 i32 u64 i64);

/// The bytes of a message while it is being built.
struct Bytes(Vec<u8>);

impl Bytes {
    fn tag(tag: u8) -> Bytes {
        Bytes(vec![tag])
    }

    fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend(bytes);
        self
    }

    fn int(mut self, int: impl Int) -> Bytes {
        int.put(&mut self.0);
        self
    }

    fn text(self, text: &str) -> Bytes {
        self.raw(text.as_bytes()).raw(&[0])
    }

    fn count(self, count: usize) -> Bytes {
        self.int(u16::try_from(count).unwrap())
    }

    fn length(self, length: usize) -> Bytes {
        self.int(u32::try_from(length).unwrap())
    }

    fn row(self, tag: u8, values: &[Value]) -> Bytes {
        values.iter().fold(self.int(tag).count(values.len()), |bytes, value| match value {
            Value::Null => bytes.int(b'n'),
            Value::Unchanged => bytes.int(b'u'),
            Value::Text(text) => bytes.int(b't').length(text.len()).raw(text),
            Value::Binary(binary) => bytes.int(b'b').length(binary.len()).raw(binary),
        })
    }
}
