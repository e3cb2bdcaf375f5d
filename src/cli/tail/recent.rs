//! The newest events of one table for the status page, read and decoded as `wellspring tail` does.
//!
//! A thread of its own reads one request at a time, so that neither the loop nor a probe waits for
//! it. Each request makes a consumer, which ends with the request. Nothing is kept.

use super::POLL;
use super::decode::Decoder;
use crate::admin::{Events, EventsRequest};
use crate::config::{Checked, Loaded};
use crate::continuity::{Chain, Refused};
use crate::encode::Format;
use crate::encode::registry::Registry;
use crate::kafka::{self, KafkaError, Start, Tail, Tailed};
use crate::plans::SinkConfig;
use crate::status::{Status, TableStatus};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The most requests that may wait for the reader. People make them, and a further one is refused
/// as busy.
const REQUESTS_MAX: usize = 2;

/// The most events of an answer.
const EVENTS_MAX: usize = 20;

/// The most records that are read for an answer, over all partitions.
const RECORDS_MAX: usize = 400;

/// The most bytes of records that are read for an answer. Reading ends after the record that
/// exceeds it.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most characters of an event's line that are shown.
const LINE_CHARS_MAX: usize = 4096;

/// Longest time for reading the records, and again for decoding them.
const DEADLINE: Duration = Duration::from_secs(8);

/// Longest wait for the first record. The answer about a topic without records takes this long.
const FIRST: Duration = Duration::from_secs(4);

/// After this time without a further record the reader assumes that no partition has more records.
const SILENCE: Duration = Duration::from_millis(600);

/// Starts the thread that reads events, and returns the sender of requests to the thread. The
/// thread ends when the last such sender is dropped.
///
/// # Errors
/// The system provides no thread.
pub(in crate::cli) fn start(
    loaded: watch::Receiver<Loaded>,
    status: watch::Receiver<Status>,
) -> std::io::Result<mpsc::Sender<EventsRequest>> {
    let (ask, mut asked) = mpsc::channel::<EventsRequest>(REQUESTS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("events".to_owned()).spawn(move || {
        while let Some(EventsRequest { table, reply }) = asked.blocking_recv() {
            // A reload may have changed the configuration since the last request.
            let checked = loaded.borrow().checked.clone();
            if reply.is_closed() {
                continue; // the client has gone away
            }
            let topic = topic_of(&table, status.borrow().tables.get(&table));
            tracing::info!(table, "the newest events of a table are read for a person");
            let _ = reply.send(topic.and_then(|topic| recent(&runtime, &checked, topic)));
        }
    })?;
    Ok(ask)
}

/// Finds the topic of a table's events. Refuses a table that is not captured, has no topic yet, or
/// has several topics.
fn topic_of(name: &str, table: Option<&TableStatus>) -> Result<String, Refused> {
    let Some(TableStatus { topic, routed, .. }) = table else {
        return Err(Refused::Faulty(format!("table {name} is not captured")));
    };
    if *routed {
        return Err(Refused::NotAvailable(format!(
            "the rows of {name} name their topics; `wellspring tail TOPIC` shows one of these"
        )));
    }
    if topic.is_empty() {
        return Err(Refused::NotAvailable(format!(
            "no change of {name} has come yet, so that its topic is not known"
        )));
    }
    Ok(topic.clone())
}

/// Reads and decodes the newest events of a topic.
fn recent(
    runtime: &tokio::runtime::Runtime,
    checked: &Checked,
    topic: String,
) -> Result<Events, Refused> {
    let failed = |error: &dyn std::error::Error| Refused::NotAvailable(Chain(error).to_string());
    let SinkConfig::Kafka(config) = &checked.sink else {
        let why = "sink is \"stdout\": there is no topic to read";
        return Err(Refused::NotAvailable(why.to_owned()));
    };
    let registry = match (&checked.registry, checked.encode.format) {
        (Some(registry), Format::Avro) => {
            Some(Registry::new(registry).map_err(|error| failed(&error))?)
        }
        _ => None,
    };
    let records = newest(config, &topic).map_err(|error| failed(&error))?;
    let mut decoder = Decoder::new(registry, checked.encode.format, false);
    let decode = async {
        let mut events = Vec::new();
        for record in &records {
            events.push(cut(decoder.line(record).await.map_err(|error| failed(&error))?));
        }
        Ok(events)
    };
    // The timeout is created inside the runtime, because it needs the runtime's clock.
    let decoded = runtime.block_on(async { tokio::time::timeout(DEADLINE, decode).await });
    let late = || {
        let seconds = DEADLINE.as_secs();
        Refused::NotAvailable(format!("the registry has not answered for {seconds} s"))
    };
    Ok(Events { events: decoded.map_err(|_| late())??, topic })
}

/// Reads the newest records of a topic, [`EVENTS_MAX`] at most, sorted by time, newest last.
fn newest(config: &kafka::Config, topic: &str) -> Result<Vec<Tailed>, KafkaError> {
    let mut tail = Tail::new(config)?;
    let missing = || KafkaError::Missing { topic: topic.to_owned() };
    let partitions = *tail.topics()?.get(topic).ok_or_else(missing)?;
    let count = usize::try_from(partitions).unwrap_or(0).max(1);
    let each = EVENTS_MAX.min(RECORDS_MAX / count).max(1);
    let from = Start::Newest(i64::try_from(each).unwrap_or(1));
    tail.read(&[(topic.to_owned(), partitions)].into(), from)?;
    let began = Instant::now();
    let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
    let wanted = RECORDS_MAX.min(each * count);
    while began.elapsed() < DEADLINE && records.len() < wanted && bytes < BYTES_MAX {
        match tail.poll(POLL)? {
            Some(record) => {
                let sizes =
                    [&record.key, &record.value].map(|part| part.as_ref().map_or(0, Vec::len));
                bytes += sizes.iter().sum::<usize>();
                records.push(record);
                last = Some(Instant::now());
            }
            None => {
                let is_over = last
                    .map_or(began.elapsed() >= FIRST, |last: Instant| last.elapsed() >= SILENCE);
                if is_over {
                    break;
                }
            }
        }
    }
    records.sort_by_key(|record| (record.timestamp_ms, record.partition, record.offset));
    let excess = records.len().saturating_sub(EVENTS_MAX);
    records.drain(..excess);
    Ok(records)
}

/// Cuts a line off after [`LINE_CHARS_MAX`] characters, and appends the length of the whole line.
fn cut(line: String) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        None => line,
        Some((at, _)) => format!("{} … ({} bytes in all)", &line[..at], line.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_with_one_topic_has_newest_events() {
        let table = |topic: &str, routed| TableStatus {
            topic: topic.to_owned(),
            routed,
            ..TableStatus::default()
        };
        let refused = |table: Option<TableStatus>| match topic_of("p.t", table.as_ref()) {
            Ok(topic) => topic,
            Err(refused) => refused.to_string(),
        };
        assert_eq!(refused(Some(table("shop.p.t", false))), "shop.p.t");
        assert!(refused(Some(table("shop.p.t", true))).contains("wellspring tail"));
        assert!(refused(Some(table("", false))).contains("no change"));
        assert!(refused(None).contains("not captured"));
    }
}
