//! The row path: it turns the frames of one read into records in the producer, without waiting,
//! without a lookup by name, and without an allocation of ours per row.
//!
//! It stops before a message for which something has to be fetched (such as a plan), when the
//! budget is used up, and before a row that cannot be sent. The message at which it stopped is kept
//! and handled at the next call.

mod auxiliary;
mod burst;
mod error;
mod held;
mod quarantine;
mod refusals;
mod routed;
#[cfg(test)]
mod schedules;
mod signalled;
mod standstill;
mod truncates;
mod written;

use auxiliary::AuxiliaryRecords;
pub use burst::{Burst, Need};
pub use error::RowsError;
use held::held_out;
use refusals::{Skips, fits, instead, partition, unencodable};
use routed::{message_need, message_plan, routed_by};
pub use signalled::{Signalled, places as signal_places};
use truncates::{Truncated, truncated};
use written::written;

use crate::backfill::Copies;
use crate::change::{ChangeError, Changes, Context, Position, RelationSlot, Row, Step};
use crate::continuity::detached::{Cause, OnRefusal};
use crate::continuity::{Halt, Reason};
use crate::core::Core;
use crate::encode::{Encoder, Router};
use crate::kafka::{Address, Headers};
use crate::lsn::{Lsn, Xid};
use crate::metrics::Metrics;
use crate::pgoutput::{self, CopyRow};
use crate::plans::sink::Sink;
use crate::plans::{Active, Planned, QuarantineTopic};
use crate::postgres::{Frame, Stream};
use crate::snapshot::window::Before;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What the row path keeps in memory during one connection.
pub struct Rows {
    changes: Changes,
    encoder: Encoder,
    relations: Vec<Planned>,
    /// Plan of logical messages. `Unplanned` until the first message needs it, and `Excluded` if
    /// messages are not sent.
    messages: Planned,
    /// Transaction records, heartbeats and notices.
    auxiliary: AuxiliaryRecords,
    /// True if the open transaction has sent a record.
    sent: bool,
    /// Changes of transactions that commit below this position are in Kafka and are left out.
    left_out_below: Lsn,
    /// A message that waits for a plan or for a copy. Its bytes are kept, because the stream does
    /// not send them again.
    parked: Option<Parked>,
    /// Buffer in which copied rows are read.
    copied: CopyRow,
    /// Buffer in which changes for the quarantine are written.
    raw: Vec<u8>,
    on_refusal: OnRefusal,
    skips: Skips,
}

struct Parked {
    payload: Vec<u8>,
    start: Lsn,
    sent_at: crate::lsn::PgMicros,
}

/// What the row path works with besides its own memory.
pub struct Tools<'a> {
    /// Ledger, byte budget and the rules of the loop.
    pub core: &'a mut Core,
    /// The sink that records are sent to.
    pub sink: &'a mut Sink,
    /// The backfills and standstills that watch the stream.
    pub copies: &'a mut Copies,
    /// Processing time of all envelopes of the burst, in nanoseconds since 1970.
    pub now_unix_nanos: i64,
    /// Counts messages, quarantined changes, and truncates that a compacted topic cannot take.
    pub metrics: &'a Metrics,
}

impl Rows {
    /// Creates the memory of a new connection. `changes` continues from the checkpoint.
    #[must_use]
    pub fn new(changes: Changes, on_refusal: OnRefusal) -> Self {
        Rows {
            changes,
            encoder: Encoder::new(),
            relations: Vec::new(),
            messages: Planned::Unplanned,
            auxiliary: AuxiliaryRecords::new(),
            sent: false,
            left_out_below: Lsn::ZERO,
            parked: None,
            copied: CopyRow::default(),
            raw: Vec::new(),
            on_refusal,
            skips: Skips::default(),
        }
    }

    /// Takes the xmin of the slot, once it was looked up.
    pub fn set_xmin(&mut self, xmin: Option<Xid>) {
        self.changes.set_xmin(xmin);
    }

    /// Leaves out the changes of transactions that commit below `from`. They arrive again where the
    /// server begins below the position at which the connection begins ([`Resume::leaves_out`]).
    ///
    /// [`Resume::leaves_out`]: crate::continuity::Resume::leaves_out
    pub fn leave_out_below(&mut self, from: Lsn) {
        self.left_out_below = from;
    }

    /// Takes the plan of a relation.
    pub fn planned(&mut self, slot: RelationSlot, planned: Planned) {
        if self.relations.len() <= slot.0 {
            self.relations.resize(slot.0 + 1, Planned::Unplanned);
        }
        if let Some(place) = self.relations.get_mut(slot.0) {
            *place = planned;
        }
    }

    /// Marks the change at this Position as skipped: if it is refused, it goes to the quarantine.
    pub fn skip(&mut self, at: Position) {
        self.skips.at.insert(at);
    }

