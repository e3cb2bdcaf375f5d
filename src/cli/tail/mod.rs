//! `wellspring tail`: prints the events of topics as lines of JSON.
//!
//! The command reads as a consumer of its own, with the credentials of the agent, and changes
//! nothing: no group is joined, and no offset is committed.

mod decode;
mod form;
pub(super) mod recent;
mod show;

#[cfg(test)]
mod tests;

use super::{Code, Failure, block_on, logging};
use crate::config::Checked;
use crate::encode::Format;
use crate::encode::registry::{Registry, RegistryError};
use crate::kafka::{self, KafkaError, Start, Tail, Tailed, read_whole};
use crate::plans::SinkConfig;
use crate::plans::sink::{closed, watched};
use decode::Decoder;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// The most records that may wait to be decoded. The person who reads the output is slower than
/// Kafka, and records that are not read yet stay there.
const RECORDS_MAX: usize = 64;

/// The most lines that may wait to be printed.
const LINES_MAX: usize = 64;

/// Longest wait of one poll for a record. After this time the polling thread notices that nobody
/// receives its records any more.
const POLL: Duration = Duration::from_millis(200);

/// The largest offset or number of records that the command accepts. For librdkafka some numbers
/// near the ends of 64 bits mean places such as the end of a partition.
const PLACE_MAX: i64 = 1 << 60;

/// The most topics that an error names.
const NAMED_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Topics to read; without one, every topic that the pipeline has written to
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin in each partition: "beginning", "end", an offset, or -N for the last N
    /// records
    #[arg(long, value_name = "PLACE", default_value = "-10", value_parser = start,
          allow_hyphen_values = true)]
    from: Start,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Print dates, times and decimals as the numbers and bytes that the record has
    #[arg(long)]
    raw: bool,
}

fn start(text: &str) -> Result<Start, String> {
    let number = |digits: &str| {
        let number = digits.parse::<i64>().ok().filter(|number| (0..=PLACE_MAX).contains(number));
        number.ok_or("give \"beginning\", \"end\", an offset, or -N".to_owned())
    };
    match text.strip_prefix('-') {
        _ if text == "beginning" => Ok(Start::Beginning),
        _ if text == "end" => Ok(Start::End),
        Some(count) => Ok(match number(count)? {
            0 => Start::End,
            count => Start::Newest(count),
        }),
        None => Ok(Start::Offset(number(text)?)),
    }
}

pub(super) fn run(checked: &Checked, arguments: &Arguments) -> Result<Code, Failure> {
    logging::start(checked.log);
    let SinkConfig::Kafka(config) = &checked.sink else {
        return Err(Failure {
            code: Code::Config,
            primary: "sink is \"stdout\": there is no topic to read".to_owned(),
            details: Vec::new(),
            hint: "`wellspring run` itself prints the events".to_owned(),
        });
    };
    let registry = match (&checked.registry, checked.encode.format) {
        (Some(registry), Format::Avro) => Some(Registry::new(registry).map_err(undecodable)?),
        _ => None,
    };
    let decoder = Decoder::new(registry, checked.encode.format, arguments.raw);
    block_on(async {
        let wanted = match arguments.topics.as_slice() {
            [] => Wanted::Recorded(recorded(config, &checked.encode.heartbeat_topic()).await?),
            named => Wanted::Named(named.to_vec()),
        };
        let (config, from) = (config.as_ref().clone(), arguments.from);
        let opened = tokio::task::spawn_blocking(move || open(&config, &wanted, from)).await;
        let tail = opened.unwrap_or(Err(KafkaError::Interrupted { call: "read topics" }.into()))?;
        follow(tail, decoder, arguments.max).await
    })?
}

/// The topics that the state of the pipeline names, without the heartbeat topic.
async fn recorded(config: &kafka::Config, heartbeat: &str) -> Result<Vec<String>, Failure> {
    let entries = match read_whole(config, &config.state_topic).await {
        Err(KafkaError::Missing { .. }) => return Err(nothing_written()),
        entries => entries?,
    };
    let mut topics = BTreeMap::new();
    for (key, value) in entries {
        let key = String::from_utf8_lossy(&key).into_owned();
        if let Some(topic) = key.strip_prefix("topic/") {
            topics.insert(topic.to_owned(), value.is_some());
        }
    }
    let is_of_rows = |topic: &String| topic != heartbeat;
    let topics = topics.into_iter().filter(|(_, is_there)| *is_there).map(|(topic, _)| topic);
    let topics: Vec<String> = topics.filter(is_of_rows).collect();
    if topics.is_empty() { Err(nothing_written()) } else { Ok(topics) }
}

fn nothing_written() -> Failure {
    Failure {
        code: Code::Sink,
        primary: "the pipeline has written to no topic yet".to_owned(),
        details: Vec::new(),
        hint: "start it with `wellspring run`, or name a topic".to_owned(),
    }
}

