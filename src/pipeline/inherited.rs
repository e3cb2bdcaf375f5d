//! What the confirm holds of an earlier process ask of a start (continuity rule 2).
//!
//! A hold keeps the slot back because records of a process that was killed may still land. The process that opened it
//! watches the partitions. When that process is killed too, its successor begins where everything was delivered, and has
//! to know two things first: whether such a record landed while nobody watched, and where each partition ends now, so that
//! it sees what lands later. Where either is not known, the stream is read again from the slot's own position, which
//! repeats more and misses nothing.

use super::Config;
use super::record::{Record, State};
use super::sink::Config as SinkConfig;
use crate::kafka::{KafkaError, Late, LateQuestion, PartitionEnd, Topics};
use std::time::Duration;

/// The most records that are read to find a late one: a second of a fast stream, or a minute of an ordinary one.
const RECORDS_MAX: u64 = 300_000;

/// The most bytes of them.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A start is not held up for longer than this.
const WITHIN: Duration = Duration::from_secs(5);

/// What was found.
pub(super) enum Inherited {
    /// No hold of another process is open.
    Nothing,
    /// No record landed late so far; the partitions end here.
    Quiet(Vec<(String, i32, i64)>),
    /// A record landed late, or that is not known: why.
    Replay(String),
}

/// Looks at the partitions that the pipeline has used, where another process has left a hold open.
///
/// # Errors
/// Where Kafka cannot be asked at all.
pub(super) async fn look(config: &Config, state: &State, run: &str) -> Result<Inherited, KafkaError> {
    let SinkConfig::Kafka(kafka) = &config.sink else { return Ok(Inherited::Nothing) };
    let Some(record) = state.record.as_ref().filter(|record| is_inherited(record, run)) else {
        return Ok(Inherited::Nothing);
    };
    let topics = Topics::new(kafka);
    let places: Vec<(&str, i32)> =
        state.partitions.iter().flat_map(|(topic, count)| (0..*count).map(move |p| (topic.as_str(), p))).collect();
    // First the ends: what lands behind them while the records are read is seen either way.
    let mut ends = Vec::with_capacity(places.len());
    for (place, end) in places.iter().zip(topics.end_offsets(&places).await?) {
        match end {
            PartitionEnd::At(end) => ends.push((place.0.to_owned(), place.1, end)),
            PartitionEnd::Gone => {}
            PartitionEnd::Failed(error) => {
                return Ok(Inherited::Replay(format!(
                    "the end of {}[{}] could not be read: {error}",
                    place.0, place.1
                )));
            }
        }
    }
    let question = LateQuestion {
        began_ms: record.holds.iter().map(|hold| hold.opened_ms).collect(),
        records_max: RECORDS_MAX,
        bytes_max: BYTES_MAX,
        within: WITHIN,
    };
    Ok(match topics.late_records(&places, question).await? {
        Late::None => Inherited::Quiet(ends),
        Late::Found { topic, partition, offset } => Inherited::Replay(format!(
            "offset {offset} of {topic}[{partition}] is of an earlier process and landed late"
        )),
        Late::Unknown(why) => Inherited::Replay(why.to_string()),
    })
}

/// Whether another process left a hold open. One that has run out since counts, too: nobody has looked at its end.
fn is_inherited(record: &Record, run: &str) -> bool {
    record.run != run && !record.holds.is_empty()
}
