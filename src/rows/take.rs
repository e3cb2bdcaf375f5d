//! The second phase of the row path: a message that a look found ready is taken. Its records are
//! sent, and the core, the ledger and the copies note it. Nothing here waits or is undone: an error
//! ends the connection.

use super::auxiliary::AuxiliaryRecords;
use super::held::CopiedRows;
use super::look::{Published, QuarantinedRow, ReadyRow, SkippedRow};
use super::records::Records;
use super::{Burst, RowsError, Tools, signalled};
use crate::change::{Committed, Context, Position, Row};
use crate::lsn::{Lsn, PgMicros, Xid};
use crate::plans::Active;
use crate::snapshot::window::Before;
use std::time::{Duration, Instant};

/// The buffers in which the row path makes records before it sends them.
pub(super) struct Output {
    /// Records of the change that is looked at or taken.
    pub records: Records,
    /// Transaction records, heartbeats and notices.
    pub auxiliary: AuxiliaryRecords,
    /// Buffers for copied rows of backfills and standstills.
    pub copied: CopiedRows,
    /// Buffer in which changes for the quarantine are written.
    pub raw: Vec<u8>,
    /// True if the open transaction has sent a record.
    pub sent: bool,
}

/// What an XLogData frame says about its message.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Start of the WAL record that the message comes from.
    pub start: Lsn,
    /// When the server sent the frame.
    pub sent_at: PgMicros,
}

impl Output {
    /// Handles the begin of a transaction: notes it in the core and for the copies. Notes it also
    /// for its begin record, unless `left_out` says that the changes of the transaction are left
    /// out.
    pub fn begin(
        &mut self,
        head: Head,
        begun: (Lsn, PgMicros, Xid),
        left_out: bool,
        tools: &mut Tools<'_>,
        burst: &mut Burst,
    ) -> Result<(), RowsError> {
        let (final_lsn, committed_at, _) = begun;
        self.sent = false;
        tools.core.begun(final_lsn).map_err(RowsError::Halt)?;
        burst.behind = Some(head.sent_at.unix_micros().saturating_sub(committed_at.unix_micros()));
        tools.copies.began(final_lsn);
        if !left_out {
            self.auxiliary.begun(head.start, begun);
        }
        Ok(())
    }

    /// Handles the end of a transaction: sends its end record if it has one, and notes the commit.
    pub fn commit(
        &mut self,
        head: Head,
        commit: Committed,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        self.auxiliary.ended(head.start, &commit, tools)?;
        tools.core.committed(commit, self.sent).map_err(RowsError::Halt)?;
        tools.copies.passed(commit.end);
        Ok(())
    }

    /// Takes a row: sends the copied rows that come before it, the begin of its transaction, and
    /// its records. `decoded` is how long decoding took and when it ended, for the first row of a
    /// burst.
    #[inline]
    pub fn row(
        &mut self,
        ready: &ReadyRow<'_>,
        (context, row): (&Context<'_>, &Row<'_>),
        decoded: Option<(Duration, Instant)>,
        tools: &mut Tools<'_>,
        burst: &mut Burst,
    ) -> Result<(), RowsError> {
        let ready = match ready {
            ReadyRow::Planned(ready) => ready,
            // A chunk or a copy that is read later needs a snapshot that sees this transaction.
            ReadyRow::LeftOut => {
                tools.copies.emitted(context.xid);
                return Ok(());
            }
            ReadyRow::Quarantined(ready) => {
                return self.quarantined(ready, (context, row), tools);
            }
        };
        self.copied_before(ready.copy, ready.table, (context, row), tools)?;
        if !self.sent {
            tools.copies.emitted(context.xid);
        }
        match ready.published {
            Published::Yes => {
                let active = ready.active();
                self.records.count(active, row);
                self.auxiliary.counted(&self.records, &active.table, context.position, tools)?;
                self.records.send(active, context.position, tools)?;
                self.sent = true;
            }
            Published::No => ready.table.count_filtered(row),
            Published::UnexpectedUpdate => unexpected(ready.table, context.position),
        }
        burst.signal = ready.table.signals.and_then(|places| signalled::read(places, context, row));
        if let Some((decode, encoding)) = decoded {
            burst.measured = Some((decode, encoding.elapsed()));
        }
        Ok(())
    }

    /// Sends the copied rows that have to come before this change of their table.
    #[inline]
    pub fn copied_before(
        &mut self,
        copy: Option<usize>,
        table: &Active,
        (context, row): (&Context<'_>, &Row<'_>),
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let Some(copy) = copy else { return Ok(()) };
        match tools.copies.before(copy, table, context, row) {
            Before::Nothing => Ok(()),
            Before::Rows(rows) => {
                for held in rows {
                    self.copied.held(copy, &held, context, context.position.commit, tools)?;
                }
                tools.copies.emitted(context.xid);
                self.sent = true;
                Ok(())
            }
            Before::Hold => unreachable!("the look has asked whether the change has to wait"),
        }
    }

    /// Sends a row to the quarantine topic. Copied rows that have to come before a skipped row are
    /// sent first.
    #[cold]
    fn quarantined(
        &mut self,
        ready: &QuarantinedRow<'_>,
        (context, row): (&Context<'_>, &Row<'_>),
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        if let Some(SkippedRow { detail, table, copy }) = &ready.skipped {
            self.copied_before(*copy, table, (context, row), tools)?;
            let Position { commit, ordinal } = context.position;
            tracing::warn!(
                table = %table.table, %commit, ordinal,
                "skipped, as an operator consented to: {detail}"
            );
        }
        ready.topic.out(&mut self.raw, context, row, tools)?;
        self.sent = true;
        Ok(())
    }
}

/// Logs that a row of an outbox was updated, which makes no event.
#[cold]
fn unexpected(table: &Active, position: Position) {
    let Position { commit, ordinal } = position;
    tracing::warn!(
        table = %table.table, %commit, ordinal,
        "an update of an outbox row was not sent: only inserted rows are events"
    );
}
