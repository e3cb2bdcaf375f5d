//! The row path: frames of one read to records in the producer, without a wait, a look-up by name or an allocation of ours.
//!
//! It stops where something has to be fetched first (a relation to be planned), where the budget is used up, and before
//! a row that cannot be sent; what it stopped at is done again, or gone on with, when the loop calls it the next time.

mod aside;
mod beside;
mod held;
mod refusals;
#[cfg(test)]
mod schedules;
mod signalled;
mod truncates;
mod whole;

use beside::Beside;
use held::held_out;
use refusals::{Skips, fits, instead, unencodable};
pub use signalled::{Signalled, places as signal_places};
use truncates::{Truncated, truncated};

use crate::backfill::Copies;
use crate::change::{Changes, Context, Position, RelationShape, RelationSlot, Row, Step};
use crate::continuity::detached::{Cause, OnRefusal};
use crate::continuity::{Halt, Reason};
use crate::core::Core;
use crate::encode::{self, EncodeError, Encoder};
use crate::kafka::SendError;
use crate::lsn::{PgMicros, Xid};
use crate::metrics::{Metrics, Operation};
use crate::pgoutput::{self, CopyRow};
use crate::plans::sink::Sink;
use crate::plans::{Active, Aside, Planned};
use crate::postgres::{Frame, PgError, Stream};
use crate::snapshot::window::Before;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What the loop has to fetch before the row path can go on.
#[derive(Debug)]
pub enum Need {
    /// A relation's plan.
    Relation(RelationSlot, RelationShape),
    /// The plan of logical messages.
    Messages,
    /// The plan of the records of transactions.
    Transactions,
    /// Where a change goes that an operator has left out.
    Skip(RelationSlot),
    /// To set the table aside from this change on.
    Aside(RelationSlot, Position, Cause),
    /// A plan in which this column may be NULL: the row is from before it was NOT NULL.
    Nullable(RelationSlot, String),
}

/// How a burst ended.
#[derive(Debug, Default)]
pub struct Burst {
    /// Frames handled.
    pub frames: usize,
    /// The server asked for a status update.
    pub reply: bool,
    /// The server says goodbye.
    pub goodbye: bool,
    /// What has to be fetched first.
    pub need: Option<Need>,
    /// What has to be acted on first: it ends the burst.
    pub signal: Option<Signalled>,
    /// When the server sent the first message of it.
    pub sent_at: Option<PgMicros>,
    /// How long before the server sent it the last transaction begun here had committed, in microseconds of its clock.
    pub behind: Option<i64>,
    /// What decoding and encoding its first row took.
    pub measured: Option<(Duration, Duration)>,
}

