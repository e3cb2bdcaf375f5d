//! Compiles Debezium's envelope around a row into a script of constants and gaps.
//!
//! The order of fields is Debezium's. A script is compiled once for a plan and a form (Avro or
//! JSON). The row path copies the constants of the script and fills its gaps.

use super::Config;
use super::form::{Form, Union, push_code};
use super::java::{Short, push_int};
use super::modes::BinaryMode;
use crate::change::{Context, Marker};
use crate::transform::shape::Meta;

/// Debezium's connector type, by which readers recognise the source.
pub(super) const CONNECTOR: &str = "postgresql";

/// A piece of a script: constant bytes, or a gap for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes that are the same in each record.
    Constant(Box<[u8]>),
    /// The row before the change.
    Before,
    /// The row after the change.
    After,
    /// The operation as one letter: c (create), u (update), d (delete), r (read by a copy), t
    /// (truncate) or m (message).
    Operation,
    /// A value of the change's context (such as its LSN) or of the clock. The union says whether
    /// the field's type allows null, and whether null is its first or its last branch.
    Meta(Meta, Union),
    /// A logical message's prefix.
    MessagePrefix,
    /// A logical message's content.
    MessageContent(BinaryMode),
    /// The field `transaction` of an event: the transaction's id, and the event's place in it.
    Block,
    TransactionId,
    /// Whether a transaction record is a begin or an end.
    Status,
    /// The number of events in a transaction. The record of the transaction's begin has null here.
    EventCount,
    /// The number of events of each table in a transaction. The record of the transaction's begin
    /// has null here.
    Collections,
    /// The time of an auxiliary record in milliseconds since 1970, for a required field.
    Millis,
    NoticeId,
    NoticeType,
    NoticeAggregate,
    NoticeData,
}

/// Builds the script of a key or value. Adjacent constants become one step.
pub(super) struct Script {
    steps: Vec<Step>,
    pending: Vec<u8>,
    first: bool,
}

impl Script {
    pub(super) fn new(prefix: &[u8]) -> Self {
        Script { steps: Vec::new(), pending: prefix.to_vec(), first: true }
    }

    pub(super) fn open<F: Form>(&mut self) {
        F::struct_open(&mut self.pending);
        self.first = true;
    }

    pub(super) fn close<F: Form>(&mut self) {
        F::struct_close(&mut self.pending);
        self.first = false;
    }

    fn field<F: Form>(&mut self, name: &str) {
        F::field(self.first, name, &mut self.pending);
        self.first = false;
    }

    /// Adds a field with a required text that is the same in each record.
    pub(super) fn text<F: Form>(&mut self, name: &str, value: &str) {
        self.field::<F>(name);
        F::text(value, &mut self.pending);
    }

    fn null<F: Form>(&mut self, name: &str) {
        self.field::<F>(name);
        F::null(Union::NullFirst, &mut self.pending);
    }

    pub(super) fn gap<F: Form>(&mut self, name: &str, step: Step) {
        self.field::<F>(name);
        if !self.pending.is_empty() {
            self.steps.push(Step::Constant(std::mem::take(&mut self.pending).into()));
        }
        self.steps.push(step);
    }

    pub(super) fn finish(mut self, suffix: &[u8]) -> Vec<Step> {
        self.pending.extend_from_slice(suffix);
        if !self.pending.is_empty() {
            self.steps.push(Step::Constant(self.pending.into()));
        }
        self.steps
    }

    fn block<F: Form>(&mut self, config: &Config) {
        if config.rules.transactions {
            self.gap::<F>("transaction", Step::Block);
        } else {
            self.null::<F>("transaction");
        }
    }

