//! What stands around the rows: the envelope as a script of constants and gaps.
//!
//! The order of fields is Debezium's. A script is compiled once for a plan and a form; the row path copies its constants
//! and fills its gaps.

use super::Config;
use super::form::{Form, Union, push_code};
use super::java::{Short, push_int};
use super::modes::BinaryMode;
use crate::change::{Context, Marker};

/// Debezium's connector type: readers key on it.
const CONNECTOR: &str = "postgresql";

/// A piece of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes that are the same in each record.
    Constant(Box<[u8]>),
    /// The row before the change.
    Before,
    /// The row after it.
    After,
    /// One letter: c, u, d, r, t, m.
    Operation,
    /// A time of the transaction (`source`) or of processing.
    Time(Clock, Unit),
    Snapshot,
    Sequence,
    Transaction,
    Lsn,
    Xmin,
    Origin,
    OriginLsn,
    /// A logical message's prefix.
    MessagePrefix,
    /// A logical message's content.
    MessageContent(BinaryMode),
    /// An event's place in its transaction.
    Block,
    TransactionId,
    /// Its begin or end.
    Status,
    /// Its number of events.
    EventCount,
    /// Its number of events by table.
    Collections,
    /// A required time of a record that is no row's, in milliseconds.
    Millis,
    NoticeId,
    NoticeType,
    NoticeAggregate,
    NoticeData,
}

/// Which moment a timestamp field of the envelope tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// When the transaction committed; a required field in milliseconds.
    Commit,
    /// When we wrote the record; never required.
    Now,
}

/// The unit of a timestamp field: `ts_ms`, `ts_us` or `ts_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// Builds a script, joining constants.
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

    /// A required text that never changes.
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
        self.gap::<F>("ts_ms", Step::Time(Clock::Commit, Unit::Millis));
        self.gap::<F>("snapshot", Step::Snapshot);
        self.text::<F>("db", database);
        self.gap::<F>("sequence", Step::Sequence);
        self.gap::<F>("ts_us", Step::Time(Clock::Commit, Unit::Micros));
        self.gap::<F>("ts_ns", Step::Time(Clock::Commit, Unit::Nanos));
        self.text::<F>("schema", namespace);
        self.text::<F>("table", table);
        self.gap::<F>("txId", Step::Transaction);
        self.gap::<F>("lsn", Step::Lsn);
        if config.rules.xmin {
            self.gap::<F>("xmin", Step::Xmin);
        } else {
            self.null::<F>("xmin");
        }
        self.gap::<F>("origin", Step::Origin);
        self.gap::<F>("origin_lsn", Step::OriginLsn);
        self.close::<F>();
    }
}

/// The envelope of a table's rows, between a record's own prefix and suffix.
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
    script.gap::<F>("ts_ms", Step::Time(Clock::Now, Unit::Millis));
    script.gap::<F>("ts_us", Step::Time(Clock::Now, Unit::Micros));
    script.gap::<F>("ts_ns", Step::Time(Clock::Now, Unit::Nanos));
    script.close::<F>();
    script.finish(suffix)
}

