//! What the row path asks of the copies before a change, and what it reports after sending.

use super::{Copies, Copy, Held, Stage, keys, news};
use crate::change::{Context, RelationSlot, Row};
use crate::continuity::Refused;
use crate::lsn::{Lsn, Xid};
use crate::plans::Active;
use crate::snapshot::journal::Left;
use crate::snapshot::window::{Before, Windows};

impl Copies {
    /// Returns the index of the copy that has to see the changes of this relation. `None` if no
    /// copy has to see them.
    #[inline]
    #[must_use]
    pub fn watching(&self, slot: RelationSlot) -> Option<usize> {
        self.watched.iter().find(|(watched, _)| *watched == slot).map(|(_, copy)| *copy)
    }

    /// Decides what the row path does before it sends a change of the copy's table: nothing,
    /// sending copied rows, or holding the stream; see [`Windows::before`].
    pub fn before(
        &mut self,
        copy: usize,
        active: &Active,
        context: &Context<'_>,
        row: &Row<'_>,
    ) -> Before<Held> {
        let Some(windows) = self.list.get_mut(copy).and_then(|copy| copy.windows.as_mut()) else {
            return Before::Nothing;
        };
        let Some(xid) = context.xid else { unreachable!("a row belongs to a transaction") };
        let xid = self.unseen.widen(xid);
        let answer = keys::ask(windows, xid, context.position.commit, &active.plan, row);
        if matches!(answer, Before::Hold) {
            self.stream.held.get_or_insert(self.now);
        }
        answer
    }

    /// True if a change of the copy's table in this transaction has to wait for a chunk. Unlike
    /// [`Copies::before`], the function notes nothing.
    #[must_use]
    pub fn would_hold(&self, copy: usize, xid: Option<Xid>) -> bool {
        let Some(xid) = xid else { unreachable!("a row belongs to a transaction") };
        let windows = self.list.get(copy).and_then(|copy| copy.windows.as_ref());
        windows.is_some_and(|windows| windows.holds(self.unseen.widen(xid)))
    }

    /// Notes that the row path holds the stream before a change because of a chunk. Further calls
    /// do not change the time since which the stream is held.
    pub fn hold(&mut self) {
        self.stream.held.get_or_insert(self.now);
    }

    /// True while the stream waits for a chunk of a backfill or for a standstill.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.stream.held.is_some() || self.stands_for_standstill()
    }

    /// Notes that changes of a transaction were sent or left out. From now on, the snapshot of a
    /// chunk has to see this transaction as ended.
    #[inline]
    pub fn emitted(&mut self, xid: Option<Xid>) {
        if let Some(xid) = xid {
            self.unseen.emitted(self.unseen.widen(xid));
        }
    }

    /// Notes that the stream has reached this position and is outside of a transaction. Copied rows
    /// of chunks up to this position may then be sent.
    pub fn passed(&mut self, position: Lsn) {
        self.stream.stands = position;
        self.passed_standstill(position);
        for windows in self.list.iter_mut().filter_map(|copy| copy.windows.as_mut()) {
            windows.passed(position);
        }
    }

    /// Notes the last position of the stream again, for chunks that were read since. While the
    /// stream is idle, no new position comes before the next keepalive.
    pub fn passed_already(&mut self) {
        self.passed(self.stream.stands);
    }

    /// True if a copied row may be sent now: the stream is outside of a transaction, it has passed
    /// the position of the chunk, and the previous chunk of the table is delivered and recorded. A
    /// crash then repeats at most one chunk of each table.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.leaves().is_some()
    }

    /// Takes the next copied row that may be sent now, with the index of its copy. `None` if no
    /// copied row may be sent now.
    pub fn rest(&mut self) -> Option<(usize, Held)> {
        let at = self.leaves()?;
        Some((at, self.list.get_mut(at)?.windows.as_mut()?.rest()?))
    }

    /// Index of the first copy that has a row to send. `None` if the stream is inside a
    /// transaction, or if the previous chunk of this copy is not delivered and recorded yet.
    fn leaves(&self) -> Option<usize> {
        if self.stream.open.is_some() {
            return None;
        }
        let at = self
            .list
            .iter()
            .position(|copy| copy.windows.as_ref().is_some_and(Windows::has_rest))?;
        self.list.get(at).is_some_and(Copy::may_leave).then_some(at)
    }

    /// Returns the ordinal for the Position of the next copied row. No ordinal is returned twice.
    pub fn next_serial(&mut self) -> u64 {
        self.numbers.next_serial()
    }

    /// Counts a copied row that was sent, or that the configuration leaves out.
    pub fn emitted_row(&mut self, copy: usize, size_bytes: usize) {
        if let Some(copy) = self.list.get_mut(copy) {
            copy.bytes += size_bytes as u64;
            let [chunks, standstill] = &mut self.totals.rows;
            *(if copy.standstill.is_some() { standstill } else { chunks }) += 1;
        }
    }

    /// Ends a copy as failed. The stream goes on.
    pub fn fail(&mut self, copy: usize, left: Left) {
        let Some(at) = self.list.get_mut(copy) else { return };
        let Left { reason, detail, next } = &left;
        tracing::warn!(table = at.name, reason, next, "the copy of a table failed: {detail}");
        if let Some(windows) = &mut at.windows {
            windows.lost();
        }
        if self.standstill.as_ref().is_some_and(|under_way| under_way.id == at.id) {
            self.standstill = None;
        }
        if let Some(reply) = at.reply.take() {
            reply.send(Err(Refused::Faulty(format!("{detail}: {next}"))));
        }
        let status = news::status_of(&left);
        at.stage = Stage::Failed(left);
        self.stream.held = None;
        self.tell_scanned(copy, status);
        self.tell_if_over(copy);
    }
}

