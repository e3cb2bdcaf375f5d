//! How a stream comes to a halt. The changes before the halt are delivered and confirmed. The halt
//! is recorded before the slot is released, so the replica that takes the slot next finds the halt.
//! Both have a deadline.

use super::{Action, Core, Rule, Session};
use crate::continuity::{Halt, Proof};

impl Core {
    /// Begins a halt. An open stream delivers the changes before the halt first; otherwise the halt
    /// begins at once. If several halts are reported, the first one counts.
    pub(super) fn halt(&mut self, halt: Halt, actions: &mut Vec<Action>) {
        match self.session {
            Session::Halted(_) | Session::Stopped | Session::Draining { .. } => {}
            Session::Streaming => self.drain(halt, actions),
            Session::Closed { .. } | Session::Opening | Session::Recording(_) => {
                self.record_unseen(&halt, actions);
                self.enter_halt(halt, actions);
            }
        }
    }

    /// Enters the halt: from here on nothing more is read, produced or confirmed.
    pub(super) fn enter_halt(&mut self, halt: Halt, actions: &mut Vec<Action>) {
        actions.push(Action::Close);
        self.end_producer(false, actions);
        self.session = Session::Halted(halt);
        self.checkpoints.writing = None;
    }

    /// Delivers and confirms the changes before the halting change, while the halt is being
    /// recorded. Both must finish by the deadline of the drain: a state topic that cannot be
    /// written must not hold the slot for ever.
    pub(super) fn drain(&mut self, halt: Halt, actions: &mut Vec<Action>) {
        self.checkpoints.halt_unrecorded = self.rules.keep(Rule::HaltIsRecordedFirst);
        actions.push(Action::RecordHalt(Box::new(halt.clone())));
        self.session =
            Session::Draining { halt, until: self.now.plus(self.settings.stop_patience) };
    }

    /// Records a halt that was found while no stream was open, if a later connect could miss its
    /// cause and no record of the halt exists yet.
    pub(super) fn record_unseen(&mut self, halt: &Halt, actions: &mut Vec<Action>) {
        if halt.recorded.is_none() && halt.reason.lifting().proof == Proof::Once {
            self.checkpoints.halt_unrecorded = true;
            actions.push(Action::RecordHalt(Box::new(halt.clone())));
        }
    }

    /// Notes that the state topic holds the halt. Status shows the recorded form from now on.
    pub(super) fn halt_recorded(&mut self, recorded: Halt) {
        self.checkpoints.halt_unrecorded = false;
        if let Session::Draining { halt, .. } | Session::Halted(halt) = &mut self.session {
            *halt = recorded;
        }
    }

    /// True if nothing more is read, produced or confirmed. A halt that is still draining does not
    /// count.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.session, Session::Halted(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Committed, Position};
    use crate::continuity::checkpoint::{Checkpoint, sample};
    use crate::continuity::{Reason, Resume};
    use crate::core::{Event, LastStop, Moment, Opened, Outcome, Report, SECOND, Settings};
    use crate::ledger::RouteId;
    use crate::lsn::{Lsn, PgMicros, Xid};

    const NOW: Moment = Moment(SECOND);
    const PATIENCE: u64 = 5 * SECOND;

    fn open(core: &mut Core) {
        let record = Checkpoint {
            confirmed: Lsn::new(1000),
            sent: Lsn::new(1000),
            clean: false,
            ..sample()
        };
        let opened = Opened {
            resume: Resume::at_slot(Lsn::new(1000), None),
            slot_confirmed: Lsn::new(1000),
            record,
            last_stop: LastStop::Clean,
            unix_ms: 0,
            ends: Vec::new(),
        };
        core.apply(core.now.plus(SECOND), Event::Opened(Box::new(opened)));
        core.apply(core.now, Event::RecordWritten);
        assert!(core.is_streaming());
    }

    fn streaming() -> Core {
        let settings = Settings {
            status_interval: 10 * SECOND,
            hold: 0,
            freeze: 60 * SECOND,
            budget_bytes: 1 << 20,
            stop_patience: PATIENCE,
            seed: 1,
        };
        let mut core = Core::new(settings, NOW);
        core.apply(NOW, Event::Tick);
        open(&mut core);
        core
    }

