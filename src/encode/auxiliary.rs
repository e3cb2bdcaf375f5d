//! Auxiliary records, which belong to no row: a transaction's begin and end, heartbeats, and
//! notices.
//!
//! Auxiliary records have topics, schemas and plans like rows. The events of a transaction have a
//! field with the transaction's id and two running numbers. `rows` keeps these numbers and passes
//! them to the encoder (`Encoder::count_from`), because they continue from one row to the next.

use super::Format;
use super::column::Key;
use super::encoder::{Encoder, Slot};
use super::envelope::{Script, Step};
use super::form::{Avro, Form, Json, Union};
use super::java::Short;
use super::notice;
use super::plan::Plan;
use super::schema::{Base, Field, Schema, field, optional, required};
use crate::change::{Context, Marker, Position};
use crate::lsn::{Lsn, PgMicros, Xid};

/// The transaction of a begin or end record, and the place of this record in the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// The Position that the identity headers carry.
    pub position: Position,
    /// LSN of the Begin or Commit message, which is part of the transaction's id in the record.
    pub lsn: Lsn,
    pub(crate) xid: Xid,
    pub(crate) committed_at: PgMicros,
}

/// Numbers of events in the open transaction so far: of all tables, and of the table of the present
/// row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub(crate) total: u64,
    pub(crate) of_table: u64,
}

impl Counted {
    /// Returns both counts, raised by one.
    pub(super) fn next(self) -> Self {
        Counted { total: self.total + 1, of_table: self.of_table + 1 }
    }
}

/// The kinds of auxiliary records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auxiliary {
    Transactions,
    Heartbeats,
    Notices,
}

impl Auxiliary {
    /// Returns the schemas of the key and of the value of these auxiliary records.
    pub(super) fn schemas(self) -> (Schema, Schema) {
        let named = |name, fields| Schema::named(Base::Struct(fields), name);
        match self {
            Auxiliary::Transactions => (
                named(
                    "io.debezium.connector.common.TransactionMetadataKey",
                    vec![required("id", Base::Text)],
                ),
                named(
                    "io.debezium.connector.common.TransactionMetadataValue",
                    transaction_fields(),
                ),
            ),
            Auxiliary::Heartbeats => (
                named(
                    "io.debezium.connector.common.ServerNameKey",
                    vec![required("serverName", Base::Text)],
                ),
                named(
                    "io.debezium.connector.common.Heartbeat",
                    vec![required("ts_ms", Base::Int64)],
                ),
            ),
            Auxiliary::Notices => (
                named(
                    "io.debezium.connector.common.NotificationKey",
                    vec![required("id", Base::Text)],
                ),
                named("io.debezium.connector.common.Notification", notice::fields()),
            ),
        }
    }

    /// Compiles the scripts of the key and of the value. `prefix` is the first part of every
    /// topic's name, which the key of a heartbeat contains. `key` and `value` are the bytes before
    /// and after each key and each value.
    pub(super) fn scripts<F: Form>(
        self,
        prefix: &str,
        key: [&[u8]; 2],
        value: [&[u8]; 2],
    ) -> (Vec<Step>, Vec<Step>) {
        let (mut keys, mut values) = (Script::new(key[0]), Script::new(value[0]));
        keys.open::<F>();
        values.open::<F>();
        match self {
            Auxiliary::Transactions => {
                keys.gap::<F>("id", Step::TransactionId);
                values.gap::<F>("status", Step::Status);
                values.gap::<F>("id", Step::TransactionId);
                values.gap::<F>("event_count", Step::EventCount);
                values.gap::<F>("data_collections", Step::Collections);
            }
            Auxiliary::Heartbeats => keys.text::<F>("serverName", prefix),
            Auxiliary::Notices => {
                keys.gap::<F>("id", Step::NoticeId);
                values.gap::<F>("id", Step::NoticeId);
                values.gap::<F>("type", Step::NoticeType);
                values.gap::<F>("aggregate_type", Step::NoticeAggregate);
                values.gap::<F>("additional_data", Step::NoticeData);
            }
        }
        values
            .gap::<F>(if self == Auxiliary::Notices { "timestamp" } else { "ts_ms" }, Step::Millis);
        keys.close::<F>();
        values.close::<F>();
        (keys.finish(key[1]), values.finish(value[1]))
    }
}

fn transaction_fields() -> Vec<Field> {
    let counts =
        vec![required("data_collection", Base::Text), required("event_count", Base::Int64)];
    let element =
        Schema { optional: true, ..Schema::named(Base::Struct(counts), "event.collection") };
    let collections = Schema { optional: true, ..Schema::plain(Base::Array(Box::new(element))) };
    vec![
        required("status", Base::Text),
        required("id", Base::Text),
        optional("event_count", Base::Int64),
        field("data_collections", collections),
        required("ts_ms", Base::Int64),
    ]
}

/// Writes Debezium's transaction id `txId:lsn`. The LSN is that of the change, Begin or Commit for
/// which the record is written. The records of one transaction can therefore have different ids.
pub(super) fn push_id<F: Form>(xid: Xid, lsn: Lsn, out: &mut Vec<u8>) {
    let mut id = Short::new(); // two numbers of 20 digits at most, and a colon
    id.push_digits(u64::from(xid.0), 1);
    id.push(b":");
    id.push_digits(lsn.bytes(), 1);
    F::text(id.as_str(), out);
}

