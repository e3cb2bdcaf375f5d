//! Decodes one message at a time.

use super::reader::{DecodeError, Reader};
use super::{Message, OldTuple, Relation, RelationColumn, Truncate, Tuple};
use crate::lsn::{Lsn, Oid, PgMicros, Xid};

/// The least bytes of a Relation's column: flags, an empty name, type and typmod.
const COLUMN_BYTES_MIN: usize = 1 + 1 + 4 + 4;

/// Reads one whole message.
///
/// # Errors
/// The bytes are not exactly one message of protocol version 1: the message is cut off, its tag is
/// unknown, bytes are left over, or a name is not UTF-8. The caller ends the connection, because an
/// unreadable message is never skipped.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = read(&mut reader)?;
    reader.end()?;
    Ok(message)
}

fn read<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    Ok(match r.u8("message tag")? {
        b'B' => Message::Begin {
            final_lsn: Lsn::new(r.u64("final LSN")?),
            committed_at: PgMicros(r.i64("commit time")?),
            xid: Xid(r.u32("xid")?),
        },
        b'C' => {
            r.u8("commit flags")?; // none defined, sent as 0
            Message::Commit {
                commit_lsn: Lsn::new(r.u64("commit LSN")?),
                end_lsn: Lsn::new(r.u64("end LSN")?),
                committed_at: PgMicros(r.i64("commit time")?),
            }
        }
        b'O' => Message::Origin {
            commit_lsn: Lsn::new(r.u64("origin LSN")?),
            name: r.text("origin name")?,
        },
        b'R' => Message::Relation(read_relation(r)?),
        b'Y' => Message::Type {
            oid: Oid(r.u32("type oid")?),
            namespace: r.text("type namespace")?,
            name: r.text("type name")?,
        },
        b'I' => {
            let relation = Oid(r.u32("relation oid")?);
            match r.u8("tuple tag")? {
                b'N' => Message::Insert { relation, new: Tuple::read(r)? },
                other => return Err(r.bad_tag("tuple tag of an insert", other)),
            }
        }
        b'U' => read_update(r)?,
        b'D' => {
            let relation = Oid(r.u32("relation oid")?);
            let tag = r.u8("tuple tag")?;
            match read_old(r, tag)? {
                Some(old) => Message::Delete { relation, old },
                None => return Err(r.bad_tag("tuple tag of a delete", tag)),
            }
        }
        b'T' => read_truncate(r)?,
        b'M' => {
            let flags = r.u8("message flags")?;
            let lsn = Lsn::new(r.u64("message LSN")?);
            let prefix = r.text("message prefix")?;
            let length = r.u32("message length")?;
            let content =
                r.take(usize::try_from(length).unwrap_or(usize::MAX), "message content")?;
            Message::Logical { transactional: flags & 1 == 1, lsn, prefix, content }
        }
        other => return Err(r.bad_tag("message tag", other)),
    })
}

fn read_update<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = Oid(r.u32("relation oid")?);
    let tag = r.u8("tuple tag")?;
    let old = read_old(r, tag)?;
    let tag = if old.is_some() { r.u8("tuple tag")? } else { tag };
    match tag {
        b'N' => Ok(Message::Update { relation, old, new: Tuple::read(r)? }),
        other => Err(r.bad_tag("tuple tag of an update", other)),
    }
}

fn read_old<'a>(r: &mut Reader<'a>, tag: u8) -> Result<Option<OldTuple<'a>>, DecodeError> {
    Ok(match tag {
        b'K' => Some(OldTuple::Key(Tuple::read(r)?)),
        b'O' => Some(OldTuple::Full(Tuple::read(r)?)),
        _ => None,
    })
}

fn read_relation<'a>(r: &mut Reader<'a>) -> Result<Relation<'a>, DecodeError> {
    let oid = Oid(r.u32("relation oid")?);
    let namespace = r.text("relation namespace")?;
    let name = r.text("relation name")?;
    let identity = r.u8("replica identity")?;
    if !matches!(identity, b'd' | b'n' | b'f' | b'i') {
        return Err(r.bad_tag("replica identity", identity));
    }
    let columns = r.u16("column count")?;
    if r.remaining() < usize::from(columns) * COLUMN_BYTES_MIN {
        return Err(r.truncated("columns"));
    }
    let body = r.rest();
    for _ in 0..columns {
        read_relation_column(r)?;
    }
    let length = body.len() - r.remaining();
    let Some(body) = body.get(..length) else {
        unreachable!("the reader went past the end of its message")
    };
    Ok(Relation { oid, namespace, name, identity, columns, body })
}

fn read_relation_column<'a>(r: &mut Reader<'a>) -> Result<RelationColumn<'a>, DecodeError> {
    Ok(RelationColumn {
        in_identity: r.u8("column flags")? & 1 == 1,
        name: r.text("column name")?,
        type_oid: Oid(r.u32("column type")?),
        typmod: r.i32("column typmod")?,
    })
}

fn read_truncate<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = r.u32("relation count")?;
    let options = r.u8("truncate options")?;
    let length = usize::try_from(count).ok().and_then(|n| n.checked_mul(4)).unwrap_or(usize::MAX);
    let relations = r.take(length, "truncated relations")?;
    Ok(Message::Truncate(Truncate {
        cascade: options & 1 == 1,
        restart_identity: options & 2 == 2,
        relations,
    }))
}

impl<'a> Relation<'a> {
    /// The columns of the Relation, in the order in which the tuples that follow have their cells.
    pub fn columns(self) -> impl Iterator<Item = RelationColumn<'a>> {
        let mut reader = Reader::new(self.body);
        (0..self.columns).map(move |_| match read_relation_column(&mut reader) {
            Ok(column) => column,
            Err(error) => unreachable!("the columns were read with their message: {error}"),
        })
    }
}