    fn source<F: Form>(&mut self, config: &Config, database: &str, namespace: &str, table: &str) {
        self.field::<F>("source");
        self.open::<F>();
        self.text::<F>("version", env!("CARGO_PKG_VERSION"));
        self.text::<F>("connector", CONNECTOR);
        self.text::<F>("name", &config.prefix);
        self.gap::<F>("ts_ms", Step::Meta(Meta::CommitMillis, Union::Required));
        self.gap::<F>("snapshot", Step::Meta(Meta::Snapshot, Union::NullLast));
        self.text::<F>("db", database);
        self.gap::<F>("sequence", Step::Meta(Meta::Sequence, Union::NullFirst));
        self.gap::<F>("ts_us", Step::Meta(Meta::CommitMicros, Union::NullFirst));
        self.gap::<F>("ts_ns", Step::Meta(Meta::CommitNanos, Union::NullFirst));
        self.text::<F>("schema", namespace);
        self.text::<F>("table", table);
        self.gap::<F>("txId", Step::Meta(Meta::Transaction, Union::NullFirst));
        self.gap::<F>("lsn", Step::Meta(Meta::Lsn, Union::NullFirst));
        if config.rules.xmin {
            self.gap::<F>("xmin", Step::Meta(Meta::Xmin, Union::NullFirst));
        } else {
            self.null::<F>("xmin");
        }
        self.gap::<F>("origin", Step::Meta(Meta::Origin, Union::NullFirst));
        self.gap::<F>("origin_lsn", Step::Meta(Meta::OriginLsn, Union::NullFirst));
        self.close::<F>();
    }
}

/// Compiles the script of the values of a table's records. `table` is namespace and name. `prefix`
/// and `suffix` are the bytes before and after each value.
pub(super) fn of_rows<F: Form>(
    config: &Config,
    database: &str,
    table: [&str; 2],
    prefix: &[u8],
    suffix: &[u8],
) -> Vec<Step> {
    let mut script = Script::new(prefix);
    script.open::<F>();
    script.gap::<F>("before", Step::Before);
    script.gap::<F>("after", Step::After);
    script.source::<F>(config, database, table[0], table[1]);
    script.block::<F>(config);
    script.gap::<F>("op", Step::Operation);
    script.gap::<F>("ts_ms", Step::Meta(Meta::NowMillis, Union::NullFirst));
    script.gap::<F>("ts_us", Step::Meta(Meta::NowMicros, Union::NullFirst));
    script.gap::<F>("ts_ns", Step::Meta(Meta::NowNanos, Union::NullFirst));
    script.close::<F>();
    script.finish(suffix)
}

/// Compiles the script of the values of logical messages.
pub(super) fn of_messages<F: Form>(
    config: &Config,
    database: &str,
    prefix: &[u8],
    suffix: &[u8],
) -> Vec<Step> {
    let mut script = Script::new(prefix);
    script.open::<F>();
    script.gap::<F>("op", Step::Operation);
    script.gap::<F>("ts_ms", Step::Meta(Meta::NowMillis, Union::NullFirst));
    script.source::<F>(config, database, "", "");
    script.block::<F>(config);
    script.field::<F>("message");
    script.open::<F>();
    script.gap::<F>("prefix", Step::MessagePrefix);
    script.gap::<F>("content", Step::MessageContent(config.modes.binary));
    script.close::<F>();
    script.close::<F>();
    script.finish(suffix)
}

/// Compiles the script of the keys of logical messages.
pub(super) fn of_message_keys<F: Form>(prefix: &[u8], suffix: &[u8]) -> Vec<Step> {
    let mut script = Script::new(prefix);
    script.open::<F>();
    script.gap::<F>("prefix", Step::MessagePrefix);
    script.close::<F>();
    script.finish(suffix)
}

/// Writes the value of a [`Step::Meta`]. Writes nothing for any other step.
pub(super) fn fill<F: Form>(
    step: &Step,
    context: &Context<'_>,
    now_unix_nanos: i64,
    out: &mut Vec<u8>,
) {
    if let Step::Meta(what, union) = step {
        meta::<F>(*what, *union, context, now_unix_nanos, out);
    }
}

