//! The runner and the recorded halt: a halted agent looks for what ends its halt, and a try that succeeded is noted.

use super::*;
use crate::agent::open::recorded;
use crate::continuity::checkpoint::State;
use crate::continuity::halted::{Author, Halted, Standing};
use crate::continuity::{Halt, Reason};

/// The record of a halt that could not be written is written again after this.
const HALT_RETRY: Duration = Duration::from_secs(1);

/// Every so many looks of a halted agent it also asks the server about the slot, by a connection of its own: what is kept
/// for a halted pipeline grows.
const SLOT_LOOKS: u32 = 3;

/// What the runner keeps of halts.
#[derive(Default)]
pub(super) struct Halts {
    /// The recorded halt that the open connection tries to get past.
    pub trial: Option<Halted>,
    /// How long the record of a halt may keep `--exit-on-halt` waiting.
    deadline: Option<tokio::time::Instant>,
}

/// What a halted agent knows when it looks.
struct Known {
    halt: Halt,
    /// The state holds a record of this halt.
    recorded: bool,
    epoch: u64,
    term: Option<u64>,
}

impl Runner {
    /// Who records a halt of this process.
    pub(super) fn author(&self) -> Author {
        Author {
            run: self.run_id.clone(),
            fingerprint: self.config.fingerprint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Records the halt to which the stream comes.
    pub(super) fn record_halt(&mut self, mut halt: Halt) {
        if let Some(route) = halt.route {
            // Found by the core, from what Kafka said: nobody has told of it yet.
            let topic = self.routes.get(route.0 as usize).map_or("?", String::as_str);
            halt.detail = format!("topic {topic}: {}", halt.detail);
            self.reporter.failed(&Disposition::Halt(halt.clone()));
        }
        let term = self.core.record().map_or((0, 0), |record| (record.epoch, record.term));
        self.halts.deadline = Some(tokio::time::Instant::now() + self.config.stop_patience);
        self.halts.trial = None;
        self.write_halt(Some(Halted::new(&halt, &self.author(), term, unix_nanos() / 1_000_000)));
    }

    /// The state holds the record of a halt, or holds none any more.
    pub(super) fn halt_written(&mut self, halted: Option<&Halted>) {
        if let Some(halted) = halted {
            self.apply(Event::HaltRecorded(Box::new(halted.halt())));
        }
    }

    /// Ends the process where the stream has come to its halt, if that is asked for. The next start has to find the record,
    /// so the end waits for it as long as the drain did.
    pub(super) fn exit_where_halted(&mut self) {
        let is_late = self.halts.deadline.is_none_or(|deadline| tokio::time::Instant::now() >= deadline);
        if self.config.exit_on_halt && self.core.is_halted() && (self.tasks.halting.is_none() || is_late) {
            self.exit.get_or_insert(Exit::Halted);
        }
    }

    /// Looks whether something has ended the halt. Every few looks ask Postgres and Kafka as well, by connections of
    /// their own.
    pub(super) fn look_at_halt(&mut self, halt: Halt) {
        let known = Known {
            recorded: halt.recorded.is_some(),
            epoch: halt.recorded.as_ref().map_or_else(|| self.reporter.epoch(), |recorded| recorded.epoch),
            term: self.core.record().map(|record| record.term),
            halt,
        };
        let (keeper, config, author) = (self.keeper.clone(), self.config.clone(), self.author());
        let asks = self.looks.is_multiple_of(SLOT_LOOKS);
        self.looks = self.looks.wrapping_add(1);
        self.tasks.looking = Some(tokio::spawn(async move { look(&config, &keeper, &author, &known, asks).await }));
    }

    /// A confirm record is acknowledged: a try that it covers has succeeded.
    pub(super) fn try_succeeded(&mut self) {
        let delivered = self.core.record().map(|record| (record.epoch, record.delivered));
        let passed =
            self.halts.trial.take_if(|halted| delivered.is_some_and(|(epoch, lsn)| halted.is_passed(epoch, lsn)));
        let Some(halted) = passed else { return };
        tracing::info!(
            commit = %halted.at.map(|at| at.commit).unwrap_or_default(),
            "the change at which the stream had halted is delivered; its recorded halt is removed"
        );
        self.write_halt(None);
    }

    /// Writes or removes the record of the halt, after whatever was written of it before.
    pub(super) fn write_halt(&mut self, halted: Option<Halted>) {
        let (keeper, slot, before) = (self.keeper.clone(), self.config.slot.clone(), self.tasks.halting.take());
        self.tasks.halting = Some(tokio::spawn(async move {
            if let Some(before) = before {
                before.abort(); // what it repeats is outdated
                let _ = before.await;
            }
            let text = halted.as_ref().map(Halted::to_json);
            while let Err(error) = keeper.write(&Halted::key(&slot), text.clone()).await {
                if matches!(error, KeeperError::Gone) {
                    break; // the process ends
                }
                tokio::time::sleep(HALT_RETRY).await;
            }
            halted
        }));
    }
}

/// One look of a halted agent.
async fn look(config: &Config, keeper: &Keeper, author: &Author, known: &Known, asks: bool) -> Look {
    let mut lifted = false;
    let mut judged = false;
    if let Ok(state) = keeper
        .read()
        .await
        .map_err(PipelineError::from)
        .and_then(|entries| State::read(&config.slot, &entries).map_err(PipelineError::from))
    {
        let moved =
            |record: &Checkpoint| record.epoch > known.epoch || known.term.is_some_and(|term| record.term > term);
        lifted = known.halt.reason == Reason::StateUnreadable || state.record.as_ref().is_some_and(moved);
        match recorded::standing(config, author, &state).await {
            None => lifted |= known.recorded,
            Some(Standing::Stands) => {}
            Some(Standing::Judged) => judged = true,
            Some(Standing::Ended | Standing::Try(_)) => lifted = true,
        }
    }
    let slot = match () {
        () if !asks || lifted => None,
        () if judged => match recorded::judged_again(config, keeper).await {
            Ok((slot, halts)) => {
                lifted = !halts;
                slot
            }
            Err(_) => None, // the next look asks again
        },
        () => session::read_slot(&config.postgres, &config.slot).await,
    };
    Look::Halted { lifted, slot }
}
