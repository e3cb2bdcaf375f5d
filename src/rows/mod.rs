//! The row path: it turns the frames of one read into records in the producer, without waiting,
//! without a lookup by name, and without an allocation of ours per row.
//!
//! Each message has two phases. A look finds out what is to be done, and changes nothing
//! ([`look`]). Then the message is taken: its records are sent, and the stream counts as having
//! passed it ([`take`]). A message for which something has to be fetched (such as a plan), or that
//! has to wait for a copy, is kept, and is looked at again at the next call.
//! `docs/internals/rows.md` has the whole way of a row.

mod auxiliary;
mod burst;
mod error;
mod held;
mod logical;
mod look;
mod quarantine;
mod records;
mod refusals;
mod routed;
#[cfg(test)]
mod schedules;
mod signalled;
mod standstill;
mod take;
mod truncates;

use auxiliary::AuxiliaryRecords;
pub use burst::{Burst, Need};
pub use error::RowsError;
use held::CopiedRows;
use logical::Logical;
use look::RowPlans;
pub use records::Records;
use refusals::Skips;
pub use signalled::{Signalled, places as signal_places};
use take::{Head, Output};

use crate::backfill::Copies;
use crate::change::{ChangeError, Changes, Position, RelationSlot, Step};
use crate::continuity::detached::OnRefusal;
use crate::core::Core;
use crate::lsn::{Lsn, Xid};
use crate::metrics::Metrics;
use crate::pgoutput;
use crate::plans::sink::Sink;
use crate::plans::{Planned, QuarantineTopic};
use crate::postgres::{Frame, Stream};
use std::rc::Rc;
use std::time::Instant;

/// What the row path keeps in memory during one connection.
pub struct Rows {
    changes: Changes,
    plans: RowPlans,
    output: Output,
    /// A message that waits. Its bytes are kept, because the stream does not send them again.
    parked: Option<Parked>,
}

struct Parked {
    payload: Vec<u8>,
    head: Head,
}

/// What the row path works with besides its own memory.
pub struct Tools<'a> {
    /// The core, with the ledger, the byte budget and the rules of the loop.
    pub core: &'a mut Core,
    /// The sink that records are sent to.
    pub sink: &'a mut Sink,
    /// The backfills and standstills that watch the stream.
    pub copies: &'a mut Copies,
    /// Processing time of all envelopes of the burst, in nanoseconds since 1970.
    pub now_unix_nanos: i64,
    /// Counts logical messages, quarantined changes, and truncates that are not sent.
    pub metrics: &'a Metrics,
}

impl Rows {
    /// The state of the row path at the begin of a connection. `changes` continues from the
    /// checkpoint.
    #[must_use]
    pub fn new(changes: Changes, on_refusal: OnRefusal) -> Self {
        let output = Output {
            records: Records::default(),
            auxiliary: AuxiliaryRecords::new(),
            copied: CopiedRows::default(),
            raw: Vec::new(),
            sent: false,
        };
        let plans = RowPlans {
            relations: Vec::new(),
            messages: Planned::Unplanned,
            left_out_below: Lsn::ZERO,
            on_refusal,
            skips: Skips::default(),
        };
        Rows { changes, plans, output, parked: None }
    }

    /// Stores the slot's `catalog_xmin`, which events have from now on as `source.xmin`.
    pub fn set_xmin(&mut self, xmin: Option<Xid>) {
        self.changes.set_xmin(xmin);
    }

    /// Leaves out the changes of transactions that commit below `from`. They arrive again if the
    /// server begins below the position at which the connection begins ([`Resume::leaves_out`]).
    ///
    /// [`Resume::leaves_out`]: crate::continuity::Resume::leaves_out
    pub fn leave_out_below(&mut self, from: Lsn) {
        self.plans.left_out_below = from;
    }

    /// Stores the plan of a relation.
    pub fn planned(&mut self, slot: RelationSlot, planned: Planned) {
        if self.plans.relations.len() <= slot.0 {
            self.plans.relations.resize(slot.0 + 1, Planned::Unplanned);
        }
        if let Some(place) = self.plans.relations.get_mut(slot.0) {
            *place = planned;
        }
    }

