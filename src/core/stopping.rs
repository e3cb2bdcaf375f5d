//! A stop on request: what must be complete before it, and the result that it reports.

use super::{Action, Core, Session, Stopped};

impl Core {
    /// Ends the process after a stop was requested: when everything that was read is delivered and
    /// recorded, or at the deadline. An open transaction is read on for a while before
    /// (`wants_frames`).
    pub(super) fn finish(&mut self, actions: &mut Vec<Action>) {
        let Some(until) = self.control.stop else { return };
        if self.now >= until {
            actions.push(Action::Close);
            self.exit(Stopped::Unanswered, actions);
            return;
        }
        let busy = self.wants_frames() || !self.ledger.is_settled() || self.is_settling();
        if busy || self.checkpoints.writing.is_some() || self.now < self.checkpoints.write_at {
            return;
        }
        // Open holds are stored in the checkpoint. The next start keeps them for the remaining
        // time.
        match self.record_due(true) {
            Some(record) => self.write(record, actions),
            None => {
                // the status update that confirms went out when the checkpoint was acknowledged
                actions.push(Action::Close);
                let stopped = if self.control.copying {
                    Stopped::InCopy
                } else if self.place.in_transaction {
                    Stopped::InTransaction
                } else {
                    Stopped::Whole
                };
                self.exit(stopped, actions);
            }
        }
    }

    /// True if a stop may wait for one more connection: this process has streamed, at most one
    /// connection has failed or broken since the last progress, and half of the stop's patience is
    /// left. Only a new connection can record and confirm the deliveries of the lost one.
    pub(super) fn may_end_whole(&self) -> bool {
        let in_time = self
            .control
            .stop
            .is_some_and(|until| until.since(self.now) >= self.settings.stop_patience / 2);
        self.checkpoints.newest.is_some() && self.retries.attempts <= 1 && in_time
    }

    pub(super) fn exit_unconnected(&mut self, actions: &mut Vec<Action>) {
        let began = self.checkpoints.newest.is_some() || self.is_settling();
        self.exit(if began { Stopped::Unanswered } else { Stopped::NothingSent }, actions);
    }

    pub(super) fn exit(&mut self, stopped: Stopped, actions: &mut Vec<Action>) {
        self.session = Session::Stopped;
        actions.push(Action::Exit(stopped));
    }
}