/// The value of logical messages.
pub(super) fn of_messages<F: Form>(
    config: &Config,
    database: &str,
    prefix: &[u8],
    suffix: &[u8],
) -> Vec<Step> {
    let mut script = Script::new(prefix);
    script.open::<F>();
    script.gap::<F>("op", Step::Operation);
    script.gap::<F>("ts_ms", Step::Time(Clock::Now, Unit::Millis));
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

/// The key of logical messages.
pub(super) fn of_message_keys<F: Form>(prefix: &[u8], suffix: &[u8]) -> Vec<Step> {
    let mut script = Script::new(prefix);
    script.open::<F>();
    script.gap::<F>("prefix", Step::MessagePrefix);
    script.close::<F>();
    script.finish(suffix)
}

/// Fills a gap that the transaction and the clock decide. The others are the row's and left alone.
pub(super) fn fill<F: Form>(
    step: &Step,
    context: &Context<'_>,
    now_unix_nanos: i64,
    out: &mut Vec<u8>,
) {
    match step {
        Step::Time(Clock::Commit, Unit::Millis) => {
            F::int(context.committed_at.unix_micros().div_euclid(1000), out)
        }
        Step::Time(Clock::Commit, Unit::Micros) => {
            optional_int::<F>(Some(context.committed_at.unix_micros()), out)
        }
        Step::Time(Clock::Commit, Unit::Nanos) => {
            optional_int::<F>(context.committed_at.unix_micros().checked_mul(1000), out);
        }
        Step::Time(Clock::Now, Unit::Millis) => {
            optional_int::<F>(Some(now_unix_nanos.div_euclid(1_000_000)), out)
        }
        Step::Time(Clock::Now, Unit::Micros) => {
            optional_int::<F>(Some(now_unix_nanos.div_euclid(1000)), out)
        }
        Step::Time(Clock::Now, Unit::Nanos) => optional_int::<F>(Some(now_unix_nanos), out),
        Step::Snapshot => {
            F::some(Union::NullLast, out);
            F::text(context.marker.word(), out);
        }
        Step::Sequence => sequence::<F>(context, out),
        Step::Transaction => optional_int::<F>(context.xid.map(|xid| i64::from(xid.0)), out),
        // A row of a later copy has no WAL record; Debezium's has no LSN either.
        Step::Lsn if context.marker == Marker::Incremental => F::null(Union::NullFirst, out),
        Step::Lsn => optional_int::<F>(i64::try_from(context.lsn.bytes()).ok(), out),
        Step::Xmin => optional_int::<F>(context.xmin.map(|xid| i64::from(xid.0)), out),
        Step::Origin => match context.origin {
            Some((name, _)) => {
                F::some(Union::NullFirst, out);
                F::text(name, out);
            }
            None => F::null(Union::NullFirst, out),
        },
        Step::OriginLsn => {
            optional_int::<F>(
                context.origin.and_then(|(_, lsn)| i64::try_from(lsn.bytes()).ok()),
                out,
            );
        }
        Step::Constant(_)
        | Step::Before
        | Step::After
        | Step::Operation
        | Step::MessagePrefix
        | Step::MessageContent(_)
        | Step::Block
        | Step::TransactionId
        | Step::Status
        | Step::EventCount
        | Step::Collections
        | Step::Millis
        | Step::NoticeId
        | Step::NoticeType
        | Step::NoticeAggregate
        | Step::NoticeData => {}
    }
}

/// A logical message's content as bytes or as their code.
pub(super) fn content<F: Form>(binary: BinaryMode, content: &[u8], out: &mut Vec<u8>) {
    F::some(Union::NullFirst, out);
    match binary {
        BinaryMode::Bytes => F::bytes(content, out),
        BinaryMode::Coded(code) => {
            let mut text = Vec::new(); // once a message, not a row
            push_code(code, content, &mut text);
            let Ok(text) = std::str::from_utf8(&text) else {
                unreachable!("Base64 and hexadecimal are ASCII")
            };
            F::text(text, out);
        }
    }
}

fn optional_int<F: Form>(value: Option<i64>, out: &mut Vec<u8>) {
    match value {
        Some(value) => {
            F::some(Union::NullFirst, out);
            F::int(value, out);
        }
        None => F::null(Union::NullFirst, out),
    }
}

/// `["<last commit>","<this change>"]` in decimal; null in the first place until a commit was seen.
fn sequence<F: Form>(context: &Context<'_>, out: &mut Vec<u8>) {
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
    F::some(Union::NullFirst, out);
    F::text(text.as_str(), out);
}

/// The decimal text of a number, for headers.
pub(super) fn push_number(number: u64, out: &mut Vec<u8>) {
    push_int(i64::try_from(number).unwrap_or(i64::MAX), out);
}
