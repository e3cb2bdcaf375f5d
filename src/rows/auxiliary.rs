//! Auxiliary records, which belong to no row: the begin and the end of transactions, heartbeats,
//! and notices.
//!
//! The begin of a transaction is sent before its first event. A transaction without events has no
//! records, and the ledger treats it like a keepalive. A replay sends the same records, with the
//! same ids and counts.

use super::records::Records;
use super::refusals::RECORD_FRAMING_BYTES;
use super::{Rows, RowsError, Tools};
use crate::change::{Committed, Position};
use crate::encode::{Counted, Mark, Notice};
use crate::lsn::{Lsn, PgMicros, Xid};
use crate::plans::{Active, Planned};
use std::rc::Rc;

/// What the row path keeps for auxiliary records during one connection.
pub(super) struct AuxiliaryRecords {
    records: Records,
    /// The name under which logical messages are counted. Rows are counted under the name of their
    /// table.
    pub messages: Rc<str>,
    /// Plan of transaction records. `Excluded` if they are not sent.
    pub transactions: Planned,
    pub heartbeats: Planned,
    pub notices: Planned,
    open: Option<Open>,
}

/// The open transaction, with the events that it has sent so far.
struct Open {
    mark: Mark,
    /// True if the begin record of the transaction was sent.
    told: bool,
    total: u64,
    /// Number of events of each table, in the order of the first events.
    tables: Vec<(Rc<str>, u64)>,
}

impl AuxiliaryRecords {
    /// The state at the begin of a connection: no auxiliary record is planned yet.
    pub fn new() -> Self {
        let (transactions, heartbeats, notices) = <(Planned, Planned, Planned)>::default();
        AuxiliaryRecords {
            records: Records::default(),
            messages: "message".into(),
            transactions,
            heartbeats,
            notices,
            open: None,
        }
    }

    /// Notes that a transaction begins. `lsn` is the position of its begin message.
    pub fn begun(&mut self, lsn: Lsn, (final_lsn, committed_at, xid): (Lsn, PgMicros, Xid)) {
        if matches!(self.transactions, Planned::Active(_)) {
            let position = Position { commit: final_lsn, ordinal: 0 };
            let mark = Mark { position, lsn, xid, committed_at };
            self.open = Some(Open { mark, told: false, total: 0, tables: Vec::new() });
        }
    }

    /// True once it is known whether transactions have records.
    pub fn is_planned(&self) -> bool {
        !matches!(self.transactions, Planned::Unplanned)
    }

    /// Tells the encoder how many events of the transaction, and of this table in it, have been
    /// sent. The records of the next row are numbered from there.
    #[inline]
    pub fn count(&self, records: &mut Records, table: &Rc<str>) {
        let Some(open) = &self.open else { return };
        let of_table = open
            .tables
            .iter()
            .find(|(known, _)| same(known, table))
            .map_or(0, |(_, events)| *events);
        records.encoder.count_from(Counted { total: open.total, of_table });
    }

    /// Reads from the encoder how many events the transaction has with those of this row, before
    /// the records of the row are sent. If the begin record of the transaction was not sent yet,
    /// the function sends it.
    #[inline]
    pub fn counted(
        &mut self,
        records: &Records,
        table: &Rc<str>,
        position: Position,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let (Some(open), Planned::Active(active)) = (&mut self.open, &self.transactions) else {
            return Ok(());
        };
        let counted = records.encoder.counted();
        open.total = counted.total;
        match open.tables.iter_mut().find(|(known, _)| same(known, table)) {
            Some((_, events)) => *events = counted.of_table,
            None => open.tables.push((Rc::clone(table), counted.of_table)),
        }
        open.mark.position = position;
        if !open.told {
            open.told = true;
            self.records.encoder.transaction_begins(&active.plan, open.mark);
            self.records.check_and_send(active, position, tools)?;
        }
        Ok(())
    }

    /// Sends the end record of the transaction, if its begin record was sent. `lsn` is the position
    /// of the commit message.
    pub fn ended(
        &mut self,
        lsn: Lsn,
        commit: &Committed,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let Some(open) = self.open.take().filter(|open| open.told) else { return Ok(()) };
        let Planned::Active(active) = &self.transactions else { return Ok(()) };
        let last = open.mark.position;
        let position = Position { ordinal: last.ordinal + 1, ..last };
        let mark = Mark { position, lsn, committed_at: commit.at, ..open.mark };
        let tables: Vec<(&str, u64)> =
            open.tables.iter().map(|(table, events)| (&**table, *events)).collect();
        self.records.encoder.transaction_ends(&active.plan, mark, &tables);
        self.records.check_and_send(active, position, tools)
    }

    /// Sends a heartbeat. Returns false if the plan of heartbeats is missing.
    pub fn beat(&mut self, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        let Planned::Active(active) = &self.heartbeats else { return Ok(false) };
        self.records.encoder.heartbeat(&active.plan, tools.now_unix_nanos);
        // A heartbeat has no Position of its own, so two heartbeats that can never be delivered
        // count as the same failed record. Every heartbeat goes to partition 0.
        let active = Active { partitions: Some(1), ..active.clone() };
        self.records.check_and_send(&active, Position::default(), tools)?;
        Ok(true)
    }

    /// Sends a notice. Returns false if its plan is missing, or if the notice is too large for the
    /// topic.
    pub fn tell(&mut self, notice: &Notice, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        let Planned::Active(active) = &self.notices else { return Ok(false) };
        self.records.encoder.notice(&active.plan, notice);
        if self.records.size_bytes() + RECORD_FRAMING_BYTES > active.record_bytes_max {
            // A row that is too large halts the stream. A notice may be left out, because nothing
            // depends on it.
            return Ok(false);
        }
        self.records.check_and_send(active, Position::default(), tools)?;
        Ok(true)
    }
}

impl Rows {
    /// Stores the plan of transaction records.
    pub fn transactions_planned(&mut self, planned: Planned) {
        self.output.auxiliary.transactions = planned;
    }

    /// Stores the plan of heartbeats.
    pub fn heartbeats_planned(&mut self, planned: Planned) {
        self.output.auxiliary.heartbeats = planned;
    }

    /// Stores the plan of notices.
    pub fn notices_planned(&mut self, planned: Planned) {
        self.output.auxiliary.notices = planned;
    }

    /// True if notices can be sent.
    #[must_use]
    pub fn can_tell(&self) -> bool {
        matches!(self.output.auxiliary.notices, Planned::Active(_))
    }

    /// Sends a notice as one record. Call it only if [`Rows::can_tell`] is true. Returns false if
    /// the notice is too large for the topic.
    ///
    /// # Errors
    /// The error of the producer.
    pub fn tell(&mut self, notice: &Notice, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        self.output.auxiliary.tell(notice, tools)
    }

    /// Sends a heartbeat. Returns false if the plan of heartbeats is missing.
    ///
    /// # Errors
    /// The error of the producer.
    pub fn beat(&mut self, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        self.output.auxiliary.beat(tools)
    }
}

/// Compares the names of tables by address first. A table that was planned again has an equal name
/// at another address.
fn same(known: &Rc<str>, table: &Rc<str>) -> bool {
    Rc::ptr_eq(known, table) || known == table
}
