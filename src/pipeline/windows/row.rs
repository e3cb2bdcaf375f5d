//! What the row path asks before a change, and tells of what it emits.

use super::{Copies, Held, Stage, tell, touch};
use crate::change::{Context, RelationSlot, Row};
use crate::lsn::{Lsn, Xid};
use crate::pipeline::request::Refused;
use crate::pipeline::rows::Active;
use crate::snapshot::window::{Before, Windows};

impl Copies {
    /// The copy that has to see a relation's changes.
    #[inline]
    #[must_use]
    pub fn watching(&self, slot: RelationSlot) -> Option<usize> {
        self.watched.iter().find(|(watched, _)| *watched == slot).map(|(_, copy)| *copy)
    }

    /// A change is about to be emitted; see [`Windows::before`].
    pub fn before(&mut self, copy: usize, active: &Active, context: &Context<'_>, row: &Row<'_>) -> Before<Held> {
        let Some(windows) = self.list.get_mut(copy).and_then(|copy| copy.windows.as_mut()) else {
            return Before::Nothing;
        };
        let xid = self.unseen.widen(context.xid.unwrap_or_default());
        let answer = touch::ask(windows, xid, context.position.commit, &active.plan, row);
        if matches!(answer, Before::Hold) {
            self.held.get_or_insert(self.now);
        }
        answer
    }

    /// Whether a change of the relation would have to wait; nothing is noted.
    #[must_use]
    pub fn would_hold(&self, copy: usize, xid: Option<Xid>) -> bool {
        let windows = self.list.get(copy).and_then(|copy| copy.windows.as_ref());
        windows.is_some_and(|windows| windows.holds(self.unseen.widen(xid.unwrap_or_default())))
    }

    /// The stream waits before a change.
    pub fn hold(&mut self) {
        self.held.get_or_insert(self.now);
    }

    /// Whether it still waits.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.held.is_some() || self.stands_for_whole()
    }

    /// Changes of a transaction are out, or were passed over.
    #[inline]
    pub fn emitted(&mut self, xid: Option<Xid>) {
        if let Some(xid) = xid {
            self.unseen.emitted(self.unseen.widen(xid));
        }
    }

    /// The stream stands at a position outside of a transaction.
    pub fn passed(&mut self, position: Lsn) {
        self.stands = position;
        self.passed_whole(position);
        for windows in self.list.iter_mut().filter_map(|copy| copy.windows.as_mut()) {
            windows.passed(position);
        }
    }

    /// The same for chunks that were read since: an idle stream has nothing to tell before the next keepalive.
    pub fn passed_already(&mut self) {
        self.passed(self.stands);
    }

    /// Whether rows can be emitted whose position was passed.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.list.iter().filter_map(|copy| copy.windows.as_ref()).any(Windows::has_rest)
    }

    /// The next of them, with its copy.
    pub fn rest(&mut self) -> Option<(usize, Held)> {
        self.list.iter_mut().enumerate().find_map(|(at, copy)| Some((at, copy.windows.as_mut()?.rest()?)))
    }

    /// A number for a copied row's identity.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A row of the copy was emitted.
    pub fn emitted_row(&mut self, copy: usize, size_bytes: usize) {
        if let Some(copy) = self.list.get_mut(copy) {
            copy.bytes += size_bytes as u64;
            let [chunks, whole] = &mut self.totals.rows;
            *(if copy.whole.is_some() { whole } else { chunks }) += 1;
        }
    }

    /// The copy cannot go on; the stream can.
    pub fn fail(&mut self, copy: usize, reason: &str, detail: String, next: String) {
        let Some(at) = self.list.get_mut(copy) else { return };
        tracing::warn!(table = at.name, reason, next, "a copy beside the stream stopped: {detail}");
        if let Some(windows) = &mut at.windows {
            windows.lost();
        }
        if self.whole.as_ref().is_some_and(|under_way| under_way.id == at.id) {
            self.whole = None;
        }
        if let Some(reply) = at.reply.take() {
            reply.send(Err(Refused::Faulty(format!("{detail}: {next}"))));
        }
        at.stage = Stage::Failed(reason.to_owned(), detail, next);
        self.held = None;
        self.tell_scanned(copy, tell::status_of(reason));
        self.tell_if_over(copy);
    }
}