/// Writes a value of the change's context (such as its LSN) or of the clock. Writes nothing for a
/// value that needs a count of events: `auxiliary` and `shaped_row` write such values.
pub(super) fn meta<F: Form>(
    what: Meta,
    union: Union,
    context: &Context<'_>,
    now_unix_nanos: i64,
    out: &mut Vec<u8>,
) {
    let int = |value: Option<i64>, out: &mut Vec<u8>| match value {
        Some(value) => {
            F::some(union, out);
            F::int(value, out);
        }
        None => F::null(union, out),
    };
    let micros = context.committed_at.unix_micros();
    match what {
        Meta::CommitMillis => int(Some(micros.div_euclid(1000)), out),
        Meta::CommitMicros => int(Some(micros), out),
        Meta::CommitNanos => int(micros.checked_mul(1000), out),
        Meta::NowMillis => int(Some(now_unix_nanos.div_euclid(1_000_000)), out),
        Meta::NowMicros => int(Some(now_unix_nanos.div_euclid(1000)), out),
        Meta::NowNanos => int(Some(now_unix_nanos), out),
        // The word for a streamed row, `false`, is the default of the field `snapshot`. In a field
        // without this default, null is written in place of the word.
        Meta::Snapshot if context.marker == Marker::Streamed && union != Union::NullLast => {
            F::null(union, out);
        }
        Meta::Snapshot => {
            F::some(union, out);
            F::text(context.marker.word(), out);
        }
        Meta::Sequence => sequence::<F>(context, union, out),
        Meta::Transaction => int(context.xid.map(|xid| i64::from(xid.0)), out),
        // A row of a backfill or standstill has no WAL record. Debezium sends no LSN for such a row
        // either.
        Meta::Lsn if context.marker == Marker::Incremental => F::null(union, out),
        Meta::Lsn => int(i64::try_from(context.lsn.bytes()).ok(), out),
        Meta::Xmin => int(context.xmin.map(|xid| i64::from(xid.0)), out),
        Meta::Origin => match context.origin {
            Some((name, _)) => {
                F::some(union, out);
                F::text(name, out);
            }
            None => F::null(union, out),
        },
        Meta::OriginLsn => {
            int(context.origin.and_then(|(_, lsn)| i64::try_from(lsn.bytes()).ok()), out);
        }
        Meta::Block | Meta::BlockId | Meta::BlockTotal | Meta::BlockTable => {}
    }
}

/// Writes a logical message's content as bytes, or as a text that encodes them, as `binary` says.
pub(super) fn content<F: Form>(binary: BinaryMode, content: &[u8], out: &mut Vec<u8>) {
    F::some(Union::NullFirst, out);
    match binary {
        BinaryMode::Bytes => F::bytes(content, out),
        BinaryMode::Coded(code) => {
            let mut text = Vec::new(); // one allocation for each message, none for a row
            push_code(code, content, &mut text);
            let Ok(text) = std::str::from_utf8(&text) else {
                unreachable!("Base64 and hexadecimal are ASCII")
            };
            F::text(text, out);
        }
    }
}

/// Writes the field `sequence`: `["<LSN of the last commit>","<LSN of this change>"]`, both in
/// decimal. The first one is null until a commit was seen.
fn sequence<F: Form>(context: &Context<'_>, union: Union, out: &mut Vec<u8>) {
    let mut text = Short::new(); // two numbers of 20 digits at most, and seven signs
    match context.last_commit {
        Some(lsn) => {
            text.push(b"[\"");
            text.push_digits(lsn.bytes(), 1);
            text.push(b"\",\"");
        }
        None => text.push(b"[null,\""),
    }
    text.push_digits(context.lsn.bytes(), 1);
    text.push(b"\"]");
    F::some(union, out);
    F::text(text.as_str(), out);
}

/// Appends a number in decimal.
pub(super) fn push_number(number: u64, out: &mut Vec<u8>) {
    push_int(i64::try_from(number).unwrap_or(i64::MAX), out);
}