/// Writes the field `transaction` of an event. The field is null for a copied row and outside a
/// transaction.
pub(super) fn push_block<F: Form>(context: &Context<'_>, counted: Counted, out: &mut Vec<u8>) {
    // A copied row belongs to no transaction of the stream, whatever xid its snapshot has.
    let xid = context.xid.filter(|_| context.marker == Marker::Streamed);
    let Some(xid) = xid else { return F::null(Union::NullFirst, out) };
    F::some(Union::NullFirst, out);
    F::struct_open(out);
    F::field(true, "id", out);
    push_id::<F>(xid, context.lsn, out);
    F::field(false, "total_order", out);
    F::int(count(counted.total), out);
    F::field(false, "data_collection_order", out);
    F::int(count(counted.of_table), out);
    F::struct_close(out);
}

/// The values that fill the script of one transaction record or heartbeat.
struct Filling<'a> {
    mark: Option<Mark>,
    /// The name and the number of events of each table, for the record of a transaction's end.
    /// `None` for any other record.
    tables: Option<&'a [(&'a str, u64)]>,
    millis: i64,
}

impl Filling<'_> {
    fn write<F: Form>(&self, steps: &[Step], out: &mut Vec<u8>) -> (usize, usize) {
        let start = out.len();
        for step in steps {
            match (step, self.mark) {
                (Step::Constant(bytes), _) => out.extend_from_slice(bytes),
                (Step::TransactionId, Some(mark)) => push_id::<F>(mark.xid, mark.lsn, out),
                (Step::Status, _) => {
                    F::text(if self.tables.is_some() { "END" } else { "BEGIN" }, out)
                }
                (Step::EventCount, _) => match self.tables {
                    Some(tables) => {
                        F::some(Union::NullFirst, out);
                        F::int(sum(tables), out);
                    }
                    None => F::null(Union::NullFirst, out),
                },
                (Step::Collections, _) => match self.tables {
                    Some(tables) => push_tables::<F>(tables, out),
                    None => F::null(Union::NullFirst, out),
                },
                (Step::Millis, _) => F::int(self.millis, out),
                _ => {}
            }
        }
        (start, out.len())
    }
}

fn sum(tables: &[(&str, u64)]) -> i64 {
    count(tables.iter().map(|(_, events)| events).sum())
}

/// Converts a number of events in one transaction to Avro's `long`.
pub(super) fn count(events: u64) -> i64 {
    i64::try_from(events).unwrap_or_else(|_| unreachable!("a transaction of {events} events"))
}

fn push_tables<F: Form>(tables: &[(&str, u64)], out: &mut Vec<u8>) {
    F::some(Union::NullFirst, out);
    F::list_open(tables.len(), out);
    for (index, (table, events)) in tables.iter().enumerate() {
        F::element(index == 0, out);
        F::some(Union::NullFirst, out);
        F::struct_open(out);
        F::field(true, "data_collection", out);
        F::text(table, out);
        F::field(false, "event_count", out);
        F::int(count(*events), out);
        F::struct_close(out);
    }
    F::list_close(tables.len(), out);
}

impl Encoder {
    /// Writes the record of a transaction's begin, by the plan of transactions.
    pub fn transaction_begins(&mut self, plan: &Plan, mark: Mark) {
        let millis = mark.committed_at.unix_micros().div_euclid(1000);
        self.auxiliary(plan, mark.position, &Filling { mark: Some(mark), tables: None, millis });
    }

    /// Writes the record of a transaction's end, with the number of events of each table.
    pub fn transaction_ends(&mut self, plan: &Plan, mark: Mark, tables: &[(&str, u64)]) {
        let millis = mark.committed_at.unix_micros().div_euclid(1000);
        self.auxiliary(
            plan,
            mark.position,
            &Filling { mark: Some(mark), tables: Some(tables), millis },
        );
    }

    /// Writes a heartbeat, by the plan of heartbeats.
    pub fn heartbeat(&mut self, plan: &Plan, now_unix_nanos: i64) {
        let millis = now_unix_nanos.div_euclid(1_000_000);
        self.auxiliary(plan, Position::default(), &Filling { mark: None, tables: None, millis });
    }

    fn auxiliary(&mut self, plan: &Plan, position: Position, filling: &Filling<'_>) {
        self.begin(plan, position);
        self.in_context = false;
        let (key, value) = match plan.format {
            Format::Avro => self.auxiliary_in::<Avro>(plan, filling),
            Format::Json | Format::JsonSchema => self.auxiliary_in::<Json>(plan, filling),
        };
        self.slots.push(Slot { key, value: Some(value), change: None, shaped: None });
    }

    fn auxiliary_in<F: Form>(
        &mut self,
        plan: &Plan,
        filling: &Filling<'_>,
    ) -> (Option<(usize, usize)>, (usize, usize)) {
        let key = match &plan.key {
            Key::Message(steps) => Some(filling.write::<F>(steps, &mut self.out)),
            Key::None | Key::Columns { .. } => None,
        };
        (key, filling.write::<F>(&plan.value, &mut self.out))
    }

    /// Sets both counts of the events in the open transaction. The first event of the next row then
    /// has counts that are higher by one.
    pub fn count_from(&mut self, counted: Counted) {
        self.counted = counted;
    }

    /// Returns the counts of the events in the open transaction, those of the last row or message
    /// included.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counted
    }
}
