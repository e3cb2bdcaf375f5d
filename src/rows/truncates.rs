//! Truncates: one statement can name several tables, and each table has a Position of its own.

use super::refusals::unencodable;
use super::take::Output;
use super::{RowsError, Tools};
use crate::change::{Context, RelationSlot, Row};
use crate::encode::EncodeError;
use crate::plans::{Active, Planned, Routed};

impl Output {
    /// Takes a truncate: for each of its tables, sends first the copied rows that have to come
    /// before the truncate, and then its record.
    pub(super) fn truncate(
        &mut self,
        slots: &[RelationSlot],
        context: &Context<'_>,
        relations: &[Planned],
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let mut context = *context;
        tools.copies.emitted(context.xid);
        for slot in slots {
            match relations.get(slot.0) {
                Some(Planned::Active(active)) => {
                    let copy = tools.copies.watching(*slot);
                    self.copied_before(copy, active, (&context, &Row::Truncate), tools)?;
                    self.truncate_of(active, &context, tools)?;
                }
                Some(Planned::Detached(topic)) => {
                    topic.out(&mut self.raw, &context, &Row::Truncate, tools)?;
                    self.sent = true;
                }
                Some(Planned::Excluded | Planned::Unplanned | Planned::Refused) | None => {}
            }
            context.position.ordinal += 1;
        }
        Ok(())
    }

    /// Sends the record of one table. Two kinds of tables get no record: a compacted topic refuses
    /// a record without a key, and where rows name their topic by a value, a truncate has no topic.
    /// The truncate is then counted and logged, except for an outbox table.
    fn truncate_of(
        &mut self,
        active: &Active,
        context: &Context<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        if active.compacted {
            tools.metrics.truncates_not_sent.inc();
            tracing::warn!(
                table = %active.table, topic = active.plan.topic(),
                "a truncate was not sent: the topic is compacted, and the record of a truncate has \
                 no key"
            );
            return Ok(());
        }
        let refused = |error: EncodeError| unencodable(active, context.position, &error);
        let row = Row::Truncate;
        let Routed::Own = active.routed(&row, context).map_err(refused)? else {
            if active.routes.as_ref().is_some_and(|routes| !routes.is_of_events()) {
                tools.metrics.truncates_not_sent.inc();
                tracing::warn!(
                    table = %active.table,
                    "a truncate was not sent: rows of the table name their topics, and a truncate \
                     names none"
                );
            }
            return Ok(());
        };
        self.auxiliary.count(&mut self.records, &active.table);
        let encoded = self.records.encode(active, context, &row, tools.now_unix_nanos);
        encoded.map_err(refused)?;
        if self.records.is_empty() {
            active.count_filtered(&row);
            return Ok(());
        }
        self.records.check(active, context.position, tools.core)?;
        self.records.count(active, &row);
        self.auxiliary.counted(&self.records, &active.table, context.position, tools)?;
        self.records.send(active, context.position, tools)?;
        self.sent = true;
        Ok(())
    }
}
