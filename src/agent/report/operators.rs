//! Collects what operators did: consents from the state, and requests as they are answered.

use super::Reporter;
use crate::continuity::checkpoint::State;
use crate::continuity::{Answer, Granted, WAITING_MAX};
use crate::status::operators::{OperatorAction, OperatorActions};
use tokio::sync::mpsc;

/// Capacity of the channel of answers, which wait there for the next report. The loop takes one
/// request in a turn and reports in each turn, so that only answers to copies and reloads come
/// together. An answer beyond the bound is in the log alone.
const ANSWERED_MAX: usize = 2 * WAITING_MAX;

/// The actions of operators, and the channel on which the answers to requests arrive.
pub(super) struct Operators {
    actions: OperatorActions,
    answered: mpsc::Receiver<OperatorAction>,
    note: mpsc::Sender<OperatorAction>,
}

impl Operators {
    pub fn new() -> Self {
        let (note, answered) = mpsc::channel(ANSWERED_MAX);
        Operators { actions: OperatorActions::default(), answered, note }
    }

    /// The newest actions, newest last.
    pub fn told(&mut self) -> Vec<OperatorAction> {
        while let Ok(action) = self.answered.try_recv() {
            self.actions.add(action);
        }
        self.actions.told()
    }
}

impl Reporter {
    /// Takes the consents and requests that the state holds.
    pub fn consents(&mut self, state: &State) {
        self.operators.actions.read(state, self.status.started_ms);
    }

    /// Makes the function that takes the answer to a request. If the answer says that the request
    /// is carried out, the function notes this as an action of an operator.
    pub fn note_answer(&self, request: &'static str) -> impl FnOnce(&Answer) + use<> {
        let note = self.operators.note.clone();
        move |answer| {
            if let Ok(Granted(done)) = answer {
                let now_ms = crate::agent::runner::unix_nanos() / 1_000_000;
                // Without room in the channel the action is in the log alone.
                let _ = note.try_send(OperatorAction::carried_out(now_ms, request, done));
            }
        }
    }
}
