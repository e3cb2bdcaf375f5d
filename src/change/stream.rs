//! Gives each message its place in the stream. Keeps the relations by oid, the open transaction and
//! its next ordinal.
//!
//! Laws, tested in the file `tests.rs` of this room:
//! - The ordinal counts every row, truncated table and transactional message of a transaction,
//!   captured or not, so that configuration never shifts a Position.
//! - `look` changes nothing. Only `take` moves the place of the next message.
//! - A row whose relation was never announced, or that comes outside of a transaction, is an error.
//!   It is never skipped.

use super::{Context, Marker, Position, Row};
use crate::lsn::{Lsn, Oid, PgMicros, Xid};
use crate::pgoutput::{Message, OldTuple, Relation};
use std::cell::Cell;
use std::collections::HashMap;

/// Index of a relation in the order in which this connection first announced relations. The row
/// path uses it in place of the relation's oid. It has nothing to do with a replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationSlot(pub usize);

/// An owned Relation message: what the wire says about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationShape {
    /// `pg_class.oid`. It is the oid of the root if the publication publishes by root.
    pub oid: Oid,
    /// Namespace of the table; `pg_catalog` if the server sends an empty text.
    pub namespace: String,
    pub(crate) name: String,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub identity: u8,
    /// The columns, in the order in which every tuple of the relation has its cells.
    pub columns: Vec<ShapeColumn>,
}

/// One column of a [`RelationShape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeColumn {
    pub(crate) name: String,
    /// Oid of the type. A domain has its own oid here, not that of its base type.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`; -1 if the type has no modifier.
    pub typmod: i32,
    /// True if the column is part of the replica identity.
    pub in_identity: bool,
}

impl From<Relation<'_>> for RelationShape {
    fn from(relation: Relation<'_>) -> Self {
        let namespace =
            if relation.namespace.is_empty() { "pg_catalog" } else { relation.namespace };
        RelationShape {
            oid: relation.oid,
            namespace: namespace.to_owned(),
            name: relation.name.to_owned(),
            identity: relation.identity,
            columns: relation
                .columns()
                .map(|column| ShapeColumn {
                    name: column.name.to_owned(),
                    type_oid: column.type_oid,
                    typmod: column.typmod,
                    in_identity: column.in_identity,
                })
                .collect(),
        }
    }
}

/// What the ledger and the checkpoint keep of a commit: its end, its transaction's id and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committed {
    /// The position after the commit record.
    pub end: Lsn,
    pub(crate) xid: Xid,
    /// Time of the commit by the server's clock.
    pub at: PgMicros,
}

