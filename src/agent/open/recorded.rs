//! The recorded halt at a connect: whether it still stops the stream, and the record of a halt that
//! the connect finds.
//!
//! `continuity::halted` decides. This file asks Kafka, Postgres and the state.

use super::{Carried, Next, ServerState};
use crate::agent::Config;
use crate::agent::supervise::PipelineError;
use crate::continuity::checkpoint::State;
use crate::continuity::halted::{Author, Facts, Halted, Standing};
use crate::continuity::{Halt, Oversize, Proof};
use crate::kafka::Topics;
use crate::plans::SinkConfig;
use crate::plans::keeper::{Keeper, KeeperError};
use crate::postgres::slot::SlotRow;
use crate::postgres::{Replication, Sql};
use crate::table::TableName;

/// Decides whether the recorded halt still stops the stream under this configuration. `None` if no
/// halt is recorded.
pub async fn standing(config: &Config, author: &Author, state: &State) -> Option<Standing> {
    let halted = state.halt.as_ref()?;
    let selected = |name: &String| {
        name.split_once('.')
            .is_none_or(|(space, name)| config.selection.matches(&TableName::new(space, name)))
    };
    let takes_bytes = match &halted.oversize {
        Some(oversize) => takes(&config.sink, oversize).await,
        None => None,
    };
    let captured = halted.table.as_ref().is_none_or(selected);
    Some(halted.standing(&Facts { author, epoch: state.epoch(), captured, takes_bytes }))
}

/// Finds the size in bytes of the largest record that both the topic and our producer take. `None`
/// if the topic cannot be described now, or if records go to standard output.
async fn takes(sink: &SinkConfig, oversize: &Oversize) -> Option<u64> {
    let SinkConfig::Kafka(kafka) = sink else { return None };
    let info = Topics::new(kafka).describe(&oversize.topic).await.ok()??;
    let topic_max = info.max_message_bytes.proven().copied().unwrap_or(usize::MAX);
    u64::try_from(kafka.message_bytes_max().min(topic_max)).ok()
}

/// The way in which a connect goes on after it has read the recorded halt.
pub enum Passed {
    /// No halt is recorded.
    None,
    /// The recorded halt has ended, or the connect checks its cause again.
    Ended,
    /// The recorded halt allows one try.
    Try(Box<Halted>),
}

/// Fails if the recorded halt still stops the stream, and otherwise says how the connect goes on.
///
/// # Errors
/// The recorded halt.
pub(super) async fn respect(
    config: &Config,
    author: &Author,
    state: &State,
) -> Result<Passed, PipelineError> {
    match (standing(config, author, state).await, &state.halt) {
        (None, _) | (_, None) => Ok(Passed::None),
        (Some(Standing::Stands), Some(halted)) => Err(PipelineError::Halt(halted.halt())),
        (Some(Standing::Judged | Standing::Ended), _) => Ok(Passed::Ended),
        (Some(Standing::Try(halted)), _) => Ok(Passed::Try(halted)),
    }
}

/// If the recorded halt allows a try, records the try before the stream is read, and returns the
/// halt. `None` without a try. The key of a halt that has ended, or whose cause the connect has not
/// found again, joins the outdated keys, whose records are removed later.
pub(super) async fn begin_try(
    config: &Config,
    keeper: &Keeper,
    state: &mut State,
    passed: Passed,
) -> Result<Option<Halted>, PipelineError> {
    match passed {
        Passed::None => Ok(None),
        Passed::Ended => {
            state.outdated.push(Halted::key(&config.slot));
            Ok(None)
        }
        Passed::Try(halted) => {
            if state.halt.as_ref() != Some(&halted) {
                write(keeper, &config.slot, &halted).await?;
            }
            Ok(Some(*halted))
        }
    }
}

/// Records a halt that a connect has found, for the next start and for other replicas. Returns the
/// error with which the connect fails.
pub(super) async fn record(
    config: &Config,
    keeper: &Keeper,
    author: &Author,
    halt: Halt,
) -> PipelineError {
    let proof = halt.reason.lifting().proof;
    if halt.recorded.is_some() || proof == Proof::Reading {
        return PipelineError::Halt(halt);
    }
    match written(config, keeper, author, &halt).await {
        Ok(halted) => PipelineError::Halt(halted.halt()),
        // The write failed. This loses nothing, because the next connect finds the halt again.
        Err(_) if proof == Proof::EachConnect => PipelineError::Halt(halt),
        // A later connect can miss this halt, so this process must not be the only one to know it.
        // The error of the write repeats the connect.
        Err(error) => error,
    }
}

async fn written(
    config: &Config,
    keeper: &Keeper,
    author: &Author,
    halt: &Halt,
) -> Result<Halted, PipelineError> {
    let state = State::read(&config.slot, &keeper.read().await?)?;
    if let Some(halted) = state
        .halt
        .as_ref()
        .filter(|halted| halted.says(halt, state.epoch()) || halted.covers(halt, state.epoch()))
    {
        return Ok(halted.clone());
    }
    let term = state.record.as_ref().map_or(0, |record| record.term);
    let now_ms = crate::agent::runner::unix_nanos() / 1_000_000;
    let halted = Halted::new(halt, author, (state.epoch(), term), now_ms);
    write(keeper, &config.slot, &halted).await?;
    Ok(halted)
}

/// Writes the record of a halt.
///
/// # Errors
/// The state cannot be written.
pub async fn write(keeper: &Keeper, slot: &str, halted: &Halted) -> Result<(), KeeperError> {
    keeper.write(&Halted::key(slot), Some(halted.to_json())).await
}

/// Reads slot and state once more, without taking the slot. Returns the row of the slot, and
/// whether a connect would halt now. A connect that would wait for another holder of the slot does
/// not count as a halt.
///
/// # Errors
/// A connection or the state fails.
pub async fn judged_again(
    config: &Config,
    keeper: &Keeper,
) -> Result<(Option<SlotRow>, bool), PipelineError> {
    let sql = Sql::connect(&config.postgres).await?;
    let mut replication = Replication::connect(&config.postgres).await?;
    let server = replication.identify_system().await?;
    let seen = ServerState::new(config, &sql, &mut replication, &server, keeper).await?;
    let carried = Carried::default();
    let next = seen.next(config, &carried, false);
    let halts = matches!(next, Next::Halt(_)) && seen.holder(&next).is_none();
    Ok((seen.slot, halts))
}
