//! The first phase of the row path: a look finds out whether a change can be taken now, and how. A
//! look encodes the records of the change into their buffer and changes nothing else, so that a
//! message that has to wait is looked at again later.

use super::auxiliary::AuxiliaryRecords;
use super::records::Records;
use super::refusals::{Skips, unencodable};
use super::{Burst, Need, RowsError, Tools};
use crate::change::{Context, Position, RelationSlot, Row};
use crate::continuity::detached::{Cause, OnRefusal, Refusal};
use crate::continuity::{Halt, Reason};
use crate::encode::EncodeError;
use crate::lsn::Lsn;
use crate::plans::{Active, Planned, QuarantineTopic, Routed};
use std::rc::Rc;

/// The result of a look.
pub(super) enum Readiness<T> {
    /// The message waits, and is looked at again.
    Waits(Wait),
    /// The message can be sent or left out now. The value says what is done with it.
    Ready(T),
}

/// What a message waits for.
pub(super) enum Wait {
    /// The message waits for something that the loop has to fetch or do.
    Need(Need),
    /// The message waits for a chunk of a backfill that is being read.
    Chunk,
    /// The message waits for the standstill of its table.
    Standstill,
}

/// What is done with a row that waits for nothing.
pub(super) enum ReadyRow<'a> {
    /// Nothing is sent for the row, because its table is not captured.
    LeftOut,
    /// The row belongs to a table with a plan.
    Planned(PlannedRow<'a>),
    /// The row goes to the quarantine topic.
    Quarantined(QuarantinedRow<'a>),
}

/// A row whose records are encoded and checked.
pub(super) struct PlannedRow<'a> {
    /// The plan of the table.
    pub table: &'a Active,
    /// The plan that a value of the row chooses. `None` if the row has the plan of its table.
    pub routed: Option<Rc<Active>>,
    /// Index of the backfill of the table, whose copied rows may have to be sent before this row.
    /// `None` if the table has no backfill.
    pub copy: Option<usize>,
    pub published: Published,
}

impl PlannedRow<'_> {
    /// The plan by which the row is encoded.
    #[inline]
    pub fn active(&self) -> &Active {
        self.routed.as_deref().unwrap_or(self.table)
    }
}

/// Whether a row has records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    Yes,
    /// The configuration leaves the row out.
    No,
    /// A row of an outbox was updated, which makes no event.
    UnexpectedUpdate,
}

/// A row that goes to the quarantine topic.
pub(super) struct QuarantinedRow<'a> {
    pub topic: &'a QuarantineTopic,
    /// Why the row was refused, if an operator has consented to skip it.
    pub skipped: Option<SkippedRow<'a>>,
}

/// A refused row that an operator has consented to skip.
pub(super) struct SkippedRow<'a> {
    /// What is wrong with the row.
    pub detail: String,
    pub table: &'a Active,
    /// Index of the backfill of the table, whose copied rows may have to be sent before this row.
    /// `None` if the table has no backfill.
    pub copy: Option<usize>,
}

/// The plans of relations and of logical messages, and the rules for changes that are left out,
/// refused or skipped. Only the loop changes them.
pub(super) struct RowPlans {
    pub relations: Vec<Planned>,
    /// Plan of logical messages. `Unplanned` until the first message needs it, and `Excluded` if
    /// messages are not sent.
    pub messages: Planned,
    /// Changes of transactions that commit below this position are in Kafka and are left out.
    pub left_out_below: Lsn,
    pub on_refusal: OnRefusal,
    pub skips: Skips,
}

impl<T> Readiness<T> {
    /// Calls `take` if the message is ready, and then returns `None`. If the message is not ready,
    /// the function returns what the message waits for.
    #[inline]
    pub fn then(
        self,
        take: impl FnOnce(T) -> Result<(), RowsError>,
    ) -> Result<Option<Wait>, RowsError> {
        match self {
            Readiness::Waits(wait) => Ok(Some(wait)),
            Readiness::Ready(way) => take(way).map(|()| None),
        }
    }
}

impl Wait {
    /// Tells the loop (by the burst) or the copies what a message waits for.
    #[cold]
    pub fn note(self, tools: &mut Tools<'_>, burst: &mut Burst) {
        match self {
            Wait::Need(need) => burst.need = Some(need),
            Wait::Chunk => tools.copies.hold(),
            Wait::Standstill => tools.copies.stop_before_change(),
        }
    }
}

impl From<Need> for Wait {
    fn from(need: Need) -> Self {
        Wait::Need(need)
    }
}

impl<T> From<Need> for Readiness<T> {
    fn from(need: Need) -> Self {
        Readiness::Waits(need.into())
    }
}