    /// Marks the change at this Position as skipped: if it is refused, it goes to the quarantine.
    pub fn skip(&mut self, at: Position) {
        self.plans.skips.at.insert(at);
    }

    /// Stores the quarantine topic for skipped changes of a relation.
    pub fn skip_to(&mut self, slot: RelationSlot, quarantine: Rc<QuarantineTopic>) {
        self.plans.skips.ready.push((slot, quarantine));
    }

    /// Stores the quarantine topic for skipped logical messages.
    pub fn skip_messages_to(&mut self, quarantine: Rc<QuarantineTopic>) {
        self.plans.skips.messages = Some(quarantine);
    }

    /// Stores the plan of logical messages.
    pub fn messages_planned(&mut self, planned: Planned) {
        self.plans.messages = planned;
    }

    /// Handles the frames that were read, until none is left, there is no room, or the row path has
    /// to wait for the loop or for a copy.
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
            self.message(parked.head, &parked.payload, tools, &mut burst)?;
        }
        let goes_on = |burst: &Burst| burst.need.is_none() && burst.signal.is_none();
        while self.parked.is_none()
            && goes_on(&burst)
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
                    self.message(Head { start, sent_at }, payload, tools, &mut burst)?;
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

    /// Decodes one message, and sends its records or keeps the message. A message is kept until the
    /// plan or the copy for which it waits is there.
    fn message(
        &mut self,
        head: Head,
        payload: &[u8],
        tools: &mut Tools<'_>,
        burst: &mut Burst,
    ) -> Result<(), RowsError> {
        // The clock is read only up to the first row of the burst.
        let clock = burst.measured.is_none().then(Instant::now);
        let message = pgoutput::decode(payload)?;
        let step = self.changes.look(head.start, head.sent_at, message)?;
        let (plans, output) = (&self.plans, &mut self.output);
        let buffer = (&mut output.records, &output.auxiliary);
        let waits = match &step {
            Step::Begin { .. } if !output.auxiliary.is_planned() => Some(Need::Transactions.into()),
            Step::Begin { final_lsn, committed_at, xid } => {
                let left_out = *final_lsn < plans.left_out_below;
                let begun = (*final_lsn, *committed_at, *xid);
                output.begin(head, begun, left_out, tools, burst).map(|()| None)?
            }
            Step::Commit(commit) => output.commit(head, *commit, tools).map(|()| None)?,
            Step::Relation(slot, relation, at) => {
                // The Position of the relation's next change decides which recorded name and oid
                // count for the relation.
                let at = at.ok_or(ChangeError::OutsideTransaction { message: "Relation" })?;
                burst.need = Some(Need::Relation(*slot, (*relation).into(), at));
                None
            }
            // A chunk or a copy that is read later needs a snapshot that sees this transaction.
            Step::Row(_, context, _)
            | Step::Truncate(_, context)
            | Step::Logical { context, .. }
                if context.position.commit < plans.left_out_below =>
            {
                tools.copies.emitted(context.xid);
                None
            }
            Step::Row(slot, context, row) => {
                let decoded = clock.map(|clock| (clock.elapsed(), Instant::now()));
                let look = plans.look_at_row(*slot, (context, row), buffer, tools)?;
                look.then(|ready| output.row(&ready, (context, row), decoded, tools, burst))?
            }
            Step::Truncate(slots, context) => plans
                .look_at_truncate(slots, context, tools)
                .then(|()| output.truncate(slots, context, &plans.relations, tools))?,
            Step::Logical { context, prefix, content } => {
                let message = Logical { context, prefix, content };
                let look = plans.look_at_message(&message, buffer, tools)?;
                look.then(|ready| output.logical(&ready, &message, tools))?
            }
            Step::Nothing => None,
        };
        match waits {
            None => self.changes.take(&message),
            Some(wait) => {
                self.parked = Some(Parked { payload: payload.to_vec(), head });
                wait.note(tools, burst);
            }
        }
        Ok(())
    }
}
