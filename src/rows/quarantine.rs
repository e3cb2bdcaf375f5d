//! Changes of a detached table, and skipped changes and messages: they go to the quarantine topic
//! instead of the topic of the table.

use super::logical::Logical;
use super::refusals::RECORD_FRAMING_BYTES;
use super::{RowsError, Tools};
use crate::change::{Context, Row};
use crate::encode::{self, TooLarge};
use crate::kafka::{Address, Headers};
use crate::plans::QuarantineTopic;

/// The most bytes of the text buffer that stay allocated for the next change.
const KEEP_BYTES: usize = 1024 * 1024;

impl QuarantineTopic {
    /// Sends one change to the quarantine topic.
    pub(super) fn out(
        &self,
        text: &mut Vec<u8>,
        context: &Context<'_>,
        row: &Row<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        // The copy that repairs the table needs a snapshot that sees this transaction.
        tools.copies.emitted(context.xid);
        if text.capacity() > KEEP_BYTES {
            text.shrink_to(KEEP_BYTES);
        }
        let key = self.quarantine.key();
        self.quarantine.write(context, row, text);
        let size_bytes = key.len() + text.len();
        if size_bytes + RECORD_FRAMING_BYTES > self.record_bytes_max {
            let why = TooLarge { size_bytes, max_bytes: self.record_bytes_max };
            self.quarantine.write_without_values(context, row, why, text);
        }
        self.text_out(text, context, tools)
    }

    /// Sends one logical message to the quarantine topic.
    pub(super) fn message_out(
        &self,
        text: &mut Vec<u8>,
        message: &Logical<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let Logical { context, prefix, content } = *message;
        tools.copies.emitted(context.xid);
        let key = self.quarantine.key();
        self.quarantine.write_message(context, prefix, Ok(content), text);
        let size_bytes = key.len() + text.len();
        if size_bytes + RECORD_FRAMING_BYTES > self.record_bytes_max {
            let why = TooLarge { size_bytes, max_bytes: self.record_bytes_max };
            self.quarantine.write_message(context, prefix, Err(why), text);
        }
        self.text_out(text, context, tools)
    }

    fn text_out(
        &self,
        text: &[u8],
        context: &Context<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        if let Some(halt) = tools.core.blocks(context.position) {
            return Err(RowsError::Halt(halt.clone()));
        }
        let key = self.quarantine.key();
        let partition = encode::partition(Some(key), &self.table, self.partitions);
        let ticket = tools.core.next_ticket();
        tools.sink.send(
            Address { topic: &self.topic, partition, time: None },
            Some(key),
            Some(text),
            Headers::of(std::iter::empty()),
            ticket,
        )?;
        tools.core.sent(self.route, context.position, key.len() + text.len());
        tools.metrics.quarantined.inc();
        Ok(())
    }
}
