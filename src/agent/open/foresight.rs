//! Foresees what a start would do now, by the same rules as a start. Nothing is changed.

use super::{Carried, Next, ServerState, recorded};
use crate::agent::Config;
use crate::agent::supervise::PipelineError;
use crate::continuity::Foresight;
use crate::continuity::halted::Author;

impl ServerState {
    /// Says what a new process would do at its start, if it read this state and this slot.
    pub(in crate::agent) async fn foresee(&self, config: &Config, author: &Author) -> Foresight {
        match recorded::respect(config, author, &self.state).await {
            Err(PipelineError::Halt(halt)) => return Foresight::Halts(halt),
            Ok(recorded::Passed::Try(halted)) => return Foresight::Tries(halted.halt()),
            Ok(recorded::Passed::None | recorded::Passed::Ended) | Err(_) => {}
        }
        let run = author.run.clone();
        let carried = Carried { first: true, run, ..Carried::default() };
        let held = self.slot.as_ref().and_then(|slot| slot.active_pid);
        match (self.next(config, &carried, false), held) {
            (Next::Halt(_) | Next::Anew(_), Some(pid)) => Foresight::Held(pid),
            (Next::Start | Next::FirstStart, _) => Foresight::Streams(self.judge()),
            (Next::Anew(reason), None) => Foresight::Anew(reason),
            (Next::Wait(detail), _) => Foresight::Waits(detail),
            (Next::Halt(halt), None) => Foresight::Halts(halt),
        }
    }
}