impl Copy {
    /// True if the previous chunk of this copy is delivered and counted in the copy's acknowledged
    /// state record.
    fn may_leave(&self) -> bool {
        let recorded = self.window.journal.chunks <= self.chunks.recorded;
        recorded && self.windows.as_ref().is_some_and(|windows| !windows.is_leaving())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Journal, Shape, TableName};
    use super::*;
    use crate::change::{RelationShape, ShapeColumn, describe};
    use crate::encode::{Config, Format, Ids, Planner};
    use crate::ledger::{RouteId, Ticket};
    use crate::lsn::Oid;
    use crate::metrics::Metrics;
    use crate::snapshot::keyset::RowKey;
    use crate::snapshot::window::What;
    use crate::table::TableFacts;
    use std::rc::Rc;

    fn held() -> Held {
        let column =
            ShapeColumn { name: "id".to_owned(), type_oid: Oid(23), typmod: -1, in_identity: true };
        let (namespace, name, identity) = ("p".to_owned(), "t".to_owned(), b'd');
        let shape = RelationShape { oid: Oid(1), namespace, name, identity, columns: vec![column] };
        let described = describe(
            &shape,
            &TableFacts { primary_key: vec!["id".to_owned()], ..TableFacts::default() },
        );
        let config = Config { format: Format::Json, ..Config::new("p") };
        let plan = Planner::new(config, "db", "run", 1)
            .draft(&described)
            .unwrap()
            .into_plan(Ids::default());
        let active = Active {
            plan: Rc::new(plan),
            metrics: Metrics::new("0").table(&"p.t"),
            table: "p.t".into(),
            route: RouteId(0),
            partitions: Some(1),
            record_bytes_max: 1 << 20,
            compacted: false,
            signals: None,
            uses: None,
            routes: None,
        };
        Held {
            line: b"1".as_slice().into(),
            shape: Rc::new(Shape { active, columns: 1, upto: Lsn::new(100) }),
        }
    }

    /// One copy with two chunks whose positions the stream has passed.
    fn two_chunks() -> Copies {
        let mut copies = Copies::new("s", false);
        copies.begin(&TableName::new("p", "t"), None, false, 0, None);
        copies.written(&copies.unwritten());
        let mut windows = Windows::resume(Journal::default(), Vec::new());
        for key in ["a", "b"] {
            windows.request(What::Beyond(None), false);
            windows.snapshot("10:10:".parse().unwrap()).unwrap();
            let row = (RowKey::new([Some(key.as_bytes())]).unwrap(), held());
            windows.read(Lsn::new(100), vec![row], 1, true);
        }
        copies.list[0].windows = Some(windows);
        copies.passed(Lsn::new(100));
        copies
    }

    #[test]
    fn the_next_chunk_leaves_once_the_one_before_is_delivered_and_recorded() {
        let mut copies = two_chunks();
        assert!(copies.rest().is_some());
        copies.settle(Ticket(2), Ticket(1), Lsn::ZERO);
        assert!(!copies.has_rest(), "the first chunk is not delivered");
        copies.settle(Ticket(2), Ticket(2), Lsn::ZERO);
        assert!(!copies.has_rest(), "it is not recorded");
        let written = copies.unwritten();
        copies.written(&written);
        assert!(copies.has_rest());
        // A new state record that counts no further chunk keeps no row from being sent. Steady
        // writes cause such records, because they move rows to other keys.
        copies.store(0);
        assert!(copies.has_rest());
    }

    #[test]
    fn no_rest_leaves_within_a_transaction() {
        let mut copies = two_chunks();
        copies.began(Lsn::new(120));
        assert!(!copies.has_rest());
        copies.passed(Lsn::new(130));
        assert!(copies.has_rest());
    }
}
