//! Records that are no row's: where a transaction begins and ends, and heartbeats.
//!
//! A transaction is told with its first event: one without events has none, and stays a keepalive to the ledger. A
//! replay tells it again, with the same ids and counts.

use super::refusals::RECORD_FRAMING_BYTES;
use super::{Rows, RowsError, Tools, records_out};
use crate::change::{Committed, Position};
use crate::encode::{Counted, Encoder, Mark, Notice};
use crate::lsn::{Lsn, PgMicros, Xid};
use crate::plans::{Active, Planned};
use std::rc::Rc;

/// The path's memory of them for one connection.
pub(super) struct Beside {
    encoder: Encoder,
    /// What logical messages count as, where a transaction's events are counted by table.
    pub messages: Rc<str>,
    /// `Excluded` where they are not told.
    pub transactions: Planned,
    pub heartbeats: Planned,
    pub notices: Planned,
    open: Option<Open>,
}

/// The open transaction.
struct Open {
    mark: Mark,
    /// Whether its begin was sent.
    told: bool,
    total: u64,
    /// Events by table, in the order of their first.
    tables: Vec<(Rc<str>, u64)>,
}

impl Beside {
    /// Nothing is planned.
    pub fn new() -> Self {
        let (transactions, heartbeats, notices) = <(Planned, Planned, Planned)>::default();
        Beside { encoder: Encoder::new(), messages: "message".into(), transactions, heartbeats, notices, open: None }
    }

    /// A transaction begins, at `lsn` in the log.
    pub fn begun(&mut self, lsn: Lsn, (final_lsn, committed_at, xid): (Lsn, PgMicros, Xid)) {
        if matches!(self.transactions, Planned::Active(_)) {
            let position = Position { commit: final_lsn, ordinal: 0 };
            let mark = Mark { position, lsn, xid, committed_at };
            self.open = Some(Open { mark, told: false, total: 0, tables: Vec::new() });
        }
    }

    /// Whether an event may be told of in a record before it.
    pub fn tells(&self) -> bool {
        self.open.is_some()
    }

    /// Hands the encoder the count that the next row of a table begins with.
    pub fn count(&self, encoder: &mut Encoder, table: &Rc<str>) {
        let Some(open) = &self.open else { return };
        let of_table = open.tables.iter().find(|(known, _)| same(known, table)).map_or(0, |(_, events)| *events);
        encoder.count_from(Counted { total: open.total, of_table });
    }

    /// Takes the encoder's count after a row that has records, and tells the transaction if it is its first.
    pub fn counted(
        &mut self,
        encoder: &Encoder,
        table: &Rc<str>,
        position: Position,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let (Some(open), Planned::Active(active)) = (&mut self.open, &self.transactions) else { return Ok(()) };
        let counted = encoder.counted();
        open.total = counted.total;
        match open.tables.iter_mut().find(|(known, _)| same(known, table)) {
            Some((_, events)) => *events = counted.of_table,
            None => open.tables.push((Rc::clone(table), counted.of_table)),
        }
        open.mark.position = position;
        if !open.told {
            open.told = true;
            self.encoder.transaction_begins(&active.plan, open.mark);
            records_out(&self.encoder, active, position, tools)?;
        }
        Ok(())
    }

    /// The transaction ends, at `lsn` in the log.
    pub fn ended(&mut self, lsn: Lsn, commit: &Committed, tools: &mut Tools<'_>) -> Result<(), RowsError> {
        let Some(open) = self.open.take().filter(|open| open.told) else { return Ok(()) };
        let Planned::Active(active) = &self.transactions else { return Ok(()) };
        let last = open.mark.position;
        let position = Position { ordinal: last.ordinal + 1, ..last };
        let mark = Mark { position, lsn, committed_at: commit.at, ..open.mark };
        let tables: Vec<(&str, u64)> = open.tables.iter().map(|(table, events)| (&**table, *events)).collect();
        self.encoder.transaction_ends(&active.plan, mark, &tables);
        records_out(&self.encoder, active, position, tools)
    }

    /// Sends a heartbeat; false where its plan is not there yet.
    pub fn beat(&mut self, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        let Planned::Active(active) = &self.heartbeats else { return Ok(false) };
        self.encoder.heartbeat(&active.plan, tools.now_unix_nanos);
        // Beside the stream it has no position; two that fail for good are one record that does.
        records_out(&self.encoder, &Active { partitions: 1, ..active.clone() }, Position::default(), tools)?;
        Ok(true)
    }

    /// Sends a notice; false where its plan is not there yet, or the topic takes no record of its size.
    pub fn tell(&mut self, notice: &Notice, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        let Planned::Active(active) = &self.notices else { return Ok(false) };
        self.encoder.notice(&active.plan, notice);
        let size_bytes: usize = self.encoder.records().map(|record| record.size_bytes()).sum();
        if size_bytes + RECORD_FRAMING_BYTES > active.record_bytes_max {
            return Ok(false); // a row that is too large halts; nothing waits for a notice
        }
        records_out(&self.encoder, active, Position::default(), tools)?;
        Ok(true)
    }
}

impl Rows {
    /// The plan of transactions has come, or they are not told.
    pub fn transactions_planned(&mut self, planned: Planned) {
        self.beside.transactions = planned;
    }

    /// The plan of heartbeats has come.
    pub fn heartbeats_planned(&mut self, planned: Planned) {
        self.beside.heartbeats = planned;
    }

    /// The plan of notices has come.
    pub fn notices_planned(&mut self, planned: Planned) {
        self.beside.notices = planned;
    }

    /// Whether notices can be sent.
    #[must_use]
    pub fn can_tell(&self) -> bool {
        matches!(self.beside.notices, Planned::Active(_))
    }

    /// Sends a notice, once [`Rows::can_tell`], as one record; false where the topic takes none of its size.
    ///
    /// # Errors
    /// The producer's.
    pub fn tell(&mut self, notice: &Notice, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        self.beside.tell(notice, tools)
    }

    /// Sends a heartbeat; false where its plan is not there yet.
    ///
    /// # Errors
    /// The producer's.
    pub fn beat(&mut self, tools: &mut Tools<'_>) -> Result<bool, RowsError> {
        self.beside.beat(tools)
    }
}

/// Tables are told apart by where their names lie; a table planned anew has the same name elsewhere.
fn same(known: &Rc<str>, table: &Rc<str>) -> bool {
    Rc::ptr_eq(known, table) || known == table
}
