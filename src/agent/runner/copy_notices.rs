//! Turns news of copies into notices, and sends the notices as records at times when rows may be
//! sent, too.

use super::clock::{run_id, unix_nanos};
use super::needs::Place;
use super::{Runner, tools};
use crate::backfill::notices::News;
use crate::initial::Copying;

impl Runner {
    /// Takes the news of copies, and sends the notices that wait.
    pub(super) fn send_notices(&mut self) {
        if !self.backfills.notices.are_wanted() {
            return;
        }
        self.take_copy_news();
        self.backfills.notices.settle(self.core.ledger().oldest());
        if self.backfills.notices.next().is_none() || !self.may_send_notices() {
            return;
        }
        let (Some(live), Some(sink)) = (&mut self.live, &mut self.outlet.sink) else { return };
        if !live.rows.can_tell() {
            let Some(plan_maker) = live.plan_maker.take() else { return };
            self.tasks.planning =
                Some(tokio::spawn(async move { (Place::Notices, plan_maker.notices().await) }));
            return;
        }
        let mut tools = tools(&mut self.core, sink, &mut self.backfills.copies, &self.reporter);
        while (tools.core.has_room() || tools.core.has_room_to_copy(0)) && tools.sink.has_room() {
            let Some(notice) = self.backfills.notices.next() else { return self.end_if_copied() };
            let ticket = tools.core.next_ticket();
            match live.rows.tell(notice, &mut tools) {
                Ok(true) => self.backfills.notices.sent(ticket),
                Ok(false) => {
                    tracing::warn!(
                        kind = notice.kind,
                        "a notification is dropped: its topic takes no record of its size"
                    );
                    drop(self.backfills.notices.give_up());
                }
                Err(error) => return self.broke(error.into()),
            }
        }
    }

    /// Turns the news that copies have noted into notices.
    pub(super) fn take_copy_news(&mut self) {
        let first = self.first_copy.copying.as_mut().map_or_else(Vec::new, Copying::take_news);
        for news in first.into_iter().chain(self.backfills.copies.take_news()) {
            self.note(news);
        }
    }

    /// Turns news of a copy into a notice, if notices are wanted.
    pub(super) fn note(&mut self, news: News) {
        if self.backfills.notices.are_wanted() {
            self.backfills.notices.note(news, run_id(), unix_nanos() / 1_000_000);
        }
    }

    fn may_send_notices(&self) -> bool {
        self.core.is_streaming()
            && !self.core.is_stopping()
            && self.tasks.planning.is_none()
            && self.outlet.smaller_batches.is_none()
            && self.live.as_ref().is_some_and(|live| live.plan_maker.is_some())
    }
}