    /// Sends one record of a transaction and delivers it at this offset.
    fn delivered(core: &mut Core, commit: u64, offset: i64) -> Vec<Action> {
        let ticket = core.next_ticket();
        core.sent(RouteId(0), Position { commit: Lsn::new(commit), ordinal: 0 }, 10);
        core.committed(Committed { end: Lsn::new(commit + 8), xid: Xid(1), at: PgMicros(0) }, true)
            .unwrap();
        let outcome = Outcome::Landed { partition: 0, offset };
        core.reports(core.now, &[Report { ticket, generation: core.generation(), outcome }])
    }

    fn halt() -> Halt {
        Halt::new(Reason::RowUnencodable, "why")
    }

    fn recorded(actions: &[Action]) -> Option<Halt> {
        actions.iter().find_map(|action| match action {
            Action::RecordHalt(halt) => Some((**halt).clone()),
            _ => None,
        })
    }

    #[test]
    fn the_slot_is_held_until_the_halt_is_recorded() {
        let mut core = streaming();
        let actions = core.apply(core.now, Event::Halt(halt()));
        assert_eq!((recorded(&actions), actions.contains(&Action::Close)), (Some(halt()), false));
        assert!(
            core.apply(core.now.plus(SECOND), Event::Tick)
                .iter()
                .all(|action| *action != Action::Close)
        );
        let told = Halt { detail: "why (recorded)".to_owned(), ..halt() };
        let actions = core.apply(core.now, Event::HaltRecorded(Box::new(told.clone())));
        assert!(actions.contains(&Action::Close) && core.is_halted());
        assert_eq!(core.halted(), Some(&told));
    }

    #[test]
    fn a_state_that_takes_no_record_holds_the_slot_until_the_deadline() {
        let mut core = streaming();
        core.apply(core.now, Event::Halt(halt()));
        assert!(!core.apply(core.now.plus(PATIENCE - 1), Event::Tick).contains(&Action::Close));
        assert!(core.apply(core.now.plus(1), Event::Tick).contains(&Action::Close));
        assert!(core.is_halted());
    }

    #[test]
    fn what_came_before_a_halt_is_delivered_and_confirmed_first() {
        let mut core = streaming();
        let ticket = core.next_ticket();
        core.sent(RouteId(0), Position { commit: Lsn::new(1010), ordinal: 0 }, 10);
        core.committed(Committed { end: Lsn::new(1020), xid: Xid(1), at: PgMicros(0) }, true)
            .unwrap();
        core.apply(core.now, Event::Halt(halt()));
        assert!(
            !core.apply(core.now, Event::HaltRecorded(Box::new(halt()))).contains(&Action::Close)
        );
        let outcome = Outcome::Landed { partition: 0, offset: 1 };
        let report = Report { ticket, generation: core.generation(), outcome };
        let actions = core.reports(core.now, &[report]);
        assert!(actions.iter().any(
            |action| matches!(action, Action::Write(record) if record.confirmed == Lsn::new(1020))
        ));
        let actions = core.apply(core.now, Event::RecordWritten);
        assert!(actions.iter().any(
            |action| matches!(action, Action::Update(update) if update.flush == Lsn::new(1020))
        ));
        assert!(actions.contains(&Action::Close) && core.is_halted());
    }

    #[test]
    fn offsets_that_went_back_are_recorded_and_forgotten_by_consent() {
        let mut core = streaming();
        delivered(&mut core, 1010, 5);
        let actions = delivered(&mut core, 1030, 3);
        let halt = recorded(&actions).unwrap();
        assert_eq!((halt.reason, halt.route), (Reason::OffsetsWentBack, Some(RouteId(0))));
        core.apply(core.now, Event::HaltRecorded(Box::new(halt)));
        core.apply(core.now.plus(PATIENCE), Event::Tick);
        assert!(core.is_halted());
        core.apply(core.now, Event::Retry);
        open(&mut core);
        assert_eq!(recorded(&delivered(&mut core, 1010, 0)), None);
        assert!(core.is_streaming());
    }
}