impl RowPlans {
    /// Finds out whether a row can be taken now, and how. A row may have to wait for a plan or for
    /// a copy of its table. Otherwise its records are encoded and checked.
    ///
    /// # Errors
    /// The row cannot be sent, and no consent lets the stream go on without it.
    #[inline]
    pub fn look_at_row(
        &self,
        slot: RelationSlot,
        (context, row): (&Context<'_>, &Row<'_>),
        (records, auxiliary): (&mut Records, &AuxiliaryRecords),
        tools: &Tools<'_>,
    ) -> Result<Readiness<ReadyRow<'_>>, RowsError> {
        let table = match self.relations.get(slot.0) {
            Some(Planned::Active(table)) => table,
            planned => return not_active(planned, slot, context),
        };
        if let Some(wait) = waits_for_copy(slot, context, tools) {
            return Ok(Readiness::Waits(wait));
        }
        let copy = tools.copies.watching(slot);
        let position = context.position;
        let refused = |error| self.refused(error, slot, position, (table, copy));
        let mut ready = PlannedRow { table, routed: None, copy, published: Published::Yes };
        match table.routed(row, context) {
            Ok(Routed::Own) => {}
            Ok(Routed::To(found)) => ready.routed = Some(found),
            Ok(Routed::New(router, value)) => return Ok(Need::Route(slot, router, value).into()),
            Ok(Routed::Nowhere) => ready.published = Published::No,
            Ok(Routed::Unexpected) => ready.published = Published::UnexpectedUpdate,
            Err(error) => return refused(unencodable(table, position, &error)),
        }
        if ready.published == Published::Yes {
            let active = ready.active();
            auxiliary.count(records, &active.table);
            match records.encode(active, context, row, tools.now_unix_nanos) {
                Ok(()) if records.is_empty() => {
                    records.count_notes(active);
                    ready.published = Published::No;
                }
                Ok(()) => {
                    if let Err(error) = records.check(active, position, tools.core) {
                        return refused(error);
                    }
                }
                Err(EncodeError::RequiredNull { column, .. }) => {
                    return Ok(Need::Nullable(slot, column).into());
                }
                Err(error) => return refused(unencodable(active, position, &error)),
            }
        }
        Ok(Readiness::Ready(ReadyRow::Planned(ready)))
    }

    /// Decides what happens to a row that is refused. If an operator skips the row, it goes to the
    /// quarantine. If the configuration allows it, the row waits until its table is detached.
    /// Otherwise the error is returned.
    #[cold]
    fn refused<'a>(
        &'a self,
        error: RowsError,
        slot: RelationSlot,
        position: Position,
        (table, copy): (&'a Active, Option<usize>),
    ) -> Result<Readiness<ReadyRow<'a>>, RowsError> {
        let RowsError::Halt(halt) = error else { return Err(error) };
        if !matches!(halt.reason, Reason::RowUnencodable | Reason::RecordTooLarge) {
            return Err(RowsError::Halt(halt));
        }
        if self.skips.at.contains(&position) {
            let Some(topic) = self.skips.topic(slot) else { return Ok(Need::Skip(slot).into()) };
            let skipped = Some(SkippedRow { detail: halt.detail, table, copy });
            return Ok(Readiness::Ready(ReadyRow::Quarantined(QuarantinedRow { topic, skipped })));
        }
        match self.on_refusal {
            OnRefusal::Stop => Err(RowsError::Halt(halt)),
            OnRefusal::Detach => {
                let refusal = Refusal { reason: halt.reason.code(), detail: halt.detail };
                Ok(Need::Detach(slot, position, Cause::Change(refusal)).into())
            }
        }
    }

    /// Looks at all tables of a truncate: the truncate is taken for all of them at once, or it
    /// waits. Its records have no values that could be refused, so each is encoded only when it is
    /// sent.
    pub fn look_at_truncate(
        &self,
        slots: &[RelationSlot],
        context: &Context<'_>,
        tools: &Tools<'_>,
    ) -> Readiness<()> {
        for (slot, ordinal) in slots.iter().zip(context.position.ordinal..) {
            let position = Position { ordinal, ..context.position };
            let cause = match self.relations.get(slot.0) {
                Some(Planned::Refused) => Cause::Plan,
                Some(Planned::Detached(topic)) if position < topic.floor => Cause::Recorded,
                _ => continue,
            };
            return Need::Detach(*slot, position, cause).into();
        }
        match slots.iter().find_map(|slot| waits_for_copy(*slot, context, tools)) {
            Some(wait) => Readiness::Waits(wait),
            None => Readiness::Ready(()),
        }
    }
}

/// Returns what a change of a table waits for: a standstill of the table, or a chunk of it that is
/// being read. `None` if the change waits for no copy.
#[inline]
fn waits_for_copy(slot: RelationSlot, context: &Context<'_>, tools: &Tools<'_>) -> Option<Wait> {
    if tools.copies.would_stop(slot, context.position.commit) {
        return Some(Wait::Standstill);
    }
    let copy = tools.copies.watching(slot)?;
    tools.copies.would_hold(copy, context.xid).then_some(Wait::Chunk)
}

/// Decides about a row of a table without an active plan: the row is left out, goes to the
/// quarantine, or waits until its table is detached.
fn not_active<'a>(
    planned: Option<&'a Planned>,
    slot: RelationSlot,
    context: &Context<'_>,
) -> Result<Readiness<ReadyRow<'a>>, RowsError> {
    let detach = |cause| Ok(Need::Detach(slot, context.position, cause).into());
    match planned {
        Some(Planned::Excluded) => Ok(Readiness::Ready(ReadyRow::LeftOut)),
        Some(Planned::Detached(topic)) if context.position >= topic.floor => {
            Ok(Readiness::Ready(ReadyRow::Quarantined(QuarantinedRow { topic, skipped: None })))
        }
        Some(Planned::Detached(_)) => detach(Cause::Recorded),
        Some(Planned::Refused) => detach(Cause::Plan),
        // pgoutput sends a Relation message first, and the loop plans the relation before it calls
        // us again.
        Some(Planned::Active(_) | Planned::Unplanned) | None => {
            let detail = format!("a row at {} came before its relation was planned", context.lsn);
            Err(RowsError::Halt(Halt::new(Reason::RowUnencodable, detail)))
        }
    }
}
