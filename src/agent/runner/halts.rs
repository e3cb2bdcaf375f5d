//! The runner's part in recorded halts. It records a halt, checks whether something has ended the
//! halt, and removes the record after a try that succeeded.

use super::clock::unix_nanos;
use super::{CheckResult, Runner, session};
use crate::agent::Config;
use crate::agent::open::recorded;
use crate::agent::supervise::{Disposition, Exit, PipelineError};
use crate::continuity::checkpoint::Checkpoint;
use crate::continuity::checkpoint::State;
use crate::continuity::halted::{Author, Halted, Standing};
use crate::continuity::{Halt, Reason};
use crate::core::Event;
use crate::plans::keeper::{Keeper, KeeperError};
use std::time::Duration;

/// Pause before a failed write of a halt's record is repeated.
const HALT_RETRY: Duration = Duration::from_secs(1);

/// One check out of this many also judges the halt anew. Each check reads the row of the slot, over
/// a connection of its own, because the lag and the kept WAL of a halted pipeline grow.
const JUDGED_LOOKS: u32 = 3;

/// The try that is under way after a halt, and the deadline of an exit.
#[derive(Default)]
pub(super) struct Halts {
    /// The recorded halt that the open connection tries to get past.
    pub trial: Option<Halted>,
    /// Checks so far of whether a halt is over. The count wraps.
    checks: u32,
    /// Latest time at which `--exit-on-halt` ends the process, even if the record is not written.
    deadline: Option<tokio::time::Instant>,
}

/// The facts about a halt that a check starts from.
struct Known {
    halt: Halt,
    /// Whether the state holds a record of this halt.
    recorded: bool,
    epoch: u64,
    term: Option<u64>,
    /// Whether the server is asked if a connect would still halt.
    judges: bool,
}