/// Why the stream cannot go on here.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The connection's.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// Bytes that are no message.
    #[error("read a message of the stream")]
    Decode(#[from] pgoutput::DecodeError),
    /// Messages that make no sense after each other.
    #[error("follow the stream")]
    Change(#[from] crate::change::ChangeError),
    /// The producer takes nothing more.
    #[error("hand a record to the producer")]
    Send(#[from] SendError),
    /// Only a person can go on.
    #[error("{}: {}", .0.reason.code(), .0.detail)]
    Halt(Halt),
}

/// The row path's memory for one connection.
pub struct Rows {
    changes: Changes,
    encoder: Encoder,
    relations: Vec<Planned>,
    /// `None`: not planned yet. `Some(Excluded)`: messages are not published.
    messages: Planned,
    /// Transactions and heartbeats.
    beside: Beside,
    /// Whether the open transaction has sent a record.
    sent: bool,
    /// A message that waits for a plan: its bytes are kept, as the stream will not give them again.
    parked: Option<Parked>,
    /// Where copied rows are read.
    copied: CopyRow,
    /// Where changes that are set aside are written.
    raw: Vec<u8>,
    on_refusal: OnRefusal,
    skips: Skips,
}

struct Parked {
    payload: Vec<u8>,
    start: crate::lsn::Lsn,
    sent_at: crate::lsn::PgMicros,
}

/// What the row path works with besides its own memory.
pub struct Tools<'a> {
    /// Ledger and gates.
    pub core: &'a mut Core,
    /// The producer.
    pub sink: &'a mut Sink,
    /// Copies beside the stream.
    pub copies: &'a mut Copies,
    /// Envelope time, in nanoseconds since 1970; one for the burst.
    pub now_unix_nanos: i64,
    /// Counts messages, and truncates that a compacted topic cannot take.
    pub metrics: &'a Metrics,
}

impl Rows {
    /// A new connection's memory; `changes` resumes from the record.
    #[must_use]
    pub fn new(changes: Changes, on_refusal: OnRefusal) -> Self {
        Rows {
            changes,
            encoder: Encoder::new(),
            relations: Vec::new(),
            messages: Planned::Unplanned,
            beside: Beside::new(),
            sent: false,
            parked: None,
            copied: CopyRow::default(),
            raw: Vec::new(),
            on_refusal,
            skips: Skips::default(),
        }
    }

    /// The slot's xmin was looked up.
    pub fn set_xmin(&mut self, xmin: Option<Xid>) {
        self.changes.set_xmin(xmin);
    }

    /// The plan of a relation has come.
    pub fn planned(&mut self, slot: RelationSlot, planned: Planned) {
        if self.relations.len() <= slot.0 {
            self.relations.resize(slot.0 + 1, Planned::Unplanned);
        }
        if let Some(place) = self.relations.get_mut(slot.0) {
            *place = planned;
        }
    }

    /// The change at this Position is left out of its topic if it is refused.
    pub fn skip(&mut self, at: Position) {
        self.skips.at.insert(at);
    }

    /// Where such a change of a relation goes.
    pub fn skip_to(&mut self, slot: RelationSlot, aside: Rc<Aside>) {
        self.skips.ready.push((slot, aside));
    }

    /// The plan of logical messages has come.
    pub fn messages_planned(&mut self, planned: Planned) {
        self.messages = planned;
    }

    /// Handles what has been read, while there is room.
    ///
    /// # Errors
    /// Where the stream cannot go on; everything before has been entered.
    pub fn burst(&mut self, stream: &mut Stream, tools: &mut Tools<'_>) -> Result<Burst, RowsError> {
        let mut burst = Burst::default();
        if tools.core.has_room()
            && tools.sink.has_room()
            && let Some(parked) = self.parked.take()
        {
            self.message(parked.start, parked.sent_at, &parked.payload, tools, &mut burst)?;
        }
        let goes_on = |burst: &Burst| burst.need.is_none() && burst.signal.is_none();
        while goes_on(&burst) && tools.core.has_room() && tools.sink.has_room() && !tools.copies.is_holding() {
            if tools.copies.has_rest() {
                self.rest(tools)?;
                continue;
            }
            let Some(frame) = stream.next_frame()? else { break };
            burst.frames += 1;
            match frame {
                Frame::XLogData { start, sent_at, payload, .. } => {
                    burst.sent_at.get_or_insert(sent_at);
                    self.message(start, sent_at, payload, tools, &mut burst)?;
                }
                Frame::Keepalive { end, reply, .. } => {
                    tools.core.keepalive(end).map_err(RowsError::Halt)?;
                    if !tools.core.is_in_transaction() {
                        tools.copies.passed(end);
                    }
                    burst.reply |= reply;
                }
                Frame::Goodbye => {
                    burst.goodbye = true;
                    break;
                }
            }
        }
        Ok(burst)
    }

    fn message(
        &mut self,
        start: crate::lsn::Lsn,
        sent_at: crate::lsn::PgMicros,
        payload: &[u8],
        tools: &mut Tools<'_>,
        burst: &mut Burst,
    ) -> Result<(), RowsError> {
        // The clock is read up to the burst's first row, and no more.
        let clock = burst.measured.is_none().then(Instant::now);
        let message = pgoutput::decode(payload)?;
        if matches!(message, pgoutput::Message::Logical { .. }) && matches!(self.messages, Planned::Unplanned) {
            self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
            burst.need = Some(Need::Messages);
            return Ok(());
        }
        let begun = match message {
            pgoutput::Message::Begin { final_lsn, committed_at, xid } => Some((final_lsn, committed_at, xid)),
            _ => None,
        };
        if begun.is_some() && matches!(self.beside.transactions, Planned::Unplanned) {
            self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
            burst.need = Some(Need::Transactions);
            return Ok(());
        }
        let Rows { changes, encoder, relations, messages, beside, sent, copied, raw, on_refusal, skips, .. } = self;
        match changes.step(start, sent_at, message)? {
            Step::Nothing => {}
            Step::Begin => {
                *sent = false;
                tools.core.begun();
                if let Some(begun) = begun {
                    burst.behind = Some(sent_at.unix_micros().saturating_sub(begun.1.unix_micros()));
                    tools.copies.began(begun.0);
                    beside.begun(start, begun);
                }
            }
            Step::Commit(commit) => {
                beside.ended(start, &commit, tools)?;
                tools.core.committed(commit, *sent).map_err(RowsError::Halt)?;
                tools.copies.passed(commit.end);
            }
            Step::Row(slot, context, row) => match relations.get(slot.0) {
                Some(Planned::Active(active)) => {
                    if tools.copies.stops(slot, context.position.commit) {
                        changes.take_back();
                        self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                        return Ok(());
                    }
                    let decoded = clock.map(|clock| (clock.elapsed(), Instant::now()));
                    if let Some(copy) = tools.copies.watching(slot) {
                        match tools.copies.before(copy, active, &context, &row) {
                            Before::Nothing => {}
                            Before::Rows(rows) => {
                                for held in rows {
                                    held_out(encoder, copied, copy, &held, &context, context.position.commit, tools)?;
                                }
                                tools.copies.emitted(context.xid);
                                *sent = true;
                            }
                            Before::Hold => {
                                changes.take_back();
                                self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                                return Ok(());
                            }
                        }
                    }
                    if !*sent {
                        tools.copies.emitted(context.xid);
                    }
                    match row_out((encoder, beside), active, &context, &row, tools) {
                        Err(error) => match instead(error, slot, (skips, *on_refusal, raw), &context, &row, tools)? {
                            None => *sent = true,
                            needed => {
                                changes.take_back();
                                self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                                burst.need = needed;
                            }
                        },
                        Ok(RowOut::Needs(column)) => {
                            changes.take_back();
                            self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                            burst.need = Some(Need::Nullable(slot, column));
                        }
                        Ok(out) => {
                            *sent |= matches!(out, RowOut::Sent);
                            burst.signal = active.signals.and_then(|places| signalled::read(places, &context, &row));
                        }
                    }
                    if let Some((decode, encoding)) = decoded {
                        burst.measured = Some((decode, encoding.elapsed()));
                    }
                }
                // Passed over: a copy that begins later must have seen it.
                Some(Planned::Excluded) => tools.copies.emitted(context.xid),
                Some(Planned::Aside(aside)) if context.position >= aside.floor => {
                    aside.out(raw, &context, &row, tools)?;
                    *sent = true;
                }
                Some(known @ (Planned::Aside(_) | Planned::Refused)) => {
                    let cause = if matches!(known, Planned::Refused) { Cause::Plan } else { Cause::Recorded };
                    burst.need = Some(Need::Aside(slot, context.position, cause));
                    changes.take_back();
                    self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                }
                Some(Planned::Unplanned) | None => {
                    // pgoutput sends Relation first, and the loop plans it before it calls us again.
                    let detail = format!("a row at {} came before its relation was planned", context.lsn);
                    return Err(RowsError::Halt(Halt::new(Reason::RowUnencodable, detail)));
                }
            },
            Step::Truncate(slots, context) => {
                match truncated((encoder, beside, copied, raw), relations, &slots, context, tools)? {
                    Truncated::Done(out) => *sent |= out,
                    Truncated::Held => {
                        slots.iter().for_each(|_| changes.take_back());
                        self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                    }
                    Truncated::Aside(slot, at, cause) => {
                        slots.iter().for_each(|_| changes.take_back());
                        self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                        burst.need = Some(Need::Aside(slot, at, cause));
                    }
                }
            }
            Step::Logical { context, prefix, content } => {
                if let Planned::Active(active) = &*messages {
                    let counted_as = Rc::clone(&beside.messages);
                    beside.count(encoder, &counted_as);
                    encoder
                        .message(&active.plan, &context, prefix, content, tools.now_unix_nanos)
                        .map_err(|error| unencodable(active, &context, &error))?;
                    if encoder.records().next().is_some() {
                        if context.xid.is_some() {
                            beside.counted(encoder, &counted_as, context.position, tools)?;
                        }
                        records_out(encoder, active, context.position, tools)?;
                        tools.metrics.messages.inc();
                        *sent = true;
                    }
                }
                if context.xid.is_none() {
                    tools.core.message(context.lsn);
                }
            }
            Step::Relation(slot, shape) => burst.need = Some(Need::Relation(slot, shape)),
        }
        Ok(())
    }
}

/// What became of a row.
enum RowOut {
    Sent,
    /// The configuration leaves it out.
    NotPublished,
    /// It has NULL in a column that the catalog has as NOT NULL by now: that column's name.
    Needs(String),
}

/// Encodes and sends one row's records.
#[inline]
fn row_out(
    (encoder, beside): (&mut Encoder, &mut Beside),
    active: &Active,
    context: &Context<'_>,
    row: &Row<'_>,
    tools: &mut Tools<'_>,
) -> Result<RowOut, RowsError> {
    beside.count(encoder, &active.table);
    let written = written(encoder, active, context, row, tools)?;
    if matches!(written, RowOut::Sent) {
        // Nothing of a change is sent where a part of it is too large: that is tried first where there are more parts.
        if beside.tells() || encoder.record_count() > 2 {
            encoder.records().try_for_each(|record| fits(encoder, active, context.position, &record).map(drop))?;
        }
        beside.counted(encoder, &active.table, context.position, tools)?;
        records_out(encoder, active, context.position, tools)?;
    }
    Ok(written)
}

/// Encodes one row's records, to be sent.
#[inline]
fn written(
    encoder: &mut Encoder,
    active: &Active,
    context: &Context<'_>,
    row: &Row<'_>,
    tools: &Tools<'_>,
) -> Result<RowOut, RowsError> {
    match encoder.row(&active.plan, context, row, tools.now_unix_nanos) {
        Ok(()) => {}
        Err(EncodeError::RequiredNull { column, .. }) => return Ok(RowOut::Needs(column)),
        Err(error) => return Err(unencodable(active, context, &error)),
    }
    if encoder.records().next().is_none() {
        return Ok(RowOut::NotPublished);
    }
    let (operation, bytes) = match row {
        Row::Insert { new } => (Operation::Insert, new.size_bytes()),
        Row::Update { new, .. } => (Operation::Update, new.size_bytes()),
        Row::Delete { old } => (Operation::Delete, old.tuple().size_bytes()),
        Row::Read { new } => (Operation::Read, new.size_bytes()),
        Row::Truncate => (Operation::Truncate, 0),
    };
    active.metrics.count(operation, 1, bytes as u64);
    if !encoder.notes().is_empty() {
        active.metrics.unrepresentable.inc_by(encoder.notes().len() as u64);
    }
    Ok(RowOut::Sent)
}

#[inline]
pub(super) fn records_out(
    encoder: &Encoder,
    active: &Active,
    position: Position,
    tools: &mut Tools<'_>,
) -> Result<(), RowsError> {
    if let Some(halt) = tools.core.blocks(position) {
        return Err(RowsError::Halt(halt.clone()));
    }
    for record in encoder.records() {
        let size_bytes = fits(encoder, active, position, &record)?;
        let partition = encode::partition(record.key, &active.table, active.partitions);
        let ticket = tools.core.next_ticket();
        tools.sink.send(active.plan.topic(), partition, record.key, record.value, record.headers(), ticket)?;
        tools.core.sent(active.route, position, size_bytes);
        if let Some(uses) = &active.uses {
            uses.note(position);
        }
    }
    Ok(())
}