/// The topics that are read.
enum Wanted {
    /// The operator has named these topics.
    Named(Vec<String>),
    /// The state topic has records of these topics. Some may have been deleted since then.
    Recorded(Vec<String>),
}

/// Opens a consumer that reads the wanted topics from `from` on. Blocks while it asks the brokers.
fn open(config: &kafka::Config, topics: &Wanted, from: Start) -> Result<Tail, Failure> {
    let mut tail = Tail::new(config)?;
    let there = tail.topics()?;
    let mut wanted = BTreeMap::new();
    let (Wanted::Named(names) | Wanted::Recorded(names)) = topics;
    for topic in names {
        match (there.get(topic), topics) {
            (Some(partitions), _) => {
                wanted.insert(topic.clone(), *partitions);
            }
            (None, Wanted::Recorded(_)) => {
                tracing::warn!(topic, "the topic of this pipeline is not there any more");
            }
            (None, Wanted::Named(_)) => return Err(unknown(topic, config, &there)),
        }
    }
    if wanted.is_empty() {
        return Err(nothing_written());
    }
    tail.read(&wanted, from)?;
    Ok(tail)
}

/// The error about a topic that does not exist. It names topics that do, those with the pipeline's
/// prefix first.
fn unknown(topic: &str, config: &kafka::Config, there: &BTreeMap<String, i32>) -> Failure {
    let prefix = config.state_topic.trim_end_matches("wellspring-state");
    let mut names: Vec<&str> = there.keys().map(String::as_str).collect();
    names.sort_by_key(|name| (!name.starts_with(prefix), *name));
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let mut details: Vec<String> =
        names.into_iter().map(|name| format!("there is {name}")).collect();
    if more > 0 {
        details.push(format!("and {more} more"));
    }
    Failure {
        code: Code::Sink,
        primary: format!("topic `{topic}` does not exist, or this login may not see it"),
        details,
        hint: "a topic is created when the first record of its table is sent; `wellspring check` \
               names the topic of each table"
            .to_owned(),
    }
}

/// Prints records until `max` are printed, the reader of the output is gone, or a signal comes.
async fn follow(tail: Tail, decoder: Decoder, max: Option<u64>) -> Result<Code, Failure> {
    let failed = |error: std::io::Error| Failure::of(Code::Failed, &error, "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (records, read) = mpsc::channel(RECORDS_MAX);
    let (lines, queue) = mpsc::channel(LINES_MAX);
    let (end, printed) = oneshot::channel();
    // At its end, the runtime would wait for blocking tasks of its own, also while a reader pauses
    // (`| less`). Nobody waits for these two threads.
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("tail").spawn(move || poll(tail, &records)).map_err(failed)?;
    thread("stdout").spawn(move || end.send(print_lines(queue))).map_err(failed)?;
    let pipe = watched();
    let work = async {
        let decoded = decode(decoder, read, lines, max).await;
        // What was decoded before a failure is printed as well.
        let printed = printed.await;
        decoded?;
        match printed {
            Ok(Ok(())) => Ok(Code::Done),
            // `wellspring tail | head` ends like this, as it should.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Code::Done),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(std::io::Error::other("the thread of standard output has ended"))),
        }
    };
    tokio::select! {
        biased; // a wish to end goes before further work
        _ = interrupt.recv() => Ok(Code::Done),
        _ = terminate.recv() => Ok(Code::Done),
        () = closed(pipe.as_ref()) => Ok(Code::Done),
        ended = work => ended,
    }
}

/// Reads records and sends them to `records`. Ends when the receiver is dropped, or after the first
/// error, which is sent too.
fn poll(mut tail: Tail, records: &mpsc::Sender<Result<Tailed, KafkaError>>) {
    while !records.is_closed() {
        let record = match tail.poll(POLL) {
            Ok(None) => continue,
            Ok(Some(record)) => Ok(record),
            Err(error) => Err(error),
        };
        let is_last = record.is_err();
        if records.blocking_send(record).is_err() || is_last {
            return;
        }
    }
}

/// Decodes records and sends each as a line to `lines`. Ends after `max` records if `max` is given.
async fn decode(
    mut decoder: Decoder,
    mut records: mpsc::Receiver<Result<Tailed, KafkaError>>,
    lines: mpsc::Sender<String>,
    max: Option<u64>,
) -> Result<(), Failure> {
    let mut count = 0_u64;
    while max.is_none_or(|max| count < max) {
        let Some(record) = records.recv().await else { break };
        let line = decoder.line(&record?).await.map_err(undecodable)?;
        if lines.send(line).await.is_err() {
            break; // printing has failed, and says why
        }
        count += 1;
    }
    Ok(())
}

fn print_lines(mut lines: mpsc::Receiver<String>) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    while let Some(mut line) = lines.blocking_recv() {
        line.push('\n');
        out.write_all(line.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

fn undecodable(error: RegistryError) -> Failure {
    let hint = "events are read with the schemas of [registry]; `wellspring check` says more";
    Failure::of(Code::Sink, &error, hint)
}