impl Runner {
    /// Describes this process for the halts that it records: run id, configuration and version.
    pub(super) fn author(&self) -> Author {
        Author {
            run: self.process.run_id.clone(),
            fingerprint: self.config.fingerprint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Records a halt. A halt that the core found in delivery reports is reported here as well.
    pub(super) fn record_halt(&mut self, mut halt: Halt) {
        if let Some(route) = halt.route {
            // The core found this halt in delivery reports, and nobody has reported it yet.
            let topic = self.outlet.routes.get(route.0 as usize).map_or("?", String::as_str);
            halt.detail = format!("topic {topic}: {}", halt.detail);
            self.reporter.failed(&Disposition::Halt(halt.clone()));
        }
        let term = self.core.record().map_or((0, 0), |record| (record.epoch, record.term));
        self.checks.halts.deadline = Some(tokio::time::Instant::now() + self.config.stop_patience);
        self.checks.halts.trial = None;
        self.write_halt(Some(Halted::new(&halt, &self.author(), term, unix_nanos() / 1_000_000)));
    }

    /// Tells the core that the halt is recorded. `None` means that the record was removed.
    pub(super) fn halt_written(&mut self, halted: Option<&Halted>) {
        if let Some(halted) = halted {
            self.apply(Event::HaltRecorded(Box::new(halted.halt())));
        }
    }

    /// Ends the process at a halt if `--exit-on-halt` is set. The next start has to find the
    /// record. So the end waits for the write of the record, for as long as a stop may take.
    pub(super) fn exit_where_halted(&mut self) {
        let is_late = self
            .checks
            .halts
            .deadline
            .is_none_or(|deadline| tokio::time::Instant::now() >= deadline);
        if self.config.exit_on_halt
            && self.core.is_halted()
            && (self.tasks.halting.is_none() || is_late)
        {
            self.process.exit.get_or_insert(Exit::Halted);
        }
    }

    /// Starts the task that checks whether something has ended the halt. One check out of
    /// [`JUDGED_LOOKS`] also asks Postgres whether a connect would still halt.
    pub(super) fn look_at_halt(&mut self, halt: Halt) {
        let known = Known {
            recorded: halt.recorded.is_some(),
            epoch: halt
                .recorded
                .as_ref()
                .map_or_else(|| self.reporter.epoch(), |recorded| recorded.epoch),
            term: self.core.record().map(|record| record.term),
            halt,
            judges: self.checks.halts.checks.is_multiple_of(JUDGED_LOOKS),
        };
        let (keeper, config, author) = (self.keeper.clone(), self.config.clone(), self.author());
        self.checks.halts.checks = self.checks.halts.checks.wrapping_add(1);
        let check = async move { check_halt(&config, &keeper, &author, &known).await };
        self.tasks.checking = Some(tokio::spawn(check));
    }

    /// Removes the recorded halt if the acknowledged checkpoint covers the change at which the
    /// stream had halted.
    pub(super) fn try_succeeded(&mut self) {
        let delivered = self.core.record().map(|record| (record.epoch, record.delivered));
        let passed =
            self.checks.halts.trial.take_if(|halted| {
                delivered.is_some_and(|(epoch, lsn)| halted.is_passed(epoch, lsn))
            });
        let Some(halted) = passed else { return };
        tracing::info!(
            commit = %halted.at.map(|at| at.commit).unwrap_or_default(),
            "the change at which the stream had halted is delivered; its recorded halt is removed"
        );
        self.write_halt(None);
    }

    /// Starts to write the record of the halt, or to remove it if `halted` is `None`. An earlier
    /// write is stopped first, and a failed write is repeated.
    pub(super) fn write_halt(&mut self, halted: Option<Halted>) {
        let (keeper, slot, before) =
            (self.keeper.clone(), self.config.slot.clone(), self.tasks.halting.take());
        self.tasks.halting = Some(tokio::spawn(async move {
            if let Some(before) = before {
                before.abort(); // The newer value replaces it.
                let _ = before.await;
            }
            let text = halted.as_ref().map(Halted::to_json);
            while let Err(error) = keeper.write(&Halted::key(&slot), text.clone()).await {
                if matches!(error, KeeperError::Gone) {
                    break; // The process is ending.
                }
                tokio::time::sleep(HALT_RETRY).await;
            }
            halted
        }));
    }
}

/// True if another agent has streamed since the halt, or an operator has consented. The halt may be
/// of a later term than the last one of this process, so the higher of both terms counts.
fn has_moved(record: &Checkpoint, known: &Known, halted: Option<&Halted>) -> bool {
    let term = known.term.max(halted.map(|halted| halted.term));
    record.epoch > known.epoch || term.is_some_and(|term| record.term > term)
}

/// Checks once whether the halt is lifted, and reads the row of the slot.
async fn check_halt(
    config: &Config,
    keeper: &Keeper,
    author: &Author,
    known: &Known,
) -> CheckResult {
    let mut lifted = false;
    let mut judged = false;
    let mut read = None;
    if let Ok(state) = keeper
        .read()
        .await
        .map_err(PipelineError::from)
        .and_then(|entries| State::read(&config.slot, &entries).map_err(PipelineError::from))
    {
        let moved = state
            .record
            .as_ref()
            .is_some_and(|record| has_moved(record, known, state.halt.as_ref()));
        lifted = known.halt.reason == Reason::StateUnreadable || moved;
        match recorded::standing(config, author, &state).await {
            None => lifted |= known.recorded,
            Some(Standing::Stands) => {}
            Some(Standing::Judged) => judged = true,
            Some(Standing::Ended | Standing::Try(_)) => lifted = true,
        }
        read = Some(Box::new(state));
    }
    let slot = match () {
        () if lifted => None,
        () if judged && known.judges => match recorded::judged_again(config, keeper).await {
            Ok((slot, halts)) => {
                lifted = !halts;
                slot
            }
            Err(_) => None, // The next check asks again.
        },
        () => session::read_slot(&config.postgres, &config.slot).await,
    };
    CheckResult::Halted { lifted, slot, state: read }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::checkpoint::sample;

    #[test]
    fn only_a_term_after_the_halt_lifts_it_for_an_earlier_one() {
        let author =
            Author { run: "a".to_owned(), fingerprint: String::new(), version: String::new() };
        let halt = Halt::new(Reason::TimelineUnknown, "why");
        let halted = Halted::new(&halt, &author, (1, 4), 0);
        let known = Known { halt, recorded: true, epoch: 1, term: Some(2), judges: false };
        let record = |epoch, term| Checkpoint { epoch, term, ..sample() };
        assert!(!has_moved(&record(1, 4), &known, Some(&halted)), "the term that halted");
        assert!(has_moved(&record(1, 5), &known, Some(&halted)));
        assert!(has_moved(&record(2, 4), &known, Some(&halted)));
        assert!(has_moved(&record(1, 3), &known, None));
        let never = Known { term: None, ..known };
        assert!(!has_moved(&record(1, 5), &never, None), "nothing to compare with");
    }
}