/// What one message means at its place in the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// A transaction is open from here.
    Begin {
        /// Start of the transaction's commit record.
        final_lsn: Lsn,
        /// Time of the commit by the server's clock.
        committed_at: PgMicros,
        /// Id of the top-level transaction.
        xid: Xid,
    },
    /// The open transaction ends with this commit.
    Commit(Committed),
    /// A change of one row.
    Row(RelationSlot, Context<'a>, Row<'a>),
    /// Tables that one statement has truncated. The first table has the context's ordinal, and each
    /// further table has the next ordinal.
    Truncate(Vec<RelationSlot>, Context<'a>),
    /// A `pg_logical_emit_message` call, in a transaction or outside of any.
    Logical {
        /// Position of the logical message, with the facts of its transaction if it has one.
        context: Context<'a>,
        /// The prefix that the sender chose.
        prefix: &'a str,
        /// The content. It is arbitrary bytes, even if the sender passed a text.
        content: &'a [u8],
    },
    /// The shape of a relation from here on, with the Position of the next change if a transaction
    /// is open. Rows of the relation wait until the agent has looked up the relation in the
    /// catalog.
    Relation(RelationSlot, Relation<'a>, Option<Position>),
    /// The caller has nothing to do, as for the messages Type and Origin.
    Nothing,
}

/// The messages do not fit together. The connection is ended, and the stream is read again from the
/// confirmed position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum ChangeError {
    /// A message that belongs in a transaction came outside of one.
    #[error("{message} outside a transaction")]
    OutsideTransaction { message: &'static str },
    /// Begin came while a transaction was open.
    #[error("Begin of the transaction ending at {next} inside the one ending at {open}")]
    Nested {
        /// The final LSN of the open transaction.
        open: Lsn,
        /// The final LSN of the new transaction.
        next: Lsn,
    },
    /// The commit belongs to another transaction than the open one.
    #[error("Commit at {commit} for the transaction begun with {begun}")]
    OtherCommit { begun: Lsn, commit: Lsn },
    /// The server never announced the row's relation on this connection.
    #[error("row of relation {oid}, which no Relation message has described")]
    UnknownRelation { oid: Oid },
}

#[derive(Debug)]
struct Transaction {
    final_lsn: Lsn,
    xid: Xid,
    committed_at: PgMicros,
    next_ordinal: u64,
}

/// The state that gives the messages of one connection their places: announced relations, the open
/// transaction with its origin, the last commit.
#[derive(Debug, Default)]
pub struct Changes {
    slots: HashMap<Oid, RelationSlot>,
    /// The oid and the [`RelationSlot`] of the last call of `slot` that found its relation in
    /// `slots`. The next row often has the same relation and then needs no lookup in `slots`. No
    /// result depends on this field, so `look` may set it.
    latest: Cell<Option<(Oid, RelationSlot)>>,
    open: Option<Transaction>,
    origin_name: String,
    origin_lsn: Option<Lsn>,
    last_commit: Option<Lsn>,
    xmin: Option<Xid>,
}

impl Changes {
    /// The state of a new connection. `last_commit` comes from the checkpoint. Events carry it as
    /// `sequence[0]` until the first commit.
    #[must_use]
    pub fn resume(last_commit: Option<Lsn>) -> Self {
        Changes { last_commit, ..Changes::default() }
    }

    /// Whether a transaction is open, which is so between Begin and Commit.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// End of the last commit that was taken, or LSN of the last message outside of transactions.
    /// Before both, it is the argument of `resume`. The next change of a transaction carries it as
    /// `sequence[0]`.
    #[must_use]
    pub fn last_commit(&self) -> Option<Lsn> {
        self.last_commit
    }

    /// Notes the `catalog_xmin` of the replication slot. Each later event carries it as
    /// `source.xmin`.
    pub fn set_xmin(&mut self, xmin: Option<Xid>) {
        self.xmin = xmin;
    }

    /// The [`RelationSlot`] of a relation that was announced.
    ///
    /// # Errors
    /// `UnknownRelation` if the relation was not announced.
    fn slot(&self, oid: Oid) -> Result<RelationSlot, ChangeError> {
        if let Some((latest, slot)) = self.latest.get()
            && latest == oid
        {
            return Ok(slot);
        }
        let slot = *self.slots.get(&oid).ok_or(ChangeError::UnknownRelation { oid })?;
        self.latest.set(Some((oid, slot)));
        Ok(slot)
    }

    /// Says what a message means at this place of the stream, and changes nothing. The place moves
    /// on only when [`Changes::take`] takes the message. `lsn` and `sent_at` are those of the
    /// frame.
    ///
    /// # Errors
    /// The message cannot follow the messages before it.
    #[inline]
    pub fn look<'a>(
        &'a self,
        lsn: Lsn,
        sent_at: PgMicros,
        message: Message<'a>,
    ) -> Result<Step<'a>, ChangeError> {
        match message {
            Message::Begin { final_lsn, committed_at, xid } => {
                if let Some(open) = &self.open {
                    return Err(ChangeError::Nested { open: open.final_lsn, next: final_lsn });
                }
                Ok(Step::Begin { final_lsn, committed_at, xid })
            }
            Message::Commit { commit_lsn, end_lsn, .. } => {
                let open = self.inside("Commit")?;
                if open.final_lsn != commit_lsn {
                    let begun = open.final_lsn;
                    return Err(ChangeError::OtherCommit { begun, commit: commit_lsn });
                }
                let (end, xid, at) = (end_lsn, open.xid, open.committed_at);
                Ok(Step::Commit(Committed { end, xid, at }))
            }
            Message::Origin { .. } => self.inside("Origin").map(|_| Step::Nothing),
            Message::Relation(relation) => {
                let next = RelationSlot(self.slots.len());
                let slot = self.slots.get(&relation.oid).copied().unwrap_or(next);
                Ok(Step::Relation(slot, relation, self.open.as_ref().map(Transaction::next)))
            }
            Message::Type { .. } => Ok(Step::Nothing),
            Message::Insert { relation, new } => {
                self.row("Insert", lsn, relation, Row::Insert { new })
            }
            Message::Update { relation, old, new } => {
                self.row("Update", lsn, relation, Row::Update { old, new })
            }
            Message::Delete { relation, old } => {
                self.row("Delete", lsn, relation, Row::Delete { old })
            }
            Message::Truncate(truncate) => {
                let slots = truncate.relations().map(|oid| self.slot(oid));
                let slots = slots.collect::<Result<Vec<_>, _>>()?;
                Ok(Step::Truncate(slots, self.context(self.inside("Truncate")?, lsn)))
            }
            Message::Logical { transactional: true, lsn, prefix, content } => {
                let context = self.context(self.inside("transactional message")?, lsn);
                Ok(Step::Logical { context, prefix, content })
            }
            Message::Logical { transactional: false, lsn, prefix, content } => {
                // The LSN of the message is where the next record begins, which may be a commit
                // record. The last byte of the message belongs to the message alone.
                let last_byte = Lsn::new(lsn.bytes().saturating_sub(1));
                let context = Context {
                    position: Position { commit: last_byte, ordinal: 0 },
                    lsn,
                    last_commit: Some(lsn),
                    xid: None,
                    committed_at: sent_at,
                    origin: None,
                    xmin: self.xmin,
                    marker: Marker::Streamed,
                };
                Ok(Step::Logical { context, prefix, content })
            }
        }
    }

    /// Takes a message, so that the next message has the place after it. Call it once for each
    /// message that [`Changes::look`] has accepted.
    #[inline]
    pub fn take(&mut self, message: &Message<'_>) {
        match *message {
            Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } => {
                self.take_ordinals(1);
            }
            Message::Truncate(truncate) => self.take_ordinals(truncate.relations().count() as u64),
            Message::Logical { transactional: true, .. } => self.take_ordinals(1),
            // As with Debezium, a message outside of transactions counts as a commit at its own
            // LSN.
            Message::Logical { transactional: false, lsn, .. } => self.last_commit = Some(lsn),
            Message::Begin { final_lsn, committed_at, xid } => {
                assert!(self.open.is_none(), "a look refuses a transaction inside another one");
                self.open = Some(Transaction { final_lsn, xid, committed_at, next_ordinal: 0 });
                self.origin_lsn = None;
            }
            Message::Commit { end_lsn, .. } => {
                assert!(self.open.is_some(), "a look refuses the end of no transaction");
                self.open = None;
                self.last_commit = Some(end_lsn);
                self.origin_lsn = None;
            }
            Message::Origin { commit_lsn, name } => {
                name.clone_into(&mut self.origin_name);
                self.origin_lsn = Some(commit_lsn);
            }
            Message::Relation(relation) => {
                let next = RelationSlot(self.slots.len());
                self.slots.entry(relation.oid).or_insert(next);
            }
            Message::Type { .. } => {}
        }
    }

    #[inline]
    fn row<'a>(
        &'a self,
        message: &'static str,
        lsn: Lsn,
        oid: Oid,
        row: Row<'a>,
    ) -> Result<Step<'a>, ChangeError> {
        let open = self.inside(message)?;
        Ok(Step::Row(self.slot(oid)?, self.context(open, lsn), row))
    }

    fn inside(&self, message: &'static str) -> Result<&Transaction, ChangeError> {
        self.open.as_ref().ok_or(ChangeError::OutsideTransaction { message })
    }

    #[expect(clippy::expect_used, reason = "a look refuses a change outside of a transaction")]
    fn take_ordinals(&mut self, count: u64) {
        let open = self.open.as_mut().expect("a change is taken inside its transaction");
        open.next_ordinal += count;
    }

    /// The context of the next change of the open transaction.
    #[inline]
    fn context(&self, open: &Transaction, lsn: Lsn) -> Context<'_> {
        Context {
            position: open.next(),
            lsn,
            last_commit: self.last_commit,
            xid: Some(open.xid),
            committed_at: open.committed_at,
            origin: self.origin_lsn.map(|lsn| (self.origin_name.as_str(), lsn)),
            xmin: self.xmin,
            marker: Marker::Streamed,
        }
    }
}

impl Transaction {
    /// Position of the next change.
    fn next(&self) -> Position {
        Position { commit: self.final_lsn, ordinal: self.next_ordinal }
    }
}

impl OldTuple<'_> {
    /// Whether only the identity's columns carry values.
    #[must_use]
    pub fn is_key_only(self) -> bool {
        matches!(self, OldTuple::Key(_))
    }
}
