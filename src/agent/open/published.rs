//! Reads from the topics up to which position changes were published, if the server's timeline has
//! changed since the checkpoint. Most connects read nothing.

use crate::agent::Config;
use crate::agent::supervise::PipelineError;
use crate::continuity::checkpoint::{Checkpoint, State};
use crate::continuity::{Published, Trouble};

use crate::encode::placed::{self, Placed};
use crate::encode::registry::{Registry, RegistryError};
use crate::encode::{Format, Planner};
use crate::kafka::{KafkaError, RecentRecord, Topics};
use crate::lsn::Lsn;
use crate::plans::SinkConfig;
use crate::postgres::Sql;
use crate::reason::TroubleReason;
use apache_avro::Schema;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::runtime::Handle;

/// Finds up to which position changes were published on the checkpoint's timeline, if `history`
/// shows that this timeline has ended. `None` if the topics are not read: the checkpoint's timeline
/// goes on; the checkpoint is of a clean stop, so that nothing was sent after it; a halt is
/// recorded, which already stops the stream; the sink is not Kafka; or the state has no checkpoint.
///
/// A topic that this login may not read, or that is not read in time, does not hold up a failover.
/// The answer then says that records could not be placed in the WAL, and a warning reports this.
///
/// # Errors
/// Kafka, the registry or the server cannot be asked now.
pub(super) async fn upto(
    config: &Config,
    state: &State,
    sql: &Sql,
    history: &BTreeMap<u32, Lsn>,
) -> Result<Option<Published>, PipelineError> {
    let (SinkConfig::Kafka(kafka), Some(record)) = (&config.sink, &state.record) else {
        return Ok(None);
    };
    let is_told = record.clean || state.halt.is_some();
    let Some(&switch) = history.get(&record.timeline).filter(|_| !is_told) else {
        return Ok(None);
    };
    let reading = Reading {
        published: Published::new(record.epoch, switch),
        format: config.encode.format,
        pipeline: config.encode.prefix.to_string(),
        registry: config.registry.as_ref().and_then(|config| Registry::new(config).ok()),
        unanswered: None,
        runtime: Handle::current(),
        schemas: HashMap::new(),
    };
    let key = Checkpoint::key(&record.slot, record.term);
    let places = places(config, &state.partitions);
    let read = Topics::new(kafka).recent_records(&key, places, reading, Reading::note).await;
    let reading = match read {
        Ok(Some(reading)) => reading,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error, KafkaError::Timeout { .. }) || error.is_of_topic() => {
            let mut published = Published::new(record.epoch, switch);
            published.note_unplaced(|| format!("what was sent after the checkpoint ({error})"));
            return Ok(Some(published));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(error) = reading.unanswered {
        let what = "after a failover, the schemas of the newest records".to_owned();
        let reason = TroubleReason::RegistryUnavailable;
        return Err(PipelineError::Trouble(Trouble::new(reason, what, &error)));
    }
    let mut published = reading.published;
    if published.upto <= switch && is_any_undone(sql, &published.undecided).await? {
        published.undone();
    }
    tracing::info!(
        %switch, sent = %record.sent, found = %published.upto, unplaced = ?published.unplaced,
        "the server's timeline has changed: the topics were read for what was sent after the \
         checkpoint"
    );
    Ok(Some(published))
}

/// Lists the partitions of topics with changes, each as topic and partition. The topics of
/// auxiliary records, which have no position in the WAL, and the quarantine topic are left out.
fn places(config: &Config, partitions: &BTreeMap<String, i32>) -> Vec<(String, i32)> {
    let planner = Planner::new(config.encode.clone(), "", "", 0);
    let auxiliary: Vec<String> = [planner.heartbeat_draft(), planner.transaction_draft()]
        .into_iter()
        .chain(planner.notice_draft())
        .map(|draft| draft.topic)
        .chain([config.encode.quarantine_topic()])
        .collect();
    partitions
        .iter()
        .filter(|(topic, _)| !auxiliary.contains(topic))
        .flat_map(|(topic, count)| (0..*count).map(move |partition| (topic.clone(), partition)))
        .collect()
}

/// The positions that are found so far, and the means to decode values of records.
struct Reading {
    published: Published,
    format: Format,
    /// Prefix of our topics. A source block that names another prefix is of another pipeline.
    pipeline: String,
    registry: Option<Registry>,
    /// The first failure of the registry, which is not asked again. `None` if no call failed.
    unanswered: Option<RegistryError>,
    /// Runs the registry's calls from the thread that reads the topics.
    runtime: Handle,
    /// Schemas by id. `None` for one that the registry does not give.
    schemas: HashMap<u32, Option<Schema>>,
}

impl Reading {
    fn note(&mut self, record: &RecentRecord<'_>) {
        let by_headers = placed::by_headers(&record.headers);
        // A tombstone without headers has no position. It follows the delete of its key, which has
        // one.
        let Some(value) = record.value else {
            return by_headers.into_iter().for_each(|placed| self.published.note(placed));
        };
        // Headers alone do not say which pipeline sent the record, so the value is decoded as well.
        let by_value = self.by_value(value);
        match by_headers.filter(|_| by_value != Some(Placed::Foreign)).or(by_value) {
            Some(placed) => self.published.note(placed),
            None if record.is_later => self.published.note_unplaced(|| {
                format!("offset {} of {}[{}]", record.offset, record.topic, record.partition)
            }),
            None => {}
        }
    }

    fn by_value(&mut self, value: &[u8]) -> Option<Placed> {
        if self.format != Format::Avro {
            return placed::by_json(value, &self.pipeline);
        }
        let (id, body) = placed::framed(value)?;
        let Reading { registry, runtime, unanswered, .. } = self;
        let schema = self.schemas.entry(id).or_insert_with(|| {
            let registry = registry.as_ref().filter(|_| unanswered.is_none())?;
            match runtime.block_on(registry.schema(id)) {
                Ok(text) => Schema::parse_str(&text?).ok(),
                Err(error) => {
                    *unanswered = Some(error);
                    None
                }
            }
        });
        placed::by_avro(schema.as_ref()?, body, &self.pipeline)
    }
}

/// True if one of these transactions is not committed on this server. The changes of the
/// transactions are in this server's WAL, so the ids belong to its transactions.
async fn is_any_undone(sql: &Sql, xids: &BTreeSet<u32>) -> Result<bool, PipelineError> {
    if xids.is_empty() {
        return Ok(false);
    }
    let xids: Vec<String> = xids.iter().map(u32::to_string).collect();
    // The transaction ids in records have 32 bits. The server's next id completes them. A
    // transaction that has no status any more ended long ago.
    let statement = format!(
        "WITH next AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS id),
         sent AS (SELECT div(next.id, 4294967296) * 4294967296 + short AS id, next.id AS next
           FROM next CROSS JOIN unnest('{{{}}}'::int8[]) AS short)
         SELECT count(*) FROM (SELECT CASE WHEN id >= next THEN id - 4294967296 ELSE id END AS id
           FROM sent) AS full_id
         WHERE id > 0 AND pg_xact_status(id::text::xid8) <> 'committed'",
        xids.join(",")
    );
    let rows = sql.query(&statement).await?;
    let count = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    Ok(count.is_some_and(|count| count != "0"))
}