    /// Takes the quarantine for skipped changes of a relation.
    pub fn skip_to(&mut self, slot: RelationSlot, quarantine: Rc<QuarantineTopic>) {
        self.skips.ready.push((slot, quarantine));
    }

    /// Takes the plan of logical messages.
    pub fn messages_planned(&mut self, planned: Planned) {
        self.messages = planned;
    }

    /// Handles the frames that were read, while there is room.
    ///
    /// # Errors
    /// The stream cannot continue. Everything before the failed message has been entered into the
    /// ledger.
    pub fn burst(
        &mut self,
        stream: &mut Stream,
        tools: &mut Tools<'_>,
    ) -> Result<Burst, RowsError> {
        let mut burst = Burst::default();
        if tools.core.has_room()
            && tools.sink.has_room()
            && let Some(parked) = self.parked.take()
        {
            self.message(parked.start, parked.sent_at, &parked.payload, tools, &mut burst)?;
        }
        let goes_on = |burst: &Burst| burst.need.is_none() && burst.signal.is_none();
        while goes_on(&burst)
            && tools.core.has_room()
            && tools.sink.has_room()
            && !tools.copies.is_holding()
        {
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
        start: Lsn,
        sent_at: crate::lsn::PgMicros,
        payload: &[u8],
        tools: &mut Tools<'_>,
        burst: &mut Burst,
    ) -> Result<(), RowsError> {
        // The clock is read only up to the first row of the burst.
        let clock = burst.measured.is_none().then(Instant::now);
        let message = pgoutput::decode(payload)?;
        if let Some(need) = message_need(&self.messages, &message) {
            self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
            burst.need = Some(need);
            return Ok(());
        }
        let begun = match message {
            pgoutput::Message::Begin { final_lsn, committed_at, xid } => {
                Some((final_lsn, committed_at, xid))
            }
            _ => None,
        };
        if begun.is_some() && matches!(self.auxiliary.transactions, Planned::Unplanned) {
            self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
            burst.need = Some(Need::Transactions);
            return Ok(());
        }
        let Rows {
            changes,
            encoder,
            relations,
            messages,
            auxiliary,
            sent,
            copied,
            raw,
            on_refusal,
            skips,
            left_out_below,
            ..
        } = self;
        match changes.step(start, sent_at, message)? {
            Step::Nothing => {}
            Step::Begin => {
                *sent = false;
                if let Some(begun) = begun {
                    tools.core.begun(begun.0).map_err(RowsError::Halt)?;
                    burst.behind =
                        Some(sent_at.unix_micros().saturating_sub(begun.1.unix_micros()));
                    tools.copies.began(begun.0);
                    if begun.0 >= *left_out_below {
                        auxiliary.begun(start, begun);
                    }
                }
            }
            Step::Commit(commit) => {
                auxiliary.ended(start, &commit, tools)?;
                tools.core.committed(commit, *sent).map_err(RowsError::Halt)?;
                tools.copies.passed(commit.end);
            }
            // The snapshot of a copy that begins later still has to see the transaction.
            Step::Row(_, context, _)
            | Step::Truncate(_, context)
            | Step::Logical { context, .. }
                if context.position.commit < *left_out_below =>
            {
                tools.copies.emitted(context.xid);
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
                                    held_out(
                                        encoder,
                                        copied,
                                        copy,
                                        &held,
                                        &context,
                                        context.position.commit,
                                        tools,
                                    )?;
                                }
                                tools.copies.emitted(context.xid);
                                *sent = true;
                            }
                            Before::Hold => {
                                changes.take_back();
                                self.parked =
                                    Some(Parked { payload: payload.to_vec(), start, sent_at });
                                return Ok(());
                            }
                        }
                    }
                    if !*sent {
                        tools.copies.emitted(context.xid);
                    }
                    match row_out((encoder, auxiliary), active, &context, &row, tools) {
                        Err(error) => match instead(
                            error,
                            slot,
                            (skips, *on_refusal, raw),
                            &context,
                            &row,
                            tools,
                        )? {
                            None => *sent = true,
                            needed => {
                                changes.take_back();
                                self.parked =
                                    Some(Parked { payload: payload.to_vec(), start, sent_at });
                                burst.need = needed;
                            }
                        },
                        Ok(RowOut::Needs(column)) => {
                            changes.take_back();
                            self.parked =
                                Some(Parked { payload: payload.to_vec(), start, sent_at });
                            burst.need = Some(Need::Nullable(slot, column));
                        }
                        Ok(RowOut::Routes(router, value)) => {
                            changes.take_back();
                            self.parked =
                                Some(Parked { payload: payload.to_vec(), start, sent_at });
                            burst.need = Some(Need::Route(slot, router, value));
                        }
                        Ok(out) => {
                            *sent |= matches!(out, RowOut::Sent);
                            burst.signal = active
                                .signals
                                .and_then(|places| signalled::read(places, &context, &row));
                        }
                    }
                    if let Some((decode, encoding)) = decoded {
                        burst.measured = Some((decode, encoding.elapsed()));
                    }
                }
                // The change is left out. The snapshot of a copy that begins later still has to see
                // it.
                Some(Planned::Excluded) => tools.copies.emitted(context.xid),
                Some(Planned::Detached(quarantine)) if context.position >= quarantine.floor => {
                    quarantine.out(raw, &context, &row, tools)?;
                    *sent = true;
                }
                Some(known @ (Planned::Detached(_) | Planned::Refused)) => {
                    let cause = if matches!(known, Planned::Refused) {
                        Cause::Plan
                    } else {
                        Cause::Recorded
                    };
                    burst.need = Some(Need::Detach(slot, context.position, cause));
                    changes.take_back();
                    self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                }
                Some(Planned::Unplanned) | None => {
                    // pgoutput sends a Relation message first, and the loop plans the relation
                    // before it calls us again.
                    let detail =
                        format!("a row at {} came before its relation was planned", context.lsn);
                    return Err(RowsError::Halt(Halt::new(Reason::RowUnencodable, detail)));
                }
            },
            Step::Truncate(slots, context) => {
                match truncated(
                    (encoder, auxiliary, copied, raw),
                    relations,
                    &slots,
                    context,
                    tools,
                )? {
                    Truncated::Done(out) => *sent |= out,
                    Truncated::Held => {
                        slots.iter().for_each(|_| changes.take_back());
                        self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                    }
                    Truncated::Detach(slot, at, cause) => {
                        slots.iter().for_each(|_| changes.take_back());
                        self.parked = Some(Parked { payload: payload.to_vec(), start, sent_at });
                        burst.need = Some(Need::Detach(slot, at, cause));
                    }
                }
            }
            Step::Logical { context, prefix, content } => {
                if let Planned::Active(active) = &*messages {
                    let routed = message_plan(active, &context, prefix, content)?;
                    let active = routed.as_deref().unwrap_or(active);
                    let counted_as = Rc::clone(&auxiliary.messages);
                    auxiliary.count(encoder, &counted_as);
                    encoder
                        .message(&active.plan, &context, prefix, content, tools.now_unix_nanos)
                        .map_err(|error| unencodable(active, &context, &error))?;
                    if encoder.records().next().is_some() {
                        if context.xid.is_some() {
                            auxiliary.counted(encoder, &counted_as, context.position, tools)?;
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
            Step::Relation(slot, shape, at) => {
                let outside = ChangeError::OutsideTransaction { message: "Relation" };
                // Its Position decides which record it is held against.
                let at = at.ok_or(outside)?;
                burst.need = Some(Need::Relation(slot, shape, at));
            }
        }
        Ok(())
    }
}

/// The result of handling one row.
enum RowOut {
    Sent,
    /// The configuration leaves the row out.
    NotPublished,
    /// The row has NULL in this column, which the catalog has as NOT NULL by now.
    Needs(String),
    /// The row goes to a topic that has no plan yet.
    Routes(Arc<Router>, String),
}

/// Encodes and sends the records of one row.
#[inline]
fn row_out(
    (encoder, auxiliary): (&mut Encoder, &mut AuxiliaryRecords),
    active: &Active,
    context: &Context<'_>,
    row: &Row<'_>,
    tools: &mut Tools<'_>,
) -> Result<RowOut, RowsError> {
    let routed;
    let active = match routed_by(active, context, row)? {
        Ok(None) => active,
        Ok(Some(found)) => {
            routed = found;
            &*routed
        }
        Err(out) => return Ok(out),
    };
    auxiliary.count(encoder, &active.table);
    let written = written(encoder, active, context, row, tools)?;
    if matches!(written, RowOut::Sent) {
        // A change is sent completely or not at all. If it has several records, all their sizes are
        // checked before the first is sent.
        if auxiliary.tells() || encoder.record_count() > 2 {
            encoder.records().try_for_each(|record| {
                fits(encoder, active, context.position, &record).map(drop)
            })?;
        }
        auxiliary.counted(encoder, &active.table, context.position, tools)?;
        records_out(encoder, active, context.position, tools)?;
    }
    Ok(written)
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
        let partition = partition(active, position, &record)?;
        let ticket = tools.core.next_ticket();
        tools.sink.send(
            Address { topic: active.plan.topic(), partition, time: record.time },
            record.key,
            record.value,
            Headers { all: record.headers(), token: record.headers_token() },
            ticket,
        )?;
        tools.core.sent(active.route, position, size_bytes);
        if let Some(uses) = &active.uses {
            uses.note(position);
        }
    }
    Ok(())
}
