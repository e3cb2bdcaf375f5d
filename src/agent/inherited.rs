//! The checks that the confirm holds of an earlier process require at a start
//! (`docs/internals/producers.md`, rule 2).
//!
//! A hold keeps the slot back because records of a killed process may still land. The process that
//! opened the hold watches the partitions. If that process is killed too, its successor begins the
//! stream beyond the slot's position, after the changes that are delivered. The successor first has
//! to know whether such a record landed while no process watched. It also has to know where each
//! partition ends now, so that it notices later arrivals. If a record landed late, or one of these
//! facts is unknown, the stream is read again from the slot's own position. Such a reading repeats
//! more and misses nothing.

use super::Config;
use super::supervise::PipelineError;
use crate::continuity::checkpoint::{Checkpoint, FORMAT, State, Watched};
use crate::kafka::{Late, LateQuestion, PartitionEnd, ReadEnds, Topics};
use crate::plans::SinkConfig;
use crate::plans::keeper::Keeper;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most records that are read in search of a late one. A fast stream sends as many in a second,
/// and an ordinary one in a minute.
const RECORDS_MAX: u64 = 300_000;

/// The most bytes that are read in search of a late record.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The search holds up a start for no longer than this.
const WITHIN: Duration = Duration::from_secs(5);

/// The outcome of the search for late records.
pub(super) enum Inherited {
    /// No hold of another process is recorded, or records go to standard output.
    Nothing,
    /// No record has landed late so far. Each entry is a topic, a partition and its end offset.
    Quiet(Vec<(String, i32, i64)>),
    /// A record landed late, or the search could not decide. The stream has to be read again from
    /// the slot's own position, and the text says why.
    Replay(String),
}

/// Searches the partitions of the pipeline for late records, if another process left a hold open.
/// Without a late record, the ends of the partitions are recorded for the next process.
///
/// # Errors
/// Kafka cannot be asked at all, or the ends cannot be recorded.
pub(super) async fn look(
    config: &Config,
    keeper: &Keeper,
    state: &State,
    run: &str,
) -> Result<Inherited, PipelineError> {
    let SinkConfig::Kafka(kafka) = &config.sink else { return Ok(Inherited::Nothing) };
    let Some(record) = state.record.as_ref().filter(|record| is_inherited(record, run)) else {
        return Ok(Inherited::Nothing);
    };
    let topics = Topics::new(kafka);
    let places: Vec<(&str, i32)> = state
        .partitions
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |p| (topic.as_str(), p)))
        .collect();
    // The ends are read first. A record that lands during the search then lies after an end. This
    // process or the next one notices such a record.
    let at_ms = super::runner::unix_nanos() / 1_000_000;
    let mut watched = Watched { format: FORMAT, run: run.to_owned(), at_ms, ends: BTreeMap::new() };
    for ((topic, partition), end) in places.iter().zip(topics.end_offsets(&places).await?) {
        let end = match end {
            PartitionEnd::At(end) => end,
            PartitionEnd::Gone => -1,
            PartitionEnd::Failed(error) => {
                return Ok(Inherited::Replay(format!(
                    "the end of {topic}[{partition}] could not be read: {error}"
                )));
            }
        };
        watched.ends.entry((*topic).to_owned()).or_default().push(end);
    }
    let began_ms: Vec<i64> = record.holds.iter().map(|hold| hold.opened_ms).collect();
    let before = state.watched.as_ref().filter(|watched| watched.run == record.run);
    let question = LateQuestion {
        read_ends: before.map(|watched| read_ends(watched, &began_ms)),
        began_ms,
        records_max: RECORDS_MAX,
        bytes_max: BYTES_MAX,
        within: WITHIN,
    };
    match topics.late_records(&places, question).await? {
        Late::None => {}
        Late::Found { topic, partition, offset } => {
            let what = format!(
                "offset {offset} of {topic}[{partition}] is of an earlier process and landed late"
            );
            return Ok(Inherited::Replay(what));
        }
        Late::Unknown(why) => return Ok(Inherited::Replay(why.to_string())),
    }
    keeper.write(&Watched::key(&config.slot), Some(watched.to_json())).await?;
    Ok(Inherited::Quiet(ends(&watched)))
}

/// Lists the partitions that exist, each as topic, partition and end offset.
fn ends(watched: &Watched) -> Vec<(String, i32, i64)> {
    let of = |(topic, ends): (&String, &Vec<i64>)| -> Vec<(String, i32, i64)> {
        ends.iter().zip(0..).map(|(end, partition)| (topic.clone(), partition, *end)).collect()
    };
    watched.ends.iter().flat_map(of).filter(|(.., end)| *end >= 0).collect()
}

/// Says how far the previous process has searched: the end offsets that it recorded, and the number
/// of holds up to and including its own. Its own hold is the first one that was opened after it
/// read the offsets. If it opened none, all holds count. The records that the previous process
/// produced belong to its own hold.
fn read_ends(watched: &Watched, began_ms: &[i64]) -> ReadEnds {
    let newest = (began_ms.partition_point(|began| *began < watched.at_ms) + 1).min(began_ms.len());
    let ends = ends(watched)
        .into_iter()
        .map(|(topic, partition, end)| ((topic, partition), end))
        .collect();
    ReadEnds { ends, newest }
}

/// Whether another process left a hold open. A hold that has run out since counts as well, because
/// nobody has checked the partitions at its end.
fn is_inherited(record: &Checkpoint, run: &str) -> bool {
    record.run != run && !record.holds.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_before_sent_is_of_its_own_hold() {
        let ends = [("t".to_owned(), vec![7, -1])].into();
        let watched = Watched { format: FORMAT, run: "a".to_owned(), at_ms: 150, ends };
        let ends = |began: &[i64]| read_ends(&watched, began);
        assert_eq!(ends(&[100, 151]).newest, 2, "it opened a hold after its look");
        assert_eq!(ends(&[100, 151, 160]).newest, 2, "and another one later, whose records follow");
        assert_eq!(ends(&[100]).newest, 1, "it opened none");
        assert_eq!(ends(&[100]).ends, [(("t".to_owned(), 0), 7)].into());
    }
}
