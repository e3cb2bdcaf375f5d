//! The records of one change, in three steps: they are encoded, checked, and sent. Only the last
//! step changes anything outside of this buffer, and nothing is sent that was not checked.

use super::refusals::{RECORD_FRAMING_BYTES, partition, too_large};
use super::{RowsError, Tools};
use crate::change::{Context, Position, Row};
use crate::core::Core;
use crate::encode::{EncodeError, Encoder};
use crate::kafka::{Address, Headers};
use crate::metrics::Operation;
use crate::plans::Active;

/// Buffer for the records of one change. It is used again for the next change.
#[derive(Default)]
pub struct Records {
    pub(super) encoder: Encoder,
    /// The partition and the size that the check has found for each record. Empty once the records
    /// are sent.
    checked: Vec<Checked>,
}

/// The partition and the size of one record that has passed the check.
struct Checked {
    partition: i32,
    size_bytes: usize,
}

impl Records {
    /// Encodes a row. Its records replace those of the previous change in this buffer.
    ///
    /// # Errors
    /// The row cannot be encoded by the plan.
    #[inline]
    pub fn encode(
        &mut self,
        active: &Active,
        context: &Context<'_>,
        row: &Row<'_>,
        now_unix_nanos: i64,
    ) -> Result<(), EncodeError> {
        self.checked.clear();
        self.encoder.row(&active.plan, context, row, now_unix_nanos)
    }

    /// Encodes a logical message. Its record replaces those of the previous change in this buffer.
    ///
    /// # Errors
    /// The content cannot be encoded by the plan.
    pub(super) fn encode_message(
        &mut self,
        active: &Active,
        context: &Context<'_>,
        (prefix, content): (&str, &[u8]),
        now_unix_nanos: i64,
    ) -> Result<(), EncodeError> {
        self.checked.clear();
        self.encoder.message(&active.plan, context, prefix, content, now_unix_nanos)
    }

    /// True if the configuration leaves the change out, so that it has no records.
    pub fn is_empty(&self) -> bool {
        self.encoder.record_count() == 0
    }

    /// Finds the partition of each record, and checks that each fits its topic. A change is sent
    /// completely or not at all, so that all its records are checked before the first is sent.
    ///
    /// # Errors
    /// A record cannot be sent, or Kafka has refused the change before.
    #[inline]
    pub fn check(
        &mut self,
        active: &Active,
        position: Position,
        core: &Core,
    ) -> Result<(), RowsError> {
        if let Some(halt) = core.blocks(position) {
            return Err(RowsError::Halt(halt.clone()));
        }
        self.checked.clear();
        for record in self.encoder.records() {
            let size_bytes = record.size_bytes();
            if size_bytes + RECORD_FRAMING_BYTES > active.record_bytes_max {
                return Err(too_large(&self.encoder, active, position, &record));
            }
            let partition = partition(active, position, &record)?;
            self.checked.push(Checked { partition, size_bytes });
        }
        Ok(())
    }

    /// Hands the records to the producer. Call it once after [`Records::check`].
    ///
    /// # Errors
    /// The error of the producer.
    #[inline]
    pub fn send(
        &mut self,
        active: &Active,
        position: Position,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let checked = self.checked.len();
        assert_eq!(checked, self.encoder.record_count(), "every record is checked, and sent once");
        for (record, checked) in self.encoder.records().zip(self.checked.drain(..)) {
            let ticket = tools.core.next_ticket();
            tools.sink.send(
                Address {
                    topic: active.plan.topic(),
                    partition: checked.partition,
                    time: record.time,
                },
                record.key,
                record.value,
                Headers { all: record.headers(), token: record.headers_token() },
                ticket,
            )?;
            tools.core.sent(active.route, position, checked.size_bytes);
            if let Some(uses) = &active.uses {
                uses.note(position);
            }
        }
        Ok(())
    }

    /// Checks the records and sends them. This serves auxiliary records, which belong to no table
    /// that could be refused.
    ///
    /// # Errors
    /// See [`Records::check`] and [`Records::send`].
    pub(super) fn check_and_send(
        &mut self,
        active: &Active,
        position: Position,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        self.check(active, position, tools.core)?;
        self.send(active, position, tools)
    }

    /// Counts the encoded row in the metrics of its table.
    #[inline]
    pub fn count(&self, active: &Active, row: &Row<'_>) {
        let (operation, bytes) = match row {
            Row::Insert { new } => (Operation::Insert, new.size_bytes()),
            Row::Update { new, .. } => (Operation::Update, new.size_bytes()),
            Row::Delete { old } => (Operation::Delete, old.tuple().size_bytes()),
            Row::Read { new } => (Operation::Read, new.size_bytes()),
            Row::Truncate => (Operation::Truncate, 0),
        };
        active.metrics.count(operation, 1, bytes as u64);
        self.count_notes(active);
    }

    /// Counts the values of the row that the encoder wrote in a less exact form, for the records or
    /// for the condition that dropped them.
    #[inline]
    pub fn count_notes(&self, active: &Active) {
        active.count_notes(&self.encoder);
    }

    /// Bytes of all records.
    pub(super) fn size_bytes(&self) -> usize {
        self.encoder.records().map(|record| record.size_bytes()).sum()
    }
}
